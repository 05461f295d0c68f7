//! The processes, and N keys whose shares are in the servers' databases.
//!
//! A dealt key comes to life as `stkr key split`, `stkr-server import-share` and `stkr key import-dealt` do it, one process
//! per file and server. For thousands of keys the same functions are called here, with one history for all keys, and one
//! process per server: same rows, same transactions, same checks by the contract.

use crate::{AGE, say};
use alloy::eips::Encodable2718 as _;
use alloy::network::{EthereumWallet, NetworkTransactionBuilder as _, TransactionBuilder as _};
use alloy::primitives::utils::parse_ether;
use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::providers::Provider as _;
use alloy::rpc::types::TransactionRequest;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall as _;
use eyre::{Result, ensure, eyre};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stkr_chain::bindings::KeyRegistry;
use stkr_core::dealt::{DealtDomain, open_share};
use stkr_core::dkg::OneTimeSecret;
use stkr_core::splitter::Splitter;
use stkr_core::{SecretShare, Threshold};
use stkr_duties::ForkSchedule;
use stkr_e2e::anvil::{block_every, fund};
use stkr_e2e::beacon::{schedule_text, unix_seconds};
use stkr_e2e::network::{PATIENCE, http, output};
use stkr_e2e::process::{Process, binary};
use stkr_e2e::{GatewayProcess, Network, Options, gateway_process};
use stkr_node::client::ServerClient;
use stkr_node::tls::{Identity, client_config};
use stkr_protocol::dealt::{DealtAcknowledgement, DealtKey, DealtMember};
use stkr_protocol::{ProtocolDomain, SignerKey};
use stkr_server::store::{Owner, ShareRow, Store};

const SERVERS: u32 = 4;
const THRESHOLD: u8 = 3;
/// Blocks while the network is set up; afterwards one per slot.
const BLOCK_MS: u64 = 300;
/// Of `importDealt` at 3-of-4, with room.
const IMPORT_GAS: u64 = 600_000;
/// Transactions handed to anvil at once.
const WAVE: usize = 400;
/// Requests of one batch call while everything is read once.
const BATCH: usize = 128;

/// A running network with a gateway that serves all keys.
pub(crate) struct World {
    pub(crate) network: Network,
    pub(crate) schedule: ForkSchedule,
    pub(crate) duty_key: SignerKey,
    pub(crate) http: reqwest::Client,
    /// Straight to the servers, as the gateway's own.
    pub(crate) clients: Vec<ServerClient>,
    gateway: PathBuf,
    process: Option<Process>,
    url: String,
    schedule_file: PathBuf,
    seconds_per_slot: u64,
    keys: Vec<String>,
}

/// A dealt key as its dealer has it.
struct Dealt {
    group_key: [u8; 48],
    shares: Vec<SecretShare>,
    import: KeyRegistry::DealtImport,
}

/// Who deals, to whom.
struct Dealing {
    domain: ProtocolDomain,
    owner: Address,
    duty_key: Address,
    servers: Vec<(u32, SignerKey)>,
}

