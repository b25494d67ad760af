//! The rows: Welch over sessions, Holm over a family, verdict.

use serde::Serialize;
use stats::summary::mean;
use stats::welch::{self, WelchInterval};
use stats::{equivalence, holm, power, verdict};

use super::side::{self, ExperimentSide, VariantSide, bar, bar_on};
use crate::compare::gather::ExperimentId;
use crate::compare::word;
use crate::schema::{Better, CompareMetric, Role, Steady, Verdict};

/// Sessions a side that a verdict needs. With two or three the interval of a
/// difference is 4.3 or 2.3 standard deviations wide to each side (Student's t
/// with 2 and 4 degrees of freedom), and a spread estimated from so few is
/// itself hardly known; with four it is 1.7.
pub const SESSIONS_NEEDED: usize = 4;

/// What a row compares.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The variant's figure itself.
    Figure,
    /// Its ratio to its own baseline in the same blocks: what moves the whole
    /// machine moves both and cancels out.
    Ratio,
}

/// One variant on one metric: the second side against the first.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct AcrossRow {
    /// `storage`, `net` or `ipc`.
    pub suite: String,
    /// The experiment's id within its suite.
    pub experiment: String,
    /// Its parameters.
    pub params: String,
    /// The metric.
    pub metric: CompareMetric,
    /// In which direction it is better.
    pub better: Better,
    /// The variant.
    pub variant: String,
    /// `baseline` or `contender`.
    pub role: Role,
    /// What is compared.
    pub measure: Measure,
    /// What its ratio is to, on both sides.
    pub baseline: String,
    /// Sessions of the first side.
    pub sessions_a: usize,
    /// Sessions of the second side.
    pub sessions_b: usize,
    /// Geometric mean over the sessions of the first side.
    pub a: Option<f64>,
    /// Geometric mean over the sessions of the second side.
    pub b: Option<f64>,
    /// Second side / first side.
    pub ratio: Option<f64>,
    /// Low end of its 95 % interval, not adjusted for several rows.
    pub ratio_low: Option<f64>,
    /// High end of its 95 % interval, not adjusted for several rows.
    pub ratio_high: Option<f64>,
    /// Low end of the interval at the row's Holm-adjusted level.
    pub adjusted_low: Option<f64>,
    /// High end of the interval at the row's Holm-adjusted level.
    pub adjusted_high: Option<f64>,
    /// Confidence of that interval.
    pub adjusted_level: Option<f64>,
    /// Welch's two-sided p-value.
    pub p_value: Option<f64>,
    /// The p-value adjusted by Holm over the row's family.
    pub p_holm: Option<f64>,
    /// Welch and Satterthwaite's degrees of freedom.
    pub degrees_of_freedom: Option<f64>,
    /// 1.43 half-widths of the 95 % interval of the log ratio.
    pub minimum_detectable_effect: Option<f64>,
    /// Sessions a side that would probably decide an `undecided` row.
    pub sessions_needed: Option<usize>,
    /// The verdict; none where the two cannot be compared.
    pub verdict: Option<Verdict>,
    /// Why it is undecided without a test.
    pub reason: String,
    /// Whether both sides' sessions are in steady state on throughput, where
    /// what is written to has a history. The verdict stands for the state that
    /// they were in.
    pub steady: Option<Steady>,
}

impl AcrossRow {
    /// Whether both sides have the sessions that a verdict needs.
    pub fn has_enough_sessions(&self) -> bool {
        self.sessions_a.min(self.sessions_b) >= SESSIONS_NEEDED
    }
}

/// What verdicts depend on beside the sessions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub confidence: f64,
    pub practical: f64,
}

/// A row before its family is known.
struct Draft<'a> {
    row: AcrossRow,
    a: &'a [f64],
    b: &'a [f64],
    welch: Option<WelchInterval>,
}

