//! Which file has a test, and which arguments build that and little more.

use crate::run;
use eyre::{Context, Result, ensure, eyre};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Selected beside the package of a test: together with any one package of the workspace these resolve the features that the
/// whole workspace does. A package alone resolves fewer, and alloy and what lies below it would be compiled again for each.
const COMPANIONS: [&str; 4] = ["stkr-conformance", "stkr-cli", "stkr-adversary", "xtask"];

/// The packages of the workspace.
#[derive(Deserialize)]
pub(crate) struct Packages {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Built>,
}

/// Something that cargo builds of a package.
#[derive(Deserialize)]
struct Built {
    name: String,
    kind: Vec<String>,
    src_path: PathBuf,
}

impl Packages {
    /// Those of the workspace at `dir`.
    pub(crate) fn of(dir: &Path) -> Result<Self> {
        let mut command = run::command("cargo")?;
        command.args(["metadata", "--no-deps", "--locked", "--format-version", "1"]).current_dir(dir);
        let output = command.output().wrap_err("start cargo metadata")?;
        ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).wrap_err("what cargo metadata printed")
    }

    /// Whether a file of target/debug, such as `libstkr_core-0123.rlib`, was built from a package of ours.
    pub(crate) fn made(&self, file: &str) -> bool {
        let name = file.rsplit_once('-').map_or(file, |(name, _)| name).replace('-', "_");
        let is_ours = |name: &str| {
            let targets = self.packages.iter().flat_map(|package| &package.targets).map(|built| &built.name);
            let names = self.packages.iter().map(|package| &package.name);
            names.chain(targets).any(|ours| ours.replace('-', "_") == name)
        };
        is_ours(&name) || name.strip_prefix("lib").is_some_and(is_ours)
    }

    /// Arguments for `cargo test` that build what has the test `test` of `package`.
    pub(crate) fn arguments(&self, package: &str, test: &str) -> Result<Vec<String>> {
        let found = self.packages.iter().find(|candidate| candidate.name == package);
        let selected = found.ok_or_else(|| eyre!("there is no package {package}"))?.selection(test)?;
        let packages = std::iter::once(package).chain(COMPANIONS.into_iter().filter(|name| *name != package));
        Ok(packages.flat_map(|name| ["--package".to_owned(), name.to_owned()]).chain(selected).collect())
    }
}

impl Package {
    /// One or more of `--lib`, `--bin NAME`, `--test NAME`, or `--doc`.
    fn selection(&self, test: &str) -> Result<Vec<String>> {
        let dir = self.manifest_path.parent().unwrap_or(Path::new("."));
        let mut sources = Vec::new();
        for folder in ["src", "tests"] {
            read_all(&dir.join(folder), &mut sources)?;
        }
        self.select(&sources, test)
    }

    /// The same, of sources already read: path and text.
    fn select(&self, sources: &[(PathBuf, String)], test: &str) -> Result<Vec<String>> {
        let dir = self.manifest_path.parent().unwrap_or(Path::new("."));
        let function = format!("fn {}", test.rsplit("::").next().unwrap_or(test));
        let holders = sources.iter().filter(|(_, text)| text.contains(&function));
        let mut options = BTreeSet::new();
        for (path, _) in holders {
            options.insert(self.option(path.strip_prefix(dir).unwrap_or(path), path)?);
        }
        if options.is_empty() && sources.iter().any(|(_, text)| text.contains(&format!("struct {test} "))) {
            // The example in the documentation of a type.
            return Ok(vec!["--doc".into()]);
        }
        ensure!(!options.is_empty(), "{} has no test {test}", self.name);
        Ok(options.into_iter().flatten().collect())
    }

    fn built<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Built> {
        self.targets.iter().filter(move |built| built.kind.iter().any(|of| of == kind))
    }

