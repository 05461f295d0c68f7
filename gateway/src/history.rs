//! `stkr-gateway protection ...`: the slashing protection database while the gateway is stopped.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use eyre::WrapErr as _;
use serde::Serialize;
use stkr_duties::{Epoch, ForkSchedule};
use stkr_node::config;
use stkr_node::exit::{Exit, Failure};
use stkr_protection::{
    ImportError, ImportReport, KeyState, Now, OpenError, Protection, Pubkey, Quarantine, ReleaseError, Watermark,
};

use crate::clock;
use crate::config::GatewayConfig;
use crate::setup::open_store;
use crate::store::Store;

/// Epochs of history that `prune` keeps unless told otherwise: about four weeks.
const KEEP_EPOCHS: u64 = 6_300;

/// Work on the slashing protection database of a stopped gateway
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ProtectionCommand {
    /// Merge an EIP-3076 interchange file into the history; also what puts a lost or restored database back in service
    Import {
        /// Configuration file
        #[arg(long)]
        config: PathBuf,
        /// Interchange file
        #[arg(long)]
        file: PathBuf,
    },
    /// Write the history of all keys as an EIP-3076 interchange file
    Export {
        /// Configuration file
        #[arg(long)]
        config: PathBuf,
        /// File to write; it must not exist
        #[arg(long)]
        file: PathBuf,
    },
    /// Delete old records; the watermarks rise over them, so nothing becomes signable
    Prune {
        /// Configuration file
        #[arg(long)]
        config: PathBuf,
        /// Epochs to keep
        #[arg(long, default_value_t = KEEP_EPOCHS)]
        keep_epochs: u64,
    },
    /// What is known of every key
    Status {
        /// Configuration file
        #[arg(long)]
        config: PathBuf,
    },
}

/// Answer of `import`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Imported {
    keys: u64,
    registered: u64,
    blocks: u64,
    attestations: u64,
    /// Keys with records that contradict the history; all of them count as signed.
    contradictory: Vec<Pubkey>,
    /// Keys that may sign again.
    vouched: Vec<Pubkey>,
    /// Keys of which the file knows less than the database: still in doubt.
    outdated: Vec<Pubkey>,
}

impl From<ImportReport> for Imported {
    fn from(report: ImportReport) -> Self {
        let ImportReport { keys, registered, blocks, attestations, contradictory, vouched, outdated } = report;
        Self { keys, registered, blocks, attestations, contradictory, vouched, outdated }
    }
}

/// Answer of `export`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Exported {
    keys: u64,
    blocks: u64,
    attestations: u64,
    /// Keys in doubt.
    left_out: Vec<Pubkey>,
}

/// One key of `status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyLine {
    pubkey: Pubkey,
    active: bool,
    needs_import: bool,
    low: Mark,
    high: Mark,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    slot: Option<String>,
    source_epoch: Option<String>,
    target_epoch: Option<String>,
}

impl From<Watermark> for Mark {
    fn from(mark: Watermark) -> Self {
        Self {
            slot: mark.slot.map(|slot| slot.to_string()),
            source_epoch: mark.epochs.map(|epochs| epochs.source_epoch.to_string()),
            target_epoch: mark.epochs.map(|epochs| epochs.target_epoch.to_string()),
        }
    }
}

impl From<KeyState> for KeyLine {
    fn from(key: KeyState) -> Self {
        let KeyState { pubkey, active, needs_import, low, high } = key;
        Self { pubkey, active, needs_import, low: low.into(), high: high.into() }
    }
}

