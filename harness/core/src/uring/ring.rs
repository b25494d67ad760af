//! A ring in parts that stay together.
//!
//! The io-uring crate lends submitter and queues from the ring, and a
//! registered ring descriptor is remembered in the *submitter*:
//! `IoUring::submit` makes a fresh one each time and silently goes back to the
//! slow descriptor. So the ring is split once, and the parts are kept
//! together.

use std::{
    fmt, io,
    os::fd::{AsRawFd, RawFd},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use io_uring::{
    EnterFlags, Submitter,
    types::{SubmitArgs, Timespec},
};

use super::{
    entries::{Entries, Small},
    parts::{Enters, Parts, Pushes, Reaps},
};
use crate::machine::{Cpu, raise_memlock_limit};

/// How long a poller looks for work before it sleeps: longer than any window,
/// so that it sleeps in none.
pub const POLLER_IDLE_MS: u32 = 60_000;

/// How a ring is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// As `io_uring_setup` gives it without any flag.
    Plain,
    /// SINGLE_ISSUER and DEFER_TASKRUN (Linux 6.1): completions are worked off
    /// by the thread that waits for them. Must be built on that thread.
    SingleIssuer,
    /// The same, and a flag in shared memory says when completions wait to be
    /// worked off (TASKRUN_FLAG), so that polling needs no system call.
    Flagged,
    /// As for a single issuer, and completions are polled for instead of
    /// waiting for an interrupt (IOPOLL).
    Polled,
    /// The same, and the kernel sleeps for a part of the time that the device
    /// is expected to take, before it polls (HYBRID_IOPOLL, Linux 6.13).
    Hybrid,
    /// A kernel thread on this CPU takes submissions from the ring, so that
    /// submitting needs no system call (SQPOLL).
    Poller {
        /// Where that thread runs.
        cpu: Cpu,
        /// How long it looks for work before it sleeps: `POLLER_IDLE_MS`,
        /// but where it is to fall asleep.
        idle_ms: u32,
    },
}

impl Setup {
    /// Makes the ring with room for `entries` submissions.
    ///
    /// # Errors
    /// What `io_uring_setup` said.
    pub fn build(self, entries: usize) -> io::Result<Ring> {
        self.build_of(entries)
    }

    /// The same with entries of another size.
    ///
    /// # Errors
    /// As `build`; EINVAL before Linux 5.19, for a mixed ring before 6.18.
    pub fn build_of<E: Entries>(self, entries: usize) -> io::Result<Ring<E>> {
        let entries = u32::try_from(entries)
            .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        patiently(|| self.build_once(entries))
    }

    /// Whether it polls for completions.
    pub fn polls(self) -> bool {
        matches!(self, Self::Polled | Self::Hybrid)
    }

    fn build_once<E: Entries>(self, entries: u32) -> io::Result<Ring<E>> {
        match self {
            Self::Plain | Self::Poller { .. } => {
                self.build_with(entries, false)
            }
            // NO_SQARRAY (Linux 6.6) saves an indirection per submission. It
            // is taken where there is one; a kernel without it says EINVAL.
            Self::SingleIssuer
            | Self::Flagged
            | Self::Polled
            | Self::Hybrid => self.build_with(entries, true).or_else(|error| {
                if error.raw_os_error() == Some(libc::EINVAL) {
                    return self.build_with(entries, false);
                }
                Err(error)
            }),
        }
    }

    fn build_with<E: Entries>(
        self,
        entries: u32,
        no_sqarray: bool,
    ) -> io::Result<Ring<E>> {
        let parts = E::make(self, entries, no_sqarray)?;
        let mut flags = E::FLAGS.to_vec();
        match self {
            Self::Plain => {}
            Self::Poller { .. } => flags.extend(["sqpoll", "sq_aff"]),
            Self::SingleIssuer
            | Self::Flagged
            | Self::Polled
            | Self::Hybrid => {
                flags.extend(["single_issuer", "defer_taskrun"]);
            }
        }
        if self == Self::Flagged {
            flags.push("taskrun_flag");
        }
        if self.polls() {
            flags.push("iopoll");
        }
        if no_sqarray {
            flags.push("no_sqarray");
        }
        if self == Self::Hybrid {
            flags.push("hybrid_iopoll");
        }
        if flags.is_empty() {
            flags.push("none");
        }
        Ok(Ring::new(parts, flags.join("+")))
    }
}

/// How often, and how long apart, memory is asked for again.
const MEMORY_ATTEMPTS: u32 = 5;
const MEMORY_PAUSE: Duration = Duration::from_millis(100);

/// How many pauses were in vain since one last helped. Where the limit is just
/// too low none ever does, and each of a dozen probes would sit its time out.
static IN_VAIN: AtomicU32 = AtomicU32::new(0);
const MOST_IN_VAIN: u32 = 2 * (MEMORY_ATTEMPTS - 1);

/// Tries again while the kernel has no memory for it. A ring that was closed
/// is taken down in the background, and until then what it held counts against
/// the user's limit of locked memory: the ring of the trial before, or of a
/// probe, may still be in the way.
pub fn patiently<T>(attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    patiently_within(&IN_VAIN, attempt)
}

