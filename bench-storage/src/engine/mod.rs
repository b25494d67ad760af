//! What moves the bytes: blocking calls, and rings.
//!
//! **Invariant**: a `round` neither allocates nor locks nor logs, and makes no
//! system call but the one that is measured. All memory is there when the
//! first round starts.

pub mod aio;
pub mod aio_calls;
pub mod aio_reads;
pub mod aio_writes;
pub mod blocking;
pub mod blocking_writes;
pub mod cold;
pub mod commands;
pub mod drives;
pub mod mapped;
pub mod nops;
pub mod one_entry;
pub mod passthrough_reads;
pub mod passthrough_writes;
mod registered;
pub mod ring_reads;
pub mod ring_writes;
pub mod rounds;
mod sigbus;
mod sizes;
pub mod slots;
pub mod write_slots;

pub use harness::uring as ring;

use std::io;

use harness::{measure::trial::TrialError, uring::probe::with_remedy};

/// What a worker says that cannot have its ring.
pub(crate) fn no_ring(setup: ring::Setup, error: &io::Error) -> TrialError {
    let error = with_remedy(error);
    TrialError::setup(format!("making a ring ({setup:?}): {error}"))
}
