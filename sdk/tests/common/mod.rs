//! A real chain for tests: anvil with the official deposit and system contracts, and Stkr deployed by the forge script.
//!
//! Deployed once per test binary; every test gets an anvil of its own that starts from that state.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod ceremony;
pub(crate) mod evidence;
pub(crate) mod reshares;
pub(crate) mod withdrawals;
pub(crate) mod writes;

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use alloy::{
    network::EthereumWallet,
    primitives::{Address, B256, Bytes, U256},
    providers::{DynProvider, Provider as _},
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol,
    sol_types::{SolCall as _, SolStruct as _, eip712_domain},
};
use serde_json::{Value, json};
use stkr_sdk::{Deployment, Endpoint, Registration, ServerKind, Stkr, amount, bindings::KeyRegistry};
use tokio::sync::OnceCell;

sol! {
    struct SignerProof {
        address operator;
        address signer;
    }
}

/// Chain id of the deployment.
const CHAIN_ID: u64 = 31337;

/// The official deposit contract.
const DEPOSIT_CONTRACT: &str = "0x00000000219ab540356cBB839Cbe05303d7705Fa";

/// A chain of its own, gone when this is dropped.
pub(crate) struct Chain {
    pub(crate) url: String,
    pub(crate) provider: DynProvider,
    pub(crate) deployment: Deployment,
    pub(crate) deployment_file: PathBuf,
    /// Governs, without delay.
    pub(crate) governor: PrivateKeySigner,
    anvil: Anvil,
}

struct Anvil(Child);

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Deployed {
    state: Value,
    file: PathBuf,
    governor: B256,
}

static DEPLOYED: OnceCell<Deployed> = OnceCell::const_new();

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The native binary of a Foundry tool: the npm script would leave it behind when killed.
pub(crate) fn tool(name: &str) -> PathBuf {
    let packages = root().join("node_modules/@foundry-rs");
    let entries = std::fs::read_dir(&packages).expect("run `npm ci` first");
    let prefix = format!("{name}-");
    let package = entries
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .unwrap_or_else(|| panic!("{name} is not installed; run `npm ci`"));
    package.path().join("bin").join(name)
}

