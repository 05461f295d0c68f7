//! `cargo xtask bite`: every defence has a patch in tests/bite/ that takes it out and names the test that must then
//! fail. A patch that no longer applies, or whose test still passes, is an error.
//!
//! Two workers, one for contracts and one for crates, each with a copy of the repository of its own: patches of the one
//! never touch what the tests of the other are made of.

mod copy;
mod select;

use crate::{halmos, run, slither};
use copy::Copy;
use eyre::{Context, Result, bail, eyre};
use select::Packages;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only patches whose file name or first line contains this, e.g. `server-` or `bites: forge`.
    name: Option<String>,
    /// Only the Kth of N parts, e.g. `3/20`: all of them take many hours.
    #[arg(long, value_name = "K/N")]
    part: Option<Part>,
}

/// Parts of which each `--full` tries one.
const PARTS: u64 = 20;

impl Args {
    /// The part of the day: whoever runs `--full` every day has tried every defence after [`PARTS`] days.
    pub(crate) fn of_today() -> Self {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let part = Part { number: seconds / (24 * 3600) % PARTS + 1, of: PARTS };
        eprintln!("part {}/{} of tests/bite/", part.number, part.of);
        Self { name: None, part: Some(part) }
    }
}

/// One of `of` parts, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    number: u64,
    of: u64,
}

impl Part {
    /// Whether the patch at this place belongs to it. Neighbours do not: a part has some of every room.
    fn takes(self, place: u64) -> bool {
        place % self.of + 1 == self.number
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            _ => Err(format!("{text} is no part; the third of twenty is 3/20")),
        }
    }
}

/// The first line of a patch: `# bites: forge CONTRACT::TEST`, `# bites: cargo CRATE TEST`,
/// `# bites: halmos CONTRACT::CHECK` or `# bites: slither DETECTOR`.
#[derive(Debug, PartialEq)]
enum Target {
    Forge { contract: String, test: String },
    Cargo { package: String, test: String },
    Halmos { contract: String, check: String },
    Slither { detector: String },
}

impl Target {
    fn is_cargo(&self) -> bool {
        matches!(self, Self::Cargo { .. })
    }

    /// Neighbours share a build. End-to-end tests come last: they take minutes each.
    fn order(&self) -> (bool, &str) {
        match self {
            Self::Cargo { package, .. } => (package == END_TO_END, package),
            Self::Forge { contract, .. } | Self::Halmos { contract, .. } => (false, contract),
            Self::Slither { .. } => (false, ""),
        }
    }
}

/// Its tests start the programs, which a build of this package alone does not make.
const END_TO_END: &str = "stkr-e2e";

struct Patch {
    path: PathBuf,
    line: String,
    target: Target,
}

impl Patch {
    fn read(path: PathBuf) -> Result<Self> {
        let text = std::fs::read_to_string(&path).wrap_err_with(|| format!("read {}", path.display()))?;
        let line = text.lines().next().unwrap_or_default().to_owned();
        let target = parse_target(&line).ok_or_else(|| {
            eyre!("{}: its first line names no test, see `Target` in xtask/src/bite.rs", path.display())
        })?;
        Ok(Self { path, line, target })
    }

