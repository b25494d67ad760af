//! What the guard says of devices that no test machine has, in fixture trees.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, symlink},
    path::Path,
};

use bench_storage::guard::{self, Judgement, Unsafe};
use harness::machine::Root;

const BYTES: u64 = 64 << 20;
const WORD: &str = "Fast-SSD-345678";

/// A machine with its root on `vda1` and an unused disk `sda`.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let this = Self(tempfile::tempdir().expect("temporary directory"));
        this.file(
            "proc/self/mountinfo",
            "1 0 254:1 / / rw - ext4 /dev/vda1 rw\n",
        );
        this.file("proc/swaps", "Filename Type Size Used Priority\n");
        this.disk("vda", "254:0");
        this.partition("vda", "vda1", "254:1");
        this.disk("sda", "8:0");
        this.file("sys/block/sda/device/model", "Fast SSD\n");
        this.file("sys/block/sda/device/serial", "S012345678\n");
        this
    }

    fn disk(&self, name: &str, number: &str) {
        let place = format!("sys/devices/virtual/block/{name}");
        self.file(&format!("{place}/dev"), number);
        self.file(&format!("{place}/ro"), "0");
        self.file(&format!("{place}/size"), &(BYTES / 512).to_string());
        for alias in [
            format!("sys/block/{name}"),
            format!("sys/class/block/{name}"),
            format!("sys/dev/block/{number}"),
        ] {
            self.link(&alias, &place);
        }
        self.node(name);
    }

    fn partition(&self, disk: &str, name: &str, number: &str) {
        let place = format!("sys/devices/virtual/block/{disk}/{name}");
        self.file(&format!("{place}/dev"), number);
        self.file(&format!("{place}/partition"), "1");
        self.link(&format!("sys/class/block/{name}"), &place);
        self.link(&format!("sys/dev/block/{number}"), &place);
        self.node(name);
    }

    /// A file of zeros stands in for the device.
    fn node(&self, name: &str) {
        self.file(&format!("dev/{name}"), "");
        self.open(name).set_len(BYTES).expect("length");
    }

    fn open(&self, name: &str) -> File {
        let path = self.0.path().join("dev").join(name);
        File::options().write(true).open(path).expect("a node")
    }

    fn file(&self, rel: &str, text: &str) {
        let path = self.0.path().join(rel);
        fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        fs::write(path, text).expect("write");
    }

    fn link(&self, rel: &str, target: &str) {
        let path = self.0.path().join(rel);
        fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        let up = "../".repeat(rel.matches('/').count());
        symlink(format!("{up}{target}"), path).expect("symlink");
    }

    fn mount(&self, line: &str) {
        let path = self.0.path().join("proc/self/mountinfo");
        let table = fs::read_to_string(&path).expect("mountinfo");
        fs::write(path, format!("{table}{line}\n")).expect("mountinfo");
    }

    fn judge(&self, path: &str) -> Judgement {
        let root = Root::at(self.0.path());
        guard::judge(&root, Path::new(path)).expect("a device")
    }

    /// Refused under this name, with a reason that holds these words.
    fn refuses(&self, path: &str, words: &str) {
        let judgement = self.judge(path);
        assert_eq!(judgement.word, None, "{path}");
        let reasons = judgement.reasons.join("; ");
        assert!(reasons.contains(words), "{path}: {reasons}");
        let root = Root::at(self.0.path());
        let cleared = guard::clear(&root, Path::new(path), Some(WORD));
        let error = cleared.expect_err("refused whatever the word");
        assert!(matches!(error, Unsafe::InUse { .. }), "{error}");
    }
}

#[test]
fn an_unused_disk_needs_its_word_and_nothing_else() {
    let machine = Machine::new();
    let judgement = machine.judge("/dev/sda");
    assert_eq!(judgement.reasons, [""; 0]);
    assert_eq!(judgement.word.as_deref(), Some(WORD));
    let root = Root::at(machine.0.path());
    let clear = |said| guard::clear(&root, Path::new("/dev/sda"), said);
    let silent = clear(None).expect_err("no word");
    assert!(matches!(silent, Unsafe::NotAllowed { wrong: false, .. }));
    for other in ["", "yes", "Fast-SSD", "fast-ssd-345678"] {
        let error = clear(Some(other)).expect_err("another word");
        assert!(matches!(error, Unsafe::NotAllowed { wrong: true, .. }));
        assert!(!error.to_string().contains(WORD), "{error}");
    }
}

