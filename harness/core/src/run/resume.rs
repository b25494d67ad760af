//! What an earlier process of the same run has already done, read from its
//! `trials.csv`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use results::{
    reader::{Blocks, ReadError},
    schema::{Role, Status, TrialRow},
};

use super::{options::RunOptions, plan::Planned};
use crate::suite;

/// An experiment within a session.
type Key = (u32, String, String);

/// Blocks that need not run again.
#[derive(Debug, Default)]
pub struct Done {
    experiments: BTreeMap<Key, ExperimentDone>,
    /// Trials that measured something.
    pub measured: usize,
    /// Trials that returned wrong data: the run has failed, whatever follows.
    pub wrong: usize,
    /// Trials that ended with an op that failed, likewise.
    pub failed: usize,
    /// Variants that were skipped.
    pub skipped: usize,
}

/// What is known of one experiment in one session.
#[derive(Clone, Debug, Default)]
pub struct ExperimentDone {
    /// Per block: attempts so far, and whether the last one is valid.
    blocks: BTreeMap<u32, (u32, bool)>,
    /// Trials of attempts beyond the first.
    trials_again: u32,
    /// Variants whose rows as skipped are written already.
    pub skipped: BTreeSet<String>,
    /// Failures in a row per variant.
    pub failures: BTreeMap<String, u32>,
}

impl Done {
    /// Nothing yet.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Reads a run directory, block by block.
    ///
    /// # Errors
    /// The file is damaged beyond a torn end.
    pub fn read(directory: &Path) -> Result<Self, ReadError> {
        let mut done = Self::default();
        for block in Blocks::open(directory)? {
            for trial in &block?.trials {
                done.note(trial);
            }
        }
        Ok(done)
    }

    /// What is done of one experiment.
    pub fn experiment(
        &self,
        session: u32,
        id: &str,
        params: &str,
    ) -> ExperimentDone {
        self.experiments
            .get(&(session, id.to_owned(), params.to_owned()))
            .cloned()
            .unwrap_or_default()
    }

    fn note(&mut self, row: &TrialRow) {
        let key = (row.session, row.experiment.clone(), row.params.clone());
        match row.status {
            Status::Wrong => self.wrong += 1,
            Status::Skipped => self.skipped += 1,
            status if status.is_usable() => self.measured += 1,
            _ => {}
        }
        self.failed += usize::from(row.errors > Some(0));
        let experiment = self.experiments.entry(key).or_default();
        let (Some(block), Some(attempt)) = (row.block, row.attempt) else {
            experiment.skipped.insert(row.variant.clone());
            return;
        };
        experiment.attempt(block, attempt);
        let bound = row.role == Role::Bound;
        experiment.trial(block, &row.variant, bound, row.status);
    }
}

impl ExperimentDone {
    /// Notes an attempt at a block; the last one counts.
    pub fn attempt(&mut self, block: u32, attempt: u32) {
        let entry = self.blocks.entry(block).or_insert((attempt, true));
        if attempt > entry.0 {
            *entry = (attempt, true);
        }
    }

    /// Notes how one trial of the last attempt ended. A bound is looked at as
    /// a median over its trials, so that one that failed voids nothing.
    pub fn trial(
        &mut self,
        block: u32,
        variant: &str,
        bound: bool,
        status: Status,
    ) {
        if let Some(entry) = self.blocks.get_mut(&block) {
            entry.1 &= bound || status.is_usable();
            self.trials_again += u32::from(entry.0 > 1);
        }
        let failures = self.failures.entry(variant.to_owned()).or_default();
        *failures = match status {
            Status::Error | Status::Wrong => *failures + 1,
            _ => 0,
        };
    }

    /// The attempt that comes next for a block, and whether one is needed.
    pub fn next_attempt(&self, block: u32) -> (u32, bool) {
        match self.blocks.get(&block) {
            None => (1, true),
            Some((attempt, valid)) => (attempt + 1, !valid),
        }
    }

    /// Whether any block was begun.
    pub fn is_begun(&self) -> bool {
        !self.blocks.is_empty()
    }

    /// Trials of attempts beyond the first, which a budget limits.
    pub fn trials_again(&self) -> u32 {
        self.trials_again
    }

    /// Blocks whose last attempt is valid.
    pub fn valid(&self) -> usize {
        self.blocks.values().filter(|(_, valid)| *valid).count()
    }
}

/// Trials of an experiment in a session that are still to be done, those of
/// variants that a probe will find missing included.
pub fn to_come(
    planned: &Planned,
    done: &ExperimentDone,
    session: u32,
    options: &RunOptions,
) -> usize {
    let variants = &planned.experiment.variants;
    if planned.lack.is_some() {
        return 0;
    }
    if !done.is_begun() {
        let is_bound = |v: &&suite::Variant| v.role == suite::Role::Bound;
        let bounds = variants.iter().filter(is_bound).count();
        return planned.trials(variants.len(), bounds, options.blocks);
    }
    let is_in = |i: &usize| !done.skipped.contains(variants[*i].id);
    let available: Vec<usize> = (0..variants.len()).filter(is_in).collect();
    let session = usize::try_from(session).unwrap_or(usize::MAX);
    let orders = planned.orders(&available, session, options);
    let left =
        (1..).zip(orders).filter(|(block, _)| done.next_attempt(*block).1);
    left.map(|(_, order)| order.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempt_of_a_block_counts() {
        let mut done = ExperimentDone::default();
        done.attempt(1, 1);
        done.trial(1, "a", false, Status::Ok);
        done.trial(1, "b", false, Status::Invalid);
        assert_eq!(done.next_attempt(1), (2, true));
        done.attempt(1, 2);
        done.trial(1, "a", false, Status::Ok);
        done.trial(1, "b", false, Status::Nonsteady);
        assert_eq!(done.next_attempt(1), (3, false));
        assert_eq!(done.next_attempt(2), (1, true));
        assert_eq!((done.trials_again(), done.valid()), (2, 1));
    }

    #[test]
    fn a_bound_voids_no_block() {
        let mut done = ExperimentDone::default();
        done.attempt(1, 1);
        done.trial(1, "nop", true, Status::Invalid);
        assert_eq!(done.next_attempt(1), (2, false));
    }

    #[test]
    fn failures_count_only_in_a_row() {
        let mut done = ExperimentDone::default();
        done.trial(1, "a", false, Status::Error);
        done.trial(2, "a", false, Status::Error);
        assert_eq!(done.failures["a"], 2);
        done.trial(3, "a", false, Status::Ok);
        assert_eq!(done.failures["a"], 0);
    }
}
