//! Moving by io_uring: two splices of an op, linked, in one system call. The
//! kernel always hands a splice to a worker thread (io_uring/splice.c forces
//! it), since it may block.

use std::{io, os::fd::AsRawFd};

use harness::{measure::trial::TrialError, uring::Setup};
use io_uring::{
    EnterFlags, opcode,
    squeue::{Entry, Flags},
    types::Fd,
};

use super::{Ends, Failed, Mover, Step, calls::Pipe};
use crate::engine::{no_ring, ring::Ring};

/// For streams and pipes: there are no places.
const NO_OFFSET: i64 = -1;

/// Which entry: file to pipe, pipe to sink.
const IN: u64 = 0;
const OUT: u64 = 1;

/// A ring and a pipe.
#[derive(Debug)]
pub struct RingSplice {
    ring: Ring,
    pipe: Pipe,
}

impl RingSplice {
    /// For chunks of this size. Must be made on the thread that moves.
    ///
    /// # Errors
    /// No ring or no pipe.
    pub fn new(bytes: usize) -> Result<Self, TrialError> {
        let setup = Setup::SingleIssuer;
        let ring = setup.build(2).map_err(|e| no_ring(setup, &e))?;
        Ok(Self { ring, pipe: Pipe::new(bytes)? })
    }

    fn entry_in(&self, ends: Ends, from: u64, bytes: u32) -> Entry {
        let input = Fd(self.pipe.input.as_raw_fd());
        let from = from.cast_signed();
        opcode::Splice::new(Fd(ends.source), from, input, NO_OFFSET, bytes)
            .build()
            .flags(Flags::IO_LINK)
            .user_data(IN)
    }

    fn entry_out(&self, ends: Ends, to: Option<u64>, bytes: u32) -> Entry {
        let output = Fd(self.pipe.output.as_raw_fd());
        let to = to.map_or(NO_OFFSET, u64::cast_signed);
        opcode::Splice::new(output, NO_OFFSET, Fd(ends.sink), to, bytes)
            .build()
            .user_data(OUT)
    }

    /// Submits, waits for each, and says what came of file to pipe and of
    /// pipe to sink.
    #[inline(always)]
    fn complete(&mut self, entries: &[Entry]) -> Result<[i32; 2], Failed> {
        // Without a fresh look the queue would still count what the kernel has
        // taken since.
        self.ring.sq().sync();
        // SAFETY: a splice names descriptors, which this value and its caller
        // keep open until each has completed, below; it points to no memory.
        if unsafe { self.ring.sq().push_multiple(entries) }.is_err() {
            return Err(failed(io::Error::from_raw_os_error(libc::EBUSY)));
        }
        let mut results = [0; 2];
        let mut pending = entries.len();
        while pending > 0 {
            let queued = self.ring.publish();
            let want = u32::try_from(pending).unwrap_or(u32::MAX);
            self.ring
                .enter(queued, want, EnterFlags::GETEVENTS)
                .map_err(failed)?;
            self.ring.cq().sync();
            for completion in self.ring.cq() {
                let which = usize::from(completion.user_data() == OUT);
                results[which] = completion.result();
                pending = pending.saturating_sub(1);
            }
            // The kernel has to see that they were taken.
            self.ring.cq().sync();
        }
        Ok(results)
    }
}

#[cold]
fn failed(error: io::Error) -> Failed {
    Failed { operation: "io_uring_enter", error: Some(error) }
}

impl Mover for RingSplice {
    #[inline(always)]
    fn move_chunk(&mut self, ends: Ends, step: Step) -> Result<(), Failed> {
        let count = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let (mut piped, mut moved) = (0, 0);
        while moved < step.bytes {
            let left = step.bytes - moved - piped;
            let to = step.to.map(|to| to + moved as u64);
            let out = self.entry_out(ends, to, count(left + piped));
            let [came, went] = if left > 0 {
                let from = step.from + (moved + piped) as u64;
                let into = self.entry_in(ends, from, count(left));
                self.complete(&[into, out])?
            } else {
                self.complete(&[out])?
            };
            let came = if left > 0 { taken("from the file", came)? } else { 0 };
            piped += came;
            // A short one breaks the link, and the second is cancelled.
            if went != -libc::ECANCELED || came == 0 {
                let went = taken("to the sink", went)?;
                piped -= went.min(piped);
                moved += went;
            }
        }
        Ok(())
    }

    fn calls(&self) -> u64 {
        self.ring.enters()
    }
}

/// How much one splice moved.
#[inline(always)]
fn taken(which: &'static str, result: i32) -> Result<usize, Failed> {
    match usize::try_from(result) {
        Ok(moved) if moved > 0 => Ok(moved),
        _ => Err(explain(which, result)),
    }
}

#[cold]
fn explain(which: &'static str, result: i32) -> Failed {
    let operation = match which {
        "from the file" => "IORING_OP_SPLICE from the file",
        _ => "IORING_OP_SPLICE to the sink",
    };
    let errno = result.saturating_neg();
    let error = (errno > 0).then(|| io::Error::from_raw_os_error(errno));
    Failed { operation, error }
}
