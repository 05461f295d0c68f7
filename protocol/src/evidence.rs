//! Evidence of a fault, complete in itself: who has the file can judge it offline and report it to the Court.
//!
//! ```text
//! EvidenceFile --verify()--> Verified { fault, evidence, accused }      everything recomputed, no chain asked
//!                               | commitment(reporter, ..)              step 1 of a report: Court.commit (none for silence)
//!                               | root, where a server is accused       the chain says if it is the key's (isShareLeaf)
//! ```
//!
//! # What it proves, and what only the chain knows
//! [`EvidenceFile::verify`] says what the Court would find out by computing: signatures, digests, the leaf and its root, the
//! pairing, the rules of conflict, the share that an opened secret decrypts, what the Court's storage held after a block. What it cannot
//! say: that the root is the key's, that a signing root was never ordered, that a key is t of n or a withdrawal key, whose a signer or
//! duty key is where no leaf names it, and that a block is one of the chain.
//!
//! # Warning
//! A file comes from anybody. Nothing in it is believed; what it claims (server, signer) is what the signatures and the
//! leaf must then give. A dealing has one signature and no leaf, so that any changed byte only gives another signer: its file says
//! in [`Claims`] whom it accuses.

mod dealings;
mod unanswered;

use std::fmt;

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::{SolStruct, SolValue};
pub(crate) use dealings::element;
pub use dealings::{Defect, DefectiveDealing, OpenedDealing, SignedDealing};
use serde::{Deserialize, Serialize};
use stkr_core::{PointError, PublicKey, ShareIndex, Signature};
use thiserror::Error;
pub use unanswered::{Asked, AskedAcknowledgement, AskedSignature, UnansweredProof};

use crate::{
    ProtocolDomain, SignatureError,
    collection::{Committee, Evidence},
    eip712,
    envelope::{DutyKind, Envelope},
    json, json_reason,
    leaves::{climb, merkle_proof, pair_hash, share_leaf},
    messages::SignedMessage,
    recover_signer,
    sign::{MAX_PARTIAL, SignedPartial, Subject},
    state::{ProvenBlock, StateError},
};

/// The version that this program writes and reads.
pub const VERSION: u8 = 1;
/// Longest file in bytes: two dealings of the largest committee, and room.
pub const MAX_FILE: usize = 64 * 1024;
/// Siblings of a leaf among as many as a committee can ever have.
const MAX_PROOF: usize = 8;
/// Bytes of a partial (EIP-2537).
const PARTIAL: usize = 256;

