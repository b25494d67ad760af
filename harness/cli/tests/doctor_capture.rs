//! A capture of this machine, as a person makes it.

mod doctor_support;

use std::{fs, path::Path, process::Command};

use doctor_support::*;
use harness::machine::{
    Environment, Root,
    capture::{Archive, Entry, capture},
    doctor::{Finding, Live, Patient, Report, examine},
};

/// What may have changed between two looks, and what no file tells: room on a
/// file system, a drive's log.
const MOVING: [&str; 7] = [
    "noise.load",
    "noise.running",
    "noise.pressure",
    "memory.available",
    "storage.writeback",
    "storage.free_space",
    "storage.drive_health",
];

fn examined(root: Root) -> Report {
    let environment = Environment::read(&root);
    let live = Live::default();
    let patient = Patient::with_facts(root, environment, live, "/");
    examine(&patient, &checks())
}

/// What was found, without what was seen: that holds numbers that move.
fn found(report: &Report) -> Vec<String> {
    let lasting = |one: &&Finding| !MOVING.contains(&one.id.as_str());
    let each = report.findings.iter().filter(lasting);
    each.map(|one| format!("{} {} {:?}", one.id, one.status, one.caps))
        .collect()
}

#[test]
fn the_doctor_finds_the_same_in_a_capture() {
    // Other tests attach loop devices and make interfaces meanwhile.
    for _ in 0..10 {
        let before = found(&examined(Root::system()));
        let copy = unpack(&capture(&Root::system()));
        if found(&examined(Root::system())) == before {
            assert_eq!(found(&examined(Root::at(copy.path()))), before);
            assert!(before.len() > 50, "only {}", before.len());
            return;
        }
    }
    eprintln!("SKIPPED: this machine changes all the time");
}

/// What names the machine, or stands in the capture in another form.
const LEFT_OUT: [&str; 5] = [
    "etc/machine-id",
    "proc/config.gz",
    "proc/sys/kernel/hostname",
    "serial",
    // Of processes that were not there yet or no longer.
    "comm",
];

#[test]
fn whatever_is_asked_for_is_in_a_capture() {
    let root = Root::recording("/");
    let first = capture(&Root::system());
    examined(root.clone());
    let second = capture(&Root::system());
    let mut found = 0;
    for path in root.take_asked() {
        let is_own = path.starts_with("/proc/self");
        let real = match is_own {
            true => path,
            false => match path.canonicalize() {
                Ok(real) => real,
                Err(_) => continue,
            },
        };
        let rel = real.strip_prefix("/").unwrap_or(&real);
        let is_left_out = LEFT_OUT.iter().any(|name| rel.ends_with(name));
        if !real.is_file() || is_left_out || is_renamed(rel) {
            continue;
        }
        let rel = rel.to_str().expect("text");
        // What came or went meanwhile (a loop device) is in one of them.
        let is_in = [&first, &second].iter().any(|a| a.get(rel).is_some());
        assert!(is_in, "a capture lacks {rel}");
        found += 1;
    }
    assert!(found > 50, "only {found}");
}

/// Control groups get other names, and so do power supplies and interfaces
/// that are named after their hardware address or by a person.
fn is_renamed(path: &Path) -> bool {
    let path = path.to_string_lossy();
    let interface = path.split_once("/net/").map(|(_, name)| name);
    let keeps = |name: &str| {
        let plain = ["lo/", "eth", "eno", "enp", "ens", "wlp", "ifb"];
        plain.iter().any(|start| name.starts_with(start))
    };
    path.starts_with("sys/fs/cgroup")
        || path.contains("/power_supply/")
        || (path.starts_with("sys/")
            && interface.is_some_and(|name| !keeps(name)))
}

#[test]
fn a_capture_is_never_written_over_another_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("machine.tree");
    let run = || {
        Command::new(env!("CARGO_BIN_EXE_bypass"))
            .args(["doctor", "--capture"])
            .arg(&path)
            .output()
            .expect("bypass runs")
    };
    let first = run();
    assert!(first.status.success(), "{first:?}");
    let text = fs::read_to_string(&path).expect("a capture");
    let archive = Archive::parse(&text).expect("an archive");
    let cpuinfo = archive.get("proc/cpuinfo");
    assert!(matches!(cpuinfo, Some(Entry::File(text)) if !text.is_empty()));
    fs::write(&path, "precious").expect("write");
    let second = run();
    assert_eq!(second.status.code(), Some(2), "{second:?}");
    assert_eq!(fs::read_to_string(&path).expect("read"), "precious");
}
