//! One session: everything set up anew, then each experiment block by block.

use std::{collections::VecDeque, time::Duration};

use results::{
    schema::{Status, TargetFacts},
    writer::{BlockRows, RunWriter, WriteError},
};

use super::{
    child::{self, Ending},
    host::Host,
    interrupt::Interrupts,
    options::{RunOptions, SLICE_NS},
    plan::{Planned, Slot},
    progress::Progress,
    resume::{Done, ExperimentDone, to_come},
    rows,
    tally::Tally,
    time,
};
use crate::{
    measure::trial::{Reply, TrialError, TrialSpec},
    suite::{
        Availability, Experiment, ProbeRequest, Refusal, Role, Session,
        SessionRequest, Suite, Variant,
    },
};

/// A variant that fails this often in a row has a reason of its own, and is
/// left out of the remaining blocks instead of voiding them all.
const FAILURES_IN_A_ROW: u32 = 3;

/// What a session needs from the run.
pub struct Stage<'a> {
    /// The suites of this program.
    pub suites: &'a [Suite],
    /// What was asked for.
    pub options: &'a RunOptions,
    /// The machine.
    pub host: &'a Host,
    /// Number of the run, for what is written and moved.
    pub run_number: u64,
    /// Experiments of the whole plan.
    pub experiments: usize,
    /// What an earlier process has done.
    pub done: &'a Done,
    /// Requests to stop.
    pub interrupts: &'a Interrupts,
    /// Where rows go.
    pub writer: &'a mut RunWriter,
    /// What the person sees meanwhile.
    pub progress: &'a mut Progress,
    /// What happened that decides the exit code.
    pub tally: &'a mut Tally,
}

