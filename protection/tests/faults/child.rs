//! Starting this binary again, over a failing disk or on a small one.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use alloy_primitives::B256;
use stkr_protection::{Attestation, Block, Duty, Now, Protection, Pubkey, Request, Verdict};

pub(crate) const NETWORK: B256 = B256::repeat_byte(0x11);
pub(crate) const NOW: Now = Now { slot: 1_000_000, epoch: 1_000_000 };

/// A database on a disk that can fail, and beside it what tells the disk and what hears from it.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        // In memory, where that is possible: what survives is decided by `disk.c`, and its calls are the same.
        let memory = Path::new("/dev/shm");
        let folder = if memory.exists() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let bench = Self { folder };
        fs::create_dir(bench.folder.path().join("disk")).unwrap();
        bench
    }

    /// With a database of some keys.
    pub(crate) fn with_keys(count: u8) -> Self {
        let bench = Self::new();
        let keys: Vec<_> = (1..=count).map(Pubkey::repeat_byte).collect();
        Protection::create(&bench.database(), NETWORK).unwrap().register(&keys, None).unwrap();
        bench
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.disk().join("protection.db")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs one of this binary's tests as a child over the failing disk.
    pub(crate) fn run(&self, test: &str, variables: &[(&str, &str)]) -> Output {
        let mut command = self.command(test);
        command.env("LD_PRELOAD", preload());
        command.envs(variables.iter().copied());
        command.output().unwrap()
    }

    pub(crate) fn command(&self, test: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", test, "--nocapture"])
            .env("STKR_TEST_BENCH", self.folder.path())
            .env("STKR_DISK", format!("{}/", self.disk().display()))
            .env("STKR_DISK_LOG", self.file("log"))
            .env("STKR_DISK_FAULT", self.file("fault"));
        command
    }

    /// What the disk did, call by call.
    pub(crate) fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.file("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

/// The bench of the parent, in a child; `None` in the parent, where the test is nothing but this.
pub(crate) struct InChild(PathBuf);

impl InChild {
    pub(crate) fn get() -> Option<Self> {
        std::env::var_os("STKR_TEST_BENCH").map(|path| Self(path.into()))
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.0.join("disk/protection.db")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn open(&self) -> Protection {
        Protection::open(&self.database(), NETWORK, None).unwrap()
    }

    /// Tells the disk what to do from now on.
    pub(crate) fn fault(&self, what: &str) {
        fs::write(self.file("fault"), what).unwrap();
    }

    /// Calls the disk has seen: writes and syncs.
    pub(crate) fn calls(&self) -> (usize, usize) {
        let log = fs::read_to_string(self.file("log")).unwrap_or_default();
        let count = |kind| log.lines().filter(|line| line.starts_with(kind)).count();
        (count("write "), count("fsync "))
    }

    /// Tells the world that a signature was made; nobody can take it back.
    pub(crate) fn report(&self, request: &Request) {
        let mut line = String::new();
        let number = request.pubkey[0];
        match request.duty {
            Duty::Block(Block { slot, signing_root }) => writeln!(line, "{number} block 0 {slot} {signing_root}"),
            Duty::Attestation(Attestation { source_epoch, target_epoch, signing_root }) => {
                writeln!(line, "{number} vote {source_epoch} {target_epoch} {signing_root}")
            }
        }
        .unwrap();
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.file("signed")).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

/// The child ran the test it was started for, to its end.
pub(crate) fn check_passed(output: &Output) {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// What children reported as signed.
pub(crate) fn signed(bench: &Bench) -> Vec<Request> {
    let text = fs::read_to_string(bench.file("signed")).unwrap_or_default();
    text.lines()
        .map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            let number = |index: usize| words[index].parse::<u64>().unwrap();
            let pubkey = Pubkey::repeat_byte(words[0].parse().unwrap());
            let signing_root = words[4].parse().unwrap();
            let duty = match words[1] {
                "block" => Duty::Block(Block { slot: number(3), signing_root }),
                _ => Duty::Attestation(Attestation { source_epoch: number(2), target_epoch: number(3), signing_root }),
            };
            Request { pubkey, duty }
        })
        .collect()
}

/// Every reported signature is in the database: the same is known, another root is refused.
pub(crate) fn check_signed(protection: &Protection, signed: &[Request]) {
    for request in signed {
        let mut other = *request;
        match &mut other.duty {
            Duty::Block(block) => block.signing_root = B256::repeat_byte(0xee),
            Duty::Attestation(attestation) => attestation.signing_root = B256::repeat_byte(0xee),
        }
        let verdicts = protection.check_and_record(&[*request, other], NOW).unwrap();
        assert_eq!(verdicts[0], Verdict::SameAgain, "{request:?} was signed and is not in the database");
        assert!(matches!(verdicts[1], Verdict::Slashable(_)), "{other:?}: {}", verdicts[1]);
    }
}

pub(crate) fn block(number: u8, slot: u64, root: u64) -> Request {
    Request { pubkey: Pubkey::repeat_byte(number), duty: Duty::Block(Block { slot, signing_root: signing_root(root) }) }
}

pub(crate) fn vote(number: u8, source_epoch: u64, target_epoch: u64, root: u64) -> Request {
    let attestation = Attestation { source_epoch, target_epoch, signing_root: signing_root(root) };
    Request { pubkey: Pubkey::repeat_byte(number), duty: Duty::Attestation(attestation) }
}

fn signing_root(number: u64) -> B256 {
    B256::from(alloy_primitives::U256::from(number))
}

/// `disk.c`, compiled once.
fn preload() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/disk.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disk-{}.so", std::process::id()));
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let status = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&library, &source])
            .status()
            .unwrap();
        assert!(status.success(), "disk.c does not compile");
        library
    })
}
