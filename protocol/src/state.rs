//! What a contract's storage held after a block, proven against the block's hash (`eth_getProof`, EIP-1186).
//!
//! The header hashes to the block's hash, the account proof leads from the header's state root to the contract's storage, the storage
//! proof from there to a word. **That the hash is a block's of this chain, and final, nobody can prove offline**: who has an
//! endpoint asks it, and who has none compares the hash with another source.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::{Decodable as _, Header as RlpHeader};
use alloy_trie::{Nibbles, TrieAccount, proof::verify_proof};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::json;

/// Fields of a header, from 0.
const STATE_ROOT: usize = 3;
const NUMBER: usize = 8;
const TIMESTAMP: usize = 11;
/// Most nodes on the way to one value: a path has 64 nibbles, and the root is above the first.
const MAX_NODES: usize = 65;
/// Most bytes of a node: a branch of sixteen hashes has 532, a leaf with an account under 150.
const MAX_NODE: usize = 600;
/// Most bytes of a header: today's have about 650.
const MAX_HEADER: usize = 2_048;
/// Most bytes of an account.
const MAX_ACCOUNT: usize = 128;

/// Why a file proves nothing about a block's state.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StateError {
    /// The header is none.
    #[error("the block header in the file cannot be read; fetch the file again")]
    BadHeader,
    /// A proof leads elsewhere.
    #[error("the proof of {what} does not lead to the block's state: the file was damaged or made up; fetch it again")]
    BadProof {
        /// What it should prove.
        what: String,
    },
}

/// A block as its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvenBlock {
    /// Number.
    pub number: u64,
    /// keccak256 of the header: what is compared with another source.
    pub hash: B256,
    /// Unix time, seconds.
    pub timestamp: u64,
}

impl ProvenBlock {
    /// The block of an RLP header, and its state root. Fields are found by their position, as the contracts do it: a fork that adds
    /// some at the end changes nothing.
    ///
    /// # Errors
    /// [`StateError::BadHeader`].
    pub fn of_header(header: &[u8]) -> Result<(Self, B256), StateError> {
        let mut rest = header;
        let list = RlpHeader::decode_bytes(&mut rest, true).map_err(|_| StateError::BadHeader)?;
        if !rest.is_empty() {
            return Err(StateError::BadHeader);
        }
        let mut fields = Vec::new();
        let mut left = list;
        while !left.is_empty() {
            fields.push(RlpHeader::decode_bytes(&mut left, false).map_err(|_| StateError::BadHeader)?);
        }
        let field = |position: usize| fields.get(position).copied().ok_or(StateError::BadHeader);
        let number = |position| field(position).and_then(|bytes| small(bytes).ok_or(StateError::BadHeader));
        let state_root = B256::try_from(field(STATE_ROOT)?).map_err(|_| StateError::BadHeader)?;
        let (number, timestamp) = (number(NUMBER)?, number(TIMESTAMP)?);
        Ok((Self { number, hash: keccak256(header), timestamp }, state_root))
    }
}

fn small(bytes: &[u8]) -> Option<u64> {
    let mut word = [0_u8; 8];
    word.get_mut(8_usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    Some(u64::from_be_bytes(word))
}

/// Whether the trie of `root` has `value` at `hashed_key`, or nothing there for `None`.
#[must_use]
pub fn is_proven(root: B256, hashed_key: B256, value: Option<Vec<u8>>, proof: &[Bytes]) -> bool {
    verify_proof(root, Nibbles::unpack(hashed_key), value, proof).is_ok()
}

/// One word of a contract's storage after a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StorageProof {
    /// RLP of the block's header.
    #[serde(with = "json::AtMost::<MAX_HEADER>")]
    pub header: Vec<u8>,
    /// RLP of the account: nonce, balance, storage root, code hash.
    #[serde(with = "json::AtMost::<MAX_ACCOUNT>")]
    pub account: Vec<u8>,
    /// Nodes from the state root to the account.
    #[serde(with = "nodes")]
    pub account_proof: Vec<Bytes>,
    /// The word.
    #[serde(with = "json::hash")]
    pub word: B256,
    /// Nodes from the storage root to the word.
    #[serde(with = "nodes")]
    pub word_proof: Vec<Bytes>,
}

