//! Slashing protection from the command line, for every program that has one: thin over `stkr-protection`, which has the rules.
//!
//! Every command needs the program stopped: the database belongs to one process at a time. The program's own database remembers
//! which life of it was used last ([`Memory`]): without that, database and witness could both be replaced by an older pair, or
//! vanish, unnoticed.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};
use stkr_duties::ForkSchedule;
use stkr_protection::{
    BackupError, ExportError, ExportReport, ImportError, ImportReport, Inspection, InstanceId, KeyError, KeyState, Now,
    OpenError, Owner, Protection, Pubkey, Quarantine, ReleaseError,
};
use stkr_protocol::api::Watermark;

use crate::exit::{Exit, Failure};

/// What a program remembers of its slashing protection, in another database.
pub trait Memory {
    /// The life used last; `None` if none ever was.
    ///
    /// # Errors
    /// With the exit class of the cause.
    fn instance(&self) -> Result<Option<InstanceId>, Failure>;

    /// The next start expects this life of the database and no other.
    ///
    /// # Errors
    /// With the exit class of the cause.
    fn set_instance(&self, instance: InstanceId) -> Result<(), Failure>;

    /// How far each key has signed, as far as the program noted it beside its slashing protection. It may be behind, never ahead:
    /// a slashing protection that knows less is an old copy.
    ///
    /// # Errors
    /// With the exit class of the cause.
    fn signed(&self) -> Result<Vec<(Pubkey, Signed)>, Failure>;

    /// Keys that the program signs for, as it knows without its slashing protection.
    ///
    /// # Errors
    /// With the exit class of the cause.
    fn keys(&self) -> Result<Vec<Pubkey>, Failure>;
}

/// How far a key has signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signed {
    /// Highest slot of a block.
    pub slot: Option<u64>,
    /// Highest target epoch of an attestation.
    pub target_epoch: Option<u64>,
}

/// `protection ...` of a stopped program.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum HistoryCommand {
    /// Say what is known of every key, as JSON lines
    Status(On),
    /// Write the history as an EIP-3076 interchange file
    Export {
        /// Which program
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
        /// Which program
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
        /// Which program
        #[command(flatten)]
        on: On,
        /// Epochs to keep
        #[arg(long, default_value_t = 512)]
        keep_epochs: u64,
    },
    /// Copy the database; the copy does not sign before an import
    Backup {
        /// Which program
        #[command(flatten)]
        on: On,
        /// New file
        #[arg(long)]
        file: PathBuf,
    },
    /// Put a backup where the database shall be; import what was signed since before it signs
    Restore {
        /// Which program
        #[command(flatten)]
        on: On,
        /// The backup
        #[arg(long)]
        file: PathBuf,
    },
}

/// Which program.
#[derive(Clone, Debug, clap::Args)]
pub struct On {
    /// Configuration file
    #[arg(long)]
    pub config: PathBuf,
}

impl HistoryCommand {
    /// The configuration file it names.
    #[must_use]
    pub fn config(&self) -> &Path {
        let (Self::Status(on)
        | Self::CloseHistory(on)
        | Self::Export { on, .. }
        | Self::Import { on, .. }
        | Self::Prune { on, .. }
        | Self::Backup { on, .. }
        | Self::Restore { on, .. }) = self;
        &on.config
    }

    /// Runs it on a stopped program; what it prints, one JSON object per line.
    ///
    /// # Errors
    /// With the exit class of the cause.
    pub fn run(&self, history: &History<'_>) -> Result<Vec<Value>, Failure> {
        let done = match self {
            Self::Status(_) => return status(history),
            Self::Export { file, pubkeys, .. } => export(history, file, pubkeys)?,
            Self::Import { file, .. } => history.import(file)?,
            Self::CloseHistory(_) => history.close()?,
            Self::Prune { keep_epochs, .. } => history.prune(*keep_epochs)?,
            Self::Backup { file, .. } => {
                history.inspect()?.0.backup(file, &history.program).map_err(backup_failure)?;
                json!({ "backup": file })
            }
            Self::Restore { file, .. } => {
                history.restore(file)?;
                json!({ "restored": history.path, "next": "protection import" })
            }
        };
        Ok(vec![done])
    }
}

