//! Bodies of the server's HTTP API.

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use stkr_core::ShareIndex;
use utoipa::ToSchema;

use crate::{
    ceremony::{Failure, Phase},
    evidence::{OpenedDealing, SignedDutyRequest},
    json,
    messages::SignedMessage,
    reshare::{self, ReshareId, ReshareMessage, Sender, evidence::OpenedReshareDealing},
    schema,
    sign::{Refused, SignRequest, SignResponse},
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

/// Answer to [`AdvanceRequest`]. Only `messages` are signed, and a complaint proves itself: believe nothing else of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdvanceResponse {
    /// All messages of this server that may be shown; once the ceremony failed for it also those of others, which prove why.
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
    /// Proof that a member sent this server a share that is not what its dealing commits to: evidence for the Court.
    pub complaint: Option<OpenedDealing>,
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

/// `POST /v1/reshares/advance`: all messages the sender has of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReshareAdvanceRequest {
    /// Key that is reshared.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    pub key_id: u64,
    /// Committee epoch of the committee that is being made.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U32)]
    pub committee_epoch: u32,
    /// Number of the attempt to make it, from 0.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U16)]
    pub attempt: u16,
    /// Of all senders and rounds, in any order.
    #[serde(deserialize_with = "json::ListOf::<MAX_MESSAGES>::deserialize")]
    #[schema(max_items = 640)]
    pub messages: Vec<ReshareMessage>,
}

impl ReshareAdvanceRequest {
    /// The reshare it names.
    #[must_use]
    pub const fn id(&self) -> ReshareId {
        ReshareId { key_id: self.key_id, committee_epoch: self.committee_epoch, attempt: self.attempt }
    }
}

/// Answer to [`ReshareAdvanceRequest`]. Only `messages` are signed, and a complaint proves itself: believe nothing else of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReshareAdvanceResponse {
    /// All messages of this server that may be shown; once the attempt failed for it also those of others, which prove why.
    #[serde(deserialize_with = "json::ListOf::<MAX_MESSAGES>::deserialize")]
    pub messages: Vec<ReshareMessage>,
    /// Where the server stands.
    pub phase: reshare::Phase,
    /// Whose message of this phase it lacks.
    #[serde(deserialize_with = "json::ListOf::<MAX_MESSAGES>::deserialize")]
    pub waiting_for: Vec<Part>,
    /// Why the attempt failed for this server.
    pub failure: Option<ReshareFailureReport>,
    /// Proof that a dealer sent this server a share that is not what its dealing commits to.
    pub complaint: Option<OpenedReshareDealing>,
}

/// A failed attempt as one server sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReshareFailureReport {
    /// Who is at fault, if that can be named.
    pub culprit: Option<Part>,
    /// One sentence on what happened.
    #[serde(with = "json::text")]
    pub reason: String,
    /// One sentence on what to do about it.
    #[serde(with = "json::text")]
    pub what_to_do: String,
}

impl From<&reshare::Failure> for ReshareFailureReport {
    fn from(failure: &reshare::Failure) -> Self {
        Self {
            culprit: failure.culprit.map(Part::from),
            reason: failure.reason(),
            what_to_do: failure.what_to_do().to_owned(),
        }
    }
}

/// A part in a reshare. The two committees count from 1 each, and a server that stays has a part in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Part {
    /// Of which committee.
    pub role: Role,
    /// Index in it.
    #[serde(with = "json::index")]
    #[schema(value_type = schema::Index)]
    pub index: ShareIndex,
}

/// Of which committee a [`Part`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A dealer: of the committee that hands over.
    Dealer,
    /// A member of the new committee.
    Member,
}

impl From<Sender> for Part {
    fn from(sender: Sender) -> Self {
        match sender {
            Sender::Dealer(index) => Self { role: Role::Dealer, index },
            Sender::Member(index) => Self { role: Role::Member, index },
        }
    }
}

impl From<Part> for Sender {
    fn from(part: Part) -> Self {
        match part.role {
            Role::Dealer => Self::Dealer(part.index),
            Role::Member => Self::Member(part.index),
        }
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

/// Most signers in a [`Signers`]: a signer can be changed once in 30 days.
pub const MAX_SIGNERS: usize = 256;

/// `GET /v1/signers`: the signers of a server, and what still names each. As good as the connection it comes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signers {
    /// Oldest first; those whose keys wait for the registry last.
    #[serde(deserialize_with = "json::ListOf::<MAX_SIGNERS>::deserialize")]
    #[schema(max_items = 256)]
    pub signers: Vec<SignerUse>,
}

/// One signer of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignerUse {
    /// Address of the key.
    #[schema(value_type = schema::Account)]
    pub signer: Address,
    /// How it stands to the registry, and to the server's files.
    pub standing: SignerStanding,
    /// Shares of this server, of keys that are not retired, whose leaf names this signer: what is signed with them is signed with its
    /// key.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    pub shares: u64,
    /// The first of their keys.
    #[serde(with = "json::DecimalsOf::<MAX_BATCH>")]
    #[schema(value_type = Vec<schema::U64>, max_items = 256)]
    pub key_ids: Vec<u64>,
    /// Unix time (seconds) until which ceremonies, reshares and challenges of before the last change may still ask for an earlier
    /// signer; 0 for any other.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    pub keep_until: u64,
}

