//! A trusted dealer that holds all shares of one key at once. Tests only (feature `testing`).
//!
//! # Warning
//! This is exactly what Stkr promises never to have. A product crate must not enable the feature.

use sha2::{Digest, Sha256};

use crate::{
    CommitteeKeys, SecretShare, Signature, Threshold, blst_glue::Fr, points::HashedMessage, polynomial::Polynomial,
};

/// A key, all its shares and all its public keys.
pub struct TrustedDealer {
    /// Index order.
    pub shares: Vec<SecretShare>,
    /// The public half.
    pub keys: CommitteeKeys,
    secret: Fr,
}

impl TrustedDealer {
    /// A key from a seed, shared `threshold`; the same seed gives the same key.
    ///
    /// # Panics
    /// If a coefficient or share is 0, which no seed will show.
    #[must_use]
    pub fn deal(threshold: Threshold, seed: [u8; 32]) -> Self {
        Self::share(threshold, (0..threshold.t()).map(|k| coefficient(seed, k)).collect())
    }

    /// The same key on another polynomial, shared `threshold`.
    ///
    /// # Panics
    /// As [`TrustedDealer::deal`].
    #[must_use]
    pub fn reshare(&self, threshold: Threshold, seed: [u8; 32]) -> Self {
        let others = (1..threshold.t()).map(|k| coefficient(seed, k));
        Self::share(threshold, core::iter::once(self.secret.clone()).chain(others).collect())
    }

    #[allow(clippy::expect_used, reason = "tests only")]
    fn share(threshold: Threshold, coefficients: Vec<Fr>) -> Self {
        let polynomial = Polynomial::from_coefficients(coefficients);
        let shares: Vec<SecretShare> = threshold
            .indices()
            .map(|i| SecretShare::from_scalar(i, polynomial.at(i)).expect("a random share is not 0"))
            .collect();
        let group_key = polynomial.commitments().expect("random coefficients are not 0")[0];
        let share_keys = shares.iter().map(SecretShare::public_key).collect();
        let keys = CommitteeKeys::from_commitments(threshold, group_key, share_keys);
        Self { shares, keys, secret: polynomial.constant_term() }
    }

    /// The signature that t partials must combine to, made with the key itself.
    pub fn group_signature(&self, message: &[u8; 32]) -> Signature {
        HashedMessage::signing_root(message).sign(&self.secret)
    }
}

fn coefficient(seed: [u8; 32], k: u8) -> Fr {
    let half = |h: u8| Sha256::new().chain_update(seed).chain_update([k, h]).finalize();
    let mut wide = [0; 64];
    wide[..32].copy_from_slice(&half(0));
    wide[32..].copy_from_slice(&half(1));
    Fr::from_wide(&wide)
}

/// The hash to G2 under any tag, for the official vectors; the product hashes only under its own two.
pub fn hash_to_g2(message: &[u8], tag: &[u8]) -> Option<Signature> {
    Signature::from_group(&crate::blst_glue::hash_to_g2(message, tag))
}

/// So many cases of a property, or as many as the variable `PROPTEST_CASES` says.
#[cfg(test)]
pub(crate) fn cases(plain: u32) -> proptest::prelude::ProptestConfig {
    let default = proptest::prelude::ProptestConfig::default();
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => default,
        None => proptest::prelude::ProptestConfig { cases: plain, ..default },
    }
}
