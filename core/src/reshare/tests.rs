//! Resharings in one process, and one adversary per check. What nobody may learn is in `secrecy`.

use alloy_sol_types::{SolValue, private::U256};
use proptest::prelude::*;

use super::*;
use crate::{
    PartialSignature, PointError, Signature,
    blst_glue::Group,
    dkg, interpolate,
    sharing::{OneTimeKeyError, one_time::tests::unrecoverable_key},
    testing::TrustedDealer,
    verify,
};

pub(super) fn domain() -> ReshareDomain {
    ReshareDomain { chain_id: 31337, registry: Address::repeat_byte(0xab), key_id: 7, epoch: 3, attempt: 1 }
}

pub(super) fn index(i: u8) -> ShareIndex {
    ShareIndex::new(i).unwrap()
}

pub(super) fn indices(list: &[u8]) -> Vec<ShareIndex> {
    list.iter().map(|&i| index(i)).collect()
}

pub(super) fn threshold((t, n): (u8, u8)) -> Threshold {
    Threshold::new(t, n).unwrap()
}

pub(super) fn key_of(committee: (u8, u8)) -> TrustedDealer {
    TrustedDealer::deal(threshold(committee), [committee.0 ^ 0x5a; 32])
}

/// One resharing: what new members made, and the dealings.
pub(super) struct Handover {
    pub(super) reshare: Reshare,
    pub(super) secrets: Vec<RecipientSecrets>,
    pub(super) published: Vec<Vec<[u8; 33]>>,
    pub(super) dealings: Vec<Dealing>,
}

impl Handover {
    /// The old members `dealers` deal honestly to a committee of `new`.
    pub(super) fn honest(old: &CommitteeKeys, shares: &[SecretShare], dealers: &[u8], new: (u8, u8)) -> Self {
        Self::in_domain(domain(), old, shares, dealers, new)
    }

    fn in_domain(
        domain: ReshareDomain,
        old: &CommitteeKeys,
        shares: &[SecretShare],
        dealers: &[u8],
        new: (u8, u8),
    ) -> Self {
        let reshare = Reshare::new(domain, old.clone(), indices(dealers), threshold(new)).unwrap();
        let secrets: Vec<_> = (0..new.1).map(|_| RecipientSecrets::random(&reshare).unwrap()).collect();
        let published: Vec<_> = secrets.iter().map(RecipientSecrets::public_keys).collect();
        let mut handover = Self { reshare, secrets, published, dealings: Vec::new() };
        for dealer in indices(dealers) {
            let dealing = handover.reshare.deal(&shares[dealer.position()], &handover.published).unwrap();
            handover.dealings.push(dealing);
        }
        handover
    }

    /// The one-time keys that the new members published for one dealer.
    pub(super) fn keys_for(&self, dealer: ShareIndex) -> Vec<[u8; 33]> {
        self.reshare.keys_for(dealer, &self.published)
    }

    pub(super) fn finish(&self, member: u8) -> Result<Outcome, ReshareError> {
        let position = usize::from(member) - 1;
        self.reshare.finish(index(member), &self.secrets[position], &self.published[position], &self.dealings)
    }

    fn finish_all(&self) -> Vec<SecretShare> {
        (1..=self.reshare.new_threshold().n()).map(|member| self.finish(member).unwrap().share).collect()
    }

    fn keys(&self) -> CommitteeKeys {
        self.reshare.new_keys(&self.dealings).unwrap()
    }

    /// Replaces a dealer's dealing by one of `polynomial` whose shares are what `forge` makes of the true ones.
    pub(super) fn rig(&mut self, dealer: u8, polynomial: &Polynomial, forge: impl Fn(u8, [u8; 32]) -> [u8; 32]) {
        let (dealer, secret) = (index(dealer), OneTimeSecret::random().unwrap());
        let keys = self.keys_for(dealer);
        let encrypt = |recipient: ShareIndex| {
            let words = domain().pad_words(dealer.get(), recipient.get());
            let pad = secret.pad(&keys[recipient.position()], &words).unwrap();
            let share = forge(recipient.get(), *polynomial.at(recipient).to_bytes());
            sharing::xor(&share, &pad)
        };
        let dealing = Dealing {
            one_time_key: secret.public_key(),
            commitments: polynomial.commitments().unwrap(),
            shares: self.reshare.new_threshold().indices().map(encrypt).collect(),
        };
        let position = self.reshare.position(dealer).unwrap();
        self.dealings[position] = dealing;
    }
}

/// 3-of-4 hands over to 3-of-4; members 1, 2 and 4 deal.
fn refreshed() -> (TrustedDealer, Handover) {
    let key = key_of((3, 4));
    let handover = Handover::honest(&key.keys, &key.shares, &[1, 2, 4], (3, 4));
    (key, handover)
}

/// The polynomial of an honest dealer of its share.
pub(super) fn polynomial_of(share: &SecretShare, t: u8) -> Polynomial {
    Polynomial::random_through(share.scalar().clone(), t).unwrap()
}

fn blames(dealer: u8, fault: DealingFault) -> ReshareError {
    ReshareError::Dealer { dealer: index(dealer), fault }
}

fn order() -> [u8; 32] {
    hex::decode("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001").unwrap().try_into().unwrap()
}

const MESSAGE: [u8; 32] = [0x11; 32];

fn partials(shares: &[SecretShare]) -> Vec<PartialSignature> {
    shares.iter().map(|share| share.sign(&MESSAGE)).collect()
}

