//! Silence, asked on the chain: who answers keeps its bond, who does not loses it, and a wrong answer convicts.

use std::process::Command;

use alloy::network::EthereumWallet;
use alloy::primitives::{B256, U256};
use alloy::providers::Provider as _;
use alloy::signers::local::PrivateKeySigner;
use eyre::{Result, ensure, eyre};
use rustix::process::Signal;
use serde_json::{Value, json};
use stkr_chain::bindings::{KeyRegistry, Micropools};
use stkr_core::{SecretShare, ShareIndex};
use stkr_e2e::network::write_secret;
use stkr_e2e::process::binary;
use stkr_e2e::{Network, Options, anvil};
use stkr_protocol::evidence::SignedEnvelope;
use stkr_protocol::sign::SignedPartial;
use stkr_sdk::{ChallengeState, HistoryEntry, Incident};

/// Wei per gas that no relayer pays by itself: its preset cap is 200 gwei.
const ABOVE_THE_CAP: u64 = 500_000_000_000;

/// Wei per gas of a base fee that is far above those of an idle chain.
const DEAR: u64 = 50_000_000_000;

/// `stkr --json` as a stranger with nothing but a key file and an endpoint: exit code and what it printed.
fn stkr(network: &Network, args: &[&str]) -> Result<(Option<i32>, Value)> {
    let output = Command::new(binary("stkr")?)
        .args(args)
        .arg("--json")
        .env("STKR_RPC", &network.anvil.url)
        .env("STKR_DEPLOYMENT", &network.deployment_file)
        .output()?;
    let printed = if output.status.success() { &output.stdout } else { &output.stderr };
    Ok((output.status.code(), serde_json::from_slice(printed)?))
}

fn done(network: &Network, args: &[&str]) -> Result<Value> {
    let (code, printed) = stkr(network, args)?;
    ensure!(code == Some(0), "{args:?}: {printed}");
    Ok(printed)
}

/// A pool whose deposit went out: the key, its committee, and the stranger who will ask.
struct Asked {
    key: u64,
    committee: Vec<u32>,
    stranger: PrivateKeySigner,
    key_file: String,
}

async fn ordered(network: &Network) -> Result<Asked> {
    let provider = network.account("10").await?;
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    network.event::<Micropools::DepositSent>(network.deployment.micropools, pool).await?;
    let (key, finalised) = network.live_key(pool).await?;
    let stranger = network.account("5").await?;
    let file = network.options.dir.join("stranger.key");
    write_secret(&file, &format!("{}\n", stranger.to_bytes()))?;
    let key_file = file.display().to_string();
    Ok(Asked { key, committee: finalised.committee, stranger, key_file })
}

