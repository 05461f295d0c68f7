//! `init` and `register-args`: from nothing to a server that can be registered.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use alloy::primitives::Address;
use eyre::WrapErr as _;
use serde::Serialize;
use stkr_chain::Deployment;
use stkr_core::keystore::{Kdf, StoreKey};
use stkr_node::config::{ConfigError, ListenConfig, Preset, ProgramConfig as _, render};
use stkr_node::exit::Failure;
use stkr_node::tls::{self, Identity};
use stkr_node::{config, secrets};
use stkr_protocol::silence::{SignedSilenceVote, SilenceVote};
use stkr_protocol::{SignerKey, registration};
use url::Url;

use crate::config::{FilesConfig, ServerConfig};
use crate::signers;
use crate::store::{Owner, Store};

/// `IResharing.MAX_VOTE`, seconds.
const MAX_VOTE: u64 = 30 * 86_400;

/// Arguments of `init`.
#[derive(Clone, Debug, clap::Args)]
pub struct InitArgs {
    /// Folder of the new server; made with mode 0700
    #[arg(long)]
    pub dir: PathBuf,
    /// Configuration file to write [default: DIR/server.toml]
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Deployment file of the contracts
    #[arg(long)]
    pub deployment: PathBuf,
    /// Network preset [default: the one with the deployment's chain id, else custom]
    #[arg(long)]
    pub network: Option<String>,
    /// Address and port to serve on
    #[arg(long, default_value = "0.0.0.0:7443")]
    pub listen: SocketAddr,
    /// How others reach the server: https://host:port
    #[arg(long)]
    pub endpoint: String,
    /// RPC endpoint of yours; repeat it for a second one
    #[arg(long = "rpc")]
    pub rpc: Vec<Url>,
    /// File (mode 0600) with RPC endpoints that contain API keys, one per line
    #[arg(long)]
    pub rpc_file: Option<PathBuf>,
    /// Forks and genesis of the beacon chain (TOML), for a chain of your own; mainnet and hoodi have theirs built in
    #[arg(long)]
    pub beacon_schedule: Option<PathBuf>,
    /// Fewest RPC endpoints that must agree
    #[arg(long, default_value_t = 2)]
    pub min_endpoints: u8,
}

/// Arguments of `new-signer`.
#[derive(Clone, Debug, clap::Args)]
pub struct NewSignerArgs {
    /// Configuration file
    #[arg(long)]
    pub config: PathBuf,
    /// Account that will send the change: the operator's, as the registry knows it
    #[arg(long)]
    pub operator: Address,
    /// Make no new key, and print again what this one needs, which was made before
    #[arg(long)]
    pub signer: Option<Address>,
}

/// Of whom a vote says that it is silent, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub struct SilentArgs {
    /// Key id
    #[arg(long)]
    pub key: u64,
    /// Committee epoch of the key's newest committee, of which this server is a member; `stkr reshare show` tells it
    #[arg(long)]
    pub epoch: u32,
    /// Id of the silent server
    #[arg(long)]
    pub server: u32,
    /// Unix time (seconds) until which the vote holds, at most 30 days from now; all members must name the same
    #[arg(long)]
    pub until: u64,
}

impl SilentArgs {
    /// The vote, not signed yet.
    pub(crate) const fn vote(&self) -> SilenceVote {
        SilenceVote { key_id: self.key, committee_epoch: self.epoch, server: self.server, until: self.until }
    }
}

/// Arguments of `vote-silent`.
#[derive(Clone, Debug, clap::Args)]
pub struct VoteSilentArgs {
    /// Configuration file
    #[arg(long)]
    pub config: PathBuf,
    /// What is voted
    #[command(flatten)]
    pub silent: SilentArgs,
    /// Signer to vote as, where the server has keys of several: the one of its share in that committee
    #[arg(long)]
    pub signer: Option<Address>,
}

/// What `init` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Initialised {
    /// Address of the new signer key.
    pub signer: Address,
    /// SHA-256 of the new certificate.
    pub tls_fingerprint: String,
    /// `online`.
    pub kind: &'static str,
    /// As given.
    pub endpoint: String,
    /// The configuration file.
    pub config: PathBuf,
    /// The command that prints the arguments of the registration.
    pub next: String,
}

/// What `register-args` prints: the arguments of `IServerRegistry.register`, in order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterArgs {
    /// Address of the signer key.
    pub signer: Address,
    /// SHA-256 of the certificate.
    pub tls_fingerprint: String,
    /// `online` or `offline`.
    pub kind: &'static str,
    /// From the configuration.
    pub endpoint: String,
    /// 65 bytes.
    pub signer_proof: String,
}

/// What `new-signer` prints: the arguments of `IServerRegistry.setSigner` after the server's id.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewSigner {
    /// Address of the key.
    pub signer: Address,
    /// Its file.
    pub file: PathBuf,
    /// 65 bytes.
    pub signer_proof: String,
    /// The command with which the operator tells the registry.
    pub next: String,
}

