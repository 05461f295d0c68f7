//! The server's database: what it must never forget.
//!
//! The rules of the protocol that a bug elsewhere must not be able to break are constraints here: one own message per
//! ceremony, round and index (no equivocation), one deposit per key. Everything is written, and on disk, before a byte of it
//! leaves the process; whatever point a SIGKILL hits, the next start finds either nothing said or everything that was.

use std::path::Path;

use alloy::primitives::{Address, B256};
use rusqlite::{OptionalExtension as _, Transaction, params};
use stkr_chain::facts::ProvenBlock;
use stkr_core::ShareIndex;
use stkr_node::database::{Database, DatabaseError, Schema};
use stkr_node::history::Signed;
use stkr_protection::{InstanceId, Pubkey};
use stkr_protocol::api::{Conflict, MAX_CONFLICTS};
use stkr_protocol::ceremony::MemberId;
use stkr_protocol::envelope::DutyKind;
use stkr_protocol::evidence::{OpenedDealing, SignedDutyRequest};
use stkr_protocol::handover::ShareOrigin;
use stkr_protocol::messages::{Round, SignedMessage};
use stkr_protocol::reshare::evidence::OpenedReshareDealing;
use stkr_protocol::reshare::{ReshareId, ReshareMessage};

use crate::conflicts;

/// Tables, version by version.
pub const SCHEMA: Schema = Schema {
    name: "server database",
    application_id: 0x5354_4b53, // "STKS"
    migrations: &[
        include_str!("schema/1.sql"),
        include_str!("schema/2.sql"),
        include_str!("schema/3.sql"),
        include_str!("schema/4.sql"),
        include_str!("schema/5.sql"),
        include_str!("schema/6.sql"),
        include_str!("schema/7.sql"),
        include_str!("schema/8.sql"),
        include_str!("schema/9.sql"),
    ],
};

/// In place of the key id, which counts from 1: the share of a dealt key, imported before the chain knows the key.
const DEALT: u64 = 0;

/// Why the store refuses or fails.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Opening, locking, migrating.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// SQLite.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file belongs to another server or deployment.
    #[error(
        "the database belongs to {what} {stored}, but this configuration says {configured}; every server needs its own database, check files.database and chain.deployment"
    )]
    Foreign {
        /// What differs.
        what: &'static str,
        /// In the database.
        stored: String,
        /// In the configuration.
        configured: String,
    },
    /// The file belongs to a server whose signer the configured key never was, as far as anybody showed.
    #[error(
        "the database belongs to signer {}, and files.signer_key is {configured}, which the chain does not know as a signer of the same server; every server needs its own database, check files.database and files.signer_key",
        list(.stored)
    )]
    OtherSigner {
        /// Signers of the database, oldest first.
        stored: Vec<Address>,
        /// Signer of the configuration.
        configured: Address,
    },
    /// A row that this program cannot have written.
    #[error("the database holds {0}; it is damaged or was edited, restore it from a backup")]
    Nonsense(&'static str),
    /// An own message would contradict one that was sent.
    #[error(
        "another {round} message of this server for key {key_id}, attempt {attempt} is stored; a second one would be equivocation"
    )]
    Equivocation {
        /// Key.
        key_id: u64,
        /// Ceremony.
        attempt: u16,
        /// Round.
        round: Round,
    },
    /// An own message of a reshare would contradict one that was sent.
    #[error("another {round} message of this server for {id} is stored; a second one would be equivocation")]
    ReshareEquivocation {
        /// Which reshare.
        id: ReshareId,
        /// Round.
        round: stkr_protocol::reshare::Round,
    },
    /// A second share of one committee of a key, which no server may hold.
    #[error("this database holds another share of key {key_id}; a second share of one committee is never kept")]
    SecondShare {
        /// Key.
        key_id: u64,
    },
    /// Another deposit of this key was signed.
    #[error("deposit {signed} of key {key_id} was signed; no second one ever is")]
    OtherDeposit {
        /// Key.
        key_id: u64,
        /// Root that was signed.
        signed: B256,
    },
}

/// Whom a database belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Address of the configured signer key: that of a new database, one of the signers of any other.
    pub signer: Address,
    /// Chain id.
    pub chain_id: u64,
    /// The KeyRegistry.
    pub key_registry: Address,
}

/// A signer that a database knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignerRow {
    /// Address of the key.
    pub signer: Address,
    /// Whether it is, or was, a signer of this server. The key of any other is never signed with.
    pub own: bool,
    /// Block up to which an earlier database may have signed with it.
    pub born: u64,
}

/// One ceremony as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CeremonyRow {
    /// Key.
    pub key_id: u64,
    /// Ceremony number.
    pub attempt: u16,
    /// keccak256 of the committee: a reorg can draw another one for the same attempt.
    pub committee: B256,
    /// This server's index.
    pub index: ShareIndex,
    /// Signers of the committee, index order, as the chain named them when the ceremony began here; none in old rows.
    pub signers: Vec<Address>,
    /// Sealed one-time secret; `None` once erased.
    pub sealed: Option<Vec<u8>>,
    /// Why this server sits out, decided outside of the state machine.
    pub sits_out: Option<(String, String)>,
    /// The complaint that ended it for this server, which then sits out.
    pub complaint: Option<OpenedDealing>,
}

/// A ceremony whose facts a person confirmed at an offline server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Key.
    pub key_id: u64,
    /// Ceremony number.
    pub attempt: u16,
    /// keccak256 of the committee.
    pub committee: B256,
    /// t.
    pub threshold: u8,
    /// In index order.
    pub members: Vec<MemberId>,
    /// Unix time (seconds) until which it may be finalised.
    pub deadline: u64,
    /// The block that proves it.
    pub block: ProvenBlock,
}

/// A reshare whose facts a person confirmed at an offline server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfirmedReshare {
    /// Which one.
    pub id: ReshareId,
    /// What the contract committed to.
    pub draft: B256,
    /// What proves it, as JSON.
    pub facts: String,
    /// The block that proves it.
    pub block: ProvenBlock,
}

/// A share as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareRow {
    /// Whose committee's it is and how it was made. Of a first committee the attempt is the ceremony's, and the deadline 0.
    pub origin: ShareOrigin,
    /// This server's index.
    pub index: ShareIndex,
    /// Its share key, compressed.
    pub share_key: [u8; 48],
    /// The group key, compressed.
    pub group_key: [u8; 48],
    /// EIP-2335 JSON under the store key.
    pub keystore: String,
}

/// A deposit that was signed, with the answer that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepositRow {
    /// Committee with whose share it was signed.
    pub committee_epoch: u32,
    /// Signing root.
    pub signing_root: B256,
    /// The answer, JSON of `SignedPartial`.
    pub answer: String,
}

/// A duty that a duty key asked for, as evidence is made of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DutyRow {
    /// Key.
    pub key_id: u64,
    /// Assignment that the request names.
    pub assignment: u64,
    /// Number of the duty kind.
    pub duty_kind: u8,
    /// Slot, 0 where there is none.
    pub slot: u64,
    /// Source epoch of an attestation, else 0.
    pub source_epoch: u64,
    /// Target epoch of an attestation, else 0.
    pub target_epoch: u64,
    /// Computed signing root.
    pub signing_root: B256,
    /// Address that signed the request.
    pub duty_key: Address,
    /// Its signature `DutyRequest`, r ‖ s ‖ v.
    #[serde(serialize_with = "as_hex")]
    pub request: [u8; 65],
    /// This server's signature `Envelope`; `None` where it refused.
    #[serde(serialize_with = "as_optional_hex")]
    pub envelope: Option<[u8; 65]>,
    /// keccak256 of the partial in that envelope.
    pub partial_hash: Option<B256>,
    /// This server's share index.
    pub index: u8,
    /// Committee that it counts in.
    pub committee_epoch: u32,
    /// Unix time, seconds.
    pub at: u64,
}

fn as_hex<S: serde::Serializer>(bytes: &[u8; 65], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format!("0x{}", hex::encode(bytes)))
}

