//! Configuration files: TOML, unknown keys refused, with an example that is generated from the code and parses to its
//! defaults.
//!
//! A program describes its configuration once, as a serde struct plus a [`Doc`] per key; the example, `config check` and the
//! documentation follow. Relative paths in a file count from the folder of that file, wherever the program was started.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stkr_chain::Deployment;
use stkr_chain::endpoint::same_endpoint;
use stkr_duties::ForkSchedule;
use stkr_files::FileError;
use url::Url;

use crate::exit::Failure;
use crate::logs::LogFormat;
use crate::secrets::{self, SecretError};

/// Largest configuration or fork schedule read.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error("cannot read configuration {0}")]
    Read(#[from] FileError),
    /// Syntax, type or unknown key.
    #[error("configuration {path}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        reason: String,
    },
    /// A value that cannot be right.
    #[error("configuration key {key}: {reason}")]
    Value {
        /// Dotted key.
        key: &'static str,
        /// What is wrong and what to write instead.
        reason: String,
    },
    /// A secret file named in the configuration.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A key without documentation or documentation without a key: a bug caught by each program's test.
    #[error("configuration key {0} and its documentation do not match")]
    Undocumented(String),
}

impl ConfigError {
    /// A wrong value of `key`.
    pub fn value(key: &'static str, reason: impl Into<String>) -> Self {
        Self::Value { key, reason: reason.into() }
    }
}

/// What the example says about one key.
#[derive(Clone, Copy, Debug)]
pub struct Doc {
    /// Dotted path, at most `table.key`.
    pub key: &'static str,
    /// Comment, one or more lines.
    pub text: &'static str,
    /// For keys that are unset by default: a TOML value shown commented out.
    pub unset: Option<&'static str>,
}

impl Doc {
    /// A key with a default.
    pub const fn new(key: &'static str, text: &'static str) -> Self {
        Self { key, text, unset: None }
    }
    /// A key that is unset by default; `example` is a TOML value.
    pub const fn unset(key: &'static str, text: &'static str, example: &'static str) -> Self {
        Self { key, text, unset: Some(example) }
    }
}

/// The configuration of one program.
pub trait ProgramConfig: Default + Serialize + DeserializeOwned {
    /// Name of the program, for messages.
    const PROGRAM: &'static str;

    /// Every key, in the order of the example; keys of one table side by side, keys without table first.
    fn docs() -> Vec<Doc>;

    /// Makes relative paths absolute; `folder` is the folder of the file.
    fn resolve(&mut self, folder: &Path);

    /// Looks at the values and at the files they name, without network.
    ///
    /// # Errors
    /// The first thing that is wrong.
    fn check(&self) -> Result<(), ConfigError>;

    /// What `config check` looks at besides, and what a program that starts finds out by itself: it may take a second.
    ///
    /// # Errors
    /// The first thing that is wrong.
    fn check_thoroughly(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

/// A file that a configuration names: the dotted key and the path.
pub type Named<'a> = (&'static str, &'a Path);

/// Checks the paths of databases, which need not exist: each is a file in a folder that is there, and neither of them nor one of
/// the `others` is the same file. One database in the place of two would be taken for damaged by one of its two owners.
///
/// # Errors
/// The first that cannot be, under its key.
pub fn check_databases(databases: &[Named<'_>], others: &[Named<'_>]) -> Result<(), ConfigError> {
    for (position, (key, path)) in databases.iter().enumerate() {
        let wrong = |reason: String| Err(ConfigError::value(key, reason));
        // An empty name ends as the configuration's folder.
        if path.file_name().is_none() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return wrong(format!("{} is no name of a file; write one", path.display()));
        }
        if let Err(error) = stkr_files::check_regular(path) {
            return wrong(error.to_string());
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
            return wrong(format!("there is no folder {}; make it, or write another path", folder.display()));
        }
        let twice = databases[..position].iter().chain(others).find(|(_, other)| same_file(path, other));
        if let Some((other, _)) = twice {
            return wrong(format!("{} is the file of {other} too; each needs its own", path.display()));
        }
    }
    Ok(())
}

/// Whether two paths lead to one file: by its number where both exist, else by folder and name.
fn same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    if let (Ok(one), Ok(other)) = (std::fs::metadata(one), std::fs::metadata(other)) {
        return (one.dev(), one.ino()) == (other.dev(), other.ino());
    }
    let place = |path: &Path| Some((std::fs::canonicalize(path.parent()?).ok()?, path.file_name()?.to_owned()));
    place(one).is_some_and(|place_of_one| place(other) == Some(place_of_one))
}

