//! Data moved from a file to a file or a socket: by way of the process's
//! memory, and inside of the kernel.

use harness::{
    load::closed::{self, Place},
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use crate::{
    load::TO,
    moving::{
        Mover, Moving,
        calls::{CopyFileRange, Sendfile, Splice, ThroughMemory},
        ring::RingSplice,
        route::Route,
        to_file::ToFile,
        to_socket::ToSocket,
    },
    path, probe,
};

/// What every program can do.
pub const READ_WRITE: Variant = Variant {
    id: "read-write",
    about: "pread(2) into a buffer, pwrite(2) or send(2) out of it: two \
            system calls and two copies per chunk",
    role: Role::Baseline,
    bound: None,
    spinning: false,
    probe: probe::blocking,
    worker: |trial| moved(trial, ThroughMemory::new),
};

/// One call.
pub const SENDFILE: Variant = Variant {
    id: "sendfile",
    about: "sendfile(2): pages go from the page cache to the socket without \
            a copy, or into the other file with one",
    role: Role::Contender,
    bound: None,
    spinning: false,
    probe: probe::blocking,
    worker: |trial| moved(trial, |_, _| Ok(Sendfile::default())),
};

/// What sendfile does inside, with a pipe of one's own.
pub const SPLICE: Variant = Variant {
    id: "splice",
    about: "splice(2) from the file into a pipe and out of it: two system \
            calls, no copy into the pipe",
    role: Role::Contender,
    bound: None,
    spinning: false,
    probe: probe::blocking,
    worker: |trial| moved(trial, |bytes, _| Splice::new(bytes)),
};

/// Files only.
pub const COPY_FILE_RANGE: Variant = Variant {
    id: "copy-file-range",
    about: "copy_file_range(2): the file system copies, or lets both places \
            share their extents",
    role: Role::Contender,
    bound: None,
    spinning: false,
    probe: probe::copy_file_range,
    worker: |trial| moved(trial, |_, _| Ok(CopyFileRange::default())),
};

/// The same as `splice`, asynchronous.
pub const URING_SPLICE: Variant = Variant {
    id: "uring-splice",
    about: "io_uring: two splices, linked, in one io_uring_enter(2); io-wq \
            workers do them",
    role: Role::Contender,
    bound: None,
    spinning: false,
    probe: probe::single_issuer,
    worker: |trial| moved(trial, |bytes, _| RingSplice::new(bytes)),
};

/// A trial of the mover that is made for chunks of a size.
fn moved<M: Mover>(
    trial: &Trial,
    make: impl Fn(usize, &Place) -> Result<M, TrialError> + Sync,
) -> Result<Outcome, TrialError> {
    let route = Route::of(trial)?;
    let shape = route.load().ring_shape();
    if shape.threads != 1 || shape.depth != 1 {
        return Err(TrialError::setup(format!(
            "{} threads with {} chunks each under way: chunks are moved one \
             after the other",
            shape.threads, shape.depth
        )));
    }
    let bytes = route.load().op_bytes;
    let mut outcome = match trial.spec.params.get(TO) {
        Some("file") => closed::run(trial, shape, |place| {
            let destination = ToFile::new(&route)?;
            Ok(Moving::new(&route, make(bytes, place)?, destination))
        })?,
        Some("socket") => closed::run(trial, shape, |place| {
            let destination = ToSocket::new(trial, &route)?;
            Ok(Moving::new(&route, make(bytes, place)?, destination))
        })?,
        other => {
            return Err(TrialError::setup(format!(
                "{TO}={} is neither file nor socket",
                other.unwrap_or_default()
            )));
        }
    };
    route.judge_source(&mut outcome);
    if trial.spec.params.get(TO) == Some("file") {
        route.judge_sharing(&mut outcome);
    }
    // Splices of a ring belong there; the row says so, and is not degraded.
    path::state_io_wq(&mut outcome);
    Ok(outcome)
}
