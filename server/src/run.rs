//! The daemon: checks first, then serves, then follows its own registration.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::Address;
use eyre::WrapErr as _;
use stkr_chain::{ChainError, ChainReader, Deployment, Endpoint, ServerInfo, Trust};
use stkr_node::clock::Dates;
use stkr_node::config::{self, rpc_host};
use stkr_node::exit::{Exit, Failure};
use stkr_node::history;
use stkr_node::http::{Limits, print_ready, serve_tls};
use stkr_node::logs::{self, LogFormat};
use stkr_node::shutdown::Shutdown;
use stkr_node::tls::{self, Identity};
use stkr_protocol::SignerKey;

use url::Url;

use crate::api;
use crate::app::{App, Standing};
use crate::chain::ChainView;
use crate::config::{FilesConfig, ServerConfig};
use crate::desk::Desk;
use crate::duties::Duties;
use crate::duty::Policy;
use crate::evidence::Evidence;
use crate::setup::store_key;
use crate::signers::{self, Keys, SignerKeys};
use crate::store::{Owner, Store, StoreError};

/// Pause between two looks at the clocks of RPC endpoints, which may cost the operator something.
const CLOCK_PAUSE: Duration = Duration::from_secs(300);

/// Pause between two looks at this server's own record in the registry.
const REGISTRATION_PAUSE: Duration = Duration::from_secs(60);

/// Pause between two questions to the chain about a signer key that it does not know yet, or as another server's.
const SIGNER_PAUSE: Duration = Duration::from_secs(10);

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
        config.files.clone(),
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
    let (found, store_key) =
        tokio::task::spawn_blocking(move || Ok::<_, Failure>((signers::read(&files)?, store_key(&files)?))).await??;
    let signer = found.first().map(SignerKey::address).unwrap_or_default();
    let owner = Owner { signer, chain_id: deployment.chain_id, key_registry: deployment.key_registry };
    let newest = async || signers::newest_block(&reader).await.map_err(Failure::unavailable);
    let born = if config.files.database.exists() { 0 } else { newest().await? };
    if born > 0 {
        tracing::warn!(
            file = %config.files.database.display(),
            block = born,
            what_to_do = "if there was a database before, stop and restore it: its shares are lost otherwise",
            "no database found, made a new one; ceremonies drawn before this block are sat out"
        );
    }
    let store = match Store::open(&config.files.database, &owner, born) {
        Err(StoreError::OtherSigner { stored, .. }) => open_after(config, &owner, stored, &reader).await?,
        opened => opened.map_err(store_failure)?,
    };
    let store = Arc::new(store);
    let keys = Keys::new(own_signers(&store, &reader, &config.files, found).await?, store_key);
    let duties = build_duties(config, &store)?;
    let limits = (config.limits.requests_per_second, config.limits.burst);
    Ok(App::new(store, keys, ChainView::new(reader), duties, limits))
}

/// The database of a server whose signer is another by now, if the chain says of both that they are, or were, this server's.
async fn open_after(
    config: &ServerConfig,
    owner: &Owner,
    stored: Vec<Address>,
    reader: &ChainReader,
) -> eyre::Result<Store> {
    let all = stored.iter().chain([&owner.signer]).copied();
    let registered = match signers::registered(reader, all).await {
        Err(error) if error.is_transient() => return Err(Failure::unavailable(error).into()),
        // The chain has no registry at its finalised block yet, and so shows nothing of both.
        registered => registered.unwrap_or_default(),
    };
    let is_same =
        |before: &&Address| registered.get(*before).is_some_and(|id| registered.get(&owner.signer) == Some(id));
    let Some(before) = stored.iter().find(is_same).copied() else {
        return Err(store_failure(StoreError::OtherSigner { stored, configured: owner.signer }).into());
    };
    let born = signers::newest_block(reader).await.map_err(Failure::unavailable)?;
    tracing::info!(signer = %owner.signer, "the registry says that this database's signer was changed");
    Ok(Store::open_after(&config.files.database, owner, before, born).map_err(store_failure)?)
}

