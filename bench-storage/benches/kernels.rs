//! Pieces of the storage loop: choosing addresses, preparing submissions,
//! checking what was read.

use std::{hint::black_box, process::ExitCode};

use bench_storage::{contents::Seeded, random::Random};
use harness::run::kernels::{self, Kernels};
use io_uring::{opcode, squeue, types::Fixed};

const BLOCK_BYTES: u64 = 4_096;

fn main() -> ExitCode {
    kernels::main_for("storage", time)
}

fn time(kernels: &mut Kernels) {
    let mut random = Random::new(1);
    kernels.time("random offset", || random.below(black_box(262_144)));

    let mut block = vec![0; 4_096];
    let address = block.as_mut_ptr();
    kernels.time("prepare a fixed read", || -> squeue::Entry {
        opcode::ReadFixed::new(Fixed(0), address, 4_096, 0)
            .offset(black_box(8_192))
            .build()
    });

    let contents = Seeded { run_id: 1, seed: 2 };
    contents.fill(BLOCK_BYTES, &mut block);
    kernels.time("check a block's header", || {
        contents.header_matches(BLOCK_BYTES, black_box(&block))
    });
    kernels.time("check a whole block", || {
        contents.verify(BLOCK_BYTES, black_box(&block)).is_ok()
    });
}
