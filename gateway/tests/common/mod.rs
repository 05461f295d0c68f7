//! A gateway on a real port before a committee of real TLS servers that hold real shares. What the chain would say is said
//! here: which keys are served, and by whom.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_primitives::{Address, B256};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use stkr_core::testing::TrustedDealer;
use stkr_core::{SecretShare, ShareIndex, Threshold};
use stkr_duties::ForkSchedule;
use stkr_gateway::api::{App, DiskLook, Transport, router};
use stkr_gateway::config::HighWatermarkConfig;
use stkr_gateway::follow::Bell;
use stkr_gateway::keys::{KeyRing, Keys, Seated, ServedKey};
use stkr_gateway::line::Line;
use stkr_gateway::metrics::GatewayMetrics;
use stkr_gateway::quiet::Quiet;
use stkr_gateway::recorder::Recorder;
use stkr_gateway::signing::{Late, Signing};
use stkr_gateway::store::{Keeper, SCHEMA, Store};
use stkr_gateway::verifier::Verifier;
use stkr_node::client::{Patience, Peer, ServerClient};
use stkr_node::clock::Clock;
use stkr_node::collector::Seat;
use stkr_node::database::Database;
use stkr_node::http::{JsonBody, Limits, serve_plain, serve_tls};
use stkr_node::metrics::Metrics;
use stkr_node::shutdown::{Reason, Shutdown};
use stkr_node::tls::{self, Identity};
use stkr_protection::{Protection, Pubkey};
use stkr_protocol::api::{SignBatch, SignReplies};
use stkr_protocol::ceremony::MemberId;
use stkr_protocol::collection::Committee;
use stkr_protocol::handover::{Drawn, Term, View};
use stkr_protocol::sign::{Refusal, RefusalKind, SignRequest, SignResponse, SignedPartial};
use stkr_protocol::{ProtocolDomain, SignerKey};
use tokio::sync::Semaphore;

pub(crate) const DOMAIN: ProtocolDomain = ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(7) };
/// Where faults are reported.
pub(crate) const COURT: Address = Address::repeat_byte(0xc0);
pub(crate) const KEY_ID: u64 = 9;
pub(crate) const ASSIGNMENT: u64 = 3;
/// Epoch the tests' chain is in at least.
pub(crate) const EPOCH: u64 = 1_000;
const SECONDS_PER_SLOT: u64 = 12;
/// The committee that made the key.
pub(crate) const FIRST: Term = Term { committee_epoch: 0, attempt: 0, handover: 0 };

/// What a server does with a request of the right provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Honest,
    /// Signs, in its own name, with a share of another key.
    OtherShare,
    Refuses(RefusalKind),
    Hangs,
    /// Signs as a member of the first committee, whatever the duty is of.
    StaysOld,
    /// Signs with its share of the first committee in the name of the second.
    OldShareAsNew,
}

struct State {
    share: SecretShare,
    /// Its share of the second committee, and the first epoch for which that signs.
    later: Mutex<Option<(u64, Arc<SecretShare>)>>,
    wrong: SecretShare,
    signer: SignerKey,
    duty_key: Address,
    schedule: Arc<ForkSchedule>,
    behaviour: Mutex<Behaviour>,
    /// Signing roots it was asked for, call by call.
    calls: Mutex<Vec<Vec<B256>>>,
    /// One permit per call that may be answered.
    gate: Semaphore,
}

impl State {
    /// As a server does it: root from the typed duty, and only for the duty key and the assignment of the chain.
    fn answer(&self, request: &SignRequest) -> (B256, SignResponse) {
        let SignRequest::Duty(request) = request else { panic!("{request:?}") };
        let duty = request.check(&self.schedule).unwrap();
        let subject = duty.subject();
        assert_eq!((duty.duty_key(&DOMAIN), duty.assignment()), (Ok(self.duty_key), ASSIGNMENT));
        assert_eq!(subject.key_id(), KEY_ID);
        let root = subject.signing_root();
        let later = self.later.lock().unwrap().clone();
        let later = later.filter(|(first, _)| subject.slot() / 32 >= *first).map(|(_, share)| share);
        let (committee_epoch, share) = match (*self.behaviour.lock().unwrap(), &later) {
            (Behaviour::Refuses(kind), _) => {
                return (root, SignResponse::refused(Refusal::new(kind, "it is a test", "Do nothing.")));
            }
            (Behaviour::OtherShare, _) => (0, &self.wrong),
            (Behaviour::OldShareAsNew, Some(_)) => (1, &self.share),
            (Behaviour::Honest | Behaviour::Hangs, Some(later)) => (1, &**later),
            _ => (0, &self.share),
        };
        let partial = share.sign(&root.0);
        (root, SignResponse::Signed(SignedPartial::new(subject, &DOMAIN, &self.signer, committee_epoch, &partial)))
    }

