//! io_uring: one ring per end, on the end's own thread (SINGLE_ISSUER,
//! DEFER_TASKRUN), with the ring's descriptor and the socket registered.
//! Frames come by one multishot request that takes its memory from a ring of
//! provided buffers.

mod flow;
mod link;
pub mod probe;
mod provided;
mod receiving;

pub use flow::Uring;
pub use link::{UringSleep, UringSpin};

/// How long an end waits in one call, before it looks whether the other
/// thread is gone; as for sockets.
const LOOK_UP: io_uring::types::Timespec =
    io_uring::types::Timespec::new().nsec(100_000_000);
