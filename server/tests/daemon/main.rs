//! The real binary over real sockets, on a real chain with the really deployed contracts: setup, transport, bad input,
//! shutdown, and what it never prints.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../../sdk/tests/common/mod.rs"]
mod chain;
mod deployments;
mod harness;
mod requests;

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use alloy::primitives::{Address, B256};
use chain::{Chain, wallet};
use harness::{
    Made, client, deployment, deployment_of_no_chain, fingerprint, init, refused_start, run, server_on, stkr_server,
};
use stkr_core::Threshold;
use stkr_core::testing::TrustedDealer;
use stkr_sdk::{Registration, ServerKind};
use stkr_server::config::ServerConfig;

const CHAIN_ID: u64 = 31337;
/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:1";
const OPERATOR: &str = "0x00000000000000000000000000000000000000aa";

#[test]
fn init_makes_a_server_whose_registration_arguments_verify_and_never_overwrites_one() {
    let made = init(&deployment_of_no_chain(), NOWHERE);
    let output = stkr_server(&["register-args", "--config", &made.config(), "--operator", OPERATOR]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let field = |name: &str| printed[name].as_str().unwrap().to_owned();
    assert_eq!(field("signer"), made.printed["signer"].as_str().unwrap());
    assert_eq!(field("tlsFingerprint"), made.printed["tlsFingerprint"].as_str().unwrap());
    assert_eq!((field("kind"), field("endpoint")), ("online".to_owned(), "https://127.0.0.1:7443".to_owned()));

    let signer: Address = field("signer").parse().unwrap();
    let proof: [u8; 65] = hex::decode(&field("signerProof")[2..]).unwrap().try_into().unwrap();
    let digest = |operator: Address| {
        let registry = Address::repeat_byte(2);
        stkr_protocol::registration::signer_proof_digest(CHAIN_ID, registry, operator, signer)
    };
    let operator: Address = OPERATOR.parse().unwrap();
    assert_eq!(stkr_protocol::recover_signer(digest(operator), &proof).unwrap(), signer);
    assert_ne!(
        stkr_protocol::recover_signer(digest(Address::ZERO), &proof).ok(),
        Some(signer),
        "for one operator only"
    );

    let again = made.init_again(NOWHERE);
    assert_eq!(again.status.code(), Some(2));
    let unchanged = stkr_server(&["register-args", "--config", &made.config(), "--operator", OPERATOR]);
    assert_eq!(unchanged.stdout, output.stdout);
}

#[test]
fn config_check_accepts_what_init_wrote_and_names_an_unknown_key_and_an_open_secret() {
    let made = init(&deployment_of_no_chain(), NOWHERE);
    let check = || stkr_server(&["config", "check", "--config", &made.config()]);
    assert_eq!(check().status.code(), Some(0), "{}", String::from_utf8_lossy(&check().stderr));

    let signer = made.dir.join("secrets/signer.key");
    std::fs::set_permissions(&signer, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = check();
    assert_eq!(open.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&open.stderr).contains("readable by group or others"));
    std::fs::set_permissions(&signer, std::fs::Permissions::from_mode(0o600)).unwrap();

    made.edit_config("min_endpoints", "min_endpoint");
    let unknown = check();
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("unknown field `min_endpoint`"));
}

#[tokio::test]
async fn a_chain_with_another_id_is_unsafe_and_an_endpoint_that_is_down_is_unavailable() {
    let mut chain = Chain::start_as(1).await;
    let made = server_on(&chain);
    let output = refused_start(&made);
    assert_eq!(output.status.code(), Some(4));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("serves chain 1, the deployment file is for chain 31337"), "{stderr}");

    chain.stop();
    assert_eq!(refused_start(&made).status.code(), Some(3));
}

