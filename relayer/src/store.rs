//! What the relayer keeps: the bulletin of every ceremony, and evidence.
//!
//! Both are public and signed by others. A row is written before anything is derived from it or handed on, so a relayer
//! that is killed carries on with at least what it ever told anybody.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use alloy::primitives::{B256, keccak256};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;
use stkr_node::database::Database;
use stkr_protocol::ceremony::Context;
use stkr_protocol::evidence::{EvidenceFile, Proof};
use stkr_protocol::messages::SignedMessage;
use stkr_protocol::sign::SignedPartial;

use crate::charges::{Charges, Group, Kept};

pub mod reshares;

/// Tables of this module; a migration.
pub const TABLES: &str = "
CREATE TABLE bulletin (
    key_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    -- hash over the committee: after a reorg another committee may run under the same key and attempt
    committee BLOB NOT NULL CHECK (length(committee) = 32),
    member INTEGER NOT NULL,
    -- digest of the message: one row for one statement of one member, however often it signed it; all members
    -- acknowledge under one digest, so it alone names no message
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    message TEXT NOT NULL,
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    UNIQUE (key_id, attempt, committee, member, digest)
) STRICT;
CREATE TABLE evidence (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    key_id INTEGER NOT NULL,
    server_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
";

/// Evidence knows in which of its server's terms it was kept; a migration. What was kept before is of the first.
pub const TERMS: &str = "
ALTER TABLE evidence ADD COLUMN term INTEGER NOT NULL DEFAULT 0;
CREATE INDEX evidence_group ON evidence (server_id, key_id, kind, term);
";

/// The bulletin knows when each message came; a migration. Of what came before it nobody knows.
pub const ARRIVALS: &str = "
-- unix seconds at which this relayer first saw the message
ALTER TABLE bulletin ADD COLUMN received INTEGER;
";

/// What members without network signed; a migration.
pub const OFFLINE_PARTIALS: &str = "
CREATE TABLE offline_partial (
    key_id INTEGER NOT NULL,
    signing_root BLOB NOT NULL CHECK (length(signing_root) = 32),
    member INTEGER NOT NULL,
    -- JSON of SignedPartial, whose envelope and partial were found right
    answer TEXT NOT NULL,
    PRIMARY KEY (key_id, signing_root, member)
) STRICT;
";

/// A key that was reshared signs in another committee; a migration.
pub const OFFLINE_PARTIALS_BY_COMMITTEE: &str = "
ALTER TABLE offline_partial RENAME TO offline_partial_of_first_committees;
CREATE TABLE offline_partial (
    key_id INTEGER NOT NULL,
    -- partials of two committees combine to nothing
    committee_epoch INTEGER NOT NULL,
    signing_root BLOB NOT NULL CHECK (length(signing_root) = 32),
    member INTEGER NOT NULL,
    -- JSON of SignedPartial, whose envelope and partial were found right
    answer TEXT NOT NULL,
    PRIMARY KEY (key_id, committee_epoch, signing_root, member)
) STRICT;
INSERT INTO offline_partial (key_id, committee_epoch, signing_root, member, answer)
    SELECT key_id, 0, signing_root, member, answer FROM offline_partial_of_first_committees;
DROP TABLE offline_partial_of_first_committees;
";

/// Evidence knows of what the Court charges one, and which slot dates it; a migration. What was kept before without a bound, and was
/// never used, goes: of each group and term the oldest and the newest stay.
pub const GROUPS: &str = "
-- committee epoch of the key; of a provider the assignment
ALTER TABLE evidence ADD COLUMN part INTEGER NOT NULL DEFAULT 0;
-- latest slot that was signed, where that dates the fault, else 0
ALTER TABLE evidence ADD COLUMN slot INTEGER NOT NULL DEFAULT 0;
UPDATE evidence SET
    part = CAST(coalesce(
        body ->> '$.proof.envelope.committeeEpoch', body ->> '$.proof.first.committeeEpoch',
        body ->> '$.proof.first.assignment', '0') AS INTEGER)
WHERE json_valid(body);
UPDATE evidence SET
    slot = max(
        CAST(coalesce(body ->> '$.proof.envelope.slot', body ->> '$.proof.first.slot', '0') AS INTEGER),
        CAST(coalesce(body ->> '$.proof.second.slot', '0') AS INTEGER))
WHERE json_valid(body) AND kind IN ('invalid_partial', 'garbage_partial', 'conflicting_duties');
DELETE FROM evidence WHERE sequence IN (SELECT sequence FROM (SELECT
    sequence,
    row_number() OVER (PARTITION BY server_id, key_id, kind, part, term ORDER BY sequence) AS oldest,
    row_number() OVER (PARTITION BY server_id, key_id, kind, part, term ORDER BY sequence DESC) AS newest
    FROM evidence) WHERE oldest > 32 AND newest > 32);
DROP INDEX evidence_group;
CREATE INDEX evidence_of_group ON evidence (server_id, key_id, kind, part);
";

/// What stands for the server where a provider is at fault: server ids count from 1.
pub const PROVIDER: u32 = 0;

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite.
    #[error("relayer database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A row does not parse: the file was changed by somebody else.
    #[error("relayer database holds a row that does not parse: {0}; restore it from a backup or start an empty one")]
    Row(#[from] serde_json::Error),
}

/// A proven fault of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// Id in this relayer's database; grows.
    pub id: String,
    /// Key it happened with.
    pub key_id: String,
    /// Server at fault; absent where a provider is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
    /// The fault by its name in docs/protocol.md, for example `invalid_partial`.
    pub kind: String,
    /// How often the server had been reinstated when this was kept: what it did in one term hides nothing of the next.
    pub term: String,
    /// Latest slot that was signed, where that dates the fault, else 0.
    #[serde(skip)]
    pub slot: u64,
    /// A file of evidence: saved as it is, `stkr evidence` verifies and reports it.
    #[schema(value_type = Object)]
    pub body: serde_json::Value,
}

