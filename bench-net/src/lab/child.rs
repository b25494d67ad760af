//! Trying something in a process of its own, from a process with threads.
//!
//! A user namespace can only be entered by a process with one thread, and
//! whoever enters one cannot come back. So a child tries and says what it saw.

use std::{
    any::Any,
    fs::File,
    io::{self, Read, Write},
    os::fd::{FromRawFd, OwnedFd},
    panic::{self, AssertUnwindSafe},
    thread,
};

/// Runs `body` in a forked child and returns what it says, once the child is
/// gone and with it all that it held.
///
/// The child has one thread, whatever the parent has. glibc makes its
/// allocator usable there (malloc's locks are taken across fork); locks of
/// other threads stay as they were, so `body` must not print or use the
/// parent's locks. A panic there is an error here.
///
/// # Errors
/// No child could be had, it died, or it panicked.
pub fn run(body: impl FnOnce() -> Vec<u8>) -> io::Result<Vec<u8>> {
    let mut child = Child::begin(body)?;
    let said = child.said();
    child.end(said)
}

/// The same, without waiting for the child to be gone: where nothing that it
/// held can be in anybody's way. The kernel takes tens of milliseconds to close
/// sockets of AF_XDP and what belongs to them.
///
/// # Errors
/// As `run`.
pub fn hear(body: impl FnOnce() -> Vec<u8>) -> io::Result<Vec<u8>> {
    let mut child = Child::begin(body)?;
    match child.said() {
        Ok(said) => {
            // Where this process ends first, or has no more threads, the
            // child is seen to by whoever inherits it.
            let _ = thread::Builder::new().spawn(move || wait(child.id));
            Ok(said)
        }
        failed => child.end(failed),
    }
}

/// A child at work.
struct Child {
    id: libc::pid_t,
    voice: File,
}

impl Child {
    fn begin(body: impl FnOnce() -> Vec<u8>) -> io::Result<Self> {
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
            id => Ok(Self { id, voice: File::from(reader) }),
        }
    }

    /// What it says. Its length is said first: children that were forked
    /// meanwhile hold the other end of the pipe too, and so it may be long
    /// until that ends.
    fn said(&mut self) -> io::Result<Vec<u8>> {
        let (mut manner, mut length) = ([0], [0; 8]);
        self.voice.read_exact(&mut manner)?;
        self.voice.read_exact(&mut length)?;
        let length = u64::from_ne_bytes(length);
        let mut said = Vec::new();
        (&self.voice).take(length).read_to_end(&mut said)?;
        match manner {
            [SAID] if said.len() as u64 == length => Ok(said),
            [SAID] => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Err(io::Error::other(format!(
                "the child failed: {}",
                String::from_utf8_lossy(&said)
            ))),
        }
    }

    /// Waits until it is gone. One that was killed has not said why.
    fn end(self, said: io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
        let status = wait(self.id)?;
        if said.is_err() && libc::WIFSIGNALED(status) {
            return Err(io::Error::other(format!(
                "the child died of signal {}",
                libc::WTERMSIG(status)
            )));
        }
        said
    }
}

/// What is tried takes milliseconds, or with cards that are reset half a minute;
/// a test that moves a million frames beside other load, minutes.
const PATIENCE_S: u32 = 600;

/// How it says something: as its answer, or as the reason of a panic.
const SAID: u8 = 0;
const PANICKED: u8 = 1;

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
    if !orphan {
        let (manner, words) = match panic::catch_unwind(AssertUnwindSafe(body))
        {
            Ok(said) => (SAID, said),
            Err(reason) => (PANICKED, words_of(reason.as_ref())),
        };
        let length = words.len() as u64;
        // Where nobody listens any more there is nobody to tell that.
        let _ = writer
            .write_all(&[manner])
            .and_then(|()| writer.write_all(&length.to_ne_bytes()))
            .and_then(|()| writer.write_all(&words));
    }
    // SAFETY: `_exit` ends the child without running the parent's handlers.
    unsafe { libc::_exit(0) }
}

fn words_of(reason: &(dyn Any + Send)) -> Vec<u8> {
    let text = reason
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| reason.downcast_ref::<&str>().copied());
    text.unwrap_or("no reason").as_bytes().to_vec()
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
    fn a_child_that_is_only_heard_says_all_of_it_or_why_not() {
        let long = vec![7; 1 << 20];
        assert!(hear(|| long.clone()).expect("child") == long);
        let error = hear(|| panic!("no luck")).expect_err("panic");
        assert!(error.to_string().contains("no luck"), "{error}");
        // SAFETY: the child leaves without a word, and runs nothing more.
        let error = hear(|| unsafe { libc::_exit(0) }).expect_err("silence");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
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
