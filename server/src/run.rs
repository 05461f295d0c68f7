//! The daemon: checks first, then serves, then follows its own registration.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy::eips::BlockNumberOrTag;
use eyre::WrapErr as _;
use stkr_chain::{ChainError, ChainReader, Deployment, Endpoint, Trust};
use stkr_node::clock::Dates;
use stkr_node::config::{self, rpc_host};
use stkr_node::exit::{Exit, Failure};
use stkr_node::history;
use stkr_node::http::{Limits, print_ready, serve_tls};
use stkr_node::logs::{self, LogFormat};
use stkr_node::shutdown::Shutdown;
use stkr_node::tls::{self, Identity};

use url::Url;

use crate::api;
use crate::app::App;
use crate::chain::ChainView;
use crate::config::ServerConfig;
use crate::desk::Desk;
use crate::duties::Duties;
use crate::duty::Policy;
use crate::evidence::Evidence;
use crate::setup::load_keys;
use crate::store::{Owner, Store, StoreError};

/// Pause between two looks at the clocks of RPC endpoints, which may cost the operator something.
const CLOCK_PAUSE: Duration = Duration::from_secs(300);

/// Arguments of `run`.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Configuration file
    #[arg(long)]
    pub config: PathBuf,
    /// text or json; wins over the configuration
    #[arg(long)]
    pub log_format: Option<LogFormat>,
    /// End when standard input ends: when the parent process is gone
    #[arg(long)]
    pub exit_with_parent: bool,
}

/// Runs a server until SIGTERM, SIGINT or the end of its parent.
///
/// # Errors
/// Anything that keeps it from serving, with its exit class.
pub async fn run(args: &RunArgs) -> eyre::Result<()> {
    tls::install_provider().map_err(|error| Failure::new(Exit::Unsafe, error))?;
    let config = config::load::<ServerConfig>(&args.config).map_err(Failure::usage)?;
    logs::init(args.log_format.unwrap_or(config.log.format), &config.log.filter).map_err(Failure::usage)?;
    let shutdown = Shutdown::install(args.exit_with_parent)?;
    let served = serve(&config, shutdown.clone()).await;
    if let Some(reason) = shutdown.reason() {
        tracing::info!(reason = ?reason, "server ended");
    }
    served
}

async fn serve(config: &ServerConfig, shutdown: Shutdown) -> eyre::Result<()> {
    let identity = Identity::load(&config.files.tls_certificate, &config.files.tls_key).map_err(Failure::usage)?;
    let app = tokio::select! {
        app = build(config) => app?,
        _ = shutdown.wait() => return Ok(()),
    };
    let checked = {
        let app = app.clone();
        tokio::task::spawn_blocking(move || app.check_shares()).await?
    };
    let count = checked.map_err(Failure::not_safe)?;
    tracing::info!(count, "stored shares open");

    let listener = TcpListener::bind(config.listen.address).map_err(|error| {
        Failure::unavailable(format!("cannot listen on {}: {error}; is another process there?", config.listen.address))
    })?;
    let address = listener.local_addr()?;
    let router = api::router(app.clone(), Duration::from_secs(config.limits.request_seconds));
    let registration = tokio::spawn(follow_registration(
        app.clone(),
        identity.fingerprint(),
        Duration::from_millis(config.chain.poll_ms),
    ));
    let assignments = tokio::spawn(follow_assignments(app.clone(), Duration::from_millis(config.chain.poll_ms)));
    let finalised = tokio::spawn(follow_finalised(app.clone(), Duration::from_millis(config.chain.poll_ms)));
    let urls = config.chain.endpoints().map_err(Failure::usage)?;
    let dates = Dates::new().map_err(Failure::unavailable)?;
    let (reader, stop) = (app.chain().reader().clone(), shutdown.clone());
    let ask = move || clocks_of_endpoints(dates.clone(), urls.clone(), reader.clone());
    tokio::spawn(app.clock().clone().watch(CLOCK_PAUSE, stop, ask));
    tracing::info!(address = %address, signer = %app.signer(), fingerprint = %identity.fingerprint(), "serving");
    let tls = tls::server_config(&identity).map_err(Failure::usage)?;
    print_ready(address)?;
    let served = serve_tls(listener, router, tls, app.metrics(), Limits::default(), shutdown).await;
    registration.abort();
    assignments.abort();
    finalised.abort();
    app.end().await;
    served.wrap_err("serve")
}

/// Checks chain, keys and database, in this order: a wrong chain must not even open the database.
async fn build(config: &ServerConfig) -> eyre::Result<Arc<App>> {
    let deployment = Deployment::load(&config.chain.deployment).map_err(Failure::usage)?;
    let reader = connect(config, deployment.clone()).await?;
    let files = config.files.clone();
    let keys = tokio::task::spawn_blocking(move || load_keys(&files)).await??;
    let owner =
        Owner { signer: keys.signer.address(), chain_id: deployment.chain_id, key_registry: deployment.key_registry };
    let born = if config.files.database.exists() { 0 } else { newest_block(&reader).await? };
    if born > 0 {
        tracing::warn!(
            file = %config.files.database.display(),
            block = born,
            what_to_do = "if there was a database before, stop and restore it: its shares are lost otherwise",
            "no database found, made a new one; ceremonies drawn before this block are sat out"
        );
    }
    let store = Arc::new(Store::open(&config.files.database, &owner, born).map_err(store_failure)?);
    let duties = build_duties(config, &store)?;
    let limits = (config.limits.requests_per_second, config.limits.burst);
    Ok(App::new(store, keys, ChainView::new(reader), duties, limits))
}

