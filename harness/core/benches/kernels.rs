//! Pieces of the measured loop: what reading the clock and recording cost.

use std::{hint::black_box, process::ExitCode};

use harness::{
    machine::root::Root,
    measure::{
        clock::Clock,
        recorder::{Recorder, Schedule, new_histogram},
    },
    run::kernels::{self, Kernels},
};

fn main() -> ExitCode {
    kernels::main_for("harness", time)
}

fn time(kernels: &mut Kernels) {
    let clock = Clock::calibrate(&Root::system());
    kernels.time("clock read", || clock.now_ns());

    let mut histogram = new_histogram();
    let mut value = 1_u64;
    kernels.time("histogram record", || {
        value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        histogram.saturating_record_n(black_box(value >> 44), 32);
    });

    let schedule =
        Schedule { start_ns: 0, end_ns: u64::MAX - 1, slice_ns: u64::MAX / 2 };
    let mut recorder = Recorder::new(clock, schedule, true);
    recorder.stamp_ns();
    kernels.time("stamp and complete a batch", || {
        let before_ns = recorder.last_ns();
        let now_ns = recorder.stamp_ns();
        recorder.complete(32, now_ns - before_ns);
    });
}
