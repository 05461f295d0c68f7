//! Drives the collection state machine of the protocol over server clients.
//!
//! The state machine decides what an answer is worth; this module asks: everybody at once, and nobody waits for the slow
//! ones. What went wrong with whom is kept by member, so that a status page can say *who* a signature waits for and *why*.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use stkr_core::{Claim, ShareIndex};
use stkr_protocol::collection::{Answer, Collection, Evidence, NoAnswer, Progress};
use stkr_protocol::sign::{Refusal, SignRequest, SignResponse};

use crate::client::{ClientError, ServerClient, printable};

/// A way to one server: a client of its own, or a queue that puts what waits into one call.
pub trait Ask: Clone + Send + Sync + 'static {
    /// The server's answer to one request. A queue takes the request when this is called, not when the future is polled.
    fn ask(&self, request: Arc<SignRequest>) -> BoxFuture<'static, Result<SignResponse, ClientError>>;
}

impl Ask for ServerClient {
    fn ask(&self, request: Arc<SignRequest>) -> BoxFuture<'static, Result<SignResponse, ClientError>> {
        let client = self.clone();
        Box::pin(async move { client.sign_one(&request).await })
    }
}

/// Somebody who verifies signatures, and may verify several together.
pub trait Verify: Send + Sync {
    /// Whether the claim is true. No is also the answer of one who cannot say.
    fn verify(&self, claim: Claim, urgency: Urgency) -> BoxFuture<'static, bool>;
}

/// Whether somebody waits for a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A validator does.
    Waiting,
    /// Nobody does: the signature is out already.
    Late,
}

/// A member of the committee and how to reach it.
#[derive(Clone, Debug)]
pub struct Seat<C = ServerClient> {
    /// Share index.
    pub index: ShareIndex,
    /// Server that sits here.
    pub server_id: u32,
    /// Its client, or why there can be none.
    pub client: Result<C, ClientError>,
}

/// Why a member has not contributed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It could not be asked.
    Unreachable(ClientError),
    /// It refused.
    Refused(Refusal),
    /// It answered something else.
    NoAnswer(NoAnswer),
    /// It handed out a wrong partial signature.
    Wrong,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "{error}"),
            Self::Refused(refusal) => f.write_str(&printable(&refusal.to_string())),
            Self::NoAnswer(reason) => write!(f, "{reason}; its answer does not count"),
            Self::Wrong => f.write_str("its partial signature is wrong; it is excluded and the evidence is kept"),
        }
    }
}

/// A member with its trouble, as a sentence: `server 4 (member 2): …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberTrouble {
    /// Share index.
    pub index: ShareIndex,
    /// Server id.
    pub server_id: u32,
    /// What it is.
    pub trouble: Trouble,
}

impl fmt::Display for MemberTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server {} (member {}): {}", self.server_id, self.index.get(), self.trouble)
    }
}

type Pending = FuturesUnordered<BoxFuture<'static, (ShareIndex, Result<SignResponse, ClientError>)>>;

/// Hears of a wrong partial, with its server's id, the moment it is found and before anything else is done: what it writes down, no crash,
/// stalling server or ended worker takes away.
#[derive(Clone)]
pub struct Witness(Arc<Tell>);

/// Of a server's id and its wrong partial.
type Tell = dyn Fn(u32, &Evidence) + Send + Sync;

impl Witness {
    /// One that is told by `tell`, which must not wait for long: answers of other servers do.
    #[must_use]
    pub fn new(tell: impl Fn(u32, &Evidence) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}

/// One signature on its way, with the servers it comes from.
#[derive(Debug)]
pub struct Collector<C = ServerClient> {
    collection: Collection,
    request: Arc<SignRequest>,
    seats: Vec<Seat<C>>,
    asked: BTreeSet<ShareIndex>,
    pending: Pending,
    troubles: BTreeMap<ShareIndex, Trouble>,
    evidence: Vec<Evidence>,
    witness: Option<Witness>,
}

impl<C: Ask> Collector<C> {
    /// Collects `collection` from `seats`; members without a seat are never asked.
    #[must_use]
    pub fn new(collection: Collection, seats: Vec<Seat<C>>) -> Self {
        Self {
            request: Arc::new(collection.request().clone()),
            collection,
            seats,
            asked: BTreeSet::new(),
            pending: Pending::new(),
            troubles: BTreeMap::new(),
            evidence: Vec::new(),
            witness: None,
        }
    }

