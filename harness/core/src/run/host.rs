//! The machine as a run sees it: read once, stored in `run.json`, compared
//! before a run is resumed.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::interface_names::InterfaceNames;
use crate::{
    machine::{
        allowed::{CpuLimit, allowed_cpus, cpu_limit},
        cpu_set::CpuSet,
        devices::{BlockDevice, block_devices, network_interfaces},
        doctor::{Live, Patient},
        environment::{
            Difference, Environment, fingerprint, fingerprint_changes,
            machine_id8,
        },
        root::Root,
        topology::Topology,
    },
    measure::clock::Clock,
};

/// What was read of this machine.
#[derive(Clone, Debug)]
pub struct Host {
    /// CPUs, caches, nodes.
    pub topology: Topology,
    /// Kernel, settings, limits.
    pub environment: Environment,
    /// CPUs that this process may use.
    pub allowed: CpuSet,
    /// What its control group grants.
    pub limit: CpuLimit,
    /// The clock of all trials.
    pub clock: Clock,
    /// A hash that names the machine without telling it.
    pub machine_id8: String,
}

/// Why the machine cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// No usable topology.
    #[error(transparent)]
    Topology(#[from] crate::machine::topology::TopologyError),
    /// The affinity mask cannot be read.
    #[error("reading this process's CPU affinity mask: {0}")]
    Affinity(#[from] std::io::Error),
}

/// What must not change between a run and its resumption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stamp {
    /// All that must be equal, one `key=value` per line.
    pub fingerprint: String,
    /// CPUs that could be used.
    pub allowed: CpuSet,
}

impl Host {
    /// Reads the machine and calibrates the clock (50 ms).
    ///
    /// # Errors
    /// Without a topology or affinity mask nothing can be placed.
    pub fn read(root: &Root) -> Result<Self, HostError> {
        Ok(Self {
            topology: Topology::read(root)?,
            environment: Environment::read(root),
            allowed: allowed_cpus()?,
            limit: cpu_limit(root),
            clock: Clock::calibrate(root),
            machine_id8: machine_id8(root),
        })
    }

    /// For `run.json`.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            fingerprint: fingerprint(&self.environment, &self.topology),
            allowed: self.allowed.clone(),
        }
    }

    /// Devices, without what names the machine or a person: no serial number
    /// is ever written out, a loop device's file is left out, and names that
    /// are hardware addresses are replaced.
    pub fn devices(root: &Root) -> serde_json::Value {
        let mut blocks = block_devices(root);
        blocks.iter_mut().for_each(BlockDevice::forget_names);
        let mut devices = serde_json::json!({
            "block": blocks,
            "network": network_interfaces(root),
        });
        InterfaceNames::read(root).hide(&mut devices);
        devices
    }

    /// This machine for the doctor; `target` is where storage would work.
    pub fn patient(&self, root: &Root, target: &Path) -> Patient {
        let facts = self.environment.clone();
        Patient::with_facts(root.clone(), facts, Live::read(), target)
    }
}

impl Stamp {
    /// What differs between a stored stamp and the machine now; empty if the
    /// run may go on.
    pub fn changes(&self, now: &Self) -> Vec<Difference> {
        let mut changes =
            fingerprint_changes(&self.fingerprint, &now.fingerprint);
        if self.allowed != now.allowed {
            changes.push(Difference {
                key: "allowed CPUs".to_owned(),
                before: self.allowed.to_string(),
                after: now.allowed.to_string(),
            });
        }
        changes
    }
}
