//! What old and new members of a key sign in a reshare, and its JSON form.

use std::{borrow::Cow, fmt};

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolStruct as _;
use serde::{Deserialize, Serialize};
use stkr_core::{MAX_MEMBERS, ShareIndex};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::{
    ProtocolDomain, SignatureError, SignerKey, eip712, json, messages::AcknowledgementBody, recover_signer, schema,
};

/// Bytes of a G1 point (EIP-2537), of a one-time key and of an encrypted share.
const G1: usize = 128;
const ONE_TIME_KEY: usize = 33;
const SHARE: usize = 32;
const MEMBERS: usize = MAX_MEMBERS as usize;

/// The rounds of a reshare, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Round {
    /// Every new member publishes a one-time key for each dealer.
    Keys,
    /// Every dealer deals its share.
    Dealing,
    /// Every new member signs the transcript.
    Acknowledgement,
}

impl Round {
    /// All rounds, in order.
    pub const ALL: [Self; 3] = [Self::Keys, Self::Dealing, Self::Acknowledgement];

    /// Name for people and databases; the same as in JSON. None is that of a round of a ceremony.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keys => "reshare_keys",
            Self::Dealing => "reshare_dealing",
            Self::Acknowledgement => "reshare_acknowledgement",
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose message it is. The two committees count from 1 each, and a server that stays sits in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sender {
    /// A dealer, by its index in the old committee.
    Dealer(ShareIndex),
    /// A member of the new committee.
    Member(ShareIndex),
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dealer(index) => write!(f, "old member {}", index.get()),
            Self::Member(index) => write!(f, "new member {}", index.get()),
        }
    }
}

/// Round 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReshareKeysBody {
    /// t compressed secp256k1 points of 33 bytes, dealers' order: each dealer encrypts to its own.
    #[serde(with = "json::AtMost::<{ MEMBERS * ONE_TIME_KEY }>")]
    #[schema(value_type = schema::OneTimeKeysBytes)]
    pub public_keys: Vec<u8>,
}

/// Round 2. Lengths are the dealer's business and its fault when they are wrong: only the upper bounds hold here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReshareDealingBody {
    /// keccak256 of the n' one-time keys that members published for this dealer (33 bytes each, member order). Without it a
    /// recipient could open its share with another key than the dealer had, and frame the dealer.
    #[serde(with = "json::hash")]
    #[schema(value_type = schema::Hash)]
    pub recipient_keys_hash: B256,
    /// The dealer's own, made for this dealing: 33 bytes.
    #[serde(with = "json::AtMost::<ONE_TIME_KEY>")]
    #[schema(value_type = schema::OneTimeKeyBytes)]
    pub one_time_key: Vec<u8>,
    /// t' G1 points (EIP-2537), constant term first, which is the dealer's share key.
    #[serde(with = "json::AtMost::<{ MEMBERS * G1 }>")]
    #[schema(value_type = schema::CommitmentsBytes)]
    pub commitments: Vec<u8>,
    /// n' encrypted shares of 32 bytes, recipient order.
    #[serde(with = "json::AtMost::<{ MEMBERS * SHARE }>")]
    #[schema(value_type = schema::SharesBytes)]
    pub shares: Vec<u8>,
}

/// What a message says, by round. An acknowledgement has the fields of a ceremony's: t', n' share keys with the group key, the
/// new committee, the t dealings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Round 1.
    Keys(ReshareKeysBody),
    /// Round 2.
    Dealing(ReshareDealingBody),
    /// Round 3.
    Acknowledgement(AcknowledgementBody),
}

impl Body {
    /// The round this belongs to.
    #[must_use]
    pub const fn round(&self) -> Round {
        match self {
            Self::Keys(_) => Round::Keys,
            Self::Dealing(_) => Round::Dealing,
            Self::Acknowledgement(_) => Round::Acknowledgement,
        }
    }
}

/// Which reshare: nothing that was signed for one means anything in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReshareId {
    /// Key.
    pub key_id: u64,
    /// Committee epoch of the committee that is being made; the key's first committee has 0.
    pub committee_epoch: u32,
    /// Number of the attempt to make it, from 0.
    pub attempt: u16,
}

impl fmt::Display for ReshareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}, committee epoch {}, attempt {}", self.key_id, self.committee_epoch, self.attempt)
    }
}

/// A message of a reshare with the signature of its sender's signer key.
///
/// Holding one means nothing yet: compare [`ReshareMessage::recover`] with the sender's signer, as
/// [`Board::accept`](super::Board::accept) does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
pub struct ReshareMessage {
    /// Which reshare.
    pub id: ReshareId,
    /// Sender: of a dealing its index in the old committee, else that in the new one.
    pub index: ShareIndex,
    /// What it says.
    pub body: Body,
    /// r ‖ s ‖ v over [`ReshareMessage::digest`].
    pub signature: [u8; 65],
}

impl ReshareMessage {
    /// Signs `body` for one reshare and sender.
    #[must_use]
    pub fn sign(domain: &ProtocolDomain, key: &SignerKey, id: ReshareId, index: ShareIndex, body: Body) -> Self {
        let mut message = Self { id, index, body, signature: [0; 65] };
        message.signature = key.sign_digest(message.digest(domain));
        message
    }

