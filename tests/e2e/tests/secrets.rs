//! Secrets are planted everywhere and looked for in everything that any program says: at the most talkative log level,
//! over a whole ceremony and deposit, with a chain that goes away at the end, because errors talk most.

use alloy::primitives::utils::parse_ether;
use alloy::primitives::{B256, U256};
use alloy::signers::local::PrivateKeySigner;
use eyre::{Result, WrapErr as _, ensure, eyre};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use stkr_chain::bindings::{KeyRegistry, Micropools};
use stkr_core::keystore::{Keystore, StoreKey};
use stkr_core::{PublicKey, ShareIndex};
use stkr_e2e::anvil::GENESIS_FORK_VERSION;
use stkr_e2e::beacon::unix_seconds;
use stkr_e2e::deal::{self, Deal, interop_secret, public_key};
use stkr_e2e::lodestar::{Genesis, SLOTS_PER_EPOCH};
use stkr_e2e::network::write_secret;
use stkr_e2e::process::{binary, workspace_root};
use stkr_e2e::{GatewayProcess, Network, Options};
use stkr_node::tls::{self, Identity};
use stkr_server::config::ServerConfig;
use stkr_server::seal::Sealer;

/// A keystore that cast wrote for the key of the Web3 Secret Storage definition.
const KEYSTORE: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"b738b4f002f37c92fedb4ff64157c9bb"},
    "ciphertext":"0c18df5a7270cfaf911ff54d41d9338a82b0aa79e8d27a58eb7e7fbad5a58a8a","kdf":"scrypt",
    "kdfparams":{"dklen":32,"n":8192,"p":1,"r":8,
    "salt":"ef9ea5bb5dd76184ef71c5b59588ee3fa0601a7be4e5393f36ee713fc6d09705"},
    "mac":"3fb0d2a001af3d9cd1b735280ba74c915278b409b8b3113e67b20d3734d5dbb5"},
    "id":"567b7370-8f54-4a02-bfb2-58175dd95545","version":3}"#;
const KEYSTORE_PASSWORD: &str = "testpassword";
const KEYSTORE_KEY: &str = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
/// In every RPC URL, as providers put their keys there.
const RPC_KEY: &str = "PLANTED-RPC-API-KEY";
const RPC_PASSWORD: &str = "PLANTED-RPC-PASSWORD";

// ---- what is looked for, and where

/// Everything that was said, with who said it.
#[derive(Default)]
struct Haystack(Vec<(String, Vec<u8>)>);

/// Secrets by name, each in every form somebody could print it in.
#[derive(Default)]
struct Needles(Vec<(String, Vec<Vec<u8>>)>);

impl Haystack {
    fn add(&mut self, who: impl Into<String>, said: impl Into<Vec<u8>>) {
        self.0.push((who.into(), said.into()));
    }

    /// Runs a program to its end, whatever that is, and keeps both its outputs.
    fn run(&mut self, command: &mut Command) -> Result<bool> {
        let output = command.output().wrap_err_with(|| format!("start {command:?}"))?;
        self.add(format!("{command:?}"), [output.stdout, output.stderr].concat());
        Ok(output.status.success())
    }

    fn contains(&self, text: &str) -> bool {
        self.0.iter().any(|(_, said)| find(said, text.as_bytes()))
    }

    /// `secret in place` for everything that should not be there.
    fn leaks(&self, needles: &Needles) -> Vec<String> {
        let mut leaks = Vec::new();
        for (who, said) in &self.0 {
            // Hex may be written in capitals.
            let (said, lower) = (text(said), text(&said.to_ascii_lowercase()));
            for (name, forms) in &needles.0 {
                let forms = forms.iter().map(|form| text(form));
                if forms.into_iter().any(|form| said.contains(&form) || lower.contains(&form)) {
                    leaks.push(format!("{name} in what {who} says"));
                }
            }
        }
        leaks
    }
}

impl Needles {
    fn text(&mut self, name: impl Into<String>, secret: &str) {
        assert!(secret.len() >= 12, "too short to look for");
        self.0.push((name.into(), vec![secret.as_bytes().to_vec()]));
    }

