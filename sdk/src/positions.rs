//! Stakers' positions: ERC-6909 balances in wei, one id per pool.

use std::collections::BTreeSet;

use alloy::{
    primitives::{Address, B256, U256},
    providers::Provider,
    rpc::types::Filter,
    sol_types::SolEvent,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use stkr_chain::bindings::Micropools;

use crate::{
    client::Stkr,
    error::{StkrError, call},
    scan,
    servers::PARALLEL,
};

/// What an account holds in one pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Position {
    /// Pool id.
    pub pool_id: u64,
    /// The staker.
    pub account: Address,
    /// Wei (decimal string in JSON).
    #[serde(serialize_with = "crate::serde_wei")]
    pub amount: U256,
}

/// Reads of positions; to move one see [`crate::Pools`].
#[derive(Clone, Copy, Debug)]
pub struct Positions<'a, P>(pub(crate) &'a Stkr<P>);

impl<P: Provider> Positions<'_, P> {
    /// Wei that `account` holds in a pool.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn balance(&self, account: Address, pool_id: u64) -> Result<U256, StkrError> {
        self.0.micropools().balanceOf(account, U256::from(pool_id)).call().await.map_err(call("reading a position"))
    }

    /// Wei of the position of `owner` in a pool that `spender` may move; what an operator may move is not in it.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn allowance(&self, owner: Address, spender: Address, pool_id: u64) -> Result<U256, StkrError> {
        let micropools = self.0.micropools();
        micropools.allowance(owner, spender, U256::from(pool_id)).call().await.map_err(call("reading an allowance"))
    }

    /// Whether `spender` may move all positions of `owner`.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn is_operator(&self, owner: Address, spender: Address) -> Result<bool, StkrError> {
        self.0.micropools().isOperator(owner, spender).call().await.map_err(call("reading an operator"))
    }

    /// All positions of `account` that are not zero, by pool.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn of(&self, account: Address) -> Result<Vec<Position>, StkrError> {
        let pools = self.pools_ever_held(account).await?;
        let positions: Vec<Position> = stream::iter(pools)
            .map(|pool_id| async move {
                let amount = self.balance(account, pool_id).await?;
                Ok::<_, StkrError>(Position { pool_id, account, amount })
            })
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        Ok(positions.into_iter().filter(|position| !position.amount.is_zero()).collect())
    }

    /// Pools of which `account` ever received something: whoever holds a position received it.
    async fn pools_ever_held(&self, account: Address) -> Result<BTreeSet<u64>, StkrError> {
        let deployment = self.0.deployment();
        let filter = Filter::new()
            .address(deployment.micropools)
            .event_signature(Micropools::Transfer::SIGNATURE_HASH)
            .topic2(B256::left_padding_from(account.as_slice()));
        let head = self.0.head_number().await?;
        let logs = scan::logs(self.0.provider(), &filter, deployment.deployed_block, head).await?;
        let transfers = logs.iter().filter_map(|log| log.log_decode::<Micropools::Transfer>().ok());
        Ok(transfers.map(|log| log.inner.data.id.saturating_to::<u64>()).collect())
    }
}
