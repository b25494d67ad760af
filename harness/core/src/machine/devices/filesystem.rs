//! The mount table, and which file system a path is on.

use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::DeviceNumber;
use crate::machine::root::Root;

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Device number of the files on it.
    pub number: Option<DeviceNumber>,
    /// Which directory of the file system is mounted.
    pub root: PathBuf,
    /// Where.
    pub mount_point: PathBuf,
    /// Options of the mount, then of the file system.
    pub options: Vec<String>,
    /// File system type.
    pub kind: String,
    /// Device, or whatever the file system names instead.
    pub source: String,
}

/// A file system that a path is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    /// The type, `ext4`.
    pub kind: String,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Options of the mount, then of the file system.
    pub options: Vec<String>,
    /// The device, or whatever the file system names instead.
    pub source: String,
}

/// Types that keep their files on a local medium, as far as known: from
/// `fs/*` of Linux 6.18, and OpenZFS. What is not listed (network, FUSE,
/// overlay) either has no local medium or hides which one it is.
const REAL: [&str; 18] = [
    "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "jfs",
    "nilfs2", "reiserfs", "ntfs3", "exfat", "vfat", "msdos", "hfsplus", "ufs",
    "gfs2",
];

impl Filesystem {
    /// Whether its files live in memory only. Direct I/O means nothing there.
    pub fn is_memory_backed(&self) -> bool {
        ["tmpfs", "ramfs", "devtmpfs", "hugetlbfs", "rootfs"]
            .contains(&self.kind.as_str())
    }

    /// Whether its files are the kernel's own: none can be created there.
    pub fn is_kernels_own(&self) -> bool {
        [
            "bpf",
            "cgroup",
            "cgroup2",
            "configfs",
            "debugfs",
            "devpts",
            "efivarfs",
            "proc",
            "pstore",
            "securityfs",
            "sysfs",
            "tracefs",
        ]
        .contains(&self.kind.as_str())
    }

    /// Whether its files are known to be on a local medium.
    pub fn is_real(&self) -> bool {
        REAL.contains(&self.kind.as_str())
    }

    /// Whether it cannot be written.
    pub fn is_read_only(&self) -> bool {
        self.options.iter().any(|option| option == "ro")
    }
}

/// The file system that `path` is on, or would be once created.
pub fn filesystem_of(root: &Root, path: &Path) -> Option<Filesystem> {
    let mount = mount_of(root, path)?;
    Some(Filesystem {
        kind: mount.kind,
        mount_point: mount.mount_point,
        options: mount.options,
        source: mount.source,
    })
}

pub(super) fn mount_of(root: &Root, path: &Path) -> Option<Mount> {
    let mounts = mounts(root);
    if !root.is_system() {
        // A fixture holds system files only, and the numbers of its files
        // are those of the real machine: the text of the path decides.
        let inside = path
            .components()
            .filter(|part| matches!(part, Component::Normal(_)));
        let absolute: PathBuf =
            [Component::RootDir].into_iter().chain(inside).collect();
        return best_mount(&mounts, &absolute, None).cloned();
    }
    let full = existing_ancestor(path)?;
    let meta = std::fs::metadata(&full).ok();
    let number = meta.map(|meta| DeviceNumber::from_stat(meta.dev()));
    best_mount(&mounts, &full, number).cloned()
}

/// The mount above `path` with the same device number as the file, which sees
/// through a mount that hides another; else the deepest mount above it (a
/// btrfs subvolume has a number that no mount has). Among equals the last one
/// counts: it was mounted over the others.
fn best_mount<'a>(
    mounts: &'a [Mount],
    path: &Path,
    number: Option<DeviceNumber>,
) -> Option<&'a Mount> {
    let deepest = |same_number: bool| {
        mounts
            .iter()
            .filter(|mount| path.starts_with(&mount.mount_point))
            .filter(|mount| !same_number || mount.number == number)
            .max_by_key(|mount| mount.mount_point.components().count())
    };
    number.and_then(|_| deepest(true)).or_else(|| deepest(false))
}

