//! Servers and relayers that lie: each is named, and what it hoped for does not happen.

use eyre::{Result, eyre};
use std::collections::BTreeSet;
use std::time::Duration;
use stkr_adversary::two_faced;
use stkr_chain::bindings::{KeyRegistry, Micropools};
use stkr_core::{ShareIndex, Threshold};
use stkr_e2e::process::{Process, binary};
use stkr_e2e::{Network, Options};
use stkr_node::config;
use stkr_node::tls::Identity;
use stkr_protocol::ceremony::{Context, MemberId};
use stkr_protocol::{ProtocolDomain, SignerKey};
use stkr_server::config::ServerConfig;

#[tokio::test]
async fn a_server_that_answers_under_another_share_is_named_and_the_deposit_still_goes_out() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut network = Network::start(Options { servers: 4, ..Options::new(dir.path()) }).await?;
    let provider = network.account("10").await?;
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    let micropools = network.deployment.micropools;
    let requested = network.event::<Micropools::PoolKeyRequested>(micropools, pool).await?;
    let key = u64::try_from(requested.inner.keyId)?;
    let finalised = network.event::<KeyRegistry::KeyFinalised>(network.deployment.key_registry, key).await?;

    // The first member becomes a liar in the honest server's place: same certificate, signer key and port. The other
    // three are exactly t, so the deposit goes out only if the liar's partial is found and thrown out.
    let liar = network.position_of(finalised.inner.committee[0])?;
    let id = network.servers[liar].id;
    network.kill_server(liar);
    let config = network.servers[liar].config.display().to_string();
    let args = ["wrong-share".into(), "--config".into(), config, "--index".into(), "1".into()];
    let mut process = Process::start("liar", &binary("stkr-adversary")?, &args, dir.path())?;
    process.line(Duration::from_secs(20), |line| line.contains("ready"))?;

    network.event::<Micropools::DepositSent>(micropools, pool).await?;
    network
        .until("the evidence names the liar", || async {
            let evidence = network.relayer_json(0, "/v1/evidence").await?.to_string();
            Ok(evidence.contains(&format!("\"serverId\":\"{id}\"")) || evidence.contains(&format!("\"serverId\":{id}")))
        })
        .await
}

#[tokio::test]
async fn a_relayer_that_shows_members_different_dealings_gets_no_key_and_every_member_says_why() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // No honest relayer: the attacker carries this ceremony, and pushes request and draw as anyone may.
    let mut network = Network::start(Options { servers: 4, relayers: 0, ..Options::new(dir.path()) }).await?;
    let stkr = network.stkr().await?;
    let provider = network.account("10").await?;
    let anyone = alloy::network::EthereumWallet::from(network.account("10").await?);
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    let key = stkr.pools().request_key(pool).send_with(&anyone).await?.value;
    tokio::time::sleep(Duration::from_secs(7)).await;
    stkr.keys().draw(key).await?.send_with(&anyone).await?;
    let drawn = network.event::<KeyRegistry::CommitteeDrawn>(network.deployment.key_registry, key).await?;

    let mut members = Vec::new();
    for id in &drawn.inner.committee {
        members.push(MemberId { server_id: *id, signer: stkr.servers().get(*id).await?.signer });
    }
    let domain =
        ProtocolDomain { chain_id: network.deployment.chain_id, key_registry: network.deployment.key_registry };
    let context = Context::new(domain, key, 0, Threshold::new(3, 4)?, members)?;

    let attacker = network.position_of(drawn.inner.committee[3])?;
    network.kill_server(attacker);
    let config: ServerConfig = config::load(&network.servers[attacker].config)?;
    let signer = SignerKey::from_bytes(&*stkr_node::secrets::read_hex32(&config.files.signer_key)?)?;
    let identity = Identity::generate("relayer")?;
    let mut honest = Vec::new();
    for (index, id) in (1..).zip(&drawn.inner.committee[..3]) {
        honest.push((ShareIndex::new(index)?, network.client(network.position_of(*id)?, &identity)?));
    }
    let deceived: BTreeSet<_> = [ShareIndex::new(2)?].into();
    let verdicts = two_faced::attack(&context, ShareIndex::new(4)?, &signer, &honest, &deceived).await?;

    assert_eq!(verdicts.revealed, 0, "a member revealed its dealing although the commitment sets differ");
    for (index, answer) in &verdicts.answers {
        let failure = answer.failure.as_ref().ok_or_else(|| eyre!("member {index} does not say why: {answer:?}"))?;
        assert!(!failure.reason.is_empty() && !failure.what_to_do.is_empty());
        eprintln!("member {index}: {} {}", failure.reason, failure.what_to_do);
    }
    let finalised = network.events_now::<KeyRegistry::KeyFinalised>(network.deployment.key_registry, key).await?;
    assert!(finalised.is_empty());
    Ok(())
}