fn start_anvil(port: u16, chain_id: u64) -> (Anvil, String) {
    let mut child = Command::new(tool("anvil"))
        .args(["--host", "127.0.0.1", "--port", &port.to_string(), "--chain-id", &chain_id.to_string()])
        .args(["--hardfork", "osaka", "--slots-in-an-epoch", "4"])
        // Older states it would write below the home directory, and leave them there when it is killed.
        .args(["--prune-history", "256"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("anvil starts");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = lines
        .find_map(|line| line.strip_prefix("Listening on ").map(|address| address.trim().to_owned()))
        .expect("anvil says where it listens");
    // A full pipe would stop anvil.
    std::thread::spawn(move || lines.for_each(drop));
    (Anvil(child), format!("http://{address}"))
}

async fn connect(url: &str) -> DynProvider {
    let provider = Endpoint::connect(&url.parse().unwrap()).await.unwrap().provider().clone();
    provider.client().set_poll_interval(std::time::Duration::from_millis(50));
    provider
}

/// Code and storage of the official contracts, from the Hoodi genesis.
fn genesis() -> Value {
    let output = Command::new("node").arg(root().join("tests/e2e/genesis.mjs")).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runtime code of one of them.
pub(crate) fn official_code(name: &str) -> Bytes {
    let genesis = genesis();
    let account = genesis["accounts"].as_array().unwrap().iter().find(|account| account["name"] == name).unwrap();
    account["code"].as_str().unwrap().parse().unwrap()
}

async fn install_official_contracts(provider: &DynProvider) {
    let genesis = genesis();
    for account in genesis["accounts"].as_array().unwrap() {
        let address = account["address"].clone();
        let _: Value = provider.raw_request("anvil_setCode".into(), json!([address, account["code"]])).await.unwrap();
        let storage: BTreeMap<B256, B256> = serde_json::from_value(account["storage"].clone()).unwrap();
        for (slot, value) in storage {
            let _: Value =
                provider.raw_request("anvil_setStorageAt".into(), json!([address, slot, value])).await.unwrap();
        }
    }
}

async fn deploy() -> Deployed {
    let (anvil, url) = start_anvil(0, CHAIN_ID);
    let provider = connect(&url).await;
    install_official_contracts(&provider).await;
    let governor = PrivateKeySigner::random();
    fund(&provider, governor.address(), amount::ether(1000)).await;
    let file = root().join(format!("target/deployments/test-{}.json", governor.address()));
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let output = Command::new(tool("forge"))
        .args(["script", "script/Deploy.s.sol", "--rpc-url", &url, "--broadcast", "--slow"])
        .current_dir(root())
        .env("PATH", format!("{}:{}", root().join("node_modules/.bin").display(), std::env::var("PATH").unwrap()))
        .env("FOUNDRY_PROFILE", "release")
        .env("STKR_DEPLOYER_KEY", governor.to_bytes().to_string())
        .env("STKR_DEPLOYMENT_FILE", &file)
        .env("STKR_DEPOSIT_CONTRACT", DEPOSIT_CONTRACT)
        .env("STKR_GENESIS_FORK_VERSION", "0x53746b72")
        .env("STKR_GENESIS_VALIDATORS_ROOT", alloy::primitives::B256::repeat_byte(9).to_string())
        .env("STKR_GOVERNANCE_DELAY", "0")
        .env("STKR_SEED_DELAY", "2")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let state: Value = provider.raw_request("anvil_dumpState".into(), json!([])).await.unwrap();
    drop(anvil);
    Deployed { state, file, governor: governor.to_bytes() }
}

impl Chain {
    pub(crate) async fn start() -> Self {
        Self::start_as(CHAIN_ID).await
    }

    /// The same contracts at the same addresses on a chain that gives this as its id.
    pub(crate) async fn start_as(chain_id: u64) -> Self {
        let deployed = DEPLOYED.get_or_init(deploy).await;
        let (anvil, url) = start_anvil(0, chain_id);
        let provider = connect(&url).await;
        let _: Value = provider.raw_request("anvil_loadState".into(), json!([deployed.state])).await.unwrap();
        Self {
            url,
            provider,
            deployment: Deployment::load(&deployed.file).unwrap(),
            deployment_file: deployed.file.clone(),
            governor: PrivateKeySigner::from_bytes(&deployed.governor).unwrap(),
            anvil,
        }
    }

    /// Starts another anvil on the port of the one that was stopped, with `state`.
    pub(crate) async fn start_again(&mut self, state: &Value) {
        let port = self.url.rsplit(':').next().unwrap().parse().unwrap();
        self.anvil = start_anvil(port, CHAIN_ID).0;
        let _: Value = self.provider.raw_request("anvil_loadState".into(), json!([state])).await.unwrap();
    }

    pub(crate) fn stop(&mut self) {
        let _ = self.anvil.0.kill();
        let _ = self.anvil.0.wait();
    }

    pub(crate) async fn stkr(&self) -> Stkr<DynProvider> {
        Stkr::connect(self.provider.clone(), self.deployment.clone()).await.unwrap()
    }

    /// A new account with 1,000 ETH.
    pub(crate) async fn account(&self) -> PrivateKeySigner {
        let signer = PrivateKeySigner::random();
        fund(&self.provider, signer.address(), amount::ether(1000)).await;
        signer
    }

    pub(crate) async fn mine(&self, blocks: u64) {
        let _: Value = self.provider.raw_request("anvil_mine".into(), json!([U256::from(blocks)])).await.unwrap();
    }

    /// Has a block come five times a second until `work` is done: a report waits for blocks that nobody else makes.
    pub(crate) async fn mining<T>(&self, work: impl Future<Output = T>) -> T {
        let blocks = async {
            loop {
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                self.mine(1).await;
            }
        };
        tokio::select! {
            done = work => done,
            () = blocks => unreachable!("blocks come for ever"),
        }
    }

    /// Lets time pass, and a block come.
    pub(crate) async fn pass(&self, seconds: u64) {
        let _: Value = self.provider.raw_request("evm_increaseTime".into(), json!([seconds])).await.unwrap();
        self.mine(1).await;
    }

    /// Replaces the newest `depth` blocks by empty ones.
    pub(crate) async fn reorg(&self, depth: u64) {
        let _: Value = self.provider.raw_request("anvil_reorg".into(), json!([depth, []])).await.unwrap();
    }

    /// The state of now, for [`Self::revert`].
    pub(crate) async fn snapshot(&self) -> Value {
        self.provider.raw_request("evm_snapshot".into(), json!([])).await.unwrap()
    }

    /// As if nothing had happened since.
    pub(crate) async fn revert(&self, to: Value) {
        let done: bool = self.provider.raw_request("evm_revert".into(), json!([to])).await.unwrap();
        assert!(done);
    }

    /// Gives a key of a pool up, whatever state the pool is in: as its pools contract does where it may.
    pub(crate) async fn retire(&self, key: u64) {
        let (pools, keys) = (self.deployment.micropools, self.deployment.key_registry);
        let call = KeyRegistry::retireCall { keyId: U256::from(key), burned: false }.abi_encode();
        fund(&self.provider, pools, amount::ether(1)).await;
        let _: Value = self.provider.raw_request("anvil_impersonateAccount".into(), json!([pools])).await.unwrap();
        let sent = json!([{ "from": pools, "to": keys, "data": Bytes::from(call) }]);
        let _: Value = self.provider.raw_request("eth_sendTransaction".into(), sent).await.unwrap();
        let _: Value =
            self.provider.raw_request("anvil_stopImpersonatingAccount".into(), json!([pools])).await.unwrap();
    }

    /// A provider with a duty key.
    pub(crate) async fn register_provider(&self) -> PrivateKeySigner {
        let (provider, duty_key) = (self.account().await, PrivateKeySigner::random());
        let digest = stkr_sdk::duty_key_digest(&self.deployment, provider.address(), duty_key.address());
        let proof = Bytes::copy_from_slice(&duty_key.sign_hash_sync(&digest).unwrap().as_bytes());
        let stkr = self.stkr().await;
        stkr.providers().register(duty_key.address(), proof).unwrap().send_with(&wallet(&provider)).await.unwrap();
        provider
    }

    /// An open pool of a new provider.
    pub(crate) async fn open_pool(&self) -> u64 {
        let provider = self.register_provider().await;
        self.stkr().await.pools().open(3, 4).unwrap().send_with(&wallet(&provider)).await.unwrap().value
    }

    /// What `operator` registers a new server with.
    pub(crate) fn registration(&self, operator: Address, bond: U256) -> Registration {
        self.registration_of(&PrivateKeySigner::random(), operator, bond)
    }

    /// The same for a signer key that the test keeps.
    pub(crate) fn registration_of(&self, signer: &PrivateKeySigner, operator: Address, bond: U256) -> Registration {
        let domain = eip712_domain! {
            name: "Stkr",
            version: "1",
            chain_id: self.deployment.chain_id,
            verifying_contract: self.deployment.server_registry,
        };
        let digest = SignerProof { operator, signer: signer.address() }.eip712_signing_hash(&domain);
        Registration {
            signer: signer.address(),
            tls_fingerprint: B256::repeat_byte(7),
            kind: ServerKind::Online,
            endpoint: "https://127.0.0.1:9000".into(),
            signer_proof: Bytes::copy_from_slice(&signer.sign_hash_sync(&digest).unwrap().as_bytes()),
            bond,
        }
    }
}

pub(crate) async fn fund(provider: &DynProvider, account: Address, wei: U256) {
    let _: Value = provider.raw_request("anvil_setBalance".into(), json!([account, wei])).await.unwrap();
}

pub(crate) fn wallet(signer: &PrivateKeySigner) -> EthereumWallet {
    EthereumWallet::from(signer.clone())
}
