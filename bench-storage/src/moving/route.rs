//! What goes where: the parts of the file, and the order of the chunks.

use std::{
    fs::{File, OpenOptions},
    os::{
        fd::{AsRawFd, RawFd},
        unix::fs::{FileExt, OpenOptionsExt},
    },
};

use harness::{
    machine::Buffer,
    measure::trial::{Outcome, Trial, TrialError, mix},
};

use super::Step;
use crate::{
    checker::Checker,
    contents::{BLOCK_BYTES, Seeded},
    extents,
    load::Load,
    page_cache::{self, Range},
    target::{self, Target},
};

/// The source: more than the processor's caches hold, and little beside the
/// page cache.
const SOURCE_MAX_BYTES: u64 = 64 << 20;

/// Filled and written at once.
const FILL_BYTES: usize = 1 << 20;

/// Below this share in the page cache, a trial measures the device as well.
const CACHED_SHARE_MIN: f64 = 0.95;

/// A trial's file, with its source written.
#[derive(Debug)]
pub struct Route {
    file: File,
    parts: Parts,
    contents: Seeded,
    load: Load,
    cached_before: Option<f64>,
}

/// Two parts of the file, of the same number of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parts {
    chunk_bytes: usize,
    chunks: u64,
    /// Where the second one starts.
    second: u64,
}

impl Parts {
    /// `None` when there are no two chunks for each: with one, a chunk that
    /// was not moved would look like the one before.
    fn of(chunk_bytes: usize, file_bytes: u64) -> Option<Self> {
        let chunk = chunk_bytes as u64;
        let half = (file_bytes / 2).checked_div(chunk)?;
        let chunks = half.min(SOURCE_MAX_BYTES / chunk);
        let second = half * chunk;
        (chunks > 1).then_some(Self { chunk_bytes, chunks, second })
    }

    fn bytes(&self) -> u64 {
        self.chunks * self.chunk_bytes as u64
    }
}

impl Route {
    /// Opens the trial's file and writes its source.
    ///
    /// # Errors
    /// It may not be written, or is too small.
    pub fn of(trial: &Trial) -> Result<Self, TrialError> {
        let target: Target = trial.target()?;
        target::may_write(&trial.root, &target)?;
        let load = Load::of(trial)?;
        let parts =
            Parts::of(load.op_bytes, target.bytes).ok_or_else(|| {
                TrialError::setup(format!(
                    "{} has {} bytes, too few for two chunks of {} and as \
                     many to move them to",
                    target.label, target.bytes, load.op_bytes
                ))
            })?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_CLOEXEC)
            .open(&target.path)
            .map_err(|error| {
                TrialError::setup(format!("opening {}: {error}", target.label))
            })?;
        // What another trial has moved must not pass for this one's.
        let run_id = mix(trial.spec.run_id ^ mix(trial.spec.trial));
        let contents = Seeded { run_id, seed: trial.spec.seed };
        fill(&file, parts.bytes(), contents)?;
        let whole = Range { offset: 0, bytes: parts.bytes() };
        let cached_before = page_cache::cached_share(&file, whole);
        Ok(Self { file, parts, contents, load, cached_before })
    }

    /// The load.
    pub fn load(&self) -> Load {
        self.load
    }

    /// The file, through the page cache.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What chunks are read from.
    pub fn source(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Where chunks of file to file go.
    pub fn destination(&self) -> Range {
        Range { offset: self.parts.second, bytes: self.parts.bytes() }
    }

    /// The chunks, from the first.
    pub fn moves(&self) -> Moves {
        Moves { parts: self.parts, made: 0 }
    }

    /// Compares what arrives with what stands in the source.
    pub fn checker(&self) -> Checker {
        Checker::seeded(self.contents)
    }

    /// States where the source was read from.
    pub fn judge_source(&self, outcome: &mut Outcome) {
        let Some(share) = self.cached_before else {
            outcome.evidence.prove("source_cached_percent", "unknown");
            return;
        };
        let percent = format!("{:.0}", 100.0 * share);
        if share < CACHED_SHARE_MIN {
            outcome.evidence.degraded.push(format!(
                "{percent} % of the source was in the page cache: the others \
                 were read from the device"
            ));
        }
        outcome.evidence.prove("source_cached_percent", percent);
    }

    /// States whether chunks were moved, or the file system made both places
    /// share their extents.
    pub fn judge_sharing(&self, outcome: &mut Outcome) {
        let word = match extents::of(&self.file) {
            Ok(extents) if extents.shared > 0 => "yes",
            Ok(_) => "no",
            Err(_) => "unknown",
        };
        outcome.evidence.prove("reflink", word);
    }
}

