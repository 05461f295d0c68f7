//! What takes time and talks to servers, each in a task of its own: carrying a ceremony or a reshare, and collecting a
//! signature. A task writes where it stands into its state, which the engine reads whenever it likes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::{Address, B256};
use stkr_core::{ShareIndex, Signature};
use stkr_node::collector::{Collector, Seat, Witness};
use stkr_protocol::ceremony::Transcript;
use stkr_protocol::collection::{Collection, Committee, Evidence, Progress};
use stkr_protocol::evidence::{EvidenceFile, SignedEnvelope};
use stkr_protocol::messages::Round;
use stkr_protocol::sign::{Asked, SignResponse};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::carry::{Carrier, Reply, Standing};
use crate::patience::{Patience, Told};
use crate::reshares::carry as reshare;
use crate::status::{CeremonyStatus, CollectionStatus, ReshareStatus};
use crate::store::{self, Store, StoreError};

/// Longest pause between two visits to servers that have nothing new.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Visits after a ceremony failed: who else cheated in it is found by what others still have to show.
const VISITS_AFTER_FAILURE: u32 = 12;
/// Pause before members whose partials were wrong are asked once more because nobody else is left.
const SECOND_CHANCE: Duration = Duration::from_secs(30);
/// Tries to write evidence down after its signature is there; what never was is lost with this program.
const TRIES_TO_KEEP: u32 = 120;

/// A task with its state; ends with the handle.
#[derive(Debug)]
pub struct Worker<S> {
    state: Arc<Mutex<S>>,
    task: JoinHandle<()>,
}

impl<S> Worker<S> {
    /// The state, alone. Do not hold it across an `.await`.
    pub fn state(&self) -> MutexGuard<'_, S> {
        lock(&self.state)
    }
}

impl<S> Drop for Worker<S> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<S>(state: &Mutex<S>) -> MutexGuard<'_, S> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a ceremony stands.
#[derive(Debug, Default)]
pub struct CeremonyState {
    /// For people.
    pub status: CeremonyStatus,
    /// What `finalise` takes, once complete.
    pub transcript: Option<Box<Transcript>>,
    /// Rounds in which nothing but acknowledgements was missing.
    pub rounds: u32,
    /// Whose acknowledgements are missing, where nothing else is.
    pub unacknowledged: Vec<ShareIndex>,
}

/// Where a reshare stands.
#[derive(Debug, Default)]
pub struct ReshareState {
    /// For people.
    pub status: ReshareStatus,
    /// What `finalise` takes, once complete.
    pub transcript: Option<Box<stkr_protocol::reshare::Transcript>>,
}

/// Carries `carrier` until its transcript is complete, or some visits more once it failed; `done` is told of either.
#[must_use]
pub fn carry(carrier: Carrier, status: CeremonyStatus, pause: Duration, done: Arc<Notify>) -> Worker<CeremonyState> {
    visit(carrier, CeremonyState { status, ..CeremonyState::default() }, pause, done)
}

/// The same for a reshare.
#[must_use]
pub fn carry_reshare(
    carrier: reshare::Carrier,
    status: ReshareStatus,
    pause: Duration,
    done: Arc<Notify>,
) -> Worker<ReshareState> {
    visit(carrier, ReshareState { status, transcript: None }, pause, done)
}

/// Whoever visits servers again and again and hands on what they say.
trait Visitor: Send + 'static {
    /// What it writes down.
    type State: Send + 'static;

    /// Visits everybody once; `true` if anything new came.
    fn round(&mut self) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Writes down where it stands, and says what can still come of it.
    fn report(&self, state: &Mutex<Self::State>, trouble: Option<&StoreError>) -> Course;
}

impl Visitor for Carrier {
    type State = CeremonyState;

    fn round(&mut self) -> impl Future<Output = Result<bool, StoreError>> + Send {
        Self::round(self)
    }

    fn report(&self, state: &Mutex<CeremonyState>, trouble: Option<&StoreError>) -> Course {
        report(self, state, trouble)
    }
}

