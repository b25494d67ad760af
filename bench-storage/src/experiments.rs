//! The questions of this suite; in `ladder` the one that takes every way to
//! read, in `moving` those about data that only passes through, in `upkeep`
//! those about dropping and flushing.

mod ladder;
mod moving;
mod upkeep;

use std::{num::NonZero, thread::available_parallelism};

use harness::{
    run::filter::SWEEP,
    suite::{CpuNeed, Experiment, LatencyKind, Params, Variant},
};

use crate::{
    addresses::Pattern,
    load::{
        BATCH, CPUS, DEPTH, O_DIRECT, OP_BYTES, PATTERN, PER, READ_PERCENT,
    },
    variants::{
        aio::AIO_WRITES,
        flushing::{FDATASYNC, FDATASYNC_POOL},
        nop::{NOP, NOP_BARE, NOP_RECORDED},
        o_dsync::O_DSYNC,
        pread::PREAD,
        pread_pool::PREAD_POOL,
        pwrite::{PREAD_PWRITE_POOL, PWRITE, PWRITE_POOL},
        pwrite_fdatasync::PWRITE_FDATASYNC,
        rwf_dsync::RWF_DSYNC,
        unsynced::{PWRITE_UNSYNCED, URING_UNSYNCED},
        uring::URING,
        uring_dsync::URING_DSYNC,
        uring_fixed::URING_FIXED,
        uring_fsync::URING_FSYNC,
        uring_iopoll::URING_IOPOLL,
        uring_passthru_buffers::URING_PASSTHRU_BUFFERS,
        uring_sqpoll::URING_SQPOLL,
        uring_writes::{
            URING_FIXED_WRITES, URING_IOPOLL_WRITES, URING_PASSTHRU_WRITES,
            URING_SQPOLL_WRITES, URING_WRITES,
        },
    },
};

const RANDREAD: &str = "storage/randread-4k";
const SEQREAD: &str = "storage/seqread-128k";
const PEAK: &str = "storage/peak-4k";
const RANDWRITE: &str = "storage/randwrite-4k";
const SEQWRITE: &str = "storage/seqwrite-128k";
const MIXED: &str = "storage/mixed-4k";
const DURABLE_WRITE: &str = "storage/durable-write-4k";
const NOP_RATE: &str = "storage/nop";

/// The same at other op sizes, as points of a sweep.
const RANDREAD_SIZES: &str = "storage/randread";
const SEQREAD_SIZES: &str = "storage/seqread";
const RANDWRITE_SIZES: &str = "storage/randwrite";
const SEQWRITE_SIZES: &str = "storage/seqwrite";

/// The experiments that write.
pub const WRITING: [&str; 8] = [
    RANDWRITE,
    SEQWRITE,
    MIXED,
    RANDWRITE_SIZES,
    SEQWRITE_SIZES,
    moving::ID,
    upkeep::TRIM_ID,
    DURABLE_WRITE,
];

/// Depths between and beyond those that are always asked for.
const DEPTHS: [u64; 7] = [2, 4, 8, 16, 64, 128, 256];

/// 512 B to 1 MiB.
const SIZES: [u64; 6] = [512, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];

/// In flight at each size: what is registered of the largest then fits into
/// the 8 MiB that an ordinary user may lock.
const SIZES_DEPTH: u64 = 4;

/// Reads of a depth that are submitted together at most.
const BATCHES: [u64; 5] = [1, 2, 8, 16, 32];

/// Flushes in flight, of which those that wait share the next one; and drops.
const UPKEEP_DEPTHS: [u64; 2] = [8, 32];

/// The depth at which batches differ.
const BATCHES_DEPTH: u64 = 32;

/// In flight on each CPU of a sweep over them.
const CPUS_DEPTH: u64 = 32;

/// The share of reads that benchmarks of databases have settled on.
const READS_OF_MIX: u64 = 70;

/// All experiments; each names its variants in one list.
pub fn all() -> Vec<Experiment> {
    let mut all = vec![
        randread(1, PREAD, &["core"]),
        randread(32, PREAD_POOL, &["core", "noise:uring-fixed"]),
        seqread(),
        peak(),
        randwrite(1, PWRITE, &["full"]),
        randwrite(32, PWRITE_POOL, &["full"]),
        seqwrite(),
        mixed(32, &["full"]),
        buffered_write(),
        direct_write(1, &["core"]),
        direct_write(16, &["group"]),
        moving::to_file(),
        moving::to_socket(),
        ladder::ladder(1, PREAD),
        ladder::ladder(32, PREAD_POOL),
        upkeep::flush(1, FDATASYNC, &["full"]),
        nop_rate(),
    ];
    all.extend(sweep());
    // A trial that is killed leaves holes, which no other experiment expects.
    all.push(upkeep::trim());
    let deep = |depth| upkeep::trim_deep(depth, &[SWEEP]);
    all.extend(UPKEEP_DEPTHS.map(deep));
    all
}

