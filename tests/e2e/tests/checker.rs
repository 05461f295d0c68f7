//! The main path as a user runs it, and the checker against lines that are false in one thing each.

use eyre::{Result, eyre};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use stkr_e2e::Process;
use stkr_e2e::process::{binary, workspace_root};

fn check(line: &Value, deployment: &Path) -> Result<(Option<i32>, String)> {
    let mut child = Command::new("node")
        .arg(workspace_root().join("xtask/checker/check.mjs"))
        .args(["--rpc", line["rpc"].as_str().unwrap_or_default(), "--deployment"])
        .arg(deployment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().ok_or_else(|| eyre!("no stdin"))?.write_all(line.to_string().as_bytes())?;
    let output = child.wait_with_output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// One lie per thing the checker checks: where in the line, and what stands there instead.
fn lies(line: &Value) -> Vec<(&'static str, Value)> {
    let plus_one = |pointer: &str| json!(line.pointer(pointer).and_then(Value::as_u64).unwrap_or_default() + 1);
    let other_hex = |pointer: &str| {
        let text = line.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let last = if text.ends_with('0') { "1" } else { "0" };
        json!(format!("{}{last}", &text[..text.len() - 1]))
    };
    let mut lies = vec![
        ("/ok", json!(false)),
        ("/steps", json!([])),
        ("/steps/0/name", json!("")),
        ("/steps/0/ms", json!("soon")),
        ("/steps/1/name", line["steps"][0]["name"].clone()),
        ("/processes/1/pid", json!(std::process::id())),
        ("/processes/1/exe", json!("/bin/true")),
        ("/processes/1/dir", line["processes"][2]["dir"].clone()),
        ("/processes/1/name", json!("somebody")),
        ("/processes/7/name", json!("somebody")),
        ("/committees/0/0", plus_one("/committees/0/0")),
        ("/committees/1", json!([])),
        ("/status_url", json!("http://127.0.0.1:9/status")),
    ];
    for pointer in [
        "/gas/register_server",
        "/gas/open_pool",
        "/gas/stake",
        "/gas/request_key",
        "/gas/draw",
        "/gas/finalise_key",
        "/gas/predeposit",
        "/gas/topup",
        "/deposit/amount_gwei",
        "/deposit/deposit_count",
        "/deposit/total_gwei",
    ] {
        lies.push((pointer, plus_one(pointer)));
    }
    for pointer in [
        "/deposit/pubkey",
        "/deposit/withdrawal_credentials",
        "/deposit/signature",
        "/deposit/deposit_data_root",
        "/deposit/genesis_fork_version",
    ] {
        lies.push((pointer, other_hex(pointer)));
    }
    lies
}

#[test]
fn the_checker_refuses_every_tampered_line_and_agrees_with_the_true_one() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let args = ["--unchecked".into(), "--dir".into(), dir.path().display().to_string()];
    let mut devnet = Process::start("devnet", &binary("devnet")?, &args, dir.path())?;
    let line: Value = serde_json::from_str(&devnet.line(Duration::from_secs(420), |line| line.starts_with('{'))?)?;
    let deployment = dir.path().canonicalize()?.join("deployment.json");

    let lies = lies(&line);
    for (pointer, lie) in &lies {
        let mut tampered = line.clone();
        let place = tampered.pointer_mut(pointer).ok_or_else(|| eyre!("the line has no {pointer}"))?;
        assert_ne!(place, lie, "{pointer} is no lie");
        *place = lie.clone();
        let (code, said) = check(&tampered, &deployment)?;
        assert_eq!(code, Some(1), "the checker believed a false {pointer}: {said}");
    }
    // Last, for the checker kills a server when it has found everything else true.
    let (code, said) = check(&line, &deployment)?;
    assert_eq!(code, Some(0), "the checker refuses the true line: {said}");

    // The network ends with the devnet, even when that is SIGKILLed.
    let pids: Vec<u64> = line["processes"].as_array().into_iter().flatten().filter_map(|p| p["pid"].as_u64()).collect();
    assert!(pids.len() >= 8);
    devnet.kill();
    std::thread::sleep(Duration::from_secs(2));
    for pid in pids {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        assert!(status.is_empty() || status.contains("State:\tZ"), "process {pid} outlived the devnet:\n{status}");
    }
    Ok(())
}
