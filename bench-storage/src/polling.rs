//! Whether completions were polled for. Asking for it is not enough: before
//! Linux 6.11 a device without poll queues served polled reads by interrupt,
//! and commands that are passed through are served so to this day, without a
//! word. So the device's interrupts are counted.

use harness::{
    machine::Root,
    measure::trial::{Evidence, Outcome},
};

use crate::target::Target;

/// An op that is polled for raises no interrupt. One that is not shares its
/// interrupt with no more ops than are in flight; half of that is the limit.
const PER_BATCH_MAX: f64 = 0.5;

/// What else the device does meanwhile is counted as well, so that at great
/// depth fewer prove nothing.
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

    /// States whether a trial that has just ended was polled for, as it was
    /// to be where `asked`.
    pub fn judge(&self, outcome: &mut Outcome, asked: bool) {
        let now = total(self.root, &self.target.interrupts);
        let ops = outcome.evidence.calls.map_or(0, |calls| calls.ops);
        let per_op =
            self.before.zip(now).filter(|_| ops > 0).map(|(before, now)| {
                now.saturating_sub(before) as f64 / ops as f64
            });
        let device = self.target.device.as_ref();
        let has_queues = device.and_then(|device| device.io_poll);
        let most = (PER_BATCH_MAX / outcome.shape.depth as f64).max(PER_OP_MIN);
        let interrupts = per_op.map(|per_op| Seen { per_op, most });
        state(&mut outcome.evidence, asked, has_queues, interrupts);
    }
}

/// Interrupts per op, and what polled ops may have at most.
#[derive(Clone, Copy, Debug)]
struct Seen {
    per_op: f64,
    most: f64,
}

fn state(
    evidence: &mut Evidence,
    asked: bool,
    has_queues: Option<bool>,
    interrupts: Option<Seen>,
) {
    if let Some(Seen { per_op, .. }) = interrupts {
        evidence.prove("interrupts_per_op", format!("{per_op:.2}"));
    }
    let word = match (asked, has_queues, interrupts) {
        (false, ..) => "no",
        (true, _, Some(Seen { per_op, most })) if per_op > most => {
            evidence.degraded.push(format!(
                "the device raised {per_op:.2} interrupts per op: its \
                 completions were not polled for"
            ));
            "ignored"
        }
        (true, Some(true), Some(_)) => "yes",
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
        for (asked, queues, per_op, word, degraded) in [
            (true, Some(true), Some(0.01), "yes", 0),
            (true, Some(true), None, "unknown", 0),
            (true, None, Some(0.0), "unknown", 0),
            (true, Some(true), Some(0.98), "ignored", 1),
            (true, Some(true), Some(0.05), "ignored", 1),
            (false, Some(true), Some(0.98), "no", 0),
        ] {
            let mut evidence = Evidence::default();
            let seen = per_op.map(|per_op| Seen { per_op, most: 0.03 });
            state(&mut evidence, asked, queues, seen);
            let last = evidence.path.last().expect("stated");
            assert_eq!((last.0.as_str(), last.1.as_str()), ("polled", word));
            assert_eq!(evidence.degraded.len(), degraded, "{word}");
        }
    }
}
