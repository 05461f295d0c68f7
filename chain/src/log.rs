//! The event log: every log of our contracts, in SQLite, in step with the chain across reorgs and restarts.
//!
//! A poll first reconciles: it walks back from the newest stored block while the chain has another hash there, and
//! deletes what vanished in one transaction. Then it goes forward: up to the newest finalized block in ranges, beyond it
//! block by block, each linked to its parent and its logs asked for *by block hash*, so that no reorg between two
//! questions can mix two chains. Blocks and logs of a batch are one transaction. A crash at any moment leaves a
//! prefix of some chain, which the next poll reconciles.
//!
//! # Consumers
//! [`EventLog::consume`] hands a consumer first what vanished after it had read it ([`Change::Removed`], newest first),
//! then what is new ([`Change::Added`]), inside the transaction that moves its cursor. A consumer that keeps its effects in
//! the same database therefore counts nothing twice and forgets nothing, whatever the chain or the power supply does.
//!
//! # Why polling
//! Log subscriptions lose events when the connection is silently made anew, and their `removed` flags exist only while one
//! is connected. A poll that compares hashes needs no memory of the connection.

mod deposits;
#[cfg(test)]
mod tests;

use std::{future::Future, sync::Arc, time::Duration};

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256, Bytes},
    providers::Provider,
    rpc::types::{Filter, Log},
    sol_types::{SolEvent, SolEventInterface},
};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use tokio::sync::watch;

use crate::{
    bindings::{
        Acknowledgements, Court, KeyRegistry, Micropools, ProviderRegistry, Resharing, ServerRegistry, WithdrawalKeys,
    },
    deployment::Deployment,
    endpoint::{BlockId, Endpoint, ask, existing_block},
    errors::ChainError,
    store::{Store, bytes, integer, number},
};

pub use self::deposits::{LoggedDeposit, WatchedKey};

/// What to do when a block vanishes that was final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalReorg {
    /// Stop with [`ChainError::FinalBlockVanished`]. On a public network that is an endpoint of another chain, or the end
    /// of Ethereum as we know it; both are for a human.
    Refuse,
    /// Follow it like any other: for devnets, whose finality is two blocks deep while tests reorganise ten.
    Follow,
}

/// How the log follows the chain.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// Pause between two polls.
    pub interval: Duration,
    /// Blocks per question in the finalized past; halved where the endpoint refuses.
    pub range: u64,
    /// Unfinalized blocks per transaction.
    pub batch: u64,
    /// See [`FinalReorg`].
    pub final_reorg: FinalReorg,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { interval: Duration::from_secs(2), range: 5_000, batch: 32, final_reorg: FinalReorg::Refuse }
    }
}

/// An event of one of our contracts.
#[derive(Clone, Debug)]
pub enum StkrEvent {
    /// Of the server registry.
    Server(ServerRegistry::ServerRegistryEvents),
    /// Of the provider registry.
    Provider(ProviderRegistry::ProviderRegistryEvents),
    /// Of the key registry.
    Key(KeyRegistry::KeyRegistryEvents),
    /// Of the key registry's later committees.
    Reshare(Resharing::ResharingEvents),
    /// Of the Court.
    Court(Court::CourtEvents),
    /// Of the Court's questions to members of ceremonies.
    Acknowledgement(Acknowledgements::AcknowledgementsEvents),
    /// Of the pools contract.
    Pool(Micropools::MicropoolsEvents),
    /// Of the withdrawal keys of pools with 0x00 credentials.
    Withdrawal(WithdrawalKeys::WithdrawalKeysEvents),
    /// One this program does not know.
    Unknown,
}

impl StkrEvent {
    /// Decodes a log of `contract`.
    #[must_use]
    pub fn decode(deployment: &Deployment, contract: Address, topics: &[B256], data: &[u8]) -> Self {
        fn of<E: SolEventInterface>(topics: &[B256], data: &[u8], wrap: fn(E) -> StkrEvent) -> StkrEvent {
            E::decode_raw_log(topics, data).map_or(StkrEvent::Unknown, wrap)
        }
        match contract {
            it if it == deployment.server_registry => of(topics, data, Self::Server),
            it if it == deployment.provider_registry => of(topics, data, Self::Provider),
            it if it == deployment.key_registry => of(topics, data, Self::Key),
            it if it == deployment.resharing() => of(topics, data, Self::Reshare),
            it if it == deployment.court => of(topics, data, Self::Court),
            it if it == deployment.acknowledgements() => of(topics, data, Self::Acknowledgement),
            it if it == deployment.micropools => of(topics, data, Self::Pool),
            it if it == deployment.withdrawal_keys() => of(topics, data, Self::Withdrawal),
            _ => Self::Unknown,
        }
    }
}

