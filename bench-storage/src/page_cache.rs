//! The page cache of one file: dropping what it holds, and looking how much
//! that is.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, RawFd},
};

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Where it starts.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

impl Range {
    /// From the start to the end, wherever that is.
    pub const WHOLE: Self = Self { offset: 0, bytes: 0 };
}

/// Drops the cached pages of a range; posix_fadvise(2), POSIX_FADV_DONTNEED.
/// Dirty pages and pages that somebody has mapped or locked stay.
///
/// # Errors
/// What the system call said.
pub fn drop_range(file: &File, range: Range) -> io::Result<()> {
    advise(file.as_raw_fd(), range, libc::POSIX_FADV_DONTNEED)
}

/// No read ahead on this description: each read brings what it asked for.
///
/// # Errors
/// What the system call said.
pub fn expect_random(file: &File) -> io::Result<()> {
    advise(file.as_raw_fd(), Range::WHOLE, libc::POSIX_FADV_RANDOM)
}

fn advise(fd: RawFd, range: Range, advice: i32) -> io::Result<()> {
    let offset = i64::try_from(range.offset).map_err(io::Error::other)?;
    let bytes = i64::try_from(range.bytes).map_err(io::Error::other)?;
    // SAFETY: the call takes numbers only and touches no memory of ours.
    match unsafe { libc::posix_fadvise(fd, offset, bytes, advice) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Whether the kernel says of a description that it is O_DIRECT; fcntl(2),
/// F_GETFL.
pub fn is_passed_by(file: &File) -> bool {
    // SAFETY: the descriptor is open while `file` lives; F_GETFL takes no
    // argument and touches no memory.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    flags >= 0 && flags & libc::O_DIRECT != 0
}

/// `struct cachestat_range` of linux/mman.h.
#[repr(C)]
struct RawRange {
    offset: u64,
    bytes: u64,
}

/// `struct cachestat` of linux/mman.h, all in pages.
#[repr(C)]
#[derive(Default)]
struct RawStat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// The same number on all architectures but alpha; the libc crate does not
/// have it everywhere.
const SYS_CACHESTAT: libc::c_long = 451;

/// The share of a range that is in the page cache. `None` before Linux 6.5,
/// where a filter forbids cachestat(2), and where the file is not ours to
/// ask about.
pub fn cached_share(file: &File, range: Range) -> Option<f64> {
    // SAFETY: sysconf takes a number and touches no memory of ours.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let page = u64::try_from(page).ok().filter(|bytes| *bytes > 0)?;
    let raw = RawRange { offset: range.offset, bytes: range.bytes };
    let mut stat = RawStat::default();
    let no_flags: u32 = 0;
    // SAFETY: both structures are live and laid out as the kernel's; the
    // result is read only when the call succeeded.
    let status = unsafe {
        libc::syscall(
            SYS_CACHESTAT,
            file.as_raw_fd(),
            std::ptr::from_ref(&raw),
            std::ptr::from_mut(&mut stat),
            no_flags,
        )
    };
    let pages = range.bytes.div_ceil(page).max(1);
    (status == 0).then(|| stat.cached as f64 / pages as f64)
}

/// The share that `left` bytes are of those that were moved. A slow device
/// moves a small part of the target only; nothing is moved twice before all of
/// it was.
pub fn left_of(moved: f64, target: f64, left: f64) -> f64 {
    (left / moved.min(target).max(1.0)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_a_slow_device_left_in_the_page_cache_shows() {
        const GIB: f64 = (1_u64 << 30) as f64;
        // 30 MB of 1 GiB, all of which stay.
        assert_eq!(left_of(30e6, GIB, 30e6), 1.0);
        assert_eq!(left_of(30e6, GIB, -1e6), 0.0, "more was there before");
        // Three times round, and the last time half of it stayed.
        assert_eq!(left_of(3.0 * GIB, GIB, GIB / 2.0), 0.5);
        assert_eq!(left_of(0.0, GIB, 0.0), 0.0);
    }

    #[test]
    fn what_is_written_is_cached_and_what_is_dropped_is_not() {
        let directory = tempfile::tempdir_in(crate::testing::build_directory())
            .expect("a directory beside this test");
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.path().join("cached"))
            .expect("create");
        let half = Range { offset: 0, bytes: 1 << 20 };
        let whole = Range { offset: 0, bytes: 2 << 20 };
        file.write_all_at(&vec![1; 2 << 20], 0).expect("write");
        file.sync_all().expect("sync");
        let Some(share) = cached_share(&file, whole) else {
            eprintln!("SKIPPED: no cachestat(2)");
            return;
        };
        assert!((share - 1.0).abs() < 1e-9, "{share}");
        drop_range(&file, half).expect("fadvise");
        let share = cached_share(&file, whole).expect("as before");
        // A file system in memory keeps its pages: they are the file.
        if (share - 1.0).abs() < 1e-9 {
            eprintln!("SKIPPED: nothing can be dropped here");
            return;
        }
        assert!((share - 0.5).abs() < 0.05, "{share}");
    }
}
