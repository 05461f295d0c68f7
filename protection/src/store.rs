//! The open file and what is done with it, for [`crate::Protection`] and [`crate::Quarantine`] alike.

use std::io::{Read, Write};
use std::path::Path;

use alloy_primitives::B256;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};
use stkr_kill_points::kill_point;

use crate::InstanceId;
use crate::duty::{
    Attestation, Block, Duty, Epochs, KeyState, Now, Pubkey, Request, SignedAttestation, SignedBlock, Watermark,
};
use crate::error::{BackupError, ExportError, ImportError, KeyError, OpenError, Unavailable};
use crate::export::{self, Doubted, ExportReport};
use crate::file::{self, Guard, integer};
use crate::merge::{self, ImportReport};
use crate::rules;
use crate::verdict::Verdict;
use crate::witness::{FileIdentity, Witness, with_suffix};

/// An open database under its lock.
#[derive(Debug)]
pub(crate) struct Store {
    /// `None` between an error and the repair.
    connection: Option<Connection>,
    pub(crate) guard: Guard,
    identity: FileIdentity,
    pub(crate) genesis_validators_root: B256,
    pub(crate) instance: InstanceId,
    pub(crate) generation: u64,
    /// `None` in quarantine: what the old witness says stays until the release.
    witness: Option<Witness>,
    suspect: bool,
}

impl Store {
    pub(crate) fn new(
        connection: Connection,
        guard: Guard,
        meta: &file::Meta,
        identity: FileIdentity,
        witness: Option<Witness>,
    ) -> Self {
        Self {
            connection: Some(connection),
            guard,
            identity,
            genesis_validators_root: meta.genesis_validators_root,
            instance: meta.instance,
            generation: meta.generation,
            witness,
            suspect: false,
        }
    }

    /// The connection, after whatever repair an earlier error made necessary.
    fn ready(&mut self) -> Result<&mut Connection, Unavailable> {
        let path = &self.guard.path;
        if !FileIdentity::of(path).is_ok_and(|found| found.is(self.identity)) {
            self.suspect = true;
            return Err(Unavailable::Replaced { path: path.clone() });
        }
        if self.suspect {
            self.reopen()?;
        }
        self.connection.as_mut().ok_or(Unavailable::Nonsense("no connection"))
    }

    /// After an error nothing that SQLite or the kernel hold in memory is trusted: the file is opened anew, what is in its
    /// log is put into the file and synced, and it must not be behind what this process has seen.
    fn reopen(&mut self) -> Result<(), Unavailable> {
        let reopen = |error: OpenError| Unavailable::Reopen(Box::new(error));
        drop(self.connection.take());
        let connection = file::connect(&self.guard.path, file::MIGRATIONS).map_err(reopen)?;
        let meta = file::meta(&connection).map_err(reopen)?;
        let meta = meta.ok_or(Unavailable::Nonsense("the database is empty"))?;
        if meta.instance != self.instance || meta.generation < self.generation {
            return Err(Unavailable::Nonsense("the database is not the one that was open before"));
        }
        self.note(meta.generation)?;
        if let Some(witness) = &mut self.witness {
            witness.sync().map_err(witness_error(&self.guard))?;
        }
        self.connection = Some(connection);
        self.suspect = false;
        Ok(())
    }

    /// Tells the witness how far the database is.
    fn note(&mut self, generation: u64) -> Result<(), Unavailable> {
        self.generation = generation;
        match &mut self.witness {
            Some(witness) => witness.note(generation).map_err(witness_error(&self.guard)),
            None => Ok(()),
        }
    }

