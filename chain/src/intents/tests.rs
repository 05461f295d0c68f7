//! Intents against a real anvil that mines only when told to.

use std::collections::BTreeMap;

use alloy::{primitives::address, sol_types::SolError};
use serde_json::json;

use super::*;
use crate::{
    bindings::KeyRegistry,
    testing::{Anvil, deployment, once_only, store},
};

const ONCE: Address = address!("0x00000000000000000000000000000000000b0001");

const OPTIONS: IntentOptions = IntentOptions {
    interval: Duration::from_millis(20),
    bump_after: 3,
    fee_cap: 500_000_000_000,
    confirm: Confirm::Finalized,
    watch_depth: 20,
    gas_margin: 25,
};

struct Net {
    anvil: Anvil,
    directory: tempfile::TempDir,
    signer: PrivateKeySigner,
}

impl Net {
    async fn start() -> Self {
        let anvil = Anvil::start(1).await;
        anvil.set_code(ONCE, once_only()).await;
        let signer = anvil.funded().await;
        anvil.mine(4).await;
        Self { anvil, directory: tempfile::tempdir().unwrap(), signer }
    }

    /// A process of the sender, on the database file `name`.
    fn process(&self, name: &str) -> Intents {
        self.process_with(name, OPTIONS, self.signer.clone())
    }

    fn process_with(&self, name: &str, options: IntentOptions, signer: PrivateKeySigner) -> Intents {
        let superseded: Superseded =
            Arc::new(|key, error| !key.starts_with("mine") && error.is::<KeyRegistry::WrongKeyState>());
        let store = store(&self.directory.path().join(name));
        Intents::new(store, vec![self.anvil.endpoint()], &deployment(), signer, options, superseded)
    }

    /// Mines block by block with a pass after each.
    async fn mine_and_drive(&self, intents: &Intents, blocks: u64) {
        for _ in 0..blocks {
            self.anvil.mine(1).await;
            intents.drive().await.unwrap();
        }
    }

    async fn nonce(&self) -> u64 {
        self.anvil.provider.get_transaction_count(self.signer.address()).await.unwrap()
    }

    async fn is_done(&self, word: u64) -> bool {
        self.anvil.provider.get_storage_at(ONCE, U256::from(word)).await.unwrap() == U256::ONE
    }

    /// Does what an intent wants to do, from another account, so that it is there first.
    async fn rival_does(&self, word: u64) {
        self.anvil.send(ONCE, call(word).data).await;
    }
}

/// The call that does `word` once.
fn call(word: u64) -> Call {
    Call { to: ONCE, value: U256::ZERO, data: U256::from(word).to_be_bytes::<32>().into(), gas_limit: None }
}

fn state(intents: &Intents, key: &str) -> IntentState {
    intents.status(key).unwrap().unwrap().state
}

#[tokio::test]
async fn an_intent_is_sent_included_and_confirmed_once() {
    let net = Net::start().await;
    let intents = net.process("a");
    assert_eq!(intents.submit("draw:1:0", &call(5)).unwrap().state, IntentState::Waiting);
    intents.drive().await.unwrap();
    assert_eq!(state(&intents, "draw:1:0"), IntentState::Pending);
    net.mine_and_drive(&intents, 1).await;
    assert_eq!(state(&intents, "draw:1:0"), IntentState::Included);
    net.mine_and_drive(&intents, 2).await;
    let status = intents.status("draw:1:0").unwrap().unwrap();
    assert_eq!((status.state, status.nonce, status.attempts.len()), (IntentState::Confirmed, Some(0), 1));
    assert!(status.gas_used.unwrap() > 21_000 && status.hash == Some(status.attempts[0]));
    // The same name again is the same intent; another call under it is a mistake.
    intents.submit("draw:1:0", &call(5)).unwrap();
    assert!(matches!(intents.submit("draw:1:0", &call(6)), Err(ChainError::DifferentIntent { .. })));
    net.mine_and_drive(&intents, 25).await;
    assert_eq!(net.nonce().await, 1);
    assert!(net.is_done(5).await);
}

