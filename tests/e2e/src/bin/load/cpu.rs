//! CPU time per process, and what it was spent on.
//!
//! The totals are the kernel's (`utime + stime`). The shares come from `perf record` on the CPU clock: each sample falls
//! into one class by the thread it hit and by the innermost symbol. So a class counts what runs in its own functions, and
//! copies and kernel work done for TLS or HTTP count as the rest; the threads that write databases count as SQLite with
//! everything they do, fsync included.

use crate::network::World;
use eyre::{Context, Result, ensure, eyre};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use stkr_e2e::process::cpu_seconds as of_process;

/// CPU seconds of one process by what they were spent on.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Used {
    pub(crate) total: f64,
    /// `None` without samples.
    pub(crate) split: Option<Split>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Split {
    pub(crate) crypto: f64,
    pub(crate) tls: f64,
    pub(crate) sqlite: f64,
    pub(crate) rest: f64,
}

/// Counts from its start to its stop.
pub(crate) struct Meter {
    before: BTreeMap<String, f64>,
    perf: Option<(Child, PathBuf)>,
}

impl Meter {
    pub(crate) fn start(world: &World, samples: u32, dir: &Path) -> Result<Self> {
        let processes = world.processes();
        let pids: Vec<String> = processes.iter().map(|(_, pid)| pid.to_string()).collect();
        let perf = if samples == 0 {
            None
        } else {
            let file = dir.join("perf.data");
            let child = Command::new("perf")
                .args(["record", "-q", "-e", "cpu-clock", "-F", &samples.to_string(), "-p", &pids.join(","), "-o"])
                .arg(&file)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .wrap_err("start perf; is it installed? --samples 0 goes without the split")?;
            Some((child, file))
        };
        let before = processes.into_iter().map(|(name, pid)| Ok((name, of_process(pid)?))).collect::<Result<_>>()?;
        Ok(Self { before, perf })
    }

    pub(crate) fn stop(self, world: &World) -> Result<BTreeMap<String, Used>> {
        let mut used = BTreeMap::new();
        for (name, pid) in world.processes() {
            let before = self.before.get(&name).copied().unwrap_or_default();
            used.insert(name, Used { total: of_process(pid)? - before, split: None });
        }
        let Some((mut child, file)) = self.perf else { return Ok(used) };
        end(&mut child)?;
        let samples = Samples::read(&file)?;
        for (name, pid) in world.processes() {
            if let Some(entry) = used.get_mut(&name) {
                entry.split = samples.split(pid, entry.total);
            }
        }
        samples.show(world);
        Ok(used)
    }
}

