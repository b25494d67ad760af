//! How `/proc/interrupts` names a device's interrupts.

use std::path::Path;

use harness::machine::{BlockDevice, Root};

/// Strings of which each line of the device's interrupts contains one: the
/// name that its driver gives (`virtio1-req.0`, `nvme0q3`), and the PCI
/// address, which message-signalled interrupts show since Linux 6.2.
pub(super) fn names(root: &Root, device: &BlockDevice) -> Vec<String> {
    let mut names = Vec::new();
    collect(root, device, &mut names);
    names.sort();
    names.dedup();
    names
}

fn collect(root: &Root, device: &BlockDevice, names: &mut Vec<String>) {
    for below in &device.built_on {
        collect(root, below, names);
    }
    let link = format!("sys/block/{}", device.name);
    let Some(path) = root.resolve(link) else { return };
    names.extend(from_path(&path));
    // With multipath a namespace hangs below its subsystem, and the
    // controllers that serve it stand beside it.
    if let Some(subsystem) = path.parent()
        && path.components().any(|part| part.as_os_str() == "nvme-subsystem")
    {
        for controller in root.entries(subsystem) {
            if let Some(path) = root.resolve(subsystem.join(controller)) {
                names.extend(from_path(&path));
            }
        }
    }
}

fn from_path(path: &Path) -> Vec<String> {
    let parts: Vec<&str> =
        path.iter().filter_map(|part| part.to_str()).collect();
    let virtio = parts
        .iter()
        .filter(|part| is_numbered(part, "virtio"))
        // The dash keeps virtio1 apart from virtio10.
        .map(|part| format!("{part}-"));
    let nvme = parts
        .iter()
        .filter(|part| is_numbered(part, "nvme"))
        .map(|part| format!("{part}q"));
    // The last one is the device's own; those before it are bridges.
    let pci = parts.iter().rfind(|part| is_pci_address(part));
    virtio.chain(nvme).chain(pci.map(|part| (*part).to_owned())).collect()
}

fn is_numbered(word: &str, stem: &str) -> bool {
    word.strip_prefix(stem).is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// `0000:00:1f.2`
fn is_pci_address(word: &str) -> bool {
    let Some((rest, function)) = word.split_once('.') else { return false };
    let mut parts = rest.split(':');
    let mut hex = |digits: usize| {
        parts.next().is_some_and(|part| {
            part.len() >= digits && part.bytes().all(|b| b.is_ascii_hexdigit())
        })
    };
    hex(4) && hex(2) && hex(2) && function.len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Vec<String> {
        from_path(Path::new(path))
    }

    #[test]
    fn virtio_nvme_and_pci_devices_are_named() {
        assert_eq!(
            of("sys/devices/pci0000:00/0000:00:02.0/virtio1/block/vda"),
            ["virtio1-", "0000:00:02.0"]
        );
        assert_eq!(
            of("sys/devices/pci0000:00/0000:00:1d.0/0000:01:00.0/nvme/\
                nvme0/nvme0n1"),
            ["nvme0q", "0000:01:00.0"]
        );
        assert_eq!(
            of("sys/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/\
                0:0:0:0/block/sda"),
            ["0000:00:17.0"]
        );
        assert!(of("sys/devices/virtual/block/loop0").is_empty());
    }
}
