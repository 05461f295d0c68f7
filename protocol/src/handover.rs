//! Which committee of a key signs what while the key goes from one to the next, and when a share is erased.
//!
//! ```text
//!   draw            deadline          handover   H (an epoch begins)
//!    |--- window ------|-- 3 epochs ------|--|------------------------------>
//!    |  finalise: in here or never        |  |
//!    old committee: nothing for H or later,  |  old: nothing for H or later
//!    until finalised blocks past the deadline|  new: nothing before H, no source before H - 2,
//!    show that there is no new committee     |       and only if finalised blocks show it
//! ```
//!
//! # Why it is safe
//! Whatever the old committee signed has a target below H, and so a source of at most H - 2; whatever the new one signs has a target
//! of H or later and a source of at least H - 2. No two of them have one target, and neither surrounds the other. So the
//! new members need not know what the old ones signed: a watermark on anybody's word would be a number with which one liar
//! stops the key for years, or has it slashed.
//!
//! H is named by the draw. Were it counted from the transaction that finalises, whoever withholds it could have it seen by some old
//! members and not by others, and these would sign on beside the new committee.
//!
//! # What is read
//! Only finalised blocks, so that nobody decides by what a reorganisation takes back. Finalised blocks lag: a draw in blocks that are
//! not final yet would be unseen. But a draw is a whole ceremony window and three epochs before its handover, so a view
//! answers for all duties up to that long after its head, and for none beyond: if finality is lost for longer, nobody signs.

use stkr_duties::{Duty, ForkSchedule};
use thiserror::Error;

#[cfg(test)]
mod tests;

/// Seconds from the deadline of a reshare to its handover: `IResharing.HANDOVER_DELAY`, three epochs.
pub const HANDOVER_DELAY: u64 = 1_152;
/// Seconds for which an old committee's shares are kept after finalised blocks have passed the handover.
pub const KEEP_PAST_SHARES: u64 = 7 * 24 * 3600;
/// Epochs before H in which the new committee's sources may lie: old targets end at H - 1, so their sources at H - 2.
const SOURCE_REACH: u64 = 2;

/// A committee that finalised blocks show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// Committee epoch: 0 is the key's first committee.
    pub committee_epoch: u32,
    /// The attempt that made it.
    pub attempt: u16,
    /// Unix time (seconds) of its handover; 0 of the first committee.
    pub handover: u64,
}

/// A reshare that is drawn and not finalised, as far as finalised blocks show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Unix time (seconds) until which it may be finalised.
    pub deadline: u64,
    /// Unix time (seconds) of its handover.
    pub handover: u64,
}

/// What finalised blocks show of a key's committees. All of it must be read at one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    head_time: u64,
    window: u64,
    terms: Vec<Term>,
    drawn: Option<Drawn>,
}

/// What no chain shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ViewError {
    /// The key has no committee.
    #[error("the key has no committee")]
    NoCommittee,
    /// Out of order.
    #[error("committee epoch {0} does not follow the one before it")]
    OutOfOrder(u32),
    /// Not three epochs between deadline and handover.
    #[error("a handover at {handover} is less than {HANDOVER_DELAY} s after the deadline at {deadline}")]
    NoDelay {
        /// Unix seconds.
        deadline: u64,
        /// Unix seconds.
        handover: u64,
    },
}

/// When a duty is: all epochs that it speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Of slot and target the earlier.
    earliest: u64,
    /// Of slot and target the later.
    latest: u64,
    /// Of a vote.
    source: Option<u64>,
}

impl Moment {
    /// When something is that is bound to no slot and no epoch, `now` being unix seconds: when the clock says.
    #[must_use]
    pub fn at_clock(schedule: &ForkSchedule, now: u64) -> Self {
        let epoch = schedule.slot_at_time(now).map_or(0, |slot| schedule.epoch_at(slot).0);
        Self { earliest: epoch, latest: epoch, source: None }
    }

    /// When `duty` is, `now` being unix seconds. What is not bound to a slot or an epoch (deposits, exits, registrations) is when
    /// the clock says.
    #[must_use]
    pub fn of(duty: &Duty, schedule: &ForkSchedule, now: u64) -> Self {
        let clock = Self::at_clock(schedule, now).latest;
        let epoch = |epoch| Self { earliest: epoch, latest: epoch, source: None };
        match duty {
            Duty::Attestation(vote) => {
                let (slot, target) = (schedule.epoch_at(vote.slot).0, vote.target.epoch.0);
                Self { earliest: slot.min(target), latest: slot.max(target), source: Some(vote.source.epoch.0) }
            }
            Duty::RandaoReveal(of) => epoch(of.0),
            // Its own epoch says when it may be processed, not when it is signed.
            Duty::VoluntaryExit(_) => epoch(clock),
            _ => epoch(duty.slot().map_or(clock, |slot| schedule.epoch_at(slot).0)),
        }
    }
}

/// Why no committee may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotServing {
    /// It is not known yet which committee serves.
    #[error(
        "a reshare of the key would hand over before epoch {epoch}; finalised blocks must pass its deadline (unix time {deadline}) \
         to show whether it was finalised, and are at {head_time}"
    )]
    Undecided {
        /// First epoch of the committee in the making.
        epoch: u64,
        /// Unix seconds.
        deadline: u64,
        /// Unix seconds.
        head_time: u64,
    },
    /// Nobody can tell from so old a view.
    #[error(
        "finalised blocks end at unix time {head_time}: a reshare that they do not show could hand over before epoch {epoch}"
    )]
    StaleView {
        /// Of the duty.
        epoch: u64,
        /// Unix seconds.
        head_time: u64,
    },
    /// Of a committee that nobody remembers.
    #[error("epoch {0} was before all committees that are known")]
    Forgotten(u64),
    /// Slot and target belong to two committees.
    #[error("the duty lies in two committees' terms: epoch {earliest} is before {handover}, epoch {latest} is not")]
    Straddles {
        /// Of slot and target the earlier.
        earliest: u64,
        /// Of slot and target the later.
        latest: u64,
        /// First epoch of the later committee.
        handover: u64,
    },
    /// The vote could surround one of the committee before.
    #[error(
        "source epoch {found} is before {needed}: the committee before may have signed what this vote surrounds; it is signed once \
         the chain has justified epoch {needed}"
    )]
    SourceTooOld {
        /// Of the vote.
        found: u64,
        /// H - 2.
        needed: u64,
    },
}

