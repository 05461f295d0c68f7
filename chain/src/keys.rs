//! The public half of a finalised key: share keys, group key and members from the `KeyFinalised` event, believed only
//! because they rebuild the Merkle root the registry stores.
//!
//! ```text
//!            commitment = root                    leaf i = keccak256(i + 1 ‖ server ‖ signer ‖ share key)
//!             /          \                          (each number 32 bytes, the share key 128: EIP-2537)
//!        h(l0,l1)      h(l2,l3)   l4              pairs are hashed in ascending order;
//!         /   \         /   \      |              a last node without partner moves up as it is
//!        l0   l1       l2   l3    l4
//! ```

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use stkr_core::{CommitteeKeys, CommitteeKeysError, PointError, PublicKey, ShareIndex, Threshold, ThresholdError};

use crate::{bindings::KeyRegistry, reader::KeyInfo};

/// Bytes of a G1 point in EIP-2537 encoding.
const POINT: usize = 128;

/// A seat of a committee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// 1 to n.
    pub index: ShareIndex,
    /// Id of the server in the server registry.
    pub server_id: u32,
    /// The signer this seat was finalised with. Evidence and envelopes are judged by it, whatever the server uses now.
    pub signer: Address,
}

/// A finalised key, its share keys and its members.
#[derive(Clone, Debug)]
pub struct LiveKey {
    /// Id in the key registry.
    pub key_id: u64,
    /// Ceremony that made it.
    pub attempt: u16,
    /// Share keys and group key; they lie on one polynomial.
    pub keys: CommitteeKeys,
    /// The seats, in index order.
    pub members: Vec<Member>,
    /// keccak256 of the n dealing hashes.
    pub dealings_digest: B256,
    /// Merkle root of the share leaves, equal to the registry's.
    pub leaves_root: B256,
}

/// Why an event is not the public half of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// t-of-n no committee can have.
    #[error("key {key_id} has an impossible threshold: {error}")]
    Threshold {
        /// The key.
        key_id: u64,
        /// What is wrong.
        error: ThresholdError,
    },
    /// Lists of different length.
    #[error("the event of key {key_id} has {members} members, {signers} signers and {bytes} bytes of points; it should be {n}, {n} and {}", 128 * (usize::from(*n) + 1))]
    Lengths {
        /// The key.
        key_id: u64,
        /// n.
        n: u8,
        /// Server ids in the event.
        members: usize,
        /// Signers in the event.
        signers: usize,
        /// Bytes of points in the event.
        bytes: usize,
    },
    /// The leaves do not give the registry's root.
    #[error("the event of key {key_id} gives the leaves root {rebuilt}, the registry holds {stored}: the endpoint invents share keys")]
    Root {
        /// The key.
        key_id: u64,
        /// What the event gives.
        rebuilt: B256,
        /// What the registry holds.
        stored: B256,
    },
    /// A point that is none.
    #[error("point {position} of key {key_id} is invalid: {error}")]
    Point {
        /// The key.
        key_id: u64,
        /// From 0; n is the group key.
        position: usize,
        /// What is wrong.
        error: PointError,
    },
    /// Share keys that do not belong together.
    #[error("key {key_id}: {error}")]
    Keys {
        /// The key.
        key_id: u64,
        /// What is wrong.
        error: CommitteeKeysError,
    },
}

