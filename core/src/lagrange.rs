//! Lagrange coefficients at 0 for small indices: small integers over one common denominator.
//!
//! The coefficient of index i among S is the product over j in S, j != i, of j / (j - i). All indices lie in
//! 1..=64, so every factor is a product of primes below 64 and a coefficient is a sign and a vector of 18
//! exponents. The smallest exponents of all coefficients go into one common factor; what is left are small
//! positive integers. Points are multiplied by those, summed, and the sum is multiplied once by the common
//! factor: for 3-of-4 the integers have at most 4 bits instead of 255.
//!
//! Everything here is public, so nothing needs constant time.

use alloy_primitives::U256;

use crate::{
    MAX_MEMBERS, ShareIndex,
    blst_glue::{Fr, Group, SCALAR_BITS},
};

const PRIMES: [u8; 18] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61];
type Exponents = [i16; PRIMES.len()];

/// Exponents of the primes in each number up to 64. Row 0 is never used.
const FACTORS: [Exponents; MAX_MEMBERS as usize + 1] = {
    let mut table = [[0; PRIMES.len()]; MAX_MEMBERS as usize + 1];
    let mut number = 2;
    while number < table.len() {
        let (mut rest, mut p) = (number, 0);
        while p < PRIMES.len() {
            while rest % PRIMES[p] as usize == 0 {
                rest /= PRIMES[p] as usize;
                table[number][p] += 1;
            }
            p += 1;
        }
        number += 1;
    }
    table
};

/// From this many bits on blst's bucket method beats doubling and adding bit by bit: with 22 points it takes twice as
/// long at 20 bits and the same at 58 (bench `combine`).
pub(crate) const BUCKETS_FROM_BITS: usize = 56;

/// Coefficient k is `sign * magnitude * common`.
pub(crate) struct Coefficients {
    /// Sign (true: negative) and magnitude, little-endian, in the order of the indices.
    integers: Vec<(bool, [u8; 32])>,
    /// Bits of the largest magnitude.
    pub(crate) bits: usize,
    /// `None` if it is 1.
    common: Option<Fr>,
}

/// Coefficients at 0 for distinct indices; `None` if one occurs twice.
pub(crate) fn at_zero(indices: &[ShareIndex]) -> Option<Coefficients> {
    let fractions = indices.iter().map(|&i| fraction(i, indices)).collect::<Option<Vec<_>>>()?;
    let common = common_factor(&fractions);
    let integers = fractions
        .iter()
        .map(|(negative, exponents)| Some((*negative, integer(exponents, &common)?)))
        .collect::<Option<Vec<_>>>();
    Some(match integers {
        Some(integers) => short(&integers, &common),
        None => full(&fractions),
    })
}

/// Sign and prime exponents of the product of j / (j - i).
fn fraction(i: ShareIndex, indices: &[ShareIndex]) -> Option<(bool, Exponents)> {
    let mut negative = false;
    let mut exponents = [0; PRIMES.len()];
    let mut seen = 0;
    for &j in indices {
        if i == j {
            seen += 1;
            continue;
        }
        negative ^= j < i;
        let difference = usize::from(j.get().abs_diff(i.get()));
        for (p, exponent) in exponents.iter_mut().enumerate() {
            *exponent += FACTORS[usize::from(j.get())][p] - FACTORS[difference][p];
        }
    }
    (seen == 1).then_some((negative, exponents))
}

/// The smallest exponents, if a denominator makes a multiplication by a full scalar necessary anyway;
/// otherwise nothing, because multiplying the integers is then cheaper.
fn common_factor(fractions: &[(bool, Exponents)]) -> Exponents {
    let mut smallest = [0; PRIMES.len()];
    for (p, exponent) in smallest.iter_mut().enumerate() {
        *exponent = fractions.iter().map(|(_, exponents)| exponents[p]).min().unwrap_or(0);
    }
    if smallest.iter().all(|&e| e >= 0) { [0; PRIMES.len()] } else { smallest }
}

/// The product of the primes that are left above the common factor; `None` if it does not fit 255 bits.
fn integer(exponents: &Exponents, common: &Exponents) -> Option<U256> {
    let mut product = U256::from(1);
    for ((prime, exponent), common) in PRIMES.iter().zip(exponents).zip(common) {
        for _ in *common..*exponent {
            product = product.checked_mul(U256::from(*prime))?;
        }
    }
    (product.bit_len() < SCALAR_BITS).then_some(product)
}

fn short(integers: &[(bool, U256)], common: &Exponents) -> Coefficients {
    Coefficients {
        bits: integers.iter().map(|(_, value)| value.bit_len()).max().unwrap_or(0),
        integers: integers.iter().map(|(negative, value)| (*negative, value.to_le_bytes())).collect(),
        common: common.iter().any(|&e| e != 0).then(|| scalar(common)),
    }
}

/// The same with coefficients reduced modulo r, should integers ever outgrow 255 bits. None do as far as a
/// search can tell: 3-of-4 needs 4 bits, 7-of-10 12, 22-of-43 at most 80 in samples, and hill climbing over
/// 33-of-64 found no more than 149. But that is no proof, and a wrong signature would be the price.
fn full(fractions: &[(bool, Exponents)]) -> Coefficients {
    let reduced = |exponents: &Exponents| {
        let mut bytes = *scalar(exponents).to_bytes();
        bytes.reverse();
        bytes
    };
    Coefficients {
        bits: SCALAR_BITS,
        integers: fractions.iter().map(|(negative, exponents)| (*negative, reduced(exponents))).collect(),
        common: None,
    }
}

