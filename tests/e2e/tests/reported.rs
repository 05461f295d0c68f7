//! Faults that a provider's gateway meets, and faults that nobody sees who has the papers of one gateway only: both reach the
//! Court without anybody being told to, and the key signs on with the correct partials of those that were locked out.

use alloy::primitives::{B256, U256};
use alloy::providers::Provider as _;
use alloy::rpc::types::Filter;
use alloy::sol_types::SolEvent as _;
use eyre::{Result, bail, ensure, eyre};
use serde_json::json;
use stkr_chain::bindings::{Court, Micropools};
use stkr_chain::{ChainReader, Trust};
use stkr_core::ShareIndex;
use stkr_duties::DepositMessage;
use stkr_e2e::Network;
use stkr_e2e::gateway::{Gateway, init, key_of, network, start};
use stkr_e2e::misbehaviour::{buy, corrupt, envelope, find, hand_in, only_file, page};
use stkr_e2e::network::http;
use stkr_protocol::evidence::{EnvelopeProof, EvidenceFile, Fault, Holder, Proof, SignedEnvelope};
use stkr_protocol::sign::{Asked, DepositRequest};

/// What a server signed for the deposit that the chain ordered of its key.
async fn ordered_deposit(network: &Network, position: usize, key_id: u64) -> Result<SignedEnvelope> {
    let micropools = network.deployment.micropools;
    let pool = Micropools::new(micropools, network.provider()?).poolOfKey(U256::from(key_id)).call().await?;
    let order = network.event::<Micropools::DepositOrdered>(micropools, u64::try_from(pool)?).await?.inner;
    let message = DepositMessage {
        pubkey: order.pubkey.as_ref().try_into()?,
        withdrawal_credentials: order.withdrawalCredentials,
        amount_gwei: order.amountGwei,
    };
    let asked = Asked::from(DepositRequest::new(key_id, &message, network.deployment.genesis_fork_version.0));
    ensure!(asked.subject().signing_root() == order.signingRoot, "another root than the ordered one");
    envelope(network, position, &asked).await
}

async fn proven(network: &Network, fault: Fault, server_id: u32) -> Result<usize> {
    let filter = Filter::new().address(network.deployment.court).event_signature(Court::FaultProven::SIGNATURE_HASH);
    let logs = network.provider()?.get_logs(&filter.from_block(0)).await?;
    let events = logs.iter().filter_map(|log| Some(log.log_decode::<Court::FaultProven>().ok()?.inner.data));
    Ok(events.filter(|it| it.fault == fault as u8 && it.server == server_id).count())
}

