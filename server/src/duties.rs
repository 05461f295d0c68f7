//! A batch of duties on its way from request to answer.
//!
//! ```text
//! known key -> chain's facts and assignment (cached) -> judge (CPU) -> slashing protection (one fsync) -> sign (CPU)
//! ```
//! Nothing is signed before its verdict is on disk, and no answer waits for anything after that but the signature itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use alloy::primitives::B256;
use futures::StreamExt as _;
use stkr_chain::endpoint::BlockId;
use stkr_core::{HashedRoot, SecretShare};
use stkr_duties::ForkSchedule;
use stkr_kill_points::kill_point;
use stkr_protection::{Request, Verdict};
use stkr_protocol::ProtocolDomain;
use stkr_protocol::api::Watermarks;
use stkr_protocol::envelope::DutyKind;
use stkr_protocol::sign::{DutyRequest, Refusal, SignResponse, SignedPartial};

use crate::assignments::Assignments;
use crate::chain::ChainView;
use crate::desk::Desk;
use crate::duty::{self, Askers, DutyFacts, Judged, Policy};
use crate::evidence::Evidence;
use crate::metrics::{DutyLabel, ServerMetrics};
use crate::serving::{Committees, Seat};
use crate::signers::Keys;
use crate::signing;
use crate::store::{DutyRow, Store};
use crate::watermarks;

/// First reads of keys that one batch makes at once.
const PARALLEL_READS: usize = 8;

type Shares = Mutex<HashMap<(u64, [u8; 48]), Arc<SecretShare>>>;

/// What a server needs to sign duties beyond what it needs for deposits.
#[derive(Debug)]
pub struct Duties {
    policy: Arc<Policy>,
    desk: Desk,
    assignments: Assignments,
    evidence: Evidence,
    /// Shares in use, opened once: a keystore costs more to open than a signature to make.
    shares: Arc<Shares>,
}

/// The parts of a server that duties share with deposits.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// Database.
    pub store: &'a Arc<Store>,
    /// Secrets.
    pub keys: &'a Arc<Keys>,
    /// The chain.
    pub chain: &'a ChainView,
    /// Metrics.
    pub counted: &'a ServerMetrics,
}

/// A request with what the chain says of its key.
type Known = (DutyRequest, DutyFacts, Committees, Askers);
/// A duty that may be signed, and the share to sign it with.
type Ready = (Judged, Arc<SecretShare>);

impl Duties {
    /// Puts the parts together.
    pub fn new(policy: Policy, desk: Desk, evidence: Evidence) -> Self {
        Self { policy: Arc::new(policy), desk, assignments: Assignments::default(), evidence, shares: Arc::default() }
    }

    /// Slashing protection.
    pub const fn desk(&self) -> &Desk {
        &self.desk
    }

    /// The pinned beacon chain.
    pub fn schedule(&self) -> &ForkSchedule {
        &self.policy.schedule
    }

