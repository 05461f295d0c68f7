//! Puts a gateway together from its configuration and runs it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use eyre::WrapErr as _;
use rusqlite::Connection;
use stkr_chain::{ChainReader, Deployment, Endpoint, EventLog, FinalReorg, LogOptions, SharedConnection, Trust};
use stkr_node::client::{Patience, ServerClient};
use stkr_node::clock::Clock;
use stkr_node::config::Preset;
use stkr_node::database::Database;
use stkr_node::endpoints::usable_endpoints;
use stkr_node::exit::Failure;
use stkr_node::history;
use stkr_node::http::{Limits, print_ready, serve_plain, serve_tls};
use stkr_node::shutdown::{Reason, Shutdown};
use stkr_node::tls::{self, Identity};
use stkr_protocol::ProtocolDomain;

use crate::api::{self, App, DiskLook, Transport};
use crate::config::GatewayConfig;
use crate::follow::{Bell, Follower, Parts};
use crate::keys::KeyRing;
use crate::metrics::GatewayMetrics;
use crate::quiet::{Quiet, Watchman};
use crate::recorder::Recorder;
use crate::report::Reporter;
use crate::signing::{Late, Signing};
use crate::store::{Keeper, SCHEMA, Store};
use crate::verifier::Verifier;

/// Bounds of the transport: all requests come from one machine, over connections that stay open between two slots.
const LIMITS: Limits = Limits {
    connections: 512,
    connections_of_one_address: 512,
    handshake: Duration::from_secs(60),
    grace: Duration::from_secs(10),
};

/// A quarter of the longest time at the end for late answers: with the grace of requests it is less than the 40 seconds
/// after which systemd kills.
const MOST_LATE: Duration = Duration::from_secs(6);

/// Pause between two looks at the clocks of servers.
const CLOCK_PAUSE: Duration = Duration::from_secs(60);

/// Lends the gateway's connection to the event log.
struct Lent(Arc<Database>);

impl SharedConnection for Lent {
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock()
    }
}

/// Runs until the shutdown; signatures under way are finished.
///
/// # Errors
/// Everything that keeps a gateway from starting, and the few things that end one.
pub async fn run(config: GatewayConfig, shutdown: Shutdown) -> eyre::Result<()> {
    let deployment = config.chain.network.load(&config.chain.deployment).map_err(Failure::usage)?;
    let schedule = Arc::new(config.schedule().map_err(Failure::usage)?);
    let duty_keys: Vec<_> = config.duty_keys().map_err(Failure::usage)?.into_iter().map(Arc::new).collect();
    let identity = config.listen.identity().map_err(Failure::usage)?;
    // A wrong chain must not even open the databases.
    let endpoints = usable_endpoints(&config.chain.common(), &deployment).await?;
    let database = Database::open(&config.storage.database, &SCHEMA);
    let database = Arc::new(database.map_err(|error| Failure::new(error.exit(), error))?);
    let store = Store::new(database.clone());
    let protection = Arc::new(history::open(&config.storage.protection, &schedule, &store)?);

    let metrics = GatewayMetrics::default();
    let (ring, bell) = (KeyRing::default(), Bell::default());
    let quiet = Quiet::new(config.doppelganger.quiet_epochs, schedule.clone());
    if !quiet.is_on() {
        tracing::warn!("no quiet period: nothing will be noticed of another gateway with the same duty key");
    }
    let domain = ProtocolDomain { chain_id: deployment.chain_id, key_registry: deployment.key_registry };
    let signing = Signing {
        domain,
        schedule: schedule.clone(),
        ring: ring.clone(),
        quiet: quiet.clone(),
        high_watermark: config.high_watermark,
        recorder: Recorder::start(protection.clone(), schedule.clone(), metrics.protection_commits.clone())?,
        verifier: Verifier::start(&metrics.verified, &metrics.verified_groups)?,
        keeper: Keeper::start(store.clone(), config.storage.keep_requests, &metrics)?,
        metrics: metrics.clone(),
        court: deployment.court,
        suspects: Arc::new(Mutex::new(store.suspects().map_err(Failure::not_safe)?)),
        late: Late::new(),
    };
    let pause = Duration::from_millis(config.chain.poll_ms);
    let patience = Duration::from_millis(config.limits.server_ms);
    let parts = Parts {
        domain,
        log: event_log(&config, &deployment, &endpoints, database)?,
        reader: ChainReader::new(deployment, endpoints, Trust::OneEndpoint).map_err(Failure::unavailable)?,
        schedule,
        duty_keys,
        identity: Identity::generate("stkr-gateway")?,
        patience: Patience { connect: patience, answer: patience },
        protection: protection.clone(),
        store: store.clone(),
        ring: ring.clone(),
        quiet: quiet.clone(),
        metrics: metrics.clone(),
        pause,
    };
    let watchman = Watchman { quiet, ring, store: store.clone(), metrics: metrics.clone() };
    tokio::spawn(watchman.run(shutdown.clone()));
    let reporter = Reporter::new(config.report.relayers.clone(), store.clone(), metrics.clone())?;
    tokio::spawn(reporter.run(shutdown.clone()));
    let clock = Clock::new(&metrics.registry);
    tokio::spawn(clock.clone().watch(CLOCK_PAUSE, shutdown.clone(), {
        let ring = signing.ring.clone();
        move || clocks_of_servers(ring.clone())
    }));
    let app = Arc::new(App { signing, bell: bell.clone(), store, protection, clock, disk: DiskLook::default() });
    serve(&config, app, identity, Follower::new(parts, bell), shutdown).await
}

