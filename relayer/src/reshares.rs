//! Reshares as the chain shows them: which committees a key has had after its first, the one that is in the making, and what there
//! is to do about either.
//!
//! ```text
//! a member lost ---> request --(seed block)--> draw --> carry, finalise --(handover, evidence window)--> free the seats left behind
//!                                   ^           |
//!                                   +- restart -+ deadline passed, or the seed block out of reach
//! ```
//!
//! Like the rest of the plan nothing is remembered here: a step is named for as long as the chain shows that it is needed, so
//! crashes, reorgs and other relayers need no rules of their own. Each committee epoch is asked for once, whatever the cause: from
//! the request on the chain knows of the reshare, and who is lost meanwhile loses the seat at the next restart or by the next reshare.

pub mod carry;

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{B256, Bytes, keccak256};
use alloy::sol_types::SolValue as _;
use stkr_chain::bindings::Resharing;
use stkr_chain::types::ServerStatus;
use stkr_protocol::reshare::ReshareId;

use crate::plan::{Action, Clock, HISTORY_WINDOW};
use crate::view::{KeyPhase, LiveKey, View};

/// Committees of a key beside its first, the next in the making, and votes. Of a key that was never reshared all of it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reshares {
    /// The first committee, once there is another: its leaves are shown to free seats even when the key has ended.
    pub first: Option<LiveKey>,
    /// Committees by committee epoch, from 1 on.
    pub later: BTreeMap<u32, LaterCommittee>,
    /// The committee that is being made.
    pub next: Option<Next>,
    /// Unix time (seconds) until which a vote against a server holds.
    pub silent_until: BTreeMap<u32, u64>,
}

/// A committee that a key was reshared to: what `Reshared` said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaterCommittee {
    /// Shares that sign.
    pub threshold: u8,
    /// Members, share keys and the unchanged group key.
    pub live: LiveKey,
    /// Unix time (seconds) from which it signs: from the first beacon epoch that starts then.
    pub handover: u64,
    /// Whether the seats of those that it left behind are free again.
    pub past_seats_freed: bool,
}

/// A committee in the making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// Key, its committee epoch, and the attempt.
    pub id: ReshareId,
    /// Shares that will sign.
    pub threshold: u8,
    /// Seats and dealers, as the chain committed to them.
    pub draft: Resharing::Draft,
    /// Where it stands.
    pub stage: Stage,
}

impl Next {
    /// What the chain commits to: keccak256(abi.encode(draft)).
    #[must_use]
    pub fn commitment(&self) -> B256 {
        keccak256(self.draft.abi_encode())
    }
}

/// Where a reshare stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits for its seed block and somebody to draw.
    Requested {
        /// Block whose PREVRANDAO is the seed.
        seed_block: u64,
        /// Snapshot of the active set: packed big-endian uint32 ids.
        active_set: Bytes,
    },
    /// Dealers deal to members.
    Drawn {
        /// Unix time (seconds) until which it may be finalised.
        deadline: u64,
        /// Unix time (seconds) of the handover, if it is.
        handover: u64,
        /// Block of the draw.
        begun_in: u64,
    },
}

impl Stage {
    /// One word for people.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Requested { .. } => "requested",
            Self::Drawn { .. } => "drawn",
        }
    }
}

/// One event of `IResharing` about one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReshareFact {
    /// `ReshareRequested` and `ReshareDrawn`. Of what the draw leaves as it was there is nothing in its event.
    Moved {
        /// Which attempt.
        id: ReshareId,
        /// t' where the event names it.
        threshold: Option<u8>,
        /// Seats and dealers.
        draft: Resharing::Draft,
        /// Where it stands now.
        stage: Stage,
    },
    /// `Reshared`.
    Made {
        /// Which attempt.
        id: ReshareId,
        /// Members and points.
        live: LiveKey,
        /// Unix time (seconds).
        handover: u64,
    },
    /// `ReshareCancelled`.
    Cancelled,
    /// `SilenceVoted`.
    SilenceVoted {
        /// Who is silent.
        server: u32,
        /// Unix time (seconds) until which the vote holds.
        until: u64,
    },
    /// `PastSeatsFreed`.
    PastSeatsFreed {
        /// Committee epoch that left them behind.
        committee_epoch: u32,
    },
}

