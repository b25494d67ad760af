//! What a run would do: the plan, the time, what is written and touched.

use std::{path::Path, time::Duration};

use super::{
    error::RunError,
    host::Host,
    options::RunOptions,
    plan::Planned,
    probes::probe_each,
    resume::Done,
    runner::{count_trials, duration, plan_on, request},
    session::is_worth_running,
};
use crate::{
    machine::root::Root,
    suite::{Availability, Forecast, Refusal, SessionRequest, Suite},
};

/// What a run would do.
#[derive(Debug)]
pub struct Preview {
    /// Experiments with their CPUs.
    pub planned: Vec<Planned>,
    /// What each variant of each experiment said, as far as that can be known
    /// before anything is set up; of nothing that lacks something anyway.
    pub probed: Vec<Vec<Availability>>,
    /// Trials at most, without those run again, and without those of variants
    /// that said no.
    pub trials: usize,
    /// Time for these.
    pub duration: Duration,
    /// Per suite: what it would write and touch, or why it cannot.
    pub forecasts: Vec<(&'static str, Result<Forecast, Refusal>)>,
    /// Trials that write for as long as they run.
    pub writing: usize,
    /// What single experiments that were asked for would be refused.
    pub refusals: Vec<Refusal>,
}

/// Plans a run and changes nothing.
///
/// # Errors
/// As `run`, before anything is measured.
pub fn preview(
    suites: &[Suite],
    options: &RunOptions,
    root: &Path,
) -> Result<Preview, RunError> {
    let host = Host::read(&Root::system())?;
    let planned = plan_on(suites, options, &host)?;
    let all = request(options, root, &planned, 0);
    let mut indices: Vec<usize> = planned.iter().map(|p| p.suite).collect();
    indices.dedup();
    let forecasts: Vec<(&str, Result<Forecast, Refusal>)> = indices
        .into_iter()
        .map(|i| {
            let experiments = planned
                .iter()
                .filter(|p| p.suite == i)
                .map(|p| p.experiment.key())
                .collect();
            let own = SessionRequest { experiments, ..all.clone() };
            (suites[i].id, (suites[i].forecast)(&own))
        })
        .collect();
    let refusals = planned
        .iter()
        .filter(|p| options.asks_for(&p.experiment))
        .filter_map(|p| {
            let experiments = vec![p.experiment.key()];
            let own = SessionRequest { experiments, ..all.clone() };
            (suites[p.suite].forecast)(&own).err()
        })
        .collect();
    let probed = probed(&planned);
    let left: Vec<Planned> = planned
        .iter()
        .zip(&probed)
        .map(|(planned, said)| without_those_that_said_no(planned, said))
        .collect();
    let done = Done::nothing();
    let trials = count_trials(&left, options, &done);
    let writes = |planned: &Planned| {
        let key = planned.experiment.key();
        let forecasts = forecasts.iter().filter_map(|(_, f)| f.as_ref().ok());
        forecasts.flat_map(|f| &f.overwriting).any(|other| *other == key)
    };
    let overwriting: Vec<Planned> = left.into_iter().filter(writes).collect();
    let writing = count_trials(&overwriting, options, &done);
    let duration = duration(trials, options);
    Ok(Preview {
        planned,
        probed,
        trials,
        duration,
        forecasts,
        writing,
        refusals,
    })
}

fn probed(planned: &[Planned]) -> Vec<Vec<Availability>> {
    let can_run = planned.iter().filter(|p| p.lack.is_none());
    let asked = can_run.map(|p| (&p.experiment, p.cpus.as_slice()));
    let mut said = probe_each(asked).into_iter();
    planned
        .iter()
        .map(|p| match &p.lack {
            None => said.next().unwrap_or_default(),
            Some(_) => Vec::new(),
        })
        .collect()
}

/// What the run would be left with: nothing, where that cannot be compared.
fn without_those_that_said_no(
    planned: &Planned,
    said: &[Availability],
) -> Planned {
    let mut left = planned.clone();
    let mut said = said.iter();
    left.experiment.variants.retain(|_| {
        !matches!(said.next(), Some(Availability::Unavailable { .. }))
    });
    let asked_for = &planned.experiment.variants;
    if !is_worth_running(asked_for, left.experiment.variants.iter()) {
        left.experiment.variants.clear();
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        run::options::Mode,
        suite::{CpuNeed, Experiment, LatencyKind, Params, Role, Variant},
    };

    fn planned(roles: &[Role]) -> Planned {
        let variant = |role: &Role| Variant {
            id: "a",
            about: "a variant",
            role: *role,
            bound: None,
            spinning: false,
            probe: |_| unreachable!("not asked here"),
            worker: |_| unreachable!("nothing is measured"),
        };
        let experiment = Experiment {
            id: "run/preview",
            about: "an experiment",
            params: Params::new(),
            tags: &[],
            cpus: CpuNeed::UpTo(1),
            latency_kind: LatencyKind::None,
            steps: &[],
            variants: roles.iter().map(variant).collect(),
        };
        let (cpus, numa_node, lack) = (Vec::new(), None, None);
        Planned { suite: 0, experiment, cpus, numa_node, lack }
    }

    #[test]
    fn the_plan_leaves_out_what_said_no_and_what_has_nothing_to_be_compared_with()
     {
        use Role::{Baseline, Bound, Contender};
        let yes = || Availability::Available;
        let perhaps = || Availability::undecided("the target");
        let no = || Availability::unavailable("no such device", "buy one");
        let options = RunOptions::new(Mode::Quick, 1);
        let trials = |said: [Availability; 4]| {
            let planned = planned(&[Baseline, Contender, Contender, Bound]);
            let left = without_those_that_said_no(&planned, &said);
            count_trials(&[left], &options, &Done::nothing())
        };
        // The twin of the baseline as well; bounds in three blocks.
        assert_eq!(trials([yes(), yes(), perhaps(), yes()]), 4 * 10 + 3);
        assert_eq!(trials([yes(), yes(), no(), yes()]), 3 * 10 + 3);
        assert_eq!(trials([yes(), perhaps(), no(), no()]), 3 * 10);
        assert_eq!(trials([no(), yes(), yes(), yes()]), 0);
        assert_eq!(trials([yes(), no(), no(), yes()]), 0);
    }
}
