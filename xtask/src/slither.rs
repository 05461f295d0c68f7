//! Slither over the contracts: no finding of high or medium impact. What is not a fault is answered where it stands, by a
//! `slither-disable` comment for one detector with the reason above it.

use crate::{python, run};
use eyre::{Context, Result, bail, eyre};
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Report {
    success: bool,
    error: Option<String>,
    results: Results,
}

#[derive(Default, Deserialize)]
struct Results {
    /// Absent when there are none.
    #[serde(default)]
    detectors: Vec<Finding>,
}

#[derive(Deserialize)]
struct Finding {
    check: String,
    impact: String,
    description: String,
}

impl Finding {
    fn is_grave(&self) -> bool {
        matches!(self.impact.as_str(), "High" | "Medium")
    }
}

pub(crate) fn run() -> Result<()> {
    let (findings, scope) = analyse(&run::root())?;
    let grave: Vec<_> = findings.iter().filter(|finding| finding.is_grave()).collect();
    for finding in &grave {
        eprintln!("{} ({}): {}", finding.impact, finding.check, finding.description.trim_end());
    }
    let slight = findings.len() - grave.len();
    eprintln!("slither: {scope}; {} of high or medium impact, {slight} of low impact", grave.len());
    if grave.is_empty() { Ok(()) } else { bail!("slither found {} faults of high or medium impact", grave.len()) }
}

/// Whether Slither finds a fault of this detector in the tree at `dir`; `Ok` if it does.
pub(crate) fn finds(dir: &Path, detector: &str) -> Result<()> {
    let (findings, _) = analyse(dir)?;
    if findings.iter().any(|finding| finding.is_grave() && finding.check == detector) {
        return Ok(());
    }
    bail!("slither does not find {detector}")
}

/// What Slither finds in the tree at `dir`, and how much it says it has looked at.
fn analyse(dir: &Path) -> Result<(Vec<Finding>, String)> {
    let out = dir.join("target/slither");
    std::fs::create_dir_all(&out)?;
    let report = out.join("report.json");
    // It refuses to overwrite one.
    if report.exists() {
        std::fs::remove_file(&report)?;
    }
    let mut command = run::command(&python::tool("slither")?)?;
    command.current_dir(dir).env("FOUNDRY_PROFILE", "slither");
    command.args([".", "--config-file", "tests/slither.json", "--json"]).arg(&report);
    let output = command.output().wrap_err("start slither")?;
    let log = String::from_utf8_lossy(&output.stderr);
    let text = std::fs::read(&report).map_err(|_| eyre!("slither wrote no report:\n{log}"))?;
    let report: Report = serde_json::from_slice(&text).wrap_err("the report of slither")?;
    if !report.success {
        bail!("slither failed: {}\n{log}", report.error.unwrap_or_default());
    }
    Ok((report.results.detectors, scope(&log)?))
}

/// How much was looked at, from the log. A function that Slither cannot read it passes over with a line in the log: that
/// is a failure here.
fn scope(log: &str) -> Result<String> {
    let passed_over: Vec<_> = log.lines().filter(|line| line.starts_with("ERROR")).collect();
    if !passed_over.is_empty() {
        bail!("slither cannot read everything:\n{}", passed_over.join("\n"));
    }
    let analysed = log.lines().find_map(|line| Some(line.split_once(" analyzed (")?.1.split_once(')')?.0));
    analysed.map(String::from).ok_or_else(|| eyre!("slither does not say what it has analysed:\n{log}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scope_is_what_slither_says() {
        let log =
            "'forge build' running\nINFO:Slither:. analyzed (54 contracts with 76 detectors), 28 result(s) found\n";
        assert_eq!(scope(log).unwrap(), "54 contracts with 76 detectors");
    }

    #[test]
    fn a_function_that_slither_passed_over_is_a_failure() {
        let log =
            "ERROR:ContractSolcParsing:Impossible to generate IR for A.f\nINFO:Slither:. analyzed (1 contracts)\n";
        assert!(scope(log).unwrap_err().to_string().contains("A.f"));
        assert!(scope("").is_err());
    }

    #[test]
    fn a_report_without_findings_has_no_list() {
        let report: Report = serde_json::from_str(r#"{"success":true,"error":null,"results":{}}"#).unwrap();
        assert!(report.success && report.results.detectors.is_empty());
    }
}
