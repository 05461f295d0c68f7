//! Which keys are served: read from the chain, again and again.
//!
//! A key is served while it is Live and `KeyRegistry.dutyAssignment` names one of our duty keys. The event log says when to
//! look; what is believed is read from the registry, and a committee is checked against the key's Merkle root. An endpoint
//! that does not answer changes nothing: the last keys stay, and the servers judge for themselves who may ask.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::primitives::{Address, U256};
use futures::stream::{StreamExt as _, TryStreamExt as _};
use stkr_chain::bindings::{KeyRegistry, Resharing};
use stkr_chain::{ChainError, ChainReader, DutyAssignment, EventLog, EventQuery, LiveKey, LoggedEvent, StkrEvent};
use stkr_duties::ForkSchedule;
use stkr_node::client::{ClientError, Patience, Peer, ServerClient};
use stkr_node::collector::Seat;
use stkr_node::history::watermark;
use stkr_node::shutdown::Shutdown;
use stkr_node::tls::{Fingerprint, Identity};
use stkr_protection::{KeyError, Protection, Pubkey, Unavailable};
use stkr_protocol::ceremony::MemberId;
use stkr_protocol::collection::Committee;
use stkr_protocol::handover::{Term, View};
use stkr_protocol::{ProtocolDomain, SignerKey};
use tokio::sync::Notify;

use crate::clock;
use crate::keys::{KeyRing, Keys, Seated, ServedKey};
use crate::line::Line;
use crate::metrics::GatewayMetrics;
use crate::quiet::{Newcomer, Quiet, quorum};
use crate::store::{Store, StoreError};

/// Questions to the endpoint at once.
const QUESTIONS: usize = 16;
/// Blocks after which every assignment is read again, whatever the events say: an epoch.
const READ_ALL_EVERY: u64 = 32;
/// How long the gateway goes on with a duty key that another of its keys has replaced within one assignment. Servers see the
/// new one a block or two later or sooner than this gateway does, and serve the old one for two minutes more: signing with
/// the new one at once would be refused by those that have not seen it.
const LINGER: Duration = Duration::from_secs(24);
/// Longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why a look at the chain changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Our database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Slashing protection.
    #[error(transparent)]
    Protection(#[from] Unavailable),
    /// A key in it.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A task of ours ended.
    #[error("reading the slashing protection database was cut off: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl FollowError {
    /// Whether waiting cannot cure it: a final block that vanished, a broken event log. A disk that is full or fails is
    /// repaired some time; until then the keys stay as they were, and slashing protection judges for itself.
    fn is_final(&self) -> bool {
        match self {
            Self::Chain(ChainError::FinalBlockVanished { .. }) => true,
            Self::Chain(ChainError::Database(error)) => !is_of_the_disk(error),
            _ => false,
        }
    }
}

fn is_of_the_disk(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, DatabaseBusy, DiskFull, ReadOnly, SystemIoFailure};
    matches!(error.sqlite_error_code(), Some(CannotOpen | DatabaseBusy | DiskFull | ReadOnly | SystemIoFailure))
}

/// What a follower works with.
#[derive(Debug)]
pub struct Parts {
    /// Chain and registry of the protocol.
    pub domain: ProtocolDomain,
    /// Follows the chain.
    pub log: EventLog,
    /// Reads the contracts.
    pub reader: ChainReader,
    /// Clocks of the beacon chain.
    pub schedule: Arc<ForkSchedule>,
    /// Our duty keys.
    pub duty_keys: Vec<Arc<SignerKey>>,
    /// Client certificate: carries rate limits, no authority.
    pub identity: Identity,
    /// How long a server may take.
    pub patience: Patience,
    /// Slashing protection.
    pub protection: Arc<Protection>,
    /// Remembers what was served.
    pub store: Store,
    /// Where requests look keys up.
    pub ring: KeyRing,
    /// Which of them may sign.
    pub quiet: Quiet,
    /// Metrics.
    pub metrics: GatewayMetrics,
    /// Pause between looks.
    pub pause: Duration,
}

/// How the last look went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Looks begun so far.
    pub begun: u64,
    /// Whether one is under way.
    pub running: bool,
    /// Unix time (seconds) of the end of the last one.
    pub ended: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Wakes the follower and hears how it fares. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Bell {
    wake: Arc<Notify>,
    look: tokio::sync::watch::Sender<Look>,
}

impl Bell {
    /// Makes the follower look now.
    pub fn ring(&self) {
        self.wake.notify_one();
    }

