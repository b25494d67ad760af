//! The system calls of this layer, each as one safe function.
//!
//! The NUMA calls have no wrapper in the C library (libnuma brings its own),
//! so they go through `syscall(2)`; constants are from
//! `include/uapi/linux/mempolicy.h`.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::NonNull;

use super::cpu_set::{Cpu, CpuSet, NumaNode};

/// `MPOL_BIND`: allocate on the given nodes or fail.
const MPOL_BIND: libc::c_long = 2;
/// `MPOL_MF_STRICT | MPOL_MF_MOVE`: move pages that are elsewhere already,
/// and fail when one cannot be moved.
const MPOL_MF_STRICT_MOVE: libc::c_long = 1 | 2;

/// The first mask size tried, enough for 1,024 CPUs.
const MASK_START_BYTES: usize = 128;
/// The last mask size tried, enough for 524,288 CPUs.
const MASK_END_BYTES: usize = 64 * 1024;

/// The calling thread's affinity mask. The kernel answers EINVAL while the
/// mask is shorter than its own, so the mask grows until it fits.
pub(super) fn affinity() -> io::Result<CpuSet> {
    let mut bytes = MASK_START_BYTES;
    loop {
        let mut words = vec![0u64; bytes / size_of::<u64>()];
        // SAFETY: `words` owns `bytes` writable bytes, aligned for the
        // kernel's unsigned longs, and outlives the call.
        let written = unsafe {
            libc::syscall(
                libc::SYS_sched_getaffinity,
                0,
                bytes,
                words.as_mut_ptr(),
            )
        };
        if written >= 0 {
            return Ok(CpuSet::from_words(&words));
        }
        let error = io::Error::last_os_error();
        let too_short = error.raw_os_error() == Some(libc::EINVAL);
        if !too_short || bytes >= MASK_END_BYTES {
            return Err(error);
        }
        bytes *= 2;
    }
}

/// Sets the calling thread's affinity mask.
pub(super) fn set_affinity(cpus: &CpuSet) -> io::Result<()> {
    let words = cpus.to_words();
    // SAFETY: `words` holds the stated number of readable bytes and outlives
    // the call; the kernel reads CPUs past its end as absent.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            0,
            words.len() * size_of::<u64>(),
            words.as_ptr(),
        )
    };
    check(result).map(drop)
}

/// The CPU and node that the calling thread runs on at this moment.
pub(super) fn current_place() -> io::Result<(Cpu, NumaNode)> {
    let (mut cpu, mut node) = (0u32, 0u32);
    // SAFETY: both pointers are to locals of the size that the kernel writes
    // (unsigned int); the third argument has been unused since Linux 2.6.24.
    let result = unsafe {
        libc::syscall(
            libc::SYS_getcpu,
            &raw mut cpu,
            &raw mut node,
            std::ptr::null::<u8>(),
        )
    };
    check(result)?;
    Ok((Cpu(cpu), NumaNode(node)))
}

/// Bytes in a page.
pub(super) fn page_bytes() -> usize {
    // SAFETY: sysconf(3) reads a constant and takes no pointer.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    // POSIX gives every system a page size; 4 KiB is the least that Linux has.
    usize::try_from(bytes).unwrap_or(4096)
}

/// An anonymous private mapping that the kernel fills with zeros on touch.
pub(super) fn map_anonymous(bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice touches no
    // existing memory.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address.cast()).ok_or_else(|| io::ErrorKind::Other.into())
}

/// Gives a mapping back.
///
/// # Safety
/// `[start, start + bytes)` must be whole pages of mappings that the caller
/// owns, and nothing may use them afterwards.
pub(super) unsafe fn unmap(start: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller owns the pages and no longer uses them. An error
    // could only mean that this contract is broken.
    let result = unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
    debug_assert_eq!(result, 0, "munmap of an owned mapping");
}

/// Binds the pages of `region` to `node`, moving those already elsewhere.
/// `region` must start on a page.
pub(super) fn bind(region: &mut [u8], node: NumaNode) -> io::Result<()> {
    // One bit per node, as long as this node needs.
    let mask = CpuSet::single(Cpu(node.0)).to_words();
    // The kernel takes one bit less than `maxnode` says (get_nodes() in
    // mm/mempolicy.c decrements it), hence the one more.
    let max_node = mask.len() * 64 + 1;
    // SAFETY: `region` is memory that the caller may write; a policy moves its
    // pages without changing their contents. `mask` outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            region.as_mut_ptr(),
            region.len(),
            MPOL_BIND,
            mask.as_ptr(),
            max_node,
            MPOL_MF_STRICT_MOVE,
        )
    };
    check(result).map(drop)
}

/// Locks the pages of `region` in memory.
pub(super) fn lock(region: &[u8]) -> io::Result<()> {
    // SAFETY: locking changes neither contents nor mapping; an address range
    // that is not mapped would be an error, not a fault.
    let result = unsafe { libc::mlock(region.as_ptr().cast(), region.len()) };
    check(result.into()).map(drop)
}

/// Asks on which node each of `pages` is: a node number, or a negative errno
/// (-ENOENT for a page that is not there). Moves nothing.
pub(super) fn nodes_of_pages(pages: &[*const u8]) -> io::Result<Vec<i32>> {
    let mut status = vec![-libc::ENOENT; pages.len()];
    // SAFETY: both arrays have `pages.len()` entries; with a null node list the
    // kernel only looks the addresses up and never dereferences them for us.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            0,
            pages.len(),
            pages.as_ptr(),
            std::ptr::null::<i32>(),
            status.as_mut_ptr(),
            0,
        )
    };
    check(result).map(|_| status)
}

/// The soft and hard limit of memory that may be locked; `u64::MAX` is no
/// limit.
pub(super) fn memlock_limit() -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a local of the type that the call writes.
    let result =
        unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    check(result.into())?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Sets the soft limit of memory that may be locked.
pub(super) fn set_memlock_limit(soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is a local that the call only reads.
    let result =
        unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    check(result.into()).map(drop)
}

/// Whether `io_uring_setup(2)` makes a ring of one entry. It is closed again.
pub(super) fn try_io_uring() -> io::Result<()> {
    // Larger than `struct io_uring_params` (120 bytes, fixed as kernel ABI);
    // all zero asks for no feature.
    let mut params = [0u64; 16];
    // SAFETY: `params` is a local that holds the structure which the call
    // reads and writes, and outlives the call.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr())
    })?;
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call above has just made this descriptor, and nothing else
    // knows it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}

/// Whether something keeps the time of day in step (adjtimex(2)). Changes
/// nothing: no mode is set.
pub(super) fn is_clock_synchronised() -> io::Result<bool> {
    // SAFETY: `timex` is numbers and padding, for which all zero is valid.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `state` is a local of the type that the call reads and writes.
    let status = unsafe { libc::adjtimex(&raw mut state) };
    check(status.into())?;
    Ok(state.status & libc::STA_UNSYNC == 0)
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
