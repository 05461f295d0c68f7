//! Servers on disk: everything but the database and the keys is made anew for every call, as after a SIGKILL.

use std::path::PathBuf;

use stkr_chain::{BlockId, CommitteeTerm};
use stkr_core::testing::TrustedDealer;
use stkr_core::{PartialSignature, ShareIndex, Threshold, verify};
use stkr_protocol::api::Role;
use stkr_protocol::collection::Committee;
use stkr_protocol::handover::{HANDOVER_DELAY, KEEP_PAST_SHARES};
use stkr_protocol::reshare::evidence::{Proof, ReshareEvidence};
use stkr_protocol::reshare::{Board, Body, Transcript};
use stkr_protocol::{ProtocolDomain, SignerKey};

use super::*;
use crate::erasure::is_over;

const KEY: u64 = 7;
const DRAWN_AT: u64 = 10;
const DEADLINE: u64 = 10_000;
const HANDOVER: u64 = DEADLINE + HANDOVER_DELAY;
const NOW: u64 = 5_000;
/// A signing root.
const DUTY: [u8; 32] = [9; 32];

struct Disk {
    folder: tempfile::TempDir,
    signer: SignerKey,
    /// That of the registry, if it was changed since the old committee was made.
    next: Option<SignerKey>,
    store_key: StoreKey,
}

impl Disk {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            signer: SignerKey::random().unwrap(),
            next: None,
            store_key: StoreKey::random().unwrap(),
        }
    }

    /// Made anew, as from its file.
    fn signers(&self) -> SignerKeys {
        let anew = |key: &SignerKey| SignerKey::from_bytes(&key.to_bytes()).unwrap();
        SignerKeys::new([&self.signer].into_iter().chain(&self.next).map(anew).collect(), None)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("server.db")
    }

    fn store_born(&self, born: u64) -> Store {
        let owner = crate::store::Owner {
            signer: self.signer.address(),
            chain_id: 31337,
            key_registry: Address::repeat_byte(2),
        };
        Store::open(&self.file(), &owner, born).unwrap()
    }

    fn store(&self) -> Store {
        self.store_born(DRAWN_AT - 1)
    }

    fn keep_share(&self, share: &SecretShare, dealt: &TrustedDealer) {
        let row = ShareRow {
            origin: ShareOrigin { committee_epoch: 0, attempt: 0, deadline: 0 },
            index: share.index(),
            share_key: share.public_key().to_compressed(),
            group_key: dealt.keys.group_key().to_compressed(),
            keystore: self.store_key.seal_share(share).unwrap().to_json().unwrap(),
        };
        self.store().adopt_dealt(KEY, &row).unwrap();
    }

    fn advance_at(
        &self,
        shown: &KeyCommittees,
        messages: Vec<ReshareMessage>,
        now: u64,
    ) -> Result<ReshareAdvanceResponse, ReshareError> {
        let (store, sealer) = (self.store(), Sealer::new(&self.store_key));
        let reshares =
            Reshares { store: &store, signers: &self.signers(), sealer: &sealer, store_key: &self.store_key };
        reshares.advance(shown, messages, now)
    }

    fn advance(&self, shown: &KeyCommittees, messages: Vec<ReshareMessage>) -> ReshareAdvanceResponse {
        self.advance_at(shown, messages, NOW).unwrap()
    }

    fn share(&self, epoch: u32) -> Option<ShareRow> {
        let shares = self.store().shares(KEY).unwrap();
        shares.into_iter().find(|share| share.origin.committee_epoch == epoch)
    }
}

/// Servers 1 to 4 hold a 3-of-4 key, and 5 none. Server 1 lost its seat to server 5; the others deal and stay.
struct World {
    disks: Vec<Disk>,
    dealt: TrustedDealer,
    shown: KeyCommittees,
}

