//! A real server process on a real chain endpoint that the test controls, and clients that talk to it over sockets.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::panic, reason = "tests only")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stkr_node::tls::{self, Fingerprint, Identity};

/// Path of the binary under test.
pub const SERVER: &str = env!("CARGO_BIN_EXE_stkr-server");

/// Addresses of a deployment that exists in these tests only.
pub fn deployment(folder: &Path) -> PathBuf {
    let path = folder.join("31337.json");
    let address = |byte: u8| format!("0x{}", hex::encode([byte; 20]));
    let json = serde_json::json!({
        "chainId": 31337,
        "accessManager": address(1),
        "serverRegistry": address(2),
        "providerRegistry": address(3),
        "keyRegistry": address(4),
        "micropools": address(5),
        "depositContract": address(6),
        "genesisForkVersion": "0x53746b72",
        "deployedBlock": 1
    });
    std::fs::write(&path, json.to_string()).unwrap();
    path
}

/// The same, as the programs load it.
fn loaded_deployment() -> stkr_chain::Deployment {
    let folder = tempfile::tempdir().unwrap();
    stkr_chain::Deployment::load(deployment(folder.path())).unwrap()
}

/// Runs the binary to its end.
pub fn stkr_server(args: &[&str]) -> Output {
    Command::new(SERVER).args(args).stdin(Stdio::null()).output().unwrap()
}

/// Folder of a server made by `init`, with what `init` printed.
pub struct Made {
    /// Keeps the folder.
    pub folder: tempfile::TempDir,
    /// The server's own folder.
    pub dir: PathBuf,
    /// What `init` printed.
    pub printed: serde_json::Value,
}

impl Made {
    /// The configuration file.
    pub fn config(&self) -> String {
        self.dir.join("server.toml").display().to_string()
    }
}

/// `stkr-server init` with the given RPC endpoint (and one endpoint being enough).
pub fn init(rpc: &str) -> Made {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("server");
    let deployment = deployment(folder.path());
    let output = stkr_server(&[
        "init",
        "--dir",
        dir.to_str().unwrap(),
        "--deployment",
        deployment.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--endpoint",
        "https://127.0.0.1:7443",
        "--rpc",
        rpc,
        "--min-endpoints",
        "1",
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = serde_json::from_slice(&output.stdout).unwrap();
    Made { folder, dir, printed }
}

/// A client that shows a fresh certificate and pins `fingerprint`.
pub fn client(fingerprint: Fingerprint) -> reqwest::Client {
    tls::install_provider().unwrap();
    let identity = Identity::generate("test client").unwrap();
    let config = tls::client_config(&identity, fingerprint).unwrap();
    reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy().build().unwrap()
}

/// Answers JSON-RPC over HTTP as a chain on which the contracts of [`deployment`] exist and nothing has happened yet:
/// enough for a server to start. It is a chain's *absence* of keys, not a stand-in for one; keys are tested on anvil.
pub struct EmptyChain {
    /// Its URL.
    pub url: String,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl EmptyChain {
    /// Starts it; `chain_id` is what it claims to be.
    pub fn start(chain_id: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let stopped = stopped.clone();
                std::thread::spawn(move || while answer_one(stream.as_ref().unwrap(), chain_id, &stopped).is_some() {});
            }
        });
        Self { url: format!("http://{address}"), address, stop }
    }

    /// No more answers.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

fn answer_one(mut stream: &TcpStream, chain_id: u64, stopped: &AtomicBool) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    if stopped.load(Ordering::Relaxed) {
        return None;
    }
    let request: serde_json::Value = serde_json::from_slice(&body).ok()?;
    let answer = serde_json::json!({"jsonrpc": "2.0", "id": request["id"], "result": result(&request, chain_id)});
    let answer = answer.to_string();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
        answer.len()
    )
    .ok()
}

