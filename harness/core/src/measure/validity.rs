//! Whether the machine kept still during a trial.
//!
//! Only these signals may void a trial, never the measured value. `observer`
//! reads them.

use serde::{Deserialize, Serialize};

/// Foreign CPU time on used CPUs that voids a trial, as a share of the window.
/// `/proc/stat` counts in ticks of 10 ms, so that a short window also needs
/// at least `FOREIGN_FLOOR_NS`.
const FOREIGN_LIMIT: f64 = 0.05;
const FOREIGN_FLOOR_NS: u64 = 30_000_000;

/// Time taken by the hypervisor that voids a trial. A shared host takes 2 to
/// 4 % now and then; the pairing within a block absorbs as much.
const STEAL_LIMIT: f64 = 0.05;
const STEAL_FLOOR_NS: u64 = 20_000_000;

/// Waiting for a CPU that voids a trial of a variant that never sleeps. Two
/// spinning threads on a quiet machine of two CPUs wait 0.3 to 1.4 %: what
/// the kernel has to do meanwhile has no other CPU to go to.
const WAIT_LIMIT: f64 = 0.05;

/// Interrupts of other devices per second and used CPU.
const INTERRUPT_LIMIT_PER_S: f64 = 1_000.0;
const INTERRUPT_FLOOR: u64 = 200;

/// The looks must lie at least this share of the window apart: signals of less
/// time say nothing about the rest. They lie closer where the thread that
/// looks had to wait long for a CPU.
const SEEN_MIN: f64 = 0.5;

/// What was seen around one window. `None` is: not readable here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Signals {
    /// Time between the two looks.
    pub seen_ns: u64,
    /// CPUs that the trial used.
    pub used_cpus: usize,
    /// CPU time of other processes on used CPUs; kernel threads are not
    /// among them.
    pub foreign_cpu_ns: Option<u64>,
    /// Time that the hypervisor took from used CPUs.
    pub steal_ns: Option<u64>,
    /// Longest time that one thread was runnable but not running.
    pub run_queue_wait_ns: Option<u64>,
    /// Switches away because a thread waited.
    pub switches_voluntary: Option<u64>,
    /// Switches away although a thread could have run.
    pub switches_involuntary: Option<u64>,
    /// Device interrupts on used CPUs, without the target's own.
    pub foreign_interrupts: Option<u64>,
    /// Page faults served without I/O.
    pub faults_minor: Option<u64>,
    /// Page faults that needed I/O.
    pub faults_major: Option<u64>,
    /// They are the ops of a variant that reads by faulting: no disturbance.
    pub major_faults_are_ops: bool,
    /// Processor throttling events.
    pub throttle_events: Option<u64>,
    /// Highest temperature of any sensor afterwards.
    pub temperature_max_millicelsius: Option<i64>,
    /// Lowest frequency of a used CPU, before or after.
    pub frequency_min_khz: Option<u64>,
    /// Bytes that the process made storage read.
    pub storage_read_bytes: Option<u64>,
    /// Whether the name of each thread could be read; where not, any may be
    /// one of the kernel's, and the next three are too low.
    pub threads_told: bool,
    /// io-wq worker threads present after the window.
    pub io_wq_threads: usize,
    /// Their CPU time.
    pub io_wq_cpu_ns: u64,
    /// CPU time of submission-queue polling threads.
    pub sqpoll_cpu_ns: u64,
}

