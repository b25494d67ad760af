//! Whether what was reported as durable can have been: which way the writes
//! went to stable storage, seen from the device.
//!
//! Reading back shows that a write went where it should. It cannot show that
//! the write would have outlived a power cut: a device's volatile cache answers
//! reads as well. For that the device's own counters are asked, before the
//! first write and after the last: `/sys/block/X/stat` counts flushes since
//! Linux 5.5 (Documentation/block/stat.rst), and without one, a volatile cache
//! was not emptied. Other processes' flushes are counted too, so that the
//! figure can excuse a variant, and never accuse it wrongly.

mod device;
mod route;

use harness::{
    machine::{BlockDevice, Root, devices::BlockKind},
    measure::{
        observer::storage_written_bytes,
        trial::{Evidence, Outcome, Shape},
    },
};

use device::Cache;
use route::Route;

use crate::{
    ceiling::judge_links,
    device_counters::{Counts, Seen, counts, seen},
    extents,
    medium::{Medium, unknown_at_bottom},
    mixed,
    sink::Sink,
    target::Target,
};

/// Below this share of what the writes should have caused, it is missing.
const SHARE_MIN: f64 = 0.95;

/// Where FUA explains that flushes are missing: the kernel does not count
/// such writes, and so nothing shows that they were.
const FUA: &str = "unproven: fua is not counted";

/// What is to make a variant's writes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// An fdatasync behind each.
    Sync,
    /// O_DSYNC or RWF_DSYNC on each.
    Dsync,
    /// Nothing: the variant is a bound.
    Nothing,
}

/// Looks at the devices below a target before a trial and after it.
#[derive(Debug)]
pub struct Watch {
    root: Root,
    before: Vec<Counts>,
    /// Bytes that this process had made storage write.
    stored_before: Option<u64>,
}

impl Watch {
    /// The first look.
    pub fn begin(root: &Root, target: &Target) -> Self {
        let before = counts(root, target.device.as_ref());
        let stored_before = storage_written_bytes(root);
        Self { root: root.clone(), before, stored_before }
    }

    /// The second look after a trial that only flushed. What the device was
    /// asked for is what was verified; of those in flight together one may do
    /// for all.
    pub fn judge_flushes(self, outcome: &mut Outcome, target: &Target) {
        let after = counts(&self.root, target.device.as_ref());
        let flushes = outcome.evidence.calls.map_or(0, |calls| calls.ops);
        let Shape { threads, depth, .. } = outcome.shape;
        let in_flight = (threads * depth) as f64;
        let case = Case {
            target,
            direct: true,
            writers: in_flight,
            writes: flushes as f64,
            bytes: 0.0,
            means: Means::Sync,
            seen: seen(&self.before, &after),
            medium: Medium::of(&self.root, target.device.as_ref()),
        };
        let enough = SHARE_MIN * flushes as f64 / in_flight;
        if case.seen.flushes.is_some_and(|asked| asked >= enough) {
            outcome.evidence.verified_ops = flushes;
        }
        let cache = state_cache(outcome, target);
        case.state_flushes(cache, &mut outcome.evidence);
    }

    /// The second look, and what follows from both for a trial whose writers
    /// have all finished.
    pub fn judge(self, outcome: &mut Outcome, sink: &Sink, means: Means) {
        let target = sink.target();
        let after = counts(&self.root, target.device.as_ref());
        let case = Case {
            target,
            direct: sink.is_direct(),
            writers: sink.load().in_flight() as f64,
            writes: sink.written() as f64,
            bytes: sink.written() as f64 * sink.load().op_bytes as f64,
            means,
            seen: seen(&self.before, &after),
            medium: Medium::of(&self.root, target.device.as_ref()),
        };
        let stored = storage_written_bytes(&self.root)
            .zip(self.stored_before)
            .map(|(now, before)| now.saturating_sub(before));
        let reaches_storage = sink.wants_direct() || means != Means::Nothing;
        Route::of(sink, stored).state(&mut outcome.evidence, reaches_storage);
        case.state(&mut outcome.evidence);
        state_extents(&mut outcome.evidence, sink);
        mixed::state_latencies(outcome);
        // Into the page cache more can go than over any link. What devices at
        // the bottom wrote is compared in `state_bytes`.
        if reaches_storage {
            judge_speed(outcome, sink);
        }
    }
}

