//! t members of a committee steal a pool's key and make a real deposit with it: the relayer sees it and burns the key, whether
//! it was made in the challenge window or before the pool's own deposit, and the stakers get everything back.

use std::path::PathBuf;

use alloy::network::EthereumWallet;
use alloy::primitives::Bytes;
use alloy::primitives::utils::parse_ether;
use alloy::providers::Provider as _;
use alloy::signers::local::PrivateKeySigner;
use eyre::{Result, ensure};
use stkr_adversary::foreign_deposit;
use stkr_chain::bindings::{IDepositContract, KeyRegistry, Micropools};
use stkr_duties::DepositMessage;
use stkr_e2e::anvil::advance_time;
use stkr_e2e::{Network, Options};
use stkr_sdk::PoolState;

const CHALLENGE_WINDOW_SECONDS: u64 = 12 * 3600;

/// A full pool with the account of its one staker.
async fn full_pool(network: &Network) -> Result<(u64, PrivateKeySigner)> {
    let provider = network.account("10").await?;
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    let staker = network.account("40").await?;
    let stkr = network.stkr().await?;
    stkr.pools().stake(pool, parse_ether("32")?)?.send_with(&EthereumWallet::from(staker.clone())).await?;
    Ok((pool, staker))
}

/// The thieves sign with t real shares and pay 1 ETH to the real deposit contract. `spoil` makes the signature worthless.
async fn steal(network: &Network, finalised: &KeyRegistry::KeyFinalised, spoil: bool) -> Result<()> {
    let key = u64::try_from(finalised.keyId)?;
    let mut hacked: Vec<(u8, PathBuf)> = Vec::new();
    for (index, id) in (1..).zip(&finalised.committee).take(3) {
        hacked.push((index, network.servers[network.position_of(*id)?].config.clone()));
    }
    let stolen = foreign_deposit(&network.deployment, key, &finalised.points, (3, 4), &hacked)?;
    let group_key = &finalised.points[finalised.points.len() - 128..];
    let mut signature = stolen.signature.to_compressed();
    if spoil {
        signature[95] ^= 1;
    }
    let message = DepositMessage {
        pubkey: stkr_core::PublicKey::from_eip2537(group_key)?.to_compressed(),
        withdrawal_credentials: stolen.withdrawal_credentials,
        amount_gwei: stolen.amount_gwei,
    };
    let deposit = message.with_signature(signature);
    let thief = network.account("2").await?;
    let provider = alloy::providers::ProviderBuilder::new()
        .wallet(EthereumWallet::from(thief))
        .connect_http(network.anvil.url.parse()?);
    let receipt = IDepositContract::new(network.deployment.deposit_contract, &provider)
        .deposit(
            Bytes::copy_from_slice(&deposit.pubkey),
            Bytes::copy_from_slice(deposit.withdrawal_credentials.as_slice()),
            Bytes::copy_from_slice(&signature),
            deposit.hash_tree_root(),
        )
        .value(parse_ether("1")?)
        .send()
        .await?
        .get_receipt()
        .await?;
    ensure!(receipt.status(), "the deposit contract refused the thieves' deposit");
    Ok(())
}

/// The relayer burned the key of its own accord, and the staker gets all of its stake back.
async fn burned_and_refunded(network: &Network, pool: u64, staker: &PrivateKeySigner, deposits: usize) -> Result<()> {
    let micropools = network.deployment.micropools;
    let proven = network.event::<Micropools::ForeignDepositProven>(micropools, pool).await?.inner;
    let gas: PrivateKeySigner = std::fs::read_to_string(network.relayers[0].dir.join("gas.key"))?.trim().parse()?;
    ensure!(proven.reporter == gas.address(), "somebody else than the relayer proved it: {}", proven.reporter);
    let stkr = network.stkr().await?;
    ensure!(stkr.pools().get(pool).await?.state == PoolState::Cancelled);

    advance_time(&network.provider()?, CHALLENGE_WINDOW_SECONDS + 1).await?;
    let shown = || async {
        let pools = network.relayer_json(0, "/v1/pools").await?;
        let line = pools["pools"].as_array().and_then(|all| all.iter().find(|it| it["poolId"] == *pool.to_string()));
        Ok(line.is_some_and(|line| line["state"] == "Cancelled" && line["foreignDeposit"]["proven"] == true))
    };
    network.until("the status says why the pool is cancelled", shown).await?;
    let sent = network.events_now::<Micropools::DepositSent>(micropools, pool).await?;
    ensure!(sent.len() == deposits, "{} deposits were sent, not {deposits}", sent.len());

    let before = network.provider()?.get_balance(staker.address()).await?;
    stkr.pools().refund(pool).send_with(&EthereumWallet::from(staker.clone())).await?;
    let got = network.provider()?.get_balance(staker.address()).await? - before;
    ensure!(got > parse_ether("31.99")?, "the staker got only {got} wei back");
    Ok(())
}

#[tokio::test]
async fn thieves_who_deposit_with_a_pools_key_have_it_burned_and_the_stakers_get_everything_back() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut network = Network::start(Options { servers: 5, finality: 6, ..Options::new(dir.path()) }).await?;
    let (micropools, registry) = (network.deployment.micropools, network.deployment.key_registry);
    let finalised_of = async |network: &Network, pool: u64| -> Result<KeyRegistry::KeyFinalised> {
        let requested = network.event::<Micropools::PoolKeyRequested>(micropools, pool).await?;
        let key = u64::try_from(requested.inner.keyId)?;
        Ok(network.event::<KeyRegistry::KeyFinalised>(registry, key).await?.inner)
    };

    // In the window, with the pool's own 1 ETH on its way. A deposit that the key did not sign stops nothing.
    let (pool, staker) = full_pool(&network).await?;
    let finalised = finalised_of(&network, pool).await?;
    network.event::<Micropools::DepositSent>(micropools, pool).await?;
    steal(&network, &finalised, true).await?;
    let next = network.provider()?.get_block_number().await? + 4;
    network
        .until("the relayer has seen the worthless deposit", || async {
            let status = network.relayer_json(0, "/status").await?;
            Ok(status["chain"]["head"]
                .as_str()
                .and_then(|head| head.parse::<u64>().ok())
                .is_some_and(|head| head >= next))
        })
        .await?;
    let proven = network.events_now::<Micropools::ForeignDepositProven>(micropools, pool).await?;
    ensure!(proven.is_empty(), "anyone could stop a pool for 1 ETH");
    steal(&network, &finalised, false).await?;
    burned_and_refunded(&network, pool, &staker, 1).await?;

    // Before the pool's own deposit, while no relayer looks. The key is live; nothing was sent with it yet.
    let (pool, staker) = full_pool(&network).await?;
    let finalised = finalised_of(&network, pool).await?;
    network.kill_relayer(0);
    steal(&network, &finalised, false).await?;
    let sent = network.events_now::<Micropools::DepositSent>(micropools, pool).await?;
    ensure!(sent.is_empty(), "the test was too slow: the predeposit went out before the relayer was killed");
    network.start_relayer(0)?;
    burned_and_refunded(&network, pool, &staker, 0).await
}
