//! The server without its sockets: what it does for each request.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::Address;
use axum::http::StatusCode;
use futures::StreamExt as _;
use stkr_chain::endpoint::BlockId;
use stkr_core::PublicKey;
use stkr_core::keystore::Keystore;
use stkr_node::clock::Clock;
use stkr_node::http::Problem;
use stkr_node::metrics::Metrics;
use stkr_node::rate::RateLimit;
use stkr_node::tls::Fingerprint;
use stkr_protocol::SignerKey;
use stkr_protocol::api::{
    AdvanceRequest, AdvanceResponse, Conflicts, EndpointView, Info, MAX_BATCH, MAX_ENDPOINTS, MAX_SIGNERS,
    ReshareAdvanceRequest, ReshareAdvanceResponse, SeenBlock, SignBatch, SignReplies, SignerStanding, SignerUse,
    Signers, View, Watermarks, WatermarksReplies, WatermarksReply,
};
use stkr_protocol::ceremony::Phase;
use stkr_protocol::reshare::Phase as ResharePhase;
use stkr_protocol::sign::{
    ChangeRequest, DepositRequest, DutyRequest, Refusal, Refused, SignRequest, SignResponse, SignedPartial,
};

use crate::ceremony::{Ceremonies, CeremonyError};
use crate::chain::{ChainView, NoCeremony, NoReshare};
use crate::change;
use crate::dealt;
use crate::duties::{Duties, Parts};
use crate::erasure;
use crate::leaves::{self, Leaves};
use crate::metrics::{KindLabel, PhaseLabel, ServerMetrics};
use crate::reshare::{ReshareError, Reshares};
use crate::seal::Sealer;
use crate::serving::Us;
use crate::signers::{Keys, SignerKeys};
use crate::signing::{self, Facts};
use crate::store::{Store, StoreError};
use crate::watermarks;

/// Clients the rate limit remembers.
const RATE_LIMIT_CLIENTS: usize = 4096;
/// Clients behind one address that may use their whole rate at once. A certificate costs nothing, an address does: with
/// fresh certificates alone nobody gets more than this many times the rate.
const CLIENTS_PER_ADDRESS: u32 = 4;
/// Ceremony calls under way or waiting for their turn; each costs up to 640 signature recoveries, one at a time.
const ADVANCES: usize = 16;
/// How long an answer about readiness serves everybody who asks: it costs a call to every RPC endpoint and a write lock.
const READINESS_LASTS: Duration = Duration::from_secs(1);
/// Chain reads for one batch that run at once.
const PARALLEL_READS: usize = 8;

/// A server: database, keys, chain.
pub struct App {
    store: Arc<Store>,
    keys: Arc<Keys>,
    sealer: Sealer,
    chain: ChainView,
    duties: Option<Duties>,
    metrics: Arc<Metrics>,
    counted: ServerMetrics,
    rate: Mutex<RateLimit>,
    rate_of_addresses: Mutex<RateLimit>,
    /// One ceremony call at a time: two for one ceremony would both step from the same stored state. Waited for before a
    /// thread is taken, so that callers in a queue hold none of the threads that signing needs.
    ceremony: Arc<tokio::sync::Mutex<()>>,
    advances: tokio::sync::Semaphore,
    adoption: dealt::Adoption,
    readiness: tokio::sync::Mutex<Option<(Instant, Vec<Unready>)>>,
    /// What the RPC endpoints showed last, and when.
    seen: tokio::sync::Mutex<Option<(Instant, Vec<EndpointView>)>>,
    clock: Clock,
    /// 0 before the registry knows us.
    server_id: AtomicU32,
    /// Whether the registry names another certificate than the one this server presents.
    other_certificate: AtomicBool,
    standing: Mutex<Standing>,
    /// `None` until all shares were looked through.
    leaves: Mutex<Option<Leaves>>,
}

/// Seconds after a change of the signer for which the one before may be asked for: the longest ceremony or reshare that began under it (7
/// days), and the day in which a challenge is answered.
const KEEP_EARLIER: u64 = 8 * 86_400;

/// How this server's signers stand to the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The signer that the registry names, if its key lies here; before there is one, that of `files.signer_key`.
    pub current: Address,
    /// What is wrong with the signer keys, in words.
    pub trouble: Option<String>,
    /// Signers whose keys lie here, and that finalised blocks do not name.
    pub waiting: Vec<Address>,
    /// Unix time (seconds) of the last change in the registry; 0 if there was none, nothing if nobody has looked.
    pub changed_at: Option<u64>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("signer", &self.signer()).finish_non_exhaustive()
    }
}

