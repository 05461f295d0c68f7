//! Presets: the compile-time constants of the consensus specs in which networks differ.
//!
//! [`Preset`] is the run-time choice. Few containers depend on it, through [`Limits`]; [`ByPreset`] holds such a
//! container without making everything around it generic.

use std::{fmt, str::FromStr};

use alloy_primitives::B256;
use serde::Serialize;
use ssz_types::typenum::{U4, U8, U32, U64, U128, U512, U8192, U131072, Unsigned};
use thiserror::Error;
use tree_hash::TreeHash;

/// `PRESET_BASE` of a network's config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Preset {
    /// Mainnet and all public test networks (`presets/mainnet` of the consensus specs).
    Mainnet,
    /// Small committees and short epochs for local networks (`presets/minimal`).
    Minimal,
}

impl Preset {
    /// `SLOTS_PER_EPOCH`.
    #[must_use]
    pub const fn slots_per_epoch(self) -> u64 {
        match self {
            Self::Mainnet => 32,
            Self::Minimal => 8,
        }
    }

    /// `mainnet` or `minimal`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mainnet => "mainnet",
            Self::Minimal => "minimal",
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of no preset.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no preset of that name: use mainnet or minimal")]
pub struct UnknownPreset;

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(name: &str) -> Result<Self, UnknownPreset> {
        [Self::Mainnet, Self::Minimal].into_iter().find(|preset| preset.name() == name).ok_or(UnknownPreset)
    }
}

mod sealed {
    pub trait Sealed {}
}

/// Lengths of bit fields that a preset fixes.
pub trait Limits: sealed::Sealed + Clone + fmt::Debug + PartialEq + Eq + Send + Sync + 'static {
    /// `SYNC_COMMITTEE_SIZE`.
    type SyncCommitteeSize: Unsigned + Clone + fmt::Debug + PartialEq + Eq + Send + Sync + 'static;
    /// `SYNC_COMMITTEE_SIZE / SYNC_COMMITTEE_SUBNET_COUNT`.
    type SyncSubcommitteeSize: Unsigned + Clone + fmt::Debug + PartialEq + Eq + Send + Sync + 'static;
    /// `MAX_COMMITTEES_PER_SLOT`.
    type MaxCommitteesPerSlot: Unsigned + Clone + fmt::Debug + PartialEq + Eq + Send + Sync + 'static;
    /// `MAX_VALIDATORS_PER_COMMITTEE * MAX_COMMITTEES_PER_SLOT`.
    type MaxValidatorsPerSlot: Unsigned + Clone + fmt::Debug + PartialEq + Eq + Send + Sync + 'static;
}

/// The limits of [`Preset::Mainnet`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mainnet {}

impl sealed::Sealed for Mainnet {}

impl Limits for Mainnet {
    type SyncCommitteeSize = U512;
    type SyncSubcommitteeSize = U128;
    type MaxCommitteesPerSlot = U64;
    type MaxValidatorsPerSlot = U131072;
}

/// The limits of [`Preset::Minimal`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Minimal {}

impl sealed::Sealed for Minimal {}

impl Limits for Minimal {
    type SyncCommitteeSize = U32;
    type SyncSubcommitteeSize = U8;
    type MaxCommitteesPerSlot = U4;
    type MaxValidatorsPerSlot = U8192;
}

/// A container in the shape of one of the presets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ByPreset<A, B> {
    /// With [`Mainnet`] limits.
    Mainnet(A),
    /// With [`Minimal`] limits.
    Minimal(B),
}

impl<A: TreeHash, B: TreeHash> ByPreset<A, B> {
    /// SSZ root of the container.
    #[must_use]
    pub fn hash_tree_root(&self) -> B256 {
        match self {
            Self::Mainnet(container) => container.tree_hash_root(),
            Self::Minimal(container) => container.tree_hash_root(),
        }
    }
}
