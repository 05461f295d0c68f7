//! The counter for members without network: whoever carries files gets their requests here and hands in their answers.
//!
//! It is the relayer's usual work with people for wires, and it has no more authority by it. A request holds what anybody could put
//! together from the chain and the bulletin, and proves itself to who reads it; of an answer only messages count that a member
//! signed. One file is worked on at a time ([`crate::turns`]): each costs questions to the RPC endpoint.

use std::net::IpAddr;

use alloy::primitives::B256;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use stkr_chain::facts::change::{self, ChangeFacts};
use stkr_chain::facts::committee::{self, CommitteeFacts};
use stkr_chain::facts::reshare::{self, ReshareFacts};
use stkr_chain::facts::{self, CeremonyFacts};
use stkr_chain::reader::committee_hash;
use stkr_chain::types::{KeyState, ServerKind};
use stkr_chain::{ChainError, ChainReader, Endpoint, KeyCommittees};
use stkr_core::Threshold;
use stkr_protocol::ProtocolDomain;
use stkr_protocol::ceremony::{Accepted, Board, Context, MemberId};
use stkr_protocol::collection::{Answer, Collection, Committee};
use stkr_protocol::evidence::{EvidenceFile, Proof};
use stkr_protocol::offline::reshare::{AboutReshare, CommitteesFile, ReshareAnswerFile, ReshareRequestFile};
use stkr_protocol::offline::{
    About, AboutKey, AnswerFile, ChangeAnswerFile, ChangeFile, MAX_CHANGES, Mark, RequestFile, VERSION,
};
use stkr_protocol::reshare::evidence::{OpenedReshareDealing, Proof as ReshareProof, ReshareEvidence};
use stkr_protocol::reshare::{self as protocol, Plan};
use stkr_protocol::sign::{Asked, Change, ChangeRequest, SignResponse};

use crate::store::{Store, StoreError};
use crate::turns::{NoTurn, Turn, Turns};

/// Questions about one file that an RPC endpoint is asked at once.
const QUESTIONS_AT_ONCE: usize = 16;

