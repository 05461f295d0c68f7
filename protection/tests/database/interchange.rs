//! EIP-3076 files: what is accepted, what is refused, and what an import does to the history.

use proptest::prelude::*;
use stkr_protection::{
    Epochs, ImportError, InterchangeError, MAX_RECORDS, Now, Protection, Pubkey, Verdict, Watermark,
};

use crate::support::{Folder, NETWORK, NOW, ask, ask_all, block, export, file, fresh, import, key, kind, root, vote};

fn refusal(json: &str) -> String {
    let (_folder, protection) = fresh();
    let before = protection.keys().unwrap();
    let error = protection.import(json.as_bytes(), NOW).unwrap_err();
    assert!(matches!(error, ImportError::File(_) | ImportError::FarFuture { .. }), "{error}");
    assert_eq!(protection.keys().unwrap(), before, "nothing was imported");
    let message = error.to_string();
    assert!(message.ends_with("; nothing was imported") && !message.contains('\n'), "one sentence: {message}");
    message
}

#[test]
fn a_complete_file_is_imported_with_its_roots() {
    let (_folder, protection) = fresh();
    let (one, two) = (root(1), root(2));
    let json = format!(
        r#"{{"metadata":{{"interchange_format_version":"5","genesis_validators_root":"{NETWORK}"}},"data":[
            {{"pubkey":"{}","signed_blocks":[{{"slot":"5","signing_root":"{one}"}},{{"slot":"7","signing_root":null}}],
              "signed_attestations":[{{"source_epoch":"2","target_epoch":"3","signing_root":"{two}"}}]}}]}}"#,
        key(2)
    );
    let report = import(&protection, &json);
    assert_eq!((report.keys, report.registered, report.blocks, report.attestations), (1, 1, 2, 1));
    let verdicts = ask_all(
        &protection,
        [
            block(key(2), 5, 1),
            block(key(2), 5, 2),
            block(key(2), 6, 1),
            block(key(2), 7, 1),
            vote(key(2), 2, 3, 2),
            vote(key(2), 2, 3, 1),
        ],
    );
    assert_eq!(
        verdicts.map(kind),
        ["same again", "double proposal", "safe", "double proposal", "same again", "double vote"]
    );
}

#[test]
fn a_minimal_file_closes_everything_up_to_it() {
    let (_folder, protection) = fresh();
    let _ = ask_all(&protection, [block(key(1), 10, 1), vote(key(1), 2, 3, 1)]);
    // Between 10 and 50 somebody else signed who kept only the last.
    import(&protection, &file(&[(key(1), &[50], &[(10, 20)])]));
    let verdicts = ask_all(
        &protection,
        [
            block(key(1), 30, 1),
            block(key(1), 50, 1),
            block(key(1), 51, 1),
            vote(key(1), 9, 21, 1),
            vote(key(1), 10, 19, 1),
            vote(key(1), 10, 21, 1),
        ],
    );
    assert_eq!(verdicts.map(kind), ["low slot", "double proposal", "safe", "surrounding", "low target", "safe"]);
    // What no known vote stands against, the watermark does.
    assert_eq!(kind(ask(&protection, vote(key(1), 8, 9, 1))), "low source");
}

#[test]
fn an_older_file_lowers_nothing() {
    let (_folder, protection) = fresh();
    import(&protection, &file(&[(key(1), &[50], &[(10, 20)])]));
    let before = protection.key(&key(1)).unwrap().unwrap();
    import(&protection, &file(&[(key(1), &[5], &[(1, 2)])]));
    let after = protection.key(&key(1)).unwrap().unwrap();
    assert_eq!((before.low, before.high), (after.low, after.high));
}

