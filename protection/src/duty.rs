//! What a validator is asked to sign, what it has signed, and the marks below which it signs nothing.
//!
//! Names and units are those of the consensus specs: slots and epochs count from genesis, roots are 32 bytes.

use std::fmt;

use alloy_primitives::{B256, FixedBytes};

/// Compressed BLS public key of a validator. The whole key's, not a share's: history follows the validator.
pub type Pubkey = FixedBytes<48>;

/// The present, according to the caller: the last slot and epoch it accepts duties for.
///
/// A duty after it is refused and moves no watermark. Callers whose clock may lag behind the network's add their
/// tolerance here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Slot.
    pub slot: u64,
    /// Epoch.
    pub epoch: u64,
}

/// A block to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// `block.slot`.
    pub slot: u64,
    /// `compute_signing_root(block, domain)`.
    pub signing_root: B256,
}

/// An attestation to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// `attestation.data.source.epoch`.
    pub source_epoch: u64,
    /// `attestation.data.target.epoch`.
    pub target_epoch: u64,
    /// `compute_signing_root(attestation.data, domain)`.
    pub signing_root: B256,
}

/// The two duties for which a validator can be slashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Proposing.
    Block(Block),
    /// Attesting.
    Attestation(Attestation),
}

/// One signature asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whose.
    pub pubkey: Pubkey,
    /// Over what.
    pub duty: Duty,
}

/// A block in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedBlock {
    /// Slot.
    pub slot: u64,
    /// Its root; `None` if an import did not say, or if two sources say different roots.
    pub signing_root: Option<B256>,
}

/// An attestation in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedAttestation {
    /// Source epoch.
    pub source_epoch: u64,
    /// Target epoch.
    pub target_epoch: u64,
    /// Its root; `None` if an import did not say, or if two sources say different roots.
    pub signing_root: Option<B256>,
}

/// Epochs of an attestation, as a watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epochs {
    /// Source epoch.
    pub source_epoch: u64,
    /// Target epoch.
    pub target_epoch: u64,
}

/// A watermark; `None` where nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermark {
    /// For blocks.
    pub slot: Option<u64>,
    /// For attestations.
    pub epochs: Option<Epochs>,
}

/// What the database knows of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// The key.
    pub pubkey: Pubkey,
    /// Whether it may be asked for signatures.
    pub active: bool,
    /// Whether its history is in doubt since the file was restored or rolled back: signs nothing until an import.
    pub needs_import: bool,
    /// Nothing at or below this slot or target, and no source before it, is signed (EIP-3076, conditions 2, 4 and 5).
    pub low: Watermark,
    /// The latest slot, source and target that may have been signed. A duty above it is safe.
    pub high: Watermark,
}

impl Now {
    /// What has passed may all have been signed, so this is the watermark of a key whose history is not known.
    ///
    /// The source may be one epoch earlier: an honest vote's source is before its target, hence before the present epoch.
    pub(crate) const fn watermark(self) -> (u64, Epochs) {
        (self.slot, Epochs { source_epoch: self.epoch.saturating_sub(1), target_epoch: self.epoch })
    }

    /// SQLite's integers end at 2^63 - 1, and so does time.
    pub(crate) fn bounded(self) -> Self {
        let last = i64::MAX.unsigned_abs();
        Self { slot: self.slot.min(last), epoch: self.epoch.min(last) }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {} with signing root {}", self.slot, self.signing_root)
    }
}

impl fmt::Display for Attestation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source_epoch, target_epoch, signing_root } = self;
        write!(f, "source {source_epoch}, target {target_epoch} with signing root {signing_root}")
    }
}

impl fmt::Display for SignedBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {} with {}", self.slot, Root(self.signing_root))
    }
}

impl fmt::Display for SignedAttestation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source_epoch, target_epoch, signing_root } = self;
        write!(f, "source {source_epoch}, target {target_epoch} with {}", Root(*signing_root))
    }
}

struct Root(Option<B256>);

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(root) => write!(f, "signing root {root}"),
            None => f.write_str("an unknown signing root"),
        }
    }
}
