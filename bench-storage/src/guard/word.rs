//! The word that names one device and no other, for a person to say.

use std::fs::File;

use harness::machine::{BlockDevice, Root, devices::BlockKind};

use super::loops::Backing;

/// Digits of the serial number that the word shows: enough to tell two
/// devices of a model apart, and not the number itself.
const SERIAL_TAIL: usize = 6;

/// A shorter one is somebody's count and names too little.
const SERIAL_MIN: usize = 4;

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

/// What the medium tells of itself; where that names too little, as with
/// virtual disks, which one it is of all disks since the machine was started.
pub(super) fn of_medium(root: &Root, device: &BlockDevice) -> Option<String> {
    by_maker(root, device).or_else(|| by_sequence(root, device))
}

/// Model and the end of the serial number, in characters that need no quotes;
/// and the number of the namespace, since those of one NVMe drive share both,
/// unless it is the first.
fn by_maker(root: &Root, device: &BlockDevice) -> Option<String> {
    let namespace = root
        .read_word(format!("sys/block/{}/nsid", device.name))
        .filter(|number| number != "1")
        .map(|number| format!("-n{}", plain(&number)))
        .unwrap_or_default();
    Some(format!("{}-{}{namespace}", model(device)?, serial_tail(device)?))
}

fn model(device: &BlockDevice) -> Option<String> {
    let model = plain(device.model.as_deref()?);
    (!model.is_empty()).then_some(model)
}

fn serial_tail(device: &BlockDevice) -> Option<String> {
    let serial = plain(device.serial.as_ref()?.reveal());
    let start = serial.len().saturating_sub(SERIAL_TAIL);
    let tail = serial.get(start..)?;
    (tail.len() >= SERIAL_MIN).then(|| tail.to_owned())
}

/// The kernel's name, the number that no other disk gets until the machine is
/// started again, and which start that was: after the next one both can be
/// another disk's, and a word that was kept must not fit it.
fn by_sequence(root: &Root, device: &BlockDevice) -> Option<String> {
    let (sequence, boot) = (sequence(root, device)?, boot(root)?);
    Some(format!("{}-seq{sequence}-{boot}", plain(&device.name)))
}

/// Linux 5.15, Documentation/ABI/stable/sysfs-block.
fn sequence(root: &Root, device: &BlockDevice) -> Option<u64> {
    root.read_u64(format!("sys/block/{}/diskseq", device.name))
        .filter(|number| *number > 0)
}

/// The first eight digits of the UUID that each start draws, random(4).
fn boot(root: &Root) -> Option<String> {
    let id = root.read_word("proc/sys/kernel/random/boot_id")?;
    let first = id.split('-').next()?;
    let is_hex = first.bytes().all(|digit| digit.is_ascii_hexdigit());
    (first.len() == 8 && is_hex).then(|| first.to_owned())
}

/// What is missing where a device has none; continues a sentence about it.
pub(super) fn lack(root: &Root, device: &BlockDevice) -> String {
    if device.kind == BlockKind::Loop {
        return "does not tell the file behind it, by which its word would \
                name it"
            .to_owned();
    }
    let missing: Vec<&str> = [
        (model(device).is_none(), "no model"),
        (
            serial_tail(device).is_none(),
            "no serial number of 4 or more letters and digits",
        ),
        (sequence(root, device).is_none(), "no `diskseq` (Linux 5.15)"),
        (boot(root).is_none(), "no /proc/sys/kernel/random/boot_id"),
    ]
    .into_iter()
    .filter_map(|(is_missing, what)| is_missing.then_some(what))
    .collect();
    format!(
        "has {}, so that no word could name it and nothing else",
        missing.join(", ")
    )
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

    const TOO_LITTLE: [(Option<&str>, Option<&str>, &str); 5] = [
        (None, Some("12345678"), "has no model, no `diskseq`"),
        (Some("QEMU HARDDISK"), None, "has no serial number of 4"),
        (Some("QEMU HARDDISK"), Some(""), "has no serial number of 4"),
        (Some("QEMU HARDDISK"), Some("001"), "has no serial number of 4"),
        (Some("--"), Some("12345678"), "has no model, no `diskseq`"),
    ];

    #[test]
    fn what_names_too_little_is_no_word_and_says_what_is_missing() {
        let root = Root::at("/nonexistent");
        for (model, serial, missing) in TOO_LITTLE {
            let device = device(model, serial);
            assert_eq!(word(&device), None);
            let lack = lack(&root, &device);
            assert!(lack.starts_with(missing), "{lack}");
            assert!(lack.contains("no /proc/sys/kernel/random/boot_id"));
        }
    }

    #[test]
    fn a_disk_without_model_or_serial_is_named_by_its_number_of_this_boot() {
        let tree = tempfile::tempdir().expect("temporary directory");
        let root = Root::at(tree.path());
        let file = |path: &str, text: &str| {
            let path = tree.path().join(path);
            let parent = path.parent().expect("a directory");
            std::fs::create_dir_all(parent).expect("directories");
            std::fs::write(path, text).expect("write");
        };
        let boot_id = "proc/sys/kernel/random/boot_id";
        file("sys/block/sda/diskseq", "12\n");
        file(boot_id, "3fa9c1d2-0a1b-4c2d-8e3f-405162738495\n");
        for (model, serial, _) in TOO_LITTLE {
            let told = of_medium(&root, &device(model, serial));
            assert_eq!(told.as_deref(), Some("sda-seq12-3fa9c1d2"));
        }
        // What the maker says lasts, and goes first.
        let ssd = device(Some("Fast SSD"), Some("S012345678"));
        let told = of_medium(&root, &ssd);
        assert_eq!(told.as_deref(), Some("Fast-SSD-345678"));
        let bare = device(None, None);
        // After another start the same name and number are another word.
        file(boot_id, "00000001-0a1b-4c2d-8e3f-405162738495\n");
        let told = of_medium(&root, &bare);
        assert_eq!(told.as_deref(), Some("sda-seq12-00000001"));
        for (path, text, missing) in [
            (boot_id, "junk\n", "boot_id"),
            ("sys/block/sda/diskseq", "0\n", "`diskseq`"),
            ("sys/block/sda/diskseq", "junk\n", "`diskseq`"),
        ] {
            file(path, text);
            assert_eq!(of_medium(&root, &bare), None, "{path}: {text}");
            let lack = lack(&root, &bare);
            assert!(lack.contains(missing), "{lack}");
        }
    }
}
