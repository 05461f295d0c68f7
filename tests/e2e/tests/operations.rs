//! What a provider and an operator do with running programs: look how far a key has signed before it moves, restart, replace
//! certificates and keys.

use std::process::Command;

use eyre::{Result, ensure, eyre};
use serde_json::{Value, json};
use stkr_e2e::Network;
use stkr_e2e::gateway::{Gateway, hex_of, init, key_of, make, network, start};
use stkr_e2e::network::{PATIENCE, http};
use stkr_e2e::process::binary;

/// `stkr --json key safe-to-move KEY`: exit code and what it printed.
fn safe_to_move(network: &Network, key: &str) -> Result<(Option<i32>, Value)> {
    let output = Command::new(binary("stkr")?)
        .args(["--json", "--rpc", &network.anvil.url, "--deployment"])
        .arg(&network.deployment_file)
        .args(["key", "safe-to-move", key])
        .output()?;
    let printed = serde_json::from_slice(&output.stdout);
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.code(), printed.map_err(|error| eyre!("{error}: {}", said()))?))
}

fn marks(report: &Value, member: &str, mark: &str) -> Vec<u64> {
    let servers = report["servers"].as_array().into_iter().flatten();
    servers.filter_map(|server| server[member][mark].as_u64()).collect()
}

#[tokio::test]
async fn a_key_is_safe_to_move_above_what_every_quorum_signed_and_not_while_too_few_servers_say() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut network, schedule_file) = network(dir.path()).await?;
    let schedule = network.server_config(0)?.schedule()?.ok_or_else(|| eyre!("no schedule"))?;
    let (config, provider) = init(&network, &dir.path().join("gateway"), &schedule_file).await?;
    let (process, url) = start(&config, dir.path())?;
    let (committee, key_id, group_key) = key_of(&network, &provider).await?;
    let mut gateway = Gateway { process, url, config, schedule, pubkey: hex_of(&group_key), group_key };
    let appeared = gateway.epoch()?;
    network.until("the next epoch", || async { Ok(gateway.epoch()? > appeared + 1) }).await?;
    let target = gateway.epoch()?;
    let vote = gateway.vote(target, 1);
    network.until("servers see the pool", || async { gateway.signs(&vote).await.map(|()| true) }).await?;

    // By id and by public key; every server says the same, and so does the chain.
    let (code, report) = safe_to_move(&network, &key_id.to_string())?;
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["safeFrom"], json!({"slot": 0, "epoch": target + 1}), "{report}");
    assert_eq!((&report["answered"], &report["needed"], &report["mayLie"]), (&json!(4), &json!(2), &json!(2)));
    assert_eq!(report["servedBy"]["account"], json!(provider.address()), "{report}");
    let signed = marks(&report, "high", "targetEpoch");
    ensure!(signed.len() >= 3 && signed.iter().all(|epoch| *epoch == target), "{report}");
    assert_eq!(marks(&report, "high", "slot"), Vec::<u64>::new(), "no block was signed");
    for server in report["servers"].as_array().into_iter().flatten() {
        assert_eq!(server["assignment"], report["servedBy"]["assignment"], "{report}");
    }
    assert_eq!(safe_to_move(&network, &gateway.pubkey)?, (code, report.clone()));

    // Two are down: the two others meet every three that signed. With three down a signature could hide.
    network.kill_server(committee[0]);
    network.kill_server(committee[2]);
    let (code, fewer) = safe_to_move(&network, &key_id.to_string())?;
    assert_eq!((code, &fewer["mayLie"], &fewer["safeFrom"]), (Some(0), &json!(0), &report["safeFrom"]), "{fewer}");
    network.kill_server(committee[1]);
    let (code, too_few) = safe_to_move(&network, &key_id.to_string())?;
    assert_eq!((code, &too_few["safeFrom"]), (Some(3), &Value::Null), "{too_few}");
    let reason = too_few["servers"][0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("refuses the connection"), "{too_few}");
    assert_eq!(gateway.process.terminate(PATIENCE), Some(0));
    Ok(())
}

/// Every line of a gateway's metrics that begins so.
async fn metric(gateway: &Gateway, name: &str) -> Result<Vec<String>> {
    let text = http().get(format!("{}/metrics", gateway.url)).send().await?.text().await?;
    Ok(text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect())
}

