//! The worker's side of a trial: a fresh process reads one specification from
//! its standard input, measures, and writes one reply to its standard output.

use std::{
    io::{Read, Write},
    process::ExitCode,
};

use super::output::tell;
use crate::{
    measure::trial::{Reply, Trial, TrialError, TrialSpec},
    suite::Suite,
};

/// Asks the kernel to kill this process when its parent dies, however it dies
/// (prctl(2), PR_SET_PDEATHSIG).
pub(super) fn die_with_parent() -> std::io::Result<()> {
    // SAFETY: prctl with PR_SET_PDEATHSIG takes a signal number and touches
    // no memory.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// The hidden first argument that makes a process a worker.
pub const WORKER_WORD: &str = "__worker";

/// Becomes a worker if this process was started as one. To be called first
/// thing in `main`, with the same suites that the runner has.
pub fn enter(suites: &[Suite]) -> Option<ExitCode> {
    let is_worker =
        std::env::args_os().nth(1).is_some_and(|word| word == WORKER_WORD);
    is_worker.then(|| serve(suites))
}

fn serve(suites: &[Suite]) -> ExitCode {
    // Once more: exec clears the request of a program with capabilities.
    if let Err(error) = die_with_parent() {
        tell(format_args!("bypass: {error}"));
        return ExitCode::from(70);
    }
    let mut text = String::new();
    let spec = std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())
        .and_then(|_| {
            serde_json::from_str::<TrialSpec>(&text)
                .map_err(|error| error.to_string())
        });
    let spec = match spec {
        Ok(spec) => spec,
        Err(error) => {
            tell(format_args!(
                "bypass: `{WORKER_WORD}` is for the runner's own use: {error}"
            ));
            return ExitCode::from(2);
        }
    };
    let reply = match measure(suites, spec) {
        Ok(outcome) => Reply::Measured(Box::new(outcome)),
        Err(error) => Reply::Failed(error),
    };
    match send(&reply) {
        Ok(()) => ExitCode::SUCCESS,
        // The runner is gone; nobody is left to tell.
        Err(_) => ExitCode::from(70),
    }
}

fn measure(
    suites: &[Suite],
    spec: TrialSpec,
) -> Result<crate::measure::trial::Outcome, TrialError> {
    let experiment = suites
        .iter()
        .filter(|suite| suite.id == spec.suite)
        .flat_map(|suite| (suite.experiments)())
        .find(|e| e.id == spec.experiment && e.params == spec.params);
    let variant = experiment
        .as_ref()
        .and_then(|experiment| experiment.variant(&spec.variant));
    let Some(variant) = variant else {
        return Err(TrialError::setup(format!(
            "this program has no {} {} {}",
            spec.experiment, spec.params, spec.variant
        )));
    };
    let worker = variant.worker;
    worker(&Trial::new(spec))
}

fn send(reply: &Reply) -> std::io::Result<()> {
    let text = serde_json::to_vec(reply)?;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&text)?;
    stdout.flush()
}
