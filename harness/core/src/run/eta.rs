//! How long a run still takes, from the trials it has measured.

use std::time::Duration;

/// Trials that a run may do again, as a share of those planned (see
/// `session`): no estimate may exceed what can happen.
const AGAIN_MAX: f64 = 0.5;

/// Counts trials and estimates the time of those to come.
#[derive(Clone, Debug)]
pub struct Eta {
    planned: u64,
    /// Of these, what the current experiment has still to do.
    of_experiment: u64,
    again: u64,
    done: u64,
    spent: Duration,
    guess: Duration,
}

impl Eta {
    /// Of a run of so many trials, each of which should take `guess`.
    pub fn new(planned: u64, guess: Duration) -> Self {
        let spent = Duration::ZERO;
        Self { planned, of_experiment: 0, again: 0, done: 0, spent, guess }
    }

    /// An experiment begins that was planned with so many trials.
    pub fn begin(&mut self, trials: u64) {
        self.of_experiment = trials;
    }

    /// A trial is done.
    pub fn trial(&mut self, took: Duration) {
        self.done += 1;
        self.of_experiment = self.of_experiment.saturating_sub(1);
        self.spent += took;
    }

    /// So many trials were for nothing and are to be done again.
    pub fn again(&mut self, trials: u64) {
        self.again += trials;
        self.of_experiment += trials;
    }

    /// The current experiment has no more than so many trials to come: what
    /// was planned beyond will not be done.
    pub fn at_most(&mut self, trials: u64) {
        let dropped = self.of_experiment.saturating_sub(trials);
        self.of_experiment -= dropped;
        self.planned = self.planned.saturating_sub(dropped);
    }

    /// Trials done, those for nothing included.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Trials of the whole run as far as is known.
    pub fn total(&self) -> u64 {
        self.planned + self.again
    }

    /// The time that is left: the trials to come, those among them that will
    /// be for nothing if void blocks stay as frequent as they were, each as
    /// long as the ones so far. Setting up a session is not in it.
    pub fn left(&self) -> Duration {
        let each = match self.done {
            0 => self.guess.as_secs_f64(),
            done => self.spent.as_secs_f64() / done as f64,
        };
        let left = self.total().saturating_sub(self.done) as f64;
        Duration::from_secs_f64(each * (left + self.to_come_again(left)))
    }

    /// Each trial is for nothing with the share seen so far, and so is each
    /// that replaces it.
    fn to_come_again(&self, left: f64) -> f64 {
        let share = self.again as f64 / self.done.max(1) as f64;
        let expected = left * share / (1.0 - share).max(1e-9);
        let room = AGAIN_MAX * self.planned as f64 - self.again as f64;
        expected.min(room).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn before_the_first_trial_the_plan_tells() {
        assert_eq!(Eta::new(30, 2 * SECOND).left(), 60 * SECOND);
    }

    #[test]
    fn measured_durations_replace_the_guess() {
        let mut eta = Eta::new(30, 2 * SECOND);
        for _ in 0..10 {
            eta.trial(3 * SECOND);
        }
        assert_eq!(eta.left(), 60 * SECOND);
        for _ in 0..20 {
            eta.trial(3 * SECOND);
        }
        assert_eq!(eta.left(), Duration::ZERO);
    }

    #[test]
    fn void_blocks_are_expected_to_go_on() {
        let mut eta = Eta::new(100, SECOND);
        for _ in 0..20 {
            eta.trial(SECOND);
        }
        // A fifth was for nothing: 84 are left and a quarter of them again.
        eta.again(4);
        assert_eq!(eta.total(), 104);
        assert_eq!(eta.left(), 105 * SECOND);
    }

    #[test]
    fn what_will_not_be_done_takes_no_time() {
        let mut eta = Eta::new(30, SECOND);
        eta.begin(20);
        eta.trial(SECOND);
        // One variant of the experiment is missing; said twice, it counts once.
        eta.at_most(9);
        eta.at_most(9);
        assert_eq!((eta.total(), eta.done()), (20, 1));
        // A block of four is for nothing, and then the rest is left out.
        eta.again(4);
        eta.at_most(13);
        assert_eq!(eta.total(), 24);
        eta.at_most(0);
        assert_eq!(eta.total(), 11);
        eta.begin(10);
        assert_eq!(eta.total(), 11);
    }

    #[test]
    fn no_more_is_expected_than_the_run_allows() {
        let mut eta = Eta::new(100, SECOND);
        for _ in 0..20 {
            eta.trial(SECOND);
        }
        eta.again(20);
        assert_eq!(eta.left(), (100 + 30) * SECOND);
        assert_eq!(Eta::new(0, SECOND).left(), Duration::ZERO);
    }
}