    fn bytes(&mut self, name: impl Into<String>, secret: &[u8]) {
        assert!(secret.len() >= 16, "too short to look for");
        let decimals = |separator: &str| secret.iter().map(u8::to_string).collect::<Vec<_>>().join(separator);
        let mut forms = vec![
            secret.to_vec(),
            hex::encode(secret).into_bytes(),
            base64(secret, b"+/"),
            base64(secret, b"-_"),
            decimals(", ").into_bytes(),
            decimals(",").into_bytes(),
        ];
        if let Some(number) = U256::try_from_be_slice(secret) {
            forms.push(number.to_string().into_bytes());
        }
        self.0.push((name.into(), forms));
    }
}

/// A character per byte: the standard library searches text fast, also in a test that is not optimised.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    text(haystack).contains(&text(needle))
}

/// Base64 without the digits at the end that depend on what follows.
fn base64(bytes: &[u8], last_two: &[u8; 2]) -> Vec<u8> {
    let alphabet: Vec<u8> = (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').chain(*last_two).collect();
    let groups = bytes.chunks_exact(3).flat_map(|group| {
        let word = group.iter().fold(0_usize, |word, byte| word << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| word >> shift & 63)
    });
    groups.map(|digit| alphabet[digit]).collect()
}

#[test]
fn every_form_of_a_planted_secret_is_found_and_a_haystack_without_it_is_clean() {
    let secret: Vec<u8> = (100..132).collect();
    assert_eq!(base64(b"Man is", b"+/"), b"TWFuIGlz");
    let mut needles = Needles::default();
    needles.bytes("bytes", &secret);
    needles.text("text", "correct horse battery");
    let debug = format!("{secret:?}");
    let json = serde_json::to_string(&secret).unwrap();
    for planted in [
        secret.clone(),
        hex::encode(&secret).into_bytes(),
        hex::encode_upper(&secret).into_bytes(),
        debug.into_bytes(),
        json.into_bytes(),
        base64(&secret, b"+/"),
        U256::from_be_slice(&secret).to_string().into_bytes(),
        b"correct horse battery".to_vec(),
    ] {
        let mut haystack = Haystack::default();
        haystack.add("somebody", "a log line with ");
        assert!(haystack.leaks(&needles).is_empty());
        haystack.add("somebody", [b"a log line with ".as_slice(), &planted, b" in it"].concat());
        assert_eq!(haystack.leaks(&needles).len(), 1, "{planted:?}");
    }
}

// ---- the network

/// Most talkative, in JSON, with an API key and a password in every RPC URL.
fn talk(config: &Path, anvil: &str) -> Result<()> {
    let port = anvil.rsplit(':').next().ok_or_else(|| eyre!("no port in {anvil}"))?;
    let mut text = std::fs::read_to_string(config)?;
    for host in ["127.0.0.1", "localhost"] {
        let with_secrets = format!("http://user:{RPC_PASSWORD}@{host}:{port}/?key={RPC_KEY}\"");
        text = text.replace(&format!("http://{host}:{port}/\""), &with_secrets);
        text = text.replace(&format!("http://{host}:{port}\""), &with_secrets);
    }
    ensure!(text.contains(RPC_KEY), "no RPC URL in {}", config.display());
    if text.contains("filter = \"info\"") {
        text = text.replace("filter = \"info\"", "filter = \"trace\"");
    } else {
        text += "\n[log]\nformat = \"json\"\nfilter = \"trace\"\n";
    }
    ensure!(text.contains("filter = \"trace\""), "no log filter in {}", config.display());
    Ok(std::fs::write(config, text)?)
}

/// What a server's folder holds that nobody else may have. Returns its store key.
fn server_secrets(needles: &mut Needles, name: &str, config: &ServerConfig) -> Result<StoreKey> {
    let files = &config.files;
    needles.bytes(format!("signer key of {name}"), &*stkr_node::secrets::read_hex32(&files.signer_key)?);
    let pem = std::fs::read_to_string(&files.tls_key)?;
    for line in pem.lines().filter(|line| line.len() >= 32 && !line.starts_with("-----")) {
        needles.text(format!("TLS key of {name}"), line);
    }
    let password = stkr_node::secrets::read_text(&files.store_password)?;
    needles.text(format!("store password of {name}"), &password);
    let keystore = Keystore::from_json(&std::fs::read_to_string(&files.store_keystore)?)?;
    needles.bytes(format!("store key of {name}"), &keystore.decrypt(&password)?);
    Ok(StoreKey::open(&keystore, &password)?)
}

fn database(config: &ServerConfig) -> Result<Connection> {
    Ok(Connection::open_with_flags(&config.files.database, OpenFlags::SQLITE_OPEN_READ_ONLY)?)
}

/// The database as it lies on the disk, with its journal.
fn database_files(config: &ServerConfig) -> Result<Vec<u8>> {
    let mut bytes = std::fs::read(&config.files.database)?;
    let journal = config.files.database.with_extension("db-wal");
    if journal.is_file() {
        bytes.extend(std::fs::read(journal)?);
    }
    Ok(bytes)
}

#[tokio::test]
async fn no_secret_is_in_anything_that_any_program_says_during_a_whole_ceremony_and_deposit() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut hay, mut needles) = (Haystack::default(), Needles::default());
    needles.text("RPC key", RPC_KEY);
    needles.text("RPC password", RPC_PASSWORD);

    let options = Options { servers: 4, relayers: 0, block_ms: 300, ..Options::new(dir.path()) };
    let mut network = Network::deploy(options).await?;
    let anvil = network.anvil.url.clone();
    network.init_servers().await?;
    network.register_servers().await?;
    network.approve_servers().await?;
    let mut servers = Vec::new();
    for position in 0..network.servers.len() {
        talk(&network.servers[position].config, &anvil)?;
        let config = network.server_config(position)?;
        let store_key = server_secrets(&mut needles, &format!("server {}", position + 1), &config)?;
        servers.push((config, store_key));
    }

    let (pool, duty_key) = people(&network, &mut hay, &mut needles).await?;
    needles.bytes("duty key", duty_key.to_bytes().as_slice());

    // One member is down: the ceremony stops before any dealing, and the others' one-time secrets lie in their databases.
    for position in 1..network.servers.len() {
        network.start_server(position)?;
    }
    network.add_relayer(0).await?;
    network.kill_relayer(0);
    talk(&network.relayers[0].config, &anvil)?;
    network.start_relayer(0)?;
    let gas_key = stkr_node::secrets::read_hex32(&network.relayers[0].dir.join("gas.key"))?;
    needles.bytes("gas key", gas_key.as_slice());
    let key = network.requested_key(pool).await?;
    let row = i64::try_from(key)?;
    let mut sealed_secrets = Vec::new();
    for (position, (config, store_key)) in servers.iter().enumerate().skip(1) {
        let question = "SELECT sealed FROM ceremony WHERE key_id = ?1 AND sealed IS NOT NULL";
        let sealed = || -> Result<Option<Vec<u8>>> {
            Ok(database(config)?.prepare(question)?.query_row([row], |found| found.get(0)).ok())
        };
        network.until("a one-time secret in the database", || async { Ok(sealed()?.is_some()) }).await?;
        let sealed = sealed()?.ok_or_else(|| eyre!("it went away"))?;
        let secret = Sealer::new(store_key).open(key, 0, &sealed)?;
        needles.bytes(format!("one-time secret of server {}", position + 1), &*secret.to_bytes());
        sealed_secrets.push((position, sealed));
    }
    network.start_server(0)?;
    let finalised = network.event::<KeyRegistry::KeyFinalised>(network.deployment.key_registry, key).await?.inner;
    network.event::<Micropools::DepositSent>(network.deployment.micropools, pool).await?;

    // Shares are in the databases, encrypted; the secrets that decrypted them on their way are not, in no form.
    for (index, (id, point)) in (1..).zip(finalised.committee.iter().zip(finalised.points.chunks(128))) {
        let (config, store_key) = &servers[network.position_of(*id)?];
        let question = "SELECT keystore FROM share WHERE key_id = ?1";
        let keystore: String = database(config)?.query_row(question, [row], |found| found.get(0))?;
        let share_key = PublicKey::from_eip2537(point)?;
        let share = store_key.open_share(&Keystore::from_json(&keystore)?, ShareIndex::new(index)?, &share_key)?;
        needles.bytes(format!("share {index}"), share.to_bytes().as_slice());
        let question = "SELECT count(*) FROM ceremony WHERE sealed IS NOT NULL";
        let left: i64 = database(config)?.query_row(question, [], |row| row.get(0))?;
        assert_eq!(left, 0, "server {id} keeps a one-time secret after it acknowledged");
    }
    for (position, (config, _)) in servers.iter().enumerate() {
        let files = database_files(config)?;
        if let Some((_, sealed)) = sealed_secrets.iter().find(|(sealed_by, _)| *sealed_by == position) {
            assert!(!find(&files, sealed), "server {} erased its one-time secret, but not from the disk", position + 1);
        }
        hay.add(format!("the database of server {}", position + 1), files);
    }
    hay.add("the database of the relayer", std::fs::read(network.relayers[0].dir.join("relayer.sqlite"))?);

    ask_everything(&network, &mut hay, key).await?;
    commands(&network, &mut hay, &mut needles, dir.path())?;
    // Errors carry URLs: everybody loses the chain.
    network.anvil.process.kill();
    tokio::time::sleep(Duration::from_secs(3)).await;
    ask_everything(&network, &mut hay, key).await?;
    commands(&network, &mut hay, &mut needles, dir.path())?;

    for (name, folder) in (network.servers.iter().map(|server| ("server", &server.dir)))
        .chain(network.relayers.iter().map(|relayer| ("relayer", &relayer.dir)))
    {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "log" || ending == "out") {
                hay.add(format!("the {name} in {}", path.display()), std::fs::read(&path)?);
            }
        }
    }
    // A haystack in which nothing happened proves nothing.
    for said in ["DEBUG", "deposit signed", "key ceremony advanced", "carrying a ceremony", "\"ready\":true"] {
        assert!(hay.contains(said), "nobody says {said}");
    }
    assert!(hay.contains("/v1/sign") && hay.contains("stkr_") && hay.contains("the chain cannot be read"));
    let leaks = hay.leaks(&needles);
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    Ok(())
}

