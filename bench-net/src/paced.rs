//! Paced: side A sends frames at a set rate, side B receives.
//!
//! The receiver is measured; the sender is its peer on the second CPU and spins
//! until the next frame is due, also where the way itself sleeps: it is the
//! load generator. A frame's latency counts from the time at which it was *to*
//! be sent, which both threads work out from its number: they share the clock
//! and the instant of frame 0. What is sent and not delivered has to be found
//! among the drops that the kernel counts by name.

use std::{
    hint::spin_loop,
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use harness::{
    load::{
        closed::{self, Work},
        open::{Account, Generator, Pace},
        peer::{Peer, placement_evidence},
        wait::{Lifeline, Lost, Waiter},
    },
    measure::{
        clock::Clock,
        cost::thread_cpu_ns,
        recorder::Recorder,
        trial::{Evidence, Outcome, Trial, TrialError},
    },
};

use crate::{
    arrivals::Arrivals,
    frame::{Content, Direction, Series},
    lab::{Counts, Lab, Side, Wire},
    ledger::{Ledger, metric},
    rtt::{self, WAIT},
    settle::{self, Books},
    ways::{End, Link},
    wire,
};

/// The parameter that sets the rate.
pub const RATE_PER_S: &str = "rate_per_s";

/// From the first look of the receiver to frame 0, so that no frame is there
/// before it waits.
const HEAD_START_NS: u64 = 1_000_000;

/// How long frames on their way, and the sender, are waited for at the end; as
/// for frames that are looked for (`settle`).
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(1);

/// With more frames lost than that, the 99th percentile of those that arrived
/// says nothing of those that were sent.
const LOSS_PERCENT_MAX: u64 = 1;

/// Runs a trial of a link.
///
/// # Errors
/// There is no lab, frames stopped to come, or the account does not balance.
pub fn worker<L: Link>(trial: &Trial) -> Result<Outcome, TrialError> {
    let lab = Arc::new(Lab::new(&L::lab_spec(), &wire::of_trial(trial)?)?);
    closed::run(trial, rtt::shape(&lab), |_| Collector::<L>::start(trial, &lab))
}

/// The thread that receives.
#[derive(Debug)]
pub struct Collector<L: Link> {
    lab: Arc<Lab>,
    end: L::End,
    peer: Peer<Result<Sent, TrialError>>,
    word: Arc<Word>,
    clock: Clock,
    per_s: NonZeroU64,
    /// None before the first round.
    pace: Option<Pace>,
    /// CPU time of this thread before the first round.
    cpu_before_ns: u64,
    books: Books,
    series: Series,
    arrivals: Arrivals,
    evidence: Evidence,
}

/// What the receiver tells the sender.
#[derive(Debug, Default)]
struct Word {
    /// When frame 0 is to be sent; 0 until that is settled.
    start_ns: AtomicU64,
    stop: AtomicBool,
}

/// What the sender did.
#[derive(Debug)]
struct Sent {
    account: Account,
    own: Counts,
    evidence: Evidence,
    ended: Result<(), Lost>,
}

impl<L: Link> Collector<L> {
    /// Opens both ends, each on its own thread and side. No frame is sent
    /// before the first round.
    ///
    /// # Errors
    /// Either fails, or there is no rate.
    pub fn start(trial: &Trial, lab: &Arc<Lab>) -> Result<Self, TrialError> {
        let per_s = NonZeroU64::new(trial.number(RATE_PER_S)?)
            .ok_or_else(|| TrialError::setup("a rate of 0 frames/s"))?;
        let clock = trial.spec.clock;
        let series = Series::new(trial, Direction::There);
        let books = Books::open(lab)?;
        let lifeline = Lifeline::default();
        let waiter = Waiter::new(WAIT, &lifeline);
        lab.enter(Side::B)?;
        let end = L::open_one_way(lab, Side::B, &waiter)?;
        let mut evidence = placement_evidence(trial);
        if L::SPINNING {
            evidence.prove("wait", WAIT);
        }
        evidence.prove("generator", "spin");
        settle::prove_lab(lab, &mut evidence)?;
        let word = Arc::new(Word::default());
        let (told, theirs) = (Arc::clone(&word), Arc::clone(lab));
        let their_lifeline = lifeline.clone();
        let open = move || -> Result<_, TrialError> {
            theirs.enter(Side::A)?;
            let end = L::open_one_way(&theirs, Side::A, &waiter)?;
            theirs.wait_for_carrier()?;
            Ok(end)
        };
        let peer = Peer::start_open(trial, &lifeline, open, move |end| {
            send(end, series, per_s, clock, &told, &their_lifeline)
        })?;
        Ok(Self {
            lab: Arc::clone(lab),
            end,
            peer,
            word,
            clock,
            per_s,
            pace: None,
            cpu_before_ns: 0,
            books,
            series,
            arrivals: Arrivals::new(series),
            evidence,
        })
    }

    /// Settles when the first frame is to be sent.
    #[cold]
    fn begin(&mut self) -> Pace {
        let start_ns = self.clock.now_ns() + HEAD_START_NS;
        let pace = Pace::new(start_ns, self.per_s);
        self.pace = Some(pace);
        self.cpu_before_ns = own_cpu_ns();
        // It orders nothing: the number is all there is to it.
        self.word.start_ns.store(start_ns, Ordering::Relaxed);
        pace
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
        self.word.stop.store(true, Ordering::Relaxed);
        // To be joined is to be told to end, also with frames on their way.
        self.peer.ends_within(PATIENCE);
        let sent = self.peer.join()??;
        self.await_stragglers(sent.account.started)?;
        let Self { lab, end, books, arrivals, .. } = self;
        let [ledger] = books.settle(lab, |books| {
            drain(end, arrivals)?;
            // What is drained now was not counted as received before.
            let mut own = Counts::default();
            end.count(&mut own);
            let (frames, tally) = (sent.account.started, arrivals.tally);
            Ok([books.there::<L>(frames, tally, &sent.own, &own)])
        })?;
        Ok((sent, ledger))
    }

    /// Waits for the last of so many frames. A veth names what it drops, so
    /// that the account itself tells when to look again; what is still on its
    /// way over a wire would be booked as lost there.
    fn await_stragglers(&mut self, frames: u64) -> Result<(), TrialError> {
        if *self.lab.wire() == Wire::Veth {
            return Ok(());
        }
        let started = Instant::now();
        loop {
            drain(&mut self.end, &mut self.arrivals)?;
            if self.arrivals.tally.delivered >= frames
                || started.elapsed() > PATIENCE
            {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
    }
}

impl<L: Link> Work for Collector<L> {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        let pace = match self.pace {
            Some(pace) => pace,
            None => self.begin(),
        };
        loop {
            let payload = match self.end.receive() {
                Ok(payload) => payload,
                Err(lost) => return Err(self.explain(lost)),
            };
            self.arrivals.see(&payload);
            if let Content::Frame(number) = self.series.read(&payload) {
                let arrived_ns = recorder.stamp_ns();
                let due_ns = pace.due_ns(number);
                recorder.complete(1, arrived_ns.saturating_sub(due_ns));
                return Ok(());
            }
        }
    }

    fn finish(mut self) -> Result<Evidence, TrialError> {
        let cpu_ns = own_cpu_ns().saturating_sub(self.cpu_before_ns);
        let received = self.arrivals.tally.received();
        let (sent, ledger) = self.close()?;
        sent.ended.map_err(|lost| {
            TrialError::setup(format!("the sender gave up: {lost}; {ledger}"))
        })?;
        ledger.check()?;
        let mut evidence = self.evidence;
        self.end.prove(&mut evidence);
        settle::compare(&mut evidence, sent.evidence, Side::A);
        ledger.report(&mut evidence);
        report_loss(&ledger, &mut evidence);
        sent.account.report(&mut evidence);
        evidence.metrics.push(metric(
            "receiver_cpu_per_op",
            "ns",
            "lower",
            cpu_ns / received.max(1),
        ));
        evidence.verified_ops = self.arrivals.tally.delivered;
        Ok(evidence)
    }
}

/// Over the whole trial, with what lies before and after its window.
fn report_loss(ledger: &Ledger, evidence: &mut Evidence) {
    evidence.metrics.push(ledger.loss_percent());
    let (sent, dropped) = (ledger.sent(), ledger.dropped());
    if dropped.saturating_mul(100) > sent.saturating_mul(LOSS_PERCENT_MAX) {
        evidence.degraded.push(format!(
            "{dropped} of {sent} frames were dropped, latencies are those of \
             the others: {ledger}"
        ));
    }
}

fn own_cpu_ns() -> u64 {
    thread_cpu_ns(0).unwrap_or(0)
}

/// Receives what is there already.
fn drain<E: End>(
    end: &mut E,
    arrivals: &mut Arrivals,
) -> Result<(), TrialError> {
    loop {
        match end.try_receive() {
            Ok(Some(payload)) => arrivals.see(&payload),
            Ok(None) => return Ok(()),
            Err(lost) => {
                return Err(TrialError::setup(format!(
                    "the last frames: {lost}"
                )));
            }
        }
    }
}

/// Sends each frame when it is due, until told to stop.
fn send<E: End>(
    mut end: E,
    series: Series,
    per_s: NonZeroU64,
    clock: Clock,
    word: &Word,
    lifeline: &Lifeline,
) -> Sent {
    // A look at two lines that nobody writes to costs nothing beside the
    // clock.
    let ended = || word.stop.load(Ordering::Relaxed) || lifeline.is_cut();
    let start_ns = loop {
        match word.start_ns.load(Ordering::Relaxed) {
            0 if !ended() => spin_loop(),
            start_ns => break start_ns,
        }
    };
    let mut generator = Generator::new(Pace::new(start_ns, per_s));
    let ended = loop {
        let Some(number) = generator.wait(|| clock.now_ns(), ended) else {
            break Ok(());
        };
        let payload = series.payload(number);
        if let Err(lost) = end.send(&payload).and_then(|()| end.flush()) {
            break Err(lost);
        }
    };
    let account = generator.account(clock.now_ns());
    let ended = ended.and_then(|()| end.finish());
    let mut own = Counts::default();
    end.count(&mut own);
    let mut evidence = Evidence::default();
    end.prove(&mut evidence);
    Sent { account, own, evidence, ended }
}

#[cfg(test)]
#[path = "paced_tests.rs"]
mod tests;