fn as_optional_hex<S: serde::Serializer>(bytes: &Option<[u8; 65]>, to: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => as_hex(bytes, to),
        None => to.serialize_none(),
    }
}

/// A complaint about a dealing, and why its server sits the ceremony out from then on.
#[derive(Clone, Copy, Debug)]
pub struct Complaint<'a> {
    /// What is shown.
    pub opened: &'a OpenedDealing,
    /// What happened.
    pub reason: &'a str,
    /// What to do about it.
    pub what_to_do: &'a str,
}

/// What one step of a ceremony changes, all at once.
#[derive(Debug, Default)]
pub struct Step<'a> {
    /// Messages of others (and own ones that came back) that were accepted.
    pub received: &'a [SignedMessage],
    /// New own messages.
    pub own: &'a [SignedMessage],
    /// The share, with the ceremony's outcome.
    pub share: Option<ShareRow>,
    /// Erase the one-time secret.
    pub erase: bool,
    /// Sit out for ever, so that this can be shown.
    pub complaint: Option<Complaint<'a>>,
}

/// An attempt to reshare a key as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReshareRow {
    /// Which one.
    pub id: ReshareId,
    /// keccak256 of what finalised blocks showed of it first.
    pub plan: B256,
    /// Signers of the new committee as they were then, index order.
    pub signers: Vec<Address>,
    /// Unix time (seconds) until which it may be finalised.
    pub deadline: u64,
    /// Sealed one-time secrets; `None` for who gets no share, and once erased.
    pub sealed: Option<Vec<u8>>,
    /// Why this server sits out.
    pub sits_out: Option<(String, String)>,
    /// The complaint that ended it for this server.
    pub complaint: Option<OpenedReshareDealing>,
}

/// What one step of a reshare changes, all at once.
#[derive(Debug, Default)]
pub struct ReshareStep<'a> {
    /// Messages of others (and own ones that came back) that were accepted.
    pub received: &'a [ReshareMessage],
    /// New own messages.
    pub own: &'a [ReshareMessage],
    /// The share, with the outcome.
    pub share: Option<(u64, ShareRow)>,
    /// Erase the one-time secrets.
    pub erase: bool,
    /// Sit out for ever.
    pub sits_out: Option<(String, String)>,
    /// What is shown from then on.
    pub complaint: Option<&'a OpenedReshareDealing>,
}

