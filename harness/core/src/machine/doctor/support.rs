//! What several areas need to read and to tell.

use std::collections::BTreeMap;

use crate::machine::cpu_set::{Cpu, CpuSet};

/// `performance on 0-3, powersave on 4-7`; the value alone if all agree.
pub(super) fn by_value(
    values: impl IntoIterator<Item = (Cpu, String)>,
) -> String {
    let mut groups: BTreeMap<String, CpuSet> = BTreeMap::new();
    for (cpu, value) in values {
        groups.entry(value).or_default().insert(cpu);
    }
    let all: Vec<String> = match groups.len() {
        1 => groups.into_keys().collect(),
        _ => groups
            .iter()
            .map(|(value, cpus)| format!("{value} on {cpus}"))
            .collect(),
    };
    all.join(", ")
}

/// A set of CPUs as a mask of hexadecimal words: `00000000,0000000f`.
pub(super) fn mask(text: &str) -> Option<CpuSet> {
    let mut cpus = CpuSet::new();
    for (index, word) in (0u32..).zip(text.split(',').rev()) {
        let bits = u32::from_str_radix(word.trim(), 16).ok()?;
        let set = (0..32).filter(|bit| bits & (1 << bit) != 0);
        cpus.extend(set.map(|bit| Cpu(index * 32 + bit)));
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_counts_from_its_last_word() {
        let cpus = |text: &str| mask(text).map(|set| set.to_string());
        assert_eq!(cpus("3").as_deref(), Some("0-1"));
        assert_eq!(cpus("00000001,80000000").as_deref(), Some("31-32"));
        assert_eq!(cpus(""), None);
        assert_eq!(cpus("x"), None);
    }
}
