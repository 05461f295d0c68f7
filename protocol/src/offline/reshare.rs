//! Files of reshares: what an old or a new member without network is brought, and what it answers.
//!
//! They are to a reshare what the files around them are to a ceremony. An old member that deals and a new one that receives get the
//! same file, as an online server gets the same call: a server that stays is both.

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::SolStruct as _;
use serde::{Deserialize, Serialize};

use super::{AboutKey, AnswerError, Kind, Mark, VERSION};
use crate::{
    ProtocolDomain, SignerKey,
    api::{MAX_MESSAGES, ReshareAdvanceResponse},
    eip712, json, recover_signer,
    reshare::{ReshareId, ReshareMessage},
};

/// A request to take part in a reshare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToReshare {}
/// Its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reshared {}
/// The committees that a key has now: by it a member whose seat is lost erases its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committees {}

impl Kind for ToReshare {
    const NAME: &'static str = "stkr-offline-reshare-request";
}
impl Kind for Reshared {
    const NAME: &'static str = "stkr-offline-reshare-answer";
}
impl Kind for Committees {
    const NAME: &'static str = "stkr-offline-committees";
}

/// Which server's part in which reshare a file is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AboutReshare {
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
    /// Committee epoch of the committee that is being made.
    #[serde(with = "json::decimal")]
    pub committee_epoch: u32,
    /// Number of the attempt to make it, from 0.
    #[serde(with = "json::decimal")]
    pub attempt: u16,
    /// keccak256(abi.encode(draft)), as the contract keeps it: a reorganisation can draw other seats or dealers for the same attempt.
    #[serde(with = "json::hash")]
    pub draft: B256,
}

impl AboutReshare {
    /// Chain and registry.
    #[must_use]
    pub const fn domain(&self) -> ProtocolDomain {
        ProtocolDomain { chain_id: self.chain_id, key_registry: self.key_registry }
    }

    /// The reshare.
    #[must_use]
    pub const fn id(&self) -> ReshareId {
        ReshareId { key_id: self.key_id, committee_epoch: self.committee_epoch, attempt: self.attempt }
    }
}

/// What goes to an offline server that deals, gets a share, or both: what others said, and `F`, which proves who they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReshareRequestFile<F> {
    /// `stkr-offline-reshare-request`.
    pub r#type: Mark<ToReshare>,
    /// [`VERSION`].
    #[serde(with = "json::decimal")]
    pub version: u64,
    /// Whom it concerns.
    pub about: AboutReshare,
    /// Of all senders and rounds, in any order.
    #[serde(deserialize_with = "json::ListOf::<MAX_MESSAGES>::deserialize")]
    pub messages: Vec<ReshareMessage>,
    /// Chain facts.
    pub facts: F,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReshareAnswerFile {
    /// `stkr-offline-reshare-answer`.
    pub r#type: Mark<Reshared>,
    /// [`VERSION`].
    #[serde(with = "json::decimal")]
    pub version: u64,
    /// Whom it is from, and about what.
    pub about: AboutReshare,
    /// As an online server answers.
    pub response: ReshareAdvanceResponse,
    /// The server's, over `about` and `response`.
    #[serde(with = "json::array")]
    pub signature: [u8; 65],
}