/// The open database of one server.
#[derive(Debug)]
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens or creates the database of `owner`.
    ///
    /// `born` is the block from which on a *new* database may take part in ceremonies: 0 where the signer key is new too.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] for a database of another deployment, [`StoreError::OtherSigner`] for one of another server.
    pub fn open(path: &Path, owner: &Owner, born: u64) -> Result<Self, StoreError> {
        Self::open_as(path, owner, None, born)
    }

    /// Opens the database of the server whose signer was `before`, and is `owner`'s as well: the chain said so.
    ///
    /// `born` is the newest block: with the new signer an earlier database may have spoken up to it.
    ///
    /// # Errors
    /// As [`Store::open`]; also if `before` is no signer of this database.
    pub fn open_after(path: &Path, owner: &Owner, before: Address, born: u64) -> Result<Self, StoreError> {
        Self::open_as(path, owner, Some(before), born)
    }

    fn open_as(path: &Path, owner: &Owner, before: Option<Address>, born: u64) -> Result<Self, StoreError> {
        let database = Database::open(path, &SCHEMA)?;
        let store = Self { database };
        store.database.write(|transaction| claim(transaction, owner, before, born))?;
        // After a SIGKILL the log may still hold what was erased.
        store.empty_log();
        Ok(store)
    }

    /// Whether a write would succeed now.
    ///
    /// # Errors
    /// That of SQLite.
    pub fn check_writable(&self) -> Result<(), StoreError> {
        Ok(self.database.check_writable()?)
    }

    /// In ceremonies drawn at or before this block somebody may have spoken with this signer from a database that is lost: in all, for
    /// a signer that is not this server's.
    ///
    /// # Errors
    /// That of SQLite.
    pub fn born(&self, signer: Address) -> Result<u64, StoreError> {
        let row = self.signers()?.into_iter().find(|row| row.own && row.signer == signer);
        Ok(row.map_or(u64::MAX, |row| row.born))
    }

    /// All signers that this database knows, oldest first.
    ///
    /// # Errors
    /// That of SQLite, nonsense.
    pub fn signers(&self) -> Result<Vec<SignerRow>, StoreError> {
        signers(&self.database.lock())
    }

    /// Remembers the newest block at which a key was found beside this server's whose turn has not come: what is drawn later nobody
    /// can have taken part in with it from an earlier database. A second time changes nothing.
    ///
    /// # Errors
    /// That of SQLite.
    pub fn see_signer(&self, signer: Address, block: u64) -> Result<(), StoreError> {
        self.write_signer("DO NOTHING", (signer, false, block))
    }

    /// Takes a signer for this server's own. Only for what the chain says of both, or for a key that was made a moment ago (block 0).
    ///
    /// # Errors
    /// That of SQLite.
    pub fn own_signer(&self, signer: Address, block: u64) -> Result<(), StoreError> {
        self.write_signer("(signer) DO UPDATE SET own = 1", (signer, true, block))
    }

    fn write_signer(&self, conflict: &str, (signer, own, block): (Address, bool, u64)) -> Result<(), StoreError> {
        self.database.write(|transaction| {
            let insert = format!("INSERT INTO signer (signer, own, born) VALUES (?1, ?2, ?3) ON CONFLICT {conflict}");
            transaction.execute(&insert, params![signer.0.0, own, sql(block)?])?;
            Ok(())
        })
    }

    /// The ceremony rows of one attempt, one per committee that was ever drawn for it.
    ///
    /// # Errors
    /// SQLite's, nonsense.
    pub fn ceremonies(&self, key_id: u64, attempt: u16) -> Result<Vec<CeremonyRow>, StoreError> {
        let connection = self.database.lock();
        let mut statement = connection.prepare_cached(
            "SELECT committee, share_index, sealed, sits_out, what_to_do, complaint, signers FROM ceremony
             WHERE key_id = ?1 AND attempt = ?2 ORDER BY rowid",
        )?;
        let mut rows = statement.query(params![sql(key_id)?, attempt])?;
        let mut ceremonies = Vec::new();
        while let Some(row) = rows.next()? {
            let reason: Option<String> = row.get(3)?;
            let what_to_do: Option<String> = row.get(4)?;
            let complaint: Option<String> = row.get(5)?;
            let signers: Option<Vec<u8>> = row.get(6)?;
            let complaint = complaint.map(|text| serde_json::from_str(&text)).transpose();
            ceremonies.push(CeremonyRow {
                key_id,
                attempt,
                committee: B256::from(row.get::<_, [u8; 32]>(0)?),
                index: index(row.get(1)?)?,
                signers: signers.unwrap_or_default().as_chunks().0.iter().map(Address::from).collect(),
                sealed: row.get(2)?,
                sits_out: reason.zip(what_to_do),
                complaint: complaint.map_err(|_| StoreError::Nonsense("a complaint that does not parse"))?,
            });
        }
        Ok(ceremonies)
    }

    /// Stores a ceremony before anything is said in it.
    ///
    /// # Errors
    /// SQLite's; the row exists.
    pub fn begin(&self, row: &CeremonyRow) -> Result<(), StoreError> {
        self.database.write(|transaction| {
            let (reason, what_to_do) = row.sits_out.clone().unzip();
            transaction.execute(
                "INSERT INTO ceremony (key_id, attempt, committee, share_index, sealed, sits_out, what_to_do, signers)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    sql(row.key_id)?,
                    row.attempt,
                    row.committee.0,
                    row.index.get(),
                    row.sealed,
                    reason,
                    what_to_do,
                    row.signers.concat()
                ],
            )?;
            Ok(())
        })
    }

    /// Keeps what a person confirmed.
    ///
    /// # Errors
    /// SQLite's; it is there.
    pub fn confirm(&self, it: &Confirmed) -> Result<(), StoreError> {
        let servers: Vec<u8> = it.members.iter().flat_map(|member| member.server_id.to_be_bytes()).collect();
        let signers: Vec<u8> = it.members.iter().flat_map(|member| member.signer.0.0).collect();
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO confirmed (key_id, attempt, committee, threshold, servers, signers, deadline, block_number, block_hash,
                 block_time) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                params![
                    sql(it.key_id)?,
                    it.attempt,
                    it.committee.0,
                    it.threshold,
                    servers,
                    signers,
                    sql(it.deadline)?,
                    sql(it.block.number)?,
                    it.block.hash.0,
                    sql(it.block.timestamp)?
                ],
            )?;
            Ok(())
        })
    }

    /// All that was ever confirmed, oldest first.
    ///
    /// # Errors
    /// SQLite's, nonsense.
    pub fn confirmed(&self) -> Result<Vec<Confirmed>, StoreError> {
        let connection = self.database.lock();
        let mut statement = connection.prepare_cached(
            "SELECT key_id, attempt, committee, threshold, servers, signers, deadline, block_number, block_hash, block_time
             FROM confirmed ORDER BY rowid",
        )?;
        let mut rows = statement.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let number = |at| -> Result<u64, StoreError> {
                u64::try_from(row.get::<_, i64>(at)?).map_err(|_| StoreError::Nonsense("a negative number"))
            };
            let (servers, signers): (Vec<u8>, Vec<u8>) = (row.get(4)?, row.get(5)?);
            let (ids, addresses) = (servers.as_chunks::<4>().0, signers.as_chunks::<20>().0);
            let member = |(id, signer): (&[u8; 4], &[u8; 20])| MemberId {
                server_id: u32::from_be_bytes(*id),
                signer: Address::from(signer),
            };
            all.push(Confirmed {
                key_id: number(0)?,
                attempt: row.get(1)?,
                committee: B256::from(row.get::<_, [u8; 32]>(2)?),
                threshold: row.get(3)?,
                members: ids.iter().zip(addresses).map(member).collect(),
                deadline: number(6)?,
                block: ProvenBlock {
                    number: number(7)?,
                    hash: B256::from(row.get::<_, [u8; 32]>(8)?),
                    timestamp: number(9)?,
                },
            });
        }
        Ok(all)
    }

    /// Keeps what a person confirmed of a reshare.
    ///
    /// # Errors
    /// SQLite's; it is there.
    pub fn confirm_reshare(&self, it: &ConfirmedReshare) -> Result<(), StoreError> {
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO confirmed_reshare (key_id, committee_epoch, attempt, draft, facts, block_number, block_hash, block_time)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    sql(it.id.key_id)?,
                    it.id.committee_epoch,
                    it.id.attempt,
                    it.draft.0,
                    it.facts,
                    sql(it.block.number)?,
                    it.block.hash.0,
                    sql(it.block.timestamp)?
                ],
            )?;
            Ok(())
        })
    }

    /// All reshares that were ever confirmed, oldest first.
    ///
    /// # Errors
    /// SQLite's, nonsense.
    pub fn confirmed_reshares(&self) -> Result<Vec<ConfirmedReshare>, StoreError> {
        let connection = self.database.lock();
        let mut statement = connection.prepare_cached(
            "SELECT block_number, block_hash, block_time, key_id, committee_epoch, attempt, draft, facts FROM confirmed_reshare
             ORDER BY rowid",
        )?;
        let mut rows = statement.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let key_id = u64::try_from(row.get::<_, i64>(3)?).map_err(|_| StoreError::Nonsense("a negative key id"))?;
            all.push(ConfirmedReshare {
                id: ReshareId { key_id, committee_epoch: row.get(4)?, attempt: row.get(5)? },
                draft: B256::from(row.get::<_, [u8; 32]>(6)?),
                facts: row.get(7)?,
                block: block_of(row)?,
            });
        }
        Ok(all)
    }

    /// Blocks whose hash a person compared, for whatever.
    ///
    /// # Errors
    /// SQLite's, nonsense.
    pub fn confirmed_blocks(&self) -> Result<Vec<ProvenBlock>, StoreError> {
        let connection = self.database.lock();
        let mut statement = connection.prepare_cached(
            "SELECT block_number, block_hash, block_time FROM confirmed
             UNION SELECT block_number, block_hash, block_time FROM confirmed_reshare",
        )?;
        let mut rows = statement.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(block_of(row)?);
        }
        Ok(all)
    }

    /// All messages of one ceremony and committee, in the order they were stored.
    ///
    /// # Errors
    /// SQLite's, nonsense.
    pub fn messages(&self, key_id: u64, attempt: u16, committee: &B256) -> Result<Vec<SignedMessage>, StoreError> {
        let connection = self.database.lock();
        let mut statement = connection.prepare_cached(
            "SELECT json FROM message WHERE key_id = ?1 AND attempt = ?2 AND committee = ?3 ORDER BY id",
        )?;
        let texts: Vec<String> = statement
            .query_map(params![sql(key_id)?, attempt, committee.0], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        texts
            .iter()
            .map(|text| serde_json::from_str(text).map_err(|_| StoreError::Nonsense("a message that does not parse")))
            .collect()
    }

    /// Whether this server committed to a dealing as `index` in this attempt, under whatever committee.
    ///
    /// # Errors
    /// SQLite's.
    pub fn has_dealt(&self, key_id: u64, attempt: u16, index: ShareIndex) -> Result<bool, StoreError> {
        Ok(self.database.lock().query_row(
            "SELECT EXISTS (SELECT 1 FROM message WHERE key_id = ?1 AND attempt = ?2 AND share_index = ?3 AND own
             AND round <> 'one_time_key')",
            params![sql(key_id)?, attempt, index.get()],
            |row| row.get(0),
        )?)
    }

    /// Stores one step of a ceremony, all or nothing. Only then may its messages be sent.
    ///
    /// # Errors
    /// [`StoreError::Equivocation`] if an own message contradicts a stored one: nothing is stored then.
    pub fn record(&self, key_id: u64, attempt: u16, committee: &B256, step: Step<'_>) -> Result<(), StoreError> {
        self.database.write::<_, StoreError>(|transaction| {
            for message in step.received {
                insert_message(transaction, committee, message, false)?;
            }
            for message in step.own {
                refuse_equivocation(transaction, message)?;
                insert_message(transaction, committee, message, true)?;
            }
            if let Some(share) = &step.share {
                insert_share(transaction, key_id, share)?;
            }
            if let Some(complaint) = step.complaint {
                insert_complaint(transaction, (key_id, attempt, committee), complaint)?;
            }
            if step.erase {
                // secure_delete overwrites the bytes in the file too.
                transaction.execute(
                    "UPDATE ceremony SET sealed = NULL WHERE key_id = ?1 AND attempt = ?2",
                    params![sql(key_id)?, attempt],
                )?;
            }
            Ok(())
        })?;
        if step.erase {
            stkr_kill_points::may_end_at("server.ceremony_erased_and_in_log");
            self.empty_log();
        }
        Ok(())
    }

    /// Takes the write-ahead log over into the file and cuts it off: the pages in it, of before and after every change, would
    /// lie there until they are written over, which a quiet server takes weeks for. What was stored is safe without it.
    fn empty_log(&self) {
        let done = self.database.lock().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
        match done {
            Ok(false) => {}
            Ok(true) => tracing::warn!("erased secrets stay in the database's log: somebody else reads the database"),
            Err(error) => tracing::warn!(error = %error, "erased secrets stay in the database's log"),
        }
    }

    /// The shares of a key, one per ceremony that got that far.
    ///
    /// # Errors
    /// SQLite's, nonsense.
    pub fn shares(&self, key_id: u64) -> Result<Vec<ShareRow>, StoreError> {
        let of_key = self.read_shares("WHERE key_id = ?1", &[&sql(key_id)?])?;
        Ok(of_key.into_iter().map(|(_, row)| row).collect())
    }

    /// All shares with their keys.
    ///
    /// # Errors
    /// SQLite's, nonsense.
    pub fn all_shares(&self) -> Result<Vec<(u64, ShareRow)>, StoreError> {
        self.read_shares("", &[])
    }

    /// The shares of dealt keys, whether the chain knows the key by now or not.
    ///
    /// # Errors
    /// SQLite's, nonsense.
    pub fn dealt_shares(&self) -> Result<Vec<ShareRow>, StoreError> {
        self.shares(DEALT)
    }

    /// Stores the share of a dealt key; the same one again is nothing.
    ///
    /// # Errors
    /// [`StoreError::SecondShare`] if another share of the same group key is stored: nothing is stored then.
    pub fn keep_dealt(&self, share: &ShareRow) -> Result<(), StoreError> {
        self.database.write(|transaction| insert_share(transaction, DEALT, share))
    }

    /// The chain knows a dealt key as `key_id`: its share answers for this id too. The row without an id stays, because a reorg
    /// can give the key another id.
    ///
    /// # Errors
    /// SQLite's, [`StoreError::SecondShare`].
    pub fn adopt_dealt(&self, key_id: u64, share: &ShareRow) -> Result<(), StoreError> {
        self.database.write(|transaction| insert_share(transaction, key_id, share))
    }

    fn read_shares(
        &self,
        condition: &str,
        parameters: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<(u64, ShareRow)>, StoreError> {
        let connection = self.database.lock();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT key_id, committee_epoch, attempt, deadline, share_index, share_key, group_key, keystore FROM share {condition}
             ORDER BY rowid"
        ))?;
        let mut rows = statement.query(parameters)?;
        let mut shares = Vec::new();
        while let Some(row) = rows.next()? {
            let key_id = u64::try_from(row.get::<_, i64>(0)?).map_err(|_| StoreError::Nonsense("a negative key id"))?;
            let deadline =
                u64::try_from(row.get::<_, i64>(3)?).map_err(|_| StoreError::Nonsense("a negative deadline"))?;
            let share = ShareRow {
                origin: ShareOrigin { committee_epoch: row.get(1)?, attempt: row.get(2)?, deadline },
                index: index(row.get(4)?)?,
                share_key: row.get(5)?,
                group_key: row.get(6)?,
                keystore: row.get(7)?,
            };
            shares.push((key_id, share));
        }
        Ok(shares)
    }

    /// An attempt to reshare a key, if this server has begun it.
    ///
    /// # Errors
    /// SQLite's, nonsense.
    pub fn reshare(&self, id: ReshareId) -> Result<Option<ReshareRow>, StoreError> {
        let ReshareId { key_id, committee_epoch, attempt } = id;
        let connection = self.database.lock();
        let mut statement = connection.prepare_cached(
            "SELECT plan, signers, deadline, sealed, sits_out, what_to_do, complaint FROM reshare
             WHERE key_id = ?1 AND committee_epoch = ?2 AND attempt = ?3",
        )?;
        let mut rows = statement.query(params![sql(key_id)?, committee_epoch, attempt])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let signers: Vec<u8> = row.get(1)?;
        let (reason, what_to_do): (Option<String>, Option<String>) = (row.get(4)?, row.get(5)?);
        let complaint: Option<String> = row.get(6)?;
        let complaint = complaint.map(|text| serde_json::from_str(&text)).transpose();
        Ok(Some(ReshareRow {
            id,
            plan: B256::from(row.get::<_, [u8; 32]>(0)?),
            signers: signers.as_chunks().0.iter().map(Address::from).collect(),
            deadline: u64::try_from(row.get::<_, i64>(2)?).map_err(|_| StoreError::Nonsense("a negative deadline"))?,
            sealed: row.get(3)?,
            sits_out: reason.zip(what_to_do),
            complaint: complaint.map_err(|_| StoreError::Nonsense("a complaint that does not parse"))?,
        }))
    }

    /// Stores an attempt, with its one-time secrets, before anything is said in it.
    ///
    /// # Errors
    /// SQLite's; the row exists.
    pub fn begin_reshare(&self, row: &ReshareRow) -> Result<(), StoreError> {
        self.database.write(|transaction| {
            let (reason, what_to_do) = row.sits_out.clone().unzip();
            transaction.execute(
                "INSERT INTO reshare (key_id, committee_epoch, attempt, plan, signers, deadline, sealed, sits_out, what_to_do)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    sql(row.id.key_id)?,
                    row.id.committee_epoch,
                    row.id.attempt,
                    row.plan.0,
                    row.signers.concat(),
                    sql(row.deadline)?,
                    row.sealed,
                    reason,
                    what_to_do
                ],
            )?;
            Ok(())
        })
    }

    /// All messages of an attempt, in the order they were stored.
    ///
    /// # Errors
    /// SQLite's, nonsense.
    pub fn reshare_messages(&self, id: ReshareId) -> Result<Vec<ReshareMessage>, StoreError> {
        let connection = self.database.lock();
        let mut statement = connection.prepare_cached(
            "SELECT json FROM reshare_message WHERE key_id = ?1 AND committee_epoch = ?2 AND attempt = ?3 ORDER BY id",
        )?;
        let texts: Vec<String> = statement
            .query_map(params![sql(id.key_id)?, id.committee_epoch, id.attempt], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        texts
            .iter()
            .map(|text| serde_json::from_str(text).map_err(|_| StoreError::Nonsense("a message that does not parse")))
            .collect()
    }

    /// Stores one step of a reshare, all or nothing. Only then may its messages be sent and its complaint be shown.
    ///
    /// # Errors
    /// [`StoreError::ReshareEquivocation`] if an own message contradicts a stored one: nothing is stored then.
    pub fn record_reshare(&self, id: ReshareId, step: ReshareStep<'_>) -> Result<(), StoreError> {
        self.database.write::<_, StoreError>(|transaction| {
            for message in step.received {
                insert_reshare_message(transaction, message, false)?;
            }
            for message in step.own {
                refuse_reshare_equivocation(transaction, message)?;
                insert_reshare_message(transaction, message, true)?;
            }
            if let Some((key_id, share)) = &step.share {
                insert_share(transaction, *key_id, share)?;
            }
            if let Some(complaint) = step.complaint {
                let text = serde_json::to_string(complaint)
                    .map_err(|_| StoreError::Nonsense("a complaint that does not serialise"))?;
                update_reshare(transaction, id, "complaint = ?4", params![text])?;
            }
            if let Some((reason, what_to_do)) = &step.sits_out {
                update_reshare(transaction, id, "sits_out = ?4, what_to_do = ?5", params![reason, what_to_do])?;
            }
            if step.erase {
                // secure_delete overwrites the bytes in the file too.
                update_reshare(transaction, id, "sealed = NULL", params![])?;
            }
            Ok(())
        })?;
        if step.erase {
            self.empty_log();
        }
        Ok(())
    }

    /// Erases a share for ever.
    ///
    /// # Errors
    /// SQLite's; then it is still there.
    pub fn erase_share(&self, key_id: u64, share: &ShareRow) -> Result<(), StoreError> {
        self.database.write::<_, StoreError>(|transaction| {
            transaction.execute(
                "DELETE FROM share WHERE key_id = ?1 AND committee_epoch = ?2 AND attempt = ?3 AND share_key = ?4",
                params![sql(key_id)?, share.origin.committee_epoch, share.origin.attempt, share.share_key],
            )?;
            Ok(())
        })?;
        self.empty_log();
        Ok(())
    }

    /// Erases the one-time secrets of all attempts that could be finalised until before `time` (unix seconds) only; returns how many
    /// attempts that were.
    ///
    /// # Errors
    /// SQLite's; then they are still there.
    pub fn erase_reshare_secrets(&self, time: u64) -> Result<usize, StoreError> {
        let erased = self.database.write::<_, StoreError>(|transaction| {
            Ok(transaction.execute(
                "UPDATE reshare SET sealed = NULL WHERE sealed IS NOT NULL AND deadline < ?1",
                params![sql(time)?],
            )?)
        })?;
        if erased > 0 {
            self.empty_log();
        }
        Ok(erased)
    }

    /// The deposit of a key that was signed, if any.
    ///
    /// # Errors
    /// SQLite's.
    pub fn deposit(&self, key_id: u64) -> Result<Option<DepositRow>, StoreError> {
        Ok(deposit_of(&self.database.lock(), key_id)?)
    }

    /// Stores signed deposits, in one transaction for a whole batch. For each the answer to give: the stored one where the
    /// same deposit was signed before, unless by an earlier committee; an error where another one was.
    ///
    /// # Errors
    /// SQLite's; then nothing was stored and nothing may be sent.
    pub fn sign_deposits(&self, new: &[(u64, DepositRow)]) -> Result<Vec<Result<DepositRow, StoreError>>, StoreError> {
        self.database.write(|transaction| {
            let mut answers = Vec::with_capacity(new.len());
            for (key_id, row) in new {
                transaction.execute(
                    "INSERT INTO deposit (key_id, signing_root, answer, committee_epoch) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (key_id) DO UPDATE SET answer = excluded.answer, committee_epoch = excluded.committee_epoch
                     WHERE signing_root = excluded.signing_root AND committee_epoch < excluded.committee_epoch",
                    params![sql(*key_id)?, row.signing_root.0, row.answer, row.committee_epoch],
                )?;
                let stored = deposit_of(transaction, *key_id)?.ok_or(StoreError::Nonsense("no deposit just stored"))?;
                answers.push(if stored.signing_root == row.signing_root {
                    Ok(stored)
                } else {
                    Err(StoreError::OtherDeposit { key_id: *key_id, signed: stored.signing_root })
                });
            }
            Ok(answers)
        })
    }

    /// The life of the slashing protection database that this server used last.
    ///
    /// # Errors
    /// SQLite's.
    pub fn protection(&self) -> Result<Option<InstanceId>, StoreError> {
        let row = self.database.lock().query_row("SELECT instance FROM protection", [], |row| row.get(0)).optional()?;
        Ok(row.map(InstanceId::from_bytes))
    }

    /// Remembers it, for the case that database and witness vanish together.
    ///
    /// # Errors
    /// SQLite's.
    pub fn set_protection(&self, instance: InstanceId) -> Result<(), StoreError> {
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO protection (only, instance) VALUES (1, ?1)
                 ON CONFLICT (only) DO UPDATE SET instance = excluded.instance",
                [instance.as_bytes()],
            )?;
            Ok(())
        })
    }

    /// Keeps requests for duties, in one transaction, and of all that are kept the newest `most`. The first two of an assignment that
    /// conflict are kept for good.
    ///
    /// # Errors
    /// SQLite's; then none was kept.
    pub fn keep_duties(&self, rows: &[DutyRow], most: u64) -> Result<(), StoreError> {
        self.database.write(|transaction| {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO duty (key_id, assignment, duty_kind, slot, source_epoch, target_epoch, signing_root, duty_key,
                 request, envelope, partial_hash, share_index, at, committee_epoch)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
                 ON CONFLICT (key_id, assignment, duty_kind, signing_root, duty_key) DO UPDATE
                 SET envelope = coalesce(envelope, excluded.envelope), partial_hash = coalesce(partial_hash, excluded.partial_hash)",
            )?;
            for row in rows {
                keep_conflict(transaction, row)?;
                insert.execute(params![
                    sql(row.key_id)?,
                    sql(row.assignment)?,
                    row.duty_kind,
                    sql(row.slot)?,
                    sql(row.source_epoch)?,
                    sql(row.target_epoch)?,
                    row.signing_root.0,
                    row.duty_key.0.0,
                    row.request,
                    row.envelope,
                    row.partial_hash.map(|hash| hash.0),
                    row.index,
                    sql(row.at)?,
                    row.committee_epoch,
                ])?;
            }
            transaction.execute("DELETE FROM duty WHERE id <= (SELECT max(id) FROM duty) - ?1", [sql(most)?])?;
            Ok(())
        })
    }

    /// How far each key has signed, as far as the kept requests tell. They are written after the signature: it may be behind.
    ///
    /// # Errors
    /// SQLite's.
    pub fn signed(&self) -> Result<Vec<(Pubkey, Signed)>, StoreError> {
        let connection = self.database.lock();
        let mut statement = connection.prepare(
            "SELECT group_key, max(CASE duty_kind WHEN ?1 THEN slot END), max(CASE duty_kind WHEN ?2 THEN target_epoch END)
             FROM duty JOIN share USING (key_id) WHERE envelope IS NOT NULL GROUP BY group_key",
        )?;
        let unsigned = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        let kinds = [DutyKind::Block, DutyKind::Attestation].map(|kind| kind as u8);
        let found = statement.query_map(kinds, |row| {
            let signed = Signed { slot: unsigned(row.get(1)?), target_epoch: unsigned(row.get(2)?) };
            Ok((Pubkey::from(row.get::<_, [u8; 48]>(0)?), signed))
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// Pairs of requests that convict a provider, with ids above `after`, oldest first, at most [`MAX_CONFLICTS`].
    ///
    /// # Errors
    /// SQLite's, and nonsense.
    pub fn conflicts(&self, after: u64) -> Result<Vec<Conflict>, StoreError> {
        let connection = self.database.lock();
        let mut statement =
            connection.prepare_cached("SELECT id, first, second FROM conflict WHERE id > ?1 ORDER BY id LIMIT ?2")?;
        let limit = u32::try_from(MAX_CONFLICTS).unwrap_or(u32::MAX);
        let mut rows = statement.query(params![i64::try_from(after).unwrap_or(i64::MAX), limit])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let request = |column| -> Result<SignedDutyRequest, StoreError> {
                let text: String = row.get(column)?;
                serde_json::from_str(&text).map_err(|_| StoreError::Nonsense("a request that conflicts"))
            };
            found.push(Conflict { id: row.get::<_, i64>(0)?.unsigned_abs(), first: request(1)?, second: request(2)? });
        }
        Ok(found)
    }

    /// Hands every kept request for a duty to `each`, oldest first.
    ///
    /// # Errors
    /// SQLite's, nonsense, and what `each` says.
    pub fn duties<E: From<StoreError>>(&self, mut each: impl FnMut(&DutyRow) -> Result<(), E>) -> Result<(), E> {
        let connection = self.database.lock();
        let sqlite = |error: rusqlite::Error| E::from(StoreError::Sqlite(error));
        let mut statement = connection
            .prepare(
                "SELECT key_id, assignment, duty_kind, slot, source_epoch, target_epoch, signing_root, duty_key, request,
                 envelope, partial_hash, share_index, at, committee_epoch FROM duty ORDER BY id",
            )
            .map_err(sqlite)?;
        let mut rows = statement.query([]).map_err(sqlite)?;
        while let Some(row) = rows.next().map_err(sqlite)? {
            each(&duty_of(row).map_err(sqlite)?)?;
        }
        Ok(())
    }

    /// Numbers for metrics: ceremonies, shares, deposits.
    ///
    /// # Errors
    /// SQLite's.
    pub fn counts(&self) -> Result<[i64; 3], StoreError> {
        Ok(self.database.lock().query_row(
            "SELECT (SELECT count(*) FROM ceremony), (SELECT count(*) FROM share), (SELECT count(*) FROM deposit)",
            [],
            |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]),
        )?)
    }
}

