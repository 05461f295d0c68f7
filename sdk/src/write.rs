//! Writes: one value that can be handed out unsigned, tried, or sent and followed until it is in a block.

use core::{fmt, time::Duration};
use std::time::Instant;

use alloy::{
    eips::{BlockId, Encodable2718},
    network::{Ethereum, NetworkWallet},
    primitives::{Address, B256, Bytes, U256},
    providers::{Provider, WalletProvider},
    rpc::types::{TransactionReceipt, TransactionRequest},
    sol_types::SolCall,
};

use crate::{
    amount,
    error::{StkrError, rpc},
};

/// How long a transaction is followed before the SDK says that it is not in a block yet.
const PATIENCE: Duration = Duration::from_secs(300);
/// The same for finality.
const FINALITY_PATIENCE: Duration = Duration::from_secs(3600);

/// Reads the result of a write out of its receipt.
type Reader<T> = fn(&TransactionReceipt) -> Option<T>;

/// A write that has not happened yet.
///
/// - [`Write::unsigned`] gives the transaction for a wallet to sign, without any RPC;
/// - [`Write::filled`] adds nonce, gas and fees, for a signer that is offline;
/// - [`Write::dry_run`] executes it on the node and changes nothing;
/// - [`Write::send`] signs, sends, and follows it until it is in a block, or as deep as [`Write::confirmations`] says.
///
/// `T` is what the write makes: the id of a new server, pool or key, or `()`.
#[must_use = "a write does nothing until it is sent"]
pub struct Write<'a, P, T = ()> {
    provider: &'a P,
    action: &'static str,
    request: TransactionRequest,
    reader: Reader<T>,
    fee_cap: Option<u128>,
    confirmations: u64,
    until_final: bool,
    patience: Duration,
}

impl<P, T> fmt::Debug for Write<'_, P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write").field("action", &self.action).field("request", &self.request).finish_non_exhaustive()
    }
}

/// What a write would do, as the node executed it without keeping it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRun {
    /// Gas the transaction uses.
    pub gas: u64,
    /// Wei per gas the transaction would offer at most.
    pub max_fee_per_gas: u128,
    /// Wei sent along.
    pub value: U256,
    /// What the contract returned, ABI-encoded.
    pub output: Bytes,
}

/// A write that is in a block.
#[derive(Clone, Debug)]
pub struct Sent<T> {
    /// What the write made.
    pub value: T,
    /// The receipt, status success.
    pub receipt: TransactionReceipt,
}

impl<'a, P: Provider, T> Write<'a, P, T> {
    pub(crate) fn new(
        provider: &'a P,
        chain_id: u64,
        to: Address,
        action: &'static str,
        call: &impl SolCall,
        reader: Reader<T>,
    ) -> Self {
        Self::from_data(provider, chain_id, to, action, call.abi_encode().into(), reader)
    }

    /// As [`Write::new`], for calldata.
    pub(crate) fn from_data(
        provider: &'a P,
        chain_id: u64,
        to: Address,
        action: &'static str,
        data: Bytes,
        reader: Reader<T>,
    ) -> Self {
        let mut request = TransactionRequest::default().to(to).input(data.into());
        request.chain_id = Some(chain_id);
        request.value = Some(U256::ZERO);
        Self {
            provider,
            action,
            request,
            reader,
            fee_cap: None,
            confirmations: 1,
            until_final: false,
            patience: PATIENCE,
        }
    }

    pub(crate) fn value(mut self, wei: U256) -> Self {
        self.request.value = Some(wei);
        self
    }

    /// Never offers more than `wei` per gas; a block that asks for more makes the write fail before it is signed.
    pub fn fee_cap(mut self, wei: u128) -> Self {
        self.fee_cap = Some(wei);
        self
    }

    /// Blocks, the transaction's own included, before a write counts as done; 1 unless set, at least 1. Until then a
    /// transaction that a reorg takes out is sent again; after the first receipt, which 1 means, nobody looks any more.
    pub fn confirmations(mut self, blocks: u64) -> Self {
        self.confirmations = blocks.max(1);
        self
    }

