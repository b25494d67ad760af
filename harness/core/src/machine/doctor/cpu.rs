//! The processor itself: threads of a core, flaws, clock, and how much of it
//! this process gets.

use super::{Check, Observation, Patient, Unknown, Verdict, support::by_value};
use crate::machine::{allowed::CpuLimit, cpu_set::CpuSet};

/// Share of stolen time since boot that is worth a word: 0.1 %.
const STEAL_SHARE: f64 = 0.001;

/// SMT, kinds of core, microcode, mitigations, clock, quota, steal.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "cpu.smt",
        about: "hardware threads that share a core",
        why: "what runs on the sibling takes up to half of a core's speed",
        wanted: "off, or siblings left idle",
        fix: "echo off > /sys/devices/system/cpu/smt/control, and ask again: \
              fewer CPUs are left to set up",
        source: "/sys/devices/system/cpu/smt/{active,control}",
        limit: None,
        examine: smt,
    },
    Check {
        id: "cpu.kinds",
        about: "whether all measured CPUs are of one kind",
        why: "a thread on a small core is slower for a reason that is not its \
              variant",
        wanted: "one kind",
        fix: "choose CPUs of one kind with --cpus",
        source: "/sys/devices/system/cpu/cpu*/cpu_capacity, \
                 .../cpufreq/cpuinfo_max_freq, /sys/devices/cpu_atom",
        limit: None,
        examine: kinds,
    },
    Check {
        id: "cpu.microcode",
        about: "microcode revision of all CPUs",
        why: "revisions differ in the cost of system calls and fences",
        wanted: "one revision",
        fix: "load the same microcode on all CPUs (early, by the initramfs)",
        source: "/proc/cpuinfo",
        limit: Some(Verdict::ComparisonOnly),
        examine: microcode,
    },
    Check {
        id: "cpu.mitigations",
        about: "what the kernel does about processor flaws",
        why: "mitigations make each system call dearer, which is what bypass \
              saves: without them the gain looks smaller",
        wanted: "none left open, as on the machines that results are for",
        fix: "boot without mitigations=off; update kernel and microcode",
        source: "/sys/devices/system/cpu/vulnerabilities/*, /proc/cmdline",
        limit: None,
        examine: mitigations,
    },
    Check {
        id: "cpu.clocksource",
        about: "the kernel's clock",
        why: "clocks outside the processor cost a microsecond to read and a \
              trap in a guest",
        wanted: "tsc (x86) or arch_sys_counter (Arm)",
        fix: "boot with tsc=reliable if the machine's TSC is known to be good",
        source: "/sys/devices/system/clocksource/clocksource0/\
                 current_clocksource",
        limit: Some(Verdict::ComparisonOnly),
        examine: clocksource,
    },
    Check {
        id: "cpu.tsc",
        about: "whether the time stamp counter ticks at one rate, always",
        why: "latencies are differences of this counter",
        wanted: "constant_tsc and nonstop_tsc",
        fix: "none: the processor or the hypervisor lacks it",
        source: "/proc/cpuinfo",
        limit: Some(Verdict::ComparisonOnly),
        examine: tsc,
    },
    Check {
        id: "cpu.allowed",
        about: "CPUs that this process may use",
        why: "an affinity mask or cpuset leaves fewer CPUs to place threads on",
        wanted: "all online CPUs",
        fix: "start it without taskset; widen the cpuset of its cgroup",
        source: "sched_getaffinity(2), /sys/devices/system/cpu/online",
        limit: None,
        examine: allowed,
    },
    Check {
        id: "cpu.quota",
        about: "CPU time that the cgroup grants",
        why: "a process that has used its quota stops until the next period, \
              in the middle of a window",
        wanted: "no quota",
        fix: "remove cpu.max (v2) or cpu.cfs_quota_us (v1) of its cgroups",
        source: "/proc/self/cgroup, cpu.max, cpu.cfs_quota_us",
        limit: Some(Verdict::ComparisonOnly),
        examine: quota,
    },
    Check {
        id: "cpu.steal",
        about: "CPU time that the host took since boot",
        why: "while the host runs something else, this guest stands still",
        wanted: "at most 0.1 %",
        fix: "ask for dedicated CPUs, or use bare metal",
        source: "/proc/stat",
        limit: None,
        examine: steal,
    },
];

