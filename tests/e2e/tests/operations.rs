//! What a provider and an operator do with running programs: look how far a key has signed before it moves, restart, replace
//! certificates and keys.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alloy::network::EthereumWallet;
use alloy::primitives::B256;
use eyre::{Result, ensure, eyre};
use rustix::process::Signal;
use serde_json::{Value, json};
use stkr_duties::SigningRequest;
use stkr_e2e::beacon::unix_seconds;
use stkr_e2e::gateway::{Client, Gateway, duty_key, init, key_of, make, network, start};
use stkr_e2e::network::{PATIENCE, free_port, http};
use stkr_e2e::process::binary;
use stkr_e2e::{DealtNetwork, Network};
use stkr_node::secrets;
use stkr_node::tls::Identity;
use stkr_protocol::SignerKey;
use stkr_protocol::sign::{Asked, SignResponse};

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
    let started = start(&config, dir.path())?;
    let (committee, key_id, group_key) = key_of(&network, &provider).await?;
    let mut gateway = Gateway::new(started, config, &schedule, group_key);
    let appeared = gateway.epoch()?;
    network.until("the next epoch", || async { Ok(gateway.epoch()? > appeared + 1) }).await?;
    let target = gateway.epoch()?;
    let vote = gateway.vote(target, 1);
    network.until("servers see the pool", || async { gateway.signs(&vote).await.map(|()| true) }).await?;

    // Its clock is that of the servers.
    let offset = || number(&gateway, "stkr_clock_offset_seconds");
    network.until("it has asked for the time", || async { Ok(offset().await.is_ok()) }).await?;
    ensure!(offset().await?.abs() < 2.0, "{}", offset().await?);

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

/// The one number of a metric.
async fn number(gateway: &Gateway, name: &str) -> Result<f64> {
    let line = metric(gateway, name).await?.concat();
    Ok(line.split(' ').next_back().unwrap_or_default().parse()?)
}

#[tokio::test]
async fn a_second_gateway_with_one_duty_key_signs_nothing_while_the_first_one_does() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (network, schedule_file) = network(dir.path()).await?;
    let schedule = network.server_config(0)?.schedule()?.ok_or_else(|| eyre!("no schedule"))?;
    let (config, provider) = init(&network, &dir.path().join("gateway"), &schedule_file).await?;
    let started = start(&config, dir.path())?;
    let (_, _, group_key) = key_of(&network, &provider).await?;
    let mut first = Gateway::new(started, config, &schedule, group_key);
    // The chain gave it the key while it watched: no quiet period, only the rest of the epoch.
    let appeared = first.epoch()?;
    network.until("the next epoch", || async { Ok(first.epoch()? > appeared + 1) }).await?;
    let vote = first.vote(first.epoch()?, 1);
    network.until("servers see the pool", || async { first.signs(&vote).await.map(|()| true) }).await?;

    // A machine that was believed dead: another gateway, with a history of its own and the same duty key.
    let folder = dir.path().join("second");
    let config = make(&network, &folder, &schedule_file)?;
    std::fs::copy(dir.path().join("gateway/secrets/duty.key"), folder.join("secrets/duty.key"))?;
    let mut second = Gateway::new(start(&config, &folder)?, config, &schedule, group_key);
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
    ensure!(number(&second, "stkr_gateway_stopped_keys").await? == 1.0, "the metric does not say so");
    assert_eq!(http().get(format!("{}/readyz", second.url)).send().await?.status(), 503);
    let kept: Value = http().get(format!("{}/v1/requests", second.url)).send().await?.json().await?;
    assert_eq!(kept["rows"], json!([]), "its duty key signed nothing that could be held against it");
    assert_eq!(second.process.terminate(PATIENCE), Some(0));

    // A prompt restart of the first one costs no period: servers know of nothing beyond its own votes.
    first.signs(&first.vote(first.epoch()?, 1)).await?;
    let stopped = first.epoch()?;
    assert_eq!(first.process.terminate(PATIENCE), Some(0));
    (first.process, first.client.url) = start(&first.config, dir.path())?;
    let again = || async { Ok(first.sign(&first.vote(first.epoch()?, 1)).await?.status == 200) };
    network.until("the first one signs again", again).await?;
    ensure!(first.epoch()? < stopped + 2, "it waited for a whole period");

    // Once it is gone for good the second one sees a whole period of silence, and takes over.
    assert_eq!(first.process.terminate(PATIENCE), Some(0));
    (second.process, second.client.url) = start(&second.config, &folder)?;
    let restarted = second.epoch()?;
    network.until("the key is there", || async { Ok(!second.public_keys().await?.is_empty()) }).await?;
    let over = || async { Ok(second.sign(&second.vote(second.epoch()?, 3)).await?.status == 200) };
    network.until("the period is over", over).await?;
    ensure!(second.epoch()? >= restarted + 2, "it did not wait");
    assert_eq!(second.process.terminate(PATIENCE), Some(0));
    Ok(())
}

