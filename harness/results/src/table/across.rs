//! The comparison of runs as a person reads it: verdicts, table, caveats, and
//! what differs between the sides.

use serde_json::Value;

use super::layout::{Cell, lay_out};
use super::number::{figure, percent, ratio};
use super::{RED, colour, paint, short};
use crate::across::{
    Across, AcrossRow, Difference, Measure, Order, SESSIONS_NEEDED, SideSummary,
};
use crate::command_line::without_option;
use crate::schema::{Role, SCHEMA_VERSION, Steady, Verdict};

/// Differences shown; two machines differ in more than anyone reads.
const DIFFERENCES_MAX: usize = 24;

/// What the sides worked on, which a swap is about, has keys that begin so.
const TARGET: &str = "target.";

/// Rows told before the table; the table has them all.
const CLAIMS_MAX: usize = 20;

/// The comparison as text. `environment` is what the caller found to differ
/// between the machines.
pub fn text(
    across: &Across,
    environment: &[Difference],
    in_colour: bool,
) -> String {
    let mut lines = Vec::new();
    let alarm = |text: String| paint(&text, in_colour.then_some(RED));
    lines.extend(suspect(across).map(alarm));
    if across.order == Order::Overlapping {
        lines.push(alarm(format!("sessions {}", across.order.sentence())));
    }
    lines.push(counts(across));
    lines.extend(claims(across, in_colour));
    lines.push(String::new());
    lines.extend(side("A", &across.a));
    lines.extend(side("B", &across.b));
    lines.push(format!(
        "order of sessions: {}, {}",
        across.order_letters,
        across.order.sentence()
    ));
    for rows in experiments(across) {
        lines.push(String::new());
        lines.extend(experiment(&rows));
    }
    lines.push(String::new());
    lines.extend(legend(across));
    lines.extend(caveats(across).into_iter().map(|text| format!("! {text}")));
    lines.extend(differing(across, environment));
    lines.join("\n") + "\n"
}

/// The same for programs.
pub fn json(across: &Across, environment: &[Difference]) -> Value {
    let mut value = serde_json::json!(across);
    value["schema_version"] = SCHEMA_VERSION.into();
    value["sessions_needed_for_a_verdict"] = SESSIONS_NEEDED.into();
    value["environment"] = serde_json::json!(environment);
    value
}

/// `B against A: 1 slower, 3 same, 4 undecided (threshold 2 %)`.
fn counts(across: &Across) -> String {
    let counts: Vec<String> = super::VERDICTS
        .into_iter()
        .map(|verdict| (across.count(verdict), verdict.word()))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    format!(
        "B against A: {} (threshold {})",
        counts.join(", "),
        percent(across.practical_ratio)
    )
}

fn claims(across: &Across, in_colour: bool) -> Vec<String> {
    let claimed: Vec<&AcrossRow> = [Verdict::Slower, Verdict::Faster]
        .into_iter()
        .flat_map(|verdict| {
            across.rows.iter().filter(move |row| {
                row.measure == Measure::Figure && row.verdict == Some(verdict)
            })
        })
        .collect();
    let more = claimed.len().saturating_sub(CLAIMS_MAX);
    let mut lines: Vec<String> = claimed
        .into_iter()
        .take(CLAIMS_MAX)
        .map(|row| {
            let verdict = row.verdict.unwrap_or_default();
            let word = format!("{verdict}");
            let line = format!(
                "  {word:<6}  {} {}  {} {}",
                name(row),
                row.variant,
                short(row.metric),
                times(row)
            );
            paint(&line, in_colour.then_some(colour(verdict)))
        })
        .collect();
    if more > 0 {
        lines.push(format!("  and {more} more, in the tables"));
    }
    lines
}

fn side(letter: &str, side: &SideSummary) -> Vec<String> {
    side.runs
        .iter()
        .map(|run| {
            format!(
                "{letter}  {}: {}, {} blocks of {} s each",
                run.run_id,
                plural(run.sessions, "session"),
                run.blocks,
                run.window_ns as f64 / 1e9
            )
        })
        .collect()
}

