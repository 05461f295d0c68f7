//! Taking part in reshares: as a dealer, as a new member, or as both.
//!
//! As in a [`ceremony`](crate::ceremony) no state lives in memory between calls: one call of `advance` rebuilds the participant from
//! the database, takes the messages, steps, stores, and answers. Committees, dealers and deadline come from finalised blocks alone
//! ([`KeyCommittees`]); a relayer only carries messages.

use alloy::primitives::{Address, B256, keccak256};
use stkr_chain::{DrawnReshare, KeyCommittees};
use stkr_core::keystore::{KeystoreError, StoreKey};
use stkr_core::reshare::{Outcome, RecipientSecrets};
use stkr_core::{RandomnessError, SecretShare};
use stkr_protocol::api::{Part, ReshareAdvanceResponse, ReshareFailureReport};
use stkr_protocol::ceremony::MemberId;
use stkr_protocol::collection::Committee;
use stkr_protocol::handover::ShareOrigin;
use stkr_protocol::reshare::{
    Accepted, Fault, Hands, Participant, Phase, Plan, PlanError, Rejected, ReshareId, ReshareMessage, Round, Sender,
    Step, StepError, Stored,
};

use crate::seal::{SealError, Sealer};
use crate::serving::Us;
use crate::signers::SignerKeys;
use crate::signing;
use crate::store::{ReshareRow, ReshareStep, ShareRow, Store, StoreError};

/// Why a reshare cannot go on now. What a *participant* did wrong is no error but part of the answer.
#[derive(Debug, thiserror::Error)]
pub enum ReshareError {
    /// The chain shows no such reshare.
    #[error("the chain shows no reshare of key {0} that is drawn")]
    NotDrawn(u64),
    /// It neither deals nor gets a share.
    #[error("this server has no part in {0}")]
    NoPart(ReshareId),
    /// A key as which the chain names this server there is not here.
    #[error("this server takes part in {id} as signer {signer}, whose key it does not have")]
    NoSignerKey {
        /// Which one.
        id: ReshareId,
        /// The signer.
        signer: Address,
    },
    /// The committees are none.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sealed one-time secrets.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The share keystore.
    #[error("the share cannot be stored: {0}")]
    Keystore(#[from] KeystoreError),
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    /// A stored message is not one of this attempt.
    #[error("the database mixes reshares: {0}")]
    Mixed(Rejected),
}

/// An attempt as finalised blocks fix it: read from them, or proven by them to who has no network.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The committee that hands over.
    pub old: &'a Committee,
    /// Merkle root of its share leaves.
    pub leaves_root: B256,
    /// Who deals to whom, until when.
    pub drawn: &'a DrawnReshare,
}

impl<'a> Attempt<'a> {
    fn of(shown: &'a KeyCommittees) -> Option<Self> {
        let (drawn, term) = (shown.drawn.as_ref()?, shown.terms.last()?);
        Some(Self { old: &term.committee, leaves_root: term.leaves_root, drawn })
    }
}

/// This server as a participant of reshares.
pub struct Reshares<'a> {
    /// Database.
    pub store: &'a Store,
    /// Sign messages: of a dealer the key that the leaf of its old share names, of a new member the one that it began with.
    pub signers: &'a SignerKeys,
    /// Seals one-time secrets.
    pub sealer: &'a Sealer,
    /// Seals shares.
    pub store_key: &'a StoreKey,
}

impl std::fmt::Debug for Reshares<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reshares").field("signers", &self.signers.us().signers).finish_non_exhaustive()
    }
}

