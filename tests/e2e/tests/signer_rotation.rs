//! A server changes its signer key: what its shares still bind it to it signs with the old one, what begins from then on with the new
//! one, and no key of anybody else is ever taken for its own.

use std::path::PathBuf;
use std::process::{Command, Output};

use alloy::primitives::Address;
use eyre::{Result, bail, ensure, eyre};
use serde_json::Value;
use stkr_e2e::gateway::{Gateway, init, key_of, network, network_of, start};
use stkr_e2e::misbehaviour::{buy, corrupt, envelope, find, hand_in, only_file, page, stkr};
use stkr_e2e::network::{http, write_secret};
use stkr_e2e::process::binary;
use stkr_e2e::reshare::TO_HANDOVER;
use stkr_e2e::{Network, Options};
use stkr_node::tls::Identity;
use stkr_protocol::api::{SignerStanding, SignerUse};
use stkr_protocol::evidence::SignedEnvelope;
use stkr_protocol::sign::{Asked, SignResponse};
use stkr_protocol::{SignerKey, recover_signer};

/// Seconds by which the handover is in the validators' past when it is drawn.
const PAST: u64 = 300;

/// A network, a key of servers in index order, and a gateway that signs with it.
struct World {
    network: Network,
    gateway: Gateway,
    committee: Vec<usize>,
    key: u64,
    dir: tempfile::TempDir,
}

impl World {
    async fn of((network, schedule_file): (Network, PathBuf), dir: tempfile::TempDir) -> Result<Self> {
        let schedule = network.server_config(0)?.schedule()?.ok_or_else(|| eyre!("no schedule"))?;
        let (config, provider) = init(&network, &dir.path().join("gateway"), &schedule_file).await?;
        let started = start(&config, dir.path())?;
        let (committee, key, group_key) = key_of(&network, &provider).await?;
        let gateway = Gateway::new(started, config, &schedule, group_key);
        let expected = vec![gateway.pubkey.clone()];
        network.until("the key appears", || async { Ok(gateway.public_keys().await? == expected) }).await?;
        let world = Self { network, gateway, committee, key, dir };
        let appeared = world.gateway.epoch()?;
        world.votes_after(appeared + 1).await?;
        Ok(world)
    }

    /// A vote of the present epoch is signed and its envelopes are kept, once there is one after `last`.
    async fn votes_after(&self, last: u64) -> Result<u64> {
        self.network.until("the next epoch", || async { Ok(self.gateway.epoch()? > last) }).await?;
        let target = self.gateway.epoch()?;
        let vote = self.gateway.vote(target, 1);
        self.network.until("a vote is signed", || async { self.gateway.signs(&vote).await.map(|()| true) }).await?;
        self.gateway.kept_with(&vote).await?;
        Ok(target)
    }

    /// Who signed the newest kept envelope of the share with this index, and for which committee epoch.
    async fn newest_envelope(&self, index: u8) -> Result<(Address, String)> {
        let kept: Value = http().get(format!("{}/v1/requests", self.gateway.url)).send().await?.json().await?;
        let envelopes = kept["rows"].as_array().into_iter().flatten().rev();
        let mut envelopes = envelopes.filter_map(|row| row["envelopes"].as_array()).flatten();
        let of = |it: &&Value| it["answer"]["index"].as_str() == Some(&index.to_string());
        let found = envelopes.find(of).ok_or_else(|| eyre!("share {index} signed nothing: {kept}"))?;
        let signed: SignedEnvelope = serde_json::from_value(found["signed"].clone())?;
        let signer = signer_of(&self.network, &signed)?;
        Ok((signer, found["answer"]["committeeEpoch"].as_str().unwrap_or_default().to_owned()))
    }
}

/// Who signed an envelope.
fn signer_of(network: &Network, envelope: &SignedEnvelope) -> Result<Address> {
    Ok(recover_signer(envelope.digest(&network.domain()), &envelope.signature)?)
}

/// `stkr-server WORDS --config ITS`.
fn server(network: &Network, position: usize, words: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary("stkr-server")?);
    Ok(command.args(words).arg("--config").arg(&network.servers[position].config).output()?)
}

/// What the server says of its signers.
fn signers(network: &Network, position: usize) -> Result<Vec<SignerUse>> {
    let said = server(network, position, &["signers"])?;
    ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let said: stkr_protocol::api::Signers = serde_json::from_slice(&said.stdout)?;
    Ok(said.signers)
}

/// Makes a new signer key and has the operator tell the registry, by the commands of the handbook: the signer before, and the new one.
async fn rotate(network: &Network, position: usize) -> Result<(Address, Address)> {
    let it = &network.servers[position];
    let before = network.stkr().await?.servers().get(it.id).await?.signer;
    let operator = it.operator.address().to_string();
    let made = server(network, position, &["new-signer", "--operator", &operator])?;
    let made: Value = serde_json::from_slice(&made.stdout)?;
    let text = |name: &str| made[name].as_str().map(str::to_owned).ok_or_else(|| eyre!("no {name}: {made}"));
    let signer = text("signer")?;
    // Whoever lost what was printed gets it again, and no second key.
    let again = server(network, position, &["new-signer", "--operator", &operator, "--signer", &signer])?;
    ensure!(serde_json::from_slice::<Value>(&again.stdout)? == made, "{again:?}");

    let key_file = it.dir.join("operator.key");
    write_secret(&key_file, &format!("{}\n", it.operator.to_bytes()))?;
    let (id, proof, key_file) = (it.id.to_string(), text("signerProof")?, key_file.display().to_string());
    stkr(network, &["server", "set-signer", &id, "--signer", &signer, "--proof", &proof, "--key-file", &key_file])?;
    Ok((before, signer.parse()?))
}