/// The nearest part of `path` that exists on this machine, with links
/// followed.
pub(super) fn existing_ancestor(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    absolute.ancestors().find_map(|part| std::fs::canonicalize(part).ok())
}

/// The mount table in order; lines that cannot be read are left out.
pub fn mounts(root: &Root) -> Vec<Mount> {
    let path = root.path("proc/self/mountinfo");
    let Ok(bytes) = std::fs::read(path) else { return Vec::new() };
    bytes.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`; see
/// proc_pid_mountinfo(5). Any number of optional fields stand before the `-`.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line
        .split(|&byte| byte == b' ')
        .filter(|field| !field.is_empty())
        .collect();
    let text =
        |field: &[u8]| String::from_utf8_lossy(&unescape(field)).into_owned();
    let path = |field: &[u8]| {
        PathBuf::from(std::ffi::OsString::from_vec(unescape(field)))
    };
    let dash = 6 + fields.get(6..)?.iter().position(|&f| f == b"-")?;
    let [kind, source, rest @ ..] = fields.get(dash + 1..)? else {
        return None;
    };
    let mut options: Vec<String> = Vec::new();
    for list in [Some(&fields[5]), rest.first()].into_iter().flatten() {
        for option in text(list).split(',') {
            if !options.iter().any(|known| known == option) {
                options.push(option.to_owned());
            }
        }
    }
    Some(Mount {
        number: DeviceNumber::parse(&text(fields[2])),
        root: path(fields[3]),
        mount_point: path(fields[4]),
        options,
        kind: text(kind),
        source: text(source),
    })
}

/// Undoes the kernel's octal escapes of blanks and backslashes (`\040`).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let code = match (byte, tail) {
            (
                b'\\',
                [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..],
            ) => Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0')),
            _ => None,
        };
        out.push(code.unwrap_or(byte));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Vec<Mount> {
        text.lines().filter_map(|line| parse_line(line.as_bytes())).collect()
    }

    #[test]
    fn a_line_with_optional_fields_and_escapes() {
        let line = "36 35 98:0 /sub\\040dir /mnt/a\\134b rw,noatime \
                    shared:1 master:2 - ext3 /dev/my\\011disk \
                    rw,errors=remount-ro";
        let mounts = table(line);
        let mount = &mounts[0];
        assert_eq!(mount.number, DeviceNumber::parse("98:0"));
        assert_eq!(mount.root, Path::new("/sub dir"));
        assert_eq!(mount.mount_point, Path::new("/mnt/a\\b"));
        assert_eq!(mount.options, ["rw", "noatime", "errors=remount-ro"]);
        assert_eq!(mount.kind, "ext3");
        assert_eq!(mount.source, "/dev/my\tdisk");
    }

    #[test]
    fn garbled_lines_are_left_out() {
        for bad in ["", "1 2 3", "1 2 0:1 / / rw ext4 /dev/a rw", "- - - -"] {
            assert!(table(bad).is_empty(), "{bad}");
        }
        assert_eq!(unescape(b"a\\04"), b"a\\04");
        assert_eq!(unescape(b"\\777"), b"\\777");
    }

    #[test]
    fn the_device_number_beats_the_longer_prefix() {
        let mounts = table(
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
             2 1 8:2 / /data rw - xfs /dev/sdb1 rw\n\
             3 1 0:40 / /data rw - tmpfs tmpfs rw\n\
             4 1 0:41 / /data2 rw - tmpfs tmpfs rw",
        );
        let kind = |path: &str, number: &str| {
            best_mount(&mounts, Path::new(path), DeviceNumber::parse(number))
                .map(|mount| mount.kind.as_str())
        };
        assert_eq!(kind("/data/file", "8:2"), Some("xfs"));
        assert_eq!(kind("/data/file", "0:40"), Some("tmpfs"));
        assert_eq!(kind("/data/file", "0:99"), Some("tmpfs"));
        assert_eq!(kind("/database", "8:1"), Some("ext4"));
        assert_eq!(kind("/data2/x", "?"), Some("tmpfs"));
    }
}