/// SQLite integers are signed; ids of keys stay far below the difference.
fn sql(value: u64) -> Result<i64, rusqlite::Error> {
    i64::try_from(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// Number, hash and time, from the first three columns.
fn block_of(row: &rusqlite::Row<'_>) -> Result<ProvenBlock, StoreError> {
    let number = |at| -> Result<u64, StoreError> {
        u64::try_from(row.get::<_, i64>(at)?).map_err(|_| StoreError::Nonsense("a negative number"))
    };
    let hash = B256::from(row.get::<_, [u8; 32]>(1)?);
    Ok(ProvenBlock { number: number(0)?, hash, timestamp: number(2)? })
}

fn index(value: u8) -> Result<ShareIndex, StoreError> {
    ShareIndex::new(value).map_err(|_| StoreError::Nonsense("share index 0"))
}

fn claim(transaction: &Transaction<'_>, owner: &Owner, before: Option<Address>, born: u64) -> Result<(), StoreError> {
    let stored = transaction
        .query_row("SELECT chain_id, key_registry FROM owner", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 20]>(1)?))
        })
        .optional()?;
    let keep = |transaction: &Transaction<'_>| {
        transaction.execute(
            "INSERT INTO signer (signer, own, born) VALUES (?1, 1, ?2) ON CONFLICT (signer) DO UPDATE SET own = 1",
            params![owner.signer.0.0, sql(born)?],
        )
    };
    let Some((chain_id, registry)) = stored else {
        transaction.execute(
            "INSERT INTO owner (only, chain_id, key_registry) VALUES (1, ?1, ?2)",
            params![sql(owner.chain_id)?, owner.key_registry.0.0],
        )?;
        keep(transaction)?;
        return Ok(());
    };
    let differs = |what, stored: String, configured: String| {
        if stored == configured { Ok(()) } else { Err(StoreError::Foreign { what, stored, configured }) }
    };
    differs("chain", chain_id.to_string(), owner.chain_id.to_string())?;
    differs("key registry", Address::from(registry).to_string(), owner.key_registry.to_string())?;
    let own: Vec<Address> = signers(transaction)?.iter().filter(|row| row.own).map(|row| row.signer).collect();
    if own.contains(&owner.signer) {
        return Ok(());
    }
    if before.is_some_and(|before| own.contains(&before)) {
        keep(transaction)?;
        return Ok(());
    }
    Err(StoreError::OtherSigner { stored: own, configured: owner.signer })
}