    /// Counts as done only when the chain calls its block finalized, some 15 minutes on mainnet; waits an hour for that.
    pub fn until_final(mut self) -> Self {
        self.until_final = true;
        self.patience = FINALITY_PATIENCE;
        self
    }

    /// How long [`Write::send`] waits for inclusion; 5 minutes unless set.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The transaction without sender, nonce, gas and fees: `to`, `input`, `value` and `chainId`.
    pub fn unsigned(&self) -> TransactionRequest {
        self.request.clone()
    }

    /// The transaction of `from` with nonce, gas limit (a fifth above the estimate) and EIP-1559 fees filled in.
    ///
    /// # Errors
    /// What the contract answers ([`StkrError::Contract`]), [`StkrError::InsufficientFunds`],
    /// [`StkrError::FeeAboveCap`], or [`StkrError::Rpc`].
    pub async fn filled(&self, from: Address) -> Result<TransactionRequest, StkrError> {
        let mut request = self.unsigned();
        request.from = Some(from);
        let value = request.value.unwrap_or_default();
        let balance = self.provider.get_balance(from).await.map_err(rpc("reading the account's balance"))?;
        if balance < value {
            return Err(StkrError::InsufficientFunds { account: from, balance, needed: value });
        }
        let gas = self.provider.estimate_gas(request.clone()).await.map_err(rpc(self.action))?;
        let gas = gas.saturating_add(gas / 5);
        let (max_fee, tip) = self.fees().await?;
        let needed = value.saturating_add(U256::from(gas).saturating_mul(U256::from(max_fee)));
        if balance < needed {
            return Err(StkrError::InsufficientFunds { account: from, balance, needed });
        }
        let nonce = self.provider.get_transaction_count(from).pending().await.map_err(rpc("reading the nonce"))?;
        request.gas = Some(gas);
        request.nonce = Some(nonce);
        request.max_fee_per_gas = Some(max_fee);
        request.max_priority_fee_per_gas = Some(tip);
        Ok(request)
    }

    /// EIP-1559 fees (max, tip) in wei per gas, under the cap.
    async fn fees(&self) -> Result<(u128, u128), StkrError> {
        let estimate = self.provider.estimate_eip1559_fees().await.map_err(rpc("estimating fees"))?;
        let Some(cap) = self.fee_cap else {
            return Ok((estimate.max_fee_per_gas, estimate.max_priority_fee_per_gas));
        };
        let latest = self.provider.get_block(BlockId::latest()).await.map_err(rpc("reading the latest block"))?;
        let base_fee = latest.and_then(|block| block.header.base_fee_per_gas).map_or(0, u128::from);
        // Below the base fee of the latest block the transaction would only wait in the pool and block the nonce.
        if base_fee > cap {
            return Err(StkrError::FeeAboveCap { base_fee, cap });
        }
        let max_fee = estimate.max_fee_per_gas.min(cap);
        Ok((max_fee, estimate.max_priority_fee_per_gas.min(max_fee)))
    }

    /// Executes the write on the node as `from` and keeps nothing.
    ///
    /// # Errors
    /// As [`Write::filled`].
    pub async fn dry_run(&self, from: Address) -> Result<DryRun, StkrError> {
        let filled = self.filled(from).await?;
        let mut call = self.unsigned();
        call.from = Some(from);
        let gas = self.provider.estimate_gas(call.clone()).await.map_err(rpc(self.action))?;
        let output = self.provider.call(call).await.map_err(rpc(self.action))?;
        Ok(DryRun {
            gas,
            max_fee_per_gas: filled.max_fee_per_gas.unwrap_or_default(),
            value: filled.value.unwrap_or_default(),
            output,
        })
    }

    /// Signs with the default account of `signer` (any alloy provider that holds a wallet), sends, and follows the
    /// transaction until it is in a block. Reads and writes go through the client's own provider; `signer` only signs.
    ///
    /// # Errors
    /// As [`Write::filled`]; [`StkrError::Reverted`] and [`StkrError::NotIncluded`] name the transaction.
    pub async fn send(self, signer: &impl WalletProvider<Ethereum>) -> Result<Sent<T>, StkrError> {
        self.send_with(signer.wallet()).await
    }

