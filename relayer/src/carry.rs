//! Carries one ceremony: hands every member all messages there are and collects what they answer.
//!
//! The relayer is a postman with a notice board. A message counts if its sender signed it, whoever handed it over; what a
//! server says beside its messages (phase, failure) is hearsay, shown to people and believed by nobody. Decided here is that the
//! transcript is complete, which the chain checks again, and who is reported to the Court: whoever said two things, or dealt what
//! anybody can see is no dealing, or what a member opened its share of and proved to be wrong.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256};
use futures::future::join_all;
use stkr_core::ShareIndex;
use stkr_node::client::{ClientError, ServerClient, printable};
use stkr_protocol::api::{AdvanceRequest, AdvanceResponse};
use stkr_protocol::ceremony::{
    Accepted, Arrivals, Board, Context, Equivocation, OFFLINE_STALLED_AFTER, Phase, STALLED_AFTER, Transcript,
    TranscriptError, acknowledgement_of, progress,
};
use stkr_protocol::evidence::{Accused, EvidenceFile, MessagesProof, OpenedDealing, Proof, SignedDealing};
use stkr_protocol::messages::{Body, Round, SignedMessage};

use crate::status::{RoundStatus, Waited};
use crate::store::{self, Store, StoreError};

/// A member of the committee and how to reach it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Share index.
    pub index: ShareIndex,
    /// Server id.
    pub server_id: u32,
    /// Its client, or why there can be none.
    pub client: Result<ServerClient, ClientError>,
    /// Whether it has a network at all. Of one that has none, people hand in what it says ([`crate::offline`]).
    pub online: bool,
}

/// What a member said last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Where it claims to stand.
    pub phase: Option<Phase>,
    /// Why it claims that the ceremony failed.
    pub failure: Option<String>,
    /// Members whose messages it claims to lack.
    pub waiting_for: Vec<ShareIndex>,
    /// Why it could not be asked.
    pub unreachable: Option<ClientError>,
    /// Why a message or a complaint that it handed over does not count.
    pub rejected: Option<String>,
}

/// Where the ceremony stands, as far as signed messages tell.
#[derive(Clone, Debug)]
pub enum Standing {
    /// Messages are missing.
    Waiting {
        /// First round that is not complete.
        round: Round,
        /// Who has not sent its message of that round.
        missing: Vec<ShareIndex>,
    },
    /// All n acknowledged one transcript.
    Complete(Box<Transcript>),
    /// No key will come of it.
    Failed(String),
}

/// One ceremony under way.
#[derive(Debug)]
pub struct Carrier {
    board: Board,
    court: Address,
    members: Vec<Member>,
    store: Store,
    said: BTreeMap<ShareIndex, Said>,
    /// Dealers whose dealing was looked at with all one-time keys at hand.
    looked_at: BTreeSet<ShareIndex>,
    /// Whose dealing is kept as evidence: what is wrong with it, in words, and the proof.
    convicted: BTreeMap<ShareIndex, (String, Proof)>,
    /// The last complaint that each member handed over, whosever it is.
    opened: BTreeMap<ShareIndex, OpenedDealing>,
    /// When each message came; of those from before this was noted nothing.
    arrivals: Arrivals,
    /// Unix time (seconds) of the block in which the attempt began, if it is known.
    begun: Option<u64>,
}

/// What answers a challenge to acknowledge a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The member's signature over the acknowledgement that was asked for.
    Acknowledgement([u8; 65]),
    /// Whose fault it is that no honest member acknowledges.
    Fault(Box<Proof>),
}