/// Why nothing is given or taken.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// There is no such ceremony, or the server has no part in it.
    #[error("{0}")]
    NotThere(String),
    /// The answer is not what its server signed.
    #[error("the answer does not count: {0}")]
    Rejected(String),
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
    turns: Turns,
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
        Self { store, reader, turns: Turns::default() }
    }

    /// The turn of a request from an address, without which nothing is worked on here.
    ///
    /// # Errors
    /// [`NoTurn`].
    pub async fn turn(&self, from: IpAddr) -> Result<Turn, NoTurn> {
        self.turns.of(from).await
    }

    /// What `server` is to be brought for the ceremony of `key_id`.
    ///
    /// # Errors
    /// [`OfflineError`]; [`OfflineError::NotThere`] also while the draw is not final.
    pub async fn request(
        &self,
        _turn: &Turn,
        server: u32,
        key_id: u64,
    ) -> Result<RequestFile<CeremonyFacts>, OfflineError> {
        let running = self.running(key_id).await?;
        let context = &running.context;
        self.check_member(context, server).await?;
        let (deployment, committee) = (self.reader.deployment(), context.committee());
        let facts = self.ask(|it| facts::fetch(it.provider(), deployment, key_id, committee.clone())).await?;
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
    pub async fn take(&self, _turn: &Turn, answer: AnswerFile) -> Result<Taken, OfflineError> {
        let (about, deployment) = (answer.about, self.reader.deployment());
        self.check_domain(&about.domain())?;
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
        let kept = new_ones(answer.response.messages, |message| board.accept(message))?;
        for message in &kept {
            self.store.post(&context, message)?;
        }
        let complaint = answer
            .response
            .complaint
            .map(|opened| EvidenceFile::new(context.domain(), deployment.court, Proof::BadDealing(opened)));
        Ok(Taken { new: kept.len(), complaint })
    }

    /// What `server` is to be brought for the reshare of `key_id`, as an old member that deals, a new one, or both.
    ///
    /// # Errors
    /// [`OfflineError`]; [`OfflineError::NotThere`] also while the draw is not final.
    pub async fn reshare_request(
        &self,
        _turn: &Turn,
        server: u32,
        key_id: u64,
    ) -> Result<ReshareRequestFile<ReshareFacts>, OfflineError> {
        let shown = self.shown(key_id).await?;
        let (plan, draft) = reshare_of(&shown)?;
        if plan.dealer_of(server).is_none() && plan.member_of(server).is_none() {
            return Err(OfflineError::NotThere(format!("server {server} has no part in the reshare of {}", plan.id())));
        }
        self.check_offline(server).await?;
        let deployment = self.reader.deployment();
        let facts = self.ask(|it| reshare::fetch(it.provider(), deployment, &shown)).await?;
        let messages = self.store.reshare_messages(plan.id(), draft)?.into_iter().map(|(message, _)| message);
        let (id, domain) = (plan.id(), plan.domain());
        let about = AboutReshare {
            chain_id: domain.chain_id,
            key_registry: domain.key_registry,
            server,
            key_id,
            committee_epoch: id.committee_epoch,
            attempt: id.attempt,
            draft,
        };
        let messages = messages.collect();
        Ok(ReshareRequestFile { r#type: Mark::new(), version: VERSION, about, messages, facts })
    }

    /// Puts on the bulletin of a reshare what an offline server said in it.
    ///
    /// # Errors
    /// [`OfflineError`]: nothing was kept.
    pub async fn take_reshare(&self, _turn: &Turn, answer: ReshareAnswerFile) -> Result<Taken, OfflineError> {
        let about = answer.about;
        self.check_domain(&about.domain())?;
        let shown = self.shown(about.key_id).await?;
        let (plan, draft) = reshare_of(&shown)?;
        if (about.id(), about.draft) != (plan.id(), draft) {
            let ours = format!("{} runs, with the seats and dealers that were drawn for it", plan.id());
            return Err(OfflineError::NotThere(format!("it is of {}; {ours}", about.id())));
        }
        let signer = answer.signer().map_err(|error| OfflineError::Rejected(error.to_string()))?;
        let dealer = plan.dealer_of(about.server).map(protocol::Sender::Dealer);
        let member = plan.member_of(about.server).map(protocol::Sender::Member);
        if !dealer.into_iter().chain(member).any(|part| plan.signer(part) == Some(signer)) {
            return Err(OfflineError::Rejected(format!("{signer} signed it, who is not server {}", about.server)));
        }
        let mut board = protocol::Board::new(plan.clone());
        for (message, _) in self.store.reshare_messages(plan.id(), draft)? {
            // Every stored message was accepted before.
            let _ = board.accept(message);
        }
        let kept = new_ones(answer.response.messages, |message| board.accept(message))?;
        for message in &kept {
            self.store.post_reshare(plan.domain(), draft, message)?;
        }
        if let Some(opened) = answer.response.complaint {
            self.keep_complaint(&plan, opened)?;
        }
        Ok(Taken { new: kept.len(), complaint: None })
    }

    /// Keeps what convicts a dealer of this attempt; whoever carries the reshare finds it in the store.
    fn keep_complaint(&self, plan: &Plan, opened: OpenedReshareDealing) -> Result<(), OfflineError> {
        let sender = opened.dealing.sender();
        let file = ReshareEvidence::new(plan.domain(), ReshareProof::BadReshareDealing(opened));
        let verified = file.verify().map_err(|error| OfflineError::Rejected(format!("its complaint: {error}")))?;
        let accused = plan.old().keys().threshold().indices().zip(plan.old().members());
        let mut accused = accused.filter(|(index, _)| protocol::Sender::Dealer(*index) == sender);
        match accused.next() {
            Some((_, member)) if verified.id == plan.id() && plan.signer(sender) == Some(verified.signer) => {
                self.store.keep_reshare_evidence(plan.id(), member.server_id, &file)?;
                Ok(())
            }
            _ => Err(OfflineError::Rejected("its complaint is about no dealing of this attempt".to_owned())),
        }
    }

    /// What `server` is brought to erase a share by: which committees `key_id` has.
    ///
    /// # Errors
    /// [`OfflineError`].
    pub async fn committees(
        &self,
        _turn: &Turn,
        server: u32,
        key_id: u64,
    ) -> Result<CommitteesFile<CommitteeFacts>, OfflineError> {
        let shown = self.shown(key_id).await?;
        self.check_offline(server).await?;
        let deployment = self.reader.deployment();
        let facts = self.ask(|it| committee::fetch(it.provider(), deployment, &shown)).await?;
        let about = self.about_key(server, key_id);
        Ok(CommitteesFile { r#type: Mark::new(), version: VERSION, about, facts })
    }

    /// What `server` is to be brought for the ordered changes of credentials that `changes` names, of withdrawal key `key_id`, whose
    /// committee `committee_epoch` signs by now.
    ///
    /// # Errors
    /// [`OfflineError`]; [`OfflineError::NotThere`] also while an order or a handover is not final.
    pub async fn change_request(
        &self,
        _turn: &Turn,
        server: u32,
        (key_id, committee_epoch): (u64, u32),
        mut changes: Vec<Change>,
    ) -> Result<ChangeFile<ChangeFacts>, OfflineError> {
        let shown = self.shown(key_id).await?;
        let serving = shown.terms.iter().rfind(|term| term.handover <= shown.block.timestamp);
        let serving = serving.map(|term| &term.committee).filter(|it| it.epoch() == committee_epoch);
        let serving = serving.ok_or_else(|| {
            let block = shown.block.number;
            let what = format!("committee {committee_epoch} of key {key_id} signs by now");
            OfflineError::NotThere(format!("{what}, and finalised blocks, up to {block}, do not show it yet"))
        })?;
        if !serving.members().iter().any(|member| member.server_id == server) {
            return Err(OfflineError::NotThere(format!(
                "server {server} is no member of committee {committee_epoch} of key {key_id}"
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
        let deployment = self.reader.deployment();
        let facts = self.ask(|it| change::fetch(it.provider(), deployment, &shown, &roots)).await?;
        let about = self.about_key(server, key_id);
        Ok(ChangeFile { r#type: Mark::new(), version: VERSION, about, changes, facts })
    }

    /// Keeps what an offline member signed of changes that the chain ordered; how many partials were new, and evidence among them.
    ///
    /// # Errors
    /// [`OfflineError`]: what came before the part that does not count was kept.
    pub async fn take_changes(&self, _turn: &Turn, answer: ChangeAnswerFile) -> Result<Taken, OfflineError> {
        let (about, court) = (answer.about, self.reader.deployment().court);
        self.check_domain(&about.domain())?;
        let shown = self.shown(about.key_id).await?;
        let mut taken = Taken { new: 0, complaint: None };
        // A file of all that one may hold would take longer than a client waits, one question after the other.
        let roots: Vec<B256> = answer.answers.iter().map(|part| part.change.signing_root()).collect();
        let questions: Vec<_> = roots.iter().copied().map(|root| self.reader.is_ordered(about.key_id, root)).collect();
        let ordered: Vec<bool> = stream::iter(questions).buffered(QUESTIONS_AT_ONCE).try_collect().await?;
        for (part, (root, is_ordered)) in answer.answers.into_iter().zip(roots.into_iter().zip(ordered)) {
            let asked: Asked = ChangeRequest::new(about.key_id, part.change).into();
            if !is_ordered {
                return Err(OfflineError::NotThere(format!("key {} was not ordered to sign {root}", about.key_id)));
            }
            let index = part.signed.index;
            let committee = committee_named(&shown, part.signed.committee_epoch)?;
            // All members are suspects here: a partial counts only once it was verified.
            let mut collection = Collection::new(asked, committee.clone(), committee.keys().threshold().indices());
            match collection.on_response(index, SignResponse::Signed(part.signed.clone())) {
                Answer::Counted | Answer::Repeated => {
                    taken.new += usize::from(self.store.keep_offline_partial(about.key_id, root, &part.signed)?);
                }
                Answer::Wrong(evidence) => {
                    taken.complaint = EvidenceFile::of_partial(committee, court, &evidence);
                    return Ok(taken);
                }
                Answer::NoAnswer(reason) => return Err(OfflineError::Rejected(reason.to_string())),
                Answer::Refused(refusal) => return Err(OfflineError::Rejected(refusal.to_string())),
            }
        }
        Ok(taken)
    }

    /// Whether the key is, or was, Live.
    ///
    /// # Errors
    /// [`OfflineError`]; [`OfflineError::NotThere`] if there is no such key.
    pub async fn has_committee(&self, _turn: &Turn, key_id: u64) -> Result<bool, OfflineError> {
        let state = self.reader.key(key_id).await?.state;
        Ok(!matches!(state, KeyState::None | KeyState::Requested | KeyState::Drawn))
    }

    fn about_key(&self, server: u32, key_id: u64) -> AboutKey {
        let ProtocolDomain { chain_id, key_registry } = self.reader.deployment().protocol_domain();
        AboutKey { chain_id, key_registry, server, key_id }
    }

    fn check_domain(&self, of: &ProtocolDomain) -> Result<(), OfflineError> {
        if *of == self.reader.deployment().protocol_domain() {
            return Ok(());
        }
        Err(OfflineError::Rejected(format!("it is for chain {}, KeyRegistry {}", of.chain_id, of.key_registry)))
    }

    /// The committees of a key at the newest finalised block.
    async fn shown(&self, key_id: u64) -> Result<KeyCommittees, OfflineError> {
        let block = self.reader.finalized_block().await?;
        // How long a ceremony may take decides nothing here.
        Ok(self.reader.finalized_committees(key_id, &block, 0).await?)
    }

    /// What the first endpoint says that can be asked.
    async fn ask<'a, T, Asking>(&'a self, question: impl Fn(&'a Endpoint) -> Asking) -> Result<T, OfflineError>
    where
        Asking: Future<Output = Result<T, ChainError>>,
    {
        let mut last = ChainError::TooFewEndpoints { configured: 0, needed: 1 };
        for endpoint in self.reader.endpoints() {
            match question(endpoint).await {
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
}

/// The reshare that is drawn, and what the contract committed to.
fn reshare_of(shown: &KeyCommittees) -> Result<(Plan, B256), OfflineError> {
    let (key_id, block) = (shown.key.id, shown.block.number);
    let none = || OfflineError::NotThere(format!("at finalised block {block} no reshare of key {key_id} is drawn"));
    let draft = shown.drawn.as_ref().ok_or_else(none)?.commitment;
    let plan = shown.plan().ok_or_else(none)?.map_err(|error| OfflineError::NotThere(error.to_string()))?;
    Ok((plan, draft))
}

/// Those of `messages` that a board did not know. One that it rejects ends it: a person carried the answer, and should hear of it.
fn new_ones<M: Clone, E: ToString>(
    messages: Vec<M>,
    mut accept: impl FnMut(M) -> Result<Accepted, E>,
) -> Result<Vec<M>, OfflineError> {
    let mut new = Vec::new();
    for message in messages {
        match accept(message.clone()) {
            Ok(Accepted::New | Accepted::Evidence) => new.push(message),
            Ok(Accepted::Known) => {}
            Err(error) => return Err(OfflineError::Rejected(error.to_string())),
        }
    }
    Ok(new)
}

fn committee_named(shown: &KeyCommittees, committee_epoch: u32) -> Result<&Committee, OfflineError> {
    shown.committee(committee_epoch).ok_or_else(|| {
        let key = shown.key.id;
        OfflineError::Rejected(format!("committee {committee_epoch} is none of the last two of key {key}"))
    })
}
