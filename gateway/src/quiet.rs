//! The quiet period: a gateway that starts signs nothing with a slot before it has seen that nobody else signs with its duty key.
//!
//! Two gateways with one duty key (a machine that was believed dead, a copied disk) each have a slashing protection of their
//! own, so both would let their duty key sign, and two conflicting requests are evidence against the provider. Servers know what
//! was signed for a key; whoever else signs moves their watermarks.
//!
//! ```text
//! key appears --+-- the chain assigned it while this gateway watched --------------------------------> signs
//!               |     (servers refuse whoever asked before)
//!               +-- else: waits --+-- its last vote is not old, n-t+1 servers know of nothing beyond it --> signs
//!                                 +-- n-t+1 servers were silent for the whole period ------------------> signs
//!                                 +-- n-t+1 servers were asked to sign meanwhile ----------------------> stopped
//! ```
//!
//! n-t servers may be down or lie: so many can neither stop a key nor hide a signature of t. What is not seen: two gateways
//! that start within one period of each other, for both are quiet then; and a second one that signs nothing.
//!
//! [`Quiet`] is what requests look at, [`Watchman`] asks the servers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use stkr_core::Threshold;
use stkr_duties::ForkSchedule;
use stkr_node::client::ServerClient;
use stkr_node::shutdown::Shutdown;
use stkr_protection::Pubkey;
use stkr_protocol::api::{MAX_BATCH, Watermark, WatermarksReply};
use tokio::sync::Notify;

use crate::clock;
use crate::keys::{KeyRing, ServedKey};
use crate::metrics::GatewayMetrics;
use crate::store::Store;

/// Pause between two rounds of questions while keys hope to be cleared at once, and at least.
const SHORT_PAUSE: Duration = Duration::from_secs(1);

/// Why a key signs nothing with a slot now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuietError {
    /// The period is not over.
    #[error(
        "this gateway has started or got the key back, and signs nothing for it until it has seen {slots} more slots in which \
         nobody else signed with its duty key"
    )]
    Waits {
        /// Slots left, at least.
        slots: u64,
        /// The same in seconds.
        seconds: u64,
    },
    /// Somebody else signs.
    #[error(
        "another gateway signs for this key with the same duty key: servers {} were asked to sign since this one started, and not by it",
        list(.servers)
    )]
    Stopped {
        /// Servers whose watermarks moved.
        servers: BTreeSet<u32>,
    },
}

fn list(servers: &BTreeSet<u32>) -> String {
    let servers: Vec<String> = servers.iter().map(u32::to_string).collect();
    servers.join(", ")
}

/// A key that appears.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// The key.
    pub pubkey: Pubkey,
    /// Number of its assignment.
    pub number: u64,
    /// Servers that must agree: n-t+1.
    pub needed: usize,
    /// The highest watermark of our own history, before anything was closed for this start.
    pub own: Watermark,
    /// Whether that is what this gateway signed under this assignment a moment ago.
    pub recent: bool,
}

/// So many members of a committee that some of every t are among them, and liars and machines that are down are not all of them.
#[must_use]
pub fn quorum(threshold: Threshold) -> usize {
    usize::from(threshold.n().saturating_sub(threshold.t())).saturating_add(1)
}

#[derive(Clone, Debug)]
enum Standing {
    Clear,
    Waits(Wait),
    Stopped(BTreeSet<u32>),
}

#[derive(Clone, Debug)]
struct Wait {
    key: Newcomer,
    /// First slot of the period.
    since: u64,
    heard: BTreeMap<u32, Heard>,
}

/// What one server said.
#[derive(Clone, Copy, Debug)]
struct Heard {
    /// What it knew first, and when that was.
    first: (Watermark, u64),
    /// Last round in which it answered, and what it knew then.
    last: (Watermark, u64),
    /// Whether it was asked to sign since its first answer, and not by us.
    moved: bool,
}

/// What the servers' answers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Silent,
    Somebody,
    Undecided,
}

/// Whether `mark` says of anything that `known` does not.
fn is_beyond(mark: &Watermark, known: &Watermark) -> bool {
    mark.slot > known.slot || mark.target_epoch > known.target_epoch
}

