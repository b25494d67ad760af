//! What must have a name is written down before it exists, and put back by
//! whoever comes next if its maker was killed.
//!
//! Most of what a run makes has no name and is gone with its last process.
//! For the rest there is one small file per process in the journal directory:
//! first line the process (pid and start time, since pids are reused), then
//! one path per line. It is removed with its last entry.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use crate::machine::root::Root;

/// Entries of the processes of this user.
#[derive(Clone, Debug)]
pub struct Journal {
    directory: PathBuf,
}

/// A file that the journal vouches for; removed when this is dropped.
#[derive(Debug)]
pub struct Entry {
    path: PathBuf,
    record: PathBuf,
}

impl Journal {
    /// The journal of this user: below `$XDG_STATE_HOME`, else
    /// `$HOME/.local/state`, else (no home at all) the temporary directory.
    pub fn of_this_user() -> Self {
        // SAFETY: getuid always succeeds and touches no memory.
        let uid = unsafe { libc::getuid() };
        let set = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let directory = set("XDG_STATE_HOME")
            .or_else(|| set("HOME").map(|home| home.join(".local/state")))
            .map_or_else(
                || std::env::temp_dir().join(format!("bypass-bench-{uid}")),
                |state| state.join("bypass-bench"),
            );
        Self { directory: directory.join("journal") }
    }

    /// A journal elsewhere; for tests.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Writes down that `path` is about to be created.
    ///
    /// # Errors
    /// The journal cannot be written; then nothing should be created either.
    pub fn will_create(&self, path: &Path) -> io::Result<Entry> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        if !is_ours(&self.directory) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "{} belongs to another user or may be written by others; \
                     set HOME or XDG_STATE_HOME to a directory of your own",
                    self.directory.display()
                ),
            ));
        }
        let process = ProcessId::current();
        let name = path.as_os_str().as_encoded_bytes().iter().fold(
            0xcbf2_9ce4_8422_2325_u64,
            |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            },
        );
        let record =
            self.directory.join(format!("{}-{name:016x}", process.pid));
        let mut file = File::create(&record)?;
        writeln!(file, "{} {}", process.pid, process.started)?;
        file.write_all(path.as_os_str().as_encoded_bytes())?;
        file.sync_all()?;
        Ok(Entry { path: path.to_owned(), record })
    }

    /// Removes what dead processes left; returns what was removed.
    pub fn sweep(&self) -> Vec<PathBuf> {
        if !is_ours(&self.directory) {
            return Vec::new();
        }
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return Vec::new();
        };
        entries.flatten().filter_map(|entry| sweep_one(&entry.path())).collect()
    }
}

impl Entry {
    /// Nothing was created after all; whatever has that name stays.
    pub fn withdraw(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.path.as_os_str().is_empty() || removed(&self.path) {
            // A record without its file is swept by the next start.
            let _ = fs::remove_file(&self.record);
        }
    }
}

/// What a journal says is done: it must be this user's, and nobody else's to
/// write.
fn is_ours(path: &Path) -> bool {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    // SAFETY: geteuid always succeeds and touches no memory.
    let user = unsafe { libc::geteuid() };
    path.symlink_metadata().is_ok_and(|metadata| {
        metadata.uid() == user && metadata.mode() & WRITABLE_BY_OTHERS == 0
    })
}

fn sweep_one(record: &Path) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    if !is_ours(record) {
        return None;
    }
    let bytes = fs::read(record).ok()?;
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    if ProcessId::parse(head)?.is_alive() {
        return None;
    }
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(&bytes[end + 1..]));
    let existed = path.symlink_metadata().is_ok();
    if removed(&path) {
        // As above: harmless if it stays.
        let _ = fs::remove_file(record);
    }
    existed.then_some(path)
}

fn removed(path: &Path) -> bool {
    match fs::remove_file(path) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// A process, told apart from a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessId {
    /// Its pid.
    pub pid: u32,
    /// Start time in clock ticks since boot (proc(5), `stat` field 22).
    pub started: u64,
}

impl ProcessId {
    /// This process.
    pub fn current() -> Self {
        Self::of(std::process::id())
    }

    /// A process by its pid; start time 0 if it cannot be read.
    pub fn of(pid: u32) -> Self {
        Self { pid, started: start_time(pid).unwrap_or(0) }
    }

    fn parse(text: &str) -> Option<Self> {
        let (pid, started) = text.split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, started: started.parse().ok()? })
    }

    fn is_alive(self) -> bool {
        start_time(self.pid) == Some(self.started)
    }
}

fn start_time(pid: u32) -> Option<u64> {
    let stat = Root::system().read(format!("proc/{pid}/stat"))?;
    // The name in parentheses may hold spaces; what follows is numbered.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_entry_leaves_nothing() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let journal = Journal::at(directory.path().join("journal"));
        let file = directory.path().join("with space");
        let entry = journal.will_create(&file).expect("entry");
        fs::write(&file, "x").expect("file");
        assert!(journal.sweep().is_empty(), "its maker is alive");
        drop(entry);
        assert!(!file.exists());
        assert_eq!(entries(&journal), 0);
    }

    #[test]
    fn a_withdrawn_entry_leaves_what_has_its_name() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let journal = Journal::at(directory.path().join("journal"));
        let file = directory.path().join("somebody else's");
        fs::write(&file, "x").expect("file");
        journal.will_create(&file).expect("entry").withdraw();
        assert!(file.exists());
        assert_eq!(entries(&journal), 0);
    }

    #[test]
    fn what_a_dead_process_left_is_removed() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let journal = Journal::at(directory.path());
        let file = directory.path().join("left");
        let entry = journal.will_create(&file).expect("entry");
        fs::write(&file, "x").expect("file");
        // As after a kill: the record stays, with a process that is no more.
        let record = entry.record.clone();
        std::mem::forget(entry);
        let text = fs::read_to_string(&record).expect("record");
        let (_, path) = text.split_once('\n').expect("two lines");
        fs::write(&record, format!("1 999999999999\n{path}")).expect("record");
        assert_eq!(journal.sweep(), std::slice::from_ref(&file));
        assert!(!file.exists());
        assert_eq!(entries(&journal), 0);
    }

    #[test]
    fn garbage_in_the_journal_removes_nothing() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let journal = Journal::at(directory.path());
        fs::write(directory.path().join("1-2"), "no line").expect("garbage");
        assert!(journal.sweep().is_empty());
    }

    fn entries(journal: &Journal) -> usize {
        fs::read_dir(&journal.directory).expect("journal").count()
    }
}
