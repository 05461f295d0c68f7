//! Requests for duties: their form, who made them, and that no claimed root gets into anything.

use serde_json::{Value, json};
use stkr_core::{Threshold, testing::TrustedDealer};
use stkr_duties::DutyKind as RequestKind;

use super::*;
use crate::{
    ceremony::MemberId,
    collection::{Answer, Collection, Committee, NoAnswer, Progress},
};

fn domain() -> ProtocolDomain {
    ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(0x42) }
}

fn key(byte: u8) -> SignerKey {
    SignerKey::from_bytes(&[byte; 32]).unwrap()
}

fn schedule() -> ForkSchedule {
    ForkSchedule::mainnet()
}

fn root(byte: u8) -> String {
    format!("0x{}", hex::encode([byte; 32]))
}

/// A vote for `block` at the last slot of epoch 420,000.
fn vote(block: u8) -> Value {
    json!({
        "type": "ATTESTATION",
        "fork_info": {
            "fork": { "previous_version": "0x05000000", "current_version": "0x06000000", "epoch": "411392" },
            "genesis_validators_root": schedule().genesis_validators_root(),
        },
        "attestation": {
            "slot": "13440031", "index": "0", "beacon_block_root": root(block),
            "source": { "epoch": "419999", "root": root(2) },
            "target": { "epoch": "420000", "root": root(3) },
        },
    })
}

fn read(json: &Value) -> SigningRequest {
    SigningRequest::decode(json.to_string().as_bytes(), schedule().preset()).unwrap()
}

fn asked(json: &Value) -> Asked {
    Asked::duty((7, 3), &read(json), &schedule(), &domain(), &key(1)).unwrap()
}

fn duty(asked: &Asked) -> DutyRequest {
    let SignRequest::Duty(request) = asked.request() else { panic!("{asked:?}") };
    request.clone()
}

#[test]
fn a_duty_request_has_the_documented_form_and_only_its_own_members() {
    let asked = asked(&vote(1));
    let json = serde_json::to_value(asked.request()).unwrap();
    let expected = json!({
        "type": "DUTY", "keyId": "7", "assignment": "3", "duty": vote(1),
        "signature": format!("0x{}", hex::encode(duty(&asked).signature)),
    });
    assert_eq!(json, expected);
    let text = serde_json::to_string(asked.request()).unwrap();
    assert_eq!(&serde_json::from_str::<SignRequest>(&text).unwrap(), asked.request());

    for (member, value) in [("extra", json!("1")), ("signingRoot", json!(root(1))), ("keyId", json!("07"))] {
        let mut other = json.clone();
        other[member] = value;
        assert!(serde_json::from_str::<SignRequest>(&other.to_string()).is_err(), "{member}");
    }
    for member in ["type", "keyId", "assignment", "duty", "signature"] {
        let mut other = json.clone();
        other.as_object_mut().unwrap().remove(member);
        assert!(serde_json::from_str::<SignRequest>(&other.to_string()).is_err(), "without {member}");
    }
    let mut deposit = json;
    deposit["type"] = "DEPOSIT".into();
    assert!(serde_json::from_str::<SignRequest>(&deposit.to_string()).is_err());
}

#[test]
fn a_duty_longer_than_its_bound_is_refused_unread() {
    let mut request = serde_json::to_value(asked(&vote(1)).request()).unwrap();
    // {"a":""} has eight bytes.
    request["duty"] = json!({ "a": "x".repeat(MAX_DUTY - 8) });
    assert!(serde_json::from_str::<SignRequest>(&request.to_string()).is_ok(), "read later, by who knows the preset");
    request["duty"] = json!({ "a": "x".repeat(MAX_DUTY - 7) });
    let error = serde_json::from_str::<SignRequest>(&request.to_string()).unwrap_err();
    assert!(error.to_string().contains("524288 bytes"), "{error}");
    for other in [json!("{}"), json!([vote(1)]), Value::Null] {
        request["duty"] = other;
        assert!(serde_json::from_str::<SignRequest>(&request.to_string()).is_err(), "no object");
    }
}

#[test]
fn the_description_has_the_fields_of_a_duty_request() {
    let schema = serde_json::to_value(SignRequest::schema()).unwrap();
    let request = serde_json::to_value(asked(&vote(1)).request()).unwrap();
    schema::tests::assert_described(&request, &schema["oneOf"][2]);
}