/// States what keeps what is written to a target, and whether it forgets.
pub fn state_cache(outcome: &mut Outcome, target: &Target) -> Cache {
    let cache = Cache::of(target.device.as_ref());
    outcome.evidence.prove("write_cache", cache.word());
    let medium = Medium::of(&Root::system(), target.device.as_ref());
    outcome.evidence.prove("medium", medium);
    cache
}

/// States how the target was written before the first trial, if rows are to
/// tell: what a drive does depends on what was done to it.
pub fn state_preconditioned(evidence: &mut Evidence, target: &Target) {
    if let Some(word) = target.preconditioned() {
        evidence.prove("preconditioned", word);
    }
}

/// Degrades writes, and reads among them, that are more than the links below
/// carry.
fn judge_speed(outcome: &mut Outcome, sink: &Sink) {
    if let Some(device) = &sink.target().device {
        let reads = sink.load().read_percent as f64 / 100.0;
        judge_links(outcome, device, reads.max(1.0 - reads));
    }
}

/// States and judges of writes that were passed through what can be: the block
/// layer counts nothing of them.
pub fn judge_passed_through(outcome: &mut Outcome, sink: &Sink) {
    state_preconditioned(&mut outcome.evidence, sink.target());
    outcome.evidence.prove("flush", "none: not durable");
    state_cache(outcome, sink.target());
    state_extents(&mut outcome.evidence, sink);
    judge_speed(outcome, sink);
}

/// All that the judgement depends on.
#[derive(Debug)]
struct Case<'a> {
    target: &'a Target,
    direct: bool,
    writers: f64,
    writes: f64,
    bytes: f64,
    means: Means,
    seen: Seen,
    medium: Medium,
}

impl Case<'_> {
    fn state(&self, evidence: &mut Evidence) {
        state_preconditioned(evidence, self.target);
        let cache = Cache::of(self.target.device.as_ref());
        evidence.prove("write_cache", cache.word());
        evidence.prove("medium", self.medium);
        let options = self.mount_options();
        if !options.is_empty() {
            evidence.prove("mount_options", options.join(","));
        }
        if self.means == Means::Nothing {
            evidence.prove("flush", "none: not durable");
            // Through the page cache they may be there for long.
            if self.direct {
                self.state_bytes(evidence);
            }
            return;
        }
        self.judge_medium(evidence);
        self.state_flushes(cache, evidence);
        self.state_bytes(evidence);
    }

    fn mount_options(&self) -> &[String] {
        self.target
            .writable
            .as_ref()
            .map_or(&[], |writable| &writable.mount_options)
    }

    /// A device that keeps its blocks in memory, or nobody knows where, makes
    /// nothing durable.
    fn judge_medium(&self, evidence: &mut Evidence) {
        let Some(device) = &self.target.device else { return };
        match self.medium {
            Medium::Memory => evidence.degraded.push(format!(
                "{} keeps its blocks in memory: nothing is durable there",
                device.name
            )),
            Medium::Unknown => {
                let homeless = unknown_at_bottom(device).unwrap_or(device);
                evidence.degraded.push(nobody_knows(homeless));
            }
            Medium::Device => {}
        }
    }

    fn state_flushes(&self, cache: Cache, evidence: &mut Evidence) {
        let per_write = self.seen.flushes.map(|f| f / self.writes.max(1.0));
        if let Some(per_write) = per_write {
            evidence.prove("flushes_per_op", format!("{per_write:.2}"));
        }
        // The block layer waits for one flush at a time and lets all that
        // asked meanwhile share the next one (block/blk-flush.c).
        let enough = per_write.map(|f| f * self.writers >= SHARE_MIN);
        let word = match (cache, enough) {
            (Cache::Safe, _) if !self.forgetful_drives().is_empty() => {
                evidence.degraded.push(self.untold_cache());
                "missing"
            }
            (Cache::Safe, _) => "not needed: write through",
            (_, Some(true)) => "device",
            (Cache::Volatile, _) if self.by_fua() => FUA,
            (Cache::Volatile, Some(false)) => {
                evidence.degraded.push(self.missing_flushes());
                "missing"
            }
            _ => "unknown",
        };
        evidence.prove("flush", word);
    }

    fn forgetful_drives(&self) -> &[String] {
        let writable = self.target.writable.as_ref();
        writable.map_or(&[], |writable| &writable.forgetful_drives)
    }

    /// `queue/write_cache` is what the kernel goes by, and root can set it; it
    /// changes nothing in the drive.
    fn untold_cache(&self) -> String {
        format!(
            "{} has a volatile cache that is on, as it says itself, and the \
             kernel does not flush it, since /sys/block/X/queue/write_cache \
             says write through: put write back there",
            self.forgetful_drives().join(" and ")
        )
    }

    /// iomap writes a block with RWF_DSYNC straight through the cache of a
    /// device that can, and then no flush follows (fs/iomap/direct-io.c). On a
    /// device without a file system both are sent (block/fops.c).
    fn by_fua(&self) -> bool {
        let device = self.target.device.as_ref();
        self.means == Means::Dsync
            && self.direct
            && self.target.filesystem.is_some()
            && device.and_then(|device| device.fua) == Some(true)
    }

    fn missing_flushes(&self) -> String {
        let options = self.mount_options();
        let cause = options.iter().find(|o| forgoes_flushes(o)).map_or_else(
            || {
                "the file system reported writes as durable that it had not \
                 made so; use another one"
                    .to_owned()
            },
            |option| {
                format!("the file system is mounted with {option}; remount it")
            },
        );
        format!(
            "the device has a volatile cache and was asked to flush it {:.0} \
             times for {:.0} writes: {cause}",
            self.seen.flushes.unwrap_or(0.0),
            self.writes
        )
    }

    fn state_bytes(&self, evidence: &mut Evidence) {
        let Some(bytes) = self.seen.bytes_written else { return };
        let share = bytes / self.bytes.max(1.0);
        let percent = format!("{:.0}", 100.0 * share);
        evidence.prove("device_written_percent", &percent);
        if share < SHARE_MIN {
            evidence.degraded.push(format!(
                "the device wrote only {percent} % of the bytes that were \
                 reported as written to it"
            ));
        }
    }
}

