use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::primitives::{Address, keccak256};
use axum::routing::post;
use axum::{Json, Router};
use stkr_core::reshare::RecipientSecrets;
use stkr_core::testing::TrustedDealer;
use stkr_core::{SecretShare, Threshold};
use stkr_node::client::{Patience, Peer};
use stkr_node::database::Database;
use stkr_node::http::{JsonBody, Limits, serve_tls};
use stkr_node::metrics::Metrics;
use stkr_node::shutdown::Shutdown;
use stkr_node::tls::{self, Identity};
use stkr_protocol::api::Part;
use stkr_protocol::ceremony::MemberId;
use stkr_protocol::collection::Committee;
use stkr_protocol::reshare::{Body, Hands, Participant, ReshareId, ReshareKeysBody, Stored};
use stkr_protocol::{ProtocolDomain, SignerKey};

use super::*;
use crate::app::SCHEMA;

const DOMAIN: ProtocolDomain = ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(7) };
const ID: ReshareId = ReshareId { key_id: 9, committee_epoch: 1, attempt: 0 };
const DRAFT: B256 = B256::repeat_byte(0xd0);
const DEADLINE: u64 = 10_000;
const NOW: u64 = 5_000;
/// 3-of-4: server 104 loses its seat to 105, and still deals, with 101 and 102.
const OLD: [u32; 4] = [101, 102, 103, 104];
const NEW: [u32; 4] = [101, 102, 103, 105];
const DEALERS: [u8; 3] = [1, 2, 4];

fn index(number: u8) -> ShareIndex {
    ShareIndex::new(number).unwrap()
}

fn signer(server: u32) -> SignerKey {
    SignerKey::from_bytes(&keccak256(server.to_be_bytes()).0).unwrap()
}

fn plan(id: ReshareId) -> (TrustedDealer, Plan) {
    let threshold = Threshold::new(3, 4).unwrap();
    let key = TrustedDealer::deal(threshold, [1; 32]);
    let seats =
        |ids: [u32; 4]| ids.map(|server_id| MemberId { server_id, signer: signer(server_id).address() }).to_vec();
    let old = Committee::new(DOMAIN, id.committee_epoch - 1, key.keys.clone(), seats(OLD)).unwrap();
    let plan = Plan::new(id, old, DEALERS.map(index).to_vec(), (threshold, seats(NEW)), DEADLINE).unwrap();
    (key, plan)
}

type Lie = Box<dyn Fn(ReshareAdvanceResponse) -> ReshareAdvanceResponse + Send + Sync>;

/// A server with its part in the reshare behind a real TLS port.
struct Server {
    id: u32,
    part: Mutex<Participant>,
    share: Option<SecretShare>,
    identity: Identity,
    address: SocketAddr,
    /// What becomes of its answers before they are sent.
    lie: Mutex<Lie>,
}

impl Server {
    fn answer(&self, request: ReshareAdvanceRequest) -> ReshareAdvanceResponse {
        let mut part = self.part.lock().unwrap();
        for message in request.messages {
            let _ = part.accept(message);
        }
        let step = part.step(Hands { keys: &[signer(self.id)], share: self.share.as_ref(), now: NOW }).unwrap();
        let response = ReshareAdvanceResponse {
            messages: part.told().into_iter().cloned().collect(),
            phase: part.phase(),
            waiting_for: part.waiting_for().into_iter().map(Part::from).collect(),
            failure: part.failure().map(Into::into),
            complaint: step.complaint,
        };
        self.lie.lock().unwrap()(response)
    }

    fn start(self: &Arc<Self>) {
        let server = self.clone();
        let handler =
            move |JsonBody(request): JsonBody<ReshareAdvanceRequest>| async move { Json(server.answer(request)) };
        let router = Router::new().route("/v1/reshares/advance", post(handler));
        let listener = std::net::TcpListener::bind(self.address).unwrap();
        let config = tls::server_config(&self.identity).unwrap();
        let metrics = Metrics::new("test", "0");
        tokio::spawn(async move {
            serve_tls(listener, router, config, &metrics, Limits::default(), Shutdown::default()).await
        });
    }
}

