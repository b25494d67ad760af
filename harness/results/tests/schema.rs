//! The declared columns, the files and the documentation are one and the
//! same.

use std::path::Path;

use results::schema::{
    CompareRow, MetricRow, Table, TrialRow, WindowRow, json, markdown,
};

/// The header that serializing a row gives by itself.
fn serialized_header<T: Table + Default>() -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.serialize(T::default()).unwrap();
    let bytes = writer.into_inner().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    text.lines().next().unwrap().to_owned()
}

#[test]
fn the_columns_are_those_that_are_written() {
    assert_eq!(serialized_header::<TrialRow>(), TrialRow::header());
    assert_eq!(serialized_header::<MetricRow>(), MetricRow::header());
    assert_eq!(serialized_header::<WindowRow>(), WindowRow::header());
    assert_eq!(serialized_header::<CompareRow>(), CompareRow::header());
}

#[test]
fn not_measured_is_an_empty_cell() {
    let mut writer =
        csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    writer.serialize(TrialRow::default()).unwrap();
    let bytes = writer.into_inner().unwrap();
    let line = String::from_utf8(bytes).unwrap();
    let cells: Vec<_> = line.trim_end().split(',').collect();
    for (column, cell) in TrialRow::COLUMNS.iter().zip(cells) {
        assert_eq!(cell.is_empty(), column.optional, "{}", column.name);
    }
}

#[test]
fn a_unit_stands_last_in_the_name() {
    for column in TrialRow::COLUMNS {
        let suffix = match column.unit {
            "ns" => "_ns",
            "kHz" => "_khz",
            "m°C" => "_millicelsius",
            "ops/s" => "_per_s",
            _ => continue,
        };
        assert!(column.name.ends_with(suffix), "{}", column.name);
    }
}

#[test]
fn the_documentation_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/results-schema.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, markdown()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == markdown(),
        "docs/results-schema.md is not what the row types say; renew it with \
         `UPDATE_DOCS=1 cargo test -p results` and read the difference"
    );
}

#[test]
fn the_json_schema_holds_every_column() {
    let schema = json();
    assert_eq!(schema["schema_version"], 1);
    let columns = schema["files"]["trials.csv"]["columns"].as_array().unwrap();
    assert_eq!(columns.len(), TrialRow::COLUMNS.len());
    let status = columns.iter().find(|c| c["name"] == "status").unwrap();
    assert_eq!(status["type"], "word");
    assert_eq!(status["words"][3], "degraded");
    assert_eq!(status["optional"], false);
    let window = columns.iter().find(|c| c["name"] == "window_ns").unwrap();
    assert_eq!(window["unit"], "ns");
    assert_eq!(window["type"], "integer");
}
