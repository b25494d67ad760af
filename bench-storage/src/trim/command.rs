//! Dropping by NVMe commands that are passed through: dataset management with
//! the attribute that deallocates, one range each.

use harness::{machine::Buffer, measure::trial::TrialError};
use io_uring::squeue::Entry128;

use super::{Span, Trim};
use crate::{
    contents::BLOCK_BYTES,
    engine::{
        commands::{OPCODE, failed, submission},
        one_entry::OneEntry,
        ring::Big,
    },
    nvme::{
        Namespace,
        command::{Command, range},
    },
};

/// A ring to a namespace's node.
#[derive(Debug)]
pub struct Deallocate {
    ring: OneEntry<Big>,
    entry: Entry128,
    /// What the command points to; gone only where the ring failed, and then
    /// leaked.
    range: Option<Buffer>,
    block_shift: u32,
    /// Where the part of the namespace ends that may be written.
    end: u64,
}

impl Deallocate {
    /// Of a namespace that is open for writing, and nothing behind its first
    /// `bytes`. Must be made on the thread that uses it.
    ///
    /// # Errors
    /// No memory, or as `OneEntry::new`.
    pub fn new(namespace: Namespace, bytes: u64) -> Result<Self, TrialError> {
        let range = Buffer::new(BLOCK_BYTES, BLOCK_BYTES, None)
            .map_err(|error| TrialError::setup(error.to_string()))?;
        let address = range.as_non_null().as_ptr();
        let command = Command::deallocate(namespace.id, address);
        Ok(Self {
            entry: submission(command, false),
            block_shift: namespace.block_shift,
            ring: OneEntry::new(namespace.file)?,
            range: Some(range),
            end: bytes,
        })
    }
}

impl Trim for Deallocate {
    #[inline(always)]
    fn trim(&mut self, span: Span) -> Result<(), TrialError> {
        let Span { offset, bytes } = span;
        // A command names blocks of the whole namespace: nothing else keeps
        // it to the part that the session has written.
        assert!(
            offset.checked_add(bytes).is_some_and(|end| end <= self.end),
            "only what the session has written is dropped"
        );
        let blocks = u32::try_from(bytes >> self.block_shift);
        let (Some(buffer), Ok(blocks)) = (&mut self.range, blocks) else {
            return Err(unusable(span));
        };
        let range = range(offset >> self.block_shift, blocks);
        buffer[..range.len()].copy_from_slice(&range);
        // SAFETY: the entry points to the range, which lives in this value
        // and is changed only while nothing is under way; it is leaked below
        // where the ring fails.
        match unsafe { self.ring.complete(&self.entry) } {
            Ok(0) => Ok(()),
            Ok(result) => Err(failed(result, offset, bytes)),
            Err(error) => {
                std::mem::forget(self.range.take());
                let errno = error.raw_os_error().unwrap_or(0);
                Err(TrialError::op("io_uring_enter", errno, offset, bytes))
            }
        }
    }

    fn calls(&self) -> u64 {
        self.ring.calls()
    }

    fn name(&self) -> &'static str {
        "nvme deallocate"
    }
}

#[cold]
fn unusable(Span { offset, bytes }: Span) -> TrialError {
    TrialError::op(OPCODE, libc::EINVAL, offset, bytes)
}