    async fn batch(&self, batch: SignBatch) -> SignReplies {
        if *self.behaviour.lock().unwrap() == Behaviour::Hangs {
            std::future::pending::<()>().await;
        }
        let (roots, responses) = batch.requests.iter().map(|request| self.answer(request)).unzip();
        self.calls.lock().unwrap().push(roots);
        self.gate.acquire().await.unwrap().forget();
        SignReplies { responses }
    }
}

pub(crate) struct Server {
    pub(crate) id: u32,
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    identity: Identity,
    running: Shutdown,
}

impl Server {
    fn start(&self) {
        let state = self.state.clone();
        let handler = move |JsonBody(batch): JsonBody<SignBatch>| {
            let state = state.clone();
            async move { Json(state.batch(batch).await) }
        };
        let router = Router::new().route("/v1/sign", post(handler));
        let listener = TcpListener::bind(self.address).unwrap();
        let config = tls::server_config(&self.identity).unwrap();
        let (stop, metrics) = (self.running.clone(), Metrics::new("test", "0"));
        let limits = Limits { grace: Duration::from_millis(1), ..Limits::default() };
        tokio::spawn(async move { serve_tls(listener, router, config, &metrics, limits, stop).await });
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.state.behaviour.lock().unwrap() = behaviour;
    }

