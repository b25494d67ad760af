//! What keeps the blocks of a target.

use std::{fmt, path::Path};

use harness::machine::{BlockDevice, Root, devices::BlockKind, filesystem_of};

/// What keeps the blocks of a target in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A device that is none of memory.
    Device,
    /// Memory: zram, brd, null_blk, or a loop device whose file is on tmpfs.
    Memory,
    /// A file system without a device (a network, an overlay) keeps it, or a
    /// loop device's file is on one; or another machine or a program has what
    /// the kernel shows as a device (nbd, rbd, ublk).
    Unknown,
}

impl Medium {
    /// Of a target's device, if it has one.
    pub fn of(root: &Root, device: Option<&BlockDevice>) -> Self {
        let Some(device) = device else { return Self::Unknown };
        if device.is_memory_backed() {
            return Self::Memory;
        }
        let bottom = device.bottom().into_iter();
        let media: Vec<Self> =
            bottom.map(|leaf| Self::of_leaf(root, leaf)).collect();
        if media.contains(&Self::Memory) {
            Self::Memory
        } else if media.contains(&Self::Unknown) {
            Self::Unknown
        } else {
            Self::Device
        }
    }

    fn of_leaf(root: &Root, leaf: &BlockDevice) -> Self {
        match leaf.kind {
            BlockKind::Loop => Self::of_file_behind(root, leaf),
            BlockKind::Network => Self::Unknown,
            _ => Self::Device,
        }
    }

    /// A loop device at the bottom has a file that is on no known device.
    fn of_file_behind(root: &Root, device: &BlockDevice) -> Self {
        let name = format!("sys/block/{}/loop/backing_file", device.name);
        let filesystem = root
            .read(name)
            .and_then(|file| filesystem_of(root, Path::new(file.trim_end())));
        match filesystem {
            Some(found) if found.is_memory_backed() => Self::Memory,
            _ => Self::Unknown,
        }
    }
}

/// The device at the bottom of a target of whose medium nothing is known.
pub fn unknown_at_bottom(device: &BlockDevice) -> Option<&BlockDevice> {
    let unknown = |leaf: &&BlockDevice| {
        matches!(leaf.kind, BlockKind::Loop | BlockKind::Network)
    };
    device.bottom().into_iter().find(unknown)
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Memory => "memory",
            Self::Unknown => "unknown",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn device(name: &str, kind: &str, below: &[BlockDevice]) -> BlockDevice {
        let device = json!({"name": name, "kind": kind, "built_on": below});
        serde_json::from_value(device).expect("a device")
    }

    #[test]
    fn a_loop_device_is_what_its_file_is_on() {
        let tree = tempfile::tempdir().expect("temporary directory");
        let root = Root::at(tree.path());
        let write = |path: &str, text: &str| {
            let path = tree.path().join(path);
            let parent = path.parent().expect("a directory");
            std::fs::create_dir_all(parent).expect("directories");
            std::fs::write(path, text).expect("write");
        };
        write(
            "proc/self/mountinfo",
            "21 1 253:0 / / rw - ext4 /dev/vda rw\n\
             22 21 0:22 / /dev/shm rw - tmpfs tmpfs rw\n\
             23 21 0:23 / /net rw - nfs host:/ rw\n",
        );
        write("dev/shm/file", "");
        write("net/file", "");
        write("sys/block/loop0/loop/backing_file", "/dev/shm/file\n");
        write("sys/block/loop1/loop/backing_file", "/net/file\n");
        let disk = device("vda", "virtio", &[]);
        let zram = device("zram0", "zram", &[]);
        let below = |name, parts: &[BlockDevice]| device(name, "loop", parts);
        for (device, medium) in [
            (below("loop0", &[]), Medium::Memory),
            (below("loop1", &[]), Medium::Unknown),
            (below("loop2", &[]), Medium::Unknown),
            (below("loop3", std::slice::from_ref(&disk)), Medium::Device),
            (device("dm-0", "dm", &[below("loop0", &[])]), Medium::Memory),
            (zram, Medium::Memory),
            (device("nbd0", "network", &[]), Medium::Unknown),
            (
                device(
                    "md0",
                    "md",
                    &[disk.clone(), device("rbd0", "network", &[])],
                ),
                Medium::Unknown,
            ),
            (disk, Medium::Device),
        ] {
            let found = Medium::of(&root, Some(&device));
            assert_eq!(found, medium, "{}", device.name);
        }
        assert_eq!(Medium::of(&root, None), Medium::Unknown);
    }
}