#[test]
fn a_disk_is_mounted_under_all_its_names() {
    let machine = Machine::new();
    machine.link("dev/disk/by-id/virtio-one", "dev/vda");
    machine.link("dev/disk/by-uuid/1234", "dev/vda1");
    symlink("/nonexistent", machine.0.path().join("dev/broken"))
        .expect("symlink");
    for path in ["/dev/vda", "/dev/disk/by-id/virtio-one"] {
        machine.refuses(path, "is mounted at / (ext4)");
        machine.refuses(path, "has partitions: vda1");
    }
    for path in ["/dev/vda1", "/dev/disk/by-uuid/1234"] {
        machine.refuses(path, "is mounted at / (ext4)");
        machine.refuses(path, "as vda1, a partition");
    }
    let root = Root::at(machine.0.path());
    for none in ["/dev/broken", "/etc/passwd", "/nonexistent"] {
        assert!(guard::judge(&root, Path::new(none)).is_none(), "{none}");
    }
}

#[test]
fn mounts_are_found_by_number_and_by_source() {
    let bind = Machine::new();
    bind.mount("2 1 8:0 /sub /mnt/bound rw - xfs /dev/nothing rw");
    bind.refuses("/dev/sda", "is mounted at /mnt/bound (xfs)");
    let btrfs = Machine::new();
    btrfs.mount("2 1 0:40 / /mnt/pool rw - btrfs /dev/sda rw");
    btrfs.refuses("/dev/sda", "is mounted at /mnt/pool (btrfs)");
    let by_id = Machine::new();
    by_id.link("dev/disk/by-id/ata-x", "dev/sda");
    by_id.mount("2 1 0:41 / /mnt/pool rw - btrfs /dev/disk/by-id/ata-x rw");
    by_id.refuses("/dev/sda", "is mounted at /mnt/pool");
}

#[test]
fn swap_holders_and_partitions_count_on_disk_and_partition() {
    let swap = Machine::new();
    swap.file(
        "proc/swaps",
        "Filename Type Size Used Priority\n/dev/sda partition 100 0 -2\n",
    );
    swap.refuses("/dev/sda", "is used for swap (/dev/sda)");

    let lvm = Machine::new();
    lvm.file("sys/devices/virtual/block/sda/holders/dm-0/x", "");
    lvm.refuses("/dev/sda", "is held by dm-0");

    let md = Machine::new();
    md.partition("sda", "sda1", "8:1");
    md.refuses("/dev/sda", "has partitions: sda1");
    md.file("sys/devices/virtual/block/sda/sda1/holders/md127/x", "");
    md.refuses("/dev/sda", "is held by md127");
    md.file(
        "proc/swaps",
        "Filename Type Size Used Priority\n/dev/sda1 partition 100 0 -2\n",
    );
    md.refuses("/dev/sda", "is used for swap (/dev/sda1)");
}

#[test]
fn stacked_read_only_and_empty_devices() {
    let machine = Machine::new();
    machine.disk("dm-0", "253:0");
    machine.link("sys/block/dm-0/slaves/sda", "sys/block/sda");
    machine.refuses("/dev/dm-0", "is built on other devices");
    machine.disk("md0", "9:0");
    machine.refuses("/dev/md0", "is built on other devices");
    machine.file("sys/block/sda/ro", "1");
    machine.refuses("/dev/sda", "is read-only");
    machine.file("sys/block/sda/ro", "junk");
    machine.refuses("/dev/sda", "`ro` is unknown");
    machine.file("sys/block/sda/ro", "0");
    machine.file("sys/block/sda/size", "0");
    machine.refuses("/dev/sda", "has no size");
}

#[test]
fn an_nvme_character_device_is_its_namespace() {
    let machine = Machine::new();
    machine.disk("nvme0n1", "259:0");
    machine.file("dev/ng0n1", "");
    machine.file("sys/block/nvme0n1/device/model", "Fast NVMe");
    machine.file("sys/block/nvme0n1/device/serial", "N00012345");
    let judgement = machine.judge("/dev/ng0n1");
    assert_eq!(judgement.device.name, "nvme0n1");
    assert_eq!(judgement.word.as_deref(), Some("Fast-NVMe-012345"));
    machine.mount("2 1 259:0 / /mnt rw - ext4 /dev/nvme0n1 rw");
    machine.refuses("/dev/ng0n1", "is mounted at /mnt");
}

