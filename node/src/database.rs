//! SQLite files: one process per file, durable at every commit, schema by `user_version`.
//!
//! WAL with `synchronous=FULL`: a commit that returned is on disk after power loss (NORMAL is not). The file is guarded by an
//! exclusive `flock` on a file beside it, so a second process (a restart by a nervous supervisor, a copy started by hand)
//! stops at once instead of signing from the same state twice.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, TransactionBehavior};
use rustix::fs::{FlockOperation, flock};
use stkr_files::FileError;

use crate::exit::Exit;

/// What a program keeps in its file: who owns the file, and how it came to be step by step.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Name for messages, as in "server database".
    pub name: &'static str,
    /// SQLite's `application_id`: a relayer's file given to a server is refused. Unique per program.
    pub application_id: i32,
    /// Migration `i` leads from version `i` to `i + 1`. Never edited once released; only appended to.
    pub migrations: &'static [&'static str],
}

/// Why a database could not be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The lock is held.
    #[error(
        "{name} {path} is in use by another process; stop that process first, two on one file could contradict each other"
    )]
    InUse {
        /// The schema's name.
        name: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Made by a later version.
    #[error(
        "{name} {path} has schema version {found}, but this program knows only up to {known}; run the newer program, or restore the copy made before the upgrade"
    )]
    TooNew {
        /// The schema's name.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// Version in the file.
        found: i64,
        /// Last version this program knows.
        known: i64,
    },
    /// SQLite, but not ours.
    #[error("{path} is not a {name} (application id {found:#x}); check the path in the configuration")]
    Foreign {
        /// The schema's name.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// Id in the file.
        found: i64,
    },
    /// `PRAGMA quick_check` found something.
    #[error("{name} {path} is damaged ({detail}); restore it from a backup, do not delete it")]
    Damaged {
        /// The schema's name.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// First finding.
        detail: String,
    },
    /// The files around the database.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A folder, pipe or device.
    #[error("the database {0}")]
    File(#[from] FileError),
    /// SQLite itself.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl DatabaseError {
    /// How a program that needs this database ends.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::InUse { .. } | Self::Io { .. } => Exit::Unavailable,
            Self::File(_) => Exit::Usage,
            _ => Exit::Unsafe,
        }
    }
}

/// An open database of one program. Holds the lock until dropped (or killed: the kernel lets go of it).
#[derive(Debug)]
pub struct Database {
    connection: Mutex<Connection>,
    path: PathBuf,
    created: bool,
    _lock: File,
}

