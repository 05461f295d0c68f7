//! Digests against an independent hand encoding of EIP-712, and the JSON form.

use alloy_primitives::{address, keccak256};

use super::*;
use crate::{
    envelope::{DutyKind, Envelope},
    registration,
};

fn domain() -> ProtocolDomain {
    ProtocolDomain { chain_id: 560_048, key_registry: address!("00000000219ab540356cBB839Cbe05303d7705Fa") }
}

fn signer() -> SignerKey {
    SignerKey::from_bytes(&[3; 32]).unwrap()
}

/// EIP-712 from the standard's text: no struct macro, only keccak and 32-byte words.
fn digest_by_hand(domain: (u64, Address), type_string: &str, fields: &[B256]) -> B256 {
    let hash_struct =
        |type_string: &str, fields: &[B256]| keccak256([&[keccak256(type_string)], fields].concat().concat());
    let separator = hash_struct(
        "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)",
        &[keccak256("Stkr"), keccak256("1"), number(domain.0), domain.1.into_word()],
    );
    keccak256([b"\x19\x01", &separator[..], &hash_struct(type_string, fields)[..]].concat())
}

fn number(value: u64) -> B256 {
    B256::from(U256::from(value))
}

fn bodies() -> [Body; 5] {
    let hash = B256::repeat_byte;
    [
        Body::OneTimeKey(OneTimeKeyBody { public_key: vec![2; 33] }),
        Body::DealingCommitment(DealingCommitmentBody { dealing_hash: hash(1) }),
        Body::CommitmentSet(CommitmentSetBody { committee_hash: hash(10), commitments_hash: hash(2) }),
        Body::Dealing(DealingBody {
            one_time_keys_hash: hash(3),
            one_time_key: vec![2; 33],
            commitments: vec![4; 3 * 128],
            proof_of_possession: vec![5; 256],
            shares: vec![6; 4 * 32],
        }),
        Body::Acknowledgement(AcknowledgementBody {
            threshold: 3,
            points_hash: hash(7),
            committee_hash: hash(8),
            dealings_digest: hash(9),
        }),
    ]
}

fn message(body: Body) -> SignedMessage {
    SignedMessage::sign(&domain(), &signer(), (11, 12, ShareIndex::new(13).unwrap()), body)
}

#[test]
fn ceremony_digests_are_those_of_the_documented_types() {
    let here = (560_048, domain().key_registry);
    let hash = B256::repeat_byte;
    let head = [number(11), number(12), number(13)];
    let cases = [
        ("OneTimeKey(uint256 keyId,uint16 attempt,uint8 index,bytes publicKey)", vec![keccak256([2; 33])]),
        ("DealingCommitment(uint256 keyId,uint16 attempt,uint8 index,bytes32 dealingHash)", vec![hash(1)]),
        (
            "CommitmentSet(uint256 keyId,uint16 attempt,uint8 index,bytes32 committeeHash,bytes32 commitmentsHash)",
            vec![hash(10), hash(2)],
        ),
        (
            "Dealing(uint256 keyId,uint16 attempt,uint8 index,bytes32 oneTimeKeysHash,bytes oneTimeKey,\
             bytes commitments,bytes proofOfPossession,bytes shares)",
            vec![hash(3), keccak256([2; 33]), keccak256([4; 384]), keccak256([5; 256]), keccak256([6; 128])],
        ),
    ];
    for ((type_string, fields), body) in cases.iter().zip(bodies()) {
        assert_eq!(&message(body.clone()).words().1, fields, "what the Court takes: {type_string}");
        let fields = [&head[..], fields].concat();
        assert_eq!(message(body).digest(&domain()), digest_by_hand(here, type_string, &fields), "{type_string}");
    }
    // The acknowledgement has no index: all members sign the same digest.
    let [.., acknowledgement] = bodies().map(message);
    let fields = [number(3), hash(7), hash(8), hash(9)];
    assert_eq!(acknowledgement.words(), (5, fields.to_vec()));
    let expected = digest_by_hand(
        here,
        "Acknowledgement(uint256 keyId,uint16 attempt,uint8 threshold,bytes32 pointsHash,bytes32 committeeHash,\
         bytes32 dealingsDigest)",
        &[[number(11), number(12)].as_slice(), &fields].concat(),
    );
    assert_eq!(acknowledgement.digest(&domain()), expected);
}

