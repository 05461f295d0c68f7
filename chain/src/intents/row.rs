//! Intents and attempts as rows.

use alloy::primitives::{Address, B256, Bytes, U256};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{Call, IntentState};
use crate::{
    errors::ChainError,
    store::{bytes, integer, number},
};

/// A row of `chain_intents`.
#[derive(Clone, Debug)]
pub(super) struct IntentRow {
    pub(super) id: i64,
    pub(super) key: String,
    pub(super) call: Call,
    pub(super) state: IntentState,
    pub(super) nonce: Option<u64>,
    /// Set when the nonce is only to be used up: how the intent ends once it is.
    pub(super) given_up: Option<IntentState>,
    pub(super) included: Option<Inclusion>,
    pub(super) revert_data: Option<Bytes>,
    pub(super) note: String,
}

/// Where a transaction is on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inclusion {
    pub(super) hash: B256,
    pub(super) block_number: u64,
    pub(super) block_hash: B256,
    pub(super) gas_used: u64,
}

/// A row of `chain_attempts`.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) hash: B256,
    pub(super) nonce: u64,
    /// Sends nothing to oneself, to use up the nonce of an intent that was given up.
    pub(super) cancels: bool,
    pub(super) raw: Bytes,
    pub(super) max_fee: u128,
    pub(super) max_priority_fee: u128,
    pub(super) gas_limit: u64,
    /// Newest block when it was signed.
    pub(super) block: u64,
}