/// Waits until the running server has taken up its new signer.
async fn taken_up(network: &Network, position: usize, new: Address) -> Result<()> {
    network
        .until("the new signer is taken up", || async {
            let is_current = |it: &SignerUse| it.signer == new && it.standing == SignerStanding::Current;
            Ok(signers(network, position)?.iter().any(is_current))
        })
        .await
}

#[tokio::test]
async fn a_server_signs_for_each_committee_with_the_signer_of_its_leaf_and_a_reshare_takes_the_new_one() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let behind = TO_HANDOVER + PAST;
    let options = Options { block_ms: 500, behind, reshares: true, ..Options::new(dir.path()) };
    let mut world = World::of(network_of(options).await?, dir).await?;
    let (rotated, silent) = (world.committee[0], world.committee[1]);
    let (old, new) = rotate(&world.network, rotated).await?;
    taken_up(&world.network, rotated, new).await?;

    // Without its share there are too few of them now.
    world.network.kill_server(silent);
    let voted = world.votes_after(world.gateway.epoch()?).await?;
    assert_eq!(world.newest_envelope(1).await?, (old, "0".to_owned()));
    let said = signers(&world.network, rotated)?;
    let of = |signer: Address| said.iter().find(|it| it.signer == signer).ok_or_else(|| eyre!("{said:?}"));
    assert_eq!((of(old)?.standing, of(old)?.shares, &of(old)?.key_ids), (SignerStanding::Earlier, 1, &vec![world.key]));
    assert_eq!((of(new)?.standing, of(new)?.shares), (SignerStanding::Current, 0));
    let refused = server(&world.network, rotated, &["delete-signer", &old.to_string()])?;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("1 shares of this server"), "{refused:?}");

    // The vote of the rotated member counts under its old signer too; without it there are two of three.
    world.network.shorten_the_window().await?;
    world.network.vote_silent((world.key, 0), &world.committee, silent).await?;
    let network = &world.network;
    network.until("the reshare", || async { Ok(!network.reshared(world.key).await?.is_empty()) }).await?;
    let made = world.network.reshared(world.key).await?.remove(0).inner;
    let id = world.network.servers[rotated].id;
    let at =
        made.committee.servers.iter().position(|server| *server == id).ok_or_else(|| eyre!("it left: {made:?}"))?;
    assert_eq!(made.committee.signers[at], new, "the leaf of its new share");
    assert_eq!(&made.committee.points[4 * 128..], world.gateway.group_key.to_eip2537(), "the same key");

    world.network.pass_the_handover(world.key).await?;
    let index = u8::try_from(at)? + 1;
    // Three sign each vote, and its server may be the fourth that follows the finalised block too late for one.
    let signs = || async {
        world.votes_after(voted + 1).await?;
        Ok(world.newest_envelope(index).await? == (new, "1".to_owned()))
    };
    world.network.until("the new share signs", signs).await
}

#[tokio::test]
async fn without_its_old_key_a_server_says_what_is_missing_and_what_it_signed_with_it_still_convicts_it() -> Result<()>
{
    let dir = tempfile::tempdir()?;
    let network_and_schedule = network(dir.path()).await?;
    let mut world = World::of(network_and_schedule, dir).await?;
    let culprit = world.committee[0];
    let id = world.network.servers[culprit].id;
    let (old, new) = rotate(&world.network, culprit).await?;
    taken_up(&world.network, culprit, new).await?;

    // The new key in the place of the old one: the chain says that the database is its as well, and which seats are its own.
    world.network.terminate_server(culprit)?;
    let files = world.network.server_config(culprit)?.files;
    let put_away = world.dir.path().join("old.key");
    std::fs::rename(&files.signer_key, &put_away)?;
    std::fs::rename(stkr_server::signers::file_of(&files.signer_keys, new), &files.signer_key)?;
    world.network.start_server(culprit)?;
    let client = world.network.client(culprit, &Identity::generate("stranger")?)?;
    let network = &world.network;
    network
        .until("it says what is missing", || async {
            let reasons = client.readiness().await?.reasons;
            let says = reasons.iter().any(|it| it.check == "signer" && it.reason.contains(&old.to_string()));
            Ok(says && client.info().await?.server_id.is_some())
        })
        .await?;
    let target = world.gateway.epoch()?;
    let asked = asked(&world, &world.gateway.reveal(target))?;
    let SignResponse::Refused(refused) = client.sign_one(asked.request()).await? else { bail!("it signed") };
    assert!(refused.refusal.reason.contains(&old.to_string()), "{refused:?}");
    assert!(refused.refusal.what_to_do.contains("files.signer_keys"), "{refused:?}");

    // The old key comes back, without a restart, and signs again.
    std::fs::copy(&put_away, stkr_server::signers::file_of(&files.signer_keys, old))?;
    let envelope_of = async || envelope(network, culprit, &asked).await;
    network.until("it signs again", || async { envelope_of().await.map(|_| true) }).await?;
    assert_eq!(signer_of(network, &envelope_of().await?)?, old);

    // Whoever has the old key, or the server itself, answers for what is signed with it.
    std::fs::rename(&put_away, &files.signer_key)?;
    let _accomplice = corrupt(&mut world.network, culprit, "accomplice", &["--key-id", &world.key.to_string()])?;
    let network = &world.network;
    let mut bought = Vec::new();
    for root in [2, 3] {
        bought.push(buy(network, culprit, &world.gateway, world.key, &world.gateway.vote(target, root)).await?);
    }
    for envelope in &bought {
        assert_eq!(signer_of(network, envelope)?, old);
    }
    let file = only_file(&find(network, world.dir.path(), &[&page(&bought)])?)?;
    let (status, answer) = hand_in(network, &file).await?;
    assert!(status < 300, "{status} {answer}");
    let servers = network.stkr().await?;
    network.until("it is locked out", || async { Ok(servers.servers().get(id).await?.locked_out) }).await
}