impl Reshares {
    /// Folds one event in. `first` is the key's first committee.
    pub fn apply(&mut self, first: Option<LiveKey>, fact: ReshareFact) {
        match fact {
            ReshareFact::Moved { id, threshold, draft, stage } => {
                let known = self.next.as_ref().map(|next| next.threshold);
                // A draw without its request comes from a log that started too late.
                let Some(threshold) = threshold.or(known) else { return };
                self.next = Some(Next { id, threshold, draft, stage });
            }
            ReshareFact::Made { id, live, handover } => {
                let Some(next) = self.next.take() else { return };
                self.first = self.first.take().or(first);
                let made = LaterCommittee { threshold: next.threshold, live, handover, past_seats_freed: false };
                self.later.insert(id.committee_epoch, made);
            }
            ReshareFact::Cancelled => self.next = None,
            ReshareFact::SilenceVoted { server, until } => drop(self.silent_until.insert(server, until)),
            ReshareFact::PastSeatsFreed { committee_epoch } => {
                if let Some(made) = self.later.get_mut(&committee_epoch) {
                    made.past_seats_freed = true;
                }
            }
        }
    }

    /// Servers that hold a seat of the key beside its first committee: members of later ones, unless their seats were freed, and of the
    /// one in the making.
    pub fn seats(&self) -> impl Iterator<Item = u32> {
        let freed = self.later.iter().rev().find(|(_, made)| made.past_seats_freed).map_or(0, |(epoch, _)| *epoch);
        let later = self.later.range(freed..).flat_map(|(_, made)| made.live.committee.iter());
        let next = self.next.iter().flat_map(|next| next.draft.seats.iter());
        later.chain(next).copied().filter(|id| *id != 0)
    }
}

/// A committee of a key.
#[derive(Clone, Copy, Debug)]
pub struct OfKey<'a> {
    /// Committee epoch, from 0.
    pub epoch: u32,
    /// Shares that sign.
    pub threshold: u8,
    /// Members, share keys and group key.
    pub live: &'a LiveKey,
    /// Unix time (seconds) of its handover; 0 of the first.
    pub handover: u64,
}

impl OfKey<'_> {
    /// What the contract takes for it.
    #[must_use]
    pub fn calldata(&self) -> Resharing::Committee {
        let LiveKey { committee, signers, points, .. } = self.live;
        Resharing::Committee { servers: committee.clone(), signers: signers.clone(), points: points.clone() }
    }
}

impl View {
    /// Committee `epoch` of a key that is or was Live.
    #[must_use]
    pub fn committee(&self, key_id: u64, epoch: u32) -> Option<OfKey<'_>> {
        let (key, reshares) = (self.keys.get(&key_id)?, self.reshares.get(&key_id));
        if epoch == 0 {
            let first = reshares.and_then(|it| it.first.as_ref()).or_else(|| key.phase.first_committee())?;
            return Some(OfKey { epoch, threshold: key.threshold, live: first, handover: 0 });
        }
        let made = reshares?.later.get(&epoch)?;
        Some(OfKey { epoch, threshold: made.threshold, live: &made.live, handover: made.handover })
    }

    /// The newest committee of a key that is or was Live: what is reshared next, though it may not sign yet.
    #[must_use]
    pub fn newest_committee(&self, key_id: u64) -> Option<OfKey<'_>> {
        let last = self.reshares.get(&key_id).and_then(|it| it.later.last_key_value()).map_or(0, |(epoch, _)| *epoch);
        self.committee(key_id, last)
    }

    /// The committee whose turn it is at `time` (unix seconds), as `IResharing.servingEpoch` says: the newest from its handover on,
    /// until then the one before it. Its servers sign from the epoch that begins next.
    #[must_use]
    pub fn serving_committee(&self, key_id: u64, time: u64) -> Option<OfKey<'_>> {
        let newest = self.newest_committee(key_id)?;
        if time >= newest.handover { Some(newest) } else { self.committee(key_id, newest.epoch.checked_sub(1)?) }
    }

    /// Members of the key's newest committee that lost their seat by the rules of the contract: not Active, locked out, or voted silent
    /// at `time` (unix seconds).
    #[must_use]
    pub fn lost_members(&self, key_id: u64, time: u64) -> Vec<(u32, &'static str)> {
        let newest = self.newest_committee(key_id);
        let members = newest.map(|it| it.live.committee.as_slice()).unwrap_or_default();
        members.iter().filter_map(|id| Some((*id, self.lost(key_id, *id, time)?))).collect()
    }

    /// Why a server has no seat of the key by the rules of the contract, if it has none.
    #[must_use]
    pub fn lost(&self, key_id: u64, server: u32, time: u64) -> Option<&'static str> {
        let voted = self.reshares.get(&key_id).and_then(|it| it.silent_until.get(&server));
        match self.servers.get(&server) {
            Some(it) if it.locked_out => Some("is locked out"),
            Some(it) if it.status == ServerStatus::Leaving => Some("is leaving"),
            Some(it) if it.status != ServerStatus::Active => Some("is not Active"),
            Some(_) if voted.is_some_and(|until| time <= *until) => Some("was voted silent"),
            Some(_) => None,
            // Nobody announced it: a log that started too late decides nothing.
            None => None,
        }
    }
}

