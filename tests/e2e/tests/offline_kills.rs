//! SIGKILL of the program without network in each phase of its work: of one machine at every named point, of another at any moment. Afterwards
//! nothing is lost or half-written, and the same step again gives what it would have given: never another message of one round.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use alloy::primitives::Address;
use eyre::{Result, ensure, eyre};
use serde_json::{Value, json};
use stkr_chain::Deployment;
use stkr_e2e::offline::OfflineServer;
use stkr_e2e::{Network, Options};

/// 4 online and 2 offline members.
const KEY: (u8, u8) = (5, 6);
const MEMBERS: usize = 6;
/// What each visit signs or shows, and where the program is killed at it, in the order in which it passes there.
const VISITS: [(&str, &[&str]); 5] = [
    (
        "one_time_key",
        &[
            "offline.confirmed",
            "server.ceremony_unbegun",
            "server.ceremony_begun",
            "server.ceremony_one_time_key_unwritten",
            "server.ceremony_one_time_key_written",
        ],
    ),
    (
        "dealing_commitment",
        &["server.ceremony_dealing_commitment_unwritten", "server.ceremony_dealing_commitment_written"],
    ),
    ("commitment_set", &["server.ceremony_commitment_set_unwritten", "server.ceremony_commitment_set_written"]),
    ("dealing", &[]),
    ("acknowledgement", &["server.ceremony_acknowledgement_unwritten", "server.ceremony_erased_and_in_log"]),
];
const ANSWER: [&str; 2] = ["offline.answer_unwritten", "offline.answer_written"];
/// Moments of each visit of the other machine, spread over its length.
const MOMENTS: u32 = 6;

/// A machine that is killed, and everything that it ever said.
struct Killed<'a> {
    server: &'a OfflineServer,
    said: BTreeMap<String, String>,
}

impl Killed<'_> {
    /// Takes down what the database has signed: of each round one message, and for ever the same.
    fn remember(&mut self) -> Result<()> {
        let database = rusqlite::Connection::open(self.server.dir.join("server/server.db"))?;
        let mut statement = database.prepare("SELECT round, json FROM message WHERE own = 1 ORDER BY id")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let now = rows.collect::<rusqlite::Result<Vec<(String, String)>>>()?;
        let rounds: BTreeSet<&String> = now.iter().map(|(round, _)| round).collect();
        ensure!(rounds.len() == now.len(), "two messages of one round: {now:?}");
        ensure!(self.said.keys().all(|round| rounds.contains(round)), "a message was lost: {rounds:?}");
        for (round, message) in now {
            let first = self.said.entry(round).or_insert_with(|| message.clone());
            ensure!(*first == message, "another message of the same round: {first} and {message}");
        }
        Ok(())
    }

    /// Kills it at each of these points in turn; then the step to its end. The answer, which is the same each time.
    fn at_points(&mut self, points: &[&str], args: &[&str]) -> Result<String> {
        let mut answers = BTreeSet::new();
        for point in points.iter().chain(&ANSWER) {
            self.server.killed_at(point, "answer", args)?;
            ensure!(self.out().exists() == (*point == ANSWER[1]), "an answer of what was killed at {point}");
            answers.extend(self.take_answer()?);
            self.remember()?;
        }
        self.finish(answers, args)
    }

    /// Kills it at moments that are spread over `length`; then the step to its end. The answer, which is the same each time.
    fn at_moments(&mut self, length: Duration, args: &[&str]) -> Result<String> {
        let mut answers = BTreeSet::new();
        for moment in 1..=MOMENTS {
            let mut command = self.server.command("answer", args)?;
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
            std::thread::sleep(length * moment / MOMENTS);
            child.kill()?;
            child.wait()?;
            answers.extend(self.take_answer()?);
            self.remember()?;
        }
        self.finish(answers, args)
    }

    fn finish(&mut self, mut answers: BTreeSet<String>, args: &[&str]) -> Result<String> {
        self.server.json("answer", args)?;
        answers.extend(self.take_answer()?);
        self.remember()?;
        ensure!(answers.len() == 1, "the same step gave {} answers", answers.len());
        answers.pop_first().ok_or_else(|| eyre!("no answer"))
    }

    fn out(&self) -> PathBuf {
        self.server.dir.join("answer.json")
    }

    /// The answer, if there is one, out of the way of the next: whole, whenever its program was killed.
    fn take_answer(&self) -> Result<Option<String>> {
        if !self.out().exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(self.out())?;
        std::fs::remove_file(self.out())?;
        serde_json::from_str::<Value>(&text)?;
        Ok(Some(text))
    }

    /// A visit, if there is anything to sign, after it was killed in the middle of it a few times.
    async fn visit(&mut self, network: &Network, key: u64) -> Result<()> {
        self.server.bring("request.json", &network.offline_request(self.server.id, key).await?.to_string())?;
        let start = Instant::now();
        let shown = self.server.json("show", &["request.json"])?;
        // An answer takes what `show` takes, and writes: half as much again reaches its end on a machine that has nothing else to do.
        let length = start.elapsed() * 3 / 2;
        if shown["signs"] == json!([]) {
            return Ok(());
        }
        let block = network.compared(self.server, "request.json").await?;
        let answer = self.at_moments(length, &["request.json", "--out", "answer.json", "--yes", "--block", &block])?;
        let (status, body) = network.hand_in_answer(&answer).await?;
        ensure!(status == 200, "{body}");
        Ok(())
    }
}

