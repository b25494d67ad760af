//! The `net` suite. It has no experiments yet.

pub mod doctor;
pub mod lab;
pub mod xdp;

use harness::suite::{Forecast, NoTarget, Suite};

/// Packets: sockets, io_uring and AF_XDP.
pub const SUITE: Suite = Suite {
    id: "net",
    about: "packets by socket, io_uring and AF_XDP",
    experiments: Vec::new,
    prepare: |_| Ok(Box::new(NoTarget)),
    forecast: |_| Ok(Forecast::default()),
    checks: doctor::checks,
};
