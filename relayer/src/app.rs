//! Puts a relayer together from its configuration and runs it.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use alloy::primitives::B256;
use alloy::signers::local::PrivateKeySigner;
use eyre::WrapErr as _;
use rusqlite::Connection;
use stkr_chain::bindings::{Court, KeyRegistry};
use stkr_chain::endpoint::{ask_contract, first};
use stkr_chain::errors::ContractError;
use stkr_chain::intents::{IntentOptions, Intents, Superseded};
use stkr_chain::{ChainReader, Deployment, Endpoint, EventLog, FinalReorg, LogOptions, SharedConnection, Trust};
use stkr_node::config::Preset;
use stkr_node::database::{Database, Schema};
use stkr_node::endpoints::usable_endpoints;
use stkr_node::exit::Failure;
use stkr_node::http::{Limits, print_ready, serve_plain};
use stkr_node::secrets;
use stkr_node::shutdown::{Reason, Shutdown};
use stkr_node::tls::Identity;

use crate::config::RelayerConfig;
use crate::desk::Desk;
use crate::engine::{Engine, Parts};
use crate::http;
use crate::offline::Counter;
use crate::shared::Shared;
use crate::store::{self, Store};

/// The relayer's file.
pub const SCHEMA: Schema = Schema {
    name: "relayer database",
    application_id: 0x5352_6c79, // "SRly"
    migrations: &[
        stkr_chain::SCHEMA,
        store::TABLES,
        store::TERMS,
        store::ARRIVALS,
        store::reshares::TABLES,
        store::OFFLINE_PARTIALS,
        store::GROUPS,
        store::OFFLINE_PARTIALS_BY_COMMITTEE,
    ],
};

const WEI_PER_GWEI: u128 = 1_000_000_000;

/// Lends the relayer's connection to the event log and the intents.
struct Lent(Arc<Database>);

impl SharedConnection for Lent {
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock()
    }
}

/// Runs until the shutdown.
///
/// # Errors
/// Everything that keeps a relayer from starting, and the few things that end one.
pub async fn run(config: RelayerConfig, shutdown: Shutdown) -> eyre::Result<()> {
    let deployment = config.chain.network.load(&config.chain.deployment).map_err(Failure::usage)?;
    let secret = secrets::read_hex32(&config.gas.key_file).map_err(Failure::usage)?;
    let signer = PrivateKeySigner::from_bytes(&B256::from(*secret))
        .map_err(|_| Failure::usage("gas.key_file holds no secp256k1 secret key"))?;
    drop(secret);
    // A wrong chain must not even open the database.
    let endpoints = usable_endpoints(&config.chain.common(), &deployment).await?;
    let database = Database::open(&config.storage.database, &SCHEMA);
    let database = Arc::new(database.map_err(|error| Failure::new(error.exit(), error))?);
    let evidence_window = evidence_window(&endpoints, &deployment).await?;
    let genesis_time = genesis_time(&endpoints, &deployment).await?;

    let pause = Duration::from_millis(config.chain.poll_ms);
    let final_reorg = if config.chain.network == Preset::Devnet { FinalReorg::Follow } else { FinalReorg::Refuse };
    let options = LogOptions { interval: pause, final_reorg, ..LogOptions::default() };
    let chain_store = stkr_chain::Store::new(Arc::new(Lent(database.clone())));
    let log = EventLog::open(chain_store.clone(), endpoints.clone(), deployment.clone(), options)
        .map_err(Failure::not_safe)?;
    let fee_cap = u128::from(config.gas.max_fee_gwei).saturating_mul(WEI_PER_GWEI);
    let options = IntentOptions { interval: pause, fee_cap, ..IntentOptions::default() };
    let intents = Intents::new(chain_store, endpoints.clone(), &deployment, signer, options, superseded());

    let store = Store::new(database);
    let reader = ChainReader::new(deployment.clone(), endpoints.clone(), Trust::OneEndpoint);
    let reader = reader.map_err(Failure::unavailable)?;
    let counter =
        Counter::new(store.clone(), ChainReader::new(deployment.clone(), endpoints.clone(), Trust::OneEndpoint)?);
    let desk = Desk::new(store.clone(), reader);
    let shared = Shared::new(store.clone(), Some(intents.clone()), Some(desk), Some(counter));
    let listener = std::net::TcpListener::bind(config.listen.address)
        .map_err(|error| Failure::unavailable(format!("cannot listen on {}: {error}", config.listen.address)))?;
    let address = listener.local_addr()?;
    tracing::info!(address = %address, chain_id = deployment.chain_id, signer = %intents.sender(), "stkr-relayer starts");
    let identity = Identity::generate("stkr-relayer")?;
    let (policy, reshares) = (config.challenges.policy(), config.reshares.policy());
    let parts = Parts {
        deployment,
        endpoints,
        log,
        intents,
        store,
        identity,
        pause,
        evidence_window,
        genesis_time,
        policy,
        reshares,
        beacon_nodes: config.beacon.urls.clone().into(),
        shared: shared.clone(),
    };
    let router = http::router(shared.clone());
    let stop = shutdown.clone();
    let metrics = shared.metrics.clone();
    let serving = tokio::spawn(async move { serve_plain(listener, router, &metrics, Limits::default(), stop).await });
    print_ready(address)?;
    let outcome = Engine::new(parts).run(shutdown.clone()).await;
    shutdown.trigger(Reason::Internal);
    serving.await?.wrap_err("serving HTTP")?;
    tracing::info!("stkr-relayer ends");
    outcome.map_err(|error| Failure::not_safe(error).into())
}

