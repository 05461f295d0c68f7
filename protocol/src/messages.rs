//! Ceremony messages: what a member signs in each round, and its JSON form.

use std::{borrow::Cow, fmt};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::SolStruct;
use serde::{Deserialize, Serialize};
use stkr_core::{MAX_MEMBERS, ShareIndex};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::{ProtocolDomain, SignatureError, SignerKey, eip712, json, recover_signer, schema};

/// Bytes of a G1 point and a G2 point (EIP-2537), of a one-time key and of an encrypted share.
const G1: usize = 128;
const G2: usize = 256;
const ONE_TIME_KEY: usize = 33;
const SHARE: usize = 32;
const MEMBERS: usize = MAX_MEMBERS as usize;

/// The rounds of a ceremony, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Round {
    /// Everybody publishes a fresh one-time key.
    OneTimeKey,
    /// Everybody commits to its dealing.
    DealingCommitment,
    /// Everybody signs the set of all commitments it holds.
    CommitmentSet,
    /// Everybody reveals its dealing.
    Dealing,
    /// Everybody signs the transcript.
    Acknowledgement,
}

impl Round {
    /// All rounds, in order.
    pub const ALL: [Self; 5] =
        [Self::OneTimeKey, Self::DealingCommitment, Self::CommitmentSet, Self::Dealing, Self::Acknowledgement];

    /// Name for people and databases; the same as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneTimeKey => "one_time_key",
            Self::DealingCommitment => "dealing_commitment",
            Self::CommitmentSet => "commitment_set",
            Self::Dealing => "dealing",
            Self::Acknowledgement => "acknowledgement",
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Round 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OneTimeKeyBody {
    /// Compressed secp256k1 point, 33 bytes. Shares for this member are encrypted to it.
    #[serde(with = "json::AtMost::<ONE_TIME_KEY>")]
    #[schema(value_type = schema::OneTimeKeyBytes)]
    pub public_key: Vec<u8>,
}

/// Round 2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DealingCommitmentBody {
    /// EIP-712 digest of the dealing that round 4 reveals.
    #[serde(with = "json::hash")]
    #[schema(value_type = schema::Hash)]
    pub dealing_hash: B256,
}

/// Round 3. What a member is held to from here on is in it whole: the dealings, and among whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommitmentSetBody {
    /// keccak256(abi.encode(uint32[] server ids, address[] signers)). Without it the set of a committee that a reorganisation
    /// took away, or whose member has another signer by now, would pass for one of the committee that there is.
    #[serde(with = "json::hash")]
    #[schema(value_type = schema::Hash)]
    pub committee_hash: B256,
    /// keccak256 of the n dealing hashes, index order.
    #[serde(with = "json::hash")]
    #[schema(value_type = schema::Hash)]
    pub commitments_hash: B256,
}

/// Round 4. Lengths are the dealer's business and its fault when they are wrong: only the upper bounds hold here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DealingBody {
    /// keccak256 of the n one-time keys that the shares are encrypted to (33 bytes each, index order). Without it a
    /// recipient could open its share on-chain with another key than the dealer had, and frame the dealer.
    #[serde(with = "json::hash")]
    #[schema(value_type = schema::Hash)]
    pub one_time_keys_hash: B256,
    /// The dealer's one-time key again, so that a signed dealing is evidence on its own.
    #[serde(with = "json::AtMost::<ONE_TIME_KEY>")]
    #[schema(value_type = schema::OneTimeKeyBytes)]
    pub one_time_key: Vec<u8>,
    /// t G1 points (EIP-2537), constant term first.
    #[serde(with = "json::AtMost::<{ MEMBERS * G1 }>")]
    #[schema(value_type = schema::CommitmentsBytes)]
    pub commitments: Vec<u8>,
    /// One G2 point (EIP-2537).
    #[serde(with = "json::AtMost::<G2>")]
    #[schema(value_type = schema::PossessionBytes)]
    pub proof_of_possession: Vec<u8>,
    /// n encrypted shares of 32 bytes, recipient order.
    #[serde(with = "json::AtMost::<{ MEMBERS * SHARE }>")]
    #[schema(value_type = schema::SharesBytes)]
    pub shares: Vec<u8>,
}