/// Reads, resolves and checks a configuration file.
///
/// # Errors
/// Every [`ConfigError`].
pub fn load<C: ProgramConfig>(path: &Path) -> Result<C, ConfigError> {
    let config = read::<C>(path)?;
    config.check()?;
    Ok(config)
}

/// Reads and resolves without looking at values and files: for commands that make those files.
///
/// # Errors
/// When the file cannot be read or parsed.
pub fn read<C: ProgramConfig>(path: &Path) -> Result<C, ConfigError> {
    parse(&stkr_files::read_text(path, MAX_CONFIG_BYTES)?, path)
}

/// The same for the `text` of a file at `path`, which is not opened.
///
/// # Errors
/// When the text cannot be parsed.
pub fn parse<C: ProgramConfig>(text: &str, path: &Path) -> Result<C, ConfigError> {
    let mut config: C = toml::from_str(text)
        .map_err(|error| ConfigError::Parse { path: path.to_owned(), reason: parse_reason(text, &error) })?;
    // The parser takes integers of 64 bits, TOML has 63 and a sign: what cannot be written is nothing to run with.
    toml::Value::try_from(&config)
        .map_err(|error| ConfigError::Parse { path: path.to_owned(), reason: error.to_string() })?;
    let absolute = std::path::absolute(path)
        .map_err(|source| ConfigError::Read(FileError::Io { path: path.to_owned(), source }))?;
    config.resolve(absolute.parent().unwrap_or(Path::new("/")));
    Ok(config)
}

/// The parser's message with its line, but without the quoted line: it may hold an RPC URL with a key in it.
fn parse_reason(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().to_owned();
    match error.span() {
        Some(span) => {
            let line = text.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1);
            format!("line {line}: {message}")
        }
        None => message,
    }
}

/// The commented example of a program: parses to `C::default()`.
///
/// # Errors
/// [`ConfigError::Undocumented`] if keys and documentation differ.
pub fn example<C: ProgramConfig>() -> Result<String, ConfigError> {
    render(&C::default())
}

/// A commented file with the values of `config`.
///
/// # Errors
/// [`ConfigError::Undocumented`] if keys and documentation differ.
pub fn render<C: ProgramConfig>(config: &C) -> Result<String, ConfigError> {
    let table = toml::Table::try_from(config).map_err(|error| ConfigError::Undocumented(error.to_string()))?;
    let docs = C::docs();
    for key in leaves(&table) {
        if !docs.iter().any(|doc| doc.key == key) {
            return Err(ConfigError::Undocumented(key));
        }
    }
    let mut text =
        format!("# Configuration of {}. Every key may be left out; shown are the values in force then.\n", C::PROGRAM);
    text.push_str("# Unknown keys are errors. Relative paths count from the folder of this file.\n");
    let mut current = "";
    for doc in &docs {
        let (section, key) = doc.key.rsplit_once('.').unwrap_or(("", doc.key));
        if section != current {
            text.push_str(&format!("\n[{section}]\n"));
            current = section;
        }
        text.push('\n');
        for line in doc.text.lines() {
            text.push_str(&format!("# {}\n", line.trim()));
        }
        match (lookup(&table, doc.key), doc.unset) {
            (Some(value), _) => text.push_str(&format!("{key} = {value}\n")),
            (None, Some(example)) => text.push_str(&format!("# {key} = {example}\n")),
            (None, None) => return Err(ConfigError::Undocumented(doc.key.to_owned())),
        }
    }
    Ok(text)
}

