//! Runs the plan: looks at the chain, starts and ends workers, submits transactions, tells the status.
//!
//! One pass does everything that can be done now and keeps nothing that the next pass could not find out again, so it
//! does not matter after which line the process dies.

mod acknowledgements;
mod own_servers;
mod reshares;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, Bytes, U256};
use alloy::providers::Provider as _;
use stkr_chain::acknowledgements as asked_members;
use stkr_chain::answers::Answer;
use stkr_chain::bindings::{Court, KeyRegistry, Micropools, Resharing, WithdrawalKeys};
use stkr_chain::endpoint::first;
use stkr_chain::intents::{Call, IntentState, IntentStatus, Intents};
use stkr_chain::types::ServerStatus;
use stkr_chain::{ChainError, Deployment, Endpoint, EventLog, court, header};
use stkr_core::{CommitteeKeys, PublicKey, ShareIndex, Threshold};
use stkr_duties::DepositMessage;
use stkr_node::client::{ClientError, Patience, Peer, ServerClient};
use stkr_node::collector::Seat;
use stkr_node::shutdown::Shutdown;
use stkr_node::tls::{Fingerprint, Identity};
use stkr_protocol::ProtocolDomain;
use stkr_protocol::ceremony::{Context, MemberId};
use stkr_protocol::collection::Committee;
use stkr_protocol::evidence::{EvidenceFile, Fault, Holder};
use stkr_protocol::sign::{Asked as AskedToSign, Change, ChangeRequest, DepositRequest};
use tokio::sync::Notify;
use url::Url;

use crate::attention;
use crate::beacon::{self, Posting};
use crate::carry::{Carrier, Member};
use crate::cases::{self, Cases, Stage};
use crate::challenges::{self, ANSWER, DAY, Known, Policy, gas_of};
use crate::charges::Charges;
use crate::conflicts::Conflicts;
use crate::picture::Picture;
use crate::plan::{Action, Clock, intent_key, plan};
use crate::probe::Probes;
use crate::reshares::OfKey;
use crate::shared::{Lists, Shared, Standing, WaitingChange};
use crate::status::{
    CeremonyStatus, ChainStatus, CollectionStatus, EvidenceLine, FaultLine, ForeignDepositStatus, IntentLine,
    KeyStatus, PoolStatus, ServerLine, Status,
};
use crate::store::Store;
use crate::view::{Asked, Ceremony, GivenAnswer, KeyPhase, LiveKey, Pool, Verdict, View, Watch};
use crate::workers::{
    self, AcknowledgementState, AnswerState, CeremonyState, CollectionState, Job, ReshareState, Worker,
};

/// First and longest pause before a step that the contract refused is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// Pools and keys shown in the status, and transactions; all of them are in lists with pages.
const SHOWN: usize = 100;
/// The same.
const SHOWN_INTENTS: u32 = 100;
/// Wei below which the gas account is a problem: a few transactions at mainnet prices.
const LOW_BALANCE: U256 = U256::from_limbs([50_000_000_000_000_000, 0, 0, 0]);
/// Pause before a beacon node that did not take a change of credentials is asked again.
const BEACON_PAUSE: Duration = Duration::from_secs(12);
/// Rounds without an answer, a pause between each two, after which a member is silent and not only slow.
const SILENT_ROUNDS: u32 = 12;
/// Answers to challenges judged in one pass: each costs a pairing.
const JUDGED_AT_ONCE: usize = 64;
const WEI_PER_GWEI: U256 = U256::from_limbs([1_000_000_000, 0, 0, 0]);
/// Pause between two looks at the balance.
const BALANCE_EVERY: Duration = Duration::from_secs(30);

/// What the engine works with.
#[derive(Debug)]
pub struct Parts {
    /// Where the contracts are.
    pub deployment: Deployment,
    /// RPC endpoints, checked.
    pub endpoints: Vec<Endpoint>,
    /// Follows the chain.
    pub log: EventLog,
    /// Sends transactions.
    pub intents: Intents,
    /// Bulletin and evidence.
    pub store: Store,
    /// Client certificate: carries rate limits, no authority.
    pub identity: Identity,
    /// Pause between passes.
    pub pause: Duration,
    /// `EVIDENCE_WINDOW` of the registry, seconds.
    pub evidence_window: u64,
    /// `GENESIS_TIME` of the Court, unix seconds.
    pub genesis_time: u64,
    /// What the operator wants to be done about challenges.
    pub policy: Policy,
    /// What the operator wants to be done about lost members.
    pub reshares: crate::reshares::Policy,
    /// Beacon nodes that are given signed changes of credentials.
    pub beacon_nodes: Arc<[Url]>,
    /// What the HTTP side reads.
    pub shared: Arc<Shared>,
}

/// A worker with what it was started from: if that changes (a server's new certificate, a reorg), it starts again.
#[derive(Debug)]
struct Running<S> {
    of: Origin,
    /// How much of it stands on the chain, for it to start again when there is more.
    told: usize,
    worker: Worker<S>,
}

/// What a worker was started from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    /// Number of the committee that it visits; 0 of a ceremony, which makes the first.
    committee_epoch: u32,
    committee: Vec<u32>,
    peers: Vec<Peer>,
    /// Who else decides what its messages are worth: signers of the new members of a reshare.
    signers: Vec<Address>,
}

/// When a refused step is tried again.
#[derive(Clone, Copy, Debug)]
struct Retry {
    at: Instant,
    pause: Duration,
}

/// The engine.
#[derive(Debug)]
pub struct Engine {
    parts: Parts,
    picture: Picture,
    clients: BTreeMap<u32, (Peer, Result<ServerClient, ClientError>)>,
    ceremonies: BTreeMap<String, Running<CeremonyState>>,
    collections: BTreeMap<String, Running<CollectionState>>,
    answers: BTreeMap<String, Running<AnswerState>>,
    /// Steps of answers that were there when the last plan was made.
    in_hand: BTreeSet<String>,
    reshares: BTreeMap<String, Running<ReshareState>>,
    /// Changes of credentials on their way to the beacon chain, by pool and validator.
    postings: BTreeMap<(u64, u64), Posting>,
    acknowledgements: BTreeMap<String, Running<AcknowledgementState>>,
    /// Answers of the view that were judged, from its first on.
    judged: usize,
    /// Unix time (seconds) of the newest block, as of the last pass.
    timestamp: u64,
    retries: BTreeMap<String, Retry>,
    balance: Option<(Instant, U256)>,
    problems: Vec<String>,
    probes: Probes,
    conflicts: Conflicts,
    cases: Cases,
    /// Compressed group keys, by the points of their event.
    pubkeys: BTreeMap<Bytes, Option<String>>,
    wake: Arc<Notify>,
}