#[test]
fn a_claimed_root_is_refused_by_who_asks_and_by_who_is_asked() {
    let honest = asked(&vote(1));
    let mut lie = vote(1);
    lie["signingRoot"] = root(9).into();
    let refused = Asked::duty((7, 3), &read(&lie), &schedule(), &domain(), &key(1)).unwrap_err();
    assert!(matches!(refused, AskError::Duty(DutyError::SigningRoot { .. })));

    let text = serde_json::value::to_raw_value(&lie).unwrap();
    let refusal = DutyRequest { duty: DutyText(text), ..duty(&honest) }.check(&schedule()).unwrap_err();
    assert!(refusal.kind == RefusalKind::Denied && refusal.reason.contains(&root(9)), "{refusal}");
    assert!(refusal.reason.contains(&honest.subject().signing_root().to_string()), "{refusal}");
}

#[test]
fn a_duty_of_another_chain_or_that_does_not_read_is_denied() {
    let honest = asked(&vote(1));
    assert_eq!(duty(&honest).check(&ForkSchedule::hoodi()).unwrap_err().kind, RefusalKind::Denied);
    let text = serde_json::value::to_raw_value(&json!({ "type": "ATTESTATION" })).unwrap();
    let refusal = DutyRequest { duty: DutyText(text), ..duty(&honest) }.check(&schedule()).unwrap_err();
    assert!(
        refusal.kind == RefusalKind::Denied && refusal.reason.contains("needs the member attestation"),
        "{refusal}"
    );
}

#[test]
fn a_deposit_is_never_asked_for_as_a_duty() {
    let deposit = json!({
        "type": "DEPOSIT",
        "deposit": {
            "pubkey": format!("0x{}", "01".repeat(48)), "withdrawal_credentials": root(1),
            "amount": "32000000000", "genesis_fork_version": "0x00000000",
        },
    });
    let refused = Asked::duty((7, 3), &read(&deposit), &schedule(), &domain(), &key(1)).unwrap_err();
    assert_eq!(refused, AskError::Deposit);
    let text = serde_json::value::to_raw_value(&deposit).unwrap();
    let refusal = DutyRequest { duty: DutyText(text), ..duty(&asked(&vote(1))) }.check(&schedule()).unwrap_err();
    assert!(refusal.reason.contains("deposits are asked for as DEPOSIT"), "{refusal}");
}

#[test]
fn only_the_very_request_that_the_duty_key_signed_recovers_it() {
    let honest = asked(&vote(1));
    let who = |request: DutyRequest, domain: &ProtocolDomain| request.check(&schedule()).unwrap().duty_key(domain);
    assert_eq!(who(duty(&honest), &domain()), Ok(key(1).address()));
    let others = [
        DutyRequest { key_id: 8, ..duty(&honest) },
        DutyRequest { assignment: 4, ..duty(&honest) },
        DutyRequest { duty: duty(&asked(&vote(4))).duty, ..duty(&honest) },
    ];
    for other in others {
        assert_ne!(who(other, &domain()), Ok(key(1).address()));
    }
    let elsewhere = ProtocolDomain { chain_id: 1, ..domain() };
    assert_ne!(who(duty(&honest), &elsewhere), Ok(key(1).address()));
    let checked = duty(&honest).check(&schedule()).unwrap();
    assert_eq!((checked.subject(), checked.assignment()), (honest.subject(), 3));
}

