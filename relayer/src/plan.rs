//! What there is to do: from a picture of the chain to a list of actions. Pure, so every rule is a unit test.
//!
//! The planner has no memory. It names every step whose condition holds *now*, again and again until the chain shows
//! that the step was taken, by us or by somebody else. That one property carries the relayer through crashes, reorgs
//! and competitors: there is no "already did that" that could be wrong. Not sending twice is the business of the
//! intents, which know an action by [`Action::intent_key`].

use alloy::primitives::{Address, B256, Bytes, keccak256};
use stkr_chain::acknowledgements;
use stkr_chain::bindings::Resharing;
use stkr_chain::types::PoolState;
use stkr_protocol::evidence::{EvidenceFile, Fault};
use stkr_protocol::reshare::ReshareId;

use crate::cases;
use crate::challenges;
use crate::deposits::ForeignDeposit;
use crate::reshares::Next;
#[cfg(doc)]
use crate::store::PROVIDER;
use crate::view::{self, Asked, Ceremony, KeyPhase, PendingDraw, Pool, View, Withdrawal};

/// Blocks for which EIP-2935 serves a block hash.
pub const HISTORY_WINDOW: u64 = 8191;

/// Changes of one pool's credentials that are collected at a time.
const CHANGES_AT_ONCE: usize = 8;

/// Where the chain stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Number of the newest block seen.
    pub head: u64,
    /// Its unix time in seconds. The chain's time, never ours: deadlines are judged by it.
    pub timestamp: u64,
    /// Number of the newest finalised block.
    pub finalized: u64,
    /// Seconds for which the seats of an ended key stay reserved (`EVIDENCE_WINDOW` of the registry).
    pub evidence_window: u64,
}

