//! A withdrawal key that has a change of credentials to sign, and the validator key of its pool.

use std::path::Path;

use alloy::{
    primitives::B256,
    providers::{Provider as _, ProviderBuilder},
    signers::local::PrivateKeySigner,
};
use stkr_core::testing::TrustedDealer;

use super::{
    Chain,
    evidence::Accused,
    wallet,
    writes::{Step, Walk},
};

/// A 3-of-4 key.
pub(crate) struct Key {
    pub(crate) id: u64,
    servers: Vec<u32>,
    signers: Vec<PrivateKeySigner>,
    dealer: TrustedDealer,
}

impl Key {
    pub(crate) fn accused(&self) -> Accused<'_> {
        let (committee, signers) = (self.servers.clone(), self.signers.clone());
        Accused { key: self.id, dealer: &self.dealer, committee, signers }
    }
}

pub(crate) struct WithdrawalPool {
    pub(crate) pool: u64,
    pub(crate) provider: PrivateKeySigner,
    /// Its withdrawal key.
    pub(crate) withdrawal: Key,
    /// A validator key of the same servers and another pool.
    pub(crate) validator: Key,
    /// Signing root of the change that is ordered, of validator 1234567.
    pub(crate) root: B256,
}

impl WithdrawalPool {
    /// On a new chain.
    pub(crate) async fn make(chain: &Chain, folder: &Path) -> Self {
        let stkr = chain.stkr().await;
        let send = async |step: &Step| {
            let provider = ProviderBuilder::new().wallet(wallet(&step.signer)).connect_http(chain.url.parse().unwrap());
            *provider.send_transaction(step.unsigned.clone()).await.unwrap().tx_hash()
        };
        let mut walk = Walk::begin(chain, folder, send);
        walk.servers().await;
        let provider = walk.provider().await;
        for _ in 0..2 {
            walk.offline_server().await;
        }
        let (other, staker) = (walk.open(&provider).await, chain.account().await);
        walk.stake(other, &staker, stkr_sdk::amount::POOL_SIZE).await;
        let validator = walk.request_key(other).await;
        walk.draw(validator).await;
        let validator_dealer = walk.finalise(validator).await;
        let (pool, withdrawal, dealer) = walk.bls_pool(&provider).await;
        let order = stkr.withdrawal_keys().order_change(pool, 1_234_567).await.unwrap();
        order.send_with(&wallet(&provider)).await.unwrap();
        let root = stkr.withdrawal_keys().changes(pool).await.unwrap()[0].signing_root;
        let mut keys = Vec::new();
        for (id, dealer) in [(withdrawal, dealer), (validator, validator_dealer)] {
            let servers = stkr.keys().get(id).await.unwrap().committee;
            let signers = servers.iter().map(|id| walk.signers[id].clone()).collect();
            keys.push(Key { id, servers, signers, dealer });
        }
        let (validator, withdrawal) = (keys.pop().unwrap(), keys.pop().unwrap());
        Self { pool, provider, withdrawal, validator, root }
    }
}