/// Through the page cache, where it stays, and to the device, so that no
/// trial writes it back while it measures.
fn fill(file: &File, bytes: u64, contents: Seeded) -> Result<(), TrialError> {
    let failed = |call: &str, error: std::io::Error, offset: u64| {
        let errno = error.raw_os_error().unwrap_or(0);
        TrialError::op(call, errno, offset, FILL_BYTES as u64)
    };
    let mut buffer = Buffer::new(FILL_BYTES, BLOCK_BYTES, None)
        .map_err(|error| TrialError::setup(error.to_string()))?;
    for offset in (0..bytes).step_by(FILL_BYTES) {
        let left = usize::try_from(bytes - offset).unwrap_or(FILL_BYTES);
        let part = &mut buffer[..left.min(FILL_BYTES)];
        contents.fill(offset, part);
        file.write_all_at(part, offset)
            .map_err(|error| failed("pwrite of the source", error, offset))?;
    }
    file.sync_data()
        .map_err(|error| failed("fdatasync of the source", error, 0))
}

/// The order of chunks: the source from its start to its end, again and again.
/// Each time round they go one place further, so that a chunk that was not
/// moved shows: an earlier one stands there.
#[derive(Clone, Debug)]
pub struct Moves {
    parts: Parts,
    made: u64,
}

impl Moves {
    /// The next one.
    #[inline(always)]
    pub fn next_step(&mut self) -> Step {
        let Parts { chunk_bytes, chunks, second } = self.parts;
        let (round, index) = (self.made / chunks, self.made % chunks);
        self.made += 1;
        let place = (index + round) % chunks;
        let chunk = chunk_bytes as u64;
        Step {
            from: index * chunk,
            to: Some(second + place * chunk),
            bytes: chunk_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 64 << 10;

    #[test]
    fn source_and_destination_are_two_parts_of_the_file() {
        let parts = Parts::of(CHUNK, 256 << 20).expect("room");
        assert_eq!((parts.bytes(), parts.second), (64 << 20, 128 << 20));
        let small = Parts::of(CHUNK, 5 * CHUNK as u64 + 7).expect("room");
        assert_eq!((small.chunks, small.second), (2, 2 * CHUNK as u64));
        assert_eq!(Parts::of(CHUNK, 3 * CHUNK as u64), None);
        assert_eq!(Parts::of(0, 1 << 20), None);
    }

    #[test]
    fn no_place_gets_the_same_chunk_twice_in_a_row() {
        let parts = Parts::of(CHUNK, 10 * CHUNK as u64).expect("room");
        let mut moves = Moves { parts, made: 0 };
        let mut stands = std::collections::BTreeMap::new();
        for number in 0..50 {
            let step = moves.next_step();
            assert!(step.from + CHUNK as u64 <= parts.second, "{step:?}");
            let to = step.to.expect("a place");
            assert!(to >= parts.second, "{step:?}");
            assert!(to + CHUNK as u64 <= 10 * CHUNK as u64, "{step:?}");
            let before = stands.insert(to, step.from);
            assert_eq!(before.is_some(), number >= 5, "{step:?}");
            assert_ne!(before, Some(step.from), "{step:?}");
        }
    }
}
