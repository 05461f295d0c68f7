//! `cargo xtask devnet`: the product's main path on a real chain with real parts, step by step.
#![allow(clippy::print_stdout, reason = "the last line on stdout is this program's result")]

mod adversary;
mod pool;
mod validators;
mod withdrawal;

use clap::Parser;
use eyre::{Result, WrapErr as _};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use stkr_e2e::process::workspace_root;

#[derive(Parser)]
#[command(
    name = "cargo xtask devnet",
    about = "A whole network on this machine: from 64 stakes to a deposit, or a validator client that signs through it"
)]
struct Args {
    /// Stop after the checker and print one JSON line; exit 0 only if the checker agrees.
    #[arg(long)]
    once: bool,
    /// Print the JSON line, too, and stay up.
    #[arg(long, conflicts_with = "once")]
    keep: bool,
    /// Instead of a pool: a stock validator client (Lodestar) whose 16 validators sign through the network, until their chain
    /// finalises whatever happens to one server.
    #[arg(long)]
    lodestar: bool,
    /// Instead of a pool: one fault of a server or a provider, from its detection to the signature that is made without the culprit;
    /// `list` prints all.
    #[arg(long, value_name = "FAULT", conflicts_with_all = ["lodestar", "keep"])]
    adversary: Option<String>,
    /// With --adversary: the Court has no code, so nothing can be punished (the test of that takes it away).
    #[arg(long, hide = true, requires = "adversary")]
    without_court: bool,
    /// Where the network keeps its files; a fresh folder under target/devnet unless given.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Milliseconds between blocks.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    block_ms: u64,
    /// Print the line without running the checker (the checker's own test feeds it tampered ones).
    #[arg(long, hide = true)]
    unchecked: bool,
}

/// Columns of a fault's name where all are listed.
const STEP_WIDTH: usize = 22;

#[derive(Serialize)]
struct Step {
    name: &'static str,
    ms: u128,
}

/// Times steps and says on stderr what happens.
#[derive(Default)]
struct Progress {
    steps: Vec<Step>,
    told: usize,
}

impl Progress {
    fn done(&mut self, name: &'static str, since: Instant, detail: &str) {
        let ms = since.elapsed().as_millis();
        eprintln!("[{}] {name}: {detail} ({ms} ms)", self.steps.len() + 1);
        self.steps.push(Step { name, ms });
    }

    /// The same for what was timed elsewhere.
    fn took(&mut self, name: &str, took: Duration, detail: &str) {
        self.told += 1;
        eprintln!("[{}] {name}: {detail} ({} ms)", self.told, took.as_millis());
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("devnet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The folder for everything that this network writes, made where it is missing.
fn folder(dir: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(dir)
        .and_then(|()| dir.canonicalize())
        .wrap_err_with(|| format!("there can be no folder {}: give another with --dir", dir.display()))
}

fn run(args: &Args) -> Result<()> {
    let fault = match args.adversary.as_deref() {
        Some("list") => return adversary::list(),
        Some(name) => Some(adversary::named(name)?),
        None => None,
    };
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => workspace_root().join("target/devnet").join(std::process::id().to_string()),
    };
    let dir = match folder(&dir) {
        Ok(dir) => dir,
        Err(error) => {
            if let Some(fault) = fault {
                adversary::ended_before(fault, &error);
            }
            return Err(error);
        }
    };
    // One thread starts every process, and they die with it (see `leash`): it must live as long as the network.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(fault) = fault {
        return runtime.block_on(adversary::run(args, fault, &dir));
    }
    if args.lodestar { runtime.block_on(validators::run(args, &dir)) } else { runtime.block_on(pool::run(args, &dir)) }
}
