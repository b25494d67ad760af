//! The thread at the other end, pinned to the trial's second CPU.

use std::{
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    machine::{
        cpu_set::{Cpu, CpuSet},
        placement,
        topology::Topology,
    },
    measure::trial::{Evidence, Trial, TrialError},
};

use super::wait::Lifeline;

/// Between two looks at a thread that is about to end.
const PAUSE: Duration = Duration::from_micros(100);

/// A running thread that ends when its end of the queue closes or the lifeline
/// is cut. Dropping it cuts the lifeline and waits for the thread: whoever
/// owns an end of a queue that sleeps has to drop that end first.
#[derive(Debug)]
pub struct Peer<R> {
    thread: Option<JoinHandle<R>>,
    lifeline: Lifeline,
}

impl<R: Send + 'static> Peer<R> {
    /// Starts `body` on the trial's second CPU and waits until it is there.
    ///
    /// # Errors
    /// There is no second CPU, or the thread cannot be started or pinned.
    pub fn start(
        trial: &Trial,
        lifeline: &Lifeline,
        body: impl FnOnce() -> R + Send + 'static,
    ) -> Result<Self, TrialError> {
        let [_, cpu, ..] = *trial.cpus() else {
            return Err(TrialError::setup(format!(
                "{} CPU for a trial of two threads; allow two",
                trial.cpus().len()
            )));
        };
        let (ready, pinned) = mpsc::channel();
        let cut_at_end = CutAtEnd(lifeline.clone());
        let thread = thread::Builder::new()
            .name("peer".to_owned())
            .spawn(move || {
                let _cut_at_end = cut_at_end;
                // The receiver waits for this; it cannot be gone.
                let _ = ready.send(pin(cpu));
                drop(ready);
                body()
            })
            .map_err(|error| {
                TrialError::setup(format!("starting the peer thread: {error}"))
            })?;
        let peer = Self { thread: Some(thread), lifeline: lifeline.clone() };
        // A failed pin drops the peer, and its body ends by the lifeline.
        pinned.recv().unwrap_or_else(|_| {
            Err(TrialError::setup("the peer thread ended at once"))
        })?;
        Ok(peer)
    }

    /// Waits until the thread has ended by itself, but not longer than this,
    /// and says whether it has. A thread that still has to take what is on
    /// its way to it must not be told to end.
    pub fn ends_within(&self, patience: Duration) -> bool {
        let started = Instant::now();
        while !self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            if started.elapsed() > patience {
                return false;
            }
            thread::sleep(PAUSE);
        }
        true
    }

    /// Tells the thread to end and waits for what it has to say.
    ///
    /// # Errors
    /// It panicked, or was joined before.
    pub fn join(&mut self) -> Result<R, TrialError> {
        self.lifeline.cut();
        let thread = self.thread.take().ok_or_else(|| {
            TrialError::setup("the peer thread was joined before")
        })?;
        thread.join().map_err(|_| TrialError::setup("the peer thread panicked"))
    }
}

impl<S: Send + 'static> Peer<Result<S, TrialError>> {
    /// Starts `body` with what `open` opened there, and waits until it has.
    ///
    /// # Errors
    /// As `start`, or what `open` said.
    pub fn start_open<E>(
        trial: &Trial,
        lifeline: &Lifeline,
        open: impl FnOnce() -> Result<E, TrialError> + Send + 'static,
        body: impl FnOnce(E) -> S + Send + 'static,
    ) -> Result<Self, TrialError> {
        let (ready, opened) = mpsc::channel();
        let mut peer = Self::start(trial, lifeline, move || {
            let end = open()?;
            // The receiver waits for this; it cannot be gone.
            let _ = ready.send(());
            Ok(body(end))
        })?;
        if opened.recv().is_ok() {
            return Ok(peer);
        }
        Err(match peer.join() {
            Ok(Err(error)) | Err(error) => error,
            Ok(Ok(_)) => TrialError::setup("the peer ended at once"),
        })
    }
}

impl<R> Drop for Peer<R> {
    fn drop(&mut self) {
        self.lifeline.cut();
        if let Some(thread) = self.thread.take() {
            // A panic there has failed the trial already.
            let _ = thread.join();
        }
    }
}

/// Cuts the lifeline however the thread ends.
struct CutAtEnd(Lifeline);

impl Drop for CutAtEnd {
    fn drop(&mut self) {
        self.0.cut();
    }
}

