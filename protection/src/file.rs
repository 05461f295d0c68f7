//! The database file: one process, one network, durable at every commit, schema by `user_version`.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_primitives::B256;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, TransactionBehavior, params};
use rustix::fs::{FlockOperation, flock};

use crate::InstanceId;
use crate::duty::Pubkey;
use crate::error::{BackupFault, Distrust, OpenError};
use crate::witness::{self, FileIdentity, with_suffix};

/// SQLite's `application_id`: "STKP".
pub(crate) const APPLICATION_ID: i32 = 0x5354_4b50;

/// Migration `i` leads from version `i` to `i + 1`. Never edited once released; only appended to.
pub(crate) const MIGRATIONS: &[&str] = &[include_str!("schema/1.sql")];

/// A path that this process alone may touch. Holds the lock until dropped (or killed: the kernel lets go of it).
#[derive(Debug)]
pub(crate) struct Guard {
    /// With symbolic links resolved, so that lock, log and witness stand beside the file itself.
    pub(crate) path: PathBuf,
    _lock: Lock,
}

#[derive(Debug)]
struct Lock(File);

/// The row of `meta`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) genesis_validators_root: B256,
    pub(crate) instance: InstanceId,
    pub(crate) generation: u64,
    pub(crate) quarantine: Option<String>,
}

impl Guard {
    /// Takes the lock.
    pub(crate) fn take(path: &Path) -> Result<Self, OpenError> {
        let path = resolve(path)?;
        let lock_path = with_suffix(&path, ".lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io_error("open lock file", &lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path, _lock: Lock(lock) }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse { path }),
            Err(error) => Err(io_error("lock", &lock_path)(error.into())),
        }
    }

    /// Where the witness stands.
    pub(crate) fn witness(&self) -> PathBuf {
        with_suffix(&self.path, ".witness")
    }

    /// Whether there is a file with anything in it. An empty one is the rest of a creation that was cut off.
    pub(crate) fn has_database(&self) -> Result<bool, OpenError> {
        // SQLite would wait for a pipe.
        stkr_files::check_regular(&self.path)?;
        match std::fs::metadata(&self.path) {
            Ok(metadata) => Ok(metadata.len() > 0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_error("look at", &self.path)(error)),
        }
    }

    /// What the witness says.
    pub(crate) fn read_witness(&self) -> Result<witness::Found, OpenError> {
        let path = self.witness();
        witness::read(&path).map_err(io_error("read", &path))
    }

    /// Which file the path leads to now.
    pub(crate) fn identity(&self) -> Result<FileIdentity, OpenError> {
        FileIdentity::of(&self.path).map_err(io_error("look at", &self.path))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would do, but for a child process that was forked in this moment and holds a duplicate until it executes.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

fn resolve(path: &Path) -> Result<PathBuf, OpenError> {
    match std::fs::canonicalize(path) {
        Ok(real) => Ok(real),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let folder = std::fs::canonicalize(folder).map_err(io_error("open the folder", folder))?;
            Ok(folder.join(path.file_name().unwrap_or_default()))
        }
        Err(error) => Err(io_error("open", path)(error)),
    }
}

/// `error` at `path`, while doing `action`.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError + use<> {
    let path = path.to_owned();
    move |source| OpenError::Io { action, path, source }
}

/// Makes a file that only its owner may read; SQLite would create it with the umask's mode.
pub(crate) fn create_empty(path: &Path) -> Result<(), OpenError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|file| file.sync_all())
        .and_then(|()| witness::sync_folder(path))
        .map_err(io_error("create", path))
}

/// Opens the file for this connection alone, checks that it is ours and whole, and makes what is in it durable.
///
/// SQLite's own lock is held as long as the connection lives: it also stops those who do not know of [`Guard`], and
/// those who come by a hard link.
pub(crate) fn connect(path: &Path, migrations: &[&str]) -> Result<Connection, OpenError> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE,
    )
    .map_err(|error| unreadable(error, path))?;
    if connection.is_readonly(rusqlite::MAIN_DB)? {
        return Err(OpenError::ReadOnly { path: path.to_owned() });
    }
    connection.busy_timeout(Duration::ZERO)?;
    let locking: String = connection.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |row| row.get(0))?;
    // Before anything is changed: whose file is it?
    check_owner(&connection, path, migrations).map_err(|error| in_use(error, path))?;
    let journal: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(|error| in_use(error.into(), path))?;
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;
         PRAGMA wal_autocheckpoint = 4096; PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -65536; BEGIN EXCLUSIVE; COMMIT;",
    )?;
    let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    if (locking.as_str(), journal.as_str(), synchronous) != ("exclusive", "wal", 2) {
        return Err(OpenError::NotDurable { path: path.to_owned(), journal, synchronous });
    }
    connection.set_prepared_statement_cache_capacity(64);
    make_durable(&connection, path)?;
    Ok(connection)
}

