//! The rules one by one, and a model of chain, servers and an adversary that judges them together.

mod model;

use alloy_primitives::B256;
use stkr_duties::{
    DepositMessage, Epoch, Slot, ValidatorIndex,
    containers::phase0::{AttestationData, Checkpoint, VoluntaryExit},
};

use super::*;

/// Seconds of an epoch of [`schedule`].
const EPOCH: u64 = 384;
const WINDOW: u64 = 3_600;

fn schedule() -> ForkSchedule {
    ForkSchedule::mainnet()
}

/// Unix seconds at which an epoch begins.
fn start(epoch: u64) -> u64 {
    start_of(epoch, &schedule())
}

fn vote(source: u64, target: u64) -> Moment {
    Moment { earliest: target, latest: target, source: Some(source) }
}

fn at(epoch: u64) -> Moment {
    Moment { earliest: epoch, latest: epoch, source: None }
}

const FIRST: Term = Term { committee_epoch: 0, attempt: 0, handover: 0 };

/// Handover 100 s into epoch 99, so H is 100; the deadline is 3 epochs before.
fn drawn() -> Drawn {
    let handover = start(99) + 100;
    Drawn { deadline: handover - HANDOVER_DELAY, handover }
}

fn second() -> Term {
    Term { committee_epoch: 1, attempt: 2, handover: drawn().handover }
}

fn in_flight(head_time: u64) -> View {
    View::new(head_time, WINDOW, vec![FIRST], Some(drawn())).unwrap()
}

fn handed_over(head_time: u64) -> View {
    View::new(head_time, WINDOW, vec![FIRST, second()], None).unwrap()
}

#[test]
fn a_handover_in_an_epoch_counts_from_the_next_and_one_at_its_start_from_it() {
    let first = |time| first_epoch_from(time, &schedule());
    assert_eq!([first(start(99) + 1), first(start(100)), first(start(100) + 1)], [100, 100, 101]);
    assert_eq!(first(0), 0, "before genesis");
    assert_eq!(HANDOVER_DELAY, 3 * EPOCH);
}

#[test]
fn with_a_reshare_in_flight_the_old_committee_signs_nothing_from_h_on_until_finalised_blocks_pass_the_deadline() {
    let Drawn { deadline, .. } = drawn();
    for head_time in [deadline - WINDOW, deadline - 1, deadline] {
        let view = in_flight(head_time);
        let undecided = NotServing::Undecided { epoch: 100, deadline, head_time };
        assert_eq!(view.serving(vote(98, 99), &schedule()), Ok(0));
        assert_eq!(view.serving(vote(98, 100), &schedule()), Err(undecided));
        assert_eq!(view.serving(at(100), &schedule()), Err(undecided));
        // A slot of H under a target before it.
        let slot_of_h = Moment { earliest: 99, latest: 100, source: Some(98) };
        assert_eq!(view.serving(slot_of_h, &schedule()), Err(undecided));
    }
    // It was not finalised in time: it never will be.
    let over = in_flight(deadline + 1);
    assert_eq!(over.serving(vote(98, 100), &schedule()), Ok(0));
}

#[test]
fn the_new_committee_signs_from_h_on_only_and_only_with_sources_the_old_one_cannot_have_surrounded() {
    let view = handed_over(drawn().deadline + 1);
    assert_eq!(view.serving(vote(98, 99), &schedule()), Ok(0));
    assert_eq!(view.serving(vote(98, 100), &schedule()), Ok(1));
    assert_eq!(view.serving(at(100), &schedule()), Ok(1));
    let old_source = NotServing::SourceTooOld { found: 97, needed: 98 };
    assert_eq!(view.serving(vote(97, 100), &schedule()), Err(old_source));
    assert_eq!(view.serving(vote(97, 99), &schedule()), Ok(0));
    let straddles = Moment { earliest: 99, latest: 100, source: Some(98) };
    let error = NotServing::Straddles { earliest: 99, latest: 100, handover: 100 };
    assert_eq!(view.serving(straddles, &schedule()), Err(error));
    let later = View::new(start(200), WINDOW, vec![second()], None).unwrap();
    assert_eq!(later.serving(at(99), &schedule()), Err(NotServing::Forgotten(99)));
}

#[test]
fn a_view_says_nothing_of_epochs_for_which_a_later_draw_could_hand_over() {
    let head_time = start(50);
    let view = View::new(head_time, 2 * EPOCH, vec![FIRST], None).unwrap();
    // The first draw it cannot show is a second later; it hands over five epochs after that, so in epoch 56.
    assert_eq!(view.serving(at(54), &schedule()), Ok(0));
    assert_eq!(view.serving(at(55), &schedule()), Err(NotServing::StaleView { epoch: 55, head_time }));
    assert_eq!(view.serving(vote(53, 56), &schedule()), Err(NotServing::StaleView { epoch: 56, head_time }));
}

