//! What the doctor finds on machines that nobody here has.

mod doctor_support;

use std::{fmt::Write as _, fs};

use doctor_support::*;
use harness::machine::{
    Environment,
    capture::capture,
    doctor::{Report, Status, Verdict, examine},
};

fn told(report: &Report) -> String {
    let mut text = format!("verdict {}\n", report.verdict.word());
    for finding in &report.findings {
        let _ = writeln!(text, "{} {}", finding.id, finding.status.word());
    }
    text
}

/// The form of a fixture is that of a capture: each file in it is one that a
/// capture takes, and nothing in it would be redacted.
#[test]
fn a_capture_of_a_fixture_is_the_fixture() {
    for name in MACHINES {
        let machine = Machine::load(name);
        let again = capture(&machine.root());
        let path = fixture(name, "tree");
        if is_update() {
            let mut fresh = machine.archive.clone();
            fresh.retain(|_, _| false);
            for (path, entry) in again.iter() {
                fresh.insert(path.to_owned(), entry.clone());
            }
            fs::write(&path, fresh.text()).expect("write");
            continue;
        }
        for (path, entry) in machine.archive.iter() {
            assert_eq!(
                again.get(path),
                Some(entry),
                "{name}: a capture has no such {path}; add it to \
                 machine/capture/files.rs, or run with UPDATE_FIXTURES=1"
            );
        }
        assert!(again.iter().eq(machine.archive.iter()), "{name}");
        let text = fs::read_to_string(&path).expect("read");
        assert_eq!(machine.archive.text(), text, "{name}: UPDATE_FIXTURES=1");
    }
}

/// A change of a check shows here as a difference for a person to look at.
#[test]
fn findings_are_those_recorded() {
    let checks = checks();
    for name in MACHINES {
        let report = Machine::load(name).examine(&checks);
        let path = fixture(name, "expected");
        if is_update() {
            fs::write(&path, told(&report)).expect("write");
            continue;
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        for (line, (now, then)) in
            told(&report).lines().zip(expected.lines()).enumerate()
        {
            assert_eq!(now, then, "{name}.expected:{}", line + 1);
        }
        assert_eq!(told(&report), expected, "{name}: UPDATE_FIXTURES=1");
    }
}

#[test]
fn a_machine_made_ready_is_publishable() {
    let report = Machine::load("publishable").examine(&checks());
    for finding in &report.findings {
        assert!(
            !matches!(finding.status, Status::Fail | Status::Warn),
            "{finding:#?}"
        );
    }
    assert_eq!(report.verdict, Verdict::Publishable, "{:#?}", report.caps());
}

#[test]
fn a_machine_with_everything_wrong_passes_next_to_nothing() {
    let report = Machine::load("all-wrong").examine(&checks());
    assert_eq!(report.verdict, Verdict::FunctionalOnly);
    let good = report.with(Status::Pass).count();
    let bad =
        report.with(Status::Fail).count() + report.with(Status::Warn).count();
    assert!(bad >= 8 * good, "{bad} bad, {good} good:\n{}", told(&report));
}

#[test]
fn only_the_machine_made_ready_is_publishable() {
    let checks = checks();
    for name in MACHINES {
        let report = Machine::load(name).examine(&checks);
        let best = report.verdict == Verdict::Publishable;
        assert_eq!(best, name == "publishable", "{name}");
    }
}

/// What is measured then is the device, not the memory that its node is in.
#[test]
fn a_device_as_target_is_not_judged_by_the_file_system_of_its_node() {
    const OF_PLACES: [&str; 3] =
        ["storage.filesystem", "storage.mount_options", "storage.free_space"];
    let machine = Machine::load("server-2s");
    let status = |target: &str, id: &str| {
        let root = machine.root();
        let environment = Environment::read(&root);
        let mut patient = machine.patient(root, &environment);
        patient.target = target.into();
        let report = examine(&patient, &checks());
        report.finding(id).map(|finding| finding.status)
    };
    for id in OF_PLACES {
        for device in ["/dev/nvme1n1", "/dev/nvme0n1p2", "/dev/ng1n1"] {
            let found = status(device, id);
            assert_eq!(found, Some(Status::NotApplicable), "{id} {device}");
        }
        for place in ["/", "/dev/shm"] {
            let found = status(place, id);
            assert_ne!(found, Some(Status::NotApplicable), "{id} {place}");
        }
    }
}
