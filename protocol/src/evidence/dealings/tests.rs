//! Dealings of the second of four members: the honest one, and everything that is wrong with others.

use proptest::prelude::*;
use stkr_core::{
    ShareIndex, Threshold,
    dkg::{self, OneTimeSecret},
};

use super::*;
use crate::{SignerKey, evidence::EvidenceFile, evidence::Proof, messages::DealingBody};

const DOMAIN: ProtocolDomain =
    ProtocolDomain { chain_id: 31_337, key_registry: alloy_primitives::Address::repeat_byte(0x42) };
const SUBJECT: (u64, u16) = (5, 1);
const DEALER: u8 = 2;
const SIZE: (u8, u8) = (3, 4);

fn index(index: u8) -> ShareIndex {
    ShareIndex::new(index).unwrap()
}

fn secret(member: u8) -> OneTimeSecret {
    OneTimeSecret::from_bytes(&keccak256([b'o', member]).0).unwrap()
}

fn keys() -> Vec<[u8; KEY]> {
    (1..=SIZE.1).map(|member| secret(member).public_key()).collect()
}

fn ceremony() -> CeremonyDomain {
    CeremonyDomain { chain_id: DOMAIN.chain_id, registry: DOMAIN.key_registry, key_id: SUBJECT.0, attempt: SUBJECT.1 }
}

fn say(change: impl FnOnce(&mut DealingBody)) -> SignedMessage {
    let threshold = Threshold::new(SIZE.0, SIZE.1).unwrap();
    let dealing = dkg::deal(&ceremony(), threshold, index(DEALER), &secret(DEALER), &keys()).unwrap();
    let mut body = DealingBody {
        one_time_keys_hash: keccak256(keys().as_flattened()),
        one_time_key: dealing.one_time_key.to_vec(),
        commitments: dealing.commitments_to_wire(),
        proof_of_possession: dealing.proof_of_possession.to_eip2537().to_vec(),
        shares: dealing.shares_to_wire(),
    };
    change(&mut body);
    let signer = SignerKey::from_bytes(&keccak256([b's', DEALER]).0).unwrap();
    SignedMessage::sign(&DOMAIN, &signer, (SUBJECT.0, SUBJECT.1, index(DEALER)), Body::Dealing(body))
}

fn opened(message: &SignedMessage, recipient: u8) -> OpenedDealing {
    OpenedDealing {
        dealing: SignedDealing::of(message).unwrap(),
        one_time_keys: keys().as_flattened().to_vec(),
        recipient,
        secret: *secret(recipient).to_bytes(),
    }
}

/// What the share for member 3 becomes, before it is encrypted.
fn with_share(share: impl FnOnce([u8; 32]) -> [u8; 32]) -> SignedMessage {
    say(|body| {
        let at = 2 * SHARE..3 * SHARE;
        let sent: [u8; SHARE] = body.shares[at.clone()].try_into().unwrap();
        let own: [u8; KEY] = body.one_time_key.as_slice().try_into().unwrap();
        let open = |bytes| decrypt_share(&ceremony(), (DEALER, 3), &own, &secret(3).to_bytes(), bytes).unwrap();
        let changed = share(open(&sent));
        // Decrypting is encrypting.
        body.shares[at].copy_from_slice(&open(&changed));
    })
}

/// Evidence against the second member.
pub(in crate::evidence) fn wrong_share() -> OpenedDealing {
    opened(&say(|body| body.shares[3 * SHARE - 1] ^= 1), 3)
}

/// The same.
pub(in crate::evidence) fn too_few_commitments() -> DefectiveDealing {
    find(&say(|body| body.commitments.truncate(2 * G1))).unwrap()
}

fn find(message: &SignedMessage) -> Option<DefectiveDealing> {
    DefectiveDealing::find(message, SIZE, Some(keys().as_flattened().to_vec()), &DOMAIN)
}

fn verify(proof: Proof) -> Result<Accused, EvidenceError> {
    let file = EvidenceFile::new(&DOMAIN, alloy_primitives::Address::ZERO, proof);
    let read = EvidenceFile::from_json(&serde_json::to_vec(&file).unwrap()).unwrap();
    assert_eq!(read, file);
    read.verify().map(|it| it.accused)
}

#[test]
fn the_digest_is_that_of_the_message() {
    let message = say(|_| ());
    assert_eq!(SignedDealing::of(&message).unwrap().digest(&DOMAIN), message.digest(&DOMAIN));
}

