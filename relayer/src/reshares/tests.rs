use alloy::primitives::{Address, B256};
use stkr_chain::types::KeyKind;

use super::*;
use crate::plan;
use crate::view::{Ceremony, Fact, PendingDraw, Server, Shown};

const KEY: u64 = 9;
/// Members of the first committee, by share index.
const FIRST: [u32; 4] = [4, 2, 6, 1];
const SPARE: u32 = 7;
const ON: Policy = Policy { request: true, refresh: false };
const OFF: Policy = Policy { request: false, refresh: false };
const DEADLINE: u64 = 5_000;
const HANDOVER: u64 = 6_152;

fn clock(head: u64, timestamp: u64) -> Clock {
    Clock { head, timestamp, finalized: head, evidence_window: 1_000 }
}

fn byte(id: u32) -> u8 {
    u8::try_from(id).unwrap()
}

fn live(committee: &[u32]) -> LiveKey {
    LiveKey {
        committee: committee.to_vec(),
        signers: committee.iter().map(|id| Address::with_last_byte(byte(*id))).collect(),
        points: Bytes::from(vec![7; (committee.len() + 1) * 128]),
        dealings_digest: B256::ZERO,
        leaves_root: B256::ZERO,
    }
}

/// A Live 3-of-4 key, and a spare server.
fn with_consumer(consumer: Address) -> View {
    let mut view = View::default();
    for id in FIRST.into_iter().chain([SPARE]) {
        let server = Server { signer: Address::with_last_byte(byte(id)), ..Server::active("https://192.0.2.1:22") };
        view.apply(1, Fact::ServerRegistered { id, server });
    }
    let draw = PendingDraw { seed_block: 2, active_set: Bytes::new(), kept: Vec::new() };
    view.apply(
        1,
        Fact::KeyRequested {
            key_id: KEY,
            consumer,
            kind: KeyKind::Validator,
            threshold: 3,
            members: 4,
            draw,
            block: 1,
        },
    );
    let ceremony = Ceremony { committee: FIRST.to_vec(), deadline: 500, begun_in: 3 };
    view.apply(3, Fact::CommitteeDrawn { key_id: KEY, attempt: 0, ceremony });
    view.apply(4, Fact::KeyFinalised { key_id: KEY, live: live(&FIRST) });
    view
}

fn view() -> View {
    with_consumer(Address::repeat_byte(1))
}

fn lock_out(view: &mut View, server_id: u32) {
    let shown = Shown { reporter: Address::ZERO, transaction: B256::ZERO, block: 5 };
    let (evidence, charged) = (B256::repeat_byte(byte(server_id)), true);
    view.apply(5, Fact::FaultUpheld { fault: 1, server_id, key_id: KEY, committee_epoch: 0, evidence, shown, charged });
}

fn apply(view: &mut View, fact: ReshareFact) {
    view.apply(10, Fact::Reshare { key_id: KEY, fact });
}

fn id(committee_epoch: u32, attempt: u16) -> ReshareId {
    ReshareId { key_id: KEY, committee_epoch, attempt }
}

fn draft(seats: &[u32]) -> Resharing::Draft {
    Resharing::Draft { seats: seats.to_vec(), fresh: 4, dealers: 0b1011, activeSetHash: B256::ZERO }
}

fn requested(view: &mut View, id: ReshareId) {
    let stage = Stage::Requested { seed_block: 20, active_set: Bytes::from(vec![0, 0, 0, 7]) };
    apply(view, ReshareFact::Moved { id, threshold: Some(3), draft: draft(&[4, 2, 0, 1]), stage });
}

fn drawn(view: &mut View, id: ReshareId) {
    let stage = Stage::Drawn { deadline: DEADLINE, handover: HANDOVER, begun_in: 22 };
    apply(view, ReshareFact::Moved { id, threshold: None, draft: draft(&[4, 2, SPARE, 1]), stage });
}

fn made(view: &mut View, id: ReshareId) {
    apply(view, ReshareFact::Made { id, live: live(&[4, 2, SPARE, 1]), handover: HANDOVER });
}

fn names(actions: &[Action]) -> Vec<String> {
    actions.iter().map(Action::step).collect()
}

fn planned(view: &View, head: u64, timestamp: u64) -> Vec<String> {
    names(&plan(view, &clock(head, timestamp), ON))
}

#[test]
fn a_key_with_members_without_network_is_asked_for_as_any_other() {
    let mut view = view();
    lock_out(&mut view, 6);
    assert_eq!(plan(&view, &clock(30, 100), ON).len(), 1);
    view.servers.get_mut(&2).unwrap().online = false;
    assert_eq!(planned(&view, 30, 100), ["request_reshare/9/1"]);
}

