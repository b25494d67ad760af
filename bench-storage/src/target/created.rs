//! The default target: a file that the run writes whole.

use std::{
    ffi::CString,
    fs::{File, OpenOptions},
    io,
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::Path,
};

use harness::{
    run::{journal::Journal, options::fresh_seed},
    suite::{Refusal, SessionRequest},
};

use super::{
    Preconditioning,
    fill::Fill,
    place::{Place, size_text},
    refusals::{self, ELSEWHERE},
};
use crate::contents::Seeded;

/// Size of the file: beyond the caches of controllers without a capacitor,
/// and written within seconds.
pub const CREATED_BYTES: u64 = 1 << 30;

/// A file without a name, of `bytes` (whole blocks), written as often as it
/// takes and synced, and how that was.
///
/// # Errors
/// No room, no permission, or a file system without direct I/O; or the person
/// stopped it.
pub(super) fn create(
    request: &SessionRequest,
    place: &Place,
    bytes: u64,
) -> Result<(File, Seeded, Preconditioning), Refusal> {
    check(place, bytes)?;
    let file = open_unnamed(place)?;
    let contents = Seeded { run_id: request.run_id, seed: request.seed };
    let passes = passes(request);
    Fill {
        file: &file,
        path: &place.path,
        bytes,
        contents,
        passes,
        grows: true,
        meanwhile: &request.meanwhile,
    }
    .write()?;
    Ok((file, contents, Preconditioning { passes, bytes }))
}

/// How often a file is written: once in any case, or there is nothing to read.
pub(super) fn passes(request: &SessionRequest) -> u32 {
    request.precondition.max(1)
}

/// What can be known before anything is written.
///
/// # Errors
/// No room, or no permission.
pub(super) fn check(place: &Place, bytes: u64) -> Result<(), Refusal> {
    let path = &place.path;
    let path_c = CString::new(path.as_os_str().as_bytes()).map_err(|_| {
        refusals::usage(
            format!("{} has a NUL byte", path.display()),
            "name another `--target`",
        )
    })?;
    writable(&path_c)
        .map_err(|error| refusals::failed("writing in", path, &error))?;
    let free = free_bytes(&path_c)
        .map_err(|error| refusals::failed("statvfs", path, &error))?;
    // A tenth more: metadata, and others who write meanwhile.
    let needed = bytes + bytes / 10;
    if free < needed {
        let what = format!(
            "{} on {} has {} free, and {} are needed for a target of {}",
            path.display(),
            place.filesystem_text(),
            size_text(free),
            size_text(needed),
            size_text(bytes)
        );
        let remedy = format!("free some space there, or {ELSEWHERE}");
        return Err(refusals::environment(what, remedy));
    }
    Ok(())
}

fn writable(path: &CString) -> io::Result<()> {
    // SAFETY: the string is terminated and lives through the call.
    let status = unsafe {
        libc::faccessat(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::W_OK | libc::X_OK,
            libc::AT_EACCESS,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What an unprivileged writer may still use.
pub(crate) fn free_bytes(path: &CString) -> io::Result<u64> {
    // SAFETY: all-zero is a valid value of this plain C structure.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live objects of the right type.
    let status = unsafe { libc::statvfs(path.as_ptr(), &mut stat) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn open_unnamed(place: &Place) -> Result<File, Refusal> {
    let directory = &place.path;
    let opened = open(directory, libc::O_TMPFILE).or_else(|error| {
        match error.raw_os_error() {
            // open(2): how file systems and kernels say that they do not
            // know O_TMPFILE.
            Some(libc::EOPNOTSUPP | libc::EISDIR | libc::ENOENT) => {
                open_and_unlink(directory, &Journal::of_this_user())
            }
            _ => Err(error),
        }
    });
    opened.map_err(|error| {
        if error.raw_os_error() == Some(libc::EINVAL) {
            return refusals::environment(
                format!(
                    "{} in {} refuses O_DIRECT (EINVAL)",
                    place.filesystem_text(),
                    directory.display()
                ),
                ELSEWHERE,
            );
        }
        refusals::failed("creating a file in", directory, &error)
    })
}

fn open(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(flags | libc::O_DIRECT | libc::O_CLOEXEC)
        .open(path)
}

/// For file systems without O_TMPFILE: the name exists for a moment only, and
/// stands in the journal before it does.
fn open_and_unlink(directory: &Path, journal: &Journal) -> io::Result<File> {
    // A name that nobody else has: what the journal names may be removed.
    let name = format!(".bypass-bench-{:016x}", fresh_seed());
    let path = directory.join(name);
    let entry = journal.will_create(&path)?;
    match open(&path, libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW) {
        Ok(file) => {
            // Removes the name; the file lives on as long as it is open.
            drop(entry);
            Ok(file)
        }
        Err(error) => {
            entry.withdraw();
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(directory: &Path) -> Place {
        Place { path: directory.to_owned(), filesystem: None, device: None }
    }

    #[test]
    fn more_than_there_is_room_for_is_refused_with_both_sizes() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let refusal =
            check(&place(directory.path()), 1 << 60).expect_err("no room");
        assert!(refusal.what.contains(" free, and "), "{refusal}");
        assert!(refusal.what.contains("of 1048576 TiB"), "{refusal}");
        assert!(refusal.remedy.contains("--target DIR"), "{refusal}");
    }

    #[test]
    fn without_o_tmpfile_the_name_is_gone_at_once() {
        let directory = tempfile::tempdir_in(crate::testing::build_directory())
            .expect("tempdir");
        let state = tempfile::tempdir().expect("temporary directory");
        let journal = Journal::at(state.path());
        match open_and_unlink(directory.path(), &journal) {
            Ok(file) => {
                let left = std::fs::read_dir(directory.path()).expect("read");
                assert_eq!(left.count(), 0);
                file.set_len(8192).expect("truncate");
                assert_eq!(file.metadata().expect("metadata").len(), 8192);
            }
            Err(error) => eprintln!("SKIPPED: no O_DIRECT here: {error}"),
        }
    }
}
