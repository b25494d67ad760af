//! io_uring as the suites use it: a ring that stays in one piece, and why one
//! cannot be had.

mod hybrid;
pub mod probe;
mod ring;

pub use ring::{Ring, Setup, patiently};
