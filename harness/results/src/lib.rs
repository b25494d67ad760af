//! Results on disk: the schema of a run directory, its writer and reader, the
//! comparison that turns trials into verdicts, and the table that shows them.
//!
//! - [`schema`]: each column declared once, and the documentation made of it;
//! - [`writer`]: run directories, appended to and synced block by block;
//! - [`compare`]: one run, [`across`]: two runs, [`check`]: do files agree,
//!   [`noise`]: what can this machine show;
//! - [`command_line`]: what of a call may be stored and shown;
//! - [`hist`]: HdrHistogram logs.
//!
//! **Invariant**: nothing here knows of Linux, reads a clock or measures; the
//! same files give the same answer on every machine.
#![forbid(unsafe_code)]

pub mod across;
pub mod check;
pub mod command_line;
pub mod compare;
pub mod hist;
pub mod noise;
pub mod reader;
pub mod schema;
pub mod table;
pub mod writer;
