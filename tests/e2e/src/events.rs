//! Reading events of a network under test.

use crate::Network;
use alloy::primitives::{Address, TxHash, U256};
use alloy::providers::Provider;
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;
use eyre::{Result, ensure, eyre};
use stkr_chain::bindings::{KeyRegistry, Micropools};

/// An event with the transaction it came from.
#[derive(Clone, Debug)]
pub struct Found<E> {
    /// The event.
    pub inner: E,
    /// Its transaction.
    pub transaction: TxHash,
}

impl Network {
    /// The first `E` of `address` whose first topic is `id`, waiting for it.
    pub async fn event<E: SolEvent>(&self, address: Address, id: u64) -> Result<Found<E>> {
        let mut found = self.events(address, id, 1).await?;
        ensure!(!found.is_empty(), "no {}", E::SIGNATURE);
        Ok(found.swap_remove(0))
    }

    /// The key that pool `pool` asked for, waiting for it.
    pub async fn requested_key(&self, pool: u64) -> Result<u64> {
        let requested = self.event::<Micropools::PoolKeyRequested>(self.deployment.micropools, pool).await?;
        Ok(u64::try_from(requested.inner.keyId)?)
    }

    /// The same once it is live, with the event that says so.
    pub async fn live_key(&self, pool: u64) -> Result<(u64, KeyRegistry::KeyFinalised)> {
        let key = self.requested_key(pool).await?;
        let finalised = self.event::<KeyRegistry::KeyFinalised>(self.deployment.key_registry, key).await?;
        Ok((key, finalised.inner))
    }

    /// All `E` of `address` whose first topic is `id`, waiting until there are `count`.
    pub async fn events<E: SolEvent>(&self, address: Address, id: u64, count: usize) -> Result<Vec<Found<E>>> {
        self.until(E::SIGNATURE, || async { Ok(self.events_now::<E>(address, id).await?.len() >= count) }).await?;
        self.events_now(address, id).await
    }

    /// All `E` of `address` whose first topic is `id`, as the chain has them now.
    pub async fn events_now<E: SolEvent>(&self, address: Address, id: u64) -> Result<Vec<Found<E>>> {
        let filter =
            Filter::new().address(address).event_signature(E::SIGNATURE_HASH).topic1(U256::from(id)).from_block(0);
        self.provider()?.get_logs(&filter).await?.into_iter().map(decode).collect()
    }

    /// Gas used by the transaction of an event.
    pub async fn gas_of<E>(&self, found: &Found<E>) -> Result<u64> {
        let receipt = self.provider()?.get_transaction_receipt(found.transaction).await?;
        Ok(receipt.ok_or_else(|| eyre!("no receipt of {}", found.transaction))?.gas_used)
    }
}

fn decode<E: SolEvent>(log: Log) -> Result<Found<E>> {
    let transaction = log.transaction_hash.ok_or_else(|| eyre!("a log without its transaction"))?;
    Ok(Found { inner: E::decode_log(&log.inner)?.data, transaction })
}
