//! From documents that are right to ones that are almost right.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngCore as _};
use serde_json::{Map, Value};

/// What inputs are made from.
#[derive(Clone, Debug)]
pub(crate) enum Corpus {
    /// Edited as trees, then as bytes.
    Json(Vec<Value>),
    /// Edited line by line, then as bytes.
    Lines(Vec<String>),
    /// Edited as bytes.
    Text(Vec<String>),
    /// The same, in words of 32 bytes too.
    Binary(Vec<Vec<u8>>),
}

impl Corpus {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Json(all) => all.len(),
            Self::Lines(all) | Self::Text(all) => all.len(),
            Self::Binary(all) => all.len(),
        }
    }
}

/// Pieces that parsers stumble over.
const PIECES: [&str; 30] = [
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "1.0",
    "18446744073709551615",
    "18446744073709551616",
    "\"\"",
    "\"0x\"",
    "\"0x00\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "[]",
    "{}",
    "[[[[[[[[",
    "{\"a\":{\"a\":{\"a\":",
    "\"type\":\"BLOCK\",",
    "\"version\":\"GLOAS\",",
    "\"signing_root\":null,",
    ",",
    ":",
    "=",
    "\n",
    "\u{feff}",
    "\"",
    "'''",
    "[[a]]",
    "0x",
    "\u{1F980}",
];
/// Values that stand at the edges of what is allowed.
const VALUES: [&str; 28] = [
    "",
    "0",
    "1",
    "-1",
    "+1",
    "01",
    " 1",
    "1 ",
    "255",
    "256",
    "65535",
    "65536",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "0x",
    "0X00",
    "0x0",
    "0x0x",
    "GLOAS",
    "PHASE0",
    "fulu",
    "BLOCK_V2",
    "DUTY",
    "\u{0}",
];
/// Longest list that is made by repeating an element: longer than any list that is bounded by a few hundred.
const REPEATED: usize = 300;
/// Deepest nest.
const DEEP: usize = 20_000;

/// One input.
pub(crate) fn input(corpus: &Corpus, random: &mut StdRng) -> Vec<u8> {
    // Now and then something that is nothing.
    match random.random_range(0..400) {
        0 => return noise(random),
        1 => return "[".repeat(random.random_range(1..DEEP)).into_bytes(),
        2 => return "{\"a\":".repeat(random.random_range(1..DEEP)).into_bytes(),
        _ => {}
    }
    let (mut bytes, mut edits) = match corpus {
        Corpus::Json(all) => (json(all, random).into_bytes(), random.random_range(0..12_u32).saturating_sub(8)),
        Corpus::Lines(all) => (lines(all, random).into_bytes(), random.random_range(0..12_u32).saturating_sub(8)),
        Corpus::Text(all) => (pick(all, random).into_bytes(), random.random_range(0..4)),
        Corpus::Binary(all) => (words(pick(all, random), random), random.random_range(0..4)),
    };
    while edits > 0 {
        edit(&mut bytes, random);
        edits -= 1;
    }
    bytes
}

fn pick<T: Clone + Default>(all: &[T], random: &mut StdRng) -> T {
    all.choose(random).cloned().unwrap_or_default()
}

fn noise(random: &mut StdRng) -> Vec<u8> {
    let mut bytes = vec![0; random.random_range(0..600)];
    random.fill_bytes(&mut bytes);
    bytes
}

fn edit(bytes: &mut Vec<u8>, random: &mut StdRng) {
    let at = random.random_range(0..=bytes.len());
    let end = (at + random.random_range(1..40)).min(bytes.len());
    match random.random_range(0..5) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.random();
            }
        }
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.random_range(0..8_u8);
            }
        }
        2 => drop(bytes.drain(at..end)),
        3 => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        _ => drop(bytes.splice(at..at, pick(&PIECES, random).bytes())),
    }
}

// ------------------------------------------------------------------------------------------------------------ JSON

fn json(all: &[Value], random: &mut StdRng) -> String {
    let mut value = pick(all, random);
    for _ in 0..random.random_range(0..4) {
        let donor = node(all.choose(random).unwrap_or(&Value::Null), random).clone();
        change(&mut value, donor, random);
    }
    if random.random_ratio(1, 8) { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }
        .unwrap_or_default()
}

/// Some node of the tree, the root the likeliest.
fn node<'a>(value: &'a Value, random: &mut StdRng) -> &'a Value {
    let child = match value {
        Value::Object(members) if !members.is_empty() => members.values().nth(random.random_range(0..members.len())),
        Value::Array(elements) => elements.choose(random),
        _ => None,
    };
    match child {
        Some(child) if random.random_ratio(3, 4) => node(child, random),
        _ => value,
    }
}

