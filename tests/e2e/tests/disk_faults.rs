//! Disks that are full, read-only, or fail: the server or gateway on it refuses, says so, signs nothing, and goes on when the
//! disk does, without a restart.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use eyre::{Result, WrapErr as _, bail, ensure, eyre};
use serde_json::Value;
use stkr_e2e::DealtNetwork;
use stkr_e2e::gateway_process::Answer;
use stkr_e2e::network::PATIENCE;
use stkr_e2e::process::{Process, binary, workspace_root};
use stkr_e2e::slashable::{Signed, read_interchange, slashable_pair};
use stkr_node::client::{ClientError, ServerClient};
use stkr_node::tls::Identity;
use stkr_protocol::sign::{Refusal, RefusalKind, SignResponse};

/// Set in the child, whose folders are small disks.
const CHILD: &str = "STKR_TEST_SMALL_DISKS";
/// Duties asked for until a full disk shows.
const MOST: u64 = 5_000;

/// One server and the gateway, whose disks fail, and who asks.
struct Bench {
    dealt: DealtNetwork,
    client: ServerClient,
    slot: u64,
    /// Nobody may have signed these when it is over.
    refused: Vec<Signed>,
}

impl Bench {
    async fn start(mut dealt: DealtNetwork) -> Result<Self> {
        dealt.run().await?;
        let client = dealt.network.client(0, &Identity::generate("client")?)?;
        Ok(Self { dealt, client, slot: 100, refused: Vec::new() })
    }

    /// A vote or a block that nobody asked for before, and what conflicts with it.
    fn next(&mut self) -> [Value; 2] {
        self.slot += 1;
        let (slot, target) = (self.slot, self.slot + 1_000);
        if slot.is_multiple_of(2) {
            [self.dealt.block(slot, 1), self.dealt.block(slot, 2)]
        } else {
            [self.dealt.vote(target - 1, target, 1), self.dealt.vote(target - 1, target, 2)]
        }
    }

    /// Asks the server on the failing disk.
    async fn ask(&self, request: &Value) -> Result<std::result::Result<(), Refusal>> {
        match self.client.sign_one(self.dealt.asked(request)?.request()).await? {
            SignResponse::Signed(partial) => {
                self.dealt.check_partial(0, self.dealt.signed(request)?.root(), &partial)?;
                Ok(Ok(()))
            }
            SignResponse::Refused(refused) => Ok(Err(refused.refusal)),
        }
    }

    async fn server_signs(&self, request: &Value) -> Result<()> {
        self.ask(request).await?.map_err(|refusal| eyre!("{refusal}"))
    }

    /// The server refuses and says why.
    async fn server_refuses(&self, request: &Value) -> Result<()> {
        let Err(refusal) = self.ask(request).await? else { bail!("signed on a disk that fails: {request}") };
        let says = "this server's slashing protection failed, so nothing is signed";
        ensure!(refusal.kind == RefusalKind::Unavailable && refusal.reason == says, "{refusal}");
        Ok(())
    }

