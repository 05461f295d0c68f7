//! Configuration of the relayer.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stkr_node::config::{ConfigError, Doc, FollowConfig, ListenConfig, LogConfig, ProgramConfig, check_databases};

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelayerConfig {
    /// The chain.
    pub chain: FollowConfig,
    /// Gas.
    pub gas: GasConfig,
    /// Files.
    pub storage: StorageConfig,
    /// The HTTP port.
    pub listen: ListenConfig,
    /// Logs.
    pub log: LogConfig,
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
        let mut docs = FollowConfig::docs().to_vec();
        docs.extend([
            Doc::new(
                "gas.key_file",
                "Secret key (32 bytes in hex, mode 0600) of the account that pays for transactions. It holds gas money and\nno right to anything.",
            ),
            Doc::new("gas.max_fee_gwei", "Most gwei per gas to pay. Above it transactions wait."),
            Doc::new(
                "storage.database",
                "SQLite file: event log, ceremony messages, evidence, transactions under way.",
            ),
        ]);
        docs.extend(ListenConfig::docs());
        docs.extend(LogConfig::docs());
        docs
    }

    fn resolve(&mut self, folder: &Path) {
        self.chain.resolve(folder);
        self.gas.key_file = folder.join(&self.gas.key_file);
        self.storage.database = folder.join(&self.storage.database);
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.chain.check()?;
        if self.gas.max_fee_gwei == 0 {
            return Err(ConfigError::value(
                "gas.max_fee_gwei",
                "a relayer that pays nothing sends nothing; write at least 1",
            ));
        }
        check_databases(&[("storage.database", &self.storage.database)], &[("gas.key_file", &self.gas.key_file)])?;
        stkr_node::secrets::read_hex32(&self.gas.key_file)?;
        self.log.check()
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
