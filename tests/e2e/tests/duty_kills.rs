//! SIGKILL at every named point between a request for a duty and its answer, in servers and gateway, while an adversary that
//! has the duty key asks for conflicting duties: whatever is lost, nobody is ever slashable.
//!
//! `STKR_KILLS` is the number of kills (50 unless given), `STKR_KILL_SEED` what decides where and when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use eyre::{Result, WrapErr as _, ensure, eyre};
use futures::future::{join, join_all};
use serde_json::Value;
use stkr_e2e::DealtNetwork;
use stkr_e2e::misbehaviour::corrupt;
use stkr_e2e::network::PATIENCE;
use stkr_e2e::process::{Process, workspace_root};
use stkr_e2e::slashable::{Signed, read_evidence, read_interchange, slashable_pair};
use stkr_node::client::ServerClient;
use stkr_node::tls::Identity;
use stkr_protocol::api::SignBatch;
use stkr_protocol::sign::SignResponse;

/// Position of the gateway among the processes; servers come before it.
const GATEWAY: usize = 4;
/// Rounds of requests after which a point that was not reached is an error.
const ROUNDS: usize = 500;
/// Points that a gateway passes only where a server lies to it.
const LIED_TO: &str = "gateway.evidence_";
/// Epochs between two votes, so that there is room to surround and to be surrounded.
const STRIDE: u64 = 4;

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ (word >> 31)) % (bound as u64)).unwrap_or(0)
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }
}

/// Every kill point in the source, with the kind of process that passes it: a point that somebody adds is killed at.
fn points() -> Result<Vec<(bool, String)>> {
    let mut found = BTreeSet::new();
    for (folder, programs) in [("server", &[false][..]), ("gateway", &[true]), ("protection", &[false, true])] {
        let mut folders = vec![workspace_root().join(folder).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path)?;
                for rest in text.split("kill_point!(\"").skip(1) {
                    let name = rest.split('"').next().unwrap_or_default();
                    found.extend(programs.iter().map(|is_gateway| (*is_gateway, name.to_owned())));
                }
            }
        }
    }
    found.extend([false, true].map(|is_gateway| (is_gateway, "http.half_an_answer".to_owned())));
    Ok(found.into_iter().collect())
}

/// Everything that anybody ever showed as signed, by position.
#[derive(Default)]
struct Shown(BTreeMap<usize, BTreeSet<Signed>>);

struct Bench {
    dealt: DealtNetwork,
    clients: Vec<ServerClient>,
    random: Random,
    shown: Shown,
    round: u64,
    /// The newest requests; some of them were under way when somebody was killed.
    recent: VecDeque<Value>,
    /// In the place of the server at that position: its partials are of no share of the key.
    liar: Option<(usize, Process)>,
}

impl Bench {
    async fn start(dir: &Path, seed: u64) -> Result<Self> {
        let mut dealt = DealtNetwork::deploy(dir).await?;
        let variable = || (stkr_kill_points::VARIABLE.to_owned(), "kill".into());
        dealt.network.servers.iter_mut().for_each(|server| server.environment.push(variable()));
        dealt.gateway.environment.push(variable());
        dealt.run().await?;
        let identity = Identity::generate("adversary")?;
        let clients = (0..GATEWAY).map(|position| dealt.network.client(position, &identity)).collect::<Result<_>>()?;
        Ok(Self {
            dealt,
            clients,
            random: Random(seed),
            shown: Shown::default(),
            round: 1,
            recent: VecDeque::new(),
            liar: None,
        })
    }

    fn kill_file(&self, who: usize) -> PathBuf {
        let dir = self.dealt.network.servers.get(who).map_or(&self.dealt.gateway.dir, |server| &server.dir);
        dir.join("kill")
    }

    /// A vote and a block that nobody asked for before.
    fn next(&mut self) -> [Value; 2] {
        self.round += 1;
        let duties = [self.vote_of(self.round, 1), self.dealt.block(self.round + 10, 1)];
        self.recent.extend(duties.iter().cloned());
        while self.recent.len() > 6 {
            self.recent.pop_front();
        }
        duties
    }

