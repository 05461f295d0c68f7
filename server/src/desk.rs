//! Slashing protection behind a queue: requests that arrive together share one transaction and one fsync.
//!
//! ```text
//! call ─┐                     one thread
//! call ─┼─ queue (bounded) ─> takes all that waits ─> check_and_record ─> verdicts back to each call
//! call ─┘
//! ```
//! While one batch is on its way to the disk the next ones queue up, so that the more is asked for, the more share an fsync.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use stkr_protection::{Now, Protection, Pubkey, Request, Unavailable, Verdict};
use stkr_protocol::sign::Refusal;
use tokio::sync::{mpsc, oneshot};

/// Calls that may wait; each has at most one batch of requests.
const QUEUE: usize = 1024;
/// Requests that share one transaction at most, so that the first of them does not wait for all.
const MOST: usize = 4096;

struct Job {
    requests: Vec<Request>,
    now: Now,
    reply: oneshot::Sender<Result<Vec<Verdict>, Refusal>>,
}

/// The slashing protection of a running server.
#[derive(Debug)]
pub struct Desk {
    protection: Arc<Protection>,
    queue: mpsc::Sender<Job>,
    commits: Counter,
}

impl Desk {
    /// Starts the thread; it ends with this.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(protection: Protection) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let protection = Arc::new(protection);
        let commits = Counter::default();
        let (serving, counted) = (Arc::clone(&protection), commits.clone());
        std::thread::Builder::new().name("protection".to_owned()).spawn(move || serve(&serving, &counted, jobs))?;
        Ok(Self { protection, queue, commits })
    }

    /// Transactions so far, one fsync each.
    pub const fn commits(&self) -> &Counter {
        &self.commits
    }

    /// One verdict per request, in order; those that allow a signature are on disk.
    ///
    /// # Errors
    /// Unavailable: nothing of this may be signed.
    pub async fn judge(&self, requests: Vec<Request>, now: Now) -> Result<Vec<Verdict>, Refusal> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, verdicts) = oneshot::channel();
        let busy = || Refusal::unavailable("slashing protection has too much to do", "Ask again.");
        self.queue.try_send(Job { requests, now, reply }).map_err(|_| busy())?;
        verdicts.await.map_err(|_| busy())?
    }

    /// Registers new keys; known ones stay as they are.
    ///
    /// # Errors
    /// That of the database.
    pub fn register(&self, keys: &[Pubkey]) -> Result<usize, Unavailable> {
        self.protection.register(keys, None)
    }

    /// The database itself, for what blocks on the disk.
    pub fn protection(&self) -> Arc<Protection> {
        Arc::clone(&self.protection)
    }

    /// Whether signatures could be recorded now.
    ///
    /// # Errors
    /// That of the database.
    pub fn check_writable(&self) -> Result<(), Unavailable> {
        self.protection.check_writable()
    }

    /// See [`Protection::empty_log`].
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn empty_log(&self) -> Result<(), Unavailable> {
        self.protection.empty_log()
    }
}

fn serve(protection: &Protection, commits: &Counter, mut jobs: mpsc::Receiver<Job>) {
    while let Some(first) = jobs.blocking_recv() {
        let mut waiting = vec![first];
        let mut count = waiting[0].requests.len();
        while count < MOST
            && let Ok(job) = jobs.try_recv()
        {
            count += job.requests.len();
            waiting.push(job);
        }
        commits.inc();
        answer(protection, waiting);
    }
}

