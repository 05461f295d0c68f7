//! `cargo xtask lint`: formatting, clippy, and the arrows between crates.

use crate::run;
use eyre::{Context, Result, bail, eyre};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Rooms of the house from the ground up; a crate may depend on crates of lower floors only. Crates that share a
/// floor do not know each other.
const FLOORS: &[&[&str]] = &[
    &["stkr-core", "stkr-files", "stkr-kill-points"],
    &["stkr-duties"],
    &["stkr-protocol"],
    &["stkr-protection", "stkr-chain"],
    &["stkr-node", "stkr-sdk"],
    &["stkr-server", "stkr-relayer", "stkr-gateway", "stkr-cli"],
    &["stkr-adversary"],
    &["stkr-e2e", "stkr-conformance"],
    &["stkr-fuzz"],
    &["xtask"],
];

/// Crates that only tests may use: no product crate depends on them.
const TEST_ONLY: &[&str] = &["stkr-adversary", "stkr-e2e", "stkr-conformance", "stkr-fuzz", "xtask"];

pub(crate) fn run() -> Result<()> {
    run::node_packages()?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    run::run(&cargo, &["fmt", "--all", "--check"])?;
    layers(&cargo)?;
    run::run("forge", &["fmt", "--check"])?;
    run::run(&cargo, &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
    #[serde(default)]
    features: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    features: Vec<String>,
}

/// Fails on any arrow that does not point down.
fn layers(cargo: &str) -> Result<()> {
    let text = run::output(cargo, &["metadata", "--format-version", "1", "--no-deps", "--locked"])?;
    let metadata: Metadata = serde_json::from_str(&text).wrap_err("cargo metadata")?;
    let wrong = wrong_arrows(&metadata.packages)?;
    if !wrong.is_empty() {
        bail!("dependencies against the layers (see Cargo.toml):\n  {}", wrong.join("\n  "));
    }
    let dealers = trusted_dealers(&metadata.packages);
    if !dealers.is_empty() {
        bail!("crates that could deal whole keys outside tests (feature `testing`): {}", dealers.join(", "));
    }
    let splitters = splitters(&metadata.packages);
    if !splitters.is_empty() {
        bail!("only stkr-cli splits whole keys (feature `splitter`), not {}", splitters.join(", "));
    }
    let armed = armed(&metadata.packages);
    if !armed.is_empty() {
        bail!("only stkr-e2e arms kill points (feature `armed`), not {}", armed.join(", "));
    }
    let manifest = run::root().join("Cargo.toml");
    let manifest = std::fs::read_to_string(&manifest).wrap_err_with(|| manifest.display().to_string())?;
    if manifest.contains("debug-assertions") {
        bail!("Cargo.toml changes debug-assertions: a release that has them could have kill points");
    }
    eprintln!("layers: {} crates, every dependency points down", metadata.packages.len());
    Ok(())
}

fn wrong_arrows(packages: &[Package]) -> Result<Vec<String>> {
    let floor_of: BTreeMap<&str, usize> =
        FLOORS.iter().enumerate().flat_map(|(floor, names)| names.iter().map(move |name| (*name, floor))).collect();
    let mut wrong = Vec::new();
    for package in packages {
        let name = package.name.as_str();
        let floor = *floor_of.get(name).ok_or_else(|| eyre!("crate {name} has no floor in xtask/src/lint.rs"))?;
        for dependency in &package.dependencies {
            let Some(&below) = floor_of.get(dependency.name.as_str()) else { continue };
            // A crate's own tests may use any room but the harness that starts whole networks.
            let is_test = dependency.kind.as_deref() == Some("dev");
            let test_only = TEST_ONLY.contains(&dependency.name.as_str()) && !TEST_ONLY.contains(&name);
            if test_only || (!is_test && below >= floor) {
                wrong.push(format!("{name} -> {}", dependency.name));
            }
        }
    }
    Ok(wrong)
}

/// Crates that enable the feature `testing` of another one outside their own tests, or have a feature that would:
/// `stkr-core` then has a dealer that knows a whole key, which nothing that ships may have.
fn trusted_dealers(packages: &[Package]) -> Vec<&str> {
    let enables = |dependency: &Dependency| {
        dependency.kind.is_none() && dependency.features.iter().any(|feature| feature == "testing")
    };
    let forwards = |package: &Package| package.features.values().flatten().any(|target| target.ends_with("/testing"));
    let offenders = packages.iter().filter(|package| forwards(package) || package.dependencies.iter().any(enables));
    offenders.map(|package| package.name.as_str()).collect()
}

/// Crates besides the command line, and those that only tests use, that enable the feature `splitter` outside their own tests, or have a feature that would.
fn splitters(packages: &[Package]) -> Vec<&str> {
    let enables = |dependency: &Dependency| {
        dependency.kind.is_none() && dependency.features.iter().any(|feature| feature == "splitter")
    };
    let forwards = |package: &Package| package.features.values().flatten().any(|target| target.ends_with("/splitter"));
    let others = packages.iter();
    let others = others.filter(|it| it.name != "stkr-cli" && !TEST_ONLY.contains(&it.name.as_str()));
    others
        .filter(|package| forwards(package) || package.dependencies.iter().any(enables))
        .map(|package| package.name.as_str())
        .collect()
}

/// Crates besides the end-to-end tests that arm kill points, even in tests of their own, or have a feature that would.
fn armed(packages: &[Package]) -> Vec<&str> {
    let arms = |dependency: &Dependency| {
        dependency.name == "stkr-kill-points" && dependency.features.iter().any(|feature| feature == "armed")
    };
    let forwards = |package: &Package| package.features.values().flatten().any(|target| target.ends_with("/armed"));
    let others = packages.iter().filter(|package| package.name != "stkr-e2e");
    others
        .filter(|package| forwards(package) || package.dependencies.iter().any(arms))
        .map(|package| package.name.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependency: &str, kind: Option<&str>) -> Package {
        let dependency =
            Dependency { name: dependency.into(), kind: kind.map(String::from), features: vec!["testing".into()] };
        Package { name: name.into(), dependencies: vec![dependency], features: BTreeMap::new() }
    }

    #[test]
    fn arrows_down_pass_and_arrows_up_or_sideways_are_named() {
        let pass = [package("stkr-protocol", "stkr-core", None), package("stkr-core", "serde", None)];
        assert!(wrong_arrows(&pass).unwrap().is_empty());
        let fail = [package("stkr-core", "stkr-protocol", None), package("stkr-server", "stkr-relayer", None)];
        assert_eq!(wrong_arrows(&fail).unwrap(), ["stkr-core -> stkr-protocol", "stkr-server -> stkr-relayer"]);
    }

    #[test]
    fn no_product_crate_may_use_the_adversary_not_even_in_tests() {
        let packages = [package("stkr-server", "stkr-adversary", Some("dev"))];
        assert_eq!(wrong_arrows(&packages).unwrap(), ["stkr-server -> stkr-adversary"]);
    }

    #[test]
    fn only_tests_may_enable_the_trusted_dealer() {
        let packages = [package("stkr-node", "stkr-core", Some("dev")), package("stkr-relayer", "stkr-core", None)];
        assert_eq!(trusted_dealers(&packages), ["stkr-relayer"]);
        let mut forwarder = package("stkr-node", "stkr-core", Some("dev"));
        forwarder.features.insert("extra".into(), vec!["stkr-core/testing".into()]);
        assert_eq!(trusted_dealers(&[forwarder]), ["stkr-node"]);
    }

    #[test]
    fn only_the_command_line_may_enable_the_splitter() {
        let with = |name: &str, kind: Option<&str>| {
            let mut package = package(name, "stkr-core", kind);
            package.dependencies[0].features = vec!["splitter".into()];
            package
        };
        let packages = [
            with("stkr-cli", None),
            with("stkr-e2e", None),
            with("stkr-protocol", Some("dev")),
            with("stkr-server", None),
        ];
        assert_eq!(splitters(&packages), ["stkr-server"]);
        let mut forwarder = package("stkr-node", "stkr-core", Some("dev"));
        forwarder.features.insert("extra".into(), vec!["stkr-core/splitter".into()]);
        assert_eq!(splitters(&[forwarder]), ["stkr-node"]);
    }

    #[test]
    fn only_the_end_to_end_tests_may_arm_kill_points() {
        let with = |name: &str, kind: Option<&str>| {
            let mut package = package(name, "stkr-kill-points", kind);
            package.dependencies[0].features = vec!["armed".into()];
            package
        };
        let packages = [with("stkr-e2e", None), with("stkr-node", Some("dev")), with("stkr-server", None)];
        assert_eq!(armed(&packages), ["stkr-node", "stkr-server"]);
        let mut forwarder = package("stkr-gateway", "stkr-core", Some("dev"));
        forwarder.features.insert("extra".into(), vec!["stkr-kill-points/armed".into()]);
        assert_eq!(armed(&[forwarder]), ["stkr-gateway"]);
    }

    #[test]
    fn a_crate_without_a_floor_is_an_error() {
        assert!(wrong_arrows(&[package("stkr-new", "stkr-core", None)]).is_err());
    }
}
