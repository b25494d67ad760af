//! Which kernel path served a trial: what is claimed on a row has been seen.

use harness::{
    machine::{Cpu, Root, Topology},
    measure::{
        trial::{ExtraMetric, Outcome},
        validity::Signals,
    },
};

use crate::{
    durability::state_preconditioned,
    medium::Medium,
    page_cache,
    polling::{Interrupts, Raised},
    source::Source,
};

/// Below this share of its bytes from storage, a trial is not called direct.
/// The rest is room for what the kernel may round, not for a page cache.
const STORAGE_SHARE_MIN: f64 = 0.95;

/// How far from the window's edge a look may be taken when the observer has to
/// wait for a CPU. As many ops as go through in that time may be missing.
const LOOK_SLACK_NS: f64 = 20e6;

/// io-wq workers may take this much CPU time per op: a request in hundreds
/// waits for a lock or a free tag and is handed over, which takes some 15 µs.
const IO_WQ_NS_PER_OP_MAX: f64 = 150.0;

/// A poller that ran less than this share of the window was not polling.
const POLLER_SHARE_MIN: f64 = 0.5;

/// States whether reads went past the page cache, from the descriptors' flags
/// and from what the process made storage read.
pub fn judge_direct(outcome: &mut Outcome, source: &Source) {
    let storage = prove_storage(outcome, source);
    let mut reasons = Vec::new();
    if !source.is_direct() {
        reasons.push(String::from("the file is open without O_DIRECT"));
    }
    reasons.extend(not_from_storage(storage, source));
    let word = match storage {
        _ if !reasons.is_empty() => "no",
        Some(_) => "yes",
        // The flag alone proves nothing: tmpfs takes it and ignores it.
        None => "unknown",
    };
    outcome.evidence.prove("direct", word);
    outcome.evidence.degraded.extend(reasons);
}

/// States which thread did what a ring always hands to workers.
pub fn state_io_wq(outcome: &mut Outcome) {
    outcome.evidence.prove("io_wq", io_wq_word(&outcome.signals));
}

/// States whether reads through the page cache found it empty. A row of a
/// variant that is to read cold data shows storage, or is degraded.
pub fn judge_cold(outcome: &mut Outcome, source: &Source) {
    let storage = prove_storage(outcome, source);
    outcome.evidence.prove("direct", "no");
    let mut reasons = Vec::new();
    match source.cached_before() {
        Some(share) => {
            let percent = format!("{:.0}", 100.0 * share);
            if share > 1.0 - STORAGE_SHARE_MIN {
                reasons.push(format!(
                    "{percent} % of the target was in the page cache and \
                     could not be dropped: something has it mapped, locked \
                     or not yet written back"
                ));
            }
            outcome.evidence.prove("cached_before_percent", percent);
        }
        None => outcome.evidence.prove("cached_before_percent", "unknown"),
    }
    reasons.extend(not_from_storage(storage, source));
    let word = match storage {
        _ if !reasons.is_empty() => "page cache",
        Some(_) => "storage",
        None => "unknown",
    };
    outcome.evidence.prove("served_by", word);
    outcome.evidence.degraded.extend(reasons);
}

/// The same for reads by page faults, which are major ones when the page had
/// to be read.
pub fn judge_mapped(outcome: &mut Outcome, source: &Source) {
    judge_cold(outcome, source);
    // They are what is measured and no disturbance.
    outcome.signals.major_faults_are_ops = true;
    let counted = SeenOps::of(outcome).zip(outcome.signals.faults_major);
    let Some((seen, faults)) = counted else {
        outcome.evidence.prove("major_faults_per_op", "unknown");
        return;
    };
    let per_op = faults as f64 / seen.expected;
    outcome.evidence.metrics.push(ExtraMetric {
        name: "major_faults_per_op".to_owned(),
        unit: "faults".to_owned(),
        better: "none".to_owned(),
        thread: None,
        value: per_op,
    });
    outcome.evidence.prove("major_faults_per_op", format!("{per_op:.2}"));
    let all = MAJOR_FAULTS_PER_OP_MIN * seen.least;
    if faults as f64 + seen.missed < all {
        outcome.evidence.degraded.push(format!(
            "{per_op:.2} major page faults per op: the page cache answered \
             the others"
        ));
    }
}

/// States what is below the target, and how much of the bytes storage read.
fn prove_storage(outcome: &mut Outcome, source: &Source) -> Option<Storage> {
    judge_device(outcome, source);
    let storage = storage(outcome, source)?;
    let percent = format!("{:.0}", storage.percent);
    outcome.evidence.prove("storage_read_percent", percent);
    Some(storage)
}