#[test]
fn two_roots_for_one_slot_close_it() {
    let (_folder, protection) = fresh();
    let _ = ask_all(&protection, [block(key(1), 10, 1), vote(key(1), 2, 3, 1)]);
    assert_eq!(ask(&protection, block(key(1), 10, 1)), Verdict::SameAgain);
    import(&protection, &file(&[(key(1), &[10], &[(2, 3)])]));
    let verdicts = ask_all(&protection, [block(key(1), 10, 1), vote(key(1), 2, 3, 1)]);
    assert_eq!(verdicts.map(kind), ["double proposal", "double vote"], "not even what was signed");
}

#[test]
fn contradictory_votes_close_the_history_up_to_them() {
    let (_folder, protection) = fresh();
    let _ = ask_all(&protection, [vote(key(1), 2, 3, 1), vote(key(1), 4, 5, 1)]);
    let report = import(&protection, &file(&[(key(1), &[], &[(3, 7)]), (key(2), &[], &[(1, 2)])]));
    assert_eq!(report.contradictory, [key(1)], "(3, 7) surrounds (4, 5)");
    let low = protection.key(&key(1)).unwrap().unwrap().low.epochs.unwrap();
    assert_eq!(low, Epochs { source_epoch: 4, target_epoch: 7 });
    let verdicts = ask_all(&protection, [vote(key(1), 4, 5, 1), vote(key(1), 3, 8, 1), vote(key(1), 4, 8, 1)]);
    assert_eq!(verdicts.map(kind), ["double vote", "low source", "safe"]);
}

#[test]
fn a_vote_that_surrounds_the_unknown_past_of_a_key_closes_it_further() {
    let (_folder, protection) = fresh();
    protection.register(&[key(2)], Some(Now { slot: 0, epoch: 6 })).unwrap();
    let report = import(&protection, &file(&[(key(2), &[], &[(3, 8)])]));
    assert_eq!(report.contradictory, [key(2)]);
    let low = protection.key(&key(2)).unwrap().unwrap().low.epochs.unwrap();
    assert_eq!(low, Epochs { source_epoch: 5, target_epoch: 8 });
}

#[test]
fn a_vote_whose_source_is_after_its_target_raises_the_watermarks_alone() {
    let (_folder, protection) = fresh();
    let report = import(&protection, &file(&[(key(1), &[], &[(8, 7)])]));
    assert_eq!(report.contradictory, [key(1)]);
    let low = protection.key(&key(1)).unwrap().unwrap().low.epochs.unwrap();
    assert_eq!(low, Epochs { source_epoch: 8, target_epoch: 8 });
}

#[test]
fn entries_of_one_key_count_as_one() {
    let (_folder, protection) = fresh();
    import(&protection, &file(&[(key(1), &[20], &[(3, 4)]), (key(1), &[10], &[(1, 2)])]));
    let low = protection.key(&key(1)).unwrap().unwrap().low;
    assert_eq!(low, Watermark { slot: Some(10), epochs: Some(Epochs { source_epoch: 1, target_epoch: 2 }) });
    assert_eq!(ask(&protection, block(key(1), 15, 1)), Verdict::Safe);
}

#[test]
fn the_same_file_twice_changes_nothing() {
    let (_folder, protection) = fresh();
    let json = file(&[(key(1), &[5, 7], &[(1, 2), (2, 4)]), (key(2), &[], &[])]);
    import(&protection, &json);
    let before = protection.keys().unwrap();
    let report = import(&protection, &json);
    assert_eq!((report.registered, report.contradictory.len()), (0, 0));
    assert_eq!(protection.keys().unwrap(), before);
}

#[test]
fn an_inactive_key_stays_inactive() {
    let (_folder, protection) = fresh();
    protection.deactivate(&[key(1)]).unwrap();
    import(&protection, &file(&[(key(1), &[5], &[])]));
    assert_eq!(ask(&protection, block(key(1), 6, 1)), Verdict::Inactive);
}

