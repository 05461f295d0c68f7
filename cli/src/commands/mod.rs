//! One file per subject; each reads its arguments, calls the SDK, and says how the result looks.

mod key;
mod pool;
mod position;
mod provider;
mod server;
mod verify;
mod watch;

use clap::CommandFactory as _;
use stkr_node::exit;

use crate::{
    args::{Cli, Command},
    config::Config,
    context::Context,
    failure::{Failure, without_secrets},
    output::Output,
};

/// Runs a command.
pub(crate) async fn run(cli: Cli, output: &Output) -> Result<(), Failure> {
    match cli.command {
        Command::Config(command) => command.run::<Config>().map_err(|error| Failure {
            exit: exit::exit_of(&error),
            code: "config",
            message: without_secrets(&error.to_string()),
            hint: "`stkr config example` prints a file that is right".into(),
        }),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "stkr", &mut script);
            output.text(&String::from_utf8_lossy(&script));
            Ok(())
        }
        Command::Server(command) => server::run(command, &Context::new(cli.global, output)?).await,
        Command::Provider(command) => provider::run(command, &Context::new(cli.global, output)?).await,
        Command::Pool(command) => pool::run(command, &Context::new(cli.global, output)?).await,
        Command::Position(command) => position::run(command, &Context::new(cli.global, output)?).await,
        Command::Key(command) => key::run(command, &Context::new(cli.global, output)?).await,
        Command::Watch { from, once } => watch::run(&from, once, &Context::new(cli.global, output)?).await,
        Command::VerifyDeployment => verify::run(&Context::new(cli.global, output)?).await,
    }
}
