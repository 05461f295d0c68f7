//! Events of all contracts, in order, across reorgs, disconnects and restarts.
//!
//! Log subscriptions lose events when a connection is silently re-made, and filters forget; so this watch only asks
//! plain questions and checks the answers. Blocks that can still be reorganised are read one by one, *by hash*, and only
//! when their parent is the block read before; final blocks are read in ranges. What was told and is no longer true
//! is taken back with [`Update::Removed`], newest first.
//!
//! A consumer stores the cursor of each [`Update::Checkpoint`] together with what it made of the events before it, and
//! starts again with [`Start::After`]: no event is missed and none is told twice. A cursor also carries the newest block that was
//! final when it was handed out. Its own block may vanish in a reorg while nobody watches, and finality may pass over the place;
//! the final one cannot vanish, so that is where the watch goes back to.

use core::{fmt, str::FromStr, time::Duration};
use std::collections::VecDeque;

use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    primitives::{Address, B256},
    providers::Provider,
    rpc::types::{Filter, Header, Log},
};
use futures::{Stream, stream};
use serde::Serialize;
use stkr_chain::Deployment;

use crate::{
    error::{StkrError, rpc},
    event::Event,
    scan,
};

/// Final blocks asked for at once.
const STEP: u64 = 5_000;
/// Longest pause after failures in a row.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// A block, by number and hash. Text form: `123:0x…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Block {
    /// Block number.
    pub number: u64,
    /// Block hash.
    pub hash: B256,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

impl Block {
    fn parse(text: &str) -> Option<Self> {
        let (number, hash) = text.split_once(':')?;
        Some(Self { number: number.parse().ok()?, hash: hash.parse().ok()? })
    }
}

/// How far a watch has told. Text form: the block, a slash, the final block: `123:0x…/100:0x…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Cursor {
    /// Everything up to this block has been told.
    pub block: Block,
    /// Where to go back to if a reorg took `block`: the newest block of the same chain that was final, or the one before
    /// the deployment while nothing was.
    pub finalized: Block,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.block, self.finalized)
    }
}

impl FromStr for Cursor {
    type Err = StkrError;

    fn from_str(text: &str) -> Result<Self, StkrError> {
        let parsed = text
            .split_once('/')
            .and_then(|(block, finalized)| {
                Some(Self { block: Block::parse(block)?, finalized: Block::parse(finalized)? })
            })
            .filter(|cursor| cursor.finalized.number <= cursor.block.number);
        parsed.ok_or_else(|| {
            StkrError::invalid("that is not a cursor", "give it as a checkpoint printed it: number:hash/number:hash")
        })
    }
}

/// Where a watch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the block the contracts were deployed in.
    Deployment,
    /// With the block after the newest one.
    Now,
    /// With the block after a stored checkpoint.
    After(Cursor),
}

/// One thing a watch tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// An event happened.
    Added(Event),
    /// An event told before did not happen after all: its block is no longer part of the chain.
    Removed(Event),
    /// The stored cursor's block is no longer part of the chain: everything from blocks after `to` is void and is told
    /// again. Comes only as the first update, or after a reorg deeper than what the watch told itself.
    Rewound {
        /// The last block that still counts.
        to: Block,
    },
    /// Everything up to this block has been told: store it.
    Checkpoint(Cursor),
}

/// The newest block, with the final one to go back to.
pub(crate) async fn head<P: Provider>(provider: &P, deployed_block: u64) -> Result<Cursor, StkrError> {
    // Asked for first, so that it cannot be newer than the newest.
    let finalized = match finalized(provider).await? {
        Some(finalized) => finalized,
        None => before(provider, deployed_block).await?,
    };
    let block = block_of(&required(provider, BlockNumberOrTag::Latest).await?);
    Ok(Cursor { block, finalized })
}

/// A running watch; see the module documentation and [`crate::Stkr::watch`].
///
/// ```no_run
/// use stkr_sdk::{Start, Stkr, Update};
/// # async fn run<P: alloy::providers::Provider + Clone>(stkr: Stkr<P>) -> Result<(), stkr_sdk::StkrError> {
/// let mut watch = stkr.watch(Start::Deployment);
/// loop {
///     match watch.next().await {
///         Ok(Update::Added(event)) => println!("+ {event}"),
///         Ok(Update::Removed(event)) => println!("- {event}"),
///         Ok(Update::Rewound { to }) => println!("forget everything after block {to}"),
///         Ok(Update::Checkpoint(cursor)) => println!("store {cursor}"),
///         Err(error) => eprintln!("{error}; going on where it stopped"),
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Watch<P> {
    provider: P,
    contracts: Vec<Address>,
    deployed_block: u64,
    start: Start,
    history: Option<History>,
    /// [`Cursor::finalized`] of the next checkpoint.
    finalized: Block,
    pending: VecDeque<Update>,
    pause: Option<Duration>,
    failures: u32,
}

