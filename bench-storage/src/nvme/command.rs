//! Commands as linux/nvme_ioctl.h defines them.

use std::{fs::File, io, os::fd::AsRawFd};

/// NVM command set: flush, write, read, dataset management.
const FLUSH: u8 = 0x00;
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;
const DATASET_MANAGEMENT: u8 = 0x09;
/// In cdw11 of dataset management: the ranges hold nothing of value.
const DEALLOCATE: u32 = 1 << 2;
/// Admin command set: get log page, identify, get features.
const GET_LOG_PAGE: u8 = 0x02;
const IDENTIFY: u8 = 0x06;
const GET_FEATURES: u8 = 0x0a;
/// The feature "Volatile Write Cache", whose lowest bit says that it is on.
const WRITE_CACHE: u32 = 0x06;
/// In place of a namespace's id: the whole controller.
const ALL_NAMESPACES: u32 = u32::MAX;

/// `NVME_URING_CMD_IO`: `_IOWR('N', 0x80, struct nvme_uring_cmd)`.
pub const URING_CMD_IO: u32 = 0xc048_4e80;
/// `NVME_IOCTL_ID`: `_IO('N', 0x40)`.
const IOCTL_ID: libc::Ioctl = 0x4e40;
/// `NVME_IOCTL_ADMIN_CMD`: `_IOWR('N', 0x41, struct nvme_admin_cmd)`.
const IOCTL_ADMIN_CMD: libc::Ioctl = 0xc048_4e41_u32 as libc::Ioctl;

/// How long the kernel waits for an admin command.
const ADMIN_TIMEOUT_MS: u32 = 5_000;

/// `struct nvme_uring_cmd`, and `struct nvme_passthru_cmd` of the ioctl, which
/// differ in the last field alone.
///
/// | offset | field |
/// |---|---|
/// | 0 | opcode, flags, reserved |
/// | 4 | namespace id |
/// | 8 | cdw2, cdw3 |
/// | 16 | metadata |
/// | 24 | address of the data |
/// | 32 | bytes of metadata, of data |
/// | 40 | cdw10 to cdw15 |
/// | 64 | timeout in milliseconds |
/// | 68 | result of the ioctl, or reserved |
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Command {
    opcode: u8,
    flags: u8,
    reserved: u16,
    namespace: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    address: u64,
    metadata_bytes: u32,
    data_bytes: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    result: u32,
}

/// Bytes of a command.
pub const BYTES: usize = 72;
const _: () = assert!(size_of::<Command>() == BYTES);
const _: () = assert!(std::mem::offset_of!(Command, cdw10) == FIRST_BLOCK_AT);

/// Where in a command the number of the first logical block stands that it
/// reads: cdw10 has the lower half, cdw11 the upper one.
pub const FIRST_BLOCK_AT: usize = 40;

impl Command {
    /// A read of `blocks` logical blocks into `data_bytes` at `address`; the
    /// first block's number is 0 until it is set.
    pub fn read(
        namespace: u32,
        address: *mut u8,
        data_bytes: u32,
        blocks: u16,
    ) -> Self {
        Self::transfer(READ, namespace, address, data_bytes, blocks)
    }

    /// The same as a write of what stands at `address`.
    pub fn write(
        namespace: u32,
        address: *mut u8,
        data_bytes: u32,
        blocks: u16,
    ) -> Self {
        Self::transfer(WRITE, namespace, address, data_bytes, blocks)
    }

    fn transfer(
        opcode: u8,
        namespace: u32,
        address: *mut u8,
        data_bytes: u32,
        blocks: u16,
    ) -> Self {
        Self {
            opcode,
            namespace,
            address: address.expose_provenance() as u64,
            data_bytes,
            // The command counts from 0: NVM command set, figure of "Read -
            // Command Dword 12".
            cdw12: u32::from(blocks.saturating_sub(1)),
            ..Self::default()
        }
    }

    /// Empties the drive's volatile cache.
    pub fn flush(namespace: u32) -> Self {
        Self { opcode: FLUSH, namespace, ..Self::default() }
    }

    /// Deallocates the one range that stands at `address` as [`range`] makes
    /// it.
    pub fn deallocate(namespace: u32, address: *mut u8) -> Self {
        Self {
            opcode: DATASET_MANAGEMENT,
            namespace,
            address: address.expose_provenance() as u64,
            data_bytes: RANGE_BYTES,
            // Ranges, counted from 0.
            cdw10: 0,
            cdw11: DEALLOCATE,
            ..Self::default()
        }
    }

    /// The command as it stands in a ring's entry.
    pub fn bytes(self) -> [u8; BYTES] {
        // SAFETY: the structure has 72 bytes, as asserted, all of them in
        // fields of plain numbers without padding between them.
        unsafe { std::mem::transmute(self) }
    }
}

