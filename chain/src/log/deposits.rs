//! What the official deposit contract says about keys that are watched.
//!
//! The beacon chain binds a validator to the credentials of the first valid deposit of its key, whoever sends it. So whoever
//! stakes with a key wants to know of every deposit made with it. The deposit contract indexes nothing, and on a public
//! network others use it all the time: its logs are read by address and block, and only those of watched keys are kept.
//! What is kept is bounded by its price: a deposit costs at least 1 ETH.
//!
//! Deposits lie beside the log and are taken back with it; a key's deposits are complete up to the block before its
//! `next_block`, which a reorg moves back, too.

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{B256, FixedBytes},
    providers::Provider,
    rpc::types::{Filter, Log},
    sol_types::SolEvent,
};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{EventLog, block_row, nonsense};
use crate::{
    bindings::IDepositContract::DepositEvent,
    endpoint::{BlockId, Endpoint, ask, existing_block},
    errors::ChainError,
    store::{bytes, integer, number},
};

/// A key whose deposits shall be known from a block on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchedKey {
    /// Compressed public key.
    pub pubkey: FixedBytes<48>,
    /// First block that can hold a deposit of interest.
    pub since: u64,
}

/// A deposit made with a watched key, by whomever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedDeposit {
    /// Position in the order they were found; never used twice.
    pub id: i64,
    /// Compressed public key.
    pub pubkey: FixedBytes<48>,
    /// Withdrawal credentials.
    pub withdrawal_credentials: B256,
    /// Gwei.
    pub amount_gwei: u64,
    /// Compressed signature; the deposit contract checks it no more than this crate does.
    pub signature: FixedBytes<96>,
    /// Its block.
    pub block_number: u64,
    /// Its transaction.
    pub transaction: B256,
}

/// Some blocks, and the deposits of watched keys in them.
struct Found {
    /// Last of the blocks.
    end: u64,
    deposits: Vec<(BlockId, Log, DepositEvent)>,
}

impl EventLog {
    /// Sets the keys whose deposits are followed. Everything about other keys is forgotten; a key that is new, or that shall
    /// be known from an earlier block than before, is looked through from there by the next [`EventLog::scan_deposits`].
    ///
    /// # Errors
    /// SQLite's.
    pub fn watch_deposits(&self, wanted: &[WatchedKey]) -> Result<(), ChainError> {
        self.store.write(|transaction| {
            let mut known = Vec::new();
            let mut rows = transaction.prepare_cached("SELECT pubkey, since FROM chain_watched_keys")?;
            for row in rows.query_map([], |row| Ok((bytes::<48>(row, "pubkey")?, number(row, "since")?)))? {
                let (pubkey, since) = row?;
                known.push(WatchedKey { pubkey: pubkey.into(), since });
            }
            for gone in known.iter().filter(|known| !wanted.contains(known)) {
                // Its deposits go with it, by the foreign key.
                transaction.execute("DELETE FROM chain_watched_keys WHERE pubkey = ?1", [gone.pubkey.0])?;
            }
            for new in wanted.iter().filter(|wanted| !known.contains(wanted)) {
                let since = integer(new.since)?;
                let sql = "INSERT OR IGNORE INTO chain_watched_keys (pubkey, since, next_block) VALUES (?1, ?2, ?2)";
                transaction.execute(sql, params![new.pubkey.0, since])?;
            }
            Ok(())
        })
    }

    /// Looks for deposits of the watched keys in all blocks up to the tip. If the chain moves meanwhile, the next call goes
    /// on after the next poll.
    ///
    /// # Errors
    /// That of the last endpoint if none answers; SQLite's.
    pub async fn scan_deposits(&self) -> Result<(), ChainError> {
        let mut last = ChainError::TooFewEndpoints { configured: 0, needed: 1 };
        for endpoint in &self.endpoints {
            match self.scan_deposits_at(endpoint).await {
                Err(error) if error.is_transient() => last = error,
                outcome => return outcome,
            }
        }
        Err(last)
    }

