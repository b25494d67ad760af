//! What `run.json` says of a run's experiments and no trial does: the order in
//! which the suite lists its variants, and which of them adds a step to which.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::gather::ExperimentId;
use crate::schema::RunFile;

/// What was planned, as far as a reader of the verdicts wants to know it. A
/// run file without a plan gives an empty one: then names decide the order.
#[derive(Debug, Default)]
pub struct Plan {
    experiments: HashMap<ExperimentId, Variants>,
    /// One pass, of which nothing is run again.
    pub(super) smoke: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Variants {
    /// In the order of the suite's list.
    variants: Vec<String>,
    /// Each with the variant that it adds one step to.
    #[serde(default)]
    steps: Vec<(String, String)>,
}

impl Plan {
    /// The plans of all parts of a run.
    pub fn of(run: &RunFile) -> Plan {
        let mut plan = Plan::default();
        for part in &run.parts {
            plan.smoke |= part.plan["options"]["smoke"] == true;
            let experiments = part.plan["experiments"].as_array();
            for experiment in experiments.into_iter().flatten() {
                let id = id(experiment);
                if let (Some(id), Ok(variants)) =
                    (id, Variants::deserialize(experiment))
                {
                    plan.experiments.insert(id, variants);
                }
            }
        }
        plan
    }

    /// Where a variant stands in its suite's list, for sorting; those that no
    /// plan holds come last, by name.
    pub(crate) fn place(
        &self,
        id: &ExperimentId,
        variant: &str,
    ) -> (usize, String) {
        let listed = self
            .experiments
            .get(id)
            .and_then(|e| e.variants.iter().position(|v| v == variant));
        (listed.unwrap_or(usize::MAX), variant.to_owned())
    }

    /// Each variant that adds one step to another, with that other.
    pub(super) fn steps(&self, id: &ExperimentId) -> &[(String, String)] {
        self.experiments.get(id).map_or(&[], |e| &e.steps)
    }
}

/// As rows name it: without the suite in the id, the parameters as one text.
fn id(experiment: &Value) -> Option<ExperimentId> {
    let suite = experiment["suite"].as_str()?;
    let full = experiment["experiment"].as_str()?;
    let name = full.split_once('/').map_or(full, |(_, name)| name);
    let params: Vec<String> = experiment["params"]
        .as_object()?
        .iter()
        .map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect::<Option<_>>()?;
    // The map is sorted by key, as the rows are.
    Some([suite.to_owned(), name.to_owned(), params.join(" ")])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Part;

    #[test]
    fn the_order_and_the_steps_are_those_of_run_json() {
        let plan = serde_json::json!({
            "options": { "smoke": true },
            "experiments": [
                {
                    "suite": "storage",
                    "experiment": "storage/ladder",
                    "params": { "op_bytes": "4096", "depth": "32" },
                    "variants": ["pread", "uring", "aio"],
                    "steps": [["uring", "pread"]],
                },
                // As the first versions wrote it.
                {
                    "suite": "ipc",
                    "experiment": "ipc/ping-pong",
                    "params": {},
                    "variants": ["pipe", "futex"],
                },
                { "experiment": 7 },
            ],
        });
        let parts = vec![Part::default(), Part { plan, ..Part::default() }];
        let plan = Plan::of(&RunFile { parts, ..RunFile::default() });
        let ladder = ["storage", "ladder", "depth=32 op_bytes=4096"];
        let ladder = ladder.map(str::to_owned);
        let mut names = ["new", "aio", "pread", "uring", "gone"];
        names.sort_by_key(|name| plan.place(&ladder, name));
        assert_eq!(names, ["pread", "uring", "aio", "gone", "new"]);
        let steps = plan.steps(&ladder);
        assert_eq!(steps, [("uring".to_owned(), "pread".to_owned())]);
        let ping_pong = ["ipc", "ping-pong", ""].map(str::to_owned);
        assert_eq!(plan.place(&ping_pong, "futex").0, 1);
        assert!(plan.steps(&ping_pong).is_empty());
        assert!(plan.smoke);
    }
}
