//! Ctrl-C: the first ends the run after the block, the second now.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Counts the requests to stop.
#[derive(Clone, Debug, Default)]
pub struct Interrupts(Arc<AtomicUsize>);

impl Interrupts {
    /// Starts to listen for SIGINT, SIGTERM and SIGHUP.
    ///
    /// # Errors
    /// The kernel refused a handler.
    pub fn listen() -> std::io::Result<Self> {
        let interrupts = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if signal == SIGHUP && is_ignored(signal) {
                // nohup(1) means it.
                continue;
            }
            let count = Arc::clone(&interrupts.0);
            // SAFETY: the handler only increments an atomic, which is
            // async-signal-safe.
            unsafe {
                signal_hook::low_level::register(signal, move || {
                    count.fetch_add(1, Ordering::Relaxed);
                })
            }?;
        }
        Ok(interrupts)
    }

    /// Whether to stop after the current block.
    pub fn after_block(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= 1
    }

    /// Whether to stop now.
    pub fn now(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= 2
    }
}

/// Has a file beyond `ulimit -f` fail with its error, which is told, instead
/// of killing this process and its workers (setrlimit(2)).
pub fn ignore_file_size() {
    // SAFETY: no handler is installed, so that none has to be safe; the
    // signal is nobody else's in this process.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: sigaction is plain data, for which all zeros is a value.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action the call only writes `now`.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &mut now) };
    asked == 0 && now.sa_sigaction == libc::SIG_IGN
}
