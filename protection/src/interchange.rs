//! The interchange format of EIP-3076, version 5: read strictly and in a stream, written in a stream.
//!
//! Read: every field of the standard's schema and no other; integers as decimal strings without sign or leading zeros,
//! at most 2^63 - 1; byte strings as `0x` and hex digits; a missing `signing_root` (or `null`) means unknown. The file may
//! have at most [`MAX_BYTES`], an entry at most [`MAX_RECORDS`] blocks and as many attestations; only one entry is in
//! memory at a time.

use std::fmt;
use std::io::{self, Read, Write};
use std::marker::PhantomData;

use alloy_primitives::{B256, FixedBytes, hex};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::duty::{Epochs, Pubkey, SignedAttestation, SignedBlock};

/// The only version there is.
pub(crate) const VERSION: &str = "5";
/// Longest file: 10,000 validators with a complete history of two weeks.
pub const MAX_BYTES: u64 = 8 << 30;
/// Most blocks, and most attestations, of one entry: more than a validator can sign in ten years.
pub const MAX_RECORDS: usize = 1 << 20;
/// Most entries of a file.
pub const MAX_ENTRIES: usize = 1 << 18;

/// Why an interchange file is refused. Nothing of it was imported.
#[derive(Debug, thiserror::Error)]
pub enum InterchangeError {
    /// Not the format.
    #[error("the interchange file is malformed: {0}")]
    Malformed(#[source] serde_json::Error),
    /// It could not be read to its end.
    #[error("the interchange file cannot be read: {0}")]
    Read(#[source] io::Error),
    /// Longer than [`MAX_BYTES`].
    #[error("the interchange file is longer than {MAX_BYTES} bytes; export fewer keys at a time")]
    TooLong,
    /// Of another version.
    #[error("the interchange file has format version {0:?}; only \"{VERSION}\" is known")]
    Version(String),
    /// Of another network.
    #[error("the interchange file belongs to the network with genesis validators root {found}, not {expected}")]
    OtherNetwork {
        /// In the file.
        found: B256,
        /// Of the database.
        expected: B256,
    },
}

/// One entry of `data`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) pubkey: Pubkey,
    pub(crate) blocks: Vec<SignedBlock>,
    pub(crate) attestations: Vec<SignedAttestation>,
}

/// Reads a file and hands each entry to `sink`, in order. What `sink` was given counts only if this returns `Ok`, for the
/// file may turn out to be malformed, or another network's, at its very end.
pub(crate) fn read<E: From<InterchangeError>>(
    reader: impl Read,
    genesis_validators_root: B256,
    mut sink: impl FnMut(Entry) -> Result<(), E>,
) -> Result<(), E> {
    let mut failed = None;
    let mut each = |entry| sink(entry).map_err(|error| failed = Some(error)).is_ok();
    let limited = Limited { reader: io::BufReader::new(reader), left: MAX_BYTES };
    let mut json = serde_json::Deserializer::from_reader(limited);
    let metadata = File { sink: &mut each }.deserialize(&mut json).and_then(|metadata| json.end().map(|()| metadata));
    if let Some(error) = failed {
        return Err(error);
    }
    let metadata = metadata.map_err(refused)?;
    if metadata.interchange_format_version != VERSION {
        return Err(InterchangeError::Version(metadata.interchange_format_version).into());
    }
    let found = metadata.genesis_validators_root.0.into();
    if found != genesis_validators_root {
        return Err(InterchangeError::OtherNetwork { found, expected: genesis_validators_root }.into());
    }
    Ok(())
}

/// Reads a file as an import does and writes what was understood, entry by entry as it came, in the form of an export.
///
/// # Errors
/// As an import. What was written until then is worth nothing.
pub fn normalise(reader: impl Read, genesis_validators_root: B256, writer: impl Write) -> Result<(), InterchangeError> {
    let mut writer = Writer::begin(writer, genesis_validators_root).map_err(InterchangeError::Read)?;
    read(reader, genesis_validators_root, |entry: Entry| {
        let Entry { pubkey, blocks, attestations } = entry;
        let written = writer.key(&pubkey, None, blocks.into_iter().map(Ok), None, attestations.into_iter().map(Ok));
        match written {
            Ok(_) => Ok(()),
            Err(error) => Err(InterchangeError::Read(io::Error::other(error))),
        }
    })?;
    writer.end().map_err(InterchangeError::Read)
}

fn refused(error: serde_json::Error) -> InterchangeError {
    if !error.is_io() {
        return InterchangeError::Malformed(error);
    }
    match io::Error::from(error) {
        error if error.kind() == io::ErrorKind::FileTooLarge => InterchangeError::TooLong,
        error => InterchangeError::Read(error),
    }
}

/// Ends with an error, not with an end, after `left` bytes.
struct Limited<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(count)
    }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    interchange_format_version: String,
    genesis_validators_root: Hex<32>,
}

