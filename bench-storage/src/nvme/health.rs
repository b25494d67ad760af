//! What a drive says of its state: the "SMART / Health Information" log page
//! (NVM Express base specification).

use serde::Serialize;

/// The log page's identifier.
pub const PAGE: u8 = 0x02;
/// Its length.
pub const BYTES: u32 = 512;

/// Units of data are 1,000 times 512 bytes.
const DATA_UNIT_BYTES: u64 = 512_000;

/// 0 °C.
const KELVIN: i32 = 273;

/// Temperature, wear, and what the drive has done in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Bits of what is critical; 0 is nothing.
    pub critical_warning: u8,
    /// Of the whole controller; `None` where it tells none.
    pub temperature_c: Option<i32>,
    /// Spare capacity that is left.
    pub spare_percent: u8,
    /// Below this the drive warns.
    pub spare_threshold_percent: u8,
    /// Of the life that the maker expects; may exceed 100.
    pub worn_percent: u8,
    /// By all hosts so far.
    pub data_read_bytes: u64,
    /// By all hosts so far.
    pub data_written_bytes: u64,
    /// Commands so far.
    pub read_commands: u64,
    /// Commands so far.
    pub write_commands: u64,
    /// Powered on.
    pub power_on_hours: u64,
    /// Power losses without notice.
    pub unsafe_shutdowns: u64,
    /// Data that could not be recovered.
    pub media_errors: u64,
    /// Time above the warning temperature.
    pub hot_minutes: u32,
    /// Time above the critical temperature.
    pub critical_minutes: u32,
}

/// From the page's bytes; `None` if they are too few.
pub fn parse(page: &[u8]) -> Option<Health> {
    let page = page.first_chunk::<200>()?;
    let kelvin = i32::from(u16::from_le_bytes([page[1], page[2]]));
    let units = |at| counter(page, at).saturating_mul(DATA_UNIT_BYTES);
    Some(Health {
        critical_warning: page[0],
        temperature_c: (kelvin > 0).then_some(kelvin - KELVIN),
        spare_percent: page[3],
        spare_threshold_percent: page[4],
        worn_percent: page[5],
        data_read_bytes: units(32),
        data_written_bytes: units(48),
        read_commands: counter(page, 64),
        write_commands: counter(page, 80),
        power_on_hours: counter(page, 128),
        unsafe_shutdowns: counter(page, 144),
        media_errors: counter(page, 160),
        hot_minutes: minutes(page, 192),
        critical_minutes: minutes(page, 196),
    })
}

/// Counters have 16 bytes; no drive lives to fill 8.
fn counter(page: &[u8; 200], at: usize) -> u64 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&page[at..at + 16]);
    u64::try_from(u128::from_le_bytes(bytes)).unwrap_or(u64::MAX)
}

fn minutes(page: &[u8; 200], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&page[at..at + 4]);
    u32::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_where_the_specification_has_them() {
        let mut page = vec![0; 512];
        page[0] = 0b100;
        page[1..3].copy_from_slice(&(273 + 41_u16).to_le_bytes());
        (page[3], page[4], page[5]) = (98, 10, 120);
        page[32] = 3;
        page[64..72].copy_from_slice(&5_000_000_000_u64.to_le_bytes());
        page[80..96].fill(0xff);
        page[128] = 77;
        page[160] = 2;
        page[192] = 9;
        let health = parse(&page).expect("whole");
        assert_eq!(health.critical_warning, 0b100);
        assert_eq!(health.temperature_c, Some(41));
        assert_eq!((health.spare_percent, health.worn_percent), (98, 120));
        assert_eq!(health.spare_threshold_percent, 10);
        assert_eq!(health.data_read_bytes, 1_536_000);
        assert_eq!(health.read_commands, 5_000_000_000);
        assert_eq!(health.write_commands, u64::MAX);
        assert_eq!((health.power_on_hours, health.media_errors), (77, 2));
        assert_eq!((health.hot_minutes, health.critical_minutes), (9, 0));
        assert_eq!(parse(&[0; 512]).and_then(|h| h.temperature_c), None);
        assert_eq!(parse(&page[..100]), None);
    }
}