    /// Runs `work` in one transaction. If it says that it changed something, all of it is on disk when this returns `Ok`;
    /// on an error, none of it counts.
    fn write<T, E: From<Unavailable> + From<rusqlite::Error>>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<(T, bool), E>,
    ) -> Result<T, E> {
        let result = self.try_write(work);
        self.suspect |= result.is_err();
        result
    }

    fn try_write<T, E: From<Unavailable> + From<rusqlite::Error>>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<(T, bool), E>,
    ) -> Result<T, E> {
        let transaction = self.ready()?.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (value, changed) = work(&transaction)?;
        if changed {
            let generation: i64 = transaction
                .prepare_cached("UPDATE meta SET generation = generation + 1 RETURNING generation")?
                .query_row([], |row| row.get(0))?;
            transaction.commit()?;
            kill_point!("protection.committed");
            self.note(generation.unsigned_abs())?;
        }
        Ok(value)
    }

    pub(crate) fn check_and_record(&mut self, batch: &[Request], now: Now) -> Result<Vec<Verdict>, Unavailable> {
        let now = now.bounded();
        kill_point!("protection.asked");
        let verdicts = self.write(|transaction| {
            kill_point!("protection.begun");
            let verdicts = batch
                .iter()
                .map(|request| check_and_insert(transaction, request, now))
                .collect::<Result<Vec<_>, Unavailable>>()?;
            let changed = verdicts.contains(&Verdict::Safe);
            kill_point!("protection.written");
            Ok((verdicts, changed))
        });
        kill_point!("protection.noted");
        verdicts
    }

    pub(crate) fn register(&mut self, keys: &[Pubkey], now: Option<Now>) -> Result<usize, Unavailable> {
        self.write(|transaction| {
            let mut count = 0;
            for key in keys {
                let new = transaction
                    .prepare_cached(
                        "INSERT INTO validator (pubkey, active, needs_import) VALUES (?1, 1, 0) ON CONFLICT DO NOTHING",
                    )?
                    .execute([key.0])?;
                if let (1, Some(now)) = (new, now) {
                    merge::close_history(transaction, transaction.last_insert_rowid(), now)?;
                }
                count += new;
            }
            Ok((count, count > 0))
        })
    }

    pub(crate) fn set_active(&mut self, keys: &[Pubkey], active: bool) -> Result<(), KeyError> {
        self.for_each_key(keys, |transaction, id| {
            transaction
                .prepare_cached("UPDATE validator SET active = ?2 WHERE id = ?1")?
                .execute(params![id, active])
                .map(drop)
        })
    }

    pub(crate) fn close_history(&mut self, keys: &[Pubkey], now: Now) -> Result<(), KeyError> {
        self.for_each_key(keys, |transaction, id| merge::close_history(transaction, id, now))
    }

    fn for_each_key(
        &mut self,
        keys: &[Pubkey],
        change: impl Fn(&Transaction<'_>, i64) -> Result<(), rusqlite::Error>,
    ) -> Result<(), KeyError> {
        self.write(|transaction| {
            for key in keys {
                let id = key_id(transaction, key)?.ok_or(KeyError::Unregistered(*key))?;
                change(transaction, id)?;
            }
            Ok(((), !keys.is_empty()))
        })
    }

    pub(crate) fn prune(&mut self, keep: Now) -> Result<u64, Unavailable> {
        let keep = keep.bounded();
        self.write(|transaction| {
            let count = prune(transaction, keep)?;
            Ok((count, count > 0))
        })
    }

    pub(crate) fn import(&mut self, reader: impl Read, now: Now) -> Result<ImportReport, ImportError> {
        let (genesis_validators_root, quarantine) = (self.genesis_validators_root, self.witness.is_none());
        self.write(|transaction| {
            let report = merge::import(transaction, reader, genesis_validators_root, now, quarantine)?;
            Ok((report, true))
        })
    }

    pub(crate) fn export(
        &mut self,
        writer: impl Write,
        keys: Option<&[Pubkey]>,
        doubted: Doubted,
    ) -> Result<ExportReport, ExportError> {
        let genesis_validators_root = self.genesis_validators_root;
        // One transaction, so that the file is one state of the history.
        self.write(|transaction| {
            Ok((export::export(transaction, writer, genesis_validators_root, keys, doubted)?, false))
        })
    }

    pub(crate) fn keys(&mut self) -> Result<Vec<KeyState>, Unavailable> {
        self.write(|transaction| {
            let mut statement = transaction.prepare(&format!("{KEY_STATE} ORDER BY pubkey"))?;
            let keys = statement.query_map([], key_state)?.collect::<Result<Vec<_>, _>>()?;
            Ok((keys, false))
        })
    }

    pub(crate) fn key(&mut self, key: &Pubkey) -> Result<Option<KeyState>, Unavailable> {
        self.write(|transaction| {
            let mut statement = transaction.prepare_cached(&format!("{KEY_STATE} WHERE pubkey = ?1"))?;
            Ok((statement.query_row([key.0], key_state).optional()?, false))
        })
    }

    /// Whether a commit would succeed now.
    ///
    /// A log that was emptied keeps its blocks, so on a full disk a commit can succeed for a while: room is asked for apart.
    pub(crate) fn check_writable(&mut self) -> Result<(), Unavailable> {
        self.write(|_| Ok::<_, Unavailable>(((), true)))?;
        let path = with_suffix(&self.guard.path, ".room");
        file::check_room(&path).map_err(|source| Unavailable::NoRoom { path, source })
    }

    /// Leaves nothing in the write-ahead log.
    pub(crate) fn empty_log(&mut self) -> Result<(), Unavailable> {
        let path = self.guard.path.clone();
        file::make_durable(self.ready()?, &path).map_err(|error| Unavailable::Reopen(Box::new(error)))
    }

    pub(crate) fn backup(&mut self, path: &Path, of: &str) -> Result<(), BackupError> {
        let generation = self.generation;
        let connection = self.ready()?;
        if path.exists() {
            return Err(OpenError::Exists { path: path.to_owned() }.into());
        }
        // Under another name until it is complete and marked.
        let partial = with_suffix(path, ".partial");
        file::copy_into(connection, &partial)?;
        mark(&partial, &format!("it is a backup, made at generation {generation}"), Some(of))?;
        file::sync_file(&partial)?;
        std::fs::rename(&partial, path).map_err(file::io_error("rename", &partial))?;
        file::sync_file(path)?;
        Ok(())
    }

    /// Starts a new life of the file, which only this file and its new witness share.
    pub(crate) fn release(&mut self) -> Result<(), crate::ReleaseError> {
        let instance = InstanceId::random()?;
        self.write(|transaction| {
            transaction.execute("UPDATE meta SET quarantine = NULL, instance = ?1", [instance.as_bytes()])?;
            Ok::<_, Unavailable>(((), true))
        })?;
        self.instance = instance;
        let record = crate::witness::Record { instance, generation: self.generation, file: self.identity };
        let path = self.guard.witness();
        self.witness = Some(Witness::create(&path, record).map_err(file::io_error("write", &path))?);
        Ok(())
    }

    /// Puts the file in quarantine, and with it every key.
    pub(crate) fn quarantine(&mut self, reason: &str, reached: u64) -> Result<(), Unavailable> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE meta SET quarantine = ?1, generation = max(generation, ?2) + 1",
                params![reason, integer(reached)?],
            )?;
            transaction.execute("UPDATE validator SET needs_import = 1", [])?;
            Ok(((), true))
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(witness) = &mut self.witness {
            // If it fails the witness lags behind, as after a power loss; the database is not affected.
            let _ = witness.sync();
        }
    }
}

