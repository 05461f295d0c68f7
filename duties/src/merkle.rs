//! The few SSZ hashes that the fixed-size containers here need.

use alloy_primitives::B256;
use sha2::{Digest, Sha256};

/// SHA-256 over two nodes.
pub(crate) fn node(left: B256, right: B256) -> B256 {
    let mut hasher = Sha256::new();
    hasher.update(left);
    hasher.update(right);
    B256::from(<[u8; 32]>::from(hasher.finalize()))
}

/// One chunk: at most 32 bytes, padded with zeros on the right.
pub(crate) fn leaf(bytes: &[u8]) -> B256 {
    let mut chunk = [0; 32];
    chunk[..bytes.len()].copy_from_slice(bytes);
    B256::from(chunk)
}

/// `uint64`: little-endian in one chunk.
pub(crate) fn uint64(value: u64) -> B256 {
    leaf(&value.to_le_bytes())
}

/// Root of four chunks.
pub(crate) fn four(chunks: [B256; 4]) -> B256 {
    node(node(chunks[0], chunks[1]), node(chunks[2], chunks[3]))
}

/// `Bytes48`: two chunks.
pub(crate) fn bytes48(bytes: &[u8; 48]) -> B256 {
    node(leaf(&bytes[..32]), leaf(&bytes[32..]))
}

/// `Bytes96`: three chunks and a zero chunk.
pub(crate) fn bytes96(bytes: &[u8; 96]) -> B256 {
    four([leaf(&bytes[..32]), leaf(&bytes[32..64]), leaf(&bytes[64..]), B256::ZERO])
}
