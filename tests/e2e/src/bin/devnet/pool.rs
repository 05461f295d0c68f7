//! A pool from 64 stakes to its deposit.

use alloy::network::EthereumWallet;
use alloy::primitives::{B256, Bytes, U256};
use alloy::providers::Provider as _;
use alloy::rpc::types::TransactionReceipt;
use eyre::{Context, Result, bail, ensure, eyre};
use serde::Serialize;
use serde_json::json;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;
use stkr_adversary::foreign_deposit;
use stkr_chain::bindings::{IDepositContract, KeyRegistry, Micropools, Resharing};
use stkr_e2e::anvil::{CHAIN_ID, GENESIS_FORK_VERSION, advance_time, fund};
use stkr_e2e::checker::Checker;
use stkr_e2e::network::write_secret;
use stkr_e2e::reshare::TO_HANDOVER;
use stkr_e2e::{Network, Options};

use crate::{Args, Progress, withdrawal};

/// t and n of the devnet's validator keys: the default of the product.
pub(crate) const THRESHOLD: (u8, u8) = (3, 4);
pub(crate) const STAKERS: u32 = 64;
const CHALLENGE_WINDOW_SECONDS: u64 = 12 * 3600;
/// Seconds by which the chain's clock begins behind this machine's: it moves on to the end of the challenge window, and then to a
/// handover, which servers judge by their own clocks.
const BEHIND: u64 = CHALLENGE_WINDOW_SECONDS + TO_HANDOVER + 300;

#[derive(Serialize)]
struct ProcessLine {
    name: String,
    pid: u32,
    exe: PathBuf,
    dir: PathBuf,
}

/// Gas used by the receipts of the main path; `order_deposit` is the step between finalisation and predeposit.
#[derive(Default, Serialize)]
struct Gas {
    register_server: u64,
    open_pool: u64,
    stake: u64,
    request_key: u64,
    draw: u64,
    finalise_key: u64,
    order_deposit: u64,
    predeposit: u64,
    topup: u64,
}

pub(crate) async fn run(args: &Args, dir: &Path) -> Result<()> {
    let mut progress = Progress::default();
    let mut gas = Gas::default();

    let (mut network, registrations) = start(args, dir, &mut progress).await?;
    let third = registrations.get(2).ok_or_else(|| eyre!("fewer than three servers registered"))?;
    gas.register_server = third.gas_used;
    let pool = open_and_fill(&network, &mut progress, &mut gas).await?;
    let key = make_key(&network, pool, &mut progress, &mut gas).await?;
    predeposit(&network, pool, &mut progress, &mut gas).await?;
    let burned = burn_second_pool(&network, &mut progress).await?;
    let changed = withdrawal::change_credentials(&network, &mut progress).await?;
    let deposit = top_up(&network, [pool, changed.pool], &mut progress, &mut gas).await?;
    let reshared = reshare(&mut network, pool, &key, &mut progress).await?;
    let [withdrawal_key, validator_key] = changed.committees;
    let committees = [key, burned, withdrawal_key, validator_key];
    let mut line = line(&network, &progress, &gas, &deposit, &committees).await?;
    line["credential_change"] = serde_json::to_value(changed.change)?;
    line["reshare"] = serde_json::to_value(reshared)?;

    let begin = Instant::now();
    let agreed = args.unchecked || check(&network, &line)?;
    progress.done("checked", begin, if agreed { "the checker agrees" } else { "THE CHECKER DISAGREES" });
    line["steps"] = serde_json::to_value(&progress.steps)?;
    line["ok"] = json!(agreed);
    if !args.once && !args.unchecked {
        restart_killed(&mut network)?;
        line["processes"] = serde_json::to_value(processes(&network)?)?;
        summary(&network, pool, &line).await?;
    }
    if args.once || args.keep || args.unchecked {
        println!("{line}");
        std::io::stdout().flush()?;
    }
    ensure!(agreed, "the checker disagrees; its reasons are above");
    if !args.once {
        tokio::signal::ctrl_c().await?;
        eprintln!("\nending {} processes", network.servers.len() + network.relayers.len() + 1);
    }
    Ok(())
}