/// Marks a closed copy so that no open accepts it for signing, and says in it whose backup it is, or that it is none.
pub(crate) fn mark(path: &Path, reason: &str, backup_of: Option<&str>) -> Result<(), OpenError> {
    let connection = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute("UPDATE meta SET quarantine = ?1", [reason])?;
    connection.execute_batch("DROP TABLE IF EXISTS backup_of")?;
    if let Some(owner) = backup_of {
        connection.execute_batch("CREATE TABLE backup_of (owner TEXT NOT NULL) STRICT")?;
        connection.execute("INSERT INTO backup_of (owner) VALUES (?1)", [owner])?;
    }
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}

fn witness_error(guard: &Guard) -> impl FnOnce(std::io::Error) -> Unavailable + use<> {
    let path = guard.witness();
    move |source| Unavailable::Witness { path, source }
}

fn key_id(transaction: &Transaction<'_>, key: &Pubkey) -> Result<Option<i64>, rusqlite::Error> {
    transaction
        .prepare_cached("SELECT id FROM validator WHERE pubkey = ?1")?
        .query_row([key.0], |row| row.get(0))
        .optional()
}

/// Judges one request against everything before it, this batch included, and records it if it is safe.
fn check_and_insert(transaction: &Transaction<'_>, request: &Request, now: Now) -> Result<Verdict, Unavailable> {
    let validator = transaction
        .prepare_cached(
            "SELECT id, active, needs_import, low_slot, low_source_epoch, low_target_epoch FROM validator
             WHERE pubkey = ?1",
        )?
        .query_row([request.pubkey.0], |row| {
            let low = Watermark { slot: unsigned(row, 3)?, epochs: epochs(row, 4)? };
            Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?, row.get::<_, bool>(2)?, low))
        })
        .optional()?;
    let Some((id, active, needs_import, low)) = validator else { return Ok(Verdict::Unregistered) };
    if needs_import {
        return Ok(Verdict::NeedsImport);
    }
    if !active {
        return Ok(Verdict::Inactive);
    }
    let (what, asked, latest) = match request.duty {
        Duty::Block(block) => ("slot", block.slot, now.slot),
        Duty::Attestation(attestation) => ("target epoch", attestation.target_epoch, now.epoch),
    };
    if asked > latest {
        return Ok(Verdict::FarFuture { what, asked, now: latest });
    }
    match request.duty {
        Duty::Block(block) => {
            let verdict = rules::block(block, low.slot, block_at(transaction, id, block.slot)?);
            if verdict == Verdict::Safe {
                insert_block(transaction, id, &block, low.slot.is_none())?;
            }
            Ok(verdict)
        }
        Duty::Attestation(attestation) => {
            let up_to = neighbour(transaction, UP_TO, id, attestation.target_epoch)?;
            let after = neighbour(transaction, AFTER, id, attestation.target_epoch)?;
            let verdict = rules::attestation(attestation, low.epochs, up_to, after);
            if verdict == Verdict::Safe {
                insert_attestation(transaction, id, &attestation, low.epochs.is_none())?;
            }
            Ok(verdict)
        }
    }
}