/// The slashing protection of a stopped program.
pub struct History<'a> {
    /// Whose it is, for backups: the program, and which one of its kind where that never changes.
    pub program: String,
    /// The database.
    pub path: &'a Path,
    /// The beacon chain it is of.
    pub schedule: &'a ForkSchedule,
    /// Latest slot and epoch that count as reached.
    pub now: Now,
    /// The program's other memory.
    pub memory: &'a dyn Memory,
}

impl std::fmt::Debug for History<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("path", &self.path).field("now", &self.now).finish_non_exhaustive()
    }
}

/// Makes the database of a new program and remembers it.
///
/// # Errors
/// When there is or was one.
pub fn create(path: &Path, schedule: &ForkSchedule, memory: &dyn Memory) -> Result<Protection, Failure> {
    let protection = Protection::create(path, schedule.genesis_validators_root()).map_err(open_failure)?;
    memory.set_instance(protection.instance())?;
    Ok(protection)
}

/// Opens the database for signing.
///
/// # Errors
/// With the sentence of [`OpenError`] and its exit class; unsafe where the program's own database knows of signatures that this
/// one does not: file and witness were both replaced by older ones.
pub fn open(path: &Path, schedule: &ForkSchedule, memory: &dyn Memory) -> Result<Protection, Failure> {
    let protection = unlock(path, schedule, memory)?;
    let keys = protection.keys().map_err(Failure::unavailable)?;
    match old_copy(&keys, memory)? {
        None => Ok(protection),
        Some(reason) => Err(Failure::not_safe(format!(
            "slashing protection {} {reason}; import a newer history with `protection import`, or give up everything up to now with `protection close-history`",
            path.display()
        ))),
    }
}

/// Why these `keys` of a database are not its newest state, as far as the program's own database knows better.
fn old_copy(keys: &[KeyState], memory: &dyn Memory) -> Result<Option<String>, Failure> {
    let keys: HashMap<Pubkey, &KeyState> = keys.iter().map(|key| (key.pubkey, key)).collect();
    for (pubkey, signed) in memory.signed()? {
        let known = match keys.get(&pubkey) {
            // It signs nothing before an import.
            Some(state) if state.needs_import => continue,
            Some(state) => watermark(state.high),
            None => Watermark::default(),
        };
        if signed.slot > known.slot || signed.target_epoch > known.target_epoch {
            return Ok(Some(format!("is an old copy: key {pubkey} has signed more than it knows of")));
        }
    }
    Ok(None)
}

/// Opens the database for commands, which sign nothing.
fn unlock(path: &Path, schedule: &ForkSchedule, memory: &dyn Memory) -> Result<Protection, Failure> {
    let expected = memory.instance()?;
    let protection = Protection::open(path, schedule.genesis_validators_root(), expected).map_err(open_failure)?;
    if expected.is_none() {
        // The program's own database is new; the witness vouches for this file.
        memory.set_instance(protection.instance())?;
    }
    Ok(protection)
}