#[tokio::test]
async fn a_silent_server_loses_its_bond_to_the_stranger_who_asked_and_one_whose_relayer_answers_keeps_it() -> Result<()>
{
    let dir = tempfile::tempdir()?;
    let options = Options { servers: 4, block_ms: 500, ..Options::new(dir.path()) };
    let mut network = Network::start(options).await?;
    let Asked { key, committee, stranger, key_file } = ordered(&network).await?;
    let (silent, honest) = (committee[0], committee[1]);
    network.kill_server(network.position_of(silent)?);
    let sdk = network.stkr().await?;
    let root = sdk.challenges().ordered(key).await?.signing_root();
    let on = |network: &Network, id: u32, command: &str, more: &[&str]| -> Result<(Option<i32>, Value)> {
        let (key, id) = (key.to_string(), id.to_string());
        let mut args = vec!["challenge", command, &key, &id];
        args.extend(more);
        stkr(network, &args)
    };

    // What was never ordered cannot be asked for, and nothing is paid to find that out.
    let unordered = B256::repeat_byte(7).to_string();
    let (code, refused) = on(&network, silent, "open", &["--root", &unordered, "--key-file", &key_file])?;
    let message = refused["error"]["message"].as_str().unwrap_or_default();
    ensure!(code == Some(1) && message.contains("what was not ordered must not be signed"), "{refused}");
    assert_eq!(network.provider()?.get_transaction_count(stranger.address()).await?, 0);

    let (code, opened) = on(&network, silent, "open", &["--key-file", &key_file])?;
    let deadline = opened["deadline"].as_u64();
    ensure!(code == Some(0) && deadline.is_some(), "{opened}");
    let (code, again) = on(&network, silent, "open", &["--key-file", &key_file])?;
    let message = again["error"]["message"].as_str().unwrap_or_default();
    ensure!(code == Some(1) && message.contains("is being asked for this already"), "{again}");
    let (code, early) = on(&network, silent, "prove", &["--key-file", &key_file])?;
    let message = early["error"]["message"].as_str().unwrap_or_default();
    ensure!(code == Some(1) && message.contains("may still answer, up to block"), "{early}");
    let (code, opened) = on(&network, honest, "open", &["--key-file", &key_file])?;
    ensure!(code == Some(0), "{opened}");

    // Nobody tells the relayer to do anything about it.
    let state = async |id| eyre::Ok(sdk.challenges().get(key, id, root).await?.state);
    network.until("the relayer answers", || async { Ok(state(honest).await? == ChallengeState::Answered) }).await?;
    network
        .until("the relayer says who is silent", || async {
            let metrics = network.relayer_text(0, "/metrics").await?;
            let open = |id: u32, count| metrics.contains(&format!("open_challenges{{server=\"{id}\"}} {count}"));
            Ok(open(silent, 1) && open(honest, 0))
        })
        .await?;
    let status = network.relayer_json(0, "/status").await?["problems"].to_string();
    ensure!(status.contains(&format!("server {silent} (member 1) of key {key} has until block")), "{status}");
    let operator = network.servers[network.position_of(honest)?].operator.address().to_string();
    ensure!(done(&network, &["challenge", "fees", &operator])?["feesWei"] != "0", "the answer's fee is the operator's");

    // Some blocks later the relayer would prove it, and blocks come at once here.
    let relayer = |network: &Network, signal| network.relayers[0].process.iter().for_each(|it| it.signal(signal));
    relayer(&network, Signal::STOP);
    let rpc = network.provider()?;
    anvil::mine(&rpc, (deadline.unwrap_or_default() + 1).saturating_sub(rpc.get_block_number().await?)).await?;
    let (code, proven) = on(&network, silent, "prove", &["--key-file", &key_file])?;
    ensure!(code == Some(0), "{proven}");
    relayer(&network, Signal::CONT);
    let judgement = &proven["judgement"];
    assert_eq!((&judgement["charged"], &judgement["reporter"]), (&json!(true), &json!(stranger.address())), "{proven}");
    assert!(sdk.servers().get(silent).await?.locked_out && !sdk.servers().get(honest).await?.locked_out);
    let bounty = sdk.servers().bounty_of(stranger.address()).await?;
    assert!(bounty > U256::ZERO && json!(bounty.to_string()) == judgement["bounty"], "{proven}");
    let shown = done(&network, &["challenge", "show", &key.to_string(), &silent.to_string()])?;
    assert_eq!(shown["state"], "unanswered");
    let paid = done(&network, &["challenge", "withdraw", "--key-file", &key_file])?;
    assert_eq!(paid["paidWei"], shown["fee"], "the fee comes back");
    done(&network, &["bounty", "withdraw", "servers", "--key-file", &key_file])?;
    let history = done(&network, &["server", "history", &silent.to_string()])?;
    assert_eq!(history[1]["fault"], "unanswered_challenge", "{history}");
    network
        .until("the relayer sees its end", || async {
            let metrics = network.relayer_text(0, "/metrics").await?;
            Ok(metrics.contains(&format!("open_challenges{{server=\"{silent}\"}} 0"))
                && metrics.contains("stkr_relayer_locked_out_servers 1")
                && metrics.contains("stkr_relayer_keys_without_spare_share 1"))
        })
        .await
}

