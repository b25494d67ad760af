//! What says of itself that a device is somebody's: the marks that file
//! systems, RAID, encryption, volume managers, swap and partition tables put
//! at fixed places.
//!
//! Places and bytes are those of util-linux, libblkid/src/superblocks/*.c and
//! libblkid/src/partitions/*.c (August 2026), where nothing else is named. A
//! mark alone is enough to refuse: whether what follows it makes sense is for
//! those to judge who want to use it. Backups count as well, since they are
//! what a person with a damaged disk has left.

use std::{io, ops::Range};

/// Where a mark stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Bytes from the device's start.
    Start(u64),
    /// Bytes before its end.
    End(u64),
}

use At::{End, Start};

/// One mark.
#[derive(Clone, Copy, Debug)]
struct Mark {
    name: &'static str,
    at: At,
    bytes: &'static [u8],
}

const fn mark(name: &'static str, at: At, bytes: &'static [u8]) -> Mark {
    Mark { name, at, bytes }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Marks at fixed places.
const MARKS: &[Mark] = &[
    mark("an MBR or boot sector", Start(510), b"\x55\xaa"),
    // UEFI 2.10, 5.3.2: the header is the second block, its backup the last.
    mark("a GPT", Start(512), b"EFI PART"),
    mark("a GPT", Start(4 * KIB), b"EFI PART"),
    mark("a backup GPT", End(512), b"EFI PART"),
    mark("a backup GPT", End(4 * KIB), b"EFI PART"),
    mark("an Apple partition map", Start(512), b"PM\0\0"),
    mark("a BSD disk label", Start(512), b"\x57\x45\x56\x82"),
    mark("a BSD disk label", Start(64), b"\x57\x45\x56\x82"),
    mark("a Sun disk label", Start(508), b"\xda\xbe"),
    mark("an SGI disk label", Start(0), b"\x0b\xe5\xa9\x41"),
    mark("ext2, ext3 or ext4", Start(KIB + 56), b"\x53\xef"),
    mark("XFS", Start(0), b"XFSB"),
    // btrfs_sb_offset in the kernel: the copies stand at 64 MiB and 256 GiB.
    mark("btrfs", Start(64 * KIB + 64), b"_BHRfS_M"),
    mark("a copy of btrfs", Start(64 * MIB + 64), b"_BHRfS_M"),
    mark("a copy of btrfs", Start(256 * GIB + 64), b"_BHRfS_M"),
    mark("F2FS", Start(KIB), b"\x10\x20\xf5\xf2"),
    mark("a copy of F2FS", Start(5 * KIB), b"\x10\x20\xf5\xf2"),
    mark("bcache", Start(4 * KIB + 24), BCACHE),
    mark("bcachefs", Start(4 * KIB + 24), BCACHEFS),
    mark("a copy of bcachefs", Start(2 * MIB + 24), BCACHEFS),
    mark("JFS", Start(32 * KIB), b"JFS1"),
    mark("NILFS2", Start(KIB + 6), b"\x34\x34"),
    mark("ReiserFS", Start(64 * KIB + 52), b"ReIsEr"),
    mark("ReiserFS", Start(8 * KIB + 52), b"ReIsEr"),
    mark("Reiser4", Start(64 * KIB), b"ReIsEr4"),
    mark("GFS2", Start(64 * KIB), b"\x01\x16\x19\x70"),
    mark("OCFS2", Start(KIB), b"OCFSV2"),
    mark("OCFS2", Start(2 * KIB), b"OCFSV2"),
    mark("OCFS2", Start(4 * KIB), b"OCFSV2"),
    mark("OCFS2", Start(8 * KIB), b"OCFSV2"),
    mark("Oracle ASM", Start(32), b"ORCLDISK"),
    mark("EROFS", Start(KIB), b"\xe2\xe1\xf5\xe0"),
    mark("squashfs", Start(0), b"hsqs"),
    mark("cramfs", Start(0), b"\x45\x3d\xcd\x28"),
    mark("minix", Start(KIB + 16), b"\x7f\x13"),
    mark("minix", Start(KIB + 16), b"\x8f\x13"),
    mark("minix", Start(KIB + 16), b"\x68\x24"),
    mark("minix", Start(KIB + 16), b"\x78\x24"),
    mark("minix", Start(KIB + 24), b"\x5a\x4d"),
    mark("ISO 9660", Start(32 * KIB + 1), b"CD001"),
    mark("UDF", Start(32 * KIB + 1), b"BEA01"),
    mark("UDF", Start(32 * KIB + 1), b"NSR0"),
    mark("FAT", Start(0x36), b"FAT"),
    mark("FAT", Start(0x52), b"FAT32"),
    mark("NTFS", Start(3), b"NTFS    "),
    mark("exFAT", Start(3), b"EXFAT   "),
    mark("ReFS", Start(0), b"\0\0\0ReFS\0"),
    mark("BitLocker", Start(3), b"-FVE-FS-"),
    mark("HFS", Start(KIB), b"BD"),
    mark("HFS+", Start(KIB), b"H+"),
    mark("HFSX", Start(KIB), b"HX"),
    mark("APFS", Start(32), b"NXSB"),
    mark("BeFS", Start(32), b"BFS1"),
    mark("BeFS", Start(544), b"BFS1"),
    mark("UFS1", Start(8 * KIB + 1372), b"\x54\x19\x01\x00"),
    mark("UFS2", Start(64 * KIB + 1372), b"\x19\x01\x54\x19"),
    mark("VMFS", Start(MIB), b"\x0d\xd0\x01\xc0"),
    mark("VMFS", Start(2 * MIB), b"\x5e\xf1\xab\x2f"),
    mark("Ceph BlueStore", Start(0), b"bluestore block device"),
    // A physical volume's label is in one of the first four sectors.
    mark("an LVM physical volume", Start(0), b"LABELONE"),
    mark("an LVM physical volume", Start(512), b"LABELONE"),
    mark("an LVM physical volume", Start(1024), b"LABELONE"),
    mark("an LVM physical volume", Start(1536), b"LABELONE"),
    mark("LUKS", Start(0), b"LUKS\xba\xbe"),
    // LUKS2_HDR2_OFFSETS: where the second header may stand.
    mark("a LUKS2 second header", Start(0x4000), b"SKUL\xba\xbe"),
    mark("a LUKS2 second header", Start(0x8000), b"SKUL\xba\xbe"),
    mark("a LUKS2 second header", Start(0x1_0000), b"SKUL\xba\xbe"),
    mark("a LUKS2 second header", Start(0x2_0000), b"SKUL\xba\xbe"),
    mark("a LUKS2 second header", Start(0x4_0000), b"SKUL\xba\xbe"),
    mark("a LUKS2 second header", Start(0x8_0000), b"SKUL\xba\xbe"),
    mark("a LUKS2 second header", Start(0x10_0000), b"SKUL\xba\xbe"),
    mark("a LUKS2 second header", Start(0x20_0000), b"SKUL\xba\xbe"),
    mark("a LUKS2 second header", Start(0x40_0000), b"SKUL\xba\xbe"),
    mark("dm-verity", Start(0), b"verity\0\0"),
    mark("dm-integrity", Start(0), b"integrt\0"),
    mark("VDO", Start(0), b"dmvdo001"),
    mark("a device-mapper snapshot", Start(0), b"SnAp"),
    mark("Stratis", Start(516), b"!Stra0tis\x86\xff\x02^Arh"),
    mark("Stratis", Start(4612), b"!Stra0tis\x86\xff\x02^Arh"),
    // md 1.1 at the start, 1.2 at 4 KiB; those at the end are `md_at_end`.
    mark("a member of an md RAID", Start(0), MD_LITTLE),
    mark("a member of an md RAID", Start(4 * KIB), MD_LITTLE),
    mark("a member of a DDF RAID", End(512), b"\xde\x11\xde\x11"),
    mark("a member of a DDF RAID", End(512), b"\x11\xde\x11\xde"),
    mark("a member of an Intel RAID", End(1024), b"Intel Raid ISM Cfg Sig. "),
    mark("DRBD", End(4 * KIB - 60), b"\x83\x74\x02"),
    // The mark ends a page, of 4 to 64 KiB, of the machine that made it.
    mark("swap", Start(4 * KIB - 10), b"SWAP"),
    mark("swap", Start(8 * KIB - 10), b"SWAP"),
    mark("swap", Start(16 * KIB - 10), b"SWAP"),
    mark("swap", Start(32 * KIB - 10), b"SWAP"),
    mark("swap", Start(64 * KIB - 10), b"SWAP"),
    mark("a hibernated system", Start(4 * KIB - 10), b"S1SUSPEND"),
    mark("a hibernated system", Start(4 * KIB - 10), b"S2SUSPEND"),
    mark("a hibernated system", Start(4 * KIB - 10), b"ULSUSPEND"),
    mark("a hibernated system", Start(4 * KIB - 10), b"LINHIB0001"),
    // A loop device may be made of the file of a virtual machine: QEMU,
    // block/{qcow2.h,vmdk.c,vhdx.h,vpc.c,vdi.c}.
    mark("a qcow2 image", Start(0), b"QFI\xfb"),
    mark("a VMDK image", Start(0), b"KDMV"),
    mark("a VHDX image", Start(0), b"vhdxfile"),
    mark("a VHD image", Start(0), b"conectix"),
    mark("a VHD image", End(512), b"conectix"),
    mark("a VDI image", Start(64), b"\x7f\x10\xda\xbe"),
    // sqlite.org/fileformat.html, 1.3.
    mark("an SQLite database", Start(0), b"SQLite format 3\0"),
];

const BCACHE: &[u8] =
    b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
const BCACHEFS: &[u8] =
    b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef";

/// MD_SB_MAGIC in both byte orders.
const MD_LITTLE: &[u8] = b"\xfc\x4e\x2b\xa9";
const MD_BIG: &[u8] = b"\xa9\x2b\x4e\xfc";

/// UBERBLOCK_MAGIC of ZFS in both byte orders.
const ZFS_LITTLE: &[u8] = b"\x0c\xb1\xba\x00\0\0\0\0";
const ZFS_BIG: &[u8] = b"\0\0\0\0\x00\xba\xb1\x0c";

/// A ZFS label is as long; two stand at the start and two at the end, and
/// uberblocks fill the second half of each, a KiB apart or more.
const ZFS_LABEL: u64 = 256 * KIB;
const ZFS_UBERBLOCKS: Range<u64> = 128 * KIB..ZFS_LABEL;

/// A mark that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose it is.
    pub name: &'static str,
    /// Where it stands, in bytes.
    pub offset: u64,
}

