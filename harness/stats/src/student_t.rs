//! Student's t distribution, for [`crate::welch`].
//!
//! The tail is half of a regularised incomplete beta function,
//! `P(T > t) = I_x(v/2, 1/2) / 2` with `x = v / (v + t^2)`, which is evaluated
//! as a continued fraction (DLMF 8.17.22) by Lentz's method. Relative accuracy
//! is better than 1e-10 for 0.5 to 1e6 degrees of freedom; the tests compare it
//! with another implementation. Degrees of freedom need not be whole.

use std::f64::consts::PI;

/// `P(T <= t)` with `degrees` of freedom. `None` if `degrees` is not a
/// positive number or `t` is NaN.
pub fn cdf(t: f64, degrees: f64) -> Option<f64> {
    let tail = upper_tail(t.abs(), degrees)?;
    Some(if t > 0.0 { 1.0 - tail } else { tail })
}

/// The t with `P(T <= t) = p`. `None` unless `0 < p < 1` and `degrees` is a
/// positive number.
pub fn quantile(p: f64, degrees: f64) -> Option<f64> {
    if p > 0.5 {
        upper_quantile(1.0 - p, degrees)
    } else {
        upper_quantile(p, degrees).map(|t| 0.0 - t)
    }
}

/// `P(T > t)` for `t >= 0`. Kept apart from [`cdf`], since 1 minus a small
/// tail would lose the tail.
pub(crate) fn upper_tail(t: f64, degrees: f64) -> Option<f64> {
    if !(degrees.is_finite() && degrees > 0.0 && t >= 0.0) {
        return None;
    }
    // Both x and 1 - x without cancellation, at either end.
    let ratio = t * t / degrees;
    let x = 1.0 / (1.0 + ratio);
    let rest = ratio / (1.0 + ratio);
    // An infinite t gives inf / inf; a tiny one 0 / 1.
    if rest.is_nan() || x == 0.0 {
        return Some(0.0);
    }
    if rest == 0.0 {
        return Some(0.5);
    }
    let a = degrees / 2.0;
    let b = 0.5;
    // x^a (1-x)^b / B(a, b); ln x = -ln(1 + ratio).
    let front = (-a * ratio.ln_1p()).exp() * rest.sqrt() / beta_half(a);
    // The fraction converges fast on one side of this point only; the other
    // side uses I_x(a, b) = 1 - I_(1-x)(b, a).
    let whole = if x < (a + 1.0) / (a + b + 2.0) {
        front * continued_fraction(a, b, x) / a
    } else {
        1.0 - front * continued_fraction(b, a, rest) / b
    };
    Some(0.5 * whole)
}

/// The `t >= 0` with `P(T > t) = tail`, for `0 < tail <= 1/2`.
pub(crate) fn upper_quantile(tail: f64, degrees: f64) -> Option<f64> {
    if !(tail > 0.0 && tail <= 0.5) {
        return None;
    }
    if tail == 0.5 {
        return upper_tail(0.0, degrees).map(|_| 0.0);
    }
    // Bracket by doubling or halving, then bisect until no f64 lies between.
    // Newton would be quicker, but this cannot fail, and the harness asks for
    // a handful of quantiles per table.
    let mut low = 1.0;
    while upper_tail(low, degrees)? < tail && low > f64::MIN_POSITIVE {
        low /= 2.0;
    }
    while upper_tail(2.0 * low, degrees)? > tail && low < f64::MAX / 4.0 {
        low *= 2.0;
    }
    let mut high = 2.0 * low;
    loop {
        let middle = low.midpoint(high);
        if middle <= low || middle >= high {
            return Some(middle);
        }
        if upper_tail(middle, degrees)? > tail {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// `B(a, 1/2) = sqrt(pi) Gamma(a) / Gamma(a + 1/2)`.
///
/// The difference of two log-gammas would cancel at many degrees of freedom.
/// The ratio has a series of its own in 1/a (DLMF 5.11.13), good to 1e-16 from
/// a = 30 on, and below that the recurrence of gamma leads there.
fn beta_half(a: f64) -> f64 {
    let mut shifted = a;
    let mut factor = 1.0;
    while shifted < 30.0 {
        factor *= shifted / (shifted + 0.5);
        shifted += 1.0;
    }
    // Gamma(a + 1/2) / Gamma(a) = sqrt(a) (1 - 1/(8a) + 1/(128a^2) + ...)
    let r = 1.0 / shifted;
    let series = 1.0
        + r * (-1.0 / 8.0
            + r * (1.0 / 128.0
                + r * (5.0 / 1024.0
                    + r * (-21.0 / 32768.0
                        + r * (-399.0 / 262_144.0
                            + r * (869.0 / 4_194_304.0
                                + r * (39_325.0 / 33_554_432.0)))))));
    PI.sqrt() / (factor * shifted.sqrt() * series)
}

/// The continued fraction of the incomplete beta function, by Lentz's method
/// as modified by Thompson and Barnett.
fn continued_fraction(a: f64, b: f64, x: f64) -> f64 {
    // Stands in for a 0 that would be divided by.
    const TINY: f64 = 1e-300;
    // About sqrt(max(a, b)) terms are needed on the side that is used.
    const TERMS: u32 = 100_000;
    let nonzero = |value: f64| if value.abs() < TINY { TINY } else { value };

    let mut c = 1.0;
    let mut d = 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0));
    let mut result = d;
    for term in 1..TERMS {
        let m = f64::from(term);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / nonzero(1.0 + even * d);
        c = nonzero(1.0 + even / c);
        result *= d * c;
        let odd =
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / nonzero(1.0 + odd * d);
        c = nonzero(1.0 + odd / c);
        result *= d * c;
        if (d * c - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closed_forms_of_one_and_two_degrees() {
        for t in [-50.0, -3.0, -0.2, 0.0, 0.4, 1.0, 12.0_f64] {
            let cauchy = 0.5 + t.atan() / PI;
            let two = 0.5 + t / (2.0 * (2.0 + t * t).sqrt());
            let one = cdf(t, 1.0).expect("one degree");
            assert!((one - cauchy).abs() < 1e-14, "{t}: {one}, {cauchy}");
            let actual = cdf(t, 2.0).expect("two degrees");
            assert!((actual - two).abs() < 1e-14, "{t}: {actual}, {two}");
        }
    }

    #[test]
    fn quantile_and_tail_undo_each_other() {
        for degrees in [0.5, 1.0, 3.7, 22.0, 800.0] {
            for p in [1e-12, 1e-3, 0.1, 0.4999, 0.5, 0.6, 0.99] {
                let t = quantile(p, degrees).expect("p between 0 and 1");
                let back = cdf(t, degrees).expect("finite");
                assert!((back / p - 1.0).abs() < 1e-12, "{p}: {t}, {back}");
            }
        }
    }

    #[test]
    fn ends_and_nonsense() {
        assert_eq!(cdf(f64::INFINITY, 3.0), Some(1.0));
        assert_eq!(cdf(f64::NEG_INFINITY, 3.0), Some(0.0));
        assert_eq!(cdf(1e200, 3.0), Some(1.0));
        assert_eq!(cdf(1e-200, 3.0), Some(0.5));
        assert_eq!(cdf(f64::NAN, 3.0), None);
        for degrees in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(cdf(1.0, degrees), None);
            assert_eq!(quantile(0.9, degrees), None);
            assert_eq!(quantile(0.5, degrees), None);
        }
        for p in [0.0, 1.0, -0.1, f64::NAN] {
            assert_eq!(quantile(p, 3.0), None);
        }
        assert_eq!(quantile(0.5, 3.0), Some(0.0));
    }
}