    async fn scan_deposits_at(&self, endpoint: &Endpoint) -> Result<(), ChainError> {
        let _alone = self.store.following.lock().await;
        loop {
            let (Some(next), Some(tip)) = (self.store.read(next_block)?, self.tip()?) else {
                return Ok(());
            };
            if next > tip.number {
                return Ok(());
            }
            let Some(found) = self.look_through(endpoint, next, tip.number).await? else {
                return Ok(());
            };
            self.store.write(|transaction| keep(transaction, next, &found))?;
        }
    }

    /// Deposits in `from` and some blocks after it, up to `to` at most. Nothing if the chain moved meanwhile.
    async fn look_through(&self, endpoint: &Endpoint, from: u64, to: u64) -> Result<Option<Found>, ChainError> {
        let filter =
            Filter::new().address(self.deployment.deposit_contract).event_signature(DepositEvent::SIGNATURE_HASH);
        let final_number = self.finalized()?.map_or(0, |(number, _)| number);
        // Blocks that are not final are all stored, each with its hash: asked for by hash, their logs cannot be another
        // chain's.
        let stored = if from > final_number { self.store.read(|connection| block_at(connection, from))? } else { None };
        if let Some(block) = stored {
            let action = format!("reading deposits of block {from}");
            let logs = match ask(action.clone(), endpoint.provider().get_logs(&filter.at_block_hash(block.hash))).await
            {
                Ok(logs) => logs,
                // The endpoint forgot the block: a reorg that the next poll will see.
                Err(ChainError::Refused { .. }) if endpoint.block(from.into()).await? != Some(block) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            if logs.iter().any(|log| log.block_hash != Some(block.hash)) {
                return Err(nonsense(&action, "a log of another block"));
            }
            let deposits = self.of_watched(logs)?.into_iter().map(|(log, event)| (block, log, event)).collect();
            return Ok(Some(Found { end: from, deposits }));
        }
        let to = if from <= final_number { to.min(final_number) } else { from };
        let (end, action, logs) = self.range_logs(endpoint, &filter, from, to).await?;
        let mut deposits = Vec::new();
        for (log, event) in self.of_watched(logs)? {
            let place = log.block_number.zip(log.block_hash).filter(|(at, _)| (from..=end).contains(at));
            let (at, hash) = place.ok_or_else(|| nonsense(&action, "a log outside the range"))?;
            let block = existing_block(endpoint.provider(), BlockNumberOrTag::Number(at)).await?;
            if block.hash != hash {
                return Err(nonsense(&action, "a log of a block that is not on its chain"));
            }
            deposits.push((block, log, event));
        }
        Ok(Some(Found { end, deposits }))
    }

    /// Those of `logs` that are deposits of watched keys.
    fn of_watched(&self, logs: Vec<Log>) -> Result<Vec<(Log, DepositEvent)>, ChainError> {
        let of_contract = |log: &Log| log.address() == self.deployment.deposit_contract;
        let decoded = logs.into_iter().filter(of_contract).filter_map(|log| {
            let event = DepositEvent::decode_raw_log(log.topics().iter().copied(), &log.data().data).ok()?;
            Some((log, event))
        });
        self.store.read(|connection| {
            let mut watched = connection.prepare_cached("SELECT 1 FROM chain_watched_keys WHERE pubkey = ?1")?;
            let mut kept = Vec::new();
            for (log, event) in decoded {
                if watched.exists([event.pubkey.as_ref()])? {
                    kept.push((log, event));
                }
            }
            Ok(kept)
        })
    }

    /// First block that was not looked through yet for deposits of `pubkey`; nothing if it is not watched.
    ///
    /// # Errors
    /// SQLite's.
    pub fn deposits_known_before(&self, pubkey: &FixedBytes<48>) -> Result<Option<u64>, ChainError> {
        let sql = "SELECT next_block FROM chain_watched_keys WHERE pubkey = ?1";
        self.store.read(|connection| {
            Ok(connection.prepare_cached(sql)?.query_row([pubkey.0], |row| number(row, "next_block")).optional()?)
        })
    }

    /// Up to `limit` deposits of watched keys behind position `after`, in the order they were found.
    ///
    /// # Errors
    /// SQLite's.
    pub fn deposits(&self, after: i64, limit: u32) -> Result<Vec<LoggedDeposit>, ChainError> {
        self.store.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT * FROM chain_deposits WHERE id > ?1 ORDER BY id LIMIT ?2")?;
            let rows = statement.query_map(params![after, limit], deposit)?;
            Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
        })
    }
}

