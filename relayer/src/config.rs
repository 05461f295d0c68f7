//! Configuration of the relayer.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stkr_node::config::{ChainConfig, ConfigError, Doc, ListenConfig, LogConfig, Preset, ProgramConfig};
use url::Url;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelayerConfig {
    /// The chain.
    pub chain: RelayerChain,
    /// Gas.
    pub gas: GasConfig,
    /// Files.
    pub storage: StorageConfig,
    /// The HTTP port.
    pub listen: ListenConfig,
    /// Logs.
    pub log: LogConfig,
}

/// `[chain]`: as in a server, but one endpoint is enough: an endpoint that lies to a relayer costs it time and gas, never
/// anybody's money.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelayerChain {
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

impl Default for RelayerChain {
    fn default() -> Self {
        let ChainConfig { network, deployment, rpc_urls, rpc_urls_file, poll_ms, .. } = ChainConfig::default();
        Self { network, deployment, rpc_urls, rpc_urls_file, poll_ms }
    }
}

impl std::fmt::Debug for RelayerChain {
    /// As [`ChainConfig`] does it: RPC URLs hold API keys, so only their hosts are shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.common().fmt(f)
    }
}

impl RelayerChain {
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
}

/// `[gas]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GasConfig {
    /// File with the secret key of the account that pays.
    pub key_file: PathBuf,
    /// Most gwei per gas this relayer pays.
    pub max_fee_gwei: u64,
}

impl Default for GasConfig {
    fn default() -> Self {
        Self { key_file: PathBuf::from("secrets/gas.key"), max_fee_gwei: 200 }
    }
}

/// `[storage]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// SQLite file.
    pub database: PathBuf,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self { database: PathBuf::from("relayer.sqlite") }
    }
}

impl ProgramConfig for RelayerConfig {
    const PROGRAM: &'static str = "stkr-relayer";

    fn docs() -> Vec<Doc> {
        let mut docs = vec![
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
            Doc::new(
                "gas.key_file",
                "Secret key (32 bytes in hex, mode 0600) of the account that pays for transactions. It holds gas money and\nno right to anything.",
            ),
            Doc::new("gas.max_fee_gwei", "Most gwei per gas to pay. Above it transactions wait."),
            Doc::new(
                "storage.database",
                "SQLite file: event log, ceremony messages, evidence, transactions under way.",
            ),
        ];
        docs.extend(ListenConfig::docs());
        docs.extend(LogConfig::docs());
        docs
    }

    fn resolve(&mut self, folder: &Path) {
        self.chain.deployment = folder.join(&self.chain.deployment);
        self.chain.rpc_urls_file = self.chain.rpc_urls_file.as_ref().map(|file| folder.join(file));
        self.gas.key_file = folder.join(&self.gas.key_file);
        self.storage.database = folder.join(&self.storage.database);
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.chain.common().endpoints()?.is_empty() {
            return Err(ConfigError::value("chain.rpc_urls", "there is no RPC endpoint; write at least one"));
        }
        self.chain.common().check()?;
        if self.gas.max_fee_gwei == 0 {
            return Err(ConfigError::value(
                "gas.max_fee_gwei",
                "a relayer that pays nothing sends nothing; write at least 1",
            ));
        }
        stkr_node::secrets::read_hex32(&self.gas.key_file)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_parses_to_the_defaults() {
        let text = stkr_node::config::example::<RelayerConfig>().unwrap();
        assert_eq!(toml::from_str::<RelayerConfig>(&text).unwrap(), RelayerConfig::default());
    }

    #[test]
    fn a_configuration_that_is_printed_shows_hosts_and_no_api_key() {
        let text = "[chain]\nrpc_urls = [\"https://user:pass-word@rpc.example/v1/api-key?token=to-ken\"]";
        let config = toml::from_str::<RelayerConfig>(text).unwrap();
        let shown = format!("{config:?} {config:#?}");
        assert!(shown.contains("rpc.example:443"), "{shown}");
        for secret in ["user", "pass-word", "api-key", "to-ken"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        for text in ["max_fee = 1", "[gas]\nmax_fee = 1", "[chain]\nmin_endpoints = 1"] {
            let error = toml::from_str::<RelayerConfig>(text).unwrap_err();
            assert!(error.to_string().contains("unknown field"), "{error}");
        }
    }
}
