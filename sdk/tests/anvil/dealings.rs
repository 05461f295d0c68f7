//! Dealings before the Court and before [`EvidenceFile::verify`]: one verdict.

use alloy::{
    primitives::{U256, keccak256, uint},
    providers::Provider as _,
    rpc::types::TransactionRequest,
    sol_types::SolInterface as _,
};
use stkr_core::{Threshold, dkg::CeremonyDomain, dkg::complaint::decrypt_share, testing::TrustedDealer};
use stkr_protocol::{
    evidence::{Defect, DefectiveDealing, EvidenceError, EvidenceFile, OpenedDealing, Proof, SignedDealing},
    messages::{Body, DealingBody, SignedMessage},
};
use stkr_sdk::bindings::Court::CourtErrors;

use crate::common::{
    Chain,
    evidence::{Accused, domain, one_time_secret},
    writes,
};

/// Order of secp256k1.
const ORDER: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
const G1: usize = 128;
const SHARE: usize = 32;
const SIZE: (u8, u8) = (3, 4);

struct Bench<'a> {
    chain: &'a Chain,
    accused: Accused<'a>,
    /// Guilty, and not.
    judged: [u32; 2],
}

impl Bench<'_> {
    /// What the Court says, without a commitment: that is what it asks for when it is convinced.
    async fn court(&self, file: &EvidenceFile) -> &'static str {
        let call = stkr_chain::court::prove(file);
        let request = TransactionRequest::default().to(call.to).input(call.data.into());
        let error = self.chain.provider.call(request).await.unwrap_err();
        let data = error.as_error_resp().and_then(|it| it.as_revert_data()).unwrap_or_else(|| panic!("{error}"));
        match CourtErrors::abi_decode(&data).unwrap() {
            CourtErrors::NotCommitted(_) => "guilty",
            CourtErrors::WrongOneTimeKeys(_) => "other keys",
            CourtErrors::WrongOpening(_) => "wrong opening",
            CourtErrors::UnusableOneTimeKey(_) => "unusable",
            CourtErrors::GoodDealing(_) => "good",
            CourtErrors::Inconclusive(_) => "inconclusive",
            CourtErrors::WrongPossession(_) => "other possession",
            CourtErrors::NotMalformed(_) => "not malformed",
            CourtErrors::BadEvidenceSignature(_) => "nobody",
            error => panic!("{error:?}"),
        }
    }

    fn ours(file: &EvidenceFile) -> &'static str {
        match file.verify() {
            Ok(_) => "guilty",
            Err(EvidenceError::OtherOneTimeKeys { .. }) => "other keys",
            Err(EvidenceError::WrongOpening(_)) => "wrong opening",
            Err(EvidenceError::UnusableOneTimeKey) => "unusable",
            Err(EvidenceError::GoodDealing(_)) => "good",
            Err(EvidenceError::Inconclusive) => "inconclusive",
            Err(EvidenceError::OtherPossession { .. }) => "other possession",
            Err(EvidenceError::NotMalformed(_)) => "not malformed",
            Err(EvidenceError::Signature(_)) => "nobody",
            Err(error) => panic!("{error}"),
        }
    }

    async fn judge(&mut self, what: &str, proof: Proof) -> &'static str {
        let deployment = &self.chain.deployment;
        let file = EvidenceFile::new(&domain(deployment), deployment.court, proof);
        let (ours, theirs) = (Self::ours(&file), self.court(&file).await);
        assert_eq!(ours, theirs, "{what}");
        self.judged[usize::from(ours != "guilty")] += 1;
        ours
    }

    fn say(&self, change: impl FnOnce(&mut DealingBody)) -> SignedMessage {
        self.accused.dealing(&self.chain.deployment, change)
    }

    /// Every way to accuse of one dealing: each member's share, each defect, each commitment.
    async fn every_way(&mut self, what: &str, message: &SignedMessage) -> Vec<&'static str> {
        let mut verdicts = Vec::new();
        for recipient in 1..=SIZE.1 {
            let opened = self.accused.opened(message, recipient);
            verdicts.push(self.judge(&format!("{what}, member {recipient}"), Proof::BadDealing(opened)).await);
        }
        let Body::Dealing(body) = &message.body else { panic!("{message:?}") };
        let keys = self.accused.one_time_keys().as_flattened().to_vec();
        let ways = [
            (Defect::Shape, 0, Vec::new()),
            (Defect::OneTimeKey, 0, keys),
            (Defect::Commitment, 0, Vec::new()),
            (Defect::Commitment, 1, Vec::new()),
            (Defect::Commitment, 2, Vec::new()),
            (Defect::Commitment, 3, Vec::new()),
            (Defect::Possession, 0, body.proof_of_possession.clone()),
        ];
        for (defect, position, hashed) in ways {
            let dealing = SignedDealing::of(message).unwrap();
            let proof = DefectiveDealing { dealing, threshold: SIZE.0, members: SIZE.1, defect, position, hashed };
            verdicts.push(self.judge(&format!("{what}, {defect} {position}"), Proof::MalformedDealing(proof)).await);
        }
        verdicts
    }
}

