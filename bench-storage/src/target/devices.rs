//! What `bypass list --devices` says of each block device.

use std::path::Path;

use harness::{
    machine::{BlockDevice, Root, block_devices, devices::BlockKind},
    suite::DeviceReport,
};

use super::{existing, place::size_text};
use crate::guard;

/// All block devices that have a size, each judged.
pub fn devices(root: &Root) -> Vec<DeviceReport> {
    block_devices(root).iter().map(|device| report(root, device)).collect()
}

fn report(root: &Root, device: &BlockDevice) -> DeviceReport {
    let path = format!("/dev/{}", device.name.replace('!', "/"));
    let read = existing::open(root, Path::new(&path));
    let judgement = guard::judge(root, Path::new(&path));
    let (no_write, word) = match judgement {
        Some(judgement) => (judgement.reasons, judgement.word),
        None => (vec![format!("has no node {path}")], None),
    };
    DeviceReport {
        about: about(device),
        no_read: read.err().map(|refusal| refusal.to_string()),
        no_write,
        word,
        path,
    }
}

/// Kind, model, size, and what is behind a loop device.
fn about(device: &BlockDevice) -> String {
    let kind = match device.kind {
        BlockKind::Nvme => "NVMe",
        BlockKind::Virtio => "virtio disk",
        BlockKind::Scsi => "SCSI or SATA disk",
        BlockKind::Mmc => "memory card",
        BlockKind::Loop => "loop device",
        BlockKind::Dm => "device-mapper device",
        BlockKind::Md => "md RAID",
        BlockKind::Zram => "compressed memory",
        BlockKind::Memory => "memory",
        BlockKind::Null => "null device",
        BlockKind::Network => "device of another machine or of a program",
        BlockKind::Other => "block device",
    };
    let mut words = vec![kind.to_owned()];
    words.extend(device.model.clone());
    words.extend(device.size_bytes.map(size_text));
    let file = device.backing_file.as_ref();
    words.extend(file.map(|file| format!("of {}", file.display())));
    words.join(", ")
}
