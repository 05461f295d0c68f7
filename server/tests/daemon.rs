//! The real binary over real sockets: setup, transport, bad input, shutdown, and what it never prints.

mod common;

use std::os::unix::fs::PermissionsExt as _;

use alloy::primitives::Address;
use common::{EmptyChain, client, fingerprint, init, run, stkr_server};
use stkr_node::http::{MAX_BODY_BYTES, ProblemBody};
use stkr_node::tls::{Fingerprint, HandshakeFault, handshake_fault};

const CHAIN_ID: u64 = 31337;
const OPERATOR: &str = "0x00000000000000000000000000000000000000aa";

#[test]
fn init_makes_a_server_whose_registration_arguments_verify_and_never_overwrites_one() {
    let made = init("http://127.0.0.1:1");
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

    let again = stkr_server(&[
        "init",
        "--dir",
        made.dir.to_str().unwrap(),
        "--deployment",
        made.folder.path().join("31337.json").to_str().unwrap(),
        "--endpoint",
        "https://127.0.0.1:7443",
        "--rpc",
        "http://127.0.0.1:1",
        "--min-endpoints",
        "1",
    ]);
    assert_eq!(again.status.code(), Some(2));
    let unchanged = stkr_server(&["register-args", "--config", &made.config(), "--operator", OPERATOR]);
    assert_eq!(unchanged.stdout, output.stdout);
}

#[test]
fn config_check_accepts_what_init_wrote_and_names_an_unknown_key_and_an_open_secret() {
    let made = init("http://127.0.0.1:1");
    let check = || stkr_server(&["config", "check", "--config", &made.config()]);
    assert_eq!(check().status.code(), Some(0), "{}", String::from_utf8_lossy(&check().stderr));

    let signer = made.dir.join("secrets/signer.key");
    std::fs::set_permissions(&signer, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = check();
    assert_eq!(open.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&open.stderr).contains("readable by group or others"));
    std::fs::set_permissions(&signer, std::fs::Permissions::from_mode(0o600)).unwrap();

    let text = std::fs::read_to_string(made.config()).unwrap();
    std::fs::write(made.config(), text.replace("min_endpoints", "min_endpoint")).unwrap();
    let unknown = check();
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("unknown field `min_endpoint`"));
}

#[test]
fn a_chain_with_another_id_is_unsafe_and_an_endpoint_that_is_down_is_unavailable() {
    let chain = EmptyChain::start(1);
    let made = init(&chain.url);
    let output = stkr_server(&["run", "--config", &made.config()]);
    assert_eq!(output.status.code(), Some(4));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("serves chain 1, the deployment file is for chain 31337"), "{stderr}");

    let made = init("http://127.0.0.1:1");
    assert_eq!(stkr_server(&["run", "--config", &made.config()]).status.code(), Some(3));
}

#[test]
fn a_database_of_another_server_is_unsafe_and_a_second_process_on_one_is_refused() {
    let chain = EmptyChain::start(CHAIN_ID);
    let (made, other) = (init(&chain.url), init(&chain.url));
    let running = run(&made, &[]);
    let second = stkr_server(&["run", "--config", &made.config()]);
    assert_eq!(second.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another process"));
    running.kill();

    std::fs::copy(other.dir.join("server.db"), made.dir.join("server.db")).unwrap();
    let foreign = stkr_server(&["run", "--config", &made.config()]);
    assert_eq!(foreign.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&foreign.stderr).contains("every server needs its own database"));
}