/// What keeps a server from being of use: name of the check, and in words.
pub type Unready = (&'static str, String);

/// A stored share that does not open: this store key and this database do not belong together.
#[derive(Debug, thiserror::Error)]
pub enum ShareCheckError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keystore.
    #[error(
        "a stored share of key {key_id} does not open under this store key ({reason}); database and secrets are not of one server, restore both from one backup"
    )]
    DoesNotOpen {
        /// Key.
        key_id: u64,
        /// Why.
        reason: String,
    },
}

impl App {
    /// Puts a server together. Nothing runs yet.
    pub fn new(
        store: Arc<Store>,
        keys: Keys,
        chain: ChainView,
        duties: Option<Duties>,
        (requests_per_second, burst): (u32, u32),
    ) -> Arc<Self> {
        let metrics = Arc::new(Metrics::new("stkr-server", env!("CARGO_PKG_VERSION")));
        let commits = duties.as_ref().map(|duties| duties.desk().commits().clone()).unwrap_or_default();
        let counted = ServerMetrics::new(&metrics, commits);
        let clock = Clock::new(&metrics);
        let rate = |times: u32| {
            let (burst, per_second) = (burst.saturating_mul(times), requests_per_second.saturating_mul(times));
            Mutex::new(RateLimit::new(burst, per_second, RATE_LIMIT_CLIENTS))
        };
        let sealer = Sealer::new(&keys.store_key);
        let current = keys.signers().all().first().map(SignerKey::address).unwrap_or_default();
        Arc::new(Self {
            store,
            keys: Arc::new(keys),
            sealer,
            chain,
            duties,
            metrics,
            counted,
            rate: rate(1),
            rate_of_addresses: rate(CLIENTS_PER_ADDRESS),
            ceremony: Arc::default(),
            advances: tokio::sync::Semaphore::new(ADVANCES),
            adoption: dealt::Adoption::default(),
            readiness: tokio::sync::Mutex::default(),
            seen: tokio::sync::Mutex::default(),
            clock,
            server_id: AtomicU32::new(0),
            other_certificate: AtomicBool::new(false),
            standing: Mutex::new(Standing { current, ..Standing::default() }),
            leaves: Mutex::default(),
        })
    }

    /// Metrics registry.
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// This machine's clock, as its RPC endpoints see it.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The chain.
    pub const fn chain(&self) -> &ChainView {
        &self.chain
    }

    /// The signer that the registry names, if its key lies here.
    pub fn signer(&self) -> Address {
        self.standing().current
    }

    /// How this server's signers stand to the registry, as of the last look.
    pub fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers how they stand now.
    pub fn set_standing(&self, standing: Standing) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    /// Looks through the shares for the signers that their leaves name.
    pub async fn look_at_leaves(&self) {
        match leaves::look(&self.store, &self.chain).await {
            Ok(leaves) => {
                let current = self.signer();
                let earlier = leaves.iter().filter(|(signer, _)| **signer != current).map(|(_, shares)| shares.len());
                self.counted.earlier_signer_shares.set(i64::try_from(earlier.sum::<usize>()).unwrap_or(i64::MAX));
                *self.leaves.lock().unwrap_or_else(PoisonError::into_inner) = Some(leaves);
            }
            Err(error) => tracing::warn!(error = %error, "the leaves of shares could not be read; tried again"),
        }
    }

    /// `GET /v1/signers`.
    ///
    /// # Errors
    /// Unavailable before all shares were looked through.
    pub fn signers(&self) -> Result<Signers, Problem> {
        let not_yet = || {
            let reason = "this server has not looked through its shares yet";
            Problem::unavailable(StatusCode::SERVICE_UNAVAILABLE, reason, "call again in a minute")
        };
        let leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(not_yet)?;
        let rows = self.store.signers().map_err(|error| internal(&error))?;
        let standing = self.standing();
        // Of an earlier one that nothing names, and whose file was deleted, there is nothing to say.
        let own = rows.iter().filter(|row| row.own).map(|row| row.signer);
        let mut all: Vec<Address> = own.filter(|signer| self.holds(*signer)).collect();
        let changed_at = match standing.changed_at {
            None if all.len() > 1 => return Err(not_yet()),
            changed_at => changed_at.unwrap_or_default(),
        };
        for signer in leaves.keys().chain(&standing.waiting) {
            if !all.contains(signer) {
                all.push(*signer);
            }
        }
        let none = BTreeSet::new();
        let describe = |signer: Address| {
            let shares = leaves.get(&signer).unwrap_or(&none);
            let is_here = self.holds(signer) || standing.waiting.contains(&signer);
            let how = match () {
                () if !is_here => SignerStanding::Missing,
                () if signer == standing.current => SignerStanding::Current,
                () if standing.waiting.contains(&signer) => SignerStanding::Waiting,
                () => SignerStanding::Earlier,
            };
            let is_over = how == SignerStanding::Earlier;
            let mut key_ids: Vec<u64> = shares.iter().map(|(key_id, _)| *key_id).take(MAX_BATCH).collect();
            key_ids.dedup();
            SignerUse {
                signer,
                standing: how,
                shares: u64::try_from(shares.len()).unwrap_or(u64::MAX),
                key_ids,
                keep_until: if is_over { changed_at.saturating_add(KEEP_EARLIER) } else { 0 },
            }
        };
        Ok(Signers { signers: all.into_iter().map(describe).take(MAX_SIGNERS).collect() })
    }

