//! A provider's gateway: its folder, and its process while it runs.

use crate::Network;
use crate::network::{PATIENCE, http, output};
use crate::process::{Process, binary};
use alloy::primitives::Address;
use eyre::{Context, Result, ensure, eyre};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A gateway; it listens on another free port after every start.
#[derive(Debug)]
pub struct GatewayProcess {
    /// Its own folder.
    pub dir: PathBuf,
    /// Its configuration file.
    pub config: PathBuf,
    /// Address of its duty key.
    pub duty_key: Address,
    /// `http://127.0.0.1:PORT` of the last start; empty before the first.
    pub url: String,
    /// None while it is down.
    pub process: Option<Process>,
}

impl GatewayProcess {
    /// `stkr-gateway init` for the chain of `network` and the beacon chain of `schedule`.
    pub fn init(network: &Network, dir: &Path, schedule: &Path) -> Result<Self> {
        let mut command = Command::new(binary("stkr-gateway")?);
        command.args(["init", "--listen", "127.0.0.1:0", "--rpc", &network.anvil.url, "--dir"]).arg(dir);
        command.arg("--deployment").arg(&network.deployment_file).arg("--schedule").arg(schedule);
        let made: Value = serde_json::from_str(&output(&mut command)?).wrap_err("what init printed")?;
        let duty_key = made["dutyKey"].as_str().ok_or_else(|| eyre!("no duty key: {made}"))?.parse()?;
        let (dir, config) = (dir.to_path_buf(), dir.join("gateway.toml"));
        Ok(Self { dir, config, duty_key, url: String::new(), process: None })
    }

    /// Starts it (or starts it again) and waits until it serves.
    pub fn start(&mut self) -> Result<()> {
        self.process = None;
        let args = ["run".into(), "--config".into(), self.config.display().to_string()];
        let mut process = Process::start("gateway", &binary("stkr-gateway")?, &args, &self.dir)?;
        let ready: Value = serde_json::from_str(&process.line(PATIENCE, |line| line.contains("\"ready\":true"))?)?;
        self.url = format!("http://{}", ready["address"].as_str().ok_or_else(|| eyre!("{ready}"))?);
        self.process = Some(process);
        Ok(())
    }

    /// SIGTERMs it and waits for its end.
    pub fn terminate(&mut self) -> Result<()> {
        let mut process = self.process.take().ok_or_else(|| eyre!("the gateway does not run"))?;
        let code = process.terminate(PATIENCE);
        ensure!(code == Some(0), "the gateway ended with {code:?}");
        Ok(())
    }

    /// A command of `stkr-gateway` on its configuration, to its end; returns what it printed.
    pub fn command(&self, words: &[&str]) -> Result<String> {
        output(Command::new(binary("stkr-gateway")?).args(words).arg("--config").arg(&self.config))
    }

    /// The validator keys that it serves now.
    pub async fn public_keys(&self) -> Result<Vec<String>> {
        Ok(http().get(format!("{}/api/v1/eth2/publicKeys", self.url)).send().await?.json().await?)
    }

    /// How often it answered so far, by duty (`ATTESTATION`, …) and outcome (`signed`, or the kind of the refusal).
    pub async fn answers(&self) -> Result<BTreeMap<(String, String), u64>> {
        let text = http().get(format!("{}/metrics", self.url)).send().await?.text().await?;
        text.lines().filter_map(|line| line.strip_prefix("stkr_gateway_requests_total{")).map(answer).collect()
    }
}

/// `duty="ATTESTATION",outcome="signed"} 5`
fn answer(line: &str) -> Result<((String, String), u64)> {
    let label = |name: &str| -> Option<String> {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let count = line.split_once("} ").and_then(|(_, count)| count.parse().ok());
    let parts = label("duty").zip(label("outcome")).zip(count);
    parts.ok_or_else(|| eyre!("no metric of answers: {line}"))
}
