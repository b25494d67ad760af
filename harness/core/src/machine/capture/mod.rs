//! A copy of what this program reads of a machine, fit to be shown to others.
//!
//! [`capture`] takes the files named in `files` and nothing else, through
//! `redact`, into an [`Archive`]. The fixtures of the tests have the same
//! form, so that a capture of a machine on which a check is wrong is a test
//! of that check as it stands.

mod archive;
mod files;
mod known;
mod redact;
mod walk;

pub use archive::{Archive, ArchiveError, Entry};
pub use walk::capture;