#[tokio::test]
async fn bad_requests_get_their_status_and_a_reason_and_the_server_goes_on() {
    let chain = EmptyChain::start(CHAIN_ID);
    let made = init(&chain.url);
    let server = run(&made, &[]);
    let client = client(fingerprint(&made));
    let post = async |path: &str, body: String| {
        let request = client.post(server.url(path)).header("content-type", "application/json").body(body);
        let response = request.send().await.unwrap();
        assert_eq!(response.version(), reqwest::Version::HTTP_2);
        let status = response.status().as_u16();
        let problem: ProblemBody = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert!(!problem.refusal.what_to_do.is_empty());
        (status, problem.refusal.reason)
    };
    for path in ["/v1/sign", "/v1/ceremonies/advance"] {
        assert_eq!(post(path, " ".repeat(MAX_BODY_BYTES + 1)).await.0, 413);
        let (status, reason) = post(path, "{".to_owned()).await;
        assert!(status == 400 && reason.contains("ends before its JSON does"), "{reason}");
        let (status, reason) = post(path, "not json".to_owned()).await;
        assert!(status == 400 && reason.contains("is not JSON"), "{reason}");
        let (status, reason) = post(path, "{\"surprise\":1}".to_owned()).await;
        assert!(status == 400 && reason.contains("unknown field surprise"), "{reason}");
    }
    let (status, reason) =
        post("/v1/sign", "{\"requests\":[{\"type\":\"VOLUNTARY_EXIT\",\"keyId\":\"1\"}]}".to_owned()).await;
    assert!(status == 400 && reason.contains("VOLUNTARY_EXIT"), "{reason}");
    let (status, reason) =
        post("/v1/ceremonies/advance", "{\"keyId\":\"1\",\"attempt\":\"0\",\"messages\":[]}".to_owned()).await;
    assert!(status == 404 && reason.contains("no key 1"), "{status} {reason}");

    let info: serde_json::Value = client.get(server.url("/v1/info")).send().await.unwrap().json().await.unwrap();
    assert_eq!(
        info["signer"].as_str().unwrap().to_lowercase(),
        made.printed["signer"].as_str().unwrap().to_lowercase()
    );
    assert_eq!((&info["serverId"], &info["chainId"]), (&serde_json::Value::Null, &"31337".into()));
}

#[tokio::test]
async fn a_server_with_another_fingerprint_is_not_talked_to() {
    let chain = EmptyChain::start(CHAIN_ID);
    let made = init(&chain.url);
    let server = run(&made, &[]);
    let expected = Fingerprint([7; 32]);
    let error = client(expected).get(server.url("/v1/info")).send().await.unwrap_err();
    let presented = fingerprint(&made);
    assert_eq!(handshake_fault(&error), Some(HandshakeFault::WrongFingerprint { expected, presented }));
}

#[test]
fn openssl_gets_through_with_tls_1_3_only() {
    let chain = EmptyChain::start(CHAIN_ID);
    let made = init(&chain.url);
    let server = run(&made, &[]);
    let connect = |version: &str| {
        let output = std::process::Command::new("openssl")
            .args(["s_client", version, "-connect", &server.address.to_string()])
            .args(["-cert", made.dir.join("tls.crt").to_str().unwrap()])
            .args(["-key", made.dir.join("secrets/tls.key").to_str().unwrap()])
            .stdin(std::process::Stdio::null())
            .output();
        match output {
            Ok(output) => {
                Some([output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat())
            }
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "openssl is needed here: {error}");
                eprintln!("NOT RUN: openssl is not installed");
                None
            }
        }
    };
    let (Some(new), Some(old)) = (connect("-tls1_3"), connect("-tls1_2")) else {
        return;
    };
    assert!(new.contains("TLSv1.3") && new.contains("Server certificate"), "{new}");
    assert!(old.contains("alert protocol version") && !old.contains("Server certificate\n---"), "{old}");
}

