//! Combining partial signatures, and the public half of a shared key.

use sha2::{Digest, Sha256};

use crate::{
    PartialSignature, PublicKey, ShareIndex, Signature, Threshold,
    blst_glue::{Fr, G1, G1Affine, G2, G2Affine, Group, SCALAR_BITS},
    lagrange,
    points::HashedMessage,
};

/// Everything public about a shared key: the group key and all share keys, known to lie on one polynomial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitteeKeys {
    threshold: Threshold,
    group_key: PublicKey,
    share_keys: Vec<PublicKey>,
}

/// Keys that are not the public half of one shared key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitteeKeysError {
    /// Not n share keys.
    #[error("{got} share keys for a committee of {expected}")]
    Count {
        /// n
        expected: u8,
        /// Keys that came.
        got: usize,
    },
    /// Two members with one share key; of a polynomial of positive degree that does not happen by chance.
    #[error("members {0} and {1} have the same share key")]
    SameKey(ShareIndex, ShareIndex),
    /// Share keys and group key do not belong together.
    #[error("the share keys and the group key do not lie on one polynomial of degree {}", .0.t() - 1)]
    NotOnePolynomial(Threshold),
}

/// A verified group signature, and who had to be left out to get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Combined {
    /// Verified under the group key.
    pub signature: Signature,
    /// Members whose partial was wrong, in the order they were found. Empty on the fast path. Partials that were
    /// not needed were not looked at.
    pub culprits: Vec<ShareIndex>,
}

/// Why no signature came out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CombineError {
    /// Too few partials, or too few good ones.
    #[error("{valid} usable partial signatures of {needed} needed; wrong ones came from members {culprits:?}")]
    NotEnough {
        /// Partials that are left; they were verified only if there are culprits.
        valid: usize,
        /// t
        needed: usize,
        /// Members whose partial is wrong.
        culprits: Vec<ShareIndex>,
    },
    /// Two partials under one index: the caller mixed up its answers.
    #[error("two partial signatures of member {0}; pass one per member")]
    DuplicateIndex(ShareIndex),
    /// An index above n.
    #[error("there is no member {0} in this committee")]
    UnknownIndex(ShareIndex),
    /// The partials cancel out, which only wrong ones do.
    #[error("the partial signatures add up to infinity, so at least one is wrong")]
    Degenerate,
}

/// Interpolates the first t partials at 0, without verifying anything. Prefer [`CommitteeKeys::combine`].
///
/// # Errors
/// If there are fewer than t, if an index occurs twice or is above n, or if the result is infinity.
///
/// # Performance
/// Small-integer Lagrange coefficients: see the bench `combine`.
pub fn interpolate(threshold: Threshold, partials: &[PartialSignature]) -> Result<Signature, CombineError> {
    check_indices(threshold, partials)?;
    let needed = usize::from(threshold.t());
    let chosen = partials.get(..needed).ok_or_else(|| too_few(threshold, partials.len(), &[]))?;
    interpolate_all(chosen)
}

fn too_few(threshold: Threshold, valid: usize, culprits: &[ShareIndex]) -> CombineError {
    CombineError::NotEnough { valid, needed: threshold.t().into(), culprits: culprits.to_vec() }
}

/// Share order does not matter: each coefficient is computed from the index that the partial carries.
fn interpolate_all(partials: &[PartialSignature]) -> Result<Signature, CombineError> {
    let indices: Vec<ShareIndex> = partials.iter().map(|p| p.index).collect();
    let points: Vec<G2Affine> = partials.iter().map(|p| p.signature.0).collect();
    let coefficients = lagrange::at_zero(&indices).ok_or(CombineError::Degenerate)?;
    Signature::from_group(&coefficients.combine::<G2>(&points)).ok_or(CombineError::Degenerate)
}

fn check_indices(threshold: Threshold, partials: &[PartialSignature]) -> Result<(), CombineError> {
    let mut seen = 0_u128;
    for partial in partials {
        if !threshold.contains(partial.index) {
            return Err(CombineError::UnknownIndex(partial.index));
        }
        let bit = 1 << partial.index.get();
        if seen & bit != 0 {
            return Err(CombineError::DuplicateIndex(partial.index));
        }
        seen |= bit;
    }
    Ok(())
}

