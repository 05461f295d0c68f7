//! Carries one ceremony: hands every member all messages there are and collects what they answer.
//!
//! The relayer is a postman with a notice board. A message counts if its sender signed it, whoever handed it over; what a
//! server says beside its messages (phase, failure) is hearsay, shown to people and believed by nobody. The one thing
//! decided here is that the transcript is complete, and that the chain checks again.

use std::collections::BTreeMap;

use futures::future::join_all;
use stkr_core::ShareIndex;
use stkr_node::client::{ClientError, ServerClient, printable};
use stkr_protocol::api::{AdvanceRequest, AdvanceResponse};
use stkr_protocol::ceremony::{Accepted, Board, Context, Phase, Transcript, TranscriptError};
use stkr_protocol::messages::{Round, SignedMessage};

use crate::store::{Store, StoreError};

/// A member of the committee and how to reach it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Share index.
    pub index: ShareIndex,
    /// Server id.
    pub server_id: u32,
    /// Its client, or why there can be none.
    pub client: Result<ServerClient, ClientError>,
}

/// What a member said last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Where it claims to stand.
    pub phase: Option<Phase>,
    /// Why it claims that the ceremony failed.
    pub failure: Option<String>,
    /// Why it could not be asked.
    pub unreachable: Option<String>,
    /// Why a message it handed over does not count.
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
    members: Vec<Member>,
    store: Store,
    said: BTreeMap<ShareIndex, Said>,
}

impl Carrier {
    /// Takes a ceremony up where the stored bulletin left it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(context: Context, members: Vec<Member>, store: Store) -> Result<Self, StoreError> {
        let stored = store.messages(context.key_id(), context.attempt(), context.committee_hash())?;
        let mut board = Board::new(context);
        for message in stored {
            // Every stored message was accepted before; one that no longer is was tampered with and counts for nothing.
            let _ = board.accept(message);
        }
        Ok(Self { board, members, store, said: BTreeMap::new() })
    }

    /// Visits every member once, all at the same time. `true` if anything new came.
    ///
    /// Members that have acknowledged are not visited any more: they have their share and owe nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn round(&mut self) -> Result<bool, StoreError> {
        let context = self.board.context();
        let request = AdvanceRequest {
            key_id: context.key_id(),
            attempt: context.attempt(),
            messages: self.board.messages().cloned().collect(),
        };
        let owing = self.board.missing(Round::Acknowledgement);
        let visits = self.members.iter().filter(|member| owing.contains(&member.index)).map(|member| {
            let request = &request;
            async move {
                let answer = match &member.client {
                    Ok(client) => client.advance(request).await,
                    Err(error) => Err(error.clone()),
                };
                (member.index, answer)
            }
        });
        let mut news = false;
        for (index, answer) in join_all(visits).await {
            news |= self.take(index, answer)?;
        }
        Ok(news)
    }

    fn take(&mut self, index: ShareIndex, answer: Result<AdvanceResponse, ClientError>) -> Result<bool, StoreError> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.said.entry(index).or_default().unreachable = Some(error.to_string());
                return Ok(false);
            }
        };
        let mut said = Said { phase: Some(answer.phase), ..Said::default() };
        said.failure = answer.failure.map(|failure| {
            let culprit = failure.culprit.map_or_else(String::new, |culprit| format!("member {}: ", culprit.get()));
            printable(&format!("{culprit}{} {}", failure.reason, failure.what_to_do))
        });
        let mut news = false;
        for message in answer.messages {
            match self.accept(message)? {
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
                Ok(Ok(true))
            }
            Ok(Accepted::Evidence) => {
                self.store.post(self.board.context(), &message)?;
                self.keep_equivocation(message.index)?;
                Ok(Ok(true))
            }
        }
    }

    fn keep_equivocation(&self, index: ShareIndex) -> Result<(), StoreError> {
        let context = self.board.context();
        let Some(member) = context.member(index) else { return Ok(()) };
        let proof = self.board.equivocation().filter(|(culprit, _)| *culprit == index);
        let Some((_, equivocation)) = proof else { return Ok(()) };
        let both = [&equivocation.first, &equivocation.second];
        self.store.keep_evidence(context.key_id(), member.server_id, "equivocation", &both)?;
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
        for round in Round::ALL {
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
        let Standing::Waiting { round, missing } = self.standing() else { return Vec::new() };
        let seats = self.members.iter().filter(|member| missing.contains(&member.index));
        seats
            .map(|member| {
                let why = self.why(member.index).unwrap_or_else(|| format!("has not sent its {round} message yet"));
                format!("server {} (member {}): {why}", member.server_id, member.index.get())
            })
            .collect()
    }

    fn why(&self, index: ShareIndex) -> Option<String> {
        let said = self.said.get(&index)?;
        let failed = said.failure.as_ref().map(|failure| format!("says that the ceremony failed: {failure}"));
        said.unreachable.clone().or(failed).or_else(|| said.rejected.clone())
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