fn world() -> World {
    let disks: Vec<Disk> = (0..5).map(|_| Disk::new()).collect();
    let threshold = Threshold::new(3, 4).unwrap();
    let dealt = TrustedDealer::deal(threshold, [3; 32]);
    for (disk, share) in disks.iter().zip(&dealt.shares) {
        disk.keep_share(share, &dealt);
    }
    let seats = |seats: [usize; 4]| seats.map(|it| member(&disks, it)).to_vec();
    let domain = ProtocolDomain { chain_id: 31337, key_registry: Address::repeat_byte(2) };
    let old = Committee::new(domain, 0, dealt.keys.clone(), seats([0, 1, 2, 3])).unwrap();
    let drawn = DrawnReshare {
        id: ReshareId { key_id: KEY, committee_epoch: 1, attempt: 0 },
        threshold,
        members: seats([4, 1, 2, 3]),
        dealers: [2, 3, 4].map(|index| ShareIndex::new(index).unwrap()).to_vec(),
        deadline: DEADLINE,
        handover: HANDOVER,
        commitment: B256::repeat_byte(1),
        drawn_at: DRAWN_AT,
    };
    let shown = crate::serving::tests::shown(NOW, vec![(0, old)]);
    World { disks, dealt, shown: KeyCommittees { drawn: Some(drawn), ..shown } }
}

fn member(disks: &[Disk], seat: usize) -> MemberId {
    MemberId { server_id: u32::try_from(seat).unwrap() + 1, signer: disks[seat].signer.address() }
}

impl World {
    fn drawn(&self) -> &DrawnReshare {
        self.shown.drawn.as_ref().unwrap()
    }

    fn board(&self) -> Board {
        Board::new(self.shown.plan().unwrap().unwrap())
    }

    /// Carries messages between these servers until nothing new is said.
    fn relay(&self, board: &mut Board, servers: &[usize]) -> Vec<ReshareAdvanceResponse> {
        let mut answers = Vec::new();
        for _ in 0..4 {
            answers = servers.iter().map(|&it| self.carry(board, it)).collect();
        }
        answers
    }

    /// One call of one server.
    fn carry(&self, board: &mut Board, server: usize) -> ReshareAdvanceResponse {
        let answer = self.disks[server].advance(&self.shown, board.messages().cloned().collect());
        for message in &answer.messages {
            board.accept(message.clone()).unwrap();
        }
        answer
    }

    /// Keys of all members are on the board and nothing else.
    fn keys(&self) -> Board {
        let mut board = self.board();
        for server in [4, 1, 2, 3] {
            let answer = self.disks[server].advance(&self.shown, Vec::new());
            for message in answer.messages {
                board.accept(message).unwrap();
            }
        }
        assert!(board.missing(Round::Keys).is_empty() && board.missing(Round::Dealing).len() == 3);
        board
    }

    /// What a dealer has dealt, signed again after this change.
    fn altered(&self, board: &Board, dealer: usize, change: impl FnOnce(&mut Vec<u8>)) -> ReshareMessage {
        let disk = &self.disks[dealer];
        let said = disk.advance(&self.shown, board.messages().cloned().collect()).messages;
        let honest = said.into_iter().find(|message| message.round() == Round::Dealing).unwrap();
        let Body::Dealing(mut body) = honest.body.clone() else { unreachable!() };
        change(&mut body.shares);
        let domain = board.plan().domain();
        ReshareMessage::sign(domain, &disk.signer, honest.id, honest.index, Body::Dealing(body))
    }

    /// The chain after the transcript was finalised.
    fn finalised(&self, transcript: &Transcript, time: u64) -> KeyCommittees {
        let plan = transcript.plan();
        let new = Committee::new(*plan.domain(), 1, transcript.keys().clone(), plan.members().to_vec()).unwrap();
        let attempt = plan.id().attempt;
        let term = CommitteeTerm { attempt, handover: HANDOVER, leaves_root: B256::ZERO, committee: new };
        let mut shown = self.shown.clone();
        shown.drawn = None;
        shown.terms.push(term);
        shown.block = BlockId { timestamp: time, ..shown.block };
        shown
    }
}

