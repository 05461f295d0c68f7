//! Making a dealing (commitments, proof, n encrypted shares), and its public check.
//!
//! Baselines of the same run: bare blst making t commitments and one proof, or verifying one proof. What is left
//! on top is n Diffie-Hellman agreements on secp256k1 and randomness.
#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench may end")]

mod support;

use std::hint::black_box;

use alloy_primitives::Address;
use blst::min_pk::SecretKey;
use criterion::{Criterion, criterion_group, criterion_main};
use stkr_core::{
    ShareIndex, Threshold,
    dkg::{CeremonyDomain, OneTimeSecret, deal},
};
use support::MESSAGE;

const POSSESSION: &[u8] = b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

fn bench(c: &mut Criterion) {
    let domain = CeremonyDomain { chain_id: 1, registry: Address::ZERO, key_id: 1, attempt: 0 };
    for (t, n) in [(3, 4), (5, 7), (7, 10)] {
        let threshold = Threshold::new(t, n).unwrap();
        let secrets: Vec<_> = (0..n).map(|_| OneTimeSecret::random().unwrap()).collect();
        let keys: Vec<_> = secrets.iter().map(OneTimeSecret::public_key).collect();
        let me = ShareIndex::new(1).unwrap();
        c.bench_function(&format!("dkg::deal/n={n}"), |b| {
            b.iter(|| deal(black_box(&domain), threshold, me, &secrets[0], &keys).unwrap());
        });
        let coefficients: Vec<_> = (0..t).map(|k| SecretKey::key_gen(&[k + 1; 32], &[]).unwrap()).collect();
        c.bench_function(&format!("dkg::deal/n={n}/bare_blst"), |b| {
            b.iter(|| {
                let commitments: Vec<_> = coefficients.iter().map(SecretKey::sk_to_pk).collect();
                (commitments, coefficients[0].sign(black_box(&MESSAGE), POSSESSION, &[]))
            });
        });
        let dealing = deal(&domain, threshold, me, &secrets[0], &keys).unwrap();
        c.bench_function(&format!("dkg::check_dealing/n={n}"), |b| {
            b.iter(|| dealing.check(black_box(&domain), threshold, me, &keys[0]).unwrap());
        });
    }
    let secret = SecretKey::key_gen(&[1; 32], &[]).unwrap();
    let (key, proof) = (secret.sk_to_pk(), secret.sign(&MESSAGE, POSSESSION, &[]));
    c.bench_function("dkg::check_dealing/bare_blst", |b| {
        b.iter(|| proof.verify(false, black_box(&MESSAGE), POSSESSION, &[], &key, false));
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