/// The row is only inserted if the validator's own row allows it: the watermark once more, in SQL. The primary key is the
/// last line against a second block.
fn insert_block(transaction: &Transaction<'_>, id: i64, block: &Block, first: bool) -> Result<(), Unavailable> {
    let slot = integer(block.slot)?;
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO signed_block (validator_id, slot, signing_root)
             SELECT id, ?2, ?3 FROM validator
             WHERE id = ?1 AND active AND NOT needs_import AND (low_slot IS NULL OR low_slot < ?2)",
        )?
        .execute(params![id, slot, block.signing_root.0])?;
    recorded(inserted)?;
    if first {
        // The first one is the oldest that is known of.
        transaction.prepare_cached("UPDATE validator SET low_slot = ?2 WHERE id = ?1")?.execute(params![id, slot])?;
    }
    Ok(())
}

/// The same for an attestation; the trigger `no_surround_vote` is the last line against surround votes.
fn insert_attestation(
    transaction: &Transaction<'_>,
    id: i64,
    attestation: &Attestation,
    first: bool,
) -> Result<(), Unavailable> {
    let (source, target) = (integer(attestation.source_epoch)?, integer(attestation.target_epoch)?);
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO signed_attestation (validator_id, source_epoch, target_epoch, signing_root)
             SELECT id, ?2, ?3, ?4 FROM validator
             WHERE id = ?1 AND active AND NOT needs_import
               AND (low_target_epoch IS NULL OR (low_target_epoch < ?3 AND low_source_epoch <= ?2))",
        )?
        .execute(params![id, source, target, attestation.signing_root.0])?;
    recorded(inserted)?;
    if first {
        transaction
            .prepare_cached("UPDATE validator SET low_source_epoch = ?2, low_target_epoch = ?3 WHERE id = ?1")?
            .execute(params![id, source, target])?;
    }
    Ok(())
}

fn recorded(inserted: usize) -> Result<(), Unavailable> {
    if inserted == 1 { Ok(()) } else { Err(Unavailable::Nonsense("the database refused what the rules allowed")) }
}

fn block_at(transaction: &Transaction<'_>, id: i64, slot: u64) -> Result<Option<SignedBlock>, rusqlite::Error> {
    transaction
        .prepare_cached("SELECT slot, signing_root FROM signed_block WHERE validator_id = ?1 AND slot = ?2")?
        .query_row(params![id, integer(slot)?], signed_block)
        .optional()
}

const UP_TO: &str = "SELECT source_epoch, target_epoch, signing_root FROM signed_attestation
    WHERE validator_id = ?1 AND target_epoch <= ?2 ORDER BY target_epoch DESC LIMIT 1";
const AFTER: &str = "SELECT source_epoch, target_epoch, signing_root FROM signed_attestation
    WHERE validator_id = ?1 AND target_epoch > ?2 ORDER BY target_epoch LIMIT 1";

fn neighbour(
    transaction: &Transaction<'_>,
    query: &str,
    id: i64,
    target_epoch: u64,
) -> Result<Option<SignedAttestation>, rusqlite::Error> {
    transaction.prepare_cached(query)?.query_row(params![id, integer(target_epoch)?], signed_attestation).optional()
}

