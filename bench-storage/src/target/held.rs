//! What a worker may write to: what the runner made or holds for it, and
//! nothing else that its specification names.
//!
//! A worker reads its specification from standard input, and anybody can write
//! one. What the run made for itself is told by what it is: a descriptor that
//! was open before the worker looked, for reading and writing, of a file without
//! a name, or of a device that is lent to somebody alone and that the guard
//! sees no other use of.

use std::{
    fs,
    os::{
        fd::RawFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
};

use harness::{machine::Root, measure::trial::TrialError};

use super::Target;
use crate::guard;

/// Names that clients of network and user-space file systems give to a file
/// that was removed while it is open (nfs(5), fuse(8)).
const REMOVED: [&str; 2] = [".nfs", ".fuse_hidden"];

/// Whether a worker may write to this target.
///
/// # Errors
/// Why it may not. Nothing was opened for writing.
pub fn may_write(root: &Root, target: &Target) -> Result<(), TrialError> {
    let label = &target.label;
    if target.writable.is_none() {
        return Err(TrialError::setup(format!(
            "{label} may be read, not written"
        )));
    }
    against(root, &target.path).map_or(Ok(()), |why| {
        Err(TrialError::setup(format!(
            "{label} may not be written: {} {why}; workers write only to what \
             `bypass run` made or holds for them",
            target.path.display()
        )))
    })
}

/// What speaks against it.
fn against(root: &Root, path: &Path) -> Option<String> {
    let Some(fd) = descriptor(path) else {
        return Some("is no descriptor below /proc/self/fd".to_owned());
    };
    if !is_open_to_write(fd) {
        return Some("was not inherited open for reading and writing".into());
    }
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return Some(format!("cannot be looked at: {error}")),
    };
    let kind = metadata.file_type();
    if kind.is_file() {
        let named = metadata.nlink() > 0 && !was_removed(path);
        return named.then(|| "is a file with a name, not of the run's".into());
    }
    if !kind.is_block_device() {
        return Some("is neither a file nor a block device".to_owned());
    }
    let reasons = guard::against_writing_held(root, path, &metadata);
    (!reasons.is_empty()).then(|| reasons.join("; it "))
}

/// The number in `/proc/self/fd/N`.
fn descriptor(path: &Path) -> Option<RawFd> {
    path.strip_prefix("/proc/self/fd").ok()?.to_str()?.parse().ok()
}

fn is_open_to_write(fd: RawFd) -> bool {
    // SAFETY: F_GETFL takes no argument and touches no memory; of a number
    // that is no descriptor it says EBADF.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    flags >= 0 && flags & libc::O_ACCMODE == libc::O_RDWR
}

fn was_removed(path: &Path) -> bool {
    let name = fs::read_link(path)
        .ok()
        .and_then(|named| Some(named.file_name()?.to_str()?.to_owned()));
    name.is_some_and(|name| REMOVED.iter().any(|mark| name.starts_with(mark)))
}
