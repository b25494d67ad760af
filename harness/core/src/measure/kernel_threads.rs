//! What the kernel's own threads did.

use std::collections::BTreeMap;

use crate::machine::{cpu_set::Cpu, root::Root};

/// A kernel thread so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelThread {
    /// Where it last ran.
    pub cpu: Cpu,
    /// Its CPU time.
    pub ran_ns: u64,
    /// `ksoftirqd` of a CPU: it works off what interrupts and system calls
    /// have put off.
    pub softirqs: bool,
    /// Works for others than the trial.
    pub foreign: bool,
}

/// CPU time so far of all kernel threads. They are
/// the children of kthreadd, which is process 2; proc(5) numbers the fields of
/// `stat` from 1, and the third is the first after the name.
pub fn kernel_threads(root: &Root) -> BTreeMap<u32, KernelThread> {
    const KTHREADD: &str = "2";
    const PARENT: usize = 4 - 3;
    const PROCESSOR: usize = 39 - 3;
    root.entries("proc")
        .iter()
        .filter_map(|name| {
            let pid = name.parse().ok()?;
            let stat = root.read(format!("proc/{name}/stat"))?;
            // The name in parentheses may hold spaces and parentheses.
            let (start, rest) = stat.rsplit_once(')')?;
            let fields: Vec<&str> = rest.split_whitespace().collect();
            let cpu = Cpu(fields.get(PROCESSOR)?.parse().ok()?);
            if fields[PARENT] != KTHREADD {
                return None;
            }
            let times = root.read(format!("proc/{name}/schedstat"))?;
            let ran_ns = times.split_whitespace().next()?.parse().ok()?;
            let (_, name) = start.split_once('(')?;
            let softirqs = name.starts_with("ksoftirqd/");
            let foreign = works_for_others(name);
            Some((pid, KernelThread { cpu, ran_ns, softirqs, foreign }))
        })
        .collect()
}

/// Kernel threads whose work no trial causes: memory that others want or that
/// is put in order, and a device that is checked or rebuilt. (A kworker's name
/// ends with what it works at.)
fn works_for_others(name: &str) -> bool {
    const MEMORY: [&str; 5] =
        ["kswapd", "kcompactd", "khugepaged", "ksmd", "kdamond"];
    const REPAIRS: [&str; 5] =
        ["_resync", "_recover", "_reshape", "_check", "scrub"];
    MEMORY.iter().any(|begins| name.starts_with(begins))
        || REPAIRS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_threads_that_serve_others_are_foreign_load() {
        for name in
            ["kswapd0", "md0_resync", "khugepaged", "kworker/u8:1-btrfs-scrub"]
        {
            assert!(works_for_others(name), "{name}");
        }
        for name in ["kworker/1:0-events", "jbd2/vda-8", "md0_raid1", "loop3"] {
            assert!(!works_for_others(name), "{name}");
        }
    }
}
