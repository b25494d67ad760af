//! What will run, in which order, on which CPUs: fixed before the first trial
//! from the options alone, so that a resumed run goes on with the same plan.

use super::options::RunOptions;
use crate::{
    machine::{
        allowed::CpuLimit,
        cpu_set::{Cpu, CpuSet, NumaNode},
        placement::default_cpus,
        topology::Topology,
    },
    measure::trial::mix,
    suite::{CpuNeed, Experiment, Role, Suite},
};

/// Level of the family-wise error that verdicts keep.
const ALPHA: f64 = 0.05;

/// Start, preparation and end of a worker, as seen in practice; only for the
/// estimate of the time that a run takes.
const TRIAL_OVERHEAD_NS: u64 = 60_000_000;

/// An experiment with the CPUs it will run on.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Index into the suites.
    pub suite: usize,
    /// The experiment, narrowed to the selected variants.
    pub experiment: Experiment,
    /// CPUs in order of use; empty if the machine has too few.
    pub cpus: Vec<Cpu>,
    /// Where its memory is bound.
    pub numa_node: Option<NumaNode>,
    /// Why it cannot run at all, and what would enable it.
    pub lack: Option<(String, String)>,
}

/// One trial of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Index into the experiment's variants.
    pub variant: usize,
    /// The hidden second copy of the baseline.
    pub twin: bool,
}

/// Why nothing can be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// More rows than the exact test can carry.
    #[error(
        "{experiment} has {rows} variants to compare, but {blocks} blocks \
         support only {supported}: with so few, no difference could ever be \
         shown; use --blocks {needed} or more, or fewer variants"
    )]
    TooFewBlocks {
        /// The experiment.
        experiment: String,
        /// Its rows.
        rows: usize,
        /// Blocks over all sessions.
        blocks: usize,
        /// Rows they support.
        supported: usize,
        /// Blocks per session that would do.
        needed: usize,
    },
    /// A CPU that may not be used.
    #[error(
        "cpus {asked}: CPU {missing} is not among those allowed to this \
         process ({allowed}); choose among these, or widen the affinity mask \
         or cpuset"
    )]
    CpuNotAllowed {
        /// As given.
        asked: CpuSet,
        /// The first one that is missing.
        missing: CpuSet,
        /// What is allowed.
        allowed: CpuSet,
    },
}

/// What the plan depends on besides the options.
#[derive(Debug)]
pub struct Place<'a> {
    /// The machine.
    pub topology: &'a Topology,
    /// CPUs that this process may use.
    pub allowed: &'a CpuSet,
    /// What its control group grants.
    pub limit: &'a CpuLimit,
}

/// Assigns CPUs and checks that the blocks can carry the rows.
///
/// # Errors
/// The options ask for what cannot be.
pub fn plan(
    selected: Vec<(usize, Experiment)>,
    options: &RunOptions,
    place: &Place<'_>,
) -> Result<Vec<Planned>, PlanError> {
    let pool = cpu_pool(options, place)?;
    selected
        .into_iter()
        .map(|(suite, experiment)| {
            if !options.smoke {
                check_family(&experiment, options)?;
            }
            let (cpus, lack) = assign(&experiment, &pool, place.limit);
            let numa_node =
                cpus.first().and_then(|cpu| place.topology.node_of(*cpu));
            Ok(Planned { suite, experiment, cpus, numa_node, lack })
        })
        .collect()
}

/// Usable CPUs in order of preference.
fn cpu_pool(
    options: &RunOptions,
    place: &Place<'_>,
) -> Result<Vec<Cpu>, PlanError> {
    let Some(asked) = &options.cpus else {
        let count = place.allowed.len();
        return Ok(default_cpus(place.topology, place.allowed, count));
    };
    let missing = asked.difference(place.allowed);
    match missing.first() {
        None => Ok(asked.iter().collect()),
        Some(first) => Err(PlanError::CpuNotAllowed {
            asked: asked.clone(),
            missing: CpuSet::single(first),
            allowed: place.allowed.clone(),
        }),
    }
}

fn assign(
    experiment: &Experiment,
    pool: &[Cpu],
    limit: &CpuLimit,
) -> (Vec<Cpu>, Option<(String, String)>) {
    let (least, wanted) = match experiment.cpus {
        CpuNeed::Exactly(n) => (n, n),
        CpuNeed::UpTo(n) => (1, n),
        CpuNeed::All => (1, pool.len()),
    };
    let granted = granted_cpus(limit);
    let usable = granted.map_or(pool.len(), |n| n.min(pool.len()));
    if pool.len() < least {
        let lack = (
            format!("needs {least} CPUs, {} allowed", pool.len()),
            "run on more CPUs (see `taskset -p $$` and --cpus)".to_owned(),
        );
        return (Vec::new(), Some(lack));
    }
    if usable < least {
        let lack = (
            format!(
                "needs {least} CPUs, the control group grants {}",
                limit_text(limit)
            ),
            "raise the CPU quota (cpu.max or cpu.cfs_quota_us)".to_owned(),
        );
        return (Vec::new(), Some(lack));
    }
    (pool[..wanted.min(usable)].to_vec(), None)
}

