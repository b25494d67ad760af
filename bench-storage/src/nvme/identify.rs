//! What a namespace and its controller say of themselves: the identify data
//! structures of the specification.

use serde::Serialize;

/// The identify command's CNS for a namespace.
pub const NAMESPACE: u8 = 0x00;
/// The same for the controller.
pub const CONTROLLER: u8 = 0x01;

/// Offsets in "Identify Namespace Data Structure".
const NSZE: usize = 0;
const NUSE: usize = 16;
const NLBAF: usize = 25;
const FLBAS: usize = 26;
const DLFEAT: usize = 33;
const LBAF0: usize = 128;
/// Bytes of a format, and how many there can be.
const LBAF_BYTES: usize = 4;
const LBAF_MAX: usize = 64;

/// Offsets in "Identify Controller Data Structure".
const VER: usize = 80;
const WCTEMP: usize = 266;
const CCTEMP: usize = 268;
const ONCS: usize = 520;
const VWC: usize = 525;
/// Bit of ONCS: dataset management, which deallocates.
const ONCS_DEALLOCATE: u16 = 1 << 2;
/// 0 °C.
const KELVIN: i32 = 273;

/// What a controller can do. Model and firmware are known from sysfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Controller {
    /// Of the specification, `1.4.0`.
    pub version: String,
    /// Whether writes may be lost without a flush.
    pub volatile_write_cache: bool,
    /// Whether blocks can be deallocated (trim).
    pub deallocates: bool,
    /// Above this it slows down; `None` where it tells none.
    pub warning_temperature_c: Option<i32>,
    /// Above this it may stop.
    pub critical_temperature_c: Option<i32>,
}

/// How a namespace is laid out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// Bytes of a logical block.
    pub lba_bytes: u64,
    /// Bytes of metadata beside each.
    pub metadata_bytes: u16,
    /// All block sizes that it could be formatted with.
    pub lba_bytes_possible: Vec<u64>,
    /// Logical blocks that can be addressed.
    pub blocks: u64,
    /// Logical blocks that are allocated, as far as the drive tells: without
    /// thin provisioning all.
    pub blocks_allocated: u64,
    /// What it promises of a deallocated block.
    pub deallocated: Deallocated,
}

/// What a read of a deallocated block brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Deallocated {
    /// It does not say.
    Unsaid,
    /// Bytes of 0.
    Zeroes,
    /// Bytes of 0xff.
    Ones,
}

/// From the namespace's answer: the lowest three bits of DLFEAT.
pub fn deallocated(data: &[u8]) -> Deallocated {
    match data.get(DLFEAT).map(|features| features & 0b111) {
        Some(1) => Deallocated::Zeroes,
        Some(2) => Deallocated::Ones,
        _ => Deallocated::Unsaid,
    }
}

/// From the controller's answer; `None` if it is too short.
pub fn controller(data: &[u8]) -> Option<Controller> {
    let version = u32::from_le_bytes(*data.get(VER..)?.first_chunk()?);
    let word = |at: usize| {
        data.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
    };
    let celsius = |at| {
        let kelvin = i32::from(word(at)?);
        (kelvin > 0).then_some(kelvin - KELVIN)
    };
    Some(Controller {
        version: format!(
            "{}.{}.{}",
            version >> 16,
            version >> 8 & 0xff,
            version & 0xff
        ),
        volatile_write_cache: data.get(VWC)? & 1 != 0,
        deallocates: word(ONCS)? & ONCS_DEALLOCATE != 0,
        warning_temperature_c: celsius(WCTEMP),
        critical_temperature_c: celsius(CCTEMP),
    })
}

/// From the namespace's answer; `None` as for `format`.
pub fn layout(data: &[u8]) -> Option<Layout> {
    let used = format(data)?;
    let word = |at: usize| {
        data.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
    };
    let mut lba_bytes_possible: Vec<u64> = (0..=usize::from(data[NLBAF]))
        .filter_map(|index| entry(data, index))
        .map(|possible| 1 << possible.block_shift)
        .collect();
    lba_bytes_possible.sort_unstable();
    lba_bytes_possible.dedup();
    Some(Layout {
        lba_bytes: 1 << used.block_shift,
        metadata_bytes: used.metadata_bytes,
        lba_bytes_possible,
        blocks: word(NSZE)?,
        blocks_allocated: word(NUSE)?,
        deallocated: deallocated(data),
    })
}

/// How a namespace is formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Binary logarithm of the bytes of a logical block.
    pub block_shift: u32,
    /// Bytes of metadata that belong to each block.
    pub metadata_bytes: u16,
}

