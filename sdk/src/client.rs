//! The client: a provider, a deployment, and a room per contract.

use alloy::{
    primitives::Address,
    providers::{DynProvider, Provider},
    sol_types::SolCall,
};
use stkr_chain::{
    Deployment, Endpoint,
    bindings::{
        KeyRegistry::KeyRegistryInstance, Micropools::MicropoolsInstance, ProviderRegistry::ProviderRegistryInstance,
        ServerRegistry::ServerRegistryInstance,
    },
};

use crate::{
    ceremonies::Ceremonies,
    challenges::Challenges,
    error::{StkrError, rpc},
    faults::Faults,
    keys::Keys,
    pools::Pools,
    positions::Positions,
    providers::Providers,
    reshares::Reshares,
    servers::Servers,
    watch::{Cursor, Start, Watch},
    withdrawals::WithdrawalKeys,
    write::Write,
};

/// The root alone: what only reads needs neither fillers nor wallet.
fn erased<P: Provider>(provider: &P) -> DynProvider {
    provider.root().clone().erased()
}

/// Stkr on one chain, over any alloy provider.
///
/// ```no_run
/// use stkr_sdk::{Deployment, Endpoint, Stkr};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let endpoint = Endpoint::connect(&"http://127.0.0.1:8545".parse()?).await?;
/// let deployment = Deployment::load("deployments/31337.json")?;
/// let stkr = Stkr::connect(endpoint.provider().clone(), deployment).await?;
/// for pool in stkr.pools().list().await? {
///     println!("pool {} is {:?} and has room for {} wei", pool.id, pool.state, pool.room());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Stkr<P> {
    provider: P,
    deployment: Deployment,
}

impl<P: Provider> Stkr<P> {
    /// Connects, and checks before anything else that the endpoint is on the deployment's chain, that every contract of
    /// the deployment has code there, and that the contracts work with each other as the file says
    /// ([`Deployment::check_chain`]). Whether their code is right, [`crate::verify_deployment`] says.
    ///
    /// # Errors
    /// [`StkrError::WrongChain`], [`StkrError::NoContract`], [`StkrError::Deployment`].
    pub async fn connect(provider: P, deployment: Deployment) -> Result<Self, StkrError> {
        let endpoint = Endpoint::new("of this client", erased(&provider));
        deployment.check_chain(&endpoint).await?;
        Ok(Self { provider, deployment })
    }

    /// A client that trusts the deployment unseen: for unsigned transactions made without any endpoint.
    pub fn unchecked(provider: P, deployment: Deployment) -> Self {
        Self { provider, deployment }
    }

    /// Threshold servers.
    pub fn servers(&self) -> Servers<'_, P> {
        Servers(self)
    }

    /// Providers and their duty keys.
    pub fn providers(&self) -> Providers<'_, P> {
        Providers(self)
    }

    /// Micropools.
    pub fn pools(&self) -> Pools<'_, P> {
        Pools(self)
    }

    /// Stakers' positions.
    pub fn positions(&self) -> Positions<'_, P> {
        Positions(self)
    }

    /// Keys and their committees.
    pub fn keys(&self) -> Keys<'_, P> {
        Keys(self)
    }

    /// Keys that move to another committee.
    pub fn reshares(&self) -> Reshares<'_, P> {
        Reshares(self)
    }

    /// Proofs of faults, for the Court.
    pub fn faults(&self) -> Faults<'_, P> {
        Faults(self)
    }

    /// Withdrawal keys of pools with 0x00 credentials.
    pub fn withdrawal_keys(&self) -> WithdrawalKeys<'_, P> {
        WithdrawalKeys(self)
    }

    /// Challenges: servers asked on the chain for what it ordered.
    pub fn challenges(&self) -> Challenges<'_, P> {
        Challenges(self)
    }

    /// Ceremonies: how keys are made, and who holds them up.
    pub fn ceremonies(&self) -> Ceremonies<'_, P> {
        Ceremonies(self)
    }

    /// Events of all contracts from `start` on, across reorgs; see [`Watch`].
    pub fn watch(&self, start: Start) -> Watch<P>
    where
        P: Clone,
    {
        Watch::new(self.provider.clone(), &self.deployment, start)
    }

    /// The newest block, as a cursor to start a watch from.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn head(&self) -> Result<Cursor, StkrError> {
        crate::watch::head(&self.provider, self.deployment.deployed_block).await
    }

    /// The endpoint alone, for what only reads.
    pub(crate) fn endpoint(&self) -> DynProvider {
        erased(&self.provider)
    }

    /// The provider underneath.
    pub fn provider(&self) -> &P {
        &self.provider
    }

    /// The deployment this client talks to.
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    pub(crate) fn server_registry(&self) -> ServerRegistryInstance<&P> {
        ServerRegistryInstance::new(self.deployment.server_registry, &self.provider)
    }

    pub(crate) fn provider_registry(&self) -> ProviderRegistryInstance<&P> {
        ProviderRegistryInstance::new(self.deployment.provider_registry, &self.provider)
    }

    pub(crate) fn key_registry(&self) -> KeyRegistryInstance<&P> {
        KeyRegistryInstance::new(self.deployment.key_registry, &self.provider)
    }

    pub(crate) fn micropools(&self) -> MicropoolsInstance<&P> {
        MicropoolsInstance::new(self.deployment.micropools, &self.provider)
    }

    pub(crate) fn write<T>(
        &self,
        to: Address,
        action: &'static str,
        call: &impl SolCall,
        reader: fn(&alloy::rpc::types::TransactionReceipt) -> Option<T>,
    ) -> Write<'_, P, T> {
        Write::new(&self.provider, self.deployment.chain_id, to, action, call, reader)
    }

    /// The same for a call whose calldata and value are made already.
    pub(crate) fn write_call<T>(
        &self,
        action: &'static str,
        call: stkr_chain::Call,
        reader: fn(&alloy::rpc::types::TransactionReceipt) -> Option<T>,
    ) -> Write<'_, P, T> {
        let write = Write::from_data(&self.provider, self.deployment.chain_id, call.to, action, call.data, reader);
        write.value(call.value)
    }

    pub(crate) async fn head_number(&self) -> Result<u64, StkrError> {
        self.provider.get_block_number().await.map_err(rpc("reading the block number"))
    }
}

/// Name and address of every contract of a deployment that must have code.
pub(crate) fn contracts(deployment: &Deployment) -> [(&'static str, Address); 10] {
    [
        ("AccessManager", deployment.access_manager),
        ("ServerRegistry", deployment.server_registry),
        ("ProviderRegistry", deployment.provider_registry),
        ("KeyRegistry", deployment.key_registry),
        ("Resharing", deployment.resharing()),
        ("Court", deployment.court),
        ("Acknowledgements", deployment.acknowledgements()),
        ("Micropools", deployment.micropools),
        ("WithdrawalKeys", deployment.withdrawal_keys()),
        ("deposit contract", deployment.deposit_contract),
    ]
}