/// One step that can be taken now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A Full pool asks for its key.
    RequestKey {
        /// Pool.
        pool_id: u64,
    },
    /// The seed block is there: draw the committee.
    Draw {
        /// Key.
        key_id: u64,
        /// Ceremony number.
        attempt: u16,
        /// Seed block, snapshot, kept members.
        draw: PendingDraw,
    },
    /// The draw missed its window or the ceremony its deadline: start again.
    Restart {
        /// Key.
        key_id: u64,
        /// Ceremony number that failed.
        attempt: u16,
        /// Committee (Drawn) or kept members (Requested).
        members: Vec<u32>,
        /// keccak256 of the snapshot (Requested) or zero (Drawn).
        active_set_hash: B256,
        /// Tells two restarts of one attempt apart: seed block or deadline.
        mark: u64,
    },
    /// Carry messages between the members, and finalise when all acknowledged.
    CarryCeremony {
        /// Key.
        key_id: u64,
        /// Ceremony number.
        attempt: u16,
        /// t.
        threshold: u8,
        /// Committee and deadline.
        ceremony: Ceremony,
    },
    /// The key is live: order the deposit.
    OrderDeposit {
        /// Pool.
        pool_id: u64,
        /// 128 bytes, EIP-2537.
        group_key: Bytes,
    },
    /// The order is finalised: collect the signature, then send the predeposit.
    CollectDeposit {
        /// Pool.
        pool_id: u64,
        /// Key.
        key_id: u64,
        /// 128 bytes, EIP-2537.
        group_key: Bytes,
        /// Whether the predeposit may be sent once the signature is there: the deposit contract was looked through for
        /// foreign deposits with this key up to the head.
        may_send: bool,
    },
    /// The key signed a deposit to other credentials: burn it, whatever else could be done with the pool.
    ProveForeignDeposit {
        /// Pool.
        pool_id: u64,
        /// 128 bytes, EIP-2537.
        group_key: Bytes,
        /// The proof.
        foreign: ForeignDeposit,
    },
    /// The challenge window is over: send the other 31 ETH.
    TopUp {
        /// Pool.
        pool_id: u64,
        /// 128 bytes, EIP-2537.
        group_key: Bytes,
    },
    /// A change of credentials is ordered and final: collect the withdrawal committee's signature, then show it.
    CollectChange {
        /// Pool.
        pool_id: u64,
        /// Its withdrawal key.
        key_id: u64,
        /// The validator that the change names.
        validator_index: u64,
        /// 128 bytes, EIP-2537.
        group_key: Bytes,
    },
    /// Evidence of a fault: commit this relayer's account to it.
    CommitToEvidence {
        /// Server at fault; [`PROVIDER`] where a provider is.
        server_id: u32,
        /// What the Court calls the evidence.
        evidence: B256,
        /// The fault.
        fault: Fault,
        /// What `Court.commit` takes.
        commitment: B256,
    },
    /// The commitment is in an earlier block: show the evidence.
    ProveFault {
        /// Server at fault; [`PROVIDER`] where a provider is.
        server_id: u32,
        /// What the Court calls the evidence.
        evidence: B256,
        /// The fault.
        fault: Fault,
        /// The proof.
        file: Box<EvidenceFile>,
    },
    /// A challenge is open: ask the server, and send what it answers.
    AnswerChallenge {
        /// What of whom.
        asked: Asked,
        /// Who is asked.
        server_id: u32,
        /// Last block for an answer.
        deadline: u64,
    },
    /// A challenge was not answered.
    ProveUnanswered {
        /// What of whom.
        asked: Asked,
        /// Last block for an answer.
        deadline: u64,
    },
    /// A member gives no signature over what the chain ordered: ask it where everybody sees it.
    ChallengeSilent {
        /// What of whom.
        asked: Asked,
    },
    /// A challenge to acknowledge a key is open: ask the server, and send its acknowledgement, or whose fault it is that there is none.
    AnswerAcknowledgement {
        /// Whom.
        asked: acknowledgements::Asked,
        /// Who is asked.
        server_id: u32,
        /// Unix time (seconds) of the last block for an answer.
        deadline: u64,
    },
    /// A challenge to acknowledge a key was not answered.
    ProveUnacknowledged {
        /// Whom.
        asked: acknowledgements::Asked,
        /// Unix time (seconds) of the last block for an answer.
        deadline: u64,
    },
    /// A ceremony waits for nothing but this member's acknowledgement: ask it where everybody sees it.
    ChallengeUnacknowledged {
        /// Whom.
        asked: acknowledgements::Asked,
    },
    /// Seats of a key that never lived can be freed.
    FreeSeatsOfUnfinished {
        /// Key.
        key_id: u64,
        /// Who holds the seats.
        members: Vec<u32>,
        /// keccak256 of the snapshot (it was Requested) or zero (it was Drawn).
        active_set_hash: B256,
    },
    /// The evidence window of a key that ended is over: its seats can be freed.
    FreeSeats {
        /// Key.
        key_id: u64,
        /// Server ids.
        committee: Vec<u32>,
        /// Their signers.
        signers: Vec<Address>,
        /// n + 1 points.
        points: Bytes,
    },
    /// A member of a key's newest committee is lost: ask for its seat to go to another server.
    RequestReshare {
        /// Key and the committee epoch to come.
        id: ReshareId,
        /// The newest committee.
        serving: Resharing::Committee,
        /// t, as it is.
        threshold: u8,
        /// n, as it is.
        members: u8,
    },
    /// The seed block is there: draw the lost seats and the dealers.
    DrawReshare {
        /// Which attempt.
        id: ReshareId,
        /// Block whose PREVRANDAO is the seed.
        seed_block: u64,
        /// Snapshot.
        active_set: Bytes,
        /// What the chain committed to.
        draft: Resharing::Draft,
    },
    /// The draw missed its window or the attempt its deadline: start again.
    RestartReshare {
        /// The attempt that failed.
        id: ReshareId,
        /// Seed block or deadline.
        mark: u64,
        /// The newest committee.
        serving: Resharing::Committee,
        /// What the chain committed to.
        draft: Resharing::Draft,
    },
    /// Carry messages between dealers and new members, and finalise when all of these acknowledged.
    CarryReshare {
        /// The drawn reshare.
        next: Box<Next>,
    },
    /// The key was given up while it was being reshared: free the seats that were taken.
    CancelReshare {
        /// Which attempt.
        id: ReshareId,
        /// What the chain committed to.
        draft: Resharing::Draft,
    },
    /// The evidence window of a committee that handed over is past: the seats that the next one left behind can be freed.
    FreePastSeats {
        /// Key.
        key_id: u64,
        /// Committee epoch that left them behind.
        committee_epoch: u32,
        /// The committee before it.
        past: Resharing::Committee,
        /// The committee itself.
        next: Resharing::Committee,
    },
}