/// The top level, in either order of its fields.
struct File<'a, F> {
    sink: &'a mut F,
}

impl<'de, F: FnMut(Entry) -> bool> DeserializeSeed<'de> for File<'_, F> {
    type Value = Metadata;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Metadata, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(Entry) -> bool> Visitor<'de> for File<'_, F> {
    type Value = Metadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with metadata and data")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
        let mut metadata = None;
        let mut data = false;
        while let Some(field) = map.next_key::<String>()? {
            match field.as_str() {
                "metadata" if metadata.is_none() => metadata = Some(map.next_value()?),
                "data" if !data => {
                    map.next_value_seed(Data { sink: &mut *self.sink })?;
                    data = true;
                }
                "metadata" | "data" => return Err(A::Error::custom(format_args!("{field} is there twice"))),
                _ => return Err(A::Error::unknown_field(&field, &["metadata", "data"])),
            }
        }
        if !data {
            return Err(A::Error::missing_field("data"));
        }
        metadata.ok_or_else(|| A::Error::missing_field("metadata"))
    }
}

struct Data<'a, F> {
    sink: &'a mut F,
}

impl<'de, F: FnMut(Entry) -> bool> DeserializeSeed<'de> for Data<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Entry) -> bool> Visitor<'de> for Data<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of validators")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut count = 0;
        while let Some(entry) = list.next_element::<RawEntry>()? {
            count += 1;
            if count > MAX_ENTRIES {
                return Err(A::Error::custom(format_args!("data has more than {MAX_ENTRIES} entries")));
            }
            if !(self.sink)(entry.into()) {
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    pubkey: Hex<48>,
    signed_blocks: Records<RawBlock>,
    signed_attestations: Records<RawAttestation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBlock {
    slot: Decimal,
    #[serde(default)]
    signing_root: Option<Hex<32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAttestation {
    source_epoch: Decimal,
    target_epoch: Decimal,
    #[serde(default)]
    signing_root: Option<Hex<32>>,
}

impl From<RawEntry> for Entry {
    fn from(raw: RawEntry) -> Self {
        let root = |root: Option<Hex<32>>| root.map(|root| B256::from(root.0));
        let block = |raw: RawBlock| SignedBlock { slot: raw.slot.0, signing_root: root(raw.signing_root) };
        let attestation = |raw: RawAttestation| SignedAttestation {
            source_epoch: raw.source_epoch.0,
            target_epoch: raw.target_epoch.0,
            signing_root: root(raw.signing_root),
        };
        Self {
            pubkey: FixedBytes(raw.pubkey.0),
            blocks: raw.signed_blocks.0.into_iter().map(block).collect(),
            attestations: raw.signed_attestations.0.into_iter().map(attestation).collect(),
        }
    }
}

/// A list of at most [`MAX_RECORDS`].
struct Records<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Records<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
            type Value = Records<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX_RECORDS} records")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Records<T>, A::Error> {
                let mut records = Vec::new();
                while let Some(record) = list.next_element()? {
                    if records.len() == MAX_RECORDS {
                        return Err(A::Error::invalid_length(MAX_RECORDS + 1, &self));
                    }
                    records.push(record);
                }
                Ok(Records(records))
            }
        }
        deserializer.deserialize_seq(List(PhantomData))
    }
}

/// `0x` and hex digits.
struct Hex<const N: usize>([u8; N]);

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<const N: usize>;
        impl<const N: usize> Visitor<'_> for Text<N> {
            type Value = Hex<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "\"0x\" and {} hex digits", 2 * N)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Hex<N>, E> {
                let wrong = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
                let digits = text.strip_prefix("0x").ok_or_else(wrong)?;
                let mut bytes = [0; N];
                // The decoder would accept a second prefix; the length then has no room for all digits.
                hex::decode_to_slice(digits, &mut bytes).map_err(|_| wrong())?;
                if digits.len() == 2 * N { Ok(Hex(bytes)) } else { Err(wrong()) }
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode_prefixed(self.0))
    }
}

/// A number as a string of digits.
struct Decimal(u64);

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Decimal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number as a string of decimal digits, below 2^63")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Decimal, E> {
                let wrong = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
                let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                if !digits || (text.len() > 1 && text.starts_with('0')) {
                    return Err(wrong());
                }
                let number: u64 = text.parse().map_err(|_| wrong())?;
                if number <= i64::MAX.unsigned_abs() { Ok(Decimal(number)) } else { Err(wrong()) }
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Writes a file entry by entry.
pub(crate) struct Writer<W> {
    writer: W,
    entries: usize,
}