#[tokio::test]
async fn a_challenge_that_is_answered_with_a_wrong_partial_convicts_whoever_signed_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = Options { servers: 4, block_ms: 500, ..Options::new(dir.path()) };
    let mut network = Network::start(options).await?;
    let Asked { key, committee, key_file, .. } = ordered(&network).await?;
    let liar = committee[0];
    let position = network.position_of(liar)?;
    // Down for the relayer: its only answer is the one on the chain.
    network.kill_server(position);
    let id = liar.to_string();
    done(&network, &["challenge", "open", &key.to_string(), &id, "--key-file", &key_file])?;

    // As its operator would: the envelope is honestly signed, the partial is of a share that nobody ever dealt.
    let sdk = network.stkr().await?;
    let asked = sdk.challenges().ordered(key).await?;
    let index = ShareIndex::new(1)?;
    let share = SecretShare::from_bytes(index, &[0x2a; 32])?;
    let partial = share.sign(&asked.signing_root().0);
    let signer = network.signer_key(position)?;
    let given = SignedPartial::new(&asked.subject(), &network.domain(), &signer, 0, &partial);
    // The command line refuses to bring it.
    let file = dir.path().join("answer.json");
    std::fs::write(&file, serde_json::to_vec(&given)?)?;
    let args = ["challenge", "answer", &key.to_string(), &id, "--answer", &file.display().to_string()];
    let (code, refused) = stkr(&network, &[&args[..], &["--key-file", &key_file]].concat())?;
    let message = refused["error"]["message"].as_str().unwrap_or_default();
    ensure!(code == Some(2) && message.contains("would convict the server"), "{refused}");
    let envelope = asked.subject().envelope(0, index, &given.partial);
    let envelope = SignedEnvelope::new(&envelope, given.envelope);
    let call = stkr_chain::court::answer(network.deployment.court, &envelope, &given.partial);
    let request = alloy::rpc::types::TransactionRequest::default().to(call.to).input(call.data.into());
    let wallet = EthereumWallet::from(network.account("1").await?);
    let anyone = alloy::providers::ProviderBuilder::new().wallet(wallet).connect_http(network.anvil.url.parse()?);
    ensure!(anyone.send_transaction(request).await?.get_receipt().await?.status(), "the Court does not look at it");

    network.until("the liar is locked out", || async { Ok(sdk.servers().get(liar).await?.locked_out) }).await?;
    let history = sdk.faults().history(liar).await?;
    let fault = |entry: &HistoryEntry| match &entry.incident {
        Incident::Fault { fault, judgement, .. } if judgement.charged => Some(fault.clone()),
        _ => None,
    };
    let faults: Vec<String> = history.iter().filter_map(fault).collect();
    assert_eq!(faults, ["invalid_partial"], "{history:?}");
    let kept = network.relayer_json(0, "/v1/evidence").await?;
    let server = kept["evidence"][0]["serverId"].as_str().ok_or_else(|| eyre!("{kept}"))?;
    assert_eq!(server, id);
    Ok(())
}

/// Gas far above what the relayer pays for anything else: an own server's answer leaves all the same, and of the other's people
/// hear.
#[tokio::test]
async fn an_own_server_is_answered_for_at_any_price_of_gas_and_what_holds_others_up_is_told() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = Options { servers: 4, relayers: 0, block_ms: 500, ..Options::new(dir.path()) };
    let mut network = Network::start(options).await?;
    network.init_relayer(0).await?;
    let config = network.relayers[0].config.clone();
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, text + "\n[challenges]\nown_servers = [1]\n")?;
    network.start_relayer(0)?;
    let Asked { key, committee, key_file, .. } = ordered(&network).await?;
    let (sdk, rpc) = (network.stkr().await?, network.provider()?);
    let root = sdk.challenges().ordered(key).await?.signing_root();
    let (own, other) = (1, committee.iter().copied().find(|id| *id != 1).ok_or_else(|| eyre!("one member"))?);
    anvil::base_fee(&rpc, ABOVE_THE_CAP).await?;
    anvil::mine(&rpc, 1).await?;
    ensure!(rpc.get_gas_price().await? > u128::from(ABOVE_THE_CAP) / 2, "gas is dear");
    for id in [own, other] {
        anvil::base_fee(&rpc, ABOVE_THE_CAP).await?;
        let (key, id) = (key.to_string(), id.to_string());
        let args = ["challenge", "open", &key, &id, "--fee", "1eth", "--max-fee-gwei", "2000", "--key-file", &key_file];
        done(&network, &args)?;
    }
    let is = async |id, state| {
        anvil::base_fee(&rpc, ABOVE_THE_CAP).await?;
        eyre::Ok(sdk.challenges().get(key, id, root).await?.state == state)
    };
    network.until("the own server's answer is there", || is(own, ChallengeState::Answered)).await?;
    network
        .until("the other's is held up, and told", || async {
            let problems = network.relayer_json(0, "/status").await?["problems"].to_string();
            let told = problems.contains(&format!("server {other} (member")) && problems.contains("above the cap of");
            Ok(is(other, ChallengeState::Open).await? && told && !problems.contains(&format!("server {own} (member")))
        })
        .await?;
    network
        .until("gas is cheap again", || async {
            anvil::base_fee(&rpc, 1).await?;
            Ok(sdk.challenges().get(key, other, root).await?.state == ChallengeState::Answered)
        })
        .await
}

