//! An anvil with the official deposit contract and system contracts of the Hoodi genesis.

use crate::door::Door;
use crate::process::{Process, foundry, workspace_root};
use alloy::network::Ethereum;
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use eyre::{Context, Result, ensure, eyre};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Newest blocks whose state can be asked for.
const STATES: u32 = 256;

/// The official deposit contract's address on Hoodi and mainnet alike.
pub const DEPOSIT_CONTRACT: &str = "0x00000000219ab540356cBB839Cbe05303d7705Fa";
/// Genesis fork version of the devnet (not any public network's).
pub const GENESIS_FORK_VERSION: &str = "0x53746b72";
/// Genesis validators root of the devnet (not any public network's).
pub const GENESIS_VALIDATORS_ROOT: &str = "0x53746b7253746b7253746b7253746b7253746b7253746b7253746b7253746b72";
/// Chain id of anvil.
pub const CHAIN_ID: u64 = 31337;

#[derive(Deserialize)]
struct Genesis {
    accounts: Vec<GenesisAccount>,
}

#[derive(Deserialize)]
struct GenesisAccount {
    address: Address,
    code: Bytes,
    storage: BTreeMap<B256, B256>,
}

/// A running anvil.
#[derive(Debug)]
pub struct Anvil {
    /// The process.
    pub process: Process,
    /// HTTP endpoint, also of WebSocket.
    pub url: String,
    /// Another way to it, under another port: servers want two endpoints, and one under two names counts once.
    pub second_url: String,
}

impl Anvil {
    /// Starts anvil on a free port of 127.0.0.1 with a block every `block_ms` (0: a block per transaction), a clock so many seconds
    /// `behind` and finality about `finality` blocks behind the head, and installs the official contracts.
    pub async fn start(dir: &Path, (block_ms, behind): (u64, u64), finality: u64) -> Result<Self> {
        let anvil = Self::launch("anvil", dir, (block_ms, behind), finality)?;
        anvil.install_genesis().await?;
        Ok(anvil)
    }

    /// Starts an anvil that goes on from the `state` another one dumped, on the same chain id: until somebody sends it
    /// something, its chain is the other's up to there. It makes a block per transaction and whenever it is told to.
    pub async fn copy(name: &str, dir: &Path, finality: u64, state: &Value) -> Result<Self> {
        let anvil = Self::launch(name, dir, (0, 0), finality)?;
        let provider = anvil.provider()?;
        provider.raw_request::<_, Value>("anvil_loadState".into(), (state,)).await?;
        // Blocks of the same content at the same second would have the same hash: the copy's are another proposer's.
        provider.raw_request::<_, ()>("anvil_setCoinbase".into(), (Address::repeat_byte(0xcc),)).await?;
        Ok(anvil)
    }

    fn launch(name: &str, dir: &Path, (block_ms, behind): (u64, u64), finality: u64) -> Result<Self> {
        // Anvil calls final what lies two of its epochs back.
        let epoch = finality.div_ceil(2).max(1).to_string();
        let mut args: Vec<String> =
            ["--port", "0", "--host", "127.0.0.1", "--slots-in-an-epoch", &epoch, "--hardfork", "osaka"]
                .map(String::from)
                .to_vec();
        // It would write older states below the home directory, a megabyte a block, and leave them there when it is killed.
        args.extend(["--prune-history".into(), STATES.to_string()]);
        if behind > 0 {
            args.extend(["--timestamp".into(), (crate::beacon::unix_seconds()? - behind).to_string()]);
        }
        if block_ms > 0 {
            let seconds = std::time::Duration::from_millis(block_ms).as_secs_f64();
            args.extend(["--block-time".into(), seconds.to_string()]);
        }
        let mut process = Process::start(name, &foundry("anvil")?, &args, dir)?;
        let line = process.line(Duration::from_secs(30), |line| line.starts_with("Listening on "))?;
        let address = line.trim_start_matches("Listening on ").trim();
        let url = format!("http://{address}");
        let second_url = Door::to(&url)?.url;
        Ok(Self { url, second_url, process })
    }

    /// A plain provider on this anvil.
    pub fn provider(&self) -> Result<DynProvider<Ethereum>> {
        crate::network::install_tls();
        Ok(ProviderBuilder::new().connect_http(self.url.parse().wrap_err("anvil's URL")?).erased())
    }

    async fn install_genesis(&self) -> Result<()> {
        let root = workspace_root();
        let output = Command::new("node").arg(root.join("tests/e2e/genesis.mjs")).current_dir(&root).output()?;
        ensure!(output.status.success(), "genesis.mjs failed: {}", String::from_utf8_lossy(&output.stderr));
        let genesis: Genesis = serde_json::from_slice(&output.stdout).wrap_err("what genesis.mjs printed")?;
        let provider = self.provider()?;
        for account in genesis.accounts {
            let (address, code) = (account.address, account.code);
            provider.raw_request::<_, ()>("anvil_setCode".into(), (address, code)).await?;
            for (slot, value) in account.storage {
                // EIP-7002 and EIP-7251 start inhibited (all ones) until the first system call resets slot 0.
                let value = if value == B256::repeat_byte(0xff) { B256::ZERO } else { value };
                provider
                    .raw_request::<_, bool>("anvil_setStorageAt".into(), (address, U256::from_be_bytes(slot.0), value))
                    .await?;
            }
        }
        Ok(())
    }
}

/// Gives `account` a balance of `wei`.
pub async fn fund(provider: &impl Provider, account: Address, wei: U256) -> Result<()> {
    Ok(provider.raw_request::<_, ()>("anvil_setBalance".into(), (account, wei)).await?)
}

/// Sets the base fee (wei per gas) of the next block.
pub async fn base_fee(provider: &impl Provider, wei: u64) -> Result<()> {
    Ok(provider.raw_request::<_, ()>("anvil_setNextBlockBaseFeePerGas".into(), (U256::from(wei),)).await?)
}

/// Mines `blocks` blocks at once.
pub async fn mine(provider: &impl Provider, blocks: u64) -> Result<()> {
    Ok(provider.raw_request::<_, ()>("anvil_mine".into(), (U256::from(blocks),)).await?)
}

/// A block every `seconds`; 0: only when told to.
pub async fn block_every(provider: &impl Provider, seconds: u64) -> Result<()> {
    Ok(provider.raw_request::<_, ()>("anvil_setIntervalMining".into(), (seconds,)).await?)
}

/// Everything [`Anvil::copy`] needs.
pub async fn dump(provider: &impl Provider) -> Result<Value> {
    Ok(provider.raw_request("anvil_dumpState".into(), ()).await?)
}

/// Moves the chain's clock forward and mines a block.
pub async fn advance_time(provider: &impl Provider, seconds: u64) -> Result<()> {
    provider.raw_request::<_, serde_json::Value>("evm_increaseTime".into(), (U256::from(seconds),)).await?;
    mine(provider, 1).await
}

/// Replaces the last `depth` blocks by empty ones; their transactions are gone and must be sent again.
pub async fn reorg(provider: &impl Provider, depth: u64) -> Result<()> {
    provider
        .raw_request::<_, serde_json::Value>("anvil_reorg".into(), serde_json::json!([depth, []]))
        .await
        .map_err(|error| eyre!("anvil_reorg: {error}"))?;
    Ok(())
}
