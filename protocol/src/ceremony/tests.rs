//! Ceremonies of honest members, and of every adversary the docs promise to survive.

use alloy_primitives::U256;
use proptest::prelude::*;
use stkr_core::{PublicKey, dkg, interpolate, verify};

use super::*;
use crate::{
    SignerKey,
    api::{AdvanceResponse, FailureReport},
    evidence::{Accused, EvidenceFile, MessagesProof, Proof},
    messages::{AcknowledgementBody, Body, CommitmentSetBody, DealingBody, DealingCommitmentBody, OneTimeKeyBody},
};

mod lossy;

const T: u8 = 3;
const N: u8 = 4;

fn index(index: u8) -> ShareIndex {
    ShareIndex::new(index).unwrap()
}

fn signer(index: u8) -> SignerKey {
    SignerKey::from_bytes(&keccak256([b's', index]).0).unwrap()
}

fn secret(index: u8) -> dkg::OneTimeSecret {
    dkg::OneTimeSecret::from_bytes(&keccak256([b'o', index]).0).unwrap()
}

fn domain() -> ProtocolDomain {
    ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(0x42) }
}

fn members() -> Vec<MemberId> {
    (1..=N).map(|i| MemberId { server_id: 100 + u32::from(i), signer: signer(i).address() }).collect()
}

fn context_of(domain: ProtocolDomain, key_id: u64, attempt: u16) -> Context {
    Context::new(domain, key_id, attempt, Threshold::new(T, N).unwrap(), members()).unwrap()
}

fn context() -> Context {
    context_of(domain(), 7, 1)
}

fn say(i: u8, body: Body) -> SignedMessage {
    SignedMessage::sign(&domain(), &signer(i), (7, 1, index(i)), body)
}

/// A server: a member and what its database holds.
struct Server {
    member: Member,
    key: SignerKey,
    stored_secret: Option<dkg::OneTimeSecret>,
    stored: Vec<SignedMessage>,
    outcome: Option<dkg::Outcome>,
}

impl Server {
    fn new(i: u8) -> Self {
        Self {
            member: Member::start(context(), index(i), secret(i)),
            key: signer(i),
            stored_secret: Some(secret(i)),
            stored: Vec::new(),
            outcome: None,
        }
    }

    fn try_step(&mut self) -> Step {
        self.member.step(&self.key).unwrap()
    }

    fn store(&mut self, step: Step) {
        self.stored.extend(step.new_messages);
        if let Some(outcome) = step.outcome {
            assert!(self.outcome.replace(outcome).is_none(), "one outcome per ceremony");
            self.stored_secret = None;
        }
    }

    fn step(&mut self) {
        let step = self.try_step();
        self.store(step);
    }

    fn take(&mut self, messages: impl IntoIterator<Item = SignedMessage>) {
        for message in messages {
            match self.member.accept(message.clone()) {
                Ok(Accepted::New | Accepted::Evidence) => self.stored.push(message),
                Ok(Accepted::Known) | Err(_) => {}
            }
        }
    }

    /// What the HTTP handler does: take all, step once, answer.
    fn advance(&mut self, messages: impl IntoIterator<Item = SignedMessage>) -> Vec<SignedMessage> {
        self.take(messages);
        self.step();
        self.member.published().into_iter().cloned().collect()
    }

    fn crash(&mut self) {
        let secret =
            self.stored_secret.as_ref().map(|secret| dkg::OneTimeSecret::from_bytes(&secret.to_bytes()).unwrap());
        self.member = Member::resume(context(), self.member.me(), secret, self.stored.clone()).unwrap();
    }

    fn failure(&self) -> &Failure {
        self.member.failure().unwrap()
    }

    fn culprit(&self) -> u8 {
        self.failure().culprit.unwrap().get()
    }
}

fn servers() -> Vec<Server> {
    (1..=N).map(Server::new).collect()
}

/// An honest relayer: hands everybody all it has until nothing changes.
fn relay(servers: &mut [Server], board: &mut Board) {
    let mut before = usize::MAX;
    while before != board.messages().count() {
        before = board.messages().count();
        for server in &mut *servers {
            let all: Vec<_> = board.messages().cloned().collect();
            for message in server.advance(all) {
                board.accept(message).unwrap();
            }
        }
    }
}

/// Runs honest members up to the end of `round`, and no further.
fn run_until(servers: &mut [Server], round: Round) -> Vec<SignedMessage> {
    let mut all: Vec<SignedMessage> = Vec::new();
    while all.iter().filter(|message| message.round() == round).count() < servers.len() {
        let published: Vec<_> = servers.iter_mut().flat_map(|server| server.advance(all.clone())).collect();
        all = published.into_iter().filter(|message| message.round() <= round).collect();
    }
    all
}

/// A dealing of member `i` made with `secret`, encrypted to the members' honest keys.
fn deal(i: u8, own: &dkg::OneTimeSecret, ceremony: &Context) -> DealingBody {
    let keys: Vec<_> = (1..=N).map(|j| if j == i { own.public_key() } else { secret(j).public_key() }).collect();
    let dealing = dkg::deal(&ceremony.ceremony_domain(), ceremony.threshold(), index(i), own, &keys).unwrap();
    let published: Vec<_> = (1..=N).map(|j| secret(j).public_key()).collect();
    DealingBody {
        one_time_keys_hash: keccak256(published.as_flattened()),
        one_time_key: dealing.one_time_key.to_vec(),
        commitments: dealing.commitments_to_wire(),
        proof_of_possession: dealing.proof_of_possession.to_eip2537().to_vec(),
        shares: dealing.shares_to_wire(),
    }
}

/// A ceremony in which member 4 is played by the test with a dealing of its own making.
struct Rigged {
    honest: Vec<Server>,
    dealing: SignedMessage,
    /// All that was ever handed on.
    shown: Vec<SignedMessage>,
}

impl Rigged {
    /// Everything goes by the book up to the reveal, except what the dealing says.
    fn run(change: impl FnOnce(&mut DealingBody)) -> Self {
        let mut body = deal(4, &secret(4), &context());
        change(&mut body);
        let dealing = say(4, Body::Dealing(body));
        let mut honest: Vec<_> = (1..N).map(Server::new).collect();
        let key = say(4, Body::OneTimeKey(OneTimeKeyBody { public_key: secret(4).public_key().to_vec() }));
        let commitment =
            say(4, Body::DealingCommitment(DealingCommitmentBody { dealing_hash: dealing.digest(&domain()) }));
        let mut board = Board::new(context());
        for message in [key, commitment] {
            board.accept(message).unwrap();
        }
        relay(&mut honest, &mut board);
        let set = say(4, Body::CommitmentSet(board.commitment_set().unwrap()));
        board.accept(set).unwrap();
        relay(&mut honest, &mut board);
        board.accept(dealing.clone()).unwrap();
        relay(&mut honest, &mut board);
        let shown = board.messages().cloned().collect();
        Self { honest, dealing, shown }
    }

