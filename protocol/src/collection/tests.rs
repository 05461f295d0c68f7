//! Collections from honest servers, and from every server that answers badly.

use std::array;

use alloy_primitives::keccak256;
use stkr_core::{SecretShare, Threshold, testing::TrustedDealer, verify};
use stkr_duties::DepositMessage;

use super::*;
use crate::{
    SignerKey,
    envelope::DutyKind,
    evidence::{EvidenceFile, Fault},
    sign::{DepositRequest, RefusalKind, SignRequest},
};

const N: u8 = 4;

fn index(index: u8) -> ShareIndex {
    ShareIndex::new(index).unwrap()
}

fn signer(index: u8) -> SignerKey {
    SignerKey::from_bytes(&keccak256([b's', index]).0).unwrap()
}

fn domain() -> ProtocolDomain {
    ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(0x42) }
}

fn request_of(key_id: u64, amount_gwei: u64) -> DepositRequest {
    let message = DepositMessage { pubkey: [7; 48], withdrawal_credentials: B256::repeat_byte(1), amount_gwei };
    DepositRequest::new(key_id, &message, *b"Stkr")
}

fn request() -> DepositRequest {
    request_of(5, 1_000_000_000)
}

/// A 3-of-4 committee and its shares.
struct Setup {
    committee: Committee,
    shares: Vec<SecretShare>,
}

impl Setup {
    fn new(seed: u8) -> Self {
        let TrustedDealer { shares, keys, .. } = TrustedDealer::deal(Threshold::new(3, N).unwrap(), [seed; 32]);
        let members = (1..=N).map(|i| MemberId { server_id: u32::from(i), signer: signer(i).address() }).collect();
        Self { committee: Committee::new(domain(), 0, keys, members).unwrap(), shares }
    }

    fn collection(&self) -> Collection {
        Collection::new(request(), self.committee.clone(), [])
    }

    fn partial(&self, i: u8) -> SignedPartial {
        let partial = self.shares[usize::from(i) - 1].sign(&request().signing_root().0);
        SignedPartial::new(&request().subject(), &domain(), &signer(i), 0, &partial)
    }

    fn answer(&self, i: u8) -> SignResponse {
        SignResponse::Signed(self.partial(i))
    }

    /// An honestly signed envelope over `partial`, whatever that is.
    fn garbage(&self, i: u8, partial: &[u8]) -> SignResponse {
        let envelope = request().subject().envelope(0, index(i), partial).sign(&domain(), &signer(i));
        SignResponse::Signed(SignedPartial { partial: partial.to_vec(), envelope, index: index(i), committee_epoch: 0 })
    }

    fn is_valid(&self, signature: &Signature) -> bool {
        verify(&self.committee.keys.group_key(), &request().signing_root().0, signature)
    }
}

/// A well-signed envelope over a partial by a share of another key.
fn wrong_answer(i: u8) -> SignResponse {
    Setup::new(99).answer(i)
}

fn done(progress: Progress) -> Done {
    match progress {
        Progress::Done(done) => done,
        waiting @ Progress::Waiting { .. } => panic!("{waiting:?}"),
    }
}

#[test]
fn any_three_honest_answers_in_any_order_make_the_same_signature() {
    let setup = Setup::new(1);
    let orders = [[1, 2, 3], [4, 3, 2], [2, 4, 1], [3, 1, 4]];
    let signatures = orders.map(|order| {
        let mut collection = setup.collection();
        for i in order {
            assert!(matches!(collection.poll(), Progress::Waiting { .. }));
            assert_eq!(collection.on_response(index(i), setup.answer(i)), Answer::Counted);
        }
        done(collection.poll())
    });
    assert!(setup.is_valid(&signatures[0].signature));
    assert!(signatures.iter().all(|done| *done == signatures[0] && done.culprits.is_empty()));
}

#[test]
fn it_says_who_is_missing_and_goes_on_when_one_returns() {
    let setup = Setup::new(1);
    let mut collection = setup.collection();
    let refusal = Refusal::unavailable("The chain cannot be read.", "Try again.");
    assert_eq!(
        collection.on_response(index(3), SignResponse::refused(refusal.clone())),
        Answer::Refused(refusal.clone())
    );
    for i in [1, 2] {
        collection.on_response(index(i), setup.answer(i));
    }
    let waiting = Progress::Waiting {
        needed: 1,
        missing: vec![index(3), index(4)],
        refused: vec![(index(3), refusal)],
        culprits: vec![],
    };
    assert_eq!(collection.poll(), waiting);
    assert_eq!(collection.on_response(index(3), setup.answer(3)), Answer::Counted);
    assert!(setup.is_valid(&done(collection.poll()).signature));
}

