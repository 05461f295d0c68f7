//! Verification of one signature, and of a partial as it comes in.
#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench may end")]

mod support;

use std::hint::black_box;

use blst::min_pk;
use criterion::{Criterion, criterion_group, criterion_main};
use stkr_core::{Signature, verify};
use support::{MESSAGE, TAG, dealer};

fn bench(c: &mut Criterion) {
    let dealer = dealer(3, 4);
    let (key, signature) = (dealer.keys.group_key(), dealer.group_signature(&MESSAGE));
    c.bench_function("points::verify", |b| b.iter(|| verify(black_box(&key), &MESSAGE, &signature)));
    let blst_key = min_pk::PublicKey::from_bytes(&key.to_compressed()).unwrap();
    let blst_signature = min_pk::Signature::from_bytes(&signature.to_compressed()).unwrap();
    c.bench_function("points::verify/bare_blst", |b| {
        b.iter(|| blst_signature.verify(false, black_box(&MESSAGE), TAG, &[], &blst_key, false));
    });

    let wire = signature.to_eip2537();
    c.bench_function("points::decode_partial", |b| b.iter(|| Signature::from_eip2537(black_box(&wire)).unwrap()));
    let plain = blst_signature.serialize();
    c.bench_function("points::decode_partial/bare_blst", |b| {
        b.iter(|| {
            let point = min_pk::Signature::deserialize(black_box(&plain)).unwrap();
            point.validate(true).unwrap();
            point
        });
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
