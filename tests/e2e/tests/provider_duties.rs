//! What a server signs for a provider: duties of the key that the chain assigned to it, asked for by its duty key, never two
//! that conflict, whatever is asked at once and whatever happens to the process.

use std::process::{Command, Output};

use alloy::network::EthereumWallet;
use alloy::primitives::{Address, B256, Bytes};
use eyre::{Result, bail, ensure, eyre};
use serde_json::{Value, json};
use stkr_core::{CommitteeKeys, PublicKey, Threshold};
use stkr_duties::{ForkSchedule, SigningRequest};
use stkr_e2e::beacon::{schedule_text, unix_seconds};
use stkr_e2e::gateway::key_of;
use stkr_e2e::misbehaviour::{find, hand_in, only_file, signed_request, stkr};
use stkr_e2e::network::output;
use stkr_e2e::process::binary;
use stkr_e2e::{Network, Options};
use stkr_node::client::ServerClient;
use stkr_node::tls::Identity;
use stkr_protocol::SignerKey;
use stkr_protocol::api::SignBatch;
use stkr_protocol::collection::{Answer, Collection, Committee, Progress};
use stkr_protocol::evidence::{Accused, EvidenceFile, Fault, Proof, RequestsProof, SignedDutyRequest};
use stkr_protocol::sign::{Asked, Refusal, RefusalKind, SignRequest, SignResponse, SignedPartial};
use stkr_sdk::PoolState;

const THRESHOLD: (u8, u8) = (3, 4);
const SECONDS_PER_SLOT: u64 = 2;
/// The chain of the test is so old at its start, in epochs: as many as there are votes to ask for.
const AGE: u64 = 1_000;

/// The first assignment of a pool's key.
const FIRST: u64 = 1;

/// Who asks: a provider with what it knows of its key.
struct Provider<'a> {
    network: &'a Network,
    schedule: &'a ForkSchedule,
    key_id: u64,
    duty_key: &'a SignerKey,
}

impl Provider<'_> {
    fn request(&self, kind: &str, member: &str, payload: Value) -> Result<SigningRequest> {
        let fork = json!({ "previous_version": "0x05746b72", "current_version": "0x06746b72", "epoch": "0" });
        let root = self.schedule.genesis_validators_root();
        let request = json!({
            "type": kind, "fork_info": { "fork": fork, "genesis_validators_root": root }, member: payload,
        });
        Ok(SigningRequest::decode(request.to_string().as_bytes(), self.schedule.preset())?)
    }

    /// A vote in the first slot of `target`, for a block of which nothing is known but `root`.
    fn vote(&self, source: u64, target: u64, root: u16) -> Result<SigningRequest> {
        let root = B256::left_padding_from(&root.to_be_bytes());
        let data = json!({
            "slot": (target * 32).to_string(), "index": "0", "beacon_block_root": root,
            "source": { "epoch": source.to_string(), "root": root },
            "target": { "epoch": target.to_string(), "root": root },
        });
        self.request("ATTESTATION", "attestation", data)
    }

    fn ask_as(&self, request: &SigningRequest, assignment: u64, duty_key: &SignerKey) -> Result<Asked> {
        Ok(Asked::duty((self.key_id, assignment), request, self.schedule, &self.network.domain(), duty_key)?)
    }

    fn ask(&self, request: &SigningRequest) -> Result<Asked> {
        self.ask_as(request, FIRST, self.duty_key)
    }

    fn asked_vote(&self, source: u64, target: u64, root: u16) -> Result<Asked> {
        self.ask(&self.vote(source, target, root)?)
    }
}

async fn answers(client: &ServerClient, asked: &[&Asked]) -> Result<Vec<SignResponse>> {
    let requests = asked.iter().map(|asked| asked.request().clone()).collect();
    Ok(client.sign(&SignBatch { requests }).await?)
}