/// A message, and the unix time (seconds) at which it came.
pub type Arrived = (SignedMessage, Option<u64>);

/// The store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    database: Arc<Database>,
    /// What would be charged, as the chain was last seen.
    charges: Arc<RwLock<Charges>>,
}

impl Store {
    /// Over an open database that has [`TABLES`].
    #[must_use]
    pub fn new(database: Arc<Database>) -> Self {
        Self { database, charges: Arc::default() }
    }

    /// Says what would be charged now: evidence is counted by that.
    pub fn set_charges(&self, charges: Charges) {
        *self.charges.write().unwrap_or_else(PoisonError::into_inner) = charges;
    }

    fn charges(&self) -> RwLockReadGuard<'_, Charges> {
        self.charges.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a message with the time of now. `false` if it was there: when it first came stays as it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn post(&self, context: &Context, message: &SignedMessage) -> Result<bool, StoreError> {
        let text = serde_json::to_string(message)?;
        let (key, attempt) = (number(message.key_id), i64::from(message.attempt));
        let (committee, digest) = (context.committee_hash(), message.digest(context.domain()));
        let rows = self.database.write(|transaction| {
            transaction.execute(
                "INSERT OR IGNORE INTO bulletin (key_id, attempt, committee, member, digest, message, received)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    key,
                    attempt,
                    committee.as_slice(),
                    message.index.get(),
                    digest.as_slice(),
                    text,
                    number(now())
                ],
            )
        })?;
        Ok(rows > 0)
    }

    /// All messages of a ceremony, in the order they came.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn messages(&self, key_id: u64, attempt: u16, committee: B256) -> Result<Vec<SignedMessage>, StoreError> {
        let came = self.arrived(key_id, attempt, committee)?;
        Ok(came.into_iter().map(|(message, _)| message).collect())
    }

    /// The same, each with the unix time (seconds) at which it came, where that was noted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn arrived(&self, key_id: u64, attempt: u16, committee: B256) -> Result<Vec<Arrived>, StoreError> {
        let connection = self.database.lock();
        let mut statement = connection.prepare_cached(
            "SELECT message, received FROM bulletin WHERE key_id = ?1 AND attempt = ?2 AND committee = ?3 ORDER BY sequence",
        )?;
        let mut rows = statement.query(params![number(key_id), attempt, committee.as_slice()])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let received = row.get::<_, Option<i64>>(1)?.and_then(|seconds| u64::try_from(seconds).ok());
            found.push((serde_json::from_str(&row.get::<_, String>(0)?)?, received));
        }
        Ok(found)
    }

    /// The committee that last posted under this key and attempt.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn last_committee(&self, key_id: u64, attempt: u16) -> Result<Option<B256>, StoreError> {
        let connection = self.database.lock();
        let hash: Option<[u8; 32]> = connection
            .query_row(
                "SELECT committee FROM bulletin WHERE key_id = ?1 AND attempt = ?2 ORDER BY sequence DESC LIMIT 1",
                params![number(key_id), attempt],
                |row| row.get(0),
            )
            .optional()?;
        Ok(hash.map(B256::from))
    }

    /// Keeps what a member without network signed. `false` if it was there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn keep_offline_partial(&self, key_id: u64, root: B256, partial: &SignedPartial) -> Result<bool, StoreError> {
        let (member, text) = (partial.index.get(), serde_json::to_string(partial)?);
        let rows = self.database.write(|transaction| {
            transaction.execute(
                "INSERT OR IGNORE INTO offline_partial (key_id, committee_epoch, signing_root, member, answer)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![number(key_id), partial.committee_epoch, root.as_slice(), member, text],
            )
        })?;
        Ok(rows > 0)
    }

    /// What members of this committee without network signed under this root, in index order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn offline_partials(
        &self,
        (key_id, committee_epoch): (u64, u32),
        root: B256,
    ) -> Result<Vec<SignedPartial>, StoreError> {
        let connection = self.database.lock();
        let mut statement = connection.prepare_cached(
            "SELECT answer FROM offline_partial WHERE key_id = ?1 AND committee_epoch = ?2 AND signing_root = ?3 ORDER BY member",
        )?;
        let of = params![number(key_id), committee_epoch, root.as_slice()];
        let rows = statement.query_map(of, |row| row.get::<_, String>(0))?;
        let mut found = Vec::new();
        for row in rows {
            found.push(serde_json::from_str(&row?)?);
        }
        Ok(found)
    }

    /// Keeps evidence against a server ([`PROVIDER`] for a provider), under the name of its fault. `false` if it was there, or if so
    /// much of its group is there that one more would only fill the disk ([`crate::charges`]): who errs all day, or has a member's help
    /// to complain about itself, makes as much as it likes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn keep_evidence(&self, server_id: u32, file: &EvidenceFile) -> Result<bool, StoreError> {
        let (group, text) = (Group::of(server_id, &file.proof), serde_json::to_string(file)?);
        let (key_id, kind) = (group.key_id, group.kind());
        let digest = keccak256(format!("{key_id}/{server_id}/{kind}/{text}"));
        let charges = self.charges();
        let (slot, term) = (charges.slot_of(&file.proof), charges.term(server_id));
        let rows = self.database.write(|transaction| {
            if charges.has_enough(server_id, slot, &kept_of(transaction, &group)?) {
                return Ok(0);
            }
            transaction.execute(
                "INSERT OR IGNORE INTO evidence (digest, key_id, server_id, kind, body, term, part, slot)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    digest.as_slice(),
                    number(key_id),
                    server_id,
                    kind,
                    text,
                    term,
                    number(group.part),
                    number(slot)
                ],
            )
        })?;
        Ok(rows > 0)
    }

    /// Whether so much of the group of `proof` against this server is kept that one more file changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn has_enough(&self, server_id: u32, proof: &Proof) -> Result<bool, StoreError> {
        let kept = kept_of(&self.database.lock(), &Group::of(server_id, proof))?;
        let charges = self.charges();
        Ok(charges.has_enough(server_id, charges.slot_of(proof), &kept))
    }

    /// Servers that were proven to hand out wrong partial signatures: their next ones are verified before they count.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn suspects(&self) -> Result<std::collections::BTreeSet<u32>, StoreError> {
        let connection = self.database.lock();
        let mut rows = connection.prepare_cached(
            "SELECT DISTINCT server_id FROM evidence WHERE kind IN ('invalid_partial', 'garbage_partial')",
        )?;
        let found = rows.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(found)
    }

    /// Up to `limit` pieces of evidence with ids above `after`, in the order they were found.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn evidence(&self, after: u64, limit: u32) -> Result<Vec<Evidence>, StoreError> {
        self.evidence_page(
            "SELECT sequence, key_id, server_id, kind, body, term, slot FROM evidence WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
            (number(after), limit),
        )
    }

    /// The piece of evidence with this id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn evidence_at(&self, id: u64) -> Result<Option<Evidence>, StoreError> {
        let before = id.saturating_sub(1);
        Ok(self.evidence(before, 1)?.into_iter().find(|found| id > 0 && found.id == id.to_string()))
    }

    /// The newest `limit` pieces of evidence, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn newest_evidence(&self, limit: u32) -> Result<Vec<Evidence>, StoreError> {
        self.evidence_page(
            "SELECT sequence, key_id, server_id, kind, body, term, slot FROM evidence WHERE sequence < ?1 ORDER BY sequence DESC LIMIT ?2",
            (i64::MAX, limit),
        )
    }

    fn evidence_page(&self, sql: &str, (from, limit): (i64, u32)) -> Result<Vec<Evidence>, StoreError> {
        let connection = self.database.lock();
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![from, limit])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(Evidence {
                id: row.get::<_, i64>(0)?.to_string(),
                key_id: row.get::<_, i64>(1)?.to_string(),
                server_id: Some(row.get::<_, u32>(2)?).filter(|id| *id != PROVIDER).map(|id| id.to_string()),
                kind: row.get(3)?,
                body: serde_json::from_str(&row.get::<_, String>(4)?)?,
                term: row.get::<_, u32>(5)?.to_string(),
                slot: row.get::<_, i64>(6)?.unsigned_abs(),
            });
        }
        Ok(found)
    }
}