fn patiently_within<T>(
    in_vain: &AtomicU32,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let mut result = attempt();
    for _ in 1..MEMORY_ATTEMPTS {
        let full = |error: &io::Error| {
            error.raw_os_error() == Some(libc::ENOMEM)
                && in_vain.load(Ordering::Relaxed) < MOST_IN_VAIN
        };
        if !result.as_ref().is_err_and(full) {
            return result;
        }
        in_vain.fetch_add(1, Ordering::Relaxed);
        raise_memlock_limit();
        std::thread::sleep(MEMORY_PAUSE);
        result = attempt();
        if result.is_ok() {
            in_vain.store(0, Ordering::Relaxed);
        }
    }
    result
}

/// A ring, split.
pub struct Ring<E: Entries = Small> {
    parts: Parts<E>,
    flags: String,
    enters: u64,
}

impl<E: Entries> Ring<E> {
    fn new(parts: Parts<E>, flags: String) -> Self {
        Self { parts, flags, enters: 0 }
    }

    /// The ring's descriptor.
    pub fn fd(&self) -> RawFd {
        self.parts.owner.as_raw_fd()
    }

    /// The setup flags that the kernel took, in words.
    pub fn flags(&self) -> &str {
        &self.flags
    }

    /// How often `enter` was called.
    pub fn enters(&self) -> u64 {
        self.enters
    }

    /// Registers and enters.
    pub fn submitter(&mut self) -> &mut E::Submitter {
        &mut self.parts.submitter
    }

    /// The submission queue.
    #[inline(always)]
    pub fn sq(&mut self) -> &mut E::Submissions {
        &mut self.parts.sq
    }

    /// The completion queue.
    #[inline(always)]
    pub fn cq(&mut self) -> &mut E::Completions {
        &mut self.parts.cq
    }

    /// Lets the kernel see what was pushed, and says how much it has not
    /// taken yet.
    #[inline(always)]
    pub fn publish(&mut self) -> u32 {
        self.parts.sq.sync();
        // A ring has at most 32,768 entries.
        u32::try_from(self.parts.sq.queued()).unwrap_or(u32::MAX)
    }

    /// `io_uring_enter`: submits, and waits for that many completions.
    /// A signal or a passing shortage is no failure: the caller goes on with
    /// what is there.
    ///
    /// # Errors
    /// Any other error of the system call.
    #[inline(always)]
    pub fn enter(
        &mut self,
        submit: u32,
        want: u32,
        flags: EnterFlags,
    ) -> io::Result<()> {
        self.enters += 1;
        self.parts.submitter.enter(submit, want, flags).or_else(passing)
    }
}

impl<E: Entries<Submitter = Submitter<'static>>> Ring<E> {
    /// Submits what was pushed and waits for that many completions, but not
    /// longer than this. Deferred completions are worked off in any case.
    /// What was taken from the completion queue is published first: the kernel
    /// counts it as what the call is to wait for as long as it does not know.
    ///
    /// # Errors
    /// Any error of the system call but a passing one.
    #[inline(always)]
    pub fn enter_within(
        &mut self,
        want: usize,
        patience: &Timespec,
    ) -> io::Result<()> {
        self.enters += 1;
        self.parts.sq.sync();
        self.parts.cq.sync();
        let arguments = SubmitArgs::new().timespec(patience);
        match self.parts.submitter.submit_with_args(want, &arguments) {
            Ok(_) => Ok(()),
            Err(error) => passing(error),
        }
    }
}

/// EBUSY: completions wait to be reaped first. EAGAIN: no memory for a request
/// at this moment. ETIME: patience was at an end.
#[cold]
fn passing(error: io::Error) -> io::Result<()> {
    match error.raw_os_error() {
        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ETIME) => Ok(()),
        _ => Err(error),
    }
}

impl<E: Entries> Drop for Ring<E> {
    fn drop(&mut self) {
        // A thread has 16 slots for registered rings (IO_RINGFD_REG_MAX), and
        // a slot keeps its ring alive: without this the seventeenth probe of
        // a process gets EBUSY. A ring that was not registered has none to
        // give back.
        let _ = self.parts.submitter.unregister_ring_fd();
    }
}

impl<E: Entries> fmt::Debug for Ring<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("fd", &self.fd())
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    #[test]
    fn a_dropped_ring_gives_its_registered_slot_back() {
        // More than the 16 slots of a thread.
        for number in 0..40 {
            let mut ring = match probe::build(Setup::Plain) {
                Ok(ring) => ring,
                Err(lack) => {
                    eprintln!("SKIPPED: {}; {}", lack.reason, lack.remedy);
                    return;
                }
            };
            if let Err(error) = ring.submitter().register_ring_fd() {
                assert_eq!(
                    error.raw_os_error(),
                    Some(libc::EINVAL),
                    "ring {number}: {error}"
                );
                eprintln!("SKIPPED: this kernel registers no rings");
                return;
            }
        }
    }

    #[test]
    fn waiting_for_memory_is_given_up_where_it_never_helped() {
        let full = || io::Error::from_raw_os_error(libc::ENOMEM);
        let pauses = AtomicU32::new(MOST_IN_VAIN - 1);
        for expected in [2, 1] {
            let mut attempts = 0;
            let result = patiently_within(&pauses, || -> io::Result<()> {
                attempts += 1;
                Err(full())
            });
            assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ENOMEM));
            assert_eq!(attempts, expected);
        }
        pauses.store(MOST_IN_VAIN - 1, Ordering::Relaxed);
        let mut answers = [Err(full()), Ok(7)].into_iter();
        let result = patiently_within(&pauses, || answers.next().unwrap());
        assert_eq!(result.unwrap(), 7);
        assert_eq!(pauses.load(Ordering::Relaxed), 0, "it helped");
    }
}
