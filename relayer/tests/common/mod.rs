//! The real relayer binary, and the real chain it works on.
#![allow(dead_code, reason = "each test uses its part")]

#[path = "../../../sdk/tests/common/mod.rs"]
pub(crate) mod chain;

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use alloy::{
    network::EthereumWallet,
    primitives::{B256, U256},
    providers::Provider as _,
    signers::local::PrivateKeySigner,
};
use axum::{Json, Router, extract::State, routing::post};
use chain::{Chain, wallet};
use serde_json::{Value, json};
use stkr_sdk::{Registration, amount};

/// Longest time anything here may take, on two loaded cores.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the binary to its end. Should it start to serve, it ends with exit code 0 because its standard input has ended.
pub(crate) fn relayer(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stkr-relayer")).args(args).stdin(Stdio::null()).output().unwrap()
}

/// Exit code and what it said on stderr.
pub(crate) fn refused(args: &[&str]) -> (i32, String) {
    let output = relayer(args);
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    (output.status.code().unwrap(), said)
}

/// A file that nobody else can read.
pub(crate) fn secret(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A relayer's folder: configuration, gas key, deployment file.
pub(crate) struct Folder {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) gas: PrivateKeySigner,
}

impl Folder {
    /// As an operator makes it: the example, and in it the one thing that has no default.
    pub(crate) fn new(deployment: &Value, rpc: &str) -> Self {
        let (dir, gas) = (tempfile::tempdir().unwrap(), PrivateKeySigner::random());
        let example = relayer(&["config", "example"]);
        assert!(example.status.success());
        let example = String::from_utf8(example.stdout).unwrap();
        let text = example.replace("rpc_urls = []", &format!("rpc_urls = [\"{rpc}\"]"));
        assert_ne!(text, example);
        fs::write(dir.path().join("relayer.toml"), text).unwrap();
        secret(&dir.path().join("secrets/gas.key"), &format!("{}\n", gas.to_bytes()));
        let it = Self { dir, gas };
        it.write_deployment(deployment);
        it
    }

    /// On `chain`, with gas money.
    pub(crate) async fn on(chain: &Chain, rpc: &str) -> Self {
        let it = Self::new(&deployment_of(chain), rpc);
        it.edit("poll_ms = 1000", "poll_ms = 100");
        chain::fund(&chain.provider, it.gas.address(), amount::ether(10)).await;
        it
    }

    pub(crate) fn write_deployment(&self, deployment: &Value) {
        let file = self.dir.path().join("deployments/31337.json");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, deployment.to_string()).unwrap();
    }

    pub(crate) fn config(&self) -> String {
        self.dir.path().join("relayer.toml").display().to_string()
    }

    pub(crate) fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(self.config(), text.replace(from, to)).unwrap();
    }

    pub(crate) fn check(&self) -> (i32, String) {
        refused(&["config", "check", "--config", &self.config()])
    }

    /// Exit code and stderr of a relayer that is expected not to start.
    pub(crate) fn refused_at_start(&self) -> (i32, String) {
        refused(&["run", "--config", &self.config(), "--exit-with-parent"])
    }

    /// Starts it and waits until it serves. Its log is appended to `relayer.log`, as JSON.
    pub(crate) fn start(&self) -> Running {
        let log = self.log_file();
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_stkr-relayer"))
            .args(["run", "--config", &self.config(), "--log-format", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("it did not start: {}", fs::read_to_string(&log).unwrap()));
        Running { child, url: format!("http://{}", ready["address"].as_str().unwrap()) }
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("relayer.log")
    }

    /// Every event that its relayers logged.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.log_file()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
    }

    pub(crate) fn logged(&self, message: &str) -> bool {
        self.events().iter().any(|event| event["message"] == message)
    }
}

/// A relayer process, SIGKILLed when dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) url: String,
}