fn signers(connection: &rusqlite::Connection) -> Result<Vec<SignerRow>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT signer, own, born FROM signer ORDER BY rowid")?;
    let mut rows = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let born = u64::try_from(row.get::<_, i64>(2)?).map_err(|_| StoreError::Nonsense("a negative block number"))?;
        all.push(SignerRow { signer: Address::from(row.get::<_, [u8; 20]>(0)?), own: row.get(1)?, born });
    }
    Ok(all)
}

fn list(signers: &[Address]) -> String {
    signers.iter().map(Address::to_string).collect::<Vec<_>>().join(", ")
}

fn insert_message(
    transaction: &Transaction<'_>,
    committee: &B256,
    message: &SignedMessage,
    own: bool,
) -> Result<(), StoreError> {
    let json = serde_json::to_string(message).map_err(|_| StoreError::Nonsense("a message that does not serialise"))?;
    transaction.execute(
        "INSERT INTO message (key_id, attempt, committee, round, share_index, own, json)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (key_id, attempt, committee, round, share_index, json) DO NOTHING",
        params![
            sql(message.key_id)?,
            message.attempt,
            committee.0,
            message.round().name(),
            message.index.get(),
            own,
            json
        ],
    )?;
    Ok(())
}

/// The last line against a second, different message of ours in one round: under another committee after a reorg, after a
/// bug, after anything. The one-time key is the exception that proves nothing: it is the same message then.
fn refuse_equivocation(transaction: &Transaction<'_>, message: &SignedMessage) -> Result<(), StoreError> {
    let json = serde_json::to_string(message).map_err(|_| StoreError::Nonsense("a message that does not serialise"))?;
    let other: bool = transaction.query_row(
        "SELECT EXISTS (SELECT 1 FROM message WHERE key_id = ?1 AND attempt = ?2 AND round = ?3 AND share_index = ?4
         AND own AND json <> ?5)",
        params![sql(message.key_id)?, message.attempt, message.round().name(), message.index.get(), json],
        |row| row.get(0),
    )?;
    if other {
        return Err(StoreError::Equivocation {
            key_id: message.key_id,
            attempt: message.attempt,
            round: message.round(),
        });
    }
    Ok(())
}

