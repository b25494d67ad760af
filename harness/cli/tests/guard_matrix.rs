//! The write guard as a person meets it: a device that is somebody's, under
//! each of the names and in each of the ways in which it can be. Every one is
//! refused with exit code 5 although its word is said, and not a byte of it
//! changes. Loop devices of the test's own, and mounts that only one thread's
//! namespace has. Needs root.

#[path = "../../../bench-storage/tests/support/loops.rs"]
mod loops;
#[path = "../../../bench-storage/tests/support/mounts.rs"]
mod mounts;

use std::{
    ffi::CString,
    fs, io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, MutexGuard, mpsc},
    thread,
    time::{Duration, Instant},
};

use loops::LoopDevice;
use mounts::{c_text, check, in_a_namespace, private_mounts};

const BYPASS: &str = env!("CARGO_BIN_EXE_bypass");
/// The least that is written.
const IMAGE_BYTES: u64 = 16 << 20;

/// Where the one partition lies.
const PARTITION_START: u64 = 1 << 20;
const PARTITION_BYTES: u64 = 12 << 20;

/// Nobody else makes a device busy for longer than a look at it takes.
const BUSY_PATIENCE: Duration = Duration::from_secs(20);

fn skip(reason: &str) {
    let test = thread::current().name().unwrap_or("test").to_owned();
    eprintln!("SKIPPED {test}: {reason}");
}

/// `list --devices` looks at all devices with O_EXCL, those of other tests
/// included, so that they take turns.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A loop device made of a file of the test's own. Detached before the file
/// goes.
struct Disk {
    device: LoopDevice,
    image: PathBuf,
    directory: tempfile::TempDir,
}

impl Disk {
    fn blank() -> Option<Self> {
        Self::made_by(|_| true)
    }

    /// After something was done to the image; `None`, and loudly, where that
    /// or a loop device cannot be had.
    fn made_by(make: impl FnOnce(&Path) -> bool) -> Option<Self> {
        let directory = tempfile::Builder::new()
            .prefix("bypass-guard-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .expect("temporary directory");
        let image = directory.path().join("image");
        let file = fs::File::create(&image).expect("an image");
        file.set_len(IMAGE_BYTES).expect("its length");
        if !make(&image) {
            return None;
        }
        match LoopDevice::attach(&image) {
            Ok(device) => Some(Self { device, image, directory }),
            Err(error) => {
                skip(&format!("no loop device: {error}"));
                None
            }
        }
    }

    /// With these bytes at an offset.
    fn marked(offset: u64, bytes: &[u8]) -> Option<Self> {
        Self::made_by(|image| {
            let file = fs::File::options().write(true).open(image);
            let file = file.expect("the image");
            file.write_all_at(bytes, offset).expect("a mark");
            true
        })
    }

    fn formatted() -> Option<Self> {
        Self::made_by(|image| {
            ran("mkfs.ext4", &["-q", "-F", &image.to_string_lossy()])
        })
    }

    /// With a file system in its one partition.
    fn partitioned() -> Option<Self> {
        let disk = Self::made_by(|image| {
            let offset = format!("offset={PARTITION_START}");
            let image = image.to_string_lossy();
            let size = format!("{}k", PARTITION_BYTES >> 10);
            let options = ["-q", "-F", "-E", &offset, &image, &size];
            ran("mkfs.ext4", &options)
        })?;
        let added = disk.device.add_partition(
            i64::try_from(PARTITION_START).expect("small"),
            i64::try_from(PARTITION_BYTES).expect("small"),
        );
        match added {
            Ok(()) if disk.device.partition().exists() => Some(disk),
            other => {
                skip(&format!("no partitions of loop devices: {other:?}"));
                None
            }
        }
    }

    fn node(&self) -> &Path {
        &self.device.node
    }

    /// A path in the test's directory.
    fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new directory there.
    fn mount_point(&self, name: &str) -> PathBuf {
        let path = self.place(name);
        fs::create_dir_all(&path).expect("a directory");
        path
    }

    /// What `--allow-destroy` would have to say.
    fn word(&self) -> String {
        let metadata = fs::metadata(&self.image).expect("the image");
        format!("loop-{:x}-{}", metadata.dev(), metadata.ino())
    }

    fn run(&self, target: &Path, more: &[&str]) -> Output {
        Command::new(BYPASS)
            .args(["run", "storage/durable-write-4k", "--quick"])
            .args(["depth=1", "o_direct=yes", "--target"])
            .arg(target)
            .args(["--allow-destroy", &self.word(), "--results"])
            .arg(self.place("results"))
            .args(more)
            .output()
            .expect("bypass")
    }

    /// By this name, for a reason with these words, when it is planned and
    /// when it is run.
    fn refuses(&self, target: &Path, words: &str) {
        let before = fs::read(&self.image).expect("the image");
        for more in [&["--dry-run"][..], &[]] {
            let output = self.run(target, more);
            let text = text(&output);
            let code = output.status.code();
            assert_eq!(code, Some(5), "{target:?} {more:?}: {text}");
            assert!(text.contains(words), "{target:?} {more:?}: {text}");
            assert!(text.contains("list --devices"), "{text}");
        }
        let after = fs::read(&self.image).expect("the image");
        assert!(after == before, "{target:?} was written to");
    }
}

fn text(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    format!("{stdout}{stderr}")
}

/// Whether a program did its work; says so loudly where it is not here.
fn ran(program: &str, arguments: &[&str]) -> bool {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            skip(&format!("{program} failed: {}", text(&output)));
            false
        }
        Err(error) => {
            skip(&format!("no {program} here: {error}"));
            false
        }
    }
}

