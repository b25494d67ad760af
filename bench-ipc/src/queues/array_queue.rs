//! crossbeam's `ArrayQueue`: a ring for many producers and consumers, used
//! here by one of each.

use std::sync::Arc;

use crossbeam::queue;
use harness::measure::trial::TrialError;

use super::{Queue, Receiver, Sender, Way};
use crate::{
    message::Message,
    wait::{Lost, Waiter},
};

/// crossbeam's bounded queue.
#[derive(Debug)]
pub struct ArrayQueue;

/// Either end.
#[derive(Debug)]
pub struct ArrayQueueEnd<const WORDS: usize> {
    queue: Arc<queue::ArrayQueue<Message<WORDS>>>,
    waiter: Waiter,
}

impl Way for ArrayQueue {
    const ID: &'static str = "array-queue";
    const ABOUT: &'static str = "crossbeam's ArrayQueue (MPMC), polled";
    const SPINNING: bool = true;
}

impl Queue for ArrayQueue {
    type Sender<const WORDS: usize> = ArrayQueueEnd<WORDS>;
    type Receiver<const WORDS: usize> = ArrayQueueEnd<WORDS>;

    fn open<const WORDS: usize>(
        capacity: usize,
        waiter: &Waiter,
    ) -> Result<(Self::Sender<WORDS>, Self::Receiver<WORDS>), TrialError> {
        if capacity == 0 {
            // crossbeam panics.
            return Err(TrialError::setup(
                "an ArrayQueue cannot have a capacity of 0",
            ));
        }
        let queue = Arc::new(queue::ArrayQueue::new(capacity));
        let waiter = waiter.clone();
        Ok((
            ArrayQueueEnd { queue: Arc::clone(&queue), waiter: waiter.clone() },
            ArrayQueueEnd { queue, waiter },
        ))
    }
}

impl<const WORDS: usize> Sender<WORDS> for ArrayQueueEnd<WORDS> {
    #[inline(always)]
    fn send(&mut self, message: Message<WORDS>) -> Result<(), Lost> {
        self.waiter.until(|| self.queue.push(message).ok())
    }
}

impl<const WORDS: usize> Receiver<WORDS> for ArrayQueueEnd<WORDS> {
    #[inline(always)]
    fn receive(&mut self) -> Result<Message<WORDS>, Lost> {
        self.waiter.until(|| self.queue.pop())
    }
}
