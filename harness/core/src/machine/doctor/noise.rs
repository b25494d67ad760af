//! Other work: tasks, interrupts, watchdogs.

use super::{Check, Observation, Patient, Unknown, Verdict, support::mask};
use crate::machine::{cpu_set::CpuSet, environment::Container};

/// Runnable tasks on average that are not worth a word: daemons that wake.
const LOAD_QUIET: f64 = 0.5;
/// Share of the CPUs that other work keeps busy at which no window is clean.
const LOAD_SHARE: f64 = 0.25;
/// Share of the last minute in which tasks waited, in percent.
const PRESSURE_PERCENT: f64 = 5.0;
/// Seconds between two foldings of the memory counters on each CPU; tuned's
/// profile network-latency has 10.
const STAT_INTERVAL_S: u64 = 10;

/// Load, pressure, interrupts, watchdogs, scheduler settings.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "noise.load",
        about: "runnable tasks, averaged over a minute",
        why: "other work takes CPUs, caches and memory bandwidth",
        wanted: "at most 0.5",
        fix: "stop other work, or wait a minute after a build",
        source: "/proc/loadavg",
        limit: Some(Verdict::ComparisonOnly),
        examine: load,
    },
    Check {
        id: "noise.running",
        about: "tasks that run right now, beside this one",
        why: "other work takes CPUs, caches and memory bandwidth",
        wanted: "none",
        fix: "find it with top, and stop it",
        source: "/proc/stat",
        limit: None,
        examine: running,
    },
    Check {
        id: "noise.pressure",
        about: "share of the last minute in which tasks waited for CPU, I/O \
                or memory",
        why: "what waits now will compete with what is measured",
        wanted: "at most 5 % each",
        fix: "stop other work, or wait a minute after a build",
        source: "/proc/pressure/{cpu,io,memory}",
        limit: None,
        examine: pressure,
    },
    Check {
        id: "noise.irqbalance",
        about: "a daemon that moves interrupts between CPUs",
        why: "an interrupt that moves onto a measured CPU within a run changes \
              its figures",
        wanted: "not running",
        fix: "systemctl stop irqbalance",
        source: "/proc/*/comm",
        limit: None,
        examine: irqbalance,
    },
    Check {
        id: "noise.interrupts",
        about: "device interrupts that go to measured CPUs",
        why: "each takes 1 to 10 µs from the thread that runs there",
        wanted: "none, apart from those of the device under test",
        fix: "write other CPUs to /proc/irq/*/smp_affinity_list",
        source: "/proc/irq/*/effective_affinity_list",
        limit: None,
        examine: interrupts,
    },
    Check {
        id: "noise.default_affinity",
        about: "CPUs that new interrupts may go to",
        why: "a queue that is made within a run gets its interrupt there",
        wanted: "no isolated CPU",
        fix: "boot with irqaffinity=LIST",
        source: "/proc/irq/default_smp_affinity",
        limit: None,
        examine: default_affinity,
    },
    Check {
        id: "noise.nmi_watchdog",
        about: "the detector of hard lockups",
        why: "it takes a performance counter on each CPU and interrupts each",
        wanted: "0",
        fix: "sysctl kernel.nmi_watchdog=0",
        source: "/proc/sys/kernel/nmi_watchdog",
        limit: None,
        examine: |patient| switch(patient, "kernel/nmi_watchdog", 0),
    },
    Check {
        id: "noise.soft_watchdog",
        about: "the detector of soft lockups",
        why: "it wakes a thread of the highest priority on each CPU every 4 s",
        wanted: "0",
        fix: "sysctl kernel.soft_watchdog=0",
        source: "/proc/sys/kernel/soft_watchdog",
        limit: None,
        examine: |patient| switch(patient, "kernel/soft_watchdog", 0),
    },
    Check {
        id: "noise.timer_migration",
        about: "whether timers move to CPUs that are busy",
        why: "timers of idle CPUs come to the measured one",
        wanted: "0",
        fix: "sysctl kernel.timer_migration=0",
        source: "/proc/sys/kernel/timer_migration",
        limit: None,
        examine: |patient| switch(patient, "kernel/timer_migration", 0),
    },
    Check {
        id: "noise.autogroup",
        about: "CPU time shared by session, not by task",
        why: "a spinning and a blocking variant get shares by rules that \
              depend on who is logged in",
        wanted: "0",
        fix: "sysctl kernel.sched_autogroup_enabled=0",
        source: "/proc/sys/kernel/sched_autogroup_enabled",
        limit: None,
        examine: |patient| switch(patient, "kernel/sched_autogroup_enabled", 0),
    },
    Check {
        id: "noise.realtime_share",
        about: "share of CPU time that real-time tasks may take",
        why: "kernel threads of real-time class (threaded interrupts) stop \
              when it is used up",
        wanted: "at least 95 %, or -1",
        fix: "sysctl kernel.sched_rt_runtime_us=950000",
        source: "/proc/sys/kernel/sched_rt_{runtime,period}_us",
        limit: None,
        examine: realtime_share,
    },
    Check {
        id: "noise.stat_interval",
        about: "seconds between foldings of the memory counters",
        why: "a kernel worker runs on each CPU that often",
        wanted: "at least 10",
        fix: "sysctl vm.stat_interval=10",
        source: "/proc/sys/vm/stat_interval",
        limit: None,
        examine: stat_interval,
    },
];