/// Why nothing can be said of what this device keeps its blocks in.
fn nobody_knows(device: &BlockDevice) -> String {
    let name = &device.name;
    let where_they_are = match device.kind {
        BlockKind::Network => format!(
            "another machine or a program keeps the blocks of {name} (nbd, \
             rbd, ublk)"
        ),
        _ => format!(
            "the file behind {name} lies on no known device (a network or an \
             overlay)"
        ),
    };
    format!(
        "{where_they_are}: whether anything is durable there cannot be told"
    )
}

/// Mount options that bear on what a durable write does.
pub fn bears_on_durability(option: &str) -> bool {
    const NAMES: [&str; 13] = [
        "sync",
        "dirsync",
        "barrier",
        "nobarrier",
        "data",
        "commit",
        "journal_async_commit",
        "fsync_mode",
        "nodatacow",
        "compress",
        "compress-force",
        "discard",
        "dax",
    ];
    let name = option.split('=').next().unwrap_or(option);
    NAMES.contains(&name)
}

/// ext4(5), f2fs.rst: options that leave flushes out.
fn forgoes_flushes(option: &str) -> bool {
    ["nobarrier", "barrier=0", "fsync_mode=nobarrier"].contains(&option)
}

/// Whether the trial overwrote, and did not allocate as well.
fn state_extents(evidence: &mut Evidence, sink: &Sink) {
    // A device has no extents.
    let Some(kind) = sink.target().filesystem.as_deref() else {
        evidence.prove("overwrites", "in place");
        return;
    };
    let copies = ["btrfs", "zfs", "bcachefs", "nilfs2", "f2fs"];
    let word = match copies.contains(&kind) {
        true => "elsewhere: copy on write",
        false => "in place",
    };
    evidence.prove("overwrites", word);
    let found =
        sink.open_to_verify().ok().and_then(|file| extents::of(&file).ok());
    let Some(found) = found else {
        evidence.prove("unwritten_extents", "unknown");
        return;
    };
    evidence.prove("extents", found.count);
    evidence.prove("unwritten_extents", found.unwritten);
    if found.unwritten > 0 {
        evidence.degraded.push(format!(
            "{} of the file's {} extents were never written: writing there \
             changes metadata too",
            found.unwritten, found.count
        ));
    }
}

#[cfg(test)]
mod tests;
