//! The ways to hand messages from one thread to another, one per file.
//!
//! A queue has one direction and implements [`Queue`]; [`TwoWay`] makes a
//! [`Link`] of two of them, one per direction. What only works as a pair of
//! ends that answer each other (a mailbox of one message) implements [`Link`]
//! itself.
//!
//! Everything is generic and compiled once per way and message size: there is
//! no dynamic dispatch between the measured loop and the queue.

pub mod array_queue;
pub mod channel;
pub mod eventfd;
#[cfg(test)]
pub(crate) mod faulty;
pub mod futex;
pub mod line;
pub mod mailbox;
pub mod mutex_condvar;
pub mod pipe;
pub mod ring;
pub mod std_mpsc;
#[cfg(test)]
mod tests;

use std::{fmt::Debug, marker::PhantomData};

use harness::{
    measure::trial::{Evidence, TrialError},
    suite::{Availability, ProbeRequest},
};

use crate::{
    message::Message,
    wait::{Lost, Waiter},
};

/// The sending end of a queue.
pub trait Sender<const WORDS: usize>: Debug + Send + 'static {
    /// Hands a message over, waiting for room.
    ///
    /// # Errors
    /// It could not be handed over.
    fn send(&mut self, message: Message<WORDS>) -> Result<(), Lost>;
}

/// The receiving end of a queue.
pub trait Receiver<const WORDS: usize>: Debug + Send + 'static {
    /// Waits for the next message.
    ///
    /// # Errors
    /// There is none and there will be none.
    fn receive(&mut self) -> Result<Message<WORDS>, Lost>;

    /// Adds what is known about the path that messages took.
    fn prove(&self, _evidence: &mut Evidence) {}
}

/// What a variant says about itself.
pub trait Way: 'static {
    /// Short and stable.
    const ID: &'static str;
    /// What it does, in one line.
    const ABOUT: &'static str;
    /// Neither end ever sleeps.
    const SPINNING: bool;

    /// Can it run here?
    fn probe(_request: &ProbeRequest<'_>) -> Availability {
        Availability::Available
    }
}

/// A bounded queue with one sender and one receiver. When one end is dropped,
/// the other does not wait any more: it gets what is left, then
/// [`Lost::Closed`].
pub trait Queue: Way {
    /// Where messages go in.
    type Sender<const WORDS: usize>: Sender<WORDS>;
    /// Where they come out.
    type Receiver<const WORDS: usize>: Receiver<WORDS>;

    /// Makes a queue for so many messages. The waiter is for both ends of
    /// queues that do not sleep.
    ///
    /// # Errors
    /// It cannot be made.
    fn open<const WORDS: usize>(
        capacity: usize,
        waiter: &Waiter,
    ) -> Result<(Self::Sender<WORDS>, Self::Receiver<WORDS>), TrialError>;
}

/// Two ends that answer each other.
pub trait Link: Way {
    /// One of them.
    type End<const WORDS: usize>: Sender<WORDS> + Receiver<WORDS>;

    /// Makes both. `capacity` holds for each direction where there is a
    /// choice.
    ///
    /// # Errors
    /// They cannot be made.
    fn connect<const WORDS: usize>(
        capacity: usize,
        waiter: &Waiter,
    ) -> Result<(Self::End<WORDS>, Self::End<WORDS>), TrialError>;
}

/// A link of two queues, one per direction.
#[derive(Debug)]
pub struct TwoWay<Q>(PhantomData<Q>);

/// The sending end of one queue and the receiving end of the other.
#[derive(Debug)]
pub struct TwoWayEnd<S, R> {
    sender: S,
    receiver: R,
}

impl<Q: Queue> Way for TwoWay<Q> {
    const ID: &'static str = Q::ID;
    const ABOUT: &'static str = Q::ABOUT;
    const SPINNING: bool = Q::SPINNING;

    fn probe(request: &ProbeRequest<'_>) -> Availability {
        Q::probe(request)
    }
}

impl<Q: Queue> Link for TwoWay<Q> {
    type End<const WORDS: usize> =
        TwoWayEnd<Q::Sender<WORDS>, Q::Receiver<WORDS>>;

    fn connect<const WORDS: usize>(
        capacity: usize,
        waiter: &Waiter,
    ) -> Result<(Self::End<WORDS>, Self::End<WORDS>), TrialError> {
        let (to_b, from_a) = Q::open(capacity, waiter)?;
        let (to_a, from_b) = Q::open(capacity, waiter)?;
        Ok((
            TwoWayEnd { sender: to_b, receiver: from_b },
            TwoWayEnd { sender: to_a, receiver: from_a },
        ))
    }
}

impl<const WORDS: usize, S, R> Sender<WORDS> for TwoWayEnd<S, R>
where
    S: Sender<WORDS>,
    R: Debug + Send + 'static,
{
    #[inline(always)]
    fn send(&mut self, message: Message<WORDS>) -> Result<(), Lost> {
        self.sender.send(message)
    }
}

impl<const WORDS: usize, S, R> Receiver<WORDS> for TwoWayEnd<S, R>
where
    S: Debug + Send + 'static,
    R: Receiver<WORDS>,
{
    #[inline(always)]
    fn receive(&mut self) -> Result<Message<WORDS>, Lost> {
        self.receiver.receive()
    }

    fn prove(&self, evidence: &mut Evidence) {
        self.receiver.prove(evidence);
    }
}