/// A sysctl that is 0 or 1, with the wanted one.
pub(super) fn switch(
    patient: &Patient,
    name: &str,
    wanted: u8,
) -> Result<Observation, Unknown> {
    let path = format!("proc/sys/{name}");
    let now = u8::from(patient.flag(&path)?);
    Ok(Observation::pass_if(now == wanted, now.to_string())
        .with_write(&path, wanted, now))
}

fn load(patient: &Patient) -> Result<Observation, Unknown> {
    let Some([minute, ..]) = patient.environment.load_average else {
        return Err(patient.lack("proc/loadavg"));
    };
    let cpus = patient.members("sys/devices/system/cpu/online")?.len();
    let told = format!("load {minute:.2} on {cpus} CPUs");
    if !(0.0..1e6).contains(&minute) {
        return Err(patient.lack("proc/loadavg"));
    }
    if minute <= LOAD_QUIET {
        return Ok(Observation::pass(told));
    }
    let heavy = (cpus as f64 * LOAD_SHARE).max(1.0);
    // The average remembers, for minutes, a run of 32 blocking threads that
    // has ended. What runs beside a trial is seen by that trial.
    let text = patient.text("proc/loadavg")?;
    let runnable = text.split([' ', '/']).nth(3).and_then(|n| n.parse().ok());
    let over = runnable.is_some_and(|tasks: u64| tasks <= 1);
    Ok(if minute > heavy && over {
        Observation::warn(format!("{told} lately, nothing else runs now"))
    } else if minute > heavy {
        Observation::fail(told)
    } else {
        Observation::warn(told)
    })
}

fn running(patient: &Patient) -> Result<Observation, Unknown> {
    let text = patient.text("proc/stat")?;
    let count: Option<u64> = text
        .lines()
        .find_map(|line| line.strip_prefix("procs_running "))
        .and_then(|number| number.trim().parse().ok());
    // At least the one that reads this.
    let Some(others) = count.and_then(|count| count.checked_sub(1)) else {
        return Err(patient.lack("proc/stat"));
    };
    Ok(Observation::pass_if(others == 0, others.to_string()))
}

fn pressure(patient: &Patient) -> Result<Observation, Unknown> {
    let mut told = Vec::new();
    let mut worst = 0.0f64;
    for what in ["cpu", "io", "memory"] {
        let path = format!("proc/pressure/{what}");
        let text = patient.text(&path)?;
        let share: Option<f64> = text
            .lines()
            .find_map(|line| line.strip_prefix("some "))
            .and_then(|line| {
                line.split_whitespace()
                    .find_map(|word| word.strip_prefix("avg60="))
            })
            .and_then(|number| number.parse().ok());
        let Some(share) = share.filter(|s| (0.0..=100.0).contains(s)) else {
            return Err(patient.lack(&path));
        };
        worst = worst.max(share);
        told.push(format!("{what} {share:.1} %"));
    }
    Ok(Observation::pass_if(worst <= PRESSURE_PERCENT, told.join(", ")))
}