fn smt(patient: &Patient) -> Result<Observation, Unknown> {
    let control = "sys/devices/system/cpu/smt/control";
    let active = patient.flag("sys/devices/system/cpu/smt/active")?;
    let word = patient.text(control)?;
    if !active && patient.is_guest() {
        return Err(Unknown::host_only("which CPUs share a core"));
    }
    let known = ["on", "off", "forceoff", "notsupported", "notimplemented"];
    if !known.contains(&word.as_str()) {
        return Err(patient.lack(control));
    }
    if !active {
        return Ok(Observation::pass(word));
    }
    // Not for the script: what it sets for the siblings would fail after
    // this, and its undo would come before they are back.
    Ok(Observation::fail("on"))
}

fn kinds(patient: &Patient) -> Result<Observation, Unknown> {
    let atom = patient.root.read_list("sys/devices/cpu_atom/cpus");
    if let Some(atom) = atom.filter(|atom| !atom.is_empty()) {
        let small = patient.cpus()?.intersection(&atom);
        let told = format!("small cores among them: {small}");
        let all_same = small.is_empty() || small == patient.cpus()?;
        return Ok(Observation::pass_if(all_same, told));
    }
    // Newer kernels tell the capacity, older ones at least the frequency.
    let value = |file: &str| {
        let of_one = |(cpu, path)| Some((cpu, patient.root.read_u64(path)?));
        let files = patient.of_each_cpu(file).ok()?;
        files.into_iter().map(of_one).collect::<Option<Vec<_>>>()
    };
    let (unit, values) = value("cpu_capacity")
        .map(|values| ("capacity", values))
        .or_else(|| Some(("kHz at most", value("cpufreq/cpuinfo_max_freq")?)))
        .filter(|(_, values)| values.iter().all(|(_, value)| *value > 0))
        .ok_or_else(|| patient.hidden("sys/devices/cpu_atom", "core kinds"))?;
    let same = values.windows(2).all(|pair| pair[0].1 == pair[1].1);
    let told =
        by_value(values.iter().map(|(cpu, value)| (*cpu, value.to_string())));
    Ok(Observation::pass_if(same, format!("{unit} {told}")))
}

fn microcode(patient: &Patient) -> Result<Observation, Unknown> {
    let text = patient.text("proc/cpuinfo")?;
    let field = |name: &'static str| {
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .filter(move |(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim())
    };
    if field("CPU implementer").next().is_some() {
        return Ok(Observation::not_applicable("Arm has no such revision"));
    }
    let processors = field("processor").count();
    let mut revisions: Vec<&str> = field("microcode").collect();
    let as_number = |text: &&str| {
        let digits = text.strip_prefix("0x")?;
        u64::from_str_radix(digits, 16).ok()
    };
    if revisions.is_empty()
        || revisions.len() != processors
        || !revisions.iter().all(|r| as_number(r).is_some())
    {
        return Err(Unknown::because(
            "/proc/cpuinfo does not tell it for every CPU",
        ));
    }
    revisions.sort_unstable();
    revisions.dedup();
    let told = format!("microcode {}", revisions.join(", "));
    Ok(Observation::pass_if(revisions.len() == 1, told))
}

fn mitigations(patient: &Patient) -> Result<Observation, Unknown> {
    let dir = "sys/devices/system/cpu/vulnerabilities";
    let names = patient.root.entries(dir);
    if names.is_empty() {
        return Err(patient.lack(dir));
    }
    if patient.parameter("mitigations")?.as_deref() == Some("off") {
        return Ok(Observation::warn("switched off on the command line"));
    }
    let (mut open, mut unknown) = (Vec::new(), Vec::new());
    for name in &names {
        let path = format!("{dir}/{name}");
        let text = patient.text(&path)?;
        // The answers that the kernel gives (drivers/base/cpu.c and
        // arch/x86/kernel/cpu/bugs.c); KVM prefixes some of them.
        let told = text.strip_prefix("KVM: ").unwrap_or(&text);
        match told.split([':', ' ', ';']).next() {
            Some("Vulnerable") => open.push(name.as_str()),
            Some("Unknown") => unknown.push(name.as_str()),
            Some("Not" | "Mitigation" | "Mitigated" | "Processor") => {}
            _ => return Err(patient.lack(&path)),
        }
    }
    if open.is_empty() && !unknown.is_empty() {
        return Err(Unknown::because(format!(
            "the kernel does not know it of {}",
            unknown.join(", ")
        )));
    }
    let told = match open.is_empty() {
        true => format!("{} flaws looked at, none left open", names.len()),
        false => format!("left open: {}", open.join(", ")),
    };
    Ok(Observation::pass_if(open.is_empty(), told))
}

