//! Configuration of the relayer.

use std::path::{Path, PathBuf};

use crate::challenges::Policy;
use crate::reshares;
use serde::{Deserialize, Serialize};
use stkr_node::config::{
    ConfigError, Doc, FollowConfig, ListenConfig, LogConfig, ProgramConfig, check_databases, rpc_host,
};
use url::Url;

/// Least blocks of silence before a challenge: a server signs what is final.
const SHORTEST_SILENCE: u64 = 100;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelayerConfig {
    /// The chain.
    pub chain: FollowConfig,
    /// Gas.
    pub gas: GasConfig,
    /// Challenges to servers.
    pub challenges: ChallengesConfig,
    /// Reshares of keys.
    pub reshares: ResharesConfig,
    /// Beacon nodes.
    pub beacon: BeaconConfig,
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

/// `[challenges]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChallengesConfig {
    /// Ids of servers whose challenges are answered whatever it costs.
    pub own_servers: Vec<u32>,
    /// Most gas per day for answers of all others, and for proofs of others' challenges.
    pub answer_gas_per_day: u64,
    /// Whether servers that do not sign an ordered deposit, or do not acknowledge a key, are challenged.
    pub challenge_silent_servers: bool,
    /// Blocks after the order, or the beginning of the ceremony, from which such a server counts as silent.
    pub silent_blocks: u64,
}

impl Default for ChallengesConfig {
    fn default() -> Self {
        Self {
            own_servers: Vec::new(),
            answer_gas_per_day: 6_000_000,
            challenge_silent_servers: false,
            silent_blocks: 300,
        }
    }
}

impl ChallengesConfig {
    /// The same for the plan.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            own: self.own_servers.iter().copied().collect(),
            gas_per_day: self.answer_gas_per_day,
            patience: self.challenge_silent_servers.then_some(self.silent_blocks),
        }
    }
}

/// `[reshares]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResharesConfig {
    /// Whether a reshare is asked for when a member of a key's committee is lost.
    pub request: bool,
    /// Whether the shares of a committee are refreshed when they are old.
    pub refresh: bool,
}

impl Default for ResharesConfig {
    fn default() -> Self {
        Self { request: true, refresh: false }
    }
}

impl ResharesConfig {
    /// The same for the plan.
    #[must_use]
    pub const fn policy(&self) -> reshares::Policy {
        reshares::Policy { request: self.request, refresh: self.refresh }
    }
}

/// `[beacon]`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BeaconConfig {
    /// Where signed changes of credentials are taken.
    pub urls: Vec<Url>,
}

impl std::fmt::Debug for BeaconConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hosts: Vec<String> = self.urls.iter().map(rpc_host).collect();
        f.debug_struct("BeaconConfig").field("urls", &hosts).finish()
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
            Doc::new("gas.max_fee_gwei", "Most gwei per gas to pay. Above it transactions wait, but for answers to challenges of own_servers."),
            Doc::new(
                "challenges.own_servers",
                "Ids of servers whose challenges this relayer answers whatever it costs: write your own here. The fee of a challenge\nis more than an answer costs then, and it is the operator's.",
            ),
            Doc::new(
                "challenges.answer_gas_per_day",
                "Most gas per day for answers to challenges of all other servers, and for proofs that others' challenges were not\nanswered; 0 spends nothing on others' challenges.",
            ),
            Doc::new(
                "challenges.challenge_silent_servers",
                "Challenge servers on the chain that do not sign an ordered deposit for which too few others have signed, or whose\nacknowledgement is all that a ceremony lacks. Each challenge costs gas and a fee, which comes back with a tenth of\nthe penalty if nobody answers for a day. Where somebody else's challenge stands in the way, its proof is paid for instead.",
            ),
            Doc::new("challenges.silent_blocks", "Blocks after the order, or the beginning of the ceremony, from which such a server counts as silent."),
            Doc::new(
                "reshares.request",
                "Ask for a reshare of a key when a member of its newest committee is locked out, suspended, leaving or voted silent.\nWhat others asked for is drawn, carried, finalised and restarted either way.",
            ),
            Doc::new(
                "reshares.refresh",
                "Ask for one, too, when a committee has signed for 90 days: the same members get new shares of the same key, so that what\nwas stolen of the old ones, a few at a time, is worth nothing any more.",
            ),
            Doc::new(
                "beacon.urls",
                "Beacon nodes (http or https) that are given signed changes of credentials, which are on the chain for everybody;\nnone: others take them there.",
            ),
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
        if self.challenges.challenge_silent_servers && self.challenges.silent_blocks < SHORTEST_SILENCE {
            return Err(ConfigError::value(
                "challenges.silent_blocks",
                "servers sign an order only once it is final, some 70 blocks later: write at least 100",
            ));
        }
        if let Some(url) = self.beacon.urls.iter().find(|url| !matches!(url.scheme(), "http" | "https")) {
            return Err(ConfigError::value("beacon.urls", format!("{} is not http or https", rpc_host(url))));
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
    fn own_servers_are_answered_for_at_any_cost_and_nobody_is_asked_unless_the_operator_says_so() {
        let policy = RelayerConfig::default().challenges.policy();
        assert_eq!((policy.own.len(), policy.patience), (0, None));
        assert!(policy.gas_per_day >= 50 * crate::challenges::ANSWER_GAS, "a handful of challenges must not use it up");
        let text = "[challenges]\nown_servers = [3, 7]\nchallenge_silent_servers = true\nsilent_blocks = 200";
        let policy = toml::from_str::<RelayerConfig>(text).unwrap().challenges.policy();
        assert_eq!((policy.own, policy.patience), ([3, 7].into(), Some(200)));
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        for text in ["max_fee = 1", "[gas]\nmax_fee = 1", "[chain]\nmin_endpoints = 1"] {
            let error = toml::from_str::<RelayerConfig>(text).unwrap_err();
            assert!(error.to_string().contains("unknown field"), "{error}");
        }
    }
}
