//! What is accepted, and what is refused with which words.

use serde_json::{Value, json};
use stkr_duties::{
    AggregateAndProof, Block, DecodeError, Duty, DutyKind, Fork, FullBlock, MAX_PROOFS, MAX_REQUEST_BYTES, Preset,
    SigningRequest,
};

use crate::entropy::Entropy;

/// Bytes enough for any request, none of them alike.
fn noise() -> Vec<u8> {
    (0..20_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect()
}

fn sample(kind: DutyKind, fork: Fork, preset: Preset) -> Value {
    let bytes = noise();
    let mut entropy = Entropy::full(&bytes);
    let root = "0x2222222222222222222222222222222222222222222222222222222222222222";
    let request = SigningRequest {
        duty: entropy.duty(kind, fork, preset),
        fork_info: None,
        signing_root: None,
        proofs: Vec::new(),
    };
    let mut value = serde_json::to_value(&request).unwrap();
    if kind.has_fork_info() {
        value["fork_info"] = json!({
            "fork": { "previous_version": "0x05000000", "current_version": "0x06000000", "epoch": "411392" },
            "genesis_validators_root": root,
        });
    }
    value
}

fn decode(value: &Value) -> Result<SigningRequest, DecodeError> {
    SigningRequest::decode(value.to_string().as_bytes(), Preset::Mainnet)
}

fn refused(value: &Value) -> String {
    decode(value).unwrap_err().to_string()
}

#[test]
fn every_kind_is_read_and_named_as_web3signer_names_it() {
    for kind in DutyKind::ALL {
        let value = sample(*kind, Fork::Fulu, Preset::Mainnet);
        let request = decode(&value).unwrap();
        assert_eq!(request.duty.kind(), *kind);
        assert_eq!(value["type"], kind.name());
        assert_eq!(serde_json::to_value(&request).unwrap(), value);
    }
}

#[test]
fn the_root_has_two_spellings_and_types_may_be_in_lower_case() {
    let root = json!("0x1111111111111111111111111111111111111111111111111111111111111111");
    let mut value = sample(DutyKind::BlockV2, Fork::Fulu, Preset::Mainnet);
    value["type"] = "block_v2".into();
    value["beacon_block"]["version"] = "fulu".into();
    value["signing_root"] = root.clone();
    let request = decode(&value).unwrap();
    assert_eq!(serde_json::to_value(&request).unwrap()["signingRoot"], root);
    value["signingRoot"] = root;
    assert!(refused(&value).contains("duplicate"), "both spellings at once");
}

#[test]
fn hex_may_be_in_upper_case_but_has_one_length() {
    let mut value = sample(DutyKind::ValidatorRegistration, Fork::Fulu, Preset::Mainnet);
    value["validator_registration"]["fee_recipient"] = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045".into();
    assert!(decode(&value).is_ok());
    for (wrong, why) in [
        ("d8da6bf26964af9d7eed9e03e53415d37aa96045", "must start with 0x"),
        ("0xd8da6bf26964af9d7eed9e03e53415d37aa960", "38 hex digits where 40 must be"),
        ("0xd8da6bf26964af9d7eed9e03e53415d37aa9604500", "42 hex digits where 40 must be"),
        ("0xd8da6bf26964af9d7eed9e03e53415d37aa9604g", "not hex"),
    ] {
        value["validator_registration"]["fee_recipient"] = wrong.into();
        assert_eq!(refused(&value).split_once(": ").unwrap().0, "validator_registration.fee_recipient");
        assert!(refused(&value).contains(why), "{wrong}");
    }
}

#[test]
fn integers_are_strings_with_one_spelling() {
    let mut value = sample(DutyKind::RandaoReveal, Fork::Fulu, Preset::Mainnet);
    for right in ["0", "18446744073709551615"] {
        value["randao_reveal"]["epoch"] = right.into();
        assert!(decode(&value).is_ok());
    }
    for wrong in
        [json!(3), json!("03"), json!("+3"), json!("-3"), json!(""), json!("0x3"), json!("18446744073709551616")]
    {
        value["randao_reveal"]["epoch"] = wrong;
        assert!(refused(&value).starts_with("randao_reveal.epoch: "), "{}", refused(&value));
    }
}

#[test]
fn unknown_members_are_ignored_as_web3signer_ignores_them() {
    let mut value = sample(DutyKind::Attestation, Fork::Fulu, Preset::Mainnet);
    let request = decode(&value).unwrap();
    value["shoe_size"] = json!({ "left": [43, null], "right": 44.5 });
    value["attestation"]["target"]["comment"] = "unknown too".into();
    value["proofs"] = json!([]);
    // A member of another kind, though it makes no sense.
    value["voluntary_exit"] = json!("?");
    assert_eq!(decode(&value), Ok(request));
}

#[test]
fn a_member_that_occurs_twice_is_refused_at_every_depth() {
    let value = sample(DutyKind::Attestation, Fork::Fulu, Preset::Mainnet).to_string();
    for (once, member) in [
        (r#""type":"#, r#""type":"ATTESTATION","#),
        (r#""attestation":"#, r#""attestation":{},"#),
        (r#""slot":"#, r#""slot":"1","#),
        (r#""target":"#, r#""target":null,"#),
        (r#""current_version":"#, r#""current_version":"0x00000000","#),
    ] {
        let twice = value.replacen(once, &format!("{member}{once}"), 1);
        assert_ne!(twice, value);
        let error = SigningRequest::decode(twice.as_bytes(), Preset::Mainnet).unwrap_err();
        assert!(!matches!(error, DecodeError::Syntax { .. }), "{once} {error}");
    }
}

#[test]
fn an_error_names_the_member_by_its_path_and_does_not_repeat_its_value() {
    let mut value = sample(DutyKind::BlockV2, Fork::Altair, Preset::Mainnet);
    let long = "A".repeat(100_000);
    value["beacon_block"]["block"]["body"]["eth1_data"] = long.clone().into();
    let error = decode(&value).unwrap_err();
    let DecodeError::Field { path, reason } = &error else { panic!("{error}") };
    assert_eq!(path, "beacon_block.block.body.eth1_data");
    assert!(reason.chars().count() <= 200);

    let mut value = sample(DutyKind::BlockV2, Fork::Altair, Preset::Mainnet);
    value["beacon_block"]["block"]["body"]["attestations"][0]["data"]["source"]["root"] = "0x00".into();
    assert!(refused(&value).starts_with("beacon_block.block.body.attestations[0].data.source.root: "));
    value["type"] = long.into();
    assert_eq!(refused(&value), "type: no duty of this type is known");
}

#[test]
fn a_missing_member_is_named() {
    for kind in DutyKind::ALL {
        for field in [kind.payload(), "fork_info"] {
            let mut value = sample(*kind, Fork::Fulu, Preset::Mainnet);
            if value.as_object_mut().unwrap().remove(field).is_some() {
                assert_eq!(decode(&value), Err(DecodeError::Missing { kind: *kind, field }));
                value[field] = Value::Null;
                assert_eq!(decode(&value), Err(DecodeError::Missing { kind: *kind, field }));
            }
        }
    }
    assert!(refused(&json!({})).contains("type"));
    assert!(refused(&json!([])).starts_with("request: "));
    let mut value = sample(DutyKind::BlockV2, Fork::Fulu, Preset::Mainnet);
    value["beacon_block"].as_object_mut().unwrap().remove("block_header");
    assert_eq!(decode(&value), Err(DecodeError::Missing { kind: DutyKind::BlockV2, field: "block_header" }));
}

#[test]
fn forms_are_told_apart_by_version_or_by_what_is_in_them() {
    // Lighthouse sends Electra's aggregates without naming the fork.
    let value = sample(DutyKind::AggregateAndProof, Fork::Electra, Preset::Mainnet);
    assert!(matches!(decode(&value).unwrap().duty, Duty::AggregateAndProof(AggregateAndProof::Electra(_))));
    let value = sample(DutyKind::AggregateAndProof, Fork::Deneb, Preset::Mainnet);
    assert!(matches!(decode(&value).unwrap().duty, Duty::AggregateAndProof(AggregateAndProof::Phase0(_))));
    let value = sample(DutyKind::Block, Fork::Altair, Preset::Mainnet);
    assert!(matches!(decode(&value).unwrap().duty, Duty::Block(FullBlock::Altair(_))));
    let value = sample(DutyKind::Block, Fork::Phase0, Preset::Mainnet);
    assert!(matches!(decode(&value).unwrap().duty, Duty::Block(FullBlock::Phase0(_))));

    let mut value = sample(DutyKind::AggregateAndProofV2, Fork::Electra, Preset::Mainnet);
    value["aggregate_and_proof"]["data"]["aggregate"].as_object_mut().unwrap().remove("committee_bits");
    assert!(refused(&value).starts_with("aggregate_and_proof.data.aggregate: missing field"));
    let value = sample(DutyKind::BlockV2, Fork::Bellatrix, Preset::Mainnet);
    assert!(matches!(decode(&value).unwrap().duty, Duty::BlockV2 { block: Block::Header(_), .. }));
}

#[test]
fn a_fork_that_is_not_final_is_refused() {
    for kind in [DutyKind::BlockV2, DutyKind::AggregateAndProofV2] {
        let mut value = sample(kind, Fork::Fulu, Preset::Mainnet);
        value[kind.payload()]["version"] = "GLOAS".into();
        assert!(refused(&value).starts_with(&format!("{}.version: unknown fork", kind.payload())));
    }
    let mut value = sample(DutyKind::Attestation, Fork::Fulu, Preset::Mainnet);
    value["type"] = "EXECUTION_PAYLOAD_BID".into();
    assert_eq!(refused(&value), "type: no duty of this type is known");
}

#[test]
fn lists_have_the_length_of_the_spec_and_no_more() {
    for (list, limit) in [
        ("proposer_slashings", 16),
        ("attester_slashings", 2),
        ("attestations", 128),
        ("deposits", 16),
        ("voluntary_exits", 16),
    ] {
        let mut value = sample(DutyKind::BlockV2, Fork::Phase0, Preset::Mainnet);
        let body = &mut value["beacon_block"]["block"]["body"];
        let element = body[list][0].clone();
        assert!(element.is_object(), "{list}");
        body[list] = vec![element.clone(); limit].into();
        assert!(decode(&value).is_ok(), "{list} of {limit}");
        value["beacon_block"]["block"]["body"][list] = vec![element; limit + 1].into();
        assert!(refused(&value).starts_with(&format!("beacon_block.block.body.{list}: ")), "{list}");
    }
    let mut value = sample(DutyKind::BlockV2, Fork::Phase0, Preset::Mainnet);
    let indices =
        &mut value["beacon_block"]["block"]["body"]["attester_slashings"][0]["attestation_1"]["attesting_indices"];
    *indices = vec![json!("1"); 2048].into();
    assert!(decode(&value).is_ok());
    let indices =
        &mut value["beacon_block"]["block"]["body"]["attester_slashings"][0]["attestation_1"]["attesting_indices"];
    *indices = vec![json!("1"); 2049].into();
    assert!(refused(&value).ends_with("VariableList length 2049 exceeds maximum length 2048"));
    let mut value = sample(DutyKind::BlockV2, Fork::Phase0, Preset::Mainnet);
    value["beacon_block"]["block"]["body"]["deposits"][0]["proof"].as_array_mut().unwrap().pop();
    assert!(refused(&value).contains("33 nodes"), "{}", refused(&value));
}

/// A bit list of `bits` zeros.
fn bit_list(bits: usize) -> Value {
    let mut bytes = vec![0; bits / 8 + 1];
    bytes[bits / 8] = 1_u8 << (bits % 8);
    format!("0x{}", hex::encode(bytes)).into()
}

#[test]
fn bit_fields_have_the_length_of_the_spec_and_preset() {
    let with = |kind: DutyKind, fork, preset, pointer: &str, bits: Value| {
        let mut value = sample(kind, fork, preset);
        *value.pointer_mut(pointer).unwrap() = bits;
        SigningRequest::decode(value.to_string().as_bytes(), preset)
    };
    let aggregate = "/aggregate_and_proof/aggregate/aggregation_bits";
    for (fork, preset, limit) in [
        (Fork::Deneb, Preset::Mainnet, 2_048),
        (Fork::Deneb, Preset::Minimal, 2_048),
        (Fork::Fulu, Preset::Mainnet, 131_072),
        (Fork::Fulu, Preset::Minimal, 8_192),
    ] {
        let of = |bits| with(DutyKind::AggregateAndProof, fork, preset, aggregate, bit_list(bits));
        assert!(of(0).is_ok());
        assert!(of(limit).is_ok(), "{fork} {preset}");
        assert!(of(limit + 1).is_err(), "{fork} {preset}");
    }
    for empty in ["0x", "0x00", "0x0100"] {
        let error = with(DutyKind::AggregateAndProof, Fork::Fulu, Preset::Mainnet, aggregate, empty.into());
        assert!(error.is_err(), "{empty} has no end");
    }
    for (kind, pointer, mainnet, minimal) in [
        (DutyKind::AggregateAndProof, "/aggregate_and_proof/aggregate/committee_bits", 8, 1),
        (DutyKind::SyncCommitteeContributionAndProof, "/contribution_and_proof/contribution/aggregation_bits", 16, 1),
    ] {
        for (preset, right) in [(Preset::Mainnet, mainnet), (Preset::Minimal, minimal)] {
            for bytes in [0, 1, 8, 16, 17] {
                let bits = format!("0x{}", "01".repeat(bytes)).into();
                assert_eq!(with(kind, Fork::Fulu, preset, pointer, bits).is_ok(), bytes == right, "{kind} {bytes}");
            }
        }
    }
    // Four bits in one byte: the upper half must be zero.
    let committees = "/aggregate_and_proof/aggregate/committee_bits";
    let of = |bits: &str| with(DutyKind::AggregateAndProof, Fork::Fulu, Preset::Minimal, committees, bits.into());
    assert!(of("0x0f").is_ok());
    assert!(of("0x1f").is_err());
}

#[test]
fn proofs_come_with_blocks_and_are_few() {
    let mut value = sample(DutyKind::BlockV2, Fork::Fulu, Preset::Mainnet);
    let proof = json!({ "index": "801", "proof": [] });
    value["proofs"] = vec![proof.clone(); MAX_PROOFS].into();
    assert_eq!(decode(&value).unwrap().proofs.len(), MAX_PROOFS);
    value["proofs"] = vec![proof; MAX_PROOFS + 1].into();
    assert!(refused(&value).starts_with("proofs: a list of more than 16"));
    value["proofs"] = Value::Null;
    assert!(decode(&value).unwrap().proofs.is_empty());
    value["proofs"] = json!([{ "index": "801" }]);
    assert!(refused(&value).starts_with("proofs[0]: missing field `proof`"), "{}", refused(&value));
}

#[test]
fn what_is_no_json_or_too_long_is_refused_at_once() {
    let value = sample(DutyKind::AggregationSlot, Fork::Fulu, Preset::Mainnet).to_string();
    for (text, what) in [
        (String::new(), "nothing"),
        (value[..value.len() - 1].to_owned(), "cut off"),
        (format!("{value}{value}"), "two"),
        (value.replace("slot", "sl\u{0}ot"), "control character"),
        ("[".repeat(10_000), "deep"),
        (format!(r#"{{"type":"RANDAO_REVEAL","x":{}"#, "{\"x\":".repeat(100_000)), "deep and unknown"),
    ] {
        let error = SigningRequest::decode(text.as_bytes(), Preset::Mainnet).unwrap_err();
        let field = matches!(&error, DecodeError::Field { .. });
        assert!(matches!(error, DecodeError::Syntax { .. }) || (what == "deep" && field), "{what}: {error}");
    }
    assert!(matches!(SigningRequest::decode(b"{\"type\":\"\xff\"}", Preset::Mainnet), Err(DecodeError::Syntax { .. })));
    let mut long = value.into_bytes();
    long.resize(MAX_REQUEST_BYTES, b' ');
    assert!(SigningRequest::decode(&long, Preset::Mainnet).is_ok());
    long.push(b' ');
    assert_eq!(
        SigningRequest::decode(&long, Preset::Mainnet),
        Err(DecodeError::TooLong { length: MAX_REQUEST_BYTES + 1 })
    );
}

/// The largest request there can be: nothing that a client sends is longer than the limit.
#[test]
fn the_largest_block_fits() {
    let mut value = sample(DutyKind::BlockV2, Fork::Altair, Preset::Mainnet);
    let body = &mut value["beacon_block"]["block"]["body"];
    for (list, limit) in [("proposer_slashings", 16), ("attestations", 128), ("deposits", 16), ("voluntary_exits", 16)]
    {
        body[list] = vec![body[list][0].clone(); limit].into();
    }
    for attestation in body["attestations"].as_array_mut().unwrap() {
        attestation["aggregation_bits"] = bit_list(2_048);
    }
    for side in ["attestation_1", "attestation_2"] {
        body["attester_slashings"][0][side]["attesting_indices"] = vec![json!(u64::MAX.to_string()); 2_048].into();
    }
    body["attester_slashings"] = vec![body["attester_slashings"][0].clone(); 2].into();
    let pretty = serde_json::to_string_pretty(&value).unwrap();
    assert!(pretty.len() < MAX_REQUEST_BYTES, "{}", pretty.len());
    assert!(SigningRequest::decode(pretty.as_bytes(), Preset::Mainnet).is_ok());
}
