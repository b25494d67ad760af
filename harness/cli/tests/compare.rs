//! `bypass compare` as a person runs it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn bypass(arguments: &[&str], root: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bypass"))
        .args(arguments)
        .arg("--results")
        .arg(root)
        .output()
        .expect("bypass")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("bypass compare ")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("temporary directory")
}

/// The committed run: one session that was really measured.
fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results/example")
}

/// Copies of the example under one label, so many times as fast.
fn side(
    root: &Path,
    (label, first_hour): (&str, u32),
    sessions: u32,
    factor: f64,
) {
    for session in 0..sessions {
        let id = format!("20261122T04450{session}Z-b69efac8-{label}");
        let wobble = 1.0 + 0.001 * f64::from(session);
        let hour = first_hour + session;
        copy(root, &id, (label, hour), factor * wobble);
    }
}

#[test]
fn one_session_a_side_gives_ratios_and_no_gate() {
    let directory = scratch();
    let root = directory.path();
    side(root, ("before", 10), 1, 1.0);
    side(root, ("after", 14), 1, 0.5);
    let output = bypass(&["compare", "before", "after"], root);
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(table.starts_with("B against A: "), "{table}");
    assert!(table.contains("0.50×"), "{table}");
    assert!(table.contains("undecided (one session a side)"), "{table}");
    let command = "bypass run --sessions 4 --quick --label example --tag core";
    assert!(table.contains(command), "{table}");
    assert!(table.contains("A is comparison only: virtual machine"));

    // A gate that can never fail is no gate.
    let output =
        bypass(&["compare", "before", "after", "--gate", "--json"], root);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("4 sessions a side"));
    let value: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["exit_code"], 2);
    assert!(value["rows"].as_array().is_some_and(|rows| !rows.is_empty()));
}

#[test]
fn a_gate_fails_on_half_the_rate_and_only_that_way_round() {
    let directory = scratch();
    let root = directory.path();
    side(root, ("fast", 10), 4, 1.0);
    side(root, ("slow", 14), 4, 0.5);
    let output = bypass(&["compare", "fast", "slow", "--gate"], root);
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{table}");
    assert!(table.contains("slower  ipc/ping-pong"), "{table}");
    assert!(text(&output.stderr).contains("gate failed"));
    let output = bypass(&["compare", "slow", "fast", "--gate"], root);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("gate passed"));
}

#[test]
fn a_gate_does_not_pass_what_b_lost() {
    let directory = scratch();
    let root = directory.path();
    side(root, ("before", 10), 4, 1.0);
    side(root, ("after", 14), 4, 1.0);
    for run in std::fs::read_dir(root).expect("runs").flatten() {
        let path = run.path().join("trials.csv");
        if path.display().to_string().contains("after") {
            let rows = std::fs::read_to_string(&path).expect("trials.csv");
            // Another variant in its place: nothing else changes.
            let rows = rows.replace(",futex,", ",gone,");
            std::fs::write(&path, rows).expect("write");
        }
    }
    let output = bypass(&["compare", "before", "after", "--gate"], root);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{message}");
    assert!(message.contains("futex: only in A"), "{message}");
}

#[test]
fn no_command_that_destroys_is_shown_for_pasting() {
    let directory = scratch();
    let root = directory.path();
    side(root, ("before", 10), 1, 1.0);
    side(root, ("after", 14), 1, 1.0);
    let path = root.join("20261122T044500Z-b69efac8-before/run.json");
    let file = std::fs::read_to_string(&path).expect("run.json");
    let mut file: serde_json::Value =
        serde_json::from_str(&file).expect("JSON");
    file["command_line"] = serde_json::json!([
        "bypass",
        "run",
        "--target",
        "/dev/x",
        "--allow-destroy",
        "Disk-1234"
    ]);
    std::fs::write(&path, file.to_string()).expect("write");
    for form in [&[][..], &["--json"]] {
        let arguments = [&["compare", "before", "after"], form].concat();
        let shown = text(&bypass(&arguments, root).stdout);
        assert!(shown.contains("/dev/x"), "{shown}");
        assert!(!shown.contains("Disk-1234"), "{shown}");
        assert!(!shown.contains("allow-destroy"), "{shown}");
    }
}

#[test]
fn only_what_differs_of_the_machine_is_told() {
    let directory = scratch();
    let root = directory.path();
    side(root, ("before", 10), 1, 1.0);
    side(root, ("after", 14), 1, 1.0);
    let output = bypass(&["compare", "before", "after"], root);
    assert!(!text(&output.stdout).contains("kernel_release"));
    let path = root.join("20261122T044500Z-b69efac8-after/run.json");
    let file = std::fs::read_to_string(&path).expect("run.json");
    let mut file: serde_json::Value =
        serde_json::from_str(&file).expect("JSON");
    file["environment"]["kernel_release"] = "6.19.0".into();
    file["devices"]["block"][0]["scheduler"] = "none".into();
    std::fs::write(&path, file.to_string()).expect("write");
    let output = bypass(&["compare", "before", "after"], root);
    let table = text(&output.stdout);
    assert!(table.contains("kernel_release"), "{table}");
    assert!(table.contains("6.19.0"), "{table}");
    assert!(table.contains("devices.block.vda.scheduler"), "{table}");
    assert!(!table.contains("cpu_model"), "{table}");
}

