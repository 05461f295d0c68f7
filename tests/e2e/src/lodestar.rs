//! A real beacon node and a stock validator client: Lodestar, from its npm packages, on a chain of its own.

use crate::anvil::{GENESIS_FORK_VERSION, GENESIS_VALIDATORS_ROOT};
use crate::network::{free_port, http, output};
use crate::process::{Process, workspace_root};
use alloy::primitives::B256;
use eyre::{Result, bail, ensure, eyre};
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Validators at genesis.
pub const VALIDATORS: u64 = 16;
/// One second is too short for Lodestar.
pub const SECONDS_PER_SLOT: u64 = 2;
/// Minimal preset.
pub const SLOTS_PER_EPOCH: u64 = 8;
/// From the start of a process until its API answers.
const START: Duration = Duration::from_secs(60);

/// What a beacon node says of its chain.
#[derive(Clone, Debug)]
pub struct Genesis {
    /// Root of the validators at genesis; the same whenever genesis is.
    pub validators_root: B256,
    /// `GENESIS_FORK_VERSION` and `ALTAIR_FORK_VERSION`, `0x` and hex.
    pub versions: [String; 2],
}

impl Genesis {
    /// The fork schedule that servers and gateway are told.
    #[must_use]
    pub fn schedule(&self, genesis_time: u64) -> String {
        let [phase0, altair] = &self.versions;
        format!(
            "preset = \"minimal\"\ngenesis_validators_root = \"{}\"\ngenesis_time = {genesis_time}\n\
             seconds_per_slot = {SECONDS_PER_SLOT}\nforks = [\n\
             {{ name = \"phase0\", version = \"{phase0}\", epoch = 0 }},\n\
             {{ name = \"altair\", version = \"{altair}\", epoch = 0 }},\n]\n",
            self.validators_root
        )
    }
}

fn home() -> PathBuf {
    workspace_root().join("tests/lodestar/client")
}

/// What Lodestar needs of Node, and the preset.
fn environment() -> [(String, OsString); 3] {
    let polyfill = format!("--require {}", home().join("polyfill.cjs").display());
    let environment = [("NODE_OPTIONS", polyfill.as_str()), ("NODE_BACKEND", "js"), ("LODESTAR_PRESET", "minimal")];
    environment.map(|(name, value)| (name.to_owned(), value.into()))
}

/// Forks after Altair that are there since genesis.
type Forks = &'static [&'static str];

fn lodestar(name: &str, dir: &Path, args: &[String], forks: Forks) -> Result<Process> {
    let home = home();
    let program = home.join("node_modules/@chainsafe/lodestar/lib/index.js");
    ensure!(program.is_file(), "Lodestar is not installed; run `npm ci --ignore-scripts` in {}", home.display());
    let mut words = vec![program.display().to_string()];
    words.extend_from_slice(args);
    let parameters = [
        ("SECONDS_PER_SLOT", SECONDS_PER_SLOT.to_string()),
        ("ALTAIR_FORK_EPOCH", "0".to_owned()),
        // Of the execution chain's deployment; a schedule for another is refused.
        ("GENESIS_FORK_VERSION", GENESIS_FORK_VERSION.to_owned()),
    ];
    for (name, value) in parameters {
        words.extend([format!("--params.{name}"), value]);
    }
    for fork in forks {
        words.extend([format!("--params.{fork}_FORK_EPOCH"), "0".to_owned()]);
    }
    words.extend(["--logFile", "none"].map(str::to_owned));
    Process::start_with(name, &node()?, &words, dir, &environment())
}

/// Where Node is: the leash takes no name that has to be looked up.
fn node() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("node")).find(|file| file.is_file());
    found.ok_or_else(|| eyre!("node is not on the PATH; install Node 20 or newer"))
}

/// A beacon node with a chain of its own whose validators are the well-known interop keys. It has none of them.
#[derive(Debug)]
pub struct BeaconNode {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    /// Its process.
    pub process: Process,
}

impl BeaconNode {
    /// Starts one in `dir`; genesis is at `genesis_time` (unix seconds).
    pub async fn start(dir: &Path, genesis_time: u64) -> Result<Self> {
        let genesis = [("--genesisValidators", VALIDATORS.to_string()), ("--genesisTime", genesis_time.to_string())];
        Self::start_at(free_port()?, dir, &genesis, &[]).await
    }

    /// Starts one at `port` whose chain has Capella and no execution client, and lets its validators sign. `genesis` is a file of
    /// [`capella_genesis`].
    pub async fn start_capella(port: u16, dir: &Path, genesis: &Path) -> Result<Self> {
        let genesis = [
            ("--genesisStateFile", genesis.display().to_string()),
            ("--startValidators", format!("0..{}", VALIDATORS - 1)),
            ("--beaconNodes", format!("http://127.0.0.1:{port}")),
        ];
        Self::start_at(port, dir, &genesis, &["BELLATRIX", "CAPELLA"]).await
    }