impl History<'_> {
    /// Opens the database; it is not for signing, so an old copy will do.
    ///
    /// # Errors
    /// With the sentence of [`OpenError`] and its exit class.
    pub fn open(&self) -> Result<Protection, Failure> {
        unlock(self.path, self.schedule, self.memory)
    }

    /// Opens the database to read it, and says why it must not sign if it must not.
    fn inspect(&self) -> Result<(Inspection, Option<String>), Failure> {
        let (root, expected) = (self.schedule.genesis_validators_root(), self.memory.instance()?);
        let mut inspection = Inspection::open(self.path, root, expected).map_err(open_failure)?;
        let reason = match inspection.distrust() {
            Some(distrust) => Some(format!("must not sign: {distrust}")),
            None => old_copy(&inspection.keys().map_err(Failure::unavailable)?, self.memory)?,
        };
        Ok((inspection, reason))
    }

    fn restore(&self, backup: &Path) -> Result<(), Failure> {
        let (instance, keys) = (self.memory.instance()?, self.memory.keys()?);
        let owner = Owner { name: &self.program, instance, keys: &keys };
        stkr_protection::restore(backup, self.path, self.schedule.genesis_validators_root(), &owner)
            .map_err(open_failure)
    }

    fn quarantine(&self) -> Result<Quarantine, Failure> {
        let expected = self.memory.instance()?;
        Quarantine::open(self.path, self.schedule.genesis_validators_root(), expected).map_err(open_failure)
    }

    /// The database if it may sign; `None` if it has to go through the quarantine first. Where the program's own database is lost
    /// with it, a new one: no key signs with that before it is registered, with a history or as closed.
    fn in_service(&self) -> Result<Option<Protection>, Failure> {
        let (root, expected) = (self.schedule.genesis_validators_root(), self.memory.instance()?);
        match Protection::open(self.path, root, expected) {
            Ok(protection) => Ok(Some(protection)),
            Err(OpenError::NeedsImport { .. }) => Ok(None),
            Err(OpenError::NotFound { .. }) if expected.is_none() => {
                Protection::create(self.path, root).map(Some).map_err(open_failure)
            }
            Err(error) => Err(open_failure(error)),
        }
    }

    fn import(&self, file: &Path) -> Result<Value, Failure> {
        let open = || {
            // Its reader knows how long such a file may be.
            let opened = stkr_files::open(file, u64::MAX);
            opened
                .map(|(file, _)| BufReader::new(file))
                .map_err(|error| Failure::usage(format!("cannot read the interchange file {error}")))
        };
        let (report, protection) = match self.in_service()? {
            Some(protection) => (protection.import(open()?, self.now).map_err(import_failure)?, protection),
            None => {
                let mut quarantine = self.quarantine()?;
                let report = quarantine.import(open()?, self.now).map_err(import_failure)?;
                (report, quarantine.release().map_err(release_failure)?)
            }
        };
        self.memory.set_instance(protection.instance())?;
        Ok(imported(report))
    }

    fn close(&self) -> Result<Value, Failure> {
        let failure = |error| match error {
            KeyError::Unregistered(_) => Failure::usage(error),
            KeyError::Unavailable(_) => Failure::unavailable(error),
        };
        let protection = match self.in_service()? {
            Some(protection) => {
                let keys = protection.keys().map_err(Failure::unavailable)?;
                let keys: Vec<Pubkey> = keys.into_iter().map(|key| key.pubkey).collect();
                protection.close_history(&keys, self.now).map_err(failure)?;
                protection.register(&self.memory.keys()?, Some(self.now)).map_err(Failure::unavailable)?;
                protection
            }
            None => {
                let mut quarantine = self.quarantine()?;
                quarantine.close_history(self.now).map_err(failure)?;
                let protection = quarantine.release().map_err(release_failure)?;
                // Keys that the lost file knew and this one does not: everything up to now counts as signed for them too.
                protection.register(&self.memory.keys()?, Some(self.now)).map_err(Failure::unavailable)?;
                protection
            }
        };
        self.memory.set_instance(protection.instance())?;
        Ok(json!({ "closedUpTo": { "slot": self.now.slot.to_string(), "epoch": self.now.epoch.to_string() } }))
    }

    fn prune(&self, keep_epochs: u64) -> Result<Value, Failure> {
        let epoch = self.now.epoch.saturating_sub(keep_epochs);
        let keep = Now { slot: epoch.saturating_mul(self.schedule.preset().slots_per_epoch()), epoch };
        let deleted = self.open()?.prune(keep).map_err(Failure::unavailable)?;
        Ok(json!({ "deleted": deleted, "keptFromEpoch": epoch.to_string() }))
    }
}