    fn vote_of(&self, round: u64, root: u64) -> Value {
        self.dealt.vote(round * STRIDE, round * STRIDE + STRIDE - 1, root)
    }

    /// What conflicts with a request: another root, or a vote that surrounds it or that it surrounds.
    fn conflicts(&self, request: &Value) -> Result<Vec<Value>> {
        Ok(match self.dealt.signed(request)? {
            Signed::Block { slot, .. } => vec![self.dealt.block(slot, 2), self.dealt.block(slot, 3)],
            Signed::Vote { source, target, .. } => vec![
                self.dealt.vote(source, target, 2),
                self.dealt.vote(source + 1, target - 1, 1),
                self.dealt.vote(source - 1, target + 1, 1),
                self.dealt.vote(source + 1, target, 1),
            ],
        })
    }

    /// One round: a validator client asks the gateway, and the adversary some servers for the opposite, all at once.
    async fn traffic(&mut self) -> Result<()> {
        let duties = self.next();
        let mut attacks: Vec<(usize, Vec<Value>)> = Vec::new();
        for who in 0..GATEWAY {
            let mut requests = Vec::new();
            for duty in &duties {
                // One server in three sees the opposite, some of them both.
                if self.random.below(3) == 0 {
                    let all = self.conflicts(duty)?;
                    requests.push(all[self.random.below(all.len())].clone());
                }
                if self.random.below(4) == 0 {
                    requests.push(duty.clone());
                }
            }
            attacks.push((who, requests));
        }
        let honest = join_all(duties.iter().map(|duty| self.dealt.ask_gateway(duty)));
        let adversary = join_all(attacks.iter().map(|(who, requests)| self.ask(*who, requests)));
        let (answers, stolen) = join(honest, adversary).await;
        for (duty, answer) in duties.iter().zip(answers) {
            // A gateway that died says nothing, and nothing is what it signed.
            if let Ok(answer) = answer {
                self.note_answer(duty, &answer)?;
            }
        }
        for ((who, _), signed) in attacks.iter().zip(stolen) {
            self.shown.0.entry(*who).or_default().extend(signed?);
        }
        Ok(())
    }

    fn note_answer(&mut self, duty: &Value, answer: &stkr_e2e::gateway_process::Answer) -> Result<()> {
        if answer.status == 200 {
            self.dealt.check(duty, answer)?;
            let signed = self.dealt.signed(duty)?;
            self.shown.0.entry(GATEWAY).or_default().insert(signed);
        }
        ensure!([200, 404, 412, 503].contains(&answer.status), "{answer:?}");
        Ok(())
    }

    /// What a server signs of this, as the duty key asks for it.
    async fn ask(&self, who: usize, requests: &[Value]) -> Result<Vec<Signed>> {
        if requests.is_empty() || self.liar.as_ref().is_some_and(|(liar, _)| *liar == who) {
            return Ok(Vec::new());
        }
        let asked = requests.iter().map(|request| self.dealt.asked(request)).collect::<Result<Vec<_>>>()?;
        let batch = SignBatch { requests: asked.iter().map(|asked| asked.request().clone()).collect() };
        let Ok(answers) = self.clients[who].sign(&batch).await else { return Ok(Vec::new()) };
        let mut signed = Vec::new();
        for (request, answer) in requests.iter().zip(answers) {
            if let SignResponse::Signed(partial) = answer {
                let one = self.dealt.signed(request)?;
                self.dealt.check_partial(who, one.root(), &partial)?;
                signed.push(one);
            }
        }
        Ok(signed)
    }

    fn process(&mut self, who: usize) -> Result<&mut Process> {
        let process = match self.dealt.network.servers.get_mut(who) {
            Some(server) => server.process.as_mut(),
            None => self.dealt.gateway.process.as_mut(),
        };
        process.ok_or_else(|| eyre!("process {who} does not run"))
    }

