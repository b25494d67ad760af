//! `cargo bench -p bench-storage --bench suite`: the experiments tagged
//! `core`.

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::run::bench::main_for(&[bench_storage::SUITE])
}
