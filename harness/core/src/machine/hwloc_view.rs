//! A second view of the topology, by hwloc, to compare the first one with.
//!
//! Only some calls of `hwloc2` 2.2.0 are sound with libhwloc 2.x, and this
//! module makes no other: depth by type, count and objects at a depth, cache
//! attributes of cache objects. Not `name()` (it frees a string that it does
//! not own), nothing about `NUMANode` (its special depths are those of hwloc
//! 1.x, and the look-up panics), and not `type_at_depth()` or `object_type()`
//! of an unknown object (the enumeration lacks the types that libhwloc added
//! since, such as dies).

use std::collections::BTreeMap;

use hwloc2::{ObjectType, Topology as Hwloc, TopologyFlag};
use serde::{Deserialize, Serialize};

use super::topology::{CacheKind, Topology};

/// Cache sizes of one level and how many caches have them.
pub type CacheCounts = BTreeMap<u64, usize>;

/// What hwloc counts on this machine, or the same counts by sysfs. A type
/// that is not known counts 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Hardware threads that are online.
    pub threads: usize,
    /// Cores with an online thread.
    pub cores: usize,
    /// Packages with an online thread.
    pub packages: usize,
    /// Data and unified caches by level.
    pub caches: BTreeMap<u8, CacheCounts>,
}

/// A count in which the two views differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disagreement {
    /// What is counted, `cores` or `l2 of 1048576 B`.
    pub what: String,
    /// The count by sysfs.
    pub sysfs: usize,
    /// The count by hwloc.
    pub hwloc: usize,
}

impl Counts {
    /// What hwloc finds here; `None` when it cannot start.
    pub fn by_hwloc() -> Option<Counts> {
        // Without the flag, CPUs outside this process's cpuset are missing.
        let hwloc = Hwloc::with_flags(vec![TopologyFlag::IncludeDisallowed])?;
        let count = |kind| match hwloc.depth_for_type(&kind) {
            Ok(depth) => hwloc.size_at_depth(depth) as usize,
            Err(_) => 0,
        };
        let levels = [
            (1, ObjectType::L1Cache),
            (2, ObjectType::L2Cache),
            (3, ObjectType::L3Cache),
            (4, ObjectType::L4Cache),
        ];
        let caches = levels
            .into_iter()
            .map(|(level, kind)| (level, cache_counts(&hwloc, &kind)))
            .filter(|(_, counts)| !counts.is_empty())
            .collect();
        Some(Counts {
            threads: count(ObjectType::PU),
            cores: count(ObjectType::Core),
            packages: count(ObjectType::Package),
            caches,
        })
    }

    /// The same counts from sysfs.
    pub fn by_sysfs(topology: &Topology) -> Counts {
        let mut caches: BTreeMap<u8, CacheCounts> = BTreeMap::new();
        for cache in &topology.caches {
            if cache.kind != CacheKind::Instruction {
                let counts = caches.entry(cache.level).or_default();
                let size_bytes = cache.size_bytes.unwrap_or(0);
                *counts.entry(size_bytes).or_default() += 1;
            }
        }
        Counts {
            threads: topology.cpus.len(),
            cores: topology.cores().len(),
            packages: topology.packages.len(),
            caches,
        }
    }

    /// Where hwloc (`self`) and sysfs do not agree.
    pub fn disagreements(&self, sysfs: &Counts) -> Vec<Disagreement> {
        let mut out = Vec::new();
        let mut check = |what: String, sysfs, hwloc| {
            if sysfs != hwloc {
                out.push(Disagreement { what, sysfs, hwloc });
            }
        };
        check("threads".into(), sysfs.threads, self.threads);
        check("cores".into(), sysfs.cores, self.cores);
        check("packages".into(), sysfs.packages, self.packages);
        let count = |counts: &Counts, level, size| {
            counts.caches.get(&level)?.get(&size).copied()
        };
        let both = sysfs.caches.iter().chain(&self.caches);
        let mut kinds: Vec<(u8, u64)> = both
            .flat_map(|(&level, counts)| {
                counts.keys().map(move |&size| (level, size))
            })
            .collect();
        kinds.sort_unstable();
        kinds.dedup();
        for (level, size) in kinds {
            check(
                format!("l{level} of {size} B"),
                count(sysfs, level, size).unwrap_or(0),
                count(self, level, size).unwrap_or(0),
            );
        }
        out
    }
}

fn cache_counts(hwloc: &Hwloc, kind: &ObjectType) -> CacheCounts {
    let mut counts = CacheCounts::new();
    let Ok(depth) = hwloc.depth_for_type(kind) else { return counts };
    for cache in hwloc.objects_at_depth(depth) {
        let size = cache.cache_attributes().map_or(0, |cache| cache.size());
        *counts.entry(size).or_default() += 1;
    }
    counts
}
