//! An experiment's parameters in checked form.

use harness::{
    measure::trial::{Shape, Trial, TrialError},
    suite::Params,
};

use crate::{addresses::Pattern, contents::BLOCK_BYTES};

/// Parameter: bytes per op.
pub const OP_BYTES: &str = "op_bytes";
/// Parameter: ops in flight, of the trial or of each CPU.
pub const DEPTH: &str = "depth";
/// Parameter: `random` or `sequential`.
pub const PATTERN: &str = "pattern";
/// Parameter: `cpu` when the depth is that of each CPU.
pub const PER: &str = "per";
/// Parameter: ops per submission, where it is not the depth.
pub const BATCH: &str = "batch";
/// Parameter: `yes` when writes go past the page cache, `no` when they do not.
pub const O_DIRECT: &str = "o_direct";

/// Parameter: `file` or `socket`, where data is moved to.
pub const TO: &str = "to";

/// NOPs per submission where no parameter says so: fio's `t/io_uring` has the
/// same default, and more gains nothing.
const NOP_BATCH: usize = 32;

/// What load a trial puts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Bytes per op.
    pub op_bytes: usize,
    /// Ops in flight per ring.
    pub depth: usize,
    /// How offsets follow each other.
    pub pattern: Pattern,
    /// Rings, one thread each.
    pub rings: usize,
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
        if op_bytes == 0 || !op_bytes.is_multiple_of(BLOCK_BYTES) {
            return Err(format!(
                "{OP_BYTES}={op_bytes} is no multiple of {BLOCK_BYTES}, the \
                 unit in which contents are checked"
            ));
        }
        if depth == 0 {
            return Err(format!("{DEPTH}=0 leaves nothing in flight"));
        }
        let word = params.get(PATTERN).unwrap_or("random");
        let pattern = Pattern::parse(word).ok_or_else(|| {
            format!("{PATTERN}={word} is neither random nor sequential")
        })?;
        let rings = if per_cpu(params) { cpus } else { 1 };
        Ok(Self { op_bytes, depth, pattern, rings })
    }

    /// Bytes of buffers of all rings together.
    pub fn buffer_bytes(&self) -> usize {
        self.op_bytes * self.depth * self.rings
    }

    /// One thread per ring, the depth in flight on each; whatever has come
    /// back is submitted again together.
    pub fn ring_shape(&self) -> Shape {
        Shape {
            threads: self.rings,
            depth: self.depth,
            batch: self.depth,
            op_bytes: self.op_bytes as u64,
            sampled_every: 1,
        }
    }

    /// As many threads as the rings have ops in flight, one op each.
    pub fn pool_shape(&self) -> Shape {
        Shape {
            threads: self.rings * self.depth,
            depth: 1,
            batch: 1,
            op_bytes: self.op_bytes as u64,
            sampled_every: 1,
        }
    }
}

/// The shape of a NOP trial, which moves no bytes and needs no pattern.
///
/// # Errors
/// The depth is missing: a mistake in the suite.
pub fn nop_shape(trial: &Trial) -> Result<Shape, TrialError> {
    let params = &trial.spec.params;
    let depth = trial.count(DEPTH)?.max(1);
    let batch = match params.get(BATCH) {
        Some(_) => trial.count(BATCH)?.max(1),
        None => NOP_BATCH,
    };
    let threads = if per_cpu(params) { trial.cpus().len() } else { 1 };
    let batch = batch.min(depth);
    Ok(Shape { threads, depth, batch, op_bytes: 0, sampled_every: 1 })
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
    fn parameters_that_cannot_be_are_named() {
        for (params, named) in [
            (Params::new(), "op_bytes"),
            (params(512, 1), "op_bytes=512"),
            (params(0, 1), "op_bytes=0"),
            (params(4096, 0), "depth=0"),
            (params(4096, 1).with(PATTERN, "zipf"), "pattern=zipf"),
        ] {
            let error = Load::from_params(&params, 1).expect_err(named);
            assert!(error.contains(named), "{error}");
        }
    }
}
