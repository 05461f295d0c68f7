//! `deployments/<chain id>.json`: where the contracts of one deployment are, as the deploy script wrote it.

use std::{future::Future, path::Path};

use alloy::{
    primitives::{Address, B256, Bytes, FixedBytes, U256, b256, keccak256},
    providers::Provider,
    sol_types::SolValue,
};
use serde::{Deserialize, Serialize};

use crate::{
    bindings::{Court, KeyRegistry, Micropools, ServerRegistry, WithdrawalKeys},
    endpoint::{Endpoint, ask, ask_contract},
    errors::ChainError,
};

/// Addresses of one deployment and the chain it is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// OpenZeppelin AccessManager: the timelock of governance.
    pub access_manager: Address,
    /// The registry of threshold servers.
    pub server_registry: Address,
    /// The registry of providers.
    pub provider_registry: Address,
    /// The registry of keys; verifying contract of the protocol's EIP-712 domain.
    pub key_registry: Address,
    /// The Court: the only contract that slashes a server's bond.
    pub court: Address,
    /// The pools contract.
    pub micropools: Address,
    /// The beacon chain's official deposit contract.
    pub deposit_contract: Address,
    /// Genesis fork version of the beacon chain (4 bytes).
    pub genesis_fork_version: FixedBytes<4>,
    /// Genesis validators root of the beacon chain: what changes of credentials are signed under.
    pub genesis_validators_root: B256,
    /// Block of the first contract: the event log begins here.
    pub deployed_block: u64,
}

/// Largest deployment file read.
const MAX_BYTES: u64 = 64 * 1024;

