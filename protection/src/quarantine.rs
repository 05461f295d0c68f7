//! The way back for a database that must not sign.

use std::io::Read;
use std::path::Path;

use alloy_primitives::B256;

use crate::duty::{KeyState, Now};
use crate::error::{Distrust, ImportError, OpenError, ReleaseError, Unavailable};
use crate::file::{self, Guard};
use crate::merge::ImportReport;
use crate::protection::begin;
use crate::store::Store;
use crate::witness::Found;
use crate::{InstanceId, KeyError, Protection};

/// A database that was lost, rolled back, copied or restored. It cannot sign: there is no method for it. After an import
/// of what it may lack, [`Quarantine::release`] turns it into a [`Protection`].
///
/// Every open starts anew: all keys are in doubt until an import of *this* session names them.
#[derive(Debug)]
pub struct Quarantine {
    store: Store,
    reason: Distrust,
    imported: bool,
}

impl Quarantine {
    /// Opens a file that [`Protection::open`] refuses with [`OpenError::NeedsImport`], or makes an empty one if it is gone, and
    /// marks it: whatever happens next, it does not sign before a release.
    ///
    /// # Errors
    /// [`OpenError::Trusted`] if the file may sign; otherwise those of [`Protection::open`].
    pub fn open(path: &Path, genesis_validators_root: B256, expected: Option<InstanceId>) -> Result<Self, OpenError> {
        let guard = Guard::take(path)?;
        let found = guard.read_witness()?;
        let created = !guard.has_database()?;
        if created {
            file::create_empty(&guard.path)?;
        }
        let mut connection = file::connect(&guard.path, file::MIGRATIONS)?;
        let identity = guard.identity()?;
        let (meta, reason) = match file::meta(&connection)? {
            Some(meta) => {
                file::check_network(&meta, &guard.path, genesis_validators_root)?;
                match file::check_trust(&meta, found, identity, expected) {
                    Ok(_) => return Err(OpenError::Trusted { path: guard.path }),
                    Err(reason) => (meta, reason),
                }
            }
            None => {
                let mark = Some(Distrust::Missing.to_string());
                let (filled, meta) = begin(connection, &guard, genesis_validators_root, mark)?;
                connection = filled;
                (meta, Distrust::Missing)
            }
        };
        file::check_content(&connection, &guard.path)?;
        file::migrate(&mut connection, &guard.path, file::MIGRATIONS, None)?;
        let reached = match found {
            Found::Record(record) => record.generation,
            Found::Nothing | Found::Damaged => 0,
        };
        let mut store = Store::new(connection, guard, &meta, identity, None);
        store.quarantine(&reason.to_string(), reached).map_err(|error| OpenError::Unavailable(Box::new(error)))?;
        Ok(Self { store, reason, imported: false })
    }

    /// Why it must not sign.
    pub fn reason(&self) -> &Distrust {
        &self.reason
    }

    /// Merges an interchange file into the history, as [`Protection::import`] does. The keys it vouches for will be signed for
    /// again, above everything known *and* above `now`.
    ///
    /// # Errors
    /// [`ImportError`]: nothing was imported.
    pub fn import(&mut self, interchange: impl Read, now: Now) -> Result<ImportReport, ImportError> {
        let report = self.store.import(interchange, now)?;
        self.imported = true;
        Ok(report)
    }

    /// For the case that no interchange file exists: takes everything up to now as signed, for all keys the database knows.
    /// Safe as long as nobody signed duties after `now`, and it costs the duties of the present epoch or two.
    ///
    /// # Errors
    /// [`KeyError`]: nothing was changed.
    pub fn close_history(&mut self, now: Now) -> Result<(), KeyError> {
        let keys: Vec<_> = self.store.keys()?.into_iter().map(|key| key.pubkey).collect();
        self.store.close_history(&keys, now)?;
        self.imported = true;
        Ok(())
    }

    /// What is known of every key, in the order of keys.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn keys(&mut self) -> Result<Vec<KeyState>, Unavailable> {
        self.store.keys()
    }

    /// Puts the database in service. Keys that are still in doubt stay so and refuse, each with that reason, until a later
    /// import names them. The database gets a new [`InstanceId`] and witness, which no older copy has.
    ///
    /// # Errors
    /// [`ReleaseError`]: it stays in quarantine.
    pub fn release(mut self) -> Result<Protection, ReleaseError> {
        if !self.imported {
            return Err(ReleaseError::NothingImported);
        }
        self.store.release()?;
        Ok(Protection::serve(self.store))
    }
}