/// Without its slashing protection a server that knows a beacon chain does not start at all.
fn build_duties(config: &ServerConfig, store: &Arc<Store>) -> eyre::Result<Option<Duties>> {
    let Some(schedule) = config.schedule().map_err(Failure::usage)? else {
        tracing::info!("no beacon chain is configured, so no duty is signed");
        return Ok(None);
    };
    let desk = Desk::start(history::open(&config.files.protection, &schedule, &**store)?)?;
    let policy = Policy { schedule, sign_unproven_blocks: config.beacon.sign_unproven_blocks };
    let evidence = Evidence::start(Arc::clone(store), config.limits.evidence_rows);
    Ok(Some(Duties::new(policy, desk, evidence)))
}

async fn connect(config: &ServerConfig, deployment: Deployment) -> eyre::Result<ChainReader> {
    let urls = config.chain.endpoints().map_err(Failure::usage)?;
    let trust = if config.chain.min_endpoints < 2 { Trust::OneEndpoint } else { Trust::TwoEndpoints };
    for url in &urls {
        tracing::info!(rpc = rpc_host(url), chain_id = deployment.chain_id, "checking RPC endpoint");
    }
    let reader = ChainReader::connect(deployment, &urls, trust).await.map_err(|error| {
        let exit = match &error {
            error if error.is_wrong_deployment() => Exit::Unsafe,
            ChainError::TooFewEndpoints { .. } | ChainError::BadDeployment { .. } | ChainError::BadEndpoint { .. } => {
                Exit::Usage
            }
            _ => Exit::Unavailable,
        };
        Failure::new(exit, error)
    })?;
    Ok(reader)
}

/// Seconds by which our clock is ahead of that of each RPC endpoint: by the date of its answers, or where it sends none, by its
/// newest block. That shows only a clock that is behind, for a block may be late and is never early.
async fn clocks_of_endpoints(dates: Dates, urls: Vec<Url>, reader: ChainReader) -> Vec<f64> {
    let look = |(url, endpoint): (Url, Endpoint)| {
        let dates = dates.clone();
        async move {
            if let Some(offset) = dates.of(&url).await {
                return Some(offset);
            }
            let block = endpoint.block(BlockNumberOrTag::Latest).await.ok()??;
            let made = UNIX_EPOCH.checked_add(Duration::from_secs(block.timestamp))?;
            Some(made.duration_since(SystemTime::now()).map_or(0.0, |early| -early.as_secs_f64()))
        }
    };
    let looks = urls.into_iter().zip(reader.endpoints().iter().cloned()).map(look);
    futures::future::join_all(looks).await.into_iter().flatten().collect()
}

async fn newest_block(reader: &ChainReader) -> eyre::Result<u64> {
    let mut newest = 0;
    for endpoint in reader.endpoints() {
        let block = endpoint.block(BlockNumberOrTag::Latest).await.map_err(Failure::unavailable)?;
        newest = newest.max(block.map_or(0, |block| block.number));
    }
    Ok(newest)
}

fn store_failure(error: StoreError) -> Failure {
    let exit = match &error {
        StoreError::Database(error) => error.exit(),
        _ => Exit::Unsafe,
    };
    Failure::new(exit, error)
}

/// Keeps what is known of who may ask as new as the newest block, so that no request waits for an endpoint.
async fn follow_assignments(app: Arc<App>, pause: Duration) {
    let mut seen = None;
    loop {
        let newest = app.chain().newest_block().await;
        if let Some(tip) = newest.filter(|tip| seen != Some(tip.hash)) {
            app.adopt_dealt_shares().await;
            app.refresh_assignments(&tip).await;
            seen = Some(tip.hash);
        }
        tokio::time::sleep(pause).await;
    }
}

/// Keeps what is known of the keys' committees as new as the newest finalised block, and erases shares whose time is over.
///
/// One comes every few minutes, and what is known of the one before is never wrong, only older: no hurry.
async fn follow_finalised(app: Arc<App>, pause: Duration) {
    loop {
        app.follow_finalised().await;
        tokio::time::sleep(pause.saturating_mul(4)).await;
    }
}

/// Finds the server's own id, and says so when what is registered is not what it presents.
async fn follow_registration(app: Arc<App>, fingerprint: tls::Fingerprint, pause: Duration) {
    let mut known = None;
    let mut told = false;
    loop {
        match app.chain().reader().server_of_signer(app.signer()).await {
            Ok(Some(id)) if known == Some(id) => {}
            Ok(Some(id)) => {
                known = Some(id);
                app.set_server_id(id);
                tracing::info!(server_id = id, signer = %app.signer(), "found in the server registry");
            }
            Ok(None) if !told => {
                told = true;
                tracing::info!(
                    signer = %app.signer(),
                    what_to_do = "register it with what `stkr-server register-args` prints",
                    "waiting to be registered"
                );
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(error = %error, "server registry could not be read"),
        }
        if let Some(id) = known {
            compare_fingerprint(&app, id, fingerprint).await;
            tokio::time::sleep(pause.max(Duration::from_secs(60))).await;
        } else {
            tokio::time::sleep(pause).await;
        }
    }
}

async fn compare_fingerprint(app: &App, id: u32, fingerprint: tls::Fingerprint) {
    let registered = match app.chain().reader().server(id).await {
        Ok(server) => server.tls_fingerprint,
        Err(error) => return tracing::debug!(error = %error, "server could not be read"),
    };
    let other = registered.0 != fingerprint.0;
    app.set_other_certificate(other);
    if other {
        tracing::error!(
            server_id = id,
            fingerprint = %fingerprint,
            error = %format!("the registry says {registered}"),
            what_to_do = "register the new certificate with setEndpoint, or bring the old one back: nobody can connect",
            "presented certificate is not the registered one"
        );
    }
}