#[test]
fn a_key_goes_to_another_committee_with_every_server_started_anew_for_every_call() {
    let world = world();
    let mut board = world.board();
    let answers = world.relay(&mut board, &[1, 2, 3, 4]);
    for answer in &answers {
        assert_eq!((answer.phase, &answer.failure, answer.waiting_for.len()), (Phase::Done, &None, 0));
    }
    let transcript = Transcript::assemble(&board).unwrap();
    assert_eq!(transcript.keys().group_key(), world.dealt.keys.group_key());
    let mut partials: Vec<PartialSignature> = Vec::new();
    for server in [4, 1, 2, 3] {
        let disk = &world.disks[server];
        assert_eq!(disk.store().reshare(world.drawn().id).unwrap().unwrap().sealed, None, "erased with the outcome");
        let row = disk.share(1).unwrap();
        assert_eq!(row.origin, ShareOrigin { committee_epoch: 1, attempt: 0, deadline: DEADLINE });
        let share_key = *transcript.keys().share_key(row.index).unwrap();
        let share = signing::open_share(&[row], KEY, (transcript_index(&world, server), share_key), &disk.store_key);
        partials.push(share.unwrap().sign(&DUTY));
        assert_eq!(disk.share(0).is_some(), server != 4, "who stays has both shares until the hand-over is over");
    }
    let combined = transcript.keys().combine(&DUTY, &partials).unwrap();
    assert!(combined.culprits.is_empty() && verify(&world.dealt.keys.group_key(), &DUTY, &combined.signature));
    assert!(world.disks[0].share(0).is_some() && world.disks[0].share(1).is_none());
    let stranger = world.disks[0].advance_at(&world.shown, Vec::new(), NOW).unwrap_err();
    assert!(matches!(stranger, ReshareError::NoPart(_)), "who lost its seat and does not deal has no part: {stranger}");
}

fn transcript_index(world: &World, server: usize) -> ShareIndex {
    let mut seats = world.drawn().threshold.indices().zip(&world.drawn().members);
    seats.find(|(_, it)| **it == member(&world.disks, server)).unwrap().0
}

#[test]
fn a_server_that_changed_its_signer_deals_under_the_old_one_and_gets_its_share_under_the_new_one() {
    let mut world = world();
    let new = SignerKey::random().unwrap();
    let (old, next) = (world.disks[1].signer.address(), new.address());
    world.shown.drawn.as_mut().unwrap().members[1].signer = next;
    // Without the new key it has no part to begin, and one that came after the draw may have spoken before.
    let lacking = world.disks[1].advance_at(&world.shown, Vec::new(), NOW).unwrap_err();
    assert!(matches!(lacking, ReshareError::NoSignerKey { signer, .. } if signer == next), "{lacking}");
    world.disks[1].next = Some(new);
    for (born, sits_out) in [(DRAWN_AT - 1, false), (DRAWN_AT, true)] {
        let disk = Disk::new();
        let disk = Disk { signer: SignerKey::from_bytes(&world.disks[1].signer.to_bytes()).unwrap(), ..disk };
        let key = world.disks[1].next.as_ref().unwrap().to_bytes();
        let disk = Disk { next: Some(SignerKey::from_bytes(&key).unwrap()), ..disk };
        disk.store().own_signer(next, born).unwrap();
        assert_eq!(disk.advance(&world.shown, Vec::new()).phase == Phase::Failed, sits_out);
    }
    world.disks[1].store().own_signer(next, DRAWN_AT - 1).unwrap();
    let mut board = world.board();
    world.relay(&mut board, &[1, 2, 3, 4]);
    let two = ShareIndex::new(2).unwrap();
    let by = |round, sender| {
        let message = board.message(round, sender).unwrap();
        message.recover(board.plan().domain()).unwrap()
    };
    assert_eq!(by(Round::Dealing, Sender::Dealer(two)), old);
    for round in [Round::Keys, Round::Acknowledgement] {
        assert_eq!(by(round, Sender::Member(two)), next);
    }
    assert_eq!(Transcript::assemble(&board).unwrap().keys().group_key(), world.dealt.keys.group_key());
}

