//! Block devices as sysfs describes them.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::filesystem::{existing_ancestor, mount_of};
use super::{DeviceNumber, PciLink, Redacted, pci};
use crate::machine::cpu_set::NumaNode;
use crate::machine::root::Root;

/// `/sys/block/*/size` counts in these, whatever the device's block size
/// (Documentation/ABI/stable/sysfs-block).
const SECTOR_BYTES: u64 = 512;

/// Loop over device mapper over loop and so on: deeper is a garbled tree.
const STACK_MAX: usize = 8;

/// What sort of device it is.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum BlockKind {
    /// NVMe, local or over fabrics.
    Nvme,
    /// A virtual machine's paravirtual disk.
    Virtio,
    /// SCSI, SATA, SAS, USB.
    Scsi,
    /// An SD or eMMC card.
    Mmc,
    /// A file that looks like a device.
    Loop,
    /// Device mapper: LVM, dm-crypt, multipath.
    Dm,
    /// A RAID of the kernel's.
    Md,
    /// Compressed memory.
    Zram,
    /// Memory (`ram`, `pmem`).
    Memory,
    /// `null_blk`, the kernel's device without a medium.
    Null,
    /// Another machine's device, or that of a program in user space (`nbd`,
    /// `rbd`, `ublk`).
    Network,
    /// None of these.
    Other,
}

/// One whole block device (never a partition).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockDevice {
    /// The kernel's name, `nvme0n1`.
    pub name: String,
    /// The kernel's numbers.
    pub number: Option<DeviceNumber>,
    /// Which partition of it the path in question is on.
    pub partition: Option<String>,
    /// What sort of device it is.
    pub kind: BlockKind,
    /// The driver that serves it.
    pub driver: Option<String>,
    /// The maker's name for it.
    pub model: Option<String>,
    /// Firmware revision.
    pub firmware: Option<String>,
    /// Serial number; never written out.
    #[serde(skip)]
    pub serial: Option<Redacted>,
    /// Capacity.
    pub size_bytes: Option<u64>,
    /// The smallest unit that can be addressed.
    pub logical_block_bytes: Option<u32>,
    /// The smallest unit written without read-modify-write.
    pub physical_block_bytes: Option<u32>,
    /// The scheduler in use, `none` or `mq-deadline`.
    pub scheduler: Option<String>,
    /// Requests that a queue holds.
    pub nr_requests: Option<u32>,
    /// Whether the device can be polled (`IORING_SETUP_IOPOLL`).
    pub io_poll: Option<bool>,
    /// Queues that the driver was told to keep for polling (NVMe).
    pub poll_queues: Option<u32>,
    /// Queues of the NVMe controller, its admin queue included.
    pub controller_queues: Option<u32>,
    /// Hardware queues as the block layer sees them.
    pub hardware_queues: Option<u32>,
    /// Whether the kernel believes that seeks cost time.
    pub rotational: Option<bool>,
    /// `write back` or `write through`.
    pub write_cache: Option<String>,
    /// Whether it can write one block through its cache (Force Unit Access),
    /// so that this block needs no flush.
    #[serde(default)]
    pub fua: Option<bool>,
    /// Latency target of writeback throttling; 0 is off.
    pub writeback_throttle_us: Option<u64>,
    /// The node of its bus.
    pub numa_node: Option<NumaNode>,
    /// Its PCI Express link.
    pub pci: Option<PciLink>,
    /// Whether it refuses writes.
    pub read_only: Option<bool>,
    /// Whether it can be taken out.
    pub removable: Option<bool>,
    /// The file behind a loop device.
    pub backing_file: Option<PathBuf>,
    /// The devices that it is made of: the slaves of device mapper and md,
    /// the device below a loop device's file.
    pub built_on: Vec<BlockDevice>,
}

