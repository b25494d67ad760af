//! Can this process have a lab? Tried in a child, since whoever makes one
//! cannot go back, and this process has threads.

use harness::suite::Availability;

use crate::lab::{Lab, LabError, LabSpec, child};

/// Separates reason and remedy in what the child says.
const SEPARATOR: char = '\n';

/// Makes such a lab in a child and lets it go.
pub fn lab(spec: &LabSpec) -> Availability {
    let said = child::run(|| match Lab::new(spec) {
        Ok(_) => Vec::new(),
        Err(error) => {
            format!("{error}{SEPARATOR}{}", error.remedy()).into_bytes()
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
