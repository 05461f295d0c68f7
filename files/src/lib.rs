//! Files that somebody names, in a configuration or as an argument: regular ones, of a bounded length, and never waited for.
//!
//! A plain `open` of a FIFO waits for a writer that may never come, and a plain read of `/dev/zero` fills the memory. Both look
//! like a program that hangs, to the person who mistyped a path and to the supervisor that restarts it.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Why a file cannot be used. The sentences begin with the path and go behind the name of what should be there.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system says no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder, FIFO, socket or device.
    #[error("{path} is {what}, not a regular file; give the path of a file")]
    NotRegular {
        /// What was named.
        path: PathBuf,
        /// Such as "a folder".
        what: &'static str,
    },
    /// Longer than whoever reads it takes.
    #[error("{path} is longer than the {most} bytes that such a file may have; give the path of another file")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Longest that is read, bytes.
        most: u64,
    },
    /// Bytes where text belongs.
    #[error("{path} is not UTF-8 text")]
    NotText {
        /// The file.
        path: PathBuf,
    },
}

impl FileError {
    /// The same without the path, for a sentence that names it.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Io { source, .. } => source.to_string(),
            Self::NotRegular { what, .. } => format!("it is {what}, not a regular file"),
            Self::TooLong { most, .. } => format!("it is longer than {most} bytes"),
            Self::NotText { .. } => "it is not UTF-8 text".to_owned(),
        }
    }

    /// Nothing has this name.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> FileError + use<> {
    let path = path.to_owned();
    move |source| FileError::Io { path, source }
}

/// Opens a regular file of at most `most` bytes for reading, without waiting. What was looked at is what was opened: a name
/// that is changed in between changes nothing. The file may still grow; [`read`] bounds that too.
///
/// # Errors
/// All but [`FileError::NotText`].
pub fn open(path: &Path, most: u64) -> Result<(File, Metadata), FileError> {
    // Without NONBLOCK the open itself waits for a FIFO's writer; on a regular file it changes nothing. NOCTTY: a terminal
    // must not become that of a daemon.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let file = File::from(opened.map_err(|error| match error {
        // What a socket says.
        rustix::io::Errno::NXIO => FileError::NotRegular { path: path.to_owned(), what: "a socket or device" },
        error => io_error(path)(error.into()),
    })?);
    let metadata = file.metadata().map_err(io_error(path))?;
    if !metadata.is_file() {
        return Err(FileError::NotRegular { path: path.to_owned(), what: what(&metadata) });
    }
    if metadata.len() > most {
        return Err(FileError::TooLong { path: path.to_owned(), most });
    }
    Ok((file, metadata))
}

fn what(metadata: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = metadata.file_type();
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else {
        "a device"
    }
}

/// The whole content of a regular file of at most `most` bytes.
///
/// # Errors
/// All but [`FileError::NotText`].
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, FileError> {
    let (file, metadata) = open(path, most)?;
    let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0).saturating_add(1));
    file.take(most.saturating_add(1)).read_to_end(&mut content).map_err(io_error(path))?;
    if u64::try_from(content.len()).is_ok_and(|length| length > most) {
        return Err(FileError::TooLong { path: path.to_owned(), most });
    }
    Ok(content)
}

/// The same where it is text.
///
/// # Errors
/// [`FileError`].
pub fn read_text(path: &Path, most: u64) -> Result<String, FileError> {
    String::from_utf8(read(path, most)?).map_err(|_| FileError::NotText { path: path.to_owned() })
}

/// Refuses what is there and is no regular file, before somebody else opens it (SQLite waits for a FIFO as well). A name that
/// leads nowhere is fine.
///
/// # Errors
/// [`FileError::NotRegular`], and where the operating system does not let us look.
pub fn check_regular(path: &Path) -> Result<(), FileError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(metadata) => Err(FileError::NotRegular { path: path.to_owned(), what: what(&metadata) }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error(path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_a_folder_a_socket_and_a_device_are_refused_at_once_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, socket) = (folder.path().join("pipe"), folder.path().join("socket"));
        // Nobody ever writes to it: a plain open would wait for ever.
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RWXU).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let named = [
            (pipe.as_path(), "a pipe"),
            (folder.path(), "a folder"),
            (socket.as_path(), "a socket or device"),
            (Path::new("/dev/zero"), "a device"),
        ];
        for (path, word) in named {
            let error = read(path, 1_000).unwrap_err();
            assert!(matches!(error, FileError::NotRegular { what, .. } if what == word), "{error}");
            assert!(error.to_string().contains("not a regular file; give the path of a file"), "{error}");
            assert!(matches!(check_regular(path), Err(FileError::NotRegular { .. })));
        }
        check_regular(&folder.path().join("nothing")).unwrap();
        assert!(read(&folder.path().join("nothing"), 1_000).unwrap_err().is_not_found());
    }

    #[test]
    fn a_file_is_read_up_to_its_bound_and_not_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [b'a'; 10]).unwrap();
        assert_eq!(read(&path, 10).unwrap(), [b'a'; 10]);
        assert_eq!(read_text(&path, 10).unwrap(), "aaaaaaaaaa");
        assert!(matches!(read(&path, 9), Err(FileError::TooLong { most: 9, .. })));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(matches!(read_text(&path, 10), Err(FileError::NotText { .. })));
        // The kernel says that files in /proc have no byte, and they have.
        assert!(matches!(read(Path::new("/proc/self/status"), 9), Err(FileError::TooLong { most: 9, .. })));
    }
}
