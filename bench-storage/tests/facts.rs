//! What `run.json` and rows tell of a target, and that the page explains it.

mod support;

use std::path::Path;

use harness::suite::Session;
use support::{alone, created, real_directory, skip};

#[test]
fn a_created_file_is_described_without_its_name() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session: Box<dyn Session> = created(directory.path());
    let facts = session.facts();
    let read = &facts["read"];
    assert_eq!(read["label"], session.label());
    assert_eq!(read["bytes"], support::TARGET_BYTES);
    assert!(read["filesystem"].is_string(), "{read}");
    let options = read["mount_options"].as_array().expect("a list");
    assert!(options.contains(&"rw".into()), "{options:?}");
    let text = facts.to_string();
    let place = directory.path().to_str().expect("UTF-8");
    assert!(!text.contains(place), "{text}");
    assert!(!text.contains("serial"), "{text}");
    if read["extents"].is_null() {
        skip("this file system does not tell its extents");
        return;
    }
    assert!(read["extents"]["count"].as_u64().is_some_and(|n| n > 0));
    assert_eq!(read["extents"]["unwritten"], 0, "{read}");
}

/// The words of `prove("word", ...)` in a directory of sources.
fn proven(directory: &Path, words: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).expect("sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            proven(&path, words);
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        let stated = text.split("prove(").skip(1);
        let quoted =
            stated.filter_map(|rest| rest.trim_start().strip_prefix('"'));
        words.extend(
            quoted.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())),
        );
    }
}

#[test]
fn each_word_of_a_path_has_a_line_on_the_page() {
    let crate_ = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut words = Vec::new();
    proven(&crate_.join("src"), &mut words);
    assert!(words.contains(&"direct".to_owned()), "{words:?}");
    let page = crate_.join("../docs/storage.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let explained: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| line.split(" | ").next())
        .collect();
    for word in words {
        let word = format!("`{word}`");
        let has_line = explained.iter().any(|line| line.contains(&word));
        assert!(has_line, "docs/storage.md has no row for {word}");
    }
}