fn plural(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

/// `ipc/ping-pong op_bytes=8`.
fn name(row: &AcrossRow) -> String {
    format!("{}/{} {}", row.suite, row.experiment, row.params)
        .trim_end()
        .to_owned()
}

/// The rows of each experiment, in the order of the comparison.
fn experiments(across: &Across) -> Vec<Vec<&AcrossRow>> {
    let mut groups: Vec<Vec<&AcrossRow>> = Vec::new();
    for row in &across.rows {
        match groups.iter_mut().find(|group| name(group[0]) == name(row)) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}

fn experiment(rows: &[&AcrossRow]) -> Vec<String> {
    let figures: Vec<&AcrossRow> = rows
        .iter()
        .filter(|row| row.measure == Measure::Figure)
        .copied()
        .collect();
    let baseline = rows[0].baseline.as_str();
    let heads = [
        "",
        "",
        "A",
        "B",
        "B/A",
        "finds",
        &format!("B/A of the ratio to {baseline}"),
    ]
    .map(str::to_owned);
    let ratio_of = |row: &AcrossRow| {
        rows.iter().copied().find(|other| {
            other.measure == Measure::Ratio
                && other.variant == row.variant
                && other.metric == row.metric
        })
    };
    let aligned = aligned_verdicts(&figures);
    let of_ratios: Vec<&AcrossRow> =
        figures.iter().filter_map(|row| ratio_of(row)).collect();
    let aligned_ratios = aligned_verdicts(&of_ratios);
    let mut variants: Vec<&str> = Vec::new();
    for row in &figures {
        if !variants.contains(&row.variant.as_str()) {
            variants.push(&row.variant);
        }
    }
    let mut body = Vec::new();
    for variant in variants {
        let own = figures.iter().filter(|row| row.variant == variant);
        for (index, row) in own.enumerate() {
            let label = if index == 0 { variant } else { "" };
            let last = match (row.role, ratio_of(row)) {
                (Role::Baseline, _) => "baseline".to_owned(),
                (_, Some(of_ratio)) => aligned_ratios(of_ratio),
                (_, None) => String::new(),
            };
            body.push(vec![
                Cell::Text(label.to_owned()),
                Cell::Text(short(row.metric).to_owned()),
                number(row, row.a),
                number(row, row.b),
                Cell::Text(aligned(row)),
                row.minimum_detectable_effect
                    .map_or(Cell::Empty, |mde| Cell::Text(percent(mde))),
                Cell::Text(last),
            ]);
        }
    }
    let mut lines = vec![name(rows[0])];
    lines.extend(lay_out(&heads, &body, |_, _, text| text.to_owned()));
    lines
}

fn number(row: &AcrossRow, value: Option<f64>) -> Cell {
    match value {
        Some(value) => Cell::Number(figure(row.metric, value), String::new()),
        None => Cell::Empty,
    }
}

/// `1.02× [1.00, 1.04]  same`, the verdicts of these rows below each other.
fn aligned_verdicts(rows: &[&AcrossRow]) -> impl Fn(&AcrossRow) -> String {
    let widest =
        rows.iter().map(|row| times(row).chars().count()).max().unwrap_or(0);
    move |row| {
        let times = times(row);
        let verdict = row.verdict.map_or("no verdict", Verdict::word);
        let unsteady = match row.steady {
            Some(Steady::No) => ", not steady",
            _ => "",
        };
        format!("{times:<widest$}  {verdict}{unsteady}")
    }
}

/// The ratio with the interval that decided.
fn times(row: &AcrossRow) -> String {
    let interval = row
        .adjusted_low
        .zip(row.adjusted_high)
        .or_else(|| row.ratio_low.zip(row.ratio_high));
    row.ratio.map_or(String::new(), |value| ratio(value, interval))
}

fn legend(across: &Across) -> Vec<String> {
    let mut lines = Vec::new();
    if across.can_decide() {
        lines.push(
            "finds: the least change that sessions like these show 4 times \
             in 5"
                .to_owned(),
        );
    }
    if across.rows.iter().any(|row| row.measure == Measure::Ratio) {
        lines.push(
            "ratio to the baseline: taken within each block, so what moved \
             the whole machine cancels out; a change of the baseline itself \
             does too"
                .to_owned(),
        );
    }
    lines
}

fn suspect(across: &Across) -> impl Iterator<Item = String> {
    [&across.a, &across.b]
        .into_iter()
        .flat_map(|side| &side.runs)
        .filter(|run| run.suspect)
        .map(|run| {
            format!(
                "SUSPECT RUN {}: its baseline differs from its own copy; \
                 believe no verdict here, measure it again on a quieter \
                 machine",
                run.run_id
            )
        })
        .collect::<Vec<_>>()
        .into_iter()
}

fn caveats(across: &Across) -> Vec<String> {
    let mut caveats = undecided(across);
    for (letter, side) in [("A", &across.a), ("B", &across.b)] {
        for run in &side.runs {
            for thin in &run.thin_sessions {
                caveats.push(format!(
                    "{letter}: {thin}, yet weighs as any other; `reasons` in \
                     trials.csv tells why the others are void"
                ));
            }
        }
        let mut caps: Vec<&String> =
            side.runs.iter().flat_map(|run| &run.caps).collect();
        caps.sort();
        caps.dedup();
        for cap in caps {
            caveats.push(format!("{letter} is {cap}"));
        }
    }
    let unsteady = across.unsteady.iter();
    caveats.extend(unsteady.map(|what| {
        format!(
            "{what}: SNIA's steady state is 5 blocks within 20 %, their line \
             within 10 %; measure longer (--precise, --window)"
        )
    }));
    let not = across.not_compared.iter();
    caveats.extend(not.map(|what| format!("not compared: {what}")));
    caveats.extend(across.notes.iter().cloned());
    caveats
}

/// What would decide what is undecided.
fn undecided(across: &Across) -> Vec<String> {
    let open: Vec<&AcrossRow> = across
        .rows
        .iter()
        .filter(|row| row.measure == Measure::Figure)
        .filter(|row| row.verdict == Some(Verdict::Undecided))
        .collect();
    let mut caveats = Vec::new();
    let mut reasons: Vec<&str> =
        open.iter().map(|row| row.reason.as_str()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    for reason in reasons {
        let same: Vec<&&AcrossRow> =
            open.iter().filter(|row| row.reason == reason).collect();
        let few = same.iter().any(|row| !row.has_enough_sessions());
        let rows = plural(same.len(), "row");
        caveats.push(if few {
            format!(
                "{rows} undecided ({reason}): a verdict needs \
                 {SESSIONS_NEEDED} a side; measure each side with: {}",
                command(across)
            )
        } else if reason.is_empty() {
            format!("{rows} undecided: {}", more_sessions(&same))
        } else {
            format!("{rows} undecided ({reason}): measure longer windows")
        });
    }
    caveats
}

/// More sessions than this say that noise is too large for the effect.
const SESSIONS_WORTH_MEASURING: usize = 100;

fn more_sessions(rows: &[&&AcrossRow]) -> String {
    let needed = rows.iter().map(|row| row.sessions_needed);
    let within = |needed: &Option<usize>| {
        needed.is_some_and(|n| n <= SESSIONS_WORTH_MEASURING)
    };
    let most = needed.clone().filter(within).flatten().max();
    let beyond = needed.filter(|needed| !within(needed)).count();
    match (most, beyond) {
        (Some(n), 0) => {
            format!("about {n} sessions a side would decide (--sessions {n})")
        }
        (Some(n), beyond) => format!(
            "about {n} sessions a side would decide all but {beyond} \
             (--sessions {n}); for those a quieter machine or a longer \
             --window helps more"
        ),
        (None, _) => "more sessions than are worth measuring would decide \
                      them: a quieter machine or a longer --window helps more"
            .to_owned(),
    }
}

/// The command of the first run, with the sessions that a verdict needs.
fn command(across: &Across) -> String {
    let words = across.a.runs.first().map(|run| run.command_line.as_slice());
    let words = without_option(words.unwrap_or_default(), "--sessions");
    let mut words = words.iter().skip(1).peekable();
    let mut command = format!("bypass run --sessions {SESSIONS_NEEDED}");
    if words.next_if(|word| *word == "run").is_none() {
        // `cargo bench` and the like have flags of their own.
        return command;
    }
    for word in words {
        command.push(' ');
        command.push_str(&quoted(word));
    }
    command
}

/// For a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn differing(across: &Across, environment: &[Difference]) -> Vec<String> {
    let (targets, machine): (Vec<&Difference>, Vec<&Difference>) = environment
        .iter()
        .partition(|difference| difference.key.starts_with(TARGET));
    let all: Vec<&Difference> =
        targets.into_iter().chain(&across.differences).chain(machine).collect();
    if all.is_empty() {
        return vec![
            "machine, settings and program are the same on both sides"
                .to_owned(),
        ];
    }
    let cell = |text: &str| Cell::Text(text.to_owned());
    let body: Vec<Vec<Cell>> = all
        .iter()
        .take(DIFFERENCES_MAX)
        .map(|d| vec![cell(&d.key), cell(&d.a), cell(&d.b)])
        .collect();
    let heads = ["differs", "A", "B"].map(str::to_owned);
    let mut lines = vec![String::new()];
    lines.extend(lay_out(&heads, &body, |_, _, text| text.to_owned()));
    let more = all.len().saturating_sub(DIFFERENCES_MAX);
    if more > 0 {
        lines.push(format!("and {more} more; --json has all"));
    }
    lines
}
