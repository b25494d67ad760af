//! Keeps what a thread reads through the page cache out of it: when the
//! thread has read all of its part, and would begin to find it there, the
//! part is dropped.

use std::{fs::File, io};

use harness::measure::trial::TrialError;

use crate::{
    page_cache::{self, Range},
    source::Reads,
};

/// One thread's part of a target.
#[derive(Debug)]
pub struct Cold<'a> {
    file: &'a File,
    part: Range,
    pass_ops: u64,
    ops_left: u64,
}

impl<'a> Cold<'a> {
    /// For these reads of `file`; `None` where they pass the page cache by or
    /// follow a sequence.
    pub fn of(reads: &Reads<'_>, file: &'a File) -> Option<Self> {
        let (part, pass_ops) = reads.pass()?;
        Some(Self { file, part, pass_ops, ops_left: pass_ops })
    }

    /// The part that a thread has for itself.
    pub fn part(&self) -> Range {
        self.part
    }

    /// Counts an op; true when it was the last of a pass.
    #[inline(always)]
    pub fn is_pass_over(&mut self) -> bool {
        self.ops_left -= 1;
        let over = self.ops_left == 0;
        if over {
            self.ops_left = self.pass_ops;
        }
        over
    }

    /// Counts an op, drops the part after the last of a pass, and says how
    /// many system calls that took.
    ///
    /// # Errors
    /// The kernel takes no advice.
    #[inline(always)]
    pub fn count_op(&mut self) -> Result<u64, TrialError> {
        if !self.is_pass_over() {
            return Ok(0);
        }
        self.drop_part()?;
        Ok(1)
    }

    /// Drops the part.
    ///
    /// # Errors
    /// The kernel takes no advice.
    pub fn drop_part(&self) -> Result<(), TrialError> {
        page_cache::drop_range(self.file, self.part)
            .map_err(|e| self.failed(&e))
    }

    #[cold]
    fn failed(&self, error: &io::Error) -> TrialError {
        let errno = error.raw_os_error().unwrap_or(0);
        let Range { offset, bytes } = self.part;
        TrialError::op("posix_fadvise", errno, offset, bytes)
    }
}
