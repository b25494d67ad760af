//! Reads the topology from `/sys/devices/system`.

use std::collections::BTreeMap;

use super::{
    Cache, CacheKind, CoreKind, CpuFacts, Node, Package, Topology,
    TopologyError,
};
use crate::machine::cpu_set::{Cpu, CpuSet, NumaNode};
use crate::machine::root::Root;

const CPU_DIR: &str = "sys/devices/system/cpu";
const NODE_DIR: &str = "sys/devices/system/node";

/// A core below this share of the fastest core's capacity counts as small.
/// Favoured cores of one sort differ by a few percent (Intel ITMT), while the
/// small cores of shipped hybrid machines stay below three quarters (Arm DT
/// bindings `capacity-dmips-mhz`, Intel hybrid scaling).
const SMALL_CORE_SHARE: (u32, u32) = (3, 4);

/// The kernel writes an absent cluster as -1 or as the 16-bit invalid APIC id.
const NO_CLUSTER: u32 = 65_535;

impl Topology {
    /// Reads what sysfs tells below `root`.
    ///
    /// # Errors
    /// When no online CPU can be found; anything less is a `None` within.
    pub fn read(root: &Root) -> Result<Topology, TopologyError> {
        let list = |name: &str| root.read_list(format!("{CPU_DIR}/{name}"));
        let online = online_cpus(root).ok_or_else(|| {
            let path = root.path(CPU_DIR).display().to_string();
            TopologyError::NoCpus { path }
        })?;
        let nodes = read_nodes(root, &online);
        let mut caches = Vec::new();
        let mut cpus: Vec<CpuFacts> = online
            .iter()
            .map(|cpu| read_cpu(root, cpu, &online, &nodes, &mut caches))
            .collect();
        sort_caches(&mut caches, &mut cpus);
        set_core_kinds(root, &mut cpus);
        Ok(Topology {
            possible: list("possible"),
            offline: list("present").map(|present| present.difference(&online)),
            isolated: list("isolated"),
            nohz_full: read_nohz_full(root),
            packages: packages(&cpus),
            online,
            cpus,
            caches,
            nodes,
        })
    }
}

/// The online CPUs; without the summary file, from the CPU directories, of
/// which only those that were switched off say `0` (CPU 0 often has no file).
fn online_cpus(root: &Root) -> Option<CpuSet> {
    let listed = root.read_list(format!("{CPU_DIR}/online"));
    let online = listed.filter(|set| !set.is_empty()).unwrap_or_else(|| {
        numbered(root, CPU_DIR, "cpu")
            .into_iter()
            .filter(|number| {
                let state = format!("{CPU_DIR}/cpu{number}/online");
                root.read_bool(state) != Some(false)
            })
            .map(Cpu)
            .collect()
    });
    Some(online).filter(|set| !set.is_empty())
}

/// `nohz_full` says `(null)` when the kernel has it and nobody asked for it.
fn read_nohz_full(root: &Root) -> Option<CpuSet> {
    let text = root.read(format!("{CPU_DIR}/nohz_full"))?;
    if text == "(null)" { Some(CpuSet::new()) } else { text.parse().ok() }
}

/// The numbers N of the directories `<prefix>N` in `dir`.
fn numbered(root: &Root, dir: &str, prefix: &str) -> Vec<u32> {
    root.entries(dir)
        .iter()
        .filter_map(|name| name.strip_prefix(prefix)?.parse().ok())
        .collect()
}

fn read_cpu(
    root: &Root,
    cpu: Cpu,
    online: &CpuSet,
    nodes: &[Node],
    caches: &mut Vec<Cache>,
) -> CpuFacts {
    let dir = format!("{CPU_DIR}/cpu{cpu}");
    let id = |name: &str| root.read_u32(format!("{dir}/topology/{name}"));
    let node = nodes
        .iter()
        .find(|node| node.cpus.as_ref().is_some_and(|set| set.contains(cpu)));
    CpuFacts {
        cpu,
        package: id("physical_package_id"),
        die: id("die_id"),
        cluster: id("cluster_id").filter(|&id| id != NO_CLUSTER),
        core: id("core_id"),
        siblings: read_siblings(root, &dir, cpu, online),
        capacity: root.read_u32(format!("{dir}/cpu_capacity")),
        kind: CoreKind::Uniform,
        node: node.map(|node| node.node),
        caches: read_caches(root, &dir, cpu, online, caches),
    }
}

/// The threads of the core. A list without the CPU itself is garbled.
fn read_siblings(
    root: &Root,
    dir: &str,
    cpu: Cpu,
    online: &CpuSet,
) -> Option<CpuSet> {
    ["core_cpus_list", "thread_siblings_list"]
        .iter()
        .filter_map(|name| root.read_list(format!("{dir}/topology/{name}")))
        .map(|set| set.intersection(online))
        .find(|set| set.contains(cpu))
}

/// Reads a CPU's caches into the common list, each shared cache once, and
/// returns their places in it.
fn read_caches(
    root: &Root,
    dir: &str,
    cpu: Cpu,
    online: &CpuSet,
    caches: &mut Vec<Cache>,
) -> Vec<usize> {
    let mut places = Vec::new();
    for index in numbered(root, &format!("{dir}/cache"), "index") {
        let dir = format!("{dir}/cache/index{index}");
        let Some(cache) = read_cache(root, &dir, cpu, online) else {
            continue;
        };
        // Sharing CPUs are near each other in most machines: look from the
        // end, so that 1,536 CPUs do not mean millions of comparisons.
        let known = caches.iter().rposition(|other| {
            (other.level, other.kind) == (cache.level, cache.kind)
                && other.cpus == cache.cpus
        });
        places.push(known.unwrap_or_else(|| {
            caches.push(cache);
            caches.len() - 1
        }));
    }
    places
}

