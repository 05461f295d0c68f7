//! A new member's one-time secrets: one for each dealer.

use zeroize::Zeroizing;

use super::Reshare;
use crate::{
    RandomnessError, ShareIndex,
    sharing::{OneTimeKeyError, OneTimeSecret, check_one_time_key},
};

const SECRET_BYTES: usize = 32;

/// A new member's one-time secrets, one for each dealer. Wiped when dropped; neither prints nor clones.
///
/// One for all dealers would do to decrypt. But a complaint gives a secret away, and what it opens must be the dealing of the dealer
/// that it convicts and no other: t' members that prove one bad dealer wrong would otherwise show everybody the honest dealers' shares.
///
/// ```compile_fail,E0277
/// fn clones<T: Clone>() {}
/// clones::<stkr_core::reshare::RecipientSecrets>();
/// ```
#[derive(Debug)]
pub struct RecipientSecrets(pub(super) Vec<(ShareIndex, OneTimeSecret)>);

/// Why the one-time keys of a new member cannot be used. Always that member's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipientKeysFault {
    /// Not one key for each dealer.
    #[error("{got} one-time keys for {expected} dealers")]
    Count {
        /// Dealers.
        expected: usize,
        /// Keys that came.
        got: usize,
    },
    /// A key that cannot be encrypted to.
    #[error("the one-time key for dealer {dealer} is bad: {error}")]
    OneTimeKey {
        /// For which dealer: an index of the old committee.
        dealer: ShareIndex,
        /// What is wrong.
        error: OneTimeKeyError,
    },
    /// One key for two dealers: a complaint against the one would open what the other sent.
    #[error("one one-time key is for two dealers, {0} and {1}")]
    SameKey(ShareIndex, ShareIndex),
}

impl RecipientSecrets {
    /// Fresh secrets from the operating system's randomness.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn random(reshare: &Reshare) -> Result<Self, RandomnessError> {
        let mut secrets = Self::with_room_for(reshare);
        for dealer in reshare.dealers() {
            secrets.0.push((*dealer, OneTimeSecret::random()?));
        }
        Ok(secrets)
    }

    /// Reads what [`Self::to_bytes`] wrote: 32 bytes for each dealer.
    ///
    /// # Errors
    /// If they are not that many, or not secrets of keys that [`Reshare::check_recipient_keys`] takes.
    pub fn from_bytes(reshare: &Reshare, bytes: &[u8]) -> Result<Self, RecipientKeysFault> {
        let (chunks, rest) = bytes.as_chunks::<SECRET_BYTES>();
        if chunks.len() != reshare.dealers().len() || !rest.is_empty() {
            let got = bytes.len().div_ceil(SECRET_BYTES);
            return Err(RecipientKeysFault::Count { expected: reshare.dealers().len(), got });
        }
        let mut secrets = Self::with_room_for(reshare);
        for (dealer, bytes) in reshare.dealers().iter().zip(chunks) {
            let secret = OneTimeSecret::from_bytes(bytes)
                .map_err(|error| RecipientKeysFault::OneTimeKey { dealer: *dealer, error })?;
            secrets.0.push((*dealer, secret));
        }
        reshare.check_recipient_keys(&secrets.public_keys())?;
        Ok(secrets)
    }

    /// A list that grows leaves what it held before in memory that nobody wipes, so this one has room from the start.
    fn with_room_for(reshare: &Reshare) -> Self {
        Self(Vec::with_capacity(reshare.dealers().len()))
    }

    /// All secrets, 32 bytes each, dealers' order. For storage until the acknowledgement only; wiped when dropped.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Never grows either.
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.0.len() * SECRET_BYTES));
        for (_, secret) in &self.0 {
            bytes.extend_from_slice(&*secret.to_bytes());
        }
        bytes
    }

    /// The compressed public keys, dealers' order: what a new member publishes.
    pub fn public_keys(&self) -> Vec<[u8; 33]> {
        self.0.iter().map(|(_, secret)| secret.public_key()).collect()
    }

    /// The secret that opens the dealing of one dealer, and proves a bad share in it.
    pub fn for_dealer(&self, dealer: ShareIndex) -> Option<&OneTimeSecret> {
        self.0.iter().find(|(other, _)| *other == dealer).map(|(_, secret)| secret)
    }
}

impl Reshare {
    /// Whether `keys` (dealers' order) are what a new member may publish: one usable key for each dealer, no two the same.
    ///
    /// # Errors
    /// The member's fault.
    pub fn check_recipient_keys(&self, keys: &[[u8; 33]]) -> Result<(), RecipientKeysFault> {
        if keys.len() != self.dealers().len() {
            return Err(RecipientKeysFault::Count { expected: self.dealers().len(), got: keys.len() });
        }
        for (position, (dealer, key)) in self.dealers().iter().zip(keys).enumerate() {
            check_one_time_key(key).map_err(|error| RecipientKeysFault::OneTimeKey { dealer: *dealer, error })?;
            let mut earlier = self.dealers().iter().zip(keys).take(position);
            // A key and its negation have the same x; who has the secret of one has that of the other.
            if let Some((other, _)) = earlier.find(|(_, other)| other[1..] == key[1..]) {
                return Err(RecipientKeysFault::SameKey(*other, *dealer));
            }
        }
        Ok(())
    }
}