/// Faults by the numbers of `ICourt.Fault`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Fault {
    /// A point that does not verify under the share key.
    InvalidPartial = 1,
    /// No point of the subgroup.
    GarbagePartial = 2,
    /// Two envelopes of duties that together are slashable.
    ConflictingDuties = 3,
    /// An envelope over what the chain never ordered.
    UnauthorisedSignature = 4,
    /// Two requests of one provider in one assignment that no two signatures may answer.
    ProviderEquivocation = 5,
    /// A dealing whose share for a member is not what it commits to.
    BadDealing = 6,
    /// A dealing that anybody can see is none.
    MalformedDealing = 7,
    /// Two messages of one member and round of a ceremony.
    CeremonyEquivocation = 8,
    /// Nobody answered a challenge in time.
    UnansweredChallenge = 9,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::InvalidPartial,
        Self::GarbagePartial,
        Self::ConflictingDuties,
        Self::UnauthorisedSignature,
        Self::ProviderEquivocation,
        Self::BadDealing,
        Self::MalformedDealing,
        Self::CeremonyEquivocation,
        Self::UnansweredChallenge,
    ];

    /// The fault of this number; nothing for those that nothing can prove yet.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| *fault as u8 == number)
    }

    /// Name in files, in metrics and in databases.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidPartial => "invalid_partial",
            Self::GarbagePartial => "garbage_partial",
            Self::ConflictingDuties => "conflicting_duties",
            Self::UnauthorisedSignature => "unauthorised_signature",
            Self::ProviderEquivocation => "provider_equivocation",
            Self::BadDealing => "bad_dealing",
            Self::MalformedDealing => "malformed_dealing",
            Self::CeremonyEquivocation => "ceremony_equivocation",
            Self::UnansweredChallenge => "unanswered_challenge",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a file proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EvidenceError {
    /// Too long to be one.
    #[error("the file has {0} bytes; evidence has at most {MAX_FILE}")]
    TooLong(usize),
    /// Not the JSON of `docs/protocol.md`.
    #[error("the file is no evidence of version {VERSION}: {0}")]
    Malformed(String),
    /// Of other contracts.
    #[error(
        "the evidence is for chain {chain_id}, key registry {key_registry} and court {court}, which are not those of this deployment"
    )]
    OtherDeployment {
        /// Of the file.
        chain_id: u64,
        /// Of the file.
        key_registry: Address,
        /// Of the file.
        court: Address,
    },
    /// Nobody signed.
    #[error("nobody signed what the file says was signed: {0}")]
    Signature(#[from] SignatureError),
    /// Somebody else signed.
    #[error("{recovered} signed what the file says that {claimed} did")]
    OtherSigner {
        /// Who the file accuses.
        claimed: Address,
        /// Who signed.
        recovered: Address,
    },
    /// A share key that is none.
    #[error("the share key is no point: {0}")]
    ShareKey(PointError),
    /// Not the bytes that were signed for.
    #[error("the partial signature hashes to {given}, the envelope was signed over {signed}")]
    OtherPartial {
        /// Of the file.
        given: B256,
        /// Of the envelope.
        signed: B256,
    },
    /// No fault.
    #[error("the partial signature is valid")]
    ValidPartial,
    /// Another fault.
    #[error("the partial signature is {0}, not what the file says")]
    OtherFault(Fault),
    /// Nothing in common.
    #[error("the two are not of one {0}")]
    DifferentSubjects(&'static str),
    /// No conflict.
    #[error("both may be signed: they do not conflict")]
    NoConflict,
    /// Not the keys that the dealer encrypted to.
    #[error("the one-time keys hash to {given}, the dealing was made for {signed}")]
    OtherOneTimeKeys {
        /// Of the file.
        given: B256,
        /// Of the dealing.
        signed: B256,
    },
    /// No such member, or not its secret.
    #[error("the dealing has no share for member {0}, or the secret is not that of its one-time key")]
    WrongOpening(u8),
    /// Malformed, and so nothing can be opened.
    #[error("the dealer's own one-time key opens nothing: that is a malformed dealing, not a bad share")]
    UnusableOneTimeKey,
    /// No fault.
    #[error("the share for member {0} is the one that the dealing commits to")]
    GoodDealing(u8),
    /// Malformed, and so nothing can be compared with.
    #[error("a commitment is not on the curve: that is a malformed dealing, not a bad share")]
    Inconclusive,
    /// Not the proof that the dealer signed.
    #[error("the proof of possession hashes to {given}, the dealing was signed over {signed}")]
    OtherPossession {
        /// Of the file.
        given: B256,
        /// Of the dealing.
        signed: B256,
    },
    /// No fault of this kind.
    #[error("the dealing does not have {0}")]
    NotMalformed(Defect),
    /// Nothing of a block's state.
    #[error(transparent)]
    State(#[from] StateError),
    /// Not the proof that the file was written about.
    #[error("the file was changed after it was written: its proof hashes to {found}, and it claims {claimed}")]
    OtherProof {
        /// Of the file.
        claimed: B256,
        /// Of its proof.
        found: B256,
    },
    /// Its proof says whom it accuses, or nobody signed anything.
    #[error("evidence of {0} has no claims: only dealings name nobody but by their signature")]
    NeedlessClaims(Fault),
    /// No challenge.
    #[error("after block {block} nobody was being asked for that")]
    NotAsked {
        /// Number.
        block: u64,
    },
    /// Not silent yet.
    #[error("after block {block} the challenge could still be answered")]
    StillTime {
        /// Number.
        block: u64,
    },
}

/// An envelope as a server signed it, in raw numbers: what was signed need not be anything that a server should sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedEnvelope {
    /// Key.
    #[serde(with = "json::decimal")]
    pub key_id: u64,
    /// Committee of the key, from 0.
    #[serde(with = "json::decimal")]
    pub committee_epoch: u32,
    /// Share.
    #[serde(with = "json::index")]
    pub index: ShareIndex,
    /// Number of the table in `docs/protocol.md`.
    #[serde(with = "json::decimal")]
    pub duty_kind: u8,
    /// Slot; 0 where the duty has none.
    #[serde(with = "json::decimal")]
    pub slot: u64,
    /// Source epoch of an attestation, else 0.
    #[serde(with = "json::decimal")]
    pub source_epoch: u64,
    /// Target epoch of an attestation, else 0.
    #[serde(with = "json::decimal")]
    pub target_epoch: u64,
    /// What the partial signs.
    #[serde(with = "json::hash")]
    pub signing_root: B256,
    /// keccak256 of the partial.
    #[serde(with = "json::hash")]
    pub partial_hash: B256,
    /// Signature of the server's signer key, r ‖ s ‖ v.
    #[serde(with = "json::array")]
    pub signature: [u8; 65],
}

impl SignedEnvelope {
    /// `envelope` with its signature.
    #[must_use]
    pub const fn new(envelope: &Envelope, signature: [u8; 65]) -> Self {
        Self {
            key_id: envelope.key_id,
            committee_epoch: envelope.committee_epoch,
            index: envelope.index,
            duty_kind: envelope.duty_kind as u8,
            slot: envelope.slot,
            source_epoch: envelope.source_epoch,
            target_epoch: envelope.target_epoch,
            signing_root: envelope.signing_root,
            partial_hash: envelope.partial_hash,
            signature,
        }
    }

    /// EIP-712 digest.
    #[must_use]
    pub fn digest(&self, domain: &ProtocolDomain) -> B256 {
        eip712::Envelope {
            keyId: U256::from(self.key_id),
            committeeEpoch: self.committee_epoch,
            index: self.index.get(),
            dutyKind: self.duty_kind,
            slot: self.slot,
            sourceEpoch: self.source_epoch,
            targetEpoch: self.target_epoch,
            signingRoot: self.signing_root,
            partialHash: self.partial_hash,
        }
        .eip712_signing_hash(&domain.eip712())
    }

    /// Whether what it names is signed only if the chain ordered it, with any key: `DutyKinds.mustBeOrdered`. Of a withdrawal key
    /// everything is.
    #[must_use]
    pub fn needs_order(&self) -> bool {
        DutyKind::numbered(self.duty_kind).is_some_and(DutyKind::must_be_ordered)
    }

    const fn duty(&self) -> Duty {
        Duty {
            kind: self.duty_kind,
            slot: self.slot,
            source: self.source_epoch,
            target: self.target_epoch,
            root: self.signing_root,
        }
    }
}

/// A provider's request for a duty, in raw numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedDutyRequest {
    /// Key.
    #[serde(with = "json::decimal")]
    pub key_id: u64,
    /// Assignment of the key to a provider.
    #[serde(with = "json::decimal")]
    pub assignment: u64,
    /// Number of the table in `docs/protocol.md`.
    #[serde(with = "json::decimal")]
    pub duty_kind: u8,
    /// Slot; 0 where the duty has none.
    #[serde(with = "json::decimal")]
    pub slot: u64,
    /// Source epoch of an attestation, else 0.
    #[serde(with = "json::decimal")]
    pub source_epoch: u64,
    /// Target epoch of an attestation, else 0.
    #[serde(with = "json::decimal")]
    pub target_epoch: u64,
    /// What shall be signed.
    #[serde(with = "json::hash")]
    pub signing_root: B256,
    /// Signature of the duty key, r ‖ s ‖ v.
    #[serde(with = "json::array")]
    pub signature: [u8; 65],
}

