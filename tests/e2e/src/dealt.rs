//! A network with one validator key that existed whole: split for its servers, imported, and asked for through a gateway. It
//! is there in seconds where a ceremony takes a minute, and pays whom it likes, so that blocks need no proof.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy::primitives::{B256, Bytes};
use eyre::{Result, ensure, eyre};
use serde_json::{Value, json};
use stkr_core::keystore::{Kdf, Keystore, StoreKey};
use stkr_core::{CommitteeKeys, SecretShare, ShareIndex, Signature};
use stkr_duties::{ForkSchedule, SigningRequest};
use stkr_node::secrets;
use stkr_protocol::SignerKey;
use stkr_protocol::ceremony::MemberId;
use stkr_protocol::collection::Committee;
use stkr_protocol::dealt::DealtKey;
use stkr_protocol::sign::{Asked, SignedPartial};

use crate::network::{Network, Options, PATIENCE, http, output, write_secret};
use crate::process::{Process, binary};
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
    pub gateway: Gateway,
}

/// A gateway: its folder, and its process while it runs.
#[derive(Debug)]
pub struct Gateway {
    /// Its folder.
    pub dir: PathBuf,
    /// Its configuration file.
    pub config: PathBuf,
    /// What its process finds in its environment besides.
    pub environment: Vec<(String, OsString)>,
    /// `http://127.0.0.1:PORT`; another one after each start.
    pub url: String,
    /// None while it is down.
    pub process: Option<Process>,
}

/// What a gateway answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// JSON body.
    pub body: Value,
}

impl Gateway {
    /// Starts (or starts again) the gateway and waits until it serves HTTP; keys appear with its first look at the chain.
    pub fn start(&mut self) -> Result<()> {
        self.process = None;
        let args = ["run".into(), "--config".into(), self.config.display().to_string()];
        let exe = binary("stkr-gateway")?;
        let mut process = Process::start_with("gateway", &exe, &args, &self.dir, &self.environment)?;
        let ready: Value = serde_json::from_str(&process.line(PATIENCE, |line| line.contains("\"ready\":true"))?)?;
        let address = ready["address"].as_str().ok_or_else(|| eyre!("{ready}"))?;
        self.url = format!("http://{address}");
        self.process = Some(process);
        Ok(())
    }

    /// GETs JSON.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        let reply = http().get(format!("{}{path}", self.url)).send().await?;
        Ok(Answer { status: reply.status().as_u16(), body: reply.json().await? })
    }
}

impl Answer {
    /// Why not.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.body["refusal"]["reason"].as_str().unwrap_or_default()
    }
}

/// Forks and genesis as a configuration names them.
fn schedule_text() -> Result<String> {
    let forks = ["phase0", "altair", "bellatrix", "capella", "deneb", "electra", "fulu"];
    let fork = |(at, name): (usize, &&str)| {
        let first = if at == 0 { "53".to_owned() } else { format!("0{at}") };
        format!("{{ name = \"{name}\", version = \"0x{first}746b72\", epoch = 0 }}")
    };
    let forks: Vec<String> = forks.iter().enumerate().map(fork).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(format!(
        "preset = \"mainnet\"\ngenesis_validators_root = \"{}\"\ngenesis_time = {}\nseconds_per_slot = {SECONDS_PER_SLOT}\n\
         forks = [{}]\n",
        B256::repeat_byte(7),
        now - AGE * 32 * SECONDS_PER_SLOT,
        forks.join(", "),
    ))
}

impl DealtNetwork {
    /// Four servers, of which three must sign; nothing runs but the chain.
    pub async fn deploy(dir: &Path) -> Result<Self> {
        let options = Options { servers: 4, relayers: 0, block_ms: 300, ..Options::new(dir) };
        let mut network = Network::deploy(options).await?;
        let schedule_file = dir.join("beacon.toml");
        std::fs::write(&schedule_file, schedule_text()?)?;
        network.beacon_schedule = Some(schedule_file.clone());
        network.init_servers().await?;
        for position in 0..network.servers.len() {
            make_quick(&network, position)?;
        }
        network.register_servers().await?;
        network.approve_servers().await?;
        let gateway = init_gateway(&network, dir, &schedule_file)?;
        let duty_key = SignerKey::from_bytes(&*secrets::read_hex32(&gateway.dir.join("secrets/duty.key"))?)?;
        let (key, history) = split(&network, dir).await?;
        let key_id = import(&network, dir, &key, &history, &duty_key).await?;
        let imported = Command::new(binary("stkr-gateway")?)
            .args(["protection", "import", "--config"])
            .arg(&gateway.config)
            .arg("--file")
            .arg(&history)
            .output()?;
        ensure!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        let keys = key.check(&network.domain())?.keys;
        let schedule = network.server_config(0)?.schedule()?.ok_or_else(|| eyre!("no schedule"))?;
        Ok(Self { network, schedule, key, keys, key_id, duty_key, gateway })
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
        let pubkey = hex::encode(self.key.group_key);
        let url = format!("{}/api/v1/eth2/sign/0x{pubkey}", self.gateway.url);
        let answer = http().post(url).json(request).send().await?;
        Ok(Answer { status: answer.status().as_u16(), body: answer.json().await? })
    }

