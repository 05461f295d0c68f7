//! RPC endpoints: connecting, naming them in errors without their secrets, and a limit of time and of length on every answer.

mod http;

use std::{future::Future, net::IpAddr, time::Duration};

use alloy::{
    eips::BlockNumberOrTag,
    network::Ethereum,
    primitives::B256,
    providers::{DynProvider, Provider, RootProvider, WsConnect},
    rpc::{client::RpcClient, types::Block},
    transports::{RpcError, TransportErrorKind},
};
use url::{Host, Url};

use crate::errors::{ChainError, cut_urls};

/// How long one question may take before it counts as failed.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One RPC endpoint and a name for it that may be logged.
#[derive(Clone, Debug)]
pub struct Endpoint {
    name: String,
    provider: DynProvider,
}

/// Number and hash of a block, and when it was made (unix seconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockId {
    /// Block number.
    pub number: u64,
    /// Block hash.
    pub hash: B256,
    /// Hash of the block before.
    pub parent: B256,
    /// Unix time, seconds.
    pub timestamp: u64,
}

impl From<&Block> for BlockId {
    fn from(block: &Block) -> Self {
        Self {
            number: block.header.number,
            hash: block.header.hash,
            parent: block.header.parent_hash,
            timestamp: block.header.timestamp,
        }
    }
}

/// Installs ring as the process's TLS provider, if none is installed yet.
pub fn install_tls() {
    // An error means that the program installed its provider first, which is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl Endpoint {
    /// Connects to `url` (http, https, ws or wss).
    ///
    /// HTTP connects at the first question, WebSocket now. The process needs one TLS provider; if none is installed yet,
    /// this installs ring.
    ///
    /// # Errors
    /// [`ChainError::BadEndpoint`] for another scheme, [`ChainError::Unavailable`] if a WebSocket does not open.
    pub async fn connect(url: &Url) -> Result<Self, ChainError> {
        install_tls();
        let name = cut_urls(url.as_str());
        let bad = |detail: String| ChainError::BadEndpoint { url: name.clone(), detail };
        let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let client = match url.scheme() {
            "http" | "https" => {
                let client = reqwest::Client::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .timeout(REQUEST_TIMEOUT)
                    // A redirect would move the endpoint to a host nobody configured.
                    .redirect(reqwest::redirect::Policy::none())
                    .build()
                    .map_err(|error| bad(cut_urls(&error.to_string())))?;
                RpcClient::new(http::bounded(client, url.clone()), local)
            }
            "ws" | "wss" => {
                let opening = RpcClient::builder().ws(WsConnect::new(url.as_str()));
                ask(format!("connecting to {name}"), opening).await?
            }
            other => {
                return Err(bad(format!("the scheme must be http, https, ws or wss and is {other}")));
            }
        };
        Ok(Self::new(name, RootProvider::<Ethereum>::new(client).erased()))
    }

    /// An endpoint over a provider that exists already. `name` appears in errors and logs.
    #[must_use]
    pub fn new(name: impl Into<String>, provider: DynProvider) -> Self {
        Self { name: name.into(), provider }
    }

    /// Scheme and host; never the path, which is often a secret.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The alloy provider, without fillers: it neither signs nor fills anything in.
    #[must_use]
    pub const fn provider(&self) -> &DynProvider {
        &self.provider
    }

    /// Header of the block `tag` names; nothing where the endpoint has no such block.
    ///
    /// # Errors
    /// As [`ask`].
    pub async fn block(&self, tag: BlockNumberOrTag) -> Result<Option<BlockId>, ChainError> {
        block(&self.provider, tag).await
    }
}

/// Whether two URLs are certainly one endpoint: the same host and port, whatever the scheme, user, path and query, and
/// with every name of this machine as one host.
///
/// Two that differ here may still be one: two names of one host, two paths of one provider, two providers with one node
/// behind them. That cannot be seen from here; choosing endpoints that do not depend on each other is the operator's.
#[must_use]
pub fn same_endpoint(one: &Url, other: &Url) -> bool {
    place(one) == place(other)
}

