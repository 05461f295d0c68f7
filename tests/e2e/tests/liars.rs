//! Servers and relayers that lie: each is named, and what it hoped for does not happen.

use alloy::primitives::{B256, U256};
use alloy::providers::Provider as _;
use alloy::rpc::types::Filter;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolEvent as _;
use eyre::{Result, eyre};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use stkr_adversary::two_faced;
use stkr_chain::bindings::{Court, KeyRegistry, Micropools};
use stkr_core::ShareIndex;
use stkr_e2e::anvil::reorg;
use stkr_e2e::process::{Process, binary};
use stkr_e2e::{Network, Options};
use stkr_node::tls::Identity;
use stkr_protocol::ceremony::Phase;
use stkr_protocol::evidence::{EvidenceFile, Fault};
use stkr_sdk::{HistoryEntry, Incident};

#[tokio::test]
async fn a_server_that_answers_under_another_share_is_locked_out_and_deposits_go_out_without_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // Two relayers that do not know each other: whichever find the fault, it is charged once.
    let options = Options { servers: 5, relayers: 2, block_ms: 500, ..Options::new(dir.path()) };
    let mut network = Network::start(options).await?;
    let provider = network.account("10").await?;
    let micropools = network.deployment.micropools;
    let (pool, id, _liar) = pool_with_a_liar(&mut network, &provider, "wrong-share").await?;

    network.event::<Micropools::DepositSent>(micropools, pool).await?;
    let kept = || async {
        let pages = [network.relayer_json(0, "/v1/evidence").await?, network.relayer_json(1, "/v1/evidence").await?];
        Ok::<Value, eyre::Report>(
            pages.map(|page| page["evidence"][0].clone()).into_iter().find(|it| !it.is_null()).unwrap_or_default(),
        )
    };
    network.until("a relayer has evidence", || async { Ok(!kept().await?.is_null()) }).await?;

    // What a relayer keeps is a file that a stranger can judge.
    let kept = kept().await?;
    assert_eq!(kept["serverId"].as_str(), Some(id.to_string().as_str()), "{kept}");
    let file: EvidenceFile = serde_json::from_value(kept["body"].clone())?;
    let stkr = network.stkr().await?;
    let checked = stkr.faults().check(&file).await?;
    assert_eq!((checked.verified.fault, checked.server_id), (Fault::InvalidPartial, Some(id)));

    // Nobody tells the relayers to do anything about it.
    network.until("the liar is locked out", || async { Ok(stkr.servers().get(id).await?.locked_out) }).await?;
    // The one whose servers were not there yet may have collected nothing before the other's deposit went out.
    let settled = || async {
        let texts = [network.relayer_text(0, "/metrics").await?, network.relayer_text(1, "/metrics").await?];
        let cases: Vec<&str> = texts
            .iter()
            .flat_map(|text| text.lines())
            .filter(|line| line.starts_with("stkr_relayer_evidence{"))
            .collect();
        let on_record = "stkr_relayer_evidence{fault=\"invalid_partial\",stage=\"on_record\"} 1";
        Ok(cases.contains(&on_record) && cases.iter().all(|case| *case == on_record || case.ends_with("} 0")))
    };
    network.until("every relayer that met it sees that it is on record", settled).await?;
    let history = stkr.faults().history(id).await?;
    let charged =
        |entry: &&HistoryEntry| matches!(&entry.incident, Incident::Fault { judgement, .. } if judgement.charged);
    let charges: Vec<&HistoryEntry> = history.iter().filter(charged).collect();
    let [HistoryEntry { incident: Incident::Fault { judgement, signed, evidence, .. }, .. }] = charges.as_slice()
    else {
        return Err(eyre!("one charge was expected: {history:?}"));
    };
    assert_eq!((*evidence, signed[0].what.as_str()), (checked.verified.evidence, "deposit"));
    assert_eq!(judgement.bounty, judgement.penalty / U256::from(10));

    // The next key is made, and its deposit signed, without the liar.
    let (next, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(next, 4).await?;
    network.event::<Micropools::DepositSent>(micropools, next).await?;
    let key = stkr.pools().get(next).await?.key_id;
    let committee = stkr.keys().get(key).await?.committee;
    assert!(committee.len() == 4 && !committee.contains(&id), "{committee:?} has the locked-out server {id}");
    Ok(())
}

