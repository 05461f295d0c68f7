//! The examples of Web3Signer's OpenAPI file and of the standard it came to be, each with its signing root.
//!
//! Every example is for a chain whose version is `0x00000001`, whatever fork it names; two need the minimal preset.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};
use stkr_duties::{DecodeError, DutyError, DutyKind, Fork, ForkSchedule, Preset, SigningRequest};

/// The root of the Electra and Fulu aggregates among the examples: ours, and what `@lodestar/types` 1.46.0 computes.
const ELECTRA_AGGREGATE: &str = "0x1180bcb41bda522b3420274c6e4931c37ecf4eef99a57e4d04fc81e82b2ced40";
/// What these two examples claim instead. It is the root of neither preset's container.
const WRONG_ELECTRA_AGGREGATE: &str = "0x247535806f76143fe4798427b2a79b85340c1a029a9e08581995b60e4e45c9e0";

/// A chain on which `active` has been active since genesis under the examples' version.
fn schedule(active: Fork, preset: Preset) -> ForkSchedule {
    let forks: Vec<_> = Fork::ALL
        .iter()
        .take_while(|fork| **fork <= active)
        .map(|fork| {
            let version =
                if *fork == active { "0x00000001".to_owned() } else { format!("0xff0000{:02x}", *fork as u8) };
            json!({ "name": fork.name(), "version": version, "epoch": 0 })
        })
        .collect();
    serde_json::from_value(json!({
        "preset": preset.name(),
        "genesis_validators_root": "0x04700007fabc8282644aed6d1c7c9e21d38a03a0c4ba193f3afe428824b3a673",
        "genesis_time": 0,
        "seconds_per_slot": 12,
        "forks": forks,
    }))
    .unwrap()
}

fn examples(file: &Path) -> Map<String, Value> {
    let document: Value = serde_yaml_ng::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    document["post"]["requestBody"]["content"]["application/json"]["examples"].as_object().unwrap().clone()
}

/// Two examples contradict the schemas beside them: names in camel case, which Web3Signer would not find either, and an
/// integer without quotes. This makes of them what the schemas say.
fn as_the_schemas_say(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let snake = |name: &str| match name {
                "signingRoot" => name.to_owned(),
                _ if name.chars().any(char::is_lowercase) => name
                    .chars()
                    .flat_map(|c| {
                        let bar = c.is_uppercase().then_some('_');
                        bar.into_iter().chain(c.to_lowercase())
                    })
                    .collect(),
                _ => name.to_owned(),
            };
            members.iter().map(|(name, value)| (snake(name), as_the_schemas_say(value))).collect()
        }
        Value::Array(elements) => elements.iter().map(as_the_schemas_say).collect(),
        Value::Number(number) => number.to_string().into(),
        other => other.clone(),
    }
}

/// The fork an example is for: in brackets in its name, else the oldest that has the duty.
fn fork_of(name: &str) -> Fork {
    let label = name.split('(').nth(1).map(|rest| rest.trim_end_matches(')').replace(' ', ""));
    match label.and_then(|label| label.parse().ok()) {
        Some(fork) => fork,
        None if name.contains("SYNC_COMMITTEE") => Fork::Altair,
        None => Fork::Phase0,
    }
}

fn check(suite: &str, file: &str) -> Option<(usize, usize, Vec<DutyKind>)> {
    let examples = examples(&stkr_conformance::vectors(suite).unwrap()?.join(file));
    let (mut wrong, mut kinds) = (0, Vec::new());
    for (name, example) in &examples {
        let name = &format!("{suite}: {name}");
        let mut value = example["value"].clone();
        let stale = value.pointer("/fork_info/fork/previousVersion").is_some();
        if stale {
            let text = value.to_string();
            let error = SigningRequest::decode(text.as_bytes(), Preset::Mainnet).unwrap_err();
            assert!(matches!(error, DecodeError::Field { path, .. } if path == "fork_info.fork"), "{name}");
            value = as_the_schemas_say(&value);
        }
        assert_eq!(stale, name.ends_with("AGGREGATION_SLOT") || name.ends_with("BLOCK (DEPRECATED)"), "{name}");

        let minimal = name.ends_with("(ALTAIR)") && !name.contains("AGGREGATE") || name.contains("CONTRIBUTION");
        let preset = if minimal { Preset::Minimal } else { Preset::Mainnet };
        let request = SigningRequest::decode(value.to_string().as_bytes(), preset)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let schedule = schedule(fork_of(name), preset);
        let root = request.duty.signing_root(&schedule).unwrap_or_else(|error| panic!("{name}: {error}"));
        let claimed = value["signingRoot"].as_str().unwrap();
        assert_eq!(serde_json::to_value(&request).unwrap(), value, "{name}");
        let verified = request.verify(&schedule);
        if name.ends_with("AGGREGATE_AND_PROOF_V2 (ELECTRA)") || name.ends_with("AGGREGATE_AND_PROOF_V2 (FULU)") {
            assert_eq!((format!("{root}").as_str(), claimed), (ELECTRA_AGGREGATE, WRONG_ELECTRA_AGGREGATE), "{name}");
            assert!(matches!(verified, Err(DutyError::SigningRoot { computed, .. }) if computed == root), "{name}");
            wrong += 1;
        } else if request.duty.kind() == DutyKind::Attestation {
            // The example votes in slot 32 for epoch 0: its root is right, no chain could include it.
            assert_eq!(format!("{root}"), claimed, "{name}");
            assert!(matches!(verified, Err(DutyError::TargetNotOfSlot { .. })), "{name}");
        } else {
            assert_eq!(format!("{root}"), claimed, "{name}");
            assert_eq!(verified, Ok(root), "{name}");
        }
        kinds.push(request.duty.kind());
    }
    kinds.sort();
    kinds.dedup();
    Some((examples.len(), wrong, kinds))
}

#[test]
fn every_example_of_web3signer_has_our_signing_root() {
    let file = "openapi-specs/eth2/signing/paths/sign.yaml";
    let Some((count, wrong, kinds)) = check("web3signer", file) else { return };
    assert_eq!((count, wrong), (25, 2));
    assert_eq!(kinds, DutyKind::ALL);
}

#[test]
fn every_example_of_the_remote_signing_api_has_our_signing_root() {
    let Some((count, wrong, kinds)) = check("remote-signing-api", "signing/paths/sign.yaml") else { return };
    assert_eq!((count, wrong), (16, 0));
    let absent: Vec<_> = DutyKind::ALL.iter().filter(|kind| !kinds.contains(kind)).collect();
    assert_eq!(absent, [&DutyKind::AggregateAndProofV2]);
}

/// Every type of the OpenAPI file is a kind of ours, and the member it names is ours too.
#[test]
fn kinds_are_the_types_of_the_openapi_file() {
    let Some(folder) = stkr_conformance::vectors("web3signer").unwrap() else { return };
    let text = fs::read_to_string(folder.join("openapi-specs/eth2/signing/paths/sign.yaml")).unwrap();
    let document: Value = serde_yaml_ng::from_str(&text).unwrap();
    let schema = &document["post"]["requestBody"]["content"]["application/json"]["schema"];
    let mut types: Vec<&str> =
        schema["discriminator"]["mapping"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut kinds: Vec<&str> = DutyKind::ALL.iter().map(|kind| kind.name()).collect();
    types.sort_unstable();
    kinds.sort_unstable();
    assert_eq!(types, kinds);
}