fn insert_complaint(
    transaction: &Transaction<'_>,
    (key_id, attempt, committee): (u64, u16, &B256),
    complaint: Complaint<'_>,
) -> Result<(), StoreError> {
    let text = serde_json::to_string(complaint.opened).map_err(|_| StoreError::Nonsense("a complaint without JSON"))?;
    transaction.execute(
        "UPDATE ceremony SET complaint = ?4, sits_out = ?5, what_to_do = ?6
         WHERE key_id = ?1 AND attempt = ?2 AND committee = ?3",
        params![sql(key_id)?, attempt, committee.0, text, complaint.reason, complaint.what_to_do],
    )?;
    Ok(())
}

fn insert_reshare_message(
    transaction: &Transaction<'_>,
    message: &ReshareMessage,
    own: bool,
) -> Result<(), StoreError> {
    let json = serde_json::to_string(message).map_err(|_| StoreError::Nonsense("a message that does not serialise"))?;
    transaction.execute(
        "INSERT INTO reshare_message (key_id, committee_epoch, attempt, round, share_index, own, json)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (key_id, committee_epoch, attempt, round, share_index, json) DO NOTHING",
        params![
            sql(message.id.key_id)?,
            message.id.committee_epoch,
            message.id.attempt,
            message.round().name(),
            message.index.get(),
            own,
            json
        ],
    )?;
    Ok(())
}

/// The last line against a second, different message of ours in one round, whatever the code above does.
fn refuse_reshare_equivocation(transaction: &Transaction<'_>, message: &ReshareMessage) -> Result<(), StoreError> {
    let json = serde_json::to_string(message).map_err(|_| StoreError::Nonsense("a message that does not serialise"))?;
    let ReshareId { key_id, committee_epoch, attempt } = message.id;
    let other: bool = transaction.query_row(
        "SELECT EXISTS (SELECT 1 FROM reshare_message WHERE key_id = ?1 AND committee_epoch = ?2 AND attempt = ?3 AND round = ?4
         AND share_index = ?5 AND own AND json <> ?6)",
        params![sql(key_id)?, committee_epoch, attempt, message.round().name(), message.index.get(), json],
        |row| row.get(0),
    )?;
    if other {
        return Err(StoreError::ReshareEquivocation { id: message.id, round: message.round() });
    }
    Ok(())
}

/// Sets columns of an attempt's row; their values are the parameters from the fourth on.
fn update_reshare(
    transaction: &Transaction<'_>,
    id: ReshareId,
    set: &str,
    values: &[&dyn rusqlite::ToSql],
) -> Result<(), StoreError> {
    let key_id = sql(id.key_id)?;
    let mut all: Vec<&dyn rusqlite::ToSql> = vec![&key_id, &id.committee_epoch, &id.attempt];
    all.extend_from_slice(values);
    let sql = format!("UPDATE reshare SET {set} WHERE key_id = ?1 AND committee_epoch = ?2 AND attempt = ?3");
    transaction.execute(&sql, all.as_slice())?;
    Ok(())
}

fn insert_share(transaction: &Transaction<'_>, key_id: u64, share: &ShareRow) -> Result<(), StoreError> {
    let ShareOrigin { committee_epoch, attempt, deadline } = share.origin;
    let inserted = transaction.execute(
        "INSERT INTO share (key_id, committee_epoch, attempt, deadline, share_index, share_key, group_key, keystore)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
        params![
            sql(key_id)?,
            committee_epoch,
            attempt,
            sql(deadline)?,
            share.index.get(),
            share.share_key,
            share.group_key,
            share.keystore
        ],
    )?;
    if inserted == 1 {
        return Ok(());
    }
    let stored: [u8; 48] = transaction.query_row(
        "SELECT share_key FROM share WHERE key_id = ?1 AND group_key = ?2 AND committee_epoch = ?3
         AND (committee_epoch = 0 OR attempt = ?4)",
        params![sql(key_id)?, share.group_key, committee_epoch, attempt],
        |row| row.get(0),
    )?;
    if stored == share.share_key { Ok(()) } else { Err(StoreError::SecondShare { key_id }) }
}

