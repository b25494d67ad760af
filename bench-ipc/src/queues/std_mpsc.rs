//! The standard library's `sync_channel` with its blocking calls, which poll
//! for a moment and then sleep.

use std::sync::mpsc;

use harness::measure::trial::TrialError;

use super::{Queue, Receiver, Sender, Way};
use crate::{
    message::Message,
    wait::{Lost, Waiter},
};

/// `std::sync::mpsc::sync_channel`.
#[derive(Debug)]
pub struct StdMpsc;

impl Way for StdMpsc {
    const ID: &'static str = "std-mpsc";
    const ABOUT: &'static str = "std::sync::mpsc::sync_channel, blocking";
    const SPINNING: bool = false;
}

impl Queue for StdMpsc {
    type Sender<const WORDS: usize> = mpsc::SyncSender<Message<WORDS>>;
    type Receiver<const WORDS: usize> = mpsc::Receiver<Message<WORDS>>;

    fn open<const WORDS: usize>(
        capacity: usize,
        _waiter: &Waiter,
    ) -> Result<(Self::Sender<WORDS>, Self::Receiver<WORDS>), TrialError> {
        Ok(mpsc::sync_channel(capacity))
    }
}

impl<const WORDS: usize> Sender<WORDS> for mpsc::SyncSender<Message<WORDS>> {
    #[inline(always)]
    fn send(&mut self, message: Message<WORDS>) -> Result<(), Lost> {
        mpsc::SyncSender::send(self, message).map_err(|_| Lost::Closed)
    }
}

impl<const WORDS: usize> Receiver<WORDS> for mpsc::Receiver<Message<WORDS>> {
    #[inline(always)]
    fn receive(&mut self) -> Result<Message<WORDS>, Lost> {
        self.recv().map_err(|mpsc::RecvError| Lost::Closed)
    }
}
