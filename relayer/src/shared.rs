//! What the engine tells and the HTTP side reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use stkr_chain::intents::Intents;
use stkr_node::metrics::{LateGauge, Metrics};
use stkr_protocol::evidence::Fault;
use stkr_protocol::sign::Change;

use crate::cases::Stage;
use crate::desk::Desk;
use crate::offline;
use crate::plan::Clock;
use crate::status::{KeyStatus, PoolStatus, RoundStatus, Status};
use crate::store::Store;

/// Without a successful look at the chain for this long, the relayer is not healthy.
const STALE: Duration = Duration::from_secs(60);

/// The relayer's own metrics. All but the failures tell of the chain or the database, and have no sample before a pass has looked.
#[derive(Clone, Debug, Default)]
struct Gauges {
    head: LateGauge,
    finalized: LateGauge,
    problems: LateGauge,
    waited_for: LateGauge,
    unreachable: LateGauge,
    intents: Family<[(String, String); 1], Gauge>,
    failures: Counter,
    evidence: Family<[(String, String); 2], Gauge>,
    charged: Family<[(String, String); 1], Gauge>,
    challenges: Family<[(String, String); 1], Gauge>,
    locked_out: LateGauge,
    without_spare: LateGauge,
    reshares: Family<[(String, String); 1], Gauge>,
    stalled_reshares: LateGauge,
    reshare_evidence: LateGauge,
    gas: LateGauge,
}

/// What is wrong with servers and keys, for alerts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Challenges that are open, by server.
    pub challenges: BTreeMap<u32, usize>,
    /// Servers that are locked out.
    pub locked_out: usize,
    /// Live keys with no more healthy shares than their threshold.
    pub without_spare: usize,
    /// Faults in reshares of which evidence is kept; nothing while the database cannot be read.
    pub reshare_evidence: Option<u64>,
    /// Gwei in the gas account; nothing while that is not known.
    pub gas_gwei: Option<u64>,
}

impl Gauges {
    fn register(metrics: &Metrics) -> Self {
        let it = Self::default();
        metrics.register("relayer_head_block", "Newest block taken in", it.head.clone());
        metrics.register("relayer_finalized_block", "Newest finalised block", it.finalized.clone());
        metrics.register("relayer_problems", "Things a person should look at, as in the status", it.problems.clone());
        metrics.register(
            "relayer_waited_for",
            "Members that ceremonies, reshares and signatures wait for",
            it.waited_for.clone(),
        );
        metrics.register(
            "relayer_unreachable_servers",
            "Servers that did not answer last time",
            it.unreachable.clone(),
        );
        metrics.register("relayer_intents", "Recent transactions by state", it.intents.clone());
        metrics.register("relayer_chain_failures", "Looks at the chain that failed", it.failures.clone());
        metrics.register(
            "relayer_evidence",
            "Faults that this relayer has evidence of, by fault and stage",
            it.evidence.clone(),
        );
        metrics.register(
            "relayer_charged_faults",
            "Faults that the Court has charged, whoever reported them, by fault",
            it.charged.clone(),
        );
        metrics.register(
            "relayer_open_challenges",
            "Challenges on the chain that wait for an answer or for their proof, by server",
            it.challenges.clone(),
        );
        metrics.register("relayer_locked_out_servers", "Servers that are locked out", it.locked_out.clone());
        metrics.register(
            "relayer_keys_without_spare_share",
            "Live keys with no more healthy shares than their threshold",
            it.without_spare.clone(),
        );
        metrics.register("relayer_reshares", "Reshares under way, by state", it.reshares.clone());
        metrics.register(
            "relayer_stalled_reshares",
            "Reshares that somebody holds up, as in the status",
            it.stalled_reshares.clone(),
        );
        metrics.register(
            "relayer_reshare_evidence",
            "Faults in reshares that this relayer keeps the evidence of; no Court takes it yet",
            it.reshare_evidence.clone(),
        );
        metrics.register("relayer_gas_gwei", "Gwei in the gas account", it.gas.clone());
        it
    }
}

/// Everything that the status shows only the end of.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    /// All pools, in order of their ids.
    pub pools: Vec<PoolStatus>,
    /// All keys, in order of their ids.
    pub keys: Vec<KeyStatus>,
    /// Changes of credentials that are ordered, final and not shown.
    pub changes: Vec<WaitingChange>,
}

/// A change of credentials that waits for its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingChange {
    /// Withdrawal key.
    pub key_id: u64,
    /// The committee whose turn it is.
    pub committee_epoch: u32,
    /// What it is to sign.
    pub change: Change,
    /// Members without network that have not signed it, by server id.
    pub waiting_for: Vec<u32>,
    /// Who is challenged to sign it, and the last block for that.
    pub challenged: BTreeMap<u32, u64>,
}

