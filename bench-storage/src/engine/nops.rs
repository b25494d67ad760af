//! Ops that do nothing: what the ring itself costs.

use harness::measure::trial::{Evidence, TrialError};
use io_uring::{opcode, squeue::Entry};

use super::{ring::Small, rounds::Requests};

/// NOPs, one prepared entry per slot.
#[derive(Debug)]
pub struct Nops {
    entries: Box<[Entry]>,
    completed: u64,
}

impl Nops {
    /// For a ring of that depth.
    pub fn new(depth: usize) -> Self {
        let entries = (0_u64..)
            .take(depth)
            .map(|slot| opcode::Nop::new().build().user_data(slot))
            .collect();
        Self { entries, completed: 0 }
    }
}

// SAFETY: a NOP points to nothing.
unsafe impl Requests for Nops {
    type Sizes = Small;

    const OPCODE: &'static str = "IORING_OP_NOP";

    #[inline(always)]
    fn next(&mut self, slot: usize) -> &[Entry] {
        std::slice::from_ref(&self.entries[slot])
    }

    #[inline(always)]
    fn completed(
        &mut self,
        _: usize,
        _: usize,
        result: i32,
    ) -> Result<(), TrialError> {
        self.completed += 1;
        if result == 0 { Ok(()) } else { Err(failed(result)) }
    }

    /// What proves a NOP is its completion: each named a slot in flight.
    fn finish(&mut self) -> Result<Evidence, TrialError> {
        Ok(Evidence { verified_ops: self.completed, ..Evidence::default() })
    }
}

#[cold]
fn failed(result: i32) -> TrialError {
    TrialError::op(Nops::OPCODE, result.saturating_neg(), 0, 0)
}
