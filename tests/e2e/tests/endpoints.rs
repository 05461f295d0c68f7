//! RPC endpoints that do not tell the truth and deployment files that do not fit: what depends on them does not happen,
//! and people read why.

use alloy::network::EthereumWallet;
use alloy::primitives::utils::parse_ether;
use alloy::primitives::{Address, B256};
use alloy::providers::{DynProvider, Provider};
use alloy::signers::local::PrivateKeySigner;
use eyre::{Result, bail, ensure, eyre};
use serde_json::{Value, json};
use std::time::Duration;
use stkr_chain::bindings::{KeyRegistry, Micropools};
use stkr_chain::{ChainReader, Trust};
use stkr_duties::DepositMessage;
use stkr_e2e::anvil::{block_every, dump, fund, mine};
use stkr_e2e::process::binary;
use stkr_e2e::{Anvil, Door, Network, Options, Process};
use stkr_node::tls::Identity;
use stkr_protocol::api::SignBatch;
use stkr_protocol::sign::{DepositRequest, Refusal, RefusalKind, SignResponse, SignedPartial};
use stkr_sdk::Stkr;
use stkr_server::signing::PREDEPOSIT_GWEI;

/// Asks one server for a signature, as a relayer does.
async fn ask(network: &Network, position: usize, request: &DepositRequest) -> Result<SignResponse> {
    let client = network.client(position, &Identity::generate("anyone")?)?;
    let batch = SignBatch { requests: vec![request.clone().into()] };
    client.sign(&batch).await?.pop().ok_or_else(|| eyre!("no reply"))
}

async fn refusal(network: &Network, position: usize, request: &DepositRequest) -> Result<Refusal> {
    match ask(network, position, request).await? {
        SignResponse::Refused(refused) => Ok(refused.refusal),
        SignResponse::Signed(_) => bail!("server {position} signed"),
    }
}

/// The refusal of a server whose endpoints disagree: it may be asked again, and says who says what.
fn assert_disagreement(refusal: &Refusal, endpoints: [&str; 2]) {
    assert_eq!(refusal.kind, RefusalKind::Unavailable, "{refusal}");
    let reason = &refusal.reason;
    assert!(reason.starts_with("two RPC endpoints disagree about the hash of finalized block "), "{reason}");
    for endpoint in endpoints {
        assert!(reason.contains(&format!("{endpoint} says 0x")), "{reason}");
    }
    assert!(refusal.what_to_do.contains("the operator has to find out which of its RPC endpoints is wrong"));
}

/// Whether the chain behind `provider` ordered this.
async fn is_ordered(network: &Network, provider: DynProvider, key: u64, root: B256) -> Result<bool> {
    Ok(Stkr::connect(provider, network.deployment.clone()).await?.keys().is_ordered(key, root).await?)
}

