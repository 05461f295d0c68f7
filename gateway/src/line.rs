//! The queue of one server. At most one call is under way; what comes meanwhile waits and travels together in the next.
//!
//! Under a burst (all attestations of a slot) a server gets one body with many requests and makes one fsync for them,
//! where a call per request would cost it one each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use prometheus_client::metrics::counter::Counter;
use stkr_kill_points::kill_point;
use stkr_node::client::{ClientError, ServerClient};
use stkr_node::collector::Ask;
use stkr_node::rate::RateLimit;
use stkr_protocol::api::{MAX_BATCH, MAX_BODY, SignBatch};
use stkr_protocol::sign::{SignRequest, SignResponse};
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for one server: what a slow one can make the gateway hold.
const WAITING: usize = 8_192;
/// Calls to one server: at once, and per second from then on. Below what a server allows one client unless its operator says
/// otherwise (200 and 50): a burst of calls travels in fewer, larger ones instead of being refused.
const CALLS: (u32, u32) = (150, 45);
/// Bytes of a request beside its duty: names, key id, assignment, signature.
const FRAME: usize = 512;

#[derive(Debug)]
struct Waiting {
    request: Arc<SignRequest>,
    reply: oneshot::Sender<Result<SignResponse, ClientError>>,
}

impl Waiting {
    fn bytes(&self) -> usize {
        match &*self.request {
            SignRequest::Duty(request) => request.duty.get().len().saturating_add(FRAME),
            SignRequest::Deposit(_) | SignRequest::Change(_) => FRAME,
        }
    }
}

/// The way to one server. Clones share it; its task ends with the last of them.
#[derive(Clone, Debug)]
pub struct Line {
    waiting: mpsc::Sender<Waiting>,
    host: Arc<str>,
    client: ServerClient,
}

impl Line {
    /// Opens a line, `calls` counts its calls; call it inside a runtime.
    #[must_use]
    pub fn open(client: ServerClient, calls: Counter) -> Self {
        let (waiting, queue) = mpsc::channel(WAITING);
        let host = client.host().into();
        tokio::spawn(carry(client.clone(), queue, calls));
        Self { waiting, host, client }
    }

    /// The client itself, for what does not wait in the queue.
    #[must_use]
    pub const fn client(&self) -> &ServerClient {
        &self.client
    }

    /// Requests that wait for the next call.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.max_capacity().saturating_sub(self.waiting.capacity())
    }
}

impl Ask for Line {
    fn ask(&self, request: Arc<SignRequest>) -> BoxFuture<'static, Result<SignResponse, ClientError>> {
        let (reply, answer) = oneshot::channel();
        let overloaded = |_| ClientError::Overloaded { host: self.host.to_string(), waiting: WAITING };
        let queued = self.waiting.try_send(Waiting { request, reply }).map_err(overloaded);
        Box::pin(async move {
            queued?;
            answer.await.map_err(|_| ClientError::Setup("the gateway ends".to_owned()))?
        })
    }
}

async fn carry(client: ServerClient, mut queue: mpsc::Receiver<Waiting>, calls: Counter) {
    let (mut held, mut pace) = (None, Pace::default());
    loop {
        let first = match held.take() {
            Some(first) => first,
            None => match queue.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        // What comes during the pause travels along.
        while let Err(pause) = pace.take(Instant::now()) {
            tokio::time::sleep(pause).await;
        }
        let (batch, over) = fill(first, &mut queue);
        held = over;
        calls.inc();
        deliver(&client, batch).await;
    }
}

/// Keeps calls to one server within [`CALLS`].
struct Pace(RateLimit);

impl Default for Pace {
    fn default() -> Self {
        Self(RateLimit::new(CALLS.0, CALLS.1, 1))
    }
}

impl Pace {
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.0.take([0; 32], now)
    }
}

/// As much of the queue as one call carries, and what no longer fitted.
fn fill(first: Waiting, queue: &mut mpsc::Receiver<Waiting>) -> (Vec<Waiting>, Option<Waiting>) {
    // The frame around the list.
    let mut bytes = first.bytes().saturating_add(FRAME);
    let mut batch = vec![first];
    while batch.len() < MAX_BATCH {
        let Ok(next) = queue.try_recv() else { break };
        if next.reply.is_closed() {
            continue;
        }
        bytes = bytes.saturating_add(next.bytes());
        if bytes > MAX_BODY {
            return (batch, Some(next));
        }
        batch.push(next);
    }
    (batch, None)
}

async fn deliver(client: &ServerClient, batch: Vec<Waiting>) {
    let requests = batch.iter().map(|waiting| (*waiting.request).clone()).collect();
    kill_point!("gateway.before_call");
    let answered = client.sign(&SignBatch { requests }).await;
    kill_point!("gateway.answered");
    match answered {
        Ok(replies) => {
            for (waiting, reply) in batch.into_iter().zip(replies) {
                let _ = waiting.reply.send(Ok(reply));
            }
        }
        Err(error) => {
            for waiting in batch {
                let _ = waiting.reply.send(Err(error.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;
    use stkr_duties::DepositMessage;
    use stkr_protocol::sign::DepositRequest;

    use super::*;

    type Answer = oneshot::Receiver<Result<SignResponse, ClientError>>;

    fn waiting() -> (Waiting, Answer) {
        let message = DepositMessage { pubkey: [1; 48], withdrawal_credentials: B256::repeat_byte(2), amount_gwei: 1 };
        let (reply, answer) = oneshot::channel();
        (Waiting { request: Arc::new(DepositRequest::new(1, &message, [0; 4]).into()), reply }, answer)
    }

    #[test]
    fn a_call_carries_what_waits_up_to_the_bounds_and_forgets_who_left() {
        let (sender, mut queue) = mpsc::channel(WAITING);
        let mut answers = Vec::new();
        for number in 0..MAX_BATCH + 10 {
            let (waiting, answer) = waiting();
            sender.try_send(waiting).unwrap();
            if number % 2 == 0 {
                answers.push(answer);
            }
        }
        let first = queue.try_recv().unwrap();
        let (batch, over) = fill(first, &mut queue);
        assert_eq!((batch.len(), over.is_none()), (answers.len(), true), "half of them are gone");
        for _ in 0..MAX_BATCH + 10 {
            let (waiting, answer) = waiting();
            sender.try_send(waiting).unwrap();
            answers.push(answer);
        }
        let first = queue.try_recv().unwrap();
        assert_eq!(fill(first, &mut queue).0.len(), MAX_BATCH);
    }

    #[test]
    fn calls_stay_within_what_a_server_allows_one_client() {
        // A server's own limit, as its configuration has it unless the operator says otherwise.
        let mut server = RateLimit::new(200, 50, 1);
        let (mut pace, mut now, start) = (Pace::default(), Instant::now(), Instant::now());
        for _ in 0..2_000 {
            while let Err(pause) = pace.take(now) {
                now += pause.max(Duration::from_micros(1));
            }
            assert_eq!(server.take([0; 32], now), Ok(()));
        }
        assert!(now.duration_since(start) < Duration::from_secs(60), "and are not held up for long");
    }
}