/// States what kind of device it is, and judges whether it can have given as
/// much, and whether it held anything to give.
pub fn judge_device(outcome: &mut Outcome, source: &Source) {
    source.ceiling().judge(outcome);
    source.sampled().judge(&mut outcome.evidence);
    let medium = Medium::of(source.root(), source.target().device.as_ref());
    outcome.evidence.prove("medium", medium);
    state_preconditioned(&mut outcome.evidence, source.target());
}

/// Why the device did not answer all of it.
fn not_from_storage(storage: Option<Storage>, source: &Source) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(Storage { percent, is_all: false }) = storage {
        reasons.push(format!(
            "page cache answered {:.0} % of the bytes (or holes, or parts \
             never written); storage read only {percent:.0} %",
            100.0 - percent
        ));
    }
    reasons.extend(source.cached_loops().iter().map(|name| {
        format!(
            "{name} reads its file through the page cache; attach it with \
             `losetup --direct-io=on`, or name the file itself"
        )
    }));
    reasons
}

/// Each op of a cold mapping is a major fault. The rest is room for pages that
/// the kernel brought with others.
const MAJOR_FAULTS_PER_OP_MIN: f64 = 0.8;

/// A read that sleeps until an interrupt gives its CPU up once. Below this
/// many times per op, most of them did not.
const SLEEPS_PER_POLLED_OP_MAX: f64 = 0.5;

/// States whether RWF_HIPRI was polled for, or ignored without a word, as it is
/// by a device without poll queues and by kernels that have the change of Linux
/// 5.19.
pub fn judge_hipri(
    outcome: &mut Outcome,
    source: &Source,
    interrupts: &Interrupts<'_>,
) {
    let device = source.target().device.as_ref();
    let has_queues = device.and_then(|device| device.io_poll);
    let sleeps = prove_sleeps(outcome);
    let raised = interrupts.raised(outcome);
    let word = match (has_queues, sleeps, raised) {
        (Some(false), ..) => {
            outcome.evidence.degraded.push(
                "RWF_HIPRI was ignored: the device has no poll queues".into(),
            );
            "ignored"
        }
        (_, Some(sleeps), _) if sleeps > SLEEPS_PER_POLLED_OP_MAX => {
            outcome.evidence.degraded.push(format!(
                "RWF_HIPRI was ignored: a read slept {sleeps:.2} times, as it \
                 does until an interrupt wakes it"
            ));
            "ignored"
        }
        (.., Raised::Many(_)) => {
            outcome.evidence.degraded.extend(raised.reason());
            "ignored"
        }
        (Some(true), Some(_), Raised::Few) => "yes",
        _ => "unknown",
    };
    outcome.evidence.prove("polled", word);
}

/// Where the kernel sleeps before it polls, it does so at least once for what
/// it then finds completed together, which is no more than is in flight; half
/// of that is the limit.
const SLEEPS_PER_HYBRID_BATCH_MIN: f64 = 0.5;

/// States how often a ring that polls for completions slept per op, and whether
/// it did before it polled, as HYBRID_IOPOLL (`hybrid`) asks the kernel to.
/// Without that, polling does not give the CPU up.
pub fn judge_sleeps(outcome: &mut Outcome, hybrid: bool) {
    let Some(sleeps) = prove_sleeps(outcome) else { return };
    let in_flight = outcome.shape.depth as f64;
    if hybrid && sleeps * in_flight < SLEEPS_PER_HYBRID_BATCH_MIN {
        outcome.evidence.degraded.push(format!(
            "HYBRID_IOPOLL was ignored: the issuer slept {sleeps:.3} times per \
             op, and so polled all the time"
        ));
    }
}

/// States how often a thread slept per op, where the kernel tells.
fn prove_sleeps(outcome: &mut Outcome) -> Option<f64> {
    let sleeps = sleeps_per_op(outcome);
    let word = sleeps.map_or("unknown".to_owned(), |s| format!("{s:.2}"));
    outcome.evidence.prove("sleeps_per_op", word);
    sleeps
}

/// How often a thread gave its CPU up per op; only load threads do so often.
fn sleeps_per_op(outcome: &Outcome) -> Option<f64> {
    let switches = outcome.signals.switches_voluntary? as f64;
    Some(switches / SeenOps::of(outcome)?.expected)
}

