//! What a measured thread records: ops per slice and a latency histogram.
//!
//! The window is fixed on the shared clock before any thread starts. An op
//! belongs to the phase in which the stamp that saw it complete was taken, so
//! that no thread has to be told when the window begins or ends, and all
//! threads measure exactly the same nanoseconds. Nothing here allocates,
//! locks or makes a system call once the recorder is built.

use hdrhistogram::Histogram;

use super::clock::Clock;

/// Latencies are kept from 1 ns to 1 hour; longer ones saturate.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;

/// Three significant digits bound the binning error by 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;

/// With fewer samples beyond it a quantile is chance.
const OBSERVATIONS_BEYOND: f64 = 10.0;

/// The phases of a trial on the shared clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// First nanosecond that counts.
    pub start_ns: u64,
    /// First nanosecond that no longer counts.
    pub end_ns: u64,
    /// Length of a slice of the time series.
    pub slice_ns: u64,
}

impl Schedule {
    /// Slices that the window is cut into; the last one may be shorter.
    pub fn slices(&self) -> usize {
        let slices =
            (self.end_ns - self.start_ns).div_ceil(self.slice_ns.max(1));
        usize::try_from(slices).unwrap_or(usize::MAX)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Warmup,
    Window,
    After,
}

/// Records for one thread.
#[derive(Debug)]
pub struct Recorder {
    clock: Clock,
    last_ns: u64,
    /// The next stamp at or after this one changes slice or phase.
    boundary_ns: u64,
    /// Ops since the last boundary.
    ops: u64,
    keep_latency: bool,
    /// Latencies are kept, and this is the window.
    recording: bool,
    histogram: Histogram<u64>,
    /// Of some ops, their latencies once more.
    apart: Option<Histogram<u64>>,
    /// Sum over ops of how much earlier each may have completed.
    shared_ns: u64,
    phase: Phase,
    schedule: Schedule,
    slices: Vec<u64>,
}

/// What a recorder has in the end.
#[derive(Debug)]
pub struct Kept {
    /// Ops per slice of the window.
    pub slices: Vec<u64>,
    /// All latencies within it.
    pub latencies: Histogram<u64>,
    /// Those of ops that were to be kept apart, if any were.
    pub apart: Option<Histogram<u64>>,
    /// Sum over the latencies of what each may be too long by, since its op
    /// shares the stamp of others.
    pub shared_ns: u64,
}

impl Recorder {
    /// A recorder with all its memory allocated and touched, so that it can
    /// be made before the schedule is known; `begin` sets that.
    pub fn prepare(clock: Clock, slices: usize, keep_latency: bool) -> Self {
        let mut histogram = new_histogram();
        if keep_latency {
            touch(&mut histogram);
        }
        let never = u64::MAX;
        Self {
            clock,
            last_ns: 0,
            boundary_ns: never,
            ops: 0,
            keep_latency,
            recording: false,
            histogram,
            apart: None,
            shared_ns: 0,
            phase: Phase::Warmup,
            schedule: Schedule { start_ns: never, end_ns: never, slice_ns: 1 },
            slices: Vec::with_capacity(slices),
        }
    }

    /// A recorder for a schedule that is known already.
    pub fn new(clock: Clock, schedule: Schedule, keep_latency: bool) -> Self {
        let mut recorder =
            Self::prepare(clock, schedule.slices(), keep_latency);
        recorder.begin(schedule);
        recorder
    }

    /// Makes room for `complete_apart`; before the first stamp.
    pub fn keep_apart(&mut self) {
        let mut apart = new_histogram();
        touch(&mut apart);
        self.apart = Some(apart);
    }

    /// Sets the phases; before the first stamp.
    pub fn begin(&mut self, schedule: Schedule) {
        self.boundary_ns = schedule.start_ns;
        self.schedule = schedule;
    }