/// Bytes of a range of dataset management.
pub const RANGE_BYTES: u32 = 16;

/// A range as dataset management takes it: attributes, number of blocks, first
/// block ("Dataset Management - Range Definition").
pub fn range(first: u64, blocks: u32) -> [u8; RANGE_BYTES as usize] {
    let mut bytes = [0; RANGE_BYTES as usize];
    bytes[4..8].copy_from_slice(&blocks.to_le_bytes());
    bytes[8..].copy_from_slice(&first.to_le_bytes());
    bytes
}

/// Asks for the id of the namespace behind an open node.
///
/// # Errors
/// What ioctl(2) said: ENOTTY where it is no NVMe namespace.
pub fn namespace_id(node: &File) -> io::Result<u32> {
    // SAFETY: the descriptor is open while `node` lives; the request takes no
    // argument.
    let id = unsafe { libc::ioctl(node.as_raw_fd(), IOCTL_ID) };
    if id < 0 {
        return Err(io::Error::last_os_error());
    }
    u32::try_from(id).map_err(io::Error::other)
}

/// Asks the controller behind an open node to describe a namespace or itself;
/// `what` is the CNS of the identify command.
///
/// # Errors
/// What ioctl(2) said, or the command's status.
pub fn identify(node: &File, namespace: u32, what: u8) -> io::Result<Vec<u8>> {
    Ok(admin(node, IDENTIFY, namespace, u32::from(what), 4_096)?.0)
}

/// Asks the controller behind an open node whether its volatile write cache is
/// on.
///
/// # Errors
/// As `log_page`; a drive without such a cache has no such feature.
pub fn write_cache_is_on(node: &File) -> io::Result<bool> {
    let (_, value) = admin(node, GET_FEATURES, 0, WRITE_CACHE, 0)?;
    Ok(value & 1 != 0)
}

/// Asks the controller behind an open node for the beginning of a log page.
///
/// # Errors
/// As `identify`. The kernel lets only root ask.
pub fn log_page(node: &File, page: u8, bytes: u32) -> io::Result<Vec<u8>> {
    // The number of 32-bit words, counted from 0, stands in the upper half.
    let words = bytes / 4 - 1;
    let what = u32::from(page) | words << 16;
    Ok(admin(node, GET_LOG_PAGE, ALL_NAMESPACES, what, bytes)?.0)
}

/// The data that comes back, and the first word of the completion.
fn admin(
    node: &File,
    opcode: u8,
    namespace: u32,
    cdw10: u32,
    bytes: u32,
) -> io::Result<(Vec<u8>, u32)> {
    let mut data = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    let mut command = Command {
        opcode,
        namespace,
        address: data.as_mut_ptr().expose_provenance() as u64,
        data_bytes: bytes,
        cdw10,
        timeout_ms: ADMIN_TIMEOUT_MS,
        ..Command::default()
    };
    // SAFETY: the descriptor is open while `node` lives; the command is a live
    // structure of the size that the request's number states, and names a
    // buffer of as many bytes as it says, which outlives the call.
    let status = unsafe {
        libc::ioctl(node.as_raw_fd(), IOCTL_ADMIN_CMD, &raw mut command)
    };
    match status {
        0 => Ok((data, command.result)),
        status if status > 0 => Err(io::Error::other(super::status::text(
            u16::try_from(status).unwrap_or(u16::MAX),
        ))),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_where_the_kernel_looks_for_them() {
        let address = std::ptr::without_provenance_mut(0x1234_5000);
        let bytes = Command::read(7, address, 4096, 8).bytes();
        let word = |at: usize| {
            u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
        };
        assert_eq!((bytes[0], bytes[1]), (0x02, 0));
        assert_eq!((word(4), word(24), word(36)), (7, 0x1234_5000, 4096));
        assert_eq!((word(40), word(44), word(48)), (0, 0, 7));
        assert_eq!((word(64), word(68)), (0, 0));
        let written = Command::write(7, address, 4096, 8).bytes();
        assert_eq!((written[0], &written[1..]), (0x01, &bytes[1..]));
    }

    #[test]
    fn a_deallocate_names_its_range_and_a_flush_nothing() {
        let address = std::ptr::without_provenance_mut(0x5000);
        let command = Command::deallocate(2, address);
        assert_eq!((command.opcode, command.namespace), (0x09, 2));
        assert_eq!((command.address, command.data_bytes), (0x5000, 16));
        assert_eq!((command.cdw10, command.cdw11), (0, 4));
        let range = range(0x1_0000_0002, 128);
        assert_eq!(range[..8], [0, 0, 0, 0, 128, 0, 0, 0]);
        assert_eq!(range[8..], [2, 0, 0, 0, 1, 0, 0, 0]);
        let flush = Command { namespace: 2, ..Command::default() };
        assert_eq!(Command::flush(2), flush);
    }
}
