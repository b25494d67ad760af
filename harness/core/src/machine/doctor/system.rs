//! What surrounds this process: hypervisor, container, power, heat, buses,
//! and how the program itself was built.

use super::{Check, Observation, Patient, Unknown, Verdict};
use crate::machine::environment::{Container, Virtualization};

/// Millidegrees below the critical temperature at which it gets tight.
const HEAT_MARGIN: i64 = 10_000;
/// Too hot where a sensor names no critical temperature, in millidegrees.
const HEAT_LIMIT: i64 = 85_000;
/// Rings, sockets and files of a run with many threads.
const OPEN_FILES: u64 = 1024;

/// Everything that is neither processor, memory nor kernel.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "system.build",
        about: "how this program was built",
        why: "without optimisation its own code is what is measured",
        wanted: "without debug assertions",
        fix: "cargo build --release",
        source: "this program",
        limit: Some(Verdict::FunctionalOnly),
        examine: build,
    },
    Check {
        id: "system.virtualisation",
        about: "whether this is a virtual machine",
        why: "the host takes time, emulates devices and hides what it does: \
              variants can be compared, figures are of this guest alone",
        wanted: "bare metal",
        fix: "run on bare metal for figures to publish",
        source: "/proc/cpuinfo, /sys/hypervisor, /sys/class/dmi/id",
        limit: Some(Verdict::ComparisonOnly),
        examine: virtualisation,
    },
    Check {
        id: "system.container",
        about: "whether this is a container",
        why: "overlay file systems, bridges and system call filters lie in \
              the measured path",
        wanted: "no sign of one",
        fix: "run outside of it",
        source: "/.dockerenv, /run/.containerenv, /proc/1/cgroup",
        limit: None,
        examine: container,
    },
    Check {
        id: "system.seccomp",
        about: "whether system calls go through a filter",
        why: "a filter makes each system call dearer, which is what bypass \
              saves: bypass looks better than it is",
        wanted: "0",
        fix: "run outside the sandbox (docker: --security-opt \
              seccomp=unconfined)",
        source: "/proc/self/status",
        limit: Some(Verdict::ComparisonOnly),
        examine: seccomp,
    },
    Check {
        id: "system.cgroup",
        about: "version of control groups",
        why: "version 1 accounts I/O and memory apart, and some of it twice",
        wanted: "version 2 alone",
        fix: "boot with systemd.unified_cgroup_hierarchy=1",
        source: "/proc/self/cgroup",
        limit: None,
        examine: cgroup,
    },
    Check {
        id: "system.open_files",
        about: "files that this process may open",
        why: "rings, event descriptors and sockets of many threads need some",
        wanted: "at least 1024",
        fix: "ulimit -n 1024",
        source: "/proc/self/limits",
        limit: None,
        examine: open_files,
    },
    Check {
        id: "system.clock_synchronised",
        about: "whether the time of day is kept by a server",
        why: "two machines' runs are ordered by it; a clock that has never \
              been set may also jump",
        wanted: "synchronised",
        fix: "run chronyd or systemd-timesyncd",
        source: "adjtimex(2)",
        limit: None,
        examine: clock_synchronised,
    },
    Check {
        id: "system.power",
        about: "where the power comes from",
        why: "on battery the firmware holds frequencies down",
        wanted: "mains",
        fix: "plug it in",
        source: "/sys/class/power_supply/*/{type,status}",
        limit: Some(Verdict::ComparisonOnly),
        examine: power,
    },
    Check {
        id: "system.temperature",
        about: "the hottest sensor",
        why: "near the critical temperature processors and drives slow down",
        wanted: "10 °C below critical; below 85 °C where none is named",
        fix: "improve cooling, or wait",
        source: "/sys/class/hwmon/hwmon*/temp*_{input,crit}",
        limit: None,
        examine: temperature,
    },
    Check {
        id: "system.link_power",
        about: "power saving of PCI Express links",
        why: "a link that sleeps takes 10 to 100 µs to wake, per op at low \
              depth",
        wanted: "performance",
        fix: "echo performance > /sys/module/pcie_aspm/parameters/policy",
        source: "/sys/module/pcie_aspm/parameters/policy",
        limit: None,
        examine: link_power,
    },
    Check {
        id: "system.iommu",
        about: "how the IOMMU translates what devices access",
        why: "in strict mode each I/O waits for a flush of the translation",
        wanted: "identity or DMA-FQ",
        fix: "boot with iommu.strict=0, or iommu=pt",
        source: "/sys/kernel/iommu_groups/*/type",
        limit: None,
        examine: iommu,
    },
];