#[tokio::test]
async fn a_server_whose_endpoints_disagree_signs_nothing_says_why_and_signs_when_they_agree_again() -> Result<()> {
    const DIVIDED: usize = 3;
    let dir = tempfile::tempdir()?;
    let mut network = Network::start(Options { servers: 4, ..Options::new(dir.path()) }).await?;
    let (micropools, registry) = (network.deployment.micropools, network.deployment.key_registry);
    let (chain, finality) = (network.provider()?, network.options.finality);
    // Its first endpoint, the one it reads everything else from, is the one that will tell something else.
    let door = Door::to(&network.anvil.url)?;
    network.set_first_endpoint(DIVIDED, &door.url)?;
    let honest = network.anvil.second_url.clone();

    let provider = network.account("10").await?;
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    let key = u64::try_from(network.event::<Micropools::PoolKeyRequested>(micropools, pool).await?.inner.keyId)?;
    network.event::<KeyRegistry::CommitteeDrawn>(registry, key).await?;

    // From here on the test makes the blocks: the key is live and its deposit not ordered in the block that is copied.
    block_every(&chain, 0).await?;
    network
        .until("the key is finalised", || async {
            mine(&chain, 1).await?;
            Ok(!network.events_now::<KeyRegistry::KeyFinalised>(registry, key).await?.is_empty())
        })
        .await?;
    network.kill_relayer(0);
    chain.raw_request::<_, Value>("anvil_dropAllTransactions".into(), ()).await?;
    let state = dump(&chain).await?;
    ensure!(network.events_now::<Micropools::DepositOrdered>(micropools, pool).await?.is_empty(), "ordered too early");

    let reader =
        ChainReader::connect(network.deployment.clone(), &[network.anvil.url.parse()?], Trust::OneEndpoint).await?;
    let live = reader.live_key(key).await?;
    let message = DepositMessage {
        pubkey: live.keys.group_key().to_compressed(),
        withdrawal_credentials: network.deployment.withdrawal_credentials(pool),
        amount_gwei: PREDEPOSIT_GWEI,
    };
    let request = DepositRequest::new(key, &message, network.deployment.genesis_fork_version.0);
    let root = request.signing_root();

    // An order that only the copy has: this is what an endpoint in the wrong hands would show.
    {
        let copy = Anvil::copy("anvil-ordered", &dir.path().join("ordered"), finality, &state).await?;
        let other = copy.provider()?;
        let anyone = PrivateKeySigner::random();
        fund(&other, anyone.address(), parse_ether("10")?).await?;
        let there = Stkr::connect(copy.provider()?, network.deployment.clone()).await?;
        there.pools().order_deposit(pool).await?.send_with(&EthereumWallet::from(anyone)).await?;
        mine(&other, 2 * finality).await?;
        mine(&chain, 2 * finality).await?;
        ensure!(
            is_ordered(&network, other, key, root).await? && !is_ordered(&network, chain.clone(), key, root).await?
        );

        door.lead_to(&copy.url)?;
        assert_disagreement(&refusal(&network, DIVIDED, &request).await?, [&door.url, &honest]);
        // Once it has seen the finalised block in which the key is Live.
        let refused = || async { Ok(refusal(&network, 0, &request).await?.reason.contains("has not ordered")) };
        network.until("the others refuse what nobody ordered", refused).await?;
    }

    // An order that only the true chain has: three of four see it and the deposit goes out without the fourth.
    let copy = Anvil::copy("anvil-silent", &dir.path().join("silent"), finality, &state).await?;
    mine(&copy.provider()?, 10 * finality).await?;
    door.lead_to(&copy.url)?;
    block_every(&chain, 1).await?;
    network.start_relayer(0)?;
    network.event::<Micropools::DepositSent>(micropools, pool).await?;
    ensure!(!is_ordered(&network, copy.provider()?, key, root).await? && is_ordered(&network, chain, key, root).await?);
    assert_disagreement(&refusal(&network, DIVIDED, &request).await?, [&door.url, &honest]);
    let log = network.servers[DIVIDED].process.as_ref().map(|process| process.log()).unwrap_or_default();
    assert!(!log.contains("deposit signed"), "{log}");
    let warned = |line: &str| line.contains("WARN") && line.contains("two RPC endpoints disagree");
    assert!(log.lines().any(warned), "its operator reads nothing of it:\n{log}");

    // The endpoint tells the truth again.
    door.lead_to(&network.anvil.url)?;
    let signs = || async { Ok(matches!(ask(&network, DIVIDED, &request).await?, SignResponse::Signed(_))) };
    network.until("it signs once it has seen a finalised block of the true chain", signs).await?;
    let SignResponse::Signed(SignedPartial { partial, index, .. }) = ask(&network, DIVIDED, &request).await? else {
        bail!("refused although the endpoints agree");
    };
    let partial = stkr_core::PartialSignature { index, signature: stkr_core::Signature::from_eip2537(&partial)? };
    ensure!(live.keys.verify_partial(&root.0, &partial), "the partial signature is wrong");
    Ok(())
}