/// Whole CPUs that a quota grants; a fraction would be throttled.
fn granted_cpus(limit: &CpuLimit) -> Option<usize> {
    match limit {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a quota is a small positive number; floats saturate"
        )]
        CpuLimit::Cpus(cpus) => Some(cpus.floor() as usize),
        _ => None,
    }
}

fn limit_text(limit: &CpuLimit) -> String {
    match limit {
        CpuLimit::Cpus(cpus) => format!("{cpus:.2}"),
        _ => "no limit".to_owned(),
    }
}

/// Exact signed ranks under Holm: n blocks support only so many rows.
fn check_family(
    experiment: &Experiment,
    options: &RunOptions,
) -> Result<(), PlanError> {
    let rows = experiment
        .variants
        .iter()
        .filter(|v| v.role == Role::Contender)
        .count();
    let blocks = options.blocks * options.sessions;
    let supported = stats::signed_rank::max_family_rows(blocks, ALPHA);
    if rows <= supported {
        return Ok(());
    }
    let enough = |n: &usize| {
        stats::signed_rank::max_family_rows(n * options.sessions, ALPHA) >= rows
    };
    Err(PlanError::TooFewBlocks {
        experiment: experiment.key(),
        rows,
        blocks,
        supported,
        needed: (1..=64).find(enough).unwrap_or(64),
    })
}

impl Planned {
    /// The order of trials in each block of a session, over the variants that
    /// can run. Bounds run in the first, the middle and the last block only:
    /// they are looked at as medians, never compared block by block.
    pub fn orders(
        &self,
        available: &[usize],
        session: usize,
        options: &RunOptions,
    ) -> Vec<Vec<Slot>> {
        let variants = &self.experiment.variants;
        let (bounds, compared): (Vec<usize>, Vec<usize>) =
            available.iter().partition(|i| variants[**i].role == Role::Bound);
        let mut slots: Vec<Slot> = compared
            .iter()
            .map(|&variant| Slot { variant, twin: false })
            .collect();
        slots.extend(
            compared
                .iter()
                .filter(|i| variants[**i].role == Role::Baseline)
                .map(|&variant| Slot { variant, twin: true }),
        );
        let seed = self.seed(options.seed, session, 0);
        stats::order::block_orders(slots.len(), options.blocks, seed)
            .into_iter()
            .enumerate()
            .map(|(block, order)| {
                let mut order: Vec<Slot> =
                    order.into_iter().map(|i| slots[i]).collect();
                if is_bound_block(block, options.blocks) {
                    for (i, &variant) in bounds.iter().enumerate() {
                        let draw = mix(seed ^ ((block + i) as u64));
                        let places = order.len() as u64 + 1;
                        let at = usize::try_from(draw % places).unwrap_or(0);
                        order.insert(at, Slot { variant, twin: false });
                    }
                }
                order
            })
            .collect()
    }

    /// The seed of all trials of a block: every variant gets the same
    /// addresses.
    pub fn seed(&self, run_seed: u64, session: usize, block: usize) -> u64 {
        let key = self.experiment.key();
        let name = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        mix(run_seed ^ name ^ mix((session as u64) << 32 | block as u64))
    }

    /// Trials of a session with `variants` runnable variants of which
    /// `bounds` are bounds.
    pub fn trials(
        &self,
        variants: usize,
        bounds: usize,
        blocks: usize,
    ) -> usize {
        if variants <= bounds {
            return 0;
        }
        let bound_blocks =
            (0..blocks).filter(|b| is_bound_block(*b, blocks)).count();
        (variants - bounds + 1) * blocks + bounds * bound_blocks
    }
}

fn is_bound_block(block: usize, blocks: usize) -> bool {
    block == 0 || block == blocks / 2 || block + 1 == blocks
}

/// Expected time of one trial.
pub fn trial_ns(options: &RunOptions) -> u64 {
    options.warmup_ns + options.window_ns + TRIAL_OVERHEAD_NS
}

