//! The directory below which `/proc`, `/sys`, `/etc` and `/boot` are read.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::cpu_set::CpuSet;

/// Where the system's files are looked for: `/`, or a fixture directory.
#[derive(Debug, Clone)]
pub struct Root {
    directory: PathBuf,
    /// Where a recording root keeps what it was asked for.
    asked: Option<Arc<Mutex<BTreeSet<PathBuf>>>>,
}

impl Root {
    /// The running system.
    pub fn system() -> Root {
        Root::at("/")
    }

    /// A captured or hand-built tree that holds `proc/`, `sys/` and so on.
    pub fn at(path: impl Into<PathBuf>) -> Root {
        Root { directory: path.into(), asked: None }
    }

    /// A root that remembers what it is asked for, so that a test can tell on
    /// which files an answer depends.
    pub fn recording(path: impl Into<PathBuf>) -> Root {
        Root { directory: path.into(), asked: Some(Arc::default()) }
    }

    /// The full paths that a recording root was asked for since it was last
    /// asked this; nothing of any other root.
    pub fn take_asked(&self) -> BTreeSet<PathBuf> {
        let Some(asked) = &self.asked else { return BTreeSet::new() };
        // A set of paths is whole whoever panicked beside it.
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *asked)
    }

    /// Whether this is the running system and not a fixture.
    pub fn is_system(&self) -> bool {
        self.directory == Path::new("/")
    }

    /// `rel` below this root; a leading `/` is ignored, so that paths found
    /// inside system files (mount points) stay inside a fixture.
    pub fn path(&self, rel: impl AsRef<Path>) -> PathBuf {
        let rel = rel.as_ref();
        let inside = rel
            .components()
            .filter(|part| matches!(part, Component::Normal(_)));
        let path: PathBuf = self.directory.components().chain(inside).collect();
        if let Some(asked) = &self.asked {
            let mut asked =
                asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.insert(path.clone());
        }
        path
    }

    /// The file's text without surrounding white space; `None` when it is
    /// missing or unreadable. Bytes that are no UTF-8 become `U+FFFD`: a model
    /// name may hold any byte, and that is no reason to lose it.
    pub fn read(&self, rel: impl AsRef<Path>) -> Option<String> {
        let bytes = std::fs::read(self.path(rel)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The file's text when there is any: an empty file counts as unknown.
    pub fn read_word(&self, rel: impl AsRef<Path>) -> Option<String> {
        self.read(rel).filter(|text| !text.is_empty())
    }

    /// A file that holds one unsigned decimal number.
    pub fn read_u64(&self, rel: impl AsRef<Path>) -> Option<u64> {
        self.read(rel)?.parse().ok()
    }

    /// A file that holds one unsigned decimal number of 32 bits.
    pub fn read_u32(&self, rel: impl AsRef<Path>) -> Option<u32> {
        self.read(rel)?.parse().ok()
    }

    /// A file that holds `0` or `1`.
    pub fn read_bool(&self, rel: impl AsRef<Path>) -> Option<bool> {
        match self.read(rel)?.as_str() {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        }
    }

    /// A file in the kernel's CPU list format (`0-3,8`).
    pub fn read_list(&self, rel: impl AsRef<Path>) -> Option<CpuSet> {
        self.read(rel)?.parse().ok()
    }

    /// Names in a directory, sorted with numbers in numeric order (`cpu2`
    /// before `cpu10`); empty when the directory is missing.
    pub fn entries(&self, dir: impl AsRef<Path>) -> Vec<String> {
        let Ok(read) = std::fs::read_dir(self.path(dir)) else {
            return Vec::new();
        };
        let mut names: Vec<String> = read
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort_by_cached_key(|name| natural_key(name));
        names
    }

    /// Whether a file or directory is there.
    pub fn exists(&self, rel: impl AsRef<Path>) -> bool {
        self.path(rel).exists()
    }

    /// The last component of a symbolic link's target.
    pub fn link_name(&self, rel: impl AsRef<Path>) -> Option<String> {
        let target = std::fs::read_link(self.path(rel)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// `rel` with all symbolic links followed, as a path below this root;
    /// `None` when it is missing or leads out of a fixture.
    pub fn resolve(&self, rel: impl AsRef<Path>) -> Option<PathBuf> {
        let full = self.path(rel).canonicalize().ok()?;
        let root = self.directory.canonicalize().ok()?;
        Some(full.strip_prefix(root).ok()?.to_owned())
    }
}

/// Splits a trailing number off, so that names sort as a person counts.
fn natural_key(name: &str) -> (String, u64, String) {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = name[stem.len()..].parse().unwrap_or(0);
    (stem.to_owned(), number, name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_leaves_the_root() {
        let root = Root::at("/fixture");
        assert_eq!(root.path("/sys/block"), Path::new("/fixture/sys/block"));
        assert_eq!(root.path("../../etc"), Path::new("/fixture/etc"));
        assert_eq!(Root::system().path("proc"), Path::new("/proc"));
    }

    #[test]
    fn missing_and_garbled_files_are_unknown() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("number"), " 42\n").expect("write");
        std::fs::write(dir.path().join("junk"), [0xff, 0xfe]).expect("write");
        let root = Root::at(dir.path());
        assert_eq!(root.read_u64("number"), Some(42));
        assert_eq!(root.read_bool("number"), None);
        assert_eq!(root.read_u64("junk"), None);
        assert_eq!(root.read_u64("absent"), None);
        assert_eq!(root.read_list("absent"), None);
        assert!(root.entries("absent").is_empty());
    }

    #[test]
    fn entries_are_in_numeric_order() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in ["cpu10", "cpu2", "cpu1", "online"] {
            std::fs::write(dir.path().join(name), "").expect("write");
        }
        let names = Root::at(dir.path()).entries("");
        assert_eq!(names, ["cpu1", "cpu2", "cpu10", "online"]);
    }
}