impl Wait {
    fn hear(&mut self, server_id: u32, mark: Watermark, round: u64, slot: u64) {
        let own = self.key.own;
        let heard =
            self.heard.entry(server_id).or_insert(Heard { first: (mark, slot), last: (mark, round), moved: false });
        heard.last = (mark, round);
        // What was under way when an earlier life of ours ended may arrive late; our history has it.
        let known = Watermark {
            slot: heard.first.0.slot.max(own.slot),
            target_epoch: heard.first.0.target_epoch.max(own.target_epoch),
            source_epoch: None,
        };
        heard.moved |= is_beyond(&mark, &known);
    }

    fn judge(&self, round: u64, slot: u64, length: u64) -> Verdict {
        let count = |holds: &dyn Fn(&Heard) -> bool| self.heard.values().filter(|heard| holds(heard)).count();
        let now = |heard: &Heard| heard.last.1 == round;
        if count(&|heard| heard.moved) >= self.key.needed {
            return Verdict::Somebody;
        }
        let silent = count(&|heard| now(heard) && !heard.moved && heard.first.1.saturating_add(length) <= slot);
        let nothing_new = count(&|heard| now(heard) && !is_beyond(&heard.last.0, &self.key.own));
        if silent >= self.key.needed || (self.key.recent && nothing_new >= self.key.needed) {
            return Verdict::Silent;
        }
        Verdict::Undecided
    }
}

/// Which keys may sign. Cheap to clone. A key that was never admitted waits.
#[derive(Clone, Debug)]
pub struct Quiet {
    keys: Arc<Mutex<BTreeMap<Pubkey, Standing>>>,
    wake: Arc<Notify>,
    /// Slots of the period.
    length: u64,
    schedule: Arc<ForkSchedule>,
}

impl Quiet {
    /// A period of so many epochs; none with 0.
    #[must_use]
    pub fn new(epochs: u64, schedule: Arc<ForkSchedule>) -> Self {
        let length = epochs.saturating_mul(schedule.preset().slots_per_epoch());
        Self { keys: Arc::default(), wake: Arc::default(), length, schedule }
    }

    /// Whether a duty with a slot may be signed.
    ///
    /// # Errors
    /// [`QuietError`].
    pub fn check(&self, pubkey: &Pubkey) -> Result<(), QuietError> {
        match self.lock().get(pubkey) {
            Some(Standing::Clear) => Ok(()),
            Some(Standing::Stopped(servers)) => Err(QuietError::Stopped { servers: servers.clone() }),
            Some(Standing::Waits(wait)) => Err(self.left(wait.since)),
            None => Err(self.left(self.slot())),
        }
    }

    fn left(&self, since: u64) -> QuietError {
        let slots = since.saturating_add(self.length).saturating_sub(self.slot()).max(1);
        QuietError::Waits { slots, seconds: slots.saturating_mul(self.schedule.seconds_per_slot()) }
    }

    /// Lets a key sign.
    pub fn clear(&self, pubkey: Pubkey) {
        self.lock().insert(pubkey, Standing::Clear);
    }

    /// Makes a key wait; one that was stopped stays so.
    pub fn wait(&self, key: Newcomer) {
        let since = self.slot();
        let mut keys = self.lock();
        if !matches!(keys.get(&key.pubkey), Some(Standing::Stopped(_) | Standing::Waits(_))) {
            keys.insert(key.pubkey, Standing::Waits(Wait { key, since, heard: BTreeMap::new() }));
        }
    }

    /// Forgets a key that left; one that was stopped stays so until the gateway starts again.
    pub fn forget(&self, pubkey: &Pubkey) {
        let mut keys = self.lock();
        if !matches!(keys.get(pubkey), Some(Standing::Stopped(_))) {
            keys.remove(pubkey);
        }
    }

    /// Whether the key signs now.
    #[must_use]
    pub fn is_clear(&self, pubkey: &Pubkey) -> bool {
        matches!(self.lock().get(pubkey), Some(Standing::Clear))
    }

    /// Whether the key was admitted, with whatever result.
    #[must_use]
    pub fn knows(&self, pubkey: &Pubkey) -> bool {
        self.lock().contains_key(pubkey)
    }

