//! Members that deal badly are slashed and locked out, and the next attempt makes the key without them.

use alloy::network::EthereumWallet;
use eyre::{Result, ensure, eyre};
use std::time::Duration;
use stkr_chain::bindings::{KeyRegistry, Micropools};
use stkr_e2e::anvil::advance_time;
use stkr_e2e::network::CEREMONY_WINDOW;
use stkr_e2e::process::{Process, binary};
use stkr_e2e::{Network, Options};
use stkr_protocol::evidence::{EvidenceFile, Fault};
use stkr_sdk::Incident;

/// Four servers are the committee, and the last of them deals badly; the fifth is approved when that is over.
async fn punished(flaw: &str, fault: Fault, says: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut network =
        Network::deploy(Options { servers: 5, relayers: 1, block_ms: 500, ..Options::new(dir.path()) }).await?;
    network.init_servers().await?;
    network.register_servers().await?;
    let (stkr, governor) = (network.stkr().await?, EthereumWallet::from(network.governor.clone()));
    let ids: Vec<u32> = network.servers.iter().map(|server| server.id).collect();
    for id in &ids[..4] {
        stkr.servers().approve(*id).send_with(&governor).await?;
    }
    for honest in [0, 1, 2, 4] {
        network.start_server(honest)?;
    }
    let (culprit, config) = (ids[3], network.servers[3].config.clone());
    let args = ["bad-dealing", "--config", &config.display().to_string(), "--flaw", flaw].map(str::to_owned);
    let mut process = Process::start("bad-dealer", &binary("stkr-adversary")?, &args, &network.servers[3].dir)?;
    process.line(Duration::from_secs(20), |line| line.contains("ready"))?;
    network.add_relayer(0).await?;

    let provider = network.account("10").await?;
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    // Nobody tells anybody to do anything about it.
    network
        .until("the bad dealer is locked out", || async { Ok(stkr.servers().get(culprit).await?.locked_out) })
        .await?;
    let history = stkr.faults().history(culprit).await?;
    let charged = history.iter().any(|entry| {
        matches!(&entry.incident, Incident::Fault { fault: found, judgement, signed, .. }
            if found == fault.name() && judgement.charged && signed[0].what == "dealing of attempt 0")
    });
    ensure!(charged, "{history:?}");
    let status = network.relayer_json(0, "/status").await?.to_string();
    ensure!(status.contains(says), "the status does not say {says:?}: {status}");
    let kept = network.relayer_json(0, "/v1/evidence").await?;
    let file: EvidenceFile = serde_json::from_value(kept["evidence"][0]["body"].clone())?;
    let checked = stkr.faults().check(&file).await?;
    assert_eq!((checked.verified.fault, checked.server_id), (fault, Some(culprit)));

    stkr.servers().approve(ids[4]).send_with(&governor).await?;
    advance_time(&network.provider()?, CEREMONY_WINDOW + 1).await?;
    let registry = network.deployment.key_registry;
    let key = stkr.pools().get(pool).await?.key_id;
    let finalised = network.event::<KeyRegistry::KeyFinalised>(registry, key).await?.inner;
    let mut committee = finalised.committee.clone();
    committee.sort_unstable();
    assert_eq!((finalised.attempt, committee), (1, vec![ids[0], ids[1], ids[2], ids[4]]));
    network.event::<Micropools::DepositSent>(network.deployment.micropools, pool).await?;
    for id in finalised.committee.iter() {
        ensure!(!stkr.servers().get(*id).await?.locked_out, "an honest server is locked out: {id}");
    }
    let still = process.terminate(Duration::from_secs(20));
    ensure!(still == Some(0), eyre!("the bad dealer ended with {still:?}"));
    Ok(())
}

#[tokio::test]
async fn who_sends_a_wrong_share_is_locked_out_and_the_next_attempt_makes_the_key_without_it() -> Result<()> {
    punished("wrong-share", Fault::BadDealing, "a share that does not match its commitments").await
}

#[tokio::test]
async fn who_publishes_what_is_no_dealing_is_locked_out_and_the_next_attempt_makes_the_key_without_it() -> Result<()> {
    punished("malformed", Fault::MalformedDealing, "made a malformed dealing, with a field of the wrong length").await
}
