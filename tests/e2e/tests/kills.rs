//! SIGKILL at every step: nothing is lost, nothing is signed or sent twice.

use eyre::Result;
use std::time::Duration;
use stkr_chain::bindings::{KeyRegistry, Micropools};
use stkr_e2e::{Network, Options};

/// Kills everything that is ours and starts it again.
fn kill_all(network: &mut Network) -> Result<()> {
    network.kill_relayer(0);
    for position in 0..network.servers.len() {
        network.kill_server(position);
    }
    for position in 0..network.servers.len() {
        network.start_server(position)?;
    }
    network.start_relayer(0)
}

#[tokio::test]
async fn relayer_and_servers_killed_at_each_step_still_reach_one_deposit() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut network = Network::start(Options { servers: 4, ..Options::new(dir.path()) }).await?;
    let (micropools, registry) = (network.deployment.micropools, network.deployment.key_registry);
    let provider = network.account("10").await?;
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    kill_all(&mut network)?;
    network.fill_pool(pool, 4).await?;
    let key = u64::try_from(network.event::<Micropools::PoolKeyRequested>(micropools, pool).await?.inner.keyId)?;
    kill_all(&mut network)?;
    network.event::<KeyRegistry::CommitteeDrawn>(registry, key).await?;
    // In the middle of the ceremony, one process at a time, then all.
    for position in 0..network.servers.len() {
        tokio::time::sleep(Duration::from_millis(150)).await;
        network.kill_server(position);
        network.start_server(position)?;
    }
    kill_all(&mut network)?;
    network.event::<KeyRegistry::KeyFinalised>(registry, key).await?;
    kill_all(&mut network)?;
    network.event::<Micropools::DepositOrdered>(micropools, pool).await?;
    kill_all(&mut network)?;
    network.event::<Micropools::DepositSent>(micropools, pool).await?;
    kill_all(&mut network)?;
    stkr_e2e::anvil::advance_time(&network.provider()?, 12 * 3600 + 1).await?;
    assert_eq!(network.events::<Micropools::DepositSent>(micropools, pool, 2).await?.len(), 2);
    assert_eq!(network.events_now::<KeyRegistry::KeyFinalised>(registry, key).await?.len(), 1);
    Ok(())
}
