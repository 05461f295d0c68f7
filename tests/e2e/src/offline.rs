//! Offline servers: each a folder of its own and a program that runs without any network.

use crate::Network;
use crate::network::{PATIENCE, output};
use crate::process::binary;
use crate::{anvil, solidity};
use alloy::network::EthereumWallet;
use alloy::primitives::utils::parse_ether;
use alloy::primitives::{Address, B256, Bytes};
use alloy::providers::{Provider as _, ProviderBuilder};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol;
use eyre::{Context, Result, ensure, eyre};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use stkr_chain::bindings::KeyRegistry;
use stkr_protocol::silence::SignedSilenceVote;
use stkr_sdk::Registration;

sol! {
    #[sol(rpc)]
    interface KeyUser {
        function request(address keys, uint8 threshold, uint8 members) external returns (uint256 keyId);
    }
}

/// A partner's machine without network.
#[derive(Debug)]
pub struct OfflineServer {
    /// Id in the registry.
    pub id: u32,
    /// All that it has, and what is carried to it.
    pub dir: PathBuf,
}

/// A program in a network namespace of its own, where there is no interface that is up.
pub fn without_network(program: &Path) -> Command {
    let mut command = Command::new("unshare");
    // Whoever is not root may make one only within a user namespace of its own.
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.arg("--net").arg("--").arg(program).env_clear();
    command
}

impl OfflineServer {
    /// A machine with nothing on it but the deployment file.
    pub fn at(dir: PathBuf, deployment_file: &Path) -> Result<Self> {
        std::fs::create_dir_all(&dir)?;
        std::fs::copy(deployment_file, dir.join("deployment.json"))?;
        Ok(Self { id: 0, dir })
    }

    /// `stkr-server offline COMMAND --dir DIR ARGS…`, without network, in its own folder.
    pub fn run(&self, command: &str, args: &[&str]) -> Result<Output> {
        self.command(command, args)?.output().wrap_err("start unshare; may this user make a network namespace?")
    }

    /// The same, not started yet.
    pub fn command(&self, command: &str, args: &[&str]) -> Result<Command> {
        let mut it = without_network(&binary("stkr-server")?);
        it.current_dir(&self.dir).args(["offline", command, "--dir", "server"]).args(args);
        Ok(it)
    }