#[test]
fn a_server_with_another_share_is_named_excluded_and_its_envelope_kept() {
    let setup = Setup::new(1);
    for culprit in 1..=N {
        let mut collection = setup.collection();
        let honest: Vec<u8> = (1..=N).filter(|i| *i != culprit).collect();
        assert_eq!(collection.on_response(index(culprit), wrong_answer(culprit)), Answer::Counted);
        for i in &honest[..2] {
            collection.on_response(index(*i), setup.answer(*i));
        }
        let Progress::Waiting { needed: 1, missing, culprits, .. } = collection.poll() else {
            panic!("no t good ones")
        };
        assert_eq!((missing, culprits), (vec![index(honest[2])], vec![index(culprit)]));
        // The culprit cannot have another try.
        assert_eq!(collection.on_response(index(culprit), setup.answer(culprit)), Answer::Repeated);

        collection.on_response(index(honest[2]), setup.answer(honest[2]));
        let done = done(collection.poll());
        assert!(setup.is_valid(&done.signature));
        assert_eq!(done.culprits, [index(culprit)]);
        let evidence = &done.evidence[0];
        assert_eq!(evidence.envelope.partial_hash, keccak256(&evidence.partial));
        let author = evidence.envelope.recover(&domain(), &evidence.envelope_signature).unwrap();
        assert_eq!(author, signer(culprit).address(), "the envelope proves whose partial it is");
    }
}

#[test]
fn garbage_in_a_valid_envelope_is_evidence_too() {
    let setup = Setup::new(1);
    let mut collection = setup.collection();
    let Answer::Wrong(evidence) = collection.on_response(index(2), setup.garbage(2, &[0xff; 256])) else {
        panic!("garbage counted")
    };
    assert_eq!((evidence.culprit, evidence.partial), (index(2), vec![0xff; 256]));
    for i in [1, 3, 4] {
        collection.on_response(index(i), setup.answer(i));
    }
    assert_eq!(done(collection.poll()).culprits, [index(2)]);
}

#[test]
fn a_partial_of_another_length_in_a_valid_envelope_convicts() {
    let setup = Setup::new(1);
    let right = setup.partial(2).partial;
    for bytes in [&[][..], &right[..255], &[&right[..], &[0]].concat(), &[7; 1024]] {
        let mut collection = setup.collection();
        // As it comes from the network.
        let sent = serde_json::to_vec(&setup.garbage(2, bytes)).unwrap();
        let Answer::Wrong(evidence) = collection.on_response(index(2), serde_json::from_slice(&sent).unwrap()) else {
            panic!("{} bytes are no evidence", bytes.len())
        };
        let file = EvidenceFile::of_partial(collection.committee(), Address::repeat_byte(9), &evidence).unwrap();
        let file = EvidenceFile::from_json(&serde_json::to_vec(&file).unwrap()).unwrap();
        assert_eq!(file.verify().unwrap().fault, Fault::GarbagePartial);
    }
    let too_long = serde_json::to_vec(&setup.garbage(2, &[7; 1025])).unwrap();
    assert!(serde_json::from_slice::<SignResponse>(&too_long).is_err());
}

#[test]
fn suspects_are_verified_before_they_count_and_correct_partials_of_theirs_do_count() {
    let setup = Setup::new(1);
    let mut collection = Collection::new(request(), setup.committee.clone(), [index(1), index(2)]);
    assert!(matches!(collection.on_response(index(1), wrong_answer(1)), Answer::Wrong(_)));
    for i in 2..=N {
        assert_eq!(collection.on_response(index(i), setup.answer(i)), Answer::Counted);
    }
    assert_eq!(done(collection.poll()).culprits, [index(1)]);
}

#[test]
fn late_wrong_partials_are_still_found() {
    let setup = Setup::new(1);
    let mut collection = setup.collection();
    for i in 1..=3 {
        collection.on_response(index(i), setup.answer(i));
    }
    assert!(done(collection.poll()).culprits.is_empty());
    assert!(matches!(collection.on_response(index(4), wrong_answer(4)), Answer::Wrong(_)));
    let done = done(collection.poll());
    assert!(setup.is_valid(&done.signature));
    assert_eq!((done.culprits, done.evidence.len()), (vec![index(4)], 1));
}