impl Signals {
    /// Why the trial is void; empty if it is valid.
    pub fn verdict(&self, window_ns: u64, spinning: bool) -> Vec<String> {
        let mut reasons = Vec::new();
        let seen = self.seen_ns as f64;
        if seen < SEEN_MIN * window_ns as f64 {
            return vec![format!(
                "the machine was watched for {:.0} % of the window only",
                100.0 * seen / window_ns as f64
            )];
        }
        let used = self.used_cpus.max(1) as f64;
        let share = |ns: u64| 100.0 * ns as f64 / (seen * used);
        if let Some(ns) = self.foreign_cpu_ns
            && ns >= FOREIGN_FLOOR_NS
            && ns as f64 > FOREIGN_LIMIT * seen * used
        {
            reasons.push(format!(
                "foreign CPU time {:.0} % of used CPUs",
                share(ns)
            ));
        }
        if let Some(ns) = self.steal_ns
            && ns >= STEAL_FLOOR_NS
            && ns as f64 > STEAL_LIMIT * seen * used
        {
            reasons
                .push(format!("stolen by the hypervisor {:.1} %", share(ns)));
        }
        if spinning
            && let Some(ns) = self.run_queue_wait_ns
            && ns as f64 > WAIT_LIMIT * seen
        {
            reasons.push(format!(
                "a spinning thread waited {:.1} % for its CPU",
                100.0 * ns as f64 / seen
            ));
        }
        if let Some(count) = self.foreign_interrupts
            && count >= INTERRUPT_FLOOR
            && count as f64 > INTERRUPT_LIMIT_PER_S * used * seen / 1e9
        {
            reasons.push(format!(
                "{:.0} foreign interrupts/s on used CPUs",
                count as f64 * 1e9 / seen
            ));
        }
        if let Some(count) = self.faults_major
            && count > 0
            && !self.major_faults_are_ops
        {
            reasons.push(format!("{count} major page faults"));
        }
        if let Some(count) = self.throttle_events
            && count > 0
        {
            reasons.push(format!("{count} throttling events"));
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW_NS: u64 = 1_000_000_000;

    fn signals() -> Signals {
        Signals { seen_ns: WINDOW_NS, used_cpus: 2, ..Signals::default() }
    }

    #[test]
    fn unreadable_signals_void_nothing() {
        assert!(signals().verdict(WINDOW_NS, true).is_empty());
    }

    #[test]
    fn each_signal_voids_with_its_own_reason() {
        let cases = [
            (
                Signals { foreign_cpu_ns: Some(200_000_000), ..signals() },
                "foreign CPU time 10 %",
            ),
            (
                Signals { steal_ns: Some(120_000_000), ..signals() },
                "stolen by the hypervisor 6.0 %",
            ),
            (
                Signals { run_queue_wait_ns: Some(60_000_000), ..signals() },
                "waited 6.0 %",
            ),
            (
                Signals { foreign_interrupts: Some(5_000), ..signals() },
                "5000 foreign interrupts/s",
            ),
            (
                Signals { faults_major: Some(1), ..signals() },
                "1 major page fault",
            ),
            (
                Signals { throttle_events: Some(2), ..signals() },
                "2 throttling events",
            ),
        ];
        for (signals, expected) in cases {
            let reasons = signals.verdict(WINDOW_NS, true);
            assert_eq!(reasons.len(), 1, "{reasons:?}");
            assert!(reasons[0].contains(expected), "{reasons:?}");
        }
    }

    #[test]
    fn faults_that_are_the_ops_void_nothing() {
        let signals = Signals {
            faults_major: Some(1_000),
            major_faults_are_ops: true,
            ..signals()
        };
        assert!(signals.verdict(WINDOW_NS, true).is_empty());
    }

    #[test]
    fn waiting_is_no_fault_of_a_blocking_variant() {
        let signals =
            Signals { run_queue_wait_ns: Some(700_000_000), ..signals() };
        assert!(signals.verdict(WINDOW_NS, false).is_empty());
    }

    #[test]
    fn a_tick_of_foreign_time_in_a_short_window_is_tolerated() {
        let signals = Signals {
            seen_ns: 100_000_000,
            used_cpus: 1,
            foreign_cpu_ns: Some(20_000_000),
            ..Signals::default()
        };
        assert!(signals.verdict(signals.seen_ns, true).is_empty());
    }

    #[test]
    fn a_late_look_voids_and_is_the_only_reason() {
        let signals = Signals {
            seen_ns: 100_000,
            foreign_cpu_ns: Some(800_000_000),
            ..signals()
        };
        let reasons = signals.verdict(WINDOW_NS, true);
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        assert!(reasons[0].contains("watched for 0 %"), "{reasons:?}");
    }
}
