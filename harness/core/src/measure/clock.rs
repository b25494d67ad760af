//! The clock of the measured loop.
//!
//! On x86-64 the time-stamp counter is read directly when the kernel itself
//! trusts it (clock source `tsc`, constant and nonstop): some 10 ns instead of
//! 25 ns for the vDSO. Everywhere else it is `CLOCK_MONOTONIC`. Either way the
//! unit is nanoseconds since an arbitrary start that all processes of a run
//! share, so that the runner calibrates once and hands the clock to workers.

use serde::{Deserialize, Serialize};

use crate::machine::root::Root;

/// How long the runner calibrates the time-stamp counter. Both ends are read
/// within about 50 ns, which makes the scale right to about 1 ppm.
const CALIBRATION_NS: u64 = 50_000_000;

/// Reads nanoseconds; copied freely into every thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    source: Source,
    /// Nanoseconds per tick, as a fixed-point number with 32 fraction bits.
    scale: u64,
}

/// Where the time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The processor's time-stamp counter.
    Tsc,
    /// `clock_gettime(CLOCK_MONOTONIC)`.
    Monotonic,
}

impl Clock {
    /// The best clock of this machine, calibrated (takes 50 ms with the TSC).
    pub fn calibrate(root: &Root) -> Self {
        if !tsc_is_trusted(root) {
            return Self::monotonic();
        }
        let (ticks_0, ns_0) = paired_read();
        while monotonic_ns() - ns_0 < CALIBRATION_NS {
            std::hint::spin_loop();
        }
        let (ticks_1, ns_1) = paired_read();
        let scale = (u128::from(ns_1 - ns_0) << 32)
            / u128::from((ticks_1 - ticks_0).max(1));
        match u64::try_from(scale) {
            Ok(scale) if scale > 0 => Self { source: Source::Tsc, scale },
            _ => Self::monotonic(),
        }
    }

    /// The portable clock; needs no calibration.
    pub fn monotonic() -> Self {
        Self { source: Source::Monotonic, scale: 1 << 32 }
    }

    /// Now, in nanoseconds since an arbitrary start.
    #[inline(always)]
    pub fn now_ns(&self) -> u64 {
        match self.source {
            Source::Tsc => {
                let product = u128::from(ticks()) * u128::from(self.scale);
                // 64 bits of nanoseconds last 584 years of uptime.
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "nanoseconds of uptime fit 64 bits"
                )]
                let ns = (product >> 32) as u64;
                ns
            }
            Source::Monotonic => monotonic_ns(),
        }
    }

    /// Where the time comes from.
    pub fn source(&self) -> Source {
        self.source
    }

    /// The error of one stamp: the median distance of two reads back to back.
    pub fn stamp_error_ns(&self) -> u64 {
        const READS: usize = 1_001;
        let mut gaps = Vec::with_capacity(READS);
        for _ in 0..READS {
            let first = self.now_ns();
            gaps.push(self.now_ns() - first);
        }
        gaps.sort_unstable();
        gaps[READS / 2].max(1)
    }
}

/// Trusted means: the kernel keeps its own time by it, and it neither changes
/// speed nor stops. A guest on `kvm-clock` may have a sound TSC too, but
/// nothing says so.
fn tsc_is_trusted(root: &Root) -> bool {
    if !cfg!(target_arch = "x86_64") {
        return false;
    }
    let source = root.read(
        "sys/devices/system/clocksource/clocksource0/current_clocksource",
    );
    let flags = root.read("proc/cpuinfo").unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|word| word == flag);
    source.as_deref() == Some("tsc")
        && has("constant_tsc")
        && has("nonstop_tsc")
}

/// A counter value and the time at which it was read, from the tightest of
/// several tries.
fn paired_read() -> (u64, u64) {
    (0..16)
        .map(|_| {
            let before = monotonic_ns();
            let ticks = ticks();
            let after = monotonic_ns();
            (after - before, ticks, before + (after - before) / 2)
        })
        .min()
        .map_or((0, 0), |(_, ticks, ns)| (ticks, ns))
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn ticks() -> u64 {
    // SAFETY: RDTSC has no preconditions in user mode; Linux leaves CR4.TSD
    // clear unless a process asks for the opposite with prctl(PR_SET_TSC).
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn ticks() -> u64 {
    monotonic_ns()
}

#[inline]
fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    // Neither part is negative for this clock (clock_gettime(2)).
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_kernel_over_a_sleep() {
        let clock = Clock::calibrate(&Root::system());
        // A pre-emption between two reads shifts one of them, once; a wrong
        // scale is wrong by as much each time.
        let mut off = Vec::new();
        for slept_ms in [30, 60, 120, 240, 480] {
            let (start, kernel) = (clock.now_ns(), monotonic_ns());
            std::thread::sleep(std::time::Duration::from_millis(slept_ms));
            let (end, kernel_end) = (clock.now_ns(), monotonic_ns());
            let measured = (end - start) as f64;
            let expected = (kernel_end - kernel) as f64;
            off.push((measured / expected - 1.0).abs());
            if off.iter().any(|off| *off < 0.05) {
                return;
            }
        }
        panic!("off by these shares: {off:?}");
    }

    #[test]
    fn never_goes_back() {
        let clock = Clock::calibrate(&Root::system());
        let mut last = clock.now_ns();
        for _ in 0..100_000 {
            let now = clock.now_ns();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn an_untrusted_counter_is_not_used() {
        let empty = tempfile::tempdir().expect("temporary directory");
        let clock = Clock::calibrate(&Root::at(empty.path()));
        assert_eq!(clock.source(), Source::Monotonic);
    }
}