#[tokio::test]
async fn a_crash_between_signing_storing_and_sending_neither_loses_nor_doubles_a_transaction() {
    for (point, blocks) in [
        (CrashPoint::BeforeStore, 0),
        (CrashPoint::BeforeSend, 0),
        (CrashPoint::AfterSend, 0),
        // The transaction is in a block before the process is back: it must know it as its own.
        (CrashPoint::AfterSend, 1),
    ] {
        let net = Net::start().await;
        let intents = net.process("a");
        intents.submit("draw", &call(5)).unwrap();
        *intents.crash.lock().unwrap() = Some(point);
        intents.drive().await.unwrap_err();
        drop(intents);
        net.anvil.mine(blocks).await;

        let intents = net.process("a");
        intents.submit("draw", &call(5)).unwrap();
        intents.drive().await.unwrap();
        net.mine_and_drive(&intents, 3).await;
        let status = intents.status("draw").unwrap().unwrap();
        assert_eq!((status.state, status.attempts.len()), (IntentState::Confirmed, 1), "{point:?}, {blocks} blocks");
        net.mine_and_drive(&intents, 3).await;
        assert_eq!(net.nonce().await, 1, "{point:?}: sent twice");
    }
}

#[tokio::test]
async fn a_withdrawn_intent_does_not_happen_whether_it_waits_or_was_sent() {
    let net = Net::start().await;
    // A base fee above the cap: it waits unsigned.
    let capped = net.process_with("waits", IntentOptions { fee_cap: 1, ..OPTIONS }, net.signer.clone());
    capped.submit("top_up/1/00", &call(5)).unwrap();
    capped.drive().await.unwrap();
    assert_eq!(state(&capped, "top_up/1/00"), IntentState::Waiting);
    assert_eq!(capped.withdraw("top_up/1").await.unwrap(), 1);
    assert_eq!(state(&capped, "top_up/1/00"), IntentState::Superseded);
    let rich = net.process("waits");
    net.mine_and_drive(&rich, 3).await;
    assert_eq!((net.nonce().await, net.is_done(5).await), (0, false), "nothing was signed");
    assert!(rich.reopen("top_up/1/00", U256::ZERO).unwrap(), "the chain may want it again");

    // In the mempool: its nonce goes to an empty transaction, without waiting until it is late.
    let intents = net.process("sent");
    for (key, word) in [("top_up/1/00", 6), ("top_up/11/00", 7)] {
        intents.submit(key, &call(word)).unwrap();
    }
    intents.drive().await.unwrap();
    assert_eq!(intents.withdraw("top_up/1").await.unwrap(), 1, "of pool 1, not of pool 11");
    assert_eq!(intents.withdraw("top_up/1").await.unwrap(), 0);
    intents.drive().await.unwrap();
    net.mine_and_drive(&intents, 4).await;
    assert_eq!((net.nonce().await, net.is_done(6).await, net.is_done(7).await), (2, false, true));
    assert_eq!(state(&intents, "top_up/1/00"), IntentState::Superseded);
    assert_eq!(state(&intents, "top_up/11/00"), IntentState::Confirmed);
    assert_eq!(intents.withdraw("top_up/11").await.unwrap(), 0, "what happened is not withdrawn");
}

/// Rows of SQLite's bytecode that `work` ran, by the hundred: what a pass costs, without a clock.
fn cost(connection: &std::sync::Mutex<rusqlite::Connection>, work: impl FnOnce()) -> usize {
    let counted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = Arc::clone(&counted);
    let count = move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        false
    };
    connection.lock().unwrap().progress_handler(100, Some(count)).unwrap();
    work();
    connection.lock().unwrap().progress_handler(0, None::<fn() -> bool>).unwrap();
    counted.load(std::sync::atomic::Ordering::Relaxed)
}

