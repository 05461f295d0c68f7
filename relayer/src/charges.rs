//! What the Court would still charge, and the bound of what is kept of it.
//!
//! Of one server, key, committee epoch and fault the Court charges one in a term of the server, which ends with a reinstatement; what
//! began before that it only records. Of a provider it charges one in an assignment. So a few files of each such group are enough,
//! and a file never has to give way to others unless any of those would be charged in its place: else a server could err
//! harmlessly for a while, in a committee that is gone or in a time that is settled, and hide behind that what it does next.
//!
//! Groups are made by the chain: keys, committees, assignments and reinstatements. Nobody else makes the database grow.

use std::collections::{BTreeMap, BTreeSet};

use stkr_protocol::evidence::{Fault, Proof};

use crate::store::PROVIDER;

/// Files kept of one group that would be charged, and again as many that would not, in each term.
pub const MOST_OF_A_GROUP: usize = 32;
/// As in the Court.
pub const SECONDS_PER_SLOT: u64 = 12;
/// Slots later than this many after now date nothing, as in the Court.
const SLOTS_AHEAD: u64 = 32;

/// Of what the Court charges one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Server; [`PROVIDER`] where a provider is at fault.
    pub server_id: u32,
    /// Key.
    pub key_id: u64,
    /// Committee epoch of the key, 0 for ceremonies; of a provider its assignment.
    pub part: u64,
    /// Number of the fault.
    pub fault: u8,
}

impl Group {
    /// The group of a proof against `server_id`, by what it says without being verified.
    #[must_use]
    pub fn of(server_id: u32, proof: &Proof) -> Self {
        let part = match proof {
            Proof::InvalidPartial(it) | Proof::GarbagePartial(it) => it.envelope.committee_epoch.into(),
            Proof::ConflictingDuties(it) => it.second.committee_epoch.into(),
            Proof::UnauthorisedSignature(it) => it.envelope.committee_epoch.into(),
            Proof::ProviderEquivocation(it) => it.first.assignment,
            Proof::CeremonyEquivocation(_)
            | Proof::BadDealing(_)
            | Proof::MalformedDealing(_)
            | Proof::UnansweredChallenge(_) => 0,
        };
        Self { server_id, key_id: proof.key_id(), part, fault: proof.fault() as u8 }
    }

    /// Name of the fault, as the database has it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        Fault::from_number(self.fault).map_or("unknown", Fault::name)
    }
}

/// A kept file, as far as it matters for what would be charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Row.
    pub id: u64,
    /// Latest slot that was signed, if it dates the fault, else 0.
    pub slot: u64,
    /// How often the server had been reinstated when it came.
    pub term: u32,
}

/// What the chain says that decides what would be charged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charges {
    /// Unix time (seconds) of slot 0.
    pub genesis_time: u64,
    /// Unix time (seconds) of the newest block; 0 before one was seen.
    pub now: u64,
    /// How often each server was reinstated; a server without an entry never was.
    pub terms: BTreeMap<u32, u32>,
    /// Unix time (seconds) of each server's last reinstatement, if it ever was.
    pub reinstated_at: BTreeMap<u32, u64>,
    /// Rows with which nothing can be proven any more.
    pub hopeless: BTreeSet<u64>,
}

impl Charges {
    /// The term that a server is in.
    #[must_use]
    pub fn term(&self, server_id: u32) -> u32 {
        self.terms.get(&server_id).copied().unwrap_or_default()
    }

    /// The slot that dates a fault that comes now; 0 if none does. One of the far future dates nothing, as in the Court: it would be
    /// after every reinstatement still to come.
    #[must_use]
    pub fn slot_of(&self, proof: &Proof) -> u64 {
        let slot = latest_slot(proof);
        let last = self.now.saturating_sub(self.genesis_time) / SECONDS_PER_SLOT + SLOTS_AHEAD;
        if self.now != 0 && slot > last { 0 } else { slot }
    }

    /// Whether a file of this server is of the time before its last reinstatement. What has a slot is judged by that, as the Court
    /// does; the rest by when it came.
    #[must_use]
    pub fn is_settled(&self, server_id: u32, slot: u64, term: u32) -> bool {
        let Some(reinstated_at) = self.reinstated_at.get(&server_id) else { return false };
        match slot {
            0 => term < self.term(server_id),
            slot => self.time_of(slot) < *reinstated_at,
        }
    }

    /// Whether so much is kept that one more file, dated by `slot`, changes nothing.
    #[must_use]
    pub fn has_enough(&self, server_id: u32, slot: u64, kept: &[Kept]) -> bool {
        let term = self.term(server_id);
        let like_it = |it: &&Kept| match self.is_settled(server_id, slot, term) {
            true => it.term == term && self.is_settled(server_id, it.slot, it.term),
            false => !self.is_settled(server_id, it.slot, it.term) && !self.hopeless.contains(&it.id),
        };
        kept.iter().filter(like_it).count() >= MOST_OF_A_GROUP
    }

    fn time_of(&self, slot: u64) -> u64 {
        self.genesis_time.saturating_add(slot.saturating_mul(SECONDS_PER_SLOT))
    }
}

/// Latest slot of what was signed, where the Court goes by it, else 0.
fn latest_slot(proof: &Proof) -> u64 {
    match proof {
        // What the chain orders has no slot of its own: whoever signs it could write one beside it.
        Proof::InvalidPartial(it) | Proof::GarbagePartial(it) if it.envelope.needs_order() => 0,
        Proof::InvalidPartial(it) | Proof::GarbagePartial(it) => it.envelope.slot,
        Proof::ConflictingDuties(it) => it.first.slot.max(it.second.slot),
        Proof::UnauthorisedSignature(_)
        | Proof::ProviderEquivocation(_)
        | Proof::CeremonyEquivocation(_)
        | Proof::BadDealing(_)
        | Proof::MalformedDealing(_)
        | Proof::UnansweredChallenge(_) => 0,
    }
}

/// The server that a file accuses by its id, [`PROVIDER`] for a provider; nothing where only the chain knows whose the signer is.
#[must_use]
pub const fn claimed(proof: &Proof) -> Option<u32> {
    match proof {
        Proof::InvalidPartial(it) | Proof::GarbagePartial(it) => Some(it.holder.server_id),
        Proof::ConflictingDuties(it) => Some(it.holder.server_id),
        Proof::UnauthorisedSignature(it) => Some(it.holder.server_id),
        Proof::ProviderEquivocation(_) => Some(PROVIDER),
        Proof::CeremonyEquivocation(_)
        | Proof::BadDealing(_)
        | Proof::MalformedDealing(_)
        | Proof::UnansweredChallenge(_) => None,
    }
}
