//! What differs between two sides in how they were measured.

use super::Difference;
use super::side::Side;
use crate::schema::RunFile;

/// Settings, program and machine: what is not the same in all runs. Values of
/// several runs of a side stand beside each other.
pub(super) fn differences(a: &Side, b: &Side) -> Vec<Difference> {
    type Fact = (&'static str, fn(&RunFile) -> String);
    const FACTS: [Fact; 12] = [
        ("machine", |f| f.machine_id.clone()),
        ("tool version", |f| f.tool.version.clone()),
        ("tool commit", |f| known(f.tool.git_commit.clone())),
        ("tool tree edited", |f| known(f.tool.git_dirty)),
        ("rustc", |f| f.tool.rustc.clone()),
        ("build profile", |f| f.tool.profile.clone()),
        ("window", |f| milliseconds(f.settings.window_ns)),
        ("warm-up", |f| milliseconds(f.settings.warmup_ns)),
        ("blocks per session", |f| f.settings.blocks.to_string()),
        ("practical threshold", |f| f.settings.practical_ratio.to_string()),
        ("clock", |f| known(f.clock["source"].as_str())),
        ("seed", |f| {
            let seeds: Vec<String> =
                f.parts.iter().map(|part| part.seed.to_string()).collect();
            seeds.join("+")
        }),
    ];
    FACTS
        .into_iter()
        .filter_map(|(key, fact)| {
            let values = |side: &Side| {
                let mut values: Vec<String> =
                    side.runs.iter().map(|run| fact(&run.file)).collect();
                values.dedup();
                values.join(", ")
            };
            let (a, b) = (values(a), values(b));
            (a != b).then(|| Difference { key: key.to_owned(), a, b })
        })
        .collect()
}

fn known(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| value.to_string())
}

fn milliseconds(ns: u64) -> String {
    format!("{} ms", ns as f64 / 1e6)
}
