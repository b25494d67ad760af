//! The floors of every way that goes through shared memory: nothing but the
//! cache lines that carry the message itself.
//!
//! With one line per direction, each message moves its line twice: to the
//! receiver who reads it, and back to the sender who writes the next one.
//! With a single line for both directions the answer is written where the
//! question was, and each message moves the line once.

use std::sync::Arc;

use harness::measure::trial::TrialError;

use super::{Link, Receiver, Sender, Way, mailbox::Mailbox};
use crate::{
    message::Message,
    wait::{Lost, Waiter},
};

/// One line per direction.
#[derive(Debug)]
pub struct TwoLines;

/// One line for both.
#[derive(Debug)]
pub struct SingleLine;

/// One end of either.
#[derive(Debug)]
pub struct LineEnd<const WORDS: usize> {
    outgoing: Arc<Mailbox<WORDS>>,
    incoming: Arc<Mailbox<WORDS>>,
    /// First word of what was in `incoming` when it was looked at last.
    before: u64,
    waiter: Waiter,
}

impl Way for TwoLines {
    const ID: &'static str = "line";
    const ABOUT: &'static str =
        "the message's cache line alone, one per direction";
    const SPINNING: bool = true;
}

impl Way for SingleLine {
    const ID: &'static str = "line-single";
    const ABOUT: &'static str = "one cache line that question and answer share";
    const SPINNING: bool = true;
}

impl<const WORDS: usize> LineEnd<WORDS> {
    fn new(
        outgoing: &Arc<Mailbox<WORDS>>,
        incoming: &Arc<Mailbox<WORDS>>,
        waiter: &Waiter,
    ) -> Self {
        Self {
            outgoing: Arc::clone(outgoing),
            incoming: Arc::clone(incoming),
            before: 0,
            waiter: waiter.clone(),
        }
    }
}

impl Link for TwoLines {
    type End<const WORDS: usize> = LineEnd<WORDS>;

    fn connect<const WORDS: usize>(
        _capacity: usize,
        waiter: &Waiter,
    ) -> Result<(LineEnd<WORDS>, LineEnd<WORDS>), TrialError> {
        let (forth, back) = (Arc::default(), Arc::default());
        Ok((
            LineEnd::new(&forth, &back, waiter),
            LineEnd::new(&back, &forth, waiter),
        ))
    }
}

impl Link for SingleLine {
    type End<const WORDS: usize> = SingleLineEnd<WORDS>;

    fn connect<const WORDS: usize>(
        _capacity: usize,
        waiter: &Waiter,
    ) -> Result<(SingleLineEnd<WORDS>, SingleLineEnd<WORDS>), TrialError> {
        let line = Arc::default();
        Ok((
            SingleLineEnd(LineEnd::new(&line, &line, waiter)),
            SingleLineEnd(LineEnd::new(&line, &line, waiter)),
        ))
    }
}

/// One end of a single line.
#[derive(Debug)]
pub struct SingleLineEnd<const WORDS: usize>(LineEnd<WORDS>);

impl<const WORDS: usize> Sender<WORDS> for LineEnd<WORDS> {
    #[inline(always)]
    fn send(&mut self, message: Message<WORDS>) -> Result<(), Lost> {
        self.outgoing.put(message);
        Ok(())
    }
}

impl<const WORDS: usize> Receiver<WORDS> for LineEnd<WORDS> {
    #[inline(always)]
    fn receive(&mut self) -> Result<Message<WORDS>, Lost> {
        let message = self.waiter.until(|| self.incoming.take(self.before))?;
        self.before = message.0[0];
        Ok(message)
    }
}

impl<const WORDS: usize> Sender<WORDS> for SingleLineEnd<WORDS> {
    #[inline(always)]
    fn send(&mut self, message: Message<WORDS>) -> Result<(), Lost> {
        // What this end wrote itself is not an answer.
        self.0.before = message.0[0];
        self.0.send(message)
    }
}

impl<const WORDS: usize> Receiver<WORDS> for SingleLineEnd<WORDS> {
    #[inline(always)]
    fn receive(&mut self) -> Result<Message<WORDS>, Lost> {
        self.0.receive()
    }
}
