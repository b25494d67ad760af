//! The list. A new way to hand messages over is a file in [`crate::queues`]
//! and one line here.

use harness::suite::{
    Availability, CpuNeed, Experiment, LatencyKind, Params, Role, Variant,
};

use crate::{
    bounds::{empty_syscall, lines},
    ping_pong,
    queues::{
        Link, Queue, TwoWay, Way,
        array_queue::ArrayQueue,
        channel::Channel,
        eventfd::EventFd,
        futex::Futex,
        line::{SingleLine, TwoLines},
        mutex_condvar::MutexCondvar,
        pipe::Pipe,
        ring::Ring,
        std_mpsc::StdMpsc,
    },
    stream,
};

/// The thread that is measured and its peer.
const TWO_CPUS: CpuNeed = CpuNeed::Exactly(2);

/// All experiments of the suite.
pub fn all() -> Vec<Experiment> {
    vec![
        ping_pong(8, &["core", "latency", "noise:ring"]),
        ping_pong(64, &["latency"]),
        spsc_stream(8, 1_024, &["core", "throughput", "noise:ring"]),
        spsc_stream(64, 1_024, &["core", "throughput"]),
        spsc_stream(8, 65_536, &["throughput"]),
    ]
}

fn ping_pong(op_bytes: u64, tags: &'static [&'static str]) -> Experiment {
    use Role::{Baseline, Bound, Contender};
    const SLEEPS: Option<&str> = Some(empty_syscall::ID);
    // A ring can beat two lines: it writes its next slot without waiting for
    // one to come back (11.7 M against 9.1 M round trips on one EPYC guest).
    // Nothing beats one line.
    const POLLS: Option<&str> = Some(SingleLine::ID);
    Experiment {
        id: "ipc/ping-pong",
        about: "round trip of a message to another thread and back",
        params: Params::new().with("op_bytes", op_bytes),
        tags,
        cpus: TWO_CPUS,
        latency_kind: LatencyKind::RoundTrip,
        steps: &[],
        variants: vec![
            ping_pong_of::<TwoWay<Pipe>>(Baseline, SLEEPS),
            ping_pong_of::<TwoWay<MutexCondvar>>(Contender, SLEEPS),
            ping_pong_of::<EventFd>(Contender, SLEEPS),
            ping_pong_of::<Futex>(Contender, SLEEPS),
            // It polls before it sleeps, so that a round trip may do without
            // any system call.
            ping_pong_of::<TwoWay<StdMpsc>>(Contender, POLLS),
            ping_pong_of::<TwoWay<Channel>>(Contender, POLLS),
            ping_pong_of::<TwoWay<ArrayQueue>>(Contender, POLLS),
            ping_pong_of::<TwoWay<Ring>>(Contender, POLLS),
            ping_pong_of::<TwoLines>(Bound, None),
            ping_pong_of::<SingleLine>(Bound, None),
            Variant {
                id: empty_syscall::ID,
                about: empty_syscall::ABOUT,
                role: Bound,
                bound: None,
                spinning: true,
                probe: |_| Availability::Available,
                worker: empty_syscall::worker,
            },
        ],
    }
}

fn spsc_stream(
    op_bytes: u64,
    capacity: u64,
    tags: &'static [&'static str],
) -> Experiment {
    use Role::{Baseline, Bound, Contender};
    Experiment {
        id: "ipc/spsc-stream",
        about: "messages per second from one thread to another",
        params: Params::new()
            .with("op_bytes", op_bytes)
            .with("capacity", capacity),
        tags,
        cpus: TWO_CPUS,
        latency_kind: LatencyKind::None,
        steps: &[],
        variants: vec![
            stream_of::<MutexCondvar>(Baseline),
            stream_of::<Pipe>(Contender),
            stream_of::<StdMpsc>(Contender),
            stream_of::<Channel>(Contender),
            stream_of::<ArrayQueue>(Contender),
            stream_of::<Ring>(Contender),
            Variant {
                id: lines::ID,
                about: lines::ABOUT,
                role: Bound,
                bound: None,
                spinning: true,
                probe: |_| Availability::Available,
                worker: lines::worker,
            },
        ],
    }
}

fn ping_pong_of<L: Link>(role: Role, bound: Option<&'static str>) -> Variant {
    Variant {
        id: L::ID,
        about: L::ABOUT,
        role,
        bound,
        spinning: L::SPINNING,
        probe: L::probe,
        worker: ping_pong::worker::<L>,
    }
}

fn stream_of<Q: Queue>(role: Role) -> Variant {
    Variant {
        id: Q::ID,
        about: Q::ABOUT,
        role,
        bound: Some(lines::ID),
        spinning: Q::SPINNING,
        probe: Q::probe,
        worker: stream::worker::<Q>,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_experiment_has_one_baseline_and_bounds_that_exist() {
        for experiment in all() {
            let key = experiment.key();
            let ids: BTreeSet<_> =
                experiment.variants.iter().map(|v| v.id).collect();
            assert_eq!(ids.len(), experiment.variants.len(), "{key}");
            let baselines = experiment
                .variants
                .iter()
                .filter(|v| v.role == Role::Baseline)
                .count();
            assert_eq!(baselines, 1, "{key}");
            for variant in &experiment.variants {
                if let Some(bound) = variant.bound {
                    let bound = experiment.variant(bound).expect("bound");
                    assert_eq!(bound.role, Role::Bound, "{key}");
                }
            }
        }
    }

    #[test]
    fn keys_are_unique_and_the_core_set_is_fixed() {
        let keys: BTreeSet<_> = all().iter().map(Experiment::key).collect();
        assert_eq!(keys.len(), all().len());
        let core: Vec<_> = all()
            .iter()
            .filter(|e| e.tags.contains(&"core"))
            .map(Experiment::key)
            .collect();
        assert_eq!(
            core,
            [
                "ipc/ping-pong op_bytes=8",
                "ipc/spsc-stream capacity=1024 op_bytes=8",
                "ipc/spsc-stream capacity=1024 op_bytes=64",
            ]
        );
    }
}
