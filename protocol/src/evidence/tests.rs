//! The guilty of every fault, and the honest nearest to them.

use proptest::prelude::*;
use stkr_core::{Threshold, testing::TrustedDealer};

use super::*;
use crate::{
    SignerKey,
    ceremony::MemberId,
    leaves::merkle_root,
    messages::{AcknowledgementBody, Body, CommitmentSetBody, DealingBody, DealingCommitmentBody, OneTimeKeyBody},
};

const DOMAIN: ProtocolDomain = ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(0x42) };
const COURT: Address = Address::repeat_byte(0xc0);

fn index(index: u8) -> ShareIndex {
    ShareIndex::new(index).unwrap()
}

fn signer(index: u8) -> SignerKey {
    SignerKey::from_bytes(&keccak256([b's', index]).0).unwrap()
}

struct Setup {
    dealer: TrustedDealer,
    committee: Committee,
}

impl Setup {
    fn new() -> Self {
        let dealer = TrustedDealer::deal(Threshold::new(3, 5).unwrap(), [1; 32]);
        let members = (1..=5).map(|i| MemberId { server_id: 40 + u32::from(i), signer: signer(i).address() }).collect();
        Self { committee: Committee::new(DOMAIN, 0, dealer.keys.clone(), members).unwrap(), dealer }
    }

    fn holder(&self, i: u8) -> Holder {
        Holder::of(&self.committee, index(i)).unwrap()
    }

    fn partial_proof(&self, i: u8, partial: &[u8], change: impl Fn(&mut SignedEnvelope)) -> PartialProof {
        let envelope = signed(i, |envelope| {
            envelope.partial_hash = keccak256(partial);
            change(envelope);
        });
        PartialProof { envelope, holder: self.holder(i), partial: partial.to_vec() }
    }
}

/// An attestation that member `i` signs.
fn signed(i: u8, change: impl FnOnce(&mut SignedEnvelope)) -> SignedEnvelope {
    let mut envelope = SignedEnvelope {
        key_id: 5,
        committee_epoch: 0,
        index: index(i),
        duty_kind: DutyKind::Attestation as u8,
        slot: 100,
        source_epoch: 10,
        target_epoch: 12,
        signing_root: B256::repeat_byte(1),
        partial_hash: B256::repeat_byte(2),
        signature: [0; 65],
    };
    change(&mut envelope);
    envelope.signature = signer(i).sign_digest(envelope.digest(&DOMAIN));
    envelope
}

fn request(change: impl FnOnce(&mut SignedDutyRequest)) -> SignedDutyRequest {
    let mut request = SignedDutyRequest {
        key_id: 5,
        assignment: 3,
        duty_kind: DutyKind::Attestation as u8,
        slot: 100,
        source_epoch: 10,
        target_epoch: 12,
        signing_root: B256::repeat_byte(1),
        signature: [0; 65],
    };
    change(&mut request);
    request.signature = signer(9).sign_digest(request.digest(&DOMAIN));
    request
}

fn file(proof: Proof) -> EvidenceFile {
    EvidenceFile::new(&DOMAIN, COURT, proof)
}

/// The same through its text.
fn verify(proof: Proof) -> Result<Verified, EvidenceError> {
    let file = file(proof);
    let read = EvidenceFile::from_json(&serde_json::to_vec(&file).unwrap()).unwrap();
    assert_eq!(read, file);
    read.verify()
}

fn wrong_partial(setup: &Setup) -> Vec<u8> {
    setup.dealer.shares[1].sign(&[9; 32]).signature.to_eip2537().to_vec()
}