    /// Whether the key of this signer is here, and this server's.
    pub fn holds(&self, signer: Address) -> bool {
        self.keys.signers().key(signer).is_some()
    }

    /// The database.
    pub const fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Goes on with these signer keys; what is under way ends with those that it began with.
    pub fn set_signers(&self, signers: SignerKeys) {
        self.keys.set_signers(signers);
    }

    /// This server, as leaves may name it.
    fn us(&self) -> Us {
        self.keys.signers().us().clone()
    }

    /// Opens every stored share once and compares it with its share key.
    ///
    /// # Errors
    /// The first share that does not open.
    pub fn check_shares(&self) -> Result<usize, ShareCheckError> {
        let all = self.store.all_shares()?;
        for (key_id, row) in &all {
            let bad = |reason: String| ShareCheckError::DoesNotOpen { key_id: *key_id, reason };
            let share_key = PublicKey::from_compressed(&row.share_key).map_err(|error| bad(error.to_string()))?;
            let keystore = Keystore::from_json(&row.keystore).map_err(|error| bad(error.to_string()))?;
            self.keys.store_key.open_share(&keystore, row.index, &share_key).map_err(|error| bad(error.to_string()))?;
        }
        self.counted.shares.set(i64::try_from(all.len()).unwrap_or(i64::MAX));
        Ok(all.len())
    }

    /// Remembers whether the registry names another certificate: then nobody connects.
    pub fn set_other_certificate(&self, other: bool) {
        self.other_certificate.store(other, Ordering::Relaxed);
    }

    /// Remembers the id under which the registry knows this server.
    pub fn set_server_id(&self, id: u32) {
        self.server_id.store(id, Ordering::Relaxed);
        // By it the server knows the seats, too, whose signer keys are gone.
        self.keys.set_signers(self.keys.signers().of_server(id));
        self.counted.registered.set(1);
    }

    /// Remembers that the registry was read and has nobody with this server's signer.
    pub fn set_unregistered(&self) {
        self.counted.registered.set(0);
    }