#[tokio::test]
async fn faults_that_a_gateway_meets_or_a_stranger_finds_in_kept_pages_reach_the_court_through_a_relayer() -> Result<()>
{
    let dir = tempfile::tempdir()?;
    let (mut network, schedule_file) = network(dir.path()).await?;
    let schedule = network.server_config(0)?.schedule()?.ok_or_else(|| eyre!("no schedule"))?;
    let (config, provider) = init(&network, &dir.path().join("gateway"), &schedule_file).await?;
    let text = std::fs::read_to_string(&config)?;
    let reporting = text.replace("relayers = []", &format!("relayers = [\"{}\"]", network.relayers[0].url));
    ensure!(text != reporting, "the example names no relayers");
    std::fs::write(&config, reporting)?;
    let started = start(&config, dir.path())?;
    let (committee, key_id, group_key) = key_of(&network, &provider).await?;
    let gateway = Gateway::new(started, config, &schedule, group_key);
    let expected = vec![gateway.pubkey.clone()];
    network.until("the key appears", || async { Ok(gateway.public_keys().await? == expected) }).await?;

    let (culprit, id) = (committee[0], network.servers[committee[0]].id);
    let accomplice = corrupt(&mut network, culprit, "accomplice", &["--key-id", &key_id.to_string()])?;
    let appeared = gateway.epoch()?;
    network.until("the next epoch", || async { Ok(gateway.epoch()? > appeared + 1) }).await?;
    let target = gateway.epoch()?;
    let vote = gateway.vote(target, 1);
    network.until("servers see the pool", || async { gateway.signs(&vote).await.map(|()| true) }).await?;

    // An honest vote beside one that somebody bought: each is all right alone.
    let honest = gateway.kept_with(&vote).await?;
    let bought = buy(&network, culprit, &gateway, key_id, &gateway.vote(target, 2)).await?;
    for pages in [[&honest].as_slice(), &[&page(std::slice::from_ref(&bought))]] {
        let found = find(&network, dir.path(), pages)?;
        assert_eq!(found["found"], json!([]), "{found}");
        assert_ne!(found["envelopes"], json!(0), "nothing was looked at");
    }
    // One that another server's key signed frames nobody, and hides nothing.
    let forged = SignedEnvelope { signing_root: B256::repeat_byte(9), ..bought.clone() };
    let honest_index = ShareIndex::new(2)?;
    let framed = SignedEnvelope { index: honest_index, ..bought.clone() };
    let found = find(&network, dir.path(), &[&page(&[forged, framed]), &honest, &page(&[bought])])?;
    let [one] = found["found"].as_array().map(Vec::as_slice).unwrap_or_default() else { bail!("{found}") };
    assert_eq!((&one["fault"], &one["accused"]["serverId"]), (&json!("conflicting_duties"), &json!(id.to_string())));
    let file = only_file(&found)?;

    // Whoever hands something in: what proves nothing on this chain is not kept.
    let mut elsewhere = file.clone();
    elsewhere.court = network.deployment.key_registry;
    assert_eq!(hand_in(&network, &elsewhere).await?.0, 422);
    let mut other = file.clone();
    if let Proof::ConflictingDuties(proof) = &mut other.proof {
        proof.holder.proof.reverse();
    }
    let (status, answer) = hand_in(&network, &other).await?;
    assert!(status == 503 && answer.to_string().contains("its seat is none of key"), "{answer}");
    assert_eq!(hand_in(&network, &file).await?, (200, json!({ "kept": true })));
    assert_eq!(hand_in(&network, &file).await?, (200, json!({ "kept": false })), "the same again");
    network
        .until("the conflict is proven", || async { Ok(proven(&network, Fault::ConflictingDuties, id).await? == 1) })
        .await?;
    assert!(network.stkr().await?.servers().get(id).await?.locked_out);

    // A deposit that the chain ordered is no fault, whoever says so.
    let ordered = ordered_deposit(&network, committee[1], key_id).await?;
    let found = find(&network, dir.path(), &[&page(std::slice::from_ref(&ordered))])?;
    assert_eq!((&found["found"], &found["envelopes"]), (&json!([]), &json!(1)));
    // Nor does one hide what the same server signed without an order.
    let exit = gateway.request("VOLUNTARY_EXIT", "voluntary_exit", json!({ "epoch": "1", "validator_index": "7" }));
    let signed =
        [ordered_deposit(&network, culprit, key_id).await?, buy(&network, culprit, &gateway, key_id, &exit).await?];
    let found = find(&network, dir.path(), &[&page(&signed)])?;
    assert_eq!(found["found"][0]["fault"], json!("unauthorised_signature"), "{found}");
    let live =
        ChainReader::connect(network.deployment.clone(), &[network.anvil.url.parse()?], Trust::OneEndpoint).await?;
    let live = live.live_key(key_id).await?;
    let (_, proof) = live.leaf_with_proof(ordered.index).ok_or_else(|| eyre!("no leaf"))?;
    let share_key = live.keys.share_key(ordered.index).ok_or_else(|| eyre!("no share key"))?.to_eip2537();
    let member = live.member(ordered.index).ok_or_else(|| eyre!("no member"))?;
    let holder = Holder { server_id: member.server_id, signer: member.signer, share_key, proof };
    let accusation = Proof::UnauthorisedSignature(EnvelopeProof { envelope: ordered, holder });
    let accusation = EvidenceFile::new(&network.domain(), network.deployment.court, accusation);
    let (status, answer) = hand_in(&network, &accusation).await?;
    assert!(status == 503 && answer.to_string().contains("the chain ordered key"), "{answer}");

    // Nor is a vote that nobody has to order, with a key that is no withdrawal key.
    let Proof::ConflictingDuties(votes) = &file.proof else { bail!("another fault") };
    let (envelope, holder) = (votes.first.clone(), votes.holder.clone());
    let accusation = Proof::UnauthorisedSignature(EnvelopeProof { envelope, holder });
    let accusation = EvidenceFile::new(&network.domain(), network.deployment.court, accusation);
    let (status, answer) = hand_in(&network, &accusation).await?;
    assert!(status == 503 && answer.to_string().contains("is no withdrawal key"), "{answer}");

    // Whose server errs all day fills no relayer.
    let mut kept = Vec::new();
    for root in 3..40 {
        let mut more = file.clone();
        let Proof::ConflictingDuties(proof) = &mut more.proof else { bail!("another fault") };
        proof.second = buy(&network, culprit, &gateway, key_id, &gateway.vote(target, root)).await?;
        kept.push(hand_in(&network, &more).await?.1["kept"].as_bool().ok_or_else(|| eyre!("it was refused"))?);
    }
    assert_eq!(kept.iter().filter(|kept| **kept).count(), 31, "with the one before, 32: {kept:?}");

    // An exit that nobody ordered: honest servers refuse it, and who signs it hands itself over.
    let refused = gateway.sign(&exit).await?;
    assert_ne!(refused.status, 200, "{refused:?}");
    let unauthorised = Fault::UnauthorisedSignature;
    network.until("the exit is proven", || async { Ok(proven(&network, unauthorised, id).await? == 1) }).await?;
    let text = http().get(format!("{}/metrics", gateway.url)).send().await?.text().await?;
    assert!(text.contains("stkr_gateway_evidence_handed_on_total{outcome=\"taken\"} 1"), "{text}");
    for position in &committee[1..] {
        let honest = network.stkr().await?.servers().get(network.servers[*position].id).await?;
        assert!(!honest.locked_out, "{honest:?}");
    }
    drop(accomplice);
    a_key_signs_on(&mut network, &gateway, (key_id, &committee)).await
}

