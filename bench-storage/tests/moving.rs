//! Data that is moved: each way gets every chunk to its place, proves what it
//! says, and is found out when it does not.

mod support;

use std::{fs::File, os::unix::fs::FileExt, path::Path, process::Command};

use bench_storage::{
    SUITE,
    moving::{
        Destination, Ends, Failed, Mover, Moving, Step,
        calls::{CopyFileRange, Sendfile, Splice, ThroughMemory},
        ring::RingSplice,
        route::Route,
        to_file::ToFile,
        to_socket::ToSocket,
    },
    target::prepare_sized,
};
use harness::{
    load::closed::{Place, Work},
    measure::{
        recorder::{Recorder, Schedule},
        trial::{Evidence, Outcome, Trial, TrialError},
    },
    suite::{Experiment, Session},
};
use support::{
    TARGET_BYTES, alone, available, cpus, created, experiment, foreign_file,
    loops::LoopDevice,
    mounts::{in_a_namespace, mount},
    patiently, proof, real_directory, request, skip, trial, variant,
};

/// Above the least that mkfs.btrfs takes; nearly all of it stays a hole.
const IMAGE_BYTES: u64 = 512 << 20;

const TO_FILE: &str =
    "storage/move-64k depth=1 op_bytes=65536 pattern=sequential to=file";
const TO_SOCKET: &str =
    "storage/move-64k depth=1 op_bytes=65536 pattern=sequential to=socket";

fn own(session: &dyn Session) -> serde_json::Value {
    let own = session.own(TO_FILE).expect("not refused");
    own.expect("a file of its own").target()
}

/// Loudly, where there are not two CPUs for it.
fn has_cpus(experiment: &Experiment) -> bool {
    let enough = experiment.key() != TO_SOCKET || cpus(2).len() == 2;
    if !enough {
        skip("two CPUs are needed");
    }
    enough
}

#[test]
fn every_way_moves_every_chunk_and_proves_it() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let target = own(session.as_ref());
    for experiment in [experiment(TO_FILE), experiment(TO_SOCKET)] {
        if !has_cpus(&experiment) {
            continue;
        }
        for variant in &experiment.variants {
            if let Some(outcome) = moved(&experiment, variant.id, &target) {
                check(&experiment, variant.id, &outcome);
            }
        }
    }
}

/// A trial of one way, or a loud skip where it cannot run.
fn moved(
    experiment: &Experiment,
    id: &str,
    target: &serde_json::Value,
) -> Option<Outcome> {
    let variant = variant(experiment, id);
    if !available(experiment, &variant, target) {
        return None;
    }
    // A window may pass on a busy machine before a chunk is through.
    let outcome = patiently(50, |ms| {
        let params = &experiment.params;
        let mut trial = trial(params, target.clone(), cpus(2), ms);
        trial.spec.warmup_ns = ms * 1_000_000;
        (variant.worker)(&trial)
    });
    Some(outcome.unwrap_or_else(|e| panic!("{} {id}: {e}", experiment.key())))
}

/// Of a file that shares extents it would be a lie that anything was moved.
#[test]
fn extents_that_are_shared_show_on_the_row_needs_root() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let image = directory.path().join("image");
    let file = File::create(&image).expect("an image");
    file.set_len(IMAGE_BYTES).expect("a hole");
    let made = Command::new("mkfs.btrfs").arg("-q").arg(&image).output();
    if !made.is_ok_and(|output| output.status.success()) {
        skip("no mkfs.btrfs here");
        return;
    }
    let device = match LoopDevice::attach(&image) {
        Ok(device) => device,
        Err(error) => {
            skip(&format!("no loop device: {error}"));
            return;
        }
    };
    in_a_namespace(|| {
        let place = directory.path().join("mounted");
        std::fs::create_dir(&place).expect("a mount point");
        if let Err(error) = mount(&device.node, &place, "btrfs", 0, "") {
            skip(&format!("btrfs on {}: {error}", device.node.display()));
            return;
        }
        let mut request = request(None, &place);
        request.experiments = vec![TO_FILE.to_owned()];
        let session = prepare_sized(&request, TARGET_BYTES).expect("room");
        let target = own(session.as_ref());
        // What is shared by one trial must not show on the next.
        for (id, shares) in [
            ("read-write", "no"),
            ("copy-file-range", "yes"),
            ("read-write", "no"),
        ] {
            let experiment = experiment(TO_FILE);
            let Some(outcome) = moved(&experiment, id, &target) else {
                continue;
            };
            assert_eq!(proof(&outcome, "reflink"), Some(shares), "{id}");
            assert!(outcome.evidence.verified_ops >= outcome.ops(), "{id}");
        }
    });
}

