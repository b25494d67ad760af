//! A block device as target: a loop device that the test makes from a file of
//! its own, read only. Needs root.

mod support;

use std::{path::Path, process::Command};

use bench_storage::target::{Contents, prepare_sized};
use support::{
    alone, available, experiment, foreign_file, proof, real_directory, request,
    run_on, run_seen, skip, target_of, variant,
};

/// A read-only loop device, detached at the end.
struct LoopDevice(String);

impl LoopDevice {
    fn attach(file: &Path, direct: &str) -> Result<Self, String> {
        let output = Command::new("losetup")
            .args(["--find", "--show", "--read-only", direct])
            .arg(file)
            .output()
            .map_err(|error| format!("losetup: {error}"))?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            return Err(format!("losetup: {}", complaint.trim()));
        }
        let name = String::from_utf8_lossy(&output.stdout);
        Ok(Self(name.trim().to_owned()))
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let detached =
            Command::new("losetup").args(["--detach", &self.0]).status();
        if !detached.is_ok_and(|status| status.success()) {
            eprintln!("could not detach {}", self.0);
        }
    }
}

#[test]
fn a_loop_device_is_read_and_never_written() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let path = foreign_file(directory.path());
    let before = std::fs::read(&path).expect("read");
    let device = match LoopDevice::attach(&path, "--direct-io=on") {
        Ok(device) => device,
        Err(reason) => {
            skip(&reason);
            return;
        }
    };
    let request = request(Some(Path::new(&device.0)), directory.path());
    let session = prepare_sized(&request, 0).expect("a good device");
    let target = target_of(session.as_ref());
    assert_eq!(target.contents, Contents::Foreign);
    assert_eq!(session.label(), format!("{} 64 MiB", device.0));
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
    let device = match LoopDevice::attach(&path, "--direct-io=off") {
        Ok(device) => device,
        Err(reason) => {
            skip(&reason);
            return;
        }
    };
    let request = request(Some(Path::new(&device.0)), directory.path());
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