/// Evidence of every fault.
fn every_fault(setup: &Setup) -> Vec<Proof> {
    let commitment = Body::DealingCommitment(DealingCommitmentBody { dealing_hash: B256::repeat_byte(7) });
    let dealing = Body::Dealing(DealingBody {
        one_time_keys_hash: B256::repeat_byte(1),
        one_time_key: vec![2; 33],
        commitments: vec![3; 128 * 3],
        proof_of_possession: vec![4; 256],
        shares: vec![5; 32 * 5],
    });
    let say = |body| SignedMessage::sign(&DOMAIN, &signer(2), (5, 1, index(2)), body);
    let garbage = setup.partial_proof(2, &[0xff; 256], |_| ());
    vec![
        Proof::InvalidPartial(setup.partial_proof(2, &wrong_partial(setup), |_| ())),
        Proof::GarbagePartial(garbage.clone()),
        Proof::ConflictingDuties(DutiesProof {
            first: signed(2, |_| ()),
            second: signed(2, |it| it.signing_root = B256::repeat_byte(8)),
            holder: setup.holder(2),
            later_holder: None,
        }),
        Proof::UnauthorisedSignature(EnvelopeProof {
            envelope: signed(2, |it| it.duty_kind = DutyKind::VoluntaryExit as u8),
            holder: setup.holder(2),
        }),
        Proof::ProviderEquivocation(RequestsProof {
            first: request(|_| ()),
            second: request(|it| it.signing_root = B256::repeat_byte(8)),
        }),
        Proof::CeremonyEquivocation(MessagesProof { first: say(commitment), second: say(dealing) }),
        Proof::BadDealing(dealings::tests::wrong_share()),
        Proof::MalformedDealing(dealings::tests::too_few_commitments()),
        Proof::UnansweredChallenge(unanswered::tests::unanswered()),
    ]
}

#[test]
fn every_fault_is_proven_by_its_file_and_names_who_did_it() {
    let setup = Setup::new();
    let keys = setup.committee.keys();
    let leaves: Vec<B256> = (1..=5_u8)
        .map(|i| {
            let key = keys.share_keys()[usize::from(i) - 1].to_eip2537();
            share_leaf(index(i), 40 + u32::from(i), signer(i).address(), &key)
        })
        .collect();
    let holder = Accused::Holder { server_id: 42, signer: signer(2).address(), root: merkle_root(&leaves) };
    for proof in every_fault(&setup) {
        let fault = proof.fault();
        let verified = verify(proof).unwrap();
        let accused = match fault {
            Fault::ProviderEquivocation => Accused::Provider { duty_keys: [signer(9).address(); 2], assignment: 3 },
            Fault::CeremonyEquivocation | Fault::BadDealing => Accused::Signer(signer(2).address()),
            Fault::MalformedDealing => Accused::Dealer { signer: signer(2).address(), threshold: 3, members: 4 },
            Fault::UnansweredChallenge => unanswered::tests::accused(),
            _ => holder,
        };
        assert_eq!((verified.fault, verified.key_id, verified.accused), (fault, 5, accused));
        assert_eq!(Fault::from_number(fault as u8), Some(fault));
    }
    assert_eq!([0, 10].map(Fault::from_number), [None; 2], "there are no such faults");
}

#[test]
fn a_collections_finding_becomes_the_file_of_the_fault_it_is() {
    let setup = Setup::new();
    for (partial, fault) in [
        (wrong_partial(&setup), Fault::InvalidPartial),
        (vec![0xff; 256], Fault::GarbagePartial),
        (vec![0; 256], Fault::InvalidPartial),
    ] {
        let envelope = Envelope {
            key_id: 5,
            committee_epoch: 0,
            index: index(2),
            duty_kind: DutyKind::Deposit,
            slot: 0,
            source_epoch: 0,
            target_epoch: 0,
            signing_root: B256::repeat_byte(1),
            partial_hash: keccak256(&partial),
        };
        let found =
            Evidence { culprit: index(2), envelope, envelope_signature: envelope.sign(&DOMAIN, &signer(2)), partial };
        let file = EvidenceFile::of_partial(&setup.committee, COURT, &found).unwrap();
        assert_eq!(file.verify().unwrap().fault, fault);
    }
}

