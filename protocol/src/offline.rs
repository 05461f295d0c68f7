//! The files that go to a server without network and come back from it.
//!
//! A request is whoever's: all in it is checked where it is read. An answer is its server's, by an EIP-712 signature over all of it;
//! the messages in it are signed each for itself and count without it.

pub mod reshare;

use std::marker::PhantomData;

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::SolStruct as _;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{
    ProtocolDomain, SignatureError, SignerKey,
    api::{AdvanceResponse, MAX_MESSAGES},
    eip712, json,
    messages::SignedMessage,
    recover_signer,
    sign::{Change, SignedPartial},
};

/// Longest file, bytes: proofs and all messages of the largest committee take less than half of it.
pub const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Longest answer, bytes.
pub const MAX_ANSWER: usize = 1024 * 1024;

/// Most changes in one file. Whoever may order changes can challenge a member to sign each of them, so one visit has to answer for
/// more than anybody pays for; with proofs of a state as large as mainnet's, so many take half of [`MAX_FILE`].
pub const MAX_CHANGES: usize = 256;

/// Version of all files. In those of version 1 a request to sign a change names the key's first committee, whichever it has now.
pub const VERSION: u64 = 2;

/// A kind of file.
pub trait Kind {
    /// What `type` says in it.
    const NAME: &'static str;
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {}
/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {}

/// A request to sign changes of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToChange {}
/// Its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {}

impl Kind for ToChange {
    const NAME: &'static str = "stkr-offline-change-request";
}
impl Kind for Changed {
    const NAME: &'static str = "stkr-offline-change-answer";
}
impl Kind for Request {
    const NAME: &'static str = "stkr-offline-request";
}
impl Kind for Answer {
    const NAME: &'static str = "stkr-offline-answer";
}

/// Why a file is none that can be used.
#[derive(Debug, Error)]
pub enum FileError {
    /// No JSON object with a type and a version.
    #[error("the file is no file of Stkr: {0}")]
    NotOurs(String),
    /// Another kind of file.
    #[error("the file is a {found}, not a {expected}; give the other file")]
    OtherKind {
        /// Its type.
        found: String,
        /// The type that belongs here.
        expected: &'static str,
    },
    /// A version that this program does not know.
    #[error("the file has version {found}, and this program reads version {VERSION}; use the program that fits it")]
    OtherVersion {
        /// Its version.
        found: u64,
    },
    /// It says what it is, and is not.
    #[error("the {kind} is damaged: {reason}; fetch it again")]
    Damaged {
        /// What it claims to be.
        kind: &'static str,
        /// In words.
        reason: String,
    },
}

/// What every file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark<K>(PhantomData<K>);

impl<K> Mark<K> {
    /// The mark.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K> Default for Mark<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Kind> Serialize for Mark<K> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(K::NAME)
    }
}

impl<'de, K: Kind> Deserialize<'de> for Mark<K> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match String::deserialize(from)?.as_str() == K::NAME {
            true => Ok(Self::new()),
            false => Err(serde::de::Error::custom("another type")),
        }
    }
}

#[derive(Deserialize)]
struct Head {
    r#type: String,
    #[serde(with = "json::decimal")]
    version: u64,
}

