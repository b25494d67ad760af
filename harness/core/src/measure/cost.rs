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
//!
//! An interrupt that hits an idle CPU, or one that the trial does not use, is
//! charged to nobody of ours: what completes I/O there is not in the cost, and
//! `interrupts_elsewhere` says how much of it was there.

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
    /// Of the interrupts of the target's lines, those on CPUs that the trial
    /// does not use, in percent; none where there were hardly any.
    pub interrupts_elsewhere_percent: Option<f64>,
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
    /// What stands beside the fixed columns.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53 ns")]
    pub fn metrics(&self) -> impl Iterator<Item = ExtraMetric> {
        let metric =
            |name: &str, unit: &str, better: &str, value| ExtraMetric {
                name: name.to_owned(),
                unit: unit.to_owned(),
                better: better.to_owned(),
                thread: None,
                value,
            };
        let softirqs = self
            .softirq_threads_ns
            .map(|ns| metric("cpu_softirq_threads", "ns", "lower", ns as f64));
        let elsewhere = self.interrupts_elsewhere_percent.map(|percent| {
            metric("interrupts_elsewhere", "percent", "none", percent)
        });
        softirqs.into_iter().chain(elsewhere)
    }
}

/// Scales what was seen between two looks to the window that lies within.
/// The looks are taken just outside the window, milliseconds away.
pub fn scale_to_window(value: u64, seen_ns: u64, window_ns: u64) -> u64 {
    let scaled =
        u128::from(value) * u128::from(window_ns) / u128::from(seen_ns.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// CPU time of all threads of this process so far. The kernel brings only the
/// calling thread up to date: what others that run have used since their last
/// tick is missing, 4 ms at 250 Hz and up to a second without ticks
/// (`nohz_full`). Asking each of them first, with [`thread_cpu_ns`], makes it
/// exact.
pub fn process_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or(0)
}

/// CPU time of a thread of this process so far, up to this instant, 0 being
/// the one that asks; none if there is no such thread.
pub fn thread_cpu_ns(thread: u32) -> Option<u64> {
    // posix-timers.h: CPUCLOCK_PERTHREAD_MASK and CPUCLOCK_SCHED, below the
    // thread's number, inverted.
    const PER_THREAD: i32 = 4;
    const SCHEDULED: i32 = 2;
    let thread = i32::try_from(thread).ok()?;
    clock_ns(!thread << 3 | PER_THREAD | SCHEDULED)
}

fn clock_ns(clock: libc::clockid_t) -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec; any number may be asked for.
    let status = unsafe { libc::clock_gettime(clock, &mut time) };
    (status == 0).then(|| {
        time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
    })
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
