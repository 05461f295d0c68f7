//! The checkers of devnets' last lines: node programs that use nothing of the product (`xtask/checker`).

use crate::process::workspace_root;
use eyre::{Context, Result, eyre};
use serde_json::Value;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Which one.
#[derive(Clone, Copy, Debug)]
pub enum Checker {
    /// Of the main path: a pool from its stakes to its deposit.
    Pool,
    /// Of `--adversary`: a fault and what followed.
    Fault,
}

impl Checker {
    const fn script(self) -> &'static str {
        match self {
            Self::Pool => "check.mjs",
            Self::Fault => "fault.mjs",
        }
    }

    /// What it says of `line`: its exit code (0: all true, 1: something is not, 3: it failed itself), and the reason on its last line,
    /// "" if it agrees. What it tells people goes to `words`.
    pub fn judge(self, line: &Value, rpc: &str, deployment: &Path, words: Stdio) -> Result<(Option<i32>, String)> {
        let mut child = Command::new("node")
            .arg(workspace_root().join("xtask/checker").join(self.script()))
            .args(["--rpc", rpc, "--deployment"])
            .arg(deployment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(words)
            .spawn()
            .wrap_err("start the checker; is Node installed?")?;
        child.stdin.take().ok_or_else(|| eyre!("no stdin"))?.write_all(line.to_string().as_bytes())?;
        let output = child.wait_with_output()?;
        let said: Value = serde_json::from_slice(&output.stdout).wrap_err("the checker's last line")?;
        Ok((output.status.code(), said["reason"].as_str().unwrap_or_default().to_owned()))
    }
}
