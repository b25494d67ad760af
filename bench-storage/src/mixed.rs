//! Latencies of reads and writes of a mixed load, each for itself: what a read
//! waits for behind writes is what the mix is about.

use harness::measure::{
    recorder::quantile,
    trial::{ExtraMetric, Outcome},
};

/// Figures of each side: a name and a quantile.
const QUANTILES: [(&str, f64); 3] =
    [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)];

/// Adds `read_latency_p50` and the like, in nanoseconds, where reads were kept
/// apart.
pub fn state_latencies(outcome: &mut Outcome) {
    let Some(reads) = &outcome.apart else { return };
    let mut writes = outcome.latencies.clone();
    // Reads are among all, bin by bin: nothing goes below zero.
    if writes.subtract(reads).is_err() {
        return;
    }
    let sides = [("read", reads), ("write", &writes)];
    let figures = sides.into_iter().flat_map(|(side, latencies)| {
        QUANTILES.into_iter().filter_map(move |(name, q)| {
            Some(ExtraMetric {
                name: format!("{side}_latency_{name}"),
                unit: "ns".to_owned(),
                better: "lower".to_owned(),
                thread: None,
                value: quantile(latencies, q)? as f64,
            })
        })
    });
    outcome.evidence.metrics.extend(figures);
}
