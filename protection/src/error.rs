//! Why a database is refused, or refuses.

use std::io;
use std::path::{Path, PathBuf};

use alloy_primitives::B256;
use rusqlite::ErrorCode;
use stkr_files::FileError;

use crate::InstanceId;
use crate::duty::Pubkey;
use crate::interchange::InterchangeError;

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing there, and no sign that there ever was.
    #[error(
        "there is no slashing protection database at {path}; create it if no key of this machine ever signed, else import the history (docs/protection.md)"
    )]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// Something is there already.
    #[error("{path} exists; it is never overwritten, move it away first if you are sure")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The lock is held.
    #[error(
        "slashing protection database {path} is in use by another process; stop that process first, two signers on one history get a validator slashed"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It must not sign before somebody who knows has imported what it may lack.
    #[error(
        "slashing protection database {path} must not sign: {reason}; import an interchange file with the newer history (docs/protection.md)"
    )]
    NeedsImport {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: Distrust,
    },
    /// It may sign, so there is nothing to recover.
    #[error("slashing protection database {path} is in order; open it and import into it directly")]
    Trusted {
        /// The file.
        path: PathBuf,
    },
    /// Made for another network.
    #[error(
        "slashing protection database {path} belongs to the network with genesis validators root {found}, not {expected}"
    )]
    OtherNetwork {
        /// The file.
        path: PathBuf,
        /// In the file.
        found: B256,
        /// Configured.
        expected: B256,
    },
    /// Made by a later version.
    #[error(
        "slashing protection database {path} has schema version {found}, but this program knows only up to {known}; run the newer program"
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Version in the file.
        found: i64,
        /// Last version this program knows.
        known: i64,
    },
    /// SQLite, but not ours.
    #[error(
        "{path} is not a slashing protection database (application id {found:#x}); check the path in the configuration"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Id in the file.
        found: i64,
    },
    /// Pages or rows that this program cannot have left.
    #[error(
        "slashing protection database {path} is damaged ({detail}); restore a backup and import the newer history, do not delete it (docs/protection.md)"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// First finding.
        detail: String,
    },
    /// No write permission, or a read-only file system.
    #[error("slashing protection database {path} can only be read; without recording nothing is signed")]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// SQLite did not take the settings that make a commit survive power loss.
    #[error("{path}: this file system does not allow durable commits (journal {journal}, synchronous {synchronous})")]
    NotDurable {
        /// The file.
        path: PathBuf,
        /// Journal mode it has.
        journal: String,
        /// Synchronous level it has.
        synchronous: i64,
    },
    /// The operating system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(String),
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
    /// A folder, pipe or device, or a file that cannot be read.
    #[error("slashing protection: {0}")]
    File(#[from] FileError),
    /// What was given as a backup cannot be restored.
    #[error("{path} cannot be restored: {fault}")]
    Backup {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: BackupFault,
    },
    /// Its first change failed.
    #[error(transparent)]
    Unavailable(Box<Unavailable>),
    /// SQLite itself.
    #[error("slashing protection database: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl OpenError {
    /// The same of a file that was given as a backup: the advice for a database is no advice there.
    pub(crate) fn of_backup(self, path: &Path) -> Self {
        let fault = match self {
            Self::Foreign { .. } => BackupFault::NotABackup,
            Self::Damaged { detail, .. } => BackupFault::of_sqlite(detail),
            Self::TooNew { found, known, .. } => BackupFault::TooNew { found, known },
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => BackupFault::of_sqlite(error.to_string()),
                _ => return Self::Sqlite(error),
            },
            other => return other,
        };
        fault.at(path)
    }
}

/// What is wrong with a file that was given as a backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupFault {
    /// Nothing in it.
    #[error("it is empty; give a file that `protection backup` wrote")]
    Empty,
    /// Something else.
    #[error("it is no backup of slashing protection; give a file that `protection backup` wrote")]
    NotABackup,
    /// Pages or rows are missing or wrong.
    #[error("it is cut short or damaged ({detail}); take another backup, or go on with `protection import`")]
    Damaged {
        /// First finding.
        detail: String,
    },
    /// Made by a later version.
    #[error(
        "it has schema version {found}, and this program knows only up to {known}; restore it with the newer program"
    )]
    TooNew {
        /// Version in the file.
        found: i64,
        /// Last version this program knows.
        known: i64,
    },
    /// Of another program or another server: it does not know what this one has signed.
    #[error(
        "it is a backup of {found}, and this is {expected}, whose signatures it does not know; take a backup of this one, or go on with `protection import`"
    )]
    OtherOwner {
        /// In the file.
        found: String,
        /// Who restores.
        expected: String,
    },
    /// A plain copy of a database that this program did not use last.
    #[error(
        "it does not say whose it is, and instance {found} is not the one that this program used last; take a file that `protection backup` wrote, or go on with `protection import`"
    )]
    OtherLife {
        /// In the file.
        found: InstanceId,
    },
    /// The right program, but another one of its kind.
    #[error(
        "it knows none of the keys that this program signs for; take a backup of this one, or go on with `protection import`"
    )]
    OtherKeys,
}

