//! A whole Stkr network on one machine: anvil, contracts, servers, relayers, and the people who use them.

use crate::anvil::{self, Anvil, DEPOSIT_CONTRACT, GENESIS_FORK_VERSION, GENESIS_VALIDATORS_ROOT};
use crate::process::{Process, binary, workspace_root};
use alloy::network::EthereumWallet;
use alloy::primitives::utils::parse_ether;
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::DynProvider;
use alloy::rpc::types::TransactionReceipt;
use alloy::signers::local::PrivateKeySigner;
use eyre::{Context, Result, bail, ensure, eyre};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use stkr_protocol::SignerKey;
use stkr_sdk::{Deployment, Registration, Stkr};

/// How long one step of a network may take before a test gives up: generous, for two loaded cores.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Seconds for which a ceremony runs: a day to see that a member is silent, and one in which it can be asked on the chain.
pub const CEREMONY_WINDOW: u64 = 2 * 24 * 3600;

/// What a network starts with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything the network writes lies below this folder.
    pub dir: PathBuf,
    /// Milliseconds between blocks.
    pub block_ms: u64,
    /// Blocks between the finalized block and the head.
    pub finality: u64,
    /// Seconds by which the chain's clock is behind at its start: it can be moved forward so far, and is not ahead of the servers' then.
    pub behind: u64,
    /// Threshold servers, each of its own operator.
    pub servers: u32,
    /// Relayers, each with its own gas account.
    pub relayers: u32,
    /// Whether relayers ask for reshares of keys that have lost a member.
    pub reshares: bool,
}

impl Options {
    /// Six servers, one relayer that asks for no reshares, a block a second, finality two blocks behind.
    pub fn new(dir: &Path) -> Self {
        let dir = dir.to_path_buf();
        Self { dir, block_ms: 1000, finality: 2, behind: 0, servers: 6, relayers: 1, reshares: false }
    }
}

/// A partner's server: its operator's account, its folder, its process while it runs.
#[derive(Debug)]
pub struct Server {
    /// Id in the registry; 0 until it is registered.
    pub id: u32,
    /// Account of the partner who runs it.
    pub operator: PrivateKeySigner,
    /// Its own folder.
    pub dir: PathBuf,
    /// Its configuration file.
    pub config: PathBuf,
    /// `https://127.0.0.1:PORT`.
    pub endpoint: String,
    /// What its process finds in its environment besides.
    pub environment: Vec<(String, OsString)>,
    /// None while it is down.
    pub process: Option<Process>,
}

/// A relayer: its folder and its process while it runs.
#[derive(Debug)]
pub struct Relayer {
    /// Its own folder.
    pub dir: PathBuf,
    /// Its configuration file.
    pub config: PathBuf,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// None while it is down.
    pub process: Option<Process>,
}

/// What `stkr-server register-args` prints.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RegisterArgs {
    signer: Address,
    tls_fingerprint: B256,
    endpoint: String,
    signer_proof: Bytes,
}

/// A running network.
#[derive(Debug)]
pub struct Network {
    /// What it was started with.
    pub options: Options,
    /// The chain.
    pub anvil: Anvil,
    /// The file that the deploy script wrote.
    pub deployment_file: PathBuf,
    /// Its content.
    pub deployment: Deployment,
    /// Governance of this devnet, which also deployed the contracts.
    pub governor: PrivateKeySigner,
    /// Forks and genesis of the beacon chain that new servers are told; without it they sign deposits only.
    pub beacon_schedule: Option<PathBuf>,
    /// Threshold servers, ids 1 to n in this order.
    pub servers: Vec<Server>,
    /// Relayers.
    pub relayers: Vec<Relayer>,
}

