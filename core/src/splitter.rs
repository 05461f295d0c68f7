//! The splitter: cuts a key that exists already into shares. Feature `splitter`.
//!
//! # Warning
//! It holds the whole key, and all shares at once: what nothing else in Stkr ever does. It is for the command line of
//! somebody who has the key anyway. `cargo xtask lint` lets no other crate enable the feature.

use zeroize::Zeroizing;

use crate::{
    CommitteeKeys, RandomnessError, ShareError, ShareIndex, Signature, Threshold,
    dealt::{DealtDomain, SealedShare},
    dkg::{OneTimeKeyError, OneTimeSecret},
    points::HashedMessage,
    polynomial::Polynomial,
    share::scalar_from_bytes,
    sharing::xor,
};

/// Why a key is not split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// The bytes are no secret key.
    #[error("the secret is no BLS key: {0}")]
    Secret(#[from] ShareError),
    /// No member of the committee.
    #[error("there is no share {0}")]
    UnknownIndex(ShareIndex),
    /// A server's import key is none.
    #[error("the import key of member {member}: {error}")]
    ImportKey {
        /// Whose.
        member: ShareIndex,
        /// What is wrong.
        error: OneTimeKeyError,
    },
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
}

/// A whole key and the polynomial that shares it. Wiped when dropped; neither prints nor clones, and gives away shares only
/// encrypted.
pub struct Splitter {
    polynomial: Polynomial,
    keys: CommitteeKeys,
}

impl std::fmt::Debug for Splitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Splitter").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Splitter {
    /// Shares the key with this secret (32 bytes, big-endian) `threshold`: a random polynomial whose value at 0 it is.
    ///
    /// # Errors
    /// If the bytes are no secret key, or without randomness.
    pub fn split(secret: &[u8; 32], threshold: Threshold) -> Result<Self, SplitError> {
        let secret = scalar_from_bytes(secret)?;
        loop {
            let polynomial = Polynomial::random_through(secret.clone(), threshold.t())?;
            // Fails where a coefficient or share is 0 or two are the same, which comes once in 2^240 times.
            if let Some(keys) = public_half(&polynomial, threshold) {
                return Ok(Self { polynomial, keys });
            }
        }
    }

    /// The public half: share keys and group key.
    #[must_use]
    pub const fn keys(&self) -> &CommitteeKeys {
        &self.keys
    }

    /// The whole key's signature over an EIP-712 digest: its holder wants this import.
    ///
    /// The digest is a keccak256, a signing root a SHA-256: what is signed here is never a duty.
    #[must_use]
    pub fn prove_possession(&self, digest: &[u8; 32]) -> Signature {
        HashedMessage::signing_root(digest).sign(&self.polynomial.constant_term())
    }

    /// The share of member `recipient`, for the server whose import key this is.
    ///
    /// # Errors
    /// If there is no such member or the import key is none; without randomness.
    pub fn seal_share(
        &self,
        domain: &DealtDomain,
        recipient: ShareIndex,
        import_key: &[u8; 33],
    ) -> Result<SealedShare, SplitError> {
        if self.keys.share_key(recipient).is_none() {
            return Err(SplitError::UnknownIndex(recipient));
        }
        // A key per share: no pad is ever used twice.
        let one_time = OneTimeSecret::random()?;
        let pad = one_time
            .pad(import_key, &domain.words(recipient))
            .map_err(|error| SplitError::ImportKey { member: recipient, error })?;
        let share = Zeroizing::new(self.polynomial.at(recipient).to_bytes());
        Ok(SealedShare { one_time_key: one_time.public_key(), ciphertext: xor(&share, &pad) })
    }
}

