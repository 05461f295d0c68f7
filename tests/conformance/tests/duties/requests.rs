//! Requests that a Lodestar 1.5.1 validator client sent, recorded on a local chain with the minimal preset.

use std::fs;

use serde_json::{Value, json};
use stkr_duties::{DutyKind, ForkSchedule, Preset, SigningRequest};

/// The chain of the recording; its newest fork was `newest`.
fn schedule(newest: usize) -> ForkSchedule {
    let names = ["phase0", "altair", "bellatrix", "capella"];
    let forks: Vec<_> = names[..=newest]
        .iter()
        .enumerate()
        .map(|(at, name)| json!({ "name": name, "version": format!("0x0{at}000001"), "epoch": 0 }))
        .collect();
    serde_json::from_value(json!({
        "preset": "minimal",
        "genesis_validators_root": "0x05d79a31a8e69ecd78114c50ce73116be33027d8431b82fff6c0b3cd9c2cbb1f",
        "genesis_time": 0,
        "seconds_per_slot": 2,
        "forks": forks,
    }))
    .unwrap()
}

#[test]
fn every_recorded_request_decodes_and_has_our_signing_root() {
    let Some(folder) = stkr_conformance::vectors("remote-signer-requests").unwrap() else { return };
    let (altair, capella) = (schedule(1), schedule(3));
    let (mut signed, mut others, mut kinds) = (0, 0, Vec::new());
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let recorded: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        if recorded["method"] != "POST" {
            others += 1;
            continue;
        }
        let body = recorded["body"].to_string();
        let request =
            SigningRequest::decode(body.as_bytes(), Preset::Minimal).unwrap_or_else(|e| panic!("{name}: {e}"));
        let schedule = if name.contains("CAPELLA") { &capella } else { &altair };
        let root = request.verify(schedule).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(format!("{root}"), recorded["body"]["signingRoot"].as_str().unwrap(), "{name}");

        // What we send on is what came in.
        let sent: Value = serde_json::to_value(&request).unwrap();
        assert_eq!(sent, recorded["body"], "{name}");
        // Without the client's root it is the same request.
        let mut unclaimed = request.clone();
        unclaimed.signing_root = None;
        assert_eq!(unclaimed.verify(schedule), Ok(root), "{name}");
        signed += 1;
        kinds.push(request.duty.kind());
    }
    assert_eq!((signed, others), (20, 3));
    kinds.sort();
    kinds.dedup();
    let absent: Vec<_> = DutyKind::ALL.iter().filter(|kind| !kinds.contains(kind)).map(|kind| kind.name()).collect();
    assert_eq!(absent, ["AGGREGATE_AND_PROOF_V2", "BLOCK", "DEPOSIT", "VOLUNTARY_EXIT"]);
}
