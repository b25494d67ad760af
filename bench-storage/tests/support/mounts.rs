//! Mounts that only one thread, and what it starts, can see. Needs root.

use std::{ffi::CString, io, os::unix::ffi::OsStrExt, path::Path, thread};

use super::skip;

/// Runs a test on a thread with a mount namespace of its own; what is mounted
/// there goes with it.
pub fn in_a_namespace(test: impl FnOnce() + Send) {
    let name = thread::current().name().unwrap_or("test").to_owned();
    thread::scope(|scope| {
        let run = || match private_mounts() {
            Ok(()) => test(),
            Err(error) => skip(&format!("no mount namespace: {error}")),
        };
        let thread = thread::Builder::new().name(name);
        let handle = thread.spawn_scoped(scope, run).expect("a thread");
        if let Err(panic) = handle.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Gives this thread a mount namespace of its own.
pub fn private_mounts() -> io::Result<()> {
    let none = std::ptr::null();
    // SAFETY: the call takes a number; of a thread it changes no other's
    // namespace, unshare(2).
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: the one string is terminated; the others may be missing.
    check(unsafe { libc::mount(none, c"/".as_ptr(), none, flags, none.cast()) })
}

/// mount(2), in this thread's namespace.
pub fn mount(
    source: &Path,
    target: &Path,
    kind: &str,
    flags: libc::c_ulong,
    options: &str,
) -> io::Result<()> {
    let (from, to) = (c_text(source), c_text(target));
    let kind = CString::new(kind).expect("no NUL");
    let options = CString::new(options).expect("no NUL");
    // SAFETY: all strings are terminated and live through the call.
    check(unsafe {
        libc::mount(
            from.as_ptr(),
            to.as_ptr(),
            kind.as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    })
}

/// umount2(2), also of what is in use.
pub fn unmount(target: &Path) -> io::Result<()> {
    let target = c_text(target);
    // SAFETY: the string is terminated and lives through the call.
    check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) })
}

/// A path as system calls take it.
pub fn c_text(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no NUL")
}

/// The error of a system call that says 0 when all is well.
pub fn check(status: i32) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
