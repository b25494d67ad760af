//! What a trial cost: the CPU time of the whole effect.
//!
//! `CLOCK_PROCESS_CPUTIME_ID` adds up all threads of the worker, the kernel's
//! `iou-wrk` and `iou-sqp` threads included, in nanoseconds. (The usual
//! `RUSAGE_THREAD` misses them: it shows 43 % where a full core burns.)
//! Interrupts that complete the I/O are inside as well where the kernel charges
//! them to whichever task they interrupt; where it accounts them apart
//! (CONFIG_IRQ_TIME_ACCOUNTING), irq and softirq time of the used CPUs is
//! added. Which of the two holds is part of the result. Softirqs that were put
//! off run in `ksoftirqd`, which is a task of its own: where interrupts are
//! charged to tasks, what it ran on the used CPUs is added.

use serde::{Deserialize, Serialize};

use super::{counters::Counts, trial::ExtraMetric};

/// CPU time scaled to the window, and counters where permitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessCost {
    /// All CPU time, interrupts included as far as `accounting` tells.
    pub cpu_ns: u64,
    /// The part of the kernel's io_uring threads.
    pub kernel_threads_ns: u64,
    /// The part that was added for interrupts; none where they are inside.
    pub interrupts_ns: Option<u64>,
    /// The part that was added for `ksoftirqd`; none where `interrupts_ns`
    /// has it, or nobody knows.
    pub softirq_threads_ns: Option<u64>,
    /// How interrupts are accounted for.
    pub accounting: Accounting,
    /// Processor counters.
    pub counts: Counts,
}

/// Where the kernel books interrupt time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accounting {
    /// Charged to the task that was interrupted.
    InterruptsInTasks,
    /// Booked apart, and added here.
    Separate,
    /// Cannot be told; nothing was added.
    Unknown,
}

impl ProcessCost {
    /// The softirq threads' part as a figure beside the fixed columns.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53 ns")]
    pub fn softirq_threads(&self) -> Option<ExtraMetric> {
        self.softirq_threads_ns.map(|ns| ExtraMetric {
            name: "cpu_softirq_threads".to_owned(),
            unit: "ns".to_owned(),
            better: "lower".to_owned(),
            thread: None,
            value: ns as f64,
        })
    }
}

/// Scales what was seen between two looks to the window that lies within.
/// The looks are taken just outside the window, milliseconds away.
pub fn scale_to_window(value: u64, seen_ns: u64, window_ns: u64) -> u64 {
    let scaled =
        u128::from(value) * u128::from(window_ns) / u128::from(seen_ns.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// CPU time of all threads of this process so far.
pub fn process_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_in_proportion() {
        assert_eq!(scale_to_window(1_000, 2_000, 1_000), 500);
        assert_eq!(scale_to_window(7, 0, 0), 0);
    }

    #[test]
    fn counts_the_time_of_other_threads() {
        let before = process_cpu_ns();
        let spin = std::thread::spawn(|| {
            let start = process_cpu_ns();
            while process_cpu_ns() - start < 5_000_000 {}
        });
        assert!(spin.join().is_ok());
        assert!(process_cpu_ns() - before >= 5_000_000);
    }
}