/// Two of four lie, are locked out for it, and are mended. Their correct partials still count, or the key would sign nothing as soon as
/// a third server is down, and two lies would stop every 3-of-4 key for good.
async fn a_key_signs_on(network: &mut Network, gateway: &Gateway, (key_id, committee): (u64, &[usize])) -> Result<()> {
    let (key, stkr) = (key_id.to_string(), network.stkr().await?);
    let lie = ["--key-id", &key, "--lie", "wrong-share"];
    let liars =
        [corrupt(network, committee[0], "accomplice", &lie)?, corrupt(network, committee[1], "accomplice", &lie)?];
    let refused = gateway.sign(&gateway.reveal(gateway.epoch()?)).await?;
    assert_eq!(refused.status, 503, "two partials of three: {refused:?}");
    for position in &committee[..2] {
        let id = network.servers[*position].id;
        let is_proven = || async { Ok(proven(network, Fault::InvalidPartial, id).await? == 1) };
        network.until("the lie is proven", is_proven).await?;
        assert!(stkr.servers().get(id).await?.locked_out);
    }
    assert_eq!(stkr.keys().get(key_id).await?.healthy, Some(2), "less than it needs");

    drop(liars);
    for position in &committee[..2] {
        network.start_server(*position)?;
    }
    network.kill_server(committee[2]);
    let reveal = gateway.reveal(gateway.epoch()?);
    network.until("the locked-out servers sign", || async { gateway.signs(&reveal).await.map(|()| true) }).await?;
    let vote = gateway.vote(gateway.epoch()?, 1);
    network.until("a vote with their partials", || async { gateway.signs(&vote).await.map(|()| true) }).await?;
    for position in &committee[..2] {
        assert!(stkr.servers().get(network.servers[*position].id).await?.locked_out);
    }
    Ok(())
}
