//! The real binary without a chain: help, mistakes, unsigned transactions, secrets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

/// A key that appears in no output; the first of anvil's well-known accounts.
const PLANTED_KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
/// A password that appears in no output.
const PLANTED_PASSWORD: &str = "correct-horse-battery-planted";
/// An API key inside an RPC URL.
const PLANTED_URL_KEY: &str = "planted-api-key-3141592653";
/// Somebody's account.
const ACCOUNT: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";

fn stkr(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stkr"))
        .args(args)
        .env_remove("STKR_RPC")
        .env_remove("STKR_RPC_FILE")
        .env_remove("STKR_DEPLOYMENT")
        .env_remove("STKR_CONFIG")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn deployment(folder: &Path) -> String {
    let path = folder.join("31337.json");
    let address = |byte: u8| format!("0x{}", hex::encode([byte; 20]));
    let deployment = serde_json::json!({
        "chainId": 31337,
        "accessManager": address(1),
        "serverRegistry": address(2),
        "providerRegistry": address(3),
        "keyRegistry": address(4),
        "court": address(7),
        "micropools": address(5),
        "depositContract": address(6),
        "genesisForkVersion": "0x53746b72", "genesisValidatorsRoot": "0x0909090909090909090909090909090909090909090909090909090909090909",
        "deployedBlock": 1,
    });
    fs::write(&path, deployment.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn secret(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Exactly a sentence and a hint on stderr, nothing on stdout, and no word a panic would leave.
fn refused(args: &[&str], code: i32) -> String {
    let output = stkr(args);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
    assert!(output.stdout.is_empty(), "{args:?} printed {}", text(&output.stdout));
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 2, "{args:?}: {error}");
    assert!(lines[0].starts_with("error: ") && lines[1].starts_with("hint: "), "{args:?}: {error}");
    for word in ["panicked", "backtrace", "RUST_BACKTRACE", ".rs:"] {
        assert!(!error.contains(word), "{args:?}: {error}");
    }
    error
}

#[test]
fn help_names_every_command_and_ends_well() {
    let output = stkr(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for command in [
        "server",
        "provider",
        "pool",
        "position",
        "key",
        "evidence",
        "challenge",
        "bounty",
        "watch",
        "verify-deployment",
        "config",
        "completions",
    ] {
        assert!(help.contains(&format!("  {command}")), "{help}");
    }
    assert!(help.contains("0 done, 1 refused, 2 usage, 3 unavailable, 4 unsafe"), "{help}");
    for command in [&["pool", "--help"][..], &["pool", "stake", "--help"], &["server", "register", "--help"]] {
        assert_eq!(stkr(command).status.code(), Some(0), "{command:?}");
    }
    assert_eq!(stkr(&["--version"]).status.code(), Some(0));
}

#[test]
fn a_wrong_command_line_ends_with_code_2_and_one_sentence() {
    for url in ["nonsense", "ftp://relayer", "http://"] {
        let error = refused(&["challenge", "acknowledgement", "1", "2", "--relayer", url], 2);
        assert!(error.contains("the relayer is not a URL; write it as https://host:port"), "{error}");
    }
    for args in [
        &["nonsense"][..],
        &[],
        &["pool"],
        &["pool", "stake"],
        &["pool", "stake", "one", "0.5"],
        &["pool", "stake", "1", "0.5", "--keystore", "k.json"],
        &["pool", "stake", "1", "0.5", "--unsigned", "--dry-run"],
        &["pool", "show", "-1"],
        &["position", "list", "0x1234"],
        &["server", "list", "--bogus"],
        &["provider", "register"],
    ] {
        refused(args, 2);
    }
}

#[test]
fn amounts_that_cannot_work_are_refused_before_anything_is_asked() {
    let error = refused(&["pool", "stake", "1", "0.49eth"], 2);
    assert!(error.contains("0.49 ETH is below the smallest position of 0.5 ETH"), "{error}");
    assert!(error.contains("--add"), "{error}");
    for amount in ["1e18", "0,5", "half", "0.5btc", "-1", "0"] {
        refused(&["pool", "stake", "1", "--rpc=http://127.0.0.1:1", "--", amount], 2);
    }
}

#[test]
fn a_key_is_not_split_for_the_zero_address() {
    let file = "nowhere.json";
    let owner = format!("0x{}", "0".repeat(40));
    let mut args = vec!["key", "split", "--validator-keystore", file, "--validator-password-file", file];
    args.extend(["--threshold", "3", "--server", "1=nowhere.json", "--slashing-history", file]);
    args.extend(["--owner", &owner, "--out", "nowhere"]);
    assert!(refused(&args, 2).contains("the zero address cannot own a key"));
}

#[test]
fn without_an_endpoint_or_with_a_dead_one_the_code_is_3() {
    let folder = tempfile::tempdir().unwrap();
    let deployment = deployment(folder.path());
    let error = refused(&["pool", "list", "--deployment", &deployment], 3);
    assert!(error.contains("no RPC endpoint was given") && error.contains("--rpc"), "{error}");
    let error = refused(&["pool", "list", "--deployment", &deployment, "--rpc", "http://127.0.0.1:1"], 3);
    assert!(error.contains("refused"), "{error}");
    refused(&["verify-deployment", "--deployment", &deployment, "--rpc", "http://127.0.0.1:1"], 3);
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let deployment = deployment(folder.path());
    let key = secret(folder.path(), "duty-key", PLANTED_KEY);
    let args = ["provider", "register", "--duty-key-file", &key, "--from", ACCOUNT, "--unsigned"];
    let args = [&args[..], &["--deployment", &deployment]].concat();
    assert_eq!(stkr(&args).status.code(), Some(0), "mode 0600 is fine");
    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let error = refused(&args, 2);
        assert!(error.contains(&key) && error.contains("600"), "{error}");
    }
}

#[test]
fn a_file_that_is_a_pipe_or_a_device_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    // Nobody ever writes to it: a plain open waits for ever, and the test with it.
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let deployment = deployment(folder.path());
    for file in [pipe.to_str().unwrap(), "/dev/zero", folder.path().to_str().unwrap()] {
        let register = ["provider", "register", "--duty-key-file", file, "--from", ACCOUNT, "--unsigned"];
        let unsigned = ["pool", "stake", "7", "0.5", "--unsigned", "--from", ACCOUNT, "--deployment", file];
        for args in [
            [&register[..], &["--deployment", &deployment]].concat(),
            unsigned.to_vec(),
            vec!["config", "check", "--config", file],
        ] {
            let said = refused(&args, 2);
            assert!(said.contains("not a regular file"), "{args:?}: {said}");
        }
    }
}

#[test]
fn a_key_pasted_where_a_file_belongs_is_refused_and_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let deployment = deployment(folder.path());
    let duty_key = secret(folder.path(), "duty-key", PLANTED_KEY);
    let password = secret(folder.path(), "password", PLANTED_PASSWORD);
    let pasted = format!("0x{PLANTED_KEY}");
    let register = ["provider", "register", "--deployment", &deployment, "--duty-key-file"];
    for args in [
        vec![duty_key.as_str(), "--keystore", &pasted, "--password-file", &password],
        vec![&duty_key, "--key-file", &pasted],
        vec![&pasted, "--from", ACCOUNT, "--unsigned"],
    ] {
        let error = refused(&[&register[..], &args].concat(), 2);
        assert!(error.contains("looks like a key") && !error.contains(PLANTED_KEY), "{error}");
    }
}

#[test]
fn a_url_that_may_hold_a_key_is_no_argument_and_a_file_may_have_it() {
    let folder = tempfile::tempdir().unwrap();
    let deployment = deployment(folder.path());
    let list = ["pool", "list", "--deployment", &deployment];
    for url in [
        format!("https://rpc.example/v2/{PLANTED_URL_KEY}"),
        format!("https://{PLANTED_URL_KEY}@rpc.example"),
        format!("https://me:{PLANTED_URL_KEY}@rpc.example/"),
        format!("https://rpc.example/?key={PLANTED_URL_KEY}"),
        format!("https://rpc.example/#{PLANTED_URL_KEY}"),
        format!("wss://rpc.example/{PLANTED_URL_KEY}"),
    ] {
        let error = refused(&[&list[..], &["--rpc", &url]].concat(), 2);
        assert!(error.contains("--rpc-file") && !error.contains(PLANTED_URL_KEY), "{error}");
    }
    let file = secret(folder.path(), "rpc", &format!("http://127.0.0.1:1/v2/{PLANTED_URL_KEY}\n"));
    let error = refused(&[&list[..], &["--rpc-file", &file]].concat(), 3);
    assert!(error.contains("refused"), "the file's endpoint was asked: {error}");
    refused(&[&list[..], &["--rpc-file", &file, "--rpc", "http://127.0.0.1:1"]].concat(), 2);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    refused(&[&list[..], &["--rpc-file", &file]].concat(), 2);
}

#[test]
fn a_deployment_that_is_missing_broken_or_of_another_network_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(&["pool", "list", "--rpc", "http://127.0.0.1:1"], 2);
    assert!(error.contains("no deployment file was given"), "{error}");
    let missing = folder.path().join("none.json");
    refused(&["pool", "list", "--rpc", "http://127.0.0.1:1", "--deployment", missing.to_str().unwrap()], 2);
    let broken = folder.path().join("broken.json");
    fs::write(&broken, "{").unwrap();
    refused(&["pool", "list", "--rpc", "http://127.0.0.1:1", "--deployment", broken.to_str().unwrap()], 2);
    let deployment = deployment(folder.path());
    let args = ["pool", "list", "--rpc", "http://127.0.0.1:1", "--deployment", &deployment, "--network", "mainnet"];
    let error = refused(&args, 4);
    assert!(error.contains("mainnet"), "{error}");
}

