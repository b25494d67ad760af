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

/// What a ring that receives has room for.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// Submissions; twice as many completions.
    entries: usize,
    /// Provided buffers, of a frame each.
    buffers: u16,
}

/// More buffers than a socket's default receive buffer holds frames, so that it
/// is the socket that overflows, as with every other way, and a completion for
/// each: those that overflow are not seen by who only looks at the ring.
const MANY: Room = Room { entries: 1_024, buffers: 1_024 };

/// One frame is in flight; the rest is for what nobody asked for.
const FEW: Room = Room { entries: 8, buffers: 16 };
