//! `stkr-relayer`: carries what Stkr's servers say to each other and pushes every step that anyone may push.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use stkr_node::config::{self, ConfigCommand};
use stkr_node::exit::{self, Exit, Failure};
use stkr_node::logs::{self, LogFormat};
use stkr_node::shutdown::Shutdown;
use stkr_node::tls;
use stkr_relayer::app;
use stkr_relayer::config::RelayerConfig;
use stkr_relayer::http::openapi_json;

/// Watches the chain, carries ceremonies, collects signatures and pushes every step that anyone may push
#[derive(Debug, Parser)]
#[command(name = "stkr-relayer", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
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
        Err(report) => exit::report("stkr-relayer", &report),
    }
}

fn start(command: Command) -> eyre::Result<()> {
    let mut out = std::io::stdout().lock();
    match command {
        Command::Config(command) => {
            drop(out);
            command.run::<RelayerConfig>()
        }
        Command::Openapi => Ok(writeln!(out, "{}", openapi_json()?)?),
        Command::Completions { shell } => {
            // It panics if it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "stkr-relayer", &mut script);
            Ok(out.write_all(&script)?)
        }
        Command::Run { config, log_format, exit_with_parent } => {
            drop(out);
            run(&config, log_format, exit_with_parent)
        }
    }
}

fn run(config: &std::path::Path, log_format: Option<LogFormat>, exit_with_parent: bool) -> eyre::Result<()> {
    tls::install_provider()?;
    let config = config::load::<RelayerConfig>(config).map_err(Failure::usage)?;
    logs::init(log_format.unwrap_or(config.log.format), &config.log.filter).map_err(Failure::usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = Shutdown::install(exit_with_parent)?;
        app::run(config, shutdown).await
    })
}