#[tokio::test]
async fn a_second_gateway_with_one_duty_key_signs_nothing_while_the_first_one_does() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (network, schedule_file) = network(dir.path()).await?;
    let schedule = network.server_config(0)?.schedule()?.ok_or_else(|| eyre!("no schedule"))?;
    let (config, provider) = init(&network, &dir.path().join("gateway"), &schedule_file).await?;
    let (process, url) = start(&config, dir.path())?;
    let (_, _, group_key) = key_of(&network, &provider).await?;
    let pubkey = hex_of(&group_key);
    let mut first = Gateway { process, url, config, schedule: schedule.clone(), pubkey: pubkey.clone(), group_key };
    // The chain gave it the key while it watched: no quiet period, only the rest of the epoch.
    let appeared = first.epoch()?;
    network.until("the next epoch", || async { Ok(first.epoch()? > appeared + 1) }).await?;
    let vote = first.vote(first.epoch()?, 1);
    network.until("servers see the pool", || async { first.signs(&vote).await.map(|()| true) }).await?;

    // A machine that was believed dead: another gateway, with a history of its own and the same duty key.
    let folder = dir.path().join("second");
    let config = make(&network, &folder, &schedule_file)?;
    std::fs::copy(dir.path().join("gateway/secrets/duty.key"), folder.join("secrets/duty.key"))?;
    let (process, url) = start(&config, &folder)?;
    let mut second = Gateway { process, url, config, schedule, pubkey, group_key };
    network.until("the second one serves it too", || async { Ok(!second.public_keys().await?.is_empty()) }).await?;
    let request = second.vote(second.epoch()?, 2);
    let url = format!("{}/api/v1/eth2/sign/{}", second.url, second.pubkey);
    let waits = http().post(url).json(&request).send().await?;
    ensure!(waits.status() == 503 && waits.headers().contains_key("retry-after"), "{waits:?}");
    second.signs(&second.reveal(1)).await?;

    // The first one goes on, and the second one hears of it from the servers.
    let found = || async {
        first.signs(&first.vote(first.epoch()?, 1)).await?;
        let answer = second.sign(&second.vote(second.epoch()?, 2)).await?;
        ensure!(answer.status == 503, "{answer:?}");
        Ok(answer.reason().contains("another gateway signs for this key with the same duty key"))
    };
    network.until("the second one finds the first", found).await?;
    assert_eq!(metric(&second, "stkr_gateway_stopped_keys").await?, ["stkr_gateway_stopped_keys 1"]);
    assert_eq!(http().get(format!("{}/readyz", second.url)).send().await?.status(), 503);
    let kept: Value = http().get(format!("{}/v1/requests", second.url)).send().await?.json().await?;
    assert_eq!(kept["rows"], json!([]), "its duty key signed nothing that could be held against it");
    assert_eq!(second.process.terminate(PATIENCE), Some(0));

    // A prompt restart of the first one costs no period: servers know of nothing beyond its own votes.
    first.signs(&first.vote(first.epoch()?, 1)).await?;
    let stopped = first.epoch()?;
    assert_eq!(first.process.terminate(PATIENCE), Some(0));
    (first.process, first.url) = start(&first.config, dir.path())?;
    let again = || async { Ok(first.sign(&first.vote(first.epoch()?, 1)).await?.status == 200) };
    network.until("the first one signs again", again).await?;
    ensure!(first.epoch()? < stopped + 2, "it waited for a whole period");

    // Once it is gone for good the second one sees a whole period of silence, and takes over.
    assert_eq!(first.process.terminate(PATIENCE), Some(0));
    (second.process, second.url) = start(&second.config, &folder)?;
    let restarted = second.epoch()?;
    network.until("the key is there", || async { Ok(!second.public_keys().await?.is_empty()) }).await?;
    let over = || async { Ok(second.sign(&second.vote(second.epoch()?, 3)).await?.status == 200) };
    network.until("the period is over", over).await?;
    ensure!(second.epoch()? >= restarted + 2, "it did not wait");
    assert_eq!(second.process.terminate(PATIENCE), Some(0));
    Ok(())
}
