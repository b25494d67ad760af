//! io_uring as the suites use it: a ring that stays in one piece, and why one
//! cannot be had.

mod entries;
mod hybrid;
mod mixed;
mod parts;
pub mod probe;
mod raw;
mod ring;

pub use entries::{Big, Entries, Mixed, Small};
pub use parts::{Enters, Full, Parts, Pushes, Reaps, Sizes};
pub use ring::{POLLER_IDLE_MS, Ring, Setup, patiently};