impl World {
    pub(crate) async fn build(dir: &Path, validators: u32, seconds_per_slot: u64, began: Instant) -> Result<Self> {
        say(began, "contracts and four servers");
        let options = Options { servers: SERVERS, relayers: 0, block_ms: BLOCK_MS, ..Options::new(dir) };
        let mut network = Network::deploy(options).await?;
        let schedule_file = dir.join("beacon.toml");
        std::fs::write(&schedule_file, schedule_of(seconds_per_slot, 0)?)?;
        network.beacon_schedule = Some(schedule_file.clone());
        network.init_servers().await?;
        network.register_servers().await?;
        network.approve_servers().await?;
        bond(&network, validators).await?;
        let gateway = GatewayProcess::init(&network, &dir.join("gateway"), &schedule_file)?;
        // Duties begin as soon as everything runs.
        gateway.without_quiet_period()?;
        let gateway = gateway.config;
        let duty_key = SignerKey::from_bytes(&*stkr_node::secrets::read_hex32(&dir.join("gateway/secrets/duty.key"))?)?;

        say(began, "keys are dealt");
        let owner = network.account("1000").await?;
        let servers = (0..network.servers.len()).map(|at| Ok((network.servers[at].id, network.signer_key(at)?)));
        let servers = servers.collect::<Result<_>>()?;
        let dealing =
            Dealing { domain: network.domain(), owner: owner.address(), duty_key: duty_key.address(), servers };
        let secrets = (0..validators).map(|_| secret()).collect::<Result<Vec<_>>>()?;
        let history = history(&secrets)?;
        let dealt = dealing.all(&secrets, keccak256(&history))?;

        say(began, "histories and shares go to the servers");
        let history_file = dir.join("history.json");
        std::fs::write(&history_file, &history)?;
        let keys: Vec<String> = dealt.iter().map(|key| format!("0x{}", hex::encode(key.group_key))).collect();
        for position in 0..network.servers.len() {
            import_shares(&network, position, &dealt, &history_file)?;
        }
        import_history("stkr-gateway", &gateway, &history_file)?;

        say(began, "keys go on the chain");
        import_keys(&network, &owner, &dealt).await?;
        let schedule = network.server_config(0)?.schedule()?.ok_or_else(|| eyre!("no schedule"))?;
        let clients = Vec::new();
        let (http, process, url) = (http(), None, String::new());
        let world = Self {
            network,
            schedule,
            duty_key,
            http,
            clients,
            gateway,
            process,
            url,
            schedule_file,
            seconds_per_slot,
            keys,
        };
        Ok(world)
    }

    /// Starts servers and gateway. The beacon chain's epoch begins in about as much time as they need.
    pub(crate) async fn start(&mut self, began: Instant) -> Result<()> {
        let lead = Duration::from_secs(60) + Duration::from_millis(30) * u32::try_from(self.keys.len())?;
        std::fs::write(&self.schedule_file, schedule_of(self.seconds_per_slot, lead.as_secs())?)?;
        self.schedule = self.network.server_config(0)?.schedule()?.ok_or_else(|| eyre!("no schedule"))?;
        say(began, "servers and gateway start");
        let identity = Identity::generate("driver")?;
        for position in 0..self.network.servers.len() {
            self.network.start_server(position)?;
            self.clients.push(self.network.client(position, &identity)?);
        }
        let (process, url) = gateway_process::launch(&self.gateway, &self.network.options.dir, &[])?;
        self.url = url;
        self.process = Some(process);
        let url = format!("{}/api/v1/eth2/publicKeys", self.url);
        let (client, count) = (self.http.clone(), self.keys.len());
        wait(PATIENCE * 4, "the gateway serves all keys", async || {
            // Before the chain was read it is a refusal.
            let keys: Value = client.get(&url).send().await?.json().await?;
            Ok(keys.as_array().is_some_and(|keys| keys.len() == count))
        })
        .await?;
        block_every(&self.network.provider()?, self.seconds_per_slot).await
    }

    /// Has every server read what the chain says of every key: after a start the first request of each costs that.
    pub(crate) async fn warm_up(&self) -> Result<()> {
        let epoch = self.epoch_now()?;
        let body = crate::plan::request(self, "RANDAO_REVEAL", json!({"epoch": epoch.to_string()}))?;
        let request: Value = serde_json::from_str(&body)?;
        // Twice: an answer needs three servers, and the fourth may be behind.
        for _ in 0..2 {
            let mut left: Vec<&String> = self.keys.iter().collect();
            wait(PATIENCE * 4, "every key signs", async || {
                let mut failed = Vec::new();
                for keys in left.chunks(BATCH) {
                    failed.extend(self.batch(keys, &request).await?);
                }
                left = failed;
                Ok(left.is_empty())
            })
            .await?;
        }
        Ok(())
    }

