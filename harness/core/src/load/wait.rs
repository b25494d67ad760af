//! Waiting without sleeping, and knowing when it has become pointless.

use std::{
    fmt,
    hint::spin_loop,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Polls between two looks at the clock and at the other side. A poll lasts
/// from 20 ns up, so that the looks cost less than 1 % of the waiting, and a
/// wait as short as a round trip never gets to one.
const POLLS_PER_CHECK: u32 = 1_024;

/// Waiting longer than this means that a message is lost or that the other
/// thread got no CPU: a round trip lasts a microsecond, a time slice
/// milliseconds.
const PATIENCE: Duration = if cfg!(test) {
    Duration::from_millis(300)
} else {
    Duration::from_secs(2)
};

/// The most that one check adds to the time waited. A guest that was stopped
/// for seconds has not waited in vain.
const CHECK_MAX: Duration = Duration::from_millis(10);

/// What a thread does between two polls that found nothing.
///
/// All queues of an experiment that never sleep use the same one, at both
/// ends: a consumer that polls hard takes the producer's lines away with every
/// poll and makes the queue look ten times slower than one that lets some
/// items gather first (FastForward calls it temporal slip).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// One pause instruction: the shortest reaction.
    Spin,
    /// Several, for throughput.
    Backoff {
        /// Their number.
        pauses: u32,
    },
}

impl Wait {
    #[inline(always)]
    fn pause(self) {
        match self {
            Self::Spin => spin_loop(),
            Self::Backoff { pauses } => {
                for _ in 0..pauses {
                    spin_loop();
                }
            }
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spin => f.pad("spin"),
            Self::Backoff { pauses } => f.pad(&format!("backoff{pauses}")),
        }
    }
}

/// Why no message came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// The other end is gone.
    #[error("the other end is gone")]
    Closed,
    /// Nothing moved for as long as patience lasts.
    #[error("nothing moved for {} ms", PATIENCE.as_millis())]
    TimedOut,
    /// A system call failed.
    #[error(
        "{operation}: {}",
        std::io::Error::from_raw_os_error(*errno)
    )]
    System {
        /// Which.
        operation: &'static str,
        /// Its error number.
        errno: i32,
    },
}

impl Lost {
    /// A failed system call.
    #[cold]
    pub fn system(operation: &'static str, error: &std::io::Error) -> Self {
        Self::System { operation, errno: error.raw_os_error().unwrap_or(0) }
    }
}

/// Ties two threads together: once cut, neither waits for the other.
#[derive(Clone, Debug, Default)]
pub struct Lifeline(Arc<AtomicBool>);

impl Lifeline {
    /// No more messages will be sent by whoever calls this.
    pub fn cut(&self) {
        // Release pairs with the Acquire in `is_cut`: whoever sees the cut
        // finds every message sent before it.
        self.0.store(true, Ordering::Release);
    }

    /// Whether one of the two is gone.
    pub fn is_cut(&self) -> bool {
        // Acquire pairs with the Release in `cut`.
        self.0.load(Ordering::Acquire)
    }
}

/// Polls for one end of a queue that never sleeps.
#[derive(Clone, Debug)]
pub struct Waiter {
    wait: Wait,
    lifeline: Lifeline,
}

impl Waiter {
    /// Waits in this manner as long as the lifeline holds.
    pub fn new(wait: Wait, lifeline: &Lifeline) -> Self {
        Self { wait, lifeline: lifeline.clone() }
    }

    /// What ties the waiting thread to the other.
    pub fn lifeline(&self) -> &Lifeline {
        &self.lifeline
    }

    /// Repeats an attempt until it succeeds.
    ///
    /// All of it is compiled into the caller's loop, so that a producer's
    /// index can stay in a register and a message costs no store but its own
    /// and the shared index's. That is read off the assembly; what it gains
    /// was within the noise of the machine it was tried on.
    ///
    /// # Errors
    /// The other thread is gone and has left nothing, or patience is at an
    /// end.
    #[inline(always)]
    pub fn until<T>(
        &self,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Result<T, Lost> {
        if let Some(result) = attempt() {
            return Ok(result);
        }
        let mut waited = Waited::default();
        let mut is_cut = false;
        loop {
            for _ in 0..POLLS_PER_CHECK {
                self.wait.pause();
                if let Some(result) = attempt() {
                    return Ok(result);
                }
                if is_cut {
                    return Err(Lost::Closed);
                }
            }
            waited = waited.so_far();
            if waited.total >= PATIENCE {
                return Err(Lost::TimedOut);
            }
            // What was sent just before the cut is visible now: once more.
            is_cut = self.lifeline.is_cut();
        }
    }
}

/// How long one wait has lasted.
#[derive(Clone, Copy, Default)]
struct Waited {
    checked: Option<Instant>,
    total: Duration,
}

impl Waited {
    #[cold]
    #[inline(never)]
    fn so_far(self) -> Self {
        let now = Instant::now();
        let step = self.checked.map_or(Duration::ZERO, |checked| {
            now.duration_since(checked).min(CHECK_MAX)
        });
        Self { checked: Some(now), total: self.total + step }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_have_names_for_the_table() {
        assert_eq!(Wait::Spin.to_string(), "spin");
        assert_eq!(Wait::Backoff { pauses: 32 }.to_string(), "backoff32");
    }

    #[test]
    fn an_attempt_is_repeated_until_it_succeeds() {
        let waiter = Waiter::new(Wait::Spin, &Lifeline::default());
        let mut attempts = 0;
        let result = waiter.until(|| {
            attempts += 1;
            (attempts == 5_000).then_some(attempts)
        });
        assert_eq!(result, Ok(5_000));
    }

    #[test]
    fn nothing_is_waited_for_after_the_cut() {
        let lifeline = Lifeline::default();
        let waiter = Waiter::new(Wait::Backoff { pauses: 2 }, &lifeline);
        lifeline.cut();
        assert_eq!(waiter.until(|| None::<()>), Err(Lost::Closed));
        assert_eq!(waiter.until(|| Some(1)), Ok(1));
    }

    #[test]
    fn what_was_sent_before_the_cut_is_still_found() {
        let lifeline = Lifeline::default();
        let waiter = Waiter::new(Wait::Spin, &lifeline);
        let mut attempts = 0;
        let result = waiter.until(|| {
            attempts += 1;
            if attempts == POLLS_PER_CHECK + 1 {
                // The last attempt before the check misses it by a hair.
                lifeline.cut();
                return None;
            }
            lifeline.is_cut().then_some(attempts)
        });
        assert_eq!(result, Ok(POLLS_PER_CHECK + 2));
    }

    #[test]
    fn patience_ends() {
        let waiter = Waiter::new(Wait::Spin, &Lifeline::default());
        assert_eq!(waiter.until(|| None::<()>), Err(Lost::TimedOut));
    }

    #[test]
    fn a_machine_that_stood_still_does_not_use_up_patience() {
        let long_ago = Instant::now() - Duration::from_secs(60);
        let waited = Waited { checked: Some(long_ago), total: Duration::ZERO };
        assert_eq!(waited.so_far().total, CHECK_MAX);
    }
}
