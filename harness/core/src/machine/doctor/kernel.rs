//! The kernel: how it was built, what it has been through, what it permits.

use super::{Check, Observation, Patient, Unknown, Verdict, noise::switch};
use crate::machine::environment::version;

/// Options that make every system call or allocation several times dearer.
const HEAVY: [&str; 10] = [
    "DEBUG_KMEMLEAK",
    "DEBUG_OBJECTS",
    "DEBUG_PAGEALLOC_ENABLE_DEFAULT",
    "GCOV_KERNEL",
    "KASAN",
    "KCOV",
    "KCSAN",
    "KMSAN",
    "LOCKDEP",
    "SLUB_DEBUG_ON",
];
/// Options that cost a few percent.
const LIGHT: [&str; 3] = ["DEBUG_ATOMIC_SLEEP", "DEBUG_PREEMPT", "DEBUG_VM"];

/// The oldest kernel that still gets fixes at kernel.org at the time of
/// writing and has the variants' basics.
const OLDEST: (u32, u32) = (5, 15);

/// `CAP_SYS_ADMIN` and `CAP_PERFMON` of capabilities(7).
const CAPS_PERF: [u32; 2] = [21, 38];

/// Taint flags that tell of damage, and their meaning
/// (Documentation/admin-guide/tainted-kernels.rst).
const DAMAGE: [(u32, &str); 4] = [
    (4, "a machine check"),
    (5, "a bad page"),
    (7, "an oops"),
    (14, "a soft lockup"),
];

/// Build, age, taint, randomisation, counters, lockdown, tracing.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "kernel.debug_options",
        about: "debugging that the kernel was built with",
        why: "sanitisers and lock checking make system calls several times \
              dearer, so that bypass looks better than it is",
        wanted: "none of KASAN, KCSAN, KMSAN, LOCKDEP and the like",
        fix: "boot the distribution's ordinary kernel",
        source: "/proc/config.gz, /boot/config-*, \
                 /usr/lib/modules/*/config, /proc/lockdep",
        limit: Some(Verdict::FunctionalOnly),
        examine: debug_options,
    },
    Check {
        id: "kernel.release",
        about: "age of the kernel",
        why: "old kernels lack the paths compared here; release candidates \
              carry debugging and change weekly",
        wanted: "5.15 or newer, no release candidate",
        fix: "boot a newer kernel",
        source: "/proc/sys/kernel/osrelease",
        limit: None,
        examine: release,
    },
    Check {
        id: "kernel.preemption",
        about: "preemption model",
        why: "PREEMPT_RT makes locks sleep and interrupts run in threads: \
              its figures hold for such kernels only",
        wanted: "not PREEMPT_RT",
        fix: "boot a kernel without PREEMPT_RT",
        source: "/proc/sys/kernel/version",
        limit: None,
        examine: preemption,
    },
    Check {
        id: "kernel.taint",
        about: "whether something has gone wrong since boot",
        why: "after an oops or a lockup parts of the kernel stand still; \
              foreign modules may have hooked into the measured path",
        wanted: "0",
        fix: "reboot; leave out modules that are not of the kernel's own tree",
        source: "/proc/sys/kernel/tainted",
        limit: None,
        examine: taint,
    },
    Check {
        id: "kernel.address_randomisation",
        about: "address space layout randomisation",
        why: "with it off, all workers have the same layout, and its luck \
              looks like an effect that repeats",
        wanted: "2",
        fix: "sysctl kernel.randomize_va_space=2",
        source: "/proc/sys/kernel/randomize_va_space",
        limit: None,
        examine: address_randomisation,
    },
    Check {
        id: "kernel.performance_counters",
        about: "who may count cycles and instructions",
        why: "without counters, rows lack cycles and instructions per op",
        wanted: "at most 1, or CAP_PERFMON",
        fix: "sysctl kernel.perf_event_paranoid=1",
        source: "/proc/sys/kernel/perf_event_paranoid, /proc/self/status",
        limit: None,
        examine: performance_counters,
    },
    Check {
        id: "kernel.lockdown",
        about: "whether the kernel is locked down",
        why: "lockdown refuses some BPF helpers, raw I/O and MSR reads",
        wanted: "none",
        fix: "boot without lockdown=; secure boot may force it",
        source: "/sys/kernel/security/lockdown",
        limit: None,
        examine: lockdown,
    },
    Check {
        id: "kernel.tracing",
        about: "the tracer in use",
        why: "function tracing puts a call into every kernel function",
        wanted: "nop",
        fix: "echo nop > /sys/kernel/tracing/current_tracer",
        source: "/sys/kernel/tracing/current_tracer",
        limit: None,
        examine: tracing,
    },
    Check {
        id: "kernel.bpf_statistics",
        about: "whether each run of a BPF program is timed",
        why: "two clock readings are added to every packet that XDP sees",
        wanted: "0",
        fix: "sysctl kernel.bpf_stats_enabled=0",
        source: "/proc/sys/kernel/bpf_stats_enabled",
        limit: None,
        examine: |patient| switch(patient, "kernel/bpf_stats_enabled", 0),
    },
    Check {
        id: "kernel.delay_accounting",
        about: "whether the delays of each task are timed",
        why: "clock readings are added to every sleep and every swap-in",
        wanted: "0",
        fix: "sysctl kernel.task_delayacct=0",
        source: "/proc/sys/kernel/task_delayacct",
        limit: None,
        examine: |patient| switch(patient, "kernel/task_delayacct", 0),
    },
];

