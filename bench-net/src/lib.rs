//! The net suite: what it costs to bring a frame from one thread to another
//! over a link, by socket, io_uring and AF_XDP.
//!
//! | where | what |
//! |---|---|
//! | [`experiments`] | the list: each variant is one line |
//! | [`ways`] | one file per way to move frames |
//! | [`rtt`], [`paced`], [`stream`] | the questions, generic over the ways |
//! | [`lab`] | the link: two namespaces without a name, a veth pair |
//! | [`wire`] | or two interfaces of this machine, named by the user |
//! | [`frame`], [`arrivals`] | what a frame carries, and how it is checked |
//! | [`ledger`], [`settle`] | sent = delivered + dropped by name |
//! | [`xdp`] | AF_XDP sockets and their filter |
//! | [`probe`] | whether there can be a lab here |
//!
//! A new way is one new file in `ways/` and one line in `experiments.rs`.
//!
//! **Invariants.** Every frame is checked by the thread that receives it, and
//! every frame sent is accounted for when a trial ends, or the trial is wrong.
//! Nothing outside the two namespaces is touched but interfaces that the user
//! named. Nothing here prints.

pub mod arrivals;
pub mod doctor;
pub mod experiments;
pub mod frame;
pub mod lab;
pub mod ledger;
pub mod paced;
pub mod probe;
pub mod rtt;
pub mod settle;
pub mod stream;
#[cfg(test)]
mod testing;
pub mod ways;
pub mod wire;
pub mod xdp;

use harness::suite::Suite;

/// The suite. It needs two CPUs, and a network namespace or the right to make
/// a user namespace.
pub const SUITE: Suite = Suite {
    id: "net",
    about: "packets by socket, io_uring and AF_XDP",
    experiments: experiments::all,
    prepare: wire::prepare,
    forecast: wire::forecast,
    checks: doctor::checks,
    devices: |_| Vec::new(),
};
