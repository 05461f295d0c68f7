//! The tests of all crates. Cargo builds them and this module runs them, because Cargo runs one after another: end-to-end
//! tests wait for blocks most of their time, so several run at once.

use crate::run;
use eyre::{Context, Result, bail, ensure, eyre};
use serde::Deserialize;
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Networks at once. Each takes most of one core while its servers start, and little later.
const NETWORKS: usize = 3;
/// Others at once. Some of them wait for an anvil too.
const CORES: usize = 2;
/// End-to-end tests for `--full`. Two lie to the checkers of `cargo xtask devnet`, and so test what tests the product; one kills
/// every server of a reshare at each of its points, of which `reshare_carried` has some; `withdrawal_key` is what
/// `cargo xtask devnet` does too, with `offline_servers` for the wrong inputs; `reshare_offline` does both with
/// files, and `capella` has a Lodestar node besides.
const LONG: [&str; 9] = [
    "e2e: adversary (test)",
    "e2e: capella (test)",
    "e2e: checker (test)",
    "e2e: foreign_deposits (test)",
    "e2e: offline_kills (test)",
    "e2e: reshare (test)",
    "e2e: reshare_offline (test)",
    "e2e: stolen_disks (test)",
    "e2e: withdrawal_key (test)",
];
/// Folder of the end-to-end tests in the workspace.
const END_TO_END: &str = "tests/e2e";

/// A test program that Cargo built.
#[derive(Debug, PartialEq)]
struct Program {
    /// Such as `stkr-core (lib)`.
    name: String,
    /// Folder of its package, where Cargo would start it.
    folder: PathBuf,
    executable: PathBuf,
}

/// What Cargo says of a thing it built, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds all tests and runs them, but for the long ones; every failure is reported, not just the first.
pub(crate) fn test() -> Result<()> {
    // End-to-end tests start all programs, and a build of tests makes only some of them.
    run::build_binaries()?;
    let programs = build()?;
    let programs = programs.into_iter().filter(|it| !it.is_long());
    let (slow, fast): (Vec<_>, Vec<_>) = programs.partition(Program::is_end_to_end);
    ensure!(!slow.is_empty() && !fast.is_empty(), "cargo built no tests");
    let mut failed = run_all(fast, CORES);
    failed.extend(run_all(slow, NETWORKS));
    if let Err(error) = run::run(&cargo(), &["test", "--workspace", "--locked", "--doc", "--no-fail-fast"]) {
        failed.push(format!("examples in docstrings: {error:#}"));
    }
    if failed.is_empty() { Ok(()) } else { bail!("these tests failed:\n  {}", failed.join("\n  ")) }
}

/// The long ones.
pub(crate) fn long() -> Result<()> {
    run::build_binaries()?;
    run::node_packages_of_lodestar()?;
    let programs: Vec<_> = build()?.into_iter().filter(Program::is_long).collect();
    ensure!(programs.len() == LONG.len(), "cargo built {} of {LONG:?}", programs.len());
    let failed = run_all(programs, NETWORKS);
    if failed.is_empty() { Ok(()) } else { bail!("these tests failed:\n  {}", failed.join("\n  ")) }
}

pub(crate) fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

/// One build of the whole workspace, with one set of features.
fn build() -> Result<Vec<Program>> {
    let mut command = run::command(&cargo())?;
    command.args(["test", "--workspace", "--locked", "--no-run", "--message-format=json-render-diagnostics"]);
    let mut child = run::Leash(command.stdout(Stdio::piped()).spawn().wrap_err("start cargo")?);
    let output = child.0.stdout.take().ok_or_else(|| eyre!("cargo has no stdout"))?;
    let mut programs = Vec::new();
    for line in BufReader::new(output).lines() {
        programs.extend(program(&line.wrap_err("what cargo says")?)?);
    }
    ensure!(child.0.wait()?.success(), "the tests do not compile");
    Ok(programs)
}