    /// Whether there is a period at all.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.length > 0
    }

    /// Whether a vote for `target` is so new that its signer was silent for less than the period.
    #[must_use]
    pub fn is_recent(&self, target: Option<u64>) -> bool {
        let now = clock::now(&self.schedule).epoch;
        let epochs = self.length / self.schedule.preset().slots_per_epoch();
        target.is_some_and(|target| target.saturating_add(epochs) >= now)
    }

    /// Keys that are stopped.
    #[must_use]
    pub fn stopped(&self) -> Vec<Pubkey> {
        let keys = self.lock();
        let stopped = keys.iter().filter(|(_, standing)| matches!(standing, Standing::Stopped(_)));
        stopped.map(|(pubkey, _)| *pubkey).collect()
    }

    /// Makes the watchman ask now.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Keys that wait, and whether any of them hopes to be cleared at once.
    fn waiting(&self) -> (Vec<Pubkey>, bool) {
        let keys = self.lock();
        let waits = keys.iter().filter_map(|(pubkey, standing)| match standing {
            Standing::Waits(wait) => Some((*pubkey, wait.key.recent)),
            _ => None,
        });
        let (waiting, recent): (Vec<Pubkey>, Vec<bool>) = waits.unzip();
        (waiting, recent.contains(&true))
    }

    /// Listens to the committee whose turn it is, and no longer to members that it does not have: what an old committee knows says
    /// nothing of what the new one signs. New members have to be silent for a whole period, too.
    fn listen_to(&self, key: &ServedKey) {
        let Some(seated) = key.now(&self.schedule) else { return };
        if let Some(Standing::Waits(wait)) = self.lock().get_mut(&key.pubkey) {
            let members = seated.committee.members();
            wait.heard.retain(|id, _| members.iter().any(|member| member.server_id == *id));
            wait.key.needed = quorum(seated.committee.keys().threshold());
        }
    }

    /// Takes in what a server said of keys that wait. Keys that may sign now are returned and still wait; keys for which
    /// somebody else signs are stopped.
    fn hear(&self, server_id: u32, round: u64, said: Vec<(Pubkey, Watermark)>) -> Vec<Newcomer> {
        let slot = self.slot();
        let mut keys = self.lock();
        let mut silent = Vec::new();
        for (pubkey, mark) in said {
            let Some(Standing::Waits(wait)) = keys.get_mut(&pubkey) else { continue };
            wait.hear(server_id, mark, round, slot);
            match wait.judge(round, slot, self.length) {
                Verdict::Undecided => {}
                Verdict::Silent => silent.push(wait.key.clone()),
                Verdict::Somebody => {
                    let moved = wait.heard.iter().filter(|(_, heard)| heard.moved);
                    let servers: BTreeSet<u32> = moved.map(|(id, _)| *id).collect();
                    let error = QuietError::Stopped { servers: servers.clone() };
                    tracing::error!(%pubkey, reason = %error, what_to_do = WHAT_TO_DO, "the key is stopped");
                    keys.insert(pubkey, Standing::Stopped(servers));
                }
            }
        }
        silent
    }

    fn slot(&self) -> u64 {
        clock::now(&self.schedule).slot
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Pubkey, Standing>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a person does about a key that is stopped.
pub const WHAT_TO_DO: &str = "find the other gateway with this duty key and stop it, or give this one the duty key of another provider; then restart this one";

/// Asks the servers of keys that wait how far they have signed.
#[derive(Debug)]
pub struct Watchman {
    /// Which keys wait.
    pub quiet: Quiet,
    /// Where their servers are found.
    pub ring: KeyRing,
    /// Remembers which keys were cleared.
    pub store: Store,
    /// Metrics.
    pub metrics: GatewayMetrics,
}

impl Watchman {
    /// Asks until the shutdown: once a slot, and at once when a key appears.
    pub async fn run(self, shutdown: Shutdown) {
        let slot = Duration::from_secs(self.quiet.schedule.seconds_per_slot());
        let mut round = 0_u64;
        loop {
            let (waiting, hopeful) = self.quiet.waiting();
            if !waiting.is_empty() {
                round = round.saturating_add(1);
                tokio::select! {
                    _ = shutdown.wait() => return,
                    () = self.ask(&waiting, round) => {}
                }
            }
            self.count();
            let pause = if waiting.is_empty() {
                Duration::MAX
            } else if hopeful {
                SHORT_PAUSE
            } else {
                slot
            };
            tokio::select! {
                _ = shutdown.wait() => return,
                () = self.quiet.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn count(&self) {
        // Before the first look at the chain there is none, and the two numbers are of nobody's keys.
        if self.ring.keys().is_none() {
            return;
        }
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.quiet_keys.set(number(self.quiet.waiting().0.len()));
        self.metrics.stopped_keys.set(number(self.quiet.stopped().len()));
    }

    /// One question to every server; each answer counts as it comes, so that a dead server holds nothing up.
    async fn ask(&self, waiting: &[Pubkey], round: u64) {
        let Some(keys) = self.ring.keys() else { return };
        let served: Vec<Arc<ServedKey>> = waiting.iter().filter_map(|pubkey| keys.get(pubkey).cloned()).collect();
        served.iter().for_each(|key| self.quiet.listen_to(key));
        let mut asked: FuturesUnordered<_> = questions(&served, &self.quiet.schedule)
            .into_values()
            .map(|(client, keys)| async move { (client.peer().server_id, said_by(&client, &keys).await) })
            .collect();
        while let Some((server_id, said)) = asked.next().await {
            for key in self.quiet.hear(server_id, round, said) {
                self.let_sign(key).await;
            }
        }
    }

    /// Remembered first: a start that is cut off before must not look as if the key had signed.
    async fn let_sign(&self, key: Newcomer) {
        let store = self.store.clone();
        let (pubkey, number) = (key.pubkey, key.number);
        match tokio::task::spawn_blocking(move || store.set_cleared(&[(pubkey, number)])).await {
            Ok(Ok(())) => {
                tracing::info!(%pubkey, "nobody else signs: the quiet period of the key is over");
                self.quiet.clear(pubkey);
            }
            Ok(Err(error)) => tracing::error!(%pubkey, error = %error, "a key goes on waiting"),
            Err(error) => tracing::error!(%pubkey, error = %error, "a key goes on waiting"),
        }
    }
}

type Questions = BTreeMap<u32, (ServerClient, Vec<(Arc<ServedKey>, u8)>)>;

/// What each server is asked about, and as which member.
fn questions(served: &[Arc<ServedKey>], schedule: &ForkSchedule) -> Questions {
    let mut questions = Questions::new();
    for key in served {
        for seat in key.now(schedule).into_iter().flat_map(|it| &it.seats) {
            let Ok(line) = &seat.client else { continue };
            let (_, keys) = questions.entry(seat.server_id).or_insert_with(|| (line.client().clone(), Vec::new()));
            keys.push((key.clone(), seat.index.get()));
        }
    }
    questions
}

/// What counts of a server's answers.
async fn said_by(client: &ServerClient, keys: &[(Arc<ServedKey>, u8)]) -> Vec<(Pubkey, Watermark)> {
    let mut said = Vec::new();
    for keys in keys.chunks(MAX_BATCH) {
        let ids: Vec<u64> = keys.iter().map(|(key, _)| key.key_id).collect();
        let replies = match client.watermarks(&ids).await {
            Ok(replies) => replies,
            Err(error) => {
                tracing::debug!(server_id = client.peer().server_id, error = %error, "a server does not say how far it signed");
                return said;
            }
        };
        let counted = keys
            .iter()
            .zip(replies)
            .filter_map(|((key, index), reply)| Some((key.pubkey, counted(&reply, &key.pubkey, *index)?)));
        said.extend(counted);
    }
    said
}

/// What counts of a reply: it is about this key and seat, and the server vouches for its history. One that has lost it would
/// seem to be silent.
fn counted(reply: &WatermarksReply, pubkey: &Pubkey, index: u8) -> Option<Watermark> {
    let WatermarksReply::Known(marks) = reply else { return None };
    let is_it = marks.pubkey == pubkey.0 && marks.index.get() == index;
    (is_it && marks.may_sign).then_some(marks.high)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;
    use stkr_protocol::api::Watermarks;
    use stkr_protocol::ceremony::MemberId;
    use stkr_protocol::collection::Committee;
    use stkr_protocol::handover::{Term, View};
    use stkr_protocol::{ProtocolDomain, SignerKey};

    use super::*;
    use crate::keys::Seated;

    const KEY: Pubkey = Pubkey::repeat_byte(1);
    const LENGTH: u64 = 64;

    fn mark(target: u64) -> Watermark {
        Watermark { slot: None, source_epoch: Some(target.saturating_sub(1)), target_epoch: Some(target) }
    }

    /// A 3-of-4 key: two servers must agree.
    fn wait(own: u64, recent: bool) -> Wait {
        let key = Newcomer { pubkey: KEY, number: 1, needed: 2, own: mark(own), recent };
        Wait { key, since: 1_000, heard: BTreeMap::new() }
    }

    fn hear(wait: &mut Wait, round: u64, slot: u64, marks: &[(u32, u64)]) -> Verdict {
        for (server, target) in marks {
            wait.hear(*server, mark(*target), round, slot);
        }
        wait.judge(round, slot, LENGTH)
    }

    #[test]
    fn silence_of_too_few_servers_or_for_too_short_is_no_silence() {
        let mut key = wait(10, false);
        assert_eq!(hear(&mut key, 1, 1_000, &[(1, 30), (2, 30)]), Verdict::Undecided);
        assert_eq!(hear(&mut key, 2, 1_063, &[(1, 30), (2, 30)]), Verdict::Undecided, "too short");
        assert_eq!(hear(&mut key, 3, 1_064, &[(1, 30)]), Verdict::Undecided, "too few");
        // One that is heard for the first time at the end was not seen to be silent.
        assert_eq!(hear(&mut key, 4, 1_070, &[(1, 30), (3, 30)]), Verdict::Undecided);
        assert_eq!(hear(&mut key, 5, 1_070, &[(1, 30), (2, 30)]), Verdict::Silent);
    }

    #[test]
    fn watermarks_that_move_beyond_our_own_stop_the_key_and_one_liar_does_not() {
        let mut key = wait(10, false);
        assert_eq!(hear(&mut key, 1, 1_000, &[(1, 9), (2, 9), (3, 9), (4, 9)]), Verdict::Undecided);
        // What an earlier life of ours had under way.
        assert_eq!(hear(&mut key, 2, 1_010, &[(1, 10), (2, 10), (3, 10), (4, 10)]), Verdict::Undecided);
        assert_eq!(hear(&mut key, 3, 1_020, &[(1, 99)]), Verdict::Undecided);
        assert_eq!(hear(&mut key.clone(), 4, 1_070, &[(1, 99), (2, 10), (3, 10)]), Verdict::Silent, "a liar");
        assert_eq!(hear(&mut key, 4, 1_030, &[(2, 11)]), Verdict::Somebody);
        let mut blocks = wait(10, false);
        hear(&mut blocks, 1, 1_000, &[(1, 9), (2, 9)]);
        for server in [1, 2] {
            blocks.hear(server, Watermark { slot: Some(1_010), ..mark(9) }, 2, 1_010);
        }
        assert_eq!(blocks.judge(2, 1_010, LENGTH), Verdict::Somebody);
    }

    #[test]
    fn a_server_that_has_lost_its_history_or_speaks_of_another_key_says_nothing() {
        let marks = Watermarks {
            key_id: 1,
            pubkey: KEY.0,
            index: stkr_core::ShareIndex::new(2).unwrap(),
            may_sign: true,
            reason: None,
            low: Watermark::default(),
            high: mark(7),
            assignment: None,
        };
        let known = |marks: &Watermarks| WatermarksReply::Known(marks.clone());
        assert_eq!(counted(&known(&marks), &KEY, 2), Some(mark(7)));
        assert_eq!(counted(&known(&marks), &KEY, 3), None);
        assert_eq!(counted(&known(&marks), &Pubkey::repeat_byte(2), 2), None);
        assert_eq!(counted(&known(&Watermarks { may_sign: false, ..marks }), &KEY, 2), None);
    }

    #[test]
    fn a_prompt_restart_waits_for_nothing_if_servers_know_of_nothing_beyond_our_own() {
        let mut key = wait(10, true);
        assert_eq!(hear(&mut key, 1, 1_000, &[(1, 10)]), Verdict::Undecided, "one may have missed what three signed");
        assert_eq!(hear(&mut key, 1, 1_000, &[(4, 11)]), Verdict::Undecided);
        assert_eq!(hear(&mut key, 1, 1_000, &[(2, 9)]), Verdict::Silent);
        let mut old = wait(10, false);
        assert_eq!(hear(&mut old, 1, 1_000, &[(1, 10), (2, 9), (3, 10), (4, 10)]), Verdict::Undecided);
        let mut passed = wait(10, true);
        assert_eq!(hear(&mut passed, 1, 1_000, &[(1, 11), (2, 11), (3, 11), (4, 10)]), Verdict::Undecided);
    }

    /// A key of servers 1 to 4 that went to servers 5, 2, 3 and 4 at genesis.
    fn handed_over(schedule: &ForkSchedule) -> ServedKey {
        let dealt = stkr_core::testing::TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [1; 32]);
        let domain = ProtocolDomain { chain_id: 1, key_registry: Address::repeat_byte(1) };
        let seated = |epoch, handover, servers: [u32; 4]| {
            let members = servers.map(|server_id| MemberId { server_id, signer: Address::ZERO }).to_vec();
            let committee = Committee::new(domain, epoch, dealt.keys.clone(), members).unwrap();
            Seated { committee, handover, seats: Vec::new() }
        };
        let handover = schedule.genesis_time();
        let term = |committee_epoch, handover| Term { committee_epoch, attempt: 0, handover };
        ServedKey {
            pubkey: KEY,
            key_id: 1,
            assignment: 1,
            duty_key: Arc::new(SignerKey::random().unwrap()),
            view: View::new(0, u64::MAX, vec![term(0, 0), term(1, handover)], None).unwrap(),
            committees: vec![seated(0, 0, [1, 2, 3, 4]), seated(1, handover, [5, 2, 3, 4])],
        }
    }

    #[test]
    fn a_member_that_the_key_has_left_behind_is_no_witness_any_more() {
        let quiet = Quiet::new(2, Arc::new(ForkSchedule::mainnet()));
        quiet.wait(Newcomer { pubkey: KEY, number: 1, needed: 2, own: Watermark::default(), recent: false });
        let say = |server, round, target| assert!(quiet.hear(server, round, vec![(KEY, mark(target))]).is_empty());
        for server in [1, 2] {
            say(server, 1, 5);
        }
        // A liar of the old committee, and one of the new: either may have n - t of them, and both together stop nothing.
        say(1, 2, 6);
        quiet.listen_to(&handed_over(&quiet.schedule));
        say(2, 3, 6);
        assert!(matches!(quiet.check(&KEY), Err(QuietError::Waits { .. })), "{:?}", quiet.check(&KEY));
        say(5, 3, 5);
        say(5, 4, 6);
        assert!(matches!(quiet.check(&KEY), Err(QuietError::Stopped { .. })), "two of the committee that signs now");
    }

    #[test]
    fn a_key_nobody_admitted_waits_and_a_stopped_one_stays_stopped() {
        let quiet = Quiet::new(2, Arc::new(ForkSchedule::mainnet()));
        assert!(matches!(quiet.check(&KEY), Err(QuietError::Waits { slots: 64, seconds: 768 })));
        let key = Newcomer { pubkey: KEY, number: 1, needed: 2, own: Watermark::default(), recent: false };
        quiet.wait(key.clone());
        for server in [1, 2] {
            assert!(quiet.hear(server, 1, vec![(KEY, mark(5))]).is_empty());
        }
        for server in [1, 2] {
            assert!(quiet.hear(server, 2, vec![(KEY, mark(6))]).is_empty());
        }
        let error = quiet.check(&KEY).unwrap_err();
        assert!(error.to_string().contains("servers 1, 2 were asked to sign"), "{error}");
        quiet.forget(&KEY);
        quiet.wait(key);
        assert_eq!(quiet.check(&KEY), Err(error));
        assert_eq!(quiet.stopped(), [KEY]);
        let other = Pubkey::repeat_byte(2);
        quiet.clear(other);
        assert_eq!(quiet.check(&other), Ok(()));
        quiet.forget(&other);
        assert!(quiet.check(&other).is_err());
    }
}