fn public_half(polynomial: &Polynomial, threshold: Threshold) -> Option<CommitteeKeys> {
    let group_key = *polynomial.commitments()?.first()?;
    let share_keys = threshold.indices().map(|index| polynomial.key_at(index)).collect::<Option<Vec<_>>>()?;
    CommitteeKeys::new(threshold, group_key, share_keys).ok()
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256};

    use super::*;
    use crate::{
        PublicKey, SecretShare,
        dealt::{DealtShareError, open_share},
        verify,
    };

    fn threshold() -> Threshold {
        Threshold::new(3, 4).unwrap()
    }

    fn index(i: u8) -> ShareIndex {
        ShareIndex::new(i).unwrap()
    }

    fn split() -> (Splitter, DealtDomain, Vec<OneTimeSecret>) {
        let splitter = Splitter::split(&[0x17; 32], threshold()).unwrap();
        let domain = DealtDomain::of(31337, Address::repeat_byte(2), splitter.keys());
        (splitter, domain, (0..4).map(|_| OneTimeSecret::random().unwrap()).collect())
    }

    fn opened(splitter: &Splitter, domain: &DealtDomain, secrets: &[OneTimeSecret]) -> Vec<SecretShare> {
        (threshold().indices().zip(secrets))
            .map(|(member, secret)| {
                let sealed = splitter.seal_share(domain, member, &secret.public_key()).unwrap();
                open_share(domain, splitter.keys(), member, secret, &sealed).unwrap()
            })
            .collect()
    }

    #[test]
    fn any_three_shares_of_a_split_key_sign_for_it_and_two_do_not() {
        let (splitter, domain, secrets) = split();
        let whole = SecretShare::from_bytes(index(1), &[0x17; 32]).unwrap().public_key();
        assert_eq!(splitter.keys().group_key(), whole, "the public key of the key that was split");
        let shares = opened(&splitter, &domain, &secrets);
        let message = [5; 32];
        for out in 0..4 {
            let partials: Vec<_> = (0..4).filter(|i| *i != out).map(|i| shares[i].sign(&message)).collect();
            let combined = splitter.keys().combine(&message, &partials).unwrap();
            assert!(verify(&whole, &message, &combined.signature));
            assert!(splitter.keys().combine(&message, &partials[..2]).is_err());
        }
        assert!(verify(&whole, &[9; 32], &splitter.prove_possession(&[9; 32])));
    }

    #[test]
    fn two_splits_of_one_key_share_nothing_but_the_key() {
        let keys = |splitter: &Splitter| splitter.keys().share_keys().to_vec();
        let (one, other) = (split().0, split().0);
        assert_eq!(one.keys().group_key(), other.keys().group_key());
        assert!(keys(&one).iter().all(|key: &PublicKey| !keys(&other).contains(key)));
    }

    #[test]
    fn a_sealed_share_opens_for_its_server_its_index_and_its_deployment_only() {
        let (splitter, domain, secrets) = split();
        let sealed = splitter.seal_share(&domain, index(2), &secrets[1].public_key()).unwrap();
        let open = |domain: &DealtDomain, member: u8, secret: &OneTimeSecret, sealed: &SealedShare| {
            open_share(domain, splitter.keys(), index(member), secret, sealed)
        };
        assert!(open(&domain, 2, &secrets[1], &sealed).is_ok());
        assert!(open(&domain, 2, &secrets[0], &sealed).is_err());
        assert!(open(&domain, 1, &secrets[1], &sealed).is_err());
        assert_eq!(open(&domain, 5, &secrets[1], &sealed).unwrap_err(), DealtShareError::UnknownIndex(index(5)));
        for other in [
            DealtDomain { chain_id: 1, ..domain },
            DealtDomain { registry: Address::ZERO, ..domain },
            DealtDomain { group_key_hash: B256::ZERO, ..domain },
        ] {
            assert!(open(&other, 2, &secrets[1], &sealed).is_err());
        }
        for bit in 0..256 {
            let mut changed = sealed;
            changed.ciphertext[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&domain, 2, &secrets[1], &changed).is_err());
        }
        let unusable = splitter.seal_share(&domain, index(1), &[0; 33]).unwrap_err();
        assert!(matches!(unusable, SplitError::ImportKey { error: OneTimeKeyError::Malformed, .. }));
        assert!(matches!(
            splitter.seal_share(&domain, index(5), &secrets[0].public_key()),
            Err(SplitError::UnknownIndex(_))
        ));
    }

    #[test]
    fn one_share_sealed_twice_looks_different_and_the_splitter_prints_no_secret() {
        let (splitter, domain, secrets) = split();
        let seal = || splitter.seal_share(&domain, index(1), &secrets[0].public_key()).unwrap();
        let (first, second) = (seal(), seal());
        assert_ne!(first.one_time_key, second.one_time_key);
        assert_ne!(first.ciphertext, second.ciphertext);
        let printed = format!("{splitter:?}");
        assert!(!printed.contains("17171717") && !printed.contains("23, 23"));
    }

    #[test]
    fn what_is_no_secret_key_is_not_split() {
        assert_eq!(Splitter::split(&[0; 32], threshold()).unwrap_err(), SplitError::Secret(ShareError::Zero));
        assert_eq!(
            Splitter::split(&[0xff; 32], threshold()).unwrap_err(),
            SplitError::Secret(ShareError::NotCanonical)
        );
    }
}
