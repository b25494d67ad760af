//! Sorts trials by experiment, block and variant, keeping only what the
//! estimates need.

use std::collections::{BTreeMap, HashMap};

use stats::steady_state::{Steadiness, WINDOW_ROUNDS, steadiness};
use stats::summary::median;

use crate::schema::{
    CompareMetric, LatencyKind, LoadMode, Role, Status, Steady, TrialRow,
};

/// What a trial states in its path when its target has a history.
const PRECONDITIONED: &str = "preconditioned=";

/// What stands behind that when it was written in part, or not at all.
const NOT: &str = "no";

/// What names an experiment: suite, id and parameters.
pub(crate) type ExperimentId = [String; 3];

/// Everything gathered from the trials of a run.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub run_id: String,
    /// In the order in which the run first came to them.
    pub experiments: Vec<Experiment>,
    index: HashMap<ExperimentId, usize>,
}

/// One experiment with its blocks.
#[derive(Debug)]
pub(crate) struct Experiment {
    pub id: ExperimentId,
    /// Its ops start by a schedule.
    open: bool,
    pub variants: Vec<Variant>,
    /// The last attempt at each block, by session and block.
    pub blocks: BTreeMap<(u32, u32), Attempt>,
    /// Attempts that were void and then run again.
    pub replaced_void: u32,
    /// Attempts beyond the first of their block.
    pub run_again: u32,
}

/// What is known of a variant over all its trials.
#[derive(Debug)]
pub(crate) struct Variant {
    pub name: String,
    pub role: Role,
    pub bound: String,
    pub latency_kind: Option<LatencyKind>,
    pub threads: Option<u32>,
    /// Why it was not started, from its first skipped row.
    pub skipped: Option<String>,
    /// Why it may get no verdict, from the first trial that shows it.
    pub disqualified: Option<String>,
    /// Its trials say how their target was written beforehand: what it does
    /// depends on what was done to it, so that its blocks must be steady.
    pub preconditioned: bool,
    /// They say that it was not written whole: it may have room to spare that
    /// it will not have for long.
    pub roomy: bool,
    /// Trials by status.
    pub counts: HashMap<Status, u32>,
}

/// One attempt at a block.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub attempt: u32,
    pub slots: Vec<Slot>,
}

/// One trial in a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub variant: usize,
    pub role: Role,
    pub status: Status,
    /// Shown, but compared with nothing.
    pub extras: Extras,
    values: [Option<f64>; CompareMetric::ALL.len()],
}

/// Figures that a machine or a suite may not have, and that get no verdict.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extras {
    pub cycles_per_op: Option<f64>,
    pub syscalls_per_op: Option<f64>,
}

impl Gathered {
    /// Adds a trial.
    pub fn add(&mut self, row: &TrialRow) {
        if self.run_id.is_empty() {
            self.run_id.clone_from(&row.run_id);
        }
        let id = [&row.suite, &row.experiment, &row.params].map(String::clone);
        let index = *self.index.entry(id).or_insert_with_key(|id| {
            self.experiments.push(Experiment::new(id.clone()));
            self.experiments.len() - 1
        });
        self.experiments[index].add(row);
    }
}

impl Experiment {
    fn new(id: ExperimentId) -> Experiment {
        Experiment {
            id,
            open: false,
            variants: Vec::new(),
            blocks: BTreeMap::new(),
            replaced_void: 0,
            run_again: 0,
        }
    }

    fn add(&mut self, row: &TrialRow) {
        self.open |= is_open(row);
        let variant = self.variant_of(row);
        self.variants[variant].add(row);
        let Some(block) = row.block else { return };
        let slot = Slot {
            variant,
            role: row.role,
            status: row.status,
            extras: Extras {
                cycles_per_op: row.cycles_per_op,
                syscalls_per_op: row.syscalls_per_op,
            },
            values: CompareMetric::ALL.map(|metric| value(row, metric)),
        };
        let number = row.attempt.unwrap_or(1);
        let attempt = self
            .blocks
            .entry((row.session, block))
            .or_insert_with(|| Attempt { attempt: number, slots: Vec::new() });
        if number > attempt.attempt {
            self.replaced_void += u32::from(attempt.is_void());
            self.run_again += 1;
            *attempt = Attempt { attempt: number, slots: Vec::new() };
        }
        // An attempt that was replaced does not come back.
        if number == attempt.attempt {
            attempt.slots.push(slot);
        }
    }

