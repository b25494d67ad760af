//! The least that sleeping takes: a word in shared memory, `FUTEX_WAIT` and
//! `FUTEX_WAKE` (futex(2)), private to the process.

use std::{
    io, ptr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use harness::measure::trial::TrialError;

use super::{Link, Receiver, Sender, Way, mailbox::Mailbox};
use crate::{
    message::Message,
    wait::{Lost, Waiter},
};

/// A mailbox per direction, each with a futex.
#[derive(Debug)]
pub struct Futex;

/// One direction.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Direction<const WORDS: usize> {
    mailbox: Mailbox<WORDS>,
    /// Grows by 2 with each message; its lowest bit says "closed".
    word: AtomicU32,
}

/// One end.
#[derive(Debug)]
pub struct FutexEnd<const WORDS: usize> {
    outgoing: Arc<Direction<WORDS>>,
    incoming: Arc<Direction<WORDS>>,
    /// The futex word as last seen, without its lowest bit.
    seen: u32,
    /// First word of the last message.
    before: u64,
}

const CLOSED: u32 = 1;
const STEP: u32 = 2;

impl Way for Futex {
    const ID: &'static str = "futex";
    const ABOUT: &'static str =
        "a shared word with FUTEX_WAIT and FUTEX_WAKE, payload beside it";
    const SPINNING: bool = false;
}

impl Link for Futex {
    type End<const WORDS: usize> = FutexEnd<WORDS>;

    fn connect<const WORDS: usize>(
        _capacity: usize,
        _waiter: &Waiter,
    ) -> Result<(FutexEnd<WORDS>, FutexEnd<WORDS>), TrialError> {
        let (forth, back) = (Arc::default(), Arc::default());
        let end = |outgoing: &Arc<_>, incoming: &Arc<_>| FutexEnd {
            outgoing: Arc::clone(outgoing),
            incoming: Arc::clone(incoming),
            seen: 0,
            before: 0,
        };
        Ok((end(&forth, &back), end(&back, &forth)))
    }
}

impl<const WORDS: usize> Sender<WORDS> for FutexEnd<WORDS> {
    #[inline]
    fn send(&mut self, message: Message<WORDS>) -> Result<(), Lost> {
        self.outgoing.mailbox.put(message);
        // Release pairs with the Acquire load in `receive`: the payload comes
        // before the word that announces it.
        self.outgoing.word.fetch_add(STEP, Ordering::Release);
        wake(&self.outgoing.word)
    }
}

impl<const WORDS: usize> Receiver<WORDS> for FutexEnd<WORDS> {
    #[inline]
    fn receive(&mut self) -> Result<Message<WORDS>, Lost> {
        loop {
            // Acquire pairs with the Release in `send`.
            let word = self.incoming.word.load(Ordering::Acquire);
            if word & !CLOSED != self.seen {
                self.seen = word & !CLOSED;
                if let Some(message) = self.incoming.mailbox.take(self.before) {
                    self.before = message.0[0];
                    return Ok(message);
                }
            } else if word & CLOSED != 0 {
                return Err(Lost::Closed);
            } else {
                wait(&self.incoming.word, word)?;
            }
        }
    }
}

impl<const WORDS: usize> Drop for FutexEnd<WORDS> {
    fn drop(&mut self) {
        for direction in [&self.outgoing, &self.incoming] {
            direction.word.fetch_or(CLOSED, Ordering::Release);
            // It fails only for an address that is none.
            let _ = wake(&direction.word);
        }
    }
}

/// Sleeps unless the word has changed; may return for no reason.
fn wait(word: &AtomicU32, value: u32) -> Result<(), Lost> {
    // SAFETY: the address is that of a live, aligned 32-bit word, which the
    // kernel only reads; a null timeout means none.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            value,
            ptr::null::<libc::timespec>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // It has changed already, or a signal came.
        Some(libc::EAGAIN | libc::EINTR) => Ok(()),
        _ => Err(Lost::system("FUTEX_WAIT", &error)),
    }
}

fn wake(word: &AtomicU32) -> Result<(), Lost> {
    // SAFETY: the address is that of a live, aligned 32-bit word, which the
    // kernel uses as a key only; one waiter at most is woken.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            1_i32,
        )
    };
    match result {
        0.. => Ok(()),
        _ => Err(Lost::system("FUTEX_WAKE", &io::Error::last_os_error())),
    }
}