/// The command line of `stkr`, with secrets in files and in the RPC URL.
fn stkr(network: &Network, args: &[&str]) -> Result<Command> {
    let rpc = network.anvil.url.replace("http://", &format!("http://user:{RPC_PASSWORD}@"));
    let mut command = Command::new(binary("stkr")?);
    command.args(args).env("STKR_RPC", format!("{rpc}/?key={RPC_KEY}"));
    command.env("STKR_DEPLOYMENT", &network.deployment_file);
    Ok(command)
}

/// A provider registers and opens a pool with a keystore, a staker fills it with a key file, all on the command line, once
/// for people and once for programs.
async fn people(network: &Network, hay: &mut Haystack, needles: &mut Needles) -> Result<(u64, PrivateKeySigner)> {
    let dir = &network.options.dir;
    let file = |name: &str, text: &str| -> Result<String> {
        let path = dir.join(name);
        write_secret(&path, text)?;
        Ok(path.display().to_string())
    };
    let duty_key = PrivateKeySigner::random();
    let staker = PrivateKeySigner::random();
    let keystore = file("keystore.json", KEYSTORE)?;
    let password = file("password", KEYSTORE_PASSWORD)?;
    let duty_file = file("duty.key", &duty_key.to_bytes().to_string())?;
    let staker_file = file("staker.key", &staker.to_bytes().to_string())?;
    needles.text("keystore password", KEYSTORE_PASSWORD);
    needles.bytes("key in the keystore", &hex::decode(KEYSTORE_KEY)?);
    needles.bytes("staker's key", staker.to_bytes().as_slice());

    let owner: PrivateKeySigner = KEYSTORE_KEY.parse()?;
    let funded = [owner.address(), staker.address()];
    let (provider, ether) = (network.provider()?, parse_ether("100")?);
    for account in funded {
        stkr_e2e::anvil::fund(&provider, account, ether).await?;
    }

    let by_keystore = ["--keystore", &keystore, "--password-file", &password];
    for (args, more, succeeds) in [
        (vec!["provider", "register", "--duty-key-file", &duty_file], by_keystore.as_slice(), true),
        (vec!["pool", "open", "--json"], &by_keystore, true),
        (vec!["pool", "stake", "1", "16eth"], &["--key-file", &staker_file], true),
        (vec!["pool", "stake", "1", "40eth", "--json"], &["--key-file", &staker_file], false),
        (vec!["pool", "stake", "1", "1eth"], &["--keystore", &keystore, "--password-file", &staker_file], false),
        (vec!["pool", "stake", "1", "16eth", "--json"], &["--key-file", &staker_file], true),
    ] {
        let done = hay.run(stkr(network, &args)?.args(more))?;
        ensure!(
            done == succeeds,
            "{args:?}: {}",
            String::from_utf8_lossy(&hay.0.last().map(|it| it.1.clone()).unwrap_or_default())
        );
    }
    Ok((1, duty_key))
}

