//! Slashing protection from the command line: thin over `stkr-protection`, which has the rules.
//!
//! Every command needs the server stopped: database and protection belong to one process at a time.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use alloy::primitives::B256;
use serde::Serialize;
use stkr_chain::Deployment;
use stkr_duties::ForkSchedule;
use stkr_node::config;
use stkr_node::exit::{Exit, Failure};
use stkr_protection::{
    BackupError, ExportError, ImportError, KeyError, Now, OpenError, Protection, Pubkey, Quarantine, ReleaseError,
};

use crate::config::ServerConfig;
use crate::duty::Policy;
use crate::setup::load_signer;
use crate::store::{DutyRow, Owner, Store, StoreError};

/// `stkr-server protection …`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ProtectionCommand {
    /// Make the database of a server that was set up without a beacon chain; everything up to now counts as signed
    Create(On),
    /// Say what is known of every key, as JSON lines
    Status(On),
    /// Write the history as an EIP-3076 interchange file
    Export {
        /// Which server
        #[command(flatten)]
        on: On,
        /// New file
        #[arg(long)]
        file: PathBuf,
        /// Only this validator (48 bytes, hex); repeat it for more
        #[arg(long = "pubkey")]
        pubkeys: Vec<Pubkey>,
    },
    /// Merge an EIP-3076 interchange file into the history; puts a database back in service that was lost or restored
    Import {
        /// Which server
        #[command(flatten)]
        on: On,
        /// Interchange file
        #[arg(long)]
        file: PathBuf,
    },
    /// Take everything up to now as signed, for all keys: where no interchange file exists
    CloseHistory(On),
    /// Delete old records; nothing can be signed afterwards that could not be before
    Prune {
        /// Which server
        #[command(flatten)]
        on: On,
        /// Epochs to keep
        #[arg(long, default_value_t = 512)]
        keep_epochs: u64,
    },
    /// Copy the database; the copy does not sign before an import
    Backup {
        /// Which server
        #[command(flatten)]
        on: On,
        /// New file
        #[arg(long)]
        file: PathBuf,
    },
    /// Put a backup where the database shall be; import what was signed since before it signs
    Restore {
        /// Which server
        #[command(flatten)]
        on: On,
        /// The backup
        #[arg(long)]
        file: PathBuf,
    },
}

/// Which server.
#[derive(Clone, Debug, clap::Args)]
pub struct On {
    /// Configuration file
    #[arg(long)]
    config: PathBuf,
}

/// A stopped server, as these commands see it.
pub(crate) struct Stopped {
    path: PathBuf,
    schedule: ForkSchedule,
    pub(crate) store: Store,
}

/// One key, as `status` prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyLine {
    pubkey: Pubkey,
    active: bool,
    needs_import: bool,
    low_slot: Option<u64>,
    low_source: Option<u64>,
    low_target: Option<u64>,
    high_slot: Option<u64>,
    high_source: Option<u64>,
    high_target: Option<u64>,
}

impl ProtectionCommand {
    /// Runs the command; results go to stdout as JSON.
    ///
    /// # Errors
    /// With the exit class of the cause.
    pub fn run(&self) -> eyre::Result<()> {
        match self {
            Self::Create(on) => create(&on.stopped()?),
            Self::Status(on) => status(&on.stopped()?.open()?),
            Self::Export { on, file, pubkeys } => export(&on.stopped()?.open()?, file, pubkeys),
            Self::Import { on, file } => import(&on.stopped()?, file),
            Self::CloseHistory(on) => close_history(&on.stopped()?),
            Self::Prune { on, keep_epochs } => prune(&on.stopped()?, *keep_epochs),
            Self::Backup { on, file } => {
                on.stopped()?.open()?.backup(file).map_err(backup_failure)?;
                say(&serde_json::json!({ "backup": file }))
            }
            Self::Restore { on, file } => {
                let stopped = on.stopped()?;
                stkr_protection::restore(file, &stopped.path, stopped.root()).map_err(open_failure)?;
                say(&serde_json::json!({ "restored": stopped.path, "next": "protection import" }))
            }
        }
    }
}

impl On {
    fn stopped(&self) -> eyre::Result<Stopped> {
        Stopped::of(&config::load::<ServerConfig>(&self.config).map_err(Failure::usage)?)
    }
}

impl Stopped {
    /// The server with this configuration, which must not run.
    ///
    /// # Errors
    /// If it runs, or knows no beacon chain.
    pub(crate) fn of(config: &ServerConfig) -> eyre::Result<Self> {
        let no_chain = || Failure::usage("this server knows no beacon chain; set beacon.schedule first");
        let schedule = config.schedule().map_err(Failure::usage)?.ok_or_else(no_chain)?;
        Ok(Self { path: config.files.protection.clone(), schedule, store: store_of(config)? })
    }
}

