//! Making a key that nobody ever holds: joint-Feldman with proofs of possession (`docs/protocol.md`, Ceremony).
//!
//! # Flow
//! Every member `i` of `n`
//! 1. makes an [`OneTimeSecret`] and publishes its public key;
//! 2. [`deal`]s: picks a polynomial f_i of degree t - 1, commits to its coefficients, proves possession of
//!    f_i(0), and encrypts f_i(j) to every member j under the Diffie-Hellman key of the two one-time keys;
//! 3. once all dealings are on the table, [`finish`]es: checks every dealing, decrypts its n shares, checks each
//!    against the dealer's commitments, and adds them up. The key is the sum of all f_i(0).
//!
//! The rounds, signatures and commit-then-reveal around these steps are the `protocol` crate's.
//!
//! # Caveats
//! - All n members deal. There are no subsets, so there is no choice that an adversary could bias; a bad
//!   dealing ends the ceremony and names its dealer.
//! - Encrypted shares in a transcript are only as safe as the one-time secrets: erase them ([`OneTimeSecret`]
//!   wipes itself when dropped) as soon as the share is stored.
//!
//! # What an adversary may try, and where it ends
//! | attempt | end |
//! |---|---|
//! | constant term chosen after seeing the others', so that they cancel (rogue key) | no proof of possession |
//! | another member's dealing under the own index | the proof names the dealer |
//! | more commitments than t: nobody can recover, or t stays below what the chain believes | counted |
//! | a share that does not match the commitments, 0, or not below r | [`DealingFault`], on opening |
//! | a one-time key whose x is no ecrecover `r`, so that no complaint can ever be proven on-chain | refused |

pub mod complaint;
mod dealing;

use alloy_primitives::{Address, keccak256};
pub use dealing::{Dealing, deal};

pub use crate::sharing::{DealingFault, OneTimeKeyError, OneTimeSecret, OpenedShare, Outcome, check_one_time_key};
use crate::{
    CommitteeKeys, PublicKey, RandomnessError, SecretShare, ShareIndex, Threshold,
    blst_glue::{Fr, G1, Group},
    sharing::{address_word, committee_of, word},
};

/// What a ceremony's secrets and proofs are bound to, so that nothing of one ceremony means anything in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CeremonyDomain {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The KeyRegistry.
    pub registry: Address,
    /// Number of the key in the registry.
    pub key_id: u64,
    /// Number of the attempt, from 0; a restarted ceremony has the next.
    pub attempt: u16,
}

impl CeremonyDomain {
    /// What the pad of a share from `dealer` to `recipient` is for.
    pub(crate) fn pad_words(&self, dealer: u8, recipient: u8) -> [[u8; 32]; 6] {
        [
            word(self.chain_id),
            address_word(self.registry),
            word(self.key_id),
            word(self.attempt.into()),
            word(dealer.into()),
            word(recipient.into()),
        ]
    }
}

/// Why no dealing or no key came out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DkgError {
    /// A dealing is bad; the ceremony ends and this dealer is to blame.
    #[error("the dealing of member {dealer} is bad: {fault}")]
    Dealer {
        /// Who dealt.
        dealer: ShareIndex,
        /// What is wrong.
        fault: DealingFault,
    },
    /// A member's published one-time key cannot be encrypted to.
    #[error("the one-time key of member {member} is bad: {error}")]
    OneTimeKey {
        /// Whose key.
        member: ShareIndex,
        /// What is wrong.
        error: OneTimeKeyError,
    },
    /// Not one item per member.
    #[error("{got} {what} for a committee of {expected}")]
    Count {
        /// Dealings or one-time keys.
        what: &'static str,
        /// n
        expected: u8,
        /// Items that came.
        got: usize,
    },
    /// The caller's index is above n.
    #[error("there is no member {0} in this committee")]
    UnknownMember(ShareIndex),
    /// The secret given is not that of the public key that stands for the caller.
    #[error(
        "the one-time secret does not belong to the one-time key that member {0} published; its state is lost or mixed up, so it must sit this ceremony out"
    )]
    ForeignSecret(ShareIndex),
    /// The sum of the commitments is infinity somewhere, or the share is 0. One dealing made to fit all others.
    #[error("the dealings cancel out to a key or share of 0; start the ceremony again")]
    Degenerate,
    /// The sum of the shares is not the secret of the share key. Cannot happen after the checks above.
    #[error("the sum of the shares does not match the share key of member {0}")]
    ShareKeyMismatch(ShareIndex),
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
}