/// All marks on a device of `size` bytes, of which `read` fills a buffer from
/// an offset. Places beyond its end hold none.
///
/// # Errors
/// A place that could not be read, which may hold a mark.
pub fn find(
    size: u64,
    mut read: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut look = |name, offset: Option<u64>, bytes: &[u8]| {
        let length = bytes.len() as u64;
        let Some(offset) = offset.filter(|at| at + length <= size) else {
            return Ok(());
        };
        let mut there = [0; 32];
        let there = &mut there[..bytes.len()];
        read(offset, there)?;
        if there == bytes {
            found.push(Found { name, offset });
        }
        io::Result::Ok(())
    };
    for mark in MARKS {
        let offset = match mark.at {
            Start(at) => Some(at),
            End(before) => size.checked_sub(before),
        };
        look(mark.name, offset, mark.bytes)?;
    }
    for offset in md_at_end(size) {
        for magic in [MD_LITTLE, MD_BIG] {
            look("a member of an md RAID", offset, magic)?;
        }
    }
    for label in zfs_labels(size) {
        for slot in ZFS_UBERBLOCKS.step_by(1024) {
            for magic in [ZFS_LITTLE, ZFS_BIG] {
                look("ZFS", label.map(|label| label + slot), magic)?;
            }
        }
    }
    found.dedup_by_key(|found| found.name);
    Ok(found)
}

