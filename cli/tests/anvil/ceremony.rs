//! Whom a ceremony waits for, by the binary: from the chain, the members' own messages, and what a relayer says beside them.

use std::process::Command;

use alloy::signers::local::PrivateKeySigner;
use serde_json::{Value, json};
use stkr_core::{Threshold, testing::TrustedDealer};
use stkr_protocol::messages::{Body, DealingCommitmentBody, Round, SignedMessage};

use crate::{
    common::{
        Chain, ceremony,
        evidence::{domain, signer_key},
        wallet, writes,
    },
    done, refused,
};

/// A full pool, whose key is the second of the chain.
async fn full_pool(chain: &Chain) -> u64 {
    let (pool, stkr, staker) = (chain.open_pool().await, chain.stkr().await, chain.account().await);
    let room = stkr.pools().get(pool).await.unwrap().room();
    stkr.pools().stake(pool, room).unwrap().send_with(&wallet(&staker)).await.unwrap();
    pool
}

/// What a relayer shows: the messages with the times at which they came, and its word on who is silent.
fn shown(key: u64, messages: &[SignedMessage], standing: &Value) -> String {
    let received: Vec<String> = (4_000_000_000_u64..).take(messages.len()).map(|it| it.to_string()).collect();
    let body = json!({ "keyId": key.to_string(), "attempt": "0", "messages": messages, "received": received,
        "standing": standing });
    ceremony::bulletin_with(key, &body)
}

fn standing(round: &str, server: u32) -> Value {
    let waited = json!({ "serverId": server.to_string(), "trouble": "refused", "why": "h:1 refuses\nthe connection",
        "check": "is stkr-server running", "unready": ["clock: 9.0 s ahead of others'"] });
    json!({ "failure": null, "rounds": [{ "round": round, "waitingFor": [waited] }] })
}

