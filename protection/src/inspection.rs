//! Looking at a database without putting it in service.

use std::io::Write;
use std::path::Path;

use alloy_primitives::B256;

use crate::duty::{KeyState, Pubkey};
use crate::error::{BackupError, Distrust, ExportError, OpenError, Unavailable};
use crate::export::ExportReport;
use crate::file::{self, Guard};
use crate::store::Store;
use crate::witness::Found;
use crate::{InstanceId, export};

/// A database that is only read: whatever state it is in, it stays in it (an old schema is brought up to date), and nothing signs
/// with it. There is no method that does, and none that leads to a [`Protection`](crate::Protection).
#[derive(Debug)]
pub struct Inspection {
    store: Store,
    distrust: Option<Distrust>,
}

impl Inspection {
    /// Opens the database, also one that [`Protection::open`](crate::Protection::open) refuses with
    /// [`OpenError::NeedsImport`]: it is then that a person wants to see what is left of it.
    ///
    /// # Errors
    /// Those of [`Protection::open`](crate::Protection::open), and [`OpenError::NeedsImport`] only where nothing is left.
    pub fn open(path: &Path, genesis_validators_root: B256, expected: Option<InstanceId>) -> Result<Self, OpenError> {
        let guard = Guard::take(path)?;
        let found = guard.read_witness()?;
        let nothing = |guard: Guard| {
            if found == Found::Nothing && expected.is_none() {
                return OpenError::NotFound { path: guard.path };
            }
            OpenError::NeedsImport { path: guard.path, reason: Distrust::Missing }
        };
        if !guard.has_database()? {
            return Err(nothing(guard));
        }
        let mut connection = file::connect(&guard.path, file::MIGRATIONS)?;
        let Some(meta) = file::meta(&connection)? else { return Err(nothing(guard)) };
        file::check_network(&meta, &guard.path, genesis_validators_root)?;
        let identity = guard.identity()?;
        let distrust = file::check_trust(&meta, found, identity, expected).err();
        file::check_content(&connection, &guard.path)?;
        file::migrate(&mut connection, &guard.path, file::MIGRATIONS, None)?;
        Ok(Self { store: Store::new(connection, guard, &meta, identity, None), distrust })
    }

    /// Why it must not sign; `None` for one that may.
    #[must_use]
    pub const fn distrust(&self) -> Option<&Distrust> {
        self.distrust.as_ref()
    }

    /// What is known of every key, in the order of keys. All of them need an import where the database as a whole does.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn keys(&mut self) -> Result<Vec<KeyState>, Unavailable> {
        let mut keys = self.store.keys()?;
        for key in &mut keys {
            key.needs_import |= self.distrust.is_some();
        }
        Ok(keys)
    }

    /// Writes an interchange file as [`Protection::export`](crate::Protection::export) does. From a database that must not sign
    /// it takes all keys: they are all in doubt, and what is left of them is better than nothing, as long as whoever imports it
    /// knows that it may lack the newest signatures.
    ///
    /// # Errors
    /// [`ExportError`]: what was written is not complete.
    pub fn export(&mut self, interchange: impl Write, keys: Option<&[Pubkey]>) -> Result<ExportReport, ExportError> {
        let doubted = if self.distrust.is_some() { export::Doubted::Written } else { export::Doubted::LeftOut };
        self.store.export(interchange, keys, doubted)
    }

    /// Copies it as [`Protection::backup`](crate::Protection::backup) does. The copy is never more trusted than this.
    ///
    /// # Errors
    /// [`BackupError`], among them if `path` exists.
    pub fn backup(&mut self, path: &Path, of: &str) -> Result<(), BackupError> {
        self.store.backup(path, of)
    }
}