fn leaves(table: &toml::Table) -> Vec<String> {
    let mut keys = Vec::new();
    for (name, value) in table {
        match value {
            toml::Value::Table(inner) => keys.extend(leaves(inner).into_iter().map(|key| format!("{name}.{key}"))),
            _ => keys.push(name.clone()),
        }
    }
    keys
}

fn lookup<'a>(table: &'a toml::Table, key: &str) -> Option<&'a toml::Value> {
    match key.split_once('.') {
        Some((section, rest)) => lookup(table.get(section)?.as_table()?, rest),
        None => table.get(key),
    }
}

/// `config example` and `config check`, the same in every program.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// Print a commented example that parses to the defaults
    Example,
    /// Read a configuration and the files it names, and say what is wrong
    Check {
        /// Configuration file
        #[arg(long)]
        config: PathBuf,
    },
}

impl ConfigCommand {
    /// Runs the command; results go to stdout.
    ///
    /// # Errors
    /// [`Failure`] of class usage for anything wrong with the configuration.
    pub fn run<C: ProgramConfig>(&self) -> eyre::Result<()> {
        let mut out = std::io::stdout().lock();
        match self {
            Self::Example => write!(out, "{}", example::<C>().map_err(Failure::usage)?)?,
            Self::Check { config } => {
                load::<C>(config).and_then(|config| config.check_thoroughly()).map_err(Failure::usage)?;
                writeln!(out, "{} is a valid configuration of {}", config.display(), C::PROGRAM)?;
            }
        }
        Ok(())
    }
}

/// Which network a program works on: what is pinned in the program beside what the deployment file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Ethereum mainnet, chain id 1.
    Mainnet,
    /// The Hoodi testnet, chain id 560048.
    Hoodi,
    /// A local anvil, chain id 31337.
    #[default]
    Devnet,
    /// Whatever the deployment file says.
    Custom,
}

impl Preset {
    /// Chain id; `None` for custom.
    pub const fn chain_id(self) -> Option<u64> {
        match self {
            Self::Mainnet => Some(1),
            Self::Hoodi => Some(560_048),
            Self::Devnet => Some(31_337),
            Self::Custom => None,
        }
    }

    /// Genesis fork version of the beacon chain; `None` where the deployment file says it.
    pub const fn genesis_fork_version(self) -> Option<[u8; 4]> {
        match self {
            Self::Mainnet => Some([0, 0, 0, 0]),
            Self::Hoodi => Some([0x10, 0, 0x09, 0x10]),
            Self::Devnet | Self::Custom => None,
        }
    }

    /// The preset of this name.
    ///
    /// # Errors
    /// For another name.
    pub fn by_name(name: &str) -> Result<Self, ConfigError> {
        let all = [Self::Mainnet, Self::Hoodi, Self::Devnet, Self::Custom];
        all.into_iter()
            .find(|preset| preset.name() == name)
            .ok_or_else(|| ConfigError::value("chain.network", "write mainnet, hoodi, devnet or custom"))
    }

    /// The preset with this chain id; custom where there is none.
    pub fn of_chain(chain_id: u64) -> Self {
        let pinned = [Self::Mainnet, Self::Hoodi, Self::Devnet];
        pinned.into_iter().find(|preset| preset.chain_id() == Some(chain_id)).unwrap_or(Self::Custom)
    }