#[tokio::test]
async fn a_relayer_that_may_asks_members_that_hold_a_deposit_up_and_proves_their_silence() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // Finality leaves the time to stop two members before anybody may sign.
    let options = Options { servers: 4, relayers: 0, block_ms: 500, finality: 16, ..Options::new(dir.path()) };
    let mut network = Network::start(options).await?;
    network.init_relayer(0).await?;
    let config = network.relayers[0].config.clone();
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, text + "\n[challenges]\nchallenge_silent_servers = true\nsilent_blocks = 100\n")?;
    network.start_relayer(0)?;

    let provider = network.account("10").await?;
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    let (micropools, registry) = (network.deployment.micropools, network.deployment.key_registry);
    let requested = network.event::<Micropools::PoolKeyRequested>(micropools, pool).await?;
    let key = u64::try_from(requested.inner.keyId)?;
    let committee = network.event::<KeyRegistry::KeyFinalised>(registry, key).await?.inner.committee;
    let silent = [committee[0], committee[1]];
    for id in silent {
        network.kill_server(network.position_of(id)?);
    }
    network.event::<Micropools::DepositOrdered>(micropools, pool).await?;
    let (sdk, rpc) = (network.stkr().await?, network.provider()?);
    assert_eq!(sdk.challenges().list().await?, [], "they have time");
    let least = sdk.challenges().least_fee().await?;
    // Both questions wait for gas money with the fee of now, and the base fee rises until that is far too little.
    let key_file = std::fs::read_to_string(network.relayers[0].dir.join("gas.key"))?;
    let account = key_file.trim().parse::<PrivateKeySigner>()?.address();
    anvil::fund(&rpc, account, U256::ZERO).await?;
    anvil::mine(&rpc, 110).await?;
    let waiting = || async {
        let intents = network.relayer_json(0, "/v1/intents?limit=1000").await?["intents"].clone();
        let waits = |it: &&Value| {
            it["intent"].as_str().is_some_and(|it| it.starts_with("challenge_silent/")) && it["state"] == "waiting"
        };
        Ok(intents.as_array().is_some_and(|all| all.iter().filter(waits).count() == 2))
    };
    network.until("both questions wait for money", waiting).await?;
    anvil::base_fee(&rpc, DEAR).await?;
    anvil::mine(&rpc, 1).await?;
    anvil::fund(&rpc, account, U256::from(10).pow(U256::from(20))).await?;
    let asked = async || eyre::Ok(sdk.challenges().list().await?);
    let both = || async {
        anvil::base_fee(&rpc, DEAR).await?;
        Ok(asked().await?.len() == 2)
    };
    network.until("both are asked on the chain for what that costs now", both).await?;
    ensure!(asked().await?.iter().all(|it| it.fee > least * U256::from(10)), "{least}: {:?}", asked().await?);
    let mut servers: Vec<u32> = asked().await?.iter().map(|it| it.server_id).collect();
    servers.sort_unstable();
    let mut expected = silent;
    expected.sort_unstable();
    assert_eq!(servers, expected);

    anvil::mine(&rpc, 7_200).await?;
    let over = || async { Ok(asked().await?.iter().all(|it| it.state == ChallengeState::Unanswered)) };
    network.until("their silence is proven", over).await?;
    for id in silent {
        assert!(sdk.servers().get(id).await?.locked_out);
    }
    assert_eq!(asked().await?.len(), 2, "nobody is asked twice");
    Ok(())
}
