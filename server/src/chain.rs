//! What a server asks the chain, each time anew: nothing here comes from whoever called.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, Log, U256};
use alloy::providers::Provider as _;
use alloy::rpc::types::Filter;
use alloy::sol_types::SolEvent as _;
use stkr_chain::bindings::KeyRegistry;
use stkr_chain::endpoint::{BlockId, ask};
use stkr_chain::types::KeyState;
use stkr_chain::{ChainError, ChainReader, DutyAssignment, KeyCommittees, KeyInfo, LiveKey};
use stkr_core::Threshold;
use stkr_protocol::ProtocolDomain;
use stkr_protocol::ceremony::{Context, MemberId};
use stkr_protocol::collection::Committee;
use stkr_protocol::reshare::ReshareId;
use stkr_protocol::sign::{ChangeRequest, DepositRequest, Refusal, RefusalKind};

use crate::ceremony::Drawn;
use crate::change;
use crate::duty::DutyFacts;
use crate::serving::{Committees, Us};
use crate::signing::Facts;

/// Entries a cache may have. All of it can be read again, so a full one is simply emptied.
const CACHE_ENTRIES: usize = 1024;

/// Keys of which the committees are remembered; each has a few kilobytes.
const FOLLOWED_KEYS: usize = 16_384;

/// Blocks between two looks that are read one by one; after more of them everything counts as changed.
const MOST_BLOCKS: usize = 8;

/// Keys whose assignment may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// These.
    Keys(BTreeSet<u64>),
    /// Any.
    All,
}

impl Changed {
    /// What events of the deployment's contracts say. The key's id is the first argument of every event of the registry that
    /// concerns one; which keys a provider or a pool has only the contracts know.
    fn by<'a>(logs: impl Iterator<Item = &'a Log>, registry: Address) -> Self {
        let mut keys = BTreeSet::new();
        for log in logs {
            let id = log.topics().get(1).map(|topic| u64::try_from(U256::from_be_bytes(topic.0)));
            match id {
                Some(Ok(id)) if log.address == registry => keys.insert(id),
                _ => return Self::All,
            };
        }
        Self::Keys(keys)
    }
}

/// Why there is no ceremony to take part in.
#[derive(Debug, thiserror::Error)]
pub enum NoCeremony {
    /// The chain cannot be read now.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The key is in another state.
    #[error("key {key_id} is {state} on the chain; there is a ceremony only while it is Drawn")]
    NotDrawn {
        /// Key.
        key_id: u64,
        /// Its state.
        state: KeyState,
    },
    /// Another attempt runs.
    #[error("the chain is at attempt {running} of key {key_id}, not at {asked}")]
    OtherAttempt {
        /// Key.
        key_id: u64,
        /// Attempt on the chain.
        running: u16,
        /// Attempt in the request.
        asked: u16,
    },
    /// Too late.
    #[error("the ceremony of key {key_id} ended at unix time {deadline}")]
    Expired {
        /// Key.
        key_id: u64,
        /// Deadline.
        deadline: u64,
    },
    /// The chain names a committee that cannot be.
    #[error("the committee of key {key_id} cannot hold a ceremony: {reason}")]
    BadCommittee {
        /// Key.
        key_id: u64,
        /// Why.
        reason: String,
    },
}

/// Why there is no reshare to take part in.
#[derive(Debug, thiserror::Error)]
pub enum NoReshare {
    /// The chain cannot be read now.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// None is drawn, or another one.
    #[error("finalised blocks show {shown}, not {asked}")]
    Other {
        /// In the request.
        asked: ReshareId,
        /// What is drawn, in words.
        shown: String,
    },
    /// Too late.
    #[error("{id} could be finalised until unix time {deadline}")]
    Expired {
        /// Which one.
        id: ReshareId,
        /// Deadline.
        deadline: u64,
    },
}

/// Committees with the time (unix seconds) of the block at which the contracts' state said so.
#[derive(Debug)]
struct Known {
    read_at: u64,
    committees: Arc<KeyCommittees>,
}