#[test]
fn servers_and_collector_compute_one_envelope_with_what_a_court_needs() {
    let dealt = TrustedDealer::deal(Threshold::new(2, 3).unwrap(), [5; 32]);
    let members = (1..=3).map(|i| MemberId { server_id: u32::from(i), signer: key(i).address() }).collect();
    let committee = Committee::new(domain(), 0, dealt.keys.clone(), members).unwrap();
    let asked = asked(&vote(1));
    let mut collection = Collection::new(asked.clone(), committee, []);
    let answer = |json: &Value, share: &stkr_core::SecretShare| {
        let subject = *super::tests::asked(json).subject();
        let partial = share.sign(&subject.signing_root().0);
        SignResponse::Signed(SignedPartial::new(&subject, &domain(), &key(share.index().get()), 0, &partial))
    };
    let [first, second, ..] = dealt.shares.as_slice() else { panic!() };
    let other = collection.on_response(first.index(), answer(&vote(4), first));
    assert!(matches!(other, Answer::NoAnswer(NoAnswer::OtherSigner { .. })), "{other:?}");
    for share in [first, second] {
        assert_eq!(collection.on_response(share.index(), answer(&vote(1), share)), Answer::Counted);
    }
    let Progress::Done(done) = collection.poll() else { panic!() };
    assert_eq!(done.signature, dealt.group_signature(&asked.subject().signing_root().0));

    let envelope = asked.subject().envelope(2, first.index(), &[0; 256]);
    let expected = Envelope {
        key_id: 7,
        committee_epoch: 2,
        index: first.index(),
        duty_kind: DutyKind::Attestation,
        slot: 13_440_031,
        source_epoch: 419_999,
        target_epoch: 420_000,
        signing_root: read(&vote(1)).verify(&schedule()).unwrap(),
        partial_hash: keccak256([0; 256]),
    };
    assert_eq!(envelope, expected);
}

#[test]
fn every_kind_of_request_has_the_documented_number() {
    let numbers: Vec<_> = RequestKind::ALL.iter().map(|kind| (kind.name(), DutyKind::of(*kind) as u8)).collect();
    let documented = [
        ("AGGREGATION_SLOT", 4),
        ("AGGREGATE_AND_PROOF", 5),
        ("AGGREGATE_AND_PROOF_V2", 5),
        ("ATTESTATION", 2),
        ("BLOCK", 3),
        ("BLOCK_V2", 3),
        ("DEPOSIT", 1),
        ("RANDAO_REVEAL", 6),
        ("VOLUNTARY_EXIT", 7),
        ("SYNC_COMMITTEE_MESSAGE", 8),
        ("SYNC_COMMITTEE_SELECTION_PROOF", 9),
        ("SYNC_COMMITTEE_CONTRIBUTION_AND_PROOF", 10),
        ("VALIDATOR_REGISTRATION", 11),
    ];
    assert_eq!(numbers, documented);
}

#[test]
fn a_refusal_in_words_is_two_sentences() {
    let says = |reason| Refusal::denied(reason, "Ask when it is time.").to_string();
    assert_eq!(says("slot 20 is the present"), "denied: slot 20 is the present. Ask when it is time.");
    assert_eq!(says("Slot 20 is the present."), "denied: Slot 20 is the present. Ask when it is time.");
}

#[test]
fn a_change_of_credentials_is_read_as_it_is_written_and_with_no_other_member() {
    let change = Change {
        validator_index: 1_234_567,
        from_bls_pubkey: [1; 48],
        to_execution_address: alloy_primitives::Address::repeat_byte(2),
        genesis_fork_version: [3; 4],
        genesis_validators_root: B256::repeat_byte(4),
    };
    let request = ChangeRequest::new(9, change);
    let json = serde_json::to_value(SignRequest::Change(request.clone())).unwrap();
    assert_eq!(json["type"], "BLS_TO_EXECUTION_CHANGE");
    schema::tests::assert_described(&json, &serde_json::to_value(SignRequest::schema()).unwrap()["oneOf"][1]);
    assert_eq!(serde_json::from_value::<SignRequest>(json.clone()).unwrap(), SignRequest::Change(request.clone()));
    for (member, value) in [("deposit", json!({})), ("duty", json!({})), ("assignment", json!("1"))] {
        let mut more = json.clone();
        more[member] = value;
        assert!(serde_json::from_value::<SignRequest>(more).is_err(), "{member}");
    }
    let subject = request.subject();
    assert_eq!((subject.duty_kind(), subject.slot(), subject.key_id()), (DutyKind::BlsToExecutionChange, 0, 9));
    assert_eq!(subject.signing_root(), request.checked_signing_root().unwrap());
    let lie = ChangeRequest { signing_root: B256::ZERO, ..request };
    assert_eq!(lie.checked_signing_root().unwrap_err().kind, RefusalKind::Denied);
    assert_ne!(lie.subject().signing_root(), B256::ZERO, "what is signed is computed");
}
