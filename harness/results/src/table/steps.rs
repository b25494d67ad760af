//! Each step of a ladder against the one before it.

use super::layout::{Cell, lay_out, width};
use super::{Style, colour, paint, ratio_text, short};
use crate::schema::{CompareMetric, CompareRow, Verdict};

/// Where the step before stands in the line above, it is not named again.
pub(super) fn table(rows: &[&CompareRow], style: Style) -> Vec<String> {
    let of = |metric| rows.iter().copied().filter(move |r| r.metric == metric);
    let widest = rows
        .iter()
        .filter_map(|row| Some(width(&ratio_text(row)?)))
        .max()
        .unwrap_or(0);
    let cell = |row: &CompareRow| -> String {
        let verdict = row.verdict.map_or("no verdict", Verdict::word);
        match ratio_text(row) {
            Some(times) => {
                let gap = widest - width(&times) + 2;
                format!("{times}{}{verdict}", " ".repeat(gap))
            }
            None => "no comparison".to_owned(),
        }
    };
    let mut body = Vec::new();
    let mut verdicts = Vec::new();
    let mut above = "";
    for row in of(CompareMetric::OpsPerS) {
        let cpu = of(CompareMetric::CpuPerOpNs).find(|other| {
            (&other.variant, &other.baseline) == (&row.variant, &row.baseline)
        });
        body.push(vec![
            Cell::Text(match row.baseline == above {
                true => row.variant.clone(),
                false => format!("{} (on {})", row.variant, row.baseline),
            }),
            Cell::Text(cell(row)),
            cpu.map_or(Cell::Empty, |row| Cell::Text(cell(row))),
        ]);
        // Each cell by its own: more ops/s may cost more CPU time.
        verdicts.push([None, row.verdict, cpu.and_then(|row| row.verdict)]);
        above = &row.variant;
    }
    let heads = [
        "each step on the one above it",
        short(CompareMetric::OpsPerS),
        short(CompareMetric::CpuPerOpNs),
    ];
    lay_out(&heads.map(str::to_owned), &body, |row, column, text| {
        let verdict: Option<Verdict> = verdicts[row][column];
        paint(text, verdict.map(colour).filter(|_| style.colour))
    })
}
