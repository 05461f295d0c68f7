//! The keys that are served now.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use stkr_duties::{Duty, ForkSchedule};
use stkr_node::collector::Seat;
use stkr_protection::Pubkey;
use stkr_protocol::SignerKey;
use stkr_protocol::collection::Committee;
use stkr_protocol::handover::{Moment, NotServing, View};

use crate::clock;
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
    /// Which committee signs what, as finalised blocks show it.
    pub view: View,
    /// Who holds the key: its newest committee, and before it the one that hands over to it, if there is one.
    pub committees: Vec<Seated>,
}

/// A committee with the way to its members.
#[derive(Clone, Debug)]
pub struct Seated {
    /// Who and of which committee epoch. Partials of another are no answers, so old and new ones never meet.
    pub committee: Committee,
    /// Unix time (seconds) of its handover; 0 of a key's first.
    pub handover: u64,
    /// How to reach them, in index order.
    pub seats: Vec<Seat<Line>>,
}

impl ServedKey {
    /// The committee that is to be asked for `duty`: by the epoch that the duty is of, so that the gateway changes over with the
    /// servers and needs no restart.
    ///
    /// # Errors
    /// [`NotServing`]: nobody signs it, or not yet.
    pub fn for_duty(&self, duty: &Duty, schedule: &ForkSchedule) -> Result<&Seated, NotServing> {
        self.serving(Moment::of(duty, schedule, clock::unix_seconds()), schedule)
    }

    /// The committee whose turn it is by the clock; the newest while nobody's is.
    #[must_use]
    pub fn now(&self, schedule: &ForkSchedule) -> Option<&Seated> {
        let epoch = stkr_duties::Epoch(clock::now(schedule).epoch);
        let moment = Moment::of(&Duty::RandaoReveal(epoch), schedule, clock::unix_seconds());
        self.serving(moment, schedule).ok().or_else(|| self.committees.last())
    }

    fn serving(&self, moment: Moment, schedule: &ForkSchedule) -> Result<&Seated, NotServing> {
        let epoch = self.view.serving(moment, schedule)?;
        let seated = self.committees.iter().find(|it| it.committee.epoch() == epoch);
        seated.ok_or(NotServing::Forgotten(epoch.into()))
    }
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