/// The product of prime powers modulo r.
fn scalar(exponents: &Exponents) -> Fr {
    let (mut above, mut below) = (Fr::from_u64(1), Fr::from_u64(1));
    for (&prime, &exponent) in PRIMES.iter().zip(exponents) {
        let prime = Fr::from_u64(prime.into());
        for _ in 0..exponent.unsigned_abs() {
            let side = if exponent > 0 { &mut above } else { &mut below };
            *side = side.mul(&prime);
        }
    }
    above.mul(&below.inverse_vartime())
}

impl Coefficients {
    /// The sum of coefficient times point: the polynomial "in the exponent" at 0.
    pub(crate) fn combine<G: Group>(&self, points: &[G::Affine]) -> G {
        let signed: Vec<G::Affine> = points
            .iter()
            .zip(&self.integers)
            .map(|(point, (negative, _))| if *negative { G::negate_affine(point) } else { *point })
            .collect();
        let sum =
            if self.bits < BUCKETS_FROM_BITS { self.bit_by_bit::<G>(&signed) } else { self.buckets::<G>(&signed) };
        self.common.as_ref().map_or(sum, |common| sum.mul(common))
    }

    /// The coefficients modulo r, in the order of the indices.
    pub(crate) fn scalars(&self) -> impl Iterator<Item = Fr> + '_ {
        self.integers.iter().map(|(negative, magnitude)| {
            let mut bytes = *magnitude;
            bytes.reverse();
            // Below 2^255 but perhaps not below r, so reduced.
            let mut wide = [0; 64];
            wide[32..].copy_from_slice(&bytes);
            let integer = Fr::from_wide(&wide);
            let scaled = self.common.as_ref().map_or(integer.clone(), |common| integer.mul(common));
            if *negative { scaled.neg() } else { scaled }
        })
    }

    fn buckets<G: Group>(&self, points: &[G::Affine]) -> G {
        let scalars: Vec<[u8; 32]> = self.integers.iter().map(|(_, magnitude)| *magnitude).collect();
        G::msm_vartime(points, &scalars, self.bits)
    }

    /// One doubling per bit for all points together, one addition per set bit.
    fn bit_by_bit<G: Group>(&self, points: &[G::Affine]) -> G {
        let mut sum = G::infinity();
        for bit in (0..self.bits).rev() {
            sum = sum.double();
            for (point, (_, magnitude)) in points.iter().zip(&self.integers) {
                if magnitude[bit / 8] >> (bit % 8) & 1 == 1 {
                    sum = sum.add_affine(point);
                }
            }
        }
        sum
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The textbook formula modulo r, written without the tables above.
    pub(crate) fn naive(i: u8, indices: &[u8]) -> Fr {
        let mut product = Fr::from_u64(1);
        for &j in indices.iter().filter(|&&j| j != i) {
            let difference = Fr::from_u64(j.into()).add(&Fr::from_u64(i.into()).neg());
            product = product.mul(&Fr::from_u64(j.into())).mul(&difference.inverse_vartime());
        }
        product
    }

    fn indices(list: &[u8]) -> Vec<ShareIndex> {
        list.iter().map(|&i| ShareIndex::new(i).unwrap()).collect()
    }

    fn assert_same(list: &[u8]) {
        let coefficients = at_zero(&indices(list)).unwrap();
        for (value, &i) in coefficients.scalars().zip(list) {
            assert!(value == naive(i, list), "index {i} of {list:?}");
        }
    }

    #[test]
    fn every_subset_of_up_to_ten_members_has_the_textbook_coefficients() {
        for set in 1_u16..1 << 10 {
            let list: Vec<u8> = (1..=10).filter(|i| set >> (i - 1) & 1 == 1).collect();
            assert_same(&list);
        }
    }

    #[test]
    fn large_committees_have_the_textbook_coefficients_in_any_order() {
        let spread: Vec<u8> = (1..=64).rev().step_by(3).collect();
        assert_same(&spread);
        assert_same(&(43..=64).collect::<Vec<_>>());
        assert_same(&(1..=64).collect::<Vec<_>>());
        assert_same(&(1..=64).filter(|i| i % 3 != 0).collect::<Vec<_>>());
        assert_same(&(22..=64).rev().collect::<Vec<_>>());
    }

    #[test]
    fn coefficients_of_3_of_4_have_at_most_4_bits() {
        for list in [[1, 2, 3], [1, 2, 4], [1, 3, 4], [2, 3, 4]] {
            assert!(at_zero(&indices(&list)).unwrap().bits <= 4, "{list:?}");
        }
    }

    #[test]
    fn coefficients_reduced_modulo_r_are_the_textbook_ones_too() {
        let list = [1, 3, 4, 9, 10, 27, 64];
        let indices = indices(&list);
        let fractions: Vec<_> = indices.iter().map(|&i| fraction(i, &indices).unwrap()).collect();
        let coefficients = full(&fractions);
        for (value, &i) in coefficients.scalars().zip(&list) {
            assert!(value == naive(i, &list), "index {i}");
        }
    }

    #[test]
    fn integers_stay_short_up_to_the_largest_committee() {
        // Odd numbers have many denominators. The bits decide between the two ways of multiplying.
        for (t, bits) in [(3, 4), (5, 9), (7, 14), (22, 56), (32, 83)] {
            let list: Vec<u8> = (1..=63).step_by(2).take(t).collect();
            assert_eq!(at_zero(&indices(&list)).unwrap().bits, bits, "{t}");
        }
    }

    #[test]
    fn an_index_twice_has_no_coefficients() {
        assert!(at_zero(&indices(&[1, 2, 2])).is_none());
    }
}
