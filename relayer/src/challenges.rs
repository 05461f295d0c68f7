//! Challenges on the chain: what this relayer answers, proves and asks.
//!
//! Like the rest of the plan a challenge has no state here. A step is named for as long as the chain shows the challenge, so a
//! crash, a reorg, and an answer that somebody else brought first need no rules of their own:
//!
//! ```text
//! open, block <= deadline ----> answer it: ask the server, check what it says, send it
//! open, past the deadline ----> prove it: ours at once, anybody's a while later
//! a member silent for long ---> ask it on-chain, if the operator wants that
//! ```
//!
//! Members of a ceremony are asked for their acknowledgement in the same way, with a unix time in the place of a block. Whether the
//! ceremony still runs then decides who is at fault, so a question is asked only where a whole day is left.
//!
//! # Who pays for answers
//! An answer earns its sender nothing: the fee is the operator's. It always exceeds what the answer costs at the moment of the
//! challenge, and the challenge costs gas besides, so whoever tries to empty this account burns more than it takes. For servers of
//! the relayer's own operator that is bound enough, and any other would be an attack: exhaust the bound, then ask once more and
//! collect the bounty. For everybody else's servers there is a bound of gas per day. It counts answers that are there, not questions:
//! those to a server that keeps silent cost their challenger nothing that does not come back.
//!
//! # Challenges of others
//! While one is open nobody can ask again, so a silent server that challenges itself, and proves nothing, would be safe if nobody else
//! proved it. Whoever opened it, relayers prove it once the Court holds the bounty for the challenger no more (`BOUNTY_HOLD_BLOCKS`). It
//! counts in the bound of a day, before answers, but where this relayer would ask itself. Only what costs the silent one something is
//! proven, so nobody can have relayers pay for nothing.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::Address;
use stkr_chain::acknowledgements;
use stkr_chain::answers::Answer;
use stkr_chain::court::answered_in;
use stkr_chain::types::{PoolState, ServerStatus};
use stkr_protocol::evidence::Fault;

use crate::plan::{Action, Clock, intent_key};
use crate::reshares::OfKey;
use crate::view::{AcknowledgementChallenge, Asked, Ceremony, Challenge, KeyPhase, View};

/// Blocks of a day: the time in which a challenge is answered, and over which the gas of answers is bounded.
pub const DAY: u64 = 7_200;
/// Gas that an answer is taken to cost until it is in a block.
pub const ANSWER_GAS: u64 = Answer::Signature.gas();
/// The same of an answer to who is asked for an acknowledgement.
pub const ACKNOWLEDGEMENT_GAS: u64 = Answer::Acknowledgement.gas();
/// The same of a proof that somebody did not answer, for a challenger that has no fees yet.
pub const PROOF_GAS: u64 = 150_000;
/// Blocks after its last block in which a challenge is left to the one who asked, more than `ICourt.BOUNTY_HOLD_BLOCKS` (50), and those over
/// which all others spread: a proof that comes second costs gas and does nothing.
const LEFT_TO_THE_CHALLENGER: u64 = 64;
const SECONDS_PER_BLOCK: u64 = 12;
/// Questions for whose answers a server is asked at once; further ones wait for these, or for their ends.
const ASKED_AT_ONCE: usize = 8;
/// Seconds in which an acknowledgement can be given, `Acknowledgements.ANSWER_TIME`, and an hour in which to ask for it.
const TIME_TO_ASK: u64 = 25 * 3600;

/// What the operator of this relayer wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Servers whose challenges are answered at any cost.
    pub own: BTreeSet<u32>,
    /// Most gas per day for answers of all other servers, and for proofs of others' challenges.
    pub gas_per_day: u64,
    /// Blocks for which a member may be silent before it is challenged: about a deposit after its order, in a ceremony after its
    /// beginning; nothing: for ever.
    pub patience: Option<u64>,
}

/// What is known besides the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Gas of answers and proofs in the last [`DAY`], by step; what [`gas_of`] says for those under way.
    pub spent: BTreeMap<String, u64>,
    /// Members that were asked for a deposit's signature often enough and gave none: key and share index.
    pub silent: BTreeSet<(u64, u8)>,
    /// Members that were asked for their acknowledgement often enough and gave none, in ceremonies that lack nothing else.
    pub unacknowledged: BTreeSet<acknowledgements::Asked>,
    /// Steps whose answer is there and only has to be sent.
    pub in_hand: BTreeSet<String>,
}

/// Every step that challenges ask for now: answers first, the one whose time is up soonest before all others.
#[must_use]
pub fn plan(view: &View, clock: &Clock, us: Address, policy: &Policy, known: &Known) -> Vec<Action> {
    let proofs = others_proofs(view, clock, us, policy, known);
    let mut actions = plan_answers(view, clock, policy, known, &proofs);
    actions.extend(plan_proofs(view, clock, us));
    actions.extend(proofs.into_iter().map(|it| it.action));
    actions.extend(plan_questions(view, clock, policy, known));
    actions.extend(plan_ceremony_questions(view, clock, policy, known));
    actions
}

/// Open challenges that this relayer has no gas left to answer, or whose server owes too many other answers, for people.
#[must_use]
pub fn left_alone(view: &View, clock: &Clock, planned: &[Action]) -> Vec<String> {
    let planned: BTreeSet<String> = planned.iter().map(Action::step).collect();
    let open = by_urgency(view, clock).into_iter().filter(|it| !planned.contains(&it.action.step()));
    open.map(|it| {
        format!(
            "server {} ({}) is challenged to answer {}, and the gas of a day for answers of others' servers is used up, or it owes {ASKED_AT_ONCE} answers that are due before: its operator has to answer, or raise challenges.answer_gas_per_day",
            it.server_id, it.who, it.until
        )
    })
    .collect()
}

/// Gas of the answers for own servers that are due now, by step.
#[must_use]
pub fn own_answers(view: &View, clock: &Clock, policy: &Policy) -> BTreeMap<String, u64> {
    let own = by_urgency(view, clock).into_iter().filter(|it| policy.own.contains(&it.server_id));
    own.map(|it| (it.action.step(), it.gas)).collect()
}

/// What holds an answer up, for people: `notes` says, by step, why its transaction does not move.
#[must_use]
pub fn held_up(view: &View, clock: &Clock, notes: &BTreeMap<String, String>) -> Vec<String> {
    let open = by_urgency(view, clock).into_iter();
    let held = open.filter_map(|it| notes.get(&it.action.step()).map(|note| (it, note)));
    held.map(|(it, note)| {
        format!(
            "server {} ({}) loses a part of its bond if its challenge is not answered {}, and the transaction {note}",
            it.server_id, it.who, it.until
        )
    })
    .collect()
}

/// A challenge that can still be answered.
struct Open {
    action: Action,
    server_id: u32,
    /// Gas of its answer at most.
    gas: u64,
    /// Blocks that are left, a block of an acknowledgement's time for 12 seconds.
    left: u64,
    who: String,
    until: String,
}

