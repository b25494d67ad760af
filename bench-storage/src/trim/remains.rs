//! What may be left where something was dropped, and what was found there.

use harness::{
    machine::{BlockDevice, Root, devices::BlockKind},
    measure::trial::Evidence,
};

use crate::{
    contents::BLOCK_BYTES,
    nvme::{self, identify::Deallocated},
    target::Target,
};

/// Above this share of blocks that still hold what was written, nothing was
/// dropped worth measuring.
const KEPT_SHARE_MAX: f64 = 0.05;

/// What is promised of a block that was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// It is a hole of a file and reads as zeroes: fallocate(2).
    Hole,
    /// It reads as this byte; or the device made nothing of the hint, and it
    /// reads as before.
    Hint(u8),
    /// Nothing: a discard promises no contents (linux/blkdev.h).
    Nothing,
}

impl Promise {
    /// Of a target.
    pub fn of(root: &Root, target: &Target) -> Self {
        match &target.device {
            _ if target.filesystem.is_some() => Self::Hole,
            Some(device) => Self::of_device(root, device),
            None => Self::Nothing,
        }
    }

    fn of_device(root: &Root, device: &BlockDevice) -> Self {
        match device.kind {
            // It punches a hole into its file (drivers/block/loop.c).
            BlockKind::Loop => Self::Hint(0),
            BlockKind::Nvme => match nvme::facts::deallocated(root, device) {
                Deallocated::Zeroes => Self::Hint(0),
                Deallocated::Ones => Self::Hint(u8::MAX),
                Deallocated::Unsaid => Self::Nothing,
            },
            _ => Self::Nothing,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Hole | Self::Hint(0) => "zeroes",
            Self::Hint(_) => "ones",
            Self::Nothing => "nothing",
        }
    }

    /// Whether this may be left.
    fn allows(self, found: Found) -> bool {
        match self {
            Self::Hole => found == Found::Byte(0),
            Self::Hint(byte) => {
                found == Found::Byte(byte) || found == Found::Kept
            }
            Self::Nothing => true,
        }
    }
}

/// What a block of 4 KiB holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Byte(u8),
    /// What was written there before it was dropped.
    Kept,
    Other,
}

impl Found {
    fn of(block: &[u8], written: &[u8]) -> Self {
        let first = block.first().copied().unwrap_or(0);
        if block == written {
            Self::Kept
        } else if [0, u8::MAX].contains(&first)
            && block.iter().all(|byte| *byte == first)
        {
            Self::Byte(first)
        } else {
            Self::Other
        }
    }
}

/// Blocks that were looked at, by what they held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    zeroes: u64,
    ones: u64,
    kept: u64,
    other: u64,
}

impl Remains {
    /// Looks at what stands where `written` was dropped.
    ///
    /// # Errors
    /// The index of the first block that breaks the promise.
    pub fn look(
        &mut self,
        promise: Promise,
        found: &[u8],
        written: &[u8],
    ) -> Result<(), usize> {
        let blocks = found.chunks(BLOCK_BYTES);
        let written = written.chunks(BLOCK_BYTES);
        for (index, (block, written)) in blocks.zip(written).enumerate() {
            let found = Found::of(block, written);
            if !promise.allows(found) {
                return Err(index);
            }
            match found {
                Found::Byte(0) => self.zeroes += 1,
                Found::Byte(_) => self.ones += 1,
                Found::Kept => self.kept += 1,
                Found::Other => self.other += 1,
            }
        }
        Ok(())
    }

    /// States what was promised and what was found.
    pub fn state(self, promise: Promise, evidence: &mut Evidence) {
        let Self { zeroes, ones, kept, other } = self;
        let all = zeroes + ones + kept + other;
        let percent = |count: u64| 100.0 * count as f64 / all.max(1) as f64;
        let found: Vec<String> = [
            (zeroes, "zeroes"),
            (ones, "ones"),
            (kept, "as written"),
            (other, "other data"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| match count == all {
            true => what.to_owned(),
            false => format!("{:.1} % {what}", percent(count)),
        })
        .collect();
        evidence.prove("promised", promise.word());
        evidence.prove("reads_back", found.join(" and "));
        if kept as f64 > KEPT_SHARE_MAX * all as f64 {
            evidence.degraded.push(format!(
                "{:.0} % of the blocks still hold what was written: the \
                 device said that it had dropped them, and did not",
                percent(kept)
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: [u8; 2 * BLOCK_BYTES] = [7; 2 * BLOCK_BYTES];

    fn look(promise: Promise, blocks: [u8; 2]) -> Result<Remains, usize> {
        let found: Vec<u8> =
            blocks.iter().flat_map(|byte| [*byte; BLOCK_BYTES]).collect();
        let mut remains = Remains::default();
        remains.look(promise, &found, &WRITTEN).map(|()| remains)
    }

    #[test]
    fn a_hole_is_zeroes_and_a_hint_may_be_ignored() {
        let hint = Promise::Hint(0);
        for (promise, blocks, broken) in [
            (Promise::Hole, [0, 0], None),
            (Promise::Hole, [0, 7], Some(1)),
            (hint, [0, 7], None),
            (hint, [255, 0], Some(0)),
            (hint, [0, 9], Some(1)),
            (Promise::Hint(255), [255, 7], None),
            (Promise::Hint(255), [255, 0], Some(1)),
            (Promise::Nothing, [9, 255], None),
        ] {
            let found = look(promise, blocks).err();
            assert_eq!(found, broken, "{promise:?} {blocks:?}");
        }
    }

    #[test]
    fn one_different_byte_is_neither_zeroes_nor_what_was_written() {
        let mut found = [0; 2 * BLOCK_BYTES];
        found[BLOCK_BYTES + 100] = 1;
        let mut remains = Remains::default();
        let broken = remains.look(Promise::Hint(0), &found, &WRITTEN);
        assert_eq!(broken, Err(1));
    }

    #[test]
    fn what_was_not_dropped_degrades_the_row() {
        let stated = |blocks| {
            let mut evidence = Evidence::default();
            let remains = look(Promise::Hint(0), blocks).expect("allowed");
            remains.state(Promise::Hint(0), &mut evidence);
            let (_, found) = evidence.path.swap_remove(1);
            (found, evidence.degraded.len())
        };
        assert_eq!(stated([0, 0]), ("zeroes".to_owned(), 0));
        assert_eq!(stated([7, 7]), ("as written".to_owned(), 1));
        let mixed = "50.0 % zeroes and 50.0 % as written".to_owned();
        assert_eq!(stated([0, 7]), (mixed, 1));
    }
}
