//! `cargo xtask bench duties`: one epoch of duties of many validators, on real processes over real sockets.
//!
//! ```text
//! driver --HTTP--> stkr-gateway --TLS--> 4 x stkr-server --HTTP--> anvil
//! ```
//! Everything runs on this machine, the driver too. The duties come as a beacon chain spreads them ([`plan`]); a latency
//! counts from the moment at which a validator client would have asked, so what waits in the driver is late too. CPU time
//! is what the kernel counted for each process, and where it went is what `perf` sampled ([`cpu`]).
#![allow(clippy::print_stdout, reason = "the table and the last line on stdout are this program's result")]

mod bare;
mod cpu;
mod light;
mod network;
mod plan;
mod play;
mod report;

use clap::Parser;
use eyre::{Result, ensure};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Epochs that the chain is old at least when the servers start.
const AGE: u64 = 1_000;

#[derive(Parser)]
#[command(name = "cargo xtask bench duties", about = "One epoch of duties of many validators, and what it costs")]
struct Args {
    /// Validators, each with a key and shares of its own.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(4..=50_000))]
    validators: u32,
    /// Milliseconds per slot, whole seconds; the truth is 12000. Shorter ones press the same work into less time.
    #[arg(long, default_value_t = 12_000, value_parser = clap::value_parser!(u64).range(1_000..=12_000))]
    slot_ms: u64,
    /// Single requests at light load, for what the gateway adds.
    #[arg(long, default_value_t = 200)]
    light: u32,
    /// Samples per second and core of where CPU time goes; 0 takes none.
    #[arg(long, default_value_t = 199)]
    samples: u32,
    /// Where the network keeps its files; a fresh folder that is removed at the end unless given.
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(&args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench duties: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn say(since: Instant, what: &str) {
    eprintln!("{:>5} s  {what}", since.elapsed().as_secs());
}

async fn run(args: &Args) -> Result<()> {
    ensure!(args.slot_ms.is_multiple_of(1_000), "--slot-ms takes whole seconds: a fork schedule counts in seconds");
    let began = Instant::now();
    let folder = tempfile::tempdir()?;
    let dir = args.dir.clone().unwrap_or_else(|| folder.path().to_path_buf());
    let mut world = network::World::build(&dir, args.validators, args.slot_ms / 1_000, began).await?;
    world.start(began).await?;
    say(began, "every share and every assignment is read once");
    world.warm_up().await?;

    say(began, "light load");
    let light = light::measure(&world, args.light.min(args.validators / 4)).await?;
    let (epoch, start) = world.next_epoch(Duration::from_secs(5))?;
    let plan = plan::of_epoch(&world, epoch)?;
    say(began, &format!("epoch {epoch} with {} requests begins in {:?}", plan.len(), play::until(start)));
    tokio::time::sleep(play::until(start)).await;
    let meter = cpu::Meter::start(&world, args.samples, &dir)?;
    let before = world.counters().await?;
    let played = play::epoch(&world, plan, start, world.epoch_length()).await?;
    let after = world.counters().await?;
    let used = meter.stop(&world)?;
    say(began, "what blst and the disk cost alone");
    let bare = bare::measure(&dir)?;
    let counters = before.until(&after);
    let result = report::Report::new(args, &played, &light, &used, &bare, &counters);
    print!("{}", result.table());
    println!("{}", result.json());
    Ok(())
}