/// States whether RWF_DONTCACHE left anything behind.
pub fn judge_uncached(outcome: &mut Outcome, source: &Source) {
    let Some(share) = source.cached_share() else {
        outcome.evidence.prove("cached_after_percent", "unknown");
        return;
    };
    let percent = format!("{:.0}", 100.0 * share);
    outcome.evidence.prove("cached_after_percent", percent);
    let ops = outcome.evidence.calls.map_or(outcome.ops(), |calls| calls.ops);
    let read = ops as f64 * outcome.shape.op_bytes as f64;
    let target = source.target().bytes as f64;
    let before = source.cached_before().unwrap_or(0.0);
    let left = page_cache::left_of(read, target, (share - before) * target);
    if left > 1.0 - STORAGE_SHARE_MIN {
        outcome.evidence.degraded.push(format!(
            "RWF_DONTCACHE left {:.0} % of what was read in the page cache",
            100.0 * left
        ));
    }
}

/// What storage read of the bytes that ops brought.
#[derive(Clone, Copy, Debug)]
struct Storage {
    percent: f64,
    /// Whether that is all of it.
    is_all: bool,
}

/// Over the whole trial, so that it does not matter when the machine got
/// around to look. `None` where the kernel does not count.
fn storage(outcome: &Outcome, source: &Source) -> Option<Storage> {
    let ops = outcome.evidence.calls?.ops;
    let asked = ops as f64 * outcome.shape.op_bytes as f64;
    let read = source.storage_read()? as f64;
    (ops > 0).then(|| Storage {
        percent: (100.0 * read / asked).min(100.0),
        is_all: read >= STORAGE_SHARE_MIN * asked,
    })
}

/// The ops between the two looks that were taken around the window.
#[derive(Clone, Copy, Debug)]
struct SeenOps {
    /// As many as that time has at the window's rate.
    expected: f64,
    /// Those of the window alone, where the looks lie outside it: a load that
    /// was kept off its CPUs there did less than the window's rate.
    least: f64,
    /// How many fewer there may have been.
    missed: f64,
}

impl SeenOps {
    /// `None` when there were none, or too little was seen.
    fn of(outcome: &Outcome) -> Option<Self> {
        if !was_looked_at(outcome) {
            return None;
        }
        let seen = outcome.signals.seen_ns as f64 / outcome.window_ns as f64;
        let expected = outcome.ops() as f64 * seen;
        let peak = outcome.slices.iter().copied().max().unwrap_or(0) as f64;
        let missed = peak * LOOK_SLACK_NS / outcome.slice_ns as f64;
        let least = outcome.ops() as f64 * seen.min(1.0);
        (expected > 0.0).then_some(Self { expected, least, missed })
    }
}

/// Whether the looks before and after lie at least half a window apart. On a
/// busy machine they may not, and a rate is then what was counted divided by
/// next to nothing.
fn was_looked_at(outcome: &Outcome) -> bool {
    2 * outcome.signals.seen_ns >= outcome.window_ns
}

/// States whether io_uring handed requests to worker threads. Such a trial
/// measures the hand-over and not the ring.
pub fn judge_io_wq(outcome: &mut Outcome) {
    state_io_wq(outcome);
    let signals = &outcome.signals;
    let share = signals.io_wq_cpu_ns as f64 / outcome.cost.cpu_ns.max(1) as f64;
    let threads = signals.io_wq_threads;
    let per_op_ns = signals.io_wq_cpu_ns as f64 / outcome.ops().max(1) as f64;
    if per_op_ns <= IO_WQ_NS_PER_OP_MAX {
        return;
    }
    outcome.evidence.degraded.push(format!(
        "{threads} io-wq worker threads served the requests ({:.0} % of the \
         CPU time): this file cannot be used without blocking, and the row \
         shows the hand-over, not the ring",
        100.0 * share
    ));
}

/// How many workers were seen.
fn io_wq_word(signals: &Signals) -> String {
    match signals.io_wq_threads {
        0 if signals.threads_told => "no".to_owned(),
        0 => "unknown".to_owned(),
        threads => format!("{threads} threads"),
    }
}

/// States where the fsyncs of a ring were done. The kernel never tries one
/// inline (IORING_OP_FSYNC is always forced to a worker, io_uring/sync.c), so
/// that the hand-over belongs to the variant.
pub fn state_fsync(outcome: &mut Outcome) {
    let signals = &outcome.signals;
    // Either may have been missed: a worker that has ended is not counted any
    // more, and little time is less than the kernel's unit.
    let word = match (signals.io_wq_threads, signals.io_wq_cpu_ns) {
        (0, 0) if signals.threads_told => "no worker seen",
        (0, 0) => "unknown",
        _ => "io-wq",
    };
    let workers = match (signals.io_wq_threads, signals.threads_told) {
        (0, false) => "unknown".to_owned(),
        (threads, _) => format!("{threads} threads"),
    };
    outcome.evidence.prove("fsync", word);
    outcome.evidence.prove("io_wq", workers);
}

