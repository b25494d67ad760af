//! What a namespace says of itself: the identify data structure of the NVM
//! command set.

/// The identify command's CNS for a namespace.
pub const NAMESPACE: u8 = 0x00;

/// Offsets in the data structure ("Identify Namespace Data Structure").
const NLBAF: usize = 25;
const FLBAS: usize = 26;
const LBAF0: usize = 128;
/// Bytes of a format, and how many there can be.
const LBAF_BYTES: usize = 4;
const LBAF_MAX: usize = 64;

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
    let index = usize::from(flags & 0b1111) | upper;
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
}
