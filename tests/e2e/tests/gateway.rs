//! A validator client's view: a key that a ceremony made signs through the gateway's HTTP, whatever goes down.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy::network::EthereumWallet;
use alloy::primitives::{B256, Bytes};
use alloy::signers::local::PrivateKeySigner;
use eyre::{Result, ensure, eyre};
use serde_json::{Value, json};
use stkr_chain::bindings::{KeyRegistry, Micropools};
use stkr_core::{PublicKey, Signature};
use stkr_duties::{ForkSchedule, SigningRequest};
use stkr_e2e::network::{PATIENCE, http, output};
use stkr_e2e::process::{Process, binary};
use stkr_e2e::{Network, Options};
use stkr_protocol::SignerKey;

/// Minimal preset: an epoch has 8 slots.
const SECONDS_PER_EPOCH: u64 = 8;
/// The chain of the test is so old at its start, in epochs.
const AGE: u64 = 100;

fn unix_seconds() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

fn schedule_text() -> Result<String> {
    let forks = ["phase0", "altair", "bellatrix", "capella", "deneb", "electra", "fulu"];
    let fork = |(at, name): (usize, &&str)| {
        let first = if at == 0 { "53".to_owned() } else { format!("0{at}") };
        format!("{{ name = \"{name}\", version = \"0x{first}746b72\", epoch = 0 }}")
    };
    let forks: Vec<String> = forks.iter().enumerate().map(fork).collect();
    Ok(format!(
        "preset = \"minimal\"\ngenesis_validators_root = \"{}\"\ngenesis_time = {}\nseconds_per_slot = 1\nforks = [{}]\n",
        B256::repeat_byte(7),
        unix_seconds()? - AGE * SECONDS_PER_EPOCH,
        forks.join(", "),
    ))
}

/// A gateway of one provider.
struct Gateway {
    process: Process,
    url: String,
    config: PathBuf,
    schedule: ForkSchedule,
    pubkey: String,
    group_key: PublicKey,
}

#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    body: Value,
}

impl Answer {
    fn reason(&self) -> &str {
        self.body["refusal"]["reason"].as_str().unwrap_or_default()
    }
}

/// `stkr-gateway init`, and the provider that registers its duty key.
async fn init(network: &Network, dir: &Path, schedule: &Path) -> Result<(PathBuf, PrivateKeySigner)> {
    let gateway = binary("stkr-gateway")?;
    output(
        Command::new(&gateway)
            .args(["init", "--listen", "127.0.0.1:0", "--rpc", &network.anvil.url, "--dir"])
            .arg(dir)
            .arg("--deployment")
            .arg(&network.deployment_file)
            .arg("--schedule")
            .arg(schedule),
    )?;
    let config = dir.join("gateway.toml");
    let provider = network.account("10").await?;
    let account = provider.address().to_string();
    let printed =
        output(Command::new(&gateway).args(["register-args", "--provider", &account, "--config"]).arg(&config))?;
    let args: Value = serde_json::from_str(&printed)?;
    let text = |name: &str| args[0][name].as_str().map(str::to_owned).ok_or_else(|| eyre!("no {name}: {args}"));
    let (duty_key, proof) = (text("dutyKey")?.parse()?, text("proof")?.parse::<Bytes>()?);
    let wallet = EthereumWallet::from(provider.clone());
    network.stkr().await?.providers().register(duty_key, proof)?.send_with(&wallet).await?;
    Ok((config, provider))
}

fn start(config: &Path, dir: &Path) -> Result<(Process, String)> {
    let args = ["run".into(), "--config".into(), config.display().to_string()];
    let mut process = Process::start("gateway", &binary("stkr-gateway")?, &args, dir)?;
    let ready: Value = serde_json::from_str(&process.line(PATIENCE, |line| line.contains("\"ready\":true"))?)?;
    let address = ready["address"].as_str().ok_or_else(|| eyre!("{ready}"))?;
    Ok((process, format!("http://{address}")))
}

impl Gateway {
    fn epoch(&self) -> Result<u64> {
        let slot = self.schedule.slot_at_time(unix_seconds()?).ok_or_else(|| eyre!("before genesis"))?;
        Ok(self.schedule.epoch_at(slot).0)
    }