async fn start(args: &Args, dir: &Path, progress: &mut Progress) -> Result<(Network, Vec<TransactionReceipt>)> {
    let begin = Instant::now();
    let options = Options { block_ms: args.block_ms, behind: BEHIND, reshares: true, ..Options::new(dir) };
    let mut network = Network::deploy(options).await?;
    let detail = format!("anvil on {}, contracts deployed by the forge script", network.anvil.url);
    progress.done("chain", begin, &detail);

    let begin = Instant::now();
    network.init_servers().await?;
    let registrations = network.register_servers().await?;
    network.approve_servers().await?;
    progress.done("servers_registered", begin, &format!("{} partners, bonded and approved", network.servers.len()));

    let begin = Instant::now();
    for position in 0..network.servers.len() {
        network.start_server(position)?;
    }
    network.add_relayer(0).await?;
    progress.done("processes", begin, &format!("{} servers and a relayer serve", network.servers.len()));
    Ok((network, registrations))
}

async fn open_and_fill(network: &Network, progress: &mut Progress, gas: &mut Gas) -> Result<u64> {
    let begin = Instant::now();
    let provider = network.account("10").await?;
    let (pool, receipt) = network.open_pool(&provider, THRESHOLD.0, THRESHOLD.1).await?;
    gas.open_pool = receipt.gas_used;
    progress.done("pool_opened", begin, &format!("pool {pool} of provider {}", provider.address()));

    let begin = Instant::now();
    let receipts = network.fill_pool(pool, STAKERS).await?;
    gas.stake = receipts.iter().map(|receipt| receipt.gas_used).max().unwrap_or_default();
    progress.done("staked", begin, &format!("{} accounts signed 0.5 ETH each; the pool is Full", receipts.len()));
    Ok(pool)
}

/// Waits for the relayer to ask for the key, draw, carry the ceremony and finalise. Returns the committee.
async fn make_key(network: &Network, pool: u64, progress: &mut Progress, gas: &mut Gas) -> Result<Vec<u32>> {
    let registry = network.deployment.key_registry;
    let begin = Instant::now();
    let requested = network.event::<Micropools::PoolKeyRequested>(network.deployment.micropools, pool).await?;
    let key_id = requested.inner.keyId;
    gas.request_key = network.gas_of(&requested).await?;
    let key = u64::try_from(key_id)?;
    let drawn = network.event::<KeyRegistry::CommitteeDrawn>(registry, key).await?;
    gas.draw = network.gas_of(&drawn).await?;
    let committee = drawn.inner.committee.clone();
    progress.done("committee_drawn", begin, &format!("key {key}, servers {committee:?}, seed {}", drawn.inner.seed));

    let begin = Instant::now();
    let finalised = network.event::<KeyRegistry::KeyFinalised>(registry, key).await?;
    gas.finalise_key = network.gas_of(&finalised).await?;
    let detail = format!("{} acknowledged one transcript; SCRAPE passed on-chain", committee.len());
    progress.done("key_finalised", begin, &detail);
    Ok(committee)
}

async fn predeposit(network: &Network, pool: u64, progress: &mut Progress, gas: &mut Gas) -> Result<()> {
    let begin = Instant::now();
    let ordered = network.event::<Micropools::DepositOrdered>(network.deployment.micropools, pool).await?;
    gas.order_deposit = network.gas_of(&ordered).await?;
    let sent = network.event::<Micropools::DepositSent>(network.deployment.micropools, pool).await?;
    gas.predeposit = network.gas_of(&sent).await?;
    progress.done(
        "predeposited",
        begin,
        &format!("1 ETH for {} to {}", sent.inner.pubkey, ordered.inner.withdrawalCredentials),
    );
    Ok(())
}

/// A second pool whose committee misbehaves: t of its members sign a deposit to somebody else's credentials.
async fn burn_second_pool(network: &Network, progress: &mut Progress) -> Result<Vec<u32>> {
    let begin = Instant::now();
    let provider = network.account("10").await?;
    let (pool, _) = network.open_pool(&provider, THRESHOLD.0, THRESHOLD.1).await?;
    network.fill_pool(pool, STAKERS).await?;
    let micropools = network.deployment.micropools;
    let ordered = network.event::<Micropools::DepositOrdered>(micropools, pool).await?;
    network.event::<Micropools::DepositSent>(micropools, pool).await?;
    let key = u64::try_from(ordered.inner.keyId)?;
    let finalised = network.event::<KeyRegistry::KeyFinalised>(network.deployment.key_registry, key).await?;

    let thieves: Vec<(u8, PathBuf)> = (1..)
        .zip(&finalised.inner.committee)
        .take(THRESHOLD.0.into())
        .map(|(index, id)| Ok((index, network.servers[network.position_of(*id)?].config.clone())))
        .collect::<Result<_>>()?;
    let foreign = foreign_deposit(&network.deployment, key, &finalised.inner.points, THRESHOLD, &thieves)?;
    let reporter = EthereumWallet::from(network.account("10").await?);
    let stkr = network.stkr().await?;
    stkr.pools()
        .prove_foreign_deposit(pool, foreign.withdrawal_credentials, foreign.amount_gwei, &foreign.signature)
        .await?
        .send_with(&reporter)
        .await?;
    network.event::<Micropools::ForeignDepositProven>(micropools, pool).await?;
    let detail =
        format!("pool {pool}: a deposit to {} was signed, shown and burned key {key}", foreign.withdrawal_credentials);
    progress.done("foreign_deposit_burns_key", begin, &detail);
    Ok(finalised.inner.committee.clone())
}