impl Carrier {
    /// Takes a ceremony up where the stored bulletin left it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(context: Context, members: Vec<Member>, store: Store, court: Address) -> Result<Self, StoreError> {
        let stored = store.arrived(context.key_id(), context.attempt(), context.committee_hash())?;
        let (mut board, mut arrivals) = (Board::new(context), Arrivals::new());
        for (message, received) in stored {
            let of = (message.round(), message.index);
            // Every stored message was accepted before; one that no longer is was tampered with and counts for nothing.
            if matches!(board.accept(message), Ok(Accepted::New))
                && let Some(received) = received
            {
                arrivals.insert(of, received);
            }
        }
        let mut carrier = Self {
            board,
            members,
            store,
            court,
            said: BTreeMap::new(),
            looked_at: BTreeSet::new(),
            convicted: BTreeMap::new(),
            opened: BTreeMap::new(),
            arrivals,
            begun: None,
        };
        // Killed between a message and the evidence that it is.
        carrier.look_at_equivocations()?;
        carrier.look_at_dealings()?;
        Ok(carrier)
    }

    /// The same, told the unix time (seconds) of the block in which the attempt began.
    #[must_use]
    pub fn begun_at(self, begun: Option<u64>) -> Self {
        Self { begun, ..self }
    }

    /// Visits every member once, all at the same time. `true` if anything new came.
    ///
    /// Members that have acknowledged are not visited any more: they have their share and owe nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn round(&mut self) -> Result<bool, StoreError> {
        let mut news = self.look_at_the_post()?;
        let context = self.board.context();
        let request = AdvanceRequest {
            key_id: context.key_id(),
            attempt: context.attempt(),
            messages: self.board.messages().cloned().collect(),
        };
        let owing = self.board.missing(Round::Acknowledgement);
        let visited = self.members.iter().filter(|member| member.online && owing.contains(&member.index));
        let visits = visited.map(|member| {
            let request = &request;
            async move {
                let answer = match &member.client {
                    Ok(client) => client.advance(request).await,
                    Err(error) => Err(error.clone()),
                };
                (member.index, answer)
            }
        });
        for (index, answer) in join_all(visits).await {
            news |= self.take(index, answer)?;
        }
        self.look_at_dealings()?;
        Ok(news)
    }

    /// Takes what people handed in for offline members: it is in the store, where [`crate::offline`] puts it.
    fn look_at_the_post(&mut self) -> Result<bool, StoreError> {
        if self.members.iter().all(|member| member.online) {
            return Ok(false);
        }
        let context = self.board.context();
        let posted = self.store.arrived(context.key_id(), context.attempt(), context.committee_hash())?;
        let mut news = false;
        for (message, received) in posted {
            let (round, index) = (message.round(), message.index);
            match self.board.accept(message) {
                Ok(Accepted::New) => {
                    self.arrivals.extend(received.map(|time| ((round, index), time)));
                    news = true;
                }
                Ok(Accepted::Evidence) => {
                    self.keep_equivocation(index)?;
                    news = true;
                }
                Ok(Accepted::Known) | Err(_) => {}
            }
        }
        Ok(news)
    }

    /// Takes messages from elsewhere: from the chain, where a challenge brings all dealings.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn give(&mut self, messages: impl IntoIterator<Item = SignedMessage>) -> Result<(), StoreError> {
        for message in messages {
            if let Err(reason) = self.accept(message)? {
                tracing::debug!(reason, "a message from the chain is not of this ceremony");
            }
        }
        self.look_at_dealings()
    }

    /// Takes an acknowledgement that was given on the chain, where only its signature stands. A member that answers every challenge
    /// there and no relayer stops no ceremony by that.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn give_acknowledgement(&mut self, member: ShareIndex, signature: [u8; 65]) -> Result<(), StoreError> {
        let Ok(body) = acknowledgement_of(&self.board) else { return Ok(()) };
        let (key_id, attempt) = (self.board.context().key_id(), self.board.context().attempt());
        let body = Body::Acknowledgement(body);
        self.give([SignedMessage { key_id, attempt, index: member, body, signature }])
    }

    /// What answers the question to `member` for the acknowledgement with this EIP-712 digest, as far as is known here.
    #[must_use]
    pub fn reply(&self, member: ShareIndex, acknowledgement: B256) -> Option<Reply> {
        let domain = self.board.context().domain();
        let of_member = |it: &&SignedMessage| it.index == member && it.round() == Round::Acknowledgement;
        let mut said = self.board.messages().filter(of_member);
        if let Some(given) = said.find(|it| it.digest(domain) == acknowledgement) {
            return Some(Reply::Acknowledgement(given.signature));
        }
        // A member's own fault is no excuse, so the contract does not take it.
        let dealt = self.convicted.iter().find(|(dealer, _)| **dealer != member).map(|(_, (_, proof))| proof.clone());
        let mut others = self.board.context().threshold().indices().filter(|index| *index != member);
        let signed_twice = || others.find_map(|of| self.board.equivocation_of(of)).map(two_messages);
        dealt.or_else(signed_twice).map(|proof| Reply::Fault(Box::new(proof)))
    }

    /// Keeps evidence of every dealing that anybody can see is none, or is not the one that was committed to, or that a secret which
    /// was shown opens to a wrong share.
    fn look_at_dealings(&mut self) -> Result<(), StoreError> {
        for dealer in self.board.context().threshold().indices() {
            if let Some(broken) = self.board.broken_commitment(dealer)
                && !self.convicted.contains_key(&dealer)
            {
                let what = "revealed another dealing than it had committed to".to_owned();
                self.keep_dealing(dealer, two_messages(&broken), what)?;
            }
        }
        let keys_are_there = self.board.missing(Round::OneTimeKey).is_empty();
        for dealer in self.board.context().threshold().indices() {
            if self.looked_at.contains(&dealer) || self.board.message(Round::Dealing, dealer).is_none() {
                continue;
            }
            if keys_are_there {
                self.looked_at.insert(dealer);
            }
            if let Some(proof) = self.board.malformed(dealer) {
                let what = format!("made a malformed dealing, with {}", proof.defect);
                self.keep_dealing(dealer, Proof::MalformedDealing(proof), what)?;
            }
        }
        // Of those that came after the complaint, too.
        self.open_the_others()
    }

    /// Keeps what the member `from` shows about a share in a dealing, if the Court would convict a member of this ceremony by it.
    fn take_complaint(&mut self, from: ShareIndex, opened: OpenedDealing) -> Result<Result<bool, String>, StoreError> {
        let context = self.board.context();
        let (about, ours) = ((opened.dealing.key_id, opened.dealing.attempt), (context.key_id(), context.attempt()));
        if about != ours {
            return Ok(Err(format!("its complaint is about key {}, attempt {}", about.0, about.1)));
        }
        let recipient = opened.recipient;
        let proof = Proof::BadDealing(opened.clone());
        let accused = match EvidenceFile::new(context.domain(), self.court, proof.clone()).verify() {
            Ok(verified) => verified.accused,
            Err(error) => return Ok(Err(format!("its complaint proves nothing: {error}"))),
        };
        let dealer = match accused {
            Accused::Signer(signer) => context.index_of(signer),
            _ => None,
        };
        let Some(dealer) = dealer else {
            return Ok(Err("its complaint is about a dealing that no member signed".to_owned()));
        };
        let new = !self.convicted.contains_key(&dealer);
        self.keep_dealing(dealer, proof, cheated(recipient))?;
        self.opened.insert(from, opened);
        self.open_the_others()?;
        Ok(Ok(new))
    }

    /// A member complains about one dealing; its secret opens what all others sent it too, and whoever else cheated it must not get
    /// away.
    fn open_the_others(&mut self) -> Result<(), StoreError> {
        for opened in self.opened.clone().into_values() {
            for dealer in self.board.context().threshold().indices() {
                let dealing = self.board.message(Round::Dealing, dealer).and_then(SignedDealing::of);
                let Some(dealing) = dealing.filter(|_| !self.convicted.contains_key(&dealer)) else { continue };
                let proof = Proof::BadDealing(OpenedDealing { dealing, ..opened.clone() });
                if EvidenceFile::new(self.board.context().domain(), self.court, proof.clone()).verify().is_ok() {
                    self.keep_dealing(dealer, proof, cheated(opened.recipient))?;
                }
            }
        }
        Ok(())
    }

    fn keep_dealing(&mut self, dealer: ShareIndex, proof: Proof, what: String) -> Result<(), StoreError> {
        let context = self.board.context();
        if let Some(member) = context.member(dealer) {
            let file = EvidenceFile::new(context.domain(), self.court, proof.clone());
            self.store.keep_evidence(member.server_id, &file)?;
        }
        self.convicted.entry(dealer).or_insert((what, proof));
        Ok(())
    }

    fn take(&mut self, index: ShareIndex, answer: Result<AdvanceResponse, ClientError>) -> Result<bool, StoreError> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.said.entry(index).or_default().unreachable = Some(error);
                return Ok(false);
            }
        };
        let mut said = Said { phase: Some(answer.phase), waiting_for: answer.waiting_for, ..Said::default() };
        said.failure = answer.failure.map(|failure| {
            let culprit = failure.culprit.map_or_else(String::new, |culprit| format!("member {}: ", culprit.get()));
            printable(&format!("{culprit}{}. {}", failure.reason, failure.what_to_do))
        });
        let mut news = false;
        for message in answer.messages {
            match self.accept(message)? {
                Ok(new) => news |= new,
                Err(reason) => said.rejected = Some(reason),
            }
        }
        if let Some(opened) = answer.complaint {
            match self.take_complaint(index, opened)? {
                Ok(new) => news |= new,
                Err(reason) => said.rejected = Some(reason),
            }
        }
        self.said.insert(index, said);
        Ok(news)
    }

    /// Stored before it is on the board: nothing is handed on that a restart would forget.
    fn accept(&mut self, message: SignedMessage) -> Result<Result<bool, String>, StoreError> {
        match self.board.accept(message.clone()) {
            Err(rejected) => Ok(Err(rejected.to_string())),
            Ok(Accepted::Known) => Ok(Ok(false)),
            Ok(Accepted::New) => {
                self.store.post(self.board.context(), &message)?;
                self.arrivals.entry((message.round(), message.index)).or_insert_with(store::now);
                Ok(Ok(true))
            }
            Ok(Accepted::Evidence) => {
                self.store.post(self.board.context(), &message)?;
                self.keep_equivocation(message.index)?;
                Ok(Ok(true))
            }
        }
    }

    fn look_at_equivocations(&self) -> Result<(), StoreError> {
        self.board.context().threshold().indices().try_for_each(|index| self.keep_equivocation(index))
    }

    /// Of each member its own pair: whoever has a lower index and did the same hides nobody.
    fn keep_equivocation(&self, index: ShareIndex) -> Result<(), StoreError> {
        let context = self.board.context();
        let (Some(member), Some(found)) = (context.member(index), self.board.equivocation_of(index)) else {
            return Ok(());
        };
        let file = EvidenceFile::new(context.domain(), self.court, two_messages(found));
        self.store.keep_evidence(member.server_id, &file)?;
        Ok(())
    }

    /// Where the ceremony stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        if let Some((index, equivocation)) = self.board.equivocation() {
            let round = equivocation.first.round();
            return Standing::Failed(format!(
                "member {} signed two different {round} messages; both are kept as evidence, and the ceremony starts again after its deadline",
                index.get()
            ));
        }
        if let Some((dealer, (what, _))) = self.convicted.first_key_value() {
            let dealer = dealer.get();
            return Standing::Failed(format!(
                "member {dealer} {what}; that is kept as evidence and reported to the Court, and the ceremony starts again after its deadline"
            ));
        }
        // What `finalise` takes needs no more than these. The chain may have brought them without the rounds before.
        let whole = [Round::Dealing, Round::Acknowledgement].map(|round| self.board.missing(round).is_empty());
        for round in Round::ALL.into_iter().filter(|_| whole != [true, true]) {
            let missing = self.board.missing(round);
            if !missing.is_empty() {
                return Standing::Waiting { round, missing };
            }
        }
        match Transcript::assemble(&self.board) {
            Ok(transcript) => Standing::Complete(Box::new(transcript)),
            Err(error @ TranscriptError::Missing { .. }) => Standing::Failed(format!("transcript: {error}")),
            Err(error) => Standing::Failed(error.to_string()),
        }
    }

    /// One sentence per member that is waited for: `server 4 (member 2): …`.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<String> {
        let Standing::Waiting { round, missing } = self.standing() else {
            return Vec::new();
        };
        let seats = self.members.iter().filter(|member| missing.contains(&member.index));
        seats
            .map(|member| {
                let why = self.why(member.index).unwrap_or_else(|| format!("has not sent its {round} message yet"));
                format!("server {} (member {}): {why}", member.server_id, member.index.get())
            })
            .collect()
    }

    /// Why nothing comes of this member, as far as it or the way to it tells.
    #[must_use]
    pub fn why(&self, index: ShareIndex) -> Option<String> {
        if !self.is_online(index) {
            return Some("is offline: its operator carries a request to it and its answer back".to_owned());
        }
        self.said.get(&index).and_then(|said| reason(said, "ceremony"))
    }

    /// Every round: how many messages came, and in the one that is not complete who is waited for, since when, and what that
    /// member's operator should check.
    #[must_use]
    pub fn rounds(&self) -> Vec<RoundStatus> {
        let second = |time: u64| time.to_string();
        let failed = matches!(self.standing(), Standing::Failed(_));
        let lines = progress(&self.board, &self.arrivals, self.begun).into_iter();
        let line = |it: stkr_protocol::ceremony::RoundProgress| RoundStatus {
            round: it.round.name().to_owned(),
            since: it.since.map(second),
            complete: it.complete.map(second),
            came: it.came.to_string(),
            // Whoever says nothing more in a ceremony that failed holds nothing up.
            waiting_for: match it.current && !failed {
                true => self
                    .members
                    .iter()
                    .filter(|seat| it.missing.contains(&seat.index))
                    .map(|seat| self.waited(seat, it.round))
                    .collect(),
                false => Vec::new(),
            },
        };
        lines.map(line).collect()
    }

    /// Whether the member has a network.
    #[must_use]
    pub fn is_online(&self, index: ShareIndex) -> bool {
        self.members.iter().any(|member| member.index == index && member.online)
    }

    fn waited(&self, member: &Member, round: Round) -> Waited {
        let said = self.said.get(&member.index);
        let why = self.why(member.index);
        Waited {
            server_id: member.server_id.to_string(),
            member: member.index.get().to_string(),
            endpoint: member.client.as_ref().map(|client| client.peer().endpoint.clone()).unwrap_or_default(),
            trouble: said.and_then(kind).map(str::to_owned),
            why: why.unwrap_or_else(|| format!("has not sent its {round} message yet")),
            check: match member.online {
                true => said.map_or_else(|| "nothing yet: it was not asked".to_owned(), check),
                false => {
                    let (id, key) = (member.server_id, self.board.context().key_id());
                    format!("carry its request: stkr offline fetch --server {id} --key {key}, and submit its answer")
                }
            },
            unready: Vec::new(),
        }
    }

    /// Whether somebody holds the ceremony up: by a trouble that is known, or for [`STALLED_AFTER`] without one.
    #[must_use]
    pub fn is_stalled(&self, now: u64) -> bool {
        let offline = |it: &Waited| self.members.iter().any(|m| !m.online && m.server_id.to_string() == it.server_id);
        let late = |round: &RoundStatus| {
            let since = round.since.as_ref().and_then(|since| since.parse::<u64>().ok());
            let patience = if round.waiting_for.iter().all(offline) { OFFLINE_STALLED_AFTER } else { STALLED_AFTER };
            since.is_some_and(|since| now.saturating_sub(since) >= patience)
        };
        let waits = |round: &RoundStatus| !round.waiting_for.is_empty();
        let troubled = |round: &RoundStatus| round.waiting_for.iter().any(|it| it.trouble.is_some());
        self.rounds().iter().any(|round| waits(round) && (late(round) || troubled(round)))
    }

    /// Failures that members report, as sentences. Hearsay: one liar cannot end a ceremony, but a member that gave up will
    /// not acknowledge.
    #[must_use]
    pub fn reported_failures(&self) -> Vec<String> {
        let seats = self.members.iter();
        seats
            .filter_map(|member| {
                let failure = self.said.get(&member.index)?.failure.as_ref()?;
                Some(format!("server {} (member {}) says: {failure}", member.server_id, member.index.get()))
            })
            .collect()
    }

    /// The committee.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// What each member said last.
    #[must_use]
    pub fn said(&self, index: ShareIndex) -> Option<&Said> {
        self.said.get(&index)
    }
}