fn answer(protection: &Protection, waiting: Vec<Job>) {
    let batch: Vec<Request> = waiting.iter().flat_map(|job| job.requests.iter().copied()).collect();
    let slot = waiting.iter().map(|job| job.now.slot).max().unwrap_or_default();
    let epoch = waiting.iter().map(|job| job.now.epoch).max().unwrap_or_default();
    let judged = protection.check_and_record(&batch, Now { slot, epoch });
    if let Err(error) = &judged {
        tracing::error!(error = %error, "slashing protection failed, nothing is signed");
    }
    let mut verdicts = judged.unwrap_or_default().into_iter();
    for job in waiting {
        let own: Vec<Verdict> = verdicts.by_ref().take(job.requests.len()).collect();
        // Fewer than requests only if the database failed: then the whole batch may not be signed.
        let reply = if own.len() == job.requests.len() { Ok(own) } else { Err(unavailable()) };
        // A caller that went away loses its answer; the record stays, and it may ask the same again.
        let _ = job.reply.send(reply);
    }
}

fn unavailable() -> Refusal {
    Refusal::unavailable(
        "this server's slashing protection failed, so nothing is signed",
        "Ask again; the operator has to look at the logs if it stays.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::B256;
    use stkr_protection::{Attestation, Duty};

    const NOW: Now = Now { slot: 320, epoch: 10 };

    fn vote(key: u8, target_epoch: u64, root: u16) -> Request {
        let signing_root = B256::left_padding_from(&root.to_be_bytes());
        let duty = Duty::Attestation(Attestation { source_epoch: target_epoch - 1, target_epoch, signing_root });
        Request { pubkey: Pubkey::repeat_byte(key), duty }
    }

    fn desk() -> (tempfile::TempDir, Desk) {
        let folder = tempfile::tempdir().unwrap();
        let protection = Protection::create(&folder.path().join("protection.db"), B256::repeat_byte(1)).unwrap();
        let desk = Desk::start(protection).unwrap();
        desk.register(&[Pubkey::repeat_byte(1), Pubkey::repeat_byte(2)]).unwrap();
        (folder, desk)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_many_conflicting_requests_at_once_exactly_one_is_safe_and_every_call_gets_its_own_verdicts() {
        let (_folder, desk) = desk();
        let calls = (0..200).map(|root| desk.judge(vec![vote(1, 5, root), vote(2, 5 + u64::from(root % 2), 7)], NOW));
        let answers = futures::future::join_all(calls).await;
        let safe = answers.iter().filter(|answer| answer.as_ref().unwrap()[0].may_sign()).count();
        assert_eq!(safe, 1);
        assert!(desk.commits().get() < 200, "what waits shares a transaction: {}", desk.commits().get());
        for answer in &answers {
            assert!(answer.as_ref().unwrap()[1].may_sign(), "the same vote again, or the next epoch's: {answer:?}");
        }
    }

    #[tokio::test]
    async fn a_database_that_fails_refuses_the_whole_batch() {
        let (folder, desk) = desk();
        assert!(desk.judge(vec![vote(1, 5, 1)], NOW).await.unwrap()[0].may_sign());
        // Another file where the open one was: what is written from now on would be lost with the next start.
        std::fs::rename(folder.path().join("protection.db"), folder.path().join("elsewhere.db")).unwrap();
        let refusal = desk.judge(vec![vote(1, 6, 1), vote(2, 6, 1)], NOW).await.unwrap_err();
        assert_eq!(refusal.kind, stkr_protocol::sign::RefusalKind::Unavailable);
        assert!(desk.check_writable().is_err());
    }

    #[tokio::test]
    async fn a_queue_that_is_full_refuses_and_a_desk_without_its_thread_too() {
        let (_folder, mut desk) = desk();
        let (queue, jobs) = mpsc::channel(1);
        desk.queue = queue;
        let first = desk.judge(vec![vote(1, 5, 1)], NOW);
        let second = async { desk.judge(vec![vote(1, 5, 2)], NOW).await };
        let both = async {
            let (first, second) = futures::join!(first, async {
                let refused = second.await;
                drop(jobs);
                refused
            });
            [first, second]
        };
        for answer in both.await {
            assert_eq!(answer.unwrap_err().kind, stkr_protocol::sign::RefusalKind::Unavailable);
        }
    }
}
