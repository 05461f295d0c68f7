//! `gateway.toml`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stkr_duties::ForkSchedule;
use stkr_node::config::{
    ConfigError, Doc, FollowConfig, LogConfig, Named, ProgramConfig, check_databases, fork_schedule,
};
use stkr_node::tls::Identity;
use stkr_node::{secrets, tls};
use stkr_protocol::SignerKey;
use url::Url;

/// Longest quiet period, epochs: nearly two hours.
const MOST_QUIET_EPOCHS: u64 = 16;
/// Duty keys at once: the present one and, while one replaces the other, the next.
const MOST_DUTY_KEYS: usize = 2;
/// Relayers that get evidence; any one of them is enough.
const MOST_RELAYERS: usize = 8;

/// Everything a gateway is told by its provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// The chain and the provider's endpoints.
    pub chain: FollowConfig,
    /// The beacon chain whose duties are signed.
    pub beacon: BeaconConfig,
    /// Duty keys.
    pub duty: DutyConfig,
    /// Watching out for a second gateway.
    pub doppelganger: DoppelgangerConfig,
    /// Where it stops.
    pub high_watermark: HighWatermarkConfig,
    /// Who gets its evidence.
    pub report: ReportConfig,
    /// Where it serves.
    pub listen: GatewayListen,
    /// Its files.
    pub storage: StorageConfig,
    /// Bounds.
    pub limits: LimitsConfig,
    /// Logs.
    pub log: LogConfig,
}

/// `[beacon]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BeaconConfig {
    /// File with a [`stkr_duties::ScheduleConfig`]; the public networks have theirs built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<PathBuf>,
}

/// `[duty]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DutyConfig {
    /// Files with one secp256k1 secret key each, 32 bytes in hex.
    pub key_files: Vec<PathBuf>,
}

impl Default for DutyConfig {
    fn default() -> Self {
        Self { key_files: vec!["secrets/duty.key".into()] }
    }
}

/// `[doppelganger]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DoppelgangerConfig {
    /// Epochs of silence before a key signs; 0 for none.
    pub quiet_epochs: u64,
}

impl Default for DoppelgangerConfig {
    fn default() -> Self {
        Self { quiet_epochs: 2 }
    }
}

/// `[high_watermark]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HighWatermarkConfig {
    /// No vote with this target epoch or a later one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// No block of this slot or a later one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u64>,
}

/// `[report]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportConfig {
    /// Relayers: scheme, host and port.
    pub relayers: Vec<Url>,
}

impl ReportConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let is_plain = |url: &Url| {
            let rest = (url.path(), url.query(), url.username(), url.password());
            matches!(url.scheme(), "http" | "https") && rest == ("/", None, "", None)
        };
        if self.relayers.len() <= MOST_RELAYERS && self.relayers.iter().all(is_plain) {
            return Ok(());
        }
        Err(ConfigError::value(
            "report.relayers",
            format!(
                "write at most {MOST_RELAYERS} addresses like https://relayer.example:8443, with nothing behind the port"
            ),
        ))
    }
}

/// `[listen]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayListen {
    /// Socket address; port 0 picks a free one.
    pub address: SocketAddr,
    /// TLS certificate, PEM; plain HTTP without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
}

impl Default for GatewayListen {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 9000)), tls_certificate: None, tls_key: None }
    }
}

impl GatewayListen {
    /// What it presents to validator clients; `None` for plain HTTP.
    ///
    /// # Errors
    /// One of the two files without the other, or files that do not belong together.
    pub fn identity(&self) -> Result<Option<Identity>, ConfigError> {
        match (&self.tls_certificate, &self.tls_key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Identity::load(certificate, key)
                .map(Some)
                .map_err(|error| ConfigError::value("listen.tls_key", error.to_string())),
            _ => Err(ConfigError::value("listen.tls_key", "certificate and key go together; give both or none")),
        }
    }
}

impl GatewayListen {
    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |error: tls::TlsError| ConfigError::value("listen.tls_key", error.to_string());
        match self.identity()? {
            Some(identity) => tls::open_server_config(&identity).map(drop).map_err(wrong),
            // Whoever can connect gets signatures, and who stands in between could change what is asked.
            None if !self.address.ip().is_loopback() => Err(ConfigError::value(
                "listen.address",
                "without TLS only the loopback interface is served; write 127.0.0.1, or give certificate and key",
            )),
            None => Ok(()),
        }
    }
}

/// `[storage]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// Event log, requests, envelopes, evidence.
    pub database: PathBuf,
    /// Slashing protection.
    pub protection: PathBuf,
    /// Requests for slashable duties that are kept with their envelopes.
    pub keep_requests: u32,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self { database: "gateway.sqlite".into(), protection: "protection.sqlite".into(), keep_requests: 1_000_000 }
    }
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Milliseconds a server has to connect, and again to answer.
    pub server_ms: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { server_ms: 4_000 }
    }
}