    /// Closes its port and its connections.
    pub(crate) async fn kill(&self) {
        self.running.trigger(Reason::Internal);
        while tokio::net::TcpStream::connect(self.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// From now on calls are answered only as `release` allows.
    pub(crate) fn hold(&self) {
        self.state.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(crate) fn release(&self) {
        self.state.gate.add_permits(1_000_000);
    }

    /// Signing roots it was asked for, call by call.
    pub(crate) fn calls(&self) -> Vec<Vec<B256>> {
        self.state.calls.lock().unwrap().clone()
    }

    pub(crate) fn roots(&self) -> BTreeSet<B256> {
        self.calls().into_iter().flatten().collect()
    }
}

pub(crate) struct Gateway {
    pub(crate) url: String,
    pub(crate) servers: Vec<Server>,
    pub(crate) dealer: TrustedDealer,
    pub(crate) schedule: Arc<ForkSchedule>,
    pub(crate) app: Arc<App>,
    pub(crate) pubkey: Pubkey,
    served: Arc<ServedKey>,
    _folder: tempfile::TempDir,
    running: Shutdown,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.running.trigger(Reason::Internal);
        for server in &self.servers {
            server.running.trigger(Reason::Internal);
        }
    }
}

/// A chain that is in [`EPOCH`], with every fork from its start.
pub(crate) fn schedule() -> ForkSchedule {
    let names = ["phase0", "altair", "bellatrix", "capella", "deneb", "electra", "fulu"];
    let forks = names.iter().enumerate().map(|(at, name)| json!({"name": name, "version": version(at), "epoch": 0}));
    let genesis_time = unix_seconds() - (EPOCH * 32 + 1) * SECONDS_PER_SLOT;
    serde_json::from_value(json!({
        "preset": "mainnet",
        "genesis_validators_root": B256::repeat_byte(5),
        "genesis_time": genesis_time,
        "seconds_per_slot": SECONDS_PER_SLOT,
        "forks": forks.collect::<Vec<_>>(),
    }))
    .unwrap()
}

fn version(fork: usize) -> String {
    format!("0x0{fork}000042")
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn servers(dealer: &mut TrustedDealer, schedule: &Arc<ForkSchedule>, duty_key: Address) -> Vec<Server> {
    let other = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [2; 32]);
    let shares = std::mem::take(&mut dealer.shares).into_iter().zip(other.shares);
    let id = |share: &SecretShare| 100 + u32::from(share.index().get());
    shares.map(|shares| server(id(&shares.0), shares, schedule, duty_key)).collect()
}

fn server(
    id: u32,
    (share, wrong): (SecretShare, SecretShare),
    schedule: &Arc<ForkSchedule>,
    duty_key: Address,
) -> Server {
    let server = Server {
        id,
        address: TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(),
        identity: Identity::generate("server").unwrap(),
        running: Shutdown::default(),
        state: Arc::new(State {
            share,
            later: Mutex::default(),
            wrong,
            signer: SignerKey::random().unwrap(),
            duty_key,
            schedule: schedule.clone(),
            behaviour: Mutex::new(Behaviour::Honest),
            calls: Mutex::default(),
            gate: Semaphore::new(1_000_000),
        }),
    };
    server.start();
    server
}

fn seat(server: &Server, index: ShareIndex, client: &Identity) -> Seat<Line> {
    let (endpoint, fingerprint) = (server.address.to_string(), server.identity.fingerprint());
    let peer = Peer { server_id: server.id, endpoint, fingerprint };
    let patience = Patience { connect: Duration::from_secs(20), answer: Duration::from_secs(20) };
    let client = ServerClient::new(client, peer, patience);
    let client = client.map(|client| Line::open(client, GatewayMetrics::default().calls));
    Seat { index, server_id: server.id, client }
}

impl Gateway {
    /// Serves one 3-of-4 key.
    pub(crate) fn start() -> Self {
        let gateway = Self::unread(schedule());
        gateway.serve([gateway.pubkey]);
        gateway
    }

    /// The same with a high watermark.
    pub(crate) fn stopping_at(mark: HighWatermarkConfig) -> Self {
        let gateway = Self::with(schedule(), mark);
        gateway.serve([gateway.pubkey]);
        gateway
    }

    /// Before the chain was read for the first time.
    pub(crate) fn unread(schedule: ForkSchedule) -> Self {
        Self::with(schedule, HighWatermarkConfig::default())
    }

    fn with(schedule: ForkSchedule, mark: HighWatermarkConfig) -> Self {
        tls::install_provider().unwrap();
        let schedule = Arc::new(schedule);
        let duty_key = Arc::new(SignerKey::random().unwrap());
        let mut dealer = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [1; 32]);
        let servers = servers(&mut dealer, &schedule, duty_key.address());
        let client = Identity::generate("gateway").unwrap();
        let seats = servers.iter().map(|server| seat(server, server.state.share.index(), &client));
        let members = servers.iter().map(|it| MemberId { server_id: it.id, signer: it.state.signer.address() });
        let pubkey = Pubkey::from(dealer.keys.group_key().to_compressed());
        let committee = Committee::new(DOMAIN, 0, dealer.keys.clone(), members.collect()).unwrap();
        let served = Arc::new(ServedKey {
            pubkey,
            key_id: KEY_ID,
            assignment: ASSIGNMENT,
            duty_key,
            view: View::new(0, u64::MAX, vec![FIRST], None).unwrap(),
            committees: vec![Seated { committee, handover: 0, seats: seats.collect() }],
        });
        let folder = tempfile::tempdir().unwrap();
        let app = app(folder.path(), &schedule, mark);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (running, served_app) = (Shutdown::default(), app.clone());
        let stop = running.clone();
        tokio::spawn(async move {
            let metrics = served_app.signing.metrics.registry.clone();
            serve_plain(
                listener,
                router(served_app, Transport::Plain),
                &metrics,
                Limits { connections_of_one_address: 512, ..Limits::default() },
                stop,
            )
            .await
        });
        Self { url, servers, dealer, schedule, app, pubkey, served, _folder: folder, running }
    }

    /// The chain assigns these keys, all with the one committee there is.
    pub(crate) fn serve(&self, pubkeys: impl IntoIterator<Item = Pubkey>) {
        let pubkeys: Vec<Pubkey> = pubkeys.into_iter().collect();
        self.app.protection.register(&pubkeys, None).unwrap();
        pubkeys.iter().for_each(|pubkey| self.app.signing.quiet.clear(*pubkey));
        let key = |pubkey: &Pubkey| (*pubkey, Arc::new(ServedKey { pubkey: *pubkey, ..(*self.served).clone() }));
        self.app.signing.ring.replace(pubkeys.iter().map(key).collect::<Keys>());
    }

    /// The key goes to a second committee, of servers 105 (a new one), 102, 103 and 104, which signs from the first epoch that begins at
    /// `handover` (unix time, seconds) or later. `drawn` is a third one in the making; finalised blocks are of `head_time`.
    pub(crate) fn hand_over(&mut self, handover: u64, drawn: Option<Drawn>, head_time: u64) {
        let first = (handover - self.schedule.genesis_time()).div_ceil(32 * SECONDS_PER_SLOT);
        let mut next = self.dealer.reshare(Threshold::new(3, 4).unwrap(), [3; 32]);
        let mut other = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [2; 32]);
        let spare = server(105, (other.shares.remove(1), other.shares.remove(0)), &self.schedule, self.duty_key());
        self.servers.push(spare);
        let members = [4, 1, 2, 3].map(|position| &self.servers[position]);
        for (server, share) in members.into_iter().zip(std::mem::take(&mut next.shares)) {
            *server.state.later.lock().unwrap() = Some((first, Arc::new(share)));
        }
        let client = Identity::generate("gateway").unwrap();
        let seats = Threshold::new(3, 4).unwrap().indices().zip(members);
        let seats = seats.map(|(index, server)| seat(server, index, &client)).collect();
        let ids = members.map(|it| MemberId { server_id: it.id, signer: it.state.signer.address() });
        let committee = Committee::new(DOMAIN, 1, next.keys.clone(), ids.to_vec()).unwrap();
        let mut served = (*self.served).clone();
        served.committees.push(Seated { committee, handover, seats });
        let second = Term { committee_epoch: 1, attempt: 0, handover };
        served.view = View::new(head_time, u64::MAX, vec![FIRST, second], drawn).unwrap();
        self.served = Arc::new(served);
        self.app.signing.ring.replace(Keys::from([(self.pubkey, self.served.clone())]));
    }

