//! Arguments, environment and configuration file, put together into a client and an account.

use std::path::{Path, PathBuf};

use alloy::{
    primitives::{Address, B256, U256},
    providers::DynProvider,
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use stkr_chain::{ChainError, Endpoint};
use stkr_node::{
    config::{self, Preset, is_keyless},
    secrets,
};
use stkr_protocol::json_reason;
use stkr_sdk::{Deployment, Stkr, Write, amount};
use url::Url;

use crate::{
    args::{Global, Network, Signing},
    config::{Config, RpcUrl},
    failure::Failure,
    output::{Output, record},
    signer::{self, Account},
};

/// Nothing answers here: only for transactions that are made without asking the chain.
const NOWHERE: &str = "http://offline.invalid";
/// Longest file that is read as an argument.
const MAX_FILE: u64 = 64 * 1024;

/// Everything a command needs.
pub(crate) struct Context<'a> {
    pub(crate) output: &'a Output,
    config: Config,
    rpc: Option<RpcUrl>,
    deployment: Option<PathBuf>,
    network: Option<Preset>,
}

/// The client of the command line.
pub(crate) type Client = Stkr<DynProvider>;

impl<'a> Context<'a> {
    pub(crate) fn new(global: Global, output: &'a Output) -> Result<Self, Failure> {
        let config = match &global.config {
            Some(path) => config::load::<Config>(path)?,
            None => Config::default(),
        };
        let rpc = rpc(&global, &config)?;
        let deployment = global.deployment.or_else(|| config.deployment.clone());
        let network = global.network.map(preset).or(config.network);
        Ok(Self { output, config, rpc, deployment, network })
    }

    /// The deployment, checked against the network preset.
    pub(crate) fn deployment(&self) -> Result<Deployment, Failure> {
        self.known_deployment()?.ok_or_else(|| {
            Failure::usage(
                "no deployment file was given",
                "give --deployment FILE, set STKR_DEPLOYMENT, or name one in the configuration file",
            )
        })
    }

    /// The same for what can be done without one; nothing if none was named.
    pub(crate) fn known_deployment(&self) -> Result<Option<Deployment>, Failure> {
        let path = self.deployment.clone().or_else(|| self.usual_deployment());
        path.map(|path| load_deployment(&path, self.network)).transpose()
    }

    /// Where the deploy script puts the file of the network that was named.
    fn usual_deployment(&self) -> Option<PathBuf> {
        let chain_id = self.network?.chain_id()?;
        Some(Path::new("deployments").join(format!("{chain_id}.json"))).filter(|path| path.is_file())
    }

    /// The provider, connected.
    pub(crate) async fn provider(&self) -> Result<DynProvider, Failure> {
        let text = self.rpc.as_ref().ok_or_else(|| Failure {
            exit: stkr_node::exit::Exit::Unavailable,
            code: "no_rpc",
            ..Failure::usage(
                "no RPC endpoint was given",
                "give --rpc URL or --rpc-file FILE, set STKR_RPC, or name one in the configuration file",
            )
        })?;
        connect(text).await
    }

