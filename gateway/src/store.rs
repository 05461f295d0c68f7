//! What the gateway keeps beside its slashing protection: the chain's events, which keys it serves, and what was asked and
//! answered.
//!
//! A duty-key request with the envelopes it got is what proves a server's fault, or the provider's innocence. Only
//! slashable duties (attestations, blocks) are kept in full; a wrong partial is kept whatever the duty was. Both are bounded:
//! the oldest go first, of evidence those of the server that has most of it. They are written off the hot path, in groups; a crash may
//! lose the last few.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use prometheus_client::metrics::counter::Counter;
use rusqlite::{OptionalExtension as _, params};
use serde::Serialize;
use stkr_duties::Slashable;
use stkr_kill_points::kill_point;
use stkr_node::database::{Database, DatabaseError, Schema};
use stkr_node::history::Signed;
use stkr_protection::{InstanceId, Pubkey};
use stkr_protocol::evidence::{EvidenceFile, SignedDutyRequest};
use stkr_protocol::sign::{SignRequest, SignedPartial};
use tokio::sync::oneshot;

use crate::clock::unix_seconds;
use crate::metrics::GatewayMetrics;

/// The gateway's file.
pub const SCHEMA: Schema = Schema {
    name: "gateway database",
    application_id: 0x5347_7761, // "SGwa"
    migrations: &[stkr_chain::SCHEMA, TABLES, CLEARED, SIGNED, HANDED_ON, BY_SERVER],
};

const TABLES: &str = "
CREATE TABLE protection_instance (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    instance TEXT NOT NULL
) STRICT;
CREATE TABLE served_keys (
    pubkey BLOB PRIMARY KEY CHECK (length(pubkey) = 48)
) STRICT;
CREATE TABLE requests (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- unix time, seconds
    at INTEGER NOT NULL,
    key_id INTEGER NOT NULL,
    request TEXT NOT NULL,
    envelopes TEXT NOT NULL
) STRICT;
CREATE TABLE evidence (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    key_id INTEGER NOT NULL,
    server_id INTEGER NOT NULL,
    request TEXT NOT NULL,
    envelopes TEXT NOT NULL
) STRICT;
";

const CLEARED: &str = "
-- keys that may sign, and the assignment under which they were found to be signed for by nobody else
CREATE TABLE cleared_keys (
    pubkey BLOB PRIMARY KEY CHECK (length(pubkey) = 48),
    number INTEGER NOT NULL
) STRICT;
";

const SIGNED: &str = "
-- how far each key has signed: what a slashing protection that was put back would not know
CREATE TABLE signed_keys (
    pubkey BLOB PRIMARY KEY CHECK (length(pubkey) = 48),
    slot INTEGER,
    target_epoch INTEGER
) STRICT;
";

const HANDED_ON: &str = "
-- up to which evidence each relayer has it
CREATE TABLE handed_on (
    relayer TEXT PRIMARY KEY,
    evidence INTEGER NOT NULL
) STRICT;
";

const BY_SERVER: &str = "
-- of which server and key a wrong partial is, without a look at the pages that hold it
CREATE INDEX evidence_by_server ON evidence (server_id, key_id);
";

/// Drops what is too much evidence: again and again the oldest of the server that has most. A server that errs all day, for whoever
/// pays it, pushes out nobody's but its own.
const DROP_EVIDENCE: &str = "
DELETE FROM evidence WHERE id IN (
    SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY server_id ORDER BY id DESC) AS newer FROM evidence)
    ORDER BY newer DESC, id LIMIT max(0, (SELECT count(*) FROM evidence) - ?1)
)";

/// Records that may wait to be written; more are counted and dropped, never waited for.
const WAITING: usize = 8_192;
/// Records of one transaction.
const GROUP: usize = 512;
/// Wrong partials kept.
const MOST_EVIDENCE: i64 = 10_000;

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite.
    #[error("gateway database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file.
    #[error("gateway database: {0}")]
    Database(#[from] DatabaseError),
    /// A row does not parse: somebody else changed the file.
    #[error("gateway database holds a row that does not parse: {0}; restore it from a backup or start an empty one")]
    Row(String),
}

