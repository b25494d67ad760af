//! Queue operations on one thread: no cache line moves, so this is the cost
//! of the code alone.

use std::{hint::black_box, process::ExitCode};

use bench_ipc::ring;
use crossbeam::{channel, queue::ArrayQueue};
use harness::run::kernels::{self, Kernels};

/// As in the experiments.
const CAPACITY: usize = 1_024;

fn main() -> ExitCode {
    kernels::main_for("ipc", time)
}

fn time(kernels: &mut Kernels) {
    let (mut producer, mut consumer) =
        ring::ring::<u64>(CAPACITY).expect("a power of two");
    kernels.time("ring push and pop", || {
        let pushed = producer.push(black_box(7));
        (pushed, consumer.pop())
    });

    let queue = ArrayQueue::<u64>::new(CAPACITY);
    kernels.time("array-queue push and pop", || {
        let pushed = queue.push(black_box(7));
        (pushed, queue.pop())
    });

    let (sender, receiver) = channel::bounded::<u64>(CAPACITY);
    kernels.time("channel send and receive", || {
        let sent = sender.try_send(black_box(7));
        (sent, receiver.try_recv())
    });
}