#[test]
fn what_the_sides_worked_on_is_told_before_all_else() {
    let directory = scratch();
    let root = directory.path();
    for (label, hour, model) in
        [("before", 10, "Old SSD"), ("after", 14, "New SSD")]
    {
        side(root, (label, hour), 1, 1.0);
        let path =
            root.join(format!("20261122T044500Z-b69efac8-{label}/run.json"));
        let file = std::fs::read_to_string(&path).expect("run.json");
        let mut file: serde_json::Value =
            serde_json::from_str(&file).expect("JSON");
        file["targets"] = serde_json::json!([{
            "session": 1,
            "suite": "storage",
            "facts": {"read": {"device": {
                "name": format!("nvme{hour}n1"), "model": model,
            }}},
        }]);
        file["devices"]["block"][0]["backing_file"] =
            format!("/home/{label}/image").into();
        file["tool"]["version"] = label.into();
        std::fs::write(&path, file.to_string()).expect("write");
    }
    let table = text(&bypass(&["compare", "before", "after"], root).stdout);
    let line = |what: &str| {
        table
            .lines()
            .position(|line| line.starts_with(what))
            .unwrap_or_else(|| panic!("no {what} in {table}"))
    };
    let told = line("target.storage.read.device.model");
    assert_eq!(told, line("differs") + 1, "{table}");
    assert!(told < line("tool version"), "{table}");
    assert!(table.contains("Old SSD") && table.contains("New SSD"));
    assert!(!table.contains("/home/") && !table.contains("nvme14"), "{table}");
}

/// A copy under another name whose rates are so many times as high.
fn copy(root: &Path, id: &str, (label, hour): (&str, u32), factor: f64) {
    let from = example();
    let to = root.join(id);
    std::fs::create_dir(&to).expect("directory");
    let read =
        |name: &str| std::fs::read_to_string(from.join(name)).expect("file");
    let mut file: serde_json::Value =
        serde_json::from_str(&read("run.json")).expect("run.json");
    file["run_id"] = id.into();
    file["label"] = label.into();
    std::fs::write(to.join("run.json"), file.to_string()).expect("write");
    // The example was measured within one hour: `2026-11-21T18:`.
    let created = file["created_at_utc"].as_str().expect("a time");
    let (then, _) = created.split_at("2026-11-21T18:".len());
    let rows = read("trials.csv").replace(then, &format!("2026-11-21T{hour}:"));
    let mut lines = rows.lines();
    let header = lines.next().expect("header");
    let place = |name: &str| {
        header.split(',').position(|column| column == name).expect("column")
    };
    let run = place("run_id");
    let [rate, busy, ops, cpu, window] =
        ["ops_per_s", "busy_cpus", "ops", "cpu_ns", "window_ns"].map(place);
    let mut out = format!("{header}\n");
    for line in lines {
        let mut cells: Vec<String> =
            line.split(',').map(str::to_owned).collect();
        // A list of two CPUs is quoted and splits into two cells.
        let shift = cells.len() - header.split(',').count();
        cells[run] = id.to_owned();
        let number = |place: usize| cells[place + shift].parse::<f64>();
        if let (Ok(ops), Ok(cpu), Ok(ns)) =
            (number(ops), number(cpu), number(window))
        {
            // A window as much shorter: the integers have to give the rates.
            let ns = (ns / factor).round();
            cells[window + shift] = ns.to_string();
            cells[rate + shift] = (ops * 1e9 / ns).to_string();
            cells[busy + shift] = (cpu / ns).to_string();
        }
        out.push_str(&cells.join(","));
        out.push('\n');
    }
    std::fs::write(to.join("trials.csv"), out).expect("write");
}

#[test]
fn names_without_a_run_end_with_2() {
    let directory = scratch();
    let root = directory.path();
    let here = root.display().to_string();
    for (a, b, expected) in [
        ("latest", "previous", "no run `latest`"),
        (here.as_str(), here.as_str(), "holds no run.json"),
        ("nowhere", "latest", "no run `nowhere`"),
    ] {
        let output = bypass(&["compare", a, b], root);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(expected), "{message}");
        assert!(output.stdout.is_empty());
    }
    let example = example().display().to_string();
    let output = bypass(&["compare", &example, &example], root);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("is named twice"));
}