    /// The same collector, which tells `witness` of every wrong partial.
    #[must_use]
    pub fn telling(mut self, witness: Witness) -> Self {
        self.witness = Some(witness);
        self
    }

    /// Asks everybody who has not answered, all at once, and returns as soon as there is a verified signature or nobody
    /// is left to wait for. Call it again (after a pause) while it says [`Progress::Waiting`].
    ///
    /// # Cancellation
    /// Dropping the future loses nothing: what is under way stays so until the collector is dropped.
    pub async fn round(&mut self) -> Progress {
        self.ask_missing();
        while let Some((index, answer)) = self.pending.next().await {
            self.take(index, answer);
            let progress = self.poll();
            if matches!(progress, Progress::Done(_)) {
                return progress;
            }
        }
        self.poll()
    }

    /// The same, with the combined signature verified by `verifier`. If that says no, the collection verifies for itself
    /// and finds out who is wrong.
    pub async fn round_with(&mut self, verifier: &impl Verify) -> Progress {
        self.ask_missing();
        while let Some((index, answer)) = self.pending.next().await {
            self.take(index, answer);
            if let Some(candidate) = self.collection.candidate() {
                let key = self.collection.committee().keys().group_key();
                let message = self.collection.asked().subject().signing_root().0;
                let claim = Claim { key, message, signature: candidate };
                if verifier.verify(claim, Urgency::Waiting).await {
                    self.collection.accept(candidate);
                }
            }
            let progress = self.poll();
            if matches!(progress, Progress::Done(_)) {
                return progress;
            }
        }
        self.poll()
    }

    /// Waits for those who had not answered when the signature was complete, and verifies what comes on its own: a wrong
    /// partial is found even if it was not needed. Asks nobody twice. Not for the hot path.
    pub async fn check_late(&mut self) -> Progress {
        while let Some((index, answer)) = self.pending.next().await {
            self.take(index, answer);
        }
        self.poll()
    }

    /// The same, with what comes verified by `verifier`; what that says no to is verified once more before anybody is named.
    pub async fn check_late_with(&mut self, verifier: &impl Verify) -> Progress {
        while let Some((index, answer)) = self.pending.next().await {
            match answer {
                Ok(response) => self.take_late(index, response, verifier).await,
                Err(_) => self.take(index, answer),
            }
        }
        self.poll()
    }

    async fn take_late(&mut self, index: ShareIndex, response: SignResponse, verifier: &impl Verify) {
        self.asked.remove(&index);
        let answer = match self.collection.examine(index, response) {
            Ok(unverified) => {
                let right = verifier.verify(unverified.claim(), Urgency::Late).await;
                self.collection.settle(unverified, right)
            }
            Err(answer) => answer,
        };
        self.note(index, answer);
    }

    /// Takes what member `index` answered on another way: by a file, where it has no network.
    pub fn offer(&mut self, index: ShareIndex, response: SignResponse) {
        let answer = self.collection.on_response(index, response);
        self.note(index, answer);
    }

    fn ask_missing(&mut self) {
        let missing = self.missing();
        for seat in self.seats.iter().filter(|seat| missing.contains(&seat.index)) {
            if !self.asked.insert(seat.index) {
                continue;
            }
            let index = seat.index;
            let asking = seat.client.as_ref().map(|client| client.ask(self.request.clone()));
            let asking = asking.map_err(ClientError::clone);
            self.pending.push(Box::pin(async move {
                match asking {
                    Ok(answer) => (index, answer.await),
                    Err(error) => (index, Err(error)),
                }
            }));
        }
    }

    fn take(&mut self, index: ShareIndex, answer: Result<SignResponse, ClientError>) {
        self.asked.remove(&index);
        match answer {
            Ok(response) => {
                let answer = self.collection.on_response(index, response);
                self.note(index, answer);
            }
            Err(error) => {
                self.troubles.insert(index, Trouble::Unreachable(error));
            }
        }
    }

