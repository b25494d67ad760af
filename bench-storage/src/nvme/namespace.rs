//! The namespace below a target, by its generic character device.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use harness::{
    machine::{
        BlockDevice, Root,
        devices::{BlockKind, DeviceNumber, block_device_by_number},
    },
    uring::probe::Lack,
};

use super::{command, identify};
use crate::{
    contents::BLOCK_BYTES,
    target::{self, Target},
};

const NAME_DEVICE: &str = "`--target` with the whole namespace, such as \
     /dev/nvme0n1: it is opened for reading only";

const NAME_DEVICE_AND_WORD: &str = "`--target` with the whole namespace, such \
     as /dev/nvme0n1, and its word: `bypass list --devices` tells both";

/// A namespace that commands can be passed through to.
#[derive(Debug)]
pub struct Namespace {
    /// Its node.
    pub path: PathBuf,
    /// Its character device, open for reading; for writing too where it came
    /// from `to_write`.
    pub file: File,
    /// Its id on its controller.
    pub id: u32,
    /// Binary logarithm of the bytes of a logical block.
    pub block_shift: u32,
}

impl Namespace {
    /// Opens the character device of the namespace that a target is.
    ///
    /// # Errors
    /// What is missing: the target is a file or a partition, it is no NVMe
    /// namespace, the kernel has no such node for it, or it may not be used.
    pub fn of(root: &Root, target: &Target) -> Result<Self, Lack> {
        let device = whole_namespace(target)?;
        let (path, file) = open_generic(root, device)?;
        Self::behind(path, file)
    }

    /// The same for writing: only of a block device that the session holds
    /// for writing, which the guard has cleared and whose word was said.
    ///
    /// # Errors
    /// As `of`; the target may not be written, or the node is not that of the
    /// device which is held.
    pub fn to_write(root: &Root, target: &Target) -> Result<Self, Lack> {
        let lack = |reason: String| Lack {
            reason,
            remedy: NAME_DEVICE_AND_WORD.to_owned(),
        };
        let device =
            whole_namespace(target).map_err(|found| lack(found.reason))?;
        target::may_write(root, target)
            .map_err(|error| lack(error.to_string()))?;
        // What the target says of its device is only said; what is open tells.
        let held = held_device(root, target);
        let Some(held) = held.filter(|held| held.name == device.name) else {
            return Err(lack(format!(
                "{} is not {}",
                target.path.display(),
                device.name
            )));
        };
        let (name, number) = node_number(root, &held)?;
        let path = PathBuf::from(format!("/dev/{name}"));
        let file = open(&path, number, true)?;
        let found = Self::behind(path, file)?;
        found.is_of(root, target, &held)?;
        Ok(found)
    }

    /// Whether the node leads to the device that the session holds: its
    /// controller and the number of its namespace are the same. As long as
    /// that device is open, the kernel gives both to no other.
    fn is_of(
        &self,
        root: &Root,
        target: &Target,
        device: &BlockDevice,
    ) -> Result<(), Lack> {
        let held = target::open(target)
            .and_then(|file| command::namespace_id(&file))
            .map_err(|error| Lack {
                reason: format!("{}: {error}", target.label),
                remedy: "a device that is still there".to_owned(),
            })?;
        let generic =
            generic_name(device).unwrap_or_else(|| device.name.clone());
        let controllers = [
            format!("sys/block/{}/device", device.name),
            format!("sys/class/nvme-generic/{generic}/device"),
        ]
        .map(|path| root.path(path).canonicalize().ok());
        let [of_device, of_node] = controllers;
        if held == self.id && of_device.is_some() && of_device == of_node {
            return Ok(());
        }
        Err(Lack {
            reason: format!(
                "{} is not the node of {}, which is held for writing: \
                 namespace {} of {of_node:?}, not {held} of {of_device:?}",
                self.path.display(),
                device.name,
                self.id,
            ),
            remedy: "the node that the kernel makes for it".to_owned(),
        })
    }

    /// Asks the open node what it leads to.
    fn behind(path: PathBuf, file: File) -> Result<Self, Lack> {
        let refused = |error: io::Error| explain(&path, &error);
        let id = command::namespace_id(&file).map_err(refused)?;
        let data = command::identify(&file, id, identify::NAMESPACE)
            .map_err(refused)?;
        let format = identify::format(&data).ok_or_else(|| Lack {
            reason: format!(
                "{} does not say how it is formatted",
                path.display()
            ),
            remedy: "a namespace that is attached and formatted".to_owned(),
        })?;
        let block_shift = usable(&path, format)?;
        Ok(Self { path, file, id, block_shift })
    }

    /// What the error of a command means.
    pub fn explain(&self, error: &io::Error) -> Lack {
        explain(&self.path, error)
    }

