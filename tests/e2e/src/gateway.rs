//! A provider's gateway before a network whose servers know a beacon chain, and a validator client's view of it.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use alloy::network::EthereumWallet;
use alloy::primitives::{Address, B256, Bytes};
use alloy::signers::local::PrivateKeySigner;
use eyre::{Result, ensure, eyre};
use serde_json::{Value, json};
use stkr_core::PublicKey;
use stkr_duties::{ForkSchedule, SigningRequest};

use crate::beacon::{GENESIS_VALIDATORS_ROOT, schedule_text, unix_seconds};
use crate::gateway_process::{self, Answer};
use crate::network::{PATIENCE, http, output};
use crate::process::{Process, binary};
use crate::{GatewayProcess, Network, Options};

/// Minimal preset: an epoch has 8 slots.
pub const SECONDS_PER_EPOCH: u64 = 8;
/// The chain of the test is so old at its start, in epochs.
pub const AGE: u64 = 100;

/// A gateway of one provider that serves one key.
#[derive(Debug)]
pub struct Gateway {
    /// Its process.
    pub process: Process,
    /// Its configuration file.
    pub config: PathBuf,
    /// What its validator client knows.
    pub client: Client,
}

impl Deref for Gateway {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Gateway {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// A validator client with one key.
#[derive(Clone, Debug)]
pub struct Client {
    /// Of the gateway: `http://127.0.0.1:PORT`.
    pub url: String,
    /// The beacon chain.
    pub schedule: ForkSchedule,
    /// Compressed group key, `0x` and hex.
    pub pubkey: String,
    /// The same as a point.
    pub group_key: PublicKey,
}

/// `stkr-gateway init`: its configuration file.
pub fn make(network: &Network, dir: &Path, schedule: &Path) -> Result<PathBuf> {
    Ok(GatewayProcess::init(network, dir, schedule)?.config)
}

/// What `stkr-gateway register-args` prints for the duty key at `position`: its address, and its proof.
pub fn duty_key(config: &Path, provider: Address, position: usize) -> Result<(Address, Bytes)> {
    let account = provider.to_string();
    let mut command = Command::new(binary("stkr-gateway")?);
    let printed = output(command.args(["register-args", "--provider", &account, "--config"]).arg(config))?;
    let args: Value = serde_json::from_str(&printed)?;
    let text = |name: &str| args[position][name].as_str().map(str::to_owned).ok_or_else(|| eyre!("no {name}: {args}"));
    Ok((text("dutyKey")?.parse()?, text("proof")?.parse::<Bytes>()?))
}

/// `stkr-gateway init`, and the provider that registers its duty key.
pub async fn init(network: &Network, dir: &Path, schedule: &Path) -> Result<(PathBuf, PrivateKeySigner)> {
    let config = make(network, dir, schedule)?;
    let provider = network.account("10").await?;
    let (duty_key, proof) = duty_key(&config, provider.address(), 0)?;
    let wallet = EthereumWallet::from(provider.clone());
    network.stkr().await?.providers().register(duty_key, proof)?.send_with(&wallet).await?;
    Ok((config, provider))
}

/// Starts a gateway that was initialised and waits until it serves; its process and its URL.
pub fn start(config: &Path, dir: &Path) -> Result<(Process, String)> {
    gateway_process::launch(config, dir, &[])
}

impl Gateway {
    /// A gateway of this key before the network.
    pub fn new(
        (process, url): (Process, String),
        config: PathBuf,
        schedule: &ForkSchedule,
        group_key: PublicKey,
    ) -> Self {
        let client = Client { url, schedule: schedule.clone(), pubkey: hex_of(&group_key), group_key };
        Self { process, config, client }
    }
}

impl Client {
    /// Epoch of now.
    pub fn epoch(&self) -> Result<u64> {
        let slot = self.schedule.slot_at_time(unix_seconds()?).ok_or_else(|| eyre!("before genesis"))?;
        Ok(self.schedule.epoch_at(slot).0)
    }

    /// A request object of Web3Signer.
    pub fn request(&self, kind: &str, member: &str, payload: Value) -> Value {
        let fork = json!({"previous_version": "0x05746b72", "current_version": "0x06746b72", "epoch": "0"});
        json!({"type": kind, "fork_info": {"fork": fork, "genesis_validators_root": GENESIS_VALIDATORS_ROOT}, member: payload})
    }

    /// A vote in the first slot of `target`, from the epoch before.
    pub fn vote(&self, target: u64, root: u8) -> Value {
        self.vote_from(target - 1, target, root)
    }

    /// A vote in the first slot of `target`.
    pub fn vote_from(&self, source: u64, target: u64, root: u8) -> Value {
        let root = B256::repeat_byte(root);
        let data = json!({
            "slot": (target * 8).to_string(), "index": "0", "beacon_block_root": root,
            "source": {"epoch": source.to_string(), "root": root},
            "target": {"epoch": target.to_string(), "root": root},
        });
        self.request("ATTESTATION", "attestation", data)
    }

