//! `stkr-gateway protection ...`: the slashing protection database while the gateway is stopped.

use stkr_node::config::{self, ProgramConfig as _};
use stkr_node::exit::Failure;
use stkr_node::history::{History, HistoryCommand, Memory, Signed};
use stkr_protection::{InstanceId, Pubkey};

use crate::clock;
use crate::config::GatewayConfig;
use crate::setup::open_store;
use crate::store::Store;

impl Memory for Store {
    fn instance(&self) -> Result<Option<InstanceId>, Failure> {
        Self::instance(self).map_err(Failure::not_safe)
    }

    fn set_instance(&self, instance: InstanceId) -> Result<(), Failure> {
        Self::set_instance(self, instance).map_err(Failure::unavailable)?;
        // What was imported or closed looks like votes of this gateway, and is none: the next start is not a prompt one.
        self.forget_cleared().map_err(Failure::unavailable)
    }

    fn signed(&self) -> Result<Vec<(Pubkey, Signed)>, Failure> {
        Self::signed(self).map_err(Failure::not_safe)
    }

    fn keys(&self) -> Result<Vec<Pubkey>, Failure> {
        Ok(self.served().map_err(Failure::not_safe)?.into_iter().collect())
    }
}

/// Runs the command on the stopped gateway that it names; what it prints, one JSON object per line.
///
/// # Errors
/// With their exit class.
pub fn run(command: &HistoryCommand) -> eyre::Result<Vec<serde_json::Value>> {
    let config = config::read::<GatewayConfig>(command.config()).map_err(Failure::usage)?;
    let schedule = config.schedule().map_err(Failure::usage)?;
    let store = open_store(&config)?;
    let history = History {
        // Duty keys come and go: which gateway it is shows only in the keys it serves.
        program: GatewayConfig::PROGRAM.to_owned(),
        path: &config.storage.protection,
        schedule: &schedule,
        now: clock::now(&schedule),
        memory: &store,
    };
    Ok(command.run(&history)?)
}
