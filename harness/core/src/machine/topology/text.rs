//! The topology as text for a person.

use std::fmt::Write as _;

use super::{CoreKind, CpuFacts, Topology};
use crate::machine::cpu_set::CpuSet;

impl Topology {
    /// A tree of packages, last-level caches and cores, then the NUMA nodes
    /// with their distances. `allowed` is what this process may run on.
    pub fn text(&self, allowed: &CpuSet) -> String {
        let mut out = String::new();
        self.write_cpus(&mut out, allowed);
        for package in &self.packages {
            self.write_package(&mut out, package.id, &package.cpus);
        }
        let placed = self.packages.iter().flat_map(|p| p.cpus.iter()).collect();
        let stray = self.online.difference(&placed);
        if !stray.is_empty() {
            let _ = writeln!(out, "package unknown: CPUs {stray}");
            self.write_groups(&mut out, &stray);
        }
        self.write_nodes(&mut out);
        out
    }

    fn write_cpus(&self, out: &mut String, allowed: &CpuSet) {
        let _ = writeln!(
            out,
            "CPUs: {} online ({}), {} cores, SMT {}",
            self.online.len(),
            self.online,
            self.cores().len(),
            match self.has_smt() {
                Some(true) => "on",
                Some(false) => "off",
                None => "unknown",
            }
        );
        let _ = writeln!(out, "  allowed    {}", or_none(allowed));
        for (name, set) in [
            ("isolated", &self.isolated),
            ("nohz_full", &self.nohz_full),
            ("offline", &self.offline),
        ] {
            let list = set.as_ref().map_or("unknown".to_owned(), or_none);
            let _ = writeln!(out, "  {name:<10} {list}");
        }
    }

    fn write_package(&self, out: &mut String, id: u32, cpus: &CpuSet) {
        let cores = self.cores().iter().filter(|c| c.is_subset(cpus)).count();
        let _ = writeln!(
            out,
            "package {id}: {}, {} (CPUs {cpus})",
            count(cores, "core"),
            count(cpus.len(), "thread")
        );
        self.write_groups(out, cpus);
    }

    /// The cores below each last-level cache.
    fn write_groups(&self, out: &mut String, cpus: &CpuSet) {
        let mut rest = cpus.clone();
        while let Some(cpu) = rest.first() {
            let cache = self
                .last_level_cache(cpu)
                .filter(|cache| cache.cpus.len() > self.siblings(cpu).len());
            let mut group = match cache {
                Some(cache) => cache.cpus.intersection(&rest),
                None => self.alike(cpu, &rest),
            };
            group.insert(cpu);
            if let Some(cache) = cache {
                let _ = writeln!(
                    out,
                    "  {} {}: CPUs {}{}",
                    cache.name(),
                    size(cache.size_bytes),
                    cache.cpus,
                    self.node_note(&group)
                );
            }
            let level = cache.map_or(u8::MAX, |cache| cache.level);
            self.write_cores(out, &group, level);
            rest = rest.difference(&group);
        }
    }

    /// CPUs without a shared last-level cache, taken together as one group.
    fn alike(&self, cpu: crate::machine::Cpu, among: &CpuSet) -> CpuSet {
        among
            .iter()
            .filter(|&other| {
                self.last_level_cache(other).is_none_or(|cache| {
                    cache.cpus.len() <= self.siblings(other).len()
                })
            })
            .chain([cpu])
            .collect()
    }

    /// Cores of the same shape share a line, or 1,536 CPUs would fill pages.
    fn write_cores(&self, out: &mut String, group: &CpuSet, below: u8) {
        let mut shapes: Vec<(String, Vec<CpuSet>)> = Vec::new();
        for core in self.cores() {
            let Some(first) = core.first().filter(|&cpu| group.contains(cpu))
            else {
                continue;
            };
            let Some(facts) = self.cpu(first) else { continue };
            let shape = self.core_shape(facts, core.len(), below);
            match shapes.iter_mut().find(|(known, _)| *known == shape) {
                Some((_, cores)) => cores.push(core),
                None => shapes.push((shape, vec![core])),
            }
        }
        for (shape, cores) in shapes {
            let names: Vec<String> = cores
                .iter()
                .map(|core| {
                    let cpus: Vec<String> =
                        core.iter().map(|cpu| cpu.to_string()).collect();
                    cpus.join("+")
                })
                .collect();
            let number = count(cores.len(), "core");
            let _ = writeln!(out, "    {number} {shape}: {}", names.join(" "));
        }
    }

