//! What a run would do: the plan, the time, what is written and touched.

use std::{path::Path, time::Duration};

use super::{
    error::RunError,
    host::Host,
    options::RunOptions,
    plan::Planned,
    resume::Done,
    runner::{count_trials, duration, plan_on, request},
};
use crate::{
    machine::root::Root,
    suite::{Forecast, Refusal, SessionRequest, Suite},
};

/// What a run would do.
#[derive(Debug)]
pub struct Preview {
    /// Experiments with their CPUs.
    pub planned: Vec<Planned>,
    /// Trials at most, without those run again.
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
    let done = Done::nothing();
    let trials = count_trials(&planned, options, &done);
    let writes = |planned: &&Planned| {
        let key = planned.experiment.key();
        let forecasts = forecasts.iter().filter_map(|(_, f)| f.as_ref().ok());
        forecasts.flat_map(|f| &f.overwriting).any(|other| *other == key)
    };
    let overwriting: Vec<Planned> =
        planned.iter().filter(writes).cloned().collect();
    let writing = count_trials(&overwriting, options, &done);
    let duration = duration(trials, options);
    Ok(Preview { planned, trials, duration, forecasts, writing, refusals })
}
