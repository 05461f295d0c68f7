//! Faults that this relayer has evidence of, and what is left to do about each.
//!
//! A case has no state of its own. Like the rest of the plan it names a step for as long as the chain does not show that it
//! was taken, so crashes, reorgs and other reporters need no rules of their own:
//!
//! ```text
//! evidence row --> [not on record] --> no commitment of ours --------------> commit
//!                                      one in a block before the head -----> prove
//!                  [on record, whoever reported it] ---------------------> nothing: theirs first is a success
//! ```
//!
//! # One report per server, key, fault and term
//! The Court charges one and only records the others. A server that answers wrongly all day must not empty the gas account,
//! so the rest stays in the database. After a reinstatement only what is of the time after it goes out: what has a slot is judged
//! by that, as the Court does, and the rest by when it came, for the Court would charge an old exit that nobody showed before, and
//! the server would be locked out again for what governance has looked into.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256};
use stkr_chain::{court, types::KeyKind};
use stkr_protocol::evidence::{Accused, EvidenceFile, Proof, Verified};

use crate::plan::{Action, Clock};
use crate::status::EvidenceLine;
use crate::store::{Evidence, PROVIDER, Store, StoreError};
use crate::view::{KeyPhase, View};

/// Rows read in one go.
const PAGE: u32 = 1_000;
/// Cases of one server, key, fault and term, of which one is charged. The rest stays in the database.
pub const MOST_OF_A_GROUP: usize = 32;
/// As in the Court.
const SECONDS_PER_SLOT: u64 = 12;

/// Evidence that verifies, with who is accused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Row of the evidence.
    pub id: u64,
    /// Server at fault; [`PROVIDER`] where a provider is.
    pub server_id: u32,
    /// What goes to the Court.
    pub file: EvidenceFile,
    /// What it proves.
    pub verified: Verified,
    /// Commitment of this relayer's account to it.
    pub commitment: B256,
    /// How often the server had been reinstated when this came.
    pub term: u32,
    /// Unix time (seconds) at which the latest slot that was signed begins; nothing where none was.
    pub time: Option<u64>,
}

/// Server, key, committee epoch and fault.
type Group = (u32, u64, u32, u8);

/// The cases of the database, read on as rows come.
#[derive(Debug, Default)]
pub struct Cases {
    all: Vec<Case>,
    /// By server, key, fault and term, which a file says without being verified.
    of_group: BTreeMap<(u32, u64, u8, u32), usize>,
    read: u64,
    genesis_time: u64,
}

impl Cases {
    /// None yet. `genesis_time` is the unix time (seconds) of the beacon chain's slot 0, as the Court has it.
    #[must_use]
    pub fn new(genesis_time: u64) -> Self {
        Self { genesis_time, ..Self::default() }
    }

    /// Reads what is new, for the account `reporter`. A row that proves nothing (of an older version, or of another chain) is no
    /// case.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn read_on(&mut self, store: &Store, reporter: Address) -> Result<(), StoreError> {
        loop {
            let page = store.evidence(self.read, PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            self.read = last.id.parse().unwrap_or(u64::MAX);
            for row in page {
                let term = row.term.parse().unwrap_or_default();
                if let Some(case) = self.case(row, term, reporter) {
                    let (server, key, _, fault) = group(&case);
                    *self.of_group.entry((server, key, fault, term)).or_default() += 1;
                    self.all.push(case);
                }
            }
        }
    }

    fn case(&self, row: Evidence, term: u32, reporter: Address) -> Option<Case> {
        let file: EvidenceFile = serde_json::from_value(row.body).ok()?;
        let server_id = row.server_id.map_or(Some(PROVIDER), |id| id.parse().ok())?;
        // Before the pairing: who errs all day must not make this relayer compute all day.
        let group = (server_id, file.proof.key_id(), file.proof.fault() as u8, term);
        if self.of_group.get(&group).is_some_and(|count| *count >= MOST_OF_A_GROUP) {
            return None;
        }
        let verified = file.verify().ok()?;
        let (id, commitment, time) = (row.id.parse().ok()?, verified.commitment(reporter), self.time_of(&file.proof));
        Some(Case { id, server_id, file, verified, commitment, term, time })
    }