fn build(patient: &Patient) -> Result<Observation, Unknown> {
    match patient.live.debug_assertions {
        Some(false) => Ok(Observation::pass("optimised")),
        Some(true) => Ok(Observation::fail("built without optimisation")),
        None => Err(Unknown::because("a captured tree does not tell")),
    }
}

fn virtualisation(patient: &Patient) -> Result<Observation, Unknown> {
    match &patient.environment.virtualization {
        Virtualization::None => Ok(Observation::pass("bare metal")),
        // It shows that paths are correct, and nothing about their speed.
        played if played.is_emulated() => {
            let observed = "emulated machine: software plays the processor";
            Ok(Observation::fail(observed).capping(Verdict::FunctionalOnly))
        }
        Virtualization::Guest(None) => Ok(Observation::fail("virtual machine")),
        Virtualization::Guest(Some(name)) => {
            Ok(Observation::fail(format!("virtual machine ({name})")))
        }
        Virtualization::Unknown => Err(Unknown::because(
            "neither processor nor firmware tells of a hypervisor",
        )),
    }
}

fn container(patient: &Patient) -> Result<Observation, Unknown> {
    match &patient.environment.container {
        Container::NoSign => Ok(Observation::pass("no sign of one")),
        Container::Inside(kind) => Ok(Observation::fail(kind.as_str())),
        Container::Unknown => Err(patient.lack("proc/1/cgroup")),
    }
}

fn seccomp(patient: &Patient) -> Result<Observation, Unknown> {
    match patient.process_status("Seccomp")?.as_str() {
        "0" => Ok(Observation::pass("0")),
        mode @ ("1" | "2") => {
            Ok(Observation::fail(format!("seccomp mode {mode}")))
        }
        _ => Err(patient.lack("proc/self/status")),
    }
}

fn cgroup(patient: &Patient) -> Result<Observation, Unknown> {
    let path = "proc/self/cgroup";
    let text = patient.text(path)?;
    let mut others = 0usize;
    let mut unified = false;
    for line in text.lines() {
        match line.split_once(':') {
            Some(("0", rest)) if rest.starts_with(":/") => unified = true,
            Some((number, _)) if number.parse::<u32>().is_ok() => others += 1,
            _ => return Err(patient.lack(path)),
        }
    }
    Ok(match (unified, others) {
        (true, 0) => Observation::pass("version 2"),
        (true, _) => Observation::warn("versions 1 and 2 together"),
        (false, _) => Observation::warn("version 1"),
    })
}

fn open_files(patient: &Patient) -> Result<Observation, Unknown> {
    let limit = patient.environment.limits.open_files;
    let limit = limit.ok_or_else(|| patient.lack("proc/self/limits"))?;
    Ok(match limit.soft {
        None => Observation::pass("no limit"),
        Some(files) => {
            Observation::pass_if(files >= OPEN_FILES, files.to_string())
        }
    })
}

fn clock_synchronised(patient: &Patient) -> Result<Observation, Unknown> {
    let told = patient.live.clock_synchronised;
    let good =
        told.ok_or_else(|| Unknown::because("a captured tree does not tell"))?;
    let word = if good { "synchronised" } else { "not synchronised" };
    Ok(Observation::pass_if(good, word))
}

