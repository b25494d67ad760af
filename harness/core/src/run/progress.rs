//! Progress on standard error: a bar with ETA on a terminal, one plain line
//! per block elsewhere, one JSON object per block for programs.
//!
//! The bar moves when a trial ends. It has no ticker of its own: that would be
//! a thread that wakes on the CPUs being measured.

use std::{
    io::IsTerminal,
    ops::ControlFlow,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::{eta::Eta, interrupt::Interrupts, output::tell};
use crate::suite::Meanwhile;

/// Between two lines about setting up: who reads them later wants few.
const SETTING_UP_EVERY: Duration = Duration::from_secs(10);

/// Shows how far a run is.
#[derive(Clone, Debug)]
pub struct Progress {
    form: Form,
    eta: Eta,
    started: Instant,
    trial_begun: Instant,
    /// When something was last said about setting up.
    set_up_told: Instant,
}

#[derive(Clone, Debug)]
enum Form {
    Bar(ProgressBar),
    Lines,
    Json,
    Silent,
}

impl Default for Progress {
    /// A bar on a terminal that can draw one, lines elsewhere.
    fn default() -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if std::io::stderr().is_terminal() && !dumb {
            Self::of(Form::Bar(bar()))
        } else {
            Self::lines()
        }
    }
}

impl Progress {
    /// One plain line per block.
    pub fn lines() -> Self {
        Self::of(Form::Lines)
    }

    /// One JSON object per line.
    pub fn json() -> Self {
        Self::of(Form::Json)
    }

    /// Says nothing; for smoke passes and tests.
    pub fn silent() -> Self {
        Self::of(Form::Silent)
    }

    fn of(form: Form) -> Self {
        let now = Instant::now();
        let eta = Eta::new(0, Duration::ZERO);
        Self { form, eta, started: now, trial_begun: now, set_up_told: now }
    }

    /// The run has `trials`, each of which should take `each`.
    pub fn plan(&mut self, trials: u64, each: Duration) {
        self.eta = Eta::new(trials, each);
        self.started = Instant::now();
        self.draw();
    }

    /// What is being measured now.
    pub fn show(&mut self, what: &str) {
        self.trial_begun = Instant::now();
        if let Form::Bar(bar) = &self.form {
            bar.set_message(what.to_owned());
        }
    }

    /// A suite begins to set up, and tells of it meanwhile.
    pub fn set_up(
        &mut self,
        suite: &'static str,
        interrupts: &Interrupts,
    ) -> Meanwhile {
        self.set_up_told = Instant::now();
        self.show(&format!("{suite}: setting up"));
        let progress = Mutex::new(self.clone());
        let interrupts = interrupts.clone();
        Meanwhile::new(move |line| {
            progress
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .setting_up(&format!("{suite}: {line}"));
            match interrupts.after_block() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })
    }

    /// How far setting up is: on a bar at once, elsewhere in a line now and
    /// then.
    fn setting_up(&mut self, line: &str) {
        let is_new = self.set_up_told.elapsed() < SETTING_UP_EVERY;
        match &self.form {
            Form::Silent => return,
            Form::Bar(bar) => bar.set_message(line.to_owned()),
            _ if is_new => return,
            Form::Lines => tell(line),
            Form::Json => tell(json!({ "event": "setup", "line": line })),
        }
        self.set_up_told = Instant::now();
    }

    /// The trial that was shown last is done.
    pub fn trial(&mut self) {
        self.eta.trial(self.trial_begun.elapsed());
        self.draw();
    }

    /// Trials that were for nothing and are to be done again.
    pub fn extend(&mut self, trials: u64) {
        self.eta.again(trials);
        self.draw();
    }

    /// An experiment begins that was planned with so many trials.
    pub fn begin(&mut self, trials: u64) {
        self.eta.begin(trials);
    }

    /// It has no more than so many trials to come.
    pub fn at_most(&mut self, trials: u64) {
        self.eta.at_most(trials);
        self.draw();
    }

    /// A block is done.
    pub fn block(&self, line: &str) {
        let (done, total) = (self.eta.done(), self.eta.total());
        let (elapsed, left) = (self.started.elapsed(), self.eta.left());
        match &self.form {
            Form::Silent => {}
            Form::Bar(bar) => bar.set_message(line.to_owned()),
            Form::Lines => {
                let percent = 100 * done / total.max(1);
                let elapsed = human_duration(elapsed);
                let left = human_duration(left);
                tell(format_args!(
                    "[{percent:>3} %, {elapsed}, {left} left] {line}"
                ));
            }
            Form::Json => tell(json!({
                "event": "block",
                "trials_done": done,
                "trials_total": total,
                "elapsed_s": elapsed.as_secs_f64(),
                "left_s": left.as_secs_f64(),
                "line": line,
            })),
        }
    }

    /// Something the person should read now.
    pub fn say(&self, line: &str) {
        match &self.form {
            Form::Silent => {}
            Form::Bar(bar) => bar.suspend(|| tell(line)),
            Form::Lines => tell(line),
            Form::Json => tell(json!({ "event": "note", "line": line })),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }

    fn draw(&self) {
        if let Form::Bar(bar) = &self.form {
            bar.set_length(self.eta.total());
            bar.set_position(self.eta.done());
            bar.set_prefix(human_duration(self.eta.left()));
        }
    }
}

fn bar() -> ProgressBar {
    let target = ProgressDrawTarget::stderr();
    let bar = ProgressBar::with_draw_target(Some(0), target);
    // Without colours, so that NO_COLOR has nothing to take away. A constant
    // template that the tests render.
    match ProgressStyle::with_template(
        "{bar:24} {percent:>3} %  {prefix} left  {wide_msg}",
    ) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// `45 s`, `3 min 20 s`, `2 h 5 min`.
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_a_person_says_them() {
        let say = |s| human_duration(Duration::from_secs(s));
        assert_eq!(say(45), "45 s");
        assert_eq!(say(200), "3 min 20 s");
        assert_eq!(say(7_500), "2 h 5 min");
    }
}