    /// The number of the logical block at an offset in bytes.
    #[inline(always)]
    pub fn block_at(&self, offset: u64) -> u64 {
        offset >> self.block_shift
    }

    /// Logical blocks of an op, where a command can state that many.
    pub fn blocks(&self, op_bytes: usize) -> Option<u16> {
        u16::try_from(op_bytes >> self.block_shift).ok().filter(|&n| n > 0)
    }
}

/// The whole block device that a target's descriptor is open on.
fn held_device(root: &Root, target: &Target) -> Option<BlockDevice> {
    let metadata = std::fs::metadata(&target.path).ok()?;
    if !metadata.file_type().is_block_device() {
        return None;
    }
    let number = DeviceNumber::from_stat(metadata.rdev());
    block_device_by_number(root, number)
        .filter(|device| device.partition.is_none())
}

/// Opens the character device beside a namespace's block device.
///
/// # Errors
/// The kernel has none, or it may not be read.
pub(super) fn open_generic(
    root: &Root,
    device: &BlockDevice,
) -> Result<(PathBuf, File), Lack> {
    let (name, number) = node_number(root, device)?;
    let path = PathBuf::from(format!("/dev/{name}"));
    let file = open(&path, number, false)?;
    Ok((path, file))
}

/// The name of the character device beside a block device: `ng0n1` beside
/// `nvme0n1`.
fn generic_name(device: &BlockDevice) -> Option<String> {
    let name = device.name.strip_prefix("nvme")?;
    (device.kind == BlockKind::Nvme).then(|| format!("ng{name}"))
}

/// The device that the target is, if it is a whole namespace.
fn whole_namespace(target: &Target) -> Result<&BlockDevice, Lack> {
    let lack = |reason: String| Lack { reason, remedy: NAME_DEVICE.to_owned() };
    if let Some(filesystem) = &target.filesystem {
        return Err(lack(format!(
            "the target is a file on {filesystem}: commands that are passed \
             through name blocks of the namespace, not of a file"
        )));
    }
    let Some(device) = &target.device else {
        return Err(lack(format!("nothing is known of {}", target.label)));
    };
    if device.kind != BlockKind::Nvme {
        return Err(lack(format!("{} is no NVMe namespace", device.name)));
    }
    if let Some(partition) = &device.partition {
        return Err(lack(format!(
            "{partition} is a partition: commands that are passed through \
             name blocks of the whole namespace"
        )));
    }
    Ok(device)
}

/// The node's name and number, as sysfs has them.
fn node_number(
    root: &Root,
    device: &BlockDevice,
) -> Result<(String, DeviceNumber), Lack> {
    let name = generic_name(device).unwrap_or_else(|| device.name.clone());
    root.read(format!("sys/class/nvme-generic/{name}/dev"))
        .and_then(|text| DeviceNumber::parse(&text))
        .map(|number| (name.clone(), number))
        .ok_or_else(|| Lack {
            reason: format!(
                "/sys/class/nvme-generic has no {name}: the kernel offers no \
                 character device for {}",
                device.name
            ),
            remedy: "Linux 5.13 or later, and a namespace whose command set \
                     and format the kernel knows"
                .to_owned(),
        })
}

/// Opens the node, if it leads to the device with that number.
fn open(path: &Path, number: DeviceNumber, write: bool) -> Result<File, Lack> {
    let file = OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(libc::O_CLOEXEC)
        .open(path)
        .map_err(|error| explain(path, &error))?;
    let metadata = file.metadata().map_err(|error| explain(path, &error))?;
    let is_it = metadata.file_type().is_char_device()
        && DeviceNumber::from_stat(metadata.rdev()) == number;
    if is_it {
        return Ok(file);
    }
    Err(Lack {
        reason: format!("{} is not the device {number}", path.display()),
        remedy: "the node that udev makes for it".to_owned(),
    })
}

/// The block size, where ops are whole blocks of nothing but data.
fn usable(path: &Path, format: identify::Format) -> Result<u32, Lack> {
    let name = path.display();
    let reformat = "another namespace, or, if all that is on it may be lost, \
                    another format (`nvme format`)";
    if format.metadata_bytes > 0 {
        return Err(Lack {
            reason: format!(
                "{name} is formatted with {} bytes of metadata for each block",
                format.metadata_bytes
            ),
            remedy: reformat.to_owned(),
        });
    }
    if 1_usize << format.block_shift > BLOCK_BYTES {
        return Err(Lack {
            reason: format!(
                "{name} has blocks of {} bytes, larger than an op",
                1_u64 << format.block_shift
            ),
            remedy: reformat.to_owned(),
        });
    }
    Ok(format.block_shift)
}

