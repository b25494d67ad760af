//! Puts threads on CPUs and memory on nodes, and checks that it worked.
//!
//! Nothing is taken on trust: a pin is read back, a bound page is asked where
//! it is. A request that the kernel only partly fulfilled is an error.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use super::cpu_set::{Cpu, CpuSet, NumaNode};
use super::root::Root;
use super::sys;
use super::topology::{CpuFacts, Topology};

pub use super::buffer::Buffer;

/// `core_affinity` keeps its mask in a fixed `cpu_set_t`; a number from here
/// on makes it panic.
const CORE_AFFINITY_END: u32 = 1024;

/// At most so many pages are asked where they are (256 MiB of 4 KiB pages
/// completely, more by even sampling).
const SAMPLED_PAGES_MAX: usize = 65_536;

/// Pages per query.
const QUERY_PAGES: usize = 4096;

/// Why a thread or a buffer is not where it was wanted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlacementError {
    /// A pin to no CPU at all.
    #[error("cannot pin to an empty set of CPUs; name at least one CPU")]
    EmptySet,
    /// CPUs that this thread cannot get.
    #[error(
        "cannot pin to CPU {missing}: this thread may run on {allowed}, \
         online are {online}; choose from those, or widen the cpuset or \
         `taskset` mask the program was started with"
    )]
    CpuNotAllowed {
        /// What was asked for and is not to be had.
        missing: CpuSet,
        /// The thread's mask.
        allowed: CpuSet,
        /// The CPUs that run, or empty when unknown.
        online: CpuSet,
    },
    /// The kernel accepted the pin and has another mask.
    #[error(
        "pinned to {wanted}, but the kernel's mask reads {actual}; \
         something else changes this thread's affinity"
    )]
    MaskDiffers {
        /// What was asked for.
        wanted: CpuSet,
        /// What the kernel has.
        actual: CpuSet,
    },
    /// A system call failed for a reason that has no case of its own.
    #[error("{call} failed for {what}")]
    System {
        /// The system call.
        call: &'static str,
        /// What it was to work on.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A size or alignment that no buffer can have.
    #[error(
        "a buffer of {bytes} B aligned to {alignment_bytes} B is not \
         possible: the size must be positive and the alignment a power of two"
    )]
    BadShape {
        /// The size asked for.
        bytes: usize,
        /// The alignment asked for.
        alignment_bytes: usize,
    },
    /// Memory policies work on pages.
    #[error(
        "memory at {address:#x} does not start on a page of {page_bytes} B; \
         use `Buffer`, which does"
    )]
    NotOnPage {
        /// Where the region starts.
        address: usize,
        /// The page size.
        page_bytes: usize,
    },
    /// The node is not there or has no memory for us.
    #[error(
        "cannot bind memory to node {node}: it is absent, has no memory, or \
         is outside this process's cpuset; nodes with memory: {with_memory}"
    )]
    NodeNotUsable {
        /// The node asked for.
        node: NumaNode,
        /// The kernel's list, or `unknown`.
        with_memory: String,
    },
    /// Pages are known to be on another node.
    #[error("memory wanted on node {}: {binding}", binding.node)]
    PagesElsewhere {
        /// What was found.
        binding: Binding,
    },
}

/// How one step went that may be refused without harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It worked.
    Done,
    /// The kernel refused; why, and what would allow it.
    Refused(String),
}

impl Outcome {
    /// Whether it worked.
    pub fn is_done(&self) -> bool {
        *self == Outcome::Done
    }
}

/// Where the pages of a region ended up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The node asked for.
    pub node: NumaNode,
    /// Whether the kernel took the policy. Where it did not (no NUMA in the
    /// kernel, a seccomp filter), the pages may still be on the node.
    pub policy: Outcome,
    /// Whether the pages are locked in memory.
    pub locked: Outcome,
    /// Pages in the region.
    pub pages: usize,
    /// Pages asked where they are.
    pub sampled_pages: usize,
    /// Of the sampled pages, how many are on which node.
    pub pages_by_node: BTreeMap<NumaNode, usize>,
    /// Sampled pages whose node the kernel did not tell.
    pub unknown_pages: usize,
}