fn check(experiment: &Experiment, id: &str, outcome: &Outcome) {
    let evidence = &outcome.evidence;
    let what = format!("{} {id}: {evidence:?}", experiment.key());
    assert!(evidence.verified_ops >= outcome.ops(), "{what}");
    assert_eq!(outcome.latencies.len(), outcome.ops(), "{what}");
    assert_eq!(outcome.shape.op_bytes, 64 << 10, "{what}");
    if proof(outcome, "source_cached_percent") != Some("unknown") {
        assert_eq!(proof(outcome, "source_cached_percent"), Some("100"));
        assert_eq!(evidence.degraded, [""; 0], "{what}");
    }
    let calls = evidence.calls.expect("counted");
    let per_op = calls.made as f64 / calls.ops as f64;
    let least = match id {
        "read-write" | "splice" => 2.0,
        _ => 1.0,
    };
    // A socket may take a chunk in parts.
    assert!((least..least + 16.0).contains(&per_op), "{what}: {per_op}");
    if experiment.key() == TO_SOCKET {
        assert_eq!(proof(outcome, "socket"), Some("TCP over loopback"));
        return;
    }
    assert!(per_op < least + 0.5, "{what}: {per_op}");
    let reflink = proof(outcome, "reflink").expect("stated");
    assert!(["yes", "no", "unknown"].contains(&reflink), "{what}");
    if id != "copy-file-range" {
        assert_ne!(reflink, "yes", "{what}");
    }
}

/// A trial on a session's file, and the place of its one thread.
fn one_trial(key: &str, session: &dyn Session) -> (Trial, Place) {
    let params = experiment(key).params;
    let trial = trial(&params, own(session), cpus(2), 100);
    let place = Place {
        thread: 0,
        cpu: trial.cpus()[0],
        numa_node: None,
        seed: 1,
        clock: trial.spec.clock,
    };
    (trial, place)
}

/// So many chunks, and the end.
fn chunks(
    mut work: impl Work,
    trial: &Trial,
    count: usize,
) -> Result<Evidence, TrialError> {
    let clock = trial.spec.clock;
    let start_ns = clock.now_ns();
    let end_ns = start_ns + 3_600_000_000_000;
    let schedule = Schedule { start_ns, end_ns, slice_ns: 100_000_000 };
    let mut recorder = Recorder::new(clock, schedule, true);
    for _ in 0..count {
        work.round(&mut recorder)?;
    }
    work.finish()
}

/// Goes wrong at one chunk.
#[derive(Debug)]
struct Faulty<M> {
    mover: M,
    until: u32,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing is moved, and nothing is said.
    Lost,
    /// The chunk before it is moved again.
    Repeated,
    /// Its last block stays behind.
    Short,
}

impl<M: Mover> Mover for Faulty<M> {
    fn move_chunk(&mut self, ends: Ends, step: Step) -> Result<(), Failed> {
        self.until = self.until.wrapping_sub(1);
        if self.until != 0 {
            return self.mover.move_chunk(ends, step);
        }
        let chunk = step.bytes as u64;
        match self.fault {
            Fault::Lost => Ok(()),
            Fault::Repeated => {
                let from = step.from - chunk;
                self.mover.move_chunk(ends, Step { from, ..step })
            }
            Fault::Short => {
                let bytes = step.bytes - 4096;
                self.mover.move_chunk(ends, Step { bytes, ..step })
            }
        }
    }

    fn calls(&self) -> u64 {
        self.mover.calls()
    }
}

/// More than a time round, so that each place was written before.
const CHUNKS: usize = 300;

