//! What rows claim of made-up devices and counters.

use serde_json::json;

use super::*;
use crate::target::{Access, Contents, Preconditioning, Writable};

fn disk(name: &str, cache: &str, fua: bool) -> BlockDevice {
    let mut disk = device(name, "scsi", Vec::new());
    disk.write_cache = Some(cache.to_owned());
    disk.fua = Some(fua);
    disk.hardware_queues = Some(1);
    disk
}

fn device(name: &str, kind: &str, built_on: Vec<BlockDevice>) -> BlockDevice {
    let device = json!({"name": name, "kind": kind, "built_on": built_on});
    serde_json::from_value(device).expect("a device")
}

fn target(device: Option<BlockDevice>, options: &[&str]) -> Target {
    let mount_options = options.iter().map(ToString::to_string).collect();
    Target {
        path: "/dev/null".into(),
        bytes: 1 << 20,
        contents: Contents::Foreign,
        access: Access::Direct,
        writable: Some(Writable { mount_options, ..Writable::default() }),
        preconditioning: Some(Preconditioning { passes: 1, bytes: 1 << 20 }),
        filesystem: Some("ext4".to_owned()),
        device,
        interrupts: Vec::new(),
        label: "made up".to_owned(),
    }
}

fn medium(target: &Target) -> Medium {
    Medium::of(&Root::at("/nonexistent"), target.device.as_ref())
}

/// What is stated of 1,000 direct writes of one writer.
fn stated(target: &Target, means: Means, flushes: Option<f64>) -> Evidence {
    stated_of(target, means, flushes, 1.0)
}

fn stated_of(
    target: &Target,
    means: Means,
    flushes: Option<f64>,
    writers: f64,
) -> Evidence {
    let case = Case {
        target,
        direct: true,
        writers,
        writes: 1_000.0,
        bytes: 4_096_000.0,
        means,
        seen: Seen {
            flushes,
            bytes_written: Some(4_096_000.0),
            ..Seen::default()
        },
        medium: medium(target),
    };
    let mut evidence = Evidence::default();
    case.state(&mut evidence);
    evidence
}

fn word<'a>(evidence: &'a Evidence, key: &str) -> Option<&'a str> {
    let found = evidence.path.iter().find(|(name, _)| name == key);
    found.map(|(_, value)| value.as_str())
}

#[test]
fn a_volatile_cache_must_be_flushed_once_per_write() {
    let target = target(Some(disk("sda", "write back", false)), &[]);
    for means in [Means::Sync, Means::Dsync] {
        let good = stated(&target, means, Some(1_001.0));
        assert_eq!(word(&good, "flush"), Some("device"));
        assert_eq!(word(&good, "flushes_per_op"), Some("1.00"));
        assert_eq!(good.degraded, [""; 0]);
        let bad = stated(&target, means, Some(900.0));
        assert_eq!(word(&bad, "flush"), Some("missing"));
        assert!(bad.degraded[0].contains("900 times for 1000 writes"));
    }
}

#[test]
fn a_device_written_in_part_was_not_preconditioned() {
    let mut disk = disk("sda", "write back", false);
    let mut told = |size_bytes, filesystem: Option<&str>, passes| {
        disk.size_bytes = size_bytes;
        let mut target = target(Some(disk.clone()), &[]);
        target.filesystem = filesystem.map(str::to_owned);
        target.preconditioning =
            Some(Preconditioning { passes, bytes: 1 << 20 });
        let evidence = stated(&target, Means::Sync, Some(1_001.0));
        word(&evidence, "preconditioned").map(str::to_owned)
    };
    let mut is = |size, filesystem, passes, expected: &str| {
        let told = told(size, filesystem, passes);
        assert_eq!(told.as_deref(), Some(expected));
    };
    is(Some((1 << 20) + 512), None, 2, "written twice");
    is(Some(1 << 30), None, 2, "no");
    is(None, None, 2, "no");
    // Of a file it is the file that counts.
    is(Some(1 << 30), Some("ext4"), 1, "written once");
}

#[test]
fn a_group_may_share_a_flush_among_all_its_writers() {
    let target = target(Some(disk("sda", "write back", false)), &[]);
    let shared = stated_of(&target, Means::Sync, Some(63.0), 16.0);
    assert_eq!(word(&shared, "flush"), Some("device"));
    assert_eq!(shared.degraded, [""; 0]);
    let too_few = stated_of(&target, Means::Sync, Some(50.0), 16.0);
    assert_eq!(too_few.degraded.len(), 1);
}