impl Reshares<'_> {
    /// Takes `messages`, does all that can be done at `now` (unix seconds of the chain), and answers with every own message that
    /// may be shown.
    ///
    /// Calls for one attempt must not overlap; the caller holds a lock.
    ///
    /// # Errors
    /// [`ReshareError`]: nothing was said that is not stored; call again.
    pub fn advance(
        &self,
        shown: &KeyCommittees,
        messages: Vec<ReshareMessage>,
        now: u64,
    ) -> Result<ReshareAdvanceResponse, ReshareError> {
        let attempt = Attempt::of(shown).ok_or(ReshareError::NotDrawn(shown.key.id))?;
        self.advance_attempt(attempt, messages, now)
    }

    /// The same for an attempt that is known in another way.
    ///
    /// # Errors
    /// As [`Self::advance`].
    pub fn advance_attempt(
        &self,
        attempt: Attempt<'_>,
        messages: Vec<ReshareMessage>,
        now: u64,
    ) -> Result<ReshareAdvanceResponse, ReshareError> {
        let (row, drawn) = (self.row(attempt)?, attempt.drawn);
        if row.plan != fingerprint(attempt) {
            return Ok(shown_otherwise());
        }
        let plan = plan(attempt, &row.signers)?;
        let me = server_id(&plan, self.signers.us()).ok_or(ReshareError::NoPart(drawn.id))?;
        // None once they are erased: then the participant remembers what it saw, and gets no share any more.
        let secrets = row.sealed.as_ref().map(|sealed| self.sealer.open_reshare(drawn.id, plan.reshare(), sealed));
        let stored = Stored {
            secrets: secrets.transpose()?,
            messages: self.store.reshare_messages(drawn.id)?,
            complaint: row.complaint.clone(),
        };
        let mut it = Participant::new(plan, me, stored).map_err(ReshareError::Mixed)?;
        if let Some(why) = &row.sits_out {
            return Ok(sitting_out(&it, me, why, &row));
        }
        let before = it.phase();
        let received = take(&mut it, messages);
        let said: Vec<ReshareMessage> = it.published().into_iter().cloned().collect();
        let share = self.dealers_share(&it, me)?;
        let keys = self.signers.all();
        let step = match it.step(Hands { keys, share: share.as_ref(), now }) {
            Ok(step) => step,
            Err(error) => {
                // What this participant has in memory is not what the database has any more: only what was said before is said.
                self.store.record_reshare(drawn.id, ReshareStep { received: &received, ..ReshareStep::default() })?;
                tracing::error!(key_id = drawn.id.key_id, error = %error, "this server cannot do its part in a reshare");
                return Ok(unable(&it, me, said, &error));
            }
        };
        self.record(drawn, &it, &received, step)?;
        log_progress(&it, before);
        let row = self.store.reshare(drawn.id)?.unwrap_or(row);
        Ok(match &row.sits_out {
            Some(why) => sitting_out(&it, me, why, &row),
            None => ReshareAdvanceResponse { complaint: row.complaint, ..answer(&it) },
        })
    }

    /// The stored attempt, or a new one: with fresh one-time secrets for who gets a share, or sitting out where taking part could
    /// contradict what was said before.
    fn row(&self, attempt: Attempt<'_>) -> Result<ReshareRow, ReshareError> {
        let drawn = attempt.drawn;
        if let Some(row) = self.store.reshare(drawn.id)? {
            return Ok(row);
        }
        let signers: Vec<Address> = drawn.members.iter().map(|member| member.signer).collect();
        let plan = plan(attempt, &signers)?;
        let me = server_id(&plan, self.signers.us()).ok_or(ReshareError::NoPart(drawn.id))?;
        let sits_out = self.reason_to_sit_out(drawn, &plan, me)?;
        let sealed = match (&sits_out, plan.member_of(me)) {
            (None, Some(_)) => Some(self.sealer.seal_reshare(drawn.id, &RecipientSecrets::random(plan.reshare())?)?),
            _ => None,
        };
        let (id, deadline) = (drawn.id, drawn.deadline);
        let plan = fingerprint(attempt);
        let row = ReshareRow { id, plan, signers, deadline, sealed, sits_out, complaint: None };
        stkr_kill_points::may_end_at("server.reshare_unbegun");
        self.store.begin_reshare(&row)?;
        stkr_kill_points::may_end_at("server.reshare_begun");
        Ok(row)
    }

    fn reason_to_sit_out(
        &self,
        drawn: &DrawnReshare,
        plan: &Plan,
        me: u32,
    ) -> Result<Option<(String, String)>, ReshareError> {
        let parts = [plan.dealer_of(me).map(Sender::Dealer), plan.member_of(me).map(Sender::Member)];
        let mut born = 0;
        for signer in parts.into_iter().flatten().filter_map(|part| plan.signer(part)) {
            // Once its key comes, what the database knows of it may be another reason.
            if self.signers.key(signer).is_none() {
                return Err(ReshareError::NoSignerKey { id: drawn.id, signer });
            }
            born = born.max(self.store.born(signer)?);
        }
        if drawn.drawn_at > born {
            return Ok(None);
        }
        let reason = format!(
            "this server's database was created at block {born}, or has had a signer since then only, after this reshare was drawn at block {}; an earlier, lost database may have taken part",
            drawn.drawn_at
        );
        let what_to_do = "restart the reshare after its deadline; the operator should look for the lost database";
        Ok(Some((reason, what_to_do.to_owned())))
    }

    /// The share from which this server deals; nothing if it does not, or has no such share.
    fn dealers_share(&self, it: &Participant, me: u32) -> Result<Option<SecretShare>, ReshareError> {
        let (plan, old) = (it.plan(), it.plan().old());
        let Some((index, share_key)) = plan.dealer_of(me).and_then(|at| Some((at, *old.keys().share_key(at)?))) else {
            return Ok(None);
        };
        let rows = self.store.shares(plan.id().key_id)?;
        Ok(signing::open_share(&rows, plan.id().key_id, (index, share_key), self.store_key).ok())
    }

    /// Stores what a step made, in one transaction, before any of it is said.
    fn record(
        &self,
        drawn: &DrawnReshare,
        it: &Participant,
        received: &[ReshareMessage],
        step: Step,
    ) -> Result<(), ReshareError> {
        let Step { new_messages, outcome, complaint } = step;
        let share = outcome.as_ref().map(|outcome| self.share_row(drawn, outcome)).transpose()?;
        // Who met its own unknown message would take it for one of its own the next time.
        let lost = it.failure().filter(|failure| failure.fault == Fault::LostState);
        let stored = ReshareStep {
            received,
            own: &new_messages,
            erase: share.is_some() || complaint.is_some() || lost.is_some(),
            share: share.map(|share| (drawn.id.key_id, share)),
            sits_out: lost.map(|failure| (failure.reason(), failure.what_to_do().to_owned())),
            complaint: complaint.as_ref(),
        };
        pass(&new_messages, false);
        self.store.record_reshare(drawn.id, stored)?;
        pass(&new_messages, true);
        Ok(())
    }

    fn share_row(&self, drawn: &DrawnReshare, outcome: &Outcome) -> Result<ShareRow, ReshareError> {
        let ReshareId { committee_epoch, attempt, .. } = drawn.id;
        Ok(ShareRow {
            origin: ShareOrigin { committee_epoch, attempt, deadline: drawn.deadline },
            index: outcome.share.index(),
            share_key: outcome.share.public_key().to_compressed(),
            group_key: outcome.keys.group_key().to_compressed(),
            keystore: self.store_key.seal_share(&outcome.share)?.to_json()?,
        })
    }
}

