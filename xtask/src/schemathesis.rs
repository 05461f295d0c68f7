//! Schemathesis makes requests from docs/openapi/, good ones and bad ones, and looks at every answer: only what is described,
//! in status, headers and body; a bad request refused, a good one taken. First to a network that works, then to one that has
//! lost its chain. Settings are in tests/schemathesis.toml.

use crate::{python, run};
use eyre::{Context, Result, bail, ensure, eyre};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Longest time until the network says something: it makes a key first.
const NETWORK: Duration = Duration::from_secs(600);
/// Operations that take nothing but evidence of a real fault, messages of a reshare or files of an offline server, of which there is
/// none in the network that is probed: end-to-end tests commit a fault, reshare a key and carry files.
const NEEDS_MORE: [&str; 6] = [
    "GET /v1/evidence/{id}",
    "GET /v1/offline/{serverId}/{keyId}",
    "GET /v1/reshares/{keyId}/{committeeEpoch}/{attempt}",
    "POST /v1/evidence",
    "POST /v1/offline",
    "POST /v1/reshares/advance",
];
/// Longest time for one API.
const PROBE: Duration = Duration::from_secs(600);

pub(crate) fn run() -> Result<()> {
    run::node_packages()?;
    run::build_binaries()?;
    let mut network = Network::start()?;
    let config = network.config()?;
    let found = &network.whereabouts;
    let mut probes = [Probe::server(found), Probe::relayer(found), Probe::gateway(found)];
    for probe in &probes {
        let report = probe.run(&network.dir, &config, "with a chain")?;
        report.reached(&probe.operations()?)?;
    }
    network.take("chain")?;
    // Whether requests get far was shown with a chain; without one and without servers most answers are refusals.
    let [.., gateway] = &mut probes;
    gateway.options.extend(["--warnings".to_owned(), "off".to_owned()]);
    for probe in &probes {
        probe.run(&network.dir, &config, "without a chain")?;
    }
    network.take("servers")?;
    let [.., gateway] = &probes;
    gateway.run(&network.dir, &config, "without servers")?;
    Ok(())
}

/// What the program `apis` says first.
#[derive(Deserialize)]
struct Whereabouts {
    server: String,
    certificate: PathBuf,
    key: PathBuf,
    relayer: String,
    gateway: String,
    /// Validators that the gateway signs for.
    identifiers: Vec<String>,
}

/// The program `apis` of tests/e2e, which ends with this value, and all that it has started with it.
struct Network {
    dir: PathBuf,
    whereabouts: Whereabouts,
    orders: ChildStdin,
    lines: Receiver<String>,
    _process: run::Leash,
}

