//! `cargo bench`: the experiments tagged `core`.

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::run::bench::main_for(&[bench_ipc::SUITE])
}
