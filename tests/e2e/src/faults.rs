//! One fault from its commission to the signature that is made without the culprit: `cargo xtask devnet --adversary FAULT`, and
//! the test that runs the same.
//!
//! ```text
//! network, pool, key --> the fault --> somebody has evidence --> Court: slashed, locked out --> a signature without the culprit
//! ```
//!
//! Nobody is told that there will be a fault, and what detects it is what detects it in the field: the gateway that gets a wrong
//! partial, the relayer that carries a ceremony, the member that opens its share, or a stranger with `stkr evidence find`,
//! `stkr-server evidence` and `stkr challenge`.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::providers::Provider as _;
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::{SolEvent, SolValue as _};
use clap::ValueEnum as _;
use eyre::{Result, bail, ensure, eyre};
use serde::Serialize;
use serde_json::{Value, json};
use stkr_chain::bindings::{Court, KeyRegistry, Micropools};
use stkr_node::tls::Identity;
use stkr_protocol::SignerKey;
use stkr_protocol::api::SignBatch;
use stkr_protocol::evidence::{EvidenceFile, SignedEnvelope, Verified};

use crate::gateway::{self, Gateway};
use crate::misbehaviour::{asked, buy, corrupt, find, hand_in, only_file, page, stkr};
use crate::network::{http, output, write_secret};
use crate::process::{Process, binary};
use crate::{Network, Options};

/// Servers of the network: a committee of four, and one more for the key that is made without the culprit.
const SERVERS: u32 = 5;
/// Longest wait for the Court, if it was switched off.
const WITHOUT_COURT: Duration = Duration::from_secs(30);
/// Blocks that a challenged server has (`CHALLENGE_BLOCKS`).
const CHALLENGE_BLOCKS: u64 = 7_200;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A server sends a point that is no partial signature of its share.
    InvalidPartial,
    /// A server sends a point outside the subgroup.
    GarbagePartial,
    /// A server signs two votes with one target epoch.
    DoubleVote,
    /// A server signs a vote around another.
    SurroundVote,
    /// A server signs two blocks of one slot.
    DoubleProposal,
    /// A server signs an exit that nobody ordered.
    UnauthorisedExit,
    /// A member of a ceremony deals another member a wrong share.
    BadDealing,
    /// A member of a ceremony commits to two dealings.
    DealingEquivocation,
    /// A server does not answer a challenge on the chain.
    Silence,
    /// A provider asks for two votes with one target epoch.
    ProviderEquivocation,
}

impl Fault {
    /// All of them.
    #[must_use]
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// Name on the command line.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    const fn is_of_a_ceremony(self) -> bool {
        matches!(self, Self::BadDealing | Self::DealingEquivocation)
    }
}

/// A signature that was made after the fault without whoever committed it.
#[derive(Clone, Debug, Serialize)]
pub struct NextSignature {
    /// Key that signed.
    pub key_id: String,
    /// Its compressed group key, 48 bytes.
    pub public_key: String,
    /// What was signed.
    pub signing_root: B256,
    /// Compressed, 96 bytes.
    pub signature: String,
}

/// What the last line says.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Whether all of it happened; the checker has the last word.
    pub ok: bool,
    /// What went wrong.
    pub fault: Fault,
    /// Why it went no further, where it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// From the fault to the evidence, milliseconds.
    pub detected_ms: u128,
    /// Blocks from the fault to the lock-out; for a provider to the flag that its pool has to move.
    pub blocks_to_lockout: u64,
    /// Gas of the report: commitment (or challenge) and proof.
    pub gas: u64,
    /// Taken from the bond, or from the provider's insurance.
    pub slashed_wei: String,
    /// Of it the reporter's.
    pub bounty_wei: String,
    /// Whether the network signs on without the culprit.
    pub next_signature_ok: bool,
    /// Server at fault; null where a provider is.
    pub server_id: Option<u32>,
    /// Pool of the provider at fault.
    pub pool_id: Option<String>,
    /// The two transactions of the report.
    pub transactions: Vec<B256>,
    /// The file that convicts; null where there is none.
    pub evidence_file: Option<PathBuf>,
    /// The signature.
    pub next: Option<NextSignature>,
}

