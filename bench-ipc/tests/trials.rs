//! A short trial of every variant of every experiment, in this process.

use std::sync::{Mutex, PoisonError};

use harness::{
    machine::root::Root,
    measure::trial::{Outcome, Trial, TrialError},
    suite::{
        Availability, Experiment, LatencyKind, Meanwhile, ProbeRequest, Role,
        SessionRequest, Variant,
    },
    testing,
};

fn run_all(id: &str, check: impl Fn(&Experiment, &str, &Outcome)) {
    let Some(cpus) = testing::two_cpus() else { return };
    // Tests of one program run at once, and these two want the same CPUs.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut skipped = 0;
    for experiment in (bench_ipc::SUITE.experiments)() {
        if experiment.id != id {
            continue;
        }
        let params = &experiment.params;
        for variant in &experiment.variants {
            let target = Default::default();
            let request = ProbeRequest::new(params, &cpus, &target);
            let name = format!("{} {}", experiment.key(), variant.id);
            if let Availability::Unavailable { reason, remedy } =
                (variant.probe)(&request)
            {
                eprintln!("SKIPPED: {name}: {reason}; {remedy}");
                skipped += 1;
                continue;
            }
            let trial = testing::trial(
                experiment.id,
                params.clone(),
                variant.id,
                &cpus,
            );
            check(&experiment, &name, &measure(variant, &trial, &name));
        }
    }
    eprintln!("{id}: {skipped} variants skipped");
}

/// Two threads that spin on CPUs which others use may complete nothing within
/// 20 ms: each waits for a time slice of the other. So the time grows.
fn measure(variant: &Variant, trial: &Trial, name: &str) -> Outcome {
    const ATTEMPTS: u32 = 10;
    let mut spec = trial.spec.clone();
    for _ in 0..ATTEMPTS {
        let trial = Trial::new(spec.clone());
        (spec.warmup_ns, spec.window_ns) =
            (2 * spec.warmup_ns, 2 * spec.window_ns);
        match (variant.worker)(&trial) {
            Ok(outcome) if outcome.ops() > 0 => return outcome,
            Ok(_) => eprintln!("{name}: nothing in the window, once more"),
            Err(TrialError::Unready(reason)) => {
                eprintln!("{name}: {reason}; once more");
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
    panic!("{name}: nothing in {ATTEMPTS} windows");
}

fn proves_its_ops(experiment: &Experiment, name: &str, outcome: &Outcome) {
    assert!(outcome.evidence.verified_ops >= outcome.ops(), "{name}");
    assert!(outcome.evidence.degraded.is_empty(), "{name}");
    assert_eq!(outcome.thread_ops.len(), 1, "{name}");
    assert_eq!(
        Some(outcome.shape.op_bytes),
        experiment.params.number("op_bytes"),
        "{name}"
    );
    let proof =
        |key| outcome.evidence.path.iter().any(|(known, _)| known == key);
    let variant = experiment
        .variants
        .iter()
        .find(|v| name.ends_with(v.id))
        .expect("variant");
    if variant.id != "empty-syscall" {
        assert!(proof("placement"), "{name}");
        assert_eq!(proof("wait"), variant.spinning, "{name}");
    }
    let distances = outcome
        .evidence
        .metrics
        .iter()
        .filter(|metric| metric.name.starts_with("line_round_trip"))
        .count();
    let expected = if variant.id == "empty-syscall" { 0 } else { 2 };
    assert_eq!(distances, expected, "{name}");
    assert_eq!(proof("pipe_bytes"), variant.id == "pipe", "{name}");
}

#[test]
fn every_ping_pong_answers_every_question() {
    run_all("ipc/ping-pong", |experiment, name, outcome| {
        proves_its_ops(experiment, name, outcome);
        assert_eq!(experiment.latency_kind, LatencyKind::RoundTrip);
        let timed = outcome.latencies.len();
        let every = outcome.shape.sampled_every;
        assert_eq!(timed * every, outcome.ops(), "{name}");
        // Nothing crosses between two cores and comes back in 10 ns, and a
        // system call takes longer, too.
        assert!(outcome.latencies.value_at_quantile(0.5) >= 10, "{name}");
    });
}

#[test]
fn every_stream_delivers_every_message() {
    run_all("ipc/spsc-stream", |experiment, name, outcome| {
        proves_its_ops(experiment, name, outcome);
        assert_eq!(experiment.latency_kind, LatencyKind::None);
        assert_eq!(outcome.shape.sampled_every, 0, "{name}");
        assert_eq!(outcome.latencies.len(), 0, "{name}");
    });
}

#[test]
fn the_suite_needs_nothing_and_touches_nothing() {
    let request = SessionRequest {
        target: None,
        default_directory: Root::system().path("nowhere"),
        seed: 1,
        run_id: 2,
        experiments: Vec::new(),
        allow_destroy: None,
        interfaces: None,
        precondition: 0,
        meanwhile: Meanwhile::default(),
    };
    let session = (bench_ipc::SUITE.prepare)(&request).expect("session");
    assert!(session.target().is_null());
    let forecast = (bench_ipc::SUITE.forecast)(&request).expect("forecast");
    assert_eq!((forecast.bytes_written, forecast.touches.len()), (0, 0));
}

#[test]
fn baselines_sleep() {
    for experiment in (bench_ipc::SUITE.experiments)() {
        let baseline = experiment.baseline().expect("baseline");
        assert!(!baseline.spinning, "{}", experiment.key());
        assert!(
            experiment
                .variants
                .iter()
                .any(|v| v.role == Role::Contender && v.spinning)
        );
    }
}
