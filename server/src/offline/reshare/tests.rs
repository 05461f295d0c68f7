use alloy::primitives::{B256, U256, keccak256};
use alloy::sol_types::SolValue as _;
use stkr_chain::bindings::Resharing;
use stkr_chain::facts::committee::CommitteeFacts;
use stkr_chain::keys::{Member, leaf, merkle_root};
use stkr_chain::types::{KeyKind, KeyState, ReshareState};
use stkr_core::keystore::StoreKey;
use stkr_core::reshare::RecipientSecrets;
use stkr_core::testing::TrustedDealer;
use stkr_core::{ShareIndex, Threshold};
use stkr_node::exit::Exit;
use stkr_protocol::SignerKey;
use stkr_protocol::api::Role;
use stkr_protocol::ceremony::MemberId;
use stkr_protocol::ceremony::points;
use stkr_protocol::handover::{HANDOVER_DELAY, KEEP_PAST_SHARES, ShareOrigin};
use stkr_protocol::offline::{Mark, VERSION};
use stkr_protocol::reshare::{Body, Hands, Participant, ReshareId, ReshareKeysBody, Stored, Transcript};
use stkr_protocol::silence::SilenceVote;

use super::super::tests::{deployment, header, other, prove, storage};
use super::super::{Keys, owner, vote};
use super::*;
use crate::setup::SilentArgs;
use crate::signers::SignerKeys;
use crate::store::{Confirmed, ShareRow, Store};

const KEY: u64 = 7;
/// Server ids in index order; this server is number 5. Server 6 loses its seat to server 8.
const OLD: [u32; 4] = [4, 9, 6, 5];
const NEW: [u32; 4] = [4, 9, 8, 5];
const MINE: u32 = 5;
const TIME: u64 = 1_800_000_000;
const DEADLINE: u64 = TIME + 3_600;
const WINDOW: u64 = 86_400;

/// What a block shows of the reshare.
#[derive(Clone, Copy)]
struct Ask {
    attempt: u16,
    block: u64,
    time: u64,
    deadline: u64,
    seats: [u32; 4],
    /// Bit i: member i + 1 of the old committee deals.
    dealers: u16,
    /// Makes another block of the same number.
    salt: u8,
}

const ASK: Ask = Ask { attempt: 0, block: 100, time: TIME, deadline: DEADLINE, seats: NEW, dealers: 0b1011, salt: 0 };

