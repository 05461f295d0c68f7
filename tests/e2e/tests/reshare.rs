//! A key goes to another committee: a member is stopped and voted silent, its seat goes to a spare server, the group key stays what it is.
//! Every server that takes part is killed at each named point of it. Signatures before the handover are the old committee's,
//! from then on the new one's, and nobody signs what lies on the other side.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use alloy::network::EthereumWallet;
use alloy::primitives::{B256, Bytes};
use alloy::providers::Provider as _;
use eyre::{Result, WrapErr as _, bail, ensure, eyre};
use serde_json::json;
use stkr_chain::{ChainReader, KeyCommittees, Trust};
use stkr_core::{CommitteeKeys, PublicKey, Threshold};
use stkr_duties::{ForkSchedule, SigningRequest};
use stkr_e2e::beacon::{schedule_text, unix_seconds};
use stkr_e2e::{Network, Options, anvil};
use stkr_node::tls::Identity;
use stkr_protocol::SignerKey;
use stkr_protocol::api::{ReshareAdvanceRequest, SignBatch};
use stkr_protocol::collection::{Answer, Collection, Committee, Progress};
use stkr_protocol::handover::KEEP_PAST_SHARES;
use stkr_protocol::reshare::{Board, Plan, Round, Sender, Transcript};
use stkr_protocol::sign::{Asked, RefusalKind, SignResponse};
use stkr_protocol::silence::SilenceVote;

const THRESHOLD: (u8, u8) = (3, 4);
const DAY: u64 = 24 * 3600;
/// Minimal preset, a slot a second.
const SECONDS_PER_EPOCH: u64 = 8;
/// Where a server that deals and stays is killed, in this order.
const POINTS: [&str; 9] = [
    "server.reshare_unbegun",
    "server.reshare_begun",
    "server.reshare_keys_unwritten",
    "server.reshare_keys_written",
    "server.reshare_dealing_unwritten",
    "server.reshare_dealing_written",
    "server.reshare_acknowledgement_unwritten",
    "server.reshare_acknowledgement_written",
    "server.reshare_unanswered",
];

struct World {
    network: Network,
    schedule: ForkSchedule,
    identity: Identity,
    anyone: EthereumWallet,
    duty_key: SignerKey,
    key_id: u64,
    first: Committee,
}

impl World {
    /// Five servers and a key that four of them hold.
    async fn start(dir: &std::path::Path) -> Result<Self> {
        let options = Options { servers: 5, relayers: 0, block_ms: 300, behind: 3 * DAY, ..Options::new(dir) };
        let mut network = Network::deploy(options).await?;
        let file = dir.join("beacon.toml");
        std::fs::write(&file, schedule_text("minimal", unix_seconds()? - 4 * DAY, 1))?;
        network.beacon_schedule = Some(file);
        network.init_servers().await?;
        let variable = || (stkr_kill_points::VARIABLE.to_owned(), "kill".into());
        network.servers.iter_mut().for_each(|server| server.environment.push(variable()));
        network.register_servers().await?;
        network.approve_servers().await?;
        for position in 0..network.servers.len() {
            network.start_server(position)?;
        }
        let schedule = network.server_config(0)?.schedule()?.ok_or_else(|| eyre!("no schedule"))?;
        let anyone = EthereumWallet::from(network.account("100").await?);
        let provider = network.account("100").await?;
        let (duty_key, wallet) = (SignerKey::random()?, EthereumWallet::from(provider.clone()));
        let digest = stkr_sdk::duty_key_digest(&network.deployment, provider.address(), duty_key.address());
        let proof = Bytes::from(duty_key.sign_digest(digest).to_vec());
        network.stkr().await?.providers().register(duty_key.address(), proof)?.send_with(&wallet).await?;
        let (pool, _) = network.open_pool(&provider, THRESHOLD.0, THRESHOLD.1).await?;
        network.fill_pool(pool, 1).await?;
        let key_id = network.request_key(pool, &anyone).await?;
        let ceremony = network.draw(key_id, THRESHOLD, &anyone).await?;
        let finalisation = network.carry(&ceremony).await?;
        network.finalise(key_id, &finalisation, &anyone).await?;
        let points = finalisation.points.chunks(128).map(PublicKey::from_eip2537);
        let points: Vec<PublicKey> = points.collect::<Result<_, _>>()?;
        let (group, shares) = points.split_last().ok_or_else(|| eyre!("no points"))?;
        let keys = CommitteeKeys::new(Threshold::new(THRESHOLD.0, THRESHOLD.1)?, *group, shares.to_vec())?;
        let first = Committee::new(network.domain(), 0, keys, ceremony.members().to_vec())?;
        let identity = Identity::generate("relayer")?;
        Ok(Self { network, schedule, identity, anyone, duty_key, key_id, first })
    }