impl Engine {
    /// An engine that has seen nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let probes = Probes::start(ProtocolDomain {
            chain_id: parts.deployment.chain_id,
            key_registry: parts.deployment.key_registry,
        });
        let conflicts = Conflicts::start(parts.shared.clone());
        let cases = Cases::new(parts.genesis_time);
        Self {
            parts,
            picture: Picture::default(),
            clients: BTreeMap::new(),
            ceremonies: BTreeMap::new(),
            collections: BTreeMap::new(),
            answers: BTreeMap::new(),
            in_hand: BTreeSet::new(),
            reshares: BTreeMap::new(),
            postings: BTreeMap::new(),
            acknowledgements: BTreeMap::new(),
            judged: 0,
            timestamp: 0,
            retries: BTreeMap::new(),
            balance: None,
            problems: Vec::new(),
            probes,
            conflicts,
            cases,
            pubkeys: BTreeMap::new(),
            wake: Arc::default(),
        }
    }

    /// Makes passes until the shutdown. A pass that fails is tried again after a pause.
    ///
    /// # Errors
    /// What waiting does not cure: a broken database, a final block that vanished.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), ChainError> {
        let mut failures = 0_u32;
        loop {
            let outcome = tokio::select! {
                _ = shutdown.wait() => return Ok(()),
                outcome = self.pass() => outcome,
            };
            let pause = match outcome {
                Ok(()) => {
                    failures = 0;
                    self.parts.pause
                }
                Err(error @ (ChainError::FinalBlockVanished { .. } | ChainError::Database(_))) => {
                    return Err(error);
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(error = %error, "a look at the chain failed");
                    self.parts.shared.failed(error.to_string());
                    self.parts.pause.saturating_mul(1 << failures.min(5)).min(Duration::from_secs(30))
                }
            };
            tokio::select! {
                _ = shutdown.wait() => return Ok(()),
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One pass.
    ///
    /// # Errors
    /// The chain's.
    pub async fn pass(&mut self) -> Result<(), ChainError> {
        self.parts.log.poll().await?;
        if self.picture.fold(&self.parts.log)? {
            self.judged = 0;
        }
        let Some(clock) = self.clock()? else {
            return Ok(());
        };
        self.timestamp = clock.timestamp;
        self.problems.clear();
        self.take_changes_to_beacon_nodes();
        self.look_for_deposits().await?;
        self.refresh_clients();
        self.tell_charges();
        self.judge_answers();
        self.read_cases()?;
        let mut actions = plan(&self.picture.view, &clock);
        let refused = |step: &str| self.retries.contains_key(step);
        actions.extend(cases::plan(&self.picture.view, &clock, self.cases.all(), refused));
        actions.extend(self.plan_challenges(&clock)?);
        actions.extend(crate::reshares::plan(&self.picture.view, &clock, self.parts.reshares));
        self.raise_caps(&clock).await;
        self.give_up_lost_races().await?;
        self.end_workers(&actions);
        for action in &actions {
            self.act(action).await?;
        }
        self.parts.intents.drive().await?;
        self.look_at_balance().await?;
        self.publish(&clock)
    }

    /// Of what is kept, what the Court would still charge.
    fn tell_charges(&self) {
        let (view, faults) = (&self.picture.view, &self.picture.view.faults);
        let hopeless = self.cases.all().iter().filter(|case| cases::is_hopeless(view, case));
        self.parts.store.set_charges(Charges {
            genesis_time: self.parts.genesis_time,
            now: self.timestamp,
            terms: faults.terms.clone(),
            reinstated_at: faults.reinstated_at.clone(),
            hopeless: hopeless.map(|case| case.id).collect(),
        });
    }

    /// Evidence that workers found. Where it cannot be read the pass goes on: what is known stays known.
    fn read_cases(&mut self) -> Result<(), ChainError> {
        let (known, reporter) = (self.cases.all().len(), self.parts.intents.sender());
        if let Err(error) = self.cases.read_on(&self.parts.store, reporter) {
            self.problems.push(format!("evidence cannot be read: {error}"));
        }
        // What a version before this one has sent is not sent again.
        for (before, now) in self.cases.all().iter().skip(known).flat_map(|case| cases::renamed(case, reporter)) {
            self.parts.intents.rename(&before, &now)?;
        }
        Ok(())
    }

    /// What somebody else has proven need not be proven again: a proof of ours that waits for its block would only be recorded.
    async fn give_up_lost_races(&mut self) -> Result<(), ChainError> {
        let view = &self.picture.view;
        for step in cases::lost_races(view, self.cases.all(), self.parts.intents.sender()) {
            if self.parts.intents.of_step(&step)?.iter().any(|intent| !intent.state.is_over()) {
                tracing::info!(step, "somebody else proved the same fault first");
                self.parts.intents.withdraw(&step).await?;
            }
        }
        Ok(())
    }

    /// How many cases of each fault are at each stage.
    fn stages(&self) -> BTreeMap<(Fault, Stage), usize> {
        let every = Fault::ALL.into_iter().flat_map(|fault| Stage::ALL.map(|stage| ((fault, stage), 0)));
        let mut count: BTreeMap<(Fault, Stage), usize> = every.collect();
        for case in self.cases.all() {
            *count.entry((case.verified.fault, cases::stage(&self.picture.view, case))).or_default() += 1;
        }
        count
    }

    /// How many of each fault the Court charged, whoever reported them.
    fn charged(&self) -> BTreeMap<Fault, usize> {
        let mut count: BTreeMap<Fault, usize> = Fault::ALL.into_iter().map(|fault| (fault, 0)).collect();
        for verdict in self.picture.view.faults.verdicts.iter().filter(|verdict| verdict.charged) {
            if let Some(fault) = Fault::from_number(verdict.fault) {
                *count.entry(fault).or_default() += 1;
            }
        }
        count
    }

    /// Looks for deposits that others made with the pools' keys. Without an answer the pass goes on: the plan deposits
    /// nothing then.
    async fn look_for_deposits(&mut self) -> Result<(), ChainError> {
        match self.picture.look_for_deposits(&self.parts.log).await {
            Err(error @ ChainError::Database(_)) => return Err(error),
            Err(error) => self.problems.push(format!(
                "the deposit contract cannot be looked through for foreign deposits, so nothing is deposited: {error}"
            )),
            Ok(()) => {}
        }
        for (pool_id, watch) in &self.picture.view.watch {
            if let Some(foreign) = &watch.foreign {
                self.problems.push(format!(
                    "the key of pool {pool_id} signed a deposit of {} gwei to {}, which is not the pool's vault (transaction {} in block {}): at least t of its servers collude; nothing more is deposited with this key, and it is being burned so that the stakers get their ether back",
                    foreign.amount_gwei, foreign.withdrawal_credentials, foreign.transaction, foreign.block
                ));
            }
        }
        Ok(())
    }

    fn clock(&self) -> Result<Option<Clock>, ChainError> {
        let Some(tip) = self.parts.log.tip()? else {
            return Ok(None);
        };
        let finalized = self.parts.log.finalized()?.map_or(0, |(number, _)| number);
        let evidence_window = self.parts.evidence_window;
        Ok(Some(Clock { head: tip.number, timestamp: tip.timestamp, finalized, evidence_window }))
    }

    // ---------------------------------------------------------------- servers

    fn refresh_clients(&mut self) {
        let trusted = self.picture.view.trusted_servers();
        for (id, server) in self.picture.view.servers.iter().filter(|(id, _)| trusted.contains(id)) {
            let fingerprint = Fingerprint(server.tls_fingerprint.0);
            let peer = Peer { server_id: *id, endpoint: server.endpoint.clone(), fingerprint };
            if self.clients.get(id).is_some_and(|(known, _)| *known == peer) {
                continue;
            }
            let client = ServerClient::new(&self.parts.identity, peer.clone(), Patience::default());
            self.clients.insert(*id, (peer, client));
        }
        let servers = &self.picture.view.servers;
        self.clients.retain(|id, _| trusted.contains(id));
        let asked = self.clients.iter().filter_map(|(id, (_, client))| {
            let server = servers.get(id)?;
            Some((*id, server.signer, client.clone()))
        });
        self.probes.watch(asked.collect());
        let asked = self.clients.iter().filter_map(|(id, (_, client))| Some((*id, client.clone().ok()?)));
        self.conflicts.watch(asked.collect());
    }

    fn client(&self, server_id: u32) -> Result<ServerClient, ClientError> {
        let unknown = || Err(ClientError::Setup(format!("server {server_id} has no endpoint on the chain")));
        self.clients.get(&server_id).map_or_else(unknown, |(_, client)| client.clone())
    }

    fn peers(&self, committee: &[u32]) -> Vec<Peer> {
        committee.iter().filter_map(|id| self.clients.get(id).map(|(peer, _)| peer.clone())).collect()
    }

    /// What a worker is started from that visits these servers.
    fn origin(&self, committee_epoch: u32, committee: &[u32]) -> Origin {
        Origin { committee_epoch, committee: committee.to_vec(), peers: self.peers(committee), signers: Vec::new() }
    }

    fn domain(&self) -> ProtocolDomain {
        let Deployment { chain_id, key_registry, .. } = self.parts.deployment;
        ProtocolDomain { chain_id, key_registry }
    }

    // ---------------------------------------------------------------- actions

    fn end_workers(&mut self, actions: &[Action]) {
        let steps: Vec<String> = actions.iter().map(Action::step).collect();
        self.ceremonies.retain(|step, _| steps.contains(step));
        self.collections.retain(|step, _| steps.contains(step));
        self.answers.retain(|step, _| steps.contains(step));
        self.reshares.retain(|step, _| steps.contains(step));
        self.acknowledgements.retain(|step, _| steps.contains(step));
        self.retries.retain(|step, _| steps.contains(step));
    }

    async fn act(&mut self, action: &Action) -> Result<(), ChainError> {
        if self.retries.get(&action.step()).is_some_and(|retry| Instant::now() < retry.at) {
            self.tell_refusal(action)?;
            return Ok(());
        }
        match self.call(action).await {
            Ok(Some(call)) => self.submit(action, &call),
            Ok(None) => Ok(()),
            Err(error @ ChainError::Database(_)) => Err(error),
            // One step's bad luck must not hold up the others.
            Err(error) => {
                self.problems.push(format!("{}: {error}", action.step()));
                Ok(())
            }
        }
    }

    /// The transaction of an action; nothing while workers are still at it.
    async fn call(&mut self, action: &Action) -> Result<Option<Call>, ChainError> {
        let (pools, keys) = (self.parts.deployment.micropools, self.parts.deployment.key_registry);
        let resharing = self.parts.deployment.resharing();
        Ok(Some(match action {
            Action::RequestKey { pool_id } => {
                Call::new(pools, &Micropools::requestKeyCall { poolId: U256::from(*pool_id) })
            }
            Action::Draw { key_id, draw, .. } => {
                let header = self.header(draw.seed_block).await?;
                let (active_set, kept) = (draw.active_set.clone(), draw.kept.clone());
                Call::new(
                    keys,
                    &KeyRegistry::drawCall { keyId: U256::from(*key_id), header, activeSet: active_set, kept },
                )
            }
            Action::Restart { key_id, members, active_set_hash, .. } => {
                let (members, hash) = (members.clone(), *active_set_hash);
                Call::new(keys, &KeyRegistry::restartCall { keyId: U256::from(*key_id), members, activeSetHash: hash })
            }
            Action::CarryCeremony { key_id, attempt, threshold, ceremony } => {
                return Ok(self.carry(action.step(), (*key_id, *attempt, *threshold), ceremony).await);
            }
            Action::OrderDeposit { pool_id, group_key } => {
                let (id, key) = (U256::from(*pool_id), group_key.clone());
                Call::new(pools, &Micropools::orderDepositCall { poolId: id, groupKey: key })
            }
            Action::CollectDeposit { pool_id, key_id, group_key, may_send } => {
                let collected = self.collect(action.step(), (*pool_id, *key_id), None);
                let Some(signature) = collected.filter(|_| *may_send) else {
                    return Ok(None);
                };
                let (id, key) = (U256::from(*pool_id), group_key.clone());
                Call::new(pools, &Micropools::predepositCall { poolId: id, groupKey: key, signature })
            }
            Action::CollectChange { pool_id, key_id, validator_index, group_key } => {
                let collected = self.collect(action.step(), (*pool_id, *key_id), Some(*validator_index));
                let Some(signature) = collected else { return Ok(None) };
                let call = WithdrawalKeys::showChangeCall {
                    poolId: U256::from(*pool_id),
                    validatorIndex: *validator_index,
                    groupKey: group_key.clone(),
                    signature,
                };
                Call::new(self.parts.deployment.withdrawal_keys(), &call)
            }
            Action::ProveForeignDeposit { pool_id, group_key, foreign } => {
                // What was submitted before the thieves showed themselves, and still waits for its block.
                for step in ["predeposit", "top_up"] {
                    self.parts.intents.withdraw(&format!("{step}/{pool_id}")).await?;
                }
                let call = Micropools::proveForeignDepositCall {
                    poolId: U256::from(*pool_id),
                    groupKey: group_key.clone(),
                    foreignCredentials: foreign.withdrawal_credentials,
                    amountGwei: foreign.amount_gwei,
                    signature: foreign.signature.clone(),
                };
                Call::new(pools, &call)
            }
            Action::TopUp { pool_id, group_key } => {
                Call::new(pools, &Micropools::topUpCall { poolId: U256::from(*pool_id), groupKey: group_key.clone() })
            }
            Action::CommitToEvidence { commitment, .. } => {
                Call::new(self.parts.deployment.court, &Court::commitCall { commitment: *commitment })
            }
            Action::ProveFault { file, .. } => court::prove(file),
            Action::AnswerChallenge { asked, server_id, deadline } => {
                return Ok(self.answer(action.step(), asked, *server_id, *deadline));
            }
            Action::ProveUnanswered { asked, .. } => court::prove_unanswered(self.parts.deployment.court, *asked),
            Action::ChallengeSilent { asked } => return self.question(action.step(), asked).await,
            Action::AnswerAcknowledgement { asked, server_id, deadline } => {
                return Ok(self.acknowledge(action.step(), *asked, *server_id, *deadline));
            }
            Action::ProveUnacknowledged { asked, .. } => {
                asked_members::prove_unanswered(self.parts.deployment.court, *asked)
            }
            Action::ChallengeUnacknowledged { asked } => {
                return self.ask_to_acknowledge(action.step(), *asked).await;
            }
            Action::FreeSeatsOfUnfinished { key_id, members, active_set_hash } => Call::new(
                keys,
                &KeyRegistry::freeSeatsOfUnfinishedCall {
                    keyId: U256::from(*key_id),
                    members: members.clone(),
                    activeSetHash: *active_set_hash,
                },
            ),
            Action::FreeSeats { key_id, committee, signers, points } => Call::new(
                keys,
                &KeyRegistry::freeSeatsCall {
                    keyId: U256::from(*key_id),
                    committee: committee.clone(),
                    signers: signers.clone(),
                    points: points.clone(),
                },
            ),
            Action::RequestReshare { id, serving, threshold, members } => {
                self.tell_cause(id.key_id);
                let (key, serving) = (U256::from(id.key_id), serving.clone());
                let (threshold, members) = (*threshold, *members);
                Call::new(resharing, &Resharing::requestCall { keyId: key, serving, threshold, members })
            }
            Action::DrawReshare { id, seed_block, active_set, draft } => {
                let (header, draft) = (self.header(*seed_block).await?, draft.clone());
                let (key, set) = (U256::from(id.key_id), active_set.clone());
                Call::new(resharing, &Resharing::drawCall { keyId: key, header, activeSet: set, draft })
            }
            Action::RestartReshare { id, serving, draft, .. } => {
                let (key, serving, draft) = (U256::from(id.key_id), serving.clone(), draft.clone());
                Call::new(resharing, &Resharing::restartCall { keyId: key, serving, draft })
            }
            Action::CarryReshare { next } => return Ok(self.carry_reshare(action.step(), next).await),
            Action::CancelReshare { id, draft } => {
                Call::new(resharing, &Resharing::cancelCall { keyId: U256::from(id.key_id), draft: draft.clone() })
            }
            Action::FreePastSeats { key_id, committee_epoch, past, next } => {
                let (key, past, next) = (U256::from(*key_id), past.clone(), next.clone());
                let committee_epoch = *committee_epoch;
                Call::new(
                    resharing,
                    &Resharing::freePastSeatsCall { keyId: key, committeeEpoch: committee_epoch, past, next },
                )
            }
        }))
    }

    async fn header(&self, block: u64) -> Result<Bytes, ChainError> {
        let header = first(&self.parts.endpoints, async |it| header::fetch(it.provider(), block).await).await?;
        Ok(header.rlp)
    }

    /// Submits a step's transaction, or tries it again after a pause if it ended and the chain still wants it.
    fn submit(&mut self, action: &Action, call: &Call) -> Result<(), ChainError> {
        let step = action.step();
        let key = intent_key(&step, &call.data);
        let mut known = self.parts.intents.status(&key)?;
        // What a version before this one has sent is not sent again.
        if let (None, Some((before, now))) = (&known, challenges::renamed(action, &call.data))
            && self.parts.intents.rename(&before, &now)?
        {
            known = self.parts.intents.status(&key)?;
        }
        let Some(known) = known else {
            tracing::info!(intent = key, "submitting a transaction");
            self.parts.intents.submit(&key, call)?;
            return Ok(());
        };
        if !matches!(known.state, IntentState::Superseded | IntentState::Failed) {
            self.retries.remove(&step);
            return Ok(());
        }
        let pause = match self.retries.get(&step) {
            // First sight of the refusal: our picture may be a block behind, so give it time to show why.
            None => RETRY.0,
            Some(retry) => {
                self.parts.intents.reopen(&key, call.value)?;
                (retry.pause * 2).min(RETRY.1)
            }
        };
        if let Some(error) = &known.error
            && pause > RETRY.0 * 2
        {
            tracing::warn!(intent = key, reason = %error, "the contract refuses a step that the chain still wants");
        }
        self.retries.insert(step, Retry { at: Instant::now() + pause, pause });
        self.tell_refusal(action)
    }

    /// A step that keeps being refused is a problem for people to look at.
    fn tell_refusal(&mut self, action: &Action) -> Result<(), ChainError> {
        let refused = self.parts.intents.of_step(&action.step())?.pop();
        if let Some(error) = refused.and_then(|intent| intent.error) {
            self.problems.push(format!("{} is refused by the contract: {error}", action.step()));
        }
        Ok(())
    }

    /// Sees to it that the ceremony is carried; its `finalise` once all acknowledged.
    async fn carry(
        &mut self,
        step: String,
        (key_id, attempt, threshold): (u64, u16, u8),
        ceremony: &Ceremony,
    ) -> Option<Call> {
        let of = self.origin(0, &ceremony.committee);
        let told = self.told_on_chain(key_id, attempt).map_or(0, |told| 1 + told.acknowledgements.len());
        if self.ceremonies.get(&step).is_none_or(|running| running.of != of || running.told < told) {
            self.ceremonies.remove(&step);
            let begun = self.time_of(ceremony.begun_in).await;
            let worker = self.start_ceremony((key_id, attempt, threshold), ceremony, begun)?;
            self.ceremonies.insert(step.clone(), Running { of, told, worker });
        }
        for (index, id) in ceremony.committee.iter().enumerate() {
            let status = self.picture.view.servers.get(id).map_or(ServerStatus::None, |server| server.status);
            if self.picture.view.servers.get(id).is_some_and(|server| server.locked_out) {
                self.problems.push(format!(
                    "server {id} (member {}) of key {key_id} is locked out: the key cannot be finalised and its ceremony starts again after the deadline",
                    index + 1
                ));
            }
            if status != ServerStatus::Active {
                self.problems.push(format!(
                    "server {id} (member {}) of key {key_id} is {status}: the key cannot be finalised and its ceremony starts again after the deadline",
                    index + 1
                ));
            }
        }
        let state = self.ceremonies.get(&step)?.worker.state();
        let transcript = state.transcript.as_ref()?;
        let call = KeyRegistry::finaliseCall {
            keyId: U256::from(key_id),
            committee: ceremony.committee.clone(),
            points: transcript.points().into(),
            dealingsDigest: transcript.dealings_digest(),
            acknowledgements: transcript.acknowledgements().into(),
        };
        Some(Call::new(self.parts.deployment.key_registry, &call))
    }

    /// Unix time (seconds) of a block, for people: nothing if no endpoint tells it now.
    async fn time_of(&self, block: u64) -> Option<u64> {
        for endpoint in &self.parts.endpoints {
            if let Ok(Some(block)) = endpoint.block(BlockNumberOrTag::Number(block)).await {
                return Some(block.timestamp);
            }
        }
        None
    }

    fn start_ceremony(
        &mut self,
        (key_id, attempt, threshold): (u64, u16, u8),
        ceremony: &Ceremony,
        begun: Option<u64>,
    ) -> Option<Worker<CeremonyState>> {
        let members = ceremony.committee.iter();
        let members: Option<Vec<MemberId>> = members
            .map(|id| Some(MemberId { server_id: *id, signer: self.picture.view.servers.get(id)?.signer }))
            .collect();
        let count = u8::try_from(ceremony.committee.len()).ok();
        let threshold = count.and_then(|count| Threshold::new(threshold, count).ok());
        let (Some(members), Some(threshold)) = (members, threshold) else {
            self.problems.push(format!("the committee of key {key_id} is not one this program understands"));
            return None;
        };
        let seats = threshold.indices().zip(&ceremony.committee);
        let online = |id: &u32| self.picture.view.servers.get(id).is_none_or(|server| server.online);
        let seats = seats
            .map(|(index, id)| Member { index, server_id: *id, client: self.client(*id), online: online(id) })
            .collect();
        let context = match Context::new(self.domain(), key_id, attempt, threshold, members) {
            Ok(context) => context,
            Err(error) => {
                self.problems.push(format!("key {key_id} cannot hold a ceremony: {error}"));
                return None;
            }
        };
        let status = CeremonyStatus {
            key_id: key_id.to_string(),
            attempt: attempt.to_string(),
            state: "waiting".to_owned(),
            deadline: ceremony.deadline.to_string(),
            begun: begun.map(|time| time.to_string()),
            ..CeremonyStatus::default()
        };
        let opened = Carrier::open(context, seats, self.parts.store.clone(), self.parts.deployment.court);
        match opened.and_then(|carrier| self.give_what_the_chain_tells(carrier, (key_id, attempt))) {
            Ok(carrier) => {
                tracing::info!(key_id, attempt, "carrying a ceremony");
                let carrier = carrier.begun_at(begun);
                Some(workers::carry(carrier, status, self.parts.pause, self.wake.clone()))
            }
            Err(error) => {
                self.problems.push(error.to_string());
                None
            }
        }
    }

    /// What was shown to the chain is taken to the beacon nodes: once, and again after a restart, which does no harm.
    fn take_changes_to_beacon_nodes(&mut self) {
        if self.parts.beacon_nodes.is_empty() {
            return;
        }
        for (pool_id, index, signature) in self.changes_to_take() {
            let withdrawal = self.picture.view.pools.get(&pool_id).and_then(|pool| pool.withdrawal.as_ref());
            let Some(serving) = withdrawal.and_then(|it| self.serving(it.key_id)) else { continue };
            if let Ok(change) = self.change(pool_id, index, serving.live) {
                let posting = beacon::post(self.parts.beacon_nodes.clone(), &change, signature, BEACON_PAUSE);
                self.postings.insert((pool_id, index), posting);
            }
        }
    }

    /// Pool, validator and signature of what was shown to the chain and is not on its way yet.
    fn changes_to_take(&self) -> Vec<(u64, u64, Bytes)> {
        let pools = self.picture.view.pools.iter();
        let changes = pools.flat_map(|(pool_id, pool)| {
            let changes = pool.withdrawal.iter().flat_map(|it| &it.changes);
            changes.filter_map(|(index, order)| Some((*pool_id, *index, order.signature.clone()?)))
        });
        changes.filter(|(pool_id, index, _)| !self.postings.contains_key(&(*pool_id, *index))).collect()
    }

    /// Sees to it that the signature over the deposit of a pool is collected, or over the change of credentials of the validator
    /// `change`; 256 bytes once it is there.
    fn collect(&mut self, step: String, (pool_id, key_id): (u64, u64), change: Option<u64>) -> Option<Bytes> {
        let serving = self.serving(key_id)?;
        let of = self.origin(serving.epoch, &serving.live.committee);
        if self.collections.get(&step).is_none_or(|running| running.of != of) {
            self.collections.remove(&step);
            let (what, asked) = match change {
                None => ("deposit", self.deposit_of(pool_id, key_id)),
                Some(index) => ("change of credentials", self.change_of(pool_id, key_id, index)),
            };
            let job = match asked.and_then(|asked| self.job(asked, key_id)) {
                Ok(job) => job,
                Err(reason) => {
                    self.problems.push(format!("the {what} of pool {pool_id} cannot be collected: {reason}"));
                    return None;
                }
            };
            let status = CollectionStatus {
                pool_id: pool_id.to_string(),
                key_id: key_id.to_string(),
                state: "waiting".to_owned(),
                needed: job.committee.keys().threshold().t().to_string(),
                ..CollectionStatus::default()
            };
            tracing::info!(key_id, pool_id, kind = what, "collecting a signature");
            let worker = workers::collect(job, status, self.parts.store.clone(), self.parts.pause, self.wake.clone());
            self.collections.insert(step.clone(), Running { of, told: 0, worker });
        }
        let state = self.collections.get(&step)?.worker.state();
        state.signature.as_ref().map(|signature| Bytes::copy_from_slice(&signature.to_eip2537()))
    }

    fn deposit_of(&self, pool_id: u64, key_id: u64) -> Result<AskedToSign, String> {
        let order =
            self.picture.view.pools.get(&pool_id).and_then(|pool| pool.order.as_ref()).ok_or("it was not ordered")?;
        let message = DepositMessage {
            pubkey: order.pubkey.as_ref().try_into().map_err(|_| "the ordered public key has not 48 bytes")?,
            withdrawal_credentials: order.withdrawal_credentials,
            amount_gwei: order.amount_gwei,
        };
        let request = DepositRequest::new(key_id, &message, self.parts.deployment.genesis_fork_version.0);
        if request.signing_root() != order.signing_root {
            return Err("the chain ordered another signing root than its own deposit has".to_owned());
        }
        Ok(request.into())
    }

    fn change(&self, pool_id: u64, index: u64, live: &LiveKey) -> Result<Change, String> {
        let pool = self.picture.view.pools.get(&pool_id).ok_or("the pool is unknown")?;
        let orders = pool.withdrawal.as_ref().map(|it| &it.changes);
        let order = orders.and_then(|changes| changes.get(&index)).ok_or("it was not ordered")?;
        let group_key = live.group_key().and_then(|key| PublicKey::from_eip2537(&key).ok());
        let change = Change {
            validator_index: index,
            from_bls_pubkey: group_key.ok_or("its withdrawal key is no key")?.to_compressed(),
            to_execution_address: self.parts.deployment.vault_of(pool_id),
            genesis_fork_version: self.parts.deployment.genesis_fork_version.0,
            genesis_validators_root: self.parts.deployment.genesis_validators_root,
        };
        if change.signing_root() != order.signing_root {
            return Err("the chain ordered another signing root than its own change has".to_owned());
        }
        Ok(change)
    }

    fn change_of(&self, pool_id: u64, key_id: u64, index: u64) -> Result<AskedToSign, String> {
        let serving = self.serving(key_id).ok_or("the key is not Live")?;
        Ok(ChangeRequest::new(key_id, self.change(pool_id, index, serving.live)?).into())
    }

    fn job(&self, request: AskedToSign, key_id: u64) -> Result<Job, String> {
        let serving = self.serving(key_id).ok_or("the key is not Live")?;
        let committee = self.committee(serving)?;
        let seats: Vec<Seat> = (committee.keys().threshold().indices().zip(&serving.live.committee))
            .map(|(index, id)| Seat { index, server_id: *id, client: self.client(*id) })
            .collect();
        let proven = self.parts.store.suspects().map_err(|error| error.to_string())?;
        let suspects = seats.iter().filter(|seat| proven.contains(&seat.server_id)).map(|seat| seat.index).collect();
        let court = self.parts.deployment.court;
        Ok(Job { request, committee, seats, suspects, court })
    }

    fn committee(&self, of: OfKey<'_>) -> Result<Committee, String> {
        let keys = committee_keys(of.threshold, of.live)?;
        let members = of.live.committee.iter().zip(&of.live.signers);
        let members = members.map(|(id, signer)| MemberId { server_id: *id, signer: *signer }).collect();
        Committee::new(self.domain(), of.epoch, keys, members).map_err(|error| error.to_string())
    }

    /// The committee of a Live key that signs what the clock says is now. Until the beacon epoch after a handover begins, the servers of
    /// the new one still refuse, and are asked again.
    fn serving(&self, key_id: u64) -> Option<OfKey<'_>> {
        let view = &self.picture.view;
        let live = view.keys.get(&key_id).is_some_and(|key| matches!(key.phase, KeyPhase::Live(_)));
        view.serving_committee(key_id, self.timestamp).filter(|_| live)
    }

    // ------------------------------------------------------------ challenges

    /// Answers to challenges are on the chain for everybody, right or wrong: the Court does not look. What is wrong is kept as
    /// evidence, whoever brought it.
    fn judge_answers(&mut self) {
        let view = &self.picture.view;
        for answer in view.answers.iter().skip(self.judged).take(JUDGED_AT_ONCE) {
            if let Some((server_id, file)) = self.wrong_answer(answer) {
                match self.parts.store.keep_evidence(server_id, &file) {
                    Ok(true) => tracing::warn!(
                        key_id = answer.envelope.key_id,
                        server_id,
                        "a challenge was answered with a wrong partial; kept as evidence"
                    ),
                    Ok(false) => {}
                    // Looked at again in the next pass.
                    Err(error) => {
                        self.problems.push(format!("evidence cannot be kept: {error}"));
                        return;
                    }
                }
            }
            self.judged = self.judged.saturating_add(1);
        }
    }

    /// Nothing for a right answer, and for one of a key whose seats are free again: nothing can be proven with it.
    fn wrong_answer(&self, answer: &GivenAnswer) -> Option<(u32, EvidenceFile)> {
        let (key_id, epoch) = (answer.envelope.key_id, answer.envelope.committee_epoch);
        self.picture.view.keys.get(&key_id)?.phase.first_committee()?;
        let committee = self.committee(self.picture.view.committee(key_id, epoch)?).ok()?;
        let server_id = committee.members().get(answer.envelope.index.position())?.server_id;
        let court = self.parts.deployment.court;
        let file = EvidenceFile::of_answer(&committee, court, answer.envelope.clone(), &answer.partial)?;
        Some((server_id, file))
    }

    fn plan_challenges(&mut self, clock: &Clock) -> Result<Vec<Action>, ChainError> {
        let (silent, unacknowledged) = (self.silent_members(), self.unacknowledged_members());
        self.in_hand = self.answers_in_hand();
        let in_hand = self.in_hand.clone();
        let known = Known { spent: self.spent_on_answers(clock)?, silent, unacknowledged, in_hand };
        let (view, us) = (&self.picture.view, self.parts.intents.sender());
        let actions = challenges::plan(view, clock, us, &self.parts.policy, &known);
        self.problems.extend(challenges::left_alone(view, clock, &actions));
        self.tell_held_up(clock)?;
        Ok(actions)
    }

    /// Steps whose answers are there. Only these, and those of own servers, are sent before the next plan: it counts what they cost.
    fn answers_in_hand(&self) -> BTreeSet<String> {
        let signatures = self.answers.iter().filter(|(_, it)| it.worker.state().answer.is_some());
        let steps = signatures.map(|(step, _)| step.clone());
        steps.chain(self.acknowledgements_in_hand()).collect()
    }

    pub(super) fn may_send(&self, step: &str, server_id: u32) -> bool {
        self.in_hand.contains(step) || self.parts.policy.own.contains(&server_id)
    }

    /// Gas of the answers and proofs of a day, by step.
    fn spent_on_answers(&self, clock: &Clock) -> Result<BTreeMap<String, u64>, ChainError> {
        let mut spent = BTreeMap::new();
        if self.picture.view.challenges.is_empty() && self.picture.view.acknowledgements.is_empty() {
            return Ok(spent);
        }
        let mut sent = self.parts.intents.of_step(ANSWER)?;
        for proofs in challenges::PROOFS {
            sent.extend(self.parts.intents.of_step(proofs)?);
        }
        for intent in sent {
            let old = intent.block.is_some_and(|(block, _)| block.saturating_add(DAY) < clock.head);
            let Some((step, _)) = intent.key.rsplit_once('/').filter(|_| !old) else { continue };
            let gas = match intent.gas_used {
                Some(gas) => gas,
                None if intent.state.is_over() => 0,
                None => gas_of(step),
            };
            *spent.entry(step.to_owned()).or_default() += gas;
        }
        Ok(spent)
    }

    fn silent_members(&self) -> BTreeSet<(u64, u8)> {
        let mut silent = BTreeSet::new();
        for running in self.collections.values() {
            let state = running.worker.state();
            if state.rounds >= SILENT_ROUNDS {
                silent.extend(state.missing.iter().map(|index| (state.key_id, index.get())));
            }
        }
        silent
    }

    /// Sees to it that the server is asked; its answer as a transaction once it is there.
    fn answer(&mut self, step: String, asked: &Asked, server_id: u32, deadline: u64) -> Option<Call> {
        let (key_id, index, _) = *asked;
        let epoch = self.serving(key_id).map_or(0, |serving| serving.epoch);
        let of = self.origin(epoch, &[server_id]);
        if self.answers.get(&step).is_none_or(|running| running.of != of) {
            self.answers.remove(&step);
            let (job, index) = match self.job_of_challenge(asked) {
                Ok(job) => job,
                Err(reason) => {
                    self.problems.push(format!(
                        "the challenge to server {server_id} (member {index}) of key {key_id} cannot be answered from here: {reason}"
                    ));
                    return None;
                }
            };
            tracing::info!(key_id, server_id, deadline, "answering a challenge");
            let (store, pause) = (self.parts.store.clone(), self.parts.pause);
            let worker = workers::answer(job, index, store, pause, self.wake.clone());
            self.answers.insert(step.clone(), Running { of, told: 0, worker });
        }
        let state = self.answers.get(&step)?.worker.state();
        if let Some(trouble) = &state.trouble {
            self.problems.push(format!(
                "server {server_id} (member {index}) of key {key_id} has until block {deadline} to answer a challenge, or it loses its bond: {trouble}"
            ));
        }
        let (envelope, partial) = state.answer.as_ref().filter(|_| self.may_send(&step, server_id))?;
        Some(court::answer(self.parts.deployment.court, envelope, partial))
    }

    /// A challenge asks for what was ordered: a pool's deposit, or a change of its credentials.
    fn job_of_challenge(&self, (key_id, index, root): &Asked) -> Result<(Job, ShareIndex), String> {
        let view = &self.picture.view;
        let asked = match (view.pool_of_key(*key_id), view.change_of_key(*key_id, *root)) {
            (Some((pool_id, pool)), _) if pool.order.as_ref().is_some_and(|order| order.signing_root == *root) => {
                self.deposit_of(pool_id, *key_id)?
            }
            (_, Some((pool_id, index))) => self.change_of(pool_id, *key_id, index)?,
            _ => return Err("it asks for something else than what the key's pool ordered".to_owned()),
        };
        let index = ShareIndex::new(*index).map_err(|error| error.to_string())?;
        Ok((self.job(asked, *key_id)?, index))
    }

    /// The challenge of a silent member.
    async fn question(&mut self, step: String, (key_id, index, root): &Asked) -> Result<Option<Call>, ChainError> {
        let of = self.serving(*key_id).and_then(|serving| self.committee(serving).ok());
        let (Some(committee), Ok(index)) = (of, ShareIndex::new(*index)) else { return Ok(None) };
        let Some(holder) = Holder::of(&committee, index) else { return Ok(None) };
        let fee = match self.is_under_way(&step)? {
            true => U256::ZERO,
            false => self.fee_of(Answer::Signature).await?,
        };
        Ok(Some(court::challenge(self.parts.deployment.court, (*key_id, index, *root), &holder, fee)))
    }

    /// Whether a transaction of the step was submitted and is not over: it keeps the fee that it was submitted with. One that was
    /// refused is priced anew, or it would be refused for ever once the base fee has risen.
    fn is_under_way(&self, step: &str) -> Result<bool, ChainError> {
        Ok(self.parts.intents.of_step(step)?.iter().any(|intent| !intent.state.is_over()))
    }

    /// Twice the least fee of now: it stays enough while the base fee doubles.
    async fn fee_of(&self, answer: Answer) -> Result<U256, ChainError> {
        let fee = first(&self.parts.endpoints, async |it| answer.fee_now(it.provider()).await).await?;
        Ok(fee.saturating_mul(U256::from(2)))
    }

    // ---------------------------------------------------------------- status

    async fn look_at_balance(&mut self) -> Result<(), ChainError> {
        let fresh = |(at, _): &(Instant, U256)| at.elapsed() < BALANCE_EVERY;
        if !self.balance.as_ref().is_some_and(fresh)
            && let Some(endpoint) = self.parts.endpoints.first()
        {
            let question = endpoint.provider().get_balance(self.parts.intents.sender());
            let balance =
                stkr_chain::endpoint::ask("reading the gas account's balance", async { question.await }).await?;
            self.balance = Some((Instant::now(), balance));
        }
        if let Some((_, balance)) = self.balance
            && balance < LOW_BALANCE
        {
            let account = self.parts.intents.sender();
            self.problems.push(format!("the gas account {account} holds only {balance} wei; send it some ether"));
        }
        Ok(())
    }

    fn publish(&mut self, clock: &Clock) -> Result<(), ChainError> {
        let lists = self.lists(clock);
        let ceremonies = self.ceremony_lines();
        for ceremony in &ceremonies {
            let name = format!("the ceremony of key {}, attempt {}", ceremony.key_id, ceremony.attempt);
            let failures = ceremony.failure.iter().map(|failure| format!("{name} failed: {failure}"));
            let reported = ceremony.reported.iter().map(|line| format!("{name}: {line}"));
            self.problems.extend(failures.chain(reported));
        }
        let reshares = self.reshare_lines(clock);
        self.tell_reshare_troubles(&reshares);
        let collections: Vec<CollectionStatus> =
            self.collections.values().map(|running| running.worker.state().status.clone()).collect();
        let servers = self.server_lines();
        let down = servers.iter().filter_map(|server| {
            server.problem.as_ref().map(|problem| format!("server {}: {problem}", server.server_id))
        });
        self.problems.extend(down);
        self.problems.extend(attention::problems(&self.picture.view));
        let endpoints = self.parts.endpoints.iter().map(|endpoint| endpoint.name().to_owned()).collect();
        let status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            chain: ChainStatus {
                chain_id: self.parts.deployment.chain_id.to_string(),
                head: clock.head.to_string(),
                head_timestamp: clock.timestamp.to_string(),
                finalized: clock.finalized.to_string(),
                following: true,
                endpoints,
            },
            account: self.parts.intents.sender().to_string(),
            problems: std::mem::take(&mut self.problems),
            pools: newest(&lists.pools),
            keys: newest(&lists.keys),
            ceremonies,
            reshares,
            collections,
            intents: self.intent_lines()?,
            servers,
            evidence: self.evidence_lines(),
            faults: self.picture.view.faults.verdicts.iter().rev().take(SHOWN).map(fault_line).collect(),
        };
        self.parts.shared.publish(status, lists, clock);
        self.parts.shared.publish_faults(&self.stages(), &self.charged());
        self.parts.shared.publish_standing(&self.standing());
        Ok(())
    }

    /// Ceremonies, with what those who are waited for say of themselves.
    fn ceremony_lines(&self) -> Vec<CeremonyStatus> {
        let seen = self.probes.seen();
        let unready = |server_id: &str| {
            let seen = server_id.parse().ok().and_then(|id: u32| seen.get(&id));
            seen.map(|seen| seen.unready.clone()).unwrap_or_default()
        };
        let mut ceremonies: Vec<CeremonyStatus> =
            self.ceremonies.values().map(|running| running.worker.state().status.clone()).collect();
        for waited in ceremonies.iter_mut().flat_map(|it| &mut it.rounds).flat_map(|it| &mut it.waiting_for) {
            waited.unready = unready(&waited.server_id);
        }
        ceremonies
    }

    fn standing(&self) -> Standing {
        let view = &self.picture.view;
        let gwei = |(_, wei): &(Instant, U256)| u64::try_from(*wei / WEI_PER_GWEI).unwrap_or(u64::MAX);
        Standing {
            challenges: challenges::open_by_server(view),
            locked_out: view.servers.values().filter(|server| server.locked_out).count(),
            without_spare: view.keys.keys().filter(|id| view.is_without_spare(**id)).count(),
            reshare_evidence: self.parts.store.reshare_evidence_count().ok(),
            gas_gwei: self.balance.as_ref().map(gwei),
        }
    }

    /// Changes of credentials that wait for a signature, with the members without network that have not signed them. First those that a
    /// member is challenged to sign, which may be shown long since.
    fn waiting_changes(&self, clock: &Clock) -> Vec<WaitingChange> {
        let view = &self.picture.view;
        let planned = plan(view, clock).into_iter().filter_map(|action| match action {
            Action::CollectChange { pool_id, key_id, validator_index, .. } => Some((pool_id, key_id, validator_index)),
            _ => None,
        });
        let challenged = view.challenges.keys().filter_map(|(key_id, _, root)| {
            let (pool_id, index) = view.change_of_key(*key_id, *root)?;
            Some((pool_id, *key_id, index))
        });
        let mut asked: Vec<(u64, u64, u64)> = Vec::new();
        for it in challenged.chain(planned) {
            if !asked.contains(&it) {
                asked.push(it);
            }
        }
        let waiting = |(pool_id, key_id, index): (u64, u64, u64)| {
            let OfKey { epoch: committee_epoch, live, .. } = self.serving(key_id)?;
            let change = self.change(pool_id, index, live).ok()?;
            let signed = self.parts.store.offline_partials((key_id, committee_epoch), change.signing_root()).ok()?;
            let has_signed = |position: usize| signed.iter().any(|it| it.index.position() == position);
            let offline = |id: &u32| view.servers.get(id).is_some_and(|server| !server.online);
            let members = live.committee.iter().enumerate();
            let missing = members.filter(|(position, id)| offline(id) && !has_signed(*position));
            let root = change.signing_root();
            let asked = view.challenges.iter().filter(|((key, _, of), _)| (*key, *of) == (key_id, root));
            let challenged =
                asked.filter(|(_, it)| it.deadline > clock.head).map(|(_, it)| (it.server_id, it.deadline));
            let (challenged, waiting_for) = (challenged.collect(), missing.map(|(_, id)| *id).collect());
            Some(WaitingChange { key_id, committee_epoch, change, waiting_for, challenged })
        };
        asked.into_iter().filter_map(waiting).collect()
    }

    fn lists(&mut self, clock: &Clock) -> Lists {
        let changes = self.waiting_changes(clock);
        let view = &self.picture.view;
        let pools = view.pools.iter().map(|(id, pool)| pool_status(*id, pool, view.watch.get(id))).collect();
        let mut keys = Vec::with_capacity(view.keys.len());
        for (id, key) in &view.keys {
            let mut status = key_status(view, *id, key);
            if let KeyPhase::Live(live) = &key.phase {
                // Checking a point costs more than all the rest of a key's line, and a live key never changes.
                let pubkey = self.pubkeys.entry(live.points.clone()).or_insert_with(|| pubkey(live));
                status.pubkey.clone_from(pubkey);
            }
            keys.push(status);
        }
        Lists { pools, keys, changes }
    }

    fn intent_lines(&self) -> Result<Vec<IntentLine>, ChainError> {
        Ok(self.parts.intents.newest(SHOWN_INTENTS)?.into_iter().map(intent_line).collect())
    }

    fn evidence_lines(&self) -> Vec<EvidenceLine> {
        let newest = self.cases.all().iter().rev().take(SHOWN);
        newest.map(|case| cases::line(&self.picture.view, case)).collect()
    }

    fn server_lines(&self) -> Vec<ServerLine> {
        let seen = self.probes.seen();
        let online = self.picture.view.servers.iter().filter(|(_, server)| server.online);
        let line = |(id, server): (&u32, &crate::view::Server)| ServerLine {
            server_id: id.to_string(),
            status: server.status.name().to_owned(),
            locked_out: server.locked_out,
            endpoint: server.endpoint.clone(),
            reachable: seen.get(id).map(|seen| seen.problem.is_none()),
            problem: seen.get(id).and_then(|seen| seen.problem.clone()),
            unready: seen.get(id).map(|seen| seen.unready.clone()).unwrap_or_default(),
        };
        online.map(line).collect()
    }
}