impl SignedDutyRequest {
    /// Whether an honest provider never asks for both: a double vote, a surround vote or a double proposal.
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> bool {
        self.duty().must_conflict(&other.duty()).is_ok()
    }

    /// EIP-712 digest.
    #[must_use]
    pub fn digest(&self, domain: &ProtocolDomain) -> B256 {
        eip712::DutyRequest {
            keyId: U256::from(self.key_id),
            assignment: self.assignment,
            dutyKind: self.duty_kind,
            slot: self.slot,
            sourceEpoch: self.source_epoch,
            targetEpoch: self.target_epoch,
            signingRoot: self.signing_root,
        }
        .eip712_signing_hash(&domain.eip712())
    }

    const fn duty(&self) -> Duty {
        Duty {
            kind: self.duty_kind,
            slot: self.slot,
            source: self.source_epoch,
            target: self.target_epoch,
            root: self.signing_root,
        }
    }
}

/// Who holds the share, with the way from its leaf to the key's root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Holder {
    /// Server id.
    #[serde(with = "json::decimal")]
    pub server_id: u32,
    /// The signer that the leaf names: its envelopes of this key count for ever.
    #[serde(with = "json::address")]
    pub signer: Address,
    /// Public key of the share, EIP-2537.
    #[serde(with = "json::array")]
    pub share_key: [u8; 128],
    /// Siblings, from the leaf up.
    #[serde(with = "hashes")]
    pub proof: Vec<B256>,
}

impl Holder {
    /// The member of `committee` at `index`; nothing if there is none.
    #[must_use]
    pub fn of(committee: &Committee, index: ShareIndex) -> Option<Self> {
        let member = committee.members().get(index.position())?;
        let share_key = committee.keys().share_keys().get(index.position())?.to_eip2537();
        let seats = committee.keys().threshold().indices().zip(committee.members()).zip(committee.keys().share_keys());
        let leaves: Vec<B256> = seats
            .map(|((index, member), key)| share_leaf(index, member.server_id, member.signer, &key.to_eip2537()))
            .collect();
        let proof = merkle_proof(&leaves, index.position());
        Some(Self { server_id: member.server_id, signer: member.signer, share_key, proof })
    }

    /// The root to which the leaf leads.
    #[must_use]
    pub fn root(&self, index: ShareIndex) -> B256 {
        climb(share_leaf(index, self.server_id, self.signer, &self.share_key), &self.proof)
    }

    fn accused(&self, index: ShareIndex) -> Accused {
        Accused::Holder { server_id: self.server_id, signer: self.signer, root: self.root(index) }
    }

