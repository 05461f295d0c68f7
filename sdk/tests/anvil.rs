//! The SDK against the real contracts on a real chain.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
#[path = "anvil/dealings.rs"]
mod dealings;
#[path = "anvil/reports.rs"]
mod reports;
#[path = "anvil/reshared.rs"]
mod reshared;
#[path = "anvil/verify.rs"]
mod verify;
#[path = "anvil/withdrawals.rs"]
mod withdrawals;
#[path = "anvil/writes.rs"]
mod writes;

use std::time::Duration;

use alloy::{
    consensus::transaction::SignerRecoverable as _,
    eips::BlockId,
    network::NetworkTransactionBuilder as _,
    primitives::{Address, B256, U256},
    providers::{Provider as _, ProviderBuilder},
    rpc::types::TransactionRequest,
};
use common::{Chain, wallet};
use serde_json::{Value, json};
use stkr_sdk::{
    Block, Body, Class, ContractError, Cursor, KeyState, PoolState, ServerStatus, Start, Stkr, StkrError, Update,
    Watch, amount, bindings::Acknowledgements, bindings::Court, bindings::Micropools::MicropoolsEvents,
};

#[tokio::test]
async fn connecting_refuses_another_chain_and_addresses_without_code() {
    let chain = Chain::start().await;
    let mut other = chain.deployment.clone();
    other.chain_id = 1;
    let error = Stkr::connect(chain.provider.clone(), other).await.unwrap_err();
    assert!(matches!(error, StkrError::WrongChain { expected: 1, found: 31_337 }), "{error}");

    let mut empty = chain.deployment.clone();
    empty.micropools = Address::repeat_byte(9);
    let error = Stkr::connect(chain.provider.clone(), empty).await.unwrap_err();
    assert!(matches!(error, StkrError::NoContract { .. }) && error.to_string().contains("micropools"), "{error}");

    // A registry of another deployment, here the pool vault's implementation: it has code and is the wrong one.
    let mut mixed = chain.deployment.clone();
    mixed.server_registry = chain.deployment.micropools.create(1);
    let error = Stkr::connect(chain.provider.clone(), mixed).await.unwrap_err();
    assert_eq!((error.code(), error.class()), ("wrong_deployment", Class::Unsafe), "{error}");
    assert!(error.to_string().contains("keyRegistry works with serverRegistry"), "{error}");
}

#[tokio::test]
async fn a_server_is_registered_approved_moved_and_suspended_and_always_listed_as_it_is() {
    let chain = Chain::start().await;
    let (stkr, operator) = (chain.stkr().await, chain.account().await);
    let bond = stkr.servers().min_bond().await.unwrap();

    let little = chain.registration(operator.address(), bond - U256::from(1));
    let error = stkr.servers().register(little).unwrap().send_with(&wallet(&operator)).await.unwrap_err();
    let StkrError::Contract(ContractError::BondTooSmall(refused)) = &error else { panic!("{error:?}") };
    assert_eq!((refused.bond, refused.required), (bond - U256::from(1), bond));

    let registration = chain.registration(operator.address(), bond);
    let signer = registration.signer;
    let sent = stkr.servers().register(registration).unwrap().send_with(&wallet(&operator)).await.unwrap();
    let id = sent.value;
    assert_eq!(stkr.servers().get(id).await.unwrap().status, ServerStatus::Registered);
    assert_eq!(stkr.servers().id_of_signer(signer).await.unwrap(), Some(id));

    let error = stkr.servers().approve(id).send_with(&wallet(&operator)).await.unwrap_err();
    assert!(matches!(error, StkrError::Contract(ContractError::AccessManagedUnauthorized(_))), "{error:?}");
    stkr.servers().approve(id).send_with(&wallet(&chain.governor)).await.unwrap();

    let moved = stkr.servers().set_endpoint(id, B256::repeat_byte(8), "https://127.0.0.1:9001").unwrap();
    moved.send_with(&wallet(&operator)).await.unwrap();
    stkr.servers().add_bond(id, amount::ether(1)).unwrap().send_with(&wallet(&operator)).await.unwrap();
    let listed = stkr.servers().list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].status, ServerStatus::Active);
    assert_eq!(listed[0].endpoint, "https://127.0.0.1:9001");
    assert_eq!((listed[0].tls_fingerprint, listed[0].bond), (B256::repeat_byte(8), bond + amount::ether(1)));

    stkr.servers().suspend(id, "does not answer").unwrap().send_with(&wallet(&chain.governor)).await.unwrap();
    assert_eq!(stkr.servers().get(id).await.unwrap().status, ServerStatus::Suspended);
    stkr.servers().announce_leave(id).send_with(&wallet(&operator)).await.unwrap();
    let error = stkr.servers().withdraw_bond(id).send_with(&wallet(&operator)).await.unwrap_err();
    assert!(matches!(error, StkrError::Contract(ContractError::BondLocked(_))), "{error:?}");
    assert!(matches!(stkr.servers().get(99).await, Err(StkrError::NotFound { .. })));
}

