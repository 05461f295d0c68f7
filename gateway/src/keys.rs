//! The keys that are served now.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use stkr_node::collector::Seat;
use stkr_protection::Pubkey;
use stkr_protocol::SignerKey;
use stkr_protocol::collection::Committee;

use crate::line::Line;

/// A validator key the chain lets us ask duties for.
#[derive(Clone)]
pub struct ServedKey {
    /// Compressed group key.
    pub pubkey: Pubkey,
    /// Id in the key registry.
    pub key_id: u64,
    /// Number of the assignment, as requests name it.
    pub assignment: u64,
    /// The duty key of that assignment.
    pub duty_key: Arc<SignerKey>,
    /// Who holds the key.
    pub committee: Committee,
    /// How to reach them, in index order.
    pub seats: Vec<Seat<Line>>,
}

impl fmt::Debug for ServedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServedKey")
            .field("pubkey", &self.pubkey)
            .field("key_id", &self.key_id)
            .field("assignment", &self.assignment)
            .field("duty_key", &self.duty_key.address())
            .finish_non_exhaustive()
    }
}

/// All of them, replaced as a whole.
pub type Keys = BTreeMap<Pubkey, Arc<ServedKey>>;

/// What requests look keys up in. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    /// `None` until the chain was read for the first time.
    keys: Arc<RwLock<Option<Arc<Keys>>>>,
}

impl KeyRing {
    /// The keys served now; `None` until the chain was read for the first time.
    #[must_use]
    pub fn keys(&self) -> Option<Arc<Keys>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves `keys` from now on, and no other.
    pub fn replace(&self, keys: Keys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
    }
}
