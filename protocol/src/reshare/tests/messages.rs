//! Digests against an independent hand encoding of EIP-712, and the JSON form.

use alloy_primitives::{U256, address};
use serde_json::Value;
use utoipa::{PartialSchema as _, ToSchema as _};

use super::*;
use crate::messages::SignedMessage;

const HERE: ProtocolDomain =
    ProtocolDomain { chain_id: 560_048, key_registry: address!("0x00000000219ab540356cBB839Cbe05303d7705Fa") };

/// EIP-712 from the standard's text: only keccak and 32-byte words.
fn digest_by_hand(type_string: &str, fields: &[B256]) -> B256 {
    let hash = |type_string: &str, fields: &[B256]| keccak256([&[keccak256(type_string)], fields].concat().concat());
    let domain = [keccak256("Stkr"), keccak256("1"), number(HERE.chain_id), HERE.key_registry.into_word()];
    let separator = hash("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)", &domain);
    keccak256([b"\x19\x01", &separator[..], &hash(type_string, fields)[..]].concat())
}

fn number(value: u64) -> B256 {
    B256::from(U256::from(value))
}

fn bodies() -> [Body; 3] {
    let hash = B256::repeat_byte;
    [
        Body::Keys(ReshareKeysBody { public_keys: vec![2; 99] }),
        Body::Dealing(ReshareDealingBody {
            recipient_keys_hash: hash(3),
            one_time_key: vec![2; 33],
            commitments: vec![4; 384],
            shares: vec![6; 128],
        }),
        Body::Acknowledgement(AcknowledgementBody {
            threshold: 3,
            points_hash: hash(7),
            committee_hash: hash(8),
            dealings_digest: hash(9),
        }),
    ]
}

fn message(body: Body) -> ReshareMessage {
    let id = ReshareId { key_id: 11, committee_epoch: 12, attempt: 13 };
    ReshareMessage::sign(&HERE, &signer(1), id, index(14), body)
}

#[test]
fn digests_are_those_of_the_documented_types() {
    let hash = B256::repeat_byte;
    let head = [11, 12, 13, 14].map(number);
    let cases = [
        (
            "ReshareKeys(uint256 keyId,uint32 committeeEpoch,uint16 attempt,uint8 index,bytes publicKeys)",
            [&head[..], &[keccak256([2; 99])]].concat(),
        ),
        (
            "ReshareDealing(uint256 keyId,uint32 committeeEpoch,uint16 attempt,uint8 index,bytes32 recipientKeysHash,\
             bytes oneTimeKey,bytes commitments,bytes shares)",
            [&head[..], &[hash(3), keccak256([2; 33]), keccak256([4; 384]), keccak256([6; 128])]].concat(),
        ),
        (
            "ReshareAcknowledgement(uint256 keyId,uint32 committeeEpoch,uint16 attempt,uint8 threshold,bytes32 pointsHash,\
             bytes32 committeeHash,bytes32 dealingsDigest)",
            [&head[..3], &[number(3), hash(7), hash(8), hash(9)]].concat(),
        ),
    ];
    for ((type_string, fields), body) in cases.into_iter().zip(bodies()) {
        assert_eq!(message(body).digest(&HERE), digest_by_hand(type_string, &fields), "{type_string}");
    }
}

#[test]
fn what_an_acknowledgement_hashes_is_what_the_contract_hashes() {
    let world = World::usual();
    let keys = world.key.reshare(world.plan.threshold(), [4; 32]).keys;
    let body = world.plan.acknowledgement(&keys, B256::repeat_byte(9));
    let concat: Vec<u8> = keys.share_keys().iter().flat_map(|key| key.to_eip2537()).collect();
    let with_group = [&concat[..], &world.key.keys.group_key().to_eip2537()[..]].concat();
    assert_eq!((body.threshold, body.points_hash), (3, keccak256(with_group)));
    // abi.encode(uint32[], address[]): two offsets, then each list with its length.
    let mut words = vec![number(64), number(64 + 5 * 32), number(4)];
    words.extend([101, 102, 103, 105].map(number));
    words.push(number(4));
    words.extend([101, 102, 103, 105].map(|server| signer(server).address().into_word()));
    assert_eq!(body.committee_hash, keccak256(words.concat()));
}