/// Copies the write-ahead log into the file and syncs both.
///
/// After a crash SQLite finds transactions in the log that were written but perhaps never synced: this process would see
/// them, call them recorded, and lose them with the power.
pub(crate) fn make_durable(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy == 0 { Ok(()) } else { Err(OpenError::InUse { path: path.to_owned() }) }
}

fn in_use(error: OpenError, path: &Path) -> OpenError {
    match error {
        OpenError::Sqlite(error)
            if matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) =>
        {
            OpenError::InUse { path: path.to_owned() }
        }
        other => other,
    }
}

/// A file that is no database at all says so in our words.
fn unreadable(error: rusqlite::Error, path: &Path) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            OpenError::Damaged { path: path.to_owned(), detail: error.to_string() }
        }
        _ => error.into(),
    }
}

fn check_owner(connection: &Connection, path: &Path, migrations: &[&str]) -> Result<(), OpenError> {
    let number = |name| -> Result<i64, OpenError> {
        connection.pragma_query_value(None, name, |row| row.get(0)).map_err(|error| unreadable(error, path))
    };
    let (version, application) = (number("user_version")?, number("application_id")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let empty = (version, application, tables) == (0, 0, 0);
    if !empty && application != i64::from(APPLICATION_ID) {
        return Err(OpenError::Foreign { path: path.to_owned(), found: application });
    }
    let known = last_version(migrations);
    if version > known {
        return Err(OpenError::TooNew { path: path.to_owned(), found: version, known });
    }
    Ok(())
}

fn last_version(migrations: &[&str]) -> i64 {
    i64::try_from(migrations.len()).unwrap_or(i64::MAX)
}

/// Checks that no page is damaged and that the order the rules rely on holds.
pub(crate) fn check_content(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let damaged = |detail: String| OpenError::Damaged { path: path.to_owned(), detail };
    let detail: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|error| unreadable(error, path))?;
    if detail != "ok" {
        return Err(damaged(detail));
    }
    let disorder: Option<i64> = connection.query_row(
        "SELECT (SELECT validator_id FROM (
             SELECT validator_id, target_epoch, source_epoch,
                    lag(source_epoch) OVER (PARTITION BY validator_id ORDER BY target_epoch) AS source_before
             FROM signed_attestation)
           JOIN validator ON id = validator_id
           WHERE CASE
             WHEN low_target_epoch IS NULL THEN 1
             WHEN target_epoch > low_target_epoch THEN source_epoch < low_source_epoch OR source_epoch < source_before
             ELSE source_epoch > low_source_epoch END
           LIMIT 1)",
        [],
        |row| row.get(0),
    )?;
    if let Some(validator) = disorder {
        return Err(damaged(format!("the attestations of validator {validator} are out of order")));
    }
    let unmarked: Option<i64> = connection.query_row(
        "SELECT (SELECT id FROM validator
           WHERE low_slot IS NULL AND EXISTS (SELECT 1 FROM signed_block WHERE validator_id = id) LIMIT 1)",
        [],
        |row| row.get(0),
    )?;
    if let Some(validator) = unmarked {
        return Err(damaged(format!("validator {validator} has blocks but no low watermark")));
    }
    Ok(())
}

/// The row of `meta`, or `None` in a file without a schema.
pub(crate) fn meta(connection: &Connection) -> Result<Option<Meta>, OpenError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 0 {
        return Ok(None);
    }
    let meta = connection
        .query_row("SELECT genesis_validators_root, instance, generation, quarantine FROM meta", [], |row| {
            Ok(Meta {
                genesis_validators_root: B256::from(row.get::<_, [u8; 32]>(0)?),
                instance: InstanceId::from_bytes(row.get(1)?),
                generation: row.get::<_, i64>(2)?.unsigned_abs(),
                quarantine: row.get(3)?,
            })
        })
        .optional()?;
    Ok(meta)
}