/// A server's answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Who answered.
    pub server_id: String,
    /// Partial and envelope signature; with the request it was an answer to, the whole envelope.
    pub answer: SignedPartial,
    /// Where the partial is wrong: a file that anybody can report to the Court.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceFile>,
}

/// One request and what it got.
#[derive(Clone, Debug)]
pub struct Record {
    /// Key.
    pub key_id: u64,
    /// As it was sent, with the duty key's signature.
    pub request: Arc<SignRequest>,
    /// Partials that counted.
    pub answers: Vec<Kept>,
    /// Partials that were wrong, with the server's id.
    pub wrong: Vec<(u32, Kept)>,
    /// Whose duty it is, if somebody could be slashed over it.
    pub slashable: Option<(Pubkey, Slashable)>,
}

/// A row as it is shown.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Grows.
    pub id: String,
    /// Unix time, seconds.
    pub at: String,
    /// Key id in the key registry.
    pub key_id: String,
    /// Server at fault; only in evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
    /// The request as it was sent to the servers.
    #[schema(value_type = Object)]
    pub request: serde_json::Value,
    /// What the duty key signed, in the raw form of evidence; only in requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub signed_request: Option<SignedDutyRequest>,
    /// `{serverId, answer, signed}` of each that answered, `signed` in the raw form of evidence; in evidence, `{serverId, answer,
    /// evidence}` of the one at fault, with the file for the Court.
    #[schema(value_type = Vec<Object>)]
    pub envelopes: serde_json::Value,
}

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Requests for slashable duties.
    Requests,
    /// Wrong partials.
    Evidence,
}

/// The file. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    database: Arc<Database>,
}

impl Store {
    /// Over an open database with [`SCHEMA`].
    #[must_use]
    pub const fn new(database: Arc<Database>) -> Self {
        Self { database }
    }

    /// Whether a write would succeed now.
    ///
    /// # Errors
    /// That of the database.
    pub fn check_writable(&self) -> Result<(), StoreError> {
        Ok(self.database.check_writable()?)
    }

