//! A key that goes to another committee: whom the gateway asks, and what it never combines.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Behaviour, EPOCH, Gateway};
use serde_json::Value;
use stkr_gateway::store::Table;
use stkr_protocol::evidence::{EvidenceFile, Fault};
use stkr_protocol::handover::Drawn;

/// First epoch of the second committee.
const H: u64 = EPOCH - 2;

fn reason(answer: &Value) -> &str {
    answer["refusal"]["reason"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

/// A gateway whose key went to the second committee at [`H`].
fn handed_over() -> Gateway {
    let mut gateway = Gateway::start();
    let handover = gateway.start_of(H) - 100;
    gateway.hand_over(handover, None, gateway.start_of(EPOCH));
    gateway
}

/// Servers that were asked so far.
fn asked(gateway: &Gateway) -> Vec<u32> {
    gateway.servers.iter().filter(|server| !server.calls().is_empty()).map(|server| server.id).collect()
}

#[tokio::test]
async fn each_duty_is_signed_by_the_committee_whose_epoch_it_is_and_the_gateway_goes_on() {
    let gateway = handed_over();
    let before = gateway.vote(H - 2, H - 1, 1);
    gateway.assert_signed(&before, &gateway.sign(&before).await);
    common::until("all four", async || asked(&gateway).len() == 4).await;
    assert_eq!(asked(&gateway), [101, 102, 103, 104], "the first committee");
    // 101 is no member any more: without it, and with 105, the rest is signed.
    gateway.servers[0].kill().await;
    let after = gateway.vote(H - 1, H, 1);
    gateway.assert_signed(&after, &gateway.sign(&after).await);
    common::until("the new one", async || asked(&gateway).contains(&105)).await;
    assert_eq!(gateway.servers[0].calls().len(), 1, "who left is asked for nothing of the new committee's");
}

#[tokio::test]
async fn partials_of_the_old_committee_are_no_answers_to_what_the_new_one_is_asked() {
    let gateway = handed_over();
    // Two of four answer for the old committee, with right shares of the same key and their own signers.
    for position in [1, 2] {
        gateway.servers[position].behave(Behaviour::StaysOld);
    }
    let vote = gateway.vote(H - 1, H, 1);
    let (status, answer) = gateway.sign(&vote).await;
    assert_eq!(status, 503, "{answer}");
    assert!(reason(&answer).contains("answers for committee 0 of the key, not for 1"), "{answer}");
    assert!(reason(&answer).starts_with("1 more of the 4 servers"), "{answer}");
    // Nothing of it is a fault, and once one of them has changed over, it is signed.
    gateway.servers[1].behave(Behaviour::Honest);
    gateway.assert_signed(&vote, &gateway.sign(&vote).await);
    assert!(gateway.app.store.page(Table::Evidence, 0, 10).unwrap().is_empty());
}

#[tokio::test]
async fn an_old_share_in_the_name_of_the_new_committee_is_found_excluded_and_kept_as_evidence() {
    let gateway = handed_over();
    gateway.servers[1].behave(Behaviour::OldShareAsNew);
    let vote = gateway.vote(H - 1, H, 1);
    gateway.assert_signed(&vote, &gateway.sign(&vote).await);
    let kept = || gateway.app.store.page(Table::Evidence, 0, 10).unwrap();
    common::until("the evidence", async || !kept().is_empty()).await;
    let file: EvidenceFile = serde_json::from_value(kept()[0].envelopes[0]["evidence"].clone()).unwrap();
    let verified = file.verify().unwrap();
    assert_eq!((verified.fault, verified.committee_epoch), (Fault::InvalidPartial, 1), "in the new committee's name");
}

#[tokio::test]
async fn a_vote_whose_source_the_new_committee_must_not_sign_is_refused_before_anything_is_recorded() {
    let gateway = handed_over();
    let surrounds = gateway.vote(H - 3, H, 1);
    let (status, answer) = gateway.sign(&surrounds).await;
    assert_eq!(status, 503, "{answer}");
    let says = format!("source epoch {} is before {}", H - 3, H - 2);
    assert!(reason(&answer).contains(&says), "{answer}");
    assert!(asked(&gateway).is_empty(), "no server was asked");
    // Slashing protection has not seen it: another vote for the same target is no double vote.
    let vote = gateway.vote(H - 2, H, 2);
    gateway.assert_signed(&vote, &gateway.sign(&vote).await);
}

#[tokio::test]
async fn while_nobody_knows_which_committee_signs_nobody_is_asked() {
    let mut gateway = Gateway::start();
    let (first, third) = (gateway.start_of(H) - 100, gateway.start_of(EPOCH));
    let drawn = Drawn { deadline: third - 1_152, handover: third };
    gateway.hand_over(first, Some(drawn), drawn.deadline);
    let vote = gateway.vote(EPOCH - 1, EPOCH, 1);
    let (status, answer) = gateway.sign(&vote).await;
    assert!(status == 503 && reason(&answer).contains("a reshare of the key would hand over"), "{answer}");
    assert!(asked(&gateway).is_empty());
    // Of before it the second committee still signs, whatever becomes of the third.
    let before = gateway.vote(EPOCH - 2, EPOCH - 1, 1);
    gateway.assert_signed(&before, &gateway.sign(&before).await);
}
