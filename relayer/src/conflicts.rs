//! Fetches from servers what they keep of providers' faults: pairs of requests that no two signatures may answer.
//!
//! A provider that asks three servers for one vote and the fourth for another gets one signature and leaves no trace but with them.
//! Nobody has to be told: each server hands its pairs to whoever asks. A pair is taken as from a stranger, by the desk, so a server that
//! makes some up is believed nothing; of each server one page is looked at in a round, so it cannot keep this relayer busy either.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use stkr_node::client::ServerClient;
use stkr_protocol::api::Conflict;
use stkr_protocol::evidence::{Proof, RequestsProof};
use tokio::task::JoinHandle;

use crate::desk::{DeskError, Taken};
use crate::shared::Shared;

/// Pause between two rounds.
const EVERY: Duration = Duration::from_secs(15);
/// Servers asked at once.
const AT_ONCE: usize = 16;
/// Rounds after which a server is asked from its first pair on again: what the chain did not uphold it may uphold later, for example
/// once the pool has a validator.
const FROM_THE_FIRST: u32 = 240;

/// Servers to ask, by id.
type Clients = BTreeMap<u32, ServerClient>;

/// A task that asks.
#[derive(Debug)]
pub struct Conflicts {
    asked: Arc<Mutex<Clients>>,
    task: JoinHandle<()>,
}

impl Drop for Conflicts {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Conflicts {
    /// Starts asking, and hands what it gets to the desk of `shared`; nobody yet.
    #[must_use]
    pub fn start(shared: Arc<Shared>) -> Self {
        let asked = Arc::<Mutex<Clients>>::default();
        let whom = asked.clone();
        let task = tokio::spawn(async move {
            let (mut round, mut cursors) = (0_u32, BTreeMap::new());
            loop {
                let servers = whom.lock().unwrap_or_else(PoisonError::into_inner).clone();
                cursors = futures::stream::iter(servers)
                    .map(|(id, client)| {
                        let (shared, cursor) = (&shared, cursors.get(&id).copied().unwrap_or_default());
                        async move { (id, ask(shared, (id, &client), cursor).await) }
                    })
                    .buffer_unordered(AT_ONCE)
                    .collect()
                    .await;
                round = round.wrapping_add(1);
                if round.is_multiple_of(FROM_THE_FIRST) {
                    cursors.clear();
                }
                tokio::time::sleep(EVERY).await;
            }
        });
        Self { asked, task }
    }

    /// Whom to ask from now on.
    pub fn watch(&self, servers: Clients) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = servers;
    }
}

/// Looks at the next page of a server; the last of its pairs that was judged.
async fn ask(shared: &Shared, (server_id, client): (u32, &ServerClient), after: u64) -> u64 {
    let Some(desk) = &shared.desk else { return after };
    // A server that does not answer is among the problems already.
    let Ok(page) = client.conflicts(after).await else { return after };
    let mut judged = after;
    for Conflict { id, first, second } in page.conflicts {
        let (key_id, assignment) = (first.key_id, first.assignment);
        match desk.take(Proof::ProviderEquivocation(RequestsProof { first, second })).await {
            Ok(Taken::Kept) => {
                tracing::warn!(server_id, key_id, assignment, "a server has two requests of a provider that conflict");
            }
            Ok(Taken::Known) => {}
            Err(error @ (DeskError::Proof(_) | DeskError::Chain(_) | DeskError::AskedByOthers)) => {
                tracing::debug!(server_id, key_id, assignment, error = %error, "a server's requests convict nobody now");
            }
            Err(error) => {
                tracing::warn!(server_id, error = %error, "requests that a server has cannot be judged now");
                return judged;
            }
        }
        judged = judged.max(id);
    }
    judged
}
