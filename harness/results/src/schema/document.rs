//! The schema as a page to read and as JSON.

use std::fmt::Write;

use serde_json::{Map, Value, json as object};

use super::{
    Column, CompareRow, KernelRow, MetricRow, SCHEMA_VERSION, Table, TrialRow,
    WindowRow,
};

/// One file of the schema, free of its row type.
struct Description {
    file: &'static str,
    about: &'static str,
    columns: &'static [Column],
}

fn describe<T: Table>() -> Description {
    Description { file: T::FILE, about: T::ABOUT, columns: T::COLUMNS }
}

fn tables() -> [Description; 5] {
    [
        describe::<TrialRow>(),
        describe::<MetricRow>(),
        describe::<WindowRow>(),
        describe::<CompareRow>(),
        describe::<KernelRow>(),
    ]
}

/// `docs/results-schema.md`, generated.
pub fn markdown() -> String {
    let mut page = format!(
        "# Results schema, version {SCHEMA_VERSION}\n\n\
         Generated from the row types; after a change of theirs, renew it \
         with\n`UPDATE_DOCS=1 cargo test -p results`.\n\n\
         Each run has a directory of its own with the files below, \
         `run.json` and\n`hist/*.hlog`. All CSV files are UTF-8 with one \
         header line, `,` between cells,\n`.` as the decimal mark, and one \
         line feed at the end of each row; cells are\nquoted as in RFC 4180 \
         where they must be, and no cell holds a line break. An\nempty cell \
         means \"not measured\" or \"none\", never 0. Columns are appended,\n\
         never renamed or moved.\n",
    );
    for table in tables() {
        let about = table.about.trim();
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {}\n\n{about}\n\n", table.file);
        page.push_str("| column | type | unit | empty? | meaning |\n");
        page.push_str("|---|---|---|---|---|\n");
        for column in table.columns {
            page.push_str(&markdown_row(column));
        }
    }
    page.push_str(OTHER_FILES);
    page
}

fn markdown_row(column: &Column) -> String {
    let words = column.kind.words();
    let kind = if words.is_empty() {
        column.kind.name().to_owned()
    } else {
        format!("`{}`", words.join("` `"))
    };
    format!(
        "| `{}` | {kind} | {} | {} | {} |\n",
        column.name,
        column.unit,
        if column.optional { "yes" } else { "no" },
        column.meaning.trim(),
    )
}

/// What is not a table.
const OTHER_FILES: &str = "
## run.json

`schema_version`, `run_id`, `label`, `created_at_utc`, `tool` (`name`,
`version`, `git_commit`, `git_dirty`, `rustc`, `profile`), `command_line`,
`machine_id` (a hash made for this program), `settings` (`practical_ratio`,
`blocks`, `sessions`, `window_ns`, `warmup_ns`, `confidence`: what verdicts
depend on), `parts` (one per process that added to the run: `suites`, `plan`,
`seed`, `command_line`, `started_at_utc`, `finished_at_utc`, `interrupted`),
and as found: `environment`, `topology`, `devices` (the machine's: `block` and
`network`), `clock`, `invocation`. A run that has ended has `metric_rows`, the
rows that `metrics.csv` must have. The file is replaced as a whole, never edited
in place.

Neither serial numbers nor the files behind loop devices are stored.

`doctor` has a `verdict` (`publishable`, `comparison_only`, `functional_only`)
and `findings`, each with `id`, `status` (`pass`, `warn`, `fail`, `unknown`,
`not_applicable`), `observed`, `wanted`, `why`, `fix`, `writes` (files that a fix
would write: `path`, `value`, `was`; left out where there are none), `source`,
`touches` (suites; empty for all) and `caps` (the verdict it caps at, or null).
Parts add to it; of two findings of one check the worse stays. The checks are
listed in `docs/doctor.md`.

`targets` has one object for each time that a suite set a session up: `session`,
`suite` and `facts`. Of the storage suite these are `read` and `written`, each
null or with `label`, `bytes`, `filesystem`, `mount_options`, `extents` (`count`,
`unwritten`; null for a device), `device` (as in `devices`: model, firmware, PCI
link now and at most, node, queues, scheduler, write cache) and `nvme`, one for
each drive at the bottom: `controller`, `namespace` (`lba_bytes` and what else it
could be formatted with), `health` (`temperature_c`, `worn_percent` and so on,
when the session began) and `lacks`, what could not be read and why.
`compare` tells what differs of these first, without names of the kernel's,
counters and temperature.

## hist/*.hlog

HdrHistogram log format 1.2 with V2 compressed histograms of nanoseconds, one
file per experiment, one line per trial: `Tag=` is the trial's `hist_tag`, the
time stamp is in seconds since 1970, the interval is the measured window.

## What is written when

All rows of a block are written and synced together, `trials.csv` last. So a
block is whole once its rows (`block_trials` of them) stand in `trials.csv`;
rows of the other files that name a trial beyond its end belong to a block
that was cut off and do not count.
";

/// The schema for programs: `bypass schema --json`.
pub fn json() -> Value {
    let files: Map<String, Value> = tables()
        .into_iter()
        .map(|table| {
            let columns: Vec<_> = table.columns.iter().map(column).collect();
            let about = table.about.trim();
            let value = object!({ "about": about, "columns": columns });
            (table.file.to_owned(), value)
        })
        .collect();
    object!({ "schema_version": SCHEMA_VERSION, "files": files })
}

fn column(column: &Column) -> Value {
    let mut value = object!({
        "name": column.name,
        "type": column.kind.name(),
        "optional": column.optional,
        "unit": column.unit,
        "meaning": column.meaning.trim(),
    });
    if !column.kind.words().is_empty() {
        value["words"] = object!(column.kind.words());
    }
    value
}
