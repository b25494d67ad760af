//! Values as a person writes them on the command line or in a file.

use clap::ValueEnum;
use harness::{machine::cpu_set::CpuSet, run::progress::Progress};

/// How progress is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProgressForm {
    /// A bar on a terminal, a line per block elsewhere.
    #[default]
    Auto,
    /// A line per block.
    Plain,
    /// A JSON object per block.
    Json,
    /// Nothing.
    None,
}

impl ProgressForm {
    /// Progress in this form.
    pub fn start(self) -> Progress {
        match self {
            Self::Auto => Progress::default(),
            Self::Plain => Progress::lines(),
            Self::Json => Progress::json(),
            Self::None => Progress::silent(),
        }
    }
}

/// A list that is not empty, which the kernel's format allows.
pub fn some_cpus(text: &str) -> Result<CpuSet, String> {
    let cpus: CpuSet = text.parse().map_err(|e| format!("{e}"))?;
    if cpus.is_empty() {
        return Err("the list is empty; give one such as 1-3,8".to_owned());
    }
    Ok(cpus)
}

/// `eth1,eth2`: two names, as the kernel allows them.
pub fn two_interfaces(text: &str) -> Result<[String; 2], String> {
    // IFNAMSIZ of linux/if.h, less the NUL.
    const LONGEST: usize = 15;
    let names: Vec<&str> = text.split(',').map(str::trim).collect();
    let is_name = |name: &str| {
        !matches!(name, "" | "." | "..")
            && name.len() <= LONGEST
            && !name.contains(|c: char| c == '/' || c.is_whitespace())
    };
    match names[..] {
        [a, b] if a != b && is_name(a) && is_name(b) => {
            Ok([a.to_owned(), b.to_owned()])
        }
        _ => Err("give two interfaces that a wire joins: eth1,eth2".to_owned()),
    }
}

/// `2%` or `0.02`, as a fraction: more than nothing, at most all.
pub fn ratio(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.trim().strip_suffix('%') {
        Some(number) => (number.trim(), 0.01),
        None => (text.trim(), 1.0),
    };
    let value = number
        .parse::<f64>()
        .map_err(|_| format!("`{text}` is not a share such as 2% or 0.02"))?;
    let value = value * scale;
    // 2 without its % is meant as 2 %, and would make everything the same.
    if value > 0.0 && value < 1.0 {
        Ok(value)
    } else {
        Err(format!("{text} is not between 0 and 1; write 2% or 0.02"))
    }
}

/// `500ms`, `2s`, `1m`; a bare number is seconds.
pub fn duration_ns(text: &str) -> Result<u64, String> {
    const LEAST_NS: f64 = 20e6;
    const MOST_NS: f64 = 3_600e9;
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale = match unit.trim() {
        "ms" => 1e6,
        "" | "s" => 1e9,
        "m" | "min" => 60e9,
        _ => return Err(format!("unit `{unit}` is not ms, s or min")),
    };
    let ns = number
        .parse::<f64>()
        .map(|number| number * scale)
        .map_err(|_| format!("`{number}` is not a number"))?;
    if !(LEAST_NS..=MOST_NS).contains(&ns) {
        return Err(format!("{text} is not between 20ms and 60min"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to lie between 20 ms and an hour"
    )]
    Ok(ns.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        assert_eq!(ratio("2%"), Ok(0.02));
        assert_eq!(ratio("0.5 %"), Ok(0.005));
        assert_eq!(ratio("0.02"), Ok(0.02));
        for bad in ["2", "0", "-1%", "100%", "x", "", "nan"] {
            assert!(ratio(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn interfaces() {
        let two = ["eth1".to_owned(), "eth2".to_owned()];
        assert_eq!(two_interfaces("eth1, eth2"), Ok(two));
        for bad in ["eth1", "eth1,eth1", "a,b,c", ",", "..,a", "a/b,c"] {
            assert!(two_interfaces(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration_ns("500ms"), Ok(500_000_000));
        assert_eq!(duration_ns("2s"), Ok(2_000_000_000));
        assert_eq!(duration_ns("1.5"), Ok(1_500_000_000));
        assert_eq!(duration_ns("1min"), Ok(60_000_000_000));
        for bad in ["", "2h", "1ms", "2 days", "-1s", "9999min"] {
            assert!(duration_ns(bad).is_err(), "{bad}");
        }
    }
}
