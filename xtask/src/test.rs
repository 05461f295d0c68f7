//! `cargo xtask test`: everything that is meant to fit in 25 minutes on two cores. `--full` adds the long ones.

use crate::{bite, crates, fuzz, halmos, kills, run, schemathesis, slither};
use eyre::{Result, WrapErr as _, bail, ensure};
use std::time::Instant;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also the long ones: static analysis, symbolic execution, requests from the descriptions of the APIs, every
    /// fault on command, a thousand kills, a twentieth of the defences taken out.
    #[arg(long)]
    full: bool,
    /// Only the steps whose name contains this, e.g. `slither`.
    #[arg(long)]
    only: Option<String>,
}

/// A name for people, and what it does.
type Step = (&'static str, fn() -> Result<()>);

/// Steps that run beside all others: one thread of the compiler for minutes, in folders of their own.
const BESIDE: [Step; 1] = [("contracts: gas snapshots and budgets", gas)];

pub(crate) fn run(args: &Args) -> Result<()> {
    run::node_packages_of_tests()?;
    let steps: &[Step] = &[
        ("binaries", run::build_binaries),
        ("contracts: unit, fuzz, invariants", contracts),
        ("contracts: against vectors that @noble and blst make in the run", differential),
        ("abi/ against the contracts", || run::abi(true)),
        ("fuzz: wrong inputs for every parser", fuzz::short),
        ("lodestar: a validator client whose chain finalises", run::lodestar),
        ("crates: unit, conformance, end to end", crates::test),
    ];
    let long: &[Step] = &[
        ("fuzz: a million wrong inputs for every parser", fuzz::long),
        ("core: 200 cases of every property of ceremonies and reshares", properties),
        ("contracts: 10,000 runs of every fuzz test of the Court", court),
        ("contracts: 1,000 runs of every other fuzz test", others),
        ("contracts: every gas limit, with the code that is deployed", gas_limits),
        ("slither: static analysis", slither::run),
        ("halmos: accounting for all inputs", halmos::run),
        ("schemathesis: both APIs from their descriptions", schemathesis::run),
        ("crates: the long end-to-end tests", crates::long),
        ("adversary: every fault on command", run::adversary),
        ("kills: 1,000 at named points", kills::run),
        ("kills: a release has no such points", kills::release),
        ("defences bite: a twentieth of them", || bite::run(&bite::Args::of_today())),
    ];
    let wanted = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let chosen: Vec<_> =
        steps.iter().chain(long.iter().filter(|_| args.full)).filter(|(name, _)| wanted(name)).collect();
    let is_beside = BESIDE.iter().any(|(name, _)| wanted(name));
    ensure!(!chosen.is_empty() || is_beside, "no step has such a name; the long ones need --full");
    let failed: Vec<_> = std::thread::scope(|scope| {
        let beside =
            scope.spawn(|| BESIDE.iter().filter(|(name, _)| wanted(name)).filter_map(|it| attempt(it).err()).collect());
        let failed: Vec<_> = chosen.into_iter().filter_map(|step| attempt(step).err()).collect();
        let beside = beside.join().unwrap_or_else(|_| vec!["a step beside the others panicked".to_owned()]);
        failed.into_iter().chain(beside).collect()
    });
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\n")) }
}

/// Runs one step and says how long it took. A failure does not keep the next steps from being tried: whoever waits half an
/// hour wants to hear of all.
fn attempt((name, step): &Step) -> Result<(), String> {
    let start = Instant::now();
    eprintln!("== {name}");
    let done = step().map_err(|error| format!("{name}: {error:#}"));
    let verdict = if done.is_ok() { "passed" } else { "FAILED" };
    eprintln!("== {name}: {verdict} after {} s", start.elapsed().as_secs());
    done
}

fn contracts() -> Result<()> {
    run::tests(run::command("forge")?.args(["test", "--no-match-path", "tests/contracts/{gas,differential}/*"]))
}

/// The one step in which a contract test starts programs.
fn differential() -> Result<()> {
    let here = std::env::current_exe().wrap_err("where this program is")?;
    let mut command = run::command("forge")?;
    command.args(["test", "--match-path", "tests/contracts/differential/*"]);
    command.env("STKR_BLST_VECTORS", here.with_file_name("blst_vectors"));
    run::tests(command.env("FOUNDRY_PROFILE", "differential"))
}

/// Committees up to 22-of-32, which take a second each.
fn properties() -> Result<()> {
    let mut command = run::command(&crates::cargo())?;
    command.args(["test", "--locked", "-p", "stkr-core", "--lib", "--", "dkg::", "reshare::"]);
    run::tests(command.env("PROPTEST_CASES", "200"))
}

/// What could frame an honest server gets forty times the tries.
fn court() -> Result<()> {
    let mut command = run::command("forge")?;
    command.args(["test", "--match-path", "tests/contracts/court/*", "--match-test", "testFuzz_"]);
    run::tests(command.env("FOUNDRY_PROFILE", "long"))
}

/// The rest gets four times the tries.
fn others() -> Result<()> {
    let mut command = run::command("forge")?;
    command.args([
        "test",
        "--no-match-path",
        "tests/contracts/{court,gas,differential}/*",
        "--match-test",
        "testFuzz_",
    ]);
    run::tests(command.env("FOUNDRY_PROFILE", "more"))
}

/// Where a proof runs out of gas is a matter of the code, and the compiler makes another of it for the release than for all other tests.
fn gas_limits() -> Result<()> {
    let mut command = run::command("forge")?;
    command.args(["test", "--match-path", "tests/contracts/court/GasLimits.t.sol"]);
    run::tests(command.env("FOUNDRY_PROFILE", "release"))
}

/// Gas is exact: any difference from snapshots/ fails, and so does a budget of the gas tests.
fn gas() -> Result<()> {
    let mut command = run::command("forge")?;
    command.args(["test", "--match-path", "tests/contracts/gas/*"]);
    run::in_one_piece(command.env("FOUNDRY_PROFILE", "snapshot").env("FORGE_SNAPSHOT_CHECK", "true"))
}
