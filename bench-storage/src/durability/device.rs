//! The devices below a target, and what they did between two looks.

use harness::machine::{BlockDevice, Root};

/// `/sys/block/X/stat` counts in these, whatever the device's block size.
const SECTOR_BYTES: f64 = 512.0;

/// Fields of `/sys/block/X/stat`, counted from 0.
const SECTORS_WRITTEN: usize = 6;
const FLUSHES: usize = 15;

/// One device that is made of no other, and its counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    name: String,
    flushes: Option<u64>,
    sectors_written: Option<u64>,
}

/// What all devices together did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Seen {
    /// Of the device that flushed least: all of them should have.
    pub(super) flushes: Option<f64>,
    pub(super) bytes_written: Option<f64>,
}

/// The counters of all devices below `device`, itself if there are none.
pub(super) fn counts(root: &Root, device: Option<&BlockDevice>) -> Vec<Counts> {
    leaves(device).into_iter().map(|leaf| count(root, leaf)).collect()
}

/// The devices that do the work: a stacked one passes on what it is told.
pub(super) fn leaves(device: Option<&BlockDevice>) -> Vec<&BlockDevice> {
    let Some(device) = device else { return Vec::new() };
    if device.built_on.is_empty() {
        return vec![device];
    }
    device.built_on.iter().flat_map(|below| leaves(Some(below))).collect()
}

fn count(root: &Root, device: &BlockDevice) -> Counts {
    let stat = root.read(format!("sys/block/{}/stat", device.name));
    let field = |index: usize| {
        let stat = stat.as_ref()?;
        stat.split_whitespace().nth(index)?.parse().ok()
    };
    Counts {
        name: device.name.clone(),
        // Where requests bypass the block layer's queues (NVMe multipath),
        // its flush counter stands still.
        flushes: device.hardware_queues.and_then(|_| field(FLUSHES)),
        sectors_written: field(SECTORS_WRITTEN),
    }
}

/// What happened between two looks at the same devices.
pub(super) fn seen(before: &[Counts], after: &[Counts]) -> Seen {
    let since = |pick: fn(&Counts) -> Option<u64>| {
        let difference = |(then, now): (&Counts, &Counts)| {
            Some(pick(now)?.saturating_sub(pick(then)?) as f64)
        };
        before
            .iter()
            .zip(after)
            .map(difference)
            .collect::<Option<Vec<f64>>>()
            .filter(|all| !all.is_empty())
    };
    Seen {
        flushes: since(|c| c.flushes)
            .map(|all| all.into_iter().fold(f64::INFINITY, f64::min)),
        bytes_written: since(|c| c.sectors_written)
            .map(|all| all.into_iter().sum::<f64>() * SECTOR_BYTES),
    }
}

/// Whether the caches of a target's devices forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cache {
    /// At least one does.
    Volatile,
    /// None does, or there is none.
    Safe,
    /// The kernel does not say of one.
    Unknown,
}

impl Cache {
    /// Of a target's device.
    pub(super) fn of(device: Option<&BlockDevice>) -> Self {
        let leaves = leaves(device);
        let words: Vec<Option<&str>> =
            leaves.iter().map(|leaf| leaf.write_cache.as_deref()).collect();
        if words.contains(&Some("write back")) {
            Self::Volatile
        } else if !words.is_empty()
            && words.iter().all(|word| *word == Some("write through"))
        {
            Self::Safe
        } else {
            Self::Unknown
        }
    }

    /// As the kernel writes it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Volatile => "write back",
            Self::Safe => "write through",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// With a hardware queue, so that its flushes are counted.
    fn disk(name: &str, cache: &str) -> BlockDevice {
        let disk = json!({
            "name": name, "kind": "scsi", "built_on": [],
            "write_cache": cache, "hardware_queues": 1,
        });
        serde_json::from_value(disk).expect("a device")
    }

    #[test]
    fn a_stacked_device_is_as_good_as_its_worst_part() {
        let tree = tempfile::tempdir().expect("temporary directory");
        let write = |name: &str, sectors: u64, flushes: u64| {
            let directory = tree.path().join(format!("sys/block/{name}"));
            std::fs::create_dir_all(&directory).expect("directories");
            let stat = format!(
                "1 2 3 4 5 6 {sectors} 8 9 10 11 12 13 14 15 {flushes} 17\n"
            );
            std::fs::write(directory.join("stat"), stat).expect("stat");
        };
        let parts =
            vec![disk("sda", "write through"), disk("sdb", "write back")];
        let raid = json!({"name": "md0", "kind": "md", "built_on": parts});
        let raid: BlockDevice = serde_json::from_value(raid).expect("a device");
        assert_eq!(Cache::of(Some(&raid)), Cache::Volatile);
        let root = Root::at(tree.path());
        write("sda", 100, 10);
        write("sdb", 1_000, 20);
        let before = counts(&root, Some(&raid));
        write("sda", 108, 17);
        write("sdb", 1_008, 23);
        let seen = seen(&before, &counts(&root, Some(&raid)));
        assert_eq!(seen.flushes, Some(3.0));
        assert_eq!(seen.bytes_written, Some(16.0 * 512.0));
    }

    #[test]
    fn old_kernels_and_queueless_devices_count_no_flushes() {
        let tree = tempfile::tempdir().expect("temporary directory");
        let directory = tree.path().join("sys/block/sda");
        std::fs::create_dir_all(&directory).expect("directories");
        std::fs::write(directory.join("stat"), "1 2 3 4 5 6 7 8 9 10 11")
            .expect("stat");
        let root = Root::at(tree.path());
        let mut sda = disk("sda", "write back");
        let old = &counts(&root, Some(&sda))[0];
        assert_eq!((old.flushes, old.sectors_written), (None, Some(7)));
        std::fs::write(
            directory.join("stat"),
            "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17",
        )
        .expect("stat");
        assert_eq!(counts(&root, Some(&sda))[0].flushes, Some(16));
        sda.hardware_queues = None;
        assert_eq!(counts(&root, Some(&sda))[0].flushes, None);
    }
}
