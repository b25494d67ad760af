//! Our own ring, one push and one pop per message.

use harness::measure::trial::TrialError;

use super::{Queue, Receiver, Sender, Way};
use crate::{
    message::Message,
    ring::{Consumer, Producer, ring},
    wait::{Lost, Waiter},
};

/// See [`crate::ring`](mod@crate::ring).
#[derive(Debug)]
pub struct Ring;

/// The ring's producer.
#[derive(Debug)]
pub struct RingSender<const WORDS: usize> {
    producer: Producer<Message<WORDS>>,
    waiter: Waiter,
}

/// The ring's consumer.
#[derive(Debug)]
pub struct RingReceiver<const WORDS: usize> {
    consumer: Consumer<Message<WORDS>>,
    waiter: Waiter,
}

impl Way for Ring {
    const ID: &'static str = "ring";
    const ABOUT: &'static str =
        "our single-producer single-consumer ring, polled";
    const SPINNING: bool = true;
}

impl Queue for Ring {
    type Sender<const WORDS: usize> = RingSender<WORDS>;
    type Receiver<const WORDS: usize> = RingReceiver<WORDS>;

    fn open<const WORDS: usize>(
        capacity: usize,
        waiter: &Waiter,
    ) -> Result<(Self::Sender<WORDS>, Self::Receiver<WORDS>), TrialError> {
        let (producer, consumer) = ring(capacity)
            .map_err(|error| TrialError::setup(error.to_string()))?;
        Ok((
            RingSender { producer, waiter: waiter.clone() },
            RingReceiver { consumer, waiter: waiter.clone() },
        ))
    }
}

impl<const WORDS: usize> Sender<WORDS> for RingSender<WORDS> {
    #[inline(always)]
    fn send(&mut self, message: Message<WORDS>) -> Result<(), Lost> {
        let producer = &mut self.producer;
        self.waiter.until(|| producer.push(message).ok())
    }
}

impl<const WORDS: usize> Receiver<WORDS> for RingReceiver<WORDS> {
    #[inline(always)]
    fn receive(&mut self) -> Result<Message<WORDS>, Lost> {
        let consumer = &mut self.consumer;
        self.waiter.until(|| consumer.pop())
    }
}
