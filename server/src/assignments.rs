//! Who may ask for duties of a key: read from the chain ahead of the requests, so that a request waits for no endpoint.
//!
//! The first request for a key reads what the chain says of it. From then on [`Assignments::refresh`] looks with every new block
//! whether that may have changed, and reads again what may have, until nobody has asked for a while. An entry of which that is
//! not known for [`LASTS`] is no longer believed: a provider that was replaced must not go on because this server's endpoints
//! are down.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use alloy::primitives::{Address, B256};
use futures::StreamExt as _;
use stkr_chain::DutyAssignment;
use stkr_chain::endpoint::BlockId;
use stkr_protocol::sign::Refusal;

use crate::chain::{ChainView, Changed};
use crate::duty::{Askers, DutyFacts};
use crate::serving::Us;

/// How long an answer of the chain is believed: five slots. Until then a provider that was just replaced may still be served,
/// which slashing protection and the quorum bound make safe; it is liable for what it asks.
pub const LASTS: Duration = Duration::from_secs(60);
/// How long a duty key is served after its provider replaced it within one assignment, so that no duty is missed. Forgotten
/// when the server restarts.
pub const OVERLAP: Duration = Duration::from_secs(120);
/// After so long without a request a key is no longer read with every block.
const UNUSED: Duration = Duration::from_secs(900);
/// Reads at once.
const PARALLEL_READS: usize = 8;

/// Blocks after which everything is read again, whatever the events say: an epoch.
const READ_ALL_EVERY: u64 = 32;

#[derive(Clone, Copy, Debug)]
struct Entry {
    facts: DutyFacts,
    current: Option<DutyAssignment>,
    previous: Option<(Address, Instant)>,
    /// When it was known last that this is how it is.
    read: Instant,
    used: Instant,
    /// May have changed since it was read.
    stale: bool,
}

/// What is known of the keys that are asked for; at most one entry per share of this server.
#[derive(Debug, Default)]
pub struct Assignments(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    entries: HashMap<u64, Entry>,
    /// The block up to which changes are known, and the one at which everything was read again.
    seen: Option<(B256, u64)>,
    /// Looks begun. What was asked before one and answered after it may be older than what that look has seen.
    looks: u64,
}

impl Assignments {
    /// What the chain said of a key at a block of at most [`LASTS`] ago, if that is known here.
    pub fn known(&self, key_id: u64) -> Option<(DutyFacts, Askers)> {
        let now = Instant::now();
        let mut known = self.lock();
        let entry = known.entries.get_mut(&key_id).filter(|entry| entry.is_believed(now))?;
        entry.used = now;
        Some((entry.facts, entry.askers(now)))
    }

    /// Asks the chain, and remembers the answer.
    ///
    /// # Errors
    /// The refusal to answer with if it cannot be known, or if this server has no seat.
    pub async fn read(&self, key_id: u64, chain: &ChainView, us: &Us) -> Result<(DutyFacts, Askers), Refusal> {
        let (now, looks) = (Instant::now(), self.lock().looks);
        let facts = chain.duty_facts(key_id, us).await?;
        let current = chain.duty_assignment(key_id).await?;
        Ok(self.lock().insert(key_id, facts, current, (now, looks)))
    }

