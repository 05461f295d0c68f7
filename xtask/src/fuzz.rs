//! `tests/fuzz`: wrong inputs for every parser that a duty passes.

use crate::run;
use eyre::{Context, Result, ensure};
use std::path::Path;

/// Inputs for each parser in every run of the tests, from a new seed that is printed.
const SHORT: &str = "20000";
/// And in `--full`.
const LONG: &str = "1000000";
/// Runs side by side: the fuzzer counts what its process allocates, so one runs on one core.
const PARTS: usize = 2;

pub(crate) fn short() -> Result<()> {
    let here = std::env::current_exe().wrap_err("where this program is")?;
    fuzz(&here.with_file_name("fuzz"), SHORT)
}

/// As it is released: a million inputs take a fifth of the time.
pub(crate) fn long() -> Result<()> {
    run::build(&["--release", "--bin", "fuzz"])?;
    fuzz(&run::root().join("target/release/fuzz"), LONG)
}

fn fuzz(program: &Path, inputs: &str) -> Result<()> {
    let mut children = Vec::new();
    for part in 0..PARTS {
        let mut command = run::command(&program.to_string_lossy())?;
        command.args(["--inputs", inputs, "--part", &format!("{part}/{PARTS}")]);
        children.push(run::Leash(command.spawn().wrap_err_with(|| format!("start {}", program.display()))?));
    }
    let ended = children.iter_mut().map(|child| Ok(child.0.wait()?.success())).collect::<Result<Vec<_>>>()?;
    ensure!(ended.iter().all(|good| *good), "a parser does not stand its inputs");
    Ok(())
}