impl Outcome {
    /// Before anything happened.
    #[must_use]
    pub fn of(fault: Fault) -> Self {
        Self {
            ok: false,
            fault,
            reason: None,
            detected_ms: 0,
            blocks_to_lockout: 0,
            gas: 0,
            slashed_wei: "0".to_owned(),
            bounty_wei: "0".to_owned(),
            next_signature_ok: false,
            server_id: None,
            pool_id: None,
            transactions: Vec::new(),
            evidence_file: None,
            next: None,
        }
    }
}

/// How it is run.
#[derive(Clone, Debug)]
pub struct Play {
    /// Everything is written below this folder.
    pub dir: PathBuf,
    /// Milliseconds between blocks.
    pub block_ms: u64,
    /// Takes the Court's code away once all programs run, so that no report can reach it.
    pub without_court: bool,
}

/// The network with the outcome, to look at it further.
#[derive(Debug)]
pub struct Played {
    /// The network, still running.
    pub network: Network,
    /// The provider's gateway, where there is one.
    pub gateway: Option<Gateway>,
    /// What came of it.
    pub outcome: Outcome,
}

/// Evidence and when it was there.
struct Found {
    file: EvidenceFile,
    detected: Duration,
    /// First transaction of the report, where it is no commitment.
    challenge: Option<B256>,
}

/// What the Court did.
struct Judged {
    server_id: Option<u32>,
    block: u64,
    transaction: B256,
    slashed: U256,
    bounty: U256,
    reporter: Address,
}

/// A network before the fault.
struct Scene {
    network: Network,
    gateway: Option<Gateway>,
    pool: u64,
    key_id: u64,
    /// Position of the server that will be at fault.
    culprit: usize,
    adversary: Option<Process>,
    dir: PathBuf,
}

/// Commits `fault` and follows it. `say` gets one line for each thing that happened. Where it goes no further, the outcome says why.
///
/// # Errors
/// There is no network to commit it in.
pub async fn play(fault: Fault, play: &Play, say: &mut dyn FnMut(&str, Duration, &str)) -> Result<Played> {
    let begin = Instant::now();
    let mut scene = if fault.is_of_a_ceremony() { before_ceremony(play).await? } else { with_key(play).await? };
    say(
        "network",
        begin.elapsed(),
        &format!("{SERVERS} servers, a relayer, pool {}, key {}", scene.pool, scene.key_id),
    );
    let mut outcome = Outcome::of(fault);
    match scene.follow(play, &mut outcome, say).await {
        Ok(()) => outcome.ok = outcome.next_signature_ok,
        Err(error) => {
            let reason = format!("{error:#}");
            say("ended", begin.elapsed(), &reason);
            outcome.reason = Some(reason);
        }
    }
    Ok(Played { network: scene.network, gateway: scene.gateway, outcome })
}

// ------------------------------------------------------------------------------------------------------------ before

/// A pool whose key a gateway serves, which reports to a relayer.
async fn with_key(play: &Play) -> Result<Scene> {
    let options = Options { servers: SERVERS, block_ms: play.block_ms, ..Options::new(&play.dir) };
    let (network, schedule_file) = gateway::network_of(options).await?;
    let schedule = network.server_config(0)?.schedule()?.ok_or_else(|| eyre!("no schedule"))?;
    let (config, provider) = gateway::init(&network, &play.dir.join("gateway"), &schedule_file).await?;
    let relayer = network.relayers.first().ok_or_else(|| eyre!("no relayer"))?;
    let text = std::fs::read_to_string(&config)?;
    let text = text.replace("relayers = []", &format!("relayers = [\"{}\"]", relayer.url));
    std::fs::write(&config, text.replace("quiet_epochs = 2", "quiet_epochs = 0"))?;
    let started = gateway::start(&config, &play.dir)?;
    let (committee, key_id, group_key) = gateway::key_of(&network, &provider).await?;
    let gateway = Gateway::new(started, config, &schedule, group_key);
    let served = vec![gateway.pubkey.clone()];
    network.until("the gateway serves the key", || async { Ok(gateway.public_keys().await? == served) }).await?;
    // Up to the epoch in which a key appears everything counts as signed; surround votes need room for a source before.
    let appeared = gateway.epoch()?;
    network.until("an epoch of its own", || async { Ok(gateway.epoch()? > appeared + 2) }).await?;
    let reveal = gateway.reveal(1);
    network.until("servers see the pool", || async { gateway.signs(&reveal).await.map(|()| true) }).await?;
    let pools = Micropools::new(network.deployment.micropools, network.provider()?);
    let pool = u64::try_from(pools.poolOfKey(U256::from(key_id)).call().await?)?;
    let (gateway, dir, culprit) = (Some(gateway), play.dir.clone(), committee[0]);
    Ok(Scene { network, gateway, pool, key_id, culprit, adversary: None, dir })
}