/// On the curve and not in the subgroup.
fn outside_the_subgroup() -> Vec<u8> {
    let fixture = std::fs::read(crate::common::root().join("tests/contracts/fixtures/bls.json")).unwrap();
    let fixture: serde_json::Value = serde_json::from_slice(&fixture).unwrap();
    hex::decode(fixture["g1OutsideSubgroup"].as_str().unwrap().trim_start_matches("0x")).unwrap()
}

#[tokio::test]
async fn court_and_file_agree_on_every_dealing() {
    let chain = Chain::start().await;
    let dealer = TrustedDealer::deal(Threshold::new(SIZE.0, SIZE.1).unwrap(), [0x5e; 32]);
    let (committee, signers, key) = writes::dealt_committee(&chain, &dealer).await;
    let mut bench =
        Bench { chain: &chain, accused: Accused { key, dealer: &dealer, committee, signers }, judged: [0; 2] };

    let honest = bench.say(|_| ());
    let verdicts = bench.every_way("honest", &honest).await;
    assert!(!verdicts.contains(&"guilty"), "{verdicts:?}");

    type Change = fn(&mut DealingBody);
    let outside = outside_the_subgroup();
    let changes: [(&str, Change); 20] = [
        ("a share", |it| it.shares[95] ^= 1),
        ("a share's first bit", |it| it.shares[64] ^= 0x80),
        ("no shares", |it| it.shares.clear()),
        ("a share more", |it| it.shares.extend([1; SHARE])),
        ("a byte less", |it| it.shares.truncate(127)),
        ("no commitments", |it| it.commitments.clear()),
        ("one commitment", |it| it.commitments.truncate(G1)),
        ("a commitment and a half", |it| it.commitments.truncate(200)),
        ("a commitment more", |it| it.commitments.extend_from_within(..G1)),
        ("a constant term of infinity", |it| it.commitments[..G1].fill(0)),
        ("a commitment of infinity", |it| it.commitments[G1..2 * G1].fill(0)),
        ("padding", |it| it.commitments[2 * G1] = 1),
        ("off the curve", |it| it.commitments[G1 - 1] ^= 1),
        ("a coordinate above the modulus", |it| it.commitments[16..64].fill(0xff)),
        ("no possession", |it| it.proof_of_possession.clear()),
        ("possession of infinity", |it| it.proof_of_possession.fill(0)),
        ("infinity twice", |it| {
            it.commitments[..G1].fill(0);
            it.proof_of_possession.fill(0);
        }),
        ("possession of nothing", |it| it.proof_of_possession[255] ^= 1),
        ("no key", |it| it.one_time_key.clear()),
        ("a key that is longer", |it| it.one_time_key.push(0)),
    ];
    for (what, change) in changes {
        let message = bench.say(change);
        bench.every_way(what, &message).await;
    }
    for (what, key) in [
        ("another's key", one_time_secret(9).public_key().to_vec()),
        ("a negated key", {
            let mut key = one_time_secret(2).public_key();
            key[0] ^= 1;
            key.to_vec()
        }),
        ("a prefix that is none", {
            let mut key = one_time_secret(2).public_key();
            key[0] |= 4;
            key.to_vec()
        }),
        ("x above the order", [&[2][..], &[0xff; 32]].concat()),
        ("x at the order", [&[2][..], &ORDER.to_be_bytes::<32>()].concat()),
        ("x of no point", [&[3][..], &[0; 31], &[5]].concat()),
        ("nothing but zeros", vec![0; 33]),
    ] {
        let message = bench.say(|it| it.one_time_key = key);
        bench.every_way(what, &message).await;
    }
    for position in 0..3 {
        let message = bench.say(|it| it.commitments[position * G1..(position + 1) * G1].copy_from_slice(&outside));
        bench.every_way("outside the subgroup", &message).await;
    }
    openings(&mut bench, &honest).await;
    shares(&mut bench).await;
    let [guilty, innocent] = bench.judged;
    assert!(guilty > 50 && innocent > 150, "{guilty} were guilty and {innocent} were not");
}

