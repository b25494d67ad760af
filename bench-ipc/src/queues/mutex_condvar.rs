//! A bounded queue of a mutex and two condition variables: what the textbook
//! does, except that nobody is woken who does not sleep. (Waking always costs
//! a system call in the standard library; leaving it out where the state under
//! the lock shows that nobody waits makes the baseline no weaker than it has
//! to be.)

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use harness::measure::trial::TrialError;

use super::{Queue, Receiver, Sender, Way};
use crate::{
    message::Message,
    wait::{Lost, Waiter},
};

/// `Mutex<VecDeque>` with two `Condvar`s.
#[derive(Debug)]
pub struct MutexCondvar;

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    not_empty: Condvar,
    not_full: Condvar,
    capacity: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    closed: bool,
    /// Set by whoever is about to sleep, cleared by whoever will wake it.
    receiver_sleeps: bool,
    sender_sleeps: bool,
}

/// The end that waits for room.
#[derive(Debug)]
pub struct MutexSender<const WORDS: usize>(Arc<Shared<Message<WORDS>>>);

/// The end that waits for messages.
#[derive(Debug)]
pub struct MutexReceiver<const WORDS: usize>(Arc<Shared<Message<WORDS>>>);

impl Way for MutexCondvar {
    const ID: &'static str = "mutex-condvar";
    const ABOUT: &'static str =
        "Mutex<VecDeque> and two Condvars, sleeping on a futex";
    const SPINNING: bool = false;
}

impl Queue for MutexCondvar {
    type Sender<const WORDS: usize> = MutexSender<WORDS>;
    type Receiver<const WORDS: usize> = MutexReceiver<WORDS>;

    fn open<const WORDS: usize>(
        capacity: usize,
        _waiter: &Waiter,
    ) -> Result<(Self::Sender<WORDS>, Self::Receiver<WORDS>), TrialError> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                items: VecDeque::with_capacity(capacity),
                closed: false,
                receiver_sleeps: false,
                sender_sleeps: false,
            }),
            not_empty: Condvar::new(),
            not_full: Condvar::new(),
            capacity,
        });
        Ok((MutexSender(Arc::clone(&shared)), MutexReceiver(shared)))
    }
}

impl<T> Shared<T> {
    /// Nobody panics while holding the lock, so it is never really poisoned.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.not_empty.notify_all();
        self.not_full.notify_all();
    }
}

impl<const WORDS: usize> Sender<WORDS> for MutexSender<WORDS> {
    #[inline]
    fn send(&mut self, message: Message<WORDS>) -> Result<(), Lost> {
        let shared = &*self.0;
        let mut state = shared.lock();
        while state.items.len() >= shared.capacity && !state.closed {
            state.sender_sleeps = true;
            state = shared
                .not_full
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Err(Lost::Closed);
        }
        state.items.push_back(message);
        let wake = mem::take(&mut state.receiver_sleeps);
        drop(state);
        if wake {
            shared.not_empty.notify_one();
        }
        Ok(())
    }
}

impl<const WORDS: usize> Receiver<WORDS> for MutexReceiver<WORDS> {
    #[inline]
    fn receive(&mut self) -> Result<Message<WORDS>, Lost> {
        let shared = &*self.0;
        let mut state = shared.lock();
        loop {
            if let Some(message) = state.items.pop_front() {
                let wake = mem::take(&mut state.sender_sleeps);
                drop(state);
                if wake {
                    shared.not_full.notify_one();
                }
                return Ok(message);
            }
            if state.closed {
                return Err(Lost::Closed);
            }
            state.receiver_sleeps = true;
            state = shared
                .not_empty
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<const WORDS: usize> Drop for MutexSender<WORDS> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<const WORDS: usize> Drop for MutexReceiver<WORDS> {
    fn drop(&mut self) {
        self.0.close();
    }
}
