//! `cargo xtask devnet`: the product's main path on a real chain with real parts, step by step.
#![allow(clippy::print_stdout, reason = "the last line on stdout is this program's result")]

mod pool;
mod validators;

use clap::Parser;
use eyre::Result;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
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

#[derive(Serialize)]
struct Step {
    name: &'static str,
    ms: u128,
}

/// Times steps and says on stderr what happens.
#[derive(Default)]
struct Progress {
    steps: Vec<Step>,
}

impl Progress {
    fn done(&mut self, name: &'static str, since: Instant, detail: &str) {
        let ms = since.elapsed().as_millis();
        eprintln!("[{}] {name}: {detail} ({ms} ms)", self.steps.len() + 1);
        self.steps.push(Step { name, ms });
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

fn run(args: &Args) -> Result<()> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => workspace_root().join("target/devnet").join(std::process::id().to_string()),
    };
    std::fs::create_dir_all(&dir)?;
    let dir = dir.canonicalize()?;
    // One thread starts every process, and they die with it (see `leash`): it must live as long as the network.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if args.lodestar { runtime.block_on(validators::run(args, &dir)) } else { runtime.block_on(pool::run(args, &dir)) }
}
