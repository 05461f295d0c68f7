//! What a partial signature costs without anything of ours around it, in CPU seconds of this process.

use blst::min_pk::SecretKey;
use eyre::{Result, eyre};
use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use stkr_e2e::process::cpu_seconds;

const TAG: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
const SIGNATURES: u32 = 4_000;
const SYNCS: u32 = 2_000;
/// What a transaction of slashing protection appends to its log at least: two pages with their headers.
const APPENDED: [u8; 2 * (4096 + 24)] = [0x5a; 2 * (4096 + 24)];

/// CPU seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bare {
    /// blst: hash a root to the curve and sign it.
    pub(crate) sign: f64,
    /// Append to a file and wait for the disk.
    pub(crate) sync: f64,
}

pub(crate) fn measure(dir: &Path) -> Result<Bare> {
    let secret = SecretKey::key_gen(&[7; 32], &[]).map_err(|error| eyre!("blst: {error:?}"))?;
    let own = std::process::id();
    let start = cpu_seconds(own)?;
    for number in 0..SIGNATURES {
        let mut root = [0x42; 32];
        root[..4].copy_from_slice(&number.to_be_bytes());
        black_box(secret.sign(&root, TAG, &[]));
    }
    let signed = cpu_seconds(own)?;
    let mut file = std::fs::File::create(dir.join("syncs"))?;
    for _ in 0..SYNCS {
        file.write_all(&APPENDED)?;
        file.sync_data()?;
    }
    let synced = cpu_seconds(own)?;
    Ok(Bare { sign: (signed - start) / f64::from(SIGNATURES), sync: (synced - signed) / f64::from(SYNCS) })
}
