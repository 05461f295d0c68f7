//! The tables this crate keeps in a program's own SQLite file, and the handle it works on them with.
//!
//! The program opens the file (WAL, `synchronous=FULL`, exclusive lock: `stkr-node`) and applies [`SCHEMA`] as a
//! migration. This crate writes nothing outside its own tables:
//!
//! | table | one row is |
//! |---|---|
//! | `chain_meta` | the deployment the file belongs to, and the newest finalized block seen and how often blocks were taken back (one row) |
//! | `chain_blocks` | a block of the canonical chain: every block that has logs, and the recent others |
//! | `chain_logs` | a log of one of our contracts; `id` grows and is never used twice, so it is the feed's position |
//! | `chain_cursors` | a consumer and the position up to which it has read |
//! | `chain_removals` | a log that vanished after a consumer had read it, until that consumer has undone it |
//! | `chain_watched_keys` | a key whose deposits are followed, and the first block not looked through yet |
//! | `chain_deposits` | a deposit with such a key on the official deposit contract |
//! | `chain_intents` | a transaction that shall happen once (see [`crate::intents`]) |
//! | `chain_attempts` | a signed form of an intent: one row per transaction hash ever made |

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// SQL that creates all tables of this crate: one migration step of the program that owns the file.
pub const SCHEMA: &str = "
CREATE TABLE chain_meta (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  chain_id INTEGER NOT NULL,
  key_registry BLOB NOT NULL CHECK (length(key_registry) = 20),
  final_number INTEGER,
  final_hash BLOB CHECK (length(final_hash) = 32),
  unwinds INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE chain_blocks (
  number INTEGER PRIMARY KEY,
  hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
  parent BLOB NOT NULL CHECK (length(parent) = 32),
  timestamp INTEGER NOT NULL
) STRICT;
CREATE TABLE chain_logs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  block_number INTEGER NOT NULL REFERENCES chain_blocks (number),
  block_hash BLOB NOT NULL,
  timestamp INTEGER NOT NULL,
  log_index INTEGER NOT NULL,
  transaction_hash BLOB NOT NULL,
  contract BLOB NOT NULL,
  topics BLOB NOT NULL CHECK (length(topics) % 32 = 0),
  topic0 BLOB, topic1 BLOB, topic2 BLOB,
  data BLOB NOT NULL,
  UNIQUE (block_number, log_index)
) STRICT;
CREATE INDEX chain_logs_by_topic ON chain_logs (contract, topic0, topic1);
CREATE TABLE chain_cursors (
  consumer TEXT PRIMARY KEY,
  position INTEGER NOT NULL
) STRICT;
CREATE TABLE chain_removals (
  removal INTEGER PRIMARY KEY AUTOINCREMENT,
  consumer TEXT NOT NULL REFERENCES chain_cursors (consumer),
  id INTEGER NOT NULL,
  block_number INTEGER NOT NULL,
  block_hash BLOB NOT NULL,
  timestamp INTEGER NOT NULL,
  log_index INTEGER NOT NULL,
  transaction_hash BLOB NOT NULL,
  contract BLOB NOT NULL,
  topics BLOB NOT NULL,
  data BLOB NOT NULL,
  UNIQUE (consumer, id)
) STRICT;
CREATE TABLE chain_watched_keys (
  pubkey BLOB PRIMARY KEY CHECK (length(pubkey) = 48),
  since INTEGER NOT NULL,
  next_block INTEGER NOT NULL
) STRICT;
CREATE TABLE chain_deposits (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  pubkey BLOB NOT NULL REFERENCES chain_watched_keys (pubkey) ON DELETE CASCADE,
  withdrawal_credentials BLOB NOT NULL CHECK (length(withdrawal_credentials) = 32),
  amount_gwei INTEGER NOT NULL,
  signature BLOB NOT NULL CHECK (length(signature) = 96),
  block_number INTEGER NOT NULL,
  block_hash BLOB NOT NULL CHECK (length(block_hash) = 32),
  log_index INTEGER NOT NULL,
  transaction_hash BLOB NOT NULL CHECK (length(transaction_hash) = 32),
  UNIQUE (block_number, log_index)
) STRICT;
CREATE INDEX chain_deposits_by_key ON chain_deposits (pubkey);
CREATE TABLE chain_intents (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT NOT NULL UNIQUE,
  sender BLOB NOT NULL CHECK (length(sender) = 20),
  recipient BLOB NOT NULL CHECK (length(recipient) = 20),
  value BLOB NOT NULL CHECK (length(value) = 32),
  data BLOB NOT NULL,
  gas_limit INTEGER,
  state TEXT NOT NULL CHECK (state IN ('waiting', 'pending', 'included', 'confirmed', 'superseded', 'failed')),
  nonce INTEGER,
  given_up TEXT CHECK (given_up IN ('superseded', 'failed')),
  hash BLOB CHECK (length(hash) = 32),
  block_number INTEGER,
  block_hash BLOB,
  gas_used INTEGER,
  revert_data BLOB,
  note TEXT NOT NULL DEFAULT '',
  settled INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX chain_intents_one_per_nonce ON chain_intents (sender, nonce) WHERE nonce IS NOT NULL;
CREATE INDEX chain_intents_unsettled ON chain_intents (sender, nonce) WHERE NOT settled;
CREATE TABLE chain_attempts (
  hash BLOB PRIMARY KEY CHECK (length(hash) = 32),
  intent INTEGER NOT NULL REFERENCES chain_intents (id),
  nonce INTEGER NOT NULL,
  cancels INTEGER NOT NULL,
  raw BLOB NOT NULL,
  max_fee BLOB NOT NULL,
  max_priority_fee BLOB NOT NULL,
  gas_limit INTEGER NOT NULL,
  block INTEGER NOT NULL
) STRICT;
CREATE INDEX chain_attempts_by_intent ON chain_attempts (intent);
";

/// Creates this crate's tables: [`SCHEMA`] for those who migrate by function.
///
/// # Errors
/// SQLite's, for example if the tables exist.
pub fn migrate(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(SCHEMA)
}

/// A connection that several parts of one program share. A program's own database type implements this to lend this
/// crate its connection; nothing here holds the guard across an `.await`.
pub trait SharedConnection: Send + Sync {
    /// The connection, alone.
    fn lock(&self) -> MutexGuard<'_, Connection>;
}

impl SharedConnection for Mutex<Connection> {
    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while it was held rolled its transaction back; the connection itself is sound.
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Handle to the program's database. Clones share it, and share the lock under which the chain is followed and the lock
/// under which transactions are sent.
#[derive(Clone)]
pub struct Store {
    connection: Arc<dyn SharedConnection>,
    pub(crate) following: Arc<tokio::sync::Mutex<()>>,
    pub(crate) sending: Arc<tokio::sync::Mutex<()>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Works on a connection the program shares. It must have foreign keys on and be migrated.
    #[must_use]
    pub fn new(connection: Arc<dyn SharedConnection>) -> Self {
        Self { connection, following: Arc::default(), sending: Arc::default() }
    }

    /// Works on a connection of its own, which must be migrated.
    #[must_use]
    pub fn own(connection: Connection) -> Self {
        Self::new(Arc::new(Mutex::new(connection)))
    }

    /// Reads in one consistent state.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn read<T, E: From<rusqlite::Error>>(&self, work: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E> {
        work(&self.connection.lock())
    }

    /// Writes in one transaction, on disk when this returns `Ok`, undone otherwise.
    ///
    /// # Errors
    /// Those of `work`, and SQLite's.
    pub fn write<T, E: From<rusqlite::Error>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut connection = self.connection.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }
}

/// A column that holds exactly `N` bytes.
pub(crate) fn bytes<const N: usize>(row: &rusqlite::Row<'_>, column: &str) -> rusqlite::Result<[u8; N]> {
    row.get(column)
}

/// A column that holds an unsigned number.
pub(crate) fn number(row: &rusqlite::Row<'_>, column: &str) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(row.as_ref().column_index(column).unwrap_or(0), value))
}

/// A number for a column. SQLite's integers are signed; block numbers and nonces never reach 2^63 on an honest chain.
pub(crate) fn integer(value: u64) -> rusqlite::Result<i64> {
    i64::try_from(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}
