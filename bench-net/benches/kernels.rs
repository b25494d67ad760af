//! What a frame's check costs by itself: no system call, no other thread.

use std::{hint::black_box, process::ExitCode};

use bench_net::{
    arrivals::Arrivals,
    frame::{Direction, Series},
    ways::Numbered,
};
use harness::{
    machine::environment::IrqAccounting,
    measure::{
        clock::Clock,
        trial::{Trial, TrialSpec},
    },
    run::kernels::{self, Kernels},
    suite::Params,
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
    Trial::new(TrialSpec {
        run_id: 1,
        trial: 1,
        suite: "net".to_owned(),
        experiment: "net/kernels".to_owned(),
        params: Params::new(),
        variant: String::new(),
        seed: 1,
        cpus: Vec::new(),
        numa_node: None,
        warmup_ns: 0,
        window_ns: 0,
        slice_ns: 1,
        clock: Clock::monotonic(),
        irq_accounting: IrqAccounting::Unknown,
        target: Default::default(),
    })
}
