//! Loop devices of a test's own, made and detached by ioctl(2), loop(4).

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

/// linux/loop.h.
const LOOP_SET_FD: libc::Ioctl = 0x4c00;
const LOOP_CLR_FD: libc::Ioctl = 0x4c01;
const LOOP_SET_STATUS64: libc::Ioctl = 0x4c04;
const LOOP_GET_STATUS64: libc::Ioctl = 0x4c05;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
/// `lo_flags`: partitions are allowed.
const LO_FLAGS_PARTSCAN: u32 = 8;

/// `_IO(0x12, 105)`, linux/blkpg.h.
const BLKPG: libc::Ioctl = 0x1269;
const BLKPG_ADD_PARTITION: i32 = 1;

/// `struct loop_info64`: `lo_flags` is the fourth of the 32-bit words that
/// follow five of 64 bits.
type LoopInfo = [u32; 58];
const LO_FLAGS: usize = 13;

/// `struct blkpg_partition`.
#[repr(C)]
struct Partition {
    start: i64,
    length: i64,
    number: i32,
    names: [u8; 128],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct PartitionRequest {
    op: i32,
    flags: i32,
    length: i32,
    data: *mut Partition,
}

/// A loop device, detached at the end.
#[derive(Debug)]
pub struct LoopDevice {
    /// `/dev/loopN`.
    pub node: PathBuf,
    device: File,
}

impl LoopDevice {
    /// A device that is made of this file, or device.
    pub fn attach(backing: &Path) -> io::Result<Self> {
        let open =
            |path: &Path| OpenOptions::new().read(true).write(true).open(path);
        let control = open(Path::new("/dev/loop-control"))?;
        let file = open(backing)?;
        // Somebody else may take the one that was free.
        for _ in 0..10 {
            // SAFETY: this request takes no argument.
            let number = check(unsafe {
                libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE)
            })?;
            let node = PathBuf::from(format!("/dev/loop{number}"));
            let device = open(&node)?;
            // SAFETY: the argument is a descriptor, open while `file` lives.
            let set = check(unsafe {
                libc::ioctl(device.as_raw_fd(), LOOP_SET_FD, file.as_raw_fd())
            });
            match set {
                Ok(_) => return Ok(Self { node, device }),
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("others took every free loop device"))
    }

    /// Adds partition 1 as addpart(8) does: no table is written.
    pub fn add_partition(&self, start: i64, length: i64) -> io::Result<()> {
        let mut info: LoopInfo = [0; 58];
        let mut partition =
            Partition { start, length, number: 1, names: [0; 128] };
        let mut request = PartitionRequest {
            op: BLKPG_ADD_PARTITION,
            flags: 0,
            length: i32::try_from(size_of::<Partition>()).expect("small"),
            data: &mut partition,
        };
        let device = self.device.as_raw_fd();
        // SAFETY: each request gets a live structure of the kernel's size,
        // and `request.data` points to another until the end.
        unsafe {
            check(libc::ioctl(device, LOOP_GET_STATUS64, &mut info))?;
            info[LO_FLAGS] |= LO_FLAGS_PARTSCAN;
            check(libc::ioctl(device, LOOP_SET_STATUS64, &mut info))?;
            check(libc::ioctl(device, BLKPG, &mut request))?;
        }
        Ok(())
    }

    /// `/dev/loopNp1`.
    pub fn partition(&self) -> PathBuf {
        PathBuf::from(format!("{}p1", self.node.display()))
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // SAFETY: this request takes no argument that is looked at.
        let status =
            unsafe { libc::ioctl(self.device.as_raw_fd(), LOOP_CLR_FD, 0) };
        if status != 0 {
            eprintln!("could not detach {}", self.node.display());
        }
    }
}

fn check(status: i32) -> io::Result<i32> {
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(status) }
}
