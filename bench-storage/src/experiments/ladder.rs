//! Every way to read, beside each other.

use harness::suite::{CpuNeed, Experiment, LatencyKind, Variant};

use super::moves;
use crate::{
    addresses::Pattern,
    variants::{
        aio::AIO,
        empty_syscall::{EMPTY_SYSCALL, SYSCALL_PAIR},
        mmap::MMAP,
        mmap_populate::MMAP_POPULATE,
        nop::NOP,
        pread_buffered::PREAD_BUFFERED,
        preadv2_hipri::PREADV2_HIPRI,
        uncached::UNCACHED,
        uring::URING,
        uring_buffers::URING_BUFFERS,
        uring_files::URING_FILES,
        uring_fixed::URING_FIXED,
        uring_hybrid::URING_HYBRID,
        uring_iopoll::URING_IOPOLL,
        uring_passthru::URING_PASSTHRU,
        uring_passthru_buffers::URING_PASSTHRU_BUFFERS,
        uring_passthru_iopoll::URING_PASSTHRU_IOPOLL,
        uring_passthru_mixed::URING_PASSTHRU_MIXED,
        uring_ring::URING_RING,
        uring_sqpoll::URING_SQPOLL,
    },
};

/// What each rung of the ladder adds one step to. The first ways of each kind
/// stand for themselves and are compared with the baseline alone.
const LADDER_STEPS: [(&str, &str); 13] = [
    (UNCACHED.id, PREAD_BUFFERED.id),
    (MMAP_POPULATE.id, MMAP.id),
    (URING_RING.id, URING.id),
    (URING_FILES.id, URING_RING.id),
    (URING_BUFFERS.id, URING_FILES.id),
    (URING_FIXED.id, URING_BUFFERS.id),
    (URING_IOPOLL.id, URING_FIXED.id),
    (URING_HYBRID.id, URING_IOPOLL.id),
    (URING_PASSTHRU.id, URING_FILES.id),
    (URING_PASSTHRU_BUFFERS.id, URING_PASSTHRU.id),
    (URING_PASSTHRU_IOPOLL.id, URING_PASSTHRU_BUFFERS.id),
    (URING_PASSTHRU_MIXED.id, URING_PASSTHRU_BUFFERS.id),
    (URING_SQPOLL.id, URING_BUFFERS.id),
];

/// Every way to read at one setting. Each ring variant adds one step to the
/// one above it, with three branches: passthrough begins again at registered
/// files, its mixed ring at its buffers, and the last one at `uring-buffers`.
/// Each has the ceiling of its own kind: the ring's, or that of the calls
/// without which it is not done.
pub(super) fn ladder(depth: u64, baseline: Variant) -> Experiment {
    let per_call =
        |variant: Variant| Variant { bound: Some(EMPTY_SYSCALL.id), ..variant };
    Experiment {
        id: "storage/ladder",
        about: "what each step of the kernel's reading interfaces brings",
        params: moves(4096, depth, Pattern::Random),
        tags: &["ladder"],
        cpus: CpuNeed::UpTo(2),
        latency_kind: LatencyKind::Service,
        steps: &LADDER_STEPS,
        variants: vec![
            per_call(baseline),
            per_call(PREADV2_HIPRI),
            per_call(PREAD_BUFFERED),
            per_call(UNCACHED),
            // A fault is no call, and need not cost as much as one.
            MMAP,
            per_call(MMAP_POPULATE),
            // A batch of ops takes one call on its way in, and another to wait.
            Variant { bound: Some(SYSCALL_PAIR.id), ..AIO },
            URING,
            URING_RING,
            URING_FILES,
            URING_BUFFERS,
            URING_FIXED,
            URING_IOPOLL,
            URING_HYBRID,
            URING_PASSTHRU,
            URING_PASSTHRU_BUFFERS,
            URING_PASSTHRU_IOPOLL,
            URING_PASSTHRU_MIXED,
            URING_SQPOLL,
            NOP,
            EMPTY_SYSCALL,
            SYSCALL_PAIR,
        ],
    }
}
