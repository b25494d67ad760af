//! Says where a mapping failed before the signal ends the process.
//!
//! A page that cannot be read (the file was cut short, the device failed) has
//! no system call that could return an error: who touches it gets SIGBUS.
//! The worker dies of it, as any program would; its last line tells the runner
//! at which offset, and that line becomes the reason of the row.

use std::{
    io,
    mem::MaybeUninit,
    ptr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use memmap2::MmapRaw;

use crate::contents::BLOCK_BYTES;

/// Where the mapping starts and how long it is. A worker has one.
static START: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// The first thread to fail tells, the others wait for its end.
static TOLD: AtomicBool = AtomicBool::new(false);

/// From here on a fault within `mapping` is told before it kills.
///
/// # Errors
/// What sigaction(2) said.
pub fn tell_faults_of(mapping: &MmapRaw) -> io::Result<()> {
    START.store(mapping.as_ptr().addr(), Ordering::Relaxed);
    BYTES.store(mapping.len(), Ordering::Relaxed);
    // SAFETY: all-zero is a valid value of this plain C structure.
    let mut action: libc::sigaction =
        unsafe { MaybeUninit::zeroed().assume_init() };
    let handler: extern "C" fn(_, _, _) = tell;
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the structure is live; `tell` has the form that SA_SIGINFO asks
    // for and makes async-signal-safe calls only.
    let status =
        unsafe { libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// On return the same access fails again, and then the signal kills.
extern "C" fn tell(
    _: libc::c_int,
    info: *mut libc::siginfo_t,
    _: *mut libc::c_void,
) {
    if TOLD.swap(true, Ordering::Relaxed) {
        // SAFETY: async-signal-safe, and takes nothing.
        unsafe { libc::pause() };
        return;
    }
    // SAFETY: the kernel hands over a live structure; of SIGBUS it holds the
    // address.
    let address = unsafe { (*info).si_addr() }.addr();
    let offset = address.wrapping_sub(START.load(Ordering::Relaxed));
    let mut line = Line::default();
    if offset < BYTES.load(Ordering::Relaxed) {
        line.text("SIGBUS: a page fault of ");
        line.number(BLOCK_BYTES);
        line.text(" bytes at offset ");
        line.number(offset / BLOCK_BYTES * BLOCK_BYTES);
        line.text(
            " of the mapped target could not be served: it was cut short, or \
             its device failed\n",
        );
    } else {
        line.text("SIGBUS outside of the mapped target\n");
    }
    // SAFETY: both are async-signal-safe; the bytes are live through the call.
    unsafe {
        libc::write(
            libc::STDERR_FILENO,
            line.bytes.as_ptr().cast(),
            line.length,
        );
        libc::signal(libc::SIGBUS, libc::SIG_DFL);
    }
}

/// A line that is put together without an allocator, which the interrupted
/// thread may be in the middle of.
struct Line {
    bytes: [u8; 192],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; 192], length: 0 }
    }
}

impl Line {
    fn text(&mut self, text: &str) {
        for byte in text.bytes() {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = byte;
                self.length += 1;
            }
        }
    }

    fn number(&mut self, number: usize) {
        let mut divisor = 1;
        while number / divisor >= 10 {
            divisor *= 10;
        }
        while divisor > 0 {
            let digit = number / divisor % 10;
            self.text(&"0123456789"[digit..=digit]);
            divisor /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hold_numbers_and_end_where_they_are_full() {
        let mut line = Line::default();
        for number in [0, 9, 10, 4_096, 1_234_567_890] {
            line.number(number);
            line.text(" ");
        }
        assert_eq!(&line.bytes[..line.length], b"0 9 10 4096 1234567890 ");
        line.text(&"x".repeat(400));
        assert_eq!(line.length, line.bytes.len());
    }
}
