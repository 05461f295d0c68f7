//! Evidence of a fault in a reshare, complete in itself: who has the file can judge it offline.
//!
//! # Warning
//! The Court has no entry for these faults yet, so there is nothing to report them with: they are types of their own, which no
//! program can hand to a Court, and not part of [`crate::evidence::Proof`]. What they prove is judged by the rules that the Court has
//! for ceremonies, so that a secret which a complaint shows convicts once there is an entry.

use std::fmt;

use alloy_primitives::{Address, B256, keccak256};
use serde::{Deserialize, Serialize};
use stkr_core::{
    MAX_MEMBERS, PublicKey,
    dkg::check_one_time_key,
    reshare::complaint::{decrypt_share, is_committed_value, y_of_one_time_key},
};
use thiserror::Error;
use utoipa::ToSchema;

use super::{Body, ReshareDealingBody, ReshareId, ReshareMessage, reshare_domain};
use crate::{
    ProtocolDomain, SignatureError,
    evidence::{Holder, MAX_FILE, VERSION, element, version},
    json, json_reason,
    leaves::pair_hash,
    schema,
};

const KEY: usize = 33;
const G1: usize = 128;
const SHARE: usize = 32;
const MEMBERS: usize = MAX_MEMBERS as usize;

/// Why a file proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EvidenceError {
    /// Too long to be one.
    #[error("the file has {0} bytes; evidence has at most {MAX_FILE}")]
    TooLong(usize),
    /// Not the JSON of `docs/protocol.md`.
    #[error("the file is no evidence of a reshare of version {VERSION}: {0}")]
    Malformed(String),
    /// Nobody signed.
    #[error("nobody signed what the file says was signed: {0}")]
    Signature(#[from] SignatureError),
    /// Two signers, or not the holder of the share.
    #[error("{recovered} signed what the file says that {claimed} did")]
    OtherSigner {
        /// Who the file accuses.
        claimed: Address,
        /// Who signed.
        recovered: Address,
    },
    /// No dealing.
    #[error("the message is no dealing of a reshare")]
    NoDealing,
    /// Nothing in common.
    #[error("the two are not of one reshare, round and sender")]
    DifferentSubjects,
    /// No fault.
    #[error("both say the same")]
    NoConflict,
    /// Not the keys that the dealer encrypted to.
    #[error("the recipients' keys hash to {given}, the dealing was made for {signed}")]
    OtherRecipientKeys {
        /// Of the file.
        given: B256,
        /// Of the dealing.
        signed: B256,
    },
    /// No such member, or not its secret.
    #[error("the dealing has no share for member {0}, or the secret is not that of its one-time key")]
    WrongOpening(u8),
    /// Malformed, and so nothing can be opened or compared with.
    #[error("the dealing is malformed, which needs no secret to be shown")]
    Unusable,
    /// No fault.
    #[error("the share for member {0} is the one that the dealing commits to")]
    GoodDealing(u8),
    /// No fault of this kind.
    #[error("the dealing does not have {0}")]
    NotMalformed(Defect),
}

/// A dealing with the share of one new member opened: a complaint.
///
/// # Warning
/// The secret opens what was sent to this one key, which is what this dealer sent to this member. Whoever shows it must never
/// acknowledge this attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpenedReshareDealing {
    /// What the dealer signed.
    pub dealing: ReshareMessage,
    /// The n' one-time keys of that dealer, 33 bytes each, member order.
    #[serde(with = "json::AtMost::<{ MEMBERS * KEY }>")]
    #[schema(value_type = schema::Hex)]
    pub recipient_keys: Vec<u8>,
    /// Index of the new member.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U8)]
    pub recipient: u8,
    /// Its one-time secret for that dealer.
    #[serde(with = "json::array")]
    #[schema(value_type = schema::Hash)]
    pub secret: [u8; 32],
}