    fn signed(&self, digest: B256, signature: &[u8; 65]) -> Result<(), EvidenceError> {
        let recovered = recover_signer(digest, signature)?;
        if recovered == self.signer {
            return Ok(());
        }
        Err(EvidenceError::OtherSigner { claimed: self.signer, recovered })
    }
}

mod hashes {
    use serde::{Deserializer, Serializer};

    use super::{B256, Deserialize, MAX_PROOF, Serialize, json};

    #[derive(Serialize, Deserialize)]
    struct Hash(#[serde(with = "json::hash")] B256);

    pub(super) fn serialize<S: Serializer>(list: &[B256], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|hash| Hash(*hash)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<B256>, D::Error> {
        let list: Vec<Hash> = json::ListOf::<MAX_PROOF>::deserialize(from)?;
        Ok(list.into_iter().map(|hash| hash.0).collect())
    }
}

/// An envelope with the bytes it was signed for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PartialProof {
    /// What the server signed.
    pub envelope: SignedEnvelope,
    /// Its seat.
    pub holder: Holder,
    /// What it sent for a partial signature.
    #[serde(with = "json::AtMost::<MAX_PARTIAL>")]
    pub partial: Vec<u8>,
}

/// Two envelopes of one server, of one committee of the key or of two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DutiesProof {
    /// One; of two committees the earlier's.
    pub first: SignedEnvelope,
    /// The other.
    pub second: SignedEnvelope,
    /// The seat of the first, and of the second where both are of one committee.
    pub holder: Holder,
    /// The seat of the second in the later committee.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub later_holder: Option<Box<Holder>>,
}

impl DutiesProof {
    /// The seat of the second envelope.
    #[must_use]
    pub fn second_holder(&self) -> &Holder {
        self.later_holder.as_deref().unwrap_or(&self.holder)
    }

    /// Of two committees, the earlier's epoch, and the root to which the server's seat in it leads.
    #[must_use]
    pub fn earlier_seat(&self) -> Option<(u32, B256)> {
        let first = &self.first;
        self.later_holder.as_ref().map(|_| (first.committee_epoch, self.holder.root(first.index)))
    }
}

/// An envelope alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvelopeProof {
    /// What the server signed.
    pub envelope: SignedEnvelope,
    /// Its seat.
    pub holder: Holder,
}

/// Two requests of one assignment, by duty keys of one provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestsProof {
    /// One.
    pub first: SignedDutyRequest,
    /// The other.
    pub second: SignedDutyRequest,
}

/// Two messages of one member of a ceremony.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessagesProof {
    /// One; the commitment, where the other is the dealing that is not its.
    pub first: SignedMessage,
    /// The other.
    pub second: SignedMessage,
}

/// What proves the fault that the file is named after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Proof {
    /// See [`Fault::InvalidPartial`].
    InvalidPartial(PartialProof),
    /// See [`Fault::GarbagePartial`].
    GarbagePartial(PartialProof),
    /// See [`Fault::ConflictingDuties`].
    ConflictingDuties(DutiesProof),
    /// See [`Fault::UnauthorisedSignature`].
    UnauthorisedSignature(EnvelopeProof),
    /// See [`Fault::ProviderEquivocation`].
    ProviderEquivocation(RequestsProof),
    /// See [`Fault::CeremonyEquivocation`].
    CeremonyEquivocation(MessagesProof),
    /// See [`Fault::BadDealing`].
    BadDealing(OpenedDealing),
    /// See [`Fault::MalformedDealing`].
    MalformedDealing(DefectiveDealing),
    /// See [`Fault::UnansweredChallenge`].
    UnansweredChallenge(UnansweredProof),
}

impl Proof {
    /// What it proves, if it does.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::InvalidPartial(_) => Fault::InvalidPartial,
            Self::GarbagePartial(_) => Fault::GarbagePartial,
            Self::ConflictingDuties(_) => Fault::ConflictingDuties,
            Self::UnauthorisedSignature(_) => Fault::UnauthorisedSignature,
            Self::ProviderEquivocation(_) => Fault::ProviderEquivocation,
            Self::CeremonyEquivocation(_) => Fault::CeremonyEquivocation,
            Self::BadDealing(_) => Fault::BadDealing,
            Self::MalformedDealing(_) => Fault::MalformedDealing,
            Self::UnansweredChallenge(_) => Fault::UnansweredChallenge,
        }
    }
}

impl Proof {
    /// The one thing that was signed, where that is a dealing.
    #[must_use]
    pub const fn dealing(&self) -> Option<&SignedDealing> {
        match self {
            Self::BadDealing(it) => Some(&it.dealing),
            Self::MalformedDealing(it) => Some(&it.dealing),
            _ => None,
        }
    }

