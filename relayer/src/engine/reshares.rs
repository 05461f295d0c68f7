//! Reshares as the engine deals with them: what it carries, finalises and tells people.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, U256};
use stkr_chain::bindings::Resharing;
use stkr_chain::intents::Call;
use stkr_core::{ShareIndex, Threshold};
use stkr_protocol::ceremony::MemberId;
use stkr_protocol::reshare::Plan;

use super::{Engine, Origin, Running};
use crate::plan::Clock;
use crate::reshares::carry::{Carrier, Party};
use crate::reshares::{Next, Stage};
use crate::status::ReshareStatus;
use crate::view::{KeyPhase, View};
use crate::workers::{self, ReshareState, Worker};

impl Engine {
    /// Says for which member a reshare is asked for.
    pub(super) fn tell_cause(&mut self, key_id: u64) {
        let view = &self.picture.view;
        let spare = if view.is_without_spare(key_id) { ", and no share is left to lose" } else { "" };
        for (server, why) in view.lost_members(key_id, self.timestamp) {
            self.problems.push(format!(
                "server {server}, a member of key {key_id}, {why}{spare}: a reshare is asked for, which gives its seat to another server"
            ));
        }
    }

    /// Sees to it that the reshare is carried; its `finalise` once all new members acknowledged.
    pub(super) async fn carry_reshare(&mut self, step: String, next: &Next) -> Option<Call> {
        let Stage::Drawn { deadline, begun_in, .. } = next.stage else { return None };
        let of = self.origin_of_reshare(next);
        if self.reshares.get(&step).is_none_or(|running| running.of != of) {
            self.reshares.remove(&step);
            let begun = self.time_of(begun_in).await;
            match self.start_reshare(next, deadline, begun) {
                Ok(worker) => {
                    let (key_id, committee_epoch, attempt) = (next.id.key_id, next.id.committee_epoch, next.id.attempt);
                    tracing::info!(key_id, committee_epoch, attempt, "carrying a reshare");
                    self.reshares.insert(step.clone(), Running { of, told: 0, worker });
                }
                Err(reason) => {
                    self.problems.push(format!("the reshare of {} cannot be carried: {reason}", next.id));
                    return None;
                }
            }
        }
        self.tell_lost_seats(next);
        let state = self.reshares.get(&step)?.worker.state();
        let transcript = state.transcript.as_ref()?;
        let call = Resharing::finaliseCall {
            keyId: U256::from(next.id.key_id),
            draft: next.draft.clone(),
            points: transcript.points().into(),
            dealingsDigest: transcript.dealings_digest(),
            acknowledgements: transcript.acknowledgements().into(),
        };
        Some(Call::new(self.parts.deployment.resharing(), &call))
    }

    /// Whoever takes part with its address, its signer, and the draft: another draw of the same attempt is another reshare.
    fn origin_of_reshare(&self, next: &Next) -> Origin {
        let view = &self.picture.view;
        let old = view.newest_committee(next.id.key_id).map(|old| old.live.committee.clone()).unwrap_or_default();
        let mut committee = next.draft.seats.clone();
        committee.push(u32::from(next.draft.dealers));
        committee.extend(old);
        let signers = next.draft.seats.iter().map(|id| view.servers.get(id).map_or(Address::ZERO, |it| it.signer));
        Origin {
            committee_epoch: next.id.committee_epoch,
            peers: self.peers(&committee),
            signers: signers.collect(),
            committee,
        }
    }

    fn start_reshare(&self, next: &Next, deadline: u64, begun: Option<u64>) -> Result<Worker<ReshareState>, String> {
        let plan = self.plan_of(next, deadline)?;
        let parties = self.parties(&plan);
        let carrier =
            Carrier::open(plan, next.commitment(), parties, self.parts.store.clone()).map_err(|it| it.to_string())?;
        let status = status_of(&self.picture.view, next, begun);
        Ok(workers::carry_reshare(carrier.begun_at(begun), status, self.parts.pause, self.wake.clone()))
    }

    fn plan_of(&self, next: &Next, deadline: u64) -> Result<Plan, String> {
        let view = &self.picture.view;
        let old = self.committee(view.newest_committee(next.id.key_id).ok_or("its key has no committee")?)?;
        let dealers = dealers(next.draft.dealers);
        let members = next.draft.seats.iter();
        let members: Option<Vec<MemberId>> =
            members.map(|id| Some(MemberId { server_id: *id, signer: view.servers.get(id)?.signer })).collect();
        let members = members.ok_or("a member of the new committee is no server that is known")?;
        let n = u8::try_from(members.len()).map_err(|_| "its committee is too large")?;
        let threshold = Threshold::new(next.threshold, n).map_err(|error| error.to_string())?;
        Plan::new(next.id, old, dealers, (threshold, members), deadline).map_err(|error| error.to_string())
    }

