//! What examining a machine yields: findings, and the verdict they allow.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As wanted.
    Pass,
    /// Not as wanted; worth knowing, not worth less.
    Warn,
    /// Not as wanted, so that results are worth less: it caps the verdict.
    Fail,
    /// It cannot be told: a file is missing, refuses, or makes no sense.
    Unknown,
    /// The machine proves that the question does not arise.
    NotApplicable,
}

impl Status {
    /// Every status, in the order in which they are told.
    pub const ALL: [Self; 5] = [
        Self::Fail,
        Self::Warn,
        Self::Unknown,
        Self::Pass,
        Self::NotApplicable,
    ];

    /// The word in JSON and in fixtures: `not_applicable`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
            Self::NotApplicable => "not_applicable",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NotApplicable => "not applicable",
            other => other.word(),
        })
    }
}

/// What a machine's results are good for, best first: a greater one is worse.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Figures may be quoted as those of this hardware.
    Publishable,
    /// Variants may be compared with each other; the figures are of this
    /// place and hour.
    ComparisonOnly,
    /// It shows that things work, and nothing else.
    FunctionalOnly,
}

impl Verdict {
    /// The word in JSON and in fixtures: `comparison_only`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Publishable => "publishable",
            Self::ComparisonOnly => "comparison_only",
            Self::FunctionalOnly => "functional_only",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Publishable => "publishable",
            Self::ComparisonOnly => "comparison only",
            Self::FunctionalOnly => "functional only",
        })
    }
}

/// One file to be written, and what stands in it now: a fix and its undo.
/// Nothing here ever writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The file, from `/`.
    pub path: String,
    /// What the fix writes.
    pub value: String,
    /// What the undo writes.
    pub was: String,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The check, `cpu.governor`.
    pub id: String,
    /// How it ended.
    pub status: Status,
    /// What was seen, or why nothing could be.
    pub observed: String,
    /// What should have been seen.
    pub wanted: String,
    /// What it does to results.
    pub why: String,
    /// What a person can do about it; empty when all is well.
    pub fix: String,
    /// The part of the fix that a script can do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<Write>,
    /// Where it was looked for.
    pub source: String,
    /// The suites whose results it touches; empty for all.
    pub touches: Vec<String>,
    /// What it caps the verdict at.
    pub caps: Option<Verdict>,
}

impl Finding {
    /// What decides which of two findings of one check is the worse.
    fn badness(&self) -> (Option<Verdict>, u8) {
        let weight = match self.status {
            Status::NotApplicable => 0,
            Status::Pass => 1,
            Status::Unknown => 2,
            Status::Warn => 3,
            Status::Fail => 4,
        };
        (self.caps, weight)
    }
}

/// All findings about a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The worst that any finding caps it at.
    pub verdict: Verdict,
    /// In the order of the checks.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Derives the verdict.
    pub fn new(findings: Vec<Finding>) -> Self {
        let worst = findings.iter().filter_map(|finding| finding.caps).max();
        Self { verdict: worst.unwrap_or(Verdict::Publishable), findings }
    }

    /// Adds the findings of another examination of the same machine. Where
    /// both have a check, the worse finding stays: a run is worth what its
    /// worst part is worth.
    pub fn absorb(&mut self, other: Self) {
        for theirs in other.findings {
            let same = |f: &&mut Finding| f.id == theirs.id;
            let Some(ours) = self.findings.iter_mut().find(same) else {
                self.findings.push(theirs);
                continue;
            };
            let mut touches = ours.touches.clone();
            for suite in &theirs.touches {
                if !touches.contains(suite) {
                    touches.push(suite.clone());
                }
            }
            if theirs.badness() > ours.badness() {
                *ours = theirs;
            }
            ours.touches = touches;
        }
        *self = Self::new(std::mem::take(&mut self.findings));
    }

    /// The findings that cap the verdict: the worst first, what was seen
    /// before what could not be told.
    pub fn caps(&self) -> Vec<&Finding> {
        let mut caps: Vec<&Finding> =
            self.findings.iter().filter(|f| f.caps.is_some()).collect();
        caps.sort_by_key(|finding| {
            let unseen = finding.status == Status::Unknown;
            (std::cmp::Reverse(finding.caps), unseen)
        });
        caps
    }

    /// The findings that ended in this way.
    pub fn with(&self, status: Status) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |f| f.status == status)
    }

    /// The finding of a check.
    pub fn finding(&self, id: &str) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.id == id)
    }
}