#[test]
fn with_json_errors_are_json_too() {
    for args in [&["--json", "nonsense"][..], &["--json", "pool", "stake", "1", "0.49"], &["pool", "list", "--json"]] {
        let output = stkr(args);
        let error: Value = serde_json::from_slice(&output.stderr).unwrap();
        for field in ["code", "message", "hint"] {
            assert!(error["error"][field].as_str().is_some_and(|text| !text.is_empty()), "{args:?}: {error}");
        }
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn the_exit_code_is_in_the_json_of_every_class_of_error() {
    let folder = tempfile::tempdir().unwrap();
    let deployment = deployment(folder.path());
    let list = ["--json", "pool", "list", "--deployment", &deployment];
    for (more, code) in [(&["--bogus"][..], 2), (&["--rpc", "http://127.0.0.1:1"], 3), (&["--network", "mainnet"], 4)] {
        let output = stkr(&[&list[..], more].concat());
        let error: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{more:?}");
        assert_eq!(error["error"]["exit"], code, "{more:?}: {error}");
    }
}

#[test]
fn with_json_everything_that_succeeds_without_a_chain_prints_json() {
    let folder = tempfile::tempdir().unwrap();
    let answer = |args: &[&str]| -> Value {
        let output = stkr(&[args, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}"))
    };
    let example = answer(&["config", "example"]);
    let path = folder.path().join("stkr.toml");
    fs::write(&path, example["toml"].as_str().unwrap()).unwrap();
    let path = path.to_str().unwrap();
    let checked = answer(&["config", "check", "--config", path]);
    assert_eq!((&checked["valid"], &checked["config"]), (&true.into(), &path.into()));
    let completions = answer(&["completions", "bash"]);
    assert_eq!(completions["shell"], "bash");
    assert!(completions["script"].as_str().unwrap().contains("verify-deployment"));
}

#[test]
fn a_configuration_whose_deployment_is_broken_or_of_another_network_is_not_valid() {
    let folder = tempfile::tempdir().unwrap();
    let deployment = deployment(folder.path());
    let path = folder.path().join("stkr.toml");
    let config = ["config", "check", "--config", path.to_str().unwrap()];
    fs::write(&path, format!("network = \"devnet\"\ndeployment = {deployment:?}\n")).unwrap();
    assert_eq!(stkr(&config).status.code(), Some(0));
    fs::write(&path, format!("network = \"mainnet\"\ndeployment = {deployment:?}\n")).unwrap();
    let error = refused(&config, 4);
    assert!(error.contains("chain 31337") && error.contains("mainnet"), "{error}");
    fs::write(&deployment, "{}").unwrap();
    refused(&config, 2);
}

#[test]
fn an_unsigned_transaction_needs_neither_key_nor_endpoint() {
    let folder = tempfile::tempdir().unwrap();
    let deployment = deployment(folder.path());
    let args = ["pool", "stake", "7", "0.5", "--unsigned", "--deployment", &deployment, "--from", ACCOUNT];
    let output = stkr(&args);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let transaction: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(transaction["to"], format!("0x{}", hex::encode([5; 20])));
    assert_eq!(transaction["value"], "0x6f05b59d3b20000");
    assert_eq!(transaction["chainId"], "0x7a69");
    assert_eq!(transaction["from"].as_str().unwrap().to_lowercase(), ACCOUNT.to_lowercase());
    let input = transaction["input"].as_str().or(transaction["data"].as_str()).unwrap();
    assert!(input.ends_with(&format!("{:064x}", 7)) && input.len() == 2 + 8 + 64, "{input}");
}

#[test]
fn the_example_configuration_checks_and_an_unknown_key_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let example = stkr(&["config", "example"]);
    assert_eq!(example.status.code(), Some(0));
    let path = folder.path().join("stkr.toml");
    fs::write(&path, &example.stdout).unwrap();
    let checked = stkr(&["config", "check", "--config", path.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    fs::write(&path, format!("rpc = \"http://host/{PLANTED_URL_KEY}\"\n")).unwrap();
    let error = refused(&["config", "check", "--config", path.to_str().unwrap()], 2);
    assert!(error.contains("rpc") && !error.contains(PLANTED_URL_KEY), "{error}");
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = stkr(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("verify-deployment"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error_worth_a_backtrace() {
    let script = format!("'{}' completions bash | head -c 10 > /dev/null", env!("CARGO_BIN_EXE_stkr"));
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn planted_secrets_appear_in_no_output_whatever_goes_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let deployment = deployment(folder.path());
    let key = secret(folder.path(), "key", PLANTED_KEY);
    let password = secret(folder.path(), "password", PLANTED_PASSWORD);
    let broken = secret(folder.path(), "broken", &format!("{PLANTED_KEY}zz"));
    let keystore = secret(folder.path(), "keystore.json", &format!("{{\"version\":3,\"note\":\"{PLANTED_KEY}\"}}"));
    let url = format!("http://user:{PLANTED_PASSWORD}@127.0.0.1:1/v2/{PLANTED_URL_KEY}?token={PLANTED_URL_KEY}");
    let open = folder.path().join("open-key");
    fs::write(&open, PLANTED_KEY).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let url_file = secret(folder.path(), "rpc-url", &url);
    let stake = ["pool", "stake", "1", "0.5", "--deployment", &deployment];
    let pasted = format!("0x{PLANTED_KEY}");
    let tries: Vec<Vec<&str>> = vec![
        vec!["--key-file", &key],
        vec!["--key-file", &broken],
        vec!["--key-file", open.to_str().unwrap()],
        vec!["--key-file", &pasted],
        vec!["--keystore", &keystore, "--password-file", &password],
        vec!["--keystore", &pasted, "--password-file", &password],
        vec!["--private-key", &pasted],
        vec![&pasted],
        vec!["--from", &pasted],
        vec!["--max-fee-gwei", &pasted, "--key-file", &key],
    ];
    /// Arguments, and variables of the environment.
    type Way<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);
    let ways: [Way<'_>; 4] = [
        (&["--rpc", &url], &[]),
        (&["--rpc-file", &url_file], &[]),
        (&["--json", "--rpc-file", &url_file], &[]),
        (&["--json"], &[("STKR_RPC", &url)]),
    ];
    for extra in tries {
        for (rpc, environment) in ways {
            let args = [&stake[..], &extra, rpc].concat();
            let output = Command::new(env!("CARGO_BIN_EXE_stkr"))
                .args(&args)
                .env_remove("STKR_RPC")
                .envs(environment.iter().copied())
                .env("RUST_BACKTRACE", "1")
                .env("RUST_LOG", "trace")
                .output()
                .unwrap();
            assert_ne!(output.status.code(), Some(0), "{extra:?}");
            let all = text(&output.stdout) + &text(&output.stderr);
            for planted in [PLANTED_KEY, PLANTED_PASSWORD, PLANTED_URL_KEY] {
                assert!(!all.contains(planted), "{extra:?} showed a secret: {all}");
            }
        }
    }
}

/// Two requests of one duty key for votes with one target.
fn evidence() -> Value {
    evidence_by([7, 7])
}

/// Two requests for votes with one target, each by the duty key of that secret.
fn evidence_by(secrets: [u8; 2]) -> Value {
    use alloy::primitives::{Address, B256};
    use stkr_protocol::evidence::{EvidenceFile, Proof, RequestsProof, SignedDutyRequest};
    let domain = stkr_protocol::ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(4) };
    let ask = |root, secret| {
        let key = stkr_protocol::SignerKey::from_bytes(&[secret; 32]).unwrap();
        let mut request = SignedDutyRequest {
            key_id: 5,
            assignment: 3,
            duty_kind: 2,
            slot: 40,
            source_epoch: 1,
            target_epoch: 2,
            signing_root: B256::repeat_byte(root),
            signature: [0; 65],
        };
        request.signature = key.sign_digest(request.digest(&domain));
        request
    };
    let proof = Proof::ProviderEquivocation(RequestsProof { first: ask(1, secrets[0]), second: ask(2, secrets[1]) });
    serde_json::to_value(EvidenceFile::new(&domain, Address::repeat_byte(7), proof)).unwrap()
}

#[test]
fn evidence_is_judged_without_an_endpoint_and_a_file_that_proves_nothing_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &Value| {
        let path = folder.path().join(name);
        fs::write(&path, value.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = write("good.json", &evidence());
    let judged = stkr(&["evidence", "verify", "--offline", &good]);
    assert!(
        text(&judged.stdout).starts_with("proves: provider equivocation with key 5, by the provider"),
        "{judged:?}"
    );
    // Whoever makes a file chooses its contracts: they are named, or compared with those of a deployment.
    let court = "0x0707070707070707070707070707070707070707";
    assert!(text(&judged.stdout).contains(&format!("on chain 31337 and have the Court {court}")), "{judged:?}");
    let mine = deployment(folder.path());
    let compared = |path: &str| stkr(&["evidence", "verify", "--offline", path, "--deployment", &mine, "--json"]);
    let judged: Value = serde_json::from_slice(&compared(&good).stdout).unwrap();
    assert_eq!((&judged["ofDeployment"], &judged["court"]), (&true.into(), &court.into()), "{judged}");
    let mut elsewhere = evidence();
    elsewhere["court"] = "0x0808080808080808080808080808080808080808".into();
    let elsewhere = write("elsewhere.txt", &elsewhere);
    assert_eq!(stkr(&["evidence", "verify", "--offline", &elsewhere]).status.code(), Some(0));
    let error = refused(&["evidence", "verify", "--offline", &elsewhere, "--deployment", &mine], 2);
    assert!(error.contains("which are not those of this deployment"), "{error}");
    fs::remove_file(&mine).unwrap();

    let shown = text(&stkr(&["evidence", "show", &good]).stdout);
    assert!(shown.contains("attestation with key 5, slot 40, epochs 1 to 2"), "{shown}");

    // Of two duty keys only the chain can say whether they are one provider's: a judgement without it says so.
    let two_keys = write("two-keys.json", &evidence_by([7, 8]));
    let undecided = stkr(&["evidence", "verify", "--offline", &two_keys]);
    assert_eq!(undecided.status.code(), Some(3), "nothing that a script may take for proven");
    assert!(text(&undecided.stderr).contains("are duty keys of one provider only the chain can say"), "{undecided:?}");
    let judged = text(&undecided.stdout);
    assert!(judged.starts_with("proves, if both duty keys are of one provider: provider equivocation"), "{judged}");
    assert!(judged.contains("if the two are of different providers it proves nothing"), "{judged}");
    let judged = stkr(&["evidence", "verify", "--offline", &two_keys, "--json"]);
    let judged: Value = serde_json::from_slice(&judged.stdout).unwrap();
    let duty_keys: Vec<String> = [7, 8]
        .map(|secret| stkr_protocol::SignerKey::from_bytes(&[secret; 32]).unwrap().address().to_string().to_lowercase())
        .to_vec();
    assert_eq!((&judged["onChain"], &judged["accused"]["dutyKeys"]), (&false.into(), &duty_keys.clone().into()));
    let shown = text(&stkr(&["evidence", "show", &two_keys]).stdout).to_lowercase();
    assert!(duty_keys.iter().all(|key| shown.contains(&format!("signed by duty key {key}"))), "{shown}");
    fs::remove_file(&two_keys).unwrap();

    // A byte that was changed, in a signature or in what it is of, is never taken for proof.
    for place in ["signature", "slot", "signingRoot", "assignment"] {
        let mut changed = evidence();
        let field = &mut changed["proof"]["second"][place];
        let text = field.as_str().unwrap().to_owned();
        // Not the last: in a signature that is its parity.
        let at = text.len() / 2;
        let digit = if text.as_bytes()[at] == b'1' { "2" } else { "1" };
        *field = format!("{}{digit}{}", &text[..at], &text[at + 1..]).into();
        let changed = write("changed.json", &changed);
        let judged = stkr(&["evidence", "verify", "--offline", &changed]);
        assert!(matches!(judged.status.code(), Some(2 | 3)), "{place}: {judged:?}");
        fs::remove_file(&changed).unwrap();
    }

    let mut twice = evidence();
    twice["proof"]["second"] = twice["proof"]["first"].clone();
    let twice = write("twice.json", &twice);
    let error = refused(&["evidence", "verify", "--offline", &twice], 2);
    assert!(error.contains("this is no evidence of a fault: both may be signed"), "{error}");
    let mut more = evidence();
    more["more"] = "1".into();
    let more = write("more.json", &more);
    let error = refused(&["evidence", "verify", "--offline", &more], 2);
    assert!(error.contains("no evidence of version 1: unknown field `more`"), "{error}");
    let error = refused(&["evidence", "submit", &good, "--unsigned"], 2);
    assert!(error.contains("a report is two transactions"), "{error}");
    // Without an endpoint there is a judgement of a part only, and only where that was asked for.
    refused(&["evidence", "verify", &good], 2);
    let error = refused(&["evidence", "verify", "--offline", "no/such/file.json"], 2);
    assert!(error.contains("give the path of a file"), "{error}");
    let unsigned = ["evidence", "commit", &good, "--unsigned"];
    let error = refused(&unsigned, 2);
    assert!(error.contains("give --reporter ACCOUNT"), "{error}");

    let listed = stkr(&["evidence", "list", folder.path().to_str().unwrap(), "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let problems: Vec<bool> = listed.as_array().unwrap().iter().map(|line| line["problem"].is_string()).collect();
    assert_eq!(problems, [false, true, true], "{listed}");
    refused(&["evidence", "list", "no/such/folder"], 2);
}

/// A dealing without commitments, by a signer of its own.
fn dealing() -> Value {
    use alloy::primitives::{Address, B256};
    use stkr_protocol::{
        SignerKey,
        evidence::{DefectiveDealing, EvidenceFile, Proof},
        messages::{Body, DealingBody, SignedMessage},
    };
    let domain = stkr_protocol::ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(4) };
    let body = Body::Dealing(DealingBody {
        one_time_keys_hash: B256::repeat_byte(1),
        one_time_key: vec![2; 33],
        commitments: Vec::new(),
        proof_of_possession: vec![4; 256],
        shares: vec![5; 128],
    });
    let signer = SignerKey::from_bytes(&[7; 32]).unwrap();
    let message = SignedMessage::sign(&domain, &signer, (5, 1, stkr_core::ShareIndex::new(2).unwrap()), body);
    let proof = DefectiveDealing::find(&message, (3, 4), None, &domain).unwrap();
    serde_json::to_value(EvidenceFile::new(&domain, Address::repeat_byte(7), Proof::MalformedDealing(proof))).unwrap()
}

#[test]
fn a_dealing_that_was_changed_is_refused_and_one_that_claims_nothing_is_undecided() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dealing.json").display().to_string();
    let judged = |file: &Value| {
        fs::write(&path, file.to_string()).unwrap();
        stkr(&["evidence", "verify", "--offline", &path])
    };
    let good = dealing();
    let signer = stkr_protocol::SignerKey::from_bytes(&[7; 32]).unwrap().address();
    let whole = judged(&good);
    assert_eq!(whole.status.code(), Some(0), "{whole:?}");
    let by = format!("proves: malformed dealing with key 5, by the server that signs or signed with {signer}");
    assert!(text(&whole.stdout).starts_with(&by), "{whole:?}");
    assert!(text(&stkr(&["evidence", "show", &path]).stdout).contains(&format!("with {signer}")));

    // Each field of the file, its middle digit changed.
    let mut changed_fields = 0;
    let proof = ["threshold", "members", "position"].map(|field| format!("/proof/{field}"));
    let signed =
        ["keyId", "attempt", "index", "oneTimeKeysHash", "oneTimeKey", "possessionHash", "shares", "signature"];
    let signed = signed.map(|field| format!("/proof/dealing/{field}"));
    let claims = ["/claims/signer", "/claims/proofHash", "/chainId", "/keyRegistry"].map(str::to_owned);
    for place in proof.iter().chain(&signed).chain(&claims) {
        let mut changed = good.clone();
        let field = changed.pointer_mut(place).unwrap();
        let old = field.as_str().unwrap().to_owned();
        let at = old.len() / 2;
        let digit = if old.as_bytes()[at] == b'1' { "2" } else { "1" };
        *field = format!("{}{digit}{}", &old[..at], &old[at + 1..]).into();
        let refused = judged(&changed);
        assert_eq!(refused.status.code(), Some(2), "{place}: {refused:?}");
        let said = text(&refused.stderr);
        assert!(said.starts_with("error: this is no evidence of a fault: "), "{place}: {said}");
        assert!(refused.stdout.is_empty(), "{place}: {refused:?}");
        changed_fields += 1;
    }
    assert_eq!(changed_fields, 15);

    let mut silent = good;
    silent.as_object_mut().unwrap().remove("claims");
    let undecided = judged(&silent);
    assert_eq!(undecided.status.code(), Some(3), "nothing that a script may take for proven");
    assert!(text(&undecided.stderr).contains("the file does not claim whom it accuses"), "{undecided:?}");
    assert!(text(&undecided.stdout).starts_with("proves, if nobody changed the dealing: malformed"), "{undecided:?}");
    let listed = stkr(&["evidence", "list", folder.path().to_str().unwrap()]);
    assert!(text(&listed.stdout).contains("claims the server that signs or signed with"), "{listed:?}");
}

/// An endpoint that answers every request with `answer`, whatever it was asked.
fn endpoint(answer: &'static [u8]) -> String {
    answering("200 OK", answer)
}

fn answering(status: &'static str, answer: &'static [u8]) -> String {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 4096];
            if !stream.read(&mut request).is_ok_and(|read| read > 0) {
                continue;
            }
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                answer.len()
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(answer));
        }
    });
    url
}

/// What `stkr` says when it fails: one sentence and one hint, short, and nothing that moves a cursor or is meant for programmers.
fn one_sentence(output: &Output, what: &str) -> String {
    let said = text(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    let [error, hint] = lines.as_slice() else { panic!("{what}: {} lines: {said}", lines.len()) };
    assert!(error.starts_with("error: ") && hint.starts_with("hint: "), "{what}: {said}");
    assert!(error.chars().count() < 600, "{what}: {} characters", error.chars().count());
    assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{what}: {said:?}");
    for internal in ["panicked", "RUST_BACKTRACE", "src/", "stkr has a bug"] {
        assert!(!said.contains(internal), "{what}: {said}");
    }
    (*error).to_owned()
}

/// What carries files for an offline server looks at the exit code: 3 is tried again, 1 is not.
#[test]
fn a_relayer_that_has_no_answer_now_is_told_from_one_that_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let answer = folder.path().join("answer.json").display().to_string();
    let key_registry = format!("0x{}", "07".repeat(20));
    let file = serde_json::json!({
        "type": "stkr-offline-change-answer",
        "version": stkr_protocol::offline::VERSION.to_string(),
        "about": { "chainId": "31337", "keyRegistry": key_registry, "server": "5", "keyId": "7" },
        "answers": [],
    });
    fs::write(&answer, file.to_string()).unwrap();
    let out = folder.path().join("request.json").display().to_string();
    let commands = [
        vec!["offline", "due", "--server", "5"],
        vec!["offline", "fetch", "--server", "5", "--key", "7", "--out", &out],
        vec!["offline", "submit", &answer],
    ];
    let refusal = br#"{"refusal":{"kind":"unavailable","reason":"so it is","whatToDo":"this"}}"#;
    let later = "hint: try again in some seconds, or with another relayer";
    for (relayer, code, reason, hint) in [
        (answering("429 Too Many Requests", refusal), 3, "so it is", later),
        (answering("503 Service Unavailable", refusal), 3, "so it is", later),
        (answering("502 Bad Gateway", b"<html>"), 3, "it answered with status 502", later),
        (answering("302 Found", b""), 3, "it answered with status 302", later),
        (answering("200 OK", b"<html>"), 3, "", later),
        ("http://127.0.0.1:9".to_owned(), 3, "it does not answer", later),
        (answering("404 Not Found", refusal), 1, "so it is", "hint: wait until it is"),
        (answering("422 Unprocessable Content", refusal), 1, "so it is", "hint: wait until it is"),
        (answering("400 Bad Request", b""), 1, "it answered with status 400", "hint: wait until it is"),
    ] {
        for command in &commands {
            let output = stkr(&[command.as_slice(), &["--relayer", &relayer]].concat());
            let what = format!("{command:?} {relayer}");
            let error = one_sentence(&output, &what);
            assert_eq!(output.status.code(), Some(code), "{what}: {error}");
            assert!(error.contains("the relayer at 127.0.0.1") && error.contains(reason), "{what}: {error}");
            assert!(text(&output.stderr).contains(hint), "{what}: {output:?}");
        }
    }
    assert!(!Path::new(&out).exists());
}

#[test]
fn an_endpoint_that_answers_nonsense_is_told_in_one_short_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("good.json").display().to_string();
    fs::write(&file, evidence().to_string()).unwrap();
    let (mine, key) = (deployment(folder.path()), secret(folder.path(), "key", PLANTED_KEY));
    let long: &'static [u8] =
        Box::leak(["<html>\u{1b}[31m\n", &"x".repeat(1 << 20)].concat().into_bytes().into_boxed_slice());
    let null = br#"{"jsonrpc":"2.0","id":0,"result":null}"#;
    let refusal = br#"{"jsonrpc":"2.0","id":0,"error":{"code":-32000,"message":"boom\n\u001b[31m"}}"#;
    let answers: [&'static [u8]; 5] = [b"", long, null, refusal, b"\0\xff\x1b"];
    for answer in answers {
        let rpc = endpoint(answer);
        for command in [
            vec!["evidence", "verify", &file],
            vec!["evidence", "find", &file],
            vec!["evidence", "commit", &file, "--key-file", &key],
            vec!["evidence", "submit", &file, "--key-file", &key],
            vec!["challenge", "list"],
            vec!["challenge", "open", "7", "3", "--key-file", &key],
            vec!["challenge", "answer", "7", "3", "--key-file", &key],
        ] {
            let output = stkr(&[&command[..], &["--rpc", &rpc, "--deployment", &mine]].concat());
            let what = format!("{command:?}, {:?}…", &answer[..answer.len().min(20)]);
            // A page of evidence is no page of a gateway: that is told before the endpoint is asked.
            let code = if command[1] == "find" { 2 } else { 3 };
            assert_eq!(output.status.code(), Some(code), "{what}: {output:?}");
            one_sentence(&output, &what);
        }
    }
}

#[test]
fn a_file_that_is_no_evidence_is_told_in_one_sentence_whatever_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mine, key) = (deployment(folder.path()), secret(folder.path(), "key", PLANTED_KEY));
    let path = |name: &str| folder.path().join(name).display().to_string();
    let write = |name: &str, content: &[u8]| fs::write(path(name), content).unwrap();
    let with = |field: &str, value: Value| {
        let mut file = evidence();
        file[field] = value;
        file.to_string().into_bytes()
    };
    let mut deep = evidence().to_string();
    deep = deep.replace("\"proof\":{", &format!("\"proof\":{{\"more\":{}{},", "[".repeat(5_000), "]".repeat(5_000)));
    fs::create_dir(path("folder.json")).unwrap();
    write("empty.json", b"");
    write("huge.json", &vec![b' '; 1 << 20]);
    write("binary.json", &[0, 0xff, 0x1b, b'[', 0xfe]);
    write("deep.json", deep.as_bytes());
    write("deep list.json", &[b'['; 20_000]);
    write("list.json", format!("[{}]", evidence()).as_bytes());
    write("number.json", b"5");
    write("newer.json", &with("version", "2".into()));
    write("type.json", &with("court", 5.into()));
    write("escape.json", &with("version", "\u{1b}[31m\n1".into()));
    for (name, reason) in [
        ("missing.json", "No such file"),
        ("folder.json", "it is a folder"),
        ("empty.json", "it is empty"),
        ("huge.json", "it is longer than"),
        ("binary.json", "it is no JSON"),
        ("deep.json", "it is nested too deep"),
        ("deep list.json", "a list where an object belongs"),
        ("list.json", "a list where an object belongs"),
        ("number.json", "it holds something else"),
        ("newer.json", "it is of version 2"),
        ("type.json", "court: integer `5` where a string belongs"),
        ("escape.json", "version: not a decimal integer"),
    ] {
        let file = path(name);
        for command in [
            vec!["evidence", "show", &file],
            vec!["evidence", "verify", "--offline", &file],
            vec!["evidence", "verify", &file],
            vec!["evidence", "commit", &file, "--key-file", &key],
            vec!["evidence", "prove", &file, "--key-file", &key],
            vec!["evidence", "submit", &file, "--key-file", &key],
        ] {
            let output = stkr(&[&command[..], &["--rpc", "http://127.0.0.1:1", "--deployment", &mine]].concat());
            assert_eq!(output.status.code(), Some(2), "{command:?}: {output:?}");
            let said = one_sentence(&output, &format!("{command:?}"));
            assert!(said.contains(reason), "{command:?}: {said}");
        }
    }
    // Of a folder each is a line, and none ends the list.
    let listed = stkr(&["evidence", "list", folder.path().to_str().unwrap()]);
    assert_eq!(listed.status.code(), Some(0));
    let listed = text(&listed.stdout);
    assert_eq!(listed.lines().filter(|line| line.contains("  none  ")).count(), 12, "{listed}");
    assert!(!listed.contains('\u{1b}'), "{listed:?}");
    // No key to sign with.
    fs::write(path("good.json"), evidence().to_string()).unwrap();
    let (good, nobody) = (path("good.json"), path("nobody.key"));
    for command in ["commit", "prove", "submit"] {
        let arguments = ["evidence", command, &good, "--key-file", &nobody, "--deployment", &mine];
        let output = stkr(&[&arguments[..], &["--rpc", "http://127.0.0.1:1"]].concat());
        assert_eq!(output.status.code(), Some(if command == "prove" { 3 } else { 2 }), "{command}: {output:?}");
        one_sentence(&output, command);
    }
}
