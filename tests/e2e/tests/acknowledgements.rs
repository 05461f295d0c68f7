//! Silence in a ceremony, asked on the chain: who keeps its acknowledgement to itself loses its bond, and no honest member does.

use std::process::Command;
use std::time::Duration;

use alloy::network::EthereumWallet;
use alloy::primitives::U256;
use alloy::signers::local::PrivateKeySigner;
use eyre::{Result, ensure, eyre};
use serde_json::{Value, json};
use stkr_chain::bindings::{KeyRegistry, Micropools};
use stkr_core::ShareIndex;
use stkr_e2e::anvil::{advance_time, mine};
use stkr_e2e::network::{CEREMONY_WINDOW, write_secret};
use stkr_e2e::process::{Process, binary};
use stkr_e2e::{Network, Options};
use stkr_protocol::ceremony::{Board, Context};
use stkr_protocol::messages::Round;
use stkr_sdk::{Asks, ChallengeInfo, ChallengeState, HistoryEntry, Incident};

/// Seconds in which a member can answer.
const ANSWER_TIME: u64 = 24 * 3600;

/// `stkr --json` as a stranger: exit code and what it printed.
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

fn refused(network: &Network, args: &[&str], says: &str) -> Result<()> {
    let (code, printed) = stkr(network, args)?;
    let message = printed["error"]["message"].as_str().unwrap_or_default();
    ensure!(code != Some(0) && message.contains(says), "{args:?}: {printed}");
    Ok(())
}

/// The server at `position` of the network, played by one that deals with this flaw.
fn bad_dealer(network: &Network, position: usize, flaw: &str) -> Result<Process> {
    let config = network.servers[position].config.display().to_string();
    let args = ["bad-dealing", "--config", &config, "--flaw", flaw].map(str::to_owned);
    let mut process = Process::start("bad-dealer", &binary("stkr-adversary")?, &args, &network.servers[position].dir)?;
    process.line(Duration::from_secs(20), |line| line.contains("ready"))?;
    Ok(process)
}

/// `count` servers, of which governance approved the first four; the one at `bad` deals with this flaw, all others are honest.
async fn network(options: Options, bad: Option<(usize, &str)>) -> Result<(Network, Option<Process>)> {
    let mut network = Network::deploy(options).await?;
    network.init_servers().await?;
    network.register_servers().await?;
    let (stkr, governor) = (network.stkr().await?, EthereumWallet::from(network.governor.clone()));
    for position in 0..4 {
        stkr.servers().approve(network.servers[position].id).send_with(&governor).await?;
    }
    let mut process = None;
    for position in 0..network.servers.len() {
        match bad {
            Some((culprit, flaw)) if culprit == position => process = Some(bad_dealer(&network, position, flaw)?),
            _ => network.start_server(position)?,
        }
    }
    Ok((network, process))
}

async fn stranger(network: &Network) -> Result<(PrivateKeySigner, String)> {
    let stranger = network.account("5").await?;
    let file = network.options.dir.join("stranger.key");
    write_secret(&file, &format!("{}\n", stranger.to_bytes()))?;
    Ok((stranger, file.display().to_string()))
}

async fn the_challenge(network: &Network) -> Result<Option<ChallengeInfo>> {
    let mut all = network.stkr().await?.challenges().list().await?;
    ensure!(all.len() < 2, "one question is enough: {all:?}");
    Ok(all.pop())
}

async fn until_it_is(network: &Network, state: ChallengeState) -> Result<ChallengeInfo> {
    let is_it = || async { Ok(the_challenge(network).await?.is_some_and(|it| it.state == state)) };
    network.until(&format!("the challenge is {state}"), is_it).await?;
    the_challenge(network).await?.ok_or_else(|| eyre!("there is no challenge"))
}

