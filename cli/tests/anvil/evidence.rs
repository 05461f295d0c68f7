//! Reports by the binary, from accounts that have nothing to do with the accused.

use std::path::Path;

use alloy::{
    primitives::{B256, U256},
    providers::Provider as _,
};
use serde_json::json;
use stkr_core::{Threshold, testing::TrustedDealer};
use stkr_protocol::evidence::EvidenceFile;

use crate::{
    common::{Chain, evidence::Accused, writes},
    done, key_file, stkr,
};

fn write(folder: &Path, name: &str, file: &EvidenceFile) -> String {
    let path = folder.join(name);
    std::fs::write(&path, serde_json::to_vec(file).unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_file_is_judged_submitted_followed_until_final_and_shown_in_the_servers_history() {
    let chain = Chain::start().await;
    let folder = tempfile::tempdir().unwrap();
    let dealer = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [0x5e; 32]);
    let (committee, signers, key) = writes::dealt_committee(&chain, &dealer).await;
    let accused = Accused { key, dealer: &dealer, committee: committee.clone(), signers };
    let (stranger, copier) = (chain.account().await, chain.account().await);
    let stranger_key = key_file(folder.path(), "stranger", &stranger);
    let copier_key = key_file(folder.path(), "copier", &copier);
    let culprit = committee[1].to_string();
    assert_eq!(done(&chain, &["server", "history", &culprit]), json!([]));

    // A finality needs blocks.
    let mined = chain.provider.clone();
    let miner = tokio::spawn(async move {
        loop {
            let _: serde_json::Value = mined.raw_request("anvil_mine".into(), json!([U256::from(4)])).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
    });
    let file = accused.wrong_partial(&chain.deployment, false, 1);
    let path = write(folder.path(), "invalid.json", &file);
    let offline = done(&chain, &["evidence", "verify", "--offline", &path]);
    assert_eq!((&offline["fault"], &offline["accused"]["serverId"]), (&json!("invalid_partial"), &json!(culprit)));
    assert_eq!(done(&chain, &["evidence", "verify", &path])["onRecord"], json!(null));
    let report = done(&chain, &["evidence", "submit", &path, "--key-file", &stranger_key]);
    assert_eq!((&report["ours"], &report["judgement"]["charged"]), (&json!(true), &json!(true)), "{report}");
    assert_eq!(report["judgement"]["reporter"], json!(stranger.address()));
    assert_eq!(done(&chain, &["server", "show", &culprit])["lockedOut"], true);
    let finalized = chain.provider.get_block(alloy::eips::BlockId::finalized()).await.unwrap().unwrap();
    assert!(finalized.header.number >= report["block"].as_u64().unwrap(), "it was followed until it was final");

    let live = done(&chain, &["key", "show", &key.to_string()]);
    assert_eq!((&live["healthy"], &live["threshold"]), (&json!(3), &json!(3)));
    assert_eq!(done(&chain, &["key", "list"])[0]["healthy"], 3);

    // The same file from another account: theirs first is a success, and costs nothing.
    let again = done(&chain, &["evidence", "submit", &path, "--key-file", &copier_key]);
    assert_eq!((&again["ours"], &again["transaction"]), (&json!(false), &report["transaction"]));
    assert_eq!(again["commitment"], json!(null));
    assert_eq!(chain.provider.get_transaction_count(copier.address()).await.unwrap(), 0);
    let message = crate::refused(&chain, &["evidence", "commit", &path, "--key-file", &copier_key]);
    assert!(message.contains("this evidence is on record already: transaction 0x"), "{message}");
    assert_eq!(chain.provider.get_transaction_count(copier.address()).await.unwrap(), 0);
    // Another piece of the same fault is recorded and not charged.
    let second = write(folder.path(), "second.json", &accused.wrong_partial(&chain.deployment, false, 2));
    let recorded = done(&chain, &["evidence", "submit", &second, "--no-wait", "--key-file", &copier_key]);
    assert_eq!((&recorded["ours"], &recorded["judgement"]["charged"]), (&json!(true), &json!(false)));
    for (name, file) in [
        ("garbage", accused.wrong_partial(&chain.deployment, true, 1)),
        ("conflicting", accused.conflicting(&chain.deployment)),
        ("unauthorised", accused.unauthorised(&chain.deployment)),
    ] {
        let path = write(folder.path(), &format!("{name}.json"), &file);
        let report = done(&chain, &["evidence", "submit", &path, "--no-wait", "--key-file", &stranger_key]);
        assert_eq!(report["judgement"]["charged"], true, "{name}: {report}");
    }
    miner.abort();

    let history = done(&chain, &["server", "history", &culprit]);
    let events: Vec<&str> = history.as_array().unwrap().iter().map(|it| it["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["lockedOut", "fault", "fault", "fault", "fault", "fault"]);
    assert_eq!(history[1]["signed"][0]["what"], "attestation");
    assert_eq!(history[1]["transaction"], report["transaction"]);
    assert_eq!(history[4]["signed"].as_array().unwrap().len(), 2, "both duties that conflict");
    let shown = done(&chain, &["bounty", "show", &stranger.address().to_string()]);
    assert_ne!(shown["serversWei"], "0");
    let listed = done(&chain, &["evidence", "list", folder.path().to_str().unwrap()]);
    assert_eq!(listed.as_array().unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_pays_gas_for_a_file_that_the_court_would_refuse() {
    let chain = Chain::start().await;
    let folder = tempfile::tempdir().unwrap();
    let dealer = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [0x5e; 32]);
    let (committee, signers, key) = writes::dealt_committee(&chain, &dealer).await;
    let accused = Accused { key, dealer: &dealer, committee, signers };
    let stranger = chain.account().await;
    let stranger_key = key_file(folder.path(), "stranger", &stranger);
    let submit = |name: &str, file: &EvidenceFile| {
        let path = write(folder.path(), name, file);
        let (code, printed) = stkr(&chain, &["evidence", "submit", &path, "--no-wait", "--key-file", &stranger_key]);
        assert_eq!(code, 2, "{name}: {printed}");
        printed["error"]["message"].as_str().unwrap().to_owned()
    };
    assert!(submit("framed", &accused.framed(&chain.deployment)).contains("the partial signature is valid"));
    // Another server's seat, or another committee: the root is not the key's.
    let mut other_key = Accused { key: key + 1, ..accused };
    assert!(submit("no such key", &other_key.conflicting(&chain.deployment)).contains("there is no"));
    other_key.key = key;
    other_key.committee[1] += 100;
    assert!(submit("other server", &other_key.conflicting(&chain.deployment)).contains("is not one of key"));
    other_key.committee[1] -= 100;
    let mut elsewhere = other_key.conflicting(&chain.deployment);
    elsewhere.court = chain.deployment.micropools;
    assert!(submit("other court", &elsewhere).contains("not those of this deployment"));
    let sent = chain.provider.get_transaction_count(stranger.address()).await.unwrap();
    assert_eq!(sent, 0, "nothing was sent");

    // A proof without a commitment, and one whose commitment is too young, are refused by the contract.
    let path = write(folder.path(), "good.json", &other_key.conflicting(&chain.deployment));
    let message = crate::refused(&chain, &["evidence", "prove", &path, "--key-file", &stranger_key]);
    assert!(message.contains("nobody with this account committed"), "{message}");
    let _: B256 = done(&chain, &["evidence", "commit", &path, "--key-file", &stranger_key])["transaction"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let message = crate::refused(&chain, &["evidence", "commit", &path, "--key-file", &stranger_key]);
    assert!(message.contains("has committed to the evidence already"), "{message}");
    let message = crate::refused(&chain, &["evidence", "prove", &path, "--key-file", &stranger_key]);
    assert!(message.contains("this account's commitment to the evidence is good from block"), "{message}");
    chain.mine(3).await;
    // A report that died after its commitment goes on with it.
    let report = done(&chain, &["evidence", "submit", &path, "--no-wait", "--key-file", &stranger_key]);
    assert_eq!((&report["ours"], &report["commitment"]), (&json!(true), &json!(null)));
}