impl Database {
    /// Opens the file, or creates it (mode 0600), takes the lock, checks and migrates.
    ///
    /// Before a migration the old file is copied to `<file>.v<version>`.
    ///
    /// # Errors
    /// Every [`DatabaseError`]; nothing was changed unless a migration itself failed, and then the copy is there.
    pub fn open(path: &Path, schema: &Schema) -> Result<Self, DatabaseError> {
        // SQLite would wait for a pipe, and say of a folder that it cannot open it.
        stkr_files::check_regular(path)?;
        let lock = take_lock(path, schema)?;
        let created = !path.exists();
        if created {
            // SQLite would create it with the umask's mode; the file holds sealed secrets.
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io_error("create", path))?;
        }
        let mut connection = Connection::open(path)?;
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA secure_delete = ON; PRAGMA busy_timeout = 5000;",
            )
            .map_err(|error| unreadable(error, path, schema))?;
        check(&connection, path, schema)?;
        migrate(&mut connection, path, schema)?;
        Ok(Self { connection: Mutex::new(connection), path: path.to_owned(), created, _lock: lock })
    }

    /// The connection, alone. Do not hold it across an `.await`.
    pub fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while it was held rolled its transaction back; the connection itself is sound.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` in one immediate (write) transaction: committed and on disk when this returns `Ok`, undone otherwise.
    ///
    /// # Errors
    /// Those of `work`, and SQLite's.
    pub fn write<T, E: From<rusqlite::Error>>(
        &self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// Whether a write would succeed now: takes the write lock and touches the header, then rolls back.
    ///
    /// # Errors
    /// SQLite's: disk full, read-only file system, file gone.
    pub fn check_writable(&self) -> Result<(), DatabaseError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.rollback()?;
        Ok(())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this `open` created the file. A server with shares in the world and a new database has lost its state.
    pub fn was_created(&self) -> bool {
        self.created
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DatabaseError + use<> {
    let path = path.to_owned();
    move |source| DatabaseError::Io { action, path, source }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

fn take_lock(path: &Path, schema: &Schema) -> Result<File, DatabaseError> {
    let lock_path = with_suffix(path, ".lock");
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        .map_err(io_error("open lock file", &lock_path))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DatabaseError::InUse { name: schema.name, path: path.to_owned() }),
        Err(error) => Err(io_error("lock", &lock_path)(error.into())),
    }
}

/// A file that is no database at all says so in our words.
fn unreadable(error: rusqlite::Error, path: &Path, schema: &Schema) -> DatabaseError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            DatabaseError::Damaged { name: schema.name, path: path.to_owned(), detail: error.to_string() }
        }
        _ => error.into(),
    }
}

fn check(connection: &Connection, path: &Path, schema: &Schema) -> Result<(), DatabaseError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let empty = found == 0 && application == 0 && tables == 0;
    if !empty && application != i64::from(schema.application_id) {
        return Err(DatabaseError::Foreign { name: schema.name, path: path.to_owned(), found: application });
    }
    let known = last_version(schema);
    if found > known {
        return Err(DatabaseError::TooNew { name: schema.name, path: path.to_owned(), found, known });
    }
    let detail: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| unreadable(error, path, schema))?;
    if detail != "ok" {
        return Err(DatabaseError::Damaged { name: schema.name, path: path.to_owned(), detail });
    }
    Ok(())
}

fn last_version(schema: &Schema) -> i64 {
    i64::try_from(schema.migrations.len()).unwrap_or(i64::MAX)
}

fn migrate(connection: &mut Connection, path: &Path, schema: &Schema) -> Result<(), DatabaseError> {
    let from: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if from == last_version(schema) {
        return Ok(());
    }
    if from > 0 {
        copy_before(connection, path, from)?;
    }
    // All steps in one transaction: a crash leaves the old version or the new one.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    for step in schema.migrations.iter().skip(usize::try_from(from).unwrap_or(usize::MAX)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", last_version(schema))?;
    transaction.pragma_update(None, "application_id", schema.application_id)?;
    transaction.commit()?;
    tracing::info!(file = %path.display(), from, to = last_version(schema), "database schema migrated");
    Ok(())
}

fn copy_before(connection: &Connection, path: &Path, version: i64) -> Result<(), DatabaseError> {
    let copy = with_suffix(path, &format!(".v{version}"));
    if copy.exists() {
        // An upgrade that failed halfway left it; it is the same version, and older copies are worth more.
        return Ok(());
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy).map_err(io_error("create copy", &copy))?;
    let mut target = Connection::open(&copy)?;
    let backup = rusqlite::backup::Backup::new(connection, &mut target)?;
    backup.run_to_completion(1024, std::time::Duration::ZERO, None)?;
    drop(backup);
    target.close().map_err(|(_, error)| error)?;
    File::open(&copy).and_then(|file| file.sync_all()).map_err(io_error("write copy", &copy))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Schema = Schema {
        name: "test database",
        application_id: 0x7465_7374,
        migrations: &["CREATE TABLE note (text TEXT NOT NULL UNIQUE) STRICT;"],
    };
    const TWO: Schema = Schema {
        migrations: &[ONE.migrations[0], "ALTER TABLE note ADD COLUMN stars INTEGER NOT NULL DEFAULT 0;"],
        ..ONE
    };

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        (folder, path)
    }

    fn insert(database: &Database, text: &str) -> Result<usize, rusqlite::Error> {
        database.write(|transaction| transaction.execute("INSERT INTO note (text) VALUES (?1)", [text]))
    }

    #[test]
    fn the_pragmas_are_those_that_survive_power_loss() {
        let (_folder, path) = file();
        let database = Database::open(&path, &ONE).unwrap();
        assert!(database.was_created());
        let connection = database.lock();
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        assert_eq!((mode.as_str(), synchronous), ("wal", 2));
    }

    #[test]
    fn a_second_process_on_the_same_file_is_refused() {
        let (_folder, path) = file();
        let first = Database::open(&path, &ONE).unwrap();
        let error = Database::open(&path, &ONE).unwrap_err();
        assert!(matches!(error, DatabaseError::InUse { .. }), "{error}");
        drop(first);
        assert!(!Database::open(&path, &ONE).unwrap().was_created());
    }

    #[test]
    fn a_newer_schema_is_refused_and_untouched() {
        let (_folder, path) = file();
        drop(Database::open(&path, &TWO).unwrap());
        let before = std::fs::read(&path).unwrap();
        let error = Database::open(&path, &ONE).unwrap_err();
        assert!(matches!(error, DatabaseError::TooNew { found: 2, known: 1, .. }), "{error}");
        assert!(error.to_string().contains("run the newer program"));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_migration_keeps_the_rows_and_leaves_a_copy_of_the_old_file() {
        let (_folder, path) = file();
        let database = Database::open(&path, &ONE).unwrap();
        insert(&database, "kept").unwrap();
        drop(database);
        let database = Database::open(&path, &TWO).unwrap();
        let row: (String, i64) = database
            .lock()
            .query_row("SELECT text, stars FROM note", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        assert_eq!(row, ("kept".to_owned(), 0));
        drop(database);
        let copy = Database::open(&with_suffix(&path, ".v1"), &ONE).unwrap();
        let text: String = copy.lock().query_row("SELECT text FROM note", [], |row| row.get(0)).unwrap();
        assert_eq!(text, "kept");
    }

    #[test]
    fn a_migration_that_fails_leaves_the_old_version() {
        const BROKEN: Schema =
            Schema { migrations: &[ONE.migrations[0], "CREATE TABLE extra (x); SELECT no_such;"], ..ONE };
        let (_folder, path) = file();
        drop(Database::open(&path, &ONE).unwrap());
        assert!(Database::open(&path, &BROKEN).is_err());
        let database = Database::open(&path, &ONE).unwrap();
        insert(&database, "still works").unwrap();
        let tables: i64 = database
            .lock()
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'extra'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(tables, 0);
    }

    #[test]
    fn foreign_and_damaged_files_are_refused_by_name() {
        let (_folder, path) = file();
        let foreign = Schema { application_id: 1, ..ONE };
        drop(Database::open(&path, &foreign).unwrap());
        assert!(matches!(Database::open(&path, &ONE), Err(DatabaseError::Foreign { found: 1, .. })));
        std::fs::write(&path, b"this is a shopping list, not a database, and long enough to be looked at".repeat(40))
            .unwrap();
        assert!(matches!(Database::open(&path, &ONE), Err(DatabaseError::Damaged { .. })));
    }

    #[test]
    fn an_error_inside_a_write_undoes_all_of_it() {
        let (_folder, path) = file();
        let database = Database::open(&path, &ONE).unwrap();
        insert(&database, "one").unwrap();
        let result: Result<(), rusqlite::Error> = database.write(|transaction| {
            transaction.execute("INSERT INTO note (text) VALUES ('two')", [])?;
            transaction.execute("INSERT INTO note (text) VALUES ('one')", [])?;
            Ok(())
        });
        assert!(result.is_err());
        let count: i64 = database.lock().query_row("SELECT count(*) FROM note", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1);
        database.check_writable().unwrap();
    }
}