fn result(request: &serde_json::Value, chain_id: u64) -> serde_json::Value {
    match request["method"].as_str().unwrap_or_default() {
        "eth_chainId" => format!("{chain_id:#x}").into(),
        "eth_getCode" => "0x00".into(),
        "eth_getBlockByNumber" => block(),
        "eth_getLogs" => serde_json::json!([]),
        "eth_call" => call(&request["params"][0]).into(),
        other => panic!("the server asked for {other}"),
    }
}

/// Answers by selector: the wiring of the deployment, and zero for everything else.
fn call(transaction: &serde_json::Value) -> String {
    use stkr_chain::bindings::{KeyRegistry, Micropools};
    let input = transaction["input"].as_str().or(transaction["data"].as_str()).unwrap_or_default();
    let selector = hex::decode(&input[2..10]).unwrap();
    let address = |byte: u8| format!("0x{}{}", "00".repeat(12), hex::encode([byte; 20]));
    use alloy::sol_types::SolCall as _;
    match selector.as_slice().try_into().unwrap() {
        Micropools::KEY_REGISTRYCall::SELECTOR => address(4),
        Micropools::PROVIDER_REGISTRYCall::SELECTOR => address(3),
        Micropools::DEPOSIT_CONTRACTCall::SELECTOR => address(6),
        Micropools::GENESIS_FORK_VERSIONCall::SELECTOR => format!("0x53746b72{}", "00".repeat(28)),
        KeyRegistry::SERVER_REGISTRYCall::SELECTOR => address(2),
        Micropools::vaultOfCall::SELECTOR => {
            format!("0x{}{}", "00".repeat(12), hex::encode(loaded_deployment().vault_of(1)))
        }
        KeyRegistry::domainSeparatorCall::SELECTOR => loaded_deployment().domain_separator().to_string(),
        // serverOfSigner: nobody; key: state None.
        _ => format!("0x{}", "00".repeat(32 * 9)),
    }
}

fn block() -> serde_json::Value {
    let zero = |bytes: usize| format!("0x{}", "00".repeat(bytes));
    serde_json::json!({
        "number": "0x7", "hash": format!("0x{}", "07".repeat(32)), "parentHash": format!("0x{}", "06".repeat(32)),
        "timestamp": "0x64", "nonce": zero(8), "sha3Uncles": zero(32), "logsBloom": zero(256),
        "transactionsRoot": zero(32), "stateRoot": zero(32), "receiptsRoot": zero(32), "miner": zero(20),
        "difficulty": "0x0", "extraData": "0x", "size": "0x0", "gasLimit": "0x1c9c380", "gasUsed": "0x0",
        "mixHash": zero(32), "transactions": [], "uncles": []
    })
}

/// A running `stkr-server run`.
pub struct Running {
    child: Child,
    /// Where it serves.
    pub address: SocketAddr,
    stderr: PathBuf,
}

/// Starts the server and waits for its ready line.
pub fn run(made: &Made, more: &[&str]) -> Running {
    let stderr = made.folder.path().join("stderr.log");
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&stderr).unwrap();
    let mut child = Command::new(SERVER)
        .args(["run", "--config", &made.config(), "--log-format", "json", "--exit-with-parent"])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let said = || std::fs::read_to_string(&stderr).unwrap();
    let ready: serde_json::Value =
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no ready line: {line:?}\n{}", said()));
    assert_eq!(ready["ready"], true);
    let address = ready["address"].as_str().unwrap().parse().unwrap();
    Running { child, address, stderr }
}

impl Running {
    /// URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes the server's standard input, as the death of a parent does, and waits for its end.
    pub fn orphan(mut self) -> Option<i32> {
        drop(self.child.stdin.take());
        self.child.wait().unwrap().code()
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(mut self) -> Option<i32> {
        // Waiting closes standard input, which would end the server for another reason.
        let _open = self.child.stdin.take();
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fingerprint that `init` printed.
pub fn fingerprint(made: &Made) -> Fingerprint {
    let text = made.printed["tlsFingerprint"].as_str().unwrap();
    Fingerprint(hex::decode(&text[2..]).unwrap().try_into().unwrap())
}
