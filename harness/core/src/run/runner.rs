//! A whole run: makes or opens its directory, runs its sessions, derives the
//! verdicts.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use results::{
    compare::{self, Derived},
    reader::read_metrics,
    schema::{Part, RunFile},
    writer::{Repaired, RunDirectory, RunWriter, write_compare},
};
use serde_json::Value;

use super::{
    directory, doctor,
    exit::Exit,
    filter,
    host::{Host, Stamp},
    interrupt::{self, Interrupts},
    journal::Journal,
    options::RunOptions,
    output::tell,
    plan::{self, Planned},
    progress::Progress,
    resume::{Done, to_come},
    session::Stage,
    tally::Tally,
    time,
};
use crate::{
    machine::{
        doctor::Report as Diagnosis, placement::raise_memlock_limit, root::Root,
    },
    measure::trial::mix,
    suite::{Meanwhile, RefusalKind, SessionRequest, Suite},
};

pub use super::{directory::Destination, error::RunError};

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// Its directory.
    pub directory: PathBuf,
    /// Its verdicts, those of earlier parts included.
    pub derived: Derived,
    /// What the machine's state makes of their worth.
    pub doctor: Diagnosis,
    /// What happened.
    pub exit: Exit,
    /// Trials that measured something.
    pub measured: usize,
    /// Trials that returned wrong data.
    pub wrong: usize,
    /// What the person should read beside the table, each with a next step.
    pub notes: Vec<String>,
    /// Every target was refused, so that its rows say nothing else; the notes
    /// are why.
    pub refused: bool,
}

impl Report {
    /// How the command ends. A run of nothing but refusals leaves nothing:
    /// whoever asks for the latest run means the one before it.
    pub fn end(self) -> Exit {
        if self.refused {
            // What stays is a directory of skips, and no worse than that.
            let _ = std::fs::remove_dir_all(&self.directory);
        }
        self.exit
    }
}

/// Runs what the options ask for and derives the verdicts.
///
/// # Errors
/// What prevents a run; what goes wrong within one is in its rows and in the
/// report's exit code.
pub fn run(
    suites: &[Suite],
    options: &RunOptions,
    destination: &Destination,
    progress: Option<Progress>,
) -> Result<Report, RunError> {
    prepare_process();
    let host = Host::read(&Root::system())?;
    let planned = plan_on(suites, options, &host)?;
    let diagnosis =
        diagnose(suites, &planned, options, &host, destination.root());
    check_fitness(options, &diagnosis)?;
    // Before there is a directory: no request to stop leaves half of one.
    let interrupts = Interrupts::listen().map_err(RunError::Signals)?;
    let (directory, mut file) = directory::open(options, destination, &host)?;
    let part = Part {
        suites: suite_ids(&planned, suites),
        plan: plan::record(&planned, suites, options),
        seed: options.seed,
        command_line: directory::stored_command_line(),
        started_at_utc: time::rfc3339(time::since_epoch()),
        finished_at_utc: None,
        interrupted: false,
    };
    file.parts.push(part);
    let diagnosis = doctor::record(&mut file, diagnosis);
    if let Err(error) = file.write(directory.path()) {
        // Of use to nobody without it. One that holds anything stays.
        let _ = std::fs::remove_dir(directory.path());
        return Err(error.into());
    }
    let job =
        Job { suites, host: &host, planned, options, diagnosis, interrupts };
    let opened = RunWriter::open(directory)?;
    job.execute(opened, file, &Done::nothing(), progress)
}

