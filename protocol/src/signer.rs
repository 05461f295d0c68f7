//! secp256k1 keys that sign protocol messages (a server's signer key, a provider's duty key) and their signatures.

use std::fmt;

use alloy_primitives::{Address, B256, keccak256};
use secp256k1::{
    Message, PublicKey, SECP256K1, SecretKey,
    ecdsa::{RecoverableSignature, RecoveryId},
};
use thiserror::Error;
use zeroize::Zeroizing;

/// Half the order of secp256k1, big-endian. EIP-2 and OpenZeppelin's ECDSA refuse any s above it.
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x5d, 0x57, 0x6e,
    0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

/// Why a signer key cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SignerKeyError {
    /// The bytes are zero or not below the group order.
    #[error("the 32 bytes are no secp256k1 secret key: zero, or not below the group order")]
    NotASecretKey,
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness: {0}")]
    NoRandomness(getrandom::Error),
}

/// Why a signature proves nothing about anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// The last byte is neither 27 nor 28.
    #[error("the signature's v is {0}; it must be 27 or 28")]
    BadV(u8),
    /// s lies in the upper half: the same signature in a second form, which contracts refuse.
    #[error("the signature's s is above half the group order; use the other form, with s = order - s")]
    HighS,
    /// No public key belongs to r, s and this digest.
    #[error("no public key belongs to this signature")]
    Unrecoverable,
}

/// A secp256k1 secret key that signs EIP-712 digests. Erased when dropped; never printed.
///
/// Signatures are deterministic (RFC 6979): signing one digest twice gives the same bytes, so that a restart cannot
/// look like a second message.
pub struct SignerKey {
    secret: SecretKey,
    address: Address,
}

impl SignerKey {
    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// [`SignerKeyError::NoRandomness`].
    pub fn random() -> Result<Self, SignerKeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        loop {
            getrandom::fill(bytes.as_mut()).map_err(SignerKeyError::NoRandomness)?;
            // All but 2^-128 of the values are keys.
            if let Ok(key) = Self::from_bytes(&bytes) {
                return Ok(key);
            }
        }
    }

    /// The key with this secret scalar, 32 bytes big-endian.
    ///
    /// # Errors
    /// [`SignerKeyError::NotASecretKey`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, SignerKeyError> {
        let secret = SecretKey::from_byte_array(bytes).map_err(|_| SignerKeyError::NotASecretKey)?;
        let address = address_of(&secret.public_key(SECP256K1));
        Ok(Self { secret, address })
    }

    /// The secret scalar, 32 bytes big-endian, for storing it encrypted.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.secret.secret_bytes())
    }

    /// The address under which the chain knows this key.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// Signature r ‖ s ‖ v over a digest, v in {27, 28}, s in the lower half.
    #[must_use]
    pub fn sign_digest(&self, digest: B256) -> [u8; 65] {
        let signature = SECP256K1.sign_ecdsa_recoverable(&Message::from_digest(digest.0), &self.secret);
        let (recovery, compact) = signature.serialize_compact();
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&compact);
        // Ids 2 and 3 need an r above the group order: one in 2^127.
        bytes[64] = if recovery == RecoveryId::One { 28 } else { 27 };
        bytes
    }
}

impl Drop for SignerKey {
    fn drop(&mut self) {
        self.secret.non_secure_erase();
    }
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignerKey({})", self.address)
    }
}

/// Address whose key made this 65-byte signature (r ‖ s ‖ v) over `digest`; refuses what the contracts refuse.
///
/// # Errors
/// [`SignatureError`]. Any well-formed signature recovers *some* address: compare it with the one that you expect.
pub fn recover_signer(digest: B256, signature: &[u8; 65]) -> Result<Address, SignatureError> {
    let recovery = match signature[64] {
        27 => RecoveryId::Zero,
        28 => RecoveryId::One,
        v => return Err(SignatureError::BadV(v)),
    };
    if signature[32..64] > HALF_ORDER[..] {
        return Err(SignatureError::HighS);
    }
    let signature =
        RecoverableSignature::from_compact(&signature[..64], recovery).map_err(|_| SignatureError::Unrecoverable)?;
    let key = SECP256K1
        .recover_ecdsa(&Message::from_digest(digest.0), &signature)
        .map_err(|_| SignatureError::Unrecoverable)?;
    Ok(address_of(&key))
}

fn address_of(key: &PublicKey) -> Address {
    Address::from_slice(&keccak256(&key.serialize_uncompressed()[1..])[12..])
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{U256, address, b256, uint};

    use super::*;

    fn key() -> SignerKey {
        SignerKey::from_bytes(&b256!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80").0).unwrap()
    }

    #[test]
    fn the_address_is_the_well_known_one_of_anvils_first_account() {
        assert_eq!(key().address(), address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266"));
    }

    #[test]
    fn a_signature_recovers_its_signer_and_no_other_digest_does() {
        let digest = keccak256("digest");
        let signature = key().sign_digest(digest);
        assert_eq!(signature, key().sign_digest(digest));
        assert_eq!(recover_signer(digest, &signature), Ok(key().address()));
        assert_ne!(recover_signer(keccak256("other"), &signature), Ok(key().address()));
    }

    #[test]
    fn the_high_s_twin_of_a_signature_is_refused() {
        const ORDER: U256 = uint!(0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141_U256);
        let digest = keccak256("digest");
        let mut twin = key().sign_digest(digest);
        let s = U256::from_be_slice(&twin[32..64]);
        twin[32..64].copy_from_slice(&(ORDER - s).to_be_bytes::<32>());
        twin[64] = 55 - twin[64];
        // It is a valid signature of the same key: only the rule refuses it.
        let recovery = if twin[64] == 28 { RecoveryId::One } else { RecoveryId::Zero };
        let signature = RecoverableSignature::from_compact(&twin[..64], recovery).unwrap();
        let recovered = SECP256K1.recover_ecdsa(&Message::from_digest(digest.0), &signature).unwrap();
        assert_eq!(address_of(&recovered), key().address());
        assert_eq!(recover_signer(digest, &twin), Err(SignatureError::HighS));
    }

    #[test]
    fn v_must_be_27_or_28() {
        let digest = keccak256("digest");
        for v in (0..=255).filter(|v| ![27, 28].contains(v)) {
            let mut signature = key().sign_digest(digest);
            signature[64] = v;
            assert_eq!(recover_signer(digest, &signature), Err(SignatureError::BadV(v)));
        }
    }

    #[test]
    fn zero_r_or_s_recovers_nobody() {
        for range in [0..32, 32..64] {
            let mut signature = key().sign_digest(B256::ZERO);
            signature[range].fill(0);
            assert_eq!(recover_signer(B256::ZERO, &signature), Err(SignatureError::Unrecoverable));
        }
    }

    #[test]
    fn debug_output_shows_the_address_and_not_the_secret() {
        assert_eq!(format!("{:?}", key()), "SignerKey(0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266)");
    }

    #[test]
    fn zero_and_the_group_order_are_no_secret_keys() {
        let order = b256!("FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141");
        for bytes in [[0; 32], order.0] {
            assert_eq!(SignerKey::from_bytes(&bytes).unwrap_err(), SignerKeyError::NotASecretKey);
        }
    }
}
