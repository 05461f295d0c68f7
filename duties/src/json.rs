//! JSON as Web3Signer's OpenAPI file spells it: integers are decimal strings, bytes are `0x` and hex digits of either
//! case, bit fields are the hex of their SSZ encoding.
//!
//! No error repeats what it read: a log line must not grow with a request.

use std::{fmt, marker::PhantomData};

use alloy_primitives::B256;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
};

/// The longest fixed-size value: a BLS signature.
const MAX_BYTES: usize = 96;

/// Values of a fixed number of bytes.
pub(crate) mod bytes {
    use super::*;

    pub(crate) fn serialize<T: AsRef<[u8]>, S: Serializer>(bytes: &T, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("0x{}", hex::encode(bytes)))
    }

    pub(crate) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: for<'a> TryFrom<&'a [u8]>,
        D: Deserializer<'de>,
    {
        from.deserialize_str(Hex(PhantomData))
    }

    struct Hex<T>(PhantomData<T>);

    impl<T: for<'a> TryFrom<&'a [u8]>> Visitor<'_> for Hex<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "0x and {} hex digits", 2 * size_of::<T>())
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            const { assert!(size_of::<T>() <= MAX_BYTES) };
            let mut buffer = [0; MAX_BYTES];
            let bytes = &mut buffer[..size_of::<T>()];
            let digits = text.strip_prefix("0x").ok_or_else(|| E::custom("bytes must start with 0x"))?;
            if digits.len() != 2 * bytes.len() {
                return Err(E::custom(format!("{} hex digits where {} must be", digits.len(), 2 * bytes.len())));
            }
            hex::decode_to_slice(digits, bytes).map_err(|_| E::custom("not hex"))?;
            T::try_from(bytes).map_err(|_| E::custom("wrong length"))
        }
    }
}

/// A `u64` as a decimal string without sign and without leading zeros.
pub(crate) mod decimal {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        from.deserialize_str(Decimal)
    }

    struct Decimal;

    impl Visitor<'_> for Decimal {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a decimal integer in a string")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|digit| digit.is_ascii_digit()));
            let value = if canonical { text.parse().ok() } else { None };
            value.ok_or_else(|| E::custom("not a decimal integer of 64 bits, without sign or leading zeros"))
        }
    }
}

/// A fixed-size value where no attribute can be set: inside `Option` and lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent, bound(serialize = "T: AsRef<[u8]>", deserialize = "T: for<'a> TryFrom<&'a [u8]>"))]
pub(crate) struct Hex<T>(#[serde(with = "bytes")] pub(crate) T);

/// Lists of at most `MAX` elements; the rest is not even read.
pub(crate) struct AtMost<const MAX: usize>;

impl<const MAX: usize> AtMost<MAX> {
    pub(crate) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
        struct List<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX} elements")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = list.next_element()? {
                    if elements.len() == MAX {
                        return Err(A::Error::custom(format!("a list of more than {MAX} elements")));
                    }
                    elements.push(element);
                }
                Ok(elements)
            }
        }
        from.deserialize_seq(List::<T, MAX>(PhantomData))
    }
}

/// At most `MAX` hashes.
pub(crate) struct Hashes<const MAX: usize>;

impl<const MAX: usize> Hashes<MAX> {
    pub(crate) fn serialize<S: Serializer>(hashes: &[B256], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(hashes.iter().copied().map(Hex))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<B256>, D::Error> {
        let hashes: Vec<Hex<B256>> = AtMost::<MAX>::deserialize(from)?;
        Ok(hashes.into_iter().map(|Hex(hash)| hash).collect())
    }
}