/// States whether the SQPOLL thread shares a core with the thread that it
/// polls for: two hardware threads slow each other down.
pub fn state_poller_core(outcome: &mut Outcome, root: &Root, cpus: &[Cpu]) {
    outcome.evidence.prove("sqpoll_core", poller_core(root, cpus));
}

/// Of a trial on these CPUs: the issuer's first, then the poller's.
fn poller_core(root: &Root, cpus: &[Cpu]) -> &'static str {
    match (cpus, Topology::read(root)) {
        ([_], _) => "the issuer's CPU",
        ([issuer, poller, ..], Ok(topology)) => {
            match topology.siblings(*issuer).contains(*poller) {
                true => "the issuer's (SMT)",
                false => "its own",
            }
        }
        _ => "unknown",
    }
}

/// States whether the SQPOLL thread was awake throughout.
pub fn judge_poller(outcome: &mut Outcome, shared: bool) {
    if !was_looked_at(outcome) {
        outcome.evidence.prove("sqpoll_awake_percent", "unknown");
        return;
    }
    let signals = &outcome.signals;
    if signals.sqpoll_cpu_ns == 0 && !signals.threads_told {
        outcome.evidence.prove("sqpoll_awake_percent", "unknown");
        return;
    }
    let share = signals.sqpoll_cpu_ns as f64 / signals.seen_ns.max(1) as f64;
    // The looks at the thread are not taken in the same instant as the clock.
    let share = share.min(1.0);
    outcome
        .evidence
        .prove("sqpoll_awake_percent", format!("{:.0}", 100.0 * share));
    // On a shared CPU half of the time is all it can get; that row is
    // degraded already.
    if share < POLLER_SHARE_MIN && !shared {
        outcome.evidence.degraded.push(format!(
            "the SQPOLL thread ran {:.0} % of the time only; it slept or had \
             to share its CPU",
            100.0 * share
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_worker_is_seen_where_the_kernel_does_not_tell() {
        let word = |threads_told, io_wq_threads| {
            io_wq_word(&Signals {
                threads_told,
                io_wq_threads,
                ..Signals::default()
            })
        };
        assert_eq!(word(false, 0), "unknown");
        assert_eq!(word(true, 0), "no");
        assert_eq!(word(true, 2), "2 threads");
        assert_eq!(word(false, 2), "2 threads");
    }

    #[test]
    fn a_poller_has_its_own_core_or_shares_one_as_sysfs_says() {
        let tree = tempfile::tempdir().expect("temporary directory");
        let file = |path: &str, text: &str| {
            let path = tree.path().join("sys/devices/system/cpu").join(path);
            let parent = path.parent().expect("a directory");
            std::fs::create_dir_all(parent).expect("directories");
            std::fs::write(path, text).expect("write");
        };
        // Two cores of two threads each, as most Intel machines number them.
        file("online", "0-3\n");
        for (cpu, core, siblings) in
            [(0, 0, "0,2"), (1, 1, "1,3"), (2, 0, "0,2"), (3, 1, "1,3")]
        {
            let topology = format!("cpu{cpu}/topology");
            file(&format!("{topology}/physical_package_id"), "0\n");
            file(&format!("{topology}/core_id"), &format!("{core}\n"));
            for name in ["thread_siblings_list", "core_cpus_list"] {
                file(&format!("{topology}/{name}"), &format!("{siblings}\n"));
            }
        }
        let root = Root::at(tree.path());
        for (cpus, word) in [
            (&[Cpu(0), Cpu(1)][..], "its own"),
            (&[Cpu(3), Cpu(0), Cpu(1)], "its own"),
            (&[Cpu(0), Cpu(2)], "the issuer's (SMT)"),
            (&[Cpu(3), Cpu(1)], "the issuer's (SMT)"),
            (&[Cpu(1)], "the issuer's CPU"),
        ] {
            assert_eq!(poller_core(&root, cpus), word, "{cpus:?}");
        }
        let nothing = Root::at("/nonexistent");
        let two = [Cpu(0), Cpu(1)];
        assert_eq!(poller_core(&nothing, &two), "unknown");
        assert_eq!(poller_core(&nothing, &two[..1]), "the issuer's CPU");
    }
}