    fn name(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn matches(&self, word: &str) -> bool {
        self.name().contains(word) || self.line.contains(word)
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    run::node_packages()?;
    let mut chosen = patches()?;
    chosen.retain(|patch| args.name.as_ref().is_none_or(|name| patch.matches(name)));
    if let Some(part) = args.part {
        chosen = (0..).zip(chosen).filter(|(place, _)| part.takes(*place)).map(|(_, patch)| patch).collect();
    }
    if chosen.is_empty() {
        bail!("no patch in tests/bite/ matches");
    }
    let count = chosen.len();
    chosen.sort_by(|left, right| left.target.order().cmp(&right.target.order()));
    let (crates, contracts): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|patch| patch.target.is_cargo());
    let (crates, contracts) = std::thread::scope(|scope| {
        let crates = scope.spawn(|| blunt("cargo", &crates));
        let contracts = blunt("forge", &contracts);
        (crates.join().unwrap_or_else(|_| Err(eyre!("the worker for crates panicked"))), contracts)
    });
    let mut blunt = contracts?;
    blunt.extend(crates?);
    for name in &blunt {
        eprintln!("does NOT bite: {name}");
    }
    eprintln!("{} passed, {} failed", count - blunt.len(), blunt.len());
    if blunt.is_empty() { Ok(()) } else { bail!("{} of {count} patches do not bite", blunt.len()) }
}

/// Tries `patches` one after another in the copy of this name; returns the names of those that do not bite.
fn blunt(copy: &str, patches: &[Patch]) -> Result<Vec<String>> {
    if patches.is_empty() {
        return Ok(Vec::new());
    }
    let copy = Copy::make(copy)?;
    let packages = Packages::of(copy.dir())?;
    let mut blunt = Vec::new();
    for patch in patches {
        let start = Instant::now();
        let verdict = bites(&copy, &packages, patch);
        let seconds = start.elapsed().as_secs();
        match verdict {
            Ok(()) => eprintln!("bites: {} ({seconds} s)", patch.name()),
            Err(error) => {
                eprintln!("does NOT bite: {} ({seconds} s): {error:#}", patch.name());
                blunt.push(patch.name());
            }
        }
    }
    Ok(blunt)
}

/// All patches, in order of their names.
fn patches() -> Result<Vec<Patch>> {
    let folder = run::root().join("tests/bite");
    let mut patches: Vec<PathBuf> = std::fs::read_dir(&folder)
        .wrap_err_with(|| format!("read {}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    patches.into_iter().map(Patch::read).collect()
}

/// The `CONTRACT::CHECK` that patches break.
pub(crate) fn halmos_targets() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for patch in patches()? {
        if let Target::Halmos { contract, check } = patch.target {
            names.insert(format!("{contract}::{check}"));
        }
    }
    Ok(names)
}

fn parse_target(line: &str) -> Option<Target> {
    let (tool, rest) = line.strip_prefix("# bites: ")?.trim().split_once(' ')?;
    match tool {
        "forge" => {
            let (contract, test) = rest.split_once("::")?;
            Some(Target::Forge { contract: contract.into(), test: test.into() })
        }
        "cargo" => {
            let (package, test) = rest.split_once(' ')?;
            Some(Target::Cargo { package: package.into(), test: test.into() })
        }
        "halmos" => {
            let (contract, check) = rest.split_once("::")?;
            Some(Target::Halmos { contract: contract.into(), check: check.into() })
        }
        "slither" => Some(Target::Slither { detector: rest.into() }),
        _ => None,
    }
}

/// The patched copy's test must run and fail; the same test passes in the unpatched tree (`cargo xtask test`).
fn bites(copy: &Copy, packages: &Packages, patch: &Patch) -> Result<()> {
    copy.apply(&patch.path)?;
    let verdict = fails(copy.dir(), packages, &patch.target);
    copy.reverse(&patch.path)?;
    verdict
}

fn fails(dir: &Path, packages: &Packages, target: &Target) -> Result<()> {
    let (mut command, sign) = match target {
        Target::Halmos { contract, check } => return halmos::breaks(dir, contract, check),
        Target::Slither { detector } => return slither::finds(dir, detector),
        Target::Forge { contract, test } => (forge_test(contract, test)?, "[FAIL"),
        Target::Cargo { package, test } => (cargo_test(dir, packages, package, test)?, "test result: FAILED"),
    };
    let output = command.current_dir(dir).output().wrap_err("start the test")?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        bail!("the test {target:?} passes without the defence");
    }
    // A build that breaks, or a name that matches nothing, must not count as a bite.
    if !text.contains(sign) {
        let end: Vec<_> = text.lines().collect();
        bail!("no test ran:\n{}", end[end.len().saturating_sub(15)..].join("\n"));
    }
    Ok(())
}

/// With or without `--match-path`, forge compiles no more than the files that the patch and the test reach.
fn forge_test(contract: &str, test: &str) -> Result<Command> {
    let mut command = run::command("forge")?;
    command.args(["test", "--match-contract", &format!("^{contract}$"), "--match-test", &format!("^{test}\\b")]);
    Ok(command)
}

fn cargo_test(dir: &Path, packages: &Packages, package: &str, test: &str) -> Result<Command> {
    if package == END_TO_END {
        let mut build = cargo(dir)?;
        run::run_command(build.args(["build", "--locked", "--workspace", "--bins"]))?;
    }
    let mut command = cargo(dir)?;
    command.args(["test", "--locked"]).args(packages.arguments(package, test)?).args(["--", test]);
    Ok(command)
}

fn cargo(dir: &Path) -> Result<Command> {
    let mut command = run::command("cargo")?;
    command.current_dir(dir).env("CARGO_TARGET_DIR", dir.join("target"));
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_patch_names_the_test_that_must_fail() {
        let forge = Target::Forge { contract: "KeyRegistryTest".into(), test: "test_draw".into() };
        assert_eq!(parse_target("# bites: forge KeyRegistryTest::test_draw"), Some(forge));
        let cargo = Target::Cargo { package: "stkr-core".into(), test: "a_test".into() };
        assert_eq!(parse_target("# bites: cargo stkr-core a_test"), Some(cargo));
        let halmos = Target::Halmos { contract: "BondCheck".into(), check: "check_B1".into() };
        assert_eq!(parse_target("# bites: halmos BondCheck::check_B1"), Some(halmos));
        let slither = Target::Slither { detector: "reentrancy-eth".into() };
        assert_eq!(parse_target("# bites: slither reentrancy-eth"), Some(slither));
        assert_eq!(parse_target("diff --git a/x b/x"), None);
    }

    #[test]
    fn parts_are_counted_from_one_and_every_patch_is_in_exactly_one() {
        for wrong in ["", "3", "0/20", "21/20", "1/0", "a/b", "-1/2"] {
            assert!(wrong.parse::<Part>().is_err(), "{wrong}");
        }
        let parts: Vec<Part> = (1..=3).map(|number| format!("{number}/3").parse().unwrap()).collect();
        for place in 0..10 {
            assert_eq!(parts.iter().filter(|part| part.takes(place)).count(), 1);
        }
    }

    #[test]
    fn patches_of_one_package_are_neighbours_and_end_to_end_ones_come_last() {
        let cargo = |package: &str| Target::Cargo { package: package.into(), test: "a".into() };
        let mut targets = [cargo("stkr-e2e"), cargo("stkr-server"), cargo("stkr-core"), cargo("stkr-server")];
        targets.sort_by(|left, right| left.order().cmp(&right.order()));
        assert_eq!(targets, [cargo("stkr-core"), cargo("stkr-server"), cargo("stkr-server"), cargo("stkr-e2e")]);
    }
}