    fn asked_vote(&self, source: u64, target: u64) -> Result<Asked> {
        let fork = json!({ "previous_version": "0x05746b72", "current_version": "0x06746b72", "epoch": "0" });
        let root = B256::repeat_byte(1);
        let request = json!({
            "type": "ATTESTATION",
            "fork_info": { "fork": fork, "genesis_validators_root": self.schedule.genesis_validators_root() },
            "attestation": {
                "slot": (target * 8).to_string(), "index": "0", "beacon_block_root": root,
                "source": { "epoch": source.to_string(), "root": root },
                "target": { "epoch": target.to_string(), "root": root },
            },
        });
        let request = SigningRequest::decode(request.to_string().as_bytes(), self.schedule.preset())?;
        Ok(Asked::duty((self.key_id, 1), &request, &self.schedule, &self.network.domain(), &self.duty_key)?)
    }

    async fn answer(&self, server_id: u32, asked: &Asked) -> Result<SignResponse> {
        let client = self.network.client(self.network.position_of(server_id)?, &self.identity)?;
        let replies = client.sign(&SignBatch { requests: vec![asked.request().clone()] }).await?;
        replies.into_iter().next().ok_or_else(|| eyre!("no answer"))
    }

    /// The servers of `committee` but for `down` make the validator's signature.
    async fn signs(&self, committee: &Committee, down: Option<u32>, (source, target): (u64, u64)) -> Result<()> {
        let asked = self.asked_vote(source, target)?;
        let mut collection = Collection::new(asked.clone(), committee.clone(), []);
        let seats = committee.keys().threshold().indices().zip(committee.members());
        for (index, member) in seats.filter(|(_, member)| Some(member.server_id) != down) {
            self.network
                .until("a partial of a server", || async {
                    Ok(matches!(self.answer(member.server_id, &asked).await?, SignResponse::Signed(_)))
                })
                .await?;
            let answered = collection.on_response(index, self.answer(member.server_id, &asked).await?);
            ensure!(answered == Answer::Counted, "server {}: {answered:?}", member.server_id);
        }
        let Progress::Done(done) = collection.poll() else { bail!("no signature of the group") };
        let root = asked.subject().signing_root().0;
        ensure!(stkr_core::verify(&self.first.keys().group_key(), &root, &done.signature), "a wrong signature");
        Ok(())
    }