#[test]
fn another_committee_signs_with_the_same_key() {
    for (old, dealers, new) in [
        ((1, 1), &[1][..], (2, 2)),
        ((2, 2), &[1, 2], (2, 3)),
        ((3, 4), &[1, 3, 4], (3, 4)),
        ((3, 4), &[2, 3, 4], (5, 7)),
        ((5, 7), &[1, 2, 4, 6, 7], (2, 2)),
        ((5, 7), &[3, 4, 5, 6, 7], (7, 10)),
    ] {
        let key = key_of(old);
        let handover = Handover::honest(&key.keys, &key.shares, dealers, new);
        let keys = handover.keys();
        assert_eq!(keys.group_key(), key.keys.group_key());
        assert_eq!(keys.threshold(), threshold(new));
        assert_eq!(
            CommitteeKeys::new(keys.threshold(), keys.group_key(), keys.share_keys().to_vec()),
            Ok(keys.clone())
        );
        let mut shares = Vec::new();
        for member in 1..=new.1 {
            let outcome = handover.finish(member).unwrap();
            assert_eq!(outcome.keys, keys);
            assert_eq!(outcome.share.index(), index(member));
            assert_eq!(keys.share_key(index(member)), Some(&outcome.share.public_key()));
            shares.push(outcome.share);
        }
        let last = &partials(&shares)[usize::from(new.1 - new.0)..];
        let combined = keys.combine(&MESSAGE, last).unwrap();
        assert!(combined.culprits.is_empty());
        assert_eq!(combined.signature, key.group_signature(&MESSAGE));
    }
}

#[test]
fn a_refresh_changes_every_share_and_no_key() {
    let (key, handover) = refreshed();
    let shares = handover.finish_all();
    for (before, after) in key.shares.iter().zip(&shares) {
        assert_ne!(before.to_bytes(), after.to_bytes());
        assert_ne!(before.public_key(), after.public_key());
    }
    assert_eq!(handover.keys().group_key(), key.keys.group_key());
}

#[test]
fn several_resharings_in_a_row_keep_the_key() {
    let key = key_of((3, 4));
    let (mut keys, mut shares) = (key.keys.clone(), key.shares);
    let group_key = keys.group_key();
    let mut signatures = Vec::new();
    for (epoch, (dealers, new)) in (1_u32..).zip([
        (&[1, 2, 4][..], (5, 7)),
        (&[1, 2, 5, 6, 7], (2, 3)),
        (&[2, 3], (7, 10)),
        (&[1, 2, 3, 4, 5, 6, 9], (3, 4)),
    ]) {
        let domain = ReshareDomain { epoch, ..domain() };
        let handover = Handover::in_domain(domain, &keys, &shares, dealers, new);
        (keys, shares) = (handover.keys(), handover.finish_all());
        assert_eq!(keys.group_key(), group_key);
        signatures.push(keys.combine(&MESSAGE, &partials(&shares)).unwrap().signature);
    }
    assert!(signatures.iter().all(|signature| *signature == signatures[0]));
    assert!(verify(&group_key, &MESSAGE, &signatures[0]));
}

#[test]
fn a_key_of_a_dkg_is_reshared() {
    let old = threshold((3, 4));
    let ceremony = dkg::CeremonyDomain { chain_id: 31337, registry: Address::repeat_byte(0xab), key_id: 7, attempt: 0 };
    let secrets: Vec<_> = old.indices().map(|_| OneTimeSecret::random().unwrap()).collect();
    let one_time_keys: Vec<_> = secrets.iter().map(OneTimeSecret::public_key).collect();
    let members = || old.indices().zip(&secrets);
    let dealings: Vec<_> =
        members().map(|(i, secret)| dkg::deal(&ceremony, old, i, secret, &one_time_keys).unwrap()).collect();
    let outcomes: Vec<_> =
        members().map(|(i, secret)| dkg::finish(&ceremony, old, i, secret, &dealings).unwrap()).collect();
    let keys = outcomes[0].keys.clone();
    let shares: Vec<_> = outcomes.into_iter().map(|outcome| outcome.share).collect();
    let handover = Handover::honest(&keys, &shares, &[2, 3, 4], (4, 5));
    let combined = handover.keys().combine(&MESSAGE, &partials(&handover.finish_all())).unwrap();
    assert!(verify(&keys.group_key(), &MESSAGE, &combined.signature));
}

#[test]
fn dealers_are_exactly_t_old_members_in_order() {
    let key = key_of((3, 4));
    let plan = |dealers: &[u8]| Reshare::new(domain(), key.keys.clone(), indices(dealers), threshold((3, 4)));
    assert!(plan(&[1, 2, 4]).is_ok());
    for dealers in [&[][..], &[1, 2], &[1, 2, 3, 4]] {
        assert_eq!(plan(dealers).unwrap_err(), PlanError::DealerCount { expected: 3, got: dealers.len() });
    }
    assert_eq!(plan(&[1, 2, 5]).unwrap_err(), PlanError::UnknownDealer(index(5)));
    // A dealer that counts twice would be one of t and have two coefficients.
    assert_eq!(plan(&[1, 2, 2]).unwrap_err(), PlanError::DealersNotAscending(index(2)));
    assert_eq!(plan(&[1, 1, 2]).unwrap_err(), PlanError::DealersNotAscending(index(1)));
    assert_eq!(plan(&[2, 1, 3]).unwrap_err(), PlanError::DealersNotAscending(index(1)));
    // 0 is the key itself, and r or r + i are i again: neither has a representation.
    assert!(ShareIndex::new(0).is_err() && ShareIndex::new(65).is_err() && ShareIndex::new(u8::MAX).is_err());
}

