//! `stkr-server`: see the library.

use std::io::Write as _;
use std::process::ExitCode;

use alloy::primitives::Address;
use clap::{CommandFactory as _, Parser};
use clap_complete::Shell;
use stkr_node::config::ConfigCommand;
use stkr_node::exit::{self, Exit};
use stkr_server::config::ServerConfig;
use stkr_server::dealt::ImportShareArgs;
use stkr_server::offline::OfflineCommand;
use stkr_server::protection::{self, ProtectionCommand};
use stkr_server::rotation::DeleteSignerArgs;
use stkr_server::run::RunArgs;
use stkr_server::setup::{InitArgs, NewSignerArgs, VoteSilentArgs};
use stkr_server::{api, dealt, rotation, run, setup};

/// A Stkr threshold server
///
/// Exit codes: 0 done, 1 refused, 2 usage, 3 unavailable, 4 unsafe.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make keys, certificate, database and configuration of a new server; prints what to register
    Init(InitArgs),
    /// Print the arguments with which an operator registers this server, as JSON
    RegisterArgs {
        /// Configuration file
        #[arg(long)]
        config: std::path::PathBuf,
        /// Account that will send the registration
        #[arg(long)]
        operator: Address,
    },
    /// Make this server's next signer key and print what tells the registry of it, as JSON; the server may run
    NewSigner(NewSignerArgs),
    /// Print this server's signers, which shares each still signs for, and until when it is to be kept, as JSON; the server has to run
    Signers {
        /// Configuration file
        #[arg(long)]
        config: std::path::PathBuf,
    },
    /// Delete the key of an earlier signer, if nothing needs it any more; the server has to run
    DeleteSigner(DeleteSignerArgs),
    /// Serve
    Run(RunArgs),
    /// Slashing protection; stop the server first
    #[command(subcommand)]
    Protection(ProtectionCommand),
    /// Print the requests for blocks and attestations that were kept as evidence, as JSON lines; stop the server first
    Evidence {
        /// Configuration file
        #[arg(long)]
        config: std::path::PathBuf,
        /// Write a file that convicts its provider, for `stkr evidence submit`, into this folder for every assignment of a key in which
        /// two duties that conflict were asked for, and print the names of these files instead
        #[arg(long, value_name = "FOLDER")]
        conflicts: Option<std::path::PathBuf>,
    },
    /// Print this server's vote that another member of a key's committee is silent, as JSON, for `stkr reshare vote`
    VoteSilent(VoteSilentArgs),
    /// Print the key to which a dealer encrypts this server's share of a dealt key, as JSON
    ImportKey {
        /// Configuration file
        #[arg(long)]
        config: std::path::PathBuf,
        /// Signer that signs it, where the server has keys of several: the one that the registry names now
        #[arg(long)]
        signer: Option<Address>,
    },
    /// Import the share of a dealt key with its slashing history; prints the acknowledgement. Stop the server first
    ImportShare(ImportShareArgs),
    /// A server without network: takes part in keys by files that are carried to it and back
    #[command(subcommand)]
    Offline(OfflineCommand),
    /// Configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the OpenAPI description of the HTTP API
    Openapi,
    /// Print shell completions
    Completions {
        /// Shell
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    match execute(cli.command) {
        Ok(()) => Exit::Done.into(),
        Err(error) => exit::report("stkr-server", &error),
    }
}

fn execute(command: Command) -> eyre::Result<()> {
    match command {
        Command::Init(args) => print(&setup::init(&args)?),
        Command::RegisterArgs { config, operator } => print(&setup::register_args(&config, operator)?),
        Command::NewSigner(args) => print(&setup::new_signer(&args)?),
        Command::Signers { config } => print(&runtime()?.block_on(rotation::signers(&config))?),
        Command::DeleteSigner(args) => print(&runtime()?.block_on(rotation::delete_signer(&args))?),
        Command::Run(args) => runtime()?.block_on(run::run(&args)),
        Command::Protection(command) => command.run(),
        Command::Evidence { config, conflicts: None } => protection::print_evidence(&config),
        Command::Evidence { config, conflicts: Some(folder) } => protection::write_conflicts(&config, &folder),
        Command::VoteSilent(args) => print(&setup::vote_silent(&args)?),
        Command::ImportKey { config, signer } => print(&dealt::import_key(&config, signer)?),
        Command::ImportShare(args) => dealt::import_shares(&args)?.iter().try_for_each(print),
        Command::Offline(command) => command.run(),
        Command::Config(command) => command.run::<ServerConfig>(),
        Command::Openapi => Ok(write!(std::io::stdout().lock(), "{}", api::openapi_json()?)?),
        Command::Completions { shell } => {
            // It panics if it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "stkr-server", &mut script);
            Ok(std::io::stdout().lock().write_all(&script)?)
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

fn print(value: &impl serde::Serialize) -> eyre::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(value)?)?)
}