/// One parameter moves and the others stay: what a line in a diagram is made
/// of.
fn sweep() -> Vec<Experiment> {
    const TAGS: &[&str] = &[SWEEP];
    let depths = DEPTHS.into_iter().flat_map(|depth| {
        [
            randread(depth, PREAD_POOL, TAGS),
            randwrite(depth, PWRITE_POOL, TAGS),
            mixed(depth, TAGS),
        ]
    });
    let zipf = [
        randread(32, PREAD_POOL, &["full", SWEEP]),
        randwrite(32, PWRITE_POOL, TAGS),
        mixed(32, TAGS),
    ];
    let zipf = zipf.map(|e| with_pattern(e, Pattern::Zipf));
    let sizes = SIZES.into_iter().flat_map(|op_bytes| {
        let random = moves(op_bytes, SIZES_DEPTH, Pattern::Random);
        let in_order = moves(op_bytes, SIZES_DEPTH, Pattern::Sequential);
        [
            reads_of_size(RANDREAD_SIZES, random.clone()),
            reads_of_size(SEQREAD_SIZES, in_order.clone()),
            writes_of_size(RANDWRITE_SIZES, random),
            writes_of_size(SEQWRITE_SIZES, in_order),
        ]
    });
    let cpus = counts_of_cpus().into_iter().flat_map(|cpus| {
        let reads = randread(CPUS_DEPTH, PREAD_POOL, TAGS);
        let writes = randwrite(CPUS_DEPTH, PWRITE_POOL, TAGS);
        [reads, writes].map(|experiment| on_cpus(experiment, cpus))
    });
    let batches = BATCHES.into_iter().map(|batch| {
        let reads = randread(BATCHES_DEPTH, PREAD_POOL, TAGS);
        Experiment { params: reads.params.with(BATCH, batch), ..reads }
    });
    let flushes =
        UPKEEP_DEPTHS.map(|depth| upkeep::flush(depth, FDATASYNC_POOL, TAGS));
    let points = depths.chain(zipf).chain(sizes).chain(cpus).chain(batches);
    points.chain(flushes).collect()
}

/// 1, 2, 4 and so on, and all.
fn counts_of_cpus() -> Vec<usize> {
    let all = available_parallelism().map_or(1, NonZero::get);
    let doubling = std::iter::successors(Some(1), |count| Some(count * 2));
    doubling.take_while(|count| *count < all).chain([all]).collect()
}

fn with_pattern(mut experiment: Experiment, pattern: Pattern) -> Experiment {
    experiment.params = experiment.params.with(PATTERN, pattern.word());
    experiment
}

/// One ring per CPU. A poller would need as many CPUs again.
fn on_cpus(mut experiment: Experiment, cpus: usize) -> Experiment {
    experiment.params = experiment.params.with(PER, "cpu").with(CPUS, cpus);
    experiment.cpus = CpuNeed::Exactly(cpus);
    experiment.variants.retain(|variant| variant.id != URING_SQPOLL.id);
    experiment
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
        steps: &[],
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
        steps: &[],
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
        steps: &[],
        variants: vec![PREAD_POOL, URING, URING_FIXED, NOP],
    }
}

fn reads_of_size(id: &'static str, params: Params) -> Experiment {
    Experiment {
        id,
        about: "reads past the page cache, by size",
        params,
        tags: &[SWEEP],
        cpus: CpuNeed::UpTo(2),
        latency_kind: LatencyKind::Service,
        steps: &[],
        variants: vec![PREAD_POOL, URING, URING_FIXED, NOP],
    }
}

fn randwrite(
    depth: u64,
    baseline: Variant,
    tags: &'static [&'static str],
) -> Experiment {
    Experiment {
        id: RANDWRITE,
        about: "random writes of 4 KiB past the page cache, over a file that \
                was written before",
        params: moves(4096, depth, Pattern::Random),
        tags,
        cpus: CpuNeed::UpTo(2),
        latency_kind: LatencyKind::Service,
        steps: &[],
        variants: {
            let mut variants = writing(baseline);
            variants.insert(variants.len() - 1, URING_PASSTHRU_WRITES);
            variants
        },
    }
}

