//! The only unsafe code of Stkr: blst's C functions behind safe ones.
//!
//! Every wrapper passes references to initialised Rust values of blst's own `repr(C)` types, so each pointer
//! is valid, aligned and of the length that the C function reads or writes. Nothing is kept after a call.
//! Functions whose names end in `_vartime` leak their scalars through time and take public values only.
#![allow(unsafe_code)]

use blst::{BLST_ERROR, blst_fp12, blst_fr, blst_p1, blst_p1_affine, blst_p2, blst_p2_affine, blst_scalar};
use zeroize::Zeroize;

/// An element of the scalar field (Montgomery form), wiped when dropped.
#[derive(Clone, Default)]
pub(crate) struct Fr(blst_fr);

impl Drop for Fr {
    fn drop(&mut self) {
        self.0.l.zeroize();
    }
}

impl zeroize::ZeroizeOnDrop for Fr {}

impl PartialEq for Fr {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq;
        self.0.l.ct_eq(&other.0.l).into()
    }
}

impl Fr {
    /// `None` unless `bytes` (big-endian) is below r.
    pub(crate) fn from_canonical(bytes: &[u8; 32]) -> Option<Self> {
        let mut scalar = blst_scalar::default();
        let mut out = Self::default();
        // SAFETY: 32 bytes are read from `bytes`; `scalar` and `out` are initialised (module comment).
        unsafe {
            blst::blst_scalar_from_bendian(&mut scalar, bytes.as_ptr());
            if !blst::blst_scalar_fr_check(&scalar) {
                return None;
            }
            blst::blst_fr_from_scalar(&mut out.0, &scalar);
        }
        Some(out)
    }

    /// 64 bytes (big-endian) reduced modulo r; the bias of uniform bytes is below 2^-256.
    pub(crate) fn from_wide(bytes: &[u8; 64]) -> Self {
        let mut scalar = blst_scalar::default();
        let mut out = Self::default();
        // SAFETY: the length passed is that of `bytes`; `scalar` and `out` are initialised.
        unsafe {
            blst::blst_scalar_from_be_bytes(&mut scalar, bytes.as_ptr(), bytes.len());
            blst::blst_fr_from_scalar(&mut out.0, &scalar);
        }
        out
    }

    pub(crate) fn from_u64(value: u64) -> Self {
        let limbs = [value, 0, 0, 0];
        let mut out = Self::default();
        // SAFETY: the function reads four limbs, which `limbs` has.
        unsafe { blst::blst_fr_from_uint64(&mut out.0, limbs.as_ptr()) };
        out
    }

    pub(crate) fn to_bytes(&self) -> zeroize::Zeroizing<[u8; 32]> {
        let mut bytes = zeroize::Zeroizing::new([0; 32]);
        let scalar = self.scalar();
        // SAFETY: the function writes 32 bytes, which `bytes` has.
        unsafe { blst::blst_bendian_from_scalar(bytes.as_mut_ptr(), &scalar) };
        bytes
    }

    pub(crate) fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn add(&self, other: &Self) -> Self {
        let mut out = Self::default();
        // SAFETY: module comment.
        unsafe { blst::blst_fr_add(&mut out.0, &self.0, &other.0) };
        out
    }

    pub(crate) fn mul(&self, other: &Self) -> Self {
        let mut out = Self::default();
        // SAFETY: module comment.
        unsafe { blst::blst_fr_mul(&mut out.0, &self.0, &other.0) };
        out
    }

    pub(crate) fn neg(&self) -> Self {
        let mut out = Self::default();
        // SAFETY: module comment.
        unsafe { blst::blst_fr_cneg(&mut out.0, &self.0, true) };
        out
    }

    /// The inverse of a public value; 0 gives 0.
    pub(crate) fn inverse_vartime(&self) -> Self {
        let mut out = Self::default();
        // SAFETY: module comment.
        unsafe { blst::blst_fr_eucl_inverse(&mut out.0, &self.0) };
        out
    }

    /// The same number as blst's byte scalar (little-endian), which wipes itself when dropped.
    fn scalar(&self) -> blst_scalar {
        let mut scalar = blst_scalar::default();
        // SAFETY: module comment.
        unsafe { blst::blst_scalar_from_fr(&mut scalar, &self.0) };
        scalar
    }
}

/// Group operations that G1 and G2 share, so that each algorithm is written once.
pub(crate) trait Group: Copy {
    type Affine: Copy;

    fn infinity() -> Self;
    fn to_affine(&self) -> Self::Affine;
    fn is_infinity(&self) -> bool;
    fn add(&self, other: &Self) -> Self;
    fn add_affine(&self, other: &Self::Affine) -> Self;
    fn double(&self) -> Self;
    fn negate_affine(point: &Self::Affine) -> Self::Affine;
    /// Constant time in the scalar.
    fn mul(&self, scalar: &Fr) -> Self;
    /// The sum of scalar times point; scalars little-endian, 32 bytes each, only the low `bits` count.
    /// Returns infinity for no points. Lists of unequal length: the shorter counts.
    fn msm_vartime(points: &[Self::Affine], scalars: &[[u8; 32]], bits: usize) -> Self;
}