/// Waits until nobody listens at `address` any more.
async fn closes(network: &Network, address: &str) -> Result<()> {
    network.until("the port closes", || async { Ok(TcpStream::connect(address).is_err()) }).await
}

/// Three of four answers make the signature; the fourth comes when the signal is there already, and is evidence like the others.
#[tokio::test]
async fn an_answer_that_comes_after_sigterm_is_kept() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut dealt = DealtNetwork::start(dir.path()).await?;
    let last = |network: &Network, signal: Signal| {
        network.servers.last().and_then(|server| server.process.as_ref()).into_iter().for_each(|it| it.signal(signal));
    };
    last(&dealt.network, Signal::STOP);
    let vote = dealt.vote(10, 11, 1);
    dealt.check(&vote, &dealt.ask_gateway(&vote).await?)?;
    let mut process = dealt.gateway.process.take().ok_or_else(|| eyre!("no gateway"))?;
    process.signal(Signal::TERM);
    closes(&dealt.network, dealt.gateway.url.trim_start_matches("http://")).await?;
    // Long enough for one that does not wait to be gone.
    tokio::time::sleep(Duration::from_secs(1)).await;
    ensure!(process.is_running(), "it did not wait: {}", process.log());
    last(&dealt.network, Signal::CONT);
    assert_eq!(process.end(PATIENCE), Some(0), "{}", process.log());

    dealt.gateway.start()?;
    let kept = dealt.gateway.get("/v1/requests").await?;
    let rows = kept.body["rows"].as_array().cloned().unwrap_or_default();
    let envelopes = rows.last().and_then(|row| row["envelopes"].as_array()).map(Vec::len);
    ensure!(envelopes == Some(4), "{rows:?}");
    dealt.terminate()
}