/// Seconds by which our clock is ahead of that of each server of our keys.
async fn clocks_of_servers(ring: KeyRing) -> Vec<f64> {
    let keys = ring.keys().unwrap_or_default();
    let seats = keys.values().flat_map(|key| &key.committees).flat_map(|it| &it.seats);
    let clients = seats.filter_map(|seat| Some((seat.server_id, seat.client.as_ref().ok()?.client().clone())));
    let clients: BTreeMap<u32, ServerClient> = clients.collect();
    let asked = clients.into_values().map(|client| async move { client.clock_offset().await.ok().flatten() });
    futures::future::join_all(asked).await.into_iter().flatten().collect()
}

async fn serve(
    config: &GatewayConfig,
    app: Arc<App>,
    identity: Option<Identity>,
    follower: Follower,
    shutdown: Shutdown,
) -> eyre::Result<()> {
    let listener = std::net::TcpListener::bind(config.listen.address)
        .map_err(|error| Failure::unavailable(format!("cannot listen on {}: {error}", config.listen.address)))?;
    let address = listener.local_addr()?;
    tracing::info!(address = %address, "stkr-gateway starts");
    let (stop, metrics) = (shutdown.clone(), app.signing.metrics.registry.clone());
    let transport = if identity.is_some() { Transport::Tls } else { Transport::Plain };
    let router = api::router(app.clone(), transport);
    let server = match &identity {
        Some(identity) => Some(tls::open_server_config(identity).map_err(Failure::usage)?),
        None => None,
    };
    let serving = tokio::spawn(async move {
        match server {
            Some(server) => serve_tls(listener, router, server, &metrics, LIMITS, stop).await,
            None => serve_plain(listener, router, &metrics, LIMITS, stop).await,
        }
    });
    print_ready(address)?;
    let outcome = follower.run(shutdown.clone()).await;
    shutdown.trigger(Reason::Internal);
    serving.await?.wrap_err("serving HTTP")?;
    // A server has so long to connect, and again to answer; one that broke is asked twice.
    app.signing.end(4 * Duration::from_millis(config.limits.server_ms).min(MOST_LATE)).await;
    if let Err(error) = app.protection.empty_log() {
        tracing::warn!(error = %error, "slashing protection keeps its log until the next start");
    }
    tracing::info!("stkr-gateway ends");
    outcome.map_err(|error| Failure::not_safe(error).into())
}

fn event_log(
    config: &GatewayConfig,
    deployment: &Deployment,
    endpoints: &[Endpoint],
    database: Arc<Database>,
) -> eyre::Result<EventLog> {
    let final_reorg = if config.chain.network == Preset::Devnet { FinalReorg::Follow } else { FinalReorg::Refuse };
    let interval = Duration::from_millis(config.chain.poll_ms);
    let options = LogOptions { interval, final_reorg, ..LogOptions::default() };
    let store = stkr_chain::Store::new(Arc::new(Lent(database)));
    let log = EventLog::open(store, endpoints.to_vec(), deployment.clone(), options).map_err(Failure::not_safe)?;
    Ok(log)
}
