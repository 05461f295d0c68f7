//! A validator key that existed whole: split by its owner, served by the gateway whose duty key the owner names, by another one
//! when the owner names that, and by none after the owner gave it up. Its servers answer for what they sign.

use std::path::Path;
use std::process::Command;

use alloy::primitives::{Address, B256};
use alloy::providers::Provider as _;
use eyre::{Result, ensure, eyre};
use serde_json::{Value, json};
use stkr_duties::{Preset, SigningRequest};
use stkr_e2e::anvil::{GENESIS_FORK_VERSION, mine, reorg};
use stkr_e2e::beacon::unix_seconds;
use stkr_e2e::deal::{Deal, interop_secret, public_key};
use stkr_e2e::gateway_process::Answer;
use stkr_e2e::lodestar::{Genesis, SECONDS_PER_SLOT, SLOTS_PER_EPOCH};
use stkr_e2e::misbehaviour::corrupt;
use stkr_e2e::network::output;
use stkr_e2e::process::binary;
use stkr_e2e::{DealtNetwork, GatewayProcess, Network, Options};
use stkr_protocol::evidence::Fault;
use stkr_sdk::{HistoryEntry, Incident};

/// How old the chain is at the start, in epochs.
const AGE: u64 = 50;

/// One network with one dealt key.
struct Dealt {
    network: Network,
    genesis: Genesis,
    genesis_time: u64,
    pubkey: String,
}

impl Dealt {
    fn now(&self) -> Result<u64> {
        let seconds = unix_seconds()? - self.genesis_time;
        Ok(seconds / SECONDS_PER_SLOT / SLOTS_PER_EPOCH)
    }

    /// A vote in the first slot of `target`.
    fn vote(&self, target: u64) -> Value {
        let [previous, current] = &self.genesis.versions;
        let root = B256::repeat_byte(1);
        json!({
            "type": "ATTESTATION",
            "fork_info": {
                "fork": {"previous_version": previous, "current_version": current, "epoch": "0"},
                "genesis_validators_root": self.genesis.validators_root,
            },
            "attestation": {
                "slot": (target * SLOTS_PER_EPOCH).to_string(), "index": "0", "beacon_block_root": root,
                "source": {"epoch": (target - 1).to_string(), "root": root},
                "target": {"epoch": target.to_string(), "root": root},
            },
        })
    }

    async fn ask(&self, gateway: &GatewayProcess, request: &Value) -> Result<Answer> {
        gateway.ask(&self.pubkey, request).await
    }

    /// The answer is the whole key's signature: what it would have signed itself.
    fn check(&self, request: &Value, answer: &Answer) -> Result<()> {
        self.check_with(&interop_secret(0)?, request, answer)
    }

    fn check_with(&self, secret: &[u8; 32], request: &Value, answer: &Answer) -> Result<()> {
        let schedule = self.network.server_config(0)?.schedule()?.ok_or_else(|| eyre!("no schedule"))?;
        let request = SigningRequest::decode(request.to_string().as_bytes(), Preset::Minimal)?;
        let root = request.verify(&schedule)?.0;
        ensure!(stkr_core::verify(&public_key(secret)?, &root, &answer.signature()?), "a wrong signature");
        Ok(())
    }

    /// The owner's `stkr key …`.
    fn owner(&self, words: &[&str], dealer: &Path) -> Result<String> {
        let mut command = Command::new(binary("stkr")?);
        command.args(["--rpc", &self.network.anvil.url, "--deployment"]).arg(&self.network.deployment_file);
        output(command.arg("key").args(words).arg("--key-file").arg(dealer.join("owner.key")))
    }

    async fn serves(&self, gateway: &GatewayProcess, serves: bool) -> Result<()> {
        let expected = if serves { vec![self.pubkey.clone()] } else { Vec::new() };
        let what = if serves { "the key appears" } else { "the key vanishes" };
        self.network.until(what, || async { Ok(gateway.public_keys().await? == expected) }).await
    }
}

