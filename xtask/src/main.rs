//! The project's own tasks. `cargo xtask devnet` runs the main path on this machine, `cargo xtask test` proves it,
//! `cargo xtask lint` keeps the house in order. Each installs the npm packages it needs itself.

mod bench;
mod bite;
mod crates;
mod fuzz;
mod halmos;
mod kills;
mod lint;
mod python;
mod run;
mod schemathesis;
mod slither;
mod test;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the Stkr workspace")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Start a whole network on this machine and take a pool from 64 stakes to its deposit; with `--lodestar` a validator
    /// client that signs through it.
    #[command(disable_help_flag = true)]
    Devnet {
        /// See `cargo xtask devnet --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run the unit, fuzz, invariant, conformance and end-to-end tests; `--full` adds the long ones.
    Test(test::Args),
    /// Criterion benches and gas snapshots.
    Bench(bench::Args),
    /// rustfmt, clippy, forge fmt, and the arrows between crates.
    Lint,
    /// Take out one defence after another and see that the test it names fails.
    Bite(bite::Args),
    /// Write abi/*.json again from the release build.
    Abi,
}

fn main() -> ExitCode {
    let done = match Args::parse().task {
        Task::Devnet { args } => run::devnet(&args),
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Lint => lint::run(),
        Task::Bite(args) => bite::run(&args),
        Task::Abi => run::node_packages().and_then(|()| run::abi(false)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