    /// The server refuses, and never signs on the way to this reason: it follows finalised blocks a few seconds behind.
    async fn refuses(&self, server_id: u32, vote: (u64, u64), kind: RefusalKind, reason: &str) -> Result<()> {
        let asked = self.asked_vote(vote.0, vote.1)?;
        let mut last = String::new();
        for _ in 0..120 {
            match self.answer(server_id, &asked).await? {
                SignResponse::Signed(_) => bail!("server {server_id} signed {vote:?}"),
                SignResponse::Refused(refused) => {
                    let refusal = refused.refusal;
                    if refusal.kind == kind && refusal.reason.contains(reason) {
                        return Ok(());
                    }
                    last = refusal.to_string();
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        bail!("server {server_id}, {vote:?}, {reason}: {last}")
    }

    async fn time(&self) -> Result<u64> {
        let block = self.network.provider()?.get_block(alloy::eips::BlockId::latest()).await?;
        Ok(block.ok_or_else(|| eyre!("no block"))?.header.timestamp)
    }

    /// Moves the chain to this time, and waits until it is final.
    async fn pass_to(&self, time: u64) -> Result<()> {
        let provider = self.network.provider()?;
        let now = self.time().await?;
        anvil::advance_time(&provider, time.saturating_sub(now)).await?;
        anvil::mine(&provider, 8).await
    }

    /// What finalised blocks show.
    async fn shown(&self) -> Result<KeyCommittees> {
        let url = self.network.anvil.url.parse()?;
        let reader = ChainReader::connect(self.network.deployment.clone(), &[url], Trust::OneEndpoint).await?;
        let block = reader.finalized_block().await?;
        let window = reader.shortest_window(&block).await?;
        Ok(reader.finalized_committees(self.key_id, &block, window).await?)
    }

    /// All members but the silent one.
    async fn vote_silent(&self, silent: u32) -> Result<()> {
        let vote = SilenceVote {
            key_id: self.key_id,
            committee_epoch: 0,
            server: silent,
            until: self.time().await? + 20 * DAY,
        };
        let voters = self.first.members().iter().filter(|member| member.server_id != silent);
        let votes: Result<Vec<_>> = voters
            .map(|member| {
                let key = self.network.signer_key(self.network.position_of(member.server_id)?)?;
                Ok(vote.sign(&self.network.domain(), &key))
            })
            .collect();
        let stkr = self.network.stkr().await?;
        stkr.reshares().vote_silent(self.key_id, &votes?).await?.send_with(&self.anyone).await?;
        Ok(())
    }

    /// A reshare is asked for and drawn; waits until that is final.
    async fn draw(&self) -> Result<Plan> {
        let stkr = self.network.stkr().await?;
        stkr.reshares().request(self.key_id).await?.send_with(&self.anyone).await?;
        let provider = self.network.provider()?;
        anvil::mine(&provider, 8).await?;
        stkr.reshares().draw(self.key_id).await?.send_with(&self.anyone).await?;
        self.network
            .until("a drawn reshare that is final", || async { Ok(self.shown().await?.drawn.is_some()) })
            .await?;
        self.shown().await?.plan().ok_or_else(|| eyre!("nothing is drawn"))?.wrap_err("the plan")
    }

    fn kill_file(&self, position: usize) -> PathBuf {
        self.network.servers[position].dir.join("kill")
    }

    /// Carries messages between all who take part, and has each of them killed at every point that it passes.
    async fn carry(&mut self, plan: &Plan) -> Result<Transcript> {
        let mut board = Board::new(plan.clone());
        let mut ids: Vec<u32> = plan.members().iter().map(|member| member.server_id).collect();
        let dealers = plan.dealers().iter().filter_map(|index| plan.old().members().get(index.position()));
        ids.extend(dealers.map(|member| member.server_id));
        ids.sort_unstable();
        ids.dedup();
        let mut ahead: Vec<(u32, Vec<&str>)> = ids.iter().map(|id| (*id, points(plan, *id))).collect();
        let mut hit = BTreeSet::new();
        for _ in 0..6 {
            for (id, points) in &mut ahead {
                let position = self.network.position_of(*id)?;
                while self.call(position, &mut board, points.first().copied()).await? {
                    hit.insert(points.remove(0));
                }
                // One step may make the messages of two rounds: then the later ones had their chance.
                points.retain(|point| !has_said(&board, *id, point));
            }
        }
        let missed: Vec<_> = POINTS.into_iter().filter(|point| !hit.contains(point)).collect();
        ensure!(missed.is_empty(), "nobody passed {missed:?}");
        Ok(Transcript::assemble(&board)?)
    }

    /// One call of one server; whether it was killed at `point` and started again.
    async fn call(&mut self, position: usize, board: &mut Board, point: Option<&str>) -> Result<bool> {
        let (file, hit) = (self.kill_file(position), self.kill_file(position).with_extension("hit"));
        if let Some(point) = point {
            std::fs::write(&file, format!("{point} 1"))?;
        }
        let id = board.plan().id();
        let messages = board.messages().cloned().collect();
        let request = ReshareAdvanceRequest {
            key_id: id.key_id,
            committee_epoch: id.committee_epoch,
            attempt: id.attempt,
            messages,
        };
        let client = self.network.client(position, &self.identity)?;
        let answer = client.advance_reshare(&request).await;
        if hit.exists() {
            ensure!(answer.is_err(), "it was killed and answered: {answer:?}");
            std::fs::remove_file(&hit)?;
            self.network.kill_server(position);
            self.network.start_server(position)?;
            return Ok(true);
        }
        let _ = std::fs::remove_file(&file);
        let answer = answer?;
        ensure!(answer.failure.is_none(), "{:?}", answer.failure);
        for message in answer.messages {
            board.accept(message)?;
        }
        Ok(false)
    }

    async fn finalise(&self, transcript: &Transcript) -> Result<()> {
        let (keys, signatures) = (transcript.keys(), transcript.acknowledgements());
        let acknowledgements: Vec<Bytes> = signatures.chunks(65).map(Bytes::copy_from_slice).collect();
        let (group_key, digest) = (keys.group_key(), transcript.dealings_digest());
        let stkr = self.network.stkr().await?;
        let reshares = stkr.reshares();
        let write = reshares.finalise(self.key_id, keys.share_keys(), &group_key, digest, &acknowledgements);
        write.await?.send_with(&self.anyone).await?;
        Ok(())
    }

    async fn log_says(&self, server_id: u32, words: &str) -> Result<()> {
        let position = self.network.position_of(server_id)?;
        let log = || self.network.servers[position].process.as_ref().map(|process| process.log()).unwrap_or_default();
        self.network.until(words, || async { Ok(log().contains(words)) }).await
    }
}

/// Whether this server's message of the round that the point names is out.
fn has_said(board: &Board, server_id: u32, point: &str) -> bool {
    let (member, dealer) = (board.plan().member_of(server_id), board.plan().dealer_of(server_id));
    let has = |round, sender: Option<Sender>| sender.is_some_and(|sender| board.message(round, sender).is_some());
    (point.contains("keys") && has(Round::Keys, member.map(Sender::Member)))
        || (point.contains("dealing") && has(Round::Dealing, dealer.map(Sender::Dealer)))
        || (point.contains("acknowledgement") && has(Round::Acknowledgement, member.map(Sender::Member)))
}

/// The points that this server passes.
fn points(plan: &Plan, server_id: u32) -> Vec<&'static str> {
    let deals = plan.dealer_of(server_id).is_some();
    POINTS.into_iter().filter(|point| deals || !point.contains("dealing")).collect()
}

#[tokio::test]
async fn a_stopped_members_seat_goes_to_a_spare_server_killed_at_every_point_and_the_key_signs_on() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut world = World::start(dir.path()).await?;
    let epoch_of = |world: &World, time: u64| (time - world.schedule.genesis_time()) / SECONDS_PER_EPOCH;
    let before = epoch_of(&world, world.time().await?);
    world.signs(&world.first, None, (before - 2, before - 1)).await?;

    let silent = world.first.members()[1].server_id;
    world.network.kill_server(world.network.position_of(silent)?);
    world.vote_silent(silent).await?;
    let plan = world.draw().await?;
    let spare = plan.members()[1].server_id;
    ensure!(!world.first.members().iter().any(|member| member.server_id == spare), "it went to another server");
    let drawn = world.shown().await?.drawn.ok_or_else(|| eyre!("nothing drawn"))?;
    // First epoch that begins at or after the handover.
    let handover = (drawn.handover - world.schedule.genesis_time()).div_ceil(SECONDS_PER_EPOCH);
    let stays = world.first.members()[0].server_id;

    // Nobody knows yet whether there will be a new committee.
    world.signs(&world.first, Some(silent), (before, before + 1)).await?;
    let undecided = "would hand over before epoch";
    world.refuses(stays, (handover - 1, handover), RefusalKind::Unavailable, undecided).await?;

    let transcript = world.carry(&plan).await?;
    assert_eq!(transcript.keys().group_key(), world.first.keys().group_key());
    world.finalise(&transcript).await?;
    world.pass_to(drawn.deadline + 1).await?;
    world.network.start_server(world.network.position_of(silent)?)?;
    let second = Committee::new(world.network.domain(), 1, transcript.keys().clone(), plan.members().to_vec())?;
    world
        .network
        .until("both committees at the finalised block", || async { Ok(world.shown().await?.terms.len() == 2) })
        .await?;

    // The old committee to the last epoch, with the one that was silent; the new one from the next, whose first source may be two before.
    world.signs(&world.first, None, (handover - 2, handover - 1)).await?;
    world.signs(&second, None, (handover - 1, handover)).await?;
    let (turn_of_new, turn_of_old) =
        (format!("committee epoch 1 of key {}", world.key_id), format!("committee epoch 0 of key {}", world.key_id));
    world.refuses(silent, (handover, handover + 1), RefusalKind::Denied, &turn_of_new).await?;
    world.refuses(spare, (handover - 2, handover - 1), RefusalKind::Denied, &turn_of_old).await?;
    for server in [spare, stays] {
        world.refuses(server, (handover - 3, handover + 1), RefusalKind::Denied, "source epoch").await?;
    }

    // Seven days later nobody has a share of the old committee any more, and the new one goes on.
    world.pass_to(drawn.handover + KEEP_PAST_SHARES).await?;
    for server in [silent, stays] {
        world.log_says(server, "share erased").await?;
    }
    world.signs(&second, None, (handover + 1, handover + 2)).await?;
    world.refuses(silent, (handover + 2, handover + 3), RefusalKind::Denied, &turn_of_new).await?;
    Ok(())
}