fn deposit_of(connection: &rusqlite::Connection, key_id: u64) -> Result<Option<DepositRow>, rusqlite::Error> {
    connection
        .query_row(
            "SELECT signing_root, answer, committee_epoch FROM deposit WHERE key_id = ?1",
            [sql(key_id)?],
            |row| {
                let signing_root = B256::from(row.get::<_, [u8; 32]>(0)?);
                Ok(DepositRow { signing_root, answer: row.get(1)?, committee_epoch: row.get(2)? })
            },
        )
        .optional()
}

/// Keeps the request together with one that was kept before and conflicts with it, if it is the first such pair of its assignment.
///
/// As long as there is none, sources of votes grow with their targets. So of all votes around this one the nearest source below has the
/// latest target, and of all within it the nearest above has the earliest: a look at each is enough, however many are kept.
fn keep_conflict(transaction: &Transaction<'_>, row: &DutyRow) -> Result<(), rusqlite::Error> {
    const KEPT: &str =
        "SELECT key_id, assignment, duty_kind, slot, source_epoch, target_epoch, signing_root, duty_key, request,
        envelope, partial_hash, share_index, at, committee_epoch FROM duty WHERE key_id = ?1 AND assignment = ?2 AND";
    const SAME_SLOT: &str = "duty_kind = 3 AND slot = ?3 AND signing_root != ?4 LIMIT 1";
    const SAME_TARGET: &str = "duty_kind = 2 AND target_epoch = ?3 AND signing_root != ?4 LIMIT 1";
    const AROUND: &str = "duty_kind = 2 AND source_epoch < ?3 ORDER BY source_epoch DESC, target_epoch DESC LIMIT 1";
    const WITHIN: &str = "duty_kind = 2 AND source_epoch > ?3 ORDER BY source_epoch, target_epoch LIMIT 1";
    let (key_id, assignment, second) = (sql(row.key_id)?, sql(row.assignment)?, conflicts::request(row));
    let mut known = transaction.prepare_cached("SELECT 1 FROM conflict WHERE key_id = ?1 AND assignment = ?2")?;
    if known.exists(params![key_id, assignment])? {
        return Ok(());
    }
    let first_of = |those: &str, at: u64, root: Option<&[u8; 32]>| {
        let mut kept = transaction.prepare_cached(&format!("{KEPT} {those}"))?;
        let found = match root {
            Some(root) => kept.query_row(params![key_id, assignment, sql(at)?, root], duty_of).optional()?,
            None => kept.query_row(params![key_id, assignment, sql(at)?], duty_of).optional()?,
        };
        Ok::<_, rusqlite::Error>(
            found.map(|kept| conflicts::request(&kept)).filter(|kept| kept.conflicts_with(&second)),
        )
    };
    let root = Some(&row.signing_root.0);
    let first = match DutyKind::numbered(row.duty_kind) {
        Some(DutyKind::Block) => first_of(SAME_SLOT, row.slot, root)?,
        Some(DutyKind::Attestation) => match first_of(SAME_TARGET, row.target_epoch, root)? {
            Some(first) => Some(first),
            None => match first_of(AROUND, row.source_epoch, None)? {
                Some(first) => Some(first),
                None => first_of(WITHIN, row.source_epoch, None)?,
            },
        },
        _ => None,
    };
    if let Some(first) = first {
        let text = |request: &SignedDutyRequest| {
            serde_json::to_string(request).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
        };
        transaction.execute(
            "INSERT INTO conflict (key_id, assignment, first, second) VALUES (?1, ?2, ?3, ?4)",
            params![key_id, assignment, text(&first)?, text(&second)?],
        )?;
    }
    Ok(())
}