    /// `GET /v1/info`.
    pub fn info(&self) -> Info {
        let id = self.server_id.load(Ordering::Relaxed);
        let domain = self.chain.domain();
        Info {
            server_id: (id != 0).then(|| id.to_string()),
            signer: self.signer(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            chain_id: domain.chain_id,
            registry: domain.key_registry,
        }
    }

    /// `GET /v1/conflicts`. The writer of requests may hold the database while it waits for the disk.
    ///
    /// # Errors
    /// Unavailable when the database cannot be read.
    pub async fn conflicts(&self, after: u64) -> Result<Conflicts, Problem> {
        let store = Arc::clone(&self.store);
        let found = tokio::task::spawn_blocking(move || store.conflicts(after)).await;
        let conflicts = found.map_err(|error| internal(&error))?.map_err(|error| internal(&error))?;
        Ok(Conflicts { conflicts })
    }

    /// `GET /v1/view`. What the endpoints show serves everybody who asks for a second; the time is that of the answer.
    pub async fn view(&self) -> View {
        let mut last = self.seen.lock().await;
        let fresh = last.as_ref().filter(|(at, _)| at.elapsed() < READINESS_LASTS).map(|(_, seen)| seen.clone());
        let endpoints = match fresh {
            Some(endpoints) => endpoints,
            None => {
                let endpoints = self.look_through_endpoints().await;
                *last = Some((Instant::now(), endpoints.clone()));
                endpoints
            }
        };
        drop(last);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        View { time_ms: u64::try_from(now).unwrap_or(u64::MAX), endpoints }
    }

    async fn look_through_endpoints(&self) -> Vec<EndpointView> {
        let look = |endpoint: stkr_chain::Endpoint| async move {
            let block = async |tag| {
                let block = endpoint.block(tag).await.ok().flatten();
                block.map(|block| SeenBlock { number: block.number, hash: block.hash })
            };
            let (genesis, finalized, head) = futures::join!(
                block(BlockNumberOrTag::Number(0)),
                block(BlockNumberOrTag::Finalized),
                block(BlockNumberOrTag::Latest),
            );
            EndpointView { genesis, finalized, head }
        };
        let endpoints = self.chain.reader().endpoints().iter().take(MAX_ENDPOINTS).cloned();
        futures::future::join_all(endpoints.map(look)).await
    }

    /// Takes one token of the client and one of its address.
    ///
    /// # Errors
    /// 429 with the time to wait.
    pub fn admit(&self, client: Option<Fingerprint>, address: IpAddr) -> Result<(), Problem> {
        let client = client.map_or([0; 32], |fingerprint| fingerprint.0);
        let mut of_address = [0; 32];
        match address {
            IpAddr::V4(v4) => of_address[..4].copy_from_slice(&v4.octets()),
            // Whoever has one address of a /64 has all of them.
            IpAddr::V6(v6) => of_address[..8].copy_from_slice(&v6.octets()[..8]),
        }
        let take = |rate: &Mutex<RateLimit>, who| {
            rate.lock().unwrap_or_else(PoisonError::into_inner).take(who, Instant::now())
        };
        take(&self.rate, client).and_then(|()| take(&self.rate_of_addresses, of_address)).map_err(|wait| {
            self.counted.rate_limited.inc();
            Problem::too_many(wait)
        })
    }

    /// `POST /v1/ceremonies/advance`.
    ///
    /// # Errors
    /// The problem to answer with; nothing was said that is not stored.
    pub async fn advance(self: &Arc<Self>, request: AdvanceRequest) -> Result<AdvanceResponse, Problem> {
        let _place = self.advances.try_acquire().map_err(|_| Problem::busy())?;
        let AdvanceRequest { key_id, attempt, messages } = request;
        let signers = self.store.signers().map_err(|error| internal(&error))?;
        let with_begun = signers.iter().any(|row| row.own && row.born > 0);
        let drawn = self.chain.ceremony(key_id, attempt, with_begun).await.map_err(|error| no_ceremony(&error))?;
        let app = Arc::clone(self);
        let registering = Arc::clone(self);
        let turn = Arc::clone(&self.ceremony).lock_owned().await;
        let advanced = tokio::task::spawn_blocking(move || {
            // Held to the end even if the caller goes away in the middle.
            let _turn = turn;
            let ceremonies = Ceremonies {
                store: &app.store,
                signers: &app.keys.signers(),
                sealer: &app.sealer,
                store_key: &app.keys.store_key,
            };
            ceremonies.advance(&drawn, messages)
        })
        .await
        .map_err(|error| internal(&error))?;
        let answer = advanced.map_err(|error| match error {
            CeremonyError::NotMember { .. } => Problem::denied(
                StatusCode::NOT_FOUND,
                error.to_string(),
                "ask the servers that the CommitteeDrawn event names",
            ),
            error @ CeremonyError::NoSignerKey { .. } => no_signer_key(&error),
            error => internal(&error),
        })?;
        self.counted.ceremony_answers.get_or_create(&PhaseLabel { phase: answer.phase.name() }).inc();
        if answer.complaint.is_some() {
            self.counted.ceremony_complaints.inc();
        }
        if answer.phase == Phase::Acknowledged {
            // Before the acknowledgement leaves, without which the key never lives: a key whose first duty comes finds its
            // empty history in place. Called again until it worked.
            let registered = tokio::task::spawn_blocking(move || registering.register(key_id)).await;
            registered.map_err(|error| internal(&error))??;
            self.count_shares();
        }
        Ok(answer)
    }

    /// `POST /v1/reshares/advance`.
    ///
    /// # Errors
    /// The problem to answer with; nothing was said that is not stored.
    pub async fn advance_reshare(
        self: &Arc<Self>,
        request: ReshareAdvanceRequest,
    ) -> Result<ReshareAdvanceResponse, Problem> {
        let _place = self.advances.try_acquire().map_err(|_| Problem::busy())?;
        let (id, messages) = (request.id(), request.messages);
        let (shown, now) = self.chain.reshare(id).await.map_err(|error| no_reshare(&error))?;
        let (app, registering) = (Arc::clone(self), Arc::clone(self));
        let turn = Arc::clone(&self.ceremony).lock_owned().await;
        let advanced = tokio::task::spawn_blocking(move || {
            // Held to the end even if the caller goes away in the middle.
            let _turn = turn;
            let reshares = Reshares {
                store: &app.store,
                signers: &app.keys.signers(),
                sealer: &app.sealer,
                store_key: &app.keys.store_key,
            };
            reshares.advance(&shown, messages, now)
        });
        let advanced = advanced.await.map_err(|error| internal(&error))?;
        let answer = advanced.map_err(|error| match error {
            ReshareError::NoPart(_) => Problem::denied(
                StatusCode::NOT_FOUND,
                error.to_string(),
                "ask the dealers and the new members that the ReshareDrawn event names",
            ),
            error @ ReshareError::NoSignerKey { .. } => no_signer_key(&error),
            error => internal(&error),
        })?;
        self.counted.reshare_answers.get_or_create(&PhaseLabel { phase: answer.phase.name() }).inc();
        if answer.complaint.is_some() {
            self.counted.reshare_complaints.inc();
        }
        if answer.phase == ResharePhase::Done {
            // Before the acknowledgement leaves: who gets a share has no history of the key, and by the rules of the handover needs
            // none. One that it has from before stays.
            let registered = tokio::task::spawn_blocking(move || registering.register(id.key_id)).await;
            registered.map_err(|error| internal(&error))??;
            self.count_shares();
        }
        Ok(answer)
    }

    /// Looks at the newest finalised block: which committees there are, and whose shares' time is over. To be called again and again.
    pub async fn follow_finalised(self: &Arc<Self>) {
        match self.chain.follow_finalised().await {
            Ok(None) => {}
            Ok(Some(_)) => {
                match erasure::erase(&self.store, &self.chain, self.duties.as_ref()).await {
                    Ok(count) => _ = self.counted.shares_erased.inc_by(count),
                    Err(error) => {
                        tracing::warn!(error = %error, "shares could not be erased; tried again with the next finalised block")
                    }
                }
                self.count_shares();
                self.look_at_leaves().await;
            }
            Err(error) => tracing::warn!(error = %error, "finalised blocks could not be followed; tried again"),
        }
    }

    /// A key that this server just helped to make has signed nothing: its empty history is the right one.
    fn register(&self, key_id: u64) -> Result<(), Problem> {
        let Some(duties) = &self.duties else { return Ok(()) };
        let rows = self.store.shares(key_id).map_err(|error| internal(&error))?;
        let keys: Vec<_> = rows.iter().map(|row| row.group_key.into()).collect();
        duties.desk().register(&keys).map_err(|error| internal(&error))?;
        Ok(())
    }

    /// Reads again who may ask for duties; to be called with every new block.
    pub async fn refresh_assignments(&self, tip: &BlockId) {
        if let Some(duties) = &self.duties {
            duties.refresh(&self.chain, tip).await;
        }
    }

    /// Finds out which dealt keys the chain knows by now; to be called with every new block.
    pub async fn adopt_dealt_shares(&self) {
        if let Err(error) = self.adoption.look(&self.store, &self.chain, &self.us()).await {
            tracing::warn!(error = %error, "shares of dealt keys could not be looked up; tried again with the next block");
        }
    }

    /// Writes what is still to be written; after the last request.
    pub async fn end(&self) {
        if let Some(duties) = &self.duties {
            duties.end().await;
        }
    }

    /// `POST /v1/watermarks`: one answer per key, in order.
    pub async fn watermarks(&self, key_ids: Vec<u64>) -> WatermarksReplies {
        let look = |key_id| async move {
            let said = match &self.duties {
                Some(duties) => duties.watermarks(key_id, self.parts()).await,
                None => self.watermarks_of_nothing(key_id).await,
            };
            said.map_or_else(|refusal| WatermarksReply::Refused(Refused { refusal }), WatermarksReply::Known)
        };
        let responses = futures::stream::iter(key_ids).map(look).buffered(PARALLEL_READS).collect().await;
        WatermarksReplies { responses }
    }

    /// A server that knows no beacon chain signs no duties.
    async fn watermarks_of_nothing(&self, key_id: u64) -> Result<Watermarks, Refusal> {
        signing::known_key(&self.store, key_id)?;
        let us = self.us();
        let facts = self.chain.duty_facts(key_id, &us).await?;
        let seat = self.chain.committees(key_id, facts.is_dealt).await?.newest_seat(&us);
        let index =
            seat.ok_or_else(|| Refusal::unavailable("the committee of the key just changed", "Ask again."))?.index;
        let assignment = self.chain.duty_assignment(key_id).await?;
        Ok(watermarks::of(key_id, (&facts, index), None, assignment))
    }

    fn parts(&self) -> Parts<'_> {
        Parts { store: &self.store, keys: &self.keys, chain: &self.chain, counted: &self.counted }
    }

