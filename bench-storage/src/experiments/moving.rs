//! What it costs to move data that the process does not look at.

use harness::suite::{CpuNeed, Experiment, LatencyKind};

use super::moves;
use crate::{
    addresses::Pattern,
    load::TO,
    variants::moving::{
        COPY_FILE_RANGE, READ_WRITE, SENDFILE, SPLICE, URING_SPLICE,
    },
};

/// Writes as well: what is moved has to go somewhere.
pub(super) const ID: &str = "storage/move-64k";

/// From one place of a file to another. The second CPU is for io-wq workers.
pub(super) fn to_file() -> Experiment {
    Experiment {
        id: ID,
        about: "chunks of 64 KiB from the page cache to another file's place \
                in it: through the process's memory, or inside of the kernel",
        params: moves(64 << 10, 1, Pattern::Sequential).with(TO, "file"),
        tags: &[],
        cpus: CpuNeed::UpTo(2),
        latency_kind: LatencyKind::Service,
        steps: &[],
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
pub(super) fn to_socket() -> Experiment {
    Experiment {
        id: ID,
        about: "chunks of 64 KiB from the page cache to a TCP connection: \
                through the process's memory, or inside of the kernel",
        params: moves(64 << 10, 1, Pattern::Sequential).with(TO, "socket"),
        tags: &[],
        cpus: CpuNeed::Exactly(2),
        latency_kind: LatencyKind::Service,
        steps: &[],
        variants: vec![READ_WRITE, SENDFILE, SPLICE, URING_SPLICE],
    }
}
