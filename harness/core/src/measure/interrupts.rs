//! Whose interrupts there were, and on whose CPUs.

use crate::machine::cpu_set::Cpu;

/// Interrupts of devices so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interrupts {
    /// Those of other devices than the target, on used CPUs.
    pub foreign: u64,
    /// The target's, on used CPUs.
    pub own: u64,
    /// The target's, on other CPUs.
    pub own_elsewhere: u64,
}

/// From a table such as `/proc/interrupts`; `own` names the target's lines.
pub fn interrupts(table: &str, used: &[Cpu], own: &[String]) -> Interrupts {
    let mut lines = table.lines();
    let columns: Vec<bool> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|name| {
            name.strip_prefix("CPU")
                .and_then(|number| number.parse().ok())
                .is_some_and(|cpu| used.contains(&Cpu(cpu)))
        })
        .collect();
    let mut sum = Interrupts::default();
    // Numbered lines are devices; the named ones (timer, rescheduling) belong
    // to the kernel.
    for line in lines.filter(|line| {
        line.trim_start().starts_with(|c: char| c.is_ascii_digit())
    }) {
        let is_own = own.iter().any(|name| line.contains(name.as_str()));
        let counts = line.split_whitespace().skip(1).zip(&columns);
        for (count, used) in counts {
            let count = count.parse::<u64>().unwrap_or(0);
            match (is_own, *used) {
                (true, true) => sum.own += count,
                (true, false) => sum.own_elsewhere += count,
                (false, true) => sum.foreign += count,
                (false, false) => {}
            }
        }
    }
    sum
}

/// The share of the target's interrupts between two looks that hit CPUs which
/// the trial does not use.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub fn elsewhere_percent(
    before: Option<Interrupts>,
    after: Option<Interrupts>,
) -> Option<f64> {
    /// Fewer say nothing.
    const LEAST: u64 = 10;
    let (before, after) = (before?, after?);
    let own = after.own.saturating_sub(before.own);
    let elsewhere = after.own_elsewhere.saturating_sub(before.own_elsewhere);
    let all = own + elsewhere;
    (all >= LEAST).then(|| 100.0 * elsewhere as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_are_told_apart_by_device_and_cpu() {
        let table = "\
            \x20          CPU0       CPU1\n\
            \x20 5:        100          7   IO-APIC   5-edge  virtio1\n\
            \x20 6:         10          3   PCI-MSI   1-edge  virtio0-req.0\n\
            LOC:      99999      99999   Local timer interrupts\n";
        let own = [String::from("virtio0-")];
        let on_one = interrupts(table, &[Cpu(1)], &own);
        let expected = Interrupts { foreign: 7, own: 3, own_elsewhere: 10 };
        assert_eq!(on_one, expected);
        assert_eq!(interrupts(table, &[Cpu(0), Cpu(1)], &[]).foreign, 120);
        let none = Some(Interrupts::default());
        let percent = elsewhere_percent(none, Some(on_one)).expect("enough");
        assert!((percent - 100.0 * 10.0 / 13.0).abs() < 1e-9, "{percent}");
        assert_eq!(elsewhere_percent(none, none), None);
    }
}