#[tokio::test]
async fn sigterm_finishes_every_signature_that_was_begun_and_takes_no_new_one() -> Result<()> {
    const AT_ONCE: u64 = 56;
    let dir = tempfile::tempdir()?;
    let (mut network, schedule_file) = network(dir.path()).await?;
    let schedule = network.server_config(0)?.schedule()?.ok_or_else(|| eyre!("no schedule"))?;
    let (config, provider) = init(&network, &dir.path().join("gateway"), &schedule_file).await?;
    let started = start(&config, dir.path())?;
    let (committee, key_id, group_key) = key_of(&network, &provider).await?;
    let mut gateway = Gateway::new(started, config, &schedule, group_key);
    network.until("it signs", || async { Ok(gateway.sign(&gateway.reveal(1)).await?.status == 200) }).await?;

    // The servers hold still, so that every request is in the middle of its way when the signal comes.
    let freeze = |signal: Signal| {
        committee.iter().filter_map(|at| network.servers[*at].process.as_ref()).for_each(|it| it.signal(signal));
    };
    freeze(Signal::STOP);
    let client = gateway.client.clone();
    let asked: Vec<_> = (0..AT_ONCE)
        .map(|epoch| {
            let client = client.clone();
            tokio::spawn(async move {
                let request = client.reveal(epoch);
                let answer = client.sign(&request).await?;
                client.check(&request, &answer)
            })
        })
        .collect();
    let open = || async { Ok(number(&gateway, "stkr_http_connections").await? >= 56.0) };
    network.until("all are there", open).await?;
    // Connected is not yet read.
    tokio::time::sleep(Duration::from_millis(500)).await;
    gateway.process.signal(Signal::TERM);
    closes(&network, gateway.url.trim_start_matches("http://")).await?;
    ensure!(gateway.process.is_running() && asked.iter().all(|it| !it.is_finished()), "nothing was under way");
    freeze(Signal::CONT);
    for answer in asked {
        answer.await??;
    }
    assert_eq!(gateway.process.end(PATIENCE), Some(0));

    // A server that has just started reads the chain for the first request of a key: while the chain holds still, so do they.
    let member = committee[0];
    network.terminate_server(member)?;
    network.start_server(member)?;
    let client = network.client(member, &Identity::generate("gateway")?)?;
    client.info().await?;
    let duty_key = SignerKey::from_bytes(&*secrets::read_hex32(&dir.path().join("gateway/secrets/duty.key"))?)?;
    let assignment = network.stkr().await?.keys().duty_assignment(key_id).await?.ok_or_else(|| eyre!("nobody's"))?;
    network.anvil.process.signal(Signal::STOP);
    let asked: Vec<_> = (0..AT_ONCE)
        .map(|epoch| {
            let text = gateway.reveal(epoch).to_string();
            let request = SigningRequest::decode(text.as_bytes(), schedule.preset())?;
            let ids = (key_id, assignment.number);
            let asked = Asked::duty(ids, &request, &schedule, &network.domain(), &duty_key)?;
            let client = client.clone();
            Ok(tokio::spawn(async move { client.sign_one(asked.request()).await }))
        })
        .collect::<Result<_>>()?;
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let mut process = network.servers[member].process.take().ok_or_else(|| eyre!("it does not run"))?;
    process.signal(Signal::TERM);
    closes(&network, network.servers[member].endpoint.trim_start_matches("https://")).await?;
    ensure!(process.is_running() && asked.iter().all(|it| !it.is_finished()), "nothing was under way");
    network.anvil.process.signal(Signal::CONT);
    for answer in asked {
        let answer = answer.await??;
        ensure!(matches!(answer, SignResponse::Signed(_)), "{answer:?}");
    }
    assert_eq!(process.end(PATIENCE), Some(0));
    Ok(())
}

/// What a validator client saw.
#[derive(Debug, Default)]
struct Seen {
    signed: u64,
    missed: Vec<u64>,
    /// Answers that another try does not cure by itself.
    refused: Vec<String>,
}

