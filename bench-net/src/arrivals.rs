//! What arrived, frame by frame: in order, late, twice, or somebody else's.

use std::{collections::VecDeque, ops::Range};

use crate::frame::{Content, Payload, Series};

/// Runs of missing frames that are remembered. However late a frame is, as
/// long as no more runs than these opened behind its own, it is told from one
/// that comes twice. A wire may hold frames back for long: one of QEMU's lets
/// a fresh frame overtake all that wait in its queue.
const GAPS: usize = 1_024;

/// Checks the frames of a series as they arrive. Gaps are allowed: what is
/// missing is for the ledger.
#[derive(Clone, Debug)]
pub struct Arrivals {
    series: Series,
    /// One above the highest number so far.
    next: u64,
    /// Below `next` and not seen: runs that are not empty, the lowest first.
    missing: VecDeque<Range<u64>>,
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
    /// Frames that had come before, or are too late to tell: more than 1,024
    /// runs of missing frames opened since.
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
        let missing = VecDeque::with_capacity(GAPS);
        Self { series, next: 0, missing, tally: Tally::default() }
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
                self.miss(self.missing.len(), self.next..number);
                self.next = number + 1;
                self.tally.delivered += 1;
            }
            Content::Frame(number) => {
                if self.find(number) {
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

    /// Remembers a run as the one of this place. The oldest run makes room,
    /// so that the measured loop does not allocate.
    fn miss(&mut self, mut place: usize, run: Range<u64>) {
        if self.missing.len() == GAPS {
            if place == 0 {
                return;
            }
            self.missing.pop_front();
            place -= 1;
        }
        self.missing.insert(place, run);
    }

    /// Whether this frame was missing; it is no more.
    fn find(&mut self, number: u64) -> bool {
        let place = self.missing.partition_point(|run| run.end <= number);
        let Some(run) = self.missing.get_mut(place) else { return false };
        if !run.contains(&number) {
            return false;
        }
        let before = run.start..number;
        run.start = number + 1;
        if run.is_empty() {
            self.missing.remove(place);
        }
        if !before.is_empty() {
            self.miss(place, before);
        }
        true
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
    fn however_late_it_is_not_twice() {
        for late in [1, 63, 64, 65, 128, 10_000, 1 << 40] {
            let found = tally(&[0, late + 1, 1, 1, late + 1]);
            assert_eq!(found.delivered, 3, "{late}");
            assert_eq!((found.reordered, found.duplicates), (1, 2), "{late}");
        }
    }

    #[test]
    fn a_run_comes_late_in_any_order() {
        let orders = [[1, 2, 3, 4], [4, 3, 2, 1], [2, 4, 1, 3], [3, 1, 4, 2]];
        for order in orders {
            let twice = [&[0, 500], &order[..], &order[..]].concat();
            let found = tally(&twice);
            assert_eq!(found.delivered, 6, "{order:?}");
            assert_eq!((found.reordered, found.duplicates), (4, 4));
        }
    }

    /// A queue of 256 frames, each of which a fresh one overtakes.
    #[test]
    fn fresh_frames_overtake_what_waits() {
        let (held, fresh) = (0..256, 256..512);
        let numbers: Vec<u64> = fresh.chain(held).collect();
        let found = tally(&numbers);
        assert_eq!((found.delivered, found.reordered), (512, 256));
        assert_eq!(found.duplicates, 0);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        // Every other frame is missing, one run more than can be remembered.
        let mut numbers: Vec<u64> =
            (0..=GAPS as u64).map(|run| 2 * run + 1).collect();
        let capacity = {
            let (series, mut arrivals) = arrivals();
            let before = arrivals.missing.capacity();
            for number in &numbers {
                arrivals.see(&series.payload(*number));
            }
            (before, arrivals.missing.capacity())
        };
        assert_eq!(capacity.0, capacity.1, "nothing is allocated");
        numbers.extend([0, 2]);
        let found = tally(&numbers);
        assert_eq!((found.duplicates, found.reordered), (1, 1));
        // A full memory is split: the older half makes room, or is it.
        numbers.truncate(GAPS + 1);
        numbers.extend([10_000, 9_000, 8_000, 9_500]);
        let found = tally(&numbers);
        assert_eq!((found.duplicates, found.reordered), (0, 3));
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
