//! Whether `io_uring` can be used. No check of all suites: those that have
//! such variants name [`CHECKS`] among their own.

use super::{Check, Observation, Patient, Unknown};
use crate::machine::environment::version;

/// The switch came with this kernel.
const SWITCH_SINCE: (u32, u32) = (6, 6);
/// `IORING_SETUP_SINGLE_ISSUER` came with 6.0, `DEFER_TASKRUN` with 6.1.
const FEATURES_SINCE: (u32, u32) = (6, 1);
/// Threads that the kernel may start for buffered and blocking requests.
const WORKERS: u64 = 256;

/// The checks.
pub const CHECKS: &[Check] = &[
    Check {
        id: "io_uring.permitted",
        about: "who may make rings",
        why: "variants with io_uring are skipped where it is forbidden",
        wanted: "0",
        fix: "sysctl kernel.io_uring_disabled=0",
        source: "/proc/sys/kernel/io_uring_disabled",
        limit: None,
        examine: permitted,
    },
    Check {
        id: "io_uring.works",
        about: "whether this process can make a ring",
        why: "variants with io_uring are skipped where it cannot (system \
              call filters of containers often forbid it)",
        wanted: "yes",
        fix: "allow io_uring_setup in the seccomp profile; build the kernel \
              with IO_URING",
        source: "io_uring_setup(2)",
        limit: None,
        examine: works,
    },
    Check {
        id: "io_uring.features",
        about: "whether the kernel has rings of a single issuer",
        why: "without them completions interrupt the issuer; rows say which \
              flags they had",
        wanted: "6.1 or newer",
        fix: "boot a newer kernel",
        source: "/proc/sys/kernel/osrelease",
        limit: None,
        examine: features,
    },
    Check {
        id: "io_uring.workers",
        about: "processes and threads of this user",
        why: "the kernel's io_uring workers count against it: beyond, \
              requests wait for each other",
        wanted: "at least 256",
        fix: "ulimit -u 4096 (limits.conf: nproc)",
        source: "/proc/self/limits",
        limit: None,
        examine: workers,
    },
];

fn permitted(patient: &Patient) -> Result<Observation, Unknown> {
    let path = "proc/sys/kernel/io_uring_disabled";
    let release = patient.root.read_word("proc/sys/kernel/osrelease");
    let older = release
        .as_deref()
        .and_then(version)
        .is_some_and(|version| version < SWITCH_SINCE);
    if older && !patient.root.exists(path) {
        return Ok(Observation::not_applicable("this kernel has no switch"));
    }
    match patient.number(path)? {
        0 => Ok(Observation::pass("0")),
        1 => Ok(Observation::fail("1: members of io_uring_group only")
            .with_write(path, 0, 1)),
        2 => Ok(Observation::fail("2: nobody").with_write(path, 0, 2)),
        _ => Err(patient.lack(path)),
    }
}

fn works(patient: &Patient) -> Result<Observation, Unknown> {
    match &patient.live.io_uring {
        Some(Ok(())) => Ok(Observation::pass("yes")),
        Some(Err(error)) => Ok(Observation::fail(error.as_str())),
        None => Err(Unknown::because("a captured tree does not tell")),
    }
}

fn features(patient: &Patient) -> Result<Observation, Unknown> {
    let path = "proc/sys/kernel/osrelease";
    let text = patient.text(path)?;
    let version = version(&text).ok_or_else(|| patient.lack(path))?;
    Ok(Observation::pass_if(version >= FEATURES_SINCE, text))
}

fn workers(patient: &Patient) -> Result<Observation, Unknown> {
    let limit = patient.environment.limits.processes;
    let limit = limit.ok_or_else(|| patient.lack("proc/self/limits"))?;
    Ok(match limit.soft {
        None => Observation::pass("no limit"),
        Some(count) => {
            Observation::pass_if(count >= WORKERS, count.to_string())
        }
    })
}