#[tokio::test]
async fn stakes_that_break_a_rule_come_back_with_the_contracts_own_arguments() {
    let chain = Chain::start().await;
    let pool = chain.open_pool().await;
    let (stkr, alice, bob) = (chain.stkr().await, chain.account().await, chain.account().await);
    let pools = stkr.pools();

    let error = pools.stake(pool, amount::parse("0.49").unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "0.49 ETH is below the smallest position of 0.5 ETH");
    let error =
        pools.increase(pool, amount::parse("0.49").unwrap()).unwrap().send_with(&wallet(&bob)).await.unwrap_err();
    assert!(matches!(error, StkrError::Contract(ContractError::PositionTooSmall(_))), "{error:?}");

    pools.stake(pool, amount::ether(31)).unwrap().send_with(&wallet(&alice)).await.unwrap();
    let error = pools.stake(pool, amount::ether(2)).unwrap().send_with(&wallet(&bob)).await.unwrap_err();
    let StkrError::Contract(ContractError::StakeTooLarge(refused)) = &error else { panic!("{error:?}") };
    assert_eq!((refused.amount, refused.room), (amount::ether(2), amount::ether(1)));

    let error = pools.stake(pool, amount::parse("0.7").unwrap()).unwrap().send_with(&wallet(&bob)).await.unwrap_err();
    let StkrError::Contract(ContractError::GapTooSmall(refused)) = &error else { panic!("{error:?}") };
    assert_eq!(refused.gap, amount::parse("0.3").unwrap());
    assert!(error.hint().contains("0.3 ETH more or 0.2 ETH less"), "{}", error.hint());

    let rest = amount::parse("30.8").unwrap();
    let error = pools.transfer(pool, bob.address(), rest).unwrap().send_with(&wallet(&alice)).await.unwrap_err();
    let StkrError::Contract(ContractError::PositionTooSmall(refused)) = &error else { panic!("{error:?}") };
    assert_eq!((refused.account, refused.amount), (alice.address(), amount::parse("0.2").unwrap()));
    assert_eq!(stkr.positions().balance(bob.address(), pool).await.unwrap(), U256::ZERO);
}

#[tokio::test]
async fn positions_follow_stakes_transfers_and_leaves() {
    let chain = Chain::start().await;
    let (first, second) = (chain.open_pool().await, chain.open_pool().await);
    let (stkr, alice, bob) = (chain.stkr().await, chain.account().await, chain.account().await);
    stkr.pools().stake(first, amount::ether(3)).unwrap().send_with(&wallet(&alice)).await.unwrap();
    stkr.pools().stake(second, amount::MIN_STAKE).unwrap().send_with(&wallet(&alice)).await.unwrap();
    stkr.pools().transfer(first, bob.address(), amount::ether(1)).unwrap().send_with(&wallet(&alice)).await.unwrap();
    stkr.pools().leave(second, amount::MIN_STAKE).unwrap().send_with(&wallet(&alice)).await.unwrap();

    let held = |positions: Vec<stkr_sdk::Position>| -> Vec<(u64, U256)> {
        positions.into_iter().map(|position| (position.pool_id, position.amount)).collect()
    };
    assert_eq!(held(stkr.positions().of(alice.address()).await.unwrap()), [(first, amount::ether(2))]);
    assert_eq!(held(stkr.positions().of(bob.address()).await.unwrap()), [(first, amount::ether(1))]);
    let listed = stkr.pools().list().await.unwrap();
    assert_eq!(listed.iter().map(|pool| pool.staked).collect::<Vec<_>>(), [amount::ether(3), U256::ZERO]);
    assert_eq!(listed[0].vault, chain.deployment.vault_of(first));
}

