//! A target that was there before: read, never written.

use std::{
    fs::{File, FileType, Metadata, OpenOptions},
    io::{ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use harness::{
    machine::{Buffer, Root, block_device_of},
    suite::Refusal,
};

use super::{
    place::{self, Place, size_text},
    refusals::{self, ELSEWHERE, describe},
};
use crate::contents::BLOCK_BYTES;

/// A smaller target fits into the cache of any controller, and a few thousand
/// blocks are read again and again.
pub const TARGET_MIN_BYTES: u64 = 64 << 20;

/// `st_blocks` counts in these whatever the file system; stat(2).
const STAT_BLOCK_BYTES: u64 = 512;

/// A file with less of it allocated is not read whole from its device.
const ALLOCATED_MIN_PERCENT: u64 = 95;

/// An existing target, open for reading.
#[derive(Debug)]
pub(super) struct Existing {
    pub(super) file: File,
    pub(super) bytes: u64,
    pub(super) place: Place,
}

/// Opens a regular file or a block device for reading past the page cache.
///
/// # Errors
/// It is missing, of another kind, unreadable, too small or full of holes, or
/// has no direct I/O.
pub(super) fn open(root: &Root, path: &Path) -> Result<Existing, Refusal> {
    let metadata =
        std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    // Before opening: that alone can block (FIFO) or act (tape, watchdog).
    let place = match Kind::of(metadata.file_type()) {
        Kind::File => place::inspect(root, path)?,
        Kind::BlockDevice => Place {
            path: path.to_owned(),
            filesystem: None,
            device: block_device_of(root, path),
        },
        Kind::Other(kind) => return Err(wrong_kind(path, kind)),
    };
    let mut file = open_direct(path, &place)?;
    let opened = file
        .metadata()
        .map_err(|error| refusals::failed("fstat", path, &error))?;
    if !is_same(&opened, &metadata) {
        return Err(refusals::environment(
            format!("{} was replaced while it was opened", path.display()),
            "name a `--target` that stays",
        ));
    }
    let bytes = file
        .seek(SeekFrom::End(0))
        .map_err(|error| refusals::failed("lseek", path, &error))?;
    check_size(path, bytes)?;
    if opened.file_type().is_file() {
        check_holes(path, &opened)?;
    }
    read_once(&mut file, path)?;
    Ok(Existing { file, bytes, place })
}

/// Whether two looks found one file, or one node.
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    let identity = |file: &Metadata| (file.dev(), file.ino(), file.rdev());
    identity(one) == identity(other) && one.file_type() == other.file_type()
}

enum Kind {
    File,
    BlockDevice,
    Other(&'static str),
}

impl Kind {
    fn of(kind: FileType) -> Self {
        if kind.is_file() {
            Self::File
        } else if kind.is_block_device() {
            Self::BlockDevice
        } else if kind.is_char_device() {
            Self::Other("a character device")
        } else if kind.is_fifo() {
            Self::Other("a FIFO")
        } else if kind.is_socket() {
            Self::Other("a socket")
        } else if kind.is_dir() {
            Self::Other("a directory")
        } else {
            Self::Other("neither a file nor a device")
        }
    }
}

fn wrong_kind(path: &Path, kind: &str) -> Refusal {
    let text = path.display();
    let namespace =
        beside_generic(path).filter(|_| kind == "a character device");
    let remedy = match namespace {
        Some(name) => {
            format!("name the block device of the same namespace, /dev/{name}")
        }
        None => "name a regular file, a block device, or a directory to \
                 create a file in"
            .to_owned(),
    };
    refusals::usage(format!("{text} is {kind}"), remedy)
}

/// The block device beside an NVMe namespace's character device: `nvme1n1`
/// beside `ng1n1`.
fn beside_generic(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_prefix("ng")?;
    let (controller, namespace) = name.split_once('n')?;
    let is_number = |text: &str| {
        !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit())
    };
    (is_number(controller) && is_number(namespace))
        .then(|| format!("nvme{name}"))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Refusal {
    let text = path.display();
    match error.kind() {
        ErrorKind::NotFound => refusals::usage(
            format!("{text} does not exist ({})", describe(error)),
            "name an existing file, a block device, or a directory to create \
             a file in",
        ),
        ErrorKind::PermissionDenied => refusals::environment(
            format!("{text} may not be read ({})", describe(error)),
            "run as a user who may read it (for a block device often the \
             group `disk`), or name another `--target`",
        ),
        _ => refusals::failed("opening", path, error),
    }
}

fn open_direct(path: &Path, place: &Place) -> Result<File, Refusal> {
    let open = |flags: i32| {
        OpenOptions::new()
            .read(true)
            .custom_flags(flags | libc::O_CLOEXEC | libc::O_NOCTTY)
            .open(path)
    };
    open(libc::O_DIRECT).map_err(|error| {
        if error.raw_os_error() == Some(libc::EINVAL) && open(0).is_ok() {
            return refusals::environment(
                format!(
                    "{} is on {}, which refuses O_DIRECT (EINVAL)",
                    path.display(),
                    place.filesystem_text()
                ),
                ELSEWHERE,
            );
        }
        unreadable(path, &error)
    })
}

fn check_size(path: &Path, bytes: u64) -> Result<(), Refusal> {
    if bytes >= TARGET_MIN_BYTES {
        return Ok(());
    }
    let what = format!(
        "{} has {}; at least {} are needed, or caches answer instead of the \
         device",
        path.display(),
        size_text(bytes),
        size_text(TARGET_MIN_BYTES)
    );
    let remedy = "name a larger file or device, or a directory to create a \
                  file in";
    Err(refusals::usage(what, remedy))
}

fn check_holes(path: &Path, metadata: &Metadata) -> Result<(), Refusal> {
    let allocated = metadata.blocks().saturating_mul(STAT_BLOCK_BYTES);
    let needed = metadata.len() / 100 * ALLOCATED_MIN_PERCENT;
    if allocated >= needed {
        return Ok(());
    }
    let what = format!(
        "{} has {}, of which {} are allocated: holes and compressed parts \
         are not read from the device",
        path.display(),
        size_text(metadata.len()),
        size_text(allocated)
    );
    let remedy = "write the file whole with data that does not compress, or \
                  name a directory to create one in";
    Err(refusals::environment(what, remedy))
}

/// One block, so that a device that refuses reads does so here and not in the
/// middle of a run.
fn read_once(file: &mut File, path: &Path) -> Result<(), Refusal> {
    let mut block =
        Buffer::new(BLOCK_BYTES, BLOCK_BYTES, None).map_err(|error| {
            refusals::environment(error.to_string(), "free some memory")
        })?;
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.read_exact(&mut block))
        .map_err(|error| {
            let what = format!(
                "reading {BLOCK_BYTES} bytes of {} with O_DIRECT: {}",
                path.display(),
                describe(&error)
            );
            refusals::environment(
                what,
                "look into the kernel log for what the device said, or name \
                 another `--target`",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_device_beside_a_character_device_is_named() {
        let remedy = |path: &str| {
            wrong_kind(Path::new(path), "a character device").remedy
        };
        for (path, beside) in [
            ("/dev/ng1n1", ", /dev/nvme1n1"),
            ("/dev/ng12n3", ", /dev/nvme12n3"),
        ] {
            assert!(remedy(path).ends_with(beside), "{}", remedy(path));
        }
        for other in ["/dev/zero", "/dev/nginx", "/dev/ng1n", "/dev/ngn1"] {
            assert!(remedy(other).starts_with("name a regular file"));
        }
        let pipe = wrong_kind(Path::new("/dev/ng1n1"), "a FIFO");
        assert!(pipe.remedy.starts_with("name a regular file"));
    }

    #[test]
    fn another_file_of_the_same_name_is_not_the_same() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("target");
        let look = || path.metadata().expect("metadata");
        let held = File::create(&path).expect("create");
        let before = look();
        assert!(is_same(&before, &held.metadata().expect("metadata")));
        // The first stays open, so that its number is not given again.
        std::fs::remove_file(&path).expect("remove");
        File::create(&path).expect("create");
        assert!(!is_same(&before, &look()));
    }
}