/// Every path of every port.
async fn ask_everything(network: &Network, hay: &mut Haystack, key: u64) -> Result<()> {
    let identity = Identity::generate("anybody")?;
    let http = reqwest::Client::builder().timeout(Duration::from_secs(30));
    let http = http.build()?;
    let ceremony = format!("/v1/ceremonies/{key}/0");
    for path in [
        "/",
        "/health",
        "/livez",
        "/readyz",
        "/metrics",
        "/status",
        &ceremony,
        "/v1/evidence",
        "/v1/pools",
        "/v1/keys",
        "/openapi.json",
        "/nowhere",
    ] {
        let said = http.get(format!("{}{path}", network.relayers[0].url)).send().await?.bytes().await?;
        hay.add(format!("the relayer at {path}"), said);
    }
    for (position, server) in network.servers.iter().enumerate() {
        let config = tls::client_config(&identity, network.fingerprint(position)?)?;
        let https =
            reqwest::Client::builder().tls_backend_preconfigured(config).timeout(Duration::from_secs(60)).build()?;
        for path in ["/v1/info", "/livez", "/readyz", "/metrics", "/openapi.json", "/nowhere"] {
            let said = https.get(format!("{}{path}", server.endpoint)).send().await?.bytes().await?;
            hay.add(format!("{} at {path}", server.endpoint), said);
        }
        // Refused before TLS, and logged on the lowest level.
        let said = http.get(server.endpoint.replace("https://", "http://")).send().await?.bytes().await?;
        hay.add(format!("{} in plain HTTP", server.endpoint), said);
        let advance = serde_json::json!({"keyId": key.to_string(), "attempt": "0", "messages": []});
        for (path, body) in [("/v1/ceremonies/advance", advance), ("/v1/sign", serde_json::json!({"requests": [1]}))] {
            let said = https.post(format!("{}{path}", server.endpoint)).json(&body).send().await?.bytes().await?;
            hay.add(format!("{} at {path}", server.endpoint), said);
        }
    }
    Ok(())
}

