//! `server.toml`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stkr_core::keystore::{Keystore, KeystoreError, StoreKey};
use stkr_duties::ForkSchedule;
use stkr_node::config::{
    ChainConfig, ConfigError, Doc, ListenConfig, LogConfig, Named, ProgramConfig, check_databases, fork_schedule,
};
use stkr_node::{secrets, tls};

use crate::signers;

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
    /// The beacon chain whose duties it signs.
    pub beacon: BeaconConfig,
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
    /// Slashing protection database (EIP-3076).
    pub protection: PathBuf,
    /// Signer key, secp256k1, 32 bytes in hex.
    pub signer_key: PathBuf,
    /// Folder with more of them: earlier signers' and the next one's.
    pub signer_keys: PathBuf,
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
            protection: "protection.db".into(),
            signer_key: "secrets/signer.key".into(),
            signer_keys: "secrets/signers".into(),
            store_keystore: "secrets/store-key.json".into(),
            store_password: "secrets/store-key.password".into(),
            tls_certificate: "tls.crt".into(),
            tls_key: "secrets/tls.key".into(),
        }
    }
}

impl FilesConfig {
    fn check_databases(&self) -> Result<(), ConfigError> {
        let databases: [Named<'_>; 2] = [("files.database", &self.database), ("files.protection", &self.protection)];
        let others: [Named<'_>; 6] = [
            ("files.signer_key", &self.signer_key),
            ("files.signer_keys", &self.signer_keys),
            ("files.store_keystore", &self.store_keystore),
            ("files.store_password", &self.store_password),
            ("files.tls_certificate", &self.tls_certificate),
            ("files.tls_key", &self.tls_key),
        ];
        check_databases(&databases, &others)
    }

    /// The same files below `folder`, where their paths are relative.
    #[must_use]
    pub fn below(mut self, folder: &Path) -> Self {
        for file in self.all() {
            *file = folder.join(&*file);
        }
        self
    }

    fn store_keystore(&self) -> Result<Keystore, ConfigError> {
        let json = secrets::read_text(&self.store_keystore)?;
        Keystore::from_json(&json).map_err(|error| self.no_store_key(&error))
    }

    /// The key under which shares are stored: one scrypt, about a second.
    ///
    /// # Errors
    /// Files that cannot be used, a keystore that is none, another password.
    pub fn store_key(&self) -> Result<StoreKey, ConfigError> {
        let password = secrets::read_text(&self.store_password)?;
        StoreKey::open(&self.store_keystore()?, &password).map_err(|error| self.no_store_key(&error))
    }

    fn no_store_key(&self, error: &KeystoreError) -> ConfigError {
        let reason = format!(
            "{} gives no store key: {error}; restore keystore and password from the backup that belongs to the database",
            self.store_keystore.display()
        );
        ConfigError::value("files.store_keystore", reason)
    }

    fn all(&mut self) -> [&mut PathBuf; 8] {
        [
            &mut self.database,
            &mut self.protection,
            &mut self.signer_key,
            &mut self.signer_keys,
            &mut self.store_keystore,
            &mut self.store_password,
            &mut self.tls_certificate,
            &mut self.tls_key,
        ]
    }
}

/// `[beacon]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BeaconConfig {
    /// File with a [`stkr_duties::ScheduleConfig`]; the public networks have theirs built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<PathBuf>,
    /// Whether blocks of pool keys are signed that do not prove whom they pay.
    pub sign_unproven_blocks: bool,
}

impl ServerConfig {
    /// The beacon chain this server signs duties for; `None` on a devnet without a schedule, where it signs deposits only.
    ///
    /// # Errors
    /// A schedule for a network whose schedule is built in, one that is no schedule, or one with another genesis fork version
    /// than the deposits of the deployment have.
    pub fn schedule(&self) -> Result<Option<ForkSchedule>, ConfigError> {
        let deployment = self.chain.network.load(&self.chain.deployment)?;
        fork_schedule(self.chain.network, self.beacon.schedule.as_deref(), &deployment)
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
    /// Requests for blocks and attestations that are kept as evidence.
    pub evidence_rows: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { requests_per_second: 50, burst: 200, request_seconds: 30, evidence_rows: 1_000_000 }
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
                "files.protection",
                "Slashing protection (EIP-3076): every block and attestation that was signed. Never copy it to a second server,\nnever put an old copy back: `stkr-server protection` has the commands for both.",
            ),
            Doc::new(
                "files.signer_key",
                "Signer key (secp256k1, hex, mode 0600). Speaks for this server on-chain; losing it means registering again.",
            ),
            Doc::new(
                "files.signer_keys",
                "Folder of more signer keys: earlier ones, which shares still name, and the next one (`stkr-server new-signer`). A\nrunning server sees what is put there.",
            ),
            Doc::new("files.store_keystore", "EIP-2335 keystore that wraps the key under which shares are stored."),
            Doc::new("files.store_password", "Password of that keystore, mode 0600."),
            Doc::new(
                "files.tls_certificate",
                "TLS certificate (PEM). Its SHA-256 is registered on-chain; a new one has to be registered too.",
            ),
            Doc::new("files.tls_key", "TLS private key (PEM, mode 0600)."),
            Doc::unset(
                "beacon.schedule",
                "Forks, genesis time and genesis validators root of the beacon chain (TOML), for a chain of your own; mainnet and\nhoodi have theirs built in. Without one no duty is signed.",
                "\"beacon.toml\"",
            ),
            Doc::new(
                "beacon.sign_unproven_blocks",
                "Whether to sign blocks of pool keys that do not prove to pay the pool. false: only clients that send proofs (Nimbus,\nverifying mode) propose for pools. true: a provider could keep a block's income, and would be found out later.",
            ),
            Doc::new("limits.requests_per_second", "Requests per second that one client certificate may send."),
            Doc::new("limits.burst", "Requests that one client certificate may send at once."),
            Doc::new("limits.request_seconds", "Seconds a request may take before it is answered with 503."),
            Doc::new(
                "limits.evidence_rows",
                "Requests for blocks and attestations kept as evidence against providers, the newest ones; about 400 bytes each.",
            ),
        ];
        let (public, rest) = own.split_at(1);
        [ChainConfig::docs().as_slice(), &ListenConfig::docs(), public, rest, &LogConfig::docs()].concat()
    }

    fn resolve(&mut self, folder: &Path) {
        self.chain.resolve(folder);
        for file in self.files.all() {
            *file = folder.join(&*file);
        }
        if let Some(schedule) = &mut self.beacon.schedule {
            *schedule = folder.join(&*schedule);
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
        if limits.evidence_rows == 0 {
            return Err(ConfigError::value("limits.evidence_rows", "write 1 or more; 1000000 is usual"));
        }
        self.files.check_databases()?;
        self.schedule()?;
        secrets::read_hex32(&self.files.signer_key)?;
        signers::read(&self.files).map_err(|error| ConfigError::value("files.signer_keys", error.to_string()))?;
        secrets::read_text(&self.files.store_password)?;
        self.files.store_keystore()?;
        let identity = tls::Identity::load(&self.files.tls_certificate, &self.files.tls_key)
            .map_err(|error| ConfigError::value("files.tls_key", error.to_string()))?;
        tls::server_config(&identity)
            .map_err(|error| ConfigError::value("files.tls_certificate", error.to_string()))?;
        self.log.check()
    }

    fn check_thoroughly(&self) -> Result<(), ConfigError> {
        self.files.store_key().map(drop)
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