fn pin(cpu: Cpu) -> Result<(), TrialError> {
    placement::pin_current_thread(&CpuSet::single(cpu))
        .map(|_| ())
        .map_err(|error| TrialError::setup(error.to_string()))
}

/// Evidence that says how near the trial's two CPUs are to each other.
pub fn placement_evidence(trial: &Trial) -> Evidence {
    let mut evidence = Evidence::default();
    if let (&[a, b, ..], Ok(topology)) =
        (trial.cpus(), Topology::read(&trial.root))
    {
        evidence.prove("placement", topology.relation(a, b));
    }
    evidence
}

#[cfg(test)]
mod tests {
    use std::hint::spin_loop;

    use super::*;
    use crate::{
        suite::Params,
        testing::{self, two_cpus},
    };

    fn trial(cpus: &[Cpu]) -> Trial {
        testing::trial("x/test", Params::new(), "x", cpus)
    }

    #[test]
    fn runs_on_the_second_cpu() {
        let Some(cpus) = two_cpus() else { return };
        let trial = trial(&cpus);
        let lifeline = Lifeline::default();
        let mut peer = Peer::start(&trial, &lifeline, placement::current_cpu)
            .expect("start");
        assert_eq!(peer.join(), Ok(Some(cpus[1])));
        assert!(lifeline.is_cut());
        assert!(peer.join().is_err(), "only once");
    }

    #[test]
    fn a_thread_that_ends_by_itself_is_not_told_to() {
        let Some(cpus) = two_cpus() else { return };
        let lifeline = Lifeline::default();
        let theirs = lifeline.clone();
        let (end, told) = mpsc::channel();
        let mut peer = Peer::start(&trial(&cpus), &lifeline, move || {
            let _ = told.recv();
            theirs.is_cut()
        })
        .expect("start");
        assert!(!peer.ends_within(Duration::from_millis(1)));
        assert!(!lifeline.is_cut());
        end.send(()).expect("the peer waits");
        assert!(peer.ends_within(Duration::from_secs(60)));
        assert_eq!(peer.join(), Ok(false));
    }

    #[test]
    fn what_opening_says_is_what_starting_says() {
        let Some(cpus) = two_cpus() else { return };
        let trial = trial(&cpus);
        let lifeline = Lifeline::default();
        let mut peer =
            Peer::start_open(&trial, &lifeline, || Ok(20), |x| 2 * x)
                .expect("start");
        assert_eq!(peer.join(), Ok(Ok(40)));
        let shut = || Err::<u32, _>(TrialError::setup("shut"));
        let error = Peer::start_open(&trial, &lifeline, shut, |x| x)
            .expect_err("not opened");
        assert!(error.to_string().contains("shut"), "{error}");
    }

    #[test]
    fn one_cpu_is_not_enough() {
        let trial = trial(&[Cpu(0)]);
        let error = Peer::start(&trial, &Lifeline::default(), || ())
            .expect_err("one CPU");
        assert!(error.to_string().contains("allow two"), "{error}");
    }

    #[test]
    fn a_cpu_that_is_not_there_is_an_error_and_no_hang() {
        let trial = trial(&[Cpu(0), Cpu(60_000)]);
        let lifeline = Lifeline::default();
        let theirs = lifeline.clone();
        let result = Peer::start(&trial, &lifeline, move || {
            while !theirs.is_cut() {
                spin_loop();
            }
        });
        assert!(result.is_err());
    }

    #[test]
    fn dropping_it_ends_it() {
        let Some(cpus) = two_cpus() else { return };
        let trial = trial(&cpus);
        let lifeline = Lifeline::default();
        let theirs = lifeline.clone();
        let peer = Peer::start(&trial, &lifeline, move || {
            while !theirs.is_cut() {
                thread::sleep(Duration::from_millis(1));
            }
        });
        drop(peer.expect("start"));
        assert!(lifeline.is_cut());
    }

    #[test]
    fn a_panic_cuts_the_lifeline() {
        let Some(cpus) = two_cpus() else { return };
        let trial = trial(&cpus);
        let lifeline = Lifeline::default();
        let mut peer: Peer<()> =
            Peer::start(&trial, &lifeline, || panic!("on purpose"))
                .expect("start");
        while !lifeline.is_cut() {
            thread::sleep(Duration::from_millis(1));
        }
        let error = peer.join().expect_err("panic");
        assert!(error.to_string().contains("panicked"), "{error}");
    }
}
