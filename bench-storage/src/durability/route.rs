//! Whether writes went past the page cache, as they were to: by the flags of
//! their descriptors, by what the page cache holds of the target afterwards, and
//! by what the kernel says that this process gave storage to write.

use harness::measure::trial::Evidence;

use super::SHARE_MIN;
use crate::{page_cache, sink::Sink};

/// So much of the target may be in the page cache for reasons of others: a look
/// at a device's partition table, or a file's last page.
const CACHED_BYTES_MIN: f64 = 262_144.0;

/// What was seen of a trial's writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    wanted: bool,
    by_flags: bool,
    /// Bytes that ops wrote.
    bytes: f64,
    /// How many of the target's bytes the page cache held at the end.
    cached_bytes: Option<f64>,
    target_bytes: f64,
    /// What this process made storage write.
    stored_bytes: Option<f64>,
}

impl Route {
    pub(super) fn of(sink: &Sink, stored_bytes: Option<u64>) -> Self {
        let target_bytes = sink.target().bytes as f64;
        Self {
            wanted: sink.wants_direct(),
            by_flags: sink.is_direct(),
            bytes: sink.written() as f64 * sink.load().op_bytes as f64,
            cached_bytes: sink.cached_share().map(|s| s * target_bytes),
            target_bytes,
            stored_bytes: stored_bytes.map(|bytes| bytes as f64),
        }
    }

    /// States it; `reaches_storage` where writes are not meant to stay in the
    /// page cache.
    pub(super) fn state(&self, evidence: &mut Evidence, reaches_storage: bool) {
        let stored = self.stored_bytes.filter(|_| reaches_storage);
        let share = stored.map(|stored| stored / self.bytes.max(1.0));
        let mut reasons = Vec::new();
        if let Some(share) = share {
            let percent = format!("{:.0}", 100.0 * share.min(1.0));
            if share < SHARE_MIN {
                reasons.push(format!(
                    "storage was given only {percent} % of the bytes that were \
                     reported as written"
                ));
            }
            evidence.prove("storage_write_percent", percent);
        }
        if self.wanted {
            reasons.extend(self.fallen_back(evidence));
        }
        let word = match share {
            _ if !self.wanted || !reasons.is_empty() => "no",
            Some(_) => "yes",
            None => "unknown",
        };
        evidence.prove("direct", word);
        evidence.degraded.extend(reasons);
    }

    /// Why writes did not go past the page cache.
    fn fallen_back(&self, evidence: &mut Evidence) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.by_flags {
            reasons.push("the file is open without O_DIRECT".to_owned());
        }
        let Some(cached) = self.cached_bytes else {
            evidence.prove("cached_after_percent", "unknown");
            return reasons;
        };
        let share = page_cache::left_of(self.bytes, self.target_bytes, cached);
        let percent = format!("{:.0}", 100.0 * cached / self.target_bytes);
        evidence.prove("cached_after_percent", percent);
        if share > 1.0 - SHARE_MIN && cached > CACHED_BYTES_MIN {
            reasons.push(format!(
                "writes past the page cache left {:.0} % of what was written \
                 in it: they went through it",
                100.0 * share
            ));
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1_048_576.0;

    /// 10 MiB of a target of 64 that went past the page cache.
    const GOOD: Route = Route {
        wanted: true,
        by_flags: true,
        bytes: 10.0 * MIB,
        cached_bytes: Some(0.0),
        target_bytes: 64.0 * MIB,
        stored_bytes: Some(10.0 * MIB),
    };

    #[test]
    fn each_witness_against_direct_writes_is_heard() {
        for (route, word, reason) in [
            (GOOD, "yes", ""),
            (Route { cached_bytes: None, ..GOOD }, "yes", ""),
            (Route { cached_bytes: Some(4096.0), ..GOOD }, "yes", ""),
            (Route { stored_bytes: None, ..GOOD }, "unknown", ""),
            (Route { by_flags: false, ..GOOD }, "no", "without O_DIRECT"),
            (
                Route { cached_bytes: Some(5.0 * MIB), ..GOOD },
                "no",
                "left 50 % of what was written",
            ),
            (
                Route { stored_bytes: Some(MIB), ..GOOD },
                "no",
                "storage was given only 10 %",
            ),
            (
                Route {
                    wanted: false,
                    by_flags: false,
                    cached_bytes: Some(10.0 * MIB),
                    ..GOOD
                },
                "no",
                "",
            ),
        ] {
            let mut evidence = Evidence::default();
            route.state(&mut evidence, true);
            let found = evidence.path.iter().find(|(key, _)| key == "direct");
            assert_eq!(found.map(|(_, w)| w.as_str()), Some(word), "{route:?}");
            let reasons = evidence.degraded.join("; ");
            assert!(reasons.contains(reason), "{reasons}");
            assert_eq!(reasons.is_empty(), reason.is_empty(), "{reasons}");
        }
    }
}