/// A log as stored.
#[derive(Clone, Debug)]
pub struct LoggedEvent {
    /// Position in the feed. A log that comes back after a reorg has a new one.
    pub id: i64,
    /// Its block.
    pub block_number: u64,
    /// Hash of its block.
    pub block_hash: B256,
    /// Unix seconds of its block.
    pub timestamp: u64,
    /// Its number within the block.
    pub log_index: u64,
    /// The transaction that made it.
    pub transaction: B256,
    /// The contract that made it.
    pub contract: Address,
    /// Its topics.
    pub topics: Vec<B256>,
    /// Its data.
    pub data: Bytes,
    /// Both decoded.
    pub event: StkrEvent,
}

impl LoggedEvent {
    /// The event as `E`, if it is one.
    #[must_use]
    pub fn typed<E: SolEvent>(&self) -> Option<E> {
        E::decode_raw_log(self.topics.iter().copied(), &self.data).ok()
    }
}

/// What a consumer is told.
#[derive(Clone, Debug)]
pub enum Change {
    /// The log is no longer on the chain: undo it.
    Removed(LoggedEvent),
    /// The log is on the chain.
    Added(LoggedEvent),
}

/// What a poll did, at all the endpoints it tried. A poll that fails may have taken blocks back all the same: who keeps
/// something derived from the log must compare [`EventLog::unwinds`] and not rely on this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Newest block of the log now.
    pub tip: Option<u64>,
    /// Logs added.
    pub added: usize,
    /// Logs removed.
    pub removed: usize,
    /// Stored blocks that vanished.
    pub vanished: usize,
}

/// Which events [`EventLog::events`] shall return. Everything left at its default does not restrict.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// Of this contract.
    pub contract: Option<Address>,
    /// With this signature hash.
    pub topic0: Option<B256>,
    /// With this first indexed argument.
    pub topic1: Option<B256>,
    /// With this second indexed argument.
    pub topic2: Option<B256>,
    /// Only of blocks that are final.
    pub only_final: bool,
    /// Only behind this position.
    pub after: Option<i64>,
    /// At most this many; `None`: all.
    pub limit: Option<u32>,
}

/// Follows the chain into a [`Store`]. Clones share everything.
#[derive(Clone, Debug)]
pub struct EventLog {
    store: Store,
    deployment: Deployment,
    endpoints: Vec<Endpoint>,
    options: LogOptions,
    tip: Arc<watch::Sender<Option<BlockId>>>,
}

/// Blocks fetched and not yet stored.
struct Batch {
    blocks: Vec<BlockId>,
    logs: Vec<Log>,
}

impl EventLog {
    /// Opens the log of `deployment` in `store`. The endpoints are asked in order; the next one if one does not answer.
    ///
    /// # Errors
    /// [`ChainError::ForeignDatabase`] if the database was made for another deployment; SQLite's.
    pub fn open(
        store: Store,
        endpoints: Vec<Endpoint>,
        deployment: Deployment,
        options: LogOptions,
    ) -> Result<Self, ChainError> {
        store.write(|transaction| claim(transaction, &deployment))?;
        let tip = store.read(tip)?;
        Ok(Self { store, deployment, endpoints, options, tip: Arc::new(watch::Sender::new(tip)) })
    }

    // ---------------------------------------------------------------- following

