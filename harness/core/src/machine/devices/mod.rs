//! Block devices, network interfaces and file systems.

pub mod block;
pub mod filesystem;
pub mod network;
mod pci;
mod text;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use block::{
    BlockDevice, BlockKind, block_device_by_number, block_device_of,
    block_devices,
};
pub use filesystem::{Filesystem, Mount, filesystem_of, mounts};
pub use network::{NetworkInterface, network_interfaces};
pub use pci::PciLink;
pub use text::text;

/// A value that tells one specimen from another (a serial number). It stays
/// in memory for those who must compare it, and shows in no output unless
/// asked for by name.
#[derive(Clone, PartialEq, Eq)]
pub struct Redacted(String);

impl Redacted {
    /// Wraps a value.
    pub fn new(value: String) -> Redacted {
        Redacted(value)
    }

    /// The value itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redacted")
    }
}

/// A device by the kernel's two numbers.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
)]
pub struct DeviceNumber {
    /// The driver.
    pub major: u32,
    /// The device of that driver.
    pub minor: u32,
}

impl DeviceNumber {
    /// From the `st_dev` or `st_rdev` of a file.
    pub fn from_stat(number: u64) -> DeviceNumber {
        DeviceNumber { major: libc::major(number), minor: libc::minor(number) }
    }

    /// From the form `254:0`.
    pub fn parse(text: &str) -> Option<DeviceNumber> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(DeviceNumber {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}