    fn variant_of(&mut self, row: &TrialRow) -> usize {
        let same = |v: &Variant| v.name == row.variant && v.role == row.role;
        self.variants.iter().position(same).unwrap_or_else(|| {
            self.variants.push(Variant {
                name: row.variant.clone(),
                role: row.role,
                bound: row.bound.clone(),
                latency_kind: None,
                threads: None,
                skipped: None,
                disqualified: None,
                preconditioned: false,
                roomy: false,
                counts: HashMap::new(),
            });
            self.variants.len() - 1
        })
    }

    /// What the table's verdict and the A/A check are about.
    pub fn primary(&self) -> CompareMetric {
        match self.open {
            true => CompareMetric::LatencyP50Ns,
            false => CompareMetric::OpsPerS,
        }
    }

    /// The baseline's index in `variants`.
    pub fn baseline(&self) -> Option<usize> {
        self.variants.iter().position(|v| v.role == Role::Baseline)
    }

    /// The indices of the variants to compare, by name, the twin last.
    pub fn compared(&self) -> Vec<usize> {
        let mut indices: Vec<usize> = (0..self.variants.len())
            .filter(|i| {
                let role = self.variants[*i].role;
                matches!(role, Role::Contender | Role::AaTwin)
            })
            .collect();
        indices.sort_by_key(|i| {
            let variant = &self.variants[*i];
            (variant.role == Role::AaTwin, variant.name.clone())
        });
        indices
    }

    /// The last attempts that count.
    pub fn valid_blocks(&self) -> impl Iterator<Item = &Attempt> {
        self.blocks.values().filter(|block| !block.is_void())
    }

    /// Attempts that are void, whether run again or not.
    pub fn void_attempts(&self) -> u32 {
        let standing = self.blocks.values().filter(|block| block.is_void());
        self.replaced_void + count(standing)
    }

    /// The values of a variant on a metric over the blocks that count.
    pub fn values(&self, variant: usize, metric: CompareMetric) -> Vec<f64> {
        self.valid_blocks()
            .filter_map(|block| block.slot(variant)?.value(metric))
            .collect()
    }

    /// Why the blocks of a variant are not in steady state, where they have to
    /// be: by SNIA's rule, on throughput, over the blocks that count of each
    /// session. Each session prepares anew what it writes to.
    pub fn not_steady(&self, variant: usize) -> Option<String> {
        if !self.variants[variant].preconditioned {
            return None;
        }
        let mut sessions = BTreeMap::<u32, Vec<f64>>::new();
        for ((session, _), block) in &self.blocks {
            let rounds = sessions.entry(*session).or_default();
            if !block.is_void() {
                let slot = block.slot(variant);
                rounds
                    .extend(slot.and_then(|s| s.value(CompareMetric::OpsPerS)));
            }
        }
        let why: Vec<String> =
            sessions.values().filter_map(|rounds| unsteady(rounds)).collect();
        let first = why.first()?;
        Some(match sessions.len() {
            1 => format!("not steady ({first})"),
            all => {
                format!(
                    "not steady in {} of {all} sessions ({first})",
                    why.len()
                )
            }
        })
    }

    /// Whether two variants are steady, where at least one of them has to be.
    pub fn steady(&self, pair: [usize; 2]) -> Option<Steady> {
        if !pair.iter().any(|i| self.variants[*i].preconditioned) {
            return None;
        }
        let unsteady = pair.iter().any(|i| self.not_steady(*i).is_some());
        Some(if unsteady { Steady::No } else { Steady::Yes })
    }

    /// The median of an extra figure over the blocks that count.
    pub fn extra(
        &self,
        variant: usize,
        pick: fn(&Extras) -> Option<f64>,
    ) -> Option<f64> {
        let slots = self.valid_blocks().filter_map(|b| b.slot(variant));
        let values: Vec<f64> =
            slots.filter_map(|slot| pick(&slot.extras)).collect();
        median(&values)
    }

    /// Which share of its own floor or ceiling a variant reaches with a value.
    pub fn share_of_bound(
        &self,
        variant: &Variant,
        metric: CompareMetric,
        own: f64,
    ) -> Option<f64> {
        let bound = median(&self.bound_values(&variant.bound, metric))?;
        match metric {
            CompareMetric::OpsPerS => Some(own / bound),
            CompareMetric::LatencyP50Ns | CompareMetric::LatencyP99Ns => {
                Some(bound / own)
            }
            CompareMetric::CpuPerOpNs => None,
        }
    }

