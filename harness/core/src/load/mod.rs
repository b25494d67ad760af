//! How load is put on: by a closed loop, or by an open one, whose latency
//! counts from the intended start.

pub mod closed;
pub mod empty_calls;
pub mod open;
pub mod peer;
pub mod wait;