    /// keccak256 of it as [`EvidenceFile`]s have it: JSON without blanks, the fields in the order of `docs/protocol.md`, hex in lower case.
    #[must_use]
    pub fn hash(&self) -> B256 {
        // A value of strings and lists is always written; one that were not would hash as nothing, which no claim of it does.
        serde_json::to_vec(self).map_or(B256::ZERO, keccak256)
    }

    /// The key it is about.
    #[must_use]
    pub const fn key_id(&self) -> u64 {
        match self {
            Self::InvalidPartial(it) | Self::GarbagePartial(it) => it.envelope.key_id,
            Self::ConflictingDuties(it) => it.first.key_id,
            Self::UnauthorisedSignature(it) => it.envelope.key_id,
            Self::ProviderEquivocation(it) => it.first.key_id,
            Self::CeremonyEquivocation(it) => it.first.key_id,
            Self::BadDealing(it) => it.dealing.key_id,
            Self::MalformedDealing(it) => it.dealing.key_id,
            Self::UnansweredChallenge(it) => it.asked.key_id(),
        }
    }
}

/// What a file of a dealing says that it is about. A dealing is all that was signed, once, and the chain facts that other evidence has
/// beside it (a leaf, a second signature) are not there yet in a ceremony: without these, whatever byte was changed on the way, the
/// rest would still accuse somebody.
///
/// # Warning
/// Whoever changes a file on purpose changes these too. They tell a file that was damaged, and not one that lies: only the chain knows
/// whose the signer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Claims {
    /// Whom it accuses.
    #[serde(with = "json::address")]
    pub signer: Address,
    /// [`Proof::hash`] of its proof.
    #[serde(with = "json::hash")]
    pub proof_hash: B256,
}

impl Claims {
    /// Those of `proof`; nothing if it needs none, or nobody signed.
    fn of(proof: &Proof, domain: &ProtocolDomain) -> Option<Self> {
        let dealing = proof.dealing()?;
        let signer = recover_signer(dealing.digest(domain), &dealing.signature).ok()?;
        Some(Self { signer, proof_hash: proof.hash() })
    }
}

/// Evidence of one fault, for one deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceFile {
    #[serde(with = "version")]
    version: u8,
    /// EIP-155 chain id.
    #[serde(with = "json::decimal")]
    pub chain_id: u64,
    /// Verifying contract of all that was signed.
    #[serde(with = "json::address")]
    pub key_registry: Address,
    /// Where to report it.
    #[serde(with = "json::address")]
    pub court: Address,
    /// What it says that it is about, where the proof alone does not ([`Self::is_undecided`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Claims>,
    /// What proves it.
    pub proof: Proof,
}

pub(crate) mod version {
    use serde::{Deserializer, Serializer, de::Error as _};

    use super::{VERSION, json};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(version: &u8, to: S) -> Result<S::Ok, S::Error> {
        json::decimal::serialize(version, to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
        let found: u8 = json::decimal::deserialize(from)?;
        if found == VERSION { Ok(found) } else { Err(D::Error::custom(format!("it is of version {found}"))) }
    }
}

/// Who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accused {
    /// The holder of a share, if `root` is the key's.
    Holder {
        /// Server id.
        server_id: u32,
        /// What it signed with.
        signer: Address,
        /// What the leaf leads to.
        root: B256,
    },
    /// Whichever server this signer is or once was.
    Signer(Address),
    /// The same, if the key is t of n.
    Dealer {
        /// What it signed with.
        signer: Address,
        /// t.
        threshold: u8,
        /// n.
        members: u8,
    },
    /// The provider of that assignment, if it ever named both duty keys. Anybody can put a request of its own beside one of somebody
    /// else, so that two keys that differ accuse nobody before the chain says whose they are.
    Provider {
        /// Who signed the first and the second request; mostly the same.
        duty_keys: [Address; 2],
        /// Number of the assignment.
        assignment: u64,
    },
    /// The server that was asked on the chain, if `block` is one of it.
    Silent {
        /// Server id.
        server_id: u32,
        /// After which the challenge stood, with its time over.
        block: ProvenBlock,
    },
}

/// What a file proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The fault.
    pub fault: Fault,
    /// What the Court calls the evidence: the digest of what was signed, or of both digests.
    pub evidence: B256,
    /// Key.
    pub key_id: u64,
    /// Committee of the key; 0 for ceremonies and requests. Of duties of two committees the later one.
    pub committee_epoch: u32,
    /// Who did it.
    pub accused: Accused,
    /// Of duties of two committees: the epoch of the earlier one, and the root that has to be its too.
    pub earlier_seat: Option<(u32, B256)>,
    /// Whether it is a fault with a withdrawal key only: a signature over what needs no order of any other key.
    pub withdrawal_key_only: bool,
}

