//! Which kernel path served a trial: what is claimed on a row has been seen.

use harness::measure::trial::Outcome;

use crate::source::Source;

/// Below this share of its bytes from storage, a trial is not called direct.
/// The rest is room for the edges of the window, not for a page cache.
const STORAGE_SHARE_MIN: f64 = 0.95;

/// How far from the window's edge a look may be taken when the observer has to
/// wait for a CPU. As many bytes as go through in that time may be missing.
const LOOK_SLACK_NS: f64 = 20e6;

/// io-wq workers may take this much CPU time per op: a request in hundreds
/// waits for a lock or a free tag and is handed over, which takes some 15 µs.
const IO_WQ_NS_PER_OP_MAX: f64 = 150.0;

/// A poller that ran less than this share of the window was not polling.
const POLLER_SHARE_MIN: f64 = 0.5;

/// States whether reads went past the page cache, from the descriptors' flags
/// and from what the process made storage read.
pub fn judge_direct(outcome: &mut Outcome, source: &Source) {
    if let Some(device) = &source.target().device {
        let medium =
            if device.is_memory_backed() { "memory" } else { "device" };
        outcome.evidence.prove("medium", medium);
    }
    let storage = storage(outcome);
    if let Some(storage) = storage {
        let percent = format!("{:.0}", storage.percent);
        outcome.evidence.prove("storage_read_percent", percent);
    }
    let is_direct = source.is_direct();
    let mut reasons = Vec::new();
    if !is_direct {
        reasons.push(String::from("the file is open without O_DIRECT"));
    }
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
    let word = match storage {
        _ if !reasons.is_empty() => "no",
        Some(_) => "yes",
        // The flag alone proves nothing: tmpfs takes it and ignores it.
        None => "unknown",
    };
    outcome.evidence.prove("direct", word);
    outcome.evidence.degraded.extend(reasons);
}

/// What storage read of the bytes that ops brought.
#[derive(Clone, Copy, Debug)]
struct Storage {
    percent: f64,
    /// Whether that is all of it, but for what the looks may have missed.
    is_all: bool,
}

/// `None` where the kernel does not count, or less was read between the looks
/// than they may have missed.
fn storage(outcome: &Outcome) -> Option<Storage> {
    let storage = outcome.signals.storage_read_bytes? as f64;
    let op_bytes = outcome.shape.op_bytes as f64;
    let seen = outcome.signals.seen_ns as f64 / outcome.window_ns as f64;
    let expected = outcome.ops() as f64 * op_bytes * seen;
    let peak = outcome.slices.iter().copied().max().unwrap_or(0) as f64;
    let missed = peak * op_bytes * LOOK_SLACK_NS / outcome.slice_ns as f64;
    // Looks that came too late prove nothing either way.
    (expected > missed).then(|| Storage {
        percent: (100.0 * storage / expected).min(100.0),
        is_all: storage + missed >= STORAGE_SHARE_MIN * expected,
    })
}

/// States whether io_uring handed requests to worker threads. Such a trial
/// measures the hand-over and not the ring.
pub fn judge_io_wq(outcome: &mut Outcome) {
    let signals = &outcome.signals;
    let share = signals.io_wq_cpu_ns as f64 / outcome.cost.cpu_ns.max(1) as f64;
    let threads = signals.io_wq_threads;
    let word = match threads {
        0 => "no".to_owned(),
        _ => format!("{threads} threads"),
    };
    let per_op_ns = signals.io_wq_cpu_ns as f64 / outcome.ops().max(1) as f64;
    outcome.evidence.prove("io_wq", word);
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

/// States where the fsyncs of a ring were done. The kernel never tries one
/// inline (IORING_OP_FSYNC is always forced to a worker, io_uring/sync.c), so
/// that the hand-over belongs to the variant.
pub fn state_fsync(outcome: &mut Outcome) {
    let signals = &outcome.signals;
    let word = match signals.io_wq_cpu_ns {
        0 => "no worker seen",
        _ => "io-wq",
    };
    outcome.evidence.prove("fsync", word);
    outcome
        .evidence
        .prove("io_wq", format!("{} threads", signals.io_wq_threads));
}

/// States whether the SQPOLL thread was awake throughout.
pub fn judge_poller(outcome: &mut Outcome, shared: bool) {
    let signals = &outcome.signals;
    let share = signals.sqpoll_cpu_ns as f64 / signals.seen_ns.max(1) as f64;
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