/// Tries again while a look at the device, perhaps another program's, makes
/// it busy.
fn while_busy<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(error)
                if error.raw_os_error() == Some(libc::EBUSY)
                    && begun.elapsed() < BUSY_PATIENCE =>
            {
                thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

fn mount(
    source: &Path,
    target: &Path,
    kind: &str,
    flags: libc::c_ulong,
) -> io::Result<()> {
    while_busy(|| mounts::mount(source, target, kind, flags, ""))
}

/// Read-only, so that the file system itself writes nothing meanwhile. Whether
/// it is mounted; not, and loudly, where the kernel has no ext4.
fn mount_ext4(source: &Path, target: &Path) -> bool {
    match mount(source, target, "ext4", libc::MS_RDONLY) {
        Ok(()) => true,
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
            skip("no ext4 in this kernel");
            false
        }
        Err(error) => panic!("mount {source:?} {target:?}: {error}"),
    }
}

fn bind(source: &Path, target: &Path) {
    mount(source, target, "", libc::MS_BIND).expect("a bind mount");
}

fn unmount(target: &Path) {
    mounts::unmount(target).expect("umount2");
}

/// What would not be refused by mistake alone: the control of this test.
#[test]
fn a_blank_device_with_its_word_is_not_refused() {
    let _alone = alone();
    let Some(disk) = Disk::blank() else { return };
    let output = disk.run(disk.node(), &["--dry-run"]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("what is there is lost"), "{text}");
}

#[test]
fn a_mounted_partition_and_its_whole_disk() {
    let _alone = alone();
    in_a_namespace(|| {
        let Some(disk) = Disk::partitioned() else { return };
        let (partition, place) =
            (disk.device.partition(), disk.mount_point("mounted"));
        if !mount_ext4(&partition, &place) {
            return;
        }
        let mounted = format!("is mounted at {}", place.display());
        disk.refuses(&partition, &mounted);
        disk.refuses(&partition, "only whole devices are written");
        disk.refuses(disk.node(), &mounted);
        unmount(&place);
        disk.refuses(disk.node(), "has partitions");
        disk.refuses(&partition, "only whole devices are written");
    });
}

#[test]
fn a_mounted_device_by_symlink_by_id_other_node_and_bind_mount() {
    let _alone = alone();
    in_a_namespace(|| {
        let Some(disk) = Disk::formatted() else { return };
        let place = disk.mount_point("mounted");
        if !mount_ext4(disk.node(), &place) {
            return;
        }
        let words = format!("is mounted at {}", place.display());
        let by_id = disk.mount_point("dev/disk/by-id").join("virtio-one");
        let node = disk.place("dev/node");
        if let Err(error) = same_device(disk.node(), &node) {
            skip(&format!("mknod: {error}"));
            return;
        }
        symlink("../../node", &by_id).expect("a link as udev makes them");
        let (link, chain) = (disk.place("link"), disk.place("chain"));
        symlink(disk.node(), &link).expect("a link");
        symlink(&by_id, &chain).expect("a link to a link");
        let over = disk.place("over");
        fs::write(&over, "").expect("a file to mount over");
        bind(disk.node(), &over);
        for alias in [disk.node(), &node, &by_id, &link, &chain, &over] {
            disk.refuses(alias, &words);
        }
    });
}