struct Rig {
    machine: Machine,
    dealt: TrustedDealer,
    /// This server's.
    signer: Address,
    _folder: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let signer = SignerKey::random().unwrap();
        let address = signer.address();
        let store = Store::open(&folder.path().join("server.db"), &owner(address, &deployment()), 0).unwrap();
        let store_key = StoreKey::random().unwrap();
        let dealt = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [3; 32]);
        let share = &dealt.shares[3];
        let row = ShareRow {
            origin: ShareOrigin { committee_epoch: 0, attempt: 0, deadline: 0 },
            index: share.index(),
            share_key: share.public_key().to_compressed(),
            group_key: dealt.keys.group_key().to_compressed(),
            keystore: store_key.seal_share(share).unwrap().to_json().unwrap(),
        };
        store.adopt_dealt(KEY, &row).unwrap();
        let keys = Keys::new(SignerKeys::new(vec![signer], None), store_key);
        Self { machine: Machine { deployment: deployment(), keys, store }, dealt, signer: address, _folder: folder }
    }

    fn signer_of(&self, id: u32) -> Address {
        if id == MINE { self.signer } else { other(id).address() }
    }

    fn root(&self) -> B256 {
        let members = self.dealt.keys.threshold().indices().zip(OLD);
        let leaves = members.zip(self.dealt.keys.share_keys()).map(|((index, server_id), key)| {
            leaf(&Member { index, server_id, signer: self.signer_of(server_id) }, &key.to_eip2537())
        });
        merkle_root(&leaves.collect::<Vec<_>>())
    }

    fn facts(&self, ask: &Ask) -> ReshareFacts {
        let at = deployment();
        let slot = |id: u64, table: u64| keccak256((U256::from(id), U256::from(table)).abi_encode());
        let next = |slot: B256| B256::from(U256::from_be_bytes(slot.0) + U256::from(1));
        let six = |value: u64| value.to_be_bytes()[2..].to_vec();
        let key = [&[0xff; 8][..], &[4, 3, u8::from(KeyKind::Withdrawal), u8::from(KeyState::Live)], &[6; 20]].concat();
        let first = slot(KEY, 8);
        let mut key_registry = storage(&[(first, B256::from_slice(&key)), (next(first), self.root())]);
        let attempt = ask.attempt.to_be_bytes().to_vec();
        let rest = vec![4, 3, u8::from(ReshareState::Drawn)];
        let (handover, deadline) = (six(ask.deadline + HANDOVER_DELAY), six(ask.deadline));
        let packed = [vec![0; 11], handover, deadline, vec![0; 4], attempt, rest].concat();
        let reshare = slot(KEY, 0);
        let words = [(reshare, B256::from_slice(&packed)), (next(reshare), draft(ask))];
        let mut resharing = storage(&words);
        let servers = ask.seats.map(|id| (slot(u64::from(id), 4), self.signer_of(id).into_word()));
        let mut server_registry = storage(&servers);
        let state_root = prove(&mut [
            (at.key_registry, &mut key_registry),
            (at.resharing(), &mut resharing),
            (at.server_registry, &mut server_registry),
        ]);
        ReshareFacts {
            header: header(state_root, ask.block, ask.time, ask.salt),
            committee: OLD.to_vec(),
            signers: OLD.map(|id| self.signer_of(id)).to_vec(),
            points: points(&self.dealt.keys).into(),
            seats: ask.seats.to_vec(),
            dealers: ask.dealers,
            key_registry,
            resharing,
            server_registry,
        }
    }

    fn request(&self, ask: &Ask, messages: Vec<ReshareMessage>) -> Asked {
        let about = AboutReshare {
            chain_id: 31_337,
            key_registry: deployment().key_registry,
            server: MINE,
            key_id: KEY,
            committee_epoch: 1,
            attempt: ask.attempt,
            draft: draft(ask),
        };
        Asked { r#type: Mark::new(), version: VERSION, about, messages, facts: self.facts(ask) }
    }

    fn refuses(&self, request: &Asked, exit: Exit, sentence: &str) {
        let failure = self.machine.plan_reshare(request).err().unwrap();
        assert!(failure.exit == exit && failure.message.contains(sentence), "{failure:?}");
    }

    /// Answers as after a person compared the block.
    fn answer(&self, request: &Asked) -> (Vec<Round>, ReshareAnswerFile) {
        let plan = self.machine.plan_reshare(request).unwrap();
        self.machine.confirm_reshare(&plan).unwrap();
        let response = self.machine.advance_reshare(&plan).unwrap();
        (plan.signs.clone(), self.machine.sign_reshare_answer(&plan, response).unwrap())
    }

    fn shares(&self) -> Vec<(u32, u16)> {
        let shares = self.machine.store.shares(KEY).unwrap();
        shares.iter().map(|share| (share.origin.committee_epoch, share.origin.attempt)).collect()
    }

    /// The other servers with a part, in memory.
    fn others(&self, request: &Asked) -> Vec<(u32, Participant)> {
        let plan = self.machine.plan_reshare(request).unwrap().reshare;
        let with_a_part = |id: &u32| plan.dealer_of(*id).is_some() || plan.member_of(*id).is_some();
        let ids = [4, 9, 6, 8].into_iter().filter(with_a_part);
        let part = |id: u32| {
            let secrets = plan.member_of(id).map(|_| RecipientSecrets::random(plan.reshare()).unwrap());
            (id, Participant::new(plan.clone(), id, Stored { secrets, ..Stored::default() }).unwrap())
        };
        ids.map(part).collect()
    }

    /// What all others have said once each was shown `messages`.
    fn others_say(&self, parts: &mut [(u32, Participant)], messages: &[ReshareMessage]) -> Vec<ReshareMessage> {
        let mut board = messages.to_vec();
        for _ in Round::ALL {
            for (id, part) in &mut *parts {
                board.iter().for_each(|message| drop(part.accept(message.clone())));
                let at = OLD.iter().position(|old| old == id);
                let share = at.and_then(|position| self.dealt.shares.get(position));
                part.step(Hands { keys: &[other(*id)], share, now: TIME }).unwrap();
                for message in part.published() {
                    if !board.contains(message) {
                        board.push(message.clone());
                    }
                }
            }
        }
        board
    }
}

