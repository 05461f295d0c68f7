//! The present, as the beacon chain counts it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use stkr_duties::{ForkSchedule, Slot};
use stkr_protection::Now;

/// How far ahead another clock may be: `MAXIMUM_GOSSIP_CLOCK_DISPARITY` of the consensus specs.
const DISPARITY: Duration = Duration::from_millis(500);

/// Unix time, seconds.
#[must_use]
pub fn unix_seconds() -> u64 {
    since_1970().as_secs()
}

/// Latest slot and epoch for which duties are accepted; slot 0 before genesis, when a client may ask for it already.
#[must_use]
pub fn now(schedule: &ForkSchedule) -> Now {
    let slot = after_genesis(schedule).unwrap_or(Slot(0));
    Now { slot: slot.0, epoch: schedule.epoch_at(slot).0 }
}

/// The same; `None` before genesis.
#[must_use]
pub fn since_genesis(schedule: &ForkSchedule) -> Option<Now> {
    after_genesis(schedule).map(|_| now(schedule))
}

fn after_genesis(schedule: &ForkSchedule) -> Option<Slot> {
    schedule.slot_at_time(since_1970().saturating_add(DISPARITY).as_secs())
}

fn since_1970() -> Duration {
    // A clock before 1970 is before every genesis.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
