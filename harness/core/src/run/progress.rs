//! Progress on standard error: a bar with ETA on a terminal, one plain line
//! per block elsewhere.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows how far a run is.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    started: Instant,
    done: u64,
    total: u64,
}

impl Progress {
    /// Of `total` trials.
    pub fn new(total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(
                Some(total),
                ProgressDrawTarget::stderr(),
            );
            // A constant template that the tests render.
            if let Ok(style) = ProgressStyle::with_template(
                "{bar:24} {percent:>3} %  {eta:>4} left  {msg}",
            ) {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, quiet: false, started: Instant::now(), done: 0, total }
    }

    /// Says nothing; for smoke passes and tests.
    pub fn silent() -> Self {
        Self {
            bar: None,
            quiet: true,
            started: Instant::now(),
            done: 0,
            total: 0,
        }
    }

    /// What is being measured now.
    pub fn show(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    /// One trial is done.
    pub fn trial(&mut self) {
        self.done += 1;
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// Trials that were not foreseen, as after an invalid block.
    pub fn extend(&mut self, trials: u64) {
        self.total += trials;
        if let Some(bar) = &self.bar {
            bar.set_length(self.total);
        }
    }

    /// A block is done.
    pub fn block(&self, line: &str) {
        if self.quiet {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_message(line.to_owned()),
            None => {
                let percent = 100 * self.done / self.total.max(1);
                eprintln!("[{percent:>3} %, {} left] {line}", self.left());
            }
        }
    }

    /// Something the person should read now.
    pub fn say(&self, line: &str) {
        if self.quiet {
            return;
        }
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn left(&self) -> String {
        if self.done == 0 {
            return "?".to_owned();
        }
        let elapsed = self.started.elapsed().as_secs_f64();
        let remaining = self.total.saturating_sub(self.done) as f64;
        human_duration(Duration::from_secs_f64(
            elapsed / self.done as f64 * remaining,
        ))
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
