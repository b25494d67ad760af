//! Whether commands that were passed through went past page cache and block
//! layer: seen, and not taken from the variant's name.
//!
//! A character device has no page cache. What goes through the block layer is
//! counted in `/sys/block/X/stat`, and commands that are passed through are not
//! (unless `queue/iostats_passthrough` is on, and then nothing can be told). So
//! data that came from the device, or is found there afterwards, and of which
//! the block layer has counted nothing, was moved by the commands.

use std::os::unix::fs::FileTypeExt;

use harness::{
    machine::Root,
    measure::trial::{Evidence, Outcome},
};

use crate::{
    device_counters::{Counts, Seen, counts, seen},
    nvme::Namespace,
    target::Target,
};

/// Above this share of the bytes in the block layer's count, somebody used it:
/// this process, or another, and nothing can be told.
const COUNTED_PERCENT_MAX: f64 = 5.0;

/// Which way data went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the device.
    Read,
    /// To the device.
    Write,
}

/// The block layer's counts before a trial.
#[derive(Debug)]
pub struct PassedThrough<'a> {
    root: &'a Root,
    target: &'a Target,
    before: Vec<Counts>,
}

impl<'a> PassedThrough<'a> {
    /// The first look.
    pub fn begin(root: &'a Root, target: &'a Target) -> Self {
        let before = counts(root, target.device.as_ref());
        Self { root, target, before }
    }

    /// The second look, at a trial that has ended, and what follows.
    pub fn judge(
        self,
        outcome: &mut Outcome,
        namespace: &Namespace,
        way: Way,
        op_bytes: usize,
    ) {
        let after = counts(self.root, self.target.device.as_ref());
        let seen = seen(&self.before, &after);
        let ops = outcome.evidence.calls.map_or(0, |calls| calls.ops);
        let bytes = ops as f64 * op_bytes as f64;
        let is_character_device = namespace
            .file
            .metadata()
            .is_ok_and(|metadata| metadata.file_type().is_char_device());
        let percent = counted_percent(way, seen, bytes);
        state(&mut outcome.evidence, way, is_character_device, percent);
    }
}

/// Which part of so many bytes the block layer counted.
fn counted_percent(way: Way, seen: Seen, bytes: f64) -> Option<f64> {
    let counted = match way {
        Way::Read => seen.bytes_read,
        Way::Write => seen.bytes_written,
    };
    counted.filter(|_| bytes > 0.0).map(|counted| 100.0 * counted / bytes)
}

fn state(
    evidence: &mut Evidence,
    way: Way,
    is_character_device: bool,
    percent: Option<f64>,
) {
    let command = match way {
        Way::Read => "nvme read",
        Way::Write => "nvme write",
    };
    let word = if is_character_device { "yes" } else { "unknown" };
    evidence.prove("direct", word);
    if let Some(percent) = percent {
        evidence.prove("block_layer_percent", format!("{percent:.0}"));
    }
    let is_past = percent.is_some_and(|all| all <= COUNTED_PERCENT_MAX);
    let is_proven = is_character_device && is_past;
    evidence.prove("command", if is_proven { command } else { "unknown" });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(way: Way, node: bool, percent: Option<f64>) -> String {
        let mut evidence = Evidence::default();
        state(&mut evidence, way, node, percent);
        assert_eq!(evidence.degraded, [""; 0]);
        let words =
            evidence.path.iter().map(|(key, word)| format!("{key}={word}"));
        words.collect::<Vec<_>>().join(";")
    }

    #[test]
    fn a_command_is_stated_where_the_block_layer_saw_nothing() {
        assert_eq!(
            path(Way::Read, true, Some(0.2)),
            "direct=yes;block_layer_percent=0;command=nvme read"
        );
        assert_eq!(
            path(Way::Write, true, Some(0.0)),
            "direct=yes;block_layer_percent=0;command=nvme write"
        );
    }

    #[test]
    fn what_nobody_saw_is_unknown() {
        for (node, percent) in
            [(true, None), (true, Some(100.0)), (false, Some(0.0))]
        {
            let path = path(Way::Read, node, percent);
            assert!(path.ends_with("command=unknown"), "{path}");
            assert_eq!(path.contains("direct=yes"), node, "{path}");
        }
    }

    #[test]
    fn reads_and_writes_are_counted_apart() {
        let seen = Seen {
            bytes_read: Some(10.0),
            bytes_written: Some(40.0),
            ..Seen::default()
        };
        assert_eq!(counted_percent(Way::Read, seen, 100.0), Some(10.0));
        assert_eq!(counted_percent(Way::Write, seen, 100.0), Some(40.0));
        assert_eq!(counted_percent(Way::Read, seen, 0.0), None);
        assert_eq!(counted_percent(Way::Read, Seen::default(), 9.0), None);
    }
}