/// The exit code of a relayer that refuses to start, and the only sentence it ends with.
fn refused_relayer(network: &Network, name: &str) -> Result<(i32, String)> {
    let relayer = &network.relayers[0];
    let args = ["run", "--log-format", "json", "--config", &relayer.config.display().to_string()].map(String::from);
    let mut process = Process::start(name, &binary("stkr-relayer")?, &args, &relayer.dir)?;
    let code = process.end(Duration::from_secs(30)).ok_or_else(|| eyre!("it does not refuse"))?;
    let log = process.log();
    // What is no JSON is for people.
    let said: Vec<&str> = log.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()).collect();
    ensure!(said.len() == 1, "not one sentence but:\n{log}");
    Ok((code, said[0].strip_prefix("stkr-relayer: ").ok_or_else(|| eyre!("{log}"))?.to_owned()))
}

#[tokio::test]
async fn a_relayer_with_a_wrong_chain_id_or_registry_refuses_to_start_in_one_sentence_and_stores_nothing() -> Result<()>
{
    let dir = tempfile::tempdir()?;
    let mut network = Network::deploy(Options::new(dir.path())).await?;
    network.init_relayer(0).await?;
    let right: Value = serde_json::from_str(&std::fs::read_to_string(&network.deployment_file)?)?;
    let (config_file, database) = (network.relayers[0].config.clone(), network.relayers[0].dir.join("relayer.sqlite"));
    let config = std::fs::read_to_string(&config_file)?;

    let empty = json!(Address::repeat_byte(0xab));
    let another = json!(network.deployment.micropools.create(1));
    let swapped =
        vec![("keyRegistry", right["serverRegistry"].clone()), ("serverRegistry", right["keyRegistry"].clone())];
    let cases = [
        ("devnet", vec![("chainId", json!(1))], 2, "the deployment is on chain 1, but network devnet is chain 31337"),
        ("custom", vec![("chainId", json!(17000))], 4, "serves chain 31337, the deployment file is for chain 17000"),
        ("devnet", vec![("keyRegistry", empty.clone())], 4, "which the deployment file calls keyRegistry"),
        ("devnet", vec![("serverRegistry", empty)], 4, "which the deployment file calls serverRegistry"),
        ("devnet", vec![("keyRegistry", another.clone())], 4, "micropools works with keyRegistry"),
        ("devnet", vec![("serverRegistry", another.clone())], 4, "keyRegistry works with serverRegistry"),
        ("devnet", swapped, 4, "micropools works with keyRegistry"),
        (
            "devnet",
            vec![("micropools", another)],
            4,
            "another contract than the one the deployment file calls micropools",
        ),
        ("devnet", vec![("genesisForkVersion", json!("0x00000000"))], 4, "micropools works with genesisForkVersion"),
    ];
    for (number, (preset, changes, code, expected)) in cases.into_iter().enumerate() {
        let mut wrong = right.clone();
        for (field, value) in &changes {
            wrong[*field] = value.clone();
        }
        std::fs::write(&network.deployment_file, wrong.to_string())?;
        std::fs::write(&config_file, config.replace("\"devnet\"", &format!("\"{preset}\"")))?;
        let (found, sentence) = refused_relayer(&network, &format!("refused-{number}"))?;
        assert!(found == code && sentence.contains(expected), "{changes:?}: exit code {found}: {sentence}");
        assert!(!database.exists(), "{changes:?}: something of a wrong chain may be stored");
    }

    std::fs::write(&network.deployment_file, right.to_string())?;
    std::fs::write(&config_file, config)?;
    network.start_relayer(0)?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    ensure!(network.relayer_json(0, "/status").await?.is_object(), "the right file starts it");
    let (code, sentence) = refused_relayer(&network, "second")?;
    assert!(code == 3 && sentence.contains("in use by another process"), "exit code {code}: {sentence}");
    Ok(())
}
