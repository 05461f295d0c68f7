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
//! # One report per server, key, committee epoch, fault and term
//! The Court charges one and only records the others. A server that answers wrongly all day must not empty the gas account,
//! so the rest stays in the database, of which [`crate::charges`] keeps a few. After a reinstatement only what is of the time after it
//! goes out: what has a slot is judged by that, as the Court does, and the rest by when it came, for the Court would charge an
//! old exit that nobody showed before, and the server would be locked out again for what governance has looked into. A
//! case whose step the Court refuses is tried again, and holds no other of its group up.
//!
//! # Only what costs its server something
//! The Court cannot know who belongs to a ceremony, and takes nothing from a bond that is gone. Whoever has nothing to lose could
//! sign such faults for every key that there is, and have each relayer pay for each. So what was said in a ceremony by somebody who was not
//! drawn for it is nobody's fault here, and what a server did that has nothing left is kept, and not sent before it has.

use std::collections::BTreeSet;

use alloy::primitives::{Address, B256};
use stkr_chain::{
    court::{self, COMMITMENT_BLOCKS},
    types::KeyKind,
};
use stkr_protocol::evidence::{Accused, EvidenceFile, Proof, Verified};

use crate::charges::{Group, SECONDS_PER_SLOT};
use crate::plan::{Action, Clock, intent_key};
use crate::status::EvidenceLine;
use crate::store::{Evidence, PROVIDER, Store, StoreError};
use crate::view::{KeyPhase, View};

/// Rows read in one go.
const PAGE: u32 = 1_000;

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
    /// Unix time (seconds) at which the latest slot that was signed begins; nothing where none dates it.
    pub time: Option<u64>,
}

/// The cases of the database, read on as rows come.
#[derive(Debug, Default)]
pub struct Cases {
    all: Vec<Case>,
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
            let found: Vec<Case> = page.into_iter().filter_map(|row| self.case(row, reporter)).collect();
            self.all.extend(found);
        }
    }

    fn case(&self, row: Evidence, reporter: Address) -> Option<Case> {
        let file: EvidenceFile = serde_json::from_value(row.body).ok()?;
        let server_id = row.server_id.map_or(Some(PROVIDER), |id| id.parse().ok())?;
        let verified = file.verify().ok()?;
        let (id, commitment, term) = (row.id.parse().ok()?, verified.commitment(reporter), row.term.parse().ok()?);
        let time = (row.slot != 0).then(|| self.genesis_time.saturating_add(row.slot.saturating_mul(SECONDS_PER_SLOT)));
        Some(Case { id, server_id, file, verified, commitment, term, time })
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
    /// Left alone: of its kind one is on record in this term, it is of the time before the server was reinstated, or the server has
    /// nothing left to lose.
    Spared,
    /// The key's seats are free again, it is another than it was, or its server was not drawn for that ceremony: nothing can be proven.
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
    if view.faults.shown.contains_key(&name(case)) && !is_charged_again(view, case) {
        return Stage::OnRecord;
    }
    if is_charged(view, case) || is_settled(view, case) {
        return Stage::Spared;
    }
    if !can_be_proven(view, case) {
        return Stage::TooLate;
    }
    if view.has_nothing_left(case.server_id) {
        return Stage::Spared;
    }
    if view.faults.commitments.contains_key(&case.commitment) { Stage::Committed } else { Stage::Open }
}

/// Whether one of its group was charged in this term of the server, or in this assignment of the provider.
fn is_charged(view: &View, case: &Case) -> bool {
    let Verified { key_id, committee_epoch, fault, .. } = case.verified;
    match case.verified.accused {
        Accused::Provider { assignment, .. } => view.faults.of_assignment.contains(&(key_id, assignment)),
        _ => view.faults.of_term.contains(&(case.server_id, key_id, committee_epoch, fault as u8)),
    }
}

/// What was signed for a slot to come was only recorded if it was shown before its server was reinstated, and dates from after that.
/// The Court charges it when it is shown again; who knows the day of its reinstatement must not sign in advance for free.
fn is_charged_again(view: &View, case: &Case) -> bool {
    case.time.is_some() && !is_charged(view, case) && !is_settled(view, case)
}

/// Whether nothing can be charged by it any more, while something of its group can: what was shown in another term, without a slot
/// that dates it, is no news to the Court, and with what was ordered since, nothing can be proven.
#[must_use]
pub fn is_hopeless(view: &View, case: &Case) -> bool {
    match stage(view, case) {
        Stage::TooLate => true,
        Stage::OnRecord => !is_charged(view, case),
        Stage::Open | Stage::Committed | Stage::Spared => false,
    }
}

