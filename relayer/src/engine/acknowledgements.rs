//! Challenges to acknowledge a key, as the engine deals with them: what it answers, asks, and takes from the chain.

use std::collections::BTreeSet;

use alloy::primitives::U256;
use stkr_chain::ChainError;
use stkr_chain::acknowledgements::{self, Asked, Shown};
use stkr_chain::answers::Answer;
use stkr_chain::intents::Call;
use stkr_core::{ShareIndex, Threshold};
use stkr_protocol::ceremony::{Context, MemberId};
use stkr_protocol::evidence::Proof;

use super::{Engine, Running, SILENT_ROUNDS};
use crate::carry::{Carrier, Member, Reply};
use crate::challenges;
use crate::store::StoreError;
use crate::view::{KeyPhase, Told};
use crate::workers::{self, AcknowledgementState, Worker};

impl Engine {
    /// Who is missing in ceremonies that wait for nothing but acknowledgements.
    pub(super) fn unacknowledged_members(&self) -> BTreeSet<acknowledgements::Asked> {
        let mut silent = BTreeSet::new();
        for running in self.ceremonies.values() {
            let state = running.worker.state();
            let ceremony = (state.status.key_id.parse(), state.status.attempt.parse());
            if let ((Ok(key), Ok(attempt)), true) = (ceremony, state.rounds >= SILENT_ROUNDS) {
                silent.extend(state.unacknowledged.iter().map(|index| (key, attempt, index.get())));
            }
        }
        silent
    }

    pub(super) fn told_on_chain(&self, key_id: u64, attempt: u16) -> Option<&Told> {
        self.picture.view.told.get(&(key_id, attempt))
    }

    /// Whoever kept dealings from us had to show them to ask for an acknowledgement, and whoever gave that on the chain gave it to us.
    pub(super) fn give_what_the_chain_tells(
        &self,
        mut carrier: Carrier,
        (key_id, attempt): (u64, u16),
    ) -> Result<Carrier, StoreError> {
        if let Some(told) = self.told_on_chain(key_id, attempt) {
            carrier.give(told.dealings.iter().cloned())?;
            for (member, signature) in &told.acknowledgements {
                let Ok(member) = ShareIndex::new(*member) else { continue };
                carrier.give_acknowledgement(member, *signature)?;
            }
        }
        Ok(carrier)
    }

    /// Sees to it that the member gets all dealings; what it or anybody says to them as a transaction once it is there.
    pub(super) fn acknowledge(&mut self, step: String, asked: Asked, server_id: u32, deadline: u64) -> Option<Call> {
        let (key_id, attempt, index) = asked;
        let of = self.origin(0, &[server_id]);
        if self.acknowledgements.get(&step).is_none_or(|running| running.of != of) {
            self.acknowledgements.remove(&step);
            match self.start_acknowledging(asked, server_id) {
                Ok(worker) => {
                    tracing::info!(key_id, attempt, server_id, deadline, "answering a challenge to acknowledge a key");
                    self.acknowledgements.insert(step.clone(), Running { of, told: 0, worker });
                }
                Err(reason) => {
                    self.problems.push(format!(
                        "the challenge to server {server_id} (member {index}) of key {key_id}, attempt {attempt}, cannot be answered from here: {reason}"
                    ));
                    return None;
                }
            }
        }
        let state = self.acknowledgements.get(&step)?.worker.state();
        let trouble = state.trouble.clone();
        let reply = state.reply.clone();
        drop(state);
        // What others found out is an answer, too, once the member gives none.
        let reply = reply.or_else(|| trouble.as_ref().and_then(|_| self.known_fault(asked)));
        if let (Some(trouble), None) = (trouble, &reply) {
            self.problems.push(format!(
                "server {server_id} (member {index}) of key {key_id}, attempt {attempt}, has until unix time {deadline} to acknowledge, or it loses its bond: {trouble}"
            ));
        }
        let to = self.parts.deployment.acknowledgements();
        match reply.filter(|_| self.may_send(&step, server_id))? {
            Reply::Acknowledgement(signature) => Some(acknowledgements::answer(to, asked, &signature)),
            Reply::Fault(proof) => acknowledgements::refuse(to, index, self.committee_of(asked)?, &proof),
        }
    }