    /// What cores on one line have in common.
    fn core_shape(
        &self,
        facts: &CpuFacts,
        threads: usize,
        below: u8,
    ) -> String {
        let mut shape = format!("of {}", count(threads, "thread"));
        match facts.kind {
            CoreKind::Uniform => {}
            CoreKind::Performance => shape.push_str(", performance"),
            CoreKind::Efficiency => shape.push_str(", efficiency"),
        }
        if let Some(capacity) = facts.capacity.filter(|_| self.is_hybrid()) {
            let _ = write!(shape, ", capacity {capacity}");
        }
        for cache in self.caches_of(facts.cpu) {
            if cache.level >= below {
                continue;
            }
            let _ =
                write!(shape, ", {} {}", cache.name(), size(cache.size_bytes));
            if cache.cpus.len() > threads {
                let _ = write!(shape, " per {} CPUs", cache.cpus.len());
            }
        }
        shape
    }

    fn node_note(&self, group: &CpuSet) -> String {
        let mut nodes: Vec<u32> =
            group.iter().filter_map(|cpu| Some(self.node_of(cpu)?.0)).collect();
        nodes.sort_unstable();
        nodes.dedup();
        match nodes.as_slice() {
            [] => String::new(),
            [node] => format!(", node {node}"),
            many => {
                let names: Vec<String> =
                    many.iter().map(u32::to_string).collect();
                format!(", nodes {}", names.join(" "))
            }
        }
    }

    fn write_nodes(&self, out: &mut String) {
        if self.nodes.is_empty() {
            let _ = writeln!(out, "NUMA nodes: unknown");
            return;
        }
        for node in &self.nodes {
            let cpus = match &node.cpus {
                Some(set) if set.is_empty() => "memory only".to_owned(),
                Some(set) => format!("CPUs {set}"),
                None => "CPUs unknown".to_owned(),
            };
            let _ = writeln!(
                out,
                "node {}: {}, {cpus}",
                node.node,
                size(node.memory_bytes)
            );
        }
        if self.nodes.len() > 1 {
            self.write_distances(out);
        }
    }

    fn write_distances(&self, out: &mut String) {
        let _ = write!(out, "distance");
        for node in &self.nodes {
            let _ = write!(out, "{:>5}", node.node.0);
        }
        out.push('\n');
        for from in &self.nodes {
            let _ = write!(out, "{:>8}", from.node.0);
            for to in &self.nodes {
                match self.distance(from.node, to.node) {
                    Some(distance) => write!(out, "{distance:>5}"),
                    None => write!(out, "{:>5}", "?"),
                }
                .unwrap_or_default();
            }
            out.push('\n');
        }
    }
}

/// A CPU list in which the empty one can be seen.
fn or_none(set: &CpuSet) -> String {
    if set.is_empty() { "none".to_owned() } else { set.to_string() }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A size in the largest binary unit that leaves a short number.
pub fn size(bytes: Option<u64>) -> String {
    const UNITS: [(&str, u32); 4] =
        [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let Some(bytes) = bytes else { return "size unknown".to_owned() };
    for (unit, shift) in UNITS {
        if bytes >> shift == 0 {
            continue;
        }
        let whole = bytes >> shift;
        let tenths = ((bytes - (whole << shift)) * 10) >> shift;
        return match tenths {
            0 => format!("{whole} {unit}"),
            _ => format!("{whole}.{tenths} {unit}"),
        };
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(None), "size unknown");
        assert_eq!(size(Some(512)), "512 B");
        assert_eq!(size(Some(48 << 10)), "48 KiB");
        assert_eq!(size(Some(3 << 19)), "1.5 MiB");
        assert_eq!(size(Some(u64::MAX)), "16777215.9 TiB");
    }
}
