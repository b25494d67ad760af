//! The noise of machines that are known.

mod common;

use common::run;
use results::noise::{BLOCKS, noise};
use results::schema::{CompareMetric, Role, Status};
use results::table::noise::text;

#[test]
fn a_noisier_machine_finds_less_and_more_blocks_find_more() {
    let root = tempfile::tempdir().unwrap();
    let finds = |spread: f64| {
        let directory = run()
            .noise(spread)
            .experiment("randread-4k", 1, 70_000.0)
            .contender("uring", 1.2)
            .write(root.path());
        let noise = noise(&directory).unwrap();
        assert!(!noise.suspect);
        let experiment = &noise.experiments[0];
        assert_eq!(experiment.baseline, "pread-pool");
        assert_eq!(experiment.contenders, ["uring"]);
        assert_eq!((experiment.trials, experiment.trials_void), (36, 0));
        let row = &experiment.rows[0];
        assert_eq!(row.metric, CompareMetric::OpsPerS);
        let (low, high) = (row.aa_low.unwrap(), row.aa_high.unwrap());
        assert!(low < row.aa_difference.unwrap());
        assert!(row.aa_difference.unwrap() < high);
        let of: Vec<(u32, f64)> =
            row.finds.iter().map(|f| (f.blocks, f.effect)).collect();
        assert_eq!(of.iter().map(|f| f.0).collect::<Vec<_>>(), BLOCKS);
        assert!(of[0].1 > of[1].1 && of[1].1 > of[2].1, "{of:?}");
        // Half of the interval at 12 blocks, and 1.43 times that is found.
        assert!(of[1].1 > row.noise_floor.unwrap_or(1.0));
        of[1].1
    };
    let (quiet, noisy) = (finds(0.005), finds(0.05));
    assert!(noisy > 5.0 * quiet, "{quiet} {noisy}");
}

#[test]
fn void_trials_and_what_could_not_run_are_told() {
    let root = tempfile::tempdir().unwrap();
    let directory = run()
        .blocks(10)
        .experiment("randread-4k", 1, 70_000.0)
        .contender("uring", 1.2)
        .skipped("uring-iopoll", "no poll queues;nvme.poll_queues=1")
        .alter(|row| {
            let first = row.attempt == Some(1);
            if first && row.block == Some(3) && row.role == Role::Contender {
                row.status = Status::Invalid;
                row.reasons = "foreign CPU time 12 % of used CPUs".to_owned();
            }
        })
        .write(root.path());
    let noise = noise(&directory).unwrap();
    let experiment = &noise.experiments[0];
    assert_eq!(experiment.trials_void, 1);
    assert_eq!(
        experiment.void_reasons,
        [("foreign CPU time of used CPUs".to_owned(), 1)]
    );
    let text = text(&noise);
    assert!(text.contains("in ops/s cannot be shown here with 12 blocks"));
    assert!(text.contains("void trials: 1 of 33 (3.0 %): 1 foreign"), "{text}");
    assert!(text.contains("not run: uring-iopoll: no poll queues; nvme"));
}

#[test]
fn a_machine_that_is_never_quiet_is_said_to_be() {
    let root = tempfile::tempdir().unwrap();
    let directory = run()
        .experiment("randread-4k", 1, 70_000.0)
        .contender("uring", 1.2)
        .alter(|row| {
            if row.block > Some(3) {
                row.status = Status::Invalid;
                row.reasons = "stolen by the hypervisor 9.0 %".to_owned();
            }
        })
        .write(root.path());
    let text = text(&noise(&directory).unwrap());
    assert!(text.contains("too noisy to tell: 3 of 12 blocks count"), "{text}");
}