    /// Polls until `stop` is ready. Failures are logged and tried again, with growing pauses up to a minute.
    ///
    /// # Errors
    /// Those that waiting does not cure: a final block that vanished, a broken database.
    pub async fn follow(&self, stop: impl Future<Output = ()>) -> Result<(), ChainError> {
        tokio::pin!(stop);
        let mut pause = self.options.interval;
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                outcome = self.poll() => match outcome {
                    Ok(_) => pause = self.options.interval,
                    Err(error @ (ChainError::FinalBlockVanished { .. } | ChainError::Database(_))) => return Err(error),
                    Err(error) => {
                        tracing::warn!(%error, "the event log waits");
                        pause = (pause * 2).clamp(self.options.interval, Duration::from_secs(60));
                    }
                },
            }
            tokio::select! {
                () = &mut stop => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Brings the log up to the chain's newest block.
    ///
    /// # Errors
    /// That of the last endpoint if none answers; [`ChainError::FinalBlockVanished`].
    pub async fn poll(&self) -> Result<Progress, ChainError> {
        let mut last = ChainError::TooFewEndpoints { configured: 0, needed: 1 };
        let mut progress = Progress::default();
        for endpoint in &self.endpoints {
            match self.poll_at(endpoint, &mut progress).await {
                Err(error) if error.is_transient() => last = error,
                outcome => return outcome.map(|()| progress),
            }
        }
        Err(last)
    }

    async fn poll_at(&self, endpoint: &Endpoint, progress: &mut Progress) -> Result<(), ChainError> {
        let _alone = self.store.following.lock().await;
        // An endpoint in front of several nodes that disagree could keep us here for ever; the next poll goes on.
        let mut stalls = 0;
        loop {
            let before = self.tip()?;
            let head = existing_block(endpoint.provider(), BlockNumberOrTag::Latest).await?;
            self.reconcile(endpoint, head, progress).await?;
            let done = self.advance(endpoint, head, progress).await?;
            let tip = self.tip()?;
            progress.tip = tip.map(|tip| tip.number);
            self.tip.send_if_modified(|old| std::mem::replace(old, tip) != tip);
            stalls = if tip == before { stalls + 1 } else { 0 };
            if done || stalls > 3 {
                return Ok(());
            }
        }
    }

    /// Removes stored blocks that are not on the endpoint's chain.
    async fn reconcile(&self, endpoint: &Endpoint, head: BlockId, progress: &mut Progress) -> Result<(), ChainError> {
        let Some(tip) = self.tip()? else {
            return Ok(());
        };
        // Blocks above an endpoint's head have not vanished: it lags. They are compared once it has come that far.
        let mut candidate = self.store.read(|connection| block_at_or_below(connection, head.number))?;
        let mut vanished_from = None;
        while let Some(stored) = candidate {
            let found = endpoint.block(BlockNumberOrTag::Number(stored.number)).await?;
            if found.map(|found| found.hash) == Some(stored.hash) {
                break;
            }
            self.refuse_final(&stored, found)?;
            vanished_from = Some(stored.number);
            let Some(below) = stored.number.checked_sub(1) else {
                break;
            };
            candidate = self.store.read(|connection| block_at_or_below(connection, below))?;
        }
        if let Some(from) = vanished_from {
            let (blocks, logs) = self.store.write(|transaction| unwind(transaction, from))?;
            tracing::warn!(
                from,
                to = tip.number,
                blocks,
                logs,
                "the chain reorganised; vanished events are taken back"
            );
            progress.vanished += blocks;
            progress.removed += logs;
        }
        Ok(())
    }

    fn refuse_final(&self, stored: &BlockId, found: Option<BlockId>) -> Result<(), ChainError> {
        let last_final = self.finalized()?;
        if self.options.final_reorg == FinalReorg::Refuse
            && last_final.is_some_and(|(number, _)| stored.number <= number)
        {
            return Err(ChainError::FinalBlockVanished {
                number: stored.number,
                stored: stored.hash,
                found: found.map_or_else(|| "no block".to_owned(), |found| found.hash.to_string()),
            });
        }
        Ok(())
    }

    /// Stores one batch beyond the tip. True when there is nothing more to fetch now.
    async fn advance(&self, endpoint: &Endpoint, head: BlockId, progress: &mut Progress) -> Result<bool, ChainError> {
        let tip = self.tip()?;
        let from = tip.map_or(self.deployment.deployed_block, |tip| tip.number + 1);
        let last_final = endpoint.block(BlockNumberOrTag::Finalized).await?;
        let final_number = last_final.map_or(0, |block| block.number);
        let batch = if from > head.number {
            Some(Batch { blocks: Vec::new(), logs: Vec::new() })
        } else if from <= final_number {
            Some(self.fetch_range(endpoint, from, final_number.min(head.number)).await?)
        } else {
            self.fetch_blocks(endpoint, tip, from, head.number).await?
        };
        // No batch: the chain moved while we read. Reconcile again.
        let Some(batch) = batch else { return Ok(false) };
        progress.added += batch.logs.len();
        let end = batch.blocks.iter().map(|block| block.number).max();
        self.store.write(|transaction| append(transaction, &batch, last_final))?;
        Ok(end.is_none_or(|end| end >= head.number))
    }

    /// Finalized past: logs of a range in one question, the hash of every block that has any checked.
    async fn fetch_range(&self, endpoint: &Endpoint, from: u64, to: u64) -> Result<Batch, ChainError> {
        let (end, action, logs) = self.range_logs(endpoint, &self.filter(), from, to).await?;
        self.check_range(endpoint, &action, from, end, logs).await
    }

    /// Logs from block `from` on, up to the block that is returned with them and what was asked: as many blocks as the
    /// endpoint puts up with.
    async fn range_logs(
        &self,
        endpoint: &Endpoint,
        filter: &Filter,
        from: u64,
        to: u64,
    ) -> Result<(u64, String, Vec<Log>), ChainError> {
        let mut span = self.options.range.max(1);
        loop {
            let end = to.min(from.saturating_add(span - 1));
            let filter = filter.clone().from_block(from).to_block(end);
            let action = format!("reading logs of blocks {from} to {end}");
            match ask(action.clone(), endpoint.provider().get_logs(&filter)).await {
                Ok(logs) => return Ok((end, action, logs)),
                Err(ChainError::Refused { .. } | ChainError::Timeout { .. }) if span > 1 => span = span.div_ceil(2),
                Err(error) => return Err(error),
            }
        }
    }

    async fn check_range(
        &self,
        endpoint: &Endpoint,
        action: &str,
        from: u64,
        end: u64,
        mut logs: Vec<Log>,
    ) -> Result<Batch, ChainError> {
        logs.sort_by_key(|log| (log.block_number, log.log_index));
        let mut blocks: Vec<BlockId> = Vec::new();
        for log in &logs {
            let place = log.block_number.zip(log.block_hash).filter(|(at, _)| (from..=end).contains(at));
            let (at, hash) = place.ok_or_else(|| nonsense(action, "a log outside the range"))?;
            if blocks.last().is_none_or(|block| block.number != at) {
                blocks.push(existing_block(endpoint.provider(), BlockNumberOrTag::Number(at)).await?);
            }
            if blocks.last().map(|block| block.hash) != Some(hash) {
                return Err(nonsense(action, "a log of a block that is not on its chain"));
            }
        }
        if blocks.last().is_none_or(|block| block.number != end) {
            blocks.push(existing_block(endpoint.provider(), BlockNumberOrTag::Number(end)).await?);
        }
        Ok(Batch { blocks, logs })
    }

    /// Near the head: block by block, linked by parent hash, logs by block hash. Nothing if the chain moved meanwhile.
    async fn fetch_blocks(
        &self,
        endpoint: &Endpoint,
        tip: Option<BlockId>,
        from: u64,
        head: u64,
    ) -> Result<Option<Batch>, ChainError> {
        let (mut blocks, mut logs, mut before) = (Vec::new(), Vec::new(), tip);
        for at in from..=head.min(from.saturating_add(self.options.batch.max(1) - 1)) {
            let Some(block) = endpoint.block(BlockNumberOrTag::Number(at)).await? else {
                break;
            };
            if before.is_some_and(|before| before.hash != block.parent) {
                break;
            }
            let filter = self.filter().at_block_hash(block.hash);
            let found = match ask(format!("reading logs of block {at}"), endpoint.provider().get_logs(&filter)).await {
                Ok(found) => found,
                // The endpoint forgot a block it just named: a reorg between the two questions.
                Err(ChainError::Refused { .. }) if endpoint.block(at.into()).await? != Some(block) => {
                    break;
                }
                Err(error) => return Err(error),
            };
            if found.iter().any(|log| log.block_hash != Some(block.hash) || log.block_number != Some(at)) {
                return Err(nonsense(&format!("reading logs of block {at}"), "a log of another block"));
            }
            logs.extend(found);
            blocks.push(block);
            before = Some(block);
        }
        Ok((!blocks.is_empty()).then_some(Batch { blocks, logs }))
    }

    fn filter(&self) -> Filter {
        let it = &self.deployment;
        Filter::new().address(it.emitters().to_vec())
    }

    // ---------------------------------------------------------------- reading

    /// The deployment this log follows.
    #[must_use]
    pub const fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// The database this log writes to.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Newest stored block.
    ///
    /// # Errors
    /// SQLite's.
    pub fn tip(&self) -> Result<Option<BlockId>, ChainError> {
        self.store.read(tip)
    }

    /// Number and hash of the newest block known to be final; it may lie beyond the tip while the log catches up.
    ///
    /// # Errors
    /// SQLite's.
    pub fn finalized(&self) -> Result<Option<(u64, B256)>, ChainError> {
        self.store.read(last_final)
    }

    /// How often blocks were taken back since the database was made; it only grows. A reader that folds events in memory
    /// reads this *before* the events and folds from the start if it changed: whatever became of the poll that took them
    /// back, it cannot be missed.
    ///
    /// # Errors
    /// SQLite's.
    pub fn unwinds(&self) -> Result<u64, ChainError> {
        let sql = "SELECT unwinds FROM chain_meta";
        self.store.read(|connection| Ok(connection.query_row(sql, [], |row| number(row, "unwinds"))?))
    }

    /// Tells of every change of the tip; wait for it instead of polling the database.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<BlockId>> {
        self.tip.subscribe()
    }