    /// Name as in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mainnet => "mainnet",
            Self::Hoodi => "hoodi",
            Self::Devnet => "devnet",
            Self::Custom => "custom",
        }
    }

    /// Reads a deployment file and compares it with this network: the one check that every program makes, in `config
    /// check` as at the start.
    ///
    /// # Errors
    /// A file that cannot be read or is none; those of [`Preset::check`].
    pub fn load(self, path: &Path) -> Result<Deployment, ConfigError> {
        let deployment =
            Deployment::load(path).map_err(|error| ConfigError::value("chain.deployment", error.to_string()))?;
        self.check(deployment.chain_id, deployment.genesis_fork_version.0)?;
        Ok(deployment)
    }

    /// Compares what a deployment file says with what this network is known to be: a deployment file of another network,
    /// or one somebody edited, must not decide what a server signs.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(self, chain_id: u64, genesis_fork_version: [u8; 4]) -> Result<(), ConfigError> {
        if let Some(expected) = self.chain_id().filter(|expected| *expected != chain_id) {
            return Err(ConfigError::value(
                "chain.deployment",
                format!("the deployment is on chain {chain_id}, but network {} is chain {expected}", self.name()),
            ));
        }
        match self.genesis_fork_version().filter(|expected| *expected != genesis_fork_version) {
            None => Ok(()),
            Some(expected) => Err(ConfigError::value(
                "chain.deployment",
                format!(
                    "the deployment has genesis fork version 0x{}, but network {} has 0x{}",
                    hex::encode(genesis_fork_version),
                    self.name(),
                    hex::encode(expected)
                ),
            )),
        }
    }
}

/// `[chain]`: the chain as this program sees it, through its own endpoints.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChainConfig {
    /// Network preset.
    pub network: Preset,
    /// Deployment file, written by the deploy script.
    pub deployment: PathBuf,
    /// RPC endpoints.
    pub rpc_urls: Vec<Url>,
    /// File with further endpoints, one per line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc_urls_file: Option<PathBuf>,
    /// How many endpoints there must be, all agreeing, before anything irrevocable is done.
    pub min_endpoints: u8,
    /// Pause between looks at the chain, milliseconds.
    pub poll_ms: u64,
}

impl Default for ChainConfig {
    fn default() -> Self {
        Self {
            network: Preset::default(),
            deployment: PathBuf::from("deployments/31337.json"),
            rpc_urls: Vec::new(),
            rpc_urls_file: None,
            min_endpoints: 2,
            poll_ms: 1000,
        }
    }
}

impl std::fmt::Debug for ChainConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hosts: Vec<_> = self.rpc_urls.iter().map(rpc_host).collect();
        f.debug_struct("ChainConfig").field("network", &self.network).field("rpc", &hosts).finish_non_exhaustive()
    }
}

/// Host and port of an RPC URL: all of it that may be shown. Paths, queries and user names carry API keys.
pub fn rpc_host(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether a URL has no user, path, query or fragment, which is where API keys are.
#[must_use]
pub fn is_keyless(url: &Url) -> bool {
    let anonymous = url.username().is_empty() && url.password().is_none();
    anonymous && matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none()
}

/// RPC URLs that were given as arguments, none of which may hold an API key: every process on the machine sees arguments.
///
/// # Errors
/// The sentence for whoever gave one, without the URL.
pub fn rpc_arguments(urls: &[Url]) -> Result<Vec<Url>, &'static str> {
    if urls.iter().all(is_keyless) {
        return Ok(urls.to_vec());
    }
    Err(
        "--rpc takes no URL with a user, a path or a query: an argument is visible to everybody on the machine, and that is where API keys are; write the URLs to a file with mode 0600 and give --rpc-file",
    )
}

impl ChainConfig {
    /// Documentation of the keys.
    pub fn docs() -> [Doc; 6] {
        [
            Doc::new(
                "chain.network",
                "mainnet, hoodi, devnet or custom. All but custom pin the chain id, mainnet and hoodi also the genesis\nfork version; a deployment file that says otherwise is refused.",
            ),
            Doc::new("chain.deployment", "Addresses of the contracts: deployments/<chain id>.json."),
            Doc::new(
                "chain.rpc_urls",
                "Your own execution endpoints (http, https, ws or wss). Two that do not share a provider are the point, and\nonly you can know whether they do; one host and port counts once, whatever the URLs look like:\nirrevocable messages are signed only if all of them agree at the finalized block.",
            ),
            Doc::unset(
                "chain.rpc_urls_file",
                "More endpoints, one URL per line, in a file with mode 0600: for URLs that hold an API key.",
                "\"secrets/rpc-urls\"",
            ),
            Doc::new(
                "chain.min_endpoints",
                "Fewest endpoints to start with. 1 is an explicit choice: then one lying endpoint can make this server sign.",
            ),
            Doc::new("chain.poll_ms", "Pause between looks at the chain, milliseconds."),
        ]
    }