    fn note(&mut self, index: ShareIndex, answer: Answer) {
        let trouble = match answer {
            Answer::Counted | Answer::Repeated => None,
            Answer::Refused(refusal) => Some(Trouble::Refused(refusal)),
            Answer::NoAnswer(reason) => Some(Trouble::NoAnswer(reason)),
            Answer::Wrong(evidence) => return self.convict(*evidence),
        };
        match trouble {
            Some(trouble) => self.troubles.insert(index, trouble),
            None => self.troubles.remove(&index),
        };
    }

    /// Combines what there is; culprits found by combining become troubles with evidence, also where the others are too few.
    fn poll(&mut self) -> Progress {
        let progress = self.collection.poll();
        let found: Vec<Evidence> = self.collection.evidence().cloned().collect();
        for evidence in found {
            self.convict(evidence);
        }
        progress
    }

    fn convict(&mut self, evidence: Evidence) {
        self.troubles.insert(evidence.culprit, Trouble::Wrong);
        if self.evidence.contains(&evidence) {
            return;
        }
        if let (Some(Witness(tell)), Some(server_id)) = (&self.witness, self.server_at(evidence.culprit)) {
            tell(server_id, &evidence);
        }
        self.evidence.push(evidence);
    }

    fn missing(&mut self) -> Vec<ShareIndex> {
        match self.collection.poll() {
            Progress::Waiting { missing, .. } => missing,
            Progress::Done(_) => Vec::new(),
        }
    }

    /// The state machine.
    #[must_use]
    pub const fn collection(&self) -> &Collection {
        &self.collection
    }

    /// Who has not contributed and why, in index order.
    pub fn troubles(&self) -> impl Iterator<Item = MemberTrouble> + '_ {
        self.seats.iter().filter_map(|seat| {
            let trouble = self.troubles.get(&seat.index)?.clone();
            Some(MemberTrouble { index: seat.index, server_id: seat.server_id, trouble })
        })
    }

    /// Server that sits at `index`.
    #[must_use]
    pub fn server_at(&self, index: ShareIndex) -> Option<u32> {
        self.seats.iter().find(|seat| seat.index == index).map(|seat| seat.server_id)
    }

    /// Proofs of wrong partials found so far.
    #[must_use]
    pub fn evidence(&self) -> &[Evidence] {
        &self.evidence
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Duration;

    use alloy::primitives::{Address, B256};
    use axum::routing::post;
    use axum::{Json, Router};
    use stkr_core::testing::TrustedDealer;
    use stkr_core::{SecretShare, Threshold};
    use stkr_duties::DepositMessage;
    use stkr_protocol::api::{SignBatch, SignReplies};
    use stkr_protocol::ceremony::MemberId;
    use stkr_protocol::collection::Committee;
    use stkr_protocol::sign::{DepositRequest, SignedPartial};
    use stkr_protocol::{ProtocolDomain, SignerKey};

    use super::*;
    use crate::client::{Patience, Peer};
    use crate::http::{JsonBody, Limits, serve_tls};
    use crate::metrics::Metrics;
    use crate::shutdown::{Reason, Shutdown};
    use crate::tls::{self, Identity};

    const DOMAIN: ProtocolDomain = ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(7) };

    fn index(number: u8) -> ShareIndex {
        ShareIndex::new(number).unwrap()
    }

    fn request() -> DepositRequest {
        let message = DepositMessage {
            pubkey: [1; 48],
            withdrawal_credentials: B256::repeat_byte(2),
            amount_gwei: 1_000_000_000,
        };
        DepositRequest::new(9, &message, [0, 0, 0, 1])
    }

    /// What a server does with a request.
    #[derive(Clone, Copy)]
    enum Behaviour {
        Honest,
        /// Signs with its own signer key, in its own name, but with a share of another key.
        OtherShare,
        Refuses,
        Hangs,
    }

    struct Server {
        share: SecretShare,
        wrong: SecretShare,
        signer: SignerKey,
        identity: Identity,
        address: SocketAddr,
    }

    impl Server {
        fn answer(&self, behaviour: Behaviour, request: &SignRequest) -> SignResponse {
            let share = match behaviour {
                Behaviour::OtherShare => &self.wrong,
                Behaviour::Refuses => {
                    return SignResponse::refused(Refusal::unavailable("my RPC is down", "Ask again."));
                }
                _ => &self.share,
            };
            let SignRequest::Deposit(request) = request else { panic!("no deposit was asked for: {request:?}") };
            let subject = request.subject();
            let partial = share.sign(&subject.signing_root().0);
            SignResponse::Signed(SignedPartial::new(&subject, &DOMAIN, &self.signer, 0, &partial))
        }

