//! The word that names one device and no other, for a person to say.

use std::fs::File;

use harness::machine::{BlockDevice, Root, devices::BlockKind};

use super::loops::Backing;

/// Why a device has none.
pub(super) const LACK: &str = "tells no model and serial number, so that \
     no word could name it and nothing else";

/// Digits of the serial number that the word shows: enough to tell two
/// devices of a model apart, and not the number itself.
const SERIAL_TAIL: usize = 6;

/// The word of a device that is open as `file`.
pub(super) fn of(
    root: &Root,
    device: &BlockDevice,
    file: &File,
) -> Option<String> {
    match device.kind {
        BlockKind::Loop => {
            let Backing { device, inode, .. } = Backing::of(file).ok()?;
            Some(format!("loop-{device:x}-{inode}"))
        }
        _ => of_medium(root, device),
    }
}

/// Model and the end of the serial number, in characters that need no quotes;
/// and the number of the namespace, since those of one NVMe drive share both,
/// unless it is the first.
pub(super) fn of_medium(root: &Root, device: &BlockDevice) -> Option<String> {
    let namespace = root
        .read_word(format!("sys/block/{}/nsid", device.name))
        .filter(|number| number != "1")
        .map(|number| format!("-n{}", plain(&number)))
        .unwrap_or_default();
    let model = plain(device.model.as_deref()?);
    let serial = plain(device.serial.as_ref()?.reveal());
    let start = serial.len().saturating_sub(SERIAL_TAIL);
    let tail = serial.get(start..)?;
    (!model.is_empty() && tail.len() >= 4)
        .then(|| format!("{model}-{tail}{namespace}"))
}

fn plain(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    words.join("-")
}

#[cfg(test)]
mod tests {
    use harness::machine::devices::Redacted;

    use super::*;

    fn word(device: &BlockDevice) -> Option<String> {
        of_medium(&Root::at("/nonexistent"), device)
    }

    fn device(model: Option<&str>, serial: Option<&str>) -> BlockDevice {
        let json = serde_json::json!({
            "name": "sda", "kind": "scsi", "built_on": [], "model": model,
        });
        let mut device: BlockDevice =
            serde_json::from_value(json).expect("a device");
        device.serial = serial.map(|s| Redacted::new(s.to_owned()));
        device
    }

    #[test]
    fn a_word_is_the_model_and_the_end_of_the_serial() {
        let ssd = device(Some("Samsung SSD 990 PRO 2TB"), Some("S7KHNJ0W123"));
        let told = word(&ssd).expect("a word");
        assert_eq!(told, "Samsung-SSD-990-PRO-2TB-J0W123");
        let odd = device(Some(" a'b\"; rm -rf /"), Some("x y z 1 2"));
        let told = word(&odd).expect("a word");
        assert!(told.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
    }

    #[test]
    fn what_names_too_little_is_no_word() {
        for (model, serial) in [
            (None, Some("12345678")),
            (Some("QEMU HARDDISK"), None),
            (Some("QEMU HARDDISK"), Some("")),
            (Some("QEMU HARDDISK"), Some("001")),
            (Some("--"), Some("12345678")),
        ] {
            assert_eq!(word(&device(model, serial)), None);
        }
    }
}