impl BackupFault {
    /// SQLite's words for a file without its header, and for one whose pages do not fit.
    fn of_sqlite(detail: String) -> Self {
        if detail.contains("not a database") { Self::NotABackup } else { Self::Damaged { detail } }
    }

    pub(crate) fn at(self, path: &Path) -> OpenError {
        OpenError::Backup { path: path.to_owned(), fault: self }
    }
}

/// Why a database may not hold everything that was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// No database where one is expected.
    #[error("the file is gone, but there was one here")]
    Missing,
    /// Marked as a backup, or left in the middle of an import.
    #[error("{reason}")]
    Quarantined {
        /// The mark.
        reason: String,
    },
    /// The program knows another one.
    #[error("this program was last used with instance {expected}, but the file is instance {found}")]
    UnexpectedInstance {
        /// What the caller stored.
        expected: InstanceId,
        /// In the file.
        found: InstanceId,
    },
    /// The witness file is missing.
    #[error("its witness file is missing, so the file may be a copy or an older state")]
    NoWitness,
    /// The witness file is there but unreadable.
    #[error("its witness file is damaged, so the file may be a copy or an older state")]
    DamagedWitness,
    /// The witness knows another database.
    #[error("it is instance {database}, but the witness beside it belongs to instance {witness}")]
    OtherInstance {
        /// In the database.
        database: InstanceId,
        /// In the witness.
        witness: InstanceId,
    },
    /// An older state of itself.
    #[error("it was rolled back: it is at generation {database}, but had reached {witness}")]
    RolledBack {
        /// Generation of the file.
        database: u64,
        /// Generation it had reached at least.
        witness: u64,
    },
    /// The right content, but in another file.
    #[error("it was copied here or restored from a file backup: it is not the file that its witness knows")]
    Copied,
}

/// The database cannot record now, so nothing may be signed.
///
/// Whether the requests of the batch were stored is open; if they were, they count as signed. The next call repairs what
/// can be repaired first.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// SQLite: disk full, read-only, failed sync, or a constraint that stopped a bug.
    #[error("slashing protection is unavailable, nothing may be signed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The witness file.
    #[error("slashing protection is unavailable, nothing may be signed: cannot write {path}: {source}")]
    Witness {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A commit would succeed now, but nothing can be added to the disk.
    #[error("there is no room left for slashing protection: cannot write {path}: {source}; soon nothing may be signed")]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The path leads to another file than the one that is open, or to none.
    #[error("slashing protection is unavailable, nothing may be signed: {path} was moved or replaced while in use")]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// Opening it again after an error failed.
    #[error("slashing protection is unavailable, nothing may be signed: after an earlier error, {0}")]
    Reopen(Box<OpenError>),
    /// A state that this program cannot have left.
    #[error(
        "slashing protection is unavailable, nothing may be signed: {0}; the file was changed from outside or there is a bug"
    )]
    Nonsense(&'static str),
}

/// Why a key's state was not changed. Nothing was.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not in the database.
    #[error("key {0} is not registered for slashing protection")]
    Unregistered(Pubkey),
    /// The database.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file.
    #[error("{0}; nothing was imported")]
    File(#[from] InterchangeError),
    /// A record after the present. Imported, it would stop the key until then, and perhaps the file is not what it seems.
    #[error(
        "the interchange file names {what} {found} of key {pubkey}, which is after the present, {now}; nothing was imported"
    )]
    FarFuture {
        /// Whose record.
        pubkey: Pubkey,
        /// "slot" or "epoch".
        what: &'static str,
        /// In the file.
        found: u64,
        /// Latest that is accepted.
        now: u64,
    },
    /// The database.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why an export is not complete. What was written is worthless.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A key that was asked for by name is not in the database.
    #[error("key {0} is not registered for slashing protection; there is nothing to export")]
    Unregistered(Pubkey),
    /// A key that was asked for by name, but whose history may lack something.
    #[error(
        "the history of key {0} is in doubt since the database was restored or rolled back; it must not be passed on"
    )]
    NeedsImport(Pubkey),
    /// The file to write.
    #[error("cannot write the interchange file: {0}")]
    Write(#[from] io::Error),
    /// The database.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a database stays in quarantine.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Nobody has said anything about what the file may lack.
    #[error("nothing was imported; import an interchange file with the newer history first (docs/protection.md)")]
    NothingImported,
    /// The files.
    #[error(transparent)]
    File(#[from] OpenError),
    /// The database.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a backup was not made or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The files.
    #[error(transparent)]
    File(#[from] OpenError),
    /// The database.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<rusqlite::Error> for KeyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

impl From<rusqlite::Error> for ExportError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

impl From<rusqlite::Error> for ImportError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

impl From<rusqlite::Error> for BackupError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unavailable(error.into())
    }
}
