//! Damage is told with file, line, column, value and the next step.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::run;
use results::reader::{ReadError, read_trials};
use results::schema::{Table, TrialRow};

/// A run of two blocks with three trials each: lines 2 to 7.
fn written(root: &Path) -> PathBuf {
    run()
        .blocks(2)
        .experiment("randread-4k", 32, 70_000.0)
        .contender("uring", 1.2)
        .write(root)
}

/// Reads a run whose lines were changed; gives the rows before the error.
fn read_edited(edit: impl Fn(&mut Vec<String>)) -> (usize, ReadError) {
    let root = tempfile::tempdir().unwrap();
    let path = written(root.path());
    let file = path.join(TrialRow::FILE);
    let text = fs::read_to_string(&file).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    edit(&mut lines);
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    let mut rows = 0;
    let trials = match read_trials(&path) {
        Ok(trials) => trials,
        Err(error) => return (0, error),
    };
    for row in trials {
        match row {
            Ok(_) => rows += 1,
            Err(error) => return (rows, error),
        }
    }
    panic!("the edit was not noticed");
}

fn set(line: &mut String, column: &str, value: &str) {
    let index =
        TrialRow::COLUMNS.iter().position(|c| c.name == column).unwrap();
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(line.as_bytes());
    let record = reader.records().next().unwrap().unwrap();
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer
        .write_record(
            record
                .iter()
                .enumerate()
                .map(|(at, cell)| if at == index { value } else { cell }),
        )
        .unwrap();
    let bytes = writer.into_inner().unwrap();
    *line = String::from_utf8(bytes).unwrap().trim_end().to_owned();
}

#[test]
fn a_bad_cell_is_named_with_its_place() {
    let cases = [
        ("status", "fine", "one of ok, nonsteady"),
        ("status", "", "one of ok"),
        ("role", "Baseline", "one of baseline, aa_twin"),
        ("load_mode", "shut", "one of closed, open or nothing"),
        ("ops", "12.5", "a whole number or nothing"),
        ("ops", "-3", "a whole number"),
        ("threads", "4294967296", "a whole number"),
        ("ops_per_s", "NaN", "a finite number or nothing"),
        ("ops_per_s", "inf", "a finite number or nothing"),
        ("cpu_per_op_ns", "fast", "a finite number"),
        ("trial", "", "a whole number"),
    ];
    for (column, value, expected) in cases {
        let (rows, error) =
            read_edited(|lines| set(&mut lines[5], column, value));
        assert_eq!(rows, 3, "the first block is whole");
        let text = error.to_string();
        assert!(matches!(error, ReadError::Cell { .. }), "{text}");
        assert!(text.contains("trials.csv:6: column"), "{text}");
        let says = format!("column {column} holds {value:?}, expected");
        assert!(text.contains(&says), "{text}");
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("restore it from a copy"), "{text}");
    }
}

#[test]
fn rows_out_of_order_are_noticed() {
    type Edit = fn(&mut Vec<String>);
    let cases: [(&str, Edit); 7] = [
        ("trial 5 where 4 should stand", |lines| {
            lines.remove(4);
        }),
        ("trial 2 where 3 should stand", |lines| {
            let twice = lines[2].clone();
            lines.insert(3, twice);
        }),
        ("trial 3 where 2 should stand", |lines| lines.swap(2, 3)),
        ("position \"1\" in its block where 2", |lines| {
            set(&mut lines[2], "position", "1");
        }),
        ("position \"\" in its block where 1", |lines| {
            set(&mut lines[1], "position", "");
        }),
        ("the block before it has 1 of its 3 trials", |lines| {
            set(&mut lines[2], "attempt", "2");
        }),
        ("run \"other\" amid rows of", |lines| {
            set(&mut lines[4], "run_id", "other");
        }),
    ];
    for (expected, edit) in cases {
        let (_, error) = read_edited(edit);
        assert!(matches!(error, ReadError::Sequence { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn the_header_and_the_shape_are_checked() {
    let (_, error) = read_edited(|lines| {
        lines[0] = lines[0].replace("latency_p99_ns", "p99");
    });
    let text = error.to_string();
    assert!(text.contains("trials.csv:1: column 41"), "{text}");
    assert!(text.contains("\"p99\", expected \"latency_p99_ns\""), "{text}");

    let (rows, error) = read_edited(|lines| lines[6].push_str(",1"));
    assert_eq!(rows, 3);
    assert!(matches!(error, ReadError::Length { .. }), "{error}");
    assert!(error.to_string().contains("trials.csv:7"), "{error}");

    let (_, error) = read_edited(|lines| lines[5].insert(0, '"'));
    assert!(error.to_string().contains("trials.csv:6"), "{error}");

    let (_, error) =
        read_edited(|lines| set(&mut lines[1], "schema_version", "2"));
    assert!(matches!(error, ReadError::Newer { found: 2, .. }), "{error}");
    assert!(error.to_string().contains("use a newer one"), "{error}");
}

#[test]
fn bytes_that_are_no_text_are_an_error_and_no_panic() {
    let root = tempfile::tempdir().unwrap();
    let path = written(root.path());
    let file = path.join(TrialRow::FILE);
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] = 0xff;
    fs::write(&file, &bytes).unwrap();
    let error = read_trials(&path).unwrap().find_map(Result::err).unwrap();
    assert!(error.to_string().contains("trials.csv:"), "{error}");
    assert!(error.to_string().contains("UTF-8"), "{error}");
}

#[test]
fn any_single_byte_changed_never_panics() {
    let root = tempfile::tempdir().unwrap();
    let path = written(root.path());
    let file = path.join(TrialRow::FILE);
    let bytes = fs::read(&file).unwrap();
    for at in (0..bytes.len()).step_by(11) {
        for replacement in *b"\0\n\",x9" {
            let mut edited = bytes.clone();
            edited[at] = replacement;
            fs::write(&file, &edited).unwrap();
            let Ok(trials) = read_trials(&path) else { continue };
            let rows = trials.take_while(Result::is_ok).count();
            assert!(rows <= 6);
        }
    }
}

#[test]
fn columns_that_a_later_version_appended_are_ignored() {
    let root = tempfile::tempdir().unwrap();
    let path = written(root.path());
    let before: Vec<_> =
        read_trials(&path).unwrap().map(Result::unwrap).collect();
    let file = path.join(TrialRow::FILE);
    let text = fs::read_to_string(&file).unwrap();
    let wider: String = text
        .lines()
        .enumerate()
        .map(|(at, line)| match at {
            0 => format!("{line},latency_p99999_ns\n"),
            _ => format!("{line},7\n"),
        })
        .collect();
    fs::write(&file, wider).unwrap();
    let after: Vec<_> =
        read_trials(&path).unwrap().map(Result::unwrap).collect();
    assert_eq!(before, after);
    assert_eq!(before.len(), 6);
}

#[test]
fn a_missing_file_is_named() {
    let root = tempfile::tempdir().unwrap();
    let error = read_trials(root.path()).err().unwrap();
    assert!(error.to_string().contains("trials.csv"), "{error}");
    assert!(error.to_string().contains("give the directory"), "{error}");
}
