//! What has to be done beside reading and writing: dropping what is not needed
//! any more, and flushing.

use harness::suite::{CpuNeed, Experiment, LatencyKind, Params, Variant};

use super::moves;
use crate::{
    addresses::Pattern,
    load::{DEPTH, OP_BYTES},
    variants::{
        flushing::{URING_FSYNC_ALONE, URING_PASSTHRU_FLUSH},
        trim::{
            REWRITE_ONLY, TRIM, TRIM_POOL, URING_DISCARD, URING_FALLOCATE,
            URING_PASSTHRU_TRIM,
        },
    },
};

/// Writes what it drops.
pub(super) const TRIM_ID: &str = "storage/trim-64k";
pub(super) const FLUSH_ID: &str = "storage/flush";

/// One after the other. The second CPU is for io-wq workers.
pub(super) fn trim() -> Experiment {
    trims(
        1,
        &["full"],
        vec![
            TRIM,
            URING_FALLOCATE,
            URING_DISCARD,
            URING_PASSTHRU_TRIM,
            REWRITE_ONLY,
        ],
    )
}

/// So many at a time. What is passed through is not written by the ring that
/// drops it, and so it has no such point.
pub(super) fn trim_deep(
    depth: u64,
    tags: &'static [&'static str],
) -> Experiment {
    trims(
        depth,
        tags,
        vec![TRIM_POOL, URING_FALLOCATE, URING_DISCARD, REWRITE_ONLY],
    )
}

fn trims(
    depth: u64,
    tags: &'static [&'static str],
    variants: Vec<Variant>,
) -> Experiment {
    Experiment {
        id: TRIM_ID,
        about: "64 KiB of data are dropped: a hole in a file, or a part of a \
                device that is discarded (trim)",
        params: moves(64 << 10, depth, Pattern::Sequential),
        tags,
        cpus: CpuNeed::UpTo(2),
        latency_kind: LatencyKind::Service,
        steps: &[],
        variants,
    }
}

/// Of a target that nothing was written to meanwhile, so many at a time.
pub(super) fn flush(
    depth: u64,
    baseline: Variant,
    tags: &'static [&'static str],
) -> Experiment {
    Experiment {
        id: FLUSH_ID,
        about: "the device's cache is flushed, with nothing in it that we \
                wrote: the least that a flush costs",
        params: Params::new().with(OP_BYTES, 0).with(DEPTH, depth),
        tags,
        cpus: CpuNeed::UpTo(2),
        latency_kind: LatencyKind::Service,
        steps: &[],
        variants: vec![baseline, URING_FSYNC_ALONE, URING_PASSTHRU_FLUSH],
    }
}