/// Challenges that can still be answered by a transaction in the block after the head, the first to end first.
fn by_urgency(view: &View, clock: &Clock) -> Vec<Open> {
    let signatures = view.challenges.iter().filter_map(|(asked, it)| open_signature(view, clock, asked, it));
    let acknowledgements =
        view.acknowledgements.iter().filter_map(|(asked, it)| open_ceremony(view, clock, *asked, it));
    let mut open: Vec<Open> = signatures.chain(acknowledgements).collect();
    open.sort_by_cached_key(|it| (it.left, it.action.step()));
    open
}

fn open_signature(view: &View, clock: &Clock, asked: &Asked, it: &Challenge) -> Option<Open> {
    let (key, index, _) = *asked;
    let left = it.deadline.checked_sub(clock.head).filter(|left| *left > 0)?;
    // An end that came after the challenge was due excuses nobody.
    let is_owed = is_live(view, key) || epoch_that_owes(view, asked, it, clock.timestamp).is_some();
    is_owed.then(|| Open {
        action: Action::AnswerChallenge { asked: *asked, server_id: it.server_id, deadline: it.deadline },
        server_id: it.server_id,
        gas: ANSWER_GAS,
        left,
        who: format!("member {index} of key {key}"),
        until: format!("until block {}", it.deadline),
    })
}

/// Who acknowledged in time is safe once the key lives, and nobody owes an acknowledgement of a key that was given up.
fn open_ceremony(
    view: &View,
    clock: &Clock,
    asked: acknowledgements::Asked,
    it: &AcknowledgementChallenge,
) -> Option<Open> {
    let (key, attempt, index) = asked;
    let left = it.deadline.checked_sub(clock.timestamp).filter(|left| *left > 0)?;
    ceremony(view, (key, attempt)).map(|_| Open {
        action: Action::AnswerAcknowledgement { asked, server_id: it.server_id, deadline: it.deadline },
        server_id: it.server_id,
        gas: ACKNOWLEDGEMENT_GAS,
        left: left / SECONDS_PER_BLOCK,
        who: format!("member {index} of key {key}, attempt {attempt}"),
        until: format!("until unix time {}", it.deadline),
    })
}

fn plan_answers(view: &View, clock: &Clock, policy: &Policy, known: &Known, proofs: &[Proof]) -> Vec<Action> {
    let open = by_urgency(view, clock);
    let steps = open.iter().map(|it| it.action.step()).chain(proofs.iter().map(|it| it.action.step()));
    // What is planned counts where it is planned, under way or not.
    let bounded = proofs.iter().filter(|it| it.is_bounded).count();
    let mut spent = spent_but_for(known, &steps.collect()).saturating_add(PROOF_GAS.saturating_mul(bounded as u64));
    let mut asked: BTreeMap<u32, usize> = BTreeMap::new();
    let mut actions = Vec::new();
    for it in open {
        let step = it.action.step();
        if policy.own.contains(&it.server_id) {
            actions.push(it.action);
        } else if known.in_hand.contains(&step) || known.spent.contains_key(&step) {
            let with_it = spent.saturating_add(it.gas);
            if with_it <= policy.gas_per_day {
                spent = with_it;
                actions.push(it.action);
            }
        } else if spent.saturating_add(it.gas) <= policy.gas_per_day {
            // Asking the server costs no gas. If what has no answer yet counted, one server that keeps silent could be asked so
            // often that nobody's answers are sent. But an answer that could not be paid for would be asked for again and again.
            let of_server = asked.entry(it.server_id).or_default();
            *of_server += 1;
            if *of_server <= ASKED_AT_ONCE {
                actions.push(it.action);
            }
        }
    }
    actions
}

fn spent_but_for(known: &Known, steps: &BTreeSet<String>) -> u64 {
    let past = known.spent.iter().filter(|(step, _)| !steps.contains(*step)).map(|(_, gas)| *gas);
    past.fold(0, u64::saturating_add)
}

/// Of our own challenges: bounty and fee are ours, whoever proves them. One whose key was given up gives at least the fee back.
fn plan_proofs(view: &View, clock: &Clock, us: Address) -> Vec<Action> {
    let over = view.challenges.iter().filter(|(_, it)| it.challenger == us && clock.head > it.deadline);
    let signatures = over.map(|(asked, it)| Action::ProveUnanswered { asked: *asked, deadline: it.deadline });
    let over = view.acknowledgements.iter().filter(|(_, it)| it.challenger == us && clock.timestamp > it.deadline);
    let ceremonies = over.map(|(asked, it)| Action::ProveUnacknowledged { asked: *asked, deadline: it.deadline });
    signatures.chain(ceremonies).collect()
}

/// A proof that somebody else's challenge was not answered.
struct Proof {
    action: Action,
    server_id: u32,
    /// What the Court charges one of in a term.
    group: (u64, u32),
    /// Whether it counts in the gas of a day: one that stands where this relayer would ask does not.
    is_bounded: bool,
    /// Blocks since its last one, a block of an acknowledgement's time for 12 seconds.
    over_for: u64,
}

/// The ones that are due, the longest overdue first.
fn others_proofs(view: &View, clock: &Clock, us: Address, policy: &Policy, known: &Known) -> Vec<Proof> {
    let mut due: Vec<Proof> =
        silent_about_signatures(view, clock, us, known).chain(silent_in_ceremonies(view, clock, us, known)).collect();
    due.sort_by_cached_key(|it| (std::cmp::Reverse(it.over_for), it.action.step()));
    let steps = due.iter().map(|it| it.action.step()).collect();
    let (mut spent, mut charged) = (spent_but_for(known, &steps), BTreeSet::new());
    due.retain_mut(|it| {
        it.is_bounded |= policy.patience.is_none();
        let with_it = spent.saturating_add(PROOF_GAS);
        let (key, epoch) = it.group;
        let patience = LEFT_TO_THE_CHALLENGER + turn(us, key);
        let is_due = it.over_for > patience && (!it.is_bounded || with_it <= policy.gas_per_day);
        let fault = Fault::UnansweredChallenge as u8;
        if !is_due
            || view.has_nothing_left(it.server_id)
            || view.faults.of_term.contains(&(it.server_id, key, epoch, fault))
            || !charged.insert((it.server_id, key, epoch))
        {
            return false;
        }
        if it.is_bounded {
            spent = with_it;
        }
        true
    });
    due
}

/// Relayers that see the same do not all pay for it: each waits as long as its address says, another one for each key.
fn turn(us: Address, key_id: u64) -> u64 {
    u64::from(us.0[19]).wrapping_add(key_id) % LEFT_TO_THE_CHALLENGER
}