    /// Members for which there is a fault have no key, blame member 4 for it and keep its dealing.
    fn blames(&self, fault: &dyn Fn(u8) -> Option<DealingFault>) {
        for server in &self.honest {
            let me = server.member.me().get();
            assert_eq!(server.outcome.is_some(), fault(me).is_none(), "member {me}");
            if let Some(fault) = fault(me) {
                assert_eq!(server.failure().fault, Fault::Dealing(fault), "member {me}");
                assert_eq!(server.culprit(), 4);
                assert_eq!(server.failure().evidence, std::slice::from_ref(&self.dealing));
                assert!(server.failure().reason().contains("member 4 made a bad dealing"));
            }
        }
    }
}

#[test]
fn four_honest_members_reach_one_transcript_and_a_key_that_signs() {
    let mut servers = servers();
    let mut board = Board::new(context());
    relay(&mut servers, &mut board);

    let transcript = Transcript::assemble(&board).unwrap();
    assert_signs(&servers, &transcript);

    // Anybody: the keys from the dealings alone, and the transcript from what finalise takes.
    let dealings = board.messages().filter(|message| message.round() == Round::Dealing).cloned();
    let (keys, digest) = recompute_keys(context(), dealings).unwrap();
    assert_eq!((points(&keys), digest), (transcript.points(), transcript.dealings_digest()));
    let again =
        Transcript::from_parts(context(), &transcript.points(), digest, &transcript.acknowledgements()).unwrap();
    assert_eq!(again.keys().group_key(), transcript.keys().group_key());
}

/// All members acknowledged this transcript and forgot their one-time secrets, and any t of them sign with its key.
fn assert_signs(servers: &[Server], transcript: &Transcript) {
    let message = [9; 32];
    let mut partials = Vec::new();
    for server in servers {
        assert_eq!(server.member.phase(), Phase::Acknowledged);
        assert!(server.member.waiting_for().is_empty() && server.member.failure().is_none());
        assert!(server.member.secret.is_none(), "the one-time secret is erased");
        let outcome = server.outcome.as_ref().unwrap();
        assert_eq!(points(&outcome.keys), transcript.points());
        partials.push(outcome.share.sign(&message));
    }
    let group_key = transcript.keys().group_key();
    for chosen in [[0, 1, 2], [1, 2, 3], [0, 1, 3], [0, 2, 3]] {
        let chosen = chosen.map(|at: usize| partials[at]);
        let signature = interpolate(Threshold::new(T, N).unwrap(), &chosen).unwrap();
        assert!(verify(&group_key, &message, &signature));
    }
}

#[test]
fn nobody_reveals_before_all_members_signed_the_same_set() {
    let mut servers = servers();
    let revealed = |server: &Server| server.member.published().iter().any(|m| m.round() == Round::Dealing);
    let mut messages = run_until(&mut servers, Round::CommitmentSet);
    let last = messages.iter().position(|m| m.round() == Round::CommitmentSet && m.index == index(4)).unwrap();
    let last = messages.remove(last);

    let server = &mut servers[0];
    server.advance(messages);
    // The dealing is in its database and on its board since round 2.
    assert!(server.stored.iter().any(|m| m.round() == Round::Dealing && m.index == index(1)));
    assert!(!revealed(server));
    assert_eq!(server.member.waiting_for(), [index(4)]);
    server.crash();
    assert!(!revealed(server), "a restart reveals nothing either");
    server.advance([last]);
    assert!(revealed(server));
}

/// The same dealings among other members, or under another signer of one of them, would be acknowledged as something else.
#[test]
fn a_set_signed_for_another_committee_is_no_agreement() {
    let mut servers = servers();
    let mut messages = run_until(&mut servers, Round::CommitmentSet);
    messages.retain(|message| message.round() != Round::CommitmentSet || message.index != index(4));
    let ours = servers[0].member.board.commitment_set().unwrap();
    let set = |committee_hash| say(4, Body::CommitmentSet(CommitmentSetBody { committee_hash, ..ours }));
    let said = servers[0].advance(messages.into_iter().chain([set(B256::repeat_byte(1))]));
    assert!(said.iter().all(|message| message.round() != Round::Dealing));
    assert_eq!((servers[0].member.failure(), servers[0].member.waiting_for()), (None, vec![index(4)]));
    let said = servers[0].advance([set(ours.committee_hash)]);
    assert!(said.iter().any(|message| message.round() == Round::Dealing), "it goes on with the one that agrees");
}

/// The first member has revealed its dealing and lacks nothing but that of the fourth. With all that was shown.
fn lacks_one_dealing() -> (Server, Vec<SignedMessage>) {
    let mut servers = servers();
    let shown = run_until(&mut servers, Round::Dealing);
    let mut server = servers.swap_remove(0);
    let last = |message: &SignedMessage| message.round() == Round::Dealing && message.index == index(4);
    let said = server.advance(shown.iter().filter(|message| !last(message)).cloned());
    assert!(said.iter().any(|message| message.round() == Round::Dealing));
    assert_eq!((server.member.failure(), server.member.waiting_for()), (None, vec![index(4)]));
    (server, shown)
}

/// What `i` signs as a member of another committee: a set that says the same, and an acknowledgement.
fn of_another_committee(i: u8, server: &Server) -> [SignedMessage; 2] {
    let committee_hash = B256::repeat_byte(1);
    let set = CommitmentSetBody { committee_hash, ..server.member.board.commitment_set().unwrap() };
    [say(i, Body::CommitmentSet(set)), acknowledgement(i, committee_hash, 1)]
}

fn acknowledgement(i: u8, committee_hash: B256, points: u8) -> SignedMessage {
    let (points_hash, dealings_digest) = (B256::repeat_byte(points), B256::ZERO);
    say(i, Body::Acknowledgement(AcknowledgementBody { threshold: T, points_hash, committee_hash, dealings_digest }))
}

/// Or one member makes all others stop for what no Court takes for an answer, and has them slashed for their silence. Of its own, too:
/// after a reorganisation an honest server has said such things itself.
#[test]
fn what_a_member_signed_for_another_committee_stops_nobody_whoever_shows_it() {
    for i in [4, 1] {
        let (mut server, shown) = lacks_one_dealing();
        for message in of_another_committee(i, &server) {
            let refused = server.member.accept(message);
            assert!(matches!(refused, Err(Rejected::OtherCommittee { .. })), "{refused:?}");
        }
        server.advance(of_another_committee(i, &server));
        assert_eq!(server.member.failure(), None);
        let said = server.advance(shown);
        assert!(said.iter().any(|message| message.round() == Round::Acknowledgement), "member {i}");
        assert!(server.outcome.is_some());
    }
}

