//! Public keys and signatures: points that are never infinity and always in the subgroup.
//!
//! Both decoders of each type take any bytes and answer with a point or a reason. What they refuse, and why:
//! - **infinity** is a public key for which anybody can sign, and passes pairings;
//! - a point **outside the subgroup** lets a dealer commit to something other than the share it sends, and the
//!   EIP-2537 additions on-chain check no subgroup either;
//! - **non-zero EIP-2537 padding** and **coordinates >= p** are second encodings of one point: two hashes, two
//!   dealings, one meaning.

use std::fmt;

use crate::blst_glue::{self as glue, G1, G1Affine, G2, G2Affine, Group, Undecodable};

/// Domain separation tag of signatures: the ciphersuite of the consensus specs.
pub(crate) const SIGNATURE_TAG: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
/// Domain separation tag of proofs of possession. Not the one of signatures, or a duty could be passed
/// off as a proof.
pub(crate) const POSSESSION_TAG: &[u8] = b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

const FIELD_BYTES: usize = 48;
const FIELD_PADDING: usize = 16;
const FIELD_WORD: usize = FIELD_BYTES + FIELD_PADDING;
/// The three top bits of a coordinate, which no number below p sets and in which blst looks for flags.
const FLAG_BITS: u8 = 0b1110_0000;

/// Why bytes are no point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    /// Another number of bytes than the encoding has.
    #[error("a point has {expected} bytes in this encoding, not {got}")]
    Length {
        /// Bytes that the encoding has.
        expected: usize,
        /// Bytes that came.
        got: usize,
    },
    /// A non-zero byte in the 16 bytes before an EIP-2537 coordinate.
    #[error("the padding of an EIP-2537 coordinate is not zero")]
    Padding,
    /// Wrong flags, or a coordinate that is not below the field modulus.
    #[error("the bytes are no canonical encoding of a point: wrong flags or a coordinate above the modulus")]
    Encoding,
    /// No such point.
    #[error("the point is not on the curve")]
    NotOnCurve,
    /// The neutral element.
    #[error("the point is infinity, which is neither a key nor a signature")]
    Infinity,
    /// On the curve but not in the group of order r.
    #[error("the point is not in the subgroup of order r")]
    NotInSubgroup,
}

impl From<Undecodable> for PointError {
    fn from(reason: Undecodable) -> Self {
        match reason {
            Undecodable::Encoding => Self::Encoding,
            Undecodable::NotOnCurve => Self::NotOnCurve,
        }
    }
}

fn sized<const N: usize>(bytes: &[u8]) -> Result<&[u8; N], PointError> {
    bytes.try_into().map_err(|_| PointError::Length { expected: N, got: bytes.len() })
}

/// Copies EIP-2537 coordinates into the order in which blst wants them: `order[k]` says which word of the
/// input is coordinate k of the output.
fn strip_padding<const PADDED: usize, const PLAIN: usize>(
    bytes: &[u8],
    order: &[usize],
) -> Result<[u8; PLAIN], PointError> {
    let bytes = sized::<PADDED>(bytes)?;
    let mut plain = [0; PLAIN];
    for (target, &word) in plain.chunks_exact_mut(FIELD_BYTES).zip(order) {
        let (padding, coordinate) = bytes[word * FIELD_WORD..][..FIELD_WORD].split_at(FIELD_PADDING);
        if padding.iter().any(|&b| b != 0) {
            return Err(PointError::Padding);
        }
        if coordinate[0] & FLAG_BITS != 0 {
            return Err(PointError::Encoding);
        }
        target.copy_from_slice(coordinate);
    }
    if plain.iter().all(|&b| b == 0) {
        return Err(PointError::Infinity);
    }
    Ok(plain)
}

fn add_padding<const PLAIN: usize, const PADDED: usize>(plain: &[u8; PLAIN], order: &[usize]) -> [u8; PADDED] {
    let mut padded = [0; PADDED];
    for (coordinate, &word) in plain.chunks_exact(FIELD_BYTES).zip(order) {
        padded[word * FIELD_WORD + FIELD_PADDING..][..FIELD_BYTES].copy_from_slice(coordinate);
    }
    padded
}