macro_rules! group {
    ($name:ident, $raw:ident, $affine:ident, $to_affine:ident, $is_inf:ident, $add:ident,
     $add_affine:ident, $double:ident, $mult:ident, $coordinate_neg:ident, $scratch:ident, $msm:ident) => {
        #[derive(Clone, Copy)]
        pub(crate) struct $name($raw);

        impl Group for $name {
            type Affine = $affine;

            fn infinity() -> Self {
                Self($raw::default())
            }

            fn to_affine(&self) -> $affine {
                let mut out = $affine::default();
                // SAFETY: module comment.
                unsafe { blst::$to_affine(&mut out, &self.0) };
                out
            }

            fn is_infinity(&self) -> bool {
                // SAFETY: module comment.
                unsafe { blst::$is_inf(&self.0) }
            }

            fn add(&self, other: &Self) -> Self {
                let mut out = Self::infinity();
                // SAFETY: module comment.
                unsafe { blst::$add(&mut out.0, &self.0, &other.0) };
                out
            }

            fn add_affine(&self, other: &$affine) -> Self {
                let mut out = Self::infinity();
                // SAFETY: module comment.
                unsafe { blst::$add_affine(&mut out.0, &self.0, other) };
                out
            }

            fn double(&self) -> Self {
                let mut out = Self::infinity();
                // SAFETY: module comment.
                unsafe { blst::$double(&mut out.0, &self.0) };
                out
            }

            fn negate_affine(point: &$affine) -> $affine {
                let mut out = *point;
                // SAFETY: module comment.
                unsafe { blst::$coordinate_neg(&mut out.y, &point.y, true) };
                out
            }

            fn mul(&self, scalar: &Fr) -> Self {
                let mut out = Self::infinity();
                let scalar = scalar.scalar();
                // SAFETY: 255 bits are read from the 32 bytes of `scalar`.
                unsafe { blst::$mult(&mut out.0, &self.0, scalar.b.as_ptr(), SCALAR_BITS) };
                out
            }

            fn msm_vartime(points: &[$affine], scalars: &[[u8; 32]], bits: usize) -> Self {
                let count = points.len().min(scalars.len());
                let bytes_per_scalar = bits.div_ceil(8).min(32);
                let mut out = Self::infinity();
                if count == 0 || bits == 0 {
                    return out;
                }
                // blst strides scalars by the bytes that `bits` need.
                let packed: Vec<u8> =
                    scalars.iter().take(count).flat_map(|s| s.iter().take(bytes_per_scalar).copied()).collect();
                // A null second entry means: the points follow one another in memory.
                let point_list = [points.as_ptr(), std::ptr::null()];
                let scalar_list = [packed.as_ptr(), std::ptr::null()];
                // SAFETY: `count` points and `count` packed scalars lie behind the pointers; the scratch space
                // has the size in bytes that blst asks for and the alignment of a limb.
                unsafe {
                    let mut scratch = vec![0_u64; blst::$scratch(count).div_ceil(8)];
                    blst::$msm(
                        &mut out.0,
                        point_list.as_ptr(),
                        count,
                        scalar_list.as_ptr(),
                        bits.min(256),
                        scratch.as_mut_ptr(),
                    );
                }
                out
            }
        }
    };
}

/// r has 255 bits.
pub(crate) const SCALAR_BITS: usize = 255;

group!(
    G1,
    blst_p1,
    blst_p1_affine,
    blst_p1_to_affine,
    blst_p1_is_inf,
    blst_p1_add_or_double,
    blst_p1_add_or_double_affine,
    blst_p1_double,
    blst_p1_mult,
    blst_fp_cneg,
    blst_p1s_mult_pippenger_scratch_sizeof,
    blst_p1s_mult_pippenger
);
group!(
    G2,
    blst_p2,
    blst_p2_affine,
    blst_p2_to_affine,
    blst_p2_is_inf,
    blst_p2_add_or_double,
    blst_p2_add_or_double_affine,
    blst_p2_double,
    blst_p2_mult,
    blst_fp2_cneg,
    blst_p2s_mult_pippenger_scratch_sizeof,
    blst_p2s_mult_pippenger
);

pub(crate) type G1Affine = blst_p1_affine;
pub(crate) type G2Affine = blst_p2_affine;

/// Secret scalar times the generator of G1, in constant time.
pub(crate) fn g1_generator_mul(scalar: &Fr) -> G1 {
    let mut out = blst_p1::default();
    let scalar = scalar.scalar();
    // SAFETY: module comment.
    unsafe { blst::blst_sk_to_pk_in_g1(&mut out, &scalar) };
    G1(out)
}

/// Secret scalar times a point of G2 in the subgroup, in constant time.
pub(crate) fn g2_secret_mul(point: &G2, scalar: &Fr) -> G2 {
    let mut out = blst_p2::default();
    let scalar = scalar.scalar();
    // SAFETY: module comment.
    unsafe { blst::blst_sign_pk_in_g1(&mut out, &point.0, &scalar) };
    G2(out)
}