    /// Stored events that fit `query`, in feed order.
    ///
    /// # Errors
    /// SQLite's.
    pub fn events(&self, query: &EventQuery) -> Result<Vec<LoggedEvent>, ChainError> {
        self.store.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT * FROM chain_logs WHERE (?1 IS NULL OR contract = ?1) AND (?2 IS NULL OR topic0 = ?2)
                   AND (?3 IS NULL OR topic1 = ?3) AND (?4 IS NULL OR topic2 = ?4) AND id > ?5
                   AND (NOT ?6 OR block_number <= (SELECT final_number FROM chain_meta))
                 ORDER BY id LIMIT ?7",
            )?;
            let rows = statement.query_map(
                params![
                    query.contract.map(|it| it.0.0),
                    query.topic0.map(|it| it.0),
                    query.topic1.map(|it| it.0),
                    query.topic2.map(|it| it.0),
                    query.after.unwrap_or(0),
                    query.only_final,
                    query.limit.map_or(-1, i64::from),
                ],
                |row| event(&self.deployment, row),
            )?;
            Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
        })
    }

    /// All stored events `E` of `contract`, with their place, in feed order.
    ///
    /// # Errors
    /// SQLite's.
    pub fn events_of<E: SolEvent>(&self, contract: Address) -> Result<Vec<(LoggedEvent, E)>, ChainError> {
        let query = EventQuery { contract: Some(contract), topic0: Some(E::SIGNATURE_HASH), ..EventQuery::default() };
        let events = self.events(&query)?;
        Ok(events.into_iter().filter_map(|event| event.typed::<E>().map(|typed| (event, typed))).collect())
    }

    /// Hands `consumer` up to `limit` changes, oldest first, in one transaction with its cursor. Returns how many.
    ///
    /// `apply` gets the transaction, to keep its effects in it: all or none of a call's changes count. A consumer that is
    /// new begins with the first log.
    ///
    /// # Errors
    /// Those of `apply` (then nothing has happened), and SQLite's.
    pub fn consume<E: From<rusqlite::Error>>(
        &self,
        consumer: &str,
        limit: u32,
        mut apply: impl FnMut(&Transaction<'_>, &Change) -> Result<(), E>,
    ) -> Result<usize, E> {
        self.store.write(|transaction| {
            transaction.execute("INSERT OR IGNORE INTO chain_cursors VALUES (?1, 0)", [consumer])?;
            let mut changes = Vec::new();
            let mut removals = transaction
                .prepare_cached("SELECT * FROM chain_removals WHERE consumer = ?1 ORDER BY removal LIMIT ?2")?;
            for row in removals.query_map(params![consumer, limit], |row| {
                Ok((row.get::<_, i64>("removal")?, event(&self.deployment, row)?))
            })? {
                let (removal, gone) = row?;
                changes.push((Some(removal), Change::Removed(gone)));
            }
            let room = limit.saturating_sub(u32::try_from(changes.len()).unwrap_or(u32::MAX));
            let mut additions = transaction.prepare_cached(
                "SELECT * FROM chain_logs WHERE id > (SELECT position FROM chain_cursors WHERE consumer = ?1)
                 ORDER BY id LIMIT ?2",
            )?;
            for row in additions.query_map(params![consumer, room], |row| event(&self.deployment, row))? {
                changes.push((None, Change::Added(row?)));
            }
            for (removal, change) in &changes {
                apply(transaction, change)?;
                match (removal, change) {
                    (Some(removal), _) => {
                        transaction.execute("DELETE FROM chain_removals WHERE removal = ?1", [removal])?
                    }
                    (None, Change::Added(added) | Change::Removed(added)) => transaction.execute(
                        "UPDATE chain_cursors SET position = ?2 WHERE consumer = ?1",
                        params![consumer, added.id],
                    )?,
                };
            }
            Ok(changes.len())
        })
    }
}