impl Network {
    fn start() -> Result<Self> {
        let dir = run::root().join("target/apis");
        if dir.exists() {
            std::fs::remove_dir_all(&dir).wrap_err_with(|| format!("remove {}", dir.display()))?;
        }
        std::fs::create_dir_all(&dir)?;
        let program = std::env::current_exe().wrap_err("where this program is")?.with_file_name("apis");
        let mut command = run::command(&program.to_string_lossy())?;
        command.arg("--dir").arg(&dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(File::create(dir.join("apis.log"))?);
        let mut process = run::Leash(command.spawn().wrap_err_with(|| format!("start {}", program.display()))?);
        let orders = process.0.stdin.take().ok_or_else(|| eyre!("apis has no stdin"))?;
        let output = process.0.stdout.take().ok_or_else(|| eyre!("apis has no stdout"))?;
        let (sender, lines) = channel();
        // Ends with the process.
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        let first = answer(&lines, &dir)?;
        let whereabouts = serde_json::from_str(&first).wrap_err_with(|| format!("apis said {first}"))?;
        Ok(Self { dir, whereabouts, orders, lines, _process: process })
    }

    fn take(&mut self, what: &str) -> Result<()> {
        self.orders.write_all(b"\n").wrap_err_with(|| format!("tell apis to take the {what} away"))?;
        let said = answer(&self.lines, &self.dir)?;
        ensure!(said == format!(r#"{{"{what}":null}}"#), "apis said {said}");
        Ok(())
    }

    /// The settings, with the validators that only this network has.
    fn config(&self) -> Result<String> {
        let path = run::root().join("tests/schemathesis.toml");
        let text = std::fs::read_to_string(&path).wrap_err_with(|| path.display().to_string())?;
        let quoted: Vec<String> = self.whereabouts.identifiers.iter().map(|key| format!("\"{key}\"")).collect();
        let filled = text.replace("\"IDENTIFIERS\"", &quoted.join(", "));
        ensure!(filled != text, "{} has no place for identifiers", path.display());
        Ok(filled)
    }
}

fn answer(lines: &Receiver<String>, dir: &Path) -> Result<String> {
    lines.recv_timeout(NETWORK).map_err(|_| {
        let log = std::fs::read_to_string(dir.join("apis.log")).unwrap_or_default();
        eyre!("apis says nothing more; its log in {}:\n{log}", dir.display())
    })
}

/// One API and how to reach it.
struct Probe {
    name: &'static str,
    url: String,
    options: Vec<String>,
}

impl Probe {
    /// Over mutual TLS. The certificate of a server stands for itself and for no host name: clients know its SHA-256 from the
    /// server registry, which Schemathesis cannot be told. Tests of the relayer show that another certificate is refused.
    fn server(found: &Whereabouts) -> Self {
        let mut options = vec!["--tls-verify".to_owned(), "false".to_owned()];
        for (option, path) in [("--request-cert", &found.certificate), ("--request-cert-key", &found.key)] {
            options.extend([option.to_owned(), path.to_string_lossy().into_owned()]);
        }
        Self { name: "server", url: found.server.clone(), options }
    }

    fn relayer(found: &Whereabouts) -> Self {
        Self { name: "relayer", url: found.relayer.clone(), options: Vec::new() }
    }

    fn gateway(found: &Whereabouts) -> Self {
        Self { name: "gateway", url: found.gateway.clone(), options: Vec::new() }
    }

    /// The committed description; unit tests show that it is the served one. From a URL, Schemathesis would pass over the path
    /// it was loaded from.
    fn document(&self) -> PathBuf {
        run::root().join(format!("docs/openapi/{}.json", self.name))
    }

    /// `METHOD /path` of every operation that is described.
    fn operations(&self) -> Result<BTreeSet<String>> {
        let path = self.document();
        let text = std::fs::read(&path).wrap_err_with(|| path.display().to_string())?;
        operations(&serde_json::from_slice(&text).wrap_err_with(|| path.display().to_string())?)
    }

    /// The settings without those for operations of the other APIs, of which Schemathesis warns.
    fn settings(&self, config: &str) -> Result<String> {
        let mut settings: toml::Table = toml::from_str(config).wrap_err("tests/schemathesis.toml")?;
        let own = self.operations()?;
        if let Some(toml::Value::Array(operations)) = settings.get_mut("operations") {
            operations
                .retain(|it| it.get("include-name").and_then(|it| it.as_str()).is_some_and(|it| own.contains(it)));
        }
        Ok(toml::to_string(&settings)?)
    }

    fn run(&self, dir: &Path, config: &str, state: &str) -> Result<Report> {
        eprintln!("{} {state}:", self.name);
        let settings = dir.join("schemathesis.toml");
        std::fs::write(&settings, self.settings(config)?)?;
        let report = dir.join(format!("{}.json", self.name));
        let mut command = run::command(&python::tool("schemathesis")?)?;
        self.arguments(&mut command, &settings, &report);
        // What it leaves behind is not for the workspace. A proxy would answer in place of the server.
        command.current_dir(dir).env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
        let status = run::within(&mut command, PROBE)?;
        ensure!(
            status.success(),
            "the API of the {} {state} is not as described, or takes what it must not",
            self.name
        );
        let text = std::fs::read(&report).wrap_err_with(|| format!("{} has not been written", report.display()))?;
        std::fs::remove_file(&report)?;
        let report: Report = serde_json::from_slice(&text).wrap_err("the report of schemathesis")?;
        report.is_whole(self.operations()?.len())?;
        Ok(report)
    }

    fn arguments(&self, command: &mut Command, config: &Path, report: &Path) {
        command.arg("--config-file").arg(config);
        command.arg("run").arg(self.document()).args(["--url", &self.url]).args(&self.options);
        command.args(["--report", "json", "--report-json-path"]).arg(report);
    }
}

fn operations(document: &serde_json::Value) -> Result<BTreeSet<String>> {
    let paths = document["paths"].as_object().ok_or_else(|| eyre!("the description has no paths"))?;
    let described = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().into_iter().flat_map(serde_json::Map::keys);
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    Ok(described.collect())
}

/// What Schemathesis has done.
#[derive(Deserialize)]
struct Report {
    complete: bool,
    operations: Tested,
    /// By operation, then by phase.
    valid_rates: BTreeMap<String, BTreeMap<String, Rate>>,
}

#[derive(Deserialize)]
struct Tested {
    tested: usize,
}

#[derive(Deserialize)]
struct Rate {
    accepted: u64,
}

impl Report {
    /// An operation that was passed over must not count as one without faults.
    fn is_whole(&self, described: usize) -> Result<()> {
        let tested = self.operations.tested;
        ensure!(
            self.complete && tested == described,
            "schemathesis tried {tested} of {described} operations to the end"
        );
        Ok(())
    }

    /// Refusals alone would say nothing about the answers that matter.
    fn reached(&self, operations: &BTreeSet<String>) -> Result<()> {
        let accepted = |operation: &&String| {
            let phases = self.valid_rates.get(operation.as_str());
            phases.is_some_and(|phases| phases.values().any(|rate| rate.accepted > 0))
        };
        let needs_more = |operation: &&String| NEEDS_MORE.contains(&operation.as_str());
        let never = operations.iter().filter(|operation| !accepted(operation) && !needs_more(operation));
        let never: Vec<_> = never.map(String::as_str).collect();
        if never.is_empty() { Ok(()) } else { bail!("no request was accepted: {}", never.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(accepted: u64) -> Report {
        let text = format!(
            r#"{{"complete":true,"operations":{{"tested":1}},"valid_rates":{{"GET /a":{{"fuzzing":{{"accepted":{accepted}}}}}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn operations_are_methods_and_paths() {
        let document = serde_json::json!({"paths": {"/a": {"get": {}, "post": {}}, "/b": {"get": {}}}});
        assert_eq!(operations(&document).unwrap(), ["GET /a", "GET /b", "POST /a"].map(String::from).into());
        assert!(operations(&serde_json::json!({})).is_err());
    }

    #[test]
    fn an_operation_that_was_passed_over_is_a_failure() {
        assert!(report(1).is_whole(1).is_ok());
        assert!(report(1).is_whole(2).is_err());
    }

    #[test]
    fn an_operation_that_only_refused_is_a_failure() {
        let operations = ["GET /a".to_owned()].into();
        assert!(report(1).reached(&operations).is_ok());
        assert!(report(0).reached(&operations).unwrap_err().to_string().contains("GET /a"));
        assert!(report(1).reached(&["GET /b".to_owned()].into()).is_err());
    }
}
