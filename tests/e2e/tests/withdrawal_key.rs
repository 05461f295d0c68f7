//! A pool with 0x00 credentials: its withdrawal key is made and used by four online servers and two without network, its credentials are
//! changed to its vault, and only then do the other 31 ETH go.

use alloy::network::EthereumWallet;
use alloy::primitives::{B256, U256};
use alloy::providers::Provider as _;
use eyre::{Result, bail, ensure};
use serde_json::{Value, json};
use stkr_adversary::stolen_signature;
use stkr_chain::bindings::{KeyRegistry, Micropools, WithdrawalKeys};
use stkr_core::{PublicKey, Signature, verify};
use stkr_e2e::anvil::advance_time;
use stkr_e2e::offline::OfflineServer;
use stkr_e2e::{Network, Options};
use stkr_node::secrets::read_hex32;
use stkr_protocol::SignerKey;
use stkr_protocol::offline::ChangeAnswerFile;
use stkr_protocol::sign::{Asked, ChangeRequest};
use stkr_sdk::PoolState;
use stkr_server::config::{FilesConfig, ServerConfig};

/// 4 online and 2 offline members.
const KEY: (u8, u8) = (5, 6);
const VALIDATOR: u64 = 1_234_567;
const CHALLENGE_WINDOW_SECONDS: u64 = 12 * 3600;

/// Every online member's machine in hand, and then one without network as well.
fn the_online_servers_alone_cannot_sign(
    network: &Network,
    offline: &[OfflineServer],
    finalised: &KeyRegistry::KeyFinalised,
    root: B256,
) -> Result<()> {
    let key = u64::try_from(finalised.keyId)?;
    let (mut online, mut all) = (Vec::new(), Vec::new());
    for (index, id) in (1..).zip(&finalised.committee) {
        match offline.iter().find(|it| it.id == *id) {
            Some(server) => all.push((index, FilesConfig::default().below(&server.dir.join("server")))),
            None => {
                let config = &network.servers[network.position_of(*id)?].config;
                let config: ServerConfig = stkr_node::config::load(config)?;
                online.push((index, config.files));
            }
        }
    }
    ensure!((online.len(), all.len()) == (4, 2), "{:?}", finalised.committee);
    let sign = |hacked: &[(u8, FilesConfig)]| stolen_signature((key, &finalised.points), KEY, root, hacked);
    let Err(alone) = sign(&online) else { bail!("the online servers signed alone") };
    ensure!(alone.to_string().contains("combine"), "{alone}");
    // One of them twice, in the place of the member that is missing.
    let twice = [online.as_slice(), &online[..1]].concat();
    ensure!(sign(&twice).is_err(), "one share counted twice");
    let mut posing = online.clone();
    posing.push((all[0].0, online[0].1.clone()));
    ensure!(sign(&posing).is_err(), "an online share passed for an offline one");
    // With one share more it is a signature: what was tried above was tried rightly.
    let together = sign(&[online.as_slice(), &all[..1]].concat())?;
    let group_key = PublicKey::from_eip2537(&finalised.points[finalised.points.len() - 128..])?;
    ensure!(verify(&group_key, &root.0, &together), "five shares of six make no signature");
    Ok(())
}