#[test]
fn an_honest_dealing_is_good_for_every_member_and_has_no_defect() {
    let message = say(|_| ());
    for recipient in 1..=SIZE.1 {
        assert_eq!(verify(Proof::BadDealing(opened(&message, recipient))), Err(EvidenceError::GoodDealing(recipient)));
    }
    assert_eq!(find(&message), None);
    assert_eq!(DefectiveDealing::find(&message, SIZE, None, &DOMAIN), None);
    let empty = DefectiveDealing { hashed: Vec::new(), ..too_few_commitments() };
    for (defect, position, error) in [
        (Defect::Shape, 0, EvidenceError::NotMalformed(Defect::Shape)),
        (Defect::Commitment, 2, EvidenceError::NotMalformed(Defect::Commitment)),
        (Defect::Commitment, 3, EvidenceError::NotMalformed(Defect::Commitment)),
    ] {
        let dealing = SignedDealing::of(&message).unwrap();
        let proof = DefectiveDealing { dealing, defect, position, ..empty.clone() };
        assert_eq!(verify(Proof::MalformedDealing(proof)), Err(error));
    }
}

#[test]
fn a_wrong_share_convicts_by_its_own_member_alone_and_so_does_one_that_is_no_scalar() {
    let order: [u8; 32] =
        hex::decode("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001").unwrap().try_into().unwrap();
    let wrong: [fn([u8; 32]) -> [u8; 32]; 3] =
        [|share| (U256::from_be_bytes(share) ^ U256::ONE).to_be_bytes(), |_| [0; 32], |_| [0xff; 32]];
    for share in wrong {
        let message = with_share(share);
        assert!(verify(Proof::BadDealing(opened(&message, 3))).is_ok());
        assert_eq!(verify(Proof::BadDealing(opened(&message, 4))), Err(EvidenceError::GoodDealing(4)));
    }
    for twin in [
        with_share(|_| order),
        with_share(|share| U256::from_be_bytes(share).wrapping_add(U256::from_be_bytes(order)).to_be_bytes()),
    ] {
        assert!(verify(Proof::BadDealing(opened(&twin, 3))).is_ok(), "s + r is a second encoding of s");
    }
    assert_eq!(verify(Proof::BadDealing(opened(&with_share(|it| it), 3))), Err(EvidenceError::GoodDealing(3)));
}

#[test]
fn nobody_is_framed_with_another_key_or_secret_than_the_dealer_had() {
    let message = say(|_| ());
    let mut other = opened(&message, 3);
    other.one_time_keys[2 * KEY..3 * KEY].copy_from_slice(&secret(9).public_key());
    other.secret = *secret(9).to_bytes();
    assert!(matches!(verify(Proof::BadDealing(other)), Err(EvidenceError::OtherOneTimeKeys { .. })));
    let order = U256::from_be_slice(&secp256k1::constants::CURVE_ORDER);
    let own = U256::from_be_bytes(*secret(3).to_bytes());
    // Another's, none, the order, and the negated one, whose shared point is the negated one.
    for number in [U256::from_be_bytes(*secret(4).to_bytes()), U256::ZERO, order, order - own] {
        let lie = OpenedDealing { secret: number.to_be_bytes(), ..opened(&message, 3) };
        assert_eq!(lie.y(), U256::ZERO);
        assert_eq!(verify(Proof::BadDealing(lie)), Err(EvidenceError::WrongOpening(3)));
    }
    for recipient in [0, 5, 255] {
        let nobody = OpenedDealing { recipient, ..opened(&message, 3) };
        assert_eq!(verify(Proof::BadDealing(nobody)), Err(EvidenceError::WrongOpening(recipient)));
    }
    let mut unsigned = wrong_share();
    unsigned.dealing.signature = [0; 65];
    assert!(matches!(verify(Proof::BadDealing(unsigned)), Err(EvidenceError::Signature(_))));
}

#[test]
fn what_cannot_be_opened_is_malformed_and_not_a_bad_share() {
    let no_point = say(|body| body.commitments[G1 + 100] ^= 1);
    assert_eq!(verify(Proof::BadDealing(opened(&no_point, 3))), Err(EvidenceError::Inconclusive));
    assert_eq!(find(&no_point).map(|it| (it.defect, it.position)), Some((Defect::Commitment, 1)));
    let no_key = say(|body| {
        body.one_time_key = vec![2; KEY];
        body.one_time_key[1..].fill(0);
        body.one_time_key[KEY - 1] = 5; // x = 5 is not on secp256k1
    });
    assert_eq!(verify(Proof::BadDealing(opened(&no_key, 3))), Err(EvidenceError::UnusableOneTimeKey));
    assert_eq!(find(&no_key).map(|it| it.defect), Some(Defect::OneTimeKey));
}

