//! One member's partial signature.
#![allow(missing_docs, reason = "criterion's macros")]

mod support;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use support::{MESSAGE, TAG, blst_secret, dealer};

fn bench(c: &mut Criterion) {
    let dealer = dealer(3, 4);
    let share = &dealer.shares[0];
    let secret = blst_secret(share);
    c.bench_function("share::sign", |b| b.iter(|| share.sign(black_box(&MESSAGE))));
    c.bench_function("share::sign/bare_blst", |b| b.iter(|| secret.sign(black_box(&MESSAGE), TAG, &[])));
}

criterion_group!(benches, bench);
criterion_main!(benches);