/// RFC 9380 hash to G2 (`XMD:SHA-256_SSWU_RO_`) under the domain separation tag.
pub(crate) fn hash_to_g2(message: &[u8], tag: &[u8]) -> G2 {
    let mut out = blst_p2::default();
    // SAFETY: each pointer goes with the length of its slice; no augmentation is passed.
    unsafe {
        blst::blst_hash_to_g2(&mut out, message.as_ptr(), message.len(), tag.as_ptr(), tag.len(), std::ptr::null(), 0);
    }
    G2(out)
}

/// Whether e(key, hash) = e(generator, signature); all four in their subgroups.
pub(crate) fn pairing_check(key: &G1Affine, hash: &G2Affine, signature: &G2Affine) -> bool {
    pairing_product(&[(*key, *hash)], signature)
}

/// Whether the product of e(key, hash) over `pairs` is e(generator, signature); all in their subgroups, none infinity.
pub(crate) fn pairing_product(pairs: &[(G1Affine, G2Affine)], signature: &G2Affine) -> bool {
    // SAFETY: a constant of blst, initialised at load.
    let generator_negated = unsafe { blst::BLS12_381_NEG_G1 };
    let (mut g1, mut g2): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
    g1.push(generator_negated);
    g2.push(*signature);
    let g1_list = [g1.as_ptr(), std::ptr::null()];
    let g2_list = [g2.as_ptr(), std::ptr::null()];
    let mut product = blst_fp12::default();
    let mut result = blst_fp12::default();
    // SAFETY: `g1.len()` points lie behind each pointer; a null second entry means that they are contiguous.
    unsafe {
        blst::blst_miller_loop_n(&mut product, g2_list.as_ptr(), g1_list.as_ptr(), g1.len());
        blst::blst_final_exp(&mut result, &product);
        blst::blst_fp12_is_one(&result)
    }
}

/// What blst says about a serialised point. Infinity and the subgroup are the caller's to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undecodable {
    Encoding,
    NotOnCurve,
}

fn outcome(error: BLST_ERROR) -> Result<(), Undecodable> {
    match error {
        BLST_ERROR::BLST_SUCCESS => Ok(()),
        BLST_ERROR::BLST_POINT_NOT_ON_CURVE => Err(Undecodable::NotOnCurve),
        _ => Err(Undecodable::Encoding),
    }
}

macro_rules! codec {
    ($affine:ident, $compressed:literal, $plain:literal, $uncompress:ident, $compress:ident, $deserialize:ident,
     $serialize:ident, $is_inf:ident, $in_group:ident; $fn_uncompress:ident, $fn_compress:ident,
     $fn_deserialize:ident, $fn_serialize:ident, $fn_is_inf:ident, $fn_in_group:ident) => {
        pub(crate) fn $fn_uncompress(bytes: &[u8; $compressed]) -> Result<$affine, Undecodable> {
            let mut out = $affine::default();
            // SAFETY: the function reads the number of bytes that the array type has.
            outcome(unsafe { blst::$uncompress(&mut out, bytes.as_ptr()) })?;
            Ok(out)
        }

        pub(crate) fn $fn_compress(point: &$affine) -> [u8; $compressed] {
            let mut out = [0; $compressed];
            // SAFETY: the function writes the number of bytes that the array type has.
            unsafe { blst::$compress(out.as_mut_ptr(), point) };
            out
        }

        /// The ZCash uncompressed form. The caller has refused set flag bits: with them blst would read
        /// the bytes as a compressed point or as infinity.
        pub(crate) fn $fn_deserialize(bytes: &[u8; $plain]) -> Result<$affine, Undecodable> {
            let mut out = $affine::default();
            // SAFETY: the function reads at most the number of bytes that the array type has.
            outcome(unsafe { blst::$deserialize(&mut out, bytes.as_ptr()) })?;
            Ok(out)
        }

        pub(crate) fn $fn_serialize(point: &$affine) -> [u8; $plain] {
            let mut out = [0; $plain];
            // SAFETY: the function writes the number of bytes that the array type has.
            unsafe { blst::$serialize(out.as_mut_ptr(), point) };
            out
        }

        pub(crate) fn $fn_is_inf(point: &$affine) -> bool {
            // SAFETY: module comment.
            unsafe { blst::$is_inf(point) }
        }

        pub(crate) fn $fn_in_group(point: &$affine) -> bool {
            // SAFETY: module comment.
            unsafe { blst::$in_group(point) }
        }
    };
}

codec!(
    blst_p1_affine, 48, 96, blst_p1_uncompress, blst_p1_affine_compress, blst_p1_deserialize,
    blst_p1_affine_serialize, blst_p1_affine_is_inf, blst_p1_affine_in_g1;
    g1_uncompress, g1_compress, g1_deserialize, g1_serialize, g1_is_infinity, g1_in_subgroup
);
codec!(
    blst_p2_affine, 96, 192, blst_p2_uncompress, blst_p2_affine_compress, blst_p2_deserialize,
    blst_p2_affine_serialize, blst_p2_affine_is_inf, blst_p2_affine_in_g2;
    g2_uncompress, g2_compress, g2_deserialize, g2_serialize, g2_is_infinity, g2_in_subgroup
);
