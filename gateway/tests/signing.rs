//! What a validator client gets from a gateway, whatever its servers do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Behaviour, EPOCH, Gateway, http, until};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use stkr_gateway::api::{Transport, router};
use stkr_gateway::config::HighWatermarkConfig;
use stkr_gateway::store::Table;
use stkr_node::http::{Limits, serve_tls};
use stkr_node::shutdown::{Reason, Shutdown};
use stkr_node::tls::{self, Identity};
use stkr_protocol::evidence::{Accused, EvidenceFile, Fault};
use stkr_protocol::sign::RefusalKind;

fn reason(answer: &Value) -> &str {
    answer["refusal"]["reason"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

#[tokio::test]
async fn a_vote_is_signed_by_the_group_and_answered_as_json_or_text() {
    let gateway = Gateway::start();
    let vote = gateway.vote(EPOCH - 2, EPOCH - 1, 1);
    let answer = gateway.sign(&vote).await;
    gateway.assert_signed(&vote, &answer);
    for (accept, content_type) in [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/plain", "text/plain; charset=utf-8"),
    ] {
        let again = http().post(gateway.sign_url()).header("accept", accept).json(&vote).send().await.unwrap();
        assert_eq!(again.headers()["content-type"], content_type, "{accept}");
        let text = again.text().await.unwrap();
        let signature = answer.1["signature"].as_str().unwrap();
        let expected =
            if accept == "text/plain" { signature.to_owned() } else { format!("{{\"signature\":\"{signature}\"}}") };
        assert_eq!(text, expected);
    }
    // With or without 0x, in any case: as Web3Signer takes identifiers.
    for identifier in [gateway.pubkey.to_string().to_uppercase().replacen("0X", "0x", 1), hex::encode(gateway.pubkey)] {
        let url = format!("{}/api/v1/eth2/sign/{identifier}", gateway.url);
        gateway.assert_signed(&vote, &gateway.post(&url, &vote).await);
    }
}

#[tokio::test]
async fn what_cannot_be_signed_has_its_status_and_a_reason() {
    let gateway = Gateway::start();
    let vote = gateway.vote(EPOCH - 2, EPOCH - 1, 1);
    let other = format!("{}/api/v1/eth2/sign/0x{}", gateway.url, "ab".repeat(48));
    let (status, answer) = gateway.post(&other, &vote).await;
    assert_eq!((status, answer["refusal"]["kind"].as_str()), (404, Some("denied")), "{answer}");
    assert!(reason(&answer).contains(&"ab".repeat(48)), "{answer}");
    let (status, answer) = gateway.post(&format!("{}/api/v1/eth2/sign/%3Cscript%3E", gateway.url), &vote).await;
    assert_eq!(status, 404);
    assert!(reason(&answer).starts_with("script is not a key"), "{answer}");

    let mut other_root = vote.clone();
    other_root["signingRoot"] = json!(format!("0x{}", "11".repeat(32)));
    let mut other_chain = vote.clone();
    other_chain["fork_info"]["genesis_validators_root"] = json!(format!("0x{}", "11".repeat(32)));
    let mut other_fork = vote.clone();
    other_fork["fork_info"]["fork"]["current_version"] = json!("0x99000000");
    let registration = json!({"type": "VALIDATOR_REGISTRATION", "validator_registration": {
        "fee_recipient": format!("0x{}", "22".repeat(20)), "gas_limit": "30000000", "timestamp": "1700000000",
        "pubkey": format!("0x{}", "33".repeat(48)),
    }});
    for (request, expected) in [
        (json!({}), "cannot be read"),
        (json!({"type": "ATTESTATION"}), "cannot be read"),
        (json!({"type": "RECIPE"}), "cannot be read"),
        (other_root, "signing root 0x1111"),
        (other_chain, "genesis validators root"),
        (other_fork, "fork versions"),
        (registration, "registration is for validator 0x3333"),
    ] {
        let (status, answer) = gateway.sign(&request).await;
        assert!(status == 400 && reason(&answer).contains(expected), "{expected}: {status} {answer}");
    }
    let deposit = json!({"type": "DEPOSIT", "deposit": {
        "pubkey": gateway.pubkey, "withdrawal_credentials": format!("0x{}", "44".repeat(32)), "amount": "1000000000",
        "genesis_fork_version": "0x00000042",
    }});
    let (status, answer) = gateway.sign(&deposit).await;
    assert!(
        status == 403 && reason(&answer).contains("DEPOSIT is signed only when the chain has ordered it"),
        "{answer}"
    );

    let post = || http().post(gateway.sign_url()).body(vote.to_string());
    assert_eq!(post().send().await.unwrap().status(), 415);
    let json_body = || post().header("content-type", "application/json");
    assert_eq!(json_body().body("{").send().await.unwrap().status(), 400);
    assert_eq!(json_body().body("x".repeat(1024 * 1024 + 1)).send().await.unwrap().status(), 413);
    let page = json_body().header("origin", "https://page.example").send().await.unwrap();
    assert_eq!(page.status(), 403, "a web page gets no signature");
    assert!(gateway.servers.iter().all(|server| server.calls().is_empty()), "no server was asked");
}

#[tokio::test]
async fn a_conflict_is_refused_and_no_server_ever_sees_it() {
    let gateway = Gateway::start();
    let vote = gateway.vote(EPOCH - 2, EPOCH - 1, 1);
    gateway.assert_signed(&vote, &gateway.sign(&vote).await);
    for (conflict, expected) in [
        (gateway.vote(EPOCH - 2, EPOCH - 1, 2), "double vote"),
        (gateway.vote(EPOCH - 3, EPOCH, 1), "surrounding vote"),
        (gateway.vote(EPOCH - 1, EPOCH + 90, 1), "after the present"),
    ] {
        let (status, answer) = gateway.sign(&conflict).await;
        assert!(status == 412 && reason(&answer).contains(expected), "{expected}: {status} {answer}");
    }
    gateway.assert_signed(&vote, &gateway.sign(&vote).await);
    for server in &gateway.servers {
        assert!(server.roots().len() <= 1, "a server was asked for a conflicting duty");
    }
}

#[tokio::test]
async fn of_many_clients_with_conflicting_votes_exactly_one_is_served() {
    let gateway = Gateway::start();
    let votes: Vec<Value> = (0..40).map(|root| gateway.vote(EPOCH - 2, EPOCH - 1, root)).collect();
    let answers = futures::future::join_all(votes.iter().map(|vote| gateway.sign(vote))).await;
    let served: Vec<usize> = (0..40).filter(|at| answers[*at].0 == 200).collect();
    assert_eq!(served.len(), 1);
    gateway.assert_signed(&votes[served[0]], &answers[served[0]]);
    assert!(answers.iter().filter(|(status, _)| *status == 412).count() == 39);
    for server in &gateway.servers {
        assert!(server.roots().len() <= 1, "a server was asked for two of them");
    }
}

#[tokio::test]
async fn one_dead_server_costs_nothing_and_two_are_named() {
    let gateway = Gateway::start();
    gateway.servers[1].kill().await;
    let vote = gateway.vote(EPOCH - 3, EPOCH - 2, 1);
    gateway.assert_signed(&vote, &gateway.sign(&vote).await);
    gateway.servers[3].kill().await;
    let vote = gateway.vote(EPOCH - 2, EPOCH - 1, 1);
    let (status, answer) = gateway.sign(&vote).await;
    assert_eq!((status, answer["refusal"]["kind"].as_str()), (503, Some("unavailable")), "{answer}");
    let said = reason(&answer);
    assert!(said.starts_with("1 more of the 4 servers must answer (3 sign): server 102 (member 2): "), "{said}");
    assert!(said.contains("; server 104 (member 4): ") && !said.contains("server 101"), "{said}");
}

#[tokio::test]
async fn a_server_that_hangs_is_not_waited_for() {
    let gateway = Gateway::start();
    gateway.servers[0].behave(Behaviour::Hangs);
    for target in [EPOCH - 2, EPOCH - 1] {
        let vote = gateway.vote(target - 1, target, 1);
        gateway.assert_signed(&vote, &gateway.sign(&vote).await);
    }
}

#[tokio::test]
async fn a_wrong_partial_names_its_server_is_kept_and_the_rest_signs() {
    let gateway = Gateway::start();
    gateway.servers[2].behave(Behaviour::OtherShare);
    gateway.servers[3].hold();
    let vote = gateway.vote(EPOCH - 3, EPOCH - 2, 1);
    let signing = gateway.sign(&vote);
    let releasing = async {
        // The wrong one is among the first three: nothing can be combined from them.
        until("the server that is held was asked", async || !gateway.servers[3].calls().is_empty()).await;
        until("three have answered", async || gateway.servers[..3].iter().all(|it| it.calls().len() == 1)).await;
        gateway.servers[3].release();
    };
    let (answer, ()) = futures::join!(signing, releasing);
    gateway.assert_signed(&vote, &answer);
    until("the evidence is kept", async || gateway.get("/v1/evidence").await.1.contains("\"serverId\":\"103\"")).await;
    let rows: Value = serde_json::from_str(&gateway.get("/v1/evidence").await.1).unwrap();
    assert_eq!(rows["rows"].as_array().unwrap().len(), 1);
    assert_eq!(rows["rows"][0]["envelopes"][0]["answer"]["index"], "3");
    assert_eq!(rows["rows"][0]["request"]["type"], "DUTY");
    // Saved as it is, it convicts the server before anybody, without the gateway.
    let file: EvidenceFile = serde_json::from_value(rows["rows"][0]["envelopes"][0]["evidence"].clone()).unwrap();
    file.is_for(&common::DOMAIN, common::COURT).unwrap();
    let verified = file.verify().unwrap();
    assert_eq!(verified.fault, Fault::InvalidPartial);
    assert!(matches!(verified.accused, Accused::Holder { server_id: 103, .. }), "{verified:?}");
    let requests: Value = serde_json::from_str(&gateway.get("/v1/requests").await.1).unwrap();
    assert_eq!(requests["rows"][0]["envelopes"].as_array().unwrap().len(), 3, "the good ones, with their envelopes");
    assert!(gateway.app.signing.suspects.lock().unwrap().contains(&103), "verified first from now on");
    let vote = gateway.vote(EPOCH - 2, EPOCH - 1, 1);
    gateway.assert_signed(&vote, &gateway.sign(&vote).await);
}

#[tokio::test]
async fn a_wrong_partial_is_written_down_before_the_signature_leaves_whoever_stalls() {
    let gateway = Gateway::start();
    // Verified first, as whoever was caught before: its partial is known to be wrong while nobody needs it.
    gateway.app.signing.suspects.lock().unwrap().insert(102);
    gateway.servers[1].behave(Behaviour::OtherShare);
    gateway.servers[3].hold();
    let vote = gateway.vote(EPOCH - 3, EPOCH - 2, 1);
    let signing = gateway.sign(&vote);
    let stalling = async {
        until("the evidence is kept", async || gateway.get("/v1/evidence").await.1.contains("\"serverId\":\"102\""))
            .await;
        gateway.servers[3].release();
    };
    let (answer, ()) = futures::join!(signing, stalling);
    gateway.assert_signed(&vote, &answer);
    until("the request is kept", async || gateway.get("/v1/requests").await.1.contains("\"serverId\":\"104\"")).await;
    let rows: Value = serde_json::from_str(&gateway.get("/v1/evidence").await.1).unwrap();
    assert_eq!(rows["rows"].as_array().unwrap().len(), 1, "one piece of evidence is kept once");
}

#[tokio::test]
async fn refusals_of_too_many_servers_have_the_status_of_their_kind() {
    let gateway = Gateway::start();
    for (kind, expected) in [(RefusalKind::Slashable, 412), (RefusalKind::Denied, 403), (RefusalKind::Unavailable, 503)]
    {
        for server in &gateway.servers[..2] {
            server.behave(Behaviour::Refuses(kind));
        }
        let (status, answer) = gateway.sign(&gateway.vote(EPOCH - 2, EPOCH - 1, 1)).await;
        assert_eq!(status, expected, "{answer}");
        assert!(
            reason(&answer).contains("server 101 (member 1): ") && reason(&answer).contains("it is a test"),
            "{answer}"
        );
        // One alone stops nothing.
        gateway.servers[0].behave(Behaviour::Honest);
        let vote = gateway.vote(EPOCH - 2, EPOCH - 1, 1);
        gateway.assert_signed(&vote, &gateway.sign(&vote).await);
    }
}

#[tokio::test]
async fn what_waits_for_a_server_travels_in_one_call() {
    let gateway = Gateway::start();
    for server in &gateway.servers {
        server.hold();
    }
    let identifier = gateway.pubkey.to_string();
    let duty = |slot: u64| gateway.request("AGGREGATION_SLOT", "aggregation_slot", json!({"slot": slot.to_string()}));
    let duties: Vec<String> = (1..=60).map(|slot| duty(slot).to_string()).collect();
    let sign = |duty: &String| {
        let (app, identifier, duty) = (gateway.app.clone(), identifier.clone(), duty.clone());
        tokio::spawn(async move { app.signing.sign(&identifier, duty.as_bytes()).await })
    };
    let first = sign(&duties[0]);
    until("everybody was asked", async || gateway.servers.iter().all(|it| it.calls().len() == 1)).await;
    let rest = futures::future::join_all(duties[1..].iter().map(sign).collect::<Vec<_>>());
    until("all others wait", async || gateway.waiting().iter().all(|waiting| *waiting == 59)).await;
    for server in &gateway.servers {
        server.release();
    }
    assert!(first.await.unwrap().is_ok() && rest.await.iter().all(|it| matches!(it, Ok(Ok(_)))));
    until("the second call of everybody", async || gateway.servers.iter().all(|it| it.calls().len() > 1)).await;
    for server in &gateway.servers {
        let sizes: Vec<usize> = server.calls().iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 59]);
    }
}