/// Void is what a committee owes no more: that costs nobody anything, and gives the challenger its fee back.
fn silent_about_signatures<'a>(
    view: &'a View,
    clock: &'a Clock,
    us: Address,
    known: &'a Known,
) -> impl Iterator<Item = Proof> + 'a {
    let over = view.challenges.iter().filter(move |(_, it)| it.challenger != us);
    over.filter_map(move |(asked, it)| {
        let (key, index, _) = *asked;
        Some(Proof {
            action: Action::ProveUnanswered { asked: *asked, deadline: it.deadline },
            server_id: it.server_id,
            group: (key, epoch_that_owes(view, asked, it, clock.timestamp)?),
            is_bounded: !known.silent.contains(&(key, index)),
            over_for: clock.head.checked_sub(it.deadline)?,
        })
    })
}

/// The committee that was asked, if its member owes the answer: as the contract says, nothing excuses it that came after the
/// challenge was due.
fn epoch_that_owes(view: &View, (key, ..): &Asked, it: &Challenge, time: u64) -> Option<u32> {
    let is_owed = match &view.keys.get(key)?.phase {
        KeyPhase::Live(_) => true,
        KeyPhase::Retired { at, before, .. } => *at > it.due && matches!(**before, KeyPhase::Live(_)),
        _ => false,
    };
    let handover = |epoch: u32| view.committee(*key, epoch).map(|of| of.handover);
    let mut epoch = 0;
    while handover(epoch + 1).is_some_and(|handover| handover <= it.asked_at) {
        epoch += 1;
    }
    let goes_on = handover(epoch + 1).is_none_or(|handover| handover > it.due || handover > time);
    (is_owed && goes_on).then_some(epoch)
}

/// A ceremony that ended with a key excuses everybody, and one that was given up in this attempt.
fn silent_in_ceremonies<'a>(
    view: &'a View,
    clock: &'a Clock,
    us: Address,
    known: &'a Known,
) -> impl Iterator<Item = Proof> + 'a {
    let over = view.acknowledgements.iter().filter(move |(_, it)| it.challenger != us);
    over.filter_map(move |(asked, it)| {
        let (key_id, attempt, _) = *asked;
        let key = view.keys.get(&key_id)?;
        let is_guilty = key.attempt > attempt || matches!(key.phase, KeyPhase::Drawn(_));
        is_guilty.then_some(())?;
        Some(Proof {
            action: Action::ProveUnacknowledged { asked: *asked, deadline: it.deadline },
            server_id: it.server_id,
            group: (key_id, 0),
            is_bounded: !known.unacknowledged.contains(asked),
            over_for: clock.timestamp.checked_sub(it.deadline)? / SECONDS_PER_BLOCK,
        })
    })
}

/// A signature that is complete needs nobody's answer any more, so only deposits that still wait make a question; and one that was
/// answered, or proven to be unanswered, is not asked again. What is overdue is proven where somebody owes it, and asked again where
/// nobody does.
fn plan_questions(view: &View, clock: &Clock, policy: &Policy, known: &Known) -> Vec<Action> {
    let Some(patience) = policy.patience else { return Vec::new() };
    let waiting = view.pools.values().filter(|pool| pool.state == PoolState::KeyReady);
    let overdue = waiting.filter_map(|pool| pool.order.as_ref()).filter(|order| {
        order.block <= clock.finalized
            && order.block.saturating_add(patience) <= clock.head
            && is_live(view, order.key_id)
    });
    let mut actions = Vec::new();
    for order in overdue {
        for (key, index) in known.silent.range((order.key_id, 0)..=(order.key_id, u8::MAX)) {
            let asked = (*key, *index, order.signing_root);
            if !was_asked(view, &asked, clock) {
                actions.push(Action::ChallengeSilent { asked });
            }
        }
    }
    actions
}

/// The contract takes no question where a member of the committee cannot finalise anyway, or where less than a day is left.
fn plan_ceremony_questions(view: &View, clock: &Clock, policy: &Policy, known: &Known) -> Vec<Action> {
    let Some(patience) = policy.patience else { return Vec::new() };
    let is_due = |(key, attempt, _): &&acknowledgements::Asked| {
        ceremony(view, (*key, *attempt)).is_some_and(|it| {
            it.begun_in.saturating_add(patience) <= clock.head
                && clock.timestamp.saturating_add(TIME_TO_ASK) <= it.deadline
                && it.committee.iter().all(|id| is_active(view, *id))
        })
    };
    let silent = known.unacknowledged.difference(&view.asked_to_acknowledge).filter(is_due);
    silent.map(|asked| Action::ChallengeUnacknowledged { asked: *asked }).collect()
}

fn is_active(view: &View, id: u32) -> bool {
    view.servers.get(&id).is_some_and(|server| server.status == ServerStatus::Active && !server.locked_out)
}

/// The ceremony of this attempt, while it is the running one.
fn ceremony(view: &View, (key_id, attempt): (u64, u16)) -> Option<&Ceremony> {
    match view.keys.get(&key_id).filter(|key| key.attempt == attempt)?.phase {
        KeyPhase::Drawn(ref ceremony) => Some(ceremony),
        _ => None,
    }
}

fn was_asked(view: &View, asked: &Asked, clock: &Clock) -> bool {
    let ((key_id, index, _), time) = (*asked, clock.timestamp);
    // The Court asks the committee whose turn it is.
    let serving = view.serving_committee(key_id, time).filter(|_| is_live(view, key_id));
    let fault = Fault::UnansweredChallenge as u8;
    let is_proven = |of: OfKey<'_>| {
        let server = of.live.committee.get(usize::from(index).checked_sub(1)?)?;
        Some(view.faults.of_term.contains(&(*server, key_id, of.epoch, fault)))
    };
    serving.and_then(is_proven).unwrap_or(true)
        || view.challenges.get(asked).is_some_and(|it| epoch_that_owes(view, asked, it, time).is_some())
        || view.answers.iter().any(|answer| answered_in(&answer.envelope) == *asked)
}

fn is_live(view: &View, key_id: u64) -> bool {
    matches!(view.keys.get(&key_id).map(|key| &key.phase), Some(KeyPhase::Live(_)))
}

/// Name of the step that answers. The same question can be asked again once it was answered, and the answer is the same to the
/// byte: the deadline tells the two apart.
#[must_use]
pub fn answer_step(asked: &Asked, deadline: u64) -> String {
    format!("{ANSWER}/{}/{deadline}", name(asked))
}

/// Name of the step that answers who is asked for an acknowledgement.
#[must_use]
pub fn acknowledge_step((key, attempt, index): acknowledgements::Asked, deadline: u64) -> String {
    format!("{ANSWER}/{ACKNOWLEDGEMENT}/{key}/{attempt}/{index}/{deadline}")
}

/// Gas that an answer or a proof under way is taken to cost, by its step.
#[must_use]
pub fn gas_of(step: &str) -> u64 {
    let mut words = step.split('/');
    match (words.next(), words.next()) {
        (Some(ANSWER), Some(ACKNOWLEDGEMENT)) => ACKNOWLEDGEMENT_GAS,
        (Some(ANSWER), _) => ANSWER_GAS,
        _ => PROOF_GAS,
    }
}

