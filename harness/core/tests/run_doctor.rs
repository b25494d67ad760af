//! What a run keeps of its targets, and keeps and says of the machine's
//! fitness.

mod support;

use harness::machine::doctor::{Report, Status, Verdict};
use results::schema::RunFile;
use support::{Run, scratch};

#[test]
fn a_run_keeps_what_was_found_and_heads_its_tables_with_the_verdict() {
    let run = Run::start(scratch(), "good", &["blocks=6"]);
    let file = RunFile::read(&run.directory()).expect("run.json");
    let [target] = file.targets.as_slice() else {
        panic!("one session of one suite: {:?}", file.targets);
    };
    assert_eq!((target.session, target.suite.as_str()), (1, "fixture"));
    assert_eq!(target.facts["on_fire"], false);
    let report: Report =
        serde_json::from_value(file.doctor).expect("the doctor's report");
    assert!(report.findings.len() > 50, "{}", report.findings.len());
    // The fixture program is built like this test.
    let build = report.finding("system.build").expect("the check");
    if cfg!(debug_assertions) {
        assert_eq!(build.status, Status::Fail);
        assert_eq!(report.verdict, Verdict::FunctionalOnly);
        let head = "functional only: built without optimisation";
        assert!(run.stdout.contains(head), "{}", run.stdout);
        let note = "note: functional only: system.build";
        assert!(run.stdout.contains(note), "{}", run.stdout);
    } else {
        assert_eq!(build.status, Status::Pass);
    }
}