impl OpenedReshareDealing {
    fn judge(&self, domain: &ProtocolDomain) -> Result<(), EvidenceError> {
        let body = dealing_of(&self.dealing)?;
        let (given, signed) = (keccak256(&self.recipient_keys), body.recipient_keys_hash);
        if given != signed {
            return Err(EvidenceError::OtherRecipientKeys { given, signed });
        }
        let wrong = EvidenceError::WrongOpening(self.recipient);
        let key: Option<&[u8; KEY]> = element(&self.recipient_keys, self.recipient);
        let ciphertext: Option<&[u8; SHARE]> = element(&body.shares, self.recipient);
        let (Some(key), Some(ciphertext)) = (key, ciphertext) else {
            return Err(wrong);
        };
        y_of_one_time_key(key, &self.secret).ok_or(wrong)?;
        let dealers_key = body.one_time_key.as_slice().try_into().map_err(|_| EvidenceError::Unusable)?;
        let (domain, pair) = (reshare_domain(domain, self.dealing.id), (self.dealing.index.get(), self.recipient));
        let share =
            decrypt_share(&domain, pair, dealers_key, &self.secret, ciphertext).ok_or(EvidenceError::Unusable)?;
        match is_committed_value(&body.commitments, self.recipient, &share) {
            Some(false) => Ok(()),
            Some(true) => Err(EvidenceError::GoodDealing(self.recipient)),
            None => Err(EvidenceError::Unusable),
        }
    }
}

/// What anybody can see is wrong with a dealing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Defect {
    /// Commitments, shares or one-time key of the wrong length.
    Shape,
    /// Its one-time key is none.
    OneTimeKey,
    /// A commitment is infinity or no point of the subgroup.
    Commitment,
    /// Its constant term is not the dealer's share key: it deals something else than its share.
    AnotherSecret,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shape => "a field of the wrong length",
            Self::OneTimeKey => "a one-time key that is none",
            Self::Commitment => "a commitment that is no point",
            Self::AnotherSecret => "a constant term other than the dealer's share key",
        })
    }
}

/// A dealing that anybody can see is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DefectiveReshareDealing {
    /// What the dealer signed.
    pub dealing: ReshareMessage,
    /// The dealer's seat in the old committee, whose share key its constant term must be.
    pub holder: Holder,
    /// t': the chain knows if it is.
    #[serde(with = "json::decimal")]
    pub threshold: u8,
    /// n': the chain knows if it is.
    #[serde(with = "json::decimal")]
    pub members: u8,
    /// What is wrong.
    pub defect: Defect,
    /// Which commitment, from 0; else 0.
    #[serde(with = "json::decimal")]
    pub position: u8,
}

impl DefectiveReshareDealing {
    /// The first defect of a dealing for a t'-of-n' committee by the holder of an old share, if it has one.
    #[must_use]
    pub fn find(
        message: &ReshareMessage,
        (threshold, members): (u8, u8),
        holder: &Holder,
        domain: &ProtocolDomain,
    ) -> Option<Self> {
        let candidate = |defect, position| {
            let (dealing, holder) = (message.clone(), holder.clone());
            Self { dealing, holder, threshold, members, defect, position }
        };
        let points = (0..threshold).map(|position| (Defect::Commitment, position));
        let defects = [(Defect::Shape, 0), (Defect::OneTimeKey, 0)].into_iter();
        let defects = defects.chain(points).chain([(Defect::AnotherSecret, 0)]);
        let mut candidates = defects.map(|(defect, position)| candidate(defect, position));
        candidates.find(|candidate| candidate.judge(domain).is_ok())
    }

    fn judge(&self, domain: &ProtocolDomain) -> Result<(), EvidenceError> {
        let body = dealing_of(&self.dealing)?;
        let recovered = self.dealing.recover(domain)?;
        if recovered != self.holder.signer {
            return Err(EvidenceError::OtherSigner { claimed: self.holder.signer, recovered });
        }
        let point = |position: u8| body.commitments.as_chunks::<G1>().0.get(usize::from(position));
        let guilty = match self.defect {
            Defect::Shape => {
                body.commitments.len() != usize::from(self.threshold) * G1
                    || body.shares.len() != usize::from(self.members) * SHARE
                    || body.one_time_key.len() != KEY
            }
            Defect::OneTimeKey => {
                let key = <&[u8; KEY]>::try_from(body.one_time_key.as_slice());
                key.is_ok_and(|key| check_one_time_key(key).is_err())
            }
            Defect::Commitment => point(self.position).is_some_and(|point| PublicKey::from_eip2537(point).is_err()),
            Defect::AnotherSecret => point(0).is_some_and(|point| *point != self.holder.share_key),
        };
        if guilty { Ok(()) } else { Err(EvidenceError::NotMalformed(self.defect)) }
    }
}