#[tokio::test]
async fn a_batch_answers_each_request_as_if_it_had_come_alone() {
    let gateway = Gateway::start();
    let (good, conflict) = (gateway.vote(EPOCH - 2, EPOCH - 1, 1), gateway.vote(EPOCH - 2, EPOCH - 1, 2));
    gateway.assert_signed(&good, &gateway.sign(&good).await);
    let duty = gateway.request("RANDAO_REVEAL", "randao_reveal", json!({"epoch": "7"}));
    let item = |request: &Value| json!({"identifier": gateway.pubkey, "request": request});
    let mut stranger = item(&good);
    stranger["identifier"] = json!("0x00");
    let batch = json!({"requests": [item(&good), item(&conflict), item(&json!({})), stranger, item(&duty)]});
    let url = format!("{}/api/v1/eth2/sign", gateway.url);
    let (status, answer) = gateway.post(&url, &batch).await;
    assert_eq!(status, 200, "{answer}");
    let replies = answer["responses"].as_array().unwrap();
    gateway.assert_signed(&good, &(200, replies[0].clone()));
    gateway.assert_signed(&duty, &(200, replies[4].clone()));
    let statuses: Vec<_> = replies[1..4].iter().map(|reply| reply["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [412, 400, 404]);
    assert!(replies[1]["refusal"]["reason"].as_str().unwrap().contains("double vote"));
    let many = json!({"requests": vec![json!({"identifier": "0x00", "request": {}}); 257]});
    assert_eq!(gateway.post(&url, &many).await.0, 400);
}

#[tokio::test]
async fn keys_come_and_go_and_before_the_chain_was_read_nothing_is_claimed() {
    let gateway = Gateway::unread(common::schedule());
    assert_eq!(gateway.get("/api/v1/eth2/publicKeys").await.0, 503, "no key is known, which is not: there is no key");
    assert_eq!(gateway.get("/readyz").await.0, 503);
    let vote = gateway.vote(EPOCH - 2, EPOCH - 1, 1);
    assert_eq!(gateway.sign(&vote).await.0, 503);
    gateway.serve([gateway.pubkey]);
    let list = format!("[\"{}\"]", gateway.pubkey);
    assert_eq!(gateway.get("/api/v1/eth2/publicKeys").await, (200, list));
    assert_eq!(gateway.get("/readyz").await.0, 200);
    gateway.assert_signed(&vote, &gateway.sign(&vote).await);
    gateway.serve([]);
    assert_eq!(gateway.get("/api/v1/eth2/publicKeys").await, (200, "[]".to_owned()));
    assert_eq!(gateway.sign(&vote).await.0, 404);
    // A key that left the history's care is not signed for, even if it were still found.
    gateway.serve([gateway.pubkey]);
    gateway.app.protection.deactivate(&[gateway.pubkey]).unwrap();
    let (status, answer) = gateway.sign(&vote).await;
    assert!(status == 503 && reason(&answer).contains("deactivated"), "{status} {answer}");
}

#[tokio::test]
async fn a_validator_client_without_a_certificate_may_come_over_tls() {
    let gateway = Gateway::start();
    let identity = Identity::generate("localhost").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url =
        format!("https://localhost:{}/api/v1/eth2/sign/{}", listener.local_addr().unwrap().port(), gateway.pubkey);
    let (stop, app, config) = (Shutdown::default(), gateway.app.clone(), tls::open_server_config(&identity).unwrap());
    let ending = stop.clone();
    tokio::spawn(async move {
        let metrics = app.signing.metrics.registry.clone();
        serve_tls(listener, router(app, Transport::Tls), config, &metrics, Limits::default(), ending).await
    });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(identity.certificate_der().to_vec().into()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let client = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
    let client = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(client).build().unwrap();
    let vote = gateway.vote(EPOCH - 2, EPOCH - 1, 1);
    match client.post(&url).json(&vote).send().await {
        Ok(answer) => {
            let answer = (answer.status().as_u16(), answer.json().await.unwrap());
            gateway.assert_signed(&vote, &answer);
        }
        Err(error) => panic!("{error:?}"),
    }
    stop.trigger(Reason::Internal);
}

#[tokio::test]
async fn status_paths_answer_as_web3signer_does() {
    let gateway = Gateway::start();
    assert_eq!(gateway.get("/upcheck").await, (200, "OK".to_owned()));
    let url = format!("{}/upcheck", gateway.url);
    let asked = http().get(url).header("accept", "application/json").send().await.unwrap();
    assert_eq!(asked.text().await.unwrap(), "{\"status\":\"OK\"}");
    let (status, health) = gateway.get("/healthcheck").await;
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!((status, &health["status"], &health["outcome"]), (200, &json!("UP"), &json!("UP")));
    assert_eq!(gateway.get("/livez").await, (200, "ok".to_owned()));
    assert_eq!(gateway.get("/reload").await, (200, "{\"status\":\"idle\"}".to_owned()));
    let (status, reload) = gateway.post(&format!("{}/reload", gateway.url), &json!({})).await;
    assert_eq!((status, &reload["status"]), (202, &json!("running")));
    let vote = gateway.vote(EPOCH - 2, EPOCH - 1, 1);
    gateway.assert_signed(&vote, &gateway.sign(&vote).await);
    let metrics = gateway.get("/metrics").await.1;
    assert!(metrics.contains("stkr_gateway_requests_total{duty=\"ATTESTATION\",outcome=\"signed\"} 1"), "{metrics}");
    let described: Value = serde_json::from_str(&gateway.get("/openapi.json").await.1).unwrap();
    assert!(described["paths"]["/api/v1/eth2/sign/{identifier}"]["post"].is_object());
}

#[tokio::test]
async fn in_its_quiet_period_a_key_signs_what_has_no_slot_and_records_nothing() {
    let gateway = Gateway::start();
    gateway.app.signing.quiet.forget(&gateway.pubkey);
    let vote = gateway.vote(EPOCH - 2, EPOCH - 1, 1);
    let slot = ((EPOCH - 1) * 32).to_string();
    let selection = gateway.request("AGGREGATION_SLOT", "aggregation_slot", json!({"slot": slot}));
    let root = format!("0x{}", "11".repeat(32));
    let message = json!({"beacon_block_root": root, "slot": slot});
    let sync = gateway.request("SYNC_COMMITTEE_MESSAGE", "sync_committee_message", message);
    for request in [&vote, &selection, &sync] {
        let (status, answer) = gateway.sign(request).await;
        assert_eq!((status, answer["refusal"]["kind"].as_str()), (503, Some("unavailable")), "{answer}");
        assert!(reason(&answer).contains("signs nothing for it until"), "{answer}");
    }
    assert_eq!(gateway.app.protection.key(&gateway.pubkey).unwrap().unwrap().high.epochs, None);
    assert!(gateway.servers.iter().all(|server| server.calls().is_empty()), "the duty key signed something");
    let answer = http().post(gateway.sign_url()).json(&vote).send().await.unwrap();
    assert_eq!(answer.headers()["retry-after"], (2 * 32 * 12).to_string().as_str());
    let reveal = gateway.request("RANDAO_REVEAL", "randao_reveal", json!({"epoch": EPOCH.to_string()}));
    gateway.assert_signed(&reveal, &gateway.sign(&reveal).await);
    gateway.app.signing.quiet.clear(gateway.pubkey);
    gateway.assert_signed(&vote, &gateway.sign(&vote).await);
}

#[tokio::test]
async fn a_vote_for_a_slot_to_come_is_refused_and_does_not_cost_the_one_that_is_due() {
    let gateway = Gateway::start();
    let mut early = gateway.vote(EPOCH - 1, EPOCH, 1);
    early["attestation"]["slot"] = json!((EPOCH * 32 + 31).to_string());
    let (status, answer) = gateway.sign(&early).await;
    assert!(status == 403 && reason(&answer).contains("which is of the future"), "{answer}");
    let due = gateway.vote(EPOCH - 1, EPOCH, 2);
    gateway.assert_signed(&due, &gateway.sign(&due).await);
}

#[tokio::test]
async fn nothing_is_signed_at_or_beyond_the_high_watermark() {
    let mark = HighWatermarkConfig { epoch: Some(EPOCH - 1), slot: Some((EPOCH - 1) * 32) };
    let gateway = Gateway::stopping_at(mark);
    let (status, answer) = gateway.get("/api/v1/eth2/highWatermark").await;
    let mark = json!({"epoch": (EPOCH - 1).to_string(), "slot": ((EPOCH - 1) * 32).to_string()});
    assert_eq!((status, serde_json::from_str(&answer).ok()), (200, Some(mark)), "{answer}");
    let (status, answer) = gateway.sign(&gateway.vote(EPOCH - 2, EPOCH - 1, 1)).await;
    assert!(status == 412 && reason(&answer).contains("beyond the high watermark"), "{answer}");
    let block = json!({"version": "FULU", "block_header": {
        "slot": ((EPOCH - 1) * 32).to_string(), "proposer_index": "1", "parent_root": format!("0x{}", "11".repeat(32)),
        "state_root": format!("0x{}", "11".repeat(32)), "body_root": format!("0x{}", "11".repeat(32)),
    }});
    let (status, answer) = gateway.sign(&gateway.request("BLOCK_V2", "beacon_block", block)).await;
    assert!(status == 412 && reason(&answer).contains("beyond the high watermark"), "{answer}");
    let before = gateway.vote(EPOCH - 3, EPOCH - 2, 1);
    gateway.assert_signed(&before, &gateway.sign(&before).await);
    let (_, none) = Gateway::start().get("/api/v1/eth2/highWatermark").await;
    assert_eq!(none, "{}");
}

#[tokio::test]
async fn a_path_that_is_no_text_is_answered_as_every_error() {
    let gateway = Gateway::start();
    let url = format!("{}/api/v1/eth2/sign/%ff%fe", gateway.url);
    let (status, answer) = gateway.post(&url, &gateway.vote(EPOCH - 2, EPOCH - 1, 1)).await;
    assert!(status == 404 && reason(&answer).contains("not a key that the chain assigns"), "{status} {answer}");
    assert_eq!(answer["refusal"]["kind"], json!("denied"));
}

#[tokio::test]
async fn over_plain_http_a_name_that_a_web_page_could_bring_here_is_refused_on_every_path() {
    let gateway = Gateway::start();
    let address = gateway.url.trim_start_matches("http://");
    let port = address.rsplit_once(':').unwrap().1;
    let vote = gateway.vote(EPOCH - 2, EPOCH - 1, 1);
    for path in ["/api/v1/eth2/publicKeys", "/v1/requests", "/metrics", "/upcheck", "/readyz"] {
        let get = |host: String| http().get(format!("{}{path}", gateway.url)).header("host", host).send();
        let answer = get(format!("evil.example:{port}")).await.unwrap();
        assert_eq!(answer.status().as_u16(), 403, "{path}");
        let answer: Value = answer.json().await.unwrap();
        assert!(reason(&answer).contains("a name that is not this machine's"), "{answer}");
        for host in [format!("localhost:{port}"), address.to_owned()] {
            assert_ne!(get(host.clone()).await.unwrap().status().as_u16(), 403, "{path} {host}");
        }
    }
    let asked = http().post(gateway.sign_url()).header("host", "evil.example").json(&vote).send().await.unwrap();
    assert_eq!(asked.status().as_u16(), 403);
    assert!(gateway.servers.iter().all(|server| server.calls().is_empty()), "nothing was asked for");
}

#[tokio::test]
async fn at_the_end_late_answers_are_waited_for_and_kept_but_not_for_ever() {
    let gateway = Gateway::start();
    gateway.servers[3].hold();
    let vote = gateway.vote(EPOCH - 2, EPOCH - 1, 1);
    gateway.assert_signed(&vote, &gateway.sign(&vote).await);
    let signing = gateway.app.signing.clone();
    let end = tokio::spawn(async move { signing.end(Duration::from_secs(60)).await });
    until("the fourth server was asked", async || gateway.servers[3].calls().len() == 1).await;
    // Long enough for one that does not wait to be over.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!end.is_finished(), "an answer is under way");
    gateway.servers[3].release();
    end.await.unwrap();
    let kept = gateway.app.store.page(Table::Requests, 0, 10).unwrap();
    let answers = kept[0].envelopes.as_array().map(Vec::len);
    assert_eq!((kept.len(), answers), (1, Some(4)), "the late one is there");

    gateway.servers[3].behave(Behaviour::Hangs);
    let next = gateway.vote(EPOCH - 1, EPOCH, 1);
    gateway.assert_signed(&next, &gateway.sign(&next).await);
    // It never answers, and its connection is patient.
    gateway.app.signing.end(Duration::from_millis(50)).await;
}
