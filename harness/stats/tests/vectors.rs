//! Each method against NumPy, SciPy or statsmodels.
//!
//! `vectors/make_vectors.py` writes `vectors/vectors.csv`; no number in it
//! comes from this crate. Its samples have no commas, so a split parses it.

use stats::{
    holm, signed_rank, student_t, summary, theil_sen, welch::interval as welch,
};

const VECTORS: &str = include_str!("vectors/vectors.csv");
const HEADER: &str = "method,first,second,parameter,expected";

/// Both sides compute in f64 and the file holds 15 digits.
const CLOSE: f64 = 1e-12;
/// SciPy's own t distribution is off by 3e-11 in places.
const CLOSE_T: f64 = 1e-10;

struct Vector {
    line: usize,
    method: &'static str,
    first: Vec<f64>,
    second: Vec<f64>,
    parameter: Vec<f64>,
    expected: Vec<f64>,
}

impl Vector {
    /// Relative for large numbers, absolute for those below 1.
    fn assert_close(&self, actual: &[f64]) {
        self.assert_within(actual, CLOSE, 1.0);
    }

    fn assert_within(&self, actual: &[f64], tolerance: f64, unit: f64) {
        assert_eq!(
            actual.len(),
            self.expected.len(),
            "line {} ({}): {actual:?}, expected {:?}",
            self.line,
            self.method,
            self.expected
        );
        for (actual, expected) in actual.iter().zip(&self.expected) {
            let scale = expected.abs().max(unit);
            assert!(
                (actual - expected).abs() <= tolerance * scale,
                "line {} ({}): {actual}, expected {expected}",
                self.line,
                self.method
            );
        }
    }
}

/// The vectors of one method, at least `least` of them: a test over an empty
/// list would pass.
fn vectors(method: &str, least: usize) -> Vec<Vector> {
    let mut lines = VECTORS.lines();
    assert_eq!(lines.next(), Some(HEADER));
    let found: Vec<Vector> = lines
        .enumerate()
        .map(|(index, line)| parse(index + 2, line))
        .filter(|vector| vector.method == method)
        .collect();
    assert!(found.len() >= least, "{} vectors of {method}", found.len());
    found
}

fn parse(line: usize, text: &'static str) -> Vector {
    let cells: Vec<&str> = text.split(',').collect();
    let &[method, first, second, parameter, expected] = cells.as_slice() else {
        panic!("line {line} has {} cells, not 5", cells.len());
    };
    let numbers = |cell: &str| -> Vec<f64> {
        cell.split_whitespace()
            .map(|number| number.parse().expect("a number"))
            .collect()
    };
    Vector {
        line,
        method,
        first: numbers(first),
        second: numbers(second),
        parameter: numbers(parameter),
        expected: numbers(expected),
    }
}

#[test]
fn signed_rank_p_values() {
    for vector in vectors("signed_rank_p", 46) {
        let p = signed_rank::p_value(&vector.first).expect("differences");
        vector.assert_within(&[p], CLOSE, 0.0);
    }
}

#[test]
fn signed_rank_intervals() {
    let all = vectors("signed_rank_interval", 80);
    assert!(all.iter().any(|vector| vector.expected.is_empty()));
    for vector in all {
        let confidence = 1.0 - vector.parameter[0];
        let interval = signed_rank::interval(&vector.first, confidence);
        let Some(interval) = interval else {
            vector.assert_close(&[]);
            continue;
        };
        vector.assert_close(&[
            interval.estimate,
            interval.low,
            interval.high,
            interval.level,
        ]);
        assert_eq!(
            signed_rank::hodges_lehmann(&vector.first),
            Some(interval.estimate)
        );
    }
}

#[test]
fn holm_decisions_and_adjusted_p_values() {
    for vector in vectors("holm_adjust", 18) {
        vector.assert_close(&holm::adjust(&vector.first));
    }
    for vector in vectors("holm_rejected", 18) {
        let rejected = holm::rejected(&vector.first, vector.parameter[0]);
        let ones: Vec<f64> = rejected.into_iter().map(f64::from).collect();
        vector.assert_close(&ones);
    }
}

#[test]
fn welch_intervals() {
    for vector in vectors("welch", 15) {
        let actual = welch(&vector.first, &vector.second, vector.parameter[0])
            .expect("two values a side, with spread");
        let interval = actual.interval;
        vector.assert_within(
            &[
                interval.estimate,
                interval.low,
                interval.high,
                actual.degrees_of_freedom,
                actual.p_value,
            ],
            CLOSE_T,
            1e-3,
        );
    }
}

#[test]
fn student_t_tails_and_quantiles() {
    for vector in vectors("t_cdf", 130) {
        let &[t, degrees] = vector.first.as_slice() else { panic!("t, df") };
        let share = student_t::cdf(t, degrees).expect("degrees above 0");
        vector.assert_within(&[share], CLOSE_T, 0.0);
    }
    for vector in vectors("t_quantile", 130) {
        let &[p, degrees] = vector.first.as_slice() else { panic!("p, df") };
        let t = student_t::quantile(p, degrees).expect("p between 0 and 1");
        vector.assert_within(&[t], CLOSE_T, 0.0);
    }
}

#[test]
fn theil_sen_slopes() {
    for vector in vectors("slope", 10) {
        let slope = theil_sen::slope(&vector.first, &vector.second);
        vector.assert_close(&[slope.expect("two different x")]);
    }
}

#[test]
fn summaries() {
    type Summary = fn(&[f64]) -> Option<f64>;
    let summaries: [(&str, Summary); 5] = [
        ("median", summary::median),
        ("mad", summary::median_absolute_deviation),
        ("mean", summary::mean),
        ("sd", summary::standard_deviation),
        ("jain", summary::jain_fairness),
    ];
    for (method, summary) in summaries {
        for vector in vectors(method, 6) {
            vector.assert_close(&[summary(&vector.first).expect("a sample")]);
        }
    }
    for vector in vectors("quantile", 42) {
        let quantile = summary::quantile(&vector.first, vector.parameter[0]);
        vector.assert_close(&[quantile.expect("a sample")]);
    }
}