/// What finalised blocks fix of an attempt. They never show two, unless they were not final.
fn fingerprint(attempt: Attempt<'_>) -> B256 {
    let Attempt { drawn, leaves_root: root, .. } = attempt;
    let (threshold, numbers) = ([drawn.threshold.t()], [drawn.deadline, drawn.handover].map(u64::to_be_bytes));
    keccak256([drawn.commitment.as_slice(), root.as_slice(), &threshold, numbers.as_flattened()].concat())
}

/// With the signers that the new members had when this server first heard of the attempt: who changes its signer in the middle, which
/// needs nobody's leave, must not make what others said unreadable.
pub(crate) fn plan(attempt: Attempt<'_>, signers: &[Address]) -> Result<Plan, ReshareError> {
    let Attempt { old, drawn, .. } = attempt;
    let members = drawn.members.iter().zip(signers);
    let members = members.map(|(member, signer)| MemberId { signer: *signer, ..*member }).collect();
    Ok(Plan::new(drawn.id, old.clone(), drawn.dealers.clone(), (drawn.threshold, members), drawn.deadline)?)
}

/// The id of this server, if it deals or gets a share.
pub(crate) fn server_id(plan: &Plan, us: &Us) -> Option<u32> {
    let mut all = plan.members().iter().chain(plan.old().members());
    let id = all.find(|member| us.is(member))?.server_id;
    (plan.dealer_of(id).is_some() || plan.member_of(id).is_some()).then_some(id)
}

/// Gives the participant every message; returns those that have to be stored.
fn take(it: &mut Participant, messages: Vec<ReshareMessage>) -> Vec<ReshareMessage> {
    let mut received = Vec::new();
    for message in messages {
        match it.accept(message.clone()) {
            Ok(Accepted::New | Accepted::Evidence) => received.push(message),
            Ok(Accepted::Known) => {}
            // Whoever carries messages can make these up: not a reason for anything.
            Err(rejected) => {
                tracing::debug!(key_id = message.id.key_id, reason = %rejected, "message of a reshare ignored")
            }
        }
    }
    received
}

