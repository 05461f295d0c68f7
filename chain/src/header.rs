//! The RLP header of a block, as `KeyRegistry.draw` takes it.

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{B256, Bytes, keccak256},
    providers::{DynProvider, Provider},
};

use crate::{endpoint::ask, errors::ChainError};

/// A block's header whose hash is the block's hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawHeader {
    /// Block number.
    pub number: u64,
    /// keccak256 of `rlp`.
    pub hash: B256,
    /// PREVRANDAO.
    pub prev_randao: B256,
    /// The header.
    pub rlp: Bytes,
}

/// Fetches the header of block `number` and checks that it hashes to the block's hash.
///
/// The endpoint's JSON is encoded again; where that gives another hash (a fork that added a field this program does
/// not know) `debug_getRawHeader` is asked.
///
/// # Errors
/// [`ChainError::NotFound`] if there is no such block, [`ChainError::Nonsense`] if neither way gives a header with the
/// block's hash, or that of the endpoint.
pub async fn fetch(provider: &DynProvider, number: u64) -> Result<RawHeader, ChainError> {
    let tag = BlockNumberOrTag::Number(number);
    let action = format!("reading the header of block {number}");
    let block = ask(action.clone(), async { provider.get_block_by_number(tag).await }).await?;
    let block = block.ok_or_else(|| ChainError::NotFound(format!("the RPC endpoint has no block {number}")))?;
    let (hash, prev_randao) = (block.header.hash, block.header.mix_hash);
    let encoded = Bytes::from(alloy::rlp::encode(&block.header.inner));
    if block.header.number == number && keccak256(&encoded) == hash {
        return Ok(RawHeader { number, hash, prev_randao, rlp: encoded });
    }
    let raw = provider.client().request::<_, Bytes>("debug_getRawHeader", (tag,));
    let raw = ask(format!("{action} in raw form"), raw).await?;
    if block.header.number == number && keccak256(&raw) == hash {
        return Ok(RawHeader { number, hash, prev_randao, rlp: raw });
    }
    let detail = format!("the header hashes to {} and the block to {hash}", keccak256(&encoded));
    Err(ChainError::Nonsense { action, detail })
}
