//! Settings from a file, the environment and flags, as a person gives them.

use std::{path::Path, process::Command};

/// Exit code, standard output and standard error of a run with this file.
fn run(
    file: &Path,
    more: &[&str],
    variables: &[(&str, &str)],
) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bypass"))
        .args(["run", "--config"])
        .arg(file)
        .args(more)
        .envs(variables.iter().copied())
        .output()
        .expect("bypass");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn file(directory: &Path, text: &str) -> std::path::PathBuf {
    let path = directory.join("bench.toml");
    std::fs::write(&path, text).expect("write");
    path
}

const NIGHTLY: &str = "label = \"nightly\"\nblocks = 20\nwindow = \"1s\"\n\
    results = \"here\"\n\n[[experiment]]\nfilter = \"storage/randread-4k\"\n\
    matrix = { depth = [1, 32] }\n";

#[test]
fn the_merged_form_names_each_origin_and_gives_the_same_again() {
    let directory = tempfile::tempdir().expect("directory");
    let path = file(directory.path(), NIGHTLY);
    let variables = [("BYPASS_WINDOW", "3s"), ("BYPASS_SESSIONS", "4")];
    let more = ["--print-config", "--sessions", "2"];
    let (code, merged, error) = run(&path, &more, &variables);
    assert_eq!(code, Some(0), "{error}");
    let at = path.display();
    for expected in [
        format!("label = \"nightly\"  # {at}:1\n"),
        format!("blocks = 20  # {at}:2\n"),
        "window = \"3s\"  # BYPASS_WINDOW\n".to_owned(),
        "sessions = 2  # flag\n".to_owned(),
        "# warmup: default, 500ms".to_owned(),
        "filters = [\"storage/randread-4k depth=1\", \
         \"storage/randread-4k depth=32\"]"
            .to_owned(),
    ] {
        assert!(merged.contains(&expected), "{expected}\n{merged}");
    }
    let again = file(directory.path(), &merged);
    let (code, once_more, error) = run(&again, &["--print-config"], &[]);
    assert_eq!(code, Some(0), "{error}");
    let values = |text: &str| -> Vec<String> {
        let value = |line: &str| line.split("  #").next().map(str::to_owned);
        text.lines().filter_map(value).collect()
    };
    assert_eq!(values(&merged), values(&once_more));
}

#[test]
fn a_matrix_chooses_among_what_exists() {
    let directory = tempfile::tempdir().expect("directory");
    let path = file(directory.path(), NIGHTLY);
    let (code, plan, error) = run(&path, &["--dry-run"], &[]);
    assert_eq!(code, Some(0), "{error}");
    assert!(plan.contains("storage/randread-4k depth=1 "), "{plan}");
    assert!(plan.contains("storage/randread-4k depth=32 "), "{plan}");
    assert!(!plan.contains("ipc/"), "{plan}");
    assert!(plan.contains("of 20 blocks"), "{plan}");
    // Filters of the command line take the place of those of the file.
    let (_, plan, _) = run(&path, &["--dry-run", "ipc/ping-pong/ring"], &[]);
    assert!(!plan.contains("randread"), "{plan}");

    let text = NIGHTLY.replace("[1, 32]", "[1, 7]");
    let path = file(directory.path(), &text);
    let (code, _, error) = run(&path, &["--dry-run"], &[]);
    assert_eq!(code, Some(2));
    assert!(error.contains("`storage/randread-4k depth=7`"), "{error}");
    assert!(error.contains("there is depth=1, 2, 4, "), "{error}");
}

#[test]
fn mistakes_end_with_2_before_anything_is_measured() {
    let directory = tempfile::tempdir().expect("directory");
    for (text, variables, expected) in [
        ("\nblcoks = 2\n", &[][..], "bench.toml:2: unknown key `blcoks`; did"),
        ("allow_destroy = \"x\"", &[], "on the command line only"),
        ("", &[("BYPASS_ALLOW_DESTROY", "x")], "on the command line only"),
        (
            "[[experiment]]\nfilter = \"ipc\"\nmatrix = { op_bytes = [] }",
            &[],
            "bench.toml:3: op_bytes has no value",
        ),
        ("filters = \"ipc\"", &[("BYPASS_FILTERS", "")], "an empty list"),
        ("", &[("BYPASS_BLOCKS", "many")], "BYPASS_BLOCKS: many is no whole"),
        ("", &[("BYPASS_WINDWO", "1s")], "did you mean BYPASS_WINDOW?"),
    ] {
        let path = file(directory.path(), text);
        let (code, out, error) = run(&path, &["--dry-run"], variables);
        assert_eq!(code, Some(2), "{text} {error}");
        assert!(error.contains(expected), "{expected}\n{error}");
        assert!(out.is_empty());
    }
    let none = directory.path().join("none.toml");
    let (code, _, error) = run(&none, &[], &[]);
    assert_eq!(code, Some(2));
    assert!(error.contains("none.toml"), "{error}");
}