#[test]
fn a_threshold_of_1_would_put_the_key_on_one_machine() {
    let key = key_of((3, 4));
    let plan = Reshare::new(domain(), key.keys, indices(&[1, 2, 3]), threshold((1, 1)));
    assert_eq!(plan.unwrap_err(), PlanError::WholeKey);
}

#[test]
fn a_dealer_of_another_secret_than_its_share_is_named() {
    let (key, mut handover) = refreshed();
    let other = crate::polynomial::random_scalar().unwrap();
    handover.rig(2, &Polynomial::random_through(other, 3).unwrap(), |_, share| share);
    assert_eq!(handover.dealings[1].check(&handover.reshare, index(2)), Err(DealingFault::AnotherSecret));
    for member in 1..=4 {
        assert_eq!(handover.finish(member).unwrap_err(), blames(2, DealingFault::AnotherSecret));
    }
    assert_eq!(handover.reshare.new_keys(&handover.dealings), Err(blames(2, DealingFault::AnotherSecret)));
    // An accepted one would have been consistent, and the key another: nothing else would have noticed.
    assert!(
        handover.dealings[1]
            .open(&domain(), index(2), index(1), handover.secrets[0].for_dealer(index(2)).unwrap())
            .is_ok()
    );
    handover.rig(2, &polynomial_of(&key.shares[1], 3), |_, share| share);
    assert!(handover.finish(1).is_ok());
}

#[test]
fn all_dealers_together_cannot_change_the_key() {
    // They deal the shares of another key, which lies on one polynomial too and has a valid group key.
    let (_, mut handover) = refreshed();
    let other = TrustedDealer::deal(threshold((3, 4)), [9; 32]);
    for dealer in [1, 2, 4] {
        handover.rig(dealer, &polynomial_of(&other.shares[usize::from(dealer) - 1], 3), |_, share| share);
    }
    assert_eq!(handover.finish(1).unwrap_err(), blames(1, DealingFault::AnotherSecret));
}

#[test]
fn keys_of_an_old_committee_that_are_not_of_one_key_are_refused() {
    let key = key_of((3, 4));
    let other = TrustedDealer::deal(threshold((3, 4)), [9; 32]);
    // What a broken store could hand over: these share keys, another group key.
    let mixed =
        CommitteeKeys::from_commitments(key.keys.threshold(), other.keys.group_key(), key.keys.share_keys().to_vec());
    let handover = Handover::honest(&mixed, &key.shares, &[1, 2, 3], (3, 4));
    assert_eq!(handover.finish(1).unwrap_err(), ReshareError::GroupKeyChanged);
}

#[test]
fn more_colluders_than_n_minus_t_cannot_put_other_keys_into_the_committee() {
    // Members 3 and 4 of a new 3-of-4 committee claim keys of their own. A polynomial of degree 2 through the keys of 1 and 2 and
    // any group key they like always exists, so the test of the degree passes; that the group key is the old one must be compared.
    let (key, handover) = refreshed();
    let honest = handover.keys();
    let theirs = Fr::from_u64(4242);
    let group_key = PublicKey::from_group(&crate::blst_glue::g1_generator_mul(&theirs)).unwrap();
    let known = [(0_u8, group_key), (1, honest.share_keys()[0]), (2, honest.share_keys()[1])];
    let mut claimed = honest.share_keys().to_vec();
    for x in [3_u8, 4] {
        claimed[usize::from(x) - 1] = in_the_exponent(&known, x);
    }
    let accepted = CommitteeKeys::new(honest.threshold(), group_key, claimed).unwrap();
    assert_ne!(accepted.group_key(), key.keys.group_key(), "the attack would work");
    // A member's outcome comes from the dealings alone: the old group key and keys that it does not take from anybody.
    for member in 1..=2 {
        let outcome = handover.finish(member).unwrap();
        assert_eq!(outcome.keys.group_key(), key.keys.group_key());
        assert_ne!(outcome.keys, accepted);
    }
    // Three of them fit the old group key too, so that comparison is not enough: all n acknowledge all share keys.
    let known = [(0, key.keys.group_key()), (1, honest.share_keys()[0]), (2, group_key)];
    let claimed: Vec<PublicKey> = (1..=4).map(|x| in_the_exponent(&known, x)).collect();
    let accepted = CommitteeKeys::new(honest.threshold(), key.keys.group_key(), claimed).unwrap();
    assert_eq!(accepted.share_key(index(1)), honest.share_key(index(1)));
    assert_ne!(accepted, handover.finish(1).unwrap().keys);
}

/// The polynomial through `points` in the exponent, at `x`.
fn in_the_exponent(points: &[(u8, PublicKey)], x: u8) -> PublicKey {
    let difference = |a: u8, b: u8| Fr::from_u64(a.into()).add(&Fr::from_u64(b.into()).neg());
    let mut sum = G1::infinity();
    for (i, point) in points {
        let mut coefficient = Fr::from_u64(1);
        for (j, _) in points.iter().filter(|(j, _)| j != i) {
            coefficient = coefficient.mul(&difference(x, *j)).mul(&difference(*i, *j).inverse_vartime());
        }
        sum = sum.add(&G1::infinity().add_affine(&point.0).mul(&coefficient));
    }
    PublicKey::from_group(&sum).unwrap()
}