#[test]
fn envelope_and_registration_digests_are_those_of_the_documented_types() {
    let here = (560_048, domain().key_registry);
    let envelope = Envelope {
        key_id: 1,
        committee_epoch: 2,
        index: ShareIndex::new(3).unwrap(),
        duty_kind: DutyKind::Deposit,
        slot: 4,
        source_epoch: 5,
        target_epoch: 6,
        signing_root: B256::repeat_byte(7),
        partial_hash: B256::repeat_byte(8),
    };
    let type_string = "Envelope(uint256 keyId,uint32 committeeEpoch,uint8 index,uint8 dutyKind,uint64 slot,\
        uint64 sourceEpoch,uint64 targetEpoch,bytes32 signingRoot,bytes32 partialHash)";
    let mut fields: Vec<B256> = [1, 2, 3, 1, 4, 5, 6].map(number).to_vec();
    fields.extend([B256::repeat_byte(7), B256::repeat_byte(8)]);
    assert_eq!(envelope.digest(&domain()), digest_by_hand(here, type_string, &fields));

    // The fields of a subject can only be computed, so they are read back from it.
    let message =
        stkr_duties::DepositMessage { pubkey: [1; 48], withdrawal_credentials: B256::repeat_byte(2), amount_gwei: 3 };
    let subject = crate::sign::DepositRequest::new(4, &message, [0; 4]).subject();
    let type_string = "DutyRequest(uint256 keyId,uint64 assignment,uint8 dutyKind,uint64 slot,uint64 sourceEpoch,\
        uint64 targetEpoch,bytes32 signingRoot)";
    let mut fields: Vec<B256> = [4, 9, 1, 0, 0, 0].map(number).to_vec();
    fields.push(subject.signing_root());
    assert_eq!(subject.request_digest(9, &domain()), digest_by_hand(here, type_string, &fields));

    let (registry, operator) = (Address::repeat_byte(1), Address::repeat_byte(2));
    let fields = [operator.into_word(), signer().address().into_word()];
    let digest = digest_by_hand((1, registry), "SignerProof(address operator,address signer)", &fields);
    let proof = registration::signer_proof(&signer(), 1, registry, operator);
    assert_eq!(recover_signer(digest, &proof), Ok(signer().address()));
    let digest = digest_by_hand((1, registry), "DutyKeyProof(address provider,address dutyKey)", &fields);
    let proof = registration::duty_key_proof(&signer(), 1, registry, operator);
    assert_eq!(recover_signer(digest, &proof), Ok(signer().address()));
}

#[test]
fn a_signature_covers_chain_registry_key_attempt_sender_and_body() {
    for body in bodies() {
        let signed = message(body.clone());
        assert_eq!(signed.recover(&domain()), Ok(signer().address()));
        let elsewhere =
            [ProtocolDomain { chain_id: 1, ..domain() }, ProtocolDomain { key_registry: Address::ZERO, ..domain() }];
        for domain in elsewhere {
            assert_ne!(signed.recover(&domain), Ok(signer().address()));
        }
        let mut changed =
            vec![SignedMessage { key_id: 12, ..signed.clone() }, SignedMessage { attempt: 13, ..signed.clone() }];
        if body.round() != Round::Acknowledgement {
            changed.push(SignedMessage { index: ShareIndex::new(14).unwrap(), ..signed.clone() });
        }
        changed.extend(
            bodies().into_iter().filter(|other| *other != body).map(|body| SignedMessage { body, ..signed.clone() }),
        );
        for message in changed {
            assert_ne!(message.recover(&domain()), Ok(signer().address()), "{message:?}");
        }
    }
}

#[test]
fn messages_have_the_documented_json_form() {
    for body in bodies() {
        let signed = message(body);
        let json = serde_json::to_value(&signed).unwrap();
        assert_eq!(json["round"], signed.round().name());
        assert_eq!((&json["keyId"], &json["attempt"], &json["index"]), (&"11".into(), &"12".into(), &"13".into()));
        assert_eq!(json["signature"].as_str().unwrap().len(), 2 + 2 * 65);
        assert_eq!(serde_json::from_value::<SignedMessage>(json).unwrap(), signed);
    }
    let fields = |body: Body| -> Vec<String> {
        let json = serde_json::to_value(message(body)).unwrap();
        json["body"].as_object().unwrap().keys().cloned().collect()
    };
    let [one_time_key, commitment, set, dealing, acknowledgement] = bodies().map(fields);
    assert_eq!(one_time_key, ["publicKey"]);
    assert_eq!(commitment, ["dealingHash"]);
    assert_eq!(set, ["commitmentsHash", "committeeHash"]);
    assert_eq!(dealing, ["commitments", "oneTimeKey", "oneTimeKeysHash", "proofOfPossession", "shares"]);
    assert_eq!(acknowledgement, ["committeeHash", "dealingsDigest", "pointsHash", "threshold"]);
}