/// Makes keys, certificate, database and configuration of a new server.
///
/// # Errors
/// Anything wrong with the arguments; a file that exists already (nothing is ever overwritten).
pub fn init(args: &InitArgs) -> eyre::Result<Initialised> {
    let config = new_config(args)?;
    let config_path = args.config.clone().unwrap_or_else(|| args.dir.join("server.toml"));
    let deployment = Deployment::load(&args.deployment).map_err(Failure::usage)?;
    config.chain.network.check(deployment.chain_id, deployment.genesis_fork_version.0).map_err(Failure::usage)?;
    if config_path.exists() {
        return Err(
            Failure::usage(format!("{} exists already; init makes new servers only", config_path.display())).into()
        );
    }
    // It is written last: without its folder, everything else would stand in the way of the next try.
    let folder = config_path.parent().filter(|folder| !folder.as_os_str().is_empty() && *folder != args.dir);
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(Failure::usage(format!("{} is no folder; make it, then run init again", folder.display())).into());
    }
    let schedule = config.schedule().map_err(Failure::usage)?;
    secrets::create_private_folder(&args.dir)?;
    let mut resolved = config.clone();
    resolved.resolve(&std::path::absolute(&args.dir)?);
    let (signer, identity) = make_secrets(&resolved.files)?;
    let owner =
        Owner { signer: signer.address(), chain_id: deployment.chain_id, key_registry: deployment.key_registry };
    // Born at block 0: the signer key is new, so nothing can have been said with it before.
    let store = Store::open(&resolved.files.database, &owner, 0)?;
    if let Some(schedule) = schedule {
        // No key of this server has ever signed: it has none.
        drop(stkr_node::history::create(&resolved.files.protection, &schedule, &store)?);
    }
    drop(store);
    write_config(&config_path, &config, args)?;
    Ok(Initialised {
        signer: signer.address(),
        tls_fingerprint: identity.fingerprint().to_string(),
        kind: "online",
        endpoint: args.endpoint.clone(),
        next: format!("stkr-server register-args --config {} --operator <your account>", config_path.display()),
        config: config_path,
    })
}

fn new_config(args: &InitArgs) -> eyre::Result<ServerConfig> {
    tls::endpoint_url(&args.endpoint).map_err(Failure::usage)?;
    let mut config = ServerConfig::default();
    let deployment = Deployment::load(&args.deployment).map_err(Failure::usage)?;
    config.chain.network = match args.network.as_deref() {
        None => Preset::of_chain(deployment.chain_id),
        Some(name) => Preset::by_name(name).map_err(Failure::usage)?,
    };
    config.chain.deployment = std::path::absolute(&args.deployment)?;
    config.chain.rpc_urls = config::rpc_arguments(&args.rpc).map_err(Failure::usage)?;
    config.chain.rpc_urls_file = args.rpc_file.as_ref().map(std::path::absolute).transpose()?;
    config.chain.min_endpoints = args.min_endpoints;
    config.beacon.schedule = args.beacon_schedule.as_ref().map(std::path::absolute).transpose()?;
    config.listen = ListenConfig::on(args.listen);
    config.public.endpoint.clone_from(&args.endpoint);
    config.chain.check().map_err(Failure::usage)?;
    Ok(config)
}

fn make_secrets(files: &FilesConfig) -> eyre::Result<(SignerKey, Identity)> {
    if let Some(folder) = files.tls_key.parent() {
        secrets::create_private_folder(folder)?;
    }
    let signer = make_offline_secrets(files)?;
    let identity = Identity::create("stkr-server", &files.tls_certificate, &files.tls_key)?;
    Ok((signer, identity))
}

/// All secrets but those of TLS.
pub(crate) fn make_offline_secrets(files: &FilesConfig) -> eyre::Result<SignerKey> {
    for file in [&files.signer_key, &files.store_keystore, &files.store_password] {
        if let Some(folder) = file.parent() {
            secrets::create_private_folder(folder)?;
        }
    }
    let signer = SignerKey::random()?;
    let password = secrets::random_password(32).map_err(|error| eyre::eyre!("no randomness: {error}"))?;
    let keystore = StoreKey::random()?.seal(&password, Kdf::SCRYPT).wrap_err("wrap the store key")?;
    secrets::write_new(&files.store_password, password.as_bytes())?;
    secrets::write_new(&files.store_keystore, keystore.to_json()?.as_bytes())?;
    secrets::write_hex32(&files.signer_key, &signer.to_bytes())?;
    Ok(signer)
}