#[test]
fn a_dealing_copied_from_another_dealer_is_refused() {
    let (_, mut handover) = refreshed();
    handover.dealings[1] = handover.dealings[0].clone();
    assert_eq!(handover.finish(3).unwrap_err(), blames(2, DealingFault::AnotherSecret));
    // With the constant term corrected, the copied shares are noise under the pads of the copier.
    let (key, mut handover) = refreshed();
    handover.dealings[1] = handover.dealings[0].clone();
    handover.dealings[1].commitments[0] = key.shares[1].public_key();
    let named = matches!(handover.finish(3), Err(ReshareError::Dealer { dealer, .. }) if dealer == index(2));
    assert!(named);
}

#[test]
fn dealings_in_another_order_are_refused() {
    let (_, mut handover) = refreshed();
    handover.dealings.swap(0, 2);
    assert_eq!(handover.finish(1).unwrap_err(), blames(1, DealingFault::AnotherSecret));
}

#[test]
fn a_dealing_of_an_older_epoch_is_refused() {
    let (key, first) = refreshed();
    let shares = first.finish_all();
    let domain = ReshareDomain { epoch: 4, attempt: 0, ..domain() };
    let mut second = Handover::in_domain(domain, &first.keys(), &shares, &[1, 2, 4], (3, 4));
    second.dealings[0] = first.dealings[0].clone();
    assert_eq!(second.finish(1).unwrap_err(), blames(1, DealingFault::AnotherSecret));
    // Nor does a member deal what it kept of the older epoch.
    let error = second.reshare.deal(&key.shares[0], &second.published).unwrap_err();
    assert_eq!(error, ReshareError::OtherShare(index(1)));
    assert!(second.reshare.deal(&shares[0], &second.published).is_ok());
}

#[test]
fn a_dealing_of_another_resharing_opens_for_nobody() {
    let (_, handover) = refreshed();
    let dealing = &handover.dealings[0];
    let secret = handover.secrets[1].for_dealer(index(1)).unwrap();
    assert!(dealing.open(&domain(), index(1), index(2), secret).is_ok());
    let foreign = [
        ReshareDomain { chain_id: 1, ..domain() },
        ReshareDomain { registry: Address::ZERO, ..domain() },
        ReshareDomain { key_id: 8, ..domain() },
        ReshareDomain { epoch: 4, ..domain() },
        ReshareDomain { attempt: 0, ..domain() },
    ];
    for domain in foreign {
        assert!(dealing.open(&domain, index(1), index(2), secret).is_err(), "{domain:?}");
    }
    assert!(dealing.open(&domain(), index(2), index(2), secret).is_err(), "as another dealer's");
    assert!(dealing.open(&domain(), index(1), index(3), secret).is_err(), "as another member");
}

#[test]
fn a_dealing_of_a_dkg_means_nothing_here_and_the_other_way_round() {
    let (key, handover) = refreshed();
    let (dealing, secret) = (&handover.dealings[0], handover.secrets[1].for_dealer(index(1)).unwrap());
    let ReshareDomain { chain_id, registry, key_id, attempt, .. } = domain();
    let ceremony = dkg::CeremonyDomain { chain_id, registry, key_id, attempt };
    let as_dkg = dkg::Dealing {
        one_time_key: dealing.one_time_key,
        commitments: dealing.commitments.clone(),
        proof_of_possession: key.group_signature(&MESSAGE),
        shares: dealing.shares.clone(),
    };
    assert!(as_dkg.open(&ceremony, index(1), index(2), secret).is_err());
    assert_eq!(
        as_dkg.check(&ceremony, threshold((3, 4)), index(1), &dealing.one_time_key),
        Err(DealingFault::ProofOfPossession)
    );
    let mine = OneTimeSecret::random().unwrap();
    let keys = [mine.public_key(), secret.public_key(), mine.public_key(), mine.public_key()];
    let dealt = dkg::deal(&ceremony, threshold((3, 4)), index(1), &mine, &keys).unwrap();
    let as_reshare = Dealing {
        one_time_key: dealt.one_time_key,
        commitments: dealt.commitments.clone(),
        shares: dealt.shares.clone(),
    };
    assert!(dealt.open(&ceremony, index(1), index(2), secret).is_ok());
    assert!(as_reshare.open(&domain(), index(1), index(2), secret).is_err());
    assert_eq!(as_reshare.check(&handover.reshare, index(1)), Err(DealingFault::AnotherSecret));
}

#[test]
fn other_than_t_commitments_are_the_dealers_fault() {
    for got in [0, 1, 2, 4, 64] {
        let (_, mut handover) = refreshed();
        let extra = handover.dealings[1].commitments[1];
        handover.dealings[1].commitments.resize(got, extra);
        let fault = DealingFault::CommitmentCount { expected: 3, got };
        assert_eq!(handover.dealings[1].check(&handover.reshare, index(2)), Err(fault));
        assert_eq!(handover.finish(1).unwrap_err(), blames(2, fault));
        assert_eq!(handover.reshare.new_keys(&handover.dealings), Err(blames(2, fault)));
    }
    // Consistent in itself, of one degree more or less: only the count tells.
    for coefficients in [2, 4] {
        let (key, mut handover) = refreshed();
        handover.rig(2, &polynomial_of(&key.shares[1], coefficients), |_, share| share);
        let fault = DealingFault::CommitmentCount { expected: 3, got: coefficients.into() };
        assert_eq!(handover.finish(1).unwrap_err(), blames(2, fault));
    }
}