/// A share in a server's store, by how it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareOrigin {
    /// Committee epoch.
    pub committee_epoch: u32,
    /// Attempt.
    pub attempt: u16,
    /// Unix seconds until which that attempt could be finalised.
    pub deadline: u64,
}

impl View {
    /// The key's committees in order (older ones than the last two may be left out), and the reshare that is drawn, at the finalised
    /// block of time `head_time` (unix seconds). `window` is the shortest ceremony window, seconds, that a draw after that block
    /// can have: the registry's, or a lower one that governance has scheduled.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn new(head_time: u64, window: u64, terms: Vec<Term>, drawn: Option<Drawn>) -> Result<Self, ViewError> {
        if terms.is_empty() {
            return Err(ViewError::NoCommittee);
        }
        for (term, next) in terms.iter().zip(terms.iter().skip(1)) {
            let follows = term.committee_epoch.checked_add(1) == Some(next.committee_epoch);
            if !follows || next.handover <= term.handover {
                return Err(ViewError::OutOfOrder(next.committee_epoch));
            }
        }
        if let Some(Drawn { deadline, handover }) = drawn
            && handover < deadline.saturating_add(HANDOVER_DELAY)
        {
            return Err(ViewError::NoDelay { deadline, handover });
        }
        Ok(Self { head_time, window, terms, drawn })
    }

    /// Which committee epoch signs at `moment`.
    ///
    /// # Errors
    /// [`NotServing`]: nobody does, as far as this view shows.
    pub fn serving(&self, moment: Moment, schedule: &ForkSchedule) -> Result<u32, NotServing> {
        let Moment { earliest, latest, source } = moment;
        let begins = |handover| first_epoch_from(handover, schedule);
        let head_time = self.head_time;
        if let Some(Drawn { deadline, handover }) = self.drawn
            && begins(handover) <= latest
            && head_time <= deadline
        {
            return Err(NotServing::Undecided { epoch: begins(handover), deadline, head_time });
        }
        let unseen = head_time.saturating_add(self.window).saturating_add(HANDOVER_DELAY);
        if start_of(latest, schedule) >= unseen {
            return Err(NotServing::StaleView { epoch: latest, head_time });
        }
        let term = self.terms.iter().rfind(|term| begins(term.handover) <= latest);
        let term = term.ok_or(NotServing::Forgotten(latest))?;
        let handover = begins(term.handover);
        if earliest < handover {
            return Err(NotServing::Straddles { earliest, latest, handover });
        }
        let needed = handover.saturating_sub(SOURCE_REACH);
        match source {
            Some(found) if found < needed => Err(NotServing::SourceTooOld { found, needed }),
            _ => Ok(term.committee_epoch),
        }
    }

    /// Which committee epoch signs what is bound to no slot and no epoch at `now` (unix seconds), for who knows no beacon chain: as
    /// [`View::serving`], with the handover itself in the place of H. Nothing where that rule has nobody sign.
    #[must_use]
    pub fn serving_at(&self, now: u64) -> Option<u32> {
        let undecided = |it: Drawn| it.handover <= now && self.head_time <= it.deadline;
        let unseen = self.head_time.saturating_add(self.window).saturating_add(HANDOVER_DELAY);
        if self.drawn.is_some_and(undecided) || now >= unseen {
            return None;
        }
        self.terms.iter().rfind(|term| term.handover <= now).map(|term| term.committee_epoch)
    }

    /// Whether a share is to be erased: its attempt failed, or its committee handed over [`KEEP_PAST_SHARES`] ago.
    ///
    /// # Warning
    /// There is no way back. Ask with views of which two endpoints agree.
    #[must_use]
    pub fn is_to_be_erased(&self, share: ShareOrigin) -> bool {
        let epoch = share.committee_epoch;
        match self.terms.iter().find(|term| term.committee_epoch == epoch) {
            Some(term) if term.attempt != share.attempt => return true,
            None if self.terms.iter().all(|term| term.committee_epoch < epoch) => {
                return self.head_time > share.deadline;
            }
            _ => {}
        }
        let next = self.terms.iter().find(|term| term.committee_epoch > epoch);
        next.is_some_and(|next| self.head_time >= next.handover.saturating_add(KEEP_PAST_SHARES))
    }
}

/// The first epoch that begins at `time` (unix seconds) or later.
fn first_epoch_from(time: u64, schedule: &ForkSchedule) -> u64 {
    time.saturating_sub(schedule.genesis_time()).div_ceil(epoch_seconds(schedule))
}

/// Unix seconds at which an epoch begins.
fn start_of(epoch: u64, schedule: &ForkSchedule) -> u64 {
    schedule.genesis_time().saturating_add(epoch.saturating_mul(epoch_seconds(schedule)))
}

fn epoch_seconds(schedule: &ForkSchedule) -> u64 {
    schedule.seconds_per_slot().saturating_mul(schedule.preset().slots_per_epoch())
}