impl Action {
    /// What the action is, for people and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RequestKey { .. } => "request_key",
            Self::Draw { .. } => "draw",
            Self::Restart { .. } => "restart",
            Self::CarryCeremony { .. } => "finalise_key",
            Self::OrderDeposit { .. } => "order_deposit",
            Self::CollectDeposit { .. } => "predeposit",
            Self::ProveForeignDeposit { .. } => "prove_foreign_deposit",
            Self::TopUp { .. } => "top_up",
            Self::CollectChange { .. } => "show_change",
            Self::CommitToEvidence { .. } => "commit_to_evidence",
            Self::ProveFault { .. } => "prove_fault",
            Self::AnswerChallenge { .. } => challenges::ANSWER,
            Self::ProveUnanswered { .. } => challenges::PROOFS[0],
            Self::ChallengeSilent { .. } => "challenge_silent",
            Self::AnswerAcknowledgement { .. } => challenges::ANSWER,
            Self::ProveUnacknowledged { .. } => challenges::PROOFS[1],
            Self::ChallengeUnacknowledged { .. } => "challenge_unacknowledged",
            Self::FreeSeatsOfUnfinished { .. } => "free_seats_of_unfinished",
            Self::FreeSeats { .. } => "free_seats",
            Self::RequestReshare { .. } => "request_reshare",
            Self::DrawReshare { .. } => "draw_reshare",
            Self::RestartReshare { .. } => "restart_reshare",
            Self::CarryReshare { .. } => "finalise_reshare",
            Self::CancelReshare { .. } => "cancel_reshare",
            Self::FreePastSeats { .. } => "free_past_seats",
        }
    }

    /// Names the step, so that two sights of one step are one and two steps are two: a ceremony's attempt, a draw's seed
    /// block and a ceremony's deadline are part of it.
    #[must_use]
    pub fn step(&self) -> String {
        let name = self.name();
        match self {
            Self::RequestKey { pool_id }
            | Self::OrderDeposit { pool_id, .. }
            | Self::CollectDeposit { pool_id, .. }
            | Self::ProveForeignDeposit { pool_id, .. }
            | Self::TopUp { pool_id, .. } => format!("{name}/{pool_id}"),
            Self::CollectChange { pool_id, validator_index, .. } => format!("{name}/{pool_id}/{validator_index}"),
            Self::CommitToEvidence { server_id, evidence, .. } => cases::commit_step(*server_id, *evidence),
            Self::ProveFault { server_id, evidence, .. } => cases::prove_step(*server_id, *evidence),
            Self::AnswerChallenge { asked, deadline, .. } => challenges::answer_step(asked, *deadline),
            Self::ProveUnanswered { asked, deadline } => format!("{name}/{}/{deadline}", challenges::name(asked)),
            Self::ChallengeSilent { asked } => format!("{name}/{}", challenges::name(asked)),
            Self::AnswerAcknowledgement { asked, deadline, .. } => challenges::acknowledge_step(*asked, *deadline),
            Self::ProveUnacknowledged { asked: (key, attempt, index), deadline } => {
                format!("{name}/{key}/{attempt}/{index}/{deadline}")
            }
            Self::ChallengeUnacknowledged { asked: (key, attempt, index) } => format!("{name}/{key}/{attempt}/{index}"),
            Self::Draw { key_id, attempt, draw } => format!("{name}/{key_id}/{attempt}/{}", draw.seed_block),
            Self::Restart { key_id, attempt, mark, .. } => format!("{name}/{key_id}/{attempt}/{mark}"),
            Self::CarryCeremony { key_id, attempt, .. } => format!("{name}/{key_id}/{attempt}"),
            Self::FreeSeatsOfUnfinished { key_id, .. } | Self::FreeSeats { key_id, .. } => {
                format!("{name}/{key_id}")
            }
            Self::RequestReshare { id: ReshareId { key_id, committee_epoch, .. }, .. }
            | Self::FreePastSeats { key_id, committee_epoch, .. } => format!("{name}/{key_id}/{committee_epoch}"),
            Self::DrawReshare { id, seed_block: mark, .. } | Self::RestartReshare { id, mark, .. } => {
                format!("{name}/{}/{mark}", of_reshare(*id))
            }
            Self::CarryReshare { next } => format!("{name}/{}", of_reshare(next.id)),
            Self::CancelReshare { id, .. } => format!("{name}/{}", of_reshare(*id)),
        }
    }
}

/// Key, committee epoch and attempt in the name of a step.
fn of_reshare(id: ReshareId) -> String {
    format!("{}/{}/{}", id.key_id, id.committee_epoch, id.attempt)
}

/// The name under which the transaction of a step is remembered: one name, one transaction, for ever.
///
/// A reorg can put another key, header or committee under the same number. The calldata shows it, so its hash is part of
/// the name: a transaction for a vanished fact can never stand in for the one that is needed now. In the other direction
/// every step has one calldata only: a BLS signature is unique, and of each acknowledgement the first is kept.
#[must_use]
pub fn intent_key(step: &str, calldata: &[u8]) -> String {
    format!("{step}/{}", hex::encode(&keccak256(calldata)[..8]))
}

/// Every step whose condition holds, in the order of pools and keys.
#[must_use]
pub fn plan(view: &View, clock: &Clock) -> Vec<Action> {
    let pools = view.pools.iter().filter_map(|(id, pool)| plan_pool(view, *id, pool, clock));
    let changes = view.pools.iter().flat_map(|(id, pool)| plan_changes(view, *id, pool, clock));
    let keys = view.keys.keys().filter_map(|id| plan_key(view, *id, clock));
    pools.chain(changes).chain(keys).collect()
}