#[test]
fn messages_of_strangers_and_of_other_keys_epochs_and_attempts_have_no_effect_and_are_not_kept() {
    let world = world();
    let board = world.keys();
    let plan = board.plan().clone();
    let keys: Vec<ReshareMessage> = board.messages().cloned().collect();
    let (id, real) = (plan.id(), &keys[0]);
    let as_of =
        |signer: &SignerKey, id, index| ReshareMessage::sign(plan.domain(), signer, id, index, real.body.clone());
    let own = &world.disks[4].signer;
    let mut forged = vec![
        as_of(&SignerKey::random().unwrap(), id, real.index),
        as_of(&world.disks[0].signer, id, real.index),
        as_of(own, id, ShareIndex::new(9).unwrap()),
    ];
    for other in
        [ReshareId { key_id: KEY + 1, ..id }, ReshareId { committee_epoch: 2, ..id }, ReshareId { attempt: 1, ..id }]
    {
        forged.push(as_of(own, other, real.index));
        // What was said in the other one, passed off as said here.
        forged.push(ReshareMessage { id, ..as_of(own, other, real.index) });
    }
    let disk = &world.disks[1];
    let before = disk.store().reshare_messages(id).unwrap();
    let answer = disk.advance(&world.shown, forged);
    assert_eq!((answer.phase, answer.failure, answer.messages.len()), (Phase::Keys, None, 1));
    assert_eq!(disk.store().reshare_messages(id).unwrap(), before);
    let mut board = world.board();
    world.relay(&mut board, &[1, 2, 3, 4]);
    Transcript::assemble(&board).unwrap();
}

#[test]
fn a_new_database_sits_out_what_a_lost_one_may_have_taken_part_in() {
    let world = world();
    let mut board = world.board();
    world.carry(&mut board, 4);
    std::fs::remove_file(world.disks[4].file()).unwrap();
    drop(world.disks[4].store_born(DRAWN_AT));
    let answer = world.disks[4].advance(&world.shown, board.messages().cloned().collect());
    assert_eq!((answer.phase, answer.messages.len()), (Phase::Failed, 0));
    let failure = answer.failure.unwrap();
    assert_eq!(failure.culprit.unwrap().role, Role::Member);
    assert!(failure.reason.contains("an earlier, lost database may have taken part"), "{}", failure.reason);
    let row = world.disks[4].store().reshare(world.drawn().id).unwrap().unwrap();
    assert!(row.sealed.is_none() && row.sits_out.is_some());
    // A database of before the draw has forgotten nothing.
    std::fs::remove_file(world.disks[4].file()).unwrap();
    drop(world.disks[4].store_born(DRAWN_AT - 1));
    assert_eq!(world.disks[4].advance(&world.shown, Vec::new()).phase, Phase::Keys);
}

#[test]
fn a_restored_database_that_meets_what_it_does_not_know_says_nothing_ever_after() {
    let world = world();
    let mut board = world.keys();
    let dealer = &world.disks[1];
    let copy = dealer.folder.path().join("backup.db");
    std::fs::copy(dealer.file(), &copy).unwrap();
    world.carry(&mut board, 1);
    assert_eq!(board.missing(Round::Dealing).len(), 2);
    std::fs::rename(&copy, dealer.file()).unwrap();
    let carried: Vec<ReshareMessage> = board.messages().cloned().collect();
    for messages in [carried, Vec::new(), Vec::new()] {
        let answer = dealer.advance(&world.shown, messages);
        assert_eq!(answer.phase, Phase::Failed);
        let own = answer.messages.iter().filter(|message| message.index.get() == 2).count();
        assert_eq!(own, 0, "{answer:?}");
        assert!(answer.failure.unwrap().reason.contains("messages of this reshare that its database lacks"));
    }
    assert!(world.disks[1].share(1).is_none());
}

#[test]
fn a_member_that_was_shown_other_finalised_blocks_sits_out_and_tells_it_and_never_deals_twice() {
    let world = world();
    let board = world.keys();
    let dealer = &world.disks[1];
    // The liar's committee: servers 1 and 5 in each other's seats, under the same key, epoch and attempt.
    let mut lie = world.shown.clone();
    let drawn = lie.drawn.as_mut().unwrap();
    (drawn.members[0], drawn.commitment) = (member(&world.disks, 0), B256::repeat_byte(9));
    let answer = dealer.advance(&lie, board.messages().cloned().collect());
    assert_eq!((answer.phase, answer.messages.len()), (Phase::Failed, 0));
    assert!(answer.failure.unwrap().reason.contains("finalised blocks showed this server another committee"));
    assert!(dealer.store().reshare_messages(world.drawn().id).unwrap().iter().all(|it| it.round() != Round::Dealing));
    let mut board = world.board();
    world.relay(&mut board, &[1, 2, 3, 4]);
    Transcript::assemble(&board).unwrap();
}

