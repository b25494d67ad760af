//! The open loop: ops start at a set rate, whatever became of those before.
//! What it yields is response time, which counts from the time at which an op
//! *was to* start. So an op that had to wait behind a slow one shows that wait;
//! a loop that starts it late and counts from then hides it (coordinated
//! omission).
//!
//! A [`Generator`] starts ops; whoever sees them complete has the same
//! [`Pace`], by which an op's number gives its intended start.

use std::{hint::spin_loop, num::NonZeroU64};

use crate::measure::trial::{Evidence, ExtraMetric};

const SECOND_NS: u64 = 1_000_000_000;

/// Where fewer of the ops that were due have been started, the load is another
/// one than was asked for.
const STARTED_PERCENT_MIN: u64 = 99;

/// When each op is to start, on the trial's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    start_ns: u64,
    per_s: NonZeroU64,
    /// Nanoseconds between two ops, as a fixed-point number with 32 fraction
    /// bits: no drift at rates that do not divide a second, and no division
    /// for each op.
    interval: u64,
}

impl Pace {
    /// Op 0 starts then, and so many follow each second.
    pub fn new(start_ns: u64, per_s: NonZeroU64) -> Self {
        Self { start_ns, per_s, interval: (SECOND_NS << 32) / per_s }
    }

    /// The intended start of the op of this number.
    #[inline(always)]
    pub fn due_ns(&self, number: u64) -> u64 {
        let after = (u128::from(number) * u128::from(self.interval)) >> 32;
        // 64 bits of nanoseconds last 584 years; only a number that is none
        // gets there.
        let after = u64::try_from(after).unwrap_or(u64::MAX);
        self.start_ns.saturating_add(after)
    }

    /// Ops that were to start by then.
    pub fn due_by(&self, now_ns: u64) -> u64 {
        let Some(since) = now_ns.checked_sub(self.start_ns) else { return 0 };
        let whole = u128::from(since) * u128::from(self.per_s.get())
            / u128::from(SECOND_NS);
        u64::try_from(whole).map_or(u64::MAX, |whole| whole.saturating_add(1))
    }

    fn interval_ns(&self) -> u64 {
        self.interval >> 32
    }
}

/// Starts ops by a pace and keeps the account of how late it was.
#[derive(Debug)]
pub struct Generator {
    pace: Pace,
    started: u64,
    late: u64,
    latest_ns: u64,
}

impl Generator {
    /// No op has been started yet.
    pub fn new(pace: Pace) -> Self {
        Self { pace, started: 0, late: 0, latest_ns: 0 }
    }

    /// Spins until the next op is due, and gives its number: it is to be
    /// started now. None is ever left out: ops that became overdue meanwhile
    /// follow each other at once. None, once `ended` says so.
    ///
    /// It spins whatever the variant does: a timer wakes a thread tens of
    /// microseconds late, more than the latency of many an op.
    #[inline(always)]
    pub fn wait(
        &mut self,
        mut now_ns: impl FnMut() -> u64,
        mut ended: impl FnMut() -> bool,
    ) -> Option<u64> {
        let number = self.started;
        let due_ns = self.pace.due_ns(number);
        // First, so that a generator that is always late ends, too.
        while !ended() {
            if let Some(late_ns) = now_ns().checked_sub(due_ns) {
                self.started += 1;
                self.late += u64::from(late_ns > self.pace.interval_ns());
                self.latest_ns = self.latest_ns.max(late_ns);
                return Some(number);
            }
            spin_loop();
        }
        None
    }

    /// What it did until now, which is its end.
    pub fn account(&self, now_ns: u64) -> Account {
        let Self { pace, started, late, latest_ns } = *self;
        let ran_ns = now_ns.saturating_sub(pace.start_ns);
        let due = pace.due_by(now_ns);
        let asked_per_s = pace.per_s.get();
        Account { asked_per_s, due, started, late, latest_ns, ran_ns }
    }
}

/// How well a generator kept its pace over a whole trial, with what lies
/// before and after its window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Ops a second that were to be started.
    pub asked_per_s: u64,
    /// Ops that were to be started.
    pub due: u64,
    /// Those that were.
    pub started: u64,
    /// Those among them that were started when the next one was due already.
    pub late: u64,
    /// How late the latest was.
    pub latest_ns: u64,
    /// How long it went on.
    pub ran_ns: u64,
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
impl Account {
    /// Ops a second that were started.
    pub fn reached_per_s(&self) -> f64 {
        let ran_s = self.ran_ns as f64 / SECOND_NS as f64;
        if ran_s > 0.0 { self.started as f64 / ran_s } else { 0.0 }
    }

    /// Whether the load was the one that was asked for. The last op may have
    /// become due as the generator was told to end.
    pub fn kept(&self) -> bool {
        let due = self.due.saturating_sub(1);
        let wanted = due.saturating_mul(STARTED_PERCENT_MIN);
        self.started.saturating_mul(100) >= wanted
    }

