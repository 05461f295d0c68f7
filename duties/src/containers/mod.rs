//! SSZ containers of the consensus specs that a validator key signs, or that are part of one.
//!
//! One module per fork that changed something; a fork that is not here signs what the one before signed. Field names and
//! order are the specs', `TreeHash` is their `hash_tree_root`, JSON is Web3Signer's. Lists refuse at decoding what is
//! longer than the spec allows.

pub mod altair;
pub mod electra;
pub mod phase0;

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use tree_hash::TreeHash as _;
use tree_hash_derive::TreeHash;

use crate::{
    ForkSchedule, ValidatorIndex,
    domain::{DOMAIN_BLS_TO_EXECUTION_CHANGE, compute_domain, compute_signing_root},
    json,
};

/// Compressed BLS public key; whether it is a point of the group is not checked here.
pub type PublicKeyBytes = alloy_primitives::FixedBytes<48>;
/// Compressed BLS signature; whether it is a point of the group is not checked here.
pub type SignatureBytes = alloy_primitives::FixedBytes<96>;

/// What a proposer tells block builders (builder-specs `ValidatorRegistrationV1`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
pub struct ValidatorRegistration {
    /// Where the builder is to send the proposer's income.
    #[serde(with = "json::bytes")]
    pub fee_recipient: Address,
    /// Gas limit the proposer wants.
    #[serde(with = "json::decimal")]
    pub gas_limit: u64,
    /// Unix time, seconds; a later registration replaces an earlier one.
    #[serde(with = "json::decimal")]
    pub timestamp: u64,
    /// Key of the proposer.
    #[serde(with = "json::bytes")]
    pub pubkey: PublicKeyBytes,
}

/// Moves a validator from 0x00 to 0x01 credentials, once (capella `BLSToExecutionChange`). No Web3Signer request
/// carries it: the withdrawal key signs it, on the chain's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TreeHash)]
pub struct BlsToExecutionChange {
    /// Position in the registry.
    pub validator_index: ValidatorIndex,
    /// Withdrawal key whose hash is in the 0x00 credentials.
    #[serde(with = "json::bytes")]
    pub from_bls_pubkey: PublicKeyBytes,
    /// Where withdrawals go for ever after.
    #[serde(with = "json::bytes")]
    pub to_execution_address: Address,
}

impl BlsToExecutionChange {
    /// Root the withdrawal key signs (capella `process_bls_to_execution_change`): genesis fork version, so that it stays
    /// valid.
    ///
    /// # Warning
    /// The change cannot be taken back: whoever names the address owns the stake. Sign only what the chain ordered.
    #[must_use]
    pub fn signing_root(&self, schedule: &ForkSchedule) -> B256 {
        self.signing_root_on(schedule.genesis_fork_version(), schedule.genesis_validators_root())
    }

    /// The same on the network with this genesis fork version and genesis validators root, for whoever knows no schedule.
    #[must_use]
    pub fn signing_root_on(&self, genesis_fork_version: [u8; 4], genesis_validators_root: B256) -> B256 {
        let domain = compute_domain(DOMAIN_BLS_TO_EXECUTION_CHANGE, genesis_fork_version, genesis_validators_root);
        compute_signing_root(self.tree_hash_root(), domain)
    }
}