// -------------------------------------------------------------------- SQL

/// Marks an empty database as belonging to `deployment`; refuses one that belongs to another.
fn claim(transaction: &Transaction<'_>, deployment: &Deployment) -> Result<(), ChainError> {
    let registry = deployment.key_registry.0.0;
    let stored = transaction
        .query_row("SELECT * FROM chain_meta", [], |row| {
            Ok((number(row, "chain_id")?, bytes::<20>(row, "key_registry")?))
        })
        .optional()?;
    match stored {
        None => {
            transaction.execute(
                "INSERT INTO chain_meta (id, chain_id, key_registry) VALUES (1, ?1, ?2)",
                params![integer(deployment.chain_id)?, registry],
            )?;
            Ok(())
        }
        Some(found) if found == (deployment.chain_id, registry) => Ok(()),
        Some((chain_id, key_registry)) => Err(ChainError::ForeignDatabase {
            stored: format!("chain {chain_id}, key registry {}", Address::from(key_registry)),
            configured: format!("chain {}, key registry {}", deployment.chain_id, deployment.key_registry),
        }),
    }
}

fn block_row(row: &Row<'_>) -> rusqlite::Result<BlockId> {
    Ok(BlockId {
        number: number(row, "number")?,
        hash: bytes::<32>(row, "hash")?.into(),
        parent: bytes::<32>(row, "parent")?.into(),
        timestamp: number(row, "timestamp")?,
    })
}

