//! Trying something in a process of its own, from a process with threads.
//!
//! A user namespace can only be entered by a process with one thread, and
//! whoever enters one cannot come back. So a child tries and says what it saw.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{FromRawFd, OwnedFd},
    panic::{self, AssertUnwindSafe},
};

/// Runs `body` in a forked child and returns what it says.
///
/// The child has one thread, whatever the parent has. glibc makes its
/// allocator usable there (malloc's locks are taken across fork); locks of
/// other threads stay as they were, so `body` must not print or use the
/// parent's locks. A panic there is an error here.
///
/// # Errors
/// No child could be had, it died, or it panicked.
pub fn run(body: impl FnOnce() -> Vec<u8>) -> io::Result<Vec<u8>> {
    let (reader, writer) = pipe()?;
    let parent = std::process::id();
    // SAFETY: the child calls nothing but `in_child`, which never returns;
    // what it may use there is stated above and kept by the callers.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(reader);
            in_child(parent, File::from(writer), body)
        }
        child => {
            drop(writer);
            let mut said = Vec::new();
            let read = File::from(reader).read_to_end(&mut said);
            let status = wait(child)?;
            read?;
            conclude(said, status)
        }
    }
}

/// What is tried takes milliseconds, or with cards that are reset half a minute;
/// a test that moves a million frames beside other load, minutes.
const PATIENCE_S: u32 = 600;

const SAID: i32 = 0;
const PANICKED: i32 = 1;

fn in_child(
    parent: u32,
    mut writer: File,
    body: impl FnOnce() -> Vec<u8>,
) -> ! {
    // SAFETY: prctl with PR_SET_PDEATHSIG takes a signal number; alarm and
    // getppid always succeed.
    let orphan = unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::alarm(PATIENCE_S);
        u32::try_from(libc::getppid()) != Ok(parent)
    };
    // Nobody reads what the hook would print, and it would take a lock.
    panic::set_hook(Box::new(|_| {}));
    let code = if orphan {
        PANICKED
    } else {
        match panic::catch_unwind(AssertUnwindSafe(body)) {
            Ok(said) => writer.write_all(&said).map_or(PANICKED, |()| SAID),
            Err(reason) => {
                let reason = reason
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| reason.downcast_ref::<&str>().copied())
                    .unwrap_or("no reason");
                // The parent sees the code in any case.
                let _ = writer.write_all(reason.as_bytes());
                PANICKED
            }
        }
    };
    // SAFETY: `_exit` ends the child without running the parent's handlers.
    unsafe { libc::_exit(code) }
}

fn conclude(said: Vec<u8>, status: i32) -> io::Result<Vec<u8>> {
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == SAID {
        return Ok(said);
    }
    let said = String::from_utf8_lossy(&said);
    Err(io::Error::other(if libc::WIFSIGNALED(status) {
        format!("the child died of signal {}", libc::WTERMSIG(status))
    } else {
        format!("the child failed: {said}")
    }))
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: the pointer is to two descriptors, as pipe2(2) asks.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned both descriptors to us alone.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

fn wait(child: libc::pid_t) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: the pointer is to a live int; the child is ours.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } == child {
            return Ok(status);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_says_what_it_saw() {
        assert_eq!(run(|| b"seen".to_vec()).expect("child"), b"seen");
    }

    #[test]
    fn a_panic_of_the_child_is_an_error_with_its_reason() {
        let error = run(|| panic!("no {}", "luck")).expect_err("panic");
        assert!(error.to_string().contains("no luck"), "{error}");
    }

    #[test]
    fn a_child_that_dies_is_an_error() {
        // SAFETY: raising a signal in the child touches no memory.
        let error = run(|| unsafe {
            libc::raise(libc::SIGKILL);
            Vec::new()
        })
        .expect_err("killed");
        assert!(error.to_string().contains("signal 9"), "{error}");
    }
}