    /// How the last look went.
    #[must_use]
    pub fn look(&self) -> Look {
        self.look.borrow().clone()
    }
}

/// Follows the chain and keeps the key ring as the chain says.
#[derive(Debug)]
pub struct Follower {
    parts: Parts,
    bell: Bell,
    /// Position in the event log, and its unwinds when it was read.
    seen: (i64, u64),
    /// Block at which everything was read last.
    read_all: Option<u64>,
    live: BTreeMap<u64, Held>,
    assignments: BTreeMap<u64, DutyAssignment>,
    lines: BTreeMap<u32, (Peer, Result<Line, ClientError>)>,
    served: Option<BTreeSet<Pubkey>>,
    duty_keys: BTreeMap<u64, DutyKeys>,
}

/// With which duty key a key is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DutyKeys {
    named: DutyAssignment,
    /// The one before, and until when it signs.
    before: Option<(Address, Instant)>,
}

impl DutyKeys {
    /// What follows from what was known before. A new number comes with another provider: nothing of the one before counts.
    fn next(known: Option<Self>, named: DutyAssignment, now: Instant) -> Self {
        let before = match known {
            Some(known) if known.named == named => known.before.filter(|(_, until)| now < *until),
            Some(known) if known.named.number == named.number => {
                now.checked_add(LINGER).map(|until| (known.named.duty_key, until))
            }
            _ => None,
        };
        Self { named, before }
    }

    fn signer(&self) -> Address {
        self.before.map_or(self.named.duty_key, |(before, _)| before)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.before.is_some_and(|(_, until)| now >= until)
    }
}

/// Who holds a key, as it was read last.
#[derive(Clone, Debug)]
struct Held {
    pubkey: Pubkey,
    view: View,
    /// In order, each with the unix time (seconds) of its handover.
    committees: Vec<(u64, Committee)>,
    /// Finalised block at which they were read; nothing of a key that nobody ever asked to reshare.
    at: Option<u64>,
}

/// Seconds, more than there will be: whether the view is so old that a draw may be missing in it the servers find out, which sign.
/// A gateway that stopped asking because its own endpoint shows no finality would only add its own outage to theirs.
const ANY_AGE: u64 = u64::MAX;

/// What has to be read again.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stale {
    all: bool,
    keys: BTreeSet<u64>,
    servers: bool,
}

impl Follower {
    /// A follower that has seen nothing yet.
    #[must_use]
    pub const fn new(parts: Parts, bell: Bell) -> Self {
        Self {
            parts,
            bell,
            seen: (0, 0),
            read_all: None,
            live: BTreeMap::new(),
            assignments: BTreeMap::new(),
            lines: BTreeMap::new(),
            served: None,
            duty_keys: BTreeMap::new(),
        }
    }

