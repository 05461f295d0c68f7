//! Prints fresh vectors for `Differential.t.sol`, made from a seed by blst and by what servers and gateways compute with:
//! `blst_vectors SEED CHAIN_ID REGISTRY`. The same members as those of `tests/contracts/differential/vectors.mjs`, which @noble makes.
//!
//! Points, hashes and signatures come from blst alone, SSZ roots from `stkr-duties`, and dealings from `stkr-core` as a server makes
//! them: those are drawn, so a seed does not bring them back.

use std::io::Write as _;

use alloy_primitives::{Address, B256, U256, keccak256, uint};
use blst::min_pk::{PublicKey, SecretKey, Signature};
use eyre::{Result, WrapErr as _, eyre};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stkr_core::Threshold;
use stkr_core::dkg::complaint::y_of_one_time_key;
use stkr_core::dkg::{CeremonyDomain, OneTimeSecret, deal};
use stkr_duties::containers::BlsToExecutionChange;
use stkr_duties::{DepositMessage, ValidatorIndex};

/// Cases of each kind.
const CASES: u8 = 16;
/// Dealings.
const DEALINGS: u8 = 4;
/// Order of the groups.
const R: U256 = uint!(0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001_U256);
/// Of signatures.
const SIGNATURE_DST: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
/// Of proofs of possession.
const POSSESSION_DST: &[u8] = b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

/// What there is 32 bytes of for each purpose and number.
struct Random(String);

impl Random {
    fn bytes(&self, label: &str, number: u8) -> B256 {
        keccak256(format!("stkr/differential/{}/{label}/{number}", self.0))
    }

    /// From 1 to r - 1.
    fn scalar(&self, label: &str, number: u8) -> U256 {
        U256::from_be_bytes(self.bytes(label, number).0) % (R - U256::ONE) + U256::ONE
    }
}

fn secret(scalar: U256) -> Result<SecretKey> {
    SecretKey::from_bytes(&scalar.to_be_bytes::<32>()).map_err(|error| eyre!("the scalar {scalar}: {error:?}"))
}

/// EIP-2537: each coordinate padded to 64 bytes.
fn padded(coordinates: &[u8]) -> String {
    let bytes: Vec<u8> = coordinates.chunks(48).flat_map(|it| [0; 16].into_iter().chain(it.iter().copied())).collect();
    text(bytes)
}

fn g1(key: &PublicKey) -> String {
    padded(&key.serialize())
}

/// blst writes the imaginary part of a coordinate first, the precompiles want it last.
fn g2(point: &Signature) -> String {
    let bytes = point.serialize();
    let parts: Vec<u8> = [1, 0, 3, 2].into_iter().flat_map(|part| bytes[48 * part..48 * (part + 1)].to_vec()).collect();
    padded(&parts)
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    format!("0x{}", hex::encode(bytes))
}

/// Points, hashes, signatures and sums of one case, and SSZ roots with its key.
fn case(random: &Random, number: u8) -> Result<Vec<(&'static str, Value)>> {
    let message = random.bytes("message", number);
    let own = secret(random.scalar("secret", number))?;
    // What one signs is the hash itself.
    let one = secret(U256::ONE)?;
    let wrong = secret(random.scalar("wrong", number))?.sign(message.as_slice(), SIGNATURE_DST, &[]);
    let (key, signature) = (own.sk_to_pk(), own.sign(message.as_slice(), SIGNATURE_DST, &[]));
    let mut members = vec![
        ("messages", json!(message)),
        ("hashes", json!(g2(&one.sign(message.as_slice(), SIGNATURE_DST, &[])))),
        ("possessionHashes", json!(g2(&one.sign(message.as_slice(), POSSESSION_DST, &[])))),
        ("keys", json!(g1(&key))),
        ("keysCompressed", json!(text(key.compress()))),
        ("signatures", json!(g2(&signature))),
        ("signaturesCompressed", json!(text(signature.compress()))),
        ("wrongSignatures", json!(g2(&wrong))),
    ];
    members.extend(evaluation(random, number)?);
    members.extend(roots(random, number, key.compress(), signature.compress()));
    Ok(members)
}

/// A polynomial whose coefficients are points, and its value: computed by their logarithms.
fn evaluation(random: &Random, number: u8) -> Result<Vec<(&'static str, Value)>> {
    let scalars: Vec<U256> = (0..=number % 11).map(|k| random.scalar(&format!("point/{number}"), k)).collect();
    let at = 1 + random.bytes("argument", number)[0] % 255;
    let value = scalars.iter().rev().fold(U256::ZERO, |sum, scalar| sum.mul_mod(U256::from(at), R).add_mod(*scalar, R));
    let points = scalars.into_iter().map(|scalar| Ok(g1(&secret(scalar)?.sk_to_pk()))).collect::<Result<Vec<_>>>()?;
    let coefficients: String = points.iter().map(|point| point.trim_start_matches("0x")).collect();
    Ok(vec![
        ("coefficients", json!(format!("0x{coefficients}"))),
        ("arguments", json!(at)),
        ("values", json!(g1(&secret(value)?.sk_to_pk()))),
    ])
}