    /// The values of a bound: it runs in few blocks only and is compared with
    /// nothing, so a void block does not make it void.
    pub fn bound_values(&self, name: &str, metric: CompareMetric) -> Vec<f64> {
        let is_bound = |v: &Variant| v.role == Role::Bound && v.name == name;
        let Some(index) = self.variants.iter().position(is_bound) else {
            return Vec::new();
        };
        let slots = self.blocks.values().filter_map(|b| b.slot(index));
        slots
            .filter(|slot| slot.status.is_usable())
            .filter_map(|slot| slot.value(metric))
            .collect()
    }
}

impl Variant {
    fn add(&mut self, row: &TrialRow) {
        *self.counts.entry(row.status).or_default() += 1;
        self.latency_kind = self.latency_kind.or(row.latency_kind);
        self.threads = self.threads.or(row.threads);
        for word in row.path.split(';') {
            let Some(how) = word.strip_prefix(PRECONDITIONED) else { continue };
            self.preconditioned = true;
            self.roomy |= how == NOT;
        }
        let why = || format!("{}: {}", row.status, row.reasons);
        match row.status {
            Status::Skipped => {
                self.skipped.get_or_insert_with(|| row.reasons.clone());
            }
            // Wrong data outweighs a wrong path, whichever came first.
            Status::Wrong if self.count(Status::Wrong) == 1 => {
                self.disqualified = Some(why());
            }
            Status::Degraded => {
                self.disqualified.get_or_insert_with(why);
            }
            _ => {}
        }
    }

    /// How many trials ended so.
    pub fn count(&self, status: Status) -> u32 {
        self.counts.get(&status).copied().unwrap_or(0)
    }

    /// Whether it was ever started.
    pub fn was_measured(&self) -> bool {
        self.counts.keys().any(|status| *status != Status::Skipped)
    }
}

impl Attempt {
    /// Whether one of its trials cannot be used. Then none is: dropping only
    /// the disturbed ones would leave the others without their neighbours.
    pub fn is_void(&self) -> bool {
        self.slots
            .iter()
            .any(|slot| slot.role != Role::Bound && !slot.status.is_usable())
    }

    /// The trial of a variant.
    pub fn slot(&self, variant: usize) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.variant == variant)
    }
}

impl Slot {
    /// Its value on a metric.
    pub fn value(&self, metric: CompareMetric) -> Option<f64> {
        self.values[metric as usize]
    }

    /// Whether it has a trend inside of its window.
    pub fn is_flagged(&self) -> bool {
        self.status == Status::Nonsteady
    }
}

/// In which of these rounds a target was not in steady state, by SNIA's rule;
/// none if it was in all of them.
pub(crate) fn unsteady(rounds: &[f64]) -> Option<String> {
    Some(match steadiness(rounds) {
        Some(Steadiness::Steady { from: 0 }) => return None,
        Some(Steadiness::Steady { from }) => {
            format!("only from valid block {} on", from + 1)
        }
        Some(Steadiness::Left { at }) => {
            format!("no longer at valid block {}", at + 1)
        }
        Some(Steadiness::Never) => "at no time".to_owned(),
        None => format!("fewer than {WINDOW_ROUNDS} valid blocks"),
    })
}

/// Whether an op's start is settled beforehand.
fn is_open(row: &TrialRow) -> bool {
    row.load_mode == Some(LoadMode::Open)
}

/// A value that has a logarithm; a rate of 0 has none and counts as missing.
/// So does the rate of an open loop: it is the one that was asked for, and says
/// nothing of the variant.
fn value(row: &TrialRow, metric: CompareMetric) -> Option<f64> {
    let value = match metric {
        CompareMetric::OpsPerS => row.ops_per_s.filter(|_| !is_open(row)),
        CompareMetric::LatencyP50Ns => row.latency_p50_ns.map(|v| v as f64),
        CompareMetric::LatencyP99Ns => row.latency_p99_ns.map(|v| v as f64),
        CompareMetric::CpuPerOpNs => row.cpu_per_op_ns,
    };
    value.filter(|value| value.is_finite() && *value > 0.0)
}

/// How many items an iterator has, in the width of our columns.
pub(crate) fn count(items: impl Iterator) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
