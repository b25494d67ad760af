//! CPUs, cores, caches, packages and NUMA nodes, as sysfs tells them.
//!
//! Sysfs is the authority: it needs no library and it knows memory-only nodes,
//! isolated CPUs and more than 1,024 CPUs. What it does not tell stays `None`.

mod read;
mod relation;
mod text;

use serde::{Deserialize, Serialize};

use super::cpu_set::{Cpu, CpuSet, NumaNode};

pub use relation::{Pair, Relation};
pub use text::size;

/// The machine's processors and memory nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// CPUs that the kernel could ever bring up.
    pub possible: Option<CpuSet>,
    /// CPUs that run now.
    pub online: CpuSet,
    /// CPUs that are there but switched off.
    pub offline: Option<CpuSet>,
    /// CPUs kept out of the scheduler's balancing (`isolcpus=`).
    pub isolated: Option<CpuSet>,
    /// CPUs whose tick stops while one task runs (`nohz_full=`).
    pub nohz_full: Option<CpuSet>,
    /// One entry per online CPU, ascending.
    pub cpus: Vec<CpuFacts>,
    /// Each cache once, by level and lowest CPU.
    pub caches: Vec<Cache>,
    /// Physical packages (sockets), ascending.
    pub packages: Vec<Package>,
    /// Online NUMA nodes, ascending; empty on a kernel without NUMA.
    pub nodes: Vec<Node>,
}

/// What is known of one online CPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CpuFacts {
    /// Which CPU this is.
    pub cpu: Cpu,
    /// Physical package (socket).
    pub package: Option<u32>,
    /// Die within the package.
    pub die: Option<u32>,
    /// Cluster within the die (cores that share an L2 or a fabric port).
    pub cluster: Option<u32>,
    /// Core within the package; not unique on the machine.
    pub core: Option<u32>,
    /// The threads of this CPU's core, itself included.
    pub siblings: Option<CpuSet>,
    /// Relative speed, 1,024 for the fastest core of the machine.
    pub capacity: Option<u32>,
    /// Which sort of core this is on a hybrid machine.
    pub kind: CoreKind,
    /// The node whose memory is local.
    pub node: Option<NumaNode>,
    /// This CPU's caches, as indexes into [`Topology::caches`].
    pub caches: Vec<usize>,
}

/// The sort of a core.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum CoreKind {
    /// No difference between the machine's cores is known.
    Uniform,
    /// A fast core of a hybrid machine.
    Performance,
    /// A small core of a hybrid machine.
    Efficiency,
}

/// What a cache holds.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum CacheKind {
    /// Data only.
    Data,
    /// Instructions only.
    Instruction,
    /// Both.
    Unified,
}

/// One cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cache {
    /// 1 is nearest to the core.
    pub level: u8,
    /// What it holds.
    pub kind: CacheKind,
    /// Capacity.
    pub size_bytes: Option<u64>,
    /// Length of a line.
    pub line_bytes: Option<u32>,
    /// The CPUs that share it.
    pub cpus: CpuSet,
}

impl Cache {
    /// The short name that people use: `L1d`, `L1i`, `L2`.
    pub fn name(&self) -> String {
        let suffix = match self.kind {
            CacheKind::Data => "d",
            CacheKind::Instruction => "i",
            CacheKind::Unified => "",
        };
        format!("L{}{suffix}", self.level)
    }
}

/// One physical package.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Package {
    /// The kernel's number.
    pub id: u32,
    /// Its online CPUs.
    pub cpus: CpuSet,
}

/// One NUMA node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The kernel's number.
    pub node: NumaNode,
    /// Its online CPUs; empty for a node of memory only (CXL, persistent
    /// memory).
    pub cpus: Option<CpuSet>,
    /// Memory of the node as the kernel counts it now: a guest whose memory
    /// is initialised on demand counts less than it has.
    pub memory_bytes: Option<u64>,
    /// Distance to each of [`Topology::nodes`] in order, 10 to itself; empty
    /// when unknown.
    pub distances: Vec<u32>,
}

