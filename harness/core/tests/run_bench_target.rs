//! The fixture as the `suite` target of a `cargo bench`: what cargo does to
//! such a target, and what it must do.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use support::{FIXTURE, scratch, trials};

/// A workspace with a package in it, as cargo has when it starts a bench.
fn workspace(directory: &Path) -> PathBuf {
    let package = directory.join("bench-x");
    fs::create_dir_all(&package).expect("package");
    fs::write(directory.join("Cargo.lock"), "").expect("Cargo.lock");
    package
}

fn bench(package: &Path, arguments: &[&str]) -> Output {
    Command::new(FIXTURE)
        .args(arguments)
        .current_dir(package)
        .env("XDG_STATE_HOME", package.join("state"))
        .output()
        .expect("fixture")
}

fn runs(workspace: &Path) -> Vec<PathBuf> {
    fs::read_dir(workspace.join("results"))
        .map(|entries| entries.flatten().map(|e| e.path()).collect())
        .unwrap_or_default()
}

#[test]
fn suites_of_one_invocation_share_a_run_in_the_workspace() {
    let directory = scratch();
    let package = workspace(directory.path());
    // Both processes have this test as parent, as all targets have cargo.
    let first = bench(&package, &["unavailable", "--bench"]);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    let second = bench(&package, &["--bench", "too-big"]);
    assert_eq!(second.status.code(), Some(0), "{second:?}");
    assert!(!package.join("results").exists(), "not in the package");
    let runs = runs(directory.path());
    assert_eq!(runs.len(), 1, "{runs:?}");
    let experiments: Vec<String> =
        trials(&runs[0]).into_iter().map(|row| row.experiment).collect();
    assert!(experiments.contains(&"unavailable".to_owned()));
    assert!(experiments.contains(&"too-big".to_owned()));
}

#[test]
fn a_filter_for_another_suite_is_no_error() {
    let directory = scratch();
    let package = workspace(directory.path());
    let output = bench(&package, &["--bench", "randread"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no core"));
    assert!(runs(directory.path()).is_empty());
}

#[test]
fn of_patterns_for_several_suites_each_runs_its_own() {
    let directory = scratch();
    let package = workspace(directory.path());
    let output =
        bench(&package, &["--bench", "storage/*", "unavailable", "ping-pong"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let runs = runs(directory.path());
    assert_eq!(runs.len(), 1, "{output:?}");
    let rows = trials(&runs[0]);
    assert!(rows.iter().all(|row| row.experiment == "unavailable"));
}

#[test]
fn options_are_refused_with_the_way_to_give_them() {
    let directory = scratch();
    let package = workspace(directory.path());
    let output = bench(&package, &["--bench", "--blocks=3"]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("--blocks=3") && message.contains("run --help"));
}

#[test]
fn wrong_data_stops_cargo() {
    let directory = scratch();
    let package = workspace(directory.path());
    let output = bench(&package, &["--bench", "fixture/wrong"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
}

#[test]
fn without_bench_one_smoke_pass_leaves_nothing() {
    let directory = scratch();
    let package = workspace(directory.path());
    let output = bench(&package, &["--smoke-test-of-the-fixture"]);
    // Wrong data is among the core experiments, so the pass must see it.
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("smoke pass"));
    assert!(runs(directory.path()).is_empty());
}
