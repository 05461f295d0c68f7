//! Reshares of honest servers, and of every adversary the docs promise to survive.

mod evidence;
mod lossy;
mod messages;

use proptest::prelude::*;
use stkr_core::{
    PublicKey,
    dkg::{OneTimeKeyError, OneTimeSecret},
    interpolate,
    reshare::{Outcome, RecipientSecrets},
    testing::TrustedDealer,
    verify,
};

use super::{
    evidence::{OpenedReshareDealing, Proof, ReshareEvidence},
    *,
};
use crate::SignerKey;

const DEADLINE: u64 = 10_000;
const NOW: u64 = 5_000;

fn index(index: u8) -> ShareIndex {
    ShareIndex::new(index).unwrap()
}

fn domain() -> ProtocolDomain {
    ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(0x42) }
}

fn id() -> ReshareId {
    ReshareId { key_id: 7, committee_epoch: 3, attempt: 1 }
}

fn signer(server: u32) -> SignerKey {
    SignerKey::from_bytes(&keccak256([&b"signer"[..], &server.to_be_bytes()].concat()).0).unwrap()
}

fn seats(servers: &[u32]) -> Vec<MemberId> {
    servers.iter().map(|&server_id| MemberId { server_id, signer: signer(server_id).address() }).collect()
}

/// A key with all its shares, and a reshare of it.
struct World {
    key: TrustedDealer,
    plan: Plan,
}

impl World {
    /// `old` and `new` are t and the servers in index order.
    fn new(id: ReshareId, old: (u8, &[u32]), dealers: &[u8], new: (u8, &[u32])) -> Self {
        let threshold = |(t, servers): (u8, &[u32])| Threshold::new(t, u8::try_from(servers.len()).unwrap()).unwrap();
        let key = TrustedDealer::deal(threshold(old), [old.0; 32]);
        let committee = Committee::new(domain(), id.committee_epoch - 1, key.keys.clone(), seats(old.1)).unwrap();
        let dealers = dealers.iter().map(|&dealer| index(dealer)).collect();
        let plan = Plan::new(id, committee, dealers, (threshold(new), seats(new.1)), DEADLINE).unwrap();
        Self { key, plan }
    }

    /// 3-of-4: server 104 loses its seat to 105, but still deals, with 101 and 102.
    fn usual() -> Self {
        Self::of(id())
    }

    fn of(id: ReshareId) -> Self {
        Self::new(id, (3, &[101, 102, 103, 104]), &[1, 2, 4], (3, &[101, 102, 103, 105]))
    }

    fn share(&self, server: u32) -> Option<stkr_core::SecretShare> {
        let share = &self.key.shares[self.plan.dealer_of(server)?.position()];
        Some(stkr_core::SecretShare::from_bytes(share.index(), &share.to_bytes()).unwrap())
    }

