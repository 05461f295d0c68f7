//! For tests: a real anvil, tiny contracts, and an endpoint that lies.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use alloy::{
    primitives::{Address, B256, Bytes, U256, address},
    providers::{DynProvider, Provider},
    signers::local::PrivateKeySigner,
};
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use url::Url;

use crate::{Deployment, Endpoint, Store};

/// Emits its calldata as a log: three topics of 32 bytes, then the data.
///
/// ```text
/// 6040 35 6020 35 5f 35     topics, last first
/// 6060 36 03                size = calldatasize - 96
/// 80 6060 5f 37             calldatacopy(0, 96, size)
/// 5f a3 00                  log3(0, size, …)
/// ```
pub(crate) const EMITTER: [u8; 20] = alloy::hex!("6040356020355f35606036038060605f375fa300");

/// Emits its calldata as a log: one topic of 32 bytes, then the data.
///
/// ```text
/// 5f 35                     topic
/// 6020 36 03                size = calldatasize - 32
/// 80 6020 5f 37             calldatacopy(0, 32, size)
/// 5f a1 00                  log1(0, size, topic)
/// ```
pub(crate) const ONE_TOPIC_EMITTER: [u8; 14] = alloy::hex!("5f35602036038060205f375fa100");

/// Does `word` (its calldata) once; the second time it reverts with `WrongKeyState(word, Live)`.
pub(crate) fn once_only() -> Bytes {
    use alloy::sol_types::SolError;
    let mut code = alloy::hex!("5f3554600c5760015f3555005b63").to_vec();
    code.extend_from_slice(&crate::bindings::KeyRegistry::WrongKeyState::SELECTOR);
    code.extend_from_slice(&alloy::hex!("60e01b5f525f356004526003602452" "60445ffd"));
    code.into()
}

/// A running anvil; killed when dropped.
pub(crate) struct Anvil {
    child: Child,
    pub(crate) url: Url,
    pub(crate) provider: DynProvider,
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Anvil {
    /// Starts one that mines only when told to and calls final what is `2 * epoch` blocks deep.
    pub(crate) async fn start(epoch: u64) -> Self {
        // The binary itself: its npm launcher would shield it from our kill.
        let arch = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
        let os = if std::env::consts::OS == "macos" { "darwin" } else { std::env::consts::OS };
        let program = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join(format!("../node_modules/@foundry-rs/anvil-{os}-{arch}/bin/anvil"))
            .canonicalize()
            .expect("run `npm ci` first: anvil is missing");
        let mut child = Command::new(program)
            .args(["--port", "0", "--no-mining", "--hardfork", "osaka", "--slots-in-an-epoch", &epoch.to_string()])
            // Older states it would write below the home directory, and leave them there when it is killed.
            .args(["--prune-history", "256"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let address =
            output.find_map(|line| Some(line.unwrap().strip_prefix("Listening on ")?.trim().to_owned())).unwrap();
        // A full pipe would stop anvil.
        std::thread::spawn(move || output.for_each(drop));
        let url: Url = format!("http://{address}").parse().unwrap();
        let provider = Endpoint::connect(&url).await.unwrap().provider().clone();
        Self { child, url, provider }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::new("anvil", self.provider.clone())
    }

    pub(crate) async fn rpc(&self, method: &'static str, params: Value) -> Value {
        self.provider.raw_request(method.into(), params).await.unwrap()
    }

    pub(crate) async fn mine(&self, blocks: u64) {
        self.rpc("anvil_mine", json!([U256::from(blocks)])).await;
    }

    pub(crate) async fn reorg(&self, depth: u64) {
        self.rpc("anvil_reorg", json!([depth, []])).await;
    }

    pub(crate) async fn set_code(&self, at: Address, code: impl Into<Bytes>) {
        self.rpc("anvil_setCode", json!([at, code.into()])).await;
    }

    /// Sends a transaction from anvil's first account; it is in the pool until the next block.
    pub(crate) async fn send(&self, to: Address, data: Bytes) -> B256 {
        let from = self.accounts().await[0];
        let tx = json!([{"from": from, "to": to, "data": data, "gas": "0x30d40"}]);
        serde_json::from_value(self.rpc("eth_sendTransaction", tx).await).unwrap()
    }

    pub(crate) async fn accounts(&self) -> Vec<Address> {
        self.provider.get_accounts().await.unwrap()
    }

    /// A new account with a thousand ether.
    pub(crate) async fn funded(&self) -> PrivateKeySigner {
        let signer = PrivateKeySigner::random();
        let wei = U256::from(10_u64).pow(U256::from(21_u64));
        self.rpc("anvil_setBalance", json!([signer.address(), wei])).await;
        signer
    }
}

/// A deployment at fixed addresses; tests put there what they need.
pub(crate) fn deployment() -> Deployment {
    Deployment {
        chain_id: 31337,
        access_manager: address!("0x00000000000000000000000000000000000a0001"),
        server_registry: address!("0x00000000000000000000000000000000000a0002"),
        provider_registry: address!("0x00000000000000000000000000000000000a0003"),
        key_registry: address!("0x00000000000000000000000000000000000a0004"),
        court: address!("0x00000000000000000000000000000000000a0007"),
        micropools: address!("0x00000000000000000000000000000000000a0005"),
        deposit_contract: address!("0x00000000000000000000000000000000000a0006"),
        genesis_validators_root: B256::repeat_byte(9),
        genesis_fork_version: alloy::primitives::fixed_bytes!("0x53746b72"),
        deployed_block: 0,
    }
}

/// A database file, migrated; opening it again is what a restart does.
pub(crate) fn store(path: &std::path::Path) -> Store {
    let new = !path.exists();
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        .unwrap();
    if new {
        crate::migrate(&connection).unwrap();
    }
    Store::own(connection)
}

type Lie = dyn Fn(&str, Value) -> Value + Send + Sync;

/// An RPC endpoint that forwards to `target` and may change each answer on the way: `lie(method, result)`.
pub(crate) async fn liar(target: Url, lie: impl Fn(&str, Value) -> Value + Send + Sync + 'static) -> Url {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let lie: Arc<Lie> = Arc::new(lie);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (target, lie) = (target.clone(), Arc::clone(&lie));
            tokio::spawn(async move { serve(stream, target, lie).await });
        }
    });
    url
}

async fn serve(mut stream: tokio::net::TcpStream, target: Url, lie: Arc<Lie>) -> Option<()> {
    let mut reader = tokio::io::BufReader::new(&mut stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await.ok()?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.ok()?;
    let request: Value = serde_json::from_slice(&body).ok()?;
    let answer = reqwest::Client::new().post(target).json(&request).send().await.ok()?;
    let mut answer: Value = answer.json().await.ok()?;
    let result = lie(request["method"].as_str()?, answer["result"].clone());
    if !result.is_null() {
        answer = json!({"jsonrpc": "2.0", "id": request["id"], "result": result});
    }
    let body = answer.to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body.as_bytes()).await.ok()
}
