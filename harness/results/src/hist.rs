//! HdrHistogram logs: one file per experiment, one line per trial.
//!
//! The log format is line by line, so a log may be written in pieces: the
//! head once, then each block's lines appended.

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};

/// Directory of the logs inside a run directory.
pub const DIRECTORY: &str = "hist";

/// The first lines of a log, as other programs expect them.
pub(crate) const HEAD: &str = "#[Histogram log format version 1.2]\n\
    #[Latencies in nanoseconds; Tag is hist_tag in trials.csv]\n\
    \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\
    \"Interval_Compressed_Histogram\"\n";

/// Bytes of a file name that all common file systems take.
const NAME_BYTES_MAX: usize = 120;

/// The tag of a trial's line.
pub fn tag(trial: u64) -> String {
    format!("t{trial}")
}

/// The trial of a line of a log; none for the lines of the head.
pub(crate) fn trial_of_line(line: &[u8]) -> Option<u64> {
    let tag = line.strip_prefix(b"Tag=t")?;
    let digits = tag.split(|byte| *byte == b',').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The file name of an experiment's log.
///
/// Whatever is not safe in a file name becomes `_`; where that or the length
/// makes the name ambiguous, a hash of the full identity is added.
pub fn file_name(suite: &str, experiment: &str, params: &str) -> String {
    let whole = format!("{suite}-{experiment}-{params}");
    let readable = whole.trim_end_matches('-').replace(' ', ",");
    let mut safe: String = readable
        .chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '=' | ',' => c,
            '.' => c,
            _ => '_',
        })
        .collect();
    if safe != readable || safe.len() > NAME_BYTES_MAX {
        safe.truncate(NAME_BYTES_MAX);
        safe.push_str(&format!("-{:08x}", fnv1a(whole.as_bytes())));
    }
    safe + ".hlog"
}

/// FNV-1a in 32 bits: enough to tell a few names of one run apart.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// Appends one histogram's line to a buffer.
pub fn append_line(
    buffer: &mut Vec<u8>,
    trial: u64,
    since_epoch: Duration,
    length: Duration,
    histogram: &Histogram<u64>,
) -> io::Result<()> {
    let tag = tag(trial);
    let mut serializer = V2DeflateSerializer::new();
    // Without comments and times the builder writes no head, so the line
    // may follow others.
    IntervalLogWriterBuilder::new()
        .begin_log_with(buffer, &mut serializer)?
        .write_histogram(histogram, since_epoch, length, Tag::new(&tag))
        .map_err(io::Error::other)
}

/// One line of a log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The tag: `hist_tag` of the trial.
    pub tag: String,
    /// Start of the measured window, as time since 1970.
    pub since_epoch: Duration,
    /// Length of the measured window.
    pub length: Duration,
    /// The latencies in nanoseconds.
    pub histogram: Histogram<u64>,
}

/// Reads all entries of a log; a last line that was cut off is left out.
pub fn read(log: &[u8]) -> io::Result<Vec<Entry>> {
    let damaged = |what: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the histogram log is damaged: {what}"),
        )
    };
    let whole = log.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let mut deserializer = Deserializer::new();
    let mut entries = Vec::new();
    for entry in IntervalLogIterator::new(&log[..whole]) {
        let entry = entry.map_err(|e| damaged(&format!("{e:?}")))?;
        let LogEntry::Interval(interval) = entry else { continue };
        let bytes = base64(interval.encoded_histogram())
            .ok_or_else(|| damaged("not base64"))?;
        let histogram = deserializer
            .deserialize(&mut bytes.as_slice())
            .map_err(|e| damaged(&e.to_string()))?;
        entries.push(Entry {
            tag: interval.tag().map_or("", |t| t.as_str()).to_owned(),
            since_epoch: interval.start_timestamp(),
            length: interval.duration(),
            histogram,
        });
    }
    Ok(entries)
}

/// Decodes base64 with padding; the log library leaves this to its caller.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.as_bytes().chunks(4) {
        let mut bits = 0u32;
        for digit in group {
            bits = bits << 6 | u32::from(sextet(*digit)?);
        }
        let whole = group.len() * 6 / 8;
        // Left-align the group in 24 bits, then take its whole bytes.
        bits <<= 6 * (4 - group.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..=whole]);
    }
    Some(bytes)
}

fn sextet(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        for value in values {
            histogram.record(value).unwrap();
        }
        histogram
    }

    #[test]
    fn a_log_written_in_pieces_reads_as_one() {
        let first = histogram((1..2000).map(|i| i * i));
        let second = histogram([7]);
        let start = Duration::from_millis(1_795_322_700_125);
        let length = Duration::from_secs(2);
        let mut log = HEAD.as_bytes().to_vec();
        append_line(&mut log, 1, start, length, &first).unwrap();
        let mut piece = Vec::new();
        append_line(&mut piece, 12, start * 2, length, &second).unwrap();
        log.extend_from_slice(&piece);

        let entries = read(&log).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].histogram, first);
        assert_eq!(entries[1].histogram, second);
        assert_eq!(entries[0].since_epoch, start);
        assert_eq!(entries[0].length, length);
        assert_eq!(entries[1].tag, tag(12));
        assert_eq!(trial_of_line(&piece), Some(12));
        assert_eq!(trial_of_line(HEAD.as_bytes()), None);
        // A cut anywhere in the last line leaves the first whole.
        for cut in 1..=piece.len() {
            let entries = read(&log[..log.len() - cut]).unwrap();
            assert_eq!(entries.len(), 1, "cut of {cut} bytes");
        }
    }

    #[test]
    fn base64_of_every_group_length() {
        assert_eq!(base64("").unwrap(), b"");
        assert_eq!(base64("TQ==").unwrap(), b"M");
        assert_eq!(base64("TWE=").unwrap(), b"Ma");
        assert_eq!(base64("TWFu").unwrap(), b"Man");
        assert_eq!(base64("TWFuTWE").unwrap(), b"ManMa");
        assert_eq!(base64("TW*u"), None);
    }

    #[test]
    fn file_names_are_safe_and_distinct() {
        assert_eq!(
            file_name("storage", "randread-4k", "depth=32 op_bytes=4096"),
            "storage-randread-4k-depth=32,op_bytes=4096.hlog"
        );
        assert_eq!(file_name("ipc", "ring", ""), "ipc-ring.hlog");
        let slash = file_name("ipc", "a/../b", "");
        let colon = file_name("ipc", "a:..:b", "");
        assert!(slash.starts_with("ipc-a_.._b-"), "{slash}");
        assert_ne!(slash, colon);
        let long = file_name("ipc", &"x".repeat(500), "");
        assert!(long.len() < 140, "{long}");
    }
}
