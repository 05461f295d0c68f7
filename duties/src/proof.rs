//! Proofs that a block body has a property, in a request that carries only the body's root.
//!
//! From Bellatrix on a signer sees a header. Nimbus's *verifying Web3Signer* mode adds Merkle branches to `BLOCK_V2`
//! requests, in an array `proofs` of `{"index", "proof"}`: `index` is the generalized index of a field below the body,
//! `proof` its branch up to `body_root`, the leaf's sibling first. The leaf is not sent: the signer makes it from the
//! value it insists on. (Nimbus documents a third member `value` for fields whose SSZ root is not their value; neither
//! property here is one, so it is ignored like any other unknown member.)
//!
//! ```text
//!                        body_root (1)
//!              ...         |          ...
//!   graffiti (18)   execution_payload (25)          16 leaves: 5 to 16 fields
//!                          |
//!               fee_recipient (25 * 32 + 1 = 801)   32 leaves from Deneb on, 16 before: 401
//! ```
//!
//! A blinded block has the payload's header in the payload's place. Both have the same root, and the field has the same
//! index, so that a block from a builder is proven alike. From Gloas on the payload is no part of the body.

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;
use tree_hash::{TreeHash as _, merkle_root};

use crate::{
    DutyKind, Fork,
    json::{self, Hashes},
};

/// The most proofs one request may carry.
pub const MAX_PROOFS: usize = 16;
/// The longest branch: no field below a block body is deeper.
const MAX_BRANCH: usize = 64;

/// Fields of `BeaconBlockBody` in order; each fork has the first so many.
const BODY: [&str; 13] = [
    "randao_reveal",
    "eth1_data",
    "graffiti",
    "proposer_slashings",
    "attester_slashings",
    "attestations",
    "deposits",
    "voluntary_exits",
    "sync_aggregate",
    "execution_payload",
    "bls_to_execution_changes",
    "blob_kzg_commitments",
    "execution_requests",
];

/// Fields of `ExecutionPayload` and of `ExecutionPayloadHeader` in order; each fork has the first so many.
const PAYLOAD: [&str; 17] = [
    "parent_hash",
    "fee_recipient",
    "state_root",
    "receipts_root",
    "logs_bloom",
    "prev_randao",
    "block_number",
    "gas_limit",
    "gas_used",
    "timestamp",
    "extra_data",
    "base_fee_per_gas",
    "block_hash",
    "transactions",
    "withdrawals",
    "blob_gas_used",
    "excess_blob_gas",
];

/// How many fields of [`BODY`] and of [`PAYLOAD`] a fork has (`BeaconBlockBody` and `ExecutionPayload` of each fork's
/// `beacon-chain.md`).
const fn field_counts(fork: Fork) -> (usize, usize) {
    match fork {
        Fork::Phase0 => (8, 0),
        Fork::Altair => (9, 0),
        Fork::Bellatrix => (10, 14),
        Fork::Capella => (11, 15),
        Fork::Deneb => (12, 17),
        Fork::Electra | Fork::Fulu => (13, 17),
    }
}

/// A field of a block body that a request can prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockProperty {
    /// `.execution_payload.fee_recipient`: who gets the proposer's income.
    FeeRecipient,
    /// `.graffiti`
    Graffiti,
}

impl BlockProperty {
    /// The path by which Nimbus's configuration names it.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::FeeRecipient => ".execution_payload.fee_recipient",
            Self::Graffiti => ".graffiti",
        }
    }

    /// Generalized index below the block body (`ssz/merkle-proofs.md`), `None` before the fork that brought the field.
    #[must_use]
    pub fn generalized_index(self, fork: Fork) -> Option<u64> {
        let (body, payload) = field_counts(fork);
        let mut index = 1;
        let mut containers = [&BODY[..body], &PAYLOAD[..payload]].into_iter();
        for name in self.path().split('.').skip(1) {
            let fields = containers.next()?;
            let position = u64::try_from(fields.iter().position(|field| *field == name)?).ok()?;
            let leaves = u64::try_from(fields.len()).ok()?.next_power_of_two();
            index = index * leaves + position;
        }
        Some(index)
    }
}