#[test]
fn a_valid_partial_is_no_fault_whatever_the_file_calls_it() {
    let setup = Setup::new();
    let honest = setup.dealer.shares[1].sign(&[1; 32]).signature.to_eip2537();
    let proof = setup.partial_proof(2, &honest, |_| ());
    assert_eq!(verify(Proof::InvalidPartial(proof.clone())), Err(EvidenceError::ValidPartial));
    assert_eq!(verify(Proof::GarbagePartial(proof)), Err(EvidenceError::ValidPartial));
}

#[test]
fn the_precompile_decides_what_is_garbage_so_infinity_is_not() {
    let setup = Setup::new();
    let infinity = setup.partial_proof(2, &[0; 256], |_| ());
    let invalid = EvidenceError::OtherFault(Fault::InvalidPartial);
    assert_eq!(verify(Proof::GarbagePartial(infinity.clone())), Err(invalid));
    assert!(verify(Proof::InvalidPartial(infinity)).is_ok());
    for garbage in [vec![], vec![1; 255], vec![0; 257], vec![1; 256]] {
        let proof = setup.partial_proof(2, &garbage, |_| ());
        assert!(verify(Proof::GarbagePartial(proof.clone())).is_ok());
        let expected = Err(EvidenceError::OtherFault(Fault::GarbagePartial));
        assert_eq!(verify(Proof::InvalidPartial(proof)), expected);
    }
}

#[test]
fn nobody_is_framed_with_a_partial_that_its_envelope_does_not_name() {
    let setup = Setup::new();
    let mut proof = setup.partial_proof(2, &wrong_partial(&setup), |_| ());
    proof.partial[255] ^= 1;
    assert!(matches!(verify(Proof::InvalidPartial(proof)), Err(EvidenceError::OtherPartial { .. })));
}

#[test]
fn who_signed_is_recomputed_and_never_taken_from_the_file() {
    let setup = Setup::new();
    for mut proof in every_fault(&setup) {
        let fault = proof.fault();
        // Somebody else signs for it, or the file names somebody else.
        match &mut proof {
            Proof::InvalidPartial(it) | Proof::GarbagePartial(it) => {
                it.envelope.signature = signer(3).sign_digest(it.envelope.digest(&DOMAIN));
            }
            Proof::ConflictingDuties(it) => it.second.signature = signer(3).sign_digest(it.second.digest(&DOMAIN)),
            Proof::UnauthorisedSignature(it) => it.holder = setup.holder(3),
            // The chain says whose the keys are.
            Proof::ProviderEquivocation(it) => {
                it.second.signature = signer(3).sign_digest(it.second.digest(&DOMAIN));
                let accused = Accused::Provider { duty_keys: [9, 3].map(|it| signer(it).address()), assignment: 3 };
                assert_eq!(verify(proof).unwrap().accused, accused);
                continue;
            }
            Proof::CeremonyEquivocation(it) => it.second.signature = signer(3).sign_digest(it.second.digest(&DOMAIN)),
            // Nobody signed anything: the chain names who was asked.
            Proof::UnansweredChallenge(_) => continue,
            // Nobody is named but by the signature.
            Proof::BadDealing(OpenedDealing { dealing, .. })
            | Proof::MalformedDealing(DefectiveDealing { dealing, .. }) => {
                dealing.signature = signer(3).sign_digest(dealing.digest(&DOMAIN));
                let (Accused::Signer(found) | Accused::Dealer { signer: found, .. }) = verify(proof).unwrap().accused
                else {
                    panic!("{fault}");
                };
                assert_eq!(found, signer(3).address());
                continue;
            }
        }
        let error = verify(proof).unwrap_err();
        assert!(matches!(error, EvidenceError::OtherSigner { .. }), "{fault}: {error}");
    }
    let mut other_chain = file(every_fault(&setup).swap_remove(0));
    other_chain.chain_id = 1;
    assert!(matches!(other_chain.verify(), Err(EvidenceError::OtherSigner { .. } | EvidenceError::Signature(_))));
}