    /// The gateway's answer is the validator's signature.
    pub fn check(&self, request: &Value, answer: &Answer) -> Result<()> {
        ensure!(answer.status == 200, "{answer:?}");
        let hex = answer.body["signature"].as_str().ok_or_else(|| eyre!("{answer:?}"))?;
        let signature = Signature::from_compressed(&hex.parse::<Bytes>()?)?;
        let root = self.signed(request)?.root();
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
        if let Some(mut process) = self.gateway.process.take() {
            let code = process.terminate(PATIENCE);
            ensure!(code == Some(0), "the gateway ended with {code:?}: {}", process.log());
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

fn init_gateway(network: &Network, dir: &Path, schedule: &Path) -> Result<Gateway> {
    let dir = dir.join("gateway");
    output(
        Command::new(binary("stkr-gateway")?)
            .args(["init", "--listen", "127.0.0.1:0", "--rpc", &network.anvil.url, "--dir"])
            .arg(&dir)
            .arg("--deployment")
            .arg(&network.deployment_file)
            .arg("--schedule")
            .arg(schedule),
    )?;
    let config = dir.join("gateway.toml");
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, text.replace("poll_ms = 1000", "poll_ms = 250"))?;
    Ok(Gateway { dir, config, environment: Vec::new(), url: String::new(), process: None })
}

fn stkr(network: &Network, args: &[&str]) -> Result<String> {
    output(
        Command::new(binary("stkr")?)
            .args(args)
            .arg("--json")
            .env("STKR_RPC", &network.anvil.url)
            .env("STKR_DEPLOYMENT", &network.deployment_file),
    )
}

/// `stkr key split` for all servers: the public half, and the file with the history.
async fn split(network: &Network, dir: &Path) -> Result<(DealtKey, PathBuf)> {
    let (keystore, password, history) = (dir.join("validator.json"), dir.join("password"), dir.join("history.json"));
    let word = "a password of a validator";
    let sealed = Keystore::encrypt(&SECRET, word, Kdf::Pbkdf2 { c: 1024 }, None, "m/12381/3600/0/0/0", None)?;
    write_secret(&keystore, &sealed.to_json()?)?;
    write_secret(&password, word)?;
    let whole = SecretShare::from_bytes(ShareIndex::new(1)?, &SECRET)?.public_key();
    let signed = json!({
        "metadata": {"interchange_format_version": "5", "genesis_validators_root": B256::repeat_byte(7)},
        "data": [{
            "pubkey": format!("0x{}", hex::encode(whole.to_compressed())),
            "signed_blocks": [{"slot": "1"}],
            "signed_attestations": [{"source_epoch": "0", "target_epoch": "1"}],
        }],
    });
    write_secret(&history, &signed.to_string())?;
    let mut servers = Vec::new();
    for server in &network.servers {
        let printed =
            output(Command::new(binary("stkr-server")?).args(["import-key", "--config"]).arg(&server.config))?;
        let file = dir.join(format!("import-key-{}.json", server.id));
        std::fs::write(&file, printed)?;
        servers.push(format!("{}={}", server.id, file.display()));
    }
    let out = dir.join("split");
    let text = |path: &Path| path.display().to_string();
    let (keystore, password, history) = (text(&keystore), text(&password), text(&history));
    let (owner, out_text) = (network.governor.address().to_string(), text(&out));
    let mut args = vec!["key", "split", "--validator-keystore", &keystore, "--validator-password-file", &password];
    args.extend(["--threshold", "3", "--slashing-history", &history, "--owner", &owner, "--out", &out_text]);
    args.extend(servers.iter().flat_map(|server| ["--server", server.as_str()]));
    stkr(network, &args)?;
    let key = serde_json::from_slice(&std::fs::read(out.join("dealt-key.json"))?)?;
    Ok((key, out.join("slashing-history.json")))
}

/// Every server imports its share, and the owner the key; its id.
async fn import(network: &Network, dir: &Path, key: &DealtKey, history: &Path, duty_key: &SignerKey) -> Result<u64> {
    let owner = dir.join("owner.key");
    write_secret(&owner, &network.governor.to_bytes().to_string())?;
    let (owner, dealt) = (owner.display().to_string(), dir.join("split/dealt-key.json").display().to_string());
    let duty_key = duty_key.address().to_string();
    let mut args: Vec<String> = ["key", "import-dealt", "--key", &dealt, "--duty-key", &duty_key, "--key-file", &owner]
        .map(str::to_owned)
        .to_vec();
    for server in &network.servers {
        ensure!(key.members.iter().any(|member| member.server_id == server.id), "server {} has no share", server.id);
        let printed = output(
            Command::new(binary("stkr-server")?)
                .args(["import-share", "--config"])
                .arg(&server.config)
                .arg(dir.join(format!("split/share-{}.json", server.id)))
                .arg("--slashing-history")
                .arg(history),
        )?;
        let file = dir.join(format!("acknowledgement-{}.json", server.id));
        std::fs::write(&file, printed)?;
        args.extend(["--acknowledgement".to_owned(), file.display().to_string()]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let imported: Value = serde_json::from_str(&stkr(network, &args)?)?;
    imported["keyId"].as_u64().ok_or_else(|| eyre!("{imported}"))
}
