//! The commands as a person runs them.

use std::{
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use harness::{
    machine::{Root, allowed_cpus, filesystem_of},
    suite::{Meanwhile, RefusalKind, SessionRequest},
};

const BYPASS: &str = env!("CARGO_BIN_EXE_bypass");

fn bypass(arguments: &[&str]) -> Output {
    Command::new(BYPASS).args(arguments).output().expect("bypass")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory on the file system of the build, which is a real one where
/// `/tmp` often is not.
fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("bypass cli ")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("temporary directory")
}

/// A run that needs nothing special, short.
fn short_run(root: &Path) -> Output {
    short(root).output().expect("bypass")
}

fn short(root: &Path) -> Command {
    let mut command = Command::new(BYPASS);
    command
        .args(["run", "ipc/ping-pong/futex", "op_bytes=8", "--quick"])
        .args(["--window", "30ms", "--warmup", "20ms", "--blocks", "6"])
        .arg("--results")
        .arg(root);
    command
}

#[test]
fn list_names_every_suite_and_starts_fast() {
    // 5 ms here; the bound is for a debug build, and a busy machine gets
    // another try.
    let mut took = Vec::new();
    let is_fast = (0..5).any(|_| {
        let begun = Instant::now();
        bypass(&["list"]);
        took.push(begun.elapsed());
        begun.elapsed() < Duration::from_secs(2)
    });
    assert!(is_fast, "{took:?}");
    let output = bypass(&["list"]);
    assert_eq!(output.status.code(), Some(0));
    let list = text(&output.stdout);
    for id in ["storage/randread-4k", "ipc/ping-pong", "ipc/spsc-stream"] {
        assert!(list.contains(id), "{id}");
    }
    let json = bypass(&["list", "--json"]);
    let value: serde_json::Value =
        serde_json::from_slice(&json.stdout).expect("JSON");
    assert!(value.as_array().is_some_and(|list| list.len() > 5));
}

#[test]
fn a_cause_is_told_once() {
    let message = text(&bypass(&["run", "--config", "nosuch.toml"]).stderr);
    assert_eq!(message.matches("No such file").count(), 1, "{message}");
}

#[test]
fn standard_error_that_cannot_be_written_ends_nothing() {
    // Always full (full(4)); a pipe whose reader has gone fails likewise.
    let full = || std::fs::File::options().write(true).open("/dev/full");
    let mistake = Command::new(BYPASS)
        .args(["run", "nosuch"])
        .stderr(full().expect("/dev/full"))
        .status();
    assert_eq!(mistake.expect("bypass").code(), Some(2));
    let directory = scratch();
    let root = directory.path().join("results");
    let untold = short(&root)
        .stderr(full().expect("/dev/full"))
        .output()
        .expect("bypass");
    // 3: a single CPU; 4: too noisy for 30 ms windows.
    let code = untold.status.code();
    assert!(matches!(code, Some(0 | 3 | 4)), "{code:?}");
    let runs = std::fs::read_dir(&root).expect("results").flatten();
    let runs: Vec<_> = runs.map(|run| run.path()).collect();
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert!(runs[0].join("compare.csv").is_file(), "{runs:?}");
}

#[test]
fn usage_errors_name_the_word_and_end_with_2() {
    for (arguments, expected) in [
        (&["run", "randraed-4k"][..], "storage/randread-4k"),
        (&["run", "dpeth=3"], "depth"),
        (&["run", "--window", "3h"], "unit `h`"),
        (&["run", "--blocks", "0"], "--blocks"),
        (&["run", "--blocks", "-1"], "invalid value '-1' for '--blocks"),
        (&["run", "--window", "-1s"], "unit `-1s`"),
        (&["run", "--practical", "-2%"], "not between 0 and 1"),
        (&["run", "--seed", "-1"], "invalid value '-1' for '--seed"),
        (&["run", "--cpus", "0-x"], "0-x"),
        (&["run", "--cpus", ""], "the list is empty"),
        (&["run", "--cpus", "9999"], "9999"),
        (&["run", "--blocks", "5", "ipc/ping-pong"], "--blocks"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let output = bypass(arguments);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
}

/// Whether the suite would write a target where a run without `--target`
/// would, beside its results; if not, says why.
fn has_room_for_a_target() -> bool {
    let request = SessionRequest {
        target: None,
        default_directory: env!("CARGO_TARGET_TMPDIR").into(),
        seed: 1,
        run_id: 1,
        experiments: Vec::new(),
        allow_destroy: None,
        interfaces: None,
        precondition: 0,
        meanwhile: Meanwhile::default(),
    };
    match (bench_storage::SUITE.forecast)(&request) {
        Ok(_) => true,
        Err(refusal) => {
            assert_eq!(refusal.kind, RefusalKind::Environment, "{refusal}");
            eprintln!("SKIPPED: {refusal}");
            false
        }
    }
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let directory = scratch();
    let root = directory.path().join("results");
    let output = Command::new(BYPASS)
        .args(["run", "--dry-run", "--quick", "--results"])
        .arg(&root)
        .output()
        .expect("bypass");
    let plan = text(&output.stdout);
    assert!(plan.contains("trials of"), "{plan}");
    if has_room_for_a_target() {
        assert!(plan.contains("storage: writes 1.2 GiB to set up"), "{plan}");
    }
    assert!(!root.exists());
}

#[test]
fn a_dry_run_tells_what_trials_overwrite() {
    let plan = |filter: &str| -> serde_json::Value {
        let words =
            ["run", "--dry-run", "--quick", "--json", "storage/nop", filter];
        let output = bypass(&words);
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let read = plan("storage/randread-4k");
    assert_eq!(read["trials_writing"], 0);
    if !has_room_for_a_target() {
        return;
    }
    let written = plan("storage/seqwrite-128k");
    let trials = |key: &str| written[key].as_u64().expect("a number");
    assert!(trials("trials_writing") > 0, "{written}");
    assert!(trials("trials_writing") <= trials("trials"), "{written}");
    let output = bypass(&["run", "--dry-run", "storage/seqwrite-128k"]);
    let told = text(&output.stdout);
    assert!(told.contains("GiB at 1 GiB/s, which is assumed"), "{told}");
}

#[test]
fn a_word_for_what_is_no_device_is_said_to_be_idle() {
    let directory = scratch();
    let target = directory.path().to_str().expect("UTF-8");
    let words = ["run", "--dry-run", "storage/randread-4k", "--target", target];
    let note = "note: --allow-destroy has no effect: ";
    assert!(!text(&bypass(&words).stderr).contains(note));
    let words = [&words[..], &["--allow-destroy", "word"]].concat();
    let output = bypass(&words);
    assert!(text(&output.stderr).contains(note), "{output:?}");
}

#[test]
fn a_target_that_is_refused_is_an_error_and_no_table() {
    let directory = scratch();
    let file = directory.path().join("small");
    std::fs::write(&file, vec![1; 1 << 20]).expect("a file");
    let file = file.to_str().expect("UTF-8");
    let results = directory.path().join("results");
    let results = results.to_str().expect("UTF-8");
    let words = [
        "run",
        "--quick",
        "storage/randread-4k",
        "--target",
        file,
        "--results",
        results,
    ];
    for progress in ["auto", "none"] {
        let words = [&words[..], &["--progress", progress]].concat();
        let output = bypass(&words);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(text(&output.stdout), "");
        assert!(said.starts_with("error: "), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_run_can_be_checked_and_an_edit_is_found() {
    let directory = scratch();
    let root = directory.path().join("results with space");
    let output = short_run(&root);
    // 3: a single CPU; 4: too noisy for 30 ms windows.
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 3 | 4)), "{}", text(&output.stderr));
    let run = std::fs::read_dir(&root)
        .expect("results")
        .flatten()
        .next()
        .expect("one run")
        .path();
    let check = Command::new(BYPASS).arg("check").arg(&run).output();
    let check = check.expect("bypass");
    assert_eq!(check.status.code(), Some(0), "{}", text(&check.stdout));
    let file = run.join("trials.csv");
    let rows = std::fs::read_to_string(&file).expect("trials.csv");
    std::fs::write(&file, rows.replacen("futex", "fu\u{0}tex", 1))
        .expect("edit");
    let check = Command::new(BYPASS).arg("check").arg(&run).output();
    let check = check.expect("bypass");
    assert_eq!(check.status.code(), Some(4), "{}", text(&check.stdout));
    assert!(text(&check.stdout).contains("problem"));
}

#[test]
fn check_wants_the_directory_of_a_run() {
    let directory = scratch();
    let output =
        Command::new(BYPASS).arg("check").arg(directory.path()).output();
    let output = output.expect("bypass");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("run.json"));
}

#[test]
fn results_that_cannot_be_made_end_with_3() {
    let output = bypass(&[
        "run",
        "--quick",
        "ipc/ping-pong/ring",
        "--results",
        "/proc/x",
    ]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("/proc/x"));
}

#[test]
fn a_run_file_without_room_ends_with_3_and_leaves_nothing() {
    // No file may have a byte: as on a full file system, without one.
    let directory = scratch();
    let output = Command::new("sh")
        .args(["-c", "ulimit -f 0 && exec \"$@\"", "sh", BYPASS, "run"])
        .args(["--smoke", "ipc/ping-pong/futex", "--results"])
        .arg(directory.path())
        .output()
        .expect("sh");
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(message.contains("run.json"), "{message}");
    let left = std::fs::read_dir(directory.path()).expect("results").count();
    assert_eq!(left, 0, "{message}");
}

#[test]
fn a_tmpfs_target_is_refused_with_3() {
    let shm = filesystem_of(&Root::system(), Path::new("/dev/shm"));
    if shm.is_none_or(|found| found.kind != "tmpfs") {
        eprintln!("SKIPPED: no tmpfs at /dev/shm here");
        return;
    }
    let directory = scratch();
    let output = Command::new(BYPASS)
        .args(["run", "--quick", "storage/randread-4k", "depth=1"])
        .args(["--target", "/dev/shm", "--results"])
        .arg(directory.path())
        .output()
        .expect("bypass");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("tmpfs"));
}

#[test]
fn one_cpu_skips_what_needs_two_and_says_so() {
    let directory = scratch();
    let allowed = allowed_cpus().expect("mask");
    let first = allowed.iter().next().expect("a CPU").to_string();
    let output = Command::new("taskset")
        .args(["-c", &first, BYPASS, "run", "--quick", "ipc/ping-pong/ring"])
        .arg("--results")
        .arg(directory.path())
        .output();
    let Ok(output) = output else {
        eprintln!("SKIPPED: no taskset here");
        return;
    };
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.contains("needs 2 CPUs, 1 allowed"), "{table}");
}

#[test]
fn strict_refuses_an_unfit_machine_before_measuring() {
    let directory = scratch();
    let output = Command::new(BYPASS)
        .args(["run", "--strict", "ipc/ping-pong/ring", "--results"])
        .arg(directory.path().join("r"))
        .output()
        .expect("bypass");
    // A debug build is never fit, whatever the machine.
    if cfg!(debug_assertions) {
        assert_eq!(output.status.code(), Some(3));
        assert!(text(&output.stderr).contains("--release"));
        assert!(!directory.path().join("r").exists());
    }
}

#[test]
fn the_doctor_answers_in_three_forms_and_refuses_unknown_suites() {
    let output = bypass(&["doctor", "--for", "ipc"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let head = text(&output.stdout);
    assert!(!head.contains("storage."), "other suites' checks: {head}");

    let output = bypass(&["doctor", "--json"]);
    let json: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = json["findings"].as_array().expect("findings");
    assert!(findings.len() > 80);
    assert!(findings.iter().any(|f| f["touches"][0] == "storage"));

    let output = bypass(&["doctor", "--fix-script"]);
    assert!(text(&output.stdout).starts_with("#!/bin/sh\n"));

    let output = bypass(&["doctor", "--for", "stoarge"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("storage, net, ipc"));
}

#[test]
fn no_home_is_no_problem() {
    let output =
        Command::new(BYPASS).arg("list").env_clear().output().expect("bypass");
    assert_eq!(output.status.code(), Some(0));
    let directory = scratch();
    let output = Command::new(BYPASS)
        .args(["run", "--dry-run", "--results"])
        .arg(directory.path())
        .env_clear()
        .output()
        .expect("bypass");
    let expected = if has_room_for_a_target() { 0 } else { 3 };
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(expected), "{said}");
}

#[test]
fn topology_schema_and_completions_print() {
    for (arguments, expected) in [
        (&["topology"][..], "CPUs:"),
        (&["topology", "--json"], "\"allowed\""),
        (&["schema"], "trials.csv"),
        (&["schema", "--json"], "\"schema_version\""),
        (&["completions", "bash"], "_bypass"),
    ] {
        let output = bypass(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(text(&output.stdout).contains(expected), "{arguments:?}");
    }
}

#[test]
fn a_closed_pipe_is_success() {
    use std::process::Stdio;
    let mut child = Command::new(BYPASS)
        .arg("schema")
        .stdout(Stdio::piped())
        .spawn()
        .expect("bypass");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("wait").code(), Some(0));
}

/// What `bypass list --devices --json` says.
fn devices() -> Vec<serde_json::Value> {
    let output = bypass(&["list", "--devices", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a JSON array")
}

/// Those that can be opened by name: a container lists the host's devices,
/// and has no nodes of them.
fn devices_with_nodes() -> Vec<serde_json::Value> {
    let mut found = devices();
    found.retain(|device| {
        device["path"].as_str().is_some_and(|path| Path::new(path).exists())
    });
    found
}

#[test]
fn each_device_has_a_word_or_a_reason() {
    let output = bypass(&["list", "--devices"]);
    assert_eq!(output.status.code(), Some(0));
    let listing = text(&output.stdout);
    for device in devices() {
        let path = device["path"].as_str().expect("a path");
        assert!(listing.contains(path), "{path} in:\n{listing}");
        let reasons = device["no_write"].as_array().expect("a list");
        let word = &device["allow_destroy"];
        assert_eq!(word.is_null(), !reasons.is_empty(), "{device}");
        assert_eq!(device["writable"], !word.is_null(), "{device}");
    }
}

#[test]
fn a_device_that_may_not_be_written_ends_with_5_whatever_is_said() {
    let found = devices_with_nodes();
    let unsafe_one = found.iter().find(|d| d["allow_destroy"].is_null());
    let Some(path) = unsafe_one.and_then(|device| device["path"].as_str())
    else {
        eprintln!("SKIPPED: no such device here");
        return;
    };
    let root = scratch();
    let results = root.path().to_str().expect("UTF-8");
    for word in [&[][..], &["--allow-destroy", "yes"]] {
        for mode in [&["--dry-run"][..], &["--quick"]] {
            let mut arguments = vec![
                "run",
                "durable-write-4k",
                "--target",
                path,
                "--results",
                results,
            ];
            arguments.extend(word.iter().chain(mode));
            let output = bypass(&arguments);
            let said = text(&output.stdout) + &text(&output.stderr);
            assert_eq!(output.status.code(), Some(5), "{said}");
            assert!(said.contains("may not be written"), "{said}");
            assert!(said.contains("list --devices"), "{said}");
        }
    }
}

#[test]
fn the_word_that_permits_to_destroy_is_not_stored() {
    let root = scratch();
    let results = root.path().to_str().expect("UTF-8");
    if allowed_cpus().expect("mask").len() < 2 {
        eprintln!("SKIPPED: queues need two CPUs");
        return;
    }
    // No file is ever written to: a queue is measured beside, and keeps the
    // run.
    let target = root.path().join("file");
    std::fs::write(&target, [0; 8192]).expect("file");
    let target = target.to_str().expect("UTF-8");
    for word in
        [&["--allow-destroy", "Disk-1234"][..], &["--allow-destroy=Disk-1234"]]
    {
        let mut arguments =
            vec!["run", "durable-write-4k", "ipc/ping-pong/futex"];
        arguments.extend(["--target", target, "--results", results]);
        arguments.extend(["--smoke", "--window", "20ms", "--warmup", "20ms"]);
        arguments.extend(word);
        bypass(&arguments);
    }
    let files: Vec<String> = std::fs::read_dir(root.path())
        .expect("results")
        .filter_map(|run| {
            std::fs::read_to_string(run.ok()?.path().join("run.json")).ok()
        })
        .collect();
    assert_eq!(files.len(), 2);
    for file in files {
        assert!(file.contains("durable-write-4k"), "{file}");
        assert!(!file.contains("Disk-1234"), "{file}");
        assert!(!file.contains("allow-destroy"), "{file}");
    }
}

#[test]
fn a_run_is_resumed_with_the_word_of_its_device() {
    let arguments =
        ["run", "--resume", "no-such-run", "--allow-destroy", "word"];
    let output = bypass(&arguments);
    let message = text(&output.stderr);
    assert!(message.contains("no-such-run"), "{message}");
    // As `check` and `compare` have it.
    assert_eq!(output.status.code(), Some(2), "{message}");
}

#[test]
fn a_refused_device_ends_with_5_though_others_are_measured() {
    let found = devices_with_nodes();
    let unsafe_one = found.iter().find(|device| {
        device["allow_destroy"].is_null() && device["no_read"].is_null()
    });
    let Some(path) = unsafe_one.and_then(|device| device["path"].as_str())
    else {
        eprintln!("SKIPPED: no such device here");
        return;
    };
    let plain = ["run", "storage", "--dry-run", "--target", path];
    assert_eq!(bypass(&plain).status.code(), Some(0));
    let words = [&plain[..], &["--allow-destroy", "wrong"]].concat();
    assert_eq!(bypass(&words).status.code(), Some(5));
}

#[test]
fn a_word_needs_a_target() {
    let output = bypass(&["run", "--dry-run", "--allow-destroy", "word"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--target"));
}

#[test]
fn a_setting_from_a_file_is_blamed_on_its_line() {
    let directory = scratch();
    let file = directory.path().join("m.toml");
    for (setting, line, expected) in [
        ("filters = [\"randraed\"]", 2, "`storage/randread`"),
        ("filters = [\"dpeth=3\"]", 2, "no parameter `dpeth`"),
        ("tag = \"coer\"", 2, "`core`"),
        ("cpus = \"9999\"", 2, "cpus 9999: CPU 9999"),
    ] {
        std::fs::write(&file, format!("# mine\n{setting}\n")).expect("file");
        let path = file.display().to_string();
        let output = bypass(&["run", "--dry-run", "--config", &path]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        let place = format!("error: {path}:{line}: ");
        assert!(message.starts_with(&place), "{message}");
        let expected =
            expected.replace("no parameter", "no experiment has a parameter");
        assert!(message.contains(&expected), "{message}");
        assert!(!message.contains("--cpus"), "{message}");
    }
}

#[test]
fn a_place_that_is_not_there_has_no_diagnosis() {
    let output = bypass(&["doctor", "--target", "/nosuch/place"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert!(text(&output.stderr).contains("--target /nosuch/place"));
}