#[test]
fn a_second_path_to_a_disk_in_use_is_refused() {
    let machine = Machine::new();
    machine.disk("sdb", "8:16");
    machine.file("sys/block/sdb/device/wwid", "naa.5000c500a1b2c3d4");
    machine.mount("2 1 8:16 / /mnt/other rw - ext4 /dev/sdb rw");
    assert_eq!(machine.judge("/dev/sda").reasons, [""; 0]);
    machine.file("sys/block/sda/device/wwid", "naa.5000c500a1b2c3d4");
    machine.refuses("/dev/sda", "is also sdb, which is mounted at /mnt/other");
}

#[test]
fn loops_over_a_device_and_over_each_others_file() {
    let machine = Machine::new();
    machine.disk("loop0", "7:0");
    machine.file("sys/block/loop0/loop/backing_file", "/dev/sda\n");
    machine.refuses("/dev/sda", "is also what loop0 is made of");
    machine.refuses("/dev/loop0", "is another name of /dev/sda");
    machine.file("sys/block/loop0/loop/backing_file", "/srv/image\n");
    machine.disk("loop1", "7:1");
    machine.file("sys/block/loop1/loop/backing_file", "/srv/image\n");
    machine.refuses("/dev/loop0", "is also what loop1 is made of");
    assert_eq!(machine.judge("/dev/sda").reasons, [""; 0]);
}

#[test]
fn marks_on_the_medium_are_found_at_both_ends() {
    let machine = Machine::new();
    let disk = machine.open("sda");
    for (offset, bytes, name) in [
        (0, b"LUKS\xba\xbe".as_slice(), "LUKS"),
        (1080, b"\x53\xef", "ext2, ext3 or ext4"),
        (BYTES - 512, b"EFI PART", "a backup GPT"),
        (BYTES - 65_536, b"\xfc\x4e\x2b\xa9", "an md RAID"),
        (4096 - 10, b"SWAPSPACE2", "swap"),
    ] {
        disk.write_all_at(bytes, offset).expect("mark");
        machine.refuses("/dev/sda", &format!("{name} at byte {offset}"));
        disk.write_all_at(&vec![0; bytes.len()], offset).expect("wipe");
    }
    assert_eq!(machine.judge("/dev/sda").reasons, [""; 0]);
}

#[test]
fn what_cannot_be_known_speaks_against_writing() {
    let machine = Machine::new();
    let path = |rel: &str| machine.0.path().join(rel);
    fs::remove_file(path("proc/swaps")).expect("remove");
    machine.refuses("/dev/sda", "no /proc/swaps");
    machine.file("proc/swaps", "Filename\n");
    fs::write(path("proc/self/mountinfo"), "junk\n").expect("mountinfo");
    machine.refuses("/dev/sda", "no mount table");
    machine
        .file("proc/self/mountinfo", "1 0 254:1 / / rw - ext4 /dev/vda1 rw\n");
    fs::remove_file(path("sys/block/sda/device/serial")).expect("remove");
    machine.refuses("/dev/sda", "has no serial number of 4 or more");
    machine.refuses("/dev/sda", "no `diskseq` (Linux 5.15), no /proc/sys/");
    fs::remove_file(path("dev/sda")).expect("remove");
    let root = Root::at(machine.0.path());
    assert!(guard::judge(&root, Path::new("/dev/sda")).is_none());
}

#[test]
fn two_devices_with_one_word_may_not_be_written() {
    let machine = Machine::new();
    machine.disk("sdb", "8:16");
    machine.file("sys/block/sdb/device/model", "Fast SSD");
    machine.file("sys/block/sdb/device/serial", "T99345678");
    machine.refuses("/dev/sda", "has the same word as sdb");
    machine.refuses("/dev/sda", "detach the other, or write to a file");
    machine.refuses("/dev/sdb", "has the same word as sda");
    // A world-wide name that a maker gave twice does not make them one.
    for disk in ["sda", "sdb"] {
        machine.file(&format!("sys/block/{disk}/device/wwid"), "eui.0");
    }
    machine.refuses("/dev/sda", "has the same word as sdb");
}

/// Which start of the machine it is, and which disk since then.
fn sequence(machine: &Machine, disk: &str, boot: &str, number: &str) {
    let boot_id = format!("{boot}-0a1b-4c2d-8e3f-405162738495\n");
    machine.file("proc/sys/kernel/random/boot_id", &boot_id);
    machine.file(&format!("sys/block/{disk}/diskseq"), number);
}

