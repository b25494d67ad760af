//! Whether completions were polled for. Asking for it is not enough: before
//! Linux 6.11 a device without poll queues served polled reads by interrupt,
//! and commands that are passed through are served so to this day, without a
//! word. So the device's interrupts are counted.

use harness::{
    machine::Root,
    measure::trial::{Evidence, Outcome},
};

use crate::{engine::ring::Setup, path, target::Target};

/// An op that is polled for raises no interrupt. One that is not shares its
/// interrupt with no more ops than are in flight; fewer than half of that are
/// somebody else's.
const PER_BATCH_MAX: f64 = 0.5;

/// What else the device does meanwhile is counted as well. So at great depth,
/// where many ops share an interrupt, fewer than these accuse nobody. Nor do
/// they excuse: rings that are not polled were seen with 0.03 at depth 64, 0.01
/// at 128 and 256.
const PER_OP_MIN: f64 = 0.03;

/// The device's interrupts up to some instant.
#[derive(Debug)]
pub struct Interrupts<'a> {
    root: &'a Root,
    target: &'a Target,
    before: Option<u64>,
}

impl<'a> Interrupts<'a> {
    /// Counts them now.
    pub fn count(root: &'a Root, target: &'a Target) -> Self {
        let before = total(root, &target.interrupts);
        Self { root, target, before }
    }

    /// States whether a ring's trial that has just ended was polled for, as it
    /// was to be by its setup, and how often a ring that polls slept.
    pub fn judge(&self, outcome: &mut Outcome, setup: Setup) {
        let device = self.target.device.as_ref();
        let has_queues = device.and_then(|device| device.io_poll);
        let raised = self.raised(outcome);
        state(&mut outcome.evidence, setup.polls(), has_queues, raised);
        if setup.polls() {
            path::judge_sleeps(outcome, setup == Setup::Hybrid);
        }
    }

    /// States how many interrupts the device raised in a trial that has just
    /// ended, and what follows for its polling.
    pub fn raised(&self, outcome: &mut Outcome) -> Raised {
        let now = total(self.root, &self.target.interrupts);
        let ops = outcome.evidence.calls.map_or(0, |calls| calls.ops);
        let per_op =
            self.before.zip(now).filter(|_| ops > 0).map(|(before, now)| {
                now.saturating_sub(before) as f64 / ops as f64
            });
        let Some(per_op) = per_op else { return Raised::Untold };
        outcome.evidence.prove("interrupts_per_op", format!("{per_op:.3}"));
        Raised::of(per_op, outcome.shape.threads * outcome.shape.depth)
    }
}

/// What a device's interrupts tell of ops that were to be polled for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Raised {
    /// Fewer than without polling.
    Few,
    /// So many per op, as without polling.
    Many(f64),
    /// They may be of these ops or of others, or were not counted.
    Untold,
}

impl Raised {
    fn of(per_op: f64, in_flight: usize) -> Self {
        let least = PER_BATCH_MAX / in_flight.max(1) as f64;
        if per_op <= least {
            Self::Few
        } else if per_op > PER_OP_MIN {
            Self::Many(per_op)
        } else {
            Self::Untold
        }
    }

    /// Why ops were not polled for, if they were not.
    pub fn reason(self) -> Option<String> {
        let Self::Many(per_op) = self else { return None };
        Some(format!(
            "the device raised {per_op:.2} interrupts per op: its completions \
             were not polled for"
        ))
    }
}

fn state(
    evidence: &mut Evidence,
    asked: bool,
    has_queues: Option<bool>,
    raised: Raised,
) {
    let word = match (asked, has_queues, raised) {
        (false, ..) => "no",
        (true, _, Raised::Many(_)) => {
            evidence.degraded.extend(raised.reason());
            "ignored"
        }
        (true, Some(true), Raised::Few) => "yes",
        // Nothing was seen, or the device may have no queues to poll.
        (true, ..) => "unknown",
    };
    evidence.prove("polled", word);
}

/// The interrupts of all CPUs whose line in `/proc/interrupts` contains one of
/// these names. `None` where there is no such line.
fn total(root: &Root, names: &[String]) -> Option<u64> {
    let text = root.read("proc/interrupts")?;
    let mut lines = text.lines();
    // The first line names the CPUs, of which each has a column.
    let cpus = lines.next()?.split_whitespace().count();
    lines
        .filter(|line| names.iter().any(|name| line.contains(name.as_str())))
        .map(|line| {
            let columns = line.split_whitespace().skip(1).take(cpus);
            columns.filter_map(|word| word.parse::<u64>().ok()).sum()
        })
        .reduce(|sum: u64, line| sum + line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERRUPTS: &str = "\
           CPU0       CPU1
  24:         50          0  PCI-MSIX-0000:01:00.0   0-edge      nvme0q0
  25:       1000        200  PCI-MSIX-0000:01:00.0   1-edge      nvme0q1
  26:          7          9  PCI-MSIX-0000:02:00.0   1-edge      nvme1q1
 LOC:     900000     900000   Local timer interrupts
";

    #[test]
    fn only_the_device_is_counted() {
        let tree = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir(tree.path().join("proc")).expect("proc");
        std::fs::write(tree.path().join("proc/interrupts"), INTERRUPTS)
            .expect("interrupts");
        let root = Root::at(tree.path());
        let of = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|n| (*n).to_owned()).collect();
            total(&root, &names)
        };
        assert_eq!(of(&["0000:01:00.0", "nvme0q"]), Some(1250));
        assert_eq!(of(&["nvme1q"]), Some(16));
        assert_eq!(of(&["nvme2q"]), None);
        assert_eq!(of(&[]), None);
        assert_eq!(total(&Root::at("/nonexistent"), &[]), None);
    }

    #[test]
    fn interrupts_tell_polling_that_is_not() {
        for (asked, queues, raised, word, degraded) in [
            (true, Some(true), Raised::Few, "yes", 0),
            (true, Some(true), Raised::Untold, "unknown", 0),
            (true, None, Raised::Few, "unknown", 0),
            (true, Some(true), Raised::Many(0.98), "ignored", 1),
            (false, Some(true), Raised::Many(0.98), "no", 0),
        ] {
            let mut evidence = Evidence::default();
            state(&mut evidence, asked, queues, raised);
            let last = evidence.path.last().expect("stated");
            assert_eq!((last.0.as_str(), last.1.as_str()), ("polled", word));
            assert_eq!(evidence.degraded.len(), degraded, "{word}");
        }
    }

    #[test]
    fn the_rate_without_polling_is_never_that_with_it() {
        // What interrupts were seen to be without polling.
        for (in_flight, per_op) in
            [(1, 0.98), (32, 0.05), (64, 0.03), (128, 0.02), (256, 0.01)]
        {
            let raised = Raised::of(per_op, in_flight);
            assert_ne!(raised, Raised::Few, "{per_op} with {in_flight}");
        }
        assert_eq!(Raised::of(0.98, 1), Raised::Many(0.98));
        assert_eq!(Raised::of(0.05, 32), Raised::Many(0.05));
        assert_eq!(Raised::of(0.02, 128), Raised::Untold);
        for (in_flight, per_op) in [(1, 0.1), (32, 0.01), (256, 0.001)] {
            assert_eq!(Raised::of(per_op, in_flight), Raised::Few);
        }
    }
}
