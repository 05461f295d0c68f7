//! The signed envelope around a partial signature.
//!
//! From any t partials anyone computes everybody else's partial, so a partial alone proves nothing about its author.
//! The envelope does: it is what a court on-chain can hold a server to.

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::SolStruct;
use stkr_core::{ShareIndex, Signature};

use crate::{ProtocolDomain, SignatureError, SignerKey, eip712, recover_signer};

/// What kind of duty a partial signature is for. The numbers are part of digests and stay as they are.
///
/// They number what is *signed*. Two forms of a request (the two of aggregates, the two of blocks) are one kind: a court
/// compares signed objects, and two conflicting blocks must be two of one kind whichever form each was asked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DutyKind {
    /// A `DepositMessage`.
    Deposit = 1,
    /// An `AttestationData`; the only kind with epochs.
    Attestation = 2,
    /// A `BeaconBlock`, or the header that has its root.
    Block = 3,
    /// A slot, to draw its aggregators.
    AggregationSlot = 4,
    /// An `AggregateAndProof`.
    AggregateAndProof = 5,
    /// An epoch, for the randomness; slot 0.
    RandaoReveal = 6,
    /// A `VoluntaryExit`; slot 0.
    VoluntaryExit = 7,
    /// A block root, by a member of the sync committee.
    SyncCommitteeMessage = 8,
    /// A `SyncAggregatorSelectionData`.
    SyncCommitteeSelectionProof = 9,
    /// A `ContributionAndProof`.
    SyncCommitteeContributionAndProof = 10,
    /// A `ValidatorRegistration` of the builder specs; slot 0.
    ValidatorRegistration = 11,
    /// A `BLSToExecutionChange`, by a withdrawal key; slot 0.
    BlsToExecutionChange = 12,
}

impl DutyKind {
    /// Name for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deposit => "deposit",
            Self::Attestation => "attestation",
            Self::Block => "block",
            Self::AggregationSlot => "aggregation_slot",
            Self::AggregateAndProof => "aggregate_and_proof",
            Self::RandaoReveal => "randao_reveal",
            Self::VoluntaryExit => "voluntary_exit",
            Self::SyncCommitteeMessage => "sync_committee_message",
            Self::SyncCommitteeSelectionProof => "sync_committee_selection_proof",
            Self::SyncCommitteeContributionAndProof => "sync_committee_contribution_and_proof",
            Self::ValidatorRegistration => "validator_registration",
            Self::BlsToExecutionChange => "bls_to_execution_change",
        }
    }

    /// Whether a message of this kind may be signed only if the chain ordered it, as the contracts' `DutyKinds` says.
    #[must_use]
    pub const fn must_be_ordered(self) -> bool {
        matches!(self, Self::Deposit | Self::VoluntaryExit | Self::BlsToExecutionChange)
    }

    /// The kind of this number in the table of `docs/protocol.md`.
    #[must_use]
    pub fn numbered(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    const ALL: [Self; 12] = [
        Self::Deposit,
        Self::Attestation,
        Self::Block,
        Self::AggregationSlot,
        Self::AggregateAndProof,
        Self::RandaoReveal,
        Self::VoluntaryExit,
        Self::SyncCommitteeMessage,
        Self::SyncCommitteeSelectionProof,
        Self::SyncCommitteeContributionAndProof,
        Self::ValidatorRegistration,
        Self::BlsToExecutionChange,
    ];

    /// The kind of what is signed for a request of this kind.
    #[must_use]
    pub const fn of(request: stkr_duties::DutyKind) -> Self {
        use stkr_duties::DutyKind as Asked;
        match request {
            Asked::Deposit => Self::Deposit,
            Asked::Attestation => Self::Attestation,
            Asked::Block | Asked::BlockV2 => Self::Block,
            Asked::AggregationSlot => Self::AggregationSlot,
            Asked::AggregateAndProof | Asked::AggregateAndProofV2 => Self::AggregateAndProof,
            Asked::RandaoReveal => Self::RandaoReveal,
            Asked::VoluntaryExit => Self::VoluntaryExit,
            Asked::SyncCommitteeMessage => Self::SyncCommitteeMessage,
            Asked::SyncCommitteeSelectionProof => Self::SyncCommitteeSelectionProof,
            Asked::SyncCommitteeContributionAndProof => Self::SyncCommitteeContributionAndProof,
            Asked::ValidatorRegistration => Self::ValidatorRegistration,
        }
    }
}

/// Name of what a number of the table in `docs/protocol.md` stands for.
#[must_use]
pub fn duty_name(number: u8) -> Option<&'static str> {
    DutyKind::numbered(number).map(DutyKind::name)
}

/// What a server vouches for with its signer key when it hands out a partial signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// Key the partial belongs to.
    pub key_id: u64,
    /// Number of the committee that holds the key, from 0.
    pub committee_epoch: u32,
    /// Share index of the server in that committee.
    pub index: ShareIndex,
    /// Kind of the duty.
    pub duty_kind: DutyKind,
    /// Slot of the duty; 0 where it has none.
    pub slot: u64,
    /// Source epoch of an attestation, else 0.
    pub source_epoch: u64,
    /// Target epoch of an attestation, else 0.
    pub target_epoch: u64,
    /// Root that the partial signs.
    pub signing_root: B256,
    /// keccak256 of the 256 bytes of the partial.
    pub partial_hash: B256,
}

impl Envelope {
    /// EIP-712 digest.
    #[must_use]
    pub fn digest(&self, domain: &ProtocolDomain) -> B256 {
        eip712::Envelope {
            keyId: U256::from(self.key_id),
            committeeEpoch: self.committee_epoch,
            index: self.index.get(),
            dutyKind: self.duty_kind as u8,
            slot: self.slot,
            sourceEpoch: self.source_epoch,
            targetEpoch: self.target_epoch,
            signingRoot: self.signing_root,
            partialHash: self.partial_hash,
        }
        .eip712_signing_hash(&domain.eip712())
    }

    /// Signature of the server's signer key, r ‖ s ‖ v.
    #[must_use]
    pub fn sign(&self, domain: &ProtocolDomain, key: &SignerKey) -> [u8; 65] {
        key.sign_digest(self.digest(domain))
    }

    /// Address that signed this envelope.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn recover(&self, domain: &ProtocolDomain, signature: &[u8; 65]) -> Result<Address, SignatureError> {
        recover_signer(self.digest(domain), signature)
    }
}

/// `partialHash` of a partial signature.
#[must_use]
pub fn partial_hash(partial: &Signature) -> B256 {
    keccak256(partial.to_eip2537())
}