impl Visitor for reshare::Carrier {
    type State = ReshareState;

    fn round(&mut self) -> impl Future<Output = Result<bool, StoreError>> + Send {
        Self::round(self)
    }

    fn report(&self, state: &Mutex<ReshareState>, trouble: Option<&StoreError>) -> Course {
        report_reshare(self, state, trouble)
    }
}

fn visit<V: Visitor>(mut visitor: V, state: V::State, pause: Duration, done: Arc<Notify>) -> Worker<V::State> {
    let state = Arc::new(Mutex::new(state));
    let shared = state.clone();
    let task = tokio::spawn(async move {
        let (mut wait, mut left) = (pause, VISITS_AFTER_FAILURE);
        loop {
            let visited = visitor.round().await;
            match visitor.report(&shared, visited.as_ref().err()) {
                Course::Open => {}
                Course::Complete => return done.notify_one(),
                // A member that is cheated by another dealer may come with that only now, and each complaint is evidence.
                Course::Failed if left == 0 => return,
                Course::Failed => {
                    if left == VISITS_AFTER_FAILURE {
                        done.notify_one();
                    }
                    left -= 1;
                }
            }
            match visited {
                Ok(true) => wait = pause,
                _ => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_PAUSE.max(pause));
                }
            }
        }
    });
    Worker { state, task }
}

/// What a ceremony or a reshare can still come to.
enum Course {
    /// Messages are missing.
    Open,
    /// A key, or a committee.
    Complete,
    /// More evidence, and nothing else.
    Failed,
}

/// Writes down where the ceremony stands.
fn report(carrier: &Carrier, state: &Mutex<CeremonyState>, trouble: Option<&StoreError>) -> Course {
    let standing = carrier.standing();
    let (waiting_for, reported) = (carrier.waiting_for(), carrier.reported_failures());
    let (rounds, stalled) = (carrier.rounds(), carrier.is_stalled(store::now()));
    let mut state = lock(state);
    let (key, attempt) = (state.status.key_id.clone(), state.status.attempt.clone());
    for line in reported.iter().filter(|line| !state.status.reported.contains(line)) {
        tracing::warn!(key_id = key, attempt, reason = line, "a server gave a ceremony up");
    }
    if stalled && !state.status.stalled {
        let waited: Vec<&str> = waiting_for.iter().map(String::as_str).collect();
        tracing::warn!(key_id = key, attempt, reason = waited.join("; "), "a ceremony stalls");
    }
    (state.status.rounds, state.status.stalled) = (rounds, stalled);
    state.status.waiting_for = waiting_for;
    state.status.reported = reported;
    if let Some(error) = trouble {
        state.status.waiting_for.push(format!("this relayer's database: {error}"));
    }
    match standing {
        Standing::Waiting { round, missing } => {
            let last = round == Round::Acknowledgement;
            state.rounds = if last { state.rounds.saturating_add(1) } else { 0 };
            // Who is offline is no silent member before people had the time to carry its files: nobody challenges it by itself.
            let silent = missing.into_iter().filter(|index| carrier.is_online(*index));
            state.unacknowledged = if last { silent.collect() } else { Vec::new() };
            state.status.state = "waiting".to_owned();
            state.status.round = Some(round.name().to_owned());
            Course::Open
        }
        Standing::Failed(reason) => {
            if state.status.failure.as_ref() != Some(&reason) {
                tracing::warn!(key_id = key, attempt, reason, "a ceremony failed");
            }
            state.status.state = "failed".to_owned();
            state.status.failure = Some(reason);
            state.unacknowledged.clear();
            Course::Failed
        }
        Standing::Complete(transcript) => {
            tracing::info!(key_id = key, attempt, "all members acknowledged one transcript");
            state.status.state = "complete".to_owned();
            state.status.round = None;
            state.transcript = Some(transcript);
            state.unacknowledged.clear();
            Course::Complete
        }
    }
}