/// Second word of [`acknowledge_step`], where [`answer_step`] has a key.
const ACKNOWLEDGEMENT: &str = "acknowledgement";

/// First word of [`answer_step`] and [`acknowledge_step`].
pub const ANSWER: &str = "answer_challenge";
/// First words of the steps that prove that there was no answer.
pub const PROOFS: [&str; 2] = ["prove_unanswered", "prove_unacknowledged"];

/// Key, index and the whole root: whoever may order changes for any index finds two roots that begin alike, and what is sent for
/// one must not stand for the other.
#[must_use]
pub fn name((key_id, index, root): &Asked) -> String {
    format!("{key_id}/{index}/{}", hex::encode(root))
}

/// Name of a transaction of `action` as it was when its step was named by eight bytes of the root, and as it is now; nothing of steps
/// that have no root. Two questions could have one name then; the calldata tells whose a transaction was.
#[must_use]
pub fn renamed(action: &Action, calldata: &[u8]) -> Option<(String, String)> {
    let (Action::AnswerChallenge { asked, .. }
    | Action::ProveUnanswered { asked, .. }
    | Action::ChallengeSilent { asked }) = action
    else {
        return None;
    };
    let (now, root) = (action.step(), hex::encode(asked.2));
    let before = now.replacen(&root, &root[..16], 1);
    Some((intent_key(&before, calldata), intent_key(&now, calldata)))
}