struct World {
    plan: Plan,
    servers: Vec<Arc<Server>>,
    store: Store,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        tls::install_provider().unwrap();
        let (key, plan) = plan(ID);
        let server = |id: u32| {
            let dealer = plan.dealer_of(id);
            let share = dealer.map(|index| &key.shares[index.position()]);
            let share = share.map(|share| SecretShare::from_bytes(share.index(), &share.to_bytes()).unwrap());
            let secrets = plan.member_of(id).map(|_| RecipientSecrets::random(plan.reshare()).unwrap());
            let stored = Stored { secrets, ..Stored::default() };
            Arc::new(Server {
                id,
                part: Mutex::new(Participant::new(plan.clone(), id, stored).unwrap()),
                share,
                identity: Identity::generate("server").unwrap(),
                address: std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(),
                lie: Mutex::new(Box::new(|answer| answer)),
            })
        };
        let servers = [101, 102, 103, 104, 105].map(server).to_vec();
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("relayer.sqlite"), &SCHEMA).unwrap();
        Self { plan, servers, store: Store::new(Arc::new(database)), _folder: folder }
    }

    fn running() -> Self {
        let world = Self::new();
        world.servers.iter().for_each(Server::start);
        world
    }

    fn server(&self, id: u32) -> &Arc<Server> {
        self.servers.iter().find(|server| server.id == id).unwrap()
    }

    fn lies(&self, id: u32, lie: impl Fn(ReshareAdvanceResponse) -> ReshareAdvanceResponse + Send + Sync + 'static) {
        *self.server(id).lie.lock().unwrap() = Box::new(lie);
    }

    /// A carrier as after a restart: it knows what the store knows.
    fn carrier(&self) -> Carrier {
        self.carrier_of(DRAFT)
    }

    fn carrier_of(&self, draft: B256) -> Carrier {
        self.carrier_without(draft, &[])
    }

    /// One for which these have no network.
    fn carrier_without(&self, draft: B256, offline: &[u32]) -> Carrier {
        let identity = Identity::generate("relayer").unwrap();
        let parties = self.servers.iter().map(|server| {
            let (endpoint, fingerprint) = (server.address.to_string(), server.identity.fingerprint());
            let peer = Peer { server_id: server.id, endpoint, fingerprint };
            let patience = Patience { connect: Duration::from_secs(5), answer: Duration::from_secs(5) };
            Party {
                server_id: server.id,
                dealer: self.plan.dealer_of(server.id),
                member: self.plan.member_of(server.id),
                client: ServerClient::new(&identity, peer, patience),
                online: !offline.contains(&server.id),
            }
        });
        Carrier::open(self.plan.clone(), draft, parties.collect(), self.store.clone()).unwrap()
    }

    fn kept(&self) -> Vec<(u32, &'static str)> {
        let kept = self.store.reshare_evidence(ID).unwrap();
        assert!(kept.iter().all(|it| it.file.verify().is_ok()));
        kept.into_iter().map(|it| (it.server_id, it.kind)).collect()
    }
}

fn say(server: u32, id: ReshareId, seat: u8, body: Body) -> ReshareMessage {
    ReshareMessage::sign(&DOMAIN, &signer(server), id, index(seat), body)
}

fn keys_body(byte: u8) -> Body {
    Body::Keys(ReshareKeysBody { public_keys: vec![byte; 99] })
}

/// Visits until nothing changes.
async fn carry_on(carrier: &mut Carrier) {
    while carrier.round().await.unwrap() {}
}

#[tokio::test]
async fn a_reshare_carried_by_a_relayer_that_dies_after_every_round_ends_in_one_transcript() {
    let world = World::running();
    for _ in 0..6 {
        let mut carrier = world.carrier();
        carrier.round().await.unwrap();
        if matches!(carrier.standing(), Standing::Complete(_)) {
            break;
        }
    }
    let reborn = world.carrier();
    let Standing::Complete(transcript) = reborn.standing() else { panic!("{:?}", reborn.standing()) };
    assert_eq!(transcript.keys().group_key(), world.plan.old().keys().group_key());
    assert_eq!(transcript.points().len(), 5 * 128);
    assert_eq!(world.store.reshare_messages(ID, DRAFT).unwrap().len(), 4 + 3 + 4, "every message once");
    assert_eq!((world.kept(), reborn.waiting_for()), (vec![], vec![]));
}