/// phase0 `is_valid_merkle_branch`, for a generalized index: whether `leaf` sits at `index` below `root`.
///
/// A branch of the wrong length and the index 0, which no node has, prove nothing.
#[must_use]
pub fn is_valid_merkle_branch(leaf: B256, branch: &[B256], index: u64, root: B256) -> bool {
    let Some(depth) = index.checked_ilog2() else { return false };
    if usize::try_from(depth) != Ok(branch.len()) {
        return false;
    }
    let mut node = leaf;
    let mut place = index;
    for sibling in branch {
        let pair = if place & 1 == 0 { [node, *sibling] } else { [*sibling, node] };
        node = merkle_root(&pair.concat(), 2);
        place >>= 1;
    }
    node == root
}

/// One element of a request's `proofs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockProof {
    /// Generalized index below the block body.
    #[serde(serialize_with = "json::decimal::serialize", deserialize_with = "index")]
    pub index: u64,
    /// Siblings from the leaf up to the body's root.
    #[serde(rename = "proof", with = "Hashes::<MAX_BRANCH>")]
    pub branch: Vec<B256>,
}

/// Why a request does not prove what its block must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProofError {
    /// The request is not for a block that is known by its header alone.
    #[error("a {0} request proves nothing of a block body")]
    NoHeader(DutyKind),
    /// The block's fork has no such field.
    #[error("{} cannot be proven: {fork} blocks have no such field", property.path())]
    NoSuchField {
        /// What was to be proven.
        property: BlockProperty,
        /// Fork of the block.
        fork: Fork,
    },
    /// No proof with the right index.
    #[error("the request carries no proof of {} (generalized index {index} in {fork}); enable the validator client's verifying mode", property.path())]
    Missing {
        /// What was to be proven.
        property: BlockProperty,
        /// Fork of the block.
        fork: Fork,
        /// Index the proof must have.
        index: u64,
    },
    /// The branch does not lead from the value that must be there to the block's body.
    #[error("the block has another {} than {expected}, or a wrong proof", property.path())]
    Wrong {
        /// What was to be proven.
        property: BlockProperty,
        /// SSZ root of the value that must be there.
        expected: B256,
    },
}

/// Whether one of `proofs` shows that the body below `body_root`, of a block of `fork`, has this leaf.
pub(crate) fn prove(
    property: BlockProperty,
    expected: B256,
    fork: Fork,
    body_root: B256,
    proofs: &[BlockProof],
) -> Result<(), ProofError> {
    let index = property.generalized_index(fork).ok_or(ProofError::NoSuchField { property, fork })?;
    let mut candidates = proofs.iter().filter(|proof| proof.index == index).peekable();
    if candidates.peek().is_none() {
        return Err(ProofError::Missing { property, fork, index });
    }
    if candidates.any(|proof| is_valid_merkle_branch(expected, &proof.branch, index, body_root)) {
        Ok(())
    } else {
        Err(ProofError::Wrong { property, expected })
    }
}

/// SSZ root of an execution address.
pub(crate) fn address_leaf(address: Address) -> B256 {
    address.tree_hash_root()
}

