//! Which CPUs, and how much of them, this process may use.

use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cpu_set::CpuSet;
use super::devices::filesystem::{Mount, mounts};
use super::root::Root;
use super::sys;

/// The CPUs that the calling thread may run on. Any number of CPUs: the mask
/// grows until the kernel accepts it. (A cgroup's `cpuset` is already in it,
/// and cgroup v1 has no file that says as much.)
///
/// # Errors
/// When the kernel refuses to tell, as a seccomp filter can make it.
pub fn allowed_cpus() -> io::Result<CpuSet> {
    sys::affinity()
}

/// How much CPU time per second of wall time the cgroup grants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CpuLimit {
    /// So many CPUs' worth; the tightest of the cgroup and its parents.
    Cpus(f64),
    /// No quota on the way up, as far as this process can see.
    Unlimited,
    /// It cannot be told.
    Unknown,
}

impl fmt::Display for CpuLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CpuLimit::Cpus(cpus) => write!(f, "{cpus} CPUs"),
            CpuLimit::Unlimited => f.pad("unlimited"),
            CpuLimit::Unknown => f.pad("unknown"),
        }
    }
}

/// The CPU quota of this process, from whichever cgroup version has the `cpu`
/// controller.
pub fn cpu_limit(root: &Root) -> CpuLimit {
    let Some(groups) = root.read("proc/self/cgroup") else {
        return CpuLimit::Unknown;
    };
    let mounts = mounts(root);
    let mut limit = CpuLimit::Unknown;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let here = if controllers.is_empty() {
            limit_v2(root, &mounts, path)
        } else if controllers.split(',').any(|name| name == "cpu") {
            limit_v1(root, &mounts, path)
        } else {
            continue;
        };
        limit = tighter(limit, here);
    }
    limit
}

fn limit_v2(root: &Root, mounts: &[Mount], path: &str) -> CpuLimit {
    let mount = mounts.iter().rfind(|mount| mount.kind == "cgroup2");
    // Where the `cpu` controller belongs to version 1, this hierarchy has no
    // say; its silence must not count as "unlimited".
    let directory = mount.and_then(|mount| {
        let controllers = mount.mount_point.join("cgroup.controllers");
        let names = root.read(controllers)?;
        names.split_whitespace().find(|&name| name == "cpu")?;
        group_directory(mount, path)
    });
    let levels = directory.as_deref().zip(mount);
    lowest(levels, |dir| match root.read(dir.join("cpu.max")) {
        Some(text) => parse_cpu_max(&text),
        // Neither the root group nor a group without the controller has
        // either file; with one of them the other was lost.
        None if root.exists(dir.join("cpu.weight")) => CpuLimit::Unknown,
        None => CpuLimit::Unlimited,
    })
}

fn limit_v1(root: &Root, mounts: &[Mount], path: &str) -> CpuLimit {
    let mount = mounts.iter().rfind(|mount| {
        mount.kind == "cgroup" && mount.options.iter().any(|o| o == "cpu")
    });
    let directory = mount.and_then(|mount| group_directory(mount, path));
    let levels = directory.as_deref().zip(mount);
    lowest(levels, |dir| {
        let Some(quota) = root.read(dir.join("cpu.cfs_quota_us")) else {
            return CpuLimit::Unlimited;
        };
        let period = root.read(dir.join("cpu.cfs_period_us"));
        match (quota.as_str(), period) {
            ("-1", _) => CpuLimit::Unlimited,
            (quota, Some(period)) => quotient(quota, &period),
            (_, None) => CpuLimit::Unknown,
        }
    })
}

/// The tightest limit from the group's directory up to the mount point.
fn lowest(
    levels: Option<(&Path, &Mount)>,
    read: impl Fn(&Path) -> CpuLimit,
) -> CpuLimit {
    let Some((directory, mount)) = levels else { return CpuLimit::Unknown };
    let mut limit = CpuLimit::Unlimited;
    for dir in directory.ancestors() {
        limit = match (limit, read(dir)) {
            (_, CpuLimit::Unknown) => return CpuLimit::Unknown,
            (known, here) => tighter(known, here),
        };
        if dir == mount.mount_point {
            break;
        }
    }
    limit
}

/// The group's directory in a mount, which may show only a part of the
/// hierarchy (a container's own). A group outside that part has none.
fn group_directory(mount: &Mount, path: &str) -> Option<PathBuf> {
    let group = Path::new(path);
    if group.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    let inside = group.strip_prefix(&mount.root).ok()?;
    Some(mount.mount_point.join(inside))
}

/// The directories of all groups that this process is in, each with those
/// above it up to where its hierarchy is mounted.
pub(super) fn group_directories(root: &Root) -> Vec<PathBuf> {
    let groups = root.read("proc/self/cgroup").unwrap_or_default();
    let mut found = Vec::new();
    for mount in mounts(root) {
        if !["cgroup", "cgroup2"].contains(&mount.kind.as_str()) {
            continue;
        }
        for path in groups.lines().filter_map(|l| l.splitn(3, ':').nth(2)) {
            let own = group_directory(&mount, path);
            let own = own.iter().flat_map(|directory| directory.ancestors());
            found.extend(
                own.take_while(|dir| dir.starts_with(&mount.mount_point))
                    .map(Path::to_owned),
            );
        }
    }
    found.sort();
    found.dedup();
    found
}

/// `max 100000` or `50000 100000`.
fn parse_cpu_max(text: &str) -> CpuLimit {
    let mut words = text.split_whitespace();
    match (words.next(), words.next()) {
        (Some("max"), _) => CpuLimit::Unlimited,
        (Some(quota), Some(period)) => quotient(quota, period),
        _ => CpuLimit::Unknown,
    }
}

fn quotient(quota: &str, period: &str) -> CpuLimit {
    match (quota.parse::<u32>(), period.parse::<u32>()) {
        (Ok(quota), Ok(period)) if period > 0 => {
            CpuLimit::Cpus(f64::from(quota) / f64::from(period))
        }
        _ => CpuLimit::Unknown,
    }
}

/// A number beats "unlimited", and that beats "unknown".
fn tighter(a: CpuLimit, b: CpuLimit) -> CpuLimit {
    match (a, b) {
        (CpuLimit::Cpus(a), CpuLimit::Cpus(b)) => CpuLimit::Cpus(a.min(b)),
        (CpuLimit::Cpus(n), _) | (_, CpuLimit::Cpus(n)) => CpuLimit::Cpus(n),
        (CpuLimit::Unlimited, _) | (_, CpuLimit::Unlimited) => {
            CpuLimit::Unlimited
        }
        (CpuLimit::Unknown, CpuLimit::Unknown) => CpuLimit::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_max_as_the_kernel_writes_it() {
        assert_eq!(parse_cpu_max("max 100000"), CpuLimit::Unlimited);
        assert_eq!(parse_cpu_max("150000 100000"), CpuLimit::Cpus(1.5));
        for bad in ["", "150000", "x 100000", "1 0", "-1 100000"] {
            assert_eq!(parse_cpu_max(bad), CpuLimit::Unknown, "{bad}");
        }
    }

    #[test]
    fn this_thread_may_run_somewhere() {
        let allowed = allowed_cpus().expect("sched_getaffinity");
        assert!(!allowed.is_empty());
    }
}