/// Deletes what is older than `keep`, but of each key not the latest block and attestation. What is deleted lies at or
/// below the new low watermark, so it can never be signed again, not even the same; triggers insist on it.
fn prune(transaction: &Transaction<'_>, keep: Now) -> Result<u64, Unavailable> {
    let (slot, epoch) = (integer(keep.slot)?, integer(keep.epoch)?);
    transaction.execute(
        "UPDATE validator SET low_slot = max(low_slot, (SELECT max(slot) FROM signed_block
           WHERE validator_id = id AND slot < ?1 AND slot < (SELECT max(slot) FROM signed_block WHERE validator_id = id)))
         WHERE EXISTS (SELECT 1 FROM signed_block
           WHERE validator_id = id AND slot < ?1 AND slot < (SELECT max(slot) FROM signed_block WHERE validator_id = id))",
        [slot],
    )?;
    let blocks = transaction.execute(
        "DELETE FROM signed_block AS old WHERE slot < ?1
         AND slot < (SELECT max(slot) FROM signed_block WHERE validator_id = old.validator_id)",
        [slot],
    )?;
    transaction.execute(
        "UPDATE validator SET low_source_epoch = max(low_source_epoch, source), low_target_epoch = max(low_target_epoch, target)
         FROM (SELECT validator_id, max(source_epoch) AS source, max(target_epoch) AS target FROM signed_attestation AS old
           WHERE target_epoch < ?1
             AND target_epoch < (SELECT max(target_epoch) FROM signed_attestation WHERE validator_id = old.validator_id)
           GROUP BY validator_id)
         WHERE id = validator_id",
        [epoch],
    )?;
    let attestations = transaction.execute(
        "DELETE FROM signed_attestation AS old WHERE target_epoch < ?1
         AND target_epoch < (SELECT max(target_epoch) FROM signed_attestation WHERE validator_id = old.validator_id)",
        [epoch],
    )?;
    Ok((blocks + attestations) as u64)
}

const KEY_STATE: &str = "SELECT pubkey, active, needs_import, low_slot, low_source_epoch, low_target_epoch,
      (SELECT max(slot) FROM signed_block WHERE validator_id = id),
      (SELECT source_epoch FROM signed_attestation WHERE validator_id = id ORDER BY target_epoch DESC LIMIT 1),
      (SELECT max(target_epoch) FROM signed_attestation WHERE validator_id = id)
    FROM validator";

fn key_state(row: &Row<'_>) -> Result<KeyState, rusqlite::Error> {
    let low = Watermark { slot: unsigned(row, 3)?, epochs: epochs(row, 4)? };
    let latest = Watermark { slot: unsigned(row, 6)?, epochs: epochs(row, 7)? };
    let epochs = match (low.epochs, latest.epochs) {
        (Some(low), Some(latest)) => Some(Epochs {
            source_epoch: low.source_epoch.max(latest.source_epoch),
            target_epoch: low.target_epoch.max(latest.target_epoch),
        }),
        (low, latest) => low.or(latest),
    };
    Ok(KeyState {
        pubkey: Pubkey::from(row.get::<_, [u8; 48]>(0)?),
        active: row.get(1)?,
        needs_import: row.get(2)?,
        low,
        high: Watermark { slot: low.slot.max(latest.slot), epochs },
    })
}

pub(crate) fn signed_block(row: &Row<'_>) -> Result<SignedBlock, rusqlite::Error> {
    Ok(SignedBlock { slot: row.get::<_, i64>(0)?.unsigned_abs(), signing_root: root(row, 1)? })
}

pub(crate) fn signed_attestation(row: &Row<'_>) -> Result<SignedAttestation, rusqlite::Error> {
    Ok(SignedAttestation {
        source_epoch: row.get::<_, i64>(0)?.unsigned_abs(),
        target_epoch: row.get::<_, i64>(1)?.unsigned_abs(),
        signing_root: root(row, 2)?,
    })
}

/// A source and a target epoch in neighbouring columns, or NULL in both.
pub(crate) fn epochs(row: &Row<'_>, column: usize) -> Result<Option<Epochs>, rusqlite::Error> {
    let both = unsigned(row, column)?.zip(unsigned(row, column + 1)?);
    Ok(both.map(|(source_epoch, target_epoch)| Epochs { source_epoch, target_epoch }))
}

pub(crate) fn unsigned(row: &Row<'_>, column: usize) -> Result<Option<u64>, rusqlite::Error> {
    Ok(row.get::<_, Option<i64>>(column)?.map(i64::unsigned_abs))
}

fn root(row: &Row<'_>, column: usize) -> Result<Option<B256>, rusqlite::Error> {
    Ok(row.get::<_, Option<[u8; 32]>>(column)?.map(B256::from))
}