/// Two messages of one sender in one round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReshareMessagesProof {
    /// One.
    pub first: ReshareMessage,
    /// The other.
    pub second: ReshareMessage,
}

impl ReshareMessagesProof {
    fn judge(&self, domain: &ProtocolDomain) -> Result<B256, EvidenceError> {
        let subject = |it: &ReshareMessage| (it.id, it.round(), it.sender());
        if subject(&self.first) != subject(&self.second) {
            return Err(EvidenceError::DifferentSubjects);
        }
        let digests = (self.first.digest(domain), self.second.digest(domain));
        if digests.0 == digests.1 {
            return Err(EvidenceError::NoConflict);
        }
        let (claimed, recovered) = (self.first.recover(domain)?, self.second.recover(domain)?);
        if claimed != recovered {
            return Err(EvidenceError::OtherSigner { claimed, recovered });
        }
        Ok(pair_hash(digests.0, digests.1))
    }
}

/// What proves the fault that the file is named after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Proof {
    /// A dealing whose share for a new member is not what it commits to.
    BadReshareDealing(OpenedReshareDealing),
    /// A dealing that anybody can see is none.
    MalformedReshareDealing(DefectiveReshareDealing),
    /// Two messages of one sender and round.
    ReshareEquivocation(ReshareMessagesProof),
}

/// Evidence of one fault in a reshare, for one deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReshareEvidence {
    #[serde(with = "version")]
    version: u8,
    /// EIP-155 chain id.
    #[serde(with = "json::decimal")]
    pub chain_id: u64,
    /// Verifying contract of all that was signed.
    #[serde(with = "json::address")]
    pub key_registry: Address,
    /// What proves it.
    pub proof: Proof,
}

/// What a file proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Digest of what was signed, or of both digests.
    pub evidence: B256,
    /// The reshare.
    pub id: ReshareId,
    /// Who did it: whichever server this signer is or once was.
    pub signer: Address,
    /// Of a malformed dealing what only the chain knows: that the new committee is t' of n', and that this root is that of the old
    /// one, of the committee epoch before the reshare's.
    pub holds_if: Option<HoldsIf>,
}

/// Facts of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldsIf {
    /// t'.
    pub threshold: u8,
    /// n'.
    pub members: u8,
    /// What the dealer's leaf leads to.
    pub old_root: B256,
}

impl ReshareEvidence {
    /// Evidence for the contracts of `domain`.
    #[must_use]
    pub const fn new(domain: &ProtocolDomain, proof: Proof) -> Self {
        Self { version: VERSION, chain_id: domain.chain_id, key_registry: domain.key_registry, proof }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`EvidenceError::TooLong`], [`EvidenceError::Malformed`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, EvidenceError> {
        if bytes.len() > MAX_FILE {
            return Err(EvidenceError::TooLong(bytes.len()));
        }
        serde_json::from_slice(bytes).map_err(|error| EvidenceError::Malformed(json_reason(&error)))
    }

    /// Recomputes everything that can be recomputed without a chain.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub fn verify(&self) -> Result<Verified, EvidenceError> {
        let domain = &ProtocolDomain { chain_id: self.chain_id, key_registry: self.key_registry };
        let (evidence, message, holds_if) = match &self.proof {
            Proof::BadReshareDealing(it) => {
                it.judge(domain)?;
                (it.dealing.digest(domain), &it.dealing, None)
            }
            Proof::MalformedReshareDealing(it) => {
                it.judge(domain)?;
                let old_root = it.holder.root(it.dealing.index);
                let holds_if = HoldsIf { threshold: it.threshold, members: it.members, old_root };
                (it.dealing.digest(domain), &it.dealing, Some(holds_if))
            }
            Proof::ReshareEquivocation(it) => (it.judge(domain)?, &it.first, None),
        };
        Ok(Verified { evidence, id: message.id, signer: message.recover(domain)?, holds_if })
    }
}

fn dealing_of(message: &ReshareMessage) -> Result<&ReshareDealingBody, EvidenceError> {
    match &message.body {
        Body::Dealing(body) => Ok(body),
        _ => Err(EvidenceError::NoDealing),
    }
}
