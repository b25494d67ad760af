//! A run killed at any instant reads up to its last whole block and goes on
//! from there.

mod common;

use std::fs;
use std::path::Path;

use common::{Random, Variant, push, run, trial};
use results::check::check;
use results::compare::derive_directory;
use results::hist;
use results::reader::{read_metrics, read_trials, read_windows};
use results::schema::{MetricRow, Role, Table, TrialRow, WindowRow};
use results::writer::{RunDirectory, RunWriter, write_compare};

const VARIANTS: usize = 3;
const LOG: &str = "hist/storage-randread-4k-depth=32.hlog";

/// Two whole blocks and a third, as file contents before and after it.
struct Killed {
    root: tempfile::TempDir,
    before: Vec<(String, Vec<u8>)>,
    after: Vec<(String, Vec<u8>)>,
}

impl Killed {
    fn new() -> Killed {
        let root = tempfile::tempdir().unwrap();
        let files = |blocks: u32| {
            let root = root.path().join(blocks.to_string());
            let path = run()
                .blocks(blocks)
                .experiment("randread-4k", 32, 70_000.0)
                .contender("uring", 1.2)
                .write(&root);
            let names = [
                TrialRow::FILE,
                MetricRow::FILE,
                WindowRow::FILE,
                LOG,
                "run.json",
            ];
            names
                .map(|name| {
                    (name.to_owned(), fs::read(path.join(name)).unwrap())
                })
                .to_vec()
        };
        let (before, after) = (files(2), files(3));
        Killed { root, before, after }
    }

    /// A run directory in which `name` is cut at `length` and the files
    /// written before and after it are as the writer's order has them.
    fn at(&self, name: &str, length: usize) -> std::path::PathBuf {
        let order = [LOG, MetricRow::FILE, WindowRow::FILE, TrialRow::FILE];
        let turn = order.iter().position(|n| *n == name).unwrap();
        let path = self.root.path().join("killed");
        fs::create_dir_all(path.join("hist")).unwrap();
        for ((file, before), (_, after)) in self.before.iter().zip(&self.after)
        {
            let bytes = match order.iter().position(|n| n == file) {
                Some(place) if place == turn => &after[..length],
                Some(place) if place < turn => after,
                _ => before,
            };
            fs::write(path.join(file), bytes).unwrap();
        }
        path
    }

    /// The bytes of the last block in a file.
    fn last_block(&self, name: &str) -> std::ops::Range<usize> {
        let length = |files: &[(String, Vec<u8>)]| {
            files.iter().find(|(n, _)| n == name).unwrap().1.len()
        };
        length(&self.before)..length(&self.after)
    }
}

fn trials(path: &Path) -> Vec<TrialRow> {
    read_trials(path).unwrap().map(|row| row.unwrap()).collect()
}

#[test]
fn every_prefix_of_the_last_block_reads_up_to_the_block_before() {
    let killed = Killed::new();
    let last = killed.last_block(TrialRow::FILE);
    assert!(last.len() > 500, "{last:?}");
    for length in last.clone() {
        let path = killed.at(TrialRow::FILE, length);
        let mut reader = read_trials(&path).unwrap();
        let rows: Vec<_> = reader.by_ref().map(|r| r.unwrap()).collect();
        assert_eq!(rows.len(), 2 * VARIANTS, "cut at {length}");
        assert_eq!(reader.torn().is_empty(), length == last.start);
        let metrics: Vec<_> =
            read_metrics(&path).unwrap().map(|r| r.unwrap()).collect();
        assert_eq!(metrics.len(), rows.len(), "orphans do not count");
    }
    let whole = killed.at(TrialRow::FILE, last.end);
    assert_eq!(trials(&whole).len(), 3 * VARIANTS);
}

#[test]
fn the_side_files_cut_anywhere_leave_the_blocks_before_whole() {
    let killed = Killed::new();
    for name in [LOG, MetricRow::FILE, WindowRow::FILE] {
        for length in killed.last_block(name).step_by(7) {
            let path = killed.at(name, length);
            assert_eq!(trials(&path).len(), 2 * VARIANTS);
            assert_eq!(read_metrics(&path).unwrap().count(), 2 * VARIANTS);
            assert_eq!(
                read_windows(&path).unwrap().filter(|r| r.is_ok()).count(),
                2 * VARIANTS * 3
            );
        }
    }
}

#[test]
fn a_killed_run_goes_on_and_ends_without_a_trace() {
    let killed = Killed::new();
    for name in [LOG, MetricRow::FILE, WindowRow::FILE, TrialRow::FILE] {
        let last = killed.last_block(name);
        let step = (last.len() / 9).max(1);
        for length in last.clone().step_by(step) {
            let path = killed.at(name, length);
            let _ = fs::remove_file(path.join("compare.csv"));
            resume_and_check(&path, (name, length));
        }
    }
}

fn resume_and_check(path: &Path, cut: (&str, usize)) {
    let directory = RunDirectory::open(path).unwrap();
    let (mut writer, _) = RunWriter::open(directory).unwrap();
    assert_eq!(writer.next_trial(), 2 * VARIANTS as u64 + 1, "{cut:?}");
    let mut block = writer.block();
    let mut random = Random(9);
    for (name, role) in [
        ("uring", Role::Contender),
        ("pread-pool", Role::Baseline),
        ("pread-pool#aa", Role::AaTwin),
    ] {
        let variant =
            Variant { name, role, ops_per_s: 5e4, bound: "", blocks: 9 };
        let row = TrialRow {
            params: "depth=32".to_owned(),
            block: Some(3),
            ..trial(&variant, 1.0)
        };
        push(&mut block, row, &mut random);
    }
    writer.append_block(block).unwrap();
    let (derived, torn) = derive_directory(path).unwrap();
    assert!(torn.is_empty(), "{cut:?}: {torn}");
    write_compare(path, &derived.rows).unwrap();
    let report = check(path);
    assert!(report.is_clean(), "{cut:?}:\n{report}");
    assert_eq!(report.trials, 3 * VARIANTS as u64);
    let windows: Vec<_> =
        read_windows(path).unwrap().map(|r| r.unwrap()).collect();
    assert_eq!(windows.len(), 3 * 3 * VARIANTS, "{cut:?}");
    let log = hist::read(&fs::read(path.join(LOG)).unwrap()).unwrap();
    let tags: Vec<_> = log.into_iter().map(|entry| entry.tag).collect();
    let expected: Vec<_> = (1..=9).map(hist::tag).collect();
    assert_eq!(tags, expected, "{cut:?}");
}

#[test]
fn a_header_cut_anywhere_is_written_again() {
    let killed = Killed::new();
    let header = TrialRow::header().len();
    for length in (0..=header).step_by(101) {
        let path = killed.at(TrialRow::FILE, 0);
        fs::write(path.join(TrialRow::FILE), &killed.after[0].1[..length])
            .unwrap();
        assert_eq!(trials(&path), []);
        let directory = RunDirectory::open(&path).unwrap();
        let (writer, repaired) = RunWriter::open(directory).unwrap();
        assert_eq!(writer.next_trial(), 1);
        assert!(repaired.bytes >= length as u64);
        drop(writer);
        let text = fs::read_to_string(path.join(TrialRow::FILE)).unwrap();
        assert_eq!(text, TrialRow::header() + "\n");
        let text = fs::read_to_string(path.join(MetricRow::FILE)).unwrap();
        assert_eq!(text, MetricRow::header() + "\n");
    }
}
