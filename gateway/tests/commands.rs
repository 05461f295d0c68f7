//! The program as an operator meets it, without a chain: what it makes, what it refuses, and with which exit code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use alloy_primitives::Address;
use serde_json::{Value, json};
use stkr_protocol::{recover_signer, registration};

const ROOT: &str = "0x0505050505050505050505050505050505050505050505050505050505050505";

/// Exit code, what it printed as JSON, and what it said.
fn gateway(args: &[&str]) -> (Option<i32>, Value, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_stkr-gateway")).args(args).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null), said)
}

struct Made {
    folder: tempfile::TempDir,
    duty_key: Address,
}

impl Made {
    /// A gateway of a chain nobody serves.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = |number: u8| Address::repeat_byte(number);
        let deployment = json!({
            "chainId": 31337, "accessManager": address(1), "serverRegistry": address(2), "providerRegistry": address(3),
            "keyRegistry": address(4), "court": address(7), "micropools": address(5), "depositContract": address(6),
            "genesisForkVersion": "0x00000042", "genesisValidatorsRoot": "0x0909090909090909090909090909090909090909090909090909090909090909", "deployedBlock": 1,
        });
        std::fs::write(folder.path().join("deployment.json"), deployment.to_string()).unwrap();
        let schedule = format!(
            "preset = \"mainnet\"\ngenesis_validators_root = \"{ROOT}\"\ngenesis_time = 1600000000\nseconds_per_slot = 12\n\
             forks = [{{ name = \"phase0\", version = \"0x00000042\", epoch = 0 }}]\n"
        );
        std::fs::write(folder.path().join("beacon.toml"), schedule).unwrap();
        let mut made = Self { folder, duty_key: Address::ZERO };
        let (code, printed, said) = made.init();
        assert_eq!(code, Some(0), "{said}");
        made.duty_key = printed["dutyKey"].as_str().unwrap().parse().unwrap();
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn init(&self) -> (Option<i32>, Value, String) {
        let (dir, deployment, schedule) =
            (self.text("gateway"), self.text("deployment.json"), self.text("beacon.toml"));
        gateway(&[
            "init",
            "--dir",
            &dir,
            "--deployment",
            &deployment,
            "--schedule",
            &schedule,
            "--rpc",
            "http://127.0.0.1:1",
        ])
    }

    fn config(&self) -> String {
        self.text("gateway/gateway.toml")
    }

    fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(self.config(), text.replacen(from, to, 1)).unwrap();
    }

    /// Why `protection status` says that the database must not sign, in its first line.
    fn quarantined(&self) -> String {
        let args = ["protection", "status", "--config", &self.config()];
        let output = Command::new(env!("CARGO_BIN_EXE_stkr-gateway")).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines[0]["quarantined"] == json!(true), "{text}");
        assert!(lines[1..].iter().all(|key| key["needsImport"] == json!(true)), "{text}");
        lines[0]["reason"].as_str().unwrap().to_owned()
    }

    fn protection(&self, command: &str, more: &[&str]) -> (Option<i32>, Value, String) {
        let config = self.config();
        gateway(&[&["protection", command, "--config", &config], more].concat())
    }
}

fn write(path: &Path, pubkey: &str, target: u64) -> String {
    let history = json!({
        "metadata": {"interchange_format_version": "5", "genesis_validators_root": ROOT},
        "data": [{"pubkey": pubkey, "signed_blocks": [], "signed_attestations": [
            {"source_epoch": (target - 1).to_string(), "target_epoch": target.to_string()},
        ]}],
    });
    std::fs::write(path, history.to_string()).unwrap();
    path.display().to_string()
}

#[test]
fn init_makes_a_gateway_once_and_its_duty_key_can_be_registered() {
    let made = Made::new();
    let (code, _, said) = made.init();
    assert!(code == Some(2) && said.contains("exists already"), "{said}");
    let mode = std::fs::metadata(made.config()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "an RPC URL may hold an API key");
    assert_eq!(gateway(&["config", "check", "--config", &made.config()]).0, Some(0));
    let provider = Address::repeat_byte(9);
    let (code, printed, said) =
        gateway(&["register-args", "--config", &made.config(), "--provider", &provider.to_string()]);
    assert_eq!(code, Some(0), "{said}");
    let proof = hex::decode(printed[0]["proof"].as_str().unwrap().trim_start_matches("0x")).unwrap();
    let digest = registration::duty_key_proof_digest(31_337, Address::repeat_byte(3), provider, made.duty_key);
    assert_eq!(recover_signer(digest, &proof.try_into().unwrap()), Ok(made.duty_key));
}

