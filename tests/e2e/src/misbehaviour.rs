//! What goes wrong on purpose, and what strangers do about it: adversaries in the place of honest servers, signatures that are
//! bought, kept pages that are looked through, evidence that is handed in.

use crate::Network;
use crate::gateway::Client;
use crate::network::http;
use crate::process::{Process, binary};
use eyre::{Result, WrapErr as _, bail, eyre};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use stkr_duties::SigningRequest;
use stkr_node::tls::Identity;
use stkr_protocol::SignerKey;
use stkr_protocol::evidence::{EvidenceFile, SignedDutyRequest, SignedEnvelope};
use stkr_protocol::sign::{Asked, SignResponse, Subject};

/// Kills the honest server at `position` and starts `stkr-adversary ATTACK --config ITS ...` in its place: same certificate, signer
/// key and port.
pub fn corrupt(network: &mut Network, position: usize, attack: &str, more: &[&str]) -> Result<Process> {
    network.kill_server(position);
    let config = network.servers[position].config.clone();
    let folder = config.parent().ok_or_else(|| eyre!("the configuration is in no folder"))?.to_owned();
    let config = config.display().to_string();
    let args: Vec<String> = [attack, "--config", &config].iter().chain(more).map(ToString::to_string).collect();
    let mut process = Process::start(attack, &binary("stkr-adversary")?, &args, &folder)?;
    process.line(Duration::from_secs(20), |line| line.contains("ready"))?;
    Ok(process)
}

/// A duty of the first assignment of a key, asked for with a duty key that nobody knows: an honest server refuses it.
pub fn asked(network: &Network, client: &Client, key_id: u64, duty: &Value, key: &SignerKey) -> Result<Asked> {
    let request = SigningRequest::decode(duty.to_string().as_bytes(), client.schedule.preset())?;
    Ok(Asked::duty((key_id, 1), &request, &client.schedule, &network.domain(), key)?)
}

/// What a server that is for sale signs for somebody who is no provider.
pub async fn buy(
    network: &Network,
    position: usize,
    client: &Client,
    key_id: u64,
    duty: &Value,
) -> Result<SignedEnvelope> {
    let asked = asked(network, client, key_id, duty, &SignerKey::random()?)?;
    envelope(network, position, &asked).await
}

/// The envelope that a server signs for `asked`.
pub async fn envelope(network: &Network, position: usize, asked: &Asked) -> Result<SignedEnvelope> {
    let client = network.client(position, &Identity::generate("buyer")?)?;
    let SignResponse::Signed(answer) = client.sign_one(asked.request()).await? else { bail!("it refused") };
    let envelope = asked.subject().envelope(answer.committee_epoch, answer.index, &answer.partial);
    Ok(SignedEnvelope::new(&envelope, answer.envelope))
}

/// A page as gateways give them, with these envelopes.
pub fn page(envelopes: &[SignedEnvelope]) -> Value {
    let envelopes: Vec<Value> = envelopes.iter().map(|signed| json!({ "signed": signed })).collect();
    json!({ "rows": [{ "envelopes": envelopes }] })
}

/// A request in the raw form of evidence.
pub fn signed_request(subject: &Subject, assignment: u64, signature: [u8; 65]) -> SignedDutyRequest {
    let (source_epoch, target_epoch) = subject.epochs();
    SignedDutyRequest {
        key_id: subject.key_id(),
        assignment,
        duty_kind: subject.duty_kind() as u8,
        slot: subject.slot(),
        source_epoch,
        target_epoch,
        signing_root: subject.signing_root(),
        signature,
    }
}

/// `stkr --json ...` on this network: what it prints.
pub fn stkr(network: &Network, words: &[&str]) -> Result<Value> {
    let mut command = Command::new(binary("stkr")?);
    command.args(["--json", "--rpc", &network.anvil.url, "--deployment"]).arg(&network.deployment_file).args(words);
    let output = command.output().wrap_err("start stkr")?;
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout)?);
    }
    // One sentence, and not the whole command line: it can be the last word of a devnet.
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Value = said.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    let name = words.iter().take(2).copied().collect::<Vec<_>>().join(" ");
    bail!("stkr {name}: {}", last["error"]["message"].as_str().unwrap_or(&said))
}

/// `stkr evidence find` over these pages, which it saves in `dir`: what it prints. Files of evidence go to `dir`/found.
pub fn find(network: &Network, dir: &Path, pages: &[&Value]) -> Result<Value> {
    let out = dir.join("found").display().to_string();
    let mut paths = Vec::new();
    for (number, page) in pages.iter().enumerate() {
        let path = dir.join(format!("page-{number}.json"));
        std::fs::write(&path, page.to_string())?;
        paths.push(path.display().to_string());
    }
    let words = ["evidence", "find", "--out", &out].into_iter().chain(paths.iter().map(String::as_str));
    stkr(network, &words.collect::<Vec<_>>())
}

/// The one file that `stkr evidence find` found, as it printed that.
pub fn only_file(found: &Value) -> Result<EvidenceFile> {
    let [one] = found["found"].as_array().map(Vec::as_slice).unwrap_or_default() else { bail!("not one: {found}") };
    let path = one["file"].as_str().ok_or_else(|| eyre!("no file: {one}"))?;
    Ok(EvidenceFile::from_json(&std::fs::read(path)?)?)
}

/// Gives evidence to the first relayer: status and answer.
pub async fn hand_in(network: &Network, file: &EvidenceFile) -> Result<(u16, Value)> {
    post(network, "/v1/evidence", &serde_json::to_string(file)?).await
}

/// Posts JSON to the first relayer, again while a gateway on this machine is served: an address has one place there.
pub async fn post(network: &Network, path: &str, body: &str) -> Result<(u16, Value)> {
    let relayer = network.relayers.first().ok_or_else(|| eyre!("no relayer"))?;
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let request = http().post(format!("{}{path}", relayer.url)).header("content-type", "application/json");
        let answer = request.body(body.to_owned()).send().await?;
        let status = answer.status().as_u16();
        if status != 429 || Instant::now() > until {
            return Ok((status, answer.json().await?));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
