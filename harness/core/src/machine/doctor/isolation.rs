//! Idle states, and what has been kept away from the measured CPUs.

use super::{Check, Observation, Patient, Unknown, support::mask};
use crate::machine::cpu_set::CpuSet;

/// Waking from a state that takes longer than this shows in a latency of some
/// 10 µs, which is what a fast NVMe read or a ping-pong takes.
const EXIT_LATENCY_US: u64 = 10;

/// Idle states, `isolcpus`, `nohz_full`, `rcu_nocbs`, workqueues.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "cpu.idle_states",
        about: "the deepest sleep that the measured CPUs may enter",
        why: "waking up from deep sleep takes longer than the op that waits \
              for it, which favours variants that never sleep",
        wanted: "no state that takes longer than 10 µs to leave",
        fix: "cpupower idle-set -D 10",
        source: "/sys/devices/system/cpu/cpu*/cpuidle/state*/\
                 {latency,disable}",
        limit: None,
        examine: idle_states,
    },
    Check {
        id: "cpu.halt_polling",
        about: "how long an idle CPU of a guest polls before it halts",
        why: "a halt hands the CPU to the host, and waking goes through it",
        wanted: "more than 0 ns",
        fix: "boot with haltpoll.guest_halt_poll_ns=200000",
        source: "/sys/module/haltpoll/parameters/guest_halt_poll_ns, \
                 /sys/devices/system/cpu/cpuidle/current_driver",
        limit: None,
        examine: halt_polling,
    },
    Check {
        id: "cpu.isolated",
        about: "CPUs kept free of other tasks",
        why: "the scheduler puts other work on measured CPUs unless told not \
              to",
        wanted: "at least two",
        fix: "boot with isolcpus=LIST, or use a cpuset partition",
        source: "/sys/devices/system/cpu/isolated",
        limit: None,
        examine: isolated,
    },
    Check {
        id: "cpu.nohz_full",
        about: "CPUs whose timer tick stops while one task runs",
        why: "the tick interrupts a spinning thread 100 to 1,000 times a \
              second",
        wanted: "at least two",
        fix: "boot with nohz_full=LIST (kernel built with NO_HZ_FULL)",
        source: "/sys/devices/system/cpu/nohz_full",
        limit: None,
        examine: nohz_full,
    },
    Check {
        id: "cpu.rcu_nocbs",
        about: "CPUs whose RCU callbacks run elsewhere",
        why: "callbacks of other CPUs' work run in softirq on this one",
        wanted: "set (nohz_full implies it)",
        fix: "boot with rcu_nocbs=LIST",
        source: "/proc/cmdline",
        limit: None,
        examine: rcu_nocbs,
    },
    Check {
        id: "cpu.workqueues",
        about: "whether unbound kernel workers keep off isolated CPUs",
        why: "kworkers would run on CPUs that were isolated for measuring",
        wanted: "a mask without isolated CPUs",
        fix: "take isolated CPUs out of the mask",
        source: "/sys/devices/virtual/workqueue/cpumask",
        limit: None,
        examine: workqueues,
    },
];

fn idle_states(patient: &Patient) -> Result<Observation, Unknown> {
    let global = "sys/devices/system/cpu/cpuidle/current_driver";
    let driver = patient
        .text(global)
        .map_err(|_| patient.hidden(global, "idle states"))?;
    let mut writes = Vec::new();
    let mut deepest = (0, String::new());
    let mut states = 0usize;
    for (_, dir) in patient.of_each_cpu("cpuidle")? {
        for state in patient.root.entries(&dir) {
            let dir = format!("{dir}/{state}");
            let latency = patient.number(format!("{dir}/latency"))?;
            let off = patient.number(format!("{dir}/disable"))?;
            states += 1;
            if off != 0 {
                continue;
            }
            if latency > EXIT_LATENCY_US {
                writes.push(format!("{dir}/disable"));
            }
            if latency >= deepest.0 {
                let name = patient.text(format!("{dir}/name"))?;
                deepest = (latency, name);
            }
        }
    }
    if patient.is_guest() {
        return Err(Unknown::host_only(&format!(
            "how deep its CPUs sleep (this guest's own driver is {driver})"
        )));
    }
    if states == 0 {
        return Err(patient.lack("sys/devices/system/cpu/cpu0/cpuidle"));
    }
    let told = format!("{} takes {} µs to leave", deepest.1, deepest.0);
    let mut seen = Observation::pass_if(writes.is_empty(), told);
    for path in &writes {
        seen = seen.with_write(path, 1, 0);
    }
    Ok(seen)
}

fn halt_polling(patient: &Patient) -> Result<Observation, Unknown> {
    if patient.environment.virtualization.is_guest() == Some(false) {
        return Ok(Observation::not_applicable("this is no guest"));
    }
    let driver =
        patient.text("sys/devices/system/cpu/cpuidle/current_driver")?;
    if driver != "haltpoll" {
        return Err(Unknown::because(format!(
            "the idle driver is {driver}, which does not tell"
        )));
    }
    let ns =
        patient.number("sys/module/haltpoll/parameters/guest_halt_poll_ns")?;
    Ok(Observation::pass_if(ns > 0, format!("{ns} ns")))
}

fn count(cpus: &CpuSet) -> Observation {
    let told = match cpus.is_empty() {
        true => "none".to_owned(),
        false => cpus.to_string(),
    };
    Observation::pass_if(cpus.len() >= 2, told)
}

fn isolated(patient: &Patient) -> Result<Observation, Unknown> {
    let cpus = patient.list("sys/devices/system/cpu/isolated")?;
    Ok(count(&cpus.intersection(&patient.cpus()?)))
}

fn nohz_full(patient: &Patient) -> Result<Observation, Unknown> {
    let path = "sys/devices/system/cpu/nohz_full";
    // Kernels from 4.x to 6.x write this for an empty mask.
    if patient.root.read(path).as_deref() == Some("(null)") {
        return Ok(count(&CpuSet::new()));
    }
    if !patient.root.exists(path) {
        let built = super::kernel::option(patient, "NO_HZ_FULL")?;
        if !built {
            return Ok(Observation::warn("not built into this kernel"));
        }
    }
    let cpus = patient.list(path)?;
    Ok(count(&cpus.intersection(&patient.cpus()?)))
}

fn rcu_nocbs(patient: &Patient) -> Result<Observation, Unknown> {
    for name in ["rcu_nocbs", "nohz_full"] {
        if let Some(value) = patient.parameter(name)? {
            let cpus: Result<CpuSet, _> = value.parse();
            if value == "all" || cpus.is_ok_and(|cpus| !cpus.is_empty()) {
                return Ok(Observation::pass(format!("{name}={value}")));
            }
        }
    }
    Ok(Observation::warn("not set"))
}

fn workqueues(patient: &Patient) -> Result<Observation, Unknown> {
    let isolated = patient.list("sys/devices/system/cpu/isolated")?;
    if isolated.is_empty() {
        return Ok(Observation::not_applicable("no CPU is isolated"));
    }
    let path = "sys/devices/virtual/workqueue/cpumask";
    let text = patient.text(path)?;
    let workers = mask(&text)
        .filter(|cpus| !cpus.is_empty())
        .ok_or_else(|| patient.lack(path))?;
    let shared = workers.intersection(&isolated);
    let told = match shared.is_empty() {
        true => format!("workers on {workers}"),
        false => format!("workers on isolated CPUs {shared}"),
    };
    Ok(Observation::pass_if(shared.is_empty(), told))
}