#[test]
fn a_wrong_configuration_is_a_usage_error_and_a_chain_that_is_away_is_not() {
    let made = Made::new();
    let run = || gateway(&["run", "--config", &made.config()]);
    let (code, _, said) = run();
    assert!(code == Some(3) && said.contains("no RPC endpoint can be used"), "{said}");
    made.edit("address = \"127.0.0.1:9000\"", "address = \"0.0.0.0:9000\"");
    let (code, _, said) = run();
    assert!(code == Some(2) && said.contains("without TLS only the loopback interface"), "{said}");
    made.edit("address = \"0.0.0.0:9000\"", "addres = \"127.0.0.1:9000\"");
    assert_eq!(run().0, Some(2));
    made.edit("addres = ", "address = ");
    let schedule = std::fs::read_to_string(made.path("beacon.toml")).unwrap();
    std::fs::write(made.path("beacon.toml"), schedule.replace("0x00000042", "0x00000043")).unwrap();
    let (code, _, said) = run();
    assert!(code == Some(2) && said.contains("genesis fork version is 0x00000043"), "{said}");
}

#[test]
fn a_history_is_imported_shown_pruned_and_exported() {
    let made = Made::new();
    let pubkey = format!("0x{}", "ab".repeat(48));
    let file = write(&made.path("history.json"), &pubkey, 10);
    let (code, printed, said) = made.protection("import", &["--file", &file]);
    assert_eq!((code, &printed["registered"]), (Some(0), &json!(1)), "{said}");
    let (_, status, _) = made.protection("status", &[]);
    assert_eq!((&status["pubkey"], &status["high"]["targetEpoch"]), (&json!(pubkey), &json!("10")));
    assert_eq!(made.protection("prune", &[]).0, Some(0));
    let out = made.text("out.json");
    let (code, printed, said) = made.protection("export", &["--file", &out]);
    assert_eq!((code, &printed["keys"]), (Some(0), &json!(1)), "{said}");
    assert_eq!(made.protection("export", &["--file", &out]).0, Some(2), "nothing is overwritten");
    let exported: Value = serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!(exported["data"][0]["pubkey"], json!(pubkey));
    let foreign = std::fs::read_to_string(&file).unwrap().replace("05050505", "06060606");
    std::fs::write(&file, foreign).unwrap();
    assert_eq!(made.protection("import", &["--file", &file]).0, Some(2), "of another network");
}

#[test]
fn a_lost_history_is_unsafe_until_it_is_imported_even_without_its_witness() {
    for with_witness in [true, false] {
        let made = Made::new();
        for file in std::fs::read_dir(made.path("gateway")).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with("protection.sqlite") && !(with_witness && name.ends_with(".witness")) {
                std::fs::remove_file(&path).unwrap();
            }
        }
        let (code, _, said) = made.protection("status", &[]);
        assert!(code == Some(4) && said.contains("must not sign"), "{said}");
        // What opens it as `run` does makes no new one in its place either.
        let (code, _, said) = made.protection("prune", &["--keep-epochs", "1"]);
        assert_eq!(code, Some(4), "{said}");
        let file = write(&made.path("history.json"), &format!("0x{}", "ab".repeat(48)), 10);
        let (code, _, said) = made.protection("import", &["--file", &file]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(made.protection("status", &[]).0, Some(0));
    }
}

#[test]
fn a_backup_signs_nothing_until_what_was_signed_since_is_imported_or_closed() {
    for closing in [false, true] {
        let made = Made::new();
        let pubkey = format!("0x{}", "ab".repeat(48));
        let file = write(&made.path("history.json"), &pubkey, 10);
        assert_eq!(made.protection("import", &["--file", &file]).0, Some(0));
        let backup = made.text("backup.db");
        assert_eq!(made.protection("backup", &["--file", &backup]).0, Some(0));
        let (code, _, said) = made.protection("backup", &["--file", &backup]);
        assert!(code != Some(0) && said.contains("backup.db"), "{said}");
        // Where a database is nothing is restored: it may be newer.
        assert_eq!(made.protection("restore", &["--file", &backup]).0, Some(2));
        std::fs::remove_file(made.path("gateway/protection.sqlite")).unwrap();
        let (code, printed, said) = made.protection("restore", &["--file", &backup]);
        assert_eq!((code, &printed["next"]), (Some(0), &json!("protection import")), "{said}");
        let quarantined = made.quarantined();
        assert!(quarantined.contains("restored from a backup"), "{quarantined}");
        if closing {
            let (code, printed, said) = made.protection("close-history", &[]);
            assert!(code == Some(0) && printed["closedUpTo"]["epoch"].is_string(), "{said}");
        } else {
            let newer = write(&made.path("newer.json"), &pubkey, 12);
            assert_eq!(made.protection("import", &["--file", &newer]).0, Some(0));
        }
        let (code, status, said) = made.protection("status", &[]);
        assert_eq!((code, &status["needsImport"]), (Some(0), &json!(false)), "{said}");
        let low: u64 = status["low"]["targetEpoch"].as_str().unwrap().parse().unwrap();
        // Of a database that was in doubt everything up to now counts as signed, and the chain of the test began in 2020.
        assert!(low > 100_000, "{status}");
    }
}

