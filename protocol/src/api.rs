//! Bodies of the server's HTTP API.

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};
use stkr_core::ShareIndex;
use utoipa::ToSchema;

use crate::{
    ceremony::{Failure, Phase},
    json,
    messages::SignedMessage,
    schema,
    sign::{SignRequest, SignResponse},
};

/// Largest body of a request, bytes; larger ones are refused before they are read.
pub const MAX_BODY: usize = 1024 * 1024;

/// Most ceremony messages in one body: five rounds of 64 members, and evidence against each.
pub const MAX_MESSAGES: usize = 640;

/// Most signing requests in one batch.
pub const MAX_BATCH: usize = 256;

/// `POST /v1/ceremonies/advance`: all messages the sender has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdvanceRequest {
    /// Key the ceremony makes.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    pub key_id: u64,
    /// Ceremony number of this key, from 0.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U16)]
    pub attempt: u16,
    /// Of all members and rounds, in any order.
    #[serde(deserialize_with = "json::ListOf::<MAX_MESSAGES>::deserialize")]
    #[schema(max_items = 640)]
    pub messages: Vec<SignedMessage>,
}

/// Answer to [`AdvanceRequest`]. Only `messages` are signed: believe nothing else of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdvanceResponse {
    /// All messages of this server that may be shown.
    #[serde(deserialize_with = "json::ListOf::<MAX_MESSAGES>::deserialize")]
    pub messages: Vec<SignedMessage>,
    /// Where the server stands.
    pub phase: Phase,
    /// Members whose message of this phase it lacks.
    #[serde(with = "json::indices")]
    #[schema(value_type = Vec<schema::Index>)]
    pub waiting_for: Vec<ShareIndex>,
    /// Why the ceremony failed for this server.
    pub failure: Option<FailureReport>,
}

/// A failed ceremony as one server sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailureReport {
    /// Member at fault, if one can be named.
    #[serde(with = "json::optional_index")]
    #[schema(value_type = Option<schema::Index>)]
    pub culprit: Option<ShareIndex>,
    /// One sentence on what happened.
    #[serde(with = "json::text")]
    pub reason: String,
    /// One sentence on what to do about it.
    #[serde(with = "json::text")]
    pub what_to_do: String,
}

impl From<&Failure> for FailureReport {
    fn from(failure: &Failure) -> Self {
        Self { culprit: failure.culprit, reason: failure.reason(), what_to_do: failure.what_to_do() }
    }
}

/// `POST /v1/sign`: a batch of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignBatch {
    /// Each is answered on its own.
    #[serde(deserialize_with = "json::ListOf::<MAX_BATCH>::deserialize")]
    #[schema(max_items = 256)]
    pub requests: Vec<SignRequest>,
}

/// Answer to [`SignBatch`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignReplies {
    /// One per request, in order.
    #[serde(deserialize_with = "json::ListOf::<MAX_BATCH>::deserialize")]
    pub responses: Vec<SignResponse>,
}

/// `GET /v1/info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Info {
    /// Id on-chain; null before the server is registered.
    #[serde(deserialize_with = "json::text::optional")]
    pub server_id: Option<String>,
    /// Address of the signer key.
    #[schema(value_type = schema::Account)]
    pub signer: Address,
    /// Version of the program.
    #[serde(with = "json::text")]
    pub version: String,
    /// EIP-155 chain id.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    pub chain_id: u64,
    /// The KeyRegistry.
    #[schema(value_type = schema::Account)]
    pub registry: Address,
}
