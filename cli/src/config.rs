//! The optional configuration file of `stkr`.

use core::{convert::Infallible, fmt, str::FromStr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stkr_node::config::{ConfigError, Doc, Preset, ProgramConfig, rpc_host};
use url::Url;

/// The URL of an endpoint, as text: whatever may hold an API key stays out of Debug.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct RpcUrl(pub(crate) String);

impl fmt::Debug for RpcUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is no URL could be anything, a key included.
        f.write_str(&Url::parse(&self.0).map_or_else(|_| "(not a URL)".to_owned(), |url| rpc_host(&url)))
    }
}

impl FromStr for RpcUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

/// Everything that does not change from command to command. Arguments and environment win over it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Network preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<Preset>,
    /// Deployment file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deployment: Option<PathBuf>,
    /// RPC endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rpc_url: Option<RpcUrl>,
    /// File with the RPC endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rpc_url_file: Option<PathBuf>,
    /// Keystore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keystore: Option<PathBuf>,
    /// Its password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password_file: Option<PathBuf>,
    /// Key file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_file: Option<PathBuf>,
    /// Fee cap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_fee_gwei: Option<String>,
}

impl ProgramConfig for Config {
    const PROGRAM: &'static str = "stkr";

    fn docs() -> Vec<Doc> {
        vec![
            Doc::unset(
                "network",
                "mainnet, hoodi, devnet or custom: what the deployment file is checked against.",
                "\"mainnet\"",
            ),
            Doc::unset(
                "deployment",
                "Addresses of the contracts, written by the deploy script.",
                "\"deployments/1.json\"",
            ),
            Doc::unset("rpc_url", "Execution endpoint (http, https, ws or wss).", "\"http://127.0.0.1:8545\""),
            Doc::unset(
                "rpc_url_file",
                "The same in a file with mode 0600, for a URL that holds an API key.",
                "\"secrets/rpc-url\"",
            ),
            Doc::unset("keystore", "Ethereum keystore (version 3) of the account that signs.", "\"keystore.json\""),
            Doc::unset("password_file", "File with the keystore's password, mode 0600.", "\"secrets/password\""),
            Doc::unset("key_file", "Instead of a keystore: a file with the key in hex, mode 0600.", "\"secrets/key\""),
            Doc::unset("max_fee_gwei", "Never offer more than this per gas.", "\"30\""),
        ]
    }

    fn resolve(&mut self, folder: &Path) {
        for path in [
            &mut self.deployment,
            &mut self.rpc_url_file,
            &mut self.keystore,
            &mut self.password_file,
            &mut self.key_file,
        ] {
            *path = path.as_ref().map(|path| folder.join(path));
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.rpc_url.is_some() && self.rpc_url_file.is_some() {
            return Err(ConfigError::value("rpc_url_file", "give rpc_url or rpc_url_file, not both"));
        }
        if self.key_file.is_some() && self.keystore.is_some() {
            return Err(ConfigError::value("key_file", "give a keystore or a key_file, not both"));
        }
        if self.keystore.is_some() != self.password_file.is_some() {
            return Err(ConfigError::value("password_file", "keystore and password_file belong together; give both"));
        }
        if let Some(cap) = &self.max_fee_gwei {
            crate::context::fee_cap(cap).map_err(|error| ConfigError::value("max_fee_gwei", error.message))?;
        }
        let files = [
            ("deployment", &self.deployment),
            ("rpc_url_file", &self.rpc_url_file),
            ("keystore", &self.keystore),
            ("password_file", &self.password_file),
            ("key_file", &self.key_file),
        ];
        for (key, path) in files {
            if let Some(path) = path.as_ref().filter(|path| !path.is_file()) {
                return Err(ConfigError::value(key, format!("there is no file {}", path.display())));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_documents_every_key_and_parses_to_the_defaults() {
        let text = stkr_node::config::example::<Config>().unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
        let uncommented: String = text
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|rest| rest.contains(" = \"")).unwrap_or(line))
            .fold(String::new(), |all, line| all + line + "\n");
        let full = toml::from_str::<Config>(&uncommented).unwrap();
        assert_eq!(full.max_fee_gwei.as_deref(), Some("30"), "{uncommented}");
    }

    #[test]
    fn a_url_with_a_key_shows_its_host_and_nothing_else() {
        let config: Config =
            toml::from_str("rpc_url = \"https://me:pass@rpc.example/v2/topsecret?key=topsecret\"").unwrap();
        let shown = format!("{config:?}");
        assert!(shown.contains("rpc.example:443"), "{shown}");
        assert!(!shown.contains("topsecret") && !shown.contains("pass@"), "{shown}");
        assert_eq!(format!("{:?}", RpcUrl("topsecret".into())), "(not a URL)");
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        assert!(toml::from_str::<Config>("rpc = \"http://localhost\"").is_err());
    }
}