/// Writes down where the reshare stands.
fn report_reshare(carrier: &reshare::Carrier, state: &Mutex<ReshareState>, trouble: Option<&StoreError>) -> Course {
    let standing = carrier.standing();
    let (waiting_for, reported) = (carrier.waiting_for(), carrier.reported_failures());
    let (rounds, stalled) = (carrier.rounds(), carrier.is_stalled(store::now()));
    let mut state = lock(state);
    let it = &mut state.status;
    let (key_id, committee_epoch, attempt) = (it.key_id.clone(), it.committee_epoch.clone(), it.attempt.clone());
    for line in reported.iter().filter(|line| !it.reported.contains(line)) {
        tracing::warn!(key_id, committee_epoch, attempt, reason = line, "a server gave a reshare up");
    }
    if stalled && !it.stalled {
        tracing::warn!(key_id, committee_epoch, attempt, reason = waiting_for.join("; "), "a reshare stalls");
    }
    (it.rounds, it.stalled, it.waiting_for, it.reported) = (rounds, stalled, waiting_for, reported);
    it.waiting_for.extend(trouble.map(|error| format!("this relayer's database: {error}")));
    match standing {
        reshare::Standing::Waiting { round, .. } => {
            (it.state, it.round) = ("waiting".to_owned(), Some(round.name().to_owned()));
            Course::Open
        }
        reshare::Standing::Failed(reason) => {
            if it.failure.as_ref() != Some(&reason) {
                tracing::warn!(key_id, committee_epoch, attempt, reason, "a reshare failed");
            }
            (it.state, it.failure) = ("failed".to_owned(), Some(reason));
            Course::Failed
        }
        reshare::Standing::Complete(transcript) => {
            tracing::info!(key_id, committee_epoch, attempt, "all new members acknowledged one transcript");
            (it.state, it.round, it.failure) = ("complete".to_owned(), None, None);
            state.transcript = Some(transcript);
            Course::Complete
        }
    }
}

/// Where a collection stands.
#[derive(Debug, Default)]
pub struct CollectionState {
    /// For people.
    pub status: CollectionStatus,
    /// The verified group signature, once there.
    pub signature: Option<Signature>,
    /// Key that signs.
    pub key_id: u64,
    /// Rounds in which everybody who had not answered was asked.
    pub rounds: u32,
    /// Members that have given no partial.
    pub missing: Vec<ShareIndex>,
}

/// What to collect and from whom.
#[derive(Clone, Debug)]
pub struct Job {
    /// What is to be signed.
    pub request: Asked,
    /// Who can sign it.
    pub committee: Committee,
    /// How to reach them.
    pub seats: Vec<Seat>,
    /// Members whose partials are verified before they count.
    pub suspects: Vec<ShareIndex>,
    /// Where wrong partials are reported.
    pub court: Address,
}

impl Job {
    /// A collector whose wrong partials are in `store` before anything else is done about them.
    fn collector(&self, store: &Store) -> Collector {
        let collection = Collection::new(self.request.clone(), self.committee.clone(), self.suspects.iter().copied());
        let (committee, court, store) = (self.committee.clone(), self.court, store.clone());
        let witness = Witness::new(move |server_id, evidence| {
            keep(&store, (&committee, court), server_id, evidence);
        });
        Collector::new(collection, self.seats.clone()).telling(witness)
    }
}

