//! A real server process, clients that talk to it over sockets, and what the kernel says of its memory.
#![allow(unreachable_pub, reason = "tests only")]

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::task::{Context, Poll};
use std::time::Duration;

use stkr_node::tls::{self, Fingerprint, Identity};

use crate::chain::Chain;

/// Path of the binary under test.
pub const SERVER: &str = env!("CARGO_BIN_EXE_stkr-server");

/// A deployment file for what needs no chain: well formed, and of no chain that exists.
pub fn deployment_of_no_chain() -> serde_json::Value {
    let address = |byte: u8| format!("0x{}", hex::encode([byte; 20]));
    serde_json::json!({
        "chainId": 31337,
        "accessManager": address(1),
        "serverRegistry": address(2),
        "providerRegistry": address(3),
        "keyRegistry": address(4),
        "court": address(7),
        "micropools": address(5),
        "depositContract": address(6),
        "genesisForkVersion": "0x53746b72", "genesisValidatorsRoot": "0x0909090909090909090909090909090909090909090909090909090909090909",
        "deployedBlock": 1
    })
}

/// Runs the binary to its end.
pub fn stkr_server(args: &[&str]) -> Output {
    Command::new(SERVER).args(args).stdin(Stdio::null()).output().unwrap()
}

/// Runs a server that is expected to refuse; one that serves after all is killed, and has no exit code then.
pub fn refused_start(made: &Made) -> Output {
    let child = Command::new(SERVER)
        .args(["run", "--config", &made.config(), "--log-format", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let (ended, end) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if end.recv_timeout(Duration::from_secs(30)) == Err(RecvTimeoutError::Timeout) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    watch.join().unwrap();
    output
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

    /// The deployment file that the configuration names.
    pub fn deployment_file(&self) -> PathBuf {
        self.folder.path().join("deployment.json")
    }

    /// `init` with this folder and deployment file.
    pub fn init_again(&self, rpc: &str) -> Output {
        stkr_server(&[
            "init",
            "--dir",
            self.dir.to_str().unwrap(),
            "--deployment",
            self.deployment_file().to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
            "--endpoint",
            "https://127.0.0.1:7443",
            "--rpc",
            rpc,
            "--min-endpoints",
            "1",
        ])
    }

    /// Puts `new` for `old`, which must be there, in the configuration.
    pub fn edit_config(&self, old: &str, new: &str) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(old), "no {old} in\n{text}");
        std::fs::write(self.config(), text.replace(old, new)).unwrap();
    }
}

/// `stkr-server init` for the given deployment and RPC endpoint (one endpoint being enough).
pub fn init(deployment: &serde_json::Value, rpc: &str) -> Made {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("server");
    let deployment_file = folder.path().join("deployment.json");
    std::fs::write(&deployment_file, deployment.to_string()).unwrap();
    let made = Made { folder, dir, printed: serde_json::Value::Null };
    let output = made.init_again(rpc);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Made { printed: serde_json::from_slice(&output.stdout).unwrap(), ..made }
}

/// A new server on a chain with the contracts.
pub fn server_on(chain: &Chain) -> Made {
    init(&deployment(chain), &chain.url)
}

/// The deployment file of a chain.
pub fn deployment(chain: &Chain) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(&chain.deployment_file).unwrap()).unwrap()
}

/// A client that shows a fresh certificate and pins `fingerprint`.
pub fn client(fingerprint: Fingerprint) -> reqwest::Client {
    client_of(tls_config(fingerprint))
}

/// The same over HTTP/1.1.
pub fn http1_client(fingerprint: Fingerprint) -> reqwest::Client {
    client_of(http1(tls_config(fingerprint)))
}

fn client_of(config: rustls::ClientConfig) -> reqwest::Client {
    reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy().build().unwrap()
}

fn tls_config(fingerprint: Fingerprint) -> rustls::ClientConfig {
    tls::install_provider().unwrap();
    let identity = Identity::generate("test client").unwrap();
    tls::client_config(&identity, fingerprint).unwrap()
}

fn http1(mut config: rustls::ClientConfig) -> rustls::ClientConfig {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// A connection of which every byte inside TLS is the test's own.
pub fn raw_connection(server: &Running, made: &Made) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let tcp = TcpStream::connect(server.address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let config = Arc::new(http1(tls_config(fingerprint(made))));
    let tls = rustls::ClientConnection::new(config, server.address.ip().into()).unwrap();
    rustls::StreamOwned::new(tls, tcp)
}

/// A body of `length` spaces, of which the server may take as little as it likes, and how many bytes of it were taken.
/// Only a `declared` one says how long it is.
pub fn spaces(length: usize, declared: bool) -> (reqwest::Body, Arc<AtomicUsize>) {
    let taken = Arc::default();
    (reqwest::Body::wrap(Spaces { left: length, declared, taken: Arc::clone(&taken) }), taken)
}

struct Spaces {
    left: usize,
    declared: bool,
    taken: Arc<AtomicUsize>,
}

impl http_body::Body for Spaces {
    type Data = axum::body::Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        let piece = self.left.min(64 * 1024);
        self.left -= piece;
        self.taken.fetch_add(piece, Ordering::Relaxed);
        Poll::Ready((piece > 0).then(|| Ok(http_body::Frame::data(vec![b' '; piece].into()))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        if self.declared { http_body::SizeHint::with_exact(self.left as u64) } else { http_body::SizeHint::default() }
    }
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

    /// From here on [`Running::peak_bytes`] counts.
    pub fn forget_peak(&self) {
        // proc(5): 5 resets the peak resident set size.
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    /// Most memory that was resident at once since [`Running::forget_peak`], bytes.
    pub fn peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// Memory that is resident now, bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
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
