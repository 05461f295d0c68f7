//! `STKR_FUZZ_INPUTS` inputs for each property, 2,000 if it is not set.

use std::env;

use proptest::{collection::vec, prelude::*, test_runner::Config};
use stkr_duties::{ForkSchedule, Preset, SigningRequest};

use crate::entropy::Entropy;

fn config() -> Config {
    let cases = env::var("STKR_FUZZ_INPUTS").map_or(2_000, |inputs| inputs.parse().unwrap());
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// Decodes anything; what decodes must be whole: written and read again it is the same, and no method panics.
fn is_harmless(json: &[u8]) -> Result<(), TestCaseError> {
    for preset in [Preset::Mainnet, Preset::Minimal] {
        match SigningRequest::decode(json, preset) {
            Err(error) => prop_assert!(error.to_string().len() < 2_000),
            Ok(request) => {
                let again = SigningRequest::decode(&serde_json::to_vec(&request).unwrap(), preset);
                prop_assert_eq!(again.as_ref(), Ok(&request));
                let schedule = ForkSchedule::mainnet();
                let _ = request.verify(&schedule).map_err(|error| error.to_string());
                let _ = request.duty.signing_root(&schedule);
                let _ = request.proves_fee_recipient(Default::default(), &schedule);
                let _ = (request.duty.slashable(), request.duty.epoch(&schedule), request.duty.slot());
            }
        }
    }
    Ok(())
}

/// Pieces that parsers stumble over.
const PIECES: [&str; 24] = [
    "null",
    "true",
    "-1",
    "0",
    "1e999",
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
    "\"proofs\":[{\"index\":\"801\",\"proof\":[]}],",
    "\"committee_bits\":\"0xff\",",
    ",",
    ":",
    "\u{feff}",
    "\"",
];

/// One to eight edits: a byte changed, a piece taken out, doubled or put in.
fn edit(json: &mut Vec<u8>, entropy: &mut Entropy<'_>) {
    for _ in 0..=entropy.below(8) {
        let at = entropy.below(json.len().max(1));
        let end = (at + 1 + entropy.below(40)).min(json.len());
        match entropy.below(4) {
            0 => {
                if let Some(byte) = json.get_mut(at) {
                    *byte = entropy.bytes::<1>()[0];
                }
            }
            1 => drop(json.drain(at..end)),
            2 => {
                let piece = json[at..end].to_vec();
                json.splice(at..at, piece);
            }
            _ => drop(json.splice(at..at, PIECES[entropy.below(PIECES.len())].bytes())),
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_written_is_read_again(bytes in vec(any::<u8>(), 0..6_000)) {
        let (request, preset) = Entropy::new(&bytes).request();
        let json = serde_json::to_vec(&request).unwrap();
        let read = SigningRequest::decode(&json, preset);
        prop_assert_eq!(read.as_ref(), Ok(&request));
        // The other preset may refuse it, by the length of a bit field, but then says where.
        is_harmless(&json)?;
    }

    #[test]
    fn an_edited_request_is_harmless(bytes in vec(any::<u8>(), 0..3_000), edits in vec(any::<u8>(), 0..80)) {
        let (request, _) = Entropy::new(&bytes).request();
        let mut json = serde_json::to_vec(&request).unwrap();
        edit(&mut json, &mut Entropy::new(&edits));
        is_harmless(&json)?;
    }

    #[test]
    fn any_bytes_are_harmless(bytes in vec(any::<u8>(), 0..300)) {
        is_harmless(&bytes)?;
    }

    #[test]
    fn any_arrangement_of_pieces_is_harmless(pieces in vec(0..PIECES.len() + 13, 0..30)) {
        let payloads = stkr_duties::DutyKind::ALL.iter().map(|kind| format!("\"{}\":", kind.payload()));
        let all: Vec<String> = PIECES.iter().map(|piece| (*piece).to_owned()).chain(payloads).collect();
        let text: String = pieces.iter().map(|at| all[*at].as_str()).collect();
        is_harmless(text.as_bytes())?;
        is_harmless(format!("{{{text}}}").as_bytes())?;
    }
}
