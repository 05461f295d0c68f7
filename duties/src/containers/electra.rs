//! `specs/electra/beacon-chain.md` and `validator.md`: one attestation for several committees (EIP-7549). Fulu changed
//! nothing here.

use serde::{Deserialize, Serialize};
use ssz_types::{BitList, BitVector};
use tree_hash_derive::TreeHash;

use super::{SignatureBytes, phase0::AttestationData};
use crate::{Limits, ValidatorIndex, json};

/// `Attestation` of several committees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
#[serde(bound = "")]
pub struct Attestation<P: Limits> {
    /// Who voted, by position in the named committees one after the other.
    pub aggregation_bits: BitList<P::MaxValidatorsPerSlot>,
    /// The vote.
    pub data: AttestationData,
    /// Aggregate signature of those who voted.
    #[serde(with = "json::bytes")]
    pub signature: SignatureBytes,
    /// Which committees.
    pub committee_bits: BitVector<P::MaxCommitteesPerSlot>,
}

/// `AggregateAndProof` from Electra on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
#[serde(bound = "")]
pub struct AggregateAndProof<P: Limits> {
    /// The aggregator.
    pub aggregator_index: ValidatorIndex,
    /// What it aggregated.
    pub aggregate: Attestation<P>,
    /// That it may.
    #[serde(with = "json::bytes")]
    pub selection_proof: SignatureBytes,
}