fn draft(ask: &Ask) -> B256 {
    let fresh = (0..4).filter(|at| !OLD.contains(&ask.seats[*at])).fold(0, |mask, at| mask | 1_u16 << at);
    let (seats, dealers) = (ask.seats.to_vec(), ask.dealers);
    keccak256(Resharing::Draft { seats, fresh, dealers, activeSetHash: B256::ZERO }.abi_encode())
}

fn args(block: Option<B256>) -> AnswerArgs {
    let (dir, file, out) = (PathBuf::new(), PathBuf::new(), PathBuf::new());
    AnswerArgs { dir, file, out, block, yes: true, qr: None }
}

#[test]
fn a_member_that_deals_and_stays_has_a_new_share_after_three_visits_and_says_the_same_again() {
    let rig = Rig::new();
    let request = rig.request(&ASK, Vec::new());
    let mut others = rig.others(&request);
    let mut board = rig.others_say(&mut others, &[]);
    // Nobody deals before this server has shown its key.
    let (signs, answer) = rig.answer(&rig.request(&ASK, Vec::new()));
    assert_eq!((signs, answer.response.messages.len()), (vec![Round::Keys], 1));
    assert_eq!(answer.signer().unwrap(), rig.signer);
    board.extend(answer.response.messages);
    // The acknowledgement needs the dealings of others, which need this server's key.
    let (signs, answer) = rig.answer(&rig.request(&ASK, board.clone()));
    assert_eq!(signs, [Round::Dealing]);
    assert!(rig.machine.plan_reshare(&rig.request(&ASK, Vec::new())).unwrap().signs.is_empty(), "twice");
    board.extend(answer.response.messages.clone());
    board = rig.others_say(&mut others, &board);
    let (signs, answer) = rig.answer(&rig.request(&ASK, board.clone()));
    assert_eq!((signs, answer.response.phase.name()), (vec![Round::Acknowledgement], "done"));
    assert_eq!(rig.shares(), [(0, 0), (1, 0)]);
    assert!(rig.machine.store.reshare(request.about.id()).unwrap().unwrap().sealed.is_none(), "one-time secrets");
    let again = rig.answer(&rig.request(&ASK, board.clone()));
    assert_eq!((again.0, again.1.response.messages), (Vec::new(), answer.response.messages.clone()));
    // It is what the chain takes.
    board.extend(answer.response.messages);
    let plan = rig.machine.plan_reshare(&request).unwrap().reshare;
    let mut all = Board::new(plan);
    board.into_iter().for_each(|message| drop(all.accept(message)));
    let transcript = Transcript::assemble(&all).unwrap();
    let share = &rig.machine.store.shares(KEY).unwrap()[1];
    let index = ShareIndex::new(4).unwrap();
    assert_eq!((share.index, share.share_key), (index, transcript.keys().share_key(index).unwrap().to_compressed()));
    assert_eq!(transcript.keys().group_key(), rig.dealt.keys.group_key());
}

#[test]
fn a_member_that_loses_its_seat_deals_and_gets_nothing() {
    let rig = Rig::new();
    let ask = Ask { seats: [4, 9, 6, 8], ..ASK };
    let request = rig.request(&ask, Vec::new());
    let mut others = rig.others(&request);
    let board = rig.others_say(&mut others, &[]);
    let plan = rig.machine.plan_reshare(&rig.request(&ask, board.clone())).unwrap();
    assert!(plan.summary().contains("and have NO SEAT in the new committee"), "{}", plan.summary());
    assert!(
        plan.summary().contains("Servers that lose their seat: 5.\nServers that come new: 8."),
        "{}",
        plan.summary()
    );
    let (signs, answer) = rig.answer(&rig.request(&ask, board));
    assert_eq!((signs, answer.response.messages.len()), (vec![Round::Dealing], 1));
    assert_eq!(answer.signer().unwrap(), rig.signer);
    assert_eq!(rig.shares(), [(0, 0)]);
}