    fn count_shares(&self) {
        if let Ok([_, shares, _]) = self.store.counts() {
            self.counted.shares.set(shares);
        }
    }

    /// `POST /v1/sign`: one answer per request, in order.
    pub async fn sign(self: &Arc<Self>, batch: SignBatch) -> SignReplies {
        let (mut deposits, mut changes, mut duties, mut forms) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for request in batch.requests {
            match request {
                SignRequest::Deposit(request) => {
                    forms.push(Form::Deposit);
                    deposits.push(request);
                }
                SignRequest::Change(request) => {
                    forms.push(Form::Change);
                    changes.push(request);
                }
                SignRequest::Duty(request) => {
                    forms.push(Form::Duty);
                    duties.push(request);
                }
            }
        }
        let answers =
            futures::join!(self.sign_deposits(deposits), self.sign_changes(changes), self.sign_duties(duties));
        let (mut deposits, mut changes, mut duties) =
            (answers.0.into_iter(), answers.1.into_iter(), answers.2.into_iter());
        let responses: Vec<SignResponse> = forms
            .into_iter()
            .filter_map(|form| match form {
                Form::Deposit => deposits.next(),
                Form::Change => changes.next(),
                Form::Duty => duties.next(),
            })
            .collect();
        self.count(&responses);
        SignReplies { responses }
    }