impl<W: Write> Writer<W> {
    pub(crate) fn begin(mut writer: W, genesis_validators_root: B256) -> io::Result<Self> {
        let metadata = Metadata {
            interchange_format_version: VERSION.to_owned(),
            genesis_validators_root: Hex(genesis_validators_root.0),
        };
        writer.write_all(b"{\"metadata\":")?;
        serde_json::to_writer(&mut writer, &metadata)?;
        writer.write_all(b",\"data\":[")?;
        Ok(Self { writer, entries: 0 })
    }

    /// Writes one key: the watermark as a record (so that the minimum of what is read is the watermark), then what
    /// is above it.
    pub(crate) fn key(
        &mut self,
        pubkey: &Pubkey,
        low_slot: Option<SignedBlock>,
        blocks: impl Iterator<Item = rusqlite::Result<SignedBlock>>,
        low_attestation: Option<SignedAttestation>,
        attestations: impl Iterator<Item = rusqlite::Result<SignedAttestation>>,
    ) -> Result<(u64, u64), crate::ExportError> {
        self.entry()?;
        write!(self.writer, "{{\"pubkey\":\"{pubkey}\",\"signed_blocks\":[")?;
        let mut counts = (0, 0);
        for block in low_slot.map(Ok).into_iter().chain(blocks) {
            let SignedBlock { slot, signing_root } = block?;
            self.separate(counts.0)?;
            write!(self.writer, "{{\"slot\":\"{slot}\"")?;
            self.root(signing_root)?;
            counts.0 += 1;
        }
        self.writer.write_all(b"],\"signed_attestations\":[")?;
        for attestation in low_attestation.map(Ok).into_iter().chain(attestations) {
            let SignedAttestation { source_epoch, target_epoch, signing_root } = attestation?;
            self.separate(counts.1)?;
            write!(self.writer, "{{\"source_epoch\":\"{source_epoch}\",\"target_epoch\":\"{target_epoch}\"")?;
            self.root(signing_root)?;
            counts.1 += 1;
        }
        self.writer.write_all(b"]}")?;
        Ok(counts)
    }

    pub(crate) fn end(mut self) -> io::Result<()> {
        self.writer.write_all(b"\n]}\n")?;
        self.writer.flush()
    }

    fn entry(&mut self) -> io::Result<()> {
        let separator: &[u8] = if self.entries == 0 { b"\n" } else { b",\n" };
        self.entries += 1;
        self.writer.write_all(separator)
    }

    fn separate(&mut self, before: u64) -> io::Result<()> {
        if before == 0 { Ok(()) } else { self.writer.write_all(b",") }
    }

    fn root(&mut self, signing_root: Option<B256>) -> io::Result<()> {
        match signing_root {
            Some(root) => write!(self.writer, ",\"signing_root\":\"{root}\"}}"),
            None => self.writer.write_all(b"}"),
        }
    }
}

/// The record that stands for a watermark: the history's own if it has exactly these epochs, else one without a root.
pub(crate) fn watermark_record(low: Epochs, signed: Option<SignedAttestation>) -> SignedAttestation {
    let Epochs { source_epoch, target_epoch } = low;
    let signing_root =
        signed.filter(|signed| signed.source_epoch == source_epoch).and_then(|signed| signed.signing_root);
    SignedAttestation { source_epoch, target_epoch, signing_root }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_long_is_an_error_and_not_an_end() {
        let mut limited = Limited { reader: &b"12345"[..], left: 4 };
        let error = limited.read_to_end(&mut Vec::new()).unwrap_err();
        assert!(matches!(refused(serde_json::Error::io(error)), InterchangeError::TooLong));
        let mut limited = Limited { reader: &b"1234"[..], left: 4 };
        assert_eq!(limited.read_to_end(&mut Vec::new()).unwrap(), 4);
    }

    #[test]
    fn a_file_has_a_bounded_number_of_entries() {
        let entry = format!(r#"{{"pubkey":"{}","signed_blocks":[],"signed_attestations":[]}}"#, Pubkey::ZERO);
        let file = |count: usize| {
            let metadata =
                format!(r#"{{"interchange_format_version":"5","genesis_validators_root":"{}"}}"#, B256::ZERO);
            format!(r#"{{"metadata":{metadata},"data":[{}{entry}]}}"#, format!("{entry},").repeat(count - 1))
        };
        let mut count = 0;
        let mut sink = |_| {
            count += 1;
            Ok::<_, InterchangeError>(())
        };
        let error = read(file(MAX_ENTRIES + 1).as_bytes(), B256::ZERO, &mut sink).unwrap_err();
        assert!(error.to_string().contains("more than 262144 entries"), "{error}");
        assert_eq!(count, MAX_ENTRIES);
    }
}
