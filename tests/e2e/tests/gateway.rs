//! A validator client's view: a key that a ceremony made signs through the gateway's HTTP, whatever goes down.

use alloy::network::EthereumWallet;
use alloy::primitives::{B256, Bytes};
use eyre::{Result, eyre};
use serde_json::{Value, json};
use stkr_e2e::gateway::{Gateway, init, key_of, network, start};
use stkr_e2e::network::PATIENCE;
use stkr_protocol::SignerKey;

#[tokio::test]
async fn a_validator_client_signs_through_the_gateway_whatever_one_server_does() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut network, schedule_file) = network(dir.path()).await?;
    let schedule = network.server_config(0)?.schedule()?.ok_or_else(|| eyre!("no schedule"))?;
    let (config, provider) = init(&network, &dir.path().join("gateway"), &schedule_file).await?;
    let started = start(&config, dir.path())?;

    // The gateway runs before there is any key; the key appears by itself.
    let (committee, _, group_key) = key_of(&network, &provider).await?;
    let mut gateway = Gateway::new(started, config, &schedule, group_key);
    let expected = vec![gateway.pubkey.clone()];
    network.until("the key appears", || async { Ok(gateway.public_keys().await? == expected) }).await?;

    // Up to the epoch in which it appeared everything counts as signed.
    let appeared = gateway.epoch()?;
    let refused = gateway.sign(&gateway.vote(appeared - 1, 1)).await?;
    assert!(refused.status == 412 && refused.reason().contains("low watermark"), "{refused:?}");
    network.until("the next epoch", || async { Ok(gateway.epoch()? > appeared + 1) }).await?;
    let target = gateway.epoch()?;
    let vote = gateway.vote(target, 1);
    network.until("servers see the pool", || async { gateway.signs(&vote).await.map(|()| true) }).await?;

    let double = gateway.sign(&gateway.vote(target, 2)).await?;
    assert!(double.status == 412 && double.reason().contains("double vote"), "{double:?}");
    assert_eq!(gateway.sign_with(&format!("0x{}", "ab".repeat(48)), &vote).await?.status, 404);
    assert_eq!(gateway.sign(&json!({"type": "ATTESTATION"})).await?.status, 400);

    // Two failover clients with different heads: one is served, and all servers together know of one vote.
    network.until("the next epoch", || async { Ok(gateway.epoch()? > target) }).await?;
    let target = gateway.epoch()?;
    let (one, other) = (gateway.vote(target, 3), gateway.vote(target, 4));
    let (first, second) = futures::future::try_join(gateway.sign(&one), gateway.sign(&other)).await?;
    let (winner, answer, loser) = if first.status == 200 { (&one, first, second) } else { (&other, second, first) };
    gateway.check(winner, &answer)?;
    assert_eq!(loser.status, 412, "{loser:?}");

    network.kill_server(committee[1]);
    gateway.signs(&gateway.reveal(1)).await?;
    network.kill_server(committee[3]);
    let too_few = gateway.sign(&gateway.reveal(2)).await?;
    assert_eq!(too_few.status, 503, "{too_few:?}");
    for (index, position) in [(2, committee[1]), (4, committee[3])] {
        let who = format!("server {} (member {index}): ", network.servers[position].id);
        assert!(too_few.reason().contains(&who), "{who} in {too_few:?}");
    }
    network.start_server(committee[3])?;
    let reveal = gateway.reveal(3);
    network.until("one is back", || async { gateway.signs(&reveal).await.map(|()| true) }).await?;

    // The votes of both rounds are kept with their envelopes, and nothing of the refused ones is.
    let kept = gateway.kept_with(winner).await?;
    let rows = kept["rows"].as_array().cloned().unwrap_or_default();
    let roots: Vec<&Value> =
        rows.iter().map(|row| &row["request"]["duty"]["attestation"]["beacon_block_root"]).collect();
    let refused = [json!(B256::repeat_byte(2)), loser_root(winner)];
    assert!(!rows.is_empty() && !roots.iter().any(|root| refused.contains(root)), "{kept}");
    assert!(rows.iter().any(|row| row["envelopes"].as_array().is_some_and(|it| it.len() >= 3)), "{kept}");

    // A restart forgets nothing, also with SIGKILL.
    gateway.process.kill();
    (gateway.process, gateway.client.url) = start(&gateway.config, dir.path())?;
    network.until("the key is there again", || async { Ok(gateway.public_keys().await? == expected) }).await?;
    // Its last vote may be so old by now that it has to see first that nobody else signs.
    network.until("it signs again", || async { Ok(gateway.sign(winner).await?.status != 503) }).await?;
    let (again, conflict) = (gateway.sign(winner).await?, gateway.sign(&gateway.vote(target, 9)).await?);
    gateway.check(winner, &again)?;
    assert_eq!(conflict.status, 412, "{conflict:?}");

    // Another duty key on the chain: the key vanishes by itself.
    let other_key = SignerKey::random()?;
    let digest = stkr_sdk::duty_key_digest(&network.deployment, provider.address(), other_key.address());
    let proof = Bytes::from(other_key.sign_digest(digest).to_vec());
    let wallet = EthereumWallet::from(provider.clone());
    network.stkr().await?.providers().set_duty_key(other_key.address(), proof)?.send_with(&wallet).await?;
    network.until("the key vanishes", || async { Ok(gateway.public_keys().await?.is_empty()) }).await?;
    assert_eq!(gateway.sign(&reveal).await?.status, 404);
    assert_eq!(gateway.process.terminate(PATIENCE), Some(0));
    Ok(())
}

fn loser_root(winner: &Value) -> Value {
    let won = &winner["attestation"]["beacon_block_root"];
    let other = [3, 4].map(|root| json!(B256::repeat_byte(root)));
    let lost = other.into_iter().find(|root| root != won);
    lost.unwrap_or_default()
}
