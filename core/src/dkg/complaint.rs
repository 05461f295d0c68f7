//! A dealing as the Court judges it (`contracts/court/faults`): raw bytes of any length, and the answers of the precompiles.
//!
//! A member checks dealings more strictly, and earlier: it decodes no commitment outside the subgroup, the Court adds one up. What
//! one of the two calls a fault and the other does not must show before a one-time secret is given away, hence this module.

use super::{CeremonyDomain, possession_digest};
pub use crate::sharing::judged::{is_committed_value, y_of_one_time_key};
use crate::{PointError, PublicKey, Signature, points::HashedMessage, sharing::judged::decrypt};

/// The share that `dealer` encrypted for `recipient`, whose one-time secret this is; nothing where ecrecover would answer zero.
#[must_use]
pub fn decrypt_share(
    domain: &CeremonyDomain,
    (dealer, recipient): (u8, u8),
    dealers_key: &[u8; 33],
    secret: &[u8; 32],
    ciphertext: &[u8; 32],
) -> Option<[u8; 32]> {
    decrypt(&domain.pad_words(dealer, recipient), dealers_key, secret, ciphertext)
}

/// Whether the pairing precompile finds `proof` to be the dealer's proof of possession of the first of `commitments`.
///
/// It takes infinity for a point, and two of them for a proof; that such a commitment is bad is another finding.
#[must_use]
pub fn is_possession(domain: &CeremonyDomain, dealer: u8, commitments: &[u8], proof: &[u8]) -> bool {
    let Some(constant_term) = commitments.get(..PublicKey::EIP2537_BYTES) else {
        return false;
    };
    match (PublicKey::from_eip2537(constant_term), Signature::from_eip2537(proof)) {
        (Ok(key), Ok(proof)) => {
            let message = possession_digest(domain, dealer, constant_term);
            HashedMessage::possession(&message).verifies(&key, &proof)
        }
        (Err(PointError::Infinity), Err(PointError::Infinity)) => true,
        _ => false,
    }
}