#[test]
fn stored_messages_of_another_committee_count_for_nothing_after_a_restart() {
    let (mut server, shown) = lacks_one_dealing();
    // As versions stored them that took them for a second set, and for a first acknowledgement.
    server.stored.extend(of_another_committee(4, &server));
    server.crash();
    assert_eq!(server.member.failure(), None);
    server.advance(shown);
    assert_eq!(server.member.phase(), Phase::Acknowledged);
}

/// What the chain says to a member that gives no acknowledgement.
#[derive(Debug, PartialEq)]
enum Silence {
    /// `challengeAcknowledgement` refuses: not all dealings were shown, or they are not those of its set, or of another form.
    CannotBeAsked,
    /// It gave the acknowledgement, or one of the three reasons is in what it tells.
    Answered,
    /// Nobody has an answer for it.
    Slashed,
}

fn silence(server: &Server, shown: &[SignedMessage]) -> Silence {
    let me = server.member.me();
    if !can_be_asked(me, shown) {
        return Silence::CannotBeAsked;
    }
    // Somebody that has nothing but what this server tells.
    let mut board = Board::new(context());
    for message in server.member.told() {
        board.accept(message.clone()).unwrap();
    }
    let acknowledged = board.message(Round::Acknowledgement, me).is_some();
    let complaint = server.member.complaint().cloned().map(Proof::BadDealing);
    // Of each one that there is, the Court takes every one.
    let pairs = context().threshold().indices().filter_map(|it| board.equivocation_of(it).cloned());
    let pairs = pairs.map(|it| Proof::CeremonyEquivocation(MessagesProof { first: it.first, second: it.second }));
    let proofs: Vec<Proof> = complaint.into_iter().chain(board.fault()).chain(pairs).collect();
    let is_taken = |proof: &Proof| {
        let file = EvidenceFile::new(&domain(), Address::ZERO, proof.clone());
        match file.verify().map(|it| it.accused) {
            Ok(Accused::Signer(by) | Accused::Dealer { signer: by, threshold: T, members: N }) => {
                context().index_of(by).is_some_and(|culprit| culprit != me)
            }
            _ => false,
        }
    };
    let answered = acknowledged || (!proofs.is_empty() && proofs.iter().all(is_taken));
    if answered { Silence::Answered } else { Silence::Slashed }
}

/// Whether `Acknowledgements.challengeAcknowledgement` takes dealings among these.
fn can_be_asked(me: ShareIndex, shown: &[SignedMessage]) -> bool {
    let set = shown.iter().find_map(|it| match it.body {
        Body::CommitmentSet(set) if it.index == me => Some(set),
        _ => None,
    });
    let dealings = |i: u8| shown.iter().filter(move |it| it.round() == Round::Dealing && it.index == index(i));
    dealings(4).any(|last| {
        let all: Vec<_> = (1..N).filter_map(|i| dealings(i).next()).chain([last]).collect();
        let commitments_hash = hash_of_hashes(all.iter().map(|it| it.digest(&domain())));
        let bodies: Vec<&DealingBody> = all
            .iter()
            .map(|it| match &it.body {
                Body::Dealing(body) => body,
                _ => unreachable!(),
            })
            .collect();
        let lengths = |it: &&DealingBody| {
            (it.one_time_key.len(), it.commitments.len(), it.proof_of_possession.len(), it.shares.len())
                == (33, usize::from(T) * 128, 256, usize::from(N) * 32)
        };
        set == Some(CommitmentSetBody { committee_hash: context().committee_hash(), commitments_hash })
            && bodies.iter().all(lengths)
            && bodies.iter().all(|it| it.one_time_keys_hash == bodies[0].one_time_keys_hash)
    })
}

/// A word for each way in which a member stops for the messages of others.
fn way(fault: &Fault) -> Option<&'static str> {
    Some(match fault {
        Fault::Equivocation(round) => round.name(),
        Fault::OneTimeKey(_) => "a one-time key that is none",
        Fault::SetsDiffer => "another set",
        Fault::BrokenCommitment => "another dealing",
        Fault::RecipientsDiffer(_) => "other recipients",
        Fault::Dealing(fault) => match fault {
            DealingFault::CommitmentCount { .. } => "commitments",
            DealingFault::ShareCount { .. } => "shares",
            DealingFault::WireLength { .. } => "a length",
            DealingFault::Point { .. } => "a point",
            DealingFault::OneTimeKeyDiffers | DealingFault::OneTimeKey(_) => "another one-time key",
            DealingFault::ProofOfPossession => "no possession",
            DealingFault::ShareOutOfRange { .. } => "a share out of range",
            DealingFault::ShareMismatch { .. } => "a wrong share",
            // Of a reshare.
            DealingFault::AnotherSecret => return None,
        },
        Fault::AcknowledgementDiffers => "another transcript",
        // What it lost itself; and a sum at infinity, which `challengeAcknowledgement` refuses.
        Fault::LostState | Fault::NoKey(_) => return None,
    })
}

