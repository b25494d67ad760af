//! The kernel, its settings and the virtualisation that a result depends on.

mod compare;
mod frequency;
mod identity;
mod kernel;
mod targets;
mod virtualization;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::allowed::{CpuLimit, cpu_limit};
use super::limits::Limits;
use super::root::Root;

pub use compare::{
    Difference, Stored, differences, fingerprint, fingerprint_changes,
    stored_differences,
};
pub use frequency::Frequency;
pub use identity::machine_id8;
pub(super) use kernel::performance_parameters;
pub use kernel::{IrqAccounting, irq_accounting, kernel_version};
pub(super) use kernel::{kernel_configuration, version};
pub use virtualization::{Container, Virtualization};

/// What is known of the machine's state, apart from its topology. `None` is
/// "unknown" throughout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// `uname -r`.
    pub kernel_release: Option<String>,
    /// `uname -v`: build number, preemption model, build date.
    pub kernel_version: Option<String>,
    /// `x86_64`, `aarch64`.
    pub architecture: String,
    /// The processor's name for itself.
    pub cpu_model: Option<String>,
    /// Microcode revision.
    pub microcode: Option<String>,
    /// Online CPUs.
    pub cpu_count: Option<usize>,
    /// The cgroup's CPU quota.
    pub cpu_limit: CpuLimit,
    /// Kernel parameters that change performance. Others (disks, consoles,
    /// hosts) are left out: they may name the machine.
    pub cmdline: Option<String>,
    /// The clock in use.
    pub clocksource: Option<String>,
    /// The clocks that could be used.
    pub clocksources: Vec<String>,
    /// Whether the time stamp counter ticks at one rate (x86).
    pub tsc_constant: Option<bool>,
    /// Whether it goes on in deep sleep (x86).
    pub tsc_nonstop: Option<bool>,
    /// Frequency scaling of the online CPUs.
    pub frequency: Frequency,
    /// Whether this is a guest, and of what.
    pub virtualization: Virtualization,
    /// Whether this runs in a container, and of what kind.
    pub container: Container,
    /// `always`, `madvise` or `never`.
    pub transparent_hugepages: Option<String>,
    /// Address space randomisation: 0, 1 or 2.
    pub randomize_va_space: Option<u64>,
    /// What `perf_event_open(2)` permits: -1 (all) to 4.
    pub perf_event_paranoid: Option<i64>,
    /// 0 allowed, 1 for a group only, 2 disabled.
    pub io_uring_disabled: Option<u64>,
    /// Whether pages move after their users between nodes.
    pub numa_balancing: Option<u64>,
    /// What the kernel does about each processor flaw, by the flaw's name.
    pub mitigations: BTreeMap<String, String>,
    /// Memory of the machine.
    pub memory_bytes: Option<u64>,
    /// Swap space.
    pub swap_bytes: Option<u64>,
    /// Swap space in use.
    pub swap_used_bytes: Option<u64>,
    /// Runnable tasks, averaged over 1, 5 and 15 minutes.
    pub load_average: Option<[f64; 3]>,
    /// Limits of this process.
    pub limits: Limits,
    /// Whether the kernel tells about pressure (`/proc/pressure`).
    pub has_pressure: Option<bool>,
    /// Where the time of interrupts is counted.
    pub irq_accounting: IrqAccounting,
}

impl Environment {
    /// Reads what the system below `root` tells.
    pub fn read(root: &Root) -> Environment {
        let proc_sys = |name: &str| format!("proc/sys/{name}");
        let cpuinfo = root.read("proc/cpuinfo").unwrap_or_default();
        let clock = "sys/devices/system/clocksource/clocksource0";
        let meminfo = root.read("proc/meminfo").unwrap_or_default();
        let swap_bytes = kibibytes(&meminfo, "SwapTotal:");
        let swap_free = kibibytes(&meminfo, "SwapFree:");
        Environment {
            kernel_release: root.read_word(proc_sys("kernel/osrelease")),
            kernel_version: root.read_word(proc_sys("kernel/version")),
            architecture: std::env::consts::ARCH.to_owned(),
            cpu_model: kernel::cpu_model(&cpuinfo),
            microcode: kernel::cpuinfo_field(&cpuinfo, "microcode"),
            cpu_count: root
                .read_list("sys/devices/system/cpu/online")
                .map(|set| set.len()),
            cpu_limit: cpu_limit(root),
            cmdline: root
                .read("proc/cmdline")
                .map(|text| performance_parameters(&text)),
            clocksource: root.read_word(format!("{clock}/current_clocksource")),
            clocksources: root
                .read(format!("{clock}/available_clocksource"))
                .map(|text| text.split_whitespace().map(String::from).collect())
                .unwrap_or_default(),
            tsc_constant: kernel::cpu_flag(&cpuinfo, "constant_tsc"),
            tsc_nonstop: kernel::cpu_flag(&cpuinfo, "nonstop_tsc"),
            frequency: Frequency::read(root, None),
            virtualization: Virtualization::read(root, &cpuinfo),
            container: Container::read(root),
            transparent_hugepages: root
                .read("sys/kernel/mm/transparent_hugepage/enabled")
                .and_then(|text| super::devices::block::chosen(&text)),
            randomize_va_space: root
                .read_u64(proc_sys("kernel/randomize_va_space")),
            perf_event_paranoid: root
                .read(proc_sys("kernel/perf_event_paranoid"))
                .and_then(|text| text.parse().ok()),
            io_uring_disabled: root
                .read_u64(proc_sys("kernel/io_uring_disabled")),
            numa_balancing: root.read_u64(proc_sys("kernel/numa_balancing")),
            mitigations: kernel::mitigations(root),
            memory_bytes: kibibytes(&meminfo, "MemTotal:"),
            swap_used_bytes: swap_bytes
                .zip(swap_free)
                .and_then(|(total, free)| total.checked_sub(free)),
            swap_bytes,
            load_average: load_average(root),
            limits: Limits::read(root),
            has_pressure: kernel::has_pressure(root),
            irq_accounting: irq_accounting(root),
        }
    }

    /// Whether a line about some flaw says that it is left open.
    pub fn is_vulnerable(&self) -> Option<bool> {
        if self.mitigations.is_empty() {
            return None;
        }
        let open = |text: &String| text.starts_with("Vulnerable");
        Some(self.mitigations.values().any(open))
    }
}

/// The number of a line `MemTotal:  24684092 kB`, in bytes.
pub(super) fn kibibytes(meminfo: &str, name: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let mut words = rest.split_whitespace();
    let number: u64 = words.next()?.parse().ok()?;
    (words.next()? == "kB").then(|| number.checked_mul(1024)).flatten()
}

fn load_average(root: &Root) -> Option<[f64; 3]> {
    let text = root.read("proc/loadavg")?;
    let mut words = text.split_whitespace();
    let mut next = || {
        let load: f64 = words.next()?.parse().ok()?;
        load.is_finite().then_some(load)
    };
    Some([next()?, next()?, next()?])
}
