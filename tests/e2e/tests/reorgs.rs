//! Reorgs under a running network: anvil drops the transactions of the blocks it replaces, the test sends the stakers'
//! again and the relayer its own; nothing counts twice and no row of a vanished block survives.

use alloy::network::EthereumWallet;
use alloy::primitives::{B256, TxHash};
use alloy::providers::{DynProvider, Provider};
use eyre::{Result, ensure, eyre};
use rusqlite::{Connection, OpenFlags};
use std::io::Write as _;
use std::time::Duration;
use stkr_chain::bindings::{KeyRegistry, Micropools};
use stkr_core::{PublicKey, Signature};
use stkr_duties::DepositMessage;
use stkr_e2e::anvil::reorg;
use stkr_e2e::{Network, Options};
use stkr_node::logs::unknown_fields;
use stkr_node::tls::Identity;
use stkr_protocol::api::SignBatch;
use stkr_protocol::sign::{DepositRequest, SignResponse};

/// Blocks between head and finality; what is reorganised must lie above.
const FINALITY: u64 = 12;

/// Replaces the last blocks, `depth` at least, down to and with the one that holds `transaction`, and shows that it is no
/// longer there: neither the block, nor the receipt in it. Returns how many blocks went.
async fn undo(provider: &DynProvider, transaction: TxHash, depth: u64) -> Result<u64> {
    let place = async || -> Result<Option<(u64, B256)>> {
        let receipt = provider.get_transaction_receipt(transaction).await?;
        Ok(receipt.and_then(|receipt| receipt.block_number.zip(receipt.block_hash)))
    };
    let (number, hash) = place().await?.ok_or_else(|| eyre!("{transaction} is in no block, nothing to undo"))?;
    // A block can come in between looking at the head and the reorg; then the last one is still missing.
    for _ in 0..3 {
        let head = provider.get_block_number().await?;
        let depth = depth.max(head - number + 1);
        ensure!(depth < FINALITY, "{transaction} is {depth} blocks deep, which is final");
        reorg(provider, depth).await?;
        let block = provider.get_block_by_number(number.into()).await?;
        if block.is_none_or(|block| block.header.hash != hash) {
            // It may be back already, in another block: the relayer sends its own again at once.
            ensure!(place().await?.is_none_or(|(_, found)| found != hash), "{transaction} survived its block");
            eprintln!("undid {transaction}: {depth} blocks");
            return Ok(depth);
        }
    }
    Err(eyre!("block {number} does not go away"))
}

