//! Rules of this repository that a compiler does not hold.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

const PACKAGES: [&str; 7] = [
    "harness/stats",
    "harness/results",
    "harness/core",
    "harness/cli",
    "bench-storage",
    "bench-net",
    "bench-ipc",
];

fn manifest(package: &str) -> String {
    fs::read_to_string(root().join(package).join("Cargo.toml"))
        .expect("manifest")
}

/// The lines of `[dependencies]`, which is what a layer may use.
fn dependencies(package: &str) -> Vec<String> {
    manifest(package)
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("directory").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for package in PACKAGES {
        sources(&root().join(package), &mut found);
    }
    assert!(found.len() > 50, "the rules would hold for nothing");
    found
}

#[test]
fn layers_point_one_way() {
    assert_eq!(dependencies("harness/stats"), Vec::<String>::new());
    let results = dependencies("harness/results");
    for forbidden in ["libc", "harness", "io-uring"] {
        assert!(!results.iter().any(|d| d == forbidden), "{forbidden}");
    }
    let harness = dependencies("harness/core");
    assert!(harness.iter().any(|d| d == "results"));
    assert!(!harness.iter().any(|d| d.starts_with("bench-")));
    for suite in ["bench-storage", "bench-net", "bench-ipc"] {
        let uses = dependencies(suite);
        assert!(!uses.iter().any(|d| d == "results" || d == "csv"), "{suite}");
        assert!(!uses.iter().any(|d| d.starts_with("bench-")), "{suite}");
    }
}

/// libtest rejects the flags that `cargo bench` passes on, and then the
/// suites behind it never start.
#[test]
fn libtest_gets_no_benches() {
    for package in PACKAGES {
        let text = manifest(package);
        for section in text.split("\n[").skip(1) {
            let is_target =
                section.starts_with("lib]") || section.starts_with("[bin]]");
            if is_target {
                assert!(section.contains("bench = false"), "{package}");
            }
        }
        assert!(
            text.contains("[lib]") || text.contains("[[bin]]"),
            "{package}: an implicit target has no bench = false"
        );
    }
}

#[test]
fn every_suite_has_its_bench_target() {
    for suite in ["bench-storage", "bench-net", "bench-ipc"] {
        let text = manifest(suite);
        assert!(text.contains("name = \"suite\"\nharness = false"), "{suite}");
    }
}

#[test]
fn files_stay_small_enough_to_read() {
    for path in all_sources() {
        let text = fs::read_to_string(&path).expect("source");
        let lines = text.lines().count();
        // A flat catalogue of columns may be longer.
        let limit = if path.ends_with("schema/rows.rs") { 800 } else { 600 };
        assert!(lines <= limit, "{}: {lines} lines", path.display());
    }
}

#[test]
fn every_unsafe_block_says_why() {
    for path in all_sources() {
        // This file names the word that it looks for.
        if path.ends_with("tidy.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("source");
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !code.contains("unsafe {") && !code.contains("unsafe impl") {
                continue;
            }
            let before = &lines[number.saturating_sub(12)..=number];
            assert!(
                before.iter().any(|line| line.contains("SAFETY:")),
                "{}:{}",
                path.display(),
                number + 1
            );
        }
    }
}

#[test]
fn modules_begin_with_what_they_are_for() {
    for path in all_sources() {
        let text = fs::read_to_string(&path).expect("source");
        assert!(text.starts_with("//!"), "{}", path.display());
    }
}
