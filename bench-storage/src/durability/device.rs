//! The caches of the devices below a target.

use harness::machine::BlockDevice;

/// Whether the caches of a target's devices forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// At least one does.
    Volatile,
    /// None does, or there is none.
    Safe,
    /// The kernel does not say of one.
    Unknown,
}

impl Cache {
    /// Of a target's device.
    pub(super) fn of(device: Option<&BlockDevice>) -> Self {
        let bottom = device.into_iter().flat_map(BlockDevice::bottom);
        let words: Vec<Option<&str>> =
            bottom.map(|device| device.write_cache.as_deref()).collect();
        if words.contains(&Some("write back")) {
            Self::Volatile
        } else if !words.is_empty()
            && words.iter().all(|word| *word == Some("write through"))
        {
            Self::Safe
        } else {
            Self::Unknown
        }
    }

    /// As the kernel writes it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Volatile => "write back",
            Self::Safe => "write through",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn disk(name: &str, cache: &str) -> BlockDevice {
        let disk = json!({
            "name": name, "kind": "scsi", "built_on": [],
            "write_cache": cache,
        });
        serde_json::from_value(disk).expect("a device")
    }

    #[test]
    fn a_stacked_device_is_as_good_as_its_worst_part() {
        let parts = [disk("sda", "write through"), disk("sdb", "write back")];
        let raid = json!({"name": "md0", "kind": "md", "built_on": parts});
        let raid: BlockDevice = serde_json::from_value(raid).expect("a device");
        assert_eq!(Cache::of(Some(&raid)), Cache::Volatile);
        assert_eq!(Cache::of(Some(&parts[0])), Cache::Safe);
        assert_eq!(Cache::of(None), Cache::Unknown);
    }
}
