//! Threshold BLS for Stkr: bytes in, bytes out, no Ethereum duty.
//!
//! A key is shared over `n` servers so that any `t` of them sign and any `t - 1` of them know nothing.
//! Nobody ever holds the key: [`dkg`] makes it shared from its first moment, [`reshare`] moves it to another committee.
//!
//! ```text
//! OneTimeSecret --deal--> Dealing (one per member) --finish--> SecretShare + CommitteeKeys
//! SecretShare --Reshare::deal--> Dealing (one per dealer) --Reshare::finish--> SecretShare of a new committee + CommitteeKeys
//! SecretShare --sign--> PartialSignature (one per member) --CommitteeKeys::combine--> Signature
//! SecretShare <--StoreKey--> Keystore (at rest)
//! ```
//!
//! # Conventions
//! - BLS12-381 with public keys in G1 and signatures in G2, the proof-of-possession ciphersuite of the
//!   consensus specs. Scalars are 32 bytes, big-endian, below the group order r.
//! - [`PublicKey`] and [`Signature`] are never infinity and always in the subgroup: their decoders refuse
//!   everything else, so no function here has to ask again.
//! - Members are numbered from 1 ([`ShareIndex`]); 0 would be the key itself and cannot be expressed.
//! - Byte formats are those of `docs/protocol.md`.
//!
//! # Example
//! A ceremony of three members in one process, and a signature by two of them:
//! ```
//! use alloy_primitives::Address;
//! use stkr_core::{Threshold, dkg, verify};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let threshold = Threshold::new(2, 3)?;
//! let domain = dkg::CeremonyDomain { chain_id: 1, registry: Address::ZERO, key_id: 1, attempt: 0 };
//! // Each member makes a one-time key and publishes its public half, ...
//! let secrets = threshold.indices().map(|_| dkg::OneTimeSecret::random()).collect::<Result<Vec<_>, _>>()?;
//! let keys: Vec<_> = secrets.iter().map(dkg::OneTimeSecret::public_key).collect();
//! // ... deals to all, ...
//! let members = || threshold.indices().zip(&secrets);
//! let dealings = members()
//!     .map(|(me, secret)| dkg::deal(&domain, threshold, me, secret, &keys))
//!     .collect::<Result<Vec<_>, _>>()?;
//! // ... and ends with its own share and the same public keys as everybody.
//! let outcomes = members()
//!     .map(|(me, secret)| dkg::finish(&domain, threshold, me, secret, &dealings))
//!     .collect::<Result<Vec<_>, _>>()?;
//!
//! let message = [7; 32];
//! let partials = [outcomes[2].share.sign(&message), outcomes[0].share.sign(&message)];
//! let combined = outcomes[1].keys.combine(&message, &partials)?;
//! assert!(verify(&outcomes[1].keys.group_key(), &message, &combined.signature));
//! # Ok(())
//! # }
//! ```
//!
//! # What cannot be done with this crate
//! Copy a share, or print one; or split a secret, but with the feature `splitter`, which only the command line of the owner of
//! a key may enable. Whoever has the bytes of a share can decode it, as a server must when it
//! starts; that no process has two of one key is kept by where shares are: each server opens its own store only, and that
//! store refuses a second share of one group key. The trusted dealer that tests need is behind the feature `testing`, which
//! no product crate may enable (`cargo xtask lint`).

mod batch;
mod blst_glue;
mod combine;
pub mod dealt;
pub mod dkg;
pub mod keystore;
mod lagrange;
mod points;
mod polynomial;
pub mod reshare;
mod share;
mod sharing;
#[cfg(any(test, feature = "splitter"))]
pub mod splitter;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod threshold;

pub use batch::{Claim, verify_batch};
pub use combine::{CombineError, Combined, CommitteeKeys, CommitteeKeysError, interpolate};
pub use points::{PointError, PublicKey, Signature, verify};
pub use share::{HashedRoot, PartialSignature, SecretShare, ShareError};
pub use threshold::{IndexError, MAX_MEMBERS, ShareIndex, Threshold, ThresholdError};

/// The operating system gave no randomness; nothing secret can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the operating system's random number generator failed ({0}); no secret can be made on this machine until it works"
)]
pub struct RandomnessError(getrandom::Error);

/// Fills `buffer` with randomness of the operating system.
pub(crate) fn fill_random(buffer: &mut [u8]) -> Result<(), RandomnessError> {
    getrandom::fill(buffer).map_err(RandomnessError)
}