/// Goes on with an interrupted run: the same plan, the same order. What may
/// be destroyed is stored nowhere, so that it has to be said again.
///
/// # Errors
/// As `run`; also if the machine has changed.
pub fn resume(
    suites: &[Suite],
    path: &Path,
    allow_destroy: Option<String>,
    progress: Option<Progress>,
) -> Result<Report, RunError> {
    prepare_process();
    let host = Host::read(&Root::system())?;
    let directory = RunDirectory::open(path)?;
    let mut file = RunFile::read(path)?;
    check_unchanged(path, &file, &host)?;
    let (then, now) = (&file.tool, directory::tool());
    if (&then.git_commit, &then.version) != (&now.git_commit, &now.version) {
        return Err(RunError::ForeignPlan {
            directory: path.to_owned(),
            reason: "another build of this program began it".to_owned(),
        });
    }
    let Some(last) = file.parts.last_mut() else {
        return Err(RunError::ForeignPlan {
            directory: path.to_owned(),
            reason: "nothing was measured; delete it".to_owned(),
        });
    };
    last.interrupted = false;
    last.finished_at_utc = None;
    let mut options = stored_options(path, &last.plan)?;
    options.allow_destroy = allow_destroy;
    let planned = plan_on(suites, &options, &host)?;
    if plan::record(&planned, suites, &options) != last.plan {
        return Err(RunError::ForeignPlan {
            directory: path.to_owned(),
            reason: "experiments or CPUs are not what they were".to_owned(),
        });
    }
    let interrupts = Interrupts::listen().map_err(RunError::Signals)?;
    // From here on it is locked: nothing of a run that is still going on is
    // changed.
    let opened = RunWriter::open(directory)?;
    let done = Done::read(path)?;
    let home = path.parent().unwrap_or(path);
    let now = diagnose(suites, &planned, &options, &host, home);
    let diagnosis = doctor::record(&mut file, now);
    file.write(path)?;
    let options = &options;
    let job =
        Job { suites, host: &host, planned, options, diagnosis, interrupts };
    job.execute(opened, file, &done, progress)
}

/// Removes what processes that were killed had to leave, and takes what
/// locked memory this process may have; its workers inherit that.
fn prepare_process() {
    interrupt::ignore_file_size();
    // Where it is refused, those who need more say how to get it.
    let _ = raise_memlock_limit();
    for path in Journal::of_this_user().sweep() {
        tell(format_args!(
            "removed {}, left by a run that was killed",
            path.display()
        ));
    }
}

pub(super) fn plan_on(
    suites: &[Suite],
    options: &RunOptions,
    host: &Host,
) -> Result<Vec<Planned>, RunError> {
    let selected =
        filter::select(suites, &options.filters, options.tag.as_deref())?;
    let place = plan::Place {
        topology: &host.topology,
        allowed: &host.allowed,
        limit: &host.limit,
    };
    Ok(plan::plan(selected, options, &place)?)
}

/// What the doctor says about this machine for the suites of a plan.
fn diagnose(
    suites: &[Suite],
    planned: &[Planned],
    options: &RunOptions,
    host: &Host,
    default_directory: &Path,
) -> Diagnosis {
    let target = options.target.as_deref().unwrap_or(default_directory);
    let patient = host.patient(&Root::system(), target);
    let mut indices: Vec<usize> = planned.iter().map(|p| p.suite).collect();
    indices.dedup();
    doctor::examine(&patient, indices.into_iter().map(|i| &suites[i]))
}

fn check_fitness(
    options: &RunOptions,
    diagnosis: &Diagnosis,
) -> Result<(), RunError> {
    match diagnosis.caps().first() {
        Some(cap) if options.strict => Err(RunError::Unfit {
            verdict: diagnosis.verdict.to_string(),
            reason: format!("{} ({})", cap.id, cap.observed),
            remedy: match cap.fix.as_str() {
                "" => "`bypass doctor` tells more".to_owned(),
                fix => fix.to_owned(),
            },
        }),
        _ => Ok(()),
    }
}

fn check_unchanged(
    path: &Path,
    file: &RunFile,
    host: &Host,
) -> Result<(), RunError> {
    let stored: Stamp = serde_json::from_value(
        file.invocation["stamp"].clone(),
    )
    .map_err(|error| RunError::ForeignPlan {
        directory: path.to_owned(),
        reason: error.to_string(),
    })?;
    let changes = stored.changes(&host.stamp());
    if changes.is_empty() {
        return Ok(());
    }
    let changes: Vec<String> = changes
        .iter()
        .map(|c| format!("{}: {} -> {}", c.key, c.before, c.after))
        .collect();
    Err(RunError::Changed {
        directory: path.to_owned(),
        changes: changes.join(", "),
    })
}

fn stored_options(path: &Path, plan: &Value) -> Result<RunOptions, RunError> {
    serde_json::from_value(plan["options"].clone()).map_err(|error| {
        RunError::ForeignPlan {
            directory: path.to_owned(),
            reason: error.to_string(),
        }
    })
}