/// Opens the database of the server with this configuration.
fn store_of(config: &ServerConfig) -> eyre::Result<Store> {
    let deployment = Deployment::load(&config.chain.deployment).map_err(Failure::usage)?;
    let signer = load_signer(&config.files)?.address();
    let owner = Owner { signer, chain_id: deployment.chain_id, key_registry: deployment.key_registry };
    if !config.files.database.exists() {
        let file = config.files.database.display();
        return Err(Failure::usage(format!("there is no database at {file}; `run` makes one")).into());
    }
    Ok(Store::open(&config.files.database, &owner, 0).map_err(|error| store_failure(&error))?)
}

impl Stopped {
    fn root(&self) -> B256 {
        self.schedule.genesis_validators_root()
    }

    pub(crate) fn open(&self) -> eyre::Result<Protection> {
        open(&self.path, &self.schedule, &self.store)
    }

    pub(crate) fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let policy = Policy { schedule: self.schedule.clone(), sign_unproven_blocks: false };
        policy.present(unix).unwrap_or(Now { slot: 0, epoch: 0 })
    }

    /// The next start expects this life of the database and no other.
    pub(crate) fn pin(&self, protection: &Protection) -> eyre::Result<()> {
        Ok(self.store.set_protection(protection.instance()).map_err(|error| store_failure(&error))?)
    }

    fn quarantine(&self) -> eyre::Result<Quarantine> {
        let expected = self.store.protection().map_err(|error| store_failure(&error))?;
        Ok(Quarantine::open(&self.path, self.root(), expected).map_err(open_failure)?)
    }

    /// The database if it may sign; `None` if it has to go through the quarantine first.
    fn in_service(&self) -> eyre::Result<Option<Protection>> {
        let expected = self.store.protection().map_err(|error| store_failure(&error))?;
        match Protection::open(&self.path, self.root(), expected) {
            Ok(protection) => Ok(Some(protection)),
            Err(OpenError::NeedsImport { .. }) => Ok(None),
            Err(error) => Err(open_failure(error).into()),
        }
    }
}

/// Makes the database of a new server and pins it.
///
/// # Errors
/// When there is or was one.
pub fn create_new(path: &Path, schedule: &ForkSchedule, store: &Store) -> eyre::Result<Protection> {
    let protection = Protection::create(path, schedule.genesis_validators_root()).map_err(open_failure)?;
    store.set_protection(protection.instance()).map_err(|error| store_failure(&error))?;
    Ok(protection)
}

/// Opens the database for signing. The server's own database remembers which life of it was used last: without that,
/// protection and witness could both be replaced by an older pair, or vanish, unnoticed.
///
/// # Errors
/// With the sentence of [`OpenError`] and its exit class.
pub fn open(path: &Path, schedule: &ForkSchedule, store: &Store) -> eyre::Result<Protection> {
    let expected = store.protection().map_err(|error| store_failure(&error))?;
    let protection = Protection::open(path, schedule.genesis_validators_root(), expected).map_err(open_failure)?;
    if expected.is_none() {
        // The server's database is new, or was set up without a beacon chain; the witness vouches for this file.
        store.set_protection(protection.instance()).map_err(|error| store_failure(&error))?;
    }
    Ok(protection)
}

fn create(stopped: &Stopped) -> eyre::Result<()> {
    if stopped.store.protection().map_err(|error| store_failure(&error))?.is_some() {
        let sentence = "this server has used slashing protection before; if the file is lost, import its history with `stkr-server protection import`";
        return Err(Failure::not_safe(sentence).into());
    }
    let protection = create_new(&stopped.path, &stopped.schedule, &stopped.store)?;
    let shares = stopped.store.all_shares().map_err(|error| store_failure(&error))?;
    let keys: Vec<Pubkey> = shares.iter().map(|(_, share)| share.group_key.into()).collect();
    let registered = protection.register(&keys, Some(stopped.now())).map_err(Failure::unavailable)?;
    say(&serde_json::json!({ "created": stopped.path, "keys": registered }))
}

fn status(protection: &Protection) -> eyre::Result<()> {
    for key in protection.keys().map_err(Failure::unavailable)? {
        say(&KeyLine {
            pubkey: key.pubkey,
            active: key.active,
            needs_import: key.needs_import,
            low_slot: key.low.slot,
            low_source: key.low.epochs.map(|epochs| epochs.source_epoch),
            low_target: key.low.epochs.map(|epochs| epochs.target_epoch),
            high_slot: key.high.slot,
            high_source: key.high.epochs.map(|epochs| epochs.source_epoch),
            high_target: key.high.epochs.map(|epochs| epochs.target_epoch),
        })?;
    }
    Ok(())
}

fn export(protection: &Protection, file: &Path, pubkeys: &[Pubkey]) -> eyre::Result<()> {
    let mut new = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(|error| Failure::usage(format!("cannot make {}: {error}", file.display())))?;
    let keys = if pubkeys.is_empty() { None } else { Some(pubkeys) };
    protection.export(&mut new, keys).map_err(|error| match error {
        ExportError::Write(_) | ExportError::Unavailable(_) => Failure::unavailable(error),
        ExportError::Unregistered(_) => Failure::usage(error),
        ExportError::NeedsImport(_) => Failure::not_safe(error),
    })?;
    new.sync_all()?;
    say(&serde_json::json!({ "exported": file }))
}

