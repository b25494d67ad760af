//! Running: plan, blocks, sessions, resumption, journal and clean-up.

pub mod bench;
mod child;
mod directory;
pub mod doctor;
mod error;
mod eta;
pub mod exit;
pub mod filter;
pub mod host;
mod interface_names;
pub mod interrupt;
pub mod journal;
#[cfg(feature = "kernels")]
pub mod kernels;
pub mod options;
pub mod output;
pub mod plan;
pub mod preview;
pub mod probes;
pub mod progress;
mod resume;
mod rows;
pub mod runner;
mod session;
mod tally;
mod time;
pub mod worker;