#[test]
fn a_provider_that_changes_its_duty_key_between_two_requests_is_accused_with_both() {
    let prove = |keys: [u8; 2], change: fn(&mut SignedDutyRequest)| {
        let mut requests = [request(|_| ()), request(change)];
        for (request, key) in requests.iter_mut().zip(keys) {
            request.signature = signer(key).sign_digest(request.digest(&DOMAIN));
        }
        let [first, second] = requests;
        verify(Proof::ProviderEquivocation(RequestsProof { first, second }))
    };
    let other: fn(&mut SignedDutyRequest) = |it| it.signing_root = B256::repeat_byte(8);
    for keys in [[9, 9], [9, 3], [3, 9]] {
        let verified = prove(keys, other).unwrap();
        let duty_keys = keys.map(|it| signer(it).address());
        assert_eq!(verified.accused, Accused::Provider { duty_keys, assignment: 3 }, "in the order of the file");
        assert_eq!(verified.evidence, prove([9, 9], other).unwrap().evidence, "whoever signed, it is one fault");
    }
    assert_eq!(prove([9, 3], |_| ()), Err(EvidenceError::NoConflict), "one duty, asked for with both keys");
    let elsewhere: fn(&mut SignedDutyRequest) = |it| (it.signing_root, it.assignment) = (B256::repeat_byte(8), 4);
    assert!(matches!(prove([9, 3], elsewhere), Err(EvidenceError::DifferentSubjects(_))));
}

#[test]
fn another_seat_leads_to_another_root() {
    let setup = Setup::new();
    let root = setup.holder(2).root(index(2));
    let mut changed = setup.holder(2);
    changed.server_id += 1;
    assert_ne!(changed.root(index(2)), root);
    assert_ne!(setup.holder(2).root(index(3)), root);
    let mut cut = setup.holder(2);
    cut.proof.pop();
    assert_ne!(cut.root(index(2)), root);
    assert_eq!(setup.holder(5).root(index(5)), root, "the last leaf of five moves up");
}

#[test]
fn only_votes_and_proposals_that_are_slashable_conflict() {
    let setup = Setup::new();
    let judged = |change: fn(&mut SignedEnvelope)| {
        let (first, second) = (signed(2, |_| ()), signed(2, change));
        verify(Proof::ConflictingDuties(DutiesProof { first, second, holder: setup.holder(2), later_holder: None }))
            .map(|it| it.fault)
    };
    let other = B256::repeat_byte(8);
    let guilty: [fn(&mut SignedEnvelope); 3] = [
        |it| it.signing_root = B256::repeat_byte(8),
        |it| (it.signing_root, it.source_epoch, it.target_epoch) = (B256::repeat_byte(8), 9, 13),
        |it| (it.signing_root, it.source_epoch, it.target_epoch) = (B256::repeat_byte(8), 11, 11),
    ];
    for change in guilty {
        assert_eq!(judged(change), Ok(Fault::ConflictingDuties));
    }
    let honest: [fn(&mut SignedEnvelope); 4] = [
        |_| (),
        |it| it.slot += 1,
        |it| (it.signing_root, it.source_epoch, it.target_epoch) = (B256::repeat_byte(8), 12, 13),
        |it| (it.signing_root, it.duty_kind) = (B256::repeat_byte(8), DutyKind::Block as u8),
    ];
    for change in honest {
        assert_eq!(judged(change), Err(EvidenceError::NoConflict));
    }
    assert!(matches!(judged(|it| it.key_id = 6), Err(EvidenceError::DifferentSubjects(_))));
    let block = |slot| move |it: &mut SignedEnvelope| (it.duty_kind, it.slot) = (DutyKind::Block as u8, slot);
    for (slot, expected) in [(7, Ok(Fault::ConflictingDuties)), (8, Err(EvidenceError::NoConflict))] {
        let first = signed(2, block(7));
        let second = signed(2, |it| {
            block(slot)(it);
            it.signing_root = other;
        });
        let proof =
            Proof::ConflictingDuties(DutiesProof { first, second, holder: setup.holder(2), later_holder: None });
        assert_eq!(verify(proof).map(|it| it.fault), expected);
    }
}

