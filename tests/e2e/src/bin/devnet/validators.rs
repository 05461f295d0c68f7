//! Sixteen validators whose keys no longer exist, a stock validator client, and a beacon chain that has to finalise.

use alloy::primitives::utils::parse_ether;
use eyre::{Context, Result, ensure, eyre};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stkr_e2e::deal::{Deal, export_history, interop_secret, public_key};
use stkr_e2e::lodestar::{self, BeaconNode, Genesis, SECONDS_PER_SLOT, SLOTS_PER_EPOCH, VALIDATORS};
use stkr_e2e::network::output;
use stkr_e2e::process::{Process, binary, workspace_root};
use stkr_e2e::{GatewayProcess, Network, Options, anvil};

use crate::{Args, Progress};

/// Shares that sign, of as many servers.
const THRESHOLD: (u8, u32) = (3, 4);
/// From the start of the servers to genesis, seconds: they and a beacon node have to be there.
const LEAD: u64 = 24;
/// Epochs without finality that are too many: the first final epoch comes after four.
const EPOCHS_OF_PATIENCE: u64 = 12;
/// Whose power fails, and whose operator restarts it: positions.
const KILLED: usize = 1;
const RESTARTED: usize = 2;
/// Duties of every validator on a chain before Bellatrix, and of a few in each slot.
const DUTIES: [&str; 8] = [
    "AGGREGATION_SLOT",
    "AGGREGATE_AND_PROOF",
    "ATTESTATION",
    "BLOCK_V2",
    "RANDAO_REVEAL",
    "SYNC_COMMITTEE_MESSAGE",
    "SYNC_COMMITTEE_SELECTION_PROOF",
    "SYNC_COMMITTEE_CONTRIBUTION_AND_PROOF",
];

/// Everything that runs.
struct Chain {
    network: Network,
    gateway: GatewayProcess,
    node: BeaconNode,
    client: Process,
}

/// What the chain came to.
struct Outcome {
    finalized_epoch: u64,
    slots: u64,
    answers: BTreeMap<(String, String), u64>,
    slashable: Slashable,
}

/// What the reader of the exported histories found.
struct Slashable {
    pairs: u64,
    keys: u64,
    records: u64,
}

pub(crate) async fn run(args: &Args, dir: &Path) -> Result<()> {
    let mut progress = Progress::default();
    let mut chain = start(args, dir, &mut progress).await?;
    let outcome = trouble(&mut chain, dir, &mut progress, args.once).await;
    match outcome {
        Ok(outcome) => {
            let line = line(&outcome);
            println!("{line}");
            std::io::stdout().flush()?;
            ensure!(line["ok"] == true, "the chain is not as it should be; see the line");
            Ok(())
        }
        Err(error) => {
            println!("{}", json!({"ok": false, "error": format!("{error:#}")}));
            Err(error)
        }
    }
}

fn unix_seconds() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

async fn start(args: &Args, dir: &Path, progress: &mut Progress) -> Result<Chain> {
    let begin = Instant::now();
    // Its root depends on the validators alone, so a node whose genesis is far away can be asked for it.
    let genesis = BeaconNode::start(&dir.join("genesis"), unix_seconds()? + 86_400).await?.genesis().await?;
    let options = Options { servers: THRESHOLD.1, relayers: 0, block_ms: args.block_ms.min(500), ..Options::new(dir) };
    let mut network = Network::deploy(options).await?;
    let schedule = dir.join("beacon.toml");
    std::fs::write(&schedule, genesis.schedule(unix_seconds()? + 86_400))?;
    network.beacon_schedule = Some(schedule.clone());
    network.init_servers().await?;
    network.register_servers().await?;
    network.approve_servers().await?;
    let detail = format!("contracts on {}, {} servers registered", network.anvil.url, network.servers.len());
    progress.done("network", begin, &detail);

    let begin = Instant::now();
    let gateway = GatewayProcess::init(&network, &dir.join("gateway"), &schedule)?;
    deal(&network, &gateway, &genesis, dir).await?;
    let detail = format!("{VALIDATORS} keys split {} of {}, the whole keys deleted", THRESHOLD.0, THRESHOLD.1);
    progress.done("keys_dealt", begin, &detail);
    bring_up(network, gateway, (&schedule, &genesis), progress).await
}