#[test]
fn metadata_may_come_last_and_is_still_checked() {
    let (_folder, protection) = fresh();
    let data =
        format!(r#""data":[{{"pubkey":"{}","signed_blocks":[{{"slot":"5"}}],"signed_attestations":[]}}]"#, key(2));
    let late = |network| {
        format!(r#"{{{data},"metadata":{{"interchange_format_version":"5","genesis_validators_root":"{network}"}}}}"#)
    };
    let error = protection.import(late(root(1)).as_bytes(), NOW).unwrap_err();
    assert!(matches!(error, ImportError::File(InterchangeError::OtherNetwork { expected: NETWORK, .. })), "{error}");
    assert_eq!(protection.key(&key(2)).unwrap(), None);
    import(&protection, &late(NETWORK));
    assert!(protection.key(&key(2)).unwrap().is_some());
}

#[test]
fn files_that_are_not_exactly_the_format_are_refused_with_one_sentence() {
    let good = file(&[(key(1), &[5], &[(1, 2)])]);
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        refusal(&good.replace(from, to))
    };
    for version in ["4", "6", "05", "5 ", ""] {
        let version = format!(r#""interchange_format_version":"{version}""#);
        assert!(with(r#""interchange_format_version":"5""#, &version).contains("format version"));
    }
    assert!(with(&NETWORK.to_string(), &root(9).to_string()).contains("belongs to the network"));
    for number in [
        "",
        " 5",
        "5 ",
        "+5",
        "-5",
        "05",
        "0x5",
        "5.0",
        "5e1",
        "９",
        "9223372036854775808",
        "18446744073709551615",
        "99999999999999999999999",
    ] {
        assert!(with(r#""slot":"5""#, &format!(r#""slot":"{number}""#)).contains("decimal digits"), "{number}");
        assert!(with(r#""target_epoch":"2""#, &format!(r#""target_epoch":"{number}""#)).contains("decimal digits"));
        assert!(with(r#""source_epoch":"1""#, &format!(r#""source_epoch":"{number}""#)).contains("decimal digits"));
    }
    let pubkey = key(1).to_string();
    let digits = &pubkey[2..];
    for wrong in [
        "",
        "0x",
        digits,
        &format!("0x{digits}00"),
        &format!("0x{}", &digits[2..]),
        &format!("0X{digits}"),
        &format!("0x0x{}", &digits[2..]),
        &format!("0x{}zz", &digits[2..]),
    ] {
        assert!(with(&pubkey, wrong).contains("hex digits"), "{wrong}");
    }
    for (from, to) in [
        (r#""slot":"5""#, r#""slot":5"#),
        (r#""slot":"5""#, r#""slot":null"#),
        (r#""slot":"5""#, r#""slots":"5""#),
        (r#""slot":"5""#, r#""slot":"5","slot":"6""#),
        (r#""slot":"5""#, r#""slot":"5","note":"hello""#),
        (r#""slot":"5""#, r#""slot":"5","signing_root":"""#),
        (r#""slot":"5""#, r#""slot":"5","signing_root":"0x00""#),
        (r#""slot":"5""#, r#""slot":"5","signing_root":7"#),
        (r#""signed_blocks":"#, r#""signed_block":"#),
        (r#""signed_attestations":"#, r#""signed_blocks":"#),
        (r#","signed_attestations":[{"source_epoch":"1","target_epoch":"2"}]"#, ""),
        (r#""metadata":"#, r#""data":[],"metadata":"#),
        (r#""data":"#, r#""dat":"#),
        (r#""data":["#, r#""data":[null,"#),
        (r#""data":["#, r#""data":[["#),
        (r#"}]}"#, r#"}]} "trailing""#),
        (r#"}]}"#, r#"}]"#),
    ] {
        assert!(with(from, to).contains("malformed"), "{from} -> {to}");
    }
    for text in ["", "null", "[]", "{}", "5", r#"{"data":[]}"#, r#"{"metadata":{}}"#, "\u{feff}{}"] {
        refusal(text);
    }
    refusal(&"[".repeat(100_000));
}

#[test]
fn an_entry_has_a_bounded_number_of_records() {
    let slots = r#"{"slot":"1"},"#.repeat(MAX_RECORDS) + r#"{"slot":"1"}"#;
    let json = file(&[(key(1), &[5], &[])]).replace(r#"{"slot":"5"}"#, &slots);
    assert!(refusal(&json).contains("at most 1048576 records"));
}

#[test]
fn records_after_the_present_are_refused() {
    let at = Now { slot: 100, epoch: 3 };
    for (json, what) in [
        (file(&[(key(1), &[5, 101], &[])]), "slot 101"),
        (file(&[(key(1), &[5], &[(2, 3), (2, 4)])]), "epoch 4"),
        (file(&[(key(1), &[], &[(9, 3)])]), "epoch 9"),
    ] {
        let (_folder, protection) = fresh();
        let before = protection.keys().unwrap();
        let error = protection.import(json.as_bytes(), at).unwrap_err();
        assert!(matches!(error, ImportError::FarFuture { .. }) && error.to_string().contains(what), "{error}");
        assert_eq!(protection.keys().unwrap(), before);
    }
}

#[test]
fn an_unreadable_file_imports_nothing() {
    struct Broken(usize);
    impl std::io::Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let json = file(&[(key(9), &[5], &[(1, 2)])]);
            let rest = &json.as_bytes()[self.0..json.len() - 10];
            if rest.is_empty() {
                return Err(std::io::Error::other("bad sector"));
            }
            buffer[0] = rest[0];
            self.0 += 1;
            Ok(1)
        }
    }
    let (_folder, protection) = fresh();
    let error = protection.import(Broken(0), NOW).unwrap_err();
    assert!(matches!(error, ImportError::File(InterchangeError::Read(_))), "{error}");
    assert!(error.to_string().contains("bad sector"));
    assert_eq!(protection.key(&key(9)).unwrap(), None);
}

#[test]
fn an_export_is_what_the_standard_says() {
    let (_folder, protection) = fresh();
    let _ = ask_all(&protection, [block(key(1), 10, 1), block(key(1), 12, 2), vote(key(1), 2, 3, 3)]);
    protection.register(&[key(2)], Some(Now { slot: 64, epoch: 2 })).unwrap();
    let json: serde_json::Value = serde_json::from_str(&export(&protection)).unwrap();
    let expected = serde_json::json!({
        "metadata": { "interchange_format_version": "5", "genesis_validators_root": NETWORK.to_string() },
        "data": [
            {
                "pubkey": key(1).to_string(),
                "signed_blocks": [
                    { "slot": "10", "signing_root": root(1).to_string() },
                    { "slot": "12", "signing_root": root(2).to_string() },
                ],
                "signed_attestations": [
                    { "source_epoch": "2", "target_epoch": "3", "signing_root": root(3).to_string() },
                ],
            },
            {
                // No record, but a watermark, which a record has to stand for.
                "pubkey": key(2).to_string(),
                "signed_blocks": [{ "slot": "64" }],
                "signed_attestations": [{ "source_epoch": "1", "target_epoch": "2" }],
            },
        ],
    });
    assert_eq!(json, expected);
    let mut one = Vec::new();
    let report = protection.export(&mut one, Some(&[key(2)])).unwrap();
    assert_eq!((report.keys, report.blocks, report.attestations), (1, 1, 1));
    assert!(!String::from_utf8(one).unwrap().contains(&key(1).to_string()));
    assert!(protection.export(Vec::new(), Some(&[key(3)])).is_err());
}

#[test]
fn an_export_that_cannot_be_written_says_so() {
    let (_folder, protection) = fresh();
    let mut full = [0_u8; 10];
    assert!(protection.export(&mut full[..], None).is_err());
    assert_eq!(ask(&protection, block(key(1), 5, 1)), Verdict::Safe);
}

#[test]
fn a_history_in_doubt_is_not_passed_on() {
    let (folder, protection) = fresh();
    drop(protection);
    std::fs::remove_file(folder.file("protection.db.witness")).unwrap();
    let mut database = stkr_protection::Quarantine::open(&folder.path, NETWORK, None).unwrap();
    database.import(file(&[(key(2), &[5], &[])]).as_bytes(), NOW).unwrap();
    let protection = database.release().unwrap();
    let mut json = Vec::new();
    let report = protection.export(&mut json, None).unwrap();
    assert_eq!((report.keys, report.left_out), (1, vec![key(1)]));
    assert!(protection.export(Vec::new(), Some(&[key(1)])).unwrap_err().to_string().contains("in doubt"));
}

fn imported(json: &str) -> (Folder, Protection) {
    let folder = Folder::quick();
    let protection = folder.create();
    import(&protection, json);
    (folder, protection)
}

proptest! {
    #![proptest_config(crate::support::cases(64))]

    /// What is exported and imported elsewhere gives the same watermarks there and the same answers.
    #[test]
    fn an_export_is_imported_as_it_was(
        asked in prop::collection::vec((1_u8..3, 0_u64..12, 1_u64..5, 0_u64..3, any::<bool>()), 0..60),
        history in prop::collection::vec((1_u8..3, 0_u64..12, 0_u64..12), 0..4),
        prune in prop::option::of(0_u64..12),
        probes in prop::collection::vec((1_u8..3, 0_u64..20, 1_u64..8, 0_u64..3, any::<bool>()), 0..60),
    ) {
        let folder = Folder::quick();
        let protection = folder.create();
        protection.register(&[key(1), key(2)], None).unwrap();
        let request = |(number, at, length, signing_root, is_block): (u8, u64, u64, u64, bool)| {
            if is_block { block(key(number), at, signing_root) } else { vote(key(number), at, at + length, signing_root) }
        };
        for (number, source, target) in history {
            import(&protection, &file(&[(key(number), &[source], &[(source, target)])]));
        }
        for asked in asked {
            let _ = ask(&protection, request(asked));
        }
        if let Some(prune) = prune {
            protection.prune(Now { slot: prune, epoch: prune }).unwrap();
        }
        let json = export(&protection);
        let (_other, copy) = imported(&json);
        prop_assert_eq!(protection.keys().unwrap(), copy.keys().unwrap());
        prop_assert_eq!(&export(&copy), &json);
        for probe in probes {
            let (here, there) = (ask(&protection, request(probe)), ask(&copy, request(probe)));
            // Roots below the watermark do not travel: a repeated signature there is refused.
            prop_assert!(kind(here) == kind(there) || !there.may_sign(), "{here} here, {there} there");
            if here == Verdict::Safe {
                prop_assert_eq!(there, Verdict::Safe);
            }
        }
    }

    /// The parser never panics, and a file that is refused leaves no trace.
    #[test]
    fn any_bytes_are_imported_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        unharmed(&bytes);
    }

    /// The same with files that are almost right.
    #[test]
    fn any_damaged_file_is_imported_or_refused(
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop::option::of(any::<u8>()), 0_usize..4), 1..4),
    ) {
        let mut bytes = file(&[(key(1), &[5, 6], &[(1, 2), (2, 3)]), (key(2), &[], &[])]).into_bytes();
        for (at, byte, delete) in edits {
            let at = at.index(bytes.len());
            let end = (at + delete).min(bytes.len());
            bytes.splice(at..end, byte);
        }
        unharmed(&bytes);
    }
}

fn unharmed(bytes: &[u8]) {
    let folder = Folder::quick();
    let protection = folder.create();
    protection.register(&[key(1)], None).unwrap();
    let _ = ask_all(&protection, [block(key(1), 3, 1), vote(key(1), 0, 1, 1)]);
    let before = protection.keys().unwrap();
    match protection.import(bytes, NOW) {
        Err(error) => {
            assert!(!matches!(error, ImportError::Unavailable(_)), "{error}");
            assert_eq!(protection.keys().unwrap(), before);
        }
        Ok(_) => {
            let low = |key: &Pubkey| protection.key(key).unwrap().unwrap().low;
            assert!(low(&key(1)).slot >= before[0].low.slot);
        }
    }
}