/// A point of the curve of G1, whatever its subgroup, in EIP-2537 form; nothing for infinity: what the precompile for additions
/// takes. For judging what others sent, never for using it.
pub(crate) fn g1_on_curve(bytes: &[u8]) -> Result<Option<G1Affine>, PointError> {
    match strip_padding::<128, 96>(bytes, &G1_ORDER) {
        Ok(plain) => Ok(Some(glue::g1_deserialize(&plain)?)),
        Err(PointError::Infinity) => Ok(None),
        Err(error) => Err(error),
    }
}

const G1_ORDER: [usize; 2] = [0, 1];
/// EIP-2537 writes c0 before c1, the ZCash form the other way round.
const G2_ORDER: [usize; 4] = [1, 0, 3, 2];

macro_rules! point {
    ($(#[$doc:meta])* $name:ident, $group:ident, $affine:ident, $compressed:literal, $plain:literal, $padded:literal,
     $order:ident, $uncompress:path, $compress:path, $deserialize:path, $serialize:path, $is_inf:path, $in_group:path) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub(crate) $affine);

        impl $name {
            /// Bytes of the compressed form.
            pub const COMPRESSED_BYTES: usize = $compressed;
            /// Bytes of the EIP-2537 form.
            pub const EIP2537_BYTES: usize = $padded;

            /// Reads the compressed form with ZCash flags, as the beacon chain uses it.
            ///
            /// # Errors
            /// [`PointError`], for every input that is not the canonical encoding of a usable point.
            pub fn from_compressed(bytes: &[u8]) -> Result<Self, PointError> {
                Self::checked($uncompress(sized(bytes)?)?)
            }

            /// Reads the form of the EIP-2537 precompiles: each coordinate big-endian, padded on the left to 64.
            ///
            /// # Errors
            /// [`PointError`], for every input that is not the canonical encoding of a usable point.
            pub fn from_eip2537(bytes: &[u8]) -> Result<Self, PointError> {
                Self::checked($deserialize(&strip_padding::<$padded, $plain>(bytes, &$order)?)?)
            }

            fn checked(point: $affine) -> Result<Self, PointError> {
                if $is_inf(&point) {
                    return Err(PointError::Infinity);
                }
                if !$in_group(&point) {
                    return Err(PointError::NotInSubgroup);
                }
                Ok(Self(point))
            }

            /// A sum of points of the subgroup, so of the subgroup; `None` if it is infinity.
            pub(crate) fn from_group(point: &$group) -> Option<Self> {
                (!point.is_infinity()).then(|| Self(point.to_affine()))
            }

            /// The compressed form with ZCash flags.
            pub fn to_compressed(&self) -> [u8; $compressed] {
                $compress(&self.0)
            }

            /// The form of the EIP-2537 precompiles.
            pub fn to_eip2537(&self) -> [u8; $padded] {
                add_padding::<$plain, $padded>(&$serialize(&self.0), &$order)
            }
        }

        impl std::hash::Hash for $name {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                self.to_compressed().hash(state);
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "0x{}", hex::encode(self.to_compressed()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

point!(
    /// A point of G1: a group key, a share key or a commitment. Never infinity, always in the subgroup.
    /// Prints as `0x` and its 48 compressed bytes.
    PublicKey, G1, G1Affine, 48, 96, 128, G1_ORDER,
    glue::g1_uncompress, glue::g1_compress, glue::g1_deserialize, glue::g1_serialize,
    glue::g1_is_infinity, glue::g1_in_subgroup
);
point!(
    /// A point of G2: a signature, a partial signature or a proof of possession. Never infinity, always in
    /// the subgroup. Prints as `0x` and its 96 compressed bytes.
    Signature, G2, G2Affine, 96, 192, 256, G2_ORDER,
    glue::g2_uncompress, glue::g2_compress, glue::g2_deserialize, glue::g2_serialize,
    glue::g2_is_infinity, glue::g2_in_subgroup
);

/// Whether `signature` is that of `key` over the 32 bytes `message` (a signing root), in the
/// proof-of-possession ciphersuite (`BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_`).
///
/// # Performance
/// Hash to the curve and two pairings, about a millisecond.
pub fn verify(key: &PublicKey, message: &[u8; 32], signature: &Signature) -> bool {
    HashedMessage::signing_root(message).verifies(key, signature)
}

/// A message already hashed to G2, so that many signatures over it cost one hash.
pub(crate) struct HashedMessage(G2);

impl HashedMessage {
    pub(crate) fn signing_root(message: &[u8; 32]) -> Self {
        Self(glue::hash_to_g2(message, SIGNATURE_TAG))
    }

    pub(crate) fn possession(message: &[u8; 32]) -> Self {
        Self(glue::hash_to_g2(message, POSSESSION_TAG))
    }

    /// The secret is never 0: every caller has its public point in hand as a [`PublicKey`].
    pub(crate) fn sign(&self, secret: &glue::Fr) -> Signature {
        Signature(glue::g2_secret_mul(&self.0, secret).to_affine())
    }

    pub(crate) fn verifies(&self, key: &PublicKey, signature: &Signature) -> bool {
        glue::pairing_check(&key.0, &self.to_affine(), &signature.0)
    }

    pub(crate) fn to_affine(&self) -> G2Affine {
        self.0.to_affine()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::blst_glue::Fr;

    /// x = 4: the smallest x of a point on the curve of G1; it lies outside the subgroup.
    fn g1_outside_the_subgroup() -> [u8; 48] {
        let mut bytes = [0; 48];
        bytes[0] = 0x80;
        for x in 0..=u8::MAX {
            bytes[47] = x;
            if let Ok(point) = glue::g1_uncompress(&bytes) {
                assert!(!glue::g1_in_subgroup(&point));
                return bytes;
            }
        }
        panic!("no x below 256 is on the curve");
    }

    fn g2_outside_the_subgroup() -> [u8; 96] {
        let mut bytes = [0; 96];
        bytes[0] = 0x80;
        for x in 0..=u8::MAX {
            bytes[95] = x;
            if let Ok(point) = glue::g2_uncompress(&bytes) {
                assert!(!glue::g2_in_subgroup(&point));
                return bytes;
            }
        }
        panic!("no x below 256 is on the curve");
    }

    fn key(secret: u64) -> PublicKey {
        PublicKey::from_group(&glue::g1_generator_mul(&Fr::from_u64(secret))).unwrap()
    }

    fn signature(secret: u64) -> Signature {
        HashedMessage::signing_root(&[7; 32]).sign(&Fr::from_u64(secret))
    }

    #[test]
    fn points_outside_the_subgroup_are_refused_in_both_encodings() {
        let outside = g1_outside_the_subgroup();
        assert_eq!(PublicKey::from_compressed(&outside), Err(PointError::NotInSubgroup));
        let plain = glue::g1_serialize(&glue::g1_uncompress(&outside).unwrap());
        let padded: [u8; 128] = add_padding(&plain, &G1_ORDER);
        assert_eq!(PublicKey::from_eip2537(&padded), Err(PointError::NotInSubgroup));

        let outside = g2_outside_the_subgroup();
        assert_eq!(Signature::from_compressed(&outside), Err(PointError::NotInSubgroup));
        let plain = glue::g2_serialize(&glue::g2_uncompress(&outside).unwrap());
        let padded: [u8; 256] = add_padding(&plain, &G2_ORDER);
        assert_eq!(Signature::from_eip2537(&padded), Err(PointError::NotInSubgroup));
    }

    #[test]
    fn infinity_is_refused_in_both_encodings() {
        let mut compressed = [0; 96];
        compressed[0] = 0xc0;
        assert_eq!(PublicKey::from_compressed(&compressed[..48]), Err(PointError::Infinity));
        assert_eq!(Signature::from_compressed(&compressed), Err(PointError::Infinity));
        assert_eq!(PublicKey::from_eip2537(&[0; 128]), Err(PointError::Infinity));
        assert_eq!(Signature::from_eip2537(&[0; 256]), Err(PointError::Infinity));
    }

    #[test]
    fn a_point_off_the_curve_is_refused() {
        let mut bytes = key(5).to_eip2537();
        bytes[127] ^= 1;
        assert_eq!(PublicKey::from_eip2537(&bytes), Err(PointError::NotOnCurve));
        let mut bytes = signature(5).to_eip2537();
        bytes[255] ^= 1;
        assert_eq!(Signature::from_eip2537(&bytes), Err(PointError::NotOnCurve));
    }

    #[test]
    fn every_padding_byte_must_be_zero() {
        let point = key(5).to_eip2537();
        for position in (0..16).chain(64..80) {
            let mut bytes = point;
            bytes[position] = 1;
            assert_eq!(PublicKey::from_eip2537(&bytes), Err(PointError::Padding), "byte {position}");
        }
        let point = signature(5).to_eip2537();
        for position in (0..256).filter(|p| p % 64 < 16) {
            let mut bytes = point;
            bytes[position] = 1;
            assert_eq!(Signature::from_eip2537(&bytes), Err(PointError::Padding), "byte {position}");
        }
    }

    #[test]
    fn flag_bits_do_not_turn_an_eip2537_point_into_another_encoding() {
        // With the compression flag blst would read the first 48 bytes only and accept whatever follows.
        for flags in [0x80, 0xa0, 0x40, 0xc0, 0x20] {
            let compressed = key(5).to_compressed();
            let mut bytes = [0; 128];
            bytes[16..64].copy_from_slice(&compressed);
            bytes[16] = (bytes[16] & !FLAG_BITS) | flags;
            assert_eq!(PublicKey::from_eip2537(&bytes), Err(PointError::Encoding), "flags {flags:x}");
        }
    }

    #[test]
    fn a_coordinate_at_or_above_the_modulus_is_refused() {
        let modulus = hex::decode(
            "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab",
        )
        .unwrap();
        let mut bytes = key(5).to_eip2537();
        bytes[16..64].copy_from_slice(&modulus);
        assert_eq!(PublicKey::from_eip2537(&bytes), Err(PointError::Encoding));
    }

    #[test]
    fn a_wrong_length_names_both_lengths() {
        let error = PublicKey::from_compressed(&[0; 47]).unwrap_err();
        assert_eq!(error, PointError::Length { expected: 48, got: 47 });
        assert_eq!(error.to_string(), "a point has 48 bytes in this encoding, not 47");
        assert!(Signature::from_eip2537(&[0; 257]).is_err());
    }

    #[test]
    fn the_two_tags_do_not_accept_each_other() {
        let secret = Fr::from_u64(11);
        let message = [3; 32];
        let proof = HashedMessage::possession(&message).sign(&secret);
        assert!(HashedMessage::possession(&message).verifies(&key(11), &proof));
        assert!(!verify(&key(11), &message, &proof));
    }

    proptest! {
        #[test]
        fn both_encodings_return_the_same_point(secret in 1_u64..) {
            let (key, signature) = (key(secret), signature(secret));
            prop_assert_eq!(PublicKey::from_compressed(&key.to_compressed()), Ok(key));
            prop_assert_eq!(PublicKey::from_eip2537(&key.to_eip2537()), Ok(key));
            prop_assert_eq!(Signature::from_compressed(&signature.to_compressed()), Ok(signature));
            prop_assert_eq!(Signature::from_eip2537(&signature.to_eip2537()), Ok(signature));
        }

        #[test]
        fn decoders_take_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for length in [bytes.len(), 48, 96, 128, 192, 256] {
                let bytes = &bytes[..length.min(bytes.len())];
                if let Ok(point) = PublicKey::from_compressed(bytes) { prop_assert_eq!(&point.to_compressed()[..], bytes); }
                if let Ok(point) = PublicKey::from_eip2537(bytes) { prop_assert_eq!(&point.to_eip2537()[..], bytes); }
                if let Ok(point) = Signature::from_compressed(bytes) { prop_assert_eq!(&point.to_compressed()[..], bytes); }
                if let Ok(point) = Signature::from_eip2537(bytes) { prop_assert_eq!(&point.to_eip2537()[..], bytes); }
            }
        }

        /// Near misses reach deeper than noise: what still decodes after a flipped bit is itself canonical.
        #[test]
        fn a_flipped_bit_gives_an_error_or_another_canonical_point(secret in 1_u64.., bit in 0_usize..768) {
            let mut bytes = key(secret).to_compressed();
            bytes[(bit / 8) % 48] ^= 1 << (bit % 8);
            if let Ok(point) = PublicKey::from_compressed(&bytes) {
                prop_assert_ne!(point, key(secret));
                prop_assert_eq!(point.to_compressed(), bytes);
            }
            let mut bytes = signature(secret).to_compressed();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(point) = Signature::from_compressed(&bytes) {
                prop_assert_eq!(point.to_compressed(), bytes);
            }
        }
    }
}