    /// Has a process killed at a point, under load, and starts it again; the adversary then asks it for the opposite of all
    /// that was under way.
    async fn kill(&mut self, who: usize, point: &str) -> Result<()> {
        if point.starts_with(LIED_TO) {
            self.corrupt()?;
        }
        let (file, count) = (self.kill_file(who), 1 + self.random.below(3));
        std::fs::write(&file, format!("{point} {count}"))?;
        let mut rounds = 0;
        while self.process(who)?.is_running() {
            ensure!(rounds < ROUNDS, "process {who} passed {point} less than {count} times in {ROUNDS} rounds");
            self.traffic().await?;
            rounds += 1;
        }
        ensure!(!file.exists(), "process {who} ended on its own: {}", self.process(who)?.log());
        std::fs::remove_file(file.with_extension("hit"))?;
        match who {
            GATEWAY => self.dealt.gateway.start()?,
            _ => self.dealt.network.start_server(who)?,
        }
        self.reform(point).await?;
        self.attack(who).await?;
        self.all_sign().await.wrap_err_with(|| format!("after process {who} was killed at {point}"))
    }

    /// Has any one server replaced by a liar.
    fn corrupt(&mut self) -> Result<()> {
        let (who, key_id) = (self.random.below(GATEWAY), self.dealt.key_id.to_string());
        let lie = ["--key-id", &key_id, "--lie", "wrong-share"];
        self.liar = Some((who, corrupt(&mut self.dealt.network, who, "accomplice", &lie)?));
        Ok(())
    }

    /// The honest server is back. What was written about the liar, the gateway still has.
    async fn reform(&mut self, point: &str) -> Result<()> {
        let Some((who, liar)) = self.liar.take() else { return Ok(()) };
        drop(liar);
        self.dealt.network.start_server(who)?;
        let id = self.dealt.network.servers[who].id.to_string();
        let kept = self.dealt.gateway.get("/v1/evidence").await?.body;
        let names = |row: &Value| row["serverId"] == id;
        let is_named = kept["rows"].as_array().is_some_and(|rows| rows.iter().any(names));
        ensure!(is_named || !point.ends_with("_written"), "the gateway lost the evidence against server {id}: {kept}");
        Ok(())
    }

    async fn attack(&mut self, who: usize) -> Result<()> {
        let mut wanted = Vec::new();
        for duty in self.recent.clone() {
            wanted.extend(self.conflicts(&duty)?);
            wanted.push(duty);
        }
        self.random.shuffle(&mut wanted);
        if who < GATEWAY {
            let signed = self.ask(who, &wanted).await?;
            self.shown.0.entry(who).or_default().extend(signed);
            return Ok(());
        }
        self.wait_for_gateway().await?;
        let answers = join_all(wanted.iter().map(|duty| self.dealt.ask_gateway(duty))).await;
        for (duty, answer) in wanted.iter().zip(answers) {
            self.note_answer(duty, &answer?)?;
        }
        Ok(())
    }

