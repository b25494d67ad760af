//! Memory: what moves pages, what is left, what may be locked.

use super::{Check, Observation, Patient, Unknown, Verdict};

const MIB: u64 = 1 << 20;
/// What a run may need for buffers, files in the page cache and workers.
const FREE_BYTES: u64 = 1 << 30;
/// Registered buffers, AF_XDP frames and locked test memory together.
const LOCK_BYTES: u64 = 64 * MIB;
/// The kernel's default is 60; what tuning guides for latency advise.
const SWAPPINESS: u64 = 10;
/// `CAP_IPC_LOCK` of capabilities(7).
const CAP_IPC_LOCK: u32 = 14;

/// Huge pages, swap, NUMA, limits, errors.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "memory.huge_pages",
        about: "transparent huge pages",
        why: "with `always`, whether a buffer is huge depends on how \
              fragmented memory is at that moment",
        wanted: "madvise or never",
        fix: "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        source: "/sys/kernel/mm/transparent_hugepage/enabled",
        limit: None,
        examine: huge_pages,
    },
    Check {
        id: "memory.huge_page_defrag",
        about: "whether a page fault stops to make a huge page",
        why: "compaction within a fault takes milliseconds",
        wanted: "anything but always",
        fix: "echo madvise > /sys/kernel/mm/transparent_hugepage/defrag",
        source: "/sys/kernel/mm/transparent_hugepage/defrag",
        limit: None,
        examine: huge_page_defrag,
    },
    Check {
        id: "memory.reserved",
        about: "memory set aside for explicit huge pages",
        why: "what is reserved is lost to the page cache and to buffers",
        wanted: "at most half of memory",
        fix: "sysctl vm.nr_hugepages=0",
        source: "/proc/meminfo",
        limit: None,
        examine: reserved,
    },
    Check {
        id: "memory.swap",
        about: "memory that has been moved to swap",
        why: "bringing it back is I/O and page faults within a window",
        wanted: "none in use",
        fix: "swapoff -a",
        source: "/proc/swaps",
        limit: None,
        examine: swap,
    },
    Check {
        id: "memory.swappiness",
        about: "how readily memory of programs is swapped out",
        why: "pages of a waiting program go to swap while files are read",
        wanted: "at most 10",
        fix: "sysctl vm.swappiness=10",
        source: "/proc/sys/vm/swappiness, /proc/swaps",
        limit: None,
        examine: swappiness,
    },
    Check {
        id: "memory.numa_balancing",
        about: "whether pages follow their users between nodes",
        why: "it unmaps pages to see who uses them: faults within a window",
        wanted: "0",
        fix: "sysctl kernel.numa_balancing=0",
        source: "/proc/sys/kernel/numa_balancing",
        limit: None,
        examine: numa_balancing,
    },
    Check {
        id: "memory.zone_reclaim",
        about: "whether a full node drops caches before it uses another",
        why: "reclaim within an allocation takes milliseconds",
        wanted: "0",
        fix: "sysctl vm.zone_reclaim_mode=0",
        source: "/proc/sys/vm/zone_reclaim_mode",
        limit: None,
        examine: zone_reclaim,
    },
    Check {
        id: "memory.nodes",
        about: "whether each node with CPUs has memory",
        why: "a node without memory reaches all of it through another",
        wanted: "every node with CPUs",
        fix: "put DIMMs into every socket",
        source: "/sys/devices/system/node/{has_cpu,has_memory}",
        limit: None,
        examine: nodes,
    },
    Check {
        id: "memory.available",
        about: "memory that can be had without swapping",
        why: "reclaim runs on the CPUs that allocate",
        wanted: "at least 1 GiB and a tenth of all",
        fix: "stop what uses it",
        source: "/proc/meminfo",
        limit: None,
        examine: available,
    },
    Check {
        id: "memory.lock_limit",
        about: "memory that this process may lock",
        why: "registered buffers and packet memory are locked; without them \
              the variants that use them do not run",
        wanted: "at least 64 MiB, or CAP_IPC_LOCK",
        fix: "ulimit -l unlimited (limits.conf: memlock)",
        source: "/proc/self/limits, /proc/self/status",
        limit: None,
        examine: lock_limit,
    },
    Check {
        id: "memory.errors",
        about: "memory errors counted since boot",
        why: "correcting one stops the CPUs; one that cannot be corrected \
              makes data wrong",
        wanted: "0",
        fix: "replace the DIMM that edac names",
        source: "/sys/devices/system/edac/mc/mc*/{ce,ue}_count",
        limit: None,
        examine: errors,
    },
    Check {
        id: "memory.same_page_merging",
        about: "whether equal pages are merged in the background",
        why: "the merger takes a CPU and makes the next write fault",
        wanted: "0",
        fix: "echo 0 > /sys/kernel/mm/ksm/run",
        source: "/sys/kernel/mm/ksm/run",
        limit: None,
        examine: same_page_merging,
    },
    Check {
        id: "memory.overcommit",
        about: "whether memory is promised beyond what there is",
        why: "under strict accounting large mappings are refused",
        wanted: "0 or 1",
        fix: "sysctl vm.overcommit_memory=0",
        source: "/proc/sys/vm/overcommit_memory",
        limit: None,
        examine: overcommit,
    },
];

