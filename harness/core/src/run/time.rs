//! Wall-clock time as text. Only results are stamped with it; nothing is
//! measured by it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since 1970.
pub fn since_epoch() -> Duration {
    // A clock before 1970 is broken; the stamp then says 1970.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// RFC 3339 in UTC with milliseconds: `2026-11-21T04:45:00.123Z`.
pub fn rfc3339(at: Duration) -> String {
    let (year, month, day) = civil(at.as_secs() / 86_400);
    let (h, m, s) = clock(at.as_secs());
    let ms = at.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
}

/// For names of directories: `20261121T044500Z`.
pub fn compact(at: Duration) -> String {
    let (year, month, day) = civil(at.as_secs() / 86_400);
    let (h, m, s) = clock(at.as_secs());
    format!("{year:04}{month:02}{day:02}T{h:02}{m:02}{s:02}Z")
}

fn clock(seconds: u64) -> (u64, u64, u64) {
    (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60)
}

/// Days since 1970 to year, month and day: Howard Hinnant's
/// `civil_from_days`, for dates after 1970 only.
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524
        - day_of_era / 146_096)
        / 365;
    let day_of_year =
        day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        let at = |s: u64, ms: u64| Duration::from_millis(s * 1_000 + ms);
        assert_eq!(rfc3339(at(0, 0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(at(951_782_400, 7)), "2000-02-29T00:00:00.007Z");
        assert_eq!(compact(at(1_795_236_300, 0)), "20261121T044500Z");
    }
}