fn clocksource(patient: &Patient) -> Result<Observation, Unknown> {
    let name = patient.text(
        "sys/devices/system/clocksource/clocksource0/current_clocksource",
    )?;
    match name.as_str() {
        "tsc" | "arch_sys_counter" => Ok(Observation::pass(name)),
        // Read without a system call, through the page that the hypervisor
        // shares, so that only precision suffers.
        "kvm-clock" | "hyperv_clocksource_tsc_page" => {
            Ok(Observation::warn(name))
        }
        "hpet" | "acpi_pm" | "jiffies" | "refined-jiffies" | "xen" | "pit" => {
            Ok(Observation::fail(format!("clock {name}")))
        }
        other => Err(Unknown::because(format!(
            "`{other}` is a clock that this program does not know"
        ))),
    }
}

fn tsc(patient: &Patient) -> Result<Observation, Unknown> {
    let facts = &patient.environment;
    match (facts.tsc_constant, facts.tsc_nonstop) {
        (Some(true), Some(true)) => Ok(Observation::pass("both")),
        (Some(constant), Some(nonstop)) => {
            let told = match (constant, nonstop) {
                (false, false) => "no constant_tsc, no nonstop_tsc",
                (true, false) => "no nonstop_tsc",
                _ => "no constant_tsc",
            };
            Ok(Observation::fail(told))
        }
        _ if facts.clocksource.as_deref() == Some("arch_sys_counter") => {
            Ok(Observation::not_applicable("Arm's counter has one rate"))
        }
        _ => Err(Unknown::because("/proc/cpuinfo shows no flags")),
    }
}

fn allowed(patient: &Patient) -> Result<Observation, Unknown> {
    let online = patient.list("sys/devices/system/cpu/online")?;
    let allowed: CpuSet = match &patient.live.allowed {
        Some(allowed) => allowed.clone(),
        None => patient
            .process_status("Cpus_allowed_list")?
            .parse()
            .map_err(|_| patient.lack("proc/self/status"))?,
    };
    if online.is_empty() || allowed.is_empty() {
        return Err(patient.lack("sys/devices/system/cpu/online"));
    }
    let told = format!("{allowed} of {online}");
    Ok(Observation::pass_if(online.is_subset(&allowed), told))
}

fn quota(patient: &Patient) -> Result<Observation, Unknown> {
    match patient.environment.cpu_limit {
        CpuLimit::Unlimited => Ok(Observation::pass("none")),
        CpuLimit::Cpus(cpus) => {
            Ok(Observation::fail(format!("quota of {cpus:.2} CPUs")))
        }
        CpuLimit::Unknown => Err(Unknown::because(
            "the cgroup of this process cannot be followed to its cpu \
             controller",
        )),
    }
}

fn steal(patient: &Patient) -> Result<Observation, Unknown> {
    let path = "proc/stat";
    let text = patient.text(path)?;
    let line = text.lines().find(|line| line.starts_with("cpu "));
    let ticks: Option<Vec<u64>> = line.and_then(|line| {
        line.split_whitespace().skip(1).map(|word| word.parse().ok()).collect()
    });
    // user nice system idle iowait irq softirq steal guest guest_nice, the
    // last two being parts of the first (proc_stat(5)).
    let Some(ticks) = ticks.filter(|ticks| ticks.len() >= 8) else {
        return Err(patient.lack(path));
    };
    let total = ticks[..8].iter().try_fold(0u64, |a, &b| a.checked_add(b));
    let Some(total) = total.filter(|&total| total > 0) else {
        return Err(patient.lack(path));
    };
    if !patient.is_guest() && ticks[7] == 0 {
        return Ok(Observation::not_applicable("no host takes any"));
    }
    let share = ticks[7] as f64 / total as f64;
    // What is told decides: 0.1004 % reads as the limit itself.
    let share = (share * 10_000.0).round() / 10_000.0;
    let told = format!("{:.2} % of the time since boot", share * 100.0);
    Ok(Observation::pass_if(share <= STEAL_SHARE, told))
}