    async fn start_at(port: u16, dir: &Path, genesis: &[(&str, String)], forks: Forks) -> Result<Self> {
        let fixed = "dev --rest --rest.address 127.0.0.1 --rest.namespace * --listenAddress 127.0.0.1 --discv5 false --eth1 false";
        let mut args: Vec<String> = fixed.split(' ').map(str::to_owned).collect();
        let ports = [("--rest.port", port.to_string()), ("--port", free_port()?.to_string())];
        for (name, value) in genesis.iter().chain(&ports) {
            args.extend([(*name).to_owned(), value.clone()]);
        }
        args.extend(["--dataDir".to_owned(), dir.join("beacon-node").display().to_string()]);
        let process = lodestar("beacon-node", dir, &args, forks)?;
        let mut node = Self { url: format!("http://127.0.0.1:{port}"), process };
        let until = Instant::now() + START;
        while node.get("/eth/v1/beacon/genesis").await.is_err() {
            ensure!(node.process.is_running() && Instant::now() < until, "no beacon node:\n{}", node.process.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(node)
    }

    /// `data` of what the beacon API answers.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = http().get(format!("{}{path}", self.url)).timeout(Duration::from_secs(10)).send().await?;
        ensure!(answer.status().is_success(), "{path} answered {}", answer.status());
        Ok(answer.json::<Value>().await?["data"].take())
    }

    /// Genesis and forks.
    pub async fn genesis(&self) -> Result<Genesis> {
        let (genesis, spec) = (self.get("/eth/v1/beacon/genesis").await?, self.get("/eth/v1/config/spec").await?);
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| eyre!("not in the specification"));
        let versions = [text(&spec["GENESIS_FORK_VERSION"])?, text(&spec["ALTAIR_FORK_VERSION"])?];
        Ok(Genesis { validators_root: text(&genesis["genesis_validators_root"])?.parse()?, versions })
    }

    /// The newest finalized epoch.
    pub async fn finalized_epoch(&self) -> Result<u64> {
        number(&self.get("/eth/v1/beacon/states/head/finality_checkpoints").await?["finalized"]["epoch"])
    }

    /// The slot of the newest block.
    pub async fn head_slot(&self) -> Result<u64> {
        number(&self.get("/eth/v1/beacon/headers/head").await?["header"]["message"]["slot"])
    }

    /// Public keys of the validators that are active.
    pub async fn active_validators(&self) -> Result<Vec<String>> {
        let validators = self.get("/eth/v1/beacon/states/head/validators?status=active_ongoing").await?;
        let keys = validators.as_array().into_iter().flatten().map(|row| row["validator"]["pubkey"].as_str());
        keys.map(|key| key.map(str::to_owned).ok_or_else(|| eyre!("a validator without key"))).collect()
    }

    /// Waits until epoch `epoch` is final, at most `patience`.
    pub async fn finalizes(&mut self, epoch: u64, patience: Duration) -> Result<u64> {
        let until = Instant::now() + patience;
        loop {
            let finalized = self.finalized_epoch().await?;
            if finalized >= epoch {
                return Ok(finalized);
            }
            if Instant::now() > until {
                bail!("epoch {epoch} is not final after {patience:?}, but epoch {finalized}:\n{}", self.process.log());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

fn number(value: &Value) -> Result<u64> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| eyre!("{value} is no number"))
}

/// A stock validator client: it asks `signer` for the keys there are, and for every signature.
pub fn validator_client(dir: &Path, node: &BeaconNode, signer: &str) -> Result<Process> {
    let fixed = "validator --network dev --externalSigner.fetch";
    let mut args: Vec<String> = fixed.split(' ').map(str::to_owned).collect();
    let data = dir.join("validator-client").display().to_string();
    for (name, value) in [("--dataDir", data.as_str()), ("--beaconNodes", &node.url), ("--externalSigner.url", signer)]
    {
        args.extend([name.to_owned(), value.to_owned()]);
    }
    lodestar("validator-client", dir, &args, &[])
}

/// Writes the genesis state of a Capella chain in which the validator with `index` has `credentials`. The chain's fork version and
/// validators root are those of the contracts.
pub fn capella_genesis(file: &Path, genesis_time: u64, index: u64, credentials: B256) -> Result<()> {
    let script = home().join("capella-genesis.mjs");
    let mut command = Command::new(node()?);
    command.envs(environment()).arg(script).arg(file);
    command.args([genesis_time, VALIDATORS, index].map(|number| number.to_string()));
    output(command.args([credentials.to_string().as_str(), GENESIS_FORK_VERSION, GENESIS_VALIDATORS_ROOT])).map(drop)
}
