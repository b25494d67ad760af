//! Processor counters of the whole process, user and kernel together.
//!
//! A figure for user mode alone would flatter whoever leaves the work to the
//! kernel, so where the kernel part may not be counted (`perf_event_paranoid`
//! of 2 without CAP_PERFMON), or the machine has no counters (most guests),
//! there is no figure at all.

use std::{
    io::Read,
    os::fd::{FromRawFd, OwnedFd},
};

use serde::{Deserialize, Serialize};

/// Counts since the counters were opened.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize,
)]
pub struct Counts {
    /// Processor cycles.
    pub cycles: Option<u64>,
    /// Instructions retired.
    pub instructions: Option<u64>,
    /// Last-level cache misses.
    pub cache_misses: Option<u64>,
}

impl Counts {
    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let difference = |now: Option<u64>, then: Option<u64>| {
            Some(now?.saturating_sub(then?))
        };
        Self {
            cycles: difference(self.cycles, earlier.cycles),
            instructions: difference(self.instructions, earlier.instructions),
            cache_misses: difference(self.cache_misses, earlier.cache_misses),
        }
    }
}

/// Open counters; inherited by every thread started afterwards, the kernel's
/// io_uring threads included.
#[derive(Debug)]
pub struct Counters {
    cycles: Option<std::fs::File>,
    instructions: Option<std::fs::File>,
    cache_misses: Option<std::fs::File>,
}

// From linux/perf_event.h; libc has no definitions of them.
const PERF_TYPE_HARDWARE: u32 = 0;
const PERF_COUNT_HW_CPU_CYCLES: u64 = 0;
const PERF_COUNT_HW_INSTRUCTIONS: u64 = 1;
const PERF_COUNT_HW_CACHE_MISSES: u64 = 3;
const PERF_FORMAT_TOTAL_TIME_ENABLED: u64 = 1;
const PERF_FORMAT_TOTAL_TIME_RUNNING: u64 = 2;
const PERF_FLAG_FD_CLOEXEC: u64 = 8;
/// `inherit` is the second bit of the attribute's flag word.
const ATTRIBUTE_FLAG_INHERIT: u64 = 1 << 1;

/// The head of `struct perf_event_attr`, PERF_ATTR_SIZE_VER0.
///
/// | offset | field |
/// |---|---|
/// | 0 | type |
/// | 4 | size |
/// | 8 | config |
/// | 16 | sample_period |
/// | 24 | sample_type |
/// | 32 | read_format |
/// | 40 | flag bits |
/// | 48 | wakeup_events, bp_type |
/// | 56 | config1 |
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_and_breakpoint: u64,
    config1: u64,
}

const ATTRIBUTES_BYTES: u32 = 64;
const _: () = assert!(size_of::<Attributes>() == 64);

impl Counters {
    /// Opens what this machine permits.
    pub fn open() -> Self {
        Self {
            cycles: open_one(PERF_COUNT_HW_CPU_CYCLES),
            instructions: open_one(PERF_COUNT_HW_INSTRUCTIONS),
            cache_misses: open_one(PERF_COUNT_HW_CACHE_MISSES),
        }
    }

    /// Reads them.
    pub fn read(&self) -> Counts {
        Counts {
            cycles: self.cycles.as_ref().and_then(read_one),
            instructions: self.instructions.as_ref().and_then(read_one),
            cache_misses: self.cache_misses.as_ref().and_then(read_one),
        }
    }
}

fn open_one(config: u64) -> Option<std::fs::File> {
    let attributes = Attributes {
        kind: PERF_TYPE_HARDWARE,
        size: ATTRIBUTES_BYTES,
        config,
        read_format: PERF_FORMAT_TOTAL_TIME_ENABLED
            | PERF_FORMAT_TOTAL_TIME_RUNNING,
        flags: ATTRIBUTE_FLAG_INHERIT,
        ..Attributes::default()
    };
    // SAFETY: the attribute structure is live and its size field is its size;
    // pid 0 and cpu -1 mean this process on any CPU; the result is checked.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            0_i32,
            -1_i32,
            -1_i32,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just returned this descriptor to us alone.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Some(std::fs::File::from(fd))
}

/// The count, scaled up where the kernel had to multiplex counters.
fn read_one(mut file: &std::fs::File) -> Option<u64> {
    let mut words = [0_u8; 24];
    file.read_exact(&mut words).ok()?;
    let word = |i: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&words[i * 8..i * 8 + 8]);
        u64::from_ne_bytes(bytes)
    };
    let (count, enabled, running) = (word(0), word(1), word(2));
    if running == 0 {
        return None;
    }
    let scaled = u128::from(count) * u128::from(enabled) / u128::from(running);
    u64::try_from(scaled).ok()
}
