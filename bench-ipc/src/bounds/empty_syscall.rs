//! The floor of every ping-pong that sleeps: the two system calls without
//! which no round trip can be, one to wake each thread, if they did nothing.
//! What lies between this and a row is what the kernel does in them, the
//! scheduler, and waking an idle CPU.

use harness::{
    load::closed::{self, Work},
    measure::{
        clock::Clock,
        recorder::Recorder,
        trial::{Evidence, Outcome, Shape, Trial, TrialError},
    },
};

/// Stable id.
pub const ID: &str = "empty-syscall";

/// One line.
pub const ABOUT: &str = "two system calls that do nothing (getppid)";

const CALLS_PER_OP: u64 = 2;

/// An op lasts 100 to 500 ns; nine stamps a round are below 2 %.
const SAMPLED_EVERY: u32 = 32;
const SAMPLES_PER_ROUND: usize = 4;
const OPS_PER_ROUND: u64 = SAMPLED_EVERY as u64 * SAMPLES_PER_ROUND as u64;

/// Runs a trial.
///
/// # Errors
/// The trial failed.
pub fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    let shape = Shape {
        threads: 1,
        depth: 1,
        batch: 1,
        op_bytes: trial.number("op_bytes")?,
        sampled_every: u64::from(SAMPLED_EVERY),
    };
    closed::run(trial, shape, |place| {
        Ok(Calls { clock: place.clock, parent: getppid(), ops: 0 })
    })
}

#[derive(Debug)]
struct Calls {
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

impl Calls {
    #[inline(always)]
    fn op(&self) -> Result<(), TrialError> {
        for _ in 0..CALLS_PER_OP {
            if getppid() != self.parent {
                return Err(TrialError::setup(
                    "the parent process ended during the trial",
                ));
            }
        }
        Ok(())
    }
}

impl Work for Calls {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        let mut latencies_ns = [0; SAMPLES_PER_ROUND];
        for latency_ns in &mut latencies_ns {
            let started_ns = self.clock.now_ns();
            self.op()?;
            *latency_ns = self.clock.now_ns() - started_ns;
            for _ in 1..SAMPLED_EVERY {
                self.op()?;
            }
        }
        recorder.stamp_ns();
        recorder.count(OPS_PER_ROUND);
        for latency_ns in latencies_ns {
            recorder.sample(latency_ns);
        }
        self.ops += OPS_PER_ROUND;
        Ok(())
    }

    fn finish(self) -> Result<Evidence, TrialError> {
        let mut evidence = Evidence::default();
        evidence.prove("calls_per_op", CALLS_PER_OP);
        evidence.verified_ops = self.ops;
        Ok(evidence)
    }
}