/// The rounds with who is waited for in them.
fn waits(info: &Value) -> Vec<(String, Vec<u64>)> {
    let rounds = info["rounds"].as_array().unwrap().iter();
    let of = |round: &Value| {
        let waited = round["waitingFor"].as_array().unwrap().iter();
        (round["round"].as_str().unwrap().to_owned(), waited.map(|it| it["serverId"].as_u64().unwrap()).collect())
    };
    rounds.map(of).filter(|(_, who): &(String, Vec<u64>)| !who.is_empty()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ceremony_is_shown_from_its_request_to_its_end_with_who_is_waited_for_in_each_round() {
    let chain = Chain::start().await;
    let dealer = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [0x5e; 32]);
    let (ids, signers, _) = writes::dealt_committee(&chain, &dealer).await;
    let (stkr, anyone, pool) = (chain.stkr().await, chain.account().await, full_pool(&chain).await);
    let of_pool = pool.to_string();
    let message = refused(&chain, &["ceremony", "show", "--pool", &of_pool]);
    assert_eq!(message, format!("pool {pool} has not asked for its key"));
    let key = stkr.pools().request_key(pool).send_with(&wallet(&anyone)).await.unwrap().value;
    let id = key.to_string();
    let requested = done(&chain, &["ceremony", "show", "--pool", &of_pool]);
    assert_eq!((&requested["keyId"], &requested["state"]), (&json!(key), &json!("requested")), "{requested}");
    assert_eq!((&requested["committee"], &requested["rounds"]), (&json!([]), &json!([])));

    chain.mine(3).await;
    stkr.keys().draw(key).await.unwrap().send_with(&wallet(&anyone)).await.unwrap();
    let committee = stkr.keys().get(key).await.unwrap().committee;
    let signer = |id: &u32| signers[ids.iter().position(|it| it == id).unwrap()].clone();
    let members: Vec<PrivateKeySigner> = committee.iter().map(signer).collect();
    let drawn = done(&chain, &["ceremony", "show", &id]);
    assert_eq!((&drawn["state"], &drawn["committee"][1]["serverId"]), (&json!("running"), &json!(committee[1])));
    assert!(drawn["why"].as_str().unwrap().contains("--relayer"), "{drawn}");
    let (begun, deadline) = (drawn["begun"]["time"].as_u64().unwrap(), drawn["deadline"].as_u64().unwrap());
    assert!(begun > 0 && deadline > begun, "{drawn}");

    let all = ceremony::messages(&chain.deployment, key, &committee, &members);
    for (position, round) in Round::ALL.into_iter().enumerate() {
        // The third member is down in this round, and with it all of the rounds after.
        let before = |it: &&SignedMessage| it.round() < round || (it.round() == round && it.index.get() != 3);
        let said: Vec<SignedMessage> = all.iter().filter(before).cloned().collect();
        let relayer = shown(key, &said, &standing(round.name(), committee[2]));
        let info = done(&chain, &["ceremony", "show", &id, "--relayer", &relayer]);
        assert_eq!(waits(&info), [(round.name().to_owned(), vec![u64::from(committee[2])])], "{info}");
        assert_eq!(info["state"], "stalled", "{info}");
        let waited = &info["rounds"][position]["waitingFor"][0];
        assert_eq!((&waited["member"], &waited["trouble"]), (&json!(3), &json!("refused")));
        assert_eq!(waited["why"], "h:1 refuses the connection", "on one line");
        assert_eq!(
            (&waited["check"], waited["unready"].as_array().unwrap().len()),
            (&json!("is stkr-server running"), 1)
        );
        let since = match position {
            0 => json!(begun),
            before => info["rounds"][before - 1]["complete"].clone(),
        };
        assert!(since.is_u64() && info["rounds"][position]["since"] == since, "{info}");
    }
    let relayer = shown(key, &all, &json!(null));
    let info = done(&chain, &["ceremony", "show", &id, "--relayer", &relayer]);
    assert_eq!((&info["state"], waits(&info)), (&json!("running"), vec![]), "{info}");
    assert!(info["why"].as_str().unwrap().starts_with("every message is there"), "{info}");

    a_relayer_cannot_make_messages_up(&chain, key, (&committee, &members), &all);
    whoever_said_two_things_is_named(&chain, key, (&committee, &members), &all);
    it_is_printed_for_people(&chain, key, &committee, &all);
    a_relayer_that_gives_nothing_is_said_so(&chain, key);

    let suspend = stkr.servers().suspend(committee[3], "moves house");
    suspend.unwrap().send_with(&wallet(&chain.governor)).await.unwrap();
    let info = done(&chain, &["ceremony", "show", &id, "--relayer", &relayer]);
    let who = format!("server {} (member 4) may not take part", committee[3]);
    assert!(info["state"] == "stalled" && info["why"].as_str().unwrap().starts_with(&who), "{info}");

    chain.pass(deadline - begun + 10).await;
    let info = done(&chain, &["ceremony", "show", &id, "--relayer", &shown(key, &all, &json!(null))]);
    assert_eq!(info["state"], "failed", "{info}");
    assert!(info["why"].as_str().unwrap().contains(&format!("stkr key restart {key}")), "{info}");
    let done_key = done(&chain, &["ceremony", "show", "1"]);
    assert_eq!((&done_key["state"], done_key["finalised"]["block"].is_u64()), (&json!("done"), true), "{done_key}");
    let message = refused(&chain, &["ceremony", "show", "77"]);
    assert_eq!(message, "there is no key 77");
    assert_eq!(crate::stkr(&chain, &["ceremony", "show"]).0, 2);
}

type Members<'a> = (&'a [u32], &'a [PrivateKeySigner]);

fn a_relayer_cannot_make_messages_up(
    chain: &Chain,
    key: u64,
    (committee, members): Members<'_>,
    all: &[SignedMessage],
) {
    let forged = |it: &SignedMessage| match (it.round(), it.index.get()) {
        (Round::Acknowledgement, 2) => {
            let (domain, other) = (domain(&chain.deployment), signer_key(&members[0]));
            SignedMessage::sign(&domain, &other, (it.key_id, it.attempt, it.index), it.body.clone())
        }
        _ => it.clone(),
    };
    let messages: Vec<SignedMessage> = all.iter().map(forged).collect();
    let relayer = shown(key, &messages, &json!(null));
    let info = done(chain, &["ceremony", "show", &key.to_string(), "--relayer", &relayer]);
    assert_eq!(waits(&info), [("acknowledgement".to_owned(), vec![u64::from(committee[1])])], "{info}");
}

fn whoever_said_two_things_is_named(chain: &Chain, key: u64, (committee, members): Members<'_>, all: &[SignedMessage]) {
    let (domain, own) = (domain(&chain.deployment), signer_key(&members[1]));
    let body = Body::DealingCommitment(DealingCommitmentBody { dealing_hash: [9; 32].into() });
    let index = all.iter().find(|it| it.index.get() == 2).unwrap().index;
    let twice = [all, &[SignedMessage::sign(&domain, &own, (key, 0, index), body)]].concat();
    let relayer = shown(key, &twice, &json!(null));
    let info = done(chain, &["ceremony", "show", &key.to_string(), "--relayer", &relayer]);
    let who = format!("server {} (member 2) signed two different dealing_commitment messages", committee[1]);
    assert!(info["state"] == "failed" && info["why"].as_str().unwrap().starts_with(&who), "{info}");
}

fn it_is_printed_for_people(chain: &Chain, key: u64, committee: &[u32], all: &[SignedMessage]) {
    let said: Vec<SignedMessage> = all.iter().filter(|it| it.index.get() != 3).cloned().collect();
    let relayer = shown(key, &said, &standing("one_time_key", committee[2]));
    let output = Command::new(env!("CARGO_BIN_EXE_stkr"))
        .args(["ceremony", "show", &key.to_string(), "--relayer", &relayer])
        .env("STKR_RPC", &chain.url)
        .env("STKR_DEPLOYMENT", &chain.deployment_file)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "stalled",
        "one_time_key: 3 of 4 came",
        &format!("waits for      server {} (member 3), operator 0x", committee[2]),
        "because        h:1 refuses the connection",
        "says itself    clock: 9.0 s ahead",
        "check          is stkr-server running",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

fn a_relayer_that_gives_nothing_is_said_so(chain: &Chain, key: u64) {
    let id = key.to_string();
    let message = refused(chain, &["ceremony", "show", &id, "--relayer", "http://127.0.0.1:1"]);
    assert!(message.contains("it does not answer"), "{message}");
    let unknown = ceremony::bulletin_with(key + 1, &json!({}));
    let info = done(chain, &["ceremony", "show", &id, "--relayer", &unknown]);
    assert_eq!((&info["state"], &info["rounds"]), (&json!("running"), &json!([])), "{info}");
    let garbage = ceremony::bulletin_with(key, &json!({ "messages": 7 }));
    let message = refused(chain, &["ceremony", "show", &id, "--relayer", &garbage]);
    assert!(message.contains("its answer is no bulletin"), "{message}");
}
