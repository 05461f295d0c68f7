//! Requests for blocks and attestations, kept as evidence: two that one duty key signed for conflicting duties in one
//! assignment convict its provider, whether this server signed the second one or not.
//!
//! Written behind the answer, some hundred milliseconds' worth in one transaction: a signature waits for slashing
//! protection and for nothing else. A power loss can take the last moment of it, which the other servers of the committee have
//! too. Where the disk is too slow, rows are dropped and counted, never requests refused.

use std::sync::Arc;
use std::time::Duration;

use stkr_kill_points::kill_point;
use tokio::sync::{mpsc, oneshot};

use crate::store::{DutyRow, Store};

/// Rows that may wait.
const QUEUE: usize = 16_384;
/// Rows of one transaction.
const MOST: usize = 4_096;
/// Time in which rows gather.
const GATHER: Duration = Duration::from_millis(250);

enum Message {
    Row(Box<DutyRow>),
    Flush(oneshot::Sender<()>),
}

/// The writer of evidence.
#[derive(Debug)]
pub struct Evidence {
    queue: mpsc::Sender<Message>,
}

impl Evidence {
    /// Starts to write into `store`, of which the newest `most` rows are kept.
    pub fn start(store: Arc<Store>, most: u64) -> Self {
        let (queue, rows) = mpsc::channel(QUEUE);
        tokio::spawn(write(store, most, rows));
        Self { queue }
    }

    /// Keeps a row; whether there was room for it.
    #[must_use]
    pub fn keep(&self, row: DutyRow) -> bool {
        self.queue.try_send(Message::Row(Box::new(row))).is_ok()
    }

    /// Waits until everything so far is written.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).await.is_ok() {
            let _ = wait.await;
        }
    }
}

async fn write(store: Arc<Store>, most: u64, mut queue: mpsc::Receiver<Message>) {
    let mut messages = Vec::new();
    while queue.recv_many(&mut messages, MOST).await > 0 {
        let (mut rows, mut flushed) = (Vec::new(), Vec::new());
        for message in messages.drain(..) {
            match message {
                Message::Row(row) => rows.push(*row),
                Message::Flush(done) => flushed.push(done),
            }
        }
        let database = Arc::clone(&store);
        let written = tokio::task::spawn_blocking(move || {
            kill_point!("server.evidence_unwritten");
            let kept = database.keep_duties(&rows, most);
            kill_point!("server.evidence_written");
            kept
        })
        .await;
        if let Ok(Err(error)) = written {
            tracing::error!(error = %error, "requests for duties could not be kept");
        }
        let gather = flushed.is_empty();
        flushed.into_iter().for_each(|done| _ = done.send(()));
        if gather {
            tokio::time::sleep(GATHER).await;
        }
    }
}
