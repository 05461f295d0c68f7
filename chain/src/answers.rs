//! What a question on the chain has to bring along for its answer.

use alloy::{
    eips::BlockNumberOrTag,
    primitives::U256,
    providers::{DynProvider, Provider as _},
};

use crate::{ChainError, endpoint::ask};

/// Wei per gas that an answer is given on top of the base fee: `TIP` of both contracts.
const TIP: u128 = 1_000_000_000;

/// What is asked for. Each has a contract that sets its fee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A signature: `Court`.
    Signature,
    /// An acknowledgement: `Acknowledgements`.
    Acknowledgement,
}

impl Answer {
    /// Gas that an answer is taken to cost: `ANSWER_GAS` of the contract. The dearest answer to who is asked for an acknowledgement
    /// shows a proof of possession that is none.
    #[must_use]
    pub const fn gas(self) -> u64 {
        match self {
            Self::Signature => 120_000,
            Self::Acknowledgement => 380_000,
        }
    }

    /// Least fee (wei) of a question in a block with this base fee (wei per gas): `answerFee()` of the contract.
    ///
    /// # Warning
    /// Do not ask the contract instead: nodes answer `eth_call` as if the base fee were 0 (go-ethereum #28470, reth #17496), and what
    /// they name is refused in a block.
    #[must_use]
    pub fn fee(self, base_fee: u64) -> U256 {
        U256::from(self.gas()).saturating_mul(U256::from(u128::from(base_fee).saturating_mul(2).saturating_add(TIP)))
    }

    /// The same at the head.
    ///
    /// # Errors
    /// The endpoint's; [`ChainError::NotFound`] if it has no block.
    pub async fn fee_now(self, provider: &DynProvider) -> Result<U256, ChainError> {
        let head = provider.get_block_by_number(BlockNumberOrTag::Latest);
        let head = ask("reading the base fee", async { head.await }).await?;
        let head = head.ok_or_else(|| ChainError::NotFound("the RPC endpoint has no latest block".to_owned()))?;
        Ok(self.fee(head.header.base_fee_per_gas.unwrap_or_default()))
    }
}