#[test]
fn a_file_with_a_field_that_cannot_be_read_is_told_which_and_why() {
    let setup = Setup::new();
    let files = every_fault(&setup).into_iter().map(|proof| EvidenceFile::new(&DOMAIN, Address::repeat_byte(9), proof));
    let told = |file: &serde_json::Value| match EvidenceFile::from_json(file.to_string().as_bytes()) {
        Err(EvidenceError::Malformed(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let mut number = 0;
    for file in files {
        let good = serde_json::to_value(&file).unwrap();
        let fields: Vec<String> =
            good["proof"].as_object().unwrap().keys().filter(|it| *it != "fault").cloned().collect();
        for field in fields {
            let mut wrong = good.clone();
            wrong["proof"][&field] = serde_json::json!(5);
            let reason = told(&wrong);
            assert!(reason.starts_with(&format!("proof.{field}: ")), "{reason}");
            assert!(!reason.contains("struct") && !reason.contains("expected"), "{reason}");
            wrong["proof"].as_object_mut().unwrap().remove(&field);
            assert!(told(&wrong).contains(&format!("missing field `{field}`")), "{}", told(&wrong));
            number += 1;
        }
        let mut wrong = good.clone();
        wrong["proof"]["more"] = serde_json::json!(1);
        assert_eq!(told(&wrong), "proof: unknown field `more`");
        let mut wrong = good;
        wrong["court"] = serde_json::json!([1]);
        assert_eq!(told(&wrong), "court: a list where a string belongs");
    }
    assert!(number > 18, "{number}");
}

#[test]
fn a_member_of_two_committees_answers_for_duties_that_conflict_between_them() {
    let setup = Setup::new();
    let other = |it: &mut SignedEnvelope| (it.signing_root, it.committee_epoch) = (B256::repeat_byte(8), 1);
    let proof = |later_holder: Option<Holder>| DutiesProof {
        first: signed(2, |_| ()),
        second: signed(2, other),
        holder: setup.holder(2),
        later_holder: later_holder.map(Box::new),
    };
    let judged = |proof: &DutiesProof| verify(Proof::ConflictingDuties(proof.clone()));
    let both = proof(Some(setup.holder(2)));
    let verified = judged(&both).unwrap();
    assert_eq!((verified.fault, verified.committee_epoch), (Fault::ConflictingDuties, 1), "the later one pays");
    assert_eq!(verified.earlier_seat, Some((0, setup.holder(2).root(index(2)))), "the chain has to know both");

    let subjects = |it: &DutiesProof| matches!(judged(it), Err(EvidenceError::DifferentSubjects(_)));
    assert!(subjects(&proof(None)), "one seat for two committees");
    let (first, second) = (both.second.clone(), both.first.clone());
    assert!(subjects(&DutiesProof { first, second, ..both.clone() }), "the later one first");
    assert!(subjects(&DutiesProof { second: signed(2, |it| it.signing_root = B256::repeat_byte(8)), ..both.clone() }));
    let predecessor = Holder { server_id: 41, ..setup.holder(2) };
    assert!(subjects(&DutiesProof { holder: predecessor, ..both.clone() }), "who had the seat before");
    let signed_by_another = DutiesProof { second: signed(3, other), ..both };
    assert!(matches!(judged(&signed_by_another), Err(EvidenceError::OtherSigner { .. })));
}

#[test]
fn a_duty_that_nobody_orders_is_an_unauthorised_signature_of_a_withdrawal_key_only() {
    let setup = Setup::new();
    for kind in 0..=u8::MAX {
        let envelope = signed(2, |it| it.duty_kind = kind);
        let verified = verify(Proof::UnauthorisedSignature(EnvelopeProof { envelope, holder: setup.holder(2) }));
        assert_eq!(verified.unwrap().withdrawal_key_only, ![1, 7, 12].contains(&kind), "{kind}");
    }
    let (first, second) = (signed(2, |_| ()), signed(2, |it| it.signing_root = B256::repeat_byte(9)));
    let other =
        verify(Proof::ConflictingDuties(DutiesProof { first, second, holder: setup.holder(2), later_holder: None }));
    assert!(!other.unwrap().withdrawal_key_only, "other faults are faults with any key");
}

#[test]
fn one_message_said_twice_and_a_dealing_that_was_committed_to_are_no_equivocation() {
    let say = |body| SignedMessage::sign(&DOMAIN, &signer(2), (5, 1, index(2)), body);
    let key = |byte| say(Body::OneTimeKey(OneTimeKeyBody { public_key: vec![byte; 33] }));
    let judged = |first, second| verify(Proof::CeremonyEquivocation(MessagesProof { first, second }));
    assert_eq!(judged(key(2), key(2)), Err(EvidenceError::NoConflict));
    assert!(judged(key(2), key(3)).is_ok());
    let dealing = say(Body::Dealing(DealingBody {
        one_time_keys_hash: B256::repeat_byte(1),
        one_time_key: vec![2; 33],
        commitments: vec![3; 128],
        proof_of_possession: vec![4; 256],
        shares: vec![5; 32],
    }));
    let committed = DealingCommitmentBody { dealing_hash: dealing.digest(&DOMAIN) };
    let commitment = say(Body::DealingCommitment(committed));
    assert_eq!(judged(commitment.clone(), dealing.clone()), Err(EvidenceError::NoConflict));
    assert_eq!(judged(dealing, commitment), Err(EvidenceError::NoConflict));
}

#[test]
fn what_was_said_in_the_committee_of_a_reorganised_draw_is_no_equivocation() {
    let say = |body| SignedMessage::sign(&DOMAIN, &signer(2), (5, 1, index(2)), body);
    let judged = |first, second| verify(Proof::CeremonyEquivocation(MessagesProof { first, second }));
    let acknowledgement = |committee: u8, points: u8| {
        say(Body::Acknowledgement(AcknowledgementBody {
            threshold: 3,
            points_hash: B256::repeat_byte(points),
            committee_hash: B256::repeat_byte(committee),
            dealings_digest: B256::repeat_byte(4),
        }))
    };
    let set = |committee: u8, commitments: u8| {
        say(Body::CommitmentSet(CommitmentSetBody {
            committee_hash: B256::repeat_byte(committee),
            commitments_hash: B256::repeat_byte(commitments),
        }))
    };
    let other = |found| matches!(found, Err(EvidenceError::DifferentSubjects(_)));
    assert!(other(judged(acknowledgement(1, 1), acknowledgement(2, 2))));
    assert!(judged(acknowledgement(1, 1), acknowledgement(1, 2)).is_ok());
    assert!(other(judged(set(1, 1), set(2, 2))));
    assert!(judged(set(1, 1), set(1, 2)).is_ok());
}

#[test]
fn a_commitment_is_the_reporters_own() {
    let setup = Setup::new();
    let verified = verify(every_fault(&setup).swap_remove(0)).unwrap();
    let reporter = Address::repeat_byte(0xaa);
    let words = [reporter.into_word(), B256::from(U256::from(1)), verified.evidence];
    assert_eq!(verified.commitment(reporter), keccak256(words.concat()));
    assert_ne!(verified.commitment(reporter), verified.commitment(Address::repeat_byte(0xab)));
}

#[test]
fn a_file_of_other_contracts_another_version_or_with_more_in_it_is_refused() {
    let setup = Setup::new();
    let good = file(every_fault(&setup).swap_remove(0));
    good.is_for(&DOMAIN, COURT).unwrap();
    assert!(good.is_for(&DOMAIN, Address::ZERO).is_err());
    assert!(good.is_for(&ProtocolDomain { chain_id: 1, ..DOMAIN }, COURT).is_err());
    let json = serde_json::to_value(&good).unwrap();
    let refused = |change: fn(&mut serde_json::Value)| {
        let mut changed = json.clone();
        change(&mut changed);
        EvidenceFile::from_json(changed.to_string().as_bytes()).unwrap_err()
    };
    assert!(refused(|it| it["version"] = "2".into()).to_string().contains("of version 2"));
    let newer = refused(|it| (it["version"], it["proof"]) = ("2".into(), "of a kind that is not known yet".into()));
    assert!(newer.to_string().ends_with("it is of version 2"), "{newer}");
    let listed = EvidenceFile::from_json(format!(" [\"1\",\"1\",{json}]").as_bytes()).unwrap_err();
    assert!(listed.to_string().ends_with("a list where an object belongs"), "{listed}");
    assert!(refused(|it| it["more"] = "1".into()).to_string().contains("unknown field `more`"));
    assert!(refused(|it| it["proof"]["more"] = "1".into()).to_string().contains("unknown field `more`"));
    assert!(refused(|it| it["proof"]["holder"]["more"] = "1".into()).to_string().contains("unknown field"));
    assert!(refused(|it| it["proof"]["fault"] = "silence".into()).to_string().contains("unknown variant"));
    assert!(matches!(refused(|it| it["proof"]["holder"]["proof"] = vec!["0x"; 9].into()), EvidenceError::Malformed(_)));
    assert_eq!(EvidenceFile::from_json(&vec![b' '; MAX_FILE + 1]), Err(EvidenceError::TooLong(MAX_FILE + 1)));
}

/// The two files whose proof is one signature over what was signed once.
fn of_dealings() -> [EvidenceFile; 2] {
    [Proof::BadDealing(dealings::tests::wrong_share()), Proof::MalformedDealing(dealings::tests::too_few_commitments())]
        .map(file)
}

#[test]
fn no_changed_byte_of_a_dealings_file_accuses_anybody_else() {
    for good in of_dealings() {
        let verified = good.verify().unwrap();
        assert!(!good.is_undecided(&verified), "it claims whom it accuses");
        let text = serde_json::to_string(&good).unwrap();
        let (mut read, mut of_another_court) = (0, 0);
        for (at, old) in text.bytes().enumerate() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if old == b'1' { b'2' } else { b'1' };
            let Ok(changed) = EvidenceFile::from_json(&bytes) else { continue };
            read += 1;
            // Which Court is asked nobody signed, in no file: readers compare it.
            if changed.court != good.court {
                of_another_court += 1;
                continue;
            }
            let error = changed.verify().expect_err("a changed byte");
            let told = matches!(
                error,
                EvidenceError::OtherProof { .. } | EvidenceError::OtherSigner { .. } | EvidenceError::Signature(_)
            );
            assert!(told, "byte {at}: {error}");
        }
        assert_eq!(of_another_court, 40);
        assert!(read > text.len() / 2, "{read} of {}", text.len());
    }
}

#[test]
fn a_dealings_file_without_claims_is_valid_and_undecided() {
    for mut good in of_dealings() {
        let verified = good.verify().unwrap();
        let claims = good.claims.take();
        assert_eq!(EvidenceFile::from_json(&serde_json::to_vec(&good).unwrap()).unwrap(), good);
        assert_eq!(good.verify(), Ok(verified));
        assert!(good.is_undecided(&verified));
        // What was damaged accuses somebody, and only the chain can say that it is nobody.
        let (Proof::BadDealing(OpenedDealing { dealing, .. })
        | Proof::MalformedDealing(DefectiveDealing { dealing, .. })) = &mut good.proof
        else {
            panic!("{good:?}");
        };
        dealing.signature[40] ^= 1;
        assert!(good.verify().is_ok_and(|it| it.accused != verified.accused && good.is_undecided(&it)));
        good.claims = claims;
        assert!(matches!(good.verify(), Err(EvidenceError::OtherProof { .. })));
        let proof_hash = good.proof.hash();
        good.claims = claims.map(|it| Claims { proof_hash, ..it });
        assert!(matches!(good.verify(), Err(EvidenceError::OtherSigner { .. })), "and it names its signer");
    }
    let setup = Setup::new();
    for mut other in every_fault(&setup).into_iter().map(file).filter(|it| it.proof.dealing().is_none()) {
        assert_eq!(other.claims, None);
        assert!(!other.is_undecided(&other.verify().unwrap()));
        other.claims = Some(Claims { signer: Address::ZERO, proof_hash: other.proof.hash() });
        assert_eq!(other.verify(), Err(EvidenceError::NeedlessClaims(other.proof.fault())));
    }
}

#[test]
fn the_hash_of_a_proof_is_that_of_its_text() {
    for good in of_dealings() {
        let text = serde_json::to_string(&good).unwrap();
        let proof = text.split_once("\"proof\":").unwrap().1.strip_suffix('}').unwrap();
        assert_eq!(good.claims.unwrap().proof_hash, keccak256(proof));
    }
}

proptest! {
    #[test]
    fn no_changed_bit_of_what_was_signed_proves_anything_against_the_same_server(
        field in 0_usize..8, bit in 0_u32..64,
    ) {
        let setup = Setup::new();
        let proof = every_fault(&setup).swap_remove(2);
        let Proof::ConflictingDuties(DutiesProof { mut first, second, holder, later_holder }) = proof else { return Ok(()) };
        let flip = 1_u64 << bit;
        match field {
            0 => first.slot ^= flip,
            1 => first.source_epoch ^= flip,
            2 => first.target_epoch ^= flip,
            3 => first.key_id ^= flip,
            4 => first.committee_epoch ^= 1 << (bit % 32),
            5 => first.duty_kind ^= 1 << (bit % 8),
            6 => first.signing_root.0[(bit % 32) as usize] ^= 1,
            _ => first.partial_hash.0[(bit % 32) as usize] ^= 1,
        }
        let judged = verify(Proof::ConflictingDuties(DutiesProof { first, second, holder, later_holder }));
        prop_assert!(judged.is_err(), "field {}, bit {}", field, bit);
    }
}

#[test]
fn an_answer_is_evidence_only_if_it_is_wrong_and_its_holders() {
    let setup = Setup::new();
    let of = |envelope: &SignedEnvelope, partial: &[u8]| {
        EvidenceFile::of_answer(&setup.committee, COURT, envelope.clone(), partial).map(|file| file.proof.fault())
    };
    let (wrong, garbage) = (wrong_partial(&setup), vec![0xff; 256]);
    let deposit = |partial: &[u8]| {
        signed(2, |it| (it.duty_kind, it.partial_hash) = (DutyKind::Deposit as u8, keccak256(partial)))
    };
    assert_eq!(of(&deposit(&wrong), &wrong), Some(Fault::InvalidPartial));
    assert_eq!(of(&deposit(&garbage), &garbage), Some(Fault::GarbagePartial));
    let right = setup.dealer.shares[1].sign(&[1; 32]).signature.to_eip2537().to_vec();
    assert_eq!(of(&deposit(&right), &right), None);
    // Whoever took the leaf for another server's must not frame it: the Court compares with the signer of the challenge.
    let mut anothers = deposit(&wrong);
    anothers.signature = signer(3).sign_digest(anothers.digest(&DOMAIN));
    assert_eq!(of(&anothers, &wrong), None);
    let nobodys = SignedEnvelope { index: index(6), ..deposit(&wrong) };
    assert_eq!(of(&nobodys, &wrong), None);
}