    /// The life of the slashing protection database that was used last.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn instance(&self) -> Result<Option<InstanceId>, StoreError> {
        let connection = self.database.lock();
        let text: Option<String> =
            connection.query_row("SELECT instance FROM protection_instance", [], |row| row.get(0)).optional()?;
        text.map(|text| text.parse().map_err(|error| StoreError::Row(format!("{error}")))).transpose()
    }

    /// Remembers it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_instance(&self, instance: InstanceId) -> Result<(), StoreError> {
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO protection_instance (id, instance) VALUES (1, ?1)",
                [instance.to_string()],
            )?;
            Ok(())
        })
    }

    /// Keys that were served last, also before a restart.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn served(&self) -> Result<BTreeSet<Pubkey>, StoreError> {
        let connection = self.database.lock();
        let mut rows = connection.prepare_cached("SELECT pubkey FROM served_keys")?;
        let keys = rows.query_map([], |row| row.get::<_, [u8; 48]>(0).map(Pubkey::from))?;
        Ok(keys.collect::<Result<_, _>>()?)
    }

    /// Remembers which keys are served.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_served(&self, came: &[Pubkey], left: &[Pubkey]) -> Result<(), StoreError> {
        self.database.write(|transaction| {
            for key in left {
                transaction.execute("DELETE FROM served_keys WHERE pubkey = ?1", [key.0])?;
            }
            for key in came {
                transaction.execute("INSERT OR IGNORE INTO served_keys (pubkey) VALUES (?1)", [key.0])?;
            }
            Ok(())
        })
    }

    /// Keys that were let sign, with the number of the assignment, also before a restart.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn cleared(&self) -> Result<BTreeMap<Pubkey, u64>, StoreError> {
        let connection = self.database.lock();
        let mut rows = connection.prepare_cached("SELECT pubkey, number FROM cleared_keys")?;
        let row = |row: &rusqlite::Row<'_>| Ok((Pubkey::from(row.get::<_, [u8; 48]>(0)?), row.get::<_, i64>(1)?));
        let found: Vec<(Pubkey, i64)> = rows.query_map([], row)?.collect::<Result<_, _>>()?;
        let number = |(pubkey, number): (Pubkey, i64)| {
            let number = u64::try_from(number).map_err(|error| StoreError::Row(error.to_string()))?;
            Ok((pubkey, number))
        };
        found.into_iter().map(number).collect()
    }

    /// Remembers that keys may sign under these assignments.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_cleared(&self, keys: &[(Pubkey, u64)]) -> Result<(), StoreError> {
        self.database.write(|transaction| {
            for (pubkey, number) in keys {
                let number = i64::try_from(*number).unwrap_or(i64::MAX);
                transaction.execute(
                    "INSERT OR REPLACE INTO cleared_keys (pubkey, number) VALUES (?1, ?2)",
                    params![pubkey.0, number],
                )?;
            }
            Ok(())
        })
    }

    /// Forgets which keys were cleared: each has its whole quiet period at the next start.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn forget_cleared(&self) -> Result<(), StoreError> {
        self.database.write(|transaction| Ok(transaction.execute("DELETE FROM cleared_keys", []).map(drop)?))
    }

    /// How far each key has signed. Written with the kept requests, after the signature: it may be behind.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn signed(&self) -> Result<Vec<(Pubkey, Signed)>, StoreError> {
        let connection = self.database.lock();
        let mut rows = connection.prepare_cached("SELECT pubkey, slot, target_epoch FROM signed_keys")?;
        let unsigned = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        let found = rows.query_map([], |row| {
            let signed = Signed { slot: unsigned(row.get(1)?), target_epoch: unsigned(row.get(2)?) };
            Ok((Pubkey::from(row.get::<_, [u8; 48]>(0)?), signed))
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// Servers that handed out wrong partials: their next ones are verified before they count.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn suspects(&self) -> Result<BTreeSet<u32>, StoreError> {
        let connection = self.database.lock();
        let mut rows = connection.prepare_cached("SELECT DISTINCT server_id FROM evidence")?;
        let found = rows.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(found)
    }

    /// Up to `limit` rows with ids above `after`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn page(&self, table: Table, after: u64, limit: u32) -> Result<Vec<Row>, StoreError> {
        let sql = match table {
            Table::Requests => {
                "SELECT id, at, key_id, NULL, request, envelopes FROM requests WHERE id > ?1 ORDER BY id LIMIT ?2"
            }
            Table::Evidence => {
                "SELECT id, at, key_id, server_id, request, envelopes FROM evidence WHERE id > ?1 ORDER BY id LIMIT ?2"
            }
        };
        let connection = self.database.lock();
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![number(after), limit])?;
        let mut page = Vec::new();
        let parse = |text: String| serde_json::from_str(&text).map_err(|error| StoreError::Row(error.to_string()));
        while let Some(row) = rows.next()? {
            page.push(Row {
                id: row.get::<_, i64>(0)?.to_string(),
                at: row.get::<_, i64>(1)?.to_string(),
                key_id: row.get::<_, i64>(2)?.to_string(),
                server_id: row.get::<_, Option<u32>>(3)?.map(|id| id.to_string()),
                request: parse(row.get(4)?)?,
                signed_request: None,
                envelopes: parse(row.get(5)?)?,
            });
        }
        Ok(page)
    }

    /// Id of the newest evidence that this relayer has.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn handed_on(&self, relayer: &str) -> Result<u64, StoreError> {
        let connection = self.database.lock();
        let found: Option<i64> = connection
            .query_row("SELECT evidence FROM handed_on WHERE relayer = ?1", [relayer], |row| row.get(0))
            .optional()?;
        Ok(found.and_then(|id| u64::try_from(id).ok()).unwrap_or(0))
    }

    /// Remembers it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_handed_on(&self, relayer: &str, evidence: u64) -> Result<(), StoreError> {
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO handed_on (relayer, evidence) VALUES (?1, ?2)",
                params![relayer, number(evidence)],
            )?;
            Ok(())
        })
    }

    /// Writes down what a server did wrong, nothing where it is there already; how much older evidence was dropped for it.
    ///
    /// # Errors
    /// [`StoreError`]: it was not written.
    pub fn keep_wrong(
        &self,
        key_id: u64,
        request: &SignRequest,
        server_id: u32,
        wrong: &Kept,
    ) -> Result<u64, StoreError> {
        let request = text(request)?;
        self.database.write(|transaction| {
            insert_wrong(transaction, key_id, &request, server_id, wrong)?;
            drop_evidence(transaction)
        })
    }

    /// Writes records in one transaction and drops what is beyond the bounds; how much evidence that was.
    ///
    /// # Errors
    /// [`StoreError`]: none was written.
    pub fn keep(&self, records: &[Record], most_requests: u32) -> Result<u64, StoreError> {
        let at = number(unix_seconds());
        self.database.write(|transaction| {
            for record in records {
                let (key, request) = (number(record.key_id), text(&*record.request)?);
                if let Some((pubkey, slashable)) = &record.slashable {
                    note_signed(transaction, pubkey, slashable)?;
                    transaction.execute(
                        "INSERT INTO requests (at, key_id, request, envelopes) VALUES (?1, ?2, ?3, ?4)",
                        params![at, key, request, text(&record.answers)?],
                    )?;
                }
                for (server_id, wrong) in &record.wrong {
                    insert_wrong(transaction, record.key_id, &request, *server_id, wrong)?;
                }
            }
            transaction.execute(
                "DELETE FROM requests WHERE id <= (SELECT coalesce(max(id), 0) FROM requests) - ?1",
                [most_requests],
            )?;
            if records.iter().all(|record| record.wrong.is_empty()) {
                return Ok(0);
            }
            drop_evidence(transaction)
        })
    }
}