/// How a signer stands to the registry, and to the server's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignerStanding {
    /// The registry names it, and its key is here.
    Current,
    /// The registry named it before, and its key is here.
    Earlier,
    /// Its key is here, and finalised blocks do not name it.
    Waiting,
    /// It was this server's or is named by a share, and its key is not here.
    Missing,
}

/// Most reasons in a [`Readiness`]: each of the few checks has at most one per RPC endpoint.
pub const MAX_REASONS: usize = 32;

/// `GET /readyz`: what keeps a server from being of use. As good as the connection it comes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Readiness {
    /// Whether nothing does.
    pub ready: bool,
    /// One entry per reason.
    #[serde(deserialize_with = "json::ListOf::<MAX_REASONS>::deserialize")]
    #[schema(max_items = 32)]
    pub reasons: Vec<Unready>,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Unready {
    /// `rpc`, `database`, `protection`, `clock`, `registered`, `signer` or `certificate`.
    #[serde(with = "json::text")]
    pub check: String,
    /// In words.
    #[serde(with = "json::text")]
    pub reason: String,
}

/// Most RPC endpoints that a [`View`] speaks of.
pub const MAX_ENDPOINTS: usize = 16;

/// Most pairs in one [`Conflicts`].
pub const MAX_CONFLICTS: usize = 32;

/// `GET /v1/conflicts`: requests of which no two signatures may answer both, one pair of each key and assignment. Each pair proves
/// itself, if its duty keys are the provider's: believe nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Conflicts {
    /// In the order in which they were found.
    #[serde(deserialize_with = "json::ListOf::<MAX_CONFLICTS>::deserialize")]
    #[schema(max_items = 32)]
    pub conflicts: Vec<Conflict>,
}

/// Two requests of one assignment that conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Conflict {
    /// Number in this server's database; grows.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    pub id: u64,
    /// One.
    #[schema(value_type = Object)]
    pub first: SignedDutyRequest,
    /// The other.
    #[schema(value_type = Object)]
    pub second: SignedDutyRequest,
}

/// `GET /v1/view`: what a server takes for the time and for the chain. As good as the connection it comes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct View {
    /// Unix time of the server's clock as it answers, milliseconds.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    pub time_ms: u64,
    /// What each of its RPC endpoints shows, in the order of its configuration; no endpoint is named.
    #[serde(deserialize_with = "json::ListOf::<MAX_ENDPOINTS>::deserialize")]
    #[schema(max_items = 16)]
    pub endpoints: Vec<EndpointView>,
}

/// What one RPC endpoint shows; a part is null where it shows nothing or does not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointView {
    /// Block 0.
    pub genesis: Option<SeenBlock>,
    /// Newest finalised block.
    pub finalized: Option<SeenBlock>,
    /// Newest block.
    pub head: Option<SeenBlock>,
}

/// A block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeenBlock {
    /// Number.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    pub number: u64,
    /// Hash.
    #[serde(with = "json::hash")]
    #[schema(value_type = schema::Hash)]
    pub hash: B256,
}

/// `POST /v1/watermarks`: how far a server has signed for some keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WatermarksRequest {
    /// The keys; each is answered on its own.
    #[serde(with = "json::DecimalsOf::<MAX_BATCH>")]
    #[schema(value_type = Vec<schema::U64>, max_items = 256)]
    pub key_ids: Vec<u64>,
}

/// Answer to [`WatermarksRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WatermarksReplies {
    /// One per key, in order.
    #[serde(deserialize_with = "json::ListOf::<MAX_BATCH>::deserialize")]
    pub responses: Vec<WatermarksReply>,
}

/// About one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum WatermarksReply {
    /// What the server knows.
    Known(Watermarks),
    /// It has no share of it, or cannot say now.
    Refused(Refused),
}

/// How far one server has signed for a validator. Nobody signs this: it is as good as the connection it comes over, and as the
/// server that says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Watermarks {
    /// The key.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    pub key_id: u64,
    /// Compressed group key.
    #[serde(with = "json::array")]
    #[schema(value_type = schema::Hex48)]
    pub pubkey: [u8; 48],
    /// The server's share.
    #[serde(with = "json::index")]
    #[schema(value_type = schema::Index)]
    pub index: ShareIndex,
    /// Whether its slashing protection lets it sign for the key: it knows the key and vouches for its history.
    pub may_sign: bool,
    /// Why it does not; null if it does.
    #[serde(deserialize_with = "json::text::optional")]
    pub reason: Option<String>,
    /// At or below these nothing is signed any more.
    pub low: Watermark,
    /// The latest that may have been signed.
    pub high: Watermark,
    /// For whom it signs now; null for nobody.
    pub assignment: Option<Serving>,
}

/// Slot of a block and epochs of an attestation (EIP-3076); null where nothing was signed and nothing is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Watermark {
    /// For blocks.
    #[serde(with = "json::optional_decimal")]
    #[schema(value_type = Option<schema::U64>)]
    pub slot: Option<u64>,
    /// For the sources of attestations.
    #[serde(with = "json::optional_decimal")]
    #[schema(value_type = Option<schema::U64>)]
    pub source_epoch: Option<u64>,
    /// For their targets.
    #[serde(with = "json::optional_decimal")]
    #[schema(value_type = Option<schema::U64>)]
    pub target_epoch: Option<u64>,
}

/// Who may ask for duties, as `KeyRegistry.dutyAssignment` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Serving {
    /// Signs the requests.
    #[serde(with = "json::address")]
    #[schema(value_type = schema::Account)]
    pub duty_key: Address,
    /// Number that the requests name.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    pub number: u64,
}
