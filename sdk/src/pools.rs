//! Micropools: open, stake, leave, and every step anyone can push.

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    providers::Provider,
    rpc::types::TransactionReceipt,
    sol_types::SolCall,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use stkr_chain::{PoolInfo, bindings::Micropools, types::PoolState};
use stkr_core::Signature;

use crate::{
    amount,
    client::Stkr,
    error::{StkrError, call},
    servers::{PARALLEL, unknown_enum},
    write::{Write, check_position, check_positive, nothing},
};

/// What proven faults of its provider mean for a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolPenalties {
    /// Whether its current provider was proven at fault: the pool shall have another.
    pub migration_due: bool,
    /// Wei of insurance that penalties made a claim of the pool's stakers so far.
    #[serde(serialize_with = "crate::serde_wei")]
    pub stakers_claim: U256,
}

/// Reads and writes of Micropools.
#[derive(Clone, Copy, Debug)]
pub struct Pools<'a, P>(pub(crate) &'a Stkr<P>);

impl<'a, P: Provider> Pools<'a, P> {
    /// All pools, by id.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn list(&self) -> Result<Vec<PoolInfo>, StkrError> {
        let count = self.0.micropools().poolCount().call().await.map_err(call("counting the pools"))?;
        stream::iter(1..=count.saturating_to::<u64>()).map(|id| self.get(id)).buffered(PARALLEL).try_collect().await
    }

    /// The pool with this id.
    ///
    /// # Errors
    /// [`StkrError::NotFound`] or [`StkrError::Rpc`].
    pub async fn get(&self, id: u64) -> Result<PoolInfo, StkrError> {
        let pool = self.0.micropools().pool(U256::from(id)).call().await.map_err(call("reading a pool"))?;
        PoolInfo::from_contract(self.0.deployment(), id, &pool)
            .map_err(unknown_enum)?
            .ok_or_else(|| StkrError::NotFound { what: format!("pool {id}") })
    }

    /// What proven faults of its provider mean for the pool.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn penalties(&self, id: u64) -> Result<PoolPenalties, StkrError> {
        let (pools, id) = (self.0.micropools(), U256::from(id));
        let migration_due = pools.isMigrationDue(id).call().await.map_err(call("asking whether a pool has to move"))?;
        let penalties = pools.penalties(id).call().await.map_err(call("reading the penalties of a pool's provider"))?;
        Ok(PoolPenalties { migration_due, stakers_claim: U256::from(penalties.stakersClaim) })
    }

    /// Where the pool stands.
    ///
    /// # Errors
    /// As [`Pools::get`].
    pub async fn state(&self, id: u64) -> Result<PoolState, StkrError> {
        Ok(self.get(id).await?.state)
    }

    /// Pool that uses a key.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn of_key(&self, key_id: u64) -> Result<Option<u64>, StkrError> {
        let id =
            self.0.micropools().poolOfKey(U256::from(key_id)).call().await.map_err(call("looking up a key's pool"))?;
        let id = id.saturating_to::<u64>();
        Ok((id != 0).then_some(id))
    }

    /// Opens a pool of the sending provider with a t-of-n key, and pays its insurance of 2 ETH; makes the pool's id.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for a t-of-n that no pool may have.
    ///
    /// ```no_run
    /// # use alloy::providers::{Provider, WalletProvider};
    /// # async fn open<P: Provider + WalletProvider>(stkr: stkr_sdk::Stkr<P>) -> Result<(), stkr_sdk::StkrError> {
    /// let opened = stkr.pools().open(3, 4)?.send(stkr.provider()).await?;
    /// println!("pool {}", opened.value);
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(&self, threshold: u8, members: u8) -> Result<Write<'a, P, u64>, StkrError> {
        check_threshold(threshold, members)?;
        let call = Micropools::openCall { threshold, members };
        Ok(self.write("opening the pool", &call, opened_id).value(amount::INSURANCE))
    }

    /// The same with the 0x00 credentials of the sending provider's Live withdrawal key `withdrawal_key`, which no other pool can
    /// use from then on. Reads its group key from the chain.
    ///
    /// # Errors
    /// As [`Pools::open`]; [`StkrError::NotReady`] before that key is live.
    pub async fn open_with_withdrawal_key(
        &self,
        threshold: u8,
        members: u8,
        withdrawal_key: u64,
    ) -> Result<Write<'a, P, u64>, StkrError> {
        check_threshold(threshold, members)?;
        let withdrawal_key = self.0.keys().group_key(withdrawal_key).await?;
        let call = Micropools::openWithWithdrawalKeyCall { threshold, members, withdrawalKey: withdrawal_key };
        Ok(self.write("opening the pool", &call, opened_id).value(amount::INSURANCE))
    }

    /// Stakes `wei` into an Open pool, as a new position: at least 0.5 ETH.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for an amount that no new position can have; nothing was sent then. The contract
    /// refuses a stake beyond the pool's room or one that leaves a gap below 0.5 ETH.
    ///
    /// ```no_run
    /// # use alloy::providers::{Provider, WalletProvider};
    /// use stkr_sdk::{ContractError, StkrError, amount};
    ///
    /// # async fn stake<P: Provider + WalletProvider>(stkr: stkr_sdk::Stkr<P>) -> Result<(), Box<dyn std::error::Error>> {
    /// match stkr.pools().stake(1, amount::parse("0.5")?)?.send(stkr.provider()).await {
    ///     Ok(sent) => println!("in block {:?}", sent.receipt.block_number),
    ///     Err(StkrError::Contract(ContractError::StakeTooLarge(error))) => println!("room for {} wei", error.room),
    ///     Err(other) => return Err(other.into()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn stake(&self, id: u64, wei: U256) -> Result<Write<'a, P>, StkrError> {
        check_positive(wei, "a stake")?;
        check_position(wei)?;
        self.increase(id, wei)
    }

    /// Adds `wei`, also less than 0.5 ETH, to a position that the sending account already holds in an Open pool.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for nothing or for more than a pool.
    pub fn increase(&self, id: u64, wei: U256) -> Result<Write<'a, P>, StkrError> {
        check_positive(wei, "a stake")?;
        if wei > amount::POOL_SIZE {
            return Err(StkrError::invalid(
                format!("{} is more than the 32 ETH of a whole pool", amount::with_unit(wei)),
                "stake into several pools",
            ));
        }
        let call = Micropools::stakeCall { poolId: U256::from(id) };
        Ok(self.write("staking", &call, nothing).value(wei))
    }

    /// Takes `wei` of the sending account's position out of an Open pool.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for nothing.
    pub fn leave(&self, id: u64, wei: U256) -> Result<Write<'a, P>, StkrError> {
        check_positive(wei, "leaving with an amount")?;
        let call = Micropools::leavePoolCall { poolId: U256::from(id), amount: wei };
        Ok(self.write("leaving the pool", &call, nothing))
    }

    /// Gives `wei` of the sending account's position to another account. Both must end with 0 or at least 0.5 ETH.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for nothing, or to the zero address.
    pub fn transfer(&self, id: u64, to: Address, wei: U256) -> Result<Write<'a, P>, StkrError> {
        check_positive(wei, "a transfer")?;
        check_account(to)?;
        let call = Micropools::transferCall { receiver: to, id: U256::from(id), amount: wei };
        Ok(self.write("transferring the position", &call, nothing))
    }

    /// Lets `spender` move up to `wei` of the sending account's position in the pool (ERC-6909).
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for the zero address. An allowance of 0 takes an earlier one back.
    pub fn approve(&self, id: u64, spender: Address, wei: U256) -> Result<Write<'a, P>, StkrError> {
        check_account(spender)?;
        let call = Micropools::approveCall { spender, id: U256::from(id), amount: wei };
        Ok(self.write("approving the spender", &call, nothing))
    }

    /// Lets `spender` move all positions of the sending account in all pools, or takes that back (ERC-6909).
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for the zero address.
    pub fn set_operator(&self, spender: Address, approved: bool) -> Result<Write<'a, P>, StkrError> {
        check_account(spender)?;
        Ok(self.write("naming the operator", &Micropools::setOperatorCall { spender, approved }, nothing))
    }

    /// As its spender or operator: gives `wei` of the position of `from` to another account. The rules of
    /// [`Pools::transfer`] hold.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for nothing, or to the zero address.
    pub fn transfer_from(&self, id: u64, from: Address, to: Address, wei: U256) -> Result<Write<'a, P>, StkrError> {
        check_positive(wei, "a transfer")?;
        check_account(to)?;
        let call = Micropools::transferFromCall { sender: from, receiver: to, id: U256::from(id), amount: wei };
        Ok(self.write("transferring the position", &call, nothing))
    }

    /// Anyone: a Full pool asks for its key; makes the key's id.
    pub fn request_key(&self, id: u64) -> Write<'a, P, u64> {
        self.write("requesting the key", &Micropools::requestKeyCall { poolId: U256::from(id) }, requested_key)
    }

    /// Anyone, once the key is live: orders the pool's one deposit. Reads the group key from the chain.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] before the key is live.
    pub async fn order_deposit(&self, id: u64) -> Result<Write<'a, P>, StkrError> {
        let group_key = self.group_key(id).await?;
        let call = Micropools::orderDepositCall { poolId: U256::from(id), groupKey: group_key };
        Ok(self.write("ordering the deposit", &call, nothing))
    }

    /// Anyone: sends the first ETH with the committee's signature over the ordered deposit.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] before the key is live.
    pub async fn predeposit(&self, id: u64, signature: &Signature) -> Result<Write<'a, P>, StkrError> {
        let call = Micropools::predepositCall {
            poolId: U256::from(id),
            groupKey: self.group_key(id).await?,
            signature: Bytes::copy_from_slice(&signature.to_eip2537()),
        };
        Ok(self.write("sending the predeposit", &call, nothing))
    }

    /// Anyone: shows a signature of the pool's key over a deposit to other credentials; burns the key.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] before the key is live.
    pub async fn prove_foreign_deposit(
        &self,
        id: u64,
        withdrawal_credentials: B256,
        amount_gwei: u64,
        signature: &Signature,
    ) -> Result<Write<'a, P>, StkrError> {
        let call = Micropools::proveForeignDepositCall {
            poolId: U256::from(id),
            groupKey: self.group_key(id).await?,
            foreignCredentials: withdrawal_credentials,
            amountGwei: amount_gwei,
            signature: Bytes::copy_from_slice(&signature.to_eip2537()),
        };
        Ok(self.write("proving a foreign deposit", &call, nothing))
    }

    /// Anyone, after the challenge window: sends the other 31 ETH.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] before the key is live.
    pub async fn top_up(&self, id: u64) -> Result<Write<'a, P>, StkrError> {
        let group_key = self.group_key(id).await?;
        let call = Micropools::topUpCall { poolId: U256::from(id), groupKey: group_key };
        Ok(self.write("topping up", &call, nothing))
    }

    /// Anyone: cancels a pool whose deadline has passed.
    pub fn cancel(&self, id: u64) -> Write<'a, P> {
        self.write("cancelling the pool", &Micropools::cancelCall { poolId: U256::from(id) }, nothing)
    }

    /// Anyone: cancels a Predeposited pool whose withdrawal key signed no change of its credentials in 90 days.
    pub fn cancel_unchanged(&self, id: u64) -> Write<'a, P> {
        let call = Micropools::cancelUnchangedCall { poolId: U256::from(id) };
        self.write("cancelling the pool", &call, nothing)
    }

    /// Pays the sending account's position in a Cancelled pool back.
    pub fn refund(&self, id: u64) -> Write<'a, P> {
        self.write("refunding", &Micropools::refundCall { poolId: U256::from(id) }, nothing)
    }

    /// Pays what is left of the insurance of a Cancelled pool to its provider, the sending account.
    pub fn withdraw_insurance(&self, id: u64) -> Write<'a, P> {
        let call = Micropools::withdrawInsuranceCall { poolId: U256::from(id) };
        self.write("withdrawing the insurance", &call, nothing)
    }

    async fn group_key(&self, id: u64) -> Result<Bytes, StkrError> {
        let pool = self.get(id).await?;
        if pool.key_id == 0 {
            let reason = format!("pool {id} is {} and has not requested its key yet", pool.state);
            return Err(StkrError::NotReady { reason });
        }
        self.0.keys().group_key(pool.key_id).await
    }

    /// Wei of bounties that `reporter` can withdraw for faults of providers.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn bounty_of(&self, reporter: Address) -> Result<U256, StkrError> {
        self.0.micropools().bountyOf(reporter).call().await.map_err(call("reading a bounty"))
    }

    /// Pays the sending account its bounties for faults of providers; makes their sum in wei.
    pub fn withdraw_bounty(&self) -> Write<'a, P, U256> {
        let pools = self.0.deployment().micropools;
        self.0.write(pools, "withdrawing the bounty", &Micropools::withdrawBountyCall {}, paid_bounty)
    }

    fn write<T>(
        &self,
        action: &'static str,
        call: &impl SolCall,
        reader: fn(&TransactionReceipt) -> Option<T>,
    ) -> Write<'a, P, T> {
        self.0.write(self.0.deployment().micropools, action, call, reader)
    }
}