    /// The keys that did not sign.
    async fn batch<'a>(&self, keys: &[&'a String], request: &Value) -> Result<Vec<&'a String>> {
        let requests: Vec<Value> = keys.iter().map(|key| json!({"identifier": key, "request": request})).collect();
        let call = self.http.post(format!("{}/api/v1/eth2/sign", self.url)).json(&json!({"requests": requests}));
        let answer: Value = call.send().await?.error_for_status()?.json().await?;
        let responses = answer["responses"].as_array().ok_or_else(|| eyre!("{answer}"))?;
        ensure!(responses.len() == keys.len(), "{} answers to {} requests", responses.len(), keys.len());
        let failed = keys.iter().zip(responses).filter(|(_, response)| response.get("signature").is_none());
        Ok(failed.map(|(key, _)| *key).collect())
    }

    pub(crate) fn validators(&self) -> u32 {
        u32::try_from(self.keys.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn sign_url(&self, validator: u32) -> Result<String> {
        let key = self.keys.get(usize::try_from(validator)?).ok_or_else(|| eyre!("no validator {validator}"))?;
        Ok(format!("{}/api/v1/eth2/sign/{key}", self.url))
    }

    pub(crate) fn slot_length(&self) -> Duration {
        Duration::from_secs(self.seconds_per_slot)
    }

    pub(crate) fn epoch_length(&self) -> Duration {
        self.slot_length() * 32
    }

    pub(crate) fn epoch_now(&self) -> Result<u64> {
        let slot = self.schedule.slot_at_time(unix_seconds()?).ok_or_else(|| eyre!("before genesis"))?;
        Ok(self.schedule.epoch_at(slot).0)
    }

    /// The next epoch that begins after `least`, and when.
    pub(crate) fn next_epoch(&self, least: Duration) -> Result<(u64, SystemTime)> {
        let length = self.epoch_length().as_secs();
        // Building the requests takes about a millisecond each.
        let least = least.as_secs() + self.keys.len() as u64 / 500;
        let epoch = (unix_seconds()? + least - self.schedule.genesis_time()) / length + 1;
        Ok((epoch, UNIX_EPOCH + Duration::from_secs(self.schedule.genesis_time() + epoch * length)))
    }

    /// Names and ids of all processes, this one's last.
    pub(crate) fn processes(&self) -> Vec<(String, u32)> {
        let servers = self.network.servers.iter().filter_map(|server| server.process.as_ref());
        let all = servers.chain(self.process.as_ref()).chain([&self.network.anvil.process]);
        let mut all: Vec<_> = all.map(|process| (process.name.clone(), process.pid())).collect();
        all.push(("driver".to_owned(), std::process::id()));
        all
    }

    pub(crate) async fn counters(&self) -> Result<Counters> {
        let gateway = self.http.get(format!("{}/metrics", self.url)).send().await?.text().await?;
        let mut counters = Counters {
            requests: value(&gateway, "stkr_gateway_requests_total"),
            gateway_commits: value(&gateway, "stkr_gateway_protection_commits_total"),
            verified: value(&gateway, "stkr_gateway_verified_total"),
            verified_groups: value(&gateway, "stkr_gateway_verified_groups_total"),
            calls: value(&gateway, "stkr_gateway_calls_total"),
            ..Counters::default()
        };
        let identity = Identity::generate("metrics")?;
        for (position, server) in self.network.servers.iter().enumerate() {
            let tls = client_config(&identity, self.network.fingerprint(position)?)?;
            let client = reqwest::Client::builder().tls_backend_preconfigured(tls).build()?;
            let text = client.get(format!("{}/metrics", server.endpoint)).send().await?.text().await?;
            counters.partials += value(&text, "stkr_partials_total");
            counters.server_commits += value(&text, "stkr_protection_commits_total");
        }
        Ok(counters)
    }
}

/// What the programs count of their own work.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counters {
    pub(crate) requests: f64,
    pub(crate) gateway_commits: f64,
    pub(crate) verified: f64,
    pub(crate) verified_groups: f64,
    pub(crate) calls: f64,
    pub(crate) partials: f64,
    pub(crate) server_commits: f64,
}

impl Counters {
    pub(crate) fn until(&self, later: &Self) -> Self {
        Self {
            requests: later.requests - self.requests,
            gateway_commits: later.gateway_commits - self.gateway_commits,
            verified: later.verified - self.verified,
            verified_groups: later.verified_groups - self.verified_groups,
            calls: later.calls - self.calls,
            partials: later.partials - self.partials,
            server_commits: later.server_commits - self.server_commits,
        }
    }
}

