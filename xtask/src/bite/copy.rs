//! A copy of the repository in which defences are taken out, so that a crash leaves none out of the repository.

use crate::bite::select::Packages;
use crate::run;
use eyre::{Context, Result, bail};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The files of the repository under target/bite/NAME, with a build folder of its own.
pub(crate) struct Copy {
    dir: PathBuf,
}

impl Copy {
    /// The copy of this name as the repository is now, whatever an earlier run has left in it.
    pub(crate) fn make(name: &str) -> Result<Self> {
        let dir = run::root().join("target/bite").join(name);
        std::fs::create_dir_all(&dir)?;
        if !dir.join(".git").exists() {
            git(&dir, &["init", "--quiet"])?;
        }
        sync(&run::root(), &dir)?;
        let modules = dir.join("node_modules");
        if !modules.exists() {
            std::os::unix::fs::symlink(run::root().join("node_modules"), &modules)?;
        }
        if name == "cargo" && !dir.join("target").exists() {
            seed(&run::root().join("target/debug"), &dir.join("target/debug"), &Packages::of(&dir)?)?;
        }
        Ok(Self { dir })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn apply(&self, patch: &Path) -> Result<()> {
        git(&self.dir, &["apply", &patch.to_string_lossy()]).map(drop)
    }

    pub(crate) fn reverse(&self, patch: &Path) -> Result<()> {
        git(&self.dir, &["apply", "--reverse", &patch.to_string_lossy()]).map(drop)
    }
}

fn git(dir: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new("git").args(args).current_dir(dir).output().wrap_err("start git")?;
    if !output.status.success() {
        bail!("`git {}` failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    String::from_utf8(output.stdout).wrap_err("what git printed")
}

/// What git would take from `dir`.
fn files(dir: &Path) -> Result<BTreeSet<String>> {
    let list = git(dir, &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
    Ok(list.split_terminator('\0').map(String::from).filter(|file| dir.join(file).is_file()).collect())
}

/// Makes the files of `to` those of `from`. Writes only what differs, so that the rest keeps its time and stays built; removes
/// what `from` no longer has: a test that is gone would still be compiled.
fn sync(from: &Path, to: &Path) -> Result<()> {
    let wanted = files(from)?;
    for file in &wanted {
        let (from, to) = (from.join(file), to.join(file));
        let content = std::fs::read(&from).wrap_err_with(|| format!("read {}", from.display()))?;
        if std::fs::read(&to).is_ok_and(|old| old == content) {
            continue;
        }
        std::fs::create_dir_all(to.parent().unwrap_or(&to))?;
        std::fs::write(&to, content).wrap_err_with(|| format!("write {}", to.display()))?;
        std::fs::set_permissions(&to, std::fs::metadata(&from)?.permissions())?;
    }
    for file in files(to)?.difference(&wanted) {
        std::fs::remove_file(to.join(file)).wrap_err_with(|| format!("remove {file}"))?;
    }
    Ok(())
}

/// Takes over what cargo has built of other people's crates. Ours have another path there and would only take room.
fn seed(from: &Path, to: &Path, packages: &Packages) -> Result<()> {
    for folder in ["deps", "build", ".fingerprint"] {
        let (from, to) = (from.join(folder), to.join(folder));
        let entries = match std::fs::read_dir(&from) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.wrap_err_with(|| format!("read {}", from.display()))?,
        };
        let mut theirs = Vec::new();
        for entry in entries {
            let entry = entry?;
            if !packages.made(&entry.file_name().to_string_lossy()) {
                theirs.push(entry.path());
            }
        }
        std::fs::create_dir_all(&to)?;
        // With their times, which cargo compares.
        for some in theirs.chunks(500) {
            run::run_quietly(Command::new("cp").arg("-a").args(some).arg(&to))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of its own under target/, removed in the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let dir = run::root().join(format!("target/tmp/bite-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            git(&dir, &["init", "--quiet"]).unwrap();
            Self(dir)
        }

        fn write(&self, file: &str, text: &str) {
            let path = self.0.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_copy_has_the_files_of_the_repository_and_no_others_and_keeps_what_is_ignored() {
        let (from, to) = (Folder::new("from"), Folder::new("to"));
        from.write("src/a.rs", "new");
        from.write(".gitignore", "/target\n");
        from.write("target/built", "here");
        to.write("src/a.rs", "patched");
        to.write("tests/removed.rs", "fn test() {}");
        to.write("target/built", "there");
        sync(&from.0, &to.0).unwrap();
        assert_eq!(files(&to.0).unwrap(), [".gitignore", "src/a.rs"].map(String::from).into());
        assert_eq!(std::fs::read_to_string(to.0.join("src/a.rs")).unwrap(), "new");
        assert_eq!(std::fs::read_to_string(to.0.join("target/built")).unwrap(), "there");
    }

    #[test]
    fn a_file_that_is_the_same_keeps_its_time() {
        let (from, to) = (Folder::new("same-from"), Folder::new("same-to"));
        from.write("a.rs", "same");
        to.write("a.rs", "same");
        let old = std::time::SystemTime::UNIX_EPOCH;
        std::fs::File::options().write(true).open(to.0.join("a.rs")).unwrap().set_modified(old).unwrap();
        sync(&from.0, &to.0).unwrap();
        assert_eq!(std::fs::metadata(to.0.join("a.rs")).unwrap().modified().unwrap(), old);
    }
}
