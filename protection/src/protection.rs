//! The database in service.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use alloy_primitives::B256;
use rusqlite::Connection;

use crate::InstanceId;
use crate::duty::{KeyState, Now, Pubkey, Request};
use crate::error::{BackupError, BackupFault, Distrust, ExportError, ImportError, KeyError, OpenError, Unavailable};
use crate::export::{Doubted, ExportReport};
use crate::file::{self, Guard, Meta};
use crate::merge::ImportReport;
use crate::store::{Store, mark};
use crate::verdict::Verdict;
use crate::witness::{Record, Witness};

/// A slashing protection database that may sign: the newest state of itself, as far as this machine can tell, and held by
/// this process alone until dropped.
///
/// All methods block on the disk; in async programs call them where blocking is allowed. Calls from several threads wait for
/// each other, so put requests that are there together into one batch.
#[derive(Debug)]
pub struct Protection {
    store: Mutex<Store>,
}

impl Protection {
    /// Makes a new database, for a machine no key of which has ever signed.
    ///
    /// A machine that has signed and lost its database takes [`Quarantine::open`](crate::Quarantine::open).
    ///
    /// # Errors
    /// [`OpenError::Exists`] if there is one, [`OpenError::NeedsImport`] if a witness says that there was one.
    pub fn create(path: &Path, genesis_validators_root: B256) -> Result<Self, OpenError> {
        let guard = Guard::take(path)?;
        match guard.read_witness()? {
            crate::witness::Found::Nothing => {}
            _ if guard.has_database()? => return Err(OpenError::Exists { path: guard.path }),
            _ => return Err(OpenError::NeedsImport { path: guard.path, reason: Distrust::Missing }),
        }
        let (connection, meta) = if guard.has_database()? {
            // A creation that was cut off before the witness was written, and nothing else.
            let connection = file::connect(&guard.path, file::MIGRATIONS)?;
            match file::meta(&connection)? {
                Some(meta) if meta.generation > 1 || meta.quarantine.is_some() => {
                    return Err(OpenError::Exists { path: guard.path });
                }
                Some(meta) => (connection, meta),
                None => begin(connection, &guard, genesis_validators_root, None)?,
            }
        } else {
            file::create_empty(&guard.path)?;
            let connection = file::connect(&guard.path, file::MIGRATIONS)?;
            begin(connection, &guard, genesis_validators_root, None)?
        };
        file::check_network(&meta, &guard.path, genesis_validators_root)?;
        let identity = guard.identity()?;
        let witness_path = guard.witness();
        let record = Record { instance: meta.instance, generation: meta.generation, file: identity };
        let witness = Witness::create(&witness_path, record).map_err(file::io_error("write", &witness_path))?;
        Ok(Self::serve(Store::new(connection, guard, &meta, identity, Some(witness))))
    }

    /// Opens the database for signing.
    ///
    /// `expected` is the instance that the program used last, if it keeps it elsewhere ([`Protection::instance`]): a second
    /// witness, for the case that database and witness vanish together.
    ///
    /// # Errors
    /// Every [`OpenError`] but [`OpenError::Exists`] and [`OpenError::Trusted`]. [`OpenError::NeedsImport`] says what is wrong
    /// with the file's history; [`Quarantine::open`](crate::Quarantine::open) is the way on.
    pub fn open(path: &Path, genesis_validators_root: B256, expected: Option<InstanceId>) -> Result<Self, OpenError> {
        Self::open_with(path, genesis_validators_root, expected, file::MIGRATIONS)
    }