fn suite_ids(planned: &[Planned], suites: &[Suite]) -> Vec<String> {
    let mut ids: Vec<String> =
        planned.iter().map(|p| suites[p.suite].id.to_owned()).collect();
    ids.dedup();
    ids
}

pub(super) fn count_trials(
    planned: &[Planned],
    options: &RunOptions,
    done: &Done,
) -> usize {
    let sessions = 1..=u32::try_from(options.sessions).unwrap_or(u32::MAX);
    let of_session = |session| -> usize {
        let of = |p: &Planned| {
            let params = p.experiment.params.to_string();
            let done = done.experiment(session, p.experiment.name(), &params);
            to_come(p, &done, session, options)
        };
        planned.iter().map(of).sum()
    };
    sessions.map(of_session).sum()
}

pub(super) fn duration(trials: usize, options: &RunOptions) -> Duration {
    Duration::from_nanos(plan::trial_ns(options).saturating_mul(trials as u64))
}

pub(super) fn request(
    options: &RunOptions,
    default_directory: &Path,
    planned: &[Planned],
    run_number: u64,
) -> SessionRequest {
    SessionRequest {
        target: options.target.clone(),
        default_directory: default_directory.to_owned(),
        seed: options.seed,
        run_id: run_number,
        experiments: planned.iter().map(|p| p.experiment.key()).collect(),
        allow_destroy: options.allow_destroy.clone(),
        interfaces: options.interfaces.clone(),
        precondition: options.precondition,
        meanwhile: Meanwhile::default(),
    }
}

/// What `run` and `resume` have in common.
struct Job<'a> {
    suites: &'a [Suite],
    host: &'a Host,
    planned: Vec<Planned>,
    options: &'a RunOptions,
    diagnosis: Diagnosis,
    interrupts: Interrupts,
}

impl Job<'_> {
    fn execute(
        self,
        (writer, repaired): (RunWriter, Repaired),
        mut file: RunFile,
        done: &Done,
        progress: Option<Progress>,
    ) -> Result<Report, RunError> {
        let path = writer.directory().path().to_owned();
        let mut progress = progress.unwrap_or_default();
        if repaired.rows > 0 || repaired.bytes > 0 {
            progress.say(&format!(
                "dropped {} bytes of a block that was cut off",
                repaired.bytes
            ));
        }
        let mut tally = self.measure(writer, done, &mut progress)?;
        progress.finish();
        if let Some(part) = file.parts.last_mut() {
            part.interrupted = tally.interrupted;
            part.finished_at_utc = Some(time::rfc3339(time::since_epoch()));
        }
        file.targets.append(&mut tally.targets);
        file.metric_rows = Some(read_metrics(&path)?.count() as u64);
        let (derived, _) = compare::derive_directory(&path)?;
        write_compare(&path, &derived.rows)?;
        // Last: a run that says it ended has its verdicts.
        file.write(&path)?;
        // What other processes add to is theirs as well.
        let is_own =
            file.parts.len() == 1 && file.invocation["shared"].is_null();
        let refused = is_own
            && !tally.interrupted
            && !tally.refusals.is_empty()
            && was_idle(&derived);
        let (exit, notes) = conclude(&tally, &path, self.options, refused);
        Ok(Report {
            directory: path,
            derived,
            doctor: self.diagnosis,
            exit,
            measured: tally.measured,
            wrong: tally.wrong,
            notes,
            refused,
        })
    }

    /// Runs the sessions, as far as they are to come.
    fn measure(
        &self,
        mut writer: RunWriter,
        done: &Done,
        progress: &mut Progress,
    ) -> Result<Tally, RunError> {
        let directory = writer.directory();
        let run_number = number_of(directory.run_id());
        // Beside the results, not among them: the same file system, and
        // nothing in the run directory that is no result.
        let home = directory.path().parent().unwrap_or(Path::new("."));
        let request = request(self.options, home, &self.planned, run_number);
        let trials = count_trials(&self.planned, self.options, done);
        let each = Duration::from_nanos(plan::trial_ns(self.options));
        progress.plan(trials as u64, each);
        let mut tally = Tally {
            measured: done.measured,
            wrong: done.wrong,
            failed: done.failed,
            skipped: done.skipped,
            ..Tally::default()
        };
        let mut stage = Stage {
            suites: self.suites,
            options: self.options,
            host: self.host,
            run_number,
            experiments: self.planned.len(),
            done,
            interrupts: &self.interrupts,
            writer: &mut writer,
            progress,
            tally: &mut tally,
        };
        for session in 1..=self.options.sessions {
            let session = u32::try_from(session).unwrap_or(u32::MAX);
            stage.session(session, &self.planned, &request)?;
            if stage.tally.interrupted {
                break;
            }
        }
        Ok(tally)
    }
}

