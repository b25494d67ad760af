//! Ping-pong: a message goes to the other thread and its answer comes back.
//!
//! The thread that asks is measured; the one that answers is its peer on the
//! second CPU. Each checks what it receives, so that an op is a question that
//! arrived whole and in order, and an answer that did.

use harness::{
    load::closed::{self, Place, Work},
    measure::{
        clock::Clock,
        recorder::Recorder,
        trial::{Evidence, Outcome, Shape, Trial, TrialError},
    },
};

use crate::{
    distance::{self, When},
    message::{Direction, Message, Series},
    peer::{Peer, placement_evidence},
    queues::{Link, Receiver, Sender},
    wait::{Lifeline, Lost, Wait, Waiter},
};

/// Every way that polls does so with one pause between polls: the answer is
/// due within a microsecond, and anything longer would be part of it.
pub const WAIT: Wait = Wait::Spin;

/// Messages that each direction holds where there is a choice. One is in
/// flight.
pub const CAPACITY: usize = 64;

/// Of polled round trips (100 to 700 ns) one in 32 is timed and a round has
/// 128: nine stamps of 10 to 25 ns are at most 2 % of the shortest round.
const SAMPLED_EVERY: u32 = 32;
const SAMPLES_PER_ROUND: usize = 4;
const OPS_PER_ROUND: u64 = SAMPLED_EVERY as u64 * SAMPLES_PER_ROUND as u64;

/// Runs a trial of a link.
///
/// # Errors
/// The trial failed or a message was wrong.
pub fn worker<L: Link>(trial: &Trial) -> Result<Outcome, TrialError> {
    match trial.number("op_bytes")? {
        8 => run::<L, 1>(trial),
        64 => run::<L, 8>(trial),
        other => Err(TrialError::setup(format!(
            "op_bytes={other}: messages have 8 or 64 bytes"
        ))),
    }
}

fn run<L: Link, const WORDS: usize>(
    trial: &Trial,
) -> Result<Outcome, TrialError> {
    closed::run(trial, shape::<L, WORDS>(), |place| {
        Pinger::<L, WORDS>::start(trial, place)
    })
}

/// How a trial of this link puts its load on.
pub fn shape<L: Link, const WORDS: usize>() -> Shape {
    Shape {
        threads: 1,
        depth: 1,
        batch: 1,
        op_bytes: Message::<WORDS>::BYTES as u64,
        sampled_every: if L::SPINNING { u64::from(SAMPLED_EVERY) } else { 1 },
    }
}

/// The thread that asks.
#[derive(Debug)]
pub struct Pinger<'a, L: Link, const WORDS: usize> {
    trial: &'a Trial,
    // Before `peer`: a peer that sleeps wakes up when this end is dropped.
    end: L::End<WORDS>,
    peer: Peer<Result<Answered, TrialError>>,
    questions: Series,
    answers: Series,
    /// Number of the next question; so many were answered.
    next: u64,
    clock: Clock,
    evidence: Evidence,
}

/// How the thread that answers ended.
#[derive(Debug)]
struct Answered {
    /// Questions received, each of which was answered.
    questions: u64,
    /// Whether it was told to stop, or why it gave up.
    ended: Result<(), Lost>,
}

impl<'a, L: Link, const WORDS: usize> Pinger<'a, L, WORDS> {
    /// Connects two ends and starts the peer with one of them.
    ///
    /// # Errors
    /// Either fails.
    pub fn start(trial: &'a Trial, place: &Place) -> Result<Self, TrialError> {
        let mut evidence = placement_evidence(trial);
        distance::observe(trial, When::Before, &mut evidence);
        let lifeline = Lifeline::default();
        let waiter = Waiter::new(WAIT, &lifeline);
        let (end, far_end) = L::connect::<WORDS>(CAPACITY, &waiter)?;
        let questions = Series::new(trial, Direction::Forth);
        let answers = Series::new(trial, Direction::Back);
        if L::SPINNING {
            evidence.prove("wait", WAIT);
        }
        end.prove(&mut evidence);
        let held = lifeline.clone();
        let peer = Peer::start(trial, &lifeline, move || {
            answer::<L, WORDS>(far_end, questions, answers, &held)
        })?;
        Ok(Self {
            trial,
            end,
            peer,
            questions,
            answers,
            next: 0,
            clock: place.clock,
            evidence,
        })
    }

    #[inline(always)]
    fn round_trip(&mut self) -> Result<(), TrialError> {
        let number = self.next;
        if let Err(lost) = self.end.send(self.questions.message(number)) {
            return Err(self.explain(lost));
        }
        match self.end.receive() {
            Ok(answer) if self.answers.is(&answer, number) => {
                self.next = number + 1;
                Ok(())
            }
            Ok(answer) => Err(TrialError::Wrong(format!(
                "answer: {}",
                self.answers.explain(&answer, number)
            ))),
            Err(lost) => Err(self.explain(lost)),
        }
    }

