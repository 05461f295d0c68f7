//! Members that deal badly are slashed and locked out, and the next attempt makes the key without them.

use alloy::network::EthereumWallet;
use eyre::{Result, ensure, eyre};
use std::time::Duration;
use stkr_chain::bindings::{KeyRegistry, Micropools};
use stkr_core::ShareIndex;
use stkr_e2e::anvil::advance_time;
use stkr_e2e::network::CEREMONY_WINDOW;
use stkr_e2e::process::{Process, binary};
use stkr_e2e::{Network, Options};
use stkr_node::tls::Identity;
use stkr_protocol::api::AdvanceRequest;
use stkr_protocol::evidence::{EvidenceFile, Fault};
use stkr_sdk::Incident;

/// In the place of the server at `position`.
fn bad_dealer(network: &Network, position: usize, flaw: &str) -> Result<Process> {
    let server = &network.servers[position];
    let args = ["bad-dealing", "--config", &server.config.display().to_string(), "--flaw", flaw].map(str::to_owned);
    let mut process =
        Process::start(&format!("bad-dealer-{position}"), &binary("stkr-adversary")?, &args, &server.dir)?;
    process.line(Duration::from_secs(20), |line| line.contains("ready"))?;
    Ok(process)
}

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
    let culprit = ids[3];
    let mut process = bad_dealer(&network, 3, flaw)?;
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

/// Two dealers cheat one member. The relayer that carried the ceremony is gone, and so are all others who saw the dealings: the one
/// that comes now hears of them from that member alone, and only after it complained about the first.
#[tokio::test]
async fn both_who_cheat_one_member_are_locked_out_by_a_relayer_that_hears_of_it_from_that_member_alone() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = Options { servers: 4, relayers: 0, block_ms: 500, ..Options::new(dir.path()) };
    let mut network = Network::start(options).await?;
    let (stkr, anyone) = (network.stkr().await?, EthereumWallet::from(network.account("10").await?));
    let provider = network.account("10").await?;
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    let key = network.request_key(pool, &anyone).await?;
    let ceremony = network.draw(key, (3, 4), &anyone).await?;
    let committee = ceremony.committee();
    let mut dealers = Vec::new();
    for id in &committee[2..] {
        let position = network.position_of(*id)?;
        network.terminate_server(position)?;
        dealers.push(bad_dealer(&network, position, "wrong-share")?);
    }
    let cheated = ShareIndex::new(1)?;
    let board = network.carry_but_to(&ceremony, cheated).await?;
    let client = network.client(network.position_of(committee[0])?, &Identity::generate("relayer")?)?;
    let messages = board.messages().cloned().collect();
    let told = client.advance(&AdvanceRequest { key_id: key, attempt: 0, messages }).await?;
    ensure!(
        told.complaint.is_some_and(|it| it.dealing.index == 3),
        "the first of the two is shown: {:?}",
        told.failure
    );
    for mut dealer in dealers {
        ensure!(dealer.terminate(Duration::from_secs(20)) == Some(0), "the bad dealer did not end well");
    }
    network.kill_server(network.position_of(committee[1])?);

    network.init_relayer(0).await?;
    network.start_relayer(0)?;
    for culprit in &committee[2..] {
        let locked = || async { Ok(stkr.servers().get(*culprit).await?.locked_out) };
        network.until(&format!("server {culprit} is locked out"), locked).await?;
        let history = stkr.faults().history(*culprit).await?;
        let charged = history.iter().any(|entry| {
            matches!(&entry.incident, Incident::Fault { fault, judgement, .. }
                if fault == Fault::BadDealing.name() && judgement.charged)
        });
        ensure!(charged, "{history:?}");
    }
    for honest in &committee[..2] {
        ensure!(!stkr.servers().get(*honest).await?.locked_out, "an honest server is locked out: {honest}");
    }
    Ok(())
}