#[test]
fn the_first_request_of_an_attempt_needs_a_hash_and_the_later_ones_none() {
    let rig = Rig::new();
    let request = rig.request(&ASK, Vec::new());
    let plan = rig.machine.plan_reshare(&request).unwrap();
    let hash = plan.proven.newest.block.hash;
    assert!(!plan.is_confirmed && plan.confirm_block(&args(None), false).is_err());
    assert!(plan.confirm_block(&args(Some(B256::ZERO)), false).is_err());
    assert!(plan.confirm_block(&args(Some(hash)), false).is_ok());
    assert!(plan.summary().contains("COMPARE IT") && plan.summary().contains("signs and shows: reshare_keys."));
    rig.answer(&request);
    let later = rig.machine.plan_reshare(&rig.request(&Ask { block: 200, ..ASK }, Vec::new())).unwrap();
    assert!(later.is_confirmed && later.confirm_block(&args(None), false).is_ok());
    assert!(
        later.confirm_block(&args(Some(B256::ZERO)), false).is_err(),
        "a hash that is given is compared all the same"
    );
    // Another draw of the same attempt is another reshare.
    let other = rig.request(&Ask { dealers: 0b1110, block: 200, ..ASK }, Vec::new());
    assert!(!rig.machine.plan_reshare(&other).unwrap().is_confirmed);
}

#[test]
fn after_another_draw_of_one_attempt_nothing_more_is_said_in_it() {
    let rig = Rig::new();
    let (_, said) = rig.answer(&rig.request(&ASK, Vec::new()));
    assert_eq!(said.response.messages.len(), 1);
    let (_, answer) = rig.answer(&rig.request(&Ask { dealers: 0b1110, block: 200, ..ASK }, Vec::new()));
    assert_eq!((answer.response.messages.len(), answer.response.phase.name()), (0, "failed"));
}

#[test]
fn what_was_confirmed_before_speaks_against_older_blocks_and_against_an_attempt_that_is_over() {
    let rig = Rig::new();
    rig.answer(&rig.request(&ASK, Vec::new()));
    let next = Ask { attempt: 1, deadline: DEADLINE + WINDOW, ..ASK };
    rig.refuses(&rig.request(&Ask { block: 99, ..next }, Vec::new()), Exit::Refused, "it is stale");
    rig.refuses(&rig.request(&Ask { salt: 1, ..next }, Vec::new()), Exit::Unsafe, "both cannot be final");
    rig.answer(&rig.request(&Ask { block: 101, time: DEADLINE + 1, ..next }, Vec::new()));
    // The first attempt's request, carried late.
    rig.refuses(&rig.request(&ASK, Vec::new()), Exit::Refused, "nothing comes of it any more");
    let row = rig.machine.store.reshare(ReshareId { key_id: KEY, committee_epoch: 1, attempt: 0 }).unwrap().unwrap();
    assert!(row.sealed.is_none(), "one-time secrets of an attempt that is over");
}