impl Deployment {
    /// Reads the file the deploy script wrote.
    ///
    /// # Errors
    /// [`ChainError::BadDeployment`] if it cannot be read, is no such JSON (files from before the Court name none), or has a
    /// zero or repeated address.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ChainError> {
        let path = path.as_ref();
        let bad = |detail: String| ChainError::BadDeployment { path: path.display().to_string(), detail };
        let text = stkr_files::read_text(path, MAX_BYTES)
            .map_err(|error| bad(format!("cannot be read: {}", error.reason())))?;
        let deployment: Self = serde_json::from_str(&text).map_err(|error| bad(not_valid(&text, &error)))?;
        deployment.check().map_err(bad)?;
        Ok(deployment)
    }

    fn check(&self) -> Result<(), String> {
        let contracts = self.contracts();
        for (position, (name, address)) in contracts.iter().enumerate() {
            if address.is_zero() {
                return Err(format!("{name} is the zero address"));
            }
            if let Some((other, _)) = contracts[..position].iter().find(|(_, earlier)| earlier == address) {
                return Err(format!("{name} and {other} are both {address}"));
            }
        }
        Ok(())
    }

    /// Where members of ceremonies are asked to acknowledge: the Court creates that contract in its constructor, so it is the
    /// Court's first (nonce 1), and no file has to name it.
    #[must_use]
    pub fn acknowledgements(&self) -> Address {
        self.court.create(1)
    }

    /// Where keys get later committees: the KeyRegistry creates that contract in its constructor.
    #[must_use]
    pub fn resharing(&self) -> Address {
        self.key_registry.create(1)
    }

    /// Where withdrawal keys are asked for and what they sign is ordered: the pools contract creates that contract in its
    /// constructor, after the implementation of the vaults.
    #[must_use]
    pub fn withdrawal_keys(&self) -> Address {
        self.micropools.create(2)
    }

    /// The contracts whose events programs follow.
    #[must_use]
    pub fn emitters(&self) -> [Address; 8] {
        [
            self.server_registry,
            self.provider_registry,
            self.key_registry,
            self.resharing(),
            self.court,
            self.acknowledgements(),
            self.micropools,
            self.withdrawal_keys(),
        ]
    }

    /// Name and address of every contract; names are those of the file, but for `resharing`, `acknowledgements` and
    /// `withdrawalKeys`.
    #[must_use]
    pub fn contracts(&self) -> [(&'static str, Address); 10] {
        [
            ("accessManager", self.access_manager),
            ("serverRegistry", self.server_registry),
            ("providerRegistry", self.provider_registry),
            ("keyRegistry", self.key_registry),
            ("resharing", self.resharing()),
            ("court", self.court),
            ("acknowledgements", self.acknowledgements()),
            ("micropools", self.micropools),
            ("withdrawalKeys", self.withdrawal_keys()),
            ("depositContract", self.deposit_contract),
        ]
    }

    /// Checks that `endpoint` serves this chain, that every contract is there, and that they know each other.
    ///
    /// # Errors
    /// Those for which [`ChainError::is_wrong_deployment`] holds, or that of the endpoint.
    pub async fn check_chain(&self, endpoint: &Endpoint) -> Result<(), ChainError> {
        let provider = endpoint.provider();
        let found = ask("reading the chain id", async { provider.get_chain_id().await }).await?;
        if found != self.chain_id {
            let endpoint = endpoint.name().to_owned();
            return Err(ChainError::WrongChain { endpoint, expected: self.chain_id, found });
        }
        // What contracts created is there if they are, and who wrote the file knows nothing of it.
        let created = [self.resharing(), self.acknowledgements(), self.withdrawal_keys()];
        let named = self.contracts().into_iter().filter(|(_, address)| !created.contains(address));
        for (name, address) in named {
            let code =
                ask(format!("reading the code of {name}"), async { provider.get_code_at(address).await }).await?;
            if code.is_empty() {
                return Err(ChainError::NoContract { name, address });
            }
        }
        self.check_wiring(endpoint).await
    }

    async fn check_wiring(&self, endpoint: &Endpoint) -> Result<(), ChainError> {
        let pools = Micropools::new(self.micropools, endpoint.provider());
        let keys = KeyRegistry::new(self.key_registry, endpoint.provider());
        let (to_pools, to_keys) = (("micropools", self.micropools), ("keyRegistry", self.key_registry));
        let key_registry = wiring(to_pools, async { pools.KEY_REGISTRY().call().await }).await?;
        same("micropools", "keyRegistry", &self.key_registry, &key_registry)?;
        let providers = wiring(to_pools, async { pools.PROVIDER_REGISTRY().call().await }).await?;
        same("micropools", "providerRegistry", &self.provider_registry, &providers)?;
        let deposits = wiring(to_pools, async { pools.DEPOSIT_CONTRACT().call().await }).await?;
        same("micropools", "depositContract", &self.deposit_contract, &deposits)?;
        let fork = wiring(to_pools, async { pools.GENESIS_FORK_VERSION().call().await }).await?;
        same("micropools", "genesisForkVersion", &self.genesis_fork_version, &fork)?;
        self.check_withdrawal_keys(endpoint).await?;
        let servers = wiring(to_keys, async { keys.SERVER_REGISTRY().call().await }).await?;
        same("keyRegistry", "serverRegistry", &self.server_registry, &servers)?;
        let resharing = wiring(to_keys, async { keys.RESHARING().call().await }).await?;
        same("keyRegistry", "resharing", &self.resharing(), &resharing)?;
        self.check_court(endpoint).await?;
        // If the contract's vault were not the one we derive, servers would refuse every deposit of this deployment.
        let vault = wiring(to_pools, async { pools.vaultOf(U256::from(1)).call().await }).await?;
        same("micropools", "vaultOf(1)", &self.vault_of(1), &vault)?;
        // The separator binds name, version, chain id and registry: what every protocol message is signed under.
        let separator = wiring(to_keys, async { keys.domainSeparator().call().await }).await?;
        same("keyRegistry", "domainSeparator", &self.domain_separator(), &separator)
    }

    /// Who orders changes of credentials, and for which beacon chain: a change under another root is good for nothing.
    async fn check_withdrawal_keys(&self, endpoint: &Endpoint) -> Result<(), ChainError> {
        let pools = Micropools::new(self.micropools, endpoint.provider());
        let to_pools = ("micropools", self.micropools);
        let found = wiring(to_pools, async { pools.WITHDRAWAL_KEYS().call().await }).await?;
        same("micropools", "withdrawalKeys", &self.withdrawal_keys(), &found)?;
        let keys = WithdrawalKeys::new(self.withdrawal_keys(), endpoint.provider());
        let to_keys = ("withdrawalKeys", self.withdrawal_keys());
        let root = wiring(to_keys, async { keys.GENESIS_VALIDATORS_ROOT().call().await }).await?;
        same("withdrawalKeys", "genesisValidatorsRoot", &self.genesis_validators_root, &root)
    }

    /// The Court is whatever the server registry obeys; evidence sent to another one would be gas for nothing.
    async fn check_court(&self, endpoint: &Endpoint) -> Result<(), ChainError> {
        let servers = ServerRegistry::new(self.server_registry, endpoint.provider());
        let court = Court::new(self.court, endpoint.provider());
        let (to_servers, to_court) = (("serverRegistry", self.server_registry), ("court", self.court));
        let judge = wiring(to_servers, async { servers.COURT().call().await }).await?;
        same("serverRegistry", "court", &self.court, &judge)?;
        let keys = wiring(to_court, async { court.KEY_REGISTRY().call().await }).await?;
        same("court", "keyRegistry", &self.key_registry, &keys)?;
        let bonds = wiring(to_court, async { court.SERVER_REGISTRY().call().await }).await?;
        same("court", "serverRegistry", &self.server_registry, &bonds)?;
        // A challenge of another contract would have honest servers answer where nobody asked them.
        let asks = wiring(to_court, async { court.ACKNOWLEDGEMENTS().call().await }).await?;
        same("court", "acknowledgements", &self.acknowledgements(), &asks)
    }

    /// EIP-712 domain separator of all protocol messages (docs/protocol.md), derived here and not asked for.
    #[must_use]
    pub fn domain_separator(&self) -> B256 {
        let kind = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        let words = (kind, keccak256("Stkr"), keccak256("1"), U256::from(self.chain_id), self.key_registry);
        keccak256(words.abi_encode())
    }

    /// Vault of pool `pool_id`: its CREATE2 address, computed here.
    ///
    /// Servers sign a deposit to nothing but the vault they derived, so they must not ask anybody for it: an endpoint
    /// that lies about one address would take 32 ETH.
    #[must_use]
    pub fn vault_of(&self, pool_id: u64) -> Address {
        vault_of(self.micropools, pool_id)
    }

    /// 0x01 withdrawal credentials of pool `pool_id`: 0x01, eleven zero bytes, the vault.
    #[must_use]
    pub fn withdrawal_credentials(&self, pool_id: u64) -> B256 {
        let mut credentials = b256!("0x0100000000000000000000000000000000000000000000000000000000000000");
        credentials[12..].copy_from_slice(self.vault_of(pool_id).as_slice());
        credentials
    }
}