/// A pipe to which nobody ever writes: a plain open waits for ever, and the test with it.
fn pipe(path: &Path) -> String {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    path.display().to_string()
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for() {
    let made = Made::new();
    let pipe = pipe(&made.path("pipe"));
    let refused = |(code, _, said): (Option<i32>, Value, String)| {
        assert!(code == Some(2) && said.contains("not a regular file"), "{code:?} {said}");
    };
    for file in [pipe.as_str(), "/dev/zero", &made.text("gateway")] {
        refused(gateway(&["config", "check", "--config", file]));
        refused(made.protection("import", &["--file", file]));
    }
    std::fs::remove_file(made.path("gateway/protection.sqlite")).unwrap();
    for file in [pipe.as_str(), "/dev/zero", &made.text("gateway")] {
        refused(made.protection("restore", &["--file", file]));
    }
    made.edit("key_files = [\"secrets/duty.key\"]", "key_files = [\"../pipe\"]");
    refused(gateway(&["config", "check", "--config", &made.config()]));
}

#[test]
fn config_check_refuses_databases_that_are_no_files_of_their_own() {
    let made = Made::new();
    for (from, to, expected) in [
        ("protection = \"protection.sqlite\"", "protection = \"\"", "is no name of a file"),
        ("protection = \"protection.sqlite\"", "protection = \"secrets\"", "is a folder"),
        (
            "protection = \"protection.sqlite\"",
            "protection = \"gateway.sqlite\"",
            "is the file of storage.database too",
        ),
        ("database = \"gateway.sqlite\"", "database = \"secrets/duty.key\"", "is the file of duty.key_files too"),
        ("database = \"gateway.sqlite\"", "database = \"no/gateway.sqlite\"", "there is no folder"),
    ] {
        made.edit(from, to);
        let (code, _, said) = gateway(&["config", "check", "--config", &made.config()]);
        assert!(code == Some(2) && said.contains(expected) && said.lines().count() == 1, "no {expected}: {said}");
        made.edit(to, from);
    }
    // Nor where neither is there yet.
    made.edit("database = \"gateway.sqlite\"", "database = \"new.sqlite\"");
    made.edit("protection = \"protection.sqlite\"", "protection = \"secrets/../new.sqlite\"");
    let (code, _, said) = gateway(&["config", "check", "--config", &made.config()]);
    assert!(code == Some(2) && said.contains("is the file of storage.database too"), "{said}");
}

#[test]
fn what_must_not_sign_is_shown_exported_with_a_warning_and_backed_up() {
    let made = Made::new();
    let pubkey = format!("0x{}", "ab".repeat(48));
    let file = write(&made.path("history.json"), &pubkey, 10);
    assert_eq!(made.protection("import", &["--file", &file]).0, Some(0));
    let (code, printed, said) = made.protection("export", &["--file", &made.text("good.json")]);
    assert_eq!((code, &printed["mayBeIncomplete"], said.as_str()), (Some(0), &json!(false), ""));
    std::fs::remove_file(made.path("gateway/protection.sqlite.witness")).unwrap();

    let reason = made.quarantined();
    assert!(reason.contains("its witness file is missing"), "{reason}");
    let (code, printed, said) = made.protection("export", &["--file", &made.text("doubted.json")]);
    assert_eq!((code, &printed["mayBeIncomplete"], &printed["keys"]), (Some(0), &json!(true), &json!(1)), "{said}");
    assert!(said.starts_with("warning: ") && said.contains("may lack the newest signatures"), "{said}");
    let text = |name: &str| std::fs::read_to_string(made.path(name)).unwrap();
    assert_eq!(text("good.json"), text("doubted.json"));
    let backup = made.text("backup.db");
    let (code, _, said) = made.protection("backup", &["--file", &backup]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(made.quarantined(), reason, "a look changes nothing");
    std::fs::remove_file(made.path("gateway/protection.sqlite")).unwrap();
    assert_eq!(made.protection("restore", &["--file", &backup]).0, Some(0));
}

#[test]
fn the_backup_of_another_program_is_not_restored() {
    let made = Made::new();
    let backup = made.text("backup.db");
    assert_eq!(made.protection("backup", &["--file", &backup]).0, Some(0));
    let database = rusqlite::Connection::open(&backup).unwrap();
    // As `stkr-server` names itself.
    database.execute("UPDATE backup_of SET owner = ?1", [format!("stkr-server {}", Address::repeat_byte(8))]).unwrap();
    drop(database);
    std::fs::remove_file(made.path("gateway/protection.sqlite")).unwrap();
    let (code, _, said) = made.protection("restore", &["--file", &backup]);
    assert!(code == Some(2) && said.contains("it is a backup of stkr-server 0x0808"), "{said}");
    assert!(!made.path("gateway/protection.sqlite").exists());
}
