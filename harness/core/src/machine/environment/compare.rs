//! What is the same and what changed between two environments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Environment, targets};
use crate::machine::topology::Topology;

/// Facts that change by themselves while nothing about the machine does.
const VOLATILE: [&str; 2] = ["load_average", "swap_used_bytes"];

/// The environment's facts that must be equal for a run to go on where it
/// stopped.
const IDENTIFYING: [&str; 12] = [
    "architecture",
    "clocksource",
    "cmdline",
    "cpu_limit",
    "cpu_model",
    "frequency",
    "io_uring_disabled",
    "kernel_release",
    "kernel_version",
    "microcode",
    "mitigations",
    "transparent_hugepages",
];

/// How an unknown value is written.
const UNKNOWN: &str = "unknown";

/// A fact that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Which fact, `mitigations.spectre_v2`.
    pub key: String,
    /// Its value on the first side, `unknown` where there is none.
    pub before: String,
    /// Its value on the second side.
    pub after: String,
}

/// What differs between two environments, without what changes by itself.
pub fn differences(
    before: &Environment,
    after: &Environment,
) -> Vec<Difference> {
    compare(&facts(before), &facts(after))
}

/// The same for two `run.json`: first their `targets`, then `environment`,
/// `topology` as the fingerprint has it, and `devices`, of whatever version
/// wrote them. Where both tell what they worked on, block devices that they
/// did not work on say nothing, and those that they did are told already.
pub fn stored_differences(before: &Stored, after: &Stored) -> Vec<Difference> {
    let tell = |stored: &Stored| !stored.targets.is_empty();
    let with_disks = !(tell(before) && tell(after));
    let mut all = targets::differences(&before.targets, &after.targets);
    all.extend(compare(&before.facts(with_disks), &after.facts(with_disks)));
    all
}

/// What a `run.json` holds of the machine.
#[derive(Debug, Clone)]
pub struct Stored<'a> {
    /// Its `environment`.
    pub environment: &'a Value,
    /// Its fingerprint, one `key=value` per line.
    pub fingerprint: &'a str,
    /// Its `devices`.
    pub devices: &'a Value,
    /// Of each suite that worked on something: its id, and the facts.
    pub targets: Vec<(&'a str, &'a Value)>,
}

impl Stored<'_> {
    fn facts(&self, with_disks: bool) -> BTreeMap<String, String> {
        let mut facts = match Environment::deserialize(self.environment.clone())
        {
            Ok(environment) => facts(&environment),
            // Another version's; what it shares with ours still compares.
            Err(_) => facts_of(self.environment.as_object()),
        };
        let topology = |line: &&str| line.starts_with("topology.");
        let lines = self.fingerprint.lines().filter(topology);
        for (key, value) in lines.filter_map(|line| line.split_once('=')) {
            facts.insert(key.to_owned(), value.to_owned());
        }
        for (kind, devices) in self.devices.as_object().into_iter().flatten() {
            if with_disks || kind != "block" {
                flatten(&format!("devices.{kind}"), devices, &mut facts);
            }
        }
        // Older versions stored it, and it may tell of a person.
        facts.retain(|key, _| !key.ends_with(".backing_file"));
        facts
    }
}

/// The facts that must be equal for `--resume`, one `key=value` per line.
pub fn fingerprint(environment: &Environment, topology: &Topology) -> String {
    let mut all = facts(environment);
    all.retain(|key, _| {
        let first = key.split('.').next().unwrap_or(key);
        IDENTIFYING.contains(&first)
    });
    let mut add = |key: &str, value: String| {
        all.insert(format!("topology.{key}"), value);
    };
    add("online", topology.online.to_string());
    add("cores", topology.cores().len().to_string());
    add("packages", topology.packages.len().to_string());
    add("nodes", topology.nodes.len().to_string());
    let isolated = topology.isolated.as_ref();
    add("isolated", isolated.map_or(UNKNOWN.into(), |set| set.to_string()));
    all.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
}

/// What differs between two fingerprints.
pub fn fingerprint_changes(before: &str, after: &str) -> Vec<Difference> {
    let parse = |text: &str| -> BTreeMap<String, String> {
        text.lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    compare(&parse(before), &parse(after))
}

fn compare(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<Difference> {
    let value = |side: &BTreeMap<String, String>, key: &str| {
        side.get(key).cloned().unwrap_or_else(|| UNKNOWN.to_owned())
    };
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .map(|key| Difference {
            key: key.clone(),
            before: value(before, key),
            after: value(after, key),
        })
        .filter(|difference| difference.before != difference.after)
        .collect()
}

/// Every fact as text under a dotted name. It goes through the serialised
/// form, so that a fact added to [`Environment`] cannot be forgotten here.
fn facts(environment: &Environment) -> BTreeMap<String, String> {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(environment)
    else {
        return BTreeMap::new();
    };
    // These are an object in one state and a word in another; a change of
    // state would show under two names.
    for (name, text) in [
        ("cpu_limit", environment.cpu_limit.to_string()),
        ("virtualization", environment.virtualization.to_string()),
        ("container", environment.container.to_string()),
    ] {
        fields.insert(name.to_owned(), Value::String(text));
    }
    facts_of(Some(&fields))
}

fn facts_of(fields: Option<&Map<String, Value>>) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    for (name, value) in fields.into_iter().flatten() {
        if !VOLATILE.contains(&name.as_str()) {
            flatten(name, value, &mut facts);
        }
    }
    facts
}

fn flatten(key: &str, value: &Value, facts: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(&format!("{key}.{name}"), value, facts);
            }
        }
        // Devices and the like: by name, for their order says nothing.
        Value::Array(items)
            if items.iter().any(|item| item["name"].is_string()) =>
        {
            for item in items {
                let name = item["name"].as_str().unwrap_or(UNKNOWN);
                flatten(&format!("{key}.{name}"), item, facts);
            }
        }
        other => {
            facts.insert(key.to_owned(), plain_text(other));
        }
    }
}

/// A value that is neither an object nor holds any, on one line: a line break
/// would tear the fingerprint's lines apart.
pub(super) fn plain_text(value: &Value) -> String {
    match value {
        Value::Null => UNKNOWN.to_owned(),
        Value::String(text) => text.replace('\n', " "),
        Value::Array(items) => {
            let texts: Vec<String> = items
                .iter()
                .map(|item| match item {
                    Value::String(text) => text.replace('\n', " "),
                    other => other.to_string(),
                })
                .collect();
            texts.join(",")
        }
        other => other.to_string(),
    }
}