#[test]
fn the_old_counts_do_not_count_in_the_new_committee() {
    // A dealer that took t and n of the old committee for those of the new one.
    let key = key_of((3, 4));
    let mut handover = Handover::honest(&key.keys, &key.shares, &[1, 2, 3], (5, 7));
    handover.rig(1, &polynomial_of(&key.shares[0], 3), |_, share| share);
    assert_eq!(handover.finish(1).unwrap_err(), blames(1, DealingFault::CommitmentCount { expected: 5, got: 3 }));
    handover.rig(1, &polynomial_of(&key.shares[0], 5), |_, share| share);
    handover.dealings[0].shares.truncate(4);
    assert_eq!(handover.finish(1).unwrap_err(), blames(1, DealingFault::ShareCount { expected: 7, got: 4 }));
}

#[test]
fn other_than_n_shares_are_the_dealers_fault() {
    for got in [0, 3, 5] {
        let (_, mut handover) = refreshed();
        handover.dealings[2].shares.resize(got, [1; 32]);
        assert_eq!(handover.finish(1).unwrap_err(), blames(4, DealingFault::ShareCount { expected: 4, got }));
    }
    let (_, mut handover) = refreshed();
    handover.dealings[0].shares.truncate(3);
    let opened =
        handover.dealings[0].open(&domain(), index(1), index(4), handover.secrets[3].for_dealer(index(1)).unwrap());
    assert_eq!(opened.unwrap_err(), DealingFault::ShareCount { expected: 4, got: 3 });
}

#[test]
fn a_share_that_does_not_match_the_commitments_names_dealer_and_recipient() {
    let (key, mut handover) = refreshed();
    handover.rig(2, &polynomial_of(&key.shares[1], 3), |recipient, mut share| {
        share[31] ^= u8::from(recipient == 3);
        share
    });
    assert_eq!(handover.finish(3).unwrap_err(), blames(2, DealingFault::ShareMismatch { recipient: index(3) }));
    assert!(handover.finish(1).is_ok(), "the others cannot see it, which is why all n' must acknowledge");
}

#[test]
fn shuffled_shares_are_refused() {
    let (key, mut handover) = refreshed();
    let polynomial = polynomial_of(&key.shares[1], 3);
    handover.rig(2, &polynomial, |recipient, _| *polynomial.at(index(5 - recipient)).to_bytes());
    for member in 1..=4 {
        let fault = DealingFault::ShareMismatch { recipient: index(member) };
        assert_eq!(handover.finish(member).unwrap_err(), blames(2, fault));
    }
    // Ciphertexts swapped on their way are noise.
    let (_, mut handover) = refreshed();
    handover.dealings[1].shares.swap(0, 1);
    for member in 1..=2 {
        let named = matches!(handover.finish(member), Err(ReshareError::Dealer { dealer, .. }) if dealer == index(2));
        assert!(named);
    }
}

#[test]
fn a_share_of_0_or_from_r_up_is_the_dealers_fault() {
    for value in [[0; 32], order(), [0xff; 32]] {
        let (key, mut handover) = refreshed();
        handover.rig(2, &polynomial_of(&key.shares[1], 3), |_, _| value);
        assert_eq!(handover.finish(1).unwrap_err(), blames(2, DealingFault::ShareOutOfRange { recipient: index(1) }));
    }
    // The same number modulo r is not a second encoding of the right share.
    let (key, mut handover) = refreshed();
    let order = U256::from_be_bytes(order());
    handover.rig(2, &polynomial_of(&key.shares[1], 3), |_, share| {
        U256::from_be_bytes(share).wrapping_add(order).to_be_bytes()
    });
    assert_eq!(handover.finish(1).unwrap_err(), blames(2, DealingFault::ShareOutOfRange { recipient: index(1) }));
}

#[test]
fn infinity_and_other_bad_points_are_the_dealers_fault() {
    let (_, handover) = refreshed();
    let dealing = &handover.dealings[0];
    let good = dealing.commitments_to_wire();
    for position in 0..3 {
        let mut bytes = good.clone();
        bytes[position * 128..][..128].fill(0);
        let fault = DealingFault::Point { what: "commitment", error: PointError::Infinity };
        assert_eq!(Dealing::from_wire(&dealing.one_time_key, &bytes, &dealing.shares_to_wire()), Err(fault));
    }
    let mut padded = good;
    padded[0] = 1;
    let fault = DealingFault::Point { what: "commitment", error: PointError::Padding };
    assert_eq!(Dealing::from_wire(&dealing.one_time_key, &padded, &dealing.shares_to_wire()), Err(fault));
}

#[test]
fn dealings_that_cancel_out_give_no_committee() {
    // The coefficients of dealers 1 and 2 are 2 and -1: all new shares would be the key.
    let key = key_of((2, 2));
    let mut handover = Handover::honest(&key.keys, &key.shares, &[1, 2], (2, 3));
    let slope = Fr::from_u64(5);
    for (dealer, slope) in [(1, slope.clone()), (2, slope.add(&slope))] {
        let constant_term = key.shares[usize::from(dealer) - 1].scalar().clone();
        handover.rig(dealer, &Polynomial::from_coefficients(vec![constant_term, slope]), |_, share| share);
    }
    assert_eq!(handover.finish(1).unwrap_err(), ReshareError::Degenerate);
}

