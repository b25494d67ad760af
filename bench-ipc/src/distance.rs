//! How far apart the trial's two CPUs really are.
//!
//! A guest's virtual CPUs move about on the host, and what the topology says
//! of them does not change with it: the same two CPUs can share a third-level
//! cache in one second and stand on two dies in the next, which makes round
//! trips five times as long and streams eight times as slow. So every trial
//! measures the round trip of a cache line before and after, for a
//! millisecond, and says what it found. It decides nothing.

use harness::measure::trial::{Evidence, ExtraMetric, Trial};

use crate::{
    message::Message,
    peer::Peer,
    queues::{Link, Receiver, Sender, line::TwoLines},
    wait::{Lifeline, Wait, Waiter},
};

/// Round trips are timed in groups, so that the clock costs little of them,
/// and the median of the groups leaves out those that were interrupted.
const GROUPS: usize = 64;
const TRIPS_PER_GROUP: u64 = 16;

/// When the distance was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before the trial's own peer was started.
    Before,
    /// After it has ended.
    After,
}

/// Adds the median round trip of two cache lines, if it can be measured. Call
/// it on the measured thread, while the second CPU is idle.
pub fn observe(trial: &Trial, when: When, evidence: &mut Evidence) {
    let Some(value) = round_trip_ns(trial) else { return };
    let name = match when {
        When::Before => "line_round_trip_before",
        When::After => "line_round_trip_after",
    };
    evidence.metrics.push(ExtraMetric {
        name: name.to_owned(),
        unit: "ns".to_owned(),
        better: "none".to_owned(),
        thread: None,
        value,
    });
}

fn round_trip_ns(trial: &Trial) -> Option<f64> {
    let lifeline = Lifeline::default();
    let waiter = Waiter::new(Wait::Spin, &lifeline);
    let (mut near, mut far) = TwoLines::connect::<1>(1, &waiter).ok()?;
    let echo = Peer::start(trial, &lifeline, move || {
        while let Ok(message) = far.receive() {
            if far.send(message).is_err() {
                break;
            }
        }
    });
    let echo = echo.ok()?;
    let clock = trial.spec.clock;
    let mut groups_ns = [0; GROUPS];
    let mut number = 0;
    for group_ns in &mut groups_ns {
        let started_ns = clock.now_ns();
        for _ in 0..TRIPS_PER_GROUP {
            number += 1;
            near.send(Message([number])).ok()?;
            near.receive().ok()?;
        }
        *group_ns = clock.now_ns() - started_ns;
    }
    drop(echo);
    groups_ns.sort_unstable();
    Some(groups_ns[GROUPS / 2] as f64 / TRIPS_PER_GROUP as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_line_takes_time_to_cross() {
        let Some(cpus) = testing::two_cpus() else { return };
        let _alone = testing::alone();
        let trial = testing::trial("x", &cpus);
        let mut evidence = Evidence::default();
        observe(&trial, When::Before, &mut evidence);
        observe(&trial, When::After, &mut evidence);
        let names: Vec<&str> =
            evidence.metrics.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["line_round_trip_before", "line_round_trip_after"]);
        // Less than a first-level cache hit would mean that nothing crossed.
        assert!(evidence.metrics.iter().all(|m| m.value > 2.0));
    }

    #[test]
    fn one_cpu_has_no_distance() {
        let trial = testing::trial("x", &[]);
        let mut evidence = Evidence::default();
        observe(&trial, When::Before, &mut evidence);
        assert!(evidence.metrics.is_empty());
    }
}
