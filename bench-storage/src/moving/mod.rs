//! Data that is moved and not looked at: from a file to another place of it,
//! or to a socket, in chunks.
//!
//! The file is the one that the run created to be written: the source is its
//! first part, the destination of file to file its second. Each trial writes
//! the source anew, with contents that no other trial has, and leaves it in
//! the page cache, since the question is what the moving costs.
//!
//! `route` says what goes where, `calls` and `ring` move it, `to_file` and
//! `to_socket` check that it arrived.

pub mod calls;
pub mod ring;
pub mod route;
pub mod to_file;
pub mod to_socket;

use std::{fmt, io, os::fd::RawFd};

use harness::{
    load::closed::Work,
    measure::{
        recorder::Recorder,
        trial::{Calls, Evidence, TrialError},
    },
};

use route::{Moves, Route};

/// One chunk's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it stands in the source.
    pub from: u64,
    /// Where it goes; `None` is the end of a stream.
    pub to: Option<u64>,
    /// How long it is.
    pub bytes: usize,
}

/// A descriptor to read from and one to write to.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The source.
    pub source: RawFd,
    /// The destination.
    pub sink: RawFd,
}

/// Why a chunk did not get through.
#[derive(Debug)]
pub struct Failed {
    /// The system call or opcode.
    pub operation: &'static str,
    /// What it said; `None` when it moved nothing and said that all is well.
    pub error: Option<io::Error>,
}

/// A way to move a chunk.
pub trait Mover: fmt::Debug {
    /// Moves all of it.
    ///
    /// # Errors
    /// The call that failed.
    fn move_chunk(&mut self, ends: Ends, step: Step) -> Result<(), Failed>;

    /// System calls so far.
    fn calls(&self) -> u64;
}

/// Where chunks arrive.
pub trait Destination: fmt::Debug {
    /// What is written to.
    fn sink(&self) -> RawFd;

    /// Whether it has places, as a file has, or is a stream.
    const HAS_PLACES: bool;

    /// Sees a chunk that was moved.
    ///
    /// # Errors
    /// `Wrong` when it is not what stands in the source.
    fn moved(&mut self, step: Step) -> Result<(), TrialError>;

    /// What is behind a failure to write, if the other end knows better.
    fn explain(&mut self, error: TrialError) -> TrialError {
        error
    }

    /// Does the checks that remain.
    ///
    /// # Errors
    /// What they found.
    fn finish(self) -> Result<Evidence, TrialError>;
}

/// One thread that moves chunk after chunk.
#[derive(Debug)]
pub struct Moving<'a, M: Mover, D: Destination> {
    route: &'a Route,
    moves: Moves,
    mover: M,
    destination: D,
    ops: u64,
}

impl<'a, M: Mover, D: Destination> Moving<'a, M, D> {
    /// Nothing moved yet.
    pub fn new(route: &'a Route, mover: M, destination: D) -> Self {
        let moves = route.moves();
        Self { route, moves, mover, destination, ops: 0 }
    }
}

impl<M: Mover, D: Destination> Work for Moving<'_, M, D> {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        let mut step = self.moves.next_step();
        if !D::HAS_PLACES {
            step.to = None;
        }
        self.ops += 1;
        let (source, sink) = (self.route.source(), self.destination.sink());
        let ends = Ends { source, sink };
        let begun_ns = recorder.stamp_ns();
        let moved = self.mover.move_chunk(ends, step);
        let ended_ns = recorder.stamp_ns();
        if let Err(failed) = moved {
            return Err(self.destination.explain(failed.at(step)));
        }
        self.destination.moved(step)?;
        recorder.complete(1, ended_ns - begun_ns);
        Ok(())
    }

    fn finish(self) -> Result<Evidence, TrialError> {
        let mut evidence = self.destination.finish()?;
        evidence.calls =
            Some(Calls { made: self.mover.calls(), ops: self.ops });
        Ok(evidence)
    }
}

impl Failed {
    #[cold]
    fn at(self, step: Step) -> TrialError {
        let Self { operation, error } = self;
        let bytes = step.bytes as u64;
        match error {
            Some(error) => {
                let errno = error.raw_os_error().unwrap_or(0);
                TrialError::op(operation, errno, step.from, bytes)
            }
            None => {
                let short = format!("{operation} (short: nothing moved)");
                TrialError::op(&short, 0, step.from, bytes)
            }
        }
    }
}
