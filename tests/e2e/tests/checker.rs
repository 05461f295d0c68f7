//! The main path as a user runs it, and the checker against lines that are false in one thing each.

use eyre::{Result, bail, eyre};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use stkr_core::ShareIndex;
use stkr_e2e::Process;
use stkr_e2e::checker::Checker;
use stkr_e2e::process::binary;
use stkr_protocol::messages::{Body, DealingBody, Round, SignedMessage};
use stkr_protocol::{ProtocolDomain, SignerKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn check(line: &Value, rpc: &str, deployment: &Path) -> Result<(Option<i32>, String)> {
    Checker::Pool.judge(line, rpc, deployment, Stdio::null())
}

/// A lie: where in the line, what stands there instead, and how the checker's reason must begin. A checker that fails
/// for another reason, or stumbles over the lie instead of seeing it (exit 3), has not found it.
type Lie = (&'static str, Value, String);

/// One lie per thing in the line that the checker checks.
fn lies(line: &Value) -> Vec<Lie> {
    let plus_one = |pointer: &str| json!(line.pointer(pointer).and_then(Value::as_u64).unwrap_or_default() + 1);
    let other_hex = |pointer: &str| {
        let text = line.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let last = if text.ends_with('0') { "1" } else { "0" };
        json!(format!("{}{last}", &text[..text.len() - 1]))
    };
    let first_step = line["steps"][0]["name"].clone();
    let mut lies: Vec<Lie> = [
        ("/ok", json!(false), "ok is true"),
        ("/rpc", json!("http://127.0.0.1:9"), "rpc is"),
        ("/steps", json!([]), "steps is chain, "),
        ("/steps", Value::Null, "the line has no steps"),
        ("/steps/1", Value::Null, "a step is no object"),
        ("/steps/3/name", json!("rested"), "steps is chain, "),
        ("/gas", Value::Null, "the line has no gas"),
        ("/gas/draw", Value::Null, "the line has no gas of draw"),
        ("/deposit", Value::Null, "the line has no deposit"),
        ("/deposit/signature", Value::Null, "the deposit of the line has no signature"),
        ("/status_url", Value::Null, "the line has no status_url"),
        ("/committees/0", Value::Null, "a committee is no list"),
        ("/processes/1", json!({}), "a process has no name"),
        ("/processes/2", Value::Null, "a process has no name"),
        ("/processes/1/dir", json!("/nowhere"), "server-1 has no file open in /nowhere"),
        ("/processes/7/name", json!("relayer-made-up"), "no relayer runs"),
        ("/steps/0/name", json!(""), "a step has no name"),
        ("/steps/0/ms", json!("soon"), "step chain has no time in ms"),
        ("/steps/1/name", first_step, "two steps share a name"),
        ("/processes/0/name", json!("somebody"), "no process is named anvil"),
        ("/processes/1/name", json!("somebody"), "number of servers is 6"),
        ("/processes/2/name", line["processes"][1]["name"].clone(), "two processes share a name"),
        ("/processes/7/name", json!("somebody"), "no relayer runs"),
        ("/processes/1/pid", json!(std::process::id()), "executable of server-1 is"),
        ("/processes/1/pid", json!(1 << 30), "server-1 (pid 1073741824) does not run"),
        ("/processes/2/pid", line["processes"][1]["pid"].clone(), "two processes share a pid"),
        ("/processes/1/exe", json!("/bin/true"), "executable of server-1 is"),
        ("/processes/1/dir", line["processes"][2]["dir"].clone(), "two processes share a dir"),
        ("/committees/0/0", plus_one("/committees/0/0"), "committees is"),
        ("/committees/1", json!([]), "committees is"),
        ("/status_url", json!("http://127.0.0.1:9/status"), "http://127.0.0.1:9/v1/ceremonies/"),
        ("/committees/2/0", plus_one("/committees/2/0"), "committees is"),
        ("/credential_change", Value::Null, "the line has no credential_change"),
        ("/credential_change/message", Value::Null, "the credential_change of the line has no message"),
        ("/credential_change/message/validator_index", json!("7"), "validator_index is"),
        ("/credential_change/gas", plus_one("/credential_change/gas"), "gas of the change is"),
        ("/reshare", Value::Null, "the line has no reshare"),
        ("/reshare/gas", Value::Null, "the reshare of the line has no gas"),
        ("/reshare/gas", plus_one("/reshare/gas"), "gas of the reshare is"),
        ("/reshare/old_epoch", plus_one("/reshare/old_epoch"), "old_epoch is"),
        ("/reshare/new_epoch", plus_one("/reshare/new_epoch"), "new_epoch is"),
        ("/reshare/same_pubkey", json!(false), "same_pubkey is true"),
    ]
    .map(|(pointer, lie, reason)| (pointer, lie, reason.to_owned()))
    .into();
    for pointer in [
        "/gas/register_server",
        "/gas/open_pool",
        "/gas/stake",
        "/gas/request_key",
        "/gas/draw",
        "/gas/finalise_key",
        "/gas/order_deposit",
        "/gas/predeposit",
        "/gas/topup",
    ] {
        lies.push((pointer, plus_one(pointer), pointer.replace("/gas/", "gas of ")));
    }
    for pointer in ["/deposit/amount_gwei", "/deposit/deposit_count", "/deposit/total_gwei"] {
        lies.push((pointer, plus_one(pointer), pointer.replace("/deposit/", "")));
    }
    for pointer in [
        "/deposit/withdrawal_credentials",
        "/deposit/signature",
        "/deposit/deposit_data_root",
        "/deposit/genesis_fork_version",
    ] {
        lies.push((pointer, other_hex(pointer), pointer.replace("/deposit/", "")));
    }
    for (pointer, reason) in [
        ("/credential_change/signature", "signature of the change is"),
        ("/credential_change/pubkey", "pubkey of the change is"),
        ("/credential_change/message/from_bls_pubkey", "from_bls_pubkey is"),
        ("/credential_change/message/to_execution_address", "to_execution_address is"),
    ] {
        lies.push((pointer, other_hex(pointer), reason.into()));
    }
    lies.push(("/deposit/pubkey", other_hex("/deposit/pubkey"), "the deposit contract saw 0 deposits of".into()));
    lies
}

/// The bulletin that a lying relayer would show: what of the true one it changes, and what the checker must say.
/// Signed with the servers' own keys where the lie has to pass as their word.
fn false_bulletins(true_one: &Value, signers: &[SignerKey], domain: &ProtocolDomain) -> Result<Vec<(Value, String)>> {
    let messages: Vec<SignedMessage> = serde_json::from_value(true_one["messages"].clone())?;
    let dealings: Vec<&SignedMessage> = messages.iter().filter(|m| m.round() == Round::Dealing).collect();
    let others: Vec<&SignedMessage> = messages.iter().filter(|m| m.round() != Round::Dealing).collect();
    let first = dealings.iter().find(|m| m.index.get() == 1).ok_or_else(|| eyre!("no dealing 1"))?;
    let second = dealings.iter().find(|m| m.index.get() == 2).ok_or_else(|| eyre!("no dealing 2"))?;
    let (Body::Dealing(body), Body::Dealing(other)) = (&first.body, &second.body) else { bail!("no dealings") };
    let signed = |by: usize, index: ShareIndex, body: DealingBody| {
        SignedMessage::sign(domain, &signers[by], (first.key_id, first.attempt, index), Body::Dealing(body))
    };
    let show = |changed: &[SignedMessage]| {
        let kept =
            dealings.iter().filter(|m| changed.iter().all(|c| c.index != m.index)).copied().chain(others.clone());
        json!({"messages": kept.chain(changed).collect::<Vec<_>>()})
    };

    let unsigned = SignedMessage { signature: second.signature, ..(*first).clone() };
    let foreign_proof = DealingBody { proof_of_possession: other.proof_of_possession.clone(), ..body.clone() };
    // Seen from share key 2 on: every power of 1 is the same.
    let mut swapped = body.clone();
    swapped.commitments = [&body.commitments[..128], &body.commitments[256..], &body.commitments[128..256]].concat();
    let mut cut = body.clone();
    cut.commitments.truncate(256);
    let mut shares = body.clone();
    shares.shares[0] ^= 1;
    let without: Vec<_> = messages.iter().filter(|m| m.round() != Round::Dealing || m.index.get() != 1).collect();
    Ok(vec![
        (json!({"messages": without}), "number of dealings is 4, the line says 3".into()),
        (show(&[unsigned]), "signer of dealing 1 is".into()),
        (show(&[signed(0, second.index, other.clone())]), "two dealings were signed by one server".into()),
        (show(&[signed(0, first.index, foreign_proof)]), "the proof of possession in dealing 1 is wrong".into()),
        (show(&[signed(0, first.index, cut)]), "dealing 1 has 2 commitments".into()),
        (show(&[signed(0, first.index, swapped)]), "share key 2 does not follow from the dealings".into()),
        (show(&[signed(0, first.index, shares)]), "digest of the dealings is".into()),
    ])
}

/// Answers every request with `body` as JSON until it is dropped; returns its URL.
async fn serve(body: String) -> Result<(String, tokio::task::JoinHandle<()>)> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: ";
            let _ = stream.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes()).await;
        }
    });
    Ok((url, task))
}