/// The test program that a line of Cargo's tells of, if it does.
fn program(line: &str) -> Result<Option<Program>> {
    let message: Message = serde_json::from_str(line).wrap_err_with(|| format!("cargo said {line}"))?;
    let (Some(executable), Some(manifest), Some(target)) = (message.executable, message.manifest_path, message.target)
    else {
        return Ok(None);
    };
    if message.reason != "compiler-artifact" || !message.profile.is_some_and(|profile| profile.test) {
        return Ok(None);
    }
    let folder = manifest.parent().unwrap_or(Path::new("/")).to_path_buf();
    let package = folder.file_name().unwrap_or_default().to_string_lossy();
    let name = format!("{package}: {} ({})", target.name, target.kind.join(", "));
    Ok(Some(Program { name, folder, executable }))
}

impl Program {
    /// Unit tests of that package start nothing.
    fn is_end_to_end(&self) -> bool {
        self.folder.ends_with(END_TO_END) && self.name.ends_with("(test)")
    }

    fn is_long(&self) -> bool {
        LONG.contains(&self.name.as_str())
    }

    /// Runs it; what it says comes in one piece, however many run beside it.
    fn run(&self) -> Result<()> {
        let start = Instant::now();
        let mut command = Command::new(&self.executable);
        let output = command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder).output();
        let output = output.wrap_err_with(|| format!("start {}", self.executable.display()))?;
        let mut said = std::io::stderr().lock();
        writeln!(said, "\n     Running {}: {} s", self.name, start.elapsed().as_secs())?;
        said.write_all(&output.stdout)?;
        said.write_all(&output.stderr)?;
        let text = || String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "{}: {}{}", self.name, output.status, run::failures(&text()));
        Ok(())
    }
}

/// Runs programs, `workers` at a time, and says which failed.
fn run_all(programs: Vec<Program>, workers: usize) -> Vec<String> {
    let waiting = Mutex::new(VecDeque::from(programs));
    let failed = Mutex::new(Vec::new());
    let lock = |error: PoisonError<_>| PoisonError::into_inner(error);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some(program) = waiting.lock().unwrap_or_else(lock).pop_front() else { return };
                    if let Err(error) = program.run() {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{error:#}"));
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"reason":"compiler-artifact","package_id":"x","manifest_path":"/a/tests/e2e/Cargo.toml",
        "target":{"kind":["test"],"name":"kills"},"profile":{"test":true},"executable":"/a/target/kills-1"}"#;

    #[test]
    fn test_programs_are_told_from_libraries_binaries_and_the_end() {
        let kills = program(LINE).unwrap().unwrap();
        assert_eq!((kills.name.as_str(), kills.is_end_to_end()), ("e2e: kills (test)", true));
        assert_eq!(kills.executable, Path::new("/a/target/kills-1"));
        let unit = program(&LINE.replace("[\"test\"]", "[\"bin\"]")).unwrap().unwrap();
        assert!(!unit.is_end_to_end());
        assert_eq!(program(&LINE.replace("\"test\":true", "\"test\":false")).unwrap(), None);
        assert_eq!(program(r#"{"reason":"build-finished","success":true}"#).unwrap(), None);
    }

    #[test]
    fn every_failure_is_named_and_nothing_is_run_twice() {
        let shell = |name: &str, executable: &str| Program {
            name: name.into(),
            folder: "/".into(),
            executable: executable.into(),
        };
        let programs = ["/bin/true", "/bin/false", "/bin/true", "/no/such/program"].map(|path| shell(path, path));
        let mut failed = run_all(programs.into(), 2);
        failed.sort_unstable();
        assert_eq!(failed.len(), 2, "{failed:?}");
        assert!(failed[0].starts_with("/bin/false: exit status: 1"), "{failed:?}");
        assert!(failed[1].starts_with("start /no/such/program: "), "{failed:?}");
    }
}