/// The oldest changes of a pool's credentials that are ordered, final and not shown. Those who have a stake in the pool may order any
/// number of them, and each is as good as the validator's index in it.
fn plan_changes(view: &View, pool_id: u64, pool: &Pool, clock: &Clock) -> Vec<Action> {
    let (PoolState::Predeposited | PoolState::Active, Some(it)) = (pool.state, &pool.withdrawal) else {
        return Vec::new();
    };
    let Some(group_key) = live_group_key(view, it.key_id) else { return Vec::new() };
    let mut waiting: Vec<(u64, u64)> = (it.changes.iter())
        .filter(|(_, order)| order.signature.is_none() && order.block <= clock.finalized)
        .map(|(index, order)| (order.block, *index))
        .collect();
    waiting.sort_unstable();
    waiting.truncate(CHANGES_AT_ONCE);
    let action = |(_, validator_index)| {
        let group_key = group_key.clone();
        Action::CollectChange { pool_id, key_id: it.key_id, validator_index, group_key }
    };
    waiting.into_iter().map(action).collect()
}

fn plan_pool(view: &View, pool_id: u64, pool: &Pool, clock: &Clock) -> Option<Action> {
    match pool.state {
        PoolState::Full => match pool.key_id {
            // Past its deadline anyone may cancel the pool; a key for it would most likely be thrown away.
            None => (clock.timestamp < pool.deadline).then_some(Action::RequestKey { pool_id }),
            Some(key_id) => Some(Action::OrderDeposit { pool_id, group_key: live_group_key(view, key_id)? }),
        },
        PoolState::KeyReady => {
            let order = pool.order.as_ref()?;
            if let Some(proof) = plan_proof(view, pool_id, order.key_id) {
                return Some(proof);
            }
            // Servers sign on finalised orders only; asking earlier would earn refusals.
            (order.block <= clock.finalized).then_some(())?;
            let group_key = live_group_key(view, order.key_id)?;
            let may_send = deposits_are_known(view, pool_id, clock);
            Some(Action::CollectDeposit { pool_id, key_id: order.key_id, group_key, may_send })
        }
        PoolState::Predeposited => {
            let key_id = pool.key_id?;
            if let Some(proof) = plan_proof(view, pool_id, key_id) {
                return Some(proof);
            }
            let group_key = live_group_key(view, key_id)?;
            // With 0x00 credentials the contract waits for a change of them as well.
            let changed = pool.withdrawal.as_ref().is_none_or(Withdrawal::is_shown);
            let due = clock.timestamp >= pool.deadline && changed && deposits_are_known(view, pool_id, clock);
            due.then_some(Action::TopUp { pool_id, group_key })
        }
        PoolState::None | PoolState::Open | PoolState::Active | PoolState::Cancelled => None,
    }
}

/// A key that signed a deposit nobody ordered is burned before anything else happens to its pool: every step forward would
/// send ether to a validator whose first deposit, and with it the credentials, may be the thieves'. In a Full pool the order
/// comes first all the same, for the contract takes the proof only from KeyReady on, and an order moves no ether.
fn plan_proof(view: &View, pool_id: u64, key_id: u64) -> Option<Action> {
    let foreign = view.watch.get(&pool_id)?.foreign.clone()?;
    Some(Action::ProveForeignDeposit { pool_id, group_key: live_group_key(view, key_id)?, foreign })
}

/// Whether the deposit contract was looked through up to the head. Who deposits without having looked gives the challenge
/// window away; others can still do it.
fn deposits_are_known(view: &View, pool_id: u64, clock: &Clock) -> bool {
    view.watch.get(&pool_id).is_some_and(|watch| watch.known_before > clock.head)
}

fn live_group_key(view: &View, key_id: u64) -> Option<Bytes> {
    match &view.keys.get(&key_id)?.phase {
        KeyPhase::Live(live) => live.group_key(),
        _ => None,
    }
}

fn plan_key(view: &View, key_id: u64, clock: &Clock) -> Option<Action> {
    let key = view.keys.get(&key_id)?;
    let attempt = key.attempt;
    match &key.phase {
        KeyPhase::Requested(draw) => {
            // At the seed block itself a transaction in the next one would pass, but nodes estimate on the head, and there
            // the contract says that the seed is still to come.
            if pool_gave_up(view, key_id, clock) || clock.head <= draw.seed_block {
                return None;
            }
            // The draw runs in a block after the head at the earliest.
            if clock.head.saturating_add(1) > draw.seed_block.saturating_add(HISTORY_WINDOW) {
                return Some(Action::Restart {
                    key_id,
                    attempt,
                    members: draw.kept.clone(),
                    active_set_hash: view::active_set_hash(&draw.active_set),
                    mark: draw.seed_block,
                });
            }
            Some(Action::Draw { key_id, attempt, draw: draw.clone() })
        }
        KeyPhase::Drawn(ceremony) if clock.timestamp <= ceremony.deadline => {
            Some(Action::CarryCeremony { key_id, attempt, threshold: key.threshold, ceremony: ceremony.clone() })
        }
        KeyPhase::Drawn(ceremony) => (!pool_gave_up(view, key_id, clock)).then(|| Action::Restart {
            key_id,
            attempt,
            members: ceremony.committee.clone(),
            active_set_hash: B256::ZERO,
            mark: ceremony.deadline,
        }),
        KeyPhase::Retired { before, at, .. } => {
            plan_free_seats(view, key_id, before, clock.timestamp >= at.saturating_add(clock.evidence_window))
        }
        KeyPhase::Live(_) | KeyPhase::Ended { .. } => None,
    }
}