fn drop_evidence(transaction: &rusqlite::Transaction<'_>) -> Result<u64, StoreError> {
    let dropped = transaction.prepare_cached(DROP_EVIDENCE)?.execute([MOST_EVIDENCE])?;
    Ok(u64::try_from(dropped).unwrap_or(u64::MAX))
}

fn note_signed(
    transaction: &rusqlite::Transaction<'_>,
    pubkey: &Pubkey,
    duty: &Slashable,
) -> Result<(), rusqlite::Error> {
    let (slot, target) = match duty {
        Slashable::Block { slot } => (Some(number(slot.0)), None),
        Slashable::Attestation { target, .. } => (None, Some(number(target.0))),
    };
    // max() of several values is NULL where one of them is.
    let mut upsert = transaction.prepare_cached(
        "INSERT INTO signed_keys (pubkey, slot, target_epoch) VALUES (?1, ?2, ?3) ON CONFLICT (pubkey) DO UPDATE SET
         slot = max(coalesce(slot, excluded.slot), coalesce(excluded.slot, slot)),
         target_epoch = max(coalesce(target_epoch, excluded.target_epoch), coalesce(excluded.target_epoch, target_epoch))",
    )?;
    upsert.execute(params![pubkey.0, slot, target]).map(drop)
}

/// What a server did wrong is written the moment it is found, and once more with all that its request got.
fn insert_wrong(
    transaction: &rusqlite::Transaction<'_>,
    key_id: u64,
    request: &str,
    server_id: u32,
    wrong: &Kept,
) -> Result<(), StoreError> {
    let (at, key_id, envelopes) = (number(unix_seconds()), number(key_id), text(&[wrong])?);
    transaction.execute(
        "INSERT INTO evidence (at, key_id, server_id, request, envelopes) SELECT ?1, ?2, ?3, ?4, ?5
         WHERE NOT EXISTS (SELECT 1 FROM evidence WHERE key_id = ?2 AND server_id = ?3 AND envelopes = ?5)",
        params![at, key_id, server_id, request, envelopes],
    )?;
    Ok(())
}

fn text(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Row(error.to_string()))
}

/// SQLite's integers are signed; ids and times never get there.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

enum Errand {
    Keep(Box<Record>),
    Flush(oneshot::Sender<()>),
}

/// Writes records in the background. Clones share it.
#[derive(Clone, Debug)]
pub struct Keeper {
    store: Store,
    errands: SyncSender<Errand>,
    not_kept: Counter,
    evidence_dropped: Counter,
}