fn duty_of(row: &rusqlite::Row<'_>) -> Result<DutyRow, rusqlite::Error> {
    let number = |column: usize| Ok::<_, rusqlite::Error>(row.get::<_, i64>(column)?.unsigned_abs());
    Ok(DutyRow {
        key_id: number(0)?,
        assignment: number(1)?,
        duty_kind: row.get(2)?,
        slot: number(3)?,
        source_epoch: number(4)?,
        target_epoch: number(5)?,
        signing_root: B256::from(row.get::<_, [u8; 32]>(6)?),
        duty_key: Address::from(row.get::<_, [u8; 20]>(7)?),
        request: row.get(8)?,
        envelope: row.get(9)?,
        partial_hash: row.get::<_, Option<[u8; 32]>>(10)?.map(B256::from),
        index: row.get(11)?,
        at: number(12)?,
        committee_epoch: row.get(13)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use stkr_protocol::messages::{Body, DealingCommitmentBody};
    use stkr_protocol::{ProtocolDomain, SignerKey};

    fn owner() -> Owner {
        Owner { signer: Address::repeat_byte(1), chain_id: 31337, key_registry: Address::repeat_byte(2) }
    }

    fn open() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("server.db"), &owner(), 9).unwrap();
        (folder, store)
    }

    fn commitment(index: u8, hash: u8) -> SignedMessage {
        let domain = ProtocolDomain { chain_id: 31337, key_registry: Address::repeat_byte(2) };
        let key = SignerKey::from_bytes(&[7; 32]).unwrap();
        let body = Body::DealingCommitment(DealingCommitmentBody { dealing_hash: B256::repeat_byte(hash) });
        SignedMessage::sign(&domain, &key, (5, 0, ShareIndex::new(index).unwrap()), body)
    }

    #[test]
    fn a_database_of_another_server_or_deployment_is_refused() {
        let (folder, store) = open();
        assert_eq!(store.born(owner().signer).unwrap(), 9);
        drop(store);
        let path = folder.path().join("server.db");
        for other in [Owner { chain_id: 1, ..owner() }, Owner { key_registry: Address::ZERO, ..owner() }] {
            assert!(matches!(Store::open(&path, &other, 0), Err(StoreError::Foreign { .. })));
        }
        let store = Store::open(&path, &owner(), 77).unwrap();
        assert_eq!(store.born(owner().signer).unwrap(), 9, "born once");
    }

    #[test]
    fn a_database_goes_from_signer_to_signer_only_where_somebody_showed_that_both_are_of_one_server() {
        let (folder, store) = open();
        let (first, second, foreign) = (owner().signer, Address::repeat_byte(7), Address::repeat_byte(8));
        // Lying beside the others makes no key this server's.
        store.see_signer(second, 20).unwrap();
        store.see_signer(second, 30).unwrap();
        assert_eq!(store.born(second).unwrap(), u64::MAX, "it says nothing");
        drop(store);
        let path = folder.path().join("server.db");
        let of = |signer| Owner { signer, ..owner() };
        for signer in [second, foreign] {
            let refused = Store::open(&path, &of(signer), 0).unwrap_err();
            assert!(
                matches!(&refused, StoreError::OtherSigner { stored, configured } if *stored == [first] && *configured == signer),
                "{refused}"
            );
            assert!(Store::open_after(&path, &of(signer), foreign, 40).is_err(), "after a signer that it never had");
        }
        let after = Store::open_after(&path, &of(second), first, 40).unwrap();
        assert_eq!(after.born(second).unwrap(), 20, "since it was seen here first");
        drop(after);
        let (third, fourth) = (Address::repeat_byte(9), Address::repeat_byte(10));
        let store = Store::open(&path, &of(second), 0).unwrap();
        store.own_signer(third, 50).unwrap();
        store.own_signer(third, 60).unwrap();
        drop(store);
        drop(Store::open_after(&path, &of(fourth), third, 70).unwrap());
        let store = Store::open(&path, &owner(), 0).unwrap();
        let borns: Vec<_> = store.signers().unwrap().iter().map(|row| (row.signer, row.own, row.born)).collect();
        assert_eq!(borns, [(first, true, 9), (second, true, 20), (third, true, 50), (fourth, true, 70)]);
    }

    #[test]
    fn a_database_with_one_signer_keeps_it_and_the_block_from_which_it_speaks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.db");
        {
            let old = rusqlite::Connection::open(&path).unwrap();
            SCHEMA.migrations[..6].iter().for_each(|step| old.execute_batch(step).unwrap());
            old.pragma_update(None, "application_id", SCHEMA.application_id).unwrap();
            old.pragma_update(None, "user_version", 6).unwrap();
            let Owner { signer, chain_id, key_registry } = owner();
            let chain_id = i64::try_from(chain_id).unwrap();
            let values = params![signer.0.0, chain_id, key_registry.0.0];
            old.execute("INSERT INTO owner VALUES (1, ?1, ?2, ?3, 123)", values).unwrap();
        }
        let other = Owner { signer: Address::ZERO, ..owner() };
        assert!(matches!(Store::open(&path, &other, 0), Err(StoreError::OtherSigner { .. })));
        assert_eq!(Store::open(&path, &owner(), 0).unwrap().born(owner().signer).unwrap(), 123);
    }

    #[test]
    fn a_database_of_before_reshares_keeps_its_shares_as_those_of_first_committees() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.db");
        {
            let old = rusqlite::Connection::open(&path).unwrap();
            SCHEMA.migrations[..5].iter().for_each(|step| old.execute_batch(step).unwrap());
            old.pragma_update(None, "application_id", SCHEMA.application_id).unwrap();
            old.pragma_update(None, "user_version", 5).unwrap();
            let share = "INSERT INTO share (key_id, attempt, share_index, share_key, group_key, keystore) VALUES (?1, 2, 3, ?2, ?3, '{}')";
            for key in [5_u8, 6] {
                old.execute(share, params![key, [key; 48], [9 + key; 48]]).unwrap();
            }
            old.execute("INSERT INTO deposit (key_id, signing_root, answer) VALUES (5, ?1, 'a')", [[1_u8; 32]])
                .unwrap();
        }
        let store = Store::open(&path, &owner(), 0).unwrap();
        let row = store.shares(5).unwrap().remove(0);
        assert_eq!(row.origin, ShareOrigin { committee_epoch: 0, attempt: 2, deadline: 0 });
        assert_eq!((row.index.get(), row.share_key, row.group_key), (3, [5; 48], [14; 48]));
        assert_eq!((store.all_shares().unwrap().len(), store.deposit(5).unwrap().unwrap().committee_epoch), (2, 0));
        assert!(store.all_shares().unwrap().iter().all(|(_, row)| row.keystore == "{}"));
    }

    #[test]
    fn a_second_share_of_one_key_is_never_kept_and_the_same_one_again_is_nothing() {
        let (_folder, store) = open();
        let share = |index: u8| ShareRow {
            origin: ShareOrigin { committee_epoch: 0, attempt: 0, deadline: 0 },
            index: ShareIndex::new(index).unwrap(),
            share_key: [index; 48],
            group_key: [9; 48],
            keystore: "{}".to_owned(),
        };
        let keep = |row: &ShareRow| {
            let step = Step { share: Some(row.clone()), ..Step::default() };
            store.record(5, 0, &B256::repeat_byte(row.index.get()), step)
        };
        keep(&share(1)).unwrap();
        keep(&share(1)).unwrap();
        assert!(matches!(keep(&share(2)), Err(StoreError::SecondShare { key_id: 5 })));
        assert_eq!(store.shares(5).unwrap().len(), 1);
        // Of the next committee it is another share of the same key, and again one only; of another attempt another one.
        let next = |index: u8, attempt| {
            let origin = ShareOrigin { committee_epoch: 1, attempt, deadline: 7 };
            ShareRow { origin, ..share(index) }
        };
        keep(&next(3, 0)).unwrap();
        assert!(matches!(keep(&next(4, 0)), Err(StoreError::SecondShare { key_id: 5 })));
        keep(&next(4, 1)).unwrap();
        assert_eq!(store.shares(5).unwrap().len(), 3);
    }

    #[test]
    fn a_second_own_message_of_a_round_is_refused_under_any_committee_and_nothing_of_the_step_stays() {
        let (_folder, store) = open();
        let (here, there) = (B256::repeat_byte(1), B256::repeat_byte(2));
        let (first, second) = (commitment(2, 1), commitment(2, 2));
        store.record(5, 0, &here, Step { own: std::slice::from_ref(&first), ..Step::default() }).unwrap();
        store.record(5, 0, &here, Step { own: std::slice::from_ref(&first), ..Step::default() }).unwrap();
        for committee in [here, there] {
            let step = Step { received: &[commitment(3, 3)], own: std::slice::from_ref(&second), ..Step::default() };
            assert!(matches!(store.record(5, 0, &committee, step), Err(StoreError::Equivocation { .. })));
        }
        assert_eq!(store.messages(5, 0, &here).unwrap(), [first]);
        assert!(store.messages(5, 0, &there).unwrap().is_empty());
        assert!(store.has_dealt(5, 0, ShareIndex::new(2).unwrap()).unwrap());
        assert!(!store.has_dealt(5, 0, ShareIndex::new(3).unwrap()).unwrap());
    }

    #[test]
    fn erasing_leaves_no_sealed_secret_in_the_row_or_in_the_file() {
        let (folder, store) = open();
        let row = CeremonyRow {
            key_id: 5,
            attempt: 0,
            committee: B256::repeat_byte(1),
            index: ShareIndex::new(2).unwrap(),
            signers: vec![Address::repeat_byte(4), Address::repeat_byte(5)],
            sealed: Some(b"PLANTED-SEALED-SECRET".to_vec()),
            sits_out: None,
            complaint: None,
        };
        store.begin(&row).unwrap();
        assert_eq!(store.ceremonies(5, 0).unwrap(), std::slice::from_ref(&row));
        store.record(5, 0, &row.committee, Step { erase: true, ..Step::default() }).unwrap();
        assert_eq!(store.ceremonies(5, 0).unwrap()[0].sealed, None);
        // While the server runs, which it does for months.
        for name in ["server.db", "server.db-wal"] {
            let file = std::fs::read(folder.path().join(name)).unwrap();
            assert!(!file.windows(21).any(|window| window == b"PLANTED-SEALED-SECRET"), "it is still in {name}");
        }
        drop(store);
        // Closing checkpoints the log into the file and removes it.
        let file = std::fs::read(folder.path().join("server.db")).unwrap();
        assert!(!file.windows(21).any(|window| window == b"PLANTED-SEALED-SECRET"));
        assert!(!folder.path().join("server.db-wal").exists());
    }

    #[test]
    fn one_deposit_per_key_also_when_two_come_in_one_batch_or_from_many_threads() {
        let (_folder, store) = open();
        let row = |byte: u8| DepositRow {
            committee_epoch: 0,
            signing_root: B256::repeat_byte(byte),
            answer: format!("answer {byte}"),
        };
        let answers = store.sign_deposits(&[(1, row(1)), (1, row(2)), (2, row(3))]).unwrap();
        assert_eq!(answers[0].as_ref().unwrap(), &row(1));
        assert!(
            matches!(answers[1], Err(StoreError::OtherDeposit { key_id: 1, signed }) if signed == row(1).signing_root)
        );
        assert_eq!(answers[2].as_ref().unwrap(), &row(3));
        let same = DepositRow { answer: "made again".to_owned(), ..row(1) };
        assert_eq!(store.sign_deposits(&[(1, same)]).unwrap()[0].as_ref().unwrap(), &row(1), "the stored answer");

        let signed = std::thread::scope(|scope| {
            let threads: Vec<_> = (10..20_u8)
                .map(|byte| {
                    let store = &store;
                    scope.spawn(move || store.sign_deposits(&[(3, row(byte))]).unwrap().remove(0).is_ok())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|signed| *signed).count()
        });
        assert_eq!(signed, 1, "exactly one of ten different deposits");
    }
}
