//! `server.toml`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stkr_node::config::{ChainConfig, ConfigError, Doc, ListenConfig, LogConfig, ProgramConfig};
use stkr_node::{secrets, tls};

/// Everything a server is told by its operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// The chain and this server's own endpoints.
    pub chain: ChainConfig,
    /// Where it serves.
    pub listen: ListenConfig,
    /// How others reach it.
    pub public: PublicConfig,
    /// Its files.
    pub files: FilesConfig,
    /// Bounds per client.
    pub limits: LimitsConfig,
    /// Logs.
    pub log: LogConfig,
}

/// `[public]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublicConfig {
    /// `https://host:port` as registered on-chain.
    pub endpoint: String,
}

impl Default for PublicConfig {
    fn default() -> Self {
        Self { endpoint: "https://localhost:7443".to_owned() }
    }
}

/// `[files]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilesConfig {
    /// SQLite database.
    pub database: PathBuf,
    /// Signer key, secp256k1, 32 bytes in hex.
    pub signer_key: PathBuf,
    /// EIP-2335 keystore that wraps the store key.
    pub store_keystore: PathBuf,
    /// Password of that keystore.
    pub store_password: PathBuf,
    /// TLS certificate, PEM.
    pub tls_certificate: PathBuf,
    /// TLS private key, PEM.
    pub tls_key: PathBuf,
}

impl Default for FilesConfig {
    fn default() -> Self {
        Self {
            database: "server.db".into(),
            signer_key: "secrets/signer.key".into(),
            store_keystore: "secrets/store-key.json".into(),
            store_password: "secrets/store-key.password".into(),
            tls_certificate: "tls.crt".into(),
            tls_key: "secrets/tls.key".into(),
        }
    }
}

impl FilesConfig {
    fn all(&mut self) -> [&mut PathBuf; 6] {
        [
            &mut self.database,
            &mut self.signer_key,
            &mut self.store_keystore,
            &mut self.store_password,
            &mut self.tls_certificate,
            &mut self.tls_key,
        ]
    }
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Requests per second and client certificate.
    pub requests_per_second: u32,
    /// Requests at once before that rate holds.
    pub burst: u32,
    /// Seconds one request may take.
    pub request_seconds: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { requests_per_second: 50, burst: 200, request_seconds: 30 }
    }
}

impl ProgramConfig for ServerConfig {
    const PROGRAM: &'static str = "stkr-server";

    fn docs() -> Vec<Doc> {
        let own = [
            Doc::new(
                "public.endpoint",
                "How relayers and gateways reach this server: https://host:port, registered on-chain.",
            ),
            Doc::new(
                "files.database",
                "Database: ceremonies, shares (encrypted) and what was signed. Back it up, never restore an old copy without\nreading the operators' handbook, and never run two servers on it.",
            ),
            Doc::new(
                "files.signer_key",
                "Signer key (secp256k1, hex, mode 0600). Speaks for this server on-chain; losing it means registering again.",
            ),
            Doc::new("files.store_keystore", "EIP-2335 keystore that wraps the key under which shares are stored."),
            Doc::new("files.store_password", "Password of that keystore, mode 0600."),
            Doc::new(
                "files.tls_certificate",
                "TLS certificate (PEM). Its SHA-256 is registered on-chain; a new one has to be registered too.",
            ),
            Doc::new("files.tls_key", "TLS private key (PEM, mode 0600)."),
            Doc::new("limits.requests_per_second", "Requests per second that one client certificate may send."),
            Doc::new("limits.burst", "Requests that one client certificate may send at once."),
            Doc::new("limits.request_seconds", "Seconds a request may take before it is answered with 503."),
        ];
        let (public, rest) = own.split_at(1);
        [ChainConfig::docs().as_slice(), &ListenConfig::docs(), public, rest, &LogConfig::docs()].concat()
    }

    fn resolve(&mut self, folder: &Path) {
        self.chain.resolve(folder);
        for file in self.files.all() {
            *file = folder.join(&*file);
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.chain.check()?;
        tls::endpoint_url(&self.public.endpoint)
            .map_err(|error| ConfigError::value("public.endpoint", error.to_string()))?;
        let limits = &self.limits;
        if limits.requests_per_second == 0 || limits.burst == 0 || !(1..=600).contains(&limits.request_seconds) {
            return Err(ConfigError::value("limits", "rates must be above 0 and request_seconds between 1 and 600"));
        }
        secrets::read_hex32(&self.files.signer_key)?;
        secrets::read_text(&self.files.store_password)?;
        secrets::read(&self.files.store_keystore)?;
        tls::Identity::load(&self.files.tls_certificate, &self.files.tls_key)
            .map_err(|error| ConfigError::value("files.tls_key", error.to_string()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_parses_to_the_defaults() {
        let text = stkr_node::config::example::<ServerConfig>().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.toml");
        std::fs::write(&path, text).unwrap();
        let mut defaults = ServerConfig::default();
        defaults.resolve(folder.path());
        assert_eq!(stkr_node::config::read::<ServerConfig>(&path).unwrap(), defaults);
    }
}
