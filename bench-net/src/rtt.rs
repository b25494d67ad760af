//! Round trips: a frame goes to the other side and its answer comes back.
//!
//! The thread on side A asks and is measured; the one on side B answers. Each
//! answer must carry the number of its question: one that answers an older
//! question is counted as stale and not taken, so that no round trip can end
//! with the frame of another.

use std::{sync::Arc, time::Duration};

use harness::{
    load::{
        closed::{self, Work},
        peer::{Peer, placement_evidence},
        wait::{Lifeline, Lost, Wait, Waiter},
    },
    measure::{
        recorder::Recorder,
        trial::{Evidence, Outcome, Shape, Trial, TrialError},
    },
};

use crate::{
    arrivals::{Arrivals, Tally},
    frame::{Content, Direction, PAYLOAD_BYTES_U32, Series},
    lab::{Counts, Lab, Side},
    ledger::{Ledger, metric},
    settle::{self, Books},
    ways::{End, Link},
    wire,
};

/// Ways that poll pause once between polls: the answer is due within
/// microseconds.
pub const WAIT: Wait = Wait::Spin;

/// The last frame may be received late, by a kernel thread that has to wait
/// for a CPU; the same as for frames that are looked for (`settle`).
const LAST_FRAME_PATIENCE: Duration = Duration::from_secs(2);

/// Runs a trial of a link.
///
/// # Errors
/// There is no lab, a frame was lost or wrong, or the account does not
/// balance.
pub fn worker<L: Link>(trial: &Trial) -> Result<Outcome, TrialError> {
    let lab = Arc::new(Lab::new(&L::lab_spec(), &wire::of_trial(trial)?)?);
    closed::run(trial, shape(&lab), |_| Pinger::<L>::start(trial, &lab))
}

/// How a trial puts its load on.
pub fn shape(lab: &Lab) -> Shape {
    Shape {
        threads: 1,
        depth: 1,
        batch: 1,
        op_bytes: lab.frame_bytes(PAYLOAD_BYTES_U32).into(),
        sampled_every: 1,
    }
}

/// The thread that asks.
#[derive(Debug)]
pub struct Pinger<L: Link> {
    lab: Arc<Lab>,
    end: L::End,
    peer: Peer<Result<Answered, TrialError>>,
    books: Books,
    questions: Series,
    answers: Series,
    /// Number of the next question; so many were answered.
    next: u64,
    seen: Seen,
    evidence: Evidence,
}

/// Frames that came instead of the answer.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    stale: u64,
    foreign: u64,
}

/// What the thread that answers did.
#[derive(Debug)]
struct Answered {
    /// What arrived, without the frame that ends it all.
    tally: Tally,
    /// Whether that one arrived.
    last: u64,
    /// Answers handed over.
    sent: u64,
    own: Counts,
    evidence: Evidence,
    ended: Result<(), Lost>,
}

impl<L: Link> Pinger<L> {
    /// Opens both ends, each on its own thread and side.
    ///
    /// # Errors
    /// Either fails.
    pub fn start(trial: &Trial, lab: &Arc<Lab>) -> Result<Self, TrialError> {
        let mut evidence = placement_evidence(trial);
        let questions = Series::new(trial, Direction::There);
        let answers = Series::new(trial, Direction::Back);
        let books = Books::open(lab)?;
        let lifeline = Lifeline::default();
        let waiter = Waiter::new(WAIT, &lifeline);
        let (theirs, their_waiter) = (Arc::clone(lab), waiter.clone());
        let their_lifeline = lifeline.clone();
        let open = move || -> Result<_, TrialError> {
            theirs.enter(Side::B)?;
            L::open(&theirs, Side::B, &their_waiter)
        };
        let peer = Peer::start_open(trial, &lifeline, open, move |end| {
            answer(end, questions, answers, &their_lifeline)
        })?;
        lab.enter(Side::A)?;
        let end = L::open(lab, Side::A, &waiter)?;
        lab.wait_for_carrier()?;
        if L::SPINNING {
            evidence.prove("wait", WAIT);
        }
        settle::prove_lab(lab, &mut evidence)?;
        end.prove(&mut evidence);
        Ok(Self {
            lab: Arc::clone(lab),
            end,
            peer,
            books,
            questions,
            answers,
            next: 0,
            seen: Seen::default(),
            evidence,
        })
    }

    #[inline(always)]
    fn round_trip(&mut self) -> Result<(), TrialError> {
        let number = self.next;
        if let Err(lost) = self.end.send(&self.questions.payload(number)) {
            return Err(self.explain(lost));
        }
        loop {
            match self.end.receive() {
                Ok(payload) => match self.answers.read(&payload) {
                    Content::Frame(answer) if answer == number => {
                        self.next = number + 1;
                        return Ok(());
                    }
                    content => self.not_the_answer(content)?,
                },
                Err(lost) => return Err(self.explain(lost)),
            }
        }
    }

