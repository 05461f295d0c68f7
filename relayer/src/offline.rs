//! The counter for members without network: whoever carries files gets their requests here and hands in their answers.
//!
//! It is the relayer's usual work with people for wires, and it has no more authority by it. A request holds what anybody could put
//! together from the chain and the bulletin, and proves itself to who reads it; of an answer only messages count that a member
//! signed. One file is worked on at a time, the rest is told to come back: each costs questions to the RPC endpoint.

use alloy::primitives::B256;
use stkr_chain::facts::change::{self, ChangeFacts};
use stkr_chain::facts::{self, CeremonyFacts};
use stkr_chain::reader::committee_hash;
use stkr_chain::types::{KeyState, ServerKind};
use stkr_chain::{ChainError, ChainReader, LiveKey};
use stkr_core::Threshold;
use stkr_protocol::ProtocolDomain;
use stkr_protocol::ceremony::{Accepted, Board, Context, MemberId};
use stkr_protocol::collection::{Answer, Collection, Committee, CommitteeError};
use stkr_protocol::evidence::{EvidenceFile, Proof};
use stkr_protocol::offline::{
    About, AboutChange, AnswerFile, ChangeAnswerFile, ChangeFile, MAX_CHANGES, Mark, RequestFile, VERSION,
};
use stkr_protocol::sign::{Asked, Change, ChangeRequest, SignResponse};
use tokio::sync::Semaphore;

use crate::store::{Store, StoreError};

/// Why nothing is given or taken.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// There is no such ceremony, or the server has no part in it.
    #[error("{0}")]
    NotThere(String),
    /// The answer is not what its server signed.
    #[error("the answer does not count: {0}")]
    Rejected(String),
    /// Another file is being worked on.
    #[error("another file is being worked on")]
    Busy,
    /// The chain cannot be asked.
    #[error("the chain cannot be asked: {0}")]
    Unreachable(ChainError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ChainError> for OfflineError {
    fn from(error: ChainError) -> Self {
        match error {
            ChainError::NotFound(what) => Self::NotThere(what),
            error => Self::Unreachable(error),
        }
    }
}

/// What became of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// Messages that were new here.
    pub new: usize,
    /// Evidence in it, for the desk to judge.
    pub complaint: Option<EvidenceFile>,
}

/// The counter.
#[derive(Debug)]
pub struct Counter {
    store: Store,
    reader: ChainReader,
    one_at_a_time: Semaphore,
}

/// A ceremony that runs, as the newest block says.
struct Running {
    context: Context,
    committee: B256,
}

impl Counter {
    /// Reads the bulletin in `store`, and the chain through `reader`.
    #[must_use]
    pub fn new(store: Store, reader: ChainReader) -> Self {
        Self { store, reader, one_at_a_time: Semaphore::new(1) }
    }

