//! `cargo xtask bench`: criterion benches of core, gas snapshots of the contracts, and whole networks under load. Kept apart
//! from tests.

use crate::run;
use eyre::Result;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// Only benches whose name contains this.
    filter: Option<String>,
    /// Rewrite snapshots/ instead of benching.
    #[arg(long)]
    gas: bool,
    #[command(subcommand)]
    network: Option<Network>,
}

#[derive(clap::Subcommand)]
enum Network {
    /// One epoch of the duties of many validators: a gateway, four servers, a chain, and who asks, on this machine.
    #[command(disable_help_flag = true)]
    Duties {
        /// See `cargo xtask bench duties --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Keys made and reshared among 4, 7, 10 and 13 servers: time, CPU per server, bytes, gas.
    #[command(disable_help_flag = true)]
    Ceremonies {
        /// See `cargo xtask bench ceremonies --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.network {
        Some(Network::Duties { args }) => return run::load("load", &["stkr-server", "stkr-gateway"], args),
        Some(Network::Ceremonies { args }) => return run::load("ceremonies", &["stkr-server", "stkr-relayer"], args),
        None => {}
    }
    if args.gas {
        run::node_packages()?;
        let mut command = run::command("forge")?;
        command.args(["test", "--match-path", "tests/contracts/gas/*"]);
        return run::run_command(command.env("FOUNDRY_PROFILE", "snapshot").env("FORGE_SNAPSHOT_CHECK", "false"));
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut words = vec!["bench", "--locked", "--package", "stkr-core", "--features", "testing", "--"];
    words.extend(args.filter.as_deref());
    run::run(&cargo, &words)
}