/// A second node of the same device.
fn same_device(node: &Path, other: &Path) -> io::Result<()> {
    let number = fs::metadata(node)?.rdev();
    let path = c_text(other);
    // SAFETY: the string is terminated and lives through the call.
    check(unsafe { libc::mknod(path.as_ptr(), libc::S_IFBLK | 0o600, number) })
}

#[test]
fn a_device_of_which_only_a_bind_mount_is_left() {
    let _alone = alone();
    in_a_namespace(|| {
        let Some(disk) = Disk::formatted() else { return };
        let (place, bound) =
            (disk.mount_point("mounted"), disk.mount_point("bound"));
        if !mount_ext4(disk.node(), &place) {
            return;
        }
        bind(&place.join("lost+found"), &bound);
        unmount(&place);
        disk.refuses(
            disk.node(),
            &format!("is mounted at {}", bound.display()),
        );
    });
}

#[test]
fn a_device_that_was_mounted_by_another_name() {
    let _alone = alone();
    in_a_namespace(|| {
        let Some(disk) = Disk::formatted() else { return };
        let link = disk.place("by-uuid");
        symlink(disk.node(), &link).expect("a link");
        let place = disk.mount_point("mounted");
        if !mount_ext4(&link, &place) {
            return;
        }
        let words = format!("is mounted at {}", place.display());
        disk.refuses(disk.node(), &words);
    });
}

#[test]
fn a_device_that_is_mounted_in_another_namespace() {
    let _alone = alone();
    let (mounted, is_mounted) = mpsc::channel();
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if let Err(error) = private_mounts() {
                skip(&format!("no mount namespace: {error}"));
                return;
            }
            // A mark would be seen here as well: the mount alone is to speak.
            let Some(disk) = Disk::formatted() else { return };
            let place = disk.mount_point("mounted");
            if !mount_ext4(disk.node(), &place) {
                return;
            }
            // The other side has gone when it has failed.
            let _ = mounted.send(disk);
            let _ = is_done.recv();
        });
        if let Ok(disk) = is_mounted.recv() {
            disk.refuses(disk.node(), "says EBUSY");
        }
        drop(done);
    });
}

#[test]
fn a_device_that_somebody_has_open_exclusively() {
    let _alone = alone();
    let Some(disk) = Disk::blank() else { return };
    let held = while_busy(|| {
        fs::File::options()
            .read(true)
            .custom_flags(libc::O_EXCL)
            .open(disk.node())
    });
    let _held = held.expect("nobody else has it");
    disk.refuses(disk.node(), "with O_EXCL says EBUSY");
}

/// Swap on a device of the test's own, off again at the end.
struct Swap(CString);

impl Swap {
    fn on(node: &Path) -> io::Result<Self> {
        let path = c_text(node);
        // The kernel gives it the lowest priority: it is used last.
        // SAFETY: the string is terminated and lives through the call.
        while_busy(|| check(unsafe { libc::swapon(path.as_ptr(), 0) }))?;
        Ok(Self(path))
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        // SAFETY: the string is terminated and lives through the call.
        if unsafe { libc::swapoff(self.0.as_ptr()) } != 0 {
            eprintln!("could not swapoff {:?}", self.0);
        }
    }
}

#[test]
fn a_device_that_is_swap() {
    let _alone = alone();
    let made = Disk::made_by(|image| {
        // Swap wants a file without holes below it.
        fs::write(image, vec![0; 16 << 20]).expect("an image");
        ran("mkswap", &[&image.to_string_lossy()])
    });
    let Some(disk) = made else { return };
    match Swap::on(disk.node()) {
        Ok(_swap) => disk.refuses(disk.node(), "is used for swap"),
        Err(error) => skip(&format!("swapon: {error}")),
    }
    disk.refuses(disk.node(), "the mark of swap");
}

/// A device-mapper device, removed at the end.
struct Mapped(String);