    pub(crate) fn open_with(
        path: &Path,
        genesis_validators_root: B256,
        expected: Option<InstanceId>,
        migrations: &[&str],
    ) -> Result<Self, OpenError> {
        let guard = Guard::take(path)?;
        let needs_import = |guard: &Guard, reason| OpenError::NeedsImport { path: guard.path.clone(), reason };
        let found = guard.read_witness()?;
        if !guard.has_database()? {
            return Err(if found == crate::witness::Found::Nothing && expected.is_none() {
                OpenError::NotFound { path: guard.path }
            } else {
                needs_import(&guard, Distrust::Missing)
            });
        }
        let mut connection = file::connect(&guard.path, migrations)?;
        let Some(meta) = file::meta(&connection)? else {
            return Err(needs_import(&guard, Distrust::Missing));
        };
        file::check_network(&meta, &guard.path, genesis_validators_root)?;
        let identity = guard.identity()?;
        let record =
            file::check_trust(&meta, found, identity, expected).map_err(|reason| needs_import(&guard, reason))?;
        file::check_content(&connection, &guard.path)?;
        file::migrate(&mut connection, &guard.path, migrations, None)?;
        let witness_path = guard.witness();
        let witness = Witness::open(&witness_path, record)
            .and_then(|mut witness| {
                witness.note(meta.generation)?;
                witness.sync()?;
                Ok(witness)
            })
            .map_err(file::io_error("write", &witness_path))?;
        Ok(Self::serve(Store::new(connection, guard, &meta, identity, Some(witness))))
    }

    pub(crate) fn serve(store: Store) -> Self {
        Self { store: Mutex::new(store) }
    }

    /// Judges a batch of requests, one verdict each in the same order, and records those that are safe, in one transaction
    /// that is on disk when this returns. Each request is judged as if those before it in the batch had been signed: of
    /// two that contradict each other, the first is safe.
    ///
    /// `now` is the latest slot and epoch that the caller accepts duties for.
    ///
    /// # Errors
    /// [`Unavailable`]: the batch as a whole is refused, whatever the reason.
    ///
    /// # Performance
    /// One fsync per batch with a safe request in it, none otherwise; per request a few lookups by index. Now and then
    /// SQLite moves its log into the file, which takes two more.
    pub fn check_and_record(&self, batch: &[Request], now: Now) -> Result<Vec<Verdict>, Unavailable> {
        self.lock().check_and_record(batch, now)
    }

    /// Registers keys that the database does not know yet, and says how many these were. Known keys stay as they are.
    ///
    /// With `now`, everything up to now counts as signed: a key that is less new than the caller believes is safe too,
    /// at the cost of the duties of one epoch. `None` is for a chain before its genesis. A key with a history comes by
    /// [`Protection::import`].
    ///
    /// # Errors
    /// [`Unavailable`]: none was registered.
    pub fn register(&self, keys: &[Pubkey], now: Option<Now>) -> Result<usize, Unavailable> {
        self.lock().register(keys, now)
    }

    /// Stops signing for keys that leave. Their history stays for ever.
    ///
    /// # Errors
    /// [`KeyError`]: none was changed.
    pub fn deactivate(&self, keys: &[Pubkey]) -> Result<(), KeyError> {
        self.lock().set_active(keys, false)
    }

    /// Signs again for keys that come back, above what they signed here before. What they signed elsewhere in the
    /// meantime comes by [`Protection::import`] or [`Protection::close_history`].
    ///
    /// # Errors
    /// [`KeyError`]: none was changed.
    pub fn activate(&self, keys: &[Pubkey]) -> Result<(), KeyError> {
        self.lock().set_active(keys, true)
    }

    /// Takes everything up to now as signed for these keys, and vouches for them if their history was in doubt. Safe
    /// without any other knowledge, as long as nobody signed duties after `now`.
    ///
    /// # Errors
    /// [`KeyError`]: none was changed.
    pub fn close_history(&self, keys: &[Pubkey], now: Now) -> Result<(), KeyError> {
        self.lock().close_history(keys, now)
    }

    /// Merges an interchange file into the history (EIP-3076, complete or minimal). No watermark falls, unknown keys are
    /// registered, and keys in doubt are vouched for if the file knows at least as much of them as the database.
    ///
    /// # Errors
    /// [`ImportError`]: nothing was imported. Records after `now` are refused; if clocks were wrong and they are real, pass
    /// the later time.
    pub fn import(&self, interchange: impl Read, now: Now) -> Result<ImportReport, ImportError> {
        self.lock().import(interchange, now)
    }