/// What `server` is to sign of `waiting` with withdrawal key `key_id`, for which committee: what it is challenged for first, by the last
/// block. Nothing if none of them waits for it.
///
/// What others are challenged for, or what it has signed, must not fill its file: its own would not be in there until its week is over.
fn changes_for(waiting: &[WaitingChange], server: u32, key_id: u64) -> Option<(u32, Vec<Change>)> {
    let its = waiting.iter().filter(|it| it.key_id == key_id && it.waiting_for.contains(&server));
    let mut its: Vec<&WaitingChange> = its.collect();
    its.sort_by_key(|it| it.challenged.get(&server).copied().unwrap_or(u64::MAX));
    Some((its.first()?.committee_epoch, its.iter().map(|it| it.change).collect()))
}

/// What a file for an offline server is to be about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Changes of credentials that wait for a signature of the key's committee.
    Changes {
        /// The committee whose turn it is.
        committee_epoch: u32,
        /// Those that are ordered.
        changes: Vec<Change>,
    },
    /// A reshare that waits for this server.
    Reshare,
    /// Nothing that this relayer knows of: whatever the key is in.
    Nothing,
}

#[derive(Debug, Default)]
struct Published {
    status: Arc<Status>,
    lists: Arc<Lists>,
    at: Option<Instant>,
}

/// The newest picture.
#[derive(Debug)]
pub struct Shared {
    newest: Mutex<Published>,
    gauges: Gauges,
    /// Servers that have a number of open challenges in the metrics: it must go back to 0, and a series that vanishes for a moment
    /// would make an alert start over.
    challenged: Mutex<BTreeSet<u32>>,
    /// Metrics registry.
    pub metrics: Arc<Metrics>,
    /// Bulletin and evidence.
    pub store: Store,
    /// Transactions.
    pub intents: Option<Intents>,
    /// Where evidence is handed in.
    pub desk: Option<Desk>,
    /// Where files of offline servers are fetched and handed in.
    pub counter: Option<offline::Counter>,
}

impl Shared {
    /// Nothing seen yet. Without `intents` there are no transactions to show, without a `desk` and a `counter` nothing can be handed in.
    #[must_use]
    pub fn new(
        store: Store,
        intents: Option<Intents>,
        desk: Option<Desk>,
        counter: Option<offline::Counter>,
    ) -> Arc<Self> {
        let metrics = Arc::new(Metrics::new("stkr-relayer", env!("CARGO_PKG_VERSION")));
        let gauges = Gauges::register(&metrics);
        let challenged = Mutex::default();
        Arc::new(Self { newest: Mutex::default(), gauges, challenged, metrics, store, intents, desk, counter })
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest picture.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        self.lock().status.clone()
    }

    /// All pools and keys of the newest picture.
    #[must_use]
    pub fn lists(&self) -> Arc<Lists> {
        self.lock().lists.clone()
    }

    /// What a file for an offline server is to be about, as far as this relayer sees: first what waits for that server.
    #[must_use]
    pub fn wanted_of(&self, server: u32, key_id: u64) -> Wanted {
        let (status, lists) = (self.status(), self.lists());
        let (key, id) = (key_id.to_string(), server.to_string());
        if let Some((committee_epoch, changes)) = changes_for(&lists.changes, server, key_id) {
            return Wanted::Changes { committee_epoch, changes };
        }
        let waits = |round: &RoundStatus| round.waiting_for.iter().any(|waited| waited.server_id == id);
        let deals = status.reshares.iter().any(|it| it.key_id == key && it.rounds.iter().any(waits));
        if deals { Wanted::Reshare } else { Wanted::Nothing }
    }