    fn time_of(&self, proof: &Proof) -> Option<u64> {
        let slot = latest_slot(proof)?;
        Some(self.genesis_time.saturating_add(slot.saturating_mul(SECONDS_PER_SLOT)))
    }

    /// All of them, oldest first.
    #[must_use]
    pub fn all(&self) -> &[Case] {
        &self.all
    }
}

/// How far a case is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing was sent.
    Open,
    /// Committed to, not shown.
    Committed,
    /// On record at the Court.
    OnRecord,
    /// Left alone: of its kind one is on record in this term, or it is of the time before the server was reinstated.
    Spared,
    /// The key's seats are free again, or it is another than it was, so nothing can be proven with it.
    TooLate,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Open, Self::Committed, Self::OnRecord, Self::Spared, Self::TooLate];

    /// Name in metrics and in the status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Committed => "committed",
            Self::OnRecord => "on_record",
            Self::Spared => "spared",
            Self::TooLate => "too_late",
        }
    }
}

/// How far `case` is, as the chain shows it.
#[must_use]
pub fn stage(view: &View, case: &Case) -> Stage {
    let faults = &view.faults;
    if faults.shown.contains_key(&name(case)) {
        return Stage::OnRecord;
    }
    if let Accused::Provider { assignment, .. } = case.verified.accused {
        if faults.of_assignment.contains(&(case.verified.key_id, assignment)) {
            return Stage::Spared;
        }
    } else if faults.of_term.contains(&group(case)) || is_settled(view, case) {
        return Stage::Spared;
    }
    if !can_be_proven(view, case) {
        return Stage::TooLate;
    }
    if faults.commitments.contains_key(&case.commitment) { Stage::Committed } else { Stage::Open }
}

/// Whether it is of the time before the server's last reinstatement.
fn is_settled(view: &View, case: &Case) -> bool {
    let Some(reinstated_at) = view.faults.reinstated_at.get(&case.server_id) else { return false };
    match case.time {
        Some(time) => time < *reinstated_at,
        None => case.term < view.faults.terms.get(&case.server_id).copied().unwrap_or_default(),
    }
}

/// Latest slot of what was signed, where the Court goes by it. Slot 0 is none.
fn latest_slot(proof: &Proof) -> Option<u64> {
    let slot = match proof {
        Proof::InvalidPartial(it) | Proof::GarbagePartial(it) => it.envelope.slot,
        Proof::ConflictingDuties(it) => it.first.slot.max(it.second.slot),
        Proof::UnauthorisedSignature(_)
        | Proof::ProviderEquivocation(_)
        | Proof::CeremonyEquivocation(_)
        | Proof::BadDealing(_)
        | Proof::MalformedDealing(_)
        | Proof::UnansweredChallenge(_) => 0,
    };
    (slot != 0).then_some(slot)
}

/// The case as people see it.
#[must_use]
pub fn line(view: &View, case: &Case) -> EvidenceLine {
    let shown = view.faults.shown.get(&name(case));
    EvidenceLine {
        id: case.id.to_string(),
        server_id: (case.server_id != PROVIDER).then(|| case.server_id.to_string()),
        key_id: case.verified.key_id.to_string(),
        attempt: attempt(&case.file.proof).map(|attempt| attempt.to_string()),
        kind: case.verified.fault.name().to_owned(),
        evidence: case.verified.evidence.to_string(),
        signed: court::shown(&court::prove(&case.file).data).iter().map(ToString::to_string).collect(),
        stage: stage(view, case).name().to_owned(),
        transaction: shown.map(|it| it.transaction.to_string()),
        block: shown.map(|it| it.block.to_string()),
        reporter: shown.map(|it| it.reporter.to_string()),
    }
}

