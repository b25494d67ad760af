//! Network interfaces as sysfs describes them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{PciLink, pci};
use crate::machine::cpu_set::NumaNode;
use crate::machine::root::Root;

/// One network interface. Its hardware address is not read: nothing here
/// needs it, and it names the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkInterface {
    /// The kernel's name.
    pub name: String,
    /// The driver; virtual interfaces have none in sysfs.
    pub driver: Option<String>,
    /// Link speed, when there is a link that knows it.
    pub speed_mbit_s: Option<u32>,
    /// Largest packet.
    pub mtu_bytes: Option<u32>,
    /// `up`, `down`, `unknown` (the loopback's own word).
    pub operstate: Option<String>,
    /// Whether there is no device behind it (veth, bridge, loopback).
    pub is_virtual: Option<bool>,
    /// The node of its bus.
    pub numa_node: Option<NumaNode>,
    /// Its PCI Express link.
    pub pci: Option<PciLink>,
    /// Receive queues.
    pub rx_queues: Option<u32>,
    /// Transmit queues.
    pub tx_queues: Option<u32>,
}

/// All interfaces of this network namespace, in the order of their names.
pub fn network_interfaces(root: &Root) -> Vec<NetworkInterface> {
    root.entries("sys/class/net")
        .iter()
        // Files such as `bonding_masters` stand beside the interfaces.
        .filter(|name| root.path("sys/class/net").join(name).is_dir())
        .map(|name| read_interface(root, name))
        .collect()
}

fn read_interface(root: &Root, name: &str) -> NetworkInterface {
    let dir = PathBuf::from(format!("sys/class/net/{name}"));
    let real = root.resolve(&dir);
    let device = root.resolve(dir.join("device"));
    let number = |file: &str| root.read_u32(dir.join(file));
    let queues = |prefix: &str| {
        let names = root.entries(dir.join("queues"));
        let count = names.iter().filter(|n| n.starts_with(prefix)).count();
        u32::try_from(count).ok().filter(|&count| count > 0)
    };
    NetworkInterface {
        name: name.to_owned(),
        driver: device.as_ref().and_then(|path| pci::driver(root, path)),
        // -1 is how a driver says that it does not know, and some count that
        // as unsigned.
        speed_mbit_s: number("speed").filter(|&s| s > 0 && s != u32::MAX),
        mtu_bytes: number("mtu"),
        operstate: root.read_word(dir.join("operstate")),
        is_virtual: real.map(|path| path.starts_with("sys/devices/virtual")),
        numa_node: device.as_ref().and_then(|path| pci::numa_node(root, path)),
        pci: device.as_ref().and_then(|path| pci::link(root, path)),
        rx_queues: queues("rx-"),
        tx_queues: queues("tx-"),
    }
}