#[test]
fn a_one_time_key_that_no_complaint_could_use_is_its_makers_fault() {
    let (key, mut handover) = refreshed();
    let bad = unrecoverable_key();
    handover.dealings[1].one_time_key = bad;
    assert_eq!(handover.finish(1).unwrap_err(), blames(2, DealingFault::OneTimeKey(OneTimeKeyError::NotRecoverable)));
    handover.published[2][0] = bad;
    let error = handover.reshare.deal(&key.shares[0], &handover.published).unwrap_err();
    let fault = RecipientKeysFault::OneTimeKey { dealer: index(1), error: OneTimeKeyError::NotRecoverable };
    assert_eq!(error, ReshareError::RecipientKeys { member: index(3), fault });
}

#[test]
fn who_does_not_deal_and_who_is_no_member_are_refused() {
    let (key, mut handover) = refreshed();
    let error = handover.reshare.deal(&key.shares[2], &handover.published).unwrap_err();
    assert_eq!(error, ReshareError::NoDealer(index(3)));
    assert!(handover.reshare.keys_for(index(3), &handover.published).is_empty());
    let error = handover.reshare.deal(&key.shares[0], &handover.published[..3]).unwrap_err();
    assert_eq!(error, ReshareError::Count { what: "lists of one-time keys", expected: 4, got: 3 });
    let mut short = handover.published.clone();
    short[1].pop();
    let fault = RecipientKeysFault::Count { expected: 3, got: 2 };
    let error = handover.reshare.deal(&key.shares[0], &short).unwrap_err();
    assert_eq!(error, ReshareError::RecipientKeys { member: index(2), fault });
    let member =
        |i| handover.reshare.finish(index(i), &handover.secrets[0], &handover.published[0], &handover.dealings);
    assert_eq!(member(5).unwrap_err(), ReshareError::UnknownMember(index(5)));
    handover.dealings.pop();
    assert_eq!(handover.finish(1).unwrap_err(), ReshareError::Count { what: "dealings", expected: 3, got: 2 });
}

#[test]
fn a_member_with_other_secrets_blames_itself_and_no_dealer() {
    let (_, handover) = refreshed();
    let foreign = RecipientSecrets::random(&handover.reshare).unwrap();
    let finish = |secrets: &RecipientSecrets, published: &[[u8; 33]]| {
        handover.reshare.finish(index(1), secrets, published, &handover.dealings).unwrap_err()
    };
    assert_eq!(finish(&foreign, &handover.published[0]), ReshareError::ForeignSecrets(index(1)));
    let of_another_plan = RecipientSecrets(Vec::new());
    assert_eq!(finish(&of_another_plan, &[]), ReshareError::ForeignSecrets(index(1)));
    assert_eq!(finish(&handover.secrets[0], &handover.published[0][..2]), ReshareError::ForeignSecrets(index(1)));
}

#[test]
fn secrets_survive_storage_and_are_of_as_many_keys_as_there_are_dealers() {
    let (_, handover) = refreshed();
    let read = |bytes: &[u8]| RecipientSecrets::from_bytes(&handover.reshare, bytes);
    let bytes = handover.secrets[0].to_bytes();
    assert_eq!(bytes.len(), 96);
    assert_eq!(read(&bytes).unwrap().public_keys(), handover.published[0]);
    for got in [0, 1, 2, 4] {
        let expected = RecipientKeysFault::Count { expected: 3, got };
        assert_eq!(read(&vec![7; got * 32]).unwrap_err(), expected);
        assert_eq!(handover.reshare.check_recipient_keys(&vec![handover.published[0][0]; got]), Err(expected));
    }
    assert!(read(&bytes[..95]).is_err() && read(&[&bytes[..], &[0]].concat()).is_err());
    let zero = RecipientKeysFault::OneTimeKey { dealer: index(1), error: OneTimeKeyError::Malformed };
    assert_eq!(read(&[0; 96]).unwrap_err(), zero);
    assert!(handover.secrets[0].for_dealer(index(3)).is_none(), "member 3 does not deal");
}

#[test]
fn dealing_again_puts_no_two_polynomials_under_one_pad() {
    let (key, handover) = refreshed();
    let again = handover.reshare.deal(&key.shares[0], &handover.published).unwrap();
    assert_ne!(again.one_time_key, handover.dealings[0].one_time_key);
    assert_ne!(again.commitments[1..], handover.dealings[0].commitments[1..]);
}

#[test]
fn a_pad_is_what_abi_encode_makes_of_it() {
    let (mine, theirs) = (OneTimeSecret::random().unwrap(), OneTimeSecret::random().unwrap());
    let other = secp256k1::PublicKey::from_slice(&theirs.public_key()).unwrap();
    let mine_key = secp256k1::SecretKey::from_byte_array(&mine.to_bytes()).unwrap();
    let point = other.mul_tweak(secp256k1::SECP256K1, &mine_key.into()).unwrap();
    let shared = Address::from_word(keccak256(&point.serialize_uncompressed()[1..]));
    let it = domain();
    let encoded = (
        shared,
        keccak256("stkr/reshare-share"),
        U256::from(it.chain_id),
        it.registry,
        U256::from(it.key_id),
        it.epoch,
        it.attempt,
        U256::from(3),
        U256::from(4),
    )
        .abi_encode_params();
    let pad = mine.pad(&theirs.public_key(), &it.pad_words(3, 4)).unwrap();
    assert_eq!(*pad, keccak256(encoded).0);
}