#[tokio::test]
async fn a_server_that_is_down_is_named_with_its_part_its_round_since_when_and_what_to_check() {
    const BEGUN: u64 = 1_700_000_000;
    let world = World::new();
    world.servers.iter().filter(|server| server.id != 104).for_each(Server::start);
    let mut carrier = world.carrier().begun_at(Some(BEGUN));
    carry_on(&mut carrier).await;
    let waiting = carrier.waiting_for();
    assert!(waiting.len() == 1 && waiting[0].starts_with("server 104 (old member 4): "), "{waiting:?}");
    let rounds = carrier.rounds();
    let names: Vec<&str> = rounds.iter().map(|it| it.round.as_str()).collect();
    assert_eq!(names, ["reshare_keys", "reshare_dealing", "reshare_acknowledgement"]);
    assert_eq!((rounds[0].since.as_deref(), rounds[0].came.as_str()), (Some("1700000000"), "4"));
    let waits = &rounds[1];
    assert_eq!((waits.came.as_str(), waits.waiting_for.len(), &waits.since), ("2", 1, &rounds[0].complete));
    let member = &waits.waiting_for[0];
    assert_eq!((member.server_id.as_str(), member.member.as_str()), ("104", "4"));
    assert_eq!(member.trouble.as_deref(), Some("refused"));
    assert!(member.check.contains("systemctl status stkr-server"), "{}", member.check);
    assert!(rounds[2].waiting_for.is_empty() && carrier.is_stalled(BEGUN));
    world.server(104).start();
    carry_on(&mut carrier).await;
    assert!(matches!(carrier.standing(), Standing::Complete(_)), "{:?}", carrier.standing());
}

#[tokio::test]
async fn messages_of_strangers_of_other_attempts_and_in_anothers_name_count_for_nothing() {
    let world = World::running();
    world.lies(101, |mut answer| {
        let stranger = SignerKey::random().unwrap();
        answer.messages.extend([
            ReshareMessage::sign(&DOMAIN, &stranger, ID, index(2), keys_body(2)),
            say(101, ID, 3, keys_body(2)),
            say(102, ReshareId { attempt: 1, ..ID }, 2, keys_body(2)),
            say(102, ReshareId { committee_epoch: 2, ..ID }, 2, keys_body(2)),
            say(102, ReshareId { key_id: 8, ..ID }, 2, keys_body(2)),
        ]);
        answer
    });
    let mut carrier = world.carrier();
    carrier.round().await.unwrap();
    let stored = world.store.reshare_messages(ID, DRAFT).unwrap();
    assert_eq!(stored.len(), 4, "the four that new members said: {stored:?}");
    assert!(carrier.waiting_for().len() == 3 && carrier.said[&101].rejected.is_some());
    carry_on(&mut carrier).await;
    assert!(matches!(carrier.standing(), Standing::Complete(_)), "and keep nobody from ending it");
    assert_eq!(world.kept(), vec![]);
}

#[tokio::test]
async fn what_was_said_under_a_draw_that_a_reorg_took_back_is_not_carried_into_the_next() {
    let world = World::running();
    let mut before = world.carrier();
    carry_on(&mut before).await;
    assert_eq!(world.store.last_draft(ID).unwrap(), Some(DRAFT));
    let other = B256::repeat_byte(0x0d);
    let after = world.carrier_of(other);
    assert!(matches!(after.standing(), Standing::Waiting { round: Round::Keys, missing } if missing.len() == 4));
    assert_eq!(world.store.reshare_messages(ID, other).unwrap(), vec![]);
}

