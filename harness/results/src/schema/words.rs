//! The closed vocabularies of the files.

use super::table::words;

words! {
    /// What a variant is for in its experiment.
    pub enum Role {
        /// The blocking variant that the others are compared with.
        Baseline = "baseline",
        /// A hidden second copy of the baseline: the noise floor.
        AaTwin = "aa_twin",
        /// A variant that is compared with the baseline.
        #[default]
        Contender = "contender",
        /// A floor or ceiling of another variant, never compared itself.
        Bound = "bound",
    }
}

words! {
    /// How a trial ended.
    pub enum Status {
        /// Measured, and every validity signal was clean.
        Ok = "ok",
        /// Measured, with a trend or change point inside the window.
        Nonsteady = "nonsteady",
        /// Disturbed from outside; the whole block is void.
        Invalid = "invalid",
        /// Measured, but on another kernel path than its own: no verdict.
        Degraded = "degraded",
        /// Returned wrong data; the run has failed.
        Wrong = "wrong",
        /// The worker died, hung or refused; the whole block is void.
        #[default]
        Error = "error",
        /// Never started: the variant is not available on this machine.
        Skipped = "skipped",
    }
}

impl Status {
    /// Whether the figures of such a trial may enter an estimate.
    pub fn is_usable(self) -> bool {
        matches!(self, Status::Ok | Status::Nonsteady | Status::Degraded)
    }
}

words! {
    /// Who decides when the next op starts.
    pub enum LoadMode {
        /// The next op starts when an earlier one is done.
        #[default]
        Closed = "closed",
        /// Ops start by a schedule fixed beforehand.
        Open = "open",
    }
}

words! {
    /// What the latency figures of a trial are the time of.
    pub enum LatencyKind {
        /// From submission to completion in a closed loop.
        #[default]
        Service = "service",
        /// There and back again.
        Rtt = "rtt",
        /// From the intended start in an open loop.
        Response = "response",
    }
}

words! {
    /// Where the kernel books the time spent in interrupts.
    pub enum CpuAccounting {
        /// Charged to whichever task was running.
        InterruptsInTasks = "interrupts_in_tasks",
        /// Booked apart from tasks (IRQ_TIME accounting).
        Separate = "separate",
        /// Could not be found out.
        #[default]
        Unknown = "unknown",
    }
}

words! {
    /// In which direction a metric is better.
    pub enum Better {
        /// More is better.
        Higher = "higher",
        /// Less is better.
        Lower = "lower",
        /// Neither: a plain fact.
        #[default]
        None = "none",
    }
}

words! {
    /// The metrics that get a verdict.
    pub enum CompareMetric {
        /// Completed ops per second; none in an open loop, which asks for
        /// them.
        #[default]
        OpsPerS = "ops_per_s",
        /// Median latency.
        LatencyP50Ns = "latency_p50_ns",
        /// 99th percentile of latency.
        LatencyP99Ns = "latency_p99_ns",
        /// CPU time per op.
        CpuPerOpNs = "cpu_per_op_ns",
    }
}

impl CompareMetric {
    /// Every metric, in the order of the rows of `compare.csv`.
    pub const ALL: [CompareMetric; 4] = [
        CompareMetric::OpsPerS,
        CompareMetric::LatencyP50Ns,
        CompareMetric::LatencyP99Ns,
        CompareMetric::CpuPerOpNs,
    ];

    /// The direction in which it is better.
    pub fn better(self) -> Better {
        match self {
            CompareMetric::OpsPerS => Better::Higher,
            _ => Better::Lower,
        }
    }
}

words! {
    /// Whether blocks are in steady state by SNIA's rule.
    pub enum Steady {
        /// From the first block to the last.
        #[default]
        Yes = "yes",
        /// Not at all times, or too few blocks to tell.
        No = "no",
    }
}

words! {
    /// What a run can say about a variant on one metric.
    pub enum Verdict {
        /// Better than the baseline, by at least the practical threshold.
        Faster = "faster",
        /// Worse than the baseline, by at least the practical threshold.
        Slower = "slower",
        /// Within the practical threshold of the baseline.
        Same = "same",
        /// None of these has been shown.
        #[default]
        Undecided = "undecided",
    }
}