/// The keys that are this server's. One of another server is a folder mixed up: nothing is done with it.
async fn own_signers(
    store: &Store,
    reader: &ChainReader,
    files: &FilesConfig,
    found: Vec<SignerKey>,
) -> eyre::Result<SignerKeys> {
    match signers::take_up(store, reader, found, None).await {
        Ok(sorted) => match sorted.trouble() {
            Some(trouble) => Err(Failure::not_safe(trouble).into()),
            None => Ok(sorted.ours),
        },
        // Whatever keeps a new key from being looked up must not keep the others from signing.
        Err(error) => {
            tracing::warn!(error = %error, "new signer keys could not be looked up; tried again");
            Ok(signers::remembered(store, signers::read(files)?).map_err(store_failure)?)
        }
    }
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

/// Finds the server's own id and signers, and says so when what is registered is not what it has.
async fn follow_registration(app: Arc<App>, files: FilesConfig, fingerprint: tls::Fingerprint, pause: Duration) {
    let mut following =
        Following { files, known: None, told: false, seen: None, sorted: None, waiting: Vec::new(), wrong: None };
    let mut looked: Option<Instant> = None;
    loop {
        let changed = following.look_at_files(&app).await;
        // While nobody registered the server, or its next signer, every moment counts; afterwards nothing changes for weeks.
        if following.known.is_none() || changed || looked.is_none_or(|at| at.elapsed() >= REGISTRATION_PAUSE) {
            following.look_at_registry(&app, fingerprint).await;
            looked = Some(Instant::now());
        }
        tokio::time::sleep(pause).await;
    }
}

/// What is known of this server's registration and signer keys.
struct Following {
    files: FilesConfig,
    known: Option<u32>,
    told: bool,
    /// Files of signer keys at the last look.
    seen: Option<Vec<PathBuf>>,
    /// When they were sorted last.
    sorted: Option<Instant>,
    /// Signers whose keys lie here and that finalised blocks do not name yet.
    waiting: Vec<Address>,
    /// What is wrong with the files.
    wrong: Option<String>,
}

impl Following {
    /// Takes up keys that came and forgets those that went; whether there was anything to look at.
    async fn look_at_files(&mut self, app: &App) -> bool {
        let listed = match signers::files_in(&self.files.signer_keys) {
            Ok(listed) => listed,
            Err(error) => {
                self.wrong = Some(error.to_string());
                return true;
            }
        };
        let is_new = self.seen.as_ref() != Some(&listed);
        let is_open = !self.waiting.is_empty() || self.wrong.is_some();
        let is_due = is_open && self.sorted.is_none_or(|at| at.elapsed() >= SIGNER_PAUSE);
        if !is_new && !is_due {
            return false;
        }
        self.sorted = Some(Instant::now());
        match self.sort(app).await {
            Ok(sorted) => {
                for signer in sorted.waiting.iter().filter(|signer| !self.waiting.contains(signer)) {
                    tracing::info!(
                        signer = %signer,
                        what_to_do = "send setSigner (stkr server set-signer), or take the key away",
                        "found a signer key that waits for the registry"
                    );
                }
                let trouble = sorted.trouble();
                if let Some(trouble) = trouble.as_ref().filter(|trouble| self.wrong.as_ref() != Some(trouble)) {
                    tracing::error!(reason = %trouble, "a signer key is not this server's");
                }
                (self.seen, self.waiting, self.wrong) = (Some(listed), sorted.waiting, trouble);
                app.set_signers(sorted.ours);
            }
            Err(error) => tracing::warn!(error = %error, "signer keys could not be taken up; tried again"),
        }
        true
    }

    async fn sort(&self, app: &App) -> eyre::Result<signers::Sorted> {
        let files = self.files.clone();
        let found = tokio::task::spawn_blocking(move || signers::read(&files)).await??;
        signers::take_up(app.store(), app.chain().reader(), found, self.known).await
    }

    async fn look_at_registry(&mut self, app: &App, fingerprint: tls::Fingerprint) {
        match app.chain().reader().server_of_signer(app.signer()).await {
            Ok(Some(id)) if self.known == Some(id) => {}
            Ok(Some(id)) => {
                self.known = Some(id);
                app.set_server_id(id);
                tracing::info!(server_id = id, signer = %app.signer(), "found in the server registry");
            }
            Ok(None) if !self.told => {
                self.told = true;
                if self.known.is_none() {
                    app.set_unregistered();
                }
                tracing::info!(
                    signer = %app.signer(),
                    what_to_do = "register it with what `stkr-server register-args` prints",
                    "waiting to be registered"
                );
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(error = %error, "server registry could not be read"),
        }
        let Some(id) = self.known else { return };
        let read = futures::join!(app.chain().reader().server(id), app.chain().reader().signer_changed_at(id));
        match read {
            (Ok(server), Ok(changed_at)) => {
                self.compare_signer(app, server.signer, changed_at);
                compare_fingerprint(app, &server, fingerprint);
            }
            (Err(error), _) | (_, Err(error)) => tracing::debug!(error = %error, "server could not be read"),
        }
    }

    /// The registry's signer speaks in everything that begins from now on.
    fn compare_signer(&self, app: &App, registered: Address, changed_at: u64) {
        let before = app.standing();
        let is_here = app.holds(registered) || self.waiting.contains(&registered);
        let missing = (!is_here).then(|| {
            format!(
                "the registry names signer {registered}, whose key is not here; put its file beside the others (files.signer_keys)"
            )
        });
        let current = if is_here { registered } else { before.current };
        if current != before.current {
            tracing::info!(signer = %current, "the registry names this signer now; shares of before keep theirs");
        }
        if let Some(reason) = missing.as_ref().filter(|it| before.trouble.as_ref() != Some(it)) {
            tracing::error!(reason = %reason, "the signer key is not the registered one");
        }
        let (trouble, waiting) = (missing.or_else(|| self.wrong.clone()), self.waiting.clone());
        app.set_standing(Standing { current, trouble, waiting, changed_at: Some(changed_at) });
    }
}

fn compare_fingerprint(app: &App, server: &ServerInfo, fingerprint: tls::Fingerprint) {
    let registered = server.tls_fingerprint;
    let other = registered.0 != fingerprint.0;
    app.set_other_certificate(other);
    if other {
        tracing::error!(
            server_id = server.id,
            fingerprint = %fingerprint,
            error = %format!("the registry says {registered}"),
            what_to_do = "register the new certificate with setEndpoint, or bring the old one back: nobody can connect",
            "presented certificate is not the registered one"
        );
    }
}
