//! Device nodes: which paths are some, and opening the device itself.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use harness::machine::{BlockDevice, Buffer, Root, devices::DeviceNumber};

use crate::contents::BLOCK_BYTES;

/// Whether a path leads to a device node, and not to a file on a device. In a
/// fixture that is whatever lies below `dev/`.
pub(super) fn is_device(root: &Root, path: &Path) -> bool {
    if root.is_system() {
        return path.metadata().is_ok_and(|metadata| {
            let kind = metadata.file_type();
            kind.is_block_device() || kind.is_char_device()
        });
    }
    root.resolve(path).is_some_and(|found| found.starts_with("dev"))
}

/// Opens a whole device so that nobody else can mount it, use it for swap or
/// build on it: with O_EXCL, open(2) says EBUSY where somebody does already,
/// in whatever mount namespace.
///
/// # Errors
/// Why it cannot be opened so, in words.
pub(super) fn open_exclusive(
    root: &Root,
    device: &BlockDevice,
    write: bool,
) -> Result<File, String> {
    let node = node_of(device);
    // A fixture's file may be on a file system that lacks it.
    let direct = if write && root.is_system() { libc::O_DIRECT } else { 0 };
    let mut options = OpenOptions::new();
    options.read(true).write(write).custom_flags(
        libc::O_EXCL | libc::O_NONBLOCK | libc::O_CLOEXEC | direct,
    );
    let file = unless_busy(|| options.open(root.path(&node)))
        .map_err(|error| explain(&node, &error))?;
    if root.is_system() {
        let number = file
            .metadata()
            .map(|metadata| DeviceNumber::from_stat(metadata.rdev()))
            .map_err(|error| explain(&node, &error))?;
        if Some(number) != device.number {
            return Err(format!(
                "is not what {} now leads to ({number})",
                node.display()
            ));
        }
    }
    Ok(file)
}

/// Whether somebody, such as the run, has a device to himself.
pub(super) fn is_held(path: &Path) -> bool {
    let mut options = OpenOptions::new();
    let flags = libc::O_EXCL | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let tried = options.read(true).custom_flags(flags).open(path);
    tried.is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY))
}

/// How often, and how long apart, a busy device is asked for again. Who only
/// looks at it, as `list --devices` does, has let go by then; who uses it, not.
const BUSY_ATTEMPTS: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

fn unless_busy<T>(mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..BUSY_ATTEMPTS {
        match open() {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                thread::sleep(BUSY_PAUSE);
            }
            other => return other,
        }
    }
    open()
}

/// The kernel writes `!` in names where the node has a slash.
fn node_of(device: &BlockDevice) -> PathBuf {
    Path::new("/dev").join(device.name.replace('!', "/"))
}

fn explain(node: &Path, error: &io::Error) -> String {
    let name = node.display();
    match error.raw_os_error() {
        Some(libc::EBUSY) => format!(
            "is in use: opening {name} with O_EXCL says EBUSY (a mount, \
             perhaps in another namespace, swap, RAID, LVM or ZFS)"
        ),
        Some(libc::EACCES | libc::EPERM) => {
            format!("cannot be looked at: this user may not open {name}")
        }
        _ => format!("cannot be opened: {name} with O_EXCL: {error}"),
    }
}

/// A device's size, or that of the file that stands in for it.
pub(super) fn size(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

/// Reads any part of a device, also one that is open with O_DIRECT, which
/// wants whole blocks in aligned memory.
pub(super) fn reader(
    file: &File,
) -> impl FnMut(u64, &mut [u8]) -> io::Result<()> {
    const BLOCK: u64 = BLOCK_BYTES as u64;
    let mut buffer = Buffer::new(2 * BLOCK_BYTES, BLOCK_BYTES, None)
        .map_err(|error| error.to_string());
    let mut held: Option<(u64, usize)> = None;
    move |offset, part| {
        let buffer =
            buffer.as_mut().map_err(|e| io::Error::other(e.clone()))?;
        let start = offset / BLOCK * BLOCK;
        let skip = usize::try_from(offset - start).map_err(io::Error::other)?;
        let end = skip + part.len();
        if held.is_none_or(|(at, length)| at != start || length < end) {
            // A device that is no multiple of a block long ends early.
            let length = file.read_at(buffer, start)?;
            held = Some((start, length));
            if length < end {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        part.copy_from_slice(&buffer[skip..end]);
        Ok(())
    }
}