#[tokio::test]
async fn a_dealer_that_shows_peers_different_dealings_is_kept_with_both_and_the_attempt_fails() {
    let world = World::running();
    // Asked a second time it signs another dealing than at first.
    let calls = Mutex::new(0);
    world.lies(102, move |mut answer| {
        let mut calls = calls.lock().unwrap();
        *calls += 1;
        for message in &mut answer.messages {
            if let Body::Dealing(body) = &message.body
                && *calls > 2
            {
                let mut other = body.clone();
                other.shares[0] ^= 1;
                *message = say(102, ID, 2, Body::Dealing(other));
            }
        }
        answer
    });
    // The new member 105 does not answer for a while, so that the dealer is asked again.
    world.lies(105, |mut answer| {
        answer.messages.retain(|message| message.round() != Round::Acknowledgement);
        answer
    });
    let mut carrier = world.carrier();
    for _ in 0..4 {
        carrier.round().await.unwrap();
    }
    let Standing::Failed(reason) = carrier.standing() else { panic!("{:?}", carrier.standing()) };
    assert!(reason.starts_with("old member 2 signed two different reshare_dealing messages"), "{reason}");
    assert!(reason.contains("no Court takes"), "{reason}");
    assert_eq!(world.kept(), [(102, "reshare_equivocation")]);
    assert!(matches!(world.carrier().standing(), Standing::Failed(_)), "also after a restart");
    assert_eq!(world.kept(), [(102, "reshare_equivocation")], "once");
}

/// The dealing of 104, changed by its signer.
fn bad_dealer(world: &World, change: impl Fn(&mut stkr_protocol::reshare::ReshareDealingBody) + Send + Sync + 'static) {
    world.lies(104, move |mut answer| {
        for message in &mut answer.messages {
            if let Body::Dealing(body) = &message.body {
                let mut other = body.clone();
                change(&mut other);
                *message = say(104, ID, 4, Body::Dealing(other));
            }
        }
        answer
    });
}

#[tokio::test]
async fn a_share_that_is_not_what_was_committed_to_is_opened_by_its_member_and_kept() {
    let world = World::running();
    bad_dealer(&world, |body| body.shares[2 * 32] ^= 1);
    let mut carrier = world.carrier();
    carry_on(&mut carrier).await;
    let Standing::Failed(reason) = carrier.standing() else { panic!("{:?}", carrier.standing()) };
    let says = "old member 4 dealt new member 3 a share that does not match its commitments";
    assert!(reason.starts_with(says), "{reason}");
    assert_eq!(world.kept(), [(104, "bad_reshare_dealing")]);
}

#[tokio::test]
async fn what_people_hand_in_for_servers_without_network_is_carried_on_and_they_have_a_day() {
    let world = World::running();
    let offline = [102, 104];
    let mut carrier = world.carrier_without(DRAFT, &offline).begun_at(Some(store::now()));
    // Nobody visits them, and whoever knows the relayer's database adds to it.
    for rounds in [vec![Round::Keys], vec![Round::Dealing, Round::Acknowledgement]] {
        carry_on(&mut carrier).await;
        let waiting = carrier.waiting_for();
        assert!(
            !waiting.is_empty() && waiting.iter().all(|it| it.contains("is offline: its operator carries")),
            "{waiting:?}"
        );
        let current = carrier.rounds().into_iter().find(|round| !round.waiting_for.is_empty()).unwrap();
        assert!(current.waiting_for[0].check.starts_with("carry its request: stkr offline fetch --server 10"));
        let now = store::now();
        assert!(!carrier.is_stalled(now + STALLED_AFTER + 1) && carrier.is_stalled(now + OFFLINE_STALLED_AFTER + 1));
        for id in offline {
            let messages = carrier.board.messages().cloned().collect();
            let request = ReshareAdvanceRequest { key_id: 9, committee_epoch: 1, attempt: 0, messages };
            let said = world.server(id).answer(request).messages;
            for message in said.iter().filter(|message| rounds.contains(&message.round())) {
                world.store.post_reshare(&DOMAIN, DRAFT, message).unwrap();
            }
            carrier.round().await.unwrap();
        }
    }
    // 102 dealt before it had the dealing of 104: one visit more.
    let messages = carrier.board.messages().cloned().collect();
    let request = ReshareAdvanceRequest { key_id: 9, committee_epoch: 1, attempt: 0, messages };
    for message in world.server(102).answer(request).messages {
        world.store.post_reshare(&DOMAIN, DRAFT, &message).unwrap();
    }
    carry_on(&mut carrier).await;
    assert!(matches!(carrier.standing(), Standing::Complete(_)), "{:?}", carrier.standing());
}

