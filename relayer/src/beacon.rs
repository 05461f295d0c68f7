//! Takes signed changes of credentials to beacon nodes.
//!
//! Anybody can do that: the signature is on the chain, and a change never expires. A node that takes one gossips it, and takes it again
//! without harm. One that refuses may not have come to the validator's deposit yet, so it is asked again, ever more seldom.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Bytes;
use serde::Serialize;
use stkr_protocol::sign::Change;
use tokio::task::JoinHandle;
use url::Url;

/// Path of the beacon API.
const PATH: &str = "/eth/v1/beacon/pool/bls_to_execution_changes";
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest pause before a node is asked again.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Longest part of a node's answer that is logged, characters.
const MAX_TEXT: usize = 300;

/// A task that ends with its handle, or when all nodes took the change.
#[derive(Debug)]
pub struct Posting(JoinHandle<()>);

impl Drop for Posting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// `SignedBLSToExecutionChange` of the beacon API.
#[derive(Clone, Debug, Serialize)]
struct SignedChange {
    message: Message,
    signature: Bytes,
}

#[derive(Clone, Debug, Serialize)]
struct Message {
    validator_index: String,
    from_bls_pubkey: Bytes,
    to_execution_address: String,
}

/// Posts the change to each of `nodes` until it took it; `pause` before the second time.
#[must_use]
pub fn post(nodes: Arc<[Url]>, change: &Change, signature: Bytes, pause: Duration) -> Posting {
    let signed = SignedChange {
        message: Message {
            validator_index: change.validator_index.to_string(),
            from_bls_pubkey: Bytes::copy_from_slice(&change.from_bls_pubkey),
            to_execution_address: format!("0x{}", hex::encode(change.to_execution_address)),
        },
        signature,
    };
    Posting(tokio::spawn(async move {
        let each = nodes.iter().map(|node| until_taken(node, &signed, pause));
        futures::future::join_all(each).await;
    }))
}

async fn until_taken(node: &Url, signed: &SignedChange, pause: Duration) {
    let (host, validator) = (stkr_node::config::rpc_host(node), &signed.message.validator_index);
    let mut wait = pause;
    loop {
        match offer(node, signed).await {
            Ok(()) => {
                tracing::info!(node = host, validator, "a beacon node took the change of credentials");
                return;
            }
            Err(reason) => {
                tracing::warn!(node = host, validator, reason, "a beacon node did not take the change of credentials");
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_PAUSE.max(pause));
    }
}

async fn offer(node: &Url, signed: &SignedChange) -> Result<(), String> {
    let mut url = node.clone();
    url.set_path(&format!("{}{PATH}", node.path().trim_end_matches('/')));
    stkr_chain::endpoint::install_tls();
    let client = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build();
    // Errors of reqwest show the URL, which may have a key in it.
    let client = client.map_err(|_| "no connection can be made".to_owned())?;
    let mut answer = client.post(url).json(&[signed]).send().await.map_err(|_| "it does not answer".to_owned())?;
    if answer.status().is_success() {
        return Ok(());
    }
    let status = answer.status();
    let first = answer.chunk().await.ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&first);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect();
    Err(format!("it answers {status}: {text}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use alloy::primitives::{Address, B256};
    use axum::{Json, Router, extract::State, http::StatusCode, routing::post as posted};
    use serde_json::{Value, json};
    use tokio::sync::Notify;

    use super::*;

    type Seen = Arc<(Mutex<Vec<Value>>, Notify)>;

    /// Refuses what it sees first, as a node that does not know the validator yet.
    async fn node() -> (Url, Seen) {
        let seen: Seen = Arc::default();
        let take = |State(seen): State<Seen>, Json(body): Json<Value>| async move {
            let mut bodies = seen.0.lock().unwrap();
            bodies.push(body);
            seen.1.notify_one();
            if bodies.len() == 1 { StatusCode::BAD_REQUEST } else { StatusCode::OK }
        };
        let router = Router::new().route(PATH, posted(take)).with_state(seen.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (url, seen)
    }

    #[tokio::test]
    async fn a_change_is_offered_until_the_node_takes_it_and_not_again() {
        let (url, seen) = node().await;
        let change = Change {
            validator_index: 7,
            from_bls_pubkey: [1; 48],
            to_execution_address: Address::repeat_byte(0xab),
            genesis_fork_version: [0; 4],
            genesis_validators_root: B256::ZERO,
        };
        let posting = post([url].into(), &change, Bytes::from(vec![2; 96]), Duration::from_millis(10));
        for _ in 0..2 {
            tokio::time::timeout(Duration::from_secs(10), seen.1.notified()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(posting.0.is_finished());
        let expected = json!([{
            "message": {
                "validator_index": "7",
                "from_bls_pubkey": format!("0x{}", "01".repeat(48)),
                "to_execution_address": format!("0x{}", "ab".repeat(20)),
            },
            "signature": format!("0x{}", "02".repeat(96)),
        }]);
        assert_eq!(*seen.0.lock().unwrap(), [expected.clone(), expected]);
    }
}