#[test]
fn a_dealing_survives_the_wire() {
    for new in [(2, 2), (3, 4), (22, 32), (33, 64)] {
        let key = key_of((1, 1));
        let dealing = Handover::honest(&key.keys, &key.shares, &[1], new).dealings.remove(0);
        let (commitments, shares) = (dealing.commitments_to_wire(), dealing.shares_to_wire());
        assert_eq!(Dealing::from_wire(&dealing.one_time_key, &commitments, &shares), Ok(dealing));
    }
}

#[test]
fn oversized_wire_fields_are_refused_before_decoding() {
    let (_, handover) = refreshed();
    let dealing = &handover.dealings[0];
    let (commitments, shares) = (dealing.commitments_to_wire(), dealing.shares_to_wire());
    let megabyte = vec![0; 1 << 20];
    let length = |what, got| Err(DealingFault::WireLength { what, got });
    assert_eq!(Dealing::from_wire(&dealing.one_time_key, &megabyte, &shares), length("commitments", 1 << 20));
    assert_eq!(Dealing::from_wire(&dealing.one_time_key, &commitments, &megabyte), length("shares", 1 << 20));
    assert_eq!(Dealing::from_wire(&megabyte, &commitments, &shares), length("one-time key", 1 << 20));
    assert_eq!(Dealing::from_wire(&dealing.one_time_key, &commitments[1..], &shares), length("commitments", 383));
    assert_eq!(Dealing::from_wire(&dealing.one_time_key, &commitments, &[0; 33]), length("shares", 33));
}

#[test]
fn secrets_and_outcomes_do_not_print() {
    let (key, handover) = refreshed();
    let printed = format!("{:?} {:?} {:?}", handover.secrets[0], handover.finish(1).unwrap(), handover.reshare);
    assert!(printed.contains(&hex::encode(handover.published[0][0])));
    for secret in [
        *key.shares[0].to_bytes(),
        *handover.secrets[0].for_dealer(index(1)).unwrap().to_bytes(),
        *handover.finish(1).unwrap().share.to_bytes(),
    ] {
        assert!(!printed.contains(&hex::encode(secret)[..16]));
    }
}

/// Threshold, number of members and an order of them: up to 22-of-32.
fn committee() -> impl Strategy<Value = (u8, Vec<u8>)> {
    (2_u8..=32)
        .prop_flat_map(|n| ((n / 2 + 1)..=n.min(22).max(n / 2 + 1), Just((1..=n).collect::<Vec<u8>>()).prop_shuffle()))
}

fn size((t, members): &(u8, Vec<u8>)) -> (u8, u8) {
    (*t, u8::try_from(members.len()).unwrap())
}