/// A duty in every slot, asked again as a client would until its mainnet slot were over, until told to stop.
async fn sign_every_slot(client: Client, stop: Arc<AtomicBool>) -> Result<Seen> {
    let mut duties = Vec::new();
    let mut last = 0;
    while !stop.load(Ordering::Relaxed) {
        let slot = client.schedule.slot_at_time(unix_seconds()?).ok_or_else(|| eyre!("before genesis"))?.0;
        if slot > last {
            last = slot;
            duties.push((slot, tokio::spawn(until_signed(client.clone(), slot))));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut seen = Seen::default();
    for (slot, duty) in duties {
        let (is_signed, refused) = duty.await??;
        seen.refused.extend(refused);
        if is_signed { seen.signed += 1 } else { seen.missed.push(slot) }
    }
    Ok(seen)
}

/// A vote in the first slot of an epoch, a sync committee message in any other.
async fn until_signed(client: Client, slot: u64) -> Result<(bool, Vec<String>)> {
    let request = if slot.is_multiple_of(8) { client.vote(slot / 8, 1) } else { client.message(slot) };
    let until = Instant::now() + Duration::from_secs(12);
    let mut refused = Vec::new();
    while Instant::now() < until {
        // While it restarts nobody answers.
        if let Ok(answer) = client.sign(&request).await {
            match answer.status {
                200 => return client.check(&request, &answer).map(|()| (true, refused)),
                503 | 404 => {}
                _ => refused.push(format!("slot {slot}: {answer:?}")),
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok((false, refused))
}

fn edit(file: &Path, from: &str, to: &str) -> Result<()> {
    let text = std::fs::read_to_string(file)?;
    ensure!(text.contains(from), "no {from} in {text}");
    Ok(std::fs::write(file, text.replacen(from, to, 1))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_and_a_duty_key_are_replaced_and_no_duty_is_missed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut network, schedule_file) = network(dir.path()).await?;
    let schedule = network.server_config(0)?.schedule()?.ok_or_else(|| eyre!("no schedule"))?;
    let (config, provider) = init(&network, &dir.path().join("gateway"), &schedule_file).await?;
    let port = free_port()?;
    edit(&config, "127.0.0.1:0", &format!("127.0.0.1:{port}"))?;
    let started = start(&config, dir.path())?;
    let (committee, key_id, group_key) = key_of(&network, &provider).await?;
    let mut gateway = Gateway::new(started, config, &schedule, group_key);
    network.until("it signs", || async { Ok(gateway.sign(&gateway.reveal(1)).await?.status == 200) }).await?;
    let appeared = gateway.epoch()?;
    network.until("the next epoch", || async { Ok(gateway.epoch()? > appeared + 1) }).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let running = tokio::spawn(sign_every_slot(gateway.client.clone(), stop.clone()));

    // A server's certificate: new files, a restart, and the registry. The three others sign meanwhile.
    let member = committee[0];
    let files = network.server_config(member)?.files;
    let old = network.fingerprint(member)?;
    network.terminate_server(member)?;
    for file in [&files.tls_certificate, &files.tls_key] {
        std::fs::rename(file, file.with_extension("old"))?;
    }
    let new = Identity::create("stkr-server", &files.tls_certificate, &files.tls_key)?.fingerprint();
    ensure!(new != old, "it is the same certificate");
    network.start_server(member)?;
    let stkr = network.stkr().await?;
    let server = &network.servers[member];
    let wallet = EthereumWallet::from(server.operator.clone());
    stkr.servers().set_endpoint(server.id, B256::from(new.0), &server.endpoint)?.send_with(&wallet).await?;
    // It is needed again once another one is down.
    let signs = format!("{{server=\"{}\"", server.id);
    network.kill_server(committee[1]);
    let reveal = gateway.reveal(2);
    network.until("the new certificate is known", || async { Ok(gateway.sign(&reveal).await?.status == 200) }).await?;
    network.start_server(committee[1])?;
    ensure!(metric(&gateway, "stkr_gateway_server_troubles").await?.concat().contains(&signs), "it was never missed");

    // The duty key: both files, a prompt restart, the chain, and the old file goes.
    let secret = SignerKey::random()?;
    secrets::write_hex32(&dir.path().join("gateway/secrets/next.key"), &secret.to_bytes())?;
    edit(&gateway.config, "[\"secrets/duty.key\"]", "[\"secrets/duty.key\", \"secrets/next.key\"]")?;
    assert_eq!(gateway.process.terminate(PATIENCE), Some(0));
    gateway.process = start(&gateway.config, dir.path())?.0;
    let (address, proof) = duty_key(&gateway.config, provider.address(), 1)?;
    assert_eq!(address, secret.address());
    let wallet = EthereumWallet::from(provider.clone());
    stkr.providers().set_duty_key(address, proof)?.send_with(&wallet).await?;
    let assignment = stkr.keys().duty_assignment(key_id).await?.ok_or_else(|| eyre!("nobody's"))?;
    assert_eq!((assignment.duty_key, assignment.number), (address, 1), "the same assignment, so both keys are served");
    // Longer than it lingers on the old key.
    tokio::time::sleep(Duration::from_secs(30)).await;
    edit(&gateway.config, "[\"secrets/duty.key\", \"secrets/next.key\"]", "[\"secrets/next.key\"]")?;
    assert_eq!(gateway.process.terminate(PATIENCE), Some(0));
    gateway.process = start(&gateway.config, dir.path())?.0;
    network
        .until("it signs with the new key alone", || async { Ok(gateway.sign(&reveal).await?.status == 200) })
        .await?;

    tokio::time::sleep(Duration::from_secs(3)).await;
    stop.store(true, Ordering::Relaxed);
    let seen = running.await??;
    ensure!(seen.missed.is_empty() && seen.refused.is_empty() && seen.signed > 30, "{seen:?}");
    eprintln!("{} duties signed, none missed", seen.signed);
    assert_eq!(gateway.process.terminate(PATIENCE), Some(0));
    Ok(())
}
