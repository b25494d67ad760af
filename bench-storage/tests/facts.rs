//! What `run.json` tells of a target.

mod support;

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
