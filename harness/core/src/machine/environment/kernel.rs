//! Facts about the running kernel and the processor it found.

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::bufread::GzDecoder;
use serde::{Deserialize, Serialize};

use crate::machine::root::Root;

/// Where the time that interrupts take is counted. It decides whether the
/// cost of an operation already holds them or they must be added.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum IrqAccounting {
    /// In the task that was interrupted: the kernel does not tell them apart.
    InTasks,
    /// In counters of their own.
    Separate,
    /// It cannot be told.
    Unknown,
}

/// Kernel parameters that change what a benchmark measures. From
/// Documentation/admin-guide/kernel-parameters.txt of Linux 6.18.
const PERFORMANCE_PARAMETERS: &[&str] = &[
    "amd_iommu",
    "amd_pstate",
    "clocksource",
    "cpufreq.default_governor",
    "cpuidle.governor",
    "cpuidle.off",
    "cpuidle_haltpoll.force",
    "default_hugepagesz",
    "haltpoll.guest_halt_poll_ns",
    "hpet",
    "hugepages",
    "hugepagesz",
    "idle",
    "intel_idle.max_cstate",
    "intel_iommu",
    "intel_pstate",
    "iommu",
    "iommu.passthrough",
    "iommu.strict",
    "irqaffinity",
    "isolcpus",
    "kthread_cpus",
    "l1tf",
    "maxcpus",
    "mds",
    "mitigations",
    "nmi_watchdog",
    "no_kvmclock",
    "nohlt",
    "nohz",
    "nohz_full",
    "nokaslr",
    "nopti",
    "nosmt",
    "nosoftlockup",
    "nospectre_v1",
    "nospectre_v2",
    "nowatchdog",
    "nr_cpus",
    "numa",
    "numa_balancing",
    "nvme.io_queue_depth",
    "nvme.poll_queues",
    "nvme.write_queues",
    "nvme_core.default_ps_max_latency_us",
    "pcie_aspm",
    "preempt",
    "processor.max_cstate",
    "psi",
    "pti",
    "rcu_nocb_poll",
    "rcu_nocbs",
    "rcutree.kthread_prio",
    "retbleed",
    "skew_tick",
    "spec_store_bypass_disable",
    "spectre_v2",
    "swiotlb",
    "threadirqs",
    "transparent_hugepage",
    "tsc",
    "tsx",
    "workqueue.power_efficient",
];

/// Distributions' configurations have some 300 KiB; a larger one is garbage.
const CONFIGURATION_MAX: u64 = 4 << 20;

/// Kernel 6.1 brought `/proc/pressure/irq`, built exactly where interrupt
/// time is accounted (kernel/sched/psi.c).
const PRESSURE_IRQ_SINCE: (u32, u32) = (6, 1);

/// The performance parameters of a kernel command line, in its order.
pub(in crate::machine) fn performance_parameters(cmdline: &str) -> String {
    let known: Vec<&str> = cmdline
        .split_whitespace()
        // What follows `--` is for the first process, not for the kernel.
        .take_while(|&word| word != "--")
        .filter(|word| {
            let name = word.split_once('=').map_or(*word, |(name, _)| name);
            // The kernel takes either sign for the other.
            let name = name.replace('-', "_");
            PERFORMANCE_PARAMETERS.contains(&name.as_str())
        })
        .collect();
    known.join(" ")
}

/// A field of the first CPU in `/proc/cpuinfo` (`model name\t: AMD EPYC`).
pub(super) fn cpuinfo_field(cpuinfo: &str, name: &str) -> Option<String> {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
        .filter(|value| !value.is_empty())
}

/// The processor's name; on Arm, which writes none, its part numbers.
pub(super) fn cpu_model(cpuinfo: &str) -> Option<String> {
    let field = |name: &str| cpuinfo_field(cpuinfo, name);
    field("model name").or_else(|| {
        let (vendor, part) = (field("CPU implementer")?, field("CPU part")?);
        let revision =
            format!("{}p{}", field("CPU variant")?, field("CPU revision")?);
        Some(format!("implementer {vendor} part {part} revision {revision}"))
    })
}

/// Whether the first CPU has a flag. No flags at all is unknown, not absent:
/// Arm calls them features and has no such flag to show.
pub(super) fn cpu_flag(cpuinfo: &str, flag: &str) -> Option<bool> {
    let flags = cpuinfo_field(cpuinfo, "flags")?;
    Some(flags.split_whitespace().any(|word| word == flag))
}

/// What the kernel says about each processor flaw.
pub(super) fn mitigations(root: &Root) -> BTreeMap<String, String> {
    let dir = "sys/devices/system/cpu/vulnerabilities";
    root.entries(dir)
        .into_iter()
        .filter_map(|name| {
            let text = root.read_word(format!("{dir}/{name}"))?;
            Some((name, text))
        })
        .collect()
}

/// Whether pressure can be read. The files can be there and refuse (`psi=0`).
pub(super) fn has_pressure(root: &Root) -> Option<bool> {
    if !root.exists("proc") {
        return None;
    }
    Some(root.read_word("proc/pressure/cpu").is_some())
}