    /// As [`Write::send`], for a bare wallet (`EthereumWallet::from(signer)`).
    ///
    /// # Errors
    /// As [`Write::send`].
    pub async fn send_with(self, wallet: &impl NetworkWallet<Ethereum>) -> Result<Sent<T>, StkrError> {
        let request = self.filled(wallet.default_signer_address()).await?;
        let envelope = wallet
            .sign_request(request.clone())
            .await
            .map_err(|error| StkrError::Signing { cause: error.to_string() })?;
        let hash = *envelope.tx_hash();
        let raw = envelope.encoded_2718();
        if let Err(error) = self.provider.send_raw_transaction(&raw).await {
            // The answer may be lost on the way back: if the node knows the transaction, it was sent.
            let known = self.provider.get_transaction_by_hash(hash).await.ok().flatten().is_some();
            if !known {
                return Err(rpc(self.action)(error));
            }
        }
        let receipt = self.follow(hash, &raw).await?;
        if !receipt.status() {
            return Err(self.why_reverted(request, &receipt).await);
        }
        let value =
            (self.reader)(&receipt).ok_or(StkrError::UnexpectedReceipt { action: self.action, transaction: hash })?;
        Ok(Sent { value, receipt })
    }

    /// Waits for the receipt, at the wanted depth. Before that a reorg may take the transaction out again and a node may
    /// forget it; then it is sent once more, the same bytes, which cannot spend twice.
    async fn follow(&self, hash: B256, raw: &[u8]) -> Result<TransactionReceipt, StkrError> {
        let started = Instant::now();
        let pause = self.provider.client().poll_interval();
        loop {
            let receipt = self.provider.get_transaction_receipt(hash).await;
            match receipt {
                Ok(Some(receipt)) if self.deep_enough(&receipt).await => return Ok(receipt),
                Ok(None) if matches!(self.provider.get_transaction_by_hash(hash).await, Ok(None)) => {
                    let _ = self.provider.send_raw_transaction(raw).await;
                }
                _ => {}
            }
            if started.elapsed() >= self.patience {
                return Err(StkrError::NotIncluded { transaction: hash, waited: self.patience });
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn deep_enough(&self, receipt: &TransactionReceipt) -> bool {
        let Some(included) = receipt.block_number else { return false };
        if self.until_final {
            let finalized = self.provider.get_block(BlockId::finalized()).await;
            return finalized.is_ok_and(|block| block.is_some_and(|block| block.header.number >= included));
        }
        if self.confirmations <= 1 {
            return true;
        }
        match self.provider.get_block_number().await {
            Ok(head) => head.saturating_add(1).saturating_sub(included) >= self.confirmations,
            Err(_) => false,
        }
    }

    /// A receipt says only that it failed: the same call on the block before says why.
    async fn why_reverted(&self, request: TransactionRequest, receipt: &TransactionReceipt) -> StkrError {
        let before = receipt.block_number.unwrap_or_default().saturating_sub(1);
        let reverted = StkrError::Reverted { action: self.action, transaction: receipt.transaction_hash };
        let mut call = self.unsigned();
        call.from = request.from;
        call.gas = request.gas;
        match self.provider.call(call).block(before.into()).await {
            Ok(_) => reverted,
            Err(error) => match rpc(self.action)(error) {
                contract @ StkrError::Contract(_) => contract,
                _ => reverted,
            },
        }
    }
}

/// For writes that make nothing but their effect.
pub(crate) fn nothing(_: &TransactionReceipt) -> Option<()> {
    Some(())
}

/// One clear sentence per amount that no contract would take.
pub(crate) fn check_positive(wei: U256, what: &str) -> Result<(), StkrError> {
    if wei.is_zero() {
        return Err(StkrError::invalid(format!("{what} of 0 ETH does nothing"), "give an amount, for example 0.5eth"));
    }
    Ok(())
}

/// Smallest position, checked before any RPC.
pub(crate) fn check_position(wei: U256) -> Result<(), StkrError> {
    if wei < amount::MIN_STAKE {
        return Err(StkrError::invalid(
            format!("{} is below the smallest position of 0.5 ETH", amount::with_unit(wei)),
            "stake at least 0.5 ETH; an account that holds a position in this pool already may add less",
        ));
    }
    Ok(())
}
