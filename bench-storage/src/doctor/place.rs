//! The file system that the target is on.

use std::{
    ffi::CString,
    os::unix::{ffi::OsStrExt, fs::FileTypeExt},
};

use harness::machine::{
    BlockKind, Filesystem,
    doctor::{Check, Observation, Patient, Unknown, Verdict},
    filesystem_of,
};

use super::device;
use crate::target::free_bytes;

const GIB: u64 = 1 << 30;
/// Nearly full file systems and flash both get slow.
const FREE_BYTES: u64 = 4 * GIB;
/// Writing this much back in the background takes a fast disk some 0.1 s.
const DIRTY_BYTES: u64 = 64 << 20;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "storage.device",
        about: "what the target lies on",
        why: "a loop device, a mapper or a RAID adds its own queues; memory \
              has no medium, so that figures are of the kernel alone",
        wanted: "a device of its own, directly",
        fix: "name a directory on a real disk with --target",
        source: "/proc/self/mountinfo, /sys/dev/block",
        limit: Some(Verdict::ComparisonOnly),
        examine: stacking,
    },
    Check {
        id: "storage.filesystem",
        about: "the file system that the target is on",
        why: "overlay, network and copy-on-write file systems do other work \
              than reading blocks",
        wanted: "ext4 or xfs",
        fix: "name a directory on ext4 or xfs with --target",
        source: "/proc/self/mountinfo",
        limit: None,
        examine: filesystem,
    },
    Check {
        id: "storage.mount_options",
        about: "mount options that add work",
        why: "sync, journalled data and discard on delete put other I/O \
              between the measured ops",
        wanted: "none of sync, data=journal, discard",
        fix: "mount without it; fstrim by hand in place of discard",
        source: "/proc/self/mountinfo",
        limit: None,
        examine: mount_options,
    },
    Check {
        id: "storage.free_space",
        about: "room on the file system",
        why: "a nearly full file system scatters a new file over the device",
        wanted: "at least 4 GiB",
        fix: "delete something, or name another place with --target",
        source: "statvfs(3)",
        limit: None,
        examine: free_space,
    },
    Check {
        id: "storage.writeback",
        about: "data that waits to be written in the background",
        why: "the device writes it while reads are measured",
        wanted: "at most 64 MiB",
        fix: "sync, then wait until the disk is idle",
        source: "/proc/meminfo",
        limit: None,
        examine: writeback,
    },
];

fn stacking(patient: &Patient) -> Result<Observation, Unknown> {
    let device = device(patient)?;
    let names: Vec<&str> =
        device.bottom().iter().map(|below| below.name.as_str()).collect();
    if device.is_memory_backed() {
        let told = format!("storage in memory ({})", device.name);
        return Ok(Observation::fail(told));
    }
    let mapped =
        matches!(device.kind, BlockKind::Loop | BlockKind::Dm | BlockKind::Md);
    if mapped && device.built_on.is_empty() {
        return Err(Unknown::because(format!(
            "what {} is made of does not show",
            device.name
        )));
    }
    if !device.built_on.is_empty() {
        let told = format!("{} on {}", device.name, names.join(", "));
        return Ok(Observation::warn(told));
    }
    Ok(match device.kind {
        BlockKind::Network => Observation::warn(format!(
            "{}, which is another machine's or a program's",
            device.name
        )),
        BlockKind::Other => {
            return Err(Unknown::because(format!(
                "{} is of a kind that this program does not know",
                device.name
            )));
        }
        _ => Observation::pass(device.name.clone()),
    })
}

/// The file system below the target; `None` if the target is a device: what
/// its node lies on (devtmpfs) is not what is measured.
fn place(patient: &Patient) -> Result<Option<Filesystem>, Unknown> {
    if is_device(patient) {
        return Ok(None);
    }
    filesystem_of(&patient.root, &patient.target)
        .map(Some)
        .ok_or_else(|| patient.lack("proc/self/mountinfo"))
}

fn is_device(patient: &Patient) -> bool {
    if !patient.root.is_system() {
        // Numbers of files in a captured tree are those of this machine.
        return patient.target.starts_with("/dev")
            && patient.block_device().is_some();
    }
    std::fs::metadata(&patient.target).is_ok_and(|found| {
        let kind = found.file_type();
        kind.is_block_device() || kind.is_char_device()
    })
}

fn no_place() -> Observation {
    Observation::not_applicable("the target is a device")
}

fn filesystem(patient: &Patient) -> Result<Observation, Unknown> {
    let Some(place) = place(patient)? else { return Ok(no_place()) };
    Ok(match place.kind.as_str() {
        "ext4" | "xfs" | "ext2" | "ext3" | "f2fs" => {
            Observation::pass(place.kind)
        }
        _ if place.is_memory_backed() => Observation::warn(place.kind),
        "btrfs" | "zfs" | "bcachefs" | "overlay" | "nfs" | "nfs4" | "cifs"
        | "9p" | "virtiofs" | "ceph" | "fuse" | "devtmpfs" => {
            Observation::warn(place.kind)
        }
        other => {
            return Err(Unknown::because(format!(
                "`{other}` is a file system that this program does not know"
            )));
        }
    })
}

fn mount_options(patient: &Patient) -> Result<Observation, Unknown> {
    let Some(place) = place(patient)? else { return Ok(no_place()) };
    if !place.options.iter().any(|o| o == "rw" || o == "ro") {
        return Err(patient.lack("proc/self/mountinfo"));
    }
    let costly = |option: &&String| {
        matches!(option.as_str(), "sync" | "dirsync" | "data=journal")
            || option.starts_with("discard")
    };
    let found: Vec<&str> =
        place.options.iter().filter(costly).map(String::as_str).collect();
    let told = match found.is_empty() {
        true => "none of these".to_owned(),
        false => found.join(", "),
    };
    Ok(Observation::pass_if(found.is_empty(), told))
}

fn free_space(patient: &Patient) -> Result<Observation, Unknown> {
    if is_device(patient) {
        return Ok(no_place());
    }
    if !patient.root.is_system() {
        return Err(Unknown::because("a captured tree does not tell"));
    }
    let path = patient.target.as_path();
    let existing = path.ancestors().find(|path| path.exists());
    let free = existing
        .and_then(|path| CString::new(path.as_os_str().as_bytes()).ok())
        .and_then(|path| free_bytes(&path).ok())
        .ok_or_else(|| Unknown::because("statvfs refuses the target"))?;
    let told = format!("{:.1} GiB", free as f64 / GIB as f64);
    Ok(Observation::pass_if(free >= FREE_BYTES, told))
}

fn writeback(patient: &Patient) -> Result<Observation, Unknown> {
    let dirty = patient.memory_bytes("Dirty")?;
    let busy = patient.memory_bytes("Writeback")?;
    let waiting = dirty.saturating_add(busy);
    let told = format!("{} MiB", waiting >> 20);
    Ok(Observation::pass_if(waiting <= DIRTY_BYTES, told))
}