impl Binding {
    /// Whether every sampled page is known to be on the node.
    pub fn is_verified(&self) -> bool {
        self.sampled_pages > 0 && self.pages_on_node() == self.sampled_pages
    }

    /// Sampled pages that are on the node.
    pub fn pages_on_node(&self) -> usize {
        self.pages_by_node.get(&self.node).copied().unwrap_or(0)
    }

    /// Sampled pages that are known to be on another node.
    pub fn pages_elsewhere(&self) -> usize {
        let known: usize = self.pages_by_node.values().sum();
        known - self.pages_on_node()
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of {} sampled pages", self.sampled_pages)?;
        for (node, pages) in &self.pages_by_node {
            write!(f, ", {pages} on node {node}")?;
        }
        if self.unknown_pages > 0 {
            write!(f, ", {} unknown", self.unknown_pages)?;
        }
        if let Outcome::Refused(reason) = &self.policy {
            write!(f, "; policy refused: {reason}")?;
        }
        Ok(())
    }
}

/// Pins the calling thread and reads the mask back.
///
/// # Errors
/// When any of `cpus` is not to be had, even if others of the set are: a
/// thread on half of its CPUs would measure something else.
pub fn pin_current_thread(cpus: &CpuSet) -> Result<CpuSet, PlacementError> {
    let before = affinity()?;
    let set = match (cpus.len(), cpus.first()) {
        (_, None) => return Err(PlacementError::EmptySet),
        (1, Some(Cpu(id))) if id < CORE_AFFINITY_END => {
            let id = core_affinity::CoreId { id: id as usize };
            match core_affinity::set_for_current(id) {
                true => Ok(()),
                // It tells no reason, but the system call is the last thing
                // that it does, so that the error number still stands.
                false => Err(io::Error::last_os_error()),
            }
        }
        _ => sys::set_affinity(cpus),
    };
    if let Err(source) = set {
        return Err(refused_pin(cpus, before, source));
    }
    let actual = affinity()?;
    if actual == *cpus {
        return Ok(actual);
    }
    // The kernel silently drops CPUs that are absent. Leave no half pin.
    let missing = cpus.difference(&actual);
    let restored = sys::set_affinity(&before);
    match missing.is_empty() || restored.is_err() {
        true => {
            Err(PlacementError::MaskDiffers { wanted: cpus.clone(), actual })
        }
        false => Err(not_allowed(missing, before)),
    }
}

fn affinity() -> Result<CpuSet, PlacementError> {
    sys::affinity().map_err(|source| PlacementError::System {
        call: "sched_getaffinity",
        what: "this thread".to_owned(),
        source,
    })
}

fn refused_pin(
    cpus: &CpuSet,
    allowed: CpuSet,
    source: io::Error,
) -> PlacementError {
    if source.raw_os_error() != Some(libc::EINVAL) {
        let what = format!("CPUs {cpus}");
        return PlacementError::System {
            call: "sched_setaffinity",
            what,
            source,
        };
    }
    let missing = cpus.difference(&allowed);
    not_allowed(
        if missing.is_empty() { cpus.clone() } else { missing },
        allowed,
    )
}

fn not_allowed(missing: CpuSet, allowed: CpuSet) -> PlacementError {
    let online = Root::system()
        .read_list("sys/devices/system/cpu/online")
        .unwrap_or_default();
    PlacementError::CpuNotAllowed { missing, allowed, online }
}

/// The CPU that the calling thread runs on at this moment.
pub fn current_cpu() -> Option<Cpu> {
    sys::current_place().ok().map(|(cpu, _)| cpu)
}

/// The node of the CPU that the calling thread runs on at this moment.
pub fn current_node() -> Option<NumaNode> {
    sys::current_place().ok().map(|(_, node)| node)
}