#[tokio::test]
async fn a_member_that_never_acknowledges_is_asked_loses_its_bond_and_the_next_attempt_goes_without_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = Options { servers: 5, relayers: 0, block_ms: 500, ..Options::new(dir.path()) };
    let (mut network, process) = network(options, Some((3, "silent"))).await?;
    network.init_relayer(0).await?;
    let config = network.relayers[0].config.clone();
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, text + "\n[challenges]\nchallenge_silent_servers = true\nsilent_blocks = 100\n")?;
    network.start_relayer(0)?;
    let (sdk, rpc) = (network.stkr().await?, network.provider()?);
    let ids: Vec<u32> = network.servers.iter().map(|server| server.id).collect();
    let silent = ids[3];

    let provider = network.account("10").await?;
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    network
        .until("the ceremony waits for an acknowledgement", || async {
            let status = network.relayer_json(0, "/status").await?;
            Ok(status["ceremonies"][0]["round"] == "acknowledgement")
        })
        .await?;
    let key = sdk.pools().get(pool).await?.key_id;
    let committee = sdk.keys().get(key).await?.committee;
    let index = committee.iter().position(|id| *id == silent).ok_or_else(|| eyre!("{committee:?}"))? + 1;
    let honest = committee[index % 4];

    // A stranger could ask, too: everything is checked before anything is paid.
    let (_, key_file) = stranger(&network).await?;
    let (key_id, url) = (key.to_string(), network.relayers[0].url.clone());
    let ask = |server: u32, relayer: &str, says: &str| {
        let server = server.to_string();
        let args = ["challenge", "acknowledgement", &key_id, &server, "--relayer", relayer, "--key-file", &key_file];
        refused(&network, &args, says)
    };
    ask(honest, &url, "has acknowledged: its acknowledgement is among the messages")?;
    ask(ids[4], &url, "is not in the committee of key")?;
    ask(silent, "http://127.0.0.1:9", "it does not answer")?;
    assert_eq!(the_challenge(&network).await?, None, "it has time");

    mine(&rpc, 110).await?;
    let opened = until_it_is(&network, ChallengeState::Open).await?;
    assert_eq!((opened.server_id, opened.asks), (silent, Asks::Acknowledgement { attempt: 0 }));
    ask(silent, &url, "is being asked for this already")?;
    let told =
        format!("server {silent} (member {index}) of key {key}, attempt 0, has until unix time {}", opened.deadline);
    network
        .until("the relayer says who is silent", || async {
            let (status, metrics) =
                (network.relayer_json(0, "/status").await?, network.relayer_text(0, "/metrics").await?);
            Ok(status["problems"].to_string().contains(&told)
                && metrics.contains(&format!("open_challenges{{server=\"{silent}\"}} 1")))
        })
        .await?;
    let id = silent.to_string();
    let of = [&key_id[..], &id, "--acknowledgement"];
    refused(&network, &[&["challenge", "prove"], &of[..], &["--key-file", &key_file]].concat(), "may still answer")?;
    advance_time(&rpc, ANSWER_TIME + 1).await?;
    let proven = until_it_is(&network, ChallengeState::Unanswered).await?;
    assert!(sdk.servers().get(silent).await?.locked_out);
    let (_, shown) = stkr(&network, &[&["challenge", "show"], &of[..]].concat())?;
    assert_eq!(
        (&shown["state"], &shown["asks"], &shown["attempt"]),
        (&json!("unanswered"), &json!("acknowledgement"), &json!(0))
    );
    let challenger = proven.challenger;
    assert!(sdk.servers().bounty_of(challenger).await? > U256::ZERO);
    assert_eq!(sdk.challenges().acknowledgement_fees_of(challenger).await?, proven.fee, "the fee comes back");
    let history = sdk.faults().history(silent).await?;
    let charged = |entry: &HistoryEntry| match &entry.incident {
        Incident::Fault { fault, judgement, signed, .. } => {
            fault == "unanswered_challenge" && judgement.charged && signed[0].what.starts_with("no acknowledgement")
        }
        _ => false,
    };
    ensure!(history.iter().any(charged), "{history:?}");

    let governor = EthereumWallet::from(network.governor.clone());
    sdk.servers().approve(ids[4]).send_with(&governor).await?;
    advance_time(&rpc, CEREMONY_WINDOW - ANSWER_TIME).await?;
    let finalised = network.event::<KeyRegistry::KeyFinalised>(network.deployment.key_registry, key).await?.inner;
    let mut committee = finalised.committee.clone();
    committee.sort_unstable();
    assert_eq!((finalised.attempt, committee), (1, vec![ids[0], ids[1], ids[2], ids[4]]));
    network.event::<Micropools::DepositSent>(network.deployment.micropools, pool).await?;
    for id in &finalised.committee {
        ensure!(!sdk.servers().get(*id).await?.locked_out, "an honest server is locked out: {id}");
    }
    let ended = process.map(|mut process| process.terminate(Duration::from_secs(20)));
    assert_eq!(ended, Some(Some(0)));
    Ok(())
}

