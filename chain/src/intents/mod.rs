//! Transaction intents: something shall happen on the chain once, whatever happens to this process, to the mempool or to
//! the last blocks.
//!
//! An intent is a row with a unique name that the caller chooses (`draw:1:0`). It is driven in passes; every pass may be
//! the last before a crash:
//!
//! ```text
//! waiting --preflight, sign, STORE, send--> pending --receipt--> included --deep enough--> confirmed
//!    |                                         ^  |                  |                     (superseded, failed)
//!    | preflight reverts                       |  +- new fees, same nonce                      |
//!    v                                         +------- a reorg dropped it: the same bytes again +
//! superseded / failed
//! ```
//!
//! # Why nothing is sent twice
//! A nonce belongs to one intent (a unique index says so) and is stored with the signed bytes before they are sent. All
//! attempts of an intent carry its nonce, so the chain takes one of them. An intent gets another nonce only when a
//! transaction that is not ours used up the first in a block that counts as confirmed: then no attempt of it can ever be
//! included. An intent that is given up while it holds a nonce sends an empty transaction to the sender at
//! that nonce instead, for a gap would hold up everything behind it.
//!
//! # Why confirmed intents are watched further
//! Until [`IntentOptions::watch_depth`] a reorg reopens even a confirmed intent and its bytes are sent again: with a
//! devnet's short finality that happens, and the next nonces would wait for ever for the missing one.

mod row;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::{BlockId as At, BlockNumberOrTag, eip2718::Encodable2718},
    network::{TransactionBuilder, TxSignerSync},
    primitives::{Address, B256, Bytes, TxKind, U256},
    providers::{DynProvider, Provider},
    rpc::types::{TransactionReceipt, TransactionRequest},
    signers::local::PrivateKeySigner,
    sol_types::SolCall,
};

use self::row::{Attempt, Inclusion, IntentRow};
use crate::{
    deployment::Deployment,
    endpoint::{Endpoint, ask, existing_block},
    errors::{ChainError, ContractError},
    store::Store,
};

/// What shall be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The contract (or account).
    pub to: Address,
    /// Wei.
    pub value: U256,
    /// Calldata.
    pub data: Bytes,
    /// Gas limit; estimated with a margin if absent.
    pub gas_limit: Option<u64>,
}

impl Call {
    /// A call of a contract's function, without value.
    #[must_use]
    pub fn new<C: SolCall>(to: Address, call: &C) -> Self {
        Self { to, value: U256::ZERO, data: call.abi_encode().into(), gas_limit: None }
    }

    /// The same call with `wei`.
    #[must_use]
    pub fn with_value(mut self, wei: U256) -> Self {
        self.value = wei;
        self
    }
}

/// Where an intent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IntentState {
    /// Not signed yet.
    Waiting,
    /// Signed and stored under a nonce; on its way.
    Pending,
    /// In a block.
    Included,
    /// Done: in a block that counts as confirmed, and it succeeded.
    Confirmed,
    /// Somebody else did it first.
    Superseded,
    /// The contract refused.
    Failed,
}

impl IntentState {
    pub(self) const ALL: [Self; 6] =
        [Self::Waiting, Self::Pending, Self::Included, Self::Confirmed, Self::Superseded, Self::Failed];

    /// Name, as in the database and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Pending => "pending",
            Self::Included => "included",
            Self::Confirmed => "confirmed",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
        }
    }

    /// Whether it ended, one way or another.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Confirmed | Self::Superseded | Self::Failed)
    }
}

impl fmt::Display for IntentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// All there is to know about an intent.
#[derive(Clone, Debug)]
pub struct IntentStatus {
    /// Its position among all intents of the database, growing from 1.
    pub id: i64,
    /// Its name.
    pub key: String,
    /// Where it stands.
    pub state: IntentState,
    /// The nonce it holds.
    pub nonce: Option<u64>,
    /// Hashes of all its transactions ever signed, newest first.
    pub attempts: Vec<B256>,
    /// The one that is in a block.
    pub hash: Option<B256>,
    /// Number and hash of that block.
    pub block: Option<(u64, B256)>,
    /// Gas it used.
    pub gas_used: Option<u64>,
    /// The contract's error, if it refused.
    pub error: Option<ContractError>,
    /// Why it does not move, in one sentence; empty if nothing is in its way.
    pub note: String,
}