/// How interrupt time is accounted: by what can be seen of it, else by the
/// kernel's configuration where it is readable.
pub fn irq_accounting(root: &Root) -> IrqAccounting {
    let release = root.read_word("proc/sys/kernel/osrelease");
    let release = release.as_deref();
    // The file can only be read while the accounting is on; since 6.14 it
    // refuses otherwise, and an unstable TSC turns it off at run time.
    if root.read_word("proc/pressure/irq").is_some() {
        return IrqAccounting::Separate;
    }
    let config = kernel_configuration(root);
    match config.as_deref().and_then(accounting_in_config) {
        // Built in, and off at run time: by parameter, or because the clock
        // that it reads does not keep time.
        Some(IrqAccounting::Separate) => {
            return if has_parameter(root, "tsc=noirqtime") {
                IrqAccounting::InTasks
            } else if clocksource_is_not_tsc(root) {
                IrqAccounting::Unknown
            } else {
                IrqAccounting::Separate
            };
        }
        Some(known) => return known,
        None if config.is_some() => return IrqAccounting::Unknown,
        None => {}
    }
    // Pressure without the file for interrupts: they were not built in.
    let has_psi = root.read_word("proc/pressure/cpu").is_some();
    let new_enough = release
        .and_then(version)
        .is_some_and(|version| version >= PRESSURE_IRQ_SINCE);
    if has_psi && new_enough && !root.exists("proc/pressure/irq") {
        return IrqAccounting::InTasks;
    }
    IrqAccounting::Unknown
}

fn has_parameter(root: &Root, parameter: &str) -> bool {
    root.read("proc/cmdline")
        .is_some_and(|line| line.split_whitespace().any(|p| p == parameter))
}

/// Whether this is an x86 whose time does not come from the TSC.
fn clocksource_is_not_tsc(root: &Root) -> bool {
    let directory = "sys/devices/system/clocksource/clocksource0";
    let current = root.read_word(format!("{directory}/current_clocksource"));
    let x86 = ["hpet", "acpi_pm", "jiffies"];
    current.is_some_and(|current| x86.contains(&current.as_str()))
}

/// The running kernel's configuration, from the kernel itself or from where
/// distributions put it.
pub(in crate::machine) fn kernel_configuration(root: &Root) -> Option<String> {
    let packed = std::fs::read(root.path("proc/config.gz")).ok();
    let own = packed.and_then(|packed| {
        let mut text = String::new();
        let unpacked = GzDecoder::new(packed.as_slice());
        unpacked.take(CONFIGURATION_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    });
    own.or_else(|| {
        let release = root.read_word("proc/sys/kernel/osrelease")?;
        root.read(format!("boot/config-{release}"))
            .or_else(|| root.read(format!("usr/lib/modules/{release}/config")))
            .or_else(|| root.read(format!("lib/modules/{release}/config")))
    })
}

/// What a kernel configuration says; `None` when it has no word about it,
/// which a complete one always has.
/// CONFIG_VIRT_CPU_ACCOUNTING_NATIVE (POWER, s390) books interrupts apart in
/// `/proc/stat` and leaves them in the time of tasks: neither.
fn accounting_in_config(config: &str) -> Option<IrqAccounting> {
    const APART: &str = "CONFIG_IRQ_TIME_ACCOUNTING";
    let says = |word: &str| config.lines().any(|line| line.trim() == word);
    if says("CONFIG_VIRT_CPU_ACCOUNTING_NATIVE=y") {
        Some(IrqAccounting::Unknown)
    } else if says(&format!("{APART}=y")) {
        Some(IrqAccounting::Separate)
    } else {
        says(&format!("# {APART} is not set")).then_some(IrqAccounting::InTasks)
    }
}

/// Major and minor number of the running kernel.
pub fn kernel_version(root: &Root) -> Option<(u32, u32)> {
    version(&root.read_word("proc/sys/kernel/osrelease")?)
}

/// Major and minor number of `6.18.44-generic`.
pub(in crate::machine) fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(version("7.0-rc1"), Some((7, 0)));
        assert!(version("6.9.1") < version("6.10"));
        assert_eq!(version(""), None);
        assert_eq!(version("next"), None);
    }

    #[test]
    fn the_configuration_tells_the_accounting() {
        let told = accounting_in_config;
        assert_eq!(
            told("CONFIG_IRQ_TIME_ACCOUNTING=y\n"),
            Some(IrqAccounting::Separate)
        );
        assert_eq!(
            told("CONFIG_NUMA=y\n# CONFIG_IRQ_TIME_ACCOUNTING is not set\n"),
            Some(IrqAccounting::InTasks)
        );
        assert_eq!(
            told("CONFIG_VIRT_CPU_ACCOUNTING_NATIVE=y\n"),
            Some(IrqAccounting::Unknown)
        );
        assert_eq!(told("CONFIG_NUMA=y\n"), None);
        assert_eq!(told(""), None);
    }

    #[test]
    fn a_processor_without_a_name_is_told_by_its_numbers() {
        let arm = "processor\t: 0\nFeatures\t: fp asimd\n\
                   CPU implementer\t: 0x41\nCPU architecture: 8\n\
                   CPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n";
        assert_eq!(
            cpu_model(arm).as_deref(),
            Some("implementer 0x41 part 0xd0c revision 0x3p1")
        );
        assert_eq!(cpu_flag(arm, "constant_tsc"), None);
        assert_eq!(cpu_model("garbage"), None);
    }
}