#[test]
fn the_mount_option_that_leaves_flushes_out_is_named() {
    for option in ["nobarrier", "barrier=0", "fsync_mode=nobarrier"] {
        let disk = disk("sda", "write back", false);
        let target = target(Some(disk), &["discard", option]);
        let evidence = stated(&target, Means::Sync, Some(0.0));
        let reason = &evidence.degraded[0];
        assert!(reason.contains(&format!("with {option}")), "{reason}");
        let options = word(&evidence, "mount_options");
        assert_eq!(options, Some(format!("discard,{option}").as_str()));
        assert!(bears_on_durability(option));
    }
}

#[test]
fn fua_explains_missing_flushes_of_dsync_writes_alone() {
    let target = target(Some(disk("nvme0n1", "write back", true)), &[]);
    let dsync = stated(&target, Means::Dsync, Some(0.0));
    assert_eq!(word(&dsync, "flush"), Some(FUA));
    assert_eq!(dsync.degraded, [""; 0]);
    let sync = stated(&target, Means::Sync, Some(0.0));
    assert_eq!(sync.degraded.len(), 1, "fdatasync always flushes");
    let device = Target { filesystem: None, ..target };
    let dsync = stated(&device, Means::Dsync, Some(0.0));
    assert_eq!(word(&dsync, "flush"), Some("missing"));
    assert_eq!(dsync.degraded.len(), 1, "so does a device itself");
}

#[test]
fn without_a_volatile_cache_no_flush_is_needed() {
    let target = target(Some(disk("sda", "write through", false)), &[]);
    let evidence = stated(&target, Means::Sync, Some(0.0));
    let flush = word(&evidence, "flush");
    assert_eq!(flush, Some("not needed: write through"));
    assert_eq!(evidence.degraded, [""; 0]);
}

#[test]
fn a_drive_that_says_it_forgets_counts_more_than_what_the_kernel_was_told() {
    let mut told = target(Some(disk("nvme0n1", "write through", true)), &[]);
    told.writable.get_or_insert_default().forgetful_drives =
        vec!["nvme0n1".to_owned()];
    for means in [Means::Sync, Means::Dsync] {
        let evidence = stated(&told, means, Some(0.0));
        assert_eq!(word(&evidence, "flush"), Some("missing"));
        let reason = &evidence.degraded[0];
        assert!(reason.starts_with("nvme0n1 has a volatile"), "{reason}");
    }
    // What claims nothing is not accused; nor is what is flushed.
    let bound = stated(&told, Means::Nothing, Some(0.0));
    assert_eq!(bound.degraded, [""; 0]);
    if let Some(device) = &mut told.device {
        device.write_cache = Some("write back".to_owned());
    }
    let flushed = stated(&told, Means::Sync, Some(1_000.0));
    assert_eq!(flushed.degraded, [""; 0]);
}

#[test]
fn what_cannot_be_seen_is_unknown_and_accuses_nobody() {
    let uncounted = target(Some(disk("sda", "write back", false)), &[]);
    for target in [target(None, &[]), uncounted] {
        let evidence = stated(&target, Means::Sync, None);
        assert_eq!(word(&evidence, "flush"), Some("unknown"));
        assert_eq!(evidence.degraded, [""; 0]);
    }
}

#[test]
fn memory_and_what_is_of_unknown_whereabouts_keep_nothing() {
    let zram = device("zram0", "zram", Vec::new());
    let evidence = stated(&target(Some(zram), &[]), Means::Sync, Some(2_000.0));
    assert!(evidence.degraded[0].contains("in memory"));
    let on_tmpfs = device("loop0", "loop", Vec::new());
    let evidence =
        stated(&target(Some(on_tmpfs), &[]), Means::Sync, Some(2_000.0));
    assert!(evidence.degraded[0].contains("the file behind loop0"));
    let afar = device("nbd0", "network", Vec::new());
    let evidence = stated(&target(Some(afar), &[]), Means::Sync, Some(2_000.0));
    assert!(evidence.degraded[0].contains("keeps the blocks of nbd0"));
}

#[test]
fn bytes_that_never_reached_the_device_show() {
    let target = target(Some(disk("sda", "write back", false)), &[]);
    let case = Case {
        target: &target,
        direct: false,
        writers: 1.0,
        writes: 1_000.0,
        bytes: 4_096_000.0,
        means: Means::Sync,
        seen: Seen {
            flushes: Some(1_000.0),
            bytes_written: Some(409_600.0),
            ..Seen::default()
        },
        medium: medium(&target),
    };
    let mut evidence = Evidence::default();
    case.state(&mut evidence);
    assert!(evidence.degraded[0].contains("only 10 %"));
}
