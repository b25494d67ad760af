//! Where a target lies: file system and device.

use std::path::{Path, PathBuf};

use harness::{
    machine::{BlockDevice, Filesystem, Root, block_device_of, filesystem_of},
    suite::Refusal,
};

use super::refusals::{self, ELSEWHERE};

/// A path, with what lies below it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// None for a block device.
    pub(super) filesystem: Option<Filesystem>,
    pub(super) device: Option<BlockDevice>,
}

/// Looks at the file system that holds `path`.
///
/// # Errors
/// It keeps its files in memory, where O_DIRECT means nothing: since Linux
/// 6.6 tmpfs accepts that flag and ignores it, and io_uring hands its reads to
/// worker threads, so that a trial would measure the hand-over.
pub(super) fn inspect(root: &Root, path: &Path) -> Result<Place, Refusal> {
    let filesystem = filesystem_of(root, path);
    if let Some(filesystem) = &filesystem
        && filesystem.is_memory_backed()
    {
        let what = format!(
            "{} is on {} (mounted at {}), which keeps its files in memory: \
             there is no device to read from",
            path.display(),
            filesystem.kind,
            filesystem.mount_point.display()
        );
        return Err(refusals::environment(what, ELSEWHERE));
    }
    if let Some(filesystem) = &filesystem
        && filesystem.is_kernels_own()
    {
        let what = format!(
            "{} is on {} (mounted at {}), which shows what the kernel knows: \
             no file can be created there",
            path.display(),
            filesystem.kind,
            filesystem.mount_point.display()
        );
        return Err(refusals::usage(what, ELSEWHERE));
    }
    Ok(Place {
        path: path.to_owned(),
        filesystem,
        device: block_device_of(root, path),
    })
}

impl Place {
    /// Type and mount point of the file system, for messages.
    pub(super) fn filesystem_text(&self) -> String {
        match &self.filesystem {
            Some(filesystem) => format!(
                "{} (mounted at {})",
                filesystem.kind,
                filesystem.mount_point.display()
            ),
            None => "an unknown file system".to_owned(),
        }
    }

    /// The name of a target here in the results. It is made of what the
    /// kernel calls things, not of what a person called them.
    pub(super) fn label(&self, bytes: u64, created: bool) -> String {
        let device = self.device.as_ref().map(|device| {
            let name = device.partition.as_ref().unwrap_or(&device.name);
            format!("/dev/{name}")
        });
        let size = size_text(bytes);
        let Some(filesystem) = &self.filesystem else {
            let device = device.as_deref().unwrap_or("block device");
            return format!("{device} {size}");
        };
        let origin = if created { "created" } else { "existing file of" };
        let kind = &filesystem.kind;
        match device {
            Some(device) => format!("{origin} {size} on {kind} ({device})"),
            None => format!("{origin} {size} on {kind}"),
        }
    }
}

/// A size in the largest binary unit that leaves at least 1.
pub(super) fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    while unit + 1 < UNITS.len() && bytes >> (10 * (unit + 1)) > 0 {
        unit += 1;
    }
    let whole = bytes >> (10 * unit);
    let is_exact = bytes == whole << (10 * unit);
    if is_exact {
        return format!("{whole} {}", UNITS[unit]);
    }
    let value = bytes as f64 / (1_u64 << (10 * unit)) as f64;
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_a_person_writes_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1 << 30, "1 GiB"),
            (64 << 20, "64 MiB"),
            (3 << 29, "1.5 GiB"),
            (256_060_514_304, "238.5 GiB"),
            (5 << 50, "5120 TiB"),
        ] {
            assert_eq!(size_text(bytes), text);
        }
    }

    #[test]
    fn memory_is_refused_with_kind_mount_point_and_next_step() {
        let tree = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir_all(tree.path().join("proc/self")).expect("proc");
        std::fs::create_dir_all(tree.path().join("mnt/ram")).expect("mnt");
        std::fs::write(
            tree.path().join("proc/self/mountinfo"),
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
             2 1 0:40 / /mnt/ram rw - ramfs ramfs rw\n\
             3 1 0:41 / /proc rw - proc proc rw\n",
        )
        .expect("mountinfo");
        let root = Root::at(tree.path());
        let refusal =
            inspect(&root, Path::new("/mnt/ram")).expect_err("memory");
        for word in ["/mnt/ram", "ramfs", "memory"] {
            assert!(refusal.what.contains(word), "{refusal}");
        }
        assert!(refusal.remedy.contains("--target DIR"), "{refusal}");
        let refusal =
            inspect(&root, Path::new("/proc/self")).expect_err("proc");
        assert!(refusal.what.contains("what the kernel knows"), "{refusal}");
        let place = inspect(&root, Path::new("/mnt")).expect("ext4");
        assert_eq!(place.label(1 << 30, true), "created 1 GiB on ext4");
        assert_eq!(
            place.label(1 << 20, false),
            "existing file of 1 MiB on ext4"
        );
    }
}
