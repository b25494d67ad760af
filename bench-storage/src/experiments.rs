//! The questions of this suite.

use harness::suite::{CpuNeed, Experiment, LatencyKind, Params, Variant};

use crate::{
    addresses::Pattern,
    load::{BATCH, DEPTH, O_DIRECT, OP_BYTES, PATTERN, PER, TO},
    variants::{
        aio::AIO,
        mmap::MMAP,
        mmap_populate::MMAP_POPULATE,
        moving::{COPY_FILE_RANGE, READ_WRITE, SENDFILE, SPLICE, URING_SPLICE},
        nop::{NOP, NOP_BARE, NOP_RECORDED},
        o_dsync::O_DSYNC,
        pread::PREAD,
        pread_buffered::PREAD_BUFFERED,
        pread_pool::PREAD_POOL,
        preadv2_hipri::PREADV2_HIPRI,
        pwrite_fdatasync::PWRITE_FDATASYNC,
        rwf_dsync::RWF_DSYNC,
        uncached::UNCACHED,
        unsynced::{PWRITE_UNSYNCED, URING_UNSYNCED},
        uring::URING,
        uring_buffers::URING_BUFFERS,
        uring_dsync::URING_DSYNC,
        uring_files::URING_FILES,
        uring_fixed::URING_FIXED,
        uring_fsync::URING_FSYNC,
        uring_hybrid::URING_HYBRID,
        uring_iopoll::URING_IOPOLL,
        uring_passthru::URING_PASSTHRU,
        uring_passthru_buffers::URING_PASSTHRU_BUFFERS,
        uring_passthru_iopoll::URING_PASSTHRU_IOPOLL,
        uring_ring::URING_RING,
        uring_sqpoll::URING_SQPOLL,
    },
};

const RANDREAD: &str = "storage/randread-4k";
const SEQREAD: &str = "storage/seqread-128k";
const PEAK: &str = "storage/peak-4k";
/// The one that writes.
pub(crate) const DURABLE_WRITE: &str = "storage/durable-write-4k";
/// Writes as well: what is moved has to go somewhere.
pub(crate) const MOVE: &str = "storage/move-64k";
const LADDER: &str = "storage/ladder";
const NOP_RATE: &str = "storage/nop";

/// All experiments; each names its variants in one list.
pub fn all() -> Vec<Experiment> {
    vec![
        randread(1, PREAD, &["core"]),
        randread(32, PREAD_POOL, &["core", "noise:uring-fixed"]),
        seqread(),
        peak(),
        buffered_write(),
        direct_write(1, &["core"]),
        direct_write(16, &["group"]),
        moving_to_file(),
        moving_to_socket(),
        ladder(1, PREAD),
        ladder(32, PREAD_POOL),
        nop_rate(),
    ]
}

fn randread(
    depth: u64,
    baseline: Variant,
    tags: &'static [&'static str],
) -> Experiment {
    Experiment {
        id: RANDREAD,
        about: "random reads of 4 KiB past the page cache",
        params: moves(4096, depth, Pattern::Random),
        tags,
        // The second CPU is for the SQPOLL thread; the pool uses both.
        cpus: CpuNeed::UpTo(2),
        latency_kind: LatencyKind::Service,
        variants: vec![
            baseline,
            URING,
            URING_FIXED,
            URING_SQPOLL,
            URING_IOPOLL,
            URING_PASSTHRU_BUFFERS,
            NOP,
        ],
    }
}

fn seqread() -> Experiment {
    Experiment {
        id: SEQREAD,
        about: "sequential reads of 128 KiB past the page cache",
        params: moves(128 << 10, 8, Pattern::Sequential),
        tags: &["core"],
        cpus: CpuNeed::UpTo(2),
        latency_kind: LatencyKind::Service,
        variants: vec![PREAD_POOL, URING, URING_FIXED, NOP],
    }
}

fn peak() -> Experiment {
    Experiment {
        id: PEAK,
        about: "the most random reads of 4 KiB that all CPUs together get",
        params: moves(4096, 64, Pattern::Random).with(PER, "cpu"),
        tags: &["core"],
        cpus: CpuNeed::All,
        latency_kind: LatencyKind::Service,
        variants: vec![PREAD_POOL, URING, URING_FIXED, NOP],
    }
}

/// Through the page cache, as most databases write their logs. io_uring's
/// RWF_DSYNC has no place here: ext4 hands buffered writes to io-wq workers.
fn buffered_write() -> Experiment {
    durable_write(
        1,
        "no",
        &[],
        vec![
            PWRITE_FDATASYNC,
            O_DSYNC,
            RWF_DSYNC,
            URING_FSYNC,
            PWRITE_UNSYNCED,
            URING_UNSYNCED,
        ],
    )
}

/// Past the page cache, as databases do that manage their own; `writers` have
/// a region each.
fn direct_write(writers: u64, tags: &'static [&'static str]) -> Experiment {
    durable_write(
        writers,
        "yes",
        tags,
        vec![
            PWRITE_FDATASYNC,
            O_DSYNC,
            RWF_DSYNC,
            URING_FSYNC,
            URING_DSYNC,
            PWRITE_UNSYNCED,
            URING_UNSYNCED,
        ],
    )
}

