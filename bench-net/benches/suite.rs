//! `cargo bench -p bench-net --bench suite`: the experiments tagged `core`.

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::run::bench::main_for(&[bench_net::SUITE])
}
