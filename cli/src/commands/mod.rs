//! One file per subject; each reads its arguments, calls the SDK, and says how the result looks.

mod bounty;
mod ceremony;
mod challenge;
mod dealt;
mod evidence;
mod key;
mod offline;
mod pool;
mod position;
mod preflight;
mod provider;
mod reshare;
mod safe_to_move;
mod server;
mod verify;
mod watch;

use std::path::Path;

use clap::CommandFactory as _;
use serde_json::json;
use stkr_node::config::{self, ConfigCommand};

use crate::{
    args::{Cli, Command},
    config::Config,
    context::{self, Context},
    failure::Failure,
    output::Output,
};

/// Runs a command.
pub(crate) async fn run(cli: Cli, output: &Output) -> Result<(), Failure> {
    match cli.command {
        Command::Config(ConfigCommand::Example) => {
            let toml = config::example::<Config>()?;
            output.show(&json!({ "toml": toml }), |_| toml.clone());
            Ok(())
        }
        Command::Config(ConfigCommand::Check { config: path }) => check(&path, output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "stkr", &mut script);
            let script = String::from_utf8_lossy(&script);
            let answer = json!({ "shell": shell.to_string(), "script": script });
            output.show(&answer, |_| script.clone().into_owned());
            Ok(())
        }
        Command::Server(command) => server::run(command, &Context::new(cli.global, output)?).await,
        Command::Provider(command) => provider::run(command, &Context::new(cli.global, output)?).await,
        Command::Pool(command) => pool::run(command, &Context::new(cli.global, output)?).await,
        Command::Position(command) => position::run(command, &Context::new(cli.global, output)?).await,
        Command::Key(command) => key::run(command, &Context::new(cli.global, output)?).await,
        Command::Reshare(command) => reshare::run(command, &Context::new(cli.global, output)?).await,
        Command::Ceremony(command) => ceremony::run(command, &Context::new(cli.global, output)?).await,
        Command::Offline(command) => offline::run(command, output).await,
        Command::Evidence(command) => {
            if evidence::offline(&command, output)? {
                return Ok(());
            }
            evidence::run(command, &Context::new(cli.global, output)?).await
        }
        Command::Challenge(command) => challenge::run(command, &Context::new(cli.global, output)?).await,
        Command::Bounty(command) => bounty::run(command, &Context::new(cli.global, output)?).await,
        Command::Watch { from, once } => watch::run(&from, once, &Context::new(cli.global, output)?).await,
        Command::VerifyDeployment => verify::run(&Context::new(cli.global, output)?).await,
    }
}

/// `config check`: the file, the files it names, and the deployment as every other command will look at it.
fn check(path: &Path, output: &Output) -> Result<(), Failure> {
    let config = config::load::<Config>(path)?;
    let deployment =
        config.deployment.as_deref().map(|file| context::load_deployment(file, config.network)).transpose()?;
    let answer = json!({
        "valid": true,
        "config": path,
        "network": config.network,
        "chainId": deployment.map(|deployment| deployment.chain_id),
    });
    output.show(&answer, |_| format!("{} is a valid configuration of stkr", path.display()));
    Ok(())
}
