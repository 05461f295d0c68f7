//! A dealing of a resharing as the Court judges it: raw bytes of any length, and the answers of the precompiles.
//!
//! The secret that a complaint shows belongs to one dealer and one recipient, so it opens nothing but the share it complains of. A
//! member checks dealings more strictly than the Court; what one of the two calls a fault and the other does not must show
//! before the secret is given away.

use super::ReshareDomain;
use crate::sharing::judged::decrypt;
pub use crate::sharing::judged::{is_committed_value, y_of_one_time_key};

/// The share that old member `dealer` encrypted for new member `recipient`, whose one-time secret for this dealer this is; nothing
/// where ecrecover would answer zero.
#[must_use]
pub fn decrypt_share(
    domain: &ReshareDomain,
    (dealer, recipient): (u8, u8),
    dealers_key: &[u8; 33],
    secret: &[u8; 32],
    ciphertext: &[u8; 32],
) -> Option<[u8; 32]> {
    decrypt(&domain.pad_words(dealer, recipient), dealers_key, secret, ciphertext)
}
