//! Is this machine fit for a result, and what stands in the way?
//!
//! A [`Check`] reads files of the machine (and limits of this process) and
//! judges one setting. Nothing here measures, writes or repairs.
//!
//! The rules that keep a verdict honest:
//! - What cannot be read or understood is `unknown`, never `pass`. The types
//!   hold that: a check gets a value or returns early with [`Unknown`].
//! - A check with a `limit` caps the verdict when it fails. When it is unknown
//!   it caps at "comparison only": a figure to publish needs a machine that
//!   shows its settings, a comparison within one run does not.
//! - A check without a limit warns at worst.

mod cpu;
mod finding;
mod frequency;
pub mod io_uring;
mod isolation;
mod kernel;
mod memory;
mod noise;
mod patient;
mod support;
mod system;

pub use finding::{Finding, Report, Status, Verdict, Write};
pub use patient::{Live, Patient};

/// One question about the machine.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Area and name: `cpu.governor`.
    pub id: &'static str,
    /// What is looked at, in a few words.
    pub about: &'static str,
    /// What it does to results if it is not as wanted.
    pub why: &'static str,
    /// What should be seen.
    pub wanted: &'static str,
    /// What a person can do; an observation may know better.
    pub fix: &'static str,
    /// Where it is read.
    pub source: &'static str,
    /// What a failure caps the verdict at; `None` for a check that only warns.
    pub limit: Option<Verdict>,
    /// Looks.
    pub examine: fn(&Patient) -> Result<Observation, Unknown>,
}

/// A check with the suites whose results it touches (none: all).
#[derive(Clone, Debug)]
pub struct Listed {
    /// The check.
    pub check: Check,
    /// Ids of suites.
    pub touches: Vec<&'static str>,
}

/// What a check saw.
#[derive(Clone, Debug)]
pub struct Observation {
    status: Status,
    observed: String,
    fix: Option<String>,
    writes: Vec<Write>,
    caps: Option<Verdict>,
}

impl Observation {
    fn new(status: Status, observed: impl Into<String>) -> Self {
        Self {
            status,
            observed: observed.into(),
            fix: None,
            writes: Vec::new(),
            caps: None,
        }
    }

    /// It is as wanted.
    pub fn pass(observed: impl Into<String>) -> Self {
        Self::new(Status::Pass, observed)
    }

    /// It is not, and a reader should know.
    pub fn warn(observed: impl Into<String>) -> Self {
        Self::new(Status::Warn, observed)
    }

    /// It is not, and results are worth less: as much as the check's limit
    /// says. (Without a limit it is a warning.)
    pub fn fail(observed: impl Into<String>) -> Self {
        Self::new(Status::Fail, observed)
    }

    /// The machine proves that the question does not arise.
    pub fn not_applicable(because: impl Into<String>) -> Self {
        Self::new(Status::NotApplicable, because)
    }

    /// Passes or fails.
    pub fn pass_if(good: bool, observed: impl Into<String>) -> Self {
        if good { Self::pass(observed) } else { Self::fail(observed) }
    }

    /// Another fix than the check's own.
    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// A file that a fix would write, `path` relative to the root. Kept only
    /// where something is wrong.
    #[must_use]
    pub fn with_write(
        mut self,
        path: &str,
        value: impl ToString,
        was: impl ToString,
    ) -> Self {
        let path = format!("/{}", path.trim_start_matches('/'));
        let (value, was) = (value.to_string(), was.to_string());
        if value != was {
            self.writes.push(Write { path, value, was });
        }
        self
    }

    /// A heavier cap than the check's limit.
    #[must_use]
    pub fn capping(mut self, verdict: Verdict) -> Self {
        self.caps = Some(verdict);
        self
    }
}

/// Why a check cannot tell.
#[derive(Clone, Debug)]
pub struct Unknown {
    reason: String,
    fix: Option<String>,
}

impl Unknown {
    /// With the reason.
    pub fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), fix: None }
    }

    /// In a guest: what only its host knows.
    pub fn host_only(what: &str) -> Self {
        Self::because(format!("{what}: known to the host only"))
            .with_fix("ask whoever runs the host, or use bare metal")
    }

    /// What would let it be told.
    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// The checks that matter to every suite.
pub fn common_checks() -> Vec<Check> {
    [
        cpu::CHECKS,
        frequency::CHECKS,
        isolation::CHECKS,
        noise::CHECKS,
        memory::CHECKS,
        kernel::CHECKS,
        system::CHECKS,
    ]
    .concat()
}

/// Examines the patient.
pub fn examine(patient: &Patient, checks: &[Listed]) -> Report {
    Report::new(checks.iter().map(|listed| listed.examine(patient)).collect())
}

impl Listed {
    fn examine(&self, patient: &Patient) -> Finding {
        let check = &self.check;
        let mut finding = Finding {
            id: check.id.to_owned(),
            status: Status::Unknown,
            observed: String::new(),
            wanted: check.wanted.to_owned(),
            why: check.why.to_owned(),
            fix: String::new(),
            writes: Vec::new(),
            source: check.source.to_owned(),
            touches: self.touches.iter().map(|&id| id.to_owned()).collect(),
            caps: None,
        };
        match (check.examine)(patient) {
            Ok(seen) => judge(check, seen, &mut finding),
            Err(unknown) => {
                finding.observed = unknown.reason;
                finding.fix = unknown.fix.unwrap_or_default();
                finding.caps = check.limit.map(|_| Verdict::ComparisonOnly);
            }
        }
        finding
    }
}

fn judge(check: &Check, seen: Observation, finding: &mut Finding) {
    finding.observed = seen.observed;
    let caps = seen.caps.max(check.limit);
    finding.status = match (seen.status, caps) {
        (Status::Fail, None) => Status::Warn,
        (status, _) => status,
    };
    if matches!(finding.status, Status::Warn | Status::Fail) {
        finding.fix = seen.fix.unwrap_or_else(|| check.fix.to_owned());
        finding.writes = seen.writes;
    }
    if finding.status == Status::Fail {
        finding.caps = caps;
    }
}