#[test]
fn messages_with_unknown_missing_doubled_oversized_or_foreign_fields_are_refused() {
    let [.., dealing, _] = bodies();
    let good = serde_json::to_value(message(dealing)).unwrap();
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut json = good.clone();
        change(&mut json);
        serde_json::from_value::<SignedMessage>(json).unwrap_err().to_string()
    };
    assert!(refused(&|json| json["extra"] = "1".into()).contains("unknown field"));
    assert!(refused(&|json| json["body"]["extra"] = "1".into()).contains("unknown field"));
    refused(&|json| drop(json["body"].as_object_mut().unwrap().remove("shares")));
    refused(&|json| json["round"] = "acknowledgement".into());
    refused(&|json| json["round"] = "resharing".into());
    // Modulo r, 0 and r are where the secret lies and r + 1 is where member 1's share does; modulo 256 so do 256 and 257.
    const R: &str = "52435875175126190479447740508185965837690552500527637822603658699938581184513";
    const R_PLUS_1: &str = "52435875175126190479447740508185965837690552500527637822603658699938581184514";
    for index in ["0", "65", "256", "257", R, R_PLUS_1, "-1", "01", ""] {
        refused(&|json| json["index"] = index.into());
    }
    refused(&|json| json["keyId"] = 11.into());
    refused(&|json| json["keyId"] = "18446744073709551616".into());
    refused(&|json| json["attempt"] = "65536".into());
    refused(&|json| json["signature"] = format!("0x{}", "00".repeat(64)).into());
    let oversized = refused(&|json| json["body"]["commitments"] = format!("0x{}", "00".repeat(64 * 128 + 1)).into());
    assert!(oversized.contains("at most 8192"), "{oversized}");
    for field in ["oneTimeKey", "commitments", "proofOfPossession", "shares"] {
        let megabyte = refused(&|json| json["body"][field] = format!("0x{}", "00".repeat(1 << 20)).into());
        assert!(megabyte.contains("at most"), "{megabyte}");
    }
    let text = serde_json::to_string(&good).unwrap();
    let doubled = text.replacen("\"keyId\":\"11\"", "\"keyId\":\"11\",\"keyId\":\"12\"", 1);
    assert_ne!(text, doubled);
    assert!(serde_json::from_str::<SignedMessage>(&doubled).is_err());
}

#[test]
fn the_schema_of_a_message_names_all_five_rounds() {
    let schema = serde_json::to_value(SignedMessage::schema()).unwrap();
    for (described, body) in schema["oneOf"].as_array().unwrap().iter().zip(bodies()) {
        crate::schema::tests::assert_described(&serde_json::to_value(message(body)).unwrap(), described);
    }
    let mut schemas = Vec::new();
    SignedMessage::schemas(&mut schemas);
    let names: Vec<_> = schemas.iter().map(|(name, _)| name.as_str()).collect();
    for body in ["OneTimeKeyBody", "DealingCommitmentBody", "CommitmentSetBody", "DealingBody", "AcknowledgementBody"] {
        assert!(names.contains(&body), "{body} in {names:?}");
    }
}

#[test]
fn the_largest_ceremony_that_the_chain_allows_fits_one_body_with_evidence_against_every_member() {
    // KeyRegistry.MAX_MEMBERS, and t = n - 1: the most points and ciphertexts of any committee.
    const MEMBERS: usize = 16;
    let dealing = Body::Dealing(DealingBody {
        one_time_keys_hash: B256::repeat_byte(0xff),
        one_time_key: vec![2; 33],
        commitments: vec![0xff; (MEMBERS - 1) * 128],
        proof_of_possession: vec![0xff; 256],
        shares: vec![0xff; MEMBERS * 32],
    });
    let one_of_each = bodies().into_iter().filter(|body| body.round() != Round::Dealing).chain([dealing]);
    // Of each round a second one, which is evidence.
    let messages: Vec<_> = one_of_each.map(message).flat_map(|m| vec![m; 2 * MEMBERS]).collect();
    assert_eq!(messages.len(), Round::ALL.len() * 2 * MEMBERS);
    let request = crate::api::AdvanceRequest { key_id: u64::MAX, attempt: u16::MAX, messages };
    let body = serde_json::to_string(&request).unwrap();
    assert!(body.len() < crate::api::MAX_BODY, "{} bytes", body.len());
    assert_eq!(serde_json::from_str::<crate::api::AdvanceRequest>(&body).unwrap(), request);
}