    fn request(&self, kind: &str, member: &str, payload: Value) -> Value {
        let fork = json!({"previous_version": "0x05746b72", "current_version": "0x06746b72", "epoch": "0"});
        json!({"type": kind, "fork_info": {"fork": fork, "genesis_validators_root": B256::repeat_byte(7)}, member: payload})
    }

    /// A vote in the first slot of `target`.
    fn vote(&self, target: u64, root: u8) -> Value {
        let root = B256::repeat_byte(root);
        let data = json!({
            "slot": (target * 8).to_string(), "index": "0", "beacon_block_root": root,
            "source": {"epoch": (target - 1).to_string(), "root": root},
            "target": {"epoch": target.to_string(), "root": root},
        });
        self.request("ATTESTATION", "attestation", data)
    }

    fn reveal(&self, epoch: u64) -> Value {
        self.request("RANDAO_REVEAL", "randao_reveal", json!({"epoch": epoch.to_string()}))
    }

    async fn sign_with(&self, pubkey: &str, request: &Value) -> Result<Answer> {
        let url = format!("{}/api/v1/eth2/sign/{pubkey}", self.url);
        let answer = http().post(url).json(request).send().await?;
        Ok(Answer { status: answer.status().as_u16(), body: answer.json().await? })
    }

    async fn sign(&self, request: &Value) -> Result<Answer> {
        self.sign_with(&self.pubkey, request).await
    }

    async fn public_keys(&self) -> Result<Vec<String>> {
        Ok(http().get(format!("{}/api/v1/eth2/publicKeys", self.url)).send().await?.json().await?)
    }

    /// The answer is the validator key's signature over the request's root.
    fn check(&self, request: &Value, answer: &Answer) -> Result<()> {
        ensure!(answer.status == 200, "{answer:?}");
        let hex = answer.body["signature"].as_str().ok_or_else(|| eyre!("{answer:?}"))?;
        let signature = Signature::from_compressed(&hex.parse::<Bytes>()?)?;
        let request = SigningRequest::decode(request.to_string().as_bytes(), self.schedule.preset())?;
        ensure!(
            stkr_core::verify(&self.group_key, &request.verify(&self.schedule)?.0, &signature),
            "a wrong signature"
        );
        Ok(())
    }

    async fn signs(&self, request: &Value) -> Result<()> {
        self.check(request, &self.sign(request).await?)
    }
}

/// A network whose servers know a beacon chain, with a relayer that makes keys.
async fn network(dir: &Path) -> Result<(Network, PathBuf)> {
    let mut network = Network::deploy(Options { servers: 4, block_ms: 500, ..Options::new(dir) }).await?;
    let schedule = dir.join("beacon.toml");
    std::fs::write(&schedule, schedule_text()?)?;
    network.beacon_schedule = Some(schedule.clone());
    network.init_servers().await?;
    network.register_servers().await?;
    network.approve_servers().await?;
    for position in 0..network.servers.len() {
        network.start_server(position)?;
    }
    network.add_relayer(0).await?;
    Ok((network, schedule))
}

