//! The guard before real devices: loop devices that each test makes of a file
//! of its own, and mounts that only a child's namespace has. Needs root.

mod support;

use std::{
    ffi::CString,
    fs::{self, File},
    io::Read,
    os::fd::{AsRawFd, FromRawFd},
    os::unix::{ffi::OsStrExt, fs::symlink, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use bench_storage::{
    SUITE, guard,
    target::{Access, Contents, Target, Writable, prepare_sized},
};
use harness::{
    machine::Root,
    suite::{RefusalKind, Role},
};
use support::{
    TARGET_BYTES, alone, cpus, disks::Disk, experiment, loops::LoopDevice,
    measured, mounts, proof, skip, trial, unchecked,
};

/// Nobody else makes a device busy for longer than a look at it takes.
const BUSY_PATIENCE: Duration = Duration::from_secs(20);

const DIRECT: &str = "storage/durable-write-4k depth=1 o_direct=yes \
     op_bytes=4096 pattern=sequential";

impl Disk {
    /// Refused by this name with these words, whatever is said, and not a
    /// byte of it changed.
    fn refuses(&self, path: &Path, words: &str) {
        let before = self.bytes();
        let judgement = guard::judge(&Root::system(), path).expect("a device");
        let reasons = judgement.reasons.join("; ");
        assert!(reasons.contains(words), "{path:?}: {reasons}");
        assert_eq!(judgement.word, None, "{path:?}");
        for word in [None, Some("please"), Some(self.word().as_str())] {
            let request = self.asking(path, DIRECT, word);
            let refusal = (SUITE.prepare)(&request).expect_err("refused");
            assert_eq!(refusal.kind, RefusalKind::UnsafeTarget, "{refusal}");
            assert!(refusal.what.contains(words), "{refusal}");
            let refusal = (SUITE.forecast)(&request).expect_err("refused");
            assert_eq!(refusal.kind, RefusalKind::UnsafeTarget, "{refusal}");
        }
        assert!(self.bytes() == before, "{path:?} was written to");
    }
}

/// Sees what makes udev look at a device anew, inotify(7).
struct Watch(File);

impl Watch {
    fn new(node: &Path) -> Self {
        let node = CString::new(node.as_os_str().as_bytes()).expect("no NUL");
        // SAFETY: this call takes no pointer.
        let queue = unsafe { libc::inotify_init1(libc::IN_NONBLOCK) };
        assert!(queue >= 0, "inotify");
        // SAFETY: the descriptor is new and nobody else's.
        let queue = unsafe { File::from_raw_fd(queue) };
        // SAFETY: the path is terminated and lives through the call.
        let watch = unsafe {
            libc::inotify_add_watch(
                queue.as_raw_fd(),
                node.as_ptr(),
                libc::IN_CLOSE_WRITE,
            )
        };
        assert!(watch >= 0, "inotify_add_watch");
        Self(queue)
    }

    fn saw_close_after_writing(&self) -> bool {
        (&self.0).read(&mut [0; 4096]).is_ok_and(|length| length > 0)
    }
}

#[test]
fn a_blank_loop_device_is_written_only_with_its_word() {
    let _alone = alone();
    let Some(disk) = Disk::blank() else { return };
    let before = disk.bytes();
    let node = disk.device.node.clone();
    let judgement = guard::judge(&Root::system(), &node).expect("a device");
    assert_eq!(judgement.reasons, [""; 0]);
    assert_eq!(judgement.word, Some(disk.word()));
    let report = (SUITE.devices)(&Root::system());
    let path = node.to_string_lossy();
    let own = report.iter().find(|r| r.path == path).expect("listed");
    assert_eq!(own.word, Some(disk.word()));
    assert_eq!(own.no_read, None);
    for word in [None, Some("please"), Some("loop-0-1")] {
        let request = disk.asking(&node, DIRECT, word);
        let refusal = (SUITE.prepare)(&request).expect_err("refused");
        assert_eq!(refusal.kind, RefusalKind::UnsafeTarget);
        assert!(refusal.what.contains("--allow-destroy"), "{refusal}");
        assert!(refusal.remedy.contains("list --devices"), "{refusal}");
        assert!(!refusal.to_string().contains(&disk.word()), "{refusal}");
    }
    assert!(disk.bytes() == before);
}

#[test]
fn with_its_word_a_loop_device_is_written_where_it_was_said_and_held() {
    let _alone = alone();
    let Some(disk) = Disk::blank() else { return };
    let node = disk.device.node.clone();
    let request = disk.asking(&node, DIRECT, Some(disk.word().as_str()));
    let watch = Watch::new(&node);
    let forecast = (SUITE.forecast)(&request).expect("allowed");
    assert!(!watch.saw_close_after_writing(), "a forecast opened it to write");
    assert_eq!(forecast.bytes_written, TARGET_BYTES);
    assert!(forecast.touches[0].contains("what is there is lost"));
    // A quarter of this is written.
    let session = prepare_sized(&request, TARGET_BYTES).expect("allowed");
    let busy = guard::judge(&Root::system(), &node).expect("a device");
    assert!(busy.reasons.join("; ").contains("EBUSY"), "{busy:?}");
    let own = session.own(DIRECT).expect("allowed").expect("its own");
    assert!(own.label().ends_with("16 MiB"), "{}", own.label());
    let experiment = experiment(DIRECT);
    for variant in &experiment.variants {
        if variant.id.starts_with("uring") && io_uring::IoUring::new(2).is_err()
        {
            skip("no io_uring");
            continue;
        }
        let mut trial = trial(&experiment.params, own.target(), cpus(2), 200);
        let outcome = measured(variant, &mut trial).expect(variant.id);
        assert!(outcome.ops() > 0, "{}", variant.id);
        assert!(outcome.evidence.verified_ops > 0, "{}", variant.id);
        if variant.role == Role::Bound
            || proof(&outcome, "medium") != Some("device")
        {
            continue;
        }
        let what = format!("{}: {:?}", variant.id, outcome.evidence);
        assert_eq!(outcome.evidence.degraded, [""; 0], "{what}");
        assert_eq!(proof(&outcome, "direct"), Some("yes"), "{what}");
    }
    drop(session);
    assert!(watch.saw_close_after_writing(), "the watch sees nothing");
    let image = fs::read(&disk.image).expect("the image");
    let (written, rest) = image.split_at(16 << 20);
    assert!(written.chunks(4096).all(|block| block.iter().any(|b| *b != 0)));
    assert!(rest.iter().all(|byte| *byte == 0), "written beyond its part");
    let free = guard::judge(&Root::system(), &node).expect("a device");
    assert_eq!(free.word, Some(disk.word()), "{:?}", free.reasons);
}

/// A worker with such a descriptor, and what it says.
fn worker_refuses(file: &File, words: &str) {
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let target = Target {
        bytes: 16 << 20,
        writable: Some(Writable::default()),
        ..unchecked(&path, Access::Direct, Contents::Foreign)
    };
    let experiment = experiment(DIRECT);
    let target = serde_json::to_value(target).expect("json");
    for variant in &experiment.variants {
        let trial = trial(&experiment.params, target.clone(), cpus(1), 50);
        let error = (variant.worker)(&trial).expect_err(variant.id);
        let text = error.to_string();
        assert!(text.contains(words), "{}: {text}", variant.id);
    }
}

#[test]
fn no_worker_writes_to_a_device_that_the_run_does_not_hold() {
    let _alone = alone();
    let Some(disk) = Disk::blank() else { return };
    let mut options = File::options();
    let file = options.read(true).write(true).open(&disk.device.node);
    worker_refuses(&file.expect("root"), "nobody holds with O_EXCL");
    assert!(disk.bytes().iter().all(|byte| *byte == 0));
}

#[test]
fn what_bears_a_mark_is_refused() {
    let _alone = alone();
    for (program, mark) in [
        (["mkfs.ext4", "-q", "-F"].as_slice(), "ext2, ext3 or ext4"),
        (&["mkswap"], "the mark of swap"),
    ] {
        let Some(disk) = Disk::made_by(program) else { continue };
        disk.refuses(&disk.device.node, mark);
    }
}

#[test]
fn a_device_with_a_partition_is_refused_and_so_is_the_partition() {
    let _alone = alone();
    let Some(disk) = Disk::blank() else { return };
    if let Err(error) = disk.device.add_partition(1 << 20, 32 << 20) {
        skip(&format!("BLKPG: {error}"));
        return;
    }
    disk.refuses(&disk.device.node, "has partitions: ");
    let partition = disk.device.partition();
    if !partition.exists() {
        skip("nobody makes nodes for partitions here");
        return;
    }
    disk.refuses(&partition, "a partition: only whole devices");
}

#[test]
fn loops_that_share_a_file_or_a_device_are_refused() {
    let _alone = alone();
    let Some(disk) = Disk::blank() else { return };
    // A container may have nodes of the first few only.
    let another = LoopDevice::attach(&disk.image);
    let Ok(second) = another.map_err(|e| skip(&format!("loop: {e}"))) else {
        return;
    };
    disk.refuses(&disk.device.node, "is also what loop");
    disk.refuses(&second.node, "is also what loop");
    drop(second);
    let link = disk.directory.path().join("hard-link");
    fs::hard_link(&disk.image, &link).expect("a hard link");
    let linked = LoopDevice::attach(&link).expect("a loop of another name");
    disk.refuses(&disk.device.node, "is also what loop");
    disk.refuses(&linked.node, "is also what loop");
    drop(linked);
    let above = LoopDevice::attach(&disk.device.node).expect("a loop above");
    disk.refuses(&disk.device.node, "is also what loop");
    disk.refuses(&above.node, "is another name of /dev/loop");
}

/// Runs an inner test of this binary in a mount namespace of its own.
fn in_a_namespace(inner: &str) {
    let mut command =
        Command::new(std::env::current_exe().expect("this program"));
    command.args([inner, "--exact", "--ignored", "--nocapture"]);
    // SAFETY: between fork and exec only these two system calls are made,
    // with constant arguments.
    unsafe {
        command.pre_exec(|| {
            let flags = libc::MS_REC | libc::MS_PRIVATE;
            let none = std::ptr::null();
            if libc::unshare(libc::CLONE_NEWNS) != 0
                || libc::mount(none, c"/".as_ptr(), none, flags, none.cast())
                    != 0
            {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    match command.output() {
        Err(error) => skip(&format!("no mount namespace: {error}")),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let complaint = String::from_utf8_lossy(&output.stderr);
            eprint!("{complaint}");
            assert!(output.status.success(), "{text}{complaint}");
        }
    }
}

/// Whether it is mounted; not, and loudly, where the kernel has no such file
/// system. Somebody's look at the device makes it busy for a moment.
fn mount(
    source: &Path,
    target: &Path,
    kind: &str,
    flags: libc::c_ulong,
) -> bool {
    let begun = Instant::now();
    loop {
        let mounted = mounts::mount(source, target, kind, flags, "");
        let Err(error) = mounted else { return true };
        match error.raw_os_error() {
            Some(libc::ENODEV) => {
                skip(&format!("no {kind} in this kernel"));
                return false;
            }
            Some(libc::EBUSY) if begun.elapsed() < BUSY_PATIENCE => {
                thread::sleep(Duration::from_millis(20));
            }
            _ => panic!("mount {source:?} on {target:?}: {error}"),
        }
    }
}

#[test]
#[ignore = "started by the test below, in a mount namespace"]
fn inner_mounted() {
    let program = ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0"];
    let Some(disk) = Disk::made_by(&program) else { return };
    let node = &disk.device.node;
    let place = disk.directory.path().join("mounted");
    let (bound, again) =
        (disk.directory.path().join("bound"), place.join("lost+found"));
    fs::create_dir(&place).expect("a mount point");
    fs::create_dir(&bound).expect("a mount point");
    // Read-only, so that ext4 itself writes nothing meanwhile.
    if !mount(node, &place, "ext4", libc::MS_RDONLY) {
        return;
    }
    assert!(mount(&again, &bound, "", libc::MS_BIND));
    let link = disk.directory.path().join("link");
    symlink(node, &link).expect("a symbolic link");
    let alias = disk.directory.path().join("alias");
    fs::write(&alias, "").expect("a file to mount over");
    assert!(mount(node, &alias, "", libc::MS_BIND));
    for path in [node, &link, &alias] {
        disk.refuses(path, &format!("mounted at {}", place.display()));
        disk.refuses(path, &format!("mounted at {}", bound.display()));
    }
    // The mount holds it with O_EXCL, as the run would.
    match File::options().read(true).write(true).open(node) {
        Ok(file) => worker_refuses(&file, "is mounted at "),
        Err(error) => skip(&format!("mounted, and so not opened: {error}")),
    }
    // The bind mount alone keeps the device in use.
    let text = CString::new(place.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: the string is terminated and lives through the call.
    unsafe { libc::umount2(text.as_ptr(), libc::MNT_DETACH) };
    disk.refuses(node, &format!("mounted at {}", bound.display()));
    // Unmounted, what stands on it still speaks against writing.
    let text = CString::new(bound.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: as above.
    unsafe { libc::umount2(text.as_ptr(), libc::MNT_DETACH) };
    disk.refuses(node, "the mark of ext2, ext3 or ext4");
}

#[test]
fn a_mounted_device_is_refused_by_every_name() {
    let _alone = alone();
    in_a_namespace("inner_mounted");
}
