//! Chunks that arrive in a file: each is looked at where it stands, through a
//! mapping of the page cache, which takes no system call.

use std::{
    fs::{File, OpenOptions},
    os::{
        fd::{AsRawFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
    path::PathBuf,
};

use harness::measure::trial::{Evidence, TrialError};
use memmap2::{MmapOptions, MmapRaw};

use super::{Destination, Step, route::Route};
use crate::{checker::Checker, mapped_bytes::MappedBytes};

/// The second part of the file.
#[derive(Debug)]
pub struct ToFile {
    file: File,
    map: MmapRaw,
    /// Where the mapping starts in the file.
    start: u64,
    checker: Checker,
    /// For what the check copies.
    room: Box<[u8]>,
}

impl ToFile {
    /// Opens the file a second time: a description has one offset.
    ///
    /// # Errors
    /// It cannot be opened or mapped.
    pub fn new(route: &Route) -> Result<Self, TrialError> {
        let failed = |call: &str, error: std::io::Error| {
            TrialError::setup(format!("{call} the destination: {error}"))
        };
        let source = route.file().as_raw_fd();
        let path = PathBuf::from(format!("/proc/self/fd/{source}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_CLOEXEC)
            .open(path)
            .map_err(|error| failed("opening", error))?;
        let range = route.destination();
        let bytes = usize::try_from(range.bytes)
            .map_err(|error| TrialError::setup(error.to_string()))?;
        let map = MmapOptions::new()
            .offset(range.offset)
            .len(bytes)
            .map_raw_read_only(&file)
            .map_err(|error| failed("mapping", error))?;
        let checker = route.checker();
        let room = vec![0; route.load().op_bytes].into_boxed_slice();
        Ok(Self { file, map, start: range.offset, checker, room })
    }
}

impl Destination for ToFile {
    const HAS_PLACES: bool = true;

    fn sink(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    #[inline(always)]
    fn moved(&mut self, step: Step) -> Result<(), TrialError> {
        let place = step.to.unwrap_or_default().wrapping_sub(self.start);
        // A place in the mapping, whose length is a `usize`.
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        let data = MappedBytes::of(&self.map, place, step.bytes);
        self.checker.check_mapped(step.from, data, &mut self.room)
    }

    fn finish(self) -> Result<Evidence, TrialError> {
        // What is still to be written back would disturb the next trial.
        self.file.sync_data().map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(0);
            TrialError::op("fdatasync at the end", errno, 0, 0)
        })?;
        let checked = self.checker.checked();
        Ok(Evidence {
            verified_ops: checked.verified_ops,
            checksummed_ops: checked.checksummed_ops,
            ..Evidence::default()
        })
    }
}
