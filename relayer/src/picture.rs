//! The view in step with the event log and with the deposit contract.

use alloy::primitives::FixedBytes;
use stkr_chain::types::PoolState;
use stkr_chain::{ChainError, EventLog, EventQuery, WatchedKey};

use crate::deposits::foreign;
use crate::events;
use crate::view::{DepositOrder, KeyPhase, View};

/// Rows read in one go.
const PAGE: u32 = 1_000;

/// A [`View`] and how far in the event log it was folded.
#[derive(Debug, Default)]
pub struct Picture {
    /// What the planner sees.
    pub view: View,
    /// Position in the event log up to which the view is folded.
    position: i64,
    /// The same for others' deposits.
    deposit: i64,
    /// [`EventLog::unwinds`] at that moment.
    unwinds: u64,
}

/// A pool whose key somebody may have deposited with.
struct AtStake<'a> {
    pool_id: u64,
    order: &'a DepositOrder,
    key: WatchedKey,
}

impl Picture {
    /// Folds what is new; everything from the start if blocks were taken back since the last time. True if so.
    ///
    /// A fold cannot be undone event by event: a state that was overwritten is gone. The log's own counter decides and not
    /// what a poll returned, for a poll that took blocks back may have failed after that.
    ///
    /// # Errors
    /// SQLite's.
    pub fn fold(&mut self, log: &EventLog) -> Result<bool, ChainError> {
        let unwinds = log.unwinds()?;
        let again = unwinds != self.unwinds;
        if again {
            *self = Self { unwinds, ..Self::default() };
        }
        loop {
            let query = EventQuery { after: Some(self.position), limit: Some(PAGE), ..EventQuery::default() };
            let page = log.events(&query)?;
            let Some(last) = page.last() else {
                return Ok(again);
            };
            self.position = last.id;
            for logged in &page {
                for fact in events::facts(logged) {
                    self.view.apply(logged.timestamp, fact);
                }
            }
        }
    }

    /// Looks for deposits that others made with the keys of the folded pools in which ether is or will be at stake.
    ///
    /// # Errors
    /// The endpoint's: then the view says how far the deposits are known. SQLite's.
    pub async fn look_for_deposits(&mut self, log: &EventLog) -> Result<(), ChainError> {
        let keys: Vec<WatchedKey> = at_stake(&self.view).map(|it| it.key).collect();
        log.watch_deposits(&keys)?;
        let scanned = log.scan_deposits().await;
        self.judge(log)?;
        scanned
    }

    fn judge(&mut self, log: &EventLog) -> Result<(), ChainError> {
        let mut watch = std::mem::take(&mut self.view.watch);
        watch.retain(|id, _| at_stake(&self.view).any(|it| it.pool_id == *id));
        loop {
            let page = log.deposits(self.deposit, PAGE)?;
            let Some(last) = page.last() else {
                break;
            };
            self.deposit = last.id;
            for deposit in &page {
                for AtStake { pool_id, order, .. } in at_stake(&self.view).filter(|it| it.key.pubkey == deposit.pubkey)
                {
                    let Some(KeyPhase::Live(live)) = self.view.keys.get(&order.key_id).map(|key| &key.phase) else {
                        continue;
                    };
                    let fork = log.deployment().genesis_fork_version.0;
                    let judged = live.group_key().and_then(|key| foreign(order, &key, fork, deposit));
                    if let Some(foreign) = judged {
                        let (tx, amount_gwei) = (foreign.transaction, foreign.amount_gwei);
                        tracing::warn!(pool_id, %tx, amount_gwei, "a pool's key signed a deposit to foreign credentials");
                        watch.entry(pool_id).or_default().foreign.get_or_insert(foreign);
                    }
                }
            }
        }
        for AtStake { pool_id, key, .. } in at_stake(&self.view) {
            let watch = watch.entry(pool_id).or_default();
            watch.known_before = log.deposits_known_before(&key.pubkey)?.unwrap_or(0);
        }
        self.view.watch = watch;
        Ok(())
    }
}

/// Pools from the order of their deposit to the top-up. Their keys are looked for from the block of the request on: the
/// members know the key before the chain does, and no key can be known before its committee is drawn.
fn at_stake(view: &View) -> impl Iterator<Item = AtStake<'_>> {
    let staged = |state| matches!(state, PoolState::KeyReady | PoolState::Predeposited);
    view.pools.iter().filter(move |(_, pool)| staged(pool.state)).filter_map(|(id, pool)| {
        let order = pool.order.as_ref()?;
        let pubkey = FixedBytes::try_from(order.pubkey.as_ref()).ok()?;
        let since = view.keys.get(&order.key_id)?.requested_in;
        Some(AtStake { pool_id: *id, order, key: WatchedKey { pubkey, since } })
    })
}
