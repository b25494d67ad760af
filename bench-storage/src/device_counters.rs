//! The devices at the bottom of a target, and what they did between two looks:
//! `/sys/block/X/stat` (Documentation/block/stat.rst).

use harness::machine::{BlockDevice, Root};

/// The counters are in these, whatever the device's block size.
const SECTOR_BYTES: f64 = 512.0;

/// Fields, counted from 0.
const SECTORS_READ: usize = 2;
const SECTORS_WRITTEN: usize = 6;
const SECTORS_DISCARDED: usize = 13;
const FLUSHES: usize = 15;

/// One device that is made of no other, and its counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    flushes: Option<u64>,
    sectors_read: Option<u64>,
    sectors_written: Option<u64>,
}

/// What all devices together did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// Of the device that flushed least: all of them should have.
    pub flushes: Option<f64>,
    /// Of all together.
    pub bytes_read: Option<f64>,
    /// Of all together.
    pub bytes_written: Option<f64>,
}

/// The counters of all devices at the bottom of `device`: a stacked one passes
/// on what it is told.
pub fn counts(root: &Root, device: Option<&BlockDevice>) -> Vec<Counts> {
    let bottom = device.into_iter().flat_map(BlockDevice::bottom);
    bottom.map(|device| count(root, device)).collect()
}

/// Bytes that a device was told to discard since it appeared: itself, since
/// one below it may be told to do something else instead. `None` before Linux
/// 4.18.
pub fn discarded_bytes(root: &Root, device: &BlockDevice) -> Option<f64> {
    let sectors = field(&stat(root, device)?, SECTORS_DISCARDED)?;
    Some(sectors as f64 * SECTOR_BYTES)
}

fn stat(root: &Root, device: &BlockDevice) -> Option<String> {
    root.read(format!("sys/block/{}/stat", device.name))
}

fn field(stat: &str, index: usize) -> Option<u64> {
    stat.split_whitespace().nth(index)?.parse().ok()
}

fn count(root: &Root, device: &BlockDevice) -> Counts {
    let stat = stat(root, device);
    let field = |index: usize| field(stat.as_ref()?, index);
    Counts {
        // Where requests bypass the block layer's queues (NVMe multipath),
        // its flush counter stands still.
        flushes: device.hardware_queues.and_then(|_| field(FLUSHES)),
        sectors_read: field(SECTORS_READ),
        sectors_written: field(SECTORS_WRITTEN),
    }
}

/// What happened between two looks at the same devices.
pub fn seen(before: &[Counts], after: &[Counts]) -> Seen {
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
    let bytes =
        |sectors: Vec<f64>| sectors.into_iter().sum::<f64>() * SECTOR_BYTES;
    Seen {
        flushes: since(|c| c.flushes)
            .map(|all| all.into_iter().fold(f64::INFINITY, f64::min)),
        bytes_read: since(|c| c.sectors_read).map(bytes),
        bytes_written: since(|c| c.sectors_written).map(bytes),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// With a hardware queue, so that its flushes are counted.
    fn disk(name: &str) -> BlockDevice {
        let disk = json!({
            "name": name, "kind": "scsi", "built_on": [], "hardware_queues": 1,
        });
        serde_json::from_value(disk).expect("a device")
    }

    #[test]
    fn a_stack_reads_and_writes_all_and_flushes_as_its_worst_part() {
        let tree = tempfile::tempdir().expect("temporary directory");
        let write = |name: &str, read: u64, written: u64, flushes: u64| {
            let directory = tree.path().join(format!("sys/block/{name}"));
            std::fs::create_dir_all(&directory).expect("directories");
            let stat = format!(
                "1 2 {read} 4 5 6 {written} 8 9 10 11 12 13 14 15 {flushes} 17\n"
            );
            std::fs::write(directory.join("stat"), stat).expect("stat");
        };
        let parts = vec![disk("sda"), disk("sdb")];
        let raid = json!({"name": "md0", "kind": "md", "built_on": parts});
        let raid: BlockDevice = serde_json::from_value(raid).expect("a device");
        let root = Root::at(tree.path());
        write("sda", 50, 100, 10);
        write("sdb", 60, 1_000, 20);
        let before = counts(&root, Some(&raid));
        write("sda", 51, 108, 17);
        write("sdb", 62, 1_008, 23);
        let seen = seen(&before, &counts(&root, Some(&raid)));
        assert_eq!(seen.flushes, Some(3.0));
        assert_eq!(seen.bytes_read, Some(3.0 * 512.0));
        assert_eq!(seen.bytes_written, Some(16.0 * 512.0));
        assert_eq!(super::seen(&[], &[]), Seen::default());
    }

    #[test]
    fn old_kernels_and_queueless_devices_count_no_flushes() {
        let tree = tempfile::tempdir().expect("temporary directory");
        let directory = tree.path().join("sys/block/sda");
        std::fs::create_dir_all(&directory).expect("directories");
        std::fs::write(directory.join("stat"), "1 2 3 4 5 6 7 8 9 10 11")
            .expect("stat");
        let root = Root::at(tree.path());
        let mut sda = disk("sda");
        let old = &counts(&root, Some(&sda))[0];
        assert_eq!((old.flushes, old.sectors_written), (None, Some(7)));
        std::fs::write(
            directory.join("stat"),
            "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17",
        )
        .expect("stat");
        assert_eq!(counts(&root, Some(&sda))[0].flushes, Some(16));
        assert_eq!(discarded_bytes(&root, &sda), Some(14.0 * 512.0));
        sda.hardware_queues = None;
        assert_eq!(counts(&root, Some(&sda))[0].flushes, None);
    }
}