#[test]
fn a_late_partial_that_a_batch_said_no_to_is_verified_alone_before_anybody_is_named() {
    let setup = Setup::new(1);
    for said_right in [true, false] {
        let mut collection = setup.collection();
        for i in 1..=3 {
            collection.on_response(index(i), setup.answer(i));
        }
        done(collection.poll());
        let unverified = collection.examine(index(4), setup.answer(4)).unwrap();
        assert_eq!(stkr_core::verify_batch(&[unverified.claim()]), [true]);
        assert_eq!(collection.settle(unverified.clone(), said_right), Answer::Counted);
        assert_eq!(collection.settle(unverified, said_right), Answer::Repeated);
    }
    let mut collection = setup.collection();
    let unverified = collection.examine(index(4), wrong_answer(4)).unwrap();
    assert_eq!(stkr_core::verify_batch(&[unverified.claim()]), [false]);
    assert!(matches!(collection.settle(unverified, false), Answer::Wrong(evidence) if evidence.culprit == index(4)));
}

#[test]
fn without_enough_good_partials_there_is_no_signature_and_every_culprit_is_named() {
    let setup = Setup::new(1);
    let mut collection = setup.collection();
    for i in 1..=2 {
        collection.on_response(index(i), wrong_answer(i));
    }
    for i in 3..=4 {
        collection.on_response(index(i), setup.answer(i));
    }
    let Progress::Waiting { needed, missing, culprits, .. } = collection.poll() else { panic!("two good ones") };
    assert_eq!((needed, missing, culprits), (1, vec![], vec![index(1), index(2)]));
}

#[test]
fn an_answer_under_another_index_or_committee_is_no_answer() {
    let setup = Setup::new(1);
    let mut collection = setup.collection();
    let no_answer = |answer| match answer {
        Answer::NoAnswer(reason) => reason,
        other => panic!("{other:?}"),
    };
    // Server 2 passes on what server 1 said, under 1's index and under its own.
    let relayed = no_answer(collection.on_response(index(2), setup.answer(1)));
    assert_eq!(relayed, NoAnswer::OtherIndex { asked: index(2), answered: index(1) });
    let renamed = SignedPartial { index: index(2), ..setup.partial(1) };
    let renamed = no_answer(collection.on_response(index(2), SignResponse::Signed(renamed)));
    assert!(matches!(renamed, NoAnswer::OtherSigner { .. }));
    let epoch = SignedPartial { committee_epoch: 1, ..setup.partial(2) };
    let epoch = no_answer(collection.on_response(index(2), SignResponse::Signed(epoch)));
    assert_eq!(epoch, NoAnswer::OtherCommittee { asked: 0, answered: 1 });
    let nobody = no_answer(collection.on_response(index(5), setup.answer(1)));
    assert_eq!(nobody, NoAnswer::NoSuchMember(index(5)));
    let unsigned = SignedPartial { envelope: [0; 65], ..setup.partial(2) };
    let unsigned = no_answer(collection.on_response(index(2), SignResponse::Signed(unsigned)));
    assert_eq!(unsigned, NoAnswer::BadSignature(SignatureError::BadV(0)));
    // None of this took server 2's seat away.
    assert_eq!(collection.on_response(index(2), setup.answer(2)), Answer::Counted);
}

#[test]
fn an_envelope_over_anything_but_what_was_asked_is_no_answer() {
    let setup = Setup::new(1);
    let honest = setup.partial(2);
    let asked = request().subject().envelope(0, index(2), &honest.partial);
    let mut others = [asked; 8];
    others[0].key_id += 1;
    others[1].committee_epoch += 1;
    others[2].index = index(3);
    others[3].slot += 1;
    others[4].source_epoch += 1;
    others[5].target_epoch += 1;
    others[6].signing_root = request_of(5, 2_000_000_000).signing_root();
    others[7].partial_hash.0[0] ^= 1;
    let elsewhere = [
        ProtocolDomain { chain_id: 1, ..domain() },
        ProtocolDomain { key_registry: Address::repeat_byte(0x43), ..domain() },
    ];
    let envelopes = others.iter().map(|other| other.sign(&domain(), &signer(2)));
    let foreign = elsewhere.iter().map(|domain| asked.sign(domain, &signer(2)));
    let by_another = [asked.sign(&domain(), &signer(3))];
    let mut tried = 0;
    for envelope in envelopes.chain(foreign).chain(by_another) {
        let mut collection = setup.collection();
        let answer = SignResponse::Signed(SignedPartial { envelope, ..honest.clone() });
        let answer = collection.on_response(index(2), answer);
        assert!(matches!(answer, Answer::NoAnswer(NoAnswer::OtherSigner { .. })), "{tried}: {answer:?}");
        tried += 1;
    }
    assert_eq!(tried, 11);
    assert_eq!(asked.duty_kind, DutyKind::Deposit);
    assert_eq!(honest.envelope, asked.sign(&domain(), &signer(2)), "the envelope that does count");
}