impl LiveKey {
    /// Rebuilds the key from its `KeyFinalised` event and checks it against what the registry stores.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn from_event(key: &KeyInfo, event: &KeyRegistry::KeyFinalised) -> Result<Self, KeyError> {
        let key_id = key.id;
        let threshold =
            Threshold::new(key.threshold, key.members).map_err(|error| KeyError::Threshold { key_id, error })?;
        let n = usize::from(key.members);
        let (points, rest) = event.points.as_chunks::<POINT>();
        if event.committee.len() != n || event.signers.len() != n || points.len() != n + 1 || !rest.is_empty() {
            return Err(KeyError::Lengths {
                key_id,
                n: key.members,
                members: event.committee.len(),
                signers: event.signers.len(),
                bytes: event.points.len(),
            });
        }
        let members: Vec<Member> = (threshold.indices().zip(&event.committee).zip(&event.signers))
            .map(|((index, server_id), signer)| Member { index, server_id: *server_id, signer: *signer })
            .collect();
        let leaves: Vec<B256> = members.iter().zip(points).map(|(member, point)| leaf(member, point)).collect();
        let rebuilt = merkle_root(&leaves);
        if rebuilt != key.commitment {
            return Err(KeyError::Root { key_id, rebuilt, stored: key.commitment });
        }
        Ok(Self {
            key_id,
            attempt: event.attempt,
            keys: committee_keys(key_id, threshold, points)?,
            members,
            dealings_digest: event.dealingsDigest,
            leaves_root: rebuilt,
        })
    }

    /// The member at `index`.
    #[must_use]
    pub fn member(&self, index: ShareIndex) -> Option<&Member> {
        self.members.get(index.position())
    }

    /// The seat that was finalised with `signer`.
    #[must_use]
    pub fn member_of_signer(&self, signer: Address) -> Option<&Member> {
        self.members.iter().find(|member| member.signer == signer)
    }

    /// The group key, 128 bytes: the argument `groupKey` of the pools contract.
    #[must_use]
    pub fn group_key(&self) -> Bytes {
        Bytes::copy_from_slice(&self.keys.group_key().to_eip2537())
    }

    /// Share keys in index order, then the group key, 128 bytes each: the argument `points` of the registry.
    #[must_use]
    pub fn points(&self) -> Bytes {
        let mut points: Vec<u8> = self.keys.share_keys().iter().flat_map(PublicKey::to_eip2537).collect();
        points.extend_from_slice(&self.keys.group_key().to_eip2537());
        points.into()
    }

    /// Leaf of the member at `index` and its Merkle proof, as `isShareLeaf` takes them.
    #[must_use]
    pub fn leaf_with_proof(&self, index: ShareIndex) -> Option<(B256, Vec<B256>)> {
        let leaves: Vec<B256> = (self.members.iter().zip(self.keys.share_keys()))
            .map(|(member, key)| leaf(member, &key.to_eip2537()))
            .collect();
        let leaf = *leaves.get(index.position())?;
        Some((leaf, merkle_proof(&leaves, index.position())))
    }
}

fn committee_keys(key_id: u64, threshold: Threshold, points: &[[u8; POINT]]) -> Result<CommitteeKeys, KeyError> {
    let mut keys = Vec::with_capacity(points.len());
    for (position, point) in points.iter().enumerate() {
        keys.push(PublicKey::from_eip2537(point).map_err(|error| KeyError::Point { key_id, position, error })?);
    }
    let Some(group_key) = keys.pop() else {
        return Err(KeyError::Lengths { key_id, n: threshold.n(), members: 0, signers: 0, bytes: 0 });
    };
    CommitteeKeys::new(threshold, group_key, keys).map_err(|error| KeyError::Keys { key_id, error })
}

/// Leaf of one seat. `share_key` is the EIP-2537 encoding.
#[must_use]
pub fn leaf(member: &Member, share_key: &[u8; POINT]) -> B256 {
    let mut bytes = Vec::with_capacity(3 * 32 + POINT);
    bytes.extend_from_slice(&U256::from(member.index.get()).to_be_bytes::<32>());
    bytes.extend_from_slice(&U256::from(member.server_id).to_be_bytes::<32>());
    bytes.extend_from_slice(member.signer.into_word().as_slice());
    bytes.extend_from_slice(share_key);
    keccak256(bytes)
}

/// One level up: pairs hashed in ascending order, a last node without partner as it is.
fn parents(nodes: &[B256]) -> Vec<B256> {
    nodes
        .chunks(2)
        .map(|pair| match pair {
            [left, right] => {
                let (low, high) = if left < right { (left, right) } else { (right, left) };
                keccak256([low.as_slice(), high.as_slice()].concat())
            }
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
