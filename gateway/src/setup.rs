//! `init`: from nothing to a gateway whose duty key can be registered.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use alloy::primitives::Address;
use serde::Serialize;
use stkr_chain::Deployment;
use stkr_node::config::{self, Preset, ProgramConfig as _, render};
use stkr_node::database::Database;
use stkr_node::exit::Failure;
use stkr_node::history;
use stkr_node::secrets;
use stkr_protocol::{SignerKey, registration};
use url::Url;

use crate::config::GatewayConfig;
use crate::store::{SCHEMA, Store};

/// Arguments of `init`.
#[derive(Clone, Debug, clap::Args)]
pub struct InitArgs {
    /// Folder of the new gateway; made with mode 0700
    #[arg(long)]
    pub dir: PathBuf,
    /// Deployment file of the contracts
    #[arg(long)]
    pub deployment: PathBuf,
    /// Network preset [default: the one with the deployment's chain id, else custom]
    #[arg(long)]
    pub network: Option<String>,
    /// Fork schedule of the beacon chain (TOML), for networks without a built-in one
    #[arg(long)]
    pub schedule: Option<PathBuf>,
    /// Address and port to serve on
    #[arg(long, default_value = "127.0.0.1:9000")]
    pub listen: SocketAddr,
    /// RPC endpoint of yours; repeat it for another one
    #[arg(long = "rpc")]
    pub rpc: Vec<Url>,
    /// File (mode 0600) with RPC endpoints that contain API keys, one per line
    #[arg(long)]
    pub rpc_file: Option<PathBuf>,
}

/// What `init` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Initialised {
    /// Address of the new duty key: register it as a provider.
    pub duty_key: Address,
    /// The configuration file.
    pub config: PathBuf,
    /// What to do next.
    pub next: String,
}

/// Makes duty key, databases and configuration of a new gateway.
///
/// # Errors
/// Anything wrong with the arguments; a file that exists already (nothing is ever overwritten).
pub fn init(args: &InitArgs) -> eyre::Result<Initialised> {
    let config = new_config(args)?;
    let path = args.dir.join("gateway.toml");
    if path.exists() {
        return Err(Failure::usage(format!("{} exists already; init makes new gateways only", path.display())).into());
    }
    let mut resolved = config.clone();
    resolved.resolve(&std::path::absolute(&args.dir)?);
    let schedule = resolved.schedule().map_err(Failure::usage)?;
    secrets::create_private_folder(&args.dir)?;
    let duty_key = make_duty_key(&resolved)?;
    drop(history::create(&resolved.storage.protection, &schedule, &open_store(&resolved)?)?);
    // 0600 as a server's: RPC URLs may carry API keys, and it says where the duty key is.
    secrets::write_new(&path, render(&config)?.as_bytes())?;
    Ok(Initialised {
        duty_key: duty_key.address(),
        next: format!("stkr-gateway register-args --config {} --provider <your account>", path.display()),
        config: path,
    })
}

fn new_config(args: &InitArgs) -> eyre::Result<GatewayConfig> {
    let mut config = GatewayConfig::default();
    let deployment = Deployment::load(&args.deployment).map_err(Failure::usage)?;
    config.chain.network = match args.network.as_deref() {
        None => Preset::of_chain(deployment.chain_id),
        Some(name) => Preset::by_name(name).map_err(Failure::usage)?,
    };
    config.chain.deployment = std::path::absolute(&args.deployment)?;
    config.chain.rpc_urls = config::rpc_arguments(&args.rpc).map_err(Failure::usage)?;
    config.chain.rpc_urls_file = args.rpc_file.as_ref().map(std::path::absolute).transpose()?;
    config.beacon.schedule = args.schedule.as_ref().map(std::path::absolute).transpose()?;
    config.listen.address = args.listen;
    config.chain.check().map_err(Failure::usage)?;
    Ok(config)
}

fn make_duty_key(config: &GatewayConfig) -> eyre::Result<SignerKey> {
    let [file] = config.duty.key_files.as_slice() else { eyre::bail!("a new gateway has one duty key") };
    if let Some(folder) = file.parent() {
        secrets::create_private_folder(folder)?;
    }
    let key = SignerKey::random()?;
    secrets::write_hex32(file, &key.to_bytes())?;
    Ok(key)
}

/// Arguments of `register-args`.
#[derive(Clone, Debug, clap::Args)]
pub struct DutyArgs {
    /// Configuration file
    #[arg(long)]
    pub config: PathBuf,
    /// Account of the provider that will send the registration
    #[arg(long)]
    pub provider: Address,
}

/// What `register-args` prints, one per duty key file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterArgs {
    /// Address of the duty key.
    pub duty_key: Address,
    /// 65 bytes: the duty key's signature that it serves this provider.
    pub proof: String,
}

/// The arguments with which the provider registers its duty keys.
///
/// # Errors
/// A configuration or key file that cannot be used.
pub fn register_args(args: &DutyArgs) -> eyre::Result<Vec<RegisterArgs>> {
    let config = config::read::<GatewayConfig>(&args.config).map_err(Failure::usage)?;
    let deployment = config.chain.network.load(&config.chain.deployment).map_err(Failure::usage)?;
    let keys = config.duty_keys().map_err(Failure::usage)?;
    let (chain_id, registry) = (deployment.chain_id, deployment.provider_registry);
    let proof = |key: &SignerKey| registration::duty_key_proof(key, chain_id, registry, args.provider);
    let printed = keys
        .iter()
        .map(|key| RegisterArgs { duty_key: key.address(), proof: format!("0x{}", hex::encode(proof(key))) });
    Ok(printed.collect())
}

/// Opens the gateway's own database.
///
/// # Errors
/// With the exit class.
pub fn open_store(config: &GatewayConfig) -> eyre::Result<Store> {
    let database = Database::open(&config.storage.database, &SCHEMA);
    let database = database.map_err(|error| Failure::new(error.exit(), error))?;
    Ok(Store::new(Arc::new(database)))
}