impl Stage<'_> {
    /// Runs all planned experiments of one session, suite by suite.
    pub fn session(
        &mut self,
        session: u32,
        planned: &[Planned],
        request: &SessionRequest,
    ) -> Result<(), WriteError> {
        let mut indices: Vec<usize> = planned.iter().map(|p| p.suite).collect();
        indices.dedup();
        for index in indices {
            let experiments: Vec<&Planned> =
                planned.iter().filter(|p| p.suite == index).collect();
            self.suite(session, index, &experiments, request)?;
            if self.tally.interrupted {
                break;
            }
        }
        Ok(())
    }

    fn suite(
        &mut self,
        session: u32,
        index: usize,
        experiments: &[&Planned],
        request: &SessionRequest,
    ) -> Result<(), WriteError> {
        let suite = &self.suites[index];
        if experiments.iter().all(|p| self.is_complete(session, p)) {
            for planned in experiments {
                let done = self.done_of(session, planned);
                self.tell_given_up(&planned.experiment, &done);
            }
            return Ok(());
        }
        if self.is_stopped() {
            return Ok(());
        }
        let keys = experiments.iter().map(|p| p.experiment.key());
        let request = SessionRequest {
            experiments: keys.collect(),
            meanwhile: self.progress.set_up(suite.id, self.interrupts),
            ..request.clone()
        };
        let prepared = (suite.prepare)(&request);
        let prepared = match (prepared, self.is_stopped()) {
            (Ok(prepared), false) => prepared,
            (Ok(_), true) => return Ok(()),
            (Err(refusal), stopped) => {
                self.tell_refusal(suite.id, experiments.len(), &refusal);
                // Rows that say "skipped" would be resumed as such.
                if stopped {
                    return Ok(());
                }
                for planned in experiments {
                    self.begin(session, planned);
                    self.progress.at_most(0);
                    let lack = (&refusal.what, &refusal.remedy);
                    self.skip_all(session, planned, lack.0, lack.1)?;
                }
                self.tally.refusals.push(refusal);
                return Ok(());
            }
        };
        let facts = prepared.facts();
        if !facts.is_null() {
            let suite = suite.id.to_owned();
            self.tally.targets.push(TargetFacts { session, suite, facts });
        }
        for planned in experiments {
            self.begin(session, planned);
            self.experiment(session, planned, prepared.as_ref())?;
            if self.tally.interrupted {
                break;
            }
            self.progress.at_most(0);
        }
        Ok(())
    }

    /// Says at once what is left out; if nothing else is planned, the run
    /// ends with it as its error.
    fn tell_refusal(&mut self, what: &str, count: usize, refusal: &Refusal) {
        if count < self.experiments {
            self.progress.say(&format!("{what}: {refusal}"));
        }
    }

    /// Whether to stop before the next thing begins.
    fn is_stopped(&mut self) -> bool {
        self.tally.interrupted |= self.interrupts.after_block();
        self.tally.interrupted
    }

    fn is_complete(&self, session: u32, planned: &Planned) -> bool {
        let done = self.done_of(session, planned);
        done.valid() >= self.options.blocks
    }

    fn done_of(&self, session: u32, planned: &Planned) -> ExperimentDone {
        let params = planned.experiment.params.to_string();
        self.done.experiment(session, planned.experiment.name(), &params)
    }

    fn begin(&mut self, session: u32, planned: &Planned) {
        let done = self.done_of(session, planned);
        let trials = to_come(planned, &done, session, self.options);
        self.progress.begin(trials as u64);
    }

    fn experiment(
        &mut self,
        session: u32,
        planned: &Planned,
        prepared: &dyn Session,
    ) -> Result<(), WriteError> {
        if self.is_complete(session, planned) {
            let done = self.done_of(session, planned);
            self.tell_given_up(&planned.experiment, &done);
            return Ok(());
        }
        if let Some((reason, remedy)) = &planned.lack {
            return self.skip_all(session, planned, reason, remedy);
        }
        let prepared = match prepared.own(&planned.experiment.key()) {
            Ok(own) => own.unwrap_or(prepared),
            Err(refusal) => {
                let key = planned.experiment.key();
                self.tell_refusal(&key, 1, &refusal);
                let lack = (&refusal.what, &refusal.remedy);
                self.skip_all(session, planned, lack.0, lack.1)?;
                if self.options.asks_for(&planned.experiment) {
                    self.tally.refusals.push(refusal);
                }
                return Ok(());
            }
        };
        let target = prepared.target();
        let available = self.probe(session, planned, &target)?;
        let variants = &planned.experiment.variants;
        if !is_worth_running(variants, available.iter().map(|i| &variants[*i]))
        {
            return Ok(());
        }
        let label = prepared.label();
        let mut blocks = ExperimentRun {
            stage: self,
            session,
            planned,
            available,
            target,
            label,
        };
        blocks.run()
    }

    /// Notes the variants that did nothing but fail.
    fn tell_given_up(
        &mut self,
        experiment: &Experiment,
        done: &ExperimentDone,
    ) {
        for variant in &experiment.variants {
            if given_up(variant, done) {
                self.tally.given_up.push(format!(
                    "{} {}: left out after {FAILURES_IN_A_ROW} failures in a \
                     row; `reasons` in trials.csv tells why",
                    experiment.key(),
                    variant.id
                ));
            }
        }
    }

    /// Asks each variant; writes a row for each that cannot run. Without its
    /// baseline, or with nothing to compare, an experiment is skipped whole.
    fn probe(
        &mut self,
        session: u32,
        planned: &Planned,
        target: &serde_json::Value,
    ) -> Result<Vec<usize>, WriteError> {
        let experiment = &planned.experiment;
        let request =
            ProbeRequest::new(&experiment.params, &planned.cpus, target);
        let done = self.done_of(session, planned);
        if done.is_begun() {
            // The order must stay what it was: a variant that has gone since
            // fails in its trials, one that has come stays out.
            let is_in =
                |i: &usize| !done.skipped.contains(experiment.variants[*i].id);
            return Ok((0..experiment.variants.len()).filter(is_in).collect());
        }
        let mut available = Vec::new();
        let mut missing = Vec::new();
        for (index, variant) in experiment.variants.iter().enumerate() {
            match (variant.probe)(&request) {
                Availability::Unavailable { reason, remedy } => {
                    missing.push((index, reason, remedy));
                }
                // What no probe can tell, its trials do.
                _ => available.push(index),
            }
        }
        if !done.skipped.is_empty() {
            return Ok(available);
        }
        let variants = &experiment.variants;
        if !is_worth_running(variants, available.iter().map(|i| &variants[*i]))
        {
            // What could run and will not is told as well.
            let has_baseline =
                available.iter().any(|i| variants[*i].role == Role::Baseline);
            let reason = match has_baseline {
                true => "nothing that it could be compared with runs here",
                false => "the baseline does not run here",
            };
            let remedy = "see the reasons of the others";
            missing.extend(
                available.drain(..).map(|i| (i, reason.into(), remedy.into())),
            );
        }
        self.tally.skipped += missing.len();
        let mut rows = self.writer.block();
        for (index, reason, remedy) in &missing {
            rows.push_trial(rows::skipped(
                self.suites[planned.suite].id,
                experiment,
                &experiment.variants[*index],
                session,
                reason,
                remedy,
            ));
        }
        if !missing.is_empty() {
            self.append(rows)?;
        }
        Ok(available)
    }

    fn skip_all(
        &mut self,
        session: u32,
        planned: &Planned,
        reason: &str,
        remedy: &str,
    ) -> Result<(), WriteError> {
        let done = self.done_of(session, planned);
        if done.is_begun() {
            // Rows that say "skipped" beside measured ones would spoil these.
            if !self.is_complete(session, planned) {
                self.tally.given_up.push(format!(
                    "{}: {} of {} blocks valid, not gone on with: {reason}; \
                     {remedy}",
                    planned.experiment.key(),
                    done.valid(),
                    self.options.blocks
                ));
            }
            return Ok(());
        }
        if !done.skipped.is_empty() {
            return Ok(());
        }
        let mut rows = self.writer.block();
        for variant in &planned.experiment.variants {
            self.tally.skipped += 1;
            rows.push_trial(rows::skipped(
                self.suites[planned.suite].id,
                &planned.experiment,
                variant,
                session,
                reason,
                remedy,
            ));
        }
        self.append(rows)
    }

    /// Writes a block. What was emulated says so on each row, since rows are
    /// read without the run's other files.
    fn append(&mut self, mut rows: BlockRows) -> Result<(), WriteError> {
        if self.host.environment.virtualization.is_emulated() {
            rows.prove("machine", "emulated");
        }
        self.writer.append_block(rows)
    }
}

