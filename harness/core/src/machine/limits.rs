//! The resource limits that benchmarks run into.

use serde::{Deserialize, Serialize};

use super::root::Root;

/// Soft and hard limit of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// What holds now; `None` for no limit.
    pub soft: Option<u64>,
    /// How far it can be raised without privilege; `None` for no limit.
    pub hard: Option<u64>,
}

/// Limits of this process; an entry is `None` when it is unknown.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize,
)]
pub struct Limits {
    /// Memory that may be locked, in bytes (registered buffers count too).
    pub locked_memory_bytes: Option<Limit>,
    /// Open files.
    pub open_files: Option<Limit>,
    /// Processes and threads of this user.
    pub processes: Option<Limit>,
    /// Priority of real-time scheduling.
    pub realtime_priority: Option<Limit>,
    /// Size of the address space, in bytes.
    pub address_space_bytes: Option<Limit>,
}

impl Limits {
    /// From `/proc/self/limits`.
    pub fn read(root: &Root) -> Limits {
        let Some(text) = root.read("proc/self/limits") else {
            return Limits::default();
        };
        let find = |name: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
            let mut words = rest.split_whitespace();
            let soft = parse(words.next()?)?;
            let hard = parse(words.next()?)?;
            Some(Limit { soft, hard })
        };
        Limits {
            locked_memory_bytes: find("Max locked memory"),
            open_files: find("Max open files"),
            processes: find("Max processes"),
            realtime_priority: find("Max realtime priority"),
            address_space_bytes: find("Max address space"),
        }
    }
}

/// A number, or `Some(None)` for no limit.
fn parse(word: &str) -> Option<Option<u64>> {
    match word {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    }
}