async fn answer(client: &ServerClient, asked: &Asked) -> Result<SignResponse> {
    answers(client, &[asked]).await?.pop().ok_or_else(|| eyre!("no answer"))
}

async fn signed(client: &ServerClient, asked: &Asked) -> Result<SignedPartial> {
    match answer(client, asked).await? {
        SignResponse::Signed(partial) => Ok(partial),
        SignResponse::Refused(refused) => bail!("refused: {}", refused.refusal),
    }
}

fn refusal(answer: SignResponse) -> Result<Refusal> {
    match answer {
        SignResponse::Signed(_) => bail!("signed"),
        SignResponse::Refused(refused) => Ok(refused.refusal),
    }
}

async fn assert_refused(client: &ServerClient, asked: &Asked, kind: RefusalKind, reason: &str) -> Result<()> {
    let refusal = refusal(answer(client, asked).await?)?;
    assert!(refusal.kind == kind && refusal.reason.contains(reason), "{reason}: {refusal}");
    assert!(!refusal.what_to_do.is_empty());
    Ok(())
}

/// A network of servers that know a beacon chain, and room for many requests of one client.
async fn network(dir: &std::path::Path) -> Result<(Network, ForkSchedule)> {
    let options = Options { servers: 4, relayers: 0, block_ms: 300, ..Options::new(dir) };
    let file = dir.join("beacon.toml");
    let genesis_time = unix_seconds()? - AGE * 32 * SECONDS_PER_SLOT;
    let text = schedule_text("mainnet", genesis_time, SECONDS_PER_SLOT);
    let mut network = Network::deploy(options).await?;
    std::fs::write(&file, &text)?;
    network.beacon_schedule = Some(file);
    network.init_servers().await?;
    for server in &network.servers {
        let config = std::fs::read_to_string(&server.config)?;
        let config = config.replace("burst = 200", "burst = 5000");
        std::fs::write(&server.config, config.replace("requests_per_second = 50", "requests_per_second = 5000"))?;
    }
    network.register_servers().await?;
    network.approve_servers().await?;
    for position in 0..network.servers.len() {
        network.start_server(position)?;
    }
    let schedule = network.server_config(0)?.schedule()?.ok_or_else(|| eyre!("no schedule"))?;
    Ok((network, schedule))
}

async fn register_duty_key(
    network: &Network,
    provider: &EthereumWallet,
    owner: Address,
    key: &SignerKey,
) -> Result<()> {
    let stkr = network.stkr().await?;
    let digest = stkr_sdk::duty_key_digest(&network.deployment, owner, key.address());
    let proof = Bytes::from(key.sign_digest(digest).to_vec());
    if stkr.providers().get(owner).await.is_ok() {
        stkr.providers().set_duty_key(key.address(), proof)?.send_with(provider).await?;
    } else {
        stkr.providers().register(key.address(), proof)?.send_with(provider).await?;
    }
    Ok(())
}

fn committee_keys(points: &[u8]) -> Result<CommitteeKeys> {
    let points: Vec<PublicKey> = points.chunks(128).map(PublicKey::from_eip2537).collect::<Result<_, _>>()?;
    let (group, shares) = points.split_last().ok_or_else(|| eyre!("no points"))?;
    Ok(CommitteeKeys::new(Threshold::new(THRESHOLD.0, THRESHOLD.1)?, *group, shares.to_vec())?)
}

