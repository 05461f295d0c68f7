//! The log against a real anvil that reorganises under it.

use alloy::{
    primitives::{U256, keccak256},
    sol_types::SolEvent,
};

use super::*;
use crate::testing::{Anvil, EMITTER, deployment, liar, store};

const FOLLOW: LogOptions =
    LogOptions { interval: Duration::from_millis(50), range: 5, batch: 4, final_reorg: FinalReorg::Follow };

mod deposits;

struct Net {
    anvil: Anvil,
    directory: tempfile::TempDir,
}

impl Net {
    async fn start(epoch: u64) -> Self {
        let anvil = Anvil::start(epoch).await;
        anvil.set_code(deployment().key_registry, EMITTER.to_vec()).await;
        Self { anvil, directory: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> Store {
        store(&self.directory.path().join("log.sqlite"))
    }

    fn log(&self, options: LogOptions) -> EventLog {
        EventLog::open(self.store(), vec![self.anvil.endpoint()], deployment(), options).unwrap()
    }

    /// A transaction whose event says that key 1 was ordered to sign `word`; in the pool until the next block.
    async fn order(&self, word: u64) {
        let event = KeyRegistry::MessageOrdered { keyId: U256::from(1), signingRoot: U256::from(word).into() };
        let topics: Vec<B256> = event.encode_topics().into_iter().map(|topic| topic.0).collect();
        self.anvil.send(deployment().key_registry, topics.concat().into()).await;
    }

    /// One event in a block of its own.
    async fn order_and_mine(&self, word: u64) {
        self.order(word).await;
        self.anvil.mine(1).await;
    }
}

/// The words of all stored events, in feed order.
fn words(log: &EventLog) -> Vec<u64> {
    let events = log.events_of::<KeyRegistry::MessageOrdered>(deployment().key_registry).unwrap();
    events.iter().map(|(_, event)| word_of(event.signingRoot)).collect()
}

fn word_of(root: B256) -> u64 {
    U256::from_be_bytes(root.0).to()
}

/// A consumer that keeps a sum per word in the same database: what it holds must equal what the chain holds.
struct Counter;

impl Counter {
    fn create(log: &EventLog) {
        let sql = "CREATE TABLE IF NOT EXISTS counted (word INTEGER PRIMARY KEY, times INTEGER NOT NULL) STRICT";
        log.store().write::<_, ChainError>(|tx| Ok(tx.execute_batch(sql)?)).unwrap();
    }

    fn run(log: &EventLog) -> Vec<(bool, u64)> {
        let mut seen = Vec::new();
        while log
            .consume::<ChainError>("counter", 3, |tx, change| {
                let (added, event) = match change {
                    Change::Added(event) => (true, event),
                    Change::Removed(event) => (false, event),
                };
                let word = word_of(event.typed::<KeyRegistry::MessageOrdered>().unwrap().signingRoot);
                tx.execute(
                    "INSERT INTO counted VALUES (?1, ?2) ON CONFLICT DO UPDATE SET times = times + ?2",
                    params![integer(word)?, if added { 1 } else { -1 }],
                )?;
                seen.push((added, word));
                Ok(())
            })
            .unwrap()
            > 0
        {}
        seen
    }

    /// Words counted, with how often; words counted zero times left out.
    fn counted(log: &EventLog) -> Vec<(u64, i64)> {
        log.store()
            .read::<_, ChainError>(|connection| {
                let mut statement = connection.prepare("SELECT * FROM counted WHERE times <> 0 ORDER BY word")?;
                let rows = statement.query_map([], |row| Ok((number(row, "word")?, row.get("times")?)))?;
                Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
            })
            .unwrap()
    }
}

/// Every stored block and every row of a log must be of the endpoint's chain.
async fn assert_no_row_of_a_vanished_block(net: &Net, log: &EventLog) {
    let rows = log
        .store()
        .read::<_, ChainError>(|connection| {
            let sql = "SELECT number, hash FROM chain_blocks
                       UNION ALL SELECT block_number AS number, block_hash AS hash FROM chain_logs";
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([], |row| Ok((number(row, "number")?, bytes::<32>(row, "hash")?)))?;
            Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
        })
        .unwrap();
    assert!(!rows.is_empty());
    for (number, hash) in rows {
        let block = net.anvil.endpoint().block(number.into()).await.unwrap().unwrap();
        assert_eq!(block.hash.0, hash, "row of a vanished block {number}");
    }
}

#[tokio::test]
async fn events_are_stored_with_their_blocks_and_decoded() {
    let net = Net::start(1).await;
    for word in 1..=9 {
        net.order_and_mine(word).await;
    }
    net.order(10).await;
    net.order(11).await;
    net.anvil.mine(1).await;
    let log = net.log(FOLLOW);
    let progress = log.poll().await.unwrap();
    assert_eq!((progress.added, progress.removed, progress.tip), (11, 0, Some(10)));
    assert_eq!(words(&log), (1..=11).collect::<Vec<_>>());
    assert_eq!(log.finalized().unwrap().unwrap().0, 8);
    let query = EventQuery { topic2: Some(U256::from(7).into()), only_final: true, ..EventQuery::default() };
    let seventh = log.events(&query).unwrap();
    assert_eq!(seventh.len(), 1);
    let StkrEvent::Key(KeyRegistry::KeyRegistryEvents::MessageOrdered(event)) = &seventh[0].event else {
        panic!("not decoded: {:?}", seventh[0].event)
    };
    assert_eq!((word_of(event.signingRoot), seventh[0].block_number), (7, 7));
    let query = EventQuery { topic2: Some(U256::from(10).into()), only_final: true, ..EventQuery::default() };
    assert!(log.events(&query).unwrap().is_empty(), "block 10 is not final");
    assert_eq!(log.poll().await.unwrap().added, 0, "a second poll stored the same events again");
    assert_no_row_of_a_vanished_block(&net, &log).await;
}

#[tokio::test]
async fn a_reorg_is_counted_even_if_the_poll_that_saw_it_fails_right_after() {
    let net = Net::start(1).await;
    for word in 1..=6 {
        net.order_and_mine(word).await;
    }
    let failing = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    let url = liar(net.anvil.url.clone(), move |method, result| {
        // Not a list of logs: the endpoint breaks down between the unwinding and what would follow it.
        let broken = method == "eth_getLogs" && fails.load(std::sync::atomic::Ordering::SeqCst);
        if broken { serde_json::json!("out of order") } else { result }
    })
    .await;
    let endpoint = Endpoint::connect(&url).await.unwrap();
    let log = EventLog::open(net.store(), vec![endpoint], deployment(), FOLLOW).unwrap();
    log.poll().await.unwrap();
    assert_eq!(log.unwinds().unwrap(), 0);

    net.anvil.reorg(3).await;
    net.order_and_mine(50).await;
    failing.store(true, std::sync::atomic::Ordering::SeqCst);
    log.poll().await.unwrap_err();
    assert_eq!((log.unwinds().unwrap(), words(&log)), (1, vec![1, 2, 3]), "taken back, and nothing new yet");
    failing.store(false, std::sync::atomic::Ordering::SeqCst);
    let progress = log.poll().await.unwrap();
    assert_eq!((progress.removed, log.unwinds().unwrap()), (0, 1), "this poll has nothing to take back any more");
    assert_eq!(words(&log), vec![1, 2, 3, 50]);
    drop(log);
    assert_eq!(net.log(FOLLOW).unwinds().unwrap(), 1, "it survives a restart");
}

#[tokio::test]
async fn what_vanished_is_told_although_another_endpoint_had_to_finish_the_poll() {
    let net = Net::start(1).await;
    for word in 1..=6 {
        net.order_and_mine(word).await;
    }
    let log = net.log(FOLLOW);
    log.poll().await.unwrap();
    net.anvil.reorg(3).await;
    net.order_and_mine(50).await;
    let url =
        liar(
            net.anvil.url.clone(),
            |method, result| {
                if method == "eth_getLogs" { serde_json::json!("out of order") } else { result }
            },
        )
        .await;
    let endpoints = vec![Endpoint::connect(&url).await.unwrap(), net.anvil.endpoint()];
    let log = EventLog::open(log.store().clone(), endpoints, deployment(), FOLLOW).unwrap();
    assert_eq!(log.poll().await.unwrap().removed, 3);
    assert_eq!(words(&log), vec![1, 2, 3, 50]);
}

async fn nothing_is_counted_twice_through_a_reorg_of(depth: u64) {
    let net = Net::start(1).await;
    for word in 1..=12 {
        net.order_and_mine(word).await;
    }
    let log = net.log(FOLLOW);
    log.poll().await.unwrap();
    Counter::create(&log);
    assert_eq!(Counter::run(&log).len(), 12);

    net.anvil.reorg(depth).await;
    let kept: Vec<u64> = (1..=12 - depth).collect();
    let progress = log.poll().await.unwrap();
    assert_eq!(progress.removed, usize::try_from(depth).unwrap());
    assert_eq!(words(&log), kept);
    assert_no_row_of_a_vanished_block(&net, &log).await;
    // The stakers send theirs again, in another order, and one is new.
    for word in (13 - depth..=12).rev().chain([99]) {
        net.order_and_mine(word).await;
    }
    log.poll().await.unwrap();
    let seen = Counter::run(&log);
    let removed: Vec<u64> = seen.iter().filter(|(added, _)| !added).map(|(_, word)| *word).collect();
    assert_eq!(removed, (13 - depth..=12).rev().collect::<Vec<_>>(), "newest first, each once");
    assert!(seen.iter().take(removed.len()).all(|(added, _)| !added), "removals come before additions");
    let expected: Vec<(u64, i64)> = (1..=12).chain([99]).map(|word| (word, 1)).collect();
    assert_eq!(Counter::counted(&log), expected);
    assert_no_row_of_a_vanished_block(&net, &log).await;
}

#[tokio::test]
async fn nothing_is_counted_twice_through_a_reorg_of_one_block() {
    nothing_is_counted_twice_through_a_reorg_of(1).await;
}

#[tokio::test]
async fn nothing_is_counted_twice_through_a_reorg_of_ten_blocks() {
    nothing_is_counted_twice_through_a_reorg_of(10).await;
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_reorg_resumes_where_the_consumer_was() {
    let net = Net::start(1).await;
    for word in 1..=6 {
        net.order_and_mine(word).await;
    }
    let log = net.log(FOLLOW);
    log.poll().await.unwrap();
    Counter::create(&log);
    // The consumer has read four of six when the process ends, and the chain moves while nobody looks.
    log.consume::<ChainError>("counter", 4, |tx, _| {
        tx.execute_batch("INSERT INTO counted SELECT coalesce(max(word), 0) + 1, 1 FROM counted")?;
        Ok(())
    })
    .unwrap();
    drop(log);
    net.anvil.reorg(4).await;
    net.order_and_mine(50).await;

    let log = net.log(FOLLOW);
    log.poll().await.unwrap();
    drop(log);
    // And once more between the reconciliation and the consumer.
    let log = net.log(FOLLOW);
    assert_eq!(
        Counter::run(&log),
        vec![(false, 4), (false, 3), (true, 50)],
        "only what the consumer had read is taken back from it"
    );
    assert_eq!(Counter::counted(&log), vec![(1, 1), (2, 1), (50, 1)]);
    assert_no_row_of_a_vanished_block(&net, &log).await;
}

#[tokio::test]
async fn a_consumer_that_fails_has_consumed_nothing() {
    let net = Net::start(1).await;
    net.order_and_mine(1).await;
    net.order_and_mine(2).await;
    let log = net.log(FOLLOW);
    log.poll().await.unwrap();
    Counter::create(&log);
    let mut calls = 0;
    let failed = log.consume::<ChainError>("counter", 10, |tx, _| {
        tx.execute_batch("INSERT INTO counted VALUES (77, 1)")?;
        calls += 1;
        if calls == 2 { Err(ChainError::NotFound("no".into())) } else { Ok(()) }
    });
    assert!(failed.is_err());
    assert_eq!(Counter::counted(&log), vec![]);
    assert_eq!(Counter::run(&log), vec![(true, 1), (true, 2)]);
}

#[tokio::test]
async fn a_final_block_that_vanishes_stops_the_log_unless_told_to_follow() {
    let net = Net::start(1).await;
    for word in 1..=8 {
        net.order_and_mine(word).await;
    }
    let log = net.log(LogOptions { final_reorg: FinalReorg::Refuse, ..FOLLOW });
    log.poll().await.unwrap();
    net.anvil.reorg(6).await;
    let error = log.poll().await.unwrap_err();
    assert!(matches!(error, ChainError::FinalBlockVanished { .. }), "{error}");
    assert_eq!(words(&log), (1..=8).collect::<Vec<_>>(), "it must touch nothing");
}

#[tokio::test]
async fn an_endpoint_that_lags_takes_nothing_back() {
    let net = Net::start(32).await;
    for word in 1..=5 {
        net.order_and_mine(word).await;
    }
    let log = net.log(FOLLOW);
    log.poll().await.unwrap();
    // The same chain, as a node shows it that has only two blocks yet.
    let second: serde_json::Value = net.anvil.rpc("eth_getBlockByNumber", serde_json::json!(["0x2", false])).await;
    let url = liar(net.anvil.url.clone(), move |method, result| {
        let beyond = result["number"]
            .as_str()
            .is_some_and(|number| U256::from_str_radix(&number[2..], 16).unwrap() > U256::from(2));
        if method == "eth_getBlockByNumber" && beyond { second.clone() } else { result }
    })
    .await;
    let lagging = Endpoint::connect(&url).await.unwrap();
    let log = EventLog::open(log.store().clone(), vec![lagging], deployment(), FOLLOW).unwrap();
    let progress = log.poll().await.unwrap();
    assert_eq!((progress.vanished, progress.removed, progress.tip), (0, 0, Some(5)));
    assert_eq!(words(&log).len(), 5);
}

#[tokio::test]
async fn logs_of_a_block_that_is_not_on_the_chain_are_refused() {
    for epoch in [1, 32] {
        // Finalized blocks come in ranges, the others one by one: both ways must notice.
        let net = Net::start(epoch).await;
        for word in 1..=6 {
            net.order_and_mine(word).await;
        }
        let url = liar(net.anvil.url.clone(), |method, mut result| {
            if method == "eth_getLogs" {
                for log in result.as_array_mut().unwrap() {
                    log["blockHash"] = serde_json::json!(keccak256("another chain"));
                }
            }
            result
        })
        .await;
        let endpoint = Endpoint::connect(&url).await.unwrap();
        let log = EventLog::open(net.store(), vec![endpoint], deployment(), FOLLOW).unwrap();
        let error = log.poll().await.unwrap_err();
        assert!(matches!(error, ChainError::Nonsense { .. }), "{error}");
        assert!(words(&log).is_empty());
    }
}

#[tokio::test]
async fn a_database_of_another_deployment_is_refused() {
    let net = Net::start(1).await;
    drop(net.log(FOLLOW));
    let mut other = deployment();
    other.key_registry = other.access_manager;
    let error = EventLog::open(net.store(), vec![net.anvil.endpoint()], other, FOLLOW).unwrap_err();
    assert!(error.to_string().starts_with("the database belongs to chain 31337"), "{error}");
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over_and_following_goes_on_until_stopped() {
    let net = Net::start(1).await;
    let dead = Endpoint::connect(&"http://127.0.0.1:1".parse().unwrap()).await.unwrap();
    let log = EventLog::open(net.store(), vec![dead, net.anvil.endpoint()], deployment(), FOLLOW).unwrap();
    let mut tips = log.subscribe();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let following = tokio::spawn({
        let log = log.clone();
        async move {
            log.follow(async {
                let _ = stopped.await;
            })
            .await
        }
    });
    net.order_and_mine(5).await;
    tips.wait_for(|tip| tip.is_some_and(|tip| tip.number == 1)).await.unwrap();
    assert_eq!(words(&log), vec![5]);
    stop.send(()).unwrap();
    following.await.unwrap().unwrap();
}