impl Node {
    /// Whether the node is known to have memory and no CPU.
    pub fn is_memory_only(&self) -> bool {
        self.cpus.as_ref().is_some_and(CpuSet::is_empty)
            && self.memory_bytes.is_some_and(|bytes| bytes > 0)
    }
}

/// Why no topology could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// Neither the list of online CPUs nor any CPU directory is there.
    #[error(
        "no online CPU found below {path}; mount sysfs there \
         (`mount -t sysfs sysfs /sys`)"
    )]
    NoCpus {
        /// Where CPUs were looked for.
        path: String,
    },
}

impl Topology {
    /// The facts about an online CPU.
    pub fn cpu(&self, cpu: Cpu) -> Option<&CpuFacts> {
        let index = self.cpus.binary_search_by_key(&cpu, |facts| facts.cpu);
        index.ok().map(|index| &self.cpus[index])
    }

    /// The facts about an online node.
    pub fn node(&self, node: NumaNode) -> Option<&Node> {
        self.nodes.iter().find(|facts| facts.node == node)
    }

    /// The node whose memory is local to `cpu`.
    pub fn node_of(&self, cpu: Cpu) -> Option<NumaNode> {
        self.cpu(cpu)?.node
    }

    /// The threads of `cpu`'s core as far as known, itself included.
    pub fn siblings(&self, cpu: Cpu) -> CpuSet {
        self.cpu(cpu)
            .and_then(|facts| facts.siblings.clone())
            .unwrap_or_else(|| CpuSet::single(cpu))
    }

    /// The CPUs of a node that are online.
    pub fn cpus_of(&self, node: NumaNode) -> CpuSet {
        self.node(node).and_then(|facts| facts.cpus.clone()).unwrap_or_default()
    }

    /// The caches of `cpu`, nearest first.
    pub fn caches_of(&self, cpu: Cpu) -> impl Iterator<Item = &Cache> {
        self.cpu(cpu)
            .into_iter()
            .flat_map(|facts| &facts.caches)
            .filter_map(|&index| self.caches.get(index))
    }

    /// The largest cache level that `cpu` reaches.
    pub fn last_level_cache(&self, cpu: Cpu) -> Option<&Cache> {
        self.caches_of(cpu)
            .filter(|cache| cache.kind != CacheKind::Instruction)
            .max_by_key(|cache| cache.level)
    }

    /// The length of a data cache line, from the first CPU that tells.
    pub fn line_bytes(&self) -> Option<u32> {
        self.caches
            .iter()
            .filter(|cache| cache.kind != CacheKind::Instruction)
            .find_map(|cache| cache.line_bytes)
    }

    /// The cores, each as the set of its online threads. A CPU that does not
    /// tell its siblings counts as a core of its own.
    pub fn cores(&self) -> Vec<CpuSet> {
        let mut cores: Vec<CpuSet> =
            self.cpus.iter().map(|facts| self.siblings(facts.cpu)).collect();
        cores.sort_by_key(CpuSet::first);
        cores.dedup();
        cores
    }

    /// Whether two threads of one core run anywhere; `None` when no CPU tells.
    pub fn has_smt(&self) -> Option<bool> {
        let known: Vec<&CpuSet> = self
            .cpus
            .iter()
            .filter_map(|facts| facts.siblings.as_ref())
            .collect();
        if known.is_empty() {
            return None;
        }
        Some(known.iter().any(|siblings| siblings.len() > 1))
    }

    /// Whether cores of different sorts are known to be there.
    pub fn is_hybrid(&self) -> bool {
        self.cpus.iter().any(|facts| facts.kind != CoreKind::Uniform)
    }

    /// The firmware's relative distance between two nodes (10 = local).
    pub fn distance(&self, from: NumaNode, to: NumaNode) -> Option<u32> {
        let column = self.nodes.iter().position(|facts| facts.node == to)?;
        self.node(from)?.distances.get(column).copied()
    }
}
