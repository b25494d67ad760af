//! Ops that are nothing but system calls which do nothing: the floor of
//! whatever cannot do without as many.

use super::closed::{self, Work};
use crate::measure::{
    clock::Clock,
    recorder::Recorder,
    trial::{Evidence, Outcome, Shape, Trial, TrialError},
};

/// A call lasts 50 to 250 ns; a reading of the clock some 20. Of so many
/// batches one is timed: nine stamps a round are then below 4 %.
const TIMED_EVERY: u32 = 32;
const TIMED_PER_ROUND: usize = 4;
const BATCHES_PER_ROUND: u64 = TIMED_EVERY as u64 * TIMED_PER_ROUND as u64;

/// How many calls a batch of ops takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyCalls {
    /// Calls.
    pub calls: u64,
    /// Ops that they are for.
    pub ops: u64,
}

impl EmptyCalls {
    /// Runs a trial of such ops. It times some of them, which is set in the
    /// outcome's shape; the rest of that is as given.
    ///
    /// # Errors
    /// The trial failed.
    pub fn run(
        self,
        trial: &Trial,
        shape: Shape,
    ) -> Result<Outcome, TrialError> {
        let sampled_every = self.ops * u64::from(TIMED_EVERY);
        closed::run(trial, Shape { sampled_every, ..shape }, |place| {
            let (per_batch, clock) = (self, place.clock);
            Ok(Batches { per_batch, clock, parent: getppid(), ops: 0 })
        })
    }
}

#[derive(Debug)]
struct Batches {
    per_batch: EmptyCalls,
    clock: Clock,
    parent: libc::c_long,
    ops: u64,
}

/// Through `syscall(2)`, so that no C library can answer from a cache.
#[inline(always)]
fn getppid() -> libc::c_long {
    // SAFETY: it takes no arguments and always succeeds.
    unsafe { libc::syscall(libc::SYS_getppid) }
}

impl Batches {
    #[inline(always)]
    fn batch(&self) -> Result<(), TrialError> {
        for _ in 0..self.per_batch.calls {
            if getppid() != self.parent {
                return Err(TrialError::setup(
                    "the parent process ended during the trial",
                ));
            }
        }
        Ok(())
    }
}

impl Work for Batches {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        let mut latencies_ns = [0; TIMED_PER_ROUND];
        for latency_ns in &mut latencies_ns {
            let started_ns = self.clock.now_ns();
            self.batch()?;
            *latency_ns = self.clock.now_ns() - started_ns;
            for _ in 1..TIMED_EVERY {
                self.batch()?;
            }
        }
        let ops = BATCHES_PER_ROUND * self.per_batch.ops;
        recorder.stamp_ns();
        recorder.count(ops);
        for latency_ns in latencies_ns {
            recorder.sample(latency_ns);
        }
        self.ops += ops;
        Ok(())
    }

    fn finish(self) -> Result<Evidence, TrialError> {
        Ok(Evidence { verified_ops: self.ops, ..Evidence::default() })
    }
}
