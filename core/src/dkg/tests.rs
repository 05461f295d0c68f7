//! Ceremonies in one process, and one adversary per check.

use alloy_sol_types::{SolValue, private::U256};
use proptest::prelude::*;

use super::*;
use crate::{CombineError, PartialSignature, PointError, Signature, points::HashedMessage, verify};

fn domain() -> CeremonyDomain {
    CeremonyDomain { chain_id: 31337, registry: Address::repeat_byte(0xab), key_id: 7, attempt: 1 }
}

fn index(i: u8) -> ShareIndex {
    ShareIndex::new(i).unwrap()
}

/// One-time secrets, one-time keys and dealings of an honest committee.
struct Ceremony {
    threshold: Threshold,
    secrets: Vec<OneTimeSecret>,
    keys: Vec<[u8; 33]>,
    dealings: Vec<Dealing>,
}

impl Ceremony {
    fn honest(t: u8, n: u8) -> Self {
        let threshold = Threshold::new(t, n).unwrap();
        let secrets: Vec<_> = threshold.indices().map(|_| OneTimeSecret::random().unwrap()).collect();
        let keys: Vec<_> = secrets.iter().map(OneTimeSecret::public_key).collect();
        let dealings = threshold
            .indices()
            .zip(&secrets)
            .map(|(dealer, secret)| deal(&domain(), threshold, dealer, secret, &keys).unwrap())
            .collect();
        Self { threshold, secrets, keys, dealings }
    }

    fn finish(&self, member: u8) -> Result<Outcome, DkgError> {
        finish(&domain(), self.threshold, index(member), &self.secrets[usize::from(member) - 1], &self.dealings)
    }

    fn check(&self, dealer: u8) -> Result<(), DealingFault> {
        let position = usize::from(dealer) - 1;
        self.dealings[position].check(&domain(), self.threshold, index(dealer), &self.keys[position])
    }

    /// Replaces dealer 2's dealing by one for which it knows everything: a valid proof, honest pads, and the shares
    /// that `forge` makes of the honest ones.
    fn forge_shares(&mut self, forge: impl Fn(u8, [u8; 32]) -> [u8; 32]) {
        let dealer = index(2);
        for recipient in self.threshold.indices() {
            let pad = self.secrets[1]
                .pad(&self.keys[recipient.position()], &domain().pad_words(dealer.get(), recipient.get()))
                .unwrap();
            let share = &mut self.dealings[1].shares[recipient.position()];
            let plain: [u8; 32] = std::array::from_fn(|k| share[k] ^ pad[k]);
            let forged = forge(recipient.get(), plain);
            *share = std::array::from_fn(|k| forged[k] ^ pad[k]);
        }
    }
}

fn blames(dealer: u8, fault: DealingFault) -> DkgError {
    DkgError::Dealer { dealer: index(dealer), fault }
}

fn order() -> [u8; 32] {
    hex::decode("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001").unwrap().try_into().unwrap()
}

const MESSAGE: [u8; 32] = [0x11; 32];

#[test]
fn all_members_end_with_one_key_and_any_t_sign_with_it() {
    for (t, n) in [(1, 1), (2, 2), (2, 3), (3, 4), (5, 7)] {
        let ceremony = Ceremony::honest(t, n);
        let outcomes: Vec<Outcome> = (1..=n).map(|member| ceremony.finish(member).unwrap()).collect();
        let keys = &outcomes[0].keys;
        let partials: Vec<PartialSignature> = outcomes.iter().map(|o| o.share.sign(&MESSAGE)).collect();
        for (outcome, dealer) in outcomes.iter().zip(1..) {
            assert_eq!(&outcome.keys, keys);
            assert_eq!(outcome.share.index(), index(dealer));
            assert_eq!(Some(&outcome.share.public_key()), keys.share_key(index(dealer)));
            assert_eq!(ceremony.check(dealer), Ok(()));
        }
        assert_eq!(&committee_keys(ceremony.threshold, &ceremony.dealings).unwrap(), keys);
        let rebuilt = CommitteeKeys::new(ceremony.threshold, keys.group_key(), keys.share_keys().to_vec());
        assert_eq!(rebuilt.as_ref(), Ok(keys));
        let last = &partials[usize::from(n - t)..];
        let combined = keys.combine(&MESSAGE, last).unwrap();
        assert!(verify(&keys.group_key(), &MESSAGE, &combined.signature));
    }
}

