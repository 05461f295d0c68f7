//! Verdicts, and what makes them hold together: batches, threads, keys that leave and come back, pruning.

use stkr_protection::{Conflict, Epochs, Now, SignedAttestation, SignedBlock, Verdict, Watermark};

use crate::support::{NOW, ask, ask_all, block, fresh, key, kind, root, vote};

#[test]
fn two_blocks_for_one_slot_are_refused_and_the_same_one_is_signed_again() {
    let (_folder, protection) = fresh();
    let [first, again, other] = ask_all(&protection, [block(key(1), 5, 1), block(key(1), 5, 1), block(key(1), 5, 2)]);
    assert_eq!((first, again), (Verdict::Safe, Verdict::SameAgain));
    let Verdict::Slashable(Conflict::DoubleProposal { asked, signed }) = other else { panic!("{other}") };
    assert_eq!(asked.signing_root, root(2));
    assert_eq!(signed, SignedBlock { slot: 5, signing_root: Some(root(1)) });
}

#[test]
fn two_votes_for_one_target_are_refused_and_the_same_one_is_signed_again() {
    let (_folder, protection) = fresh();
    let [first, again, other, source] = ask_all(
        &protection,
        [vote(key(1), 2, 3, 1), vote(key(1), 2, 3, 1), vote(key(1), 2, 3, 2), vote(key(1), 1, 3, 1)],
    );
    assert_eq!((first, again), (Verdict::Safe, Verdict::SameAgain));
    let Verdict::Slashable(Conflict::DoubleVote { signed, .. }) = other else { panic!("{other}") };
    assert_eq!(signed, SignedAttestation { source_epoch: 2, target_epoch: 3, signing_root: Some(root(1)) });
    // One root cannot stand for two votes: somebody is lying.
    assert_eq!(kind(source), "double vote");
}

#[test]
fn surround_votes_are_refused_in_both_directions_with_the_other_side_named() {
    let (_folder, protection) = fresh();
    let _ = ask_all(&protection, [vote(key(1), 1, 2, 1), vote(key(1), 4, 5, 1), vote(key(1), 4, 9, 1)]);
    let Verdict::Slashable(Conflict::Surrounding { signed, .. }) = ask(&protection, vote(key(1), 3, 8, 1)) else {
        panic!("surrounding vote allowed")
    };
    assert_eq!((signed.source_epoch, signed.target_epoch), (4, 5));
    let Verdict::Slashable(Conflict::Surrounded { signed, .. }) = ask(&protection, vote(key(1), 5, 8, 1)) else {
        panic!("surrounded vote allowed")
    };
    assert_eq!((signed.source_epoch, signed.target_epoch), (4, 9));
    // Equal sources do not surround, wherever the target lies.
    assert_eq!(ask_all(&protection, [vote(key(1), 4, 7, 1), vote(key(1), 4, 12, 1)]), [Verdict::Safe; 2]);
}

#[test]
fn nothing_at_or_below_the_first_signature_is_signed() {
    let (_folder, protection) = fresh();
    let _ = ask_all(&protection, [block(key(1), 10, 1), vote(key(1), 4, 6, 1)]);
    let verdicts = ask_all(&protection, [block(key(1), 9, 1), vote(key(1), 3, 4, 1), vote(key(1), 4, 5, 1)]);
    assert_eq!(verdicts.map(kind), ["low slot", "low source", "low target"]);
}

#[test]
fn the_future_is_refused_and_moves_no_watermark() {
    let (_folder, protection) = fresh();
    let now = Now { slot: 100, epoch: 3 };
    let before = protection.key(&key(1)).unwrap();
    let batch =
        [block(key(1), 101, 1), vote(key(1), 2, 4, 1), vote(key(1), 2, u64::MAX, 1), block(key(1), u64::MAX, 1)];
    let verdicts = protection.check_and_record(&batch, now).unwrap();
    assert!(verdicts.iter().all(|verdict| kind(*verdict) == "far future"), "{verdicts:?}");
    assert_eq!(verdicts[0], Verdict::FarFuture { what: "slot", asked: 101, now: 100 });
    assert_eq!(protection.key(&key(1)).unwrap(), before);
    let batch = [block(key(1), 100, 1), vote(key(1), 2, 3, 1)];
    assert_eq!(protection.check_and_record(&batch, now).unwrap(), [Verdict::Safe; 2]);
    // A caller whose clock says "never" still cannot store what SQLite cannot.
    let never = Now { slot: u64::MAX, epoch: u64::MAX };
    let batch = [block(key(1), u64::MAX, 1), block(key(1), 1 << 63, 1), vote(key(1), 1, 1 << 63, 1)];
    let verdicts = protection.check_and_record(&batch, never).unwrap();
    assert!(verdicts.iter().all(|verdict| kind(*verdict) == "far future"), "{verdicts:?}");
}

