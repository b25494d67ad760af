//! What a run says on standard output: verdicts and tables first, then the
//! caveats that apply, then where the files are.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use results::table;

use super::{doctor, runner::Report};

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Tables for people.
    Text,
    /// One JSON document.
    Json,
}

/// Prints a report. A run of nothing but refusals has no table: why is told on
/// standard error, in one line for each reason.
///
/// # Errors
/// Standard output is closed or full; a closed pipe is no error.
pub fn print(report: &Report, format: Format) -> io::Result<()> {
    if report.refused {
        for reason in &report.notes {
            tell(format_args!("error: {reason}"));
        }
    }
    match format {
        Format::Text if report.refused => Ok(()),
        Format::Text => write_stdout(&text(report)),
        Format::Json => write_stdout(&json(report)),
    }
}

/// Writes to standard output; a reader that has gone away is content.
///
/// # Errors
/// As `print`.
pub fn write_stdout(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// A line on standard error. Where nobody can read it, what it tells of goes
/// on all the same: `eprintln!` would panic.
pub fn tell(line: impl Display) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// The tables, the caveats, the path.
pub fn text(report: &Report) -> String {
    let cap = doctor::headline(&report.doctor);
    let mut text = table::text(&report.derived, cap.as_deref(), style());
    let mut caveats: Vec<String> = report.notes.clone();
    caveats.extend(doctor::caveats(&report.doctor));
    if !caveats.is_empty() {
        text.push('\n');
        for caveat in &caveats {
            text.push_str(&format!("note: {caveat}\n"));
        }
    }
    let directory = report.directory.display();
    text.push_str(&format!("\nresults: {directory}\n"));
    text
}

fn json(report: &Report) -> String {
    let cap = doctor::headline(&report.doctor);
    let mut value = table::json(&report.derived, cap.as_deref());
    value["machine"] = serde_json::json!({
        "verdict": report.doctor.verdict,
        "capped_by": report.doctor.caps(),
    });
    let directory = report.directory.display().to_string();
    value["directory"] = (!report.refused).then_some(directory).into();
    value["notes"] = report.notes.clone().into();
    value["exit_code"] = report.exit.code().into();
    format!("{value:#}\n")
}

/// Colour on a terminal, unless `NO_COLOR` is set (no-color.org).
pub fn is_coloured() -> bool {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    wanted && io::stdout().is_terminal()
}

/// Columns of what is no terminal: a file, a pager, a log.
const COLUMNS: usize = 120;

/// Fewer would break every table to pieces.
const COLUMNS_MIN: usize = 60;

fn style() -> table::Style {
    // Asked of standard output only: it is where the tables go.
    let columns = match io::stdout().is_terminal() {
        true => terminal_size::terminal_size_of(io::stdout()),
        false => None,
    };
    let columns = columns.map_or(COLUMNS, |(width, _)| width.0.into());
    table::Style {
        colour: is_coloured(),
        width: Some(columns.max(COLUMNS_MIN)),
        ..table::Style::default()
    }
}