    fn option(&self, relative: &Path, path: &Path) -> Result<Vec<String>> {
        if let Ok(rest) = relative.strip_prefix("tests") {
            // tests/NAME.rs, or a module of it under tests/NAME/.
            let first = rest.iter().next().unwrap_or_default().to_string_lossy();
            let name = first.strip_suffix(".rs").unwrap_or(&first).to_owned();
            ensure!(self.built("test").any(|built| built.name == name), "{} builds no test {name}", self.name);
            return Ok(vec!["--test".into(), name]);
        }
        let program = self.built("bin").find(|built| built.src_path == path);
        let has_library = self.built("lib").next().is_some();
        match (program, has_library) {
            (None, true) => Ok(vec!["--lib".into()]),
            (Some(built), _) => Ok(vec!["--bin".into(), built.name.clone()]),
            (None, false) => Ok(self.built("bin").flat_map(|built| ["--bin".to_owned(), built.name.clone()]).collect()),
        }
    }
}

/// All Rust files below `dir`, with their text. None when there is no such folder.
fn read_all(dir: &Path, into: &mut Vec<(PathBuf, String)>) -> Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir).wrap_err_with(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            read_all(&path, into)?;
        } else if path.extension().is_some_and(|of| of == "rs") {
            let text = std::fs::read_to_string(&path).wrap_err_with(|| format!("read {}", path.display()))?;
            into.push((path, text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages() -> Packages {
        let built =
            |name: &str, kind: &str, path: &str| serde_json::json!({"name": name, "kind": [kind], "src_path": path});
        let targets = [
            built("stkr_a", "lib", "/w/a/src/lib.rs"),
            built("stkr-a", "bin", "/w/a/src/main.rs"),
            built("daemon", "test", "/w/a/tests/daemon/main.rs"),
        ];
        let package = serde_json::json!({"name": "stkr-a", "manifest_path": "/w/a/Cargo.toml", "targets": targets});
        serde_json::from_value(serde_json::json!({"packages": [package]})).unwrap()
    }

    fn select(files: &[(&str, &str)], test: &str) -> Result<Vec<String>> {
        let sources: Vec<_> = files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        packages().packages[0].select(&sources, test)
    }

    #[test]
    fn only_what_has_the_test_is_built() {
        let module = ("/w/a/src/deep/module.rs", "fn in_module() {}");
        let program = ("/w/a/src/main.rs", "fn in_program() {}");
        let daemon = ("/w/a/tests/daemon/requests.rs", "fn in_daemon() {}");
        let files = [module, program, daemon];
        assert_eq!(select(&files, "deep::module::tests::in_module").unwrap(), ["--lib"]);
        assert_eq!(select(&files, "in_program").unwrap(), ["--bin", "stkr-a"]);
        assert_eq!(select(&files, "in_daemon").unwrap(), ["--test", "daemon"]);
    }

    #[test]
    fn a_test_in_two_places_selects_both_and_one_in_none_is_an_error() {
        let files = [("/w/a/src/lib.rs", "fn twice() {}"), ("/w/a/tests/daemon/main.rs", "fn twice() {}")];
        assert_eq!(select(&files, "twice").unwrap(), ["--lib", "--test", "daemon"]);
        assert!(select(&files, "never").is_err());
    }

    #[test]
    fn the_name_of_a_type_selects_the_examples_of_the_documentation() {
        assert_eq!(select(&[("/w/a/src/lib.rs", "pub struct Secret {}")], "Secret").unwrap(), ["--doc"]);
    }

    #[test]
    fn what_was_built_from_our_packages_is_told_from_the_rest() {
        for ours in ["libstkr_a-01.rlib", "stkr_a-01.d", "stkr-a-01", "daemon-01"] {
            assert!(packages().made(ours), "{ours}");
        }
        for theirs in ["libblst-01.rlib", "blst-01", "libstkr_a_client-01.rlib"] {
            assert!(!packages().made(theirs), "{theirs}");
        }
    }
}
