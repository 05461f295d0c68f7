//! Opening one share of a dealing: Diffie-Hellman, decryption, Feldman's check.
//!
//! Baseline of the same run: the group operations of the check with bare blst, without Diffie-Hellman.
#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench may end")]

mod support;

use std::hint::black_box;

use alloy_primitives::Address;
use blst::{blst_scalar, min_pk};
use criterion::{Criterion, criterion_group, criterion_main};
use stkr_core::{
    ShareIndex, Threshold,
    dkg::{CeremonyDomain, OneTimeSecret, deal},
};
use support::blst_share_check;

fn bench(c: &mut Criterion) {
    let domain = CeremonyDomain { chain_id: 1, registry: Address::ZERO, key_id: 1, attempt: 0 };
    for (t, n) in [(3, 4), (5, 7), (7, 10)] {
        let threshold = Threshold::new(t, n).unwrap();
        let secrets: Vec<_> = (0..n).map(|_| OneTimeSecret::random().unwrap()).collect();
        let keys: Vec<_> = secrets.iter().map(OneTimeSecret::public_key).collect();
        let (dealer, recipient) = (ShareIndex::new(1).unwrap(), ShareIndex::new(n).unwrap());
        let dealing = deal(&domain, threshold, dealer, &secrets[0], &keys).unwrap();
        let secret = &secrets[usize::from(n) - 1];
        c.bench_function(&format!("dkg::open_share/n={n}"), |b| {
            b.iter(|| dealing.open(black_box(&domain), dealer, recipient, secret).unwrap());
        });
        let commitments: Vec<_> = dealing
            .commitments
            .iter()
            .map(|point| {
                *<&blst::blst_p1_affine>::from(&min_pk::PublicKey::from_bytes(&point.to_compressed()).unwrap())
            })
            .collect();
        // Any scalar costs the same; the comparison fails only at its end.
        let share = blst_scalar { b: [0x11; 32] };
        c.bench_function(&format!("dkg::open_share/n={n}/bare_blst"), |b| {
            b.iter(|| blst_share_check(black_box(&share), &commitments, n));
        });
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