/// Why nothing comes of a member in a ceremony or reshare, as far as it or the way to it tells.
pub(crate) fn reason(said: &Said, what: &str) -> Option<String> {
    let failed = said.failure.as_ref().map(|failure| format!("says that the {what} failed: {failure}"));
    said.unreachable.as_ref().map(ToString::to_string).or(failed).or_else(|| said.rejected.clone())
}

/// One word for what keeps a member from taking part; nothing if nothing is known.
pub(crate) fn kind(said: &Said) -> Option<&'static str> {
    let gave_up = said.failure.as_ref().map(|_| "gave_up");
    said.unreachable.as_ref().map(ClientError::kind).or(gave_up).or_else(|| said.rejected.as_ref().map(|_| "rejected"))
}

/// What the member's operator should check, from what is known of it.
pub(crate) fn check(said: &Said) -> String {
    if let Some(error) = &said.unreachable {
        return error.operator_checks();
    }
    if said.failure.is_some() {
        return "nothing that helps this attempt: the server gave it up for good, and says why; the next attempt needs its \
                database and its signer key as they are now"
            .to_owned();
    }
    if said.rejected.is_some() {
        return "its signer key and its version: what it sends is not what the chain and the protocol expect of it"
            .to_owned();
    }
    if said.waiting_for.is_empty() {
        return "its log (`key ceremony`), its disk and its RPC endpoints: it answers, and sends no message".to_owned();
    }
    let lacks: Vec<String> = said.waiting_for.iter().map(|index| index.get().to_string()).collect();
    format!("nothing yet: it answers, and says that it lacks messages of members {}", lacks.join(", "))
}

fn cheated(recipient: u8) -> String {
    format!("dealt member {recipient} a share that does not match its commitments")
}