#[test]
fn a_request_for_another_server_chain_or_draw_or_with_a_message_of_nobody_is_refused() {
    let rig = Rig::new();
    let good = rig.request(&ASK, Vec::new());
    let about = |change: &dyn Fn(&mut AboutReshare)| {
        let mut request = good.clone();
        change(&mut request.about);
        request
    };
    rig.refuses(&about(&|it| it.server = 9), Exit::Refused, "this is server 5; carry it to the other machine");
    rig.refuses(&about(&|it| it.chain_id = 1), Exit::Refused, "is for chain 1");
    rig.refuses(&about(&|it| it.attempt = 1), Exit::Refused, "or another draw of it");
    rig.refuses(&about(&|it| it.committee_epoch = 2), Exit::Refused, "or another draw of it");
    rig.refuses(&about(&|it| it.draft = B256::ZERO), Exit::Refused, "or another draw of it");
    Rig::new().refuses(&good, Exit::Refused, "has no part in");
    let say = |id: u32, index: u8| {
        let body = Body::Keys(ReshareKeysBody { public_keys: vec![2; 99] });
        let index = ShareIndex::new(index).unwrap();
        ReshareMessage::sign(&deployment().protocol_domain(), &other(id), good.about.id(), index, body)
    };
    assert!(rig.machine.plan_reshare(&rig.request(&ASK, vec![say(4, 1), say(8, 3)])).is_ok());
    rig.refuses(&rig.request(&ASK, vec![say(4, 1), say(6, 3)]), Exit::Refused, "is not authentic");
}

#[test]
fn a_member_that_is_not_drawn_to_deal_only_receives() {
    let rig = Rig::new();
    let ask = Ask { dealers: 0b0111, ..ASK };
    let plan = rig.machine.plan_reshare(&rig.request(&ask, Vec::new())).unwrap();
    assert!(plan.summary().contains("get the share of new member 4, and do not deal"), "{}", plan.summary());
    let mut others = rig.others(&rig.request(&ask, Vec::new()));
    let (signs, answer) = rig.answer(&rig.request(&ask, Vec::new()));
    assert_eq!(signs, [Round::Keys]);
    let board = rig.others_say(&mut others, &answer.response.messages);
    let (signs, answer) = rig.answer(&rig.request(&ask, board));
    assert_eq!((signs, answer.response.phase.name()), (vec![Round::Acknowledgement], "done"));
    assert!(answer.response.waiting_for.iter().all(|part| part.role == Role::Member));
    assert_eq!(rig.shares(), [(0, 0), (1, 0)]);
}

/// A share of this server as member 4 of a committee of these keys.
fn keep(rig: &Rig, (committee_epoch, attempt, deadline): (u32, u16, u64), dealt: &TrustedDealer) {
    let share = &dealt.shares[3];
    let row = ShareRow {
        origin: ShareOrigin { committee_epoch, attempt, deadline },
        index: share.index(),
        share_key: share.public_key().to_compressed(),
        group_key: dealt.keys.group_key().to_compressed(),
        keystore: rig.machine.keys.store_key.seal_share(share).unwrap().to_json().unwrap(),
    };
    rig.machine.store.adopt_dealt(KEY, &row).unwrap();
}

/// The committees of the key in a block of this time: committee 1, which has these share keys, is the newest.
fn committees(rig: &Rig, handover: u64, time: u64, keys: &TrustedDealer) -> CommitteeFacts {
    let at = deployment();
    let slot = |id: u64, table: u64| keccak256((U256::from(id), U256::from(table)).abi_encode());
    let next = |slot: B256| B256::from(U256::from_be_bytes(slot.0) + U256::from(1));
    let key = [&[0xff; 8][..], &[4, 3, u8::from(KeyKind::Withdrawal), u8::from(KeyState::Live)], &[6; 20]].concat();
    let first = slot(KEY, 8);
    let mut key_registry = storage(&[(first, B256::from_slice(&key)), (next(first), rig.root())]);
    let members = keys.keys.threshold().indices().zip(NEW);
    let leaves = members.zip(keys.keys.share_keys()).map(|((index, server_id), key)| {
        leaf(&Member { index, server_id, signer: rig.signer_of(server_id) }, &key.to_eip2537())
    });
    let root = merkle_root(&leaves.collect::<Vec<_>>());
    let packed = [vec![0; 23], 1_u32.to_be_bytes().to_vec(), vec![0, 0, 4, 3, u8::from(ReshareState::Drawn)]].concat();
    let (reshare, record) = (slot(KEY, 0), keccak256((U256::from(1), slot(KEY, 1)).abi_encode()));
    let handover = [vec![0; 24], vec![4, 3], handover.to_be_bytes()[2..].to_vec()].concat();
    let mut resharing = storage(&[
        (reshare, B256::from_slice(&packed)),
        (next(reshare), B256::repeat_byte(1)),
        (record, root),
        (next(record), B256::from_slice(&handover)),
    ]);
    let state_root = prove(&mut [(at.key_registry, &mut key_registry), (at.resharing(), &mut resharing)]);
    CommitteeFacts {
        header: header(state_root, 300, time, 0),
        committee: NEW.to_vec(),
        signers: NEW.map(|id| rig.signer_of(id)).to_vec(),
        points: points(&keys.keys).into(),
        key_registry,
        resharing,
    }
}

