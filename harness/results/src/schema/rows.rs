//! The rows of the four CSV files.

use super::table::table;
use super::words::{
    Better, CompareMetric, CpuAccounting, LatencyKind, LoadMode, Role, Status,
    Steady, Verdict,
};

table! {
    /// One row per trial: one fresh, pinned worker process measuring one
    /// variant once. A skipped variant has one row without figures and
    /// without a block. An empty cell means "not measured", never 0.
    pub struct TrialRow in "trials.csv" {
        /// Version of this layout.
        schema_version: u32 = "";
        /// The run this trial belongs to; the name its directory was given.
        run_id: String = "";
        /// Session within the run, from 1: everything is set up anew for each.
        session: u32 = "";
        /// Sequential number in the run, from 1 and without gaps.
        trial: u64 = "";
        /// `storage`, `net` or `ipc`.
        suite: String = "";
        /// The experiment's id within its suite.
        experiment: String = "";
        /// The experiment's parameters: `key=value` sorted by key, separated
        /// by one space.
        params: String = "";
        /// The variant's id.
        variant: String = "";
        /// What the variant is for in its experiment.
        role: Role = "";
        /// The variant that is this one's own floor or ceiling; empty if none.
        bound: String = "";
        /// Block within session and experiment, from 1; empty if skipped.
        block: Option<u32> = "";
        /// 1 for the first try of the block, then 2 and so on; the last counts.
        attempt: Option<u32> = "";
        /// Place of the trial in the block, from 1, in the order of execution.
        position: Option<u32> = "";
        /// How many trials the block has; with fewer rows it is incomplete.
        block_trials: Option<u32> = "";
        /// Seed of the worker.
        seed: Option<u64> = "";
        /// Process id of the worker.
        worker_pid: Option<u32> = "";
        /// When the worker was started, RFC 3339 in UTC.
        started_at_utc: String = "";
        /// How the trial ended.
        status: Status = "";
        /// Why it is not `ok`, separated by `;`.
        reasons: String = "";
        /// Which kernel path served it: `key=value` proofs separated by `;`.
        path: String = "";
        /// Who decides when the next op starts.
        load_mode: Option<LoadMode> = "";
        /// Worker threads that issue ops.
        threads: Option<u32> = "threads";
        /// Ops in flight at the same time.
        depth: Option<u32> = "ops";
        /// Ops submitted together at most.
        batch: Option<u32> = "ops";
        /// Bytes moved by one op.
        op_bytes: Option<u64> = "bytes";
        /// The CPUs the worker was pinned to, as a kernel CPU list.
        cpus: String = "";
        /// The NUMA node its memory was bound to.
        numa_node: Option<u32> = "";
        /// The file, device or interface it worked on.
        target: String = "";
        /// Time before the window.
        warmup_ns: Option<u64> = "ns";
        /// Length of the measured window.
        window_ns: Option<u64> = "ns";
        /// Ops completed in the window.
        ops: Option<u64> = "ops";
        /// Bytes moved in the window.
        bytes: Option<u64> = "bytes";
        /// Ops that failed: the first one ends the trial.
        errors: Option<u64> = "ops";
        /// Throughput: `ops` * 1e9 / `window_ns`.
        ops_per_s: Option<f64> = "ops/s";
        /// What the latency figures are the time of.
        latency_kind: Option<LatencyKind> = "";
        /// Latencies recorded.
        latency_count: Option<u64> = "";
        /// One op in this many was timed.
        latency_sampled_every: Option<u64> = "ops";
        /// Least latency.
        latency_min_ns: Option<u64> = "ns";
        /// Median latency.
        latency_p50_ns: Option<u64> = "ns";
        /// 90th percentile of latency.
        latency_p90_ns: Option<u64> = "ns";
        /// 99th percentile of latency.
        latency_p99_ns: Option<u64> = "ns";
        /// 99.9th percentile of latency.
        latency_p999_ns: Option<u64> = "ns";
        /// 99.99th percentile of latency.
        latency_p9999_ns: Option<u64> = "ns";
        /// Greatest latency.
        latency_max_ns: Option<u64> = "ns";
        /// Mean latency.
        latency_mean_ns: Option<f64> = "ns";
        /// What a latency may be too long by in the mean: ops that were seen complete together share a time stamp.
        latency_stamp_error_ns: Option<u64> = "ns";
        /// CPU time of the whole effect in the window, the next two included.
        cpu_ns: Option<u64> = "ns";
        /// Part of it spent in kernel threads working for the trial.
        cpu_kernel_threads_ns: Option<u64> = "ns";
        /// Part of it spent in interrupts and softirqs on the used CPUs.
        cpu_interrupts_ns: Option<u64> = "ns";
        /// Where the kernel books the time spent in interrupts.
        cpu_accounting: Option<CpuAccounting> = "";
        /// CPU time per op: `cpu_ns` / `ops`.
        cpu_per_op_ns: Option<f64> = "ns";
        /// CPUs kept busy: `cpu_ns` / `window_ns`.
        busy_cpus: Option<f64> = "CPUs";
        /// Cycles per op.
        cycles_per_op: Option<f64> = "cycles";
        /// Instructions per op.
        instructions_per_op: Option<f64> = "instructions";
        /// Last-level cache misses per op.
        cache_misses_per_op: Option<f64> = "misses";
        /// System calls per op.
        syscalls_per_op: Option<f64> = "calls";
        /// Voluntary context switches in the window.
        switches_voluntary: Option<u64> = "switches";
        /// Involuntary context switches in the window.
        switches_involuntary: Option<u64> = "switches";
        /// Time the worker's threads were runnable without running.
        run_queue_wait_ns: Option<u64> = "ns";
        /// Time the hypervisor took from the used CPUs.
        steal_ns: Option<u64> = "ns";
        /// CPU time of other processes on the used CPUs.
        foreign_cpu_ns: Option<u64> = "ns";
        /// Interrupts on the used CPUs that the trial did not cause.
        foreign_interrupts: Option<u64> = "interrupts";
        /// Moves of pinned threads to another CPU.
        migrations: Option<u64> = "";
        /// Page faults served without reading a device.
        faults_minor: Option<u64> = "faults";
        /// Page faults that had to read a device.
        faults_major: Option<u64> = "faults";
        /// Hottest sensor reading during the trial, in 1/1000 degree Celsius.
        temperature_max_millicelsius: Option<u64> = "m°C";
        /// Lowest frequency of the used CPUs.
        frequency_min_khz: Option<u64> = "kHz";
        /// Thermal throttling events.
        throttle_events: Option<u64> = "events";
        /// Ops whose cheap check was verified.
        verified_ops: Option<u64> = "ops";
        /// Ops whose whole data was verified.
        checksummed_ops: Option<u64> = "ops";
        /// Trend of throughput per 100 ms window, relative to its median.
        slope_per_window: Option<f64> = "fraction";
        /// Jain's fairness index over the threads' ops, 1 when all are equal.
        fairness_jain: Option<f64> = "";
        /// `Tag` of the trial's histogram in the `hist/` files; empty if none.
        hist_tag: String = "";
    }
}

