//! `specs/altair/beacon-chain.md` and `validator.md`: sync committees.

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};
use ssz_types::{
    BitVector, VariableList,
    typenum::{U2, U16, U128},
};
use tree_hash_derive::TreeHash;

use super::{
    SignatureBytes,
    phase0::{Attestation, AttesterSlashing, Deposit, Eth1Data, ProposerSlashing, SignedVoluntaryExit},
};
use crate::{Limits, Slot, ValidatorIndex, json};

/// `SyncAggregate`: the sync committee's signatures over one block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
#[serde(bound = "")]
pub struct SyncAggregate<P: Limits> {
    /// Who signed, by position in the committee.
    pub sync_committee_bits: BitVector<P::SyncCommitteeSize>,
    /// Aggregate of their signatures.
    #[serde(with = "json::bytes")]
    pub sync_committee_signature: SignatureBytes,
}

/// `BeaconBlockBody` of Altair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
#[serde(bound = "")]
pub struct BeaconBlockBody<P: Limits> {
    /// The proposer's contribution to the randomness.
    #[serde(with = "json::bytes")]
    pub randao_reveal: SignatureBytes,
    /// Vote on the deposit contract.
    pub eth1_data: Eth1Data,
    /// Any 32 bytes.
    #[serde(with = "json::bytes")]
    pub graffiti: B256,
    /// At most `MAX_PROPOSER_SLASHINGS`.
    pub proposer_slashings: VariableList<ProposerSlashing, U16>,
    /// At most `MAX_ATTESTER_SLASHINGS`.
    pub attester_slashings: VariableList<AttesterSlashing, U2>,
    /// At most `MAX_ATTESTATIONS`.
    pub attestations: VariableList<Attestation, U128>,
    /// At most `MAX_DEPOSITS`.
    pub deposits: VariableList<Deposit, U16>,
    /// At most `MAX_VOLUNTARY_EXITS`.
    pub voluntary_exits: VariableList<SignedVoluntaryExit, U16>,
    /// The sync committee's vote for the parent.
    pub sync_aggregate: SyncAggregate<P>,
}

/// `BeaconBlock` of Altair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
#[serde(bound = "")]
pub struct BeaconBlock<P: Limits> {
    /// Slot of the block.
    pub slot: Slot,
    /// Its proposer.
    pub proposer_index: ValidatorIndex,
    /// Root of the block it builds on.
    #[serde(with = "json::bytes")]
    pub parent_root: B256,
    /// Root of the state after it.
    #[serde(with = "json::bytes")]
    pub state_root: B256,
    /// What the block does.
    pub body: BeaconBlockBody<P>,
}

/// `SyncAggregatorSelectionData`: who aggregates is drawn by the signature over this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
pub struct SyncAggregatorSelectionData {
    /// The slot.
    pub slot: Slot,
    /// The part of the sync committee.
    #[serde(with = "json::decimal")]
    pub subcommittee_index: u64,
}

/// `SyncCommitteeContribution`: aggregate of one part of the sync committee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
#[serde(bound = "")]
pub struct SyncCommitteeContribution<P: Limits> {
    /// The slot.
    pub slot: Slot,
    /// The block that was signed.
    #[serde(with = "json::bytes")]
    pub beacon_block_root: B256,
    /// The part of the sync committee.
    #[serde(with = "json::decimal")]
    pub subcommittee_index: u64,
    /// Who signed, by position in the part.
    pub aggregation_bits: BitVector<P::SyncSubcommitteeSize>,
    /// Aggregate of their signatures.
    #[serde(with = "json::bytes")]
    pub signature: SignatureBytes,
}

/// `ContributionAndProof`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
#[serde(bound = "")]
pub struct ContributionAndProof<P: Limits> {
    /// The aggregator.
    pub aggregator_index: ValidatorIndex,
    /// What it aggregated.
    pub contribution: SyncCommitteeContribution<P>,
    /// That it may.
    #[serde(with = "json::bytes")]
    pub selection_proof: SignatureBytes,
}