/// Signer keys of the servers in the first committee of the line, in index order.
fn committee_signers(line: &Value, dir: &Path) -> Result<Vec<SignerKey>> {
    let committee = line["committees"][0].as_array().ok_or_else(|| eyre!("no committee"))?;
    let keys = committee.iter().map(|id| {
        let file = dir.join(format!("server-{id}/secrets/signer.key"));
        Ok(SignerKey::from_bytes(&*stkr_node::secrets::read_hex32(&file)?)?)
    });
    keys.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checker_refuses_every_lie_with_its_reason_and_agrees_with_the_true_line() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let args = ["--unchecked".into(), "--dir".into(), dir.path().display().to_string()];
    let mut devnet = Process::start("devnet", &binary("devnet")?, &args, dir.path())?;
    let line: Value = serde_json::from_str(&devnet.line(Duration::from_secs(600), |line| line.starts_with('{'))?)?;
    let rpc = line["rpc"].as_str().unwrap_or_default();
    let file = dir.path().canonicalize()?.join("deployment.json");

    let refused = |tampered: &Value, what: &str, reason: &str| -> Result<()> {
        let (code, said) = check(tampered, rpc, &file)?;
        assert_eq!(code, Some(1), "{what}: {said}");
        assert!(said.starts_with(reason), "{what}: refused with `{said}`, not with `{reason}`");
        Ok(())
    };
    for (pointer, lie, reason) in lies(&line) {
        let mut tampered = line.clone();
        let place = tampered.pointer_mut(pointer).ok_or_else(|| eyre!("the line has no {pointer}"))?;
        assert_ne!(*place, lie, "{pointer} is no lie");
        *place = lie;
        refused(&tampered, pointer, &reason)?;
    }

    let relayer = line["status_url"].as_str().unwrap_or_default().trim_end_matches("/status").to_owned();
    let ceremony = format!("{relayer}/v1/ceremonies/1/0");
    let bulletin: Value = stkr_e2e::network::http().get(ceremony).send().await?.json().await?;
    let deployment = stkr_sdk::Deployment::load(&file)?;
    let domain = ProtocolDomain { chain_id: deployment.chain_id, key_registry: deployment.key_registry };
    for (body, reason) in false_bulletins(&bulletin, &committee_signers(&line, dir.path())?, &domain)? {
        let (url, server) = serve(body.to_string()).await?;
        let mut tampered = line.clone();
        tampered["status_url"] = json!(format!("{url}/status"));
        refused(&tampered, "bulletin", &reason)?;
        server.abort();
    }

    // Last, for the checker kills a server when it has found everything else true.
    let (code, said) = check(&line, rpc, &file)?;
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