/// Every command that says something about what it was configured with, and some that fail.
fn commands(network: &Network, hay: &mut Haystack, needles: &mut Needles, dir: &Path) -> Result<()> {
    let account = PrivateKeySigner::random().address().to_string();
    for args in [
        ["pool", "list", "--json"].as_slice(),
        &["pool", "show", "1"],
        &["pool", "show", "77", "--json"],
        &["key", "list"],
        &["key", "show", "1", "--json"],
        &["server", "list"],
        &["position", "list", &account],
        &["watch", "--from", "deployment", "--once", "--json"],
        &["verify-deployment", "--json"],
        &["config", "example"],
    ] {
        hay.run(&mut stkr(network, args)?)?;
    }
    let server = network.servers[0].config.display().to_string();
    let relayer = network.relayers[0].config.display().to_string();
    for (program, args) in [
        ("stkr-server", ["config", "check", "--config", &server].as_slice()),
        ("stkr-server", &["register-args", "--operator", &account, "--config", &server]),
        ("stkr-server", &["run", "--config", &server]),
        ("stkr-relayer", &["config", "check", "--config", &relayer]),
        ("stkr-relayer", &["run", "--config", &relayer]),
        ("stkr-relayer", &["openapi"]),
    ] {
        hay.run(Command::new(binary(program)?).args(args).current_dir(workspace_root()))?;
    }
    // Makes secrets itself; the second time it finds them in its way.
    let spare = dir.join("spare");
    let init = ["init", "--dir", &spare.display().to_string(), "--listen", "127.0.0.1:1"].map(str::to_owned);
    let rest = ["--endpoint", "https://localhost:1", "--rpc", &network.anvil.url, "--rpc", "http://localhost:2"];
    let mut command = Command::new(binary("stkr-server")?);
    command.args(init).args(rest).arg("--deployment").arg(&network.deployment_file);
    hay.run(&mut command)?;
    server_secrets(needles, "a spare server", &stkr_node::config::load(&spare.join("server.toml"))?)?;
    Ok(())
}