impl BlockDevice {
    /// Whether the data ends up in memory: no medium, so no device claim.
    pub fn is_memory_backed(&self) -> bool {
        matches!(
            self.kind,
            BlockKind::Zram | BlockKind::Memory | BlockKind::Null
        ) || self.built_on.iter().any(BlockDevice::is_memory_backed)
    }

    /// Whether an emulator plays it, so that its link is a fiction.
    pub fn is_emulated(&self) -> bool {
        self.model.as_ref().is_some_and(|model| model.starts_with("QEMU"))
    }

    /// Takes out what may tell of a person or a project, here and below: the
    /// name of a loop device's file.
    pub fn forget_names(&mut self) {
        self.backing_file = None;
        self.built_on.iter_mut().for_each(BlockDevice::forget_names);
    }

    /// The devices at the bottom: below loop devices, device mapper and md.
    pub fn bottom(&self) -> Vec<&BlockDevice> {
        match self.built_on.as_slice() {
            [] => vec![self],
            below => below.iter().flat_map(BlockDevice::bottom).collect(),
        }
    }
}

/// The block device below `path`: the device itself when `path` is one (also
/// an NVMe generic character device `/dev/ng0n1`), else the one that holds
/// the file. A file that does not exist yet counts as its directory.
pub fn block_device_of(root: &Root, path: &Path) -> Option<BlockDevice> {
    find_for_path(root, path, 0)
}

/// The block device with these numbers, or the whole one that a partition
/// with these numbers is on.
pub fn block_device_by_number(
    root: &Root,
    number: DeviceNumber,
) -> Option<BlockDevice> {
    find_by_number(root, number, 0)
}

/// All block devices that have a size, in the order of their names. Loop
/// devices without a file and the like have none.
pub fn block_devices(root: &Root) -> Vec<BlockDevice> {
    root.entries("sys/block")
        .iter()
        .map(|name| read_whole(root, name, 0))
        .filter(|device| device.size_bytes != Some(0))
        .collect()
}

fn find_for_path(
    root: &Root,
    path: &Path,
    depth: usize,
) -> Option<BlockDevice> {
    if !root.is_system() {
        return find_in_fixture(root, path, depth);
    }
    let full = existing_ancestor(path)?;
    let meta = std::fs::metadata(&full).ok()?;
    if meta.file_type().is_block_device() {
        let number = DeviceNumber::from_stat(meta.rdev());
        return find_by_number(root, number, depth);
    }
    if meta.file_type().is_char_device() {
        return nvme_generic(root, DeviceNumber::from_stat(meta.rdev()), depth);
    }
    let number = DeviceNumber::from_stat(meta.dev());
    find_by_number(root, number, depth).or_else(|| {
        // File systems over several devices (btrfs) have a number of their
        // own; the mount table then names one of the devices.
        let mount = mount_of(root, path)?;
        let source = Path::new(&mount.source);
        let meta = std::fs::metadata(source).ok()?;
        if !source.is_absolute() || !meta.file_type().is_block_device() {
            return None;
        }
        find_by_number(root, DeviceNumber::from_stat(meta.rdev()), depth)
    })
}

/// In a fixture the numbers of files are those of the real machine, so that
/// device files are known by their names and files by the mount table alone.
fn find_in_fixture(
    root: &Root,
    path: &Path,
    depth: usize,
) -> Option<BlockDevice> {
    let node = root
        .resolve(path)
        .map_or_else(|| path.to_owned(), |found| Path::new("/").join(found));
    if let Ok(name) = node.strip_prefix("/dev") {
        let class = Path::new("sys/class/block").join(name);
        let Some(number) = root.read(class.join("dev")) else {
            return nvme_by_generic_name(root, name.to_str()?, depth);
        };
        return find_by_number(root, DeviceNumber::parse(&number)?, depth);
    }
    find_by_number(root, mount_of(root, path)?.number?, depth)
}

