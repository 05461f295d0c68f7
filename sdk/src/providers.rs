//! Providers: who runs validator clients, and the duty keys they sign with.

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    providers::Provider,
    rpc::types::Filter,
    sol,
    sol_types::{Eip712Domain, SolCall, SolEvent as _, SolStruct as _, eip712_domain},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use stkr_chain::{
    Deployment,
    bindings::{Micropools, ProviderRegistry},
};

use crate::{
    client::Stkr,
    error::{StkrError, call},
    faults::place,
    scan,
    servers::{PARALLEL, check_proof},
    write::{Write, nothing},
};

sol! {
    /// What a duty key signs to show that its holder agrees to serve a provider (docs/protocol.md).
    struct DutyKeyProof {
        address provider;
        address dutyKey;
    }
}

/// A provider and the history of its duty keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderInfo {
    /// The provider's account.
    pub provider: Address,
    /// The duty key it uses now.
    pub duty_key: Address,
    /// Every duty key it ever named, oldest first.
    pub history: Vec<DutyKeyEntry>,
    /// Faults that it was penalised for, oldest first.
    pub penalties: Vec<ProviderPenalty>,
}

/// A proven fault of a provider and what it paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderPenalty {
    /// Pool that it served.
    pub pool_id: u64,
    /// Number of the assignment: each is penalised once.
    pub assignment: u64,
    /// Wei that its insurance lost.
    #[serde(serialize_with = "crate::serde_wei")]
    pub penalty: U256,
    /// Wei of it that are the reporter's. The rest is a claim of the pool's stakers.
    #[serde(serialize_with = "crate::serde_wei")]
    pub bounty: U256,
    /// Who proved it.
    pub reporter: Address,
    /// Transaction.
    pub transaction: B256,
    /// Its block.
    pub block: u64,
}

/// A duty key and since when it was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DutyKeyEntry {
    /// The key's address.
    pub duty_key: Address,
    /// Unix time (seconds) of its first use.
    pub since: u64,
}

/// Digest that `duty_key` signs (65 bytes r, s, v) to become the duty key of `provider`.
pub fn duty_key_digest(deployment: &Deployment, provider: Address, duty_key: Address) -> B256 {
    let domain: Eip712Domain = eip712_domain! {
        name: "Stkr",
        version: "1",
        chain_id: deployment.chain_id,
        verifying_contract: deployment.provider_registry,
    };
    DutyKeyProof { provider, dutyKey: duty_key }.eip712_signing_hash(&domain)
}

/// Reads and writes of the provider registry.
#[derive(Clone, Copy, Debug)]
pub struct Providers<'a, P>(pub(crate) &'a Stkr<P>);

impl<'a, P: Provider> Providers<'a, P> {
    /// A provider with the history of its duty keys.
    ///
    /// # Errors
    /// [`StkrError::NotFound`] or [`StkrError::Rpc`].
    pub async fn get(&self, provider: Address) -> Result<ProviderInfo, StkrError> {
        let registry = self.0.provider_registry();
        let duty_key = registry.dutyKey(provider).call().await.map_err(call("reading the duty key"))?;
        if duty_key.is_zero() {
            return Err(StkrError::NotFound { what: format!("provider {provider}") });
        }
        let count = registry.dutyKeyCount(provider).call().await.map_err(call("counting the duty keys"))?;
        let history = stream::iter(0..count.saturating_to::<u64>())
            .map(|position| self.entry(provider, position))
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        let penalties = self.penalties(provider).await?;
        Ok(ProviderInfo { provider, duty_key, history, penalties })
    }

    /// The provider that ever named `duty_key`, which is one for ever; nothing if nobody did.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn of_duty_key(&self, duty_key: Address) -> Result<Option<Address>, StkrError> {
        let asked = self.0.provider_registry().providerOfDutyKey(duty_key).call().await;
        let provider = asked.map_err(call("asking whose duty key it is"))?;
        Ok((!provider.is_zero()).then_some(provider))
    }

    /// From events: the contract keeps only the last assignment of each pool that was penalised.
    async fn penalties(&self, provider: Address) -> Result<Vec<ProviderPenalty>, StkrError> {
        let deployment = self.0.deployment();
        let filter = Filter::new()
            .address(deployment.micropools)
            .event_signature(Micropools::ProviderPenalised::SIGNATURE_HASH)
            .topic3(provider.into_word());
        let head = self.0.head_number().await?;
        let logs = scan::logs(self.0.provider(), &filter, deployment.deployed_block, head).await?;
        let mut penalties = Vec::with_capacity(logs.len());
        for log in &logs {
            let Ok(event) = log.log_decode::<Micropools::ProviderPenalised>() else { continue };
            let ((transaction, block), it) = (place(log)?, event.inner.data);
            penalties.push(ProviderPenalty {
                pool_id: it.poolId.saturating_to(),
                assignment: it.assignment,
                penalty: it.penalty,
                bounty: it.bounty,
                reporter: it.reporter,
                transaction,
                block,
            });
        }
        Ok(penalties)
    }

    async fn entry(&self, provider: Address, position: u64) -> Result<DutyKeyEntry, StkrError> {
        let entry = self
            .0
            .provider_registry()
            .dutyKeyEntry(provider, U256::from(position))
            .call()
            .await
            .map_err(call("reading the history of duty keys"))?;
        Ok(DutyKeyEntry { duty_key: entry.key, since: entry.since.to() })
    }

    /// Registers the sending account as a provider. `proof` is the duty key's signature of [`duty_key_digest`].
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for a proof of another length.
    pub fn register(&self, duty_key: Address, proof: Bytes) -> Result<Write<'a, P>, StkrError> {
        check_proof(&proof, "duty key proof")?;
        Ok(self.write("registering the provider", &ProviderRegistry::registerCall { newKey: duty_key, proof }))
    }

    /// Names a new duty key of the sending provider.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for a proof of another length.
    pub fn set_duty_key(&self, duty_key: Address, proof: Bytes) -> Result<Write<'a, P>, StkrError> {
        check_proof(&proof, "duty key proof")?;
        Ok(self.write("naming the duty key", &ProviderRegistry::setDutyKeyCall { newKey: duty_key, proof }))
    }

    fn write(&self, action: &'static str, call: &impl SolCall) -> Write<'a, P> {
        self.0.write(self.0.deployment().provider_registry, action, call, nothing)
    }
}
