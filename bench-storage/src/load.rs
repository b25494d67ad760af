//! An experiment's parameters in checked form.

use harness::{
    measure::trial::{Shape, Trial, TrialError},
    suite::Params,
};

use crate::{
    addresses::Pattern,
    contents::{BLOCK_BYTES, SECTOR_BYTES},
};

/// Parameter: bytes per op.
pub const OP_BYTES: &str = "op_bytes";
/// Parameter: ops in flight, of the trial or of each CPU.
pub const DEPTH: &str = "depth";
/// Parameter: `random`, `zipf` or `sequential`.
pub const PATTERN: &str = "pattern";
/// Parameter: `cpu` when the depth is that of each CPU.
pub const PER: &str = "per";
/// Parameter: of how many CPUs that is, where not of all.
pub const CPUS: &str = "cpus";
/// Parameter: ops per submission at most, where it is not the usual number.
pub const BATCH: &str = "batch";
/// Parameter: `yes` when writes go past the page cache, `no` when they do not.
pub const O_DIRECT: &str = "o_direct";

/// Parameter: `file` or `socket`, where data is moved to.
pub const TO: &str = "to";
/// Parameter: how many ops in a hundred are reads, of an experiment that
/// writes; none where it is missing.
pub const READ_PERCENT: &str = "read_percent";

/// Ops per submission at most, where no parameter says so, as a share of the
/// depth. Submitting all that has come back in one call costs the least CPU
/// time, but the ops then go in and come back in lockstep, and the device
/// idles between: on a virtio disk at depth 32, 99 thousand reads/s against
/// 142 thousand with 4 to a call; one to a call is as fast as that and takes
/// 1.4 times the CPU time.
const BATCHES_OF_DEPTH: usize = 8;

/// What load a trial puts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Bytes per op.
    pub op_bytes: usize,
    /// Ops in flight per ring.
    pub depth: usize,
    /// Ops per submission at most.
    pub batch: usize,
    /// How offsets follow each other.
    pub pattern: Pattern,
    /// Rings, one thread each.
    pub rings: usize,
    /// Ops in a hundred that read, where the others write.
    pub read_percent: u64,
}

impl Load {
    /// From the trial's parameters and CPUs.
    ///
    /// # Errors
    /// A parameter is missing or cannot be: a mistake in the suite.
    pub fn of(trial: &Trial) -> Result<Self, TrialError> {
        Self::from_params(&trial.spec.params, trial.cpus().len())
            .map_err(TrialError::setup)
    }

    /// From parameters, for a trial on so many CPUs.
    ///
    /// # Errors
    /// Which parameter is missing or cannot be.
    pub fn from_params(params: &Params, cpus: usize) -> Result<Self, String> {
        let op_bytes = count(params, OP_BYTES)?;
        let depth = count(params, DEPTH)?;
        let is_whole = match op_bytes {
            0 => false,
            1..BLOCK_BYTES => BLOCK_BYTES.is_multiple_of(op_bytes),
            _ => op_bytes.is_multiple_of(BLOCK_BYTES),
        };
        if !is_whole || !op_bytes.is_multiple_of(SECTOR_BYTES) {
            return Err(format!(
                "{OP_BYTES}={op_bytes} is no multiple of {BLOCK_BYTES}, the \
                 unit in which contents are checked, and no sectors of which \
                 one such unit is made"
            ));
        }
        if depth == 0 {
            return Err(format!("{DEPTH}=0 leaves nothing in flight"));
        }
        let batch = match params.get(BATCH) {
            Some(_) => count(params, BATCH)?,
            None => usual_batch(depth),
        };
        if batch == 0 || batch > depth {
            return Err(format!("{BATCH}={batch} is not in 1..={depth}"));
        }
        let word = params.get(PATTERN).unwrap_or("random");
        let pattern = Pattern::parse(word).ok_or_else(|| {
            format!("{PATTERN}={word} is none of random, zipf and sequential")
        })?;
        let rings = if per_cpu(params) { cpus } else { 1 };
        let read_percent = match params.get(READ_PERCENT) {
            Some(_) => count(params, READ_PERCENT)? as u64,
            None => 0,
        };
        if read_percent > 100 {
            return Err(format!("{READ_PERCENT}={read_percent} is above 100"));
        }
        if read_percent > 0 && op_bytes < BLOCK_BYTES {
            // What an earlier trial has left in half a block cannot be told.
            return Err(format!(
                "{READ_PERCENT}={read_percent} needs ops of {BLOCK_BYTES}"
            ));
        }
        Ok(Self { op_bytes, depth, batch, pattern, rings, read_percent })
    }

