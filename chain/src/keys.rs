//! The public half of a finalised key: share keys, group key and members from the `KeyFinalised` event, believed only
//! because they rebuild the Merkle root the registry stores ([`stkr_protocol::leaves`]).

use alloy::primitives::{Address, B256, Bytes};
use stkr_core::{CommitteeKeys, CommitteeKeysError, PointError, PublicKey, ShareIndex, Threshold, ThresholdError};
use stkr_protocol::leaves::share_leaf;
pub use stkr_protocol::leaves::{merkle_proof, merkle_root};

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
    #[error(
        "the event of key {key_id} gives the leaves root {rebuilt}, the registry holds {stored}: the endpoint invents share keys"
    )]
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
    share_leaf(member.index, member.server_id, member.signer, share_key)
}

#[cfg(test)]
mod tests {
    use alloy::{
        primitives::{U256, keccak256},
        sol_types::{SolValue, private::FixedBytes},
    };

    use super::*;
    use crate::types::{KeyKind, KeyState};

    /// A finalised key as the chain would show it, made from a key dealt in this test.
    fn finalised(t: u8, n: u8, seed: u8) -> (KeyInfo, KeyRegistry::KeyFinalised) {
        let threshold = Threshold::new(t, n).unwrap();
        let dealt = stkr_core::testing::TrustedDealer::deal(threshold, [seed; 32]);
        let mut points: Vec<u8> = dealt.keys.share_keys().iter().flat_map(PublicKey::to_eip2537).collect();
        points.extend_from_slice(&dealt.keys.group_key().to_eip2537());
        let committee: Vec<u32> = (0..u32::from(n)).map(|i| 40 + i).collect();
        let signers: Vec<Address> = (0..n).map(Address::repeat_byte).collect();
        // The leaf by the ABI's own rules, not by the function under test.
        let leaves: Vec<B256> = (0..usize::from(n))
            .map(|i| {
                let words: Vec<FixedBytes<32>> =
                    points[i * 128..(i + 1) * 128].chunks(32).map(B256::from_slice).collect();
                let words: [B256; 4] = words.try_into().unwrap();
                keccak256((U256::from(i + 1), U256::from(committee[i]), signers[i], words).abi_encode())
            })
            .collect();
        let root = merkle_root(&leaves);
        let key = KeyInfo {
            id: 7,
            consumer: Address::ZERO,
            state: KeyState::Live,
            kind: KeyKind::Validator,
            threshold: t,
            members: n,
            attempt: 2,
            mark: 0,
            commitment: root,
        };
        let event = KeyRegistry::KeyFinalised {
            keyId: U256::from(7),
            attempt: 2,
            committee,
            signers,
            points: points.into(),
            dealingsDigest: B256::repeat_byte(9),
            leavesRoot: root,
        };
        (key, event)
    }

    /// OpenZeppelin's `MerkleProof.processProof`.
    fn climb(mut node: B256, proof: &[B256]) -> B256 {
        for sibling in proof {
            let (low, high) = (node.min(*sibling), node.max(*sibling));
            node = keccak256((low, high).abi_encode_packed());
        }
        node
    }

    #[test]
    fn a_key_is_rebuilt_from_its_event_and_every_leaf_proves_itself() {
        for (t, n) in [(3, 4), (5, 7), (7, 10)] {
            let (key, event) = finalised(t, n, 1);
            let live = LiveKey::from_event(&key, &event).unwrap();
            assert_eq!((live.key_id, live.attempt, live.members.len()), (7, 2, usize::from(n)));
            assert_eq!(live.points(), event.points);
            assert_eq!(live.group_key(), event.points[usize::from(n) * 128..]);
            for index in live.keys.threshold().indices() {
                let (leaf, proof) = live.leaf_with_proof(index).unwrap();
                assert_eq!(climb(leaf, &proof), key.commitment, "{t}-of-{n}, member {index}");
                let member = live.member(index).unwrap();
                assert_eq!(live.member_of_signer(member.signer), Some(member));
            }
        }
    }

    #[test]
    fn an_event_that_an_endpoint_changed_in_any_place_is_refused() {
        let (key, event) = finalised(3, 4, 1);
        let refused = |change: &dyn Fn(&mut KeyRegistry::KeyFinalised)| {
            let mut forged = event.clone();
            change(&mut forged);
            LiveKey::from_event(&key, &forged).unwrap_err()
        };
        assert!(matches!(refused(&|it| it.signers[1] = Address::repeat_byte(0xee)), KeyError::Root { .. }));
        assert!(matches!(refused(&|it| it.committee[3] = 99), KeyError::Root { .. }));
        assert!(matches!(refused(&|it| it.committee.swap(0, 1)), KeyError::Root { .. }));
        let (_, other) = finalised(3, 4, 2);
        assert!(matches!(refused(&|it| it.points = other.points.clone()), KeyError::Root { .. }));
        // The group key is in no leaf: the polynomial gives it away.
        let group = &other.points[4 * 128..];
        let swapped: Bytes = [&event.points[..4 * 128], group].concat().into();
        assert!(matches!(refused(&|it| it.points = swapped.clone()), KeyError::Keys { .. }));
        let cut: Bytes = event.points[..4 * 128].to_vec().into();
        assert!(matches!(refused(&|it| it.points = cut.clone()), KeyError::Lengths { .. }));
        assert!(matches!(refused(&|it| it.signers.truncate(3)), KeyError::Lengths { .. }));
        let infinity: Bytes = [&event.points[..4 * 128], &[0; 128]].concat().into();
        assert!(matches!(refused(&|it| it.points = infinity.clone()), KeyError::Point { position: 4, .. }));
    }
}
