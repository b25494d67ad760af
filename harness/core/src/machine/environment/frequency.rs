//! Frequency scaling, summarised over CPUs.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::machine::cpu_set::{Cpu, CpuSet};
use crate::machine::root::Root;

/// How the frequency of some CPUs is governed: each distinct value once, so
/// that a machine in one state has one entry. Empty means unknown (virtual
/// machines show nothing).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frequency {
    /// `intel_pstate`, `amd-pstate-epp`, `acpi-cpufreq`.
    pub drivers: BTreeSet<String>,
    /// `performance`, `powersave`, `schedutil`.
    pub governors: BTreeSet<String>,
    /// Energy preference, where the driver has one.
    pub preferences: BTreeSet<String>,
    /// Whether the processor may exceed its nominal frequency.
    pub boost: Option<bool>,
    /// The lowest frequency that policy allows on any of the CPUs.
    pub min_khz: Option<u64>,
    /// The highest frequency that policy allows on any of the CPUs.
    pub max_khz: Option<u64>,
}

impl Frequency {
    /// Of the given CPUs, or of all.
    pub fn read(root: &Root, cpus: Option<&CpuSet>) -> Frequency {
        let base = "sys/devices/system/cpu";
        let mut summary =
            Frequency { boost: boost(root), ..Frequency::default() };
        for name in root.entries(base) {
            let cpu = name.strip_prefix("cpu").and_then(|n| n.parse().ok());
            let Some(cpu) = cpu.map(Cpu) else { continue };
            if cpus.is_some_and(|set| !set.contains(cpu)) {
                continue;
            }
            let dir = format!("{base}/{name}/cpufreq");
            let word = |file: &str| root.read_word(format!("{dir}/{file}"));
            let khz = |file: &str| root.read_u64(format!("{dir}/{file}"));
            summary.drivers.extend(word("scaling_driver"));
            summary.governors.extend(word("scaling_governor"));
            summary.preferences.extend(word("energy_performance_preference"));
            let (low, high) =
                (khz("scaling_min_freq"), khz("scaling_max_freq"));
            // `None` sorts below any number, which suits only the maximum.
            summary.min_khz =
                [summary.min_khz, low].into_iter().flatten().min();
            summary.max_khz = summary.max_khz.max(high);
        }
        summary
    }
}

/// Two drivers, two files, opposite senses.
fn boost(root: &Root) -> Option<bool> {
    let base = "sys/devices/system/cpu";
    root.read_bool(format!("{base}/intel_pstate/no_turbo"))
        .map(|off| !off)
        .or_else(|| root.read_bool(format!("{base}/cpufreq/boost")))
}