/// Lies of a member about its key.
async fn openings(bench: &mut Bench<'_>, honest: &SignedMessage) {
    let good = bench.accused.opened(honest, 3);
    let own = U256::from_be_bytes(good.secret);
    for (what, secret) in [
        ("zero", U256::ZERO),
        ("the order", ORDER),
        ("more than the order", U256::MAX),
        ("negated", ORDER - own),
        ("another's", U256::from_be_bytes(*one_time_secret(4).to_bytes())),
    ] {
        let lie = OpenedDealing { secret: secret.to_be_bytes(), ..good.clone() };
        assert_ne!(bench.judge(what, Proof::BadDealing(lie)).await, "guilty", "{what}");
    }
    // A number that stands for the same secret is the same secret.
    let small = bench.accused.dealing(&bench.chain.deployment, |_| ());
    let again = OpenedDealing { secret: (own.wrapping_add(ORDER)).to_be_bytes(), ..bench.accused.opened(&small, 3) };
    bench.judge("the secret and the order", Proof::BadDealing(again)).await;
    for recipient in [0, 5, 255] {
        let nobody = OpenedDealing { recipient, ..good.clone() };
        assert_eq!(bench.judge("nobody", Proof::BadDealing(nobody)).await, "wrong opening");
    }
    let others = OpenedDealing { one_time_keys: vec![2; 4 * 33], ..good.clone() };
    assert_eq!(bench.judge("other keys", Proof::BadDealing(others)).await, "other keys");
    let mut unsigned = good.clone();
    unsigned.dealing.signature = [0; 65];
    assert_eq!(bench.judge("unsigned", Proof::BadDealing(unsigned)).await, "nobody");
    let mut foreign = good;
    foreign.dealing.signature[64] = 29;
    assert_eq!(bench.judge("v of 29", Proof::BadDealing(foreign)).await, "nobody");
    // A list whose key has a prefix that is none: its parity counts.
    for prefix in [4, 5, 7] {
        let mut keys = bench.accused.one_time_keys();
        keys[2][0] = prefix;
        let message = bench.say(|it| {
            it.one_time_keys_hash = keccak256(keys.as_flattened());
            it.shares[95] ^= 1;
        });
        let one_time_keys = keys.as_flattened().to_vec();
        let opened = OpenedDealing { one_time_keys, ..bench.accused.opened(&message, 3) };
        bench.judge("a list with a prefix that is none", Proof::BadDealing(opened)).await;
    }
    // Lists that are longer and shorter than the committee.
    for length in [3, 5] {
        let keys: Vec<_> = (1..=length).map(|member| one_time_secret(member).public_key()).collect();
        let message = bench.say(|it| it.one_time_keys_hash = keccak256(keys.as_flattened()));
        let hashed = keys.as_flattened().to_vec();
        let proof = DefectiveDealing {
            dealing: SignedDealing::of(&message).unwrap(),
            threshold: SIZE.0,
            members: SIZE.1,
            defect: Defect::OneTimeKey,
            position: 0,
            hashed,
        };
        assert_eq!(bench.judge("another length", Proof::MalformedDealing(proof)).await, "guilty");
    }
}

/// What a share becomes before it is encrypted: no scalar, and second encodings of scalars.
async fn shares(bench: &mut Bench<'_>) {
    let r: [u8; 32] =
        hex::decode("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001").unwrap().try_into().unwrap();
    let r = U256::from_be_bytes(r);
    let deployment = bench.chain.deployment.clone();
    let ceremony = CeremonyDomain {
        chain_id: deployment.chain_id,
        registry: deployment.key_registry,
        key_id: bench.accused.key,
        attempt: 0,
    };
    type Change = (&'static str, Box<dyn Fn(U256) -> U256>);
    let changes: [Change; 6] = [
        ("itself", Box::new(|share| share)),
        ("zero", Box::new(|_| U256::ZERO)),
        ("r", Box::new(move |_| r)),
        ("itself and r", Box::new(move |share| share.wrapping_add(r))),
        ("negated", Box::new(move |share| r - share)),
        ("the largest", Box::new(|_| U256::MAX)),
    ];
    for (what, change) in changes {
        let message = bench.say(|it| {
            let key: [u8; 33] = it.one_time_key.as_slice().try_into().unwrap();
            let secret = one_time_secret(3).to_bytes();
            let open = |bytes: &[u8; 32]| decrypt_share(&ceremony, (2, 3), &key, &secret, bytes).unwrap();
            let sent: [u8; SHARE] = it.shares[64..96].try_into().unwrap();
            let changed = change(U256::from_be_bytes(open(&sent))).to_be_bytes();
            it.shares[64..96].copy_from_slice(&open(&changed));
        });
        let opened = bench.accused.opened(&message, 3);
        let verdict = bench.judge(what, Proof::BadDealing(opened)).await;
        assert_eq!(verdict, if what == "itself" { "good" } else { "guilty" }, "{what}");
    }
}