async fn evidence_window(endpoints: &[Endpoint], deployment: &Deployment) -> eyre::Result<u64> {
    let window = first(endpoints, async |endpoint| {
        let registry = KeyRegistry::new(deployment.key_registry, endpoint.provider());
        ask_contract("reading the evidence window", async { registry.EVIDENCE_WINDOW().call().await }).await
    });
    Ok(window.await.map_err(Failure::unavailable)?.to())
}

async fn genesis_time(endpoints: &[Endpoint], deployment: &Deployment) -> eyre::Result<u64> {
    let time = first(endpoints, async |endpoint| {
        let court = Court::new(deployment.court, endpoint.provider());
        ask_contract("reading the genesis time", async { court.GENESIS_TIME().call().await }).await
    });
    time.await.map_err(|error| Failure::unavailable(error).into())
}

/// Errors of the contracts that mean, for a step, that somebody else took it first. Everything else is a refusal that
/// people should hear of.
fn superseded() -> Superseded {
    let by_step: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("request_key", ["KeyAlreadyRequested", "WrongPoolState"].as_slice()),
        ("draw", &["WrongKeyState", "WrongCommitment"]),
        ("restart", &["WrongKeyState", "NotExpired", "WrongCommitment"]),
        ("finalise_key", &["WrongKeyState", "WrongCommitment"]),
        ("order_deposit", &["WrongPoolState"]),
        ("predeposit", &["WrongPoolState"]),
        ("top_up", &["WrongPoolState"]),
        ("prove_foreign_deposit", &["WrongPoolState"]),
        ("commit_to_evidence", &["AlreadyCommitted"]),
        ("answer_challenge", &["NoChallenge"]),
        ("prove_unanswered", &["NoChallenge"]),
        ("challenge_silent", &["AlreadyChallenged"]),
        ("free_seats", &["SeatsAlreadyFreed", "WrongKeyState"]),
        ("free_seats_of_unfinished", &["SeatsAlreadyFreed", "WrongKeyState"]),
        ("request_reshare", &["WrongReshareState", "WrongCommitment", "WrongKeyState"]),
        ("draw_reshare", &["WrongReshareState", "WrongCommitment"]),
        ("restart_reshare", &["WrongReshareState", "NotExpired", "WrongCommitment"]),
        ("finalise_reshare", &["WrongReshareState", "WrongCommitment"]),
        ("cancel_reshare", &["WrongReshareState"]),
        ("free_past_seats", &["SeatsAlreadyFreed"]),
    ]);
    Arc::new(move |key: &str, error: &ContractError| {
        let step = key.split('/').next().unwrap_or_default();
        by_step.get(step).is_some_and(|names| names.contains(&error.name.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::U256;
    use alloy::primitives::aliases::U48;
    use alloy::sol_types::SolError as _;
    use stkr_chain::bindings::{Micropools, Resharing};

    #[test]
    fn a_step_that_somebody_else_took_is_no_failure_and_anything_else_is() {
        let taken = superseded();
        let done = Micropools::WrongPoolState { poolId: U256::from(1), state: 4 }.abi_encode();
        let wrong = Micropools::InvalidSignature { poolId: U256::from(1), signingRoot: B256::ZERO }.abi_encode();
        assert!(taken("predeposit/1/00ff", &ContractError::decode(&done)));
        assert!(!taken("predeposit/1/00ff", &ContractError::decode(&wrong)));
        let early = KeyRegistry::NotExpired { keyId: U256::from(1), until: U256::from(9) }.abi_encode();
        assert!(taken("restart/1/0/5/00ff", &ContractError::decode(&early)), "another relayer restarted it");
        assert!(!taken("draw/1/0/5/00ff", &ContractError::decode(&early)));
    }

    #[test]
    fn another_relayer_that_was_first_in_a_reshare_is_no_failure_and_a_key_without_spare_servers_is() {
        let taken = superseded();
        let moved_on = Resharing::WrongReshareState { keyId: U256::from(1), state: 2 }.abi_encode();
        let another_draft = Resharing::WrongCommitment { given: B256::ZERO, committed: B256::ZERO }.abi_encode();
        for step in ["request_reshare/1/1", "draw_reshare/1/1/0/20", "finalise_reshare/1/1/0"] {
            for error in [&moved_on, &another_draft] {
                assert!(taken(&format!("{step}/00ff"), &ContractError::decode(error)), "{step}");
            }
        }
        let none_left = Resharing::NotEnoughActiveServers { active: U256::ZERO, needed: U256::from(1) };
        let too_late = Resharing::CeremonyExpired { keyId: U256::from(1), deadline: U48::from(9) };
        assert!(!taken("request_reshare/1/1/00ff", &ContractError::decode(&none_left.abi_encode())));
        assert!(!taken("finalise_reshare/1/1/0/00ff", &ContractError::decode(&too_late.abi_encode())));
    }
}