fn kept_of(connection: &Connection, group: &Group) -> Result<Vec<Kept>, rusqlite::Error> {
    let mut rows = connection.prepare_cached(
        "SELECT sequence, slot, term FROM evidence WHERE server_id = ?1 AND key_id = ?2 AND kind = ?3 AND part = ?4",
    )?;
    let of = params![group.server_id, number(group.key_id), group.kind(), number(group.part)];
    let kept = rows.query_map(of, |row| {
        let (id, slot) = (row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, i64>(1)?.unsigned_abs());
        Ok(Kept { id, slot, term: row.get(2)? })
    })?;
    kept.collect()
}

/// Unix time, seconds.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// SQLite's integers are signed; ids count from 1 and never get there.
fn number(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;
    use stkr_core::{ShareIndex, Threshold};
    use stkr_node::database::Schema;
    use stkr_protocol::ceremony::MemberId;
    use stkr_protocol::messages::{Body, OneTimeKeyBody};
    use stkr_protocol::{ProtocolDomain, SignerKey};

    use super::*;
    use crate::app::SCHEMA;

    const DOMAIN: ProtocolDomain = ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(7) };

    #[test]
    fn what_an_offline_member_signed_in_one_committee_stays_there_and_hides_nothing_of_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("relayer.sqlite");
        let signed = |committee_epoch: u32| SignedPartial {
            partial: vec![u8::try_from(committee_epoch).unwrap(); 256],
            envelope: [1; 65],
            index: ShareIndex::new(2).unwrap(),
            committee_epoch,
        };
        let root = B256::repeat_byte(5);
        let without = SCHEMA.migrations.iter().position(|it| *it == OFFLINE_PARTIALS_BY_COMMITTEE).unwrap();
        let before = Schema { migrations: &SCHEMA.migrations[..without], ..SCHEMA };
        let database = Database::open(&file, &before).unwrap();
        let text = serde_json::to_string(&signed(0)).unwrap();
        let row = "INSERT INTO offline_partial (key_id, signing_root, member, answer) VALUES (7, ?1, 2, ?2)";
        database.write(|it| it.execute(row, params![root.as_slice(), text])).unwrap();
        drop(database);
        let store = Store::new(std::sync::Arc::new(Database::open(&file, &SCHEMA).unwrap()));
        assert_eq!(store.offline_partials((7, 0), root).unwrap(), [signed(0)]);
        assert_eq!(store.offline_partials((7, 1), root).unwrap(), []);
        assert!(store.keep_offline_partial(7, root, &signed(1)).unwrap());
        assert!(!store.keep_offline_partial(7, root, &signed(1)).unwrap());
        assert_eq!(store.offline_partials((7, 1), root).unwrap(), [signed(1)]);
        assert_eq!(store.offline_partials((7, 0), root).unwrap(), [signed(0)]);
    }

    #[test]
    fn a_message_keeps_the_time_at_which_it_first_came_and_one_from_before_times_were_noted_has_none() {
        let signers: Vec<SignerKey> = (1..=4_u8).map(|it| SignerKey::from_bytes(&[it; 32]).unwrap()).collect();
        let members = signers.iter().zip(1..).map(|(key, id)| MemberId { server_id: id, signer: key.address() });
        let context = Context::new(DOMAIN, 9, 0, Threshold::new(3, 4).unwrap(), members.collect()).unwrap();
        let say = |member: u8| {
            let body = Body::OneTimeKey(OneTimeKeyBody { public_key: vec![2; 33] });
            let signer = &signers[usize::from(member) - 1];
            SignedMessage::sign(&DOMAIN, signer, (9, 0, ShareIndex::new(member).unwrap()), body)
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("relayer.sqlite");
        let without = SCHEMA.migrations.iter().position(|it| *it == ARRIVALS).unwrap();
        let before = Schema { migrations: &SCHEMA.migrations[..without], ..SCHEMA };
        let database = Database::open(&file, &before).unwrap();
        let (digest, text) = (say(1).digest(&DOMAIN), serde_json::to_string(&say(1)).unwrap());
        let hash = context.committee_hash();
        let row =
            "INSERT INTO bulletin (key_id, attempt, committee, member, digest, message) VALUES (9, 0, ?1, 1, ?2, ?3)";
        database.lock().execute(row, params![hash.as_slice(), digest.as_slice(), text]).unwrap();
        drop(database);

        let database = Arc::new(Database::open(&file, &SCHEMA).unwrap());
        let (store, from) = (Store::new(database.clone()), now());
        assert!(!store.post(&context, &say(1)).unwrap() && store.post(&context, &say(2)).unwrap());
        let times = || store.arrived(9, 0, hash).unwrap().into_iter().map(|(_, time)| time).collect::<Vec<_>>();
        let first = times();
        assert!(first[0].is_none() && first[1].is_some_and(|time| (from..=now()).contains(&time)), "{first:?}");
        database.lock().execute("UPDATE bulletin SET received = 1000 WHERE member = 2", []).unwrap();
        assert!(!store.post(&context, &say(2)).unwrap());
        assert_eq!(times(), [None, Some(1_000)]);
    }
}
