//! Signature domains: what keeps a signature over one kind of object, on one chain and fork, from counting elsewhere.

use alloy_primitives::B256;
use tree_hash::TreeHash as _;
use tree_hash_derive::TreeHash;

/// `DOMAIN_BEACON_PROPOSER` (phase0).
pub const DOMAIN_BEACON_PROPOSER: [u8; 4] = [0, 0, 0, 0];
/// `DOMAIN_BEACON_ATTESTER` (phase0).
pub const DOMAIN_BEACON_ATTESTER: [u8; 4] = [1, 0, 0, 0];
/// `DOMAIN_RANDAO` (phase0).
pub const DOMAIN_RANDAO: [u8; 4] = [2, 0, 0, 0];
/// `DOMAIN_DEPOSIT` (phase0).
pub const DOMAIN_DEPOSIT: [u8; 4] = [3, 0, 0, 0];
/// `DOMAIN_VOLUNTARY_EXIT` (phase0).
pub const DOMAIN_VOLUNTARY_EXIT: [u8; 4] = [4, 0, 0, 0];
/// `DOMAIN_SELECTION_PROOF` (phase0, validator guide).
pub const DOMAIN_SELECTION_PROOF: [u8; 4] = [5, 0, 0, 0];
/// `DOMAIN_AGGREGATE_AND_PROOF` (phase0, validator guide).
pub const DOMAIN_AGGREGATE_AND_PROOF: [u8; 4] = [6, 0, 0, 0];
/// `DOMAIN_SYNC_COMMITTEE` (altair).
pub const DOMAIN_SYNC_COMMITTEE: [u8; 4] = [7, 0, 0, 0];
/// `DOMAIN_SYNC_COMMITTEE_SELECTION_PROOF` (altair).
pub const DOMAIN_SYNC_COMMITTEE_SELECTION_PROOF: [u8; 4] = [8, 0, 0, 0];
/// `DOMAIN_CONTRIBUTION_AND_PROOF` (altair).
pub const DOMAIN_CONTRIBUTION_AND_PROOF: [u8; 4] = [9, 0, 0, 0];
/// `DOMAIN_BLS_TO_EXECUTION_CHANGE` (capella).
pub const DOMAIN_BLS_TO_EXECUTION_CHANGE: [u8; 4] = [10, 0, 0, 0];
/// `DOMAIN_APPLICATION_BUILDER` (builder-specs).
pub const DOMAIN_APPLICATION_BUILDER: [u8; 4] = [0, 0, 0, 1];

/// phase0 `ForkData`.
#[derive(TreeHash)]
struct ForkData {
    current_version: [u8; 4],
    genesis_validators_root: B256,
}

/// phase0 `SigningData`.
#[derive(TreeHash)]
struct SigningData {
    object_root: B256,
    domain: B256,
}

/// phase0 `compute_domain`: the domain type, then the first 28 bytes of the fork data root.
#[must_use]
pub fn compute_domain(domain_type: [u8; 4], fork_version: [u8; 4], genesis_validators_root: B256) -> B256 {
    let fork_data = ForkData { current_version: fork_version, genesis_validators_root };
    let mut domain = fork_data.tree_hash_root();
    domain.copy_within(..28, 4);
    domain[..4].copy_from_slice(&domain_type);
    domain
}

/// phase0 `compute_signing_root`, from the root of the object to sign.
#[must_use]
pub fn compute_signing_root(object_root: B256, domain: B256) -> B256 {
    SigningData { object_root, domain }.tree_hash_root()
}

#[cfg(test)]
mod tests {
    use alloy_primitives::b256;

    use super::*;

    #[test]
    fn the_mainnet_deposit_domain_is_the_known_one() {
        assert_eq!(
            compute_domain(DOMAIN_DEPOSIT, [0; 4], B256::ZERO),
            b256!("03000000f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a9")
        );
    }
}