/// Collects until there is a verified signature; `done` is told.
#[must_use]
pub fn collect(
    mut job: Job,
    status: CollectionStatus,
    store: Store,
    pause: Duration,
    done: Arc<Notify>,
) -> Worker<CollectionState> {
    let state = Arc::new(Mutex::new(CollectionState {
        status,
        key_id: job.request.subject().key_id(),
        ..CollectionState::default()
    }));
    let shared = state.clone();
    let task = tokio::spawn(async move {
        let (mut collector, mut patience) = (job.collector(&store), Patience::default());
        let mut wait = pause;
        loop {
            take_files(&mut collector, &job, &store);
            let progress = collector.round().await;
            keep_evidence(&collector, &job, &store);
            note(&collector, &mut patience, &shared, &progress);
            match progress {
                Progress::Done(_) => break,
                Progress::Waiting { missing, culprits, .. } if missing.is_empty() => {
                    // Everybody answered and too many wrongly. A server may have been repaired: start over, trusting
                    // nobody whose partial was wrong before it is verified.
                    tokio::time::sleep(SECOND_CHANCE).await;
                    job.suspects.extend(culprits);
                    collector = job.collector(&store);
                }
                Progress::Waiting { .. } => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_PAUSE.max(pause));
                }
            }
        }
        done.notify_one();
        // Nothing depends on this any more, and this worker ends with its step: who answers late and wrongly is found all the same.
        tokio::spawn(check_late(collector, patience, job, store, shared));
    });
    Worker { state, task }
}

/// Waits for those who had not answered when the signature was there, and until all evidence is written down.
async fn check_late(
    mut collector: Collector,
    mut patience: Patience,
    job: Job,
    store: Store,
    shared: Arc<Mutex<CollectionState>>,
) {
    let progress = collector.check_late().await;
    note(&collector, &mut patience, &shared, &progress);
    for _ in 0..TRIES_TO_KEEP {
        if keep_evidence(&collector, &job, &store) {
            return;
        }
        tokio::time::sleep(SECOND_CHANCE).await;
    }
}

/// What people handed in for members without network ([`crate::offline`]).
fn take_files(collector: &mut Collector, job: &Job, store: &Store) {
    let subject = job.request.subject();
    match store.offline_partials((subject.key_id(), job.committee.epoch()), subject.signing_root()) {
        Ok(partials) => {
            for partial in partials {
                collector.offer(partial.index, SignResponse::Signed(partial));
            }
        }
        Err(error) => {
            tracing::warn!(key_id = subject.key_id(), error = %error, "answers of offline servers cannot be read")
        }
    }
}

/// Where the answer to a challenge stands.
#[derive(Debug, Default)]
pub struct AnswerState {
    /// What the server signed and its partial, verified.
    pub answer: Option<(SignedEnvelope, Vec<u8>)>,
    /// Why there is none, in one sentence.
    pub trouble: Option<String>,
}

/// Asks the one member that is challenged until it gives a partial that is right; `done` is told. A wrong one is kept as evidence
/// and not sent: it would end the challenge with a fault that costs the server as much.
#[must_use]
pub fn answer(job: Job, of: ShareIndex, store: Store, pause: Duration, done: Arc<Notify>) -> Worker<AnswerState> {
    let state = Arc::new(Mutex::new(AnswerState::default()));
    let shared = state.clone();
    let task = tokio::spawn(async move {
        // A suspect's partial is verified by itself before it counts, and t of them are not needed.
        let job =
            Job { suspects: vec![of], seats: job.seats.into_iter().filter(|seat| seat.index == of).collect(), ..job };
        let mut wait = pause;
        loop {
            let mut collector = job.collector(&store);
            take_files(&mut collector, &job, &store);
            collector.round().await;
            keep_evidence(&collector, &job, &store);
            let given = collector.collection().answers().find(|(index, _)| *index == of);
            if let Some((_, given)) = given {
                let envelope = job.request.subject().envelope(job.committee.epoch(), of, &given.partial);
                *lock(&shared) = AnswerState {
                    answer: Some((SignedEnvelope::new(&envelope, given.envelope), given.partial.clone())),
                    trouble: None,
                };
                done.notify_one();
                return;
            }
            lock(&shared).trouble = collector.troubles().next().map(|trouble| trouble.to_string());
            let wrong = !collector.evidence().is_empty();
            tokio::time::sleep(if wrong { SECOND_CHANCE } else { wait }).await;
            wait = (wait * 2).min(LONGEST_PAUSE.max(pause));
        }
    });
    Worker { state, task }
}