impl ReshareAnswerFile {
    /// The answer of the server with this signer key.
    ///
    /// # Errors
    /// Never in practice: the response is made of strings.
    pub fn sign(
        about: AboutReshare,
        response: ReshareAdvanceResponse,
        key: &SignerKey,
    ) -> Result<Self, serde_json::Error> {
        let signature = key.sign_digest(digest(&about, &response)?);
        Ok(Self { r#type: Mark::new(), version: VERSION, about, response, signature })
    }

    /// Who signed it.
    ///
    /// # Errors
    /// [`AnswerError::Signature`] if nobody did; never in practice because of JSON.
    pub fn signer(&self) -> Result<Address, AnswerError> {
        Ok(recover_signer(digest(&self.about, &self.response)?, &self.signature)?)
    }
}

/// What goes to a machine that holds, or held, a share: `F` proves which committees the key has. Nothing is signed, and nothing comes
/// back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommitteesFile<F> {
    /// `stkr-offline-committees`.
    pub r#type: Mark<Committees>,
    /// [`VERSION`].
    #[serde(with = "json::decimal")]
    pub version: u64,
    /// Whom it concerns.
    pub about: AboutKey,
    /// Chain facts.
    pub facts: F,
}

/// EIP-712 digest of `OfflineReshareAnswer`. One value has one spelling in our JSON, so its hash stands for it.
fn digest(about: &AboutReshare, response: &ReshareAdvanceResponse) -> Result<B256, serde_json::Error> {
    let answer = eip712::OfflineReshareAnswer {
        keyId: U256::from(about.key_id),
        committeeEpoch: about.committee_epoch,
        attempt: about.attempt,
        server: about.server,
        draft: about.draft,
        responseHash: keccak256(serde_json::to_vec(response)?),
    };
    Ok(answer.eip712_signing_hash(&about.domain().eip712()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{Answer, AnswerFile, FileError, from_json};
    use super::*;
    use crate::reshare::Phase;

    const ABOUT: AboutReshare = AboutReshare {
        chain_id: 31_337,
        key_registry: Address::repeat_byte(4),
        server: 5,
        key_id: 7,
        committee_epoch: 2,
        attempt: 1,
        draft: B256::repeat_byte(3),
    };

    fn response() -> ReshareAdvanceResponse {
        ReshareAdvanceResponse {
            messages: Vec::new(),
            phase: Phase::Keys,
            waiting_for: Vec::new(),
            failure: None,
            complaint: None,
        }
    }

    #[test]
    fn an_answer_is_its_servers_for_one_reshare_and_one_draw_of_it() {
        let key = SignerKey::from_bytes(&[7; 32]).unwrap();
        let file = ReshareAnswerFile::sign(ABOUT, response(), &key).unwrap();
        assert_eq!(file.signer().unwrap(), key.address());
        let others = [
            AboutReshare { chain_id: 1, ..ABOUT },
            AboutReshare { key_registry: Address::ZERO, ..ABOUT },
            AboutReshare { server: 6, ..ABOUT },
            AboutReshare { key_id: 8, ..ABOUT },
            AboutReshare { committee_epoch: 1, ..ABOUT },
            AboutReshare { attempt: 0, ..ABOUT },
            AboutReshare { draft: B256::ZERO, ..ABOUT },
        ];
        for about in others {
            let passed_off = ReshareAnswerFile { about, ..file.clone() };
            assert_ne!(passed_off.signer().ok(), Some(key.address()), "{about:?}");
        }
        let response = ReshareAdvanceResponse { phase: Phase::Failed, ..response() };
        assert_ne!(ReshareAnswerFile { response, ..file }.signer().ok(), Some(key.address()));
    }

    #[test]
    fn a_file_is_read_as_what_it_is_and_as_nothing_else() {
        let key = SignerKey::from_bytes(&[7; 32]).unwrap();
        let file = ReshareAnswerFile::sign(ABOUT, response(), &key).unwrap();
        let text = serde_json::to_vec(&file).unwrap();
        assert_eq!(from_json::<Reshared, ReshareAnswerFile>(&text).unwrap(), file);
        let error = from_json::<Answer, AnswerFile>(&text).unwrap_err();
        assert!(matches!(&error, FileError::OtherKind { found, .. } if found == Reshared::NAME), "{error}");

        let value: Value = serde_json::from_slice(&text).unwrap();
        let read = |change: &dyn Fn(&mut Value)| {
            let mut value = value.clone();
            change(&mut value);
            from_json::<Reshared, ReshareAnswerFile>(value.to_string().as_bytes()).unwrap_err()
        };
        assert!(matches!(read(&|it| it["version"] = json!("1")), FileError::OtherVersion { found: 1 }));
        for error in [
            read(&|it| it["more"] = json!(1)),
            read(&|it| it["about"]["attempt"] = json!("65536")),
            read(&|it| it["about"]["committeeEpoch"] = json!(2)),
            read(&|it| drop(it["about"].as_object_mut().unwrap().remove("draft"))),
        ] {
            assert!(matches!(error, FileError::Damaged { kind: "stkr-offline-reshare-answer", .. }), "{error}");
        }
        let message = json!({ "round": "reshare_keys" });
        let error = read(&|it| it["response"]["messages"] = json!(vec![message.clone(); MAX_MESSAGES + 1]));
        assert!(matches!(error, FileError::Damaged { .. }), "{error}");
    }
}