#[test]
fn a_virtual_disk_without_model_is_written_with_a_word_of_this_boot() {
    let machine = Machine::new();
    machine.disk("vdb", "254:16");
    machine.file("sys/block/vdb/serial", "\n");
    machine.refuses("/dev/vdb", "has no model, no serial number of 4");
    sequence(&machine, "vdb", "3fa9c1d2", "12\n");
    let judgement = machine.judge("/dev/vdb");
    assert_eq!(judgement.reasons, [""; 0]);
    let word = "vdb-seq12-3fa9c1d2";
    assert_eq!(judgement.word.as_deref(), Some(word));
    let root = Root::at(machine.0.path());
    let path = Path::new("/dev/vdb");
    let allowed = guard::allow(&root, path, Some(word)).expect("its word");
    guard::hold(&root, path, &allowed).expect("nothing has changed");
    // Another disk of the same name, and the same after another start.
    for (boot, number) in [("3fa9c1d2", "13\n"), ("00000001", "12\n")] {
        sequence(&machine, "vdb", boot, number);
        let late = guard::hold(&root, path, &allowed).expect_err("exchanged");
        assert!(late.to_string().contains("became another device"), "{late}");
        let error = guard::clear(&root, path, Some(word)).expect_err("kept");
        assert!(matches!(error, Unsafe::NotAllowed { wrong: true, .. }));
    }
    // All else that speaks against a disk does against this one.
    machine.mount("2 1 254:16 / /mnt rw - ext4 /dev/vdb rw");
    machine.refuses("/dev/vdb", "is mounted at /mnt");
    machine.refuses("/dev/vda", "has partitions: vda1");
}

/// A namespace of the drive whose model and serial number all have.
fn namespace(machine: &Machine, name: &str, number: &str, nsid: &str) {
    machine.disk(name, number);
    let place = format!("sys/block/{name}");
    machine.file(&format!("{place}/device/model"), "Fast NVMe");
    machine.file(&format!("{place}/device/serial"), "N00012345");
    machine.file(&format!("{place}/nsid"), nsid);
    machine.file(&format!("{place}/wwid"), &format!("uuid.{nsid}"));
}

#[test]
fn namespaces_of_a_drive_have_their_own_words() {
    let machine = Machine::new();
    namespace(&machine, "nvme0n1", "259:0", "1");
    namespace(&machine, "nvme0n2", "259:1", "2");
    let word = |path| machine.judge(path).word;
    assert_eq!(word("/dev/nvme0n1").as_deref(), Some("Fast-NVMe-012345"));
    assert_eq!(word("/dev/nvme0n2").as_deref(), Some("Fast-NVMe-012345-n2"));
}

#[test]
fn the_hidden_path_of_a_multipath_drive_is_no_other_device() {
    let machine = Machine::new();
    namespace(&machine, "nvme0n1", "259:0", "1");
    namespace(&machine, "nvme0c0n1", "259:7", "1");
    fs::remove_file(machine.0.path().join("dev/nvme0c0n1")).expect("remove");
    machine.refuses("/dev/nvme0n1", "is also nvme0c0n1, which cannot be");
    machine.file("sys/block/nvme0c0n1/hidden", "1");
    assert_eq!(machine.judge("/dev/nvme0n1").reasons, [""; 0]);
}

/// What the refusal says, and what happened to the machine.
type Change = (&'static str, fn(&Machine));

#[test]
fn what_changes_between_word_and_opening_is_seen() {
    let changes: [Change; 5] = [
        ("became another device", |machine| {
            machine.file("sys/block/sda/device/serial", "S099999999");
        }),
        ("is mounted at /mnt", |machine| {
            machine.mount("2 1 8:0 / /mnt rw - xfs /dev/sda rw");
        }),
        ("bears the mark of LUKS", |machine| {
            let disk = machine.open("sda");
            disk.write_all_at(b"LUKS\xba\xbe", 0).expect("mark");
        }),
        ("has the same word as sdb", |machine| {
            machine.disk("sdb", "8:16");
            machine.file("sys/block/sdb/device/model", "Fast SSD");
            machine.file("sys/block/sdb/device/serial", "T99345678");
        }),
        ("is also sdb, which is mounted", |machine| {
            machine.disk("sdb", "8:16");
            for disk in ["sda", "sdb"] {
                machine.file(&format!("sys/block/{disk}/wwid"), "eui.1");
            }
            machine.mount("2 1 8:16 / /mnt rw - xfs /dev/sdb rw");
        }),
    ];
    for (words, change) in changes {
        let machine = Machine::new();
        let (root, path) = (Root::at(machine.0.path()), Path::new("/dev/sda"));
        let allowed = guard::allow(&root, path, Some(WORD)).expect("allowed");
        let held = guard::hold(&root, path, &allowed).expect("unchanged");
        assert_eq!(held.device.name, "sda");
        change(&machine);
        let error = guard::hold(&root, path, &allowed).expect_err(words);
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}