/// A watermark as every program says it.
#[must_use]
pub fn watermark(mark: stkr_protection::Watermark) -> Watermark {
    Watermark {
        slot: mark.slot,
        source_epoch: mark.epochs.map(|epochs| epochs.source_epoch),
        target_epoch: mark.epochs.map(|epochs| epochs.target_epoch),
    }
}

/// One key of `status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyLine {
    pubkey: Pubkey,
    active: bool,
    needs_import: bool,
    low: Watermark,
    high: Watermark,
}

/// One line per key; before them, of a database that must not sign, why.
fn status(history: &History<'_>) -> Result<Vec<Value>, Failure> {
    let (mut inspection, reason) = history.inspect()?;
    let quarantined = reason.map(|reason| Ok(json!({ "quarantined": true, "reason": reason })));
    let line = |key: KeyState| {
        let KeyState { pubkey, active, needs_import, low, high } = key;
        let line = KeyLine { pubkey, active, needs_import, low: watermark(low), high: watermark(high) };
        serde_json::to_value(line).map_err(Failure::refused)
    };
    let keys = inspection.keys().map_err(Failure::unavailable)?;
    quarantined.into_iter().chain(keys.into_iter().map(line)).collect()
}

/// Says, where a person reads it and no program does, that a file is not what it is usually taken for.
fn warn(sentence: &str) {
    // Who closed standard error does not want to know.
    let _ = writeln!(std::io::stderr().lock(), "warning: {sentence}");
}

fn export(history: &History<'_>, file: &Path, pubkeys: &[Pubkey]) -> Result<Value, Failure> {
    let (mut inspection, reason) = history.inspect()?;
    let cannot = |error: std::io::Error| Failure::usage(format!("cannot write {}: {error}", file.display()));
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(cannot)?;
    let keys = if pubkeys.is_empty() { None } else { Some(pubkeys) };
    let report = inspection.export(&mut new, keys).map_err(|error| match error {
        ExportError::Write(_) | ExportError::Unavailable(_) => Failure::unavailable(error),
        ExportError::Unregistered(_) => Failure::usage(error),
        ExportError::NeedsImport(_) => Failure::not_safe(error),
    })?;
    new.sync_all().map_err(Failure::unavailable)?;
    if let Some(reason) = &reason {
        warn(&format!(
            "{} may lack the newest signatures, because the history it comes from {reason}; whoever imports it must not sign before everything up to now counts as signed there",
            file.display()
        ));
    }
    let ExportReport { keys, blocks, attestations, left_out } = report;
    let incomplete = reason.is_some();
    Ok(json!({
        "exported": file,
        "keys": keys,
        "blocks": blocks,
        "attestations": attestations,
        "leftOut": left_out,
        "mayBeIncomplete": incomplete,
    }))
}

/// `contradictory`: keys with records that contradict the history, all of which count as signed. `vouched`: keys that may sign
/// again. `outdated`: keys of which the file knows less than the database, still in doubt.
fn imported(report: ImportReport) -> Value {
    let ImportReport { keys, registered, blocks, attestations, contradictory, vouched, outdated } = report;
    json!({
        "keys": keys,
        "registered": registered,
        "blocks": blocks,
        "attestations": attestations,
        "contradictory": contradictory,
        "vouched": vouched,
        "outdated": outdated,
    })
}

/// How a program ends that cannot open the database.
#[must_use]
pub fn open_failure(error: OpenError) -> Failure {
    let exit = match &error {
        OpenError::Exists { .. } | OpenError::Trusted { .. } | OpenError::File(_) | OpenError::Backup { .. } => {
            Exit::Usage
        }
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

/// How a program ends that cannot take in an interchange file.
#[must_use]
pub fn import_failure(error: ImportError) -> Failure {
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