#[test]
fn a_reshare_is_asked_for_when_a_member_is_lost_by_whatever_cause_and_not_otherwise() {
    type Lose = fn(&mut View);
    let causes: [(&str, Lose); 4] = [
        ("is locked out", |view| lock_out(view, 6)),
        ("is leaving", |view| view.apply(5, Fact::StatusChanged { id: 6, status: ServerStatus::Leaving })),
        ("is not Active", |view| view.apply(5, Fact::StatusChanged { id: 6, status: ServerStatus::Suspended })),
        ("was voted silent", |view| apply(view, ReshareFact::SilenceVoted { server: 6, until: 100 })),
    ];
    assert_eq!(planned(&view(), 30, 100), [""; 0]);
    for (why, lose) in causes {
        let mut view = view();
        lose(&mut view);
        assert_eq!(view.lost_members(KEY, 100), [(6, why)]);
        assert_eq!(planned(&view, 30, 100), ["request_reshare/9/1"], "{why}");
        let Action::RequestReshare { serving, threshold, members, .. } = &plan(&view, &clock(30, 100), ON)[0] else {
            panic!("{why}")
        };
        assert_eq!((serving.servers.as_slice(), *threshold, *members), (&FIRST[..], 3, 4));
        assert_eq!(plan(&view, &clock(30, 100), OFF), [], "the operator wants none");
    }
    // A vote ends by itself, a lock-out by a reinstatement, and the spare's troubles are none of the key's.
    let mut view = view();
    apply(&mut view, ReshareFact::SilenceVoted { server: 6, until: 100 });
    assert_eq!(planned(&view, 30, 101), [""; 0]);
    lock_out(&mut view, 6);
    view.apply(6, Fact::ServerReinstated { id: 6 });
    lock_out(&mut view, SPARE);
    assert_eq!(planned(&view, 30, 101), [""; 0]);
}

#[test]
fn the_committee_of_a_dealt_key_is_its_owners_business() {
    let mut view = with_consumer(Address::ZERO);
    lock_out(&mut view, 6);
    assert_eq!(planned(&view, 30, 100), [""; 0]);
}

#[test]
fn a_reshare_goes_from_request_to_draw_to_finalise_and_starts_again_where_its_time_is_over() {
    let mut view = view();
    lock_out(&mut view, 6);
    requested(&mut view, id(1, 0));
    assert_eq!(planned(&view, 20, 100), [""; 0], "the seed is still to come");
    assert_eq!(planned(&view, 21, 100), ["draw_reshare/9/1/0/20"], "and nobody asks again");
    assert_eq!(planned(&view, 20 + HISTORY_WINDOW - 1, 100), ["draw_reshare/9/1/0/20"]);
    assert_eq!(planned(&view, 20 + HISTORY_WINDOW, 100), ["restart_reshare/9/1/0/20"]);
    drawn(&mut view, id(1, 0));
    assert_eq!(planned(&view, 30, DEADLINE), ["finalise_reshare/9/1/0"]);
    assert_eq!(planned(&view, 30, DEADLINE + 1), ["restart_reshare/9/1/0/5000"]);
    let Action::RestartReshare { serving, draft, .. } = &plan(&view, &clock(30, DEADLINE + 1), ON)[0] else { panic!() };
    assert_eq!((serving.servers.as_slice(), draft.seats.as_slice()), (&FIRST[..], &[4, 2, SPARE, 1][..]));
    requested(&mut view, id(1, 1));
    assert_eq!(planned(&view, 30, DEADLINE + 1), ["draw_reshare/9/1/1/20"]);
    // The relayer of whoever wants no reshares still helps those of others on.
    assert_eq!(names(&plan(&view, &clock(30, 100), OFF)), ["draw_reshare/9/1/1/20"]);
}

#[test]
fn a_new_committee_serves_from_its_handover_and_the_next_reshare_waits_for_it() {
    let mut view = view();
    requested(&mut view, id(1, 0));
    drawn(&mut view, id(1, 0));
    assert!(view.trusted_servers().contains(&SPARE));
    made(&mut view, id(1, 0));
    let epoch = |of: Option<OfKey<'_>>| of.map(|of| (of.epoch, of.threshold, of.live.committee.clone()));
    assert_eq!(epoch(view.newest_committee(KEY)), Some((1, 3, vec![4, 2, SPARE, 1])));
    assert_eq!(epoch(view.serving_committee(KEY, HANDOVER - 1)), Some((0, 3, FIRST.to_vec())));
    assert_eq!(epoch(view.serving_committee(KEY, HANDOVER)), Some((1, 3, vec![4, 2, SPARE, 1])));
    // One that left is still talked to: it signs until the handover, and answers for what it signed.
    view.apply(20, Fact::StatusChanged { id: 6, status: ServerStatus::Left });
    assert!(view.trusted_servers().contains(&6));
    lock_out(&mut view, SPARE);
    assert_eq!(planned(&view, 40, HANDOVER - 1), [""; 0], "one handover at a time");
    assert_eq!(planned(&view, 40, HANDOVER), ["request_reshare/9/2"]);
    // Health is that of the newest committee.
    assert_eq!(view.healthy_shares(view.newest_committee(KEY).unwrap().live), 3);
    assert!(view.is_without_spare(KEY));
}

