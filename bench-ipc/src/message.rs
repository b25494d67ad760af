//! What is moved: numbered messages that only one trial can have sent.

use harness::measure::trial::{Trial, mix};

/// The highest bit is set in every key and clear in every number, so that the
/// first word of a message is never 0, which mailboxes start with.
const TOP: u64 = 1 << 63;

/// The number of the message that ends a series.
const LAST: u64 = TOP - 1;

/// The longest message.
pub const WORDS_MAX: usize = 8;

/// A message of so many words of 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Message<const WORDS: usize>(pub [u64; WORDS]);

impl<const WORDS: usize> Message<WORDS> {
    /// Its size.
    pub const BYTES: usize = {
        assert!(WORDS > 0 && WORDS <= WORDS_MAX);
        WORDS * size_of::<u64>()
    };
}

/// A numbered series of messages in one direction of one trial.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    key: u64,
}

/// Directions within a trial, so that no message can be taken for an answer.
#[derive(Clone, Copy, Debug)]
pub enum Direction {
    /// From the one who asks, or the only direction.
    Forth = 1,
    /// Back to the one who asks.
    Back = 2,
}

impl Series {
    /// The series of a trial; its key comes from the run and the trial.
    pub fn new(trial: &Trial, direction: Direction) -> Self {
        let spec = &trial.spec;
        let key = mix(spec.run_id ^ mix(spec.trial ^ mix(direction as u64)));
        Self { key: key | TOP }
    }

    /// The first word of a message.
    #[inline(always)]
    pub fn word(&self, number: u64) -> u64 {
        self.key ^ number
    }

    /// The message of this number. All words depend on it; the last one is
    /// inverted, so that a message torn in the middle is noticed.
    #[inline(always)]
    pub fn message<const WORDS: usize>(&self, number: u64) -> Message<WORDS> {
        let word = self.word(number);
        let mut words = [word; WORDS];
        if WORDS > 1 {
            words[WORDS - 1] = !word;
        }
        Message(words)
    }

    /// Whether first and last word are those of this number.
    #[inline(always)]
    pub fn is<const WORDS: usize>(
        &self,
        message: &Message<WORDS>,
        number: u64,
    ) -> bool {
        let word = self.word(number);
        message.0[0] == word && (WORDS == 1 || message.0[WORDS - 1] == !word)
    }

    /// The message that ends the series.
    pub fn last<const WORDS: usize>(&self) -> Message<WORDS> {
        self.message(LAST)
    }

    /// Whether this is it.
    pub fn is_last<const WORDS: usize>(
        &self,
        message: &Message<WORDS>,
    ) -> bool {
        self.is(message, LAST)
    }

    /// What is wrong with a message that should have had this number.
    #[cold]
    pub fn explain<const WORDS: usize>(
        &self,
        message: &Message<WORDS>,
        expected: u64,
    ) -> String {
        // No trial gets anywhere near so many messages; a foreign word hardly
        // ever decodes to fewer.
        const PLAUSIBLE: u64 = 1 << 48;
        let number = message.0[0] ^ self.key;
        if self.is_last(message) {
            format!("the series ended where message {expected} was due")
        } else if number == expected {
            format!("message {expected} arrived damaged: {:x?}", message.0)
        } else if number < PLAUSIBLE && self.is(message, number) {
            format!("message {number} arrived where {expected} was due")
        } else {
            format!(
                "{:x?} arrived where message {expected} was due: no message \
                 of this trial",
                message.0
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_message_is_taken_for_no_other() {
        let trial = testing::trial("x", &[]);
        let forth = Series::new(&trial, Direction::Forth);
        let back = Series::new(&trial, Direction::Back);
        let message: Message<8> = forth.message(7);
        assert!(forth.is(&message, 7));
        assert!(!forth.is(&message, 8));
        assert!(!back.is(&message, 7));
        assert!(!forth.is_last(&message));
        assert!(forth.is_last::<1>(&forth.last()));
        let mut next = testing::trial("x", &[]);
        next.spec.trial += 1;
        assert!(!Series::new(&next, Direction::Forth).is(&message, 7));
    }

    #[test]
    fn no_message_looks_like_an_empty_mailbox() {
        let trial = testing::trial("x", &[]);
        let series = Series::new(&trial, Direction::Forth);
        for number in [0, 1, LAST] {
            assert_ne!(series.message::<1>(number).0[0], 0);
        }
    }

    #[test]
    fn what_went_wrong_is_said() {
        let trial = testing::trial("x", &[]);
        let series = Series::new(&trial, Direction::Forth);
        let explain = |message: Message<8>| series.explain(&message, 5);
        assert!(explain(series.message(6)).contains("message 6 arrived"));
        assert!(explain(series.last()).contains("ended"));
        assert!(explain(Message([3; 8])).contains("no message"));
        let mut torn: Message<8> = series.message(5);
        torn.0[7] ^= 1;
        assert!(!series.is(&torn, 5));
        assert!(explain(torn).contains("damaged"));
    }
}