fn tip(connection: &Connection) -> Result<Option<BlockId>, ChainError> {
    let sql = "SELECT * FROM chain_blocks ORDER BY number DESC LIMIT 1";
    Ok(connection.prepare_cached(sql)?.query_row([], block_row).optional()?)
}

fn block_at_or_below(connection: &Connection, at: u64) -> Result<Option<BlockId>, ChainError> {
    let sql = "SELECT * FROM chain_blocks WHERE number <= ?1 ORDER BY number DESC LIMIT 1";
    Ok(connection.prepare_cached(sql)?.query_row([integer(at)?], block_row).optional()?)
}

fn last_final(connection: &Connection) -> Result<Option<(u64, B256)>, ChainError> {
    let sql = "SELECT final_number, final_hash FROM chain_meta WHERE final_number IS NOT NULL";
    let row = |row: &Row<'_>| Ok((number(row, "final_number")?, bytes::<32>(row, "final_hash")?.into()));
    Ok(connection.query_row(sql, [], row).optional()?)
}

/// Deletes all blocks from `from` on and their logs; what consumers had read of them is queued for them to undo.
fn unwind(transaction: &Transaction<'_>, from: u64) -> Result<(usize, usize), ChainError> {
    let from = integer(from)?;
    transaction.execute(
        "INSERT INTO chain_removals (consumer, id, block_number, block_hash, timestamp, log_index, transaction_hash,
                                     contract, topics, data)
         SELECT consumer, id, block_number, block_hash, timestamp, log_index, transaction_hash, contract, topics, data
         FROM chain_logs JOIN chain_cursors ON id <= position WHERE block_number >= ?1 ORDER BY id DESC",
        [from],
    )?;
    let logs = transaction.execute("DELETE FROM chain_logs WHERE block_number >= ?1", [from])?;
    let blocks = transaction.execute("DELETE FROM chain_blocks WHERE number >= ?1", [from])?;
    deposits::unwind(transaction)?;
    transaction
        .execute("UPDATE chain_meta SET final_number = NULL, final_hash = NULL WHERE final_number >= ?1", [from])?;
    // In the transaction that takes the blocks back, so that no failure after it can hide that they were.
    transaction.execute("UPDATE chain_meta SET unwinds = unwinds + 1", [])?;
    Ok((blocks, logs))
}

