//! CPU and node numbers, and sets of CPUs of any size.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A logical CPU by the kernel's number.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
)]
pub struct Cpu(pub u32);

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A NUMA node by the kernel's number.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
)]
pub struct NumaNode(pub u32);

impl fmt::Display for NumaNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A sorted set of CPUs. In text and in JSON it has the kernel's list format
/// (`0-3,8`), the one that `taskset -c` and `isolcpus=` take.
#[derive(
    Debug,
    Clone,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct CpuSet(BTreeSet<Cpu>);

/// A CPU list that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CpuSetError {
    /// A part between commas is neither a number nor a range.
    #[error(
        "CPU list `{list}`: `{part}` is neither a CPU number nor a range; \
         write it like `0-3,8`"
    )]
    BadPart {
        /// The whole list.
        list: String,
        /// The part that is wrong.
        part: String,
    },
    /// A range runs downwards.
    #[error(
        "CPU list `{list}`: the range `{part}` ends below its start; \
         write the smaller number first"
    )]
    Backwards {
        /// The whole list.
        list: String,
        /// The part that is wrong.
        part: String,
    },
    /// A number that no kernel uses; a range up to it would fill the memory.
    #[error(
        "CPU list `{list}`: `{part}` goes past CPU {max}, the highest that \
         is supported"
    )]
    TooLarge {
        /// The whole list.
        list: String,
        /// The part that is wrong.
        part: String,
        /// The highest number accepted.
        max: u32,
    },
}

/// The highest CPU number accepted in text. Linux 6.18 can be built for 8,192
/// CPUs (`NR_CPUS_RANGE_END`, arch/x86/Kconfig); this leaves room for 8 times
/// that, while a garbled `0-4294967295` stays an error and not 4 G entries.
const MAX_CPU: u32 = 65_535;

const WORD_BITS: u32 = u64::BITS;

impl CpuSet {
    /// The set without any CPU.
    pub fn new() -> CpuSet {
        CpuSet::default()
    }

    /// The set of one CPU.
    pub fn single(cpu: Cpu) -> CpuSet {
        CpuSet(BTreeSet::from([cpu]))
    }

    /// From a bit mask in 64-bit words, lowest CPUs first.
    pub fn from_words(words: &[u64]) -> CpuSet {
        (0u32..)
            .zip(words)
            .flat_map(|(index, &word)| {
                (0..WORD_BITS)
                    .filter(move |bit| word >> bit & 1 == 1)
                    .map(move |bit| Cpu(index * WORD_BITS + bit))
            })
            .collect()
    }

    /// As a bit mask in 64-bit words, lowest CPUs first; no words when empty.
    pub fn to_words(&self) -> Vec<u64> {
        let Some(last) = self.last() else {
            return Vec::new();
        };
        let mut words = vec![0u64; (last.0 / WORD_BITS) as usize + 1];
        for cpu in self.iter() {
            words[(cpu.0 / WORD_BITS) as usize] |= 1 << (cpu.0 % WORD_BITS);
        }
        words
    }

    /// From the bit mask in the machine's byte order, as
    /// `sched_getaffinity(2)` fills it. A trailing part of a word is ignored.
    pub fn from_bytes(bytes: &[u8]) -> CpuSet {
        let words: Vec<u64> = bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|chunk| u64::from_ne_bytes(*chunk))
            .collect();
        CpuSet::from_words(&words)
    }

    /// As the bit mask in the machine's byte order, whole 64-bit words, as
    /// `sched_setaffinity(2)` takes it.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_words().iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// The lowest CPU.
    pub fn first(&self) -> Option<Cpu> {
        self.0.first().copied()
    }

    /// The highest CPU.
    pub fn last(&self) -> Option<Cpu> {
        self.0.last().copied()
    }

    /// The CPUs in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Cpu> + '_ {
        self.0.iter().copied()
    }

    /// How many CPUs are in the set.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no CPU in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `cpu` is in the set.
    pub fn contains(&self, cpu: Cpu) -> bool {
        self.0.contains(&cpu)
    }

    /// Whether every CPU of this set is in `other`.
    pub fn is_subset(&self, other: &CpuSet) -> bool {
        self.0.is_subset(&other.0)
    }

    /// The CPUs that are in both.
    pub fn intersection(&self, other: &CpuSet) -> CpuSet {
        self.0.intersection(&other.0).copied().collect()
    }

    /// The CPUs of this set that are not in `other`.
    pub fn difference(&self, other: &CpuSet) -> CpuSet {
        self.0.difference(&other.0).copied().collect()
    }

    /// The CPUs that are in either.
    pub fn union(&self, other: &CpuSet) -> CpuSet {
        self.0.union(&other.0).copied().collect()
    }

    /// Adds `cpu`; false when it was there already.
    pub fn insert(&mut self, cpu: Cpu) -> bool {
        self.0.insert(cpu)
    }

    /// Takes `cpu` out; false when it was not there.
    pub fn remove(&mut self, cpu: Cpu) -> bool {
        self.0.remove(&cpu)
    }
}

impl FromIterator<Cpu> for CpuSet {
    fn from_iter<I: IntoIterator<Item = Cpu>>(cpus: I) -> CpuSet {
        CpuSet(cpus.into_iter().collect())
    }
}