#[tokio::test]
async fn what_a_pass_and_a_page_read_does_not_grow_with_what_happened_long_ago() {
    let net = Net::start().await;
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    crate::migrate(&connection).unwrap();
    let connection = Arc::new(std::sync::Mutex::new(connection));
    let store = Store::new(connection.clone());
    let superseded: Superseded = Arc::new(|_, _| false);
    let intents =
        Intents::new(store, vec![net.anvil.endpoint()], &deployment(), net.signer.clone(), OPTIONS, superseded);
    let history = |from: i64, to: i64| {
        let sql = "INSERT INTO chain_intents (key, sender, recipient, value, data, state, settled)
                   VALUES ('draw/' || ?1 || '/00', ?2, ?2, ?3, x'', 'confirmed', 1)";
        let attempt =
            "INSERT INTO chain_attempts VALUES (?1, (SELECT max(id) FROM chain_intents), 0, 0, x'', ?2, ?2, 0, 0)";
        let mut connection = connection.lock().unwrap();
        let transaction = connection.transaction().unwrap();
        for number in from..to {
            let sender = net.signer.address();
            transaction.execute(sql, rusqlite::params![number, sender.0.0, [0_u8; 32]]).unwrap();
            for more in 0..3 {
                let hash = U256::from(number * 3 + more).to_be_bytes::<32>();
                transaction.execute(attempt, rusqlite::params![hash, [0_u8; 16]]).unwrap();
            }
        }
        transaction.commit().unwrap();
    };
    let work = async || {
        let mut read = cost(&connection, || assert_eq!(intents.newest(20).unwrap().len(), 20));
        read += cost(&connection, || assert_eq!(intents.list(10, 20).unwrap().len(), 20));
        read += cost(&connection, || assert_eq!(intents.of_step("draw/7").unwrap().len(), 1));
        read += cost(&connection, || assert!(intents.status("draw/9/00").unwrap().is_some()));
        let unsettled = || assert!(intents.store.read(|it| row::unsettled(it, intents.sender())).unwrap().is_empty());
        read += cost(&connection, unsettled);
        let next = || assert_eq!(intents.store.write(|it| row::next_nonce(it, intents.sender(), 4)).unwrap(), 4);
        read + cost(&connection, next)
    };
    history(1, 50);
    let young = work().await;
    history(50, 5_000);
    let old = work().await;
    assert!(young > 0 && old <= young + 5, "{young} hundred steps after 50 intents, {old} after 5,000");
    let ids: Vec<i64> = intents.list(10, 3).unwrap().iter().map(|intent| intent.id).collect();
    assert_eq!(ids, [11, 12, 13]);
    let ids: Vec<i64> = intents.newest(2).unwrap().iter().map(|intent| intent.id).collect();
    assert_eq!(ids, [4_999, 4_998]);
}

#[tokio::test]
async fn a_crash_after_inclusion_is_seen_from_the_receipt_and_nothing_is_sent_again() {
    let net = Net::start().await;
    let intents = net.process("a");
    intents.submit("draw", &call(5)).unwrap();
    intents.drive().await.unwrap();
    drop(intents);
    net.anvil.mine(10).await;
    let intents = net.process("a");
    intents.drive().await.unwrap();
    assert_eq!(state(&intents, "draw"), IntentState::Confirmed);
    net.mine_and_drive(&intents, 2).await;
    assert_eq!(net.nonce().await, 1);
}

#[tokio::test]
async fn an_intent_that_is_named_anew_keeps_what_was_sent_for_it() {
    let net = Net::start().await;
    let intents = net.process("a");
    intents.submit("prove/00ff", &call(1)).unwrap();
    intents.drive().await.unwrap();
    assert!(intents.rename("prove/00ff", "prove/00ffee").unwrap());
    assert!(!intents.rename("prove/00ff", "prove/00ffee").unwrap(), "it is done already");
    intents.submit("prove/00ffee", &call(1)).unwrap();
    net.mine_and_drive(&intents, 6).await;
    assert_eq!((state(&intents, "prove/00ffee"), net.nonce().await), (IntentState::Confirmed, 1));
    intents.submit("prove/00ff", &call(2)).unwrap();
    assert!(!intents.rename("prove/00ff", "prove/00ffee").unwrap(), "that name is another's");
    assert_eq!(state(&intents, "prove/00ff"), IntentState::Waiting);
}

#[tokio::test]
async fn two_senders_on_one_key_and_one_database_never_share_a_nonce() {
    let net = Net::start().await;
    let one = net.process("a");
    let two = one.clone();
    let three = Intents { store: one.store.clone(), ..net.process("b") };
    for word in 1..=3 {
        one.submit(&format!("one:{word}"), &call(word)).unwrap();
        two.submit(&format!("two:{word}"), &call(10 + word)).unwrap();
        three.submit(&format!("three:{word}"), &call(20 + word)).unwrap();
    }
    let (a, b, c) = tokio::join!(one.drive(), two.drive(), three.drive());
    assert!(a.is_ok() && b.is_ok() && c.is_ok(), "{a:?} {b:?} {c:?}");
    net.mine_and_drive(&one, 3).await;
    let all = one.list(0, 100).unwrap();
    assert!(all.iter().all(|it| it.state == IntentState::Confirmed && it.attempts.len() == 1), "{all:#?}");
    let mut nonces: Vec<u64> = all.iter().filter_map(|it| it.nonce).collect();
    nonces.sort_unstable();
    assert_eq!(nonces, (0..9).collect::<Vec<_>>());
    assert_eq!(net.nonce().await, 9);
}