/// The interop keys are split; servers and gateway take their (empty) history along.
async fn deal(network: &Network, gateway: &GatewayProcess, genesis: &Genesis, dir: &Path) -> Result<()> {
    let owner = network.account("10").await?;
    anvil::fund(&network.provider()?, owner.address(), parse_ether("100")?).await?;
    let secrets: Vec<[u8; 32]> = (0..VALIDATORS).map(interop_secret).collect::<Result<_>>()?;
    let deal = Deal {
        owner: &owner,
        duty_key: gateway.duty_key,
        threshold: THRESHOLD.0,
        has_signed: false,
        genesis_validators_root: genesis.validators_root,
        dir: dir.join("dealer"),
    };
    let history = deal.make(network, &secrets)?;
    let history = history.to_str().ok_or_else(|| eyre!("the folder's name is not UTF-8"))?;
    gateway.command(&["protection", "import", "--file", history]).map(drop)
}

async fn bring_up(
    mut network: Network,
    mut gateway: GatewayProcess,
    (schedule, genesis): (&Path, &Genesis),
    progress: &mut Progress,
) -> Result<Chain> {
    let begin = Instant::now();
    let genesis_time = unix_seconds()? + LEAD;
    std::fs::write(schedule, genesis.schedule(genesis_time))?;
    let dir = network.options.dir.clone();
    for position in 0..network.servers.len() {
        network.start_server(position)?;
    }
    gateway.start()?;
    let expected = (0..VALIDATORS)
        .map(|index| Ok(format!("0x{}", hex::encode(public_key(&interop_secret(index)?)?.to_compressed()))))
        .collect::<Result<BTreeSet<String>>>()?;
    let serves = || async { eyre::Ok(BTreeSet::from_iter(gateway.public_keys().await?) == expected) };
    network.until("the gateway serves all keys", serves).await?;
    let node = BeaconNode::start(&dir, genesis_time).await?;
    let client = lodestar::validator_client(&dir, &node, &gateway.url)?;
    let lead = genesis_time.saturating_sub(unix_seconds()?);
    let active: BTreeSet<String> = node.active_validators().await?.into_iter().collect();
    ensure!(active == expected, "the beacon chain's validators are not the keys that were dealt");
    progress.done("processes", begin, &format!("all run; genesis is {lead} s away"));
    Ok(Chain { network, gateway, node, client })
}

/// Finality with all servers, after a restart of one, and without another.
async fn trouble(chain: &mut Chain, dir: &Path, progress: &mut Progress, once: bool) -> Result<Outcome> {
    let patience = Duration::from_secs(EPOCHS_OF_PATIENCE * SLOTS_PER_EPOCH * SECONDS_PER_SLOT);
    let begin = Instant::now();
    let first = chain.node.finalizes(1, patience + Duration::from_secs(LEAD)).await?;
    progress.done("finalised", begin, &format!("epoch {first} is final"));

    let begin = Instant::now();
    chain.network.terminate_server(RESTARTED)?;
    chain.network.start_server(RESTARTED)?;
    chain.network.kill_server(KILLED);
    let killed_in = chain.node.head_slot().await? / SLOTS_PER_EPOCH;
    // A checkpoint after the one in whose epoch the server died: everything for it was signed by three.
    let finalized = chain.node.finalizes(killed_in + 1, patience).await?;
    let detail = format!("epoch {finalized} is final; one server was killed in epoch {killed_in}, one restarted");
    progress.done("finalised_on", begin, &detail);
    if !once {
        stay(chain).await?;
    }
    judge(chain, dir, progress, once).await
}