/// Checks all dealings (index order), opens the caller's n shares and adds them up; ends with the check that the
/// share's public key is the share key that everybody else computes.
///
/// # Errors
/// [`DkgError::Dealer`] names the first dealer whose dealing is bad. Its published one-time key must have been
/// compared before, by [`Dealing::check`].
///
/// # Performance
/// Per dealing one proof (a millisecond) and one share check (see the bench `dkg`).
pub fn finish(
    domain: &CeremonyDomain,
    threshold: Threshold,
    me: ShareIndex,
    secret: &OneTimeSecret,
    dealings: &[Dealing],
) -> Result<Outcome, DkgError> {
    expect_one_per_member("dealings", threshold, dealings.len())?;
    let own = dealings.get(me.position()).ok_or(DkgError::UnknownMember(me))?;
    if own.one_time_key != secret.public_key() {
        return Err(DkgError::ForeignSecret(me));
    }
    let mut sum = Fr::default();
    for (dealer, dealing) in threshold.indices().zip(dealings) {
        let opened = dealing
            .check(domain, threshold, dealer, &dealing.one_time_key)
            .and_then(|()| dealing.open(domain, dealer, me, secret))
            .map_err(|fault| DkgError::Dealer { dealer, fault })?;
        sum = sum.add(opened.scalar());
    }
    let keys = committee_keys(threshold, dealings)?;
    let share = SecretShare::from_scalar(me, sum).map_err(|_| DkgError::Degenerate)?;
    if keys.share_key(me) != Some(&share.public_key()) {
        return Err(DkgError::ShareKeyMismatch(me));
    }
    Ok(Outcome { share, keys })
}

/// Group key and share keys from the commitments of all dealings (index order); needs no secret.
///
/// # Warning
/// Checks counts, not proofs of possession: run [`Dealing::check`] on each dealing first, or a rogue
/// dealer knows the key.
///
/// # Errors
/// If there are not n dealings of t commitments each, or if they cancel out.
pub fn committee_keys(threshold: Threshold, dealings: &[Dealing]) -> Result<CommitteeKeys, DkgError> {
    expect_one_per_member("dealings", threshold, dealings.len())?;
    for (dealer, dealing) in threshold.indices().zip(dealings) {
        dealing.check_counts(threshold).map_err(|fault| DkgError::Dealer { dealer, fault })?;
    }
    let sums: Vec<PublicKey> = (0..usize::from(threshold.t()))
        .map(|k| sum(dealings.iter().filter_map(|dealing| dealing.commitments.get(k))))
        .collect::<Option<_>>()
        .ok_or(DkgError::Degenerate)?;
    committee_of(threshold, &sums).ok_or(DkgError::Degenerate)
}

fn sum<'a>(points: impl Iterator<Item = &'a PublicKey>) -> Option<PublicKey> {
    PublicKey::from_group(&points.fold(G1::infinity(), |sum, point| sum.add_affine(&point.0)))
}

fn expect_one_per_member(what: &'static str, threshold: Threshold, got: usize) -> Result<(), DkgError> {
    if got == usize::from(threshold.n()) { Ok(()) } else { Err(DkgError::Count { what, expected: threshold.n(), got }) }
}

/// What a proof of possession signs: keccak256(abi.encode("stkr/dkg/pop", chain, registry, key, attempt, dealer,
/// keccak256(C_0))), C_0 in its EIP-2537 form.
fn possession_message(domain: &CeremonyDomain, dealer: ShareIndex, constant_term: &PublicKey) -> [u8; 32] {
    possession_digest(domain, dealer.get(), &constant_term.to_eip2537())
}

fn possession_digest(domain: &CeremonyDomain, dealer: u8, constant_term: &[u8]) -> [u8; 32] {
    const LABEL: &[u8; 12] = b"stkr/dkg/pop";
    let mut label = [0; 32];
    label[..LABEL.len()].copy_from_slice(LABEL);
    let words = [
        word(7 * 32), // where the string starts
        word(domain.chain_id),
        address_word(domain.registry),
        word(domain.key_id),
        word(domain.attempt.into()),
        word(dealer.into()),
        keccak256(constant_term).0,
        word(12),
        label,
    ];
    keccak256(words.as_flattened()).0
}

#[cfg(test)]
mod tests;
