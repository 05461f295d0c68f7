//! Who may ask for duties of a key: read from the chain ahead of the requests, so that a request waits for no endpoint.
//!
//! The first request for a key reads what the chain says of it. From then on [`Assignments::refresh`] reads its assignment again
//! with every new block, until nobody has asked for a while. An entry that could not be refreshed for [`LASTS`] is no longer
//! believed: a provider that was replaced must not go on because this server's endpoints are down.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use alloy::primitives::Address;
use futures::StreamExt as _;
use stkr_chain::DutyAssignment;
use stkr_protocol::sign::Refusal;

use crate::chain::ChainView;
use crate::duty::{Askers, DutyFacts};

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

#[derive(Clone, Copy, Debug)]
struct Entry {
    facts: DutyFacts,
    current: Option<DutyAssignment>,
    previous: Option<(Address, Instant)>,
    read: Instant,
    used: Instant,
}

/// What is known of the keys that are asked for; at most one entry per share of this server.
#[derive(Debug, Default)]
pub struct Assignments(Mutex<HashMap<u64, Entry>>);

impl Assignments {
    /// What the chain said of a key at a block of at most [`LASTS`] ago, if that is known here.
    pub fn known(&self, key_id: u64) -> Option<(DutyFacts, Askers)> {
        let now = Instant::now();
        let mut entries = self.lock();
        let entry = entries.get_mut(&key_id).filter(|entry| entry.is_believed(now))?;
        entry.used = now;
        Some((entry.facts, entry.askers(now)))
    }

    /// Asks the chain, and remembers the answer.
    ///
    /// # Errors
    /// The refusal to answer with if it cannot be known, or if this server has no seat.
    pub async fn read(&self, key_id: u64, chain: &ChainView, signer: Address) -> Result<(DutyFacts, Askers), Refusal> {
        let now = Instant::now();
        let facts = chain.duty_facts(key_id, signer).await?;
        let current = chain.duty_assignment(key_id).await?;
        let mut entries = self.lock();
        let entry = entries.entry(key_id).or_insert(Entry { facts, current, previous: None, read: now, used: now });
        entry.learn(facts, current, now);
        entry.used = now;
        Ok((entry.facts, entry.askers(now)))
    }

    /// Reads the assignment of every key in use again. What cannot be read keeps its age.
    pub async fn refresh(&self, chain: &ChainView) {
        let keys: Vec<u64> = {
            let mut entries = self.lock();
            entries.retain(|_, entry| entry.used.elapsed() < UNUSED);
            entries.keys().copied().collect()
        };
        let reads =
            futures::stream::iter(keys).map(|key_id| async move { (key_id, chain.duty_assignment(key_id).await) });
        let mut reads = reads.buffer_unordered(PARALLEL_READS);
        while let Some((key_id, read)) = reads.next().await {
            if let (Ok(current), Some(entry)) = (read, self.lock().get_mut(&key_id)) {
                entry.learn(entry.facts, current, Instant::now());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        (self.facts, self.current, self.read) = (facts, current, now);
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
    use stkr_core::testing::TrustedDealer;
    use stkr_core::{ShareIndex, Threshold};

    fn entry(now: Instant) -> Entry {
        let dealt = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [3; 32]);
        let index = ShareIndex::new(2).unwrap();
        let facts = DutyFacts {
            group_key: dealt.keys.group_key(),
            seat: (index, *dealt.keys.share_key(index).unwrap()),
            pays: None,
        };
        Entry { facts, current: assignment(1, 1), previous: None, read: now, used: now }
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
}
