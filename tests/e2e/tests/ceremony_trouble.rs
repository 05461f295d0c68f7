//! Trouble with a ceremony explains itself: who is waited for, in which round, since when, what to check; and before anything starts,
//! who could not take part.

use std::path::{Path, PathBuf};
use std::process::Command;

use alloy::network::EthereumWallet;
use alloy::primitives::B256;
use eyre::{Result, bail, ensure, eyre};
use serde_json::{Value, json};
use stkr_chain::bindings::KeyRegistry;
use stkr_e2e::door::Door;
use stkr_e2e::network::free_port;
use stkr_e2e::process::binary;
use stkr_e2e::{Network, Options, Server};
use stkr_protocol::messages::Round;

/// Who is killed, again and again.
const VICTIM: usize = 2;

/// Keys of one try to catch the victim in one round: what it is asked meanwhile, by the relayer's looks at all servers, counts too.
const TRIES: usize = 12;

/// `stkr --json`: exit code, what it printed to stdout, and to stderr.
fn stkr(network: &Network, args: &[&str]) -> Result<(Option<i32>, Value, Value)> {
    let output = Command::new(binary("stkr")?)
        .args(["--json", "--rpc", &network.anvil.url, "--deployment"])
        .arg(&network.deployment_file)
        .args(args)
        .output()?;
    let read = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or(Value::Null);
    Ok((output.status.code(), read(&output.stdout), read(&output.stderr)))
}

fn killed(network: &mut Network) -> Result<bool> {
    let process = network.servers[VICTIM].process.as_mut().ok_or_else(|| eyre!("the victim was never started"))?;
    Ok(!process.is_running())
}

