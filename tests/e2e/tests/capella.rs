//! A change of credentials that the network signed, before a real beacon node: Lodestar, on a Capella chain of its own, takes it from the
//! relayer, puts it into a block, and its state shows the pool's vault.

use alloy::network::EthereumWallet;
use alloy::primitives::{Address, B256};
use eyre::{Result, ensure, eyre};
use serde_json::{Value, json};
use stkr_chain::bindings::{Micropools, WithdrawalKeys};
use stkr_core::PublicKey;
use stkr_e2e::beacon::unix_seconds;
use stkr_e2e::lodestar::{BeaconNode, capella_genesis};
use stkr_e2e::network::{free_port, http};
use stkr_e2e::offline::OfflineServer;
use stkr_e2e::{Network, Options};

/// 4 online and 2 offline members.
const KEY: (u8, u8) = (5, 6);
/// The validator whose withdrawal key is the network's.
const VALIDATOR: u64 = 3;
/// From the file of the genesis state until the chain begins, seconds.
const TO_GENESIS: u64 = 40;

/// Where a relayer takes changes of credentials to, and a network of four servers before it.
async fn network(dir: &std::path::Path, beacon: &str) -> Result<(Network, [OfflineServer; 2])> {
    let options = Options { servers: 4, relayers: 0, block_ms: 500, ..Options::new(dir) };
    let mut network = Network::start(options).await?;
    network.init_relayer(0).await?;
    let config = network.relayers[0].config.clone();
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, format!("{text}\n[beacon]\nurls = [\"{beacon}\"]\n"))?;
    network.start_relayer(0)?;
    let offline = network.two_offline_servers().await?;
    Ok((network, offline))
}

async fn credentials(node: &BeaconNode) -> Result<B256> {
    let validator = node.get(&format!("/eth/v1/beacon/states/head/validators/{VALIDATOR}")).await?;
    let text = validator["validator"]["withdrawal_credentials"].as_str().ok_or_else(|| eyre!("{validator}"))?;
    Ok(text.parse()?)
}

/// The same change with `signature`, from anybody.
async fn offered(node: &BeaconNode, key: &PublicKey, to: Address, signature: &str) -> Result<(u16, String)> {
    let message = json!({"validator_index": VALIDATOR.to_string(), "from_bls_pubkey": stkr_e2e::gateway::hex_of(key), "to_execution_address": to});
    let body = json!([{"message": message, "signature": signature}]);
    let url = format!("{}/eth/v1/beacon/pool/bls_to_execution_changes", node.url);
    let answer = http().post(url).json(&body).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

#[tokio::test]
async fn a_beacon_node_takes_the_change_that_the_network_signed_and_its_state_shows_the_vault() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let port = free_port()?;
    let (network, offline) = network(dir.path(), &format!("http://127.0.0.1:{port}")).await?;
    let (provider, key, finalised) = network.providers_withdrawal_key(&offline, KEY).await?;
    let (stkr, wallet) = (network.stkr().await?, EthereumWallet::from(provider.clone()));
    let group_key = PublicKey::from_eip2537(&finalised.points[finalised.points.len() - 128..])?;
    let pool = stkr.pools().open_with_withdrawal_key(3, 4, key).await?.send_with(&wallet).await?.value;
    let before = stkr.withdrawal_keys().credentials(pool).await?.ok_or_else(|| eyre!("no credentials"))?;

    // A chain on which a validator's withdrawals are that key's.
    let genesis = dir.path().join("genesis.ssz");
    capella_genesis(&genesis, unix_seconds()? + TO_GENESIS, VALIDATOR, before)?;
    let node = BeaconNode::start_capella(port, &dir.path().join("lodestar"), &genesis).await?;
    ensure!(before[0] == 0 && credentials(&node).await? == before, "{before}");
    network.fill_pool(pool, 4).await?;
    network.event::<Micropools::DepositSent>(network.deployment.micropools, pool).await?;
    network.until("blocks of the beacon chain", || async { Ok(node.head_slot().await? > 0) }).await?;

    // The committee's signature, with an offline server's part.
    stkr.withdrawal_keys().order_change(pool, VALIDATOR).await?.send_with(&wallet).await?;
    let change = stkr.withdrawal_keys().changes(pool).await?.remove(0);
    let server = &offline[0];
    let request = network.change_request(server.id, key).await?;
    server.bring("change.json", &request.to_string())?;
    let block = network.compared(server, "change.json").await?;
    server.json("answer", &["change.json", "--out", "changed.json", "--yes", "--block", &block])?;
    ensure!(credentials(&node).await? == before, "changed without a signature");
    let (status, body) = network.hand_in_answer(&std::fs::read_to_string(server.dir.join("changed.json"))?).await?;
    ensure!(status == 200, "{status} {body}");
    let shown = network.event::<WithdrawalKeys::ChangeShown>(network.deployment.withdrawal_keys(), pool).await?.inner;

    // Nobody but the relayer takes it there; and what it says of another address is not signed.
    let vault = change.to_execution_address;
    let (status, why) = offered(&node, &group_key, provider.address(), &shown.signature.to_string()).await?;
    ensure!(status >= 400 && why.contains("SIGNATURE"), "the node answers {status} to what nobody signed: {why}");
    let mut after = B256::ZERO;
    after[0] = 1;
    after[12..].copy_from_slice(vault.as_slice());
    network.until("the state shows the vault", || async { Ok(credentials(&node).await? == after) }).await?;
    let row: Value = node.get(&format!("/eth/v1/beacon/states/head/validators/{VALIDATOR}")).await?;
    ensure!(row["status"] == "active_ongoing", "{row}");
    Ok(())
}