    /// The client, after chain id and code were checked.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        // First what is wrong on this side, then what is wrong with the network.
        let deployment = self.deployment()?;
        Ok(Stkr::connect(self.provider().await?, deployment).await?)
    }

    /// Whether there is an endpoint for a write: only `--unsigned` does without.
    pub(crate) const fn asks_a_chain(&self, signing: &Signing) -> bool {
        !signing.unsigned || self.rpc.is_some()
    }

    /// The client for a write: `--unsigned` without an endpoint works on the deployment file alone.
    pub(crate) async fn client_for(&self, signing: &Signing) -> Result<Client, Failure> {
        if self.asks_a_chain(signing) {
            return self.client().await;
        }
        Ok(Stkr::unchecked(connect(&RpcUrl(NOWHERE.to_owned())).await?, self.deployment()?))
    }

    /// The account that signs, from the arguments or else the configuration; nothing where only an address is known.
    pub(crate) fn account(&self, signing: &Signing) -> Result<Option<Account>, Failure> {
        if let Some(path) = &signing.key_file {
            return signer::from_key_file(path).map(Some);
        }
        if let (Some(path), Some(password)) = (&signing.keystore, &signing.password_file) {
            return signer::from_keystore(path, password).map(Some);
        }
        if let Some(path) = &self.config.key_file {
            return signer::from_key_file(path).map(Some);
        }
        if let (Some(path), Some(password)) = (&self.config.keystore, &self.config.password_file) {
            return signer::from_keystore(path, password).map(Some);
        }
        Ok(None)
    }

    /// Most wei per gas, if the arguments or the configuration limit it.
    pub(crate) fn cap(&self, signing: &Signing) -> Result<Option<u128>, Failure> {
        signing.max_fee_gwei.as_ref().or(self.config.max_fee_gwei.as_ref()).map(|gwei| fee_cap(gwei)).transpose()
    }

    /// Address the write will come from.
    pub(crate) fn sender(&self, signing: &Signing) -> Result<Address, Failure> {
        if let Some(from) = signing.from {
            return Ok(from);
        }
        self.account(signing)?.map(|account| account.address).ok_or_else(no_signer)
    }

    /// The same where it is known now: an unsigned transaction may be for an account that nobody named.
    pub(crate) fn known_sender(&self, signing: &Signing) -> Result<Option<Address>, Failure> {
        if signing.unsigned {
            return Ok(signing.from);
        }
        self.sender(signing).map(Some)
    }

    /// As [`Context::perform`] for a governance call: sends it, or with `--schedule` announces it.
    pub(crate) async fn govern(
        &self,
        client: &Client,
        write: Write<'_, DynProvider>,
        signing: &Signing,
        schedule: bool,
        done: &str,
    ) -> Result<(), Failure> {
        if schedule {
            let done = format!("announced, and not done yet: {done}");
            let operation = |id: B256| json!({ "operationId": id });
            return self.perform(client.schedule(&write), signing, &done, operation).await;
        }
        self.perform(write, signing, done, |()| Value::Null).await
    }

    /// Prints, tries, or signs and sends a write. `done` is the sentence for people; `result` names what was made.
    pub(crate) async fn perform<T>(
        &self,
        write: Write<'_, DynProvider, T>,
        signing: &Signing,
        done: &str,
        result: impl FnOnce(T) -> Value,
    ) -> Result<(), Failure> {
        let mut write = write.confirmations(signing.confirmations);
        if let Some(cap) = self.cap(signing)? {
            write = write.fee_cap(cap);
        }
        if signing.unsigned {
            return self.print_unsigned(&write, signing).await;
        }
        if signing.dry_run {
            return self.print_dry_run(&write, signing, done).await;
        }
        let account = self.account(signing)?.ok_or_else(no_signer)?;
        if let Some(from) = signing.from.filter(|from| *from != account.address) {
            return Err(Failure::usage(
                format!("the key belongs to {}, not to {from}", account.address),
                "leave --from out, or give the key of that account",
            ));
        }
        let sent = write.send_with(&account.wallet).await?;
        let receipt = &sent.receipt;
        let mut answer = Map::new();
        answer.insert("transaction".into(), json!(receipt.transaction_hash));
        answer.insert("block".into(), json!(receipt.block_number));
        answer.insert("gasUsed".into(), json!(receipt.gas_used));
        answer.insert("feeWei".into(), json!(fee(receipt.gas_used, receipt.effective_gas_price).to_string()));
        if let Value::Object(made) = result(sent.value) {
            answer.extend(made);
        }
        self.output.show(&answer, |answer| {
            let fields: Vec<(&str, String)> =
                answer.iter().map(|(name, value)| (name.as_str(), plain(value))).collect();
            format!("{done}\n{}", record(&fields))
        });
        Ok(())
    }

    /// The transaction as wallets take it; with an endpoint and an account also nonce, gas and fees.
    async fn print_unsigned<T>(&self, write: &Write<'_, DynProvider, T>, signing: &Signing) -> Result<(), Failure> {
        let mut request = match signing.from {
            Some(from) if self.rpc.is_some() => write.filled(from).await?,
            _ => write.unsigned(),
        };
        request.from = signing.from;
        self.output.json(&request);
        Ok(())
    }

    async fn print_dry_run<T>(
        &self,
        write: &Write<'_, DynProvider, T>,
        signing: &Signing,
        done: &str,
    ) -> Result<(), Failure> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            dry_run: bool,
            from: Address,
            gas: u64,
            value_wei: String,
            max_fee_wei: String,
        }
        let from = self.sender(signing)?;
        let tried = write.dry_run(from).await?;
        let answer = Answer {
            dry_run: true,
            from,
            gas: tried.gas,
            value_wei: tried.value.to_string(),
            max_fee_wei: fee(tried.gas, tried.max_fee_per_gas).to_string(),
        };
        self.output.show(&answer, |answer| {
            let fields = [
                ("from", answer.from.to_string()),
                ("sends", amount::with_unit(tried.value)),
                ("gas", answer.gas.to_string()),
                ("fee at most", amount::with_unit(fee(tried.gas, tried.max_fee_per_gas))),
            ];
            format!("dry run, nothing was sent; would have: {done}\n{}", record(&fields))
        });
        Ok(())
    }
}

/// The endpoint: arguments before environment before configuration.
fn rpc(global: &Global, config: &Config) -> Result<Option<RpcUrl>, Failure> {
    let read = |file: &Path| Ok(Some(RpcUrl(secrets::read_text(file)?.trim().to_owned())));
    if let Some(url) = &global.rpc {
        return keyless(url).map(Some);
    }
    if let Some(file) = &global.rpc_file {
        return read(file);
    }
    if let Ok(url) = std::env::var("STKR_RPC") {
        return Ok(Some(RpcUrl(url)));
    }
    match (&config.rpc_url, &config.rpc_url_file) {
        (Some(url), _) => Ok(Some(url.clone())),
        (None, Some(file)) => read(file),
        (None, None) => Ok(None),
    }
}