    /// A block, of which nothing is known but its header.
    pub fn block(&self, slot: u64, root: u8) -> Value {
        let root = B256::repeat_byte(root);
        let header = json!({
            "slot": slot.to_string(), "proposer_index": "1", "parent_root": root, "state_root": root, "body_root": root,
        });
        self.request("BLOCK_V2", "beacon_block", json!({"version": "FULU", "block_header": header}))
    }

    /// A sync committee message: a duty with a slot that nobody is slashed for.
    pub fn message(&self, slot: u64) -> Value {
        let data = json!({"beacon_block_root": B256::repeat_byte(1), "slot": slot.to_string()});
        self.request("SYNC_COMMITTEE_MESSAGE", "sync_committee_message", data)
    }

    /// The RANDAO reveal of an epoch: a duty that nobody is slashed for.
    pub fn reveal(&self, epoch: u64) -> Value {
        self.request("RANDAO_REVEAL", "randao_reveal", json!({"epoch": epoch.to_string()}))
    }

    /// Asks for a signature of another key.
    pub async fn sign_with(&self, pubkey: &str, request: &Value) -> Result<Answer> {
        gateway_process::ask(&self.url, pubkey, request).await
    }

    /// Asks for a signature.
    pub async fn sign(&self, request: &Value) -> Result<Answer> {
        self.sign_with(&self.pubkey, request).await
    }

    /// The keys it says it serves.
    pub async fn public_keys(&self) -> Result<Vec<String>> {
        gateway_process::public_keys(&self.url).await
    }

    /// The answer is the validator key's signature over the request's root.
    pub fn check(&self, request: &Value, answer: &Answer) -> Result<()> {
        let signature = answer.signature()?;
        let request = SigningRequest::decode(request.to_string().as_bytes(), self.schedule.preset())?;
        let root = request.verify(&self.schedule)?.0;
        ensure!(stkr_core::verify(&self.group_key, &root, &signature), "a wrong signature");
        Ok(())
    }

    /// `GET /v1/requests` of its gateway as soon as the envelopes over `vote` are there: it writes them down after its answer.
    pub async fn kept_with(&self, vote: &Value) -> Result<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            let page: Value = http().get(format!("{}/v1/requests?limit=1000", self.url)).send().await?.json().await?;
            let mut rows = page["rows"].as_array().into_iter().flatten();
            let answered = |row: &Value| row["envelopes"].as_array().is_some_and(|all| !all.is_empty());
            if rows.any(|row| row["request"]["duty"]["attestation"] == vote["attestation"] && answered(row)) {
                return Ok(page);
            }
            ensure!(Instant::now() < until, "no envelope over {vote} is kept: {page}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Asks, and checks the signature.
    pub async fn signs(&self, request: &Value) -> Result<()> {
        self.check(request, &self.sign(request).await?)
    }
}

/// A network whose servers know a beacon chain, with a relayer that makes keys.
pub async fn network(dir: &Path) -> Result<(Network, PathBuf)> {
    network_of(Options { servers: 4, block_ms: 500, ..Options::new(dir) }).await
}

/// The same with other options; it has one relayer.
pub async fn network_of(options: Options) -> Result<(Network, PathBuf)> {
    let schedule = options.dir.join("beacon.toml");
    let mut network = Network::deploy(options).await?;
    let genesis_time = unix_seconds()? - AGE * SECONDS_PER_EPOCH;
    std::fs::write(&schedule, schedule_text("minimal", genesis_time, 1))?;
    network.beacon_schedule = Some(schedule.clone());
    network.init_servers().await?;
    network.register_servers().await?;
    network.approve_servers().await?;
    for position in 0..network.servers.len() {
        network.start_server(position)?;
    }
    network.add_relayer(0).await?;
    Ok((network, schedule))
}

/// A 3-of-4 pool of `provider`, staked and with its key made: the committee's positions, the key's id and the key.
pub async fn key_of(network: &Network, provider: &PrivateKeySigner) -> Result<(Vec<usize>, u64, PublicKey)> {
    let (pool, _) = network.open_pool(provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    let (key_id, finalised) = network.live_key(pool).await?;
    let group_key = PublicKey::from_eip2537(&finalised.points[4 * 128..])?;
    let committee = finalised.committee.iter().map(|id| network.position_of(*id)).collect::<Result<_>>()?;
    Ok((committee, key_id, group_key))
}

/// `0x` and hex of a compressed key.
pub fn hex_of(key: &PublicKey) -> String {
    Bytes::from(key.to_compressed().to_vec()).to_string()
}