/// Blocks without logs are kept this far below the newest finalized one, as places for a walk back to stop at.
const KEPT: u64 = 256;

fn append(transaction: &Transaction<'_>, batch: &Batch, last_final: Option<BlockId>) -> Result<(), ChainError> {
    let mut block = transaction.prepare_cached("INSERT INTO chain_blocks VALUES (?1, ?2, ?3, ?4)")?;
    for it in &batch.blocks {
        block.execute(params![integer(it.number)?, it.hash.0, it.parent.0, integer(it.timestamp)?])?;
    }
    for log in &batch.logs {
        append_log(transaction, batch, log)?;
    }
    if let Some(last) = last_final {
        // Never backwards: an endpoint that lags takes nobody's finality away.
        transaction.execute(
            "UPDATE chain_meta SET final_number = ?1, final_hash = ?2 WHERE final_number IS NULL OR final_number < ?1",
            params![integer(last.number)?, last.hash.0],
        )?;
        transaction.execute(
            "DELETE FROM chain_blocks WHERE number < ?1 AND number NOT IN (SELECT block_number FROM chain_logs)
               AND number < (SELECT max(number) FROM chain_blocks)",
            [integer(last.number.saturating_sub(KEPT))?],
        )?;
    }
    Ok(())
}

fn append_log(transaction: &Transaction<'_>, batch: &Batch, log: &Log) -> Result<(), ChainError> {
    let block = batch.blocks.iter().find(|block| Some(block.number) == log.block_number);
    let (Some(block), Some(index), Some(hash)) = (block, log.log_index, log.transaction_hash) else {
        return Err(nonsense("reading logs", "a log without its place on the chain"));
    };
    let topic = |position: usize| log.topics().get(position).map(|topic| topic.0);
    let mut statement = transaction.prepare_cached(
        "INSERT INTO chain_logs (block_number, block_hash, timestamp, log_index, transaction_hash, contract, topics,
                                 topic0, topic1, topic2, data)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    statement.execute(params![
        integer(block.number)?,
        block.hash.0,
        integer(block.timestamp)?,
        integer(index)?,
        hash.0,
        log.address().0.0,
        log.topics().concat(),
        topic(0),
        topic(1),
        topic(2),
        log.data().data.as_ref(),
    ])?;
    Ok(())
}

fn event(deployment: &Deployment, row: &Row<'_>) -> rusqlite::Result<LoggedEvent> {
    let packed: Vec<u8> = row.get("topics")?;
    let topics: Vec<B256> = packed.as_chunks::<32>().0.iter().map(B256::from).collect();
    let contract = Address::from(bytes::<20>(row, "contract")?);
    let data: Vec<u8> = row.get("data")?;
    Ok(LoggedEvent {
        id: row.get("id")?,
        block_number: number(row, "block_number")?,
        block_hash: bytes::<32>(row, "block_hash")?.into(),
        timestamp: number(row, "timestamp")?,
        log_index: number(row, "log_index")?,
        transaction: bytes::<32>(row, "transaction_hash")?.into(),
        event: StkrEvent::decode(deployment, contract, &topics, &data),
        contract,
        topics,
        data: data.into(),
    })
}

fn nonsense(action: &str, detail: &str) -> ChainError {
    ChainError::Nonsense { action: action.to_owned(), detail: detail.to_owned() }
}