impl Drop for Mapped {
    fn drop(&mut self) {
        ran("dmsetup", &["--noudevsync", "remove", &self.0]);
    }
}

#[test]
fn a_device_that_device_mapper_holds() {
    let _alone = alone();
    if !Path::new("/dev/mapper/control").exists() {
        skip("this kernel has no device mapper");
        return;
    }
    let Some(disk) = Disk::blank() else { return };
    let name = format!("bypass-guard-{}", std::process::id());
    let sectors = IMAGE_BYTES / 512;
    let table = format!("0 {sectors} linear {} 0", disk.node().display());
    let create = ["--noudevsync", "create", &name, "--table", &table];
    if !ran("dmsetup", &create) {
        return;
    }
    let mapped = Mapped(name);
    disk.refuses(disk.node(), "is held by dm-");
    let upper = Path::new("/dev/mapper").join(&mapped.0);
    if upper.exists() {
        disk.refuses(&upper, "is built on other devices");
    }
}

#[test]
fn two_loop_devices_of_one_file_and_a_loop_device_of_a_device() {
    let _alone = alone();
    let Some(disk) = Disk::blank() else { return };
    // A container may have nodes of the first few only.
    let another = LoopDevice::attach(&disk.image);
    let Ok(second) = another.map_err(|e| skip(&format!("loop: {e}"))) else {
        return;
    };
    disk.refuses(disk.node(), "is also what loop");
    disk.refuses(&second.node, "is also what loop");
    drop(second);
    let above = LoopDevice::attach(disk.node()).expect("a loop above");
    disk.refuses(disk.node(), "is also what loop");
    disk.refuses(&above.node, "is another name of");
}

#[test]
fn what_bears_a_signature() {
    let _alone = alone();
    const UBERBLOCK: &[u8] = b"\x0c\xb1\xba\0\0\0\0\0";
    const MARKS: [(&str, u64, &[u8]); 9] = [
        ("ZFS", 128 << 10, UBERBLOCK),
        ("ZFS", IMAGE_BYTES - (64 << 10), UBERBLOCK),
        ("btrfs", (64 << 10) + 64, b"_BHRfS_M"),
        ("ext2, ext3 or ext4", 1080, b"\x53\xef"),
        ("XFS", 0, b"XFSB"),
        ("LUKS", 0, b"LUKS\xba\xbe"),
        ("a GPT", 512, b"EFI PART"),
        ("a backup GPT", IMAGE_BYTES - 512, b"EFI PART"),
        ("an MBR or boot sector", 510, b"\x55\xaa"),
    ];
    for (name, offset, bytes) in MARKS {
        let Some(disk) = Disk::marked(offset, bytes) else { return };
        disk.refuses(disk.node(), &format!("mark of {name} at byte {offset}"));
    }
}

#[test]
fn a_list_says_of_each_what_it_is_and_why_not_or_which_word() {
    let _alone = alone();
    in_a_namespace(|| {
        let (Some(blank), Some(mounted)) = (Disk::blank(), Disk::formatted())
        else {
            return;
        };
        let place = mounted.mount_point("mounted");
        if !mount_ext4(mounted.node(), &place) {
            return;
        }
        let output = Command::new(BYPASS).args(["list", "--devices"]).output();
        let list = text(&output.expect("bypass"));
        let entry_of = |disk: &Disk| {
            let heading = format!("{}  ", disk.node().display());
            let mut lines = list.lines();
            let first = lines.find(|line| line.starts_with(&heading));
            let rest: Vec<&str> = lines.take(2).collect();
            format!("{}\n{}", first.unwrap_or("not listed"), rest.join("\n"))
        };
        for disk in [&blank, &mounted] {
            let about = format!("loop device, 16 MiB, of {:?}", disk.image);
            let about = about.replace('"', "");
            assert!(entry_of(disk).contains(&about), "{list}");
            // Too small to be measured.
            assert!(entry_of(disk).contains("read   /dev/loop"), "{list}");
        }
        let word = format!("yes, with --allow-destroy {}", blank.word());
        assert!(entry_of(&blank).contains(&word), "{list}");
        let reason = format!("write  no: is mounted at {}", place.display());
        assert!(entry_of(&mounted).contains(&reason), "{list}");
        assert!(!list.contains(&mounted.word()), "{list}");
    });
}
