//! A queue that commits one fault, to see that it does not go unnoticed.

use harness::measure::trial::TrialError;

use super::{
    Queue, Sender, Way,
    ring::{Ring, RingReceiver, RingSender},
};
use crate::{
    message::Message,
    wait::{Lost, Waiter},
};

/// Message number `FAULT_AT` gets lost.
pub(crate) const DROP: u8 = 0;
/// It comes twice.
pub(crate) const DUPLICATE: u8 = 1;
/// It comes after its successor.
pub(crate) const REORDER: u8 = 2;
/// One bit of it flips.
pub(crate) const CORRUPT: u8 = 3;

/// Which message, counted from 0 in each direction.
pub(crate) const FAULT_AT: u64 = 100;

/// Our ring with a fault in its sender.
#[derive(Debug)]
pub(crate) struct Faulty<const FAULT: u8>;

#[derive(Debug)]
pub(crate) struct FaultySender<const WORDS: usize, const FAULT: u8> {
    inner: RingSender<WORDS>,
    count: u64,
    held: Option<Message<WORDS>>,
}

impl<const FAULT: u8> Way for Faulty<FAULT> {
    const ID: &'static str = "faulty";
    const ABOUT: &'static str = "for tests";
    const SPINNING: bool = true;
}

impl<const FAULT: u8> Queue for Faulty<FAULT> {
    type Sender<const WORDS: usize> = FaultySender<WORDS, FAULT>;
    type Receiver<const WORDS: usize> = RingReceiver<WORDS>;

    fn open<const WORDS: usize>(
        capacity: usize,
        waiter: &Waiter,
    ) -> Result<(Self::Sender<WORDS>, Self::Receiver<WORDS>), TrialError> {
        let (inner, receiver) = Ring::open(capacity, waiter)?;
        Ok((FaultySender { inner, count: 0, held: None }, receiver))
    }
}

impl<const WORDS: usize, const FAULT: u8> Sender<WORDS>
    for FaultySender<WORDS, FAULT>
{
    fn send(&mut self, mut message: Message<WORDS>) -> Result<(), Lost> {
        let now = self.count == FAULT_AT;
        self.count += 1;
        match FAULT {
            DROP if now => return Ok(()),
            DUPLICATE if now => self.inner.send(message)?,
            REORDER if now => {
                self.held = Some(message);
                return Ok(());
            }
            CORRUPT if now => message.0[WORDS - 1] ^= 1 << 20,
            _ => {}
        }
        self.inner.send(message)?;
        match self.held.take() {
            Some(held) => self.inner.send(held),
            None => Ok(()),
        }
    }
}