/// The blocks of one experiment in one session.
struct ExperimentRun<'a, 'b> {
    stage: &'a mut Stage<'b>,
    session: u32,
    planned: &'a Planned,
    available: Vec<usize>,
    target: serde_json::Value,
    label: String,
}

impl ExperimentRun<'_, '_> {
    fn run(&mut self) -> Result<(), WriteError> {
        let options = self.stage.options;
        let session = usize::try_from(self.session).unwrap_or(usize::MAX);
        let orders = self.planned.orders(&self.available, session, options);
        let mut done = self.stage.done_of(self.session, self.planned);
        // What failed before may work now: an earlier process's failures do
        // not leave a variant out for ever.
        done.failures.clear();
        // Half as many trials again may be run again; then it is the machine.
        let planned: usize = orders.iter().map(Vec::len).sum();
        let budget = match options.smoke {
            true => 0,
            false => u32::try_from(planned.div_ceil(2)).unwrap_or(u32::MAX),
        };
        let mut queue: VecDeque<u32> = (1..)
            .take(orders.len())
            .filter(|block| done.next_attempt(*block).1)
            .collect();
        let again_before = done.trials_again();
        let mut line: Option<String> = None;
        loop {
            if done.trials_again() - again_before >= budget {
                queue.retain(|block| done.next_attempt(*block).0 == 1);
            }
            self.expect(&queue, &orders, &done);
            if let Some(line) = line.take() {
                self.stage.progress.block(&line);
            }
            let Some(block) = queue.pop_front() else { break };
            if self.stage.is_stopped() {
                return Ok(());
            }
            if !self.can_compare(&done) {
                break;
            }
            let (attempt, _) = done.next_attempt(block);
            // Block numbers come from the range of `orders`.
            let order = &orders[block as usize - 1];
            line = self.block(block, attempt, order, &mut done)?;
            if line.is_none() {
                self.stage.tally.interrupted = true;
                return Ok(());
            }
            if done.next_attempt(block).1 {
                queue.push_back(block);
            }
        }
        // A request during the last block still ends the run here.
        if self.stage.is_stopped() {
            return Ok(());
        }
        if done.valid() < options.blocks {
            let key = self.planned.experiment.key();
            self.stage.tally.unfinished.push(format!(
                "{key}: {} of {} blocks valid",
                done.valid(),
                options.blocks
            ));
        }
        self.stage.tell_given_up(&self.planned.experiment, &done);
        Ok(())
    }

    /// Tells what is to come: neither what is missing here nor what has been
    /// left out.
    fn expect(
        &mut self,
        queue: &VecDeque<u32>,
        orders: &[Vec<Slot>],
        done: &ExperimentDone,
    ) {
        let variants = &self.planned.experiment.variants;
        let blocks = queue.iter().map(|block| &orders[*block as usize - 1]);
        let trials = match self.can_compare(done) {
            true => blocks
                .flatten()
                .filter(|slot| !given_up(&variants[slot.variant], done))
                .count(),
            false => 0,
        };
        self.stage.progress.at_most(trials as u64);
    }

    fn can_compare(&self, done: &ExperimentDone) -> bool {
        let variants = &self.planned.experiment.variants;
        let available = self.available.iter().map(|index| &variants[*index]);
        is_worth_running(variants, available.filter(|v| !given_up(v, done)))
    }