        /// Serves on the address it was given until the handle is triggered.
        fn start(self: &Arc<Self>, behaviour: Behaviour) -> Shutdown {
            let server = self.clone();
            let handler = move |JsonBody(batch): JsonBody<SignBatch>| async move {
                if matches!(behaviour, Behaviour::Hangs) {
                    std::future::pending::<()>().await;
                }
                let responses = batch.requests.iter().map(|request| server.answer(behaviour, request)).collect();
                Json(SignReplies { responses })
            };
            let router = Router::new().route("/v1/sign", post(handler));
            let listener = std::net::TcpListener::bind(self.address).unwrap();
            let (shutdown, config) = (Shutdown::default(), tls::server_config(&self.identity).unwrap());
            let (stop, metrics) = (shutdown.clone(), Metrics::new("test", "0"));
            let limits = Limits { grace: Duration::from_millis(1), ..Limits::default() };
            tokio::spawn(async move { serve_tls(listener, router, config, &metrics, limits, stop).await });
            shutdown
        }
    }

    /// A 3-of-4 committee of real servers, none of them running yet.
    struct Cluster {
        dealer: TrustedDealer,
        servers: Vec<Arc<Server>>,
        identity: Identity,
    }

    fn cluster() -> Cluster {
        tls::install_provider().unwrap();
        let threshold = Threshold::new(3, 4).unwrap();
        let mut dealer = TrustedDealer::deal(threshold, [1; 32]);
        let other = TrustedDealer::deal(threshold, [2; 32]);
        let shares = std::mem::take(&mut dealer.shares).into_iter().zip(other.shares);
        let servers = shares.map(|(share, wrong)| {
            let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let (signer, identity) = (SignerKey::random().unwrap(), Identity::generate("server").unwrap());
            Arc::new(Server { share, wrong, signer, identity, address })
        });
        Cluster { servers: servers.collect(), dealer, identity: Identity::generate("relayer").unwrap() }
    }

    impl Cluster {
        fn collector(&self) -> Collector {
            let seats = self.servers.iter().map(|server| {
                let peer = Peer {
                    server_id: 100 + u32::from(server.share.index().get()),
                    endpoint: server.address.to_string(),
                    fingerprint: server.identity.fingerprint(),
                };
                let patience = Patience { connect: Duration::from_secs(2), answer: Duration::from_secs(2) };
                let client = ServerClient::new(&self.identity, peer, patience);
                Seat { index: server.share.index(), server_id: 100 + u32::from(server.share.index().get()), client }
            });
            let members = self.servers.iter().map(|server| MemberId {
                server_id: 100 + u32::from(server.share.index().get()),
                signer: server.signer.address(),
            });
            let committee = Committee::new(DOMAIN, 0, self.dealer.keys.clone(), members.collect()).unwrap();
            Collector::new(Collection::new(request(), committee, []), seats.collect())
        }

        fn assert_signed(&self, progress: Progress) -> Vec<ShareIndex> {
            let Progress::Done(done) = progress else { panic!("{progress:?}") };
            let root = request().signing_root().0;
            assert_eq!(done.signature, self.dealer.group_signature(&root));
            assert!(stkr_core::verify(&self.dealer.keys.group_key(), &root, &done.signature));
            done.culprits
        }
    }

    fn sentences(collector: &Collector) -> Vec<String> {
        collector.troubles().map(|trouble| trouble.to_string()).collect()
    }

    #[tokio::test]
    async fn one_dead_server_costs_nothing_and_is_named() {
        let cluster = cluster();
        for server in &cluster.servers[..3] {
            server.start(Behaviour::Honest);
        }
        let mut collector = cluster.collector();
        assert_eq!(cluster.assert_signed(collector.round().await), vec![]);
        assert!(matches!(collector.check_late().await, Progress::Done(_)));
        let said = sentences(&collector);
        assert!(said.len() == 1 && said[0].starts_with("server 104 (member 4): "), "{said:?}");
        assert!(said[0].contains("refuses the connection"), "{said:?}");
    }

