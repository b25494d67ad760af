//! Stream: side A sends as fast as it can, side B receives.
//!
//! The receiver is measured; the sender is its peer on the second CPU. An op
//! is a frame that was delivered and verified. What is sent and not delivered
//! has to be found among the drops that the kernel counts by name.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use harness::{
    load::{
        closed::{self, Work},
        peer::{Peer, placement_evidence},
        wait::{Lifeline, Lost, Wait, Waiter},
    },
    measure::{
        recorder::Recorder,
        trial::{Evidence, ExtraMetric, Outcome, Shape, Trial, TrialError},
    },
};

use crate::{
    arrivals::Arrivals,
    frame::{Direction, PAYLOAD_BYTES_U32, Series},
    lab::{Counts, Lab, Side},
    ledger::{Ledger, metric},
    settle::{self, Books},
    ways::{Flow, Numbered, Receiver, Sender},
    wire,
};

/// As for round trips: a frame is due within a microsecond.
pub const WAIT: Wait = Wait::Spin;

/// Frames of a round: 20 microseconds at 3 M/s, milliseconds when each has to
/// wake the receiver.
const FRAMES_PER_ROUND: u64 = 64;

/// Runs a trial of a flow.
///
/// # Errors
/// There is no lab, frames stopped to come, or the account does not balance.
pub fn worker<F: Flow>(trial: &Trial) -> Result<Outcome, TrialError> {
    let lab = Arc::new(Lab::new(&F::lab_spec(), &wire::of_trial(trial)?)?);
    closed::run(trial, shape::<F>(&lab)?, |_| Drain::<F>::start(trial, &lab))
}

/// How a trial puts its load on.
///
/// # Errors
/// A batch does not fit in memory: a mistake in the way.
pub fn shape<F: Flow>(lab: &Lab) -> Result<Shape, TrialError> {
    let batch = usize::try_from(F::BATCH)
        .map_err(|_| TrialError::setup("the batch is too large"))?;
    Ok(Shape {
        threads: 1,
        depth: batch,
        batch,
        op_bytes: lab.frame_bytes(PAYLOAD_BYTES_U32).into(),
        sampled_every: 0,
    })
}

/// The thread that receives.
#[derive(Debug)]
pub struct Drain<F: Flow> {
    lab: Arc<Lab>,
    receiver: F::Receiver,
    peer: Peer<Result<Sent, TrialError>>,
    stop: Arc<AtomicBool>,
    books: Books,
    arrivals: Arrivals,
    evidence: Evidence,
}

/// What the sender did.
#[derive(Debug)]
struct Sent {
    frames: u64,
    seconds: f64,
    own: Counts,
    evidence: Evidence,
    ended: Result<(), Lost>,
}

impl<F: Flow> Drain<F> {
    /// Opens both ends, each on its own thread and side, and lets frames flow.
    ///
    /// # Errors
    /// Either fails.
    pub fn start(trial: &Trial, lab: &Arc<Lab>) -> Result<Self, TrialError> {
        let mut evidence = placement_evidence(trial);
        let series = Series::new(trial, Direction::There);
        let books = Books::open(lab)?;
        let lifeline = Lifeline::default();
        let waiter = Waiter::new(WAIT, &lifeline);
        lab.enter(Side::B)?;
        let receiver = F::receiver(lab, &waiter)?;
        if F::SPINNING {
            evidence.prove("wait", WAIT);
        }
        settle::prove_lab(lab, &mut evidence)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (told, theirs) = (Arc::clone(&stop), Arc::clone(lab));
        let their_lifeline = lifeline.clone();
        let open = move || -> Result<_, TrialError> {
            theirs.enter(Side::A)?;
            let sender = F::sender(&theirs, &waiter)?;
            theirs.wait_for_carrier()?;
            Ok(sender)
        };
        let peer = Peer::start_open(trial, &lifeline, open, move |sender| {
            send::<F>(sender, Numbered::new(series), &told, &their_lifeline)
        })?;
        Ok(Self {
            lab: Arc::clone(lab),
            receiver,
            peer,
            stop,
            books,
            arrivals: Arrivals::new(series),
            evidence,
        })
    }

    /// Frames stopped to come: says what became of them.
    #[cold]
    fn explain(&mut self, lost: Lost) -> TrialError {
        let number = self.arrivals.next();
        settle::explain(number, lost, || {
            let (sent, ledger) = self.close()?;
            Ok((sent.ended, ledger))
        })
    }

    /// Stops the sender, receives what is left and makes the account.
    fn close(&mut self) -> Result<(Sent, Ledger), TrialError> {
        // It orders nothing: the join below does.
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.peer.join()??;
        let Self { lab, receiver, books, arrivals, .. } = self;
        let [ledger] = books.settle(lab, |books| {
            receiver.drain(arrivals).map_err(|lost| {
                TrialError::setup(format!("the last frames: {lost}"))
            })?;
            // What is drained now was not counted as received before.
            let mut own = Counts::default();
            receiver.count(&mut own);
            let tally = arrivals.tally;
            Ok([books.there::<F>(sent.frames, tally, &sent.own, &own)])
        })?;
        Ok((sent, ledger))
    }
}

impl<F: Flow> Work for Drain<F> {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        let before = self.arrivals.tally.delivered;
        while self.arrivals.tally.delivered - before < FRAMES_PER_ROUND {
            if let Err(lost) = self.receiver.receive(&mut self.arrivals) {
                return Err(self.explain(lost));
            }
        }
        recorder.stamp_ns();
        recorder.count(self.arrivals.tally.delivered - before);
        Ok(())
    }

    fn finish(mut self) -> Result<Evidence, TrialError> {
        let (sent, ledger) = self.close()?;
        sent.ended.map_err(|lost| {
            TrialError::setup(format!("the sender gave up: {lost}; {ledger}"))
        })?;
        ledger.check()?;
        let mut evidence = self.evidence;
        // Now: how often a request had to be armed is known at the end.
        self.receiver.prove(&mut evidence);
        evidence.absorb(sent.evidence);
        ledger.report(&mut evidence);
        report_rates(&ledger, sent.seconds, &mut evidence);
        evidence.verified_ops = self.arrivals.tally.delivered;
        Ok(evidence)
    }
}

/// Over the whole trial, with what lies before and after its window.
fn report_rates(ledger: &Ledger, seconds: f64, evidence: &mut Evidence) {
    let sent = metric("sent_per_s", "frames/s", "none", ledger.sent());
    evidence.metrics.extend([
        ExtraMetric { value: sent.value / seconds, ..sent },
        ledger.loss_percent(),
    ]);
}

/// Sends until told to stop.
fn send<F: Flow>(
    mut sender: F::Sender,
    mut frames: Numbered,
    stop: &AtomicBool,
    lifeline: &Lifeline,
) -> Sent {
    let started = Instant::now();
    let ended = loop {
        // A look at two lines that nobody writes to costs nothing beside a
        // system call.
        if stop.load(Ordering::Relaxed) || lifeline.is_cut() {
            break sender.finish();
        }
        match sender.send(&mut frames) {
            Ok(()) => {}
            Err(lost) => break Err(lost),
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    let mut own = Counts::default();
    sender.count(&mut own);
    let mut evidence = Evidence::default();
    sender.prove(&mut evidence);
    Sent { frames: frames.taken(), seconds, own, evidence, ended }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