#[tokio::test]
async fn a_database_of_another_server_is_unsafe_and_a_second_process_on_one_is_refused() {
    let chain = Chain::start().await;
    let (made, other) = (server_on(&chain), server_on(&chain));
    let running = run(&made, &[]);
    let second = refused_start(&made);
    assert_eq!(second.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another process"));
    running.kill();

    std::fs::copy(other.dir.join("server.db"), made.dir.join("server.db")).unwrap();
    // Finalised blocks have the registry, and it knows neither as the other's signer.
    chain.mine(16).await;
    let foreign = refused_start(&made);
    assert_eq!(foreign.status.code(), Some(4), "{}", String::from_utf8_lossy(&foreign.stderr));
    assert!(String::from_utf8_lossy(&foreign.stderr).contains("every server needs its own database"));
}

#[tokio::test]
async fn readiness_names_what_is_missing_and_liveness_does_not_care() {
    let chain = Chain::start().await;
    let made = server_on(&chain);
    let server = run(&made, &[]);
    let client = client(fingerprint(&made));
    let ready = client.get(server.url("/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    let ready: serde_json::Value = ready.json().await.unwrap();
    assert_eq!(ready["reasons"].as_array().unwrap().len(), 1);
    assert_eq!(ready["reasons"][0]["check"], "registered");
    assert_eq!(client.get(server.url("/livez")).send().await.unwrap().status(), 200);
    // Once it has read the registry, and not before.
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let metrics = client.get(server.url("/metrics")).send().await.unwrap().text().await.unwrap();
        if metrics.contains("\nstkr_registered 0\n") {
            break;
        }
        assert!(Instant::now() < until, "{metrics}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let served = client.get(server.url("/openapi.json")).send().await.unwrap().text().await.unwrap();
    assert_eq!(served, stkr_server::api::openapi_json().unwrap());
}

/// An RPC endpoint that passes everything on and whose clock is an hour ahead.
async fn hour_ahead(chain: &Chain) -> String {
    let (url, client) = (chain.url.clone(), reqwest::Client::builder().no_proxy().build().unwrap());
    let pass_on = move |body: axum::body::Bytes| async move {
        let answer = client.post(url).header("content-type", "application/json").body(body).send().await.unwrap();
        let later = std::time::SystemTime::now() + Duration::from_secs(3_600);
        let headers = [("date", httpdate::fmt_http_date(later)), ("content-type", "application/json".to_owned())];
        (headers, answer.bytes().await.unwrap())
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(axum::routing::post(pass_on));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_behind_makes_the_server_unready_and_is_warned_of_once() {
    stkr_node::tls::install_provider().unwrap();
    let chain = Chain::start().await;
    let made = init(&deployment(&chain), &hour_ahead(&chain).await);
    let server = run(&made, &[]);
    let client = client(fingerprint(&made));
    let until = Instant::now() + Duration::from_secs(60);
    let reason = loop {
        let ready: serde_json::Value = client.get(server.url("/readyz")).send().await.unwrap().json().await.unwrap();
        let reasons = ready["reasons"].as_array().unwrap();
        if let Some(clock) = reasons.iter().find(|reason| reason["check"] == "clock") {
            break clock["reason"].as_str().unwrap().to_owned();
        }
        assert!(Instant::now() < until, "{ready}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(reason.contains("behind others'"), "{reason}");
    let metrics = client.get(server.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("stkr_clock_offset_seconds -3"), "{metrics}");
    assert_eq!(server.log().matches("the clock is wrong").count(), 1);
}

#[tokio::test]
async fn what_register_args_prints_registers_the_server_and_a_certificate_that_is_not_registered_is_an_error() {
    let chain = Chain::start().await;
    let made = server_on(&chain);
    let (stkr, operator) = (chain.stkr().await, chain.account().await);
    let args = ["register-args", "--config", &made.config(), "--operator", &operator.address().to_string()];
    let printed: serde_json::Value = serde_json::from_slice(&stkr_server(&args).stdout).unwrap();
    let field = |name: &str| printed[name].as_str().unwrap();
    let registration = Registration {
        signer: field("signer").parse().unwrap(),
        tls_fingerprint: field("tlsFingerprint").parse().unwrap(),
        kind: ServerKind::Online,
        endpoint: field("endpoint").to_owned(),
        signer_proof: field("signerProof").parse().unwrap(),
        bond: stkr.servers().min_bond().await.unwrap(),
    };

    let server = run(&made, &[]);
    let client = client(fingerprint(&made));
    let sent = stkr.servers().register(registration).unwrap().send_with(&wallet(&operator)).await.unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while client.get(server.url("/readyz")).send().await.unwrap().status() != 200 {
        assert!(Instant::now() < until, "a registered server is not ready:\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let info: serde_json::Value = client.get(server.url("/v1/info")).send().await.unwrap().json().await.unwrap();
    assert_eq!(info["serverId"], sent.value.to_string());
    assert!(!server.log().contains("presented certificate is not the registered one"));
    server.kill();

    let another = B256::repeat_byte(8);
    let moved = stkr.servers().set_endpoint(sent.value, another, field("endpoint")).unwrap();
    moved.send_with(&wallet(&operator)).await.unwrap();
    let server = run(&made, &[]);
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let log = server.log();
        if let Some(line) = log.lines().find(|line| line.contains("presented certificate is not the registered one")) {
            assert!(line.contains("\"ERROR\"") && line.contains(&another.to_string()), "{line}");
            break;
        }
        assert!(Instant::now() < until, "nobody can connect and the server does not say so:\n{log}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let ready = client.get(server.url("/readyz")).send().await.unwrap();
        let (status, ready) = (ready.status(), ready.json::<serde_json::Value>().await.unwrap());
        if status == 503 && ready["reasons"][0]["check"] == "certificate" {
            break;
        }
        assert!(Instant::now() < until, "nobody can connect and it is ready: {ready}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn init_leaves_nothing_behind_that_its_next_try_stumbles_over_and_takes_no_key_of_a_provider() {
    let folder = tempfile::tempdir().unwrap();
    let deployment = folder.path().join("deployment.json");
    std::fs::write(&deployment, deployment_of_no_chain().to_string()).unwrap();
    let (dir, config) = (folder.path().join("server"), folder.path().join("later/server.toml"));
    let init = |rpc: &str| {
        let paths = [&dir, &deployment, &config].map(|path| path.to_str().unwrap());
        let output = stkr_server(&[
            "init",
            "--dir",
            paths[0],
            "--deployment",
            paths[1],
            "--config",
            paths[2],
            "--endpoint",
            "https://a:1",
            "--rpc",
            rpc,
            "--min-endpoints",
            "1",
        ]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = init("https://rpc.example/v2/k3y");
    assert!(code == Some(2) && said.contains("--rpc-file") && !said.contains("k3y"), "{said}");
    let (code, said) = init(NOWHERE);
    assert!(code == Some(2) && said.contains("is no folder; make it, then run init again"), "{said}");
    assert!(!dir.exists());
    std::fs::create_dir(folder.path().join("later")).unwrap();
    assert_eq!(init(NOWHERE), (Some(0), String::new()));
}

#[test]
fn config_check_refuses_what_the_program_would_refuse_at_its_start() {
    let made = init(&deployment_of_no_chain(), NOWHERE);
    let check = || {
        let output = stkr_server(&["config", "check", "--config", &made.config()]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check(), (Some(0), String::new()));
    made.edit_config("filter = \"info\"", "filter = \"info,==\"");
    let (code, said) = check();
    assert!(code == Some(2) && said.contains("log.filter"), "{said}");
    made.edit_config("filter = \"info,==\"", "filter = \"info\"");
    let other = init(&deployment_of_no_chain(), NOWHERE);
    let certificate =
        |made: &Made| stkr_node::config::load::<ServerConfig>(made.config().as_ref()).unwrap().files.tls_certificate;
    std::fs::copy(certificate(&other), certificate(&made)).unwrap();
    let (code, said) = check();
    assert!(code == Some(2) && said.contains("files.tls_certificate"), "{said}");
}

/// A pipe to which nobody ever writes: a plain open waits for ever, and the test with it.
fn pipe(path: &std::path::Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap();
}

#[test]
fn config_check_refuses_files_that_are_not_what_they_are_named_as() {
    let made = init(&deployment_of_no_chain(), NOWHERE);
    let check = |expected: &str| {
        let output = stkr_server(&["config", "check", "--config", &made.config()]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(expected), "no {expected}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    };
    pipe(&made.dir.join("pipe"));
    for (from, to, expected) in [
        ("database = \"server.db\"", "database = \"pipe\"", "files.database"),
        ("protection = \"protection.db\"", "protection = \"\"", "is no name of a file"),
        ("protection = \"protection.db\"", "protection = \"secrets\"", "is a folder, not a regular file"),
        ("protection = \"protection.db\"", "protection = \"server.db\"", "is the file of files.database too"),
        (
            "protection = \"protection.db\"",
            "protection = \"./secrets/../server.db\"",
            "is the file of files.database too",
        ),
        ("protection = \"protection.db\"", "protection = \"secrets/tls.key\"", "is the file of files.tls_key too"),
        ("protection = \"protection.db\"", "protection = \"no/protection.db\"", "there is no folder"),
        ("store_keystore = \"secrets/store-key.json\"", "store_keystore = \"secrets/tls.key\"", "gives no store key"),
        ("store_keystore = \"secrets/store-key.json\"", "store_keystore = \"/dev/zero\"", "is a device"),
        (
            "store_password = \"secrets/store-key.password\"",
            "store_password = \"secrets/signer.key\"",
            "gives no store key",
        ),
        ("tls_certificate = \"tls.crt\"", "tls_certificate = \"pipe\"", "it is a pipe"),
        ("signer_key = \"secrets/signer.key\"", "signer_key = \"pipe\"", "is a pipe"),
        ("evidence_rows = 1000000", "evidence_rows = 0", "limits.evidence_rows: write 1 or more"),
    ] {
        made.edit_config(from, to);
        check(expected);
        made.edit_config(to, from);
    }
    for config in [made.dir.join("pipe"), "/dev/zero".into(), made.dir.clone()] {
        let output = stkr_server(&["config", "check", "--config", config.to_str().unwrap()]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains("not a regular file"), "{said}");
    }
}

#[test]
fn a_share_or_history_that_is_a_pipe_is_refused_and_not_waited_for() {
    let made = init(&deployment_of_no_chain(), NOWHERE);
    let (fifo, empty) = (made.dir.join("pipe"), made.dir.join("empty"));
    pipe(&fifo);
    std::fs::write(&empty, "").unwrap();
    for (history, share) in [(&fifo, &empty), (&empty, &fifo)] {
        let output = stkr_server(&[
            "import-share",
            "--config",
            &made.config(),
            "--slashing-history",
            history.to_str().unwrap(),
            share.to_str().unwrap(),
        ]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains("pipe is a pipe, not a regular file"), "{said}");
    }
}

/// Puts a share of key `key_id` into the database of a server that does not run.
fn give_share(made: &Made, key_id: i64) {
    let config = stkr_node::config::load::<ServerConfig>(std::path::Path::new(&made.config())).unwrap();
    let store_key = stkr_server::setup::store_key(&config.files).unwrap();
    let dealt = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [3; 32]);
    let share = &dealt.shares[0];
    let keystore = store_key.seal_share(share).unwrap().to_json().unwrap();
    let points = [share.public_key().to_compressed(), dealt.keys.group_key().to_compressed()];
    let database = rusqlite::Connection::open(&config.files.database).unwrap();
    database
        .execute(
            "INSERT INTO share (key_id, committee_epoch, attempt, deadline, share_index, share_key, group_key, keystore)
                VALUES (?1, 0, 0, 0, 1, ?2, ?3, ?4)",
            (key_id, points[0].to_vec(), points[1].to_vec(), keystore),
        )
        .unwrap();
}

#[tokio::test]
async fn a_chain_that_goes_away_makes_requests_unavailable_and_not_signed() {
    let mut chain = Chain::start().await;
    let made = server_on(&chain);
    run(&made, &[]).kill();
    // It would refuse keys of which it has no share without asking the chain.
    give_share(&made, 1);
    let server = run(&made, &[]);
    let client = client(fingerprint(&made));
    chain.stop();
    let message = stkr_duties::DepositMessage {
        pubkey: [1; 48],
        withdrawal_credentials: alloy::primitives::B256::ZERO,
        amount_gwei: 1_000_000_000,
    };
    let request = stkr_protocol::sign::DepositRequest::new(1, &message, *b"Stkr");
    let batch = stkr_protocol::api::SignBatch { requests: vec![request.clone().into(), request.into()] };
    let replies: serde_json::Value =
        client.post(server.url("/v1/sign")).json(&batch).send().await.unwrap().json().await.unwrap();
    let responses = replies["responses"].as_array().unwrap();
    assert_eq!(responses.len(), 2);
    for response in responses {
        assert_eq!(response["refusal"]["kind"], "unavailable", "{replies}");
    }
}

#[tokio::test]
async fn the_server_ends_with_its_parent_and_on_sigterm_and_then_says_why() {
    let chain = Chain::start().await;
    let made = server_on(&chain);
    assert_eq!(run(&made, &[]).orphan(), Some(0));
    assert_eq!(run(&made, &[]).terminate(), Some(0));
    let log = std::fs::read_to_string(made.folder.path().join("stderr.log")).unwrap();
    assert!(log.contains("ParentGone") && log.contains("Terminated"), "{log}");
}

#[tokio::test]
async fn no_secret_is_in_anything_the_server_ever_prints_and_every_log_field_is_in_the_catalogue() {
    let mut chain = Chain::start().await;
    // Whoever pays for an endpoint has the key in the user part, the query or the path.
    let rpc = chain.url.replace("http://", "http://PLANTED-RPC-USER:PLANTED-RPC-PASSWORD@");
    let made = init(&deployment(&chain), &chain.url);
    let mut outputs = made.printed.to_string();
    // As `Url` writes it.
    let written = format!("{}/", chain.url.trim_end_matches('/'));
    made.edit_config(&written, &format!("{rpc}/?key=PLANTED-RPC-KEY"));
    made.edit_config("filter = \"info\"", "filter = \"trace\"");

    let server = run(&made, &[]);
    let client = client(fingerprint(&made));
    for path in ["/v1/info", "/readyz", "/livez", "/metrics", "/openapi.json", "/nowhere"] {
        outputs += &client.get(server.url(path)).send().await.unwrap().text().await.unwrap();
    }
    for body in ["{", "{\"requests\":[{\"type\":\"DEPOSIT\",\"keyId\":\"PLANTED-BODY\"}]}"] {
        let request = client.post(server.url("/v1/sign")).header("content-type", "application/json").body(body);
        outputs += &request.send().await.unwrap().text().await.unwrap();
    }
    // Anvil has nothing at a path: this one is refused at the start, with an error that names the endpoint.
    made.edit_config("/?key=PLANTED-RPC-KEY", "/v1/PLANTED-RPC-PATH");
    let refused = refused_start(&made);
    assert_eq!(refused.status.code(), Some(3));
    outputs += &String::from_utf8_lossy(&refused.stderr);
    made.edit_config("/v1/PLANTED-RPC-PATH", "/?key=PLANTED-RPC-KEY");

    chain.stop();
    outputs += &String::from_utf8_lossy(&refused_start(&made).stderr);
    let advance = "{\"keyId\":\"1\",\"attempt\":\"0\",\"messages\":[]}";
    let request =
        client.post(server.url("/v1/ceremonies/advance")).header("content-type", "application/json").body(advance);
    outputs += &request.send().await.unwrap().text().await.unwrap();
    let log = server.log();
    server.kill();
    for args in [
        vec!["config", "check", "--config", &made.config()],
        vec!["register-args", "--config", &made.config(), "--operator", OPERATOR],
    ] {
        let output = stkr_server(&args);
        outputs += &String::from_utf8_lossy(&output.stdout);
        outputs += &String::from_utf8_lossy(&output.stderr);
    }

    let secret = |name: &str| std::fs::read_to_string(made.dir.join("secrets").join(name)).unwrap();
    let signer = secret("signer.key").trim().trim_start_matches("0x").to_owned();
    let tls_key = secret("tls.key").lines().nth(1).unwrap().to_owned();
    let keystore: serde_json::Value = serde_json::from_str(&secret("store-key.json")).unwrap();
    let wrapped = keystore["crypto"]["cipher"]["message"].as_str().unwrap().to_owned();
    let password = secret("store-key.password").trim().to_owned();
    for (name, planted) in [
        ("signer key", signer),
        ("TLS key", tls_key),
        ("store key password", password),
        ("wrapped store key", wrapped),
        ("request body", "PLANTED-BODY".to_owned()),
        ("user of an RPC endpoint", "PLANTED-RPC-USER".to_owned()),
        ("password of an RPC endpoint", "PLANTED-RPC-PASSWORD".to_owned()),
        ("key in the query of an RPC endpoint", "PLANTED-RPC-KEY".to_owned()),
        ("key in the path of an RPC endpoint", "PLANTED-RPC-PATH".to_owned()),
    ] {
        assert!(planted.len() >= 12, "{name} is too short to look for");
        assert!(!outputs.contains(&planted), "{name} is in an answer or in command output");
        assert!(!log.contains(&planted), "{name} is in the server's log");
    }

    let mut events = 0;
    for line in log.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        if event["target"].as_str().unwrap().starts_with("stkr") {
            events += 1;
            assert!(stkr_node::logs::unknown_fields(&event).is_empty(), "{line}");
        }
    }
    assert!(events >= 3, "{log}");
}
