//! What gateways keep of requests and envelopes, as others read it.
//!
//! A page of `/v1/requests` holds, beside what people read, what was signed in the raw form of evidence. That alone is taken here:
//! it is complete in itself, so a reader needs no fork schedule and believes nobody.
//!
//! ```json
//! {"rows": [{"signedRequest": {…}, "envelopes": [{"signed": {…}}, …]}, …]}
//! ```

use serde::Deserialize;
use thiserror::Error;

use crate::evidence::{SignedDutyRequest, SignedEnvelope};

/// Longest page in bytes: a thousand requests of the usual size take less than 10 MB.
pub const MAX_PAGE: usize = 64 * 1024 * 1024;

/// Why a file is no page.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeptError {
    /// Too long to be one.
    #[error("the page has {0} bytes, at most {MAX_PAGE} are read; ask for smaller pages with ?limit=")]
    TooLong(usize),
    /// Not the JSON of `docs/protocol.md`.
    #[error("the file is no page of kept requests: {0}")]
    Malformed(String),
}

/// What was signed, of all rows of a page. Unchecked: whose signatures these are nobody has looked at yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// By duty keys.
    pub requests: Vec<SignedDutyRequest>,
    /// By servers.
    pub envelopes: Vec<SignedEnvelope>,
}

#[derive(Deserialize)]
struct Page {
    rows: Vec<Row>,
}

/// Other members are for people.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(default)]
    signed_request: Option<SignedDutyRequest>,
    #[serde(default)]
    envelopes: Vec<RowEnvelope>,
}

#[derive(Deserialize)]
struct RowEnvelope {
    #[serde(default)]
    signed: Option<SignedEnvelope>,
}

impl Kept {
    /// Reads a page.
    ///
    /// # Errors
    /// [`KeptError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, KeptError> {
        if bytes.len() > MAX_PAGE {
            return Err(KeptError::TooLong(bytes.len()));
        }
        let page: Page = serde_json::from_slice(bytes).map_err(|error| KeptError::Malformed(error.to_string()))?;
        let mut kept = Self::default();
        for row in page.rows {
            kept.requests.extend(row.signed_request);
            kept.envelopes.extend(row.envelopes.into_iter().filter_map(|envelope| envelope.signed));
        }
        Ok(kept)
    }

    /// Adds what another page holds.
    pub fn append(&mut self, mut other: Self) {
        self.requests.append(&mut other.requests);
        self.envelopes.append(&mut other.envelopes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_for_what_was_signed_and_for_nothing_else() {
        let request = r#"{"keyId":"5","assignment":"1","dutyKind":"2","slot":"64","sourceEpoch":"1","targetEpoch":"2","signingRoot":"0xROOT","signature":"0xSIGNATURE"}"#;
        let envelope = r#"{"keyId":"5","committeeEpoch":"0","index":"2","dutyKind":"2","slot":"64","sourceEpoch":"1","targetEpoch":"2","signingRoot":"0xROOT","partialHash":"0xROOT","signature":"0xSIGNATURE"}"#;
        let fill = |text: &str| text.replace("ROOT", &"11".repeat(32)).replace("SIGNATURE", &"22".repeat(65));
        let page = format!(
            r#"{{"rows":[{{"id":"1","request":{{"type":"DUTY"}},"signedRequest":{request},"envelopes":[{{"serverId":"4","answer":{{}},"signed":{envelope}}},{{"serverId":"5"}}]}},{{"envelopes":[]}}]}}"#
        );
        let kept = Kept::from_json(fill(&page).as_bytes()).unwrap();
        assert_eq!((kept.requests.len(), kept.envelopes.len()), (1, 1));
        assert_eq!((kept.requests[0].assignment, kept.envelopes[0].index.get()), (1, 2));
    }

    #[test]
    fn what_is_no_page_is_refused_and_what_is_too_long_not_even_read() {
        for text in ["", "[]", "{}", r#"{"rows":{}}"#, r#"{"rows":[{"signedRequest":{}}]}"#] {
            assert!(matches!(Kept::from_json(text.as_bytes()), Err(KeptError::Malformed(_))), "{text}");
        }
        let long = vec![b' '; MAX_PAGE + 1];
        assert_eq!(Kept::from_json(&long), Err(KeptError::TooLong(MAX_PAGE + 1)));
    }
}
