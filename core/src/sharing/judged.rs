//! Committed and encrypted shares as the Court judges them: raw bytes of any length, and the answers of the precompiles.

use alloy_primitives::{Address, U256, keccak256, uint};
use secp256k1::{PublicKey as Point, SecretKey, ecdh::shared_secret_point};

use super::{check_one_time_key, one_time::pad_of, xor};
use crate::{
    PublicKey,
    blst_glue::{Fr, G1, Group, g1_generator_mul, g1_serialize},
    points::g1_on_curve,
    polynomial::times_small,
};

/// Order of secp256k1.
const ORDER: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);

/// y coordinate of a one-time key, if `secret` is its secret: a number that counts modulo the order. As the Court does, takes the
/// parity alone from the first byte of `key`.
#[must_use]
pub fn y_of_one_time_key(key: &[u8; 33], secret: &[u8; 32]) -> Option<[u8; 32]> {
    let point = Point::from_secret_key_global(&reduced(secret)?).serialize_uncompressed();
    let y: [u8; 32] = point[33..].try_into().ok()?;
    (point[1..33] == key[1..] && (key[0] ^ y[31]) & 1 == 0).then_some(y)
}

/// What is under the pad of `words` between the key of a dealer and the secret of a recipient; nothing where ecrecover would
/// answer zero.
pub(crate) fn decrypt(
    words: &[[u8; 32]],
    dealers_key: &[u8; 33],
    secret: &[u8; 32],
    ciphertext: &[u8; 32],
) -> Option<[u8; 32]> {
    let mut key = *dealers_key;
    key[0] = 2 | (key[0] & 1);
    check_one_time_key(&key).ok()?;
    let point = shared_secret_point(&Point::from_slice(&key).ok()?, &reduced(secret)?);
    let shared = Address::from_word(keccak256(point.as_slice()));
    Some(xor(ciphertext, &pad_of(shared, words)))
}

/// Whether `share` is a number from 1 to r - 1 and the value at `recipient` of the polynomial that `commitments` (128 bytes each,
/// constant term first) commit to. Nothing where one of them is not on the curve: then the precompiles give no value.
#[must_use]
pub fn is_committed_value(commitments: &[u8], recipient: u8, share: &[u8; 32]) -> Option<bool> {
    let share = match Fr::from_canonical(share) {
        Some(share) if !share.is_zero() => share,
        _ => return Some(false),
    };
    let mut value = G1::infinity();
    for commitment in commitments.chunks_exact(PublicKey::EIP2537_BYTES).rev() {
        value = times_small(&value, recipient);
        if let Some(point) = g1_on_curve(commitment).ok()? {
            value = value.add_affine(&point);
        }
    }
    // A share is not 0, so its point is not infinity.
    let expected = g1_serialize(&g1_generator_mul(&share).to_affine());
    Some(!value.is_infinity() && g1_serialize(&value.to_affine()) == expected)
}

fn reduced(secret: &[u8; 32]) -> Option<SecretKey> {
    let number = U256::from_be_bytes(*secret) % ORDER;
    SecretKey::from_byte_array(&number.to_be_bytes()).ok()
}