    /// Writes the history of all keys, or of those named, as an interchange file: the low watermarks and everything above
    /// them. Importing it elsewhere gives the same watermarks there.
    ///
    /// Deactivate the keys first if they are to be signed for elsewhere: an export says nothing of what is signed after it.
    ///
    /// # Errors
    /// [`ExportError`]: what was written is not complete.
    pub fn export(&self, interchange: impl Write, keys: Option<&[Pubkey]>) -> Result<ExportReport, ExportError> {
        self.lock().export(interchange, keys, Doubted::LeftOut)
    }

    /// Deletes records older than `keep` and says how many. The low watermarks rise over them, and the latest block and
    /// attestation of every key stay, so nothing can be signed that could not be before.
    ///
    /// # Errors
    /// [`Unavailable`]: nothing was deleted.
    pub fn prune(&self, keep: Now) -> Result<u64, Unavailable> {
        self.lock().prune(keep)
    }

    /// What is known of one key; `None` if it is not registered.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn key(&self, key: &Pubkey) -> Result<Option<KeyState>, Unavailable> {
        self.lock().key(key)
    }

    /// What is known of every key, in the order of keys.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn keys(&self) -> Result<Vec<KeyState>, Unavailable> {
        self.lock().keys()
    }

    /// Commits a change that says nothing: whether signatures could be recorded now, after repairing what can be.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn check_writable(&self) -> Result<(), Unavailable> {
        self.lock().check_writable()
    }

    /// Moves everything from the write-ahead log into the database file. For the end of a program, which may come while threads
    /// still hold this: whoever copies the file of a stopped program should have all of it, and an old copy that is put over
    /// it must not find a newer log beside it.
    ///
    /// # Errors
    /// [`Unavailable`]: the log stays, and the next start reads it.
    pub fn empty_log(&self) -> Result<(), Unavailable> {
        self.lock().empty_log()
    }

    /// Writes a consistent copy of the database into a new file, marked as a backup: wherever it is put, it refuses to sign
    /// until somebody has imported what was signed since. `of` says whose it is ([`Owner::name`]); [`restore`] compares it.
    ///
    /// # Errors
    /// [`BackupError`], among them if `path` exists.
    pub fn backup(&self, path: &Path, of: &str) -> Result<(), BackupError> {
        self.lock().backup(path, of)
    }

    /// Which life of the database this is. It changes with every [release](crate::Quarantine::release); programs keep it elsewhere and
    /// pass it to [`Protection::open`].
    pub fn instance(&self) -> InstanceId {
        self.lock().instance
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        // A panic while it was held rolled its transaction back; the connection itself is sound.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who restores a backup: the history of another program knows nothing of what this one has signed.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// As it was given to [`Protection::backup`].
    pub name: &'a str,
    /// The life of the database that it used last, if it remembers one.
    pub instance: Option<InstanceId>,
    /// Keys it signs for, as far as it knows without this database.
    pub keys: &'a [Pubkey],
}

/// Puts a backup where a database shall be. It does not sign: [`Quarantine::open`](crate::Quarantine::open) and an
/// import come next.
///
/// # Errors
/// [`OpenError`], among them if there is a database at `path`, if `backup` belongs to another network, and
/// [`OpenError::Backup`] if it is none, or not of `owner`.
pub fn restore(backup: &Path, path: &Path, genesis_validators_root: B256, owner: &Owner<'_>) -> Result<(), OpenError> {
    let guard = Guard::take(path)?;
    if guard.has_database()? {
        return Err(OpenError::Exists { path: guard.path });
    }
    let (source, meta) = file::read_backup(backup).map_err(|error| error.of_backup(backup))?;
    file::check_network(&meta, backup, genesis_validators_root)?;
    check_owner(&source, &meta, owner).map_err(|fault| fault.at(backup))?;
    // Under another name until it is marked: what was given as a backup may be a plain copy.
    let partial = crate::witness::with_suffix(&guard.path, ".partial");
    file::copy_into(&source, &partial)?;
    mark(&partial, &format!("it was restored from a backup made at generation {}", meta.generation), None)?;
    file::sync_file(&partial)?;
    std::fs::rename(&partial, &guard.path).map_err(file::io_error("rename", &partial))?;
    file::sync_file(&guard.path)
}