/// Binds `region` to `node`, touches and locks its pages, and asks the kernel
/// where they are. The contents stay as they are.
///
/// # Errors
/// When the node is not usable, or when pages are known to be elsewhere. A
/// kernel without memory policies, or one that refuses them, is no error as
/// long as no page is known to be elsewhere: [`Binding::policy`] tells.
pub fn bind_memory(
    region: &mut [u8],
    node: NumaNode,
) -> Result<Binding, PlacementError> {
    let page_bytes = sys::page_bytes();
    let address = region.as_ptr().addr();
    if !address.is_multiple_of(page_bytes) {
        return Err(PlacementError::NotOnPage { address, page_bytes });
    }
    let policy = set_policy(region, node)?;
    touch(region, page_bytes);
    let locked = lock(region);
    let nodes = page_nodes(region, page_bytes);
    let mut binding = Binding {
        node,
        policy,
        locked,
        pages: region.len().div_ceil(page_bytes),
        sampled_pages: nodes.len(),
        pages_by_node: BTreeMap::new(),
        unknown_pages: 0,
    };
    for node in nodes {
        match node {
            Some(node) => *binding.pages_by_node.entry(node).or_default() += 1,
            None => binding.unknown_pages += 1,
        }
    }
    match binding.pages_elsewhere() {
        0 => Ok(binding),
        _ => Err(PlacementError::PagesElsewhere { binding }),
    }
}

fn set_policy(
    region: &mut [u8],
    node: NumaNode,
) -> Result<Outcome, PlacementError> {
    let Err(source) = sys::bind(region, node) else {
        return Ok(Outcome::Done);
    };
    match source.raw_os_error() {
        Some(libc::ENOSYS) => Ok(Outcome::Refused(
            "this kernel has no memory policies (CONFIG_NUMA)".to_owned(),
        )),
        Some(libc::EPERM) => Ok(Outcome::Refused(
            "mbind is not permitted, as in a container without \
             CAP_SYS_NICE; add that capability or relax the seccomp filter"
                .to_owned(),
        )),
        Some(libc::EINVAL) => Err(PlacementError::NodeNotUsable {
            node,
            with_memory: Root::system()
                .read_word("sys/devices/system/node/has_memory")
                .unwrap_or_else(|| "unknown".to_owned()),
        }),
        _ => Err(PlacementError::System {
            call: "mbind",
            what: format!("{} B on node {node}", region.len()),
            source,
        }),
    }
}

/// Writes each page once, so that it exists before the clock runs. The write
/// is volatile because the compiler may drop one that changes nothing.
pub(super) fn touch(region: &mut [u8], page_bytes: usize) {
    for byte in region.iter_mut().step_by(page_bytes) {
        let byte: *mut u8 = byte;
        // SAFETY: `byte` comes from an exclusive reference that lives through
        // this statement.
        unsafe { byte.write_volatile(byte.read_volatile()) };
    }
}

/// Locks the region, or says what would allow it.
pub(super) fn lock(region: &[u8]) -> Outcome {
    let Err(error) = sys::lock(region) else { return Outcome::Done };
    let limit = match memlock_limit_bytes() {
        Some(u64::MAX) => "unlimited".to_owned(),
        Some(bytes) => format!("{bytes} B"),
        None => "unknown".to_owned(),
    };
    Outcome::Refused(format!(
        "locking {} B: {error} (RLIMIT_MEMLOCK is {limit}); raise it with \
         `ulimit -l unlimited`, a `memlock` line in \
         /etc/security/limits.conf, or LimitMEMLOCK=infinity for a service",
        region.len()
    ))
}

