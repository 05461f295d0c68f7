//! Combining ten partials of a 7-of-10 key of which 1 or 3 among the first seven are wrong.
//!
//! Baseline of the same run: bare blst verifying ten partials one by one.
#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench may end")]

mod support;

use std::hint::black_box;

use blst::{BLST_ERROR, min_pk};
use criterion::{Criterion, criterion_group, criterion_main};
use support::{MESSAGE, TAG, dealer, partials};

fn bench(c: &mut Criterion) {
    let dealer = dealer(7, 10);
    let all = partials(&dealer, &(1..=10).collect::<Vec<_>>());
    for wrong in [1, 3] {
        let mut tampered = all.clone();
        for partial in &mut tampered[..wrong] {
            partial.signature = dealer.group_signature(&MESSAGE);
        }
        c.bench_function(&format!("combine::culprit_search/n=10/wrong={wrong}"), |b| {
            b.iter(|| dealer.keys.combine(black_box(&MESSAGE), &tampered).unwrap());
        });
    }
    let signed: Vec<_> = dealer
        .keys
        .share_keys()
        .iter()
        .zip(&all)
        .map(|(key, partial)| {
            let key = min_pk::PublicKey::from_bytes(&key.to_compressed()).unwrap();
            (key, min_pk::Signature::from_bytes(&partial.signature.to_compressed()).unwrap())
        })
        .collect();
    c.bench_function("combine::culprit_search/n=10/bare_blst_each", |b| {
        b.iter(|| {
            signed
                .iter()
                .filter(|(key, signature)| {
                    signature.verify(false, black_box(&MESSAGE), TAG, &[], key, false) == BLST_ERROR::BLST_SUCCESS
                })
                .count()
        });
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