#[test]
fn a_source_must_be_before_its_target_except_at_genesis() {
    let (_folder, protection) = fresh();
    let verdicts = ask_all(&protection, [vote(key(1), 1, 1, 1), vote(key(1), 2, 1, 1), vote(key(1), 0, 0, 1)]);
    assert_eq!(verdicts.map(kind), ["source not before target", "source not before target", "safe"]);
}

#[test]
fn unknown_keys_are_refused() {
    let (_folder, protection) = fresh();
    assert_eq!(ask(&protection, block(key(2), 5, 1)), Verdict::Unregistered);
    assert_eq!(protection.key(&key(2)).unwrap(), None, "asking does not register");
}

#[test]
fn of_two_contradicting_requests_in_one_batch_exactly_one_is_safe() {
    let (_folder, protection) = fresh();
    protection.register(&[key(2)], None).unwrap();
    let batch = [
        block(key(1), 5, 1),
        block(key(1), 5, 2),
        block(key(2), 5, 2),
        vote(key(1), 3, 4, 1),
        vote(key(1), 2, 5, 1),
        vote(key(2), 2, 5, 1),
        vote(key(2), 3, 4, 1),
        block(key(1), 5, 1),
    ];
    let verdicts = protection.check_and_record(&batch, NOW).unwrap();
    let kinds: Vec<_> = verdicts.into_iter().map(kind).collect();
    let expected = ["safe", "double proposal", "safe", "safe", "surrounding", "safe", "surrounded", "same again"];
    assert_eq!(kinds, expected);
}

