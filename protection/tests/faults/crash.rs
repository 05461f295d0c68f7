//! SIGKILL and power cuts in the middle of everything, at seeded points.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;

use stkr_protection::{Attestation, Block, Duty, Protection, Request};

use crate::child::{Bench, InChild, NETWORK, NOW, block, check_passed, check_signed, signed, vote};

const RECORDER: &str = "crash::child_that_signs_until_it_dies";

/// Reproducible numbers (Knuth's MMIX generator).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Child: opens, signs some batches, closes, and again. Duties collide often.
#[test]
fn child_that_signs_until_it_dies() {
    let Some(child) = InChild::get() else { return };
    let Ok(seed) = std::env::var("STKR_TEST_SEED") else { return };
    let mut random = Random(seed.parse().unwrap());
    for _ in 0..4 {
        let protection = child.open();
        for _ in 0..5 {
            let batch: Vec<Request> = (0..=random.below(8))
                .map(|_| {
                    let (number, root) = (1 + u8::try_from(random.below(3)).unwrap(), random.below(3));
                    if random.below(3) == 0 {
                        block(number, random.below(40), root)
                    } else {
                        let source = random.below(30);
                        vote(number, source, source + 1 + random.below(8), root)
                    }
                })
                .collect();
            let verdicts = protection.check_and_record(&batch, NOW).unwrap();
            for (request, verdict) in batch.iter().zip(verdicts) {
                if verdict.may_sign() {
                    child.report(request);
                }
            }
        }
    }
}

/// `process_proposer_slashing` and `is_slashable_attestation_data` of the consensus specs.
fn slashable(one: &Request, two: &Request) -> bool {
    if one.pubkey != two.pubkey || one == two {
        return false;
    }
    match (one.duty, two.duty) {
        (Duty::Block(Block { slot, .. }), Duty::Block(other)) => slot == other.slot,
        (Duty::Attestation(one), Duty::Attestation(two)) => {
            let surrounds = |one: Attestation, two: Attestation| {
                one.source_epoch < two.source_epoch && two.target_epoch < one.target_epoch
            };
            one.target_epoch == two.target_epoch || surrounds(one, two) || surrounds(two, one)
        }
        _ => false,
    }
}

/// Three lives of one database, each ended at some call to the disk; then everything that was ever signed is compared.
/// Returns where the lives ended.
fn three_lives(seed: u64, first_cut: usize) -> Vec<String> {
    let bench = Bench::with_keys(3);
    let mut random = Random(seed);
    let power = ["none".to_owned(), "all".to_owned(), seed.to_string()][usize::try_from(seed % 3).unwrap()].clone();
    let mut ends = Vec::new();
    for life in 0..3 {
        let cut = if life == 0 { first_cut as u64 } else { 1 + random.below(120) };
        let number = (seed * 3 + life).to_string();
        let variables =
            [("STKR_TEST_SEED", number.as_str()), ("STKR_DISK_CUT", &cut.to_string()), ("STKR_DISK_POWER", &power)];
        let output = bench.run(RECORDER, &variables);
        if output.status.signal() == Some(9) {
            ends.push(bench.log().last().unwrap().clone());
        } else {
            check_passed(&output);
        }
        // Whatever happened, the file is trusted and knows everything that was signed.
        let protection = Protection::open(&bench.database(), NETWORK, None).unwrap();
        check_signed(&protection, &signed(&bench));
    }
    let signed = signed(&bench);
    for (index, one) in signed.iter().enumerate() {
        if let Some(two) = signed[..index].iter().find(|two| slashable(one, two)) {
            panic!("seed {seed}: signed {two:?} and {one:?}");
        }
    }
    ends
}

