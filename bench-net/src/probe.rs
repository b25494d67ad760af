//! Can this process have a lab, and open its ends there? Tried in a child,
//! since whoever makes a lab cannot go back, and this process has threads.

use harness::suite::Availability;

use crate::lab::{Lab, LabError, LabSpec, Wire, child};

/// Separates reason and remedy in what the child says.
const SEPARATOR: char = '\n';

/// Makes such a lab in a child and lets it go.
pub fn lab(spec: &LabSpec, wire: &Wire) -> Availability {
    in_lab(spec, wire, |_| Availability::Available)
}

/// The same, and tries something there.
pub fn in_lab(
    spec: &LabSpec,
    wire: &Wire,
    attempt: impl FnOnce(&Lab) -> Availability,
) -> Availability {
    // A veth pair is in nobody's way while it goes; a card that is on its way
    // back is.
    let ask = match wire {
        Wire::Veth => child::hear,
        Wire::Interfaces(_) => child::run,
    };
    let said = ask(|| {
        let tried = match Lab::new(spec, wire) {
            Ok(lab) => attempt(&lab),
            Err(error) => error.into(),
        };
        match tried {
            Availability::Available | Availability::Undecided { .. } => {
                Vec::new()
            }
            Availability::Unavailable { reason, remedy } => {
                format!("{reason}{SEPARATOR}{remedy}").into_bytes()
            }
        }
    });
    match said {
        Ok(said) if said.is_empty() => Availability::Available,
        Ok(said) => {
            let said = String::from_utf8_lossy(&said);
            let (reason, remedy) =
                said.split_once(SEPARATOR).unwrap_or((&said, ""));
            Availability::unavailable(reason, remedy)
        }
        Err(error) => LabError::Child(error.to_string()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// What the probe says in a child that has no rights and cannot get any.
    #[test]
    fn a_lab_that_cannot_be_had_has_reason_and_remedy() {
        let said = child::run(|| {
            testing::without_rights();
            testing::refuse_call(libc::SYS_unshare, None, libc::EPERM);
            match lab(&LabSpec::default(), &Wire::Veth) {
                Availability::Available | Availability::Undecided { .. } => {
                    Vec::new()
                }
                Availability::Unavailable { reason, remedy } => {
                    format!("{reason}|{remedy}").into_bytes()
                }
            }
        });
        let said = said.expect("child");
        let said = String::from_utf8_lossy(&said);
        let (reason, remedy) = said.split_once('|').expect("unavailable");
        assert!(reason.contains("no user namespace"), "{reason}");
        assert!(remedy.contains("root"), "{remedy}");
    }

    #[test]
    fn probing_leaves_this_process_where_it_was() {
        let namespace = || {
            std::fs::read_link("/proc/thread-self/ns/net").expect("namespace")
        };
        let before = namespace();
        let _ = lab(&LabSpec::default(), &Wire::Veth);
        assert_eq!(namespace(), before);
    }
}