/// The figures are those of the first pool; the second one has 0x00 credentials, whose change was shown.
async fn top_up(
    network: &Network,
    [pool, changed]: [u64; 2],
    progress: &mut Progress,
    gas: &mut Gas,
) -> Result<Deposit> {
    let begin = Instant::now();
    let provider = network.provider()?;
    advance_time(&provider, CHALLENGE_WINDOW_SECONDS + 1).await?;
    let micropools = network.deployment.micropools;
    let ordered = network.event::<Micropools::DepositOrdered>(micropools, pool).await?.inner;
    let sent = network.events::<Micropools::DepositSent>(micropools, pool, 2).await?;
    let [first, second] = sent.as_slice() else { bail!("the pool sent {} deposits, not 2", sent.len()) };
    gas.topup = network.gas_of(second).await?;
    network.events::<Micropools::DepositSent>(micropools, changed, 2).await?;
    let receipt = provider.get_transaction_receipt(second.transaction).await?;
    let block = receipt.and_then(|receipt| receipt.block_number).ok_or_else(|| eyre!("the top-up is in no block"))?;
    let deposits = IDepositContract::new(network.deployment.deposit_contract, &provider);
    let count = deposits.get_deposit_count().block(block.into()).call().await?;
    let count: [u8; 8] = count.as_ref().try_into().wrap_err("get_deposit_count")?;
    progress.done("topped_up", begin, "12 h passed on the devnet; the other 31 ETH followed, in both pools");
    Ok(Deposit {
        pubkey: first.inner.pubkey.clone(),
        withdrawal_credentials: ordered.withdrawalCredentials,
        amount_gwei: first.inner.amountGwei,
        signature: first.inner.signature.clone(),
        deposit_data_root: first.inner.depositDataRoot,
        deposit_count: u64::from_le_bytes(count),
        total_gwei: first.inner.amountGwei + second.inner.amountGwei,
        genesis_fork_version: GENESIS_FORK_VERSION.to_owned(),
    })
}

/// A member of the pool's committee stops, the others vote that it is silent, and the relayer has its seat moved to a spare server.
async fn reshare(network: &mut Network, pool: u64, committee: &[u32], progress: &mut Progress) -> Result<Reshare> {
    let begin = Instant::now();
    let key = network.requested_key(pool).await?;
    let members = committee.iter().map(|id| network.position_of(*id)).collect::<Result<Vec<usize>>>()?;
    let silent = members.first().copied().ok_or_else(|| eyre!("the key has no committee"))?;
    network.shorten_the_window().await?;
    network.kill_server(silent);
    network.vote_silent((key, 0), &members, silent).await?;
    let made = network.event::<Resharing::Reshared>(network.deployment.resharing(), key).await?;
    let registry = network.deployment.key_registry;
    let finalised = network.event::<KeyRegistry::KeyFinalised>(registry, key).await?;
    network.pass_the_handover(key).await?;
    network.start_server(silent)?;
    let group_key = |points: &Bytes| points.len().checked_sub(128).map(|start| points.slice(start..));
    let epoch = made.inner.committeeEpoch;
    let detail = format!(
        "key {key} went to committee {epoch}, servers {:?}: server {} had stopped",
        made.inner.committee.servers, network.servers[silent].id
    );
    progress.done("reshared", begin, &detail);
    Ok(Reshare {
        old_epoch: epoch.saturating_sub(1),
        new_epoch: epoch,
        same_pubkey: group_key(&made.inner.committee.points) == group_key(&finalised.inner.points),
        gas: network.gas_of(&made).await?,
    })
}