/// Round 5. Says nothing of its sender but through its signature: all members sign the very same digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcknowledgementBody {
    /// t.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U8)]
    pub threshold: u8,
    /// keccak256 of the n share keys, then the group key (EIP-2537).
    #[serde(with = "json::hash")]
    #[schema(value_type = schema::Hash)]
    pub points_hash: B256,
    /// keccak256(abi.encode(uint32[] server ids, address[] signers)).
    #[serde(with = "json::hash")]
    #[schema(value_type = schema::Hash)]
    pub committee_hash: B256,
    /// keccak256 of the n dealing hashes, index order.
    #[serde(with = "json::hash")]
    #[schema(value_type = schema::Hash)]
    pub dealings_digest: B256,
}

impl AcknowledgementBody {
    /// EIP-712 digest of a ceremony's `Acknowledgement`: the same for all of its members.
    #[must_use]
    pub fn digest(&self, domain: &ProtocolDomain, key_id: u64, attempt: u16) -> B256 {
        eip712::Acknowledgement {
            keyId: U256::from(key_id),
            attempt,
            threshold: self.threshold,
            pointsHash: self.points_hash,
            committeeHash: self.committee_hash,
            dealingsDigest: self.dealings_digest,
        }
        .eip712_signing_hash(&domain.eip712())
    }
}

/// What a message says, by round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Round 1.
    OneTimeKey(OneTimeKeyBody),
    /// Round 2.
    DealingCommitment(DealingCommitmentBody),
    /// Round 3.
    CommitmentSet(CommitmentSetBody),
    /// Round 4.
    Dealing(DealingBody),
    /// Round 5.
    Acknowledgement(AcknowledgementBody),
}

impl Body {
    /// The round this belongs to.
    #[must_use]
    pub const fn round(&self) -> Round {
        match self {
            Self::OneTimeKey(_) => Round::OneTimeKey,
            Self::DealingCommitment(_) => Round::DealingCommitment,
            Self::CommitmentSet(_) => Round::CommitmentSet,
            Self::Dealing(_) => Round::Dealing,
            Self::Acknowledgement(_) => Round::Acknowledgement,
        }
    }

    /// The committee that it is said among, where it names one.
    #[must_use]
    pub const fn committee_hash(&self) -> Option<B256> {
        match self {
            Self::CommitmentSet(body) => Some(body.committee_hash),
            Self::Acknowledgement(body) => Some(body.committee_hash),
            Self::OneTimeKey(_) | Self::DealingCommitment(_) | Self::Dealing(_) => None,
        }
    }
}

/// A ceremony message with the signature of its sender's signer key.
///
/// Holding one means nothing yet: compare [`SignedMessage::recover`] with the member's signer, as
/// [`Board::accept`](crate::ceremony::Board::accept) does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
pub struct SignedMessage {
    /// Key the ceremony makes.
    pub key_id: u64,
    /// Ceremony number of this key, from 0.
    pub attempt: u16,
    /// Sender.
    pub index: ShareIndex,
    /// What it says.
    pub body: Body,
    /// r ‖ s ‖ v over [`SignedMessage::digest`].
    pub signature: [u8; 65],
}

impl SignedMessage {
    /// Signs `body` for one ceremony and sender.
    #[must_use]
    pub fn sign(
        domain: &ProtocolDomain,
        key: &SignerKey,
        (key_id, attempt, index): (u64, u16, ShareIndex),
        body: Body,
    ) -> Self {
        let mut message = Self { key_id, attempt, index, body, signature: [0; 65] };
        message.signature = key.sign_digest(message.digest(domain));
        message
    }

    /// The round of the message.
    #[must_use]
    pub const fn round(&self) -> Round {
        self.body.round()
    }

