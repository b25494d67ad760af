//! How large a ring's entries are.

use std::{fmt, io};

use io_uring::{IoUring, cqueue, squeue};

use super::hybrid;

/// A pair of sizes: of submissions and of completions.
pub trait Entries: fmt::Debug + 'static {
    /// A submission.
    type Submission: squeue::EntryMarker + 'static;
    /// A completion.
    type Completion: cqueue::EntryMarker + 'static;
    /// The setup flags that ask for these sizes, in words.
    const FLAGS: &'static [&'static str];

    /// A ring with HYBRID_IOPOLL.
    ///
    /// # Errors
    /// What `io_uring_setup` said, or that there is none of this size.
    fn hybrid(
        entries: u32,
        no_sqarray: bool,
    ) -> io::Result<IoUring<Self::Submission, Self::Completion>>;
}

/// 64 and 16 bytes, as a ring comes.
#[derive(Debug)]
pub enum Small {}

/// 128 and 32 bytes (Linux 5.19), as commands need that are passed through to
/// a device: the command stands in the submission, its result in the
/// completion.
#[derive(Debug)]
pub enum Big {}

impl Entries for Small {
    type Submission = squeue::Entry;
    type Completion = cqueue::Entry;
    const FLAGS: &'static [&'static str] = &[];

    fn hybrid(entries: u32, no_sqarray: bool) -> io::Result<IoUring> {
        hybrid::build(entries, no_sqarray)
    }
}

impl Entries for Big {
    type Submission = squeue::Entry128;
    type Completion = cqueue::Entry32;
    const FLAGS: &'static [&'static str] = &["sqe128", "cqe32"];

    /// None: the crate takes over rings with small entries only.
    fn hybrid(
        _: u32,
        _: bool,
    ) -> io::Result<IoUring<squeue::Entry128, cqueue::Entry32>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