/// What `reporter` commits to before it shows `evidence` of the fault with this number; good for one report.
#[must_use]
pub fn commitment(reporter: Address, fault: u8, evidence: B256) -> B256 {
    keccak256((reporter, U256::from(fault), evidence).abi_encode())
}

impl Verified {
    /// The seats that the accused signed in: committee epoch, and the root that has to be that committee's. One, two for duties of two
    /// committees, none where no share's holder is accused. Only the chain knows whether they are.
    pub fn seats(&self) -> impl Iterator<Item = (u32, B256)> {
        let last = match self.accused {
            Accused::Holder { root, .. } => Some((self.committee_epoch, root)),
            _ => None,
        };
        self.earlier_seat.into_iter().chain(last)
    }

    /// What `reporter` commits to before it shows the proof (`ICourt.commit`).
    #[must_use]
    pub fn commitment(&self, reporter: Address) -> B256 {
        commitment(reporter, self.fault as u8, self.evidence)
    }
}

impl EvidenceFile {
    /// Evidence for the contracts of `domain` and the Court at `court`, with the claims that it needs: whoever makes it has the proof from
    /// where it was found.
    #[must_use]
    pub fn new(domain: &ProtocolDomain, court: Address, proof: Proof) -> Self {
        let claims = Claims::of(&proof, domain);
        Self { version: VERSION, chain_id: domain.chain_id, key_registry: domain.key_registry, court, claims, proof }
    }

    /// A wrong partial of a member of `committee`, as its collection found it; nothing if there is no such member.
    #[must_use]
    pub fn of_partial(committee: &Committee, court: Address, found: &Evidence) -> Option<Self> {
        let envelope = SignedEnvelope::new(&found.envelope, found.envelope_signature);
        Self::of_answer(committee, court, envelope, &found.partial)
    }

    /// What a member of `committee` signed and handed out, wherever it was found; nothing if the partial is right, or there is
    /// no such member, or it is not the one who signed.
    #[must_use]
    pub fn of_answer(committee: &Committee, court: Address, envelope: SignedEnvelope, partial: &[u8]) -> Option<Self> {
        let holder = Holder::of(committee, envelope.index)?;
        let proof = PartialProof { envelope, holder, partial: partial.to_vec() };
        proof.holder.signed(proof.envelope.digest(committee.domain()), &proof.envelope.signature).ok()?;
        let proof = match judge_partial(&proof).ok()? {
            Fault::GarbagePartial => Proof::GarbagePartial(proof),
            _ => Proof::InvalidPartial(proof),
        };
        Some(Self::new(committee.domain(), court, proof))
    }

