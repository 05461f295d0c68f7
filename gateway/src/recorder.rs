//! Slashing protection, committed in groups: whatever waits when the disk is free again goes into one transaction and one
//! fsync, so a burst of attestations costs as many fsyncs as one.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use prometheus_client::metrics::counter::Counter;
use stkr_duties::ForkSchedule;
use stkr_protection::{Protection, Request, Verdict};
use tokio::sync::oneshot;

use crate::clock;

/// Requests that may wait; more are refused.
const WAITING: usize = 16_384;
/// Requests of one transaction.
const GROUP: usize = 1_024;

/// Nothing was recorded, so nothing may be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The database says no.
    #[error("slashing protection is unavailable: {0}")]
    Unavailable(String),
    /// Too much waits already.
    #[error("{WAITING} requests wait for slashing protection already")]
    Busy,
}

struct Job {
    request: Request,
    reply: oneshot::Sender<Result<Verdict, RecordError>>,
}

/// The one writer. Clones share it; it ends with the last of them.
#[derive(Clone, Debug)]
pub struct Recorder {
    jobs: SyncSender<Job>,
}

impl Recorder {
    /// Starts the writer's thread; `commits` counts its transactions.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(protection: Arc<Protection>, schedule: Arc<ForkSchedule>, commits: Counter) -> std::io::Result<Self> {
        let (jobs, waiting) = sync_channel(WAITING);
        std::thread::Builder::new()
            .name("protection".to_owned())
            .spawn(move || write(&protection, &schedule, &commits, &waiting))?;
        Ok(Self { jobs })
    }

    /// Judges and records one request; the verdict is on disk when this returns.
    ///
    /// # Errors
    /// [`RecordError`].
    pub async fn check_and_record(&self, request: Request) -> Result<Verdict, RecordError> {
        let (reply, verdict) = oneshot::channel();
        self.jobs.try_send(Job { request, reply }).map_err(|error| match error {
            TrySendError::Full(_) => RecordError::Busy,
            TrySendError::Disconnected(_) => stopped(),
        })?;
        verdict.await.map_err(|_| stopped())?
    }
}

fn stopped() -> RecordError {
    RecordError::Unavailable("its thread has ended; restart the gateway".to_owned())
}

fn write(protection: &Protection, schedule: &ForkSchedule, commits: &Counter, waiting: &Receiver<Job>) {
    while let Ok(first) = waiting.recv() {
        let mut group = vec![first];
        while group.len() < GROUP {
            let Ok(next) = waiting.try_recv() else { break };
            group.push(next);
        }
        let requests: Vec<Request> = group.iter().map(|job| job.request).collect();
        commits.inc();
        let judged = protection.check_and_record(&requests, clock::now(schedule));
        if let Err(error) = &judged {
            tracing::error!(error = %error, count = group.len(), "slashing protection refuses everything");
        }
        let mut verdicts = judged.map(Vec::into_iter).map_err(|error| RecordError::Unavailable(error.to_string()));
        for job in group {
            let verdict = match &mut verdicts {
                // One verdict per request is promised; a missing one must not read as a permission.
                Ok(verdicts) => verdicts.next().ok_or_else(|| RecordError::Unavailable("no verdict".to_owned())),
                Err(error) => Err(error.clone()),
            };
            // Who asked may have gone; the record stays, and allows the same again.
            let _ = job.reply.send(verdict);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;
    use stkr_protection::{Attestation, Duty, Pubkey};

    use super::*;

    #[tokio::test]
    async fn of_a_thousand_conflicting_votes_at_once_exactly_one_is_recorded() {
        let folder = tempfile::tempdir().unwrap();
        let schedule = Arc::new(ForkSchedule::mainnet());
        let protection =
            Protection::create(&folder.path().join("protection.db"), schedule.genesis_validators_root()).unwrap();
        let pubkey = Pubkey::repeat_byte(7);
        protection.register(&[pubkey], None).unwrap();
        let commits = Counter::default();
        let recorder = Recorder::start(Arc::new(protection), schedule, commits.clone()).unwrap();
        let vote = |number: u64| {
            let signing_root = B256::left_padding_from(&number.to_be_bytes());
            let duty = Duty::Attestation(Attestation { source_epoch: 9, target_epoch: 10, signing_root });
            recorder.check_and_record(Request { pubkey, duty })
        };
        let verdicts = futures::future::join_all((0..1000).map(vote)).await;
        let safe = verdicts.iter().filter(|verdict| matches!(verdict, Ok(Verdict::Safe))).count();
        let slashable = verdicts.iter().filter(|verdict| matches!(verdict, Ok(Verdict::Slashable(_)))).count();
        assert_eq!((safe, slashable), (1, 999));
        assert!(commits.get() < 1_000, "what waits shares a transaction: {}", commits.get());
    }
}
