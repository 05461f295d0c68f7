//! The Python tools of the long tests in one pinned virtual environment under target/venv.

use crate::run;
use eyre::{Context, Result};

/// Path of a tool of tests/requirements.txt, which is installed first unless exactly these packages are.
pub(crate) fn tool(name: &str) -> Result<String> {
    let venv = run::root().join("target/venv");
    let bin = |name: &str| venv.join("bin").join(name).to_string_lossy().into_owned();
    let stamp = venv.join(".stkr-requirements");
    let pins = std::fs::read(run::root().join("tests/requirements.txt")).wrap_err("tests/requirements.txt")?;
    if !std::fs::read(&stamp).is_ok_and(|installed| installed == pins) {
        run::run("python3", &["-m", "venv", "--clear", &venv.to_string_lossy()])?;
        // Without --no-deps a package that is not pinned could slip in; `pip check` finds one that is missing.
        run::run(&bin("pip"), &["install", "--quiet", "--no-deps", "--requirement", "tests/requirements.txt"])?;
        run::run(&bin("pip"), &["check"])?;
        std::fs::write(&stamp, pins).wrap_err_with(|| format!("write {}", stamp.display()))?;
    }
    Ok(bin(name))
}