/// A pool whose committee is drawn and has not said anything yet: no relayer has carried its ceremony.
async fn before_ceremony(play: &Play) -> Result<Scene> {
    let options = Options { servers: SERVERS, relayers: 0, block_ms: play.block_ms, ..Options::new(&play.dir) };
    let network = Network::start(options).await?;
    let provider = network.account("10").await?;
    let anyone = alloy::network::EthereumWallet::from(network.account("10").await?);
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    let key_id = network.request_key(pool, &anyone).await?;
    let context = network.draw(key_id, (3, 4), &anyone).await?;
    let culprit = network.position_of(context.committee()[0])?;
    Ok(Scene { network, gateway: None, pool, key_id, culprit, adversary: None, dir: play.dir.clone() })
}

// ------------------------------------------------------------------------------------------------------------- faults

impl Scene {
    /// From the fault to the signature without the culprit, as far as it goes.
    async fn follow(
        &mut self,
        play: &Play,
        outcome: &mut Outcome,
        say: &mut dyn FnMut(&str, Duration, &str),
    ) -> Result<()> {
        let fault = outcome.fault;
        if play.without_court {
            say("court", Duration::ZERO, "switched off: no report can reach it");
            // Programs start on no chain without it; in a ceremony the relayer has yet to start.
            if !fault.is_of_a_ceremony() {
                self.switch_court_off().await?;
            }
        }

        let (begin, block) = (Instant::now(), self.network.provider()?.get_block_number().await?);
        let found = self.commit(fault, play).await?;
        outcome.detected_ms = found.detected.as_millis();
        let file = outcome.evidence_file.insert(self.keep(fault, &found.file)?);
        say("detected", found.detected, &file.display().to_string());

        let judged = self.judged(&found, play).await?.ok_or_else(|| eyre!("nothing was proven"))?;
        outcome.server_id = judged.server_id;
        outcome.pool_id = judged.server_id.is_none().then(|| self.pool.to_string());
        outcome.blocks_to_lockout = judged.block.saturating_sub(block);
        (outcome.slashed_wei, outcome.bounty_wei) = (judged.slashed.to_string(), judged.bounty.to_string());
        outcome.transactions = self.report(&found, &judged).await?;
        for transaction in &outcome.transactions {
            let receipt = self.network.provider()?.get_transaction_receipt(*transaction).await?;
            outcome.gas += receipt.ok_or_else(|| eyre!("no receipt of {transaction}"))?.gas_used;
        }
        let detail = format!(
            "{} slashed {} wei, {} of them for {}",
            judged.server_id.map_or_else(|| "the provider".to_owned(), |id| format!("server {id}")),
            judged.slashed,
            judged.bounty,
            judged.reporter
        );
        say("judged", begin.elapsed(), &detail);
        self.locked_out(judged.server_id).await?;
        say("locked_out", begin.elapsed(), &format!("{} blocks after the fault", outcome.blocks_to_lockout));

        let begin = Instant::now();
        let next = self.sign_without_culprit(fault, judged.server_id).await?;
        outcome.next_signature_ok = true;
        say("next_signature", begin.elapsed(), &format!("key {} signed without it", next.key_id));
        outcome.next = Some(next);
        Ok(())
    }

    fn gateway(&self) -> Result<&Gateway> {
        self.gateway.as_ref().ok_or_else(|| eyre!("this network has no gateway"))
    }

    fn corrupt(&mut self, attack: &str, more: &[&str]) -> Result<()> {
        self.adversary = Some(corrupt(&mut self.network, self.culprit, attack, more)?);
        Ok(())
    }

    async fn switch_court_off(&self) -> Result<()> {
        let court = self.network.deployment.court;
        Ok(self.network.provider()?.raw_request("anvil_setCode".into(), (court, "0x")).await?)
    }