impl<P: Provider> Watch<P> {
    /// A watch over the contracts of a deployment; asks nothing yet.
    pub fn new(provider: P, deployment: &Deployment, start: Start) -> Self {
        let contracts = deployment.emitters().to_vec();
        Self {
            provider,
            contracts,
            deployed_block: deployment.deployed_block,
            start,
            history: None,
            finalized: Block { number: 0, hash: B256::ZERO },
            pending: VecDeque::new(),
            pause: None,
            failures: 0,
        }
    }

    /// Pause between questions when there is nothing new; the provider's poll interval unless set.
    #[must_use]
    pub fn poll_every(mut self, pause: Duration) -> Self {
        self.pause = Some(pause);
        self
    }

    /// The next update; waits for one. After an error call it again: the watch goes on where it stopped, later and
    /// later while failures go on. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`StkrError::Rpc`] and [`StkrError::NotReady`] pass; [`StkrError::ForeignCursor`] does not.
    pub async fn next(&mut self) -> Result<Update, StkrError> {
        if self.failures > 0 && self.pending.is_empty() {
            let pause = Duration::from_millis(250).saturating_mul(1 << self.failures.min(7));
            tokio::time::sleep(pause.min(MAX_PAUSE)).await;
        }
        loop {
            if let Some(update) = self.pending.pop_front() {
                return Ok(update);
            }
            match self.advance().await {
                Ok(true) => self.failures = 0,
                Ok(false) => {
                    self.failures = 0;
                    let pause = self.pause.unwrap_or_else(|| self.provider.client().poll_interval());
                    tokio::time::sleep(pause).await;
                }
                Err(error) => {
                    self.failures = self.failures.saturating_add(1);
                    return Err(error);
                }
            }
        }
    }

