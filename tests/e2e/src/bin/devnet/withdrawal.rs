//! A pool with 0x00 credentials: its withdrawal key is held by four online servers and two without network, and its 31 ETH wait
//! until they signed the change of its credentials to its vault.

use std::time::Instant;

use alloy::network::EthereumWallet;
use alloy::primitives::Bytes;
use eyre::{Result, ensure, eyre};
use serde::Serialize;
use serde_json::Value;
use stkr_chain::bindings::{Micropools, WithdrawalKeys};
use stkr_e2e::Network;
use stkr_e2e::offline::OfflineServer;

use crate::Progress;
use crate::pool::{STAKERS, THRESHOLD};

/// t and n of the withdrawal key: t - 1 members are online servers, the others have no network.
const WITHDRAWAL_THRESHOLD: (u8, u8) = (5, 6);
/// Position of the validator on the beacon chain that this machine has not.
const VALIDATOR: u64 = 1_234_567;

/// A pool whose credentials were changed, and the committees of its two keys.
pub(crate) struct ChangedPool {
    pub(crate) pool: u64,
    pub(crate) change: CredentialChange,
    pub(crate) committees: [Vec<u32>; 2],
}

/// A `BLSToExecutionChange` that the network signed and the chain verified.
#[derive(Serialize)]
pub(crate) struct CredentialChange {
    /// The beacon API's form.
    message: Value,
    /// Compressed, 96 bytes.
    signature: Bytes,
    /// The withdrawal key, compressed, 48 bytes.
    pubkey: String,
    /// Gas of the transaction that showed it to the contract, which verifies it.
    gas: u64,
}

/// From a provider's request for a withdrawal key to the signed change of its pool's credentials.
pub(crate) async fn change_credentials(network: &Network, progress: &mut Progress) -> Result<ChangedPool> {
    let begin = Instant::now();
    let offline = network.two_offline_servers().await?;
    let (provider, key, made) = network.providers_withdrawal_key(&offline, WITHDRAWAL_THRESHOLD).await?;
    let (stkr, wallet) = (network.stkr().await?, EthereumWallet::from(provider));
    let t = WITHDRAWAL_THRESHOLD.0;
    let detail = format!("key {key}, {t} of servers {:?}; files went to and from two without network", made.committee);
    progress.done("withdrawal_key_made", begin, &detail);

    let begin = Instant::now();
    let pool = stkr.pools().open_with_withdrawal_key(THRESHOLD.0, THRESHOLD.1, key).await?.send_with(&wallet).await?;
    let pool = pool.value;
    network.fill_pool(pool, STAKERS).await?;
    let (_, validator_key) = network.live_key(pool).await?;
    let sent = network.event::<Micropools::DepositSent>(network.deployment.micropools, pool).await?.inner;
    progress.done("predeposited_with_0x00", begin, &format!("pool {pool}: 1 ETH for {}", sent.pubkey));

    let begin = Instant::now();
    stkr.withdrawal_keys().order_change(pool, VALIDATOR).await?.send_with(&wallet).await?;
    carry_change(network, &offline[0], key).await?;
    let contract = network.deployment.withdrawal_keys();
    let shown = network.event::<WithdrawalKeys::ChangeShown>(contract, pool).await?;
    let change = stkr.withdrawal_keys().changes(pool).await?;
    let change = change.first().ok_or_else(|| eyre!("no change of pool {pool} is ordered"))?;
    let detail = format!("to {}; one server without network was enough", change.to_execution_address);
    progress.done("credentials_changed", begin, &detail);
    let pubkey = change.from_bls_pubkey.to_string();
    let message = serde_json::json!({
        "validator_index": change.validator_index.to_string(),
        "from_bls_pubkey": pubkey,
        "to_execution_address": change.to_execution_address,
    });
    let (signature, gas) = (shown.inner.signature.clone(), network.gas_of(&shown).await?);
    let change = CredentialChange { message, signature, pubkey, gas };
    Ok(ChangedPool { pool, change, committees: [made.committee, validator_key.committee] })
}

/// Carries the request for a change to a machine without network, and its answer back.
async fn carry_change(network: &Network, server: &OfflineServer, key: u64) -> Result<()> {
    let request = network.change_request(server.id, key).await?;
    server.bring("change.json", &request.to_string())?;
    let block = network.compared(server, "change.json").await?;
    server.json("answer", &["change.json", "--out", "changed.json", "--yes", "--block", &block])?;
    let answer = std::fs::read_to_string(server.dir.join("changed.json"))?;
    let (status, body) = network.hand_in_answer(&answer).await?;
    ensure!(status == 200, "the relayer refuses the signed change: {body}");
    Ok(())
}
