//! Which file may sign: one process, one network, the newest state of itself.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use rusqlite::Connection;
use stkr_protection::{
    BackupFault, Distrust, Inspection, InstanceId, Now, OpenError, Owner, Protection, Quarantine, ReleaseError,
    Unavailable, Verdict, restore,
};

use crate::support::{Folder, NETWORK, NOW, ask, ask_all, block, export, file, fresh, import, key, kind, open, vote};

/// Who has lost everything but its files.
const ME: Owner<'_> = Owner { name: "me", instance: None, keys: &[] };

fn refusal(path: &Path) -> OpenError {
    Protection::open(path, NETWORK, None).unwrap_err()
}

fn distrust(path: &Path) -> Distrust {
    match refusal(path) {
        OpenError::NeedsImport { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

fn quarantine(path: &Path) -> Quarantine {
    Quarantine::open(path, NETWORK, None).unwrap()
}

/// A database with key 1, closed, with one block signed.
fn used() -> Folder {
    let (folder, protection) = fresh();
    assert_eq!(ask(&protection, block(key(1), 10, 1)), Verdict::Safe);
    folder
}

/// Signs one more block and closes.
fn sign(folder: &Folder, slot: u64) {
    assert_eq!(ask(&folder.open(), block(key(1), slot, 1)), Verdict::Safe);
}

/// Puts content into a file that is there: the inode stays.
fn overwrite(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
}

/// Run in a process of its own by the next test: holds the database until standard input ends.
#[test]
fn child_that_holds_the_database() {
    let Some(path) = std::env::var_os("STKR_TEST_HOLD") else { return };
    let _protection = open(Path::new(&path));
    fs::write(Path::new(&path).with_extension("held"), b"").unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn a_second_process_is_refused_at_once() {
    let folder = used();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "life::child_that_holds_the_database"])
        .env("STKR_TEST_HOLD", &folder.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !folder.file("protection.held").exists() {
        assert!(Instant::now() < deadline, "the child did not open the database");
        std::thread::sleep(Duration::from_millis(5));
    }
    let (soft, hard) = (folder.file("soft.db"), folder.file("hard.db"));
    std::os::unix::fs::symlink(&folder.path, &soft).unwrap();
    fs::hard_link(&folder.path, &hard).unwrap();
    let start = Instant::now();
    for path in [&folder.path, &soft, &hard] {
        let error = refusal(path);
        assert!(matches!(error, OpenError::InUse { .. }), "{error}");
        assert!(error.to_string().contains("in use by another process"), "{error}");
    }
    for error in [
        Protection::create(&folder.path, NETWORK).unwrap_err(),
        restore(&hard, &folder.path, NETWORK, &ME).unwrap_err(),
    ] {
        assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    }
    assert!(matches!(Quarantine::open(&folder.path, NETWORK, None), Err(OpenError::InUse { .. })));
    // And whoever does not know of our lock meets SQLite's.
    let plain = Connection::open(&folder.path).unwrap();
    plain.busy_timeout(Duration::ZERO).unwrap();
    assert!(plain.execute("UPDATE validator SET active = 0", []).is_err());
    assert!(start.elapsed() < Duration::from_secs(1), "refused without waiting");
    drop(plain);

    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(kind(ask(&folder.open(), block(key(1), 10, 2))), "double proposal");
}

#[test]
fn a_second_handle_in_one_process_is_refused_too() {
    let folder = used();
    let first = folder.open();
    assert!(matches!(refusal(&folder.path), OpenError::InUse { .. }));
    drop(first);
    drop(folder.open());
}

#[test]
fn the_files_belong_to_their_owner_alone() {
    let folder = used();
    folder.open().backup(&folder.file("backup.db"), "me").unwrap();
    for name in ["protection.db", "protection.db.lock", "protection.db.witness", "backup.db"] {
        assert_eq!(fs::metadata(folder.file(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
}

#[test]
fn another_networks_database_is_refused() {
    let folder = used();
    let other = B256::repeat_byte(0x22);
    let error = Protection::open(&folder.path, other, None).unwrap_err();
    assert!(matches!(error, OpenError::OtherNetwork { found: NETWORK, .. }), "{error}");
    assert!(matches!(Quarantine::open(&folder.path, other, None), Err(OpenError::OtherNetwork { .. })));
    let backup = folder.file("backup.db");
    folder.open().backup(&backup, "me").unwrap();
    assert!(matches!(restore(&backup, &folder.file("new.db"), other, &ME), Err(OpenError::OtherNetwork { .. })));
}

#[test]
fn a_newer_schema_is_refused_and_untouched() {
    let folder = used();
    Connection::open(&folder.path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(&folder.path).unwrap();
    let error = refusal(&folder.path);
    assert!(matches!(error, OpenError::TooNew { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("run the newer program"));
    assert_eq!(fs::read(&folder.path).unwrap(), before);
}

#[test]
fn foreign_and_damaged_files_are_refused_by_name() {
    let folder = used();
    Connection::open(&folder.path).unwrap().pragma_update(None, "application_id", 1).unwrap();
    assert!(matches!(refusal(&folder.path), OpenError::Foreign { found: 1, .. }));
    overwrite(&folder.path, &b"a shopping list, and long enough to be looked at".repeat(100));
    assert!(matches!(refusal(&folder.path), OpenError::Damaged { .. }));
}

#[test]
fn a_history_that_was_edited_out_of_order_is_refused() {
    for edit in [
        // The only vote above the watermark is surrounded by one below it; then a vote without any watermark.
        "UPDATE validator SET low_source_epoch = 8, low_target_epoch = 8; DROP TRIGGER no_surround_vote;
         INSERT INTO signed_attestation VALUES (1, 20, 7, NULL);",
        "INSERT INTO validator (pubkey, active, needs_import) VALUES (zeroblob(48), 1, 0);
         INSERT INTO signed_attestation VALUES (last_insert_rowid(), 5, 4, NULL);",
        "INSERT INTO validator (pubkey, active, needs_import) VALUES (zeroblob(48), 1, 0);
         INSERT INTO signed_block VALUES (last_insert_rowid(), 5, NULL);",
    ] {
        let folder = used();
        Connection::open(&folder.path).unwrap().execute_batch(edit).unwrap();
        assert!(matches!(refusal(&folder.path), OpenError::Damaged { .. }), "{edit}");
    }
}

#[test]
fn a_database_is_created_once_and_never_by_opening() {
    let folder = Folder::new();
    assert!(matches!(refusal(&folder.path), OpenError::NotFound { .. }));
    assert!(!folder.path.exists());
    drop(folder.create());
    assert!(matches!(Protection::create(&folder.path, NETWORK), Err(OpenError::Exists { .. })));
    fs::remove_file(folder.file("protection.db.witness")).unwrap();
    // Cut off before the witness was written: nothing was ever recorded in it.
    let protection = folder.create();
    protection.register(&[key(1)], None).unwrap();
    drop(protection);
    fs::remove_file(folder.file("protection.db.witness")).unwrap();
    assert!(matches!(Protection::create(&folder.path, NETWORK), Err(OpenError::Exists { .. })));
}

#[test]
fn a_lost_database_is_missed() {
    let folder = used();
    fs::remove_file(&folder.path).unwrap();
    assert_eq!(distrust(&folder.path), Distrust::Missing);
    assert!(matches!(Protection::create(&folder.path, NETWORK), Err(OpenError::NeedsImport { .. })));
    overwrite(&folder.path, b"");
    assert_eq!(distrust(&folder.path), Distrust::Missing, "an empty file is no database");
}

#[test]
fn a_database_lost_with_its_witness_is_missed_by_a_program_that_remembers_its_instance() {
    let folder = used();
    let instance = folder.open().instance();
    assert!(Protection::open(&folder.path, NETWORK, Some(instance)).is_ok());
    for file in ["protection.db", "protection.db.witness"] {
        fs::remove_file(folder.file(file)).unwrap();
    }
    let error = Protection::open(&folder.path, NETWORK, Some(instance)).unwrap_err();
    assert!(matches!(error, OpenError::NeedsImport { reason: Distrust::Missing, .. }), "{error}");
    // A new one in its place is not the one that is remembered.
    drop(folder.create());
    let error = Protection::open(&folder.path, NETWORK, Some(instance)).unwrap_err();
    assert!(matches!(error, OpenError::NeedsImport { reason: Distrust::UnexpectedInstance { .. }, .. }), "{error}");
}

#[test]
fn an_older_state_of_the_file_is_refused() {
    let folder = used();
    let old = fs::read(&folder.path).unwrap();
    sign(&folder, 11);
    overwrite(&folder.path, &old);
    let reason = distrust(&folder.path);
    let Distrust::RolledBack { database, witness } = reason else { panic!("{reason}") };
    assert_eq!(witness, database + 1, "one commit is enough");
    assert!(refusal(&folder.path).to_string().contains("rolled back"));
}

#[test]
fn a_file_whose_log_was_lost_is_refused() {
    let folder = used();
    let protection = folder.open();
    assert_eq!(ask(&protection, block(key(1), 11, 1)), Verdict::Safe);
    let without_log = fs::read(&folder.path).unwrap();
    drop(protection);
    overwrite(&folder.path, &without_log);
    assert!(matches!(distrust(&folder.path), Distrust::RolledBack { .. }));
}

#[test]
fn a_copy_of_database_and_witness_is_refused() {
    let folder = used();
    let other = tempfile::tempdir().unwrap();
    for name in ["protection.db", "protection.db.witness"] {
        fs::copy(folder.file(name), other.path().join(name)).unwrap();
    }
    assert_eq!(distrust(&other.path().join("protection.db")), Distrust::Copied);
    // A file backup put back in the same place, witness and all.
    let (database, witness) =
        (fs::read(&folder.path).unwrap(), fs::read(folder.file("protection.db.witness")).unwrap());
    sign(&folder, 11);
    for (name, content) in [("protection.db", database), ("protection.db.witness", witness)] {
        fs::remove_file(folder.file(name)).unwrap();
        fs::write(folder.file(name), content).unwrap();
    }
    assert_eq!(distrust(&folder.path), Distrust::Copied);
}

#[test]
fn a_database_that_is_moved_within_its_file_system_stays_itself() {
    let folder = used();
    fs::create_dir(folder.file("elsewhere")).unwrap();
    for name in ["protection.db", "protection.db.witness"] {
        fs::rename(folder.file(name), folder.file("elsewhere").join(name)).unwrap();
    }
    drop(open(&folder.file("elsewhere").join("protection.db")));
}

#[test]
fn a_database_without_its_own_witness_is_refused() {
    let (one, two) = (used(), used());
    let witness = |folder: &Folder| folder.file("protection.db.witness");
    overwrite(&witness(&one), &fs::read(witness(&two)).unwrap());
    assert!(matches!(distrust(&one.path), Distrust::OtherInstance { .. }));
    overwrite(&witness(&one), b"torn");
    assert_eq!(distrust(&one.path), Distrust::DamagedWitness);
    fs::remove_file(witness(&one)).unwrap();
    assert_eq!(distrust(&one.path), Distrust::NoWitness);
}

/// The limit that the documentation admits: everything this machine remembers was set back at once.
#[test]
fn a_whole_disk_set_back_is_not_noticed() {
    let folder = used();
    let snapshot = ["protection.db", "protection.db.witness"].map(|name| (name, fs::read(folder.file(name)).unwrap()));
    sign(&folder, 11);
    for (name, content) in snapshot {
        overwrite(&folder.file(name), &content);
    }
    drop(folder.open());
}

#[test]
fn a_backup_does_not_sign_wherever_it_is_put() {
    let folder = used();
    let backup = folder.file("backup.db");
    let protection = folder.open();
    protection.backup(&backup, "me").unwrap();
    assert!(protection.backup(&backup, "me").unwrap_err().to_string().contains("never overwritten"));
    assert_eq!(ask(&protection, block(key(1), 11, 1)), Verdict::Safe, "the original signs on");
    drop(protection);
    assert!(!folder.file("backup.db-wal").exists(), "one file");

    // Put back by hand, even into the same inode.
    overwrite(&folder.path, &fs::read(&backup).unwrap());
    let reason = distrust(&folder.path).to_string();
    assert!(reason.contains("backup, made at generation"), "{reason}");
    assert!(matches!(restore(&backup, &folder.path, NETWORK, &ME), Err(OpenError::Exists { .. })));
    for leftover in ["protection.db", "protection.db.witness"] {
        fs::remove_file(folder.file(leftover)).unwrap();
    }
    restore(&backup, &folder.path, NETWORK, &ME).unwrap();
    assert!(distrust(&folder.path).to_string().contains("restored from a backup"));
    // A plain copy that is called a backup is marked too.
    let plain = used();
    restore(&plain.path, &folder.file("other.db"), NETWORK, &ME).unwrap();
    assert!(matches!(distrust(&folder.file("other.db")), Distrust::Quarantined { .. }));
}

#[test]
fn a_restored_backup_signs_again_after_an_import_and_only_above_it() {
    let folder = used();
    let backup = folder.file("backup.db");
    let protection = folder.open();
    protection.register(&[key(2)], None).unwrap();
    protection.backup(&backup, "me").unwrap();
    assert_eq!(ask_all(&protection, [block(key(1), 20, 1), vote(key(1), 3, 4, 1)]), [Verdict::Safe; 2]);
    let newer = export(&protection);
    let old_instance = protection.instance();
    drop(protection);
    for lost in ["protection.db", "protection.db.witness"] {
        fs::remove_file(folder.file(lost)).unwrap();
    }

    restore(&backup, &folder.path, NETWORK, &ME).unwrap();
    let database = quarantine(&folder.path);
    assert!(matches!(database.release(), Err(ReleaseError::NothingImported)));
    assert!(matches!(distrust(&folder.path), Distrust::Quarantined { .. }), "it stays marked");

    let mut database = quarantine(&folder.path);
    assert!(database.reason().to_string().contains("restored from a backup"), "{}", database.reason());
    let now = Now { slot: 200, epoch: 6 };
    let only_one = newer.replace(&key(2).to_string(), &key(3).to_string());
    let report = database.import(only_one.as_bytes(), now).unwrap();
    assert_eq!((report.vouched, report.registered), (vec![key(1), key(3)], 1));
    let protection = database.release().unwrap();
    assert_ne!(protection.instance(), old_instance);

    let verdicts = ask_all(
        &protection,
        [
            block(key(1), 20, 2),
            block(key(1), 20, 1),
            block(key(1), 200, 1),
            block(key(1), 201, 1),
            block(key(2), 201, 1),
        ],
    );
    assert_eq!(verdicts.map(kind), ["double proposal", "same again", "low slot", "safe", "needs import"]);
    // The key that was not named waits for a file that names it.
    let report = import(&protection, &file(&[(key(2), &[], &[])]));
    assert_eq!(report.vouched, [key(2)]);
    drop(protection);
    drop(folder.open());
    let error = Protection::open(&folder.path, NETWORK, Some(old_instance)).unwrap_err();
    assert!(matches!(error, OpenError::NeedsImport { reason: Distrust::UnexpectedInstance { .. }, .. }), "{error}");
}

#[test]
fn a_file_that_knows_less_than_the_database_does_not_vouch_for_a_key() {
    let folder = used();
    fs::remove_file(folder.file("protection.db.witness")).unwrap();
    let mut database = quarantine(&folder.path);
    let report = database.import(file(&[(key(1), &[9], &[(1, 2)])]).as_bytes(), NOW).unwrap();
    assert_eq!((report.outdated, report.vouched), (vec![key(1)], vec![]));
    let protection = database.release().unwrap();
    assert_eq!(ask(&protection, block(key(1), 999_999, 1)), Verdict::NeedsImport);
    let report = import(&protection, &file(&[(key(1), &[10], &[])]));
    assert_eq!(report.outdated, [key(1)], "it knows no attestation, the database does");
    let report = import(&protection, &file(&[(key(1), &[10], &[(1, 2)])]));
    assert_eq!(report.vouched, [key(1)]);
}

#[test]
fn an_interrupted_recovery_stays_in_quarantine() {
    let folder = used();
    fs::remove_file(folder.file("protection.db.witness")).unwrap();
    let mut database = quarantine(&folder.path);
    database.import(file(&[(key(1), &[10], &[])]).as_bytes(), NOW).unwrap();
    drop(database);
    assert!(matches!(distrust(&folder.path), Distrust::Quarantined { .. }));
    // The next session starts anew.
    let mut database = quarantine(&folder.path);
    assert!(database.keys().unwrap().iter().all(|key| key.needs_import));
    database.import(file(&[(key(1), &[10], &[])]).as_bytes(), NOW).unwrap();
    drop(database.release().unwrap());
    assert!(matches!(Quarantine::open(&folder.path, NETWORK, None), Err(OpenError::Trusted { .. })));
}

#[test]
fn after_a_lost_disk_without_any_file_the_past_is_closed() {
    let folder = Folder::new();
    // A new disk: neither database nor witness, but the program knows that it had one.
    let expected = Some(InstanceId::from_bytes([9; 16]));
    assert!(matches!(Protection::open(&folder.path, NETWORK, expected), Err(OpenError::NeedsImport { .. })));
    let now = Now { slot: 100, epoch: 3 };
    let mut database = Quarantine::open(&folder.path, NETWORK, expected).unwrap();
    assert_eq!(*database.reason(), Distrust::Missing);
    database.close_history(now).unwrap();
    let protection = database.release().unwrap();
    assert_eq!(ask(&protection, block(key(1), 999, 1)), Verdict::Unregistered);
    protection.register(&[key(1)], Some(now)).unwrap();
    let verdicts = ask_all(
        &protection,
        [block(key(1), 100, 1), vote(key(1), 2, 3, 1), block(key(1), 101, 1), vote(key(1), 2, 4, 1)],
    );
    assert_eq!(verdicts.map(kind), ["low slot", "low target", "safe", "safe"]);
}

#[test]
fn after_a_lost_disk_an_old_file_opens_nothing_that_may_have_been_signed_since() {
    let folder = used();
    let old_file = export(&folder.open());
    sign(&folder, 50);
    fs::remove_file(&folder.path).unwrap();
    let mut database = quarantine(&folder.path);
    let report = database.import(old_file.as_bytes(), Now { slot: 60, epoch: 1 }).unwrap();
    assert_eq!((report.registered, report.vouched), (1, vec![key(1)]));
    let protection = database.release().unwrap();
    assert_eq!(ask_all(&protection, [block(key(1), 50, 2), block(key(1), 61, 2)]).map(kind), ["low slot", "safe"]);
}

#[test]
fn a_rolled_back_database_recovers_by_closing_the_past() {
    let folder = used();
    let old = fs::read(&folder.path).unwrap();
    for slot in 11..15 {
        sign(&folder, slot);
    }
    overwrite(&folder.path, &old);
    let reached = match distrust(&folder.path) {
        Distrust::RolledBack { witness, .. } => witness,
        other => panic!("{other}"),
    };
    let mut database = quarantine(&folder.path);
    database.close_history(Now { slot: 14, epoch: 0 }).unwrap();
    let protection = database.release().unwrap();
    assert_eq!(ask_all(&protection, [block(key(1), 14, 2), block(key(1), 15, 2)]).map(kind), ["low slot", "safe"]);
    drop(protection);
    let Connected { generation, .. } = connected(&folder.path);
    assert!(generation > reached, "the generation never falls, not even by a recovery");
    // And the older copy is refused as before.
    overwrite(&folder.path, &old);
    assert!(matches!(distrust(&folder.path), Distrust::OtherInstance { .. }));
}

struct Connected {
    generation: u64,
}

fn connected(path: &Path) -> Connected {
    let generation: i64 =
        Connection::open(path).unwrap().query_row("SELECT generation FROM meta", [], |row| row.get(0)).unwrap();
    Connected { generation: generation.unsigned_abs() }
}

#[test]
fn a_file_that_is_replaced_while_in_use_stops_signing_until_it_is_back() {
    let folder = used();
    let protection = folder.open();
    let aside = folder.file("aside.db");
    fs::rename(&folder.path, &aside).unwrap();
    let refused = |protection: &Protection| {
        let error = protection.check_and_record(&[block(key(1), 11, 1)], NOW).unwrap_err();
        assert!(matches!(error, Unavailable::Replaced { .. }), "{error}");
        assert!(error.to_string().contains("nothing may be signed"));
    };
    refused(&protection);
    fs::copy(&aside, &folder.path).unwrap();
    refused(&protection);
    fs::rename(&aside, &folder.path).unwrap();
    assert_eq!(ask(&protection, block(key(1), 11, 1)), Verdict::Safe);
    drop(protection);
    drop(folder.open());
}

/// The last line: what SQL refuses, whoever asks.
#[test]
fn the_schema_itself_refuses_what_would_weaken_the_history() {
    let (folder, protection) = fresh();
    assert_eq!(
        ask_all(
            &protection,
            [block(key(1), 10, 1), block(key(1), 20, 1), vote(key(1), 2, 3, 1), vote(key(1), 4, 6, 1)]
        ),
        [Verdict::Safe; 4]
    );
    drop(protection);
    let plain = Connection::open(&folder.path).unwrap();
    plain.pragma_update(None, "foreign_keys", "ON").unwrap();
    for forbidden in [
        "DELETE FROM meta",
        "UPDATE meta SET generation = generation",
        "UPDATE meta SET generation = 1",
        "UPDATE meta SET genesis_validators_root = zeroblob(32)",
        "INSERT INTO meta SELECT 2, genesis_validators_root, instance, 1, NULL FROM meta",
        "DELETE FROM validator",
        "UPDATE validator SET pubkey = zeroblob(48)",
        "UPDATE validator SET low_slot = 9",
        "UPDATE validator SET low_slot = NULL",
        "UPDATE validator SET low_source_epoch = 1",
        "UPDATE validator SET low_target_epoch = 2",
        "UPDATE validator SET low_source_epoch = NULL, low_target_epoch = NULL",
        "UPDATE validator SET low_source_epoch = 9",
        "UPDATE validator SET active = 2",
        "INSERT INTO validator (pubkey, active, needs_import) SELECT pubkey, 1, 0 FROM validator",
        "INSERT INTO signed_block VALUES (1, 20, zeroblob(32))",
        "INSERT INTO signed_block VALUES (2, 20, zeroblob(32))",
        "INSERT INTO signed_block VALUES (1, 21, zeroblob(31))",
        "INSERT INTO signed_block VALUES (1, -1, zeroblob(32))",
        "UPDATE signed_block SET signing_root = zeroblob(32)",
        "UPDATE signed_block SET signing_root = NULL, slot = slot + 1",
        "DELETE FROM signed_block WHERE slot = 20",
        "INSERT INTO signed_attestation VALUES (1, 6, 5, zeroblob(32))",
        "INSERT INTO signed_attestation VALUES (1, 9, 3, zeroblob(32))",
        "INSERT INTO signed_attestation VALUES (1, 5, 5, zeroblob(32))",
        "INSERT INTO signed_attestation VALUES (1, 4, 1, zeroblob(32))",
        "INSERT INTO signed_attestation VALUES (1, 7, 8, zeroblob(32))",
        "UPDATE signed_attestation SET signing_root = zeroblob(32)",
        "UPDATE signed_attestation SET signing_root = NULL, source_epoch = source_epoch - 1",
        "DELETE FROM signed_attestation WHERE target_epoch = 6",
    ] {
        let error = plain.execute_batch(forbidden).expect_err(forbidden);
        assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::ConstraintViolation), "{forbidden}: {error}");
    }
    for allowed in [
        "UPDATE validator SET low_slot = 10, low_source_epoch = 2, low_target_epoch = 3",
        "INSERT INTO signed_block VALUES (1, 15, zeroblob(32))",
        "INSERT INTO signed_attestation VALUES (1, 5, 3, zeroblob(32))",
        "UPDATE signed_block SET signing_root = NULL WHERE slot = 15",
        "DELETE FROM signed_block WHERE slot = 10",
        "DELETE FROM signed_attestation WHERE target_epoch = 3",
    ] {
        plain.execute_batch(allowed).expect(allowed);
    }
}

fn fault(backup: &Path, into: &Folder, owner: &Owner<'_>) -> BackupFault {
    let error = restore(backup, &into.file("restored.db"), NETWORK, owner).unwrap_err();
    assert!(!into.file("restored.db").exists(), "nothing is put in place: {error}");
    assert!(error.to_string().contains("cannot be restored"), "{error}");
    match error {
        OpenError::Backup { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

#[test]
fn a_backup_of_somebody_else_is_not_restored() {
    let folder = used();
    let (backup, plain) = (folder.file("backup.db"), folder.file("plain.db"));
    let protection = folder.open();
    protection.backup(&backup, "me").unwrap();
    let instance = protection.instance();
    drop(protection);
    fs::copy(&folder.path, &plain).unwrap();

    let other = Owner { name: "the other program", ..ME };
    assert!(matches!(fault(&backup, &folder, &other), BackupFault::OtherOwner { found, .. } if found == "me"));
    let strangers = [key(8), key(9)];
    assert_eq!(fault(&backup, &folder, &Owner { keys: &strangers, ..ME }), BackupFault::OtherKeys);
    // A plain copy says nothing: only its instance can.
    let second = InstanceId::from_bytes([7; 16]);
    let remembers = |instance| Owner { instance: Some(instance), ..ME };
    assert_eq!(fault(&plain, &folder, &remembers(second)), BackupFault::OtherLife { found: instance });

    let known = [key(9), key(1)];
    restore(&backup, &folder.file("one.db"), NETWORK, &Owner { keys: &known, ..remembers(second) }).unwrap();
    restore(&plain, &folder.file("two.db"), NETWORK, &remembers(instance)).unwrap();
    // What was restored is no backup any more: copied on, it has the new life's name or none.
    let restored = Connection::open(folder.file("one.db")).unwrap();
    assert!(restored.prepare("SELECT owner FROM backup_of").is_err());
}

#[test]
fn what_is_no_backup_is_called_by_its_name() {
    let folder = used();
    let backup = folder.file("backup.db");
    folder.open().backup(&backup, "me").unwrap();
    let whole = fs::read(&backup).unwrap();
    let wrong = |content: &[u8]| {
        let path = folder.file("wrong.db");
        fs::write(&path, content).unwrap();
        fault(&path, &folder, &ME)
    };
    assert_eq!(wrong(b""), BackupFault::Empty);
    assert_eq!(wrong(&[b'a'; 5_000]), BackupFault::NotABackup);
    assert_eq!(wrong(b"{}"), BackupFault::NotABackup);
    assert!(matches!(wrong(&whole[..whole.len() / 2]), BackupFault::Damaged { .. }));
    assert!(matches!(wrong(&whole[..whole.len() - 4_096]), BackupFault::Damaged { .. }));
    let newer = folder.file("newer.db");
    fs::copy(&backup, &newer).unwrap();
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert_eq!(fault(&newer, &folder, &ME), BackupFault::TooNew { found: 99, known: 1 });
    let foreign = folder.file("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE note (text)").unwrap();
    assert_eq!(fault(&foreign, &folder, &ME), BackupFault::NotABackup);
    let pipe = folder.file("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    let error = restore(&pipe, &folder.file("restored.db"), NETWORK, &ME).unwrap_err();
    assert!(error.to_string().contains("is a pipe, not a regular file"), "{error}");
    let error = Protection::open(&pipe, NETWORK, None).unwrap_err();
    assert!(error.to_string().contains("is a pipe, not a regular file"), "{error}");
}

#[test]
fn a_database_that_must_not_sign_is_read_as_it_is_and_stays_so() {
    let folder = used();
    let old: Vec<_> = ["protection.db"].map(|name| (name, fs::read(folder.file(name)).unwrap())).to_vec();
    sign(&folder, 11);
    for (name, content) in &old {
        overwrite(&folder.file(name), content);
    }
    let reason = distrust(&folder.path);
    assert!(matches!(reason, Distrust::RolledBack { .. }), "{reason}");
    let before = fs::read(&folder.path).unwrap();
    let backup = folder.file("backup.db");
    let mut inspection = Inspection::open(&folder.path, NETWORK, None).unwrap();
    assert_eq!(inspection.distrust(), Some(&reason));
    let keys = inspection.keys().unwrap();
    assert!(keys.len() == 1 && keys[0].needs_import && keys[0].high.slot == Some(10), "{keys:?}");
    let mut interchange = Vec::new();
    let report = inspection.export(&mut interchange, None).unwrap();
    assert_eq!((report.keys, report.left_out.len()), (1, 0));
    inspection.backup(&backup, "me").unwrap();
    drop(inspection);
    assert!(fs::read(&folder.path).unwrap() == before, "nothing was written");
    assert_eq!(distrust(&folder.path), reason, "and nothing was forgiven");

    // Also where an import has begun and every key is marked.
    drop(quarantine(&folder.path));
    let mut again = Vec::new();
    let mut inspection = Inspection::open(&folder.path, NETWORK, None).unwrap();
    assert_eq!(inspection.export(&mut again, None).unwrap().keys, 1);
    assert!(again == interchange);
    drop(inspection);
    // The backup is in as much doubt as what it was made of.
    restore(&backup, &folder.file("restored.db"), NETWORK, &ME).unwrap();
    assert!(matches!(distrust(&folder.file("restored.db")), Distrust::Quarantined { .. }));
}

#[test]
fn in_a_database_in_service_a_key_in_doubt_is_not_exported_by_a_look_either() {
    let folder = used();
    fs::remove_file(folder.file("protection.db.witness")).unwrap();
    let mut database = quarantine(&folder.path);
    database.import(crate::support::empty_interchange().as_bytes(), NOW).unwrap();
    drop(database.release().unwrap());
    let mut inspection = Inspection::open(&folder.path, NETWORK, None).unwrap();
    assert_eq!(inspection.distrust(), None);
    assert_eq!(inspection.export(Vec::new(), None).unwrap().left_out, [key(1)]);
}

#[test]
fn an_old_copy_over_a_database_whose_log_was_emptied_is_an_old_copy() {
    let folder = used();
    let old = fs::read(&folder.path).unwrap();
    let database = folder.open();
    let log = folder.file("protection.db-wal");
    database.register(&[key(2)], None).unwrap();
    assert!(fs::metadata(&log).unwrap().len() > 0);
    database.empty_log().unwrap();
    assert_eq!(fs::metadata(&log).unwrap().len(), 0, "the file alone is whole, while the program still holds it");
    database.register(&[key(3)], None).unwrap();
    database.empty_log().unwrap();
    // As if the program had ended here, and nothing been closed.
    let killed = Folder::new();
    for name in ["protection.db", "protection.db-wal"] {
        fs::copy(folder.file(name), killed.file(name)).unwrap();
    }
    drop(database);
    let keys = |path| {
        rusqlite::Connection::open(path).unwrap().query_row("SELECT count(*) FROM validator", [], |row| row.get(0))
    };
    assert_eq!(keys(&killed.path), Ok(3_i64));
    fs::write(&killed.path, old).unwrap();
    assert_eq!(keys(&killed.path), Ok(1_i64), "no newer log is read into it");
}