    #[tokio::test]
    async fn a_hanging_server_is_not_waited_for() {
        let cluster = cluster();
        cluster.servers[0].start(Behaviour::Hangs);
        for server in &cluster.servers[1..] {
            server.start(Behaviour::Honest);
        }
        let mut collector = cluster.collector();
        cluster.assert_signed(collector.round().await);
        assert_eq!(sentences(&collector), Vec::<String>::new(), "it has not even run out of time");
    }

    #[tokio::test]
    async fn a_server_that_signs_with_another_share_is_named_and_excluded_and_the_rest_signs() {
        let cluster = cluster();
        cluster.servers[1].start(Behaviour::OtherShare);
        for position in [0, 2] {
            cluster.servers[position].start(Behaviour::Honest);
        }
        let mut collector = cluster.collector();
        let Progress::Waiting { culprits, .. } = collector.round().await else { panic!("two good ones are no three") };
        assert_eq!(culprits, vec![index(2)]);
        cluster.servers[3].start(Behaviour::Honest);
        assert_eq!(cluster.assert_signed(collector.round().await), vec![index(2)]);
        let [evidence] = collector.evidence() else { panic!("{:?}", collector.evidence()) };
        assert_eq!(evidence.culprit, index(2));
        // The envelope convicts it before anybody, without us.
        let signer = evidence.envelope.recover(&DOMAIN, &evidence.envelope_signature).unwrap();
        assert_eq!(signer, cluster.servers[1].signer.address());
        assert!(sentences(&collector).iter().any(|said| said.contains("server 102") && said.contains("wrong")));
    }

    #[tokio::test]
    async fn a_witness_hears_of_a_wrong_partial_while_another_server_stalls_and_before_there_is_a_signature() {
        let cluster = cluster();
        cluster.servers[0].start(Behaviour::Honest);
        cluster.servers[1].start(Behaviour::OtherShare);
        cluster.servers[2].start(Behaviour::Honest);
        cluster.servers[3].start(Behaviour::Hangs);
        let (heard, mut hearing) = tokio::sync::mpsc::unbounded_channel();
        let witness = Witness::new(move |server_id, evidence| {
            heard.send((server_id, evidence.culprit)).unwrap();
        });
        let mut collector = cluster.collector().telling(witness);
        // Two good ones are no three: the round waits for the server that stalls.
        let round = tokio::spawn(async move { collector.round().await });
        assert_eq!(hearing.recv().await, Some((102, index(2))));
        assert!(!round.is_finished(), "the round does not wait for the server that stalls");
        round.abort();
        assert_eq!(hearing.recv().await, None, "one wrong partial is told once");
    }

    #[tokio::test]
    async fn two_servers_down_waits_says_who_and_finishes_when_one_returns() {
        let cluster = cluster();
        cluster.servers[0].start(Behaviour::Honest);
        cluster.servers[1].start(Behaviour::Honest);
        let mut collector = cluster.collector();
        let Progress::Waiting { needed, missing, .. } = collector.round().await else { panic!() };
        assert_eq!((needed, missing), (1, vec![index(3), index(4)]));
        let said = sentences(&collector);
        assert!(said[0].starts_with("server 103") && said[1].starts_with("server 104"), "{said:?}");
        cluster.servers[2].start(Behaviour::Honest);
        cluster.assert_signed(collector.round().await);
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_the_servers_words_and_asked_again() {
        let cluster = cluster();
        for server in &cluster.servers[..2] {
            server.start(Behaviour::Honest);
        }
        let refusing = cluster.servers[2].start(Behaviour::Refuses);
        let mut collector = cluster.collector();
        assert!(matches!(collector.round().await, Progress::Waiting { .. }));
        assert!(sentences(&collector)[0].contains("my RPC is down"), "{:?}", sentences(&collector));
        refusing.trigger(Reason::Internal);
        while tokio::net::TcpStream::connect(cluster.servers[2].address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        cluster.servers[2].start(Behaviour::Honest);
        // The kept connection may die during the first round; nothing is lost by that.
        loop {
            if let progress @ Progress::Done(_) = collector.round().await {
                cluster.assert_signed(progress);
                return;
            }
        }
    }
}
