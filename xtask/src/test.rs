//! `cargo xtask test`: everything that is meant to fit in 25 minutes on two cores. `--full` adds the long ones.

use crate::{bite, run};
use eyre::Result;
use std::time::Instant;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also the long ones: every defence taken out once, static analysis.
    #[arg(long)]
    full: bool,
}

/// A name for people, and what it does.
type Step = (&'static str, fn() -> Result<()>);

pub(crate) fn run(args: &Args) -> Result<()> {
    let steps: &[Step] = &[
        ("npm packages", run::node_packages_of_tests),
        ("binaries", run::build_binaries),
        ("contracts: unit, fuzz, invariants", contracts),
        ("contracts: gas snapshots and budgets", gas),
        ("abi/ against the contracts", || run::abi(true)),
        ("crates: unit, conformance, end to end", crates),
    ];
    let long: &[Step] = &[("every defence bites", || bite::run(&bite::Args::all())), ("slither", slither)];
    for (name, step) in steps.iter().chain(long.iter().filter(|_| args.full)) {
        let start = Instant::now();
        eprintln!("== {name}");
        step()?;
        eprintln!("== {name}: {} s", start.elapsed().as_secs());
    }
    Ok(())
}

fn contracts() -> Result<()> {
    run::run("forge", &["test", "--no-match-path", "tests/contracts/gas/*"])
}

/// Gas is exact: any difference from snapshots/ fails, and so does a budget of the gas tests.
fn gas() -> Result<()> {
    let mut command = run::command("forge")?;
    command.args(["test", "--match-path", "tests/contracts/gas/*"]);
    run::run_command(command.env("FOUNDRY_PROFILE", "snapshot").env("FORGE_SNAPSHOT_CHECK", "true"))
}

fn crates() -> Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    run::run(&cargo, &["test", "--workspace", "--locked"])
}

/// Slither in a pinned virtual environment under target/.
fn slither() -> Result<()> {
    let venv = run::root().join("target/venv");
    let bin = |name: &str| venv.join("bin").join(name).to_string_lossy().into_owned();
    if !venv.join("bin/slither").exists() {
        run::run("python3", &["-m", "venv", &venv.to_string_lossy()])?;
        run::run(&bin("pip"), &["install", "--quiet", "--requirement", "tests/requirements.txt"])?;
    }
    run::run(&bin("slither"), &[".", "--config-file", "tests/slither.json"])
}