#[test]
fn two_ceremonies_give_two_keys() {
    let (a, b) = (Ceremony::honest(3, 4), Ceremony::honest(3, 4));
    assert_ne!(a.finish(1).unwrap().keys.group_key(), b.finish(1).unwrap().keys.group_key());
}

#[test]
fn a_dealing_with_too_many_or_too_few_commitments_is_the_dealers_fault() {
    for got in [0, 1, 2, 4, 64] {
        let mut ceremony = Ceremony::honest(3, 4);
        let extra = ceremony.dealings[0].commitments[0];
        ceremony.dealings[1].commitments.resize(got, extra);
        let fault = DealingFault::CommitmentCount { expected: 3, got };
        assert_eq!(ceremony.check(2), Err(fault));
        assert_eq!(ceremony.finish(1).unwrap_err(), blames(2, fault));
        assert_eq!(committee_keys(ceremony.threshold, &ceremony.dealings), Err(blames(2, fault)));
    }
}

#[test]
fn a_dealing_with_too_many_or_too_few_shares_is_the_dealers_fault() {
    for got in [0, 3, 5] {
        let mut ceremony = Ceremony::honest(3, 4);
        ceremony.dealings[3].shares.resize(got, [1; 32]);
        let fault = DealingFault::ShareCount { expected: 4, got };
        assert_eq!(ceremony.check(4), Err(fault));
        assert_eq!(ceremony.finish(1).unwrap_err(), blames(4, fault));
    }
    let mut ceremony = Ceremony::honest(3, 4);
    ceremony.dealings[0].shares.truncate(3);
    let opened = ceremony.dealings[0].open(&domain(), index(1), index(4), &ceremony.secrets[3]);
    assert_eq!(opened.unwrap_err(), DealingFault::ShareCount { expected: 4, got: 3 });
}

#[test]
fn a_dealing_under_another_members_index_is_refused() {
    let mut ceremony = Ceremony::honest(3, 4);
    let copied = ceremony.dealings[0].clone();
    ceremony.dealings[1] = copied;
    assert_eq!(ceremony.check(2), Err(DealingFault::OneTimeKeyDiffers));
    // Without the comparison of one-time keys the proof of possession still names the dealer.
    assert_eq!(ceremony.finish(3).unwrap_err(), blames(2, DealingFault::ProofOfPossession));
}

#[test]
fn a_rogue_constant_term_has_no_proof_of_possession() {
    // Dealer 4 waits for the others and commits to "my key minus their sum": the group key would be its own.
    let mut ceremony = Ceremony::honest(3, 4);
    let others = sum(ceremony.dealings[..3].iter().map(|d| &d.commitments[0])).unwrap();
    let own = crate::polynomial::random_scalar().unwrap();
    let negated = G1::negate_affine(&others.0);
    let rogue = PublicKey::from_group(&crate::blst_glue::g1_generator_mul(&own).add_affine(&negated)).unwrap();
    ceremony.dealings[3].commitments[0] = rogue;
    let message = possession_message(&domain(), index(4), &rogue);
    ceremony.dealings[3].proof_of_possession = HashedMessage::possession(&message).sign(&own);
    let keys = committee_keys(ceremony.threshold, &ceremony.dealings).unwrap();
    let adversarys = PublicKey::from_group(&crate::blst_glue::g1_generator_mul(&own)).unwrap();
    assert_eq!(keys.group_key(), adversarys, "the attack would work");
    assert_eq!(ceremony.check(4), Err(DealingFault::ProofOfPossession));
    assert_eq!(ceremony.finish(1).unwrap_err(), blames(4, DealingFault::ProofOfPossession));
}

#[test]
fn a_proof_of_possession_of_another_ceremony_is_refused() {
    let ceremony = Ceremony::honest(3, 4);
    let dealing = &ceremony.dealings[0];
    let foreign = [
        CeremonyDomain { chain_id: 1, ..domain() },
        CeremonyDomain { registry: Address::ZERO, ..domain() },
        CeremonyDomain { key_id: 8, ..domain() },
        CeremonyDomain { attempt: 0, ..domain() },
    ];
    for domain in foreign {
        let result = dealing.check(&domain, ceremony.threshold, index(1), &ceremony.keys[0]);
        assert_eq!(result, Err(DealingFault::ProofOfPossession), "{domain:?}");
        // The pads differ too: the share of one ceremony is noise in another.
        assert!(dealing.open(&domain, index(1), index(2), &ceremony.secrets[1]).is_err(), "{domain:?}");
    }
}