fn paid_bounty(receipt: &TransactionReceipt) -> Option<U256> {
    receipt.decoded_log::<Micropools::ProviderBountyPaid>().map(|event| event.data.amount)
}

fn check_account(account: Address) -> Result<(), StkrError> {
    if account.is_zero() {
        return Err(StkrError::invalid("nobody owns the zero address", "give the other account's address"));
    }
    Ok(())
}

fn opened_id(receipt: &TransactionReceipt) -> Option<u64> {
    receipt.decoded_log::<Micropools::PoolOpened>().map(|event| event.data.poolId.saturating_to())
}

fn requested_key(receipt: &TransactionReceipt) -> Option<u64> {
    receipt.decoded_log::<Micropools::PoolKeyRequested>().map(|event| event.data.keyId.saturating_to())
}

/// The bounds of DESIGN section 1, so that a provider hears of a bad t-of-n before it asks anything.
fn check_threshold(threshold: u8, members: u8) -> Result<(), StkrError> {
    let (t, n) = (u16::from(threshold), u16::from(members));
    let hint = "use for example 3 of 4, 5 of 7 or 7 of 10";
    if t == 0 || t >= n {
        let reason = format!("{t} of {n} leaves no server that may be down; t must be at least 1 and below n");
        return Err(StkrError::invalid(reason, hint));
    }
    if 2 * t < n + 2 {
        let reason = format!("{t} of {n} lets one bad server help to sign a conflict; 2t - n must be at least 2");
        return Err(StkrError::invalid(reason, hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_of_the_table_pass_and_three_of_five_does_not() {
        for (t, n) in [(3, 4), (4, 5), (5, 7), (7, 10)] {
            assert!(check_threshold(t, n).is_ok(), "{t} of {n}");
        }
        for (t, n) in [(3, 5), (4, 4), (5, 4), (0, 4), (0, 0), (2, 3), (128, 255), (255, 255)] {
            assert!(matches!(check_threshold(t, n), Err(StkrError::Invalid { .. })), "{t} of {n}");
        }
    }
}
