//! Namespaces without a name: two of the network, and one of users where
//! rights are missing. They are gone with the last thread and descriptor that
//! holds them, however the process ends.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
};

use harness::machine::Root;

use super::error::LabError;

/// The calling thread's network namespace; procfs follows the thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// Makes sure that the process may make network namespaces, which takes a
/// user namespace where the user has no rights. To be called while the process
/// has one thread.
///
/// # Errors
/// Neither way is open.
pub(super) fn acquire_rights() -> Result<File, LabError> {
    let root = Root::system();
    match unshare(libc::CLONE_NEWNET) {
        Ok(()) => return own(),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
        Err(error) => {
            return Err(LabError::no_network_namespace(&error, &root));
        }
    }
    // SAFETY: both calls always succeed and touch no memory.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    unshare(libc::CLONE_NEWUSER)
        .map_err(|error| LabError::no_user_namespace(&error, &root))?;
    // user_namespaces(7): an unprivileged writer may map its own ids alone,
    // and groups only once setgroups is denied.
    for (path, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{uid} {uid} 1")),
        ("/proc/self/gid_map", format!("{gid} {gid} 1")),
    ] {
        std::fs::write(path, text)
            .map_err(|error| LabError::no_user_namespace(&error, &root))?;
    }
    fresh()
}

/// Moves the calling thread to a network namespace of its own.
///
/// # Errors
/// There are too many, or the rights are missing.
pub(super) fn fresh() -> Result<File, LabError> {
    unshare(libc::CLONE_NEWNET).map_err(|error| {
        LabError::no_network_namespace(&error, &Root::system())
    })?;
    own()
}

fn own() -> Result<File, LabError> {
    File::open(OWN)
        .map_err(|source| LabError::File { path: OWN.to_owned(), source })
}

/// Moves the calling thread to that network namespace.
///
/// # Errors
/// setns(2) says no.
pub(super) fn enter(namespace: impl AsFd) -> Result<(), LabError> {
    let fd = namespace.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for the length of the call; the kernel
    // checks that it is a network namespace.
    match unsafe { libc::setns(fd, libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(LabError::Enter(io::Error::last_os_error())),
    }
}

fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: neither flag changes the memory or the descriptors of this
    // thread; unshare(2) refuses CLONE_NEWUSER to a process with threads.
    match unsafe { libc::unshare(flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
