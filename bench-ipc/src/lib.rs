//! The ipc suite: how fast one thread hands a message to another, and at what
//! cost, beside what the cache-line transfers underneath it allow.
//!
//! | where | what |
//! |---|---|
//! | [`experiments`] | the list: each variant is one line |
//! | [`queues`] | one file per way to hand a message over |
//! | [`ping_pong`], [`stream`] | the two questions, generic over the ways |
//! | [`bounds`] | floors and ceilings that are no way to hand a message over |
//! | [`ring`](mod@ring) | our own queue, usable by itself |
//! | [`message`] | what is handed over; waiting and the thread at the other end are the harness's |
//! | [`distance`] | how far apart the two CPUs really are, in each trial |
//!
//! A new queue is one new file in `queues/` and one line in `experiments.rs`.
//!
//! **Invariants.** Every message is checked by the thread that receives it,
//! and what was sent is compared with what arrived when a trial ends. The two
//! questions know no queue by name. Nothing here prints.

#[cfg(not(all(test, feature = "loom")))]
pub mod bounds;
#[cfg(not(all(test, feature = "loom")))]
pub mod distance;
#[cfg(not(all(test, feature = "loom")))]
pub mod experiments;
#[cfg(not(all(test, feature = "loom")))]
pub mod message;
#[cfg(not(all(test, feature = "loom")))]
pub mod ping_pong;
#[cfg(not(all(test, feature = "loom")))]
pub mod queues;
pub mod ring;
#[cfg(not(all(test, feature = "loom")))]
pub mod stream;

#[cfg(not(all(test, feature = "loom")))]
pub use harness::load::{peer, wait};

#[cfg(all(test, not(feature = "loom")))]
mod testing;

#[cfg(not(all(test, feature = "loom")))]
pub use suite::SUITE;

/// In tests with the feature `loom` only the ring is built: loom's types work
/// nowhere but inside a model.
#[cfg(not(all(test, feature = "loom")))]
mod suite {
    use harness::suite::{Forecast, NoTarget, Suite};

    use crate::experiments;

    /// The suite, which needs nothing but two CPUs.
    pub const SUITE: Suite = Suite {
        id: "ipc",
        about: "messages from one thread to another on two pinned CPUs",
        experiments: experiments::all,
        prepare: |_| Ok(Box::new(NoTarget)),
        forecast: |_| Ok(Forecast::default()),
        checks: Vec::new,
        devices: |_| Vec::new(),
    };
}