/// The plan as stored in `run.json`: enough to see what was meant to happen.
pub fn record(
    planned: &[Planned],
    suites: &[Suite],
    options: &RunOptions,
) -> serde_json::Value {
    let experiments: Vec<_> = planned
        .iter()
        .map(|p| {
            serde_json::json!({
                "suite": suites[p.suite].id,
                "experiment": p.experiment.id,
                "params": p.experiment.params,
                "cpus": p.cpus,
                "numa_node": p.numa_node,
                "variants": p.experiment.variants.iter()
                    .map(|v| v.id).collect::<Vec<_>>(),
                "steps": p.experiment.steps,
            })
        })
        .collect();
    serde_json::json!({ "options": options, "experiments": experiments })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        measure::trial::TrialError,
        run::options::Mode,
        suite::{Availability, LatencyKind, Params, Variant},
    };

    fn variant(id: &'static str, role: Role) -> Variant {
        Variant {
            id,
            about: "",
            role,
            bound: None,
            spinning: false,
            probe: |_| Availability::Available,
            worker: |_| Err(TrialError::setup("not run in this test")),
        }
    }

    fn planned(contenders: &[&'static str], cpus: CpuNeed) -> Planned {
        let mut variants = vec![variant("base", Role::Baseline)];
        variants
            .extend(contenders.iter().map(|id| variant(id, Role::Contender)));
        variants.push(variant("floor", Role::Bound));
        let experiment = Experiment {
            id: "x/y",
            about: "",
            params: Params::new(),
            tags: &[],
            cpus,
            latency_kind: LatencyKind::Service,
            steps: &[],
            variants,
        };
        Planned {
            suite: 0,
            experiment,
            cpus: vec![Cpu(0)],
            numa_node: None,
            lack: None,
        }
    }

    #[test]
    fn every_block_holds_each_variant_and_the_twin_once() {
        let planned = planned(&["a", "b", "c"], CpuNeed::Exactly(1));
        let options = RunOptions::new(Mode::Quick, 7);
        let orders = planned.orders(&[0, 1, 2, 3, 4], 1, &options);
        assert_eq!(orders.len(), 10);
        let mut with_bound = 0;
        for order in &orders {
            let bound = order.iter().filter(|s| s.variant == 4).count();
            with_bound += bound;
            assert_eq!(order.len() - bound, 5);
            assert_eq!(order.iter().filter(|s| s.twin).count(), 1);
            for variant in 0..4 {
                assert!(order.iter().any(|s| s.variant == variant && !s.twin));
            }
        }
        assert_eq!(with_bound, 3);
        let trials: usize = orders.iter().map(Vec::len).sum();
        assert_eq!(trials, planned.trials(5, 1, 10));
        assert_eq!(orders, planned.orders(&[0, 1, 2, 3, 4], 1, &options));
        assert_ne!(orders, planned.orders(&[0, 1, 2, 3, 4], 2, &options));
    }

    #[test]
    fn variants_of_a_block_share_their_seed() {
        let planned = planned(&["a"], CpuNeed::Exactly(1));
        assert_ne!(planned.seed(1, 1, 1), planned.seed(1, 1, 2));
        assert_ne!(planned.seed(1, 1, 1), planned.seed(1, 2, 1));
        assert_ne!(planned.seed(1, 1, 1), planned.seed(2, 1, 1));
    }

    #[test]
    fn too_few_blocks_for_the_rows_is_refused() {
        let planned = planned(&["a", "b"], CpuNeed::Exactly(1));
        let mut options = RunOptions::new(Mode::Quick, 7);
        options.blocks = 6;
        let error = check_family(&planned.experiment, &options)
            .expect_err("6 blocks support one row only");
        assert!(error.to_string().contains("--blocks 7"), "{error}");
        options.blocks = 7;
        assert_eq!(check_family(&planned.experiment, &options), Ok(()));
    }

    #[test]
    fn cpus_follow_the_need_and_the_grant() {
        let pool = [Cpu(1), Cpu(0)];
        let check = |need, limit: CpuLimit| {
            let p = planned(&[], need);
            let (cpus, lack) = assign(&p.experiment, &pool, &limit);
            (cpus.len(), lack.map(|(reason, _)| reason))
        };
        assert_eq!(check(CpuNeed::UpTo(4), CpuLimit::Unlimited), (2, None));
        assert_eq!(check(CpuNeed::All, CpuLimit::Cpus(1.5)), (1, None));
        let (_, lack) = check(CpuNeed::Exactly(3), CpuLimit::Unlimited);
        assert!(lack.is_some_and(|l| l.contains("2 allowed")));
        let (_, lack) = check(CpuNeed::Exactly(2), CpuLimit::Cpus(1.5));
        assert!(lack.is_some_and(|l| l.contains("grants 1.50")));
        let (_, lack) = check(CpuNeed::All, CpuLimit::Cpus(0.5));
        assert!(lack.is_some_and(|l| l.contains("grants 0.50")));
    }
}