/// Whether no trial was started.
fn was_idle(derived: &Derived) -> bool {
    let mut variants = derived.experiments.iter().flat_map(|e| &e.variants);
    variants.all(|variant| variant.skipped.is_some())
}

/// The run as a number that is written into what is moved, so that data of
/// another run is never taken for ours.
fn number_of(run_id: &str) -> u64 {
    mix(run_id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }))
}

/// The worst that happened decides the exit code. The notes begin with what
/// was refused; of a run that was `refused` as a whole they hold nothing else.
fn conclude(
    tally: &Tally,
    path: &Path,
    options: &RunOptions,
    refused: bool,
) -> (Exit, Vec<String>) {
    let mut notes: Vec<String> = Vec::new();
    for refusal in &tally.refusals {
        // Each session is refused anew.
        let note = refusal.to_string();
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    if refused {
        let worst = tally.refusals.iter().map(|r| r.kind.into()).max();
        return (worst.unwrap_or(Exit::Environment), notes);
    }
    notes.extend(tally.given_up.iter().cloned());
    notes.extend(
        tally.unfinished.iter().map(|line| {
            format!("{line}; quieten the machine and run it again")
        }),
    );
    if tally.failed > 0 {
        notes.push(format!(
            "{} trials ended with an op that failed; trials.csv says which, \
             with errno, offset and length",
            tally.failed
        ));
    }
    let exit = if tally.interrupted {
        let again = match options.allow_destroy {
            // The word itself stays out of what is printed and kept.
            Some(_) => " --allow-destroy WORD",
            None => "",
        };
        notes.push(format!(
            "interrupted; go on with: bypass run --resume '{}'{again}",
            path.display()
        ));
        Exit::Interrupted
    } else if tally.refusals.iter().any(|r| r.kind == RefusalKind::UnsafeTarget)
    {
        Exit::UnsafeTarget
    } else if tally.refusals.iter().any(|r| r.kind == RefusalKind::Usage) {
        Exit::Usage
    } else if tally.wrong > 0 {
        notes.insert(
            0,
            format!(
                "{} trials returned wrong data: the kernel, the device or \
                 this program is at fault; see their reasons in trials.csv",
                tally.wrong
            ),
        );
        Exit::Measurement
    } else if tally.failed > 0
        || !tally.unfinished.is_empty()
        || !tally.given_up.is_empty()
    {
        Exit::Measurement
    } else if tally.measured == 0 && tally.skipped > 0 {
        notes.push("nothing could run here; see the reasons above".to_owned());
        Exit::Environment
    } else {
        Exit::Done
    };
    (exit, notes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{run::options::Mode, suite::Refusal};

    fn exit(tally: &Tally) -> Exit {
        let options = RunOptions::new(Mode::Quick, 1);
        conclude(tally, Path::new("/tmp/x"), &options, false).0
    }

    #[test]
    fn the_worst_decides_the_exit_code() {
        let skips = || Tally { skipped: 2, ..Tally::default() };
        assert_eq!(exit(&skips()), Exit::Environment);
        assert_eq!(exit(&Tally { measured: 1, ..skips() }), Exit::Done);
        let wrong = Tally { wrong: 1, measured: 9, ..skips() };
        assert_eq!(exit(&wrong), Exit::Measurement);
        let failed = Tally { failed: 1, measured: 9, ..Tally::default() };
        assert_eq!(exit(&failed), Exit::Measurement);
        let stopped = Tally { interrupted: true, ..wrong };
        assert_eq!(exit(&stopped), Exit::Interrupted);
        let unsafe_target = Refusal {
            what: "x".into(),
            remedy: "y".into(),
            kind: RefusalKind::UnsafeTarget,
        };
        let refused =
            Tally { refusals: vec![unsafe_target], ..Tally::default() };
        assert_eq!(exit(&refused), Exit::UnsafeTarget);
    }
}