#[tokio::test]
async fn two_programs_with_one_key_and_two_databases_both_get_through_once() {
    let net = Net::start().await;
    let (one, two) = (net.process("a"), net.process("b"));
    one.submit("one", &call(1)).unwrap();
    two.submit("two", &call(2)).unwrap();
    one.drive().await.unwrap();
    two.drive().await.unwrap();
    net.anvil.mine(1).await;
    one.drive().await.unwrap();
    two.drive().await.unwrap();
    let states = [state(&one, "one"), state(&two, "two")];
    assert!(states.contains(&IntentState::Included), "one of them had nonce 0: {states:?}");
    let (loser, key) = if states[0] == IntentState::Included { (&two, "two") } else { (&one, "one") };
    // Not yet: a reorg could still bring its first transaction in.
    let status = loser.status(key).unwrap().unwrap();
    assert_eq!((status.state, status.nonce), (IntentState::Pending, Some(0)));
    assert!(status.note.contains("another transaction"), "{}", status.note);
    for _ in 0..8 {
        net.anvil.mine(1).await;
        one.drive().await.unwrap();
        two.drive().await.unwrap();
    }
    assert_eq!([state(&one, "one"), state(&two, "two")], [IntentState::Confirmed; 2]);
    assert!(net.is_done(1).await && net.is_done(2).await);
    assert_eq!(net.nonce().await, 2);
}

#[tokio::test]
async fn a_transaction_that_pays_too_little_is_replaced_at_its_nonce() {
    let net = Net::start().await;
    let intents = net.process("a");
    intents.submit("draw", &call(5)).unwrap();
    intents.drive().await.unwrap();
    // Base fees rise far above what the first attempt offers.
    for _ in 0..3 {
        net.anvil.rpc("anvil_setNextBlockBaseFeePerGas", json!(["0x1bf08eb000"])).await;
        net.anvil.mine(1).await;
        intents.drive().await.unwrap();
    }
    let status = intents.status("draw").unwrap().unwrap();
    assert_eq!((status.state, status.attempts.len()), (IntentState::Pending, 2), "{status:?}");
    net.mine_and_drive(&intents, 3).await;
    let status = intents.status("draw").unwrap().unwrap();
    assert_eq!((status.state, status.hash), (IntentState::Confirmed, Some(status.attempts[0])));
    assert_eq!(net.nonce().await, 1);
}

#[tokio::test]
async fn nothing_is_paid_above_the_fee_cap() {
    let net = Net::start().await;
    let capped = IntentOptions { fee_cap: 20_000_000_000, ..OPTIONS };
    let intents = net.process_with("a", capped, net.signer.clone());
    net.anvil.rpc("anvil_setNextBlockBaseFeePerGas", json!(["0x1bf08eb000"])).await;
    net.anvil.mine(1).await;
    intents.submit("draw", &call(5)).unwrap();
    intents.drive().await.unwrap();
    let status = intents.status("draw").unwrap().unwrap();
    assert_eq!((status.state, status.attempts.len()), (IntentState::Waiting, 0));
    assert!(status.note.contains("above the cap"), "{}", status.note);
    for _ in 0..30 {
        net.mine_and_drive(&intents, 1).await;
    }
    assert_eq!(state(&intents, "draw"), IntentState::Confirmed, "fees fell and it did not go on");
    let hash = intents.status("draw").unwrap().unwrap().hash.unwrap();
    let receipt = net.anvil.provider.get_transaction_receipt(hash).await.unwrap().unwrap();
    assert!(receipt.effective_gas_price <= 20_000_000_000);
}