    /// Whether the chain was read lately.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.lock().at.is_some_and(|at| at.elapsed() < STALE)
    }

    /// A pass succeeded.
    pub fn publish(&self, status: Status, lists: Lists, clock: &Clock) {
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let block = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let it = &self.gauges;
        it.head.set(block(clock.head));
        it.finalized.set(block(clock.finalized));
        it.problems.set(gauge(status.problems.len()));
        let ceremonies = status.ceremonies.iter().map(|ceremony| ceremony.waiting_for.len());
        let reshares = status.reshares.iter().map(|reshare| reshare.waiting_for.len());
        let collections = status.collections.iter().filter(|collection| collection.state == "waiting");
        let waited = ceremonies.chain(reshares).chain(collections.map(|collection| collection.waiting_for.len())).sum();
        it.waited_for.set(gauge(waited));
        it.unreachable.set(gauge(status.servers.iter().filter(|server| server.reachable == Some(false)).count()));
        for state in ["waiting", "pending", "included", "confirmed", "superseded", "failed"] {
            let count = status.intents.iter().filter(|intent| intent.state == state).count();
            it.intents.get_or_create(&[("state".to_owned(), state.to_owned())]).set(gauge(count));
        }
        for state in ["requested", "waiting", "complete", "failed", "expired"] {
            let count = status.reshares.iter().filter(|reshare| reshare.state == state).count();
            it.reshares.get_or_create(&[("state".to_owned(), state.to_owned())]).set(gauge(count));
        }
        it.stalled_reshares.set(gauge(status.reshares.iter().filter(|reshare| reshare.stalled).count()));
        *self.lock() = Published { status: Arc::new(status), lists: Arc::new(lists), at: Some(Instant::now()) };
    }

    /// How many faults of each kind are at each stage, and how many the Court has charged.
    pub fn publish_faults(&self, stages: &BTreeMap<(Fault, Stage), usize>, charged: &BTreeMap<Fault, usize>) {
        let gauge = |number: &usize| i64::try_from(*number).unwrap_or(i64::MAX);
        let by = |fault: &Fault| ("fault".to_owned(), fault.name().to_owned());
        for ((fault, stage), count) in stages {
            let labels = [by(fault), ("stage".to_owned(), stage.name().to_owned())];
            self.gauges.evidence.get_or_create(&labels).set(gauge(count));
        }
        for (fault, count) in charged {
            self.gauges.charged.get_or_create(&[by(fault)]).set(gauge(count));
        }
    }

    /// What is wrong with servers and keys.
    pub fn publish_standing(&self, standing: &Standing) {
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let mut challenged = self.challenged.lock().unwrap_or_else(PoisonError::into_inner);
        challenged.extend(standing.challenges.keys());
        for server in challenged.iter() {
            let label = [("server".to_owned(), server.to_string())];
            let count = standing.challenges.get(server).copied().unwrap_or_default();
            self.gauges.challenges.get_or_create(&label).set(gauge(count));
        }
        self.gauges.locked_out.set(gauge(standing.locked_out));
        self.gauges.without_spare.set(gauge(standing.without_spare));
        if let Some(count) = standing.reshare_evidence {
            self.gauges.reshare_evidence.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        if let Some(gwei) = standing.gas_gwei {
            self.gauges.gas.set(i64::try_from(gwei).unwrap_or(i64::MAX));
        }
    }

    /// A pass failed: the last picture stays, marked as old.
    pub fn failed(&self, reason: String) {
        self.gauges.failures.inc();
        let mut held = self.lock();
        let mut status = Status::clone(&held.status);
        status.chain.following = false;
        status.problems.retain(|problem| !problem.starts_with(CHAIN_PROBLEM));
        status.problems.insert(0, format!("{CHAIN_PROBLEM}: {reason}"));
        self.gauges.problems.set(i64::try_from(status.problems.len()).unwrap_or(i64::MAX));
        held.status = Arc::new(status);
    }
}

const CHAIN_PROBLEM: &str = "the chain cannot be read";

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256};
    use stkr_protocol::offline::MAX_CHANGES;

    use super::*;

    const KEY: u64 = 7;
    const BUSY: u32 = 3;
    const HONEST: u32 = 5;

    fn change(validator_index: u64) -> Change {
        Change {
            validator_index,
            from_bls_pubkey: [1; 48],
            to_execution_address: Address::repeat_byte(2),
            genesis_fork_version: [0; 4],
            genesis_validators_root: B256::ZERO,
        }
    }

    fn waits(index: u64, waiting_for: &[u32], challenged: &[(u32, u64)]) -> WaitingChange {
        let challenged = challenged.iter().copied().collect();
        let waiting_for = waiting_for.to_vec();
        WaitingChange { key_id: KEY, committee_epoch: 2, change: change(index), waiting_for, challenged }
    }

    #[test]
    fn a_file_has_what_its_server_has_not_signed_and_first_what_it_is_challenged_for() {
        // As many questions to a silent member as a file holds, which the honest one has signed; then its own, the later one first.
        let mut waiting: Vec<WaitingChange> =
            (0..MAX_CHANGES as u64).map(|index| waits(index, &[BUSY], &[(BUSY, 100)])).collect();
        waiting.push(waits(20, &[BUSY, HONEST], &[(BUSY, 50)]));
        waiting.push(waits(21, &[HONEST], &[(HONEST, 300)]));
        waiting.push(waits(22, &[BUSY, HONEST], &[(BUSY, 400), (HONEST, 200)]));
        let indices = |server| {
            let (committee_epoch, changes) = changes_for(&waiting, server, KEY).unwrap();
            assert_eq!(committee_epoch, 2);
            changes.iter().map(|it| it.validator_index).collect::<Vec<_>>()
        };
        assert_eq!(indices(HONEST), [22, 21, 20]);
        assert_eq!(indices(BUSY)[..2], [20, 0], "by the last block");
        assert_eq!(changes_for(&waiting, 9, KEY), None, "nothing waits for it");
        assert_eq!(changes_for(&waiting, HONEST, KEY + 1), None, "another key has a ceremony, or nothing");
    }
}
