//! Resharing among equal committees: what an old member spends on its dealing, what a new one on its share, what anybody on the keys.
//!
//! Baseline of the same run: the DKG among as many, in which every member does both. Wire sizes go to standard error.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr, reason = "criterion's macros; a bench may end")]

mod support;

use std::hint::black_box;

use alloy_primitives::Address;
use criterion::{Criterion, criterion_group, criterion_main};
use stkr_core::{
    Threshold,
    dkg::{self, CeremonyDomain, OneTimeSecret},
    reshare::{RecipientSecrets, Reshare, ReshareDomain},
};
use support::dealer;

const COMMITTEES: [(u8, u8); 4] = [(3, 4), (5, 7), (7, 10), (9, 13)];

fn reshare(c: &mut Criterion, (t, n): (u8, u8)) {
    let key = dealer(t, n);
    let domain = ReshareDomain { chain_id: 1, registry: Address::ZERO, key_id: 1, epoch: 1, attempt: 0 };
    let new = Threshold::new(t, n).unwrap();
    // The last t deal: coefficients with a denominator.
    let dealers = new.indices().skip(usize::from(n - t)).collect();
    let reshare = Reshare::new(domain, key.keys, dealers, new).unwrap();
    let secrets: Vec<_> = new.indices().map(|_| RecipientSecrets::random(&reshare).unwrap()).collect();
    let published: Vec<_> = secrets.iter().map(RecipientSecrets::public_keys).collect();
    let shares = &key.shares[usize::from(n - t)..];
    let dealings: Vec<_> = shares.iter().map(|share| reshare.deal(share, &published).unwrap()).collect();
    let bytes = |d: &stkr_core::reshare::Dealing| 33 + d.commitments_to_wire().len() + d.shares_to_wire().len();
    eprintln!("reshare/n={n}: {} bytes of {t} dealings", dealings.iter().map(bytes).sum::<usize>());

    let me = new.indices().last().unwrap();
    let (mine, keys) = (secrets.last().unwrap(), published.last().unwrap());
    c.bench_function(&format!("reshare::deal/n={n}"), |b| {
        b.iter(|| reshare.deal(&shares[0], black_box(&published)).unwrap());
    });
    c.bench_function(&format!("reshare::finish/n={n}"), |b| {
        b.iter(|| reshare.finish(me, mine, keys, black_box(&dealings)).unwrap());
    });
    c.bench_function(&format!("reshare::new_keys/n={n}"), |b| {
        b.iter(|| reshare.new_keys(black_box(&dealings)).unwrap());
    });
}

fn key_generation(c: &mut Criterion, (t, n): (u8, u8)) {
    let domain = CeremonyDomain { chain_id: 1, registry: Address::ZERO, key_id: 1, attempt: 0 };
    let threshold = Threshold::new(t, n).unwrap();
    let secrets: Vec<_> = threshold.indices().map(|_| OneTimeSecret::random().unwrap()).collect();
    let keys: Vec<_> = secrets.iter().map(OneTimeSecret::public_key).collect();
    let members = threshold.indices().zip(&secrets);
    let dealings: Vec<_> = members.map(|(i, s)| dkg::deal(&domain, threshold, i, s, &keys).unwrap()).collect();
    let bytes = |d: &dkg::Dealing| 33 + 256 + d.commitments_to_wire().len() + d.shares_to_wire().len();
    eprintln!("dkg/n={n}: {} bytes of {n} dealings", dealings.iter().map(bytes).sum::<usize>());
    let me = threshold.indices().last().unwrap();
    c.bench_function(&format!("dkg::finish/n={n}"), |b| {
        b.iter(|| dkg::finish(&domain, threshold, me, secrets.last().unwrap(), black_box(&dealings)).unwrap());
    });
}

fn bench(c: &mut Criterion) {
    for committee in COMMITTEES {
        reshare(c, committee);
        key_generation(c, committee);
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
