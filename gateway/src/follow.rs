//! Which keys are served: read from the chain, again and again.
//!
//! A key is served while it is Live and `KeyRegistry.dutyAssignment` names one of our duty keys. The event log says when to
//! look; what is believed is read from the registry, and a committee is checked against the key's Merkle root. An endpoint
//! that does not answer changes nothing: the last keys stay, and the servers judge for themselves who may ask.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::U256;
use futures::stream::{StreamExt as _, TryStreamExt as _};
use stkr_chain::bindings::KeyRegistry;
use stkr_chain::{ChainError, ChainReader, DutyAssignment, EventLog, EventQuery, LiveKey, LoggedEvent, StkrEvent};
use stkr_duties::ForkSchedule;
use stkr_node::client::{ClientError, Patience, Peer, ServerClient};
use stkr_node::collector::Seat;
use stkr_node::shutdown::Shutdown;
use stkr_node::tls::{Fingerprint, Identity};
use stkr_protection::{KeyError, Protection, Pubkey, Unavailable};
use stkr_protocol::ceremony::MemberId;
use stkr_protocol::collection::Committee;
use stkr_protocol::{ProtocolDomain, SignerKey};
use tokio::sync::Notify;

use crate::clock;
use crate::keys::{KeyRing, Keys, ServedKey};
use crate::line::Line;
use crate::metrics::GatewayMetrics;
use crate::store::{Store, StoreError};

/// Questions to the endpoint at once.
const QUESTIONS: usize = 16;
/// Blocks after which every assignment is read again, whatever the events say: an epoch.
const READ_ALL_EVERY: u64 = 32;
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
    /// Whether waiting cannot cure it: a final block that vanished, a broken event log.
    const fn is_final(&self) -> bool {
        matches!(self, Self::Chain(ChainError::FinalBlockVanished { .. } | ChainError::Database(_)))
    }
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
    live: BTreeMap<u64, (Pubkey, Committee)>,
    assignments: BTreeMap<u64, DutyAssignment>,
    lines: BTreeMap<u32, (Peer, Result<Line, ClientError>)>,
    served: Option<BTreeSet<Pubkey>>,
}

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
        if stale == Stale::default() {
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
            let ours = assignment.filter(|it| self.duty_key(it).is_some());
            match ours {
                Some(assignment) => self.assignments.insert(id, assignment),
                None => self.assignments.remove(&id),
            };
        }
        Ok(())
    }

    fn duty_key(&self, assignment: &DutyAssignment) -> Option<Arc<SignerKey>> {
        self.parts.duty_keys.iter().find(|key| key.address() == assignment.duty_key).cloned()
    }

    /// Committees of keys that are ours and not known yet; after a reorg a key id may have got another.
    async fn read_committees(&mut self) -> Result<(), FollowError> {
        let ours = &self.assignments;
        self.live.retain(|id, _| ours.contains_key(id));
        let registry = self.parts.log.deployment().key_registry;
        for id in self.assignments.keys().copied().collect::<Vec<_>>() {
            let info = match self.live.get(&id) {
                Some(_) if self.seen.1 == self.parts.log.unwinds()? => continue,
                _ => self.parts.reader.key(id).await?,
            };
            let topic1 = Some(U256::from(id).into());
            let topic0 = Some(<KeyRegistry::KeyFinalised as alloy::sol_types::SolEvent>::SIGNATURE_HASH);
            let query = EventQuery { contract: Some(registry), topic0, topic1, ..EventQuery::default() };
            let events = self.parts.log.events(&query)?;
            let event = events.iter().rev().find_map(LoggedEvent::typed::<KeyRegistry::KeyFinalised>);
            let event =
                event.ok_or_else(|| ChainError::NotFound(format!("no event says that key {id} was finalised")))?;
            let live = LiveKey::from_event(&info, &event).map_err(ChainError::from)?;
            if let Some(known) = self.committee(&live) {
                self.live.insert(id, known);
            }
        }
        Ok(())
    }

    fn committee(&self, live: &LiveKey) -> Option<(Pubkey, Committee)> {
        let members = live.members.iter().map(|member| MemberId { server_id: member.server_id, signer: member.signer });
        let pubkey = Pubkey::from(live.keys.group_key().to_compressed());
        // One member per share key is what `from_event` checks.
        Some((pubkey, Committee::new(self.parts.domain, 0, live.keys.clone(), members.collect()).ok()?))
    }

    async fn read_servers(&mut self, stale: &Stale) -> Result<(), FollowError> {
        let members = self.live.values().flat_map(|(_, committee)| committee.members());
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
        let (joining, leaving) = (came.clone(), left.clone());
        tokio::task::spawn_blocking(move || hand_over(&protection, &schedule, &store, &joining, &leaving)).await??;
        for pubkey in &came {
            tracing::info!(%pubkey, "a key is served");
        }
        for pubkey in &left {
            tracing::info!(%pubkey, "a key is no longer served");
        }
        self.parts.metrics.keys.set(i64::try_from(keys.len()).unwrap_or(i64::MAX));
        self.parts.ring.replace(keys);
        self.served = Some(now);
        Ok(())
    }

    fn served_key(&self, key_id: u64, assignment: &DutyAssignment) -> Option<(Pubkey, Arc<ServedKey>)> {
        let (pubkey, committee) = self.live.get(&key_id)?;
        let duty_key = self.duty_key(assignment)?;
        let unknown = |id: u32| ClientError::Setup(format!("server {id} has no endpoint on the chain"));
        let seats = committee.keys().threshold().indices().zip(committee.members()).map(|(index, member)| {
            let line = self
                .lines
                .get(&member.server_id)
                .map_or_else(|| Err(unknown(member.server_id)), |(_, line)| line.clone());
            Seat { index, server_id: member.server_id, client: line }
        });
        let seats = seats.collect();
        let committee = committee.clone();
        let assignment = assignment.number;
        Some((*pubkey, Arc::new(ServedKey { pubkey: *pubkey, key_id, assignment, duty_key, committee, seats })))
    }
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
            // The key's id is the first argument of every event of the registry that concerns one.
            StkrEvent::Key(_) => {
                match event.topics.get(1).and_then(|topic| u64::try_from(U256::from_be_bytes(topic.0)).ok()) {
                    Some(key_id) => drop(self.keys.insert(key_id)),
                    None => self.all = true,
                }
            }
            // A provider's duty key, a pool's provider: which keys that concerns only the contracts know.
            StkrEvent::Provider(_) | StkrEvent::Pool(_) | StkrEvent::Unknown => self.all = true,
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
