//! Asks every server now and then who it is: for the status page only, nothing is decided by it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::Address;
use futures::StreamExt as _;
use stkr_node::client::{ClientError, ServerClient};
use stkr_protocol::ProtocolDomain;
use tokio::task::JoinHandle;

/// Pause between two rounds of questions.
const EVERY: Duration = Duration::from_secs(15);
/// Servers asked at once.
const AT_ONCE: usize = 16;

/// Id, registered signer, client.
type Asked = (u32, Address, Result<ServerClient, ClientError>);

/// What came of asking a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Why it is of no use, as this relayer sees it.
    pub problem: Option<String>,
    /// What it says itself keeps it from being of use.
    pub unready: Vec<String>,
}

/// A task that asks, with what it saw last.
#[derive(Debug)]
pub struct Probes {
    asked: Arc<Mutex<Vec<Asked>>>,
    seen: Arc<Mutex<BTreeMap<u32, Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Probes {
    /// Starts asking; nobody yet.
    #[must_use]
    pub fn start(domain: ProtocolDomain) -> Self {
        let (asked, seen) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<Mutex<BTreeMap<u32, Seen>>>::default());
        let (whom, found) = (asked.clone(), seen.clone());
        let task = tokio::spawn(async move {
            loop {
                let servers = lock(&whom).clone();
                // Just started: look again soon.
                let pause = if servers.is_empty() { Duration::from_millis(500) } else { EVERY };
                let answers = futures::stream::iter(servers)
                    .map(|(id, signer, client)| async move { (id, ask(domain, signer, client).await) })
                    .buffer_unordered(AT_ONCE)
                    .collect::<BTreeMap<u32, Seen>>()
                    .await;
                *lock(&found) = answers;
                tokio::time::sleep(pause).await;
            }
        });
        Self { asked, seen, task }
    }

    /// Whom to ask from now on.
    pub fn watch(&self, servers: Vec<Asked>) {
        *lock(&self.asked) = servers;
    }

    /// What was seen last.
    #[must_use]
    pub fn seen(&self) -> BTreeMap<u32, Seen> {
        lock(&self.seen).clone()
    }
}

async fn ask(domain: ProtocolDomain, signer: Address, client: Result<ServerClient, ClientError>) -> Seen {
    let client = match client {
        Ok(client) => client,
        Err(error) => return Seen { problem: Some(error.to_string()), unready: Vec::new() },
    };
    if let Err(problem) = identify(domain, signer, &client).await {
        return Seen { problem: Some(problem), unready: Vec::new() };
    }
    // A server that does not say is one of an older version: that it answered is known.
    let reasons = client.readiness().await.map(|readiness| readiness.reasons).unwrap_or_default();
    Seen { problem: None, unready: reasons.into_iter().map(|it| format!("{}: {}", it.check, it.reason)).collect() }
}

async fn identify(domain: ProtocolDomain, signer: Address, client: &ServerClient) -> Result<(), String> {
    let info = client.info().await.map_err(|error| error.to_string())?;
    if (info.chain_id, info.registry) != (domain.chain_id, domain.key_registry) {
        return Err(format!(
            "it works for chain {} and registry {}, not for this deployment; its operator has to mend its configuration",
            info.chain_id, info.registry
        ));
    }
    if info.signer != signer {
        return Err(format!(
            "it signs as {}, but {signer} is registered; its operator has mixed up two folders, or changed its signer and not given it the new key",
            info.signer
        ));
    }
    Ok(())
}
