//! A real disk that is full, and one that is mounted read-only: a small tmpfs in a mount namespace of its own.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::Command;

use stkr_protection::{OpenError, Protection, Verdict};

use crate::child::{Bench, InChild, NETWORK, NOW, block, check_passed, vote};

#[test]
fn child_on_a_small_disk() {
    let Some(child) = InChild::get() else { return };
    if std::env::var_os("STKR_TEST_SMALL").is_none() {
        return;
    }
    let protection = Protection::create(&child.database(), NETWORK).unwrap();
    protection.register(&[[1; 48].into()], None).unwrap();
    assert_eq!(protection.check_and_record(&[block(1, 1, 1)], NOW).unwrap(), [Verdict::Safe]);

    let filler = child.file("disk/filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[0; 1024]).is_ok() {}
    drop(file);
    // SQLite may have room left in blocks it has; then it has none.
    let mut slot = 2;
    let error = loop {
        match protection.check_and_record(&[block(1, slot, 1), vote(1, slot, slot + 1, 1)], NOW) {
            Ok(verdicts) => assert_eq!(verdicts, [Verdict::Safe; 2]),
            Err(error) => break error,
        }
        slot += 1;
        assert!(slot < 10_000, "the disk is never full");
    };
    assert!(error.to_string().contains("full"), "{error}");
    assert!(protection.check_and_record(&[block(1, slot, 1)], NOW).is_err());
    fs::remove_file(&filler).unwrap();
    let verdicts = protection.check_and_record(&[block(1, slot, 1), vote(1, slot, slot + 1, 1)], NOW).unwrap();
    assert!(verdicts == [Verdict::Safe; 2] || verdicts == [Verdict::SameAgain; 2], "{verdicts:?}");
    for old in 2..slot {
        let verdicts = protection.check_and_record(&[block(1, old, 1), block(1, old, 2)], NOW).unwrap();
        assert_eq!(verdicts[0], Verdict::SameAgain);
        assert!(!verdicts[1].may_sign());
    }
    drop(protection);

    remount(&child, "ro");
    let error = Protection::open(&child.database(), NETWORK, None).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. } | OpenError::ReadOnly { .. }), "{error}");
    assert!(error.to_string().contains("Read-only file system"), "{error}");
    remount(&child, "rw");
    let protection = child.open();
    assert_eq!(protection.check_and_record(&[block(1, slot, 1)], NOW).unwrap(), [Verdict::SameAgain]);
}

/// A log that SQLite has emptied keeps its blocks: commits go on for a while on a disk that is full to the last byte.
#[test]
fn child_with_an_emptied_log() {
    let Some(child) = InChild::get() else { return };
    if std::env::var_os("STKR_TEST_SMALL").is_none() {
        return;
    }
    let protection = Protection::create(&child.database(), NETWORK).unwrap();
    protection.register(&[[1; 48].into()], None).unwrap();
    let length = || fs::metadata(child.file("disk/protection.db-wal")).unwrap().len();
    let (mut slot, mut before) = (1, 0);
    while length() > before || before < 1 << 20 {
        before = length();
        assert_eq!(protection.check_and_record(&[block(1, slot, 1)], NOW).unwrap(), [Verdict::Safe]);
        slot += 1;
        assert!(slot < 20_000, "the log is never emptied");
    }
    protection.check_writable().unwrap();
    let filler = child.file("disk/filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[0; 1024]).is_ok() {}
    drop(file);
    assert_eq!(protection.check_and_record(&[block(1, slot, 1)], NOW).unwrap(), [Verdict::Safe]);
    let error = protection.check_writable().unwrap_err().to_string();
    assert!(error.contains("no room left") && error.contains("No space left on device"), "{error}");
    // It still signs as long as it can, and a look leaves nothing.
    assert_eq!(protection.check_and_record(&[block(1, slot + 1, 1)], NOW).unwrap(), [Verdict::Safe]);
    assert!(!child.file("disk/protection.db.room").exists());
    fs::remove_file(&filler).unwrap();
    protection.check_writable().unwrap();
}

fn remount(child: &InChild, mode: &str) {
    let status = Command::new("mount").args(["-o", &format!("remount,{mode}")]).arg(child.file("disk")).status();
    assert!(status.unwrap().success(), "cannot remount {mode}");
}

#[test]
fn a_full_disk_stops_every_signature_and_a_read_only_one_is_not_opened() {
    on_a_disk_of("1m", "disk::child_on_a_small_disk");
}

#[test]
fn a_full_disk_shows_before_signatures_stop() {
    on_a_disk_of("48m", "disk::child_with_an_emptied_log");
}

fn on_a_disk_of(size: &str, test: &str) {
    let bench = Bench::new();
    let mount = format!(r#"mount -t tmpfs -o size={size} tmpfs "$0" || exit 77; exec "$@""#);
    let child = bench.command(test);
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &mount])
        .arg(bench.disk())
        .arg(child.get_program())
        .args(child.get_args())
        .envs(child.get_envs().filter_map(|(name, value)| value.map(|value| (name, value))))
        .env("STKR_TEST_SMALL", "1")
        .output();
    let reason = match output {
        Ok(output) if output.status.success() || output.status.code() == Some(101) => return check_passed(&output),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "no tmpfs under CI: {reason}");
    let _ = writeln!(std::io::stderr(), "NOT RUN: a small tmpfs needs root and util-linux: {}", reason.trim());
}