table! {
    /// One row per further figure of a trial, for the whole trial or for one
    /// of its threads.
    pub struct MetricRow in "metrics.csv" {
        /// The run this row belongs to.
        run_id: String = "";
        /// Session within the run, from 1.
        session: u32 = "";
        /// The trial's number in `trials.csv`.
        trial: u64 = "";
        /// `storage`, `net` or `ipc`.
        suite: String = "";
        /// The experiment's id within its suite.
        experiment: String = "";
        /// The experiment's parameters, as in `trials.csv`.
        params: String = "";
        /// The variant's id.
        variant: String = "";
        /// The thread's index from 0; empty for the whole trial.
        thread: Option<u32> = "";
        /// Name of the figure.
        metric: String = "";
        /// Its unit.
        unit: String = "";
        /// In which direction it is better.
        better: Better = "";
        /// The figure.
        value: f64 = "";
    }
}

table! {
    /// One row per 100 ms slice of a trial, for the whole trial or for one of
    /// its threads.
    pub struct WindowRow in "windows.csv" {
        /// The run this row belongs to.
        run_id: String = "";
        /// The trial's number in `trials.csv`.
        trial: u64 = "";
        /// The thread's index from 0; empty for the whole trial.
        thread: Option<u32> = "";
        /// Index of the slice from 0.
        window_index: u32 = "";
        /// Start of the slice after the start of the measured window.
        start_ns: u64 = "ns";
        /// Length of the slice.
        duration_ns: u64 = "ns";
        /// Ops completed in the slice.
        ops: u64 = "ops";
        /// Bytes moved in the slice.
        bytes: u64 = "bytes";
    }
}

