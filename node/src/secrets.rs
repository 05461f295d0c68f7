//! Secrets live in files that only their owner can read, and in memory that is wiped.
//!
//! A secret is never a command-line argument (visible in the process list) nor an environment variable (inherited by
//! children, printed by crash reporters). Errors name the file, never its content.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use stkr_files::FileError;
use zeroize::Zeroizing;

/// Largest secret file read; anything longer is not a secret of ours.
pub const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// The name of a file, unless somebody wrote the secret itself in its place: that must not get into a log.
fn shown(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let digits = name.strip_prefix("0x").unwrap_or(&name);
    if digits.len() >= 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return "(its name looks like a key: write the key into a file and give the file's name)".to_owned();
    }
    path.display().to_string()
}

/// Why a secret file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be opened, read or written.
    #[error("cannot {action} secret file {}: {source}", shown(.path))]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Somebody else could read it, so it has to be taken as known to them.
    #[error(
        "secret file {path} is readable by group or others (mode {mode:04o}); run `chmod 600` on it, and replace the secret if others use this machine"
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A folder, pipe or device.
    #[error("secret file {path} is {what}, not a regular file; write the secret into a file and give its name")]
    NotAFile {
        /// What was named.
        path: PathBuf,
        /// Such as "a folder".
        what: &'static str,
    },
    /// Longer than [`MAX_SECRET_BYTES`].
    #[error("secret file {path} has {bytes} bytes, more than the {MAX_SECRET_BYTES} a secret may have")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// Empty, or only white space.
    #[error("secret file {0} is empty")]
    Empty(PathBuf),
    /// Not what the caller expected (hex of a given length, UTF-8).
    #[error("secret file {path} does not hold {expected}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// A file of this name exists and would have been replaced.
    #[error("secret file {0} exists already; move it away first if it is really no longer needed")]
    Exists(PathBuf),
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SecretError + use<> {
    let path = path.to_owned();
    move |source| SecretError::Io { action, path, source }
}

fn not_opened(error: FileError) -> SecretError {
    match error {
        FileError::Io { path, source } => SecretError::Io { action: "open", path, source },
        FileError::NotRegular { path, what } => SecretError::NotAFile { path, what },
        FileError::TooLong { path, most } => SecretError::TooLong { path, bytes: most },
        FileError::NotText { path } => SecretError::Malformed { path, expected: "UTF-8 text" },
    }
}

/// Reads a whole secret file. Permissions are taken from the opened file, so it cannot be swapped in between.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    // The length is looked at after the permissions: who must not read a file learns nothing of it.
    let (mut file, metadata) = stkr_files::open(path, u64::MAX).map_err(not_opened)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Permissions { path: path.to_owned(), mode });
    }
    if metadata.len() > MAX_SECRET_BYTES {
        return Err(SecretError::TooLong { path: path.to_owned(), bytes: metadata.len() });
    }
    // Room for the whole file at once: a growing buffer would leave unwiped copies behind.
    let capacity = usize::try_from(metadata.len()).unwrap_or(0) + 1;
    let mut content = Zeroizing::new(Vec::with_capacity(capacity));
    (&mut file).take(MAX_SECRET_BYTES + 1).read_to_end(&mut content).map_err(io_error("read", path))?;
    Ok(content)
}

/// Reads a password or other text: UTF-8, line ends at the end cut off, never empty.
pub fn read_text(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    let content = read(path)?;
    let text = std::str::from_utf8(&content)
        .map_err(|_| SecretError::Malformed { path: path.to_owned(), expected: "UTF-8 text" })?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() {
        return Err(SecretError::Empty(path.to_owned()));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// Reads 32 bytes in hex, with or without `0x`.
pub fn read_hex32(path: &Path) -> Result<Zeroizing<[u8; 32]>, SecretError> {
    let text = read_text(path)?;
    let digits = text.trim().trim_start_matches("0x");
    let mut bytes = Zeroizing::new([0_u8; 32]);
    hex::decode_to_slice(digits, bytes.as_mut_slice())
        .map_err(|_| SecretError::Malformed { path: path.to_owned(), expected: "32 bytes in hex" })?;
    Ok(bytes)
}

/// Writes a secret to a *new* file, mode 0600: complete and on disk, or not there at all.
///
/// Refuses to replace an existing file: an overwritten signer key cannot be brought back.
pub fn write_new(path: &Path, content: &[u8]) -> Result<(), SecretError> {
    let temporary = write_temporary(path, content)?;
    // A hard link fails where the name exists; rename would silently replace it.
    let linked = fs::hard_link(&temporary, path);
    let removed = fs::remove_file(&temporary);
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(SecretError::Exists(path.to_owned()));
        }
        other => other.map_err(io_error("write", path))?,
    }
    removed.map_err(io_error("write", path))?;
    sync_folder(path)
}

