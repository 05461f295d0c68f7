//! Where conformance tests find official vectors and the tools they compare with.
//!
//! A test whose vectors or tools are missing fails under `CI=true`; elsewhere it says `NOT RUN` on standard
//! error (past the test harness's capture) and ends.

use std::{
    env,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Something that a conformance test needs is not there, and this is CI.
#[derive(Debug, thiserror::Error)]
#[error("{what} missing at {path}; {remedy}")]
pub struct Missing {
    what: String,
    path: String,
    remedy: String,
}

/// The folder of one vector suite, below `STKR_VECTORS` (default: `../shared/vectors` beside the workspace).
/// `None` if it is absent outside CI.
///
/// # Errors
/// If it is absent under `CI=true`.
pub fn vectors(suite: &str) -> Result<Option<PathBuf>, Missing> {
    let root = env::var_os("STKR_VECTORS").map_or_else(|| workspace().join("../shared/vectors"), PathBuf::from);
    present(&format!("official vectors \"{suite}\""), &root.join(suite), "set STKR_VECTORS")
}

/// `node_modules` of the workspace. `None` if it is absent outside CI.
///
/// # Errors
/// If it is absent under `CI=true`.
pub fn node_modules() -> Result<Option<PathBuf>, Missing> {
    present("packages of npm", &workspace().join("node_modules"), "run npm ci")
}

/// The folder with Lodestar's SSZ types and the script that asks them. `None` if they are not installed outside CI.
///
/// # Errors
/// If they are absent under `CI=true`.
pub fn lodestar_ssz() -> Result<Option<PathBuf>, Missing> {
    let folder = workspace().join("tests/lodestar/ssz");
    let modules = present("Lodestar's SSZ types", &folder.join("node_modules"), "run npm ci in tests/lodestar/ssz")?;
    Ok(modules.map(|_| folder))
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn present(what: &str, path: &Path, remedy: &str) -> Result<Option<PathBuf>, Missing> {
    if path.exists() {
        return Ok(Some(path.to_owned()));
    }
    let missing = Missing { what: what.to_owned(), path: path.display().to_string(), remedy: remedy.to_owned() };
    if env::var("CI").is_ok_and(|ci| ci == "true") {
        return Err(missing);
    }
    // If standard error is closed nobody reads this anyway.
    let _ = writeln!(io::stderr(), "NOT RUN: {missing}");
    Ok(None)
}