    async fn sign_duties(self: &Arc<Self>, requests: Vec<DutyRequest>) -> Vec<SignResponse> {
        if requests.is_empty() {
            return Vec::new();
        }
        let Some(duties) = &self.duties else {
            let reason = "this server knows no beacon chain, so it signs deposits and changes of credentials only";
            let refusal = Refusal::denied(reason, "The operator has to set beacon.schedule in its configuration.");
            return vec![SignResponse::refused(refusal); requests.len()];
        };
        duties.sign(requests, self.parts()).await
    }

    fn count(&self, responses: &[SignResponse]) {
        for response in responses {
            match response {
                SignResponse::Signed(_) => _ = self.counted.partials.inc(),
                SignResponse::Refused(refused) => {
                    let kind = refused.refusal.kind.name();
                    self.counted.refusals.get_or_create(&KindLabel { kind }).inc();
                }
            }
        }
    }

    async fn sign_changes(self: &Arc<Self>, requests: Vec<ChangeRequest>) -> Vec<SignResponse> {
        futures::stream::iter(requests)
            .map(|request| self.sign_change(request))
            .buffered(PARALLEL_READS)
            .map(|signed| signed.map_or_else(SignResponse::refused, SignResponse::Signed))
            .collect()
            .await
    }

    /// Nothing is stored: see [`change`].
    async fn sign_change(self: &Arc<Self>, request: ChangeRequest) -> Result<SignedPartial, Refusal> {
        // Before the chain is asked, as for deposits.
        signing::known_key(&self.store, request.key_id)?;
        let facts = self.chain.change_facts(&request, &self.us(), unix_seconds()).await?;
        let app = Arc::clone(self);
        let signed = tokio::task::spawn_blocking(move || app.make_change(&request, &facts)).await;
        signed.unwrap_or_else(|_| {
            Err(Refusal::unavailable("this server hit a bug while signing", "Report it to the operator."))
        })
    }

    fn make_change(&self, request: &ChangeRequest, facts: &change::Facts) -> Result<SignedPartial, Refusal> {
        let seat = change::judge(request, facts)?;
        let rows = self.store.shares(request.key_id).map_err(|error| signing::database_refusal(&error))?;
        let share = signing::open_share(&rows, request.key_id, (seat.index, seat.share_key), &self.keys.store_key)?;
        let (subject, signers) = (request.subject(), self.keys.signers());
        let signer = signers.of_leaf(seat.signer, request.key_id)?;
        let partial = signing::answer(&subject, &share, &self.chain.domain(), signer, seat.committee_epoch);
        let (key_id, validator) = (request.key_id, request.change.validator_index);
        tracing::info!(key_id, validator, vault = %facts.vault, index = seat.index.get(), "change of credentials signed");
        Ok(partial)
    }

    async fn sign_deposits(self: &Arc<Self>, requests: Vec<DepositRequest>) -> Vec<SignResponse> {
        if requests.is_empty() {
            return Vec::new();
        }
        let decided: Vec<Decision> = futures::stream::iter(requests)
            .map(|request| self.decide(request))
            .buffered(PARALLEL_READS)
            .collect()
            .await;
        let count = decided.len();
        let app = Arc::clone(self);
        match tokio::task::spawn_blocking(move || app.answer(decided)).await {
            Ok(responses) => responses,
            Err(_) => {
                let bug = Refusal::unavailable("this server hit a bug while signing", "Report it to the operator.");
                vec![SignResponse::refused(bug); count]
            }
        }
    }