/// SIGINT is how perf is told to write its file.
fn end(perf: &mut Child) -> Result<()> {
    let pid = i32::try_from(perf.id()).ok().and_then(rustix::process::Pid::from_raw).ok_or_else(|| eyre!("no pid"))?;
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    let until = Instant::now() + Duration::from_secs(60);
    while perf.try_wait()?.is_none() {
        ensure!(Instant::now() < until, "perf does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Crypto,
    Tls,
    Sqlite,
    Rest,
}

/// Threads that do nothing but write databases.
const DATABASE_THREADS: [&str; 3] = ["protection", "evidence", "keeper"];
/// Parts of symbols; the first class that has one of a symbol's parts gets it.
const CRYPTO: [&str; 16] = [
    "blst",
    "_384",
    "_fp2",
    "_fp6",
    "_fp12",
    "secp256k1",
    "keccak",
    "sha256",
    "sha3",
    "sha2",
    "mont_",
    "POINTonE",
    "stkr_core",
    "tree_hash",
    "ethereum_hashing",
    "miller",
];
const TLS: [&str; 7] = ["ring_core", "rustls", "ring::", "chacha20", "aes_gcm", "gcm_", "aes_hw"];
/// SQLite's inner functions have no common name, and what the kernel does for a file has none at all.
const SQLITE: [&str; 16] = [
    "sqlite3",
    "rusqlite",
    "stkr_protection",
    "pager",
    "walWrite",
    "walFind",
    "unixWrite",
    "vdbe",
    "btree",
    "pcache",
    "moveToRoot",
    "balance_",
    "ext4",
    "jbd2",
    "fsync",
    "datasync",
];

fn class_of(thread: &str, symbol: &str) -> Class {
    let has = |parts: &[&str]| parts.iter().any(|part| symbol.contains(part));
    if DATABASE_THREADS.contains(&thread) || has(&SQLITE) {
        Class::Sqlite
    } else if has(&TLS) {
        Class::Tls
    } else if has(&CRYPTO) {
        Class::Crypto
    } else {
        Class::Rest
    }
}

/// Samples by process, class and symbol.
#[derive(Debug, Default)]
struct Samples(BTreeMap<(u32, Class, String), u32>);

impl Samples {
    fn read(file: &Path) -> Result<Self> {
        let output = Command::new("perf").args(["script", "-F", "comm,pid,ip,sym", "-i"]).arg(file).output()?;
        ensure!(output.status.success(), "perf script: {}", String::from_utf8_lossy(&output.stderr));
        let mut samples = Self::default();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            samples.add(line);
        }
        Ok(samples)
    }

    /// `THREAD PID ADDRESS SYMBOL…`: thread names have no spaces in our programs but may in others.
    fn add(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(at) = words.iter().skip(1).position(|word| word.parse::<u32>().is_ok()) else { return };
        let Some((Ok(pid), thread)) = words.get(at + 1).map(|pid| (pid.parse(), words[..=at].join(" "))) else {
            return;
        };
        let symbol = words.get(at + 3..).unwrap_or_default().join(" ");
        let class = class_of(&thread, &symbol);
        *self.0.entry((pid, class, symbol)).or_default() += 1;
    }

    fn split(&self, pid: u32, total: f64) -> Option<Split> {
        let count = |class: Option<Class>| -> f64 {
            let of = self.0.iter().filter(|((of, it, _), _)| *of == pid && class.is_none_or(|class| class == *it));
            of.map(|(_, count)| f64::from(*count)).fold(0.0, |sum, count| sum + count)
        };
        let all = count(None);
        let part = |class| total * count(Some(class)) / all;
        (all > 0.0).then(|| Split {
            crypto: part(Class::Crypto),
            tls: part(Class::Tls),
            sqlite: part(Class::Sqlite),
            rest: part(Class::Rest),
        })
    }

    /// The symbols of the rest that cost most, for whoever looks for waste.
    fn show(&self, world: &World) {
        for (name, pid) in world.processes().into_iter().filter(|(name, _)| name == "server-1" || name == "gateway") {
            let of = self.0.iter().filter(|((of, _, _), _)| *of == pid);
            let all: u32 = of.clone().map(|(_, count)| count).sum();
            let mut most: Vec<_> = of.map(|((_, class, symbol), count)| (count, class, symbol)).collect();
            most.sort_by(|a, b| b.cmp(a));
            eprintln!("{name}: {all} samples");
            for (count, class, symbol) in most.into_iter().take(40) {
                eprintln!("  {count:>6} {class:?} {symbol}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_sample_falls_into_the_class_of_its_thread_or_symbol() {
        let mut samples = Samples::default();
        for line in [
            "tokio-rt-worker  77 55aa mulx_mont_384",
            "protection  77 55aa fdatasync [kernel]",
            "tokio-rt-worker  77 55aa rustls::conn::read",
            "tokio-rt-worker  77 55aa serde_json::de::parse",
            "a b  77 55aa main",
            "anvil  78 55aa main",
            "nothing",
        ] {
            samples.add(line);
        }
        let split = samples.split(77, 10.0).unwrap();
        assert_eq!((split.crypto, split.sqlite, split.tls, split.rest), (2.0, 2.0, 2.0, 4.0));
        assert!(samples.split(79, 1.0).is_none());
    }

    #[test]
    fn a_process_that_computes_uses_cpu_time() {
        let before = of_process(std::process::id()).unwrap();
        let until = Instant::now() + Duration::from_millis(200);
        while Instant::now() < until {
            std::hint::black_box(0);
        }
        assert!(of_process(std::process::id()).unwrap() > before);
    }
}
