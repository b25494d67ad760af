//! The word that names one device and no other, for a person to say.

use std::{fs::File, os::fd::AsRawFd};

use harness::machine::{BlockDevice, devices::BlockKind};

/// Why a device has none.
pub(super) const LACK: &str = "tells no model and serial number, so that \
     no word could name it and nothing else";

/// Digits of the serial number that the word shows: enough to tell two
/// devices of a model apart, and not the number itself.
const SERIAL_TAIL: usize = 6;

/// `LOOP_GET_STATUS64`, linux/loop.h.
const LOOP_GET_STATUS64: libc::Ioctl = 0x4c05;

/// `struct loop_info64`, linux/loop.h, as far as it matters here.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rest: [u64; 27],
}

const _: () = assert!(size_of::<LoopInfo>() == 232);

/// The word of a device that is open as `file`.
pub(super) fn of(device: &BlockDevice, file: &File) -> Option<String> {
    match device.kind {
        BlockKind::Loop => Some(format!("loop-inode-{}", backing_inode(file)?)),
        _ => of_medium(device),
    }
}

/// Model and the end of the serial number, in characters that need no quotes.
pub(super) fn of_medium(device: &BlockDevice) -> Option<String> {
    let model = plain(device.model.as_deref()?);
    let serial = plain(device.serial.as_ref()?.reveal());
    let start = serial.len().saturating_sub(SERIAL_TAIL);
    let tail = serial.get(start..)?;
    (!model.is_empty() && tail.len() >= 4).then(|| format!("{model}-{tail}"))
}

fn plain(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    words.join("-")
}

/// The inode of the file behind a loop device.
fn backing_inode(file: &File) -> Option<u64> {
    let mut info = LoopInfo { device: 0, inode: 0, rest: [0; 27] };
    // SAFETY: the descriptor is open while `file` lives; the kernel writes a
    // `struct loop_info64`, as long as this one, and nothing else.
    let status = unsafe {
        libc::ioctl(file.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info)
    };
    (status == 0).then_some(info.inode)
}

#[cfg(test)]
mod tests {
    use harness::machine::devices::Redacted;

    use super::*;

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
        let word = of_medium(&ssd).expect("a word");
        assert_eq!(word, "Samsung-SSD-990-PRO-2TB-J0W123");
        let odd = device(Some(" a'b\"; rm -rf /"), Some("x y z 1 2"));
        let word = of_medium(&odd).expect("a word");
        assert!(word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
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
            assert_eq!(of_medium(&device(model, serial)), None);
        }
    }
}