    /// Forgets a share that was erased.
    pub fn forget(&self, key_id: u64, share_key: [u8; 48]) {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner).remove(&(key_id, share_key));
    }

    /// Reads again who may ask.
    pub async fn refresh(&self, chain: &ChainView, tip: &BlockId) {
        self.assignments.refresh(chain, tip).await;
    }

    /// What slashing protection knows of a key, and for whom this server signs with it.
    ///
    /// # Errors
    /// The refusal to answer with: no such key, the chain or the database cannot be read.
    pub async fn watermarks(&self, key_id: u64, parts: Parts<'_>) -> Result<Watermarks, Refusal> {
        let (facts, askers) = self.assigned(key_id, parts).await?;
        let (protection, pubkey) = (self.desk.protection(), facts.group_key.to_compressed());
        let known = tokio::task::spawn_blocking(move || protection.key(&pubkey.into())).await.map_err(|_| bug())?;
        let state = known.map_err(|error| {
            tracing::error!(error = %error, "slashing protection could not be read");
            Refusal::unavailable("this server's slashing protection cannot be read", "Ask again.")
        })?;
        let signers = parts.keys.signers();
        let seat = parts.chain.committees(key_id, facts.is_dealt).await?.newest_seat(signers.us());
        let index =
            seat.ok_or_else(|| Refusal::unavailable("the committee of the key just changed", "Ask again."))?.index;
        Ok(watermarks::of(key_id, (&facts, index), state, askers.current))
    }

    /// Waits until all evidence is written, and leaves slashing protection in one file. Call it when no more requests come.
    pub async fn end(&self) {
        self.evidence.flush().await;
        if let Err(error) = self.desk.empty_log() {
            tracing::warn!(error = %error, "slashing protection keeps its log until the next start");
        }
    }

    /// One answer per request, in order.
    pub async fn sign(&self, requests: Vec<DutyRequest>, parts: Parts<'_>) -> Vec<SignResponse> {
        let signatures: Vec<[u8; 65]> = requests.iter().map(|request| request.signature).collect();
        let now = unix_seconds();
        let known: Vec<Result<Known, Refusal>> = futures::stream::iter(requests)
            .map(|request| self.look_up(request, parts))
            .buffered(PARALLEL_READS)
            .collect()
            .await;
        let judged = self.judge(known, parts, now).await;
        kill_point!("server.judged");
        let allowed = self.protect(judged, now).await;
        kill_point!("server.recorded");
        let answers = sign(allowed, parts).await;
        kill_point!("server.signed");
        for ((kind, judged, answer), request) in answers.iter().zip(signatures) {
            count(parts.counted, kind, answer);
            if let Some(judged) = judged {
                self.keep(judged, request, answer, parts.counted, now);
            }
        }
        kill_point!("server.evidence_queued");
        answers.into_iter().map(|(_, _, answer)| answer).collect()
    }

    /// A key without a share costs no look at the chain: strangers must not be able to spend the operator's RPC quota.
    async fn look_up(&self, request: DutyRequest, parts: Parts<'_>) -> Result<Known, Refusal> {
        let (facts, askers) = self.assigned(request.key_id, parts).await?;
        let committees = parts.chain.committees(request.key_id, facts.is_dealt).await?;
        Ok((request, facts, committees, askers))
    }

    async fn assigned(&self, key_id: u64, parts: Parts<'_>) -> Result<(DutyFacts, Askers), Refusal> {
        match self.assignments.known(key_id) {
            Some(known) => Ok(known),
            None => {
                signing::known_key(parts.store, key_id)?;
                self.assignments.read(key_id, parts.chain, parts.keys.signers().us()).await
            }
        }
    }

    async fn judge(
        &self,
        known: Vec<Result<Known, Refusal>>,
        parts: Parts<'_>,
        now: u64,
    ) -> Vec<Result<Ready, Refusal>> {
        let count = known.len();
        let (policy, shares) = (Arc::clone(&self.policy), Arc::clone(&self.shares));
        let (store, keys, domain) = (Arc::clone(parts.store), Arc::clone(parts.keys), parts.chain.domain());
        let work = move || {
            let signers = keys.signers();
            let judge = |known: Result<Known, Refusal>| {
                let (request, facts, committees, askers) = known?;
                let me = (&committees, signers.us());
                let judged = duty::judge(&request, &facts, me, &askers, &policy, &domain, now)?;
                // Before anything is recorded: what cannot be signed must not look signed.
                signers.of_leaf(judged.seat.signer, request.key_id)?;
                let share = open_share(&shares, &store, &keys, request.key_id, judged.seat)?;
                Ok((judged, share))
            };
            known.into_iter().map(judge).collect()
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| vec![Err(bug()); count])
    }

    /// Asks slashing protection for the whole batch at once.
    async fn protect(
        &self,
        judged: Vec<Result<Ready, Refusal>>,
        now: u64,
    ) -> Vec<(Option<Judged>, Result<Ready, Refusal>)> {
        let requests: Vec<Request> =
            judged.iter().filter_map(|ready| ready.as_ref().ok().and_then(|(judged, _)| judged.slashable)).collect();
        let verdicts = match self.policy.present(now) {
            Some(present) => self.desk.judge(requests, present).await,
            None => Err(Refusal::unavailable("the chain has not begun", "Ask after genesis.")),
        };
        let mut verdicts = verdicts.map(Vec::into_iter);
        judged
            .into_iter()
            .map(|ready| {
                let (judged, share) = match ready {
                    Ok(ready) => ready,
                    Err(refusal) => return (None, Err(refusal)),
                };
                if judged.slashable.is_none() {
                    return (Some(judged), Ok((judged, share)));
                }
                let allowed = match &mut verdicts {
                    Ok(verdicts) => allow(&judged, verdicts.next()),
                    Err(refusal) => Err(refusal.clone()),
                };
                (Some(judged), allowed.map(|()| (judged, share)))
            })
            .collect()
    }

    /// Requests that nobody can be punished for are no evidence.
    fn keep(&self, judged: &Judged, request: [u8; 65], answer: &SignResponse, counted: &ServerMetrics, at: u64) {
        if judged.slashable.is_none() {
            return;
        }
        let subject = &judged.subject;
        let (source_epoch, target_epoch) = subject.epochs();
        let signed = match answer {
            SignResponse::Signed(partial) => Some(partial),
            SignResponse::Refused(_) => None,
        };
        let kept = self.evidence.keep(DutyRow {
            key_id: subject.key_id(),
            assignment: judged.assignment,
            duty_kind: subject.duty_kind() as u8,
            slot: subject.slot(),
            source_epoch,
            target_epoch,
            signing_root: subject.signing_root(),
            duty_key: judged.duty_key,
            request,
            envelope: signed.map(|partial| partial.envelope),
            partial_hash: signed.map(|partial| alloy::primitives::keccak256(&partial.partial)),
            index: judged.seat.index.get(),
            committee_epoch: judged.seat.committee_epoch,
            at,
        });
        if !kept {
            counted.evidence_dropped.inc();
        }
    }
}