fn committee_keys(threshold: u8, live: &LiveKey) -> Result<CommitteeKeys, String> {
    let n = u8::try_from(live.committee.len()).map_err(|_| "its committee is too large")?;
    let threshold = Threshold::new(threshold, n).map_err(|error| error.to_string())?;
    let points = live.points.chunks_exact(128).map(PublicKey::from_eip2537);
    let mut points: Vec<PublicKey> = points.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let group_key = points.pop().ok_or("its key has no points")?;
    CommitteeKeys::new(threshold, group_key, points).map_err(|error| error.to_string())
}

fn pool_status(id: u64, pool: &Pool, watch: Option<&Watch>) -> PoolStatus {
    PoolStatus {
        pool_id: id.to_string(),
        state: pool.state.name().to_owned(),
        provider: pool.provider.to_string(),
        vault: pool.vault.to_string(),
        staked: pool.staked.to_string(),
        deadline: pool.deadline.to_string(),
        key_id: pool.key_id.map(|id| id.to_string()),
        deposits_gwei: pool.deposits_gwei.iter().map(ToString::to_string).collect(),
        foreign_deposit: foreign_deposit(pool, watch),
    }
}

/// The deposit that burned the pool's key, or will.
fn foreign_deposit(pool: &Pool, watch: Option<&Watch>) -> Option<ForeignDepositStatus> {
    let seen = watch.and_then(|watch| watch.foreign.as_ref());
    let seen = seen.map(|foreign| (foreign.withdrawal_credentials, foreign.amount_gwei));
    pool.proven.or(seen).map(|(credentials, amount_gwei)| ForeignDepositStatus {
        withdrawal_credentials: credentials.to_string(),
        amount_gwei: amount_gwei.to_string(),
        proven: pool.proven.is_some(),
    })
}

