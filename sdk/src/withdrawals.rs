//! Withdrawal keys: asked for ahead by a provider, used by one pool with 0x00 credentials, and what they sign.

use std::collections::BTreeMap;

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    providers::Provider,
    rpc::types::{Filter, Log, TransactionReceipt},
    sol_types::SolEvent as _,
};
use serde::Serialize;
use stkr_chain::bindings::WithdrawalKeys as Contract;
use stkr_core::Signature;

use crate::{
    amount,
    client::Stkr,
    error::{StkrError, call, rpc},
    write::{Write, nothing},
};

/// Reads and writes of withdrawal keys.
#[derive(Clone, Copy, Debug)]
pub struct WithdrawalKeys<'a, P>(pub(crate) &'a Stkr<P>);

/// A withdrawal key that a provider asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WithdrawalKeyInfo {
    /// Key id.
    pub key_id: u64,
    /// Who asked for it, and alone opens a pool with it.
    pub provider: Address,
    /// Pool that uses it; 0: none yet.
    pub pool_id: u64,
    /// Whether its bond of 2 ETH is still held.
    pub bonded: bool,
    /// Whether a change of the pool's credentials was shown.
    pub change_shown: bool,
}

/// A change of credentials that was ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeInfo {
    /// The validator that it names.
    pub validator_index: u64,
    /// Compressed group key of the withdrawal key, 48 bytes.
    pub from_bls_pubkey: Bytes,
    /// The pool's vault.
    pub to_execution_address: Address,
    /// What the committee signs.
    pub signing_root: B256,
    /// The committee's signature, 96 bytes compressed, if it was shown: with it anybody may take the change to the beacon chain.
    pub signature: Option<Bytes>,
}

impl<'a, P: Provider> WithdrawalKeys<'a, P> {
    /// The withdrawal key with this id.
    ///
    /// # Errors
    /// [`StkrError::NotFound`] or [`StkrError::Rpc`].
    pub async fn get(&self, key_id: u64) -> Result<WithdrawalKeyInfo, StkrError> {
        let key = self.contract().withdrawalKey(U256::from(key_id)).call().await;
        let key = key.map_err(call("reading a withdrawal key"))?;
        if key.provider.is_zero() {
            return Err(StkrError::NotFound { what: format!("withdrawal key {key_id}") });
        }
        Ok(WithdrawalKeyInfo {
            key_id,
            provider: key.provider,
            pool_id: key.poolId,
            bonded: key.bonded,
            change_shown: key.changeShown,
        })
    }