#[test]
fn seats_that_were_left_behind_are_freed_after_the_evidence_window_and_once() {
    let mut view = view();
    requested(&mut view, id(1, 0));
    drawn(&mut view, id(1, 0));
    made(&mut view, id(1, 0));
    assert_eq!(planned(&view, 40, HANDOVER + 999), [""; 0]);
    assert_eq!(planned(&view, 40, HANDOVER + 1_000), ["free_past_seats/9/1"]);
    let Action::FreePastSeats { past, next, .. } = &plan(&view, &clock(40, HANDOVER + 1_000), ON)[0] else { panic!() };
    assert_eq!((past.servers.as_slice(), next.servers.as_slice()), (&FIRST[..], &[4, 2, SPARE, 1][..]));
    // Also of a key that ended meanwhile: its own seats are those of the newest committee.
    view.apply(50, Fact::KeyRetired { key_id: KEY, burned: false });
    assert_eq!(planned(&view, 40, HANDOVER + 1_000), ["free_past_seats/9/1"]);
    let free = plan::plan(&view, &clock(40, HANDOVER + 1_000));
    let [Action::FreeSeats { committee, .. }] = &free[..] else { panic!("{free:?}") };
    assert_eq!(committee.as_slice(), [4, 2, SPARE, 1]);
    view.apply(60, Fact::SeatsFreed { key_id: KEY });
    assert_eq!(planned(&view, 40, HANDOVER + 1_000), ["free_past_seats/9/1"]);
    apply(&mut view, ReshareFact::PastSeatsFreed { committee_epoch: 1 });
    assert_eq!(planned(&view, 40, HANDOVER + 1_000), [""; 0]);
}

#[test]
fn after_a_refresh_there_are_no_seats_to_free() {
    let mut view = view();
    requested(&mut view, id(1, 0));
    drawn(&mut view, id(1, 0));
    apply(&mut view, ReshareFact::Made { id: id(1, 0), live: live(&FIRST), handover: HANDOVER });
    assert_eq!(planned(&view, 40, HANDOVER + 1_000), [""; 0]);
}

#[test]
fn the_reshare_of_a_key_that_was_given_up_is_cancelled() {
    let mut view = view();
    requested(&mut view, id(1, 0));
    view.apply(50, Fact::KeyRetired { key_id: KEY, burned: true });
    assert_eq!(planned(&view, 21, 100), ["cancel_reshare/9/1/0"]);
    apply(&mut view, ReshareFact::Cancelled);
    assert_eq!(planned(&view, 21, 100), [""; 0]);
}

#[test]
fn a_draw_that_a_reorg_took_back_is_drawn_again_and_what_was_said_under_it_is_another_reshare() {
    let (mut before, mut after) = (view(), view());
    for view in [&mut before, &mut after] {
        requested(view, id(1, 0));
    }
    drawn(&mut before, id(1, 0));
    assert_eq!(planned(&before, 30, 100), ["finalise_reshare/9/1/0"]);
    // The view is folded from the start without the draw.
    assert_eq!(planned(&after, 30, 100), ["draw_reshare/9/1/0/20"]);
    let stage = Stage::Drawn { deadline: DEADLINE, handover: HANDOVER, begun_in: 23 };
    let other = Resharing::Draft { dealers: 0b0111, ..draft(&[4, 2, SPARE, 1]) };
    apply(&mut after, ReshareFact::Moved { id: id(1, 0), threshold: None, draft: other, stage });
    let hash = |view: &View| view.reshares[&KEY].next.as_ref().unwrap().commitment();
    assert_ne!(hash(&before), hash(&after), "the bulletin is kept by this");
}

#[test]
fn a_log_that_began_too_late_makes_no_committee_up() {
    let mut view = view();
    drawn(&mut view, id(1, 0));
    made(&mut view, id(1, 0));
    assert_eq!(view.newest_committee(KEY).map(|of| of.epoch), Some(0));
    assert_eq!(planned(&view, 30, 100), [""; 0]);
}

#[test]
fn shares_that_are_old_are_refreshed_where_the_operator_wants_it() {
    const REFRESH: Policy = Policy { request: false, refresh: true };
    let mut view = view();
    let asks = |view: &View, time| names(&plan(view, &clock(30, time), REFRESH));
    assert_eq!(asks(&view, 4 + REFRESH_AFTER - 1), [""; 0], "it became Live at 4");
    assert_eq!(asks(&view, 4 + REFRESH_AFTER), ["request_reshare/9/1"]);
    assert_eq!(planned(&view, 30, 4 + REFRESH_AFTER), [""; 0], "no relayer asks by itself");
    requested(&mut view, id(1, 0));
    drawn(&mut view, id(1, 0));
    apply(&mut view, ReshareFact::Made { id: id(1, 0), live: live(&FIRST), handover: HANDOVER });
    assert_eq!(asks(&view, HANDOVER + REFRESH_AFTER - 1), [""; 0]);
    assert_eq!(asks(&view, HANDOVER + REFRESH_AFTER), ["request_reshare/9/2"]);
}
