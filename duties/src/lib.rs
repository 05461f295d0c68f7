//! Consensus-layer duties as pure values: what a validator key signs, and the root it signs over.
//!
//! Knows networks, domains and containers; knows no key, no server and no chain connection. Deposits are the only duty
//! so far. Containers follow the phase0 `beacon-chain.md` of the consensus specs; roots are SSZ `hash_tree_root`.

mod deposit;
mod merkle;
mod network;

pub use deposit::{DepositData, DepositMessage, compounding_withdrawal_credentials, eth1_withdrawal_credentials};
pub use network::{Network, UnknownNetwork};

use alloy_primitives::B256;

/// `DOMAIN_DEPOSIT` of the consensus specs.
pub const DOMAIN_DEPOSIT: [u8; 4] = [3, 0, 0, 0];

/// `compute_domain` of the consensus specs: the domain type, then the first 28 bytes of the fork data root.
///
/// Deposits are valid across forks, so they use the *genesis* fork version and a zero `genesis_validators_root`.
#[must_use]
pub fn compute_domain(domain_type: [u8; 4], fork_version: [u8; 4], genesis_validators_root: B256) -> B256 {
    let fork_data_root = merkle::node(merkle::leaf(&fork_version), genesis_validators_root);
    let mut domain = [0; 32];
    domain[..4].copy_from_slice(&domain_type);
    domain[4..].copy_from_slice(&fork_data_root[..28]);
    B256::from(domain)
}

/// `compute_signing_root` of the consensus specs, from the root of the object to sign.
#[must_use]
pub fn compute_signing_root(object_root: B256, domain: B256) -> B256 {
    merkle::node(object_root, domain)
}