/// The kernel's configuration, whole.
fn configuration(patient: &Patient) -> Result<&str, Unknown> {
    patient
        .configuration()
        // Every configuration has an answer for this one, so that a text cut
        // short or garbled is told from one where options are off.
        .filter(|text| answer(text, "DEBUG_KERNEL").is_some())
        .ok_or_else(|| {
            Unknown::because("the kernel's configuration is not readable")
                .with_fix(
                    "modprobe configs, or install /boot/config-$(uname -r)",
                )
        })
}

/// Whether an option is built in or a module; `None` if it is not mentioned.
fn answer(configuration: &str, option: &str) -> Option<bool> {
    configuration.lines().find_map(|line| {
        if let Some(rest) = line.strip_prefix("CONFIG_") {
            let (name, value) = rest.split_once('=')?;
            return (name == option).then_some(value != "n");
        }
        let name =
            line.strip_prefix("# CONFIG_")?.strip_suffix(" is not set")?;
        (name == option).then_some(false)
    })
}

/// Whether the kernel was built with an option. One that is not mentioned is
/// off: its conditions were not met.
pub(super) fn option(patient: &Patient, name: &str) -> Result<bool, Unknown> {
    Ok(answer(configuration(patient)?, name).unwrap_or(false))
}

fn debug_options(patient: &Patient) -> Result<Observation, Unknown> {
    let text = match configuration(patient) {
        Ok(text) => text,
        // Only lock checking shows elsewhere.
        Err(_) if patient.root.exists("proc/lockdep") => {
            return Ok(Observation::fail("kernel built with LOCKDEP"));
        }
        Err(unknown) => return Err(unknown),
    };
    let on = |names: &[&str]| -> Vec<String> {
        let is_on = |name: &&&str| answer(text, name) == Some(true);
        names.iter().filter(is_on).map(|name| (*name).to_owned()).collect()
    };
    let (heavy, light) = (on(&HEAVY), on(&LIGHT));
    Ok(match (heavy.is_empty(), light.is_empty()) {
        (true, true) => Observation::pass("none of them"),
        (true, false) => Observation::warn(light.join(", ")),
        (false, _) => {
            let told = format!("kernel built with {}", heavy.join(", "));
            Observation::fail(told)
        }
    })
}

fn release(patient: &Patient) -> Result<Observation, Unknown> {
    let path = "proc/sys/kernel/osrelease";
    let text = patient.text(path)?;
    let version = version(&text).ok_or_else(|| patient.lack(path))?;
    let good = version >= OLDEST && !text.contains("-rc");
    Ok(Observation::pass_if(good, text))
}

fn preemption(patient: &Patient) -> Result<Observation, Unknown> {
    let path = "proc/sys/kernel/version";
    let text = patient.text(path)?;
    if !text.starts_with('#') {
        return Err(patient.lack(path));
    }
    let model = text
        .split_whitespace()
        .find(|word| word.starts_with("PREEMPT"))
        .unwrap_or("no word of PREEMPT");
    Ok(Observation::pass_if(model != "PREEMPT_RT", model))
}

fn taint(patient: &Patient) -> Result<Observation, Unknown> {
    let path = "proc/sys/kernel/tainted";
    let bits = patient.number(path)?;
    if bits >= 1 << 32 {
        return Err(patient.lack(path));
    }
    let damage: Vec<&str> = DAMAGE
        .iter()
        .filter(|(bit, _)| bits & (1 << bit) != 0)
        .map(|(_, what)| *what)
        .collect();
    if damage.is_empty() {
        return Ok(Observation::pass_if(bits == 0, bits.to_string()));
    }
    let told = format!("kernel has seen {}", damage.join(", "));
    Ok(Observation::fail(told).capping(Verdict::ComparisonOnly))
}

fn address_randomisation(patient: &Patient) -> Result<Observation, Unknown> {
    let path = "proc/sys/kernel/randomize_va_space";
    match patient.number(path)? {
        2 => Ok(Observation::pass("2")),
        now @ (0 | 1) => {
            Ok(Observation::fail(now.to_string()).with_write(path, 2, now))
        }
        _ => Err(patient.lack(path)),
    }
}

fn performance_counters(patient: &Patient) -> Result<Observation, Unknown> {
    for number in CAPS_PERF {
        if patient.has_capability(number)? {
            return Ok(Observation::pass("this process may count anything"));
        }
    }
    let path = "proc/sys/kernel/perf_event_paranoid";
    let now = patient.signed(path)?;
    // Distributions have gone as far as 4.
    if !(-1..=4).contains(&now) {
        return Err(patient.lack(path));
    }
    Ok(Observation::pass_if(now <= 1, now.to_string()).with_write(path, 1, now))
}

fn lockdown(patient: &Patient) -> Result<Observation, Unknown> {
    let path = "sys/kernel/security/lockdown";
    match patient.chosen(path)?.as_str() {
        "none" => Ok(Observation::pass("none")),
        now @ ("integrity" | "confidentiality") => Ok(Observation::fail(now)),
        _ => Err(patient.lack(path)),
    }
}

fn tracing(patient: &Patient) -> Result<Observation, Unknown> {
    let path = "sys/kernel/tracing/current_tracer";
    let now = patient.text(path)?;
    Ok(Observation::pass_if(now == "nop", now.clone())
        .with_write(path, "nop", now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_is_off_is_told_from_one_not_mentioned() {
        let text = "CONFIG_KASAN=y\n# CONFIG_KCSAN is not set\nCONFIG_HZ=250\n";
        assert_eq!(answer(text, "KASAN"), Some(true));
        assert_eq!(answer(text, "KCSAN"), Some(false));
        assert_eq!(answer(text, "KMSAN"), None);
        assert_eq!(answer(text, "KASA"), None);
    }
}
