//! A network with one validator key that existed whole: split for its servers, imported, and asked for through a gateway. It
//! is there in seconds where a ceremony takes a minute, and pays whom it likes, so that blocks need no proof.

use std::path::Path;
use std::process::Command;

use alloy::primitives::B256;
use eyre::{Result, ensure, eyre};
use serde_json::{Value, json};
use stkr_core::keystore::{Kdf, Keystore, StoreKey};
use stkr_core::{CommitteeKeys, Signature};
use stkr_duties::{ForkSchedule, SigningRequest};
use stkr_node::secrets;
use stkr_protocol::SignerKey;
use stkr_protocol::ceremony::MemberId;
use stkr_protocol::collection::Committee;
use stkr_protocol::dealt::DealtKey;
use stkr_protocol::sign::{Asked, SignedPartial};

use crate::GatewayProcess;
use crate::beacon::{GENESIS_VALIDATORS_ROOT, schedule_text, unix_seconds};
use crate::deal::Deal;
use crate::gateway_process::Answer;
use crate::network::{Network, Options, output};
use crate::process::binary;
use crate::slashable::Signed;

/// The whole key.
const SECRET: [u8; 32] = [0x2a; 32];
/// Seconds of a slot; an epoch has 32 of them.
const SECONDS_PER_SLOT: u64 = 1;
/// Epochs that the beacon chain has behind it: as many duties as a test can ask for.
pub const AGE: u64 = 400_000;
/// The one assignment of the key.
const ASSIGNMENT: u64 = 1;

/// The network, the key, and the gateway of whoever has its duty key.
#[derive(Debug)]
pub struct DealtNetwork {
    /// Chain and servers; the server at position i has share i + 1.
    pub network: Network,
    /// Forks and genesis.
    pub schedule: ForkSchedule,
    /// Public half of the key.
    pub key: DealtKey,
    /// The same, as points.
    pub keys: CommitteeKeys,
    /// Id in the registry.
    pub key_id: u64,
    /// What asks for duties.
    pub duty_key: SignerKey,
    /// Its gateway.
    pub gateway: GatewayProcess,
}

impl DealtNetwork {
    /// Four servers, of which three must sign; nothing runs but the chain.
    pub async fn deploy(dir: &Path) -> Result<Self> {
        let options = Options { servers: 4, relayers: 0, block_ms: 300, ..Options::new(dir) };
        let mut network = Network::deploy(options).await?;
        let schedule_file = dir.join("beacon.toml");
        let genesis_time = unix_seconds()? - AGE * 32 * SECONDS_PER_SLOT;
        std::fs::write(&schedule_file, schedule_text("mainnet", genesis_time, SECONDS_PER_SLOT))?;
        network.beacon_schedule = Some(schedule_file.clone());
        network.init_servers().await?;
        for position in 0..network.servers.len() {
            make_quick(&network, position)?;
        }
        network.register_servers().await?;
        network.approve_servers().await?;
        let gateway = GatewayProcess::init(&network, &dir.join("gateway"), &schedule_file)?;
        gateway.configure("poll_ms = 1000", "poll_ms = 250")?;
        gateway.without_quiet_period()?;
        let duty_key = SignerKey::from_bytes(&*secrets::read_hex32(&gateway.dir.join("secrets/duty.key"))?)?;
        let deal = Deal {
            owner: &network.governor,
            duty_key: gateway.duty_key,
            threshold: 3,
            has_signed: true,
            genesis_validators_root: GENESIS_VALIDATORS_ROOT,
            dir: dir.join("dealer"),
        };
        let history = deal.make(&network, &[SECRET])?;
        gateway.command(&["protection", "import", "--file", &history.display().to_string()])?;
        let key: DealtKey = serde_json::from_slice(&std::fs::read(deal.dir.join("split-0/dealt-key.json"))?)?;
        let keys = key.check(&network.domain())?.keys;
        let schedule = network.server_config(0)?.schedule()?.ok_or_else(|| eyre!("no schedule"))?;
        Ok(Self { network, schedule, key, keys, key_id: 1, duty_key, gateway })
    }

    /// The same, running, and every server and the gateway have signed.
    pub async fn start(dir: &Path) -> Result<Self> {
        let mut dealt = Self::deploy(dir).await?;
        dealt.run().await?;
        Ok(dealt)
    }

    /// Starts servers and gateway and waits until all of them sign.
    pub async fn run(&mut self) -> Result<()> {
        for position in 0..self.network.servers.len() {
            self.network.start_server(position)?;
        }
        self.gateway.start()?;
        let probe = self.block(2, 1);
        self.network.until("the gateway signs", || async { Ok(self.ask_gateway(&probe).await?.status == 200) }).await?;
        let asked = self.asked(&probe)?;
        let identity = stkr_node::tls::Identity::generate("test")?;
        for position in 0..self.network.servers.len() {
            let client = self.network.client(position, &identity)?;
            let signs = || async {
                let answer = client.sign_one(asked.request()).await?;
                Ok(matches!(answer, stkr_protocol::sign::SignResponse::Signed(_)))
            };
            self.network.until("a server signs", signs).await?;
        }
        Ok(())
    }

    fn request(&self, kind: &str, member: &str, payload: Value) -> Value {
        let fork = json!({"previous_version": "0x05746b72", "current_version": "0x06746b72", "epoch": "0"});
        let root = self.schedule.genesis_validators_root();
        json!({"type": kind, "fork_info": {"fork": fork, "genesis_validators_root": root}, member: payload})
    }

