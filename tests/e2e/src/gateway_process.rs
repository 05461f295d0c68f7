//! A provider's gateway: its folder, and its process while it runs.

use crate::Network;
use crate::network::{PATIENCE, http, output};
use crate::process::{Process, binary};
use alloy::primitives::{Address, Bytes};
use eyre::{Context, Result, ensure, eyre};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use stkr_core::Signature;

/// A gateway; it listens on another free port after every start.
#[derive(Debug)]
pub struct GatewayProcess {
    /// Its own folder.
    pub dir: PathBuf,
    /// Its configuration file.
    pub config: PathBuf,
    /// Address of its duty key.
    pub duty_key: Address,
    /// What its process finds in its environment besides.
    pub environment: Vec<(String, OsString)>,
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
        Ok(Self { dir, config, duty_key, environment: Vec::new(), url: String::new(), process: None })
    }

    /// Replaces a line of its configuration; an error if there is no such line.
    pub fn configure(&self, line: &str, by: &str) -> Result<()> {
        let config = std::fs::read_to_string(&self.config)?;
        ensure!(config.contains(line), "{} has no {line}", self.config.display());
        Ok(std::fs::write(&self.config, config.replace(line, by))?)
    }

    /// Lets keys sign at once after a start, for tests of something else.
    pub fn without_quiet_period(&self) -> Result<()> {
        self.configure("quiet_epochs = 2", "quiet_epochs = 0")
    }

    /// Starts it (or starts it again) and waits until it serves.
    pub fn start(&mut self) -> Result<()> {
        self.process = None;
        let (process, url) = launch(&self.config, &self.dir, &self.environment)?;
        (self.process, self.url) = (Some(process), url);
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

    /// GETs JSON.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        let reply = http().get(format!("{}{path}", self.url)).send().await?;
        Ok(Answer { status: reply.status().as_u16(), body: reply.json().await? })
    }

    /// Asks for a signature, as a validator client does; `pubkey` is `0x` and hex.
    pub async fn ask(&self, pubkey: &str, request: &Value) -> Result<Answer> {
        ask(&self.url, pubkey, request).await
    }

    /// The validator keys that it serves now.
    pub async fn public_keys(&self) -> Result<Vec<String>> {
        public_keys(&self.url).await
    }

    /// How often it answered so far, by duty (`ATTESTATION`, …) and outcome (`signed`, or the kind of the refusal).
    pub async fn answers(&self) -> Result<BTreeMap<(String, String), u64>> {
        let text = http().get(format!("{}/metrics", self.url)).send().await?.text().await?;
        text.lines().filter_map(|line| line.strip_prefix("stkr_gateway_requests_total{")).map(answer).collect()
    }
}

/// What a gateway answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// JSON.
    pub body: Value,
}

impl Answer {
    /// Reason of a refusal, empty for a signature.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.body["refusal"]["reason"].as_str().unwrap_or_default()
    }

    /// The signature, where it is one.
    pub fn signature(&self) -> Result<Signature> {
        ensure!(self.status == 200, "{self:?}");
        let hex = self.body["signature"].as_str().ok_or_else(|| eyre!("{self:?}"))?;
        Ok(Signature::from_compressed(&hex.parse::<Bytes>()?)?)
    }
}

/// Asks the gateway at `url` for a signature of a key (`0x` and hex).
pub async fn ask(url: &str, pubkey: &str, request: &Value) -> Result<Answer> {
    let answer = http().post(format!("{url}/api/v1/eth2/sign/{pubkey}")).json(request).send().await?;
    Ok(Answer { status: answer.status().as_u16(), body: answer.json().await? })
}

/// The keys that the gateway at `url` says it serves.
pub async fn public_keys(url: &str) -> Result<Vec<String>> {
    Ok(http().get(format!("{url}/api/v1/eth2/publicKeys")).send().await?.json().await?)
}

/// Starts a gateway that was initialised and waits until it serves; its process and its URL.
pub fn launch(config: &Path, dir: &Path, environment: &[(String, OsString)]) -> Result<(Process, String)> {
    let args = ["run".into(), "--config".into(), config.display().to_string()];
    let mut process = Process::start_with("gateway", &binary("stkr-gateway")?, &args, dir, environment)?;
    let ready: Value = serde_json::from_str(&process.line(PATIENCE, |line| line.contains("\"ready\":true"))?)?;
    let address = ready["address"].as_str().ok_or_else(|| eyre!("{ready}"))?;
    Ok((process, format!("http://{address}")))
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