#[tokio::test]
async fn a_complaint_that_was_handed_in_on_paper_ends_the_attempt() {
    let world = World::running();
    bad_dealer(&world, |body| body.shares[2 * 32] ^= 1);
    carry_on(&mut world.carrier()).await;
    // The same reshare, in which only the evidence came, as the counter keeps it.
    let copy = World::new();
    let mut carrier =
        Carrier::open(world.plan.clone(), DRAFT, world.carrier_without(DRAFT, &[104]).parties, copy.store.clone())
            .unwrap();
    carrier.look_at_the_post().unwrap();
    assert!(matches!(carrier.standing(), Standing::Waiting { .. }));
    for kept in world.store.reshare_evidence(ID).unwrap() {
        copy.store.keep_reshare_evidence(ID, kept.server_id, &kept.file).unwrap();
    }
    assert!(carrier.look_at_the_post().unwrap() && !carrier.look_at_the_post().unwrap(), "news once");
    assert!(matches!(carrier.standing(), Standing::Failed(_)), "{:?}", carrier.standing());
}

#[tokio::test]
async fn a_malformed_dealing_is_found_without_anybodys_help_and_after_a_crash() {
    let world = World::running();
    bad_dealer(&world, |body| body.commitments.truncate(256));
    let mut carrier = world.carrier();
    carry_on(&mut carrier).await;
    assert_eq!(world.kept(), [(104, "malformed_reshare_dealing")]);
    // Killed between the dealing and its evidence.
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&folder.path().join("relayer.sqlite"), &SCHEMA).unwrap();
    let copy = World { store: Store::new(Arc::new(database)), ..World::new() };
    for (message, _) in world.store.reshare_messages(ID, DRAFT).unwrap() {
        copy.store.post_reshare(&DOMAIN, DRAFT, &message).unwrap();
    }
    assert_eq!(copy.kept(), vec![]);
    assert!(matches!(copy.carrier().standing(), Standing::Failed(_)));
    assert_eq!(copy.kept(), [(104, "malformed_reshare_dealing")]);
}

#[tokio::test]
async fn a_complaint_that_proves_nothing_or_is_of_another_attempt_ends_nothing() {
    let world = World::running();
    let bad = World::running();
    bad_dealer(&bad, |body| body.shares[2 * 32] ^= 1);
    carry_on(&mut bad.carrier()).await;
    let kept = bad.store.reshare_evidence(ID).unwrap();
    let Proof::BadReshareDealing(convicts) = kept[0].file.proof.clone() else { panic!("{kept:?}") };
    let mut harmless = convicts.clone();
    harmless.secret = [3; 32];
    // Right in itself, but this attempt is another.
    let (_, other) = plan(ReshareId { attempt: 1, ..ID });
    let mut carrier = world.carrier();
    assert!(carrier.take_complaint(harmless).unwrap().unwrap_err().contains("proves nothing"));
    let mut elsewhere = Carrier::open(other, DRAFT, Vec::new(), world.store.clone()).unwrap();
    let reason = elsewhere.take_complaint(convicts).unwrap().unwrap_err();
    assert_eq!(reason, "its complaint is about key 9, committee epoch 1, attempt 0");
    assert_eq!(world.kept(), vec![]);
    carry_on(&mut carrier).await;
    assert!(matches!(carrier.standing(), Standing::Complete(_)));
}

#[test]
fn a_member_that_complains_all_day_does_not_fill_the_disk() {
    let world = World::new();
    let mut carrier = world.carrier();
    for byte in 2..32_u8 {
        for body in [keys_body(byte), keys_body(byte.wrapping_add(100))] {
            let _ = carrier.accept(say(101, ID, 1, body)).unwrap();
        }
    }
    assert_eq!(world.kept(), [(101, "reshare_equivocation")]);
    assert_eq!(world.store.reshare_messages(ID, DRAFT).unwrap().len(), 2, "one statement and one that contradicts it");
}

#[test]
fn of_two_that_said_two_things_both_are_kept_in_whatever_order_they_come() {
    for order in [[(101, 1), (102, 2)], [(102, 2), (101, 1)]] {
        let world = World::new();
        let mut carrier = world.carrier();
        for (server, seat) in order {
            for byte in [2, 3] {
                carrier.accept(say(server, ID, seat, keys_body(byte))).unwrap().unwrap();
            }
        }
        let mut kept = world.kept();
        kept.sort_unstable();
        assert_eq!(kept, [(101, "reshare_equivocation"), (102, "reshare_equivocation")], "{order:?}");
    }
}
