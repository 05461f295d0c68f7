//! From a validator client's request to a verified signature, or a refusal with its reason.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256};
use stkr_core::{ShareIndex, Signature};
use stkr_duties::{DecodeError, Duty, DutyError, DutyKind, ForkSchedule, SigningRequest, Slashable};
use stkr_kill_points::kill_point;
use stkr_node::collector::{Collector, MemberTrouble, Trouble, Witness};
use stkr_protection::{Attestation, Block, Pubkey, Request, Verdict};
use stkr_protocol::collection::{Collection, Committee, Evidence, Progress};
use stkr_protocol::evidence::EvidenceFile;
use stkr_protocol::handover::NotServing;
use stkr_protocol::sign::{AskError, Asked, RefusalKind, SignedPartial};
use stkr_protocol::{ProtocolDomain, envelope};
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::config::HighWatermarkConfig;
use crate::keys::{KeyRing, Seated, ServedKey};
use crate::line::Line;
use crate::metrics::GatewayMetrics;
use crate::quiet::{Quiet, QuietError};
use crate::recorder::{RecordError, Recorder};
use crate::store::{Keeper, Kept, Record};
use crate::verifier::Verifier;

/// Pause before members whose connection broke are asked a second time, because too few others answered.
const SECOND_TRY: Duration = Duration::from_millis(100);

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Nobody has assigned us this key.
    #[error("{0} is not a key that the chain assigns to this gateway's duty key now")]
    UnknownKey(String),
    /// The chain was not read yet.
    #[error("the chain has not been read since the start, so no key is known yet")]
    NoChain,
    /// No request of the documented form.
    #[error("the request cannot be read: {0}")]
    Malformed(#[from] DecodeError),
    /// No duty of this chain, or another root.
    #[error("the duty must not be signed: {0}")]
    Duty(#[from] DutyError),
    /// A registration names another validator than the one that shall sign it.
    #[error("the registration is for validator {0}, which is not the key that shall sign it")]
    OtherValidator(Pubkey),
    /// A duty that servers never sign for a gateway.
    #[error("{0} is signed only when the chain has ordered it, and relayers collect it: nobody has to ask for it")]
    OrderedOnly(DutyKind),
    /// The duty cannot be sent.
    #[error("the duty cannot be asked for: {0}")]
    Ask(AskError),
    /// The key goes to another committee, and none signs this, or none yet.
    #[error("no committee of the key signs this now: {0}")]
    NotServing(#[from] NotServing),
    /// Nobody knows yet whether somebody else signs, or somebody does.
    #[error(transparent)]
    Quiet(#[from] QuietError),
    /// At or beyond the high watermark that the operator has set.
    #[error("{what} is at or beyond the high watermark of this gateway, {mark}")]
    Beyond {
        /// The duty's slot or epoch.
        what: String,
        /// The mark.
        mark: String,
    },
    /// A vote or a block of a slot that has not begun.
    #[error("the duty is of slot {slot}, which is of the future: slot {present} is the present")]
    Future {
        /// Of the duty.
        slot: u64,
        /// Of this machine's clock.
        present: u64,
    },
    /// Our own history says no.
    #[error("{0}")]
    Conflict(Verdict),
    /// The history of the key is not there.
    #[error("slashing protection does not cover this key: {0}")]
    NotCovered(Verdict),
    /// The history is not there.
    #[error(transparent)]
    Protection(#[from] RecordError),
    /// So many servers refuse that there can be no signature.
    #[error("{} of {n} servers refuse and {t} must sign: {}", .who.len(), sentences(.who))]
    Refused {
        /// Whether most of them call it slashable.
        slashable: bool,
        /// Shares that must sign.
        t: u8,
        /// Shares there are.
        n: u8,
        /// Who and why.
        who: Vec<MemberTrouble>,
    },
    /// Too few good answers.
    #[error("{needed} more of the {n} servers must answer ({t} sign): {}", sentences(.who))]
    TooFew {
        /// Good partials still needed.
        needed: usize,
        /// Shares that must sign.
        t: u8,
        /// Shares there are.
        n: u8,
        /// Who did not answer and why.
        who: Vec<MemberTrouble>,
    },
}

fn sentences(who: &[MemberTrouble]) -> String {
    let all: Vec<String> = who.iter().map(ToString::to_string).collect();
    all.join("; ")
}

impl SignError {
    /// One word for metrics and logs.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::UnknownKey(_) => "unknown_key",
            Self::NoChain => "no_chain",
            Self::Malformed(_) | Self::Duty(_) | Self::OtherValidator(_) | Self::Ask(_) => "malformed",
            Self::OrderedOnly(_) => "ordered_only",
            Self::NotServing(_) => "handover",
            Self::Quiet(QuietError::Waits { .. }) => "quiet",
            Self::Quiet(QuietError::Stopped { .. }) => "doppelganger",
            Self::Beyond { .. } => "beyond_watermark",
            Self::Future { .. } => "future",
            Self::Conflict(_) => "slashable",
            Self::NotCovered(_) => "not_covered",
            Self::Protection(_) => "protection",
            Self::Refused { slashable: true, .. } => "slashable_at_servers",
            Self::Refused { .. } => "refused",
            Self::TooFew { .. } => "too_few",
        }
    }
}

/// Tasks that still wait for late answers.
pub type Late = TaskTracker;

/// What all signatures share.
#[derive(Clone, Debug)]
pub struct Signing {
    /// Chain and registry.
    pub domain: ProtocolDomain,
    /// The beacon chain.
    pub schedule: Arc<ForkSchedule>,
    /// Keys served.
    pub ring: KeyRing,
    /// Keys that wait until it is known that nobody else signs.
    pub quiet: Quiet,
    /// Where the operator has this gateway stop.
    pub high_watermark: HighWatermarkConfig,
    /// Slashing protection.
    pub recorder: Recorder,
    /// Verifies combined signatures.
    pub verifier: Verifier,
    /// Keeps requests and envelopes.
    pub keeper: Keeper,
    /// Metrics.
    pub metrics: GatewayMetrics,
    /// The Court that the evidence of wrong partials is for.
    pub court: Address,
    /// Servers that were caught with a wrong partial.
    pub suspects: Arc<Mutex<BTreeSet<u32>>>,
    /// What still waits for late answers after its signature left.
    pub late: Late,
}

/// What is to be signed, read and with its root.
struct Wanted {
    request: SigningRequest,
    root: B256,
}

impl HighWatermarkConfig {
    /// Refuses what is at or beyond the mark, as Web3Signer does.
    fn check(&self, duty: &Duty) -> Result<(), SignError> {
        let beyond = |what: String, mark: String| Err(SignError::Beyond { what, mark });
        match (duty.slashable(), self.slot, self.epoch) {
            (Some(Slashable::Block { slot }), Some(mark), _) if slot.0 >= mark => {
                beyond(format!("slot {}", slot.0), format!("slot {mark}"))
            }
            (Some(Slashable::Attestation { target, .. }), _, Some(mark)) if target.0 >= mark => {
                beyond(format!("target epoch {}", target.0), format!("epoch {mark}"))
            }
            _ => Ok(()),
        }
    }
}

impl Signing {
    /// Recorded and then refused by the servers, a vote for a slot to come would cost the one that is due in its epoch.
    fn check_clock(&self, duty: &Duty) -> Result<(), SignError> {
        let now = clock::now(&self.schedule);
        match duty.slashable().and(duty.slot()) {
            // What is of a later epoch slashing protection refuses, and records nothing.
            Some(slot) if slot.0 > now.slot && self.schedule.epoch_at(slot).0 <= now.epoch => {
                Err(SignError::Future { slot: slot.0, present: now.slot })
            }
            _ => Ok(()),
        }
    }

    /// The signature of the key `identifier` (48 bytes in hex) for a Web3Signer request object.
    ///
    /// # Errors
    /// [`SignError`]. After [`SignError::Conflict`] and everything that comes before it, the duty key has signed nothing.
    pub async fn sign(&self, identifier: &str, json: &[u8]) -> Result<Signature, SignError> {
        let started = Instant::now();
        let request = SigningRequest::decode(json, self.schedule.preset())?;
        let duty = request.duty.kind().name();
        let outcome = self.sign_request(identifier, request).await;
        let word = match &outcome {
            Ok(_) => "signed",
            Err(error) => error.kind(),
        };
        self.metrics.requests.get_or_create(&[("duty", duty), ("outcome", word)]).inc();
        match &outcome {
            Ok(_) => self.metrics.seconds.observe(started.elapsed().as_secs_f64()),
            Err(error) => tracing::warn!(pubkey = shown(identifier), kind = duty, reason = %error, "not signed"),
        }
        outcome
    }

    async fn sign_request(&self, identifier: &str, request: SigningRequest) -> Result<Signature, SignError> {
        let key = self.key(identifier)?;
        kill_point!("gateway.decoded");
        let wanted = self.check(&key, request)?;
        // Before slashing protection: what is not asked for must not look signed.
        let seated = key.for_duty(&wanted.request.duty, &self.schedule)?.clone();
        // RANDAO reveals, exits and registrations conflict with nothing.
        if wanted.request.duty.slot().is_some() {
            self.quiet.check(&key.pubkey)?;
        }
        self.high_watermark.check(&wanted.request.duty)?;
        self.check_clock(&wanted.request.duty)?;
        kill_point!("gateway.checked");
        self.record(&key, &wanted).await?;
        kill_point!("gateway.recorded");
        let ids = (key.key_id, key.assignment);
        let asked =
            Asked::duty(ids, &wanted.request, &self.schedule, &self.domain, &key.duty_key).map_err(SignError::Ask)?;
        kill_point!("gateway.duty_key_signed");
        let suspects = self.suspects_of(&seated);
        let collection = Collection::new(asked, seated.committee, suspects);
        let witness = self.witness(&key, &collection);
        let mut collector = Collector::new(collection, seated.seats).telling(witness);
        let outcome = collect(&mut collector, &self.verifier).await;
        kill_point!("gateway.collected");
        self.keep_unordered(&key, &collector);
        self.finish(key, wanted, collector);
        outcome
    }

    /// Waits until every answer that was asked for is in or given up, and all of it is kept: a late envelope is evidence like any
    /// other. At most for `longest`; what was collected by then without its last answer is lost. Call it when no more requests
    /// come.
    pub async fn end(&self, longest: Duration) {
        self.late.close();
        if tokio::time::timeout(longest, self.late.wait()).await.is_err() {
            tracing::warn!(count = self.late.len(), "late answers were not waited for any longer");
        }
        self.keeper.flush().await;
    }

    fn key(&self, identifier: &str) -> Result<Arc<ServedKey>, SignError> {
        let keys = self.ring.keys().ok_or(SignError::NoChain)?;
        let found = read_pubkey(identifier).and_then(|pubkey| keys.get(&pubkey).cloned());
        found.ok_or_else(|| SignError::UnknownKey(shown(identifier)))
    }

    fn check(&self, key: &ServedKey, request: SigningRequest) -> Result<Wanted, SignError> {
        let root = request.verify(&self.schedule)?;
        match &request.duty {
            Duty::Deposit { .. } => return Err(SignError::OrderedOnly(DutyKind::Deposit)),
            Duty::ValidatorRegistration(registration) if registration.pubkey.as_slice() != key.pubkey.as_slice() => {
                return Err(SignError::OtherValidator(Pubkey::from_slice(registration.pubkey.as_slice())));
            }
            _ => {}
        }
        Ok(Wanted { request, root })
    }

    /// Slashing protection. Comes before the duty key: two of its signatures over conflicting duties would be evidence.
    async fn record(&self, key: &ServedKey, wanted: &Wanted) -> Result<(), SignError> {
        let signing_root = wanted.root;
        let duty = match wanted.request.duty.slashable() {
            None => return Ok(()),
            Some(Slashable::Block { slot }) => stkr_protection::Duty::Block(Block { slot: slot.0, signing_root }),
            Some(Slashable::Attestation { source, target }) => {
                let (source_epoch, target_epoch) = (source.0, target.0);
                stkr_protection::Duty::Attestation(Attestation { source_epoch, target_epoch, signing_root })
            }
        };
        let verdict = self.recorder.check_and_record(Request { pubkey: key.pubkey, duty }).await?;
        match verdict {
            verdict if verdict.may_sign() => Ok(()),
            Verdict::Unregistered | Verdict::Inactive | Verdict::NeedsImport => Err(SignError::NotCovered(verdict)),
            verdict => Err(SignError::Conflict(verdict)),
        }
    }

    fn suspects_of(&self, seated: &Seated) -> Vec<ShareIndex> {
        let suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        seated.seats.iter().filter(|seat| suspects.contains(&seat.server_id)).map(|seat| seat.index).collect()
    }

    /// Writes wrong partials down before anything else is done about them, the signature handed out included.
    fn witness(&self, key: &ServedKey, collection: &Collection) -> Witness {
        let (keeper, court, key_id) = (self.keeper.clone(), self.court, key.key_id);
        let (committee, request) = (collection.committee().clone(), collection.request().clone());
        Witness::new(move |server_id, evidence| {
            keeper.keep_wrong(key_id, &request, server_id, &wrong(&committee, court, server_id, evidence));
        })
    }

    fn keep_unordered(&self, key: &ServedKey, collector: &Collector<Line>) {
        for (server_id, answer) in unordered(collector, self.court) {
            self.keeper.keep_wrong(key.key_id, collector.collection().request(), server_id, &answer);
        }
    }

    /// Off the hot path: waits for late answers, so that wrong ones are found even if they were not needed, and keeps all.
    fn finish(&self, key: Arc<ServedKey>, wanted: Wanted, mut collector: Collector<Line>) {
        let (keeper, metrics, suspects) = (self.keeper.clone(), self.metrics.clone(), self.suspects.clone());
        let (verifier, court) = (self.verifier.clone(), self.court);
        self.late.spawn(async move {
            let _ = collector.check_late_with(&verifier).await;
            for member in collector.troubles() {
                let labels = [
                    ("server".to_owned(), member.server_id.to_string()),
                    ("reason".to_owned(), word(&member.trouble).to_owned()),
                ];
                metrics.troubles.get_or_create(&labels).inc();
            }
            let record = record(&key, &wanted, &collector, court);
            let caught = record.wrong.iter().map(|(server, _)| *server);
            for server_id in caught {
                tracing::error!(
                    server_id,
                    key_id = key.key_id,
                    "a server signed an envelope that it must not sign; the evidence is kept"
                );
                suspects.lock().unwrap_or_else(PoisonError::into_inner).insert(server_id);
            }
            keeper.keep(record);
        });
    }
}

async fn collect(collector: &mut Collector<Line>, verifier: &Verifier) -> Result<Signature, SignError> {
    let mut progress = collector.round_with(verifier).await;
    // A kept-open connection that the other side closed breaks on its first use; one more try costs nobody anything.
    let broke = |trouble: &MemberTrouble| matches!(trouble.trouble, Trouble::Unreachable(_));
    if matches!(progress, Progress::Waiting { .. }) && collector.troubles().any(|trouble| broke(&trouble)) {
        tokio::time::sleep(SECOND_TRY).await;
        progress = collector.round_with(verifier).await;
    }
    match progress {
        Progress::Done(done) => Ok(done.signature),
        Progress::Waiting { needed, .. } => Err(refusal(collector, needed)),
    }
}

/// Says who is missing, and whether asking again could help.
fn refusal(collector: &Collector<Line>, needed: usize) -> SignError {
    let threshold = collector.collection().committee().keys().threshold();
    let (t, n) = (threshold.t(), threshold.n());
    let who: Vec<MemberTrouble> = collector.troubles().collect();
    let final_kind = |trouble: &MemberTrouble| match &trouble.trouble {
        Trouble::Refused(refusal) if refusal.kind != RefusalKind::Unavailable => Some(refusal.kind),
        _ => None,
    };
    let kinds: Vec<RefusalKind> = who.iter().filter_map(final_kind).collect();
    if kinds.len() <= usize::from(n - t) {
        return SignError::TooFew { needed, t, n, who };
    }
    let slashable = kinds.iter().filter(|kind| **kind == RefusalKind::Slashable).count();
    let who = who.into_iter().filter(|trouble| final_kind(trouble).is_some()).collect();
    SignError::Refused { slashable: slashable * 2 > kinds.len(), t, n, who }
}

fn record(key: &ServedKey, wanted: &Wanted, collector: &Collector<Line>, court: Address) -> Record {
    let server = |index: ShareIndex| collector.server_at(index).unwrap_or_default();
    let kept = |index: ShareIndex, answer: &SignedPartial| Kept {
        server_id: server(index).to_string(),
        answer: answer.clone(),
        evidence: None,
    };
    let wrong = collector.evidence().iter().map(|evidence| {
        let server_id = server(evidence.culprit);
        (server_id, wrong(collector.collection().committee(), court, server_id, evidence))
    });
    Record {
        key_id: key.key_id,
        request: Arc::new(collector.collection().request().clone()),
        answers: collector.collection().answers().map(|(index, answer)| kept(index, answer)).collect(),
        wrong: wrong.chain(unordered(collector, court)).collect(),
        slashable: wanted.request.duty.slashable().map(|slashable| (key.pubkey, slashable)),
    }
}

/// A wrong partial as it is kept.
fn wrong(committee: &Committee, court: Address, server_id: u32, evidence: &Evidence) -> Kept {
    let answer = SignedPartial {
        partial: evidence.partial.clone(),
        envelope: evidence.envelope_signature,
        index: evidence.culprit,
        committee_epoch: evidence.envelope.committee_epoch,
    };
    let file = EvidenceFile::of_partial(committee, court, evidence);
    Kept { server_id: server_id.to_string(), answer, evidence: file }
}

/// Answers to an exit, with who gave them. The chain orders none, so every server has to refuse, and one that signs is at fault.
fn unordered(collector: &Collector<Line>, court: Address) -> impl Iterator<Item = (u32, Kept)> {
    let collection = collector.collection();
    let subject = collection.asked().subject();
    let is_exit = subject.duty_kind() == envelope::DutyKind::VoluntaryExit;
    collection.answers().filter(move |_| is_exit).map(move |(index, answer)| {
        let evidence = EvidenceFile::of_unordered(collection.committee(), court, subject, answer);
        let server_id = collector.server_at(index).unwrap_or_default();
        (server_id, Kept { server_id: server_id.to_string(), answer: answer.clone(), evidence })
    })
}

const fn word(trouble: &Trouble) -> &'static str {
    match trouble {
        Trouble::Unreachable(error) => error.kind(),
        Trouble::Refused(refusal) => refusal.kind.name(),
        Trouble::NoAnswer(_) => "no_answer",
        Trouble::Wrong => "wrong",
    }
}

/// 48 bytes in hex, with or without `0x`, in any case: what Web3Signer takes.
#[must_use]
pub fn read_pubkey(identifier: &str) -> Option<Pubkey> {
    let digits = identifier.strip_prefix("0x").unwrap_or(identifier);
    let bytes: [u8; 48] = hex::decode(digits).ok()?.try_into().ok()?;
    Some(Pubkey::from(bytes))
}

/// An identifier as it may be shown: strangers choose it.
#[must_use]
pub fn shown(identifier: &str) -> String {
    match read_pubkey(identifier) {
        Some(pubkey) => pubkey.to_string(),
        None => identifier.chars().filter(char::is_ascii_alphanumeric).take(98).collect(),
    }
}
