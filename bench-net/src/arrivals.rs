//! What arrived, frame by frame: in order, late, twice, or somebody else's.

use crate::frame::{Content, Payload, Series};

/// How far back a frame may be late and still be told from one that comes
/// twice.
const WINDOW: u64 = u64::BITS as u64;

/// Checks the frames of a series as they arrive. Gaps are allowed: what is
/// missing is for the ledger.
#[derive(Clone, Debug)]
pub struct Arrivals {
    series: Series,
    /// One above the highest number so far.
    next: u64,
    /// Bit *i* says that frame `next - 1 - i` has arrived.
    seen: u64,
    /// What was counted.
    pub tally: Tally,
}

/// How often each thing happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames of the series, each once.
    pub delivered: u64,
    /// Those among them that came after one with a higher number.
    pub reordered: u64,
    /// Frames that had come before, or are too late to tell.
    pub duplicates: u64,
    /// Of another run, trial or direction.
    pub foreign: u64,
    /// With the series' tag and a wrong check.
    pub damaged: u64,
}

impl Tally {
    /// All frames that were looked at.
    pub fn received(&self) -> u64 {
        self.delivered + self.duplicates + self.foreign + self.damaged
    }
}

impl Arrivals {
    /// Nothing has arrived yet.
    pub fn new(series: Series) -> Self {
        Self { series, next: 0, seen: 0, tally: Tally::default() }
    }

    /// One above the highest number that has arrived.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Looks at a frame.
    #[inline(always)]
    pub fn see(&mut self, payload: &Payload) {
        match self.series.read(payload) {
            Content::Frame(number) if number == self.next => {
                self.next += 1;
                self.seen = self.seen << 1 | 1;
                self.tally.delivered += 1;
            }
            content => self.see_other(content),
        }
    }

    #[cold]
    #[inline(never)]
    fn see_other(&mut self, content: Content) {
        match content {
            Content::Frame(number) if number > self.next => {
                let step = number - self.next + 1;
                self.seen =
                    if step < WINDOW { self.seen << step | 1 } else { 1 };
                self.next = number + 1;
                self.tally.delivered += 1;
            }
            Content::Frame(number) => {
                let age = self.next - 1 - number;
                if age < WINDOW && self.seen & 1 << age == 0 {
                    self.seen |= 1 << age;
                    self.tally.delivered += 1;
                    self.tally.reordered += 1;
                } else {
                    self.tally.duplicates += 1;
                }
            }
            // Streams end by their sender's word, not by a frame.
            Content::Last | Content::Foreign => self.tally.foreign += 1,
            Content::Damaged => self.tally.damaged += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{frame::Direction, testing};

    fn arrivals() -> (Series, Arrivals) {
        let trial = testing::trial("x", &[]);
        let series = Series::new(&trial, Direction::There);
        (series, Arrivals::new(series))
    }

    fn tally(numbers: &[u64]) -> Tally {
        let (series, mut arrivals) = arrivals();
        for number in numbers {
            arrivals.see(&series.payload(*number));
        }
        arrivals.tally
    }

    #[test]
    fn in_order_and_with_gaps() {
        let tally = tally(&[0, 1, 2, 10, 11, 500]);
        assert_eq!(tally, Tally { delivered: 6, ..Tally::default() });
    }

    #[test]
    fn late_is_not_twice() {
        let tally = tally(&[0, 2, 1, 1, 2, 5, 3, 4, 3]);
        assert_eq!(tally.delivered, 6);
        assert_eq!(tally.reordered, 3);
        assert_eq!(tally.duplicates, 3);
        assert_eq!(tally.received(), 9);
    }

    #[test]
    fn the_edges_of_the_window() {
        // 0 is 63 frames old: the last bit. Then it is 64 frames old.
        assert_eq!(tally(&[63, 0]).reordered, 1);
        assert_eq!(tally(&[63, 0, 0]).duplicates, 1);
        assert_eq!(tally(&[64, 0]).duplicates, 1);
        assert_eq!(tally(&[0, 64, 1]).reordered, 1);
        assert_eq!(tally(&[0, 63, 0]).duplicates, 1);
        assert_eq!(tally(&[0, 1 << 40, 0]).duplicates, 1);
    }

    #[test]
    fn others_are_counted_by_name() {
        let (series, mut arrivals) = arrivals();
        let trial = testing::trial("x", &[]);
        let back = Series::new(&trial, Direction::Back);
        arrivals.see(&back.payload(0));
        arrivals.see(&series.last());
        let mut damaged = series.payload(0);
        damaged.0[17] ^= 1;
        arrivals.see(&damaged);
        arrivals.see(&series.payload(0));
        let tally = arrivals.tally;
        assert_eq!((tally.foreign, tally.damaged, tally.delivered), (2, 1, 1));
        assert_eq!(arrivals.next(), 1);
    }
}