impl Running {
    /// SIGKILL.
    pub(crate) fn kill(self) {
        drop(self);
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = http().get(format!("{}{path}", self.url)).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn http() -> reqwest::Client {
    // An error means that it is installed.
    let _ = stkr_node::tls::install_provider();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < end, "waited {PATIENCE:?} for: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The deployment file of `chain`.
pub(crate) fn deployment_of(chain: &Chain) -> Value {
    serde_json::from_str(&fs::read_to_string(&chain.deployment_file).unwrap()).unwrap()
}

/// A pool of a new provider with all its 32 ETH, of one staker.
pub(crate) async fn full_pool(chain: &Chain) -> u64 {
    let pool = chain.open_pool().await;
    let staker = chain.account().await;
    let stkr = chain.stkr().await;
    stkr.pools().stake(pool, amount::ether(32)).unwrap().send_with(&wallet(&staker)).await.unwrap();
    pool
}

/// Registers a server of a new operator at `endpoint`; governance approves it if `approved`. Returns its id.
pub(crate) async fn register_server(chain: &Chain, endpoint: &str, number: u8, approved: bool) -> u32 {
    register_signer(chain, &PrivateKeySigner::random(), (endpoint, number), approved).await
}

/// The same for a signer key that the test keeps.
pub(crate) async fn register_signer(
    chain: &Chain,
    signer: &PrivateKeySigner,
    (endpoint, number): (&str, u8),
    approved: bool,
) -> u32 {
    let operator = chain.account().await;
    let stkr = chain.stkr().await;
    let bond = stkr.servers().min_bond().await.unwrap();
    let registration = Registration {
        endpoint: endpoint.to_owned(),
        tls_fingerprint: B256::repeat_byte(number),
        ..chain.registration_of(signer, operator.address(), bond)
    };
    let id = stkr.servers().register(registration).unwrap().send_with(&wallet(&operator)).await.unwrap().value;
    if approved {
        stkr.servers().approve(id).send_with(&EthereumWallet::from(chain.governor.clone())).await.unwrap();
    }
    id
}

/// Six approved servers of six operators; nobody listens at their endpoints.
pub(crate) async fn six_servers(chain: &Chain) {
    for number in 1..=6 {
        register_server(chain, &format!("https://127.0.0.1:{number}"), number, true).await;
    }
}

/// Blocks are made only by [`Chain::mine`] from now on.
pub(crate) async fn stop_mining(chain: &Chain) {
    let _: Value = chain.provider.raw_request("evm_setAutomine".into(), json!([false])).await.unwrap();
}

/// Transactions in the mempool.
pub(crate) async fn in_mempool(chain: &Chain) -> u64 {
    let status: Value = chain.provider.raw_request("txpool_status".into(), json!([])).await.unwrap();
    let count = |kind: &str| serde_json::from_value::<U256>(status[kind].clone()).unwrap().to::<u64>();
    count("pending") + count("queued")
}

/// An RPC endpoint that hands everything to another one, and refuses to read logs while it is `broken`.
pub(crate) struct Proxy {
    pub(crate) url: String,
    broken: Arc<AtomicBool>,
}

impl Proxy {
    pub(crate) async fn start(target: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let broken = Arc::new(AtomicBool::new(false));
        let state = (target.to_owned(), broken.clone(), http());
        let routes = Router::new().route("/", post(pass_on)).with_state(state);
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, broken }
    }

    pub(crate) fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }
}

type Target = (String, Arc<AtomicBool>, reqwest::Client);

async fn pass_on(State((target, broken, client)): State<Target>, Json(request): Json<Value>) -> Json<Value> {
    if broken.load(Ordering::SeqCst) && request["method"] == "eth_getLogs" {
        let error = json!({"code": -32000, "message": "out of order"});
        return Json(json!({"jsonrpc": "2.0", "id": request["id"], "error": error}));
    }
    Json(client.post(target).json(&request).send().await.unwrap().json().await.unwrap())
}
