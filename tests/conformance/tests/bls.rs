//! The official BLS vectors (ethereum/bls12-381-tests, v0.1.1), every operation that this product has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic, in its helpers too")]

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::Value;
use stkr_core::{PublicKey, SecretShare, ShareIndex, Signature, testing, verify};

/// The cases of one folder by file name; `None` if the vectors are not there.
fn cases(folder: &str) -> Option<BTreeMap<String, Value>> {
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
    };
    let files = fs::read_dir(suite()?.join(folder)).unwrap();
    Some(files.map(|file| read(file.unwrap().path())).collect())
}

fn suite() -> Option<PathBuf> {
    let tests = stkr_conformance::vectors("bls").unwrap()?.join("tests");
    Some(fs::read_dir(tests).unwrap().next().unwrap().unwrap().path())
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    hex::decode(text.strip_prefix("0x").unwrap_or(text)).unwrap_or_else(|_| panic!("{text} is no hex"))
}

fn message(value: &Value) -> [u8; 32] {
    bytes(value).try_into().expect("every message of these vectors has 32 bytes, as signing roots do")
}

#[test]
fn sign() {
    let Some(cases) = cases("sign") else { return };
    for (name, case) in &cases {
        let secret: [u8; 32] = bytes(&case["input"]["privkey"]).try_into().unwrap();
        let signature = SecretShare::from_bytes(ShareIndex::new(1).unwrap(), &secret)
            .ok()
            .map(|share| share.sign(&message(&case["input"]["message"])).signature.to_string());
        assert_eq!(signature.as_deref(), case["output"].as_str(), "{name}");
    }
    assert_eq!(cases.len(), 10);
}

#[test]
fn verification() {
    let Some(cases) = cases("verify") else { return };
    for (name, case) in &cases {
        let input = &case["input"];
        let key = PublicKey::from_compressed(&bytes(&input["pubkey"]));
        let signature = Signature::from_compressed(&bytes(&input["signature"]));
        let valid = match (key, signature) {
            (Ok(key), Ok(signature)) => verify(&key, &message(&input["message"]), &signature),
            _ => false,
        };
        assert_eq!(valid, case["output"].as_bool().unwrap(), "{name}");
    }
    assert_eq!(cases.len(), 29);
}

/// The one case in which we mean to differ: infinity is a well-formed point, but neither a key nor a signature,
/// and no decoder of ours lets it in.
const INFINITY: &str = "deserialization_succeeds_infinity_with_true_b_flag";

#[test]
fn deserialization_of_g1() {
    let Some(cases) = cases("deserialization_G1") else {
        return;
    };
    for (name, case) in &cases {
        let decoded = PublicKey::from_compressed(&bytes(&case["input"]["pubkey"])).is_ok();
        let expected = case["output"].as_bool().unwrap() && name != INFINITY;
        assert_eq!(decoded, expected, "{name}");
    }
    assert_eq!(cases.len(), 13);
    assert!(cases.contains_key(INFINITY));
}

#[test]
fn deserialization_of_g2() {
    let Some(cases) = cases("deserialization_G2") else {
        return;
    };
    for (name, case) in &cases {
        let decoded = Signature::from_compressed(&bytes(&case["input"]["signature"])).is_ok();
        let expected = case["output"].as_bool().unwrap() && name != INFINITY;
        assert_eq!(decoded, expected, "{name}");
    }
    assert_eq!(cases.len(), 15);
    assert!(cases.contains_key(INFINITY));
}

#[test]
fn hash_to_g2() {
    const TAG: &[u8] = b"QUUX-V01-CS02-with-BLS12381G2_XMD:SHA-256_SSWU_RO_";
    let Some(cases) = cases("hash_to_G2") else {
        return;
    };
    for (name, case) in &cases {
        let point = testing::hash_to_g2(case["input"]["msg"].as_str().unwrap().as_bytes(), TAG).unwrap();
        let coordinates: Vec<u8> = ["x", "y"]
            .iter()
            .flat_map(|axis| case["output"][axis].as_str().unwrap().split(','))
            .flat_map(|word| [vec![0; 16], bytes(&word.into())].concat())
            .collect();
        assert_eq!(point.to_eip2537()[..], coordinates, "{name}");
    }
    assert_eq!(cases.len(), 4);
}

/// Stkr combines shares of one key and never aggregates signatures of several keys, so these folders have no
/// operation to test. A folder that is in neither list fails this test instead of passing unnoticed.
#[test]
fn every_folder_is_tested_or_named_as_having_no_operation() {
    const TESTED: [(&str, usize); 5] =
        [("deserialization_G1", 13), ("deserialization_G2", 15), ("hash_to_G2", 4), ("sign", 10), ("verify", 29)];
    const NO_OPERATION: [(&str, usize); 4] =
        [("aggregate", 6), ("aggregate_verify", 5), ("batch_verify", 2), ("fast_aggregate_verify", 12)];
    let Some(suite) = suite() else { return };
    let mut found: Vec<(String, usize)> = fs::read_dir(suite)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|folder| (folder.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_dir(folder).unwrap().count()))
        .collect();
    found.sort();
    let mut expected: Vec<(String, usize)> =
        TESTED.iter().chain(&NO_OPERATION).map(|(name, count)| ((*name).to_owned(), *count)).collect();
    expected.sort();
    assert_eq!(found, expected);
}
