//! The doctor's checks of some suites, put together: what all suites want of a
//! machine, then what each wants for itself.

use crate::{
    machine::doctor::{self, Listed, Patient, Report},
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