fn fault_is_found<D: Destination>(
    trial: &Trial,
    place: &Place,
    fault: Fault,
    destination: impl FnOnce(&Route) -> D,
) {
    let route = Route::of(trial).expect("writable");
    let mover = ThroughMemory::new(64 << 10, place).expect("memory");
    let faulty = Faulty { mover, until: 200, fault };
    let moving = Moving::new(&route, faulty, destination(&route));
    let error = chunks(moving, trial, CHUNKS).expect_err("a fault");
    assert!(matches!(error, TrialError::Wrong(_)), "{fault:?}: {error:?}");
}

#[test]
fn a_chunk_that_did_not_arrive_is_wrong() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let (trial, place) = one_trial(TO_FILE, session.as_ref());
    for fault in [Fault::Lost, Fault::Repeated, Fault::Short] {
        fault_is_found(&trial, &place, fault, |route| {
            ToFile::new(route).expect("a mapping")
        });
    }
    let (trial, place) = one_trial(TO_SOCKET, session.as_ref());
    if trial.cpus().len() < 2 {
        skip("two CPUs are needed");
        return;
    }
    for fault in [Fault::Lost, Fault::Repeated, Fault::Short] {
        fault_is_found(&trial, &place, fault, |route| {
            ToSocket::new(&trial, route).expect("a connection")
        });
    }
}

#[test]
fn a_source_that_changes_is_wrong() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let (trial, place) = one_trial(TO_FILE, session.as_ref());
    let route = Route::of(&trial).expect("writable");
    let offset = 3 * (64 << 10) + 8;
    route.file().write_all_at(&[0xaa], offset).expect("damage");
    let mover = ThroughMemory::new(64 << 10, &place).expect("memory");
    let destination = ToFile::new(&route).expect("a mapping");
    let moving = Moving::new(&route, mover, destination);
    let error = chunks(moving, &trial, CHUNKS).expect_err("damaged");
    assert!(error.to_string().contains("offset 196608"), "{error}");
}

#[test]
fn a_source_cut_short_is_an_error_with_its_offset_whichever_way() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let (trial, place) = one_trial(TO_FILE, session.as_ref());
    let ring = RingSplice::new(64 << 10);
    if ring.is_err() {
        skip("no ring for a single issuer");
    }
    cut_short(&trial, ThroughMemory::new(64 << 10, &place).expect("memory"));
    cut_short(&trial, Sendfile::default());
    cut_short(&trial, Splice::new(64 << 10).expect("a pipe"));
    cut_short(&trial, CopyFileRange::default());
    if let Ok(ring) = ring {
        cut_short(&trial, ring);
    }
}

/// Into a file of its own: a mapping of what is cut would be a signal.
fn cut_short(trial: &Trial, mover: impl Mover) {
    let name = format!("{mover:?}");
    let route = Route::of(trial).expect("writable");
    let cut_at = 64 << 10;
    let bytes = route.file().metadata().expect("metadata").len();
    route.file().set_len(cut_at).expect("truncate");
    let moving = Moving::new(&route, mover, Unseen::new());
    let error = chunks(moving, trial, 2).expect_err("cut short");
    route.file().set_len(bytes).expect("long again");
    match error {
        TrialError::Op { operation, errno, offset, bytes } => {
            assert!(operation.contains("short"), "{name}: {operation}");
            assert_eq!((errno, offset, bytes), (0, cut_at, cut_at), "{name}");
        }
        other => panic!("{name}: {other:?}"),
    }
}

/// A file at which nobody looks.
#[derive(Debug)]
struct Unseen(File);

impl Unseen {
    fn new() -> Self {
        Self(tempfile::tempfile().expect("temporary file"))
    }
}

impl Destination for Unseen {
    const HAS_PLACES: bool = true;

    fn sink(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.0)
    }

    fn moved(&mut self, _: Step) -> Result<(), TrialError> {
        Ok(())
    }

    fn finish(self) -> Result<Evidence, TrialError> {
        Ok(Evidence::default())
    }
}

#[test]
fn an_existing_file_is_refused() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let path = foreign_file(directory.path());
    let mut request = request(Some(Path::new(&path)), directory.path());
    request.experiments = vec![TO_FILE.to_owned()];
    let refusal = (SUITE.prepare)(&request).expect_err("refused");
    assert_eq!(refusal.kind, harness::suite::RefusalKind::UnsafeTarget);
    assert!(refusal.what.contains("was there before"), "{refusal}");
}