#[tokio::test]
async fn a_validator_client_signs_through_the_gateway_whatever_one_server_does() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut network, schedule_file) = network(dir.path()).await?;
    let schedule = network.server_config(0)?.schedule()?.ok_or_else(|| eyre!("no schedule"))?;
    let (config, provider) = init(&network, &dir.path().join("gateway"), &schedule_file).await?;
    let (process, url) = start(&config, dir.path())?;

    // The gateway runs before there is any key; the key appears by itself.
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    let requested = network.event::<Micropools::PoolKeyRequested>(network.deployment.micropools, pool).await?;
    let key_id = u64::try_from(requested.inner.keyId)?;
    let finalised = network.event::<KeyRegistry::KeyFinalised>(network.deployment.key_registry, key_id).await?;
    let group_key = PublicKey::from_eip2537(&finalised.inner.points[4 * 128..])?;
    let pubkey = Bytes::from(group_key.to_compressed().to_vec()).to_string();
    let committee: Vec<usize> =
        finalised.inner.committee.iter().map(|id| network.position_of(*id)).collect::<Result<_>>()?;
    let mut gateway = Gateway { process, url, config, schedule, pubkey, group_key };
    let expected = vec![gateway.pubkey.clone()];
    network.until("the key appears", || async { Ok(gateway.public_keys().await? == expected) }).await?;

    // Up to the epoch in which it appeared everything counts as signed.
    let appeared = gateway.epoch()?;
    let refused = gateway.sign(&gateway.vote(appeared - 1, 1)).await?;
    assert!(refused.status == 412 && refused.reason().contains("low watermark"), "{refused:?}");
    network.until("the next epoch", || async { Ok(gateway.epoch()? > appeared + 1) }).await?;
    let target = gateway.epoch()?;
    let vote = gateway.vote(target, 1);
    network.until("servers see the pool", || async { gateway.signs(&vote).await.map(|()| true) }).await?;

    let double = gateway.sign(&gateway.vote(target, 2)).await?;
    assert!(double.status == 412 && double.reason().contains("double vote"), "{double:?}");
    assert_eq!(gateway.sign_with(&format!("0x{}", "ab".repeat(48)), &vote).await?.status, 404);
    assert_eq!(gateway.sign(&json!({"type": "ATTESTATION"})).await?.status, 400);

    // Two failover clients with different heads: one is served, and all servers together know of one vote.
    network.until("the next epoch", || async { Ok(gateway.epoch()? > target) }).await?;
    let target = gateway.epoch()?;
    let (one, other) = (gateway.vote(target, 3), gateway.vote(target, 4));
    let (first, second) = futures::future::try_join(gateway.sign(&one), gateway.sign(&other)).await?;
    let (winner, answer, loser) = if first.status == 200 { (&one, first, second) } else { (&other, second, first) };
    gateway.check(winner, &answer)?;
    assert_eq!(loser.status, 412, "{loser:?}");

    network.kill_server(committee[1]);
    gateway.signs(&gateway.reveal(1)).await?;
    network.kill_server(committee[3]);
    let too_few = gateway.sign(&gateway.reveal(2)).await?;
    assert_eq!(too_few.status, 503, "{too_few:?}");
    for (index, position) in [(2, committee[1]), (4, committee[3])] {
        let who = format!("server {} (member {index}): ", network.servers[position].id);
        assert!(too_few.reason().contains(&who), "{who} in {too_few:?}");
    }
    network.start_server(committee[3])?;
    let reveal = gateway.reveal(3);
    network.until("one is back", || async { gateway.signs(&reveal).await.map(|()| true) }).await?;

    // The votes of both rounds are kept with their envelopes, and nothing of the refused ones is.
    let kept: Value = http().get(format!("{}/v1/requests", gateway.url)).send().await?.json().await?;
    let rows = kept["rows"].as_array().cloned().unwrap_or_default();
    let roots: Vec<&Value> =
        rows.iter().map(|row| &row["request"]["duty"]["attestation"]["beacon_block_root"]).collect();
    let refused = [json!(B256::repeat_byte(2)), loser_root(winner)];
    assert!(!rows.is_empty() && !roots.iter().any(|root| refused.contains(root)), "{kept}");
    assert!(rows.iter().any(|row| row["envelopes"].as_array().is_some_and(|it| it.len() >= 3)), "{kept}");

    // A restart forgets nothing, also with SIGKILL.
    gateway.process.kill();
    (gateway.process, gateway.url) = start(&gateway.config, dir.path())?;
    network.until("the key is there again", || async { Ok(gateway.public_keys().await? == expected) }).await?;
    let (again, conflict) = (gateway.sign(winner).await?, gateway.sign(&gateway.vote(target, 9)).await?);
    gateway.check(winner, &again)?;
    assert_eq!(conflict.status, 412, "{conflict:?}");

    // Another duty key on the chain: the key vanishes by itself.
    let other_key = SignerKey::random()?;
    let digest = stkr_sdk::duty_key_digest(&network.deployment, provider.address(), other_key.address());
    let proof = Bytes::from(other_key.sign_digest(digest).to_vec());
    let wallet = EthereumWallet::from(provider.clone());
    network.stkr().await?.providers().set_duty_key(other_key.address(), proof)?.send_with(&wallet).await?;
    network.until("the key vanishes", || async { Ok(gateway.public_keys().await?.is_empty()) }).await?;
    assert_eq!(gateway.sign(&reveal).await?.status, 404);
    assert_eq!(gateway.process.terminate(PATIENCE), Some(0));
    Ok(())
}

fn loser_root(winner: &Value) -> Value {
    let won = &winner["attestation"]["beacon_block_root"];
    let other = [3, 4].map(|root| json!(B256::repeat_byte(root)));
    let lost = other.into_iter().find(|root| root != won);
    lost.unwrap_or_default()
}