/// A transaction as people see it.
#[must_use]
pub fn intent_line(intent: IntentStatus) -> IntentLine {
    IntentLine {
        id: intent.id.to_string(),
        state: intent.state.name().to_owned(),
        transaction: intent.hash.or_else(|| intent.attempts.first().copied()).map(|hash| hash.to_string()),
        block: intent.block.map(|(number, _)| number.to_string()),
        gas_used: intent.gas_used.map(|gas| gas.to_string()),
        note: intent.error.map(|error| error.to_string()).or((!intent.note.is_empty()).then_some(intent.note)),
        intent: intent.key,
    }
}

/// A verdict as people see it.
fn fault_line(it: &Verdict) -> FaultLine {
    let fault = Fault::from_number(it.fault);
    FaultLine {
        kind: fault.map_or_else(|| format!("fault_{}", it.fault), |fault| fault.name().to_owned()),
        server_id: it.server_id.map(|id| id.to_string()),
        key_id: it.key_id.to_string(),
        evidence: it.evidence.to_string(),
        charged: it.charged,
        transaction: it.shown.transaction.to_string(),
        block: it.shown.block.to_string(),
        reporter: it.shown.reporter.to_string(),
    }
}

fn key_status(view: &View, id: u64, key: &crate::view::Key) -> KeyStatus {
    let mut status = KeyStatus {
        key_id: id.to_string(),
        state: key.phase.name().to_owned(),
        threshold: key.threshold.to_string(),
        members: key.members.to_string(),
        dealt: key.is_dealt(),
        attempt: key.attempt.to_string(),
        committee: Vec::new(),
        committee_epoch: None,
        handover: None,
        seed_block: None,
        deadline: None,
        pubkey: None,
        healthy: None,
    };
    let names = |committee: &[u32]| committee.iter().map(ToString::to_string).collect();
    match &key.phase {
        KeyPhase::Requested(draw) => status.seed_block = Some(draw.seed_block.to_string()),
        KeyPhase::Drawn(ceremony) => {
            status.committee = names(&ceremony.committee);
            status.deadline = Some(ceremony.deadline.to_string());
        }
        KeyPhase::Live(_) => {
            let Some(newest) = view.newest_committee(id) else { return status };
            status.committee = names(&newest.live.committee);
            (status.threshold, status.members) =
                (newest.threshold.to_string(), newest.live.committee.len().to_string());
            status.committee_epoch = Some(newest.epoch.to_string());
            status.handover = Some(newest.handover).filter(|time| *time > 0).map(|time| time.to_string());
            status.healthy = Some(view.healthy_shares(newest.live).to_string());
        }
        KeyPhase::Retired { .. } | KeyPhase::Ended { .. } => {}
    }
    status
}

/// Compressed group key, if what the event carried is one.
fn pubkey(live: &LiveKey) -> Option<String> {
    let group_key = PublicKey::from_eip2537(&live.group_key()?).ok()?;
    Some(format!("0x{}", hex::encode(group_key.to_compressed())))
}

/// The end of a list that grows with history.
fn newest<T: Clone>(all: &[T]) -> Vec<T> {
    all[all.len().saturating_sub(SHOWN)..].to_vec()
}

/// Number of the head, for start-up checks.
///
/// # Errors
/// The endpoint's.
pub async fn head(endpoint: &Endpoint) -> Result<u64, ChainError> {
    Ok(stkr_chain::endpoint::existing_block(endpoint.provider(), BlockNumberOrTag::Latest).await?.number)
}