/// Writes a secret, mode 0600, replacing what was there: readers see the old content or the new, never a mixture.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), SecretError> {
    let temporary = write_temporary(path, content)?;
    fs::rename(&temporary, path).map_err(io_error("replace", path))?;
    sync_folder(path)
}

/// Moves a secret file over another, which is gone then: on disk, or not moved at all.
pub fn rename(from: &Path, to: &Path) -> Result<(), SecretError> {
    fs::rename(from, to).map_err(io_error("replace", to))?;
    sync_folder(to)?;
    sync_folder(from)
}

/// Writes 32 secret bytes as `0x` hex to a new file.
pub fn write_hex32(path: &Path, secret: &[u8; 32]) -> Result<(), SecretError> {
    let mut text = Zeroizing::new([0_u8; 67]);
    text[..2].copy_from_slice(b"0x");
    // 64 digits into 64 bytes: cannot fail, but a failure would be reported as a malformed secret.
    hex::encode_to_slice(secret, &mut text[2..66])
        .map_err(|_| SecretError::Malformed { path: path.to_owned(), expected: "32 bytes in hex" })?;
    text[66] = b'\n';
    write_new(path, text.as_slice())
}

/// `len` random bytes as lowercase hex: a password nobody has to remember.
pub fn random_password(len: usize) -> Result<Zeroizing<String>, getrandom::Error> {
    let mut bytes = Zeroizing::new(vec![0_u8; len]);
    getrandom::fill(&mut bytes)?;
    Ok(Zeroizing::new(hex::encode(bytes.as_slice())))
}

/// Creates `folder` (and its parents) so that only its owner can enter it.
pub fn create_private_folder(folder: &Path) -> Result<(), SecretError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io_error("create folder for", folder))
}

fn write_temporary(path: &Path, content: &[u8]) -> Result<PathBuf, SecretError> {
    let mut suffix = [0_u8; 8];
    getrandom::fill(&mut suffix).map_err(|error| io_error("write", path)(io::Error::other(error)))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", hex::encode(suffix)));
    let temporary = path.with_file_name(name);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()));
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(io_error("write", path)(error));
    }
    Ok(temporary)
}

/// A new name is on disk only once its folder is.
fn sync_folder(path: &Path) -> Result<(), SecretError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_the_place_of_a_file_name_is_not_said() {
        let secret = format!("0x{}", "5a".repeat(32));
        let error = read_hex32(&Path::new("/nowhere").join(&secret)).unwrap_err().to_string();
        assert!(error.contains("looks like a key") && !error.contains("5a5a"), "{error}");
        assert!(read_hex32(Path::new("/nowhere/duty.key")).unwrap_err().to_string().contains("/nowhere/duty.key"));
    }

    #[test]
    fn a_written_secret_reads_back_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_hex32(&path, &[7; 32]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(*read_hex32(&path).unwrap(), [7; 32]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_secret_that_group_or_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_new(&path, b"hunter2\n").unwrap();
        for mode in [0o640, 0o604, 0o660, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read(&path), Err(SecretError::Permissions { mode: seen, .. }) if seen == mode));
        }
    }

    #[test]
    fn an_existing_secret_is_never_overwritten_by_write_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_new(&path, b"first").unwrap();
        assert!(matches!(write_new(&path, b"second"), Err(SecretError::Exists(_))));
        assert_eq!(read(&path).unwrap().as_slice(), b"first");
        replace(&path, b"third").unwrap();
        assert_eq!(read(&path).unwrap().as_slice(), b"third");
    }

    #[test]
    fn no_error_shows_what_the_file_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_new(&path, b"0xabadcafe-not-hex").unwrap();
        let error = read_hex32(&path).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("abadcafe"));
    }

    #[test]
    fn folders_and_giants_and_blanks_are_no_secrets() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read(folder.path()), Err(SecretError::NotAFile { what: "a folder", .. })));
        let pipe = folder.path().join("pipe");
        // Nobody ever writes to it: a plain open would wait for ever.
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        assert!(matches!(read_text(&pipe), Err(SecretError::NotAFile { what: "a pipe", .. })));
        let blank = folder.path().join("blank");
        write_new(&blank, b"\n\n").unwrap();
        assert!(matches!(read_text(&blank), Err(SecretError::Empty(_))));
        let giant = folder.path().join("giant");
        write_new(&giant, &vec![b'a'; 70_000]).unwrap();
        assert!(matches!(read(&giant), Err(SecretError::TooLong { bytes: 70_000, .. })));
    }
}
