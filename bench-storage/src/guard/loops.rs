//! What loop devices are made of, as the kernel knows it: a path in sysfs is
//! one name of the file among others (hard links, bind mounts), and means
//! nothing where the device was made in another mount namespace.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::Path,
};

use harness::machine::{
    BlockDevice, Root,
    devices::{BlockKind, DeviceNumber},
};

/// `LOOP_GET_STATUS64`, linux/loop.h.
const LOOP_GET_STATUS64: libc::Ioctl = 0x4c05;

/// `struct loop_info64`, linux/loop.h, as far as it matters here.
#[repr(C)]
pub(super) struct Backing {
    /// The device that the file is on, as stat(2) numbers it.
    pub(super) device: u64,
    /// The file.
    pub(super) inode: u64,
    /// The device that the file itself is, or 0.
    is_device: u64,
    rest: [u64; 26],
}

const _: () = assert!(size_of::<Backing>() == 232);

impl Backing {
    /// Of the loop device that is open as `loop_device`.
    pub(super) fn of(loop_device: &File) -> io::Result<Self> {
        let mut info =
            Self { device: 0, inode: 0, is_device: 0, rest: [0; 26] };
        let descriptor = loop_device.as_raw_fd();
        // SAFETY: the descriptor is open while `loop_device` lives; the kernel
        // writes a `struct loop_info64`, as long as this one, and no more.
        let status = unsafe {
            libc::ioctl(descriptor, LOOP_GET_STATUS64, &raw mut info)
        };
        match status {
            0 => Ok(info),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Which other loop devices are made of the device that is open as `file`, or
/// of the same file as it. In a fixture no kernel can be asked.
pub(super) fn reasons(
    root: &Root,
    device: &BlockDevice,
    file: &File,
) -> Vec<String> {
    if !root.is_system() {
        return Vec::new();
    }
    let own = match device.kind {
        BlockKind::Loop => Backing::of(file).ok(),
        _ => None,
    };
    let mut reasons = Vec::new();
    for name in root.entries("sys/block") {
        let bound = root.exists(format!("sys/block/{name}/loop/backing_file"));
        if !bound || name == device.name {
            continue;
        }
        match backing_of(&name) {
            Ok(other) if is_made_of(&other, device, own.as_ref()) => {
                reasons.push(format!("is also what {name} is made of"));
            }
            Ok(_) => {}
            // Taken apart since it was listed: loop(4).
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {}
            Err(error) => reasons.push(format!(
                "may be what {name} is made of, which cannot be asked: {error}"
            )),
        }
    }
    reasons
}

fn backing_of(name: &str) -> io::Result<Backing> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(Path::new("/dev").join(name))?;
    Backing::of(&file)
}

fn is_made_of(
    other: &Backing,
    device: &BlockDevice,
    own: Option<&Backing>,
) -> bool {
    let number = DeviceNumber::from_stat(other.is_device);
    let of_device = other.is_device != 0 && device.number == Some(number);
    let same_file = own.is_some_and(|own| {
        (own.device, own.inode) == (other.device, other.inode)
    });
    of_device || same_file
}