    /// [`Watch::next`] as an endless stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Update, StkrError>> {
        stream::unfold(self, |mut watch| async move {
            let update = watch.next().await;
            Some((update, watch))
        })
    }

    /// One step; says whether there may be more at once. All awaiting is done before anything changes.
    async fn advance(&mut self) -> Result<bool, StkrError> {
        let Some(history) = &self.history else {
            return self.begin().await;
        };
        let tail = history.tail();
        let latest = required(&self.provider, BlockNumberOrTag::Latest).await?;
        if latest.hash == tail.hash {
            return Ok(false);
        }
        if let Some(number) = self.departure(history, latest.number).await? {
            return self.take_back(number).await;
        }
        if latest.number <= tail.number {
            return Ok(false);
        }
        let finalized = finalized(&self.provider).await?;
        match finalized {
            Some(finalized) if finalized.number > tail.number => self.read_final(tail, finalized).await,
            _ => self.read_next(tail, finalized).await,
        }
    }

    /// Finds the block to start after.
    async fn begin(&mut self) -> Result<bool, StkrError> {
        let cursor = match self.start {
            Start::Now => head(&self.provider, self.deployed_block).await?,
            Start::Deployment => {
                let block = before(&self.provider, self.deployed_block).await?;
                Cursor { block, finalized: block }
            }
            Start::After(cursor) => match header(&self.provider, cursor.block.number.into()).await? {
                Some(header) if header.hash == cursor.block.hash => cursor,
                Some(_) => {
                    let finalized = self.still_there(cursor.finalized).await?;
                    self.pending.push_back(Update::Rewound { to: finalized });
                    Cursor { block: finalized, finalized }
                }
                None => {
                    let number = cursor.block.number;
                    let reason = format!("the endpoint does not have block {number} of the cursor yet");
                    return Err(StkrError::NotReady { reason });
                }
            },
        };
        self.pending.push_back(Update::Checkpoint(cursor));
        self.history = Some(History::new(cursor.block));
        self.finalized = cursor.finalized;
        Ok(true)
    }

    /// The first remembered block that the chain no longer has, if any. A shorter chain is an endpoint that lags.
    async fn departure(&self, history: &History, latest: u64) -> Result<Option<u64>, StkrError> {
        let top = latest.min(history.tail().number);
        let mut departed = None;
        for number in (history.base.number..=top).rev() {
            let Some(ours) = history.hash_at(number) else { break };
            match header(&self.provider, number.into()).await? {
                Some(header) if header.hash == ours => break,
                Some(_) => departed = Some(number),
                None => break,
            }
        }
        Ok(departed)
    }

    /// Takes back every event from block `number` on.
    async fn take_back(&mut self, number: u64) -> Result<bool, StkrError> {
        let Some(history) = &self.history else { return Ok(true) };
        if number > history.base.number {
            if let Some(history) = &mut self.history {
                self.pending.extend(history.cut(number).into_iter().map(Update::Removed));
                self.pending.push_back(Update::Checkpoint(Cursor { block: history.tail(), finalized: self.finalized }));
            }
            return Ok(true);
        }
        // Deeper than what is remembered: only a block that was final can be trusted as the place to go on from.
        let target = self.still_there(self.finalized).await?;
        if let Some(history) = &mut self.history {
            self.pending.extend(history.cut(0).into_iter().map(Update::Removed));
        }
        self.pending.push_back(Update::Rewound { to: target });
        self.pending.push_back(Update::Checkpoint(Cursor { block: target, finalized: target }));
        self.history = Some(History::new(target));
        Ok(true)
    }

    /// A block that was final. If it is gone, the cursor is of another chain.
    async fn still_there(&self, finalized: Block) -> Result<Block, StkrError> {
        match header(&self.provider, finalized.number.into()).await? {
            Some(header) if header.hash == finalized.hash => Ok(finalized),
            Some(_) => Err(StkrError::ForeignCursor { number: finalized.number, hash: finalized.hash }),
            None => {
                let reason = format!("the endpoint does not have block {} of the cursor yet", finalized.number);
                Err(StkrError::NotReady { reason })
            }
        }
    }

    /// A range of final blocks.
    async fn read_final(&mut self, tail: Block, finalized: Block) -> Result<bool, StkrError> {
        let end = finalized.number.min(tail.number.saturating_add(STEP));
        let last = required(&self.provider, end.into()).await?;
        let filter = Filter::new().address(self.contracts.clone());
        let logs = scan::logs(&self.provider, &filter, tail.number.saturating_add(1), end).await?;
        // Ranges are asked for by number: both ends must be the same blocks after the answer as before it.
        let first = required(&self.provider, tail.number.into()).await?;
        if first.hash != tail.hash || required(&self.provider, end.into()).await?.hash != last.hash {
            return Ok(true);
        }
        let events = events_of(&logs)?;
        let reached = block_of(&last);
        self.pending.extend(events.into_iter().map(Update::Added));
        self.pending.push_back(Update::Checkpoint(Cursor { block: reached, finalized: reached }));
        self.history = Some(History::new(reached));
        self.finalized = reached;
        Ok(true)
    }

    /// The next block that may still be reorganised: its logs by its hash, so that they cannot be another block's.
    async fn read_next(&mut self, tail: Block, finalized: Option<Block>) -> Result<bool, StkrError> {
        let Some(next) = header(&self.provider, tail.number.saturating_add(1).into()).await? else {
            return Ok(false);
        };
        if next.parent_hash != tail.hash {
            // Reorganised between two questions: the next step finds out where.
            return Ok(true);
        }
        let filter = Filter::new().address(self.contracts.clone()).at_block_hash(next.hash);
        let logs = self.provider.get_logs(&filter).await.map_err(rpc("reading events"))?;
        let events = events_of(&logs)?;
        let reached = block_of(&next);
        self.pending.extend(events.iter().cloned().map(Update::Added));
        if let Some(history) = &mut self.history {
            history.push(reached, events);
            if let Some(finalized) = finalized {
                // Otherwise another chain than the one told became final, and the next step takes events back.
                if history.hash_at(finalized.number) == Some(finalized.hash) {
                    self.finalized = finalized;
                    history.forget_up_to(finalized.number);
                }
            }
        }
        self.pending.push_back(Update::Checkpoint(Cursor { block: reached, finalized: self.finalized }));
        Ok(true)
    }
}