    /// Steps of questions to which there is a reply.
    pub(super) fn acknowledgements_in_hand(&self) -> impl Iterator<Item = String> + '_ {
        self.picture.view.acknowledgements.iter().filter_map(|(asked, it)| {
            let step = challenges::acknowledge_step(*asked, it.deadline);
            let state = self.acknowledgements.get(&step)?.worker.state();
            let (has_reply, is_stuck) = (state.reply.is_some(), state.trouble.is_some());
            drop(state);
            (has_reply || (is_stuck && self.known_fault(*asked).is_some())).then_some(step)
        })
    }

    fn committee_of(&self, (key_id, attempt, _): Asked) -> Option<&[u32]> {
        match &self.picture.view.keys.get(&key_id).filter(|key| key.attempt == attempt)?.phase {
            KeyPhase::Drawn(ceremony) => Some(&ceremony.committee),
            _ => None,
        }
    }

    /// Evidence that was found or handed in of somebody else who spoils this ceremony: a member's own fault is no excuse.
    fn known_fault(&self, asked: Asked) -> Option<Reply> {
        let committee = self.committee_of(asked)?;
        let of_ceremony = |proof: &Proof| proof.ceremony() == Some((asked.0, asked.1));
        let mut cases = self.cases.all().iter();
        let own = committee.get(usize::from(asked.2).checked_sub(1)?)?;
        let is_of_another = |id: &u32| id != own && committee.contains(id);
        let case = cases.find(|case| is_of_another(&case.server_id) && of_ceremony(&case.file.proof))?;
        Some(Reply::Fault(Box::new(case.file.proof.clone())))
    }

    fn start_acknowledging(&self, asked: Asked, server_id: u32) -> Result<Worker<AcknowledgementState>, String> {
        let (key_id, attempt, index) = asked;
        let it = self.picture.view.acknowledgements.get(&asked).ok_or("it is over")?;
        let threshold = self.picture.view.keys.get(&key_id).ok_or("its key is unknown")?.threshold;
        let committee = self.committee_of(asked).ok_or("its ceremony is over")?;
        let n = u8::try_from(committee.len()).map_err(|_| "its committee is too large")?;
        let threshold = Threshold::new(threshold, n).map_err(|error| error.to_string())?;
        // Signers as they were when the challenge was made: the contract looked, and a member may have changed its own since.
        let signers = it.dealings.iter().map(|dealing| dealing.recover(&self.domain()));
        let signers: Vec<_> = signers.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let members = committee.iter().zip(signers);
        let members = members.map(|(id, signer)| MemberId { server_id: *id, signer }).collect();
        let context = Context::new(self.domain(), key_id, attempt, threshold, members).map_err(|it| it.to_string())?;
        let index = ShareIndex::new(index).map_err(|error| error.to_string())?;
        let online = self.picture.view.servers.get(&server_id).is_none_or(|server| server.online);
        let seat = Member { index, server_id, client: self.client(server_id), online };
        let (store, court) = (self.parts.store.clone(), self.parts.deployment.court);
        let mut carrier = Carrier::open(context, vec![seat], store, court).map_err(|error| error.to_string())?;
        carrier.give(it.dealings.iter().cloned()).map_err(|error| error.to_string())?;
        Ok(workers::acknowledge(carrier, (index, it.acknowledgement), self.parts.pause, self.wake.clone()))
    }

    /// The challenge of a member that gives no acknowledgement, with all dealings of the bulletin.
    pub(super) async fn ask_to_acknowledge(&mut self, step: String, asked: Asked) -> Result<Option<Call>, ChainError> {
        let shown = match self.shown_to(asked) {
            Ok(shown) => shown,
            Err(reason) => {
                self.problems.push(format!("{step}: {reason}"));
                return Ok(None);
            }
        };
        let fee = match self.is_under_way(&step)? {
            true => U256::ZERO,
            false => self.fee_of(Answer::Acknowledgement).await?,
        };
        Ok(acknowledgements::challenge(self.parts.deployment.acknowledgements(), &shown, fee))
    }

    fn shown_to(&self, asked: Asked) -> Result<Shown, String> {
        let (key_id, attempt, index) = asked;
        let committee = self.committee_of(asked).ok_or("its ceremony is over")?.to_vec();
        let stored = self.parts.store.last_committee(key_id, attempt).map_err(|error| error.to_string())?;
        let stored = stored.ok_or("this relayer has no message of it")?;
        let messages = self.parts.store.messages(key_id, attempt, stored).map_err(|error| error.to_string())?;
        Shown::of(committee, &messages, index).ok_or_else(|| "this relayer lacks messages of it".to_owned())
    }
}