fn find_by_number(
    root: &Root,
    number: DeviceNumber,
    depth: usize,
) -> Option<BlockDevice> {
    let dir = root.resolve(format!("sys/dev/block/{number}"))?;
    let name = dir.file_name()?.to_str()?.to_owned();
    if !root.exists(dir.join("partition")) {
        return Some(read_whole(root, &name, depth));
    }
    let whole = dir.parent()?.file_name()?.to_str()?;
    let mut device = read_whole(root, whole, depth);
    device.partition = Some(name);
    Some(device)
}

/// `/dev/ng0n1` is a character device beside the block device `nvme0n1`.
fn nvme_generic(
    root: &Root,
    number: DeviceNumber,
    depth: usize,
) -> Option<BlockDevice> {
    let name = root.link_name(format!("sys/dev/char/{number}"))?;
    nvme_by_generic_name(root, &name, depth)
}

fn nvme_by_generic_name(
    root: &Root,
    name: &str,
    depth: usize,
) -> Option<BlockDevice> {
    let block = format!("nvme{}", name.strip_prefix("ng")?);
    root.exists(format!("sys/block/{block}"))
        .then(|| read_whole(root, &block, depth))
}

fn read_whole(root: &Root, name: &str, depth: usize) -> BlockDevice {
    let base = PathBuf::from(format!("sys/block/{name}"));
    let real = root.resolve(&base).unwrap_or_else(|| base.clone());
    let bus = bus_path(root, &real);
    let kind = kind_of(name, &real);
    let queue = |file: &str| base.join("queue").join(file);
    let word = |file: &str| root.read_word(real.join("device").join(file));
    let backing_file =
        root.read_word(base.join("loop/backing_file")).map(PathBuf::from);
    let controller = bus.join("queue_count");
    BlockDevice {
        name: name.to_owned(),
        number: root
            .read(base.join("dev"))
            .and_then(|text| DeviceNumber::parse(&text)),
        partition: None,
        kind,
        driver: pci::driver(root, &bus).or_else(|| virtual_driver(&real)),
        model: word("model"),
        firmware: word("firmware_rev").or_else(|| word("rev")),
        serial: word("serial")
            .or_else(|| root.read_word(base.join("serial")))
            .map(Redacted::new),
        size_bytes: root
            .read_u64(base.join("size"))
            .and_then(|sectors| sectors.checked_mul(SECTOR_BYTES)),
        logical_block_bytes: root.read_u32(queue("logical_block_size")),
        physical_block_bytes: root.read_u32(queue("physical_block_size")),
        scheduler: root.read(queue("scheduler")).and_then(|text| chosen(&text)),
        nr_requests: root.read_u32(queue("nr_requests")),
        io_poll: root.read_bool(queue("io_poll")),
        poll_queues: (kind == BlockKind::Nvme)
            .then(|| root.read_u32("sys/module/nvme/parameters/poll_queues"))
            .flatten(),
        controller_queues: root.read_u32(controller),
        hardware_queues: hardware_queues(root, &base),
        rotational: root.read_bool(queue("rotational")),
        write_cache: root.read_word(queue("write_cache")),
        fua: root.read_bool(queue("fua")),
        writeback_throttle_us: root.read_u64(queue("wbt_lat_usec")),
        numa_node: pci::numa_node(root, &bus),
        pci: pci::link(root, &bus),
        read_only: root.read_bool(base.join("ro")),
        removable: root.read_bool(base.join("removable")),
        built_on: built_on(root, &base, backing_file.as_deref(), depth),
        backing_file,
    }
}

/// Where the device hangs on its bus. A multipath NVMe device lives below a
/// virtual subsystem, so its first controller is taken.
fn bus_path(root: &Root, real: &Path) -> PathBuf {
    let own =
        || root.resolve(real.join("device")).unwrap_or_else(|| real.to_owned());
    if !real.to_string_lossy().contains("/nvme-subsystem/") {
        return own();
    }
    let Some(subsystem) = real.parent() else { return own() };
    root.entries(subsystem)
        .iter()
        .filter(|name| {
            name.strip_prefix("nvme").is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit())
            })
        })
        .find_map(|name| root.resolve(subsystem.join(name)))
        .unwrap_or_else(own)
}