/// Whether a file says that it is of this kind; what it says is not checked any further.
#[must_use]
pub fn is_kind<K: Kind>(text: &[u8]) -> bool {
    serde_json::from_slice::<Head>(text).is_ok_and(|head| head.r#type == K::NAME)
}

/// Reads a file of one kind; says of any other what it is.
///
/// # Errors
/// [`FileError`].
pub fn from_json<K: Kind, T: DeserializeOwned>(text: &[u8]) -> Result<T, FileError> {
    let head: Head = serde_json::from_slice(text).map_err(|error| FileError::NotOurs(json::json_reason(&error)))?;
    if head.r#type != K::NAME {
        return Err(FileError::OtherKind { found: printable(&head.r#type), expected: K::NAME });
    }
    if head.version != VERSION {
        return Err(FileError::OtherVersion { found: head.version });
    }
    serde_json::from_slice(text)
        .map_err(|error| FileError::Damaged { kind: K::NAME, reason: json::json_reason(&error) })
}

/// Fit for one line of a terminal, whoever wrote it.
fn printable(text: &str) -> String {
    text.chars().take(40).map(|it| if it.is_ascii_graphic() { it } else { '?' }).collect()
}

/// Which member of which ceremony a file is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct About {
    /// EIP-155 chain id.
    #[serde(with = "json::decimal")]
    pub chain_id: u64,
    /// The KeyRegistry.
    #[serde(with = "json::address")]
    pub key_registry: Address,
    /// Id of the offline server.
    #[serde(with = "json::decimal")]
    pub server: u32,
    /// Key.
    #[serde(with = "json::decimal")]
    pub key_id: u64,
    /// Ceremony number of this key, from 0.
    #[serde(with = "json::decimal")]
    pub attempt: u16,
    /// keccak256(abi.encode(uint32[] server ids)), as the registry keeps it: a reorganisation can draw another committee for the
    /// same attempt.
    #[serde(with = "json::hash")]
    pub committee: B256,
}

impl About {
    /// Chain and registry.
    #[must_use]
    pub const fn domain(&self) -> ProtocolDomain {
        ProtocolDomain { chain_id: self.chain_id, key_registry: self.key_registry }
    }
}

/// What goes to an offline server: what others said, and `F`, which proves who they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestFile<F> {
    /// `stkr-offline-request`.
    pub r#type: Mark<Request>,
    /// [`VERSION`].
    #[serde(with = "json::decimal")]
    pub version: u64,
    /// Whom it concerns.
    pub about: About,
    /// Of all members and rounds, in any order.
    #[serde(deserialize_with = "json::ListOf::<MAX_MESSAGES>::deserialize")]
    pub messages: Vec<SignedMessage>,
    /// Chain facts.
    pub facts: F,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AnswerFile {
    /// `stkr-offline-answer`.
    pub r#type: Mark<Answer>,
    /// [`VERSION`].
    #[serde(with = "json::decimal")]
    pub version: u64,
    /// Whom it is from, and about what.
    pub about: About,
    /// As an online server answers.
    pub response: AdvanceResponse,
    /// The server's, over `about` and `response`.
    #[serde(with = "json::array")]
    pub signature: [u8; 65],
}

impl AnswerFile {
    /// The answer of the server with this signer key.
    ///
    /// # Errors
    /// Never in practice: the response is made of strings.
    pub fn sign(about: About, response: AdvanceResponse, key: &SignerKey) -> Result<Self, serde_json::Error> {
        let signature = key.sign_digest(digest(&about, &response)?);
        Ok(Self { r#type: Mark::new(), version: VERSION, about, response, signature })
    }

    /// Who signed it.
    ///
    /// # Errors
    /// [`SignatureError`] if nobody did; never in practice because of JSON.
    pub fn signer(&self) -> Result<Address, AnswerError> {
        Ok(recover_signer(digest(&self.about, &self.response)?, &self.signature)?)
    }
}

/// Which member of which withdrawal key a file is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AboutKey {
    /// EIP-155 chain id.
    #[serde(with = "json::decimal")]
    pub chain_id: u64,
    /// The KeyRegistry.
    #[serde(with = "json::address")]
    pub key_registry: Address,
    /// Id of the offline server.
    #[serde(with = "json::decimal")]
    pub server: u32,
    /// Withdrawal key.
    #[serde(with = "json::decimal")]
    pub key_id: u64,
}

impl AboutKey {
    /// Chain and registry.
    #[must_use]
    pub const fn domain(&self) -> ProtocolDomain {
        ProtocolDomain { chain_id: self.chain_id, key_registry: self.key_registry }
    }
}

/// What goes to an offline member of a withdrawal key: changes of credentials, and `F`, which proves that the chain ordered them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeFile<F> {
    /// `stkr-offline-change-request`.
    pub r#type: Mark<ToChange>,
    /// [`VERSION`].
    #[serde(with = "json::decimal")]
    pub version: u64,
    /// Whom it concerns.
    pub about: AboutKey,
    /// At most [`MAX_CHANGES`].
    #[serde(deserialize_with = "json::ListOf::<MAX_CHANGES>::deserialize")]
    pub changes: Vec<Change>,
    /// Chain facts.
    pub facts: F,
}

/// What comes back. Each partial is its server's, by the envelope around it; the file has no other authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeAnswerFile {
    /// `stkr-offline-change-answer`.
    pub r#type: Mark<Changed>,
    /// [`VERSION`].
    #[serde(with = "json::decimal")]
    pub version: u64,
    /// Whom it is from, and of which key.
    pub about: AboutKey,
    /// One for each change.
    #[serde(deserialize_with = "json::ListOf::<MAX_CHANGES>::deserialize")]
    pub answers: Vec<ChangePartial>,
}

/// A change and what a member signed for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangePartial {
    /// The change.
    pub change: Change,
    /// Partial signature in its envelope.
    pub signed: SignedPartial,
}

