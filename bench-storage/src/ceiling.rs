//! Results that the hardware cannot have brought: more bytes than go over the
//! device's link, or than the devices below a stacked one have read. Something
//! in between answered then, or the figures are wrong.

use harness::{
    machine::{BlockDevice, Root},
    measure::trial::Outcome,
};

use crate::device_counters::{Counts, counts, seen};

/// The rest is room for what others dropped or wrote meanwhile.
const BELOW_SHARE_MIN: f64 = 0.95;

/// The devices below a target that is read, up to some instant.
#[derive(Debug)]
pub struct Ceiling {
    root: Root,
    device: Option<BlockDevice>,
    before: Vec<Counts>,
}

/// What went one way in a window.
#[derive(Clone, Copy, Debug)]
struct Moved {
    bytes: f64,
    window_ns: f64,
    /// Of ops that may have been under way when it began.
    in_flight_bytes: f64,
}

impl Ceiling {
    /// Looks at them now.
    pub fn of(root: &Root, device: Option<&BlockDevice>) -> Self {
        let before = counts(root, device);
        Self { root: root.clone(), device: device.cloned(), before }
    }

    /// Degrades a trial that has just ended and brought more than they can
    /// have given.
    pub fn judge(&self, outcome: &mut Outcome) {
        let Some(device) = &self.device else { return };
        judge_links(outcome, device, 1.0);
        // Warm-up and drain as well: they are in what the devices count.
        let ops = outcome.evidence.calls.map_or(outcome.ops(), |c| c.ops);
        let bytes = ops as f64 * outcome.shape.op_bytes as f64;
        let after = counts(&self.root, Some(device));
        let below = seen(&self.before, &after).bytes_read;
        let reason = above_those_below(device, bytes, below);
        outcome.evidence.degraded.extend(reason);
    }
}

/// Degrades a trial that moved more in its window than goes over the links of
/// the devices at the bottom. Each way they carry as much: `share` of the ops
/// went the way that most of them went.
pub fn judge_links(outcome: &mut Outcome, device: &BlockDevice, share: f64) {
    let shape = &outcome.shape;
    let in_flight = shape.threads * shape.depth;
    let moved = Moved {
        bytes: share * outcome.ops() as f64 * shape.op_bytes as f64,
        window_ns: outcome.window_ns as f64,
        in_flight_bytes: in_flight as f64 * shape.op_bytes as f64,
    };
    outcome.evidence.degraded.extend(above_links(device, moved));
}

/// Why it is more than the links of the devices at the bottom carry together.
/// `None` where that cannot be told of one of them.
fn above_links(device: &BlockDevice, moved: Moved) -> Option<String> {
    let bottom = device.bottom();
    let mut limit = 0.0;
    let mut links = Vec::new();
    for device in bottom {
        // The link of an emulated device is a fiction.
        if device.is_emulated() {
            return None;
        }
        let link = device.pci.as_ref()?;
        limit += link.bytes_per_second()?;
        links.push(format!("{} ({})", device.name, link.complete()?));
    }
    let carried = limit * moved.window_ns / 1e9 + moved.in_flight_bytes;
    (moved.bytes > carried).then(|| {
        format!(
            "{:.0} MB/s were moved, and no more than {:.0} MB/s go over the \
             PCIe link of {}: a cache answered, or the figures are wrong",
            moved.bytes / moved.window_ns * 1e3,
            limit / 1e6,
            links.join(" and ")
        )
    })
}

/// Why a trial's bytes are more than the devices below a stacked one have read.
/// For a device with none below, the process's own counters tell as much.
fn above_those_below(
    device: &BlockDevice,
    bytes: f64,
    below: Option<f64>,
) -> Option<String> {
    let read = below.filter(|_| !device.built_on.is_empty())?;
    (read < BELOW_SHARE_MIN * bytes).then(|| {
        format!(
            "{:.0} MB came from {}, and what it is made of ({}) read only \
             {:.0} MB: a cache between them answered",
            bytes / 1e6,
            device.name,
            device
                .bottom()
                .iter()
                .map(|below| below.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
            read / 1e6
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn linked(name: &str, speed: &str, width: u32) -> BlockDevice {
        let link = json!({
            "current_speed": speed, "max_speed": speed,
            "current_width": width, "max_width": width,
        });
        let device = json!({
            "name": name, "kind": "nvme", "built_on": [], "pci": link,
        });
        serde_json::from_value(device).expect("a device")
    }

    fn stacked(name: &str, kind: &str, below: &[BlockDevice]) -> BlockDevice {
        let device = json!({"name": name, "kind": kind, "built_on": below});
        serde_json::from_value(device).expect("a device")
    }

    /// So much in a second, 32 ops of 4 KiB in flight.
    fn a_second(megabytes: f64) -> Moved {
        Moved {
            bytes: megabytes * 1e6,
            window_ns: 1e9,
            in_flight_bytes: 32.0 * 4096.0,
        }
    }

    #[test]
    fn more_than_a_link_carries_is_told() {
        // 8 GT/s, 128 of 130 bits, 4 lanes: 3,938 MB/s.
        let drive = linked("nvme0n1", "8.0 GT/s PCIe", 4);
        assert_eq!(above_links(&drive, a_second(3_900.0)), None);
        let reason = above_links(&drive, a_second(44_700.0)).expect("told");
        for word in ["44700 MB/s", "3938 MB/s", "nvme0n1 (8.0 GT/s PCIe x4)"] {
            assert!(reason.contains(word), "{reason}");
        }
    }

    #[test]
    fn links_of_a_stack_add_up_and_one_unknown_hides_them() {
        let two =
            ["nvme0n1", "nvme1n1"].map(|name| linked(name, "8.0 GT/s PCIe", 4));
        let raid = stacked("md0", "md", &two);
        assert_eq!(above_links(&raid, a_second(7_800.0)), None);
        assert!(above_links(&raid, a_second(8_000.0)).is_some());
        let [known, mut unknown] = two;
        unknown.pci = None;
        let raid = stacked("md0", "md", &[known, unknown]);
        assert_eq!(above_links(&raid, a_second(80_000.0)), None);
    }

    #[test]
    fn the_link_of_an_emulated_drive_says_nothing() {
        let mut drive = linked("nvme0n1", "2.5 GT/s PCIe", 1);
        drive.model = Some("QEMU NVMe Ctrl".to_owned());
        assert_eq!(above_links(&drive, a_second(9_000.0)), None);
    }

    #[test]
    fn a_loop_device_gives_no_more_than_its_file_was_read() {
        let disk = stacked("vda", "virtio", &[]);
        let looped = stacked("loop0", "loop", std::slice::from_ref(&disk));
        let read = |megabytes: f64| Some(megabytes * 1e6);
        let told = |device, below| above_those_below(device, 100e6, below);
        assert_eq!(told(&looped, read(100.0)), None);
        assert_eq!(told(&looped, read(250.0)), None, "others read as well");
        assert!(told(&looped, read(90.0)).is_some(), "a tenth was a hit");
        assert_eq!(told(&looped, None), None);
        let reason = told(&looped, read(20.0)).expect("told");
        assert!(reason.contains("(vda) read only 20 MB"), "{reason}");
        assert_eq!(told(&disk, read(0.0)), None, "the process tells");
    }
}
