//! Bulletin and evidence of reshares.

use alloy::primitives::{B256, keccak256};
use rusqlite::{OptionalExtension as _, params};
use stkr_protocol::ProtocolDomain;
use stkr_protocol::reshare::evidence::{Proof, ReshareEvidence};
use stkr_protocol::reshare::{ReshareId, ReshareMessage, Sender};

use super::{Store, StoreError, now, number};

/// Tables of this module; a migration.
pub const TABLES: &str = "
CREATE TABLE reshare_bulletin (
    key_id INTEGER NOT NULL,
    -- of the committee that is being made
    committee_epoch INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    -- what the chain committed to: after a reorg another draw may run under the same attempt
    draft BLOB NOT NULL CHECK (length(draft) = 32),
    -- of which committee the sender is: the two count from 1 each
    role TEXT NOT NULL CHECK (role IN ('dealer', 'member')),
    member INTEGER NOT NULL,
    -- digest of the message: all members acknowledge under one, so it alone names no message
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    message TEXT NOT NULL,
    -- unix seconds at which this relayer first saw the message
    received INTEGER NOT NULL,
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    UNIQUE (key_id, committee_epoch, attempt, draft, role, member, digest)
) STRICT;
CREATE TABLE reshare_evidence (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    key_id INTEGER NOT NULL,
    committee_epoch INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    server_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX reshare_evidence_group ON reshare_evidence (key_id, committee_epoch, attempt, server_id);
";

/// Pieces of evidence kept of one server in one attempt: whoever has a new member's help can make as many complaints as it likes.
const MOST_OF_A_SERVER: u32 = 8;

/// A fault in a reshare that this relayer keeps. No Court takes it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptEvidence {
    /// Server at fault.
    pub server_id: u32,
    /// The fault by its name in docs/protocol.md.
    pub kind: &'static str,
    /// What proves it.
    pub file: ReshareEvidence,
}

impl Store {
    /// Keeps a message with the time of now. `false` if it was there: when it first came stays as it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn post_reshare(
        &self,
        domain: &ProtocolDomain,
        draft: B256,
        message: &ReshareMessage,
    ) -> Result<bool, StoreError> {
        let (text, digest) = (serde_json::to_string(message)?, message.digest(domain));
        let (role, index) = match message.sender() {
            Sender::Dealer(index) => ("dealer", index),
            Sender::Member(index) => ("member", index),
        };
        let ReshareId { key_id, committee_epoch, attempt } = message.id;
        let rows = self.database.write(|transaction| {
            transaction.execute(
                "INSERT OR IGNORE INTO reshare_bulletin
                 (key_id, committee_epoch, attempt, draft, role, member, digest, message, received)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    number(key_id),
                    committee_epoch,
                    attempt,
                    draft.as_slice(),
                    role,
                    index.get(),
                    digest.as_slice(),
                    text,
                    number(now())
                ],
            )
        })?;
        Ok(rows > 0)
    }

    /// All messages of one draw, in the order they came, each with the unix time (seconds) at which it did.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn reshare_messages(
        &self,
        id: ReshareId,
        draft: B256,
    ) -> Result<Vec<(ReshareMessage, Option<u64>)>, StoreError> {
        let connection = self.database.lock();
        let mut statement = connection.prepare_cached(
            "SELECT message, received FROM reshare_bulletin
             WHERE key_id = ?1 AND committee_epoch = ?2 AND attempt = ?3 AND draft = ?4 ORDER BY sequence",
        )?;
        let mut rows = statement.query(params![number(id.key_id), id.committee_epoch, id.attempt, draft.as_slice()])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let received = u64::try_from(row.get::<_, i64>(1)?).ok();
            found.push((serde_json::from_str(&row.get::<_, String>(0)?)?, received));
        }
        Ok(found)
    }

    /// The draw under which somebody last posted in this attempt.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn last_draft(&self, id: ReshareId) -> Result<Option<B256>, StoreError> {
        let connection = self.database.lock();
        let draft: Option<[u8; 32]> = connection
            .query_row(
                "SELECT draft FROM reshare_bulletin
                 WHERE key_id = ?1 AND committee_epoch = ?2 AND attempt = ?3 ORDER BY sequence DESC LIMIT 1",
                params![number(id.key_id), id.committee_epoch, id.attempt],
                |row| row.get(0),
            )
            .optional()?;
        Ok(draft.map(B256::from))
    }

    /// Keeps evidence against a server. `false` if it was there, or enough of that server in this attempt.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn keep_reshare_evidence(
        &self,
        id: ReshareId,
        server_id: u32,
        file: &ReshareEvidence,
    ) -> Result<bool, StoreError> {
        let (kind, text) = (kind(&file.proof), serde_json::to_string(file)?);
        let digest = keccak256(format!("{id}/{server_id}/{kind}/{text}"));
        let rows = self.database.write(|transaction| {
            transaction.execute(
                "INSERT OR IGNORE INTO reshare_evidence
                 (digest, key_id, committee_epoch, attempt, server_id, kind, body)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE ?8 > (SELECT count(*) FROM reshare_evidence
                 WHERE key_id = ?2 AND committee_epoch = ?3 AND attempt = ?4 AND server_id = ?5)",
                params![
                    digest.as_slice(),
                    number(id.key_id),
                    id.committee_epoch,
                    id.attempt,
                    server_id,
                    kind,
                    text,
                    MOST_OF_A_SERVER
                ],
            )
        })?;
        Ok(rows > 0)
    }

    /// What is kept of faults in one attempt, in the order it was found.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn reshare_evidence(&self, id: ReshareId) -> Result<Vec<KeptEvidence>, StoreError> {
        let connection = self.database.lock();
        let mut statement = connection.prepare_cached(
            "SELECT server_id, body FROM reshare_evidence
             WHERE key_id = ?1 AND committee_epoch = ?2 AND attempt = ?3 ORDER BY sequence",
        )?;
        let mut rows = statement.query(params![number(id.key_id), id.committee_epoch, id.attempt])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let file: ReshareEvidence = serde_json::from_str(&row.get::<_, String>(1)?)?;
            found.push(KeptEvidence { server_id: row.get(0)?, kind: kind(&file.proof), file });
        }
        Ok(found)
    }

    /// How many pieces of such evidence there are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn reshare_evidence_count(&self) -> Result<u64, StoreError> {
        let connection = self.database.lock();
        let count: i64 = connection.query_row("SELECT count(*) FROM reshare_evidence", [], |row| row.get(0))?;
        Ok(u64::try_from(count).unwrap_or_default())
    }
}

const fn kind(proof: &Proof) -> &'static str {
    match proof {
        Proof::BadReshareDealing(_) => "bad_reshare_dealing",
        Proof::MalformedReshareDealing(_) => "malformed_reshare_dealing",
        Proof::ReshareEquivocation(_) => "reshare_equivocation",
    }
}