    /// Makes paths absolute.
    pub fn resolve(&mut self, folder: &Path) {
        self.deployment = folder.join(&self.deployment);
        self.rpc_urls_file = self.rpc_urls_file.as_ref().map(|file| folder.join(file));
    }

    /// All endpoints: those in the file first written here, then those of `rpc_urls_file`.
    ///
    /// # Errors
    /// The file cannot be read or holds something that is no URL (the error names the line, not its content).
    pub fn endpoints(&self) -> Result<Vec<Url>, ConfigError> {
        let mut urls = self.rpc_urls.clone();
        if let Some(file) = &self.rpc_urls_file {
            for (number, line) in secrets::read_text(file)?.lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let url = Url::parse(line).map_err(|_| {
                    ConfigError::value("chain.rpc_urls_file", format!("line {} is not a URL", number + 1))
                })?;
                urls.push(url);
            }
        }
        Ok(urls)
    }

    /// Checks values and files, without network.
    ///
    /// # Errors
    /// Too few endpoints, one endpoint twice, a scheme nobody speaks; those of [`Preset::load`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let urls = self.endpoints()?;
        for (position, url) in urls.iter().enumerate() {
            if !matches!(url.scheme(), "http" | "https" | "ws" | "wss") {
                return Err(ConfigError::value(
                    "chain.rpc_urls",
                    format!("{} is not http, https, ws or wss", rpc_host(url)),
                ));
            }
            if urls[..position].iter().any(|other| same_endpoint(other, url)) {
                return Err(ConfigError::value(
                    "chain.rpc_urls",
                    format!("{} is listed twice; an endpoint agreeing with itself proves nothing", rpc_host(url)),
                ));
            }
        }
        if self.min_endpoints == 0 {
            return Err(ConfigError::value("chain.min_endpoints", "write 1 or more; 2 is usual"));
        }
        if urls.len() < usize::from(self.min_endpoints) {
            return Err(ConfigError::value(
                "chain.min_endpoints",
                format!(
                    "{} RPC endpoints are configured and at least {} are needed; add your own endpoint to chain.rpc_urls, or lower chain.min_endpoints knowing that one lying endpoint is then enough",
                    urls.len(),
                    self.min_endpoints
                ),
            ));
        }
        if !(50..=60_000).contains(&self.poll_ms) {
            return Err(ConfigError::value("chain.poll_ms", "write a number from 50 to 60000"));
        }
        self.network.load(&self.deployment).map(drop)
    }
}

/// `[chain]` of a program that follows the chain and signs nothing irrevocable: one endpoint is enough. One that lies to it
/// costs time and gas, never anybody's money: contracts and servers judge for themselves.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FollowConfig {
    /// Network preset.
    pub network: Preset,
    /// Deployment file.
    pub deployment: PathBuf,
    /// RPC endpoints.
    pub rpc_urls: Vec<Url>,
    /// File with further endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc_urls_file: Option<PathBuf>,
    /// Pause between looks at the chain, milliseconds.
    pub poll_ms: u64,
}

impl Default for FollowConfig {
    fn default() -> Self {
        let ChainConfig { network, deployment, rpc_urls, rpc_urls_file, poll_ms, .. } = ChainConfig::default();
        Self { network, deployment, rpc_urls, rpc_urls_file, poll_ms }
    }
}

impl std::fmt::Debug for FollowConfig {
    /// As [`ChainConfig`] does it: RPC URLs hold API keys, so only their hosts are shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.common().fmt(f)
    }
}