#[tokio::test]
async fn reorgs_of_one_and_ten_blocks_lose_nothing_and_count_nothing_twice() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = Options { servers: 4, block_ms: 400, finality: FINALITY, ..Options::new(dir.path()) };
    let network = start_with_json_logs(options).await?;
    let provider = network.provider()?;
    let (micropools, registry) = (network.deployment.micropools, network.deployment.key_registry);
    let stkr = network.stkr().await?;

    // A stake vanishes with its block and is sent again.
    let (pool, _) = network.open_pool(&network.account("10").await?, 3, 4).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let staker = EthereumWallet::from(network.account("40").await?);
    let half = stkr.pools().get(pool).await?.room() / alloy::primitives::U256::from(2);
    let staked = stkr.pools().stake(pool, half)?.send_with(&staker).await?.receipt;
    undo(&provider, staked.transaction_hash, 1).await?;
    assert!(stkr.pools().get(pool).await?.staked.is_zero(), "the stake was not undone");
    stkr.pools().stake(pool, half)?.send_with(&staker).await?;
    let last = EthereumWallet::from(network.account("40").await?);
    let staked = stkr.pools().stake(pool, half)?.send_with(&last).await?.receipt;
    assert_eq!(stkr.pools().get(pool).await?.room(), alloy::primitives::U256::ZERO);

    // The last stake and whatever the relayer did with the full pool: the request of a key goes with it.
    let requested = network.event::<Micropools::PoolKeyRequested>(micropools, pool).await?;
    undo(&provider, requested.transaction, 1).await?;
    if provider.get_transaction_receipt(staked.transaction_hash).await?.is_none() {
        stkr.pools().stake(pool, half)?.send_with(&last).await?;
    }

    // The relayer's own transactions vanish, each in its turn: request, finalise, order, predeposit.
    let requested = network.event::<Micropools::PoolKeyRequested>(micropools, pool).await?;
    let key = u64::try_from(requested.inner.keyId)?;
    let finalised = network.event::<KeyRegistry::KeyFinalised>(registry, key).await?;
    undo(&provider, finalised.transaction, 1).await?;
    let again = network.event::<KeyRegistry::KeyFinalised>(registry, key).await?;
    assert_eq!(again.inner.points, finalised.inner.points, "the same ceremony made another key");
    let ordered = network.event::<Micropools::DepositOrdered>(micropools, pool).await?;
    undo(&provider, ordered.transaction, 1).await?;
    let ordered = network.event::<Micropools::DepositOrdered>(micropools, pool).await?;
    let sent = network.event::<Micropools::DepositSent>(micropools, pool).await?;
    let depth = undo(&provider, sent.transaction, 10).await?;
    assert!(depth >= 10);

    let again = network.event::<Micropools::DepositSent>(micropools, pool).await?;
    assert_eq!(again.inner, sent.inner, "the same deposit goes out again");
    // What is in a block now gets final, and the relayer sees it.
    let head = provider.get_block_number().await?;
    network
        .until("the end is final", || async { Ok(provider.get_block_number().await? > head + FINALITY + 4) })
        .await?;
    assert_eq!(network.events_now::<Micropools::PoolKeyRequested>(micropools, pool).await?.len(), 1);
    assert_eq!(network.events_now::<KeyRegistry::CommitteeDrawn>(registry, key).await?.len(), 1);
    assert_eq!(network.events_now::<KeyRegistry::KeyFinalised>(registry, key).await?.len(), 1);
    assert_eq!(network.events_now::<Micropools::DepositOrdered>(micropools, pool).await?.len(), 1);
    assert_eq!(network.events_now::<Micropools::DepositSent>(micropools, pool).await?.len(), 1);

    one_picture(&network, &provider, &finalised.inner.committee).await?;
    let message = DepositMessage {
        pubkey: ordered.inner.pubkey.as_ref().try_into()?,
        withdrawal_credentials: ordered.inner.withdrawalCredentials,
        amount_gwei: ordered.inner.amountGwei,
    };
    assert_eq!(ordered.inner.signingRoot, message.signing_root(network.deployment.genesis_fork_version.0));
    servers_agree(&network, key, &message, &finalised.inner).await?;
    catalogued(&network)
}

/// As `Network::start`, with logs for machines.
async fn start_with_json_logs(options: Options) -> Result<Network> {
    let mut network = Network::deploy(options).await?;
    network.init_servers().await?;
    network.register_servers().await?;
    network.approve_servers().await?;
    for position in 0..network.servers.len() {
        let config = &network.servers[position].config;
        let text = std::fs::read_to_string(config)?.replace("format = \"text\"", "format = \"json\"");
        ensure!(text.contains("format = \"json\""), "{} has no log format", config.display());
        std::fs::write(config, text)?;
        network.start_server(position)?;
    }
    network.add_relayer(0).await?;
    network.kill_relayer(0);
    let relayer = &network.relayers[0];
    std::fs::remove_file(relayer.dir.join("relayer.log"))?;
    let mut config = std::fs::OpenOptions::new().append(true).open(&relayer.config)?;
    writeln!(config, "\n[log]\nformat = \"json\"")?;
    network.start_relayer(0)?;
    Ok(network)
}

/// Number and hash of the block that a row names, and hash of the transaction.
type Place = (u64, Vec<u8>, Option<Vec<u8>>);

