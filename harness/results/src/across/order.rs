//! Were the sessions of the two sides measured in turn?

use serde::Serialize;

/// When a session was measured: the first and the last start of a trial, in
/// RFC 3339 of one form, so that text compares as time does.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Span {
    pub first: String,
    pub last: String,
}

/// In which order the sessions of two sides were measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// In turn: never more than two of one side in a row. Drift falls on both.
    Alternated,
    /// Mixed, with longer stretches of one side.
    PartlyAlternated,
    /// All of one side, then all of the other: drift looks like an effect.
    OneAfterTheOther,
    /// At the same time on one machine: each disturbed the other.
    Overlapping,
}

/// A stretch this long may stand at a change of direction (A B B A).
const STRETCH_MAX: usize = 2;

pub(super) fn order(a: &[Span], b: &[Span], same_machine: bool) -> Order {
    let mut all: Vec<&Span> = a.iter().chain(b).collect();
    all.sort();
    // Sorted by their start, neighbours overlap if any two do.
    if same_machine && all.windows(2).any(|pair| overlap(pair[0], pair[1])) {
        return Order::Overlapping;
    }
    let letters = letters(a, b);
    let stretches = stretches(&letters);
    // One session a side is one after the other, whatever its stretches.
    if stretches.len() <= 2 {
        Order::OneAfterTheOther
    } else if stretches.iter().all(|length| *length <= STRETCH_MAX) {
        Order::Alternated
    } else {
        Order::PartlyAlternated
    }
}

/// One letter per session in the order of time: `ABABABAB`.
pub(super) fn letters(a: &[Span], b: &[Span]) -> String {
    let mut sessions: Vec<(&Span, char)> = a
        .iter()
        .map(|span| (span, 'A'))
        .chain(b.iter().map(|span| (span, 'B')))
        .collect();
    sessions.sort();
    sessions.into_iter().map(|(_, letter)| letter).collect()
}

fn stretches(letters: &str) -> Vec<usize> {
    let letters = letters.as_bytes();
    letters.chunk_by(|a, b| a == b).map(<[u8]>::len).collect()
}

fn overlap(a: &Span, b: &Span) -> bool {
    a.first < b.last && b.first < a.last
}

impl Order {
    /// What it means for the verdicts, and what would be better.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Alternated => {
                "in turn: what drifted meanwhile fell on both sides"
            }
            Self::PartlyAlternated => {
                "mixed, with stretches of one side: drift falls on both in \
                 part; shorter turns are stronger"
            }
            Self::OneAfterTheOther => {
                "one side after the other, the weaker way: what drifted \
                 meanwhile looks like an effect; runs of one session each, \
                 taken in turn, are stronger"
            }
            Self::Overlapping => {
                "AT THE SAME TIME on one machine: each side disturbed the \
                 other; believe no verdict, measure them in turn"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(minutes: &[u32]) -> Vec<Span> {
        minutes
            .iter()
            .map(|m| Span {
                first: format!("2026-11-21T04:{m:02}:00.000Z"),
                last: format!("2026-11-21T04:{m:02}:50.000Z"),
            })
            .collect()
    }

    #[test]
    fn turns_are_told_from_blocks_of_one_side() {
        for (a, b, letters_expected, expected) in [
            (
                &[0, 2, 4, 6][..],
                &[1, 3, 5, 7][..],
                "ABABABAB",
                Order::Alternated,
            ),
            (&[0, 3, 4, 7], &[1, 2, 5, 6], "ABBAABBA", Order::Alternated),
            (&[0, 1, 2, 3], &[4, 5, 6, 7], "AAAABBBB", Order::OneAfterTheOther),
            (&[4, 5, 6, 7], &[0, 1, 2, 3], "BBBBAAAA", Order::OneAfterTheOther),
            (&[0, 1, 2, 7], &[3, 4, 5, 6], "AAABBBBA", Order::PartlyAlternated),
            (&[0], &[1], "AB", Order::OneAfterTheOther),
        ] {
            let (a, b) = (spans(a), spans(b));
            assert_eq!(letters(&a, &b), letters_expected);
            assert_eq!(order(&a, &b, true), expected, "{letters_expected}");
        }
    }

    #[test]
    fn at_the_same_time_counts_on_one_machine_only() {
        let (a, b) = (spans(&[0, 1]), spans(&[1, 2]));
        assert_eq!(order(&a, &b, true), Order::Overlapping);
        assert_ne!(order(&a, &b, false), Order::Overlapping);
    }
}
