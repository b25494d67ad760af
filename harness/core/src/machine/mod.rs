//! What the machine is and where work runs on it.
//!
//! This layer reads facts (topology, devices, environment) and places threads
//! and memory. It never measures: nothing here reads a clock or a counter that
//! changes with load, apart from the load average that is kept as context.
//!
//! Every reader takes a [`Root`], so that a captured or hand-built tree of
//! `/proc` and `/sys` files serves as a fixture. A missing or garbled file
//! means "unknown" (`None`), never a default that looks like a fact.

pub mod allowed;
pub mod buffer;
pub mod capture;
pub mod cpu_set;
pub mod devices;
pub mod doctor;
pub mod environment;
#[cfg(feature = "hwloc")]
pub mod hwloc_view;
pub mod limits;
pub mod placement;
pub mod root;
mod sys;
pub mod topology;

pub use allowed::{CpuLimit, allowed_cpus, cpu_limit};
pub use buffer::Buffer;
pub use cpu_set::{Cpu, CpuSet, CpuSetError, NumaNode};
pub use devices::{
    BlockDevice, BlockKind, Filesystem, NetworkInterface, PciLink,
    block_device_of, block_devices, filesystem_of, network_interfaces,
};
pub use environment::{
    Difference, Environment, IrqAccounting, differences, fingerprint,
    kernel_version, machine_id8,
};
pub use limits::Limits;
pub use placement::{
    Binding, Outcome, PlacementError, bind_memory, current_cpu, default_cpus,
    memlock_limit_bytes, pin_current_thread, raise_memlock_limit,
};
pub use root::Root;
pub use topology::{Relation, Topology, TopologyError};
