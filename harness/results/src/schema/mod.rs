//! The schema: what each file of a run directory holds.
//!
//! Columns are appended, never renamed or moved; a change that an old reader
//! would misunderstand raises [`SCHEMA_VERSION`].

mod document;
mod params;
mod rows;
mod run_file;
mod table;
mod words;

pub use document::{json, markdown};
pub use params::format_params;
pub use rows::{CompareRow, KernelRow, MetricRow, TrialRow, WindowRow};
pub(crate) use run_file::replace_file;
pub use run_file::{Part, RunFile, RunFileError, Settings, TargetFacts, Tool};
pub use table::{Cell, Column, Kind, Table};
pub use words::{
    Better, CompareMetric, CpuAccounting, LatencyKind, LoadMode, Role, Status,
    Steady, Verdict,
};

/// Version of the layout that this program writes, and the newest it reads.
pub const SCHEMA_VERSION: u32 = 1;