    async fn commit(&mut self, fault: Fault, play: &Play) -> Result<Found> {
        let key = self.key_id.to_string();
        match fault {
            Fault::InvalidPartial => {
                self.corrupt("accomplice", &["--key-id", &key, "--lie", "wrong-share"])?;
                self.meet(self.gateway()?.vote(self.gateway()?.epoch()?, 1)).await
            }
            Fault::GarbagePartial => {
                self.corrupt("accomplice", &["--key-id", &key, "--lie", "outside-subgroup"])?;
                self.meet(self.gateway()?.vote(self.gateway()?.epoch()?, 1)).await
            }
            Fault::UnauthorisedExit => {
                self.corrupt("accomplice", &["--key-id", &key])?;
                let exit = json!({ "epoch": "1", "validator_index": "7" });
                self.meet(self.gateway()?.request("VOLUNTARY_EXIT", "voluntary_exit", exit)).await
            }
            Fault::DoubleVote | Fault::SurroundVote | Fault::DoubleProposal => {
                self.corrupt("accomplice", &["--key-id", &key])?;
                self.conflict(fault).await
            }
            Fault::BadDealing => {
                self.corrupt("bad-dealing", &[])?;
                self.carry(play).await
            }
            Fault::DealingEquivocation => {
                self.corrupt("bad-dealing", &["--flaw", "two"])?;
                self.carry(play).await
            }
            Fault::Silence => self.challenge().await,
            Fault::ProviderEquivocation => self.equivocate(play).await,
        }
    }

    /// The gateway meets the fault with its next duty, whatever becomes of that.
    async fn meet(&self, duty: Value) -> Result<Found> {
        let begin = Instant::now();
        let gateway = self.gateway()?;
        let _ = gateway.sign(&duty).await?;
        let url = format!("{}/v1/evidence", gateway.url);
        self.wait_for(begin, || async {
            let page: Value = http().get(&url).send().await?.json().await?;
            Ok(page["rows"][0]["envelopes"][0]["evidence"].clone())
        })
        .await
    }

    /// The relayer meets the fault in the ceremony that it carries.
    async fn carry(&mut self, play: &Play) -> Result<Found> {
        let begin = Instant::now();
        self.network.add_relayer(0).await?;
        if play.without_court {
            self.switch_court_off().await?;
        }
        let network = &self.network;
        self.wait_for(begin, || async {
            Ok(network.relayer_json(0, "/v1/evidence").await?["evidence"][0]["body"].clone())
        })
        .await
    }

