//! Conflicting duties asked for at the same time: one is signed, and of the others nothing is left anywhere.

use std::collections::BTreeSet;

use eyre::{Result, ensure, eyre};
use futures::future::{join, join_all, try_join_all};
use serde_json::Value;
use stkr_e2e::DealtNetwork;
use stkr_e2e::gateway_process::Answer;
use stkr_e2e::slashable::{Signed, read_evidence, read_interchange};
use stkr_node::tls::Identity;
use stkr_protocol::sign::{RefusalKind, SignResponse};

/// Conflicting requests at once.
const ROOTS: u64 = 1_000;
/// Pairs of conflicting requests at once.
const ROUNDS: u64 = 100;

#[tokio::test]
async fn of_a_thousand_roots_for_one_duty_a_server_signs_one() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut dealt = DealtNetwork::start(dir.path()).await?;
    // Several connections, so that calls really meet in the server.
    let clients = (0..8)
        .map(|number| dealt.network.client(0, &Identity::generate(&format!("client-{number}"))?))
        .collect::<Result<Vec<_>>>()?;
    // Connected before the race: a hundred requests on a client that has no connection yet would open a hundred.
    let known = dealt.asked(&dealt.block(2, 1))?;
    for client in &clients {
        client.sign_one(known.request()).await?;
    }
    let kinds: [fn(&DealtNetwork, u64) -> Value; 2] =
        [|dealt, root| dealt.block(100, root), |dealt, root| dealt.vote(300, 301, root)];
    let mut winners = Vec::new();
    for kind in kinds {
        let requests: Vec<Value> = (0..ROOTS).map(|root| kind(&dealt, root)).collect();
        let asked = requests.iter().map(|request| dealt.asked(request)).collect::<Result<Vec<_>>>()?;
        let calls = asked.iter().zip(clients.iter().cycle()).map(|(asked, client)| client.sign_one(asked.request()));
        let answers = try_join_all(calls).await?;
        let mut signed = Vec::new();
        for (request, answer) in requests.iter().zip(answers) {
            match answer {
                SignResponse::Signed(partial) => {
                    let one = dealt.signed(request)?;
                    dealt.check_partial(0, one.root(), &partial)?;
                    signed.push(one);
                }
                SignResponse::Refused(refused) => {
                    let refusal = refused.refusal;
                    ensure!(refusal.kind == RefusalKind::Slashable && refusal.reason.contains("double"), "{refusal}");
                }
            }
        }
        ensure!(signed.len() == 1, "signed {signed:?}");
        winners.extend(signed);
    }
    dealt.terminate()?;
    let of_races =
        |signed: &Signed| matches!(signed, Signed::Block { slot: 100, .. } | Signed::Vote { target: 301, .. });
    let server = dealt.network.servers.first().ok_or_else(|| eyre!("no server"))?;
    let mut history = read_interchange(&dealt.export("stkr-server", &server.config)?)?;
    history.retain(of_races);
    let evidence = dealt.evidence(0)?;
    let mut kept = read_evidence(&evidence)?;
    kept.retain(of_races);
    for mut found in [history, kept] {
        found.sort_unstable();
        assert_eq!(found, winners);
    }
    // Those that were refused are what convicts the duty key.
    let rows = evidence.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let asked = rows.iter().filter(|row| row["slot"] == 100 || row["targetEpoch"] == 301).count() as u64;
    assert_eq!(asked, 2 * ROOTS);
    Ok(())
}

#[tokio::test]
async fn of_two_failover_clients_the_second_is_refused_and_leaves_nothing_signed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut dealt = DealtNetwork::start(dir.path()).await?;
    let pair = |round: u64| -> [Value; 2] {
        let (slot, target) = (round + 100, 4 * round + 103);
        match round % 4 {
            0 => [dealt.vote(target - 3, target, 1), dealt.vote(target - 3, target, 2)],
            1 => [dealt.block(slot, 1), dealt.block(slot, 2)],
            // The one surrounds the other.
            2 => [dealt.vote(target - 3, target, 1), dealt.vote(target - 2, target - 1, 2)],
            _ => [dealt.block(slot, 2), dealt.block(slot, 1)],
        }
    };
    let pairs: Vec<[Value; 2]> = (0..ROUNDS).map(pair).collect();
    let answers =
        join_all(pairs.iter().map(|[one, other]| join(dealt.ask_gateway(one), dealt.ask_gateway(other)))).await;
    let (mut won, mut lost) = (BTreeSet::new(), BTreeSet::new());
    let mut second_won = 0;
    for ([one, other], (first, second)) in pairs.iter().zip(answers) {
        let (first, second) = (settled(&dealt, one, first?).await?, settled(&dealt, other, second?).await?);
        second_won += usize::from(second.status == 200);
        let (winner, answer, loser, refused) =
            if first.status == 200 { (one, first, other, second) } else { (other, second, one, first) };
        dealt.check(winner, &answer)?;
        ensure!(refused.status == 412 && refused.body["refusal"]["kind"] == "denied", "{refused:?}");
        won.insert(dealt.signed(winner)?.root());
        lost.insert(dealt.signed(loser)?.root());
        // Asked once more, alone: nothing has changed.
        ensure!(dealt.ask_gateway(loser).await?.status == 412, "{loser}");
        dealt.check(winner, &dealt.ask_gateway(winner).await?)?;
    }
    writeln_to_stderr(&format!("{ROUNDS} pairs, {second_won} times the one that was sent later was signed"))?;

    let kept = dealt.gateway.get("/v1/requests?limit=1000").await?;
    let rows = kept.body["rows"].as_array().ok_or_else(|| eyre!("{kept:?}"))?;
    let roots =
        rows.iter().map(|row| Ok(dealt.signed(&row["request"]["duty"])?.root())).collect::<Result<BTreeSet<_>>>()?;
    ensure!(roots.is_superset(&won) && roots.is_disjoint(&lost), "the gateway kept {roots:?}");
    dealt.terminate()?;
    for position in 0..dealt.network.servers.len() {
        let server = dealt.network.servers.get(position).ok_or_else(|| eyre!("no server"))?;
        let history = dealt.export("stkr-server", &server.config)?;
        // Evidence of refused requests too: the duty key has not even asked.
        let all = format!("{history}{}", dealt.evidence(position)?);
        ensure!(won.iter().filter(|root| all.contains(&root.to_string())).count() == won.len(), "server {position}");
        ensure!(!lost.iter().any(|root| all.contains(&root.to_string())), "server {position} knows a loser");
    }
    let history = dealt.export("stkr-gateway", &dealt.gateway.config)?;
    ensure!(!lost.iter().any(|root| history.contains(&root.to_string())), "the gateway recorded a loser");
    Ok(())
}

/// A machine under load may not have t answers in time; whoever was recorded first stays so, and is signed when asked again.
async fn settled(dealt: &DealtNetwork, request: &Value, answer: Answer) -> Result<Answer> {
    if answer.status != 503 {
        return Ok(answer);
    }
    let signs = || async { Ok(dealt.ask_gateway(request).await?.status != 503) };
    dealt.network.until("an answer", signs).await?;
    dealt.ask_gateway(request).await
}

fn writeln_to_stderr(line: &str) -> Result<()> {
    use std::io::Write as _;
    Ok(writeln!(std::io::stderr().lock(), "{line}")?)
}