fn place(url: &Url) -> (String, Option<u16>) {
    let loopback = |ip: IpAddr| ip.to_canonical().is_loopback() || ip.to_canonical().is_unspecified();
    let host = match url.host() {
        Some(Host::Ipv4(ip)) if loopback(ip.into()) => "localhost".to_owned(),
        Some(Host::Ipv6(ip)) if loopback(ip.into()) => "localhost".to_owned(),
        Some(Host::Ipv4(ip)) => ip.to_string(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).to_canonical().to_string(),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            if name.ends_with(".localhost") { "localhost".to_owned() } else { name }
        }
        None => String::new(),
    };
    (host, url.port_or_known_default())
}

/// Header of the block `tag` names; nothing where the endpoint has no such block.
///
/// # Errors
/// As [`ask`].
pub async fn block(provider: &DynProvider, tag: BlockNumberOrTag) -> Result<Option<BlockId>, ChainError> {
    let action = format!("reading block {tag}");
    let block = ask(action.clone(), async { provider.get_block_by_number(tag).await }).await?;
    let Some(block) = block else { return Ok(None) };
    match tag {
        BlockNumberOrTag::Number(number) if number != block.header.number => {
            Err(ChainError::Nonsense { action, detail: format!("it sent block {}", block.header.number) })
        }
        _ => Ok(Some(BlockId::from(&block))),
    }
}

/// What the first of `endpoints` says that answers, asked one after the other.
///
/// # Errors
/// The last one's, if none does; [`ChainError::TooFewEndpoints`] where there is none.
pub async fn first<T>(
    endpoints: &[Endpoint],
    question: impl AsyncFn(&Endpoint) -> Result<T, ChainError>,
) -> Result<T, ChainError> {
    let mut last = ChainError::TooFewEndpoints { configured: 0, needed: 1 };
    for endpoint in endpoints {
        match question(endpoint).await {
            Ok(answer) => return Ok(answer),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// As [`block`], where the chain must have such a block.
///
/// # Errors
/// As [`ask`]; [`ChainError::NotFound`] if there is no such block.
pub async fn existing_block(provider: &DynProvider, tag: BlockNumberOrTag) -> Result<BlockId, ChainError> {
    block(provider, tag).await?.ok_or_else(|| ChainError::NotFound(format!("the RPC endpoint has no block {tag}")))
}

/// Runs one question under [`REQUEST_TIMEOUT`] and turns its failure into a sentence that begins with `action`.
///
/// # Errors
/// [`ChainError::Timeout`], [`ChainError::Unavailable`], [`ChainError::Refused`] or [`ChainError::Reverted`].
pub async fn ask<T>(
    action: impl Into<String>,
    question: impl Future<Output = Result<T, RpcError<TransportErrorKind>>>,
) -> Result<T, ChainError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, question).await {
        Ok(answer) => answer.map_err(|error| ChainError::from_rpc(action, &error)),
        Err(_) => Err(ChainError::Timeout { action: action.into(), after: REQUEST_TIMEOUT }),
    }
}

/// As [`ask`], for a call of a contract binding.
///
/// # Errors
/// As [`ask`]; [`ChainError::Nonsense`] if the answer does not decode.
pub async fn ask_contract<T>(
    action: impl Into<String>,
    question: impl Future<Output = Result<T, alloy::contract::Error>>,
) -> Result<T, ChainError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, question).await {
        Ok(answer) => answer.map_err(|error| ChainError::from_call(action, &error)),
        Err(_) => Err(ChainError::Timeout { action: action.into(), after: REQUEST_TIMEOUT }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_under_another_scheme_path_user_or_name_of_this_machine_is_the_same_endpoint() {
        let same = |one: &str, other: &str| same_endpoint(&one.parse().unwrap(), &other.parse().unwrap());
        for other in [
            "http://localhost:8545",
            "ws://127.0.0.1:8545",
            "http://127.0.0.1:8545/v1/key?token=1",
            "http://user:pass@127.1:8545",
            "http://[::1]:8545",
            "http://[::ffff:127.0.0.1]:8545",
            "http://node.localhost:8545",
            "http://0.0.0.0:8545",
        ] {
            assert!(same("http://127.0.0.1:8545", other), "{other}");
        }
        assert!(same("https://rpc.example", "wss://RPC.example.:443/another/key"));
        for other in ["http://127.0.0.1:8546", "http://10.0.0.1:8545", "http://rpc.example:8545"] {
            assert!(!same("http://127.0.0.1:8545", other), "{other}");
        }
        assert!(!same("https://rpc.example", "https://rpc2.example"));
    }
}
