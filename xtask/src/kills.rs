//! The long run of `tests/e2e/tests/duty_kills.rs`, and the proof that no release can be killed that way.

use crate::run;
use eyre::{Context, Result, ensure};
use std::path::Path;

/// Kills of the long run.
const KILLS: &str = "1000";
/// What a program with kill points has in it: the name of the variable, and of a point of each program.
const MARKS: [&str; 2] = ["STKR_KILL_POINT", "protection.committed"];

/// A thousand kills, from another seed than the short run's.
pub(crate) fn run() -> Result<()> {
    run::build_binaries()?;
    let mut command = run::command(&cargo())?;
    command.args(["test", "--workspace", "--locked", "--test", "duty_kills", "--", "--nocapture"]);
    run::run_command(command.env("STKR_KILLS", KILLS).env("STKR_KILL_SEED", "1000"))
}

/// Builds the programs as they ship, with the feature that would arm kill points, and finds none in them; the programs that
/// tests kill do have them.
pub(crate) fn release() -> Result<()> {
    let programs = ["stkr-server", "stkr-gateway"];
    let mut args = vec!["build", "--release", "--locked", "-p", "stkr-kill-points"];
    args.extend(["--features", "stkr-kill-points/armed"]);
    args.extend(programs.iter().flat_map(|program| ["-p", program]));
    run::run(&cargo(), &args)?;
    run::build_binaries()?;
    for program in programs {
        let target = run::root().join("target");
        ensure!(
            marks(&target.join("debug").join(program))? == MARKS,
            "the search finds nothing in a {program} for tests"
        );
        let found = marks(&target.join("release").join(program))?;
        ensure!(found.is_empty(), "a released {program} has kill points: {}", found.join(", "));
    }
    Ok(())
}

/// Which of the marks are in a file.
fn marks(program: &Path) -> Result<Vec<&'static str>> {
    let bytes = std::fs::read(program).wrap_err_with(|| program.display().to_string())?;
    Ok(marks_in(&bytes))
}

fn marks_in(bytes: &[u8]) -> Vec<&'static str> {
    let has = |mark: &&str| bytes.windows(mark.len()).any(|window| window == mark.as_bytes());
    MARKS.into_iter().filter(has).collect()
}

fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_wherever_they_stand() {
        assert_eq!(marks_in(b"..STKR_KILL_POINT\0protection.committed"), MARKS);
        assert_eq!(marks_in(b"STKR_KILL_POIN"), [""; 0]);
    }
}