    /// States it on the row, which is degraded where the pace was not kept.
    pub fn report(&self, evidence: &mut Evidence) {
        let mut add = |name: &str, unit: &str, better: &str, value: f64| {
            evidence.metrics.push(ExtraMetric {
                name: name.to_owned(),
                unit: unit.to_owned(),
                better: better.to_owned(),
                thread: None,
                value,
            });
        };
        let reached = self.reached_per_s();
        let late = self.late as f64 / (self.started as f64).max(1.0) * 100.0;
        add("generator_rate", "ops/s", "none", reached);
        add("generator_late", "%", "lower", late);
        add("generator_late_max", "ns", "lower", self.latest_ns as f64);
        if !self.kept() {
            evidence.degraded.push(format!(
                "the generator started {reached:.0} of {} ops per second",
                self.asked_per_s
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const START_NS: u64 = 5_000;

    fn pace(per_s: u64) -> Pace {
        Pace::new(START_NS, NonZeroU64::new(per_s).expect("a rate"))
    }

    /// A clock that goes on by a step whenever it is read.
    fn ticking(from_ns: u64, step_ns: u64) -> impl FnMut() -> u64 {
        let mut now_ns = from_ns;
        move || {
            now_ns += step_ns;
            now_ns
        }
    }

    #[test]
    fn ops_are_due_at_equal_distances() {
        let due = |number| pace(1_000).due_ns(number) - START_NS;
        assert_eq!(
            [0, 1, 2, 1_000].map(due),
            [0, 1_000_000, 2_000_000, SECOND_NS]
        );
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        for per_s in [3, 7, 30_000, 99_999, 14_880_952] {
            let pace = pace(per_s);
            for seconds in [1, 60, 86_400] {
                let off = START_NS + seconds * SECOND_NS
                    - pace.due_ns(seconds * per_s);
                // 300 ns after a day at the greatest of these rates.
                let most = 1 + ((seconds * per_s) >> 32);
                assert!(off <= most, "{per_s}/s: {off} ns after {seconds} s");
            }
        }
    }

    #[test]
    fn a_number_that_is_none_does_not_overflow() {
        assert_eq!(pace(1).due_ns(u64::MAX), u64::MAX);
        assert_eq!(pace(1).due_by(u64::MAX), 18_446_744_074);
    }

    #[test]
    fn what_is_due_is_counted_from_the_first_op_on() {
        let due = |ns| pace(1_000).due_by(START_NS + ns);
        assert_eq!(
            [0, 999_999, 1_000_000, SECOND_NS].map(due),
            [1, 1, 2, 1_001]
        );
        assert_eq!(pace(1_000).due_by(START_NS - 1), 0);
    }

    #[test]
    fn no_op_starts_before_its_time() {
        let mut generator = Generator::new(pace(1_000_000));
        let mut clock = ticking(0, 10);
        let last = Cell::new(0);
        for number in 0..1_000 {
            let now = || {
                last.set(clock());
                last.get()
            };
            assert_eq!(generator.wait(now, || false), Some(number));
            let late_ns = last.get() - generator.pace.due_ns(number);
            assert!(late_ns < 10, "op {number} is {late_ns} ns late");
        }
        let account = generator.account(last.get());
        assert_eq!((account.started, account.due), (1_000, 1_000));
        assert_eq!(account.late, 0);
        assert!(account.kept() && account.latest_ns < 10, "{account:?}");
    }

    #[test]
    fn ops_that_a_stall_made_overdue_are_not_left_out() {
        let mut generator = Generator::new(pace(1_000_000));
        let mut start = |now_ns| generator.wait(|| now_ns, || false);
        assert_eq!(start(START_NS), Some(0));
        // Ten and a half intervals later: ops 1 to 10 are due, and 11 is not.
        let now_ns = START_NS + 10_500;
        for number in 1..=10 {
            assert_eq!(start(now_ns), Some(number));
        }
        let looks = Cell::new(0);
        let ended = || looks.replace(looks.get() + 1) == 3;
        assert_eq!(generator.wait(|| now_ns, ended), None);
        let account = generator.account(now_ns);
        // Op 9 was one and a half intervals late, op 10 half of one.
        assert_eq!((account.started, account.late), (11, 9));
        assert_eq!((account.due, account.latest_ns), (11, 9_500));
    }

    #[test]
    fn a_generator_that_is_always_late_ends() {
        let mut generator = Generator::new(pace(1_000));
        assert_eq!(generator.wait(|| u64::MAX, || true), None);
        assert_eq!(generator.account(START_NS).started, 0);
    }

    #[test]
    fn a_load_that_was_not_put_on_degrades_the_trial() {
        let told = |started, due| {
            let account = Account {
                asked_per_s: 1_000,
                due,
                started,
                late: started / 4,
                latest_ns: 7_000,
                ran_ns: SECOND_NS,
            };
            let mut evidence = Evidence::default();
            account.report(&mut evidence);
            let values: Vec<f64> =
                evidence.metrics.iter().map(|m| m.value).collect();
            (evidence.degraded, values)
        };
        for kept in [1_001, 1_000, 990] {
            assert_eq!(told(kept, 1_001).0, Vec::<String>::new(), "{kept}");
        }
        // The one that is just due.
        assert_eq!(told(0, 1).0, Vec::<String>::new());
        let (degraded, values) = told(600, 1_001);
        assert_eq!(
            degraded,
            ["the generator started 600 of 1000 ops per second"]
        );
        assert_eq!(values, [600.0, 25.0, 7_000.0]);
    }
}