    /// Finds out whether something was lost or somebody was merely slow.
    #[cold]
    fn explain(&mut self, lost: Lost) -> TrialError {
        let number = self.next;
        if let Lost::System { operation, errno } = lost {
            let bytes = Message::<WORDS>::BYTES as u64;
            return TrialError::op(operation, errno, number, bytes);
        }
        // Either the peer has gone, or it polls and goes once the lifeline is
        // cut, after a last look at its queue.
        let answered = match self.peer.join() {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) | Err(error) => return error,
        };
        if answered.questions <= number {
            TrialError::Wrong(format!(
                "question {number} was sent but never arrived; {lost}"
            ))
        } else if self.end.receive().is_err() {
            TrialError::Wrong(format!(
                "answer {number} was sent but never arrived; {lost}"
            ))
        } else {
            TrialError::setup(format!(
                "answer {number} came too late: {lost}; the peer's CPU was \
                 taken by something else"
            ))
        }
    }
}

impl<L: Link, const WORDS: usize> Work for Pinger<'_, L, WORDS> {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        if !L::SPINNING {
            // Tens of microseconds each: the end of one is the start of the
            // next, and a stamp costs nothing beside it.
            let started_ns = recorder.last_ns();
            self.round_trip()?;
            let latency_ns = recorder.stamp_ns() - started_ns;
            recorder.complete(1, latency_ns);
            return Ok(());
        }
        let mut latencies_ns = [0; SAMPLES_PER_ROUND];
        for latency_ns in &mut latencies_ns {
            let started_ns = self.clock.now_ns();
            self.round_trip()?;
            *latency_ns = self.clock.now_ns() - started_ns;
            for _ in 1..SAMPLED_EVERY {
                self.round_trip()?;
            }
        }
        recorder.stamp_ns();
        recorder.count(OPS_PER_ROUND);
        for latency_ns in latencies_ns {
            recorder.sample(latency_ns);
        }
        Ok(())
    }

    fn finish(self) -> Result<Evidence, TrialError> {
        let Self { trial, mut end, mut peer, questions, next, .. } = self;
        let mut evidence = self.evidence;
        let told = end.send(questions.last());
        drop(end);
        let answered = peer.join()??;
        if answered.questions != next {
            return Err(TrialError::Wrong(format!(
                "{next} answers to {} questions",
                answered.questions
            )));
        }
        told.and(answered.ended).map_err(|lost| {
            TrialError::Wrong(format!("the last message was lost: {lost}"))
        })?;
        distance::observe(trial, When::After, &mut evidence);
        evidence.verified_ops = next;
        Ok(evidence)
    }
}

/// Answers until told to stop.
fn answer<L: Link, const WORDS: usize>(
    mut end: L::End<WORDS>,
    questions: Series,
    answers: Series,
    lifeline: &Lifeline,
) -> Result<Answered, TrialError> {
    let mut number = 0;
    let ended = loop {
        let question = match end.receive() {
            Ok(question) => question,
            // It is for the one who asks to lose patience.
            Err(Lost::TimedOut) if !lifeline.is_cut() => continue,
            Err(lost) => break Err(lost),
        };
        if !questions.is(&question, number) {
            if questions.is_last(&question) {
                break Ok(());
            }
            return Err(TrialError::Wrong(format!(
                "question: {}",
                questions.explain(&question, number)
            )));
        }
        if let Err(lost) = end.send(answers.message(number)) {
            break Err(lost);
        }
        number += 1;
    };
    Ok(Answered { questions: number, ended })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        queues::{
            TwoWay,
            faulty::{CORRUPT, DROP, DUPLICATE, Faulty, REORDER},
            ring::Ring,
        },
        testing,
    };

    fn is_wrong<const FAULT: u8>(op_bytes: u64, word: &str) {
        testing::is_wrong(worker::<TwoWay<Faulty<FAULT>>>, op_bytes, word);
    }

    #[test]
    fn a_lost_message_is_wrong() {
        is_wrong::<DROP>(8, "never arrived");
    }

    #[test]
    fn a_message_that_comes_twice_is_wrong() {
        is_wrong::<DUPLICATE>(8, "arrived where");
    }

    #[test]
    fn a_message_that_is_held_back_is_wrong() {
        is_wrong::<REORDER>(8, "never arrived");
    }

    #[test]
    fn a_flipped_bit_is_wrong() {
        is_wrong::<CORRUPT>(8, "question");
        is_wrong::<CORRUPT>(64, "damaged");
    }

    #[test]
    fn other_sizes_are_refused() {
        let mut trial = testing::trial("ring", &[]);
        trial.spec.params = trial.spec.params.with("op_bytes", 16);
        let error = worker::<TwoWay<Ring>>(&trial).expect_err("16 bytes");
        assert!(error.to_string().contains("op_bytes=16"), "{error}");
    }
}