fn irqbalance(patient: &Patient) -> Result<Observation, Unknown> {
    if patient.environment.container != Container::NoSign {
        return Err(Unknown::because(
            "the host's processes are not seen from a container",
        ));
    }
    let is_process =
        |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
    let processes: Vec<String> =
        patient.root.entries("proc").into_iter().filter(is_process).collect();
    let mut seen = 0usize;
    for process in &processes {
        // A process may end between being listed and being read.
        let comm = patient.root.read_word(format!("proc/{process}/comm"));
        let Some(comm) = comm else { continue };
        if comm == "irqbalance" {
            return Ok(Observation::fail(format!("process {process}")));
        }
        seen += 1;
    }
    // proc(5), hidepid: an ordinary user is shown no processes but their own.
    if patient.text("proc/1/comm").is_err() {
        return Err(Unknown::because("/proc hides other users' processes"));
    }
    // The first process and this one are always there; less is no listing.
    match seen {
        0 | 1 => Err(Unknown::because("/proc shows no other processes")),
        _ => Ok(Observation::pass(format!("not among {seen} processes"))),
    }
}

fn interrupts(patient: &Patient) -> Result<Observation, Unknown> {
    // Isolated CPUs are taken before others, and others must serve devices.
    let isolated = patient.list("sys/devices/system/cpu/isolated")?;
    let mut cpus = patient.cpus()?;
    if !isolated.intersection(&cpus).is_empty() {
        cpus = isolated.intersection(&cpus);
    }
    let (mut here, mut all) = (0usize, 0usize);
    for name in patient.root.entries("proc/irq") {
        if !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // Before 4.15 only the wish was shown. Numbers without a device have
        // neither or an empty one.
        let file = |file: &str| {
            patient.root.read_word(format!("proc/irq/{name}/{file}"))
        };
        let text = file("effective_affinity_list")
            .or_else(|| file("smp_affinity_list"));
        let Some(text) = text else { continue };
        let Ok(served) = text.parse::<CpuSet>() else {
            return Err(patient.lack(format!("proc/irq/{name}")));
        };
        all += 1;
        here += usize::from(!served.intersection(&cpus).is_empty());
    }
    if all == 0 {
        return Err(patient.lack("proc/irq"));
    }
    let told = format!("{here} of {all}");
    Ok(Observation::pass_if(here == 0, told))
}

fn default_affinity(patient: &Patient) -> Result<Observation, Unknown> {
    let path = "proc/irq/default_smp_affinity";
    let cpus = patient.root.read(path).and_then(|text| mask(&text));
    let Some(cpus) = cpus.filter(|cpus| !cpus.is_empty()) else {
        return Err(patient.lack(path));
    };
    let isolated = patient.list("sys/devices/system/cpu/isolated")?;
    if isolated.is_empty() {
        return Ok(Observation::not_applicable("no CPU is isolated"));
    }
    let shared = cpus.intersection(&isolated);
    Ok(Observation::pass_if(shared.is_empty(), cpus.to_string()))
}

fn realtime_share(patient: &Patient) -> Result<Observation, Unknown> {
    let runtime = patient.signed("proc/sys/kernel/sched_rt_runtime_us")?;
    let period = patient.number("proc/sys/kernel/sched_rt_period_us")?;
    if runtime == -1 {
        return Ok(Observation::pass("no limit"));
    }
    let runtime = u64::try_from(runtime).ok().filter(|&r| r <= period);
    let Some(runtime) = runtime.filter(|_| period > 0) else {
        return Err(patient.lack("proc/sys/kernel/sched_rt_runtime_us"));
    };
    let percent = runtime as f64 / period as f64 * 100.0;
    Ok(Observation::pass_if(percent >= 95.0, format!("{percent:.0} %")))
}

fn stat_interval(patient: &Patient) -> Result<Observation, Unknown> {
    let path = "proc/sys/vm/stat_interval";
    let now = patient.number(path)?;
    let good = now >= STAT_INTERVAL_S;
    Ok(Observation::pass_if(good, format!("{now} s")).with_write(
        path,
        STAT_INTERVAL_S,
        now,
    ))
}