    /// Reads the clock. Every round of work ends with one stamp, after which
    /// it records what had completed by then.
    #[inline(always)]
    pub fn stamp_ns(&mut self) -> u64 {
        let now_ns = self.clock.now_ns();
        self.last_ns = now_ns;
        if now_ns >= self.boundary_ns {
            self.cross(now_ns);
        }
        now_ns
    }

    /// The stamp before, for work whose next op starts where the last ended.
    #[inline(always)]
    pub fn last_ns(&self) -> u64 {
        self.last_ns
    }

    /// `ops` ops completed by the last stamp, each having taken `latency_ns`.
    #[inline(always)]
    pub fn complete(&mut self, ops: u64, latency_ns: u64) {
        self.ops += ops;
        if self.recording {
            self.histogram.saturating_record_n(latency_ns.max(1), ops);
        }
    }

    /// As `complete`, of ops whose latencies are kept apart as well.
    #[inline(always)]
    pub fn complete_apart(&mut self, ops: u64, latency_ns: u64) {
        self.complete(ops, latency_ns);
        if let (true, Some(apart)) = (self.recording, &mut self.apart) {
            apart.saturating_record_n(latency_ns.max(1), ops);
        }
    }

    /// Ops that were recorded share the last stamp: they may have completed
    /// earlier, by so many nanoseconds if all of them are added up.
    #[inline(always)]
    pub fn shared(&mut self, sum_ns: u64) {
        if self.recording {
            self.shared_ns = self.shared_ns.saturating_add(sum_ns);
        }
    }

    /// `ops` ops completed by the last stamp, untimed.
    #[inline(always)]
    pub fn count(&mut self, ops: u64) {
        self.ops += ops;
    }

    /// One latency sample that stands for ops counted elsewhere.
    #[inline(always)]
    pub fn sample(&mut self, latency_ns: u64) {
        if self.recording {
            self.histogram.saturating_record_n(latency_ns.max(1), 1);
        }
    }

    /// Whether the window lies behind the last stamp.
    #[inline(always)]
    pub fn finished(&self) -> bool {
        self.phase == Phase::After
    }

    /// What came of it.
    pub fn into_kept(self) -> Kept {
        Kept {
            slices: self.slices,
            latencies: self.histogram,
            apart: self.apart,
            shared_ns: self.shared_ns,
        }
    }

    /// Changes slice or phase; a round longer than a slice may cross several.
    #[cold]
    #[inline(never)]
    fn cross(&mut self, now_ns: u64) {
        while now_ns >= self.boundary_ns {
            match self.phase {
                Phase::Warmup => {
                    self.phase = Phase::Window;
                    self.recording = self.keep_latency;
                }
                Phase::Window => self.slices.push(self.ops),
                Phase::After => {}
            }
            self.ops = 0;
            if self.boundary_ns >= self.schedule.end_ns {
                self.phase = Phase::After;
                self.recording = false;
                self.boundary_ns = u64::MAX;
                return;
            }
            self.boundary_ns = (self.boundary_ns + self.schedule.slice_ns)
                .min(self.schedule.end_ns);
        }
    }
}

/// A quantile, if at least ten samples lie beyond it.
pub fn quantile(latencies: &Histogram<u64>, q: f64) -> Option<u64> {
    let beyond = latencies.len() as f64 * (1.0 - q);
    (beyond >= OBSERVATIONS_BEYOND).then(|| latencies.value_at_quantile(q))
}

/// An empty histogram with the range and precision used everywhere.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, SIGNIFICANT_DIGITS)
        .unwrap_or_else(|error| {
            // Constant arguments; `bounds_are_valid` below proves them.
            unreachable!("histogram bounds: {error}")
        })
}

