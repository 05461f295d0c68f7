//! Signing requests, answers and refusals.

use std::{borrow::Cow, fmt};

use alloy_primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};
use stkr_core::{PartialSignature, ShareIndex};
use stkr_duties::DepositMessage;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::{
    ProtocolDomain, SignerKey,
    envelope::{DutyKind, Envelope},
    json, schema,
};

/// A typed duty to sign, never a bare root: the server computes the root itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum SignRequest {
    /// The `DepositMessage` that the chain ordered for a new key.
    #[serde(rename = "DEPOSIT")]
    Deposit(DepositRequest),
}

/// A request to sign a deposit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DepositRequest {
    /// Key to sign with.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    pub key_id: u64,
    /// What the requester believes the root to be; a server refuses any other than its own.
    #[serde(with = "json::hash")]
    #[schema(value_type = schema::Hash)]
    pub signing_root: B256,
    /// The message.
    pub deposit: Deposit,
}

/// A `DepositMessage` in Web3Signer's JSON form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Deposit {
    /// Compressed BLS public key, 48 bytes.
    #[serde(with = "json::array")]
    #[schema(value_type = schema::Hex48)]
    pub pubkey: [u8; 48],
    /// 32 bytes.
    #[serde(with = "json::hash")]
    #[schema(value_type = schema::Hash)]
    pub withdrawal_credentials: B256,
    /// Gwei.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    pub amount: u64,
    /// Genesis fork version of the network, 4 bytes.
    #[serde(with = "json::array")]
    #[schema(value_type = schema::Hex4)]
    pub genesis_fork_version: [u8; 4],
}

impl Deposit {
    /// The container that is signed.
    #[must_use]
    pub fn message(&self) -> DepositMessage {
        DepositMessage {
            pubkey: self.pubkey,
            withdrawal_credentials: self.withdrawal_credentials,
            amount_gwei: self.amount,
        }
    }
}

impl PartialSchema for SignRequest {
    fn schema() -> RefOr<Schema> {
        schema::tagged("type", [("DEPOSIT", DepositRequest::schema())])
    }
}

impl ToSchema for SignRequest {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("SignRequest")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        DepositRequest::schemas(schemas);
    }
}

impl SignRequest {
    /// A request for a deposit on the network with this genesis fork version.
    #[must_use]
    pub fn deposit(key_id: u64, message: &DepositMessage, genesis_fork_version: [u8; 4]) -> Self {
        Self::Deposit(DepositRequest {
            key_id,
            signing_root: message.signing_root(genesis_fork_version),
            deposit: Deposit {
                pubkey: message.pubkey,
                withdrawal_credentials: message.withdrawal_credentials,
                amount: message.amount_gwei,
                genesis_fork_version,
            },
        })
    }

    /// Key to sign with.
    #[must_use]
    pub const fn key_id(&self) -> u64 {
        match self {
            Self::Deposit(request) => request.key_id,
        }
    }

    /// Signing root, computed from the typed duty; the root that the request claims plays no part.
    #[must_use]
    pub fn signing_root(&self) -> B256 {
        match self {
            Self::Deposit(request) => request.deposit.message().signing_root(request.deposit.genesis_fork_version),
        }
    }

    /// The computed signing root, if the request claims the same.
    ///
    /// # Errors
    /// A refusal of kind denied that shows both roots.
    pub fn checked_signing_root(&self) -> Result<B256, Refusal> {
        let Self::Deposit(DepositRequest { signing_root: claimed, .. }) = self;
        let computed = self.signing_root();
        if computed == *claimed {
            return Ok(computed);
        }
        Err(Refusal::denied(
            format!("the request claims signing root {claimed}, but its deposit has {computed}"),
            "Compute the root from the same deposit and genesis fork version, then ask again.",
        ))
    }

    /// The envelope a server signs around its partial; a collector builds the same from what it sent.
    #[must_use]
    pub fn envelope(&self, committee_epoch: u32, index: ShareIndex, partial: &[u8; 256]) -> Envelope {
        let Self::Deposit(_) = self;
        Envelope {
            key_id: self.key_id(),
            committee_epoch,
            index,
            duty_kind: DutyKind::Deposit,
            slot: 0,
            source_epoch: 0,
            target_epoch: 0,
            signing_root: self.signing_root(),
            partial_hash: keccak256(partial),
        }
    }
}

/// A server's answer to one request.
#[allow(clippy::large_enum_variant, reason = "nearly every answer is a signature")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum SignResponse {
    /// It signed.
    Signed(SignedPartial),
    /// It refused.
    Refused(Refused),
}

impl SignResponse {
    /// An answer that refuses.
    #[must_use]
    pub const fn refused(refusal: Refusal) -> Self {
        Self::Refused(Refused { refusal })
    }
}

/// A refusal in its JSON frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
}

/// A partial signature in its envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedPartial {
    /// G2 point (EIP-2537); kept as bytes, because garbage in a valid envelope is evidence.
    #[serde(with = "json::array")]
    #[schema(value_type = schema::Hex256)]
    pub partial: [u8; 256],
    /// The server's signature over the [`Envelope`], r ‖ s ‖ v.
    #[serde(with = "json::array")]
    #[schema(value_type = schema::Hex65)]
    pub envelope: [u8; 65],
    /// Share index the server answers as.
    #[serde(with = "json::index")]
    #[schema(value_type = schema::Index)]
    pub index: ShareIndex,
    /// Number of the committee it answers for.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U32)]
    pub committee_epoch: u32,
}

impl SignedPartial {
    /// A server's answer: its partial signature over the request's root, in an envelope by its signer key.
    #[must_use]
    pub fn new(
        request: &SignRequest,
        domain: &ProtocolDomain,
        key: &SignerKey,
        committee_epoch: u32,
        partial: &PartialSignature,
    ) -> Self {
        let bytes = partial.signature.to_eip2537();
        let envelope = request.envelope(committee_epoch, partial.index, &bytes);
        Self { partial: bytes, envelope: envelope.sign(domain, key), index: partial.index, committee_epoch }
    }
}

/// Why a server does not sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Refusal {
    /// What kind of answer this is; decides what a program does next.
    pub kind: RefusalKind,
    /// One sentence on what is wrong.
    #[serde(with = "json::text")]
    pub reason: String,
    /// One sentence on what to do about it.
    #[serde(with = "json::text")]
    pub what_to_do: String,
}

/// The kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The request must not be signed, now or as it is: asking again without a change is in vain.
    Denied,
    /// Signing would be slashable.
    Slashable,
    /// The server holds no share of this key.
    UnknownKey,
    /// The server cannot decide at the moment (chain, database): ask again.
    Unavailable,
}

impl RefusalKind {
    /// Name for people; the same as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Slashable => "slashable",
            Self::UnknownKey => "unknown_key",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Refusal {
    /// A refusal of any kind.
    #[must_use]
    pub fn new(kind: RefusalKind, reason: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), what_to_do: what_to_do.into() }
    }

    /// A refusal of kind denied.
    #[must_use]
    pub fn denied(reason: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self::new(RefusalKind::Denied, reason, what_to_do)
    }

    /// A refusal of kind unavailable.
    #[must_use]
    pub fn unavailable(reason: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self::new(RefusalKind::Unavailable, reason, what_to_do)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.kind.name(), self.reason, self.what_to_do)
    }
}