/// A port of 127.0.0.1 that is free, handed out once, and below those the system gives to outgoing connections.
///
/// A program that is killed and started again must find its port still free. Had the system chosen it, some connection of a
/// neighbour could have it as its own end in between.
pub fn free_port() -> Result<u16> {
    const LOWEST: u16 = 10_000;
    static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let above = range.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(32_768).max(LOWEST + 1_000);
    for _ in 0..1_000 {
        let port = rand::random_range(LOWEST..above);
        let new = HANDED_OUT.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
        if new && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port from {LOWEST} to {above} of 127.0.0.1 is free")
}

/// Runs a program to its end and returns its stdout; an error carries its stderr.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().wrap_err_with(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).wrap_err("its output")
}

impl Network {
    /// Starts anvil with the official contracts and deploys Stkr by the forge script. No server runs yet.
    pub async fn deploy(options: Options) -> Result<Self> {
        let dir = options.dir.clone();
        std::fs::create_dir_all(&dir)?;
        let deployment_file = dir.join("deployment.json");
        let (anvil, governor) = match start_chain(&options, &dir.join("anvil"), &deployment_file).await {
            // Now and then an anvil answers nothing any more, before any program of ours has run.
            Err(error) if format!("{error:?}").contains("operation timed out") => {
                eprintln!("anvil stopped answering; once more with another: {error}");
                start_chain(&options, &dir.join("another-anvil"), &deployment_file).await?
            }
            started => started?,
        };
        let deployment = Deployment::load(&deployment_file)?;
        let (servers, relayers) = (Vec::new(), Vec::new());
        Ok(Self { options, anvil, deployment_file, deployment, governor, beacon_schedule: None, servers, relayers })
    }

    /// Deploys, then initialises, registers, approves and starts every server, then the relayers.
    pub async fn start(options: Options) -> Result<Self> {
        let mut network = Self::deploy(options).await?;
        network.init_servers().await?;
        network.register_servers().await?;
        network.approve_servers().await?;
        for position in 0..network.servers.len() {
            network.start_server(position)?;
        }
        for position in 0..network.options.relayers {
            network.add_relayer(position).await?;
        }
        Ok(network)
    }

    /// A plain provider on the chain.
    pub fn provider(&self) -> Result<DynProvider> {
        self.anvil.provider()
    }

    /// The SDK on this chain.
    pub async fn stkr(&self) -> Result<Stkr<DynProvider>> {
        Ok(Stkr::connect(self.provider()?, self.deployment.clone()).await?)
    }

    /// A new account with `ether` ETH.
    pub async fn account(&self, ether: &str) -> Result<PrivateKeySigner> {
        let signer = PrivateKeySigner::random();
        anvil::fund(&self.provider()?, signer.address(), parse_ether(ether)?).await?;
        Ok(signer)
    }

    // ---- servers

    /// `stkr-server init` for every server, each in its own folder with its own operator.
    pub async fn init_servers(&mut self) -> Result<()> {
        for number in 1..=self.options.servers {
            let operator = self.account("100").await?;
            let dir = self.options.dir.join(format!("server-{number}"));
            let (config, endpoint) = self.init_server(&dir)?;
            self.servers.push(Server {
                id: 0,
                operator,
                dir,
                config,
                endpoint,
                environment: Vec::new(),
                process: None,
            });
        }
        Ok(())
    }

    fn init_server(&self, dir: &Path) -> Result<(PathBuf, String)> {
        let port = free_port()?;
        let endpoint = format!("https://127.0.0.1:{port}");
        let schedule = self.beacon_schedule.iter().flat_map(|file| ["--beacon-schedule".as_ref(), file.as_os_str()]);
        output(
            Command::new(binary("stkr-server")?)
                .arg("init")
                .args(schedule)
                .arg("--dir")
                .arg(dir)
                .arg("--deployment")
                .arg(&self.deployment_file)
                .args(["--listen", &format!("127.0.0.1:{port}"), "--endpoint", &endpoint])
                .args(["--rpc", &self.anvil.url, "--rpc", &self.anvil.second_url]),
        )?;
        Ok((dir.join("server.toml"), endpoint))
    }

