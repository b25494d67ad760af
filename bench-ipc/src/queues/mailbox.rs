//! A message in a cache line of its own: the payload of the ways that only
//! signal, and the whole of the `line` floors.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::message::Message;

/// Room for one message, alone in a pair of lines. The next one may be put
/// only after the receiver has answered the one before.
#[derive(Debug)]
#[repr(align(128))]
pub struct Mailbox<const WORDS: usize>([AtomicU64; WORDS]);

impl<const WORDS: usize> Default for Mailbox<WORDS> {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }
}

impl<const WORDS: usize> Mailbox<WORDS> {
    /// Stores a message, the first word last.
    #[inline(always)]
    pub fn put(&self, message: Message<WORDS>) {
        let (first, rest) = self.0.split_at(1);
        for (place, word) in rest.iter().zip(&message.0[1..]) {
            // Published by the store below.
            place.store(*word, Ordering::Relaxed);
        }
        // Release pairs with the Acquire load in `take`: whoever sees the
        // first word sees the others.
        first[0].store(message.0[0], Ordering::Release);
    }

    /// The message that is there, unless it still begins with this word. Two
    /// messages in a row never begin alike, and none begins with the 0 that a
    /// mailbox starts with.
    #[inline(always)]
    pub fn take(&self, before: u64) -> Option<Message<WORDS>> {
        // Acquire pairs with the Release store in `put`.
        let first = self.0[0].load(Ordering::Acquire);
        if first == before {
            return None;
        }
        let mut words = [first; WORDS];
        for (word, place) in words.iter_mut().zip(&self.0).skip(1) {
            *word = place.load(Ordering::Relaxed);
        }
        Some(Message(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_once() {
        let mailbox = Mailbox::<8>::default();
        assert_eq!(mailbox.take(0), None);
        let message = Message([1, 2, 3, 4, 5, 6, 7, 8]);
        mailbox.put(message);
        assert_eq!(mailbox.take(0), Some(message));
        assert_eq!(mailbox.take(1), None);
    }

    #[test]
    fn fits_a_line() {
        assert_eq!(size_of::<Mailbox<8>>(), 128);
        assert_eq!(align_of::<Mailbox<1>>(), 128);
    }
}
