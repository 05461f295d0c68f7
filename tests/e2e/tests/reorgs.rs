//! Reorgs under a running network: anvil drops the transactions of the blocks it replaces, the test sends the stakers'
//! again and the relayer its own; nothing counts twice and no row of a vanished block survives.

use alloy::providers::Provider;
use eyre::{Result, eyre};
use rusqlite::{Connection, OpenFlags};
use std::time::Duration;
use stkr_chain::bindings::{KeyRegistry, Micropools};
use stkr_e2e::anvil::reorg;
use stkr_e2e::{Network, Options};

/// Every block in the relayer's event log is one the chain has.
async fn no_vanished_block(network: &Network) -> Result<()> {
    let file = network.relayers[0].dir.join("relayer.sqlite");
    let provider = network.provider()?;
    let database = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut rows = database.prepare("SELECT number, hash FROM chain_blocks ORDER BY number")?;
    let blocks = rows
        .query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    assert!(!blocks.is_empty());
    for (number, hash) in blocks {
        let number = u64::try_from(number)?;
        let block = provider.get_block_by_number(number.into()).await?.ok_or_else(|| eyre!("no block {number}"))?;
        assert_eq!(block.header.hash.as_slice(), hash, "row of a vanished block {number}");
    }
    Ok(())
}

#[tokio::test]
async fn reorgs_of_one_and_ten_blocks_lose_nothing_and_count_nothing_twice() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let network =
        Network::start(Options { servers: 4, block_ms: 400, finality: 12, ..Options::new(dir.path()) }).await?;
    let provider = network.provider()?;
    let (micropools, registry) = (network.deployment.micropools, network.deployment.key_registry);
    let stkr = network.stkr().await?;

    // A stake vanishes with its block and is sent again.
    let owner = network.account("10").await?;
    let (pool, _) = network.open_pool(&owner, 3, 4).await?;
    tokio::time::sleep(Duration::from_secs(11)).await;
    let receipts = network.fill_pool(pool, 2).await?;
    assert_eq!(receipts.len(), 2);
    reorg(&provider, 1).await?;
    network
        .until("the pool is Full after stakes were sent again", || async {
            let info = stkr.pools().get(pool).await?;
            if info.room().is_zero() {
                return Ok(true);
            }
            let wallet = alloy::network::EthereumWallet::from(network.account("40").await?);
            stkr.pools().stake(pool, info.room())?.send_with(&wallet).await?;
            Ok(false)
        })
        .await?;

    // The relayer's own transactions vanish: request, draw, finalise, order, predeposit.
    let requested = network.event::<Micropools::PoolKeyRequested>(micropools, pool).await?;
    reorg(&provider, 1).await?;
    let key = u64::try_from(requested.inner.keyId)?;
    network.event::<KeyRegistry::CommitteeDrawn>(registry, key).await?;
    network.event::<KeyRegistry::KeyFinalised>(registry, key).await?;
    reorg(&provider, 1).await?;
    network.event::<Micropools::DepositOrdered>(micropools, pool).await?;
    network.event::<Micropools::DepositSent>(micropools, pool).await?;
    reorg(&provider, 10).await?;

    network.event::<Micropools::DepositSent>(micropools, pool).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(network.events_now::<KeyRegistry::KeyFinalised>(registry, key).await?.len(), 1);
    assert_eq!(network.events_now::<Micropools::DepositSent>(micropools, pool).await?.len(), 1);
    no_vanished_block(&network).await
}
