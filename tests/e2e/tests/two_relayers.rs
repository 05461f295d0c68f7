//! Relayers trust and need nobody: two work on one chain from block 0, one is killed again and again.

use eyre::Result;
use std::time::Duration;
use stkr_chain::bindings::{KeyRegistry, Micropools};
use stkr_e2e::{Network, Options};

/// Milliseconds between kills: a fixed sequence, so that a failure can be run again.
const KILLS_AFTER_MS: [u64; 12] = [900, 2300, 400, 3100, 1700, 600, 2900, 1300, 800, 3700, 500, 2100];

#[tokio::test]
async fn two_relayers_one_killed_at_random_moments_make_one_finalise_and_one_deposit() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut network = Network::start(Options { servers: 4, relayers: 2, ..Options::new(dir.path()) }).await?;
    let provider = network.account("10").await?;
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;

    for wait in KILLS_AFTER_MS {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        network.kill_relayer(0);
        network.start_relayer(0)?;
    }
    let micropools = network.deployment.micropools;
    network.event::<Micropools::DepositSent>(micropools, pool).await?;
    // Both see the end; neither calls the other's success an error.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let key = u64::try_from(network.event::<Micropools::PoolKeyRequested>(micropools, pool).await?.inner.keyId)?;
    let registry = network.deployment.key_registry;
    assert_eq!(network.events_now::<KeyRegistry::CommitteeDrawn>(registry, key).await?.len(), 1);
    assert_eq!(network.events_now::<KeyRegistry::KeyFinalised>(registry, key).await?.len(), 1);
    assert_eq!(network.events_now::<Micropools::DepositSent>(micropools, pool).await?.len(), 1);
    for relayer in &network.relayers {
        let log = std::fs::read_to_string(relayer.dir.join(relayer_log(&relayer.dir)))?;
        let errors: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
        assert!(errors.is_empty(), "a relayer logged errors:\n{}", errors.join("\n"));
    }
    Ok(())
}

fn relayer_log(dir: &std::path::Path) -> String {
    format!("{}.log", dir.file_name().unwrap_or_default().to_string_lossy())
}
