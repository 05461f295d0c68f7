//! A disk whose writes or syncs fail: nothing is signed, nothing half done, and it goes on when repaired.

use std::fs;

use stkr_protection::{Duty, OpenError, Protection, Request, Unavailable, Verdict};

use crate::child::{Bench, InChild, NETWORK, NOW, block, check_passed, vote};

/// What can fail, as errno: EIO, ENOSPC, EROFS, EDQUOT.
const FAULTS: [&str; 7] =
    ["fsync 5", "fsync 28", "write 28", "write 30", "write 122", "write 28 -wal", "write 5 .witness"];

fn other_root(request: Request) -> Request {
    match request.duty {
        Duty::Block(duty) => block(request.pubkey[0], duty.slot, 99),
        Duty::Attestation(duty) => vote(request.pubkey[0], duty.source_epoch, duty.target_epoch, 99),
    }
}

#[test]
fn child_whose_disk_fails() {
    let Some(child) = InChild::get() else { return };
    let protection = child.open();
    for (round, fault) in (1_u64..).zip(FAULTS) {
        let before = protection.keys().unwrap();
        let epoch = 10 * round;
        let batch = [block(1, epoch, 1), vote(1, epoch, epoch + 1, 1), vote(2, epoch, epoch + 1, 1)];
        child.fault(fault);
        for _ in 0..3 {
            let error = protection.check_and_record(&batch, NOW).unwrap_err();
            assert!(error.to_string().contains("slashing protection is unavailable, nothing may be signed"), "{error}");
        }
        // Not even what needs no write: nobody knows what the disk holds now.
        assert!(protection.check_and_record(&[block(1, 1, 1)], NOW).is_err());
        assert!(protection.check_writable().is_err());
        assert!(protection.prune(NOW).is_err() && protection.register(&[[9; 48].into()], None).is_err());
        child.fault("");
        protection.check_writable().unwrap();
        let verdicts = protection.check_and_record(&batch, NOW).unwrap();
        let all_or_nothing = [[Verdict::Safe; 3], [Verdict::SameAgain; 3]].contains(&verdicts[..].try_into().unwrap());
        assert!(all_or_nothing, "{fault}: {verdicts:?}");
        for verdict in protection.check_and_record(&batch.map(other_root), NOW).unwrap() {
            assert!(matches!(verdict, Verdict::Slashable(_)), "{fault}: {verdict}");
        }
        for (before, after) in before.iter().zip(protection.keys().unwrap()) {
            assert!(before.high.slot <= after.high.slot);
        }
        assert_eq!(protection.key(&[9; 48].into()).unwrap(), None);
    }
    drop(protection);
    drop(child.open());
}

#[test]
fn a_failing_disk_stops_every_signature_until_it_is_repaired() {
    let bench = Bench::with_keys(2);
    let output = bench.run("failing::child_whose_disk_fails", &[]);
    check_passed(&output);
    drop(Protection::open(&bench.database(), NETWORK, None).unwrap());
}

#[test]
fn child_that_opens_on_a_failing_disk() {
    let Some(child) = InChild::get() else { return };
    for fault in ["fsync 5", "write 28", "write 30"] {
        child.fault(fault);
        let error = Protection::open(&child.database(), NETWORK, None).unwrap_err();
        assert!(matches!(error, OpenError::Sqlite(_) | OpenError::Io { .. }), "{fault}: {error}");
        let new = child.file("disk/new.db");
        assert!(Protection::create(&new, NETWORK).is_err());
        child.fault("");
        drop(Protection::create(&new, NETWORK).unwrap());
        for name in ["disk/new.db", "disk/new.db.witness"] {
            fs::remove_file(child.file(name)).unwrap();
        }
        let protection = child.open();
        let backup = child.file("disk/backup.db");
        child.fault(fault);
        assert!(protection.backup(&backup, "me").is_err() && !backup.exists());
        child.fault("");
        protection.backup(&backup, "me").unwrap();
        fs::remove_file(&backup).unwrap();
    }
}

#[test]
fn a_database_is_not_opened_or_created_or_backed_up_halfway() {
    let bench = Bench::with_keys(2);
    let output = bench.run("failing::child_that_opens_on_a_failing_disk", &[]);
    check_passed(&output);
}

#[test]
fn child_that_counts_syncs() {
    let Some(child) = InChild::get() else { return };
    let protection = child.open();
    let votes = |epoch: u64| -> Vec<Request> { (1..=64).map(|number| vote(number, epoch, epoch + 1, 1)).collect() };
    // The first commit after an open also writes the log's header.
    assert_eq!(protection.check_and_record(&votes(1), NOW).unwrap(), [Verdict::Safe; 64]);
    for epoch in 2..20 {
        let (_, before) = child.calls();
        assert_eq!(protection.check_and_record(&votes(epoch), NOW).unwrap(), [Verdict::Safe; 64]);
        let (writes, after) = child.calls();
        assert_eq!(after - before, 1, "one sync for 64 votes");
        assert_eq!(protection.check_and_record(&votes(epoch), NOW).unwrap(), [Verdict::SameAgain; 64]);
        let refused: Vec<_> = votes(epoch).into_iter().map(other_root).collect();
        let verdicts = protection.check_and_record(&refused, NOW).unwrap();
        assert!(verdicts.iter().all(|verdict| !verdict.may_sign()));
        assert_eq!(child.calls(), (writes, after), "nothing is written for what is refused or known");
    }
}

#[test]
fn a_batch_costs_one_sync_and_a_refusal_none() {
    let bench = Bench::with_keys(64);
    let output = bench.run("failing::child_that_counts_syncs", &[]);
    check_passed(&output);
}

#[test]
fn child_whose_witness_cannot_be_written() {
    let Some(child) = InChild::get() else { return };
    let protection = child.open();
    child.fault("write 5 .witness");
    let error = protection.check_and_record(&[block(1, 5, 1)], NOW).unwrap_err();
    assert!(matches!(error, Unavailable::Witness { .. }), "{error}");
    child.fault("");
    assert_eq!(protection.check_and_record(&[block(1, 5, 1)], NOW).unwrap(), [Verdict::SameAgain]);
}

#[test]
fn nothing_is_signed_without_the_witness() {
    let bench = Bench::with_keys(1);
    let output = bench.run("failing::child_whose_witness_cannot_be_written", &[]);
    check_passed(&output);
}