/// What the operator of this relayer wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether to ask for a reshare when a member is lost.
    pub request: bool,
    /// Whether to ask for one, too, when nobody is and the shares are [`REFRESH_AFTER`] old.
    pub refresh: bool,
}

/// Seconds after which anybody may have the shares of a committee refreshed: `IResharing.REFRESH_AFTER`.
const REFRESH_AFTER: u64 = 90 * 24 * 3600;

/// Every step that reshares ask for now.
#[must_use]
pub fn plan(view: &View, clock: &Clock, policy: Policy) -> Vec<Action> {
    let keys = view.keys.iter();
    keys.flat_map(|(key_id, key)| match &key.phase {
        KeyPhase::Live(_) if !key.is_dealt() => plan_live(view, *key_id, clock, policy),
        KeyPhase::Retired { .. } | KeyPhase::Ended { .. } => plan_ended(view, *key_id, clock),
        _ => Vec::new(),
    })
    .collect()
}

fn plan_live(view: &View, key_id: u64, clock: &Clock, policy: Policy) -> Vec<Action> {
    let next = view.reshares.get(&key_id).and_then(|it| it.next.as_ref());
    let step = match next {
        Some(next) => plan_next(view, next, clock),
        None => plan_request(view, key_id, clock, policy),
    };
    step.into_iter().chain(plan_past_seats(view, key_id, clock)).collect()
}

fn plan_request(view: &View, key_id: u64, clock: &Clock, policy: Policy) -> Option<Action> {
    let newest = view.newest_committee(key_id)?;
    let since = if newest.epoch == 0 { *view.live_since.get(&key_id)? } else { newest.handover };
    let old = policy.refresh && clock.timestamp >= since.saturating_add(REFRESH_AFTER);
    let lost = policy.request && !view.lost_members(key_id, clock.timestamp).is_empty();
    // One handover at a time.
    if clock.timestamp < newest.handover || !(lost || old) {
        return None;
    }
    let members = u8::try_from(newest.live.committee.len()).ok()?;
    let id = ReshareId { key_id, committee_epoch: newest.epoch.checked_add(1)?, attempt: 0 };
    Some(Action::RequestReshare { id, serving: newest.calldata(), threshold: newest.threshold, members })
}

fn plan_next(view: &View, next: &Next, clock: &Clock) -> Option<Action> {
    let (id, draft) = (next.id, next.draft.clone());
    let restart = |mark| {
        let serving = view.newest_committee(id.key_id)?.calldata();
        Some(Action::RestartReshare { id, mark, serving, draft: draft.clone() })
    };
    match &next.stage {
        // As with a key's first draw: nodes estimate on the head, where the contract says that the seed is still to come.
        Stage::Requested { seed_block, .. } if clock.head <= *seed_block => None,
        Stage::Requested { seed_block, .. }
            if clock.head.saturating_add(1) > seed_block.saturating_add(HISTORY_WINDOW) =>
        {
            restart(*seed_block)
        }
        Stage::Requested { seed_block, active_set } => {
            let (seed_block, active_set) = (*seed_block, active_set.clone());
            Some(Action::DrawReshare { id, seed_block, active_set, draft })
        }
        Stage::Drawn { deadline, .. } if clock.timestamp <= *deadline => {
            Some(Action::CarryReshare { next: Box::new(next.clone()) })
        }
        Stage::Drawn { deadline, .. } => restart(*deadline),
    }
}

fn plan_ended(view: &View, key_id: u64, clock: &Clock) -> Vec<Action> {
    let next = view.reshares.get(&key_id).and_then(|it| it.next.as_ref());
    let cancel = next.map(|next| Action::CancelReshare { id: next.id, draft: next.draft.clone() });
    cancel.into_iter().chain(plan_past_seats(view, key_id, clock)).collect()
}

/// Seats that a committee left behind come free an evidence window after its handover. Where nobody was left behind there is
/// nothing to free, and a transaction would be a waste.
fn plan_past_seats(view: &View, key_id: u64, clock: &Clock) -> Vec<Action> {
    let later = view.reshares.get(&key_id).into_iter().flat_map(|it| &it.later);
    let due = later.filter(|(_, made)| {
        !made.past_seats_freed && clock.timestamp >= made.handover.saturating_add(clock.evidence_window)
    });
    due.filter_map(|(epoch, _)| {
        let (past, next) = (view.committee(key_id, epoch.checked_sub(1)?)?, view.committee(key_id, *epoch)?);
        let stays: BTreeSet<&u32> = next.live.committee.iter().collect();
        let left_behind = past.live.committee.iter().any(|id| !stays.contains(id));
        let (past, next) = (past.calldata(), next.calldata());
        left_behind.then_some(Action::FreePastSeats { key_id, committee_epoch: *epoch, past, next })
    })
    .collect()
}

#[cfg(test)]
mod tests;