// -------------------------------------------------------------------- SQL

fn next_block(connection: &Connection) -> Result<Option<u64>, ChainError> {
    let next: Option<i64> =
        connection.query_row("SELECT min(next_block) FROM chain_watched_keys", [], |row| row.get(0))?;
    Ok(next.and_then(|next| u64::try_from(next).ok()))
}

fn block_at(connection: &Connection, number: u64) -> Result<Option<BlockId>, ChainError> {
    let sql = "SELECT * FROM chain_blocks WHERE number = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([integer(number)?], block_row).optional()?)
}

/// Stores what was found from block `from` on, for every key that had not been looked for there yet.
fn keep(transaction: &Transaction<'_>, from: u64, found: &Found) -> Result<(), ChainError> {
    // A key that was looked for there already has its deposits of these blocks: hence OR IGNORE.
    let mut statement = transaction.prepare_cached(
        "INSERT OR IGNORE INTO chain_deposits
           (pubkey, withdrawal_credentials, amount_gwei, signature, block_number, block_hash, log_index, transaction_hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for (block, log, event) in &found.deposits {
        let (Some(index), Some(hash)) = (log.log_index, log.transaction_hash) else {
            return Err(nonsense("reading deposits", "a log without its place on the chain"));
        };
        // The deposit contract checks all lengths; another shape is none of its events. Integers are little-endian.
        let amount: Result<[u8; 8], _> = event.amount.as_ref().try_into();
        let (Ok(amount), 32, 96) = (amount, event.withdrawal_credentials.len(), event.signature.len()) else {
            continue;
        };
        statement.execute(params![
            event.pubkey.as_ref(),
            event.withdrawal_credentials.as_ref(),
            integer(u64::from_le_bytes(amount))?,
            event.signature.as_ref(),
            integer(block.number)?,
            block.hash.0,
            integer(index)?,
            hash.0,
        ])?;
    }
    let end = found.end.checked_add(1).ok_or_else(|| nonsense("reading deposits", "the last block of all"))?;
    transaction.execute(
        "UPDATE chain_watched_keys SET next_block = ?2 WHERE next_block BETWEEN ?1 AND ?2",
        params![integer(from)?, integer(end)?],
    )?;
    Ok(())
}

/// Takes back what lies above the newest block that is left. Blocks between stored ones may have vanished unseen, so it does
/// not ask which block vanished first.
pub(super) fn unwind(transaction: &Transaction<'_>) -> Result<(), ChainError> {
    let sql = "SELECT coalesce(max(number), -1) + 1 FROM chain_blocks";
    let from: i64 = transaction.query_row(sql, [], |row| row.get(0))?;
    transaction.execute("DELETE FROM chain_deposits WHERE block_number >= ?1", [from])?;
    transaction.execute("UPDATE chain_watched_keys SET next_block = ?1 WHERE next_block > ?1", [from])?;
    Ok(())
}

fn deposit(row: &Row<'_>) -> rusqlite::Result<LoggedDeposit> {
    Ok(LoggedDeposit {
        id: row.get("id")?,
        pubkey: bytes::<48>(row, "pubkey")?.into(),
        withdrawal_credentials: bytes::<32>(row, "withdrawal_credentials")?.into(),
        amount_gwei: number(row, "amount_gwei")?,
        signature: bytes::<96>(row, "signature")?.into(),
        block_number: number(row, "block_number")?,
        transaction: bytes::<32>(row, "transaction_hash")?.into(),
    })
}