/// No OpenAPI file describes the index: Nimbus writes a string, as it writes every integer; a number is understood too.
fn index<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a generalized index")]
    enum Either {
        Number(u64),
        Text(#[serde(with = "json::decimal")] u64),
    }
    Ok(match Either::deserialize(from)? {
        Either::Number(index) | Either::Text(index) => index,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in Nimbus's source (`parseProvenBlockProperty`), which wrote them down by hand.
    #[test]
    fn indices_are_those_nimbus_sends() {
        let of = |property: BlockProperty| Fork::ALL.map(|fork| property.generalized_index(fork));
        assert_eq!(
            of(BlockProperty::FeeRecipient),
            [None, None, Some(401), Some(401), Some(801), Some(801), Some(801)]
        );
        let graffiti = of(BlockProperty::Graffiti);
        assert_eq!(graffiti, [Some(10), Some(18), Some(18), Some(18), Some(18), Some(18), Some(18)]);
    }

    /// A tree over `leaves` (a power of two), and the branch of one of them.
    fn tree(leaves: &[B256], at: usize) -> (B256, Vec<B256>) {
        let mut level = leaves.to_vec();
        let (mut place, mut branch) = (at, Vec::new());
        while level.len() > 1 {
            branch.push(level[place ^ 1]);
            level = level.chunks(2).map(|pair| merkle_root(&pair.concat(), 2)).collect();
            place /= 2;
        }
        (level[0], branch)
    }

    /// A body root with the payload's fields at their place, and the branch of its fee recipient.
    fn body(recipient: Address) -> (B256, Vec<B256>) {
        let mut payload: Vec<B256> = (0..32).map(B256::with_last_byte).collect();
        payload[1] = address_leaf(recipient);
        let (payload_root, mut branch) = tree(&payload, 1);
        let mut body: Vec<B256> = (100..116).map(B256::with_last_byte).collect();
        body[9] = payload_root;
        let (root, upper) = tree(&body, 9);
        branch.extend(upper);
        (root, branch)
    }

    #[test]
    fn a_fee_recipient_is_proven_by_its_branch_and_by_nothing_else() {
        let ours = Address::repeat_byte(0xaa);
        let (root, branch) = body(ours);
        let property = BlockProperty::FeeRecipient;
        let prove =
            |recipient, proofs: &[BlockProof]| prove(property, address_leaf(recipient), Fork::Fulu, root, proofs);
        let proof = |index, branch| BlockProof { index, branch };

        assert_eq!(prove(ours, &[proof(801, branch.clone())]), Ok(()));
        // Any of several will do, wherever it stands.
        assert_eq!(prove(ours, &[proof(18, vec![]), proof(801, vec![]), proof(801, branch.clone())]), Ok(()));

        let wrong = Err(ProofError::Wrong { property, expected: address_leaf(ours) });
        let missing = Err(ProofError::Missing { property, fork: Fork::Fulu, index: 801 });
        assert_eq!(prove(ours, &[]), missing);
        // The index of another fork, though the branch is right.
        assert_eq!(prove(ours, &[proof(401, branch.clone())]), missing);
        for at in 0..branch.len() {
            let mut forged = branch.clone();
            forged[at].0[31] ^= 1;
            assert_eq!(prove(ours, &[proof(801, forged)]), wrong, "sibling {at}");
        }
        assert_eq!(prove(ours, &[proof(801, branch[1..].to_vec())]), wrong);
        assert_eq!(prove(ours, &[proof(801, [branch.clone(), vec![root]].concat())]), wrong);
        let thief = Address::repeat_byte(0xbb);
        assert!(matches!(prove(thief, &[proof(801, branch)]), Err(ProofError::Wrong { .. })));
    }

    #[test]
    fn an_inner_node_is_no_leaf() {
        // The payload's root sits at index 25: a branch from there must not count as a fee recipient's.
        let (root, branch) = body(Address::ZERO);
        assert!(!is_valid_merkle_branch(B256::ZERO, &branch[5..], 801, root));
        assert!(!is_valid_merkle_branch(root, &[], 0, root));
        assert!(is_valid_merkle_branch(root, &[], 1, root));
        assert!(!is_valid_merkle_branch(root, &[], u64::MAX, root));
    }

    #[test]
    fn blocks_before_bellatrix_have_no_fee_recipient() {
        let property = BlockProperty::FeeRecipient;
        assert_eq!(
            prove(property, B256::ZERO, Fork::Altair, B256::ZERO, &[]),
            Err(ProofError::NoSuchField { property, fork: Fork::Altair })
        );
    }

    #[test]
    fn proofs_are_bounded_and_take_an_index_as_nimbus_writes_it() {
        let node = format!("\"0x{}\"", "11".repeat(32));
        let text = format!(r#"{{"index":"801","proof":[{node},{node}]}}"#);
        let proof: BlockProof = serde_json::from_str(&text).unwrap();
        assert_eq!((proof.index, proof.branch.len()), (801, 2));
        assert_eq!(serde_json::to_string(&proof).unwrap(), text);
        assert_eq!(serde_json::from_str::<BlockProof>(&text.replace("\"801\"", "801")).unwrap(), proof);

        assert_eq!(serde_json::from_str::<BlockProof>(&text.replace("]}", r#"],"value":"0xab"}"#)).unwrap(), proof);
        let nodes = |count: usize| format!(r#"{{"index":"801","proof":[{}]}}"#, vec![node.as_str(); count].join(","));
        assert!(serde_json::from_str::<BlockProof>(&nodes(64)).is_ok());
        assert!(serde_json::from_str::<BlockProof>(&nodes(65)).is_err());
        for wrong in [
            text.replace("801", "-1"),
            text.replace("801", "18446744073709551616"),
            text.replace("0x11", "0x1"),
            text.replace("0x11", "11"),
        ] {
            assert!(serde_json::from_str::<BlockProof>(&wrong).is_err(), "{wrong}");
        }
    }
}