/// The rows of one experiment, all its metrics and both measures one family. A
/// family for each metric, as within a run, claimed something in 5 of 20 pairs
/// of runs of one build, one for each measure in 4: metrics move together, and
/// two runs have no A/A twin to warn.
pub(super) fn rows(
    id: &ExperimentId,
    (a, b): (&ExperimentSide, &ExperimentSide),
    rules: Rules,
) -> Vec<AcrossRow> {
    let mut family = Vec::new();
    for measure in [Measure::Figure, Measure::Ratio] {
        for metric in CompareMetric::ALL {
            let fit = pairs(a, b, measure)
                .into_iter()
                .filter(|(a, b)| bar_on(a, b, metric).is_none());
            family.extend(fit.filter_map(|(of_a, of_b)| {
                let blank = blank(id, of_a, &a.baseline, metric, measure);
                draft(blank, of_a, of_b, rules)
            }));
        }
    }
    decide(&mut family, rules);
    family.into_iter().map(|draft| draft.row).collect()
}

/// The variants of both sides that may be compared, the baseline first.
fn pairs<'a>(
    a: &'a ExperimentSide,
    b: &'a ExperimentSide,
    measure: Measure,
) -> Vec<(&'a VariantSide, &'a VariantSide)> {
    let mut pairs: Vec<_> = a
        .variants
        .iter()
        .filter_map(|of_a| Some((of_a, b.variant(of_a)?)))
        .filter(|(a, b)| bar(a, b).is_none())
        .collect();
    pairs.sort_by_key(|(a, _)| a.role != Role::Baseline);
    if measure == Measure::Figure {
        return pairs;
    }
    // Ratios to a baseline that may not be compared say nothing.
    let baseline =
        |p: &&(&VariantSide, &VariantSide)| p.0.role == Role::Baseline;
    if !pairs.iter().any(|pair| baseline(&pair)) {
        return Vec::new();
    }
    pairs.into_iter().filter(|pair| !baseline(&pair)).collect()
}

fn blank(
    [suite, experiment, params]: &ExperimentId,
    variant: &VariantSide,
    baseline: &str,
    metric: CompareMetric,
    measure: Measure,
) -> AcrossRow {
    AcrossRow {
        suite: suite.clone(),
        experiment: experiment.clone(),
        params: params.clone(),
        metric,
        better: metric.better(),
        variant: variant.name.clone(),
        role: variant.role,
        measure,
        baseline: baseline.to_owned(),
        sessions_a: 0,
        sessions_b: 0,
        a: None,
        b: None,
        ratio: None,
        ratio_low: None,
        ratio_high: None,
        adjusted_low: None,
        adjusted_high: None,
        adjusted_level: None,
        p_value: None,
        p_holm: None,
        degrees_of_freedom: None,
        minimum_detectable_effect: None,
        sessions_needed: None,
        verdict: Some(Verdict::Undecided),
        reason: String::new(),
        steady: None,
    }
}

fn draft<'a>(
    mut row: AcrossRow,
    a: &'a VariantSide,
    b: &'a VariantSide,
    rules: Rules,
) -> Option<Draft<'a>> {
    let at = row.metric as usize;
    let steady = side::steady(a, b);
    let (a, b) = match row.measure {
        Measure::Figure => (&a.figures[at], &b.figures[at]),
        Measure::Ratio => (&a.ratios[at], &b.ratios[at]),
    };
    // A metric that one side never measured is no row.
    let (mean_a, mean_b) = (mean(a)?, mean(b)?);
    row.steady = steady;
    row.sessions_a = a.len();
    row.sessions_b = b.len();
    row.a = Some(mean_a.exp());
    row.b = Some(mean_b.exp());
    row.ratio = Some((mean_b - mean_a).exp());
    if !row.has_enough_sessions() {
        row.reason = too_few(a.len(), b.len());
        return Some(Draft { row, a, b, welch: None });
    }
    let welch = welch::interval(a, b, rules.confidence);
    match &welch {
        None => {
            row.reason = "the sessions of each side are all equal, so there \
                          is no spread to judge by; a longer --window has \
                          finer figures"
                .to_owned();
        }
        Some(found) => {
            let effect =
                power::minimum_detectable_effect(found.interval.half_width());
            row.ratio_low = Some(found.interval.low.exp());
            row.ratio_high = Some(found.interval.high.exp());
            row.p_value = Some(found.p_value);
            row.degrees_of_freedom = Some(found.degrees_of_freedom);
            row.minimum_detectable_effect = Some(effect.exp_m1());
        }
    }
    Some(Draft { row, a, b, welch })
}

