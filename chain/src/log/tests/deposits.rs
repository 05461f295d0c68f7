//! Deposits of watched keys, on an anvil that reorganises.

use alloy::primitives::FixedBytes;

use super::*;
use crate::{bindings::IDepositContract::DepositEvent, testing::ONE_TOPIC_EMITTER};

const KEY: FixedBytes<48> = FixedBytes::repeat_byte(0xaa);
const OTHER: FixedBytes<48> = FixedBytes::repeat_byte(0xbb);

async fn start(epoch: u64) -> Net {
    let net = Net::start(epoch).await;
    net.anvil.set_code(deployment().deposit_contract, ONE_TOPIC_EMITTER.to_vec()).await;
    net
}

/// A deposit in a block of its own, as the deposit contract logs it: integers little-endian.
async fn deposit(net: &Net, key: FixedBytes<48>, gwei: u64) {
    let event = DepositEvent {
        pubkey: key.to_vec().into(),
        withdrawal_credentials: vec![gwei.to_le_bytes()[0]; 32].into(),
        amount: gwei.to_le_bytes().to_vec().into(),
        signature: vec![7; 96].into(),
        index: 5_u64.to_le_bytes().to_vec().into(),
    };
    let calldata = [DepositEvent::SIGNATURE_HASH.to_vec(), event.encode_data()].concat();
    net.anvil.send(deployment().deposit_contract, calldata.into()).await;
    net.anvil.mine(1).await;
}

fn watched(since: u64) -> WatchedKey {
    WatchedKey { pubkey: KEY, since }
}

async fn poll(log: &EventLog) {
    log.poll().await.unwrap();
    log.scan_deposits().await.unwrap();
}

/// Block and gwei of every stored deposit.
fn known(log: &EventLog) -> Vec<(u64, u64)> {
    log.deposits(0, 100).unwrap().iter().map(|deposit| (deposit.block_number, deposit.amount_gwei)).collect()
}

fn known_before(log: &EventLog) -> Option<u64> {
    log.deposits_known_before(&KEY).unwrap()
}

#[tokio::test]
async fn deposits_of_watched_keys_are_found_in_the_final_past_and_at_the_head_and_no_others_are_kept() {
    let net = start(2).await;
    for gwei in 1..=6 {
        deposit(&net, KEY, gwei).await;
        deposit(&net, OTHER, 100 + gwei).await;
    }
    let log = net.log(FOLLOW);
    poll(&log).await;
    assert_eq!((known(&log), known_before(&log)), (vec![], None), "nobody is watched");
    // Found afterwards, but only from the block on that was named.
    log.watch_deposits(&[watched(3)]).unwrap();
    poll(&log).await;
    assert_eq!(log.finalized().unwrap().unwrap().0, 8, "so both ways of reading were used");
    let expected: Vec<(u64, u64)> = (2..=6).map(|gwei| (2 * gwei - 1, gwei)).collect();
    assert_eq!((known(&log), known_before(&log)), (expected.clone(), Some(13)));
    let first = log.deposits(0, 1).unwrap().remove(0);
    assert_eq!((first.pubkey, first.signature), (KEY, FixedBytes::repeat_byte(7)));
    assert_eq!(first.withdrawal_credentials, B256::repeat_byte(2));
    // And as they come; nothing twice.
    deposit(&net, KEY, 300_000_000_000).await;
    poll(&log).await;
    poll(&log).await;
    let expected = [expected, vec![(13, 300_000_000_000)]].concat();
    assert_eq!((known(&log), known_before(&log)), (expected, Some(14)));
    assert_eq!(log.deposits(first.id, 100).unwrap().len(), 5);

    // An earlier block is a new question; a key that is not asked for any more is forgotten.
    log.watch_deposits(&[watched(0)]).unwrap();
    assert_eq!((known(&log), known_before(&log)), (vec![], Some(0)));
    poll(&log).await;
    assert_eq!(known(&log).len(), 7);
    log.watch_deposits(&[]).unwrap();
    assert_eq!((known(&log), known_before(&log)), (vec![], None));
}

#[tokio::test]
async fn deposits_of_vanished_blocks_are_taken_back_and_those_of_the_new_chain_are_found() {
    for epoch in [1, 32] {
        let net = start(epoch).await;
        for gwei in 1..=8 {
            deposit(&net, KEY, gwei).await;
        }
        let log = net.log(FOLLOW);
        log.poll().await.unwrap();
        log.watch_deposits(&[watched(0)]).unwrap();
        poll(&log).await;
        assert_eq!(known(&log).len(), 8);
        let old = log.deposits(0, 100).unwrap();

        net.anvil.reorg(5).await;
        log.poll().await.unwrap();
        // Of the final past only some blocks are stored, so more may have been taken back than vanished.
        assert!(known(&log).iter().all(|(block, _)| *block <= 3), "epoch {epoch}: {:?}", known(&log));
        assert!(known_before(&log).unwrap() <= 4, "the new blocks were not looked through yet");
        deposit(&net, KEY, 50).await;
        poll(&log).await;
        assert_eq!(known(&log), vec![(1, 1), (2, 2), (3, 3), (9, 50)], "epoch {epoch}");
        assert_eq!(known_before(&log), Some(10));
        let new = log.deposits(0, 100).unwrap();
        assert!(old.iter().all(|old| old.id < new[3].id), "an id is never used twice");
        // The file knows all of it.
        drop(log);
        assert_eq!(known(&net.log(FOLLOW)).len(), 4);
    }
}

#[tokio::test]
async fn deposits_are_not_called_known_where_no_endpoint_answers() {
    let net = start(1).await;
    let log = net.log(FOLLOW);
    deposit(&net, KEY, 1).await;
    log.poll().await.unwrap();
    log.watch_deposits(&[watched(0)]).unwrap();
    poll(&log).await;
    deposit(&net, KEY, 2).await;
    log.poll().await.unwrap();
    let silent =
        liar(
            net.anvil.url.clone(),
            |method, result| {
                if method == "eth_getLogs" { serde_json::json!("out of order") } else { result }
            },
        )
        .await;
    let another_chain = liar(net.anvil.url.clone(), |method, mut result| {
        if method == "eth_getLogs" {
            for log in result.as_array_mut().unwrap() {
                log["blockHash"] = serde_json::json!(keccak256("another chain"));
            }
        }
        result
    })
    .await;
    for url in [silent, another_chain] {
        let endpoint = Endpoint::connect(&url).await.unwrap();
        let blind = EventLog::open(log.store().clone(), vec![endpoint], deployment(), FOLLOW).unwrap();
        blind.scan_deposits().await.unwrap_err();
        assert_eq!((known(&log), known_before(&log)), (vec![(1, 1)], Some(2)));
    }
    log.scan_deposits().await.unwrap();
    assert_eq!((known(&log), known_before(&log)), (vec![(1, 1), (2, 2)], Some(3)));
}