/// What is on its way at the usual price pays more too, or the dear one would wait for its nonce.
#[tokio::test]
async fn a_step_with_a_raised_cap_passes_the_usual_one_and_nothing_else_does() {
    let net = Net::start().await;
    let capped = IntentOptions { fee_cap: 20_000_000_000, ..OPTIONS };
    let intents = net.process_with("a", capped, net.signer.clone());
    intents.submit("top_up/1/00", &call(5)).unwrap();
    intents.drive().await.unwrap();
    assert_eq!(state(&intents, "top_up/1/00"), IntentState::Pending);
    // 120 gwei from here on, in every block.
    let dear = async || {
        net.anvil.rpc("anvil_setNextBlockBaseFeePerGas", json!(["0x1bf08eb000"])).await;
        net.mine_and_drive(&intents, 1).await;
    };
    dear().await;
    intents.submit("answer/1/00", &call(6)).unwrap();
    intents.submit("answer/11/00", &call(7)).unwrap();
    for _ in 0..6 {
        dear().await;
    }
    assert!(!net.is_done(5).await && !net.is_done(6).await);
    assert!(intents.status("answer/1/00").unwrap().unwrap().note.contains("above the cap"));
    intents.raise_caps(BTreeMap::from([("answer/1".to_owned(), 1_000_000_000_000)]));
    for _ in 0..24 {
        dear().await;
    }
    assert!(net.is_done(6).await, "{:?}", intents.status("answer/1/00"));
    assert!(net.is_done(5).await && !net.is_done(7).await, "the other step keeps its cap");
    intents.raise_caps(BTreeMap::new());
    intents.submit("answer/1/01", &call(8)).unwrap();
    dear().await;
    assert!(!net.is_done(8).await && state(&intents, "answer/1/01") == IntentState::Waiting);
}

async fn a_dropped_transaction_is_sent_again_after_a_reorg_of(depth: u64) {
    let net = Net::start().await;
    let intents = net.process("a");
    net.mine_and_drive(&intents, 10).await;
    intents.submit("draw", &call(5)).unwrap();
    intents.submit("finalise", &call(6)).unwrap();
    intents.drive().await.unwrap();
    net.mine_and_drive(&intents, depth).await;
    let before = intents.status("draw").unwrap().unwrap();
    assert_eq!(before.state == IntentState::Confirmed, depth > 2, "{before:?}");
    net.anvil.reorg(depth).await;
    assert!(!net.is_done(5).await, "the reorg left the transaction in");
    intents.drive().await.unwrap();
    assert_eq!(state(&intents, "draw"), IntentState::Pending);
    net.mine_and_drive(&intents, 3).await;
    let after = intents.status("draw").unwrap().unwrap();
    assert_eq!((after.state, after.hash, after.nonce), (IntentState::Confirmed, before.hash, before.nonce));
    assert_ne!(after.block, before.block);
    assert!(net.is_done(5).await && net.is_done(6).await);
    assert_eq!(net.nonce().await, 2);
}

#[tokio::test]
async fn a_transaction_that_a_reorg_of_one_block_dropped_is_sent_again() {
    a_dropped_transaction_is_sent_again_after_a_reorg_of(1).await;
}

#[tokio::test]
async fn a_transaction_that_a_reorg_of_ten_blocks_dropped_is_sent_again_though_it_was_confirmed() {
    a_dropped_transaction_is_sent_again_after_a_reorg_of(10).await;
}

#[tokio::test]
async fn an_intent_that_somebody_else_fulfilled_is_superseded_and_another_refusal_is_a_failure() {
    let net = Net::start().await;
    let intents = net.process("a");
    net.rival_does(5).await;
    net.anvil.mine(1).await;
    intents.submit("draw", &call(5)).unwrap();
    intents.submit("mine", &call(5)).unwrap();
    intents.drive().await.unwrap();
    let superseded = intents.status("draw").unwrap().unwrap();
    assert_eq!((superseded.state, superseded.nonce), (IntentState::Superseded, None));
    let failed = intents.status("mine").unwrap().unwrap();
    assert_eq!(failed.state, IntentState::Failed);
    let error = failed.error.unwrap();
    assert_eq!(error.name, "WrongKeyState");
    assert_eq!(error.arguments, vec![("keyId".into(), "5".into()), ("state".into(), "Live".into())]);
    assert!(error.data.starts_with(&KeyRegistry::WrongKeyState::SELECTOR));
    net.mine_and_drive(&intents, 2).await;
    assert_eq!(net.nonce().await, 0, "a refused intent costs nothing");
}