    /// What `server` is to be brought for the ceremony of `key_id`.
    ///
    /// # Errors
    /// [`OfflineError`]; [`OfflineError::NotThere`] also while the draw is not final.
    pub async fn request(&self, server: u32, key_id: u64) -> Result<RequestFile<CeremonyFacts>, OfflineError> {
        let _turn = self.one_at_a_time.try_acquire().map_err(|_| OfflineError::Busy)?;
        let running = self.running(key_id).await?;
        let context = &running.context;
        self.check_member(context, server).await?;
        let facts = self.facts(key_id, context.committee()).await?;
        let messages = self.store.messages(key_id, context.attempt(), context.committee_hash())?;
        let about = About {
            chain_id: context.domain().chain_id,
            key_registry: context.domain().key_registry,
            server,
            key_id,
            attempt: context.attempt(),
            committee: running.committee,
        };
        Ok(RequestFile { r#type: Mark::new(), version: VERSION, about, messages, facts })
    }

    /// Puts on the bulletin what an offline member said.
    ///
    /// # Errors
    /// [`OfflineError`]: nothing was kept.
    pub async fn take(&self, answer: AnswerFile) -> Result<Taken, OfflineError> {
        let _turn = self.one_at_a_time.try_acquire().map_err(|_| OfflineError::Busy)?;
        let (about, deployment) = (answer.about, self.reader.deployment());
        if about.domain() != deployment.protocol_domain() {
            return Err(OfflineError::Rejected(format!(
                "it is for chain {}, KeyRegistry {}",
                about.chain_id, about.key_registry
            )));
        }
        let running = self.running(about.key_id).await?;
        let context = running.context;
        if (about.attempt, about.committee) != (context.attempt(), running.committee) {
            let ours = format!("attempt {} runs, with the committee that was drawn for it", context.attempt());
            return Err(OfflineError::NotThere(format!("it is of attempt {}; {ours}", about.attempt)));
        }
        let signer = answer.signer().map_err(|error| OfflineError::Rejected(error.to_string()))?;
        let author = context.members().iter().find(|member| member.signer == signer).map(|member| member.server_id);
        if author != Some(about.server) {
            return Err(OfflineError::Rejected(format!("{signer} signed it, who is not server {}", about.server)));
        }
        let mut board = Board::new(context.clone());
        for message in self.store.messages(about.key_id, about.attempt, context.committee_hash())? {
            // Every stored message was accepted before.
            let _ = board.accept(message);
        }
        let mut kept = Vec::new();
        for message in answer.response.messages {
            match board.accept(message.clone()) {
                Ok(Accepted::New | Accepted::Evidence) => kept.push(message),
                Ok(Accepted::Known) => {}
                Err(error) => return Err(OfflineError::Rejected(error.to_string())),
            }
        }
        for message in &kept {
            self.store.post(&context, message)?;
        }
        let complaint = answer
            .response
            .complaint
            .map(|opened| EvidenceFile::new(context.domain(), deployment.court, Proof::BadDealing(opened)));
        Ok(Taken { new: kept.len(), complaint })
    }

    /// What `server` is to be brought for the ordered changes of credentials that `changes` names, of withdrawal key `key_id`: the first of
    /// them, as many as a file holds.
    ///
    /// # Errors
    /// [`OfflineError`]; [`OfflineError::NotThere`] also while an order is not final.
    pub async fn change_request(
        &self,
        server: u32,
        key_id: u64,
        mut changes: Vec<Change>,
    ) -> Result<ChangeFile<ChangeFacts>, OfflineError> {
        let _turn = self.one_at_a_time.try_acquire().map_err(|_| OfflineError::Busy)?;
        let live = self.reader.live_key(key_id).await?;
        if !live.members.iter().any(|member| member.server_id == server) {
            return Err(OfflineError::NotThere(format!(
                "server {server} is no member of the committee of key {key_id}"
            )));
        }
        self.check_offline(server).await?;
        changes.truncate(MAX_CHANGES);
        if changes.is_empty() {
            return Err(OfflineError::NotThere(format!(
                "no change of credentials of key {key_id} waits for server {server}"
            )));
        }
        let roots: Vec<B256> = changes.iter().map(Change::signing_root).collect();
        let facts = self.change_facts(&live, &roots).await?;
        let domain = self.reader.deployment().protocol_domain();
        let about = AboutChange { chain_id: domain.chain_id, key_registry: domain.key_registry, server, key_id };
        Ok(ChangeFile { r#type: Mark::new(), version: VERSION, about, changes, facts })
    }

    /// Keeps what an offline member signed of changes that the chain ordered; how many partials were new, and evidence among them.
    ///
    /// # Errors
    /// [`OfflineError`]: what came before the part that does not count was kept.
    pub async fn take_changes(&self, answer: ChangeAnswerFile) -> Result<Taken, OfflineError> {
        let _turn = self.one_at_a_time.try_acquire().map_err(|_| OfflineError::Busy)?;
        let (about, deployment) = (answer.about, self.reader.deployment());
        if about.domain() != deployment.protocol_domain() {
            return Err(OfflineError::Rejected(format!(
                "it is for chain {}, KeyRegistry {}",
                about.chain_id, about.key_registry
            )));
        }
        let live = self.reader.live_key(about.key_id).await?;
        let mut taken = Taken { new: 0, complaint: None };
        for part in answer.answers {
            let asked: Asked = ChangeRequest::new(about.key_id, part.change).into();
            let root = asked.subject().signing_root();
            if !self.reader.is_ordered(about.key_id, root).await? {
                return Err(OfflineError::NotThere(format!("key {} was not ordered to sign {root}", about.key_id)));
            }
            let (index, committee) = (part.signed.index, committee_of(deployment.protocol_domain(), &live)?);
            // All members are suspects here: a partial counts only once it was verified.
            let mut collection = Collection::new(asked, committee.clone(), committee.keys().threshold().indices());
            match collection.on_response(index, SignResponse::Signed(part.signed.clone())) {
                Answer::Counted | Answer::Repeated => {
                    taken.new += usize::from(self.store.keep_offline_partial(about.key_id, root, &part.signed)?);
                }
                Answer::Wrong(evidence) => {
                    taken.complaint = EvidenceFile::of_partial(&committee, deployment.court, &evidence);
                    return Ok(taken);
                }
                Answer::NoAnswer(reason) => return Err(OfflineError::Rejected(reason.to_string())),
                Answer::Refused(refusal) => return Err(OfflineError::Rejected(refusal.to_string())),
            }
        }
        Ok(taken)
    }

    async fn change_facts(&self, live: &LiveKey, roots: &[B256]) -> Result<ChangeFacts, OfflineError> {
        let mut last = ChainError::TooFewEndpoints { configured: 0, needed: 1 };
        for endpoint in self.reader.endpoints() {
            match change::fetch(endpoint.provider(), self.reader.deployment(), live, roots).await {
                Err(error) if error.is_transient() => last = error,
                found => return Ok(found?),
            }
        }
        Err(last.into())
    }

    async fn running(&self, key_id: u64) -> Result<Running, OfflineError> {
        let key = self.reader.key(key_id).await?;
        if key.state != KeyState::Drawn {
            return Err(OfflineError::NotThere(format!("key {key_id} is {} and has no ceremony", key.state)));
        }
        let committee = self.reader.committee(key_id).await?;
        let changed = || OfflineError::NotThere(format!("the ceremony of key {key_id} just changed"));
        if committee_hash(&committee.members) != key.commitment {
            return Err(changed());
        }
        let mut members = Vec::with_capacity(committee.members.len());
        for id in &committee.members {
            let server = self.reader.server(*id).await?;
            members.push(MemberId { server_id: *id, signer: server.signer });
        }
        let threshold = Threshold::new(key.threshold, key.members).map_err(|_| changed())?;
        let domain = self.reader.deployment().protocol_domain();
        let context = Context::new(domain, key_id, key.attempt, threshold, members).map_err(|_| changed())?;
        Ok(Running { context, committee: key.commitment })
    }

    async fn check_member(&self, context: &Context, server: u32) -> Result<(), OfflineError> {
        if !context.members().iter().any(|member| member.server_id == server) {
            let key = context.key_id();
            return Err(OfflineError::NotThere(format!("server {server} is no member of the committee of key {key}")));
        }
        self.check_offline(server).await
    }

    async fn check_offline(&self, server: u32) -> Result<(), OfflineError> {
        match self.reader.server(server).await?.kind {
            ServerKind::Offline => Ok(()),
            ServerKind::Online => Err(OfflineError::NotThere(format!("server {server} is online, and takes no files"))),
        }
    }

    async fn facts(&self, key_id: u64, committee: Vec<u32>) -> Result<CeremonyFacts, OfflineError> {
        let mut last = ChainError::TooFewEndpoints { configured: 0, needed: 1 };
        for endpoint in self.reader.endpoints() {
            let found = facts::fetch(endpoint.provider(), self.reader.deployment(), key_id, committee.clone()).await;
            match found {
                Err(error) if error.is_transient() => last = error,
                found => return Ok(found?),
            }
        }
        Err(last.into())
    }
}

fn committee_of(domain: ProtocolDomain, live: &LiveKey) -> Result<Committee, OfflineError> {
    let members = live.members.iter().map(|it| MemberId { server_id: it.server_id, signer: it.signer }).collect();
    let rejected = |error: CommitteeError| OfflineError::Rejected(error.to_string());
    Committee::new(domain, 0, live.keys.clone(), members).map_err(rejected)
}