    async fn server_is_ready(&self) -> Result<bool> {
        // One look at it serves everybody for a second.
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        match self.client.get::<Value>("/readyz").await {
            Ok(_) => Ok(true),
            Err(ClientError::Status { status: 503, .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn gateway_signs(&self, request: &Value) -> Result<()> {
        self.dealt.check(request, &self.dealt.ask_gateway(request).await?)
    }

    /// The gateway refuses and says why.
    fn check_unavailable(answer: &Answer) -> Result<()> {
        let refusal = &answer.body["refusal"];
        let says = answer.reason().starts_with("slashing protection is unavailable: ");
        let advice = refusal["whatToDo"] == "look at the disk and the logs; nothing was signed";
        ensure!(answer.status == 503 && refusal["kind"] == "unavailable" && says && advice, "{answer:?}");
        Ok(())
    }

    async fn gateway_is_ready(&self) -> Result<bool> {
        // One look at the disk serves everybody for a second.
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        let answer = self.dealt.gateway.get("/readyz").await?;
        // The chain is followed into a database on the same disk, and may need a moment longer.
        let checks = answer.body["checks"].as_array().cloned().unwrap_or_default();
        let down: Vec<&Value> = checks.iter().filter(|check| check["status"] == "DOWN").collect();
        ensure!(down.is_empty() == (answer.status == 200), "{answer:?}");
        Ok(!down.iter().any(|check| check["id"] == "slashing-protection" && check["reason"].is_string()))
    }

    /// With the disk repaired: the duty that was refused is signed, and what conflicts with it is not.
    async fn server_goes_on(&mut self, [duty, conflict]: &[Value; 2]) -> Result<()> {
        self.server_signs(duty).await?;
        let Err(refusal) = self.ask(conflict).await? else { bail!("signed {conflict}") };
        ensure!(refusal.kind == RefusalKind::Slashable, "{refusal}");
        self.refused.push(self.dealt.signed(conflict)?);
        ensure!(self.server_is_ready().await?, "the server is not ready on a disk that was repaired");
        Ok(())
    }

    async fn gateway_goes_on(&mut self, [duty, conflict]: &[Value; 2]) -> Result<()> {
        self.gateway_signs(duty).await?;
        let answer = self.dealt.ask_gateway(conflict).await?;
        ensure!(answer.status == 412, "{answer:?}");
        self.refused.push(self.dealt.signed(conflict)?);
        ensure!(self.gateway_is_ready().await?, "the gateway is not ready on a disk that was repaired");
        Ok(())
    }

    /// No database has a slashable pair or anything that was refused.
    fn judge(&mut self) -> Result<()> {
        self.dealt.terminate()?;
        let servers = self.dealt.network.servers.iter().map(|server| ("stkr-server", &server.config));
        for (program, config) in servers.chain([("stkr-gateway", &self.dealt.gateway.config)]) {
            let history = read_interchange(&self.dealt.export(program, config)?)?;
            ensure!(slashable_pair(history.iter().copied()).is_none(), "{} is slashable", config.display());
            let refused = self.refused.iter().find(|refused| history.contains(refused));
            ensure!(refused.is_none(), "{} has {refused:?}", config.display());
        }
        Ok(())
    }
}

/// Takes all that is left of a disk.
fn fill(filler: &Path) -> Result<()> {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(filler)?;
    while file.write_all(&[0; 65_536]).is_ok() {}
    while file.write_all(&[0]).is_ok() {}
    Ok(())
}

/// Fills a disk until its process refuses and goes on refusing: SQLite has room left in blocks that it has, and gets some back
/// when it empties its log.
async fn fill_until_refused(
    bench: &mut Bench,
    filler: &Path,
    signs: impl AsyncFn(&Bench, &Value) -> Result<bool>,
) -> Result<[Value; 2]> {
    for _ in 0..MOST {
        let duties = bench.next();
        fill(filler)?;
        if !signs(bench, &duties[0]).await? {
            fill(filler)?;
            if !signs(bench, &duties[0]).await? {
                return Ok(duties);
            }
        }
    }
    bail!("the disk is never full")
}

/// A full disk shows; the other databases on it may give back room in the meantime, which is taken again.
async fn not_ready(filler: &Path, ready: impl AsyncFn() -> Result<bool>) -> Result<()> {
    for _ in 0..20 {
        fill(filler)?;
        if !ready().await? {
            return Ok(());
        }
    }
    bail!("it is ready on a full disk")
}

fn remount(folder: &Path, mode: &str) -> Result<()> {
    let status = Command::new("mount").args(["-o", &format!("remount,{mode}")]).arg(folder).status()?;
    ensure!(status.success(), "cannot remount {} {mode}", folder.display());
    Ok(())
}

async fn full_server(bench: &mut Bench, folder: &Path) -> Result<()> {
    let filler = folder.join("filler");
    let signs = async |bench: &Bench, duty: &Value| Ok(bench.ask(duty).await?.is_ok());
    let duties = fill_until_refused(bench, &filler, signs).await?;
    bench.server_refuses(&duties[0]).await?;
    bench.server_refuses(&duties[1]).await?;
    not_ready(&filler, async || bench.server_is_ready().await).await.wrap_err("the server")?;
    // The other three sign as ever.
    let others = bench.next();
    bench.gateway_signs(&others[0]).await?;
    fs::remove_file(filler)?;
    bench.server_goes_on(&duties).await
}

async fn full_gateway(bench: &mut Bench, folder: &Path) -> Result<()> {
    let filler = folder.join("filler");
    // It shows before the first signature is refused.
    fill(&filler)?;
    ensure!(!bench.gateway_is_ready().await?, "the gateway is ready on a disk that has just become full");
    let signs = async |bench: &Bench, duty: &Value| Ok(bench.dealt.ask_gateway(duty).await?.status == 200);
    let duties = fill_until_refused(bench, &filler, signs).await?;
    let answer = bench.dealt.ask_gateway(&duties[0]).await?;
    Bench::check_unavailable(&answer)?;
    ensure!(answer.reason().contains("full"), "{answer:?}");
    not_ready(&filler, async || bench.gateway_is_ready().await).await.wrap_err("the gateway")?;
    fs::remove_file(filler)?;
    bench.gateway_goes_on(&duties).await
}

/// A disk in use cannot be made read-only by hand: the process is stopped first. (`a_failing_disk…` has a running one.)
async fn read_only_server(bench: &mut Bench, folder: &Path) -> Result<()> {
    let duties = bench.next();
    bench.server_signs(&duties[0]).await?;
    bench.dealt.network.terminate_server(0)?;
    remount(folder, "ro")?;
    let config = bench.dealt.network.servers.first().ok_or_else(|| eyre!("no server"))?.config.clone();
    let args = ["run".to_owned(), "--config".to_owned(), config.display().to_string()];
    let logs = tempfile::tempdir()?;
    let mut process = Process::start("server", &binary("stkr-server")?, &args, logs.path())?;
    let (code, log) = (process.end(PATIENCE), process.log());
    ensure!(code.is_some_and(|code| code != 0), "a server runs on a read-only disk: {code:?} {log}");
    ensure!(log.to_lowercase().contains("read-only") || log.to_lowercase().contains("readonly"), "{log}");
    remount(folder, "rw")?;
    bench.dealt.network.start_server(0)?;
    bench.client = bench.dealt.network.client(0, &Identity::generate("client")?)?;
    bench.server_goes_on(&duties).await
}

async fn read_only_gateway(bench: &mut Bench, folder: &Path) -> Result<()> {
    let duties = bench.next();
    bench.gateway_signs(&duties[0]).await?;
    let mut process = bench.dealt.gateway.process.take().ok_or_else(|| eyre!("no gateway"))?;
    ensure!(process.terminate(PATIENCE) == Some(0), "{}", process.log());
    remount(folder, "ro")?;
    let args = ["run".to_owned(), "--config".to_owned(), bench.dealt.gateway.config.display().to_string()];
    let logs = tempfile::tempdir()?;
    let mut process = Process::start("gateway", &binary("stkr-gateway")?, &args, logs.path())?;
    let (code, log) = (process.end(PATIENCE), process.log());
    ensure!(code.is_some_and(|code| code != 0), "a gateway runs on a read-only disk: {code:?} {log}");
    ensure!(log.to_lowercase().contains("read-only") || log.to_lowercase().contains("readonly"), "{log}");
    remount(folder, "rw")?;
    bench.dealt.gateway.start()?;
    let probe = bench.next();
    let signs = || async { bench.gateway_signs(&probe[0]).await.map(|()| true) };
    bench.dealt.network.until("the gateway signs again", signs).await?;
    bench.gateway_goes_on(&duties).await
}

#[tokio::test]
async fn child_on_small_disks() -> Result<()> {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else { return Ok(()) };
    let (server, gateway) = (dir.join("server-1"), dir.join("gateway"));
    let mut bench = Bench::start(DealtNetwork::deploy(&dir).await?).await?;
    full_server(&mut bench, &server).await.wrap_err("a server's disk is full")?;
    full_gateway(&mut bench, &gateway).await.wrap_err("the gateway's disk is full")?;
    read_only_server(&mut bench, &server).await.wrap_err("a server's disk is read-only")?;
    read_only_gateway(&mut bench, &gateway).await.wrap_err("the gateway's disk is read-only")?;
    bench.judge()
}

/// Two small tmpfs in a mount namespace that ends with the child.
#[test]
fn a_full_or_read_only_disk_stops_signatures_and_nothing_else_until_it_is_repaired() -> Result<()> {
    if std::env::var_os(CHILD).is_some() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    for name in ["server-1", "gateway"] {
        fs::create_dir(dir.path().join(name))?;
    }
    let mount = r#"for disk in server-1 gateway; do mount -t tmpfs -o size=32m,mode=700 tmpfs "$0/$disk" || exit 77; done; exec "$@""#;
    let output = Command::new(binary("leash")?)
        .arg(std::process::id().to_string())
        .args(["unshare", "--mount", "sh", "-c", mount])
        .arg(dir.path())
        .arg(std::env::current_exe()?)
        .args(["--exact", "child_on_small_disks", "--nocapture"])
        .env(CHILD, dir.path())
        .output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() && said.contains("1 passed") {
        return Ok(());
    }
    ensure!(output.status.code() != Some(101), "{said}");
    // No namespace or no mount: not root.
    ensure!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "no tmpfs under CI: {said}");
    writeln!(std::io::stderr(), "NOT RUN: a small tmpfs needs root and util-linux: {}", said.trim())?;
    Ok(())
}

/// `disk.c` of the protection crate, which stands between a program and the C library's calls that write.
fn preload(folder: &Path) -> Result<PathBuf> {
    let source = workspace_root().join("protection/tests/faults/disk.c");
    let library = folder.join("disk.so");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(compiler).args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).status()?;
    ensure!(status.success(), "disk.c does not compile");
    Ok(library)
}

/// What fails, on which of the protection database's files: errno 5 is EIO, 28 ENOSPC, 30 EROFS.
const FAULTS: [&str; 6] = ["fsync 5", "fsync 28", "write 30", "write 28 -wal", "fsync 30 -wal", "write 5 .witness"];

#[tokio::test]
async fn a_failing_disk_stops_signatures_of_a_running_server_and_gateway_until_it_is_repaired() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let library = preload(dir.path())?;
    let mut dealt = DealtNetwork::deploy(dir.path()).await?;
    let (server_fault, gateway_fault) = (dir.path().join("server-fault"), dir.path().join("gateway-fault"));
    let environment = |folder: &Path, fault: &Path| {
        vec![
            ("LD_PRELOAD".to_owned(), library.clone().into_os_string()),
            ("STKR_DISK".to_owned(), folder.join("protection").into_os_string()),
            ("STKR_DISK_FAULT".to_owned(), fault.as_os_str().to_owned()),
        ]
    };
    let server = dealt.network.servers.first_mut().ok_or_else(|| eyre!("no server"))?;
    server.environment = environment(&server.dir, &server_fault);
    dealt.gateway.environment = environment(&dealt.gateway.dir, &gateway_fault);
    let mut bench = Bench::start(dealt).await?;
    for fault in FAULTS {
        let context = || format!("fault {fault}");
        failing_server(&mut bench, &server_fault, fault).await.wrap_err_with(context)?;
        failing_gateway(&mut bench, &gateway_fault, fault).await.wrap_err_with(context)?;
    }
    bench.judge()
}

async fn failing_server(bench: &mut Bench, file: &Path, fault: &str) -> Result<()> {
    let known = bench.next();
    bench.server_signs(&known[0]).await?;
    let duties = bench.next();
    fs::write(file, fault)?;
    for _ in 0..2 {
        bench.server_refuses(&duties[0]).await?;
    }
    // Not even what needs no write: nobody knows what the disk holds now.
    bench.server_refuses(&known[0]).await?;
    ensure!(!bench.server_is_ready().await?, "a server is ready on a disk that fails");
    fs::remove_file(file)?;
    bench.server_goes_on(&duties).await
}

async fn failing_gateway(bench: &mut Bench, file: &Path, fault: &str) -> Result<()> {
    let known = bench.next();
    bench.gateway_signs(&known[0]).await?;
    let duties = bench.next();
    fs::write(file, fault)?;
    for duty in [&duties[0], &duties[0], &known[0]] {
        Bench::check_unavailable(&bench.dealt.ask_gateway(duty).await?)?;
    }
    ensure!(!bench.gateway_is_ready().await?, "a gateway is ready on a disk that fails");
    fs::remove_file(file)?;
    bench.gateway_goes_on(&duties).await
}