#[tokio::test]
async fn a_server_signs_what_the_provider_in_charge_asks_for_and_never_two_duties_that_conflict() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut network, schedule) = network(dir.path()).await?;
    let stkr = network.stkr().await?;
    let anyone = EthereumWallet::from(network.account("10").await?);
    let provider_account = network.account("10").await?;
    let provider_wallet = EthereumWallet::from(provider_account.clone());
    let duty_key = SignerKey::random()?;
    register_duty_key(&network, &provider_wallet, provider_account.address(), &duty_key).await?;
    let (pool, _) = network.open_pool(&provider_account, THRESHOLD.0, THRESHOLD.1).await?;
    network.fill_pool(pool, 1).await?;
    let key_id = network.request_key(pool, &anyone).await?;
    let ceremony = network.draw(key_id, THRESHOLD, &anyone).await?;
    let finalisation = network.carry(&ceremony).await?;
    network.finalise(key_id, &finalisation, &anyone).await?;
    let vault = stkr.pools().get(pool).await?.vault;
    let now_epoch = AGE - 1;

    let identity = Identity::generate("gateway")?;
    let member = network.position_of(ceremony.committee()[1])?;
    let client = network.client(member, &identity)?;
    let first;
    {
        let provider = Provider { network: &network, schedule: &schedule, key_id, duty_key: &duty_key };
        network
            .until("the key's pool at the finalized block", || async {
                Ok(matches!(answer(&client, &provider.asked_vote(1, 2, 1)?).await?, SignResponse::Signed(_)))
            })
            .await?;

        // All four sign, and their partials make the validator's signature.
        let keys = committee_keys(&finalisation.points)?;
        let group_key = keys.group_key();
        let committee = Committee::new(network.domain(), 0, keys, ceremony.members().to_vec())?;
        first = provider.asked_vote(100, 101, 1)?;
        let mut collection = Collection::new(first.clone(), committee, []);
        for (index, member) in ceremony.threshold().indices().zip(ceremony.members()) {
            let client = network.client(network.position_of(member.server_id)?, &identity)?;
            network
                .until("this server's pool at the finalized block", || async {
                    Ok(matches!(answer(&client, &first).await?, SignResponse::Signed(_)))
                })
                .await?;
            let partial = signed(&client, &first).await?;
            assert_eq!(collection.on_response(index, SignResponse::Signed(partial)), Answer::Counted);
        }
        let Progress::Done(done) = collection.poll() else { bail!("no signature of the group") };
        assert!(stkr_core::verify(&group_key, &first.subject().signing_root().0, &done.signature));

        // Who asks, and for what.
        use RefusalKind::{Denied, Slashable, UnknownKey};
        let vote = provider.vote(101, 102, 1)?;
        let stranger = SignerKey::random()?;
        let by_stranger = provider.ask_as(&vote, FIRST, &stranger)?;
        assert_refused(&client, &by_stranger, Denied, "the duty key in charge is").await?;
        let earlier = provider.ask_as(&vote, FIRST + 1, &duty_key)?;
        assert_refused(&client, &earlier, Denied, "names assignment 2 of key").await?;
        let no_key = Provider { key_id: 99, ..provider }.asked_vote(101, 102, 1)?;
        assert_refused(&client, &no_key, UnknownKey, "no share of key 99").await?;
        let future = provider.asked_vote(now_epoch, now_epoch + 10, 1)?;
        assert_refused(&client, &future, Denied, "of the future").await?;
        let SignRequest::Duty(mut claim) = provider.ask(&vote)?.request().clone() else { bail!("no duty") };
        let mut text: Value = serde_json::from_str(claim.duty.get())?;
        text["signingRoot"] = json!(B256::repeat_byte(9));
        let with_claim = json!({ "type": "DUTY", "keyId": key_id.to_string(), "assignment": "1", "duty": text,
            "signature": format!("0x{}", hex::encode(claim.signature)) });
        let SignRequest::Duty(lie) = serde_json::from_str(&with_claim.to_string())? else { bail!("no duty") };
        claim.duty = lie.duty;
        let replies = client.sign(&SignBatch { requests: vec![SignRequest::Duty(claim)] }).await?;
        let refused = refusal(replies.into_iter().next().ok_or_else(|| eyre!("no reply"))?)?;
        assert!(refused.kind == Denied && refused.reason.contains(&B256::repeat_byte(9).to_string()), "{refused}");
        let exit = json!({ "epoch": "1", "validator_index": "5" });
        let exit = provider.ask(&provider.request("VOLUNTARY_EXIT", "voluntary_exit", exit)?)?;
        assert_refused(&client, &exit, Denied, "finalized order").await?;
        let registration = |recipient: Address| -> Result<Asked> {
            let payload = json!({
                "fee_recipient": recipient, "gas_limit": "45000000", "timestamp": unix_seconds()?.to_string(),
                "pubkey": format!("0x{}", hex::encode(group_key.to_compressed())),
            });
            provider.ask(&provider.request("VALIDATOR_REGISTRATION", "validator_registration", payload)?)
        };
        let thief = registration(Address::repeat_byte(0x7e))?;
        assert_refused(&client, &thief, Denied, &format!("belongs to its pool's vault {vault}")).await?;
        signed(&client, &registration(vault)?).await?;
        let block = json!({ "version": "FULU", "block_header": {
            "slot": "5000", "proposer_index": "1", "parent_root": B256::ZERO, "state_root": B256::ZERO,
            "body_root": B256::ZERO,
        } });
        let block = provider.ask(&provider.request("BLOCK_V2", "beacon_block", block)?)?;
        assert_refused(&client, &block, Denied, "does not prove that it pays").await?;

        // Nothing of that was recorded. What was signed is signed again, and nothing that conflicts with it.
        let again = signed(&client, &first).await?;
        assert_eq!(again, signed(&client, &first).await?);
        assert_refused(&client, &provider.asked_vote(100, 101, 2)?, Slashable, "double vote").await?;
        let (left, right) = (provider.asked_vote(200, 201, 1)?, provider.asked_vote(200, 201, 2)?);
        let mut both = answers(&client, &[&left, &right]).await?.into_iter();
        ensure!(matches!(both.next(), Some(SignResponse::Signed(_))), "the first of a batch is safe");
        let second = refusal(both.next().ok_or_else(|| eyre!("no reply"))?)?;
        assert!(second.kind == Slashable && second.reason.contains("double vote"), "{second}");
        assert_refused(&client, &provider.asked_vote(199, 202, 1)?, Slashable, "surround").await?;
    }

    // SIGKILL, and the memory of what was signed stays.
    network.kill_server(member);
    network.start_server(member)?;
    let client = network.client(member, &identity)?;
    let new_key = SignerKey::random()?;
    {
        let provider = Provider { network: &network, schedule: &schedule, key_id, duty_key: &duty_key };
        assert_refused(&client, &provider.asked_vote(100, 101, 2)?, RefusalKind::Slashable, "double vote").await?;
        signed(&client, &first).await?;

        // A thousand at once, each with another root.
        let asked: Vec<Asked> = (0..1_000).map(|root| provider.asked_vote(300, 301, root)).collect::<Result<_, _>>()?;
        let calls = asked.iter().map(|asked| answer(&client, asked));
        let replies = futures::future::try_join_all(calls).await?;
        let count = replies.iter().filter(|reply| matches!(reply, SignResponse::Signed(_))).count();
        assert_eq!((replies.len(), count), (1_000, 1));
        for reply in replies.into_iter().filter(|reply| matches!(reply, SignResponse::Refused(_))) {
            let refusal = refusal(reply)?;
            assert!(refusal.kind == RefusalKind::Slashable && refusal.reason.contains("double vote"), "{refusal}");
        }

        // Another duty key within the assignment: both are served for a while, so that no duty is missed.
        register_duty_key(&network, &provider_wallet, provider_account.address(), &new_key).await?;
        let rotated = provider.ask_as(&provider.vote(400, 401, 1)?, FIRST, &new_key)?;
        network
            .until("the new duty key", || async {
                Ok(matches!(answer(&client, &rotated).await?, SignResponse::Signed(_)))
            })
            .await?;
        signed(&client, &provider.asked_vote(401, 402, 1)?).await?;
    }

    // Requests that conflict are kept, the refused ones too, and whoever asks gets a pair of them.
    network
        .until("the server hands out the provider's conflict", || async {
            let found = client.conflicts(0).await?.conflicts;
            let pair = found.first().map(|it| (it.first.key_id, it.first.conflicts_with(&it.second)));
            assert!(found.len() <= 1, "one pair of an assignment is enough: {found:?}");
            Ok(pair == Some((key_id, true)))
        })
        .await?;
    network.terminate_server(member)?;
    let config = network.server_config(member)?;
    let path = network.servers.get(member).ok_or_else(|| eyre!("no server"))?.config.clone();
    let stkr_server = |args: &[&str]| -> Result<Output> {
        let mut command = Command::new(binary("stkr-server")?);
        Ok(command.args(args).arg("--config").arg(&path).output()?)
    };
    let done = |args: &[&str]| -> Result<String> {
        let output = stkr_server(args)?;
        ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    let evidence = done(&["evidence"])?;
    let rows: Vec<Value> = evidence.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let pair: Vec<&Value> = rows.iter().filter(|row| row["targetEpoch"] == 101).collect();
    assert_eq!(pair.len(), 2, "{evidence}");
    assert_eq!(pair.iter().filter(|row| row["envelope"].is_null()).count(), 1, "one was refused");
    assert_eq!(rows.iter().filter(|row| row["targetEpoch"] == 301).count(), 1_000);
    // The same as a file that anybody can show the Court.
    let folder = dir.path().join("conflicts").display().to_string();
    let named = done(&["evidence", "--conflicts", &folder])?;
    let line = named.lines().next().ok_or_else(|| eyre!("no conflict was found"))?;
    let named: Value = serde_json::from_str(line)?;
    let path = named["file"].as_str().ok_or_else(|| eyre!("{named} names no file"))?;
    let file = EvidenceFile::from_json(&std::fs::read(path)?)?;
    let verified = file.verify()?;
    assert_eq!((verified.fault, verified.key_id), (Fault::ProviderEquivocation, key_id));

    // A history that is lost, or older than it was, signs nothing before an import.
    let file = |name: &str| dir.path().join(name).display().to_string();
    done(&["protection", "export", "--file", &file("history.json")])?;
    done(&["protection", "backup", "--file", &file("backup.db")])?;
    // Together with its witness: the server's own database remembers that there was one.
    std::fs::remove_file(&config.files.protection)?;
    std::fs::remove_file(config.files.protection.with_extension("db.witness"))?;
    let refused = stkr_server(&["run"])?;
    let sentence = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(4) && sentence.contains("but there was one here"), "{sentence}");
    done(&["protection", "restore", "--file", &file("backup.db")])?;
    let refused = stkr_server(&["run"])?;
    let sentence = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(4) && sentence.contains("it was restored from a backup"), "{sentence}");
    done(&["protection", "import", "--file", &file("history.json")])?;
    assert_eq!(done(&["protection", "status"])?.lines().count(), 1, "one key");
    network.start_server(member)?;
    let client = network.client(member, &identity)?;
    let provider = Provider { network: &network, schedule: &schedule, key_id, duty_key: &new_key };
    assert_refused(&client, &provider.asked_vote(400, 401, 2)?, RefusalKind::Slashable, "asked for source 400").await
}

