//! Stream: one thread sends as fast as it can, the other receives.
//!
//! The consumer is measured; the producer is its peer on the second CPU. The
//! consumer checks that each message carries the next number, and at the end
//! that as many were produced as it has consumed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use harness::{
    load::closed::{self, Work},
    measure::{
        recorder::Recorder,
        trial::{Evidence, Outcome, Shape, Trial, TrialError},
    },
};

use crate::{
    distance::{self, When},
    message::{Direction, Message, Series},
    peer::{Peer, placement_evidence},
    queues::{Queue, Receiver, Sender},
    wait::{Lifeline, Lost, Wait, Waiter},
};

/// What all ways that poll do, at both ends, when they find nothing: letting
/// some messages gather moves more of them per line than polling hard. Fewer
/// pauses suit CPUs that are near each other, more suit distant ones; 32 lie
/// between the two.
pub const WAIT: Wait = Wait::Backoff { pauses: 32 };

/// Messages per round, for queues that poll and for those that sleep: a
/// microsecond at least at 500 M/s, some milliseconds at most if each message
/// had to wake the other thread.
const SPINNING_ROUND: u64 = 1_024;
const SLEEPING_ROUND: u64 = 64;

/// Messages between two looks at the flag that tells the producer to stop.
const SENT_PER_CHECK: u32 = 256;

/// Runs a trial of a queue.
///
/// # Errors
/// The trial failed or a message was wrong.
pub fn worker<Q: Queue>(trial: &Trial) -> Result<Outcome, TrialError> {
    match trial.number("op_bytes")? {
        8 => run::<Q, 1>(trial),
        64 => run::<Q, 8>(trial),
        other => Err(TrialError::setup(format!(
            "op_bytes={other}: messages have 8 or 64 bytes"
        ))),
    }
}

fn run<Q: Queue, const WORDS: usize>(
    trial: &Trial,
) -> Result<Outcome, TrialError> {
    closed::run(trial, shape::<WORDS>(trial)?, |_| {
        Drain::<Q, WORDS>::start(trial)
    })
}

/// How a trial puts its load on.
///
/// # Errors
/// The experiment has no capacity.
pub fn shape<const WORDS: usize>(trial: &Trial) -> Result<Shape, TrialError> {
    Ok(Shape {
        threads: 1,
        depth: trial.count("capacity")?,
        batch: 1,
        op_bytes: Message::<WORDS>::BYTES as u64,
        sampled_every: 0,
    })
}

/// The thread that receives.
#[derive(Debug)]
pub struct Drain<'a, Q: Queue, const WORDS: usize> {
    trial: &'a Trial,
    // Before `peer`: a peer that sleeps wakes up when this end is dropped.
    receiver: Q::Receiver<WORDS>,
    peer: Peer<Produced>,
    stop: Arc<AtomicBool>,
    series: Series,
    /// Number of the next message; so many were consumed.
    next: u64,
    evidence: Evidence,
}

/// How the producer ended.
#[derive(Debug)]
struct Produced {
    /// Messages handed over.
    messages: u64,
    /// Whether it was told to stop, or why it gave up.
    ended: Result<(), Lost>,
}

impl<'a, Q: Queue, const WORDS: usize> Drain<'a, Q, WORDS> {
    /// Opens a queue and starts the producer, which fills it at once.
    ///
    /// # Errors
    /// Either fails.
    pub fn start(trial: &'a Trial) -> Result<Self, TrialError> {
        let capacity = trial.count("capacity")?;
        let mut evidence = placement_evidence(trial);
        distance::observe(trial, When::Before, &mut evidence);
        let lifeline = Lifeline::default();
        let waiter = Waiter::new(WAIT, &lifeline);
        let (sender, receiver) = Q::open::<WORDS>(capacity, &waiter)?;
        let series = Series::new(trial, Direction::Forth);
        if Q::SPINNING {
            evidence.prove("wait", WAIT);
        }
        receiver.prove(&mut evidence);
        let stop = Arc::new(AtomicBool::new(false));
        let (told, held) = (Arc::clone(&stop), lifeline.clone());
        let peer = Peer::start(trial, &lifeline, move || {
            produce::<Q, WORDS>(sender, series, &told, &held)
        })?;
        Ok(Self { trial, receiver, peer, stop, series, next: 0, evidence })
    }

    /// Receives and checks so many messages.
    #[inline(always)]
    fn consume(&mut self, messages: u64) -> Result<(), TrialError> {
        // In locals, or the compiler stores the count with each message.
        let (series, first) = (self.series, self.next);
        for number in first..first + messages {
            match self.receiver.receive() {
                Ok(message) if series.is(&message, number) => {}
                result => return Err(self.fail(number, result)),
            }
        }
        self.next = first + messages;
        Ok(())
    }

    /// Message `number` is not there or not right.
    #[cold]
    #[inline(never)]
    fn fail(
        &mut self,
        number: u64,
        result: Result<Message<WORDS>, Lost>,
    ) -> TrialError {
        self.next = number;
        match result {
            Ok(message) => {
                TrialError::Wrong(self.series.explain(&message, number))
            }
            Err(lost) => self.explain(lost),
        }
    }