    /// Looks until the shutdown. A look that fails is tried again after a pause.
    ///
    /// # Errors
    /// What waiting does not cure.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), FollowError> {
        let (mut failures, mut woken) = (0_u32, false);
        loop {
            self.bell.look.send_modify(|look| (look.begun, look.running) = (look.begun.saturating_add(1), true));
            let outcome = tokio::select! {
                _ = shutdown.wait() => return Ok(()),
                outcome = self.look(woken) => outcome,
            };
            let error = outcome.as_ref().err().map(ToString::to_string);
            self.bell.look.send_modify(|look| {
                (look.running, look.ended, look.error) = (false, Some(clock::unix_seconds()), error);
            });
            let pause = match outcome {
                Ok(()) => {
                    failures = 0;
                    self.parts.pause
                }
                Err(error) if error.is_final() => return Err(error),
                Err(error) => {
                    failures = failures.saturating_add(1);
                    self.parts.metrics.chain_failures.inc();
                    tracing::warn!(error = %error, "a look at the chain failed; the keys stay as they were");
                    self.parts.pause.saturating_mul(1 << failures.min(5)).min(LONGEST_PAUSE)
                }
            };
            woken = tokio::select! {
                _ = shutdown.wait() => return Ok(()),
                () = self.bell.wake.notified() => true,
                () = tokio::time::sleep(pause) => false,
            };
        }
    }

    /// One look. What it has read is forgotten if it fails half way: the next one reads it again.
    async fn look(&mut self, read_all: bool) -> Result<(), FollowError> {
        self.parts.log.poll().await?;
        let (mut stale, seen) = self.news()?;
        let tip = self.parts.log.tip()?.map_or(0, |tip| tip.number);
        self.parts.metrics.head.set(i64::try_from(tip).unwrap_or(i64::MAX));
        stale.all |= read_all || self.read_all.is_none_or(|last| tip >= last.saturating_add(READ_ALL_EVERY));
        let now = Instant::now();
        let over = self.duty_keys.values().any(|keys| keys.is_over(now));
        if stale == Stale::default() && !over && !self.is_behind()? {
            return Ok(());
        }
        // From here on a failure must not leave the news unread.
        self.read_assignments(&stale).await?;
        self.read_committees().await?;
        self.read_servers(&stale).await?;
        self.serve().await?;
        self.seen = seen;
        if stale.all {
            self.read_all = Some(tip);
        }
        Ok(())
    }

    /// What the events since the last look say, and the position after them.
    fn news(&self) -> Result<(Stale, (i64, u64)), FollowError> {
        let unwinds = self.parts.log.unwinds()?;
        let mut stale = Stale { all: unwinds != self.seen.1, ..Stale::default() };
        let mut position = if stale.all { 0 } else { self.seen.0 };
        loop {
            let query = EventQuery { after: Some(position), limit: Some(1_000), ..EventQuery::default() };
            let events = self.parts.log.events(&query)?;
            let Some(last) = events.last() else { break };
            position = last.id;
            for event in &events {
                stale.note(event);
            }
        }
        Ok((stale, (position, unwinds)))
    }

    /// Ids of finalised keys, as the log has them.
    fn finalised(&self) -> Result<BTreeSet<u64>, FollowError> {
        let registry = self.parts.log.deployment().key_registry;
        let events = self.parts.log.events_of::<KeyRegistry::KeyFinalised>(registry)?;
        Ok(events.iter().filter_map(|(_, event)| u64::try_from(event.keyId).ok()).collect())
    }

    async fn read_assignments(&mut self, stale: &Stale) -> Result<(), FollowError> {
        let known = self.finalised()?;
        let wanted: Vec<u64> = known.into_iter().filter(|id| stale.all || stale.keys.contains(id)).collect();
        let reader = &self.parts.reader;
        let read: Vec<(u64, Option<DutyAssignment>)> = futures::stream::iter(wanted)
            .map(|id| async move { Ok::<_, ChainError>((id, reader.duty_assignment(id).await?)) })
            .buffer_unordered(QUESTIONS)
            .try_collect()
            .await?;
        if stale.all {
            self.assignments.clear();
        }
        for (id, assignment) in read {
            let ours = assignment.filter(|it| self.duty_key(it.duty_key).is_some());
            match ours {
                Some(assignment) => self.assignments.insert(id, assignment),
                None => self.assignments.remove(&id),
            };
        }
        Ok(())
    }

    fn duty_key(&self, address: Address) -> Option<Arc<SignerKey>> {
        self.parts.duty_keys.iter().find(|key| key.address() == address).cloned()
    }

    /// With which duty keys to sign from now on.
    fn choose_duty_keys(&mut self) {
        let now = Instant::now();
        let next = |(id, named): (&u64, &DutyAssignment)| {
            let known = self.duty_keys.get(id).copied();
            (*id, DutyKeys::next(known, *named, now))
        };
        self.duty_keys = self.assignments.iter().map(next).collect();
    }

    /// Committees of keys that are ours and not known yet; after a reorg a key id may have got another.
    async fn read_committees(&mut self) -> Result<(), FollowError> {
        let ours = &self.assignments;
        self.live.retain(|id, _| ours.contains_key(id));
        let registry = self.parts.log.deployment().key_registry;
        for id in self.assignments.keys().copied().collect::<Vec<_>>() {
            let is_known = self.seen.1 == self.parts.log.unwinds()?;
            if self.is_reshared(id)? {
                let at = self.live.get(&id).and_then(|held| held.at).filter(|_| is_known);
                self.read_reshared(id, at).await?;
                continue;
            }
            if is_known && self.live.contains_key(&id) {
                continue;
            }
            let info = self.parts.reader.key(id).await?;
            let topic1 = Some(U256::from(id).into());
            let topic0 = Some(<KeyRegistry::KeyFinalised as alloy::sol_types::SolEvent>::SIGNATURE_HASH);
            let query = EventQuery { contract: Some(registry), topic0, topic1, ..EventQuery::default() };
            let events = self.parts.log.events(&query)?;
            let event = events.iter().rev().find_map(LoggedEvent::typed::<KeyRegistry::KeyFinalised>);
            let event =
                event.ok_or_else(|| ChainError::NotFound(format!("no event says that key {id} was finalised")))?;
            let live = LiveKey::from_event(&info, &event).map_err(ChainError::from)?;
            if let Some(held) = self.held(&live) {
                self.live.insert(id, held);
            }
        }
        Ok(())
    }

    /// A key whose first committee is its only one.
    fn held(&self, live: &LiveKey) -> Option<Held> {
        let members = live.members.iter().map(|member| MemberId { server_id: member.server_id, signer: member.signer });
        let pubkey = Pubkey::from(live.keys.group_key().to_compressed());
        // One member per share key is what `from_event` checks.
        let committee = Committee::new(self.parts.domain, 0, live.keys.clone(), members.collect()).ok()?;
        let first = Term { committee_epoch: 0, attempt: live.attempt, handover: 0 };
        let view = View::new(0, ANY_AGE, vec![first], None).ok()?;
        Some(Held { pubkey, view, committees: vec![(0, committee)], at: None })
    }

    /// Whether anybody ever asked for a reshare of the key.
    fn is_reshared(&self, key_id: u64) -> Result<bool, FollowError> {
        let contract = Some(self.parts.log.deployment().resharing());
        let topic0 = Some(<Resharing::ReshareRequested as alloy::sol_types::SolEvent>::SIGNATURE_HASH);
        let topic1 = Some(U256::from(key_id).into());
        let query = EventQuery { contract, topic0, topic1, limit: Some(1), ..EventQuery::default() };
        Ok(!self.parts.log.events(&query)?.is_empty())
    }

    /// Whether blocks became final since the committees of a reshared key were read: they may show a draw, or its end.
    fn is_behind(&self) -> Result<bool, FollowError> {
        let finalized = self.parts.log.finalized()?.map_or(0, |(number, _)| number);
        Ok(self.live.values().any(|held| held.at.is_some_and(|at| at < finalized)))
    }

    /// The committees of a key that is or was being reshared, at the newest finalised block; `at` is the one of which they are known.
    async fn read_reshared(&mut self, key_id: u64, at: Option<u64>) -> Result<(), FollowError> {
        let block = self.parts.reader.finalized_block().await?;
        if at == Some(block.number) {
            return Ok(());
        }
        let read = self.parts.reader.finalized_committees(key_id, &block, ANY_AGE).await?;
        let nonsense =
            |detail: String| ChainError::Nonsense { action: format!("reading the committees of key {key_id}"), detail };
        let view = read.view().map_err(|error| nonsense(error.to_string()))?;
        let newest = read.newest().ok_or_else(|| nonsense("there is none".to_owned()))?;
        let pubkey = Pubkey::from(newest.keys().group_key().to_compressed());
        let committees: Vec<(u64, Committee)> =
            read.terms.iter().map(|term| (term.handover, term.committee.clone())).collect();
        let epochs = |held: &[(u64, Committee)]| held.iter().map(|(_, it)| it.epoch()).collect::<Vec<_>>();
        if self.live.get(&key_id).is_some_and(|known| epochs(&known.committees) != epochs(&committees)) {
            let committee_epoch = newest.epoch();
            tracing::info!(key_id, committee_epoch, "a key has a new committee, which signs from its handover on");
        }
        self.live.insert(key_id, Held { pubkey, view, committees, at: Some(block.number) });
        Ok(())
    }

    async fn read_servers(&mut self, stale: &Stale) -> Result<(), FollowError> {
        let committees = self.live.values().flat_map(|held| &held.committees);
        let members = committees.flat_map(|(_, committee)| committee.members());
        let wanted: BTreeSet<u32> = members.map(|member| member.server_id).collect();
        let all = stale.all || stale.servers;
        let unread: Vec<u32> = wanted.iter().copied().filter(|id| all || !self.lines.contains_key(id)).collect();
        let reader = &self.parts.reader;
        let read: Vec<Peer> = futures::stream::iter(unread)
            .map(|id| async move {
                let fingerprint = Fingerprint(reader.server(id).await?.tls_fingerprint.0);
                Ok::<_, ChainError>(Peer { server_id: id, endpoint: reader.server_endpoint(id).await?, fingerprint })
            })
            .buffer_unordered(QUESTIONS)
            .try_collect()
            .await?;
        self.lines.retain(|id, _| wanted.contains(id));
        for peer in read {
            if self.lines.get(&peer.server_id).is_some_and(|(known, _)| *known == peer) {
                continue;
            }
            let client = ServerClient::new(&self.parts.identity, peer.clone(), self.parts.patience);
            self.lines.insert(
                peer.server_id,
                (peer, client.map(|client| Line::open(client, self.parts.metrics.calls.clone()))),
            );
        }
        Ok(())
    }

    /// Hands the keys over: slashing protection first, then requests may find them.
    async fn serve(&mut self) -> Result<(), FollowError> {
        self.choose_duty_keys();
        let keys: Keys =
            self.assignments.iter().filter_map(|(id, assignment)| self.served_key(*id, assignment)).collect();
        let now: BTreeSet<Pubkey> = keys.keys().copied().collect();
        let before = match &self.served {
            Some(served) => served.clone(),
            None => self.parts.store.served()?,
        };
        let came: Vec<Pubkey> = now.difference(&before).copied().collect();
        let left: Vec<Pubkey> = before.difference(&now).copied().collect();
        // Nobody may find a key that has left while its history closes.
        if !left.is_empty() {
            let stay = keys.iter().filter(|(key, _)| before.contains(*key));
            self.parts.ring.replace(stay.map(|(key, served)| (*key, served.clone())).collect());
        }
        let (protection, schedule, store) =
            (self.parts.protection.clone(), self.parts.schedule.clone(), self.parts.store.clone());
        let (joining, leaving, all) = (came.clone(), left.clone(), keys.clone());
        let (quiet, known) = (self.parts.quiet.clone(), self.served.is_some().then_some(before));
        let admitted = tokio::task::spawn_blocking(move || {
            // First, for handing over closes histories.
            let admitted = admit(&protection, &schedule, &store, &quiet, &all, known.as_ref())?;
            hand_over(&protection, &schedule, &store, &joining, &leaving)?;
            Ok::<_, FollowError>(admitted)
        });
        admitted.await??.apply(&self.parts.quiet, &left);
        for pubkey in &came {
            tracing::info!(%pubkey, "a key is served");
        }
        for pubkey in &left {
            tracing::info!(%pubkey, "a key is no longer served");
        }
        self.parts.metrics.keys.set(i64::try_from(keys.len()).unwrap_or(i64::MAX));
        self.parts.ring.replace(keys);
        self.parts.quiet.wake();
        self.served = Some(now);
        Ok(())
    }

    fn served_key(&self, key_id: u64, assignment: &DutyAssignment) -> Option<(Pubkey, Arc<ServedKey>)> {
        let Held { pubkey, view, committees, .. } = self.live.get(&key_id)?;
        let duty_key = self.duty_key(self.duty_keys.get(&key_id)?.signer())?;
        let committees = committees.iter().map(|(handover, committee)| self.seated(*handover, committee)).collect();
        let (pubkey, view, assignment) = (*pubkey, view.clone(), assignment.number);
        Some((pubkey, Arc::new(ServedKey { pubkey, key_id, assignment, duty_key, view, committees })))
    }

    fn seated(&self, handover: u64, committee: &Committee) -> Seated {
        let unknown = |id: u32| ClientError::Setup(format!("server {id} has no endpoint on the chain"));
        let seats = committee.keys().threshold().indices().zip(committee.members()).map(|(index, member)| {
            let line = self
                .lines
                .get(&member.server_id)
                .map_or_else(|| Err(unknown(member.server_id)), |(_, line)| line.clone());
            Seat { index, server_id: member.server_id, client: line }
        });
        Seated { committee: committee.clone(), handover, seats: seats.collect() }
    }
}