#[tokio::test]
async fn the_owner_of_a_split_key_says_which_gateway_serves_it_and_when_none_does() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = Options { servers: 4, relayers: 0, block_ms: 300, ..Options::new(dir.path()) };
    let mut network = Network::deploy(options).await?;
    let versions = [GENESIS_FORK_VERSION, "0x01746b72"].map(str::to_owned);
    let genesis = Genesis { validators_root: B256::repeat_byte(7), versions };
    let age = AGE * SLOTS_PER_EPOCH * SECONDS_PER_SLOT;
    let genesis_time = unix_seconds()? - age;
    let schedule = dir.path().join("beacon.toml");
    std::fs::write(&schedule, genesis.schedule(genesis_time))?;
    network.beacon_schedule = Some(schedule.clone());
    network.init_servers().await?;
    network.register_servers().await?;
    network.approve_servers().await?;

    let mut first = GatewayProcess::init(&network, &dir.path().join("first"), &schedule)?;
    let mut second = GatewayProcess::init(&network, &dir.path().join("second"), &schedule)?;
    let owner = network.account("10").await?;
    let dealer = dir.path().join("dealer");
    let deal = Deal {
        owner: &owner,
        duty_key: first.duty_key,
        threshold: 3,
        has_signed: false,
        genesis_validators_root: genesis.validators_root,
        dir: dealer.clone(),
    };
    let history = deal.make(&network, &[interop_secret(0)?])?.display().to_string();
    for gateway in [&first, &second] {
        gateway.without_quiet_period()?;
        gateway.command(&["protection", "import", "--file", &history])?;
    }
    for position in 0..network.servers.len() {
        network.start_server(position)?;
    }
    let pubkey = format!("0x{}", hex::encode(public_key(&interop_secret(0)?)?.to_compressed()));
    let dealt = Dealt { network, genesis, genesis_time, pubkey };
    first.start()?;
    second.start()?;
    dealt.serves(&first, true).await?;
    dealt.serves(&second, false).await?;

    // A key that the chain knows since a moment ago: servers follow the finalized block.
    let vote = dealt.vote(dealt.now()?);
    let signed = || async { Ok(dealt.ask(&first, &vote).await?.status == 200) };
    dealt.network.until("the servers have found the key", signed).await?;
    dealt.check(&vote, &dealt.ask(&first, &vote).await?)?;
    assert_eq!(dealt.ask(&second, &vote).await?.status, 404);

    // Another gateway: the first one loses the key by itself, and the servers sign for the second. What it signs comes after
    // what the key signed before, which only the servers know.
    dealt.owner(&["set-duty-key", "1", &second.duty_key.to_string()], &dealer)?;
    dealt.serves(&first, false).await?;
    dealt.serves(&second, true).await?;
    assert_eq!(dealt.ask(&first, &vote).await?.status, 404);
    let later = || async {
        let vote = dealt.vote(dealt.now()?);
        let answer = dealt.ask(&second, &vote).await?;
        if answer.status == 200 {
            dealt.check(&vote, &answer)?;
        }
        Ok(answer.status == 200)
    };
    dealt.network.until("the second gateway signs", later).await?;

    dealt.owner(&["retire", "1"], &dealer)?;
    dealt.serves(&second, false).await?;
    assert_eq!(dealt.ask(&second, &dealt.vote(dealt.now()?)).await?.status, 404);
    let refused = dealt.owner(&["set-duty-key", "1", &Address::repeat_byte(5).to_string()], &dealer).unwrap_err();
    assert!(refused.to_string().contains("key 1 is Retired"), "{refused}");
    Ok(())
}

/// Blocks between the finalised block and the head while two imports are taken back.
const FINALITY: u64 = 128;

/// An envelope names its key by the id, and until the import is final the id may become another key's.
#[tokio::test]
async fn a_reorganisation_that_swaps_the_ids_of_two_keys_convicts_nobody() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options =
        Options { servers: 4, relayers: 0, block_ms: 300, finality: FINALITY, behind: 900, ..Options::new(dir.path()) };
    let mut network = Network::deploy(options).await?;
    let versions = [GENESIS_FORK_VERSION, "0x01746b72"].map(str::to_owned);
    let genesis = Genesis { validators_root: B256::repeat_byte(7), versions };
    let genesis_time = unix_seconds()? - AGE * SLOTS_PER_EPOCH * SECONDS_PER_SLOT;
    let schedule = dir.path().join("beacon.toml");
    std::fs::write(&schedule, genesis.schedule(genesis_time))?;
    network.beacon_schedule = Some(schedule.clone());
    network.init_servers().await?;
    network.register_servers().await?;
    network.approve_servers().await?;
    let rpc = network.provider()?;
    mine(&rpc, FINALITY + 4).await?;

    let mut gateway = GatewayProcess::init(&network, &dir.path().join("gateway"), &schedule)?;
    let owner = network.account("10").await?;
    let deal = Deal {
        owner: &owner,
        duty_key: gateway.duty_key,
        threshold: 3,
        has_signed: false,
        genesis_validators_root: genesis.validators_root,
        dir: dir.path().join("dealer"),
    };
    let secrets = [interop_secret(0)?, interop_secret(1)?];
    let before = rpc.get_block_number().await?;
    let history = deal.make(&network, &secrets)?.display().to_string();
    gateway.without_quiet_period()?;
    gateway.command(&["protection", "import", "--file", &history])?;
    for position in 0..network.servers.len() {
        network.start_server(position)?;
    }
    gateway.start()?;
    let pubkey = |secret| -> Result<String> { Ok(format!("0x{}", hex::encode(public_key(secret)?.to_compressed()))) };
    let (one, other) = (pubkey(&secrets[0])?, pubkey(&secrets[1])?);
    let dealt = Dealt { network, genesis, genesis_time, pubkey: one };
    let served = || async { Ok(gateway.public_keys().await?.len() == 2) };
    dealt.network.until("the gateway knows both keys", served).await?;

    // Nobody signs in the name of an id that is not final.
    let refused = dealt.ask(&gateway, &dealt.vote(dealt.now()?)).await?;
    assert_eq!(refused.status, 503, "{refused:?}");
    let depth = rpc.get_block_number().await? - before;
    assert!(depth < FINALITY, "the imports are {depth} blocks deep, and final");
    reorg(&rpc, depth).await?;
    deal.import_in_order(&dealt.network, &[1, 0])?;
    mine(&rpc, FINALITY + 4).await?;

    for (key, secret) in [(&dealt.pubkey, &secrets[0]), (&other, &secrets[1])] {
        let signs = || async {
            let vote = dealt.vote(dealt.now()?);
            let answer = gateway.ask(key, &vote).await?;
            if answer.status == 200 {
                dealt.check_with(secret, &vote, &answer)?;
            }
            Ok(answer.status == 200)
        };
        dealt.network.until("the key signs under its new id", signs).await?;
    }
    let kept = gateway.get("/v1/evidence").await?.body;
    assert_eq!(kept["rows"], json!([]), "an honest server is accused");
    Ok(())
}