fn seqwrite() -> Experiment {
    Experiment {
        id: SEQWRITE,
        about: "sequential writes of 128 KiB past the page cache, over a file \
                that was written before",
        params: moves(128 << 10, 8, Pattern::Sequential),
        tags: &["full"],
        cpus: CpuNeed::UpTo(2),
        latency_kind: LatencyKind::Service,
        steps: &[],
        variants: vec![
            PWRITE_POOL,
            AIO_WRITES,
            URING_WRITES,
            URING_FIXED_WRITES,
            NOP,
        ],
    }
}

fn mixed(depth: u64, tags: &'static [&'static str]) -> Experiment {
    Experiment {
        id: MIXED,
        about: "7 reads to 3 writes of 4 KiB, random and past the page cache",
        params: moves(4096, depth, Pattern::Random)
            .with(READ_PERCENT, READS_OF_MIX),
        tags,
        cpus: CpuNeed::UpTo(2),
        latency_kind: LatencyKind::Service,
        steps: &[],
        variants: writing(PREAD_PWRITE_POOL),
    }
}

/// The second CPU is for the SQPOLL thread; a pool uses both.
fn writing(baseline: Variant) -> Vec<Variant> {
    vec![
        baseline,
        AIO_WRITES,
        URING_WRITES,
        URING_FIXED_WRITES,
        URING_SQPOLL_WRITES,
        URING_IOPOLL_WRITES,
        NOP,
    ]
}

fn writes_of_size(id: &'static str, params: Params) -> Experiment {
    Experiment {
        id,
        about: "writes past the page cache, by size, over a file that was \
                written before",
        params,
        tags: &[SWEEP],
        cpus: CpuNeed::UpTo(2),
        latency_kind: LatencyKind::Service,
        steps: &[],
        variants: vec![
            PWRITE_POOL,
            AIO_WRITES,
            URING_WRITES,
            URING_FIXED_WRITES,
            NOP,
        ],
    }
}

/// Through the page cache, as most databases write their logs. Of io_uring's
/// ways only the fsync has a place here, which is a worker's anyway: ext4 hands
/// buffered writes to io-wq, and a hand-over is no ceiling.
fn buffered_write() -> Experiment {
    durable_write(
        1,
        "no",
        &[],
        vec![
            PWRITE_FDATASYNC,
            O_DSYNC,
            RWF_DSYNC,
            Variant { bound: Some(PWRITE_UNSYNCED.id), ..URING_FSYNC },
            PWRITE_UNSYNCED,
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
        steps: &[],
        variants,
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
        steps: &[],
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
            let place =
                |id: &str| experiment.variants.iter().position(|v| v.id == id);
            for (step, before) in experiment.steps {
                // A table is read downwards.
                assert!(
                    place(before).expect(before) < place(step).expect(step)
                );
            }
        }
    }

    #[test]
    fn sizes_depths_cpus_and_patterns_are_swept() {
        let all = all();
        let values = |key: &str, ids: &[&str]| -> BTreeSet<u64> {
            let of = |e: &Experiment| e.params.number(key);
            all.iter().filter(|e| ids.contains(&e.id)).filter_map(of).collect()
        };
        for id in [RANDREAD, RANDWRITE] {
            let depths = values(DEPTH, &[id]);
            let powers: BTreeSet<u64> = (0..9).map(|n| 1 << n).collect();
            assert_eq!(depths, powers, "{id}");
            assert!(values(CPUS, &[id]).contains(&1), "{id}");
        }
        for id in
            [RANDREAD_SIZES, SEQREAD_SIZES, RANDWRITE_SIZES, SEQWRITE_SIZES]
        {
            let sizes = values(OP_BYTES, &[id]);
            assert_eq!(sizes.first(), Some(&512), "{id}");
            assert_eq!(sizes.last(), Some(&(1 << 20)), "{id}");
        }
        for id in [RANDREAD, RANDWRITE, MIXED] {
            let zipf = Some(Pattern::Zipf.word());
            let mut of_id = all.iter().filter(|e| e.id == id);
            assert!(of_id.any(|e| e.params.get(PATTERN) == zipf), "{id}");
        }
        assert!(all.iter().all(|e| {
            let writes = e.variants.iter().any(|v| v.id.contains("write"));
            writes == WRITING.contains(&e.id)
                || e.baseline().is_none_or(|v| v.id.contains("sync"))
        }));
    }

    #[test]
    fn parameters_of_moving_experiments_are_good() {
        for experiment in all()
            .iter()
            .filter(|e| ![NOP_RATE, upkeep::FLUSH_ID].contains(&e.id))
        {
            let cpus = experiment.params.number(CPUS).unwrap_or(2);
            let cpus = usize::try_from(cpus).expect("few");
            let load = Load::from_params(&experiment.params, cpus)
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
