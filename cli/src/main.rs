//! `stkr`: Stkr on the command line, for partners, providers and stakers.
//!
//! Thin: arguments in, [`stkr_sdk`] calls, tables or JSON out. What is printed and how it ends is in docs/cli.md.

mod args;
mod commands;
mod config;
mod context;
mod failure;
mod keystore;
mod output;
mod signer;

use std::process::ExitCode;

use clap::{Parser as _, error::ErrorKind};
use stkr_node::exit::Exit;

use crate::{args::Cli, failure::Failure, output::Output};

/// Bytes of stack, as a main thread has them. The futures of all commands are one future, and in a debug build each step into it copies
/// what it holds: with the 2 MiB of other threads some writes overflowed.
const STACK: usize = 8 << 20;

fn main() -> ExitCode {
    let json = std::env::args_os().any(|argument| argument == "--json");
    let output = Output::new(json);
    // A bug must not spill memory addresses or paths of the build machine over somebody's terminal.
    std::panic::set_hook(Box::new(move |_| {
        let hint = "please report what you ran, without secrets; look at the chain before you run it again";
        output.failure(&Failure { code: "bug", ..Failure::not_safe("stkr has a bug and stopped", hint) });
    }));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            output.text(&error.render().to_string());
            return Exit::Done.into();
        }
        Err(error) => return output.failure(&Failure::from_arguments(&error)),
    };
    let result = std::thread::Builder::new().name("stkr".into()).stack_size(STACK).spawn(move || run(cli, &output));
    match result.map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        Ok(Err(_)) | Err(_) => Exit::Unsafe.into(),
    }
}

fn run(cli: Cli, output: &Output) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output.failure(&Failure::unavailable(format!("cannot start: {error}"), "try again")),
    };
    match runtime.block_on(commands::run(cli, output)) {
        Ok(()) => Exit::Done.into(),
        Err(failure) => output.failure(&failure),
    }
}