impl FollowConfig {
    /// Documentation of the keys.
    pub fn docs() -> [Doc; 5] {
        [
            Doc::new(
                "chain.network",
                "mainnet, hoodi, devnet or custom. All but custom pin the chain id; a deployment file that says otherwise\nis refused.",
            ),
            Doc::new("chain.deployment", "Addresses of the contracts: deployments/<chain id>.json."),
            Doc::new(
                "chain.rpc_urls",
                "Your execution endpoints (http, https, ws or wss). The first is used; the others stand in when it fails.",
            ),
            Doc::unset(
                "chain.rpc_urls_file",
                "More endpoints, one URL per line, in a file with mode 0600: for URLs that hold an API key.",
                "\"secrets/rpc-urls\"",
            ),
            Doc::new("chain.poll_ms", "Pause between looks at the chain, milliseconds."),
        ]
    }

    /// Makes paths absolute.
    pub fn resolve(&mut self, folder: &Path) {
        self.deployment = folder.join(&self.deployment);
        self.rpc_urls_file = self.rpc_urls_file.as_ref().map(|file| folder.join(file));
    }

    /// The same as every program has it, satisfied with one endpoint.
    #[must_use]
    pub fn common(&self) -> ChainConfig {
        ChainConfig {
            network: self.network,
            deployment: self.deployment.clone(),
            rpc_urls: self.rpc_urls.clone(),
            rpc_urls_file: self.rpc_urls_file.clone(),
            min_endpoints: 1,
            poll_ms: self.poll_ms,
        }
    }

    /// Checks the values and the files they name.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.common().endpoints()?.is_empty() {
            return Err(ConfigError::value("chain.rpc_urls", "there is no RPC endpoint; write at least one"));
        }
        self.common().check()
    }
}

/// The fork schedule of the beacon chain on `network`: built in for public networks, read from `file` for others. `None` where
/// neither is there.
///
/// # Errors
/// A file for a network whose schedule is built in, one that is no schedule, or one whose genesis fork version is not that of
/// the deployment's deposits: then one of the two is of another chain.
pub fn fork_schedule(
    network: Preset,
    file: Option<&Path>,
    deployment: &Deployment,
) -> Result<Option<ForkSchedule>, ConfigError> {
    let wrong = |reason: String| ConfigError::value("beacon.schedule", reason);
    let schedule = match (file, ForkSchedule::by_name(network.name())) {
        (Some(_), Some(_)) => {
            return Err(wrong(format!("the schedule of {} is built in; leave this out", network.name())));
        }
        (None, built_in) => built_in,
        (Some(path), None) => {
            let text = stkr_files::read_text(path, MAX_CONFIG_BYTES).map_err(|error| wrong(error.to_string()))?;
            let read = toml::from_str::<ForkSchedule>(&text);
            Some(read.map_err(|error| wrong(format!("{}: {}", path.display(), error.message())))?)
        }
    };
    let theirs = deployment.genesis_fork_version.0;
    match schedule.as_ref().map(ForkSchedule::genesis_fork_version) {
        Some(ours) if ours != theirs => Err(wrong(format!(
            "its genesis fork version is 0x{}, the deployment's is 0x{}",
            hex::encode(ours),
            hex::encode(theirs)
        ))),
        _ => Ok(schedule),
    }
}

/// `[listen]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenConfig {
    /// Socket address; port 0 picks a free one.
    pub address: SocketAddr,
}

impl ListenConfig {
    /// Listens on `address`.
    pub const fn on(address: SocketAddr) -> Self {
        Self { address }
    }
    /// Documentation of the keys.
    pub fn docs() -> [Doc; 1] {
        [Doc::new(
            "listen.address",
            "Address and port to serve on; port 0 takes a free one (the ready line on stdout says which).",
        )]
    }
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 0)) }
    }
}

/// `[log]`. `--log-format` on the command line wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// text or json.
    pub format: LogFormat,
    /// Filter.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

impl LogConfig {
    /// # Errors
    /// A filter that does not parse.
    pub fn check(&self) -> Result<(), ConfigError> {
        crate::logs::parse_filter(&self.filter).map_err(|error| ConfigError::value("log.filter", error.to_string()))?;
        Ok(())
    }