fn two_messages(found: &Equivocation) -> Proof {
    Proof::CeremonyEquivocation(MessagesProof { first: found.first.clone(), second: found.second.clone() })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use alloy::primitives::keccak256;
    use axum::routing::post;
    use axum::{Json, Router};
    use stkr_core::Threshold;
    use stkr_core::dkg::{self, CeremonyDomain, OneTimeSecret};
    use stkr_node::client::{Patience, Peer};
    use stkr_node::database::Database;
    use stkr_node::http::{JsonBody, Limits, serve_tls};
    use stkr_node::metrics::Metrics;
    use stkr_node::shutdown::Shutdown;
    use stkr_node::tls::{self, Identity};
    use stkr_protocol::ceremony::{Member as Party, MemberId, recompute_keys};
    use stkr_protocol::evidence::Fault;
    use stkr_protocol::messages::{
        AcknowledgementBody, CommitmentSetBody, DealingBody, DealingCommitmentBody, OneTimeKeyBody,
    };
    use stkr_protocol::{ProtocolDomain, SignerKey};

    use super::*;
    use crate::app::SCHEMA;
    use crate::status::CeremonyStatus;
    use crate::workers;

    const DOMAIN: ProtocolDomain = ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(7) };
    const N: u8 = 4;

    fn index(number: u8) -> ShareIndex {
        ShareIndex::new(number).unwrap()
    }

    /// A member with its signer key and a real ceremony state behind a real TLS port.
    struct Server {
        party: Mutex<Party>,
        signer: SignerKey,
        identity: Identity,
        address: SocketAddr,
        /// Handed over beside its own messages.
        extra: Vec<SignedMessage>,
    }

    impl Server {
        fn answer(&self, request: AdvanceRequest) -> AdvanceResponse {
            let mut party = self.party.lock().unwrap();
            for message in request.messages {
                let _ = party.accept(message);
            }
            party.step(&self.signer).unwrap();
            let mut messages: Vec<SignedMessage> = party.published().into_iter().cloned().collect();
            messages.extend(self.extra.clone());
            let failure = party.failure().map(Into::into);
            let (phase, waiting_for) = (party.phase(), party.waiting_for());
            AdvanceResponse { messages, phase, waiting_for, failure, complaint: party.complaint().cloned() }
        }

        fn start(self: &Arc<Self>) {
            let server = self.clone();
            let handler =
                move |JsonBody(request): JsonBody<AdvanceRequest>| async move { Json(server.answer(request)) };
            let router = Router::new().route("/v1/ceremonies/advance", post(handler));
            let listener = std::net::TcpListener::bind(self.address).unwrap();
            let config = tls::server_config(&self.identity).unwrap();
            let metrics = Metrics::new("test", "0");
            tokio::spawn(async move {
                serve_tls(listener, router, config, &metrics, Limits::default(), Shutdown::default()).await
            });
        }
    }

    struct Cluster {
        context: Context,
        servers: Vec<Arc<Server>>,
        store: Store,
        _folder: tempfile::TempDir,
    }

    /// Four members; `extra` makes what member 1 hands over beside its own messages, given all signer keys.
    fn cluster(extra: impl Fn(&[SignerKey]) -> Vec<SignedMessage>) -> Cluster {
        tls::install_provider().unwrap();
        let signers: Vec<SignerKey> = (0..N).map(|_| SignerKey::random().unwrap()).collect();
        let members = signers.iter().zip(101_u32..);
        let members = members.map(|(key, server_id)| MemberId { server_id, signer: key.address() }).collect();
        let context = Context::new(DOMAIN, 9, 0, Threshold::new(3, N).unwrap(), members).unwrap();
        let lies = extra(&signers);
        let servers = signers.into_iter().zip(1..=N).map(|(signer, number)| {
            let secret = OneTimeSecret::random().unwrap();
            Arc::new(Server {
                party: Mutex::new(Party::start(context.clone(), index(number), secret)),
                signer,
                identity: Identity::generate("server").unwrap(),
                address: std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(),
                extra: if number == 1 { lies.clone() } else { Vec::new() },
            })
        });
        let servers = servers.collect();
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("relayer.sqlite"), &SCHEMA).unwrap();
        Cluster { context, servers, store: Store::new(Arc::new(database)), _folder: folder }
    }

    impl Cluster {
        /// A carrier as after a restart: it knows what the store knows.
        fn carrier(&self) -> Carrier {
            let identity = Identity::generate("relayer").unwrap();
            let members = self.servers.iter().zip(1..=N).map(|(server, number)| {
                let server_id = 100 + u32::from(number);
                let fingerprint = server.identity.fingerprint();
                let peer = Peer { server_id, endpoint: server.address.to_string(), fingerprint };
                let patience = Patience { connect: Duration::from_secs(5), answer: Duration::from_secs(5) };
                Member {
                    index: index(number),
                    server_id,
                    client: ServerClient::new(&identity, peer, patience),
                    online: true,
                }
            });
            Carrier::open(self.context.clone(), members.collect(), self.store.clone(), Address::repeat_byte(0xc0))
                .unwrap()
        }

        fn stored(&self) -> Vec<SignedMessage> {
            self.store.messages(9, 0, self.context.committee_hash()).unwrap()
        }
    }

    #[tokio::test]
    async fn a_ceremony_carried_by_a_relayer_that_dies_after_every_round_ends_in_one_transcript() {
        let cluster = cluster(|_| Vec::new());
        for server in &cluster.servers {
            server.start();
        }
        for _ in 0..10 {
            let mut carrier = cluster.carrier();
            carrier.round().await.unwrap();
            if matches!(carrier.standing(), Standing::Complete(_)) {
                break;
            }
        }
        let reborn = cluster.carrier();
        let Standing::Complete(transcript) = reborn.standing() else { panic!("{:?}", reborn.standing()) };
        transcript.verify().unwrap();
        assert_eq!(transcript.points().len(), (usize::from(N) + 1) * 128);
        assert_eq!(cluster.stored().len(), 5 * usize::from(N), "every message once");
    }

    #[tokio::test]
    async fn what_a_relayer_handed_on_it_still_knows_after_it_was_killed() {
        let cluster = cluster(|_| Vec::new());
        cluster.servers[0].start();
        cluster.carrier().round().await.unwrap();
        let reborn = cluster.carrier();
        assert!(
            matches!(reborn.standing(), Standing::Waiting { round: Round::OneTimeKey, missing } if missing.len() == 3)
        );
        assert_eq!(cluster.stored().len(), 1);
    }

    #[tokio::test]
    async fn a_member_that_is_down_is_named_with_its_reason_and_the_ceremony_goes_on_when_it_returns() {
        let cluster = cluster(|_| Vec::new());
        for server in &cluster.servers[..3] {
            server.start();
        }
        let mut carrier = cluster.carrier();
        carrier.round().await.unwrap();
        let waiting = carrier.waiting_for();
        assert!(waiting.len() == 1 && waiting[0].starts_with("server 104 (member 4): "), "{waiting:?}");
        assert!(waiting[0].contains("refuses the connection"), "{waiting:?}");
        cluster.servers[3].start();
        for _ in 0..10 {
            carrier.round().await.unwrap();
        }
        assert!(matches!(carrier.standing(), Standing::Complete(_)));
        assert!(carrier.waiting_for().is_empty());
    }

    #[tokio::test]
    async fn two_different_messages_of_one_member_end_the_ceremony_and_are_kept_as_evidence() {
        let second = |signers: &[SignerKey]| {
            let body = Body::OneTimeKey(OneTimeKeyBody { public_key: vec![2; 33] });
            vec![SignedMessage::sign(&DOMAIN, &signers[1], (9, 0, index(2)), body)]
        };
        let cluster = cluster(second);
        for server in &cluster.servers {
            server.start();
        }
        let mut carrier = cluster.carrier();
        carrier.round().await.unwrap();
        let Standing::Failed(reason) = carrier.standing() else { panic!("{:?}", carrier.standing()) };
        assert!(reason.contains("member 2 signed two different one_time_key messages"), "{reason}");
        let evidence = cluster.store.newest_evidence(10).unwrap();
        assert_eq!(evidence.len(), 1);
        assert_eq!(
            (evidence[0].server_id.as_deref(), evidence[0].kind.as_str()),
            (Some("102"), "ceremony_equivocation")
        );
        // The row is a file that anybody can report.
        let file: EvidenceFile = serde_json::from_value(evidence[0].body.clone()).unwrap();
        let signer = cluster.servers[1].signer.address();
        assert_eq!(file.verify().unwrap().accused, stkr_protocol::evidence::Accused::Signer(signer));
        assert!(matches!(cluster.carrier().standing(), Standing::Failed(_)), "also after a restart");
    }

    fn one_time_key(byte: u8) -> Body {
        Body::OneTimeKey(OneTimeKeyBody { public_key: vec![byte; 33] })
    }

    /// Servers against whom evidence is kept, each row of which convicts the signer of that server.
    fn accused(cluster: &Cluster) -> Vec<u32> {
        let kept = cluster.store.newest_evidence(10).unwrap().into_iter().rev().map(|row| {
            let server_id: u32 = row.server_id.as_deref().unwrap().parse().unwrap();
            let file: EvidenceFile = serde_json::from_value(row.body).unwrap();
            let signer = cluster.context.members().iter().find(|it| it.server_id == server_id).unwrap().signer;
            assert_eq!(file.verify().unwrap().accused, Accused::Signer(signer));
            server_id
        });
        kept.collect()
    }

    #[tokio::test]
    async fn of_two_members_that_said_two_things_both_are_kept_in_whatever_order_they_come() {
        for order in [[3, 2], [2, 3]] {
            let second = move |signers: &[SignerKey]| {
                let say = |i: u8| (&signers[usize::from(i) - 1], (9, 0, index(i)));
                order.map(say).map(|(key, of)| SignedMessage::sign(&DOMAIN, key, of, one_time_key(2))).to_vec()
            };
            let cluster = cluster(second);
            for server in &cluster.servers {
                server.start();
            }
            let mut carrier = cluster.carrier();
            for _ in 0..3 {
                carrier.round().await.unwrap();
            }
            assert!(matches!(carrier.standing(), Standing::Failed(_)));
            let mut kept = accused(&cluster);
            kept.sort_unstable();
            assert_eq!(kept, [102, 103], "{order:?}");
        }
    }

    #[test]
    fn who_was_killed_between_a_second_message_and_the_evidence_that_it_is_keeps_it_when_it_starts_again() {
        let cluster = cluster(|_| Vec::new());
        for (number, byte) in [(2, 2), (2, 3), (4, 2), (4, 3)] {
            let of = (9, 0, index(number));
            let signer = &cluster.servers[usize::from(number) - 1].signer;
            let message = SignedMessage::sign(&DOMAIN, signer, of, one_time_key(byte));
            cluster.store.post(&cluster.context, &message).unwrap();
        }
        assert_eq!(accused(&cluster), [0; 0], "killed here");
        for _ in 0..2 {
            assert!(matches!(cluster.carrier().standing(), Standing::Failed(_)));
            assert_eq!(accused(&cluster), [102, 104], "and once");
        }
    }

    /// To the Court it is no fault, so that it ends no ceremony, answers no challenge, and takes the place of no other evidence.
    #[test]
    fn two_sets_of_which_one_names_another_committee_end_nothing_and_hide_nothing() {
        let cluster = cluster(|_| Vec::new());
        let mut carrier = cluster.carrier();
        let say = |body| SignedMessage::sign(&DOMAIN, &cluster.servers[1].signer, (9, 0, index(2)), body);
        let set =
            |committee_hash| Body::CommitmentSet(CommitmentSetBody { committee_hash, commitments_hash: B256::ZERO });
        let committees = [B256::repeat_byte(1), cluster.context.committee_hash(), B256::repeat_byte(2)];
        carrier.give(committees.map(|committee_hash| say(set(committee_hash)))).unwrap();
        assert!(matches!(carrier.standing(), Standing::Waiting { .. }), "{:?}", carrier.standing());
        assert_eq!((carrier.reply(index(3), B256::ZERO), cluster.stored().len()), (None, 1));
        carrier.give([2, 3].map(|byte| say(one_time_key(byte)))).unwrap();
        assert!(matches!(carrier.standing(), Standing::Failed(_)));
        assert_eq!(accused(&cluster), [102]);
        let Some(Reply::Fault(proof)) = carrier.reply(index(3), B256::ZERO) else { panic!("no answer") };
        EvidenceFile::new(&DOMAIN, Address::ZERO, *proof).verify().unwrap();
    }

    #[tokio::test]
    async fn messages_that_their_sender_did_not_sign_count_for_nothing() {
        let forged = |signers: &[SignerKey]| {
            let body = |byte| Body::OneTimeKey(OneTimeKeyBody { public_key: vec![byte; 33] });
            vec![
                // Member 1 speaks for member 3; a stranger for member 4; member 2 in another ceremony.
                SignedMessage::sign(&DOMAIN, &signers[0], (9, 0, index(3)), body(3)),
                SignedMessage::sign(&DOMAIN, &SignerKey::random().unwrap(), (9, 0, index(4)), body(4)),
                SignedMessage::sign(&DOMAIN, &signers[1], (9, 1, index(2)), body(5)),
            ]
        };
        let cluster = cluster(forged);
        cluster.servers[0].start();
        let mut carrier = cluster.carrier();
        carrier.round().await.unwrap();
        assert_eq!(cluster.stored().len(), 1, "only its own");
        assert_eq!(cluster.store.newest_evidence(10).unwrap(), vec![]);
        assert!(carrier.said(index(1)).unwrap().rejected.is_some());
    }

    fn secret(member: u8) -> OneTimeSecret {
        OneTimeSecret::from_bytes(&[member; 32]).unwrap()
    }

    fn one_time_keys() -> Vec<[u8; 33]> {
        (1..=N).map(|member| secret(member).public_key()).collect()
    }

    /// What the second member deals to the keys of [`secret`] in that attempt, signed by `signer`.
    fn dealing(attempt: u16, signer: &SignerKey, change: impl FnOnce(&mut DealingBody)) -> SignedMessage {
        dealing_of(2, attempt, signer, change)
    }

    fn dealing_of(
        dealer: u8,
        attempt: u16,
        signer: &SignerKey,
        change: impl FnOnce(&mut DealingBody),
    ) -> SignedMessage {
        let ProtocolDomain { chain_id, key_registry: registry } = DOMAIN;
        let domain = CeremonyDomain { chain_id, registry, key_id: 9, attempt };
        let threshold = Threshold::new(3, N).unwrap();
        let dealing = dkg::deal(&domain, threshold, index(dealer), &secret(dealer), &one_time_keys()).unwrap();
        let mut body = DealingBody {
            one_time_keys_hash: keccak256(one_time_keys().as_flattened()),
            one_time_key: dealing.one_time_key.to_vec(),
            commitments: dealing.commitments_to_wire(),
            proof_of_possession: dealing.proof_of_possession.to_eip2537().to_vec(),
            shares: dealing.shares_to_wire(),
        };
        change(&mut body);
        SignedMessage::sign(&DOMAIN, signer, (9, attempt, index(dealer)), Body::Dealing(body))
    }

    /// The third member opens its share.
    fn complaint(message: &SignedMessage) -> OpenedDealing {
        OpenedDealing {
            dealing: SignedDealing::of(message).unwrap(),
            one_time_keys: one_time_keys().as_flattened().to_vec(),
            recipient: 3,
            secret: *secret(3).to_bytes(),
        }
    }

    fn complains(carrier: &mut Carrier, complaint: OpenedDealing) -> Option<String> {
        let (messages, phase, waiting_for) = (Vec::new(), Phase::Failed, Vec::new());
        let answer = AdvanceResponse { messages, phase, waiting_for, failure: None, complaint: Some(complaint) };
        carrier.take(index(3), Ok(answer)).unwrap();
        carrier.said(index(3)).unwrap().rejected.clone()
    }

    fn flip(body: &mut DealingBody) {
        body.shares[64] ^= 1;
    }

    #[test]
    fn a_complaint_that_convicts_is_kept_as_evidence_and_ends_the_ceremony() {
        let cluster = cluster(|_| Vec::new());
        let mut carrier = cluster.carrier();
        let bad = dealing(0, &cluster.servers[1].signer, flip);
        assert_eq!(complains(&mut carrier, complaint(&bad)), None);
        let Standing::Failed(reason) = carrier.standing() else { panic!("{:?}", carrier.standing()) };
        let says = "member 2 dealt member 3 a share that does not match its commitments; that is kept as evidence and reported to the Court";
        assert!(reason.starts_with(says), "{reason}");
        let evidence = cluster.store.newest_evidence(10).unwrap();
        assert_eq!((evidence.len(), evidence[0].server_id.as_deref()), (1, Some("102")));
        let file: EvidenceFile = serde_json::from_value(evidence[0].body.clone()).unwrap();
        let verified = file.verify().unwrap();
        let signer = cluster.servers[1].signer.address();
        assert_eq!((verified.fault, verified.accused), (Fault::BadDealing, Accused::Signer(signer)));
        assert_eq!(verified.evidence, bad.digest(&DOMAIN));
    }

    #[test]
    fn whoever_else_cheated_the_member_is_found_with_the_secret_that_it_shows() {
        let cluster = cluster(|_| Vec::new());
        let mut carrier = cluster.carrier();
        let bad = dealing(0, &cluster.servers[1].signer, flip);
        for (dealer, message) in [
            (2, bad.clone()),
            (1, dealing_of(1, 0, &cluster.servers[0].signer, |_| ())),
            (4, dealing_of(4, 0, &cluster.servers[3].signer, flip)),
        ] {
            assert_eq!(message.index, index(dealer));
            carrier.accept(message).unwrap().unwrap();
        }
        assert_eq!(complains(&mut carrier, complaint(&bad)), None);
        let evidence = cluster.store.newest_evidence(10).unwrap();
        let found: Vec<_> = evidence.iter().rev().map(|it| it.server_id.as_deref().unwrap()).collect();
        assert_eq!(found, ["102", "104"], "and not the honest first member");
        for row in evidence {
            serde_json::from_value::<EvidenceFile>(row.body).unwrap().verify().unwrap();
        }
    }

    #[test]
    fn a_dealing_that_comes_after_the_complaint_is_opened_too() {
        let cluster = cluster(|_| Vec::new());
        let mut carrier = cluster.carrier();
        let bad = |number: u8| dealing_of(number, 0, &cluster.servers[usize::from(number) - 1].signer, flip);
        assert_eq!(complains(&mut carrier, complaint(&bad(2))), None);
        let honest = dealing_of(1, 0, &cluster.servers[0].signer, |_| ());
        carrier.give([honest, bad(4)]).unwrap();
        let evidence = cluster.store.newest_evidence(10).unwrap();
        let found: Vec<_> = evidence.iter().rev().map(|it| it.server_id.as_deref().unwrap()).collect();
        assert_eq!(found, ["102", "104"], "and not the honest first member");
    }

    /// The second member cheats the first and the fourth the third, which are real; both have revealed their dealings.
    fn two_are_cheated(cluster: &Cluster) -> Vec<SignedMessage> {
        for honest in [1, 3] {
            let party = Party::start(cluster.context.clone(), index(honest), secret(honest));
            *cluster.servers[usize::from(honest) - 1].party.lock().unwrap() = party;
        }
        let mut board = Board::new(cluster.context.clone());
        let relay = |board: &mut Board| {
            for honest in [0, 2, 0, 2] {
                let carried = board.messages().filter(|message| message.round() != Round::Dealing).cloned();
                let request = AdvanceRequest { key_id: 9, attempt: 0, messages: carried.collect() };
                for message in cluster.servers[honest].answer(request).messages {
                    board.accept(message).unwrap();
                }
            }
        };
        type Cheat = fn(&mut DealingBody);
        let cheats: [(u8, Cheat); 2] = [(2, |it| it.shares[31] ^= 1), (4, flip)];
        let signer = |dealer: u8| &cluster.servers[usize::from(dealer) - 1].signer;
        let say = |dealer, body| SignedMessage::sign(&DOMAIN, signer(dealer), (9, 0, index(dealer)), body);
        let dealings = cheats.map(|(dealer, change)| dealing_of(dealer, 0, signer(dealer), change));
        for (dealing, (dealer, _)) in dealings.iter().zip(cheats) {
            let public_key = secret(dealer).public_key().to_vec();
            board.accept(say(dealer, Body::OneTimeKey(OneTimeKeyBody { public_key }))).unwrap();
            let dealing_hash = dealing.digest(&DOMAIN);
            board.accept(say(dealer, Body::DealingCommitment(DealingCommitmentBody { dealing_hash }))).unwrap();
        }
        relay(&mut board);
        let set = board.message(Round::CommitmentSet, index(1)).unwrap().body.clone();
        for (dealer, _) in cheats {
            board.accept(say(dealer, set.clone())).unwrap();
        }
        relay(&mut board);
        for dealing in dealings {
            board.accept(dealing).unwrap();
        }
        board.messages().cloned().collect()
    }

    #[tokio::test]
    async fn a_member_that_comes_after_the_ceremony_failed_still_convicts_whoever_cheated_it() {
        let cluster = cluster(|_| Vec::new());
        let messages = two_are_cheated(&cluster);
        let mut carrier = cluster.carrier();
        carrier.give(messages).unwrap();
        assert!(matches!(carrier.standing(), Standing::Waiting { round: Round::Acknowledgement, .. }));
        let found = || {
            let evidence = cluster.store.newest_evidence(10).unwrap();
            evidence.into_iter().rev().map(|it| it.server_id.unwrap()).collect::<Vec<_>>()
        };
        cluster.servers[0].start();
        let done = Arc::new(tokio::sync::Notify::new());
        let worker = workers::carry(carrier, CeremonyStatus::default(), Duration::from_millis(20), done.clone());
        done.notified().await;
        assert_eq!((worker.state().status.state.as_str(), found()), ("failed", vec!["102".to_owned()]));
        cluster.servers[2].start();
        for _ in 0..600 {
            if found().len() == 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(found(), ["102", "104"]);
    }

    #[test]
    fn a_complaint_that_proves_nothing_against_a_member_is_hearsay() {
        let cluster = cluster(|_| Vec::new());
        let mut carrier = cluster.carrier();
        let signer = &cluster.servers[1].signer;
        let honest = complaint(&dealing(0, signer, |_| ()));
        let lie = OpenedDealing { secret: [9; 32], ..honest.clone() };
        let other_attempt = complaint(&dealing(1, signer, flip));
        let stranger = complaint(&dealing(0, &SignerKey::random().unwrap(), flip));
        for (lie, says) in [
            (honest, "its complaint proves nothing: the share for member 3 is the one that the dealing commits to"),
            (lie, "its complaint proves nothing: the dealing has no share for member 3"),
            (other_attempt, "its complaint is about key 9, attempt 1"),
            (stranger, "its complaint is about a dealing that no member signed"),
        ] {
            let rejected = complains(&mut carrier, lie).unwrap();
            assert!(rejected.starts_with(says), "{rejected}");
        }
        assert!(matches!(carrier.standing(), Standing::Waiting { .. }));
        assert_eq!(cluster.store.newest_evidence(10).unwrap(), vec![]);
    }

    #[test]
    fn a_member_and_a_dealer_that_work_together_do_not_fill_the_disk() {
        let cluster = cluster(|_| Vec::new());
        let mut carrier = cluster.carrier();
        for _ in 0..40 {
            let bad = dealing(0, &cluster.servers[1].signer, flip);
            assert_eq!(complains(&mut carrier, complaint(&bad)), None);
        }
        assert_eq!(cluster.store.newest_evidence(100).unwrap().len(), 32);
    }

    #[test]
    fn a_malformed_dealing_is_found_without_anybodys_help_also_after_a_crash_before_it_was_looked_at() {
        type Change = fn(&mut DealingBody);
        let changes: [(Change, Option<&str>); 5] = [
            (|_| (), None),
            (|it| it.commitments.truncate(256), Some("a field of the wrong length")),
            (
                |it| it.one_time_key = secret(9).public_key().to_vec(),
                Some("a one-time key that is none or not its own"),
            ),
            (|it| it.commitments[..128].fill(0), Some("a commitment that is no point")),
            (|it| it.proof_of_possession.clear(), Some("a proof of possession that is none")),
        ];
        for (change, defect) in changes {
            let cluster = cluster(|_| Vec::new());
            let mut before = cluster.carrier();
            for (number, server) in (1..).zip(&cluster.servers) {
                let public_key = secret(number).public_key().to_vec();
                let body = Body::OneTimeKey(OneTimeKeyBody { public_key });
                let message = SignedMessage::sign(&DOMAIN, &server.signer, (9, 0, index(number)), body);
                before.accept(message).unwrap().unwrap();
            }
            before.accept(dealing(0, &cluster.servers[1].signer, change)).unwrap().unwrap();
            assert_eq!(cluster.store.newest_evidence(10).unwrap(), vec![], "killed here");
            let carrier = cluster.carrier();
            let evidence = cluster.store.newest_evidence(10).unwrap();
            let Some(defect) = defect else {
                assert_eq!((evidence.len(), matches!(carrier.standing(), Standing::Waiting { .. })), (0, true));
                continue;
            };
            let Standing::Failed(reason) = carrier.standing() else { panic!("{:?}", carrier.standing()) };
            assert!(reason.starts_with(&format!("member 2 made a malformed dealing, with {defect}")), "{reason}");
            let file: EvidenceFile = serde_json::from_value(evidence[0].body.clone()).unwrap();
            let signer = cluster.servers[1].signer.address();
            let dealer = Accused::Dealer { signer, threshold: 3, members: N };
            assert_eq!(file.verify().unwrap().accused, dealer);
            assert_eq!(evidence[0].server_id.as_deref(), Some("102"));
        }
    }

    #[test]
    fn a_challenge_is_answered_with_the_acknowledgement_or_with_any_fault_that_explains_why_there_is_none() {
        type Spoils = (&'static str, fn(&Cluster, &mut Carrier));
        let say =
            |cluster: &Cluster, body| SignedMessage::sign(&DOMAIN, &cluster.servers[0].signer, (9, 0, index(1)), body);
        let faults: [Spoils; 4] = [
            ("nothing", |_, _| ()),
            ("bad_dealing", |cluster, carrier| {
                let bad = dealing(0, &cluster.servers[1].signer, flip);
                assert_eq!(complains(carrier, complaint(&bad)), None);
            }),
            ("malformed_dealing", |cluster, carrier| {
                carrier.give([dealing(0, &cluster.servers[1].signer, |it| it.shares.clear())]).unwrap();
            }),
            ("ceremony_equivocation", |cluster, carrier| {
                let say = |body| SignedMessage::sign(&DOMAIN, &cluster.servers[1].signer, (9, 0, index(2)), body);
                let commitment = |byte| {
                    let dealing_hash = B256::repeat_byte(byte);
                    say(Body::DealingCommitment(DealingCommitmentBody { dealing_hash }))
                };
                carrier.give([commitment(1), commitment(2)]).unwrap();
            }),
        ];
        for (fault, happens) in faults {
            let cluster = cluster(|_| Vec::new());
            let mut carrier = cluster.carrier();
            happens(&cluster, &mut carrier);
            let body = AcknowledgementBody {
                threshold: 3,
                points_hash: B256::ZERO,
                committee_hash: cluster.context.committee_hash(),
                dealings_digest: B256::ZERO,
            };
            let given = say(&cluster, Body::Acknowledgement(body));
            let digest = given.digest(&DOMAIN);
            assert_eq!(carrier.reply(index(2), digest), None, "its own fault is no excuse");
            let name = match carrier.reply(index(1), digest) {
                None => "nothing",
                Some(Reply::Fault(proof)) => {
                    let file = EvidenceFile::new(&DOMAIN, Address::ZERO, *proof);
                    file.verify().unwrap().fault.name()
                }
                Some(Reply::Acknowledgement(_)) => "an acknowledgement",
            };
            assert_eq!(name, fault);
            // Whatever else is known, what was asked for ends it at the least cost.
            carrier.give([given.clone()]).unwrap();
            assert_eq!(carrier.reply(index(1), digest), Some(Reply::Acknowledgement(given.signature)));
            assert_ne!(
                carrier.reply(index(3), digest),
                Some(Reply::Acknowledgement(given.signature)),
                "another member"
            );
            assert_ne!(
                carrier.reply(index(1), B256::ZERO),
                Some(Reply::Acknowledgement(given.signature)),
                "another key"
            );
        }
    }

    #[test]
    fn a_dealing_that_is_not_the_one_committed_to_is_kept_as_evidence_and_answers_a_challenge() {
        let cluster = cluster(|_| Vec::new());
        let mut carrier = cluster.carrier();
        let signer = &cluster.servers[1].signer;
        let dealing_hash = B256::repeat_byte(1);
        let body = Body::DealingCommitment(DealingCommitmentBody { dealing_hash });
        let commitment = SignedMessage::sign(&DOMAIN, signer, (9, 0, index(2)), body);
        carrier.give([commitment, dealing(0, signer, |_| ())]).unwrap();
        let Standing::Failed(reason) = carrier.standing() else { panic!("{:?}", carrier.standing()) };
        assert!(reason.starts_with("member 2 revealed another dealing than it had committed to"), "{reason}");
        carrier.give([]).unwrap();
        let evidence = cluster.store.newest_evidence(10).unwrap();
        assert_eq!(evidence.len(), 1, "once");
        let file: EvidenceFile = serde_json::from_value(evidence[0].body.clone()).unwrap();
        let verified = file.verify().unwrap();
        assert_eq!(
            (verified.fault, verified.accused),
            (Fault::CeremonyEquivocation, Accused::Signer(signer.address()))
        );
        assert_eq!(carrier.reply(index(3), B256::ZERO), Some(Reply::Fault(Box::new(file.proof))));
    }

    #[tokio::test]
    async fn who_gets_all_dealings_from_the_chain_alone_still_gets_the_acknowledgement() {
        let cluster = cluster(|_| Vec::new());
        for server in &cluster.servers {
            server.start();
        }
        // Everything but acknowledgements.
        let mut censoring = cluster.carrier();
        while !censoring.board.missing(Round::Dealing).is_empty() {
            censoring.round().await.unwrap();
        }
        let dealings: Vec<_> =
            (1..=N).map(|it| censoring.board.message(Round::Dealing, index(it)).unwrap().clone()).collect();
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("relayer.sqlite"), &SCHEMA).unwrap();
        let mut carrier = Carrier {
            store: Store::new(Arc::new(database)),
            board: Board::new(cluster.context.clone()),
            ..cluster.carrier()
        };
        carrier.members.retain(|member| member.index == index(3));
        let (keys, digest) = recompute_keys(cluster.context.clone(), dealings.clone()).unwrap();
        let asked = Body::Acknowledgement(cluster.context.acknowledgement(&keys, digest));
        let asked = SignedMessage::sign(&DOMAIN, &cluster.servers[2].signer, (9, 0, index(3)), asked);
        carrier.give(dealings).unwrap();
        assert_eq!(carrier.reply(index(3), asked.digest(&DOMAIN)), None);
        carrier.round().await.unwrap();
        let Some(Reply::Acknowledgement(signature)) = carrier.reply(index(3), asked.digest(&DOMAIN)) else {
            panic!("{:?}", carrier.said(index(3)))
        };
        let given = SignedMessage { signature, ..asked };
        assert_eq!(given.recover(&DOMAIN).unwrap(), cluster.servers[2].signer.address());
        // Another relayer, which the member never talks to, reads the signature on the chain.
        assert!(censoring.board.missing(Round::Acknowledgement).contains(&index(3)));
        censoring.give_acknowledgement(index(3), [7; 65]).unwrap();
        assert!(censoring.board.missing(Round::Acknowledgement).contains(&index(3)), "it is not the member's");
        censoring.give_acknowledgement(index(3), signature).unwrap();
        assert!(!censoring.board.missing(Round::Acknowledgement).contains(&index(3)));
        assert_eq!(censoring.board.message(Round::Acknowledgement, index(3)), Some(&given));
    }

    /// From now on nobody answers for the third member.
    fn down(cluster: &Cluster, carrier: &mut Carrier) -> String {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let fingerprint = cluster.servers[2].identity.fingerprint();
        let peer = Peer { server_id: 103, endpoint: nobody.to_string(), fingerprint };
        let identity = Identity::generate("relayer").unwrap();
        carrier.members[2].client = ServerClient::new(&identity, peer, Patience::default());
        nobody.to_string()
    }

    #[tokio::test]
    async fn a_member_that_is_down_in_any_round_is_named_with_that_round_since_when_and_what_to_check() {
        const BEGUN: u64 = 1_700_000_000;
        for (position, round) in Round::ALL.into_iter().enumerate() {
            let cluster = cluster(|_| Vec::new());
            for server in &cluster.servers {
                server.start();
            }
            let mut carrier = cluster.carrier().begun_at(Some(BEGUN));
            for _ in 0..position {
                carrier.round().await.unwrap();
            }
            let endpoint = down(&cluster, &mut carrier);
            for _ in 0..3 {
                carrier.round().await.unwrap();
            }
            let rounds = carrier.rounds();
            let waiting: Vec<&str> =
                rounds.iter().filter(|it| !it.waiting_for.is_empty()).map(|it| it.round.as_str()).collect();
            assert_eq!(waiting, [round.name()], "{rounds:?}");
            let waits = &rounds[position];
            assert_eq!((waits.waiting_for.len(), waits.came.as_str(), &waits.complete), (1, "3", &None));
            let member = &waits.waiting_for[0];
            assert_eq!((member.server_id.as_str(), member.member.as_str()), ("103", "3"));
            assert_eq!((&member.endpoint, member.trouble.as_deref()), (&endpoint, Some("refused")));
            assert!(member.why.contains("refuses the connection"), "{}", member.why);
            assert!(member.check.contains("systemctl status stkr-server"), "{}", member.check);
            // Since the round before was complete, which a relayer that starts again still knows.
            let since = match position {
                0 => Some(BEGUN.to_string()),
                _ => rounds[position - 1].complete.clone(),
            };
            assert!(since.is_some(), "{rounds:?}");
            assert_eq!(waits.since, since, "{round}");
            assert!(carrier.is_stalled(BEGUN));
            let reborn = cluster.carrier().begun_at(Some(BEGUN)).rounds();
            assert_eq!(reborn[position].since, since, "{round}");
        }
    }

    #[tokio::test]
    async fn a_member_that_nothing_is_known_against_stalls_a_ceremony_after_a_minute_and_not_before() {
        let cluster = cluster(|_| Vec::new());
        let carrier = cluster.carrier().begun_at(Some(1_000));
        assert!(!carrier.is_stalled(1_000 + STALLED_AFTER - 1) && carrier.is_stalled(1_000 + STALLED_AFTER));
        let waits = &carrier.rounds()[0].waiting_for;
        assert_eq!((waits.len(), waits[0].trouble.as_ref()), (4, None));
        assert!(!cluster.carrier().is_stalled(u64::MAX), "nobody knows since when");
    }

    #[test]
    fn what_an_operator_should_check_follows_from_what_is_known_of_its_server() {
        let host = || "h:1".to_owned();
        let problem = |status, what_to_do: &str| {
            let (reason, what_to_do) = ("no".to_owned(), what_to_do.to_owned());
            ClientError::Problem { host: host(), status, transient: true, reason, what_to_do }
        };
        let fault = stkr_node::tls::HandshakeFault::WrongFingerprint {
            expected: stkr_node::tls::Fingerprint([1; 32]),
            presented: stkr_node::tls::Fingerprint([2; 32]),
        };
        let unreachable = |error| Said { unreachable: Some(error), ..Said::default() };
        let lost = || Some("this server's database was created at block 9".to_owned());
        let cases = [
            (unreachable(ClientError::Handshake { host: host(), fault }), "wrong_fingerprint", "TLS certificate"),
            (unreachable(ClientError::Timeout { host: host(), seconds: 20 }), "timeout", "disk"),
            (unreachable(problem(409, "")), "problem", "do they finalise"),
            (unreachable(problem(503, "look at the disk")), "problem", "it says: look at the disk"),
            (unreachable(ClientError::BadAnswer { host: host(), reason: String::new() }), "bad_answer", "its version"),
            (Said { failure: lost(), ..Said::default() }, "gave_up", "gave it up for good"),
            (Said { rejected: lost(), ..Said::default() }, "rejected", "its signer key"),
        ];
        for (said, word, says) in cases {
            assert_eq!(kind(&said), Some(word));
            assert!(check(&said).contains(says), "{says}: {}", check(&said));
        }
        let waits = Said { waiting_for: vec![index(2), index(4)], ..Said::default() };
        assert!(kind(&waits).is_none() && check(&waits).ends_with("it lacks messages of members 2, 4"));
        assert!(check(&Said::default()).contains("its RPC endpoints"));
    }

    #[test]
    fn another_committee_under_the_same_key_and_attempt_has_a_bulletin_of_its_own() {
        let (one, other) = (cluster(|_| Vec::new()), cluster(|_| Vec::new()));
        let body = Body::OneTimeKey(OneTimeKeyBody { public_key: vec![2; 33] });
        let message = SignedMessage::sign(&DOMAIN, &one.servers[0].signer, (9, 0, index(1)), body);
        assert!(one.store.post(&one.context, &message).unwrap());
        assert!(!one.store.post(&one.context, &message).unwrap(), "the same again is no news");
        assert_eq!(one.store.messages(9, 0, other.context.committee_hash()).unwrap(), vec![]);
        assert_eq!(one.store.last_committee(9, 0).unwrap(), Some(one.context.committee_hash()));
        assert_eq!(one.store.last_committee(9, 1).unwrap(), None::<B256>);
    }
}
