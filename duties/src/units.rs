//! Slots, epochs and indices, so that the compiler tells them apart.

use std::fmt;

use serde::{Deserialize, Serialize};
use tree_hash::{Hash256, PackedEncoding, TreeHash, TreeHashType};

use crate::json;

macro_rules! uint64 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(#[serde(with = "json::decimal")] pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl TreeHash for $name {
            fn tree_hash_type() -> TreeHashType {
                u64::tree_hash_type()
            }

            fn tree_hash_packed_encoding(&self) -> PackedEncoding {
                self.0.tree_hash_packed_encoding()
            }

            fn tree_hash_packing_factor() -> usize {
                u64::tree_hash_packing_factor()
            }

            fn tree_hash_root(&self) -> Hash256 {
                self.0.tree_hash_root()
            }
        }
    };
}

uint64! {
    /// Number of a slot since genesis (phase0 `Slot`).
    Slot
}
uint64! {
    /// Number of an epoch since genesis (phase0 `Epoch`).
    Epoch
}
uint64! {
    /// Position of a validator in the registry (phase0 `ValidatorIndex`).
    ValidatorIndex
}