#[test]
fn whatever_stops_a_member_that_can_be_asked_is_an_answer_that_the_court_takes() {
    let mut ways = std::collections::BTreeSet::new();
    let mut judged = |server: &Server, shown: &[SignedMessage], expected| {
        let fault = &server.failure().fault;
        assert_eq!(silence(server, shown), expected, "{fault:?}");
        ways.extend(way(fault));
    };
    // Once it has revealed: two messages of every round.
    let ours = context().committee_hash();
    let set = CommitmentSetBody { committee_hash: ours, commitments_hash: B256::ZERO };
    let seconds = [
        vec![say(4, Body::OneTimeKey(OneTimeKeyBody { public_key: secret(9).public_key().to_vec() }))],
        vec![say(4, Body::DealingCommitment(DealingCommitmentBody { dealing_hash: B256::ZERO }))],
        vec![say(4, Body::CommitmentSet(set))],
        vec![acknowledgement(4, ours, 1), acknowledgement(4, ours, 2)],
    ];
    for second in seconds {
        let (mut server, shown) = lacks_one_dealing();
        server.advance(of_another_committee(4, &server).into_iter().chain(second));
        server.advance(shown.clone());
        judged(&server, &shown, Silence::Answered);
    }
    // And where the last dealing is another one than the fourth member had committed to, or comes with another one.
    let other = say(4, Body::Dealing(deal(4, &secret(4), &context())));
    let (mut server, shown) = lacks_one_dealing();
    server.advance([other.clone()]);
    judged(&server, &shown, Silence::Answered);
    let (mut server, shown) = lacks_one_dealing();
    server.advance(shown.iter().cloned().chain([other.clone()]));
    judged(&server, &shown, Silence::Answered);
    // Dealings that are none, or that cheat the first member.
    type Change = fn(&mut DealingBody);
    let changes: [(Change, Silence); 11] = [
        (|it| it.one_time_keys_hash = B256::ZERO, Silence::CannotBeAsked),
        (|it| it.commitments.truncate(256), Silence::CannotBeAsked),
        (|it| it.shares.truncate(96), Silence::CannotBeAsked),
        (|it| it.one_time_key.truncate(32), Silence::CannotBeAsked),
        (|it| it.proof_of_possession.clear(), Silence::CannotBeAsked),
        (|it| it.commitments[..128].fill(0), Silence::Answered),
        (|it| it.one_time_key.fill(5), Silence::Answered),
        (|it| it.one_time_key = secret(9).public_key().to_vec(), Silence::Answered),
        (|it| *it = deal(4, &secret(4), &context_of(domain(), 7, 0)), Silence::Answered),
        (|it| it.shares[0] ^= 0x80, Silence::Answered),
        (|it| it.shares[31] ^= 1, Silence::Answered),
    ];
    for (change, expected) in changes {
        let rigged = Rigged::run(change);
        judged(&rigged.honest[0], &rigged.shown, expected);
    }
    // Before that it shows no dealing, and without it nobody can ask.
    let mut early = Server::new(1);
    early.advance([say(4, Body::OneTimeKey(OneTimeKeyBody { public_key: vec![5; 33] }))]);
    let shown: Vec<_> = early.member.published().into_iter().cloned().collect();
    judged(&early, &shown, Silence::CannotBeAsked);
    let mut servers = servers();
    let mut shown = run_until(&mut servers, Round::CommitmentSet);
    shown.retain(|it| it.round() != Round::CommitmentSet || it.index != index(4));
    servers[0].advance(shown.iter().cloned().chain([say(4, Body::CommitmentSet(set))]));
    let theirs = servers[1..].iter().flat_map(|it| it.stored.iter().filter(|it| it.round() == Round::Dealing).cloned());
    shown.extend(theirs.chain(servers[0].member.published().into_iter().cloned()));
    judged(&servers[0], &shown, Silence::CannotBeAsked);
    // After its acknowledgement nothing takes that back.
    let (mut server, shown) = lacks_one_dealing();
    server.advance(shown.clone());
    server.advance([acknowledgement(4, ours, 1)]);
    judged(&server, &shown, Silence::Answered);
    let all: std::collections::BTreeSet<_> = Round::ALL
        .map(Round::name)
        .into_iter()
        .chain(["a one-time key that is none", "another set", "another dealing", "other recipients", "commitments"])
        .chain(["shares", "a length", "a point", "another one-time key", "no possession", "a share out of range"])
        .chain(["a wrong share", "another transcript"])
        .collect();
    assert_eq!(ways, all, "every way was gone");
}

#[test]
fn a_bulletin_that_shows_two_dealings_of_one_dealer_gets_no_key_and_both_sides_say_why() {
    // Member 4 and the relayer work together: members 1 and 2 see one commitment, member 3 another.
    let mut honest: Vec<_> = (1..N).map(Server::new).collect();
    let versions = [deal(4, &secret(4), &context()), deal(4, &secret(4), &context())].map(|d| say(4, Body::Dealing(d)));
    let commitments = versions.clone().map(|dealing| {
        say(4, Body::DealingCommitment(DealingCommitmentBody { dealing_hash: dealing.digest(&domain()) }))
    });
    let seen_by = |server: &Server| usize::from(server.member.me() == index(3));
    let key = say(4, Body::OneTimeKey(OneTimeKeyBody { public_key: secret(4).public_key().to_vec() }));
    let mut all: Vec<SignedMessage> = vec![key];
    for _ in 0..6 {
        let mut published = Vec::new();
        for server in &mut honest {
            let version = seen_by(server);
            // It even signs for each side the set that this side expects, and reveals to it what it expects.
            let mut bundle = all.clone();
            bundle.push(commitments[version].clone());
            if let Some(set) = server.member.board.commitment_set() {
                bundle.push(say(4, Body::CommitmentSet(set)));
                bundle.push(versions[version].clone());
            }
            published.extend(server.advance(bundle));
        }
        all.extend(published);
    }
    for server in &honest {
        assert!(server.outcome.is_none());
        assert_eq!(server.member.phase(), Phase::Failed);
        assert_eq!(server.failure().fault, Fault::SetsDiffer);
        assert!(server.failure().reason().contains("showed different dealings"));
        assert!(server.member.published().iter().all(|m| m.round() != Round::Dealing), "nobody revealed");
    }
    assert_eq!(honest.iter().map(Server::culprit).collect::<Vec<_>>(), [3, 3, 1]);

    // Shown the other side's messages, everybody knows who it was, and can prove it.
    for server in &mut honest {
        server.advance(commitments.clone());
        assert_eq!(server.failure().fault, Fault::Equivocation(Round::DealingCommitment));
        assert_eq!(server.culprit(), 4);
        assert_eq!(server.failure().evidence.len(), 2);
        assert!(commitments.iter().all(|commitment| server.failure().evidence.contains(commitment)));
        server.crash();
        assert_eq!(server.culprit(), 4, "a restart remembers");
    }
}

#[test]
fn a_second_different_message_in_any_round_is_kept_as_evidence_and_ends_the_ceremony() {
    for round in [Round::OneTimeKey, Round::DealingCommitment, Round::CommitmentSet] {
        let mut servers = servers();
        run_until(&mut servers, round);
        let second = match round {
            Round::OneTimeKey => Body::OneTimeKey(OneTimeKeyBody { public_key: secret(9).public_key().to_vec() }),
            Round::DealingCommitment => {
                Body::DealingCommitment(DealingCommitmentBody { dealing_hash: B256::repeat_byte(1) })
            }
            _ => Body::CommitmentSet(CommitmentSetBody {
                committee_hash: context().committee_hash(),
                commitments_hash: B256::repeat_byte(1),
            }),
        };
        let all: Vec<_> = servers.iter().flat_map(|s| s.member.published().into_iter().cloned()).collect();
        let second = say(2, second);
        let victim = &mut servers[0];
        victim.advance(all.into_iter().filter(|message| message.round() <= round));
        assert_eq!(victim.member.accept(second.clone()), Ok(Accepted::Evidence), "{round}");
        victim.step();
        assert_eq!(victim.failure().fault, Fault::Equivocation(round));
        assert_eq!((victim.culprit(), victim.failure().evidence.len()), (2, 2));
        assert_eq!(victim.failure().evidence[1], second);
        assert!(victim.outcome.is_none());
        // A third one is no news and takes no memory.
        let third = say(2, Body::OneTimeKey(OneTimeKeyBody { public_key: vec![2; 33] }));
        assert_eq!(victim.member.accept(third), Ok(Accepted::Known));
    }
}