    /// All that have a part.
    fn ids(&self) -> Vec<u32> {
        let members = self.plan.old().members().iter().chain(self.plan.members());
        let parts = members.map(|member| member.server_id);
        let mut ids: Vec<u32> =
            parts.filter(|id| self.plan.dealer_of(*id).or(self.plan.member_of(*id)).is_some()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn servers(&self) -> Vec<Server> {
        self.ids().into_iter().map(|id| Server::new(self, id)).collect()
    }

    fn say(&self, server: u32, body: Body) -> ReshareMessage {
        let seat = match &body {
            Body::Dealing(_) => self.plan.dealer_of(server),
            _ => self.plan.member_of(server),
        };
        ReshareMessage::sign(&domain(), &signer(server), self.plan.id(), seat.unwrap(), body)
    }
}

/// A server: its part, and what its database holds.
struct Server {
    id: u32,
    plan: Plan,
    keys: Vec<SignerKey>,
    old_share: Option<stkr_core::SecretShare>,
    part: Participant,
    secrets: Option<zeroize::Zeroizing<Vec<u8>>>,
    stored: Vec<ReshareMessage>,
    complaint: Option<OpenedReshareDealing>,
    outcome: Option<Outcome>,
}

impl Server {
    fn new(world: &World, id: u32) -> Self {
        let plan = world.plan.clone();
        let secrets = plan.member_of(id).map(|_| RecipientSecrets::random(plan.reshare()).unwrap().to_bytes());
        let part = Participant::new(plan.clone(), id, stored(&plan, secrets.as_deref().map(Vec::as_slice), &[], None))
            .unwrap();
        let (keys, old_share) = (vec![signer(id)], world.share(id));
        Self { id, plan, keys, old_share, part, secrets, stored: Vec::new(), complaint: None, outcome: None }
    }

    fn try_step(&mut self, now: u64) -> Result<Step, StepError> {
        self.part.step(Hands { keys: &self.keys, share: self.old_share.as_ref(), now })
    }

    /// One transaction.
    fn store(&mut self, step: Step) {
        self.stored.extend(step.new_messages);
        if let Some(outcome) = step.outcome {
            assert!(self.outcome.replace(outcome).is_none(), "one outcome per attempt");
            self.secrets = None;
        }
        if let Some(complaint) = step.complaint {
            assert!(self.complaint.replace(complaint).is_none(), "one complaint per attempt");
            self.secrets = None;
        }
    }

    fn take(&mut self, messages: impl IntoIterator<Item = ReshareMessage>) {
        for message in messages {
            match self.part.accept(message.clone()) {
                Ok(Accepted::New | Accepted::Evidence) => self.stored.push(message),
                Ok(Accepted::Known) | Err(_) => {}
            }
        }
    }

    /// What the HTTP handler does: take all, step once, store, answer.
    fn advance(&mut self, messages: impl IntoIterator<Item = ReshareMessage>) -> Vec<ReshareMessage> {
        self.take(messages);
        let step = self.try_step(NOW).unwrap();
        self.store(step);
        self.part.published().into_iter().cloned().collect()
    }

    /// Only what is stored survives.
    fn crash(&mut self) {
        let stored =
            stored(&self.plan, self.secrets.as_deref().map(Vec::as_slice), &self.stored, self.complaint.clone());
        self.part = Participant::new(self.plan.clone(), self.id, stored).unwrap();
    }

    fn failure(&self) -> &Failure {
        self.part.failure().unwrap()
    }
}

fn stored(
    plan: &Plan,
    secrets: Option<&[u8]>,
    messages: &[ReshareMessage],
    complaint: Option<OpenedReshareDealing>,
) -> Stored {
    let secrets = secrets.map(|bytes| RecipientSecrets::from_bytes(plan.reshare(), bytes).unwrap());
    Stored { secrets, messages: messages.to_vec(), complaint }
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

/// What honest servers publish before anybody deals.
fn published_keys(servers: &mut [Server]) -> Vec<ReshareMessage> {
    servers.iter_mut().flat_map(|server| server.advance([])).filter(|it| it.round() == Round::Keys).collect()
}

/// All new members have shares of the old key, and t' of them sign with it.
fn assert_same_key(world: &World, servers: &[Server], board: &Board) {
    let transcript = Transcript::assemble(board).unwrap();
    let (old, new) = (world.key.keys.group_key(), transcript.keys());
    assert_eq!(new.group_key(), old);
    let mut members: Vec<_> = servers.iter().filter(|server| server.plan.member_of(server.id).is_some()).collect();
    members.sort_by_key(|server| server.plan.member_of(server.id));
    let outcomes: Vec<_> = members.iter().map(|server| server.outcome.as_ref().unwrap()).collect();
    assert!(outcomes.iter().all(|outcome| points(&outcome.keys) == transcript.points()));
    for server in &members {
        assert_eq!(
            (server.part.phase(), server.secrets.is_some(), server.part.secrets.is_some()),
            (Phase::Done, false, false)
        );
    }
    let t = usize::from(world.plan.threshold().t());
    let message = [9; 32];
    for chosen in [&outcomes[..t], &outcomes[outcomes.len() - t..]] {
        let partials: Vec<_> = chosen.iter().map(|outcome| outcome.share.sign(&message)).collect();
        assert!(verify(&old, &message, &interpolate(world.plan.threshold(), &partials).unwrap()));
    }
}

#[test]
fn honest_servers_move_the_key_and_it_is_the_same_key() {
    let world = World::usual();
    let (mut servers, mut board) = (world.servers(), Board::new(world.plan.clone()));
    assert_eq!(world.ids(), [101, 102, 103, 104, 105]);
    relay(&mut servers, &mut board);
    assert_same_key(&world, &servers, &board);
    // The one that left has dealt, and got nothing.
    assert!(servers[3].outcome.is_none() && servers[3].part.phase() == Phase::Done);
    assert_eq!(board.messages().count(), 4 + 3 + 4);

    let transcript = Transcript::assemble(&board).unwrap();
    let (digest, acks) = (transcript.dealings_digest(), transcript.acknowledgements());
    Transcript::from_parts(world.plan.clone(), &transcript.points(), digest, &acks).unwrap();
    let refused = |points: &[u8], digest, acks: &[u8]| {
        Transcript::from_parts(world.plan.clone(), points, digest, acks).unwrap_err()
    };
    assert!(matches!(refused(&transcript.points(), B256::ZERO, &acks), TranscriptError::Parts(_)));
    assert!(matches!(refused(&transcript.points(), digest, &acks[1..]), TranscriptError::Parts(_)));
    let other = TrustedDealer::deal(world.plan.threshold(), [1; 32]).keys;
    assert_eq!(refused(&points(&other), digest, &acks), TranscriptError::GroupKeyChanged);
    assert!(transcript.acknowledgements().len() == 4 * 65 && transcript.plan().id() == id());
}

#[test]
fn a_dealer_waits_for_the_keys_of_all_new_members_and_a_member_for_all_dealings() {
    let world = World::usual();
    let mut servers = world.servers();
    let mut keys = published_keys(&mut servers);
    let last = keys.pop().unwrap();
    let said = |server: &mut Server, messages: &[ReshareMessage]| {
        server.advance(messages.to_vec()).iter().map(ReshareMessage::round).collect::<Vec<_>>()
    };
    assert_eq!(said(&mut servers[0], &keys), [Round::Keys]);
    assert_eq!((servers[0].part.phase(), servers[0].part.waiting_for()), (Phase::Keys, vec![last.sender()]));
    assert_eq!(said(&mut servers[0], std::slice::from_ref(&last)), [Round::Keys, Round::Dealing]);
    assert_eq!(servers[0].part.phase(), Phase::Dealings);

    keys.push(last);
    let dealing = |server: &mut Server| {
        let said = server.advance(keys.clone());
        said.into_iter().find(|it| it.round() == Round::Dealing).unwrap()
    };
    let (second, third) = (dealing(&mut servers[1]), dealing(&mut servers[3]));
    assert_eq!(said(&mut servers[0], &[second]), [Round::Keys, Round::Dealing]);
    assert_eq!(servers[0].part.waiting_for(), [third.sender()]);
    assert_eq!(said(&mut servers[0], &[third]), [Round::Keys, Round::Dealing, Round::Acknowledgement]);
    assert_eq!((servers[0].part.phase(), servers[0].part.waiting_for().len()), (Phase::Done, 3));
}

#[test]
fn past_the_deadline_nobody_deals_or_signs() {
    let world = World::usual();
    let mut servers = world.servers();
    let keys = published_keys(&mut servers);
    servers[3].take(keys);
    let late = servers[3].try_step(DEADLINE + 1).unwrap();
    assert!(late.new_messages.is_empty(), "a share of a live key, dealt for nothing");
    assert_eq!(servers[3].try_step(DEADLINE).unwrap().new_messages.len(), 1);
}

#[test]
fn a_server_that_changed_its_signer_deals_with_the_old_and_acknowledges_with_the_new_one() {
    let mut world = World::usual();
    let fresh = SignerKey::from_bytes(&[5; 32]).unwrap();
    world.plan.members[0].signer = fresh.address();
    let mut servers = world.servers();
    let keys = published_keys(&mut servers[1..]);
    assert_eq!(keys.len(), 3);
    let error = servers[0].try_step(NOW).unwrap_err();
    assert_eq!(error, StepError::NoSignerKey { sender: Sender::Member(index(1)), expected: fresh.address() });
    servers[0].keys.push(fresh);
    let mut board = Board::new(world.plan.clone());
    relay(&mut servers, &mut board);
    assert_same_key(&world, &servers, &board);
}

#[test]
fn a_dealer_without_its_share_or_with_another_deals_nothing_and_says_so() {
    let world = World::usual();
    let mut servers = world.servers();
    let keys = published_keys(&mut servers);
    servers[3].take(keys);
    let right = servers[3].old_share.take();
    assert_eq!(servers[3].try_step(NOW).unwrap_err(), StepError::NoShare(index(4)));
    // Its share of another epoch, and another member's share.
    let other_epoch = world.key.reshare(Threshold::new(3, 4).unwrap(), [9; 32]);
    for wrong in [&other_epoch.shares[3], &world.key.shares[0]] {
        servers[3].old_share = Some(stkr_core::SecretShare::from_bytes(wrong.index(), &wrong.to_bytes()).unwrap());
        assert!(matches!(servers[3].try_step(NOW).unwrap_err(), StepError::Deal(ReshareError::OtherShare(_))));
    }
    servers[3].old_share = right;
    assert_eq!(servers[3].try_step(NOW).unwrap().new_messages.len(), 1);
}

#[test]
fn a_second_different_message_is_kept_names_its_sender_and_ends_the_attempt() {
    let world = World::usual();
    for round in [Round::Keys, Round::Dealing] {
        let mut servers = world.servers();
        let mut all = published_keys(&mut servers);
        if round == Round::Dealing {
            all = servers.iter_mut().flat_map(|server| server.advance(all.clone())).collect();
            all.retain(|message| {
                message.round() != Round::Acknowledgement && message.sender() != Sender::Dealer(index(2))
            });
        }
        let first = all.iter().find(|message| message.round() == round).unwrap().clone();
        let mut twin = first.clone();
        match &mut twin.body {
            Body::Keys(body) => body.public_keys = [OneTimeSecret::random().unwrap().public_key(); 1].concat(),
            Body::Dealing(body) => body.shares[0] ^= 1,
            Body::Acknowledgement(_) => unreachable!(),
        }
        let culprit =
            if round == Round::Keys { 101 } else { world.plan.old().members()[first.index.position()].server_id };
        let second = world.say(culprit, twin.body);
        // 103 is a new member and no dealer.
        let victim = &mut servers[2];
        victim.advance(all);
        assert_eq!(victim.part.accept(second.clone()), Ok(Accepted::Evidence), "{round}");
        victim.stored.push(second.clone());
        assert_eq!(victim.failure().fault, Fault::Equivocation(round));
        assert_eq!((victim.failure().culprit, &victim.failure().evidence[1]), (Some(first.sender()), &second));
        assert!(victim.advance([]).iter().all(|message| message.round() == Round::Keys) && victim.outcome.is_none());
        // It tells what it knows, to convict whoever did it.
        let Some(proof @ Proof::ReshareEquivocation(_)) = victim.part.board().fault() else { panic!("no proof") };
        let found = ReshareEvidence::new(&domain(), proof).verify().unwrap();
        assert_eq!(
            Some(found.signer),
            world.plan.signer(first.sender()),
            "whatever stops a server convicts whoever said it"
        );
        assert!(victim.part.told().contains(&&second));
        victim.crash();
        assert_eq!(victim.failure().fault, Fault::Equivocation(round), "a restart remembers");
    }
}

#[test]
fn a_dealing_is_handed_out_no_more_once_the_attempt_has_failed() {
    let world = World::usual();
    let mut servers = world.servers();
    let keys = published_keys(&mut servers);
    // 104 deals and is no new member.
    assert_eq!(servers[3].advance(keys.clone()).len(), 1);
    let secrets = RecipientSecrets::random(world.plan.reshare()).unwrap();
    let public_keys = secrets.public_keys().as_flattened().to_vec();
    let second = world.say(105, Body::Keys(ReshareKeysBody { public_keys }));
    assert!(servers[3].advance([second.clone()]).is_empty());
    servers[3].crash();
    assert!(servers[3].advance([]).is_empty(), "a restart hands it out no more either");
    // Who learns of it before it deals makes no dealing.
    let mut early = Server::new(&world, 104);
    early.take(keys.into_iter().chain([second]));
    assert!(early.try_step(NOW).unwrap().new_messages.is_empty());
}

#[test]
fn what_was_not_signed_for_this_reshare_has_no_effect() {
    let world = World::usual();
    let keys = |world: &World, server| {
        let secrets = RecipientSecrets::random(world.plan.reshare()).unwrap();
        world.say(server, Body::Keys(ReshareKeysBody { public_keys: secrets.public_keys().as_flattened().to_vec() }))
    };
    let mut server = Server::new(&world, 101);
    for other in
        [ReshareId { key_id: 8, ..id() }, ReshareId { committee_epoch: 4, ..id() }, ReshareId { attempt: 2, ..id() }]
    {
        let foreign = keys(&World::of(other), 102);
        assert!(matches!(server.part.accept(foreign.clone()), Err(Rejected::ForeignReshare { .. })));
        // Also with the numbers patched: the signature covers them.
        let patched = ReshareMessage { id: id(), ..foreign };
        assert!(matches!(server.part.accept(patched), Err(Rejected::WrongSigner { .. })));
    }
    let right = keys(&world, 102);
    let by_another = ReshareMessage { index: index(3), ..right.clone() };
    assert!(matches!(server.part.accept(by_another), Err(Rejected::WrongSigner { .. })));
    let by_nobody = ReshareMessage { signature: [0; 65], ..right.clone() };
    assert!(matches!(server.part.accept(by_nobody), Err(Rejected::BadSignature { .. })));
    let beyond = ReshareMessage { index: index(5), ..right };
    assert_eq!(server.part.accept(beyond), Err(Rejected::NoPart(Sender::Member(index(5)))));
    // 103 is in both committees and does not deal.
    let dealing = Body::Dealing(ReshareDealingBody {
        recipient_keys_hash: B256::ZERO,
        one_time_key: vec![2; 33],
        commitments: vec![0; 384],
        shares: vec![0; 128],
    });
    let uncalled = ReshareMessage::sign(&domain(), &signer(103), id(), index(3), dealing);
    assert_eq!(server.part.accept(uncalled), Err(Rejected::NoPart(Sender::Dealer(index(3)))));
    assert_eq!((server.part.failure(), server.part.board().messages().count()), (None, 0));
}

#[test]
fn one_time_keys_that_nobody_can_use_are_blamed_on_their_member() {
    let world = World::usual();
    let key = || OneTimeSecret::random().unwrap().public_key();
    let (one, two) = (key(), key());
    let mut negated = one;
    negated[0] ^= 1;
    let cases = [
        (vec![one, two], "2 one-time keys for 3 dealers"),
        (vec![one, two, negated], "is for two dealers"),
        (vec![one, two, [9; 33]], "is bad"),
    ];
    for (keys, reason) in cases {
        // 104 deals, so what it is told decides what it deals to.
        let mut servers = world.servers();
        let mut honest = published_keys(&mut servers);
        honest.retain(|message| message.sender() != Sender::Member(index(4)));
        let bad = world.say(105, Body::Keys(ReshareKeysBody { public_keys: keys.as_flattened().to_vec() }));
        honest.push(bad.clone());
        assert!(servers[3].advance(honest).is_empty(), "{reason}");
        let failure = servers[3].failure();
        assert_eq!((failure.culprit, &failure.evidence), (Some(Sender::Member(index(4))), &vec![bad]));
        assert!(failure.reason().contains(reason), "{}", failure.reason());
    }
    assert!(
        Fault::Keys(RecipientKeysFault::OneTimeKey { dealer: index(1), error: OneTimeKeyError::Malformed })
            != Fault::LostState
    );
}

/// A reshare in which server 104 deals by the test's hand.
struct Rigged {
    world: World,
    servers: Vec<Server>,
    dealing: ReshareMessage,
}

impl Rigged {
    fn run(change: impl FnOnce(&World, &mut ReshareDealingBody)) -> Self {
        let world = World::usual();
        let mut servers = world.servers();
        let mut board = Board::new(world.plan.clone());
        for message in published_keys(&mut servers) {
            board.accept(message).unwrap();
        }
        let mut cheat = Server::new(&world, 104);
        cheat.take(board.messages().cloned().collect::<Vec<_>>());
        let [honest] = cheat.try_step(NOW).unwrap().new_messages.try_into().unwrap();
        let Body::Dealing(mut body) = honest.body else { unreachable!() };
        change(&world, &mut body);
        let dealing = world.say(104, Body::Dealing(body));
        board.accept(dealing.clone()).unwrap();
        servers.retain(|server| server.id != 104);
        relay(&mut servers, &mut board);
        Self { world, servers, dealing }
    }
}

#[test]
fn a_wrong_share_is_proven_with_the_secret_for_that_dealer_and_no_other() {
    let rigged = Rigged::run(|_, body| body.shares[2 * 32 + 31] ^= 1);
    for server in &rigged.servers {
        // The share of 103 alone is wrong; the others have theirs, and nothing can be finalised.
        assert_eq!(server.outcome.is_some(), server.id != 103);
        assert_eq!(server.complaint.is_some(), server.id == 103);
    }
    let position = rigged.servers.iter().position(|server| server.id == 103).unwrap();
    let mut servers = rigged.servers;
    let victim = &mut servers[position];
    let complaint = victim.complaint.clone().unwrap();
    let proof = Proof::BadReshareDealing(complaint.clone());
    let verified = ReshareEvidence::new(&domain(), proof).verify().unwrap();
    assert_eq!((verified.signer, verified.id), (signer(104).address(), id()));

    // The secret is that of the key for dealer 4, and opens neither of the other dealings.
    let dealer4 = complaint.secret;
    for (dealer, server) in [(1, 101), (2, 102)] {
        let message = victim.part.board().message(Round::Dealing, Sender::Dealer(index(dealer))).unwrap().clone();
        let recipient_keys = victim.part.board().recipient_keys(index(dealer)).unwrap();
        let framed = OpenedReshareDealing { dealing: message, recipient_keys, recipient: 3, secret: dealer4 };
        let refused = ReshareEvidence::new(&domain(), Proof::BadReshareDealing(framed)).verify();
        assert_eq!(refused, Err(evidence_error(3)), "server {server}");
    }

    // After it was shown the member is out of this attempt, whatever comes, and whatever its database still has.
    assert!(victim.part.secrets.is_none() && victim.secrets.is_none());
    assert!(victim.advance([]).iter().all(|message| message.round() == Round::Keys));
    victim.crash();
    assert_eq!(victim.failure().fault, Fault::Complained);
    assert_eq!(victim.failure().culprit, Some(Sender::Dealer(index(4))));
    victim.secrets = Some(RecipientSecrets::random(rigged.world.plan.reshare()).unwrap().to_bytes());
    victim.crash();
    let right = rigged.dealing;
    assert!(victim.advance([right]).iter().all(|message| message.round() == Round::Keys));
    assert!(victim.part.secrets.is_none() && victim.outcome.is_none());
}

fn evidence_error(recipient: u8) -> super::evidence::EvidenceError {
    super::evidence::EvidenceError::WrongOpening(recipient)
}

#[test]
fn what_anybody_can_see_is_wrong_needs_no_secret() {
    let other = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [77; 32]);
    type Change<'a> = &'a dyn Fn(&World, &mut ReshareDealingBody);
    let cases: [(&str, Change<'_>); 6] = [
        ("instead of 3", &|_, body| body.commitments.truncate(2 * 128)),
        ("instead of 3", &|_, body| body.commitments.extend_from_within(..128)),
        ("instead of 4", &|_, body| body.shares.truncate(3 * 32)),
        ("no whole number", &|_, body| body.one_time_key.truncate(32)),
        ("commitment is bad", &|_, body| body.commitments[128..256].fill(0)),
        ("not the dealer's share key", &|_, body| {
            body.commitments[..128].copy_from_slice(&other.keys.share_keys()[3].to_eip2537());
        }),
    ];
    for (reason, change) in cases {
        let rigged = Rigged::run(change);
        for server in &rigged.servers {
            assert!(server.outcome.is_none() && server.complaint.is_none(), "{reason}: server {}", server.id);
            let dealt = server.stored.iter().filter(|message| message.round() == Round::Dealing);
            assert_eq!(dealt.count(), 1, "who sees a bad dealing deals nothing itself");
            let failure = server.failure();
            assert_eq!(
                (failure.culprit, &failure.evidence),
                (Some(Sender::Dealer(index(4))), &vec![rigged.dealing.clone()])
            );
            assert!(failure.reason().contains(reason), "{} / {reason}", failure.reason());
            let Some(Proof::MalformedReshareDealing(proof)) = server.part.board().fault() else { panic!("{reason}") };
            let found = ReshareEvidence::new(&domain(), Proof::MalformedReshareDealing(proof)).verify().unwrap();
            assert_eq!(found.signer, signer(104).address());
        }
    }
}

#[test]
fn a_dealing_for_other_keys_names_nobody_until_the_two_keys_are_there_and_gives_no_secret_away() {
    // Member 105 shows the dealer another key than the others.
    let world = World::usual();
    let rigged = Rigged::run(|_, body| {
        body.recipient_keys_hash = B256::repeat_byte(1);
        body.shares.fill(7);
    });
    for server in &rigged.servers {
        assert_eq!(server.failure().fault, Fault::RecipientsDiffer(index(4)));
        assert_eq!((server.failure().culprit, server.complaint.is_none()), (None, true));
        assert!(server.outcome.is_none());
    }
    let secrets = RecipientSecrets::random(world.plan.reshare()).unwrap();
    let public_keys = secrets.public_keys().as_flattened().to_vec();
    let second = world.say(105, Body::Keys(ReshareKeysBody { public_keys }));
    let mut servers = rigged.servers;
    servers[0].advance([second]);
    assert_eq!(servers[0].failure().fault, Fault::Equivocation(Round::Keys));
    assert_eq!(servers[0].failure().culprit, Some(Sender::Member(index(4))));
}

#[test]
fn who_lost_its_secrets_or_meets_its_own_unknown_message_sits_out() {
    let world = World::usual();
    let mut servers = world.servers();
    let keys = published_keys(&mut servers);
    // The secrets are gone, the published keys are not.
    servers[0].secrets = None;
    servers[0].crash();
    assert_eq!(servers[0].failure().fault, Fault::LostState);
    let said = servers[0].advance(keys.clone());
    assert!(said.iter().all(|message| message.round() == Round::Keys), "it does not deal either");
    // Other secrets than those of the published keys.
    servers[1].secrets = Some(RecipientSecrets::random(world.plan.reshare()).unwrap().to_bytes());
    servers[1].crash();
    assert_eq!(servers[1].failure().fault, Fault::LostState);
    // A database from before the keys were published: it would publish others.
    let mut rolled_back = Server::new(&world, 103);
    rolled_back.take(keys.clone());
    assert_eq!(rolled_back.failure().fault, Fault::LostState);
    assert!(rolled_back.try_step(NOW).unwrap().new_messages.is_empty());
    // A dealer that meets a dealing of its own that it does not know.
    let dealing = servers[3].advance(keys.clone()).pop().unwrap();
    let mut rolled_back = Server::new(&world, 104);
    rolled_back.take([dealing]);
    assert_eq!(rolled_back.failure().fault, Fault::LostState);
    rolled_back.take(keys);
    assert!(rolled_back.try_step(NOW).unwrap().new_messages.is_empty());
}

#[test]
fn an_attempt_has_one_transcript_and_what_comes_after_it_changes_nothing() {
    let world = World::usual();
    let (mut servers, mut board) = (world.servers(), Board::new(world.plan.clone()));
    relay(&mut servers, &mut board);
    let acknowledged = board.message(Round::Acknowledgement, Sender::Member(index(1))).unwrap().clone();
    let mut late = board.message(Round::Dealing, Sender::Dealer(index(4))).unwrap().clone();
    let Body::Dealing(body) = &mut late.body else { unreachable!() };
    body.shares[0] ^= 1;
    let late = world.say(104, late.body);
    for _ in 0..2 {
        let said = servers[0].advance([late.clone()]);
        assert_eq!(said.iter().filter(|it| it.round() == Round::Acknowledgement).collect::<Vec<_>>(), [&acknowledged]);
        assert_eq!(servers[0].part.failure(), None);
        servers[0].crash();
    }
    // Another member's acknowledgement of something else is told, with its message.
    let mut other = acknowledged.body;
    let Body::Acknowledgement(body) = &mut other else { unreachable!() };
    body.dealings_digest = B256::repeat_byte(3);
    let mut server = servers.remove(0);
    server.stored.retain(|it| it.round() != Round::Acknowledgement || it.sender() == Sender::Member(index(1)));
    server.crash();
    let other = world.say(102, other);
    server.advance([other.clone()]);
    assert_eq!(server.failure().fault, Fault::AcknowledgementDiffers);
    assert_eq!((server.failure().culprit, &server.failure().evidence), (Some(Sender::Member(index(2))), &vec![other]));
    assert!(server.part.published().iter().any(|it| it.round() == Round::Dealing), "others need it still");
}

#[test]
fn a_plan_follows_the_committee_that_hands_over_and_has_its_dealers_and_members() {
    let world = World::usual();
    let threshold = Threshold::new(3, 4).unwrap();
    let dealers = world.plan.dealers().to_vec();
    let plan = |id, dealers: Vec<ShareIndex>, members: &[u32]| {
        Plan::new(id, world.plan.old().clone(), dealers, (threshold, seats(members)), DEADLINE).unwrap_err()
    };
    let right = [101, 102, 103, 105];
    let skipped = ReshareId { committee_epoch: 4, ..id() };
    assert_eq!(plan(skipped, dealers.clone(), &right), PlanError::WrongEpoch { old: 2, new: 4 });
    let same = ReshareId { committee_epoch: 2, ..id() };
    assert_eq!(plan(same, dealers.clone(), &right), PlanError::WrongEpoch { old: 2, new: 2 });
    assert!(matches!(plan(id(), dealers[..2].to_vec(), &right), PlanError::Dealers(_)));
    assert!(matches!(plan(id(), dealers.clone(), &[101, 102, 103]), PlanError::Members(_)));
    assert_eq!(plan(id(), dealers, &[101, 102, 103, 101]), PlanError::Members(ContextError::Duplicate(101)));
}

/// t, n, t', n' of committees as the chain allows them (2t > n), how many stay, and which dealers.
fn shapes() -> impl Strategy<Value = (u8, Vec<u32>, Vec<u8>, u8, Vec<u32>)> {
    (2_u8..=8, 2_u8..=8, any::<u64>()).prop_map(|(n, m, seed)| {
        let pick = |from: u64, low: u8, high: u8| low + u8::try_from(from % u64::from(high - low + 1)).unwrap();
        let (t, t2) = (pick(seed, n / 2 + 1, n).max(2), pick(seed >> 8, m / 2 + 1, m).max(2));
        let old: Vec<u32> = (1..=u32::from(n)).map(|i| 100 + i).collect();
        // Seat i stays where the bit is set; else somebody new has it.
        let stays = |i: u8| i <= n && seed >> (16 + i) & 1 == 1;
        let new = (1..=m).map(|i| if stays(i) { 100 + u32::from(i) } else { 200 + u32::from(i) }).collect();
        let mut dealers: Vec<u8> = (1..=n).collect();
        while dealers.len() > usize::from(t) {
            let out = usize::try_from((seed >> 32) % u64::try_from(dealers.len()).unwrap()).unwrap();
            dealers.remove(out);
        }
        (t, old, dealers, t2, new)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_committee_hands_over_to_any_other((t, old, dealers, t2, new) in shapes()) {
        let world = World::new(id(), (t, &old), &dealers, (t2, &new));
        let (mut servers, mut board) = (world.servers(), Board::new(world.plan.clone()));
        relay(&mut servers, &mut board);
        assert_same_key(&world, &servers, &board);
        // Who stays keeps its index, and its old share signs nothing with new ones.
        let outcome = servers.iter().find_map(|server| server.outcome.as_ref()).unwrap();
        let new_keys: Vec<PublicKey> = outcome.keys.share_keys().to_vec();
        let old_keys = world.key.keys.share_keys();
        prop_assert!(new_keys.iter().all(|key| !old_keys.contains(key)));
    }
}