/// Where the answer to who is asked for an acknowledgement stands.
#[derive(Debug, Default)]
pub struct AcknowledgementState {
    /// What ends the challenge.
    pub reply: Option<Reply>,
    /// Why there is nothing, in one sentence; nothing before the member was asked.
    pub trouble: Option<String>,
}

/// Gives the challenged member all dealings until it acknowledges, or until somebody's fault is known; `done` is told.
#[must_use]
pub fn acknowledge(
    mut carrier: Carrier,
    (of, acknowledgement): (ShareIndex, B256),
    pause: Duration,
    done: Arc<Notify>,
) -> Worker<AcknowledgementState> {
    let state = Arc::new(Mutex::new(AcknowledgementState::default()));
    let shared = state.clone();
    let task = tokio::spawn(async move {
        let mut wait = pause;
        loop {
            let visited = carrier.round().await;
            if let Some(reply) = carrier.reply(of, acknowledgement) {
                *lock(&shared) = AcknowledgementState { reply: Some(reply), trouble: None };
                done.notify_one();
                return;
            }
            let why = match visited {
                Err(error) => format!("this relayer's database: {error}"),
                Ok(_) => carrier.why(of).unwrap_or_else(|| "it has not acknowledged what it is asked for".to_owned()),
            };
            lock(&shared).trouble = Some(why);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_PAUSE.max(pause));
        }
    });
    Worker { state, task }
}

fn note(collector: &Collector, patience: &mut Patience, state: &Mutex<CollectionState>, progress: &Progress) {
    let named = |culprits: &[ShareIndex]| {
        let servers = culprits.iter().filter_map(|index| collector.server_at(*index));
        servers.map(|id| id.to_string()).collect()
    };
    let mut state = lock(state);
    let (key_id, pool_id) = (&state.status.key_id, &state.status.pool_id);
    let mut troubles = Vec::new();
    for trouble in collector.troubles() {
        let reason = trouble.to_string();
        match patience.hear(&trouble) {
            Told::Warning => tracing::warn!(key_id, pool_id, reason, "a member has not signed"),
            Told::Debug => tracing::debug!(key_id, pool_id, reason, "a member has not signed yet"),
            Told::No => {}
        }
        troubles.push(reason);
    }
    match progress {
        Progress::Done(done) => {
            state.status.state = "complete".to_owned();
            state.status.needed = "0".to_owned();
            state.status.culprits = named(&done.culprits);
            state.signature = Some(done.signature);
            state.missing.clear();
        }
        Progress::Waiting { needed, culprits, missing, .. } => {
            state.rounds = state.rounds.saturating_add(1);
            state.missing.clone_from(missing);
            state.status.state = "waiting".to_owned();
            state.status.needed = needed.to_string();
            state.status.culprits = named(culprits);
        }
    }
    state.status.waiting_for = troubles;
}

/// Once more, for what the database did not take when it was found; whether all is there now.
fn keep_evidence(collector: &Collector, job: &Job, store: &Store) -> bool {
    let found = collector.evidence().iter().filter_map(|it| Some((collector.server_at(it.culprit)?, it)));
    found.fold(true, |all, (server_id, it)| keep(store, (&job.committee, job.court), server_id, it) && all)
}

/// Before anything else is done with what a collection found: what is written down a crash cannot take away. Whether it is there.
fn keep(store: &Store, (committee, court): (&Committee, Address), server_id: u32, evidence: &Evidence) -> bool {
    let Some(file) = EvidenceFile::of_partial(committee, court, evidence) else { return true };
    let (key_id, culprit) = (evidence.envelope.key_id, evidence.culprit.get());
    match store.keep_evidence(server_id, &file) {
        Ok(true) => tracing::warn!(
            key_id,
            culprit,
            server_id,
            "a server signed an envelope over a wrong partial; kept as evidence"
        ),
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(key_id, culprit, error = %error, "evidence could not be kept");
            return false;
        }
    }
    true
}