#[test]
fn the_same_message_signed_again_with_other_randomness_is_no_equivocation() {
    let message = say(2, Body::OneTimeKey(OneTimeKeyBody { public_key: secret(2).public_key().to_vec() }));
    let digest = secp256k1::Message::from_digest(message.digest(&domain()).0);
    let key = secp256k1::SecretKey::from_byte_array(&signer(2).to_bytes()).unwrap();
    let (v, rs) =
        secp256k1::SECP256K1.sign_ecdsa_recoverable_with_noncedata(&digest, &key, &[7; 32]).serialize_compact();
    let mut again = message.clone();
    again.signature[..64].copy_from_slice(&rs);
    again.signature[64] = 27 + u8::try_from(i32::from(v)).unwrap();
    assert_ne!(again, message);

    let mut server = Server::new(1);
    assert_eq!(server.member.accept(message), Ok(Accepted::New));
    assert_eq!(server.member.accept(again), Ok(Accepted::Known));
    assert!(server.member.failure().is_none());
}

#[test]
fn a_relayer_cannot_end_a_ceremony_by_forging_messages() {
    let mut servers = servers();
    let mut board = Board::new(context());
    let body = Body::OneTimeKey(OneTimeKeyBody { public_key: secret(9).public_key().to_vec() });
    let by_another_member = SignedMessage { index: index(2), ..say(3, body.clone()) };
    let by_nobody = SignedMessage { signature: [0; 65], ..say(2, body.clone()) };
    let beyond_the_committee = SignedMessage { index: index(5), ..say(2, body) };
    let member = &mut servers[0].member;
    assert!(matches!(member.accept(by_another_member), Err(Rejected::WrongSigner { .. })));
    assert!(matches!(member.accept(by_nobody), Err(Rejected::BadSignature { .. })));
    assert!(matches!(member.accept(beyond_the_committee), Err(Rejected::NoSuchMember { .. })));
    assert_eq!((member.phase(), member.failure()), (Phase::OneTimeKey, None));
    relay(&mut servers, &mut board);
    assert!(servers.iter().all(|server| server.outcome.is_some()));
}

#[test]
fn messages_of_another_ceremony_attempt_registry_or_chain_have_no_effect() {
    let here = domain();
    let elsewhere = [
        (context_of(here, 8, 1), "another key"),
        (context_of(here, 7, 2), "another attempt"),
        (context_of(ProtocolDomain { key_registry: Address::repeat_byte(0x43), ..here }, 7, 1), "another registry"),
        (context_of(ProtocolDomain { chain_id: 1, ..here }, 7, 1), "another chain"),
    ];
    for (context, what) in elsewhere {
        let mut foreign: Vec<_> = (1..=N).map(|i| Member::start(context.clone(), index(i), secret(i))).collect();
        let messages: Vec<_> =
            foreign.iter_mut().zip(1..).flat_map(|(member, i)| member.step(&signer(i)).unwrap().new_messages).collect();
        let mut server = Server::new(1);
        for message in messages {
            // Also with the ids patched: the signature covers all of them.
            let patched = SignedMessage { key_id: 7, attempt: 1, ..message.clone() };
            assert!(server.member.accept(message).is_err(), "{what}");
            assert!(server.member.accept(patched).is_err(), "{what}");
        }
        assert_eq!((server.member.phase(), server.member.failure()), (Phase::OneTimeKey, None), "{what}");
        assert_eq!(server.member.waiting_for().len(), 4, "nothing stuck: {what}");
    }
}

#[test]
fn swapped_shares_are_blamed_on_the_dealer_by_those_they_cheat() {
    let rigged = Rigged::run(|body| {
        let (one, two) = body.shares.split_at_mut(32);
        one.swap_with_slice(&mut two[..32]);
    });
    // Decrypted under the other's pad a share is noise: out of range or not the committed value.
    for server in &rigged.honest {
        let recipient = server.member.me();
        if recipient.get() == 3 {
            // Member 3's share is right: it acknowledges, and nothing can be finalised without the others.
            assert!(server.outcome.is_some());
            continue;
        }
        assert!(server.outcome.is_none());
        assert_eq!(server.culprit(), 4);
        let fault = server.failure().fault.clone();
        let expected = [DealingFault::ShareMismatch { recipient }, DealingFault::ShareOutOfRange { recipient }];
        assert!(expected.iter().any(|expected| fault == Fault::Dealing(*expected)), "{fault:?}");
    }
}

#[test]
fn shares_made_with_another_one_time_key_are_blamed_on_the_dealer() {
    // Encrypted with a key that is not the one inside the dealing.
    let rigged = Rigged::run(|body| body.shares = deal(4, &secret(9), &context()).shares);
    for server in &rigged.honest {
        assert!(server.outcome.is_none());
        assert_eq!(server.culprit(), 4);
    }
    // A dealing around another key than the published one.
    let rigged = Rigged::run(|body| *body = deal(4, &secret(9), &context()));
    rigged.blames(&|_| Some(DealingFault::OneTimeKeyDiffers));
}

#[test]
fn a_dealing_that_names_other_recipients_ends_the_ceremony_and_frames_nobody() {
    let rigged = Rigged::run(|body| body.one_time_keys_hash = keccak256("other keys"));
    for server in &rigged.honest {
        assert!(server.outcome.is_none());
        assert_eq!(server.failure().fault, Fault::RecipientsDiffer(index(4)));
        assert_eq!(server.failure().culprit, None);
        assert_eq!(server.failure().evidence, std::slice::from_ref(&rigged.dealing));
        assert!(server.failure().reason().contains("the dealing of member 4"), "{}", server.failure().reason());
    }
    // What shows who it was comes later: one of the members had shown two keys.
    let mut server = rigged.honest.into_iter().next().unwrap();
    let second = say(2, Body::OneTimeKey(OneTimeKeyBody { public_key: secret(9).public_key().to_vec() }));
    server.advance([second]);
    assert_eq!(server.failure().fault, Fault::Equivocation(Round::OneTimeKey));
    assert_eq!(server.culprit(), 2);
}

/// What the Court would say to the complaint of a member.
fn convicted(server: &Server) -> Option<Address> {
    let proof = Proof::BadDealing(server.member.complaint()?.clone());
    match EvidenceFile::new(&domain(), Address::ZERO, proof).verify().unwrap().accused {
        Accused::Signer(signer) => Some(signer),
        accused => panic!("{accused:?}"),
    }
}