fn answer(it: &Participant) -> ReshareAdvanceResponse {
    ReshareAdvanceResponse {
        messages: it.told().into_iter().cloned().collect(),
        phase: it.phase(),
        waiting_for: it.waiting_for().into_iter().map(Part::from).collect(),
        failure: it.failure().map(ReshareFailureReport::from),
        complaint: None,
    }
}

fn own_part(it: &Participant, me: u32) -> Option<Part> {
    let member = it.plan().member_of(me).map(Sender::Member);
    member.or_else(|| it.plan().dealer_of(me).map(Sender::Dealer)).map(Part::from)
}

/// For ever: what is said here is stored. With what others said, by which whoever carries messages finds who is to blame; and never with
/// anything of its own.
fn sitting_out(
    it: &Participant,
    me: u32,
    (reason, what_to_do): &(String, String),
    row: &ReshareRow,
) -> ReshareAdvanceResponse {
    let is_own = |sender| match sender {
        Sender::Dealer(index) => it.plan().dealer_of(me) == Some(index),
        Sender::Member(index) => it.plan().member_of(me) == Some(index),
    };
    let others = it.board().messages().filter(|message| !is_own(message.sender()));
    ReshareAdvanceResponse {
        messages: others.cloned().collect(),
        phase: Phase::Failed,
        waiting_for: Vec::new(),
        failure: Some(ReshareFailureReport {
            culprit: own_part(it, me),
            reason: reason.clone(),
            what_to_do: what_to_do.clone(),
        }),
        complaint: row.complaint.clone(),
    }
}

/// Nothing is said, and nothing of it stored: who is lied to for a while goes on afterwards with what it said before.
fn shown_otherwise() -> ReshareAdvanceResponse {
    let reason =
        "finalised blocks showed this server another committee for this attempt before: one of its RPC endpoints lied";
    let what_to_do = "The operator has to compare its RPC endpoints; the reshare can be restarted after its deadline.";
    ReshareAdvanceResponse {
        messages: Vec::new(),
        phase: Phase::Failed,
        waiting_for: Vec::new(),
        failure: Some(ReshareFailureReport {
            culprit: None,
            reason: reason.to_owned(),
            what_to_do: what_to_do.to_owned(),
        }),
        complaint: None,
    }
}

/// This server lacks what its part needs; the attempt fails unless its operator brings it back.
fn unable(it: &Participant, me: u32, said: Vec<ReshareMessage>, error: &StepError) -> ReshareAdvanceResponse {
    let what_to_do = match error {
        StepError::NoShare(_) => {
            "The operator has to restore the database with this share, else the reshare has to be restarted after its deadline."
        }
        StepError::NoSignerKey { .. } => {
            "The operator has to put the file of that signer key back beside the others (files.signer_keys), else the reshare has to be restarted after its deadline."
        }
        StepError::Deal(_) => "Restart the reshare after its deadline.",
    };
    ReshareAdvanceResponse {
        messages: said,
        phase: Phase::Failed,
        waiting_for: Vec::new(),
        failure: Some(ReshareFailureReport {
            culprit: own_part(it, me),
            reason: error.to_string(),
            what_to_do: what_to_do.to_owned(),
        }),
        complaint: None,
    }
}

fn log_progress(it: &Participant, before: Phase) {
    let after = it.phase();
    if after == before {
        return;
    }
    let ReshareId { key_id, committee_epoch, attempt } = it.plan().id();
    match it.failure() {
        Some(failure) => tracing::warn!(
            key_id,
            committee_epoch,
            attempt,
            reason = failure.reason(),
            what_to_do = failure.what_to_do(),
            "reshare failed"
        ),
        None => tracing::info!(key_id, committee_epoch, attempt, phase = %after, "reshare advanced"),
    }
}

/// Places at which the end-to-end tests end this process: a message is made and not stored, or stored and not sent.
fn pass(new: &[ReshareMessage], written: bool) {
    for message in new {
        let name = match (message.round(), written) {
            (Round::Keys, false) => "server.reshare_keys_unwritten",
            (Round::Keys, true) => "server.reshare_keys_written",
            (Round::Dealing, false) => "server.reshare_dealing_unwritten",
            (Round::Dealing, true) => "server.reshare_dealing_written",
            (Round::Acknowledgement, false) => "server.reshare_acknowledgement_unwritten",
            (Round::Acknowledgement, true) => "server.reshare_acknowledgement_written",
        };
        stkr_kill_points::may_end_at(name);
    }
}

#[cfg(test)]
mod tests;
