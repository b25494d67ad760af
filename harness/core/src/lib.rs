//! All that a benchmark is built from: the machine, measuring, load, and the
//! running of plans.
//!
//! **Invariants.** This crate names no benchmark. `machine` never measures.
//! `measure` and `load` know nothing of files of results; `run` brings both
//! together.

pub mod load;
pub mod machine;
pub mod measure;
pub mod run;
pub mod suite;
pub mod testing;
pub mod uring;