proptest! {
    #![proptest_config(crate::testing::cases(12))]

    #[test]
    fn any_t_members_hand_over_to_any_committee_of_which_any_t_sign(
        old in committee(), new in committee(), message: [u8; 32], seed: [u8; 32],
    ) {
        let key = TrustedDealer::deal(threshold(size(&old)), seed);
        let mut dealers = old.1[..old.0.into()].to_vec();
        dealers.sort_unstable();
        let handover = Handover::honest(&key.keys, &key.shares, &dealers, size(&new));
        let signers = &new.1[..new.0.into()];
        let outcomes: Vec<Outcome> = signers.iter().map(|member| handover.finish(*member).unwrap()).collect();
        let partials: Vec<_> = outcomes.iter().map(|outcome| outcome.share.sign(&message)).collect();
        let combined = outcomes[0].keys.combine(&message, &partials).unwrap();
        prop_assert!(combined.culprits.is_empty());
        prop_assert_eq!(combined.signature, key.group_signature(&message));
        // One less is not enough, whatever it is padded with.
        let mut short = partials;
        short.truncate(usize::from(new.0) - 1);
        let stranger = usize::from(new.1[new.1.len() - 1]) % key.shares.len();
        short.push(PartialSignature { index: index(new.1[usize::from(new.0) - 1]), ..key.shares[stranger].sign(&message) });
        prop_assert!(outcomes[0].keys.combine(&message, &short).is_err());
    }

    #[test]
    fn partials_of_any_two_epochs_do_not_mix((t, members) in committee(), old in any::<prop::sample::Index>(), seed: [u8; 32]) {
        let key = TrustedDealer::deal(threshold(size(&(t, members.clone()))), seed);
        let mut dealers = members[..t.into()].to_vec();
        dealers.sort_unstable();
        let handover = Handover::honest(&key.keys, &key.shares, &dealers, size(&(t, members.clone())));
        let keys = handover.keys();
        prop_assert_eq!(keys.group_key(), key.keys.group_key());
        // Any t members, of which from one to all but one sign with the share of the epoch before.
        let of_old = 1 + old.index(usize::from(t) - 1);
        let share = |(k, member): (usize, &u8)| match k < of_old {
            true => key.shares[usize::from(*member) - 1].sign(&MESSAGE),
            false => handover.finish(*member).unwrap().share.sign(&MESSAGE),
        };
        let mixed: Vec<_> = members[..t.into()].iter().enumerate().map(share).collect();
        let unverified = interpolate(keys.threshold(), &mixed).unwrap();
        prop_assert!(!verify(&keys.group_key(), &MESSAGE, &unverified));
        prop_assert!(keys.combine(&MESSAGE, &mixed).is_err() && key.keys.combine(&MESSAGE, &mixed).is_err());
    }

    #[test]
    fn whatever_a_dealer_of_any_committee_does_to_its_dealing_every_new_member_names_it(
        old in committee(), new in committee(), seed: [u8; 32], lie in 0_u8..8,
    ) {
        let key = TrustedDealer::deal(threshold(size(&old)), seed);
        let mut dealers = old.1[..old.0.into()].to_vec();
        dealers.sort_unstable();
        let (liar, t, n) = (dealers[0], new.0, size(&new).1);
        let mut handover = Handover::honest(&key.keys, &key.shares, &dealers, size(&new));
        let honest = polynomial_of(&key.shares[usize::from(liar) - 1], t);
        let plus_order = |share: [u8; 32]| U256::from_be_bytes(share).wrapping_add(U256::from_be_bytes(order())).to_be_bytes();
        match lie {
            // One commitment more or less, to a polynomial of that degree.
            0 => handover.rig(liar, &polynomial_of(&key.shares[usize::from(liar) - 1], t + 1), |_, share| share),
            1 => handover.dealings[0].commitments.truncate(usize::from(t) - 1),
            2 => handover.dealings[0].shares.resize(usize::from(n) + 1, [1; 32]),
            // What is the next member's.
            3 => handover.rig(liar, &honest, |recipient, _| *honest.at(index(recipient % n + 1)).to_bytes()),
            4 => handover.rig(liar, &honest, |_, share| plus_order(share)),
            5 => handover.rig(liar, &honest, |_, _| [0; 32]),
            // Another dealer's, as it is.
            6 => handover.dealings[0] = handover.dealings[1].clone(),
            // Its own, of another attempt, to the same one-time keys.
            _ => {
                let before = ReshareDomain { attempt: domain().attempt - 1, ..domain() };
                let reshare = Reshare::new(before, key.keys.clone(), indices(&dealers), threshold(size(&new))).unwrap();
                let share = &key.shares[usize::from(liar) - 1];
                handover.dealings[0] = reshare.deal(share, &handover.published).unwrap();
            }
        }
        match handover.finish(new.1[0]) {
            Err(ReshareError::Dealer { dealer, .. }) => prop_assert_eq!(dealer, index(liar), "lie {}", lie),
            other => prop_assert!(false, "lie {lie}: {other:?}"),
        }
    }

    #[test]
    fn a_new_share_is_the_textbook_sum(old in committee(), seed: [u8; 32]) {
        // Coefficients by the textbook formula, shares opened one by one: written without the code under test.
        let key = TrustedDealer::deal(threshold(size(&old)), seed);
        let mut dealers = old.1[..old.0.into()].to_vec();
        dealers.sort_unstable();
        let handover = Handover::honest(&key.keys, &key.shares, &dealers, (2, 2));
        let mut sum = Fr::default();
        for (&dealer, dealing) in dealers.iter().zip(&handover.dealings) {
            let secret = handover.secrets[1].for_dealer(index(dealer)).unwrap();
            let opened = dealing.open(&domain(), index(dealer), index(2), secret).unwrap();
            sum = sum.add(&lagrange::tests::naive(dealer, &dealers).mul(opened.scalar()));
        }
        prop_assert_eq!(handover.finish(2).unwrap().share.to_bytes(), sum.to_bytes());
    }

    #[test]
    fn any_flipped_bit_of_a_dealing_ends_the_resharing_naming_the_dealer(field in 0_u8..3, bit in any::<prop::sample::Index>()) {
        let (_, mut handover) = refreshed();
        let dealing = &mut handover.dealings[1];
        let mut fields =
            [dealing.one_time_key.to_vec(), dealing.commitments_to_wire(), dealing.shares[..1].as_flattened().to_vec()];
        let bytes = &mut fields[usize::from(field)];
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let shares = [fields[2].clone(), dealing.shares_to_wire()[32..].to_vec()].concat();
        if let Ok(tampered) = Dealing::from_wire(&fields[0], &fields[1], &shares) {
            *dealing = tampered;
            let named = matches!(handover.finish(1), Err(ReshareError::Dealer { dealer, .. }) if dealer == index(2));
            prop_assert!(named);
        }
    }

    #[test]
    fn the_wire_decoder_takes_any_bytes(
        key in proptest::collection::vec(any::<u8>(), 0..40),
        commitments in proptest::collection::vec(any::<u8>(), 1..300),
        shares in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        prop_assert!(Dealing::from_wire(&key, &commitments, &shares).is_err());
    }
}

#[test]
fn the_largest_committees_hand_over() {
    for committee in [(22, 32), (33, 64)] {
        let key = key_of(committee);
        let dealers: Vec<u8> = (committee.1 - committee.0 + 1..=committee.1).collect();
        let handover = Handover::honest(&key.keys, &key.shares, &dealers, committee);
        let shares: Vec<_> = (1..=committee.0).map(|member| handover.finish(member).unwrap().share).collect();
        let signature: Signature = handover.keys().combine(&MESSAGE, &partials(&shares)).unwrap().signature;
        assert_eq!(signature, key.group_signature(&MESSAGE));
    }
}