impl StorageProof {
    /// That `contract` held [`StorageProof::word`] at `slot` after the block that is returned.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn verify(&self, contract: Address, slot: B256) -> Result<ProvenBlock, StateError> {
        let (block, state_root) = ProvenBlock::of_header(&self.header)?;
        let bad = |what: String| StateError::BadProof { what };
        let of_account = || bad(format!("the account of contract {contract}"));
        // The path is that of the address asked about, whatever the file claims.
        if !is_proven(state_root, keccak256(contract), Some(self.account.clone()), &self.account_proof) {
            return Err(of_account());
        }
        let account = TrieAccount::decode(&mut self.account.as_slice()).map_err(|_| of_account())?;
        let word = U256::from_be_bytes(self.word.0);
        let value = (!word.is_zero()).then(|| alloy_rlp::encode(word));
        if !is_proven(account.storage_root, keccak256(slot), value, &self.word_proof) {
            return Err(bad(format!("slot {slot} of contract {contract}")));
        }
        Ok(block)
    }
}

mod nodes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Bytes, MAX_NODE, MAX_NODES, json};

    #[derive(Serialize, Deserialize)]
    struct Node(#[serde(with = "json::AtMost::<MAX_NODE>")] Vec<u8>);

    pub(super) fn serialize<S: Serializer>(list: &[Bytes], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|node| Node(node.to_vec())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Bytes>, D::Error> {
        let list: Vec<Node> = json::ListOf::<MAX_NODES>::deserialize(from)?;
        Ok(list.into_iter().map(|node| Bytes::from(node.0)).collect())
    }
}

#[cfg(any(test, feature = "fixtures"))]
pub mod testing {
    //! Blocks whose state is what a test says.

    use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
    use alloy_rlp::{BytesMut, Encodable as _, Header as RlpHeader};
    use alloy_trie::{HashBuilder, Nibbles, TrieAccount, proof::ProofRetainer};

    use super::{NUMBER, STATE_ROOT, StorageProof, TIMESTAMP};

    /// Block `number` at `timestamp`, after which `contract` has `word` at `slot`, other slots beside it, and other accounts.
    #[must_use]
    pub fn storage_proof((number, timestamp): (u64, u64), contract: Address, slot: B256, word: B256) -> StorageProof {
        let value = |word: B256| alloy_rlp::encode(U256::from_be_bytes(word.0));
        let others = (1..=40_u8).map(|it| (keccak256([it; 32]), value(B256::repeat_byte(it))));
        // What is zero is not there.
        let (storage_root, word_proof) = trie(keccak256(slot), (!word.is_zero()).then(|| value(word)), others);
        let account = TrieAccount::new(1, U256::from(7), storage_root, B256::repeat_byte(0xcd));
        let others = (1..=40_u8).map(|it| (keccak256([it; 20]), alloy_rlp::encode(TrieAccount::default())));
        let (state_root, account_proof) = trie(keccak256(contract), Some(alloy_rlp::encode(account)), others);
        let header = header(number, timestamp, state_root);
        StorageProof { header, account: alloy_rlp::encode(account), account_proof, word, word_proof }
    }

    fn trie(key: B256, value: Option<Vec<u8>>, others: impl Iterator<Item = (B256, Vec<u8>)>) -> (B256, Vec<Bytes>) {
        let mut all: Vec<(B256, Vec<u8>)> = others.filter(|(other, _)| *other != key).collect();
        all.extend(value.map(|value| (key, value)));
        all.sort();
        let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(vec![Nibbles::unpack(key)]));
        for (key, value) in &all {
            builder.add_leaf(Nibbles::unpack(key), value);
        }
        let root = builder.root();
        let proof = builder.take_proof_nodes().into_nodes_sorted();
        (root, proof.into_iter().map(|(_, node)| node).collect())
    }

    /// As many fields as Osaka's, of which three mean something.
    fn header(number: u64, timestamp: u64, state_root: B256) -> Vec<u8> {
        let mut fields = BytesMut::new();
        for position in 0..21 {
            match position {
                STATE_ROOT => state_root.encode(&mut fields),
                NUMBER => number.encode(&mut fields),
                TIMESTAMP => timestamp.encode(&mut fields),
                _ => B256::repeat_byte(9).encode(&mut fields),
            }
        }
        let mut header = BytesMut::new();
        RlpHeader { list: true, payload_length: fields.len() }.encode(&mut header);
        header.extend_from_slice(&fields);
        header.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::storage_proof, *};

    const CONTRACT: Address = Address::repeat_byte(0xc0);
    const SLOT: B256 = B256::repeat_byte(0x51);
    const WORD: B256 = B256::repeat_byte(0x77);

    fn proof() -> StorageProof {
        storage_proof((40, 1_700_000_000), CONTRACT, SLOT, WORD)
    }

    #[test]
    fn a_word_leads_to_the_hash_of_its_block_and_survives_its_file() {
        let text = serde_json::to_string(&proof()).unwrap();
        let read: StorageProof = serde_json::from_str(&text).unwrap();
        let block = read.verify(CONTRACT, SLOT).unwrap();
        assert_eq!((block.number, block.timestamp), (40, 1_700_000_000));
        assert_eq!(block.hash, keccak256(&proof().header));
    }

    #[test]
    fn nothing_else_can_be_proven_with_it() {
        let bad = |change: fn(&mut StorageProof)| {
            let mut it = proof();
            change(&mut it);
            it.verify(CONTRACT, SLOT).unwrap_err()
        };
        let mislead = |error| matches!(error, StateError::BadProof { .. });
        assert!(mislead(proof().verify(Address::repeat_byte(0xc1), SLOT).unwrap_err()), "another contract");
        assert!(mislead(proof().verify(CONTRACT, B256::repeat_byte(0x52)).unwrap_err()), "another slot");
        assert!(mislead(bad(|it| it.word = B256::repeat_byte(0x78))));
        assert!(mislead(bad(|it| it.word = B256::ZERO)));
        assert!(mislead(bad(|it| it.word_proof.clear())));
        assert!(mislead(bad(|it| it.account_proof.clear())));
        assert!(mislead(bad(|it| *it.account.last_mut().unwrap() ^= 1)));
        assert!(mislead(bad(|it| it.account.push(0))));
        assert!(mislead(bad(|it| it.header[110] ^= 1)), "another state root");
        assert_eq!(bad(|it| it.header.push(0)), StateError::BadHeader);
        assert_eq!(bad(|it| it.header.clear()), StateError::BadHeader);
        assert_eq!(bad(|it| it.header.truncate(100)), StateError::BadHeader);
    }

    #[test]
    fn a_file_is_bounded_before_it_is_read_whole() {
        let refused = |change: fn(&mut serde_json::Value)| {
            let mut json = serde_json::to_value(proof()).unwrap();
            change(&mut json);
            serde_json::from_value::<StorageProof>(json).unwrap_err().to_string()
        };
        assert!(refused(|it| it["wordProof"] = vec!["0x00"; MAX_NODES + 1].into()).contains("more than 65"));
        assert!(
            refused(|it| it["wordProof"][0] = format!("0x{}", "00".repeat(MAX_NODE + 1)).into()).contains("at most")
        );
        assert!(refused(|it| it["header"] = format!("0x{}", "00".repeat(MAX_HEADER + 1)).into()).contains("at most"));
        assert!(refused(|it| it["more"] = "1".into()).contains("unknown field"));
    }
}