impl GatewayConfig {
    /// The fork schedule of the network.
    ///
    /// # Errors
    /// As [`fork_schedule`], and where there is none.
    pub fn schedule(&self) -> Result<ForkSchedule, ConfigError> {
        let deployment = self.chain.network.load(&self.chain.deployment)?;
        fork_schedule(self.chain.network, self.beacon.schedule.as_deref(), &deployment)?.ok_or_else(|| {
            let network = self.chain.network.name();
            ConfigError::value(
                "beacon.schedule",
                format!("no schedule is built in for {network}; write one and name it"),
            )
        })
    }

    /// The duty keys, in the order of the file.
    ///
    /// # Errors
    /// None, too many, a file that cannot be used, or the same key twice.
    pub fn duty_keys(&self) -> Result<Vec<SignerKey>, ConfigError> {
        let wrong = |reason: String| ConfigError::value("duty.key_files", reason);
        let files = &self.duty.key_files;
        if files.is_empty() || files.len() > MOST_DUTY_KEYS {
            return Err(wrong(format!("write one file, or {MOST_DUTY_KEYS} while one key replaces the other")));
        }
        let mut keys: Vec<SignerKey> = Vec::new();
        for file in files {
            let secret = secrets::read_hex32(file)?;
            let key = SignerKey::from_bytes(&secret).map_err(|error| wrong(format!("{}: {error}", file.display())))?;
            if keys.iter().any(|other| other.address() == key.address()) {
                return Err(wrong(format!("{} holds a key that another file holds too", file.display())));
            }
            keys.push(key);
        }
        Ok(keys)
    }
}

impl GatewayConfig {
    fn check_databases(&self) -> Result<(), ConfigError> {
        let storage = &self.storage;
        let databases: [Named<'_>; 2] =
            [("storage.database", &storage.database), ("storage.protection", &storage.protection)];
        let tls = [("listen.tls_certificate", &self.listen.tls_certificate), ("listen.tls_key", &self.listen.tls_key)];
        let tls = tls.into_iter().filter_map(|(key, path)| Some((key, path.as_deref()?)));
        let keys = self.duty.key_files.iter().map(|path| ("duty.key_files", path.as_path()));
        check_databases(&databases, &tls.chain(keys).collect::<Vec<_>>())
    }

    fn check_numbers(&self) -> Result<(), ConfigError> {
        if !(100..=30_000).contains(&self.limits.server_ms) {
            return Err(ConfigError::value("limits.server_ms", "write a number from 100 to 30000; 4000 is usual"));
        }
        if self.storage.keep_requests == 0 {
            return Err(ConfigError::value("storage.keep_requests", "write 1 or more; 1000000 is usual"));
        }
        if self.doppelganger.quiet_epochs > MOST_QUIET_EPOCHS {
            return Err(ConfigError::value("doppelganger.quiet_epochs", "write a number from 0 to 16; 2 is usual"));
        }
        if self.high_watermark.epoch.is_some() != self.high_watermark.slot.is_some() {
            return Err(ConfigError::value("high_watermark", "epoch and slot go together; give both or none"));
        }
        Ok(())
    }
}

impl ProgramConfig for GatewayConfig {
    const PROGRAM: &'static str = "stkr-gateway";

