//! JSON forms of `docs/protocol.md`, strict: one value has one spelling, and every length has a bound.
//!
//! A lenient decoder is how two programs come to disagree about one message. So: integers are decimal strings without
//! sign or leading zeros, bytes are `0x` and lowercase hex of the exact or bounded length, texts of others are cut off.

use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
use serde_json::error::Category;

/// Why a file is not the JSON that it must be, for people who know neither our types nor how they are read.
#[must_use]
pub fn json_reason(error: &serde_json::Error) -> String {
    let place = format!("line {}, column {}", error.line(), error.column());
    match error.classify() {
        Category::Eof if error.line() <= 1 && error.column() == 0 => "it is empty".to_owned(),
        Category::Eof => format!("it ends too early, at {place}"),
        Category::Syntax if error.to_string().starts_with("recursion limit") => {
            format!("it is nested too deep, at {place}")
        }
        Category::Syntax => format!("it is no JSON, at {place}"),
        Category::Io => error.to_string(),
        Category::Data => {
            let text = error.to_string();
            // "invalid type: sequence, expected struct Name at ..." and the like tell only how the program is made.
            if text.contains("expected struct") || text.contains("expected internally tagged") {
                return format!("it holds something else, at {place}");
            }
            plain(&text)
        }
    }
}

/// What serde says of a value, without its words for our types.
pub(crate) fn plain(said: &str) -> String {
    let (text, place) = said.split_once(" at line ").unwrap_or((said, ""));
    let thing = |name: &str| match name {
        "map" => "an object".to_owned(),
        "sequence" => "a list".to_owned(),
        "a borrowed string" => "a string".to_owned(),
        name if name.starts_with("struct ") || name.contains("tagged enum") => "an object".to_owned(),
        name => name.to_owned(),
    };
    let text = match text.strip_prefix("invalid type: ").and_then(|text| text.split_once(", expected ")) {
        Some((found, wanted)) => format!("{} where {} belongs", thing(found), thing(wanted)),
        None => text.to_owned(),
    };
    match place.split_once(" column ") {
        Some((line, column)) => format!("{text}, at line {line}, column {column}"),
        None => text,
    }
}

/// `0x` and lowercase hex to bytes, at most `max` of them.
fn decode(text: &str, max: usize) -> Result<Vec<u8>, String> {
    let digits = text.strip_prefix("0x").ok_or("bytes must start with 0x")?;
    if digits.len() > 2 * max {
        return Err(format!("{} bytes where at most {max} may be", digits.len() / 2));
    }
    if digits.bytes().any(|digit| digit.is_ascii_uppercase()) {
        return Err("hex must be lowercase".to_owned());
    }
    hex::decode(digits).map_err(|error| format!("not hex: {error}"))
}