impl CommitteeKeys {
    /// Checks that `share_keys` (index order) and `group_key` are the public half of one key shared
    /// `threshold`: n keys, distinct, all on one polynomial of degree t - 1 whose value at 0 is the group key.
    ///
    /// # Errors
    /// Says which of these does not hold.
    pub fn new(
        threshold: Threshold,
        group_key: PublicKey,
        share_keys: Vec<PublicKey>,
    ) -> Result<Self, CommitteeKeysError> {
        if share_keys.len() != usize::from(threshold.n()) {
            return Err(CommitteeKeysError::Count { expected: threshold.n(), got: share_keys.len() });
        }
        for (i, key) in threshold.indices().zip(&share_keys) {
            if let Some((j, _)) = threshold.indices().zip(&share_keys).find(|(j, other)| *j < i && *other == key) {
                return Err(CommitteeKeysError::SameKey(j, i));
            }
        }
        let keys = Self { threshold, group_key, share_keys };
        if !keys.on_one_polynomial() {
            return Err(CommitteeKeysError::NotOnePolynomial(threshold));
        }
        Ok(keys)
    }

    /// For keys that were computed from commitments and so lie on one polynomial by construction.
    pub(crate) const fn from_commitments(
        threshold: Threshold,
        group_key: PublicKey,
        share_keys: Vec<PublicKey>,
    ) -> Self {
        Self { threshold, group_key, share_keys }
    }

    /// The dual-code test of SCRAPE over the points at 0..=n: points P_i lie on a polynomial of degree < t iff
    /// the sum of (-1)^i C(n, i) q(i) P_i is infinity for every polynomial q of degree <= n - t. One random q is
    /// enough up to a chance of 2^-250; the randomness is a hash of all points, so that nobody can choose points
    /// that suit it.
    fn on_one_polynomial(&self) -> bool {
        let n = self.threshold.n();
        let q: Vec<Fr> = self.challenge(n - self.threshold.t() + 1);
        let points: Vec<G1Affine> = std::iter::once(&self.group_key).chain(&self.share_keys).map(|k| k.0).collect();
        let mut binomial: u128 = 1;
        let mut scalars = Vec::with_capacity(points.len());
        for i in 0..=n {
            let x = Fr::from_u64(i.into());
            let value = q.iter().rev().fold(Fr::default(), |sum, c| sum.mul(&x).add(c));
            // C(64, 32) is below 2^61, so the binomial fits; the product before the division fits u128.
            let weighted = value.mul(&Fr::from_u64(u64::try_from(binomial).unwrap_or(u64::MAX)));
            let signed = if i % 2 == 1 { weighted.neg() } else { weighted };
            let mut bytes = *signed.to_bytes();
            bytes.reverse();
            scalars.push(bytes);
            binomial = binomial * u128::from(n - i) / u128::from(i + 1);
        }
        G1::msm_vartime(&points, &scalars, SCALAR_BITS).is_infinity()
    }

    /// Coefficients of q from a hash of everything they test.
    fn challenge(&self, coefficients: u8) -> Vec<Fr> {
        let mut hash = Sha256::new();
        hash.update(b"stkr/one-polynomial");
        hash.update([self.threshold.t(), self.threshold.n()]);
        for key in std::iter::once(&self.group_key).chain(&self.share_keys) {
            hash.update(key.to_compressed());
        }
        let seed = hash.finalize();
        (0..coefficients)
            .map(|k| {
                let mut wide = [0; 64];
                for (half, bytes) in wide.chunks_exact_mut(32).zip(0_u8..) {
                    bytes_of(&seed, k, bytes, half);
                }
                Fr::from_wide(&wide)
            })
            .collect()
    }

    /// How many members there are and how many sign.
    pub const fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// The key that the combined signature verifies under.
    pub const fn group_key(&self) -> PublicKey {
        self.group_key
    }

    /// The key of one member's share; `None` above n.
    pub fn share_key(&self, index: ShareIndex) -> Option<&PublicKey> {
        self.share_keys.get(index.position())
    }

    /// All share keys in index order.
    pub fn share_keys(&self) -> &[PublicKey] {
        &self.share_keys
    }

    /// Whether a partial is right for the member it claims to be of.
    pub fn verify_partial(&self, message: &[u8; 32], partial: &PartialSignature) -> bool {
        self.is_right(&HashedMessage::signing_root(message), partial)
    }

