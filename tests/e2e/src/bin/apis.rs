//! A small network whose HTTP APIs are there to be tried (`cargo xtask test --full` lets Schemathesis at them): four servers
//! that have made key 1 and signed with it, and a relayer that carried it. The ceremony of key 2 waits for the last server,
//! which is down, so that there is something to say about a ceremony that runs.
//!
//! Prints a JSON line that says where they are. Each line on stdin takes one more thing away, answered by a line of JSON once
//! it is missed: first the chain. Ends with stdin.
#![allow(clippy::print_stdout, reason = "lines on stdout are this program's result")]

use clap::Parser;
use eyre::{Result, ensure, eyre};
use serde_json::json;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use stkr_chain::bindings::{KeyRegistry, Micropools};
use stkr_e2e::network::Relayer;
use stkr_e2e::{Network, Options, Server};

#[derive(Parser)]
struct Args {
    /// Where the network keeps its files.
    #[arg(long)]
    dir: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    std::fs::create_dir_all(&args.dir)?;
    // One thread starts every process, and they die with it (see `leash`): it must live as long as the network.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(&args.dir.canonicalize()?))
}

async fn serve(dir: &Path) -> Result<()> {
    let options = Options { block_ms: 500, servers: 4, ..Options::new(dir) };
    let mut network = Network::deploy(options).await?;
    network.init_servers().await?;
    network.servers.iter().try_for_each(lift_limits)?;
    network.register_servers().await?;
    network.approve_servers().await?;
    for position in 0..network.servers.len() {
        network.start_server(position)?;
    }
    network.add_relayer(0).await?;
    let pool = fill_one_pool(&network).await?;
    network.event::<Micropools::DepositSent>(network.deployment.micropools, pool).await?;
    network.kill_server(3);
    let pool = fill_one_pool(&network).await?;
    let requested = network.event::<Micropools::PoolKeyRequested>(network.deployment.micropools, pool).await?;
    let key = u64::try_from(requested.inner.keyId)?;
    network.event::<KeyRegistry::CommitteeDrawn>(network.deployment.key_registry, key).await?;
    let ceremony = format!("/v1/ceremonies/{key}/0");
    network
        .until("the relayer carries the first messages of a ceremony", || async {
            let bulletin = network.relayer_json(0, &ceremony).await?;
            Ok(bulletin["messages"].as_array().is_some_and(|messages| !messages.is_empty()))
        })
        .await?;

    println!("{}", whereabouts(&network)?);
    let mut orders = std::io::stdin().lock().lines();
    if orders.next().transpose()?.is_some() {
        network.anvil.process.kill();
        let readiness = format!("{}/readyz", relayer(&network)?.url);
        let client = stkr_e2e::network::http();
        network
            .until("the relayer misses the chain", || async {
                Ok(client.get(&readiness).send().await?.status() == reqwest::StatusCode::SERVICE_UNAVAILABLE)
            })
            .await?;
        println!("{}", json!({ "chain": null }));
    }
    for order in orders {
        order?;
    }
    Ok(())
}

/// A pool of four servers with a provider of its own, full of stakes.
async fn fill_one_pool(network: &Network) -> Result<u64> {
    let provider = network.account("10").await?;
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    Ok(pool)
}

fn relayer(network: &Network) -> Result<&Relayer> {
    network.relayers.first().ok_or_else(|| eyre!("no relayer"))
}

/// Nothing but the rate limit would be tried otherwise: all requests come from one client.
fn lift_limits(server: &Server) -> Result<()> {
    let text = std::fs::read_to_string(&server.config)?;
    let lifted = text.replace("requests_per_second = 50\n", "requests_per_second = 100000\n");
    ensure!(lifted != text, "{} has no such limit", server.config.display());
    Ok(std::fs::write(&server.config, lifted)?)
}

/// Any client certificate will do: the server's own.
fn whereabouts(network: &Network) -> Result<serde_json::Value> {
    let server = network.servers.first().ok_or_else(|| eyre!("no server"))?;
    Ok(json!({
        "server": server.endpoint,
        "certificate": server.dir.join("tls.crt"),
        "key": server.dir.join("secrets/tls.key"),
        "relayer": relayer(network)?.url,
    }))
}