fn encode(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

/// Byte arrays of exactly N bytes.
pub(crate) mod array {
    use super::*;

    pub(crate) fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(from: D) -> Result<[u8; N], D::Error> {
        let bytes = decode(&String::deserialize(from)?, N).map_err(D::Error::custom)?;
        let length = bytes.len();
        bytes.try_into().map_err(|_| D::Error::custom(format!("{length} bytes where {N} must be")))
    }
}

/// 32-byte hashes.
pub(crate) mod hash {
    use alloy_primitives::B256;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(hash: &B256, to: S) -> Result<S::Ok, S::Error> {
        array::serialize(&hash.0, to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<B256, D::Error> {
        array::deserialize::<D, 32>(from).map(B256::from)
    }
}

/// Addresses, in lowercase hex.
pub(crate) mod address {
    use alloy_primitives::Address;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(address: &Address, to: S) -> Result<S::Ok, S::Error> {
        array::serialize(&address.0.0, to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Address, D::Error> {
        array::deserialize::<D, 20>(from).map(Address::from)
    }
}

/// Byte strings of at most MAX bytes, whose wrong length is a fault of their signer and not of their carrier.
pub(crate) struct AtMost<const MAX: usize>;

impl<const MAX: usize> AtMost<MAX> {
    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        decode(&String::deserialize(from)?, MAX).map_err(D::Error::custom)
    }
}

/// Lists of at most MAX elements; the rest is not even read. For `#[serde(deserialize_with)]`.
#[derive(Debug)]
pub struct ListOf<const MAX: usize>;

impl<const MAX: usize> ListOf<MAX> {
    /// Reads the list.
    ///
    /// # Errors
    /// More elements than allowed, and those of the elements.
    pub fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
        struct Elements<T, const MAX: usize>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> serde::de::Visitor<'de> for Elements<T, MAX> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "a list of at most {MAX} elements")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
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
        from.deserialize_seq(Elements::<T, MAX>(std::marker::PhantomData))
    }
}

/// Integers as decimal strings.
pub(crate) mod decimal {
    use std::{fmt::Display, str::FromStr};

    use super::*;

    pub(crate) fn serialize<S: Serializer, T: Display>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: FromStr>(from: D) -> Result<T, D::Error> {
        parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }

    pub(super) fn parse<T: FromStr>(text: &str) -> Result<T, String> {
        let canonical = text == "0"
            || (!text.starts_with('0') && !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()));
        let value = if canonical { text.parse().ok() } else { None };
        value.ok_or_else(|| "not a decimal integer in range, without sign or leading zeros".to_owned())
    }
}

/// At most MAX integers as decimal strings.
pub(crate) struct DecimalsOf<const MAX: usize>;

impl<const MAX: usize> DecimalsOf<MAX> {
    pub(crate) fn serialize<S: Serializer, T: std::fmt::Display>(list: &[T], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(ToString::to_string))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: std::str::FromStr>(from: D) -> Result<Vec<T>, D::Error> {
        let texts: Vec<String> = ListOf::<MAX>::deserialize(from)?;
        texts.iter().map(|text| decimal::parse(text).map_err(D::Error::custom)).collect()
    }
}

/// An integer as a decimal string, or null.
pub(crate) mod optional_decimal {
    use std::{fmt::Display, str::FromStr};

    use super::*;

    pub(crate) fn serialize<S: Serializer, T: Display>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => decimal::serialize(value, to),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: FromStr>(from: D) -> Result<Option<T>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| decimal::parse(&text).map_err(D::Error::custom)).transpose()
    }
}

