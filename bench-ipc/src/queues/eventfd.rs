//! An eventfd per direction (eventfd(2)): an 8-byte `write` signals, an 8-byte
//! `read` waits and takes the signal; the message itself is in shared memory.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{FromRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use harness::{
    measure::trial::TrialError,
    suite::{Availability, ProbeRequest},
};

use super::{Link, Receiver, Sender, Way, mailbox::Mailbox};
use crate::{
    message::Message,
    wait::{Lost, Waiter},
};

/// A mailbox per direction, each with an eventfd.
#[derive(Debug)]
pub struct EventFd;

/// One direction.
#[derive(Debug)]
struct Direction<const WORDS: usize> {
    mailbox: Mailbox<WORDS>,
    event: File,
    closed: AtomicBool,
}

/// One end.
#[derive(Debug)]
pub struct EventFdEnd<const WORDS: usize> {
    outgoing: Arc<Direction<WORDS>>,
    incoming: Arc<Direction<WORDS>>,
    /// First word of the last message.
    before: u64,
}

impl Way for EventFd {
    const ID: &'static str = "eventfd";
    const ABOUT: &'static str =
        "an eventfd per direction, payload in shared memory";
    const SPINNING: bool = false;

    fn probe(_request: &ProbeRequest<'_>) -> Availability {
        match open() {
            Ok(_) => Availability::Available,
            Err(error) => Availability::unavailable(
                format!("eventfd: {error}"),
                "a seccomp filter or a descriptor limit may forbid it",
            ),
        }
    }
}

impl Link for EventFd {
    type End<const WORDS: usize> = EventFdEnd<WORDS>;

    fn connect<const WORDS: usize>(
        _capacity: usize,
        _waiter: &Waiter,
    ) -> Result<(EventFdEnd<WORDS>, EventFdEnd<WORDS>), TrialError> {
        let (forth, back) = (direction()?, direction()?);
        let end = |outgoing: &Arc<_>, incoming: &Arc<_>| EventFdEnd {
            outgoing: Arc::clone(outgoing),
            incoming: Arc::clone(incoming),
            before: 0,
        };
        Ok((end(&forth, &back), end(&back, &forth)))
    }
}

fn direction<const WORDS: usize>() -> Result<Arc<Direction<WORDS>>, TrialError>
{
    let event = open()
        .map_err(|error| TrialError::setup(format!("eventfd: {error}")))?;
    Ok(Arc::new(Direction {
        mailbox: Mailbox::default(),
        event,
        closed: AtomicBool::new(false),
    }))
}

fn open() -> io::Result<File> {
    // SAFETY: no pointer is involved; the result is checked.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor to us alone.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

impl<const WORDS: usize> Direction<WORDS> {
    #[inline]
    fn signal(&self) -> Result<(), Lost> {
        (&self.event)
            .write_all(&1_u64.to_ne_bytes())
            .map_err(|error| Lost::system("write to an eventfd", &error))
    }
}

impl<const WORDS: usize> Sender<WORDS> for EventFdEnd<WORDS> {
    #[inline]
    fn send(&mut self, message: Message<WORDS>) -> Result<(), Lost> {
        self.outgoing.mailbox.put(message);
        self.outgoing.signal()
    }
}

impl<const WORDS: usize> Receiver<WORDS> for EventFdEnd<WORDS> {
    #[inline]
    fn receive(&mut self) -> Result<Message<WORDS>, Lost> {
        loop {
            let mut count = [0; 8];
            (&self.incoming.event).read_exact(&mut count).map_err(|error| {
                Lost::system("read from an eventfd", &error)
            })?;
            if let Some(message) = self.incoming.mailbox.take(self.before) {
                self.before = message.0[0];
                return Ok(message);
            }
            // Acquire pairs with the Release in `drop`.
            if self.incoming.closed.load(Ordering::Acquire) {
                // Others may ask again.
                self.incoming.signal()?;
                return Err(Lost::Closed);
            }
        }
    }
}

impl<const WORDS: usize> Drop for EventFdEnd<WORDS> {
    fn drop(&mut self) {
        for direction in [&self.outgoing, &self.incoming] {
            direction.closed.store(true, Ordering::Release);
            // It blocks or fails only when nobody has read 2^64 signals.
            let _ = direction.signal();
        }
    }
}
