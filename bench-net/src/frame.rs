//! What each frame carries, so that none is taken for another.
//!
//! A frame of 64 bytes on the wire is 60 and its check sequence: behind the
//! headers of Ethernet, IPv4 and UDP 18 bytes are left.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | run: the run's id, mixed and cut |
//! | 4 | 3 | trial: its number in the run, modulo 2^24 |
//! | 7 | 1 | direction: 1 there, 2 back |
//! | 8 | 8 | sequence number, from 0 in each direction |
//! | 16 | 2 | check: folded from the 16 bytes before it |
//!
//! All fields are little-endian.

use std::fmt;

use harness::measure::trial::{Trial, mix};

/// Bytes behind the UDP header.
pub const PAYLOAD_BYTES: usize = 18;

/// The same for the headers' arithmetic.
pub const PAYLOAD_BYTES_U32: u32 = 18;

const TAG: std::ops::Range<usize> = 0..8;
const SEQUENCE: std::ops::Range<usize> = 8..16;
const CHECK: std::ops::Range<usize> = 16..18;

/// The number of the frame that ends a series. No trial gets there.
const LAST: u64 = u64::MAX;

/// What is behind the UDP header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Payload(pub [u8; PAYLOAD_BYTES]);

impl Payload {
    /// From what arrived. A frame of another length is nobody's.
    #[inline(always)]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        match bytes.first_chunk() {
            Some(payload) if bytes.len() == PAYLOAD_BYTES => Self(*payload),
            _ => Self::NOBODYS,
        }
    }

    /// No series makes it: there is no direction 0.
    const NOBODYS: Self = Self([0; PAYLOAD_BYTES]);
}

/// Directions within a trial, so that no question is taken for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From side A to side B.
    There = 1,
    /// From side B to side A.
    Back = 2,
}

/// The numbered frames of one direction of one trial.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    tag: u64,
}

/// What a payload turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The frame of this number of this series.
    Frame(u64),
    /// The frame that ends this series.
    Last,
    /// Of another run, trial or direction, or none of ours at all.
    Foreign,
    /// It has this series' tag, and its check does not match.
    Damaged,
}

impl Series {
    /// The series of a trial in one direction.
    pub fn new(trial: &Trial, direction: Direction) -> Self {
        const TRIAL_MASK: u64 = (1 << 24) - 1;
        let run = mix(trial.spec.run_id) & u64::from(u32::MAX);
        let number = trial.spec.trial & TRIAL_MASK;
        Self { tag: run | number << 32 | (direction as u64) << 56 }
    }

    /// The frame of this number.
    #[inline(always)]
    pub fn payload(&self, sequence: u64) -> Payload {
        let mut bytes = [0; PAYLOAD_BYTES];
        bytes[TAG].copy_from_slice(&self.tag.to_le_bytes());
        bytes[SEQUENCE].copy_from_slice(&sequence.to_le_bytes());
        bytes[CHECK].copy_from_slice(&check(self.tag, sequence).to_le_bytes());
        Payload(bytes)
    }

    /// The frame that ends the series.
    pub fn last(&self) -> Payload {
        self.payload(LAST)
    }

    /// What a payload is to this series.
    #[inline(always)]
    pub fn read(&self, payload: &Payload) -> Content {
        let tag = word(payload, TAG.start);
        let sequence = word(payload, SEQUENCE.start);
        if tag != self.tag {
            return Content::Foreign;
        }
        if payload.0[CHECK] != check(tag, sequence).to_le_bytes() {
            return Content::Damaged;
        }
        if sequence == LAST { Content::Last } else { Content::Frame(sequence) }
    }
}

/// In words, for messages.
impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = word(self, TAG.start);
        write!(
            f,
            "run {:08x} trial {} direction {} frame {}",
            tag & u64::from(u32::MAX),
            tag >> 32 & 0xff_ffff,
            tag >> 56,
            word(self, SEQUENCE.start)
        )
    }
}

#[inline(always)]
fn word(payload: &Payload, start: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&payload.0[start..start + 8]);
    u64::from_le_bytes(bytes)
}

/// The product's upper bits depend on all bits below; UDP's own checksum is
/// not computed on a veth, so this is the only check there is.
#[inline(always)]
fn check(tag: u64, sequence: u64) -> u16 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let folded = (tag ^ sequence.rotate_left(32) ^ sequence).wrapping_mul(ODD);
    (folded >> 48) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_frame_is_taken_for_no_other() {
        let trial = testing::trial("x", &[]);
        let there = Series::new(&trial, Direction::There);
        let back = Series::new(&trial, Direction::Back);
        let payload = there.payload(7);
        assert_eq!(there.read(&payload), Content::Frame(7));
        assert_eq!(back.read(&payload), Content::Foreign);
        assert_eq!(there.read(&there.last()), Content::Last);
        let mut next = testing::trial("x", &[]);
        next.spec.trial += 1;
        let next = Series::new(&next, Direction::There);
        assert_eq!(next.read(&payload), Content::Foreign);
        let mut other = testing::trial("x", &[]);
        other.spec.run_id += 1;
        let other = Series::new(&other, Direction::There);
        assert_eq!(other.read(&payload), Content::Foreign);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let trial = testing::trial("x", &[]);
        let series = Series::new(&trial, Direction::There);
        for sequence in [0, 1, 0xffff, 1 << 20, 123_456_789_012] {
            for bit in 0..PAYLOAD_BYTES * 8 {
                let mut payload = series.payload(sequence);
                payload.0[bit / 8] ^= 1 << (bit % 8);
                let content = series.read(&payload);
                let expected = if bit / 8 < SEQUENCE.start {
                    Content::Foreign
                } else {
                    Content::Damaged
                };
                assert_eq!(content, expected, "{sequence} bit {bit}");
            }
        }
    }

    #[test]
    fn another_length_is_nobodys() {
        let trial = testing::trial("x", &[]);
        let series = Series::new(&trial, Direction::There);
        let bytes = series.payload(1).0;
        assert_eq!(
            series.read(&Payload::from_bytes(&bytes)),
            Content::Frame(1)
        );
        for wrong in [&bytes[..17], &[], &[1; 64]] {
            let payload = Payload::from_bytes(wrong);
            assert_eq!(series.read(&payload), Content::Foreign);
        }
    }

    #[test]
    fn a_frame_in_words() {
        let trial = testing::trial("x", &[]);
        let text = Series::new(&trial, Direction::Back).payload(5).to_string();
        assert!(text.ends_with("trial 42 direction 2 frame 5"), "{text}");
    }
}
