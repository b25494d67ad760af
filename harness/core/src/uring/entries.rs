//! How large a ring's entries are.

use std::{fmt, io, os::fd::AsRawFd};

use io_uring::{
    Builder, CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue,
    squeue,
};

use super::{
    hybrid, mixed,
    parts::{Enters, Owner, Parts, Pushes, Reaps},
    ring::Setup,
};

/// A pair of sizes, of submissions and of completions, and who makes such
/// rings.
pub trait Entries: fmt::Debug + Sized + 'static {
    /// A submission.
    type Submission: squeue::EntryMarker + 'static;
    /// What registers and enters.
    type Submitter: Enters;
    /// The submission queue.
    type Submissions: Pushes<Self::Submission>;
    /// The completion queue.
    type Completions: Reaps;
    /// What keeps all of it.
    type Owner: AsRawFd;
    /// The setup flags that ask for these sizes, in words.
    const FLAGS: &'static [&'static str];
    /// The flag that only some kernels know that have all of `Setup`, and
    /// which do.
    const NEEDS: Option<(&'static str, &'static str)> = None;

    /// Makes a ring.
    ///
    /// # Errors
    /// What `io_uring_setup` said, or that there is none of this size and
    /// setup.
    fn make(
        setup: Setup,
        entries: u32,
        no_sqarray: bool,
    ) -> io::Result<Parts<Self>>;
}

/// 64 and 16 bytes, as a ring comes.
#[derive(Debug)]
pub enum Small {}

/// 128 and 32 bytes (Linux 5.19), as commands need that are passed through to
/// a device: the command stands in the submission, its result in the
/// completion.
#[derive(Debug)]
pub enum Big {}

/// 128 bytes, and 16 or 32 as each completion needs (Linux 6.18): what is
/// passed through gets a large one, and whatever else the ring does a small
/// one.
#[derive(Debug)]
pub enum Mixed {}

impl Entries for Small {
    type Submission = squeue::Entry;
    type Submitter = Submitter<'static>;
    type Submissions = SubmissionQueue<'static, squeue::Entry>;
    type Completions = CompletionQueue<'static, cqueue::Entry>;
    type Owner = Owner<squeue::Entry, cqueue::Entry>;
    const FLAGS: &'static [&'static str] = &[];

    fn make(
        setup: Setup,
        entries: u32,
        no_sqarray: bool,
    ) -> io::Result<Parts<Self>> {
        let ring = match setup {
            Setup::Hybrid => hybrid::build(entries, no_sqarray)?,
            _ => builder(setup, no_sqarray).build(entries)?,
        };
        Ok(Parts::of(ring))
    }
}

impl Entries for Big {
    type Submission = squeue::Entry128;
    type Submitter = Submitter<'static>;
    type Submissions = SubmissionQueue<'static, squeue::Entry128>;
    type Completions = CompletionQueue<'static, cqueue::Entry32>;
    type Owner = Owner<squeue::Entry128, cqueue::Entry32>;
    const FLAGS: &'static [&'static str] = &["sqe128", "cqe32"];

    /// None that is hybrid: the crate takes over rings with small entries
    /// only.
    fn make(
        setup: Setup,
        entries: u32,
        no_sqarray: bool,
    ) -> io::Result<Parts<Self>> {
        if setup == Setup::Hybrid {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Parts::of(builder(setup, no_sqarray).build(entries)?))
    }
}

impl Entries for Mixed {
    type Submission = squeue::Entry128;
    type Submitter = mixed::Submitter;
    type Submissions = mixed::Submissions;
    type Completions = mixed::Completions;
    type Owner = mixed::Memory;
    const FLAGS: &'static [&'static str] = &["sqe128", "cqe_mixed", "cqsize"];
    const NEEDS: Option<(&'static str, &'static str)> =
        Some(("CQE_MIXED", "Linux 6.18 or later"));

    /// None without NO_SQARRAY, which is older, and none but with a single
    /// issuer.
    fn make(
        setup: Setup,
        entries: u32,
        no_sqarray: bool,
    ) -> io::Result<Parts<Self>> {
        if !no_sqarray {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        mixed::build(setup, entries)
    }
}

/// The crate's flags for a setup, all but HYBRID_IOPOLL.
fn builder<S, C>(setup: Setup, no_sqarray: bool) -> Builder<S, C>
where
    S: squeue::EntryMarker,
    C: cqueue::EntryMarker,
{
    let mut builder = IoUring::<S, C>::builder();
    match setup {
        Setup::Plain => {}
        Setup::Poller { cpu, idle_ms } => {
            builder.setup_sqpoll(idle_ms).setup_sqpoll_cpu(cpu.0);
        }
        Setup::SingleIssuer
        | Setup::Flagged
        | Setup::Polled
        | Setup::Hybrid => {
            builder.setup_single_issuer().setup_defer_taskrun();
        }
    }
    if setup == Setup::Flagged {
        builder.setup_taskrun_flag();
    }
    if setup.polls() {
        builder.setup_iopoll();
    }
    if no_sqarray {
        builder.setup_no_sqarray();
    }
    builder
}