/// A duty, asked for by the provider.
fn asked(world: &World, duty: &Value) -> Result<Asked> {
    let config = stkr_node::config::load::<stkr_gateway::config::GatewayConfig>(&world.gateway.config)?;
    let key = config.duty_keys()?.pop().ok_or_else(|| eyre!("no duty key"))?;
    stkr_e2e::misbehaviour::asked(&world.network, &world.gateway, world.key, duty, &key)
}

#[tokio::test]
async fn a_key_of_another_server_is_refused_in_one_sentence_and_never_spoken_with() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut network =
        Network::start(Options { servers: 2, relayers: 0, block_ms: 500, ..Options::new(dir.path()) }).await?;
    let (mine, other) = (network.server_config(0)?.files, network.server_config(1)?.files);
    let foreign = network.signer_key(1)?.address();
    let client = network.client(0, &Identity::generate("stranger")?)?;
    network.until("it is ready", || async { Ok(client.readiness().await?.ready) }).await?;

    // While it runs: it says so, and goes on as before.
    std::fs::create_dir_all(&mine.signer_keys)?;
    let copy = stkr_server::signers::file_of(&mine.signer_keys, foreign);
    std::fs::copy(&other.signer_key, &copy)?;
    network
        .until("it says whose key that is", || async {
            let reasons = client.readiness().await?.reasons;
            Ok(reasons.iter().any(|it| it.check == "signer" && it.reason.contains("belongs to server 2")))
        })
        .await?;
    assert_eq!(client.info().await?.signer, network.signer_key(0)?.address());

    // At the start: not at all.
    let said = refused_start(&mut network)?;
    assert!(said.contains(&foreign.to_string()) && said.contains("belongs to server 2"), "{said}");

    // In the place of its own: the database is of another server.
    std::fs::remove_file(&copy)?;
    let own = std::fs::read(&mine.signer_key)?;
    std::fs::remove_file(&mine.signer_key)?;
    std::fs::copy(&other.signer_key, &mine.signer_key)?;
    let said = refused_start(&mut network)?;
    assert!(said.contains("the database belongs to signer") && said.contains(&foreign.to_string()), "{said}");

    // One that nobody registered is no better there, and beside the others it waits.
    std::fs::remove_file(&mine.signer_key)?;
    let nobodys = SignerKey::random()?;
    stkr_node::secrets::write_hex32(&mine.signer_key, &nobodys.to_bytes())?;
    let said = refused_start(&mut network)?;
    assert!(said.contains("the database belongs to signer") && said.contains(&nobodys.address().to_string()), "{said}");
    std::fs::rename(&mine.signer_key, stkr_server::signers::file_of(&mine.signer_keys, nobodys.address()))?;
    write_secret(&mine.signer_key, &String::from_utf8(own)?)?;
    network.start_server(0)?;
    let client = network.client(0, &Identity::generate("stranger")?)?;
    network.until("it is ready", || async { Ok(client.readiness().await?.ready) }).await?;
    let waits = |it: &SignerUse| it.signer == nobodys.address() && it.standing == SignerStanding::Waiting;
    network.until("the key waits", || async { Ok(signers(&network, 0)?.iter().any(waits)) }).await
}

/// What the first server says on standard error when it ends at once, as unsafe.
fn refused_start(network: &mut Network) -> Result<String> {
    network.kill_server(0);
    let ended = server(network, 0, &["run"])?;
    ensure!(ended.status.code() == Some(4), "{ended:?}");
    let said = String::from_utf8(ended.stderr)?;
    said.lines().last().map(str::to_owned).ok_or_else(|| eyre!("it said nothing"))
}