    fn is_right(&self, message: &HashedMessage, partial: &PartialSignature) -> bool {
        self.share_key(partial.index).is_some_and(|key| message.verifies(key, &partial.signature))
    }

    /// The group signature from any t good partials, always verified; wrong partials are named and left out.
    ///
    /// The first t are combined and the result verified once. Only if that fails is each verified by itself, in
    /// order and over one hash of the message, until t good ones are found. (With t - 1 colluders the wrong
    /// partials can cancel out in the sum; then the signature is right and nobody was harmed.)
    ///
    /// # Errors
    /// [`CombineError::NotEnough`] names everybody whose partial is wrong; the indices are checked first.
    ///
    /// # Performance
    /// Good case: one combination and one verification. Bad case: one more verification per partial looked at.
    /// Batches with random factors were considered and not taken: at up to ten partials the factors cost as
    /// much as the pairings they save.
    pub fn combine(&self, message: &[u8; 32], partials: &[PartialSignature]) -> Result<Combined, CombineError> {
        check_indices(self.threshold, partials)?;
        let needed = usize::from(self.threshold.t());
        let first = partials.get(..needed).ok_or_else(|| too_few(self.threshold, partials.len(), &[]))?;
        let message = HashedMessage::signing_root(message);
        if let Some(signature) = self.combine_verified(&message, first) {
            return Ok(Combined { signature, culprits: Vec::new() });
        }
        self.combine_searching(&message, partials)
    }

    /// Combines exactly t partials; `None` unless the result verifies.
    fn combine_verified(&self, message: &HashedMessage, partials: &[PartialSignature]) -> Option<Signature> {
        let signature = interpolate_all(partials).ok()?;
        message.verifies(&self.group_key, &signature).then_some(signature)
    }

    fn combine_searching(
        &self,
        message: &HashedMessage,
        partials: &[PartialSignature],
    ) -> Result<Combined, CombineError> {
        let needed = usize::from(self.threshold.t());
        let (mut good, mut culprits) = (Vec::with_capacity(needed), Vec::new());
        for partial in partials {
            if good.len() == needed {
                break;
            }
            if self.is_right(message, partial) {
                good.push(*partial);
            } else {
                culprits.push(partial.index);
            }
        }
        if good.len() < needed {
            return Err(too_few(self.threshold, good.len(), &culprits));
        }
        // t good partials always give the group signature because the share keys lie on one polynomial.
        let signature = self.combine_verified(message, &good).ok_or(CombineError::Degenerate)?;
        Ok(Combined { signature, culprits })
    }
}