#[test]
fn a_server_that_refuses_after_it_answered_changes_nothing() {
    let setup = Setup::new(1);
    let mut collection = setup.collection();
    collection.on_response(index(1), setup.answer(1));
    let refusal = SignResponse::refused(Refusal::denied("No.", "Nothing."));
    assert_eq!(collection.on_response(index(1), refusal), Answer::Repeated);
    assert_eq!(collection.on_response(index(1), setup.answer(1)), Answer::Repeated);
    let Progress::Waiting { needed, refused, .. } = collection.poll() else { panic!() };
    assert_eq!((needed, refused), (2, vec![]));
}

#[test]
fn a_committee_needs_one_member_per_share_key() {
    let setup = Setup::new(1);
    let few = setup.committee.members()[..3].to_vec();
    let error = Committee::new(domain(), 0, setup.committee.keys().clone(), few).unwrap_err();
    assert_eq!(error, CommitteeError { members: 3, keys: 4 });
}

#[test]
fn requests_and_answers_have_the_documented_form() {
    let json = serde_json::to_value(SignRequest::from(request())).unwrap();
    let expected = serde_json::json!({
        "type": "DEPOSIT",
        "keyId": "5",
        "signingRoot": format!("{}", request().signing_root()),
        "deposit": {
            "pubkey": format!("0x{}", "07".repeat(48)),
            "withdrawal_credentials": format!("0x{}", "01".repeat(32)),
            "amount": "1000000000",
            "genesis_fork_version": "0x53746b72",
        },
    });
    assert_eq!(json, expected);
    assert_eq!(serde_json::from_value::<SignRequest>(json.clone()).unwrap(), request().into());

    let answers = [
        Setup::new(1).answer(2),
        SignResponse::refused(Refusal::new(RefusalKind::UnknownKey, "No share of key 5.", "Ask its committee.")),
    ];
    let [signed, refused] = answers.clone().map(|answer| serde_json::to_value(answer).unwrap());
    assert_eq!((&signed["index"], &signed["committeeEpoch"]), (&"2".into(), &"0".into()));
    assert_eq!(refused["refusal"]["kind"], "unknown_key");
    assert_eq!([signed, refused].map(|json| serde_json::from_value::<SignResponse>(json).unwrap()), answers);

    // Unknown fields anywhere are errors, and so are unknown types.
    let paths: [&[&str]; 2] = [&[], &["deposit"]];
    for path in paths {
        let mut json = json.clone();
        let object = path.iter().fold(&mut json, |object, field| &mut object[field]);
        object["extra"] = "1".into();
        assert!(serde_json::from_value::<SignRequest>(json).is_err());
    }
    let mut unknown = json;
    unknown["type"] = "VOLUNTARY_EXIT".into();
    assert!(serde_json::from_value::<SignRequest>(unknown).is_err());
}

#[test]
fn a_request_whose_root_is_not_that_of_its_deposit_is_refused_with_both_roots() {
    let honest = request();
    assert_eq!(honest.checked_signing_root(), Ok(honest.signing_root));
    let mut lies = array::from_fn::<_, 5, _>(|_| honest.clone());
    lies[0].signing_root.0[31] ^= 1;
    lies[1].deposit.pubkey[0] ^= 1;
    lies[2].deposit.withdrawal_credentials.0[31] ^= 1;
    lies[3].deposit.amount += 1;
    lies[4].deposit.genesis_fork_version = [0; 4];
    for lie in lies {
        let refusal = lie.checked_signing_root().unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Denied);
        assert!(refusal.reason.contains(&lie.signing_root.to_string()), "{refusal}");
    }
}