    /// EIP-712 digest, which the signature covers. Of a dealing this is the `dealingHash`.
    #[must_use]
    pub fn digest(&self, domain: &ProtocolDomain) -> B256 {
        let separated = domain.eip712();
        let (key_id, attempt, index) = (U256::from(self.key_id), self.attempt, self.index.get());
        let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        match &self.body {
            Body::OneTimeKey(body) => {
                eip712::OneTimeKey { keyId: key_id, attempt, index, publicKey: bytes(&body.public_key) }
                    .eip712_signing_hash(&separated)
            }
            Body::DealingCommitment(body) => {
                eip712::DealingCommitment { keyId: key_id, attempt, index, dealingHash: body.dealing_hash }
                    .eip712_signing_hash(&separated)
            }
            Body::CommitmentSet(body) => eip712::CommitmentSet {
                keyId: key_id,
                attempt,
                index,
                committeeHash: body.committee_hash,
                commitmentsHash: body.commitments_hash,
            }
            .eip712_signing_hash(&separated),
            Body::Dealing(body) => eip712::Dealing {
                keyId: key_id,
                attempt,
                index,
                oneTimeKeysHash: body.one_time_keys_hash,
                oneTimeKey: bytes(&body.one_time_key),
                commitments: bytes(&body.commitments),
                proofOfPossession: bytes(&body.proof_of_possession),
                shares: bytes(&body.shares),
            }
            .eip712_signing_hash(&separated),
            Body::Acknowledgement(body) => body.digest(domain, self.key_id, attempt),
        }
    }

    /// Number of the round, from 1, and the fields beyond key, attempt and index as words in the order of the EIP-712 struct
    /// (of `bytes` their keccak256): what `ICourt.CeremonyMessage` takes.
    #[must_use]
    pub fn words(&self) -> (u8, Vec<B256>) {
        match &self.body {
            Body::OneTimeKey(body) => (1, vec![keccak256(&body.public_key)]),
            Body::DealingCommitment(body) => (2, vec![body.dealing_hash]),
            Body::CommitmentSet(body) => (3, vec![body.committee_hash, body.commitments_hash]),
            Body::Dealing(body) => {
                let fields = [&body.one_time_key, &body.commitments, &body.proof_of_possession, &body.shares];
                (4, std::iter::once(body.one_time_keys_hash).chain(fields.map(keccak256)).collect())
            }
            Body::Acknowledgement(body) => {
                let threshold = B256::from(U256::from(body.threshold));
                (5, vec![threshold, body.points_hash, body.committee_hash, body.dealings_digest])
            }
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

/// One struct per round: `round` in JSON decides which body is allowed, and every unknown field is an error.
macro_rules! wire {
    ($($round:ident($name:ident, $body:ident)),*) => {
        $(
            #[derive(Clone, Serialize, Deserialize, ToSchema)]
            #[serde(rename_all = "camelCase", deny_unknown_fields)]
            struct $name {
                #[serde(with = "json::decimal")]
                #[schema(value_type = schema::U64)]
                key_id: u64,
                #[serde(with = "json::decimal")]
                #[schema(value_type = schema::U16)]
                attempt: u16,
                #[serde(with = "json::index")]
                #[schema(value_type = schema::Index)]
                index: ShareIndex,
                body: $body,
                #[serde(with = "json::array")]
                #[schema(value_type = schema::Hex65)]
                signature: [u8; 65],
            }
        )*

        #[derive(Clone, Serialize, Deserialize)]
        #[serde(tag = "round", rename_all = "snake_case")]
        enum Wire {
            $($round($name)),*
        }

        impl PartialSchema for SignedMessage {
            fn schema() -> RefOr<Schema> {
                schema::tagged("round", [$((Round::$round.name(), $name::schema())),*])
            }
        }

        impl ToSchema for SignedMessage {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed("SignedMessage")
            }

            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                $($name::schemas(schemas);)*
            }
        }

        impl From<SignedMessage> for Wire {
            fn from(message: SignedMessage) -> Self {
                let SignedMessage { key_id, attempt, index, body, signature } = message;
                match body {
                    $(Body::$round(body) => Self::$round($name { key_id, attempt, index, body, signature }),)*
                }
            }
        }

        impl From<Wire> for SignedMessage {
            fn from(wire: Wire) -> Self {
                match wire {
                    $(Wire::$round($name { key_id, attempt, index, body, signature }) => {
                        Self { key_id, attempt, index, body: Body::$round(body), signature }
                    })*
                }
            }
        }
    };
}

wire!(
    OneTimeKey(SignedOneTimeKey, OneTimeKeyBody),
    DealingCommitment(SignedDealingCommitment, DealingCommitmentBody),
    CommitmentSet(SignedCommitmentSet, CommitmentSetBody),
    Dealing(SignedDealing, DealingBody),
    Acknowledgement(SignedAcknowledgement, AcknowledgementBody)
);

#[cfg(test)]
mod tests;