/// Vault of pool `pool_id` of the pools contract `micropools`.
///
/// The pools contract creates the vault implementation in its constructor, so that is its first contract (nonce 1).
/// A vault is an ERC-1167 clone of it with `abi.encode(poolId)` behind its code (OpenZeppelin `Clones`, immutable
/// arguments) and salt `bytes32(poolId)`.
#[must_use]
pub fn vault_of(micropools: Address, pool_id: u64) -> Address {
    let implementation = micropools.create(1);
    let arguments = U256::from(pool_id).to_be_bytes::<32>();
    // 45 bytes of code and 32 of arguments: 0x4d bytes of runtime, which the constructor copies and returns.
    let mut code = Vec::with_capacity(10 + 45 + 32);
    code.extend_from_slice(&alloy::hex!("61004d3d81600a3d39f3"));
    code.extend_from_slice(&alloy::hex!("363d3d373d3d3d363d73"));
    code.extend_from_slice(implementation.as_slice());
    code.extend_from_slice(&alloy::hex!("5af43d82803e903d91602b57fd5bf3"));
    code.extend_from_slice(&arguments);
    micropools.create2(B256::from(arguments), keccak256(Bytes::from(code)))
}

/// Why `text` is no deployment. A file from before the Court has everything else, and its reader must know where to get one.
fn not_valid(text: &str, error: &serde_json::Error) -> String {
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap_or_default();
    if fields.contains_key("serverRegistry") && !fields.contains_key("court") {
        return "names no court, so it is of a deployment from before there was one; use the file that the deploy script \
                wrote for the contracts with a Court"
            .to_owned();
    }
    if fields.contains_key("court") && !fields.contains_key("genesisValidatorsRoot") {
        return "names no genesisValidatorsRoot, so it is of a deployment from before there were withdrawal keys; use the file \
                that the deploy script wrote for the contracts with them"
            .to_owned();
    }
    format!("is not valid: {error}")
}

