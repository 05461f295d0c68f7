//! Verifies combined signatures and late partial signatures, those that wait at one time together.
//!
//! While one group is verified the next signatures wait, so a burst costs a hash and a Miller loop per signing root and one
//! final exponentiation per group, not all that per signature: from Electra on all attestations of one slot have one root, and
//! the proofs of selection of an epoch have one per slot. It also keeps pairings off the threads that serve connections.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use prometheus_client::metrics::counter::Counter;
use stkr_core::{Claim, verify_batch};
use stkr_node::collector::{Urgency, Verify};
use tokio::sync::oneshot;

/// Signatures of one group and messages of one group at most: what one of them may have to wait for, about 20 ms.
const GROUP: usize = 128;
const GROUP_MESSAGES: usize = 32;
/// Of what nobody waits for, so many stand behind the rest: more, and an hour of load would be kept in memory.
const MOST_LATE: usize = 4096;
/// Threads at most.
const MOST_THREADS: usize = 8;

#[derive(Debug)]
struct Job {
    claim: Claim,
    reply: oneshot::Sender<bool>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Somebody waits for these.
    urgent: VecDeque<Job>,
    /// Nobody waits for these: they go where there is room.
    late: VecDeque<Job>,
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
            if let Some(group) = queue.group() {
                return Some(group);
            }
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Queue {
    fn push(&mut self, job: Job, urgency: Urgency) {
        let has_time = urgency == Urgency::Late && self.late.len() < MOST_LATE;
        if has_time { &mut self.late } else { &mut self.urgent }.push_back(job);
    }

    /// The oldest that somebody waits for and that may go together; if there are none, the oldest of the others.
    fn group(&mut self) -> Option<Vec<Job>> {
        let jobs = if self.urgent.is_empty() { &mut self.late } else { &mut self.urgent };
        let mut messages = BTreeSet::new();
        let fits = |job: &&Job| {
            messages.insert(job.claim.message);
            messages.len() <= GROUP_MESSAGES
        };
        let count = jobs.iter().take(GROUP).take_while(fits).count();
        (count > 0).then(|| jobs.drain(..count).collect())
    }
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
        verified.inc_by(u64::try_from(group.len()).unwrap_or_default());
        groups.inc();
        let claims: Vec<Claim> = group.iter().map(|job| job.claim).collect();
        for (job, verdict) in group.into_iter().zip(verify_batch(&claims)) {
            let _ = job.reply.send(verdict);
        }
    }
}

impl Verify for Verifier {
    fn verify(&self, claim: Claim, urgency: Urgency) -> BoxFuture<'static, bool> {
        let (reply, verdict) = oneshot::channel();
        {
            let mut queue = self.handle.0.lock();
            queue.push(Job { claim, reply }, urgency);
        }
        self.handle.0.ready.notify_one();
        // No verdict is no yes: the collection then verifies for itself.
        Box::pin(async move { verdict.await.unwrap_or(false) })
    }
}

#[cfg(test)]
mod tests {
    use stkr_core::testing::TrustedDealer;
    use stkr_core::{PublicKey, Signature, Threshold};

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
            Claim { key, message, signature: if number % 10 == 3 { wrong } else { right } }
        });
        let signed: Vec<_> = signed.collect();
        let asked = signed
            .into_iter()
            .enumerate()
            .map(|(at, claim)| verifier.verify(claim, if at < 20 { Urgency::Waiting } else { Urgency::Late }));
        let verdicts = futures::future::join_all(asked).await;
        let wrong: Vec<usize> = (0..40).filter(|at| !verdicts[*at]).collect();
        assert_eq!(wrong, [3, 13, 23, 33]);
        assert!(verified.get() == 40 && groups.get() < 40, "{} groups", groups.get());
    }

    #[test]
    fn a_group_is_bounded_in_signatures_and_in_messages_and_the_rest_keeps_its_order() {
        let (key, signature) = pair(1, &[0; 32]);
        let job = |message: usize| {
            let message = [u8::try_from(message).unwrap(); 32];
            Job { claim: Claim { key, message, signature }, reply: oneshot::channel().0 }
        };
        let numbers = |jobs: &mut dyn Iterator<Item = &Job>| jobs.map(|job| job.claim.message[0]).collect::<Vec<_>>();
        let mut queue = Queue { urgent: [2, 1, 3, 1, 2].into_iter().map(job).collect(), ..Queue::default() };
        assert_eq!(numbers(&mut queue.group().unwrap().iter()), [2, 1, 3, 1, 2]);
        assert!(queue.group().is_none());
        queue.urgent = (0..=GROUP).map(|_| job(1)).collect();
        assert_eq!((queue.group().unwrap().len(), queue.urgent.len()), (GROUP, 1));
        queue.urgent = (0..GROUP_MESSAGES + 2).map(job).collect();
        assert_eq!(queue.group().unwrap().len(), GROUP_MESSAGES);
        assert_eq!(numbers(&mut queue.urgent.iter()), [32, 33]);
        // What nobody waits for goes last, and then under the same bounds.
        queue.late = (0..GROUP_MESSAGES + 1).map(job).collect();
        assert_eq!(numbers(&mut queue.group().unwrap().iter()), [32, 33]);
        assert_eq!((queue.group().unwrap().len(), queue.late.len()), (GROUP_MESSAGES, 1));
        for _ in 0..MOST_LATE {
            queue.push(job(1), Urgency::Late);
        }
        assert_eq!((queue.late.len(), queue.urgent.len()), (MOST_LATE, 1), "what is too late goes with the rest");
    }
}