fn change(value: &mut Value, donor: Value, random: &mut StdRng) {
    let go_on = random.random_ratio(4, 5);
    match value {
        Value::Object(members) if go_on && !members.is_empty() => {
            let at = random.random_range(0..members.len());
            if let Some(child) = members.values_mut().nth(at) {
                change(child, donor, random);
            }
        }
        Value::Array(elements) if go_on && !elements.is_empty() => {
            let at = random.random_range(0..elements.len());
            change(&mut elements[at], donor, random);
        }
        Value::Object(members) if random.random_ratio(3, 4) => rename(members, donor, random),
        Value::Array(elements) if random.random_ratio(3, 4) => resize(elements, donor, random),
        Value::String(text) if random.random_ratio(3, 4) => retype(text, random),
        _ => *value = replacement(donor, random),
    }
}

fn rename(members: &mut Map<String, Value>, donor: Value, random: &mut StdRng) {
    let name = members.keys().nth(random.random_range(0..members.len().max(1))).cloned().unwrap_or_default();
    match random.random_range(0..4) {
        0 => drop(members.remove(&name)),
        1 => {
            let value = members.remove(&name).unwrap_or(donor);
            members.insert(name.to_uppercase(), value);
        }
        2 => drop(members.insert(pick(&VALUES, random).to_owned(), donor)),
        _ => drop(members.insert(name, donor)),
    }
}

fn resize(elements: &mut Vec<Value>, donor: Value, random: &mut StdRng) {
    match random.random_range(0..4) {
        0 => drop(elements.pop()),
        1 => elements.push(donor),
        2 => elements.clear(),
        _ => {
            let element = elements.first().cloned().unwrap_or(donor);
            // Long ones are expensive, and all alike.
            let count = if random.random_ratio(1, 16) { REPEATED } else { 4 };
            elements.extend(vec![element; random.random_range(0..count)]);
        }
    }
}

fn retype(text: &mut String, random: &mut StdRng) {
    match random.random_range(0..6) {
        0 => *text = pick(&VALUES, random).to_owned(),
        1 => *text = random.next_u64().to_string(),
        2 => *text = text.to_uppercase(),
        3 => drop(text.pop()),
        4 => text.push(char::from(random.random_range(b'0'..=b'f'))),
        _ => {
            let digit = random.random_range(b'0'..=b'9');
            let mut bytes = std::mem::take(text).into_bytes();
            let at = random.random_range(0..bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = digit;
            }
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
    }
}

fn replacement(donor: Value, random: &mut StdRng) -> Value {
    match random.random_range(0..7) {
        0 => Value::Null,
        1 => Value::Bool(true),
        2 => Value::from(random.next_u64() >> random.random_range(0..64_u32)),
        3 => Value::from(pick(&VALUES, random)),
        4 => Value::Array(vec![donor]),
        _ => donor,
    }
}

// ----------------------------------------------------------------------------------------------------- lines, words

fn lines(all: &[String], random: &mut StdRng) -> String {
    let text = pick(all, random);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..random.random_range(0..4) {
        let at = random.random_range(0..lines.len().max(1));
        let donor = all.choose(random).and_then(|text| text.lines().nth(at)).unwrap_or_default().to_owned();
        match random.random_range(0..5) {
            0 if at < lines.len() => drop(lines.remove(at)),
            1 => lines.insert(at.min(lines.len()), donor),
            2 if at < lines.len() => lines[at] = with_value(&lines[at], pick(&VALUES, random)),
            3 if at < lines.len() => lines[at] = with_value(&lines[at], &random.next_u32().to_string()),
            _ if at < lines.len() => lines.swap(0, at),
            _ => {}
        }
    }
    lines.join("\n") + "\n"
}

/// `key = …` with another value.
fn with_value(line: &str, value: &str) -> String {
    line.split_once('=').map_or_else(|| line.to_owned(), |(key, _)| format!("{key}= {value}"))
}

/// ABI words swapped for numbers at the edges, which is where offsets and lengths lie.
fn words(mut bytes: Vec<u8>, random: &mut StdRng) -> Vec<u8> {
    for _ in 0..random.random_range(0..3) {
        let count = bytes.len() / 32;
        if count == 0 {
            break;
        }
        let at = 32 * random.random_range(0..count) + bytes.len() % 32;
        let number = match random.random_range(0..4) {
            0 => 0,
            1 => u64::MAX,
            2 => 32 * random.random_range(0..64),
            _ => random.next_u64() >> random.random_range(0..64_u32),
        };
        let mut word = [if random.random_ratio(1, 8) { 0xff } else { 0 }; 32];
        word[24..].copy_from_slice(&number.to_be_bytes());
        if let Some(place) = bytes.get_mut(at..at + 32) {
            place.copy_from_slice(&word);
        }
    }
    bytes
}