/// Asks a contract of the file who it works with. One that does not know the question is another contract: that does not
/// mend itself, so it must not look like an endpoint that is worth another try.
async fn wiring<T>(
    (name, address): (&'static str, Address),
    question: impl Future<Output = Result<T, alloy::contract::Error>>,
) -> Result<T, ChainError> {
    ask_contract(format!("asking {name} who it works with"), question).await.map_err(|error| match error {
        ChainError::Reverted { .. } | ChainError::Nonsense { .. } => ChainError::OtherContract { name, address },
        error => error,
    })
}

fn same<T: PartialEq + ToString>(
    contract: &'static str,
    field: &'static str,
    expected: &T,
    found: &T,
) -> Result<(), ChainError> {
    if expected == found {
        return Ok(());
    }
    Err(ChainError::WrongWiring { contract, field, expected: expected.to_string(), found: found.to_string() })
}

#[cfg(test)]
mod tests {
    use alloy::primitives::address;

    use super::*;

    fn json() -> serde_json::Value {
        serde_json::json!({
            "chainId": 31337,
            "accessManager": "0x0000000000000000000000000000000000000001",
            "serverRegistry": "0x0000000000000000000000000000000000000002",
            "providerRegistry": "0x0000000000000000000000000000000000000003",
            "keyRegistry": "0x0000000000000000000000000000000000000004",
            "court": "0x0000000000000000000000000000000000000007",
            "micropools": "0x0000000000000000000000000000000000000005",
            "depositContract": "0x00000000219ab540356cBB839Cbe05303d7705Fa",
            "genesisForkVersion": "0x10000910",
            "genesisValidatorsRoot": B256::repeat_byte(9),
            "deployedBlock": 3
        })
    }

    fn load(value: &serde_json::Value) -> Result<Deployment, ChainError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("31337.json");
        std::fs::write(&path, value.to_string()).unwrap();
        Deployment::load(&path)
    }

    #[test]
    fn a_deployment_file_is_read_and_a_bad_one_is_refused_with_its_field() {
        let deployment = load(&json()).unwrap();
        assert_eq!((deployment.chain_id, deployment.deployed_block), (31337, 3));
        let mut missing = json();
        missing.as_object_mut().unwrap().remove("keyRegistry");
        assert!(load(&missing).unwrap_err().to_string().contains("keyRegistry"));
        let mut zero = json();
        zero["micropools"] = serde_json::json!(Address::ZERO);
        assert!(load(&zero).unwrap_err().to_string().contains("micropools is the zero address"));
        let mut twice = json();
        twice["micropools"] = twice["keyRegistry"].clone();
        assert!(load(&twice).unwrap_err().to_string().contains("micropools and keyRegistry are both"));
        let mut old = json();
        old.as_object_mut().unwrap().remove("court");
        let refused = load(&old).unwrap_err().to_string();
        assert!(refused.contains("names no court, so it is of a deployment from before there was one"), "{refused}");
        let mut old = json();
        old.as_object_mut().unwrap().remove("genesisValidatorsRoot");
        let refused = load(&old).unwrap_err().to_string();
        assert!(refused.contains("from before there were withdrawal keys"), "{refused}");
        assert!(Deployment::load("no/such/file.json").unwrap_err().to_string().contains("no/such/file.json"));
    }

    #[test]
    fn a_vault_is_derived_as_the_contract_derives_it() {
        // Answers of a deployed Micropools to vaultOf(1), vaultOf(7) and vaultOf(2^32).
        let micropools = address!("0x5fbdb2315678afecb367f032d93f642f64180aa3");
        let answers = [
            (1, address!("0xe7F299cebAa93277fc417fF5403D9d40088Ea32e")),
            (7, address!("0xBA67C5529F98fD27e09e97DA7Fba887a080e2358")),
            (1 << 32, address!("0xFb82e39c4f7bb1b02130A4086011E8E36118B2D0")),
        ];
        for (pool, vault) in answers {
            assert_eq!(vault_of(micropools, pool), vault);
        }
        let mut deployment = load(&json()).unwrap();
        deployment.micropools = micropools;
        let credentials = b256!("0x010000000000000000000000ba67c5529f98fd27e09e97da7fba887a080e2358");
        assert_eq!(deployment.withdrawal_credentials(7), credentials);
    }
}
