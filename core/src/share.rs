//! One member's share of a key.

use std::fmt;

use zeroize::Zeroizing;

use crate::{
    PublicKey, ShareIndex, Signature,
    blst_glue::{Fr, g1_generator_mul},
    points::HashedMessage,
};

/// A member's share: its index and the polynomial at that index. Not 0, below r.
///
/// It neither prints nor clones nor serialises, and wipes itself when dropped. Two shares of one key must
/// never meet in one process; nothing in this crate hands out a second one.
///
/// ```compile_fail,E0277
/// fn clones<T: Clone>() {}
/// clones::<stkr_core::SecretShare>();
/// ```
/// ```compile_fail,E0277
/// fn serialises<T: serde::Serialize>() {}
/// serialises::<stkr_core::SecretShare>();
/// ```
/// ```compile_fail,E0277
/// fn prints<T: std::fmt::Display>() {}
/// prints::<stkr_core::SecretShare>();
/// ```
pub struct SecretShare {
    index: ShareIndex,
    secret: Fr,
    public: PublicKey,
}

/// Its scalar wipes itself.
impl zeroize::ZeroizeOnDrop for SecretShare {}

/// Bytes that are no share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// The number is the group order r or more: a second encoding of a smaller one.
    #[error("the share is not below the group order r")]
    NotCanonical,
    /// The number 0, whose public key would be infinity.
    #[error("the share is 0")]
    Zero,
}

impl SecretShare {
    /// Reads 32 bytes, big-endian.
    ///
    /// # Errors
    /// If the number is 0 or not below r.
    pub fn from_bytes(index: ShareIndex, bytes: &[u8; 32]) -> Result<Self, ShareError> {
        Self::from_scalar(index, scalar_from_bytes(bytes)?)
    }

    pub(crate) fn from_scalar(index: ShareIndex, secret: Fr) -> Result<Self, ShareError> {
        let public = PublicKey::from_group(&g1_generator_mul(&secret)).ok_or(ShareError::Zero)?;
        Ok(Self { index, secret, public })
    }

    /// What a resharing deals.
    pub(crate) const fn scalar(&self) -> &Fr {
        &self.secret
    }

    /// The member's number.
    pub const fn index(&self) -> ShareIndex {
        self.index
    }

    /// The share key: share times the generator of G1.
    pub const fn public_key(&self) -> PublicKey {
        self.public
    }

    /// The share, 32 bytes, big-endian. For storage only; wiped when dropped.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.secret.to_bytes()
    }

    /// This member's partial signature over a signing root.
    ///
    /// Whether the message may be signed is decided elsewhere: this function signs anything.
    pub fn sign(&self, message: &[u8; 32]) -> PartialSignature {
        self.sign_hashed(&HashedRoot::new(message))
    }

    /// The same for a signing root that several shares sign.
    pub fn sign_hashed(&self, root: &HashedRoot) -> PartialSignature {
        PartialSignature { index: self.index, signature: root.0.sign(&self.secret) }
    }
}

/// A signing root hashed to the curve: once for all who sign it.
pub struct HashedRoot(HashedMessage);

impl HashedRoot {
    /// Hashes.
    ///
    /// # Performance
    /// About a third of a signature.
    pub fn new(root: &[u8; 32]) -> Self {
        Self(HashedMessage::signing_root(root))
    }
}

impl fmt::Debug for HashedRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashedRoot").finish_non_exhaustive()
    }
}

impl fmt::Debug for SecretShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretShare")
            .field("index", &self.index)
            .field("public_key", &self.public)
            .finish_non_exhaustive()
    }
}

/// The rule for every scalar that comes from outside: 0 and numbers from r up are refused.
pub(crate) fn scalar_from_bytes(bytes: &[u8; 32]) -> Result<Fr, ShareError> {
    let scalar = Fr::from_canonical(bytes).ok_or(ShareError::NotCanonical)?;
    if scalar.is_zero() {
        return Err(ShareError::Zero);
    }
    Ok(scalar)
}

/// A signature by one share: useless alone, one of t that make the group's.
///
/// It proves nothing about its author: from any t partials anyone computes the partials of all the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialSignature {
    /// Whose share it claims to be of.
    pub index: ShareIndex,
    /// The signature.
    pub signature: Signature,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = "73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001";

    fn index(i: u8) -> ShareIndex {
        ShareIndex::new(i).unwrap()
    }

    fn order_plus(k: i8) -> [u8; 32] {
        let mut bytes: [u8; 32] = hex::decode(ORDER).unwrap().try_into().unwrap();
        bytes[31] = bytes[31].wrapping_add_signed(k);
        if k < -1 {
            panic!("borrows");
        }
        bytes
    }

    #[test]
    fn a_share_of_0_or_from_r_up_is_refused() {
        assert_eq!(SecretShare::from_bytes(index(1), &[0; 32]).unwrap_err(), ShareError::Zero);
        assert_eq!(SecretShare::from_bytes(index(1), &order_plus(0)).unwrap_err(), ShareError::NotCanonical);
        assert_eq!(SecretShare::from_bytes(index(1), &order_plus(1)).unwrap_err(), ShareError::NotCanonical);
        assert_eq!(SecretShare::from_bytes(index(1), &[0xff; 32]).unwrap_err(), ShareError::NotCanonical);
        assert!(SecretShare::from_bytes(index(1), &order_plus(-1)).is_ok());
    }

    #[test]
    fn a_share_does_not_print() {
        let bytes = [0x5a; 32];
        let share = SecretShare::from_bytes(index(3), &bytes).unwrap();
        let printed = format!("{share:?} {share:#?}");
        assert!(printed.contains("SecretShare") && printed.contains(&share.public_key().to_string()));
        assert!(!printed.contains("5a5a5a5a") && !printed.contains("90, 90"));
        assert_eq!(*share.to_bytes(), bytes);
    }
}