    async fn decide(&self, request: DepositRequest) -> Decision {
        match signing::answered_before(&self.store, &request) {
            Ok(Some(partial)) => return Decision::Again(partial),
            Ok(None) => {}
            Err(refusal) => return Decision::Refuse(refusal),
        }
        // Before the chain is asked: strangers must not be able to spend the operator's RPC quota with made-up keys.
        if let Err(refusal) = signing::known_key(&self.store, request.key_id) {
            return Decision::Refuse(refusal);
        }
        match self.chain.deposit_facts(&request).await {
            Ok(facts) => Decision::Judge(request, Box::new(facts)),
            Err(refusal) => Decision::Refuse(refusal),
        }
    }

    /// Judges, signs and stores a whole batch; what is not stored does not leave.
    fn answer(&self, decided: Vec<Decision>) -> Vec<SignResponse> {
        let mut made: Vec<(DepositRequest, SignedPartial)> = Vec::new();
        // `None` stands for an answer that was made and is to be stored first.
        let slots: Vec<Option<SignResponse>> = decided
            .into_iter()
            .map(|decision| match decision {
                Decision::Again(partial) => Some(SignResponse::Signed(partial)),
                Decision::Refuse(refusal) => Some(SignResponse::refused(refusal)),
                Decision::Judge(request, facts) => match self.make(&request, &facts) {
                    Ok(partial) => {
                        made.push((request, partial));
                        None
                    }
                    Err(refusal) => Some(SignResponse::refused(refusal)),
                },
            })
            .collect();
        let stored = if made.is_empty() { Ok(Vec::new()) } else { signing::commit(&self.store, &made) };
        let mut stored = match stored {
            Ok(stored) => stored.into_iter(),
            Err(refusal) => vec![Err(refusal); made.len()].into_iter(),
        };
        slots
            .into_iter()
            .map(|slot| match slot {
                Some(response) => response,
                None => match stored.next() {
                    Some(Ok(partial)) => SignResponse::Signed(partial),
                    Some(Err(refusal)) => SignResponse::refused(refusal),
                    None => SignResponse::refused(Refusal::unavailable("the answer was not stored", "Ask again.")),
                },
            })
            .collect()
    }

    fn make(&self, deposit: &DepositRequest, facts: &Facts) -> Result<SignedPartial, Refusal> {
        let schedule = self.duties.as_ref().map(Duties::schedule);
        let seat = signing::judge(deposit, facts, &self.us(), (schedule, unix_seconds()))?;
        let rows = self.store.shares(deposit.key_id).map_err(|error| {
            tracing::error!(error = %error, "database failed while signing");
            Refusal::unavailable("this server's database failed", "Ask again.")
        })?;
        let share = signing::open_share(&rows, deposit.key_id, (seat.index, seat.share_key), &self.keys.store_key)?;
        let subject = deposit.subject();
        let root = subject.signing_root();
        let (epoch, signers) = (seat.committee_epoch, self.keys.signers());
        let signer = signers.of_leaf(seat.signer, deposit.key_id)?;
        let partial = signing::answer(&subject, &share, &self.chain.domain(), signer, epoch);
        let (key_id, index) = (deposit.key_id, seat.index.get());
        tracing::info!(key_id, committee_epoch = epoch, signing_root = %root, index, "deposit signed");
        Ok(partial)
    }

    /// What keeps the server from being of use; empty if nothing does. Looked at anew at most once a second, by one caller
    /// for all that ask.
    pub async fn unready(&self) -> Vec<Unready> {
        let mut last = self.readiness.lock().await;
        if let Some((at, reasons)) = last.as_ref()
            && at.elapsed() < READINESS_LASTS
        {
            return reasons.clone();
        }
        let reasons = self.look_for_reasons().await;
        *last = Some((Instant::now(), reasons.clone()));
        reasons
    }

    /// Shares with which nothing can be signed, because the signer key that their leaf names is not here.
    fn lost_signer(&self) -> Option<String> {
        let leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let (signer, shares) = leaves.iter().find(|(signer, _)| !self.holds(**signer))?;
        Some(format!(
            "{} of its shares are signed for with signer {signer}, whose key is not here; put its file back beside the others \
             (files.signer_keys)",
            shares.len()
        ))
    }