#[test]
fn who_gets_a_wrong_share_opens_it_and_never_acknowledges_whatever_comes_and_however_often_it_is_killed() {
    let mut rigged = Rigged::run(|body| body.shares[32] ^= 1);
    assert_eq!(rigged.honest.iter().map(convicted).collect::<Vec<_>>(), [None, Some(signer(4).address()), None]);
    let acknowledgements: Vec<_> =
        rigged.honest.iter().flat_map(|it| it.member.published().into_iter().cloned()).collect();
    let cheated = &mut rigged.honest[1];
    let complaint = cheated.member.complaint().cloned();
    // The dealer thinks better of it, after the others have acknowledged.
    let good = say(4, Body::Dealing(deal(4, &secret(4), &context())));
    for _ in 0..3 {
        cheated.crash();
        let published = cheated.advance(acknowledgements.iter().cloned().chain([good.clone()]));
        assert!(published.iter().all(|message| message.round() < Round::Dealing), "{published:?}");
        assert!(cheated.outcome.is_none());
    }
    cheated.crash();
    cheated.step();
    assert_eq!(cheated.member.phase(), Phase::Failed);
    let opened = complaint.unwrap();
    assert_eq!((opened.recipient, opened.secret), (2, *secret(2).to_bytes()));
}

#[test]
fn no_other_failure_gives_a_one_time_secret_away() {
    type Change = fn(&mut DealingBody);
    let changes: [Change; 8] = [
        |body| body.one_time_keys_hash = keccak256("other keys"),
        |body| (body.one_time_keys_hash, body.shares[32]) = (keccak256("other keys"), body.shares[32] ^ 1),
        |body| body.commitments.truncate(2 * 128),
        |body| body.commitments[..128].fill(0),
        |body| body.proof_of_possession.clear(),
        |body| {
            (body.proof_of_possession[255], body.shares[32]) = (body.proof_of_possession[255] ^ 1, body.shares[32] ^ 1)
        },
        |body| body.one_time_key = secret(9).public_key().to_vec(),
        |body| *body = deal(4, &secret(4), &context_of(domain(), 7, 0)),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let rigged = Rigged::run(change);
        for server in &rigged.honest {
            assert!(server.member.failure().is_some(), "{number}");
            assert_eq!(server.member.complaint(), None, "{number}");
        }
    }
}

#[test]
fn what_a_relayer_makes_up_gives_no_one_time_secret_away() {
    let mut servers = servers();
    let messages = run_until(&mut servers, Round::CommitmentSet);
    let mut bad = deal(4, &secret(4), &context());
    bad.shares[32] ^= 1;
    let body = Body::Dealing(bad);
    let forged = SignedMessage::sign(&domain(), &signer(9), (7, 1, index(4)), body.clone());
    let foreign = SignedMessage::sign(&domain(), &signer(4), (7, 0, index(4)), body.clone());
    let elsewhere = ProtocolDomain { chain_id: 1, ..domain() };
    let of_another_chain = SignedMessage::sign(&elsewhere, &signer(4), (7, 1, index(4)), body.clone());
    // Only this one did member 4 sign for this ceremony; it is not the one that it committed to.
    let uncommitted = say(4, body);
    for (number, made_up) in [forged, foreign, of_another_chain, uncommitted].into_iter().enumerate() {
        let server = &mut servers[1];
        server.advance(messages.iter().cloned().chain([made_up]));
        assert_eq!(server.member.complaint(), None, "{number}");
        assert_eq!(server.member.failure().is_some(), number == 3);
    }
}

#[test]
fn every_dealing_of_an_honest_member_names_the_keys_it_was_encrypted_to() {
    let mut servers = servers();
    let mut board = Board::new(context());
    relay(&mut servers, &mut board);
    let keys: Vec<_> = (1..=N).map(|i| secret(i).public_key()).collect();
    for i in 1..=N {
        let (body, _) = board.dealing(index(i)).unwrap();
        assert_eq!(body.one_time_keys_hash, keccak256(keys.as_flattened()));
    }
}

#[test]
fn a_dealing_replayed_from_another_attempt_is_blamed_on_the_dealer() {
    let rigged = Rigged::run(|body| *body = deal(4, &secret(4), &context_of(domain(), 7, 0)));
    rigged.blames(&|_| Some(DealingFault::ProofOfPossession));
}

#[test]
fn malformed_dealings_are_blamed_on_the_dealer() {
    let rigged = Rigged::run(|body| body.commitments.truncate(2 * 128));
    rigged.blames(&|_| Some(DealingFault::CommitmentCount { expected: T, got: 2 }));
    let rigged = Rigged::run(|body| body.shares.extend([1; 32]));
    rigged.blames(&|_| Some(DealingFault::ShareCount { expected: N, got: 5 }));
    let rigged = Rigged::run(|body| body.commitments[..128].fill(0));
    for server in &rigged.honest {
        assert!(server.failure().reason().contains("infinity"), "{}", server.failure().reason());
    }
    let rigged = Rigged::run(|body| body.proof_of_possession.clear());
    for server in &rigged.honest {
        assert_eq!((server.culprit(), server.outcome.is_none()), (4, true));
    }
}

#[test]
fn a_revealed_dealing_that_differs_from_the_committed_one_ends_the_ceremony() {
    let mut servers = servers();
    let messages = run_until(&mut servers, Round::CommitmentSet);
    let other = say(4, Body::Dealing(deal(4, &secret(4), &context())));
    let victim = &mut servers[0];
    victim.advance(messages);
    victim.advance([other.clone()]);
    assert_eq!(victim.failure().fault, Fault::BrokenCommitment);
    assert_eq!(victim.culprit(), 4);
    assert_eq!(victim.failure().evidence[1], other);
    assert!(victim.member.published().iter().all(|m| m.round() != Round::Dealing));
}

#[test]
fn a_one_time_key_that_nobody_can_encrypt_to_names_its_member() {
    for public_key in [vec![], vec![2; 32], vec![0; 33], vec![5; 33]] {
        let mut server = Server::new(1);
        server.advance([say(2, Body::OneTimeKey(OneTimeKeyBody { public_key }))]);
        assert!(matches!(server.failure().fault, Fault::OneTimeKey(_)));
        assert_eq!(server.culprit(), 2);
    }
}

#[test]
fn an_acknowledgement_of_another_transcript_is_named_and_cannot_be_finalised() {
    let mut servers = servers();
    let messages = run_until(&mut servers, Round::Acknowledgement);
    let mut board = Board::new(context());
    let mut forged = None;
    for mut message in messages {
        if message.index == index(4)
            && let Body::Acknowledgement(body) = &message.body
        {
            let points_hash = B256::repeat_byte(1);
            message = say(4, Body::Acknowledgement(AcknowledgementBody { points_hash, ..body.clone() }));
            forged = Some(message.clone());
        }
        board.accept(message).unwrap();
    }
    assert_eq!(Transcript::assemble(&board).unwrap_err(), TranscriptError::AcknowledgementDiffers(index(4)));
    let server = &mut servers[0];
    server.advance(forged.clone());
    assert_eq!(server.failure().fault, Fault::AcknowledgementDiffers);
    assert_eq!((server.culprit(), &server.failure().evidence), (4, &vec![forged.unwrap()]));
    assert!(server.outcome.is_some(), "its share is kept: the chain alone decides");
}

