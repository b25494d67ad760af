//! Which extents a file consists of: whether writing to it is overwriting, or
//! allocating and converting as well.

use std::{fs::File, io, os::fd::AsRawFd};

use serde::Serialize;

/// `_IOWR('f', 11, struct fiemap)`, linux/fs.h.
const FS_IOC_FIEMAP: libc::Ioctl = 0xc020_660b_u32 as libc::Ioctl;

/// linux/fiemap.h: no extent lies behind this one.
const LAST: u32 = 0x1;
/// Its place is not known yet.
const UNKNOWN: u32 = 0x2;
/// It has no place yet.
const DELAYED: u32 = 0x4;
/// It has a place, and reads as zeros until it is written.
const UNWRITTEN: u32 = 0x800;
/// Another place, of this file or another, has it as well.
const SHARED: u32 = 0x2000;

/// Extents asked for at once.
const ROOM: u32 = 64;
const BATCH: usize = ROOM as usize;

/// How a file lies on its device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Extents {
    /// Extents in all.
    pub count: usize,
    /// Those that have no place or were never written: the first write there
    /// also changes metadata.
    pub unwritten: usize,
    /// Those that other places share: nothing was copied there.
    pub shared: usize,
}

/// `struct fiemap` with room for extents, linux/fiemap.h.
#[repr(C)]
struct Request {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    room: u32,
    reserved: u32,
    extents: [Extent; BATCH],
}

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

const _: () = assert!(size_of::<Extent>() == 56);

/// The extents of a file.
///
/// # Errors
/// What ioctl(2) said; EOPNOTSUPP where the file system cannot tell.
pub fn of(file: &File) -> io::Result<Extents> {
    let mut found = Extents::default();
    let mut start = 0;
    loop {
        let mut request = Request {
            start,
            length: u64::MAX - start,
            flags: 0,
            mapped: 0,
            room: ROOM,
            reserved: 0,
            extents: [Extent::default(); BATCH],
        };
        // SAFETY: the descriptor is open while `file` lives; the request is a
        // live `struct fiemap` followed by room for as many extents as it
        // says, which is all that the kernel writes to.
        let status = unsafe {
            libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &raw mut request)
        };
        if status != 0 {
            return Err(io::Error::last_os_error());
        }
        let mapped = usize::try_from(request.mapped).unwrap_or(0).min(BATCH);
        let extents = &request.extents[..mapped];
        found.count += mapped;
        found.unwritten += extents
            .iter()
            .filter(|e| e.flags & (UNKNOWN | DELAYED | UNWRITTEN) != 0)
            .count();
        let is_shared = |e: &&Extent| e.flags & SHARED != 0;
        found.shared += extents.iter().filter(is_shared).count();
        match extents.last() {
            Some(last) if last.flags & LAST == 0 => {
                start = last.logical + last.length;
            }
            _ => return Ok(found),
        }
    }
}