/// A full pool whose first member is a liar, in an honest server's place: same certificate, signer key and port. The other
/// three are exactly t, so the deposit goes out only if the liar's partial is found and thrown out. The pool, the liar's id,
/// and its process.
async fn pool_with_a_liar(
    network: &mut Network,
    provider: &PrivateKeySigner,
    lie: &str,
) -> Result<(u64, u32, Process)> {
    let (pool, _) = network.open_pool(provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    let (key, finalised) = network.live_key(pool).await?;
    // The three honest ones sign as soon as the order is final: nobody collects before the liar is there.
    (0..network.relayers.len()).for_each(|relayer| network.kill_relayer(relayer));
    let liar = network.position_of(finalised.committee[0])?;
    let id = network.servers[liar].id;
    network.kill_server(liar);
    let config = network.servers[liar].config.clone();
    let folder = config.parent().ok_or_else(|| eyre!("the configuration is in no folder"))?.to_owned();
    let (file, key) = (config.display().to_string(), key.to_string());
    let args = ["accomplice", "--config", &file, "--key-id", &key, "--lie", lie].map(str::to_owned);
    let mut process = Process::start("liar", &binary("stkr-adversary")?, &args, &folder)?;
    process.line(Duration::from_secs(20), |line| line.contains("ready"))?;
    for relayer in 0..network.relayers.len() {
        network.start_relayer(relayer)?;
    }
    Ok((pool, id, process))
}

#[tokio::test]
async fn a_relayer_that_was_killed_while_its_report_vanished_in_a_reorg_reports_again_and_once() -> Result<()> {
    const FINALITY: u64 = 12;
    let dir = tempfile::tempdir()?;
    let options = Options { servers: 4, block_ms: 500, finality: FINALITY, ..Options::new(dir.path()) };
    let mut network = Network::start(options).await?;
    let provider = network.account("10").await?;
    let (_, id, _liar) = pool_with_a_liar(&mut network, &provider, "wrong-length").await?;
    let (stkr, rpc) = (network.stkr().await?, network.provider()?);
    let court = network.deployment.court;
    let events = async |signature: B256| -> Result<Vec<u64>> {
        let filter = Filter::new().address(court).event_signature(signature).from_block(0);
        Ok(rpc.get_logs(&filter).await?.iter().filter_map(|log| log.block_number).collect())
    };
    let committed = async || events(Court::EvidenceCommitted::SIGNATURE_HASH).await;

    network.until("the relayer has committed to its evidence", || async { Ok(!committed().await?.is_empty()) }).await?;
    network.kill_relayer(0);
    let first = committed().await?[0];
    let depth = rpc.get_block_number().await? - first + 1;
    assert!(depth < FINALITY, "the commitment is {depth} blocks deep, which is final");
    reorg(&rpc, depth).await?;
    assert_eq!(committed().await?, [0; 0], "the reorg did not undo the commitment");
    assert!(!stkr.servers().get(id).await?.locked_out);

    network.start_relayer(0)?;
    network.until("the liar is locked out", || async { Ok(stkr.servers().get(id).await?.locked_out) }).await?;
    let head = rpc.get_block_number().await?;
    network.until("that is final", || async { Ok(rpc.get_block_number().await? > head + FINALITY + 4) }).await?;
    assert_eq!(committed().await?.len(), 1);
    assert_eq!(events(Court::FaultProven::SIGNATURE_HASH).await?.len(), 1);
    assert_eq!(events(Court::FaultRecorded::SIGNATURE_HASH).await?, [0; 0]);
    // Its partial was a byte too short, which is no silence: it was signed.
    let history = stkr.faults().history(id).await?;
    let faults: Vec<_> = history
        .iter()
        .filter_map(|entry| match &entry.incident {
            Incident::Fault { fault, .. } => Some(fault.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(faults, [Fault::GarbagePartial.to_string()]);
    Ok(())
}

#[tokio::test]
async fn a_relayer_that_shows_members_different_dealings_gets_no_key_and_every_member_says_why() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // No honest relayer: the attacker carries this ceremony, and pushes request and draw as anyone may.
    let mut network =
        Network::start(Options { servers: 4, relayers: 0, block_ms: 500, ..Options::new(dir.path()) }).await?;
    let provider = network.account("10").await?;
    let anyone = alloy::network::EthereumWallet::from(network.account("10").await?);
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    let key = network.request_key(pool, &anyone).await?;
    let context = network.draw(key, (3, 4), &anyone).await?;
    let committee = context.committee();

    let attacker = network.position_of(committee[3])?;
    network.kill_server(attacker);
    let signer = network.signer_key(attacker)?;
    let identity = Identity::generate("relayer")?;
    let mut honest = Vec::new();
    for (index, id) in (1..).zip(&committee[..3]) {
        honest.push((ShareIndex::new(index)?, network.client(network.position_of(*id)?, &identity)?));
    }
    let deceived: BTreeSet<_> = [ShareIndex::new(2)?].into();
    let verdicts = two_faced::attack(&context, ShareIndex::new(4)?, &signer, &honest, &deceived).await?;

    assert_eq!(verdicts.revealed, 0, "a member revealed its dealing although the commitment sets differ");
    // Member 2 was shown the attacker's second commitment, so its set differs from those of 1 and 3. Who gives up shows what it saw,
    // and from then on even this relayer cannot keep them from finding out who it was.
    let mut said = BTreeMap::new();
    for (index, answer) in &verdicts.answers {
        let failure = answer.failure.as_ref().ok_or_else(|| eyre!("member {index} does not say why: {answer:?}"))?;
        assert_eq!(answer.phase, Phase::Failed, "member {index}");
        assert!(failure.what_to_do.contains("restart the ceremony after its deadline"), "{}", failure.what_to_do);
        said.insert(index.get(), (failure.culprit.map(ShareIndex::get), failure.reason.clone()));
    }
    let dealer = (Some(4), "member 4 signed two different dealing_commitment messages".to_owned());
    assert_eq!(said, BTreeMap::from([(1, dealer.clone()), (2, dealer.clone()), (3, dealer)]));
    let finalised = network.events_now::<KeyRegistry::KeyFinalised>(network.deployment.key_registry, key).await?;
    assert!(finalised.is_empty());
    Ok(())
}
