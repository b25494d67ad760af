//! The socket calls of AF_XDP, each as one safe function.
//!
//! Layouts and numbers are those of `include/uapi/linux/if_xdp.h`, through
//! the libc crate.

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr::NonNull,
};

use harness::machine::Buffer;

/// Since Linux 6.17: how many frames one `sendto` sends in copy mode.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

#[expect(clippy::cast_possible_truncation, reason = "AF_XDP is 44")]
const FAMILY: u16 = libc::AF_XDP as u16;

/// A socket of the calling thread's network namespace.
pub(super) fn socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe {
        libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it for this caller alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set<T>(
    socket: BorrowedFd<'_>,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the kernel reads the stated number of bytes of a reference that
    // outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            option,
            (&raw const *value).cast(),
            length::<T>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// # Safety
/// Every bit pattern, zeros included, is a `T`.
unsafe fn get<T>(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<T> {
    // SAFETY: zeros are a `T`, as the caller promises.
    let mut value: T = unsafe { mem::zeroed() };
    let mut bytes = length::<T>();
    // SAFETY: the kernel writes at most `bytes` to a local of that size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            option,
            (&raw mut value).cast(),
            &raw mut bytes,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "structures of a few dozen bytes"
)]
fn length<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

/// Registers memory in chunks; its pages are pinned and accounted.
///
/// # Safety
/// The caller keeps `memory` until the socket is closed, and forms no
/// reference to a chunk while the kernel has it.
pub(super) unsafe fn register_memory(
    socket: BorrowedFd<'_>,
    memory: &Buffer,
    chunk_bytes: u32,
) -> io::Result<()> {
    let registration = libc::xdp_umem_reg {
        addr: memory.as_non_null().as_ptr().expose_provenance() as u64,
        len: memory.len() as u64,
        chunk_size: chunk_bytes,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    set(socket, libc::XDP_UMEM_REG, &registration)
}

/// One of the four rings.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    Fill,
    Completion,
    Receive,
    Transmit,
}

impl Which {
    fn option(self) -> libc::c_int {
        match self {
            Self::Fill => libc::XDP_UMEM_FILL_RING,
            Self::Completion => libc::XDP_UMEM_COMPLETION_RING,
            Self::Receive => libc::XDP_RX_RING,
            Self::Transmit => libc::XDP_TX_RING,
        }
    }

    #[expect(
        clippy::cast_possible_wrap,
        reason = "page offsets of at most 0x1_8000_0000"
    )]
    fn page_offset(self) -> libc::off64_t {
        match self {
            Self::Fill => libc::XDP_UMEM_PGOFF_FILL_RING as libc::off64_t,
            Self::Completion => {
                libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off64_t
            }
            Self::Receive => libc::XDP_PGOFF_RX_RING,
            Self::Transmit => libc::XDP_PGOFF_TX_RING,
        }
    }
}

/// Makes a ring of so many entries, a power of two.
pub(super) fn make_ring(
    socket: BorrowedFd<'_>,
    which: Which,
    entries: u32,
) -> io::Result<()> {
    set(socket, which.option(), &entries)
}

/// Where the kernel has put the parts of each ring within its mapping.
pub(super) fn offsets(
    socket: BorrowedFd<'_>,
) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: it consists of integers. Kernels before 5.4 write a shorter form
    // without `flags`; they know no need_wakeup, and the bind says so.
    unsafe { get(socket, libc::XDP_MMAP_OFFSETS) }
}

/// What the kernel counted.
pub(super) fn statistics(
    socket: BorrowedFd<'_>,
) -> io::Result<libc::xdp_statistics> {
    // SAFETY: it consists of integers.
    unsafe { get(socket, libc::XDP_STATISTICS) }
}

/// Whether the bound socket is in zero-copy mode.
pub(super) fn is_zero_copy(socket: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: it consists of an integer.
    let options: libc::xdp_options = unsafe { get(socket, libc::XDP_OPTIONS) }?;
    Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
}

/// Asks for more frames per `sendto`. Before `bind`.
pub(super) fn set_send_budget(
    socket: BorrowedFd<'_>,
    frames: u32,
) -> io::Result<()> {
    set(socket, XDP_MAX_TX_SKB_BUDGET, &frames)
}

/// Binds to a queue of an interface of the calling thread's namespace.
pub(super) fn bind(
    socket: BorrowedFd<'_>,
    interface: u32,
    queue: u32,
    flags: u16,
) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: FAMILY,
        sxdp_flags: flags,
        sxdp_ifindex: interface,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    // SAFETY: the kernel reads the stated number of bytes of a local.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            length::<libc::sockaddr_xdp>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the kernel look at the transmit ring.
#[inline(always)]
pub(super) fn kick(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: nothing is sent from here, so there are no pointers.
    let result = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            std::ptr::null(),
            0,
            libc::MSG_DONTWAIT,
            std::ptr::null(),
            0,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the driver look at the fill ring.
#[cold]
pub(super) fn wake_receiver(socket: BorrowedFd<'_>) {
    // What it says does not matter: there is nothing to be read this way, and
    // a driver that did not wake up will be woken again.
    //
    // SAFETY: nothing is received here, so there are no pointers.
    unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            std::ptr::null_mut(),
            0,
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
}

/// Memory shared with the kernel: one ring.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it owns its pages; what is read and written through it goes through
// the one ring that owns it.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps a ring that was made before.
    pub(super) fn of_ring(
        socket: BorrowedFd<'_>,
        which: Which,
        bytes: usize,
    ) -> io::Result<Self> {
        // Populated, or the first use of each page would fault in the loop.
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        Self::map(bytes, flags, socket.as_raw_fd(), which.page_offset())
    }

    /// Zeros, to play the kernel's part in tests.
    #[cfg(test)]
    pub(super) fn anonymous(bytes: usize) -> Self {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        Self::map(bytes, flags, -1, 0).expect("memory")
    }

    fn map(
        bytes: usize,
        flags: libc::c_int,
        fd: libc::c_int,
        offset: libc::off64_t,
    ) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches
        // no existing memory.
        let address = unsafe {
            libc::mmap64(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                fd,
                offset,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(address.cast())
            .ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { start, bytes })
    }

    /// A pointer to `count` values of `T` at `offset`.
    ///
    /// # Panics
    /// They are not all inside and aligned: the kernel contradicts itself.
    pub(super) fn at<T>(&self, offset: u64, count: usize) -> NonNull<T> {
        let offset = usize::try_from(offset).expect("an offset in memory");
        let end = offset.checked_add(count * size_of::<T>());
        assert!(end.is_some_and(|end| end <= self.bytes), "inside the ring");
        // SAFETY: `offset` was just found to be inside the mapping.
        let pointer = unsafe { self.start.add(offset) }.cast::<T>();
        assert!(pointer.is_aligned(), "aligned by the kernel");
        pointer
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the pages are this mapping's own, and the ring that points
        // into them owns it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
