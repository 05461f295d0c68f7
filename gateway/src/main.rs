//! `stkr-gateway`: see the library.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use clap_complete::Shell;
use stkr_gateway::config::GatewayConfig;
use stkr_gateway::setup::{DutyArgs, InitArgs};
use stkr_gateway::{api, app, history, setup};
use stkr_node::config::{self, ConfigCommand};
use stkr_node::exit::{self, Exit, Failure};
use stkr_node::history::HistoryCommand;
use stkr_node::logs::{self, LogFormat};
use stkr_node::shutdown::Shutdown;
use stkr_node::tls;

/// Web3Signer for validator keys that no machine holds
///
/// Exit codes: 0 done, 1 refused, 2 usage, 3 unavailable, 4 unsafe.
#[derive(Debug, Parser)]
#[command(name = "stkr-gateway", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make duty key, databases and configuration of a new gateway; prints the duty key's address
    Init(InitArgs),
    /// Print the arguments with which a provider registers the duty keys, as JSON
    RegisterArgs(DutyArgs),
    /// Run until SIGTERM or SIGINT
    Run {
        /// Configuration file
        #[arg(long)]
        config: PathBuf,
        /// Log format; wins over the configuration
        #[arg(long)]
        log_format: Option<LogFormat>,
        /// End when standard input ends
        #[arg(long)]
        exit_with_parent: bool,
    },
    /// Show or check configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Slashing protection of a stopped gateway
    #[command(subcommand)]
    Protection(HistoryCommand),
    /// Print the OpenAPI document
    Openapi,
    /// Print shell completions
    Completions {
        /// Shell
        shell: Shell,
    },
}

fn main() -> ExitCode {
    match start(Arguments::parse().command) {
        Ok(()) => Exit::Done.into(),
        Err(report) => exit::report("stkr-gateway", &report),
    }
}

fn start(command: Command) -> eyre::Result<()> {
    match command {
        Command::Init(args) => print(&setup::init(&args)?),
        Command::RegisterArgs(args) => print(&setup::register_args(&args)?),
        Command::Run { config, log_format, exit_with_parent } => run(&config, log_format, exit_with_parent),
        Command::Config(command) => command.run::<GatewayConfig>(),
        Command::Protection(command) => history::run(&command)?.iter().try_for_each(print),
        Command::Openapi => Ok(write!(std::io::stdout().lock(), "{}", api::openapi_json()?)?),
        Command::Completions { shell } => {
            // It panics if it cannot write.
            let (mut command, mut script) = (Arguments::command(), Vec::new());
            clap_complete::generate(shell, &mut command, "stkr-gateway", &mut script);
            Ok(std::io::stdout().lock().write_all(&script)?)
        }
    }
}

fn print(value: &impl serde::Serialize) -> eyre::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(value)?)?)
}

fn run(config: &Path, log_format: Option<LogFormat>, exit_with_parent: bool) -> eyre::Result<()> {
    tls::install_provider()?;
    let config = config::load::<GatewayConfig>(config).map_err(Failure::usage)?;
    logs::init(log_format.unwrap_or(config.log.format), &config.log.filter).map_err(Failure::usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = Shutdown::install(exit_with_parent)?;
        app::run(config, shutdown).await
    })
}