    /// A vote in the first slot of `target`; different `root`s conflict.
    #[must_use]
    pub fn vote(&self, source: u64, target: u64, root: u64) -> Value {
        let root = B256::left_padding_from(&root.to_be_bytes());
        let data = json!({
            "slot": (target * 32).to_string(), "index": "0", "beacon_block_root": root,
            "source": {"epoch": source.to_string(), "root": root},
            "target": {"epoch": target.to_string(), "root": root},
        });
        self.request("ATTESTATION", "attestation", data)
    }

    /// A block of `slot`; different `root`s conflict.
    #[must_use]
    pub fn block(&self, slot: u64, root: u64) -> Value {
        let body = B256::left_padding_from(&root.to_be_bytes());
        let header = json!({
            "slot": slot.to_string(), "proposer_index": "1", "parent_root": body, "state_root": body, "body_root": body,
        });
        self.request("BLOCK_V2", "beacon_block", json!({"version": "FULU", "block_header": header}))
    }

    /// Reads a request as everybody has to.
    pub fn decode(&self, request: &Value) -> Result<SigningRequest> {
        Ok(SigningRequest::decode(request.to_string().as_bytes(), self.schedule.preset())?)
    }

    /// What a signature over this request is a signature of.
    pub fn signed(&self, request: &Value) -> Result<Signed> {
        let decoded = self.decode(request)?;
        let root = decoded.verify(&self.schedule)?;
        let number = |value: &Value| -> Result<u64> { Ok(value.as_str().ok_or_else(|| eyre!("{request}"))?.parse()?) };
        let vote = &request["attestation"];
        Ok(if vote.is_object() {
            let (source, target) = (number(&vote["source"]["epoch"])?, number(&vote["target"]["epoch"])?);
            Signed::Vote { source, target, root }
        } else {
            Signed::Block { slot: number(&request["beacon_block"]["block_header"]["slot"])?, root }
        })
    }

    /// The request as whoever has the duty key sends it to a server.
    pub fn asked(&self, request: &Value) -> Result<Asked> {
        let (decoded, domain) = (self.decode(request)?, self.network.domain());
        Ok(Asked::duty((self.key_id, ASSIGNMENT), &decoded, &self.schedule, &domain, &self.duty_key)?)
    }

    /// Asks the gateway, as a validator client does.
    pub async fn ask_gateway(&self, request: &Value) -> Result<Answer> {
        self.gateway.ask(&format!("0x{}", hex::encode(self.key.group_key)), request).await
    }

    /// The gateway's answer is the validator's signature.
    pub fn check(&self, request: &Value, answer: &Answer) -> Result<()> {
        let (root, signature) = (self.signed(request)?.root(), answer.signature()?);
        ensure!(stkr_core::verify(&self.keys.group_key(), &root.0, &signature), "a wrong signature");
        Ok(())
    }

    /// The answer is the partial signature of the server at this position.
    pub fn check_partial(&self, position: usize, root: B256, answer: &SignedPartial) -> Result<()> {
        ensure!(answer.index.position() == position, "server {position} answers as {}", answer.index);
        let share_key = self.keys.share_key(answer.index).ok_or_else(|| eyre!("no share {}", answer.index))?;
        let partial = Signature::from_eip2537(&answer.partial)?;
        ensure!(stkr_core::verify(share_key, &root.0, &partial), "a wrong partial of server {position}");
        Ok(())
    }

    /// Who holds the key, as a gateway knows it.
    pub fn committee(&self) -> Result<Committee> {
        let member = |member: &stkr_protocol::dealt::DealtMember| MemberId {
            server_id: member.server_id,
            signer: member.signer,
        };
        let members = self.key.members.iter().map(member).collect();
        Ok(Committee::new(self.network.domain(), 0, self.keys.clone(), members)?)
    }

    /// What a stopped server or gateway exports as the history of the key.
    pub fn export(&self, program: &str, config: &Path) -> Result<String> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("history.json");
        let mut command = Command::new(binary(program)?);
        output(command.args(["protection", "export", "--config"]).arg(config).arg("--file").arg(&file))?;
        Ok(std::fs::read_to_string(file)?)
    }

    /// What a stopped server kept as evidence, JSON lines.
    pub fn evidence(&self, position: usize) -> Result<String> {
        let server = self.network.servers.get(position).ok_or_else(|| eyre!("no server {position}"))?;
        output(Command::new(binary("stkr-server")?).args(["evidence", "--config"]).arg(&server.config))
    }

    /// Ends everything in good order.
    pub fn terminate(&mut self) -> Result<()> {
        if self.gateway.process.is_some() {
            self.gateway.terminate()?;
        }
        for position in 0..self.network.servers.len() {
            self.network.terminate_server(position)?;
        }
        Ok(())
    }
}

/// Room for many requests of one client, and a store key whose password costs a server that starts a millisecond and not a
/// second: it is a random one of 32 bytes either way.
fn make_quick(network: &Network, position: usize) -> Result<()> {
    let server = network.servers.get(position).ok_or_else(|| eyre!("no server {position}"))?;
    let text = std::fs::read_to_string(&server.config)?;
    let text = text.replace("burst = 200", "burst = 5000");
    std::fs::write(&server.config, text.replace("requests_per_second = 50", "requests_per_second = 5000"))?;
    let files = network.server_config(position)?.files;
    let password = secrets::read_text(&files.store_password)?;
    let keystore = Keystore::from_json(&std::fs::read_to_string(&files.store_keystore)?)?;
    let quick = StoreKey::open(&keystore, &password)?.seal(&password, Kdf::Pbkdf2 { c: 1024 })?;
    Ok(secrets::replace(&files.store_keystore, quick.to_json()?.as_bytes())?)
}
