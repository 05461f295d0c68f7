//! Slashing protection of a stopped server, from the command line.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use alloy::primitives::Address;
use serde::Serialize;
use stkr_chain::Deployment;
use stkr_duties::ForkSchedule;
use stkr_node::config::{self, ProgramConfig as _};
use stkr_node::exit::{Exit, Failure};
use stkr_node::history::{self, History, HistoryCommand, Memory, On, Signed};
use stkr_protection::{InstanceId, Now, Protection, Pubkey};
use stkr_protocol::ProtocolDomain;
use stkr_protocol::evidence::Proof;

use crate::config::ServerConfig;
use crate::conflicts::Conflicts;
use crate::duty::Policy;
use crate::signers;
use crate::store::{DutyRow, Owner, Store, StoreError};

/// `stkr-server protection …`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ProtectionCommand {
    /// Make the database of a server that was set up without a beacon chain; everything up to now counts as signed
    Create(On),
    /// What every program with slashing protection has.
    #[command(flatten)]
    History(HistoryCommand),
}

/// A stopped server, as these commands see it.
pub(crate) struct Stopped {
    path: PathBuf,
    schedule: ForkSchedule,
    /// Its first signer, which backups are named after whatever came later.
    signer: Address,
    pub(crate) store: Store,
}

impl ProtectionCommand {
    /// Runs the command; results go to stdout as JSON.
    ///
    /// # Errors
    /// With the exit class of the cause.
    pub fn run(&self) -> eyre::Result<()> {
        let config = match self {
            Self::Create(On { config }) => config,
            Self::History(command) => command.config(),
        };
        let stopped = Stopped::of(&config::load::<ServerConfig>(config).map_err(Failure::usage)?)?;
        match self {
            Self::Create(_) => create(&stopped),
            Self::History(command) => command.run(&stopped.history())?.iter().try_for_each(say),
        }
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
        let store = store_of(config)?;
        let signers = store.signers().map_err(|error| store_failure(&error))?;
        let signer = signers.iter().find(|row| row.own).map(|row| row.signer).unwrap_or_default();
        Ok(Self { path: config.files.protection.clone(), schedule, signer, store })
    }
}

/// Opens the database of the server with this configuration.
fn store_of(config: &ServerConfig) -> eyre::Result<Store> {
    let deployment = Deployment::load(&config.chain.deployment).map_err(Failure::usage)?;
    let signer = signers::read_key(&config.files.signer_key)?.address();
    let owner = Owner { signer, chain_id: deployment.chain_id, key_registry: deployment.key_registry };
    if !config.files.database.exists() {
        let file = config.files.database.display();
        return Err(Failure::usage(format!("there is no database at {file}; `run` makes one")).into());
    }
    Ok(Store::open(&config.files.database, &owner, 0).map_err(|error| store_failure(&error))?)
}

impl Stopped {
    fn history(&self) -> History<'_> {
        let program = format!("{} {}", ServerConfig::PROGRAM, self.signer);
        History { program, path: &self.path, schedule: &self.schedule, now: self.now(), memory: &self.store }
    }

    pub(crate) fn open(&self) -> eyre::Result<Protection> {
        Ok(self.history().open()?)
    }

    pub(crate) fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let policy = Policy { schedule: self.schedule.clone(), sign_unproven_blocks: false };
        policy.present(unix).unwrap_or(Now { slot: 0, epoch: 0 })
    }
}

impl Memory for Store {
    fn instance(&self) -> Result<Option<InstanceId>, Failure> {
        self.protection().map_err(|error| store_failure(&error))
    }

    fn set_instance(&self, instance: InstanceId) -> Result<(), Failure> {
        self.set_protection(instance).map_err(|error| store_failure(&error))
    }

    fn signed(&self) -> Result<Vec<(Pubkey, Signed)>, Failure> {
        Self::signed(self).map_err(|error| store_failure(&error))
    }

    fn keys(&self) -> Result<Vec<Pubkey>, Failure> {
        let shares = self.all_shares().map_err(|error| store_failure(&error))?;
        Ok(shares.iter().map(|(_, share)| share.group_key.into()).collect())
    }
}

fn create(stopped: &Stopped) -> eyre::Result<()> {
    if stopped.store.instance()?.is_some() {
        let sentence = "this server has used slashing protection before; if the file is lost, import its history with `stkr-server protection import`";
        return Err(Failure::not_safe(sentence).into());
    }
    let protection = history::create(&stopped.path, &stopped.schedule, &stopped.store)?;
    let registered = protection.register(&stopped.store.keys()?, Some(stopped.now())).map_err(Failure::unavailable)?;
    say(&serde_json::json!({ "created": stopped.path, "keys": registered }))
}

/// `stkr-server evidence`: prints every kept request for a block or an attestation, oldest first, one JSON object per line.
///
/// # Errors
/// With the exit class of the cause.
pub fn print_evidence(config: &Path) -> eyre::Result<()> {
    let config = config::load::<ServerConfig>(config).map_err(Failure::usage)?;
    store_of(&config)?.duties(|row: &DutyRow| say(row))
}

/// Writes `provider-KEY-ASSIGNMENT-NUMBER.json` into `folder`, which is made where there is none, for every assignment in which
/// duties that conflict were asked for, and prints each name as `{"file":…}`.
///
/// # Errors
/// With the exit class of the cause.
pub fn write_conflicts(config: &Path, folder: &Path) -> eyre::Result<()> {
    let config = config::load::<ServerConfig>(config).map_err(Failure::usage)?;
    let deployment = config.chain.network.load(&config.chain.deployment).map_err(Failure::usage)?;
    let mut conflicts = Conflicts::default();
    store_of(&config)?.duties(|row: &DutyRow| -> eyre::Result<()> {
        conflicts.add(row);
        Ok(())
    })?;
    let unwritable = |error: std::io::Error| Failure::usage(format!("cannot write to {}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(unwritable)?;
    let domain = ProtocolDomain { chain_id: deployment.chain_id, key_registry: deployment.key_registry };
    for (number, file) in (1_u32..).zip(conflicts.files(&domain, deployment.court)) {
        let Proof::ProviderEquivocation(proof) = &file.proof else { continue };
        let name = format!("provider-{}-{}-{number}.json", proof.first.key_id, proof.first.assignment);
        let path = folder.join(name);
        std::fs::write(&path, serde_json::to_vec(&file)?).map_err(unwritable)?;
        say(&serde_json::json!({ "file": path }))?;
    }
    Ok(())
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