    /// An endpoint is named by its number: anybody may ask, and which provider an operator uses is nobody's business. The
    /// log has the name.
    async fn look_for_reasons(&self) -> Vec<Unready> {
        let mut reasons = Vec::new();
        let endpoints = self.chain.reader().endpoints();
        let blocks = endpoints.iter().map(|endpoint| endpoint.block(BlockNumberOrTag::Latest));
        for (number, block) in (1..).zip(futures::future::join_all(blocks).await) {
            match block {
                Ok(Some(_)) => {}
                Ok(None) => reasons.push(("rpc", format!("RPC endpoint {number} has no newest block"))),
                Err(error) => {
                    tracing::warn!(error = %error, "RPC endpoint does not answer");
                    reasons.push(("rpc", format!("RPC endpoint {number} does not answer; the log says more")));
                }
            }
        }
        if let Err(error) = self.store.check_writable() {
            reasons.push(("database", error.to_string()));
        }
        if let Some(Err(error)) = self.duties.as_ref().map(|duties| duties.desk().check_writable()) {
            reasons.push(("protection", error.to_string()));
        }
        if let Some(reason) = self.clock.trouble() {
            reasons.push(("clock", reason));
        }
        if self.server_id.load(Ordering::Relaxed) == 0 {
            reasons.push(("registered", format!("no server with signer {} is registered", self.signer())));
        }
        let trouble = self.standing().trouble.or_else(|| self.lost_signer());
        reasons.extend(trouble.map(|trouble| ("signer", trouble)));
        if self.other_certificate.load(Ordering::Relaxed) {
            reasons.push(("certificate", "the registry names another certificate, so nobody connects".to_owned()));
        }
        reasons
    }
}

/// Of which form a request is; answers go back in the order of the requests.
enum Form {
    Deposit,
    Change,
    Duty,
}

enum Decision {
    Again(SignedPartial),
    Refuse(Refusal),
    Judge(DepositRequest, Box<Facts>),
}

fn no_signer_key(error: &dyn std::fmt::Display) -> Problem {
    tracing::error!(error = %error, "a signer key is not here");
    Problem::unavailable(
        StatusCode::SERVICE_UNAVAILABLE,
        error.to_string(),
        "the operator has to put the file of that signer key beside the others (files.signer_keys); of a signer that the registry was told \
         of just now it is used once that block is finalised: call again",
    )
}

fn internal(error: &dyn std::fmt::Display) -> Problem {
    tracing::error!(error = %error, "request failed");
    Problem::unavailable(
        StatusCode::SERVICE_UNAVAILABLE,
        "this server cannot use its own state now",
        "call again; the operator has to look at the logs if it stays",
    )
}

/// Seconds since 1970.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn no_reshare(error: &NoReshare) -> Problem {
    match error {
        NoReshare::Chain(stkr_chain::ChainError::NotFound(_)) => Problem::denied(
            StatusCode::NOT_FOUND,
            error.to_string(),
            "check the key id; if the key was finalised or the reshare drawn just now, call again",
        ),
        NoReshare::Chain(_) => {
            tracing::warn!(error = %error, "chain could not be read for a reshare");
            Problem::unavailable(StatusCode::SERVICE_UNAVAILABLE, error.to_string(), "call again")
        }
        NoReshare::Other { .. } => Problem::denied(
            StatusCode::CONFLICT,
            error.to_string(),
            "call once the block of the draw is finalised, for the attempt that it drew",
        ),
        NoReshare::Expired { .. } => Problem::denied(
            StatusCode::CONFLICT,
            error.to_string(),
            "anyone may restart the reshare; the old committee signs on",
        ),
    }
}

fn no_ceremony(error: &NoCeremony) -> Problem {
    match error {
        NoCeremony::Chain(stkr_chain::ChainError::NotFound(_)) => Problem::denied(
            StatusCode::NOT_FOUND,
            error.to_string(),
            "check the key id; if the committee was drawn just now, call again",
        ),
        NoCeremony::Chain(_) => {
            tracing::warn!(error = %error, "chain could not be read for a ceremony");
            Problem::unavailable(StatusCode::SERVICE_UNAVAILABLE, error.to_string(), "call again")
        }
        NoCeremony::NotDrawn { .. } | NoCeremony::OtherAttempt { .. } => Problem::denied(
            StatusCode::CONFLICT,
            error.to_string(),
            "read the key's state from the chain and call for the attempt that runs",
        ),
        NoCeremony::Expired { .. } => Problem::denied(
            StatusCode::CONFLICT,
            error.to_string(),
            "anyone may restart the ceremony in the key registry",
        ),
        NoCeremony::BadCommittee { .. } => Problem::denied(
            StatusCode::CONFLICT,
            error.to_string(),
            "compare the registry with docs/protocol.md; this program cannot serve such a committee",
        ),
    }
}