/// The nodes of the region's pages, all of them or an even sample.
fn page_nodes(region: &[u8], page_bytes: usize) -> Vec<Option<NumaNode>> {
    let pages = region.len().div_ceil(page_bytes);
    let stride = pages.div_ceil(SAMPLED_PAGES_MAX).max(1);
    let sample: Vec<*const u8> = region
        .iter()
        .step_by(page_bytes * stride)
        .map(std::ptr::from_ref)
        .collect();
    let mut nodes = Vec::with_capacity(sample.len());
    for chunk in sample.chunks(QUERY_PAGES) {
        match sys::nodes_of_pages(chunk) {
            Ok(status) => nodes.extend(
                status.iter().map(|&s| u32::try_from(s).ok().map(NumaNode)),
            ),
            Err(_) => nodes.extend(chunk.iter().map(|_| None)),
        }
    }
    nodes
}

/// The soft limit of memory that this process may lock; `u64::MAX` means no
/// limit. A process with CAP_IPC_LOCK is not bound by it.
pub fn memlock_limit_bytes() -> Option<u64> {
    sys::memlock_limit().ok().map(|(soft, _)| soft)
}

/// Raises the soft limit of lockable memory to the hard limit (as root, to no
/// limit) and returns what holds now. Refusal is not an error: what then
/// cannot be locked says so itself.
pub fn raise_memlock_limit() -> Option<u64> {
    let (_, hard) = sys::memlock_limit().ok()?;
    if sys::set_memlock_limit(u64::MAX, u64::MAX).is_err() {
        let _ = sys::set_memlock_limit(hard, hard);
    }
    memlock_limit_bytes()
}

/// Up to `count` CPUs of `allowed` that suit measuring threads best, the best
/// first: isolated CPUs, then one thread per core before second threads, big
/// cores before small ones, those near the first choice, and CPU 0's core
/// last among equals because it serves most interrupts. Fewer are returned
/// when fewer are there.
pub fn default_cpus(
    topology: &Topology,
    allowed: &CpuSet,
    count: usize,
) -> Vec<Cpu> {
    let candidates: Vec<&CpuFacts> = topology
        .cpus
        .iter()
        .filter(|facts| allowed.contains(facts.cpu))
        .collect();
    let merit = |facts: &CpuFacts| own_merit(topology, allowed, facts);
    let Some(first) = candidates.iter().min_by_key(|facts| merit(facts)) else {
        return Vec::new();
    };
    let near = |facts: &CpuFacts| {
        let cache = |facts: &CpuFacts| {
            topology.last_level_cache(facts.cpu).map(|cache| &cache.cpus)
        };
        (facts.node != first.node, cache(facts) != cache(first))
    };
    let mut ranked: Vec<Cpu> = candidates.iter().map(|f| f.cpu).collect();
    ranked.sort_by_cached_key(|&cpu| {
        let facts = topology.cpu(cpu).unwrap_or(first);
        let own = merit(facts);
        (own.not_isolated, own.thread, own.slowness, near(facts), own)
    });
    ranked.truncate(count);
    ranked
}

/// What speaks against a CPU by itself, the gravest first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Demerit {
    not_isolated: bool,
    /// Which allowed thread of its core this is, CPU 0 counted last.
    thread: usize,
    slowness: (super::topology::CoreKind, std::cmp::Reverse<u32>),
    beside_cpu_0: bool,
    cpu: Cpu,
}

fn own_merit(
    topology: &Topology,
    allowed: &CpuSet,
    facts: &CpuFacts,
) -> Demerit {
    let mut threads: Vec<Cpu> =
        topology.siblings(facts.cpu).intersection(allowed).iter().collect();
    threads.sort_by_key(|&cpu| (cpu == Cpu(0), cpu));
    let isolated = topology.isolated.as_ref();
    Demerit {
        not_isolated: !isolated.is_some_and(|set| set.contains(facts.cpu)),
        thread: threads.iter().position(|&cpu| cpu == facts.cpu).unwrap_or(0),
        slowness: (facts.kind, std::cmp::Reverse(facts.capacity.unwrap_or(0))),
        beside_cpu_0: topology.siblings(facts.cpu).contains(Cpu(0)),
        cpu: facts.cpu,
    }
}