#[test]
fn a_share_goes_once_its_attempt_failed_or_a_week_after_its_committee_handed_over_and_no_other_does() {
    let rig = Rig::new();
    let deal = |seed: u8| TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [seed; 32]);
    let made = deal(5);
    // Attempt 1 made committee 1; of committee 2 nothing came yet.
    keep(&rig, (1, 0, TIME), &deal(4));
    keep(&rig, (1, 1, TIME + 100), &made);
    keep(&rig, (2, 0, TIME + 10_000), &deal(6));
    let handover = TIME + 100 + HANDOVER_DELAY;
    let proven = |time| committees(&rig, handover, time, &made).verify(&deployment(), KEY).unwrap();
    let over = |time| -> Vec<String> {
        let erased = rig.machine.over(&proven(time)).unwrap();
        erased.iter().map(|it| it.said().split(" of ").nth(2).unwrap_or_default().chars().take(25).collect()).collect()
    };
    let (failed, old, pending) =
        ("committee 1 (attempt 0), ", "committee 0 (attempt 0), ", "committee 2 (attempt 0), ");
    assert_eq!(over(TIME + 10_000), [failed]);
    assert_eq!(over(TIME + 10_001), [failed, pending]);
    assert_eq!(over(handover + KEEP_PAST_SHARES - 1), [failed, pending]);
    assert_eq!(over(handover + KEEP_PAST_SHARES), [old, failed, pending]);
    rig.machine.erase(&proven(handover)).unwrap();
    assert_eq!(rig.shares(), [(0, 0), (1, 1), (2, 0)]);
    rig.machine.erase(&proven(handover + KEEP_PAST_SHARES)).unwrap();
    assert_eq!(rig.shares(), [(1, 1)]);
}

#[test]
fn a_vote_is_signed_as_the_leaf_of_the_share_names_the_voter_and_only_with_a_share() {
    let rig = Rig::new();
    let until = |epoch, until| vote::VoteArgs {
        dir: PathBuf::new(),
        silent: SilentArgs { key: KEY, epoch, server: 6, until },
        yes: true,
    };
    let ask = |epoch| until(epoch, TIME);
    let refused = |args: &vote::VoteArgs| vote::vote(&rig.machine, args, false).unwrap_err().to_string();
    assert!(refused(&ask(0)).contains("does not say which signer"), "nothing was confirmed here");
    let members = OLD.map(|server_id| MemberId { server_id, signer: rig.signer_of(server_id) }).to_vec();
    let block = ProvenBlock { number: 1, hash: B256::ZERO, timestamp: 1 };
    let ceremony =
        Confirmed { key_id: KEY, attempt: 0, committee: B256::ZERO, threshold: 3, members, deadline: TIME, block };
    rig.machine.store.confirm(&ceremony).unwrap();
    let signed = vote::vote(&rig.machine, &ask(0), false).unwrap();
    assert_eq!(signed.vote, SilenceVote { key_id: KEY, committee_epoch: 0, server: 6, until: TIME });
    assert_eq!(signed.voter(&deployment().protocol_domain()).unwrap(), rig.signer);
    assert!(refused(&ask(1)).contains("has no share of key 7 in committee 1"));
    assert!(refused(&until(0, 1 << 48)).contains("no time of the next 30 days"));
    assert!(vote::vote(&rig.machine, &vote::VoteArgs { yes: false, ..ask(0) }, false).is_err(), "nobody was asked");
}
