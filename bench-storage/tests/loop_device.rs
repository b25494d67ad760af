//! A block device as target: a loop device that the test makes from a file of
//! its own, and that is only read. Needs root.

mod support;

use std::{path::Path, process::Command};

use bench_storage::target::{Contents, prepare_sized};
use support::{
    alone, available, experiment, foreign_file, loops::LoopDevice, proof,
    real_directory, request, run_on, run_seen, skip, target_of, variant,
};

/// A loop device whose own reads of its file go past the page cache, or not;
/// a loud skip where that cannot be had.
fn attached(file: &Path, direct: &str) -> Option<LoopDevice> {
    let device = LoopDevice::attach(file)
        .map_err(|error| skip(&format!("no loop device: {error}")))
        .ok()?;
    let set = Command::new("losetup").arg(direct).arg(&device.node).output();
    match set {
        Ok(output) if output.status.success() => Some(device),
        other => {
            skip(&format!("losetup {direct}: {other:?}"));
            None
        }
    }
}

#[test]
fn a_loop_device_is_read_and_never_written() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let path = foreign_file(directory.path());
    let before = std::fs::read(&path).expect("read");
    let Some(device) = attached(&path, "--direct-io=on") else { return };
    let request = request(Some(&device.node), directory.path());
    let session = prepare_sized(&request, 0).expect("a good device");
    let target = target_of(session.as_ref());
    assert_eq!(target.contents, Contents::Foreign);
    assert_eq!(session.label(), format!("{} 64 MiB", device.node.display()));
    let facts = target.device.as_ref().expect("sysfs knows it");
    assert!(facts.backing_file.is_none(), "no person's names in results");
    let experiment =
        experiment("storage/randread-4k depth=32 op_bytes=4096 pattern=random");
    for id in ["pread-pool", "uring", "uring-fixed"] {
        let variant = variant(&experiment, id);
        if !available(&experiment, &variant, &session.target()) {
            continue;
        }
        let outcome = run_seen(&variant, &experiment.params, &target, 200);
        let Some(outcome) = outcome else { continue };
        assert!(outcome.ops() > 0);
        assert_eq!(proof(&outcome, "direct"), Some("yes"), "{id}");
        assert!(outcome.evidence.checksummed_ops > 0, "{id}");
    }
    drop(session);
    drop(device);
    assert!(std::fs::read(&path).expect("read") == before);
}

#[test]
fn a_loop_device_with_a_page_cache_behind_it_is_degraded() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let path = foreign_file(directory.path());
    let Some(device) = attached(&path, "--direct-io=off") else { return };
    let request = request(Some(&device.node), directory.path());
    let session = prepare_sized(&request, 0).expect("a good device");
    let target = target_of(session.as_ref());
    let experiment =
        experiment("storage/ladder depth=1 op_bytes=4096 pattern=random");
    for id in ["pread", "aio", "pread-buffered", "mmap"] {
        let variant = variant(&experiment, id);
        let outcome = run_on(&variant, &experiment.params, &target, 100)
            .expect("it runs");
        assert_eq!(proof(&outcome, "direct"), Some("no"), "{id}");
        let reasons = outcome.evidence.degraded.join("; ");
        assert!(reasons.contains("--direct-io=on"), "{id}: {reasons}");
    }
}