#[tokio::test]
async fn an_unsigned_transaction_is_complete_for_a_wallet_that_never_saw_the_sdk() {
    let chain = Chain::start().await;
    let pool = chain.open_pool().await;
    let (stkr, alice) = (chain.stkr().await, chain.account().await);
    let unsigned = stkr.pools().stake(pool, amount::ether(1)).unwrap().unsigned();
    assert_eq!(unsigned.chain_id, Some(31_337));
    assert!(unsigned.from.is_none() && unsigned.nonce.is_none());
    // Through JSON, as it would reach another program.
    let text = serde_json::to_string(&unsigned).unwrap();
    let received: TransactionRequest = serde_json::from_str(&text).unwrap();
    let other = ProviderBuilder::new().wallet(wallet(&alice)).connect_http(chain.url.parse().unwrap());
    let receipt = other.send_transaction(received).await.unwrap().get_receipt().await.unwrap();
    assert!(receipt.status());
    assert_eq!(stkr.positions().balance(alice.address(), pool).await.unwrap(), amount::ether(1));

    let filled = stkr.pools().stake(pool, amount::ether(1)).unwrap().filled(alice.address()).await.unwrap();
    let envelope = filled.build(&wallet(&alice)).await.unwrap();
    assert_eq!(envelope.recover_signer().unwrap(), alice.address());
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_changes_nothing() {
    let chain = Chain::start().await;
    let pool = chain.open_pool().await;
    let (stkr, alice) = (chain.stkr().await, chain.account().await);
    let before = chain.provider.get_block_number().await.unwrap();
    let tried = stkr.pools().stake(pool, amount::ether(1)).unwrap().dry_run(alice.address()).await.unwrap();
    assert!(tried.gas > 21_000 && tried.value == amount::ether(1));
    let error = stkr.pools().refund(pool).dry_run(alice.address()).await.unwrap_err();
    let StkrError::Contract(ContractError::WrongPoolState(refused)) = &error else { panic!("{error:?}") };
    assert_eq!(refused.state, u8::from(PoolState::Open));
    assert_eq!(error.to_string(), "pool 1 is Open, which does not allow this");
    assert_eq!(chain.provider.get_block_number().await.unwrap(), before);
    assert_eq!(stkr.positions().balance(alice.address(), pool).await.unwrap(), U256::ZERO);
}

#[tokio::test]
async fn a_write_that_a_reorg_drops_before_it_is_deep_enough_is_sent_again() {
    let chain = Chain::start().await;
    let pool = chain.open_pool().await;
    let (stkr, alice) = (chain.stkr().await, chain.account().await);
    let signing = wallet(&alice);
    let write = stkr.pools().stake(pool, amount::ether(1)).unwrap().confirmations(3);
    let follow = write.send_with(&signing);
    let staked = async || stkr.positions().balance(alice.address(), pool).await.unwrap();
    let disturb = async {
        while staked().await.is_zero() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let first = chain.provider.get_block_number().await.unwrap();
        chain.reorg(1).await;
        assert_eq!(chain.provider.get_block_number().await.unwrap(), first, "an empty block took the place");
        while staked().await.is_zero() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let second = chain.provider.get_block_number().await.unwrap();
        // One block is not enough yet, three are.
        chain.mine(1).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        chain.mine(1).await;
        (second, second + 2)
    };
    let both = futures::future::join(follow, disturb);
    let (sent, (included, head)) = tokio::time::timeout(Duration::from_secs(60), both).await.expect("sent again");
    let receipt = sent.unwrap().receipt;
    assert_eq!((receipt.block_number, chain.provider.get_block_number().await.unwrap()), (Some(included), head));
    assert_eq!(chain.provider.get_transaction_count(alice.address()).await.unwrap(), 1, "the same bytes, once");
}

/// The SDK works the fee out by itself: many nodes let a contract that is asked see a base fee of 0. Anvil shows it the real one.
#[tokio::test]
async fn what_a_question_costs_follows_the_base_fee_as_the_contracts_see_it_in_a_block() {
    let chain = Chain::start().await;
    let stkr = chain.stkr().await;
    let (challenges, deployment) = (stkr.challenges(), &chain.deployment);
    let court = Court::new(deployment.court, &chain.provider);
    let of_ceremonies = Acknowledgements::new(deployment.acknowledgements(), &chain.provider);
    for gwei in [1, 50] {
        let set = async || {
            let base_fee = json!([amount::gwei(gwei)]);
            let _: Value =
                chain.provider.raw_request("anvil_setNextBlockBaseFeePerGas".into(), base_fee).await.unwrap();
        };
        // Of the head, and of the block in which calls may run.
        set().await;
        chain.mine(1).await;
        set().await;
        let least = challenges.least_fee().await.unwrap();
        assert_eq!(least, amount::gwei(120_000 * (2 * gwei + 1)));
        assert_eq!(court.answerFee().call().await.unwrap(), least);
        let least = challenges.least_acknowledgement_fee().await.unwrap();
        assert_eq!(least, amount::gwei(380_000 * (2 * gwei + 1)));
        assert_eq!(of_ceremonies.answerFee().call().await.unwrap(), least);
    }
}

#[tokio::test]
async fn a_fee_cap_below_the_base_fee_stops_a_write_and_one_above_it_binds() {
    let chain = Chain::start().await;
    let pool = chain.open_pool().await;
    let (stkr, alice) = (chain.stkr().await, chain.account().await);
    let fee: U256 = amount::gwei(20);
    let _: Value = chain.provider.raw_request("anvil_setNextBlockBaseFeePerGas".into(), json!([fee])).await.unwrap();
    chain.mine(1).await;
    let stake = || stkr.pools().stake(pool, amount::ether(1)).unwrap();
    let error = stake().fee_cap(1_000_000_000).send_with(&wallet(&alice)).await.unwrap_err();
    assert!(matches!(error, StkrError::FeeAboveCap { base_fee: 20_000_000_000, .. }), "{error:?}");
    assert_eq!(chain.provider.get_transaction_count(alice.address()).await.unwrap(), 0);
    let filled = stake().fee_cap(21_000_000_000).filled(alice.address()).await.unwrap();
    assert!(filled.max_fee_per_gas.unwrap() <= 21_000_000_000);
}

#[tokio::test]
async fn an_account_that_cannot_pay_hears_how_much_is_missing() {
    let chain = Chain::start().await;
    let pool = chain.open_pool().await;
    let (stkr, poor) = (chain.stkr().await, chain.account().await);
    common::fund(&chain.provider, poor.address(), amount::ether(1)).await;
    for wei in [amount::ether(1), amount::ether(2)] {
        let error = stkr.pools().stake(pool, wei).unwrap().send_with(&wallet(&poor)).await.unwrap_err();
        let StkrError::InsufficientFunds { balance, needed, .. } = error else { panic!("{error:?}") };
        assert!(balance == amount::ether(1) && needed >= wei);
    }
}

#[tokio::test]
async fn a_full_pool_gets_its_committee_drawn_by_anyone() {
    let chain = Chain::start().await;
    let stkr = chain.stkr().await;
    let bond = stkr.servers().min_bond().await.unwrap();
    for _ in 0..4 {
        let operator = chain.account().await;
        let write = stkr.servers().register(chain.registration(operator.address(), bond)).unwrap();
        let id = write.send_with(&wallet(&operator)).await.unwrap().value;
        stkr.servers().approve(id).send_with(&wallet(&chain.governor)).await.unwrap();
    }
    let (pool, anyone) = (chain.open_pool().await, chain.account().await);
    let error = stkr.pools().order_deposit(pool).await.unwrap_err();
    assert!(error.to_string().contains("has not requested its key"), "{error}");
    stkr.pools().stake(pool, amount::POOL_SIZE).unwrap().send_with(&wallet(&anyone)).await.unwrap();
    assert_eq!(stkr.pools().state(pool).await.unwrap(), PoolState::Full);
    let key = stkr.pools().request_key(pool).send_with(&wallet(&anyone)).await.unwrap().value;
    assert_eq!(stkr.pools().of_key(key).await.unwrap(), Some(pool));
    let error = stkr.keys().draw(key).await.unwrap_err();
    assert!(matches!(error, StkrError::NotReady { .. }), "{error:?}");
    chain.mine(3).await;
    stkr.keys().draw(key).await.unwrap().send_with(&wallet(&anyone)).await.unwrap();
    let drawn = stkr.keys().get(key).await.unwrap();
    assert_eq!(drawn.state, KeyState::Drawn);
    let mut committee = drawn.committee;
    committee.sort_unstable();
    assert_eq!(committee, [1, 2, 3, 4]);
    let error = stkr.pools().order_deposit(pool).await.unwrap_err();
    assert!(error.to_string().contains("not finalised"), "{error}");
}

/// Updates until the watch is level with the chain.
async fn drain<P: alloy::providers::Provider>(watch: &mut Watch<P>) -> (Vec<Update>, Cursor) {
    let mut updates = Vec::new();
    let mut cursor = None;
    loop {
        match tokio::time::timeout(Duration::from_secs(2), watch.next()).await {
            Ok(Ok(Update::Checkpoint(reached))) => cursor = Some(reached),
            Ok(Ok(update)) => updates.push(update),
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => return (updates, cursor.expect("a checkpoint")),
        }
    }
}

fn stakes(updates: &[Update]) -> Vec<(char, U256)> {
    let staked = |event: &stkr_sdk::Event| match &event.body {
        Body::Pool(MicropoolsEvents::Staked(staked)) => Some(staked.amount),
        _ => None,
    };
    updates
        .iter()
        .filter_map(|update| match update {
            Update::Added(event) => Some(('+', staked(event)?)),
            Update::Removed(event) => Some(('-', staked(event)?)),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_watch_tells_everything_takes_back_what_a_reorg_removed_and_goes_on() {
    let chain = Chain::start().await;
    let pool = chain.open_pool().await;
    let (stkr, alice) = (chain.stkr().await, chain.account().await);
    let stake = async |ether: u64| {
        stkr.pools().stake(pool, amount::ether(ether)).unwrap().send_with(&wallet(&alice)).await.unwrap();
    };
    // Blocks enough that the first stakes are final (read as a range) and the last ones are not (read one by one).
    stake(1).await;
    stake(2).await;
    chain.mine(12).await;
    stake(3).await;
    stake(4).await;
    let mut watch = stkr.watch(Start::Deployment).poll_every(Duration::from_millis(20));
    let (updates, level) = drain(&mut watch).await;
    let plus = |ether: u64| ('+', amount::ether(ether));
    let minus = |ether: u64| ('-', amount::ether(ether));
    assert_eq!(stakes(&updates), [plus(1), plus(2), plus(3), plus(4)]);

    chain.reorg(2).await;
    let (updates, after) = drain(&mut watch).await;
    assert_eq!(stakes(&updates), [minus(4), minus(3)], "newest first");
    assert_ne!(level.block.hash, after.block.hash);
    stake(5).await;
    let (updates, stored) = drain(&mut watch).await;
    assert_eq!(stakes(&updates), [plus(5)]);

    // Another process resumes from the stored cursor: nothing twice, nothing missed.
    drop(watch);
    stake(6).await;
    let mut resumed = stkr.watch(Start::After(stored)).poll_every(Duration::from_millis(20));
    let (updates, _) = drain(&mut resumed).await;
    assert_eq!(stakes(&updates), [plus(6)]);
}

#[tokio::test]
async fn a_cursor_of_a_vanished_block_is_rewound_and_one_of_another_chain_is_refused() {
    let chain = Chain::start().await;
    let pool = chain.open_pool().await;
    let (stkr, alice) = (chain.stkr().await, chain.account().await);
    chain.mine(12).await;
    stkr.pools().stake(pool, amount::ether(1)).unwrap().send_with(&wallet(&alice)).await.unwrap();
    let stored = stkr.head().await.unwrap();
    chain.reorg(1).await;
    let mut watch = stkr.watch(Start::After(stored)).poll_every(Duration::from_millis(20));
    let Update::Rewound { to } = watch.next().await.unwrap() else { panic!("not rewound") };
    assert!(to == stored.finalized && to.number < stored.block.number);
    let (updates, _) = drain(&mut watch).await;
    assert_eq!(stakes(&updates), [], "the stake is gone with its block");

    let nowhere = Block { number: 1, hash: B256::repeat_byte(1) };
    let foreign = Cursor { block: nowhere, finalized: nowhere };
    let error = stkr.watch(Start::After(foreign)).next().await.unwrap_err();
    assert!(matches!(error, StkrError::ForeignCursor { number: 1, .. }), "{error:?}");
}

#[tokio::test]
async fn a_cursor_that_a_reorg_and_then_finality_passed_while_nobody_watched_is_rewound_to_what_was_final() {
    let chain = Chain::start().await;
    let pool = chain.open_pool().await;
    let (stkr, alice) = (chain.stkr().await, chain.account().await);
    let stake = async |ether: u64| {
        stkr.pools().stake(pool, amount::ether(ether)).unwrap().send_with(&wallet(&alice)).await.unwrap();
    };
    chain.mine(12).await;
    stake(1).await;
    stake(2).await;
    let mut watch = stkr.watch(Start::Deployment).poll_every(Duration::from_millis(20));
    let (_, stored) = drain(&mut watch).await;
    drop(watch);
    assert!(stored.finalized.number < stored.block.number, "the checkpoint is not final");

    // The last two blocks go, another stake comes in their place, and all of it becomes final.
    chain.reorg(2).await;
    stake(3).await;
    chain.mine(40).await;
    let final_now = chain.provider.get_block(BlockId::finalized()).await.unwrap().unwrap().header.number;
    assert!(final_now > stored.block.number, "finality has passed the cursor");
    let mut resumed = stkr.watch(Start::After(stored)).poll_every(Duration::from_millis(20));
    assert_eq!(resumed.next().await.unwrap(), Update::Rewound { to: stored.finalized });
    let (updates, level) = drain(&mut resumed).await;
    assert_eq!(stakes(&updates), [('+', amount::ether(3))]);
    assert!(level.finalized.number > stored.block.number);
}

#[tokio::test]
async fn a_watch_survives_an_endpoint_that_dies_and_comes_back() {
    let mut chain = Chain::start().await;
    let pool = chain.open_pool().await;
    let (stkr, alice) = (chain.stkr().await, chain.account().await);
    stkr.pools().stake(pool, amount::ether(1)).unwrap().send_with(&wallet(&alice)).await.unwrap();
    let mut watch = stkr.watch(Start::Deployment).poll_every(Duration::from_millis(20));
    let (updates, _) = drain(&mut watch).await;
    assert_eq!(stakes(&updates).len(), 1);

    let state: Value = chain.provider.raw_request("anvil_dumpState".into(), json!([])).await.unwrap();
    chain.stop();
    let error = watch.next().await.unwrap_err();
    assert!(matches!(error, StkrError::Rpc { .. }), "{error:?}");
    assert!(!error.to_string().contains("://"), "no URL in {error}");
    chain.start_again(&state).await;
    stkr.pools().stake(pool, amount::ether(2)).unwrap().send_with(&wallet(&alice)).await.unwrap();
    let (updates, _) = drain(&mut watch).await;
    assert_eq!(stakes(&updates), [('+', amount::ether(2))]);
}
