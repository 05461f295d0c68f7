//! EIP-2335: the keystores in the standard's own text and those of the staking deposit CLI.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic, in its helpers too")]

use std::fs;

use stkr_core::{SecretShare, ShareIndex, keystore::Keystore};

/// The same in both suites; the standard writes it with mathematical letters so that NFKD matters.
const PASSWORD: &str = "𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑";
const SECRET: &str = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";

fn check(json: &str) {
    let keystore = Keystore::from_json(json).unwrap();
    let secret = keystore.decrypt(PASSWORD).unwrap();
    assert_eq!(hex::encode(&*secret), SECRET);
    let share = SecretShare::from_bytes(ShareIndex::new(1).unwrap(), secret.as_slice().try_into().unwrap()).unwrap();
    assert_eq!(keystore.claimed_pubkey(), Some(&share.public_key().to_string()[2..]));
    // Nothing is lost when we write what we read.
    let rewritten: serde_json::Value = serde_json::from_str(&keystore.to_json().unwrap()).unwrap();
    assert_eq!(rewritten, serde_json::from_str::<serde_json::Value>(json).unwrap());
}

#[test]
fn keystores_in_the_text_of_the_standard() {
    let Some(folder) = stkr_conformance::vectors("eip-2333-2334-2335").unwrap() else {
        return;
    };
    let text = fs::read_to_string(folder.join("ERCS/erc-2335.md")).unwrap();
    let cases: Vec<&str> = text
        .split("## Test Cases")
        .nth(1)
        .unwrap()
        .split("```json")
        .skip(1)
        .map(|block| block.split("```").next().unwrap())
        .collect();
    assert!(text.contains(PASSWORD) && text.contains(SECRET));
    assert_eq!(cases.len(), 2);
    assert!(cases[0].contains("scrypt") && cases[1].contains("pbkdf2"));
    cases.into_iter().for_each(check);
}

#[test]
fn keystores_of_the_staking_deposit_cli() {
    let Some(folder) = stkr_conformance::vectors("keystores").unwrap() else {
        return;
    };
    let folder = folder.join("tests/test_key_handling/keystore_test_vectors");
    let cases: Vec<String> =
        fs::read_dir(folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert_eq!(cases.len(), 2);
    cases.iter().for_each(|json| check(json));
}