fn durable_write(
    writers: u64,
    direct: &str,
    tags: &'static [&'static str],
    variants: Vec<Variant>,
) -> Experiment {
    Experiment {
        id: DURABLE_WRITE,
        about: "4 KiB on stable storage, one after the other in a file that \
                is overwritten: how long, and at what CPU cost",
        params: moves(4096, writers, Pattern::Sequential)
            .with(O_DIRECT, direct),
        tags,
        // The second CPU is for the io-wq workers; a group of threads uses
        // both.
        cpus: CpuNeed::UpTo(2),
        latency_kind: LatencyKind::Service,
        variants,
    }
}

/// From one place of a file to another. The second CPU is for io-wq workers.
fn moving_to_file() -> Experiment {
    Experiment {
        id: MOVE,
        about: "chunks of 64 KiB from the page cache to another file's place \
                in it: through the process's memory, or inside of the kernel",
        params: moves(64 << 10, 1, Pattern::Sequential).with(TO, "file"),
        tags: &[],
        cpus: CpuNeed::UpTo(2),
        latency_kind: LatencyKind::Service,
        variants: vec![
            READ_WRITE,
            SENDFILE,
            SPLICE,
            COPY_FILE_RANGE,
            URING_SPLICE,
        ],
    }
}

/// Over loopback, to a thread on the second CPU.
fn moving_to_socket() -> Experiment {
    Experiment {
        id: MOVE,
        about: "chunks of 64 KiB from the page cache to a TCP connection: \
                through the process's memory, or inside of the kernel",
        params: moves(64 << 10, 1, Pattern::Sequential).with(TO, "socket"),
        tags: &[],
        cpus: CpuNeed::Exactly(2),
        latency_kind: LatencyKind::Service,
        variants: vec![READ_WRITE, SENDFILE, SPLICE, URING_SPLICE],
    }
}

/// Every way to read at one setting. Each ring variant adds one step to the
/// one above it, with two branches: passthrough begins again at registered
/// files, and the last one at `uring-buffers`.
fn ladder(depth: u64, baseline: Variant) -> Experiment {
    Experiment {
        id: LADDER,
        about: "what each step of the kernel's reading interfaces brings",
        params: moves(4096, depth, Pattern::Random),
        tags: &["ladder"],
        cpus: CpuNeed::UpTo(2),
        latency_kind: LatencyKind::Service,
        variants: vec![
            baseline,
            PREADV2_HIPRI,
            PREAD_BUFFERED,
            UNCACHED,
            MMAP,
            MMAP_POPULATE,
            AIO,
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
            URING_SQPOLL,
            NOP,
        ],
    }
}

fn nop_rate() -> Experiment {
    Experiment {
        id: NOP_RATE,
        about: "NOPs through a ring, and what recording their latency costs",
        params: Params::new()
            .with(OP_BYTES, 0)
            .with(DEPTH, 128)
            .with(BATCH, 32),
        tags: &["self-check"],
        cpus: CpuNeed::Exactly(1),
        latency_kind: LatencyKind::Service,
        variants: vec![NOP_BARE, NOP_RECORDED],
    }
}

fn moves(op_bytes: u64, depth: u64, pattern: Pattern) -> Params {
    Params::new()
        .with(OP_BYTES, op_bytes)
        .with(DEPTH, depth)
        .with(PATTERN, pattern.word())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use harness::suite::Role;

    use super::*;
    use crate::load::Load;

    #[test]
    fn keys_are_unique_and_belong_to_the_suite() {
        let all = all();
        let keys: BTreeSet<String> = all.iter().map(Experiment::key).collect();
        assert_eq!(keys.len(), all.len());
        assert!(keys.iter().all(|key| key.starts_with("storage/")));
    }

    #[test]
    fn each_has_one_baseline_and_bounds_that_exist() {
        for experiment in all() {
            let key = experiment.key();
            let baselines = experiment
                .variants
                .iter()
                .filter(|variant| variant.role == Role::Baseline)
                .count();
            assert_eq!(baselines, 1, "{key}");
            let ids: BTreeSet<&str> =
                experiment.variants.iter().map(|v| v.id).collect();
            assert_eq!(ids.len(), experiment.variants.len(), "{key}");
            for bound in experiment.variants.iter().filter_map(|v| v.bound) {
                let variant = experiment.variant(bound).expect(bound);
                assert_eq!(variant.role, Role::Bound, "{key}");
            }
        }
    }

    #[test]
    fn parameters_of_moving_experiments_are_good() {
        for experiment in all().iter().filter(|e| e.id != NOP_RATE) {
            let load = Load::from_params(&experiment.params, 2)
                .expect("good parameters");
            let key = experiment.key();
            assert_eq!(
                load.pool_shape().threads,
                load.ring_shape().threads * load.depth,
                "{key}: baseline and rings have the same in flight"
            );
        }
    }
}