    /// Documentation of the keys.
    pub fn docs() -> [Doc; 2] {
        [
            Doc::new("log.format", "text for people, json for machines; both on stderr. --log-format wins."),
            Doc::new("log.filter", "What is logged, for example \"info\" or \"info,stkr_server=debug\"."),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        chain: ChainConfig,
        listen: ListenConfig,
        log: LogConfig,
    }

    impl ProgramConfig for Sample {
        const PROGRAM: &'static str = "sample";
        fn docs() -> Vec<Doc> {
            [ChainConfig::docs().as_slice(), &ListenConfig::docs(), &LogConfig::docs()].concat()
        }
        fn resolve(&mut self, folder: &Path) {
            self.chain.resolve(folder);
        }
        fn check(&self) -> Result<(), ConfigError> {
            self.chain.check()
        }
    }

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sample.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::create_dir(folder.path().join("deployments")).unwrap();
        std::fs::write(folder.path().join("deployments/31337.json"), deployment(31_337).to_string()).unwrap();
        (folder, path)
    }

    fn deployment(chain_id: u64) -> serde_json::Value {
        let address = |byte: u8| format!("0x{}", hex::encode([byte; 20]));
        serde_json::json!({
            "chainId": chain_id,
            "accessManager": address(1),
            "serverRegistry": address(2),
            "providerRegistry": address(3),
            "keyRegistry": address(4),
            "court": address(7),
        "micropools": address(5),
            "depositContract": address(6),
            "genesisForkVersion": "0x53746b72", "genesisValidatorsRoot": "0x0909090909090909090909090909090909090909090909090909090909090909",
            "deployedBlock": 1
        })
    }

    #[test]
    fn an_rpc_url_with_room_for_a_key_is_no_argument() {
        let url = |text: &str| Url::parse(text).unwrap();
        let plain = [url("http://127.0.0.1:8545"), url("wss://rpc.example/")];
        assert_eq!(rpc_arguments(&plain).unwrap(), plain);
        for keyed in
            ["https://a.example/v2/k3y", "https://k3y@a.example", "https://a.example/?k3y", "https://a.example#k3y"]
        {
            let refused = rpc_arguments(&[plain[0].clone(), url(keyed)]).unwrap_err();
            assert!(refused.contains("--rpc-file") && !refused.contains("k3y"), "{refused}");
        }
    }

    #[test]
    fn a_log_filter_that_does_not_parse_is_found_before_the_program_runs() {
        LogConfig::default().check().unwrap();
        let broken = LogConfig { filter: "info,==".to_owned(), ..LogConfig::default() };
        assert!(broken.check().unwrap_err().to_string().contains("log.filter"));
    }

    #[test]
    fn the_example_parses_to_the_defaults_and_has_a_comment_for_every_key() {
        let text = example::<Sample>().unwrap();
        assert_eq!(toml::from_str::<Sample>(&text).unwrap(), Sample::default());
        for doc in Sample::docs() {
            assert!(text.contains(doc.text.lines().next().unwrap()), "{}", doc.key);
        }
    }

