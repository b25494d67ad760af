//! What the kernel does with a device: everything in `/proc` and `/sys` that
//! speaks against writing to it.

use std::path::{Path, PathBuf};

use harness::machine::{
    BlockDevice, Root, block_device_of,
    devices::{BlockKind, DeviceNumber, mounts},
};

use super::node;

/// Why this device may not be written, as far as the kernel tells without
/// opening it.
pub(super) fn reasons(root: &Root, device: &BlockDevice) -> Vec<String> {
    let parts = partitions(root, &device.name);
    let mut reasons = own(device);
    if !parts.is_empty() {
        reasons.push(format!("has partitions: {}", parts.join(", ")));
    }
    let family = Family::of(root, device, &parts);
    reasons.extend(family.holders());
    reasons.extend(family.mounted());
    reasons.extend(family.swap());
    reasons.extend(family.loops());
    reasons
}

/// What the device itself tells.
fn own(device: &BlockDevice) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(partition) = &device.partition {
        reasons.push(format!(
            "is reached here as {partition}, a partition: only whole devices \
             are written"
        ));
    }
    if device.size_bytes.is_none_or(|bytes| bytes == 0) {
        reasons.push("has no size, or none that is known".to_owned());
    }
    match device.read_only {
        Some(false) => {}
        Some(true) => reasons.push("is read-only".to_owned()),
        None => reasons.push("may be read-only: `ro` is unknown".to_owned()),
    }
    let stacked = matches!(device.kind, BlockKind::Dm | BlockKind::Md);
    if stacked {
        let below: Vec<&str> =
            device.built_on.iter().map(|below| below.name.as_str()).collect();
        reasons.push(format!(
            "is built on other devices ({}) and belongs to whoever built it",
            below.join(", ")
        ));
    }
    reasons
}

/// A device and its partitions.
struct Family<'a> {
    root: &'a Root,
    device: &'a BlockDevice,
    names: Vec<String>,
    numbers: Vec<DeviceNumber>,
}

impl<'a> Family<'a> {
    fn of(root: &'a Root, device: &'a BlockDevice, parts: &[String]) -> Self {
        let names: Vec<String> =
            [device.name.clone()].iter().chain(parts).cloned().collect();
        let numbers = names
            .iter()
            .filter_map(|name| root.read(sysfs(device, name).join("dev")))
            .filter_map(|text| DeviceNumber::parse(&text))
            .collect();
        Self { root, device, names, numbers }
    }

    /// Device mapper, md and bcache say what they are made of.
    fn holders(&self) -> Vec<String> {
        let holders_of = |name: &String| {
            self.root.entries(sysfs(self.device, name).join("holders"))
        };
        let holders: Vec<String> =
            self.names.iter().flat_map(holders_of).collect();
        match holders.is_empty() {
            true => Vec::new(),
            false => vec![format!("is held by {}", holders.join(", "))],
        }
    }

    /// By number, which a bind mount has in common with the mount itself; and
    /// by source, since btrfs gives its mounts numbers of their own.
    fn mounted(&self) -> Vec<String> {
        let all = mounts(self.root);
        if all.is_empty() {
            return vec!["may be mounted: no mount table".to_owned()];
        }
        let ours = |mount: &&harness::machine::devices::Mount| {
            mount.number.is_some_and(|number| self.numbers.contains(&number))
                || self.is_ours(Path::new(&mount.source))
        };
        all.iter()
            .filter(ours)
            .map(|mount| {
                let place = mount.mount_point.display();
                format!("is mounted at {place} ({})", mount.kind)
            })
            .collect()
    }

    /// proc(5): one line per swap area after the heading, its path first.
    fn swap(&self) -> Vec<String> {
        let Some(table) = self.root.read("proc/swaps") else {
            return vec!["may be used for swap: no /proc/swaps".to_owned()];
        };
        table
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().next())
            .filter(|area| self.is_ours(Path::new(area)))
            .map(|area| format!("is used for swap ({area})"))
            .collect()
    }

    /// The kernel lets a loop device be made of a whole device without
    /// claiming that, and two loop devices of one file.
    fn loops(&self) -> Vec<String> {
        let own_file = self.device.backing_file.as_deref();
        let mut reasons = Vec::new();
        if let Some(below) = own_file.filter(|f| node::is_device(self.root, f))
        {
            reasons.push(format!("is another name of {}", below.display()));
        }
        let others = self.root.entries("sys/block").into_iter();
        for other in others.filter(|name| *name != self.device.name) {
            let file = format!("sys/block/{other}/loop/backing_file");
            let Some(file) = self.root.read_word(file).map(PathBuf::from)
            else {
                continue;
            };
            if own_file == Some(&file) || self.is_ours(&file) {
                reasons.push(format!("is also what {other} is made of"));
            }
        }
        reasons
    }

    /// Whether a path is a node of this device or of one of its partitions.
    fn is_ours(&self, path: &Path) -> bool {
        path.is_absolute()
            && node::is_device(self.root, path)
            && block_device_of(self.root, path)
                .is_some_and(|found| found.name == self.device.name)
    }
}

/// Partitions as sysfs has them below their disk.
fn partitions(root: &Root, name: &str) -> Vec<String> {
    let disk = Path::new("sys/block").join(name);
    let mut names = root.entries(&disk);
    names.retain(|entry| root.exists(disk.join(entry).join("partition")));
    names
}

/// The directory of a device or of one of its partitions.
fn sysfs(device: &BlockDevice, name: &str) -> PathBuf {
    let disk = Path::new("sys/block").join(&device.name);
    if name == device.name { disk } else { disk.join(name) }
}
