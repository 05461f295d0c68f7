//! `specs/phase0/beacon-chain.md` and `validator.md`.

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};
use ssz_types::{
    BitList, FixedVector, VariableList,
    typenum::{U2, U16, U33, U128, U2048},
};
use tree_hash_derive::TreeHash;

use super::SignatureBytes;
use crate::{DepositData, Epoch, Slot, ValidatorIndex, json};

/// `Checkpoint`: a block at the start of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
pub struct Checkpoint {
    /// The epoch.
    pub epoch: Epoch,
    /// Root of the block.
    #[serde(with = "json::bytes")]
    pub root: B256,
}

/// `AttestationData`: a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
pub struct AttestationData {
    /// Slot the validator is assigned to.
    pub slot: Slot,
    /// `CommitteeIndex`; 0 from Electra on.
    #[serde(with = "json::decimal")]
    pub index: u64,
    /// Head of the chain as the validator sees it.
    #[serde(with = "json::bytes")]
    pub beacon_block_root: B256,
    /// Justified checkpoint the vote builds on.
    pub source: Checkpoint,
    /// Checkpoint the vote wants justified.
    pub target: Checkpoint,
}

/// `Attestation` of one committee, until Deneb.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
pub struct Attestation {
    /// Who voted, by position in the committee.
    pub aggregation_bits: BitList<U2048>,
    /// The vote.
    pub data: AttestationData,
    /// Aggregate signature of those who voted.
    #[serde(with = "json::bytes")]
    pub signature: SignatureBytes,
}

/// `AggregateAndProof`, until Deneb.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
pub struct AggregateAndProof {
    /// The aggregator.
    pub aggregator_index: ValidatorIndex,
    /// What it aggregated.
    pub aggregate: Attestation,
    /// That it may.
    #[serde(with = "json::bytes")]
    pub selection_proof: SignatureBytes,
}

/// `BeaconBlockHeader`. Its root is the root of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
pub struct BeaconBlockHeader {
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
    /// Root of its body.
    #[serde(with = "json::bytes")]
    pub body_root: B256,
}

/// `SignedBeaconBlockHeader`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
pub struct SignedBeaconBlockHeader {
    /// What is signed.
    pub message: BeaconBlockHeader,
    /// Signature of the proposer.
    #[serde(with = "json::bytes")]
    pub signature: SignatureBytes,
}

/// `ProposerSlashing`: two blocks for one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
pub struct ProposerSlashing {
    /// One block.
    pub signed_header_1: SignedBeaconBlockHeader,
    /// The other.
    pub signed_header_2: SignedBeaconBlockHeader,
}

/// `IndexedAttestation`, until Deneb.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
pub struct IndexedAttestation {
    /// Who voted.
    pub attesting_indices: VariableList<ValidatorIndex, U2048>,
    /// The vote.
    pub data: AttestationData,
    /// Aggregate signature of those who voted.
    #[serde(with = "json::bytes")]
    pub signature: SignatureBytes,
}

/// `AttesterSlashing`, until Deneb: two votes that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
pub struct AttesterSlashing {
    /// One vote.
    pub attestation_1: IndexedAttestation,
    /// The other.
    pub attestation_2: IndexedAttestation,
}

/// `Eth1Data`: the proposer's view of the deposit contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
pub struct Eth1Data {
    /// Root of the deposit tree.
    #[serde(with = "json::bytes")]
    pub deposit_root: B256,
    /// Deposits in it.
    #[serde(with = "json::decimal")]
    pub deposit_count: u64,
    /// Block of the execution layer.
    #[serde(with = "json::bytes")]
    pub block_hash: B256,
}

/// `Deposit`: a deposit with its branch in the deposit tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
pub struct Deposit {
    /// `DEPOSIT_CONTRACT_TREE_DEPTH` nodes and the deposit count.
    #[serde(with = "deposit_proof")]
    pub proof: FixedVector<B256, U33>,
    /// The deposit.
    pub data: DepositData,
}

mod deposit_proof {
    use serde::{Deserializer, Serializer, de::Error as _};

    use super::*;
    use crate::json::Hashes;

    pub(super) fn serialize<S: Serializer>(proof: &FixedVector<B256, U33>, to: S) -> Result<S::Ok, S::Error> {
        Hashes::<33>::serialize(proof, to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<FixedVector<B256, U33>, D::Error> {
        let nodes = Hashes::<33>::deserialize(from)?;
        FixedVector::new(nodes).map_err(|_| D::Error::custom("a deposit's proof has 33 nodes"))
    }
}

/// `VoluntaryExit`: the validator wants to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
pub struct VoluntaryExit {
    /// Earliest epoch at which the exit may be processed.
    pub epoch: Epoch,
    /// The validator.
    pub validator_index: ValidatorIndex,
}

/// `SignedVoluntaryExit`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
pub struct SignedVoluntaryExit {
    /// What is signed.
    pub message: VoluntaryExit,
    /// Signature of the validator.
    #[serde(with = "json::bytes")]
    pub signature: SignatureBytes,
}

/// `BeaconBlockBody` of phase0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
pub struct BeaconBlockBody {
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
}

/// `BeaconBlock` of phase0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
pub struct BeaconBlock {
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
    pub body: BeaconBlockBody,
}
