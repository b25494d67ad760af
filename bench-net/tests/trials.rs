//! A short trial of every variant of every experiment, each in a process of
//! its own: a worker makes its own lab.

use std::sync::{Mutex, PoisonError};

use bench_net::lab::child;
use harness::{
    machine::cpu_set::Cpu,
    measure::trial::{Outcome, Trial, TrialError},
    suite::{
        Availability, Experiment, LatencyKind, Params, ProbeRequest, Variant,
    },
    testing,
};

fn run_all(id: &str, check: impl Fn(&Experiment, &str, &Outcome)) {
    let Some(cpus) = testing::two_cpus() else { return };
    // Tests of one program run at once, and these want the same CPUs.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut skipped = 0;
    for experiment in (bench_net::SUITE.experiments)() {
        if experiment.id != id {
            continue;
        }
        for variant in &experiment.variants {
            let name = format!("{} {}", experiment.key(), variant.id);
            if let Availability::Unavailable { reason, remedy } =
                probe(variant, &experiment.params, &cpus)
            {
                eprintln!("SKIPPED: {name}: {reason}; {remedy}");
                skipped += 1;
                continue;
            }
            let params = experiment.params.clone();
            let trial =
                testing::trial(experiment.id, params, variant.id, &cpus);
            check(&experiment, &name, &measure(variant, &trial, &name));
        }
    }
    eprintln!("{id}: {skipped} variants skipped");
}

fn probe(variant: &Variant, params: &Params, cpus: &[Cpu]) -> Availability {
    let target = Default::default();
    (variant.probe)(&ProbeRequest::new(params, cpus, &target))
}

/// Two threads on CPUs that others use may complete nothing within 20 ms.
fn measure(variant: &Variant, trial: &Trial, name: &str) -> Outcome {
    const ATTEMPTS: usize = 20;
    for _ in 0..ATTEMPTS {
        let said = child::run(|| {
            serde_json::to_vec(&(variant.worker)(trial)).expect("JSON")
        })
        .expect("child");
        let result: Result<Outcome, TrialError> =
            serde_json::from_slice(&said).expect("JSON");
        match result {
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

fn metric(outcome: &Outcome, name: &str) -> Option<f64> {
    let found = outcome.evidence.metrics.iter().find(|m| m.name == name);
    found.map(|metric| metric.value)
}

/// Sent is delivered and dropped by name, as the row has it.
fn balances(name: &str, outcome: &Outcome, direction: &str) {
    let prefix = format!("{direction}_");
    let sum_of = |word: &str| -> f64 {
        let metrics = &outcome.evidence.metrics;
        metrics
            .iter()
            .filter(|m| m.name.starts_with(&format!("{prefix}{word}")))
            .map(|m| m.value)
            .sum()
    };
    let sent = sum_of("frames_sent");
    assert!(sent > 0.0, "{name}");
    let found = sum_of("frames_delivered") + sum_of("dropped_");
    assert!((sent - found).abs() < 0.5, "{name}: {sent} sent, {found} found");
}

fn proves_its_ops(name: &str, outcome: &Outcome) {
    assert!(outcome.evidence.verified_ops >= outcome.ops(), "{name}");
    for (key, value) in [("link", "veth"), ("frame_bytes", "64")] {
        let path = &outcome.evidence.path;
        let found = path.iter().find(|(known, _)| known == key);
        let found = found.map(|(_, value)| value.as_str());
        let is_v6 = path.contains(&("ip".to_owned(), "6".to_owned()));
        assert!(found == Some(value) || is_v6, "{name}: {key}={found:?}");
    }
    let softirq = outcome.evidence.path.iter().find(|(k, _)| k == "softirq");
    assert!(softirq.is_some(), "{name}");
    balances(name, outcome, "there");
}

#[test]
fn every_round_trip_is_answered_and_accounted_for() {
    run_all("net/rtt", |experiment, name, outcome| {
        proves_its_ops(name, outcome);
        assert!(outcome.evidence.degraded.is_empty(), "{name}");
        balances(name, outcome, "back");
        assert_eq!(experiment.latency_kind, LatencyKind::RoundTrip);
        assert_eq!(outcome.latencies.len(), outcome.ops(), "{name}");
        assert_eq!(metric(outcome, "frames_stale"), Some(0.0), "{name}");
        // Nothing goes through two network stacks in 100 ns.
        assert!(outcome.latencies.value_at_quantile(0.5) >= 100, "{name}");
    });
}

#[test]
fn every_stream_accounts_for_every_frame() {
    run_all("net/stream-64", |_, name, outcome| {
        proves_its_ops(name, outcome);
        assert!(outcome.evidence.degraded.is_empty(), "{name}");
        assert_eq!(outcome.latencies.len(), 0, "{name}");
        assert!(metric(outcome, "sent_per_s") > Some(0.0), "{name}");
        let loss = metric(outcome, "loss_percent").expect("loss");
        assert!((0.0..=100.0).contains(&loss), "{name}: {loss} %");
    });
}

#[test]
fn every_paced_frame_is_timed_and_accounted_for() {
    run_all("net/paced-64", |experiment, name, outcome| {
        proves_its_ops(name, outcome);
        assert_eq!(experiment.latency_kind, LatencyKind::Response);
        assert_eq!(outcome.latencies.len(), outcome.ops(), "{name}");
        let rate = metric(outcome, "generator_rate").expect("a rate");
        assert!(rate > 0.0, "{name}");
        // On a busy machine the pace may not be kept; then it is told.
        for reason in &outcome.evidence.degraded {
            let told = reason.starts_with("the generator started")
                || reason.contains("frames were dropped");
            assert!(told, "{name}: {reason}");
        }
    });
}
