//! What a frame's check costs by itself: no system call, no other thread.

use std::{hint::black_box, process::ExitCode};

use bench_net::{
    arrivals::Arrivals,
    frame::{Direction, Series},
    ways::Numbered,
};
use harness::{
    measure::trial::Trial,
    run::kernels::{self, Kernels},
    suite::Params,
    testing,
};

fn main() -> ExitCode {
    kernels::main_for("net", time)
}

fn time(kernels: &mut Kernels) {
    let series = Series::new(&trial(), Direction::There);
    let mut numbered = Numbered::new(series);
    kernels.time("frame encode", || black_box(numbered.take()));

    let payload = series.payload(7);
    kernels.time("frame verify", || series.read(black_box(&payload)));

    let mut numbered = Numbered::new(series);
    let mut arrivals = Arrivals::new(series);
    kernels.time("frame encode and arrival in order", || {
        let payload = numbered.take();
        arrivals.see(black_box(&payload));
    });
}

/// A series has to belong to some trial.
fn trial() -> Trial {
    testing::trial("net/kernels", Params::new(), "", &[])
}