    /// Bytes of buffers of all rings together. Where ops read and write, each
    /// has a buffer for either.
    pub fn buffer_bytes(&self) -> usize {
        let buffers = if self.read_percent > 0 { 2 } else { 1 };
        buffers * self.op_bytes * self.depth * self.rings
    }

    /// Ops in flight, all threads together.
    pub fn in_flight(&self) -> usize {
        self.depth * self.rings
    }

    /// One thread per ring, the depth in flight on each; what has come back is
    /// submitted again in batches.
    pub fn ring_shape(&self) -> Shape {
        Shape {
            threads: self.rings,
            depth: self.depth,
            batch: self.batch,
            op_bytes: self.op_bytes as u64,
            sampled_every: 1,
        }
    }

    /// As many threads as the rings have ops in flight, one op each.
    pub fn pool_shape(&self) -> Shape {
        Shape {
            threads: self.in_flight(),
            depth: 1,
            batch: 1,
            op_bytes: self.op_bytes as u64,
            sampled_every: 1,
        }
    }
}

/// The shape of a NOP trial or of one that flushes: neither moves bytes. Its
/// batch is that of the rings that it bounds.
///
/// # Errors
/// The depth is missing: a mistake in the suite.
pub fn nop_shape(trial: &Trial) -> Result<Shape, TrialError> {
    nop_shape_of(&trial.spec.params, trial.cpus().len())
        .map_err(TrialError::setup)
}

fn nop_shape_of(params: &Params, cpus: usize) -> Result<Shape, String> {
    let depth = count(params, DEPTH)?.max(1);
    let batch = match params.get(BATCH) {
        Some(_) => count(params, BATCH)?.max(1),
        None => usual_batch(depth),
    };
    let threads = if per_cpu(params) { cpus } else { 1 };
    let batch = batch.min(depth);
    Ok(Shape { threads, depth, batch, op_bytes: 0, sampled_every: 1 })
}

fn usual_batch(depth: usize) -> usize {
    depth.div_ceil(BATCHES_OF_DEPTH)
}

fn per_cpu(params: &Params) -> bool {
    params.get(PER) == Some("cpu")
}

fn count(params: &Params, key: &str) -> Result<usize, String> {
    params
        .number(key)
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| format!("no numeric parameter {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(op_bytes: u64, depth: u64) -> Params {
        Params::new().with(OP_BYTES, op_bytes).with(DEPTH, depth)
    }

    #[test]
    fn per_cpu_multiplies_rings_and_threads() {
        let load = Load::from_params(&params(4096, 64).with(PER, "cpu"), 3)
            .expect("good parameters");
        assert_eq!(load.ring_shape().threads, 3);
        assert_eq!(load.pool_shape().threads, 192);
        assert_eq!(load.buffer_bytes(), 3 * 64 * 4096);
        let load = Load::from_params(&params(4096, 64), 3).expect("good");
        assert_eq!(load.ring_shape().threads, 1);
        assert_eq!(load.pool_shape().threads, 64);
    }

    #[test]
    fn a_batch_is_a_share_of_the_depth_or_as_asked() {
        let batch = |params| {
            Load::from_params(&params, 1).expect("good").ring_shape().batch
        };
        assert_eq!(batch(params(4096, 1)), 1);
        assert_eq!(batch(params(4096, 9)), 2);
        assert_eq!(batch(params(4096, 32)), 4);
        assert_eq!(batch(params(4096, 32).with(BATCH, 32)), 32);
    }

    #[test]
    fn nops_go_in_as_the_rings_do_that_they_bound() {
        let no_batch = [1, 8, 32, 256].map(|depth| params(4096, depth));
        let batch = params(4096, 32).with(BATCH, 8);
        for params in no_batch.into_iter().chain([batch]) {
            let load = Load::from_params(&params, 1).expect("good");
            let nops = nop_shape_of(&params, 1).expect("good");
            assert_eq!(nops.batch, load.ring_shape().batch, "{params}");
        }
    }

    #[test]
    fn parameters_that_cannot_be_are_named() {
        for (params, named) in [
            (Params::new(), "op_bytes"),
            (params(100, 1), "op_bytes=100"),
            (params(1_536, 1), "op_bytes=1536"),
            (params(4_608, 1), "op_bytes=4608"),
            (params(512, 1).with(READ_PERCENT, 70), "read_percent=70"),
            (params(4096, 1).with(READ_PERCENT, 101), "read_percent=101"),
            (params(0, 1), "op_bytes=0"),
            (params(4096, 0), "depth=0"),
            (params(4096, 4).with(BATCH, 0), "batch=0"),
            (params(4096, 4).with(BATCH, 5), "batch=5"),
            (params(4096, 1).with(PATTERN, "pareto"), "pattern=pareto"),
        ] {
            let error = Load::from_params(&params, 1).expect_err(named);
            assert!(error.contains(named), "{error}");
        }
    }
}