#[tokio::test]
async fn a_transaction_that_loses_within_its_block_is_superseded_once_that_block_is_final() {
    let net = Net::start().await;
    let intents = net.process("a");
    intents.submit("draw", &call(5)).unwrap();
    intents.drive().await.unwrap();
    // The rival pays more and comes first in the same block.
    let from = net.anvil.accounts().await[0];
    let tx = json!([{"from": from, "to": ONCE, "data": call(5).data, "gas": "0x30d40",
                     "maxFeePerGas": "0x1bf08eb000", "maxPriorityFeePerGas": "0x1bf08eb000"}]);
    net.anvil.rpc("eth_sendTransaction", tx).await;
    net.mine_and_drive(&intents, 1).await;
    assert_eq!(state(&intents, "draw"), IntentState::Included);
    net.mine_and_drive(&intents, 2).await;
    let status = intents.status("draw").unwrap().unwrap();
    assert_eq!(status.state, IntentState::Superseded);
    assert_eq!(status.error.unwrap().name, "WrongKeyState");
    assert_eq!(net.nonce().await, 1);
}

#[tokio::test]
async fn an_intent_given_up_in_flight_leaves_no_gap_in_front_of_the_next_one() {
    let net = Net::start().await;
    let intents = net.process("a");
    intents.submit("draw", &call(5)).unwrap();
    intents.submit("finalise", &call(6)).unwrap();
    intents.drive().await.unwrap();
    // The pool forgets the first; the rival does the same thing; the second waits behind the gap.
    let hash = intents.status("draw").unwrap().unwrap().attempts[0];
    net.anvil.rpc("anvil_dropTransaction", json!([hash])).await;
    net.rival_does(5).await;
    net.anvil.mine(1).await;
    assert!(net.is_done(5).await && !net.is_done(6).await);
    intents.drive().await.unwrap();
    net.mine_and_drive(&intents, 3).await;
    let draw = intents.status("draw").unwrap().unwrap();
    assert_eq!((draw.state, draw.attempts.len(), draw.gas_used), (IntentState::Superseded, 2, Some(21_000)));
    net.mine_and_drive(&intents, 2).await;
    assert_eq!(state(&intents, "finalise"), IntentState::Confirmed);
    assert!(net.is_done(6).await);
    assert_eq!(net.nonce().await, 2);
}

#[tokio::test]
async fn an_intent_that_came_to_nothing_can_be_opened_again_and_one_that_succeeded_cannot() {
    let net = Net::start().await;
    let intents = net.process("a");
    net.rival_does(5).await;
    net.anvil.mine(1).await;
    intents.submit("draw", &call(5)).unwrap();
    intents.drive().await.unwrap();
    assert_eq!(state(&intents, "draw"), IntentState::Superseded);
    // The rival's transaction vanishes: now it is ours to do.
    net.anvil.reorg(1).await;
    assert!(intents.reopen("draw", U256::ZERO).unwrap());
    intents.drive().await.unwrap();
    net.mine_and_drive(&intents, 3).await;
    assert_eq!(state(&intents, "draw"), IntentState::Confirmed);
    assert!(!intents.reopen("draw", U256::ZERO).unwrap());
    assert_eq!(net.nonce().await, 1);
}

/// A fee that has to be paid along may have risen since: what was refused for it would be refused for ever.
#[tokio::test]
async fn an_intent_that_is_opened_again_pays_what_it_costs_now() {
    let net = Net::start().await;
    let intents = net.process("a");
    net.rival_does(5).await;
    net.anvil.mine(1).await;
    intents.submit("draw", &call(5)).unwrap();
    intents.drive().await.unwrap();
    assert_eq!(state(&intents, "draw"), IntentState::Superseded);
    net.anvil.reorg(1).await;
    let dearer = U256::from(7);
    assert!(intents.reopen("draw", dearer).unwrap());
    let row = intents.store.read(|connection| row::by_key(connection, "draw")).unwrap().unwrap();
    assert_eq!((row.call.value, row.call.data), (dearer, call(5).data));
}

#[tokio::test]
async fn a_sender_without_money_waits_and_says_so() {
    let net = Net::start().await;
    let poor = net.process_with("a", OPTIONS, PrivateKeySigner::random());
    poor.submit("draw", &call(5).with_value(U256::from(1))).unwrap();
    poor.drive().await.unwrap();
    let status = poor.status("draw").unwrap().unwrap();
    assert!(!status.state.is_over() && !status.note.is_empty(), "{status:?}");
    let wei = U256::from(10_u64).pow(U256::from(21_u64));
    net.anvil.rpc("anvil_setBalance", json!([poor.sender(), wei])).await;
    poor.drive().await.unwrap();
    net.mine_and_drive(&poor, 3).await;
    // The contract takes no money into account; it is done or the word was refused, but it moved.
    assert_eq!(state(&poor, "draw"), IntentState::Confirmed);
}