/// Brings the schema up to date. Before a migration the old file is copied to `<file>.v<version>`.
///
/// All steps in one transaction: a crash leaves the old version or the new one. `begin` fills a new file.
pub(crate) fn migrate(
    connection: &mut Connection,
    path: &Path,
    migrations: &[&str],
    begin: Option<&Meta>,
) -> Result<(), OpenError> {
    let from: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let to = last_version(migrations);
    if from == to {
        return Ok(());
    }
    if from > 0 {
        copy_before(connection, path, from)?;
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    for step in migrations.iter().skip(usize::try_from(from).unwrap_or(usize::MAX)) {
        transaction.execute_batch(step)?;
    }
    if let Some(meta) = begin {
        transaction.execute(
            "INSERT INTO meta (only, genesis_validators_root, instance, generation, quarantine) VALUES (1, ?1, ?2, ?3, ?4)",
            params![meta.genesis_validators_root.0, meta.instance.as_bytes(), integer(meta.generation)?, meta.quarantine],
        )?;
    }
    transaction.pragma_update(None, "user_version", to)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()?;
    tracing::info!(file = %path.display(), from, to, "slashing protection schema migrated");
    Ok(())
}

fn copy_before(connection: &Connection, path: &Path, version: i64) -> Result<(), OpenError> {
    let copy = with_suffix(path, &format!(".v{version}"));
    if copy.exists() {
        // An upgrade that failed halfway left it; it is the same version, and older copies are worth more.
        return Ok(());
    }
    copy_into(connection, &copy)?;
    sync_file(&copy)
}

/// Copies a database, page by page and in one consistent state, into a new file of its own.
pub(crate) fn copy_into(source: &Connection, path: &Path) -> Result<(), OpenError> {
    create_empty(path)?;
    let mut target = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let backup = rusqlite::backup::Backup::new(source, &mut target)?;
    backup.run_to_completion(1024, Duration::ZERO, None)?;
    drop(backup);
    // The copy is one file, without a log beside it.
    let _: String = target.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0))?;
    target.close().map_err(|(_, error)| error)?;
    Ok(())
}

/// Opens a backup without changing it, and checks that it is whole.
pub(crate) fn read_backup(path: &Path) -> Result<(Connection, Meta), OpenError> {
    // SQLite would wait for a pipe, and takes an empty file for a database.
    let (_, metadata) = stkr_files::open(path, u64::MAX)?;
    if metadata.len() == 0 {
        return Err(BackupFault::Empty.at(path));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| unreadable(error, path))?;
    check_owner(&connection, path, MIGRATIONS)?;
    let meta = meta(&connection)?.ok_or_else(|| BackupFault::Empty.at(path))?;
    check_content(&connection, path)?;
    Ok((connection, meta))
}

/// Whose backup it is; `None` for a file that is no backup, or one from before backups said so.
pub(crate) fn backup_of(connection: &Connection) -> Result<Option<String>, rusqlite::Error> {
    let there: bool =
        connection
            .query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'backup_of')", [], |row| row.get(0))?;
    if !there {
        return Ok(None);
    }
    connection.query_row("SELECT owner FROM backup_of", [], |row| row.get(0)).optional()
}

/// Every key it knows.
pub(crate) fn pubkeys(connection: &Connection) -> Result<HashSet<Pubkey>, rusqlite::Error> {
    let mut statement = connection.prepare("SELECT pubkey FROM validator")?;
    statement.query_map([], |row| row.get::<_, [u8; 48]>(0).map(Pubkey::from))?.collect()
}

/// Bytes that a look at the disk asks for: what a slot's votes of a thousand keys take.
const ROOM: usize = 256 * 1024;

/// Whether the file system gives room to a new file, which is gone when this returns.
pub(crate) fn check_room(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // At once, so that whatever happens next leaves nothing.
    std::fs::remove_file(path)?;
    (&file).write_all(&[0; ROOM])
}

/// Makes a closed file survive power loss.
pub(crate) fn sync_file(path: &Path) -> Result<(), OpenError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .and_then(|()| witness::sync_folder(path))
        .map_err(io_error("write", path))
}

/// Refuses another network's file.
pub(crate) fn check_network(meta: &Meta, path: &Path, genesis_validators_root: B256) -> Result<(), OpenError> {
    let found = meta.genesis_validators_root;
    if found == genesis_validators_root {
        Ok(())
    } else {
        Err(OpenError::OtherNetwork { path: path.to_owned(), found, expected: genesis_validators_root })
    }
}

/// Whether the file is the newest state of itself, as far as this machine can tell.
pub(crate) fn check_trust(
    meta: &Meta,
    found: witness::Found,
    file: FileIdentity,
    expected: Option<InstanceId>,
) -> Result<witness::Record, Distrust> {
    if let Some(reason) = &meta.quarantine {
        return Err(Distrust::Quarantined { reason: reason.clone() });
    }
    if let Some(expected) = expected
        && expected != meta.instance
    {
        return Err(Distrust::UnexpectedInstance { expected, found: meta.instance });
    }
    let record = match found {
        witness::Found::Record(record) => record,
        witness::Found::Nothing => return Err(Distrust::NoWitness),
        witness::Found::Damaged => return Err(Distrust::DamagedWitness),
    };
    if record.instance != meta.instance {
        return Err(Distrust::OtherInstance { database: meta.instance, witness: record.instance });
    }
    if meta.generation < record.generation {
        return Err(Distrust::RolledBack { database: meta.generation, witness: record.generation });
    }
    if !record.file.is(file) {
        return Err(Distrust::Copied);
    }
    Ok(record)
}

/// SQLite integers are signed.
pub(crate) fn integer(value: u64) -> Result<i64, rusqlite::Error> {
    i64::try_from(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}