/// Sum over all labels of a counter in OpenMetrics text.
fn value(text: &str, name: &str) -> f64 {
    let of = |line: &str| {
        let rest = line.strip_prefix(name)?;
        if !rest.starts_with(['{', ' ']) {
            return None;
        }
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    };
    text.lines().filter_map(of).sum()
}

async fn wait(most: Duration, what: &str, mut condition: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + most;
    while !condition().await? {
        ensure!(Instant::now() < until, "waited {most:?} for: {what}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// A mainnet-preset chain in Fulu, [`AGE`] epochs old in `lead` seconds.
fn schedule_of(seconds_per_slot: u64, lead: u64) -> Result<String> {
    let genesis_time = unix_seconds()? + lead - AGE * 32 * seconds_per_slot;
    Ok(schedule_text("mainnet", genesis_time, seconds_per_slot))
}

/// The smallest seat bond that governance may set, and for every seat one.
async fn bond(network: &Network, validators: u32) -> Result<()> {
    let stkr = network.stkr().await?;
    let governor = EthereumWallet::from(network.governor.clone());
    let seat = parse_ether("0.1")?;
    stkr.servers().set_bond_parameters(parse_ether("4")?, seat)?.send_with(&governor).await?;
    for server in &network.servers {
        let bond = seat * U256::from(validators);
        fund(&network.provider()?, server.operator.address(), bond + parse_ether("100")?).await?;
        let wallet = EthereumWallet::from(server.operator.clone());
        stkr.servers().add_bond(server.id, bond)?.send_with(&wallet).await?;
    }
    Ok(())
}

/// A secret below 2^248, so below the order of the curve.
fn secret() -> Result<[u8; 32]> {
    let mut secret = *SignerKey::random()?.to_bytes();
    secret[0] = 0;
    Ok(secret)
}

/// One interchange file that names all keys; none of them has signed anything lately.
fn history(secrets: &[[u8; 32]]) -> Result<Vec<u8>> {
    let index = stkr_core::ShareIndex::new(1)?;
    let entry = |secret: &[u8; 32]| -> Result<Value> {
        let key = SecretShare::from_bytes(index, secret)?.public_key().to_compressed();
        let vote = json!({"source_epoch": "0", "target_epoch": "1"});
        Ok(json!({"pubkey": format!("0x{}", hex::encode(key)), "signed_blocks": [], "signed_attestations": [vote]}))
    };
    let data = secrets.iter().map(entry).collect::<Result<Vec<_>>>()?;
    let metadata = json!({"interchange_format_version": "5", "genesis_validators_root": B256::repeat_byte(7)});
    Ok(serde_json::to_vec(&json!({"metadata": metadata, "data": data}))?)
}

impl Dealing {
    /// On all cores.
    fn all(&self, secrets: &[[u8; 32]], history: B256) -> Result<Vec<Dealt>> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let part = |secrets: &[[u8; 32]]| secrets.iter().map(|it| self.one(it, history)).collect::<Result<Vec<_>>>();
        std::thread::scope(|scope| {
            let parts = secrets.chunks(secrets.len().div_ceil(cores)).map(|it| scope.spawn(move || part(it)));
            let mut all = Vec::with_capacity(secrets.len());
            for thread in parts.collect::<Vec<_>>() {
                all.extend(thread.join().map_err(|_| eyre!("a dealing thread panicked"))??);
            }
            Ok(all)
        })
    }

    fn one(&self, secret: &[u8; 32], history_hash: B256) -> Result<Dealt> {
        let n = u8::try_from(self.servers.len())?;
        let splitter = Splitter::split(secret, Threshold::new(THRESHOLD, n)?)?;
        let keys = splitter.keys();
        let member = |((id, signer), key): (&(u32, SignerKey), &stkr_core::PublicKey)| DealtMember {
            server_id: *id,
            signer: signer.address(),
            share_key: key.to_compressed(),
        };
        let key = DealtKey {
            chain_id: self.domain.chain_id,
            key_registry: self.domain.key_registry,
            owner: self.owner,
            threshold: THRESHOLD,
            members: self.servers.iter().zip(keys.share_keys()).map(member).collect(),
            group_key: keys.group_key().to_compressed(),
            history_hash,
            possession: [0; 96],
        };
        let digest = key.digest()?;
        let domain = DealtDomain::of(key.chain_id, key.key_registry, keys);
        let (mut shares, mut acknowledgements) = (Vec::new(), Vec::new());
        for (index, (_, signer)) in keys.threshold().indices().zip(&self.servers) {
            let recipient = OneTimeSecret::random()?;
            let sealed = splitter.seal_share(&domain, index, &recipient.public_key())?;
            shares.push(open_share(&domain, keys, index, &recipient, &sealed)?);
            acknowledgements.extend_from_slice(&DealtAcknowledgement::sign(signer, index, digest).signature);
        }
        let import = KeyRegistry::DealtImport {
            threshold: THRESHOLD,
            committee: key.committee(),
            points: key.points()?,
            dutyKey: self.duty_key,
            historyHash: history_hash,
            acknowledgements: acknowledgements.into(),
            possession: splitter.prove_possession(&digest.0).to_eip2537().to_vec().into(),
        };
        Ok(Dealt { group_key: key.group_key, shares, import })
    }
}

fn import_history(program: &str, config: &Path, file: &Path) -> Result<()> {
    let mut command = Command::new(binary(program)?);
    command.args(["protection", "import", "--config"]).arg(config).arg("--file").arg(file);
    output(&mut command).map(drop)
}

/// The history first, as `import-share` has it: there is never a share without one.
fn import_shares(network: &Network, position: usize, dealt: &[Dealt], history: &Path) -> Result<()> {
    import_history("stkr-server", &network.servers[position].config, history)?;
    let config = network.server_config(position)?;
    let store_key = stkr_server::setup::store_key(&config.files)?;
    let domain = network.domain();
    let signer = stkr_server::signers::read_key(&config.files.signer_key)?.address();
    let owner = Owner { signer, chain_id: domain.chain_id, key_registry: domain.key_registry };
    let store = Store::open(&config.files.database, &owner, 0)?;
    for key in dealt {
        let share = key.shares.get(position).ok_or_else(|| eyre!("no share {position}"))?;
        store.keep_dealt(&ShareRow {
            origin: stkr_protocol::handover::ShareOrigin { committee_epoch: 0, attempt: 0, deadline: 0 },
            index: share.index(),
            share_key: share.public_key().to_compressed(),
            group_key: key.group_key,
            keystore: store_key.seal_share(share)?.to_json()?,
        })?;
    }
    Ok(())
}

/// `importDealt` once per key, in order, so that key ids are positions + 1.
async fn import_keys(network: &Network, owner: &PrivateKeySigner, dealt: &[Dealt]) -> Result<()> {
    let (provider, wallet) = (network.provider()?, EthereumWallet::from(owner.clone()));
    let mut nonce = 0;
    for wave in dealt.chunks(WAVE) {
        for key in wave {
            let call = KeyRegistry::importDealtCall { dealt: key.import.clone() };
            let request = TransactionRequest::default()
                .to(network.deployment.key_registry)
                .input(call.abi_encode().into())
                .gas_limit(IMPORT_GAS)
                .nonce(nonce)
                .max_fee_per_gas(20_000_000_000)
                .max_priority_fee_per_gas(0)
                .with_chain_id(network.deployment.chain_id);
            let signed = request.build(&wallet).await?;
            drop(provider.send_raw_transaction(&signed.encoded_2718()).await?);
            nonce += 1;
        }
        wait(PATIENCE, "anvil takes the imports in", async || {
            Ok(provider.get_transaction_count(owner.address()).await? == nonce)
        })
        .await?;
    }
    let registry = KeyRegistry::new(network.deployment.key_registry, &provider);
    let count = registry.keyCount().call().await?;
    ensure!(count == U256::from(dealt.len()), "{count} of {} keys were imported", dealt.len());
    Ok(())
}