/// How many challenges are open, by server; a server without one is not in it.
#[must_use]
pub fn open_by_server(view: &View) -> BTreeMap<u32, usize> {
    let mut count = BTreeMap::new();
    let servers = view.challenges.values().map(|it| it.server_id);
    for server in servers.chain(view.acknowledgements.values().map(|it| it.server_id)) {
        *count.entry(server).or_default() += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{B256, Bytes, U256};
    use stkr_chain::bindings::Resharing::Draft;
    use stkr_chain::court::{challenge_id, unanswered};
    use stkr_chain::types::KeyKind;
    use stkr_core::ShareIndex;
    use stkr_protocol::evidence::SignedEnvelope;
    use stkr_protocol::reshare::ReshareId;

    use super::*;
    use crate::reshares::{self, ReshareFact};
    use crate::view::{DepositOrder, Fact, GivenAnswer, LiveKey, PendingDraw, Pool, Server, Shown};

    const US: Address = Address::repeat_byte(0xaa);
    const STRANGER: Address = Address::repeat_byte(0xbb);
    const KEY: u64 = 9;
    const POOL: u64 = 5;
    const ROOT: B256 = B256::repeat_byte(3);
    const DEADLINE: u64 = 8_000;
    const SHOWN: Shown = Shown { reporter: US, transaction: B256::ZERO, block: 50 };

    fn clock(head: u64) -> Clock {
        Clock { head, finalized: head.saturating_sub(2), ..Clock::default() }
    }

    /// A live key of servers 4, 2, 6 and 1, whose deposit was ordered in block 31.
    fn ordered() -> View {
        let mut view = View::default();
        let pool = Pool {
            provider: Address::ZERO,
            threshold: 3,
            members: 4,
            vault: Address::ZERO,
            staked: U256::ZERO,
            state: PoolState::KeyReady,
            deadline: 100_000,
            key_id: Some(KEY),
            order: None,
            deposits_gwei: Vec::new(),
            proven: None,
            withdrawal: None,
        };
        view.apply(1, Fact::PoolOpened { pool_id: POOL, pool });
        let draw = PendingDraw { seed_block: 20, active_set: Bytes::new(), kept: Vec::new() };
        let consumer = Address::ZERO;
        view.apply(
            10,
            Fact::KeyRequested {
                key_id: KEY,
                consumer,
                kind: KeyKind::Validator,
                threshold: 3,
                members: 4,
                draw,
                block: 10,
            },
        );
        let live = LiveKey {
            committee: vec![4, 2, 6, 1],
            signers: vec![Address::ZERO; 4],
            points: Bytes::from(vec![7; 5 * 128]),
            dealings_digest: B256::ZERO,
            leaves_root: B256::ZERO,
        };
        view.apply(30, Fact::KeyFinalised { key_id: KEY, live });
        let order = DepositOrder {
            key_id: KEY,
            pubkey: Bytes::from(vec![1; 48]),
            withdrawal_credentials: B256::ZERO,
            amount_gwei: 1_000_000_000,
            signing_root: ROOT,
            block: 31,
        };
        view.apply(31, Fact::DepositOrdered { pool_id: POOL, order });
        view
    }

    fn challenged(index: u8, server_id: u32, challenger: Address, deadline: u64) -> Fact {
        let (asked_at, due) = (40, 40 + 12 * DAY);
        let challenge = Challenge { server_id, challenger, deadline, asked_at, due, fee: U256::from(1) };
        Fact::Challenged { asked: (KEY, index, ROOT), challenge }
    }

    fn answered(index: u8) -> Fact {
        let envelope = SignedEnvelope {
            key_id: KEY,
            committee_epoch: 0,
            index: ShareIndex::new(index).unwrap(),
            duty_kind: 1,
            slot: 0,
            source_epoch: 0,
            target_epoch: 0,
            signing_root: ROOT,
            partial_hash: B256::ZERO,
            signature: [7; 65],
        };
        Fact::Answered(GivenAnswer { envelope, partial: Bytes::from(vec![8; 256]) })
    }

    fn answer(index: u8, server_id: u32, deadline: u64) -> Action {
        Action::AnswerChallenge { asked: (KEY, index, ROOT), server_id, deadline }
    }

    fn generous() -> Policy {
        Policy { gas_per_day: 100 * ANSWER_GAS, ..Policy::default() }
    }

    /// With every answer in hand.
    fn planned(view: &View, head: u64, policy: &Policy) -> Vec<Action> {
        plan(view, &clock(head), US, policy, &all_in_hand(view, head))
    }

    fn all_in_hand(view: &View, head: u64) -> Known {
        let in_hand = by_urgency(view, &clock(head)).into_iter().map(|it| it.action.step()).collect();
        Known { in_hand, ..Known::default() }
    }

    #[test]
    fn a_challenge_is_answered_until_its_last_block_and_whoever_answers_ends_it() {
        let mut view = ordered();
        view.apply(40, challenged(2, 2, STRANGER, DEADLINE));
        assert_eq!(planned(&view, 800, &generous()), [answer(2, 2, DEADLINE)]);
        assert_eq!(planned(&view, DEADLINE - 1, &generous()), [answer(2, 2, DEADLINE)]);
        assert_eq!(planned(&view, DEADLINE, &generous()), [], "the next block is one too late");
        view.apply(50, answered(2));
        assert_eq!(planned(&view, 800, &generous()), []);
        assert_eq!(view.answers.len(), 1);
        // The same question again is another step.
        view.apply(60, challenged(2, 2, STRANGER, DEADLINE + 9));
        let steps: Vec<String> = planned(&view, 900, &generous()).iter().map(Action::step).collect();
        assert_eq!(steps, [format!("answer_challenge/9/2/{}/8009", hex::encode(ROOT))]);
    }

    /// The same question as [`challenged`], for a root that begins as [`ROOT`] does.
    fn challenged_alike(index: u8, server_id: u32, challenger: Address, deadline: u64) -> (Asked, Fact) {
        let Fact::Challenged { asked: (key, index, mut root), challenge } =
            challenged(index, server_id, challenger, deadline)
        else {
            unreachable!("it is a challenge");
        };
        root.0[8] ^= 1;
        ((key, index, root), Fact::Challenged { asked: (key, index, root), challenge })
    }

    #[test]
    fn of_two_questions_whose_roots_begin_alike_each_is_answered_asked_and_proven() {
        let (mut view, policy) = (ordered(), generous());
        let (other, also) = challenged_alike(2, 2, US, DEADLINE);
        view.apply(40, challenged(2, 2, US, DEADLINE));
        view.apply(40, also);
        for (head, count) in [(800, 2), (DEADLINE + 1, 2)] {
            let actions = planned(&view, head, &policy);
            let steps: BTreeSet<String> = actions.iter().map(Action::step).collect();
            assert_eq!((actions.len(), steps.len()), (count, count), "{steps:?}");
        }
        let asks = [(KEY, 2, ROOT), other].map(|asked| Action::ChallengeSilent { asked }.step());
        assert_ne!(asks[0], asks[1]);
        // What was left alone is told of each.
        let none = Policy { gas_per_day: ANSWER_GAS, ..policy };
        let planned = planned(&view, 800, &none);
        assert_eq!((planned.len(), left_alone(&view, &clock(800), &planned).len()), (1, 1));
    }

    #[test]
    fn transactions_under_way_are_found_under_the_names_that_their_questions_had() {
        let asked = (KEY, 2, ROOT);
        let answer = answer(2, 2, DEADLINE);
        let before = format!("answer_challenge/9/2/{}/8000", "03".repeat(8));
        let names = (intent_key(&before, &[1]), intent_key(&answer.step(), &[1]));
        assert_eq!(renamed(&answer, &[1]), Some(names));
        let prove = Action::ProveUnanswered { asked, deadline: DEADLINE };
        let ask = Action::ChallengeSilent { asked };
        for action in [answer, prove, ask] {
            let (before, now) = renamed(&action, &[1]).unwrap();
            assert!(now.starts_with(&format!("{}/", action.step())), "{now}");
            assert_eq!(before, now.replace(&"03".repeat(32), &"03".repeat(8)));
        }
        assert_eq!(renamed(&acknowledge(2, 2, 7), &[1]), None, "it has no root");
    }

    #[test]
    fn nothing_is_answered_or_asked_for_a_key_that_was_given_up() {
        let mut view = ordered();
        view.apply(40, challenged(2, 2, US, DEADLINE));
        view.apply(41, Fact::KeyRetired { key_id: KEY, burned: false });
        let policy = Policy { patience: Some(1), ..generous() };
        let known = Known { silent: [(KEY, 3)].into(), ..Known::default() };
        assert_eq!(plan(&view, &clock(800), US, &policy, &known), []);
        // The fee comes back with the proof.
        let prove = Action::ProveUnanswered { asked: (KEY, 2, ROOT), deadline: DEADLINE };
        assert_eq!(planned(&view, DEADLINE + 1, &policy), [prove]);
        view.apply(50, Fact::ChallengeVoid { asked: (KEY, 2, ROOT) });
        assert_eq!(planned(&view, DEADLINE + 1, &policy), []);
    }

    #[test]
    fn a_key_that_is_given_up_after_a_challenge_was_due_is_answered_for_to_the_last_block() {
        let question = challenged(2, 2, STRANGER, DEADLINE);
        let Fact::Challenged { challenge: Challenge { due, .. }, .. } = question else { unreachable!("it is one") };
        for (end, owed) in [(due, false), (due + 1, true)] {
            let mut view = ordered();
            view.apply(40, question.clone());
            view.apply(end, Fact::KeyRetired { key_id: KEY, burned: false });
            let clock = Clock { timestamp: due + 2, ..clock(DEADLINE - 1) };
            let actions = plan(&view, &clock, US, &generous(), &Known::default());
            assert_eq!(actions, Vec::from_iter(owed.then(|| answer(2, 2, DEADLINE))));
        }
    }

    #[test]
    fn a_challenger_cannot_empty_the_gas_account_with_others_servers_nor_silence_our_own() {
        let mut view = ordered();
        for (index, server) in [(1, 4), (2, 2), (3, 6), (4, 1)] {
            view.apply(40, challenged(index, server, STRANGER, DEADLINE - u64::from(index)));
        }
        let policy = Policy { own: [4].into(), gas_per_day: 2 * ANSWER_GAS, patience: None };
        let urgent = [answer(4, 1, DEADLINE - 4), answer(3, 6, DEADLINE - 3), answer(1, 4, DEADLINE - 1)];
        assert_eq!(planned(&view, 800, &policy), urgent, "two of the others, the most urgent first, and all of ours");
        let told = left_alone(&view, &clock(800), &urgent);
        assert!(told.len() == 1 && told[0].starts_with("server 2 (member 2 of key 9)"), "{told:?}");
        // One under way is not counted twice, one of this day is.
        let under_way = answer_step(&(KEY, 4, ROOT), DEADLINE - 4);
        let mut known = Known { spent: [(under_way, ANSWER_GAS)].into(), ..all_in_hand(&view, 800) };
        assert_eq!(plan(&view, &clock(800), US, &policy, &known), urgent);
        known.spent.insert("answer_challenge/8/1/00/700".to_owned(), 76_000);
        let rest = [answer(4, 1, DEADLINE - 4), answer(1, 4, DEADLINE - 1)];
        assert_eq!(plan(&view, &clock(800), US, &policy, &known), rest);
    }

    #[test]
    fn a_server_that_keeps_silent_takes_nothing_of_the_gas_of_those_that_answer() {
        let mut view = ordered();
        // A stopped server is asked about as much as a whole day's gas would answer, all of it due before the honest one's.
        for number in 0..40 {
            let Fact::Challenged { asked: (key, index, mut root), challenge } =
                challenged(2, 2, STRANGER, DEADLINE - 100 + number)
            else {
                unreachable!("it is a challenge");
            };
            root.0[0] ^= u8::try_from(number).unwrap();
            view.apply(40, Fact::Challenged { asked: (key, index, root), challenge });
        }
        view.apply(41, challenged(3, 6, STRANGER, DEADLINE));
        let policy = Policy { gas_per_day: 2 * ANSWER_GAS, ..Policy::default() };
        let honest = answer(3, 6, DEADLINE);
        let known = Known { in_hand: [honest.step()].into(), ..Known::default() };
        let actions = plan(&view, &clock(800), US, &policy, &known);
        assert_eq!(actions.len(), ASKED_AT_ONCE + 1, "the first of the silent one are asked for");
        assert!(actions.contains(&honest));
        assert_eq!(left_alone(&view, &clock(800), &actions).len(), 40 - ASKED_AT_ONCE);
        // Who answers nothing for others asks for nothing, and neither does who has spent the gas of the day.
        let none = Policy::default();
        assert_eq!(plan(&view, &clock(800), US, &none, &Known::default()), []);
        let spent = [("answer_challenge/8/1/00/700".to_owned(), ANSWER_GAS + 1)].into();
        assert_eq!(plan(&view, &clock(800), US, &policy, &Known { spent, ..Known::default() }), []);
    }

    #[test]
    fn our_own_challenge_is_proven_right_after_its_last_block_and_a_strangers_is_left_to_the_stranger_at_first() {
        let mut view = ordered();
        view.apply(40, challenged(2, 2, US, DEADLINE));
        view.apply(40, challenged(3, 6, STRANGER, DEADLINE));
        assert_eq!(planned(&view, DEADLINE, &generous()), [], "nodes try a transaction on the head");
        let prove = Action::ProveUnanswered { asked: (KEY, 2, ROOT), deadline: DEADLINE };
        assert_eq!(planned(&view, DEADLINE + 1, &generous()), [prove]);
        let evidence = unanswered(challenge_id(KEY, 2, ROOT), DEADLINE);
        let fault = Fault::UnansweredChallenge as u8;
        let upheld = Fact::FaultUpheld {
            fault,
            server_id: 2,
            key_id: KEY,
            committee_epoch: 0,
            evidence,
            shown: SHOWN,
            charged: true,
        };
        view.apply(50, upheld);
        assert_eq!(planned(&view, DEADLINE + 1, &generous()), []);
        assert_eq!(open_by_server(&view), [(6, 1)].into());
    }

    /// First block in which this relayer proves what others asked about [`KEY`].
    fn our_turn() -> u64 {
        DEADLINE + LEFT_TO_THE_CHALLENGER + turn(US, KEY) + 1
    }

    fn prove(index: u8) -> Action {
        Action::ProveUnanswered { asked: (KEY, index, ROOT), deadline: DEADLINE }
    }

    #[test]
    fn who_challenges_itself_and_proves_nothing_is_proven_by_others() {
        let mut view = ordered();
        view.apply(40, challenged(2, 2, STRANGER, DEADLINE));
        assert_eq!(planned(&view, our_turn() - 1, &generous()), [], "it is the challenger's, and others' after that");
        assert_eq!(planned(&view, our_turn(), &generous()), [prove(2)]);
        assert_eq!(planned(&view, our_turn() + 9 * DAY, &generous()), [prove(2)], "it is never too late");
        let none = Policy { gas_per_day: PROOF_GAS - 1, ..Policy::default() };
        assert_eq!(planned(&view, our_turn(), &none), [], "a relayer that pays nothing for others");
        // Nor may it be a shield against a relayer that would ask, were the question not taken.
        let asks = Policy { patience: Some(300), ..none };
        let known = Known { silent: [(KEY, 2)].into(), ..Known::default() };
        let clock = clock(our_turn());
        assert_eq!(plan(&view, &clock, US, &asks, &known), [prove(2)]);
        assert_eq!(plan(&view, &clock, US, &asks, &Known::default()), []);
        let turns: BTreeSet<u64> = (0..=u8::MAX).map(|byte| turn(Address::repeat_byte(byte), KEY)).collect();
        assert_eq!(turns.len() as u64, LEFT_TO_THE_CHALLENGER, "relayers do not all come at once");
    }

    #[test]
    fn proofs_for_others_count_in_the_gas_of_a_day_before_the_answers_and_one_of_a_server_is_enough() {
        let mut view = ordered();
        for (index, server) in [(1, 4), (2, 2)] {
            view.apply(40, challenged(index, server, STRANGER, DEADLINE));
        }
        let (other, also) = challenged_alike(2, 2, STRANGER, DEADLINE - 9);
        view.apply(40, also);
        view.apply(50, challenged(3, 6, STRANGER, our_turn() + 7));
        let policy = |gas_per_day| Policy { gas_per_day, ..Policy::default() };
        let oldest = Action::ProveUnanswered { asked: other, deadline: DEADLINE - 9 };
        let rest = [answer(3, 6, our_turn() + 7), oldest.clone(), prove(1)];
        let all = 2 * PROOF_GAS + ANSWER_GAS;
        assert_eq!(planned(&view, our_turn(), &policy(all)), rest);
        assert_eq!(planned(&view, our_turn(), &policy(2 * all)), rest, "server 2 pays for one of its two");
        assert_eq!(planned(&view, our_turn(), &policy(all - 1)), rest[1..]);
        assert_eq!(planned(&view, our_turn(), &policy(2 * PROOF_GAS - 1)), [rest[0].clone(), oldest.clone()]);
        // What is under way is not counted twice, what others of this day cost is.
        let (under_way, past) = (oldest.step(), format!("{}/1/1/00/7", PROOFS[0]));
        assert_eq!(gas_of(&under_way), PROOF_GAS);
        let mut known = Known { spent: [(under_way, PROOF_GAS)].into(), ..all_in_hand(&view, our_turn()) };
        assert_eq!(plan(&view, &clock(our_turn()), US, &policy(all), &known), rest);
        known.spent.insert(past, 1);
        assert_eq!(plan(&view, &clock(our_turn()), US, &policy(all), &known), rest[1..]);
        // Charged in this term, it pays for no other.
        let evidence = unanswered(challenge_id(KEY, 2, other.2), DEADLINE - 9);
        let (fault, shown) = (Fault::UnansweredChallenge as u8, SHOWN);
        let (server_id, key_id, committee_epoch, charged) = (2, KEY, 0, true);
        view.apply(60, Fact::FaultUpheld { fault, server_id, key_id, committee_epoch, evidence, shown, charged });
        assert_eq!(planned(&view, our_turn(), &policy(all)), [rest[0].clone(), prove(1)]);
    }

    /// The key of [`ordered`] goes to servers 4, 2, 6 and 1 in another order.
    fn reshared(view: &mut View, handover: u64) {
        let id = ReshareId { key_id: KEY, committee_epoch: 1, attempt: 0 };
        let draft = Draft { seats: vec![2, 4, 6, 1], fresh: 0, dealers: 3, activeSetHash: B256::ZERO };
        let stage = reshares::Stage::Drawn { deadline: 4, handover, begun_in: 2 };
        let live = LiveKey {
            committee: vec![2, 4, 6, 1],
            signers: vec![Address::ZERO; 4],
            points: Bytes::from(vec![7; 5 * 128]),
            dealings_digest: B256::ZERO,
            leaves_root: B256::ZERO,
        };
        let moved = ReshareFact::Moved { id, threshold: Some(3), draft, stage };
        for fact in [moved, ReshareFact::Made { id, live, handover }] {
            view.apply(45, Fact::Reshare { key_id: KEY, fact });
        }
    }

    #[test]
    fn what_others_asked_is_proven_if_nothing_excused_the_silent_one_before_it_was_due() {
        let mut view = ordered();
        view.apply(40, challenged(1, 4, STRANGER, DEADLINE));
        let due = 40 + 12 * DAY;
        let later = Clock { timestamp: due + 999, ..clock(our_turn()) };
        let planned = |view: &View| plan(view, &later, US, &generous(), &Known::default());
        for (time, expected) in [(due, vec![]), (due + 1, vec![prove(1)])] {
            let mut retired = view.clone();
            retired.apply(time, Fact::KeyRetired { key_id: KEY, burned: false });
            assert_eq!(planned(&retired), expected, "given up at {time}");
            let mut handed_over = view.clone();
            reshared(&mut handed_over, time);
            assert_eq!(planned(&handed_over), expected, "handed over at {time}");
        }
        // What the older committee owes no more does not keep anybody from asking the one who serves.
        reshared(&mut view, due);
        let known = Known { silent: [(KEY, 1)].into(), ..Known::default() };
        let policy = Policy { patience: Some(300), ..generous() };
        let ask = [Action::ChallengeSilent { asked: (KEY, 1, ROOT) }];
        assert_eq!(plan(&view, &later, US, &policy, &known), ask);
    }

    #[test]
    fn a_silent_member_is_asked_once_and_only_if_the_operator_wants_it() {
        let mut view = ordered();
        let known = Known { silent: [(KEY, 2), (KEY + 1, 3)].into(), ..Known::default() };
        let questions = |view: &View, head, policy: &Policy| {
            let mut actions = plan(view, &clock(head), US, policy, &known);
            actions.retain(|action| matches!(action, Action::ChallengeSilent { .. }));
            actions
        };
        let policy = Policy { patience: Some(300), ..generous() };
        let ask = [Action::ChallengeSilent { asked: (KEY, 2, ROOT) }];
        assert_eq!(questions(&view, 400, &generous()), [], "no relayer asks by itself");
        assert_eq!(questions(&view, 330, &policy), [], "it has time");
        assert_eq!(questions(&view, 331, &policy), ask);
        view.apply(40, challenged(2, 2, US, DEADLINE));
        assert_eq!(questions(&view, 331, &policy), []);
        let mut punished = view.clone();
        let evidence = unanswered(challenge_id(KEY, 2, ROOT), DEADLINE);
        let fault = Fault::UnansweredChallenge as u8;
        let upheld = Fact::FaultUpheld {
            fault,
            server_id: 2,
            key_id: KEY,
            committee_epoch: 0,
            evidence,
            shown: SHOWN,
            charged: true,
        };
        punished.apply(50, upheld);
        assert_eq!(questions(&punished, 9_000, &policy), [], "a second proof of it would only be recorded");
        view.apply(50, answered(2));
        assert_eq!(questions(&view, 9_000, &policy), []);
        // A deposit that went out needs nobody's answer.
        let mut sent = ordered();
        sent.apply(60, Fact::PoolStateChanged { pool_id: POOL, state: PoolState::Predeposited, deadline: 9 });
        assert_eq!(questions(&sent, 9_000, &policy), []);
    }

    const DAY_SECONDS: u64 = 86_400;
    /// End of the ceremony of [`drawn`], which began in block 30.
    const END: u64 = 1_000_000;

    /// A key that servers 4, 2, 6 and 1 are making, in its third attempt.
    fn drawn() -> View {
        let mut view = View::default();
        for (id, digit) in (1..).zip(1..=6) {
            let server = Server { signer: Address::repeat_byte(digit), ..Server::active("") };
            view.apply(1, Fact::ServerRegistered { id, server });
        }
        let draw = PendingDraw { seed_block: 20, active_set: Bytes::new(), kept: Vec::new() };
        let consumer = Address::ZERO;
        view.apply(
            10,
            Fact::KeyRequested {
                key_id: KEY,
                consumer,
                kind: KeyKind::Validator,
                threshold: 3,
                members: 4,
                draw,
                block: 10,
            },
        );
        let ceremony = Ceremony { committee: vec![4, 2, 6, 1], deadline: END, begun_in: 30 };
        view.apply(30, Fact::CommitteeDrawn { key_id: KEY, attempt: 2, ceremony });
        view
    }

    fn asked(index: u8, server_id: u32, challenger: Address, deadline: u64) -> Fact {
        let (acknowledgement, dealings) = (B256::repeat_byte(1), Vec::new().into());
        let challenge = AcknowledgementChallenge { server_id, challenger, deadline, acknowledgement, dealings };
        Fact::AcknowledgementChallenged { asked: (KEY, 2, index), challenge }
    }

    fn acknowledge(index: u8, server_id: u32, deadline: u64) -> Action {
        Action::AnswerAcknowledgement { asked: (KEY, 2, index), server_id, deadline }
    }

    fn at(head: u64, timestamp: u64) -> Clock {
        Clock { head, timestamp, ..Clock::default() }
    }

    #[test]
    fn who_is_asked_to_acknowledge_is_answered_for_while_the_ceremony_runs_and_time_is_left() {
        let mut view = drawn();
        view.apply(40, asked(2, 2, STRANGER, 900_000));
        let planned = |view: &View, timestamp| plan(view, &at(50, timestamp), US, &generous(), &Known::default());
        assert_eq!(planned(&view, 40), [acknowledge(2, 2, 900_000)]);
        assert_eq!(planned(&view, 899_999), [acknowledge(2, 2, 900_000)]);
        assert_eq!(planned(&view, 900_000), [], "the next block is later");
        assert_eq!(planned(&view, 900_001), [], "and the proof is the stranger's");
        assert_eq!(planned(&view, 40)[0].step(), "answer_challenge/acknowledgement/9/2/2/900000");
        assert_eq!(open_by_server(&view), [(2, 1)].into());
        // Once the key lives or is given up nobody owes anything.
        for end in [Fact::KeyRetired { key_id: KEY, burned: false }, restart(3)] {
            let mut over = view.clone();
            over.apply(50, end);
            assert_eq!(planned(&over, 40), []);
        }
        view.apply(60, Fact::AcknowledgementChallengeEnded { asked: (KEY, 2, 2), signature: None });
        assert_eq!((planned(&view, 40), open_by_server(&view).len()), (vec![], 0));
    }

    fn restart(attempt: u16) -> Fact {
        let (kept, block) = (vec![4, 2, 6, 1], 50);
        Fact::CeremonyRestarted { key_id: KEY, attempt, kept, draw: None, deadline: END, block }
    }

    #[test]
    fn what_challenges_and_answers_brought_is_known_as_long_as_the_ceremony_runs() {
        let mut view = drawn();
        view.apply(40, asked(2, 2, STRANGER, 900_000));
        let signature = Some([7; 65]);
        view.apply(50, Fact::AcknowledgementChallengeEnded { asked: (KEY, 2, 2), signature });
        assert_eq!(view.told[&(KEY, 2)].acknowledgements, [(2, [7; 65])].into());
        let ends = [restart(3), Fact::KeyRetired { key_id: KEY, burned: false }];
        for end in ends {
            let mut over = view.clone();
            over.apply(60, end);
            assert_eq!(over.told, BTreeMap::new());
        }
    }

    #[test]
    fn our_own_question_is_proven_when_its_time_is_over_whatever_became_of_the_ceremony() {
        let mut view = drawn();
        view.apply(40, asked(2, 2, US, 900_000));
        view.apply(40, asked(3, 6, STRANGER, 900_000));
        let planned =
            |view: &View, timestamp| plan(view, &at(50, timestamp), US, &Policy::default(), &Known::default());
        assert_eq!(planned(&view, 900_000), []);
        let prove = Action::ProveUnacknowledged { asked: (KEY, 2, 2), deadline: 900_000 };
        assert_eq!(planned(&view, 900_001), std::slice::from_ref(&prove));
        view.apply(50, restart(3));
        assert_eq!(planned(&view, 900_001), std::slice::from_ref(&prove), "a restart saves nobody");
        view.apply(60, Fact::AcknowledgementChallengeEnded { asked: (KEY, 2, 2), signature: None });
        assert_eq!(planned(&view, 900_001), []);
    }

    #[test]
    fn who_was_asked_to_acknowledge_by_others_is_proven_silent_unless_there_is_a_key_or_it_was_given_up() {
        let mut view = drawn();
        view.apply(40, asked(2, 2, STRANGER, 900_000));
        let over = at(50, 900_000 + 12 * (LEFT_TO_THE_CHALLENGER + turn(US, KEY) + 1));
        let prove = [Action::ProveUnacknowledged { asked: (KEY, 2, 2), deadline: 900_000 }];
        let planned = |view: &View, clock: Clock| plan(view, &clock, US, &generous(), &Known::default());
        assert_eq!(planned(&view, over), prove);
        assert_eq!(planned(&view, at(50, over.timestamp - 1)), []);
        assert_eq!(plan(&view, &over, US, &Policy::default(), &Known::default()), [], "nothing for others");
        let asks = Policy { patience: Some(300), ..Policy::default() };
        let known = Known { unacknowledged: [(KEY, 2, 2)].into(), ..Known::default() };
        assert_eq!(plan(&view, &over, US, &asks, &known), prove, "it would have asked");
        let mut again = view.clone();
        again.apply(50, restart(3));
        assert_eq!(planned(&again, over), prove, "a restart saves nobody");
        let live = ordered().keys[&KEY].phase.first_committee().unwrap().clone();
        for end in [Fact::KeyRetired { key_id: KEY, burned: false }, Fact::KeyFinalised { key_id: KEY, live }] {
            let mut ended = view.clone();
            ended.apply(50, end.clone());
            assert_eq!(planned(&ended, over), [], "{end:?}");
        }
    }

    #[test]
    fn answers_to_both_kinds_of_challenges_share_one_bound_and_the_most_urgent_comes_first() {
        let mut view = drawn();
        let now = 100_000;
        view.apply(now, asked(1, 4, STRANGER, now + 500));
        view.apply(now, asked(2, 2, STRANGER, now + 100));
        view.apply(now, asked(3, 6, STRANGER, now + 900));
        let mut policy = Policy { gas_per_day: ACKNOWLEDGEMENT_GAS, own: [6].into(), patience: None };
        let planned = |policy: &Policy, known: &Known| plan(&view, &at(50, now), US, policy, known);
        let urgent = [acknowledge(2, 2, now + 100), acknowledge(3, 6, now + 900)];
        let in_hand = by_urgency(&view, &at(50, now)).into_iter().map(|it| it.action.step()).collect();
        let all_there = Known { in_hand, ..Known::default() };
        assert_eq!(planned(&policy, &all_there), urgent);
        let told = left_alone(&view, &at(50, now), &urgent);
        assert!(
            told.len() == 1
                && told[0]
                    .starts_with("server 4 (member 1 of key 9, attempt 2) is challenged to answer until unix time"),
            "{told:?}"
        );
        let spent = [("answer_challenge/8/1/00/700".to_owned(), 1)].into();
        let known = Known { spent, ..all_there };
        assert_eq!(planned(&policy, &known), [acknowledge(3, 6, now + 900)]);
        policy.gas_per_day += 1;
        assert_eq!(planned(&policy, &known), urgent);
        assert_eq!(gas_of(&urgent[0].step()), ACKNOWLEDGEMENT_GAS);
        assert_eq!(gas_of(&answer_step(&(KEY, 1, ROOT), 7)), ANSWER_GAS);
    }

    #[test]
    fn a_ceremony_that_lacks_nothing_but_an_acknowledgement_is_asked_for_it_once_and_only_in_time() {
        let view = drawn();
        let known = Known { unacknowledged: [(KEY, 2, 3), (KEY, 1, 2), (KEY + 1, 2, 1)].into(), ..Known::default() };
        let policy = Policy { patience: Some(300), ..generous() };
        let planned = |view: &View, clock: Clock, policy: &Policy| {
            let mut actions = plan(view, &clock, US, policy, &known);
            actions.retain(|action| matches!(action, Action::ChallengeUnacknowledged { .. }));
            actions
        };
        let last = END - DAY_SECONDS - 3600;
        let ask = [Action::ChallengeUnacknowledged { asked: (KEY, 2, 3) }];
        assert_eq!(planned(&view, at(330, last), &policy), ask);
        assert_eq!(planned(&view, at(330, last), &generous()), [], "no relayer asks by itself");
        assert_eq!(planned(&view, at(329, last), &policy), [], "it has time");
        assert_eq!(planned(&view, at(330, last + 1), &policy), [], "an honest answer would come too late");
        let (fault, evidence) = (Fault::InvalidPartial as u8, unanswered(challenge_id(KEY, 2, ROOT), DEADLINE));
        for spoilt in [
            Fact::FaultUpheld {
                fault,
                server_id: 1,
                key_id: KEY,
                committee_epoch: 0,
                evidence,
                shown: SHOWN,
                charged: true,
            },
            Fact::StatusChanged { id: 1, status: ServerStatus::Leaving },
            asked(3, 6, STRANGER, 900_000),
            restart(3),
        ] {
            let mut other = view.clone();
            other.apply(50, spoilt.clone());
            assert_eq!(planned(&other, at(400, last), &policy), [], "{spoilt:?}");
        }
        let mut answered = view.clone();
        answered.apply(50, asked(3, 6, STRANGER, 900_000));
        answered.apply(51, Fact::AcknowledgementChallengeEnded { asked: (KEY, 2, 3), signature: None });
        assert_eq!(planned(&answered, at(400, last), &policy), [], "nobody is asked twice");
    }
}