fn read_cache(
    root: &Root,
    dir: &str,
    cpu: Cpu,
    online: &CpuSet,
) -> Option<Cache> {
    let kind = match root.read(format!("{dir}/type"))?.as_str() {
        "Data" => CacheKind::Data,
        "Instruction" => CacheKind::Instruction,
        "Unified" => CacheKind::Unified,
        _ => return None,
    };
    let cpus = root.read_list(format!("{dir}/shared_cpu_list"))?;
    Some(Cache {
        level: root.read(format!("{dir}/level"))?.parse().ok()?,
        kind,
        size_bytes: root
            .read(format!("{dir}/size"))
            .and_then(|text| parse_size(&text)),
        line_bytes: root.read_u32(format!("{dir}/coherency_line_size")),
        cpus: Some(cpus.intersection(online)).filter(|s| s.contains(cpu))?,
    })
}

/// A size as sysfs writes it: `48K`, sometimes `32M`.
fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = match text.char_indices().next_back()? {
        (at, 'K') => (&text[..at], 1 << 10),
        (at, 'M') => (&text[..at], 1 << 20),
        (at, 'G') => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// Brings the caches into an order that does not depend on which CPU named
/// them first.
fn sort_caches(caches: &mut Vec<Cache>, cpus: &mut [CpuFacts]) {
    let mut order: Vec<usize> = (0..caches.len()).collect();
    order.sort_by_key(|&old| {
        let cache = &caches[old];
        (cache.level, cache.kind, cache.cpus.first())
    });
    let mut place = vec![0; order.len()];
    for (new, &old) in order.iter().enumerate() {
        place[old] = new;
    }
    for index in cpus.iter_mut().flat_map(|facts| &mut facts.caches) {
        *index = place[*index];
    }
    for facts in cpus.iter_mut() {
        facts.caches.sort_unstable();
        facts.caches.dedup();
    }
    *caches = order.iter().map(|&old| caches[old].clone()).collect();
}

/// Tells big from small cores: by Intel's two PMU directories where they are,
/// else by relative capacity.
fn set_core_kinds(root: &Root, cpus: &mut [CpuFacts]) {
    let pmu = |name: &str| root.read_list(format!("sys/devices/{name}/cpus"));
    if let (Some(big), Some(small)) = (pmu("cpu_core"), pmu("cpu_atom")) {
        for facts in cpus {
            facts.kind = if small.contains(facts.cpu) {
                CoreKind::Efficiency
            } else if big.contains(facts.cpu) {
                CoreKind::Performance
            } else {
                facts.kind
            };
        }
        return;
    }
    let Some(most) = cpus.iter().filter_map(|facts| facts.capacity).max()
    else {
        return;
    };
    let (share, of) = SMALL_CORE_SHARE;
    let is_small = |facts: &CpuFacts| {
        let capacity = facts.capacity.unwrap_or(most);
        u64::from(capacity) * u64::from(of) < u64::from(most) * u64::from(share)
    };
    if !cpus.iter().any(is_small) {
        return;
    }
    for facts in cpus.iter_mut().filter(|facts| facts.capacity.is_some()) {
        facts.kind = match is_small(facts) {
            true => CoreKind::Efficiency,
            false => CoreKind::Performance,
        };
    }
}

fn packages(cpus: &[CpuFacts]) -> Vec<Package> {
    let mut by_id: BTreeMap<u32, CpuSet> = BTreeMap::new();
    for facts in cpus {
        if let Some(id) = facts.package {
            by_id.entry(id).or_default().insert(facts.cpu);
        }
    }
    by_id.into_iter().map(|(id, cpus)| Package { id, cpus }).collect()
}

fn read_nodes(root: &Root, online: &CpuSet) -> Vec<Node> {
    let numbers = numbered(root, NODE_DIR, "node");
    numbers
        .iter()
        .map(|&number| {
            let dir = format!("{NODE_DIR}/node{number}");
            let distances = read_distances(root, &dir);
            Node {
                node: NumaNode(number),
                cpus: root
                    .read_list(format!("{dir}/cpulist"))
                    .map(|set| set.intersection(online)),
                memory_bytes: read_memory_bytes(root, &dir),
                // The kernel writes one number per online node; another count
                // could not be attributed.
                distances: distances
                    .filter(|row| row.len() == numbers.len())
                    .unwrap_or_default(),
            }
        })
        .collect()
}

fn read_distances(root: &Root, dir: &str) -> Option<Vec<u32>> {
    let text = root.read(format!("{dir}/distance"))?;
    text.split_whitespace().map(|word| word.parse().ok()).collect()
}

/// From the line `Node 0 MemTotal:  4417748 kB`.
fn read_memory_bytes(root: &Root, dir: &str) -> Option<u64> {
    let text = root.read(format!("{dir}/meminfo"))?;
    let line = text.lines().find(|line| line.contains("MemTotal:"))?;
    let mut words = line.split_whitespace().rev();
    if words.next()? != "kB" {
        return None;
    }
    words.next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_sysfs_writes_them() {
        assert_eq!(parse_size("48K"), Some(48 << 10));
        assert_eq!(parse_size("32M"), Some(32 << 20));
        assert_eq!(parse_size("1G"), Some(1 << 30));
        assert_eq!(parse_size("512"), Some(512));
        for bad in ["", "K", "-1K", "4 K", "99999999999999999999K", "é"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
