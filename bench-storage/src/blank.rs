//! Whether what an existing target holds was ever written. A drive answers
//! for blocks that were never written, or were trimmed, from its table of
//! them and leaves its medium alone, so that a new or blank one reads faster
//! than it ever will again. Only the data can tell: such blocks come back as
//! one byte repeated, zero on nearly all drives.

use harness::measure::trial::Evidence;

use crate::contents::BLOCK_BYTES;

/// Above this share of blocks that hold nothing, a trial is not of the medium.
/// The rest is room for what file systems and programs fill with zeros.
const SHARE_MAX: f64 = 0.05;

/// A count of few samples is off by its square root; more than twice that is
/// not chance.
const DEVIATIONS: f64 = 2.0;

/// Samples of what was read of data that is somebody else's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sampled {
    ops: f64,
    /// An op counts as the share of its blocks that hold nothing.
    blank: f64,
}

impl Sampled {
    /// Looks at the data of one op.
    pub fn look(&mut self, data: &[u8]) {
        let blocks = data.chunks(BLOCK_BYTES);
        let all = blocks.len().max(1) as f64;
        let blank = blocks.filter(|block| is_blank(block)).count() as f64;
        self.ops += 1.0;
        self.blank += blank / all;
    }

    /// Adds another thread's.
    pub fn add(&mut self, other: Self) {
        self.ops += other.ops;
        self.blank += other.blank;
    }

    /// States how much of it holds nothing; of data that the run wrote itself
    /// there are no samples, and nothing to say.
    pub fn judge(&self, evidence: &mut Evidence) {
        if self.ops == 0.0 {
            return;
        }
        let percent = format!("{:.0}", 100.0 * self.blank / self.ops);
        if self.is_too_much() {
            evidence.degraded.push(format!(
                "{percent} % of the sampled blocks hold nothing (one byte \
                 repeated): never written, or trimmed, so that the drive need \
                 not read its medium for them"
            ));
        }
        evidence.prove("blank_percent", percent);
    }

    fn is_too_much(&self) -> bool {
        let surely = self.blank - DEVIATIONS * self.blank.sqrt();
        self.blank >= self.ops || surely > SHARE_MAX * self.ops
    }
}

/// Whether each byte is the one before it.
fn is_blank(block: &[u8]) -> bool {
    block.get(1..) == block.get(..block.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(blank: u32, ops: u32) -> Sampled {
        let mut sampled = Sampled::default();
        let mut written = [0; BLOCK_BYTES];
        written[BLOCK_BYTES - 1] = 1;
        for op in 0..ops {
            let empty = [0xff; BLOCK_BYTES];
            sampled.look(if op < blank { &empty } else { &written });
        }
        sampled
    }

    #[test]
    fn blocks_that_hold_nothing_degrade_above_what_chance_gives() {
        for (blank, ops, degraded) in [
            (0, 1, false),
            (1, 1, true),
            (1, 8, false),
            (9, 100, false),
            (16, 100, true),
            (50, 1_000, false),
            (100, 1_000, true),
        ] {
            let mut evidence = Evidence::default();
            sampled(blank, ops).judge(&mut evidence);
            assert_eq!(
                evidence.degraded.len(),
                usize::from(degraded),
                "{blank} of {ops}"
            );
            assert_eq!(evidence.path[0].0, "blank_percent");
        }
        let mut evidence = Evidence::default();
        sampled(16, 100).judge(&mut evidence);
        assert!(evidence.degraded[0].starts_with("16 % of the sampled"));
    }

    #[test]
    fn nothing_is_said_of_data_that_was_not_sampled() {
        let mut evidence = Evidence::default();
        Sampled::default().judge(&mut evidence);
        assert_eq!(evidence, Evidence::default());
    }

    #[test]
    fn a_large_op_counts_by_its_blocks() {
        let mut sampled = Sampled::default();
        let mut data = vec![0; 4 * BLOCK_BYTES];
        data[100] = 7;
        sampled.look(&data);
        assert_eq!(sampled, Sampled { ops: 1.0, blank: 0.75 });
    }
}