#[test]
fn a_wrong_share_is_proven_with_the_one_secret_for_its_dealer_and_ends_the_attempt_for_who_proved_it() {
    let world = world();
    let mut board = world.keys();
    let bad = world.altered(&board, 1, |shares| shares[31] ^= 1);
    let honest = world.disks[1].advance(&world.shown, Vec::new()).messages;
    board.accept(bad).unwrap();
    let answers = world.relay(&mut board, &[2, 3, 4]);
    assert_eq!(answers.iter().map(|it| it.complaint.is_some()).collect::<Vec<_>>(), [false, false, true]);
    let cheated = &world.disks[4];
    let (complaint, id) = (answers[2].complaint.clone().unwrap(), world.drawn().id);
    let evidence = ReshareEvidence::new(board.plan().domain(), Proof::BadReshareDealing(complaint.clone()));
    assert_eq!(evidence.verify().unwrap().signer, world.disks[1].signer.address());
    let row = cheated.store().reshare(id).unwrap().unwrap();
    assert_eq!((row.complaint, row.sealed), (Some(complaint.clone()), None), "all secrets go with it");
    // Shown again after a restart, and whatever comes it acknowledges nothing any more.
    for messages in [Vec::new(), honest, board.messages().cloned().collect()] {
        let answer = cheated.advance(&world.shown, messages);
        assert_eq!((answer.phase, answer.complaint.as_ref()), (Phase::Failed, Some(&complaint)));
        let own = (Round::Acknowledgement, 1);
        assert!(answer.messages.iter().all(|message| (message.round(), message.index.get()) != own));
        let culprit = answer.failure.unwrap().culprit.unwrap();
        assert_eq!((culprit.role, culprit.index.get()), (Role::Dealer, 2));
    }
    assert!(cheated.share(1).is_none());
}

#[test]
fn a_dealer_without_its_share_says_so_and_not_more_than_before() {
    let world = world();
    let board = world.keys();
    let dealer = &world.disks[1];
    let share = dealer.share(0).unwrap();
    dealer.store().erase_share(KEY, &share).unwrap();
    for _ in 0..2 {
        let answer = dealer.advance(&world.shown, board.messages().cloned().collect());
        assert_eq!((answer.phase, answer.messages.len()), (Phase::Failed, 1));
        assert!(answer.failure.unwrap().reason.contains("its share of that committee is not at hand"));
    }
    // It got its backup back.
    dealer.keep_share(&world.dealt.shares[1], &world.dealt);
    let mut board = world.board();
    world.relay(&mut board, &[1, 2, 3, 4]);
    Transcript::assemble(&board).unwrap();
}

#[test]
fn past_the_deadline_nothing_is_signed_any_more() {
    let world = world();
    let board = world.keys();
    let carried: Vec<ReshareMessage> = board.messages().cloned().collect();
    let late = world.disks[1].advance_at(&world.shown, carried.clone(), DEADLINE + 1).unwrap();
    assert_eq!((late.phase, late.messages.len()), (Phase::Dealings, 1), "its keys, and no dealing");
    let in_time = world.disks[1].advance_at(&world.shown, carried, DEADLINE).unwrap();
    assert_eq!(in_time.messages.len(), 2);
}