    /// An answer of a member of `committee` to what the chain orders only, and did not; nothing if there is no such member.
    #[must_use]
    pub fn of_unordered(
        committee: &Committee,
        court: Address,
        subject: &Subject,
        answer: &SignedPartial,
    ) -> Option<Self> {
        let holder = Holder::of(committee, answer.index)?;
        let envelope = subject.envelope(answer.committee_epoch, answer.index, &answer.partial);
        let envelope = SignedEnvelope::new(&envelope, answer.envelope);
        Some(Self::new(committee.domain(), court, Proof::UnauthorisedSignature(EnvelopeProof { envelope, holder })))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`EvidenceError::TooLong`], [`EvidenceError::Malformed`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, EvidenceError> {
        if bytes.len() > MAX_FILE {
            return Err(EvidenceError::TooLong(bytes.len()));
        }
        // Derived readers take the fields of an object as a list, too, in whatever order they happen to have.
        if bytes.trim_ascii_start().first() == Some(&b'[') {
            return Err(EvidenceError::Malformed("a list where an object belongs".to_owned()));
        }
        serde_json::from_slice(bytes)
            .map_err(|error| EvidenceError::Malformed(malformed::field(bytes).unwrap_or_else(|| json_reason(&error))))
    }

    /// The EIP-712 domain of what was signed.
    #[must_use]
    pub const fn domain(&self) -> ProtocolDomain {
        ProtocolDomain { chain_id: self.chain_id, key_registry: self.key_registry }
    }

    /// Checks that the file is for these contracts.
    ///
    /// # Errors
    /// [`EvidenceError::OtherDeployment`].
    pub fn is_for(&self, domain: &ProtocolDomain, court: Address) -> Result<(), EvidenceError> {
        if self.domain() == *domain && self.court == court {
            return Ok(());
        }
        let Self { chain_id, key_registry, court, .. } = *self;
        Err(EvidenceError::OtherDeployment { chain_id, key_registry, court })
    }

    /// Whether only the chain can tell this file from one that was damaged: two requests by two duty keys, and a dealing without
    /// [`Claims`]. Of each, any changed byte gives another signer.
    #[must_use]
    pub fn is_undecided(&self, verified: &Verified) -> bool {
        match verified.accused {
            Accused::Provider { duty_keys: [one, other], .. } => one != other,
            _ => self.proof.dealing().is_some() && self.claims.is_none(),
        }
    }

    /// Recomputes everything that can be recomputed without a chain.
    ///
    /// # Errors
    /// Why it proves nothing. [`EvidenceError::OtherFault`] where it proves something else than it says.
    pub fn verify(&self) -> Result<Verified, EvidenceError> {
        let domain = self.domain();
        let fault = self.proof.fault();
        self.has_its_proof()?;
        let (evidence, key_id, committee_epoch, accused) = match &self.proof {
            Proof::InvalidPartial(proof) | Proof::GarbagePartial(proof) => partial(proof, fault, &domain)?,
            Proof::ConflictingDuties(proof) => duties(proof, &domain)?,
            Proof::UnauthorisedSignature(proof) => unauthorised(proof, &domain)?,
            Proof::ProviderEquivocation(proof) => requests(proof, &domain)?,
            Proof::CeremonyEquivocation(proof) => messages(proof, &domain)?,
            Proof::BadDealing(proof) => dealings::bad(proof, &domain)?,
            Proof::MalformedDealing(proof) => dealings::malformed(proof, &domain)?,
            Proof::UnansweredChallenge(proof) => unanswered::unanswered(proof, self.court)?,
        };
        self.has_its_signer(accused)?;
        let withdrawal_key_only =
            matches!(&self.proof, Proof::UnauthorisedSignature(proof) if !proof.envelope.needs_order());
        let earlier_seat = match &self.proof {
            Proof::ConflictingDuties(proof) => proof.earlier_seat(),
            _ => None,
        };
        Ok(Verified { fault, evidence, key_id, committee_epoch, accused, earlier_seat, withdrawal_key_only })
    }

    /// Before the proof is judged: why a damaged one proves nothing is of no use to anybody.
    fn has_its_proof(&self) -> Result<(), EvidenceError> {
        let Some(Claims { proof_hash: claimed, .. }) = self.claims else { return Ok(()) };
        if self.proof.dealing().is_none() {
            return Err(EvidenceError::NeedlessClaims(self.proof.fault()));
        }
        let found = self.proof.hash();
        if found == claimed { Ok(()) } else { Err(EvidenceError::OtherProof { claimed, found }) }
    }

    fn has_its_signer(&self, accused: Accused) -> Result<(), EvidenceError> {
        match (self.claims, accused) {
            (
                Some(Claims { signer: claimed, .. }),
                Accused::Signer(recovered) | Accused::Dealer { signer: recovered, .. },
            ) if claimed != recovered => Err(EvidenceError::OtherSigner { claimed, recovered }),
            _ => Ok(()),
        }
    }
}

impl Proof {
    /// Key and attempt of the ceremony in which the fault happened, if it was in one.
    #[must_use]
    pub const fn ceremony(&self) -> Option<(u64, u16)> {
        match self {
            Self::CeremonyEquivocation(it) => Some((it.first.key_id, it.first.attempt)),
            Self::BadDealing(it) => Some((it.dealing.key_id, it.dealing.attempt)),
            Self::MalformedDealing(it) => Some((it.dealing.key_id, it.dealing.attempt)),
            Self::UnansweredChallenge(UnansweredProof { asked: Asked::Acknowledgement(it), .. }) => {
                Some((it.key_id, it.attempt))
            }
            _ => None,
        }
    }
}

/// Evidence, key, committee epoch and who did it.
type Found = (B256, u64, u32, Accused);

fn partial(it: &PartialProof, claimed: Fault, domain: &ProtocolDomain) -> Result<Found, EvidenceError> {
    let digest = it.envelope.digest(domain);
    it.holder.signed(digest, &it.envelope.signature)?;
    let (given, signed) = (keccak256(&it.partial), it.envelope.partial_hash);
    if given != signed {
        return Err(EvidenceError::OtherPartial { given, signed });
    }
    let found = judge_partial(it)?;
    if found != claimed {
        return Err(EvidenceError::OtherFault(found));
    }
    Ok((digest, it.envelope.key_id, it.envelope.committee_epoch, it.holder.accused(it.envelope.index)))
}

/// What the pairing precompile would say.
///
/// It takes infinity (256 zero bytes) for a point, which verifies under no share key: so infinity is invalid and not garbage,
/// although our own decoders refuse both.
fn judge_partial(it: &PartialProof) -> Result<Fault, EvidenceError> {
    let share_key = PublicKey::from_eip2537(&it.holder.share_key).map_err(EvidenceError::ShareKey)?;
    match Signature::from_eip2537(&it.partial) {
        Ok(point) if stkr_core::verify(&share_key, &it.envelope.signing_root.0, &point) => {
            Err(EvidenceError::ValidPartial)
        }
        Ok(_) => Ok(Fault::InvalidPartial),
        Err(_) if it.partial == [0; PARTIAL] => Ok(Fault::InvalidPartial),
        Err(_) => Ok(Fault::GarbagePartial),
    }
}

fn duties(it: &DutiesProof, domain: &ProtocolDomain) -> Result<Found, EvidenceError> {
    let (first, second, later) = (&it.first, &it.second, it.second_holder());
    if first.key_id != second.key_id || it.holder.server_id != later.server_id {
        return Err(EvidenceError::DifferentSubjects("key and server"));
    }
    let in_order = match it.later_holder {
        Some(_) => first.committee_epoch < second.committee_epoch,
        None => (first.committee_epoch, first.index) == (second.committee_epoch, second.index),
    };
    if !in_order {
        return Err(EvidenceError::DifferentSubjects(
            "committee and share, or of two committees with the seat in the later one",
        ));
    }
    let digests = (first.digest(domain), second.digest(domain));
    it.holder.signed(digests.0, &first.signature)?;
    later.signed(digests.1, &second.signature)?;
    first.duty().must_conflict(&second.duty())?;
    Ok((pair_hash(digests.0, digests.1), first.key_id, second.committee_epoch, later.accused(second.index)))
}

fn unauthorised(it: &EnvelopeProof, domain: &ProtocolDomain) -> Result<Found, EvidenceError> {
    let envelope = &it.envelope;
    let digest = envelope.digest(domain);
    it.holder.signed(digest, &envelope.signature)?;
    Ok((digest, envelope.key_id, envelope.committee_epoch, it.holder.accused(envelope.index)))
}

fn requests(it: &RequestsProof, domain: &ProtocolDomain) -> Result<Found, EvidenceError> {
    let (first, second) = (&it.first, &it.second);
    if (first.key_id, first.assignment) != (second.key_id, second.assignment) {
        return Err(EvidenceError::DifferentSubjects("key and assignment"));
    }
    let digests = (first.digest(domain), second.digest(domain));
    let duty_keys = [recover_signer(digests.0, &first.signature)?, recover_signer(digests.1, &second.signature)?];
    first.duty().must_conflict(&second.duty())?;
    Ok((
        pair_hash(digests.0, digests.1),
        first.key_id,
        0,
        Accused::Provider { duty_keys, assignment: first.assignment },
    ))
}

fn messages(it: &MessagesProof, domain: &ProtocolDomain) -> Result<Found, EvidenceError> {
    let (first, second) = (&it.first, &it.second);
    // Where a reorganisation takes the seed's block back, the same attempt has another committee, and an honest server with another seat
    // in it says all once more. An acknowledgement has no index in what is signed; the committee tells them apart.
    let committee = |it: &SignedMessage| it.body.committee_hash();
    let subject = |it: &SignedMessage| (it.key_id, it.attempt, it.index);
    let same_round = first.round() == second.round();
    if subject(first) != subject(second) || (same_round && committee(first) != committee(second)) {
        return Err(EvidenceError::DifferentSubjects("key, ceremony and member"));
    }
    let digests = (first.digest(domain), second.digest(domain));
    let ((first_round, first_words), (second_round, _)) = (first.words(), second.words());
    let twice = first_round == second_round && digests.0 != digests.1;
    let broken = (first_round, second_round) == (2, 4) && first_words.first() != Some(&digests.1);
    if !twice && !broken {
        return Err(EvidenceError::NoConflict);
    }
    let signer = one_signer(digests, (&first.signature, &second.signature))?;
    Ok((pair_hash(digests.0, digests.1), first.key_id, 0, Accused::Signer(signer)))
}

fn one_signer(digests: (B256, B256), signatures: (&[u8; 65], &[u8; 65])) -> Result<Address, EvidenceError> {
    let claimed = recover_signer(digests.0, signatures.0)?;
    let recovered = recover_signer(digests.1, signatures.1)?;
    if claimed == recovered { Ok(claimed) } else { Err(EvidenceError::OtherSigner { claimed, recovered }) }
}

/// What a conflict is judged by.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Duty {
    kind: u8,
    slot: u64,
    source: u64,
    target: u64,
    root: B256,
}

impl Duty {
    /// Double vote, surround vote (whichever surrounds) or double proposal, as the library `ConflictingDuties` judges.
    fn must_conflict(&self, other: &Self) -> Result<(), EvidenceError> {
        let surrounds = |outer: &Self, inner: &Self| outer.source < inner.source && inner.target < outer.target;
        let votes = self.target == other.target || surrounds(self, other) || surrounds(other, self);
        let slashable = match self.kind {
            kind if kind == DutyKind::Block as u8 => self.slot == other.slot,
            kind if kind == DutyKind::Attestation as u8 => votes,
            _ => false,
        };
        if self.kind == other.kind && self.root != other.root && slashable {
            return Ok(());
        }
        Err(EvidenceError::NoConflict)
    }
}

mod malformed;
#[cfg(test)]
mod tests;