/// What a request looks like in evidence.
fn in_evidence(asked: &Asked) -> Result<SignedDutyRequest> {
    let SignRequest::Duty(duty) = asked.request() else { bail!("no duty") };
    Ok(signed_request(asked.subject(), FIRST, duty.signature))
}

/// A page as a gateway gives it, with these requests.
fn page(requests: &[SignedDutyRequest]) -> Value {
    let rows: Vec<Value> = requests.iter().map(|request| json!({ "signedRequest": request })).collect();
    json!({ "rows": rows })
}

/// `stkr evidence verify` of a file: what it says, or why it is none.
fn verified(network: &Network, dir: &std::path::Path, file: &EvidenceFile, more: &[&str]) -> Result<Value> {
    let path = dir.join("to-verify.json");
    std::fs::write(&path, serde_json::to_vec(file)?)?;
    let path = path.display().to_string();
    stkr(network, &[&["evidence", "verify", &path], more].concat())
}

/// The watermarks of a key know of no duty key, and the Court charges whoever named both.
#[tokio::test]
async fn a_provider_that_names_another_duty_key_between_two_votes_gets_one_signature_and_pays() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut network, schedule) = network(dir.path()).await?;
    network.add_relayer(0).await?;
    let sdk = network.stkr().await?;
    let account = network.account("10").await?;
    let wallet = EthereumWallet::from(account.clone());
    let [old_key, new_key] = [SignerKey::random()?, SignerKey::random()?];
    register_duty_key(&network, &wallet, account.address(), &old_key).await?;
    let (committee, key_id, _) = key_of(&network, &account).await?;
    let pool = sdk.pools().of_key(key_id).await?.ok_or_else(|| eyre!("key {key_id} is no pool's"))?;
    let pays = [PoolState::Predeposited, PoolState::Active];
    network.until("the predeposit", || async { Ok(pays.contains(&sdk.pools().state(pool).await?)) }).await?;

    let provider = Provider { network: &network, schedule: &schedule, key_id, duty_key: &old_key };
    let identity = Identity::generate("gateway")?;
    let clients =
        committee.iter().map(|member| network.client(*member, &identity)).collect::<Result<Vec<ServerClient>>>()?;
    let (before, after) = (provider.asked_vote(1, 2, 1)?, provider.ask_as(&provider.vote(2, 3, 1)?, FIRST, &new_key)?);
    for (asked, key) in [(&before, None), (&after, Some(&new_key))] {
        if let Some(key) = key {
            register_duty_key(&network, &wallet, account.address(), key).await?;
        }
        for client in &clients {
            network
                .until("every server knows the duty key", || async {
                    Ok(matches!(answer(client, asked).await?, SignResponse::Signed(_)))
                })
                .await?;
        }
    }

    // Both keys are served now.
    let by_old = provider.asked_vote(100, 101, 1)?;
    let by_new = provider.ask_as(&provider.vote(100, 101, 2)?, FIRST, &new_key)?;

    // Whoever has the pages of two gateways, one for each key, has both. A stranger's vote between them hides nothing and is nobody's.
    let (old, new) = (in_evidence(&by_old)?, in_evidence(&by_new)?);
    let by_stranger =
        |root| in_evidence(&provider.ask_as(&provider.vote(100, 101, root)?, FIRST, &SignerKey::random()?)?);
    let (stranger, the_same) = (by_stranger(3)?, by_stranger(2)?);
    let [first, second] = [&[stranger.clone(), old.clone()][..], &[stranger.clone(), new.clone()]].map(page);
    for pages in [[&first].as_slice(), &[&second]] {
        let found = find(&network, dir.path(), pages)?;
        assert_eq!((&found["found"], &found["requests"]), (&json!([]), &json!(2)), "{found}");
    }
    let found = find(&network, dir.path(), &[&first, &second])?;
    let file = only_file(&found)?;
    let accused = Accused::Provider { duty_keys: [old_key.address(), new_key.address()], assignment: FIRST };
    assert_eq!((file.verify()?.fault, file.verify()?.accused), (Fault::ProviderEquivocation, accused));

    // Beside its vote a stranger's proves nothing: not to a relayer, and not to a reader of the chain.
    let (domain, court) = (network.domain(), network.deployment.court);
    let of = |first: &SignedDutyRequest, second: &SignedDutyRequest| {
        let proof = RequestsProof { first: first.clone(), second: second.clone() };
        EvidenceFile::new(&domain, court, Proof::ProviderEquivocation(proof))
    };
    for framed in [of(&old, &stranger), of(&stranger, &new)] {
        let (status, answer) = hand_in(&network, &framed).await?;
        assert!(status == 503 && answer.to_string().contains("are not both duty keys of assignment 1"), "{answer}");
        let error = verified(&network, dir.path(), &framed, &[]).err().ok_or_else(|| eyre!("a frame was verified"))?;
        assert!(error.to_string().contains("is and was no duty key of provider"), "{error}");
        let offline = verified(&network, dir.path(), &framed, &["--offline"]).err().ok_or_else(|| eyre!("decided"))?;
        assert!(offline.to_string().contains("are duty keys of one provider only the chain can say"), "{offline}");
    }
    assert_eq!(verified(&network, dir.path(), &file, &[])?["onRecord"], Value::Null);

    // Three servers are asked with the old key first, the last with the new one first.
    for (position, client) in clients.iter().enumerate() {
        let asked = if position < usize::from(THRESHOLD.0) { [&by_old, &by_new] } else { [&by_new, &by_old] };
        let mut both = answers(client, &asked).await?.into_iter();
        ensure!(matches!(both.next(), Some(SignResponse::Signed(_))), "the first is safe, whoever asks");
        let second = refusal(both.next().ok_or_else(|| eyre!("no reply"))?)?;
        assert!(second.kind == RefusalKind::Slashable && second.reason.contains("double vote"), "{second}");
        let surround = provider.ask_as(&provider.vote(99, 102, 3)?, FIRST, &new_key)?;
        assert_refused(client, &surround, RefusalKind::Slashable, "surround").await?;
    }

    // Nobody stops a server and nobody hands anything in: the relayer asks the servers, and the provider pays.
    network.until("the provider pays", || async { Ok(sdk.pools().penalties(pool).await?.migration_due) }).await?;
    assert_eq!(sdk.providers().get(account.address()).await?.penalties.len(), 1);
    let kept = network.relayer_json(0, "/v1/evidence").await?;
    let kept = kept["evidence"].as_array().ok_or_else(|| eyre!("no evidence"))?;
    assert!(!kept.is_empty() && kept.iter().all(|row| row["kind"] == "provider_equivocation"), "{kept:?}");
    let on_record = verified(&network, dir.path(), &file, &[])?;
    assert!(on_record["onRecord"]["judgement"]["charged"] == true, "{on_record}");
    network.terminate_server(committee[0])?;
    let config = network.servers.get(committee[0]).ok_or_else(|| eyre!("no server"))?.config.clone();
    let folder = dir.path().join("conflicts");
    let mut command = Command::new(binary("stkr-server")?);
    let printed = output(command.args(["evidence", "--config"]).arg(config).arg("--conflicts").arg(&folder))?;
    let lines: Vec<Value> = printed.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let [line] = lines.as_slice() else { bail!("not one file: {printed}") };
    let path = line["file"].as_str().ok_or_else(|| eyre!("no file: {line}"))?;
    assert_eq!(EvidenceFile::from_json(&std::fs::read(path)?)?, file, "the server found the same");

    // Once: the other way round it is the same evidence, and on record it says nothing of who else signs the same.
    assert!(verified(&network, dir.path(), &of(&new, &old), &[])?["onRecord"].is_object());
    let (status, answer) = hand_in(&network, &of(&new, &old)).await?;
    assert!(status == 503 && answer.to_string().contains("its provider has paid for it already"), "{answer}");
    assert_eq!(of(&old, &the_same).verify()?.evidence, file.verify()?.evidence);
    let error = verified(&network, dir.path(), &of(&old, &the_same), &[]).err();
    let error = error.ok_or_else(|| eyre!("a stranger's signature was taken for what is on record"))?;
    assert!(error.to_string().contains("is and was no duty key of provider"), "{error}");
    Ok(())
}