#[test]
fn a_signature_covers_chain_registry_key_epoch_attempt_sender_and_body() {
    for body in bodies() {
        let signed = message(body);
        assert_eq!(signed.recover(&HERE), Ok(signer(1).address()));
        let id = signed.id;
        let mut changed: Vec<_> =
            [ReshareId { key_id: 12, ..id }, ReshareId { committee_epoch: 13, ..id }, ReshareId { attempt: 14, ..id }]
                .map(|id| ReshareMessage { id, ..signed.clone() })
                .into();
        if signed.round() != Round::Acknowledgement {
            changed.push(ReshareMessage { index: index(15), ..signed.clone() });
        }
        let others = bodies().into_iter().filter(|other| *other != signed.body);
        changed.extend(others.map(|body| ReshareMessage { body, ..signed.clone() }));
        for other in changed {
            assert_ne!(other.recover(&HERE), Ok(signer(1).address()), "{other:?}");
        }
        for elsewhere in
            [ProtocolDomain { chain_id: 1, ..HERE }, ProtocolDomain { key_registry: Address::ZERO, ..HERE }]
        {
            assert_ne!(signed.recover(&elsewhere), Ok(signer(1).address()));
        }
    }
}

#[test]
fn messages_have_the_documented_json_form() {
    let fields = [
        vec!["publicKeys"],
        vec!["commitments", "oneTimeKey", "recipientKeysHash", "shares"],
        vec!["committeeHash", "dealingsDigest", "pointsHash", "threshold"],
    ];
    for (body, fields) in bodies().into_iter().zip(fields) {
        let signed = message(body);
        let json = serde_json::to_value(&signed).unwrap();
        assert_eq!(json["round"], signed.round().name());
        let head = ["keyId", "committeeEpoch", "attempt", "index"].map(|name| json[name].clone());
        assert_eq!(head, ["11", "12", "13", "14"].map(Value::from));
        assert_eq!(json["body"].as_object().unwrap().keys().collect::<Vec<_>>(), fields);
        assert_eq!(serde_json::from_value::<ReshareMessage>(json.clone()).unwrap(), signed);
        assert!(serde_json::from_value::<SignedMessage>(json).is_err(), "no message of a ceremony");
    }
}

#[test]
fn unknown_missing_doubled_oversized_or_foreign_fields_are_refused() {
    let [keys, dealing, _] = bodies();
    let good = serde_json::to_value(message(dealing)).unwrap();
    let refused_of = |good: &Value, change: &dyn Fn(&mut Value)| {
        let mut json = good.clone();
        change(&mut json);
        serde_json::from_value::<ReshareMessage>(json).unwrap_err().to_string()
    };
    let refused = |change: &dyn Fn(&mut Value)| refused_of(&good, change);
    assert!(refused(&|json| json["extra"] = "1".into()).contains("unknown field"));
    assert!(refused(&|json| json["body"]["extra"] = "1".into()).contains("unknown field"));
    refused(&|json| drop(json["body"].as_object_mut().unwrap().remove("shares")));
    refused(&|json| json["round"] = "reshare_keys".into());
    refused(&|json| json["round"] = "dealing".into());
    // Modulo r, 0 and r are where the secret lies and r + 1 is where member 1's share does; modulo 256 so do 256 and 257.
    const R: &str = "52435875175126190479447740508185965837690552500527637822603658699938581184513";
    const R_PLUS_1: &str = "52435875175126190479447740508185965837690552500527637822603658699938581184514";
    for index in ["0", "65", "256", "257", R, R_PLUS_1, "-1", "01", ""] {
        refused(&|json| json["index"] = index.into());
    }
    refused(&|json| json["committeeEpoch"] = "4294967296".into());
    refused(&|json| json["attempt"] = "65536".into());
    refused(&|json| json["keyId"] = 11.into());
    let hex = |bytes: usize| Value::from(format!("0x{}", "00".repeat(bytes)));
    assert!(refused(&|json| json["body"]["commitments"] = hex(64 * 128 + 1)).contains("at most 8192"));
    assert!(refused(&|json| json["body"]["shares"] = hex(64 * 32 + 1)).contains("at most 2048"));
    assert!(refused(&|json| json["body"]["oneTimeKey"] = hex(34)).contains("at most 33"));
    let keys = serde_json::to_value(message(keys)).unwrap();
    let oversized = refused_of(&keys, &|json| json["body"]["publicKeys"] = hex(64 * 33 + 1));
    assert!(oversized.contains("at most 2112"), "{oversized}");
    for field in ["oneTimeKey", "commitments", "shares"] {
        assert!(refused(&|json| json["body"][field] = hex(1 << 20)).contains("at most"));
    }
    let text = serde_json::to_string(&good).unwrap();
    let doubled = text.replacen("\"keyId\":\"11\"", "\"keyId\":\"11\",\"keyId\":\"12\"", 1);
    assert!(text != doubled && serde_json::from_str::<ReshareMessage>(&doubled).is_err());
}

