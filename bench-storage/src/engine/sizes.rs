//! Whether commands that were passed through came back as large completions
//! among small ones: seen in the queue, and not taken from the setup flags.

use harness::measure::trial::Evidence;

use super::ring::Sizes;

/// States how large the completions of a mixed ring were. A command that is
/// refused before it is sent gets a small one.
pub fn judge(sizes: Sizes, evidence: &mut Evidence) {
    let Sizes { small, large } = sizes;
    let word = match (small, large) {
        (0, 0) => "unknown",
        (0, _) => "32 bytes in a mixed ring",
        (_, 0) => "16 bytes in a mixed ring",
        _ => "16 and 32 bytes in a mixed ring",
    };
    evidence.prove("cqe", word);
    if small > 0 {
        evidence.degraded.push(format!(
            "{small} of {} completions had 16 bytes, where commands that are \
             passed through get 32",
            small + large
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_completions_are_as_they_should_be() {
        for (small, large, cqe, degraded) in [
            (0, 9, "32 bytes in a mixed ring", 0),
            (9, 0, "16 bytes in a mixed ring", 1),
            (1, 8, "16 and 32 bytes in a mixed ring", 1),
            (0, 0, "unknown", 0),
        ] {
            let mut evidence = Evidence::default();
            judge(Sizes { small, large }, &mut evidence);
            let path = [("cqe".to_owned(), cqe.to_owned())];
            assert_eq!(evidence.path, path);
            assert_eq!(evidence.degraded.len(), degraded, "{evidence:?}");
        }
    }
}
