//! A small network whose HTTP APIs are there to be tried (`cargo xtask test --full` lets Schemathesis at them): four servers
//! that have made key 1 and signed with it, a relayer that carried it, and the gateway of the provider that it belongs to.
//! The ceremony of key 2 waits for the last server, which is down, so that there is something to say about a ceremony that
//! runs.
//!
//! Prints a JSON line that says where they are. Each line on stdin takes one more thing away, answered by a line of JSON once
//! it is missed: first the chain, then the servers. Ends with stdin.
#![allow(clippy::print_stdout, reason = "lines on stdout are this program's result")]

use alloy::signers::local::PrivateKeySigner;
use clap::Parser;
use eyre::{Result, ensure, eyre};
use serde_json::json;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use stkr_chain::bindings::{KeyRegistry, Micropools};
use stkr_e2e::network::Relayer;
use stkr_e2e::{Network, Options, Server, gateway};

/// The beacon chain of the example in the gateway's description.
const SCHEDULE: &str = r#"preset = "mainnet"
genesis_validators_root = "0x0707070707070707070707070707070707070707070707070707070707070707"
genesis_time = 1700000000
seconds_per_slot = 12
forks = [
    { name = "phase0", version = "0x53746b72", epoch = 0 },
    { name = "altair", version = "0x01746b72", epoch = 0 },
    { name = "bellatrix", version = "0x02746b72", epoch = 0 },
    { name = "capella", version = "0x03746b72", epoch = 0 },
    { name = "deneb", version = "0x04746b72", epoch = 0 },
    { name = "electra", version = "0x05746b72", epoch = 0 },
    { name = "fulu", version = "0x06746b72", epoch = 0 },
]
"#;

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
    let schedule = dir.join("beacon.toml");
    std::fs::write(&schedule, SCHEDULE)?;
    network.beacon_schedule = Some(schedule.clone());
    network.init_servers().await?;
    network.servers.iter().try_for_each(lift_limits)?;
    network.register_servers().await?;
    network.approve_servers().await?;
    for position in 0..network.servers.len() {
        network.start_server(position)?;
    }
    network.add_relayer(0).await?;
    let (config, provider) = gateway::init(&network, &dir.join("gateway"), &schedule).await?;
    let (_gateway, gateway_url) = gateway::start(&config, dir)?;
    let pool = fill_one_pool(&network, &provider).await?;
    network.event::<Micropools::DepositSent>(network.deployment.micropools, pool).await?;
    network.kill_server(3);
    let pool = fill_one_pool(&network, &network.account("10").await?).await?;
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

    let keys = served_keys(&network, &gateway_url).await?;
    let mut whereabouts = whereabouts(&network)?;
    whereabouts["gateway"] = json!(gateway_url);
    whereabouts["identifiers"] = json!(keys);
    println!("{whereabouts}");
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
    if orders.next().transpose()?.is_some() {
        (0..network.servers.len()).for_each(|position| network.kill_server(position));
        println!("{}", json!({ "servers": null }));
    }
    for order in orders {
        order?;
    }
    Ok(())
}

/// A pool of four servers, full of stakes.
async fn fill_one_pool(network: &Network, provider: &PrivateKeySigner) -> Result<u64> {
    let (pool, _) = network.open_pool(provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    Ok(pool)
}

/// Validators of the gateway, once it has found one and the servers sign for it.
async fn served_keys(network: &Network, gateway: &str) -> Result<Vec<String>> {
    let client = stkr_e2e::network::http();
    let reveal: serde_json::Value = serde_json::from_str(stkr_gateway::api::EXAMPLE)?;
    let keys = format!("{gateway}/api/v1/eth2/publicKeys");
    network
        .until("the gateway signs", || async {
            let keys: serde_json::Value = client.get(&keys).send().await?.json().await?;
            let Some(key) = keys[0].as_str() else { return Ok(false) };
            let answer = client.post(format!("{gateway}/api/v1/eth2/sign/{key}")).json(&reveal).send().await?;
            Ok(answer.status().is_success())
        })
        .await?;
    Ok(client.get(&keys).send().await?.json().await?)
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