/// Everything in the relayer's database that names a block names one that the chain has, and the transaction in it; the
/// bulletin holds one ceremony, and the status one pool with one deposit.
async fn one_picture(network: &Network, provider: &DynProvider, committee: &[u32]) -> Result<()> {
    let file = network.relayers[0].dir.join("relayer.sqlite");
    let database = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let rows = |sql: &str| -> Result<Vec<Place>> {
        let mut statement = database.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?)))?;
        rows.map(|row| row.map_err(Into::into).and_then(|(number, hash, tx)| Ok((u64::try_from(number)?, hash, tx))))
            .collect()
    };
    for (table, sql, at_least) in [
        ("chain_meta", "SELECT final_number, final_hash, NULL FROM chain_meta WHERE final_hash IS NOT NULL", 1),
        ("chain_blocks", "SELECT number, hash, NULL FROM chain_blocks", 1),
        ("chain_logs", "SELECT block_number, block_hash, transaction_hash FROM chain_logs", 10),
        // Request, draw, finalise, order, predeposit.
        ("chain_intents", "SELECT block_number, block_hash, hash FROM chain_intents WHERE block_hash IS NOT NULL", 5),
    ] {
        let found = rows(sql)?;
        assert!(found.len() >= at_least, "{table} has {} rows, not {at_least}", found.len());
        for (number, hash, transaction) in found {
            let block = provider.get_block_by_number(number.into()).await?.ok_or_else(|| eyre!("no block {number}"))?;
            assert_eq!(block.header.hash.as_slice(), hash, "{table}: row of a vanished block {number}");
            if let Some(transaction) = transaction {
                let transaction = TxHash::from_slice(&transaction);
                let receipt = provider.get_transaction_receipt(transaction).await?;
                let receipt = receipt.ok_or_else(|| eyre!("{table}: {transaction} is in no block"))?;
                assert_eq!(receipt.block_hash, Some(block.header.hash), "{table}: {transaction} is elsewhere");
            }
        }
    }
    let count = |sql: &str| -> Result<i64> { Ok(database.query_row(sql, [], |row| row.get(0))?) };
    assert_eq!(count("SELECT count(*) FROM chain_removals")?, 0, "removals that nobody took in");
    let twice = "SELECT count(*) FROM (SELECT 1 FROM chain_logs GROUP BY block_hash, log_index HAVING count(*) > 1)";
    assert_eq!(count(twice)?, 0);
    for (state, left) in [("failed", 0), ("waiting", 0), ("pending", 0)] {
        assert_eq!(count(&format!("SELECT count(*) FROM chain_intents WHERE state = '{state}'"))?, left, "{state}");
    }
    // Five rounds of four members of one committee, each once.
    assert_eq!(count("SELECT count(DISTINCT committee) FROM bulletin")?, 1);
    assert_eq!(count("SELECT count(DISTINCT member) FROM bulletin")?, i64::try_from(committee.len())?);
    assert_eq!(count("SELECT count(*) FROM bulletin")?, 5 * i64::try_from(committee.len())?);

    let status = network.relayer_json(0, "/status").await?;
    let pools = status["pools"].as_array().ok_or_else(|| eyre!("no pools"))?;
    assert_eq!(pools.len(), 1);
    assert_eq!(pools[0]["state"], "Predeposited");
    assert_eq!(pools[0]["staked"], "32000000000000000000");
    assert_eq!(pools[0]["depositsGwei"], serde_json::json!(["1000000000"]));
    assert_eq!(status["keys"].as_array().map(Vec::len), Some(1));
    assert_eq!(status["problems"], serde_json::json!([]));
    Ok(())
}

/// Every member signs the deposit of the chain as it is now, with the share that the chain names now, the same twice.
async fn servers_agree(
    network: &Network,
    key: u64,
    message: &DepositMessage,
    finalised: &KeyRegistry::KeyFinalised,
) -> Result<()> {
    let identity = Identity::generate("anybody")?;
    let request = DepositRequest::new(key, message, network.deployment.genesis_fork_version.0);
    for (id, point) in finalised.committee.iter().zip(finalised.points.chunks(128)) {
        let client = network.client(network.position_of(*id)?, &identity)?;
        let batch = SignBatch { requests: vec![request.clone().into(), request.clone().into()] };
        let answers = client.sign(&batch).await?;
        let [SignResponse::Signed(first), SignResponse::Signed(second)] = answers.as_slice() else {
            return Err(eyre!("server {id} refuses: {answers:?}"));
        };
        assert_eq!(first, second, "server {id}");
        let signature = Signature::from_eip2537(&first.partial)?;
        let share_key = PublicKey::from_eip2537(point)?;
        assert!(stkr_core::verify(&share_key, &request.signing_root().0, &signature), "server {id}: another share");
    }
    Ok(())
}

/// Every field of every event in every log is one that operators were told of.
fn catalogued(network: &Network) -> Result<()> {
    let servers = network.servers.iter().filter_map(|server| server.process.as_ref());
    let relayers = network.relayers.iter().filter_map(|relayer| relayer.process.as_ref());
    let mut unknown = std::collections::BTreeSet::new();
    for process in servers.chain(relayers) {
        let mut events = 0;
        for line in process.log().lines() {
            let event: serde_json::Value = serde_json::from_str(line).map_err(|_| eyre!("not JSON: {line}"))?;
            if event["target"].as_str().is_some_and(|target| target.starts_with("stkr")) {
                events += 1;
                unknown.extend(unknown_fields(&event).into_iter().map(|field| format!("{}: {field}", process.name)));
            }
        }
        assert!(events >= 3, "{} logged {events} events only", process.name);
    }
    assert!(unknown.is_empty(), "fields that are not in the catalogue: {unknown:?}");
    Ok(())
}
