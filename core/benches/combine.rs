//! Combining t partial signatures, and combining with the verification of the result.
//!
//! Baselines of the same run: bare blst with the same short integers, one multiplication per point
//! (`bare_blst`), and its multi-scalar multiplication with full 255-bit coefficients (`bare_blst_full_scalars`).
#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench may end")]

mod support;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use stkr_core::interpolate;
use support::{COMMITTEES, MESSAGE, blst_full, blst_point, blst_short, dealer, full_scalars, gaps, integers, partials};

fn bench(c: &mut Criterion) {
    for (t, n) in COMMITTEES {
        let dealer = dealer(t, n);
        let threshold = dealer.keys.threshold();
        for (shape, indices) in [("consecutive", (1..=t).collect()), ("gaps", gaps(t, n))] {
            let partials = partials(&dealer, &indices);
            let name = format!("combine::interpolate/t={t}/{shape}");
            c.bench_function(&name, |b| b.iter(|| interpolate(threshold, black_box(&partials)).unwrap()));
            let points: Vec<_> = partials.iter().map(blst_point).collect();
            let integers = integers(&indices);
            c.bench_function(&format!("{name}/bare_blst"), |b| b.iter(|| blst_short(black_box(&points), &integers)));
            let scalars = full_scalars(&integers);
            c.bench_function(&format!("{name}/bare_blst_full_scalars"), |b| {
                b.iter(|| blst_full(black_box(&points), &scalars));
            });
        }
        let partials = partials(&dealer, &gaps(t, n));
        c.bench_function(&format!("combine::combine_and_verify/t={t}"), |b| {
            b.iter(|| dealer.keys.combine(black_box(&MESSAGE), &partials).unwrap());
        });
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