    /// Counts what is not ours; anything else is wrong.
    #[cold]
    fn not_the_answer(&mut self, content: Content) -> Result<(), TrialError> {
        let number = self.next;
        match content {
            Content::Frame(answer) if answer < number => self.seen.stale += 1,
            Content::Foreign => self.seen.foreign += 1,
            Content::Frame(answer) => {
                return Err(TrialError::Wrong(format!(
                    "answer {answer} arrived before question {answer} was \
                     asked; {number} was due"
                )));
            }
            Content::Last | Content::Damaged => {
                return Err(TrialError::Wrong(format!(
                    "answer {number} arrived damaged"
                )));
            }
        }
        Ok(())
    }

    /// Says by name what became of the frame that is missing.
    #[cold]
    fn explain(&mut self, lost: Lost) -> TrialError {
        let number = self.next;
        if let Lost::System { operation, errno } = lost {
            let bytes = PAYLOAD_BYTES_U32.into();
            return TrialError::op(operation, errno, number, bytes);
        }
        let answered = match self.peer.join() {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) | Err(error) => return error,
        };
        if let Err(lost @ Lost::System { .. }) = answered.ended {
            return TrialError::setup(format!(
                "the thread that answers: {lost}"
            ));
        }
        let account = match self.accounts(&answered, number + 1, number) {
            Ok([there, back]) => format!("{there}; {back}"),
            Err(error) => error.to_string(),
        };
        TrialError::setup(format!(
            "question {number} was not answered: {lost}; {account}"
        ))
    }

    /// The accounts of both directions: so many questions went there, so many
    /// answers were taken here.
    fn accounts(
        &self,
        answered: &Answered,
        questions: u64,
        taken: u64,
    ) -> Result<[Ledger; 2], TrialError> {
        let mut own = Counts::default();
        self.end.count(&mut own);
        let there = Tally {
            delivered: answered.tally.delivered + answered.last,
            ..answered.tally
        };
        let back = Tally {
            delivered: taken,
            duplicates: self.seen.stale,
            foreign: self.seen.foreign,
            ..Tally::default()
        };
        self.books.settle(&self.lab, |books| {
            Ok([
                books.there::<L>(questions, there, &own, &answered.own),
                books.back::<L>(answered.sent, back, &answered.own, &own),
            ])
        })
    }
}

impl<L: Link> Work for Pinger<L> {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        // Microseconds at least: the end of one is the start of the next, and
        // a stamp costs 1 % of the shortest.
        let started_ns = recorder.last_ns();
        self.round_trip()?;
        let latency_ns = recorder.stamp_ns() - started_ns;
        recorder.complete(1, latency_ns);
        Ok(())
    }

    fn finish(mut self) -> Result<Evidence, TrialError> {
        self.end
            .send(&self.questions.last())
            .and_then(|()| self.end.flush())
            .map_err(|lost| {
                TrialError::setup(format!("the last frame: {lost}"))
            })?;
        // To be joined is to be told to end, also with that frame on its way.
        self.peer.ends_within(LAST_FRAME_PATIENCE);
        let answered = self.peer.join()??;
        let ledgers = self.accounts(&answered, self.next + 1, self.next)?;
        if let Err(lost) = answered.ended {
            let [there, back] = ledgers;
            return Err(TrialError::setup(format!(
                "the thread that answers did not see the last frame: {lost}; \
                 {there}; {back}"
            )));
        }
        let mut evidence = self.evidence;
        settle::compare(&mut evidence, answered.evidence, Side::B);
        for ledger in &ledgers {
            ledger.check()?;
            ledger.report(&mut evidence);
        }
        evidence.metrics.push(metric(
            "frames_stale",
            "frames",
            "lower",
            self.seen.stale,
        ));
        evidence.verified_ops = self.next;
        Ok(evidence)
    }
}

/// Answers until told to stop.
fn answer<E: End>(
    mut end: E,
    questions: Series,
    answers: Series,
    lifeline: &Lifeline,
) -> Answered {
    let mut arrivals = Arrivals::new(questions);
    let (mut sent, mut last) = (0, 0);
    let ended = loop {
        let payload = match end.receive() {
            Ok(payload) => payload,
            // It is for the one who asks to lose patience.
            Err(Lost::TimedOut) if !lifeline.is_cut() => continue,
            Err(lost) => break Err(lost),
        };
        match questions.read(&payload) {
            Content::Frame(number) => {
                arrivals.see(&payload);
                if let Err(lost) = end.send(&answers.payload(number)) {
                    break Err(lost);
                }
                sent += 1;
            }
            Content::Last => {
                last = 1;
                break Ok(());
            }
            Content::Foreign | Content::Damaged => arrivals.see(&payload),
        }
    };
    let mut own = Counts::default();
    end.count(&mut own);
    let mut evidence = Evidence::default();
    end.prove(&mut evidence);
    Answered { tally: arrivals.tally, last, sent, own, evidence, ended }
}

#[cfg(test)]
#[path = "rtt_tests.rs"]
mod tests;