#[test]
fn a_signature_is_no_proof_of_possession() {
    let mut ceremony = Ceremony::honest(2, 2);
    let secret = Fr::from_u64(99);
    let constant_term = PublicKey::from_group(&crate::blst_glue::g1_generator_mul(&secret)).unwrap();
    let message = possession_message(&domain(), index(1), &constant_term);
    ceremony.dealings[0].commitments[0] = constant_term;
    ceremony.dealings[0].proof_of_possession = HashedMessage::signing_root(&message).sign(&secret);
    assert_eq!(ceremony.check(1), Err(DealingFault::ProofOfPossession));
    ceremony.dealings[0].proof_of_possession = HashedMessage::possession(&message).sign(&secret);
    assert_eq!(ceremony.check(1), Ok(()));
}

#[test]
fn a_share_that_does_not_match_the_commitments_names_dealer_and_recipient() {
    let mut ceremony = Ceremony::honest(3, 4);
    ceremony.forge_shares(|recipient, mut share| {
        share[31] ^= u8::from(recipient == 3);
        share
    });
    let fault = DealingFault::ShareMismatch { recipient: index(3) };
    assert_eq!(ceremony.finish(3).unwrap_err(), blames(2, fault));
    assert!(ceremony.finish(1).is_ok(), "the others cannot see it, which is why all n must acknowledge");
}

#[test]
fn shares_in_the_wrong_order_are_refused() {
    let mut ceremony = Ceremony::honest(3, 4);
    let plain: Vec<[u8; 32]> = {
        let cell = std::cell::RefCell::new(Vec::new());
        ceremony.forge_shares(|_, share| {
            cell.borrow_mut().push(share);
            share
        });
        cell.into_inner()
    };
    ceremony.forge_shares(|recipient, _| plain[4 - usize::from(recipient)]);
    for member in 1..=4 {
        let fault = DealingFault::ShareMismatch { recipient: index(member) };
        assert_eq!(ceremony.finish(member).unwrap_err(), blames(2, fault));
    }
}

#[test]
fn a_share_of_0_or_from_r_up_is_the_dealers_fault() {
    for value in [[0; 32], order(), [0xff; 32]] {
        let mut ceremony = Ceremony::honest(2, 3);
        ceremony.forge_shares(|_, _| value);
        let fault = DealingFault::ShareOutOfRange { recipient: index(1) };
        assert_eq!(ceremony.finish(1).unwrap_err(), blames(2, fault));
    }
}

#[test]
fn a_share_plus_r_is_not_a_second_encoding() {
    // Below 2^256 - r a share s and s + r are the same scalar; only s may be accepted.
    let order = U256::from_be_bytes(order());
    let mut ceremony = Ceremony::honest(2, 3);
    ceremony.forge_shares(|_, share| U256::from_be_bytes(share).wrapping_add(order).to_be_bytes());
    let fault = DealingFault::ShareOutOfRange { recipient: index(1) };
    assert_eq!(ceremony.finish(1).unwrap_err(), blames(2, fault));
}

#[test]
fn a_one_time_key_that_no_complaint_could_use_is_the_dealers_fault() {
    let mut ceremony = Ceremony::honest(3, 4);
    let bad = crate::sharing::one_time::tests::unrecoverable_key();
    ceremony.dealings[1].one_time_key = bad;
    let fault = DealingFault::OneTimeKey(OneTimeKeyError::NotRecoverable);
    let result = ceremony.dealings[1].check(&domain(), ceremony.threshold, index(2), &bad);
    assert_eq!(result, Err(fault));
    assert_eq!(ceremony.finish(1).unwrap_err(), blames(2, fault));
    ceremony.keys[2] = bad;
    let error = deal(&domain(), ceremony.threshold, index(1), &ceremony.secrets[0], &ceremony.keys).unwrap_err();
    assert_eq!(error, DkgError::OneTimeKey { member: index(3), error: OneTimeKeyError::NotRecoverable });
}

#[test]
fn another_one_time_key_than_the_published_one_is_the_dealers_fault() {
    let mut ceremony = Ceremony::honest(3, 4);
    ceremony.dealings[1].one_time_key = OneTimeSecret::random().unwrap().public_key();
    assert_eq!(ceremony.check(2), Err(DealingFault::OneTimeKeyDiffers));
}

