//! What two runs worked on: the facts that suites stored of their targets. A
//! swap of a device is about these, so that they are told before all others.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Difference;
use super::compare::plain_text;

/// How a fact is written that only the other side has.
const NOT_TOLD: &str = "not told";

/// What differs between two targets of one make, or of one target an hour
/// apart: names that the kernel gave, places, counters, temperatures.
const PASSING: [&str; 17] = [
    "backing_file",
    "blocks_allocated",
    "critical_minutes",
    "data_read_bytes",
    "data_written_bytes",
    "extents",
    "hot_minutes",
    "label",
    "lacks",
    "name",
    "number",
    "partition",
    "power_on_hours",
    "read_commands",
    "temperature_c",
    "unsafe_shutdowns",
    "write_commands",
];

/// What is asked first of a device that was put in place of another, in this
/// order; the rest follows by name.
const FIRST: [&str; 14] = [
    "kind",
    "model",
    "firmware",
    "size_bytes",
    "pci",
    "lba_bytes",
    "metadata_bytes",
    "scheduler",
    "filesystem",
    "mount_options",
    "worn_percent",
    "spare_percent",
    "media_errors",
    "critical_warning",
];

/// What differs, under `target.SUITE.`, without what changes by itself. A
/// suite may tell of several places (one that it reads, one that it writes);
/// what differs alike in several of them is told once.
pub(super) fn differences(
    before: &[(&str, &Value)],
    after: &[(&str, &Value)],
) -> Vec<Difference> {
    let (before, after) = (facts(before), facts(after));
    let value = |side: &Facts, key: &Key| {
        side.get(key).cloned().unwrap_or_else(|| NOT_TOLD.to_owned())
    };
    let mut keys: Vec<&Key> = before.keys().chain(after.keys()).collect();
    keys.sort_by_key(|key| (rank(key), *key));
    keys.dedup();
    let mut told: Vec<(&[String], Difference)> = Vec::new();
    for key in keys {
        let difference = Difference {
            key: format!("target.{}", key.join(".")),
            before: value(&before, key),
            after: value(&after, key),
        };
        // Past the suite and the place.
        let fact = key.get(2..).unwrap_or_default();
        let again = told.iter().any(|(known, other)| {
            !fact.is_empty()
                && *known == fact
                && other.before == difference.before
                && other.after == difference.after
        });
        if difference.before != difference.after && !again {
            told.push((fact, difference));
        }
    }
    told.into_iter().map(|(_, difference)| difference).collect()
}

type Key = Vec<String>;
type Facts = BTreeMap<Key, String>;

fn rank(key: &Key) -> usize {
    FIRST
        .iter()
        .position(|first| key.iter().any(|part| part == first))
        .unwrap_or(FIRST.len())
}

fn facts(targets: &[(&str, &Value)]) -> Facts {
    let mut facts = Facts::new();
    for (suite, value) in targets {
        flatten(&mut vec![(*suite).to_owned()], value, &mut facts);
    }
    facts
}

fn flatten(key: &mut Key, value: &Value, facts: &mut Facts) {
    match value {
        Value::Object(fields) => {
            let lasting =
                fields.iter().filter(|(name, value)| !is_passing(name, value));
            for (name, value) in lasting {
                key.push(name.clone());
                flatten(key, value, facts);
                key.pop();
            }
        }
        // By place, for names are the kernel's. The first has no number, so
        // that one device against two shows under one key.
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    key.push((index + 1).to_string());
                }
                flatten(key, item, facts);
                if index > 0 {
                    key.pop();
                }
            }
        }
        Value::Null => {}
        Value::Array(items) if items.is_empty() => {}
        other => {
            facts.insert(key.clone(), plain_text(other));
        }
    }
}

/// `device` is an object with facts in one place, and a name in another.
fn is_passing(name: &str, value: &Value) -> bool {
    PASSING.contains(&name) || (name == "device" && value.is_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn drive(name: &str, model: &str, worn: u8, hours: u64) -> Value {
        let device = json!({
            "name": name, "number": {"major": 259, "minor": hours},
            "kind": "nvme", "model": model, "firmware": "1B2QEXM7",
            "scheduler": "none", "built_on": [],
            "pci": {"current_width": 4, "max_width": 4},
        });
        let place = json!({
            "label": format!("/dev/{name} 1 TiB"), "bytes": 1_u64 << 40,
            "device": device, "extents": {"count": hours},
            "filesystem": null, "mount_options": [],
            "nvme": [{
                "device": name, "lacks": [],
                "namespace": {"lba_bytes": 512, "blocks_allocated": hours},
                "health": {
                    "temperature_c": 30 + hours, "worn_percent": worn,
                    "power_on_hours": hours, "data_written_bytes": hours,
                },
            }],
        });
        json!({"read": place, "written": place})
    }

    fn told(before: &Value, after: &Value) -> Vec<String> {
        differences(&[("storage", before)], &[("storage", after)])
            .into_iter()
            .map(|d| format!("{}: {} -> {}", d.key, d.before, d.after))
            .collect()
    }

    #[test]
    fn one_drive_under_two_names_an_hour_later_is_the_same() {
        let before = drive("nvme0n1", "Fast SSD", 3, 1);
        let after = drive("nvme1n1", "Fast SSD", 3, 2);
        assert_eq!(told(&before, &after), [""; 0]);
    }

    #[test]
    fn what_a_swap_changed_is_told_once_and_in_order() {
        let before = drive("nvme0n1", "Fast SSD", 3, 1);
        let mut after = drive("nvme1n1", "Faster SSD", 0, 9);
        for place in ["read", "written"] {
            after[place]["device"]["pci"]["current_width"] = 2.into();
            after[place]["nvme"][0]["namespace"]["lba_bytes"] = 4096.into();
            after[place]["bytes"] = 7.into();
        }
        after["written"]["device"]["scheduler"] = "kyber".into();
        assert_eq!(
            told(&before, &after),
            [
                "target.storage.read.device.model: Fast SSD -> Faster SSD",
                "target.storage.read.device.pci.current_width: 4 -> 2",
                "target.storage.read.nvme.namespace.lba_bytes: 512 -> 4096",
                "target.storage.written.device.scheduler: none -> kyber",
                "target.storage.read.nvme.health.worn_percent: 3 -> 0",
                "target.storage.read.bytes: 1099511627776 -> 7",
            ]
        );
    }

    #[test]
    fn a_file_against_a_device_and_one_drive_against_two() {
        let before = drive("nvme0n1", "Fast SSD", 3, 1);
        let mut after = before.clone();
        let second = before["read"]["nvme"][0].clone();
        after["written"] = Value::Null;
        after["read"]["nvme"] =
            json!([second, {"health": {"media_errors": 4}}]);
        after["read"]["filesystem"] = "xfs".into();
        after["read"]["mount_options"] = json!(["rw", "noatime"]);
        let lines = told(&before, &after);
        assert!(lines.iter().any(|line| line
            == "target.storage.read.mount_options: not told -> rw,noatime"));
        assert!(lines.iter().any(|line| line
            == "target.storage.read.nvme.2.health.media_errors: \
                not told -> 4"));
        assert!(lines[0].contains("written.device.kind: nvme -> not told"));
    }
}
