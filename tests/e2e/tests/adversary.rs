//! Faults on command, as `cargo xtask devnet --adversary FAULT` shows them, and its checker against lines that are false in one
//! thing each. The other faults have tests of their own; `cargo xtask test --full` runs the command for all ten.

use eyre::{Result, eyre};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use stkr_e2e::checker::Checker;
use stkr_e2e::faults::{Fault, Play, Played, play};
use stkr_e2e::process::binary;

const BLOCK_MS: u64 = 400;

async fn played(fault: Fault, dir: &Path) -> Result<Played> {
    let how = Play { dir: dir.to_path_buf(), block_ms: BLOCK_MS, without_court: false };
    let mut happened = Vec::new();
    let played = play(fault, &how, &mut |name, _, _| happened.push(name.to_owned())).await?;
    assert_eq!(happened, ["network", "detected", "judged", "locked_out", "next_signature"]);
    Ok(played)
}

fn check(line: &Value, of: &Played) -> Result<(Option<i32>, String)> {
    Checker::Fault.judge(line, &of.network.anvil.url, &of.network.deployment_file, Stdio::null())
}

#[tokio::test]
async fn a_garbage_partial_costs_its_server_the_bond_and_the_checker_sees_every_lie_about_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let played = played(Fault::GarbagePartial, dir.path()).await?;
    let line = serde_json::to_value(&played.outcome)?;
    assert_eq!(check(&line, &played)?, (Some(0), String::new()), "{line}");
    let other_hex = |pointer: &str| {
        let text = line.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let last = if text.ends_with('0') { "1" } else { "0" };
        json!(format!("{}{last}", &text[..text.len() - 1]))
    };
    let other_server = line["server_id"].as_u64().unwrap_or_default() % 5 + 1;
    let lies = [
        ("/ok", json!(false), "ok is true"),
        ("/fault", json!("theft"), "theft is no fault"),
        ("/fault", json!("invalid-partial"), "fault is 2"),
        ("/fault", Value::Null, "null is no fault"),
        ("/gas", json!(1), "gas is"),
        ("/gas", Value::Null, "the line has no gas"),
        ("/slashed_wei", json!("1"), "slashed_wei is"),
        ("/bounty_wei", json!("1"), "bounty_wei is"),
        ("/bounty_wei", json!("much"), "bounty_wei is no amount"),
        ("/server_id", json!(other_server), "server_id is"),
        ("/server_id", Value::Null, "the Court upheld 0 faults"),
        ("/detected_ms", json!(0), "nothing takes no time"),
        ("/blocks_to_lockout", json!(0), "nothing takes no time"),
        ("/blocks_to_lockout", json!(1), "the report alone took"),
        ("/next_signature_ok", json!(false), "next_signature_ok is true"),
        ("/transactions", json!([]), "a report has two transactions"),
        ("/transactions/1", line["transactions"][0].clone(), "gas is"),
        ("/next", Value::Null, "the line has no signature"),
        ("/next/key_id", json!("2"), "key of the signature is"),
        ("/next/signing_root", other_hex("/next/signing_root"), "the new signature does not verify"),
    ];
    for (place, lie, reason) in lies {
        let mut told = line.clone();
        *told.pointer_mut(place).ok_or_else(|| eyre!("no {place} in {line}"))? = lie.clone();
        let (code, said) = check(&told, &played)?;
        assert!(code == Some(1) && said.starts_with(reason), "{place} = {lie}: {code:?} {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_provider_that_asks_for_two_votes_pays_its_stakers_and_its_pool_has_to_move() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let played = played(Fault::ProviderEquivocation, dir.path()).await?;
    assert_eq!(played.outcome.server_id, None);
    let line = serde_json::to_value(&played.outcome)?;
    assert_eq!(check(&line, &played)?, (Some(0), String::new()), "{line}");
    Ok(())
}

/// The last line of the command with the Court switched off, in this folder.
fn without_court(fault: &str, dir: &Path) -> Result<Value> {
    let mut command = Command::new(binary("devnet")?);
    command.args(["--adversary", fault, "--once", "--without-court", "--block-ms", "400", "--dir"]);
    let output = command.arg(dir).output()?;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout)?;
    let line: Value = serde_json::from_str(said.lines().last().unwrap_or_default())?;
    assert_eq!(
        (&line["ok"], &line["fault"], &line["next_signature_ok"], &line["slashed_wei"]),
        (&json!(false), &json!(fault), &json!(false), &json!("0"))
    );
    Ok(line)
}

#[test]
fn without_the_court_the_same_command_ends_in_not_ok() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let line = without_court("dealing-equivocation", dir.path())?;
    assert_eq!(line["reason"], "nothing was proven");
    // It was noticed all the same, and the file convicts.
    assert!(line["detected_ms"].as_u64() > Some(0) && line["evidence_file"].is_string(), "{line}");
    Ok(())
}

#[test]
fn without_a_folder_to_write_to_the_last_line_names_it() -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    let dir = file.path().join("below");
    let output =
        Command::new(binary("devnet")?).args(["--adversary", "silence", "--once", "--dir"]).arg(&dir).output()?;
    assert_eq!(output.status.code(), Some(1));
    let line: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!((&line["ok"], &line["fault"]), (&json!(false), &json!("silence")));
    let reason = line["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with(&format!("there can be no folder {}: give another", dir.display())), "{reason}");
    Ok(())
}

#[test]
fn without_the_court_nobody_can_be_asked_on_the_chain_and_the_last_line_says_so() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let line = without_court("silence", dir.path())?;
    let reason = line["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("stkr challenge open: ") && !reason.contains("--rpc"), "{line}");
    assert_eq!(line["evidence_file"], Value::Null);
    Ok(())
}

#[test]
fn a_network_that_does_not_start_ends_in_a_last_line_too() -> Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("anvil"), "a file where the chain's folder has to be")?;
    let line = without_court("silence", dir.path())?;
    let reason = format!("make {}", dir.path().canonicalize()?.join("anvil").display());
    assert!(line["reason"].as_str().is_some_and(|it| it.starts_with(&reason)), "{line}");
    Ok(())
}

#[test]
fn the_ten_faults_are_listed_and_another_is_refused_in_one_sentence() -> Result<()> {
    let run = |fault: &str| {
        Command::new(binary("devnet")?).args(["--adversary", fault, "--once"]).output().map_err(eyre::Report::from)
    };
    let listed = String::from_utf8(run("list")?.stdout)?;
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let expected = [
        "invalid-partial",
        "garbage-partial",
        "double-vote",
        "surround-vote",
        "double-proposal",
        "unauthorised-exit",
        "bad-dealing",
        "dealing-equivocation",
        "silence",
        "provider-equivocation",
    ];
    assert_eq!(names, expected);
    let refused = run("theft")?;
    assert_eq!(refused.status.code(), Some(1));
    let sentence = "devnet: there is no fault theft; `cargo xtask devnet --adversary list` prints all\n";
    assert_eq!(String::from_utf8(refused.stderr)?, sentence);
    Ok(())
}