fn huge_pages(patient: &Patient) -> Result<Observation, Unknown> {
    let path = "sys/kernel/mm/transparent_hugepage/enabled";
    match patient.chosen(path)?.as_str() {
        now @ ("madvise" | "never") => Ok(Observation::pass(now)),
        "always" => {
            Ok(Observation::fail("always")
                .with_write(path, "madvise", "always"))
        }
        _ => Err(patient.lack(path)),
    }
}

fn huge_page_defrag(patient: &Patient) -> Result<Observation, Unknown> {
    let path = "sys/kernel/mm/transparent_hugepage/defrag";
    match patient.chosen(path)?.as_str() {
        now @ ("madvise" | "never" | "defer" | "defer+madvise") => {
            Ok(Observation::pass(now))
        }
        "always" => {
            Ok(Observation::fail("always")
                .with_write(path, "madvise", "always"))
        }
        _ => Err(patient.lack(path)),
    }
}

fn reserved(patient: &Patient) -> Result<Observation, Unknown> {
    let total = patient.memory_bytes("MemTotal")?;
    // All sizes together, since Linux 4.19.
    let taken = patient.memory_bytes("Hugetlb")?;
    if total == 0 || taken > total {
        return Err(patient.lack("proc/meminfo"));
    }
    let told = format!("{} of {} MiB", taken / MIB, total / MIB);
    Ok(Observation::pass_if(taken <= total / 2, told))
}

/// Bytes of swap space and bytes used of it, over all devices.
fn swap_use(patient: &Patient) -> Result<(u64, u64), Unknown> {
    let path = "proc/swaps";
    let text = patient.text(path)?;
    let mut lines = text.lines();
    if !lines.next().is_some_and(|line| line.starts_with("Filename")) {
        return Err(patient.lack(path));
    }
    let (mut size, mut used) = (0u64, 0u64);
    for line in lines {
        // From the right: a file's name may hold blanks.
        let words: Vec<&str> = line.split_whitespace().rev().collect();
        let kibibytes = |index: usize| -> Option<u64> {
            words.get(index)?.parse::<u64>().ok()?.checked_mul(1024)
        };
        let (Some(one), Some(taken)) = (kibibytes(2), kibibytes(1)) else {
            return Err(patient.lack(path));
        };
        size = size.saturating_add(one);
        used = used.saturating_add(taken);
    }
    // A table cut short must not look like an empty one.
    match patient.environment.swap_bytes {
        Some(1..) if size == 0 => Err(patient.lack(path)),
        _ => Ok((size, used)),
    }
}

fn swap(patient: &Patient) -> Result<Observation, Unknown> {
    let (size, used) = swap_use(patient)?;
    if size == 0 {
        return Ok(Observation::pass("no swap space"));
    }
    let told = format!("{} of {} MiB in use", used / MIB, size / MIB);
    Ok(Observation::pass_if(used == 0, told))
}

fn swappiness(patient: &Patient) -> Result<Observation, Unknown> {
    if swap_use(patient)?.0 == 0 {
        return Ok(Observation::not_applicable("no swap space"));
    }
    let path = "proc/sys/vm/swappiness";
    let now = patient.number(path)?;
    Ok(Observation::pass_if(now <= SWAPPINESS, now.to_string())
        .with_write(path, SWAPPINESS, now))
}

/// Whether there is one node only.
fn one_node(patient: &Patient) -> Result<bool, Unknown> {
    let nodes = patient.members("sys/devices/system/node/online")?;
    match nodes.len() {
        0 => Err(patient.lack("sys/devices/system/node/online")),
        count => Ok(count == 1),
    }
}

