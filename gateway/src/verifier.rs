//! Verifies combined signatures, those over one signing root together.
//!
//! From Electra on all attestations of one slot have one root. While one group is verified the next signatures wait, so a
//! burst costs a hash and a pairing check per group and not per signature. It also keeps pairings off the threads that serve
//! connections.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use prometheus_client::metrics::counter::Counter;
use stkr_core::{PublicKey, Signature, verify_same_message};
use stkr_node::collector::Verify;
use tokio::sync::oneshot;

/// Signatures of one group: what one of them may have to wait for.
const GROUP: usize = 128;
/// Threads at most.
const MOST_THREADS: usize = 8;

#[derive(Debug)]
struct Job {
    message: [u8; 32],
    key: PublicKey,
    signature: Signature,
    reply: oneshot::Sender<bool>,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next group; nothing once it is closed.
    fn next(&self) -> Option<Vec<Job>> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(first) = queue.jobs.pop_front() {
                return Some(group(first, &mut queue.jobs));
            }
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What waits over the same message as `first`, oldest first; the rest keeps its order.
fn group(first: Job, jobs: &mut VecDeque<Job>) -> Vec<Job> {
    let message = first.message;
    let (mut taken, mut rest) = (vec![first], VecDeque::with_capacity(jobs.len()));
    for job in jobs.drain(..) {
        if job.message == message && taken.len() < GROUP {
            taken.push(job);
        } else {
            rest.push_back(job);
        }
    }
    *jobs = rest;
    taken
}

/// Ends the threads with the last verifier.
#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.ready.notify_all();
    }
}

/// The verifying threads. Clones share them.
#[derive(Clone, Debug)]
pub struct Verifier {
    handle: Arc<Handle>,
}

impl Verifier {
    /// Starts a thread per two cores: servers and clients may need the others, and what waits a little longer shares its check
    /// with more. `verified` counts signatures, `groups` the checks that took.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(verified: &Counter, groups: &Counter) -> std::io::Result<Self> {
        let handle = Arc::new(Handle(Arc::default()));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..(cores / 2).clamp(1, MOST_THREADS) {
            let (shared, verified, groups) = (handle.0.clone(), verified.clone(), groups.clone());
            std::thread::Builder::new().name("verifier".to_owned()).spawn(move || work(&shared, &verified, &groups))?;
        }
        Ok(Self { handle })
    }
}

fn work(shared: &Shared, verified: &Counter, groups: &Counter) {
    while let Some(group) = shared.next() {
        let Some(message) = group.first().map(|job| job.message) else { continue };
        verified.inc_by(u64::try_from(group.len()).unwrap_or_default());
        groups.inc();
        let pairs: Vec<(PublicKey, Signature)> = group.iter().map(|job| (job.key, job.signature)).collect();
        for (job, verdict) in group.into_iter().zip(verify_same_message(&message, &pairs)) {
            let _ = job.reply.send(verdict);
        }
    }
}

impl Verify for Verifier {
    fn verify(&self, key: PublicKey, message: [u8; 32], signature: Signature) -> BoxFuture<'static, bool> {
        let (reply, verdict) = oneshot::channel();
        self.handle.0.lock().jobs.push_back(Job { message, key, signature, reply });
        self.handle.0.ready.notify_one();
        // No verdict is no yes: the collection then verifies for itself.
        Box::pin(async move { verdict.await.unwrap_or(false) })
    }
}

#[cfg(test)]
mod tests {
    use stkr_core::Threshold;
    use stkr_core::testing::TrustedDealer;

    use super::*;

    fn pair(seed: u8, message: &[u8; 32]) -> (PublicKey, Signature) {
        let dealer = TrustedDealer::deal(Threshold::new(2, 3).unwrap(), [seed; 32]);
        (dealer.keys.group_key(), dealer.group_signature(message))
    }

    #[tokio::test]
    async fn of_a_burst_over_two_messages_exactly_the_wrong_ones_are_found() {
        let (verified, groups) = (Counter::default(), Counter::default());
        let verifier = Verifier::start(&verified, &groups).unwrap();
        let signed = (0..40_u8).map(|number| {
            let message = [number % 2; 32];
            let (key, right) = pair(number, &message);
            let wrong = pair(number, &[9; 32]).1;
            (key, message, if number % 10 == 3 { wrong } else { right })
        });
        let signed: Vec<_> = signed.collect();
        let asked = signed.into_iter().map(|(key, message, signature)| verifier.verify(key, message, signature));
        let verdicts = futures::future::join_all(asked).await;
        let wrong: Vec<usize> = (0..40).filter(|at| !verdicts[*at]).collect();
        assert_eq!(wrong, [3, 13, 23, 33]);
        assert!(verified.get() == 40 && groups.get() < 40, "{} groups", groups.get());
    }

    #[test]
    fn a_group_is_of_one_message_and_bounded_and_the_rest_keeps_its_order() {
        let (key, signature) = pair(1, &[0; 32]);
        let job = |message: u8| Job { message: [message; 32], key, signature, reply: oneshot::channel().0 };
        let mut jobs: VecDeque<Job> = [2, 1, 3, 1, 2].into_iter().map(job).collect();
        assert_eq!(group(job(1), &mut jobs).len(), 3);
        assert_eq!(jobs.iter().map(|job| job.message[0]).collect::<Vec<_>>(), [2, 3, 2]);
        let mut jobs: VecDeque<Job> = (0..GROUP * 2).map(|_| job(1)).collect();
        assert_eq!((group(job(1), &mut jobs).len(), jobs.len()), (GROUP, GROUP + 1));
    }
}