/// Why nobody signed an answer.
#[derive(Debug, Error)]
pub enum AnswerError {
    /// No signature.
    #[error("the answer has no valid signature: {0}")]
    Signature(#[from] SignatureError),
    /// No JSON.
    #[error("the answer cannot be written down: {0}")]
    Json(#[from] serde_json::Error),
}

/// EIP-712 digest of `OfflineAnswer`. One value has one spelling in our JSON, so its hash stands for it.
fn digest(about: &About, response: &AdvanceResponse) -> Result<B256, serde_json::Error> {
    let answer = eip712::OfflineAnswer {
        keyId: U256::from(about.key_id),
        attempt: about.attempt,
        server: about.server,
        committee: about.committee,
        responseHash: keccak256(serde_json::to_vec(response)?),
    };
    Ok(answer.eip712_signing_hash(&about.domain().eip712()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use stkr_core::ShareIndex;

    use super::*;

    fn change(validator_index: u64) -> Change {
        Change {
            validator_index,
            from_bls_pubkey: [0xff; 48],
            to_execution_address: Address::repeat_byte(0xff),
            genesis_fork_version: [0xff; 4],
            genesis_validators_root: B256::repeat_byte(0xff),
        }
    }

    #[test]
    fn a_visit_answers_for_as_many_changes_as_a_file_may_name() {
        let about = AboutKey {
            chain_id: u64::MAX,
            key_registry: Address::repeat_byte(0xff),
            server: u32::MAX,
            key_id: u64::MAX,
        };
        let changes: Vec<Change> = (0..MAX_CHANGES as u64).map(|it| change(u64::MAX - it)).collect();
        let signed = SignedPartial {
            partial: vec![0xff; 256],
            envelope: [0xff; 65],
            index: ShareIndex::new(16).unwrap(),
            committee_epoch: u32::MAX,
        };
        let answers = changes.iter().map(|it| ChangePartial { change: *it, signed: signed.clone() }).collect();
        let answer = ChangeAnswerFile { r#type: Mark::new(), version: VERSION, about, answers };
        let text = serde_json::to_vec(&answer).unwrap();
        assert!(text.len() <= MAX_ANSWER, "{} bytes", text.len());
        assert_eq!(from_json::<Changed, ChangeAnswerFile>(&text).unwrap(), answer);

        // Of each the path to its slot in a trie of millions: eight full nodes.
        let node = format!("0x{}", "ff".repeat(532));
        let facts = json!(vec![vec![node; 8]; MAX_CHANGES]);
        let request = ChangeFile { r#type: Mark::new(), version: VERSION, about, changes, facts };
        let text = serde_json::to_vec(&request).unwrap();
        assert!(text.len() as u64 <= MAX_FILE, "{} bytes", text.len());
        assert_eq!(from_json::<ToChange, ChangeFile<Value>>(&text).unwrap(), request);
    }
}
