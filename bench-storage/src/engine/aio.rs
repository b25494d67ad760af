//! Reads through Linux's older asynchronous I/O: one call submits what is
//! free, another waits.
//!
//! Slots and stamps work as in `rounds`; what differs is that the kernel
//! copies requests from a list of pointers and events into an array.

use std::{io, os::fd::AsRawFd};

use harness::{
    load::closed::{Place, Work},
    machine::Buffer,
    measure::{
        recorder::Recorder,
        trial::{Calls, Evidence, TrialError},
    },
};

use super::aio_calls::{Context, Event, Request, Requests};
use crate::{
    contents::BLOCK_BYTES,
    source::{Reads, Source},
};

const READ: &str = "IOCB_CMD_PREAD";

/// A stamp that no slot in flight has.
const FREE: u64 = 0;

/// Reads of one thread; slot *i* reads into the *i*-th part of one buffer.
#[derive(Debug)]
pub struct AioReads<'a> {
    // First, so that it is dropped first: that waits for what is in flight,
    // and until then the kernel may write to the buffer.
    context: Context,
    buffer: Buffer,
    reads: Reads<'a>,
    op_bytes: usize,
    requests: Requests,
    offsets: Box<[u64]>,
    submitted_ns: Box<[u64]>,
    free: Vec<usize>,
    /// Reads per submission at most.
    batch: usize,
    /// Slots filled and not yet taken by the kernel, as it wants to be told.
    queue: Vec<*mut Request>,
    events: Box<[Event]>,
    /// When events were last looked for.
    looked_ns: u64,
    calls: Calls,
}

impl<'a> AioReads<'a> {
    /// The reads of the thread at `place`, one of `streams`.
    ///
    /// # Errors
    /// No memory, no context, or the target is too small.
    pub fn new(
        source: &'a Source,
        place: &Place,
        streams: usize,
    ) -> Result<Self, TrialError> {
        let reads = source.reads(place, streams)?;
        let (op_bytes, depth) = (reads.op_bytes(), source.load().depth);
        let batch = source.load().batch;
        let buffer =
            Buffer::new(op_bytes * depth, BLOCK_BYTES, place.numa_node)
                .map_err(|error| TrialError::setup(error.to_string()))?;
        let context = Context::new(depth).map_err(|error| {
            TrialError::setup(format!("io_setup for {depth} reads: {error}"))
        })?;
        let fd = source.file(place.thread).as_raw_fd();
        let start = buffer.as_non_null().as_ptr();
        let requests = (0..depth)
            .map(|slot| {
                let part = start.wrapping_add(slot * op_bytes);
                Request::read(slot as u64, fd, part, op_bytes)
            })
            .collect();
        Ok(Self {
            context,
            buffer,
            reads,
            op_bytes,
            requests,
            offsets: vec![0; depth].into_boxed_slice(),
            submitted_ns: vec![FREE; depth].into_boxed_slice(),
            free: (0..depth).rev().collect(),
            batch,
            queue: Vec::with_capacity(depth),
            events: vec![Event::default(); depth].into_boxed_slice(),
            looked_ns: 0,
            calls: Calls::default(),
        })
    }

    #[inline(always)]
    fn in_flight(&self) -> usize {
        self.requests.len() - self.free.len() - self.queue.len()
    }

    #[inline(always)]
    fn fill(&mut self, now_ns: u64) {
        while self.queue.len() < self.batch {
            let Some(slot) = self.free.pop() else { break };
            self.submitted_ns[slot] = now_ns;
            let offset = self.reads.next_offset();
            self.offsets[slot] = offset;
            self.queue.push(self.requests.at_offset(slot, offset));
            self.calls.ops += 1;
        }
    }

    /// Hands the queue over, as far as the kernel takes it.
    #[inline(always)]
    fn submit(&mut self) -> Result<(), TrialError> {
        if self.queue.is_empty() {
            return Ok(());
        }
        self.calls.made += 1;
        // SAFETY: each pointer is to a slot's own request, which points to the
        // slot's own part of the buffer; `completed` looks at that only after
        // the event, and both stay until the context is gone.
        match unsafe { self.context.submit(&self.queue) } {
            Ok(taken) => {
                self.queue.drain(..taken);
                Ok(())
            }
            Err(error) => self.passing("io_submit", &error),
        }
    }