/// The request once all members said what comes before `round`, and without anything later: each visit is about one round.
async fn request_of(network: &Network, mine: u32, other: &mut Killed<'_>, key: u64, round: usize) -> Result<Value> {
    let before = &VISITS[..round];
    let until = Instant::now() + Duration::from_secs(120);
    while Instant::now() < until {
        let mut request = network.offline_request(mine, key).await?;
        let messages = request["messages"].as_array_mut().ok_or_else(|| eyre!("no messages"))?;
        messages.retain(|message| before.iter().any(|(name, _)| message["round"] == *name));
        if messages.len() == before.len() * MEMBERS {
            return Ok(request);
        }
        other.visit(network, key).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Err(eyre!("nobody said all that comes before {}", VISITS[round].0))
}

#[tokio::test]
async fn an_offline_server_that_is_killed_in_every_step_of_a_ceremony_says_one_thing_and_gets_its_share() -> Result<()>
{
    let dir = tempfile::tempdir()?;
    let network = Network::start(Options { servers: 4, block_ms: 500, ..Options::new(dir.path()) }).await?;
    let offline = network.two_offline_servers().await?;
    let key = network.withdrawal_key(network.add_key_user().await?, KEY).await?;
    let [server, other] = &offline;
    let [mut killed, mut other] = [server, other].map(|server| Killed { server, said: BTreeMap::new() });
    for (round, (name, points)) in VISITS.into_iter().enumerate() {
        let request = request_of(&network, server.id, &mut other, key, round).await?;
        server.bring("request.json", &request.to_string())?;
        let shown = server.json("show", &["request.json"])?;
        ensure!(shown["signs"] == json!([name]), "{shown}");
        let block = network.compared(server, "request.json").await?;
        let secret = sealed(server)?;
        let mut args = vec!["request.json", "--out", "answer.json", "--yes"];
        // Once for each ceremony.
        args.extend([["--block", block.as_str()]].into_iter().filter(|_| round == 0).flatten());
        let answer = killed.at_points(points, &args)?;
        if name == "acknowledgement" {
            erased(server, &secret)?;
        }
        let (status, body) = network.hand_in_answer(&answer).await?;
        ensure!(status == 200, "{name}: {body}");
    }
    network.carry_to_offline_servers(&offline, key).await?;
    ensure!(server.json("status", &[])?["ceremonies"][0]["hasShare"] == true);
    Ok(())
}

/// The sealed one-time secret; nothing before there is one, or once it is erased.
fn sealed(server: &OfflineServer) -> Result<Option<Vec<u8>>> {
    let database = rusqlite::Connection::open(server.dir.join("server/server.db"))?;
    let mut statement = database.prepare("SELECT sealed FROM ceremony")?;
    let rows = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<Option<Vec<u8>>>>>()?;
    Ok(rows.into_iter().next().flatten())
}

/// Killed between the erasure and the end of the log it went through: the next start has ended that.
fn erased(server: &OfflineServer, secret: &Option<Vec<u8>>) -> Result<()> {
    let secret = secret.as_deref().ok_or_else(|| eyre!("there was no one-time secret to erase"))?;
    for file in ["server.db", "server.db-wal"] {
        let bytes = std::fs::read(server.dir.join("server").join(file)).unwrap_or_default();
        ensure!(!bytes.windows(secret.len()).any(|window| window == secret), "the one-time secret lies in {file}");
    }
    ensure!(sealed(server)?.is_none());
    Ok(())
}

// ---- setting it up

fn deployment(dir: &Path) -> Result<PathBuf> {
    let at = Address::repeat_byte;
    let deployment = Deployment {
        chain_id: 31_337,
        access_manager: at(1),
        server_registry: at(2),
        provider_registry: at(3),
        key_registry: at(4),
        court: at(5),
        micropools: at(6),
        deposit_contract: at(7),
        genesis_fork_version: [0; 4].into(),
        genesis_validators_root: alloy::primitives::B256::repeat_byte(9),
        deployed_block: 0,
    };
    let file = dir.join("31337.json");
    std::fs::write(&file, serde_json::to_string(&deployment)?)?;
    Ok(file)
}

const INIT: [&str; 2] = ["--deployment", "deployment.json"];
const OPERATOR: [&str; 2] = ["--operator", "0x00000000000000000000000000000000000000aa"];

#[test]
fn an_init_that_is_killed_leaves_no_server_and_says_what_to_do() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let deployment = deployment(dir.path())?;
    for point in ["offline.init_without_database", "offline.init_without_deployment"] {
        let server = OfflineServer::at(dir.path().join(point), &deployment)?;
        server.killed_at(point, "init", &INIT)?;
        // Nothing to register: whoever finds these files has lost nothing.
        let (exit, said) = server.refusal("register-args", &OPERATOR)?;
        ensure!(exit == 2 && said.contains("server/deployment.json"), "{exit} {said}");
        let left = files(&server)?;
        let (exit, said) = server.refusal("init", &INIT)?;
        ensure!(exit == 2 && said.contains("did not get to its end") && files(&server)? == left, "{exit} {said}");
        std::fs::remove_dir_all(server.dir.join("server"))?;
        let signer = server.json("init", &INIT)?["signer"].clone();
        ensure!(server.json("status", &[])?["signers"] == json!([signer]));
        let (exit, said) = server.refusal("init", &INIT)?;
        ensure!(exit == 2 && said.contains("holds a server already"), "{exit} {said}");
    }
    Ok(())
}

#[test]
fn a_new_signer_that_is_killed_is_no_signer_or_is_told_again() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = OfflineServer::at(dir.path().join("offline"), &deployment(dir.path())?)?;
    let first = server.json("init", &INIT)?["signer"].clone();
    server.killed_at("offline.signer_without_key", "new-signer", &OPERATOR)?;
    ensure!(server.json("status", &[])?["signers"] == json!([first]), "a signer without a key");
    server.killed_at("offline.signer_unsaid", "new-signer", &OPERATOR)?;
    let signers = server.json("status", &[])?["signers"].clone();
    let second = signers[1].as_str().ok_or_else(|| eyre!("{signers}"))?;
    ensure!(signers[0] == first && signers.as_array().is_some_and(|all| all.len() == 2), "{signers}");
    let again = [OPERATOR.as_slice(), &["--signer", second]].concat();
    let told = server.json("new-signer", &again)?;
    ensure!(told["signer"] == *second && told == server.json("new-signer", &again)?, "{told}");
    ensure!(server.json("status", &[])?["signers"] == signers);
    Ok(())
}

/// All files of the server with their bytes.
fn files(server: &OfflineServer) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![server.dir.join("server")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.clone(), std::fs::read(path)?);
            }
        }
    }
    Ok(found)
}
