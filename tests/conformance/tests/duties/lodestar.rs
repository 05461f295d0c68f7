//! Differential: random duties of every fork, on mainnet, Hoodi and a chain with the minimal preset, against Lodestar's
//! SSZ types and configs, which share no code with ours.

use std::{collections::BTreeMap, process::Command};

use alloy_primitives::{Address, B256};
use serde_json::Value;
use stkr_duties::{
    BlockProperty, DutyKind, Fork, ForkSchedule, Preset, ProofError, SigningRequest, containers::BlsToExecutionChange,
};

/// Requests of each kind, fork and network.
const ROUNDS: usize = 12;

/// What `roots.mjs` computes under this preset, for one fixed seed.
fn lodestar(preset: Preset) -> Option<Value> {
    let folder = stkr_conformance::lodestar_ssz().unwrap()?;
    let output = Command::new("node")
        .arg("roots.mjs")
        .args(["20261125".to_owned(), ROUNDS.to_string()])
        .env("LODESTAR_PRESET", preset.name())
        .current_dir(folder)
        .output()
        .expect("node is needed to compare with Lodestar");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn schedule(network: &Value) -> ForkSchedule {
    serde_json::from_value(network["schedule"].clone()).unwrap()
}

/// Every request of a network has Lodestar's root and every block its proofs; how many there were of each kind.
fn compare(network: &Value) -> BTreeMap<(DutyKind, Fork), usize> {
    let schedule = schedule(network);
    let mut counts = BTreeMap::new();
    for case in network["requests"].as_array().unwrap() {
        let fork: Fork = case["fork"].as_str().unwrap().parse().unwrap();
        let body = &case["body"];
        let name = format!("{} {fork} {}", network["name"], body["type"]);
        let request = SigningRequest::decode(body.to_string().as_bytes(), schedule.preset())
            .unwrap_or_else(|error| panic!("{name}: {error}\n{body}"));
        let root = request.verify(&schedule).unwrap_or_else(|error| panic!("{name}: {error}\n{body}"));
        assert_eq!(root.to_string(), body["signingRoot"].as_str().unwrap(), "{name}");
        if let Some(recipient) = case["fee_recipient"].as_str() {
            compare_proofs(&request, recipient.parse().unwrap(), case["graffiti"].as_str().unwrap(), &schedule);
        }
        *counts.entry((request.duty.kind(), fork)).or_default() += 1;
    }
    for case in network["changes"].as_array().unwrap() {
        let change: BlsToExecutionChange = serde_json::from_value(case["change"].clone()).unwrap();
        assert_eq!(change.signing_root(&schedule).to_string(), case["signing_root"].as_str().unwrap());
    }
    assert_eq!(network["changes"].as_array().unwrap().len(), ROUNDS);
    counts
}

fn compare_proofs(request: &SigningRequest, recipient: Address, graffiti: &str, schedule: &ForkSchedule) {
    let graffiti: B256 = graffiti.parse().unwrap();
    assert_eq!(request.proves_fee_recipient(recipient, schedule), Ok(()));
    assert_eq!(request.proves_graffiti(graffiti, schedule), Ok(()));
    let thief = Address::repeat_byte(0xbb);
    assert!(matches!(request.proves_fee_recipient(thief, schedule), Err(ProofError::Wrong { .. })));
    assert!(matches!(request.proves_graffiti(!graffiti, schedule), Err(ProofError::Wrong { .. })));
}

/// Kinds and forks that exist: blocks twice from Bellatrix on, whole and blinded.
fn expected(forks: &[Fork]) -> BTreeMap<(DutyKind, Fork), usize> {
    let mut counts = BTreeMap::new();
    for fork in forks {
        for kind in DutyKind::ALL {
            let times = match kind {
                DutyKind::Block if *fork >= Fork::Bellatrix => 0,
                DutyKind::BlockV2 if *fork >= Fork::Bellatrix => 2,
                kind if kind.name().starts_with("SYNC_COMMITTEE") && *fork < Fork::Altair => 0,
                _ => 1,
            };
            if times > 0 {
                counts.insert((*kind, *fork), times * ROUNDS);
            }
        }
    }
    counts
}

#[test]
fn lodestar_computes_the_same_roots_and_proofs_on_public_networks() {
    let Some(computed) = lodestar(Preset::Mainnet) else { return };
    let networks = computed["networks"].as_array().unwrap();
    let names: Vec<_> = networks.iter().map(|network| network["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["mainnet", "hoodi"]);
    for network in networks {
        let ours = ForkSchedule::by_name(network["name"].as_str().unwrap()).unwrap();
        assert_eq!(schedule(network), ours, "{}", network["name"]);
    }
    assert_eq!(compare(&networks[0]), expected(&Fork::ALL));
    assert_eq!(compare(&networks[1]), expected(&[Fork::Deneb, Fork::Electra, Fork::Fulu]));

    let indices = computed["indices"].as_array().unwrap();
    for (case, fork) in indices.iter().zip(&Fork::ALL[2..]) {
        assert_eq!(case["fork"], fork.name());
        let of = |property: BlockProperty| property.generalized_index(*fork);
        assert_eq!(of(BlockProperty::FeeRecipient), case["fee_recipient"].as_u64(), "{fork}");
        assert_eq!(of(BlockProperty::Graffiti), case["graffiti"].as_u64(), "{fork}");
    }
    assert_eq!(indices.len(), 5);
}

#[test]
fn lodestar_computes_the_same_roots_and_proofs_with_the_minimal_preset() {
    let Some(computed) = lodestar(Preset::Minimal) else { return };
    let networks = computed["networks"].as_array().unwrap();
    assert_eq!(networks.len(), 1);
    assert_eq!(compare(&networks[0]), expected(&Fork::ALL));
}