/// For people: what there is to look at.
async fn stay(chain: &mut Chain) -> Result<()> {
    chain.network.start_server(KILLED)?;
    let (rpc, deployment) = (&chain.network.anvil.url, chain.network.deployment_file.display());
    eprintln!("\nbeacon API  {}", chain.node.url);
    eprintln!("gateway     {} (Web3Signer API)", chain.gateway.url);
    eprintln!("RPC         {rpc}");
    eprintln!("deployment  {deployment}");
    eprintln!("logs        {}", chain.network.options.dir.display());
    let stkr = format!("{} --rpc {rpc} --deployment {deployment}", binary("stkr")?.display());
    eprintln!("\n{stkr} key list\n{stkr} key safe-to-move 1");
    eprintln!("\nCtrl-C ends the chain and reads what the servers signed.");
    Ok(tokio::signal::ctrl_c().await?)
}

/// Stops everything and reads what the servers' slashing protection exports.
async fn judge(chain: &mut Chain, dir: &Path, progress: &mut Progress, once: bool) -> Result<Outcome> {
    let begin = Instant::now();
    ensure!(chain.client.is_running(), "the validator client has ended:\n{}", chain.client.log());
    let (finalized_epoch, slots) = (chain.node.finalized_epoch().await?, chain.node.head_slot().await?);
    chain.client.kill();
    let answers = last_answers(chain, once).await?;
    let mut histories = Vec::new();
    for position in 0..chain.network.servers.len() {
        if chain.network.servers[position].process.is_some() {
            chain.network.terminate_server(position)?;
        }
        let file = dir.join(format!("history-{}.json", position + 1));
        export_history(&chain.network, position, &file)?;
        histories.push(file);
    }
    let slashable = read(&histories)?;
    let detail =
        format!("{} records of {} keys, {} slashable pairs", slashable.records, slashable.keys, slashable.pairs);
    progress.done("histories_read", begin, &detail);
    Ok(Outcome { finalized_epoch, slots, answers, slashable })
}

/// What the gateway answered up to its end. Who stays may have ended it by hand: then nothing is known of its answers, and the
/// servers' histories are read all the same.
async fn last_answers(chain: &mut Chain, once: bool) -> Result<BTreeMap<(String, String), u64>> {
    let runs = chain.gateway.process.as_mut().is_some_and(Process::is_running);
    if !runs && !once {
        eprintln!("the gateway has ended: what it answered is not known");
        return Ok(BTreeMap::new());
    }
    let answers = chain.gateway.answers().await?;
    chain.gateway.terminate()?;
    Ok(answers)
}

/// A program of its own, in another language, that shares nothing with slashing protection.
fn read(histories: &[PathBuf]) -> Result<Slashable> {
    let mut reader = Command::new("node");
    let printed = output(reader.arg(workspace_root().join("xtask/checker/slashable.mjs")).args(histories))?;
    let found: Value = serde_json::from_str(&printed).wrap_err("what the reader printed")?;
    let number = |name: &str| found[name].as_u64().ok_or_else(|| eyre!("no {name}: {found}"));
    Ok(Slashable { pairs: number("slashable_pairs")?, keys: number("keys")?, records: number("records")? })
}

fn line(outcome: &Outcome) -> Value {
    let mut signatures = BTreeMap::<&str, u64>::new();
    let mut refused = 0;
    for ((duty, word), count) in &outcome.answers {
        if word == "signed" {
            *signatures.entry(duty).or_default() += count;
        } else {
            refused += count;
        }
    }
    let all_duties = DUTIES.iter().all(|duty| signatures.get(duty).is_some_and(|count| *count > 0));
    // Every server that lived recorded what it signed; one record per epoch and key is the least.
    let all_recorded = outcome.slashable.keys == VALIDATORS
        && outcome.slashable.records >= VALIDATORS * outcome.finalized_epoch * u64::from(THRESHOLD.0);
    json!({
        "ok": all_duties && all_recorded && outcome.slashable.pairs == 0,
        "finalized_epoch": outcome.finalized_epoch,
        "slots": outcome.slots,
        "signatures": signatures,
        "refused": refused,
        "servers_killed": 1,
        "slashable_pairs": outcome.slashable.pairs,
    })
}
