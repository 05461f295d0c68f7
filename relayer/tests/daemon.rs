//! The real binary: its commands, what it refuses, and what it does on a real chain with the real contracts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use alloy::{providers::Provider as _, rpc::types::Filter, signers::local::PrivateKeySigner, sol_types::SolEvent as _};
use common::{Folder, Proxy, chain::Chain, deployment_of, full_pool, register_signer, relayer, six_servers, until};
use rusqlite::Connection;
use serde_json::{Value, json};
use stkr_chain::bindings::Micropools::PoolKeyRequested;
use stkr_chain::{Endpoint, EventLog, FinalReorg, LogOptions, Store};
use stkr_core::ShareIndex;
use stkr_protocol::SignerKey;
use stkr_protocol::evidence::{EvidenceFile, MessagesProof, Proof};
use stkr_protocol::messages::{Body, OneTimeKeyBody, SignedMessage};
use stkr_relayer::picture::Picture;
use stkr_relayer::plan::{Action, Clock, plan};

/// Of a deployment that exists in no chain.
fn deployment() -> Value {
    let address = |byte: u8| format!("0x{}", hex::encode([byte; 20]));
    json!({
        "chainId": 31337,
        "accessManager": address(1),
        "serverRegistry": address(2),
        "providerRegistry": address(3),
        "keyRegistry": address(4),
        "court": address(7),
        "micropools": address(5),
        "depositContract": address(6),
        "genesisForkVersion": "0x53746b72", "genesisValidatorsRoot": "0x0909090909090909090909090909090909090909090909090909090909090909",
        "deployedBlock": 1
    })
}

// -------------------------------------------------------------------- commands

#[test]
fn the_example_with_an_endpoint_written_in_is_a_valid_configuration() {
    let folder = Folder::new(&deployment(), "http://127.0.0.1:1");
    assert_eq!(folder.check(), (0, String::new()));
}

#[test]
fn config_check_says_in_one_sentence_what_is_wrong() {
    let cases: [(&str, &str, &str); 8] = [
        ("poll_ms = 1000", "poll = 1000", "unknown field `poll`"),
        (
            "network = \"devnet\"",
            "network = \"mainnet\"",
            "the deployment is on chain 31337, but network mainnet is chain 1",
        ),
        (
            "network = \"devnet\"",
            "network = \"hoodi\"",
            "the deployment is on chain 31337, but network hoodi is chain 560048",
        ),
        ("deployments/31337.json", "deployments/1.json", "deployments/1.json: cannot be read"),
        ("secrets/gas.key", "secrets/other.key", "secrets/other.key"),
        ("[\"http://127.0.0.1:1\"]", "[]", "there is no RPC endpoint; write at least one"),
        ("\"relayer.sqlite\"", "\"secrets/gas.key\"", "is the file of gas.key_file too"),
        ("\"relayer.sqlite\"", "\"secrets\"", "is a folder, not a regular file"),
    ];
    for (from, to, expected) in cases {
        let folder = Folder::new(&deployment(), "http://127.0.0.1:1");
        folder.edit(from, to);
        let (code, said) = folder.check();
        assert_eq!(code, 2, "{said}");
        assert!(said.starts_with("stkr-relayer: ") && said.contains(expected) && said.lines().count() == 1, "{said}");
        // What the check refuses, the start refuses with the same words.
        assert_eq!(folder.refused_at_start(), (code, said));
    }
}