fn bytes_of(seed: &[u8], coefficient: u8, half: u8, out: &mut [u8]) {
    out.copy_from_slice(&Sha256::new().chain_update(seed).chain_update([coefficient, half]).finalize());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::TrustedDealer;

    fn index(i: u8) -> ShareIndex {
        ShareIndex::new(i).unwrap()
    }

    fn dealt(t: u8, n: u8) -> TrustedDealer {
        TrustedDealer::deal(Threshold::new(t, n).unwrap(), [t.wrapping_mul(31) ^ n; 32])
    }

    fn partials(dealer: &TrustedDealer, message: &[u8; 32]) -> Vec<PartialSignature> {
        dealer.shares.iter().map(|s| s.sign(message)).collect()
    }

    const MESSAGE: [u8; 32] = [0x42; 32];
    const OTHER: [u8; 32] = [0x43; 32];

    #[test]
    fn every_3_of_4_in_every_order_give_the_group_signature() {
        let dealer = dealt(3, 4);
        let all = partials(&dealer, &MESSAGE);
        for a in &all {
            for b in &all {
                for c in &all {
                    if a.index == b.index || b.index == c.index || a.index == c.index {
                        continue;
                    }
                    let combined = dealer.keys.combine(&MESSAGE, &[*a, *b, *c]).unwrap();
                    assert_eq!(combined.signature, dealer.group_signature(&MESSAGE));
                    assert!(combined.culprits.is_empty());
                }
            }
        }
    }

    #[test]
    fn the_largest_committee_combines_with_coefficients_of_many_bits() {
        let dealer = dealt(33, 64);
        let spread: Vec<_> =
            (0..64).filter(|k| k % 2 == 0 || *k == 63).map(|k| dealer.shares[k].sign(&MESSAGE)).collect();
        let indices: Vec<ShareIndex> = spread.iter().map(|p| p.index).collect();
        assert!(lagrange::at_zero(&indices).unwrap().bits > lagrange::BUCKETS_FROM_BITS);
        let combined = dealer.keys.combine(&MESSAGE, &spread).unwrap();
        assert_eq!(combined.signature, dealer.group_signature(&MESSAGE));
        assert!(combined.culprits.is_empty());
    }

    #[test]
    fn a_wrong_partial_is_named_and_replaced() {
        let dealer = dealt(3, 4);
        for liar in 0..3 {
            let mut all = partials(&dealer, &MESSAGE);
            all[liar].signature = dealer.shares[liar].sign(&OTHER).signature;
            let combined = dealer.keys.combine(&MESSAGE, &all).unwrap();
            assert_eq!(combined.signature, dealer.group_signature(&MESSAGE));
            assert_eq!(combined.culprits, [all[liar].index]);
        }
    }

    #[test]
    fn a_partial_under_another_members_index_is_named() {
        let dealer = dealt(3, 4);
        let mut all = partials(&dealer, &MESSAGE);
        all[1].signature = all[3].signature;
        let combined = dealer.keys.combine(&MESSAGE, &all).unwrap();
        assert_eq!(combined.culprits, [index(2)]);
        assert_eq!(combined.signature, dealer.group_signature(&MESSAGE));
    }

    #[test]
    fn too_many_wrong_partials_are_all_named() {
        let dealer = dealt(3, 4);
        let mut all = partials(&dealer, &MESSAGE);
        for liar in [0, 2] {
            all[liar].signature = dealer.shares[liar].sign(&OTHER).signature;
        }
        let error = dealer.keys.combine(&MESSAGE, &all).unwrap_err();
        assert_eq!(error, CombineError::NotEnough { valid: 2, needed: 3, culprits: vec![index(1), index(3)] });
    }

    #[test]
    fn partials_that_cancel_out_are_searched_like_any_failure() {
        let dealer = dealt(2, 2);
        let mut all = partials(&dealer, &MESSAGE);
        // Coefficients of {1, 2} are 2 and -1: 2 P - (2 P) is infinity.
        let doubled = G2::infinity().add_affine(&all[0].signature.0).double();
        all[1].signature = Signature::from_group(&doubled).unwrap();
        assert_eq!(interpolate(dealer.keys.threshold(), &all), Err(CombineError::Degenerate));
        let error = dealer.keys.combine(&MESSAGE, &all).unwrap_err();
        assert_eq!(error, CombineError::NotEnough { valid: 1, needed: 2, culprits: vec![index(2)] });
    }

    #[test]
    fn one_member_cannot_count_twice() {
        let dealer = dealt(3, 4);
        let all = partials(&dealer, &MESSAGE);
        let twice = [all[0], all[1], all[0]];
        assert_eq!(dealer.keys.combine(&MESSAGE, &twice), Err(CombineError::DuplicateIndex(index(1))));
        assert_eq!(interpolate(dealer.keys.threshold(), &twice), Err(CombineError::DuplicateIndex(index(1))));
    }

    #[test]
    fn a_member_above_n_is_refused() {
        let dealer = dealt(3, 4);
        let mut all = partials(&dealer, &MESSAGE);
        all[0].index = index(5);
        assert_eq!(dealer.keys.combine(&MESSAGE, &all), Err(CombineError::UnknownIndex(index(5))));
    }

    #[test]
    fn t_minus_1_partials_are_not_enough() {
        let dealer = dealt(3, 4);
        let error = dealer.keys.combine(&MESSAGE, &partials(&dealer, &MESSAGE)[..2]).unwrap_err();
        assert_eq!(error, CombineError::NotEnough { valid: 2, needed: 3, culprits: vec![] });
    }

    #[test]
    fn keys_of_different_polynomials_are_refused() {
        for (t, n) in [(1, 1), (2, 2), (2, 3), (3, 4), (7, 10), (22, 43), (33, 64)] {
            let (dealer, stranger) = (dealt(t, n), TrustedDealer::deal(Threshold::new(t, n).unwrap(), [9; 32]));
            let (threshold, group, shares) =
                (dealer.keys.threshold(), dealer.keys.group_key(), dealer.keys.share_keys().to_vec());
            assert_eq!(CommitteeKeys::new(threshold, group, shares.clone()), Ok(dealer.keys.clone()), "{t}-of-{n}");
            let refused = Err(CommitteeKeysError::NotOnePolynomial(threshold));
            assert_eq!(CommitteeKeys::new(threshold, stranger.keys.group_key(), shares.clone()), refused);
            for position in 0..shares.len() {
                let mut tampered = shares.clone();
                tampered[position] = stranger.keys.share_keys()[position];
                assert_eq!(CommitteeKeys::new(threshold, group, tampered), refused, "{t}-of-{n}, key {position}");
            }
        }
    }

    #[test]
    fn keys_of_a_higher_threshold_are_refused() {
        let dealer = dealt(4, 5);
        let keys = dealer.keys.share_keys().to_vec();
        let lower = Threshold::new(3, 5).unwrap();
        let refused = CommitteeKeys::new(lower, dealer.keys.group_key(), keys);
        assert_eq!(refused, Err(CommitteeKeysError::NotOnePolynomial(lower)));
    }

    #[test]
    fn missing_and_repeated_share_keys_are_refused() {
        let dealer = dealt(3, 4);
        let (threshold, group, mut keys) =
            (dealer.keys.threshold(), dealer.keys.group_key(), dealer.keys.share_keys().to_vec());
        let short = CommitteeKeys::new(threshold, group, keys[..3].to_vec());
        assert_eq!(short, Err(CommitteeKeysError::Count { expected: 4, got: 3 }));
        keys.swap(0, 1);
        let swapped = CommitteeKeys::new(threshold, group, keys.clone());
        assert_eq!(swapped, Err(CommitteeKeysError::NotOnePolynomial(threshold)));
        keys[3] = keys[1];
        let repeated = CommitteeKeys::new(threshold, group, keys);
        assert_eq!(repeated, Err(CommitteeKeysError::SameKey(index(2), index(4))));
    }

    /// A committee and the order in which its members answer.
    fn committee() -> impl Strategy<Value = (u8, Vec<u8>)> {
        (1_u8..=22).prop_flat_map(|n| ((n / 2 + 1)..=n, Just((1..=n).collect::<Vec<u8>>()).prop_shuffle()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_t_partials_combine_to_the_group_signature((t, order) in committee(), message: [u8; 32]) {
            let dealer = dealt(t, u8::try_from(order.len()).unwrap());
            let chosen: Vec<_> = order.iter().take(t.into())
                .map(|i| dealer.shares[usize::from(*i) - 1].sign(&message)).collect();
            let combined = dealer.keys.combine(&message, &chosen).unwrap();
            prop_assert_eq!(combined.signature, dealer.group_signature(&message));
            prop_assert!(crate::verify(&dealer.keys.group_key(), &message, &combined.signature));
            prop_assert!(combined.culprits.is_empty());
        }

        #[test]
        fn wrong_partials_are_named_and_nobody_else(
            (t, order) in committee(), message: [u8; 32], wrong: u64,
        ) {
            let dealer = dealt(t, u8::try_from(order.len()).unwrap());
            let is_wrong = |i: &u8| wrong >> i & 1 == 1;
            let all: Vec<_> = order.iter().map(|i| {
                let share = &dealer.shares[usize::from(*i) - 1];
                let mut partial = share.sign(&message);
                if is_wrong(i) { partial.signature = share.sign(&OTHER).signature; }
                partial
            }).collect();
            let good = order.iter().filter(|i| !is_wrong(i)).count();
            match dealer.keys.combine(&message, &all) {
                Ok(combined) => {
                    prop_assert_eq!(combined.signature, dealer.group_signature(&message));
                    prop_assert!(combined.culprits.iter().all(|c| is_wrong(&c.get())));
                }
                Err(CombineError::NotEnough { valid, culprits, .. }) => {
                    prop_assert!(good < usize::from(t) && valid == good);
                    let expected: Vec<u8> = order.iter().copied().filter(is_wrong).collect();
                    prop_assert_eq!(culprits.iter().map(|c| c.get()).collect::<Vec<_>>(), expected);
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }
}