#[test]
fn a_restart_after_any_step_says_the_same_again() {
    let mut steady = servers();
    let mut shaky = servers();
    let mut board = Board::new(context());
    // The dealings are random, so only one of the two committees makes them; the other is its crashing twin.
    relay(&mut steady, &mut board);
    for (server, twin) in shaky.iter_mut().zip(&steady) {
        let own = server.member.me();
        for (at, message) in twin.stored.iter().enumerate() {
            server.stored.push(message.clone());
            let all_of_a_step = !(message.index == own && message.round() == Round::Dealing);
            if !all_of_a_step {
                continue; // stored in one transaction with the commitment that follows
            }
            if message.index == own && message.round() == Round::Acknowledgement {
                server.stored_secret = None;
            }
            server.crash();
            for said in server.member.published() {
                assert!(twin.stored[..=at].contains(said), "nothing is sent that was not stored");
            }
            // Only a dealing that was never stored, hence never sent, may be made anew.
            let dealt = twin.stored[..=at].iter().any(|m| m.index == own && m.round() == Round::DealingCommitment);
            let step = server.member.step(&server.key).unwrap();
            for said in step.new_messages.iter().filter(|said| dealt || said.round() == Round::OneTimeKey) {
                assert!(twin.stored.contains(said), "said again in other words: {said:?}");
            }
            assert!(server.member.failure().is_none());
        }
        server.crash();
        assert_eq!(server.member.phase(), Phase::Acknowledged);
        let said: Vec<_> = server.member.published().into_iter().cloned().collect();
        let twin: Vec<_> = twin.member.published().into_iter().cloned().collect();
        assert_eq!(said, twin);
    }
}

#[test]
fn every_server_may_crash_after_every_request_and_the_key_still_comes_out() {
    let mut servers = servers();
    let mut board = Board::new(context());
    for _ in 0..12 {
        for server in &mut servers {
            server.crash();
            let all: Vec<_> = board.messages().cloned().collect();
            for message in server.advance(all) {
                assert_ne!(board.accept(message), Ok(Accepted::Evidence), "a restart is no equivocation");
            }
            server.crash();
        }
    }
    assert!(Transcript::assemble(&board).is_ok());
    assert!(servers.iter().all(|server| server.outcome.is_some()));
}

#[test]
fn a_member_that_lost_its_one_time_secret_sits_out_and_signs_nothing_more() {
    let mut servers = servers();
    let all = run_until(&mut servers, Round::DealingCommitment);
    let server = &mut servers[0];
    server.stored_secret = None;
    server.crash();
    let before = server.stored.len();
    server.advance(all);
    assert_eq!(server.failure().fault, Fault::LostState);
    assert_eq!((server.culprit(), server.member.phase()), (1, Phase::Failed));
    assert!(server.stored[before..].iter().all(|message| message.index != index(1)), "it signed nothing");
}

#[test]
fn a_member_restored_from_an_old_backup_sits_out_when_it_meets_its_own_later_messages() {
    for round in [Round::OneTimeKey, Round::DealingCommitment, Round::CommitmentSet] {
        let mut servers = servers();
        let all = run_until(&mut servers, round);
        let server = &mut servers[0];
        server.stored.retain(|message| message.index != index(1));
        // The backup also has another one-time secret: a second server under the same key.
        server.stored_secret = Some(secret(77));
        server.crash();
        let own = |message: &SignedMessage| message.index == index(1);
        let said: Vec<_> = all.into_iter().filter(own).collect();
        for message in said.iter().rev() {
            assert_eq!(server.member.accept(message.clone()), Ok(Accepted::New));
        }
        let step = server.member.step(&server.key).unwrap();
        assert!(step.new_messages.is_empty() && step.outcome.is_none());
        assert_eq!(server.failure().fault, Fault::LostState, "{round}");
        // And after the next restart too, though these messages are stored now.
        server.stored.extend(said);
        server.crash();
        assert_eq!(server.failure().fault, Fault::LostState, "{round}");
    }
}

#[test]
fn a_commitment_without_its_dealing_in_the_database_is_lost_state() {
    let mut servers = servers();
    run_until(&mut servers, Round::DealingCommitment);
    let server = &mut servers[0];
    server.stored.retain(|message| message.round() != Round::Dealing);
    server.crash();
    assert_eq!(server.failure().fault, Fault::LostState);
}

#[test]
fn a_database_that_mixes_ceremonies_is_refused() {
    let foreign = SignedMessage::sign(
        &domain(),
        &signer(1),
        (8, 1, index(1)),
        Body::CommitmentSet(CommitmentSetBody {
            committee_hash: context().committee_hash(),
            commitments_hash: B256::ZERO,
        }),
    );
    let error = Member::resume(context(), index(1), Some(secret(1)), [foreign]).unwrap_err();
    assert!(matches!(error, Rejected::ForeignCeremony { key_id: 8, .. }));
}

#[test]
fn cheating_found_after_the_acknowledgement_does_not_take_it_back() {
    let mut servers = servers();
    run_until(&mut servers, Round::Acknowledgement);
    let server = &mut servers[0];
    let late = say(
        2,
        Body::CommitmentSet(CommitmentSetBody {
            committee_hash: context().committee_hash(),
            commitments_hash: B256::ZERO,
        }),
    );
    assert_eq!(server.member.accept(late.clone()), Ok(Accepted::Evidence));
    server.stored.push(late);
    server.crash();
    assert_eq!(server.member.phase(), Phase::Acknowledged);
    assert_eq!(server.member.published().len(), 5);
}

#[test]
fn a_step_with_another_signer_key_is_refused() {
    let mut server = Server::new(1);
    let error = server.member.step(&signer(2)).unwrap_err();
    assert_eq!(error, StepError::WrongSignerKey { given: signer(2).address(), expected: signer(1).address() });
}

#[test]
fn a_committee_with_one_server_or_signer_twice_is_refused() {
    let threshold = Threshold::new(T, N).unwrap();
    let mut twice = members();
    twice[3].signer = twice[0].signer;
    assert_eq!(Context::new(domain(), 7, 1, threshold, twice), Err(ContextError::Duplicate(104)));
    let mut twice = members();
    twice[3].server_id = twice[0].server_id;
    assert_eq!(Context::new(domain(), 7, 1, threshold, twice), Err(ContextError::Duplicate(101)));
    let few = members()[..3].to_vec();
    assert_eq!(Context::new(domain(), 7, 1, threshold, few), Err(ContextError::WrongCount { got: 3, expected: 4 }));
}

#[test]
fn the_committee_hash_is_that_of_abi_encode() {
    let context = context();
    let word = |value: u64| U256::from(value).to_be_bytes::<32>().to_vec();
    // Two dynamic arrays: their offsets, then each with its length.
    let mut encoded = [word(64), word(64 + 32 * 5), word(4)].concat();
    context.committee().iter().for_each(|id| encoded.extend(word(u64::from(*id))));
    encoded.extend(word(4));
    context.signers().iter().for_each(|signer| encoded.extend(signer.into_word()));
    assert_eq!(context.committee_hash(), keccak256(encoded));
}