fn optional(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<u64>> {
    let value: Option<i64> = row.get(column)?;
    value.map(|_| number(row, column)).transpose()
}

fn state(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<IntentState>> {
    let name: Option<String> = row.get(column)?;
    Ok(name.and_then(|name| IntentState::ALL.iter().copied().find(|state| state.name() == name)))
}

fn intent(row: &Row<'_>) -> rusqlite::Result<IntentRow> {
    let included = match row.get::<_, Option<[u8; 32]>>("hash")? {
        None => None,
        Some(hash) => Some(Inclusion {
            hash: hash.into(),
            block_number: number(row, "block_number")?,
            block_hash: bytes::<32>(row, "block_hash")?.into(),
            gas_used: number(row, "gas_used")?,
        }),
    };
    Ok(IntentRow {
        id: row.get("id")?,
        key: row.get("key")?,
        call: Call {
            to: bytes::<20>(row, "recipient")?.into(),
            value: U256::from_be_bytes(bytes::<32>(row, "value")?),
            data: row.get::<_, Vec<u8>>("data")?.into(),
            gas_limit: optional(row, "gas_limit")?,
        },
        state: state(row, "state")?.unwrap_or(IntentState::Waiting),
        nonce: optional(row, "nonce")?,
        given_up: state(row, "given_up")?,
        included,
        revert_data: row.get::<_, Option<Vec<u8>>>("revert_data")?.map(Bytes::from),
        note: row.get("note")?,
    })
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    Ok(Attempt {
        hash: bytes::<32>(row, "hash")?.into(),
        nonce: number(row, "nonce")?,
        cancels: row.get("cancels")?,
        raw: row.get::<_, Vec<u8>>("raw")?.into(),
        max_fee: u128::from_be_bytes(bytes(row, "max_fee")?),
        max_priority_fee: u128::from_be_bytes(bytes(row, "max_priority_fee")?),
        gas_limit: number(row, "gas_limit")?,
        block: number(row, "block")?,
    })
}

pub(super) fn insert(transaction: &Transaction<'_>, sender: Address, key: &str, call: &Call) -> Result<(), ChainError> {
    transaction.execute(
        "INSERT INTO chain_intents (key, sender, recipient, value, data, gas_limit, state)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'waiting')",
        params![
            key,
            sender.0.0,
            call.to.0.0,
            call.value.to_be_bytes::<32>(),
            call.data.as_ref(),
            call.gas_limit.map(integer).transpose()?,
        ],
    )?;
    Ok(())
}

pub(super) fn by_key(connection: &Connection, key: &str) -> Result<Option<IntentRow>, ChainError> {
    let mut statement = connection.prepare_cached("SELECT * FROM chain_intents WHERE key = ?1")?;
    Ok(statement.query_row([key], intent).optional()?)
}

/// Rows of `sender` that still need work: those that hold a nonce first, in its order, then the waiting ones.
pub(super) fn unsettled(connection: &Connection, sender: Address) -> Result<Vec<IntentRow>, ChainError> {
    let sql = "SELECT * FROM chain_intents WHERE sender = ?1 AND NOT settled ORDER BY nonce IS NULL, nonce, id";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([sender.0.0], intent)?;
    Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
}

/// Up to `limit` rows of `sender` behind `after`, oldest first, or before it, newest first.
pub(super) fn page(
    connection: &Connection,
    sender: Address,
    (after, newest_first): (i64, bool),
    limit: u32,
) -> Result<Vec<IntentRow>, ChainError> {
    let mut statement = connection.prepare_cached(if newest_first {
        "SELECT * FROM chain_intents WHERE sender = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3"
    } else {
        "SELECT * FROM chain_intents WHERE sender = ?1 AND id > ?2 ORDER BY id LIMIT ?3"
    })?;
    let rows = statement.query_map(params![sender.0.0, after, limit], intent)?;
    Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
}

/// Rows of `sender` whose name begins with `step` and a slash: those of one step, so few.
pub(super) fn of_step(connection: &Connection, sender: Address, step: &str) -> Result<Vec<IntentRow>, ChainError> {
    // '0' follows '/': a range that the unique index serves, which a LIKE with its wildcards would not be.
    let mut statement = connection.prepare_cached(
        "SELECT * FROM chain_intents WHERE key >= ?2 || '/' AND key < ?2 || '0' AND sender = ?1 ORDER BY id",
    )?;
    let rows = statement.query_map(params![sender.0.0, step], intent)?;
    Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
}

/// All attempts of an intent, newest first.
pub(super) fn attempts(connection: &Connection, id: i64) -> Result<Vec<Attempt>, ChainError> {
    let sql = "SELECT * FROM chain_attempts WHERE intent = ?1 ORDER BY rowid DESC";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([id], attempt)?;
    Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
}

/// The nonce a new intent of `sender` takes: the chain's, or the one behind everything of ours that is not settled.
pub(super) fn next_nonce(transaction: &Transaction<'_>, sender: Address, on_chain: u64) -> Result<u64, ChainError> {
    let ours: Option<i64> = transaction.query_row(
        "SELECT max(nonce) + 1 FROM chain_intents WHERE sender = ?1 AND NOT settled",
        [sender.0.0],
        |row| row.get(0),
    )?;
    Ok(ours.and_then(|ours| u64::try_from(ours).ok()).unwrap_or(0).max(on_chain))
}

pub(super) fn insert_attempt(transaction: &Transaction<'_>, intent: i64, it: &Attempt) -> Result<(), ChainError> {
    // The same bytes again are the same attempt: signing is deterministic.
    transaction.execute(
        "INSERT OR IGNORE INTO chain_attempts (hash, intent, nonce, cancels, raw, max_fee, max_priority_fee, gas_limit, block)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            it.hash.0,
            intent,
            integer(it.nonce)?,
            it.cancels,
            it.raw.as_ref(),
            it.max_fee.to_be_bytes(),
            it.max_priority_fee.to_be_bytes(),
            integer(it.gas_limit)?,
            integer(it.block)?,
        ],
    )?;
    Ok(())
}

/// Lets the patience with an attempt begin again at `block`.
pub(super) fn touch(transaction: &Transaction<'_>, hash: B256, block: u64) -> Result<(), ChainError> {
    transaction.execute("UPDATE chain_attempts SET block = ?2 WHERE hash = ?1", params![hash.0, integer(block)?])?;
    Ok(())
}

/// Writes every field of `row` that changes in the life of an intent.
pub(super) fn save(transaction: &Transaction<'_>, row: &IntentRow, settled: bool) -> Result<(), ChainError> {
    let included = row.included.as_ref();
    transaction.execute(
        "UPDATE chain_intents SET state = ?2, nonce = ?3, given_up = ?4, hash = ?5, block_number = ?6, block_hash = ?7,
           gas_used = ?8, revert_data = ?9, note = ?10, settled = ?11 WHERE id = ?1",
        params![
            row.id,
            row.state.name(),
            row.nonce.map(integer).transpose()?,
            row.given_up.map(IntentState::name),
            included.map(|it| it.hash.0),
            included.map(|it| integer(it.block_number)).transpose()?,
            included.map(|it| it.block_hash.0),
            included.map(|it| integer(it.gas_used)).transpose()?,
            row.revert_data.as_ref().map(|data| data.as_ref()),
            row.note,
            settled,
        ],
    )?;
    Ok(())
}

/// Names an intent anew. False if there is none of the name `from`, or one of the name `to`.
pub(super) fn rename(transaction: &Transaction<'_>, from: &str, to: &str) -> Result<bool, ChainError> {
    Ok(transaction.execute("UPDATE OR IGNORE chain_intents SET key = ?2 WHERE key = ?1", params![from, to])? == 1)
}

/// Opens a settled intent that came to nothing again. False if it is not such a one.
pub(super) fn reopen(transaction: &Transaction<'_>, key: &str, value: U256) -> Result<bool, ChainError> {
    let opened = transaction.execute(
        "UPDATE chain_intents SET state = 'waiting', nonce = NULL, given_up = NULL, hash = NULL, block_number = NULL,
           block_hash = NULL, gas_used = NULL, revert_data = NULL, note = '', settled = 0, value = ?2
         WHERE key = ?1 AND settled AND state IN ('superseded', 'failed')",
        params![key, value.to_be_bytes::<32>()],
    )?;
    Ok(opened == 1)
}