// ---- duties

/// Every file below a folder.
fn files_below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files_below(&path, found)? } else { found.push(path) }
    }
    Ok(())
}

/// A vote of the first slot of `epoch`, of the age before Electra.
fn vote(genesis: &Genesis, epoch: u64) -> Value {
    let root = B256::repeat_byte(1);
    let [previous, current] = &genesis.versions;
    json!({
        "type": "ATTESTATION",
        "fork_info": {
            "fork": {"previous_version": previous, "current_version": current, "epoch": "0"},
            "genesis_validators_root": genesis.validators_root,
        },
        "attestation": {
            "slot": (epoch * SLOTS_PER_EPOCH).to_string(), "index": "0", "beacon_block_root": root,
            "source": {"epoch": (epoch - 1).to_string(), "root": root},
            "target": {"epoch": epoch.to_string(), "root": root},
        },
    })
}

#[tokio::test]
async fn a_split_key_is_in_no_file_and_no_secret_of_its_duties_is_in_anything_that_is_said() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut hay, mut needles) = (Haystack::default(), Needles::default());
    needles.text("RPC key", RPC_KEY);
    needles.text("RPC password", RPC_PASSWORD);
    let whole = interop_secret(3)?;
    needles.bytes("the whole key", &whole);
    needles.text("password of the whole key", deal::PASSWORD);

    let options = Options { servers: 4, relayers: 0, block_ms: 300, ..Options::new(dir.path()) };
    let mut network = Network::deploy(options).await?;
    let versions = [GENESIS_FORK_VERSION, "0x01746b72"].map(str::to_owned);
    let genesis = Genesis { validators_root: B256::repeat_byte(7), versions };
    let genesis_time = unix_seconds()? - 800;
    let schedule = dir.path().join("beacon.toml");
    std::fs::write(&schedule, genesis.schedule(genesis_time))?;
    network.beacon_schedule = Some(schedule.clone());
    network.init_servers().await?;
    network.register_servers().await?;
    network.approve_servers().await?;
    let mut gateway = GatewayProcess::init(&network, &dir.path().join("gateway"), &schedule)?;
    let duty_key = stkr_node::secrets::read_hex32(&gateway.dir.join("secrets/duty.key"))?;
    needles.bytes("duty key", duty_key.as_slice());
    let anvil = network.anvil.url.clone();
    let mut servers = Vec::new();
    for position in 0..network.servers.len() {
        talk(&network.servers[position].config, &anvil)?;
        let config = network.server_config(position)?;
        let store_key = server_secrets(&mut needles, &format!("server {}", position + 1), &config)?;
        needles.bytes(
            format!("import secret of server {}", position + 1),
            &*store_key.derive("stkr/server/import-key/v1"),
        );
        servers.push((config, store_key));
    }
    talk(&gateway.config, &anvil)?;
    gateway.without_quiet_period()?;

    let owner = network.account("10").await?;
    let deal = Deal {
        owner: &owner,
        duty_key: gateway.duty_key,
        threshold: 3,
        has_signed: false,
        genesis_validators_root: genesis.validators_root,
        dir: dir.path().join("dealer"),
    };
    let history = deal.make(&network, &[whole])?.display().to_string();
    hay.add("protection import", gateway.command(&["protection", "import", "--file", &history])?);
    for position in 0..network.servers.len() {
        network.start_server(position)?;
    }
    gateway.start()?;
    let pubkey = format!("0x{}", hex::encode(public_key(&whole)?.to_compressed()));
    let expected = vec![pubkey.clone()];
    network.until("the key appears", || async { Ok(gateway.public_keys().await? == expected) }).await?;

    network
        .until("a signature", || async { Ok(gateway.ask(&pubkey, &vote(&genesis, 40)).await?.status == 200) })
        .await?;
    let mut conflict = vote(&genesis, 40);
    conflict["attestation"]["beacon_block_root"] = json!(B256::repeat_byte(2));
    for (request, status) in [(vote(&genesis, 40), 200), (conflict, 412), (json!({"type": "ATTESTATION"}), 400)] {
        let answer = gateway.ask(&pubkey, &request).await?;
        assert_eq!(answer.status, status, "{answer:?}");
        hay.add("the gateway's answer", answer.body.to_string());
    }

    // Each share is in one database, encrypted.
    for (index, (config, store_key)) in (1..).zip(&servers) {
        let question = "SELECT keystore, share_key FROM share WHERE key_id = 1";
        let (keystore, share_key): (String, Vec<u8>) =
            database(config)?.query_row(question, [], |found| Ok((found.get(0)?, found.get(1)?)))?;
        let share_key = PublicKey::from_compressed(&share_key)?;
        let share = store_key.open_share(&Keystore::from_json(&keystore)?, ShareIndex::new(index)?, &share_key)?;
        needles.bytes(format!("share {index}"), share.to_bytes().as_slice());
    }
    ask_gateway(&gateway, &mut hay).await?;
    network.anvil.process.kill();
    tokio::time::sleep(Duration::from_secs(3)).await;
    ask_gateway(&gateway, &mut hay).await?;
    gateway.terminate()?;
    let account = owner.address().to_string();
    for words in [["protection", "status"].as_slice(), &["config", "check"], &["register-args", "--provider", &account]]
    {
        hay.add(format!("stkr-gateway {words:?}"), gateway.command(words)?);
    }

    let mut files = Vec::new();
    files_below(dir.path(), &mut files)?;
    for path in files {
        let is_secret = path.components().any(|part| part.as_os_str() == "secrets")
            || path.ends_with("dealer/owner.key")
            || path.extension().is_some_and(|ending| ending == "toml");
        if !is_secret {
            hay.add(path.display().to_string(), std::fs::read(&path)?);
        }
    }
    for said in ["a dealt key is on the chain", "not signed", "\"ready\":true", "history.json", "share-1.json"] {
        assert!(hay.contains(said) || hay.0.iter().any(|(who, _)| who.ends_with(said)), "nobody says {said}");
    }
    let leaks = hay.leaks(&needles);
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    Ok(())
}

/// Every path of a gateway.
async fn ask_gateway(gateway: &GatewayProcess, hay: &mut Haystack) -> Result<()> {
    for path in [
        "/api/v1/eth2/publicKeys",
        "/upcheck",
        "/healthcheck",
        "/livez",
        "/readyz",
        "/metrics",
        "/v1/requests",
        "/v1/evidence",
        "/openapi.json",
        "/nowhere",
    ] {
        let said = stkr_e2e::network::http().get(format!("{}{path}", gateway.url)).send().await?.bytes().await?;
        hay.add(format!("the gateway at {path}"), said);
    }
    Ok(())
}