    #[test]
    fn unknown_keys_are_errors_with_their_line() {
        let (_folder, path) = written("[chain]\nmin_endpoints = 1\nrpc_url = \"http://a\"\n");
        let error = load::<Sample>(&path).unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("unknown field `rpc_url`"), "{error}");
    }

    #[test]
    fn a_number_that_could_not_be_written_again_is_refused() {
        let config = |poll: u64| parse::<Sample>(&format!("[chain]\npoll_ms = {poll}\n"), Path::new("sample.toml"));
        assert_eq!(config(i64::MAX.unsigned_abs()).unwrap().chain.poll_ms, i64::MAX.unsigned_abs());
        assert!(config(u64::MAX).unwrap_err().to_string().contains("too large"));
    }

    #[test]
    fn a_parse_error_does_not_repeat_a_url_with_a_key() {
        let (_folder, path) = written("[chain]\nrpc_urls = [\"https://rpc.example/v1/topsecretkey\"\n");
        let error = load::<Sample>(&path).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("topsecretkey"), "{error}");
        let (_folder, path) =
            written("[chain]\nrpc_urls = [\"https://rpc.example/v1/topsecretkey\"]\nmin_endpoints = 1\n");
        assert!(!format!("{:?}", load::<Sample>(&path).unwrap()).contains("topsecretkey"));
    }

    #[test]
    fn one_endpoint_needs_an_explicit_choice_and_the_same_twice_never_counts() {
        let (_folder, path) = written("[chain]\nrpc_urls = [\"http://127.0.0.1:1\"]\n");
        assert!(load::<Sample>(&path).unwrap_err().to_string().contains("at least 2 are needed"));
        let (_folder, path) = written("[chain]\nrpc_urls = [\"http://127.0.0.1:1\", \"http://127.0.0.1:1/\"]\n");
        assert!(load::<Sample>(&path).unwrap_err().to_string().contains("listed twice"));
        let (_folder, path) = written("[chain]\nrpc_urls = [\"http://127.0.0.1:1\", \"ws://localhost:1\"]\n");
        assert!(load::<Sample>(&path).unwrap_err().to_string().contains("listed twice"));
        let (_folder, path) = written("[chain]\nrpc_urls = [\"http://127.0.0.1:1\"]\nmin_endpoints = 1\n");
        load::<Sample>(&path).unwrap();
    }

    #[test]
    fn no_endpoint_at_all_is_no_choice() {
        let (_folder, path) = written("[chain]\nrpc_urls = [\"http://127.0.0.1:1\"]\nmin_endpoints = 0\n");
        let error = load::<Sample>(&path).unwrap_err().to_string();
        assert!(error.contains("chain.min_endpoints") && error.contains("write 1 or more"), "{error}");
    }

    #[test]
    fn relative_paths_count_from_the_folder_of_the_file() {
        let (folder, path) = written("");
        let config = read::<Sample>(&path).unwrap();
        assert_eq!(config.chain.deployment, folder.path().join("deployments/31337.json"));
    }

    #[test]
    fn presets_pin_what_the_duties_crate_signs_under() {
        for preset in [Preset::Mainnet, Preset::Hoodi, Preset::Devnet] {
            let network = stkr_duties::Network::by_name(preset.name()).unwrap();
            assert_eq!(preset.chain_id(), Some(network.chain_id));
            assert_eq!(Preset::of_chain(network.chain_id), preset);
            assert_eq!(Preset::by_name(preset.name()).unwrap(), preset);
            let pinned = preset.genesis_fork_version();
            assert!(pinned.is_none_or(|version| version == network.genesis_fork_version));
        }
        assert_eq!(Preset::of_chain(7), Preset::Custom);
        assert!(Preset::by_name("holesky").is_err());
    }

    #[test]
    fn a_configuration_whose_deployment_file_is_of_another_network_or_none_at_all_is_not_valid() {
        let (folder, path) = written("[chain]\nrpc_urls = [\"http://127.0.0.1:1\"]\nmin_endpoints = 1\n");
        let file = folder.path().join("deployments/31337.json");
        load::<Sample>(&path).unwrap();
        std::fs::write(&file, deployment(1).to_string()).unwrap();
        let error = load::<Sample>(&path).unwrap_err().to_string();
        assert!(error.contains("the deployment is on chain 1, but network devnet is chain 31337"), "{error}");
        std::fs::write(&file, "{}").unwrap();
        assert!(load::<Sample>(&path).unwrap_err().to_string().contains("is not valid"));
        std::fs::remove_file(&file).unwrap();
        assert!(load::<Sample>(&path).unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn a_deployment_of_another_network_is_refused() {
        Preset::Mainnet.check(1, [0; 4]).unwrap();
        assert!(Preset::Mainnet.check(31337, [0; 4]).unwrap_err().to_string().contains("chain 31337"));
        assert!(Preset::Hoodi.check(560_048, [0; 4]).is_err());
        Preset::Custom.check(7, [1, 2, 3, 4]).unwrap();
    }
}
