//! A provider's gateway on a devnet: set up as its provider would, and started.

use crate::network::{Network, PATIENCE, output};
use crate::process::{Process, binary};
use alloy::network::EthereumWallet;
use alloy::primitives::Bytes;
use alloy::signers::local::PrivateKeySigner;
use eyre::{Result, eyre};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `stkr-gateway init` on any free port of 127.0.0.1; returns its configuration file.
pub fn init(network: &Network, dir: &Path, schedule: &Path) -> Result<PathBuf> {
    let mut command = Command::new(binary("stkr-gateway")?);
    command.args(["init", "--listen", "127.0.0.1:0", "--rpc", &network.anvil.url, "--dir"]).arg(dir);
    output(command.arg("--deployment").arg(&network.deployment_file).arg("--schedule").arg(schedule))?;
    Ok(dir.join("gateway.toml"))
}

/// A new provider whose duty key is the gateway's: pools that it opens are served by it.
pub async fn provider(network: &Network, config: &Path) -> Result<PrivateKeySigner> {
    let provider = network.account("10").await?;
    let mut command = Command::new(binary("stkr-gateway")?);
    command.args(["register-args", "--provider", &provider.address().to_string(), "--config"]).arg(config);
    let args: Value = serde_json::from_str(&output(&mut command)?)?;
    let text = |name: &str| args[0][name].as_str().map(str::to_owned).ok_or_else(|| eyre!("no {name}: {args}"));
    let (duty_key, proof) = (text("dutyKey")?.parse()?, text("proof")?.parse::<Bytes>()?);
    let wallet = EthereumWallet::from(provider.clone());
    network.stkr().await?.providers().register(duty_key, proof)?.send_with(&wallet).await?;
    Ok(provider)
}

/// Starts it and waits until it serves; returns its URL too.
pub fn start(config: &Path, dir: &Path) -> Result<(Process, String)> {
    let args = ["run".into(), "--config".into(), config.display().to_string()];
    let mut process = Process::start("gateway", &binary("stkr-gateway")?, &args, dir)?;
    let ready: Value = serde_json::from_str(&process.line(PATIENCE, |line| line.contains("\"ready\":true"))?)?;
    let address = ready["address"].as_str().ok_or_else(|| eyre!("{ready}"))?;
    Ok((process, format!("http://{address}")))
}
