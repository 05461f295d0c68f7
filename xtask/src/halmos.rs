//! Halmos over tests/contracts/symbolic: each `check_` function there holds for every input, or there is a counterexample.
//! Each is named by a patch in tests/bite/ that breaks it, so that none holds because it asks nothing.

use crate::{bite, python, run};
use eyre::{Context, Result, ensure, eyre};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

const FOLDER: &str = "tests/contracts/symbolic";
/// Far more than the checks take; an end if a change makes them explode.
const LONGEST: Duration = Duration::from_secs(20 * 60);

/// Exit codes of single checks.
const HOLDS: u32 = 0;
const COUNTEREXAMPLE: u32 = 1;

#[derive(Deserialize)]
struct Report {
    test_results: BTreeMap<String, Vec<Verdict>>,
}

#[derive(Debug, Deserialize)]
struct Verdict {
    /// With the types of its arguments.
    name: String,
    /// 0 holds, 1 counterexample, 2 timeout, 3 stuck, 4 every path reverts, 5 error.
    exitcode: u32,
    num_models: Option<u32>,
    /// All, successful, stuck.
    num_paths: Option<(u64, u64, u64)>,
    /// Loops that went on beyond the bound.
    num_bounded_loops: Option<u32>,
}

impl Verdict {
    /// Whether every path was followed to its end and no assertion fails on any.
    fn holds(&self) -> bool {
        self.exitcode == HOLDS && self.num_bounded_loops == Some(0)
    }
}

pub(crate) fn run() -> Result<()> {
    let properties = properties()?;
    let unproven: Vec<_> = properties.difference(&bite::halmos_targets()?).cloned().collect();
    ensure!(unproven.is_empty(), "no patch in tests/bite/ breaks {}", unproven.join(", "));

    let verdicts = verdicts(&run::root(), &[])?;
    let broken: Vec<_> = verdicts.iter().filter(|(_, verdict)| !verdict.holds()).collect();
    for (name, verdict) in &broken {
        eprintln!("halmos: {name} is not shown to hold: {verdict:?}");
    }
    let seen: BTreeSet<_> = verdicts.keys().cloned().collect();
    ensure!(seen == properties, "halmos looked at {seen:?}, {FOLDER} has {properties:?}");
    let paths: u64 = verdicts.values().filter_map(|verdict| verdict.num_paths).map(|paths| paths.0).sum();
    eprintln!("halmos: {} of {} properties hold, on {paths} paths", seen.len() - broken.len(), seen.len());
    ensure!(broken.is_empty(), "{} properties do not hold", broken.len());
    Ok(())
}

/// Whether Halmos finds inputs that break `check` of `contract` in the tree at `dir`; `Ok` if it does. A timeout is none.
pub(crate) fn breaks(dir: &Path, contract: &str, check: &str) -> Result<()> {
    let only = ["--contract", contract, "--match-test", &format!("^{check}\\b"), "--early-exit"];
    let verdicts = verdicts(dir, &only)?;
    let verdict = verdicts.get(&format!("{contract}::{check}")).ok_or_else(|| eyre!("there is no such check"))?;
    ensure!(
        verdict.exitcode == COUNTEREXAMPLE && verdict.num_models.is_some_and(|models| models > 0),
        "halmos finds no counterexample: {verdict:?}"
    );
    Ok(())
}

/// `CONTRACT::CHECK` and what Halmos says of it, in the tree at `dir`.
fn verdicts(dir: &Path, arguments: &[&str]) -> Result<BTreeMap<String, Verdict>> {
    let out = dir.join("target/symbolic");
    std::fs::create_dir_all(&out)?;
    let report = out.join("report.json");
    if report.exists() {
        std::fs::remove_file(&report)?;
    }
    let mut command = run::command(&python::tool("python3")?)?;
    command.current_dir(dir).env("FOUNDRY_PROFILE", "symbolic").arg(run::root().join(FOLDER).join("run_halmos.py"));
    command.args(["--forge-build-out", "target/symbolic/out", "--no-status", "--solver-timeout-assertion", "5m"]);
    command.args(arguments).arg("--json-output").arg(&report);
    // Its exit code says less than the report.
    let _ = run::within(&mut command, LONGEST)?;
    let text = std::fs::read(&report).wrap_err("halmos wrote no report; its words are above")?;
    let report: Report = serde_json::from_slice(&text).wrap_err("the report of halmos")?;
    let named = report.test_results.into_iter().flat_map(|(file_and_contract, verdicts)| {
        let contract = file_and_contract.rsplit(':').next().unwrap_or_default().to_owned();
        verdicts.into_iter().map(move |verdict| (format!("{contract}::{}", before_arguments(&verdict.name)), verdict))
    });
    Ok(named.collect())
}

fn before_arguments(signature: &str) -> &str {
    signature.split('(').next().unwrap_or(signature)
}

/// Every `CONTRACT::CHECK` in the folder.
fn properties() -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(run::root().join(FOLDER)).wrap_err(FOLDER)? {
        all.extend(properties_of(&std::fs::read_to_string(entry?.path())?));
    }
    ensure!(!all.is_empty(), "{FOLDER} has no check");
    Ok(all)
}

fn properties_of(source: &str) -> Vec<String> {
    let mut contract = "";
    let mut found = Vec::new();
    for line in source.lines() {
        if let Some(rest) = line.strip_prefix("contract ") {
            contract = rest.split_whitespace().next().unwrap_or_default();
        }
        if let Some(rest) = line.trim_start().strip_prefix("function check_") {
            found.push(format!("{contract}::check_{}", before_arguments(rest)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(exitcode: u32, loops: u32) -> Verdict {
        let name = "check_a(uint256)".into();
        Verdict { name, exitcode, num_models: Some(0), num_paths: Some((1, 1, 0)), num_bounded_loops: Some(loops) }
    }

    #[test]
    fn a_timeout_and_a_loop_cut_short_do_not_hold() {
        assert!(verdict(HOLDS, 0).holds());
        assert!(!verdict(HOLDS, 1).holds());
        for exitcode in 1..=5 {
            assert!(!verdict(exitcode, 0).holds());
        }
    }

    #[test]
    fn properties_are_read_from_the_source() {
        let source = "library L {}\ncontract ACheck is Test {\n    function check_b(uint256 x) public {\n";
        assert_eq!(properties_of(source), ["ACheck::check_b"]);
    }
}
