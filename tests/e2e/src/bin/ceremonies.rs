//! `cargo xtask bench ceremonies`: keys made and reshared by real servers, and what each of them spends on it.
//!
//! For every size one network: n + 1 `stkr-server`, a relayer and an anvil, all on this machine. Of a key the time from the draw to its
//! finalisation counts, of a reshare (a member leaves, its seat goes to the spare) the same, as the chain shows them; CPU time is
//! what the kernel counted for each server between the two, its look at each block included. Bytes are those of the relayer's
//! bulletin, which every member reads once and writes its part of.
#![allow(clippy::print_stdout, reason = "the table and the last line on stdout are this program's result")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use alloy::network::EthereumWallet;
use alloy::sol_types::SolEvent;
use clap::Parser;
use eyre::{Result, ensure, eyre};
use serde::Serialize;
use stkr_chain::bindings::{KeyRegistry, Resharing};
use stkr_e2e::process::cpu_seconds;
use stkr_e2e::{Network, Options};

/// The t that the product takes for each n.
const COMMITTEES: [(u8, u8); 4] = [(3, 4), (5, 7), (7, 10), (9, 13)];
/// Milliseconds between blocks; no time in the table is known better.
const BLOCK_MS: u64 = 500;
/// How long one ceremony may take.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Parser)]
#[command(
    name = "cargo xtask bench ceremonies",
    about = "Keys made and reshared among 4 to 13 servers, and what it costs"
)]
struct Args {
    /// Only committees of so many members: 4, 7, 10 or 13.
    #[arg(long)]
    members: Option<u8>,
}

/// What one ceremony took.
#[derive(Debug, Serialize)]
struct Figures {
    /// `key` or `reshare`.
    what: &'static str,
    threshold: u8,
    members: u8,
    /// Seconds from the block of the draw to that of the finalisation, as they were seen here.
    seconds: f64,
    /// CPU seconds of a member, mean and most.
    cpu_mean: f64,
    cpu_most: f64,
    /// CPU seconds of the relayer.
    cpu_relayer: f64,
    /// Bytes of all messages as JSON.
    bytes: usize,
    /// Gas of the transaction that finalised it.
    gas: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // One thread starts every process, and they die with it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(&args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench ceremonies: {error:?}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<()> {
    let chosen: Vec<_> =
        COMMITTEES.into_iter().filter(|(_, n)| args.members.is_none_or(|members| members == *n)).collect();
    ensure!(!chosen.is_empty(), "--members takes 4, 7, 10 or 13");
    let mut all = Vec::new();
    for committee in chosen {
        all.extend(measure(committee).await?);
    }
    print!("{}", table(&all));
    println!("{}", serde_json::to_string(&all)?);
    Ok(())
}

/// A key of this committee, and then its reshare.
async fn measure((t, n): (u8, u8)) -> Result<[Figures; 2]> {
    let folder = tempfile::tempdir()?;
    let servers = u32::from(n) + 1;
    let options = Options { servers, block_ms: BLOCK_MS, reshares: true, ..Options::new(folder.path()) };
    let network = Network::start(options).await?;
    let provider = network.account("10").await?;
    let (pool, _) = network.open_pool(&provider, t, n).await?;
    network.fill_pool(pool, 1).await?;
    let key = network.requested_key(pool).await?;
    let registry = network.deployment.key_registry;
    let (made, seconds, cpu) =
        between::<KeyRegistry::CommitteeDrawn, KeyRegistry::KeyFinalised>(&network, registry, key).await?;
    let path = format!("/v1/ceremonies/{key}/{}", made.inner.attempt);
    let gas = network.gas_of(&made).await?;
    let dkg = figures(&network, ("key", t, n), seconds, &cpu, &path, gas).await?;
    eprintln!("{}", serde_json::to_string(&dkg)?);

    let leaver = made.inner.committee.first().copied().ok_or_else(|| eyre!("the key has no committee"))?;
    let operator = &network.servers[network.position_of(leaver)?].operator;
    let wallet = EthereumWallet::from(operator.clone());
    network.stkr().await?.servers().announce_leave(leaver).send_with(&wallet).await?;
    let resharing = network.deployment.resharing();
    let (made, seconds, cpu) =
        between::<Resharing::ReshareDrawn, Resharing::Reshared>(&network, resharing, key).await?;
    let path = format!("/v1/reshares/{key}/{}/{}", made.inner.committeeEpoch, made.inner.attempt);
    let gas = network.gas_of(&made).await?;
    let reshare = figures(&network, ("reshare", t, n), seconds, &cpu, &path, gas).await?;
    eprintln!("{}", serde_json::to_string(&reshare)?);
    Ok([dkg, reshare])
}

