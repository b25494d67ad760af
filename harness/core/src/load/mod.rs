//! How load is put on: a closed loop here; an open loop counts latency from
//! the intended start and is a module of its own.

pub mod closed;
pub mod peer;
pub mod wait;