/// When a block counts as confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// When the chain calls it finalized.
    Finalized,
    /// When this many blocks are above it.
    Depth(u64),
}

/// How transactions are sent.
#[derive(Clone, Copy, Debug)]
pub struct IntentOptions {
    /// Pause between two passes of [`Intents::run`].
    pub interval: Duration,
    /// Blocks after which a transaction that is not included is replaced by one that pays more.
    pub bump_after: u64,
    /// Most wei per gas offered, but for [`Intents::raise_caps`]. While the base fee is above, nothing is sent.
    pub fee_cap: u128,
    /// When an inclusion counts.
    pub confirm: Confirm,
    /// Blocks above an inclusion until nobody looks at it any more.
    pub watch_depth: u64,
    /// Percent added to the gas estimate: state may change before inclusion.
    pub gas_margin: u64,
}

impl Default for IntentOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(2),
            bump_after: 3,
            fee_cap: 500_000_000_000,
            confirm: Confirm::Finalized,
            watch_depth: 96,
            gas_margin: 25,
        }
    }
}

/// Decides from an intent's name and a contract's error whether somebody else did the same thing first.
pub type Superseded = Arc<dyn Fn(&str, &ContractError) -> bool + Send + Sync>;

/// Drives the intents of one account. Clones, and others on the same [`Store`], take turns.
#[derive(Clone)]
pub struct Intents {
    store: Store,
    endpoints: Vec<Endpoint>,
    chain_id: u64,
    signer: PrivateKeySigner,
    options: IntentOptions,
    superseded: Superseded,
    /// Wei per gas that transactions of a step may cost, where that is more than the usual cap.
    raised: Arc<Mutex<BTreeMap<String, u128>>>,
    #[cfg(test)]
    crash: Arc<std::sync::Mutex<Option<CrashPoint>>>,
}

impl fmt::Debug for Intents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intents")
            .field("sender", &self.sender())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Where a test lets the process die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CrashPoint {
    /// Signed, not stored.
    BeforeStore,
    /// Stored, not sent.
    BeforeSend,
    /// Sent; nothing after it was done.
    AfterSend,
}

/// What a pass knows about the chain.
#[derive(Clone, Copy, Debug)]
struct View {
    head: u64,
    /// Newest block that counts as confirmed; nothing on a chain too short for one.
    confirmed: Option<u64>,
    /// The sender's next nonce at the head, and at the confirmed block.
    nonce: u64,
    confirmed_nonce: u64,
}

/// Fees of one attempt, wei per gas.
#[derive(Clone, Copy, Debug)]
struct Fees {
    max: u128,
    priority: u128,
}

impl Intents {
    /// Drives the intents that `signer` pays for, on the chain of `deployment`.
    #[must_use]
    pub fn new(
        store: Store,
        endpoints: Vec<Endpoint>,
        deployment: &Deployment,
        signer: PrivateKeySigner,
        options: IntentOptions,
        superseded: Superseded,
    ) -> Self {
        Self {
            store,
            endpoints,
            chain_id: deployment.chain_id,
            signer,
            options,
            superseded,
            raised: Arc::default(),
            #[cfg(test)]
            crash: Arc::default(),
        }
    }

    /// The account that pays.
    #[must_use]
    pub const fn sender(&self) -> Address {
        self.signer.address()
    }

    /// Records that `call` shall happen once, under the name `key`. Nothing is sent before the next pass. An intent with
    /// this name that exists already stays as it is.
    ///
    /// # Errors
    /// [`ChainError::DifferentIntent`] if the name is in use for another call; SQLite's.
    pub fn submit(&self, key: &str, call: &Call) -> Result<IntentStatus, ChainError> {
        self.store.write(|transaction| match row::by_key(transaction, key)? {
            Some(existing) if existing.call != *call => Err(ChainError::DifferentIntent { key: key.to_owned() }),
            Some(_) => Ok(()),
            None => row::insert(transaction, self.sender(), key, call),
        })?;
        self.status(key)?.ok_or_else(|| ChainError::NotFound(format!("there is no intent {key}")))
    }

    /// Starts an intent again that was superseded or failed, because the chain says that it is still wanted, with `value` wei: what
    /// it costs may have risen since. False while it can still come back by itself (a reorg may yet undo what ended it), or if it
    /// ended well.
    ///
    /// # Errors
    /// SQLite's.
    pub fn reopen(&self, key: &str, value: U256) -> Result<bool, ChainError> {
        self.store.write(|transaction| row::reopen(transaction, key, value))
    }