impl Known {
    /// Whether it still holds at unix time `now` although an event that says otherwise may have been kept from this server, by endpoints
    /// that lie or whose index of logs lags. A committee that is drawn after the state was read takes over no earlier than a ceremony
    /// window later; whoever looks twice in that time sees the draw before.
    const fn is_fresh(&self, now: u64, window: u64) -> bool {
        now.saturating_sub(self.read_at) <= window / 2
    }
}

/// The committees of keys at the newest finalised block that was looked at.
#[derive(Debug, Default)]
struct Followed {
    /// The block, and the shortest ceremony window as it shows it.
    at: Option<(BlockId, u64)>,
    known: HashMap<u64, Known>,
    /// Keys of which the Resharing contract ever said anything.
    reshared: BTreeSet<u64>,
}

impl Followed {
    /// Goes on to `block`: what did not change is as it was, at a later time, but not for ever: events are not the state.
    fn advance(&mut self, (block, window): (BlockId, u64), changed: &[u64]) {
        if self.at.is_some_and(|(seen, _)| seen.number >= block.number) {
            return;
        }
        for key_id in changed {
            self.known.remove(key_id);
        }
        self.known.retain(|_, known| known.is_fresh(block.timestamp, window));
        for known in self.known.values_mut() {
            let committees = Arc::make_mut(&mut known.committees);
            (committees.block, committees.window) = (block, window);
        }
        self.reshared.extend(changed);
        self.at = Some((block, window));
    }

    /// Keeps what was read at `block`, unless a later one may have changed it since.
    fn keep(&mut self, block: &BlockId, committees: &Arc<KeyCommittees>) {
        if self.at.is_none_or(|(seen, _)| seen.hash != block.hash) {
            return;
        }
        // All of it can be read again.
        if self.known.len() >= FOLLOWED_KEYS {
            self.known.clear();
        }
        let known = Known { read_at: block.timestamp, committees: Arc::clone(committees) };
        self.known.insert(committees.key.id, known);
    }
}

/// The chain through this server's own endpoints.
#[derive(Debug)]
pub struct ChainView {
    reader: ChainReader,
    committees: Cache<(u64, u16, B256), Context>,
    keys: Cache<(u64, B256), LiveKey>,
    dealt: Cache<u64, Arc<Committee>>,
    followed: Mutex<Followed>,
    /// One look at a new finalised block at a time.
    following: tokio::sync::Mutex<()>,
}

impl ChainView {
    /// A view over a connected reader.
    pub fn new(reader: ChainReader) -> Self {
        Self {
            reader,
            committees: Cache::default(),
            keys: Cache::default(),
            dealt: Cache::default(),
            followed: Mutex::default(),
            following: tokio::sync::Mutex::default(),
        }
    }

    /// The reader.
    pub const fn reader(&self) -> &ChainReader {
        &self.reader
    }

    /// EIP-712 domain of all messages.
    pub fn domain(&self) -> ProtocolDomain {
        let deployment = self.reader.deployment();
        ProtocolDomain { chain_id: deployment.chain_id, key_registry: deployment.key_registry }
    }

    /// The ceremony that runs for `key_id`, if it is this `attempt`. `with_begun` also finds the block in which the attempt
    /// began, which costs a log query; without it that is `u64::MAX`.
    ///
    /// # Errors
    /// [`NoCeremony`].
    pub async fn ceremony(&self, key_id: u64, attempt: u16, with_begun: bool) -> Result<Drawn, NoCeremony> {
        let key = self.reader.key(key_id).await?;
        if key.state != KeyState::Drawn {
            return Err(NoCeremony::NotDrawn { key_id, state: key.state });
        }
        if key.attempt != attempt {
            return Err(NoCeremony::OtherAttempt { key_id, running: key.attempt, asked: attempt });
        }
        if self.now().await? > key.mark {
            return Err(NoCeremony::Expired { key_id, deadline: key.mark });
        }
        let context = match self.committees.get(&(key_id, attempt, key.commitment)) {
            Some(context) => context,
            None => self.read_committee(&key).await?,
        };
        let begun = if with_begun { self.begun(key_id, attempt).await? } else { u64::MAX };
        Ok(Drawn { context, committee: key.commitment, begun })
    }