    /// Reads again what may have changed up to the block `tip`. What cannot be read keeps its age.
    pub async fn refresh(&self, chain: &ChainView, tip: &BlockId) {
        let seen = self.lock().seen.filter(|(_, all)| tip.number < all.saturating_add(READ_ALL_EVERY));
        let began = Instant::now();
        let changed = match seen {
            Some((hash, _)) => chain.changes(hash, tip).await,
            None => Changed::All,
        };
        let keys = self.lock().look(&changed, tip, began);
        let reads =
            futures::stream::iter(keys).map(|key_id| async move { (key_id, chain.duty_assignment(key_id).await) });
        let mut reads = reads.buffer_unordered(PARALLEL_READS);
        while let Some((key_id, read)) = reads.next().await {
            if let (Ok(current), Some(entry)) = (read, self.lock().entries.get_mut(&key_id)) {
                entry.learn(entry.facts, current, Instant::now());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// What was `asked` at that time, after so many looks.
    fn insert(
        &mut self,
        key_id: u64,
        facts: DutyFacts,
        current: Option<DutyAssignment>,
        (asked, looks): (Instant, u64),
    ) -> (DutyFacts, Askers) {
        let new = Entry { facts, current, previous: None, read: asked, used: asked, stale: false };
        let entry = self.entries.entry(key_id).or_insert(new);
        entry.learn(facts, current, asked);
        entry.stale = looks != self.looks;
        entry.used = asked;
        (entry.facts, entry.askers(asked))
    }

    /// Takes in what may have changed up to `tip`, as it was known at `now`; returns the keys to read.
    fn look(&mut self, changed: &Changed, tip: &BlockId, now: Instant) -> Vec<u64> {
        self.looks += 1;
        self.seen = match (changed, self.seen) {
            (Changed::Keys(_), Some((_, all))) => Some((tip.hash, all)),
            _ => Some((tip.hash, tip.number)),
        };
        self.entries.retain(|_, entry| now.saturating_duration_since(entry.used) < UNUSED);
        for (key_id, entry) in &mut self.entries {
            entry.stale |= !entry.facts.has_events
                || match changed {
                    Changed::Keys(keys) => keys.contains(key_id),
                    Changed::All => true,
                };
            if !entry.stale {
                entry.read = now;
            }
        }
        self.entries.iter().filter(|(_, entry)| entry.stale).map(|(key_id, _)| *key_id).collect()
    }
}

impl Entry {
    fn learn(&mut self, facts: DutyFacts, current: Option<DutyAssignment>, now: Instant) {
        if let (Some(old), Some(new)) = (self.current, current)
            && old.number == new.number
            && old.duty_key != new.duty_key
        {
            self.previous = Some((old.duty_key, now + OVERLAP));
        } else if self.current.map(|old| old.number) != current.map(|new| new.number) {
            // Another provider: nothing of the one before is served any longer.
            self.previous = None;
        }
        (self.facts, self.current, self.read, self.stale) = (facts, current, now, false);
    }

    fn is_believed(&self, now: Instant) -> bool {
        now.duration_since(self.read) < LASTS
    }

    fn askers(&self, now: Instant) -> Askers {
        let previous = self.previous.filter(|(_, until)| now < *until).map(|(duty_key, _)| duty_key);
        Askers { current: self.current, previous }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stkr_core::Threshold;
    use stkr_core::testing::TrustedDealer;

    fn entry(now: Instant) -> Entry {
        let dealt = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [3; 32]);
        let facts = DutyFacts { group_key: dealt.keys.group_key(), pays: None, has_events: true, is_dealt: false };
        Entry { facts, current: assignment(1, 1), previous: None, read: now, used: now, stale: false }
    }

    fn assignment(key: u8, number: u64) -> Option<DutyAssignment> {
        Some(DutyAssignment { duty_key: Address::repeat_byte(key), number })
    }

    #[test]
    fn a_replaced_duty_key_is_served_for_the_overlap_within_its_assignment_only() {
        let now = Instant::now();
        let mut entry = entry(now);
        entry.learn(entry.facts, assignment(2, 1), now);
        let first = Some(Address::repeat_byte(1));
        assert_eq!(entry.askers(now), Askers { current: assignment(2, 1), previous: first });
        // Read again with every block: that prolongs nothing.
        entry.learn(entry.facts, assignment(2, 1), now + OVERLAP / 2);
        assert_eq!(entry.askers(now + OVERLAP / 2).previous, first);
        assert_eq!(entry.askers(now + OVERLAP).previous, None);
        entry.learn(entry.facts, assignment(3, 2), now + OVERLAP / 2);
        assert_eq!(entry.askers(now + OVERLAP / 2).previous, None, "the key went to another provider");
        entry.learn(entry.facts, None, now);
        assert_eq!(entry.askers(now), Askers { current: None, previous: None });
    }

    #[test]
    fn what_could_not_be_read_again_for_a_while_is_no_longer_believed() {
        let now = Instant::now();
        let mut entry = entry(now);
        assert!(entry.is_believed(now + LASTS - Duration::from_millis(1)));
        assert!(!entry.is_believed(now + LASTS));
        entry.used = now + LASTS;
        assert!(!entry.is_believed(now + LASTS), "requests alone keep nothing alive");
        entry.learn(entry.facts, entry.current, now + LASTS);
        assert!(entry.is_believed(now + LASTS));
    }

    fn tip(number: u64) -> BlockId {
        let hash = |number: u64| B256::left_padding_from(&number.to_be_bytes());
        BlockId { number, hash: hash(number), parent: hash(number.saturating_sub(1)), timestamp: 0 }
    }

    fn known(keys: impl IntoIterator<Item = u64>, now: Instant) -> Known {
        Known { entries: keys.into_iter().map(|key| (key, entry(now))).collect(), ..Known::default() }
    }

    #[test]
    fn what_may_have_changed_is_read_again_and_the_rest_is_as_new_as_the_block() {
        let now = Instant::now();
        let later = now + LASTS;
        let mut known = known(1..=3, now);
        known.entries.get_mut(&3).unwrap().facts.has_events = false;
        let mut keys = known.look(&Changed::Keys([2, 7].into()), &tip(5), later);
        keys.sort_unstable();
        assert_eq!(keys, [2, 3], "the one with an event, and the one whose changes show in no event");
        assert!(known.entries[&1].is_believed(later) && !known.entries[&2].is_believed(later));
        // As long as it could not be read it stays to be read.
        assert_eq!(known.look(&Changed::Keys([].into()), &tip(6), later).len(), 2);
        known.entries.get_mut(&2).unwrap().learn(entry(now).facts, assignment(2, 1), later);
        assert_eq!(known.look(&Changed::Keys([].into()), &tip(7), later), [3]);
        assert_eq!(known.look(&Changed::All, &tip(8), later).len(), 3);
        assert_eq!(known.seen, Some((tip(8).hash, 8)));
    }

    #[test]
    fn an_answer_that_was_overtaken_by_a_look_is_read_again() {
        let now = Instant::now();
        let mut known = known([], now);
        let facts = entry(now).facts;
        let asked = (now, known.looks);
        // The event came, and went by an entry that was not there yet.
        assert!(known.look(&Changed::Keys([4].into()), &tip(5), now).is_empty());
        known.insert(4, facts, assignment(1, 1), asked);
        assert_eq!(known.look(&Changed::Keys([].into()), &tip(6), now), [4]);
        let asked = (now, known.looks);
        known.insert(5, facts, assignment(1, 1), asked);
        known.entries.get_mut(&4).unwrap().learn(facts, assignment(1, 1), now);
        assert!(known.look(&Changed::Keys([].into()), &tip(7), now).is_empty());
    }
}
