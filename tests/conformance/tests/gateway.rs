//! Every request that a Lodestar 1.5.1 validator client sent to a remote signer gets from a gateway, over HTTP and with the
//! client's own headers, a reply in the form that this client reads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../../gateway/tests/common/mod.rs"]
mod common;

use std::fs;

use common::{Gateway, http};
use serde_json::{Value, json};
use stkr_duties::{ForkSchedule, SigningRequest};
use stkr_protection::Pubkey;

/// The chain of the recording; its newest fork was `newest`.
fn schedule(newest: usize) -> ForkSchedule {
    let names = ["phase0", "altair", "bellatrix", "capella"].into_iter().take(newest + 1).enumerate();
    let fork = |(at, name)| json!({"name": name, "version": format!("0x0{at}000001"), "epoch": 0});
    serde_json::from_value(json!({
        "preset": "minimal",
        "genesis_validators_root": "0x05d79a31a8e69ecd78114c50ce73116be33027d8431b82fff6c0b3cd9c2cbb1f",
        "genesis_time": 0,
        "seconds_per_slot": 2,
        "forks": names.map(fork).collect::<Vec<_>>(),
    }))
    .unwrap()
}

/// Status, content type and body of the reply to what was recorded.
async fn replay(gateway: &Gateway, recorded: &Value) -> (u16, String, String) {
    let path = recorded["path"].as_str().unwrap();
    let method = recorded["method"].as_str().unwrap().parse().unwrap();
    let mut request = http().request(method, format!("{}{path}", gateway.url));
    for name in ["accept", "content-type", "user-agent"] {
        if let Some(value) = recorded["headers"][name].as_str() {
            request = request.header(name, value);
        }
    }
    if recorded["method"] == "POST" {
        request = request.body(recorded["body"].to_string());
    }
    let reply = request.send().await.unwrap();
    let content_type = reply.headers()["content-type"].to_str().unwrap().to_owned();
    (reply.status().as_u16(), content_type, reply.text().await.unwrap())
}

#[tokio::test]
async fn every_recorded_request_gets_a_reply_that_its_client_reads() {
    let Some(folder) = stkr_conformance::vectors("remote-signer-requests").unwrap() else { return };
    let mut recordings = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        recordings.push((name, serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap()));
    }
    recordings.sort_by(|(one, _), (other, _)| one.cmp(other));
    let identifier =
        |recorded: &Value| recorded["path"].as_str()?.strip_prefix("/api/v1/eth2/sign/")?.parse::<Pubkey>().ok();
    let keys: Vec<Pubkey> = recordings.iter().filter_map(|(_, recorded)| identifier(recorded)).collect();
    let (altair, capella) = (Gateway::unread(schedule(1)), Gateway::unread(schedule(3)));
    for gateway in [&altair, &capella] {
        gateway.serve(keys.iter().copied());
    }
    let (mut signed, mut others) = (0, 0);
    for (name, recorded) in &recordings {
        let gateway = if name.contains("CAPELLA") { &capella } else { &altair };
        let (status, content_type, body) = replay(gateway, recorded).await;
        assert_eq!(status, 200, "{name}: {body}");
        if recorded["method"] == "POST" {
            let request = SigningRequest::decode(recorded["body"].to_string().as_bytes(), gateway.schedule.preset());
            let root = request.unwrap().verify(&gateway.schedule).unwrap();
            let signature = hex::encode(gateway.dealer.group_signature(&root.0).to_compressed());
            assert_eq!(
                (content_type.as_str(), body),
                ("application/json", format!("{{\"signature\":\"0x{signature}\"}}"))
            );
            signed += 1;
        } else {
            let list = name.starts_with("GET_publicKeys");
            let listed = serde_json::from_str::<Vec<String>>(&body).is_ok_and(|listed| !listed.is_empty());
            assert!(if list { listed && content_type == "application/json" } else { body == "OK" }, "{name}: {body}");
            others += 1;
        }
    }
    assert_eq!((signed, others), (20, 3));
}
