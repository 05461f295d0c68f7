//! One fault on command, followed until a signature is made without the culprit, and judged by the checker.

use crate::{Args, Progress, STEP_WIDTH};
use clap::ValueEnum as _;
use eyre::{Report, Result, bail, ensure};
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use stkr_e2e::Network;
use stkr_e2e::checker::Checker;
use stkr_e2e::faults::{Fault, Outcome, Play, play};

/// Prints what can go wrong, one name per line.
pub(crate) fn list() -> Result<()> {
    let mut out = std::io::stdout().lock();
    for fault in Fault::all() {
        let help = fault.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
        writeln!(out, "{:STEP_WIDTH$} {}", fault.name(), help.unwrap_or_default())?;
    }
    Ok(())
}

/// The fault of this name.
pub(crate) fn named(name: &str) -> Result<Fault> {
    match Fault::from_str(name, false) {
        Ok(fault) => Ok(fault),
        Err(_) => bail!("there is no fault {name}; `cargo xtask devnet --adversary list` prints all"),
    }
}

/// The last line of a run that ended before there was anything to commit a fault in.
pub(crate) fn ended_before(fault: Fault, error: &Report) {
    println!("{}", json!(Outcome { reason: Some(format!("{error:#}")), ..Outcome::of(fault) }));
}

pub(crate) async fn run(args: &Args, fault: Fault, dir: &Path) -> Result<()> {
    let mut progress = Progress::default();
    let how = Play { dir: dir.to_path_buf(), block_ms: args.block_ms, without_court: args.without_court };
    let played = match play(fault, &how, &mut |name, took, detail| progress.took(name, took, detail)).await {
        Ok(played) => played,
        Err(error) => {
            ended_before(fault, &error);
            return Err(error);
        }
    };
    let mut line = serde_json::to_value(&played.outcome)?;
    if played.outcome.ok {
        let agreed = check(&played.network, &line)?;
        eprintln!("{}", if agreed { "the checker agrees" } else { "THE CHECKER DISAGREES" });
        line["ok"] = json!(agreed);
    }
    if !args.once {
        eprintln!("\nchain       {}", played.network.anvil.url);
        eprintln!("status      {}/status", played.network.relayers.first().map_or("", |relayer| relayer.url.as_str()));
        eprintln!("Files are in {}. Ctrl-C ends everything.", dir.display());
    }
    println!("{line}");
    std::io::stdout().flush()?;
    ensure!(line["ok"] == json!(true), "the fault was not punished as it should be; what happened is above");
    if !args.once {
        tokio::signal::ctrl_c().await?;
    }
    Ok(())
}

/// Feeds the line to the checker; its words go to stderr.
fn check(network: &Network, line: &Value) -> Result<bool> {
    let (code, _) = Checker::Fault.judge(line, &network.anvil.url, &network.deployment_file, Stdio::inherit())?;
    Ok(code == Some(0))
}
