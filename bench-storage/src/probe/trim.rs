//! Probes of the variants that drop data. None of them drops any.

use std::{fs::File, io};

use harness::{
    machine::{BlockDevice, Root},
    suite::{Availability, ProbeRequest},
    uring::probe::{Lack, availability},
};

use super::{load_of, single_issuer, target_of};
use crate::{
    target::{self, Target},
    trim::{calls, ring},
};

/// A file system that punches holes, or a device that discards.
pub fn trim(request: &ProbeRequest<'_>) -> Availability {
    let Some(target) = target_of(request) else {
        return Availability::undecided(
            "whether the target's file system punches holes, or a device \
             discards",
        );
    };
    availability(droppable(request, &target))
}

/// The same for a file, and a ring.
pub fn uring_fallocate(request: &ProbeRequest<'_>) -> Availability {
    if let Some(target) = target_of(request)
        && target.filesystem.is_none()
    {
        return Availability::unavailable(
            format!(
                "{} is a device: fallocate writes zeroes there, and discards \
                 nothing",
                target.label
            ),
            "`--target` with a directory, for a file that the run creates",
        );
    }
    both(single_issuer(request), || trim(request))
}

/// A device that discards, and a kernel that takes that from a ring.
pub fn uring_discard(request: &ProbeRequest<'_>) -> Availability {
    let Some(target) = target_of(request) else {
        return both(single_issuer(request), || {
            Availability::undecided(
                "`--target`: a block device that discards, and its word",
            )
        });
    };
    if let Some(filesystem) = &target.filesystem {
        return Availability::unavailable(
            format!(
                "the target is a file on {filesystem}, and the command is \
                 for block devices"
            ),
            "`--target` with a block device and its word",
        );
    }
    let asked = || {
        let tried = droppable(request, &target).and_then(|()| takes(&target));
        availability(tried)
    };
    both(single_issuer(request), asked)
}

fn both(
    first: Availability,
    second: impl FnOnce() -> Availability,
) -> Availability {
    match first {
        Availability::Available => second(),
        lack => lack,
    }
}

fn droppable(request: &ProbeRequest<'_>, target: &Target) -> Result<(), Lack> {
    match &target.device {
        _ if target.filesystem.is_some() => punches(target),
        Some(device) => {
            let load = load_of(request);
            let op_bytes = load.map_or(0, |load| load.op_bytes as u64);
            discards(&Root::system(), device, op_bytes)
        }
        None => Ok(()),
    }
}

/// Behind the end of a file there is nothing to lose.
fn punches(target: &Target) -> Result<(), Lack> {
    let tried = File::options()
        .write(true)
        .open(&target.path)
        .and_then(|file| calls::punch(&file, target.bytes, 1 << 20));
    tried.map_err(|error| Lack {
        reason: format!(
            "fallocate with FALLOC_FL_PUNCH_HOLE on {}: {error}",
            target.label
        ),
        remedy: "`--target` with a directory on ext4, xfs, btrfs or another \
                 file system that punches holes"
            .to_owned(),
    })
}

/// Documentation/ABI/stable/sysfs-block: 0 is a device that cannot.
pub(super) fn discards(
    root: &Root,
    device: &BlockDevice,
    op_bytes: u64,
) -> Result<(), Lack> {
    let name = &device.name;
    let queue =
        |file: &str| root.read_u64(format!("sys/block/{name}/queue/{file}"));
    let lack = |reason: String, remedy: &str| {
        Err(Lack { reason, remedy: remedy.to_owned() })
    };
    match queue("discard_max_bytes") {
        Some(0) | None => {
            return lack(
                format!(
                    "/sys/block/{name}/queue/discard_max_bytes is 0: the \
                     device discards nothing"
                ),
                "a device that does (NVMe and SATA drives, thin volumes, loop \
                 devices); for a virtual disk `discard=unmap`",
            );
        }
        Some(_) => {}
    }
    let granularity = queue("discard_granularity").unwrap_or(0);
    if granularity > op_bytes {
        return lack(
            format!(
                "{name} discards {granularity} bytes at once and nothing less \
                 (queue/discard_granularity), and an op has {op_bytes}"
            ),
            "a device with a finer granularity",
        );
    }
    Ok(())
}

/// Asks for a discard of nothing, through a descriptor that may only be read:
/// either alone is refused by a kernel that knows the command.
fn takes(target: &Target) -> Result<(), Lack> {
    let asked = target::open(target)
        .map_err(|error| error.to_string())
        .and_then(ring::ask_for_nothing);
    let refused = |error: String| Lack {
        reason: format!("BLOCK_URING_CMD_DISCARD on {}: {error}", target.label),
        remedy: "Linux 6.12 or later".to_owned(),
    };
    match asked {
        Ok(errno) if errno == libc::EOPNOTSUPP || errno == libc::ENOTTY => {
            Err(refused(io::Error::from_raw_os_error(errno).to_string()))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(refused(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_says_whether_and_how_finely_it_discards() {
        let tree = tempfile::tempdir().expect("temporary directory");
        let queue = tree.path().join("sys/block/sda/queue");
        std::fs::create_dir_all(&queue).expect("directories");
        let root = Root::at(tree.path());
        let sda = serde_json::json!({
            "name": "sda", "kind": "scsi", "built_on": [],
        });
        let sda: BlockDevice = serde_json::from_value(sda).expect("a device");
        let ask = |max: &str, granularity: &str| {
            std::fs::write(queue.join("discard_max_bytes"), max)
                .expect("write");
            std::fs::write(queue.join("discard_granularity"), granularity)
                .expect("write");
            discards(&root, &sda, 64 << 10)
        };
        assert_eq!(ask("4294966784\n", "512\n"), Ok(()));
        let none = ask("0\n", "0\n").expect_err("it cannot");
        assert!(none.reason.contains("discard_max_bytes is 0"), "{none:?}");
        let coarse = ask("4294966784\n", "1048576\n").expect_err("coarse");
        assert!(coarse.reason.contains("1048576 bytes at once"), "{coarse:?}");
    }
}