#[tokio::test]
async fn readiness_names_what_is_missing_and_liveness_does_not_care() {
    let chain = EmptyChain::start(CHAIN_ID);
    let made = init(&chain.url);
    let server = run(&made, &[]);
    let client = client(fingerprint(&made));
    let ready = client.get(server.url("/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    let ready: serde_json::Value = ready.json().await.unwrap();
    assert_eq!(ready["reasons"].as_array().unwrap().len(), 1);
    assert_eq!(ready["reasons"][0]["check"], "registered");
    assert_eq!(client.get(server.url("/livez")).send().await.unwrap().status(), 200);
    let metrics = client.get(server.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("stkr_registered 0"), "{metrics}");
    let served = client.get(server.url("/openapi.json")).send().await.unwrap().text().await.unwrap();
    assert_eq!(served, stkr_server::api::openapi_json().unwrap());
}

#[tokio::test]
async fn a_client_that_sends_too_much_is_told_to_wait_and_another_one_is_served() {
    let chain = EmptyChain::start(CHAIN_ID);
    let made = init(&chain.url);
    let text = std::fs::read_to_string(made.config()).unwrap();
    let text = text.replace("burst = 200", "burst = 3").replace("requests_per_second = 50", "requests_per_second = 1");
    std::fs::write(made.config(), text).unwrap();
    let server = run(&made, &[]);
    let (greedy, modest) = (client(fingerprint(&made)), client(fingerprint(&made)));
    let mut last = None;
    for _ in 0..20 {
        let response = greedy.get(server.url("/v1/info")).send().await.unwrap();
        last = Some((response.status().as_u16(), response.headers().contains_key("retry-after")));
    }
    assert_eq!(last, Some((429, true)));
    assert_eq!(modest.get(server.url("/v1/info")).send().await.unwrap().status(), 200);
    assert_eq!(greedy.get(server.url("/livez")).send().await.unwrap().status(), 200, "probes are not limited");
}

#[tokio::test]
async fn a_chain_that_goes_away_makes_requests_unavailable_and_not_signed() {
    let chain = EmptyChain::start(CHAIN_ID);
    let made = init(&chain.url);
    let server = run(&made, &[]);
    let client = client(fingerprint(&made));
    chain.stop();
    let message = stkr_duties::DepositMessage {
        pubkey: [1; 48],
        withdrawal_credentials: alloy::primitives::B256::ZERO,
        amount_gwei: 1_000_000_000,
    };
    let request = stkr_protocol::sign::SignRequest::deposit(1, &message, *b"Stkr");
    let batch = stkr_protocol::api::SignBatch { requests: vec![request.clone(), request] };
    let replies: serde_json::Value =
        client.post(server.url("/v1/sign")).json(&batch).send().await.unwrap().json().await.unwrap();
    let responses = replies["responses"].as_array().unwrap();
    assert_eq!(responses.len(), 2);
    for response in responses {
        assert_eq!(response["refusal"]["kind"], "unavailable", "{replies}");
    }
}

#[test]
fn the_server_ends_with_its_parent_and_on_sigterm_and_then_says_why() {
    let chain = EmptyChain::start(CHAIN_ID);
    let made = init(&chain.url);
    assert_eq!(run(&made, &[]).orphan(), Some(0));
    assert_eq!(run(&made, &[]).terminate(), Some(0));
    let log = std::fs::read_to_string(made.folder.path().join("stderr.log")).unwrap();
    assert!(log.contains("ParentGone") && log.contains("Terminated"), "{log}");
}

#[tokio::test]
async fn no_secret_is_in_anything_the_server_ever_prints_and_every_log_field_is_in_the_catalogue() {
    let chain = EmptyChain::start(CHAIN_ID);
    let made = init(&format!("{}/v1/PLANTED-RPC-KEY", chain.url));
    let mut outputs = made.printed.to_string();
    let text = std::fs::read_to_string(made.config()).unwrap();
    std::fs::write(made.config(), text.replace("filter = \"info\"", "filter = \"trace\"")).unwrap();

    let server = run(&made, &[]);
    let client = client(fingerprint(&made));
    for path in ["/v1/info", "/readyz", "/livez", "/metrics", "/openapi.json", "/nowhere"] {
        outputs += &client.get(server.url(path)).send().await.unwrap().text().await.unwrap();
    }
    for body in ["{", "{\"requests\":[{\"type\":\"DEPOSIT\",\"keyId\":\"PLANTED-BODY\"}]}"] {
        let request = client.post(server.url("/v1/sign")).header("content-type", "application/json").body(body);
        outputs += &request.send().await.unwrap().text().await.unwrap();
    }
    chain.stop();
    let advance = "{\"keyId\":\"1\",\"attempt\":\"0\",\"messages\":[]}";
    let request =
        client.post(server.url("/v1/ceremonies/advance")).header("content-type", "application/json").body(advance);
    outputs += &request.send().await.unwrap().text().await.unwrap();
    let log = server.log();
    server.kill();
    for args in [
        vec!["config", "check", "--config", &made.config()],
        vec!["register-args", "--config", &made.config(), "--operator", OPERATOR],
        vec!["run", "--config", &made.config()],
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
        ("RPC key", "PLANTED-RPC-KEY".to_owned()),
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
