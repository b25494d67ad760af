//! The list. A new way to move frames is a file in [`crate::ways`] and one
//! line here.

use harness::suite::{CpuNeed, Experiment, LatencyKind, Params, Role, Variant};

use crate::{
    paced, rtt, stream,
    ways::{
        Flow, Link,
        af_xdp::{AfXdpGeneric, AfXdpNative, AfXdpZeroCopy},
        mmsg::Mmsg,
        socket_blocking::SocketBlocking,
        socket_spin::SocketSpin,
        uring::{Uring, UringSleep, UringSpin},
    },
};

/// One thread a side.
const TWO_CPUS: CpuNeed = CpuNeed::Exactly(2);

/// Frames a second: so far apart that whoever sleeps is fast asleep, nearer, and
/// hardly further apart than a wake-up takes.
const RATES_PER_S: [u64; 3] = [1_000, 10_000, 100_000];

/// All experiments of the suite.
pub fn all() -> Vec<Experiment> {
    let mut all = vec![rtt(), stream_64()];
    all.extend(RATES_PER_S.map(paced_64));
    all
}

fn rtt() -> Experiment {
    use Role::{Baseline, Contender};
    Experiment {
        id: "net/rtt",
        about: "round trip of a frame over a link and back",
        params: Params::new().with("op_bytes", 64),
        tags: &["core", "latency", "noise:socket-spin"],
        cpus: TWO_CPUS,
        latency_kind: LatencyKind::RoundTrip,
        steps: &[],
        variants: vec![
            rtt_of::<SocketBlocking>(Baseline),
            rtt_of::<SocketSpin>(Contender),
            rtt_of::<UringSleep>(Contender),
            rtt_of::<UringSpin>(Contender),
            rtt_of::<AfXdpNative>(Contender),
            rtt_of::<AfXdpGeneric>(Contender),
            rtt_of::<AfXdpZeroCopy>(Contender),
        ],
    }
}

fn stream_64() -> Experiment {
    use Role::{Baseline, Contender};
    Experiment {
        id: "net/stream-64",
        about: "frames per second that arrive over a link, one queue",
        params: Params::new().with("op_bytes", 64).with("queues", 1),
        tags: &["core", "throughput"],
        cpus: TWO_CPUS,
        latency_kind: LatencyKind::None,
        steps: &[],
        variants: vec![
            stream_of::<SocketBlocking>(Baseline),
            stream_of::<SocketSpin>(Contender),
            stream_of::<Mmsg>(Contender),
            stream_of::<Uring>(Contender),
            stream_of::<AfXdpNative>(Contender),
            stream_of::<AfXdpGeneric>(Contender),
            stream_of::<AfXdpZeroCopy>(Contender),
        ],
    }
}

fn paced_64(rate_per_s: u64) -> Experiment {
    use Role::{Baseline, Contender};
    Experiment {
        id: "net/paced-64",
        about: "one-way latency of frames that are sent at a set rate",
        params: Params::new()
            .with("op_bytes", 64)
            .with(paced::RATE_PER_S, rate_per_s),
        tags: &["latency", "open-loop"],
        cpus: TWO_CPUS,
        latency_kind: LatencyKind::Response,
        steps: &[],
        variants: vec![
            paced_of::<SocketBlocking>(Baseline),
            paced_of::<SocketSpin>(Contender),
            paced_of::<UringSleep>(Contender),
            paced_of::<UringSpin>(Contender),
            paced_of::<AfXdpNative>(Contender),
            paced_of::<AfXdpGeneric>(Contender),
            paced_of::<AfXdpZeroCopy>(Contender),
        ],
    }
}

fn rtt_of<L: Link>(role: Role) -> Variant {
    Variant {
        id: L::ID,
        about: L::ABOUT,
        role,
        bound: None,
        spinning: L::SPINNING,
        probe: L::PROBE,
        worker: rtt::worker::<L>,
    }
}

fn paced_of<L: Link>(role: Role) -> Variant {
    Variant { worker: paced::worker::<L>, ..rtt_of::<L>(role) }
}

fn stream_of<F: Flow>(role: Role) -> Variant {
    Variant {
        id: F::ID,
        about: F::ABOUT,
        role,
        bound: None,
        spinning: F::SPINNING,
        probe: F::PROBE,
        worker: stream::worker::<F>,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_experiment_has_one_sleeping_baseline() {
        for experiment in all() {
            let key = experiment.key();
            let ids: BTreeSet<_> =
                experiment.variants.iter().map(|v| v.id).collect();
            assert_eq!(ids.len(), experiment.variants.len(), "{key}");
            let baselines: Vec<_> = experiment
                .variants
                .iter()
                .filter(|v| v.role == Role::Baseline)
                .collect();
            assert_eq!(baselines.len(), 1, "{key}");
            assert!(!baselines[0].spinning, "{key}");
        }
    }

    #[test]
    fn the_core_set_is_fixed() {
        let core: Vec<_> = all()
            .iter()
            .filter(|e| e.tags.contains(&"core"))
            .map(Experiment::key)
            .collect();
        assert_eq!(
            core,
            ["net/rtt op_bytes=64", "net/stream-64 op_bytes=64 queues=1"]
        );
    }
}