#[tokio::test]
async fn a_pool_with_a_withdrawal_key_gets_its_31_ether_after_its_credentials_were_changed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let network = Network::start(Options { servers: 4, block_ms: 500, ..Options::new(dir.path()) }).await?;
    let offline = network.two_offline_servers().await?;
    let micropools = network.deployment.micropools;
    let contract = network.deployment.withdrawal_keys();
    let stkr = network.stkr().await?;

    // The key is made ahead, before any stake waits for it.
    let (provider, key, finalised) = network.providers_withdrawal_key(&offline, KEY).await?;
    let wallet = EthereumWallet::from(provider);

    // The relayer brings the pool to its predeposit, with 0x00 credentials, and no further.
    let pool = stkr.pools().open_with_withdrawal_key(3, 4, key).await?.send_with(&wallet).await?.value;
    stkr.withdrawal_keys().withdraw_bond(key).send_with(&wallet).await?;
    network.fill_pool(pool, 4).await?;
    let ordered = network.event::<Micropools::DepositOrdered>(micropools, pool).await?.inner;
    let credentials = stkr.withdrawal_keys().credentials(pool).await?;
    ensure!(Some(ordered.withdrawalCredentials) == credentials && ordered.withdrawalCredentials[0] == 0, "{ordered:?}");
    network.event::<Micropools::DepositSent>(micropools, pool).await?;
    advance_time(&network.provider()?, CHALLENGE_WINDOW_SECONDS + 1).await?;
    let head = network.provider()?.get_block_number().await?;
    network
        .until("blocks after the window", || async { Ok(network.provider()?.get_block_number().await? > head + 8) })
        .await?;
    ensure!(stkr.pools().state(pool).await? == PoolState::Predeposited, "31 ETH went without a change");

    // Ordered by who has something in the pool; the request proves itself on the machine without network.
    stkr.withdrawal_keys().order_change(pool, VALIDATOR).await?.send_with(&wallet).await?;
    let change = stkr.withdrawal_keys().changes(pool).await?.remove(0);
    ensure!(change.to_execution_address == network.deployment.vault_of(pool), "{change:?}");
    let server = &offline[0];
    let request = network.change_request(server.id, key).await?;
    server.bring("change.json", &request.to_string())?;
    let shown = server.json("show", &["change.json"])?;
    ensure!(
        (&shown["poolId"], &shown["validators"]) == (&json!(pool.to_string()), &json!([VALIDATOR.to_string()])),
        "{shown}"
    );
    the_online_servers_alone_cannot_sign(&network, &offline, &finalised, change.signing_root)?;
    refuses_what_was_not_ordered(&network, server, &offline[1], &request).await?;
    ensure!(stkr.withdrawal_keys().changes(pool).await?[0].signature.is_none(), "four servers signed alone");

    // One of the two is enough, and the relayer does the rest.
    let block = network.compared(server, "change.json").await?;
    let sign = |out| ["change.json", "--out", out, "--yes", "--block", block.as_str()];
    server.json("answer", &sign("changed.json"))?;
    let answer = std::fs::read_to_string(server.dir.join("changed.json"))?;
    // Killed on the way, it has signed the same or nothing.
    server.killed_at("offline.answer_unwritten", "answer", &sign("killed.json"))?;
    ensure!(!server.dir.join("killed.json").exists(), "a half-written answer");
    server.killed_at("offline.answer_written", "answer", &sign("killed.json"))?;
    ensure!(std::fs::read_to_string(server.dir.join("killed.json"))? == answer, "another answer to the same request");
    // What nobody ordered is not taken, though its member signed it.
    let files = FilesConfig::default().below(&server.dir.join("server"));
    let signer = SignerKey::from_bytes(&*read_hex32(&files.signer_key)?)?;
    let mut unordered: ChangeAnswerFile = serde_json::from_str(&answer)?;
    for part in &mut unordered.answers {
        part.change.validator_index = 1;
        let (asked, signed) = (Asked::from(ChangeRequest::new(key, part.change)), &mut part.signed);
        let envelope = asked.subject().envelope(signed.committee_epoch, signed.index, &signed.partial);
        signed.envelope = envelope.sign(&network.domain(), &signer);
    }
    let (status, body) = network.hand_in_answer(&serde_json::to_string(&unordered)?).await?;
    ensure!(status == 404, "{status} {body}");
    let (status, body) = network.hand_in_answer(&answer).await?;
    ensure!((status, &body) == (200, &json!({"new": 1})), "{status} {body}");
    let signed = network.event::<WithdrawalKeys::ChangeShown>(contract, pool).await?.inner;
    ensure!((signed.keyId, signed.validatorIndex) == (U256::from(key), VALIDATOR), "{signed:?}");
    let group_key = PublicKey::from_eip2537(&finalised.points[finalised.points.len() - 128..])?;
    let signature = Signature::from_compressed(&signed.signature)?;
    ensure!(verify(&group_key, &change.signing_root.0, &signature), "the emitted signature is not the key's");
    network.until("the other 31 ETH", || async { Ok(stkr.pools().state(pool).await? == PoolState::Active) }).await?;
    Ok(())
}

/// Files in which the change, or what proves it, is another.
async fn refuses_what_was_not_ordered(
    network: &Network,
    server: &OfflineServer,
    other: &OfflineServer,
    request: &Value,
) -> Result<()> {
    let block = network.compared(server, "change.json").await?;
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut copy = request.clone();
        change(&mut copy);
        copy.to_string()
    };
    let thief = json!(format!("0x{}", "7e".repeat(20)));
    let cases = [
        ("another address", changed(&|it| it["changes"][0]["to_execution_address"] = thief.clone()), "does not lead"),
        ("another validator", changed(&|it| it["changes"][0]["validator_index"] = json!("7")), "does not lead"),
        (
            "another server",
            changed(&|it| it["about"]["server"] = json!(other.id.to_string())),
            "carry it to the other machine",
        ),
        ("no change", changed(&|it| it["changes"] = json!([])), "asks for no change"),
        ("another chain", changed(&|it| it["about"]["chainId"] = json!("1")), "is for chain 1"),
        (
            "another order",
            changed(&|it| it["facts"]["keyRegistry"]["storageProof"][2]["value"] = json!("0x0")),
            "does not lead",
        ),
        (
            "another pool",
            changed(&|it| it["facts"]["withdrawalKeys"]["storageProof"][0]["value"] = json!("0x7")),
            "does not lead",
        ),
        ("another committee", changed(&|it| it["facts"]["committee"][0] = json!(99)), "is not that of key"),
    ];
    for (what, text, sentence) in cases {
        server.bring("bad.json", &text)?;
        let (exit, said) = server.refusal("answer", &["bad.json", "--out", "out.json", "--yes", "--block", &block])?;
        ensure!(exit == 1 && said.contains(sentence), "{what}: {exit}, {said}");
        ensure!(!server.dir.join("out.json").exists(), "{what} was answered");
    }
    // The hash is compared by a person, each time.
    let (exit, said) = server.refusal("answer", &["change.json", "--out", "out.json", "--yes"])?;
    ensure!(exit == 2 && said.contains("give its hash with --block"), "{exit} {said}");
    let wrong = format!("0x{:064x}", 7);
    let (exit, said) = server.refusal("answer", &["change.json", "--out", "out.json", "--yes", "--block", &wrong])?;
    ensure!(exit == 1 && said.contains("must not be answered"), "{exit} {said}");
    Ok(())
}