/// Whose backup is it? One that does not say so is a plain copy of the file: its instance has to be known, or nothing at all.
fn check_owner(backup: &Connection, meta: &Meta, owner: &Owner<'_>) -> Result<(), BackupFault> {
    let unreadable = |error: rusqlite::Error| BackupFault::Damaged { detail: error.to_string() };
    match file::backup_of(backup).map_err(unreadable)? {
        Some(found) if found != owner.name => {
            return Err(BackupFault::OtherOwner { found, expected: owner.name.to_owned() });
        }
        Some(_) => {}
        None if owner.instance.is_none_or(|instance| instance == meta.instance) => {}
        None => return Err(BackupFault::OtherLife { found: meta.instance }),
    }
    let keys = file::pubkeys(backup).map_err(unreadable)?;
    let none_known = !owner.keys.iter().any(|key| keys.contains(key));
    if none_known && !keys.is_empty() && !owner.keys.is_empty() {
        return Err(BackupFault::OtherKeys);
    }
    Ok(())
}

/// Fills a new file.
pub(crate) fn begin(
    mut connection: Connection,
    guard: &Guard,
    genesis_validators_root: B256,
    quarantine: Option<String>,
) -> Result<(Connection, Meta), OpenError> {
    let meta = Meta { genesis_validators_root, instance: InstanceId::random()?, generation: 1, quarantine };
    file::migrate(&mut connection, &guard.path, file::MIGRATIONS, Some(&meta))?;
    Ok((connection, meta))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Block, Duty};

    const NETWORK: B256 = B256::repeat_byte(0x11);
    const KEY: Pubkey = Pubkey::repeat_byte(1);
    const NOW: Now = Now { slot: 100, epoch: 3 };
    const TWO: &[&str] = &[file::MIGRATIONS[0], "ALTER TABLE validator ADD COLUMN note TEXT NOT NULL DEFAULT 'none';"];

    fn block(root: u8) -> Request {
        Request { pubkey: KEY, duty: Duty::Block(Block { slot: 5, signing_root: B256::repeat_byte(root) }) }
    }

    fn version_one() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("protection.db");
        let protection = Protection::create(&path, NETWORK).unwrap();
        protection.register(&[KEY], None).unwrap();
        assert_eq!(protection.check_and_record(&[block(1)], NOW).unwrap(), [Verdict::Safe]);
        (folder, path)
    }

    fn open(path: &Path, migrations: &[&str]) -> Result<Protection, OpenError> {
        Protection::open_with(path, NETWORK, None, migrations)
    }

    #[test]
    fn a_migration_keeps_the_history_and_leaves_a_copy_that_does_not_sign() {
        let (_folder, path) = version_one();
        let protection = open(&path, TWO).unwrap();
        let verdicts = protection.check_and_record(&[block(1), block(2)], NOW).unwrap();
        assert_eq!(verdicts[0], Verdict::SameAgain);
        assert!(!verdicts[1].may_sign());
        drop(protection);
        drop(open(&path, TWO).unwrap());
        assert!(matches!(open(&path, file::MIGRATIONS), Err(OpenError::TooNew { found: 2, known: 1, .. })));

        let copy = crate::witness::with_suffix(&path, ".v1");
        std::fs::rename(&copy, &path).unwrap();
        let error = open(&path, file::MIGRATIONS).unwrap_err();
        assert!(matches!(error, OpenError::NeedsImport { reason: Distrust::Copied, .. }), "{error}");
    }

    #[test]
    fn a_migration_that_fails_leaves_the_old_version() {
        let (_folder, path) = version_one();
        let broken = &[file::MIGRATIONS[0], "CREATE TABLE extra (x); SELECT no_such;"];
        assert!(open(&path, broken).is_err());
        let protection = open(&path, file::MIGRATIONS).unwrap();
        assert_eq!(protection.check_and_record(&[block(1)], NOW).unwrap(), [Verdict::SameAgain]);
    }
}
