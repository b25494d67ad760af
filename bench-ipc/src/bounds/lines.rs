//! The ceiling of every stream through shared memory: full cache lines, made
//! visible in batches, in a ring large enough that neither side waits for the
//! other's lines. An op is still one message: a line carries eight of 8 bytes
//! or one of 64, and every word of it is checked.

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
    message::{Direction, Series},
    peer::{Peer, placement_evidence},
    ring::{Consumer, Producer, ring},
    stream::WAIT,
    wait::{Lifeline, Lost, Waiter},
};

/// Stable id.
pub const ID: &str = "lines";

/// One line.
pub const ABOUT: &str = "full cache lines, published in batches";

const LINE_BYTES: u64 = 64;
const WORDS: usize = 8;

/// 512 KiB, whatever the experiment's capacity is: larger than a first-level
/// cache, so that lines have left the producer's before the consumer asks, and
/// smaller than a second-level cache of a server.
const RING_LINES: usize = 8_192;

/// Lines made visible, or given back, at once.
const BATCH_LINES: usize = 256;

/// Lines per round: 4 us and more at 270 M/s.
const ROUND_LINES: u64 = 1_024;

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line([u64; WORDS]);

impl Line {
    /// Eight consecutive words, whatever the size of a message.
    #[inline(always)]
    fn new(series: Series, number: u64) -> Self {
        let first = number * WORDS as u64;
        let mut words = [0; WORDS];
        for (word, number) in words.iter_mut().zip(first..) {
            *word = series.word(number);
        }
        Self(words)
    }
}

/// Runs a trial.
///
/// # Errors
/// The trial failed or a line was wrong.
pub fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    let op_bytes = trial.number("op_bytes")?;
    if op_bytes == 0 || !LINE_BYTES.is_multiple_of(op_bytes) {
        return Err(TrialError::setup(format!(
            "op_bytes={op_bytes} does not divide a line of {LINE_BYTES}"
        )));
    }
    let shape = Shape {
        threads: 1,
        depth: RING_LINES,
        batch: BATCH_LINES,
        op_bytes,
        sampled_every: 0,
    };
    closed::run(trial, shape, |_| Lines::start(trial, LINE_BYTES / op_bytes))
}

/// The consumer's place in the series.
#[derive(Debug)]
struct Inbox {
    consumer: Consumer<Line>,
    series: Series,
    /// Number of the next line.
    next: u64,
}

impl Inbox {
    /// Takes a batch of what is there, if anything is, and checks it.
    #[inline(always)]
    fn take(&mut self) -> Result<u64, TrialError> {
        let (series, mut next) = (self.series, self.next);
        let mut difference = 0;
        self.consumer.pop_batch(BATCH_LINES, |line| {
            let expected = Line::new(series, next);
            for (got, expected) in line.0.iter().zip(&expected.0) {
                difference |= got ^ expected;
            }
            next += 1;
        });
        if difference != 0 {
            return Err(TrialError::Wrong(format!(
                "one of the lines {} to {} is not the one that was sent",
                self.next,
                next - 1
            )));
        }
        let taken = next - self.next;
        self.next = next;
        Ok(taken)
    }
}

#[derive(Debug)]
struct Lines<'a> {
    trial: &'a Trial,
    inbox: Inbox,
    waiter: Waiter,
    peer: Peer<u64>,
    stop: Arc<AtomicBool>,
    ops_per_line: u64,
    evidence: Evidence,
}

impl<'a> Lines<'a> {
    fn start(trial: &'a Trial, ops_per_line: u64) -> Result<Self, TrialError> {
        let mut evidence = placement_evidence(trial);
        distance::observe(trial, When::Before, &mut evidence);
        let lifeline = Lifeline::default();
        let waiter = Waiter::new(WAIT, &lifeline);
        let (producer, consumer) = ring(RING_LINES)
            .map_err(|error| TrialError::setup(error.to_string()))?;
        let series = Series::new(trial, Direction::Forth);
        evidence.prove("wait", WAIT);
        evidence.prove("ops_per_line", ops_per_line);
        let stop = Arc::new(AtomicBool::new(false));
        let (told, theirs) = (Arc::clone(&stop), waiter.clone());
        let peer = Peer::start(trial, &lifeline, move || {
            produce(producer, series, &told, &theirs)
        })?;
        let inbox = Inbox { consumer, series, next: 0 };
        Ok(Self { trial, inbox, waiter, peer, stop, ops_per_line, evidence })
    }
}

impl Work for Lines<'_> {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        let inbox = &mut self.inbox;
        let mut taken = 0;
        while taken < ROUND_LINES {
            let batch = self.waiter.until(|| match inbox.take() {
                Ok(0) => None,
                result => Some(result),
            });
            taken += batch.map_err(|lost| {
                TrialError::setup(format!(
                    "no line {}: {lost}; the producer is gone, or its CPU \
                     was taken by something else",
                    inbox.next
                ))
            })??;
        }
        recorder.stamp_ns();
        recorder.count(taken * self.ops_per_line);
        Ok(())
    }

    fn finish(mut self) -> Result<Evidence, TrialError> {
        // It orders nothing; joining does.
        self.stop.store(true, Ordering::Relaxed);
        let produced = self.peer.join()?;
        while self.inbox.take()? > 0 {}
        let consumed = self.inbox.next;
        if produced != consumed {
            return Err(TrialError::Wrong(format!(
                "{produced} lines produced, {consumed} consumed"
            )));
        }
        distance::observe(self.trial, When::After, &mut self.evidence);
        self.evidence.verified_ops = consumed * self.ops_per_line;
        self.evidence.checksummed_ops = self.evidence.verified_ops;
        Ok(self.evidence)
    }
}

/// Sends batches until told to stop; says how many lines it sent.
fn produce(
    mut producer: Producer<Line>,
    series: Series,
    stop: &AtomicBool,
    waiter: &Waiter,
) -> u64 {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let pushed = waiter.until(|| {
            let mut lines =
                (sent..).take(BATCH_LINES).map(|n| Line::new(series, n));
            match producer.push_batch(&mut lines) {
                0 => None,
                pushed => Some(pushed as u64),
            }
        });
        match pushed {
            Ok(pushed) => sent += pushed,
            // It is for the consumer to lose patience.
            Err(Lost::TimedOut) => {}
            Err(_) => break,
        }
    }
    sent
}