/// A key that went to another committee.
#[derive(Serialize)]
struct Reshare {
    /// Committee epoch that handed over.
    old_epoch: u32,
    /// The one that it handed over to.
    new_epoch: u32,
    /// Whether both have one group key.
    same_pubkey: bool,
    /// Gas of the transaction that finalised it.
    gas: u64,
}

/// The deposit as the chain has it; amounts in gwei.
#[derive(Serialize)]
struct Deposit {
    pubkey: Bytes,
    withdrawal_credentials: B256,
    amount_gwei: u64,
    signature: Bytes,
    deposit_data_root: B256,
    deposit_count: u64,
    total_gwei: u64,
    genesis_fork_version: String,
}

// ---- the line, the checker, and what people see

async fn line(
    network: &Network,
    progress: &Progress,
    gas: &Gas,
    deposit: &Deposit,
    committees: &[Vec<u32>],
) -> Result<serde_json::Value> {
    let relayer = network.relayers.first().ok_or_else(|| eyre!("no relayer"))?;
    Ok(json!({
        "ok": true,
        "steps": progress.steps,
        "processes": processes(network)?,
        "gas": gas,
        "deposit": deposit,
        "committees": committees,
        "rpc": network.anvil.url,
        "status_url": format!("{}/status", relayer.url),
    }))
}

fn processes(network: &Network) -> Result<Vec<ProcessLine>> {
    let servers = network.servers.iter().filter_map(|server| server.process.as_ref());
    let relayers = network.relayers.iter().filter_map(|relayer| relayer.process.as_ref());
    std::iter::once(&network.anvil.process)
        .chain(servers)
        .chain(relayers)
        .map(|process| {
            let exe = std::fs::read_link(format!("/proc/{}/exe", process.pid()))?;
            Ok(ProcessLine { name: process.name.clone(), pid: process.pid(), exe, dir: process.dir.clone() })
        })
        .collect()
}

/// Feeds the line to the checker; its words go to stderr.
fn check(network: &Network, line: &serde_json::Value) -> Result<bool> {
    let (code, _) = Checker::Pool.judge(line, &network.anvil.url, &network.deployment_file, Stdio::inherit())?;
    Ok(code == Some(0))
}

/// Starts the server that the checker killed again.
fn restart_killed(network: &mut Network) -> Result<()> {
    for position in 0..network.servers.len() {
        let running = network.servers[position].process.as_mut().is_some_and(stkr_e2e::Process::is_running);
        if !running {
            network.start_server(position)?;
        }
    }
    Ok(())
}

/// What a person wants to know, and ready commands for another pool.
async fn summary(network: &Network, pool: u64, line: &serde_json::Value) -> Result<()> {
    let provider = network.account("10").await?;
    let (next, _) = network.open_pool(&provider, THRESHOLD.0, THRESHOLD.1).await?;
    let staker = network.account("100").await?;
    let key_file = network.options.dir.join("staker.key");
    write_secret(&key_file, &format!("{}\n", staker.to_bytes()))?;
    fund(&network.provider()?, staker.address(), U256::from(10).pow(U256::from(20))).await?;
    let stkr =
        format!("target/debug/stkr --rpc {} --deployment {}", network.anvil.url, network.deployment_file.display());
    let key = format!("--key-file {}", key_file.display());
    eprintln!("\nchain       {CHAIN_ID} at {}", network.anvil.url);
    eprintln!("status      {}", line["status_url"].as_str().unwrap_or_default());
    eprintln!("pool        {pool}, Active");
    eprintln!("key         {}", line["deposit"]["pubkey"].as_str().unwrap_or_default());
    eprintln!("credentials {}", line["deposit"]["withdrawal_credentials"].as_str().unwrap_or_default());
    eprintln!("deposit     root {}", line["deposit"]["deposit_data_root"].as_str().unwrap_or_default());
    eprintln!("gas         {}", line["gas"]);
    eprintln!("\nPool {next} is open. Stake into it, look at it, leave it:");
    eprintln!("  {stkr} pool stake {next} 0.5eth {key}");
    eprintln!("  {stkr} pool show {next}");
    eprintln!("  {stkr} pool leave {next} 0.5eth {key}");
    eprintln!("\nFiles are in {}. Ctrl-C ends everything.", network.options.dir.display());
    Ok(())
}
