//! Running other programs, and what every task needs before it starts.

use eyre::{Context, Result, bail, ensure, eyre};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Faults that the adversary knows, as `devnet --adversary` names them: told, and refused, before anything is built.
const FAULTS: [&str; 10] = [
    "invalid-partial",
    "garbage-partial",
    "double-vote",
    "surround-vote",
    "double-proposal",
    "unauthorised-exit",
    "bad-dealing",
    "dealing-equivocation",
    "silence",
    "provider-equivocation",
];

/// Of what an error repeats of a failed run: lines, and characters of each.
const MOST_LINES: usize = 12;
const LONGEST_LINE: usize = 300;

/// The workspace root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// A command that runs at the workspace root with the pinned npm tools first on its PATH.
///
/// Foundry's npm launchers exit 0 whatever the tool they start says, also after failed tests: the binaries behind them come
/// before the launchers.
pub(crate) fn command(program: &str) -> Result<Command> {
    let modules = root().join("node_modules");
    let arch = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let os = if std::env::consts::OS == "macos" { "darwin" } else { std::env::consts::OS };
    let foundry = ["forge", "anvil", "cast"].map(|tool| modules.join(format!("@foundry-rs/{tool}-{os}-{arch}/bin")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = foundry.into_iter().chain([modules.join(".bin")]).chain(std::env::split_paths(&path));
    let mut command = Command::new(program);
    command.current_dir(root()).env("PATH", std::env::join_paths(paths).wrap_err("PATH")?);
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_this_package(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    Ok(command)
}

/// What `cargo xtask` says about xtask itself. Cargo tells build scripts the same about theirs and looks whether it has
/// changed: passed on, it would have ring and all that uses it compiled again after every plain `cargo build`.
fn is_of_this_package(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_") || variable.starts_with("CARGO_MANIFEST_")
}

/// Runs `program args…` at the workspace root; an error carries the command line.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<()> {
    run_command(command(program)?.args(args))
}

/// Runs a prepared command to a good end.
pub(crate) fn run_command(command: &mut Command) -> Result<()> {
    eprintln!("+ {}", describe(command));
    run_quietly(command)
}

/// The same, without saying so first: for command lines as long as a page.
pub(crate) fn run_quietly(command: &mut Command) -> Result<()> {
    let text = describe(command);
    let status = command.status().wrap_err_with(|| format!("start `{text}`; is it installed?"))?;
    if !status.success() {
        bail!("`{text}` failed ({status})");
    }
    Ok(())
}

/// Runs tests; an error repeats what failed, for it is all that is left of a run whose log was cut to its end.
pub(crate) fn tests(command: &mut Command) -> Result<()> {
    let text = describe(command);
    eprintln!("+ {text}");
    let child = command.stdout(Stdio::piped()).spawn();
    let mut child = Leash(child.wrap_err_with(|| format!("start `{text}`; is it installed?"))?);
    let output = child.0.stdout.take().ok_or_else(|| eyre!("{text} has no stdout"))?;
    let mut said = String::new();
    for line in BufReader::new(output).lines() {
        let line = line.wrap_err_with(|| format!("what {text} says"))?;
        writeln!(std::io::stdout().lock(), "{line}")?;
        said.push_str(&line);
        said.push('\n');
    }
    let status = child.0.wait()?;
    ensure!(status.success(), "`{text}` failed ({status}){}", failures(&said));
    Ok(())
}

/// What failed in what tests said, indented: names from forge and from Rust's test programs, and what panicked.
pub(crate) fn failures(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    let is_told = |at: usize| {
        let line = lines.get(at).copied().unwrap_or_default();
        let before = at.checked_sub(1).and_then(|it| lines.get(it)).copied().unwrap_or_default();
        line.contains("[FAIL")
            || line.ends_with(" ... FAILED")
            || [line, before].iter().any(|it| it.contains("panicked at"))
    };
    let told = (0..lines.len()).filter(|at| is_told(*at)).filter_map(|at| lines.get(at));
    let mut short: Vec<String> = Vec::new();
    for line in told.map(|line| line.trim().chars().take(LONGEST_LINE).collect::<String>()) {
        // Forge says it where it happens and once more at its end.
        if !short.contains(&line) {
            short.push(line);
        }
    }
    short.iter().take(MOST_LINES).map(|line| format!("\n    {line}")).collect()
}

/// Runs a prepared command to a good end; what it says comes at its end, in one piece, whatever runs beside it.
pub(crate) fn in_one_piece(command: &mut Command) -> Result<()> {
    let text = describe(command);
    eprintln!("+ {text} (beside the others)");
    let output = command.output().wrap_err_with(|| format!("start `{text}`; is it installed?"))?;
    let mut said = std::io::stderr().lock();
    said.write_all(&output.stdout)?;
    said.write_all(&output.stderr)?;
    let failed = || failures(&String::from_utf8_lossy(&output.stdout));
    ensure!(output.status.success(), "`{text}` failed ({}){}", output.status, failed());
    Ok(())
}

/// Runs a prepared command to any end; one that takes longer than `longest` is ended and an error.
pub(crate) fn within(command: &mut Command, longest: Duration) -> Result<ExitStatus> {
    let text = describe(command);
    eprintln!("+ {text}");
    let mut child = Leash(command.spawn().wrap_err_with(|| format!("start `{text}`; is it installed?"))?);
    let until = Instant::now() + longest;
    while Instant::now() < until {
        if let Some(status) = child.0.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("`{text}` took longer than {longest:?}")
}

/// A process that ends with this value.
pub(crate) struct Leash(pub(crate) Child);

impl Drop for Leash {
    fn drop(&mut self) {
        // Errors say that it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Standard output of `program args…` at the workspace root.
pub(crate) fn output(program: &str, args: &[&str]) -> Result<String> {
    let output = command(program)?.args(args).output().wrap_err_with(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!("`{program} {}` failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).wrap_err_with(|| format!("what {program} printed"))
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Installs the npm packages of package-lock.json unless exactly these are installed.
pub(crate) fn node_packages() -> Result<()> {
    node_packages_of(&root())
}

/// The same, and the packages that only tests need.
pub(crate) fn node_packages_of_tests() -> Result<()> {
    node_packages()?;
    node_packages_of(&root().join("tests/lodestar/ssz"))
}

/// Lodestar: 274 MB that only `devnet --lodestar` needs.
pub(crate) fn node_packages_of_lodestar() -> Result<()> {
    node_packages_of(&root().join("tests/lodestar/client"))
}

fn node_packages_of(folder: &Path) -> Result<()> {
    let lock = folder.join("package-lock.json");
    let lock = std::fs::read(&lock).wrap_err_with(|| lock.display().to_string())?;
    let stamp = folder.join("node_modules/.stkr-lock");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    let mut npm = command("npm")?;
    run_command(npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(folder))?;
    std::fs::write(&stamp, lock).wrap_err_with(|| format!("write {}", stamp.display()))
}

/// Builds the binaries that devnet and end-to-end tests start, beside this program's own. Of the whole workspace: a
/// selection of packages would resolve other features, and compile most dependencies again.
pub(crate) fn build_binaries() -> Result<()> {
    build(&["--bins"])
}

/// The whole workspace, so that one set of features is compiled; `options` say what of it.
pub(crate) fn build(options: &[&str]) -> Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    run(&cargo, &[&["build", "--locked", "--workspace"], options].concat())
}

/// Compiles the contracts as they are deployed (via-IR). About 80 s when nothing is cached.
pub(crate) fn build_contracts() -> Result<()> {
    compile_contracts(&[])
}

fn compile_contracts(options: &[&str]) -> Result<()> {
    let mut forge = command("forge")?;
    forge.args(["build", "--skip", "tests/**"]).args(options).env("FOUNDRY_PROFILE", "release");
    run_command(&mut forge)
}

/// Writes abi/*.json from the release build, or with `check` compares. What is written comes from a whole compilation: the
/// bytecode of via-IR depends on which other files the compiler was given.
pub(crate) fn abi(check: bool) -> Result<()> {
    compile_contracts(if check { &[] } else { &["--force"] })?;
    let script = root().join("script/abi.mjs");
    let script = script.to_str().ok_or_else(|| eyre!("the workspace path is not UTF-8"))?;
    if check { run("node", &[script, "--check"]) } else { run("node", &[script]) }
}

/// Builds what a devnet needs, then becomes the devnet: one process, so that a signal to it reaches the network.
pub(crate) fn devnet(args: &[String]) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    match fault_of(args) {
        Some("list") => {
            writeln!(std::io::stdout().lock(), "{}", FAULTS.join("\n"))?;
            return Ok(());
        }
        Some(name) => check_fault(name)?,
        None => {}
    }
    let mut devnet = prepared_devnet(args)?;
    Err(devnet.exec()).wrap_err_with(|| format!("start {}", describe(&devnet)))
}

/// Sixteen validators sign through the network with a stock validator client, and their chain finalises.
pub(crate) fn lodestar() -> Result<()> {
    run_command(&mut prepared_devnet(&["--lodestar", "--once"].map(str::to_owned))?)
}

/// Every fault on command, each in a network of its own, judged by the checker; and each without the Court, where none may end well.
pub(crate) fn adversary() -> Result<()> {
    let once = |fault: &str| ["--adversary", fault, "--once", "--block-ms", "400"].map(str::to_owned);
    let mut listing = prepared_devnet(&once("list"))?;
    let listed = String::from_utf8(listing.output().wrap_err("start devnet")?.stdout).wrap_err("the list of faults")?;
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    ensure!(names == FAULTS, "devnet lists {names:?}, not {FAULTS:?}");
    for name in names {
        eprintln!("{name}:");
        run_command(&mut devnet_command(&once(name))?)?;
        eprintln!("{name}, without the Court:");
        let mut without = devnet_command(&once(name))?;
        let output = without.arg("--without-court").stderr(Stdio::inherit()).output().wrap_err("start devnet")?;
        let line = last_line(&output.stdout)?;
        ensure!(is_not_ok(&line, name) && !output.status.success(), "{name} without the Court ends in {line}");
    }
    Ok(())
}

fn last_line(stdout: &[u8]) -> Result<Value> {
    let text = std::str::from_utf8(stdout).wrap_err("what devnet prints")?;
    let last = text.lines().last().ok_or_else(|| eyre!("devnet ends without a line"))?;
    serde_json::from_str(last).wrap_err_with(|| format!("devnet ends in no JSON: {last}"))
}

/// Whether the line says of this fault that it was not punished, and why.
fn is_not_ok(line: &Value, fault: &str) -> bool {
    let reason = line.get("reason").and_then(Value::as_str);
    line.get("ok") == Some(&json!(false)) && line.get("fault") == Some(&json!(fault)) && reason.is_some()
}

/// What follows `--adversary`.
fn fault_of(args: &[String]) -> Option<&str> {
    let joined = args.iter().find_map(|it| it.strip_prefix("--adversary="));
    let place = || args.iter().position(|it| it == "--adversary");
    joined.or_else(|| args.get(place()?.checked_add(1)?).map(String::as_str))
}

fn check_fault(name: &str) -> Result<()> {
    ensure!(FAULTS.contains(&name), "there is no fault {name}; `cargo xtask devnet --adversary list` prints all");
    Ok(())
}

fn prepared_devnet(args: &[String]) -> Result<Command> {
    if args.iter().any(|arg| arg == "--lodestar") {
        node_packages_of_lodestar()?;
    }
    node_packages()?;
    build_binaries()?;
    build_contracts()?;
    devnet_command(args)
}

fn devnet_command(args: &[String]) -> Result<Command> {
    let here = std::env::current_exe().wrap_err("where this program is")?;
    let mut devnet = command(&here.with_file_name("devnet").to_string_lossy())?;
    devnet.args(args);
    Ok(devnet)
}

/// The same for a bench of a whole network, `program` with the `programs` that it starts, compiled as they are released.
pub(crate) fn load(program: &str, programs: &[&str], args: &[String]) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    node_packages()?;
    // Only what runs: linking a released binary takes a minute and more.
    let wanted = ["leash", program].into_iter().chain(programs.iter().copied());
    let options: Vec<&str> = ["--release"].into_iter().chain(wanted.flat_map(|name| ["--bin", name])).collect();
    build(&options)?;
    build_contracts()?;
    let load = root().join("target/release").join(program);
    Err(command(&load.to_string_lossy())?.args(args).exec()).wrap_err_with(|| format!("start {}", load.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_there_is_not_is_refused_before_anything_is_built() {
        let args = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        for words in [&["--once", "--adversary", "theft"][..], &["--adversary=theft"]] {
            assert_eq!(fault_of(&args(words)), Some("theft"));
            assert!(devnet(&args(words)).unwrap_err().to_string().starts_with("there is no fault theft"), "{words:?}");
        }
        assert!(FAULTS.iter().all(|name| check_fault(name).is_ok()));
        for words in [&["--once"][..], &["--adversary"], &[]] {
            assert_eq!(fault_of(&args(words)), None);
        }
        assert!(devnet(&args(&["--adversary", "list"])).is_ok());
    }

    #[test]
    fn an_error_repeats_what_failed_and_once() {
        let forge =
            "[PASS] test_A() (gas: 1)\n[FAIL: P7: 8 != 6]\n\t[Sequence]\n\nFailing tests:\n[FAIL: P7: 8 != 6]\n";
        assert_eq!(failures(forge), "\n    [FAIL: P7: 8 != 6]");
        let rust = "test a ... ok\ntest b ... FAILED\nthread 'b' panicked at x.rs:1:1:\nnot equal\nnote: run with\n";
        assert_eq!(failures(rust), "\n    test b ... FAILED\n    thread 'b' panicked at x.rs:1:1:\n    not equal");
        assert_eq!(failures("test a ... ok\n"), "");
        let many: String = (0..100).map(|number| format!("test {number} ... FAILED\n")).collect();
        assert_eq!(failures(&many).lines().skip(1).count(), MOST_LINES);
    }

    #[test]
    fn tests_that_fail_are_named_in_the_error() {
        let shell = |script: &str| tests(command("sh").unwrap().args(["-c", script]));
        let error = shell("echo '[FAIL: made up by a test of xtask]'; exit 1").unwrap_err().to_string();
        assert!(error.ends_with("failed (exit status: 1)\n    [FAIL: made up by a test of xtask]"), "{error}");
        assert!(shell("echo 'test a ... ok'").is_ok());
    }

    #[test]
    fn a_run_without_the_court_passes_only_with_a_last_line_that_says_why_it_is_not_ok() {
        let said = |text: &str| last_line(text.as_bytes()).is_ok_and(|line| is_not_ok(&line, "silence"));
        assert!(said("first\n{\"ok\":false,\"fault\":\"silence\",\"reason\":\"nothing was proven\"}\n"));
        for text in [
            "",
            "no JSON",
            "{\"ok\":true,\"fault\":\"silence\",\"reason\":\"nothing was proven\"}",
            "{\"ok\":false,\"fault\":\"double-vote\",\"reason\":\"nothing was proven\"}",
            "{\"ok\":false,\"fault\":\"silence\"}",
        ] {
            assert!(!said(text), "{text}");
        }
    }

    #[test]
    fn a_command_is_not_told_about_this_package() {
        // Set in tests as in `cargo xtask`.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some() && std::env::var_os("CARGO_PKG_NAME").is_some());
        let command = command("true").unwrap();
        for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION_MAJOR"] {
            assert!(command.get_envs().any(|(removed, value)| removed == name && value.is_none()), "{name}");
        }
        assert!(command.get_envs().all(|(name, _)| name != "CARGO"));
    }
}