/// A failing ceremony restarts for ever at the relayer's cost; the pool's own deadline bounds that.
fn pool_gave_up(view: &View, key_id: u64, clock: &Clock) -> bool {
    view.pool_of_key(key_id).is_some_and(|(_, pool)| clock.timestamp >= pool.deadline)
}

fn plan_free_seats(view: &View, key_id: u64, before: &KeyPhase, window_over: bool) -> Option<Action> {
    match before {
        KeyPhase::Requested(draw) if draw.kept.is_empty() => None,
        KeyPhase::Requested(draw) => Some(Action::FreeSeatsOfUnfinished {
            key_id,
            members: draw.kept.clone(),
            active_set_hash: view::active_set_hash(&draw.active_set),
        }),
        KeyPhase::Drawn(ceremony) => Some(Action::FreeSeatsOfUnfinished {
            key_id,
            members: ceremony.committee.clone(),
            active_set_hash: B256::ZERO,
        }),
        // Of a key that was reshared the seats are those of its newest committee.
        KeyPhase::Live(_) => view.newest_committee(key_id).filter(|_| window_over).map(|newest| Action::FreeSeats {
            key_id,
            committee: newest.live.committee.clone(),
            signers: newest.live.signers.clone(),
            points: newest.live.points.clone(),
        }),
        KeyPhase::Retired { .. } | KeyPhase::Ended { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{U256, address};
    use stkr_chain::types::KeyKind;

    use super::*;
    use crate::view::{ChangeOrder, DepositOrder, Fact, LiveKey, Watch};

    const POOL: u64 = 5;
    const KEY: u64 = 9;

    fn clock(head: u64, timestamp: u64) -> Clock {
        Clock { head, timestamp, finalized: head.saturating_sub(2), evidence_window: 1_000 }
    }

    fn pool(state: PoolState) -> Pool {
        Pool {
            provider: Address::ZERO,
            threshold: 3,
            members: 4,
            vault: address!("00000000000000000000000000000000000000aa"),
            staked: U256::ZERO,
            state,
            deadline: 1_000,
            key_id: None,
            order: None,
            deposits_gwei: Vec::new(),
            proven: None,
            withdrawal: None,
        }
    }

    fn draw() -> PendingDraw {
        PendingDraw { seed_block: 20, active_set: Bytes::from(vec![0, 0, 0, 1, 0, 0, 0, 2]), kept: vec![] }
    }

    fn live() -> LiveKey {
        LiveKey {
            committee: vec![4, 2, 6, 1],
            signers: vec![Address::ZERO; 4],
            points: Bytes::from(vec![7; 5 * 128]),
            dealings_digest: B256::ZERO,
            leaves_root: B256::ZERO,
        }
    }

    /// A Full pool whose key was requested in block 10.
    fn requested() -> View {
        let mut view = View::default();
        view.apply(1, Fact::PoolOpened { pool_id: POOL, pool: pool(PoolState::Full) });
        view.apply(10, Fact::PoolKeyRequested { pool_id: POOL, key_id: KEY });
        let consumer = Address::ZERO;
        let (draw, block) = (draw(), 10);
        view.apply(
            10,
            Fact::KeyRequested {
                key_id: KEY,
                consumer,
                kind: KeyKind::Validator,
                threshold: 3,
                members: 4,
                draw,
                block,
            },
        );
        view
    }

    fn drawn() -> View {
        let mut view = requested();
        let ceremony = Ceremony { committee: vec![4, 2, 6, 1], deadline: 500, begun_in: 21 };
        view.apply(21, Fact::CommitteeDrawn { key_id: KEY, attempt: 0, ceremony });
        view
    }

    fn finalised() -> View {
        let mut view = drawn();
        view.apply(30, Fact::KeyFinalised { key_id: KEY, live: live() });
        view
    }

    fn ordered() -> View {
        let mut view = finalised();
        view.apply(31, Fact::PoolStateChanged { pool_id: POOL, state: PoolState::KeyReady, deadline: 2_000 });
        let order = DepositOrder {
            key_id: KEY,
            pubkey: Bytes::from(vec![1; 48]),
            withdrawal_credentials: B256::ZERO,
            amount_gwei: 1_000_000_000,
            signing_root: B256::repeat_byte(3),
            block: 31,
        };
        view.apply(31, Fact::DepositOrdered { pool_id: POOL, order });
        view.watch.insert(POOL, Watch { known_before: 1_000, foreign: None });
        view
    }

    fn predeposited() -> View {
        let mut view = ordered();
        view.apply(40, Fact::PoolStateChanged { pool_id: POOL, state: PoolState::Predeposited, deadline: 3_000 });
        view
    }

    fn stolen(view: &mut View) -> Action {
        let foreign = ForeignDeposit {
            withdrawal_credentials: B256::repeat_byte(0x7e),
            amount_gwei: 1_000_000_000,
            signature: Bytes::from(vec![8; 256]),
            block: 35,
            transaction: B256::repeat_byte(9),
        };
        view.watch.insert(POOL, Watch { known_before: 36, foreign: Some(foreign.clone()) });
        Action::ProveForeignDeposit { pool_id: POOL, group_key: live().group_key().unwrap(), foreign }
    }

    const WITHDRAWAL: u64 = 11;

    /// A Predeposited pool with 0x00 credentials, whose withdrawal key is Live and was ordered to change them in block 50.
    fn to_change() -> View {
        let mut view = predeposited();
        view.watch.insert(POOL, Watch { known_before: 10_000, foreign: None });
        let (draw, consumer) = (draw(), Address::ZERO);
        view.apply(
            2,
            Fact::KeyRequested {
                key_id: WITHDRAWAL,
                consumer,
                kind: KeyKind::Withdrawal,
                threshold: 3,
                members: 4,
                draw,
                block: 2,
            },
        );
        view.apply(3, Fact::KeyFinalised { key_id: WITHDRAWAL, live: live() });
        view.apply(4, Fact::WithdrawalKeyUsed { pool_id: POOL, key_id: WITHDRAWAL });
        for validator_index in [7, 8] {
            let order =
                ChangeOrder { signing_root: B256::repeat_byte(4), block: 43 + validator_index, signature: None };
            view.apply(50, Fact::ChangeOrdered { pool_id: POOL, validator_index, order });
        }
        view
    }

    fn collect(validator_index: u64) -> Action {
        let group_key = live().group_key().unwrap();
        Action::CollectChange { pool_id: POOL, key_id: WITHDRAWAL, validator_index, group_key }
    }

    #[test]
    fn a_change_of_credentials_is_collected_once_its_order_is_final_also_after_the_top_up() {
        let mut view = to_change();
        assert_eq!(plan(&view, &clock(51, 100)), vec![], "servers sign final orders only");
        assert_eq!(plan(&view, &clock(52, 100)), vec![collect(7)]);
        assert_eq!(plan(&view, &clock(53, 100)), vec![collect(7), collect(8)]);
        view.apply(60, Fact::PoolStateChanged { pool_id: POOL, state: PoolState::Active, deadline: 0 });
        assert_eq!(plan(&view, &clock(60, 100)), vec![collect(7), collect(8)]);
        view.apply(60, Fact::PoolStateChanged { pool_id: POOL, state: PoolState::Cancelled, deadline: 0 });
        assert_eq!(plan(&view, &clock(60, 100)), vec![]);
    }

    #[test]
    fn the_top_up_of_a_pool_with_a_withdrawal_key_waits_for_a_change_that_was_shown() {
        let mut view = to_change();
        assert_eq!(plan(&view, &clock(60, 3_000)), vec![collect(7), collect(8)]);
        let signature = Bytes::from(vec![9; 96]);
        view.apply(61, Fact::ChangeShown { pool_id: POOL, validator_index: 8, signature });
        let group_key = live().group_key().unwrap();
        assert_eq!(
            plan(&view, &clock(61, 3_000)),
            vec![Action::TopUp { pool_id: POOL, group_key }, collect(7)],
            "the other change is still worth its signature"
        );
        assert_eq!(view.change_of_key(WITHDRAWAL, B256::repeat_byte(4)), Some((POOL, 7)));
        assert_eq!(view.change_of_key(KEY, B256::repeat_byte(4)), None);
    }

    #[test]
    fn nothing_is_done_for_an_open_an_active_or_a_cancelled_pool() {
        for state in [PoolState::Open, PoolState::Active, PoolState::Cancelled] {
            let mut view = View::default();
            view.apply(1, Fact::PoolOpened { pool_id: POOL, pool: pool(state) });
            assert_eq!(plan(&view, &clock(50, 100)), vec![], "{state:?}");
        }
    }

    #[test]
    fn a_full_pool_without_a_key_asks_for_one() {
        let mut view = View::default();
        view.apply(1, Fact::PoolOpened { pool_id: POOL, pool: pool(PoolState::Full) });
        assert_eq!(plan(&view, &clock(50, 999)), vec![Action::RequestKey { pool_id: POOL }]);
    }

    #[test]
    fn a_full_pool_past_its_deadline_gets_no_key_because_anyone_may_cancel_it() {
        let mut view = View::default();
        view.apply(1, Fact::PoolOpened { pool_id: POOL, pool: pool(PoolState::Full) });
        assert_eq!(plan(&view, &clock(50, 1_000)), vec![]);
    }

    #[test]
    fn a_draw_waits_for_its_seed_block_and_then_happens() {
        let view = requested();
        assert_eq!(plan(&view, &clock(19, 100)), vec![]);
        assert_eq!(
            plan(&view, &clock(20, 100)),
            vec![],
            "a node estimates on the seed block, where the contract refuses"
        );
        assert_eq!(plan(&view, &clock(21, 100)), vec![Action::Draw { key_id: KEY, attempt: 0, draw: draw() }]);
    }

    #[test]
    fn a_draw_whose_seed_block_left_the_history_window_is_started_again() {
        let view = requested();
        let last = 20 + HISTORY_WINDOW - 1;
        assert!(matches!(plan(&view, &clock(last, 100))[..], [Action::Draw { .. }]));
        let actions = plan(&view, &clock(last + 1, 100));
        let [Action::Restart { members, active_set_hash, mark, .. }] = &actions[..] else { panic!("{actions:?}") };
        assert!(members.is_empty());
        assert_eq!(*active_set_hash, keccak256(&draw().active_set));
        assert_eq!(*mark, 20);
    }

    #[test]
    fn a_drawn_key_is_carried_until_its_deadline_and_then_started_again() {
        let view = drawn();
        assert!(matches!(plan(&view, &clock(40, 500))[..], [Action::CarryCeremony { key_id: KEY, .. }]));
        let actions = plan(&view, &clock(40, 501));
        let [Action::Restart { members, active_set_hash, .. }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(*members, vec![4, 2, 6, 1]);
        assert_eq!(*active_set_hash, B256::ZERO);
    }

    #[test]
    fn a_ceremony_of_a_pool_past_its_deadline_is_not_started_again_for_ever() {
        assert_eq!(plan(&drawn(), &clock(40, 1_000)), vec![]);
        assert_eq!(plan(&requested(), &clock(40, 1_000)), vec![]);
    }

    #[test]
    fn a_restart_with_the_same_committee_is_carried_as_a_new_attempt() {
        let mut view = drawn();
        let kept = vec![4, 2, 6, 1];
        view.apply(50, Fact::CeremonyRestarted { key_id: KEY, attempt: 1, kept, draw: None, deadline: 900, block: 50 });
        let actions = plan(&view, &clock(51, 600));
        let [Action::CarryCeremony { attempt: 1, ceremony, .. }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(ceremony.deadline, 900);
    }

    #[test]
    fn a_restart_with_replaced_members_draws_again_with_those_that_stay() {
        let mut view = drawn();
        let again = PendingDraw { seed_block: 60, active_set: Bytes::from(vec![0, 0, 0, 9]), kept: vec![4, 2] };
        let fact = Fact::CeremonyRestarted {
            key_id: KEY,
            attempt: 1,
            kept: vec![4, 2],
            draw: Some(again.clone()),
            deadline: 0,
            block: 60,
        };
        view.apply(50, fact);
        assert_eq!(plan(&view, &clock(60, 600)), vec![]);
        assert_eq!(plan(&view, &clock(61, 600)), vec![Action::Draw { key_id: KEY, attempt: 1, draw: again }]);
    }

    #[test]
    fn a_live_key_orders_the_deposit_with_the_last_point_as_group_key() {
        let actions = plan(&finalised(), &clock(31, 400));
        let [Action::OrderDeposit { pool_id: POOL, group_key }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(group_key.len(), 128);
    }

    #[test]
    fn a_signature_is_collected_only_once_the_order_is_finalised() {
        let view = ordered();
        assert_eq!(plan(&view, &Clock { finalized: 30, ..clock(33, 400) }), vec![]);
        let actions = plan(&view, &Clock { finalized: 31, ..clock(33, 400) });
        assert!(matches!(actions[..], [Action::CollectDeposit { pool_id: POOL, key_id: KEY, .. }]));
    }

    #[test]
    fn the_top_up_waits_for_the_challenge_window() {
        let view = predeposited();
        assert_eq!(plan(&view, &clock(50, 2_999)), vec![]);
        assert!(matches!(plan(&view, &clock(50, 3_000))[..], [Action::TopUp { pool_id: POOL, .. }]));
    }

    #[test]
    fn a_foreign_deposit_is_proven_instead_of_the_predeposit_and_before_the_order_is_final() {
        let mut view = ordered();
        let proof = stolen(&mut view);
        assert_eq!(proof.step(), "prove_foreign_deposit/5");
        assert_eq!(plan(&view, &clock(33, 400)), vec![proof.clone()]);
        assert_eq!(plan(&view, &Clock { finalized: 30, ..clock(33, 400) }), vec![proof]);
    }

    #[test]
    fn a_foreign_deposit_is_proven_in_the_window_and_wins_over_the_top_up_after_it() {
        let mut view = predeposited();
        let proof = stolen(&mut view);
        for timestamp in [400, 2_999, 3_000, 1_000_000] {
            assert_eq!(plan(&view, &clock(50, timestamp)), vec![proof.clone()], "{timestamp}");
        }
        view.apply(60, Fact::PoolStateChanged { pool_id: POOL, state: PoolState::Cancelled, deadline: 0 });
        view.apply(60, Fact::KeyRetired { key_id: KEY, burned: true });
        assert_eq!(plan(&view, &clock(61, 1_000)), vec![], "done");
    }

    #[test]
    fn nothing_is_deposited_for_a_key_whose_deposits_are_not_known_up_to_the_head() {
        let mut view = predeposited();
        view.watch.insert(POOL, Watch { known_before: 50, foreign: None });
        assert_eq!(plan(&view, &clock(50, 3_000)), vec![], "block 50 was not looked at");
        assert!(matches!(plan(&view, &clock(49, 3_000))[..], [Action::TopUp { .. }]));
        view.watch.clear();
        assert_eq!(plan(&view, &clock(49, 3_000)), vec![]);
        let mut view = ordered();
        let may_send = |view: &View| match plan(view, &clock(50, 400))[..] {
            [Action::CollectDeposit { may_send, .. }] => may_send,
            _ => panic!("a signature is collected all the same"),
        };
        assert!(may_send(&view));
        view.watch.insert(POOL, Watch { known_before: 50, foreign: None });
        assert!(!may_send(&view));
    }

    #[test]
    fn a_burned_key_deposits_nothing_and_frees_its_seats_after_the_evidence_window() {
        let mut view = ordered();
        view.apply(2_000, Fact::KeyRetired { key_id: KEY, burned: true });
        assert_eq!(plan(&view, &clock(50, 2_999)), vec![], "evidence may still come");
        let actions = plan(&view, &clock(50, 3_000));
        assert!(matches!(actions[..], [Action::FreeSeats { key_id: KEY, .. }]), "{actions:?}");
        view.apply(60, Fact::SeatsFreed { key_id: KEY });
        assert_eq!(plan(&view, &clock(61, 3_000)), vec![]);
        assert_eq!(view.keys[&KEY].phase, KeyPhase::Ended { burned: true });
    }

    #[test]
    fn a_dealt_key_needs_nothing_of_a_relayer_until_its_seats_can_be_freed() {
        let mut view = View::default();
        view.apply(10, Fact::DealtKeyImported { key_id: KEY, threshold: 3, block: 10 });
        view.apply(10, Fact::KeyFinalised { key_id: KEY, live: live() });
        assert_eq!(plan(&view, &clock(50, 1_000)), vec![]);
        view.apply(2_000, Fact::KeyRetired { key_id: KEY, burned: false });
        assert_eq!(plan(&view, &clock(50, 2_999)), vec![], "evidence may still come");
        let actions = plan(&view, &clock(50, 3_000));
        assert!(matches!(actions[..], [Action::FreeSeats { key_id: KEY, .. }]), "{actions:?}");
    }

    #[test]
    fn seats_of_a_key_that_never_lived_are_freed_with_what_the_registry_committed_to() {
        let mut view = drawn();
        view.apply(40, Fact::KeyRetired { key_id: KEY, burned: false });
        let actions = plan(&view, &clock(50, 100));
        let [Action::FreeSeatsOfUnfinished { members, active_set_hash, .. }] = &actions[..] else { panic!() };
        assert_eq!((members.len(), *active_set_hash), (4, B256::ZERO));
        let mut never_drawn = requested();
        never_drawn.apply(40, Fact::KeyRetired { key_id: KEY, burned: false });
        assert_eq!(plan(&never_drawn, &clock(50, 100)), vec![], "nobody holds a seat");
    }

    #[test]
    fn one_step_has_one_name_and_its_transaction_another_for_every_calldata() {
        let steps = |view: &View| plan(view, &clock(40, 400)).iter().map(Action::step).collect::<Vec<_>>();
        assert_eq!(steps(&drawn()), vec!["finalise_key/9/0"]);
        assert_eq!(steps(&requested()), vec!["draw/9/0/20"]);
        assert_eq!(intent_key("draw/9/0/20", b"header"), intent_key("draw/9/0/20", b"header"));
        assert_ne!(intent_key("draw/9/0/20", b"header"), intent_key("draw/9/0/20", b"header after a reorg"));
    }

    #[test]
    fn facts_about_things_never_announced_are_ignored() {
        let mut view = View::default();
        view.apply(1, Fact::KeyFinalised { key_id: 77, live: live() });
        view.apply(1, Fact::PoolKeyRequested { pool_id: 77, key_id: 1 });
        view.apply(1, Fact::SeatsFreed { key_id: 77 });
        assert_eq!(view, View::default());
    }

    #[test]
    fn a_live_key_with_too_few_points_gives_no_action_and_no_crash() {
        let mut view = drawn();
        let live = LiveKey { points: Bytes::from(vec![1; 100]), ..live() };
        view.apply(30, Fact::KeyFinalised { key_id: KEY, live });
        assert_eq!(plan(&view, &clock(40, 400)), vec![]);
    }
}