fn too_few(a: usize, b: usize) -> String {
    match (a, b) {
        (1, 1) => "one session a side".to_owned(),
        (a, b) if a == b => format!("{a} sessions a side"),
        (a, b) => format!("{a} and {b} sessions"),
    }
}

/// Holm over the rows that have a test, and their verdicts. Rows without one
/// lack sessions or spread, which is no matter of their figures' size.
fn decide(family: &mut [Draft<'_>], rules: Rules) {
    let mut tested: Vec<&mut Draft<'_>> =
        family.iter_mut().filter(|draft| draft.welch.is_some()).collect();
    let p: Vec<f64> = tested
        .iter()
        .map(|draft| draft.row.p_value.unwrap_or(f64::NAN))
        .collect();
    let adjusted = holm::adjust(&p);
    let levels = holm::levels(&p, 1.0 - rules.confidence);
    for ((draft, p_holm), level) in tested.iter_mut().zip(adjusted).zip(levels)
    {
        draft.row.p_holm = Some(p_holm);
        draft.decide(level, rules.practical);
    }
}

impl Draft<'_> {
    fn decide(&mut self, level: f64, practical: f64) {
        let at = |level| {
            welch::interval(self.a, self.b, level).map(|found| found.interval)
        };
        let claim = at(level);
        if let Some(claim) = claim {
            self.row.adjusted_low = Some(claim.low.exp());
            self.row.adjusted_high = Some(claim.high.exp());
            self.row.adjusted_level = Some(claim.level);
        }
        // Turned round where less is better: positive is faster.
        let better = self.row.better;
        let oriented = |interval: Option<stats::Interval>| match better {
            Better::Lower => interval.map(|i| stats::Interval {
                estimate: -i.estimate,
                low: -i.high,
                high: -i.low,
                level: i.level,
            }),
            Better::Higher | Better::None => interval,
        };
        let decided = verdict::from_intervals(
            oriented(claim).as_ref(),
            oriented(at(equivalence::LEVEL)).as_ref(),
            practical,
        );
        self.row.verdict = Some(word(decided));
        if decided == verdict::Verdict::Undecided {
            self.row.sessions_needed = self.sessions_needed(practical);
        }
    }

    fn sessions_needed(&self, practical: f64) -> Option<usize> {
        let found = self.welch.as_ref()?;
        power::blocks_needed(
            self.a.len().min(self.b.len()),
            found.interval.estimate,
            found.interval.half_width(),
            verdict::margin(practical),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { confidence: 0.95, practical: 0.02 };

    /// SplitMix64, and sums of uniform numbers for the normal distribution.
    struct Random(u64);

    impl Random {
        fn uniform(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        }

        fn normal(&mut self) -> f64 {
            (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
        }

        /// Log means of sessions about `center`.
        fn sessions(&mut self, n: usize, center: f64, sd: f64) -> Vec<f64> {
            (0..n).map(|_| center + sd * self.normal()).collect()
        }
    }

    /// A baseline and two contenders, the second of which is `effect` better
    /// on the second side; each session moves all three as well.
    fn pair(
        random: &mut Random,
        sessions: usize,
        sd: f64,
        effect: f64,
    ) -> Vec<AcrossRow> {
        let mut side = |effect: f64| {
            let machine = random.sessions(sessions, 0.0, sd);
            let mut variant = |name, role, center: f64| {
                let own = random.sessions(sessions, center, sd);
                let all = own.iter().zip(&machine).map(|(a, b)| a + b);
                VariantSide::of_sessions(name, role, all.collect())
            };
            ExperimentSide {
                baseline: "pread".to_owned(),
                variants: vec![
                    variant("pread", Role::Baseline, 10.0),
                    variant("uring", Role::Contender, 10.2),
                    variant("uring-fixed", Role::Contender, 10.3 + effect),
                ],
            }
        };
        let (a, b) = (side(0.0), side(effect));
        let id = ["storage", "randread-4k", "depth=1"].map(str::to_owned);
        rows(&id, (&a, &b), RULES)
    }

    fn is_claim(row: &AcrossRow) -> bool {
        matches!(row.verdict, Some(Verdict::Faster | Verdict::Slower))
    }

    #[test]
    fn one_process_twice_differs_in_at_most_one_pair_in_twenty() {
        // The spread is larger than the practical threshold, so that the test
        // and not the threshold holds claims back. 5 % of 2,000 pairs, and
        // three standard deviations of that count (9.7).
        let mut random = Random(1);
        for sessions in [4, 6, 10] {
            let claimed = (0..2_000)
                .filter(|_| {
                    pair(&mut random, sessions, 0.04, 0.0).iter().any(is_claim)
                })
                .count();
            assert!(claimed <= 100 + 30, "{sessions} sessions: {claimed}");
            // It is a test at 5 %, not one that never claims.
            assert!(claimed >= 30, "{sessions} sessions: {claimed}");
        }
    }

    #[test]
    fn five_percent_is_found_where_sessions_agree() {
        let mut random = Random(2);
        let mut found = 0;
        for _ in 0..500 {
            let rows = pair(&mut random, 4, 0.004, 0.05_f64.ln_1p());
            let of = |name| rows.iter().find(|r| r.variant == name).unwrap();
            found +=
                u32::from(of("uring-fixed").verdict == Some(Verdict::Faster));
            assert!(!is_claim(of("pread")) || of("pread").p_value < Some(0.05));
        }
        assert!(found >= 490, "{found} of 500");
    }

    #[test]
    fn a_side_with_few_sessions_gets_a_ratio_and_no_verdict() {
        for (a, b, reason) in [
            (1, 1, "one session a side"),
            (3, 3, "3 sessions a side"),
            (4, 1, "4 and 1 sessions"),
        ] {
            let mut random = Random(3);
            let side = |n, center: f64, random: &mut Random| ExperimentSide {
                baseline: "pread".to_owned(),
                variants: vec![VariantSide::of_sessions(
                    "pread",
                    Role::Baseline,
                    random.sessions(n, center, 1e-4),
                )],
            };
            let of_a = side(a, 1.0, &mut random);
            let of_b = side(b, 2.0, &mut random);
            let id = ["s", "e", ""].map(str::to_owned);
            let rows = rows(&id, (&of_a, &of_b), RULES);
            assert_eq!(rows.len(), 1, "metrics without values are no rows");
            assert_eq!(rows[0].verdict, Some(Verdict::Undecided));
            assert_eq!(rows[0].reason, reason);
            assert!(
                rows[0].ratio.is_some_and(|r| (r - 1.0_f64.exp()).abs() < 1e-2)
            );
            assert_eq!(rows[0].ratio_low, None);
        }
    }

    #[test]
    fn less_is_better_where_it_is() {
        let mut random = Random(4);
        let mut side = |center: f64| {
            let mut variant = VariantSide::of_sessions(
                "pread",
                Role::Baseline,
                random.sessions(4, center, 1e-3),
            );
            let at = CompareMetric::CpuPerOpNs as usize;
            variant.figures[at] = variant.figures[0].clone();
            ExperimentSide {
                baseline: "pread".to_owned(),
                variants: vec![variant],
            }
        };
        let (a, b) = (side(1.0), side(1.2));
        let id = ["s", "e", ""].map(str::to_owned);
        let rows = rows(&id, (&a, &b), RULES);
        let verdicts: Vec<_> = rows.iter().map(|row| row.verdict).collect();
        assert_eq!(verdicts, [Some(Verdict::Faster), Some(Verdict::Slower)]);
    }

    #[test]
    fn sessions_without_any_spread_decide_nothing() {
        let side = || ExperimentSide {
            baseline: "pread".to_owned(),
            variants: vec![VariantSide::of_sessions(
                "pread",
                Role::Baseline,
                vec![1.0; 4],
            )],
        };
        let id = ["s", "e", ""].map(str::to_owned);
        let rows = rows(&id, (&side(), &side()), RULES);
        assert_eq!(rows[0].verdict, Some(Verdict::Undecided));
        assert!(rows[0].reason.contains("no spread"));
    }
}