#[test]
fn every_defect_is_found_and_called_what_it_is() {
    type Change = fn(&mut DealingBody);
    let defects: [(Change, Defect); 11] = [
        (|it| it.commitments.truncate(2 * G1), Defect::Shape),
        (|it| it.commitments.clear(), Defect::Shape),
        (|it| it.shares.extend([1; SHARE]), Defect::Shape),
        (|it| it.shares.truncate(31), Defect::Shape),
        (|it| it.one_time_key.clear(), Defect::Shape),
        (|it| it.one_time_key = secret(9).public_key().to_vec(), Defect::OneTimeKey),
        (|it| it.one_time_key[0] = 4, Defect::OneTimeKey),
        (|it| it.commitments[..G1].fill(0), Defect::Commitment),
        (|it| it.commitments[2 * G1] = 1, Defect::Commitment),
        (|it| it.proof_of_possession.clear(), Defect::Possession),
        (|it| it.proof_of_possession[255] ^= 1, Defect::Possession),
    ];
    for (number, (change, defect)) in defects.into_iter().enumerate() {
        let proof = find(&say(change)).unwrap();
        assert_eq!(proof.defect, defect, "{number}");
        let signer = SignerKey::from_bytes(&keccak256([b's', DEALER]).0).unwrap().address();
        let dealer = Accused::Dealer { signer, threshold: SIZE.0, members: SIZE.1 };
        assert_eq!(verify(Proof::MalformedDealing(proof)), Ok(dealer), "{number}");
    }
    let foreign = say(|it| {
        let other = OneTimeSecret::random().unwrap();
        let list: Vec<_> = keys().into_iter().take(3).chain([other.public_key()]).collect();
        it.one_time_keys_hash = keccak256(list.as_flattened());
    });
    assert_eq!(find(&foreign), None, "who was shown other keys than we were is not at fault");
}

#[test]
fn the_pairing_decides_what_is_possession_so_two_infinities_are() {
    let both = say(|it| {
        it.commitments[..G1].fill(0);
        it.proof_of_possession.fill(0);
    });
    let proof = DefectiveDealing { defect: Defect::Possession, hashed: vec![0; G2], ..find(&both).unwrap() };
    let expected = Err(EvidenceError::NotMalformed(Defect::Possession));
    assert_eq!(verify(Proof::MalformedDealing(proof)), expected);
    assert_eq!(find(&both).unwrap().defect, Defect::Commitment);
    let one = say(|it| it.proof_of_possession.fill(0));
    assert_eq!(find(&one).unwrap().defect, Defect::Possession);
    // Not the bytes that were signed for.
    let other = DefectiveDealing { hashed: vec![1; G2], ..find(&one).unwrap() };
    assert!(matches!(verify(Proof::MalformedDealing(other)), Err(EvidenceError::OtherPossession { .. })));
}

#[test]
fn a_list_of_another_length_than_the_committee_has_is_the_dealers_fault() {
    let long: Vec<_> = keys().into_iter().chain([secret(9).public_key()]).collect();
    let message = say(|it| it.one_time_keys_hash = keccak256(long.as_flattened()));
    let hashed = long.as_flattened().to_vec();
    let proof = DefectiveDealing {
        dealing: SignedDealing::of(&message).unwrap(),
        defect: Defect::OneTimeKey,
        hashed,
        ..too_few_commitments()
    };
    assert!(verify(Proof::MalformedDealing(proof.clone())).is_ok());
    let other = DefectiveDealing { hashed: keys().as_flattened().to_vec(), ..proof };
    assert!(matches!(verify(Proof::MalformedDealing(other)), Err(EvidenceError::OtherOneTimeKeys { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_is_changed_in_a_dealing_that_is_signed_again_the_dealer_is_found_or_nothing_was_changed(
        field in 0_u8..4, at in any::<prop::sample::Index>(), flip in 1_u8..,
    ) {
        let message = say(|body| {
            let bytes = match field {
                0 => &mut body.one_time_key,
                1 => &mut body.commitments,
                2 => &mut body.proof_of_possession,
                _ => &mut body.shares,
            };
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        });
        let opened_by = (1..=SIZE.1).any(|member| verify(Proof::BadDealing(opened(&message, member))).is_ok());
        prop_assert!(find(&message).is_some() || opened_by, "field {field}");
    }
}