#[test]
fn of_a_thousand_roots_for_one_slot_from_many_threads_exactly_one_is_safe() {
    let (_folder, protection) = fresh();
    let safe = |requests: &(dyn Fn(u64) -> stkr_protection::Request + Sync)| -> usize {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..40)
                .map(|thread| {
                    let protection = &protection;
                    scope.spawn(move || {
                        (0..25).filter(|i| ask(protection, requests(thread * 25 + i)) == Verdict::Safe).count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        })
    };
    assert_eq!(safe(&|root| block(key(1), 7, root)), 1, "blocks");
    assert_eq!(safe(&|root| vote(key(1), 6, 7, root)), 1, "votes");
}

#[test]
fn watermarks_can_be_read() {
    let (_folder, protection) = fresh();
    let state = protection.key(&key(1)).unwrap().unwrap();
    assert_eq!((state.low, state.high), (Watermark::default(), Watermark::default()));
    let requests = [block(key(1), 10, 1), block(key(1), 30, 1), vote(key(1), 2, 3, 1), vote(key(1), 3, 9, 1)];
    assert_eq!(ask_all(&protection, requests), [Verdict::Safe; 4]);
    let state = protection.key(&key(1)).unwrap().unwrap();
    let mark = |slot, source_epoch, target_epoch| Watermark {
        slot: Some(slot),
        epochs: Some(Epochs { source_epoch, target_epoch }),
    };
    assert_eq!((state.low, state.high), (mark(10, 2, 3), mark(30, 3, 9)));
    assert_eq!(protection.keys().unwrap(), [state]);
}

#[test]
fn a_registered_key_signs_nothing_of_the_past() {
    let (_folder, protection) = fresh();
    let now = Now { slot: 100, epoch: 3 };
    assert_eq!(protection.register(&[key(1), key(2)], Some(now)).unwrap(), 1, "key 1 is known");
    let verdicts = ask_all(
        &protection,
        [
            block(key(2), 100, 1),
            vote(key(2), 2, 3, 1),
            vote(key(2), 1, 4, 1),
            block(key(2), 101, 1),
            vote(key(2), 2, 4, 1),
        ],
    );
    assert_eq!(verdicts.map(kind), ["low slot", "low target", "low source", "safe", "safe"]);
}

#[test]
fn a_key_that_leaves_and_comes_back_keeps_its_history() {
    let (folder, protection) = fresh();
    let _ = ask_all(&protection, [block(key(1), 10, 1), vote(key(1), 2, 3, 1)]);
    let before = protection.key(&key(1)).unwrap().unwrap();
    protection.deactivate(&[key(1)]).unwrap();
    assert_eq!(ask(&protection, block(key(1), 11, 1)), Verdict::Inactive);
    assert_eq!(ask(&protection, block(key(1), 10, 1)), Verdict::Inactive, "not even the same again");
    assert_eq!(protection.register(&[key(1)], None).unwrap(), 0, "registering again changes nothing");
    drop(protection);
    let protection = folder.open();
    assert_eq!(ask(&protection, block(key(1), 11, 1)), Verdict::Inactive);
    protection.activate(&[key(1)]).unwrap();
    assert_eq!(protection.key(&key(1)).unwrap().unwrap(), before);
    let verdicts = ask_all(&protection, [block(key(1), 10, 2), vote(key(1), 2, 3, 2), block(key(1), 11, 1)]);
    assert_eq!(verdicts.map(kind), ["double proposal", "double vote", "safe"]);
    assert!(protection.activate(&[key(1), key(9)]).is_err());
    assert!(protection.deactivate(&[key(1), key(9)]).is_err());
    assert_eq!(ask(&protection, block(key(1), 12, 1)), Verdict::Safe, "an error changes nothing");
}

#[test]
fn pruning_raises_the_low_watermarks_and_keeps_the_high_ones() {
    let (_folder, protection) = fresh();
    for number in 1..=20 {
        let verdicts = ask_all(&protection, [block(key(1), number, 1), vote(key(1), number - 1, number, 1)]);
        assert_eq!(verdicts, [Verdict::Safe; 2]);
    }
    let high = protection.key(&key(1)).unwrap().unwrap().high;
    assert_eq!(protection.prune(Now { slot: 11, epoch: 16 }).unwrap(), 10 + 15);
    let state = protection.key(&key(1)).unwrap().unwrap();
    assert_eq!(state.high, high);
    let low = Watermark { slot: Some(10), epochs: Some(Epochs { source_epoch: 14, target_epoch: 15 }) };
    assert_eq!(state.low, low);
    let verdicts = ask_all(
        &protection,
        [
            block(key(1), 10, 1),
            block(key(1), 11, 1),
            block(key(1), 11, 2),
            vote(key(1), 14, 15, 1),
            vote(key(1), 15, 16, 1),
        ],
    );
    assert_eq!(verdicts.map(kind), ["low slot", "same again", "double proposal", "low target", "same again"]);
    // Whatever is asked for, the last of each stays.
    assert_eq!(protection.prune(NOW).unwrap(), 9 + 4);
    let state = protection.key(&key(1)).unwrap().unwrap();
    assert_eq!(state.high, high);
    assert_eq!(ask(&protection, block(key(1), 20, 1)), Verdict::SameAgain);
    assert_eq!(protection.prune(NOW).unwrap(), 0);
}

#[test]
fn closing_a_history_takes_everything_until_now_as_signed() {
    let (_folder, protection) = fresh();
    let _ = ask_all(&protection, [block(key(1), 10, 1), vote(key(1), 2, 3, 1)]);
    protection.close_history(&[key(1)], Now { slot: 50, epoch: 8 }).unwrap();
    let verdicts = ask_all(
        &protection,
        [
            block(key(1), 50, 1),
            block(key(1), 51, 1),
            vote(key(1), 6, 9, 1),
            vote(key(1), 7, 8, 1),
            vote(key(1), 7, 9, 1),
        ],
    );
    assert_eq!(verdicts.map(kind), ["low slot", "safe", "low source", "low target", "safe"]);
    // An earlier time lowers nothing, and what is known counts too.
    protection.close_history(&[key(1)], Now { slot: 1, epoch: 1 }).unwrap();
    assert_eq!(
        ask_all(&protection, [block(key(1), 51, 2), vote(key(1), 7, 9, 2)]).map(kind),
        ["double proposal", "double vote"]
    );
    let state = protection.key(&key(1)).unwrap().unwrap();
    assert_eq!(state.low, state.high);
}
