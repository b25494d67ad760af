//! How near two CPUs are to each other.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CacheKind, Topology};
use crate::machine::cpu_set::{Cpu, CpuSet};

/// The nearest thing that two CPUs have in common, nearest first. It describes
/// where a producer and a consumer stand.
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
pub enum Relation {
    /// One and the same CPU.
    SameCpu,
    /// Two threads of one core.
    SmtSibling,
    /// Two cores below one data or unified cache.
    SharedCache {
        /// The nearest level that they share.
        level: u8,
    },
    /// Two cores of one NUMA node without a common cache.
    SameNode,
    /// Two nodes of one package (sub-NUMA clustering).
    SamePackage,
    /// Two packages.
    OtherPackage,
    /// Two nodes, the packages being unknown.
    OtherNode,
    /// Too little is known of one of the two.
    Unknown,
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Relation::SameCpu => f.pad("same-cpu"),
            Relation::SmtSibling => f.pad("smt-sibling"),
            Relation::SharedCache { level } => {
                f.pad(&format!("shared-l{level}"))
            }
            Relation::SameNode => f.pad("same-node"),
            Relation::SamePackage => f.pad("same-package"),
            Relation::OtherPackage => f.pad("other-package"),
            Relation::OtherNode => f.pad("other-node"),
            Relation::Unknown => f.pad("unknown"),
        }
    }
}

/// Two CPUs and how near they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// How near.
    pub relation: Relation,
    /// One of the two.
    pub a: Cpu,
    /// The other.
    pub b: Cpu,
}

impl Topology {
    /// How near `a` and `b` are.
    pub fn relation(&self, a: Cpu, b: Cpu) -> Relation {
        if a == b {
            return Relation::SameCpu;
        }
        let (Some(first), Some(second)) = (self.cpu(a), self.cpu(b)) else {
            return Relation::Unknown;
        };
        if first.siblings.as_ref().is_some_and(|set| set.contains(b)) {
            return Relation::SmtSibling;
        }
        if let Some(level) = self.shared_level(a, b) {
            return Relation::SharedCache { level };
        }
        let same = |a: Option<u32>, b: Option<u32>| Some(a? == b?);
        let nodes =
            same(first.node.map(|node| node.0), second.node.map(|node| node.0));
        let packages = same(first.package, second.package);
        match (nodes, packages) {
            (Some(true), _) => Relation::SameNode,
            (_, Some(true)) => Relation::SamePackage,
            (_, Some(false)) => Relation::OtherPackage,
            (Some(false), None) => Relation::OtherNode,
            (None, None) => Relation::Unknown,
        }
    }

    /// The nearest cache level that holds data of both.
    fn shared_level(&self, a: Cpu, b: Cpu) -> Option<u8> {
        self.caches_of(a)
            .filter(|cache| cache.kind != CacheKind::Instruction)
            .filter(|cache| cache.cpus.contains(b))
            .map(|cache| cache.level)
            .min()
    }

    /// One pair for each relation that exists between `first` and another CPU
    /// of `allowed`, nearest first: the placements that can be compared here.
    /// Within a relation, CPU 0 is the last choice (it serves interrupts).
    pub fn pairs(&self, first: Cpu, allowed: &CpuSet) -> Vec<Pair> {
        let mut pairs: Vec<Pair> = allowed
            .iter()
            .filter(|&other| other != first)
            .map(|b| Pair { relation: self.relation(first, b), a: first, b })
            .filter(|pair| pair.relation != Relation::Unknown)
            .collect();
        pairs.sort_by_key(|pair| (pair.relation, pair.b == Cpu(0), pair.b));
        pairs.dedup_by_key(|pair| pair.relation);
        pairs
    }
}