#[test]
fn a_member_with_another_one_time_secret_blames_itself_and_no_dealer() {
    let ceremony = Ceremony::honest(3, 4);
    let foreign = OneTimeSecret::random().unwrap();
    let error = finish(&domain(), ceremony.threshold, index(1), &foreign, &ceremony.dealings).unwrap_err();
    assert_eq!(error, DkgError::ForeignSecret(index(1)));
    let error = deal(&domain(), ceremony.threshold, index(1), &foreign, &ceremony.keys).unwrap_err();
    assert_eq!(error, DkgError::ForeignSecret(index(1)));
}

#[test]
fn a_missing_dealing_or_an_index_above_n_is_refused() {
    let mut ceremony = Ceremony::honest(3, 4);
    let error = finish(&domain(), ceremony.threshold, index(5), &ceremony.secrets[0], &ceremony.dealings).unwrap_err();
    assert_eq!(error, DkgError::UnknownMember(index(5)));
    ceremony.dealings.pop();
    assert_eq!(ceremony.finish(1).unwrap_err(), DkgError::Count { what: "dealings", expected: 4, got: 3 });
}

#[test]
fn dealings_that_cancel_out_give_no_key() {
    let ceremony = Ceremony::honest(2, 2);
    let mut dealings = ceremony.dealings.clone();
    let mirrored = dealings[0].commitments.iter().map(|c| PublicKey(G1::negate_affine(&c.0))).collect();
    dealings[1].commitments = mirrored;
    assert_eq!(committee_keys(ceremony.threshold, &dealings), Err(DkgError::Degenerate));
}

#[test]
fn a_dealing_survives_the_wire() {
    for (t, n) in [(1, 1), (3, 4), (33, 64)] {
        let threshold = Threshold::new(t, n).unwrap();
        let secret = OneTimeSecret::random().unwrap();
        let keys = vec![secret.public_key(); n.into()];
        let dealing = deal(&domain(), threshold, index(1), &secret, &keys).unwrap();
        let proof = dealing.proof_of_possession.to_eip2537();
        let (commitments, shares) = (dealing.commitments_to_wire(), dealing.shares_to_wire());
        assert_eq!(Dealing::from_wire(&dealing.one_time_key, &commitments, &proof, &shares), Ok(dealing));
    }
}

#[test]
fn oversized_wire_fields_are_refused_before_decoding() {
    let dealing = &Ceremony::honest(2, 2).dealings[0];
    let proof = dealing.proof_of_possession.to_eip2537();
    let commitments = dealing.commitments_to_wire();
    let read = |commitments: &[u8], shares: &[u8]| {
        Dealing::from_wire(&dealing.one_time_key, commitments, &proof, shares).unwrap_err()
    };
    let too_many = vec![0; 65 * 128];
    assert_eq!(read(&too_many, &[]), DealingFault::WireLength { what: "commitments", got: 65 * 128 });
    assert_eq!(read(&commitments, &[0; 33]), DealingFault::WireLength { what: "shares", got: 33 });
    assert_eq!(read(&commitments, &[0; 65 * 32]), DealingFault::WireLength { what: "shares", got: 65 * 32 });
    let infinity = DealingFault::Point { what: "commitment", error: PointError::Infinity };
    assert_eq!(read(&[0; 256], &[]), infinity);
    assert!(Dealing::from_wire(&[2; 32], &commitments, &proof, &[]).is_err());
    assert!(Dealing::from_wire(&dealing.one_time_key, &commitments, &proof[1..], &[]).is_err());
}

#[test]
fn hashed_messages_are_what_abi_encode_makes_of_them() {
    let domain = domain();
    let constant_term = Ceremony::honest(1, 1).dealings[0].commitments[0];
    let (chain, key) = (U256::from(domain.chain_id), U256::from(domain.key_id));
    let (attempt, dealer, recipient) = (U256::from(domain.attempt), U256::from(3), U256::from(4));
    let point_hash = keccak256(constant_term.to_eip2537());
    let encoded =
        ("stkr/dkg/pop".to_owned(), chain, domain.registry, key, attempt, dealer, point_hash).abi_encode_params();
    assert_eq!(possession_message(&domain, index(3), &constant_term), keccak256(encoded).0);

    let (mine, theirs) = (OneTimeSecret::random().unwrap(), OneTimeSecret::random().unwrap());
    let other = secp256k1::PublicKey::from_slice(&theirs.public_key()).unwrap();
    let mine_key = secp256k1::SecretKey::from_byte_array(&mine.to_bytes()).unwrap();
    let point = other.mul_tweak(secp256k1::SECP256K1, &mine_key.into()).unwrap();
    let shared = Address::from_word(keccak256(&point.serialize_uncompressed()[1..]));
    let encoded = (shared, chain, domain.registry, key, attempt, dealer, recipient).abi_encode_params();
    let pad = mine.pad(&theirs.public_key(), &domain.pad_words(3, 4)).unwrap();
    assert_eq!(*pad, keccak256(encoded).0);
}