impl Extend<Cpu> for CpuSet {
    fn extend<I: IntoIterator<Item = Cpu>>(&mut self, cpus: I) {
        self.0.extend(cpus);
    }
}

impl IntoIterator for CpuSet {
    type Item = Cpu;
    type IntoIter = std::collections::btree_set::IntoIter<Cpu>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a CpuSet {
    type Item = Cpu;
    type IntoIter =
        std::iter::Copied<std::collections::btree_set::Iter<'a, Cpu>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().copied()
    }
}

impl FromStr for CpuSet {
    type Err = CpuSetError;

    fn from_str(list: &str) -> Result<CpuSet, CpuSetError> {
        let mut set = CpuSet::new();
        if list.trim().is_empty() {
            return Ok(set);
        }
        for part in list.split(',') {
            let (low, high) = parse_part(list, part.trim())?;
            set.extend((low..=high).map(Cpu));
        }
        Ok(set)
    }
}

/// One CPU or one range of a list, both ends included.
fn parse_part(list: &str, part: &str) -> Result<(u32, u32), CpuSetError> {
    let list = list.trim();
    let bad = || CpuSetError::BadPart {
        list: list.to_owned(),
        part: part.to_owned(),
    };
    let number = |text: &str| -> Result<u64, CpuSetError> {
        let digits =
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if digits { text.parse().map_err(|_| bad()) } else { Err(bad()) }
    };
    let (low, high) = match part.split_once('-') {
        Some((low, high)) => (number(low)?, number(high)?),
        None => (number(part)?, number(part)?),
    };
    if high < low {
        return Err(CpuSetError::Backwards {
            list: list.to_owned(),
            part: part.to_owned(),
        });
    }
    match (u32::try_from(low), u32::try_from(high)) {
        (Ok(low), Ok(high)) if high <= MAX_CPU => Ok((low, high)),
        _ => Err(CpuSetError::TooLarge {
            list: list.to_owned(),
            part: part.to_owned(),
            max: MAX_CPU,
        }),
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(Cpu(low)) = cpus.next() {
            let mut high = low;
            while cpus.next_if_eq(&Cpu(high + 1)).is_some() {
                high += 1;
            }
            match high - low {
                0 => write!(f, "{separator}{low}")?,
                _ => write!(f, "{separator}{low}-{high}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl From<CpuSet> for String {
    fn from(set: CpuSet) -> String {
        set.to_string()
    }
}

impl TryFrom<String> for CpuSet {
    type Error = CpuSetError;

    fn try_from(list: String) -> Result<CpuSet, CpuSetError> {
        list.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(list: &str) -> CpuSet {
        list.parse().expect("a good list")
    }

    #[test]
    fn lists_go_there_and_back() {
        for list in ["", "0", "0-3", "0-3,8", "1,3,5-6,1535"] {
            assert_eq!(set(list).to_string(), list);
        }
        assert_eq!(set(" 3, 1 ,2\n").to_string(), "1-3");
        assert_eq!(set("0-5,2-3").len(), 6);
    }

    #[test]
    fn an_error_names_the_bad_part() {
        for (list, part) in [
            ("0-3,x", "`x`"),
            ("0,,2", "``"),
            ("7-3", "`7-3`"),
            ("1-2-3", "`1-2-3`"),
            ("+1", "`+1`"),
            ("-1", "`-1`"),
            ("0-4294967295", "`0-4294967295`"),
            ("99999999999999999999", "`99999999999999999999`"),
        ] {
            let error = list.parse::<CpuSet>().expect_err(list).to_string();
            assert!(error.contains(part), "{list}: {error}");
            assert!(error.contains(list), "{list}: {error}");
        }
    }

    #[test]
    fn masks_go_there_and_back_past_1024() {
        let wide = set("0,63-64,1023-1025,1535");
        assert_eq!(CpuSet::from_words(&wide.to_words()), wide);
        assert_eq!(CpuSet::from_bytes(&wide.to_bytes()), wide);
        assert_eq!(wide.to_words().len(), 24);
        assert_eq!(set("0,2").to_words(), [0b101]);
        assert!(CpuSet::new().to_words().is_empty());
        assert_eq!(CpuSet::from_words(&[0, 0]), CpuSet::new());
    }

    #[test]
    fn set_operations() {
        let (a, b) = (set("0-3"), set("2-5"));
        assert_eq!(a.intersection(&b), set("2-3"));
        assert_eq!(a.difference(&b), set("0-1"));
        assert_eq!(a.union(&b), set("0-5"));
        assert_eq!((a.first(), a.last()), (Some(Cpu(0)), Some(Cpu(3))));
        assert!(set("2-3").is_subset(&a) && !b.is_subset(&a));
        let mut c = CpuSet::new();
        assert!(c.insert(Cpu(9)) && !c.insert(Cpu(9)) && c.contains(Cpu(9)));
        assert!(c.remove(Cpu(9)) && c.is_empty());
    }

    #[test]
    fn json_is_the_list() {
        let json = serde_json::to_string(&set("0-3,8")).expect("json");
        assert_eq!(json, "\"0-3,8\"");
        let back: CpuSet = serde_json::from_str(&json).expect("a set");
        assert_eq!(back, set("0-3,8"));
        assert!(serde_json::from_str::<CpuSet>("\"0-x\"").is_err());
    }
}
