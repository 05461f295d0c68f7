//! Carries one reshare: hands every server that has a part in it all messages there are, and collects what they answer.
//!
//! It is the carrying of a ceremony ([`crate::carry`]) with two committees instead of one: t members of the one that serves deal, n'
//! members of the new one receive, and a server that stays does both. A message counts if its sender signed it for this key,
//! committee epoch and attempt; all else that a server says is hearsay, shown to people and believed by nobody.
//!
//! # What is not reported
//! Faults of a reshare are kept as evidence, and nobody takes it yet: the Court has no entry for them. The attempt fails, the old
//! committee signs on, and the next attempt draws other dealers.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;
use futures::future::join_all;
use stkr_core::ShareIndex;
use stkr_node::client::{ClientError, ServerClient, printable};
use stkr_protocol::api::{ReshareAdvanceRequest, ReshareAdvanceResponse};
use stkr_protocol::ceremony::{OFFLINE_STALLED_AFTER, STALLED_AFTER};
use stkr_protocol::reshare::evidence::{OpenedReshareDealing, Proof, ReshareEvidence};
use stkr_protocol::reshare::{
    Accepted, Arrivals, Board, Plan, ReshareMessage, Round, RoundProgress, Sender, Transcript, progress,
};

use crate::carry::{self, Said};
use crate::status::{RoundStatus, Waited};
use crate::store::{self, Store, StoreError};

/// A server that deals, receives, or both.
#[derive(Clone, Debug)]
pub struct Party {
    /// Server id.
    pub server_id: u32,
    /// Its index in the committee that hands over, if it deals.
    pub dealer: Option<ShareIndex>,
    /// Its index in the new committee.
    pub member: Option<ShareIndex>,
    /// Its client, or why there can be none.
    pub client: Result<ServerClient, ClientError>,
    /// Whether it has a network at all.
    pub online: bool,
}

impl Party {
    fn is(&self, sender: Sender) -> bool {
        match sender {
            Sender::Dealer(index) => self.dealer == Some(index),
            Sender::Member(index) => self.member == Some(index),
        }
    }
}

/// Where a reshare stands, as far as signed messages tell.
#[derive(Clone, Debug)]
pub enum Standing {
    /// Messages are missing.
    Waiting {
        /// First round that is not complete.
        round: Round,
        /// Who has not sent its message of that round.
        missing: Vec<Sender>,
    },
    /// All n' new members acknowledged one transcript.
    Complete(Box<Transcript>),
    /// No committee will come of this attempt.
    Failed(String),
}

/// One reshare under way.
#[derive(Debug)]
pub struct Carrier {
    board: Board,
    /// What the chain committed to: after a reorg another draw may run under the same key, committee epoch and attempt.
    draft: B256,
    parties: Vec<Party>,
    store: Store,
    said: BTreeMap<u32, Said>,
    /// Whose messages each server claims to lack.
    lacks: BTreeMap<u32, Vec<Sender>>,
    /// Dealers whose dealing was looked at.
    looked_at: BTreeSet<ShareIndex>,
    /// Who did what, in words: kept as evidence.
    convicted: BTreeMap<Sender, String>,
    /// When each message came; of those from before this was noted nothing.
    arrivals: Arrivals,
    /// Unix time (seconds) of the block of the draw, if it is known.
    begun: Option<u64>,
}