impl Keeper {
    /// Starts the writer's thread.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(store: Store, most_requests: u32, metrics: &GatewayMetrics) -> std::io::Result<Self> {
        let (errands, waiting) = sync_channel(WAITING);
        let (not_kept, evidence_dropped) = (metrics.not_kept.clone(), metrics.evidence_dropped.clone());
        let keeper = Self { store, errands, not_kept, evidence_dropped };
        let (store, lost, dropped) = (keeper.store.clone(), keeper.not_kept.clone(), keeper.evidence_dropped.clone());
        std::thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || write(&store, most_requests, &waiting, (&lost, &dropped)))?;
        Ok(keeper)
    }

    /// Writes down what a server did wrong, before this returns: no crash, and no other server that stalls, takes it away then. Rare:
    /// whoever makes it slow pays for that with its bond.
    pub fn keep_wrong(&self, key_id: u64, request: &SignRequest, server_id: u32, wrong: &Kept) {
        kill_point!("gateway.evidence_unwritten");
        match self.store.keep_wrong(key_id, request, server_id, wrong) {
            Ok(dropped) => {
                self.evidence_dropped.inc_by(dropped);
            }
            Err(error) => {
                self.not_kept.inc();
                tracing::error!(error = %error, key_id, server_id, "evidence could not be kept when it was found");
            }
        }
        kill_point!("gateway.evidence_written");
    }

    /// Keeps a record, unless too many wait already.
    pub fn keep(&self, record: Record) {
        if self.errands.try_send(Errand::Keep(Box::new(record))).is_err() {
            self.not_kept.inc();
        }
    }

    /// Waits until everything handed over so far is written.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        let errands = self.errands.clone();
        let handed = tokio::task::spawn_blocking(move || errands.send(Errand::Flush(done)).is_ok()).await;
        if handed.unwrap_or(false) {
            let _ = written.await;
        }
    }
}

