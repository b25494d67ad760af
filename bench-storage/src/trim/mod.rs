//! Data that is dropped: holes punched into a file, and blocks of a device
//! that are told to hold nothing any more (discard, trim, deallocate).
//!
//! Dropping what holds nothing costs next to nothing, so each op has data to
//! drop: a batch of 1 MiB is written, then dropped op by op. Between two
//! batches lies a neighbour of the same size that is written once and has to
//! survive. Writing is not in an op's latency; it is in the trial's rate and
//! CPU time, and `rewrite-only` says how much of them it is.
//!
//! `calls` and `ring` drop, `remains` says what may be left. `ground` is what
//! a trial has, `plot` what each op in flight has of it; `work` does the rounds
//! of a thread, `in_flight` those of a ring with several ops under way.

pub mod calls;
pub mod command;
pub mod ground;
pub mod in_flight;
mod plot;
pub mod remains;
pub mod ring;
pub mod work;

use std::fmt;

use harness::measure::trial::TrialError;

/// A part of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

/// A way to drop what stands in a part of the target.
pub trait Trim: fmt::Debug {
    /// Whether anything is dropped.
    const DROPS: bool = true;

    /// Drops all of it, and returns when the kernel or the device says that it
    /// has done so.
    ///
    /// # Errors
    /// The call that failed.
    fn trim(&mut self, span: Span) -> Result<(), TrialError>;

    /// System calls so far.
    fn calls(&self) -> u64;

    /// The kernel's name of what it does.
    fn name(&self) -> &'static str;
}

/// Drops nothing: what is left of a trial is the writing.
#[derive(Clone, Copy, Debug, Default)]
pub struct RewriteOnly;

impl Trim for RewriteOnly {
    const DROPS: bool = false;

    #[inline(always)]
    fn trim(&mut self, _: Span) -> Result<(), TrialError> {
        Ok(())
    }

    fn calls(&self) -> u64 {
        0
    }

    fn name(&self) -> &'static str {
        "none"
    }
}