/// The files in it stay relative to the server's folder, so that the folder can be moved as a whole.
fn write_config(path: &Path, config: &ServerConfig, args: &InitArgs) -> eyre::Result<()> {
    let mut config = config.clone();
    let folder = std::path::absolute(path)?.parent().map(Path::to_path_buf).unwrap_or_default();
    if folder != std::path::absolute(&args.dir)? {
        config.resolve(&std::path::absolute(&args.dir)?);
    }
    // 0600: RPC URLs may carry API keys.
    secrets::write_new(path, render(&config)?.as_bytes())?;
    Ok(())
}

/// Reads the key under which shares are stored: one scrypt, about a second.
///
/// # Errors
/// Files that are missing, too open, or do not fit.
pub fn store_key(files: &FilesConfig) -> Result<StoreKey, Failure> {
    files.store_key().map_err(|error| match error {
        error @ ConfigError::Value { .. } => Failure::not_safe(error),
        error => Failure::usage(error),
    })
}

/// Signs that another member is silent. It needs no chain: the contract refuses a vote of another committee or time.
///
/// # Errors
/// Anything wrong with configuration, files or the time.
pub fn vote_silent(args: &VoteSilentArgs) -> eyre::Result<SignedSilenceVote> {
    let config = config::load::<ServerConfig>(&args.config).map_err(Failure::usage)?;
    let deployment = Deployment::load(&config.chain.deployment).map_err(Failure::usage)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).wrap_err("read the clock")?.as_secs();
    let furthest = now.saturating_add(MAX_VOTE);
    let until = args.silent.until;
    if until <= now || until > furthest {
        let reason = format!("--until {until} is not within the next 30 days; name a time up to {furthest}");
        return Err(Failure::usage(reason).into());
    }
    let which = "the one of this server's share in that committee: stkr key show KEY";
    Ok(args.silent.vote().sign(&deployment.protocol_domain(), &signers::one(&config.files, args.signer, which)?))
}

/// Makes the server's next signer key, or finds one that was made before, and proves to the registry that it agrees.
///
/// The key says nothing until the chain names it as a signer of this server, and those before it stay.
///
/// # Errors
/// Anything wrong with configuration or files.
pub fn new_signer(args: &NewSignerArgs) -> eyre::Result<NewSigner> {
    let config = config::load::<ServerConfig>(&args.config).map_err(Failure::usage)?;
    let deployment = Deployment::load(&config.chain.deployment).map_err(Failure::usage)?;
    let (file, signer) = match args.signer {
        Some(signer) => found_signer(&config.files, signer)?,
        None => make_signer(&config.files, |_| Ok(()))?,
    };
    Ok(NewSigner::of(&signer, file, &deployment, args.operator))
}

/// The file of the key of `signer`, which was made before.
pub(crate) fn found_signer(files: &FilesConfig, signer: Address) -> Result<(PathBuf, SignerKey), Failure> {
    let file = signers::file_of(&files.signer_keys, signer);
    Ok((file, signers::one(files, Some(signer), "")?))
}

/// Makes a key in a file of its own beside the others; `remember` is called before there is a file.
pub(crate) fn make_signer(
    files: &FilesConfig,
    remember: impl FnOnce(Address) -> eyre::Result<()>,
) -> eyre::Result<(PathBuf, SignerKey)> {
    let signer = SignerKey::random()?;
    secrets::create_private_folder(&files.signer_keys)?;
    remember(signer.address())?;
    let file = signers::file_of(&files.signer_keys, signer.address());
    secrets::write_hex32(&file, &signer.to_bytes())?;
    Ok((file, signer))
}

impl NewSigner {
    pub(crate) fn of(signer: &SignerKey, file: PathBuf, deployment: &Deployment, operator: Address) -> Self {
        let proof = registration::signer_proof(signer, deployment.chain_id, deployment.server_registry, operator);
        let (signer, proof) = (signer.address(), format!("0x{}", hex::encode(proof)));
        let next = format!("stkr server set-signer <server id> --signer {signer} --proof {proof}");
        Self { signer, file, signer_proof: proof, next }
    }
}

/// The arguments with which `operator` registers the server of this configuration.
///
/// # Errors
/// Anything wrong with configuration or files.
pub fn register_args(config: &Path, operator: Address) -> eyre::Result<RegisterArgs> {
    let config = config::load::<ServerConfig>(config).map_err(Failure::usage)?;
    let deployment = Deployment::load(&config.chain.deployment).map_err(Failure::usage)?;
    let signer = signers::read_key(&config.files.signer_key)?;
    let identity = Identity::load(&config.files.tls_certificate, &config.files.tls_key).map_err(Failure::usage)?;
    let proof = registration::signer_proof(&signer, deployment.chain_id, deployment.server_registry, operator);
    Ok(RegisterArgs {
        signer: signer.address(),
        tls_fingerprint: identity.fingerprint().to_string(),
        kind: "online",
        endpoint: config.public.endpoint,
        signer_proof: format!("0x{}", hex::encode(proof)),
    })
}
