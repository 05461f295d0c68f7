//! The witness: a small file beside the database that remembers how far the database had come.
//!
//! A database cannot tell by itself that it is an older copy of itself. The witness holds the instance id, the generation
//! and the file (inode and time of birth) of the database it belongs to, and is never part of a backup. At open:
//!
//! | found | means |
//! |---|---|
//! | generation of the database < witness | an older copy was put in its place, or its log was lost |
//! | other inode or birth | the file was copied here or restored from a file backup, perhaps together with its witness |
//! | other instance id, or no witness | the file comes from elsewhere |
//!
//! # Cost
//! After every commit the new generation is written into the witness in place (one `pwrite` of 64 bytes, about a
//! microsecond), but synced only at open, at close and every [`SYNC_EVERY`] generations: the commit's own fsync stays the
//! only one. The kernel keeps what was written when the process dies, by whatever signal, so after a crash the witness is
//! exact. After a power loss it may lag behind by up to [`SYNC_EVERY`] generations, never run ahead, because it is written
//! after the commit is on disk: a good database is never refused.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest as _, Sha256};

use crate::InstanceId;

/// Generations between two syncs of the witness.
pub(crate) const SYNC_EVERY: u32 = 256;

const MAGIC: &[u8; 8] = b"STKRWIT1";
/// Magic, instance, generation, inode, birth, checksum.
const RECORD: usize = 64;
/// Two records, written in turn and a page apart, so that a torn write leaves the older one.
const OFFSETS: [u64; 2] = [0, 4096];

/// Which file a path leads to. A copy is another file, even if it is called the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    inode: u64,
    /// Nanoseconds since 1970; 0 where the file system does not know. Inodes are used again, but not at the same time.
    born: u64,
}

impl FileIdentity {
    /// Of the file at `path`, without opening it: closing it again would drop SQLite's locks.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born = born.and_then(|born| u64::try_from(born.as_nanos()).ok()).unwrap_or(0);
        Ok(Self { inode: metadata.ino(), born })
    }

    /// Whether both are one file, as far as the file system can tell.
    pub(crate) fn is(self, other: Self) -> bool {
        self.inode == other.inode && (self.born == other.born || self.born == 0 || other.born == 0)
    }
}

/// What the witness says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) instance: InstanceId,
    pub(crate) generation: u64,
    pub(crate) file: FileIdentity,
}

impl Record {
    fn encode(&self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..24].copy_from_slice(self.instance.as_bytes());
        bytes[24..32].copy_from_slice(&self.generation.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.file.inode.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.file.born.to_le_bytes());
        let checksum = Sha256::digest(&bytes[..48]);
        bytes[48..].copy_from_slice(&checksum[..16]);
        bytes
    }

    fn decode(bytes: &[u8; RECORD]) -> Option<Self> {
        if bytes[..8] != *MAGIC || bytes[48..] != Sha256::digest(&bytes[..48])[..16] {
            return None;
        }
        let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        Some(Self {
            instance: InstanceId::from_bytes(bytes[8..24].try_into().ok()?),
            generation: number(24)?,
            file: FileIdentity { inode: number(32)?, born: number(40)? },
        })
    }
}

/// What stands at the witness's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// A file without a valid record.
    Damaged,
    Record(Record),
}

/// Reads the witness at `path`.
pub(crate) fn read(path: &Path) -> io::Result<Found> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    let [first, second] = [record_at(&file, OFFSETS[0])?, record_at(&file, OFFSETS[1])?];
    let newest = first.into_iter().chain(second).max_by_key(|record| record.generation);
    Ok(newest.map_or(Found::Damaged, Found::Record))
}

fn record_at(file: &File, offset: u64) -> io::Result<Option<Record>> {
    let mut bytes = [0; RECORD];
    match file.read_exact_at(&mut bytes, offset) {
        Ok(()) => Ok(Record::decode(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// An open witness.
#[derive(Debug)]
pub(crate) struct Witness {
    file: File,
    record: Record,
    next: usize,
    unsynced: u32,
}

impl Witness {
    /// Puts a new witness in the place of any old one, on disk when this returns.
    pub(crate) fn create(path: &Path, record: Record) -> io::Result<Self> {
        let new = with_suffix(path, ".new");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        for offset in OFFSETS {
            file.write_all_at(&record.encode(), offset)?;
        }
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        sync_folder(path)?;
        Ok(Self { file, record, next: 0, unsynced: 0 })
    }

    /// Opens the witness that [`read`] found.
    pub(crate) fn open(path: &Path, record: Record) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        // The next note goes to the half that is older, or was torn.
        let next = usize::from(record_at(&file, OFFSETS[0])? == Some(record));
        Ok(Self { file, record, next, unsynced: 0 })
    }

    /// Notes that the database reached `generation`, which must be on disk.
    pub(crate) fn note(&mut self, generation: u64) -> io::Result<()> {
        let record = Record { generation, ..self.record };
        self.file.write_all_at(&record.encode(), OFFSETS[self.next])?;
        self.record = record;
        self.next = 1 - self.next;
        self.unsynced += 1;
        if self.unsynced >= SYNC_EVERY { self.sync() } else { Ok(()) }
    }

    /// Makes the last note survive power loss.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.unsynced = 0;
        Ok(())
    }
}

/// `path` with `suffix` after its file name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Makes the names in the folder of `path` survive power loss.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(generation: u64) -> Record {
        let file = FileIdentity { inode: 5, born: 6 };
        Record { instance: InstanceId::from_bytes([7; 16]), generation, file }
    }

    fn path() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("witness");
        (folder, path)
    }

    #[test]
    fn the_newest_record_is_found_again() {
        let (_folder, path) = path();
        assert_eq!(read(&path).unwrap(), Found::Nothing);
        let mut witness = Witness::create(&path, record(1)).unwrap();
        for generation in 2..9 {
            witness.note(generation).unwrap();
            assert_eq!(read(&path).unwrap(), Found::Record(record(generation)));
        }
    }

    #[test]
    fn a_torn_write_leaves_the_record_before_it() {
        for torn in 0..RECORD {
            let (_folder, path) = path();
            let mut witness = Witness::create(&path, record(1)).unwrap();
            witness.note(2).unwrap();
            // The write of generation 3 goes to the other half and gets no further than `torn` bytes.
            witness.file.write_all_at(&record(3).encode()[..torn], OFFSETS[witness.next]).unwrap();
            let Found::Record(found) = read(&path).unwrap() else { panic!("record lost at {torn}") };
            assert_eq!(found, record(2), "{torn}");
            // The next start overwrites the torn half, not the good one.
            assert_eq!(Witness::open(&path, found).unwrap().next, witness.next);
        }
    }

    #[test]
    fn a_file_without_a_valid_record_is_damaged_not_absent() {
        let (_folder, path) = path();
        for content in [&b""[..], &[0; 10], &[0xff; 5000]] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(read(&path).unwrap(), Found::Damaged);
        }
    }

    #[test]
    fn a_copy_is_another_file() {
        let (folder, path) = path();
        std::fs::write(&path, b"one").unwrap();
        let first = FileIdentity::of(&path).unwrap();
        assert!(first.is(FileIdentity::of(&path).unwrap()));
        let copy = folder.path().join("copy");
        std::fs::copy(&path, &copy).unwrap();
        std::fs::rename(&copy, &path).unwrap();
        assert!(!first.is(FileIdentity::of(&path).unwrap()));
    }
}