    /// Events to wait for: none as long as there is something to submit that
    /// the kernel would take.
    #[inline(always)]
    fn want(&self) -> usize {
        usize::from(self.free.is_empty() || !self.queue.is_empty())
    }

    /// Takes all events that are there, once that many are.
    #[inline(always)]
    fn wait(&mut self, want: usize) -> Result<usize, TrialError> {
        let want = want.min(self.in_flight());
        self.calls.made += 1;
        match self.context.events(want, &mut self.events) {
            Ok(came) => Ok(came),
            Err(error) => self.passing("io_getevents", &error).map(|()| 0),
        }
    }

    /// A signal, or a shortage that ends when something completes, is no
    /// failure.
    #[cold]
    fn passing(&self, call: &str, error: &io::Error) -> Result<(), TrialError> {
        match error.raw_os_error() {
            Some(libc::EINTR) => Ok(()),
            Some(libc::EAGAIN) if self.in_flight() > 0 => Ok(()),
            errno => Err(TrialError::op(call, errno.unwrap_or(0), 0, 0)),
        }
    }

    /// Checks the first `came` events; `record` gets each run of those that
    /// were submitted together: their stamp and their number.
    #[inline(always)]
    fn reap(
        &mut self,
        came: usize,
        mut record: impl FnMut(u64, u64),
    ) -> Result<(), TrialError> {
        let (mut run_ns, mut run) = (FREE, 0);
        for place in 0..came {
            let Event { data, result, .. } = self.events[place];
            let slot = usize::try_from(data).unwrap_or(usize::MAX);
            let submitted_ns = match self.submitted_ns.get_mut(slot) {
                Some(stamp) if *stamp != FREE => std::mem::replace(stamp, FREE),
                _ => return Err(unknown(data)),
            };
            self.free.push(slot);
            self.completed(slot, result)?;
            if submitted_ns != run_ns {
                if run > 0 {
                    record(run_ns, run);
                }
                (run_ns, run) = (submitted_ns, 0);
            }
            run += 1;
        }
        if run > 0 {
            record(run_ns, run);
        }
        Ok(())
    }

    #[inline(always)]
    fn completed(
        &mut self,
        slot: usize,
        result: i64,
    ) -> Result<(), TrialError> {
        let offset = self.offsets[slot];
        if usize::try_from(result) != Ok(self.op_bytes) {
            return Err(failed(result, offset, self.op_bytes));
        }
        // SAFETY: slot is below the depth (`offsets` was indexed by it), so
        // the part lies in the buffer; its op has completed and no other op
        // uses it, so that nobody writes there while the slice lives.
        let data = unsafe {
            std::slice::from_raw_parts(
                self.buffer.as_non_null().as_ptr().add(slot * self.op_bytes),
                self.op_bytes,
            )
        };
        self.reads.check(offset, data)
    }
}

impl Work for AioReads<'_> {
    #[inline]
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        let submitted_ns = recorder.stamp_ns();
        self.fill(submitted_ns);
        self.submit()?;
        let want = self.want();
        let came = self.wait(want)?;
        let completed_ns = recorder.stamp_ns();
        let looked_ns = std::mem::replace(&mut self.looked_ns, completed_ns);
        let mut shared_ns = 0;
        self.reap(came, |run_ns, run| {
            let latency_ns = completed_ns - run_ns;
            shared_ns += run * latency_ns.min(completed_ns - looked_ns);
            recorder.complete(run, latency_ns);
        })?;
        // One that was waited for was seen as it came.
        if came > 1 || want == 0 {
            recorder.shared(shared_ns);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Evidence, TrialError> {
        while self.in_flight() + self.queue.len() > 0 {
            self.submit()?;
            let came = self.wait(1)?;
            self.reap(came, |_, _| {})?;
        }
        let mut evidence = self.reads.finish()?;
        evidence.calls = Some(self.calls);
        Ok(evidence)
    }
}

#[cold]
fn failed(result: i64, offset: u64, bytes: usize) -> TrialError {
    if let Ok(errno) = i32::try_from(result.saturating_neg())
        && errno > 0
    {
        return TrialError::op(READ, errno, offset, bytes as u64);
    }
    let short = format!("{READ} (short: {result} of {bytes} bytes)");
    TrialError::op(&short, 0, offset, bytes as u64)
}

#[cold]
fn unknown(data: u64) -> TrialError {
    TrialError::Wrong(format!(
        "an event names request {data}, which was not in flight"
    ))
}
