//! Differential: DKG, share encryption, proofs and combining against `@noble/curves`, which shares no code with
//! blst nor with libsecp256k1. `noble.mjs` computes everything again from the wire bytes and the one-time secrets.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use crate::ceremony::{Ceremony, MESSAGE};
use serde_json::{Value, json};
use stkr_core::{PartialSignature, PublicKey};

fn input(ceremony: &Ceremony) -> Value {
    let compressed = |key: &PublicKey| hex::encode(key.to_compressed());
    json!({
        "chainId": ceremony.domain.chain_id.to_string(),
        "registry": hex::encode(ceremony.domain.registry),
        "keyId": ceremony.domain.key_id.to_string(),
        "attempt": ceremony.domain.attempt.to_string(),
        "secrets": ceremony.secrets.iter().map(|s| hex::encode(s.to_bytes())).collect::<Vec<_>>(),
        "dealings": ceremony.dealings.iter().map(|dealing| json!({
            "oneTimeKey": hex::encode(dealing.one_time_key),
            "commitments": dealing.commitments.iter().map(compressed).collect::<Vec<_>>(),
            "proof": hex::encode(dealing.proof_of_possession.to_compressed()),
            "shares": dealing.shares.iter().map(hex::encode).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "message": hex::encode(MESSAGE),
        "signers": ceremony.signers().map(|i| i.get()).collect::<Vec<_>>(),
    })
}

/// What noble must arrive at, from our own functions.
fn expected(ceremony: &Ceremony) -> Value {
    let keys = &ceremony.outcomes[0].keys;
    let partials: Vec<PartialSignature> = ceremony.outcomes.iter().map(|o| o.share.sign(&MESSAGE)).collect();
    let chosen: Vec<PartialSignature> = ceremony.signers().map(|i| partials[i.position()]).collect();
    let combined = keys.combine(&MESSAGE, &chosen).unwrap();
    json!({
        "proofs": vec![true; ceremony.dealings.len()],
        "oneTimeKeys": ceremony.secrets.iter().map(|s| hex::encode(s.public_key())).collect::<Vec<_>>(),
        "groupKey": hex::encode(keys.group_key().to_eip2537()),
        "shareKeys": keys.share_keys().iter().map(|k| hex::encode(k.to_compressed())).collect::<Vec<_>>(),
        "shares": ceremony.outcomes.iter().map(|o| hex::encode(o.share.to_bytes())).collect::<Vec<_>>(),
        "partials": partials.iter().map(|p| hex::encode(p.signature.to_eip2537())).collect::<Vec<_>>(),
        "signature": hex::encode(combined.signature.to_compressed()),
        "verifies": true,
        // Coefficients at 0 of the constant polynomial 1: a check of the script itself.
        "lagrangeSum": 1,
    })
}

fn run_noble(input: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("noble.mjs");
    let mut child = Command::new("node")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node is needed to compare with @noble/curves");
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "noble.mjs ended with {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn noble_computes_the_same_ceremony_and_signature() {
    if stkr_conformance::node_modules().unwrap().is_none() {
        return;
    }
    let ceremonies = [(1, 1), (2, 2), (3, 4), (4, 5), (7, 10)].map(|(t, n)| Ceremony::run(t, n));
    let computed = run_noble(&ceremonies.iter().map(input).collect());
    let computed = computed.as_array().unwrap();
    assert_eq!(computed.len(), 5);
    for (ceremony, computed) in ceremonies.iter().zip(computed) {
        let expected = expected(ceremony);
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(&computed[field], value, "{field} of {}", ceremony.threshold);
        }
    }
}