/// Ceremony of the key in which it happened, if it did in one.
const fn attempt(proof: &Proof) -> Option<u16> {
    match proof {
        Proof::CeremonyEquivocation(it) => Some(it.first.attempt),
        Proof::BadDealing(it) => Some(it.dealing.attempt),
        Proof::MalformedDealing(it) => Some(it.dealing.attempt),
        Proof::InvalidPartial(_)
        | Proof::GarbagePartial(_)
        | Proof::ConflictingDuties(_)
        | Proof::UnauthorisedSignature(_)
        | Proof::ProviderEquivocation(_)
        | Proof::UnansweredChallenge(_) => None,
    }
}

/// What the Court has on record at most once as news.
fn name(case: &Case) -> (u32, u8, B256) {
    (case.server_id, case.verified.fault as u8, case.verified.evidence)
}

/// What the Court charges once.
fn group(case: &Case) -> Group {
    (case.server_id, case.verified.key_id, case.verified.committee_epoch, case.verified.fault as u8)
}

/// The leaf of a share can be shown while the registry has the key's root, from finalisation until the seats are freed. A malformed
/// dealing is judged by its key's t and n, and a signature that only a withdrawal key may not make by what its key is for: after a
/// reorganisation that may be another's.
fn can_be_proven(view: &View, case: &Case) -> bool {
    match case.verified.accused {
        Accused::Signer(_) | Accused::Provider { .. } => return true,
        Accused::Dealer { threshold, members, .. } => {
            let key = view.keys.get(&case.verified.key_id);
            return key.is_some_and(|key| (key.threshold, key.members) == (threshold, members));
        }
        // Challenges have steps of their own.
        Accused::Silent { .. } => return false,
        Accused::Holder { .. } => {}
    }
    let key = view.keys.get(&case.verified.key_id);
    if case.verified.withdrawal_key_only && key.is_none_or(|key| key.kind != KeyKind::Withdrawal) {
        return false;
    }
    match key.map(|key| &key.phase) {
        Some(KeyPhase::Live(_)) => true,
        Some(KeyPhase::Retired { before, .. }) => matches!(**before, KeyPhase::Live(_)),
        _ => false,
    }
}

/// The next step of every case that has one; of several with one group the oldest.
#[must_use]
pub fn plan(view: &View, clock: &Clock, cases: &[Case]) -> Vec<Action> {
    let (mut planned, mut commitments) = (BTreeSet::new(), BTreeSet::new());
    let mut actions = Vec::new();
    for case in cases {
        let committed = match stage(view, case) {
            Stage::Open => None,
            Stage::Committed => view.faults.commitments.get(&case.commitment).copied(),
            Stage::OnRecord | Stage::Spared | Stage::TooLate => continue,
        };
        if !planned.insert(group(case)) {
            continue;
        }
        // One commitment is good for one report: of two servers that signed the same, the second waits for the first.
        if !commitments.insert(case.commitment) {
            continue;
        }
        let (server_id, evidence, fault) = (case.server_id, case.verified.evidence, case.verified.fault);
        match committed {
            None => {
                actions.push(Action::CommitToEvidence { server_id, evidence, fault, commitment: case.commitment });
            }
            // In the commitment's own block the Court refuses the proof, and nodes try a transaction on the head.
            Some(block) if block < clock.head => {
                actions.push(Action::ProveFault { server_id, evidence, fault, file: Box::new(case.file.clone()) });
            }
            Some(_) => {}
        }
    }
    actions
}

/// Steps of cases that somebody else brought to the Court first: what waits for its block can be given up.
#[must_use]
pub fn lost_races(view: &View, cases: &[Case], reporter: Address) -> Vec<String> {
    let others = |case: &&Case| view.faults.shown.get(&name(case)).is_some_and(|it| it.reporter != reporter);
    cases.iter().filter(others).map(|case| prove_step(case.server_id, case.verified.evidence)).collect()
}