    /// The same, ended by SIGKILL at this kill point.
    pub fn killed_at(&self, point: &str, command: &str, args: &[&str]) -> Result<()> {
        self.bring("kill", &format!("{point} 1"))?;
        let output = self.command(command, args)?.env(stkr_kill_points::VARIABLE, "kill").output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.signal() == Some(9), "{command} {args:?} was not ended at {point}: {said}");
        Ok(std::fs::remove_file(self.dir.join("kill.hit"))?)
    }

    /// The same, for one that must succeed and prints JSON.
    pub fn json(&self, command: &str, args: &[&str]) -> Result<Value> {
        let output = self.run(command, args)?;
        ensure!(output.status.success(), "{command} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The same, for one that must fail: exit code and what it says.
    pub fn refusal(&self, command: &str, args: &[&str]) -> Result<(i32, String)> {
        let output = self.run(command, args)?;
        let code = output.status.code().ok_or_else(|| eyre!("a signal ended it"))?;
        ensure!(code != 0, "{command} {args:?} succeeded: {}", String::from_utf8_lossy(&output.stdout));
        let said = String::from_utf8_lossy(&output.stderr);
        Ok((code, said.lines().last().unwrap_or_default().to_owned()))
    }

    /// Its vote that `silent` is, in the key's committee `epoch`.
    pub fn vote_silent(&self, (key, epoch): (u64, u32), silent: u32, until: u64) -> Result<SignedSilenceVote> {
        let [key, epoch] = [key.to_string(), epoch.to_string()];
        let (silent, until) = (silent.to_string(), until.to_string());
        let args = ["--key", &key, "--epoch", &epoch, "--server", &silent, "--until", &until, "--yes"];
        Ok(serde_json::from_value(self.json("vote-silent", &args)?)?)
    }

    /// Everything that it remembers of ceremonies and reshares, row by row.
    pub fn memory(&self) -> Result<Vec<String>> {
        let database = rusqlite::Connection::open(self.dir.join("server/server.db"))?;
        let mut rows = Vec::new();
        for table in ["confirmed", "ceremony", "message", "share", "confirmed_reshare", "reshare", "reshare_message"] {
            let mut statement = database.prepare(&format!("SELECT * FROM {table} ORDER BY rowid"))?;
            let columns = statement.column_count();
            let read = statement.query_map([], |row| {
                let values = (0..columns).map(|at| Ok(format!("{:?}", row.get::<_, rusqlite::types::Value>(at)?)));
                Ok(format!("{table} {}", values.collect::<rusqlite::Result<Vec<_>>>()?.join("|")))
            })?;
            for row in read {
                rows.push(row?);
            }
        }
        Ok(rows)
    }

    /// Puts a file into its folder, as a person with a stick does.
    pub fn bring(&self, name: &str, content: &str) -> Result<()> {
        Ok(std::fs::write(self.dir.join(name), content)?)
    }
}

impl Network {
    /// Two servers without network, registered and approved.
    pub async fn two_offline_servers(&self) -> Result<[OfflineServer; 2]> {
        Ok([self.add_offline_server("offline-a").await?, self.add_offline_server("offline-b").await?])
    }

    /// A withdrawal key for a new provider, `threshold` (t, n), with `offline` among its members: who pays, its id, what was finalised.
    pub async fn providers_withdrawal_key(
        &self,
        offline: &[OfflineServer],
        (t, n): (u8, u8),
    ) -> Result<(PrivateKeySigner, u64, KeyRegistry::KeyFinalised)> {
        let provider = self.account("20").await?;
        self.register_provider(&provider).await?;
        let (wallet, registry) = (EthereumWallet::from(provider.clone()), self.deployment.key_registry);
        let key = self.stkr().await?.withdrawal_keys().request(t, n)?.send_with(&wallet).await?.value;
        self.event::<KeyRegistry::CommitteeDrawn>(registry, key).await?;
        self.carry_to_offline_servers(offline, key).await?;
        let finalised = self.event::<KeyRegistry::KeyFinalised>(registry, key).await?.inner;
        Ok((provider, key, finalised))
    }

    /// A new offline server of an operator of its own, registered and approved.
    pub async fn add_offline_server(&self, name: &str) -> Result<OfflineServer> {
        let dir = self.options.dir.join(name);
        let mut server = OfflineServer::at(dir, &self.deployment_file)?;
        let made = server.json("init", &["--deployment", "deployment.json"])?;
        let operator = self.account("100").await?;
        let args = server.json("register-args", &["--operator", &operator.address().to_string()])?;
        ensure!(args["kind"] == "offline" && args["signer"] == made["signer"], "{args}");
        let field = |name: &str| args[name].as_str().ok_or_else(|| eyre!("no {name} in {args}"));
        let stkr = self.stkr().await?;
        let registration = Registration {
            signer: field("signer")?.parse::<Address>()?,
            tls_fingerprint: field("tlsFingerprint")?.parse::<B256>()?,
            kind: stkr_sdk::ServerKind::Offline,
            endpoint: field("endpoint")?.to_owned(),
            signer_proof: field("signerProof")?.parse::<Bytes>()?,
            bond: stkr.servers().min_bond().await?,
        };
        let wallet = EthereumWallet::from(operator);
        server.id = stkr.servers().register(registration)?.send_with(&wallet).await?.value;
        stkr.servers().approve(server.id).send_with(&EthereumWallet::from(self.governor.clone())).await?;
        Ok(server)
    }

    /// A contract that may ask for keys, admitted by governance.
    pub async fn add_key_user(&self) -> Result<Address> {
        let signer = PrivateKeySigner::random();
        anvil::fund(&self.provider()?, signer.address(), parse_ether("10")?).await?;
        let provider = ProviderBuilder::new().wallet(signer).connect(&self.anvil.url).await?;
        let user = solidity::create(&provider, solidity::compile("KeyUser")?).await?;
        let wallet = EthereumWallet::from(self.governor.clone());
        self.stkr().await?.keys().add_consumer(user).send_with(&wallet).await?;
        Ok(user)
    }

    /// Has `user` ask for a t-of-n withdrawal key and waits until its committee is drawn; the key's id.
    pub async fn withdrawal_key(&self, user: Address, (t, n): (u8, u8)) -> Result<u64> {
        let signer = self.account("10").await?;
        let provider = ProviderBuilder::new().wallet(signer).connect(&self.anvil.url).await?;
        let user = KeyUser::new(user, &provider);
        let receipt = user.request(self.deployment.key_registry, t, n).send().await?.get_receipt().await?;
        ensure!(receipt.status(), "no key was requested");
        let key = u64::try_from(KeyRegistry::new(self.deployment.key_registry, &provider).keyCount().call().await?)?;
        self.event::<KeyRegistry::CommitteeDrawn>(self.deployment.key_registry, key).await?;
        Ok(key)
    }

    /// The request for an offline server, once the draw is final.
    pub async fn offline_request(&self, server: u32, key: u64) -> Result<Value> {
        let path = format!("/v1/offline/{server}/{key}");
        self.until("a request", || async { Ok(self.relayer_json(0, &path).await.is_ok()) }).await?;
        self.relayer_json(0, &path).await
    }

    /// The request to sign a change of credentials, as soon as the relayer has one.
    pub async fn change_request(&self, server: u32, key: u64) -> Result<Value> {
        let due = format!("/v1/offline/{server}");
        self.until("a change that waits for an offline server", || async {
            Ok(self.relayer_json(0, &due).await?["keys"] == json!([key.to_string()]))
        })
        .await?;
        self.offline_request(server, key).await
    }

    /// Hash of the block that a request names, from this chain and not from the relayer.
    pub async fn compared(&self, server: &OfflineServer, file: &str) -> Result<String> {
        let shown = server.json("show", &[file])?;
        let number = shown["block"]["number"].as_u64().ok_or_else(|| eyre!("no block in {shown}"))?;
        Ok(self.hash_of_block(number).await?.to_string())
    }

    /// One way there and back: what was signed; nothing where there is nothing to fetch, or nothing to sign in it.
    pub async fn visit(&self, server: &OfflineServer, key: u64) -> Result<Option<Value>> {
        let been = |number: &usize| server.dir.join(format!("answer-{key}-{number}.json")).exists();
        let number = (1_usize..).find(|number| !been(number)).unwrap_or_default();
        let (request, answer) = (format!("request-{key}-{number}.json"), format!("answer-{key}-{number}.json"));
        let Ok(file) = self.relayer_text(0, &format!("/v1/offline/{}/{key}", server.id)).await else { return Ok(None) };
        server.bring(&request, &file)?;
        // The relayer's status is some moments old: it may still wait for what it was just given.
        let shown = server.json("show", &[&request])?;
        if shown["signs"] == json!([]) {
            return Ok(None);
        }
        let mut args = vec![request.as_str(), "--out", &answer, "--yes"];
        let block = self.compared(server, &request).await?;
        // Once for each ceremony.
        if shown["confirmed"] == json!(false) {
            args.extend(["--block", &block]);
        }
        let answered = server.json("answer", &args)?;
        let (status, body) = self.hand_in_answer(&std::fs::read_to_string(server.dir.join(&answer))?).await?;
        ensure!(status == 200, "{body}");
        Ok(Some(answered["signs"].clone()))
    }

    /// Carries files for the ceremony of a key until it is Live: what each server signed, visit by visit.
    pub async fn carry_to_offline_servers(
        &self,
        offline: &[OfflineServer],
        key: u64,
    ) -> Result<BTreeMap<u32, Vec<Value>>> {
        let registry = self.deployment.key_registry;
        let made = || async { Ok(!self.events_now::<KeyRegistry::KeyFinalised>(registry, key).await?.is_empty()) };
        self.carry_until(offline, key, made).await
    }

    /// Carries files for the reshare of a key to its committee `epoch` until there is one: what each server signed, visit by visit.
    pub async fn carry_reshare_to_offline_servers(
        &self,
        offline: &[OfflineServer],
        (key, epoch): (u64, u32),
    ) -> Result<BTreeMap<u32, Vec<Value>>> {
        let made = || async { Ok(self.reshared(key).await?.last().is_some_and(|it| it.inner.committeeEpoch >= epoch)) };
        self.carry_until(offline, key, made).await
    }

    async fn carry_until(
        &self,
        offline: &[OfflineServer],
        key: u64,
        over: impl AsyncFn() -> Result<bool>,
    ) -> Result<BTreeMap<u32, Vec<Value>>> {
        let mut signed: BTreeMap<u32, Vec<Value>> = BTreeMap::new();
        let until = Instant::now() + PATIENCE;
        while !over().await? {
            ensure!(Instant::now() < until, "nothing came of key {key} after {signed:?}");
            for server in offline {
                let due = self.relayer_json(0, &format!("/v1/offline/{}", server.id)).await?;
                if due["keys"] == json!([key.to_string()]) {
                    signed.entry(server.id).or_default().extend(self.visit(server, key).await?);
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(signed)
    }

    /// Hash of a block as this chain's own endpoint says it: the source that is not the relayer.
    pub async fn hash_of_block(&self, number: u64) -> Result<B256> {
        let block = self.provider()?.get_block_by_number(number.into()).await?;
        Ok(block.ok_or_else(|| eyre!("no block {number}"))?.header.hash)
    }

    /// Hands an answer in: status and body.
    pub async fn hand_in_answer(&self, answer: &str) -> Result<(u16, Value)> {
        crate::misbehaviour::post(self, "/v1/offline", answer).await
    }
}

/// That programs started by [`without_network`] have none: no interface but a loopback that is down, and no way to `port` of this
/// machine, which everybody else reaches.
pub fn check_there_is_no_network(port: u16) -> Result<()> {
    let interfaces = output(without_network(Path::new("/bin/cat")).arg("/proc/net/dev"))?;
    let names: Vec<&str> = interfaces.lines().filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    ensure!(names == ["lo"], "interfaces: {names:?}");
    let connect = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
    ensure!(Command::new("/bin/bash").args(["-c", &connect]).status()?.success(), "nobody serves port {port}");
    let inside = without_network(Path::new("/bin/bash")).args(["-c", &connect]).output()?;
    ensure!(!inside.status.success(), "port {port} is reached from a machine without network");
    Ok(())
}