#[test]
fn opened_shares_and_outcomes_do_not_print() {
    let ceremony = Ceremony::honest(1, 1);
    let opened = ceremony.dealings[0].open(&domain(), index(1), index(1), &ceremony.secrets[0]).unwrap();
    assert_eq!(format!("{opened:?}"), "OpenedShare(..)");
    let outcome = ceremony.finish(1).unwrap();
    let secret = hex::encode(outcome.share.to_bytes());
    assert!(!format!("{outcome:?}").contains(&secret[..16]));
}

/// What a dealer can do to its dealing that others must see.
#[derive(Clone, Copy, Debug)]
enum Lie {
    OneCommitmentMore,
    OneCommitmentLess,
    OneShareMore,
    OneShareLess,
    /// Of the next member, as it is.
    Copied,
    /// The same member's, of another attempt.
    OfBefore,
    /// Everybody gets what is the next member's.
    Shuffled,
    /// Everybody gets f(i) + r.
    PlusOrder,
    /// Everybody gets 0.
    Zero,
}

const LIES: [Lie; 9] = [
    Lie::OneCommitmentMore,
    Lie::OneCommitmentLess,
    Lie::OneShareMore,
    Lie::OneShareLess,
    Lie::Copied,
    Lie::OfBefore,
    Lie::Shuffled,
    Lie::PlusOrder,
    Lie::Zero,
];

impl Lie {
    /// Has dealer 2 tell it.
    fn tell(self, ceremony: &mut Ceremony) {
        let (t, n) = (usize::from(ceremony.threshold.t()), usize::from(ceremony.threshold.n()));
        let extra = ceremony.dealings[0].commitments[0];
        match self {
            Self::OneCommitmentMore => ceremony.dealings[1].commitments.resize(t + 1, extra),
            Self::OneCommitmentLess => ceremony.dealings[1].commitments.truncate(t - 1),
            Self::OneShareMore => ceremony.dealings[1].shares.resize(n + 1, [1; 32]),
            Self::OneShareLess => ceremony.dealings[1].shares.truncate(n - 1),
            Self::Copied => ceremony.dealings[1] = ceremony.dealings[0].clone(),
            Self::OfBefore => {
                let before = CeremonyDomain { attempt: domain().attempt - 1, ..domain() };
                let dealing = deal(&before, ceremony.threshold, index(2), &ceremony.secrets[1], &ceremony.keys);
                ceremony.dealings[1] = dealing.unwrap();
            }
            Self::Shuffled => {
                let plain = std::cell::RefCell::new(Vec::new());
                ceremony.forge_shares(|_, share| {
                    plain.borrow_mut().push(share);
                    share
                });
                ceremony.forge_shares(|recipient, _| plain.borrow()[usize::from(recipient) % n]);
            }
            Self::PlusOrder => {
                let order = U256::from_be_bytes(order());
                ceremony.forge_shares(|_, share| U256::from_be_bytes(share).wrapping_add(order).to_be_bytes());
            }
            Self::Zero => ceremony.forge_shares(|_, _| [0; 32]),
        }
    }

    const fn is_of(self, fault: DealingFault) -> bool {
        match self {
            Self::OneCommitmentMore | Self::OneCommitmentLess => matches!(fault, DealingFault::CommitmentCount { .. }),
            Self::OneShareMore | Self::OneShareLess => matches!(fault, DealingFault::ShareCount { .. }),
            Self::Copied | Self::OfBefore => matches!(fault, DealingFault::ProofOfPossession),
            Self::Shuffled => matches!(fault, DealingFault::ShareMismatch { .. }),
            Self::PlusOrder | Self::Zero => matches!(fault, DealingFault::ShareOutOfRange { .. }),
        }
    }
}