    /// Receives what is left up to the message that ends the series.
    fn drain(&mut self) -> Result<(), TrialError> {
        loop {
            match self.receiver.receive() {
                Ok(message) if self.series.is(&message, self.next) => {
                    self.next += 1;
                }
                Ok(message) if self.series.is_last(&message) => {
                    return Ok(());
                }
                result => return Err(self.fail(self.next, result)),
            }
        }
    }

    /// Finds out whether something was lost or somebody was merely slow.
    #[cold]
    fn explain(&mut self, lost: Lost) -> TrialError {
        if let Lost::System { operation, errno } = lost {
            let bytes = Message::<WORDS>::BYTES as u64;
            return TrialError::op(operation, errno, self.next, bytes);
        }
        // Either the producer has gone, or it polls and goes once the lifeline
        // is cut. What it has sent until then can be received.
        let produced = match self.peer.join() {
            Ok(produced) => produced,
            Err(error) => return error,
        };
        while let Ok(message) = self.receiver.receive() {
            if !self.series.is(&message, self.next) {
                break;
            }
            self.next += 1;
        }
        if produced.messages != self.next {
            return TrialError::Wrong(format!(
                "{} messages produced, {} consumed; {lost}",
                produced.messages, self.next
            ));
        }
        TrialError::setup(match produced.ended {
            Err(Lost::System { operation, errno }) => format!(
                "the producer ended with a failed {operation}: {}",
                std::io::Error::from_raw_os_error(errno)
            ),
            _ => format!(
                "message {} came too late: {lost}; the producer's CPU was \
                 taken by something else",
                self.next
            ),
        })
    }
}

impl<Q: Queue, const WORDS: usize> Work for Drain<'_, Q, WORDS> {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        let messages =
            if Q::SPINNING { SPINNING_ROUND } else { SLEEPING_ROUND };
        self.consume(messages)?;
        recorder.stamp_ns();
        recorder.count(messages);
        Ok(())
    }

    fn finish(mut self) -> Result<Evidence, TrialError> {
        // It orders nothing: messages carry all that matters.
        self.stop.store(true, Ordering::Relaxed);
        self.drain()?;
        let Self { trial, receiver, mut peer, next, mut evidence, .. } = self;
        drop(receiver);
        let produced = peer.join()?;
        if produced.messages != next {
            return Err(TrialError::Wrong(format!(
                "{} messages produced, {next} consumed",
                produced.messages
            )));
        }
        distance::observe(trial, When::After, &mut evidence);
        evidence.verified_ops = next;
        Ok(evidence)
    }
}

/// Sends consecutive messages until told to stop.
fn produce<Q: Queue, const WORDS: usize>(
    mut sender: Q::Sender<WORDS>,
    series: Series,
    stop: &AtomicBool,
    lifeline: &Lifeline,
) -> Produced {
    let mut messages = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..SENT_PER_CHECK {
            match patiently::<Q, WORDS>(
                &mut sender,
                series.message(messages),
                lifeline,
            ) {
                Ok(()) => messages += 1,
                ended => return Produced { messages, ended },
            }
        }
    }
    let ended = patiently::<Q, WORDS>(&mut sender, series.last(), lifeline);
    Produced { messages, ended }
}

/// It is for the consumer to lose patience.
#[inline(always)]
fn patiently<Q: Queue, const WORDS: usize>(
    sender: &mut Q::Sender<WORDS>,
    message: Message<WORDS>,
    lifeline: &Lifeline,
) -> Result<(), Lost> {
    loop {
        match sender.send(message) {
            Err(Lost::TimedOut) if !lifeline.is_cut() => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        queues::{
            faulty::{CORRUPT, DROP, DUPLICATE, Faulty, REORDER},
            ring::Ring,
        },
        testing,
    };

    fn is_wrong<const FAULT: u8>(op_bytes: u64, word: &str) {
        testing::is_wrong(worker::<Faulty<FAULT>>, op_bytes, word);
    }

    #[test]
    fn a_lost_message_is_wrong() {
        is_wrong::<DROP>(8, "message 101 arrived where 100 was due");
    }

    #[test]
    fn a_message_that_comes_twice_is_wrong() {
        is_wrong::<DUPLICATE>(8, "message 100 arrived where 101 was due");
    }

    #[test]
    fn messages_that_change_places_are_wrong() {
        is_wrong::<REORDER>(64, "message 101 arrived where 100 was due");
    }

    #[test]
    fn a_flipped_bit_is_wrong() {
        is_wrong::<CORRUPT>(8, "100 was due");
        is_wrong::<CORRUPT>(64, "message 100 arrived damaged");
    }

    /// A consumer that gives up lets its producer end, too.
    #[test]
    fn an_abandoned_stream_ends() {
        let Some(cpus) = testing::two_cpus() else { return };
        let _alone = testing::alone();
        let trial = testing::trial("ring", &cpus);
        let mut stream = Drain::<Ring, 1>::start(&trial).expect("two CPUs");
        assert_eq!(stream.consume(100), Ok(()));
        drop(stream);
    }
}
