//! `cargo xtask bite`: every defence has a patch in tests/bite/ that takes it out and names the test that must then
//! fail. A patch that no longer applies, or whose test still passes, is an error.

use crate::{halmos, run, slither};
use eyre::{Context, Result, bail, eyre};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only patches whose file name contains this.
    name: Option<String>,
}

impl Args {
    /// Every patch.
    pub(crate) fn all() -> Self {
        Self { name: None }
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

pub(crate) fn run(args: &Args) -> Result<()> {
    run::node_packages()?;
    let mut patches = patches()?;
    patches.retain(|path| args.name.as_ref().is_none_or(|name| path.to_string_lossy().contains(name.as_str())));
    if patches.is_empty() {
        bail!("no patch in tests/bite/ matches");
    }
    let copy = Copy::make()?;
    let mut blunt = Vec::new();
    for patch in &patches {
        match copy.bites(patch) {
            Ok(()) => eprintln!("bites: {}", patch.display()),
            Err(error) => {
                eprintln!("does NOT bite: {}: {error:#}", patch.display());
                blunt.push(patch.display().to_string());
            }
        }
    }
    eprintln!("{} passed, {} failed", patches.len() - blunt.len(), blunt.len());
    if blunt.is_empty() { Ok(()) } else { bail!("{} of {} patches do not bite", blunt.len(), patches.len()) }
}

/// All patches, in order of their names.
fn patches() -> Result<Vec<PathBuf>> {
    let folder = run::root().join("tests/bite");
    let mut patches: Vec<PathBuf> = std::fs::read_dir(&folder)
        .wrap_err_with(|| format!("read {}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    Ok(patches)
}

/// The `CONTRACT::CHECK` that patches break.
pub(crate) fn halmos_targets() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for patch in patches()? {
        if let Target::Halmos { contract, check } = target(&patch)? {
            names.insert(format!("{contract}::{check}"));
        }
    }
    Ok(names)
}

fn target(patch: &Path) -> Result<Target> {
    let text = std::fs::read_to_string(patch)?;
    parse_target(text.lines().next().unwrap_or_default())
        .ok_or_else(|| eyre!("{}: its first line names no test, see `Target` in xtask/src/bite.rs", patch.display()))
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

/// A copy of the tracked files under target/, with its own build folder, so that a crash leaves no defence out.
struct Copy {
    dir: PathBuf,
}

impl Copy {
    fn make() -> Result<Self> {
        let dir = run::root().join("target/bite");
        std::fs::create_dir_all(&dir)?;
        let copy = Self { dir };
        copy.sync()?;
        let modules = copy.dir.join("node_modules");
        if !modules.exists() {
            std::os::unix::fs::symlink(run::root().join("node_modules"), &modules)?;
        }
        if !copy.dir.join(".git").exists() {
            run::run_command(Command::new("git").args(["init", "--quiet"]).current_dir(&copy.dir))?;
        }
        Ok(copy)
    }

    /// Copies files whose content differs, so that unchanged ones keep their time and stay built.
    fn sync(&self) -> Result<()> {
        for file in run::output("git", &["ls-files", "--cached", "--others", "--exclude-standard"])?.lines() {
            let (from, to) = (run::root().join(file), self.dir.join(file));
            let Ok(content) = std::fs::read(&from) else { continue };
            if std::fs::read(&to).is_ok_and(|old| old == content) {
                continue;
            }
            std::fs::create_dir_all(to.parent().unwrap_or(&self.dir))?;
            std::fs::write(&to, content)?;
            std::fs::set_permissions(&to, std::fs::metadata(&from)?.permissions())?;
        }
        Ok(())
    }

    fn git_apply(&self, patch: &Path, reverse: bool) -> Result<()> {
        let mut command = Command::new("git");
        command.arg("apply").current_dir(&self.dir);
        if reverse {
            command.arg("--reverse");
        }
        run::run_command(command.arg(patch))
    }

    /// The patched copy's test must run and fail; the same test passes in the unpatched tree (`cargo xtask test`).
    fn bites(&self, patch: &Path) -> Result<()> {
        let target = target(patch)?;
        self.git_apply(patch, false)?;
        let verdict = self.fails(&target);
        self.git_apply(patch, true)?;
        verdict
    }

    fn fails(&self, target: &Target) -> Result<()> {
        let (mut command, sign) = match target {
            Target::Halmos { contract, check } => return halmos::breaks(&self.dir, contract, check),
            Target::Slither { detector } => return slither::finds(&self.dir, detector),
            Target::Forge { contract, test } => {
                let mut command = run::command("forge")?;
                command.args([
                    "test",
                    "--match-contract",
                    &format!("^{contract}$"),
                    "--match-test",
                    &format!("^{test}\\b"),
                ]);
                (command, "[FAIL")
            }
            Target::Cargo { package, test } => {
                if package == "stkr-e2e" {
                    // Its tests start the programs, which a build of this package alone does not make.
                    let mut build = run::command("cargo")?;
                    build.args(["build", "--locked", "--workspace", "--bins"]);
                    run::run_command(build.current_dir(&self.dir))?;
                }
                let mut command = run::command("cargo")?;
                command.args(["test", "--locked", "--package", package, "--", test]);
                (command, "test result: FAILED")
            }
        };
        let output = command.current_dir(&self.dir).output()?;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() {
            bail!("the test {target:?} passes without the defence");
        }
        // A build that breaks, or a name that matches nothing, must not count as a bite.
        if !text.contains(sign) {
            bail!("no test ran:\n{}", text.lines().rev().take(15).collect::<Vec<_>>().join("\n"));
        }
        Ok(())
    }
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
}
