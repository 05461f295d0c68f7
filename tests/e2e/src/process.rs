//! Processes of a devnet: started on a leash, read line by line, ended by id.

use eyre::{Context, Result, bail, eyre};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Folder of the workspace root.
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Folder with the built binaries: that of the running executable (tests run from its `deps`).
pub fn binary_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().wrap_err("where this program is")?;
    let dir = exe.parent().ok_or_else(|| eyre!("{} has no folder", exe.display()))?;
    Ok(if dir.ends_with("deps") { dir.parent().unwrap_or(dir).to_path_buf() } else { dir.to_path_buf() })
}

/// Path of a binary of this workspace, e.g. `stkr-server`; an error says how to build it.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = binary_dir()?.join(name);
    if !path.is_file() {
        bail!("{} is not built; run `cargo build --workspace --bins` first", path.display());
    }
    Ok(path)
}

/// Path of a Foundry tool that `npm ci` installed, e.g. `anvil`: the binary itself, for its npm launcher exits 0
/// whatever happens and would shield it from SIGKILL.
pub fn foundry(tool: &str) -> Result<PathBuf> {
    let arch = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let os = if std::env::consts::OS == "macos" { "darwin" } else { std::env::consts::OS };
    let path = workspace_root().join(format!("node_modules/@foundry-rs/{tool}-{os}-{arch}/bin/{tool}"));
    if !path.exists() {
        bail!("{tool} is not installed; run `npm ci` in {}", workspace_root().display());
    }
    Ok(path)
}

/// CPU seconds (user and system) of a process since its start.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).wrap_err_with(|| format!("process {pid}"))?;
    // The name, second, is in brackets and may have spaces.
    let (_, fields) = stat.rsplit_once(')').ok_or_else(|| eyre!("/proc/{pid}/stat has another form"))?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64> {
        let field = fields.get(at).ok_or_else(|| eyre!("/proc/{pid}/stat is short"))?;
        Ok(field.parse()?)
    };
    #[allow(clippy::cast_precision_loss, reason = "about 100")]
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    Ok((ticks(11)? + ticks(12)?) / per_second)
}

/// A process that dies with the thread that started it (see `leash`) and when this value is dropped.
#[derive(Debug)]
pub struct Process {
    /// What people call it, e.g. `server-3`.
    pub name: String,
    /// The real executable, not the leash.
    pub exe: PathBuf,
    /// Its own folder; its stderr is in `NAME.log` there, its stdout in `NAME.out`.
    pub dir: PathBuf,
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Process {
    /// Starts `exe args…` in `dir`, stdout to `line` and `dir/NAME.out`, stderr to `dir/NAME.log` (both appended).
    pub fn start(name: &str, exe: &Path, args: &[String], dir: &Path) -> Result<Self> {
        Self::start_with(name, exe, args, dir, &[])
    }

    /// The same, with more variables in its environment.
    pub fn start_with(
        name: &str,
        exe: &Path,
        args: &[String],
        dir: &Path,
        environment: &[(String, OsString)],
    ) -> Result<Self> {
        std::fs::create_dir_all(dir).wrap_err_with(|| format!("make {}", dir.display()))?;
        let log = dir.join(format!("{name}.log"));
        let stderr = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let mut child = Command::new(binary("leash")?)
            .arg(std::process::id().to_string())
            .arg(exe)
            .args(args)
            .current_dir(dir)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .wrap_err_with(|| format!("start {name}"))?;
        let stdout = child.stdout.take().ok_or_else(|| eyre!("{name} has no stdout"))?;
        let (sender, lines) = channel();
        let mut copy = std::fs::OpenOptions::new().create(true).append(true).open(dir.join(format!("{name}.out")))?;
        // Reads to the end even when nobody listens, so that a full pipe cannot stop the child.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = writeln!(copy, "{line}");
                let _ = sender.send(line);
            }
        });
        Ok(Self { name: name.to_owned(), exe: exe.to_path_buf(), dir: dir.to_path_buf(), child, lines, log })
    }

    /// The first stdout line that `matches`, within `wait`; an error carries the end of the log.
    pub fn line(&mut self, wait: Duration, matches: impl Fn(&str) -> bool) -> Result<String> {
        let until = Instant::now() + wait;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if matches(&line) => return Ok(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!("{} said nothing in {wait:?}\n{}", self.name, self.log_tail()),
                Err(RecvTimeoutError::Disconnected) => bail!("{} ended early\n{}", self.name, self.log_tail()),
            }
        }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// SIGTERM, and waits up to `wait`; returns the exit code, None if it had to be killed or a signal ended it.
    pub fn terminate(&mut self, wait: Duration) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.end(wait)
    }

    /// Waits up to `wait` for its end; returns the exit code, None if it had to be killed or a signal ended it.
    pub fn end(&mut self, wait: Duration) -> Option<i32> {
        let until = Instant::now() + wait;
        while Instant::now() < until {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
        None
    }

    /// Everything it wrote to stderr.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
