//! One-time secp256k1 keys: how a dealer and a recipient agree on the key of one encrypted share.

use std::fmt;

use alloy_primitives::{Address, keccak256};
use secp256k1::{PublicKey as Point, SecretKey, constants::CURVE_ORDER, ecdh::shared_secret_point};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Block, address_word};
use crate::RandomnessError;

/// A member's secp256k1 secret for one ceremony. Wiped when dropped; neither prints nor clones.
///
/// It opens every share encrypted to its public key and, revealed in a complaint, proves a bad one on-chain. In a DKG that is
/// what all dealers sent to its owner, in a resharing what one of them did ([`crate::reshare::RecipientSecrets`]).
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct OneTimeSecret {
    secret: [u8; 32],
    #[zeroize(skip)]
    public: [u8; 33],
}

/// Bytes that are no usable one-time key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OneTimeKeyError {
    /// Not a compressed point of secp256k1, or a secret of 0 or not below the group order.
    #[error("it is no key of secp256k1")]
    Malformed,
    /// The point's x coordinate is not below the order of secp256k1.
    ///
    /// On-chain the shared key is rebuilt with ecrecover, whose `r` would be this x; there it must be below the
    /// order, or ecrecover answers with address zero and no complaint against the owner can be proven.
    #[error("its x coordinate is not below the order of secp256k1, so no complaint could be proven on-chain")]
    NotRecoverable,
}

impl OneTimeSecret {
    /// A fresh secret from the operating system's randomness.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn random() -> Result<Self, RandomnessError> {
        loop {
            let mut bytes = Zeroizing::new([0; 32]);
            crate::fill_random(bytes.as_mut())?;
            // Fails once in 2^127 times; then once more.
            if let Ok(secret) = Self::from_bytes(&bytes) {
                return Ok(secret);
            }
        }
    }

    /// Reads 32 bytes, big-endian.
    ///
    /// # Errors
    /// If the number is 0, not below the group order, or its public key is not recoverable.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, OneTimeKeyError> {
        let mut key = SecretKey::from_byte_array(bytes).map_err(|_| OneTimeKeyError::Malformed)?;
        let public = Point::from_secret_key_global(&key).serialize();
        key.non_secure_erase();
        check_one_time_key(&public)?;
        Ok(Self { secret: *bytes, public })
    }

    /// The secret, 32 bytes, big-endian. For storage until the acknowledgement only; wiped when dropped.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.secret)
    }

    /// The compressed public key.
    pub const fn public_key(&self) -> [u8; 33] {
        self.public
    }

    /// The pad between two parties, one of whom owns this secret and the other `other`; `words` say what it is for.
    pub(crate) fn pad(&self, other: &[u8; 33], words: &[[u8; 32]]) -> Result<Block, OneTimeKeyError> {
        Ok(pad_of(self.shared_key(other)?, words))
    }

    /// The Ethereum address of the Diffie-Hellman point: the one function of it that ecrecover can compute.
    fn shared_key(&self, other: &[u8; 33]) -> Result<Address, OneTimeKeyError> {
        check_one_time_key(other)?;
        let other = Point::from_slice(other).map_err(|_| OneTimeKeyError::Malformed)?;
        let mut key = SecretKey::from_byte_array(&self.secret).map_err(|_| OneTimeKeyError::Malformed)?;
        let point = Zeroizing::new(shared_secret_point(&other, &key));
        key.non_secure_erase();
        Ok(Address::from_word(keccak256(point.as_slice())))
    }
}

/// keccak256 of the shared key's word and `words`. Kinds of pads differ in their number of words (DKG 6, dealt keys 5,
/// resharing 8), so that none is ever another's.
pub(crate) fn pad_of(shared: Address, words: &[[u8; 32]]) -> Block {
    // Never grows, so no copy of the shared key is left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity((words.len() + 1) * 32));
    bytes.extend_from_slice(&address_word(shared));
    bytes.extend_from_slice(words.as_flattened());
    Zeroizing::new(keccak256(bytes.as_slice()).0)
}