/// Share indices as decimal strings.
pub(crate) mod index {
    use stkr_core::ShareIndex;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(index: &ShareIndex, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&index.get())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ShareIndex, D::Error> {
        ShareIndex::new(decimal::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// A share index or null.
pub(crate) mod optional_index {
    use stkr_core::ShareIndex;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(index: &Option<ShareIndex>, to: S) -> Result<S::Ok, S::Error> {
        match index {
            Some(index) => index::serialize(index, to),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ShareIndex>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else {
            return Ok(None);
        };
        let index = decimal::parse(&text).map_err(D::Error::custom)?;
        ShareIndex::new(index).map(Some).map_err(D::Error::custom)
    }
}

/// At most 64 share indices.
pub(crate) mod indices {
    use serde::ser::SerializeSeq;
    use stkr_core::{MAX_MEMBERS, ShareIndex};

    use super::*;

    pub(crate) fn serialize<S: Serializer>(indices: &[ShareIndex], to: S) -> Result<S::Ok, S::Error> {
        let mut list = to.serialize_seq(Some(indices.len()))?;
        for index in indices {
            list.serialize_element(&index.get().to_string())?;
        }
        list.end()
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ShareIndex>, D::Error> {
        let texts: Vec<String> = ListOf::<{ MAX_MEMBERS as usize }>::deserialize(from)?;
        texts
            .iter()
            .map(|text| ShareIndex::new(decimal::parse(text).map_err(D::Error::custom)?).map_err(D::Error::custom))
            .collect()
    }
}

/// Text that another program wrote, for people: cut after 1000 characters, control characters dropped, so that it can
/// neither flood nor forge our logs.
pub(crate) mod text {
    use super::*;

    const MAX_CHARS: usize = 1000;

    pub(crate) fn serialize<S: Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
        String::deserialize(from).map(|text| clean(&text))
    }

    /// The same for a text or null.
    pub(crate) fn optional<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map(|text| clean(&text)))
    }

    fn clean(text: &str) -> String {
        text.chars().filter(|char| !char.is_control()).take(MAX_CHARS).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_our_names() {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Evidence {
            version: String,
        }
        let read = |text: &str| serde_json::from_str::<Evidence>(text).map(|it| it.version);
        let reason = |text: &str| json_reason(&read(text).unwrap_err());
        assert_eq!(reason(""), "it is empty");
        assert_eq!(reason("{\"version\":"), "it ends too early, at line 1, column 11");
        assert_eq!(reason("\u{0}\u{1}"), "it is no JSON, at line 1, column 1");
        let deep = serde_json::from_str::<serde_json::Value>(&"[".repeat(1_000)).unwrap_err();
        assert!(json_reason(&deep).starts_with("it is nested too deep, at line 1"), "{}", json_reason(&deep));
        for other in ["[]", "7", "\"x\""] {
            let told = reason(other);
            assert!(told.starts_with("it holds something else, at line 1"), "{told}");
        }
        assert!(reason("{}").contains("missing field `version`"));
    }

    #[derive(Deserialize, Debug)]
    struct Integer(#[serde(with = "decimal")] u16);
    #[derive(Deserialize, Debug)]
    struct Four(#[serde(with = "array")] [u8; 4]);
    #[derive(Deserialize, Debug)]
    struct UpToTwo(#[serde(with = "AtMost::<2>")] Vec<u8>);
    #[derive(Deserialize, Debug)]
    struct Three(#[serde(deserialize_with = "ListOf::<3>::deserialize")] Vec<u8>);
    #[derive(Deserialize, Debug)]
    struct Text(#[serde(with = "text")] String);
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Maybe(#[serde(with = "optional_decimal")] Option<u64>);

    #[test]
    fn integers_have_one_spelling() {
        assert_eq!(serde_json::from_str::<Integer>("\"0\"").unwrap().0, 0);
        assert_eq!(serde_json::from_str::<Integer>("\"65535\"").unwrap().0, 65535);
        for wrong in ["\"\"", "\"00\"", "\"01\"", "\"+1\"", "\"-1\"", "\" 1\"", "\"1.0\"", "\"0x1\"", "\"65536\"", "1"]
        {
            assert!(serde_json::from_str::<Integer>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_integer_that_may_be_missing_is_null_or_has_one_spelling() {
        for (value, text) in [(Maybe(None), "null"), (Maybe(Some(0)), "\"0\""), (Maybe(Some(7)), "\"7\"")] {
            assert_eq!(serde_json::to_string(&value).unwrap(), text);
            assert_eq!(serde_json::from_str::<Maybe>(text).unwrap(), value);
        }
        for wrong in ["\"\"", "\"07\"", "7", "\"null\""] {
            assert!(serde_json::from_str::<Maybe>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_have_one_spelling_and_one_length() {
        assert_eq!(serde_json::from_str::<Four>("\"0x00ff10ab\"").unwrap().0, [0, 255, 16, 171]);
        for wrong in
            ["\"00ff10ab\"", "\"0x00FF10AB\"", "\"0x00ff10a\"", "\"0x00ff10\"", "\"0x00ff10abcd\"", "\"0xzzzzzzzz\""]
        {
            assert!(serde_json::from_str::<Four>(wrong).is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<UpToTwo>("\"0x\"").unwrap().0.is_empty());
        assert_eq!(serde_json::from_str::<UpToTwo>("\"0x0102\"").unwrap().0, [1, 2]);
        assert!(serde_json::from_str::<UpToTwo>("\"0x010203\"").is_err());
    }

    #[test]
    fn a_long_list_is_refused_at_its_first_element_too_many() {
        assert_eq!(serde_json::from_str::<Three>("[1,2,3]").unwrap().0, [1, 2, 3]);
        let endless = format!("[1,2,3{}", ",4".repeat(100_000));
        let error = serde_json::from_str::<Three>(&endless).unwrap_err();
        assert!(error.to_string().contains("more than 3"), "{error}");
    }

    #[test]
    fn foreign_text_is_cut_and_cannot_start_a_new_log_line() {
        let long = format!("\"line\\nforged \\u001b[31m{}\"", "x".repeat(5000));
        let text = serde_json::from_str::<Text>(&long).unwrap().0;
        assert_eq!(text.len(), 1000);
        assert!(text.starts_with("lineforged [31m"));
    }
}
