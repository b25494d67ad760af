//! What a device inherits from the bus that it sits on.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::machine::cpu_set::NumaNode;
use crate::machine::root::Root;

/// The PCI Express link of a device, now and at its best.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PciLink {
    /// As sysfs writes it, `16.0 GT/s PCIe`.
    pub current_speed: Option<String>,
    /// What device and slot could do.
    pub max_speed: Option<String>,
    /// Lanes in use.
    pub current_width: Option<u32>,
    /// Lanes that device and slot could use.
    pub max_width: Option<u32>,
}

impl PciLink {
    /// `16.0 GT/s PCIe x4`, if both now and at its best are known: only then
    /// can it be told whether it is degraded.
    pub fn complete(&self) -> Option<String> {
        gigatransfers(self.max_speed.as_deref())?;
        gigatransfers(self.current_speed.as_deref())?;
        self.max_width?;
        let speed = self.current_speed.as_deref()?;
        Some(format!("{speed} x{}", self.current_width?))
    }

    /// What the lanes in use carry at most: no packet could be all payload.
    pub fn bytes_per_second(&self) -> Option<f64> {
        let transfers = gigatransfers(self.current_speed.as_deref())? * 1e9;
        // PCI Express base specification: 8b/10b up to 5 GT/s, 128b/130b up
        // to 32 GT/s, and FLITs with 242 of 256 bytes from 64 GT/s on.
        let share = match transfers {
            t if t <= 5e9 => 8.0 / 10.0,
            t if t <= 32e9 => 128.0 / 130.0,
            _ => 242.0 / 256.0,
        };
        let lanes = f64::from(self.current_width?);
        Some(transfers * share * lanes / 8.0)
    }

    /// Whether the link is known to be slower or narrower than it could be.
    pub fn is_degraded(&self) -> bool {
        let differs = |now: Option<f64>, best: Option<f64>| {
            now.zip(best).is_some_and(|(now, best)| now < best)
        };
        differs(
            gigatransfers(self.current_speed.as_deref()),
            gigatransfers(self.max_speed.as_deref()),
        ) || differs(
            self.current_width.map(f64::from),
            self.max_width.map(f64::from),
        )
    }
}

/// The number in `16.0 GT/s PCIe`.
fn gigatransfers(speed: Option<&str>) -> Option<f64> {
    speed?.split_once(" GT/s")?.0.parse().ok()
}

/// The link of the nearest device above `device` (a path below the root with
/// links resolved) that has one. Bridges further up have links of their own.
pub(super) fn link(root: &Root, device: &Path) -> Option<PciLink> {
    let above = device.ancestors().find(|dir| {
        root.exists(dir.join("current_link_speed"))
            || root.exists(dir.join("current_link_width"))
    })?;
    let width = |name: &str| {
        // 0 and 255 are how a link says that it does not know.
        root.read_u32(above.join(name)).filter(|w| (1..=64).contains(w))
    };
    let speed = |name: &str| {
        root.read_word(above.join(name)).filter(|s| s.contains("GT/s"))
    };
    Some(PciLink {
        current_speed: speed("current_link_speed"),
        max_speed: speed("max_link_speed"),
        current_width: width("current_link_width"),
        max_width: width("max_link_width"),
    })
}

/// The node of the nearest device above that names one; -1 names none.
pub(super) fn numa_node(root: &Root, device: &Path) -> Option<NumaNode> {
    device
        .ancestors()
        .find_map(|dir| root.read_u32(dir.join("numa_node")))
        .map(NumaNode)
}

/// The driver of the device itself or of the nearest one above.
pub(super) fn driver(root: &Root, device: &Path) -> Option<String> {
    device.ancestors().find_map(|dir| root.link_name(dir.join("driver")))
}
