//! The doctor's checks of some suites, put together: what all suites want of a
//! machine, then what each wants for itself. And what of it a run keeps.

use results::schema::RunFile;

use super::interface_names::InterfaceNames;
use crate::{
    machine::{
        doctor::{self, Listed, Patient, Report, Status},
        root::Root,
    },
    suite::Suite,
};

/// All checks that touch the results of these suites. A check that several
/// suites name stands once.
pub fn checks<'a>(suites: impl IntoIterator<Item = &'a Suite>) -> Vec<Listed> {
    let common = doctor::common_checks().into_iter();
    let mut listed: Vec<Listed> =
        common.map(|check| Listed { check, touches: Vec::new() }).collect();
    let all = listed.len();
    for suite in suites {
        for check in (suite.checks)() {
            let same = |l: &&mut Listed| l.check.id == check.id;
            match listed[all..].iter_mut().find(same) {
                Some(known) => known.touches.push(suite.id),
                None => {
                    listed.push(Listed { check, touches: vec![suite.id] });
                }
            }
        }
    }
    listed
}

/// Examines a machine for these suites.
pub fn examine<'a>(
    patient: &Patient,
    suites: impl IntoIterator<Item = &'a Suite>,
) -> Report {
    doctor::examine(patient, &checks(suites))
}

/// Adds what was found now to what the run's file holds from its earlier
/// parts, and returns all of it that touches what was examined now.
pub(super) fn record(file: &mut RunFile, now: Report) -> Report {
    let earlier = serde_json::from_value::<Report>(file.doctor.clone()).ok();
    let relevant: Vec<String> =
        now.findings.iter().map(|finding| finding.id.clone()).collect();
    let mut all = earlier.unwrap_or_else(|| Report::new(Vec::new()));
    all.absorb(now);
    // Findings are text and words, which always have a JSON form.
    file.doctor = serde_json::to_value(&all).unwrap_or_default();
    InterfaceNames::read(&Root::system()).hide(&mut file.doctor);
    all.findings.retain(|finding| relevant.contains(&finding.id));
    Report::new(all.findings)
}

/// What stands beside the head of each table: `comparison only: virtual
/// machine and 3 more`. `None` for a machine fit to publish from.
pub fn headline(report: &Report) -> Option<String> {
    let caps = report.caps();
    let first = caps.first()?;
    let what = match first.status {
        Status::Unknown => format!("{} unknown", first.id),
        _ => first.observed.clone(),
    };
    let more = match caps.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!("{}: {what}{more}", report.verdict))
}

/// Each finding that caps the verdict with its next step, those that could not
/// be told in one line.
pub fn caveats(report: &Report) -> Vec<String> {
    let (unknown, seen): (Vec<_>, Vec<_>) = report
        .caps()
        .into_iter()
        .partition(|finding| finding.status == Status::Unknown);
    let mut caveats: Vec<String> = seen
        .iter()
        .filter_map(|finding| {
            let caps = finding.caps?;
            let (id, observed, fix) =
                (&finding.id, &finding.observed, &finding.fix);
            Some(format!("{caps}: {id}: {observed}; {fix}"))
        })
        .collect();
    if let Some(caps) = unknown.iter().filter_map(|f| f.caps).max() {
        let ids: Vec<&str> = unknown.iter().map(|f| f.id.as_str()).collect();
        caveats.push(format!(
            "{caps}: it cannot be told: {}; `bypass doctor` says why",
            ids.join(", ")
        ));
    }
    caveats
}