/// What the error of a command that was passed through means.
pub(super) fn explain(path: &Path, error: &io::Error) -> Lack {
    let name = path.display();
    let remedy = match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            "run as root; since Linux 6.2 a user who may read the node may \
             pass reads through"
        }
        Some(libc::ENOENT) => "a /dev that has the kernel's nodes (devtmpfs)",
        Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL) => {
            "Linux 5.19 or later; with fixed buffers or polling 6.1"
        }
        _ => "look into the kernel log for what the device said",
    };
    Lack { reason: format!("{name}: {error}"), remedy: remedy.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Writable;

    /// A machine with an NVMe drive and a partition on it.
    fn machine() -> (tempfile::TempDir, Root) {
        let tree = tempfile::tempdir().expect("temporary directory");
        let file = |path: &str, text: &str| {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent"))
                .expect("directories");
            std::fs::write(path, text).expect("write");
        };
        file("sys/class/nvme-generic/ng0n1/dev", "242:0\n");
        let root = Root::at(tree.path());
        (tree, root)
    }

    fn target(name: &str, kind: &str) -> Target {
        let device = serde_json::json!({
            "name": name, "kind": kind, "built_on": [],
        });
        serde_json::from_value(serde_json::json!({
            "path": "/proc/self/fd/9",
            "bytes": 1 << 30,
            "contents": { "kind": "foreign" },
            "device": device,
            "interrupts": [],
            "label": "a target",
        }))
        .expect("a target")
    }

    fn reason(root: &Root, target: &Target) -> String {
        let lack = Namespace::of(root, target).expect_err("not usable");
        assert!(!lack.remedy.is_empty());
        lack.reason
    }

    #[test]
    fn what_is_no_whole_namespace_says_so() {
        let (_tree, root) = machine();
        let whole = target("nvme0n1", "nvme");
        let file =
            Target { filesystem: Some("ext4".to_owned()), ..whole.clone() };
        assert!(reason(&root, &file).contains("a file on ext4"));
        let mut part = whole.clone();
        if let Some(device) = &mut part.device {
            device.partition = Some("nvme0n1p1".to_owned());
        }
        assert!(reason(&root, &part).contains("nvme0n1p1 is a partition"));
        let disk = target("sda", "scsi");
        assert!(reason(&root, &disk).contains("sda is no NVMe namespace"));
        let other = target("nvme1n1", "nvme");
        assert!(reason(&root, &other).contains("has no ng1n1"));
        let nothing = Target { device: None, ..whole };
        assert!(reason(&root, &nothing).contains("nothing is known"));
    }

    #[test]
    fn what_the_session_may_only_read_is_not_opened_to_write() {
        let (_tree, root) = machine();
        let whole = target("nvme0n1", "nvme");
        let lack = Namespace::to_write(&root, &whole).expect_err("no word");
        assert!(lack.reason.contains("may be read, not written"), "{lack:?}");
        assert!(lack.remedy.contains("list --devices"), "{lack:?}");
        // Said by a specification, and held by nobody.
        let said = Target { writable: Some(Writable::default()), ..whole };
        let lack = Namespace::to_write(&root, &said).expect_err("not held");
        assert!(lack.reason.contains("not inherited"), "{lack:?}");
    }

    #[test]
    fn the_node_must_be_the_device_that_the_kernel_names() {
        let lack =
            open(Path::new("/dev/null"), DeviceNumber::from_stat(0), false)
                .expect_err("another device");
        assert!(lack.reason.contains("/dev/null is not the device"));
        assert!(open(Path::new("/dev/null"), null_number(), false).is_ok());
    }

    fn null_number() -> DeviceNumber {
        let metadata = std::fs::metadata("/dev/null").expect("/dev/null");
        DeviceNumber::from_stat(metadata.rdev())
    }

    #[test]
    fn formats_that_cannot_be_read_plainly_are_lacking() {
        let of = |block_shift, metadata_bytes| {
            let format = identify::Format { block_shift, metadata_bytes };
            usable(Path::new("/dev/ng0n1"), format)
        };
        assert_eq!(of(9, 0), Ok(9));
        assert_eq!(of(12, 0), Ok(12));
        assert!(of(12, 8).expect_err("metadata").reason.contains("8 bytes"));
        assert!(of(14, 0).expect_err("large").reason.contains("16384"));
    }

    #[test]
    fn each_error_has_a_next_step() {
        for (errno, step) in [
            (libc::EACCES, "as root"),
            (libc::ENOENT, "devtmpfs"),
            (libc::EOPNOTSUPP, "5.19"),
            (libc::EIO, "kernel log"),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            let lack = explain(Path::new("/dev/ng0n1"), &error);
            assert!(lack.remedy.contains(step), "{lack:?}");
        }
    }
}