/// Has a new key made, with the victim killed when it is asked for the `count`th time: the key, and whether it was killed.
async fn ceremony(network: &mut Network, count: usize) -> Result<(u64, bool)> {
    std::fs::write(network.servers[VICTIM].dir.join("kill"), format!("server.received {count}"))?;
    let provider = network.account("10").await?;
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    let key = network.requested_key(pool).await?;
    loop {
        // Read before the events: once the key is made, the request at which the victim died was for a signature.
        let killed = killed(network)?;
        if !network.events_now::<KeyRegistry::KeyFinalised>(network.deployment.key_registry, key).await?.is_empty() {
            return Ok((key, false));
        }
        if killed {
            return Ok((key, true));
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Starts the victim again; the ceremony goes on where it stopped and ends.
async fn repair(network: &mut Network, key: u64) -> Result<()> {
    let dir = network.servers[VICTIM].dir.clone();
    for file in ["kill", "kill.hit"] {
        if dir.join(file).exists() {
            std::fs::remove_file(dir.join(file))?;
        }
    }
    if killed(network)? {
        network.start_server(VICTIM)?;
    }
    network.event::<KeyRegistry::KeyFinalised>(network.deployment.key_registry, key).await?;
    let (code, info, _) = stkr(network, &["ceremony", "show", &key.to_string()])?;
    ensure!(code == Some(0) && info["state"] == "done", "{info}");
    Ok(())
}

/// Once it stalls: where the ceremony stands by the relayer's status.
async fn stalled(network: &Network, key: u64) -> Result<Value> {
    let find = || async {
        let status = network.relayer_json(0, "/status").await?;
        let ours = status["ceremonies"].as_array().into_iter().flatten();
        let ours = ours.filter(|it| it["keyId"].as_str() == Some(&key.to_string())).find(|it| it["stalled"] == true);
        // Everybody else has said what it can say without the victim, and it was asked again since its connections broke.
        let alone = |it: &&Value| waited(it).iter().all(|(_, who)| who.len() == 1);
        let refuses = |it: &&Value| it["rounds"].to_string().contains("\"trouble\":\"refused\"");
        eyre::Ok(ours.filter(alone).filter(refuses).cloned())
    };
    network.until("the ceremony stalls", || async { Ok(find().await?.is_some()) }).await?;
    find().await?.ok_or_else(|| eyre!("it stalls no more"))
}

/// Rounds that wait for somebody, and for which servers; ids are strings in the relayer's JSON and numbers in the command's.
fn waited(ceremony: &Value) -> Vec<(String, Vec<String>)> {
    let rounds = ceremony["rounds"].as_array().into_iter().flatten();
    let of = |round: &Value| {
        let who = round["waitingFor"].as_array().into_iter().flatten();
        let id = |it: &Value| it["serverId"].to_string().trim_matches('"').to_owned();
        (round["round"].as_str().unwrap_or_default().to_owned(), who.map(id).collect::<Vec<_>>())
    };
    rounds.map(of).filter(|(_, who)| !who.is_empty()).collect()
}

#[tokio::test]
async fn a_member_that_is_down_in_any_round_is_named_by_status_page_and_command_and_the_key_is_made_when_it_is_back()
-> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut network = Network::start(Options { servers: 4, block_ms: 500, ..Options::new(dir.path()) }).await?;
    let variable = (stkr_kill_points::VARIABLE.to_owned(), "kill".into());
    network.servers[VICTIM].environment.push(variable);
    network.start_server(VICTIM)?;
    for (position, round) in Round::ALL.into_iter().enumerate() {
        let mut count = position + 1;
        for attempt in 0.. {
            ensure!(attempt < TRIES, "the victim was never caught in round {round}");
            let (key, killed) = ceremony(&mut network, count).await?;
            let found = match killed {
                true => check(&network, key).await?,
                false => Round::ALL.len(),
            };
            repair(&mut network, key).await?;
            match found.cmp(&position) {
                std::cmp::Ordering::Equal => break,
                std::cmp::Ordering::Less => count += 1,
                std::cmp::Ordering::Greater => count -= 1,
            }
        }
    }
    Ok(())
}

/// What status, page and command say of a ceremony in which the victim is down; the position of the round that waits for it.
async fn check(network: &Network, key: u64) -> Result<usize> {
    let victim = &network.servers[VICTIM];
    let id = victim.id.to_string();
    let status = stalled(network, key).await?;
    let (round, who) = waited(&status).pop().ok_or_else(|| eyre!("nobody is waited for: {status}"))?;
    ensure!(who == [id.clone()] && waited(&status).len() == 1, "{status}");
    let position = Round::ALL.iter().position(|it| it.name() == round).ok_or_else(|| eyre!("no round {round}"))?;
    let line = &status["rounds"][position];
    ensure!(line["since"].is_string() && line["came"] == "3", "{status}");
    let before = match position {
        0 => &status["begun"],
        position => &status["rounds"][position - 1]["complete"],
    };
    ensure!(&line["since"] == before, "since the round before was complete: {status}");
    let page = network.relayer_text(0, "/").await?;
    let host = victim.endpoint.trim_start_matches("https://");
    ensure!(page.contains("attempt 0: stalled") && page.contains(&format!("{host} refuses the connection")));

    let relayer = &network.relayers[0].url;
    let (code, info, error) = stkr(network, &["ceremony", "show", &key.to_string(), "--relayer", relayer])?;
    ensure!(code == Some(0), "{error}");
    ensure!(info["state"] == "stalled" && waited(&info) == [(round, vec![id])], "{info}");
    let (ours, waits) = (&info["rounds"][position], &info["rounds"][position]["waitingFor"][0]);
    ensure!(ours["since"].as_u64().map(|it| json!(it.to_string())).as_ref() == Some(&line["since"]), "{info}");
    ensure!(waits["operator"] == json!(victim.operator.address()) && waits["endpoint"] == victim.endpoint, "{info}");
    ensure!(waits["trouble"] == "refused", "{info}");
    ensure!(waits["check"].as_str().is_some_and(|it| it.contains("systemctl status stkr-server")), "{info}");
    Ok(position)
}

/// A library that makes the clock of a program that loads it 90 s fast: the real program, with a real wrong clock.
fn fast_clock(dir: &Path) -> Result<PathBuf> {
    let (source, library) = (dir.join("fast.c"), dir.join("fast.so"));
    std::fs::write(
        &source,
        "#include <sys/syscall.h>\n#include <time.h>\n#include <unistd.h>\n\
         int clock_gettime(clockid_t id, struct timespec *t) {\n\
           int failed = syscall(SYS_clock_gettime, id, t);\n\
           if (!failed && id == CLOCK_REALTIME) t->tv_sec += 90;\n\
           return failed;\n\
         }\n",
    )?;
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status()?;
    ensure!(made.success(), "cc made no library");
    Ok(library)
}

/// What is said of a server: `[check, reason, what to do]` of its first trouble, if it has one.
fn trouble(report: &Value, server: &Server) -> Result<Option<[String; 3]>> {
    let mut rows = report["servers"].as_array().into_iter().flatten();
    let Some(row) = rows.find(|row| row["serverId"] == server.id) else { bail!("no server {} in {report}", server.id) };
    let text = |it: &Value, name: &str| it[name].as_str().unwrap_or_default().to_owned();
    let troubles = row["troubles"].as_array().ok_or_else(|| eyre!("{row}"))?;
    ensure!(row["ready"] == troubles.is_empty(), "{row}");
    Ok(troubles.first().map(|it| [text(it, "check"), text(it, "reason"), text(it, "whatToDo")]))
}

#[tokio::test]
async fn a_preflight_finds_a_server_that_is_down_a_wrong_clock_a_wrong_certificate_and_a_dead_rpc_endpoint()
-> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut network = Network::start(Options { servers: 5, block_ms: 500, ..Options::new(dir.path()) }).await?;
    let all: Vec<String> = network.servers.iter().map(|server| server.id.to_string()).collect();
    network
        .until("every server is well", || async { Ok(stkr(&network, &["ceremony", "preflight"])?.0 == Some(0)) })
        .await?;
    let (_, report, _) = stkr(&network, &["ceremony", "preflight", "--servers", &all.join(",")])?;
    ensure!(report["ready"] == true && report["servers"].as_array().map(Vec::len) == Some(5), "{report}");
    for row in report["servers"].as_array().into_iter().flatten() {
        let known = ["head", "finalized", "clockErrorMs"].iter().all(|name| row[name].is_u64());
        ensure!(known && row["clockOffsetMs"].as_i64().is_some_and(|it| it.abs() < 2_000), "{row}");
    }

    network.kill_server(0);
    network.servers[1].environment.push(("LD_PRELOAD".to_owned(), fast_clock(dir.path())?.into()));
    network.start_server(1)?;
    let stkr_client = network.stkr().await?;
    let (pinned, wrong) = (&network.servers[2], B256::repeat_byte(0xbe));
    let change = stkr_client.servers().set_endpoint(pinned.id, wrong, &pinned.endpoint)?;
    change.send_with(&EthereumWallet::from(pinned.operator.clone())).await?;
    let door = Door::to(&network.anvil.url)?;
    network.set_first_endpoint(3, &door.url)?;
    door.lead_to(&format!("http://127.0.0.1:{}", free_port()?))?;

    let (code, report, error) = stkr(&network, &["ceremony", "preflight", "--servers", &all.join(",")])?;
    ensure!(code == Some(3) && report["ready"] == false, "{code:?} {report}");
    ensure!(error["error"]["message"] == "4 of 5 servers could not hold a ceremony now: 1, 2, 3, 4", "{error}");
    for (position, check, reason, what_to_do) in [
        (0, "reach", "refuses the connection", "systemctl status stkr-server"),
        (1, "clock", "ahead of this machine's", "NTP"),
        (2, "reach", "the registry says 0xbebebe", "put the registered one back"),
        (3, "chain", "its RPC endpoint 1 does not answer", "its operator looks at that node"),
    ] {
        let found =
            trouble(&report, &network.servers[position])?.ok_or_else(|| eyre!("{position} is well: {report}"))?;
        ensure!(found[0] == check && found[1].contains(reason) && found[2].contains(what_to_do), "{found:?}");
    }
    let offset = report["servers"][1]["clockOffsetMs"].as_i64().unwrap_or_default();
    ensure!((88_000..92_000).contains(&offset), "{report}");
    ensure!(trouble(&report, &network.servers[4])?.is_none(), "{report}");

    let output = Command::new(binary("stkr")?)
        .args(["--rpc", &network.anvil.url, "--deployment"])
        .arg(&network.deployment_file)
        .args(["ceremony", "preflight", "--servers", &all.join(",")])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let marks: Vec<char> = text.lines().filter_map(|line| line.chars().next()).collect();
    ensure!(marks == ['✗', '✗', '✗', '✗', '✓'], "one line each: {text}");
    Ok(())
}