    async fn wait_for<F, Fut>(&self, begin: Instant, mut evidence: F) -> Result<Found>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<Value>>,
    {
        for _ in 0..2_400 {
            if let Ok(file) = serde_json::from_value(evidence().await?) {
                return Ok(Found { file, detected: begin.elapsed(), challenge: None });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("nobody noticed anything in two minutes")
    }

    /// An honest signature, and one that conflicts with it and was bought. A stranger has the gateway's page and what leaked.
    async fn conflict(&self, fault: Fault) -> Result<Found> {
        let gateway = self.gateway()?;
        let target = gateway.epoch()?;
        let honest = gateway.vote(target, 1);
        let buy = async |duty: &Value| buy(&self.network, self.culprit, gateway, self.key_id, duty).await;
        let begin = Instant::now();
        let bought: Vec<SignedEnvelope> = match fault {
            Fault::DoubleProposal => {
                let slot = target * 8;
                vec![buy(&gateway.block(slot, 1)).await?, buy(&gateway.block(slot, 2)).await?]
            }
            Fault::SurroundVote => {
                gateway.signs(&honest).await?;
                vec![buy(&gateway.vote_from(target - 2, target + 1, 9)).await?]
            }
            _ => {
                gateway.signs(&honest).await?;
                vec![buy(&gateway.vote(target, 2)).await?]
            }
        };
        let mut pages = vec![page(&bought)];
        if fault != Fault::DoubleProposal {
            pages.push(gateway.kept_with(&honest).await?);
        }
        let file = only_file(&find(&self.network, &self.dir, &pages.iter().collect::<Vec<_>>())?)?;
        let detected = begin.elapsed();
        let (status, answer) = hand_in(&self.network, &file).await?;
        ensure!(status == 200, "the relayer says {status}: {answer}");
        Ok(Found { file, detected, challenge: None })
    }

    /// The provider's own duty key signs two requests that conflict, past its gateway. What it asked for stays with the servers.
    async fn equivocate(&mut self, play: &Play) -> Result<Found> {
        let gateway = self.gateway()?;
        let folder = gateway.config.parent().ok_or_else(|| eyre!("no folder"))?;
        let key = SignerKey::from_bytes(&*stkr_node::secrets::read_hex32(&folder.join("secrets/duty.key"))?)?;
        let target = gateway.epoch()?;
        let requests = [1, 2]
            .map(|root| asked(&self.network, gateway, self.key_id, &gateway.vote(target, root), &key))
            .into_iter()
            .map(|asked| Ok(asked?.request().clone()))
            .collect::<Result<Vec<_>>>()?;
        let begin = Instant::now();
        let client = self.network.client(self.culprit, &Identity::generate("provider")?)?;
        client.sign(&SignBatch { requests }).await?;
        // Its operator looks, as it may at any time when the server does not run.
        let server = self.culprit;
        self.network.terminate_server(server)?;
        let out = play.dir.join("found");
        let mut command = Command::new(binary("stkr-server")?);
        command.args(["evidence", "--config"]).arg(&self.network.servers[server].config).arg("--conflicts").arg(&out);
        let printed: Value = serde_json::from_str(output(&mut command)?.lines().next().unwrap_or_default())?;
        let path = printed["file"].as_str().ok_or_else(|| eyre!("no file: {printed}"))?;
        let file = EvidenceFile::from_json(&std::fs::read(path)?)?;
        let detected = begin.elapsed();
        if !play.without_court {
            self.network.start_server(server)?;
        }
        let (status, answer) = hand_in(&self.network, &file).await?;
        ensure!(status == 200 || play.without_court, "the relayer says {status}: {answer}");
        Ok(Found { file, detected, challenge: None })
    }

    /// A stranger asks a dead server on the chain for what the chain ordered, and waits a day.
    async fn challenge(&mut self) -> Result<Found> {
        self.network.kill_server(self.culprit);
        let begin = Instant::now();
        let account = self.network.account("10").await?;
        let file = self.dir.join("challenger.key");
        write_secret(&file, &format!("{}\n", account.to_bytes()))?;
        let (key, server) = (self.key_id.to_string(), self.network.servers[self.culprit].id.to_string());
        let path = file.display().to_string();
        let asked = stkr(&self.network, &["challenge", "open", &key, &server, "--key-file", &path])?;
        let transaction = |said: &Value| said["transaction"].as_str().and_then(|hash| hash.parse().ok());
        let challenge = transaction(&asked).ok_or_else(|| eyre!("no transaction: {asked}"))?;
        let blocks = U256::from(CHALLENGE_BLOCKS + 1);
        let _: Value = self.network.provider()?.raw_request("anvil_mine".into(), (blocks,)).await?;
        let evidence = self.dir.join("unanswered.json");
        let out = evidence.display().to_string();
        stkr(&self.network, &["challenge", "evidence", &key, &server, "--out", &out])?;
        let detected = begin.elapsed();
        stkr(&self.network, &["evidence", "submit", &out, "--no-wait", "--key-file", &path])?;
        let file = EvidenceFile::from_json(&std::fs::read(&evidence)?)?;
        Ok(Found { file, detected, challenge: Some(challenge) })
    }

    /// Writes the file, and lets a stranger's `stkr evidence verify` judge it without any endpoint.
    fn keep(&self, fault: Fault, file: &EvidenceFile) -> Result<PathBuf> {
        let folder = self.dir.join("evidence");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.json", fault.name()));
        std::fs::write(&path, serde_json::to_vec_pretty(file)?)?;
        stkr(&self.network, &["evidence", "verify", "--offline", &path.display().to_string()])?;
        Ok(path)
    }

    // -------------------------------------------------------------------------------------------------------- after

    /// The Court's verdict on what was found, waited for; nothing if there is none in time.
    async fn judged(&self, found: &Found, play: &Play) -> Result<Option<Judged>> {
        let verified = found.file.verify()?;
        let begin = Instant::now();
        let patience = if play.without_court { WITHOUT_COURT } else { crate::network::PATIENCE };
        while begin.elapsed() < patience {
            if let Some(judged) = self.verdict(&verified).await? {
                return Ok(Some(judged));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(None)
    }

    async fn verdict(&self, verified: &Verified) -> Result<Option<Judged>> {
        for log in self.court_events::<Court::FaultProven>().await? {
            let it = Court::FaultProven::decode_log(&log.inner)?.data;
            if verified.evidence == it.evidence {
                let server_id = Some(it.server);
                return Ok(Some(judged(&log, server_id, (it.slashed, it.bounty, it.reporter))?));
            }
        }
        for log in self.court_events::<Court::ProviderFaultProven>().await? {
            let it = Court::ProviderFaultProven::decode_log(&log.inner)?.data;
            if verified.evidence == it.evidence {
                return Ok(Some(judged(&log, None, (it.penalty, it.bounty, it.reporter))?));
            }
        }
        Ok(None)
    }

    async fn court_events<E: SolEvent>(&self) -> Result<Vec<Log>> {
        let filter = Filter::new().address(self.network.deployment.court).event_signature(E::SIGNATURE_HASH);
        Ok(self.network.provider()?.get_logs(&filter.from_block(0)).await?)
    }

    /// The transactions of the report, in their order.
    async fn report(&self, found: &Found, judged: &Judged) -> Result<Vec<B256>> {
        if let Some(challenge) = found.challenge {
            return Ok(vec![challenge, judged.transaction]);
        }
        let verified = found.file.verify()?;
        let commitment = (judged.reporter, U256::from(verified.fault as u8), verified.evidence).abi_encode();
        let commitment = keccak256(commitment);
        for log in self.court_events::<Court::EvidenceCommitted>().await? {
            if Court::EvidenceCommitted::decode_log(&log.inner)?.commitment == commitment {
                let first = log.transaction_hash.ok_or_else(|| eyre!("an event of no transaction"))?;
                return Ok(vec![first, judged.transaction]);
            }
        }
        bail!("nobody committed to the evidence")
    }

    async fn locked_out(&self, server_id: Option<u32>) -> Result<()> {
        let Some(id) = server_id else {
            let pools = Micropools::new(self.network.deployment.micropools, self.network.provider()?);
            ensure!(pools.isMigrationDue(U256::from(self.pool)).call().await?, "the pool need not move");
            return Ok(());
        };
        ensure!(self.network.stkr().await?.servers().get(id).await?.locked_out, "server {id} is not locked out");
        Ok(())
    }

    /// The same key signs another duty while the culprit is away, or the next key is made and signs without it.
    async fn sign_without_culprit(&mut self, fault: Fault, server_id: Option<u32>) -> Result<NextSignature> {
        if let Some(adversary) = &mut self.adversary {
            adversary.kill();
        }
        if fault.is_of_a_ceremony() { self.next_key(server_id).await } else { self.next_duty().await }
    }

    async fn next_duty(&self) -> Result<NextSignature> {
        let gateway = self.gateway()?;
        let reveal = gateway.reveal(gateway.epoch()?);
        let answer = gateway.sign(&reveal).await?;
        gateway.check(&reveal, &answer)?;
        let request = stkr_duties::SigningRequest::decode(reveal.to_string().as_bytes(), gateway.schedule.preset())?;
        Ok(NextSignature {
            key_id: self.key_id.to_string(),
            public_key: gateway.pubkey.clone(),
            signing_root: request.verify(&gateway.schedule)?,
            signature: format!("0x{}", hex::encode(answer.signature()?.to_compressed())),
        })
    }

    async fn next_key(&self, server_id: Option<u32>) -> Result<NextSignature> {
        let network = &self.network;
        let provider = network.account("10").await?;
        let (pool, _) = network.open_pool(&provider, 3, 4).await?;
        network.fill_pool(pool, 4).await?;
        let micropools = network.deployment.micropools;
        let ordered = network.event::<Micropools::DepositOrdered>(micropools, pool).await?.inner;
        let sent = network.event::<Micropools::DepositSent>(micropools, pool).await?.inner;
        let key_id = u64::try_from(ordered.keyId)?;
        let finalised = network.event::<KeyRegistry::KeyFinalised>(network.deployment.key_registry, key_id).await?;
        let has_culprit = server_id.is_some_and(|id| finalised.inner.committee.contains(&id));
        ensure!(!has_culprit, "the culprit has a seat of key {key_id}");
        Ok(NextSignature {
            key_id: key_id.to_string(),
            public_key: sent.pubkey.to_string(),
            signing_root: ordered.signingRoot,
            signature: sent.signature.to_string(),
        })
    }
}

fn judged(log: &Log, server_id: Option<u32>, (slashed, bounty, reporter): (U256, U256, Address)) -> Result<Judged> {
    let place = log.transaction_hash.zip(log.block_number);
    let (transaction, block) = place.ok_or_else(|| eyre!("an event of no block"))?;
    Ok(Judged { server_id, block, transaction, slashed, bounty, reporter })
}