/// Which keys may sign, and which have to wait first.
#[derive(Debug, Default)]
struct Admitted {
    clear: Vec<Pubkey>,
    wait: Vec<Newcomer>,
}

impl Admitted {
    fn apply(self, quiet: &Quiet, left: &[Pubkey]) {
        left.iter().for_each(|pubkey| quiet.forget(pubkey));
        self.clear.into_iter().for_each(|pubkey| quiet.clear(pubkey));
        for key in self.wait {
            tracing::info!(pubkey = %key.pubkey, "the quiet period of a key begins");
            quiet.wait(key);
        }
    }
}

/// A key that gets a new assignment while this gateway watches is fenced: servers refuse whoever asked before. Any other may be
/// served by a second gateway with our duty key, also one whose number grew while we were away.
///
/// `before` is what was served until now, `None` in the first look after a start.
fn admit(
    protection: &Protection,
    schedule: &ForkSchedule,
    store: &Store,
    quiet: &Quiet,
    keys: &Keys,
    before: Option<&BTreeSet<Pubkey>>,
) -> Result<Admitted, FollowError> {
    let (cleared, watched) = (store.cleared()?, before.is_some());
    let earlier = store.served()?;
    // Before genesis nobody can have signed anything.
    let free = !quiet.is_on() || clock::since_genesis(schedule).is_none();
    let (mut admitted, mut remember) = (Admitted::default(), Vec::new());
    for (pubkey, key) in keys {
        let number = cleared.get(pubkey).copied();
        let is_new = number.is_none_or(|number| number < key.assignment);
        let is_fenced = watched && is_new && (!quiet.knows(pubkey) || quiet.is_clear(pubkey));
        if free || is_fenced {
            admitted.clear.push(*pubkey);
            remember.push((*pubkey, key.assignment));
        } else if !quiet.knows(pubkey) {
            let own = protection.key(pubkey)?.map(|state| watermark(state.high)).unwrap_or_default();
            let same = number == Some(key.assignment) && !watched && earlier.contains(pubkey);
            let Some(seated) = key.now(schedule) else { continue };
            let needed = quorum(seated.committee.keys().threshold());
            // Members that came since our last vote know nothing of what others signed between that and their handover.
            let handover = schedule.slot_at_time(seated.handover).map_or(0, |slot| schedule.epoch_at(slot).0);
            let known_to_all = seated.handover == 0 || own.target_epoch.is_some_and(|target| target > handover);
            let recent = same && known_to_all && quiet.is_recent(own.target_epoch);
            admitted.wait.push(Newcomer { pubkey: *pubkey, number: key.assignment, needed, own, recent });
        }
    }
    remember.retain(|(pubkey, number)| cleared.get(pubkey) != Some(number));
    if !remember.is_empty() {
        store.set_cleared(&remember)?;
    }
    Ok(admitted)
}

