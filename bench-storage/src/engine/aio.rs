//! Ops through Linux's older asynchronous I/O: one call submits what is free,
//! another waits.
//!
//! Slots and stamps work as in `rounds`; what differs is that the kernel
//! copies requests from a list of pointers and events into an array.

use std::{fmt, io};

use harness::{
    load::closed::Work,
    measure::{
        recorder::Recorder,
        trial::{Calls, Evidence, TrialError},
    },
};

use super::aio_calls::{Command, Context, Event, Request};
use crate::load::Load;

/// The ops that a context carries.
///
/// # Safety
/// A request from `next` and what it points to are owned by the implementor,
/// stay in place until the implementor is dropped, and are neither read nor
/// written by anybody but the kernel until the op has completed.
pub unsafe trait Ops: fmt::Debug {
    /// The request of the next op in this slot; its `data` is the slot.
    fn next(&mut self, slot: usize) -> *mut Request;

    /// Checks a completed op.
    ///
    /// # Errors
    /// It failed, fell short, or brought what it should not.
    fn completed(&mut self, slot: usize, result: i64)
    -> Result<(), TrialError>;

    /// Whether the latencies of some ops are kept apart.
    fn keeps_apart(&self) -> bool {
        false
    }

    /// Whether that of the op in this slot is, also as it completes.
    #[inline(always)]
    fn is_apart(&self, _slot: usize) -> bool {
        false
    }

    /// Does the checks that remain when nothing is in flight any more.
    ///
    /// # Errors
    /// What they found.
    fn finish(&mut self) -> Result<Evidence, TrialError>;
}

/// A stamp that no slot in flight has.
const FREE: u64 = 0;

/// A context at work, of one thread.
#[derive(Debug)]
pub struct AioWork<O: Ops> {
    // First, so that it is dropped first: that waits for what is in flight,
    // and until then the kernel may use what the ops own.
    context: Context,
    ops: O,
    /// When each slot's op was submitted, or `FREE`.
    submitted_ns: Box<[u64]>,
    free: Vec<usize>,
    /// Ops per submission at most.
    batch: usize,
    /// Slots filled and not yet taken by the kernel, as it wants to be told.
    queue: Vec<*mut Request>,
    events: Box<[Event]>,
    /// When events were last looked for.
    looked_ns: u64,
    calls: Calls,
}

impl<O: Ops> AioWork<O> {
    /// Nothing is submitted yet. The ops are those of a thread with this load.
    ///
    /// # Errors
    /// No context.
    pub fn new(load: Load, ops: O) -> Result<Self, TrialError> {
        let Load { depth, batch, .. } = load;
        let context = Context::new(depth).map_err(|error| {
            TrialError::setup(format!("io_setup for {depth} ops: {error}"))
        })?;
        Ok(Self {
            context,
            ops,
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
        self.submitted_ns.len() - self.free.len() - self.queue.len()
    }

    #[inline(always)]
    fn fill(&mut self, now_ns: u64) {
        while self.queue.len() < self.batch {
            let Some(slot) = self.free.pop() else { break };
            self.submitted_ns[slot] = now_ns;
            self.queue.push(self.ops.next(slot));
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
        // SAFETY: by the contract of `Ops` the requests and what they point to
        // are the kernel's alone until their ops have completed, and stay in
        // place while the ops live; the context goes before them, and waits.
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
    /// were submitted together: their stamp, whether they are kept apart, and
    /// their number.
    #[inline(always)]
    fn reap(
        &mut self,
        came: usize,
        mut record: impl FnMut((u64, bool), u64),
    ) -> Result<(), TrialError> {
        let (mut run_of, mut run) = ((FREE, false), 0);
        for place in 0..came {
            let Event { data, result, .. } = self.events[place];
            let slot = usize::try_from(data).unwrap_or(usize::MAX);
            let submitted_ns = match self.submitted_ns.get_mut(slot) {
                Some(stamp) if *stamp != FREE => std::mem::replace(stamp, FREE),
                _ => return Err(unknown(data)),
            };
            self.free.push(slot);
            self.ops.completed(slot, result)?;
            let of = (submitted_ns, self.ops.is_apart(slot));
            if of != run_of {
                if run > 0 {
                    record(run_of, run);
                }
                (run_of, run) = (of, 0);
            }
            run += 1;
        }
        if run > 0 {
            record(run_of, run);
        }
        Ok(())
    }
}

impl<O: Ops> Work for AioWork<O> {
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
        self.reap(came, |(run_ns, apart), run| {
            let latency_ns = completed_ns - run_ns;
            shared_ns += run * latency_ns.min(completed_ns - looked_ns);
            if apart {
                recorder.complete_apart(run, latency_ns);
            } else {
                recorder.complete(run, latency_ns);
            }
        })?;
        // One that was waited for was seen as it came.
        if came > 1 || want == 0 {
            recorder.shared(shared_ns);
        }
        Ok(())
    }

    fn keeps_apart(&self) -> bool {
        self.ops.keeps_apart()
    }

    fn finish(mut self) -> Result<Evidence, TrialError> {
        while self.in_flight() + self.queue.len() > 0 {
            self.submit()?;
            let came = self.wait(1)?;
            self.reap(came, |_, _| {})?;
        }
        let mut evidence = self.ops.finish()?;
        evidence.calls = Some(self.calls);
        Ok(evidence)
    }
}

/// What an event says of an op that did not move all of its bytes.
#[cold]
pub(super) fn failed(
    command: Command,
    result: i64,
    offset: u64,
    bytes: usize,
) -> TrialError {
    let name = command.name();
    if let Ok(errno) = i32::try_from(result.saturating_neg())
        && errno > 0
    {
        return TrialError::op(name, errno, offset, bytes as u64);
    }
    let short = format!("{name} (short: {result} of {bytes} bytes)");
    TrialError::op(&short, 0, offset, bytes as u64)
}

#[cold]
fn unknown(data: u64) -> TrialError {
    TrialError::Wrong(format!(
        "an event names request {data}, which was not in flight"
    ))
}