impl Carrier {
    /// Takes a reshare up where the stored bulletin left it. `draft` is the chain's commitment to who takes part.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(plan: Plan, draft: B256, parties: Vec<Party>, store: Store) -> Result<Self, StoreError> {
        let stored = store.reshare_messages(plan.id(), draft)?;
        let mut carrier = Self {
            board: Board::new(plan),
            draft,
            parties,
            store,
            said: BTreeMap::new(),
            lacks: BTreeMap::new(),
            looked_at: BTreeSet::new(),
            convicted: BTreeMap::new(),
            arrivals: Arrivals::new(),
            begun: None,
        };
        for (message, received) in stored {
            let (round, sender) = (message.round(), message.sender());
            // Every stored message was accepted before; one that no longer is was tampered with and counts for nothing.
            match carrier.board.accept(message) {
                Ok(Accepted::New) => carrier.arrivals.extend(received.map(|time| ((round, sender), time))),
                Ok(Accepted::Evidence) => carrier.keep_equivocation(sender)?,
                Ok(Accepted::Known) | Err(_) => {}
            }
        }
        // Killed between a dealing and the evidence that it is.
        carrier.look_at_dealings()?;
        Ok(carrier)
    }

    /// The same, told the unix time (seconds) of the block of the draw.
    #[must_use]
    pub fn begun_at(self, begun: Option<u64>) -> Self {
        Self { begun, ..self }
    }

    /// Visits every server that owes a message once, all at the same time. `true` if anything new came.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn round(&mut self) -> Result<bool, StoreError> {
        let id = self.board.plan().id();
        let mut news = self.look_at_the_post()?;
        let request = ReshareAdvanceRequest {
            key_id: id.key_id,
            committee_epoch: id.committee_epoch,
            attempt: id.attempt,
            messages: self.board.messages().cloned().collect(),
        };
        let owing = self.owing();
        let visited = self.parties.iter().filter(|party| party.online && owing.iter().any(|it| party.is(*it)));
        let visits = visited.map(|party| {
            let request = &request;
            async move {
                let answer = match &party.client {
                    Ok(client) => client.advance_reshare(request).await,
                    Err(error) => Err(error.clone()),
                };
                (party.server_id, answer)
            }
        });
        for (server_id, answer) in join_all(visits).await {
            news |= self.take(server_id, answer)?;
        }
        self.look_at_dealings()?;
        Ok(news)
    }

    /// Takes what people handed in for servers without network: it is in the store, where [`crate::offline`] puts it.
    fn look_at_the_post(&mut self) -> Result<bool, StoreError> {
        if self.parties.iter().all(|party| party.online) {
            return Ok(false);
        }
        let id = self.board.plan().id();
        let mut news = false;
        for (message, received) in self.store.reshare_messages(id, self.draft)? {
            let (round, sender) = (message.round(), message.sender());
            match self.board.accept(message) {
                Ok(Accepted::New) => {
                    self.arrivals.extend(received.map(|time| ((round, sender), time)));
                    news = true;
                }
                Ok(Accepted::Evidence) => {
                    self.keep_equivocation(sender)?;
                    news = true;
                }
                Ok(Accepted::Known) | Err(_) => {}
            }
        }
        for kept in self.store.reshare_evidence(id)? {
            if let Proof::BadReshareDealing(opened) = kept.file.proof {
                news |= self.take_complaint(opened)?.unwrap_or(false);
            }
        }
        Ok(news)
    }

    /// Dealers that have not dealt and members that have not acknowledged: whoever has done both parts owes nothing.
    fn owing(&self) -> Vec<Sender> {
        let mut owing = self.board.missing(Round::Dealing);
        owing.extend(self.board.missing(Round::Acknowledgement));
        owing
    }

    fn take(
        &mut self,
        server_id: u32,
        answer: Result<ReshareAdvanceResponse, ClientError>,
    ) -> Result<bool, StoreError> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.said.entry(server_id).or_default().unreachable = Some(error);
                return Ok(false);
            }
        };
        let failure = answer.failure.map(|it| printable(&format!("{}. {}", it.reason, it.what_to_do)));
        let mut said = Said { failure, ..Said::default() };
        self.lacks.insert(server_id, answer.waiting_for.into_iter().map(Sender::from).collect());
        let mut news = false;
        for message in answer.messages {
            match self.accept(message)? {
                Ok(new) => news |= new,
                Err(reason) => said.rejected = Some(reason),
            }
        }
        if let Some(opened) = answer.complaint {
            match self.take_complaint(opened)? {
                Ok(new) => news |= new,
                Err(reason) => said.rejected = Some(reason),
            }
        }
        self.said.insert(server_id, said);
        Ok(news)
    }

    /// Stored before it is on the board: nothing is handed on that a restart would forget.
    fn accept(&mut self, message: ReshareMessage) -> Result<Result<bool, String>, StoreError> {
        let (round, sender) = (message.round(), message.sender());
        match self.board.accept(message.clone()) {
            Err(rejected) => Ok(Err(rejected.to_string())),
            Ok(Accepted::Known) => Ok(Ok(false)),
            Ok(Accepted::New) => {
                self.store.post_reshare(self.board.plan().domain(), self.draft, &message)?;
                self.arrivals.entry((round, sender)).or_insert_with(store::now);
                Ok(Ok(true))
            }
            Ok(Accepted::Evidence) => {
                self.store.post_reshare(self.board.plan().domain(), self.draft, &message)?;
                self.keep_equivocation(sender)?;
                Ok(Ok(true))
            }
        }
    }

    fn keep_equivocation(&mut self, sender: Sender) -> Result<(), StoreError> {
        let Some(found) = self.board.equivocation_of(sender).cloned() else { return Ok(()) };
        let what = format!("signed two different {} messages", found.first.round());
        let (first, second) = (found.first, found.second);
        let proof = stkr_protocol::reshare::evidence::ReshareMessagesProof { first, second };
        self.keep(sender, Proof::ReshareEquivocation(proof), what)
    }

    /// Keeps evidence of every dealing that anybody can see is none.
    fn look_at_dealings(&mut self) -> Result<(), StoreError> {
        for dealer in self.board.plan().dealers().to_vec() {
            let sender = Sender::Dealer(dealer);
            if self.board.message(Round::Dealing, sender).is_none() || !self.looked_at.insert(dealer) {
                continue;
            }
            if let Some(proof) = self.board.malformed(dealer) {
                let what = format!("made a malformed dealing, with {}", proof.defect);
                self.keep(sender, Proof::MalformedReshareDealing(proof), what)?;
            }
        }
        Ok(())
    }

    /// Keeps what a member shows about its share of a dealing, if it proves that a dealer of this attempt cheated. A secret opens one
    /// dealing, the one that it convicts: nothing of another dealer follows from it.
    fn take_complaint(&mut self, opened: OpenedReshareDealing) -> Result<Result<bool, String>, StoreError> {
        let plan = self.board.plan();
        let sender = opened.dealing.sender();
        let recipient = opened.recipient;
        let proof = Proof::BadReshareDealing(opened);
        let verified = match ReshareEvidence::new(plan.domain(), proof.clone()).verify() {
            Ok(verified) => verified,
            Err(error) => return Ok(Err(format!("its complaint proves nothing: {error}"))),
        };
        if verified.id != plan.id() {
            return Ok(Err(format!("its complaint is about {}", verified.id)));
        }
        if plan.signer(sender) != Some(verified.signer) {
            return Ok(Err("its complaint is about a dealing that no dealer of this attempt signed".to_owned()));
        }
        let new = !self.convicted.contains_key(&sender);
        self.keep(sender, proof, format!("dealt new member {recipient} a share that does not match its commitments"))?;
        Ok(Ok(new))
    }

    fn keep(&mut self, sender: Sender, proof: Proof, what: String) -> Result<(), StoreError> {
        let plan = self.board.plan();
        if let Some(party) = self.parties.iter().find(|party| party.is(sender)) {
            let file = ReshareEvidence::new(plan.domain(), proof);
            self.store.keep_reshare_evidence(plan.id(), party.server_id, &file)?;
        }
        self.convicted.entry(sender).or_insert(what);
        Ok(())
    }

    /// Where the reshare stands.
    ///
    /// What all new members acknowledged is final for them, whatever comes to light later: it goes to the chain.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let whole = [Round::Dealing, Round::Acknowledgement].map(|round| self.board.missing(round).is_empty());
        let transcript = (whole == [true, true]).then(|| Transcript::assemble(&self.board));
        if let Some(Ok(transcript)) = transcript {
            return Standing::Complete(Box::new(transcript));
        }
        if let Some((culprit, what)) = self.convicted.first_key_value() {
            return Standing::Failed(format!(
                "{culprit} {what}; that is kept as evidence, which no Court takes yet; the old committee signs on, and the reshare starts \
                 again after its deadline with dealers drawn anew"
            ));
        }
        if let Some(Err(error)) = transcript {
            return Standing::Failed(error.to_string());
        }
        let rounds = Round::ALL.into_iter().map(|round| (round, self.board.missing(round)));
        match rounds.into_iter().find(|(_, missing)| !missing.is_empty()) {
            Some((round, missing)) => Standing::Waiting { round, missing },
            None => Standing::Failed("its messages give no transcript".to_owned()),
        }
    }

    /// One sentence for everybody that is waited for: `server 4 (new member 2): …`.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<String> {
        let Standing::Waiting { round, missing } = self.standing() else {
            return Vec::new();
        };
        let lines = missing.into_iter().filter_map(|sender| {
            let party = self.parties.iter().find(|party| party.is(sender))?;
            Some(format!("server {} ({sender}): {}", party.server_id, self.why(party, round)))
        });
        lines.collect()
    }

    fn why(&self, party: &Party, round: Round) -> String {
        if !party.online {
            return "is offline: its operator carries a request to it and its answer back".to_owned();
        }
        let said = self.said.get(&party.server_id).and_then(|said| carry::reason(said, "reshare"));
        said.unwrap_or_else(|| format!("has not sent its {round} message yet"))
    }

    /// Every round: how many messages came, and in the one that is not complete who is waited for, since when, and what that
    /// server's operator should check.
    #[must_use]
    pub fn rounds(&self) -> Vec<RoundStatus> {
        let over = !matches!(self.standing(), Standing::Waiting { .. });
        let lines = progress(&self.board, &self.arrivals, self.begun).into_iter();
        lines.map(|line| self.round_status(line, over)).collect()
    }

    fn round_status(&self, line: RoundProgress, over: bool) -> RoundStatus {
        let second = |time: u64| time.to_string();
        // Whoever says nothing more in a reshare that is over holds nothing up.
        let waits = line.current && !over;
        let missing = line.missing.iter().filter(|_| waits);
        RoundStatus {
            round: line.round.name().to_owned(),
            since: line.since.map(second),
            complete: line.complete.map(second),
            came: line.came.to_string(),
            waiting_for: missing.filter_map(|sender| self.waited(*sender, line.round)).collect(),
        }
    }

    fn waited(&self, sender: Sender, round: Round) -> Option<Waited> {
        let party = self.parties.iter().find(|party| party.is(sender))?;
        let said = self.said.get(&party.server_id);
        let (Sender::Dealer(index) | Sender::Member(index)) = sender;
        Some(Waited {
            server_id: party.server_id.to_string(),
            member: index.get().to_string(),
            endpoint: party.client.as_ref().map(|client| client.peer().endpoint.clone()).unwrap_or_default(),
            trouble: said.and_then(carry::kind).map(str::to_owned),
            why: self.why(party, round),
            check: match party.online {
                true => self.check(party.server_id),
                false => {
                    let (id, key) = (party.server_id, self.board.plan().id().key_id);
                    format!("carry its request: stkr offline fetch --server {id} --key {key}, and submit its answer")
                }
            },
            unready: Vec::new(),
        })
    }

    /// What the server's operator should check, from what is known of it.
    fn check(&self, server_id: u32) -> String {
        let Some(said) = self.said.get(&server_id) else { return "nothing yet: it was not asked".to_owned() };
        if carry::kind(said).is_some() {
            return carry::check(said);
        }
        let lacks = self.lacks.get(&server_id).map(Vec::as_slice).unwrap_or_default();
        if lacks.is_empty() {
            return "its log (`key reshare`), its disk and its RPC endpoints: it answers, and sends no message"
                .to_owned();
        }
        let names: Vec<String> = lacks.iter().map(ToString::to_string).collect();
        format!("nothing yet: it answers, and says that it lacks messages of {}", names.join(", "))
    }

    /// Whether somebody holds the reshare up: by a trouble that is known, or for [`STALLED_AFTER`] without one.
    #[must_use]
    pub fn is_stalled(&self, now: u64) -> bool {
        let offline = |it: &Waited| self.parties.iter().any(|p| !p.online && p.server_id.to_string() == it.server_id);
        let late = |round: &RoundStatus| {
            let since = round.since.as_ref().and_then(|since| since.parse::<u64>().ok());
            let patience = if round.waiting_for.iter().all(offline) { OFFLINE_STALLED_AFTER } else { STALLED_AFTER };
            since.is_some_and(|since| now.saturating_sub(since) >= patience)
        };
        let troubled = |round: &RoundStatus| round.waiting_for.iter().any(|it| it.trouble.is_some());
        self.rounds().iter().any(|round| !round.waiting_for.is_empty() && (late(round) || troubled(round)))
    }

    /// Failures that servers report, as sentences. Hearsay: one liar cannot end a reshare, but a member that gave up will not
    /// acknowledge.
    #[must_use]
    pub fn reported_failures(&self) -> Vec<String> {
        let failures = self.said.iter().filter_map(|(id, said)| Some((id, said.failure.as_ref()?)));
        failures.map(|(id, failure)| format!("server {id} says: {failure}")).collect()
    }
}

#[cfg(test)]
mod tests;