fn power(patient: &Patient) -> Result<Observation, Unknown> {
    let base = "sys/class/power_supply";
    if !patient.root.path(base).is_dir() {
        return Err(patient.lack(base));
    }
    let mut told = Vec::new();
    let mut discharging = false;
    for name in patient.root.entries(base) {
        let dir = format!("{base}/{name}");
        // A mouse has a battery too.
        let scope = patient.root.read_word(format!("{dir}/scope"));
        if scope.as_deref() == Some("Device") {
            continue;
        }
        let status = format!("{dir}/status");
        match patient.text(format!("{dir}/type"))?.as_str() {
            "Battery" => match patient.text(&status)?.as_str() {
                "Discharging" => discharging = true,
                now @ ("Charging" | "Full" | "Not charging") => {
                    told.push(format!("{name}: {}", now.to_lowercase()));
                }
                _ => return Err(patient.lack(&status)),
            },
            "Mains" | "UPS" | "USB" | "Wireless" => {}
            _ => return Err(patient.lack(format!("{dir}/type"))),
        }
    }
    Ok(match (discharging, told.is_empty()) {
        (true, _) => Observation::fail("on battery"),
        (false, false) => Observation::pass(told.join(", ")),
        (false, true) => Observation::not_applicable("it has no battery"),
    })
}

fn temperature(patient: &Patient) -> Result<Observation, Unknown> {
    let base = "sys/class/hwmon";
    let mut hottest: Option<i64> = None;
    let mut unread = 0usize;
    let mut tight = None;
    for chip in patient.root.entries(base) {
        let dir = format!("{base}/{chip}");
        for file in patient.root.entries(&dir) {
            let sensor = file
                .strip_prefix("temp")
                .and_then(|rest| rest.strip_suffix("_input"));
            let Some(number) = sensor else { continue };
            let Ok(now) = patient.signed(format!("{dir}/{file}")) else {
                unread += 1;
                continue;
            };
            hottest = hottest.max(Some(now));
            let critical =
                patient.signed(format!("{dir}/temp{number}_crit")).ok();
            let limit = critical
                .filter(|&critical| critical > 0)
                .map_or(HEAT_LIMIT, |critical| critical - HEAT_MARGIN);
            if now > limit {
                tight = tight.max(Some(now));
            }
        }
    }
    if let Some(now) = tight {
        return Ok(Observation::warn(format!("{} °C", now / 1000)));
    }
    match hottest {
        Some(now) if unread == 0 => {
            Ok(Observation::pass(format!("{} °C", now / 1000)))
        }
        Some(now) => Err(Unknown::because(format!(
            "{unread} sensors cannot be read; the others show at most {} °C",
            now / 1000
        ))),
        None => Err(patient.hidden(base, "cooling")),
    }
}

fn link_power(patient: &Patient) -> Result<Observation, Unknown> {
    let path = "sys/module/pcie_aspm/parameters/policy";
    match patient.chosen(path)?.as_str() {
        "performance" => Ok(Observation::pass("performance")),
        now @ ("default" | "powersave" | "powersupersave") => {
            Ok(Observation::fail(now).with_write(path, "performance", now))
        }
        _ => Err(patient.lack(path)),
    }
}

fn iommu(patient: &Patient) -> Result<Observation, Unknown> {
    let base = "sys/kernel/iommu_groups";
    if !patient.root.path(base).is_dir() {
        return Err(patient.lack(base));
    }
    let mut kinds = Vec::new();
    for group in patient.root.entries(base) {
        let path = format!("{base}/{group}/type");
        let kind = patient.text(&path)?;
        if !["identity", "DMA", "DMA-FQ", "blocked", "auto"]
            .contains(&kind.as_str())
        {
            return Err(patient.lack(&path));
        }
        kinds.push(kind);
    }
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.is_empty() {
        return Ok(Observation::not_applicable("no device is behind one"));
    }
    let strict = kinds.iter().any(|kind| kind == "DMA");
    Ok(Observation::pass_if(!strict, kinds.join(", ")))
}