    /// The gateway knows its keys with its first look at the chain.
    async fn wait_for_gateway(&self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let keys = || async { self.dealt.gateway.get("/api/v1/eth2/publicKeys").await };
        while keys().await?.body.as_array().is_none_or(Vec::is_empty) {
            ensure!(Instant::now() < until, "the gateway serves no key");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// A kill costs nothing that comes after it.
    async fn all_sign(&mut self) -> Result<()> {
        self.wait_for_gateway().await?;
        let duties = self.next();
        for duty in &duties {
            let answer = self.dealt.ask_gateway(duty).await?;
            self.dealt.check(duty, &answer)?;
            self.note_answer(duty, &answer)?;
        }
        for who in 0..GATEWAY {
            let signed = self.ask(who, &duties).await?;
            ensure!(signed.len() == duties.len(), "server {who} signs {signed:?}");
            self.shown.0.entry(who).or_default().extend(signed);
        }
        Ok(())
    }

    /// Reads every database, and judges.
    fn judge(&mut self) -> Result<usize> {
        self.dealt.terminate()?;
        let mut roots: BTreeMap<Signed, usize> = BTreeMap::new();
        let mut count = 0;
        for who in 0..=GATEWAY {
            let shown = self.shown.0.remove(&who).unwrap_or_default();
            let (history, kept) = match self.dealt.network.servers.get(who) {
                Some(server) => {
                    (self.dealt.export("stkr-server", &server.config)?, read_evidence(&self.dealt.evidence(who)?)?)
                }
                None => (self.dealt.export("stkr-gateway", &self.dealt.gateway.config)?, Vec::new()),
            };
            let history: BTreeSet<Signed> = read_interchange(&history)?.into_iter().collect();
            let all: BTreeSet<Signed> = shown.iter().chain(&kept).chain(&history).copied().collect();
            ensure!(!all.is_empty(), "process {who} signed nothing");
            if let Some(pair) = slashable_pair(all.iter().copied()) {
                return Err(eyre!("process {who} is slashable: {pair:?}"));
            }
            for signed in shown.iter().chain(&kept) {
                ensure!(history.contains(signed), "process {who} signed {signed:?} and its database does not know");
            }
            if who < GATEWAY {
                all.iter().for_each(|signed| *roots.entry(*signed).or_default() += 1);
            }
            count += all.len();
        }
        // What t servers signed anybody can combine.
        let threshold = usize::from(self.dealt.key.threshold);
        let whole = roots.iter().filter(|(_, servers)| **servers >= threshold).map(|(signed, _)| *signed);
        ensure!(slashable_pair(whole).is_none(), "the validator is slashable");
        Ok(count)
    }
}

fn number(variable: &str, otherwise: u64) -> Result<u64> {
    std::env::var(variable).map_or(Ok(otherwise), |text| text.parse().wrap_err_with(|| format!("{variable}={text}")))
}

#[tokio::test]
async fn whatever_point_a_kill_hits_nobody_ever_signs_two_duties_that_conflict() -> Result<()> {
    let (kills, seed) = (number("STKR_KILLS", 50)?, number("STKR_KILL_SEED", 1)?);
    let points = points()?;
    let least = points.len() as u64;
    ensure!(points.len() >= 30 && kills >= least, "{least} points need as many kills: {points:?}");
    let dir = tempfile::tempdir()?;
    let mut bench = Bench::start(dir.path(), seed).await?;
    let started = Instant::now();
    let mut hits: BTreeMap<String, u64> = BTreeMap::new();
    let mut deck = Vec::new();
    for kill in 0..kills {
        if deck.is_empty() {
            deck.clone_from(&points);
            bench.random.shuffle(&mut deck);
        }
        let (is_gateway, point) = deck.pop().ok_or_else(|| eyre!("no points"))?;
        let who = if is_gateway { GATEWAY } else { bench.random.below(GATEWAY) };
        bench
            .kill(who, &point)
            .await
            .wrap_err_with(|| format!("seed {seed}, kill {kill}: {point} in process {who}"))?;
        if (kill + 1).is_multiple_of(100) {
            let (so_far, seconds) = (kill + 1, started.elapsed().as_secs());
            writeln!(std::io::stderr(), "{so_far} kills after {seconds} s")?;
        }
        *hits.entry(format!("{} {point}", if is_gateway { "gateway" } else { "server" })).or_default() += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    let rounds = bench.round;
    let signed = bench.judge().wrap_err_with(|| format!("seed {seed}"))?;
    let mut out = std::io::stderr().lock();
    writeln!(out, "{kills} kills in {seconds:.1} s, {rounds} rounds, {signed} records, no slashable pair; killed at:")?;
    for (point, count) in &hits {
        writeln!(out, "  {point}: {count}")?;
    }
    ensure!(hits.len() == points.len(), "points that were never hit: {hits:?}");
    Ok(())
}