#[test]
fn with_finality_as_usual_no_epoch_is_without_a_committee() {
    // The shortest window that the registry takes, and at any time in an epoch the checkpoint of two epochs before it is final.
    for finalised in [Some(drawn().deadline), None] {
        for epoch in 60..140 {
            let head_time = start(epoch - 2);
            let mut view = View::new(head_time, 600, vec![FIRST], None).unwrap();
            if head_time >= drawn().deadline - 600 {
                view.drawn = Some(drawn());
            }
            if finalised.is_some_and(|time| head_time >= time) {
                (view.terms, view.drawn) = (vec![FIRST, second()], None);
            }
            let expected = if finalised.is_some() && epoch >= 100 { 1 } else { 0 };
            assert_eq!(view.serving(vote(epoch - 1, epoch), &schedule()), Ok(expected), "epoch {epoch}");
        }
    }
}

#[test]
fn every_duty_has_its_moment_and_what_has_none_has_the_clocks() {
    let schedule = schedule();
    let now = start(70) + 5;
    let of = |duty: &Duty| Moment::of(duty, &schedule, now);
    let data = |slot, source, target| {
        let checkpoint = |epoch| Checkpoint { epoch: Epoch(epoch), root: B256::ZERO };
        let (source, target) = (checkpoint(source), checkpoint(target));
        Duty::Attestation(AttestationData { slot: Slot(slot), index: 0, beacon_block_root: B256::ZERO, source, target })
    };
    assert_eq!(of(&data(69 * 32, 67, 69)), vote(67, 69));
    let slot_ahead = Moment { earliest: 69, latest: 71, source: Some(67) };
    assert_eq!((of(&data(71 * 32, 67, 69)), of(&data(69 * 32, 67, 71))), (slot_ahead, slot_ahead));
    assert_eq!(of(&Duty::AggregationSlot(Slot(65 * 32 + 31))), at(65));
    assert_eq!(of(&Duty::RandaoReveal(Epoch(66))), at(66));
    let exit = VoluntaryExit { epoch: Epoch(3), validator_index: ValidatorIndex(1) };
    assert_eq!(of(&Duty::VoluntaryExit(exit)), at(70));
    let message = DepositMessage { pubkey: [1; 48], withdrawal_credentials: B256::repeat_byte(2), amount_gwei: 3 };
    assert_eq!(of(&Duty::Deposit { message, genesis_fork_version: [0; 4] }), at(70));
}

#[test]
fn a_share_is_erased_when_its_attempt_failed_or_a_week_after_its_committee_handed_over_and_not_before() {
    let Drawn { deadline, handover } = drawn();
    let old = ShareOrigin { committee_epoch: 0, attempt: 0, deadline: 0 };
    let made = ShareOrigin { committee_epoch: 1, attempt: 2, deadline };
    // In flight: both are needed.
    for head_time in [deadline - 100, deadline] {
        assert!(!in_flight(head_time).is_to_be_erased(made) && !in_flight(head_time).is_to_be_erased(old));
    }
    // It ended well: the new one stays, the old one for a week more.
    let done = handed_over(deadline + 1);
    assert!(!done.is_to_be_erased(made) && !done.is_to_be_erased(old));
    assert!(!handed_over(handover + KEEP_PAST_SHARES - 1).is_to_be_erased(old));
    assert!(handed_over(handover + KEEP_PAST_SHARES).is_to_be_erased(old));
    assert!(!handed_over(handover + 52 * KEEP_PAST_SHARES).is_to_be_erased(made));
    // It did not: the share of the attempt goes, the old one stays for ever.
    assert!(in_flight(deadline + 1).is_to_be_erased(made));
    assert!(!in_flight(deadline + 52 * KEEP_PAST_SHARES).is_to_be_erased(old));
    // A later attempt made the committee.
    let earlier = ShareOrigin { attempt: 1, ..made };
    assert!(done.is_to_be_erased(earlier));
}

#[test]
fn no_view_is_made_of_what_no_chain_shows() {
    let view = |terms: &[Term], drawn| View::new(start(50), WINDOW, terms.to_vec(), drawn).unwrap_err();
    assert_eq!(view(&[], None), ViewError::NoCommittee);
    let third = Term { committee_epoch: 3, attempt: 0, handover: second().handover + 1 };
    assert_eq!(view(&[FIRST, second(), third], None), ViewError::OutOfOrder(3));
    assert_eq!(view(&[FIRST, Term { handover: 0, ..second() }], None), ViewError::OutOfOrder(1));
    let Drawn { deadline, handover } = drawn();
    let early = Drawn { deadline: deadline + 1, handover };
    assert_eq!(view(&[FIRST], Some(early)), ViewError::NoDelay { deadline: deadline + 1, handover });
}
