//! Measuring one trial: the clock, what is recorded, which path was taken,
//! what it cost, and whether the machine kept still meanwhile.

pub mod clock;
pub mod cost;
pub mod counters;
mod interrupts;
mod kernel_threads;
pub mod observer;
pub mod recorder;
mod tasks;
pub mod trial;
pub mod validity;