    /// Runs one block and says how it went; nothing if the person wants to
    /// stop now, and then nothing of it is kept.
    fn block(
        &mut self,
        block: u32,
        attempt: u32,
        order: &[Slot],
        done: &mut ExperimentDone,
    ) -> Result<Option<String>, WriteError> {
        let mut rows = self.stage.writer.block();
        let mut endings = Vec::with_capacity(order.len());
        for slot in order {
            let variant = &self.planned.experiment.variants[slot.variant];
            if given_up(variant, done) {
                continue;
            }
            let spec = self.spec(slot, block, rows.next_trial());
            let name = self.planned.experiment.key();
            self.stage.progress.show(&format!("{name} {}", variant.id));
            let at = time::since_epoch();
            let grace = Duration::from_nanos(self.stage.options.grace_ns);
            let ending = child::run(&spec, grace, self.stage.interrupts);
            if matches!(ending, Ending::Interrupted) {
                return Ok(None);
            }
            let context = rows::Context {
                session: self.session,
                block,
                attempt,
                experiment: &self.planned.experiment,
                variant,
                twin: slot.twin,
                target: &self.label,
                spec: &spec,
                started_at_utc: time::rfc3339(at),
                started_since_epoch: at,
            };
            let status = rows::push(&mut rows, &context, &ending)?;
            self.stage.tally.failed += usize::from(has_failed_op(&ending));
            endings.push((variant, status));
            self.stage.progress.trial();
            let is_void = variant.role != Role::Bound && !status.is_usable();
            if is_void && !self.stage.options.smoke {
                // The block is void: the rest of it would be thrown away, and
                // what was done is to be done again.
                self.stage.progress.extend(endings.len() as u64);
                break;
            }
        }
        done.attempt(block, attempt);
        for (variant, status) in &endings {
            let bound = variant.role == Role::Bound;
            done.trial(block, variant.id, bound, *status);
            self.count(*status);
        }
        let line = self.line(block, attempt, &rows);
        self.stage.append(rows)?;
        Ok(Some(line))
    }

    fn count(&mut self, status: Status) {
        let tally = &mut self.stage.tally;
        match status {
            Status::Wrong => tally.wrong += 1,
            status if status.is_usable() => tally.measured += 1,
            _ => {}
        }
    }

    fn line(&self, block: u32, attempt: u32, rows: &BlockRows) -> String {
        let mut line = format!(
            "{} block {block}/{}",
            self.planned.experiment.key(),
            self.stage.options.blocks
        );
        if self.stage.options.sessions > 1 {
            line.push_str(&format!(", session {}", self.session));
        }
        if attempt > 1 {
            line.push_str(&format!(", attempt {attempt}"));
        }
        let void = rows.trials().iter().find(|row| {
            row.role != results::schema::Role::Bound && !row.status.is_usable()
        });
        match void {
            None => line.push_str(": valid"),
            Some(row) => line.push_str(&format!(
                ": void, {} {}: {}",
                row.variant, row.status, row.reasons
            )),
        }
        line
    }

    fn spec(&self, slot: &Slot, block: u32, trial: u64) -> TrialSpec {
        let stage = &self.stage;
        let experiment = &self.planned.experiment;
        let (session, block) = (self.session as usize, block as usize);
        TrialSpec {
            run_id: stage.run_number,
            trial,
            suite: stage.suites[self.planned.suite].id.to_owned(),
            experiment: experiment.id.to_owned(),
            params: experiment.params.clone(),
            variant: experiment.variants[slot.variant].id.to_owned(),
            seed: self.planned.seed(stage.options.seed, session, block),
            cpus: self.planned.cpus.clone(),
            numa_node: self.planned.numa_node,
            warmup_ns: stage.options.warmup_ns,
            window_ns: stage.options.window_ns,
            slice_ns: SLICE_NS,
            clock: stage.host.clock,
            irq_accounting: stage.host.environment.irq_accounting,
            target: self.target.clone(),
        }
    }
}

/// Whether a baseline is left, and something to compare with it; a baseline
/// that was asked for alone stands for itself.
pub(super) fn is_worth_running<'a>(
    asked_for: &[Variant],
    left: impl Iterator<Item = &'a Variant> + Clone,
) -> bool {
    let is_left = |role| left.clone().any(|v| v.role == role);
    let is_alone = asked_for.iter().all(|v| v.role != Role::Contender);
    is_left(Role::Baseline) && (is_alone || is_left(Role::Contender))
}

fn has_failed_op(ending: &Ending) -> bool {
    let Ending::Replied { reply: Reply::Failed(error), .. } = ending else {
        return false;
    };
    matches!(error, TrialError::Op { .. })
}

/// Whether a variant is left out because it does nothing but fail.
fn given_up(variant: &Variant, done: &ExperimentDone) -> bool {
    done.failures
        .get(variant.id)
        .is_some_and(|failures| *failures >= FAILURES_IN_A_ROW)
}