#[test]
fn shares_of_failed_attempts_and_of_committees_that_handed_over_are_erased_and_no_others() {
    let world = world();
    let mut board = world.board();
    world.relay(&mut board, &[1, 2, 3, 4]);
    let transcript = Transcript::assemble(&board).unwrap();
    let (old, new) = (world.disks[1].share(0).unwrap(), world.disks[1].share(1).unwrap());
    let at = |time| KeyCommittees { block: BlockId { timestamp: time, ..world.shown.block }, ..world.shown.clone() };
    // While it is open, and for ever if the old committee signs on.
    for (time, over) in [(NOW, false), (DEADLINE, false), (DEADLINE + 1, true)] {
        assert_eq!((is_over(&at(time), &old), is_over(&at(time), &new)), (false, over), "{time}");
    }
    let kept = HANDOVER + KEEP_PAST_SHARES;
    for (time, over) in [(DEADLINE + 1, false), (HANDOVER, false), (kept - 1, false), (kept, true)] {
        let shown = world.finalised(&transcript, time);
        assert_eq!((is_over(&shown, &old), is_over(&shown, &new)), (over, false), "{time}");
    }
    // The number of the attempt comes from an event, the share keys from the chain's state.
    let mut lie = world.finalised(&transcript, HANDOVER);
    lie.terms[1].attempt = 4;
    assert!(!is_over(&lie, &new), "the share of the committee that signs");
    let failed = ShareRow { share_key: [1; 48], origin: ShareOrigin { attempt: 3, ..new.origin }, ..new };
    assert!(is_over(&world.finalised(&transcript, HANDOVER), &failed), "another attempt made the committee");
    let store = world.disks[1].store();
    store.erase_share(KEY, &old).unwrap();
    assert_eq!(store.shares(KEY).unwrap().len(), 1);
    let keystore: serde_json::Value = serde_json::from_str(&old.keystore).unwrap();
    let text = keystore["crypto"]["cipher"]["message"].as_str().unwrap().as_bytes();
    for name in ["server.db", "server.db-wal"] {
        let file = std::fs::read(world.disks[1].folder.path().join(name)).unwrap_or_default();
        assert!(!file.windows(text.len()).any(|window| window == text), "{name}");
    }
}

#[test]
fn one_time_secrets_go_when_the_time_of_their_attempt_is_over() {
    let world = world();
    world.keys();
    let sealed = || world.disks[4].store().reshare(world.drawn().id).unwrap().unwrap().sealed;
    assert_eq!(world.disks[4].store().erase_reshare_secrets(DEADLINE).unwrap(), 0);
    assert!(sealed().is_some());
    assert_eq!(world.disks[4].store().erase_reshare_secrets(DEADLINE + 1).unwrap(), 1);
    assert!(sealed().is_none());
}

#[test]
fn a_second_own_message_of_a_round_is_refused_by_the_database_and_nothing_of_the_step_stays() {
    let world = world();
    let board = world.keys();
    let id = world.drawn().id;
    let first = world.altered(&board, 1, |_| {});
    let second = world.altered(&board, 1, |shares| shares[0] ^= 1);
    let disk = &world.disks[2];
    let before = disk.store().reshare_messages(id).unwrap();
    let step = |own| ReshareStep { own: std::slice::from_ref(own), sits_out: None, ..ReshareStep::default() };
    disk.store().record_reshare(id, step(&first)).unwrap();
    disk.store().record_reshare(id, step(&first)).unwrap();
    let third: Vec<ReshareMessage> = board.messages().filter(|it| !before.contains(it)).cloned().collect();
    let error = disk.store().record_reshare(id, ReshareStep { received: &third, ..step(&second) }).unwrap_err();
    assert!(matches!(error, StoreError::ReshareEquivocation { .. }), "{error}");
    assert_eq!(disk.store().reshare_messages(id).unwrap().len(), before.len() + 1);
}

#[test]
fn sealed_secrets_open_for_their_attempt_only() {
    let world = world();
    let (plan, id) = (world.shown.plan().unwrap().unwrap(), world.drawn().id);
    let sealer = Sealer::new(&world.disks[4].store_key);
    let secrets = RecipientSecrets::random(plan.reshare()).unwrap();
    let sealed = sealer.seal_reshare(id, &secrets).unwrap();
    let opened = sealer.open_reshare(id, plan.reshare(), &sealed).unwrap();
    assert_eq!(opened.public_keys(), secrets.public_keys());
    for other in [ReshareId { key_id: 8, ..id }, ReshareId { committee_epoch: 2, ..id }, ReshareId { attempt: 1, ..id }]
    {
        assert!(sealer.open_reshare(other, plan.reshare(), &sealed).is_err());
    }
    assert!(sealer.open(KEY, 0, &sealed).is_err(), "nor for a ceremony");
    assert!(Sealer::new(&world.disks[3].store_key).open_reshare(id, plan.reshare(), &sealed).is_err());
}
