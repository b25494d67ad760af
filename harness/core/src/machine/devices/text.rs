//! Devices as text for a person.

use std::fmt::Write as _;

use super::{BlockDevice, NetworkInterface, PciLink};
use crate::machine::cpu_set::NumaNode;
use crate::machine::topology;

/// One line for each device, with its node: what `bypass topology` prints
/// below the tree of CPUs.
pub fn text(blocks: &[BlockDevice], networks: &[NetworkInterface]) -> String {
    let mut out = String::new();
    for device in blocks {
        write_block(&mut out, device, 0);
    }
    for interface in networks {
        write_network(&mut out, interface);
    }
    out
}

fn write_block(out: &mut String, device: &BlockDevice, depth: usize) {
    let mut facts = vec![topology::size(device.size_bytes)];
    facts.extend(device.model.clone());
    facts.push(node(device.numa_node));
    facts.extend(
        device.scheduler.as_ref().map(|name| format!("scheduler {name}")),
    );
    facts.extend(device.hardware_queues.map(|queues| match queues {
        1 => "1 queue".to_owned(),
        _ => format!("{queues} queues"),
    }));
    if device.io_poll == Some(true) {
        facts.push("polling".to_owned());
    }
    facts.extend(link(device.pci.as_ref()));
    if let Some(partition) = &device.partition {
        facts.push(format!("partition {partition}"));
    }
    if let Some(file) = &device.backing_file {
        facts.push(format!("file {}", file.display()));
    }
    let indent = "  ".repeat(depth);
    let on = if depth == 0 { "block" } else { "on" };
    let _ = writeln!(out, "{indent}{on} {}: {}", device.name, facts.join(", "));
    for below in &device.built_on {
        write_block(out, below, depth + 1);
    }
}

fn write_network(out: &mut String, interface: &NetworkInterface) {
    let mut facts = Vec::new();
    facts.extend(interface.driver.clone());
    if interface.is_virtual == Some(true) {
        facts.push("virtual".to_owned());
    } else {
        facts.push(match interface.speed_mbit_s {
            Some(speed) => format!("{speed} Mbit/s"),
            None => "speed unknown".to_owned(),
        });
        facts.push(node(interface.numa_node));
    }
    facts.extend(interface.operstate.clone());
    facts.extend(interface.mtu_bytes.map(|mtu| format!("MTU {mtu}")));
    facts.extend(link(interface.pci.as_ref()));
    let _ = writeln!(out, "net {}: {}", interface.name, facts.join(", "));
}

fn node(node: Option<NumaNode>) -> String {
    match node {
        Some(node) => format!("node {node}"),
        None => "node unknown".to_owned(),
    }
}

fn link(link: Option<&PciLink>) -> Option<String> {
    let link = link?;
    let speed = link.current_speed.as_deref()?;
    let width = link.current_width?;
    let below = if link.is_degraded() { " (below its best)" } else { "" };
    Some(format!("{speed} x{width}{below}"))
}