    fn duty_key(&self) -> Address {
        self.served.duty_key.address()
    }

    /// Unix time (seconds) at which an epoch begins.
    pub(crate) fn start_of(&self, epoch: u64) -> u64 {
        self.schedule.genesis_time() + epoch * 32 * SECONDS_PER_SLOT
    }

    /// Requests that wait for each server.
    pub(crate) fn waiting(&self) -> Vec<usize> {
        self.served.committees[0].seats.iter().map(|seat| seat.client.as_ref().unwrap().waiting()).collect()
    }

    pub(crate) fn request(&self, kind: &str, member: &str, payload: Value) -> Value {
        let fork = json!({"previous_version": version(5), "current_version": version(6), "epoch": "0"});
        let root = self.schedule.genesis_validators_root();
        json!({"type": kind, "fork_info": {"fork": fork, "genesis_validators_root": root}, member: payload})
    }

    /// A vote in the first slot of `target` for the block `root`.
    pub(crate) fn vote(&self, source: u64, target: u64, root: u64) -> Value {
        let root = B256::left_padding_from(&root.to_be_bytes());
        let data = json!({
            "slot": (target * 32).to_string(), "index": "0", "beacon_block_root": root,
            "source": {"epoch": source.to_string(), "root": root},
            "target": {"epoch": target.to_string(), "root": root},
        });
        self.request("ATTESTATION", "attestation", data)
    }

    pub(crate) fn sign_url(&self) -> String {
        format!("{}/api/v1/eth2/sign/{}", self.url, self.pubkey)
    }

    pub(crate) async fn sign(&self, request: &Value) -> (u16, Value) {
        self.post(&self.sign_url(), request).await
    }

    pub(crate) async fn post(&self, url: &str, body: &Value) -> (u16, Value) {
        let answer = http().post(url).json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let answer = http().get(format!("{}{path}", self.url)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The answer is the group's signature over the root of `request`.
    pub(crate) fn assert_signed(&self, request: &Value, (status, answer): &(u16, Value)) {
        let text = request.to_string();
        let request = stkr_duties::SigningRequest::decode(text.as_bytes(), self.schedule.preset()).unwrap();
        let root = request.verify(&self.schedule).unwrap();
        let expected = hex::encode(self.dealer.group_signature(&root.0).to_compressed());
        assert_eq!((*status, answer), (200, &json!({"signature": format!("0x{expected}")})));
    }
}

fn app(folder: &std::path::Path, schedule: &Arc<ForkSchedule>, mark: HighWatermarkConfig) -> Arc<App> {
    let database = Arc::new(Database::open(&folder.join("gateway.sqlite"), &SCHEMA).unwrap());
    let store = Store::new(database);
    let created = Protection::create(&folder.join("protection.sqlite"), schedule.genesis_validators_root());
    let protection = Arc::new(created.unwrap());
    let metrics = GatewayMetrics::default();
    let signing = Signing {
        domain: DOMAIN,
        schedule: schedule.clone(),
        ring: KeyRing::default(),
        quiet: Quiet::new(2, schedule.clone()),
        high_watermark: mark,
        recorder: Recorder::start(protection.clone(), schedule.clone(), metrics.protection_commits.clone()).unwrap(),
        verifier: Verifier::start(&metrics.verified, &metrics.verified_groups).unwrap(),
        keeper: Keeper::start(store.clone(), 1_000, &metrics).unwrap(),
        metrics,
        court: COURT,
        suspects: Arc::default(),
        late: Late::new(),
    };
    let clock = Clock::new(&signing.metrics.registry);
    Arc::new(App { signing, bell: Bell::default(), store, protection, clock, disk: DiskLook::default() })
}

pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..1_000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("waited in vain for: {what}");
}
