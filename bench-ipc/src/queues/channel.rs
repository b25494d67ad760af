//! crossbeam's bounded channel, polled with `try_send` and `try_recv`. Its
//! blocking calls poll for a while and then sleep, which mixes two regimes in
//! one figure; `std-mpsc` is that kind.

use crossbeam::channel::{self, TryRecvError, TrySendError};
use harness::measure::trial::TrialError;

use super::{Queue, Receiver, Sender, Way};
use crate::{
    message::Message,
    wait::{Lost, Waiter},
};

/// crossbeam's bounded channel.
#[derive(Debug)]
pub struct Channel;

/// The channel's sender.
#[derive(Debug)]
pub struct ChannelSender<const WORDS: usize> {
    sender: channel::Sender<Message<WORDS>>,
    waiter: Waiter,
}

/// The channel's receiver.
#[derive(Debug)]
pub struct ChannelReceiver<const WORDS: usize> {
    receiver: channel::Receiver<Message<WORDS>>,
    waiter: Waiter,
}

impl Way for Channel {
    const ID: &'static str = "channel";
    const ABOUT: &'static str = "crossbeam's bounded channel (MPMC), polled";
    const SPINNING: bool = true;
}

impl Queue for Channel {
    type Sender<const WORDS: usize> = ChannelSender<WORDS>;
    type Receiver<const WORDS: usize> = ChannelReceiver<WORDS>;

    fn open<const WORDS: usize>(
        capacity: usize,
        waiter: &Waiter,
    ) -> Result<(Self::Sender<WORDS>, Self::Receiver<WORDS>), TrialError> {
        let (sender, receiver) = channel::bounded(capacity);
        Ok((
            ChannelSender { sender, waiter: waiter.clone() },
            ChannelReceiver { receiver, waiter: waiter.clone() },
        ))
    }
}

impl<const WORDS: usize> Sender<WORDS> for ChannelSender<WORDS> {
    #[inline(always)]
    fn send(&mut self, message: Message<WORDS>) -> Result<(), Lost> {
        self.waiter
            .until(|| match self.sender.try_send(message) {
                Ok(()) => Some(Ok(())),
                Err(TrySendError::Full(_)) => None,
                Err(TrySendError::Disconnected(_)) => Some(Err(Lost::Closed)),
            })
            .flatten()
    }
}

impl<const WORDS: usize> Receiver<WORDS> for ChannelReceiver<WORDS> {
    #[inline(always)]
    fn receive(&mut self) -> Result<Message<WORDS>, Lost> {
        self.waiter
            .until(|| match self.receiver.try_recv() {
                Ok(message) => Some(Ok(message)),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => Some(Err(Lost::Closed)),
            })
            .flatten()
    }
}