#[test]
fn the_schema_names_all_three_rounds() {
    let schema = serde_json::to_value(ReshareMessage::schema()).unwrap();
    let described = schema["oneOf"].as_array().unwrap();
    assert_eq!(described.len(), Round::ALL.len());
    for (described, body) in described.iter().zip(bodies()) {
        let json = serde_json::to_value(message(body)).unwrap();
        crate::schema::tests::assert_described(&json, described);
        assert!(described["properties"]["body"].is_object(), "{described}");
    }
    let mut schemas = Vec::new();
    ReshareMessage::schemas(&mut schemas);
    for body in ["ReshareKeysBody", "ReshareDealingBody", "AcknowledgementBody"] {
        assert!(schemas.iter().any(|(name, _)| name == body), "{body}");
    }
}

#[test]
fn a_call_of_a_server_and_its_answer_have_one_spelling() {
    use crate::api::{MAX_BODY, Part, ReshareAdvanceRequest, ReshareAdvanceResponse, ReshareFailureReport, Role};
    // Resharing's MAX_MEMBERS, and the most of each message: two of each sender, of which the second is evidence.
    let largest = [
        Body::Keys(ReshareKeysBody { public_keys: vec![2; 16 * 33] }),
        Body::Dealing(ReshareDealingBody {
            recipient_keys_hash: B256::repeat_byte(3),
            one_time_key: vec![2; 33],
            commitments: vec![0xff; 16 * 128],
            shares: vec![0xff; 16 * 32],
        }),
        bodies()[2].clone(),
    ];
    let messages: Vec<_> = largest.into_iter().map(message).flat_map(|it| vec![it; 32]).collect();
    let request = ReshareAdvanceRequest { key_id: u64::MAX, committee_epoch: u32::MAX, attempt: u16::MAX, messages };
    let text = serde_json::to_string(&request).unwrap();
    assert!(text.len() < MAX_BODY, "{} bytes", text.len());
    assert_eq!(serde_json::from_str::<ReshareAdvanceRequest>(&text).unwrap(), request);

    let dealer = Part { role: Role::Dealer, index: index(2) };
    let answer = ReshareAdvanceResponse {
        messages: Vec::new(),
        phase: Phase::Failed,
        waiting_for: vec![dealer, Part { role: Role::Member, index: index(4) }],
        failure: Some(ReshareFailureReport { culprit: Some(dealer), reason: "a".into(), what_to_do: "b".into() }),
        complaint: None,
    };
    let text = r#"{"messages":[],"phase":"failed","waitingFor":[{"role":"dealer","index":"2"},{"role":"member","index":"4"}],"failure":{"culprit":{"role":"dealer","index":"2"},"reason":"a","whatToDo":"b"},"complaint":null}"#;
    assert_eq!(serde_json::to_string(&answer).unwrap(), text);
    assert_eq!(serde_json::from_str::<ReshareAdvanceResponse>(text).unwrap(), answer);
    for (right, wrong) in [
        (r#""index":"4""#, r#""index":"0""#),
        (r#""index":"4""#, r#""index":"65""#),
        (r#""role":"member""#, r#""role":"old""#),
        (r#""phase":"failed""#, r#""phase":"failed","extra":1"#),
    ] {
        let text = text.replacen(right, wrong, 1);
        assert!(serde_json::from_str::<ReshareAdvanceResponse>(&text).is_err(), "{wrong}");
    }
    for phase in [Phase::Keys, Phase::Dealings, Phase::Done, Phase::Failed] {
        assert_eq!(serde_json::to_value(phase).unwrap(), phase.name());
        assert_eq!(phase.to_string(), phase.name());
    }
    for sender in [Sender::Dealer(index(3)), Sender::Member(index(5))] {
        assert_eq!(Sender::from(Part::from(sender)), sender);
    }
}