/// Threshold, number of members and an order of them: up to 22-of-32.
fn committee() -> impl Strategy<Value = (u8, Vec<u8>)> {
    (2_u8..=32)
        .prop_flat_map(|n| ((n / 2 + 1)..=n.min(22).max(n / 2 + 1), Just((1..=n).collect::<Vec<u8>>()).prop_shuffle()))
}

proptest! {
    #![proptest_config(crate::testing::cases(12))]

    #[test]
    fn any_committee_makes_a_key_that_any_t_members_sign_with_and_no_fewer((t, order) in committee(), message: [u8; 32]) {
        let ceremony = Ceremony::honest(t, u8::try_from(order.len()).unwrap());
        let chosen = &order[..t.into()];
        let partials: Vec<_> = chosen.iter().map(|m| ceremony.finish(*m).unwrap().share.sign(&message)).collect();
        let keys = committee_keys(ceremony.threshold, &ceremony.dealings).unwrap();
        let combined = keys.combine(&message, &partials).unwrap();
        prop_assert!(verify(&keys.group_key(), &message, &combined.signature));
        prop_assert!(combined.culprits.is_empty());
        // One less is not enough, whatever stands in for it: nothing, one of them again, or one of them as somebody else.
        let mut fewer = partials[..usize::from(t) - 1].to_vec();
        prop_assert!(keys.combine(&message, &fewer).is_err());
        let taken = fewer[0];
        fewer.push(taken);
        prop_assert_eq!(keys.combine(&message, &fewer), Err(CombineError::DuplicateIndex(taken.index)));
        *fewer.last_mut().unwrap() = PartialSignature { index: partials[usize::from(t) - 1].index, ..taken };
        prop_assert!(keys.combine(&message, &fewer).is_err());
    }

    #[test]
    fn whatever_a_dealer_of_any_committee_does_to_its_dealing_every_member_names_it(
        (t, order) in committee(), lie in prop::sample::select(&LIES[..]),
    ) {
        let mut ceremony = Ceremony::honest(t, u8::try_from(order.len()).unwrap());
        lie.tell(&mut ceremony);
        // The liar itself may believe what it likes.
        let member = order.into_iter().find(|member| *member != 2).unwrap();
        match ceremony.finish(member) {
            Err(DkgError::Dealer { dealer, fault }) => prop_assert!(dealer == index(2) && lie.is_of(fault), "{lie:?}: {fault}"),
            other => prop_assert!(false, "{lie:?}: {other:?}"),
        }
    }

    #[test]
    fn any_flipped_bit_of_a_dealing_ends_the_ceremony_naming_the_dealer(field in 0_u8..4, bit in any::<prop::sample::Index>()) {
        let mut ceremony = Ceremony::honest(2, 3);
        let dealing = &mut ceremony.dealings[1];
        let mut fields = [
            dealing.one_time_key.to_vec(),
            dealing.commitments_to_wire(),
            dealing.proof_of_possession.to_eip2537().to_vec(),
            dealing.shares[..1].as_flattened().to_vec(),
        ];
        let bytes = &mut fields[usize::from(field)];
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let all_shares = [fields[3].clone(), dealing.shares_to_wire()[32..].to_vec()].concat();
        if let Ok(tampered) = Dealing::from_wire(&fields[0], &fields[1], &fields[2], &all_shares) {
            *dealing = tampered;
            let named = matches!(ceremony.finish(1), Err(DkgError::Dealer { dealer, .. }) if dealer == index(2));
            prop_assert!(named);
        }
    }

    #[test]
    fn the_wire_decoder_takes_any_bytes(
        key in proptest::collection::vec(any::<u8>(), 0..40),
        commitments in proptest::collection::vec(any::<u8>(), 0..300),
        proof in proptest::collection::vec(any::<u8>(), 256),
        shares in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        prop_assert!(Dealing::from_wire(&key, &commitments, &proof, &shares).is_err());
    }
}

/// The proof's type is a signature of the group: nothing here may accept one as a duty.
#[test]
fn a_proof_of_possession_is_no_signature_over_its_message() {
    let dealing = &Ceremony::honest(1, 1).dealings[0];
    let message = possession_message(&domain(), index(1), &dealing.commitments[0]);
    let proof: Signature = dealing.proof_of_possession;
    assert!(!verify(&dealing.commitments[0], &message, &proof));
}