/// Whether it is of the time before the server's last reinstatement.
fn is_settled(view: &View, case: &Case) -> bool {
    let Some(reinstated_at) = view.faults.reinstated_at.get(&case.server_id) else { return false };
    match case.time {
        Some(time) => time < *reinstated_at,
        None => case.term < view.faults.terms.get(&case.server_id).copied().unwrap_or_default(),
    }
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

/// The leaf of a share can be shown while the registry has the root that it leads to, from finalisation until the seats are freed. A
/// malformed dealing is judged by its key's t and n, and a signature that only a withdrawal key may not make by what its key is for: after a
/// reorganisation that may be another's. What was ordered since it was signed is no fault any more.
fn can_be_proven(view: &View, case: &Case) -> bool {
    if let Some(ceremony) = case.file.proof.ceremony()
        && !view.drawn.get(&ceremony).is_some_and(|committee| committee.contains(&case.server_id))
    {
        return false;
    }
    match case.verified.accused {
        Accused::Signer(_) | Accused::Provider { .. } => return true,
        Accused::Dealer { threshold, members, .. } => {
            let key = view.keys.get(&case.verified.key_id);
            return key.is_some_and(|key| (key.threshold, key.members) == (threshold, members));
        }
        // Challenges have steps of their own.
        Accused::Silent { .. } => return false,
        Accused::Holder { .. } => {
            let is_of = |(epoch, root)| {
                let committee = view.committee(case.verified.key_id, epoch);
                committee.is_some_and(|committee| committee.live.leaves_root == root)
            };
            if !case.verified.seats().all(is_of) {
                return false;
            }
        }
    }
    if let Proof::UnauthorisedSignature(it) = &case.file.proof
        && view.is_ordered(it.envelope.key_id, it.envelope.signing_root)
    {
        return false;
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

/// The next step of every case that has one; of several of one group the oldest, and those before it whose step was `refused`: they
/// are tried again, but what cannot be proven must not shield what can.
#[must_use]
pub fn plan(view: &View, clock: &Clock, cases: &[Case], refused: impl Fn(&str) -> bool) -> Vec<Action> {
    let (mut planned, mut commitments) = (BTreeSet::new(), BTreeSet::new());
    let mut actions = Vec::new();
    for case in cases {
        let committed = match stage(view, case) {
            Stage::Open => None,
            Stage::Committed => view.faults.commitments.get(&case.commitment).copied(),
            Stage::OnRecord | Stage::Spared | Stage::TooLate => continue,
        };
        let group = Group::of(case.server_id, &case.file.proof);
        if planned.contains(&group) {
            continue;
        }
        // One commitment is good for one report: of two servers that signed the same, the second waits for the first.
        if commitments.contains(&case.commitment) {
            planned.insert(group);
            continue;
        }
        let (server_id, evidence, fault) = (case.server_id, case.verified.evidence, case.verified.fault);
        let action = match committed {
            None => Some(Action::CommitToEvidence { server_id, evidence, fault, commitment: case.commitment }),
            // Before that the Court refuses the proof, and nodes try a transaction on the head.
            Some(block) if block.saturating_add(COMMITMENT_BLOCKS) <= clock.head => {
                Some(Action::ProveFault { server_id, evidence, fault, file: Box::new(case.file.clone()) })
            }
            Some(_) => None,
        };
        if !action.as_ref().is_some_and(|action| refused(&action.step())) {
            planned.insert(group);
            commitments.insert(case.commitment);
        }
        actions.extend(action);
    }
    actions
}

/// Steps of cases that somebody else brought to the Court first: what waits for its block can be given up.
#[must_use]
pub fn lost_races(view: &View, cases: &[Case], reporter: Address) -> Vec<String> {
    let others = |case: &&Case| {
        let shown = view.faults.shown.get(&name(case));
        shown.is_some_and(|it| it.reporter != reporter) && stage(view, case) == Stage::OnRecord
    };
    cases.iter().filter(others).map(|case| prove_step(case.server_id, case.verified.evidence)).collect()
}

/// Name of the step that commits to `evidence` against a server.
#[must_use]
pub fn commit_step(server_id: u32, evidence: B256) -> String {
    format!("commit_to_evidence/{}/{server_id}", hex::encode(evidence))
}

/// Name of the step that proves `evidence` against a server.
#[must_use]
pub fn prove_step(server_id: u32, evidence: B256) -> String {
    format!("prove_fault/{}/{server_id}", hex::encode(evidence))
}

/// Names of the transactions of a case as they were when steps were named by eight bytes of the evidence, and as they are now. Two
/// cases could have one name then; its calldata tells whose a transaction was.
#[must_use]
pub fn renamed(case: &Case, reporter: Address) -> [(String, String); 2] {
    let (server_id, evidence) = (case.server_id, case.verified.evidence);
    let short = hex::encode(&evidence[..8]);
    let commit = court::commit(case.file.court, &case.verified, reporter).data;
    let prove = court::prove(&case.file).data;
    [
        (format!("commit_to_evidence/{short}/{server_id}"), commit_step(server_id, evidence), commit),
        (format!("prove_fault/{short}/{server_id}"), prove_step(server_id, evidence), prove),
    ]
    .map(|(before, now, calldata)| (intent_key(&before, &calldata), intent_key(&now, &calldata)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alloy::primitives::{Bytes, U256};
    use stkr_chain::bindings::Resharing::Draft;
    use stkr_chain::types::{PoolState, ServerStatus};
    use stkr_core::ShareIndex;
    use stkr_node::database::{Database, Schema};
    use stkr_protocol::envelope::DutyKind;
    use stkr_protocol::evidence::{
        DefectiveDealing, DutiesProof, EnvelopeProof, Holder, MessagesProof, PartialProof, Proof, RequestsProof,
        SignedDutyRequest, SignedEnvelope,
    };
    use stkr_protocol::messages::{Body, DealingBody, OneTimeKeyBody, SignedMessage};
    use stkr_protocol::reshare::ReshareId;
    use stkr_protocol::{ProtocolDomain, SignerKey};

    use super::*;
    use crate::app::SCHEMA;
    use crate::charges::{Charges, MOST_OF_A_GROUP};
    use crate::reshares::{self, ReshareFact};
    use crate::view::{Ceremony, DepositOrder, Fact, Faults, LiveKey, PendingDraw, Pool, Server, Shown};

    const DOMAIN: ProtocolDomain = ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(7) };
    const US: Address = Address::repeat_byte(0xaa);
    const RIVAL: Address = Address::repeat_byte(0xbb);

    /// A chain on which servers 3 and 10 were drawn for the first attempt of every key of these tests.
    fn all_drawn() -> View {
        let drawn = (1..=20).map(|key_id| ((key_id, 0), vec![1, 3, 10])).collect();
        View { drawn, ..View::default() }
    }

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

    fn plan(view: &View, clock: &Clock, cases: &[Case]) -> Vec<Action> {
        super::plan(view, clock, cases, |_| false)
    }

    /// What the engine tells the store.
    fn charges(view: &View, cases: &Cases) -> Charges {
        let Faults { terms, reinstated_at, .. } = view.faults.clone();
        let hopeless = cases.all().iter().filter(|case| is_hopeless(view, case)).map(|case| case.id).collect();
        Charges { genesis_time: cases.genesis_time, now: 0, terms, reinstated_at, hopeless }
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
        let (mut view, one) = (all_drawn(), case(1, 9, 3));
        let two = Case { id: 2, server_id: 10, ..one.clone() };
        let cases = [one.clone(), two.clone()];
        assert_eq!(plan(&view, &clock(10), &cases), [commit(&one)], "the commitment is the same, and good for one");
        view.apply(1, Fact::EvidenceCommitted { commitment: one.commitment, block: 11 });
        assert_eq!(plan(&view, &clock(14), &cases), [prove(&one)]);
        view.apply(1, upheld(&one, US, true));
        assert_eq!((stage(&view, &one), stage(&view, &two)), (Stage::OnRecord, Stage::Open));
        assert_eq!(plan(&view, &clock(15), &cases), [commit(&two)]);
        assert_ne!(commit(&one).step(), commit(&two).step(), "what was sent for one is not what is sent for the other");
        view.apply(1, Fact::EvidenceCommitted { commitment: two.commitment, block: 16 });
        assert_eq!(plan(&view, &clock(19), &cases), [prove(&two)]);
        view.apply(1, upheld(&two, US, true));
        assert_eq!(plan(&view, &clock(20), &cases), []);
    }

    #[test]
    fn a_case_is_committed_to_then_proven_three_blocks_later_and_then_left_alone() {
        let (mut view, one) = (all_drawn(), case(1, 9, 3));
        let cases = [one.clone()];
        assert_eq!(plan(&view, &clock(10), &cases), [commit(&one)]);
        view.apply(1, Fact::EvidenceCommitted { commitment: one.commitment, block: 11 });
        for head in 11..14 {
            assert_eq!(plan(&view, &clock(head), &cases), [], "the Court refuses the proof");
        }
        assert_eq!(plan(&view, &clock(14), &cases), [prove(&one)]);
        assert_eq!(stage(&view, &one), Stage::Committed);
        view.apply(2, upheld(&one, US, true));
        assert_eq!((plan(&view, &clock(15), &cases), stage(&view, &one)), (vec![], Stage::OnRecord));
        assert_eq!(lost_races(&view, &cases, US), [""; 0]);
    }

    #[test]
    fn who_was_not_drawn_for_a_ceremony_has_nothing_to_say_in_it_and_hides_nothing_of_who_was() {
        let one = case(1, 9, 3);
        let drawn = |attempt, committee: &[u32]| {
            let drawn = [((9, attempt), committee.to_vec())].into();
            View { drawn, ..View::default() }
        };
        assert_eq!(plan(&drawn(0, &[1, 3]), &clock(10), std::slice::from_ref(&one)), [commit(&one)]);
        for view in [drawn(0, &[1, 4]), drawn(1, &[1, 3]), View::default()] {
            assert_eq!(plan(&view, &clock(10), std::slice::from_ref(&one)), []);
            assert!(is_hopeless(&view, &one), "it would take the place of what it does when it is drawn");
        }
        // As the chain tells it: an attempt has who was drawn, or who was kept.
        let mut view = View::default();
        let draw = PendingDraw { seed_block: 9, active_set: Bytes::new(), kept: vec![] };
        let (consumer, kind) = (Address::ZERO, KeyKind::Validator);
        view.apply(1, Fact::KeyRequested { key_id: 9, consumer, kind, threshold: 3, members: 4, draw, block: 1 });
        let ceremony = Ceremony { committee: vec![1, 3, 4, 5], deadline: 99, begun_in: 2 };
        view.apply(2, Fact::CommitteeDrawn { key_id: 9, attempt: 0, ceremony });
        let (kept, draw) = (vec![1, 4, 5, 6], None);
        view.apply(
            3,
            Fact::CeremonyRestarted { key_id: 9, attempt: 1, kept: kept.clone(), draw, deadline: 9, block: 3 },
        );
        assert_eq!(view.drawn, [((9, 0), vec![1, 3, 4, 5]), ((9, 1), kept)].into());
        assert_eq!(stage(&view, &one), Stage::Open, "the attempt is over, and what was said in it stays said");
    }

    #[test]
    fn nobody_pays_for_a_proof_against_a_server_that_has_nothing_left() {
        let (mut view, one) = (all_drawn(), case(1, 9, 3));
        view.apply(1, Fact::ServerRegistered { id: 3, server: Server::active("") });
        view.apply(1, Fact::BondChanged { id: 3, bond: U256::from(5) });
        let planned = |view: &View| plan(view, &clock(10), std::slice::from_ref(&one));
        assert_eq!(planned(&view), [commit(&one)]);
        // Slashed to the last wei, by what somebody proved of another key.
        let other = case(2, 10, 3);
        view.apply(2, upheld(&other, RIVAL, true));
        assert_eq!(planned(&view), [commit(&one)], "something is left");
        view.apply(2, Fact::Slashed { id: 3, amount: U256::from(5) });
        assert_eq!((planned(&view), stage(&view, &one)), (vec![], Stage::Spared));
        assert!(!is_hopeless(&view, &one), "it is kept");
        // It pays again: what it did is proven.
        let mut paid = view.clone();
        paid.apply(3, Fact::BondChanged { id: 3, bond: U256::from(7) });
        assert_eq!(planned(&paid), [commit(&one)]);
        // It left with its bond; and one that is counted on is locked out, whatever it has.
        let mut left = all_drawn();
        left.apply(1, Fact::BondChanged { id: 3, bond: U256::ZERO });
        assert_eq!(planned(&left), []);
        left.servers = paid.servers.clone();
        left.servers.get_mut(&3).unwrap().locked_out = false;
        assert_eq!(planned(&left), [commit(&one)]);
        left.apply(3, Fact::StatusChanged { id: 3, status: ServerStatus::Left });
        assert_eq!(planned(&left), []);
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
            let mut view = all_drawn();
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
        for view in [of_size(4, 5), of_size(3, 5), all_drawn()] {
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
            let mut view = all_drawn();
            let draw = PendingDraw { seed_block: 9, active_set: Bytes::new(), kept: vec![] };
            let (consumer, threshold, members) = (Address::ZERO, 3, 4);
            view.apply(1, Fact::KeyRequested { key_id: 9, consumer, kind, threshold, members, draw, block: 1 });
            let live = LiveKey {
                committee: vec![1, 3, 4, 5],
                signers: vec![Address::ZERO; 4],
                points: Bytes::new(),
                dealings_digest: B256::ZERO,
                leaves_root: root_of(&one.verified),
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
        let kept = (3..100).filter(|second| store.keep_evidence(3, &case(0, 9, *second).file).unwrap()).count();
        assert_eq!(kept, MOST_OF_A_GROUP);
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
        let kept = (3..100).filter(|second| store.keep_evidence(3, &case(0, 9, *second).file).unwrap()).count();
        assert_eq!(kept, MOST_OF_A_GROUP);
        let (mut cases, mut view) = (Cases::default(), all_drawn());
        cases.read_on(&store, US).unwrap();
        let first = cases.all()[0].clone();
        view.apply(1, upheld(&first, US, true));
        assert_eq!(plan(&view, &clock(10), cases.all()), [], "one was charged, the others are spared");
        view.apply(2, Fact::ServerReinstated { id: 3 });
        let again = case(0, 9, 200);
        assert!(store.has_enough(3, &again.file.proof).unwrap(), "of the term that is over");
        store.set_charges(charges(&view, &cases));
        assert!(!store.has_enough(3, &again.file.proof).unwrap());
        assert!(store.keep_evidence(3, &again.file).unwrap());
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
        // The one on record takes nobody's place, so that one more would fit in any case: of the new term as many are kept as of the old.
        let more = (201..=255).filter(|second| store.keep_evidence(3, &case(0, 9, *second).file).unwrap()).count();
        assert_eq!(more, MOST_OF_A_GROUP - 1);
    }

    #[test]
    fn a_rival_with_the_same_evidence_ends_the_case_and_takes_our_proof_out_of_the_way() {
        let (mut view, one) = (all_drawn(), case(1, 9, 3));
        view.apply(1, Fact::EvidenceCommitted { commitment: one.commitment, block: 11 });
        view.apply(2, upheld(&one, RIVAL, true));
        let cases = [one.clone()];
        assert_eq!(plan(&view, &clock(20), &cases), []);
        assert_eq!(lost_races(&view, &cases, US), [prove_step(one.server_id, one.verified.evidence)]);
        // A rival's commitment is not ours.
        let mut view = all_drawn();
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
        let mut view = all_drawn();
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
        let mut view = all_drawn();
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
        let proof = DutiesProof { first: vote(slots.0, 1), second: vote(slots.1, 2), holder, later_holder: None };
        EvidenceFile::new(&DOMAIN, Address::repeat_byte(9), Proof::ConflictingDuties(proof))
    }

    /// The Court goes by the later slot of what was signed, whenever it came to light.
    #[test]
    fn evidence_with_a_slot_is_reported_if_that_is_not_before_the_reinstatement() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("relayer.sqlite"), &SCHEMA).unwrap();
        let store = Store::new(Arc::new(database));
        let mut view = all_drawn();
        // It came before the relayer saw the reinstatement, and is of the slot that begins with it.
        assert!(store.keep_evidence(3, &conflict((40, 64))).unwrap());
        view.apply(GENESIS + 64 * SECONDS_PER_SLOT, Fact::ServerReinstated { id: 3 });
        let (consumer, committee) = (Address::ZERO, vec![1, 3]);
        let draw = PendingDraw { seed_block: 9, active_set: Bytes::new(), kept: vec![] };
        let (kind, threshold, members) = (KeyKind::Validator, 2, 2);
        view.apply(1, Fact::KeyRequested { key_id: 9, consumer, kind, threshold, members, draw, block: 1 });
        let ceremony = Ceremony { committee: committee.clone(), deadline: 500, begun_in: 3 };
        view.apply(2, Fact::CommitteeDrawn { key_id: 9, attempt: 0, ceremony });
        let live = live(committee);
        view.apply(3, Fact::KeyFinalised { key_id: 9, live });
        store.set_charges(Charges { genesis_time: GENESIS, ..charges(&view, &Cases::default()) });
        assert!(store.keep_evidence(3, &conflict((63, 40))).unwrap());
        let mut cases = Cases::new(GENESIS);
        cases.read_on(&store, US).unwrap();
        let stages: Vec<Stage> = cases.all().iter().map(|case| stage(&view, case)).collect();
        assert_eq!(stages, [Stage::Open, Stage::Spared]);
    }

    const GENESIS: u64 = 1_000;

    /// What the leaf of an accused holder leads to.
    fn root_of(verified: &Verified) -> B256 {
        let Accused::Holder { root, .. } = verified.accused else { panic!("{verified:?}") };
        root
    }

    /// A committee of two in which server 3 holds the share of [`conflict`] and [`unordered`].
    fn live(committee: Vec<u32>) -> LiveKey {
        let (points, dealings_digest) = (Bytes::from(vec![7; 384]), B256::ZERO);
        let leaves_root = root_of(&conflict((1, 1)).verify().unwrap());
        LiveKey { committee, signers: vec![US, RIVAL], points, dealings_digest, leaves_root }
    }

    /// A store, and key 9 Live with server 3 in its committees.
    fn desk() -> (Store, tempfile::TempDir, View) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("relayer.sqlite"), &SCHEMA).unwrap();
        let mut view = all_drawn();
        let (consumer, committee) = (Address::ZERO, vec![1, 3]);
        let draw = PendingDraw { seed_block: 9, active_set: Bytes::new(), kept: vec![] };
        let (kind, threshold, members) = (KeyKind::Validator, 2, 2);
        view.apply(1, Fact::KeyRequested { key_id: 9, consumer, kind, threshold, members, draw, block: 1 });
        let live = live(committee);
        view.apply(3, Fact::KeyFinalised { key_id: 9, live });
        (Store::new(Arc::new(database)), folder, view)
    }

    fn kept(store: &Store, files: impl IntoIterator<Item = EvidenceFile>) -> usize {
        let kept = files.into_iter().filter(|file| store.keep_evidence(file_server(file), file).unwrap());
        kept.count()
    }

    fn file_server(file: &EvidenceFile) -> u32 {
        crate::charges::claimed(&file.proof).unwrap()
    }

    /// A signature over `root`, which nobody ordered, for the `slot`: deposits (kind 1) have none, so it makes files differ.
    fn unordered(root: u8, slot: u64) -> EvidenceFile {
        let signer = SignerKey::from_bytes(&[3; 32]).unwrap();
        let mut envelope = SignedEnvelope {
            key_id: 9,
            committee_epoch: 0,
            index: ShareIndex::new(2).unwrap(),
            duty_kind: 1,
            slot,
            source_epoch: 0,
            target_epoch: 0,
            signing_root: B256::repeat_byte(root),
            partial_hash: B256::ZERO,
            signature: [0; 65],
        };
        envelope.signature = signer.sign_digest(envelope.digest(&DOMAIN));
        let holder = Holder { server_id: 3, signer: signer.address(), share_key: [1; 128], proof: Vec::new() };
        let proof = Proof::UnauthorisedSignature(EnvelopeProof { envelope, holder });
        EvidenceFile::new(&DOMAIN, Address::repeat_byte(9), proof)
    }

    /// Whoever wants to shield a server hands in what the Court only records any more, before what it would charge is found.
    #[test]
    fn what_is_settled_by_its_slot_hides_nothing_that_came_after_the_reinstatement() {
        let (store, _folder, mut view) = desk();
        view.apply(GENESIS + 64 * SECONDS_PER_SLOT, Fact::ServerReinstated { id: 3 });
        store.set_charges(Charges { genesis_time: GENESIS, ..charges(&view, &Cases::default()) });
        assert_eq!(kept(&store, (1..64).map(|slot| conflict((slot, slot)))), MOST_OF_A_GROUP, "and no more of them");
        let now = conflict((64, 40));
        assert!(!store.has_enough(3, &now.proof).unwrap());
        assert_eq!(kept(&store, [now]), 1);
        let mut cases = Cases::new(GENESIS);
        cases.read_on(&store, US).unwrap();
        assert_eq!(plan(&view, &clock(20), cases.all()), [commit(cases.all().last().unwrap())]);
        assert_eq!(kept(&store, (65..200).map(|slot| conflict((slot, slot)))), MOST_OF_A_GROUP - 1);
    }

    /// An owner has its key imported and nobody asked for it; its servers answer for what they sign all the same.
    #[test]
    fn a_fault_with_a_dealt_key_is_reported_until_its_seats_are_free_and_only_with_the_key_that_it_was_done_with() {
        let imported = |live| {
            let mut view = all_drawn();
            view.apply(1, Fact::DealtKeyImported { key_id: 9, threshold: 2, block: 1 });
            view.apply(1, Fact::KeyFinalised { key_id: 9, live });
            view
        };
        let file = conflict((40, 40));
        let verified = file.verify().unwrap();
        let (commitment, time) = (verified.commitment(US), Some(GENESIS + 40 * SECONDS_PER_SLOT));
        let one = Case { id: 1, server_id: 3, commitment, file, verified, term: 0, time };
        let cases = [one.clone()];

        let mut view = imported(live(vec![1, 3]));
        assert_eq!(plan(&view, &clock(10), &cases), [commit(&one)]);
        view.apply(2, Fact::EvidenceCommitted { commitment, block: 11 });
        assert_eq!(plan(&view, &clock(14), &cases), [prove(&one)]);
        view.apply(3, Fact::KeyRetired { key_id: 9, burned: false });
        assert_eq!(plan(&view, &clock(14), &cases), [prove(&one)]);
        view.apply(4, Fact::SeatsFreed { key_id: 9 });
        assert_eq!((stage(&view, &one), plan(&view, &clock(14), &cases)), (Stage::TooLate, vec![]));

        // A reorganisation gave the number to another key, of the same servers: the leaf leads to no root of that.
        let other = LiveKey { leaves_root: B256::repeat_byte(5), ..live(vec![1, 3]) };
        let view = imported(other);
        assert_eq!((stage(&view, &one), plan(&view, &clock(14), &cases)), (Stage::TooLate, vec![]));
        assert!(is_hopeless(&view, &one), "it hides no other fault");
    }

    #[test]
    fn another_committee_and_another_assignment_are_another_group() {
        let (store, _folder, _) = desk();
        let of_epoch = |epoch, slot| {
            let mut file = conflict((slot, slot));
            let Proof::ConflictingDuties(it) = &mut file.proof else { panic!("{file:?}") };
            (it.first.committee_epoch, it.second.committee_epoch) = (epoch, epoch);
            file
        };
        assert_eq!(kept(&store, (1..99).map(|slot| of_epoch(0, slot))), MOST_OF_A_GROUP);
        assert_eq!(kept(&store, [of_epoch(1, 99)]), 1);
        assert_eq!(kept(&store, (2..99).map(|second| provider_case(0, 1, second).file)), MOST_OF_A_GROUP);
        assert_eq!(kept(&store, [provider_case(0, 2, 2).file]), 1);
    }

    /// Who knows that an order comes signs its root early, hands that in, and has 32 files with which nothing can be proven.
    #[test]
    fn what_was_ordered_since_is_left_alone_and_hides_no_signature_that_is_not() {
        let (store, _folder, mut view) = desk();
        assert_eq!(kept(&store, (1..99).map(|slot| unordered(7, slot))), MOST_OF_A_GROUP);
        let mut cases = Cases::new(GENESIS);
        cases.read_on(&store, US).unwrap();
        assert_eq!(plan(&view, &clock(10), cases.all()), [commit(&cases.all()[0])]);
        let order = DepositOrder {
            key_id: 9,
            pubkey: Bytes::new(),
            withdrawal_credentials: B256::ZERO,
            amount_gwei: 1,
            signing_root: B256::repeat_byte(7),
            block: 12,
        };
        let pool = Pool {
            provider: RIVAL,
            threshold: 2,
            members: 2,
            vault: Address::ZERO,
            staked: U256::ZERO,
            state: PoolState::Full,
            deadline: 0,
            key_id: Some(9),
            order: None,
            deposits_gwei: Vec::new(),
            proven: None,
            withdrawal: None,
        };
        view.apply(1, Fact::PoolOpened { pool_id: 5, pool });
        view.apply(1, Fact::DepositOrdered { pool_id: 5, order });
        assert_eq!(stage(&view, &cases.all()[0]), Stage::TooLate);
        let unauthorised = unordered(8, 0);
        assert!(store.has_enough(3, &unauthorised.proof).unwrap(), "before the store is told");
        store.set_charges(charges(&view, &cases));
        assert_eq!(kept(&store, [unauthorised]), 1);
        cases.read_on(&store, US).unwrap();
        assert_eq!(plan(&view, &clock(20), cases.all()), [commit(cases.all().last().unwrap())]);
    }

    /// Evidence without a slot counts once for ever: shown in one term it proves nothing in the next, and is handed in then.
    #[test]
    fn what_was_shown_in_another_term_hides_nothing_of_this_one() {
        let (store, _folder, mut view) = desk();
        let before: Vec<Case> = (0..32).map(|number| case(number, 9, u8::try_from(number).unwrap() + 3)).collect();
        before.iter().for_each(|case| view.apply(1, upheld(case, RIVAL, case.id == 0)));
        view.apply(2, Fact::ServerReinstated { id: 3 });
        let mut cases = Cases::new(GENESIS);
        store.set_charges(charges(&view, &cases));
        assert!(before.iter().all(|case| store.keep_evidence(3, &case.file).unwrap()));
        cases.read_on(&store, US).unwrap();
        store.set_charges(charges(&view, &cases));
        let again = case(0, 9, 200);
        assert!(store.keep_evidence(3, &again.file).unwrap());
        cases.read_on(&store, US).unwrap();
        assert_eq!(plan(&view, &clock(20), cases.all()), [commit(&again)]);
        // Once that is charged nothing of the group would be, and it grows no further.
        view.apply(3, upheld(&again, US, true));
        store.set_charges(charges(&view, &cases));
        assert!(store.has_enough(3, &case(0, 9, 201).file.proof).unwrap());
    }

    /// The leaf of each committee has to lead to a root that the chain has.
    #[test]
    fn duties_of_two_committees_are_reported_while_the_chain_has_both() {
        let mut file = conflict((40, 40));
        let Proof::ConflictingDuties(it) = &mut file.proof else { panic!("{file:?}") };
        it.second.committee_epoch = 1;
        it.second.signature = SignerKey::from_bytes(&[3; 32]).unwrap().sign_digest(it.second.digest(&DOMAIN));
        it.later_holder = Some(Box::new(Holder { share_key: [2; 128], ..it.holder.clone() }));
        let verified = file.verify().unwrap();
        let one =
            Case { id: 1, server_id: 3, commitment: verified.commitment(US), file, verified, term: 0, time: None };
        let with = |leaves_root| {
            let mut view = all_drawn();
            view.apply(1, Fact::DealtKeyImported { key_id: 9, threshold: 2, block: 1 });
            view.apply(1, Fact::KeyFinalised { key_id: 9, live: live(vec![1, 3]) });
            let id = ReshareId { key_id: 9, committee_epoch: 1, attempt: 0 };
            let draft = Draft { seats: vec![1, 3], fresh: 0, dealers: 3, activeSetHash: B256::ZERO };
            let stage = reshares::Stage::Drawn { deadline: 4, handover: 5, begun_in: 2 };
            let drawn = ReshareFact::Moved { id, threshold: Some(2), draft, stage };
            let made = ReshareFact::Made { id, live: LiveKey { leaves_root, ..live(vec![1, 3]) }, handover: 5 };
            for fact in [drawn, made] {
                view.apply(2, Fact::Reshare { key_id: 9, fact });
            }
            view
        };
        assert_eq!(stage(&with(root_of(&verified)), &one), Stage::Open);
        assert_eq!(stage(&with(B256::repeat_byte(5)), &one), Stage::TooLate, "the later seat");
        let stale = Case { verified: Verified { earlier_seat: Some((0, B256::ZERO)), ..verified }, ..one };
        assert_eq!(stage(&with(root_of(&verified)), &stale), Stage::TooLate, "the earlier seat");
    }

    /// The day of a reinstatement is known before: what is signed for the epoch after it, and shown before, was only recorded.
    #[test]
    fn what_was_signed_in_advance_and_shown_before_the_reinstatement_is_shown_again() {
        let (store, _folder, mut view) = desk();
        assert_eq!(kept(&store, [conflict((70, 70))]), 1);
        let mut cases = Cases::new(GENESIS);
        cases.read_on(&store, US).unwrap();
        let one = cases.all()[0].clone();
        view.apply(1, upheld(&one, RIVAL, false));
        assert_eq!(stage(&view, &one), Stage::Open, "nothing was charged: it is charged if it is shown again");
        view.apply(2, upheld(&Case { file: conflict((40, 40)), ..one.clone() }, RIVAL, true));
        assert_eq!(stage(&view, &one), Stage::OnRecord);
        view.apply(GENESIS + 64 * SECONDS_PER_SLOT, Fact::ServerReinstated { id: 3 });
        assert_eq!((stage(&view, &one), plan(&view, &clock(20), &cases.all)), (Stage::Open, vec![commit(&one)]));
        assert_eq!(lost_races(&view, &cases.all, US), [""; 0], "or the new report would be given up as well");
        view.apply(3, upheld(&one, US, true));
        assert_eq!(stage(&view, &one), Stage::OnRecord);
    }

    /// A slot of the far future would be after every reinstatement still to come. The Court takes it for none.
    #[test]
    fn a_slot_of_the_far_future_dates_nothing() {
        let (store, _folder, mut view) = desk();
        let now = GENESIS + 64 * SECONDS_PER_SLOT;
        store.set_charges(Charges { genesis_time: GENESIS, now, ..Charges::default() });
        assert_eq!(kept(&store, [conflict((96, 1)), conflict((97, 1)), conflict((u64::MAX, 1))]), 3);
        view.apply(now, Fact::ServerReinstated { id: 3 });
        let mut cases = Cases::new(GENESIS);
        cases.read_on(&store, US).unwrap();
        let stages: Vec<Stage> = cases.all().iter().map(|case| stage(&view, case)).collect();
        assert_eq!(stages, [Stage::Open, Stage::Spared, Stage::Spared]);
    }

    /// A reinstated server that answers challenges with wrong partials would write a slot of before beside them.
    #[test]
    fn no_slot_dates_what_the_chain_orders() {
        let charges = Charges { genesis_time: GENESIS, now: GENESIS + 64 * SECONDS_PER_SLOT, ..Charges::default() };
        let Proof::UnauthorisedSignature(EnvelopeProof { envelope, holder }) = unordered(1, 7).proof else { panic!() };
        let partial = |envelope| PartialProof { envelope, holder: holder.clone(), partial: vec![1; 256] };
        let of = |kind| {
            let envelope = SignedEnvelope { duty_kind: kind, ..envelope.clone() };
            [Proof::InvalidPartial(partial(envelope.clone())), Proof::GarbagePartial(partial(envelope))]
        };
        for kind in [DutyKind::Deposit, DutyKind::VoluntaryExit, DutyKind::BlsToExecutionChange] {
            assert_eq!(of(kind as u8).each_ref().map(|it| charges.slot_of(it)), [0, 0], "{kind:?}");
        }
        assert_eq!(of(DutyKind::Attestation as u8).each_ref().map(|it| charges.slot_of(it)), [7, 7]);
    }

    #[test]
    fn a_case_that_the_court_refuses_is_tried_again_and_holds_up_no_other_of_its_group() {
        let (one, two, three) = (case(1, 9, 3), case(2, 9, 4), case(3, 9, 5));
        let (cases, step) = ([one.clone(), two.clone(), three], commit(&one).step());
        let planned = super::plan(&all_drawn(), &clock(10), &cases, |refused| refused == step);
        assert_eq!(planned, [commit(&one), commit(&two)]);
    }

    #[test]
    fn a_database_from_before_there_were_groups_is_read_and_loses_only_what_was_never_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("relayer.sqlite");
        let without = SCHEMA.migrations.iter().position(|it| *it == crate::store::GROUPS).unwrap();
        let before = Schema { migrations: &SCHEMA.migrations[..without], ..SCHEMA };
        let database = Database::open(&file, &before).unwrap();
        let insert = |number: u32, server_id: u32, file: &EvidenceFile| {
            let (kind, body) = (file.proof.fault().name(), serde_json::to_string(file).unwrap());
            let digest = alloy::primitives::keccak256(number.to_be_bytes());
            let row = "INSERT INTO evidence (digest, key_id, server_id, kind, body) VALUES (?1, 9, ?2, ?3, ?4)";
            database.lock().execute(row, rusqlite::params![digest.as_slice(), server_id, kind, body]).unwrap();
        };
        (1..=100).for_each(|slot| insert(slot, 3, &conflict((slot.into(), 1))));
        insert(101, PROVIDER, &provider_case(0, 6, 2).file);
        drop(database);
        let store = Store::new(Arc::new(Database::open(&file, &SCHEMA).unwrap()));
        let rows = store.evidence(0, 1_000).unwrap();
        let slots: Vec<u64> = rows.iter().map(|row| row.slot).collect();
        assert_eq!(slots, (1..=32).chain(69..=100).chain([0]).collect::<Vec<_>>());
        let part = store.has_enough(PROVIDER, &provider_case(0, 6, 3).file.proof);
        assert!(!part.unwrap() && store.has_enough(3, &conflict((101, 1)).proof).unwrap());
        assert_eq!(kept(&store, (3..99).map(|second| provider_case(0, 6, second).file)), MOST_OF_A_GROUP - 1);
    }

    /// Eight bytes of a hash can be ground: the second case would be taken for the first, and never be reported.
    #[test]
    fn of_two_cases_whose_evidence_begins_alike_each_has_steps_of_its_own() {
        let mut alike = B256::repeat_byte(1);
        alike.0[8] = 2;
        let steps = |evidence| [commit_step(3, evidence), prove_step(3, evidence)];
        let [one, two] = [steps(B256::repeat_byte(1)), steps(alike)];
        assert!(one[0] != two[0] && one[1] != two[1], "{one:?} {two:?}");
    }

    #[test]
    fn transactions_under_way_are_found_under_the_names_that_their_steps_had() {
        let one = case(1, 9, 3);
        let evidence = hex::encode(one.verified.evidence);
        for ((before, now), action) in renamed(&one, US).into_iter().zip([commit(&one), prove(&one)]) {
            assert!(now.starts_with(&format!("{}/", action.step())), "{now}");
            assert_eq!(before, now.replace(&evidence, &evidence[..16]));
        }
    }
}