    /// Every server with a part, once.
    fn parties(&self, plan: &Plan) -> Vec<Party> {
        let members = plan.old().members().iter().chain(plan.members());
        let ids: BTreeSet<u32> = members.map(|member| member.server_id).collect();
        let party = |server_id| Party {
            server_id,
            dealer: plan.dealer_of(server_id),
            member: plan.member_of(server_id),
            client: self.client(server_id),
            online: self.picture.view.servers.get(&server_id).is_none_or(|server| server.online),
        };
        let parties = ids.into_iter().map(party);
        parties.filter(|party| party.dealer.or(party.member).is_some()).collect()
    }

    /// Whoever lost its new seat since the draw keeps the reshare from being finalised.
    fn tell_lost_seats(&mut self, next: &Next) {
        let view = &self.picture.view;
        for (id, index) in next.draft.seats.iter().zip(1..) {
            if let Some(why) = view.lost(next.id.key_id, *id, self.timestamp) {
                let key = next.id.key_id;
                self.problems.push(format!(
                    "server {id} (new member {index}) of key {key} {why}: the reshare cannot be finalised and starts again after its deadline"
                ));
            }
        }
    }

    /// Reshares, with what those who are waited for say of themselves.
    pub(super) fn reshare_lines(&self, clock: &Clock) -> Vec<ReshareStatus> {
        let carried: BTreeMap<(String, String, String), ReshareStatus> = self
            .reshares
            .values()
            .map(|running| running.worker.state().status.clone())
            .map(|it| ((it.key_id.clone(), it.committee_epoch.clone(), it.attempt.clone()), it))
            .collect();
        let view = &self.picture.view;
        let live = view
            .reshares
            .iter()
            .filter(|(id, _)| view.keys.get(id).is_some_and(|key| matches!(key.phase, KeyPhase::Live(_))));
        let pending = live.filter_map(|(_, it)| it.next.as_ref());
        let mut lines: Vec<ReshareStatus> = pending
            .map(|next| {
                let mut line = status_of(view, next, None);
                let of = (line.key_id.clone(), line.committee_epoch.clone(), line.attempt.clone());
                match (carried.get(&of), &next.stage) {
                    (Some(known), _) => return known.clone(),
                    (None, Stage::Drawn { deadline, .. }) if clock.timestamp > *deadline => "expired",
                    (None, Stage::Drawn { .. }) => "waiting",
                    (None, Stage::Requested { .. }) => "requested",
                }
                .clone_into(&mut line.state);
                line
            })
            .collect();
        let seen = self.probes.seen();
        for waited in lines.iter_mut().flat_map(|it| &mut it.rounds).flat_map(|it| &mut it.waiting_for) {
            let probe = waited.server_id.parse().ok().and_then(|id: u32| seen.get(&id));
            waited.unready = probe.map(|seen| seen.unready.clone()).unwrap_or_default();
        }
        lines
    }

    /// Failures and stalls are for people to look at.
    pub(super) fn tell_reshare_troubles(&mut self, lines: &[ReshareStatus]) {
        for line in lines {
            let name = format!(
                "the reshare of key {} to committee {}, attempt {}",
                line.key_id, line.committee_epoch, line.attempt
            );
            self.problems.extend(line.failure.iter().map(|failure| format!("{name} failed: {failure}")));
            self.problems.extend(line.reported.iter().map(|report| format!("{name}: {report}")));
        }
    }
}

/// Indices of the bits that are set, from 1.
fn dealers(mask: u16) -> Vec<ShareIndex> {
    let indices = (1..=16_u8).filter(|index| mask >> (index - 1) & 1 == 1);
    indices.filter_map(|index| ShareIndex::new(index).ok()).collect()
}

/// What the chain says of a reshare.
fn status_of(view: &View, next: &Next, begun: Option<u64>) -> ReshareStatus {
    let mut status = ReshareStatus {
        key_id: next.id.key_id.to_string(),
        committee_epoch: next.id.committee_epoch.to_string(),
        attempt: next.id.attempt.to_string(),
        state: "waiting".to_owned(),
        threshold: next.threshold.to_string(),
        seats: next.draft.seats.iter().map(ToString::to_string).collect(),
        begun: begun.map(|time| time.to_string()),
        ..ReshareStatus::default()
    };
    match &next.stage {
        Stage::Requested { seed_block, .. } => status.seed_block = Some(seed_block.to_string()),
        Stage::Drawn { deadline, handover, .. } => {
            let old = view.newest_committee(next.id.key_id);
            let old = old.map(|it| it.live.committee.as_slice()).unwrap_or_default();
            let dealing = dealers(next.draft.dealers);
            let ids = dealing.iter().filter_map(|index| old.get(index.position()));
            status.dealers = ids.map(ToString::to_string).collect();
            (status.deadline, status.handover) = (Some(deadline.to_string()), Some(handover.to_string()));
        }
    }
    status
}