/// Name of the step that commits to `evidence` against a server.
#[must_use]
pub fn commit_step(server_id: u32, evidence: B256) -> String {
    format!("commit_to_evidence/{}/{server_id}", short(evidence))
}

/// Name of the step that proves `evidence` against a server.
#[must_use]
pub fn prove_step(server_id: u32, evidence: B256) -> String {
    format!("prove_fault/{}/{server_id}", short(evidence))
}

fn short(evidence: B256) -> String {
    hex::encode(&evidence[..8])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alloy::primitives::Bytes;
    use stkr_core::ShareIndex;
    use stkr_node::database::Database;
    use stkr_protocol::evidence::{
        DefectiveDealing, DutiesProof, EnvelopeProof, Fault, Holder, MessagesProof, Proof, RequestsProof,
        SignedDutyRequest, SignedEnvelope,
    };
    use stkr_protocol::messages::{Body, DealingBody, OneTimeKeyBody, SignedMessage};
    use stkr_protocol::{ProtocolDomain, SignerKey};

    use super::*;
    use crate::app::SCHEMA;
    use crate::view::{Ceremony, Fact, LiveKey, PendingDraw, Shown};

    const DOMAIN: ProtocolDomain = ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(7) };
    const US: Address = Address::repeat_byte(0xaa);
    const RIVAL: Address = Address::repeat_byte(0xbb);

    /// Server 3 says two things in the ceremony of a key.
    fn case(id: u64, key_id: u64, second: u8) -> Case {
        let signer = SignerKey::from_bytes(&[3; 32]).unwrap();
        let say = |byte| {
            let body = Body::OneTimeKey(OneTimeKeyBody { public_key: vec![byte; 33] });
            SignedMessage::sign(&DOMAIN, &signer, (key_id, 0, ShareIndex::new(2).unwrap()), body)
        };
        let proof = Proof::CeremonyEquivocation(MessagesProof { first: say(2), second: say(second) });
        let file = EvidenceFile::new(&DOMAIN, Address::repeat_byte(9), proof);
        let verified = file.verify().unwrap();
        Case { id, server_id: 3, commitment: verified.commitment(US), file, verified, term: 0, time: None }
    }

    fn clock(head: u64) -> Clock {
        Clock { head, ..Clock::default() }
    }

    fn commit(case: &Case) -> Action {
        let Verified { evidence, fault, .. } = case.verified;
        Action::CommitToEvidence { server_id: case.server_id, evidence, fault, commitment: case.commitment }
    }

    fn prove(case: &Case) -> Action {
        let Verified { evidence, fault, .. } = case.verified;
        Action::ProveFault { server_id: case.server_id, evidence, fault, file: Box::new(case.file.clone()) }
    }

    fn shown(reporter: Address) -> Shown {
        Shown { reporter, transaction: B256::repeat_byte(7), block: 12 }
    }

    fn upheld(case: &Case, reporter: Address, charged: bool) -> Fact {
        let Verified { evidence, fault, key_id, committee_epoch, .. } = case.verified;
        Fact::FaultUpheld {
            fault: fault as u8,
            server_id: case.server_id,
            key_id,
            committee_epoch,
            evidence,
            shown: shown(reporter),
            charged,
        }
    }

    #[test]
    fn of_two_servers_that_signed_the_same_each_is_reported_one_after_the_other() {
        let (mut view, one) = (View::default(), case(1, 9, 3));
        let two = Case { id: 2, server_id: 10, ..one.clone() };
        let cases = [one.clone(), two.clone()];
        assert_eq!(plan(&view, &clock(10), &cases), [commit(&one)], "the commitment is the same, and good for one");
        view.apply(1, Fact::EvidenceCommitted { commitment: one.commitment, block: 11 });
        assert_eq!(plan(&view, &clock(12), &cases), [prove(&one)]);
        view.apply(1, upheld(&one, US, true));
        assert_eq!((stage(&view, &one), stage(&view, &two)), (Stage::OnRecord, Stage::Open));
        assert_eq!(plan(&view, &clock(13), &cases), [commit(&two)]);
        assert_ne!(commit(&one).step(), commit(&two).step(), "what was sent for one is not what is sent for the other");
        view.apply(1, Fact::EvidenceCommitted { commitment: two.commitment, block: 14 });
        assert_eq!(plan(&view, &clock(15), &cases), [prove(&two)]);
        view.apply(1, upheld(&two, US, true));
        assert_eq!(plan(&view, &clock(16), &cases), []);
    }

    #[test]
    fn a_case_is_committed_to_then_proven_in_a_later_block_and_then_left_alone() {
        let (mut view, one) = (View::default(), case(1, 9, 3));
        let cases = [one.clone()];
        assert_eq!(plan(&view, &clock(10), &cases), [commit(&one)]);
        view.apply(1, Fact::EvidenceCommitted { commitment: one.commitment, block: 11 });
        assert_eq!(plan(&view, &clock(11), &cases), [], "the Court refuses a proof in the commitment's block");
        assert_eq!(plan(&view, &clock(12), &cases), [prove(&one)]);
        assert_eq!(stage(&view, &one), Stage::Committed);
        view.apply(2, upheld(&one, US, true));
        assert_eq!((plan(&view, &clock(13), &cases), stage(&view, &one)), (vec![], Stage::OnRecord));
        assert_eq!(lost_races(&view, &cases, US), [""; 0]);
    }

    #[test]
    fn a_malformed_dealing_is_reported_while_the_key_has_the_size_that_it_was_malformed_for() {
        let signer = SignerKey::from_bytes(&[3; 32]).unwrap();
        let (one_time_key, commitments, shares) = (vec![2; 33], Vec::new(), vec![1; 128]);
        let (one_time_keys_hash, proof_of_possession) = (B256::ZERO, vec![1; 256]);
        let body = DealingBody { one_time_keys_hash, one_time_key, commitments, proof_of_possession, shares };
        let subject = (9, 0, ShareIndex::new(2).unwrap());
        let message = SignedMessage::sign(&DOMAIN, &signer, subject, Body::Dealing(body));
        let proof = DefectiveDealing::find(&message, (3, 4), None, &DOMAIN).unwrap();
        let file = EvidenceFile::new(&DOMAIN, Address::repeat_byte(9), Proof::MalformedDealing(proof));
        let verified = file.verify().unwrap();
        let commitment = verified.commitment(US);
        let one = Case { id: 1, server_id: 3, commitment, file, verified, term: 0, time: None };
        let of_size = |threshold, members| {
            let mut view = View::default();
            let (consumer, block) = (Address::ZERO, 1);
            let draw = PendingDraw { seed_block: 9, active_set: Bytes::new(), kept: vec![] };
            view.apply(
                1,
                Fact::KeyRequested { key_id: 9, consumer, kind: KeyKind::Validator, threshold, members, draw, block },
            );
            view
        };
        assert_eq!(plan(&of_size(3, 4), &clock(10), std::slice::from_ref(&one)), [commit(&one)]);
        // A reorganisation put another key under the number, or none.
        for view in [of_size(4, 5), of_size(3, 5), View::default()] {
            assert_eq!(stage(&view, &one), Stage::TooLate);
            assert_eq!(plan(&view, &clock(10), std::slice::from_ref(&one)), []);
        }
    }

    #[test]
    fn a_signature_that_only_a_withdrawal_key_may_not_make_is_reported_while_the_key_is_one() {
        let signer = SignerKey::from_bytes(&[3; 32]).unwrap();
        let mut envelope = SignedEnvelope {
            key_id: 9,
            committee_epoch: 0,
            index: ShareIndex::new(2).unwrap(),
            duty_kind: 2,
            slot: 40,
            source_epoch: 1,
            target_epoch: 2,
            signing_root: B256::repeat_byte(1),
            partial_hash: B256::ZERO,
            signature: [0; 65],
        };
        envelope.signature = signer.sign_digest(envelope.digest(&DOMAIN));
        let holder = Holder { server_id: 3, signer: signer.address(), share_key: [0; 128], proof: Vec::new() };
        let proof = Proof::UnauthorisedSignature(EnvelopeProof { envelope, holder });
        let file = EvidenceFile::new(&DOMAIN, Address::repeat_byte(9), proof);
        let verified = file.verify().unwrap();
        let commitment = verified.commitment(US);
        let one = Case { id: 1, server_id: 3, commitment, file, verified, term: 0, time: None };
        let of_kind = |kind| {
            let mut view = View::default();
            let draw = PendingDraw { seed_block: 9, active_set: Bytes::new(), kept: vec![] };
            let (consumer, threshold, members) = (Address::ZERO, 3, 4);
            view.apply(1, Fact::KeyRequested { key_id: 9, consumer, kind, threshold, members, draw, block: 1 });
            let live = LiveKey {
                committee: vec![1, 3, 4, 5],
                signers: vec![Address::ZERO; 4],
                points: Bytes::new(),
                dealings_digest: B256::ZERO,
            };
            view.apply(2, Fact::KeyFinalised { key_id: 9, live });
            view
        };
        assert_eq!(plan(&of_kind(KeyKind::Withdrawal), &clock(10), std::slice::from_ref(&one)), [commit(&one)]);
        // A reorganisation put a validator key under the number.
        assert_eq!(stage(&of_kind(KeyKind::Validator), &one), Stage::TooLate);
    }

    #[test]
    fn a_server_that_errs_all_day_makes_few_cases_and_rows_that_prove_nothing_make_none() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("relayer.sqlite"), &SCHEMA).unwrap();
        let store = Store::new(Arc::new(database));
        let mut forged = case(0, 9, 200).file;
        forged.chain_id = 1;
        assert!(store.keep_evidence(4, &forged).unwrap());
        for second in 3..100 {
            assert!(store.keep_evidence(3, &case(0, 9, second).file).unwrap());
        }
        let mut cases = Cases::default();
        cases.read_on(&store, US).unwrap();
        assert_eq!(cases.all().len(), MOST_OF_A_GROUP);
        assert!(cases.all().iter().all(|case| case.server_id == 3 && case.commitment == case.verified.commitment(US)));
        assert!(store.keep_evidence(3, &case(0, 10, 3).file).unwrap());
        cases.read_on(&store, US).unwrap();
        assert_eq!(cases.all().last().map(|case| case.verified.key_id), Some(10), "another key is another group");
    }

    /// Governance looked into it and let the server take part again; what it did before must not hide what it does now.
    #[test]
    fn a_server_that_erred_all_day_and_was_reinstated_is_reported_again() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("relayer.sqlite"), &SCHEMA).unwrap();
        let store = Store::new(Arc::new(database));
        for second in 3..100 {
            assert!(store.keep_evidence(3, &case(0, 9, second).file).unwrap());
        }
        let (mut cases, mut view) = (Cases::default(), View::default());
        cases.read_on(&store, US).unwrap();
        let first = cases.all()[0].clone();
        view.apply(1, upheld(&first, US, true));
        assert_eq!(plan(&view, &clock(10), cases.all()), [], "one was charged, the others are spared");
        view.apply(2, Fact::ServerReinstated { id: 3 });
        store.set_terms(&view.faults.terms);
        let fault = Fault::CeremonyEquivocation;
        assert_eq!(store.evidence_of(3, 9, fault).unwrap(), 0, "nothing of this term");
        let again = case(0, 9, 200);
        assert!(store.keep_evidence(3, &again.file).unwrap());
        assert_eq!(store.evidence_of(3, 9, fault).unwrap(), 1);
        cases.read_on(&store, US).unwrap();
        assert_eq!(cases.all().len(), MOST_OF_A_GROUP + 1);
        assert_eq!(plan(&view, &clock(20), cases.all()), [commit(&again)]);
        // A relayer that starts anew reads the same.
        let mut read_again = Cases::default();
        read_again.read_on(&store, US).unwrap();
        assert_eq!(plan(&view, &clock(20), read_again.all()), [commit(&again)]);
        let line = line(&view, read_again.all().first().unwrap());
        assert_eq!((line.stage.as_str(), line.block.as_deref()), ("on_record", Some("12")));
        assert_eq!((line.attempt.as_deref(), line.signed.len()), (Some("0"), 2));
    }

    #[test]
    fn a_rival_with_the_same_evidence_ends_the_case_and_takes_our_proof_out_of_the_way() {
        let (mut view, one) = (View::default(), case(1, 9, 3));
        view.apply(1, Fact::EvidenceCommitted { commitment: one.commitment, block: 11 });
        view.apply(2, upheld(&one, RIVAL, true));
        let cases = [one.clone()];
        assert_eq!(plan(&view, &clock(20), &cases), []);
        assert_eq!(lost_races(&view, &cases, US), [prove_step(one.server_id, one.verified.evidence)]);
        // A rival's commitment is not ours.
        let mut view = View::default();
        view.apply(1, Fact::EvidenceCommitted { commitment: one.verified.commitment(RIVAL), block: 11 });
        assert_eq!(plan(&view, &clock(20), &cases), [commit(&one)]);
    }

    /// A provider asks for two votes with one target.
    fn provider_case(id: u64, assignment: u64, second: u8) -> Case {
        let duty_key = SignerKey::from_bytes(&[4; 32]).unwrap();
        let ask = |root| {
            let mut request = SignedDutyRequest {
                key_id: 9,
                assignment,
                duty_kind: 2,
                slot: 40,
                source_epoch: 1,
                target_epoch: 2,
                signing_root: B256::repeat_byte(root),
                signature: [0; 65],
            };
            request.signature = duty_key.sign_digest(request.digest(&DOMAIN));
            request
        };
        let proof = Proof::ProviderEquivocation(RequestsProof { first: ask(1), second: ask(second) });
        let file = EvidenceFile::new(&DOMAIN, Address::repeat_byte(9), proof);
        let verified = file.verify().unwrap();
        let commitment = verified.commitment(US);
        Case { id, server_id: PROVIDER, commitment, file, verified, term: 0, time: None }
    }

    #[test]
    fn of_one_assignment_one_report_goes_out_for_ever_and_of_the_next_another() {
        let (one, two, next) = (provider_case(1, 1, 2), provider_case(2, 1, 3), provider_case(3, 2, 2));
        let mut view = View::default();
        assert_eq!(plan(&view, &clock(10), &[one.clone(), two.clone()]), [commit(&one)]);
        let Verified { evidence, key_id, .. } = one.verified;
        view.apply(1, Fact::ProviderFaultProven { key_id, assignment: 1, evidence, shown: shown(RIVAL) });
        let cases = [one.clone(), two.clone(), next.clone()];
        assert_eq!(plan(&view, &clock(10), &cases), [commit(&next)]);
        assert_eq!((stage(&view, &one), stage(&view, &two)), (Stage::OnRecord, Stage::Spared));
    }

    /// The others of the incident that governance looked into stay at home, or it would be locked out for it again.
    #[test]
    fn of_one_server_key_and_fault_one_report_goes_out_until_it_is_reinstated() {
        let mut view = View::default();
        let (one, two, other_key) = (case(1, 9, 3), case(2, 9, 4), case(3, 10, 3));
        let mut cases = vec![one.clone(), two.clone(), other_key.clone()];
        assert_eq!(plan(&view, &clock(10), &cases), [commit(&one), commit(&other_key)]);
        view.apply(2, upheld(&one, US, true));
        assert_eq!(plan(&view, &clock(10), &cases), [commit(&other_key)]);
        assert_eq!(stage(&view, &two), Stage::Spared);
        view.apply(3, Fact::ServerReinstated { id: 3 });
        assert_eq!(plan(&view, &clock(10), &cases), []);
        assert_eq!((stage(&view, &two), stage(&view, &other_key)), (Stage::Spared, Stage::Spared));
        // What came after is reported, and old evidence that somebody shows now is only recorded, and hides nothing.
        let again = Case { term: 1, ..case(4, 9, 5) };
        cases.push(again.clone());
        view.apply(4, upheld(&case(5, 9, 6), RIVAL, false));
        assert_eq!(plan(&view, &clock(10), &cases), [commit(&again)]);
        assert_eq!(stage(&view, &one), Stage::OnRecord, "what was shown is not shown again");
    }

    /// Two votes with one target, of these slots, by the holder of a share.
    fn conflict(slots: (u64, u64)) -> EvidenceFile {
        let signer = SignerKey::from_bytes(&[3; 32]).unwrap();
        let index = ShareIndex::new(2).unwrap();
        let vote = |slot, root| {
            let mut envelope = SignedEnvelope {
                key_id: 9,
                committee_epoch: 0,
                index,
                duty_kind: 2,
                slot,
                source_epoch: 1,
                target_epoch: 2,
                signing_root: B256::repeat_byte(root),
                partial_hash: B256::ZERO,
                signature: [0; 65],
            };
            envelope.signature = signer.sign_digest(envelope.digest(&DOMAIN));
            envelope
        };
        let holder = Holder { server_id: 3, signer: signer.address(), share_key: [1; 128], proof: vec![] };
        let proof = DutiesProof { first: vote(slots.0, 1), second: vote(slots.1, 2), holder };
        EvidenceFile::new(&DOMAIN, Address::repeat_byte(9), Proof::ConflictingDuties(proof))
    }

    /// The Court goes by the later slot of what was signed, whenever it came to light.
    #[test]
    fn evidence_with_a_slot_is_reported_if_that_is_not_before_the_reinstatement() {
        const GENESIS: u64 = 1_000;
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("relayer.sqlite"), &SCHEMA).unwrap();
        let store = Store::new(Arc::new(database));
        let mut view = View::default();
        // It came before the relayer saw the reinstatement, and is of the slot that begins with it.
        assert!(store.keep_evidence(3, &conflict((40, 64))).unwrap());
        view.apply(GENESIS + 64 * SECONDS_PER_SLOT, Fact::ServerReinstated { id: 3 });
        let (consumer, committee) = (Address::ZERO, vec![1, 3]);
        let draw = PendingDraw { seed_block: 9, active_set: Bytes::new(), kept: vec![] };
        let (kind, threshold, members) = (KeyKind::Validator, 2, 2);
        view.apply(1, Fact::KeyRequested { key_id: 9, consumer, kind, threshold, members, draw, block: 1 });
        let ceremony = Ceremony { committee: committee.clone(), deadline: 500, begun_in: 3 };
        view.apply(2, Fact::CommitteeDrawn { key_id: 9, attempt: 0, ceremony });
        let (points, dealings_digest) = (Bytes::from(vec![7; 384]), B256::ZERO);
        let live = LiveKey { committee, signers: vec![US, RIVAL], points, dealings_digest };
        view.apply(3, Fact::KeyFinalised { key_id: 9, live });
        store.set_terms(&view.faults.terms);
        assert!(store.keep_evidence(3, &conflict((63, 40))).unwrap());
        let mut cases = Cases::new(GENESIS);
        cases.read_on(&store, US).unwrap();
        let stages: Vec<Stage> = cases.all().iter().map(|case| stage(&view, case)).collect();
        assert_eq!(stages, [Stage::Open, Stage::Spared]);
    }
}