impl ProtectionCommand {
    /// Runs the command and gives what it prints, as JSON.
    ///
    /// # Errors
    /// With their exit class.
    pub fn run(&self) -> eyre::Result<serde_json::Value> {
        let (Self::Import { config, .. }
        | Self::Export { config, .. }
        | Self::Prune { config, .. }
        | Self::Status { config }) = self;
        let config = config::read::<GatewayConfig>(config).map_err(Failure::usage)?;
        let schedule = config.schedule().map_err(Failure::usage)?;
        let store = open_store(&config)?;
        let path = &config.storage.protection;
        match self {
            Self::Import { file, .. } => json(&import(path, &schedule, &store, file)?),
            Self::Export { file, .. } => json(&export(&open(path, &schedule, &store)?, file)?),
            Self::Prune { keep_epochs, .. } => {
                let now = clock::now(&schedule);
                let epoch = now.epoch.saturating_sub(*keep_epochs);
                let first = |slot: u64| schedule.epoch_at(stkr_duties::Slot(slot)) >= Epoch(epoch);
                // The first slot of the epoch, whatever the preset.
                let slot = partition(now.slot, first);
                let deleted =
                    open(path, &schedule, &store)?.prune(Now { slot, epoch }).map_err(Failure::unavailable)?;
                Ok(serde_json::json!({"deleted": deleted, "keptFromEpoch": epoch.to_string()}))
            }
            Self::Status { .. } => {
                let keys = open(path, &schedule, &store)?.keys().map_err(Failure::unavailable)?;
                json(&keys.into_iter().map(KeyLine::from).collect::<Vec<_>>())
            }
        }
    }
}

/// Least number in 0..=last that `holds`, which must hold from some number on.
fn partition(last: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, last);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

fn json(value: &impl Serialize) -> eyre::Result<serde_json::Value> {
    Ok(serde_json::to_value(value)?)
}

/// The database, if it may sign.
///
/// # Errors
/// With the exit class: one in use is unavailable, one in doubt is unsafe.
pub fn open(path: &Path, schedule: &ForkSchedule, store: &Store) -> eyre::Result<Protection> {
    let expected = store.instance().map_err(Failure::not_safe)?;
    let opened = Protection::open(path, schedule.genesis_validators_root(), expected);
    let protection = opened.map_err(|error| open_failure(&error))?;
    store.set_instance(protection.instance()).map_err(Failure::unavailable)?;
    Ok(protection)
}

/// How a program ends that cannot open the database.
pub(crate) fn open_failure(error: &OpenError) -> Failure {
    let exit = match error {
        OpenError::InUse { .. } | OpenError::Io { .. } | OpenError::Unavailable(_) => Exit::Unavailable,
        _ => Exit::Unsafe,
    };
    Failure::new(exit, error)
}

fn import(path: &Path, schedule: &ForkSchedule, store: &Store, file: &Path) -> eyre::Result<Imported> {
    let read = || File::open(file).map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())));
    let (root, now) = (schedule.genesis_validators_root(), clock::now(schedule));
    let expected = store.instance().map_err(Failure::not_safe)?;
    let failed = |error: ImportError| match error {
        ImportError::Unavailable(error) => Failure::unavailable(error),
        error => Failure::refused(error),
    };
    let (report, protection) = match Protection::open(path, root, expected) {
        Ok(protection) => (protection.import(read()?, now).map_err(failed)?, protection),
        Err(OpenError::NeedsImport { .. }) => {
            let mut quarantine = Quarantine::open(path, root, expected).map_err(|error| open_failure(&error))?;
            let report = quarantine.import(read()?, now).map_err(failed)?;
            let released = quarantine.release().map_err(|error| match error {
                ReleaseError::Unavailable(error) => Failure::unavailable(error),
                error => Failure::not_safe(error),
            })?;
            (report, released)
        }
        Err(error) => return Err(open_failure(&error).into()),
    };
    store.set_instance(protection.instance()).map_err(Failure::unavailable)?;
    Ok(report.into())
}

fn export(protection: &Protection, file: &Path) -> eyre::Result<Exported> {
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(|error| Failure::usage(format!("cannot write {}: {error}", file.display())))?;
    let report = protection.export(&mut out, None).map_err(Failure::unavailable)?;
    out.sync_all().wrap_err("writing the interchange file")?;
    let stkr_protection::ExportReport { keys, blocks, attestations, left_out } = report;
    Ok(Exported { keys, blocks, attestations, left_out })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_slot_of_an_epoch_is_found() {
        let schedule = ForkSchedule::mainnet();
        for (epoch, slot) in [(0, 0), (1, 32), (100, 3_200)] {
            let first = |at: u64| schedule.epoch_at(stkr_duties::Slot(at)) >= Epoch(epoch);
            assert_eq!(partition(1_000_000, first), slot);
        }
    }
}