    /// Time of the newest block: the clock that the contract's deadline is measured with.
    async fn now(&self) -> Result<u64, ChainError> {
        let mut last = ChainError::NotFound("no RPC endpoint has a newest block".to_owned());
        for endpoint in self.reader.endpoints() {
            match endpoint.block(BlockNumberOrTag::Latest).await {
                Ok(Some(block)) => return Ok(block.timestamp),
                Ok(None) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn read_committee(&self, key: &KeyInfo) -> Result<Context, NoCeremony> {
        let bad = |reason: String| NoCeremony::BadCommittee { key_id: key.id, reason };
        let committee = self.reader.committee(key.id).await?;
        if stkr_chain::reader::committee_hash(&committee.members) != key.commitment || committee.attempt != key.attempt
        {
            // A block came in between the two reads; the next call sees one state.
            return Err(ChainError::NotFound(format!("the ceremony of key {} just changed", key.id)).into());
        }
        let servers = committee.members.iter().map(|id| self.reader.server(*id));
        let servers = futures::future::try_join_all(servers).await?;
        let members = servers.iter().map(|server| MemberId { server_id: server.id, signer: server.signer }).collect();
        let threshold = Threshold::new(key.threshold, key.members).map_err(|error| bad(error.to_string()))?;
        let context = Context::new(self.domain(), key.id, key.attempt, threshold, members)
            .map_err(|error| bad(error.to_string()))?;
        self.committees.put((key.id, key.attempt, key.commitment), context.clone());
        Ok(context)
    }

    /// Block of the event with which this attempt began.
    async fn begun(&self, key_id: u64, attempt: u16) -> Result<u64, ChainError> {
        let deployment = self.reader.deployment();
        let filter = Filter::new()
            .address(deployment.key_registry)
            .event_signature(vec![
                KeyRegistry::CommitteeDrawn::SIGNATURE_HASH,
                KeyRegistry::CeremonyRestarted::SIGNATURE_HASH,
            ])
            .topic1(B256::from(U256::from(key_id)))
            .from_block(deployment.deployed_block);
        let mut last = ChainError::NotFound(format!("no event says when attempt {attempt} of key {key_id} began"));
        for endpoint in self.reader.endpoints() {
            let action = format!("looking for the draw of key {key_id} at {}", endpoint.name());
            match ask(action, endpoint.provider().get_logs(&filter)).await {
                Err(error) => last = error,
                Ok(logs) => {
                    let blocks = logs.iter().filter(|log| attempt_of(log) == Some(attempt));
                    // The earliest: a server that was not there then may have missed what its old database said.
                    if let Some(block) = blocks.filter_map(|log| log.block_number).min() {
                        return Ok(block);
                    }
                }
            }
        }
        Err(last)
    }

    /// Looks at the newest finalised block. If it is a new one: the keys whose committees may have changed.
    ///
    /// # Errors
    /// Chain; what is known stays what it is, at the time of the block before.
    pub async fn follow_finalised(&self) -> Result<Option<Vec<u64>>, ChainError> {
        let _turn = self.following.lock().await;
        let seen = self.followed().at.map(|(block, _)| block);
        let block = self.reader.finalized_block().await?;
        if seen.is_some_and(|seen| seen.number >= block.number) {
            return Ok(None);
        }
        let window = self.reader.shortest_window(&block).await?;
        let changed = self.reader.reshared_keys(seen.as_ref(), &block).await?;
        self.followed().advance((block, window), &changed);
        Ok(Some(changed))
    }

    /// Keys that were ever reshared, or are being, as far as finalised blocks were looked at.
    pub fn reshared(&self) -> BTreeSet<u64> {
        self.followed().reshared.clone()
    }

    /// Unix time (seconds) of the newest finalised block that was looked at.
    pub fn finalised_time(&self) -> Option<u64> {
        self.followed().at.map(|(block, _)| block.timestamp)
    }

    /// The committees of a key that is no dealt one, all as one finalised block shows them.
    ///
    /// # Errors
    /// Chain, or the key has none there.
    pub async fn finalised_committees(&self, key_id: u64) -> Result<Arc<KeyCommittees>, ChainError> {
        match self.committees_seen(key_id).await {
            // It may have come to be since the block that was looked at last. Who asks only now would otherwise be refused until the
            // next look, for a deposit whose order is final already.
            Err(ChainError::NotFound(_)) if self.follow_finalised().await?.is_some() => {
                self.committees_seen(key_id).await
            }
            seen => seen,
        }
    }

    /// The same, as the finalised block shows them that was looked at last.
    async fn committees_seen(&self, key_id: u64) -> Result<Arc<KeyCommittees>, ChainError> {
        if let Some(known) = self.followed().known.get(&key_id) {
            return Ok(Arc::clone(&known.committees));
        }
        if self.followed().at.is_none() {
            self.follow_finalised().await?;
        }
        let at = self.followed().at;
        let (block, window) = at.ok_or_else(|| ChainError::NotFound("no block is finalised yet".to_owned()))?;
        let committees = Arc::new(self.reader.finalized_committees(key_id, &block, window).await?);
        self.followed().keep(&block, &committees);
        Ok(committees)
    }

    fn followed(&self) -> MutexGuard<'_, Followed> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who signs for a key.
    ///
    /// # Errors
    /// The refusal to answer with: it cannot be known.
    pub async fn committees(&self, key_id: u64, is_dealt: bool) -> Result<Committees, Refusal> {
        if !is_dealt {
            let committees = self.finalised_committees(key_id).await;
            return committees.map(Committees::Finalised).map_err(|error| refusal(&error));
        }
        if let Some(committee) = self.dealt.get(&key_id) {
            return Ok(Committees::Dealt(committee));
        }
        // An envelope names its key by the id. Before the import is final a reorganisation can give that id to another key, and what was
        // signed under it convicts whoever signed.
        let key = self.reader.finalized_key(key_id).await.map_err(|error| refusal(&error))?;
        let committee = self.reader.first_committee(&self.live_key(&key).await?).map_err(|error| refusal(&error))?;
        let committee = Arc::new(committee);
        self.dealt.put(key_id, Arc::clone(&committee));
        Ok(Committees::Dealt(committee))
    }

    /// The reshare `id`, if finalised blocks show that it is drawn, and the time of the newest block (unix seconds).
    ///
    /// # Errors
    /// [`NoReshare`].
    pub async fn reshare(&self, id: ReshareId) -> Result<(Arc<KeyCommittees>, u64), NoReshare> {
        let committees = self.finalised_committees(id.key_id).await?;
        let Some(drawn) = committees.drawn.as_ref().filter(|drawn| drawn.id == id) else {
            let shown = committees.drawn.as_ref().map_or_else(|| "no drawn reshare".to_owned(), |it| it.id.to_string());
            return Err(NoReshare::Other { asked: id, shown });
        };
        let (now, deadline) = (self.now().await?, drawn.deadline);
        if now > deadline {
            return Err(NoReshare::Expired { id, deadline });
        }
        Ok((committees, now))
    }

    /// What the chain says about a key whose duties are asked for, for ever.
    ///
    /// # Errors
    /// The refusal to answer with: it cannot be known, or this server has no seat in its last two committees.
    pub async fn duty_facts(&self, key_id: u64, us: &Us) -> Result<DutyFacts, Refusal> {
        let key = self.reader.key(key_id).await.map_err(|error| no_such_key(&error))?;
        let live = self.live_key(&key).await?;
        let is_dealt = key.consumer == Address::ZERO;
        let committees = self.committees(key_id, is_dealt).await?;
        if committees.newest_seat(us).is_none() {
            return Err(not_a_member(key_id));
        }
        // Slashing protection goes by the group key: the newest block of one endpoint must not name another than finalised ones.
        if committees.group_key() != Some(live.keys.group_key()) {
            return Err(Refusal::unavailable(format!("key {key_id} just changed on the chain"), "Ask again."));
        }
        let deployment = self.reader.deployment();
        let pays = if key.consumer == deployment.micropools {
            let pool = self.reader.finalized_pool_of_key(key_id).await.map_err(|error| refusal(&error))?;
            Some(deployment.vault_of(pool))
        } else {
            None
        };
        let has_events = key.consumer == Address::ZERO || key.consumer == deployment.micropools;
        Ok(DutyFacts { group_key: live.keys.group_key(), pays, has_events, is_dealt })
    }

    /// Who may ask for duties of a key, at the newest block.
    ///
    /// # Errors
    /// The refusal to answer with if it cannot be known.
    pub async fn duty_assignment(&self, key_id: u64) -> Result<Option<DutyAssignment>, Refusal> {
        self.reader.duty_assignment(key_id).await.map_err(|error| refusal(&error))
    }

    /// The newest block of the first endpoint that has one.
    pub async fn newest_block(&self) -> Option<BlockId> {
        for endpoint in self.reader.endpoints() {
            if let Ok(Some(block)) = endpoint.block(BlockNumberOrTag::Latest).await {
                return Some(block);
            }
        }
        None
    }

    /// Whose assignment may have changed from the block `seen` to the block `tip`, by the events of every block in between.
    ///
    /// The blocks are found backwards by the hash of each one's parent, and their events asked for by the block's hash: a
    /// reorg, or an endpoint that lacks a block, is seen and never taken for a block without events.
    pub async fn changes(&self, seen: B256, tip: &BlockId) -> Changed {
        let mut keys = BTreeSet::new();
        let mut block = *tip;
        for _ in 0..MOST_BLOCKS {
            if block.hash == seen {
                return Changed::Keys(keys);
            }
            match self.changes_in(block.hash).await {
                Ok(Changed::Keys(more)) => keys.extend(more),
                Ok(Changed::All) | Err(_) => return Changed::All,
            }
            let Some(number) = block.number.checked_sub(1) else { return Changed::All };
            let parent = block.parent;
            block = match self.block(number).await {
                Some(before) if before.hash == parent => before,
                _ => return Changed::All,
            };
        }
        Changed::All
    }

    async fn block(&self, number: u64) -> Option<BlockId> {
        for endpoint in self.reader.endpoints() {
            if let Ok(Some(block)) = endpoint.block(BlockNumberOrTag::Number(number)).await {
                return Some(block);
            }
        }
        None
    }

    async fn changes_in(&self, block: B256) -> Result<Changed, ChainError> {
        let deployment = self.reader.deployment();
        let registry = deployment.key_registry;
        let contracts = vec![registry, deployment.provider_registry, deployment.micropools];
        let filter = Filter::new().address(contracts).at_block_hash(block);
        let mut last = ChainError::NotFound(format!("no RPC endpoint has block {block}"));
        for endpoint in self.reader.endpoints() {
            let action = format!("reading the events of block {block} at {}", endpoint.name());
            match ask(action, endpoint.provider().get_logs(&filter)).await {
                Ok(logs) => return Ok(Changed::by(logs.iter().map(|log| &log.inner), registry)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The public half of a Live key, believed only because it rebuilds the root on-chain.
    async fn live_key(&self, key: &KeyInfo) -> Result<LiveKey, Refusal> {
        let key_id = key.id;
        let live = match self.keys.get(&(key_id, key.commitment)) {
            Some(live) => live,
            None => {
                let live = self.reader.live_key(key_id).await.map_err(|error| refusal(&error))?;
                self.keys.put((key_id, live.leaves_root), live.clone());
                live
            }
        };
        if live.leaves_root == key.commitment {
            return Ok(live);
        }
        Err(Refusal::unavailable(format!("key {key_id} just changed on the chain"), "Ask again."))
    }

    /// What the chain says about a key whose deposit is asked for.
    ///
    /// # Errors
    /// The refusal to answer with if it cannot be known.
    pub async fn deposit_facts(&self, request: &DepositRequest) -> Result<Facts, Refusal> {
        let key_id = request.key_id;
        let key = self.reader.key(key_id).await.map_err(|error| no_such_key(&error))?;
        let live = self.live_key(&key).await?;
        let pool = self.reader.finalized_pool_of_key(key_id).await.map_err(|error| refusal(&error))?;
        let credentials = self.reader.finalized_credentials(pool).await.map_err(|error| refusal(&error))?;
        let ordered = self.reader.is_ordered(key_id, request.signing_root()).await.map_err(|error| refusal(&error))?;
        // After what all endpoints must agree about: who is lied to hears of that, and not of a block that one of them lacks.
        let committees = self.committees(key_id, key.consumer == Address::ZERO).await?;
        let deployment = self.reader.deployment();
        Ok(Facts {
            state: key.state,
            consumer: key.consumer,
            micropools: deployment.micropools,
            group_key: live.keys.group_key(),
            committees,
            credentials,
            genesis_fork_version: deployment.genesis_fork_version.0,
            ordered,
        })
    }
}

impl ChainView {
    /// What the chain says about a withdrawal key of which a change of credentials is asked for at `now` (unix seconds).
    ///
    /// # Errors
    /// The refusal to answer with if it cannot be known, or if it is not the turn of a committee in which `us` have a seat.
    pub async fn change_facts(&self, request: &ChangeRequest, us: &Us, now: u64) -> Result<change::Facts, Refusal> {
        let key_id = request.key_id;
        let key = self.reader.key(key_id).await.map_err(|error| no_such_key(&error))?;
        let live = self.live_key(&key).await?;
        let committees = self.committees(key_id, key.consumer == Address::ZERO).await?;
        let seat = committees.seat_by_clock(now, us)?;
        let pool = self.reader.finalized_pool_of_withdrawal_key(key_id).await.map_err(|error| refusal(&error))?;
        let root = request.change.signing_root();
        let ordered = self.reader.is_ordered(key_id, root).await.map_err(|error| refusal(&error))?;
        let deployment = self.reader.deployment();
        Ok(change::Facts {
            state: key.state,
            kind: key.kind,
            consumer: key.consumer,
            withdrawal_keys: deployment.withdrawal_keys(),
            group_key: live.keys.group_key(),
            seat: Some(seat),
            vault: deployment.vault_of(pool),
            genesis_fork_version: deployment.genesis_fork_version.0,
            genesis_validators_root: deployment.genesis_validators_root,
            ordered,
        })
    }
}

fn not_a_member(key_id: u64) -> Refusal {
    Refusal::new(
        RefusalKind::UnknownKey,
        format!("this server is not in the committee of key {key_id}"),
        "Ask the members that the KeyFinalised or Reshared event of the key names.",
    )
}

fn attempt_of(log: &alloy::rpc::types::Log) -> Option<u16> {
    if let Ok(drawn) = log.log_decode::<KeyRegistry::CommitteeDrawn>() {
        return Some(drawn.inner.attempt);
    }
    log.log_decode::<KeyRegistry::CeremonyRestarted>().ok().map(|restarted| restarted.inner.attempt)
}

/// A key id that the chain does not have.
fn no_such_key(error: &ChainError) -> Refusal {
    match error {
        ChainError::NotFound(_) => Refusal::new(RefusalKind::UnknownKey, error.to_string(), "Check the key id."),
        error => refusal(error),
    }
}

/// An unreadable chain is never a reason to sign, and a reason to ask again. The same holds for a fact that is not there
/// *yet*: the newest finalized block is older than the one in which the requester saw it.
fn refusal(error: &ChainError) -> Refusal {
    let what_to_do = match error {
        ChainError::NotFound(_) => "Ask again once the blocks in which the key and its pool came to be are finalized.",
        ChainError::EndpointsDisagree { .. } => {
            "Ask again; the operator has to find out which of its RPC endpoints is wrong."
        }
        _ => "Ask again; the operator has to look at its RPC endpoints if it stays.",
    };
    match error {
        ChainError::NotFound(what) => tracing::debug!(reason = what, "asked for what finalised blocks do not have yet"),
        error => tracing::warn!(error = %error, "chain could not be read for a signature"),
    }
    Refusal::unavailable(error.to_string(), what_to_do)
}

/// A bounded map behind a lock.
#[derive(Debug)]
struct Cache<K, V>(Mutex<HashMap<K, V>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn put(&self, key: K, value: V) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= CACHE_ENTRIES {
            map.clear();
        }
        map.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::tests::{committee, shown};
    use stkr_core::testing::TrustedDealer;

    #[test]
    fn a_later_finalised_block_leaves_what_it_did_not_change_and_takes_what_it_did() {
        let at = |number: u64| BlockId {
            number,
            hash: B256::left_padding_from(&number.to_be_bytes()),
            parent: B256::ZERO,
            timestamp: 1_000 + number,
        };
        let dealt = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [3; 32]);
        let of = |key_id| {
            let mut shown = shown(1_001, vec![(0, committee(0, &dealt, &[1, 2, 3, 4]))]);
            shown.key.id = key_id;
            Arc::new(shown)
        };
        let mut followed = Followed::default();
        followed.keep(&at(1), &of(7));
        assert!(followed.known.is_empty(), "no block was looked at");
        followed.advance((at(1), 3_600), &[3]);
        for key_id in [7, 8] {
            followed.keep(&at(1), &of(key_id));
        }
        followed.advance((at(2), 600), &[8]);
        let known = &followed.known[&7].committees;
        assert_eq!((known.block.timestamp, known.window, followed.known.len()), (1_002, 600, 1));
        // Read before the look that saw the change, and answered after it.
        followed.keep(&at(1), &of(8));
        assert!(!followed.known.contains_key(&8));
        followed.keep(&at(2), &of(8));
        assert!(followed.known.contains_key(&8));
        // An endpoint that is behind takes nothing back.
        followed.advance((at(1), 3_600), &[7, 8]);
        assert_eq!((followed.known.len(), followed.known[&7].committees.block.number), (2, 2));
        assert_eq!(followed.reshared, [3, 8].into());
    }

    #[test]
    fn an_event_that_is_kept_from_a_server_is_found_in_the_state_before_the_handover_that_it_announces() {
        let at = |number: u64| BlockId {
            number,
            hash: B256::from(U256::from(number)),
            parent: B256::ZERO,
            timestamp: number,
        };
        let dealt = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [3; 32]);
        let known = Arc::new(shown(1_000, vec![(0, committee(0, &dealt, &[1, 2, 3, 4]))]));
        let key_id = known.key.id;
        let (mut followed, window) = (Followed::default(), 600);
        followed.advance((at(1_000), window), &[]);
        followed.keep(&at(1_000), &known);
        // Each look says that nothing happened.
        for time in (1_012..=1_300).step_by(12) {
            followed.advance((at(time), window), &[]);
            assert!(followed.known.contains_key(&key_id), "read again after {} s", time - 1_000);
        }
        // A draw in the block after the one that was read hands over at 1,000 + 600 and three beacon epochs at the earliest.
        followed.advance((at(1_312), window), &[]);
        assert!(!followed.known.contains_key(&key_id), "taken from events alone for more than half a window");
        // A shorter window that governance schedules counts at once.
        followed.keep(&at(1_312), &known);
        followed.advance((at(1_324), 20), &[]);
        assert!(!followed.known.contains_key(&key_id));
    }

    #[test]
    fn an_event_of_a_key_concerns_that_key_and_any_other_event_all() {
        let registry = Address::repeat_byte(1);
        let log = |address: Address, topics: &[u64]| {
            let topics = topics.iter().map(|topic| B256::from(U256::from(*topic))).collect();
            Log::new_unchecked(address, topics, alloy::primitives::Bytes::new())
        };
        let of = |logs: &[Log]| Changed::by(logs.iter(), registry);
        assert_eq!(of(&[]), Changed::Keys(BTreeSet::new()));
        assert_eq!(of(&[log(registry, &[9, 4]), log(registry, &[8, 7])]), Changed::Keys([4, 7].into()));
        assert_eq!(
            of(&[log(registry, &[9, 4]), log(Address::repeat_byte(2), &[9, 4])]),
            Changed::All,
            "a provider's or a pool's"
        );
        assert_eq!(of(&[log(registry, &[9])]), Changed::All, "one that names no key");
    }
}