/// The format in use, from what the namespace answered. `None` where that
/// makes no sense: a namespace that is not active answers zeros.
pub fn format(data: &[u8]) -> Option<Format> {
    let flags = *data.get(FLBAS)?;
    // Bits 3:0, and for more than 16 formats bits 6:5 above them.
    let many = *data.get(NLBAF)? >= 16;
    let upper = if many { usize::from(flags >> 5 & 0b11) << 4 } else { 0 };
    entry(data, usize::from(flags & 0b1111) | upper)
}

/// A format of those that there are.
fn entry(data: &[u8], index: usize) -> Option<Format> {
    if index >= LBAF_MAX {
        return None;
    }
    let at = LBAF0 + index * LBAF_BYTES;
    let entry: [u8; LBAF_BYTES] =
        data.get(at..at + LBAF_BYTES)?.try_into().ok()?;
    let block_shift = u32::from(entry[2]);
    // The specification has no block below 512 bytes; above 2 GiB no command
    // could state its length.
    (9..=31).contains(&block_shift).then_some(Format {
        block_shift,
        metadata_bytes: u16::from_le_bytes([entry[0], entry[1]]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A namespace with these formats, of which one is in use.
    fn data(formats: &[(u16, u8)], flags: u8) -> Vec<u8> {
        let mut data = vec![0; 4096];
        data[NLBAF] = u8::try_from(formats.len() - 1).expect("few");
        data[FLBAS] = flags;
        for (index, &(metadata, shift)) in formats.iter().enumerate() {
            let at = LBAF0 + index * LBAF_BYTES;
            data[at..at + 2].copy_from_slice(&metadata.to_le_bytes());
            data[at + 2] = shift;
        }
        data
    }

    #[test]
    fn the_format_in_use_is_found() {
        let formats = [(0, 9), (8, 9), (0, 12), (64, 12)];
        let of = |flags| format(&data(&formats, flags));
        let plain =
            |shift| Some(Format { block_shift: shift, metadata_bytes: 0 });
        assert_eq!(of(0), plain(9));
        assert_eq!(of(2), plain(12));
        let with = Format { block_shift: 12, metadata_bytes: 64 };
        // Bit 4 says where metadata goes, and bits 6:5 mean nothing here.
        assert_eq!(of(0b0111_0011), Some(with));
    }

    #[test]
    fn more_than_sixteen_formats_need_the_upper_bits() {
        let mut formats = vec![(0, 9); 20];
        formats[18] = (0, 12);
        let found = format(&data(&formats, 0b0010_0010)).expect("a format");
        assert_eq!(found.block_shift, 12);
    }

    #[test]
    fn an_inactive_namespace_has_no_format() {
        assert_eq!(format(&[0; 4096]), None);
        assert_eq!(format(&[0; 100]), None);
    }

    #[test]
    fn a_layout_lists_each_possible_size_once() {
        let mut data = data(&[(0, 9), (8, 9), (0, 12)], 2);
        data[NSZE..NSZE + 8].copy_from_slice(&327_680_u64.to_le_bytes());
        data[NUSE..NUSE + 8].copy_from_slice(&7_u64.to_le_bytes());
        let layout = layout(&data).expect("active");
        assert_eq!((layout.lba_bytes, layout.metadata_bytes), (4096, 0));
        assert_eq!(layout.lba_bytes_possible, [512, 4096]);
        assert_eq!((layout.blocks, layout.blocks_allocated), (327_680, 7));
        assert_eq!(layout.deallocated, Deallocated::Unsaid);
    }

    #[test]
    fn a_namespace_tells_what_is_left_of_a_deallocated_block() {
        let mut data = data(&[(0, 9)], 0);
        for (bits, left) in [
            (0b0000_1001, Deallocated::Zeroes),
            (0b0000_0010, Deallocated::Ones),
            (0b0000_1000, Deallocated::Unsaid),
        ] {
            data[DLFEAT] = bits;
            assert_eq!(deallocated(&data), left, "{bits:#b}");
        }
        assert_eq!(deallocated(&[]), Deallocated::Unsaid);
    }

    #[test]
    fn a_controller_tells_what_it_can_do() {
        let mut data = vec![0; 4096];
        data[VER..VER + 4].copy_from_slice(&0x0001_0400_u32.to_le_bytes());
        data[ONCS] = 0b100;
        data[VWC] = 0b111;
        data[WCTEMP..WCTEMP + 2].copy_from_slice(&343_u16.to_le_bytes());
        let found = controller(&data).expect("whole");
        assert_eq!(found.version, "1.4.0");
        assert!(found.volatile_write_cache && found.deallocates);
        assert_eq!(found.warning_temperature_c, Some(70));
        assert_eq!(found.critical_temperature_c, None);
        assert_eq!(controller(&data[..300]), None);
    }
}