async fn finalized<P: Provider>(provider: &P) -> Result<Option<Block>, StkrError> {
    match header(provider, BlockNumberOrTag::Finalized).await {
        Ok(header) => Ok(header.map(|header| block_of(&header))),
        // Before the first epoch is final nodes answer with an error: nothing is final then.
        Err(StkrError::Rpc { source, .. }) if source.is_error_resp() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The block before the deployment: nothing of it was told, whatever reorg there was.
async fn before<P: Provider>(provider: &P, deployed_block: u64) -> Result<Block, StkrError> {
    required(provider, deployed_block.saturating_sub(1).into()).await.map(|header| block_of(&header))
}

async fn required<P: Provider>(provider: &P, number: BlockNumberOrTag) -> Result<Header, StkrError> {
    header(provider, number)
        .await?
        .ok_or_else(|| StkrError::NotReady { reason: format!("the endpoint does not have block {number}") })
}

async fn header<P: Provider>(provider: &P, number: BlockNumberOrTag) -> Result<Option<Header>, StkrError> {
    let block = provider.get_block(BlockId::Number(number)).await.map_err(rpc("reading a block"))?;
    Ok(block.map(|block| block.header))
}

fn block_of(header: &Header) -> Block {
    Block { number: header.number, hash: header.hash }
}

/// Events of logs in chain order; a log without a place in the chain is an endpoint's mistake.
fn events_of(logs: &[Log]) -> Result<Vec<Event>, StkrError> {
    let mut events = logs.iter().map(Event::from_log).collect::<Result<Vec<_>, _>>()?;
    events.sort_by_key(|event| (event.block.number, event.log_index));
    Ok(events)
}

/// Blocks told that may still be reorganised, oldest first, after one block that is taken as given.
#[derive(Debug)]
struct History {
    base: Block,
    blocks: VecDeque<(Block, Vec<Event>)>,
}

impl History {
    fn new(base: Block) -> Self {
        Self { base, blocks: VecDeque::new() }
    }

    /// The newest block told.
    fn tail(&self) -> Block {
        self.blocks.back().map_or(self.base, |(block, _)| *block)
    }

    fn hash_at(&self, number: u64) -> Option<B256> {
        if number == self.base.number {
            return Some(self.base.hash);
        }
        self.blocks.iter().rev().find(|(block, _)| block.number == number).map(|(block, _)| block.hash)
    }

    fn push(&mut self, block: Block, events: Vec<Event>) {
        self.blocks.push_back((block, events));
    }

    /// Forgets blocks from `number` on and gives their events, newest first.
    fn cut(&mut self, number: u64) -> Vec<Event> {
        let mut removed = Vec::new();
        while self.blocks.back().is_some_and(|(block, _)| block.number >= number) {
            if let Some((_, events)) = self.blocks.pop_back() {
                removed.extend(events.into_iter().rev());
            }
        }
        removed
    }

    /// Final blocks cannot be taken back: the newest of them becomes the base.
    fn forget_up_to(&mut self, number: u64) {
        while self.blocks.front().is_some_and(|(block, _)| block.number <= number) {
            if let Some((block, _)) = self.blocks.pop_front() {
                self.base = block;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::staked;

    fn block(number: u64, fork: u8) -> Block {
        Block { number, hash: B256::repeat_byte(fork.wrapping_add(u8::try_from(number).unwrap())) }
    }

    fn history(blocks: u64) -> History {
        let mut history = History::new(block(10, 0));
        for number in 11..11 + blocks {
            let block = block(number, 0);
            history.push(block, vec![staked(block, 0), staked(block, 1)]);
        }
        history
    }

    #[test]
    fn a_reorg_takes_events_back_newest_first_and_leaves_the_common_part() {
        let mut history = history(4);
        let removed = history.cut(13);
        let order: Vec<_> = removed.iter().map(|event| (event.block.number, event.log_index)).collect();
        assert_eq!(order, [(14, 1), (14, 0), (13, 1), (13, 0)]);
        assert_eq!(history.tail(), block(12, 0));
        assert!(history.cut(13).is_empty(), "an event is taken back once");
    }

    #[test]
    fn final_blocks_are_forgotten_and_the_newest_of_them_stays_as_the_anchor() {
        let mut history = history(4);
        history.forget_up_to(12);
        assert_eq!(history.base, block(12, 0));
        assert_eq!(history.hash_at(12), Some(block(12, 0).hash));
        assert_eq!(history.hash_at(11), None);
        assert_eq!(history.cut(0).len(), 4, "only what is not final can be taken back");
        assert_eq!(history.tail(), block(12, 0));
    }

    #[test]
    fn a_cursor_survives_text_and_nonsense_is_no_cursor() {
        let cursor = Cursor { block: block(123, 7), finalized: block(100, 7) };
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        let upside_down = Cursor { block: block(100, 7), finalized: block(123, 7) }.to_string();
        let half = block(123, 7).to_string();
        for text in ["", "/", "1:/1:", ":0x00/:0x00", "-1:0x00/1:0x00", "1:0x00/0:0x00", &half, &upside_down] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