/// A deposit of the key, and a change of its credentials with the amount for its validator's index.
fn roots(random: &Random, number: u8, pubkey: [u8; 48], signature: [u8; 96]) -> Vec<(&'static str, Value)> {
    let bytes = |label: &str| random.bytes(label, number);
    let amount = u64::from_be_bytes(bytes("amount")[..8].try_into().unwrap_or_default());
    let version: [u8; 4] = bytes("version")[..4].try_into().unwrap_or_default();
    let message = DepositMessage { pubkey, withdrawal_credentials: bytes("credentials"), amount_gwei: amount };
    let (validators_root, account) = (bytes("validators root"), Address::from_slice(&bytes("account")[..20]));
    let change = BlsToExecutionChange {
        validator_index: ValidatorIndex(amount),
        from_bls_pubkey: pubkey.into(),
        to_execution_address: account,
    };
    let mut credentials: [u8; 32] = Sha256::digest(pubkey).into();
    credentials[0] = 0;
    vec![
        ("amounts", json!(amount.to_string())),
        ("versions", json!(B256::right_padding_from(&version))),
        ("credentials", json!(message.withdrawal_credentials)),
        ("messageRoots", json!(message.hash_tree_root())),
        ("signingRoots", json!(message.signing_root(version))),
        ("dataRoots", json!(message.with_signature(signature).hash_tree_root())),
        ("validatorsRoots", json!(validators_root)),
        ("accounts", json!(account)),
        ("blsCredentials", json!(B256::from(credentials))),
        ("changeRoots", json!(change.signing_root_on(version, validators_root))),
    ]
}

/// A dealing as a server makes it.
fn dealing(random: &Random, number: u8, chain_id: u64, registry: Address) -> Result<Value> {
    let threshold = Threshold::new(3, 4)?;
    let key_id = u64::from_be_bytes(random.bytes("key", number)[..8].try_into().unwrap_or_default());
    let domain = CeremonyDomain { chain_id, registry, key_id, attempt: 7 * u16::from(number) };
    let secrets = threshold.indices().map(|_| OneTimeSecret::random()).collect::<Result<Vec<_>, _>>()?;
    let keys: Vec<[u8; 33]> = secrets.iter().map(OneTimeSecret::public_key).collect();
    let position = usize::from(number % 4);
    let dealer = threshold.indices().nth(position).ok_or_else(|| eyre!("no member {position}"))?;
    let made = deal(&domain, threshold, dealer, &secrets[position], &keys)?;
    let y = |(key, secret): (&[u8; 33], &OneTimeSecret)| y_of_one_time_key(key, &secret.to_bytes()).map(text);
    Ok(json!({
        "keyId": key_id.to_string(), "attempt": domain.attempt, "index": dealer.get(),
        "oneTimeKeys": text(keys.concat()),
        "oneTimeKey": text(made.one_time_key),
        "commitments": text(made.commitments_to_wire()),
        "proof": text(made.proof_of_possession.to_eip2537()),
        "shares": text(made.shares_to_wire()),
        "secrets": secrets.iter().map(|secret| text(*secret.to_bytes())).collect::<Vec<_>>(),
        "ys": keys.iter().zip(&secrets).map(y).collect::<Vec<_>>(),
    }))
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [seed, chain_id, registry] = args.as_slice() else {
        return Err(eyre!("usage: blst_vectors SEED CHAIN_ID REGISTRY"));
    };
    let (chain_id, registry) = (chain_id.parse().wrap_err("the chain id")?, registry.parse().wrap_err("the registry")?);
    let random = Random(seed.clone());
    let mut out = serde_json::Map::new();
    for number in 0..CASES {
        for (member, value) in case(&random, number)? {
            let list = out.entry(member).or_insert_with(|| json!([]));
            list.as_array_mut().ok_or_else(|| eyre!("{member} is no list"))?.push(value);
        }
    }
    let dealings =
        (0..DEALINGS).map(|number| dealing(&random, number, chain_id, registry)).collect::<Result<Vec<_>>>()?;
    out.insert("dealings".to_owned(), Value::Array(dealings));
    Ok(std::io::stdout().write_all(Value::Object(out).to_string().as_bytes())?)
}