    /// Withdrawal key of a pool; nothing for a pool with 0x01 credentials.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn of_pool(&self, pool_id: u64) -> Result<Option<u64>, StkrError> {
        let key = self.contract().keyOfPool(U256::from(pool_id)).call().await;
        let key = key.map_err(call("looking up a pool's withdrawal key"))?.saturating_to::<u64>();
        Ok((key != 0).then_some(key))
    }

    /// 0x00 credentials of a pool; nothing for a pool with 0x01 credentials.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn credentials(&self, pool_id: u64) -> Result<Option<B256>, StkrError> {
        let credentials = self.contract().credentialsOf(U256::from(pool_id)).call().await;
        let credentials = credentials.map_err(call("reading a pool's credentials"))?;
        Ok((!credentials.is_zero()).then_some(credentials))
    }

    /// Changes of the pool's credentials that were ordered, by the validator's index.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn changes(&self, pool_id: u64) -> Result<Vec<ChangeInfo>, StkrError> {
        let filter = Filter::new()
            .address(self.0.deployment().withdrawal_keys())
            .event_signature(vec![Contract::ChangeOrdered::SIGNATURE_HASH, Contract::ChangeShown::SIGNATURE_HASH])
            .topic1(B256::from(U256::from(pool_id)))
            .from_block(self.0.deployment().deployed_block);
        let logs = self.0.provider().get_logs(&filter).await.map_err(rpc("reading the ordered changes"))?;
        let mut changes = BTreeMap::new();
        for log in &logs {
            take(&mut changes, log);
        }
        Ok(changes.into_values().collect())
    }

    /// A provider, the sending account, asks for a t-of-n withdrawal key and leaves its bond of 2 ETH; makes the key's id.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for a t-of-n that no withdrawal key may have.
    pub fn request(&self, threshold: u8, members: u8) -> Result<Write<'a, P, u64>, StkrError> {
        let (t, n) = (u16::from(threshold), u16::from(members));
        if t >= n || 2 * t <= n {
            let reason = format!("no withdrawal key may be {t} of {n}: t must be more than half of n and below n");
            return Err(StkrError::invalid(reason, "use for example 3 of 4 or 5 of 6"));
        }
        let write = self.write("asking for a withdrawal key", &Contract::requestCall { threshold, members }, requested);
        Ok(write.value(amount::INSURANCE))
    }

    /// Gives up a key: its provider while no pool uses it, anyone once its pool is Cancelled.
    pub fn give_up(&self, key_id: u64) -> Write<'a, P> {
        self.write("giving up the key", &Contract::giveUpCall { keyId: U256::from(key_id) }, nothing)
    }

    /// Pays the bond of a key back to its provider, the sending account.
    pub fn withdraw_bond(&self, key_id: u64) -> Write<'a, P> {
        let call = Contract::withdrawKeyBondCall { keyId: U256::from(key_id) };
        self.write("withdrawing the bond of the key", &call, nothing)
    }

    /// The provider of a pool, or whoever has a stake in it: orders the change of its validator's credentials to its vault.
    /// Reads the withdrawal key from the chain.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] for a pool with 0x01 credentials.
    pub async fn order_change(&self, pool_id: u64, validator_index: u64) -> Result<Write<'a, P>, StkrError> {
        let call = Contract::orderChangeCall {
            poolId: U256::from(pool_id),
            validatorIndex: validator_index,
            groupKey: self.group_key(pool_id).await?,
        };
        Ok(self.write("ordering the change of credentials", &call, nothing))
    }

    /// Anyone: shows the committee's signature over an ordered change.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] for a pool with 0x01 credentials.
    pub async fn show_change(
        &self,
        pool_id: u64,
        validator_index: u64,
        signature: &Signature,
    ) -> Result<Write<'a, P>, StkrError> {
        let call = Contract::showChangeCall {
            poolId: U256::from(pool_id),
            validatorIndex: validator_index,
            groupKey: self.group_key(pool_id).await?,
            signature: Bytes::copy_from_slice(&signature.to_eip2537()),
        };
        Ok(self.write("showing the change of credentials", &call, nothing))
    }

    async fn group_key(&self, pool_id: u64) -> Result<Bytes, StkrError> {
        match self.of_pool(pool_id).await? {
            Some(key_id) => self.0.keys().group_key(key_id).await,
            None => {
                let reason = format!("pool {pool_id} has no withdrawal key: its credentials are its vault's already");
                Err(StkrError::NotReady { reason })
            }
        }
    }

    fn contract(&self) -> Contract::WithdrawalKeysInstance<&P> {
        Contract::new(self.0.deployment().withdrawal_keys(), self.0.provider())
    }

    fn write<T>(
        &self,
        action: &'static str,
        call: &impl alloy::sol_types::SolCall,
        reader: fn(&TransactionReceipt) -> Option<T>,
    ) -> Write<'a, P, T> {
        self.0.write(self.0.deployment().withdrawal_keys(), action, call, reader)
    }
}

fn take(changes: &mut BTreeMap<u64, ChangeInfo>, log: &Log) {
    if let Ok(ordered) = log.log_decode::<Contract::ChangeOrdered>() {
        let it = ordered.inner.data;
        changes.entry(it.validatorIndex).or_insert(ChangeInfo {
            validator_index: it.validatorIndex,
            from_bls_pubkey: it.pubkey,
            to_execution_address: it.vault,
            signing_root: it.signingRoot,
            signature: None,
        });
    } else if let Ok(shown) = log.log_decode::<Contract::ChangeShown>()
        && let Some(change) = changes.get_mut(&shown.inner.validatorIndex)
    {
        change.signature = Some(shown.inner.signature.clone());
    }
}

fn requested(receipt: &TransactionReceipt) -> Option<u64> {
    receipt.decoded_log::<Contract::WithdrawalKeyRequested>().map(|event| event.data.keyId.saturating_to())
}
