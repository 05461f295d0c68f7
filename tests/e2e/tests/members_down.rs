//! Servers that are down: one costs nothing, two stop the key until one is back, and nobody has to guess who.

use eyre::Result;
use stkr_chain::bindings::{KeyRegistry, Micropools};
use stkr_e2e::{Network, Options};

/// Opens and fills a pool and waits until its key is live; returns pool and committee positions.
async fn live_key(network: &Network) -> Result<(u64, Vec<usize>)> {
    let provider = network.account("10").await?;
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    let requested = network.event::<Micropools::PoolKeyRequested>(network.deployment.micropools, pool).await?;
    let key = u64::try_from(requested.inner.keyId)?;
    let finalised = network.event::<KeyRegistry::KeyFinalised>(network.deployment.key_registry, key).await?;
    let committee = finalised.inner.committee.iter().map(|id| network.position_of(*id)).collect::<Result<_>>()?;
    Ok((pool, committee))
}

#[tokio::test]
async fn one_server_down_goes_on_and_two_down_waits_names_them_and_finishes_when_one_returns() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut network = Network::start(Options { servers: 4, ..Options::new(dir.path()) }).await?;

    let (pool, committee) = live_key(&network).await?;
    network.kill_server(committee[0]);
    network.event::<Micropools::DepositSent>(network.deployment.micropools, pool).await?;
    network.start_server(committee[0])?;

    let (pool, committee) = live_key(&network).await?;
    let down = [committee[1], committee[3]];
    for position in down {
        network.kill_server(position);
    }
    let names: Vec<String> = down.iter().map(|position| network.servers[*position].id.to_string()).collect();
    network
        .until("the status names both servers that are down", || async {
            let status = network.relayer_json(0, "/status").await?.to_string();
            Ok(names.iter().all(|id| status.contains(&format!("server {id}"))))
        })
        .await?;
    let sent = network.events_now::<Micropools::DepositSent>(network.deployment.micropools, pool).await?;
    assert!(sent.is_empty(), "a deposit went out with two of four servers");

    network.start_server(down[1])?;
    network.event::<Micropools::DepositSent>(network.deployment.micropools, pool).await?;
    Ok(())
}