#[test]
fn a_transcript_checks_what_the_contract_checks() {
    let mut servers = servers();
    let mut board = Board::new(context());
    relay(&mut servers, &mut board);
    let transcript = Transcript::assemble(&board).unwrap();
    let (points, digest, acks) = (transcript.points(), transcript.dealings_digest(), transcript.acknowledgements());
    let parts =
        |points: &[u8], digest, acks: &[u8]| Transcript::from_parts(context(), points, digest, acks).unwrap_err();

    assert!(matches!(parts(&points, B256::ZERO, &acks), TranscriptError::WrongSigner { .. }));
    assert!(matches!(parts(&points[128..], digest, &acks), TranscriptError::Length { what: "points", .. }));
    assert!(matches!(parts(&points, digest, &acks[65..]), TranscriptError::Length { .. }));
    let swapped = [&acks[65..130], &acks[..65], &acks[130..]].concat();
    assert!(matches!(parts(&points, digest, &swapped), TranscriptError::WrongSigner { .. }));
    let mut repeated = points.clone();
    repeated.copy_within(0..128, 128);
    assert!(matches!(parts(&repeated, digest, &acks), TranscriptError::Keys(_)));
    // Share keys of another polynomial through the same group key cannot be: swap two.
    let swapped = [&points[128..256], &points[..128], &points[256..]].concat();
    assert!(matches!(parts(&swapped, digest, &acks), TranscriptError::Keys(_)));
    let mut infinity = points.clone();
    infinity[..128].fill(0);
    assert!(matches!(parts(&infinity, digest, &acks), TranscriptError::Point { position: 0, .. }));
    let mut other_group = points.clone();
    let foreign = PublicKey::from_eip2537(&points[..128]).unwrap();
    other_group[4 * 128..].copy_from_slice(&foreign.to_eip2537());
    assert!(matches!(parts(&other_group, digest, &acks), TranscriptError::Keys(_)));
}

#[test]
fn a_transcript_names_whose_messages_are_missing() {
    let mut board = Board::new(context());
    assert_eq!(
        Transcript::assemble(&board).unwrap_err(),
        TranscriptError::Missing { round: Round::Dealing, members: vec![1, 2, 3, 4] }
    );
    board.accept(say(2, Body::Dealing(deal(2, &secret(2), &context())))).unwrap();
    assert_eq!(
        recompute_keys(context(), board.messages().cloned()).unwrap_err(),
        TranscriptError::Missing { round: Round::Dealing, members: vec![1, 3, 4] }
    );
}

#[test]
fn a_server_says_who_is_missing_in_which_round() {
    let mut servers = servers();
    run_until(&mut servers, Round::OneTimeKey);
    let key = |server: &Server| server.member.published()[0].clone();
    let mut server = Server::new(1);
    server.advance(servers[1..3].iter().map(key));
    assert_eq!((server.member.phase(), server.member.waiting_for()), (Phase::OneTimeKey, vec![index(4)]));
    server.advance([key(&servers[3])]);
    assert_eq!(server.member.phase(), Phase::Commitment);
    assert_eq!(server.member.waiting_for(), [index(2), index(3), index(4)]);
}

#[test]
fn the_advance_reply_has_the_documented_form() {
    let mut server = Server::new(1);
    server.step();
    let messages = server.advance([say(2, Body::OneTimeKey(OneTimeKeyBody { public_key: vec![] }))]);
    let reply = AdvanceResponse {
        messages,
        phase: server.member.phase(),
        waiting_for: vec![index(2)],
        failure: server.member.failure().map(FailureReport::from),
        complaint: None,
    };
    let json = serde_json::to_value(&reply).unwrap();
    assert_eq!(json["phase"], "failed");
    assert_eq!(json["waitingFor"], serde_json::json!(["2"]));
    assert_eq!(json["failure"]["culprit"], "2");
    assert!(json["failure"]["whatToDo"].as_str().unwrap().contains("evidence"));
    assert_eq!(json["messages"][0]["round"], "one_time_key");
    assert_eq!(serde_json::from_value::<AdvanceResponse>(json).unwrap(), reply);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Two relayers hand bundles in any order, with repeats, forged and foreign messages among them.
    #[test]
    fn the_order_of_messages_and_bundles_does_not_matter(seed in any::<[u8; 32]>()) {
        let mut rng = proptest::test_runner::TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &seed);
        let mut servers = servers();
        let mut all: Vec<SignedMessage> = (1..=N)
            .map(|i| SignedMessage { index: index(i), ..say(i % N + 1, Body::OneTimeKey(OneTimeKeyBody { public_key: vec![2; 33] })) })
            .collect();
        for _ in 0..400 {
            let server = &mut servers[usize::try_from(rng.next_u32() % u32::from(N)).unwrap()];
            let bundle: Vec<_> = all.iter().filter(|_| !rng.next_u32().is_multiple_of(3)).cloned().collect();
            let published = server.advance(bundle);
            for message in published {
                if !all.contains(&message) {
                    let at = usize::try_from(rng.next_u32()).unwrap() % (all.len() + 1);
                    all.insert(at, message);
                }
            }
            if servers.iter().all(|server| server.outcome.is_some()) {
                break;
            }
        }
        let keys: Vec<_> = servers.iter().map(|server| points(&server.outcome.as_ref().unwrap().keys)).collect();
        prop_assert!(keys.iter().all(|key| *key == keys[0]));
        prop_assert!(servers.iter().all(|server| server.member.failure().is_none()));
    }

    /// A member handed a finished ceremony's other messages in any order gets to its acknowledgement in as few steps as
    /// there are rounds of its own.
    #[test]
    fn one_accept_loop_takes_several_rounds_at_once(seed in any::<u64>()) {
        let mut servers = servers();
        let mut messages = run_until(&mut servers, Round::Acknowledgement);
        let at = usize::try_from(seed % 20).unwrap();
        messages.rotate_left(at);
        let mut late = Member::resume(
            context(),
            index(1),
            Some(secret(1)),
            servers[0].stored.iter().filter(|m| m.index == index(1) && m.round() <= Round::Dealing && m.round() != Round::CommitmentSet).cloned(),
        ).unwrap();
        for message in messages.into_iter().filter(|m| m.index != index(1)) {
            prop_assert_eq!(late.accept(message), Ok(Accepted::New));
        }
        let step = late.step(&signer(1)).unwrap();
        prop_assert!(step.outcome.is_some());
        prop_assert_eq!(late.phase(), Phase::Acknowledged);
        prop_assert_eq!(late.waiting_for(), vec![]);
    }
}