/// No relayer orders or collects anything of a dealt key, so that all it knows of it are the events of its import.
#[tokio::test]
async fn a_server_that_lies_with_its_share_of_a_dealt_key_is_charged_through_a_relayer() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut dealt = DealtNetwork::deploy(dir.path()).await?;
    dealt.network.init_relayer(0).await?;
    dealt.gateway.configure("relayers = []", &format!("relayers = [\"{}\"]", dealt.network.relayers[0].url))?;
    dealt.network.start_relayer(0)?;
    dealt.run().await?;
    let key =
        || async { Ok::<Value, eyre::Report>(dealt.network.relayer_json(0, "/status").await?["keys"][0].clone()) };
    dealt.network.until("the relayer knows the key", || async { Ok(key().await?["state"] == "live") }).await?;
    let known = key().await?;
    assert_eq!(
        (&known["keyId"], &known["dealt"], &known["healthy"]),
        (&json!("1"), &json!(true), &json!("4")),
        "{known}"
    );

    // With one server down the liar's partial is one of the three that are needed.
    let (liar, down, id) = (0, 3, dealt.network.servers[0].id);
    dealt.network.kill_server(down);
    let lie = ["--key-id", "1", "--lie", "wrong-share"];
    let accomplice = corrupt(&mut dealt.network, liar, "accomplice", &lie)?;
    let vote = dealt.vote(10, 11, 1);
    let refused = dealt.ask_gateway(&vote).await?;
    assert_eq!(refused.status, 503, "two partials of three: {refused:?}");
    let stkr = dealt.network.stkr().await?;
    let is_out = || async { Ok(stkr.servers().get(id).await?.locked_out) };
    dealt.network.until("the liar is locked out", is_out).await?;
    let history = stkr.faults().history(id).await?;
    let faults: Vec<String> = history.iter().filter_map(charged).collect();
    assert_eq!(faults, [Fault::InvalidPartial.to_string()]);

    let on_record = "stkr_relayer_evidence{fault=\"invalid_partial\",stage=\"on_record\"} 1";
    let settled = || async {
        let metrics = dealt.network.relayer_text(0, "/metrics").await?;
        Ok(metrics.contains(on_record) && metrics.contains("stkr_relayer_keys_without_spare_share 1"))
    };
    dealt.network.until("the relayer sees it on record", settled).await?;
    let status = dealt.network.relayer_json(0, "/status").await?;
    assert_eq!(status["keys"][0]["healthy"], json!("3"), "{status}");
    assert!(status["problems"].to_string().contains("it is a dealt key"), "{}", status["problems"]);

    // The key signs on, and so does the server once it is mended.
    drop(accomplice);
    dealt.network.start_server(liar)?;
    let signs = || async { Ok(dealt.ask_gateway(&vote).await?.status == 200) };
    dealt.network.until("the key signs on", signs).await?;
    dealt.check(&vote, &dealt.ask_gateway(&vote).await?)
}

/// The fault of an entry that cost its server something.
fn charged(entry: &HistoryEntry) -> Option<String> {
    match &entry.incident {
        Incident::Fault { fault, judgement, .. } if judgement.charged => Some(fault.clone()),
        _ => None,
    }
}
