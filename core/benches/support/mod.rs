//! What the benches share: committees, and blst's C functions without any of our code around them.
#![allow(
    dead_code,
    unsafe_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::undocumented_unsafe_blocks,
    reason = "each bench uses a part; baselines call blst as it is, with initialised values of its own types"
)]

use blst::{blst_fr, blst_p1, blst_p1_affine, blst_p2, blst_p2_affine, blst_scalar, min_pk};
use stkr_core::{PartialSignature, SecretShare, Threshold, testing::TrustedDealer};

pub const TAG: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
pub const MESSAGE: [u8; 32] = [0x42; 32];

/// Committees of the design's table, and the largest that t = 22 allows.
pub const COMMITTEES: [(u8, u8); 4] = [(3, 4), (5, 7), (7, 10), (22, 43)];

pub fn dealer(t: u8, n: u8) -> TrustedDealer {
    TrustedDealer::deal(Threshold::new(t, n).unwrap(), [7; 32])
}

/// The first t - 1 members and the last, as when the members between are slow: coefficients with a denominator.
pub fn gaps(t: u8, n: u8) -> Vec<u8> {
    (1..t).chain([n]).collect()
}

pub fn partials(dealer: &TrustedDealer, indices: &[u8]) -> Vec<PartialSignature> {
    indices.iter().map(|i| dealer.shares[usize::from(*i) - 1].sign(&MESSAGE)).collect()
}

pub fn blst_secret(share: &SecretShare) -> min_pk::SecretKey {
    min_pk::SecretKey::from_bytes(&*share.to_bytes()).unwrap()
}

pub fn blst_point(partial: &PartialSignature) -> blst_p2_affine {
    let mut point = blst_p2_affine::default();
    unsafe { blst::blst_p2_uncompress(&mut point, partial.signature.to_compressed().as_ptr()) };
    point
}

/// Lagrange coefficients at 0 as integers over one denominator, by plain fractions.
pub struct Integers {
    pub signed: Vec<(bool, u128)>,
    pub denominator: u128,
    pub bits: usize,
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

pub fn integers(indices: &[u8]) -> Integers {
    let fractions: Vec<(bool, u128, u128)> = indices
        .iter()
        .map(|&i| {
            let (mut negative, mut above, mut below) = (false, 1_u128, 1_u128);
            for &j in indices.iter().filter(|&&j| j != i) {
                negative ^= j < i;
                above *= u128::from(j);
                below *= u128::from(j.abs_diff(i));
                let common = gcd(above, below);
                (above, below) = (above / common, below / common);
            }
            (negative, above, below)
        })
        .collect();
    let denominator = fractions.iter().fold(1, |lcm, (_, _, below)| lcm / gcd(lcm, *below) * below);
    let signed: Vec<(bool, u128)> =
        fractions.iter().map(|(negative, above, below)| (*negative, above * (denominator / below))).collect();
    let bits = signed.iter().map(|(_, value)| 128 - value.leading_zeros() as usize).max().unwrap();
    Integers { signed, denominator, bits }
}

fn scalar_of(value: u128) -> blst_fr {
    let half = |bits: u32| u64::try_from(value >> bits & u128::from(u64::MAX)).unwrap();
    let limbs = [half(0), half(64), 0, 0];
    let mut out = blst_fr::default();
    unsafe { blst::blst_fr_from_uint64(&mut out, limbs.as_ptr()) };
    out
}

fn bytes_of(value: &blst_fr) -> [u8; 32] {
    let mut scalar = blst_scalar::default();
    unsafe { blst::blst_scalar_from_fr(&mut scalar, value) };
    scalar.b
}

/// Full 255-bit scalars of the same coefficients, little-endian.
pub fn full_scalars(integers: &Integers) -> Vec<u8> {
    let mut inverse = blst_fr::default();
    unsafe { blst::blst_fr_eucl_inverse(&mut inverse, &scalar_of(integers.denominator)) };
    let coefficient = |(negative, value): &(bool, u128)| {
        let mut out = blst_fr::default();
        unsafe {
            blst::blst_fr_mul(&mut out, &scalar_of(*value), &inverse);
            blst::blst_fr_cneg(&mut out, &out, *negative);
        }
        bytes_of(&out)
    };
    integers.signed.iter().flat_map(coefficient).collect()
}

/// blst: each point times its short integer, summed, times the inverse of the denominator.
pub fn blst_short(points: &[blst_p2_affine], integers: &Integers) -> blst_p2 {
    let mut sum = blst_p2::default();
    unsafe {
        for (point, (negative, value)) in points.iter().zip(&integers.signed) {
            let (mut projective, mut product) = (blst_p2::default(), blst_p2::default());
            blst::blst_p2_from_affine(&mut projective, point);
            blst::blst_p2_cneg(&mut projective, *negative);
            blst::blst_p2_mult(&mut product, &projective, value.to_le_bytes().as_ptr(), integers.bits);
            blst::blst_p2_add_or_double(&mut sum, &sum, &product);
        }
        if integers.denominator != 1 {
            let mut inverse = blst_fr::default();
            blst::blst_fr_eucl_inverse(&mut inverse, &scalar_of(integers.denominator));
            blst::blst_p2_mult(&mut sum, &sum, bytes_of(&inverse).as_ptr(), 255);
        }
    }
    sum
}

/// blst: its multi-scalar multiplication with full scalars.
pub fn blst_full(points: &[blst_p2_affine], scalars: &[u8]) -> blst_p2 {
    let mut sum = blst_p2::default();
    let point_list = [points.as_ptr(), std::ptr::null()];
    let scalar_list = [scalars.as_ptr(), std::ptr::null()];
    unsafe {
        let mut scratch = vec![0_u64; blst::blst_p2s_mult_pippenger_scratch_sizeof(points.len()).div_ceil(8)];
        blst::blst_p2s_mult_pippenger(
            &mut sum,
            point_list.as_ptr(),
            points.len(),
            scalar_list.as_ptr(),
            255,
            scratch.as_mut_ptr(),
        );
    }
    sum
}

/// blst: the group operations of a share check: one secret multiplication and Horner's rule at `index`.
pub fn blst_share_check(share: &blst_scalar, commitments: &[blst_p1_affine], index: u8) -> bool {
    let (mut product, mut sum) = (blst_p1::default(), blst_p1::default());
    unsafe {
        blst::blst_sk_to_pk_in_g1(&mut product, share);
        for commitment in commitments.iter().rev() {
            blst::blst_p1_mult(&mut sum, &sum, &index, 8 - index.leading_zeros() as usize);
            blst::blst_p1_add_or_double_affine(&mut sum, &sum, commitment);
        }
        blst::blst_p1_is_equal(&product, &sum)
    }
}