    /// Registers every server on-chain with the minimum bond, each by its own operator, in order of the folders.
    pub async fn register_servers(&mut self) -> Result<Vec<TransactionReceipt>> {
        let stkr = self.stkr().await?;
        let bond = stkr.servers().min_bond().await?;
        let mut receipts = Vec::new();
        for server in &mut self.servers {
            let args = output(
                Command::new(binary("stkr-server")?)
                    .args(["register-args", "--operator", &server.operator.address().to_string(), "--config"])
                    .arg(&server.config),
            )?;
            let args: RegisterArgs = serde_json::from_str(&args).wrap_err("what register-args printed")?;
            let registration = Registration {
                signer: args.signer,
                tls_fingerprint: args.tls_fingerprint,
                kind: stkr_sdk::ServerKind::Online,
                endpoint: args.endpoint,
                signer_proof: args.signer_proof,
                bond,
            };
            let wallet = EthereumWallet::from(server.operator.clone());
            let sent = stkr.servers().register(registration)?.send_with(&wallet).await?;
            server.id = sent.value;
            receipts.push(sent.receipt);
        }
        Ok(receipts)
    }

    /// Governance approves every registered server.
    pub async fn approve_servers(&self) -> Result<()> {
        let stkr = self.stkr().await?;
        let wallet = EthereumWallet::from(self.governor.clone());
        for server in &self.servers {
            stkr.servers().approve(server.id).send_with(&wallet).await?;
        }
        Ok(())
    }

    /// Starts (or starts again) a server and waits until it serves.
    pub fn start_server(&mut self, position: usize) -> Result<()> {
        let server = self.servers.get_mut(position).ok_or_else(|| eyre!("no server {position}"))?;
        let name = format!("server-{}", position + 1);
        server.process = None;
        let args = ["run".into(), "--config".into(), server.config.display().to_string()];
        let (exe, environment) = (binary("stkr-server")?, &server.environment);
        let mut process = Process::start_with(&name, &exe, &args, &server.dir, environment)?;
        process.line(PATIENCE, |line| line.contains("\"ready\":true"))?;
        server.process = Some(process);
        Ok(())
    }

    /// Starts a server again with `url` as the first of its two RPC endpoints; the second stays this network's anvil.
    pub fn set_first_endpoint(&mut self, position: usize, url: &str) -> Result<()> {
        let server = self.servers.get(position).ok_or_else(|| eyre!("no server {position}"))?;
        let config = std::fs::read_to_string(&server.config)?;
        ensure!(config.contains(&self.anvil.url), "server {position} does not use {}", self.anvil.url);
        std::fs::write(&server.config, config.replacen(&self.anvil.url, url, 1))?;
        self.start_server(position)
    }

    /// SIGKILLs a server.
    pub fn kill_server(&mut self, position: usize) {
        if let Some(server) = self.servers.get_mut(position) {
            server.process = None;
        }
    }

    /// SIGTERMs a server and waits for its end.
    pub fn terminate_server(&mut self, position: usize) -> Result<()> {
        let server = self.servers.get_mut(position).ok_or_else(|| eyre!("no server {position}"))?;
        let mut process = server.process.take().ok_or_else(|| eyre!("server {position} does not run"))?;
        let code = process.terminate(PATIENCE);
        ensure!(code == Some(0), "server {position} ended with {code:?}");
        Ok(())
    }

    /// Position in `servers` of the server with this id.
    pub fn position_of(&self, id: u32) -> Result<usize> {
        self.servers.iter().position(|server| server.id == id).ok_or_else(|| eyre!("no server has id {id}"))
    }

    // ---- relayers

    /// Adds a relayer with its own gas account and starts it.
    pub async fn add_relayer(&mut self, number: u32) -> Result<()> {
        self.init_relayer(number).await?;
        self.start_relayer(self.relayers.len() - 1)
    }