/// CPU seconds of every server, and of the relayer.
struct Cpu {
    servers: Vec<f64>,
    relayer: f64,
}

impl Cpu {
    fn now(network: &Network) -> Result<Self> {
        let of = |process: &Option<stkr_e2e::Process>| {
            cpu_seconds(process.as_ref().ok_or_else(|| eyre!("a process is down"))?.pid())
        };
        let relayer = network.relayers.first().ok_or_else(|| eyre!("no relayer"))?;
        Ok(Self {
            servers: network.servers.iter().map(|server| of(&server.process)).collect::<Result<_>>()?,
            relayer: of(&relayer.process)?,
        })
    }

    fn since(&self, before: &Self) -> Self {
        let servers = self.servers.iter().zip(&before.servers).map(|(now, then)| now - then).collect();
        Self { servers, relayer: self.relayer - before.relayer }
    }
}

/// The last `E` of the key after the first `B`, the seconds between them, and the CPU time.
async fn between<B: SolEvent, E: SolEvent>(
    network: &Network,
    contract: alloy::primitives::Address,
    key: u64,
) -> Result<(stkr_e2e::events::Found<E>, f64, Cpu)> {
    seen::<B>(network, contract, key).await?;
    let (begin, before) = (Instant::now(), Cpu::now(network)?);
    let found = seen::<E>(network, contract, key).await?;
    let seconds = begin.elapsed().as_secs_f64();
    Ok((found, seconds, Cpu::now(network)?.since(&before)))
}

/// Looks again and again, for a fraction of the time between blocks.
async fn seen<E: SolEvent>(
    network: &Network,
    contract: alloy::primitives::Address,
    key: u64,
) -> Result<stkr_e2e::events::Found<E>> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(found) = network.events_now::<E>(contract, key).await?.pop() {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(BLOCK_MS / 10)).await;
    }
    Err(eyre!("waited {PATIENCE:?} for {}", E::SIGNATURE))
}

async fn figures(
    network: &Network,
    (what, threshold, members): (&'static str, u8, u8),
    seconds: f64,
    cpu: &Cpu,
    bulletin: &str,
    gas: u64,
) -> Result<Figures> {
    // Of n + 1 servers one is the spare, or the one that leaves: the idlest is no member.
    let mut of_members = cpu.servers.clone();
    of_members.sort_by(f64::total_cmp);
    let of_members = &of_members[1..];
    Ok(Figures {
        what,
        threshold,
        members,
        seconds,
        cpu_mean: of_members.iter().sum::<f64>() / f64::from(members),
        cpu_most: of_members.iter().copied().fold(0.0, f64::max),
        cpu_relayer: cpu.relayer,
        bytes: network.relayer_text(0, bulletin).await?.len(),
        gas,
    })
}

fn table(all: &[Figures]) -> String {
    let mut text = String::from(
        "| | t of n | seconds | CPU s per member, mean | most | CPU s, relayer | bytes of messages | gas to finalise |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for it in all {
        text += &format!(
            "| {} | {} of {} | {:.1} | {:.2} | {:.2} | {:.2} | {} | {} |\n",
            it.what, it.threshold, it.members, it.seconds, it.cpu_mean, it.cpu_most, it.cpu_relayer, it.bytes, it.gas
        );
    }
    text
}