    fn docs() -> Vec<Doc> {
        let own = [
            Doc::unset(
                "beacon.schedule",
                "Forks, genesis time and genesis validators root of the beacon chain (TOML), for a chain of your own; mainnet\nand hoodi have theirs built in.",
                "\"beacon.toml\"",
            ),
            Doc::new(
                "duty.key_files",
                "Duty keys (secp256k1, 32 bytes in hex, mode 0600): the one registered on-chain, and the next one while you\nreplace it. Whoever holds it can ask the servers for your validators' signatures.",
            ),
            Doc::new(
                "doppelganger.quiet_epochs",
                "Epochs for which a key signs no duty with a slot after a start, until it is known that no other gateway signs\nwith the same duty key. At most 16; 0 switches it off.",
            ),
            Doc::unset(
                "high_watermark.epoch",
                "Signs no attestation with this target epoch or a later one, for a planned move. Goes together with slot: give\nboth or none.",
                "123456",
            ),
            Doc::unset(
                "high_watermark.slot",
                "Signs no block of this slot or a later one. Goes together with epoch; the first slot of that epoch is usual.",
                "3950592",
            ),
            Doc::new(
                "report.relayers",
                "Relayers that get evidence of servers' faults and report it to the Court, for example\n[\"https://relayer.example\"]. Any relayer will do, and two are better than one; without any, evidence stays here\n(/v1/evidence) until somebody fetches it.",
            ),
            Doc::new(
                "listen.address",
                "Where validator clients find it. Whoever reaches this port gets signatures: keep it on the loopback\ninterface, or use TLS and a firewall. Port 0 takes a free one (the ready line on stdout says which).",
            ),
            Doc::unset("listen.tls_certificate", "TLS certificate (PEM); plain HTTP without.", "\"tls.crt\""),
            Doc::unset("listen.tls_key", "Its private key (PEM, mode 0600).", "\"secrets/tls.key\""),
            Doc::new("storage.database", "SQLite file: event log, requests with their envelopes, evidence."),
            Doc::new(
                "storage.protection",
                "Slashing protection (EIP-3076). Never copy it to a second gateway, never put an old copy back.",
            ),
            Doc::new(
                "storage.keep_requests",
                "Requests for attestations and blocks that are kept with their envelopes, about 4 kB each. The oldest go first.",
            ),
            Doc::new(
                "limits.server_ms",
                "Milliseconds that a threshold server has to connect, and again to answer. A slow one holds nobody up as long\nas t others answer.",
            ),
        ];
        [FollowConfig::docs().as_slice(), &own, &LogConfig::docs()].concat()
    }

    fn resolve(&mut self, folder: &Path) {
        self.chain.resolve(folder);
        let optional = [&mut self.beacon.schedule, &mut self.listen.tls_certificate, &mut self.listen.tls_key];
        let named = [&mut self.storage.database, &mut self.storage.protection];
        for file in optional.into_iter().flatten().chain(named).chain(&mut self.duty.key_files) {
            *file = folder.join(&*file);
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.chain.check()?;
        self.schedule()?;
        self.duty_keys()?;
        self.listen.check()?;
        self.report.check()?;
        self.check_numbers()?;
        self.check_databases()?;
        self.log.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_parses_to_the_defaults() {
        let text = stkr_node::config::example::<GatewayConfig>().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.toml");
        std::fs::write(&path, text).unwrap();
        let mut defaults = GatewayConfig::default();
        defaults.resolve(folder.path());
        assert_eq!(stkr_node::config::read::<GatewayConfig>(&path).unwrap(), defaults);
    }

    #[test]
    fn a_wrong_number_is_reported_under_its_own_name() {
        let error = |change: fn(&mut GatewayConfig)| {
            let mut config = GatewayConfig::default();
            config.check_numbers().unwrap();
            change(&mut config);
            config.check_numbers().unwrap_err().to_string()
        };
        let text = error(|config| config.storage.keep_requests = 0);
        assert!(text.contains("storage.keep_requests") && text.contains("write 1 or more"), "{text}");
        let text = error(|config| config.limits.server_ms = 99);
        assert!(text.contains("limits.server_ms") && text.contains("from 100 to 30000"), "{text}");
        let text = error(|config| config.doppelganger.quiet_epochs = 17);
        assert!(text.contains("doppelganger.quiet_epochs"), "{text}");
        let text = error(|config| config.high_watermark.slot = Some(32));
        assert!(text.contains("high_watermark") && text.contains("go together"), "{text}");
    }

    #[test]
    fn without_tls_only_the_loopback_interface_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let mut listen = GatewayListen { address: ([0, 0, 0, 0], 9000).into(), ..GatewayListen::default() };
        assert!(listen.check().unwrap_err().to_string().contains("without TLS only the loopback interface"));
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        Identity::create("gateway", &certificate, &key).unwrap();
        listen.tls_certificate = Some(certificate);
        assert!(listen.check().unwrap_err().to_string().contains("certificate and key go together"));
        listen.tls_key = Some(key);
        listen.check().unwrap();
        GatewayListen::default().check().unwrap();
    }

    #[test]
    fn one_duty_key_or_two_while_one_replaces_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["one", "two", "three"].map(|name| folder.path().join(name));
        for (number, file) in (1..).zip(&files) {
            secrets::write_hex32(file, &[number; 32]).unwrap();
        }
        let keys = |files: &[PathBuf]| {
            let duty = DutyConfig { key_files: files.to_vec() };
            GatewayConfig { duty, ..GatewayConfig::default() }.duty_keys()
        };
        assert_eq!(keys(&files[..2]).unwrap().len(), 2);
        assert!(keys(&files).is_err() && keys(&[]).is_err());
        let error = keys(&[files[0].clone(), files[0].clone()]).unwrap_err();
        assert!(error.to_string().contains("another file holds too"), "{error}");
    }
}
