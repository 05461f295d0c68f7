//! One batch of attestations, all safe, from request to verdict on disk; and what the disk alone takes in the same run.
//!
//! Every key attests once per batch, in the next epoch, as on a chain. The floor is one append and one fsync of as many
//! bytes as the batch adds to SQLite's log.
#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench may panic")]

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use alloy_primitives::B256;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use stkr_protection::{Attestation, Duty, Now, Protection, Pubkey, Request, Verdict};

/// Batch sizes: alone, a small server, the attestations of one slot of a large one.
const SIZES: [u16; 3] = [1, 16, 256];
const NOW: Now = Now { slot: 1 << 40, epoch: 1 << 40 };

fn keys(count: u16) -> Vec<Pubkey> {
    let key = |index: u16| {
        let mut key = [0; 48];
        key[..2].copy_from_slice(&index.to_be_bytes());
        Pubkey::from(key)
    };
    (0..count).map(key).collect()
}

fn batch(keys: &[Pubkey], epoch: u64) -> Vec<Request> {
    let duty = Duty::Attestation(Attestation {
        source_epoch: epoch - 1,
        target_epoch: epoch,
        signing_root: B256::with_last_byte(7),
    });
    keys.iter().map(|pubkey| Request { pubkey: *pubkey, duty }).collect()
}

fn folder() -> tempfile::TempDir {
    // On the disk that holds target/, not on a tmpfs.
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn open(folder: &Path, keys: &[Pubkey]) -> Protection {
    let protection = Protection::create(&folder.join("protection.db"), B256::ZERO).unwrap();
    protection.register(keys, None).unwrap();
    protection
}

fn check_and_record(c: &mut Criterion) {
    let mut group = c.benchmark_group("check_and_record");
    for size in SIZES {
        let (folder, keys) = (folder(), keys(size));
        let protection = open(folder.path(), &keys);
        let mut epoch = 0;
        group.throughput(Throughput::Elements(u64::from(size)));
        group.bench_function(format!("batch={size}"), |b| {
            b.iter_batched(
                || {
                    epoch += 1;
                    batch(&keys, epoch)
                },
                |batch| {
                    let verdicts = protection.check_and_record(&batch, NOW).unwrap();
                    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Safe));
                },
                BatchSize::PerIteration,
            );
        });
        // The same again: lookups without a write.
        let again = batch(&keys, epoch);
        group.bench_function(format!("same_again/batch={size}"), |b| {
            b.iter(|| protection.check_and_record(&again, NOW).unwrap());
        });
    }
    group.finish();
}

/// SQLite's log grows by a header and a page per page changed: one per key, and the row with the generation.
fn fsync_floor(c: &mut Criterion) {
    let mut group = c.benchmark_group("fsync_floor");
    for size in SIZES {
        let folder = folder();
        let path = folder.path().join("log");
        let bytes = vec![0x5a; (usize::from(size) + 1) * (4096 + 24)];
        let mut file: File = OpenOptions::new().create(true).append(true).open(path).unwrap();
        group.bench_function(format!("bytes={}", bytes.len()), |b| {
            b.iter(|| {
                file.write_all(&bytes).unwrap();
                file.sync_data().unwrap();
            });
        });
    }
    group.finish();
}

/// What the witness adds to a commit, and what it would add if it were synced each time.
fn witness(c: &mut Criterion) {
    let folder = folder();
    let file = File::create(folder.path().join("witness")).unwrap();
    file.write_all_at(&[0; 8192], 0).unwrap();
    file.sync_all().unwrap();
    let mut group = c.benchmark_group("witness");
    group.bench_function("pwrite", |b| b.iter(|| file.write_all_at(&[1; 64], 4096).unwrap()));
    group.bench_function("pwrite_and_fsync", |b| {
        b.iter(|| {
            file.write_all_at(&[1; 64], 4096).unwrap();
            file.sync_data().unwrap();
        });
    });
    group.finish();
}

criterion_group!(benches, fsync_floor, check_and_record, witness);
criterion_main!(benches);