fn kind_of(name: &str, real: &Path) -> BlockKind {
    const PREFIXES: [(&str, BlockKind); 15] = [
        ("nvme", BlockKind::Nvme),
        ("vd", BlockKind::Virtio),
        ("sd", BlockKind::Scsi),
        ("sr", BlockKind::Scsi),
        ("mmcblk", BlockKind::Mmc),
        ("loop", BlockKind::Loop),
        ("dm-", BlockKind::Dm),
        ("md", BlockKind::Md),
        ("zram", BlockKind::Zram),
        ("ram", BlockKind::Memory),
        ("pmem", BlockKind::Memory),
        ("nullb", BlockKind::Null),
        ("nbd", BlockKind::Network),
        ("rbd", BlockKind::Network),
        ("ublkb", BlockKind::Network),
    ];
    let by_name = PREFIXES
        .iter()
        .find(|(prefix, _)| name.starts_with(prefix))
        .map(|&(_, kind)| kind);
    // A virtio disk may carry another name where udev or the driver says so.
    let on_virtio =
        real.iter().any(|part| part.to_string_lossy().starts_with("virtio"));
    match by_name {
        Some(kind) => kind,
        None if on_virtio => BlockKind::Virtio,
        None => BlockKind::Other,
    }
}

/// Virtual devices have no driver link; the stem of the name (`loop` of
/// `loop0`, `dm` of `dm-0`) is what people call the driver.
fn virtual_driver(real: &Path) -> Option<String> {
    let name = real.strip_prefix("sys/devices/virtual/block").ok()?.to_str()?;
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    Some(stem.trim_end_matches('-').to_owned())
}

/// The word in brackets of `none [mq-deadline] kyber`; a lone word is chosen.
pub(in crate::machine) fn chosen(text: &str) -> Option<String> {
    let bracketed = text
        .split_once('[')
        .and_then(|(_, rest)| Some(rest.split_once(']')?.0));
    let lone = || {
        let mut words = text.split_whitespace();
        words.next().filter(|_| words.next().is_none())
    };
    bracketed.or_else(lone).map(str::to_owned)
}

fn hardware_queues(root: &Root, base: &Path) -> Option<u32> {
    let queues = root.entries(base.join("mq"));
    u32::try_from(queues.len()).ok().filter(|&count| count > 0)
}

fn built_on(
    root: &Root,
    base: &Path,
    backing_file: Option<&Path>,
    depth: usize,
) -> Vec<BlockDevice> {
    if depth >= STACK_MAX {
        return Vec::new();
    }
    let slaves = root.entries(base.join("slaves")).into_iter();
    let mut below: Vec<BlockDevice> = slaves
        .filter_map(|name| {
            // A slave can be a partition; its own `dev` leads to the disk.
            let dev = root.read(base.join("slaves").join(&name).join("dev"));
            match dev.and_then(|text| DeviceNumber::parse(&text)) {
                Some(number) => find_by_number(root, number, depth + 1),
                None => root
                    .exists(format!("sys/block/{name}"))
                    .then(|| read_whole(root, &name, depth + 1)),
            }
        })
        .collect();
    let file = backing_file.and_then(|f| find_for_path(root, f, depth + 1));
    below.extend(file);
    below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_in_brackets_is_chosen() {
        let text = "none [mq-deadline] kyber bfq";
        assert_eq!(chosen(text).as_deref(), Some("mq-deadline"));
        assert_eq!(chosen("none").as_deref(), Some("none"));
        for bad in ["", "a b", "a [b"] {
            assert_eq!(chosen(bad), None, "{bad}");
        }
    }
}