fn write(store: &Store, most_requests: u32, waiting: &Receiver<Errand>, (lost, dropped): (&Counter, &Counter)) {
    while let Ok(first) = waiting.recv() {
        let (mut records, mut flushes) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(errand) = next {
            match errand {
                Errand::Keep(record) => records.push(*record),
                Errand::Flush(done) => flushes.push(done),
            }
            next = if records.len() < GROUP { waiting.try_recv().ok() } else { None };
        }
        kill_point!("gateway.requests_unwritten");
        let kept = store.keep(&records, most_requests);
        kill_point!("gateway.requests_written");
        match kept {
            Ok(evidence) => {
                dropped.inc_by(evidence);
            }
            Err(error) => {
                lost.inc_by(u64::try_from(records.len()).unwrap_or(u64::MAX));
                tracing::error!(error = %error, count = records.len(), "requests and envelopes could not be kept");
            }
        }
        for done in flushes {
            let _ = done.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;
    use stkr_duties::DepositMessage;
    use stkr_protocol::sign::DepositRequest;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("gateway.sqlite"), &SCHEMA).unwrap();
        (folder, Store::new(Arc::new(database)))
    }

    fn record(key_id: u64, slashable: bool, wrong: &[u32]) -> Record {
        let message = DepositMessage { pubkey: [1; 48], withdrawal_credentials: B256::ZERO, amount_gwei: 1 };
        let index = stkr_core::ShareIndex::new(1).unwrap();
        let answer = SignedPartial { partial: vec![7; 256], envelope: [8; 65], index, committee_epoch: 0 };
        let kept = Kept { server_id: "4".to_owned(), answer, evidence: None };
        Record {
            key_id,
            request: Arc::new(DepositRequest::new(key_id, &message, [0; 4]).into()),
            answers: vec![kept.clone()],
            wrong: wrong.iter().map(|server| (*server, kept.clone())).collect(),
            slashable: slashable.then(|| (Pubkey::from([1; 48]), Slashable::Block { slot: stkr_duties::Slot(key_id) })),
        }
    }

    #[test]
    fn how_far_a_key_has_signed_only_grows() {
        let (_folder, store) = store();
        let vote = |target: u64| {
            let (source, target) = (stkr_duties::Epoch(1), stkr_duties::Epoch(target));
            let slashable = Some((Pubkey::from([1; 48]), Slashable::Attestation { source, target }));
            Record { slashable, ..record(1, false, &[]) }
        };
        for (record, slot, target_epoch) in [
            (record(7, true, &[]), Some(7), None),
            (vote(9), Some(7), Some(9)),
            (vote(8), Some(7), Some(9)),
            (record(5, true, &[]), Some(7), Some(9)),
            (record(8, true, &[]), Some(8), Some(9)),
        ] {
            store.keep(&[record], 1).unwrap();
            assert_eq!(store.signed().unwrap(), [(Pubkey::from([1; 48]), Signed { slot, target_epoch })]);
        }
    }

    #[test]
    fn the_oldest_requests_go_first_and_evidence_stays() {
        let (_folder, store) = store();
        let mut records: Vec<Record> = (1..=20).map(|key| record(key, true, &[])).collect();
        records.push(record(99, false, &[4]));
        store.keep(&records, 8).unwrap();
        let rows = store.page(Table::Requests, 0, 100).unwrap();
        assert_eq!(rows.len(), 8);
        assert_eq!((rows[0].key_id.as_str(), rows[7].key_id.as_str()), ("13", "20"));
        assert_eq!(rows[0].envelopes[0]["serverId"], "4");
        let evidence = store.page(Table::Evidence, 0, 100).unwrap();
        assert_eq!((evidence.len(), evidence[0].server_id.as_deref()), (1, Some("4")));
        assert_eq!(store.suspects().unwrap(), BTreeSet::from([4]));
    }

    /// A server that loses nothing any more answers wrongly all day, so that what another did is gone before a relayer has it.
    #[test]
    fn wrong_partials_of_one_server_push_out_no_evidence_of_another() {
        let (_folder, store) = store();
        let of = |server: u32, key: u64| {
            let mut record = record(key, false, &[server]);
            record.wrong[0].1.answer.index = stkr_core::ShareIndex::new(u8::try_from(server).unwrap()).unwrap();
            record
        };
        assert_eq!(store.keep(&[of(4, 1), of(4, 2)], 1).unwrap(), 0);
        let flood = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
             INSERT INTO evidence (at, key_id, server_id, request, envelopes) SELECT 0, 1000000 + i, 9, '{}', '[]' FROM n";
        store.database.lock().execute(flood, [MOST_EVIDENCE - 2]).unwrap();
        let metrics = GatewayMetrics::default();
        let keeper = Keeper::start(store.clone(), 1, &metrics).unwrap();
        for key in [3, 4] {
            let found = of(9, key);
            keeper.keep_wrong(key, &found.request, 9, &found.wrong[0].1);
        }
        assert_eq!(metrics.evidence_dropped.get(), 2, "what is lost is counted");
        assert_eq!(store.keep(&[of(9, 5), of(9, 6), of(4, 7)], 1).unwrap(), 3);
        let count = |server: u32| -> i64 {
            let sql = "SELECT count(*) FROM evidence WHERE server_id = ?1";
            store.database.lock().query_row(sql, [server], |row| row.get(0)).unwrap()
        };
        assert_eq!((count(4), count(9)), (3, MOST_EVIDENCE - 3), "nothing of the other one");
        let rows = store.page(Table::Evidence, 0, 4).unwrap();
        let keys: Vec<&str> = rows.iter().map(|row| row.key_id.as_str()).collect();
        assert_eq!(keys, ["1", "2", "1000006", "1000007"], "of its own the oldest went first");
    }

    #[test]
    fn what_is_served_and_the_life_of_the_history_are_remembered() {
        let (_folder, store) = store();
        let [one, two] = [1, 2].map(Pubkey::repeat_byte);
        store.set_served(&[one, two], &[]).unwrap();
        store.set_served(&[two], &[one]).unwrap();
        assert_eq!(store.served().unwrap(), BTreeSet::from([two]));
        assert!(store.instance().unwrap().is_none());
        let protection = tempfile::tempdir().unwrap();
        let made = stkr_protection::Protection::create(&protection.path().join("p.db"), B256::ZERO).unwrap();
        store.set_instance(made.instance()).unwrap();
        assert_eq!(store.instance().unwrap(), Some(made.instance()));
    }
}