impl fmt::Debug for OneTimeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneTimeSecret").field("public_key", &hex::encode(self.public)).finish_non_exhaustive()
    }
}

/// Whether 33 bytes are a one-time key that can be encrypted to and complained about.
///
/// # Errors
/// If they are no compressed point, or if ecrecover could not take its x coordinate.
pub fn check_one_time_key(key: &[u8; 33]) -> Result<(), OneTimeKeyError> {
    Point::from_slice(key).map_err(|_| OneTimeKeyError::Malformed)?;
    if key[1..] >= CURVE_ORDER[..] {
        return Err(OneTimeKeyError::NotRecoverable);
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use secp256k1::{Message, SECP256K1, ecdsa};

    use super::*;

    /// A point of secp256k1 with an x coordinate in [order, modulus).
    pub(crate) fn unrecoverable_key() -> [u8; 33] {
        let mut key = [2; 33];
        key[1..].copy_from_slice(&CURVE_ORDER);
        // The order ends in 0x41; about every second x above it is on the curve.
        for last in 0x41..=0xff {
            key[32] = last;
            if Point::from_slice(&key).is_ok() {
                return key;
            }
        }
        panic!("no point found");
    }

    #[test]
    fn a_one_time_key_that_ecrecover_maps_to_zero_is_refused() {
        assert_eq!(check_one_time_key(&unrecoverable_key()), Err(OneTimeKeyError::NotRecoverable));
    }

    #[test]
    fn bytes_that_are_no_point_are_refused() {
        let mut off_curve = [2; 33];
        off_curve[1..].fill(0);
        off_curve[32] = 5; // x = 5 is not on secp256k1
        for bytes in [[0; 33], [0xff; 33], off_curve] {
            assert_eq!(check_one_time_key(&bytes), Err(OneTimeKeyError::Malformed));
        }
        assert_eq!(OneTimeSecret::from_bytes(&[0; 32]).unwrap_err(), OneTimeKeyError::Malformed);
        assert_eq!(OneTimeSecret::from_bytes(&CURVE_ORDER).unwrap_err(), OneTimeKeyError::Malformed);
    }

    #[test]
    fn both_sides_compute_one_shared_key_and_ecrecover_computes_it_too() {
        let (dealer, recipient) = (OneTimeSecret::random().unwrap(), OneTimeSecret::random().unwrap());
        let shared = dealer.shared_key(&recipient.public_key()).unwrap();
        assert_eq!(recipient.shared_key(&dealer.public_key()).unwrap(), shared);

        // What the contract does with the revealed secret d of the recipient and the dealer's key R:
        // ecrecover(0, parity of R, r = x(R), s = d * x(R)) is the address of d * R.
        let x: [u8; 32] = dealer.public_key()[1..].try_into().unwrap();
        let s = SecretKey::from_byte_array(&recipient.to_bytes())
            .unwrap()
            .mul_tweak(&secp256k1::Scalar::from_be_bytes(x).unwrap())
            .unwrap();
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&x);
        signature[32..].copy_from_slice(&s.secret_bytes());
        let parity = ecdsa::RecoveryId::try_from(i32::from(dealer.public_key()[0] & 1)).unwrap();
        let signature = ecdsa::RecoverableSignature::from_compact(&signature, parity).unwrap();
        let point = SECP256K1.recover_ecdsa(&Message::from_digest([0; 32]), &signature).unwrap();
        let address = Address::from_word(keccak256(&point.serialize_uncompressed()[1..]));
        assert_eq!(address, shared);
    }

    #[test]
    fn a_one_time_secret_does_not_print() {
        let secret = OneTimeSecret::from_bytes(&[0x5a; 32]).unwrap();
        let printed = format!("{secret:?}");
        assert!(printed.contains(&hex::encode(secret.public_key())));
        assert!(!printed.contains("5a5a5a") && !printed.contains("90, 90"));
        assert_eq!(*secret.to_bytes(), [0x5a; 32]);
    }
}