#[test]
fn a_kill_or_power_cut_at_any_call_to_the_disk_loses_no_signature() {
    let seeds: u64 = std::env::var("STKR_KILLS").map_or(24, |kills| kills.parse().unwrap());
    // What a life does when nothing ends it.
    let bench = Bench::with_keys(3);
    check_passed(&bench.run(RECORDER, &[("STKR_TEST_SEED", "0")]));
    let calls = bench.log();
    let mut kinds: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, call) in calls.iter().enumerate() {
        kinds.entry(call).or_default().push(index + 1);
    }
    assert_eq!(kinds.len(), 6, "writes and syncs of database, log and witness: {kinds:?}");

    let mut hits: BTreeMap<String, usize> = BTreeMap::new();
    let kinds: Vec<_> = kinds.into_values().collect();
    for seed in 0..seeds {
        let points = &kinds[usize::try_from(seed).unwrap() % kinds.len()];
        let first_cut = points[usize::try_from(Random(seed).below(points.len() as u64)).unwrap()];
        for end in three_lives(seed, first_cut) {
            *hits.entry(end).or_default() += 1;
        }
    }
    writeln!(std::io::stderr(), "killed at: {hits:?}").unwrap();
    for point in [
        "write protection.db",
        "write protection.db-wal",
        "write protection.db.witness",
        "fsync protection.db",
        "fsync protection.db-wal",
        "fsync protection.db.witness",
    ] {
        assert!(hits.contains_key(&format!("cut-{point}")), "never killed at {point}: {hits:?}");
    }
}

/// Child: a sync fails, later the same is asked for again and reported as signed, then the power goes.
#[test]
fn child_that_asks_again_after_a_failed_sync() {
    let Some(child) = InChild::get() else { return };
    let protection = child.open();
    let first = [vote(1, 1, 2, 1), block(1, 5, 1)];
    child.fault("fsync 5");
    protection.check_and_record(&first, NOW).unwrap_err();
    child.fault("");
    for (request, verdict) in first.iter().zip(protection.check_and_record(&first, NOW).unwrap()) {
        assert!(verdict.may_sign(), "{verdict}");
        child.report(request);
    }
    child.fault("cut");
    drop(protection.check_and_record(&[block(1, 6, 1)], NOW));
    unreachable!("the power went");
}

#[test]
fn what_a_failed_sync_left_in_the_log_is_synced_before_it_counts() {
    let bench = Bench::with_keys(1);
    let output = bench.run("crash::child_that_asks_again_after_a_failed_sync", &[("STKR_DISK_POWER", "all")]);
    assert_eq!(output.status.signal(), Some(9), "{output:?}");
    let signed = signed(&bench);
    assert_eq!(signed.len(), 2);
    check_signed(&Protection::open(&bench.database(), NETWORK, None).unwrap(), &signed);
}

/// Child: finds a log that an earlier life wrote but did not sync, signs what it finds there, then the power goes.
#[test]
fn child_that_finds_an_unsynced_log() {
    let Some(child) = InChild::get() else { return };
    let request = block(1, 5, 1);
    if child.file("second").exists() {
        let protection = child.open();
        let (_, syncs) = child.calls();
        assert!(syncs > 0, "opening synced what it found");
        let verdict = protection.check_and_record(&[request], NOW).unwrap().remove(0);
        assert_eq!(verdict, stkr_protection::Verdict::SameAgain);
        // From here on nothing may be needed but what is on disk.
        assert_eq!(std::fs::metadata(child.file("disk/protection.db-wal")).map_or(0, |log| log.len()), 0);
        return;
    }
    std::fs::write(child.file("second"), b"").unwrap();
    let protection = child.open();
    // Dies at the sync of the log: all is written, nothing synced.
    drop(protection.check_and_record(&[block(1, 4, 1)], NOW).unwrap());
    child.fault("cut-fsync 1 -wal");
    drop(protection.check_and_record(&[request], NOW));
    unreachable!("killed at the sync");
}

#[test]
fn a_log_that_was_written_but_not_synced_is_synced_by_the_next_open() {
    let bench = Bench::with_keys(1);
    let test = "crash::child_that_finds_an_unsynced_log";
    let output = bench.run(test, &[("STKR_DISK_POWER", "none")]);
    assert_eq!(output.status.signal(), Some(9), "{output:?}");
    std::fs::write(bench.file("fault"), b"").unwrap();
    std::fs::write(bench.file("log"), b"").unwrap();
    check_passed(&bench.run(test, &[]));
    let log = bench.log();
    assert!(
        log.contains(&"fsync protection.db-wal".to_owned()) && log.contains(&"fsync protection.db".to_owned()),
        "{log:?}"
    );
}