/// md 0.90 in the last whole 64 KiB, md 1.0 at least 8 KiB before the end;
/// md(4).
fn md_at_end(size: u64) -> [Option<u64>; 2] {
    const RESERVED: u64 = 64 * KIB;
    let old = (size & !(RESERVED - 1)).checked_sub(RESERVED);
    let sectors = (size / 512).checked_sub(16).map(|last| last & !7);
    [old, sectors.map(|sector| sector * 512)]
}

fn zfs_labels(size: u64) -> [Option<u64>; 4] {
    let size = size & !(ZFS_LABEL - 1);
    [
        Some(0),
        Some(ZFS_LABEL),
        size.checked_sub(2 * ZFS_LABEL),
        size.checked_sub(ZFS_LABEL),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 300 * GIB + 12_288;

    /// What is found on a device of zeros with these bytes written to it.
    fn on(size: u64, parts: &[(u64, &[u8])]) -> Vec<Found> {
        let read = |offset: u64, buffer: &mut [u8]| {
            let end = offset + buffer.len() as u64;
            assert!(end <= size, "read beyond the end");
            for (place, byte) in (offset..).zip(buffer) {
                let part = parts.iter().find_map(|(start, bytes)| {
                    let index = place.checked_sub(*start)?;
                    bytes.get(usize::try_from(index).ok()?)
                });
                *byte = part.copied().unwrap_or(0);
            }
            Ok(())
        };
        find(size, read).expect("readable")
    }

    #[test]
    fn zeros_bear_no_mark_whatever_the_size() {
        for size in [0, 1, 511, 512, 4096, 65_535, 1 << 20, SIZE] {
            assert!(on(size, &[]).is_empty(), "{size}");
        }
    }

    #[test]
    fn each_mark_is_found_where_it_stands() {
        for mark in MARKS {
            let offset = match mark.at {
                Start(at) => at,
                End(before) => SIZE - before,
            };
            let found = on(SIZE, &[(offset, mark.bytes)]);
            assert!(
                found
                    .iter()
                    .any(|found| found.name == mark.name
                        && found.offset == offset),
                "{mark:?}: {found:?}"
            );
        }
    }

    #[test]
    fn marks_that_depend_on_the_size_are_found() {
        // 12 KiB over a multiple of 64 KiB, so that the places differ.
        let old_md = SIZE - 12_288 - 65_536;
        let new_md = SIZE - 8_192;
        let last_label = 300 * GIB - ZFS_LABEL;
        for (offset, bytes, name) in [
            (old_md, MD_LITTLE, "a member of an md RAID"),
            (old_md, MD_BIG, "a member of an md RAID"),
            (new_md, MD_LITTLE, "a member of an md RAID"),
            (128 * KIB, ZFS_LITTLE, "ZFS"),
            (ZFS_LABEL + 255 * KIB, ZFS_BIG, "ZFS"),
            (last_label + 200 * KIB, ZFS_LITTLE, "ZFS"),
            (last_label - ZFS_LABEL + 128 * KIB, ZFS_BIG, "ZFS"),
        ] {
            let found = on(SIZE, &[(offset, bytes)]);
            assert_eq!(found, [Found { name, offset }]);
        }
    }

    #[test]
    fn a_mark_one_byte_off_is_none() {
        assert!(on(SIZE, &[(1, b"XFSB".as_slice())]).is_empty());
        assert!(on(SIZE, &[(0, b"XFS".as_slice())]).is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let unreadable =
            |_: u64, _: &mut [u8]| Err(io::Error::from_raw_os_error(libc::EIO));
        assert!(find(1 << 20, unreadable).is_err());
    }
}