/// A ceremony of the four servers, carried up to the acknowledgements and kept from the member with `index` alone.
async fn censored(
    network: &Network,
    index: impl Fn(&Context) -> Result<ShareIndex>,
) -> Result<(Context, Board, ShareIndex)> {
    let anyone = EthereumWallet::from(network.account("10").await?);
    let provider = network.account("10").await?;
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    let key = network.request_key(pool, &anyone).await?;
    let ceremony = network.draw(key, (3, 4), &anyone).await?;
    let index = index(&ceremony)?;
    let board = network.carry_but_to(&ceremony, index).await?;
    Ok((ceremony, board, index))
}

async fn ask(network: &Network, ceremony: &Context, board: &Board, index: ShareIndex) -> Result<u32> {
    let (stranger, _) = stranger(network).await?;
    let server = ceremony.member(index).ok_or_else(|| eyre!("no member {index}"))?.server_id;
    let sdk = network.stkr().await?;
    let challenges = sdk.challenges();
    let messages: Vec<_> = board.messages().cloned().collect();
    let question = challenges.acknowledgement_question_from(ceremony.key_id(), server, messages).await?;
    let write = challenges.open_acknowledgement(&question, None).await?;
    write.send_with(&EthereumWallet::from(stranger)).await?;
    Ok(server)
}

#[tokio::test]
async fn an_honest_member_that_was_kept_from_the_dealings_is_answered_for_by_any_relayer_and_keeps_its_bond()
-> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = Options { servers: 4, relayers: 0, block_ms: 500, ..Options::new(dir.path()) };
    let (mut network, _) = network(options, None).await?;
    let (ceremony, board, index) = censored(&network, |_| Ok(ShareIndex::new(2)?)).await?;
    // Has acknowledged to the one that censors, and to nobody else: no relayer can finish the ceremony yet.
    let down = network.position_of(ceremony.members()[0].server_id)?;
    network.kill_server(down);
    let honest = ask(&network, &ceremony, &board, index).await?;
    assert_eq!(board.missing(Round::Acknowledgement), [index]);

    network.init_relayer(0).await?;
    network.start_relayer(0)?;
    let answered = until_it_is(&network, ChallengeState::Answered).await?;
    let sdk = network.stkr().await?;
    assert!(!sdk.servers().get(honest).await?.locked_out);
    let operator = network.servers[network.position_of(honest)?].operator.address();
    let (_, fees) = stkr(&network, &["challenge", "fees", &operator.to_string()])?;
    assert_eq!(fees["acknowledgementFeesWei"], answered.fee.to_string(), "the fee is the operator's");
    // A relayer that never hears of the member but on the chain finishes the ceremony.
    network.kill_server(network.position_of(honest)?);
    network.kill_relayer(0);
    network.start_server(down)?;
    network.init_relayer(1).await?;
    network.start_relayer(1)?;
    network.event::<KeyRegistry::KeyFinalised>(network.deployment.key_registry, ceremony.key_id()).await?;
    Ok(())
}

#[tokio::test]
async fn a_member_that_got_a_bad_share_answers_with_its_complaint_and_only_the_dealer_is_punished() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = Options { servers: 4, relayers: 0, block_ms: 500, ..Options::new(dir.path()) };
    let (mut network, process) = network(options, Some((3, "wrong-share"))).await?;
    let dealer = network.servers[3].id;
    let victim = |ceremony: &Context| {
        let dealt = ceremony.committee().first() == Some(&dealer);
        Ok(ShareIndex::new(if dealt { 2 } else { 1 })?)
    };
    let (ceremony, board, index) = censored(&network, victim).await?;
    let cheated = ask(&network, &ceremony, &board, index).await?;

    network.init_relayer(0).await?;
    network.start_relayer(0)?;
    until_it_is(&network, ChallengeState::Refused).await?;
    let sdk = network.stkr().await?;
    network.until("the dealer is locked out", || async { Ok(sdk.servers().get(dealer).await?.locked_out) }).await?;
    assert!(!sdk.servers().get(cheated).await?.locked_out);
    let operator = network.servers[network.position_of(cheated)?].operator.address();
    assert!(sdk.challenges().acknowledgement_fees_of(operator).await? > U256::ZERO);
    let ended = process.map(|mut process| process.terminate(Duration::from_secs(20)));
    assert_eq!(ended, Some(Some(0)));
    Ok(())
}
