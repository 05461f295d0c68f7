//! `cargo xtask bench`: criterion benches of core and gas snapshots of the contracts. Kept apart from tests.

use crate::run;
use eyre::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only benches whose name contains this.
    filter: Option<String>,
    /// Rewrite snapshots/ instead of benching.
    #[arg(long)]
    gas: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
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
