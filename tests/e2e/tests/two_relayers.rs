//! Relayers trust and need nobody: two work on one chain from block 0, one is killed again and again.

use alloy::eips::BlockId;
use alloy::network::ReceiptResponse as _;
use alloy::primitives::Address;
use alloy::providers::{DynProvider, Provider};
use alloy::signers::local::PrivateKeySigner;
use eyre::{Result, eyre};
use std::time::Duration;
use stkr_chain::bindings::{KeyRegistry, Micropools};
use stkr_e2e::anvil::advance_time;
use stkr_e2e::{Network, Options};
use stkr_sdk::PoolState;

/// Milliseconds between kills: fixed sequences, so that a failure can be run again.
const KILLS_AFTER_MS: [u64; 9] = [900, 2300, 400, 1100, 1700, 600, 2900, 1300, 800];
const KILLS_BEFORE_THE_TOP_UP_MS: [u64; 3] = [200, 700, 500];
const CHALLENGE_WINDOW_SECONDS: u64 = 12 * 3600;

/// A transaction of a relayer: block, sender, selector, whether it succeeded.
struct Sent {
    block: u64,
    sender: Address,
    selector: [u8; 4],
    success: bool,
}

/// Everything that the accounts ever sent, in the order of the chain.
async fn sent_by(provider: &DynProvider, accounts: &[Address]) -> Result<Vec<Sent>> {
    let mut sent = Vec::new();
    for block in 1..=provider.get_block_number().await? {
        for receipt in provider.get_block_receipts(BlockId::number(block)).await?.unwrap_or_default() {
            if !accounts.contains(&receipt.from()) {
                continue;
            }
            let hash = receipt.transaction_hash;
            let transaction = provider.get_transaction_by_hash(hash).await?.ok_or_else(|| eyre!("no {hash}"))?;
            let input = alloy::consensus::Transaction::input(&transaction);
            let selector = input.get(..4).unwrap_or_default().try_into()?;
            sent.push(Sent { block, sender: receipt.from(), selector, success: receipt.status() });
        }
    }
    Ok(sent)
}

#[tokio::test]
async fn two_relayers_from_block_0_one_killed_at_random_moments_make_one_of_everything_and_claim_no_error() -> Result<()>
{
    let dir = tempfile::tempdir()?;
    let options = Options { servers: 4, relayers: 2, block_ms: 500, ..Options::new(dir.path()) };
    let mut network = Network::deploy(options).await?;
    // Both see a registry without a single server.
    for number in 0..2 {
        network.add_relayer(number).await?;
    }
    network.init_servers().await?;
    network.register_servers().await?;
    network.approve_servers().await?;
    for position in 0..4 {
        network.start_server(position)?;
    }
    let (provider, stkr) = (network.provider()?, network.stkr().await?);
    let (pool, _) = network.open_pool(&network.account("10").await?, 3, 4).await?;
    network.fill_pool(pool, 4).await?;

    for wait in KILLS_AFTER_MS {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        network.kill_relayer(0);
        network.start_relayer(0)?;
    }
    let micropools = network.deployment.micropools;
    network.event::<Micropools::DepositSent>(micropools, pool).await?;
    advance_time(&provider, CHALLENGE_WINDOW_SECONDS + 1).await?;
    for wait in KILLS_BEFORE_THE_TOP_UP_MS {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        network.kill_relayer(0);
        network.start_relayer(0)?;
    }
    network.until("the pool is Active", || async { Ok(stkr.pools().state(pool).await? == PoolState::Active) }).await?;
    // Both see the end; neither calls the other's success an error.
    tokio::time::sleep(Duration::from_secs(4)).await;
    for position in 0..2 {
        network
            .until("both know that the pool is Active", || async {
                Ok(network.relayer_json(position, "/status").await?["pools"][0]["state"] == "Active")
            })
            .await?;
        let status = network.relayer_json(position, "/status").await?;
        assert_eq!(status["problems"], serde_json::json!([]), "relayer {position}");
        let intents = status["intents"].as_array().ok_or_else(|| eyre!("no intents"))?;
        let unfinished = |state: &str| ["waiting", "pending", "failed"].contains(&state);
        let open: Vec<_> = intents.iter().filter(|it| it["state"].as_str().is_none_or(unfinished)).collect();
        assert!(open.is_empty(), "relayer {position} still wants {open:?}");
    }

    let registry = network.deployment.key_registry;
    let requested = network.events_now::<Micropools::PoolKeyRequested>(micropools, pool).await?;
    assert_eq!(requested.len(), 1);
    let key = u64::try_from(requested[0].inner.keyId)?;
    assert_eq!(network.events_now::<KeyRegistry::CommitteeDrawn>(registry, key).await?.len(), 1);
    assert_eq!(network.events_now::<KeyRegistry::KeyFinalised>(registry, key).await?.len(), 1);
    let deposits = network.events_now::<Micropools::DepositSent>(micropools, pool).await?;
    let amounts: Vec<u64> = deposits.iter().map(|deposit| deposit.inner.amountGwei).collect();
    assert_eq!(amounts, [1_000_000_000, 31_000_000_000], "one predeposit and one top-up");

    let accounts = (network.relayers.iter())
        .map(|relayer| {
            let key = stkr_node::secrets::read_hex32(&relayer.dir.join("gas.key"))?;
            Ok(PrivateKeySigner::from_slice(&*key)?.address())
        })
        .collect::<Result<Vec<_>>>()?;
    let sent = sent_by(&provider, &accounts).await?;
    assert_eq!(sent.iter().filter(|it| it.success).count(), 6, "request, draw, finalise, order, predeposit, top-up");
    for failed in sent.iter().filter(|it| !it.success) {
        // The one thing two strangers cannot avoid: both send the same step before either is in a block that the other has
        // seen. A relayer that sends what the chain already shows as done, or the same twice, has no such excuse.
        let first = sent.iter().find(|it| it.success && it.selector == failed.selector);
        let first = first.ok_or_else(|| eyre!("a step failed that nobody ever did"))?;
        assert_ne!(first.sender, failed.sender, "a relayer did a step and then did it again");
        assert!(failed.block <= first.block + 1, "sent {} blocks after it was done", failed.block - first.block);
        eprintln!("both sent {:02x?}: blocks {} and {}", failed.selector, first.block, failed.block);
    }

    for (relayer, name) in network.relayers.iter().zip(["relayer.log", "relayer-1.log"]) {
        let log = std::fs::read_to_string(relayer.dir.join(name))?;
        assert!(log.contains("stkr-relayer starts"), "{name} is empty");
        // Who was down for a while, or is slow, counts that as time in which the ceremony stood still; that the key is Live by now, as the
        // server answers, is no error of anybody.
        let is_ahead = |line: &str| line.contains("there is a ceremony only while it is Drawn");
        let claims = |line: &&str| line.contains("ERROR") || line.contains(" WARN ") && !is_ahead(line);
        let errors: Vec<&str> = log.lines().filter(claims).collect();
        assert!(errors.is_empty(), "{name} claims errors:\n{}", errors.join("\n"));
    }
    Ok(())
}
