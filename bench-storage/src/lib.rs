//! The storage suite: what it costs to read and write a file or device, to
//! get 4 KiB onto stable storage, to move, drop and flush data, by each way
//! that Linux offers.
//!
//! `experiments` asks the questions, `variants` has one file per way to read
//! or write, `engine` the hot loops that they share, `target` what is read and
//! written, `nvme` a namespace without the block layer, `guard` what may be
//! written at all, `source` and `sink` how a worker sees it, `path`, `polling`,
//! `passed_through`, `blank`, `medium`, `durability` and `probe` what a row may
//! claim and what a machine can run.

pub mod addresses;
pub mod blank;
pub mod ceiling;
pub mod checker;
pub mod contents;
pub mod device_counters;
pub mod doctor;
pub mod durability;
pub mod engine;
pub mod experiments;
pub mod extents;
pub mod flushing;
pub mod guard;
pub mod load;
pub mod mapped_bytes;
pub mod medium;
pub mod mixed;
pub mod moving;
pub mod nvme;
pub mod page_cache;
pub mod passed_through;
pub mod path;
pub mod polling;
pub mod probe;
pub mod random;
pub mod sink;
pub mod source;
pub mod target;
#[cfg(test)]
mod testing;
pub mod trim;
pub mod variants;
pub mod written;
pub mod zipf;

use harness::suite::Suite;

/// The suite, for `main_for`.
pub const SUITE: Suite = Suite {
    id: "storage",
    about: "reads, writes, durable writes, moving, trim and flush of files and \
            block devices: blocking calls, AIO, io_uring, NVMe passthrough",
    experiments: experiments::all,
    prepare: target::prepare,
    forecast: target::forecast,
    checks: doctor::checks,
    devices: target::devices,
};