fn import(stopped: &Stopped, file: &Path) -> eyre::Result<()> {
    let open = || {
        let read = |error| Failure::usage(format!("cannot read {}: {error}", file.display()));
        File::open(file).map(BufReader::new).map_err(read)
    };
    let now = stopped.now();
    match stopped.in_service()? {
        Some(protection) => {
            protection.import(open()?, now).map_err(import_failure)?;
            stopped.pin(&protection)?;
        }
        None => {
            let mut quarantine = stopped.quarantine()?;
            quarantine.import(open()?, now).map_err(import_failure)?;
            stopped.pin(&quarantine.release().map_err(release_failure)?)?;
        }
    }
    say(&serde_json::json!({ "imported": file }))
}

fn close_history(stopped: &Stopped) -> eyre::Result<()> {
    let now = stopped.now();
    let failure = |error| match error {
        KeyError::Unregistered(_) => Failure::usage(error),
        KeyError::Unavailable(_) => Failure::unavailable(error),
    };
    match stopped.in_service()? {
        Some(protection) => {
            let keys = protection.keys().map_err(Failure::unavailable)?;
            let keys: Vec<Pubkey> = keys.into_iter().map(|key| key.pubkey).collect();
            protection.close_history(&keys, now).map_err(failure)?;
            stopped.pin(&protection)?;
        }
        None => {
            let mut quarantine = stopped.quarantine()?;
            quarantine.close_history(now).map_err(failure)?;
            let protection = quarantine.release().map_err(release_failure)?;
            // Keys that the lost file knew and this one does not: everything up to now counts as signed for them too.
            let shares = stopped.store.all_shares().map_err(|error| store_failure(&error))?;
            let keys: Vec<Pubkey> = shares.iter().map(|(_, share)| share.group_key.into()).collect();
            protection.register(&keys, Some(now)).map_err(Failure::unavailable)?;
            stopped.pin(&protection)?;
        }
    }
    say(&serde_json::json!({ "closedUpTo": { "slot": now.slot, "epoch": now.epoch } }))
}

fn prune(stopped: &Stopped, keep_epochs: u64) -> eyre::Result<()> {
    let now = stopped.now();
    let epoch = now.epoch.saturating_sub(keep_epochs);
    let keep = Now { slot: epoch.saturating_mul(stopped.schedule.preset().slots_per_epoch()), epoch };
    let deleted = stopped.open()?.prune(keep).map_err(Failure::unavailable)?;
    say(&serde_json::json!({ "deleted": deleted }))
}

/// `stkr-server evidence`: prints every kept request for a block or an attestation, oldest first, one JSON object per line.
///
/// # Errors
/// With the exit class of the cause.
pub fn print_evidence(config: &Path) -> eyre::Result<()> {
    let config = config::load::<ServerConfig>(config).map_err(Failure::usage)?;
    store_of(&config)?.duties(|row: &DutyRow| say(row))
}

fn say(value: &impl Serialize) -> eyre::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(value)?)?)
}

pub(crate) fn store_failure(error: &StoreError) -> Failure {
    let exit = match error {
        StoreError::Database(error) => error.exit(),
        _ => Exit::Unsafe,
    };
    Failure::new(exit, error)
}

fn open_failure(error: OpenError) -> Failure {
    let exit = match &error {
        OpenError::Exists { .. } | OpenError::Trusted { .. } => Exit::Usage,
        OpenError::InUse { .. }
        | OpenError::ReadOnly { .. }
        | OpenError::NotDurable { .. }
        | OpenError::Random(_)
        | OpenError::Io { .. }
        | OpenError::Unavailable(_)
        | OpenError::Sqlite(_) => Exit::Unavailable,
        OpenError::NotFound { .. }
        | OpenError::NeedsImport { .. }
        | OpenError::OtherNetwork { .. }
        | OpenError::TooNew { .. }
        | OpenError::Foreign { .. }
        | OpenError::Damaged { .. } => Exit::Unsafe,
    };
    Failure::new(exit, error)
}

pub(crate) fn import_failure(error: ImportError) -> Failure {
    match error {
        ImportError::File(_) | ImportError::FarFuture { .. } => Failure::usage(error),
        ImportError::Unavailable(_) => Failure::unavailable(error),
    }
}

fn release_failure(error: ReleaseError) -> Failure {
    match error {
        ReleaseError::NothingImported => Failure::not_safe(error),
        ReleaseError::File(error) => open_failure(error),
        ReleaseError::Unavailable(_) => Failure::unavailable(error),
    }
}

fn backup_failure(error: BackupError) -> Failure {
    match error {
        BackupError::File(error) => open_failure(error),
        BackupError::Unavailable(_) => Failure::unavailable(error),
    }
}
