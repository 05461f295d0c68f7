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
    let hash = block.header.hash;
    let encoded = Bytes::from(alloy::rlp::encode(&block.header.inner));
    if block.header.number == number && keccak256(&encoded) == hash {
        return Ok(RawHeader { number, hash, rlp: encoded });
    }
    let raw = provider.client().request::<_, Bytes>("debug_getRawHeader", (tag,));
    let instead = match ask(format!("{action} in raw form"), raw).await {
        Ok(raw) if block.header.number == number && keccak256(&raw) == hash => {
            return Ok(RawHeader { number, hash, rlp: raw });
        }
        Ok(raw) => format!("its raw form to {}", keccak256(&raw)),
        Err(error) => format!("it gives no raw form ({error})"),
    };
    let detail = format!("the header hashes to {}, the block to {hash}, and {instead}", keccak256(&encoded));
    Err(ChainError::Nonsense { action, detail })
}

#[cfg(test)]
mod tests {
    use alloy::{consensus::Header, rlp::Decodable};

    use super::*;
    use crate::{
        Endpoint,
        testing::{Anvil, liar},
    };

    #[tokio::test]
    async fn a_header_hashes_to_its_block_and_holds_its_prevrandao() {
        let anvil = Anvil::start(1).await;
        anvil.mine(3).await;
        let header = fetch(&anvil.provider, 2).await.unwrap();
        let block = anvil.provider.get_block_by_number(2.into()).await.unwrap().unwrap();
        assert_eq!((header.number, header.hash, keccak256(&header.rlp)), (2, block.header.hash, block.header.hash));
        let decoded = Header::decode(&mut header.rlp.as_ref()).unwrap();
        assert_eq!(decoded.mix_hash, block.header.mix_hash);
        let error = fetch(&anvil.provider, 9).await.unwrap_err();
        assert_eq!(error.to_string(), "the RPC endpoint has no block 9");
    }

    #[tokio::test]
    async fn a_header_that_does_not_hash_to_its_block_is_asked_for_in_raw_form_and_refused_if_that_lies_too() {
        let anvil = Anvil::start(1).await;
        anvil.mine(3).await;
        let honest = fetch(&anvil.provider, 2).await.unwrap();
        // Anvil has no debug_getRawHeader; the endpoint in front of it answers in its place.
        let forged = |raw: Bytes| {
            move |method: &str, mut result: serde_json::Value| {
                match method {
                    "eth_getBlockByNumber" => result["mixHash"] = serde_json::json!(B256::repeat_byte(7)),
                    "debug_getRawHeader" => result = serde_json::json!(raw),
                    _ => {}
                }
                result
            }
        };
        let half = liar(anvil.url.clone(), forged(honest.rlp.clone())).await;
        let half = Endpoint::connect(&half).await.unwrap();
        assert_eq!(fetch(half.provider(), 2).await.unwrap(), honest);
        let full = liar(anvil.url.clone(), forged(Bytes::from_static(&[0xc0]))).await;
        let full = Endpoint::connect(&full).await.unwrap();
        let error = fetch(full.provider(), 2).await.unwrap_err();
        assert!(matches!(error, ChainError::Nonsense { .. }), "{error}");
    }
}