#[test]
fn config_check_reads_the_deployment_file_and_not_only_its_name() {
    for (field, value, expected) in [
        ("chainId", json!(1), "the deployment is on chain 1, but network devnet is chain 31337"),
        ("micropools", deployment()["keyRegistry"].clone(), "micropools and keyRegistry are both"),
        ("keyRegistry", json!("0x12"), "is not valid"),
    ] {
        let folder = Folder::new(&deployment(), "http://127.0.0.1:1");
        let mut wrong = deployment();
        wrong[field] = value;
        folder.write_deployment(&wrong);
        let (code, said) = folder.check();
        assert!(code == 2 && said.contains(expected) && said.lines().count() == 1, "{code} {said}");
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = relayer(&["completions", shell]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && text.contains("stkr-relayer") && text.contains("exit-with-parent"),
            "{shell}"
        );
    }
    assert_eq!(relayer(&["completions", "cmd.exe"]).status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_the_served_and_the_committed_openapi_document_are_one() {
    let chain = Chain::start().await;
    let running = Folder::on(&chain, &chain.url).await;
    let running = (running.start(), running);
    let printed = relayer(&["openapi"]).stdout;
    let served =
        common::http().get(format!("{}/openapi.json", running.0.url)).send().await.unwrap().text().await.unwrap();
    let committed = include_str!("../../docs/openapi/relayer.json");
    assert!(served.trim() == String::from_utf8(printed).unwrap().trim(), "the binary prints another document");
    assert!(served.trim() == committed.trim(), "run: stkr-relayer openapi > docs/openapi/relayer.json");
}

// -------------------------------------------------------------------- what it refuses at the start

#[tokio::test(flavor = "multi_thread")]
async fn a_second_relayer_on_the_same_database_is_refused_and_the_first_goes_on() {
    let chain = Chain::start().await;
    let folder = Folder::on(&chain, &chain.url).await;
    let running = folder.start();
    let (code, said) = folder.refused_at_start();
    assert!(said.contains("is in use by another process; stop that process first"), "{said}");
    assert_eq!(code, 3, "{said}");
    until("the first relayer is healthy", async || running.get("/status").await["chain"]["head"] != "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_chain_or_contract_than_the_deployment_file_says_is_refused_with_exit_code_4() {
    let chain = Chain::start().await;
    let right = deployment_of(&chain);
    let change = |field: &str, value: Value| {
        let mut changed = right.clone();
        changed[field] = value;
        changed
    };
    let cases = [
        (change("chainId", json!(7)), "serves chain 31337, the deployment file is for chain 7"),
        (change("keyRegistry", json!("0x00000000000000000000000000000000000000aa")), "keyRegistry"),
        (change("keyRegistry", right["accessManager"].clone()), "keyRegistry"),
    ];
    for (mut deployment, expected) in cases {
        if deployment["keyRegistry"] == right["accessManager"] {
            deployment["accessManager"] = right["keyRegistry"].clone();
        }
        let folder = Folder::on(&chain, &chain.url).await;
        folder.edit("network = \"devnet\"", "network = \"custom\"");
        folder.write_deployment(&deployment);
        let (code, said) = folder.refused_at_start();
        assert!(said.starts_with("stkr-relayer: ") && said.contains(expected) && !said.contains('\n'), "{said}");
        assert_eq!(code, 4, "{said}");
        assert!(!folder.dir.path().join("relayer.sqlite").exists(), "nothing may be stored for a wrong chain");
    }
}

// -------------------------------------------------------------------- reorgs

fn event_log(chain: &Chain, endpoint: Endpoint) -> EventLog {
    let connection = Connection::open_in_memory().unwrap();
    stkr_chain::migrate(&connection).unwrap();
    let options = LogOptions { final_reorg: FinalReorg::Follow, ..LogOptions::default() };
    let store = Store::new(Arc::new(Mutex::new(connection)));
    EventLog::open(store, vec![endpoint], chain.deployment.clone(), options).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reorg_took_back_is_forgotten_although_the_endpoint_failed_right_after() {
    let chain = Chain::start().await;
    six_servers(&chain).await;
    let pool = full_pool(&chain).await;
    let anyone = common::chain::wallet(&chain.account().await);
    let stkr = chain.stkr().await;
    stkr.pools().request_key(pool).send_with(&anyone).await.unwrap();
    let proxy = Proxy::start(&chain.url).await;
    let log = event_log(&chain, Endpoint::connect(&proxy.url.parse().unwrap()).await.unwrap());
    log.poll().await.unwrap();
    let mut picture = Picture::default();
    assert!(!picture.fold(&log).unwrap());
    assert_eq!(picture.view.pools[&pool].key_id, Some(1));

    chain.reorg(1).await;
    chain.mine(2).await;
    proxy.set_broken(true);
    log.poll().await.unwrap_err();
    proxy.set_broken(false);
    assert_eq!(
        log.poll().await.unwrap().removed,
        0,
        "the failed poll took the events back, so this one does not say it"
    );
    assert!(picture.fold(&log).unwrap(), "folded from the start");
    assert_eq!(picture.view.pools[&pool].key_id, None);
    assert!(picture.view.keys.is_empty());
    let tip = log.tip().unwrap().unwrap();
    let clock = Clock { head: tip.number, timestamp: tip.timestamp, ..Clock::default() };
    assert_eq!(plan(&picture.view, &clock), vec![Action::RequestKey { pool_id: pool }]);
    let mut fresh = Picture::default();
    fresh.fold(&log).unwrap();
    assert_eq!(picture.view, fresh.view);
}

// -------------------------------------------------------------------- logs

#[tokio::test(flavor = "multi_thread")]
async fn every_field_that_a_relayer_logs_is_in_the_catalogue() {
    let chain = Chain::start().await;
    six_servers(&chain).await;
    let pool = full_pool(&chain).await;
    let proxy = Proxy::start(&chain.url).await;
    let folder = Folder::on(&chain, &proxy.url).await;
    // An endpoint that is down, and everything we can say.
    folder.edit(&format!("[\"{}\"]", proxy.url), &format!("[\"{}\", \"http://127.0.0.1:1\"]", proxy.url));
    folder.edit("filter = \"info\"", "filter = \"trace\"");
    let running = folder.start();
    let status = async || running.get("/status").await;
    let in_block = async || {
        let intents = running.get("/v1/intents").await;
        let asked = intents["intents"]
            .as_array()
            .unwrap()
            .iter()
            .find(|it| it["intent"].as_str().unwrap().starts_with("request_key/"));
        asked.is_some_and(|intent| intent["state"] == "included")
    };
    until("the key is asked for", in_block).await;
    chain.mine(3).await;
    // Its ceremony begins with servers that nobody can reach.
    until("the ceremony is carried", async || !status().await["ceremonies"].as_array().unwrap().is_empty()).await;
    chain.reorg(5).await;
    chain.mine(1).await;
    until("the reorg is seen", async || folder.logged("the chain reorganised; vanished events are taken back")).await;
    until("the transaction is missed", async || folder.logged("a reorg dropped our transaction")).await;
    proxy.set_broken(true);
    chain.mine(1).await;
    until("the endpoint is missed", async || folder.logged("a look at the chain failed")).await;
    proxy.set_broken(false);
    until("all is well again", async || status().await["pools"][0]["keyId"] == "1").await;
    assert_eq!(status().await["pools"][0]["poolId"], pool.to_string());
    drop(running);

    let events = folder.events();
    for message in [
        "stkr-relayer starts",
        "an RPC endpoint cannot be used now and is left out",
        "submitting a transaction",
        "carrying a ceremony",
    ] {
        assert!(folder.logged(message), "not tried: {message}");
    }
    for event in &events {
        assert_eq!(stkr_node::logs::unknown_fields(event), Default::default(), "{event}");
    }
}

// -------------------------------------------------------------------- evidence

#[tokio::test(flavor = "multi_thread")]
async fn evidence_of_a_ceremony_is_taken_of_nobody_who_was_not_drawn_for_it() {
    let chain = Chain::start().await;
    let signers: Vec<PrivateKeySigner> = (0..5).map(|_| PrivateKeySigner::random()).collect();
    for (number, signer) in (1..=5).zip(&signers) {
        // Nobody drew the fifth, who has not been approved.
        register_signer(&chain, signer, (&format!("https://127.0.0.1:{number}"), number), number < 5).await;
    }
    full_pool(&chain).await;
    let folder = Folder::on(&chain, &chain.url).await;
    let running = folder.start();
    until("the key is asked for", async || running.get("/status").await["pools"][0]["keyId"] == "1").await;
    chain.mine(3).await;
    until("four are drawn", async || !running.get("/status").await["ceremonies"].as_array().unwrap().is_empty()).await;

    let domain = chain.deployment.protocol_domain();
    let hand_in = async |signer: &PrivateKeySigner, attempt: u16| {
        let signer = SignerKey::from_bytes(&signer.to_bytes().0).unwrap();
        let [first, second] = [2, 3].map(|byte| {
            let body = Body::OneTimeKey(OneTimeKeyBody { public_key: vec![byte; 33] });
            SignedMessage::sign(&domain, &signer, (1, attempt, ShareIndex::new(1).unwrap()), body)
        });
        let proof = Proof::CeremonyEquivocation(MessagesProof { first, second });
        let file = EvidenceFile::new(&domain, chain.deployment.court, proof);
        let answer = common::http().post(format!("{}/v1/evidence", running.url)).json(&file).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, said) = hand_in(&signers[4], 0).await;
    assert!(status == 503 && said.contains("server 5 was not drawn for attempt 0 of key 1"), "{status} {said}");
    let (status, said) = hand_in(&signers[0], 7).await;
    assert!(status == 503 && said.contains("nobody was drawn for attempt 7 of key 1"), "{status} {said}");
    assert_eq!(hand_in(&signers[0], 0).await, (200, json!({ "kept": true }).to_string()));
}

// -------------------------------------------------------------------- transactions

#[tokio::test(flavor = "multi_thread")]
async fn a_relayer_killed_while_its_transaction_is_in_the_mempool_has_it_included_once() {
    let chain = Chain::start().await;
    six_servers(&chain).await;
    let pool = full_pool(&chain).await;
    let folder = Folder::on(&chain, &chain.url).await;
    common::stop_mining(&chain).await;
    let running = folder.start();
    until("its transaction is in the mempool", async || common::in_mempool(&chain).await == 1).await;
    running.kill();

    let running = folder.start();
    let pending = async |running: &common::Running| {
        let intents = running.get("/v1/intents").await["intents"].clone();
        intents
            .as_array()
            .unwrap()
            .iter()
            .map(|intent| intent["state"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    until("it has looked again", async || running.get("/status").await["chain"]["head"] != "").await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(common::in_mempool(&chain).await, 1, "it sent a second one");
    assert_eq!(pending(&running).await, ["pending"]);
    // Killed again, and this time it is in a block before the relayer is back.
    running.kill();
    chain.mine(1).await;
    let running = folder.start();
    until("it knows its transaction", async || running.get("/status").await["pools"][0]["keyId"] == "1").await;
    until("the intent is included", async || pending(&running).await == ["included"]).await;

    let nonce = chain.provider.get_transaction_count(folder.gas.address()).await.unwrap();
    assert_eq!((nonce, common::in_mempool(&chain).await), (1, 0));
    let requests = Filter::new()
        .address(chain.deployment.micropools)
        .event_signature(PoolKeyRequested::SIGNATURE_HASH)
        .from_block(0);
    let requests = chain.provider.get_logs(&requests).await.unwrap();
    assert_eq!(requests.len(), 1);
    let receipt = chain.provider.get_transaction_receipt(requests[0].transaction_hash.unwrap()).await.unwrap().unwrap();
    assert_eq!((receipt.from, receipt.status()), (folder.gas.address(), true));
    let status = running.get("/status").await;
    assert_eq!(status["intents"].as_array().unwrap().len(), 1, "{status}");
    assert_eq!(status["pools"][0]["poolId"], pool.to_string());
    let errors: Vec<_> = folder.events().into_iter().filter(|event| event["level"] != "INFO").collect();
    assert!(errors.is_empty(), "{errors:?}");
}

// -------------------------------------------------------------------- servers

/// Accepts connections and counts them.
async fn door() -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let knocks = Arc::new(AtomicUsize::new(0));
    let counter = knocks.clone();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    (endpoint, knocks)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_somebody_only_registered_is_not_probed() {
    let chain = Chain::start().await;
    let ((approved, knocks), (registered, none)) = (door().await, door().await);
    // The stranger first: it would be asked no later than the other.
    let stranger = common::register_server(&chain, &registered, 1, false).await;
    common::register_server(&chain, &approved, 2, true).await;
    let folder = Folder::on(&chain, &chain.url).await;
    let running = folder.start();
    until("the approved server is asked", async || knocks.load(Ordering::SeqCst) > 0).await;
    let server = async |id: u32| {
        let servers = running.get("/status").await["servers"].clone();
        servers.as_array().unwrap().iter().find(|server| server["serverId"] == *id.to_string()).cloned().unwrap()
    };
    until("the round is over", async || server(stranger + 1).await["reachable"] == false).await;
    assert_eq!(none.load(Ordering::SeqCst), 0, "anybody could have had a port looked at");
    let stranger = server(stranger).await;
    assert_eq!(
        (&stranger["status"], &stranger["reachable"], &stranger["problem"]),
        (&json!("Registered"), &Value::Null, &Value::Null)
    );
}
