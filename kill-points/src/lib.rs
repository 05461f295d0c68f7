//! Named places at which a test ends a process, as SIGKILL or a power switch would: between two steps of a signature that
//! must survive it.
//!
//! ```
//! stkr_kill_points::kill_point!("example.recorded");
//! ```
//!
//! The places cost nothing where nobody may use them. Without the feature `armed`, which only the end-to-end tests enable,
//! and without `debug_assertions`, which no release has, [`kill_point!`] expands to nothing and [`ARMED`] is false.
//!
//! An armed process reads the file that the variable `STKR_KILL_POINT` names whenever it passes a point: `NAME COUNT`. When it
//! has passed NAME for the COUNTth time since the file was written, it renames the file to `….hit`, so that the test knows
//! why it ended, and kills itself. Without that variable or file it goes on.

/// Whether this build has kill points.
pub const ARMED: bool = cfg!(all(feature = "armed", debug_assertions));

/// The variable that names the file.
pub const VARIABLE: &str = "STKR_KILL_POINT";

/// Ends the process here if a test has asked for it.
#[cfg(all(feature = "armed", debug_assertions))]
#[macro_export]
macro_rules! kill_point {
    ($name:literal) => {
        $crate::pass($name)
    };
}

/// Nothing: this build has no kill points.
#[cfg(not(all(feature = "armed", debug_assertions)))]
#[macro_export]
macro_rules! kill_point {
    ($name:literal) => {};
}

#[cfg(all(feature = "armed", debug_assertions))]
pub use armed::{die, pass, reached};

/// Never: this build has no kill points.
#[cfg(not(all(feature = "armed", debug_assertions)))]
#[must_use]
pub const fn reached(_name: &str) -> bool {
    false
}

/// Nothing: this build has no kill points.
#[cfg(not(all(feature = "armed", debug_assertions)))]
pub const fn die() {}

/// A kill point whose name is worked out: none of those that lie between a request for a duty and its answer, which are
/// [`kill_point!`]s so that a search of the source finds them.
pub fn may_end_at(name: &str) {
    if reached(name) {
        die();
    }
}

#[cfg(all(feature = "armed", debug_assertions))]
mod armed {
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, OnceLock, PoisonError};

    /// What the file said when it was last read, and how often its point was passed since.
    static PASSED: Mutex<(String, u64)> = Mutex::new((String::new(), 0));

    fn file() -> Option<&'static PathBuf> {
        static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
        FILE.get_or_init(|| std::env::var_os(super::VARIABLE).map(PathBuf::from)).as_ref()
    }

    /// Whether the process has to end at this point, now. The caller then calls [`die`].
    #[must_use]
    pub fn reached(name: &str) -> bool {
        file().is_some_and(|file| reached_in(file, name))
    }

    pub(crate) fn reached_in(file: &Path, name: &str) -> bool {
        let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if passed.0 != text {
            *passed = (text, 0);
        }
        let Some((wanted, count)) = passed.0.split_once(' ') else { return false };
        if wanted != name {
            return false;
        }
        let count: u64 = count.trim().parse().unwrap_or(1);
        passed.1 = passed.1.saturating_add(1);
        // Of several threads one is it: the others find no file.
        passed.1 == count && std::fs::rename(file, file.with_extension("hit")).is_ok()
    }

    /// SIGKILL to this process.
    pub fn die() {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }

    /// Ends the process if this is the point, and the time.
    pub fn pass(name: &str) {
        if reached(name) {
            die();
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(all(feature = "armed", debug_assertions))]
    fn the_named_point_is_reached_at_the_named_count_and_once() {
        use super::armed::reached_in;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kill");
        assert!(!reached_in(&file, "one"));
        std::fs::write(&file, "one 2").unwrap();
        assert!(!reached_in(&file, "one") && !reached_in(&file, "other"));
        assert!(reached_in(&file, "one"));
        assert!(!reached_in(&file, "one") && !file.exists() && file.with_extension("hit").exists());
        std::fs::write(&file, "other 1").unwrap();
        assert!(!reached_in(&file, "one") && reached_in(&file, "other"));
    }

    #[test]
    fn without_a_file_a_process_goes_on() {
        crate::kill_point!("test.nothing");
        assert!(!crate::reached("test.nothing"));
    }
}