    /// Adds a relayer with its own gas account that does not run yet.
    pub async fn init_relayer(&mut self, number: u32) -> Result<()> {
        let dir = self.options.dir.join(if number == 0 { "relayer".into() } else { format!("relayer-{number}") });
        std::fs::create_dir_all(&dir)?;
        let gas = self.account("100").await?;
        write_secret(&dir.join("gas.key"), &format!("{}\n", gas.to_bytes()))?;
        let port = free_port()?;
        let config = dir.join("relayer.toml");
        let text = format!(
            "[chain]\nnetwork = \"devnet\"\ndeployment = \"{}\"\nrpc_urls = [\"{}\"]\npoll_ms = 250\n\n\
             [gas]\nkey_file = \"gas.key\"\n\n[reshares]\nrequest = {}\n\n[storage]\ndatabase = \"relayer.sqlite\"\n\n\
             [listen]\naddress = \"127.0.0.1:{port}\"\n",
            self.deployment_file.display(),
            self.anvil.url,
            self.options.reshares,
        );
        std::fs::write(&config, text)?;
        self.relayers.push(Relayer { dir, config, url: format!("http://127.0.0.1:{port}"), process: None });
        Ok(())
    }

    /// Starts (or starts again) a relayer and waits until it serves.
    pub fn start_relayer(&mut self, position: usize) -> Result<()> {
        let relayer = self.relayers.get_mut(position).ok_or_else(|| eyre!("no relayer {position}"))?;
        relayer.process = None;
        let name = if position == 0 { "relayer".to_owned() } else { format!("relayer-{position}") };
        let args = ["run".into(), "--config".into(), relayer.config.display().to_string()];
        let mut process = Process::start(&name, &binary("stkr-relayer")?, &args, &relayer.dir)?;
        process.line(PATIENCE, |line| line.contains("\"ready\":true"))?;
        relayer.process = Some(process);
        Ok(())
    }

    /// SIGKILLs a relayer.
    pub fn kill_relayer(&mut self, position: usize) {
        if let Some(relayer) = self.relayers.get_mut(position) {
            relayer.process = None;
        }
    }

    /// GETs JSON from a relayer.
    pub async fn relayer_text(&self, position: usize, path: &str) -> Result<String> {
        let relayer = self.relayers.get(position).ok_or_else(|| eyre!("no relayer {position}"))?;
        let reply = http().get(format!("{}{path}", relayer.url)).send().await?;
        ensure!(reply.status().is_success(), "{path} answered {}", reply.status());
        Ok(reply.text().await?)
    }

    /// The same as JSON.
    pub async fn relayer_json(&self, position: usize, path: &str) -> Result<serde_json::Value> {
        let relayer = self.relayers.get(position).ok_or_else(|| eyre!("no relayer {position}"))?;
        let reply = http().get(format!("{}{path}", relayer.url)).send().await?;
        ensure!(reply.status().is_success(), "{path} answered {}", reply.status());
        Ok(reply.json().await?)
    }

    // ---- people

    /// Registers a provider with a duty key of its own, if it is not one already.
    pub async fn register_provider(&self, provider: &PrivateKeySigner) -> Result<()> {
        let stkr = self.stkr().await?;
        let wallet = EthereumWallet::from(provider.clone());
        if stkr.providers().get(provider.address()).await.is_err() {
            let duty_key = SignerKey::random()?;
            let digest = stkr_sdk::duty_key_digest(&self.deployment, provider.address(), duty_key.address());
            let proof = Bytes::from(duty_key.sign_digest(digest).to_vec());
            stkr.providers().register(duty_key.address(), proof)?.send_with(&wallet).await?;
        }
        Ok(())
    }

    /// A new provider with a duty key of its own opens a t-of-n pool with the insurance.
    pub async fn open_pool(&self, provider: &PrivateKeySigner, t: u8, n: u8) -> Result<(u64, TransactionReceipt)> {
        self.register_provider(provider).await?;
        let (stkr, wallet) = (self.stkr().await?, EthereumWallet::from(provider.clone()));
        let sent = stkr.pools().open(t, n)?.send_with(&wallet).await?;
        Ok((sent.value, sent.receipt))
    }

