//! The answer to a request, with its reason.

use crate::duty::{Attestation, Block, SignedAttestation, SignedBlock};

/// What the database says to one request. Only [`Verdict::Safe`] and [`Verdict::SameAgain`] allow a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[must_use = "a signature may only be made if the verdict allows it"]
pub enum Verdict {
    /// It contradicts nothing, and it is now in the history, on disk.
    #[error("safe, and recorded")]
    Safe,
    /// Exactly this, root included, is in the history, on disk: signing it again says nothing new.
    #[error("recorded before, the same again")]
    SameAgain,
    /// Together with the history it could get the validator slashed.
    #[error("slashable: {0}")]
    Slashable(Conflict),
    /// It lies after the present. No watermark moved.
    #[error("{what} {asked} is after the present, {now}; check the clocks of this machine and of the one that asks")]
    FarFuture {
        /// "slot" or "target epoch".
        what: &'static str,
        /// Of the request.
        asked: u64,
        /// Latest that is accepted.
        now: u64,
    },
    /// No honest vote has these epochs. (At genesis both are 0.)
    #[error("source epoch {source_epoch} is not before target epoch {target_epoch}")]
    SourceNotBeforeTarget {
        /// Of the request.
        source_epoch: u64,
        /// Of the request.
        target_epoch: u64,
    },
    /// The database does not know the key: register it if it is new, import its history if it is not.
    #[error("the key is not registered for slashing protection")]
    Unregistered,
    /// The key left; its history stays.
    #[error("the key is deactivated")]
    Inactive,
    /// The file was restored or rolled back, and no import has vouched for this key since.
    #[error(
        "the history of this key is in doubt since the database was restored or rolled back; import its newer history"
    )]
    NeedsImport,
}

impl Verdict {
    /// Whether a signature may be made.
    pub const fn may_sign(&self) -> bool {
        matches!(self, Self::Safe | Self::SameAgain)
    }
}

/// Why a request is slashable: what is asked for, and what stands against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Two blocks for one slot (`process_proposer_slashing`).
    #[error("double proposal: asked for {asked}, but signed {signed}")]
    DoubleProposal {
        /// Request.
        asked: Block,
        /// History.
        signed: SignedBlock,
    },
    /// Two votes for one target (`is_slashable_attestation_data`, first condition).
    #[error("double vote: asked for {asked}, but signed {signed}")]
    DoubleVote {
        /// Request.
        asked: Attestation,
        /// History.
        signed: SignedAttestation,
    },
    /// The new vote surrounds an old one (second condition).
    #[error("surrounding vote: asked for {asked}, which surrounds {signed}")]
    Surrounding {
        /// Request.
        asked: Attestation,
        /// History.
        signed: SignedAttestation,
    },
    /// An old vote surrounds the new one (second condition, the other way round).
    #[error("surrounded vote: asked for {asked}, which is surrounded by {signed}")]
    Surrounded {
        /// Request.
        asked: Attestation,
        /// History.
        signed: SignedAttestation,
    },
    /// Condition 2 of EIP-3076: below the first slot that the history is known of.
    #[error("asked for {asked}, but nothing up to slot {low} is signed any more (low watermark)")]
    LowSlot {
        /// Request.
        asked: Block,
        /// Watermark.
        low: u64,
    },
    /// Condition 4.
    #[error("asked for {asked}, but no source before epoch {low} is signed any more (low watermark)")]
    LowSource {
        /// Request.
        asked: Attestation,
        /// Watermark.
        low: u64,
    },
    /// Condition 5.
    #[error("asked for {asked}, but no target up to epoch {low} is signed any more (low watermark)")]
    LowTarget {
        /// Request.
        asked: Attestation,
        /// Watermark.
        low: u64,
    },
}
