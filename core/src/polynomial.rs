//! Secret polynomials and their commitments.

use crate::{
    PublicKey, RandomnessError, ShareIndex,
    blst_glue::{Fr, G1, Group, g1_generator_mul},
};

/// A polynomial over the scalars with random coefficients, constant term first; wiped when dropped.
pub(crate) struct Polynomial(Vec<Fr>);

/// A random scalar. 64 bytes are reduced, so that no value is likelier than another.
pub(crate) fn random_scalar() -> Result<Fr, RandomnessError> {
    let mut wide = zeroize::Zeroizing::new([0; 64]);
    crate::fill_random(wide.as_mut())?;
    Ok(Fr::from_wide(&wide))
}

impl Polynomial {
    /// `coefficients` random coefficients: degree `coefficients - 1`.
    pub(crate) fn random(coefficients: u8) -> Result<Self, RandomnessError> {
        Self::extend(None, coefficients)
    }

    /// A random polynomial with `coefficients` coefficients whose value at 0 is `constant_term`.
    pub(crate) fn random_through(constant_term: Fr, coefficients: u8) -> Result<Self, RandomnessError> {
        Self::extend(Some(constant_term), coefficients)
    }

    /// Room for all of them at once: a list that grows leaves what it held before in memory that nobody wipes.
    fn extend(constant_term: Option<Fr>, coefficients: u8) -> Result<Self, RandomnessError> {
        let mut all = Vec::with_capacity(coefficients.into());
        all.extend(constant_term);
        while all.len() < coefficients.into() {
            all.push(random_scalar()?);
        }
        Ok(Self(all))
    }

    /// The value at a member's index times the generator; `None` if it is 0.
    #[cfg(any(test, feature = "splitter"))]
    pub(crate) fn key_at(&self, index: ShareIndex) -> Option<PublicKey> {
        PublicKey::from_group(&g1_generator_mul(&self.at(index)))
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn from_coefficients(coefficients: Vec<Fr>) -> Self {
        Self(coefficients)
    }

    /// The value at a member's index, in constant time.
    pub(crate) fn at(&self, index: ShareIndex) -> Fr {
        let x = Fr::from_u64(index.get().into());
        self.0.iter().rev().fold(Fr::default(), |sum, coefficient| sum.mul(&x).add(coefficient))
    }

    /// The constant term; 0 for no coefficients, which no threshold allows.
    pub(crate) fn constant_term(&self) -> Fr {
        self.0.first().cloned().unwrap_or_default()
    }

    /// Each coefficient times the generator; `None` if one is 0.
    pub(crate) fn commitments(&self) -> Option<Vec<PublicKey>> {
        self.0.iter().map(|c| PublicKey::from_group(&g1_generator_mul(c))).collect()
    }
}

/// The committed polynomial at `index`, "in the exponent": Horner's rule with a multiplier of at most 7 bits.
pub(crate) fn evaluate_commitments(commitments: &[PublicKey], index: ShareIndex) -> G1 {
    let mut sum = G1::infinity();
    for commitment in commitments.iter().rev() {
        sum = times_small(&sum, index.get()).add_affine(&commitment.0);
    }
    sum
}

/// Double and add; the factor is public.
pub(crate) fn times_small(point: &G1, factor: u8) -> G1 {
    let mut product = G1::infinity();
    for bit in (0..u8::BITS - factor.leading_zeros()).rev() {
        product = product.double();
        if factor >> bit & 1 == 1 {
            product = product.add(point);
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commitments_evaluate_to_the_share_keys() {
        for coefficients in 1..=22 {
            let polynomial = Polynomial::random(coefficients).unwrap();
            let commitments = polynomial.commitments().unwrap();
            for index in [1, 2, 7, 63, 64] {
                let index = ShareIndex::new(index).unwrap();
                let expected = PublicKey::from_group(&g1_generator_mul(&polynomial.at(index)));
                assert_eq!(PublicKey::from_group(&evaluate_commitments(&commitments, index)), expected);
            }
        }
    }

    #[test]
    fn coefficients_never_move_in_memory() {
        for coefficients in 1..=64 {
            let capacity = |polynomial: Polynomial| polynomial.0.capacity();
            assert_eq!(capacity(Polynomial::random(coefficients).unwrap()), usize::from(coefficients));
            let through = Polynomial::random_through(Fr::from_u64(1), coefficients).unwrap();
            assert_eq!(capacity(through), usize::from(coefficients));
        }
    }

    #[test]
    fn a_polynomial_with_a_zero_coefficient_has_no_commitments() {
        assert!(Polynomial::from_coefficients(vec![Fr::from_u64(1), Fr::default()]).commitments().is_none());
    }
}
