//! io_uring as the suites use it: a ring that stays in one piece, and why one
//! cannot be had.

mod entries;
mod hybrid;
pub mod probe;
mod ring;

pub use entries::{Big, Entries, Small};
pub use ring::{POLLER_IDLE_MS, Ring, Setup, patiently};
