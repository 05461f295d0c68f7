//! What the tests share.

use std::path::{Path, PathBuf};

use alloy_primitives::B256;
use proptest::prelude::ProptestConfig;
use stkr_protection::{Attestation, Block, Conflict, Duty, Now, Protection, Pubkey, Request, Verdict};

pub(crate) const NETWORK: B256 = B256::repeat_byte(0x11);
pub(crate) const NOW: Now = Now { slot: 1_000_000, epoch: 1_000_000 };

pub(crate) struct Folder {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("protection.db");
        Self { folder, path }
    }

    /// In memory, where that is possible: for tests of what is answered, not of what survives.
    pub(crate) fn quick() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.exists() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let path = folder.path().join("protection.db");
        Self { folder, path }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn create(&self) -> Protection {
        Protection::create(&self.path, NETWORK).unwrap()
    }

    pub(crate) fn open(&self) -> Protection {
        open(&self.path)
    }
}

pub(crate) fn open(path: &Path) -> Protection {
    Protection::open(path, NETWORK, None).unwrap()
}

/// So many cases, or as many as `PROPTEST_CASES` says.
pub(crate) fn cases(count: u32) -> ProptestConfig {
    let count = std::env::var("PROPTEST_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(count);
    ProptestConfig { cases: count, failure_persistence: None, ..ProptestConfig::default() }
}

/// A new database with key 1.
pub(crate) fn fresh() -> (Folder, Protection) {
    let folder = Folder::new();
    let protection = folder.create();
    protection.register(&[key(1)], None).unwrap();
    (folder, protection)
}

pub(crate) fn key(number: u8) -> Pubkey {
    Pubkey::repeat_byte(number)
}

pub(crate) fn root(number: u64) -> B256 {
    B256::from(alloy_primitives::U256::from(number))
}

pub(crate) fn block(pubkey: Pubkey, slot: u64, signing_root: u64) -> Request {
    Request { pubkey, duty: Duty::Block(Block { slot, signing_root: root(signing_root) }) }
}

pub(crate) fn vote(pubkey: Pubkey, source_epoch: u64, target_epoch: u64, signing_root: u64) -> Request {
    let attestation = Attestation { source_epoch, target_epoch, signing_root: root(signing_root) };
    Request { pubkey, duty: Duty::Attestation(attestation) }
}

pub(crate) fn ask(protection: &Protection, request: Request) -> Verdict {
    protection.check_and_record(&[request], NOW).unwrap().remove(0)
}

/// Asks several in turn, each in a batch of its own.
pub(crate) fn ask_all<const N: usize>(protection: &Protection, requests: [Request; N]) -> [Verdict; N] {
    requests.map(|request| ask(protection, request))
}

/// The kind of a conflict, for comparison.
pub(crate) fn kind(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Safe => "safe",
        Verdict::SameAgain => "same again",
        Verdict::Slashable(Conflict::DoubleProposal { .. }) => "double proposal",
        Verdict::Slashable(Conflict::DoubleVote { .. }) => "double vote",
        Verdict::Slashable(Conflict::Surrounding { .. }) => "surrounding",
        Verdict::Slashable(Conflict::Surrounded { .. }) => "surrounded",
        Verdict::Slashable(Conflict::LowSlot { .. }) => "low slot",
        Verdict::Slashable(Conflict::LowSource { .. }) => "low source",
        Verdict::Slashable(Conflict::LowTarget { .. }) => "low target",
        Verdict::FarFuture { .. } => "far future",
        Verdict::SourceNotBeforeTarget { .. } => "source not before target",
        Verdict::Unregistered => "unregistered",
        Verdict::Inactive => "inactive",
        Verdict::NeedsImport => "needs import",
    }
}

pub(crate) fn import(protection: &Protection, json: &str) -> stkr_protection::ImportReport {
    protection.import(json.as_bytes(), NOW).unwrap()
}

pub(crate) fn export(protection: &Protection) -> String {
    let mut json = Vec::new();
    protection.export(&mut json, None).unwrap();
    String::from_utf8(json).unwrap()
}

/// Of one key, slots of blocks and epochs of attestations.
type Entry<'a> = (Pubkey, &'a [u64], &'a [(u64, u64)]);

/// An interchange file of [`NETWORK`], all without roots.
pub(crate) fn file(keys: &[Entry<'_>]) -> String {
    let entries: Vec<String> = keys
        .iter()
        .map(|(pubkey, blocks, attestations)| {
            let blocks: Vec<_> = blocks.iter().map(|slot| format!(r#"{{"slot":"{slot}"}}"#)).collect();
            let attestations: Vec<_> = attestations
                .iter()
                .map(|(source, target)| format!(r#"{{"source_epoch":"{source}","target_epoch":"{target}"}}"#))
                .collect();
            let (blocks, attestations) = (blocks.join(","), attestations.join(","));
            format!(r#"{{"pubkey":"{pubkey}","signed_blocks":[{blocks}],"signed_attestations":[{attestations}]}}"#)
        })
        .collect();
    format!(
        r#"{{"metadata":{{"interchange_format_version":"5","genesis_validators_root":"{NETWORK}"}},"data":[{}]}}"#,
        entries.join(",")
    )
}

/// An interchange file that names no key.
pub(crate) fn empty_interchange() -> String {
    format!(r#"{{"metadata":{{"interchange_format_version":"5","genesis_validators_root":"{NETWORK}"}},"data":[]}}"#)
}