/// An argument is visible to every process on the machine, and keys of RPC providers are in user, path or query.
fn keyless(text: &RpcUrl) -> Result<RpcUrl, Failure> {
    let url = parse_url(text)?;
    if is_keyless(&url) {
        return Ok(text.clone());
    }
    Err(Failure::usage(
        "--rpc takes no URL with a user, a path or a query: an argument is visible to everybody on the machine, and that is where API keys are",
        "write the URL to a file with mode 0600 and give --rpc-file, or rpc_url_file in the configuration",
    ))
}

/// The parser's words are not repeated: a URL may hold a key.
fn parse_url(text: &RpcUrl) -> Result<Url, Failure> {
    Url::parse(&text.0).map_err(|_| Failure::usage("the RPC endpoint is not a URL", "write it as http://host:port"))
}

/// A deployment file, compared with the network it must be of.
pub(crate) fn load_deployment(path: &Path, network: Option<Preset>) -> Result<Deployment, Failure> {
    let deployment = Deployment::load(path).map_err(|error| Failure {
        code: "deployment",
        ..Failure::usage(error.to_string(), "the deploy script writes deployments/<chain id>.json")
    })?;
    if let Some(network) = network {
        network
            .check(deployment.chain_id, deployment.genesis_fork_version.0)
            .map_err(|error| Failure::not_safe(error.to_string(), "use the deployment file of that network"))?;
    }
    Ok(deployment)
}

/// An endpoint, for http and https without asking it anything yet.
async fn connect(text: &RpcUrl) -> Result<DynProvider, Failure> {
    let url = parse_url(text)?;
    let endpoint = Endpoint::connect(&url).await.map_err(|error| match error {
        ChainError::BadEndpoint { .. } => Failure::usage(error.to_string(), "use http, https, ws or wss"),
        other => Failure::unavailable(other.to_string(), "check that the endpoint is up"),
    })?;
    Ok(endpoint.provider().clone())
}

/// A JSON file that another program wrote: `what` it must be, and `hint` at where it comes from.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path, what: &str, hint: &str) -> Result<T, Failure> {
    serde_json::from_slice(&read_bytes(path, what, hint)?)
        .map_err(|error| is_not(path, what, hint, &json_reason(&error)))
}

/// The same with any number of values one after another, as a program prints them in lines.
pub(crate) fn read_json_lines<T: serde::de::DeserializeOwned>(
    path: &Path,
    what: &str,
    hint: &str,
) -> Result<Vec<T>, Failure> {
    let text = read_bytes(path, what, hint)?;
    let values = serde_json::Deserializer::from_slice(&text).into_iter();
    values.collect::<Result<_, _>>().map_err(|error| is_not(path, what, hint, &json_reason(&error)))
}

pub(crate) fn read_bytes(path: &Path, what: &str, hint: &str) -> Result<Vec<u8>, Failure> {
    stkr_files::read(path, MAX_FILE).map_err(|error| is_not(path, what, hint, &error.reason()))
}

fn is_not(path: &Path, what: &str, hint: &str, reason: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format!("{} is not {what}: {reason}", path.display()), hint.to_owned())
}

/// Wei that `gas` costs.
fn fee(gas: u64, price: u128) -> U256 {
    U256::from(gas).saturating_mul(U256::from(price))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(crate) fn no_signer() -> Failure {
    Failure::usage(
        "no account was given to sign with",
        "give --keystore and --password-file, or --key-file; or --from with --unsigned for a wallet, or with --dry-run",
    )
}

/// A fee cap in gwei, with decimals, as wei per gas.
pub(crate) fn fee_cap(gwei: &str) -> Result<u128, Failure> {
    let wrong = || Failure::usage("the fee cap is not a number of gwei", "write for example 30 or 0.5");
    let wei = amount::parse(&format!("{}gwei", gwei.trim().trim_end_matches("gwei"))).map_err(|_| wrong())?;
    u128::try_from(wei).ok().filter(|cap| *cap > 0).ok_or_else(wrong)
}

fn preset(network: Network) -> Preset {
    match network {
        Network::Mainnet => Preset::Mainnet,
        Network::Hoodi => Preset::Hoodi,
        Network::Devnet => Preset::Devnet,
        Network::Custom => Preset::Custom,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fee_cap_is_gwei_with_decimals_and_never_nothing() {
        assert_eq!(fee_cap("30").unwrap(), 30_000_000_000);
        assert_eq!(fee_cap("0.5gwei").unwrap(), 500_000_000);
        for text in ["", "0", "-1", "1eth", "thirty", "1e3"] {
            assert!(fee_cap(text).is_err(), "{text}");
        }
    }
}