    /// Names an intent anew that a version before this one named otherwise, with all that was sent for it. False if there is none of
    /// the name `from`, or one of the name `to`.
    ///
    /// # Errors
    /// SQLite's.
    pub fn rename(&self, from: &str, to: &str) -> Result<bool, ChainError> {
        self.store.write(|transaction| row::rename(transaction, from, to))
    }

    /// The intent of this name.
    ///
    /// # Errors
    /// SQLite's.
    pub fn status(&self, key: &str) -> Result<Option<IntentStatus>, ChainError> {
        self.store.read(|connection| {
            let found = row::by_key(connection, key)?;
            found.map(|found| Ok(status(&found, row::attempts(connection, found.id)?))).transpose()
        })
    }

    /// Up to `limit` intents of this account behind position `after`, oldest first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn list(&self, after: i64, limit: u32) -> Result<Vec<IntentStatus>, ChainError> {
        self.page((after, false), limit)
    }

    /// The newest `limit` intents of this account, newest first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn newest(&self, limit: u32) -> Result<Vec<IntentStatus>, ChainError> {
        self.page((i64::MAX, true), limit)
    }

    fn page(&self, from: (i64, bool), limit: u32) -> Result<Vec<IntentStatus>, ChainError> {
        self.store.read(|connection| {
            let rows = row::page(connection, self.sender(), from, limit)?;
            rows.iter().map(|found| Ok(status(found, row::attempts(connection, found.id)?))).collect()
        })
    }

    /// Intents whose name is `step`, a slash and anything, oldest first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn of_step(&self, step: &str) -> Result<Vec<IntentStatus>, ChainError> {
        self.store.read(|connection| {
            let rows = row::of_step(connection, self.sender(), step)?;
            rows.iter().map(|found| Ok(status(found, row::attempts(connection, found.id)?))).collect()
        })
    }

    /// Gives up what [`Intents::of_step`] finds and is not in a block yet, because it must not happen any more. What was not
    /// signed never will be; what was sent loses its nonce to an empty transaction that pays more, unless a block takes it
    /// first. Returns how many were given up now.
    ///
    /// # Errors
    /// SQLite's.
    pub async fn withdraw(&self, step: &str) -> Result<usize, ChainError> {
        let _alone = self.store.sending.lock().await;
        self.store.write(|transaction| {
            let mut withdrawn = 0;
            for mut row in row::of_step(transaction, self.sender(), step)? {
                match row.state {
                    IntentState::Waiting => row.state = IntentState::Superseded,
                    IntentState::Pending if row.given_up.is_none() => row.given_up = Some(IntentState::Superseded),
                    _ => continue,
                }
                row.note = "withdrawn: something else has to happen instead".to_owned();
                let settled = row.state == IntentState::Superseded;
                row::save(transaction, &row, settled)?;
                withdrawn += 1;
            }
            Ok(withdrawn)
        })
    }

    /// From the next pass on, and until this is said again, transactions of these steps may cost so much (wei per gas) if that is more
    /// than [`IntentOptions::fee_cap`]: for what is lost at a price if it comes too late. What was sent before may have to pay
    /// more too, for the nonces of an account are used in order.
    pub fn raise_caps(&self, caps: BTreeMap<String, u128>) {
        *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = caps;
    }

    /// Cap of the intent `key`, which is its step, a slash and a hash.
    fn cap(&self, key: &str) -> u128 {
        let step = key.rsplit_once('/').map_or(key, |(step, _)| step);
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner).get(step).copied();
        raised.unwrap_or_default().max(self.options.fee_cap)
    }

    /// Cap of what is on its way: a cheap transaction would hold up a dear one behind it.
    fn highest_cap(&self) -> u128 {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner).values().copied().max();
        raised.unwrap_or_default().max(self.options.fee_cap)
    }

    /// Makes passes until `stop` is ready. Failures are logged and tried again.
    ///
    /// # Errors
    /// A broken database.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Result<(), ChainError> {
        tokio::pin!(stop);
        loop {
            tokio::select! {
                // A pass that is dropped half way is a crash, and those are harmless here.
                () = &mut stop => return Ok(()),
                outcome = self.drive() => match outcome {
                    Err(error @ ChainError::Database(_)) => return Err(error),
                    Err(error) => tracing::warn!(%error, "transactions wait"),
                    Ok(()) => {}
                },
            }
            tokio::select! {
                () = &mut stop => return Ok(()),
                () = tokio::time::sleep(self.options.interval) => {}
            }
        }
    }

    /// Makes passes until the intent is over, and says how.
    ///
    /// # Errors
    /// [`ChainError::NotFound`] if there is none; those of [`Intents::drive`] that waiting does not cure.
    pub async fn finish(&self, key: &str) -> Result<IntentStatus, ChainError> {
        loop {
            match self.drive().await {
                Err(error) if !error.is_transient() => return Err(error),
                _ => {}
            }
            let status = self.status(key)?.ok_or_else(|| ChainError::NotFound(format!("there is no intent {key}")))?;
            if status.state.is_over() {
                return Ok(status);
            }
            tokio::time::sleep(self.options.interval).await;
        }
    }

    /// One pass: everything that can be done now for every intent that needs it.
    ///
    /// # Errors
    /// That of the last endpoint if none answers; SQLite's.
    pub async fn drive(&self) -> Result<(), ChainError> {
        let _alone = self.store.sending.lock().await;
        let mut last = ChainError::TooFewEndpoints { configured: 0, needed: 1 };
        for endpoint in &self.endpoints {
            match self.pass(endpoint.provider()).await {
                Err(error) if error.is_transient() => last = error,
                outcome => return outcome,
            }
        }
        Err(last)
    }

    async fn pass(&self, provider: &DynProvider) -> Result<(), ChainError> {
        let rows = self.store.read(|connection| row::unsettled(connection, self.sender()))?;
        if rows.is_empty() {
            return Ok(());
        }
        let view = self.view(provider).await?;
        for mut row in rows {
            let outcome = match row.state {
                IntentState::Waiting => self.start(provider, &view, &mut row).await,
                IntentState::Pending => self.push(provider, &view, &mut row).await,
                _ => self.watch(provider, &view, &mut row).await,
            };
            match outcome {
                // One intent's bad luck must not hold up the others.
                Err(error @ (ChainError::Refused { .. } | ChainError::Reverted { .. })) => {
                    self.note(&mut row, error.to_string())?;
                }
                other => other?,
            }
        }
        Ok(())
    }

    async fn view(&self, provider: &DynProvider) -> Result<View, ChainError> {
        let head = existing_block(provider, BlockNumberOrTag::Latest).await?.number;
        let confirmed = match self.options.confirm {
            Confirm::Depth(depth) => head.checked_sub(depth),
            Confirm::Finalized => {
                let block = crate::endpoint::block(provider, BlockNumberOrTag::Finalized).await?;
                block.map(|block| block.number)
            }
        };
        let nonce = self.nonce_at(provider, At::latest()).await?;
        let confirmed_nonce = match confirmed {
            None => 0,
            Some(at) => self.nonce_at(provider, At::number(at)).await?,
        };
        Ok(View { head, confirmed, nonce, confirmed_nonce })
    }

    async fn nonce_at(&self, provider: &DynProvider, at: At) -> Result<u64, ChainError> {
        let question = provider.get_transaction_count(self.sender()).block_id(at);
        ask("reading the sender's nonce", async { question.await }).await
    }

    // ---------------------------------------------------------------- waiting

    /// Preflight, sign, store, send.
    async fn start(&self, provider: &DynProvider, view: &View, row: &mut IntentRow) -> Result<(), ChainError> {
        let gas_limit = match self.preflight(provider, &row.call).await? {
            Ok(gas_limit) => gas_limit,
            Err(error) => {
                row.state = self.verdict(row, &error);
                row.revert_data = Some(error.data);
                row.note.clear();
                return self.save(row, true);
            }
        };
        let fees = match self.fees(provider, self.cap(&row.key)).await? {
            Ok(fees) => fees,
            Err(note) => return self.note(row, note),
        };
        let raw = self.store.write(|transaction| {
            let nonce = row::next_nonce(transaction, self.sender(), view.nonce)?;
            let attempt = self.sign(&row.call, false, nonce, gas_limit, fees, view.head)?;
            self.crash_here(CrashPoint::BeforeStore)?;
            row.nonce = Some(nonce);
            row.state = IntentState::Pending;
            row.note.clear();
            row::insert_attempt(transaction, row.id, &attempt)?;
            row::save(transaction, row, false)?;
            Ok::<_, ChainError>(attempt.raw)
        })?;
        self.send(row, &raw).await.map(drop)
    }

    /// Gas limit of the call if it would succeed now, the contract's error if not.
    async fn preflight(
        &self,
        provider: &DynProvider,
        call: &Call,
    ) -> Result<Result<u64, Box<ContractError>>, ChainError> {
        let request = TransactionRequest::default()
            .with_from(self.sender())
            .with_to(call.to)
            .with_value(call.value)
            .with_input(call.data.clone());
        let question = provider.estimate_gas(request).block(At::latest());
        match ask("trying the call out", async { question.await }).await {
            Ok(gas) => {
                let margin = gas.saturating_mul(self.options.gas_margin) / 100;
                Ok(Ok(call.gas_limit.unwrap_or_else(|| gas.saturating_add(margin))))
            }
            Err(ChainError::Reverted { error, .. }) => Ok(Err(error)),
            Err(error) => Err(error),
        }
    }

    fn verdict(&self, row: &IntentRow, error: &ContractError) -> IntentState {
        if (self.superseded)(&row.key, error) { IntentState::Superseded } else { IntentState::Failed }
    }

    /// Fees for a new transaction, or why there are none.
    async fn fees(&self, provider: &DynProvider, cap: u128) -> Result<Result<Fees, String>, ChainError> {
        let estimate = ask("estimating fees", provider.estimate_eip1559_fees()).await?;
        let (max, priority) = (estimate.max_fee_per_gas, estimate.max_priority_fee_per_gas);
        // The estimate is twice the base fee and the tip: room for six full blocks in a row.
        let base = max.saturating_sub(priority) / 2;
        if base > cap {
            return Ok(Err(format!("waits: the base fee of {base} wei per gas is above the cap of {cap}")));
        }
        let max = max.min(cap);
        Ok(Ok(Fees { max, priority: priority.min(max) }))
    }

    fn sign(
        &self,
        call: &Call,
        cancels: bool,
        nonce: u64,
        gas_limit: u64,
        fees: Fees,
        block: u64,
    ) -> Result<Attempt, ChainError> {
        let mut tx = TxEip1559 {
            chain_id: self.chain_id,
            nonce,
            gas_limit,
            max_fee_per_gas: fees.max,
            max_priority_fee_per_gas: fees.priority,
            to: TxKind::Call(call.to),
            value: call.value,
            access_list: Default::default(),
            input: call.data.clone(),
        };
        if cancels {
            (tx.to, tx.value, tx.input) = (TxKind::Call(self.sender()), U256::ZERO, Bytes::new());
        }
        let signature =
            self.signer.sign_transaction_sync(&mut tx).map_err(|error| ChainError::Signer(error.to_string()))?;
        let signed = tx.into_signed(signature);
        let hash = *signed.hash();
        let raw = TxEnvelope::from(signed).encoded_2718().into();
        let (max_fee, max_priority_fee) = (fees.max, fees.priority);
        Ok(Attempt { hash, nonce, cancels, raw, max_fee, max_priority_fee, gas_limit, block })
    }

    /// Gives the bytes to every endpoint; true if one took them. A refusal is noted and not fatal: the next pass sees
    /// what became of it.
    async fn send(&self, row: &mut IntentRow, raw: &Bytes) -> Result<bool, ChainError> {
        self.crash_here(CrashPoint::BeforeSend)?;
        let mut taken = false;
        let mut refusal = None;
        for endpoint in &self.endpoints {
            let action = format!("sending to {}", endpoint.name());
            match ask(action, endpoint.provider().send_raw_transaction(raw)).await {
                Ok(_) => taken = true,
                Err(error) if error.to_string().contains("already ") => taken = true,
                Err(error) => refusal = Some(error),
            }
        }
        self.crash_here(CrashPoint::AfterSend)?;
        if let Some(error) = refusal.filter(|_| !taken) {
            self.note(row, error.to_string())?;
        }
        Ok(taken)
    }

    // ---------------------------------------------------------------- pending

    /// Looks for a receipt; replaces, sends again or gives up where there is none.
    async fn push(&self, provider: &DynProvider, view: &View, row: &mut IntentRow) -> Result<(), ChainError> {
        let Some(nonce) = row.nonce else {
            row.state = IntentState::Waiting;
            return self.save(row, false);
        };
        let attempts = self.store.read(|connection| row::attempts(connection, row.id))?;
        let current: Vec<&Attempt> = attempts.iter().filter(|attempt| attempt.nonce == nonce).collect();
        for attempt in &current {
            if let Some(receipt) = self.receipt(provider, attempt.hash).await? {
                return self.include(provider, view, row, attempt, &receipt).await;
            }
        }
        if view.nonce > nonce {
            return self.nonce_lost(view, row, nonce);
        }
        let Some(last) = current.first() else {
            row.state = IntentState::Waiting;
            row.nonce = None;
            return self.save(row, false);
        };
        let known = provider.get_transaction_by_hash(last.hash);
        let dropped = ask("looking for our transaction", known).await?.is_none();
        let late = view.head >= last.block.saturating_add(self.options.bump_after);
        let withdrawn = row.given_up.is_some() && !last.cancels;
        if !dropped && !late && !withdrawn {
            return Ok(());
        }
        if row.given_up.is_none()
            && let Err(error) = self.preflight(provider, &row.call).await?
        {
            row.given_up = Some(self.verdict(row, &error));
            row.revert_data = Some(error.data);
        }
        // From here on the nonce only has to be used up.
        let cancels = row.given_up.is_some();
        if dropped && cancels == last.cancels && self.send(row, &last.raw).await? {
            // The pool has it again, and it gets as long as a new one until it must pay more.
            return self.store.write(|transaction| row::touch(transaction, last.hash, view.head));
        }
        if late || cancels != last.cancels {
            return self.replace(provider, view, row, nonce, last, cancels).await;
        }
        Ok(())
    }

    /// Signs the intent again at the same nonce with fees that nodes accept as a replacement (a tenth more, here a
    /// quarter), up to the cap.
    async fn replace(
        &self,
        provider: &DynProvider,
        view: &View,
        row: &mut IntentRow,
        nonce: u64,
        last: &Attempt,
        cancels: bool,
    ) -> Result<(), ChainError> {
        let cap = self.highest_cap();
        let fresh = self.fees(provider, cap).await?.unwrap_or(Fees { max: 0, priority: 0 });
        let max = (last.max_fee + last.max_fee / 4 + 1).max(fresh.max).min(cap);
        let priority = (last.max_priority_fee + last.max_priority_fee / 4 + 1).max(fresh.priority).min(max);
        let least = |fee: u128| fee + fee / 10;
        if max < least(last.max_fee) || priority < least(last.max_priority_fee) {
            self.note(row, format!("waits: paying more would pass the cap of {cap} wei per gas"))?;
            return Ok(());
        }
        let gas_limit = if cancels { 21_000 } else { last.gas_limit };
        let attempt = self.sign(&row.call, cancels, nonce, gas_limit, Fees { max, priority }, view.head)?;
        self.store.write(|transaction| {
            row::insert_attempt(transaction, row.id, &attempt)?;
            row.note.clear();
            row::save(transaction, row, false)
        })?;
        self.send(row, &attempt.raw).await.map(drop)
    }

    /// Somebody else who has our key used our nonce. Only when that is confirmed are our attempts dead for certain.
    fn nonce_lost(&self, view: &View, row: &mut IntentRow, nonce: u64) -> Result<(), ChainError> {
        if view.confirmed_nonce <= nonce {
            return self.note(row, format!("waits: another transaction of {} uses nonce {nonce}", self.sender()));
        }
        row.nonce = None;
        row.note.clear();
        let ended = row.given_up.take();
        row.state = ended.unwrap_or(IntentState::Waiting);
        self.save(row, ended.is_some())
    }

    // ---------------------------------------------------------------- in a block

    async fn include(
        &self,
        provider: &DynProvider,
        view: &View,
        row: &mut IntentRow,
        attempt: &Attempt,
        receipt: &TransactionReceipt,
    ) -> Result<(), ChainError> {
        let Some((block_number, block_hash)) = receipt.block_number.zip(receipt.block_hash) else {
            return Ok(());
        };
        row.included = Some(Inclusion { hash: attempt.hash, block_number, block_hash, gas_used: receipt.gas_used });
        if !attempt.cancels {
            // Ours made it after all.
            row.given_up = None;
            row.revert_data = None;
            if !receipt.status() {
                let error = self.why(provider, row, block_number).await?;
                row.given_up = Some(self.verdict(row, &error));
                row.revert_data = Some(error.data);
            }
        }
        row.state = IntentState::Included;
        row.note.clear();
        self.settle(view, row)
    }

    /// The error of a transaction that reverted in a block: the same call before that block, or at its end.
    async fn why(&self, provider: &DynProvider, row: &IntentRow, block: u64) -> Result<ContractError, ChainError> {
        for at in [block.saturating_sub(1), block] {
            let request = TransactionRequest::default()
                .with_from(self.sender())
                .with_to(row.call.to)
                .with_value(row.call.value)
                .with_input(row.call.data.clone());
            let question = provider.call(request).block(At::number(at));
            match ask("asking why a transaction reverted", async { question.await }).await {
                Err(ChainError::Reverted { error, .. }) => return Ok(*error),
                Err(error) if error.is_transient() && !matches!(error, ChainError::Refused { .. }) => {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(ContractError::decode(&[]))
    }

    /// Checks that an included transaction is still where it was.
    async fn watch(&self, provider: &DynProvider, view: &View, row: &mut IntentRow) -> Result<(), ChainError> {
        let Some(included) = row.included else {
            row.state = IntentState::Pending;
            return self.save(row, false);
        };
        match self.receipt(provider, included.hash).await? {
            Some(receipt) if receipt.block_hash == Some(included.block_hash) => self.settle(view, row),
            _ => {
                tracing::warn!(intent = %row.key, tx = %included.hash, "a reorg dropped our transaction");
                let attempts = self.store.read(|connection| row::attempts(connection, row.id))?;
                if attempts.iter().any(|attempt| attempt.hash == included.hash && !attempt.cancels) {
                    // It may have reverted there; on the new chain nothing is decided yet.
                    row.given_up = None;
                    row.revert_data = None;
                }
                row.state = IntentState::Pending;
                row.included = None;
                self.save(row, false)?;
                self.push(provider, view, row).await
            }
        }
    }

    /// Ends an included intent once its block counts, and lets go of it once it is deep enough.
    fn settle(&self, view: &View, row: &mut IntentRow) -> Result<(), ChainError> {
        let Some(included) = row.included else {
            return Ok(());
        };
        let confirmed = view.confirmed.is_some_and(|confirmed| included.block_number <= confirmed);
        if confirmed {
            row.state = row.given_up.unwrap_or(IntentState::Confirmed);
        }
        let deep = view.head.saturating_sub(included.block_number) >= self.options.watch_depth;
        self.save(row, confirmed && deep)
    }

    /// The receipt, if its block is on the endpoint's chain.
    async fn receipt(&self, provider: &DynProvider, hash: B256) -> Result<Option<TransactionReceipt>, ChainError> {
        let question = provider.get_transaction_receipt(hash);
        let Some(receipt) = ask("looking for a receipt", question).await? else {
            return Ok(None);
        };
        let Some(number) = receipt.block_number else {
            return Ok(None);
        };
        let block = crate::endpoint::block(provider, BlockNumberOrTag::Number(number)).await?;
        Ok(block.filter(|block| Some(block.hash) == receipt.block_hash).map(|_| receipt))
    }

    // ---------------------------------------------------------------- rows

    fn save(&self, row: &IntentRow, settled: bool) -> Result<(), ChainError> {
        self.store.write(|transaction| row::save(transaction, row, settled))
    }

    fn note(&self, row: &mut IntentRow, note: String) -> Result<(), ChainError> {
        row.note = note;
        self.save(row, false)
    }

    #[cfg(test)]
    fn crash_here(&self, point: CrashPoint) -> Result<(), ChainError> {
        let planned = self.crash.lock().unwrap();
        if *planned == Some(point) { Err(ChainError::Signer(format!("crashed {point:?}"))) } else { Ok(()) }
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)]
    const fn crash_here(&self, _: CrashPoint) -> Result<(), ChainError> {
        Ok(())
    }
}

fn status(row: &IntentRow, attempts: Vec<Attempt>) -> IntentStatus {
    IntentStatus {
        id: row.id,
        key: row.key.clone(),
        state: row.state,
        nonce: row.nonce,
        attempts: attempts.into_iter().map(|attempt| attempt.hash).collect(),
        hash: row.included.map(|included| included.hash),
        block: row.included.map(|included| (included.block_number, included.block_hash)),
        gas_used: row.included.map(|included| included.gas_used),
        error: row.revert_data.as_ref().map(|data| ContractError::decode(data)),
        note: row.note.clone(),
    }
}
