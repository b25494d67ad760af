//! One thread, one op: a page is touched, and the fault brings it.

use std::sync::Arc;

use harness::{
    load::closed::{Place, Work},
    measure::{
        recorder::Recorder,
        trial::{Calls, Evidence, TrialError},
    },
};
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};

use super::{cold::Cold, sigbus};
use crate::{
    mapped_bytes::MappedBytes,
    source::{Reads, Source},
};

/// How a page gets into the mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// By touching it.
    Touch,
    /// By madvise(2) with MADV_POPULATE_READ, before it is touched.
    Populate,
}

/// A target in this process's address space.
#[derive(Clone, Debug)]
pub struct Mapped(Arc<MmapRaw>);

impl Mapped {
    /// Maps all of it, without read ahead.
    ///
    /// # Errors
    /// What mmap(2) or madvise(2) said.
    pub fn new(source: &Source) -> Result<Self, TrialError> {
        let failed = |call: &str, error: std::io::Error| {
            TrialError::setup(format!(
                "{call} of {}: {error}",
                source.target().label
            ))
        };
        let bytes = usize::try_from(source.target().bytes)
            .map_err(|error| TrialError::setup(error.to_string()))?;
        let map = MmapOptions::new()
            .len(bytes)
            .map_raw_read_only(source.file(0))
            .map_err(|error| failed("mmap", error))?;
        map.advise(Advice::Random).map_err(|error| failed("madvise", error))?;
        sigbus::tell_faults_of(&map)
            .map_err(|error| failed("sigaction", error))?;
        Ok(Self(Arc::new(map)))
    }
}

/// Reads of one thread through a mapping that all threads share.
#[derive(Debug)]
pub struct MappedReads<'a> {
    map: Mapped,
    fault: Fault,
    op_bytes: usize,
    reads: Reads<'a>,
    /// For what the check copies.
    room: Box<[u8]>,
    cold: Option<Cold<'a>>,
    calls: Calls,
}

impl<'a> MappedReads<'a> {
    /// The reads of the thread at `place`, one of `streams`.
    ///
    /// # Errors
    /// The target is smaller than an op.
    pub fn new(
        source: &'a Source,
        map: &Mapped,
        fault: Fault,
        place: &Place,
        streams: usize,
    ) -> Result<Self, TrialError> {
        let reads = source.reads(place, streams)?;
        let cold = Cold::of(&reads, source.file(place.thread));
        Ok(Self {
            map: map.clone(),
            fault,
            op_bytes: reads.op_bytes(),
            room: vec![0; reads.op_bytes()].into_boxed_slice(),
            reads,
            cold,
            calls: Calls::default(),
        })
    }

    /// Brings the op's pages in.
    #[inline(always)]
    fn fault(&mut self, start: usize) -> Result<(), TrialError> {
        if self.fault == Fault::Populate {
            self.calls.made += 1;
            let populated = self.map.0.advise_range(
                Advice::PopulateRead,
                start,
                self.op_bytes,
            );
            populated.map_err(|e| {
                self.failed("madvise(MADV_POPULATE_READ)", &e, start)
            })?;
        }
        // Volatile, so that the access is made here, between the stamps.
        MappedBytes::of(&self.map.0, start, self.op_bytes).touch();
        Ok(())
    }

    /// Drops this thread's part from the mapping and then from the page
    /// cache, where a page that is mapped would stay.
    #[cold]
    fn drop_part(&mut self) -> Result<(), TrialError> {
        let Some(cold) = &self.cold else { return Ok(()) };
        let part = cold.part();
        // Parts of a mapping have a length and a place of its size.
        let (Ok(start), Ok(bytes)) =
            (usize::try_from(part.offset), usize::try_from(part.bytes))
        else {
            return Ok(());
        };
        // SAFETY: of a shared mapping of a file DONTNEED drops the mapped
        // pages only; the next access brings the same bytes again, for this
        // and any other thread.
        let dropped = unsafe {
            self.map.0.unchecked_advise_range(
                UncheckedAdvice::DontNeed,
                start,
                bytes,
            )
        };
        dropped
            .map_err(|e| self.failed("madvise(MADV_DONTNEED)", &e, start))?;
        cold.drop_part()?;
        self.calls.made += 2;
        Ok(())
    }

    #[cold]
    fn failed(
        &self,
        call: &str,
        error: &std::io::Error,
        start: usize,
    ) -> TrialError {
        let errno = error.raw_os_error().unwrap_or(0);
        TrialError::op(call, errno, start as u64, self.op_bytes as u64)
    }
}

impl Work for MappedReads<'_> {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        let offset = self.reads.next_offset();
        // Below the target's length, which fits the address space.
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        self.calls.ops += 1;
        let submitted_ns = recorder.stamp_ns();
        self.fault(start)?;
        let completed_ns = recorder.stamp_ns();
        let data = MappedBytes::of(&self.map.0, start, self.op_bytes);
        self.reads.check_mapped(offset, data, &mut self.room)?;
        recorder.complete(1, completed_ns - submitted_ns);
        if self.cold.as_mut().is_some_and(Cold::is_pass_over) {
            self.drop_part()?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Evidence, TrialError> {
        let mut evidence = self.reads.finish()?;
        evidence.calls = Some(self.calls);
        Ok(evidence)
    }
}