/// Writes to every part of the histogram's memory, then empties it.
fn touch(histogram: &mut Histogram<u64>) {
    let mut value = 1;
    while value < LATENCY_MAX_NS {
        histogram.saturating_record(value);
        value = value * 9 / 8 + 1;
    }
    histogram.reset();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorder(start_ns: u64, end_ns: u64) -> Recorder {
        let schedule = Schedule { start_ns, end_ns, slice_ns: 100 };
        Recorder::new(Clock::monotonic(), schedule, true)
    }

    /// Drives the phases with made-up stamps.
    fn at(recorder: &mut Recorder, now_ns: u64, ops: u64) {
        recorder.last_ns = now_ns;
        if now_ns >= recorder.boundary_ns {
            recorder.cross(now_ns);
        }
        recorder.complete(ops, now_ns);
    }

    #[test]
    fn bounds_are_valid() {
        assert_eq!(new_histogram().len(), 0);
    }

    #[test]
    fn counts_only_what_completes_in_the_window() {
        let mut recorder = recorder(1_000, 1_250);
        at(&mut recorder, 999, 7);
        at(&mut recorder, 1_000, 1);
        at(&mut recorder, 1_099, 2);
        at(&mut recorder, 1_100, 3);
        at(&mut recorder, 1_249, 4);
        assert!(!recorder.finished());
        at(&mut recorder, 1_250, 9);
        assert!(recorder.finished());
        let kept = recorder.into_kept();
        assert_eq!(kept.slices, [3, 3, 4]);
        assert_eq!(kept.latencies.len(), 10);
    }

    #[test]
    fn a_round_longer_than_the_window_leaves_empty_slices() {
        let mut recorder = recorder(1_000, 1_300);
        at(&mut recorder, 10, 1);
        at(&mut recorder, 5_000, 8);
        assert!(recorder.finished());
        let kept = recorder.into_kept();
        assert_eq!(kept.slices, [0, 0, 0]);
        assert_eq!(kept.latencies.len(), 0);
    }

    #[test]
    fn what_is_kept_apart_is_among_all_and_outside_of_the_window_nothing_is() {
        let mut recorder = recorder(1_000, 1_200);
        recorder.keep_apart();
        for now_ns in [900, 1_050, 1_300] {
            at(&mut recorder, now_ns, 2);
            recorder.complete_apart(3, 70);
            recorder.shared(5);
        }
        let kept = recorder.into_kept();
        assert_eq!(kept.latencies.len(), 5);
        assert_eq!(kept.apart.map(|apart| apart.len()), Some(3));
        assert_eq!(kept.shared_ns, 5);
    }

    #[test]
    fn binning_error_is_below_one_percent() {
        let mut histogram = new_histogram();
        for value in [17_u64, 1_234, 98_765, 7_654_321, 3_000_000_000] {
            histogram.reset();
            histogram.saturating_record(value);
            let binned = histogram.value_at_quantile(0.5) as f64;
            assert!((binned / value as f64 - 1.0).abs() < 0.01, "{value}");
        }
    }

    /// Latencies from 100 ns to 100 ms, each decade as likely as the others:
    /// xorshift64*, with a fixed seed.
    fn latencies(count: usize) -> Vec<u64> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d)
        };
        (0..count)
            .map(|_| {
                let decade =
                    10_u64.pow(2 + u32::try_from(next() % 6).unwrap_or(0));
                decade + next() % (9 * decade)
            })
            .collect()
    }

    #[test]
    fn quantiles_of_a_sample_are_within_one_percent_of_the_exact_ones() {
        let mut sample = latencies(100_000);
        let mut histogram = new_histogram();
        sample.iter().for_each(|ns| histogram.saturating_record(*ns));
        sample.sort_unstable();
        let (least, most) = (sample[0], sample[sample.len() - 1]);
        assert!(least < 1_000 && most > 50_000_000, "{least} to {most}");
        for (per_mille, q) in
            [(500, 0.5), (900, 0.9), (990, 0.99), (999, 0.999)]
        {
            // The least value that such a share of all does not exceed.
            let exact = sample[sample.len() * per_mille / 1_000 - 1];
            let binned = quantile(&histogram, q).expect("enough beyond it");
            let ratio = binned as f64 / exact as f64;
            assert!((ratio - 1.0).abs() < 0.01, "{q}: {binned} for {exact}");
        }
    }
}
