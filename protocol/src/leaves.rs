//! Who holds a share of a key, as the Merkle root that the key registry stores has it.
//!
//! ```text
//!            commitment = root                    leaf i = keccak256(i + 1 ‖ server ‖ signer ‖ share key)
//!             /          \                          (each number 32 bytes, the share key 128: EIP-2537)
//!        h(l0,l1)      h(l2,l3)   l4              pairs are hashed in ascending order;
//!         /   \         /   \      |              a last node without partner moves up as it is
//!        l0   l1       l2   l3    l4
//! ```

use alloy_primitives::{Address, B256, U256, keccak256};
use stkr_core::ShareIndex;

/// Leaf of the seat at `index`: `server` signs with `signer` and holds the share of `share_key` (EIP-2537).
#[must_use]
pub fn share_leaf(index: ShareIndex, server: u32, signer: Address, share_key: &[u8; 128]) -> B256 {
    let mut bytes = Vec::with_capacity(3 * 32 + share_key.len());
    bytes.extend_from_slice(&U256::from(index.get()).to_be_bytes::<32>());
    bytes.extend_from_slice(&U256::from(server).to_be_bytes::<32>());
    bytes.extend_from_slice(signer.into_word().as_slice());
    bytes.extend_from_slice(share_key);
    keccak256(bytes)
}

/// keccak256 of both, the smaller first: a node of the tree, and what the Court calls the evidence of two signed things.
pub(crate) fn pair_hash(one: B256, other: B256) -> B256 {
    keccak256([one.min(other).0, one.max(other).0].concat())
}

/// One level up: pairs hashed in ascending order, a last node without partner as it is.
fn parents(nodes: &[B256]) -> Vec<B256> {
    nodes
        .chunks(2)
        .map(|pair| match pair {
            [left, right] => pair_hash(*left, *right),
            rest => rest.first().copied().unwrap_or_default(),
        })
        .collect()
}

/// Root over `leaves`; zero for none.
#[must_use]
pub fn merkle_root(leaves: &[B256]) -> B256 {
    let mut nodes = leaves.to_vec();
    while nodes.len() > 1 {
        nodes = parents(&nodes);
    }
    nodes.first().copied().unwrap_or_default()
}

/// Siblings from the leaf at `position` up to the root.
#[must_use]
pub fn merkle_proof(leaves: &[B256], mut position: usize) -> Vec<B256> {
    let (mut nodes, mut proof) = (leaves.to_vec(), Vec::new());
    while nodes.len() > 1 {
        proof.extend(nodes.get(position ^ 1).copied());
        nodes = parents(&nodes);
        position /= 2;
    }
    proof
}

/// The root to which `proof` leads from `leaf`, as OpenZeppelin's `MerkleProof.processProof` climbs.
#[must_use]
pub fn climb(leaf: B256, proof: &[B256]) -> B256 {
    proof.iter().fold(leaf, |node, sibling| pair_hash(node, *sibling))
}
