//! What the drive below the target says of its own state.

use harness::machine::{
    BlockDevice, BlockKind,
    doctor::{Check, Observation, Patient, Unknown},
};

use super::device;
use crate::nvme::{facts, health::Health};

/// Bits of the critical warning, in the words of the specification ("SMART /
/// Health Information" log page).
const WARNINGS: [&str; 6] = [
    "spare below the threshold",
    "temperature outside its limits",
    "reliability degraded by errors",
    "media is read only",
    "backup of volatile memory failed",
    "persistent memory is read only or unreliable",
];

pub(super) const CHECKS: &[Check] = &[Check {
    id: "storage.drive_health",
    about: "what the NVMe drive says of its own state",
    why: "a drive that is worn out, too hot or losing data corrects errors and \
          slows down, and its figures are of that",
    wanted: "no critical warning, no media errors, spare above the threshold, \
             worn less than 100 %",
    fix: "look at `nvme smart-log`; cool it, or replace it",
    source: "SMART / Health Information log page of /dev/ng*, as root",
    limit: None,
    examine,
}];

fn examine(patient: &Patient) -> Result<Observation, Unknown> {
    let drives: Vec<&BlockDevice> = device(patient)?
        .bottom()
        .into_iter()
        .filter(|below| below.kind == BlockKind::Nvme)
        .collect();
    if drives.is_empty() {
        return Ok(Observation::not_applicable("it is no NVMe drive"));
    }
    if !patient.root.is_system() {
        return Err(Unknown::because("a captured tree does not tell"));
    }
    let mut states = Vec::new();
    for drive in drives {
        let health = facts::health(&patient.root, drive).map_err(|reason| {
            Unknown::because(reason)
                .with_fix("run it as root, who may read a drive's log")
        })?;
        states.push((drive.name.as_str(), health));
    }
    Ok(judged(&states))
}

/// Every drive has to be well.
fn judged(drives: &[(&str, Health)]) -> Observation {
    let mut told = Vec::new();
    let mut good = true;
    for (name, health) in drives {
        let ills = ills(health);
        good &= ills.is_empty();
        told.push(match ills.is_empty() {
            true => format!(
                "{name}: {} % spare, {} % worn",
                health.spare_percent, health.worn_percent
            ),
            false => format!("{name}: {}", ills.join(", ")),
        });
    }
    Observation::pass_if(good, told.join("; "))
}

/// What is wrong with a drive.
fn ills(health: &Health) -> Vec<String> {
    let mut ills: Vec<String> = (0..u8::BITS as usize)
        .filter(|bit| health.critical_warning >> bit & 1 == 1)
        .map(|bit| match WARNINGS.get(bit) {
            Some(warning) => format!("critical warning: {warning}"),
            None => format!("critical warning: bit {bit}"),
        })
        .collect();
    let (spare, threshold) =
        (health.spare_percent, health.spare_threshold_percent);
    if spare < threshold {
        ills.push(format!("{spare} % spare, threshold {threshold} %"));
    }
    if health.media_errors > 0 {
        ills.push(format!("{} media errors", health.media_errors));
    }
    if health.worn_percent >= 100 {
        ills.push(format!("{} % worn", health.worn_percent));
    }
    ills
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvme::health::{BYTES, parse};

    /// A log page as a drive sends it, with some bytes set.
    fn drive(bytes: &[(usize, u8)]) -> Health {
        let mut page = vec![0; BYTES as usize];
        // Available spare, its threshold, percentage used.
        (page[3], page[4], page[5]) = (100, 10, 3);
        for &(at, byte) in bytes {
            page[at] = byte;
        }
        parse(&page).expect("a whole page")
    }

    #[test]
    fn a_drive_that_is_well_passes_and_each_ill_is_named() {
        assert_eq!(ills(&drive(&[])), [""; 0]);
        // At its threshold it is not below it; wear just below the whole.
        assert_eq!(ills(&drive(&[(3, 10), (5, 99)])), [""; 0]);
        for (bytes, told) in [
            (&[(0, 0b100)][..], "critical warning: reliability degraded"),
            (&[(0, 0b1000)], "critical warning: media is read only"),
            (&[(0, 0b1000_0000)], "critical warning: bit 7"),
            (&[(3, 9)], "9 % spare, threshold 10 %"),
            (&[(160, 2)], "2 media errors"),
            // 16 bytes: the second of them counts as well.
            (&[(161, 1)], "256 media errors"),
            (&[(5, 100)], "100 % worn"),
            (&[(5, 255)], "255 % worn"),
        ] {
            let ills = ills(&drive(bytes));
            assert_eq!(ills.len(), 1, "{bytes:?}: {ills:?}");
            assert!(ills[0].starts_with(told), "{bytes:?}: {ills:?}");
        }
    }

    #[test]
    fn one_ill_drive_of_two_is_enough() {
        let told = |drives: &[(&str, Health)]| format!("{:?}", judged(drives));
        let well = told(&[("nvme0n1", drive(&[])), ("nvme1n1", drive(&[]))]);
        assert!(well.contains("Pass"), "{well}");
        assert!(well.contains("nvme1n1: 100 % spare, 3 % worn"), "{well}");
        let ill =
            told(&[("nvme0n1", drive(&[(160, 1)])), ("nvme1n1", drive(&[]))]);
        assert!(ill.contains("Fail"), "{ill}");
        assert!(ill.contains("nvme0n1: 1 media errors"), "{ill}");
    }
}