/// A key that comes: new ones begin with everything up to now as signed (another provider may have signed it); ones that
/// come back as well; ones whose history was imported keep it. A key that leaves signs nothing more.
fn hand_over(
    protection: &Protection,
    schedule: &ForkSchedule,
    store: &Store,
    came: &[Pubkey],
    left: &[Pubkey],
) -> Result<(), FollowError> {
    for key in left {
        match protection.deactivate(&[*key]) {
            // It was never registered: the last start was cut off in between.
            Ok(()) | Err(KeyError::Unregistered(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for key in came {
        match protection.key(key)? {
            None => drop(protection.register(&[*key], clock::since_genesis(schedule))?),
            Some(state) if state.active => {}
            Some(_) => {
                protection.close_history(&[*key], clock::now(schedule))?;
                protection.activate(&[*key])?;
            }
        }
    }
    Ok(store.set_served(came, left)?)
}

impl Stale {
    fn note(&mut self, event: &LoggedEvent) {
        match &event.event {
            StkrEvent::Server(_) => self.servers = true,
            // The key's id is the first argument of every event of both that concerns one.
            StkrEvent::Key(_) | StkrEvent::Reshare(_) => {
                match event.topics.get(1).and_then(|topic| u64::try_from(U256::from_be_bytes(topic.0)).ok()) {
                    Some(key_id) => drop(self.keys.insert(key_id)),
                    None => self.all = true,
                }
            }
            // Withdrawal keys have no duties.
            StkrEvent::Withdrawal(_) => {}
            // A provider's duty key, a pool's provider: which keys that concerns only the contracts know.
            StkrEvent::Provider(_)
            | StkrEvent::Court(_)
            | StkrEvent::Acknowledgement(_)
            | StkrEvent::Pool(_)
            | StkrEvent::Unknown => self.all = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use stkr_node::database::Database;
    use stkr_protection::{Attestation, Conflict, Duty, Request, Verdict};

    use super::*;
    use crate::store::SCHEMA;

    struct World {
        _folder: tempfile::TempDir,
        protection: Protection,
        schedule: ForkSchedule,
        store: Store,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let schedule = ForkSchedule::mainnet();
            let path = folder.path().join("protection.sqlite");
            let protection = Protection::create(&path, schedule.genesis_validators_root()).unwrap();
            let database = Database::open(&folder.path().join("gateway.sqlite"), &SCHEMA).unwrap();
            Self { _folder: folder, protection, schedule, store: Store::new(Arc::new(database)) }
        }

        fn hand_over(&self, came: &[Pubkey], left: &[Pubkey]) {
            hand_over(&self.protection, &self.schedule, &self.store, came, left).unwrap();
        }

        /// What the history says to a vote `ahead` of the present epoch.
        fn vote(&self, pubkey: Pubkey, ahead: u64) -> Verdict {
            let now = clock::now(&self.schedule).epoch;
            let (source_epoch, target_epoch) = (now + ahead - 1, now + ahead);
            let duty = Duty::Attestation(Attestation { source_epoch, target_epoch, signing_root: B256::ZERO });
            let later = stkr_protection::Now { slot: u64::MAX, epoch: u64::MAX };
            self.protection.check_and_record(&[Request { pubkey, duty }], later).unwrap()[0]
        }
    }

    impl World {
        /// Key ring with a 3-of-4 key under this assignment.
        fn keys(assignment: u64) -> (Pubkey, Keys) {
            let dealt = stkr_core::testing::TrustedDealer::deal(stkr_core::Threshold::new(3, 4).unwrap(), [1; 32]);
            let pubkey = Pubkey::from(dealt.keys.group_key().to_compressed());
            let domain = ProtocolDomain { chain_id: 1, key_registry: alloy::primitives::Address::repeat_byte(1) };
            let members = (1..=4).map(|id| MemberId { server_id: id, signer: SignerKey::random().unwrap().address() });
            let committee = Committee::new(domain, 0, dealt.keys.clone(), members.collect()).unwrap();
            let duty_key = Arc::new(SignerKey::random().unwrap());
            let view = View::new(0, ANY_AGE, vec![Term { committee_epoch: 0, attempt: 0, handover: 0 }], None).unwrap();
            let committees = vec![Seated { committee, handover: 0, seats: Vec::new() }];
            let key = ServedKey { pubkey, key_id: 1, assignment, duty_key, view, committees };
            (pubkey, Keys::from([(pubkey, Arc::new(key))]))
        }

        fn admit(&self, quiet: &Quiet, keys: &Keys, before: Option<&[Pubkey]>) -> (usize, Vec<bool>) {
            let before = before.map(|keys| keys.iter().copied().collect());
            let admitted = admit(&self.protection, &self.schedule, &self.store, quiet, keys, before.as_ref()).unwrap();
            let found = (admitted.clear.len(), admitted.wait.iter().map(|key| key.recent).collect());
            admitted.apply(quiet, &[]);
            found
        }

        fn quiet(&self, epochs: u64) -> Quiet {
            Quiet::new(epochs, Arc::new(self.schedule.clone()))
        }
    }

    #[test]
    fn a_duty_key_that_is_replaced_signs_a_while_longer_within_its_assignment_only() {
        let named = |key: u8, number| DutyAssignment { duty_key: Address::repeat_byte(key), number };
        let now = Instant::now();
        let first = DutyKeys::next(None, named(1, 5), now);
        assert_eq!(first.signer(), Address::repeat_byte(1));
        let second = DutyKeys::next(Some(first), named(2, 5), now);
        assert_eq!((second.signer(), second.is_over(now)), (Address::repeat_byte(1), false));
        // Read again with every look: that prolongs nothing.
        let again = DutyKeys::next(Some(second), named(2, 5), now + LINGER / 2);
        assert_eq!(again, second);
        assert!(again.is_over(now + LINGER));
        assert_eq!(DutyKeys::next(Some(again), named(2, 5), now + LINGER).signer(), Address::repeat_byte(2));
        assert_eq!(DutyKeys::next(Some(first), named(2, 6), now).signer(), Address::repeat_byte(2), "another provider");
    }

    #[test]
    fn only_an_assignment_that_is_new_while_the_gateway_watches_saves_the_quiet_period() {
        let world = World::new();
        let (key, keys) = World::keys(5);
        // After a start it may be anybody's, however it came about.
        assert_eq!(world.admit(&world.quiet(2), &keys, None), (0, vec![false]));
        assert_eq!(world.admit(&world.quiet(0), &keys, None), (1, vec![]), "switched off");
        world.store.set_cleared(&[(key, 4)]).unwrap();
        assert_eq!(world.admit(&world.quiet(2), &keys, None), (0, vec![false]), "the number grew while we were away");
        assert_eq!(world.admit(&world.quiet(2), &keys, Some(&[])), (1, vec![]), "it grew before our eyes");
        assert_eq!(world.store.cleared().unwrap(), BTreeMap::from([(key, 5)]));
        // The same number again, after another duty key had it for a while.
        assert_eq!(world.admit(&world.quiet(2), &keys, Some(&[])), (0, vec![false]));
        // A key that waits goes on waiting when its number grows: a twin gets the new number too.
        let quiet = world.quiet(2);
        assert_eq!(world.admit(&quiet, &keys, None), (0, vec![false]));
        assert_eq!(world.admit(&quiet, &World::keys(6).1, Some(&[key])), (0, vec![]));
        assert!(!quiet.is_clear(&key));
    }

    #[test]
    fn a_restart_is_prompt_only_after_a_vote_of_our_own_that_is_not_old() {
        let world = World::new();
        let (key, keys) = World::keys(5);
        let now = clock::now(&world.schedule);
        world.store.set_cleared(&[(key, 5)]).unwrap();
        world.store.set_served(&[key], &[]).unwrap();
        let old = stkr_protection::Now { slot: now.slot - 320, epoch: now.epoch - 10 };
        world.protection.register(&[key], Some(old)).unwrap();
        assert_eq!(world.admit(&world.quiet(2), &keys, None), (0, vec![false]));
        assert_eq!(world.vote(key, 0), Verdict::Safe);
        assert_eq!(world.admit(&world.quiet(2), &keys, None), (0, vec![true]));
        assert_eq!(world.admit(&world.quiet(2), &World::keys(6).1, None), (0, vec![false]), "another assignment");
        world.store.set_served(&[], &[key]).unwrap();
        assert_eq!(world.admit(&world.quiet(2), &keys, None), (0, vec![false]), "it had left");
        world.store.set_served(&[key], &[]).unwrap();
        assert_eq!(world.admit(&world.quiet(2), &keys, None), (0, vec![true]));
        // `protection import` and `close-history` end with this: what they wrote is no vote of ours.
        stkr_node::history::Memory::set_instance(&world.store, world.protection.instance()).unwrap();
        assert_eq!(world.admit(&world.quiet(2), &keys, None), (0, vec![false]), "its history came from outside");
    }

    #[test]
    fn of_a_key_that_appears_everything_up_to_now_counts_as_signed() {
        let (world, key) = (World::new(), Pubkey::repeat_byte(1));
        world.hand_over(&[key], &[]);
        assert!(matches!(world.vote(key, 0), Verdict::Slashable(Conflict::LowTarget { .. })));
        // One more than the next epoch: the clock may move on meanwhile.
        assert_eq!(world.vote(key, 2), Verdict::Safe);
        assert_eq!(world.store.served().unwrap(), BTreeSet::from([key]));
    }

    #[test]
    fn a_full_disk_does_not_end_the_gateway_and_a_broken_event_log_does() {
        let database = rusqlite::Connection::open_in_memory().unwrap();
        database.execute_batch("CREATE TABLE log (row BLOB); PRAGMA max_page_count = 3;").unwrap();
        let full = database.execute("INSERT INTO log VALUES (zeroblob(100000))", []).unwrap_err();
        let broken = database.execute("INSERT INTO no_such_table VALUES (1)", []).unwrap_err();
        let of_log = |error| FollowError::Chain(ChainError::Database(error));
        assert!(full.to_string().contains("full"), "{full}");
        assert_eq!((of_log(full).is_final(), of_log(broken).is_final()), (false, true));
    }

    #[test]
    fn a_key_that_left_signs_nothing_and_one_that_comes_back_nothing_old() {
        let (world, key) = (World::new(), Pubkey::repeat_byte(1));
        world.protection.register(&[key], Some(stkr_protection::Now { slot: 320, epoch: 10 })).unwrap();
        world.hand_over(&[key], &[]);
        let low = world.protection.key(&key).unwrap().unwrap().low.epochs.unwrap();
        assert_eq!(low.target_epoch, 10, "an imported history stands for itself");
        world.hand_over(&[], &[key]);
        assert_eq!(world.vote(key, 2), Verdict::Inactive);
        assert!(world.store.served().unwrap().is_empty());
        world.hand_over(&[key], &[]);
        let state = world.protection.key(&key).unwrap().unwrap();
        let low = state.low.epochs.unwrap();
        assert!(state.active && low.target_epoch + 1 >= clock::now(&world.schedule).epoch, "others may have signed");
        assert_eq!(world.vote(key, 2), Verdict::Safe);
        // A start that was cut off between the two databases is made up for.
        world.hand_over(&[key], &[Pubkey::repeat_byte(9)]);
    }
}