fn allow(judged: &Judged, verdict: Option<Verdict>) -> Result<(), Refusal> {
    match verdict {
        Some(verdict) if verdict.may_sign() => Ok(()),
        Some(verdict) => {
            let signing_root = judged.subject.signing_root();
            let key_id = judged.subject.key_id();
            tracing::warn!(key_id, signing_root = %signing_root, reason = %verdict, "slashing protection refuses");
            Err(duty::refusal_of(&verdict, signing_root))
        }
        None => Err(bug()),
    }
}

async fn sign(
    allowed: Vec<(Option<Judged>, Result<Ready, Refusal>)>,
    parts: Parts<'_>,
) -> Vec<(Option<DutyKind>, Option<Judged>, SignResponse)> {
    let refusals: Vec<_> = allowed.iter().map(|(judged, _)| *judged).collect();
    let (keys, domain): (_, ProtocolDomain) = (Arc::clone(parts.keys), parts.chain.domain());
    let work = move || {
        // From Electra on the attestations of a slot have one root, and a hash to the curve costs half as much as the rest.
        let mut hashed: HashMap<B256, HashedRoot> = HashMap::new();
        let signers = keys.signers();
        let sign = |(judged, ready): (Option<Judged>, Result<Ready, Refusal>)| {
            let kind = judged.map(|judged| judged.subject.duty_kind());
            let answer = match ready {
                Ok((judged, share)) => {
                    let root = judged.subject.signing_root();
                    let partial = share.sign_hashed(hashed.entry(root).or_insert_with(|| HashedRoot::new(&root.0)));
                    kill_point!("server.before_envelope");
                    let Seat { committee_epoch, signer, .. } = judged.seat;
                    match signers.of_leaf(signer, judged.subject.key_id()) {
                        Ok(signer) => SignResponse::Signed(SignedPartial::new(
                            &judged.subject,
                            &domain,
                            signer,
                            committee_epoch,
                            &partial,
                        )),
                        Err(refusal) => SignResponse::refused(refusal),
                    }
                }
                Err(refusal) => SignResponse::refused(refusal),
            };
            (kind, judged, answer)
        };
        allowed.into_iter().map(sign).collect()
    };
    let failed = |judged: Option<Judged>| {
        (judged.map(|judged| judged.subject.duty_kind()), judged, SignResponse::refused(bug()))
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| refusals.into_iter().map(failed).collect())
}

fn open_share(
    shares: &Shares,
    store: &Store,
    keys: &Keys,
    key_id: u64,
    Seat { index, share_key, .. }: Seat,
) -> Result<Arc<SecretShare>, Refusal> {
    let name = (key_id, share_key.to_compressed());
    if let Some(share) = shares.lock().unwrap_or_else(PoisonError::into_inner).get(&name) {
        return Ok(Arc::clone(share));
    }
    let rows = store.shares(key_id).map_err(|error| signing::database_refusal(&error))?;
    let share = Arc::new(signing::open_share(&rows, key_id, (index, share_key), &keys.store_key)?);
    shares.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::clone(&share));
    Ok(share)
}

fn count(counted: &ServerMetrics, kind: &Option<DutyKind>, answer: &SignResponse) {
    let verdict = match answer {
        SignResponse::Signed(_) => "signed",
        SignResponse::Refused(refused) => refused.refusal.kind.name(),
    };
    let kind = kind.map_or("not_judged", DutyKind::name);
    counted.duties.get_or_create(&DutyLabel { kind, verdict }).inc();
}

fn bug() -> Refusal {
    Refusal::unavailable("this server hit a bug while signing", "Report it to the operator.")
}

/// Seconds since 1970; a clock before that is one of before genesis.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