fn numa_balancing(patient: &Patient) -> Result<Observation, Unknown> {
    if one_node(patient)? {
        return Ok(Observation::not_applicable("there is one node"));
    }
    let path = "proc/sys/kernel/numa_balancing";
    // 0 off, 1 on, 2 memory tiers, 3 both (kernel.rst of the kernel).
    let now = patient.number(path)?;
    Ok(Observation::pass_if(now == 0, now.to_string()).with_write(path, 0, now))
}

fn zone_reclaim(patient: &Patient) -> Result<Observation, Unknown> {
    if one_node(patient)? {
        return Ok(Observation::not_applicable("there is one node"));
    }
    let path = "proc/sys/vm/zone_reclaim_mode";
    let now = patient.number(path)?;
    Ok(Observation::pass_if(now == 0, now.to_string()).with_write(path, 0, now))
}

fn nodes(patient: &Patient) -> Result<Observation, Unknown> {
    let dir = "sys/devices/system/node";
    let cpus = patient.list(format!("{dir}/has_cpu"))?;
    let memory = patient.list(format!("{dir}/has_memory"))?;
    if cpus.is_empty() {
        return Err(patient.lack(format!("{dir}/has_cpu")));
    }
    let told = format!("CPUs on {cpus}, memory on {memory}");
    Ok(Observation::pass_if(cpus.is_subset(&memory), told))
}

fn available(patient: &Patient) -> Result<Observation, Unknown> {
    let total = patient.memory_bytes("MemTotal")?;
    let free = patient.memory_bytes("MemAvailable")?;
    if total == 0 || free > total {
        return Err(patient.lack("proc/meminfo"));
    }
    let told = format!("{} of {} MiB", free / MIB, total / MIB);
    let good = free >= FREE_BYTES && free >= total / 10;
    Ok(Observation::pass_if(good, told))
}

fn lock_limit(patient: &Patient) -> Result<Observation, Unknown> {
    if patient.has_capability(CAP_IPC_LOCK)? {
        return Ok(Observation::pass("no limit: CAP_IPC_LOCK"));
    }
    let limit = patient.environment.limits.locked_memory_bytes;
    let limit = limit.ok_or_else(|| patient.lack("proc/self/limits"))?;
    // The runner raises its own limit as far as it may.
    match limit.hard {
        None => Ok(Observation::pass("no limit")),
        Some(bytes) => Ok(Observation::pass_if(
            bytes >= LOCK_BYTES,
            format!("{} MiB", bytes / MIB),
        )),
    }
}

fn errors(patient: &Patient) -> Result<Observation, Unknown> {
    let dir = "sys/devices/system/edac/mc";
    let names = patient.root.entries(dir);
    let controllers: Vec<&String> = names
        .iter()
        .filter(|name| {
            name.strip_prefix("mc").is_some_and(|n| n.parse::<u32>().is_ok())
        })
        .collect();
    if controllers.is_empty() {
        return Err(patient.hidden(dir, "memory errors").with_fix(
            "load the edac driver of the memory controller, if memory is ECC",
        ));
    }
    let (mut corrected, mut lost) = (0u64, 0u64);
    for name in controllers {
        let count = |file| patient.number(format!("{dir}/{name}/{file}"));
        corrected = corrected.saturating_add(count("ce_count")?);
        lost = lost.saturating_add(count("ue_count")?);
    }
    let told = format!("{corrected} memory errors corrected, {lost} not");
    let seen = Observation::pass_if(corrected == 0 && lost == 0, told);
    Ok(match lost {
        0 => seen,
        _ => seen.capping(Verdict::FunctionalOnly),
    })
}

fn same_page_merging(patient: &Patient) -> Result<Observation, Unknown> {
    let path = "sys/kernel/mm/ksm/run";
    match patient.number(path)? {
        0 => Ok(Observation::pass("0")),
        // Merges nothing more, and takes apart what was merged.
        2 => Ok(Observation::pass("2: taken apart")),
        1 => Ok(Observation::fail("1").with_write(path, 0, 1)),
        _ => Err(patient.lack(path)),
    }
}

fn overcommit(patient: &Patient) -> Result<Observation, Unknown> {
    let path = "proc/sys/vm/overcommit_memory";
    match patient.number(path)? {
        now @ (0 | 1) => Ok(Observation::pass(now.to_string())),
        2 => Ok(Observation::fail("2").with_write(path, 0, 2)),
        _ => Err(patient.lack(path)),
    }
}