    /// `stakers` new accounts fill the pool in equal parts, each signing its own transaction, all at once.
    pub async fn fill_pool(&self, pool_id: u64, stakers: u32) -> Result<Vec<TransactionReceipt>> {
        let stkr = self.stkr().await?;
        let share = parse_ether("32")? / U256::from(stakers);
        let mut accounts = Vec::new();
        for _ in 0..stakers {
            accounts.push(EthereumWallet::from(self.account("40").await?));
        }
        let stakes = accounts.iter().map(|wallet| {
            let write = stkr.pools().stake(pool_id, share);
            async move { eyre::Ok(write?.send_with(wallet).await?.receipt) }
        });
        futures::future::try_join_all(stakes).await
    }

    /// Waits until `condition` holds, asking twice a second; an error says what was waited for.
    pub async fn until<F, Fut>(&self, what: &str, mut condition: F) -> Result<()>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<bool>>,
    {
        let until = Instant::now() + PATIENCE;
        let mut last = None;
        while Instant::now() < until {
            match condition().await {
                Ok(true) => return Ok(()),
                Ok(false) => last = None,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let logs: Vec<String> =
            self.relayers.iter().filter_map(|r| r.process.as_ref()).map(|p| tail(&p.log())).collect();
        bail!("waited {PATIENCE:?} for: {what}; last error: {last:?}\nrelayers:\n{}", logs.join("\n--\n"))
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// An anvil with Stkr's contracts, and who deployed them.
async fn start_chain(options: &Options, dir: &Path, deployment_file: &Path) -> Result<(Anvil, PrivateKeySigner)> {
    let anvil = Anvil::start(dir, (options.block_ms, options.behind), options.finality).await?;
    let governor = PrivateKeySigner::random();
    anvil::fund(&anvil.provider()?, governor.address(), parse_ether("1000")?).await?;
    deploy(&anvil.url, &governor, deployment_file)?;
    Ok((anvil, governor))
}

/// Deploys by the forge script, exactly as an operator would.
pub fn deploy(rpc: &str, deployer: &PrivateKeySigner, deployment_file: &Path) -> Result<()> {
    let root = workspace_root();
    // The script may only write below target/; move the file where this network keeps its own.
    let scratch = root.join("target/deployments").join(format!("{}.json", deployer.address()));
    std::fs::create_dir_all(scratch.parent().unwrap_or(&root))?;
    output(
        Command::new(crate::process::foundry("forge")?)
            .current_dir(&root)
            .args(["script", "script/Deploy.s.sol", "--rpc-url", rpc, "--broadcast", "--slow"])
            .env("FOUNDRY_PROFILE", "release")
            .env("STKR_DEPLOYER_KEY", deployer.to_bytes().to_string())
            .env("STKR_DEPLOYMENT_FILE", &scratch)
            .env("STKR_DEPOSIT_CONTRACT", DEPOSIT_CONTRACT)
            .env("STKR_GENESIS_FORK_VERSION", GENESIS_FORK_VERSION)
            .env("STKR_GENESIS_VALIDATORS_ROOT", GENESIS_VALIDATORS_ROOT)
            .env("STKR_GOVERNANCE_DELAY", "0")
            .env("STKR_SEED_DELAY", "4")
            .env("STKR_CEREMONY_WINDOW", CEREMONY_WINDOW.to_string())
            .env("STKR_CHALLENGE_WINDOW", "43200"),
    )
    .wrap_err("deploy the contracts")?;
    std::fs::rename(&scratch, deployment_file)
        .or_else(|_| std::fs::copy(&scratch, deployment_file).and_then(|_| std::fs::remove_file(&scratch)))?;
    Ok(())
}

/// Writes a secret that only its owner can read.
pub fn write_secret(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// Installs the one TLS provider of this process; every HTTP client panics without it.
pub fn install_tls() {
    // An error says that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A plain HTTP client for the relayers' ports.
pub fn http() -> reqwest::Client {
    install_tls();
    reqwest::Client::new()
}