    /// The round of the message.
    #[must_use]
    pub const fn round(&self) -> Round {
        self.body.round()
    }

    /// Whose it claims to be.
    #[must_use]
    pub const fn sender(&self) -> Sender {
        match self.body {
            Body::Dealing(_) => Sender::Dealer(self.index),
            Body::Keys(_) | Body::Acknowledgement(_) => Sender::Member(self.index),
        }
    }

    /// EIP-712 digest, which the signature covers.
    #[must_use]
    pub fn digest(&self, domain: &ProtocolDomain) -> B256 {
        let ReshareId { key_id, committee_epoch, attempt } = self.id;
        let (key_id, index) = (U256::from(key_id), self.index.get());
        let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        match &self.body {
            Body::Keys(body) => eip712::ReshareKeys {
                keyId: key_id,
                committeeEpoch: committee_epoch,
                attempt,
                index,
                publicKeys: bytes(&body.public_keys),
            }
            .eip712_signing_hash(&domain.eip712()),
            Body::Dealing(body) => eip712::ReshareDealing {
                keyId: key_id,
                committeeEpoch: committee_epoch,
                attempt,
                index,
                recipientKeysHash: body.recipient_keys_hash,
                oneTimeKey: bytes(&body.one_time_key),
                commitments: bytes(&body.commitments),
                shares: bytes(&body.shares),
            }
            .eip712_signing_hash(&domain.eip712()),
            Body::Acknowledgement(body) => acknowledgement_digest(body, self.id, domain),
        }
    }

    /// Address whose key signed the message.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn recover(&self, domain: &ProtocolDomain) -> Result<Address, SignatureError> {
        recover_signer(self.digest(domain), &self.signature)
    }
}

/// EIP-712 digest of a `ReshareAcknowledgement`: the same for all new members, and what `IResharing.finalise` checks.
pub(super) fn acknowledgement_digest(body: &AcknowledgementBody, id: ReshareId, domain: &ProtocolDomain) -> B256 {
    eip712::ReshareAcknowledgement {
        keyId: U256::from(id.key_id),
        committeeEpoch: id.committee_epoch,
        attempt: id.attempt,
        threshold: body.threshold,
        pointsHash: body.points_hash,
        committeeHash: body.committee_hash,
        dealingsDigest: body.dealings_digest,
    }
    .eip712_signing_hash(&domain.eip712())
}

/// All of a message but its round.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Signed<B: ToSchema> {
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    key_id: u64,
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U32)]
    committee_epoch: u32,
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U16)]
    attempt: u16,
    #[serde(with = "json::index")]
    #[schema(value_type = schema::Index)]
    index: ShareIndex,
    body: B,
    #[serde(with = "json::array")]
    #[schema(value_type = schema::Hex65)]
    signature: [u8; 65],
}

impl<B: ToSchema> Signed<B> {
    fn of(message: &ReshareMessage, body: B) -> Self {
        let ReshareId { key_id, committee_epoch, attempt } = message.id;
        Self { key_id, committee_epoch, attempt, index: message.index, body, signature: message.signature }
    }

    fn read(self, body: impl FnOnce(B) -> Body) -> ReshareMessage {
        let id = ReshareId { key_id: self.key_id, committee_epoch: self.committee_epoch, attempt: self.attempt };
        ReshareMessage { id, index: self.index, body: body(self.body), signature: self.signature }
    }
}

/// `round` decides which body is allowed, and every unknown field is an error.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "round")]
enum Wire {
    #[serde(rename = "reshare_keys")]
    Keys(Signed<ReshareKeysBody>),
    #[serde(rename = "reshare_dealing")]
    Dealing(Signed<ReshareDealingBody>),
    #[serde(rename = "reshare_acknowledgement")]
    Acknowledgement(Signed<AcknowledgementBody>),
}

impl From<ReshareMessage> for Wire {
    fn from(message: ReshareMessage) -> Self {
        match &message.body {
            Body::Keys(body) => Self::Keys(Signed::of(&message, body.clone())),
            Body::Dealing(body) => Self::Dealing(Signed::of(&message, body.clone())),
            Body::Acknowledgement(body) => Self::Acknowledgement(Signed::of(&message, body.clone())),
        }
    }
}

impl From<Wire> for ReshareMessage {
    fn from(wire: Wire) -> Self {
        match wire {
            Wire::Keys(signed) => signed.read(Body::Keys),
            Wire::Dealing(signed) => signed.read(Body::Dealing),
            Wire::Acknowledgement(signed) => signed.read(Body::Acknowledgement),
        }
    }
}

impl PartialSchema for ReshareMessage {
    fn schema() -> RefOr<Schema> {
        let rounds = [
            (Round::Keys.name(), Signed::<ReshareKeysBody>::schema()),
            (Round::Dealing.name(), Signed::<ReshareDealingBody>::schema()),
            (Round::Acknowledgement.name(), Signed::<AcknowledgementBody>::schema()),
        ];
        schema::tagged("round", rounds)
    }
}

impl ToSchema for ReshareMessage {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("ReshareMessage")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        fn of<B: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
            schemas.push((B::name().into_owned(), B::schema()));
            Signed::<B>::schemas(schemas);
        }
        of::<ReshareKeysBody>(schemas);
        of::<ReshareDealingBody>(schemas);
        of::<AcknowledgementBody>(schemas);
    }
}