table! {
    /// One row per variant and metric: the comparison with the baseline and
    /// its verdict, all of it derived from `trials.csv` and the settings in
    /// `run.json`.
    pub struct CompareRow in "compare.csv", later 1 {
        /// The run this row belongs to.
        run_id: String = "";
        /// `storage`, `net` or `ipc`.
        suite: String = "";
        /// The experiment's id within its suite.
        experiment: String = "";
        /// The experiment's parameters, as in `trials.csv`.
        params: String = "";
        /// The metric compared; the rate of an open loop is not, for it is
        /// the one that was asked for.
        metric: CompareMetric = "";
        /// In which direction it is better.
        better: Better = "";
        /// The variant compared.
        variant: String = "";
        /// The variant it is compared with.
        baseline: String = "";
        /// `contender` or `aa_twin`.
        role: Role = "";
        /// Blocks planned: blocks per session times sessions.
        blocks_planned: u32 = "blocks";
        /// Blocks that entered the estimate.
        blocks_used: u32 = "blocks";
        /// Attempts at a block that are void, whether run again or not.
        blocks_invalid: u32 = "blocks";
        /// Median of the baseline over the used blocks.
        baseline_median: Option<f64> = "the metric's";
        /// Median of the variant over the used blocks.
        variant_median: Option<f64> = "the metric's";
        /// Variant / baseline: exp of the Hodges-Lehmann estimate over the
        /// blocks' log ratios.
        ratio: Option<f64> = "";
        /// Low end of its 95 % interval, not adjusted for several rows.
        ratio_low: Option<f64> = "";
        /// High end of its 95 % interval, not adjusted for several rows.
        ratio_high: Option<f64> = "";
        /// Exact confidence of that interval.
        level: Option<f64> = "";
        /// Low end of the interval at the row's Holm-adjusted level.
        adjusted_low: Option<f64> = "";
        /// High end of the interval at the row's Holm-adjusted level.
        adjusted_high: Option<f64> = "";
        /// Exact confidence of that interval.
        adjusted_level: Option<f64> = "";
        /// Exact two-sided signed-rank p-value.
        p_value: Option<f64> = "";
        /// The p-value adjusted by Holm over the row's family.
        p_holm: Option<f64> = "";
        /// The ratio without blocks that hold a `nonsteady` trial of the two;
        /// empty if there are none.
        ratio_without_flagged: Option<f64> = "";
        /// Smallest effect that a run like this finds 4 times in 5:
        /// 1.43 half-widths of the 95 % interval of the log ratio.
        minimum_detectable_effect: Option<f64> = "fraction";
        /// Blocks that would probably decide an `undecided` row.
        blocks_needed: Option<u32> = "blocks";
        /// Share of the variant's own floor or ceiling that it reaches.
        share_of_bound: Option<f64> = "fraction";
        /// The verdict; empty where none may be given.
        verdict: Option<Verdict> = "";
        /// Why there is no verdict or no figure, separated by `;`.
        reasons: String = "";
        /// Whether the blocks of variant and baseline are in steady state on
        /// throughput, where what they write to has a history; empty elsewhere.
        steady: Option<Steady> = "";
    }
}

table! {
    /// One row per kernel: a short piece of code timed in-process by
    /// `cargo bench`. Times only; nothing is compared.
    pub struct KernelRow in "kernels.csv" {
        /// The run this row belongs to.
        run_id: String = "";
        /// The package that the kernel belongs to.
        suite: String = "";
        /// The kernel.
        kernel: String = "";
        /// The CPU it was pinned to, as a kernel CPU list.
        cpus: String = "";
        /// Samples taken.
        samples: u64 = "";
        /// Iterations over all samples.
        iterations: u64 = "";
        /// Least time per iteration of a sample.
        time_min_ns: f64 = "ns";
        /// Median over the samples of the time per iteration.
        time_median_ns: f64 = "ns";
        /// Greatest time per iteration of a sample.
        time_max_ns: f64 = "ns";
    }
}
