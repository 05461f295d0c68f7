//! One-time secrets at rest: AES-256-GCM under a key derived from the store key.
//!
//! A one-time secret decrypts every share that was sent to this server, so between rounds it may not lie in the database in
//! the open; it cannot be lost either, or the ceremony is. The associated data binds the ciphertext to its ceremony: a
//! row copied to another ceremony does not open there. The same holds for the secrets of a new member in a reshare.

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use stkr_core::dkg::OneTimeSecret;
use stkr_core::keystore::StoreKey;
use stkr_core::reshare::{RecipientSecrets, Reshare};
use stkr_protocol::reshare::ReshareId;
use zeroize::Zeroizing;

const NONCE_BYTES: usize = 12;

/// Why a sealed secret does not open or cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Another store key, another ceremony, or damaged bytes.
    #[error(
        "the stored one-time secret of this ceremony does not open; the store key is not the one it was stored under, or the database is damaged"
    )]
    DoesNotOpen,
    /// No randomness.
    #[error("the operating system gave no randomness: {0}")]
    NoRandomness(getrandom::Error),
}

/// Seals and opens one-time secrets.
pub struct Sealer {
    cipher: Aes256Gcm,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(..)")
    }
}

impl Sealer {
    /// A sealer under a key of its own, derived from the store key.
    pub fn new(store_key: &StoreKey) -> Self {
        let key = store_key.derive("stkr/server/one-time-secret/v1");
        Self { cipher: Aes256Gcm::new((&*key).into()) }
    }

    /// Nonce, then ciphertext and tag.
    ///
    /// # Errors
    /// Without randomness.
    pub fn seal(&self, key_id: u64, attempt: u16, secret: &OneTimeSecret) -> Result<Vec<u8>, SealError> {
        self.seal_bytes(secret.to_bytes().as_slice(), &binding(key_id, attempt))
    }

    /// The same for the secrets of a new member.
    ///
    /// # Errors
    /// Without randomness.
    pub fn seal_reshare(&self, id: ReshareId, secrets: &RecipientSecrets) -> Result<Vec<u8>, SealError> {
        self.seal_bytes(&secrets.to_bytes(), &reshare_binding(id))
    }

    fn seal_bytes(&self, plain: &[u8], aad: &[u8]) -> Result<Vec<u8>, SealError> {
        // Random nonces are safe for 2^32 seals under one key: a server makes one per ceremony.
        let mut nonce = [0_u8; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(SealError::NoRandomness)?;
        let payload = Payload { msg: plain, aad };
        let sealed = self.cipher.encrypt(Nonce::from_slice(&nonce), payload).map_err(|_| SealError::DoesNotOpen)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// The secret that [`Self::seal`] was given for the same ceremony.
    ///
    /// # Errors
    /// [`SealError::DoesNotOpen`].
    pub fn open(&self, key_id: u64, attempt: u16, sealed: &[u8]) -> Result<OneTimeSecret, SealError> {
        let plain = self.open_bytes(sealed, &binding(key_id, attempt))?;
        let mut bytes = Zeroizing::new([0_u8; 32]);
        if plain.len() != bytes.len() {
            return Err(SealError::DoesNotOpen);
        }
        bytes.copy_from_slice(&plain);
        OneTimeSecret::from_bytes(&bytes).map_err(|_| SealError::DoesNotOpen)
    }

    /// The secrets that [`Self::seal_reshare`] was given for the same attempt.
    ///
    /// # Errors
    /// [`SealError::DoesNotOpen`].
    pub fn open_reshare(&self, id: ReshareId, reshare: &Reshare, sealed: &[u8]) -> Result<RecipientSecrets, SealError> {
        let plain = self.open_bytes(sealed, &reshare_binding(id))?;
        RecipientSecrets::from_bytes(reshare, &plain).map_err(|_| SealError::DoesNotOpen)
    }

    fn open_bytes(&self, sealed: &[u8], aad: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, ciphertext) = sealed.split_at_checked(NONCE_BYTES).ok_or(SealError::DoesNotOpen)?;
        let payload = Payload { msg: ciphertext, aad };
        let plain = self.cipher.decrypt(Nonce::from_slice(nonce), payload).map_err(|_| SealError::DoesNotOpen)?;
        Ok(Zeroizing::new(plain))
    }
}

fn binding(key_id: u64, attempt: u16) -> [u8; 10] {
    let mut bytes = [0_u8; 10];
    bytes[..8].copy_from_slice(&key_id.to_be_bytes());
    bytes[8..].copy_from_slice(&attempt.to_be_bytes());
    bytes
}

/// Longer than that of a ceremony, so that none is ever the other.
fn reshare_binding(id: ReshareId) -> [u8; 14] {
    let mut bytes = [0_u8; 14];
    bytes[..8].copy_from_slice(&id.key_id.to_be_bytes());
    bytes[8..12].copy_from_slice(&id.committee_epoch.to_be_bytes());
    bytes[12..].copy_from_slice(&id.attempt.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_only_for_its_ceremony_and_store_key() {
        let sealer = Sealer::new(&StoreKey::random().unwrap());
        let secret = OneTimeSecret::random().unwrap();
        let sealed = sealer.seal(7, 1, &secret).unwrap();
        assert_eq!(sealer.open(7, 1, &sealed).unwrap().public_key(), secret.public_key());
        assert!(sealer.open(7, 2, &sealed).is_err());
        assert!(sealer.open(8, 1, &sealed).is_err());
        assert!(Sealer::new(&StoreKey::random().unwrap()).open(7, 1, &sealed).is_err());
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(sealer.open(7, 1, &altered).is_err());
        }
        assert!(sealer.open(7, 1, &[]).is_err());
        let plain = secret.to_bytes();
        assert!(!sealed.windows(8).any(|window| plain.windows(8).any(|part| part == window)));
    }
}
