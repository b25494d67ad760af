//! Numbers for people: three significant digits and an SI prefix.

use crate::schema::CompareMetric;

/// A number split at its decimal mark, so that a column can be aligned.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Aligned {
    /// Everything before the decimal mark.
    pub left: String,
    /// The decimal mark, what follows it and the unit.
    pub right: String,
}

impl Aligned {
    fn new(number: String, unit: &str) -> Aligned {
        let mark = number.find('.').unwrap_or(number.len());
        let (left, fraction) = number.split_at(mark);
        Aligned { left: left.to_owned(), right: format!("{fraction}{unit}") }
    }
}

/// A figure of a metric, such as `74.1k` or `988 µs`.
pub(super) fn figure(metric: CompareMetric, value: f64) -> Aligned {
    match metric {
        CompareMetric::OpsPerS => plain(value),
        _ => scaled(value, &[" ns", " µs", " ms", " s"]),
    }
}

/// A plain number, such as `0.03` or `8.38k`.
pub(super) fn plain(value: f64) -> Aligned {
    scaled(value, &["", "k", "M", "G", "T"])
}

fn scaled(value: f64, units: &[&str]) -> Aligned {
    let mut scaled = value;
    let mut units = units.iter().peekable();
    loop {
        // Rounding first: 999.6 is 1.00 of the next unit, not 1000.
        let number = significant(scaled);
        let unit = units.next().copied().unwrap_or("");
        if scaled < 999.5 || units.peek().is_none() {
            return Aligned::new(number, unit);
        }
        scaled /= 1000.0;
    }
}

/// Three significant digits; more only before the decimal mark.
fn significant(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// A fraction as percent, two digits or so: `0.04 %`, `1.1 %`, `12 %`.
pub(super) fn percent(fraction: f64) -> String {
    let percent = fraction * 100.0;
    let decimals = match percent.abs() {
        v if v >= 9.95 => 0,
        v if v >= 0.095 || v == 0.0 => 1,
        _ => 2,
    };
    format!("{percent:.decimals$} %")
}

/// A ratio with its interval, such as `1.17× [1.15, 1.20]`; narrow intervals
/// get the digits that they need.
pub(super) fn ratio(ratio: f64, interval: Option<(f64, f64)>) -> String {
    let Some((low, high)) = interval else {
        return format!("{}×", significant(ratio));
    };
    let width = high - low;
    let decimals = match ratio {
        r if r >= 99.95 => 0,
        r if r >= 9.995 => 1,
        _ if width >= 0.02 => 2,
        _ => 3,
    };
    format!("{ratio:.decimals$}× [{low:.decimals$}, {high:.decimals$}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops(value: f64) -> String {
        let aligned = figure(CompareMetric::OpsPerS, value);
        aligned.left + &aligned.right
    }

    fn time(value: f64) -> String {
        let aligned = figure(CompareMetric::LatencyP99Ns, value);
        aligned.left + &aligned.right
    }

    #[test]
    fn numbers_have_three_digits_and_the_right_prefix() {
        assert_eq!(ops(0.5), "0.50");
        assert_eq!(ops(74_132.0), "74.1k");
        assert_eq!(ops(999.4), "999");
        assert_eq!(ops(999.6), "1.00k");
        assert_eq!(ops(99_960.0), "100k");
        assert_eq!(ops(123_456_789.0), "123M");
        assert_eq!(ops(2.5e15), "2500T");
        assert_eq!(time(7.9), "7.90 ns");
        assert_eq!(time(988_000.0), "988 µs");
        assert_eq!(time(1_100_000.0), "1.10 ms");
        assert_eq!(time(3.6e12), "3600 s");
    }

    #[test]
    fn numbers_split_at_the_decimal_mark() {
        let aligned = figure(CompareMetric::CpuPerOpNs, 24_000.0);
        assert_eq!(aligned.left, "24");
        assert_eq!(aligned.right, ".0 µs");
        let aligned = figure(CompareMetric::CpuPerOpNs, 240_000.0);
        assert_eq!(aligned.left, "240");
        assert_eq!(aligned.right, " µs");
    }

    #[test]
    fn percents_and_ratios_have_the_digits_they_need() {
        assert_eq!(percent(0.0), "0.0 %");
        assert_eq!(percent(0.0004), "0.04 %");
        assert_eq!(percent(0.011), "1.1 %");
        assert_eq!(percent(0.123), "12 %");
        assert_eq!(ratio(1.171, Some((1.149, 1.204))), "1.17× [1.15, 1.20]");
        assert_eq!(
            ratio(1.003, Some((0.998, 1.0061))),
            "1.003× [0.998, 1.006]"
        );
        assert_eq!(ratio(12.34, Some((11.0, 13.0))), "12.3× [11.0, 13.0]");
        assert_eq!(ratio(250.4, None), "250×");
    }
}
